//! Local accounts.

use ruma::UserId;

use crate::{
    error::Result,
    store::{Read, rows::UserRow, tables},
};

/// The account of one of our users.
pub fn lookup(tx: &impl Read, user: &UserId) -> Result<Option<UserRow>> {
    tables::USERS.get(tx, user.localpart())
}

/// Whether somebody administers this server.
pub fn is_admin(tx: &impl Read, user: &UserId) -> Result<bool> {
    Ok(lookup(tx, user)?.is_some_and(|row| row.admin && !row.deactivated))
}
