//! Rooms that nobody of this server may come into, as an administrator wants it.

use ruma::{RoomId, UserId};

use crate::{
    error::{Error, Result},
    store::{Read, WriteTx, tables},
};

/// Rooms that are blocked at most.
const MAX_BLOCKED: u64 = 1_000_000;

/// Blocks a room, known here or not.
pub fn block(tx: &WriteTx, room: &RoomId, by: &UserId) -> Result<()> {
    if tables::BLOCKED_ROOMS.len(tx)? >= MAX_BLOCKED {
        return Err(Error::forbidden_as("M_RESOURCE_LIMIT_EXCEEDED", "too many rooms are blocked already"));
    }
    tables::BLOCKED_ROOMS.put(tx, room.as_str(), &by.to_string())
}

/// Lets people come in again.
pub fn unblock(tx: &WriteTx, room: &RoomId) -> Result<()> {
    tables::BLOCKED_ROOMS.remove(tx, room.as_str()).map(drop)
}

/// Who blocked a room, if it is.
pub fn by(tx: &impl Read, room: &RoomId) -> Result<Option<String>> {
    tables::BLOCKED_ROOMS.get(tx, room.as_str())
}

/// Refuses whoever wants to come into a blocked room. 403 `M_FORBIDDEN`.
pub fn check(tx: &impl Read, room: &RoomId) -> Result<()> {
    match by(tx, room)? {
        None => Ok(()),
        Some(_) => Err(Error::forbidden("this room has been blocked on this server")),
    }
}
