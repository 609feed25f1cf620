//! The only function that writes an event: everything that follows from it, in one transaction.

use std::collections::BTreeMap;

use super::{
    event::Pdu,
    members,
    outgoing::{self, Outgoing},
    redact, relations, resolve,
    room::Room,
    state::{self, StateId},
};
use crate::{
    base::Pos,
    error::{Error, Result},
    store::{
        WriteTx,
        rows::{EventRow, Place, Standing},
        tables,
    },
};

/// Forward extremities that a room remembers at most. Beyond it the oldest are forgotten: their events
/// stay, but nothing new builds on them.
const MAX_EXTREMITIES: usize = 50;

/// A judged event that is to be written.
pub struct Incoming<'a> {
    /// The event.
    pub pdu: &'a Pdu,
    /// Its JSON as it federates.
    pub json: String,
    /// The state before it.
    pub state_before: StateId,
    /// The verdict.
    pub standing: Standing,
    /// The local device that sent it, and its transaction ID.
    pub sent_by: Option<(String, String)>,
    /// Whether it is for us to tell the room's other servers: it was made here, or was brought into the
    /// room through us.
    pub outgoing: bool,
}

/// Writes an event into its room and returns its position.
pub fn append(tx: &WriteTx, room: &mut Room, incoming: Incoming<'_>) -> Result<Pos> {
    let (pdu, accepted) = (incoming.pdu, incoming.standing == Standing::Accepted);
    let before = incoming.state_before;
    let (outgoing, shared) = (incoming.outgoing, room.row.servers > 1);
    // 1. The event itself, and how to find it.
    let pos = write_event(tx, room, incoming)?;
    if !accepted {
        return Ok(pos);
    }
    // 2. The state after it.
    let after = match &pdu.state_key {
        Some(key) => {
            let key = state::key_or_new(tx, &pdu.name, key)?;
            state::with(tx, before, &BTreeMap::from([(key, pos)]))?
        }
        None => before,
    };
    // 3. The room's forward extremities, its depth, and its current state.
    let old = room.row.state;
    room.row.extremities.retain(|(_, id)| !pdu.prev_events.iter().any(|prev| prev == id));
    room.row.extremities.push((pos, pdu.id.to_string()));
    if room.row.extremities.len() > MAX_EXTREMITIES {
        room.row.extremities.remove(0);
    }
    room.row.depth = room.row.depth.max(pdu.depth);
    room.row.state = match room.row.extremities.len() {
        1 => after,
        _ => resolve::current(tx, room)?,
    };
    room.note(tx, old, pos, pdu)?;
    // 4. Its place in the timeline.
    let order = i64::try_from(pos).map_err(Error::internal)?;
    tables::TIMELINE.put(tx, (room.num, order), &Place { event: pos, state_after: room.row.state })?;
    // 5. What it does to other events.
    redact::apply(tx, room, pos, pdu)?;
    relations::index(tx, room.num, (order, pos), pdu)?;
    // 6. Who is in the room now.
    members::follow(tx, room, old)?;
    // 7. Other servers, also one whose last member it puts out.
    if outgoing && (shared || room.row.servers > 1) {
        room.row.told = pos;
        outgoing::log(tx, pos, &Outgoing::Event { room: room.num })?;
    }
    room.save(tx)?;
    // 8. Whom it concerns.
    tx.wake(|wake| {
        wake.rooms.insert(room.num);
    });
    Ok(pos)
}

fn write_event(tx: &WriteTx, room: &Room, incoming: Incoming<'_>) -> Result<Pos> {
    let pos = tx.next_pos();
    let row = EventRow {
        room: room.num,
        state_before: incoming.state_before,
        standing: incoming.standing,
        redacted_by: 0,
        sent_by: incoming.sent_by,
        id: incoming.pdu.id.to_string(),
        pdu: incoming.json,
    };
    tables::EVENTS.put(tx, pos, &row)?;
    tables::EVENT_IDS.put(tx, row.id.as_str(), &pos)?;
    Ok(pos)
}
