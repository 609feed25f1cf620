//! Forgetting what was said in a room. State events stay, as the room's rules and what people were to it are
//! made of them, and so do redactions, which say why something is empty.

use ruma::events::TimelineEventType;

use super::{event::Pdu, relations, room::Room, search};
use crate::{
    base::RoomNum,
    error::Result,
    store::{Flow, LAST, Read, WriteTx, tables},
};

/// Forgets what was said among the first `most` events after a place. None once there are no further ones.
pub fn some(tx: &WriteTx, room: &Room, after: i64, most: usize) -> Result<Option<i64>> {
    let places = places(tx, room.num, after, most)?;
    for (order, pos) in &places {
        if *pos == 0 {
            continue;
        }
        let pdu = Pdu::at(tx, *pos)?;
        if pdu.state_key.is_some() || pdu.kind == TimelineEventType::RoomRedaction {
            continue;
        }
        let id = pdu.id.as_str();
        search::forget(tx, *pos)?;
        relations::forget(tx, room.num, *order, &pdu)?;
        tables::RELATED.remove_range(tx, (room.num, id, "", i64::MIN)..=(room.num, id, LAST, i64::MAX))?;
        tables::DESCENDANTS.remove_range(tx, (room.num, id, i64::MIN)..=(room.num, id, i64::MAX))?;
        tables::TIMELINE.remove(tx, (room.num, *order))?;
        tables::EVENT_IDS.remove(tx, id)?;
        tables::EVENTS.remove(tx, *pos)?;
    }
    let last = places.last().map(|(order, _)| *order);
    if last.is_none() {
        tables::RECEIPTS.remove_range(tx, (room.num, "", "", "")..=(room.num, LAST, LAST, LAST))?;
        tables::EARLY_RECEIPTS.remove_range(tx, (room.num, "", "", "")..=(room.num, LAST, LAST, LAST))?;
        tables::RECEIPT_LOG.remove_range(tx, (room.num, 0)..=(room.num, u64::MAX))?;
    }
    Ok(last)
}

fn places(tx: &impl Read, room: RoomNum, after: i64, most: usize) -> Result<Vec<(i64, u64)>> {
    let mut out = Vec::new();
    if after == i64::MAX {
        return Ok(out);
    }
    tables::TIMELINE.scan(tx, (room, after.saturating_add(1))..=(room, i64::MAX), |(_, order), place| {
        out.push((order, place.event));
        Ok(if out.len() < most { Flow::Next } else { Flow::Stop })
    })?;
    Ok(out)
}
