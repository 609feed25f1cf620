//! What came into a room while not all of its members were known, looked at once more when they are: an
//! event that the state before it does not allow, as its sender was put out before, is rejected after all.
//!
//! [`look`] only reads. Where it finds something, and that is so in hostile rooms alone, [`judge_anew`] goes
//! through all that came since the room was entered: what is rejected leaves the timeline, and the states
//! before and after the rest become what they are without it. What clients were told is not taken back from
//! them: a place without an event at the end tells them what the state is. What a rejected redaction has
//! emptied stays empty.

use std::collections::BTreeMap;

use super::{
    accept, append,
    event::{self, Pdu},
    members,
    partial::{self, PartialRow},
    resolve::{self, Outcome},
    room::Room,
    search,
    state::{self, Overlay, StateId},
    timeline::{self, order_of},
};
use crate::{
    base::{Pos, RoomNum},
    error::{Error, Result},
    store::{
        Read, WriteTx,
        rows::{Place, Standing},
        tables,
    },
};

/// Events that are looked at in one go.
const PIECE: usize = 200;
/// Events that are judged anew in one job. Beyond it those that came later keep their states.
const MAX_ANEW: usize = 2_000;

/// What a look has shown.
pub enum Seen {
    /// Everything holds.
    All,
    /// Everything holds up to this place: look on from there.
    Upto(i64),
    /// Something does not.
    Wrong,
}

/// Looks at some of the events after a place that came before all members were known.
pub fn look(tx: &impl Read, room: &Room, row: &PartialRow, after: i64) -> Result<Seen> {
    let after = after.max(entered(tx, row)?);
    let places = timeline::forward(tx, room.num, after, order_of(row.whole), PIECE)?;
    for (_, place) in &places {
        let before = Overlay::of(event::row(tx, place.event)?.state_before);
        if accept::allows(tx, room, &before, &Pdu::at(tx, place.event)?)?.is_err() {
            return Ok(Seen::Wrong);
        }
    }
    Ok(match places.last() {
        Some((last, _)) if places.len() == PIECE => Seen::Upto(*last),
        _ => Seen::All,
    })
}

/// The place of the join by which the room was entered.
fn entered(tx: &impl Read, row: &PartialRow) -> Result<i64> {
    let join = event::position(tx, &event::parse_id(&row.join)?)?;
    let place = join.map(|pos| event::row(tx, pos).map(|row| row.place(pos))).transpose()?.flatten();
    place.ok_or_else(|| Error::internal("the join is missing by which a room was entered"))
}

/// Judges everything anew that came since the room was entered.
pub fn judge_anew(tx: &WriteTx, num: RoomNum) -> Result<()> {
    let Some(row) = partial::of(tx, num)? else { return Ok(()) };
    let mut room = Room::at(tx, num)?;
    let entered = entered(tx, &row)?;
    let places = timeline::forward(tx, num, entered, i64::MAX, MAX_ANEW)?;
    let join = Pdu::find(tx, &event::parse_id(&row.join)?)?.ok_or_else(|| Error::internal("a join is missing"))?;
    let (old, ends) = (room.row.state, room.row.extremities.clone());
    // As it was when the room had been entered.
    room.row.extremities = vec![(join.pos, join.id.to_string())];
    room.row.state = event::row(tx, join.pos)?.state_after;
    let mut rejected = 0;
    for (order, place) in &places {
        rejected += usize::from(!again(tx, &mut room, (*order, place.event))?);
    }
    if places.len() == MAX_ANEW {
        // The newest have not been reached: they stay the ends that they are.
        (room.row.state, room.row.extremities) = (old, ends);
    }
    tracing::warn!(room = %room.row.id, rejected, "events in {} were let in that should not have been", room.row.id);
    let now = tx.next_pos();
    let place = Place { event: 0, state_after: room.row.state };
    tables::TIMELINE.put(tx, (num, order_of(now)), &place)?;
    members::follow(tx, &mut room, old, now)?;
    room.save(tx)?;
    tx.wake(|wake| {
        wake.rooms.insert(num);
    });
    Ok(())
}

/// Judges one event anew. False if it is rejected.
fn again(tx: &WriteTx, room: &mut Room, (order, pos): (i64, Pos)) -> Result<bool> {
    let (mut row, pdu) = (event::row(tx, pos)?, Pdu::at(tx, pos)?);
    let before = before(tx, room, &pdu)?.unwrap_or_else(|| Overlay::of(row.state_before));
    if accept::allows(tx, room, &before, &pdu)?.is_err() {
        tables::TIMELINE.remove(tx, (room.num, order))?;
        search::forget(tx, pos)?;
        (row.standing, row.order, row.state_after) = (Standing::Rejected, 0, 0);
        row.state_before = before.store(tx, row.state_before)?;
        tables::EVENTS.put(tx, pos, &row)?;
        return Ok(false);
    }
    row.state_before = before.store(tx, row.state_before)?;
    let after = after(tx, &pdu, row.state_before)?;
    if pdu.state_key.is_some() {
        row.state_after = after;
    }
    tables::EVENTS.put(tx, pos, &row)?;
    room.row.extremities = append::ends_before(tx, room, &pdu)?;
    room.row.state = append::current(tx, room, None, (pos, &pdu, after))?;
    room.row.extremities.push((pos, pdu.id.to_string()));
    Ok(true)
}

/// The state before an event, if what is before it is here.
fn before(tx: &impl Read, room: &Room, pdu: &Pdu) -> Result<Option<Overlay>> {
    let mut states = Vec::with_capacity(pdu.prev_events.len());
    for id in &pdu.prev_events {
        match accept::after(tx, room, id)? {
            Some(state) => states.push(state),
            None => match partial::after_end(tx, room, id)? {
                Some(state) => states.push(Overlay::of(state)),
                None => return Ok(None),
            },
        }
    }
    Ok(match resolve::resolve(tx, &room.rules(), &states, None, resolve::IN_WRITER)? {
        Outcome::Resolved(state) => Some(state),
        Outcome::TooHeavy => None,
    })
}

fn after(tx: &WriteTx, pdu: &Pdu, before: StateId) -> Result<StateId> {
    match &pdu.state_key {
        Some(key) => state::with(tx, before, &BTreeMap::from([(state::key_or_new(tx, &pdu.name, key)?, pdu.pos)])),
        None => Ok(before),
    }
}
