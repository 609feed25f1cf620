//! Other servers: finding them, speaking to them, and knowing that it is them. Gathers, over the network and
//! without holding a transaction, what `rooms` then decides. Gets its resources when it is made, and never
//! sees who uses it.

pub mod discovery;
mod flights;
pub mod keyring;
pub mod remote;
pub mod server_keys;

use std::sync::Arc;

pub use keyring::{At, Keyring, Keys, Wanted};
pub use remote::{Bounds, Failure, Incoming, Remote};

use crate::{base::signing::Identity, config, outside::Outside, store::Store};

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
}

impl Federation {
    /// By these settings.
    pub fn new(
        me: Arc<Identity>,
        store: Store,
        outside: &Outside,
        settings: &config::Federation,
    ) -> Result<Self, String> {
        let remote = Remote::new(me.clone(), outside, settings.enabled)?;
        let keyring = Keyring::new(me.clone(), store.clone(), remote.clone(), settings.notaries.clone());
        Ok(Self { me, store, remote, keyring })
    }
}
