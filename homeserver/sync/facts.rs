//! What a turn needs to know of a person before it looks at any room: their memberships, whom they
//! ignore, their push rules. Kept until something of it changes; see `Taken::personal`.

use std::{collections::HashSet, sync::Arc};

use quick_cache::{Weighter, sync};
use ruma::{OwnedUserId, UserId, push::Ruleset};

use super::Hub;
use crate::{
    accounts::{account_data, push_rules},
    base::{Pos, RoomNum},
    error::Result,
    notify::Taken,
    rooms::members,
    store::Read,
};

/// What somebody is to a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    Join,
    Invite,
    Knock,
    /// Left, kicked or banned.
    Out,
}

/// A room of somebody's.
#[derive(Clone, Copy, Debug)]
pub struct Mine {
    pub room: RoomNum,
    pub membership: Membership,
    /// The membership event; 0 for somebody whose membership is gone without one.
    pub event: Pos,
    /// When it came to be so here.
    pub at: Pos,
    /// They have forgotten it: only a client that knows it from before is told that they left.
    pub forgotten: bool,
}

/// What is known of somebody.
pub struct Facts {
    /// Their rooms.
    pub rooms: Vec<Mine>,
    /// Whom they ignore.
    pub ignored: HashSet<OwnedUserId>,
    /// Their push rules.
    pub rules: Ruleset,
}

impl Facts {
    fn read(tx: &impl Read, user: &UserId) -> Result<Self> {
        let rooms = members::all_rooms_of(tx, user)?.into_iter().map(|(room, row)| Mine {
            room,
            membership: match row.membership.as_str() {
                "join" => Membership::Join,
                "invite" => Membership::Invite,
                "knock" => Membership::Knock,
                _ => Membership::Out,
            },
            event: row.event,
            at: row.since(),
            forgotten: row.forgotten,
        });
        Ok(Self { rooms: rooms.collect(), ignored: account_data::ignored(tx, user)?, rules: push_rules::of(tx, user)? })
    }

    /// Whether the person ignores somebody.
    pub fn ignores(&self, user: &str) -> bool {
        !self.ignored.is_empty() && UserId::parse(user).is_ok_and(|user| self.ignored.contains(&user))
    }
}

/// Facts of people who synced lately.
pub struct Cache(sync::Cache<OwnedUserId, Arc<Kept>, Weight>);

struct Kept {
    version: (u64, u64),
    facts: Arc<Facts>,
}

#[derive(Clone)]
struct Weight;

impl Weighter<OwnedUserId, Arc<Kept>> for Weight {
    fn weight(&self, user: &OwnedUserId, kept: &Arc<Kept>) -> u64 {
        let facts = &kept.facts;
        // Rules are small trees of strings: about 400 bytes each.
        let rules = 400 * facts.rules.iter().count();
        (user.as_str().len() + 200 + 24 * facts.rooms.len() + 64 * facts.ignored.len() + rules) as u64
    }
}

impl Cache {
    pub fn new(bytes: u64) -> Self {
        Self(sync::Cache::with_weighter(256, bytes, Weight))
    }

    /// The facts as they are in a snapshot. `before` is what `seat.personal()` said before it was taken.
    ///
    /// Every change is counted in the seat after its commit and before its position is published. If
    /// the count did not move while the snapshot was taken, and all of the snapshot is published, then
    /// facts of the same count hold the same changes as the snapshot does.
    pub fn of(&self, hub: &Hub, tx: &impl Read, seat: &Taken, user: &UserId, before: (u64, u64)) -> Result<Arc<Facts>> {
        let settled = hub.notifier.covers(tx.pos()?) && seat.personal() == before;
        if settled
            && let Some(kept) = self.0.get(user)
            && kept.version == before
        {
            return Ok(kept.facts.clone());
        }
        let facts = Arc::new(Facts::read(tx, user)?);
        if settled {
            self.0.insert(user.to_owned(), Arc::new(Kept { version: before, facts: facts.clone() }));
        }
        Ok(facts)
    }
}
