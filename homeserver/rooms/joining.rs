//! A room's state as a server in the room hands it over when somebody of ours comes in: judged and laid down in
//! pieces that nobody sees, then opened by one small job.
//!
//! 1. [`Judge`] keeps what is of the room and allowed by the events that it cites. [`lay_events`] writes that as
//!    outliers: events that are known, and in no room's timeline or state. In the end all of it is refused if the
//!    room's beginning or the join itself do not hold.
//! 2. [`lay_state`] writes the state in pieces. The room has none yet, or the one from when the last of ours went;
//!    only the index of its members goes ahead, those of ours left out who would see it. What a crash leaves behind
//!    is where the next join goes on from: `STAGED` says which state the index stands at.
//! 3. [`open`] writes the join on top. With it the room is there.

mod judge;

use std::collections::BTreeMap;

use ruma::{OwnedEventId, RoomId, RoomVersionId, UserId, events::TimelineEventType};

pub use self::judge::{Judge, Judged, Told};
use super::{
    append::{self, Incoming},
    doorstep,
    event::Pdu,
    members,
    pdu::Checked,
    redact,
    room::Room,
    state::{self, StateId},
};
use crate::{
    base::{Pos, RoomNum, signing::Identity},
    error::{Error, Result},
    store::{
        Read, WriteTx,
        rows::{EventRow, Standing},
        tables,
    },
};

/// The room that is to be entered, which is made if it is new. 409 if somebody of ours is in it already.
pub fn begin(tx: &WriteTx, me: &Identity, id: &RoomId, version: &RoomVersionId) -> Result<Room> {
    let mut room = doorstep::room_or_new(tx, id, version)?;
    if doorstep::is_inside(tx, me, &room)? {
        return Err(Error::conflict("M_UNKNOWN", "this server is in the room already"));
    }
    room.row.version = version.to_string();
    room.save(tx)?;
    Ok(room)
}

/// Writes events that were judged, as outliers. What is there already stays as it is. Says where each is.
pub fn lay_events(tx: &WriteTx, num: RoomNum, events: &[Told]) -> Result<Vec<Pos>> {
    let room = Room::at(tx, num)?;
    let known = tables::EVENT_IDS.get_all(tx, events.iter().map(|told| told.event.id().as_str()))?;
    let mut new = Vec::with_capacity(events.len());
    let places = events.iter().zip(known).map(|(Told { event, .. }, known)| {
        known.unwrap_or_else(|| {
            let pos = tx.next_pos();
            new.push((event, pos));
            pos
        })
    });
    let places = places.collect();
    let row = |(event, pos): &(&Checked, Pos)| {
        let row = EventRow {
            room: num,
            state_before: 0,
            standing: Standing::Outlier,
            redacted_by: 0,
            order: 0,
            state_after: 0,
            sent_by: None,
            id: event.id().to_string(),
            pdu: event.json().to_owned(),
        };
        (*pos, row)
    };
    let rows: Vec<(Pos, EventRow)> = new.iter().map(row).collect();
    tables::EVENTS.put_all(tx, rows.iter().map(|(pos, row)| (pos, row)))?;
    tables::EVENT_IDS.put_all(tx, new.iter().map(|(event, pos)| (event.id().as_str(), pos)))?;
    if redact::are_waiting(tx)? {
        new.iter().try_for_each(|(event, pos)| redact::meet(tx, &room, *pos, event.pdu()))?;
    }
    Ok(places)
}

/// What a piece of state is kept by: event type and state key.
pub type Key = (String, String);

/// What stands at a piece of state: its event's ID; none where nothing is set any more.
pub type Entry = (Key, Option<OwnedEventId>);

/// What has to be laid down to come from what is laid down already to a state, divided into what may go
/// ahead and what only [`open`] may write: that people of ours are in the room or at its door.
pub fn plan(
    tx: &impl Read,
    me: &Identity,
    room: &Room,
    judged: &BTreeMap<Key, OwnedEventId>,
) -> Result<(Vec<Entry>, Vec<Entry>)> {
    let (mut ahead, mut held) = (Vec::new(), Vec::new());
    for (key, _) in state::all(tx, staged(tx, room)?)? {
        let name = state::key_name(tx, key)?;
        if !judged.contains_key(&name) {
            ahead.push((name, None));
        }
    }
    for (key, id) in judged {
        let ours = key.0 == "m.room.member" && <&UserId>::try_from(key.1.as_str()).is_ok_and(|user| me.owns(user));
        let shows = ours && Pdu::find(tx, id)?.is_some_and(|event| event.membership().as_deref() != Some("leave"));
        let entry = (key.clone(), Some(id.clone()));
        if shows { held.push(entry) } else { ahead.push(entry) }
    }
    Ok((ahead, held))
}

/// The state that the index of a room's members stands at while it is entered.
fn staged(tx: &impl Read, room: &Room) -> Result<StateId> {
    Ok(tables::STAGED.get(tx, room.num)?.unwrap_or(room.row.state))
}

/// Writes a piece of the state.
pub fn lay_state(tx: &WriteTx, num: RoomNum, entries: &[Entry]) -> Result<()> {
    let mut room = Room::at(tx, num)?;
    let before = staged(tx, &room)?;
    let after = with(tx, before, entries)?;
    members::step(tx, &mut room, (before, after), tx.pos()?)?;
    room.save(tx)?;
    tables::STAGED.put(tx, num, &after)
}

fn with(tx: &WriteTx, before: StateId, entries: &[Entry]) -> Result<StateId> {
    state::with(tx, before, &numbered(tx, entries)?)
}

/// Pieces of state by their key's number, with the positions of their events.
pub(super) fn numbered(tx: &WriteTx, entries: &[Entry]) -> Result<BTreeMap<u64, Pos>> {
    let mut changes = BTreeMap::new();
    for ((kind, key), id) in entries {
        let number = state::key_or_new(tx, kind, key)?;
        let pos = match id {
            Some(id) => {
                tables::EVENT_IDS.get(tx, id.as_str())?.ok_or_else(|| Error::internal("a state event is missing"))?
            }
            None => 0,
        };
        changes.insert(number, pos);
    }
    Ok(changes)
}

/// What [`open`] opens.
pub struct Opening<'a> {
    /// The join, as the server in the room has taken it in.
    pub join: &'a Checked,
    /// What [`plan`] held back.
    pub held: &'a [Entry],
}

/// Writes the join on top of the state that was laid down: the room is there.
pub fn open(tx: &WriteTx, me: &Identity, num: RoomNum, opening: &Opening<'_>) -> Result<Pos> {
    let mut room = Room::at(tx, num)?;
    let Some(laid) = tables::STAGED.get(tx, num)? else {
        return Err(Error::internal("a room was opened before its state was there"));
    };
    let pdu = opening.join.pdu();
    let before = with(tx, laid, opening.held)?;
    members::step(tx, &mut room, (laid, before), tx.pos()?)?;
    (room.row.state, room.row.shown) = (before, 0);
    debug_assert!(me.owns(&pdu.sender) && pdu.kind == TimelineEventType::RoomMember);
    enter_by(tx, &mut room, opening.join, before)
}

/// The room begins here with the join: what was laid down beside it is its own now.
pub(super) fn enter_by(tx: &WriteTx, room: &mut Room, join: &Checked, before: StateId) -> Result<Pos> {
    let pdu = join.pdu();
    tables::STAGED.remove(tx, room.num)?;
    tables::STRIPPED.remove(tx, (pdu.sender.as_str(), room.num))?;
    // Whatever was built here before is not what the room builds on now.
    room.row.extremities.clear();
    let incoming = Incoming {
        pdu,
        json: join.json().to_owned(),
        state_before: before,
        standing: Standing::Accepted,
        sent_by: None,
        outgoing: false,
    };
    append::append(tx, room, incoming)
}

#[cfg(test)]
mod tests;
