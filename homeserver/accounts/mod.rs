//! Users without rooms: accounts, sessions, profiles, account data, filters, push rules, presence.
//! Pure rules over transactions; knows nothing of rooms, the network or HTTP. Never async.

pub mod account_data;
pub mod filters;
pub mod invites;
pub mod openid;
pub mod passwords;
pub mod presence;
pub mod profile;
pub mod push_rules;
pub mod pushers;
pub mod registration;
pub mod sessions;
pub mod transactions;
pub mod uia;
pub mod users;

#[cfg(test)]
pub(crate) mod testing {
    use crate::store::{Options, Store, rows::PusherRow};

    /// An empty store that lives as long as its directory.
    pub fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().expect("a directory");
        let options = Options { page_cache: 1 << 20, state_cache: 1 << 20, min_free: 0 };
        let store = Store::open(&dir.path().join("hearth.redb"), options, Box::new(|_, _| {})).expect("opens");
        (dir, store)
    }

    /// A pusher of an app on a device.
    pub fn pusher(pushkey: &str, device: &str) -> PusherRow {
        PusherRow {
            app_id: "app".into(),
            pushkey: pushkey.into(),
            app_name: "App".into(),
            device_name: "Phone".into(),
            profile_tag: None,
            lang: "en".into(),
            url: "https://b.c/_matrix/push/v1/notify".into(),
            data: Default::default(),
            device: device.into(),
            disabled: false,
            since: 0,
            set: 1,
        }
    }
}
