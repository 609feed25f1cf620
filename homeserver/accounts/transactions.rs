//! Transaction IDs: the same one from the same device leads to the same event, however often it is
//! sent and whether or not the server was restarted in between.
//! spec: client-server-api#transaction-identifiers

use crate::{
    error::Result,
    store::{Read, WriteTx, tables},
};

/// Who sends what under which transaction ID.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// The user's ID.
    pub user: String,
    /// The device.
    pub device: String,
    /// The endpoint, with all of its path but the transaction ID.
    pub endpoint: String,
    /// The transaction ID.
    pub id: String,
}

impl Transaction {
    fn scope(&self) -> String {
        format!("{}\n{}", self.endpoint, self.id)
    }

    /// What it led to, if it was sent before.
    pub fn outcome(&self, tx: &impl Read) -> Result<Option<String>> {
        tables::TRANSACTIONS.get(tx, (self.user.as_str(), self.device.as_str(), self.scope().as_str()))
    }

    /// Remembers what it led to.
    pub fn done(&self, tx: &WriteTx, outcome: &str) -> Result<()> {
        let key = (self.user.as_str(), self.device.as_str(), &*self.scope());
        tables::TRANSACTIONS.put(tx, key, &outcome.to_owned())
    }
}

/// Forgets what a device sent: it has gone.
pub fn forget(tx: &WriteTx, user: &str, device: &str) -> Result<()> {
    tables::TRANSACTIONS.remove_range(tx, (user, device, "")..=(user, device, "\u{10FFFF}"))
}
