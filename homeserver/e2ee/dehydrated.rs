//! Dehydrated devices (MSC3814): a device that sleeps on the server and takes messages while no other
//! of its owner is there. It has keys and a queue like any other, and no session.

use ruma::UserId;
use serde_json::value::RawValue;

use super::bound;
use crate::{
    error::{Error, Result},
    store::{Read, WriteTx, rows::client::DehydratedRow, tables},
};

/// A person's sleeping device: its ID, and what its owner wakes it from. 404 if there is none.
pub fn of(tx: &impl Read, user: &UserId) -> Result<DehydratedRow> {
    tables::DEHYDRATED.get(tx, user.as_str())?.ok_or_else(|| Error::not_found("you have no dehydrated device"))
}

/// The ID of a person's sleeping device.
pub fn name(tx: &impl Read, user: &UserId) -> Result<Option<String>> {
    Ok(tables::DEHYDRATED.get(tx, user.as_str())?.map(|row| row.device))
}

/// Notes that a device sleeps here.
pub fn put(tx: &WriteTx, user: &UserId, device: &str, data: &RawValue) -> Result<()> {
    bound(data.get())?;
    let row = DehydratedRow { device: device.to_owned(), data: data.get().to_owned() };
    tables::DEHYDRATED.put(tx, user.as_str(), &row)
}

/// Forgets it, if it is this device that sleeps here.
pub fn forget(tx: &WriteTx, user: &UserId, device: &str) -> Result<()> {
    match tables::DEHYDRATED.get(tx, user.as_str())? {
        Some(row) if row.device == device => tables::DEHYDRATED.remove(tx, user.as_str()).map(drop),
        _ => Ok(()),
    }
}
