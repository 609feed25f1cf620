//! Others' presence: of people who share a room with the client's owner, and their own.
//! spec: client-server-api#presence

use std::collections::HashSet;

use ruma::{OwnedUserId, presence::PresenceState};
use serde::Serialize;

use super::{account_data::passes, body::Events, facts::Membership, turn::Turn};
use crate::{accounts::presence::Status, error::Result, rooms::members, store::Read};

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

/// What changed since the client's token. `tick` is the newest when the turn began.
pub fn build(turn: &Turn<'_, impl Read>, tick: u64) -> Result<Presence> {
    let since = turn.since.map_or(0, |since| since.ephemeral);
    let changed = turn.hub.presence.changed_since(since, MAX_LOOK);
    let (upto, more) = match changed.last() {
        Some((number, ..)) if changed.len() == MAX_LOOK => (*number, true),
        _ => (tick.max(since), false),
    };
    let mut events = Vec::new();
    if changed.is_empty() {
        return Ok(Presence { events: Events { events }, upto, more });
    }
    let joined = turn.facts.rooms.iter().filter(|mine| mine.membership == Membership::Join);
    let mine: HashSet<_> = joined.map(|mine| mine.room).collect();
    for (_, user, status) in changed {
        // Nobody new to a client needs to be told that somebody is not there.
        let dull = turn.since.is_none() && status.state == PresenceState::Offline;
        if dull || turn.facts.ignores(user.as_str()) || !passes(&turn.ask.filter.presence, "m.presence", user.as_str())
        {
            continue;
        }
        let known = user == turn.ask.user
            || members::joined_rooms(turn.tx, &user)?.into_iter().any(|room| mine.contains(&room));
        if known {
            events.push(event(user, status));
        }
    }
    Ok(Presence { events: Events { events }, upto, more })
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
