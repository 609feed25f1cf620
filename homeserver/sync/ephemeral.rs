//! What a room shows and does not keep: who types, who has read up to where.

use ruma::OwnedUserId;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    body::{Events, Plain},
    turn::Turn,
};
use crate::{
    accounts::filters,
    base::json,
    error::Result,
    rooms::{Room, receipts},
    store::Read,
};

/// A room's section.
pub struct Ephemeral {
    pub events: Events<Box<RawValue>>,
    /// The person has read further: their unread counts may have changed, even if they are not shown
    /// receipts.
    pub read: bool,
}

/// What changed since the client's token; for a room that is new to it, all there is.
pub fn build(turn: &Turn<'_, impl Read>, room: &Room, is_new: bool) -> Result<Ephemeral> {
    let filter = &turn.ask.filter.room.ephemeral;
    let since = turn.since.filter(|_| !is_new);
    let mut events = Vec::new();
    let span = (since.map_or(0, |since| since.pos), turn.now);
    let shown = receipts::changes(turn.tx, room.num, span, &turn.ask.user, |user| turn.facts.ignores(user))?;
    if wants(filter, room, "m.receipt") {
        for event in shown.events {
            events.push(json::to_raw(&event)?);
        }
    }
    let typing = turn.hub.typing.list(room.num, since.map_or(0, |since| since.ephemeral));
    if let Some(mut user_ids) = typing.filter(|_| wants(filter, room, "m.typing")) {
        user_ids.retain(|user| !turn.facts.ignores(user.as_str()));
        // Nobody types in a room that is new to the client: that it knows.
        if since.is_some() || !user_ids.is_empty() {
            events.push(json::to_raw(&Plain { content: Typing { user_ids }, kind: "m.typing".to_owned() })?);
        }
    }
    Ok(Ephemeral { events: Events { events }, read: shown.own && since.is_some() })
}

#[derive(Serialize)]
struct Typing {
    user_ids: Vec<OwnedUserId>,
}

/// Whether something is wanted that has neither a sender nor a URL.
fn wants(filter: &filters::Events, room: &Room, kind: &str) -> bool {
    filter.wants_type(kind)
        && filter.wants_room(&room.row.id)
        && filter.wants_sender(None)
        && filter.contains_url != Some(true)
}
