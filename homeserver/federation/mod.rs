//! Other servers: finding them, speaking to them, and knowing that it is them. Gathers, over the network and
//! without holding a transaction, what `rooms` then decides. Gets its resources when it is made, and never
//! sees who uses it.

pub mod discovery;
pub mod fleeting;
mod flights;
pub mod keyring;
pub mod outbox;
mod peers;
pub mod remote;
pub mod server_keys;
mod transaction;

use std::sync::Arc;

use tokio::sync::Notify;

pub use flights::{Flights, Place};
pub use keyring::{At, Keyring, Keys, Wanted};
pub use outbox::Outbox;
pub use remote::{Bounds, Failure, Incoming, Remote};

use crate::{base::signing::Identity, config, outside::Outside, store::Store};

/// Requests of one server that are answered at once. The others wait.
const MAX_FROM_SERVER: usize = 16;

/// What there is one of for speaking to other servers.
pub struct Federation {
    /// Who we are.
    pub me: Arc<Identity>,
    /// The database.
    pub store: Store,
    /// Requests to other servers.
    pub remote: Remote,
    /// Their keys.
    pub keyring: Keyring,
    /// What they are told.
    pub outbox: Outbox,
    /// Their requests to us that are under way.
    pub inbound: Flights,
}

impl Federation {
    /// By these settings. `news` rings when there is something to tell others.
    pub fn new(
        me: Arc<Identity>,
        store: Store,
        outside: &Outside,
        settings: &config::Federation,
        news: Arc<Notify>,
    ) -> Result<Self, String> {
        let remote = Remote::new(me.clone(), outside, settings.enabled)?;
        let keyring = Keyring::new(me.clone(), store.clone(), remote.clone(), settings.notaries.clone());
        let outbox = Outbox::new(me.clone(), store.clone(), remote.clone(), news, settings.enabled);
        Ok(Self { me, store, remote, keyring, outbox, inbound: Flights::new(MAX_FROM_SERVER) })
    }
}

#[cfg(test)]
mod tests;
