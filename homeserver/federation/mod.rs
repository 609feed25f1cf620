//! Other servers: finding them, speaking to them, and knowing that it is them. Gathers, over the network and
//! without holding a transaction, what `rooms` then decides. Gets its resources when it is made, and never
//! sees who uses it.

mod alias;
mod backfill;
pub mod checking;
pub mod discovery;
pub mod edus;
pub mod fetch;
pub mod fleeting;
mod flights;
mod guests;
pub mod handed_in;
mod handed_over;
mod handshake;
mod hello;
pub mod inbound;
pub mod invite;
pub mod join;
pub mod keyring;
pub mod keys;
mod knock;
mod leave;
mod lookout;
pub mod outbox;
mod partial;
mod peers;
mod pieces;
mod policy;
mod presence;
mod processors;
mod profiles;
mod reached;
pub mod remote;
pub mod server_keys;
mod spaces;
mod split;
mod steps;
mod strangers;
mod transaction;
mod typing;

use std::sync::Arc;

use tokio::sync::watch;

pub use checking::Checker;
pub use fetch::Fetch;
pub use flights::{Flights, Place};
pub use handshake::Turns;
pub use inbound::Inbound;
pub use keyring::{At, Keyring, Keys, Wanted};
pub use outbox::Outbox;
pub use remote::{Bounds, Failure, Incoming, Remote};

use self::{edus::Edus, keys::RemoteKeys};
use crate::{
    accounts::presence::Presence,
    base::{ed25519, signing::Identity},
    config,
    notify::Notifier,
    outside::Outside,
    rooms::typing::Typing,
    store::Store,
};

/// Requests of one server that are answered at once. The others wait.
const MAX_FROM_SERVER: usize = 16;
/// Requests from one address that are read at once, before it is known whether they are who they say.
const MAX_READING: usize = 32;

/// What there is one of for speaking to other servers.
pub struct Federation {
    /// Who we are.
    pub me: Arc<Identity>,
    /// The database.
    pub store: Store,
    /// What calls to other machines need.
    outside: Outside,
    /// Requests to other servers.
    pub remote: Remote,
    /// Their keys.
    pub keyring: Keyring,
    /// What they are told.
    pub outbox: Outbox,
    /// What they tell besides events.
    pub edus: Edus,
    /// Keys of their people's devices.
    pub keys: RemoteKeys,
    /// Events that came from them, checked.
    pub checker: Checker,
    /// Events that are lacking, fetched.
    pub fetch: Fetch,
    /// The transactions that they send.
    pub arrivals: Inbound,
    /// Their requests to us that are under way.
    pub inbound: Flights,
    /// Requests that are being read, by the address they come from.
    pub reading: Flights<String>,
    /// Those who only say that they are a server.
    pub strangers: strangers::Strangers,
    /// Whose turn it is to enter a room.
    pub turns: Arc<Turns>,
    /// What they say of rooms that this server is not in.
    spaces: spaces::Spaces,
    /// Rooms whose members are not all known.
    lacking: partial::Lacking,
}

/// What lives in memory only and concerns other servers too.
pub struct Live {
    /// Who waits.
    pub notifier: Notifier,
    /// Who types.
    pub typing: Arc<Typing>,
    /// Who is online.
    pub presence: Arc<Presence>,
}

impl Federation {
    /// By these settings.
    pub fn new(
        me: Arc<Identity>,
        store: Store,
        outside: &Outside,
        settings: &config::Federation,
        live: Live,
    ) -> Result<Self, String> {
        let remote = Remote::new(me.clone(), outside, settings.enabled)?;
        let keyring = Keyring::new(me.clone(), store.clone(), remote.clone(), settings.notaries.clone());
        let news = live.notifier.outgoing();
        let outbox = Outbox::new(me.clone(), store.clone(), remote.clone(), news, settings.enabled);
        let keys = RemoteKeys::new(me.clone(), store.clone(), remote.clone());
        let edus = Edus {
            me: me.clone(),
            store: store.clone(),
            notifier: live.notifier,
            typing: live.typing,
            presence: settings.presence.then(|| live.presence.clone()),
            keys: keys.clone(),
        };
        let checker = Checker::new(keyring.clone());
        let fetch = Fetch::new(me.clone(), store.clone(), remote.clone(), checker.clone());
        let turns = Arc::<Turns>::default();
        let arrivals = Inbound::new(me.clone(), store.clone(), checker.clone(), fetch.clone(), turns.clone());
        let (inbound, reading) = (Flights::new(MAX_FROM_SERVER), Flights::new(MAX_READING));
        let spaces = spaces::Spaces::default();
        let lacking = partial::Lacking::default();
        Ok(Self {
            me,
            store,
            outside: outside.clone(),
            remote,
            keyring,
            outbox,
            edus,
            keys,
            checker,
            fetch,
            arrivals,
            inbound,
            reading,
            strangers: strangers::Strangers::default(),
            turns,
            spaces,
            lacking,
        })
    }
}

impl Federation {
    /// Tells other servers what happens here, until the server is to stop.
    pub async fn run(&self, stop: watch::Receiver<bool>) {
        tokio::task::spawn_blocking(ed25519::prepare);
        let (me, store, outbox) = (self.me.clone(), self.store.clone(), self.outbox.clone());
        let telling = async {
            match self.edus.presence.clone() {
                Some(presence) => presence::follow(me, store, presence, outbox).await,
                None => std::future::pending().await,
            }
        };
        let typing = self.edus.typing.clone();
        let greeting = async {
            if let Err(error) = hello::say(&self.me, &self.store, &self.remote, &self.outbox).await {
                tracing::debug!(%error, "can't find out whom to tell that this server is there again");
            }
            std::future::pending().await
        };
        tokio::select! {
            () = self.outbox.run(stop) => {}
            () = telling => {}
            () = self.see_guests_out() => {}
            () = greeting => {}
            () = self.look_out() => {}
            () = typing::follow(self.me.clone(), self.store.clone(), typing, self.outbox.clone()) => {}
        }
    }
}

#[cfg(test)]
mod tests;
