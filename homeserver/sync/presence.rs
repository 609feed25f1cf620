//! Others' presence: of people who share a room with the client's owner, and their own.
//! spec: client-server-api#presence

use std::collections::{BTreeMap, BTreeSet};

use ruma::{OwnedUserId, UserId, presence::PresenceState};
use serde::Serialize;

use super::{body::Events, facts::Membership, turn::Turn};
use crate::{
    accounts::presence::Status,
    error::Result,
    rooms::members,
    store::{Flow, Read},
};

/// Changes that one answer looks at, at most: what is left is for the next answer.
const MAX_LOOK: usize = 500;

/// An `m.presence` event.
#[derive(Serialize)]
pub struct Event {
    content: Content,
    sender: OwnedUserId,
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
struct Content {
    presence: PresenceState,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_active_ago: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_msg: Option<String>,
    currently_active: bool,
}

/// What there is to tell.
pub struct Presence {
    pub events: Events<Event>,
    /// The tick up to which this and everything else that lives in memory was told.
    pub upto: u64,
    /// Whether there is more.
    pub more: bool,
}

/// Where people are who came together since the client's token, and what changed since then, as much as the filter's
/// limit leaves: the rest is for the next answer. `tick` is the newest when the turn began. To be built after the
/// rooms, which tell who came.
pub fn build(turn: &Turn<'_, impl Read>, tick: u64) -> Result<Presence> {
    let since = turn.since.map_or(0, |since| since.ephemeral);
    let limit = turn.ask.filter.presence.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let changed = turn.hub.presence.changed_since(since, MAX_LOOK);
    let (mut upto, mut more) = match changed.last() {
        Some((number, ..)) if changed.len() == MAX_LOOK => (*number, true),
        _ => (tick.max(since), false),
    };
    let mut told = BTreeMap::new();
    let mut reached = since;
    for (number, user, status) in changed {
        if told.len() >= limit.max(1) {
            (upto, more) = (reached, true);
            break;
        }
        reached = number;
        // Nobody new to a client needs to be told that somebody is not there.
        let dull = turn.since.is_none() && status.state == PresenceState::Offline;
        if !dull && wants(turn, &user) && is_near(turn, &user)? {
            told.insert(user, status);
        }
    }
    for user in newcomers(turn)? {
        if !told.contains_key(&user)
            && wants(turn, &user)
            && let Some(status) = turn.hub.presence.of(&user)
            && status.state != PresenceState::Offline
        {
            told.insert(user, status);
        }
    }
    let events = told.into_iter().map(|(user, status)| event(user, status)).collect();
    Ok(Presence { events: Events { events }, upto, more })
}

fn wants(turn: &Turn<'_, impl Read>, user: &UserId) -> bool {
    let filter = &turn.ask.filter.presence;
    !turn.facts.ignores(user.as_str())
        && filter.wants_type("m.presence")
        && filter.wants_sender(Some(user.as_str()))
        && filter.contains_url != Some(true)
}

/// Whether somebody shares a room with the client's owner, or is the owner.
fn is_near(turn: &Turn<'_, impl Read>, user: &UserId) -> Result<bool> {
    if user == turn.ask.user {
        return Ok(true);
    }
    let rooms = members::joined_rooms(turn.tx, user)?;
    Ok(rooms.into_iter().any(|room| {
        // Sorted by room, as they were read.
        let found = turn.facts.rooms.binary_search_by_key(&room, |mine| mine.room);
        found.is_ok_and(|at| turn.facts.rooms[at].membership == Membership::Join)
    }))
}

/// Who came into a room of the client's owner since the token, or was in one that the owner came into.
fn newcomers(turn: &Turn<'_, impl Read>) -> Result<BTreeSet<OwnedUserId>> {
    let moves = turn.moves.borrow();
    let mut users = moves.joined.clone();
    for room in &moves.entered {
        let mut looked = 0;
        members::each(turn.tx, *room, |user, row| {
            looked += 1;
            if row.membership == "join" {
                users.extend(UserId::parse(user));
            }
            Ok(if looked < MAX_LOOK { Flow::Next } else { Flow::Stop })
        })?;
    }
    Ok(users)
}

fn event(sender: OwnedUserId, status: Status) -> Event {
    let content = Content {
        presence: status.state,
        last_active_ago: status.last_active_ago,
        status_msg: status.message,
        currently_active: status.currently_active,
    };
    Event { content, sender, kind: "m.presence" }
}
