//! Where a room's timeline is missing something: history from before this server came in, and what it
//! did not hear of while it was away. A gap stands just before a place of the timeline, and knows which
//! events stand at its end. What is fetched later goes between.

use ruma::{EventId, OwnedEventId};

use super::{event, room::Room, timeline};
use crate::{
    base::{Pos, RoomNum},
    error::Result,
    store::{
        Flow, Read, WriteTx,
        rows::{GapRow, Standing},
        tables,
    },
};

/// Positions that are left free for what belongs into a gap: a bound on how much of it can be fetched.
const SPACE: u64 = 1 << 20;
/// Places that are left on both sides of what is put into the middle of a gap, at least; and behind it, where
/// nothing stands before the gap, so many: more than any room has events.
const APART: i64 = 10_000;
const FAR: i64 = 1 << 32;
/// Events at the end of a gap that are remembered.
const MAX_MISSING: usize = 100;

/// A gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The place after it.
    pub before: i64,
    /// What is known of it.
    pub row: GapRow,
}

impl Gap {
    /// The last place that may be before it.
    pub fn start(&self) -> i64 {
        self.row.after.unwrap_or_else(|| self.before.saturating_sub(1))
    }
}

/// Leaves space for what is missing before an event that is about to be written, and returns the last
/// place before it.
pub fn make_space(tx: &WriteTx, room: RoomNum) -> Result<Option<i64>> {
    let last = timeline::last(tx, room, i64::MAX)?.map(|(order, _)| order);
    tx.skip_positions(SPACE);
    Ok(last)
}

/// Notes that the events before a place are missing. `after` is what [`make_space`] said.
pub fn open(
    tx: &WriteTx,
    room: RoomNum,
    before: i64,
    after: Option<i64>,
    missing: impl IntoIterator<Item = OwnedEventId>,
) -> Result<()> {
    let missing = missing.into_iter().take(MAX_MISSING).map(|id| id.to_string()).collect();
    tables::GAPS.put(tx, (room, before), &GapRow { missing, after })
}

/// Those of some events that are in no timeline here, nor hidden: the ends of a gap.
pub fn missing_of(tx: &impl Read, ids: &[OwnedEventId]) -> Result<Vec<OwnedEventId>> {
    let mut out = Vec::new();
    for id in ids {
        if !is_here(tx, id)? {
            out.push(id.clone());
        }
    }
    Ok(out)
}

fn is_here(tx: &impl Read, id: &EventId) -> Result<bool> {
    match tables::EVENT_IDS.get(tx, id.as_str())? {
        Some(pos) => Ok(event::row(tx, pos)?.standing != Standing::Outlier),
        None => Ok(false),
    }
}

/// The gap at whose end an event is missing.
pub fn awaiting(tx: &impl Read, room: RoomNum, id: &EventId) -> Result<Option<Gap>> {
    let mut found = None;
    tables::GAPS.scan(tx, (room, i64::MIN)..=(room, i64::MAX), |(_, before), row| {
        if row.missing.iter().any(|missing| missing == id.as_str()) {
            found = Some(Gap { before, row });
            return Ok(Flow::Stop);
        }
        Ok(Flow::Next)
    })?;
    Ok(found)
}

/// The latest gap whose end is at or before a place.
pub fn last(tx: &impl Read, room: RoomNum, upto: i64) -> Result<Option<Gap>> {
    let mut found = None;
    tables::GAPS.scan_back(tx, (room, i64::MIN)..=(room, upto), |(_, before), row| {
        found = Some(Gap { before, row });
        Ok(Flow::Stop)
    })?;
    Ok(found)
}

/// The earliest gap.
pub fn first(tx: &impl Read, room: RoomNum) -> Result<Option<Gap>> {
    next(tx, room, i64::MIN)
}

/// The next gap that ends after a place.
pub fn next(tx: &impl Read, room: RoomNum, after: i64) -> Result<Option<Gap>> {
    let mut found = None;
    tables::GAPS.scan(tx, (room, after.saturating_add(1))..=(room, i64::MAX), |(_, before), row| {
        found = Some(Gap { before, row });
        Ok(Flow::Stop)
    })?;
    Ok(found)
}

/// The same, but not that before everything which is here.
pub fn next_inner(tx: &impl Read, room: RoomNum, after: i64) -> Result<Option<Gap>> {
    match next(tx, room, after)? {
        Some(outer) if outer.row.after.is_none() => next(tx, room, outer.before),
        inner => Ok(inner),
    }
}

/// The part of a gap into which a piece of history is put that stands apart from the gap's end, so that what is
/// between can still be put in. None if the gap is too narrow for that.
pub fn lower(gap: &Gap) -> Option<Gap> {
    let end = place(gap)?;
    let top = match gap.row.after {
        Some(after) => after.midpoint(end),
        None => end.checked_sub(FAR)?,
    };
    let is_wide = end - top > APART && gap.row.after.is_none_or(|after| top - after > APART);
    let row = GapRow { missing: Vec::new(), after: gap.row.after };
    is_wide.then(|| Gap { before: top.saturating_add(1), row })
}

/// The place for the next event that is put at the end of a gap. None if there is no room left.
pub fn place(gap: &Gap) -> Option<i64> {
    let place = match gap.row.after {
        Some(_) => gap.before.checked_sub(1)?,
        // Nothing stands before: history from before our time is numbered below zero.
        None => gap.before.min(0).checked_sub(1)?,
    };
    gap.row.after.is_none_or(|after| place > after).then_some(place)
}

/// Moves a gap back before an event that was missing at its end, or closes it if nothing is missing any
/// more. One that has no place, since it is not part of the room, leaves the end where it is.
pub fn met(tx: &WriteTx, room: &Room, gap: Gap, pos: Pos) -> Result<()> {
    let place = event::row(tx, pos)?.place(pos).unwrap_or(gap.before);
    let behind = event::Pdu::at(tx, pos)?.prev_events;
    moved(tx, room.num, gap, place, behind)
}

/// Moves the end of a gap to a place, with the events that stand behind it there; or closes the gap if all
/// of them are here.
pub fn moved(tx: &WriteTx, room: RoomNum, gap: Gap, place: i64, behind: Vec<OwnedEventId>) -> Result<()> {
    tables::GAPS.remove(tx, (room, gap.before))?;
    let mut missing = behind;
    for id in &gap.row.missing {
        missing.push(event::parse_id(id)?);
    }
    missing.sort_unstable();
    missing.dedup();
    let missing = missing_of(tx, &missing)?;
    match missing.is_empty() {
        true => Ok(()),
        false => open(tx, room, place, gap.row.after, missing),
    }
}

/// Notes that a gap begins only after a place now.
pub fn narrow(tx: &WriteTx, room: RoomNum, gap: Gap, after: i64) -> Result<()> {
    tables::GAPS.put(tx, (room, gap.before), &GapRow { after: Some(after), ..gap.row })
}

/// Forgets that events are missing which nobody has any more.
pub fn give_up(tx: &WriteTx, room: RoomNum, before: i64) -> Result<()> {
    tables::GAPS.remove(tx, (room, before)).map(drop)
}
