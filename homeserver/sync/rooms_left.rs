//! The rooms that somebody has left, was put out of, or does not want to be invited to: up to that
//! moment and no further.

use ruma::events::StateEventType;

use super::{
    account_data,
    body::Left,
    facts::{Membership, Mine},
    room::{self, Span},
    rooms_joined::membership_in,
    turn::{ById, ByRoom, Turn},
};
use crate::{
    base::Pos,
    error::Result,
    rooms::{
        Pdu, Room, event, state,
        timeline::{self, View, order_of},
    },
    store::Read,
};

/// Changes of somebody's membership that are followed back to when they left.
const MAX_MOVES: usize = 100;

/// The section: rooms that were left since the client's token; for a first sync all, if the client
/// wants them.
pub fn build(turn: &Turn<'_, impl Read>, data: &mut ByRoom) -> Result<ById<Left>> {
    let mut out = ById::new();
    if turn.since.is_none() && !turn.ask.filter.room.include_leave {
        return Ok(out);
    }
    for mine in &turn.facts.rooms {
        let concerns_it = turn.is_new(mine.at) && (turn.since.is_some() || !mine.forgotten);
        if mine.membership != Membership::Out || !concerns_it {
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
    let known = match turn.since_order() {
        Some(since) => membership_in(tx, timeline::state_at(tx, room.num, since)?, user)?,
        None => None,
    };
    let was_in = known.as_deref() == Some("join");
    if was_in {
        turn.moves.borrow_mut().exited.push(room.num);
    }
    // A forgotten room's history is nobody's to read: that it is over is all there is to tell.
    let exit = if mine.forgotten {
        None
    } else {
        exit(turn, (mine.event, mine.at), |order| turn.since_order().is_none_or(|since| order > since))?
    };
    let mut view = View::new(tx, room, user, Some(&turn.ask.device))?;
    view.name_room = false;
    let limit = room::limit(turn);
    let span = match exit {
        // An exit that is in no timeline was told to this server with the room's state.
        Some(exit) => Span {
            since: turn.since_order().filter(|_| was_in),
            upto: timeline::order(tx, exit)?.unwrap_or_else(|| order_of(mine.at)),
            limit,
        },
        // Whom the client does not know to have been inside is told only that it is over.
        None => Span { since: Some(order_of(mine.at) - 1), upto: order_of(mine.at) - 1, limit },
    };
    let last = (exit != Some(mine.event) && mine.event != 0).then_some(mine.event);
    let mut shown = room::timeline(turn, room, &mut view, &span, last)?;
    if exit.is_none() {
        shown.know_all();
    }
    if mine.event != 0 {
        shown.tell(mine.event);
    }
    let state = room::state(turn, room, &mut view, &shown, &[])?;
    let account_data = account_data::of_room(turn, entries)?;
    let quiet = shown.timeline.events.is_empty() && state.events().is_empty();
    let must_know = matches!(known.as_deref(), Some("join" | "invite" | "knock"));
    Ok((must_know || !quiet).then_some(Left { state, timeline: shown.timeline, account_data }))
}

/// The event by which the person went out of the room, if the client does not know of it: their last
/// membership event, or an earlier one if more befell them outside, such as a ban after a kick. What
/// happened in between is not theirs to know.
pub fn exit(turn: &Turn<'_, impl Read>, (last, came): (Pos, Pos), is_new: impl Fn(i64) -> bool) -> Result<Option<Pos>> {
    let (tx, user, mut at) = (turn.tx, &turn.ask.user, last);
    // What other servers say of their pasts may go in circles.
    for _ in 0..MAX_MOVES {
        let order = match at == last {
            true => Some(order_of(came)),
            false => timeline::order(tx, at)?,
        };
        if at == 0 || !order.is_some_and(&is_new) {
            break;
        }
        let before = event::row(tx, at)?.state_before;
        let Some(earlier) = state::event(tx, before, &StateEventType::RoomMember, user.as_str())? else { break };
        if Pdu::at(tx, earlier)?.membership().as_deref() == Some("join") {
            return Ok(Some(at));
        }
        at = earlier;
    }
    Ok(None)
}
