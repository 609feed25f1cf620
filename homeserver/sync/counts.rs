//! Unread counts, as the client wants them divided.

use std::collections::BTreeMap;

use super::turn::Turn;
use crate::{
    error::Result,
    rooms::{Room, timeline::order_of, unread::Count},
    store::Read,
};

/// What is not read, and by thread if the client counts threads by themselves.
pub fn build(turn: &Turn<'_, impl Read>, room: &Room) -> Result<(Count, BTreeMap<String, Count>)> {
    let mut counts = turn.hub.unread.counts(turn.tx, room, &turn.reader, order_of(turn.now))?;
    if let Some(row) = counts.to_save.take() {
        turn.to_save.borrow_mut().push((room.num, row));
    }
    if !turn.ask.filter.room.timeline.unread_thread_notifications {
        return Ok((counts.total(), BTreeMap::new()));
    }
    let main = counts.of("main");
    counts.threads.remove("main");
    Ok((main, counts.threads))
}
