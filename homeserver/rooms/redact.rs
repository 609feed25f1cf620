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
    timeline::order_of,
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

/// Empties what the event at `pos` redacts, or the event itself if a redaction of it came first.
pub(super) fn apply(tx: &WriteTx, room: &Room, pos: Pos, pdu: &Pdu) -> Result<()> {
    let waiting = tables::REDACTIONS_AHEAD.get(tx, pdu.id.as_str())?;
    if let Some(redaction) = waiting {
        tables::REDACTIONS_AHEAD.remove(tx, pdu.id.as_str())?;
        let by = Pdu::at(tx, redaction)?;
        if may(tx, room, &by.sender, &pdu.sender)? {
            empty(tx, room, pos, redaction)?;
        }
    }
    let Some(target) = target(room, pdu) else {
        return Ok(());
    };
    match tables::EVENT_IDS.get(tx, target.as_str())? {
        Some(found) => {
            let victim = Pdu::at(tx, found)?;
            let same_room = event::row(tx, found)?.room == room.num;
            if same_room && may(tx, room, &pdu.sender, &victim.sender)? {
                empty(tx, room, found, pos)?;
            }
            Ok(())
        }
        None => tables::REDACTIONS_AHEAD.put(tx, target.as_str(), &pos),
    }
}

/// Whether somebody may redact what somebody else sent: by power, or because it came from the same
/// server, which answers for it. spec: rooms/v3#handling-redactions
fn may(tx: &impl Read, room: &Room, by: &UserId, whose: &UserId) -> Result<bool> {
    Ok(by.server_name() == whose.server_name() || Powers::of(tx, room)?.may(by, Action::Redact))
}

/// Whether one of our users may redact an event: their own, or by power. 403 if not, 404 if there is
/// no such event in the room.
pub fn check(tx: &impl Read, room: &Room, by: &UserId, target: &EventId) -> Result<()> {
    let (pos, _) = event::shown(tx, room.num, target)?.ok_or_else(|| Error::not_found("there is no such event"))?;
    if Pdu::at(tx, pos)?.sender == by || Powers::of(tx, room)?.may(by, Action::Redact) {
        return Ok(());
    }
    Err(Error::forbidden("you can't redact what others have sent here"))
}

/// Takes the content out of the stored event. What it related to forgets it.
fn empty(tx: &WriteTx, room: &Room, pos: Pos, by: Pos) -> Result<()> {
    let mut row = event::row(tx, pos)?;
    if row.redacted_by != 0 {
        return Ok(());
    }
    search::forget(tx, pos)?;
    relations::forget(tx, room.num, order_of(pos), &Pdu::at(tx, pos)?)?;
    row = emptied(room, &row)?;
    row.redacted_by = by;
    tables::EVENTS.put(tx, pos, &row)
}

/// The event without its content.
pub(super) fn emptied(room: &Room, row: &EventRow) -> Result<EventRow> {
    let mut object: CanonicalJsonObject = serde_json::from_str(&row.pdu).map_err(Error::internal)?;
    redact_in_place(&mut object, &room.rules().redaction, None).map_err(Error::internal)?;
    Ok(EventRow { pdu: serde_json::to_string(&object).map_err(Error::internal)?, ..row.clone() })
}
