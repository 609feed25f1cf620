//! Events that are known only as part of somebody's state or of an auth chain: kept with what their own
//! auth events say of them, and without a place in the room.

use ruma::{OwnedEventId, events::TimelineEventType};

use super::{
    auth,
    event::{self, Pdu},
    pdu::Checked,
    redact,
    room::Room,
    second_look,
};
use crate::{
    base::Pos,
    error::{Error, Result},
    store::{
        Read, WriteTx,
        rows::{EventRow, How, Standing},
        tables,
    },
};

/// What came of an event that was to be kept.
#[derive(Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is here, or was: its position. Whether it was rejected, its row says.
    At(Pos),
    /// These of its auth events have to be kept before it.
    Lacks(Vec<OwnedEventId>),
}

/// Keeps an event outside of the timeline. One that is known already is left as it is.
pub fn keep(tx: &WriteTx, room: &Room, event: &Checked) -> Result<Kept> {
    let pdu = event.pdu();
    check_room(room, event)?;
    if let Some(pos) = tables::EVENT_IDS.get(tx, pdu.id.as_str())? {
        return match event::row(tx, pos)?.room == room.num {
            true => Ok(Kept::At(pos)),
            false => Err(Error::forbidden("the event is in another room")),
        };
    }
    let cited = match cited(tx, room, pdu)? {
        Cited::Known(cited) => cited,
        Cited::Lacks(missing) => return Ok(Kept::Lacks(missing)),
    };
    let standing = match auth::check_cited(&room.rules().authorization, pdu, &cited) {
        Ok(()) => Standing::Outlier,
        Err(why) => {
            tracing::debug!(event = %pdu.id, room = %room.row.id, why, "an event is rejected by its auth events");
            Standing::Rejected
        }
    };
    let pos = tx.next_pos();
    let row = EventRow {
        room: room.num,
        state_before: 0,
        standing,
        redacted_by: 0,
        order: 0,
        state_after: 0,
        sent_by: None,
        id: pdu.id.to_string(),
        pdu: event.json().to_owned(),
    };
    tables::EVENTS.put(tx, pos, &row)?;
    tables::EVENT_IDS.put(tx, row.id.as_str(), &pos)?;
    redact::meet(tx, room, pos, pdu)?;
    second_look::came(tx, room, pos, How::Kept)?;
    Ok(Kept::At(pos))
}

/// Refuses an event of another room.
pub(super) fn check_room(room: &Room, event: &Checked) -> Result<()> {
    match event.room_id() == room.id() {
        true => Ok(()),
        false => Err(Error::forbidden("the event is of another room")),
    }
}

/// The events that allow an event.
pub(super) enum Cited {
    /// All of them, with the create event where that is not named.
    Known(Vec<Pdu>),
    /// Those that are not here.
    Lacks(Vec<OwnedEventId>),
}

/// Looks for the events that an event says allow it.
pub(super) fn cited(tx: &impl Read, room: &Room, pdu: &Pdu) -> Result<Cited> {
    let mut wanted = pdu.auth_events.clone();
    let is_create = pdu.kind == TimelineEventType::RoomCreate;
    if room.rules().authorization.room_create_event_id_as_room_id && !is_create {
        wanted.extend(auth::create_of(room.id()));
    }
    let (mut known, mut missing) = (Vec::with_capacity(wanted.len()), Vec::new());
    for id in wanted {
        match Pdu::find(tx, &id)? {
            // In version 12 create events don't say their room: one of another room is none of this one's.
            Some(found) if found.kind == TimelineEventType::RoomCreate && found.room_id.is_none() => {
                if auth::create_of(room.id()).is_some_and(|create| create == found.id) {
                    known.push(found);
                }
            }
            Some(found) => known.push(found),
            None => missing.push(id),
        }
    }
    Ok(if missing.is_empty() { Cited::Known(known) } else { Cited::Lacks(missing) })
}
