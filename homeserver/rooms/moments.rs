//! Which event of a room was sent at about a time. Timelines stand in the order in which events came, which
//! is nearly that in which they were sent: the search halves what is left, then looks around.
//! spec: client-server-api#get_matrixclientv1roomsroomidtimestamp_to_event

use ruma::{OwnedEventId, api::Direction};

use super::{
    event::{self, Slices},
    room::Room,
    timeline,
};
use crate::{
    error::Result,
    store::{Read, rows::Place},
};

/// Halvings: more than any timeline needs.
const MAX_STEPS: usize = 70;
/// Events around the place that was found which are looked at on each side, as clocks differ.
const AROUND: usize = 200;

/// Which way from a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Towards {
    /// At it or after it.
    Future,
    /// At it or before it.
    Past,
}

impl From<Direction> for Towards {
    fn from(direction: Direction) -> Self {
        if direction == Direction::Forward { Self::Future } else { Self::Past }
    }
}

/// The event nearest to a time that way, with when it was sent.
pub fn nearest(tx: &impl Read, room: &Room, ts: u64, towards: Towards) -> Result<Option<(OwnedEventId, u64)>> {
    let found = nearest_that(tx, room, ts, towards, |_| Ok(true))?;
    found.map(|(_, id, ts)| Ok((event::parse_id(&id)?, ts))).transpose()
}

/// The event nearest to a time that way of those that `fits` lets pass: its place, its ID, when it was sent.
pub fn nearest_that(
    tx: &impl Read,
    room: &Room,
    ts: u64,
    towards: Towards,
    mut fits: impl FnMut(&Place) -> Result<bool>,
) -> Result<Option<(i64, String, u64)>> {
    let Some((first, _)) = timeline::forward(tx, room.num, i64::MIN, i64::MAX, 1)?.pop() else { return Ok(None) };
    let Some((last, _)) = timeline::last(tx, room.num, i64::MAX)? else { return Ok(None) };
    // The first place that is not before the time, if clocks agreed.
    let (mut low, mut high) = (first, last.saturating_add(1));
    for _ in 0..MAX_STEPS {
        if low >= high {
            break;
        }
        let middle = low.midpoint(high);
        match timeline::forward(tx, room.num, middle.saturating_sub(1), high.saturating_sub(1), 1)?.pop() {
            Some((order, place)) if sent_at(tx, &place)?.1 < ts => low = order + 1,
            _ => high = middle,
        }
    }
    let mut near = timeline::back(tx, room.num, i64::MIN, low.saturating_sub(1), AROUND)?;
    near.extend(timeline::forward(tx, room.num, low.saturating_sub(1), i64::MAX, AROUND)?);
    let mut best: Option<(u64, i64, String, u64)> = None;
    for (order, place) in near {
        let (id, sent) = sent_at(tx, &place)?;
        let is_there = if towards == Towards::Future { sent >= ts } else { sent <= ts };
        let away = sent.abs_diff(ts);
        if is_there && best.as_ref().is_none_or(|(least, ..)| away < *least) && fits(&place)? {
            best = Some((away, order, id, sent));
        }
    }
    Ok(best.map(|(_, order, id, sent)| (order, id, sent)))
}

fn sent_at(tx: &impl Read, place: &Place) -> Result<(String, u64)> {
    let row = event::row(tx, place.event)?;
    let sent = Slices::of(&row)?.origin_server_ts;
    Ok((row.id, sent))
}
