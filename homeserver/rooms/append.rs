//! The only function that writes an event: everything that follows from it, in one transaction.

use std::collections::BTreeMap;

use ruma::OwnedEventId;

use super::{
    event::{self, Pdu},
    gaps, guests, members,
    outgoing::{self, Outgoing},
    partial, receipts, redact, relations,
    resolve::{self, Outcome},
    room::Room,
    search, second_look,
    state::{self, Overlay, StateId},
    timeline::order_of,
};
use crate::{
    base::Pos,
    error::{Error, Result},
    store::{
        Read, WriteTx,
        rows::{EventRow, How, Place, Standing},
        tables,
    },
};

/// Forward extremities that a room remembers at most. Beyond it the oldest are forgotten: their events
/// stay, but nothing new builds on them.
const MAX_EXTREMITIES: usize = 50;
/// Events before an event of ours that it names at most; with more, the room's others wait for the next
/// one. spec: rooms/v4#event-format
pub const MAX_PREV: usize = 20;
/// Events that are not part of the room which are looked through for what stands before them.
const MAX_HIDDEN: usize = 100;

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

/// Where an event comes into its room.
pub enum Entry {
    /// At the end of its timeline, with the room's state as it then is, if that was worked out already.
    Live(Option<Present>),
    /// At a place in its timeline before things that have happened since. The room's present stays.
    Past(i64),
}

/// The state of a room with an event that is not written yet.
pub struct Present {
    /// The number by which the event's state key goes there; none for events that are no state.
    pub key: Option<u64>,
    /// The state, in which the event stands at [`resolve::NEW`].
    pub state: Overlay,
}

/// Writes an event at the end of its room and returns its position.
pub fn append(tx: &WriteTx, room: &mut Room, incoming: Incoming<'_>) -> Result<Pos> {
    enter(tx, room, incoming, Entry::Live(None))
}

/// Writes an event into its room and returns its position.
pub fn enter(tx: &WriteTx, room: &mut Room, incoming: Incoming<'_>, entry: Entry) -> Result<Pos> {
    let (pdu, accepted) = (incoming.pdu, incoming.standing == Standing::Accepted);
    let (outgoing, shared) = (incoming.outgoing, room.row.servers > 1);
    let from_outside = incoming.sent_by.is_none() && shared;
    // 1. The event itself, with the state after it, and how to find it; behind a gap, if events before it
    // are not here.
    let is_live = matches!(entry, Entry::Live(_));
    let missing = if accepted && is_live { missing_before(tx, room, pdu)? } else { Vec::new() };
    let last = if missing.is_empty() { None } else { gaps::make_space(tx, room.num)? };
    let Written { pos, order, after, was_known } = write_event(tx, room, incoming, &entry)?;
    if !accepted {
        return Ok(pos);
    }
    if was_known {
        search::came_late(tx, pos, pdu)?;
    }
    if !missing.is_empty() {
        gaps::open(tx, room.num, order, last, missing)?;
    }
    // 2. The room's forward extremities, its depth, and its current state.
    let old = room.row.state;
    if let Entry::Live(known) = entry {
        room.row.extremities = ends_before(tx, room, pdu)?;
        room.row.state = current(tx, room, known, (pos, pdu, after))?;
        room.row.extremities.push((pos, pdu.id.to_string()));
        room.row.depth = room.row.depth.max(pdu.depth);
    }
    // 3. Its place in the timeline.
    partial::follow(tx, room, old)?;
    let state_after = if is_live { room.shown() } else { after };
    tables::TIMELINE.put(tx, (room.num, order), &Place { event: pos, state_after })?;
    // 4. What it does to other events.
    redact::meet(tx, room, pos, pdu)?;
    redact::apply(tx, room, pos, pdu)?;
    relations::index(tx, room.num, (order, pos), pdu)?;
    if !is_live {
        receipts::meet(tx, room, &pdu.id)?;
        return Ok(pos);
    }
    // 5. What lists of rooms show, and who is in the room now.
    let at = u64::try_from(order).map_err(Error::internal)?;
    room.note(tx, old, at, pdu)?;
    let aside = if outgoing { waiting_outside(tx, room, old, pdu)? } else { None };
    members::follow(tx, room, old, at)?;
    guests::follow(tx, room, old)?;
    // 6. Other servers, also one whose last member it puts out, or keeps out.
    if outgoing && (shared || room.row.servers > 1 || aside.is_some()) {
        room.row.told = pos;
        outgoing::log(tx, pos, &Outgoing::Event { room: room.num, aside })?;
    }
    room.save(tx)?;
    if from_outside {
        receipts::meet(tx, room, &pdu.id)?;
    }
    // 7. Whom it concerns.
    tx.wake(|wake| {
        wake.rooms.insert(room.num);
    });
    Ok(pos)
}

/// The events before one that are not in the timeline.
fn missing_before(tx: &impl Read, room: &Room, pdu: &Pdu) -> Result<Vec<OwnedEventId>> {
    let is_end = |id: &OwnedEventId| room.row.extremities.iter().any(|(_, end)| *end == *id);
    let others: Vec<OwnedEventId> = pdu.prev_events.iter().filter(|id| !is_end(id)).cloned().collect();
    gaps::missing_of(tx, &others)
}

/// The server of somebody who was invited or had knocked until this event, if it is not in the room itself:
/// nobody else tells it.
fn waiting_outside(tx: &impl Read, room: &Room, old: StateId, pdu: &Pdu) -> Result<Option<String>> {
    let Some(user) = pdu.state_key.as_deref().filter(|_| pdu.name == "m.room.member") else { return Ok(None) };
    let Ok(user) = <&ruma::UserId>::try_from(user) else { return Ok(None) };
    if pdu.sender == user || matches!(pdu.membership().as_deref(), Some("join" | "invite")) {
        return Ok(None);
    }
    let was = match state::event(tx, old, &ruma::events::StateEventType::RoomMember, user.as_str())? {
        Some(was) => Pdu::at(tx, was)?.membership(),
        None => None,
    };
    let waits = matches!(was.as_deref(), Some("invite" | "knock"));
    let server = user.server_name();
    Ok((waits && !super::servers::is_in(tx, room.num, server)?).then(|| server.to_string()))
}

struct Written {
    pos: Pos,
    order: i64,
    after: StateId,
    /// Whether its row was there before.
    was_known: bool,
}

/// An event that was known as part of somebody's state has its row already, and keeps it.
fn write_event(tx: &WriteTx, room: &Room, incoming: Incoming<'_>, entry: &Entry) -> Result<Written> {
    let (pdu, standing) = (incoming.pdu, incoming.standing);
    let known = match tables::EVENT_IDS.get(tx, pdu.id.as_str())? {
        Some(pos) => Some((pos, event::row(tx, pos)?)),
        None => None,
    };
    if known.as_ref().is_some_and(|(_, row)| row.standing != Standing::Outlier || row.room != room.num) {
        return Err(Error::internal(format!("event {} is in a room already", pdu.id)));
    }
    let pos = known.as_ref().map_or_else(|| tx.next_pos(), |(pos, _)| *pos);
    let other_order = match entry {
        _ if standing != Standing::Accepted => 0,
        Entry::Past(order) => *order,
        Entry::Live(_) if known.is_some() => order_of(tx.next_pos()),
        Entry::Live(_) => 0,
    };
    let after = match &pdu.state_key {
        Some(key) if standing != Standing::Rejected => {
            let key = state::key_or_new(tx, &pdu.name, key)?;
            state::with(tx, incoming.state_before, &BTreeMap::from([(key, pos)]))?
        }
        _ => incoming.state_before,
    };
    if matches!(entry, Entry::Live(_)) && other_order != 0 {
        // Whoever goes by positions finds it at this one.
        tables::LATE_EVENTS.put(tx, u64::try_from(other_order).map_err(Error::internal)?, &pos)?;
    }
    let was_known = known.is_some();
    let (redacted_by, json) = match known {
        Some((_, row)) if row.redacted_by != 0 => (row.redacted_by, row.pdu),
        _ => (0, incoming.json),
    };
    let row = EventRow {
        room: room.num,
        state_before: incoming.state_before,
        standing,
        redacted_by,
        order: other_order,
        state_after: if pdu.state_key.is_some() { after } else { 0 },
        sent_by: incoming.sent_by,
        id: pdu.id.to_string(),
        pdu: json,
    };
    tables::EVENTS.put(tx, pos, &row)?;
    tables::EVENT_IDS.put(tx, row.id.as_str(), &pos)?;
    second_look::came(tx, room, pos, if matches!(entry, Entry::Live(_)) { How::Live } else { How::Late })?;
    Ok(Written { pos, order: if other_order == 0 { order_of(pos) } else { other_order }, after, was_known })
}

/// The forward extremities that stay when an event comes on top. Events that are not part of the room are
/// none, and don't stand between it and what is before them. spec: server-server-api#soft-failure
pub fn ends_before(tx: &impl Read, room: &Room, pdu: &Pdu) -> Result<Vec<(Pos, String)>> {
    let mut covered: Vec<OwnedEventId> = pdu.prev_events.clone();
    let mut looked = 0;
    while let Some(id) = covered.get(looked).cloned() {
        looked += 1;
        if looked > MAX_HIDDEN || room.row.extremities.iter().any(|(_, end)| *end == id) {
            continue;
        }
        let Some(pos) = tables::EVENT_IDS.get(tx, id.as_str())? else { continue };
        if matches!(event::row(tx, pos)?.standing, Standing::SoftFailed | Standing::Rejected) {
            covered.extend(Pdu::at(tx, pos)?.prev_events);
        }
    }
    let mut ends = room.row.extremities.clone();
    ends.retain(|(_, id)| !covered.iter().any(|prev| prev == id));
    let surplus = (ends.len() + 1).saturating_sub(MAX_EXTREMITIES);
    ends.drain(..surplus);
    Ok(ends)
}

/// The state that the next event of ours is sent in: that of the extremities which it names.
pub fn before_next(tx: &impl Read, room: &Room) -> Result<Overlay> {
    if room.row.extremities.len() <= MAX_PREV {
        return Ok(Overlay::of(room.row.state));
    }
    let mut states = Vec::new();
    for (pos, _) in room.row.extremities.iter().take(MAX_PREV) {
        states.push(event::state_after(tx, *pos)?);
    }
    resolved(tx, room, &states)
}

/// Whether an event stands on events after which the room's state was what it is now, so that it can be
/// written as if it stood on what came since.
pub(super) fn is_after_the_same(tx: &impl Read, room: &Room, pdu: &Pdu) -> Result<bool> {
    if room.row.extremities.len() > MAX_PREV {
        return Ok(false);
    }
    for id in &pdu.prev_events {
        let Some(pos) = tables::EVENT_IDS.get(tx, id.as_str())? else { return Ok(false) };
        let row = event::row(tx, pos)?;
        let fits = row.room == room.num && row.standing == Standing::Accepted;
        if !fits || !event::state_after(tx, pos)?.is(tx, room.row.state)? {
            return Ok(false);
        }
    }
    Ok(!pdu.prev_events.is_empty())
}

fn resolved(tx: &impl Read, room: &Room, states: &[Overlay]) -> Result<Overlay> {
    match resolve::resolve(tx, &room.rules(), states, None, resolve::OUTSIDE)? {
        Outcome::Resolved(state) => Ok(state),
        Outcome::TooHeavy => Err(Error::internal("the room's state is too complicated to be resolved")),
    }
}

/// The room's state once an event stands beside its other extremities.
pub(super) fn current(
    tx: &WriteTx,
    room: &Room,
    known: Option<Present>,
    (pos, pdu, after): (Pos, &Pdu, StateId),
) -> Result<StateId> {
    if room.row.extremities.is_empty() {
        return Ok(after);
    }
    if let Some(Present { key, mut state }) = known {
        if let (Some(stood_for), Some(state_key)) = (key, &pdu.state_key) {
            let key = state::key_or_new(tx, &pdu.name, state_key)?;
            state.settle((stood_for, resolve::NEW), (key, pos));
        }
        let near = if state.is(tx, after)? { after } else { room.row.state };
        return state.store(tx, near);
    }
    let mut states = vec![Overlay::of(after)];
    for (pos, _) in &room.row.extremities {
        states.push(event::state_after(tx, *pos)?);
    }
    let state = resolved(tx, room, &states)?;
    let near = if state.is(tx, after)? { after } else { room.row.state };
    state.store(tx, near)
}
