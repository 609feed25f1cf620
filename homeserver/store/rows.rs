//! How rows look on disk. Rows that are read for every event are small binary layouts; all others are
//! JSON, which can grow a field without a migration.

mod accounts;
mod admin;
pub mod client;
mod services;

use std::{borrow::Cow, collections::BTreeMap};

pub use accounts::{ApplicationRow, DeviceRow, RegistrationTokenRow, TokenRow, UserRow};
pub use admin::{Instead, RemovalRow, ReportRow};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
pub use services::{ServiceRow, TryingRow};

use crate::{
    base::{Pos, RoomNum},
    error::{Error, Result},
};

mod events;
mod partial;
mod push;

pub use events::{ChildRow, EventRow, Place, Standing};
pub use partial::{CameRow, How, LookRow, PartialRow};
pub use push::{Outcome, PushedRow, PusherRow, PusherStateRow};

/// A value that can be stored.
pub trait Row: Sized {
    /// The bytes on disk.
    fn encode(&self) -> Result<Cow<'_, [u8]>>;
    /// The value again. A failure means that the file is damaged.
    fn decode(bytes: &[u8]) -> Result<Self>;
}

/// A row that is stored as JSON.
pub trait JsonRow: Serialize + DeserializeOwned {}

impl<T: JsonRow> Row for T {
    fn encode(&self) -> Result<Cow<'_, [u8]>> {
        serde_json::to_vec(self).map(Cow::Owned).map_err(Error::internal)
    }
    fn decode(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes).map_err(|error| Error::internal(format!("damaged row: {error}")))
    }
}

impl Row for u64 {
    fn encode(&self) -> Result<Cow<'_, [u8]>> {
        Ok(Cow::Owned(self.to_le_bytes().to_vec()))
    }
    fn decode(bytes: &[u8]) -> Result<Self> {
        Reader(bytes).u64()
    }
}

impl Row for () {
    fn encode(&self) -> Result<Cow<'_, [u8]>> {
        Ok(Cow::Borrowed(&[]))
    }
    fn decode(_: &[u8]) -> Result<Self> {
        Ok(())
    }
}

impl Row for String {
    fn encode(&self) -> Result<Cow<'_, [u8]>> {
        Ok(Cow::Borrowed(self.as_bytes()))
    }
    fn decode(bytes: &[u8]) -> Result<Self> {
        String::from_utf8(bytes.to_vec()).map_err(|_| damaged())
    }
}

impl Row for Vec<u8> {
    fn encode(&self) -> Result<Cow<'_, [u8]>> {
        Ok(Cow::Borrowed(self))
    }
    fn decode(bytes: &[u8]) -> Result<Self> {
        Ok(bytes.to_vec())
    }
}

/// JSON text with the position at which it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dated {
    /// When it was written, in the server's order.
    pub pos: Pos,
    /// The JSON text.
    pub json: String,
}

impl Row for Dated {
    fn encode(&self) -> Result<Cow<'_, [u8]>> {
        Ok(Cow::Owned([&self.pos.to_le_bytes(), self.json.as_bytes()].concat()))
    }
    fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader(bytes);
        Ok(Self { pos: reader.u64()?, json: reader.rest()? })
    }
}

/// A layer of room state: what differs from the layer below. Entries are sorted by key number; an
/// event position of 0 says that the key is not set. A layer never changes, but for an *open* one: below it
/// is what is not known yet, its entries are for the time being, and once all is known it has none and stands
/// on that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layer {
    /// The layer below, or 0 for none.
    pub below: u64,
    /// (key number, event position), sorted.
    pub entries: Vec<(u64, Pos)>,
}

impl Layer {
    /// What is below an open layer.
    pub const UNKNOWN: u64 = u64::MAX;

    /// Whether what is below is not known yet.
    pub fn is_open(&self) -> bool {
        self.below == Self::UNKNOWN
    }

    /// Whether it is, or was, an open one: one whose row has changed or may.
    pub fn may_change(&self) -> bool {
        self.is_open() || self.entries.is_empty()
    }
}

impl Row for Layer {
    fn encode(&self) -> Result<Cow<'_, [u8]>> {
        let mut out = Vec::with_capacity(8 + 16 * self.entries.len());
        out.extend(self.below.to_le_bytes());
        for (key, event) in &self.entries {
            out.extend(key.to_le_bytes());
            out.extend(event.to_le_bytes());
        }
        Ok(Cow::Owned(out))
    }
    fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader(bytes);
        let below = reader.u64()?;
        let mut entries = Vec::with_capacity(reader.0.len() / 16);
        while !reader.0.is_empty() {
            entries.push((reader.u64()?, reader.u64()?));
        }
        Ok(Self { below, entries })
    }
}

/// A layer's weight in the cache is its size in memory.
#[derive(Clone)]
pub struct LayerWeight;

impl quick_cache::Weighter<u64, std::sync::Arc<Layer>> for LayerWeight {
    fn weight(&self, _: &u64, layer: &std::sync::Arc<Layer>) -> u64 {
        64 + 16 * layer.entries.len() as u64
    }
}

/// The weight of remembered changes of state is their size in memory.
#[derive(Clone)]
pub struct ChangesWeight;

impl quick_cache::Weighter<[u8; 32], std::sync::Arc<BTreeMap<u64, Pos>>> for ChangesWeight {
    fn weight(&self, _: &[u8; 32], changes: &std::sync::Arc<BTreeMap<u64, Pos>>) -> u64 {
        128 + 24 * changes.len() as u64
    }
}

/// Reads a binary row from its front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count).ok_or_else(damaged)?;
        self.0 = rest;
        Ok(front)
    }
    fn u64(&mut self) -> Result<u64> {
        let bytes = self.take(8)?.try_into().map_err(|_| damaged())?;
        Ok(u64::from_le_bytes(bytes))
    }
    fn text(&mut self) -> Result<String> {
        let length = self.take(2)?.try_into().map_err(|_| damaged())?;
        let bytes = self.take(usize::from(u16::from_le_bytes(length)))?;
        String::from_utf8(bytes.to_vec()).map_err(|_| damaged())
    }
    fn rest(&mut self) -> Result<String> {
        String::from_utf8(std::mem::take(&mut self.0).to_vec()).map_err(|_| damaged())
    }
}

fn damaged() -> Error {
    Error::internal("damaged row")
}

/// A room's present.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RoomRow {
    /// The room's ID.
    pub id: String,
    /// The room version.
    pub version: String,
    /// The current state.
    pub state: u64,
    /// What clients are told of the state for as long as not all of its members are known, or 0: see
    /// `rooms/partial.rs`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub shown: u64,
    /// From where to where in the timeline it was so the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was_partial: Option<(i64, i64)>,
    /// Whether what comes into it is to be judged once more, as it is or was not whole: see
    /// `rooms/second_look.rs`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub looked_at_again: bool,
    /// The forward extremities: where they are, and their IDs.
    pub extremities: Vec<(Pos, String)>,
    /// The greatest depth so far.
    pub depth: u64,
    /// People in it.
    pub joined: u64,
    /// People invited.
    pub invited: u64,
    /// Servers in it, ours among them.
    #[serde(default)]
    pub servers: u64,
    /// The position of the last event that was for us to tell other servers.
    #[serde(default)]
    pub told: Pos,
    /// The newest event, by which lists of rooms are sorted.
    #[serde(default)]
    pub latest: Pos,
    /// The newest event of those that people take for something new.
    #[serde(default)]
    pub bump: Pos,
    /// The room's type, such as `m.space`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Whether it is encrypted.
    #[serde(default)]
    pub encrypted: bool,
}
impl JsonRow for RoomRow {}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// An event of another server that is still to be judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArrivedRow {
    /// The server that sent it.
    pub origin: String,
    /// Its JSON.
    pub event: String,
}
impl JsonRow for ArrivedRow {}

/// History that is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapRow {
    /// The events that stand just behind the gap's end, as far as they are known to be missing.
    pub missing: Vec<String>,
    /// The last place before the gap: what is fetched goes between. None where nothing stands before.
    pub after: Option<i64>,
}
impl JsonRow for GapRow {}

/// Somebody's membership, where it stands now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRow {
    /// `join`, `invite`, `knock`, `leave` or `ban`.
    pub membership: String,
    /// The membership event's position.
    pub event: Pos,
    /// When it came to be so here, in the server's order, if that is not the event's position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Pos>,
    /// The person has forgotten the room.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forgotten: bool,
}
impl JsonRow for MemberRow {}

impl MemberRow {
    /// When it came to be so here.
    pub fn since(&self) -> Pos {
        self.at.unwrap_or(self.event)
    }
}

/// Something that other servers are to be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outgoing {
    /// The event that was written at this position.
    Event {
        /// Its room.
        room: RoomNum,
        /// A server that is not in the room, and of whose person it ends the invite or the knock.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        aside: Option<String>,
    },
    /// A read receipt, unless a later one took its place.
    Receipt {
        /// Its room.
        room: RoomNum,
        /// Whose it is.
        user: String,
        /// Its thread, or "".
        thread: String,
    },
    /// One of our people's devices came, changed or went.
    Device {
        /// Whose it is.
        user: String,
        /// Which one.
        device: String,
        /// The position of the person's change before this one, or 0.
        prev: Pos,
    },
    /// One of our people's cross-signing keys changed.
    SigningKeys {
        /// Whose they are.
        user: String,
    },
    /// Messages for devices of a server were put into its queue.
    ToDevice {
        /// The server.
        server: String,
    },
}
impl JsonRow for Outgoing {}

/// Another server to which there is or was something to tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationRow {
    /// It has been told everything up to this position.
    pub acked: Pos,
    /// There is more than that to tell it.
    #[serde(default)]
    pub behind: bool,
    /// How often in a row it could not be told.
    #[serde(default)]
    pub failures: u32,
    /// When the first of those failures was, milliseconds, or 0.
    #[serde(default)]
    pub failing_since: u64,
    /// When it was tried last, milliseconds.
    #[serde(default)]
    pub tried_at: u64,
    /// When it is tried again, milliseconds.
    #[serde(default)]
    pub retry_at: u64,
    /// Why it could not be told then, for people; empty if it could.
    #[serde(default)]
    pub last_error: String,
    /// How far the transaction went that failed, so that it is tried again as it was.
    #[serde(default)]
    pub trying: Pos,
}
impl JsonRow for DestinationRow {}

/// What is kept of the devices of somebody of another server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteListRow {
    /// The number of the newest change that it takes in, or 0 if that is not known.
    pub stream: u64,
    /// Something was missed.
    pub stale: bool,
    /// When it was last whole.
    pub kept_at: Pos,
}
impl JsonRow for RemoteListRow {}

/// A file of another server that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteMediaRow {
    /// When somebody asked for it the last time, more or less, milliseconds.
    pub used: u64,
}
impl JsonRow for RemoteMediaRow {}

/// A server in a room.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerRow {
    /// How many people of it are in the room.
    pub joined: u64,
    /// We were told that it is in the room, and don't know yet by whom.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub told: bool,
    /// From when to when it was, the last at the end.
    pub stays: Vec<Stay>,
}
impl JsonRow for ServerRow {}

impl ServerRow {
    /// Whether the server is in the room.
    pub fn is_in(&self) -> bool {
        self.joined > 0 || self.told
    }

    /// Whether the server was in the room when something was written at a position.
    pub fn was_there(&self, pos: Pos) -> bool {
        self.stays.iter().any(|stay| stay.since < pos && pos <= stay.until)
    }
}

/// Some time that a server was in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stay {
    /// The position after which it was there.
    pub since: Pos,
    /// The last position at which it was.
    pub until: Pos,
}

/// A thread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadRow {
    /// Events in it, without the first.
    pub count: u64,
    /// Where the newest of them stands in the timeline.
    pub latest: i64,
}
impl JsonRow for ThreadRow {}

/// A read receipt.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReceiptRow {
    /// When it came, in the server's order.
    pub pos: Pos,
    /// The event that was read.
    pub event_id: String,
    /// Where that event stands in the timeline.
    pub order: i64,
    /// When it came, milliseconds.
    pub ts: u64,
}
impl JsonRow for ReceiptRow {}

/// A receipt for an event that has not come.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EarlyReceiptRow {
    /// When the event was read, as the reader's server says, milliseconds.
    pub ts: u64,
    /// When the receipt came, milliseconds.
    pub came: u64,
}
impl JsonRow for EarlyReceiptRow {}

/// A room alias.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AliasRow {
    /// The room.
    pub room_id: String,
    /// Who made it.
    pub creator: String,
}
impl JsonRow for AliasRow {}

/// A fallback key, which is handed out when a device has no one-time key left.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FallbackKeyRow {
    /// Its ID, with its algorithm.
    pub id: String,
    /// The key's JSON.
    pub json: String,
    /// Whether it has been handed out.
    #[serde(default)]
    pub used: bool,
}
impl JsonRow for FallbackKeyRow {}

/// A media file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MediaRow {
    /// The SHA-256 of the content, which names the file; none while it has not been uploaded.
    pub hash: Option<String>,
    /// What its uploader says it is.
    pub content_type: Option<String>,
    /// What its uploader calls it.
    pub filename: Option<String>,
    /// Bytes.
    pub size: u64,
    /// Who uploaded it.
    pub uploader: Option<String>,
    /// When, milliseconds.
    pub created: u64,
}
impl JsonRow for MediaRow {}

/// What somebody has not read of a room, as far as it has been worked out. Only events that notify are
/// kept, so that reading takes away from it without looking at the room again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadRow {
    /// Worked out up to and with this place in the timeline.
    pub counted: i64,
    /// By thread ("main" for what is in none): the order of each event, and whether it highlights.
    pub threads: BTreeMap<String, Vec<(i64, bool)>>,
}
impl JsonRow for UnreadRow {}

/// A key that another server signs with, or did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerKeyRow {
    /// The public half, unpadded base64.
    pub key: String,
    /// Until when what it signs is good, in milliseconds: no more than a week after it was fetched, and for a
    /// key that was given up, when that was.
    pub valid_until: u64,
    /// Whether it was given up.
    pub old: bool,
}

impl JsonRow for ServerKeyRow {}
