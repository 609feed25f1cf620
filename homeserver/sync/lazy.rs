//! Which membership events a device has been sent already, so that lazily loaded members are sent once.
//! Only a bounded memory: what it has forgotten is sent again, which the spec allows.
//! spec: client-server-api#lazy-loading-room-members

use std::hash::{BuildHasher, RandomState};

use quick_cache::sync;

use super::Ask;
use crate::base::{Pos, RoomNum};

/// Bytes that an entry takes, about.
const ENTRY: u64 = 80;

/// What was sent.
struct Sent {
    /// The membership event.
    event: Pos,
    /// The position of the answer that held it. A client that comes with an earlier one never got it.
    answer: Pos,
}

/// (device, room, member's key number) → what was sent.
pub struct Cache {
    sent: sync::Cache<(u64, RoomNum, u64), std::sync::Arc<Sent>>,
    hasher: RandomState,
}

impl Cache {
    pub fn new(bytes: u64) -> Self {
        let entries = usize::try_from(bytes / ENTRY).unwrap_or(usize::MAX);
        Self { sent: sync::Cache::new(entries), hasher: RandomState::new() }
    }

    /// Whether a device has a membership event already.
    pub fn has(&self, ask: &Ask, room: RoomNum, key: u64, event: Pos) -> bool {
        let Some(since) = ask.since else { return false };
        let sent = self.sent.get(&(self.device(ask), room, key));
        sent.is_some_and(|sent| sent.event == event && sent.answer <= since.pos)
    }

    /// Whether a device was sent any membership event of a member, be it an old one.
    pub fn knows(&self, ask: &Ask, room: RoomNum, key: u64) -> bool {
        self.sent.get(&(self.device(ask), room, key)).is_some()
    }

    /// Notes that an answer holds a membership event.
    pub fn note(&self, ask: &Ask, room: RoomNum, key: u64, (event, answer): (Pos, Pos)) {
        self.sent.insert((self.device(ask), room, key), std::sync::Arc::new(Sent { event, answer }));
    }

    /// A number for the device. Keyed and random, so that nobody can choose names that collide.
    fn device(&self, ask: &Ask) -> u64 {
        self.hasher.hash_one((&ask.user, &ask.device, ask.lane))
    }
}
