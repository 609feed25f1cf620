//! Redaction: emptying an event, for everybody and for good.
//! spec: client-server-api#redactions, rooms/v11#redactions

use ruma::{
    CanonicalJsonObject, EventId, OwnedEventId, UserId, canonical_json::redact_in_place, events::TimelineEventType,
};
use serde::Deserialize;

use super::{
    event::{self, Pdu},
    power::{Action, Powers},
    relations,
    room::Room,
    search,
};
use crate::{
    base::Pos,
    error::{Error, Result},
    store::{Read, WriteTx, rows::EventRow, tables},
};

/// What a redaction event wants to empty.
pub fn target(room: &Room, pdu: &Pdu) -> Option<OwnedEventId> {
    #[derive(Deserialize)]
    struct Content {
        redacts: OwnedEventId,
    }
    if pdu.kind != TimelineEventType::RoomRedaction {
        return None;
    }
    match room.rules().redaction.content_field_redacts {
        true => pdu.content_as::<Content>().map(|content| content.redacts),
        false => pdu.redacts.clone(),
    }
}

/// Whether there are redactions of events that have not come yet.
pub(super) fn are_waiting(tx: &impl Read) -> Result<bool> {
    Ok(tables::REDACTIONS_WAITING.len(tx)? > 0)
}

/// Empties the event at `pos` if redactions of it came first. Whatever comes first, the outcome is the same:
/// a redaction may do what its sender might where it was sent.
pub(super) fn meet(tx: &WriteTx, room: &Room, pos: Pos, pdu: &Pdu) -> Result<()> {
    let id = pdu.id.as_str();
    let waiting = tables::REDACTIONS_WAITING.collect(tx, (id, 0)..=(id, Pos::MAX), |(_, redaction), ()| redaction)?;
    for redaction in waiting {
        tables::REDACTIONS_WAITING.remove(tx, (id, redaction))?;
        if may(tx, room, redaction, &pdu.sender)? {
            empty(tx, room, pos, redaction)?;
        }
    }
    Ok(())
}

/// Empties what the event at `pos` redacts, now or when it comes.
pub(super) fn apply(tx: &WriteTx, room: &Room, pos: Pos, pdu: &Pdu) -> Result<()> {
    let Some(target) = target(room, pdu) else {
        return Ok(());
    };
    match tables::EVENT_IDS.get(tx, target.as_str())? {
        Some(found) => {
            let row = event::row(tx, found)?;
            if row.room == room.num && may(tx, room, pos, &Pdu::at(tx, found)?.sender)? {
                empty(tx, room, found, pos)?;
            }
            Ok(())
        }
        None => tables::REDACTIONS_WAITING.put(tx, (target.as_str(), pos), &()),
    }
}

/// Whether a redaction may empty what somebody sent: by power, or because it came from the same server,
/// which answers for it. spec: rooms/v3#handling-redactions
fn may(tx: &impl Read, room: &Room, redaction: Pos, whose: &UserId) -> Result<bool> {
    let by = Pdu::at(tx, redaction)?.sender;
    let before = event::row(tx, redaction)?.state_before;
    Ok(by.server_name() == whose.server_name() || Powers::at(tx, room, before)?.may(&by, Action::Redact))
}

/// Whether one of our users may redact an event: their own, or by power. Power is enough for what is not here,
/// or shown to nobody: others may have it. 403 if they may not, 404 if there is nothing that they know of.
pub fn check(tx: &impl Read, room: &Room, by: &UserId, target: &EventId) -> Result<()> {
    let unknown = || Error::not_found("there is no such event");
    let is_elsewhere = match tables::EVENT_IDS.get(tx, target.as_str())? {
        Some(pos) => event::row(tx, pos)?.room != room.num,
        None => false,
    };
    if is_elsewhere {
        return Err(unknown());
    }
    let shown = event::shown(tx, room.num, target)?;
    let is_own = match &shown {
        Some((pos, _)) => Pdu::at(tx, *pos)?.sender == by,
        None => false,
    };
    if is_own || Powers::of(tx, room)?.may(by, Action::Redact) {
        return Ok(());
    }
    match shown {
        Some(_) => Err(Error::forbidden("you can't redact what others have sent here")),
        None => Err(unknown()),
    }
}

/// Takes the content out of the stored event. What it related to forgets it.
fn empty(tx: &WriteTx, room: &Room, pos: Pos, by: Pos) -> Result<()> {
    let mut row = event::row(tx, pos)?;
    if row.redacted_by != 0 {
        // The one that was first may yet be found not to have been allowed.
        let may_fall = room.row.looked_at_again && row.redacted_by != by;
        return if may_fall { tables::REDACTIONS_WAITING.put(tx, (&*row.id, by), &()) } else { Ok(()) };
    }
    if room.row.looked_at_again {
        tables::REDACTED_MEANWHILE.put(tx, (room.num, pos), &row.pdu)?;
    }
    search::forget(tx, pos)?;
    if let Some(order) = row.place(pos) {
        relations::forget(tx, room.num, order, &Pdu::at(tx, pos)?)?;
    }
    row = emptied(room, &row)?;
    row.redacted_by = by;
    tables::EVENTS.put(tx, pos, &row)
}

/// Brings what an event redacts in step with what has been found of it when it was judged once more: what it
/// should not have emptied is as it was.
pub(super) fn look_again(tx: &WriteTx, room: &Room, pdu: &Pdu, is_accepted: bool) -> Result<()> {
    let Some(target) = target(room, pdu) else { return Ok(()) };
    let Some(pos) = tables::EVENT_IDS.get(tx, target.as_str())? else {
        return match is_accepted {
            true => apply(tx, room, pdu.pos, pdu),
            false => tables::REDACTIONS_WAITING.remove(tx, (target.as_str(), pdu.pos)).map(drop),
        };
    };
    let mut row = event::row(tx, pos)?;
    if row.room != room.num {
        return Ok(());
    }
    let should = is_accepted && may(tx, room, pdu.pos, &Pdu::at(tx, pos)?.sender)?;
    if should {
        return empty(tx, room, pos, pdu.pos);
    }
    tables::REDACTIONS_WAITING.remove(tx, (target.as_str(), pdu.pos))?;
    if row.redacted_by != pdu.pos {
        return Ok(());
    }
    let Some(whole) = tables::REDACTED_MEANWHILE.get(tx, (room.num, pos))? else { return Ok(()) };
    tables::REDACTED_MEANWHILE.remove(tx, (room.num, pos))?;
    (row.pdu, row.redacted_by) = (whole, 0);
    tables::EVENTS.put(tx, pos, &row)?;
    let restored = Pdu::at(tx, pos)?;
    if let Some(order) = row.place(pos) {
        search::came_late(tx, pos, &restored)?;
        relations::index(tx, room.num, (order, pos), &restored)?;
    }
    meet(tx, room, pos, &restored)
}

/// The event without its content.
pub fn emptied(room: &Room, row: &EventRow) -> Result<EventRow> {
    let mut object: CanonicalJsonObject = serde_json::from_str(&row.pdu).map_err(Error::internal)?;
    redact_in_place(&mut object, &room.rules().redaction, None).map_err(Error::internal)?;
    Ok(EventRow { pdu: serde_json::to_string(&object).map_err(Error::internal)?, ..row.clone() })
}
