//! The rooms that somebody is in.

use std::collections::BTreeSet;

use ruma::{OwnedUserId, UserId};

use super::{
    account_data,
    body::Joined,
    counts, ephemeral,
    facts::{Membership, Mine},
    room::{self, Span},
    summary,
    turn::{ById, ByRoom, Turn},
};
use crate::{
    base::{Pos, RoomNum, token::SyncToken},
    error::Result,
    rooms::{
        Pdu, Room, receipts, state,
        timeline::{self, View, order_of},
    },
    store::{Read, tables},
};

/// The section: every room in which something is new to the client.
pub fn build(turn: &Turn<'_, impl Read>, data: &mut ByRoom, tick: u64) -> Result<ById<Joined>> {
    let mine: Vec<&Mine> = turn.facts.rooms.iter().filter(|mine| mine.membership == Membership::Join).collect();
    let looked_at = match turn.since {
        Some(since) if !turn.ask.full_state => candidates(turn, since, &mine, data, tick)?,
        _ => mine.iter().map(|mine| mine.room).collect(),
    };
    let mut out = ById::new();
    for mine in mine.into_iter().filter(|mine| looked_at.contains(&mine.room)) {
        let room = Room::at(turn.tx, mine.room)?;
        if !turn.wants_room(&room) {
            continue;
        }
        let entries = data.remove(&room.row.id).unwrap_or_default();
        if let Some(joined) = one(turn, mine, &room, entries)? {
            out.insert(room.row.id, joined);
        }
    }
    Ok(out)
}

/// The rooms that may have something new.
fn candidates(
    turn: &Turn<'_, impl Read>,
    since: SyncToken,
    mine: &[&Mine],
    data: &ByRoom,
    tick: u64,
) -> Result<BTreeSet<RoomNum>> {
    let mut out = changed(turn, since.pos, mine.iter().map(|mine| mine.room))?;
    if tick > since.ephemeral {
        out.extend(turn.hub.typing.changed_since(since.ephemeral));
    }
    for id in data.keys() {
        out.extend(tables::ROOM_NUMS.get(turn.tx, id.as_str())?);
    }
    Ok(out)
}

/// Those of some rooms in which an event or a receipt came after a position.
pub fn changed(
    turn: &Turn<'_, impl Read>,
    since: Pos,
    rooms: impl Iterator<Item = RoomNum> + Clone,
) -> Result<BTreeSet<RoomNum>> {
    if let Some(changed) = turn.hub.notifier.changed(turn.now, since, rooms.clone()) {
        return Ok(changed.into_iter().collect());
    }
    let mut changed = BTreeSet::new();
    for room in rooms {
        let last = timeline::last(turn.tx, room, i64::MAX)?.map_or(0, |(order, _)| order);
        if last > order_of(since) || receipts::newest(turn.tx, room)? > since {
            changed.insert(room);
        }
    }
    Ok(changed)
}

fn one(
    turn: &Turn<'_, impl Read>,
    mine: &Mine,
    room: &Room,
    entries: Vec<crate::accounts::account_data::Entry>,
) -> Result<Option<Joined>> {
    let tx = turn.tx;
    // Who came in since then knows nothing of the room, or nothing that can be relied on.
    let entered = turn.since.is_some() && turn.is_new(mine.at) && !was_in(turn, room)?;
    let since = turn.since_order().filter(|_| !entered);
    let mut view = View::new(tx, room, &turn.ask.user, Some(&turn.ask.device))?;
    view.name_room = false;
    let span = Span { since, upto: order_of(turn.now), limit: room::limit(turn) };
    let mut shown = room::timeline(turn, room, &mut view, &span, None)?;
    let mut changed = None;
    if since.is_some() {
        let keys = shown.changed_state(tx)?;
        note_moves(turn, shown.known().unwrap_or(0), &keys)?;
        changed = Some(keys);
    }
    if entered {
        turn.moves.borrow_mut().entered.push(room.num);
    }
    if turn.ask.full_state {
        shown.forget_known();
        changed = None;
    }
    let is_new = since.is_none();
    let ephemeral = ephemeral::build(turn, room, is_new)?;
    let account_data = match entered {
        // The client may have dropped what it was told before the person came in.
        true => account_data::of_room(turn, account_data::all_of_room(turn, room)?)?,
        false => account_data::of_room(turn, entries)?,
    };
    let quiet = shown.is_empty() && ephemeral.events.events.is_empty() && account_data.events.is_empty();
    if quiet && !is_new && !ephemeral.read {
        return Ok(None);
    }
    let mut summary = summary::build(tx, room, &turn.ask.user, changed.as_deref())?;
    summary.partial = summary::partial(room, turn.since_order());
    let state = room::state(turn, room, &mut view, &shown, summary.heroes.as_deref().unwrap_or_default())?;
    let whole = summary.partial == Some(false);
    let nothing = !whole && state.events().is_empty() && shown.timeline.events.is_empty() && !shown.timeline.limited;
    let quiet = nothing && ephemeral.events.events.is_empty() && account_data.events.is_empty();
    if quiet && !is_new && !ephemeral.read && !turn.ask.full_state {
        return Ok(None);
    }
    let (unread_notifications, unread_thread_notifications) = counts::build(turn, room)?;
    Ok(Some(Joined {
        summary,
        state,
        timeline: shown.timeline,
        ephemeral: ephemeral.events,
        account_data,
        unread_notifications,
        unread_thread_notifications,
    }))
}

/// Whether the person was in the room where the client's knowledge ends.
pub fn was_in(turn: &Turn<'_, impl Read>, room: &Room) -> Result<bool> {
    let Some(since) = turn.since_order() else { return Ok(false) };
    let state = timeline::state_at(turn.tx, room.num, since)?;
    membership_in(turn.tx, state, &turn.ask.user).map(|was| was.as_deref() == Some("join"))
}

/// What somebody is to a room in a state.
pub fn membership_in(tx: &impl Read, state: state::StateId, user: &UserId) -> Result<Option<String>> {
    match state::event(tx, state, &ruma::events::StateEventType::RoomMember, user.as_str())? {
        Some(pos) => Ok(Pdu::at(tx, pos)?.membership()),
        None => Ok(None),
    }
}

/// Notes who came into the room and who went out of it.
pub fn note_moves(turn: &Turn<'_, impl Read>, known: state::StateId, changed: &[(u64, Pos)]) -> Result<()> {
    let tx = turn.tx;
    for (key, now) in changed.iter().filter(|(key, _)| state::is_member(*key)) {
        let joined = |pos: Option<Pos>| -> Result<bool> {
            match pos.filter(|pos| *pos != 0) {
                Some(pos) => Ok(Pdu::at(tx, pos)?.membership().as_deref() == Some("join")),
                None => Ok(false),
            }
        };
        let was = joined(state::at(tx, known, *key)?)?;
        let is = joined(Some(*now))?;
        if was == is {
            continue;
        }
        let (_, user) = state::key_name(tx, *key)?;
        let Ok(user) = OwnedUserId::try_from(user) else { continue };
        let mut moves = turn.moves.borrow_mut();
        match is {
            true => moves.joined.insert(user),
            false => moves.left.insert(user),
        };
    }
    Ok(())
}
