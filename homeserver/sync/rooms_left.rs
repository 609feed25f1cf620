//! The rooms that somebody has left, was put out of, or does not want to be invited to: up to that
//! moment and no further.

use super::{
    account_data,
    body::Left,
    facts::{Membership, Mine},
    room::{self, Span},
    rooms_joined::membership_in,
    turn::{ById, ByRoom, Turn},
};
use crate::{
    error::Result,
    rooms::{
        Room, event,
        timeline::{self, View, order_of},
    },
    store::Read,
};

/// The section: rooms that were left since the client's token; for a first sync all, if the client
/// wants them.
pub fn build(turn: &Turn<'_, impl Read>, data: &mut ByRoom) -> Result<ById<Left>> {
    let mut out = ById::new();
    if turn.since.is_none() && !turn.ask.filter.room.include_leave {
        return Ok(out);
    }
    for mine in &turn.facts.rooms {
        if mine.membership != Membership::Out || !turn.is_new(mine.event) {
            continue;
        }
        let room = Room::at(turn.tx, mine.room)?;
        if !turn.wants_room(&room) {
            continue;
        }
        let entries = data.remove(&room.row.id).unwrap_or_default();
        if let Some(left) = one(turn, mine, &room, entries)? {
            out.insert(room.row.id, left);
        }
    }
    Ok(out)
}

fn one(
    turn: &Turn<'_, impl Read>,
    mine: &Mine,
    room: &Room,
    entries: Vec<crate::accounts::account_data::Entry>,
) -> Result<Option<Left>> {
    let (tx, user) = (turn.tx, &turn.ask.user);
    let leaving = event::row(tx, mine.event)?;
    let was_inside = membership_in(tx, leaving.state_before, user)?.as_deref() == Some("join");
    let known = match turn.since_order() {
        Some(since) => membership_in(tx, timeline::state_at(tx, room.num, since)?, user)?,
        None => None,
    };
    let knew = known.as_deref() == Some("join");
    if knew {
        turn.moves.borrow_mut().exited.push(room.num);
    }
    let mut view = View::new(tx, room, user, Some(&turn.ask.device))?;
    view.name_room = false;
    let upto = order_of(mine.event);
    // Who was never inside knows nothing of the room, and is told only that it is over.
    let since = match (was_inside, knew) {
        (true, true) => turn.since_order(),
        (true, false) => None,
        (false, _) => Some(upto - 1),
    };
    let mut shown = room::timeline(turn, room, &mut view, &Span { since, upto })?;
    if !was_inside {
        shown.know_all();
    }
    let state = room::state(turn, room, &mut view, &shown, &[])?;
    let account_data = account_data::of_room(turn, entries)?;
    let quiet = shown.timeline.events.is_empty() && state.events().is_empty();
    Ok((!quiet).then_some(Left { state, timeline: shown.timeline, account_data }))
}
