//! The rows of events and of their places, which are read for every event.

use std::borrow::Cow;

use super::{Reader, Row, damaged};
use crate::{
    base::{Pos, RoomNum},
    error::{Error, Result},
};

/// An event as it is kept: what we decided about it, and its JSON as it federates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRow {
    /// The room it belongs to.
    pub room: RoomNum,
    /// The room's state before it.
    pub state_before: u64,
    /// What became of it; see [`Standing`].
    pub standing: Standing,
    /// The position of the redaction that emptied it, or 0.
    pub redacted_by: Pos,
    /// Where it stands in the timeline, if that is not its position: it was known before it came into the
    /// room, or it is history that was fetched later. 0 if it is.
    pub order: i64,
    /// The room's state after it, for state events; 0 where that is not written down: it is the state
    /// before it, and the event.
    pub state_after: u64,
    /// The local device that sent it and its transaction ID, which only that device is shown.
    pub sent_by: Option<(String, String)>,
    /// The event's ID.
    pub id: String,
    /// The PDU as JSON.
    pub pdu: String,
}

impl EventRow {
    /// Where an event at `pos` stands in its room's timeline, if it stands there at all.
    pub fn place(&self, pos: Pos) -> Option<i64> {
        match (self.standing, self.order) {
            (Standing::Accepted, 0) => i64::try_from(pos).ok(),
            (Standing::Accepted, order) => Some(order),
            _ => None,
        }
    }
}

/// Set in the byte of the standing where an order and the state after the event follow.
const LONG: u8 = 0x80;

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Part of the room.
    Accepted,
    /// Kept for the events that build on it, never shown.
    SoftFailed,
    /// Kept so that what depends on it is rejected too, never shown.
    Rejected,
    /// Known only as part of somebody's state or auth chain.
    Outlier,
}

impl Row for EventRow {
    fn encode(&self) -> Result<Cow<'_, [u8]>> {
        let mut out = Vec::with_capacity(self.pdu.len() + self.id.len() + 96);
        out.extend(self.room.to_le_bytes());
        out.extend(self.state_before.to_le_bytes());
        let standing = match self.standing {
            Standing::Accepted => 0,
            Standing::SoftFailed => 1,
            Standing::Rejected => 2,
            Standing::Outlier => 3,
        };
        let is_long = self.order != 0 || self.state_after != 0;
        out.push(if is_long { standing | LONG } else { standing });
        if is_long {
            out.extend(self.order.to_le_bytes());
            out.extend(self.state_after.to_le_bytes());
        }
        out.extend(self.redacted_by.to_le_bytes());
        let (device, txn) = self.sent_by.as_ref().map_or(("", ""), |(device, txn)| (device, txn));
        for text in [device, txn, &self.id] {
            let length = u16::try_from(text.len()).map_err(Error::internal)?;
            out.extend(length.to_le_bytes());
            out.extend(text.as_bytes());
        }
        out.extend(self.pdu.as_bytes());
        Ok(Cow::Owned(out))
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader(bytes);
        let (room, state_before) = (reader.u64()?, reader.u64()?);
        let byte = *reader.take(1)?.first().ok_or_else(damaged)?;
        let standing = match byte & !LONG {
            0 => Standing::Accepted,
            1 => Standing::SoftFailed,
            2 => Standing::Rejected,
            3 => Standing::Outlier,
            _ => return Err(damaged()),
        };
        let (order, state_after) = match byte & LONG {
            0 => (0, 0),
            _ => (reader.u64()?.cast_signed(), reader.u64()?),
        };
        let redacted_by = reader.u64()?;
        let (device, txn, id) = (reader.text()?, reader.text()?, reader.text()?);
        let sent_by = (!device.is_empty()).then_some((device, txn));
        let pdu = reader.rest()?;
        Ok(Self { room, state_before, standing, redacted_by, order, state_after, sent_by, id, pdu })
    }
}

/// A place in a room's timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The event's position, where its row is. 0 where only the state changed: members became known.
    pub event: Pos,
    /// The room's current state once the event was in.
    pub state_after: u64,
}

impl Row for Place {
    fn encode(&self) -> Result<Cow<'_, [u8]>> {
        Ok(Cow::Owned([self.event.to_le_bytes(), self.state_after.to_le_bytes()].concat()))
    }
    fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader(bytes);
        Ok(Self { event: reader.u64()?, state_after: reader.u64()? })
    }
}

/// An event that relates to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildRow {
    /// Where it is.
    pub event: Pos,
    /// By how many relations: 1 if it names the other itself.
    pub depth: u64,
    /// How it relates to what it names.
    pub rel_type: String,
    /// Its type.
    pub kind: String,
}

impl Row for ChildRow {
    fn encode(&self) -> Result<Cow<'_, [u8]>> {
        let mut out = Vec::with_capacity(18 + self.rel_type.len() + self.kind.len());
        out.extend(self.event.to_le_bytes());
        out.extend(self.depth.to_le_bytes());
        out.extend(u16::try_from(self.rel_type.len()).map_err(Error::internal)?.to_le_bytes());
        out.extend(self.rel_type.as_bytes());
        out.extend(self.kind.as_bytes());
        Ok(Cow::Owned(out))
    }
    fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader(bytes);
        Ok(Self { event: reader.u64()?, depth: reader.u64()?, rel_type: reader.text()?, kind: reader.rest()? })
    }
}
