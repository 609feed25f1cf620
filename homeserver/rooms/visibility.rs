//! Which events somebody may see: history visibility and their own membership, both as they were at
//! the event. spec: client-server-api#room-history-visibility

use std::collections::HashMap;

use ruma::{UserId, events::StateEventType};
use serde::Deserialize;

use super::{
    event::{self, Pdu, Slices},
    members,
    room::Room,
    state::{self, StateId},
    timeline::{order, order_of},
};
use crate::{
    base::Pos,
    error::Result,
    store::{Read, rows::EventRow},
};

/// Changes of somebody's membership that are followed back.
const MAX_MOVES: usize = 100;

/// One person's view of one room's history. Remembers what it has found out: neighbouring events have
/// the same state.
pub struct Sight<'a> {
    user: &'a UserId,
    member_key: Option<u64>,
    visibility_key: Option<u64>,
    /// What the person is to the room now, by which event, and since which place in the timeline.
    now: (String, Pos, i64),
    /// The person has forgotten the room, and is to it as one who was never there.
    forgotten: bool,
    states: HashMap<StateId, (String, Visibility)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Visibility {
    World,
    Shared,
    Invited,
    Joined,
}

impl<'a> Sight<'a> {
    /// The view that `user` has of `room`.
    pub fn of(tx: &impl Read, room: &Room, user: &'a UserId) -> Result<Self> {
        let now = members::of(tx, room.num, user)?;
        Ok(Self {
            forgotten: now.as_ref().is_some_and(|row| row.forgotten),
            user,
            member_key: state::key(tx, "m.room.member", user.as_str())?,
            visibility_key: state::key(tx, &StateEventType::RoomHistoryVisibility.to_string(), "")?,
            now: now.map_or_else(
                || ("leave".to_owned(), 0, i64::MIN),
                |row| {
                    let since = order_of(row.since());
                    (row.membership, row.event, since)
                },
            ),
            states: HashMap::new(),
        })
    }

    /// What the person was to the room at an event: for their own membership events, what they became.
    pub fn membership(&mut self, tx: &impl Read, row: &EventRow, slices: &Slices<'_>) -> Result<String> {
        match self.own_membership(slices) {
            Some(membership) => Ok(membership),
            None => Ok(self.before(tx, row.state_before)?.0),
        }
    }

    /// Whether the person may see an event at `pos`.
    pub fn may_see(&mut self, tx: &impl Read, pos: Pos, row: &EventRow, slices: &Slices<'_>) -> Result<bool> {
        let (membership, mut visibility) = self.before(tx, row.state_before)?;
        // A change of visibility is seen by whoever may see either side of it, and so is a change of
        // one's own membership.
        if slices.kind == "m.room.history_visibility" && slices.state_key.as_deref() == Some("") {
            visibility = visibility.widest(parse(slices.content.get()));
        }
        if self.forgotten {
            return Ok(visibility == Visibility::World);
        }
        let after = self.own_membership(slices);
        if visibility == Visibility::World || membership == "join" || after.as_deref() == Some("join") {
            return Ok(true);
        }
        if visibility == Visibility::Invited && (membership == "invite" || after.as_deref() == Some("invite")) {
            return Ok(true);
        }
        // One's own leaving, and being banned or kicked, is seen: also by who is outside already.
        if after.is_some() && (membership != "leave" || after.as_deref() == Some("ban")) {
            return Ok(true);
        }
        match visibility {
            Visibility::Shared => self.joined_after(tx, row.place(pos).unwrap_or(i64::MAX)),
            _ => Ok(false),
        }
    }

    /// Whether the person surely may see all that came after a position: they were in the room then and have
    /// been ever since.
    pub fn sees_all_after(&self, pos: Pos) -> bool {
        self.now.0 == "join" && self.now.2 <= order_of(pos) && !self.forgotten
    }

    /// The place in the timeline since which the person has been in the room without a break. None if they
    /// are not in it.
    pub fn in_since(&self, tx: &impl Read) -> Result<Option<i64>> {
        let (membership, mut at, mut since) = self.now.clone();
        if membership != "join" || self.forgotten {
            return Ok(None);
        }
        for _ in 0..MAX_MOVES {
            let Some(key) = self.member_key else { break };
            let Some(earlier) = state::at(tx, event::row(tx, at)?.state_before, key)? else { break };
            if Pdu::at(tx, earlier)?.membership().as_deref() != Some("join") {
                break;
            }
            at = earlier;
            since = order(tx, at)?.unwrap_or(since);
        }
        Ok(Some(since))
    }

    /// Whether the person was in the room at any time up to a position.
    pub fn was_in_before(&self, tx: &impl Read, pos: Pos) -> Result<bool> {
        let (mut membership, mut at, mut since) = self.now.clone();
        // What other servers say of their pasts may go in circles.
        for _ in 0..MAX_MOVES {
            if membership == "join" && since <= order_of(pos) {
                return Ok(true);
            }
            let Some(key) = self.member_key.filter(|_| at != 0) else { return Ok(false) };
            let Some(earlier) = state::at(tx, event::row(tx, at)?.state_before, key)? else { return Ok(false) };
            membership = Pdu::at(tx, earlier)?.membership().unwrap_or_default();
            at = earlier;
            since = order(tx, at)?.unwrap_or(i64::MIN);
        }
        Ok(false)
    }

    /// Whether the person was in the room at any time after a place in its timeline.
    fn joined_after(&self, tx: &impl Read, place: i64) -> Result<bool> {
        let (mut membership, mut at, mut since) = self.now.clone();
        // What other servers say of their pasts may go in circles.
        for _ in 0..MAX_MOVES {
            if membership == "join" || since <= place || at == 0 {
                break;
            }
            let Some(key) = self.member_key else { break };
            let Some(earlier) = state::at(tx, event::row(tx, at)?.state_before, key)? else { break };
            membership = Pdu::at(tx, earlier)?.membership().unwrap_or_default();
            at = earlier;
            since = order(tx, at)?.unwrap_or(i64::MIN);
        }
        Ok(membership == "join")
    }

    fn own_membership(&self, slices: &Slices<'_>) -> Option<String> {
        #[derive(Deserialize)]
        struct Content {
            membership: String,
        }
        let own = slices.kind == "m.room.member" && slices.state_key.as_deref() == Some(self.user.as_str());
        let content: Content = serde_json::from_str(slices.content.get()).ok().filter(|_| own)?;
        Some(content.membership)
    }

    /// The person's membership and the visibility in a state.
    fn before(&mut self, tx: &impl Read, state: StateId) -> Result<(String, Visibility)> {
        if let Some(known) = self.states.get(&state) {
            return Ok(known.clone());
        }
        let find = |key: Option<u64>| match key {
            Some(key) => state::at(tx, state, key),
            None => Ok(None),
        };
        let membership = match find(self.member_key)? {
            Some(pos) if pos == self.now.1 => self.now.0.clone(),
            Some(pos) => Pdu::at(tx, pos)?.membership().unwrap_or_default(),
            None => "leave".to_owned(),
        };
        let visibility = match find(self.visibility_key)? {
            // As slices, which cost a third: each reader of each event looks here.
            Some(pos) => parse(Slices::of(&event::row(tx, pos)?)?.content.get()),
            None => Visibility::Shared,
        };
        self.states.insert(state, (membership.clone(), visibility));
        Ok((membership, visibility))
    }
}

impl Visibility {
    fn widest(self, other: Self) -> Self {
        let width = |visibility| match visibility {
            Self::World => 3,
            Self::Shared => 2,
            Self::Invited => 1,
            Self::Joined => 0,
        };
        if width(other) > width(self) { other } else { self }
    }
}

/// An unknown visibility counts as `shared`, as a missing one does.
fn parse(content: &str) -> Visibility {
    #[derive(Deserialize)]
    struct Content {
        history_visibility: String,
    }
    match serde_json::from_str::<Content>(content).map(|content| content.history_visibility).as_deref() {
        Ok("world_readable") => Visibility::World,
        Ok("invited") => Visibility::Invited,
        Ok("joined") => Visibility::Joined,
        _ => Visibility::Shared,
    }
}
