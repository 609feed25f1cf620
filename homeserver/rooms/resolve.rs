//! State resolution: one state out of several, where a room's history has forked.
//! spec: rooms/v2#state-resolution, rooms/v12#state-resolution

use std::collections::{BTreeMap, HashSet};

use ruma::{
    EventId, OwnedEventId,
    events::StateEventType,
    state_res::{self, StateMap},
};

use super::{
    event::{self, Pdu},
    room::Room,
    state::{self, StateId},
};
use crate::{
    base::Pos,
    error::{Error, Result},
    store::{Read, WriteTx, tables},
};

/// Events that one resolution may look at: a bound against rooms that were built to be expensive.
const MAX_EVENTS: usize = 200_000;

/// The state that a room's forward extremities agree on.
pub fn current(tx: &WriteTx, room: &Room) -> Result<StateId> {
    let mut states = Vec::new();
    for (pos, _) in &room.row.extremities {
        states.push(after(tx, *pos)?);
    }
    resolve(tx, room, &states)
}

/// The state after an event.
pub fn after(tx: &WriteTx, pos: Pos) -> Result<StateId> {
    let row = event::row(tx, pos)?;
    let pdu = Pdu::at(tx, pos)?;
    let Some(key) = &pdu.state_key else {
        return Ok(row.state_before);
    };
    let key = state::key_or_new(tx, &pdu.name, key)?;
    state::with(tx, row.state_before, &BTreeMap::from([(key, pos)]))
}

/// The one state that several resolve to.
pub fn resolve(tx: &WriteTx, room: &Room, states: &[StateId]) -> Result<StateId> {
    let mut distinct = states.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let [first, others @ ..] = &distinct[..] else {
        return Ok(0);
    };
    if others.is_empty() {
        return Ok(*first);
    }
    // Keys on which all agree can't change by resolution: only the others are looked at.
    let mut contested = HashSet::new();
    for other in others {
        contested.extend(state::diff(tx, *first, *other)?.into_iter().map(|(key, _)| key));
    }
    let rules = room.rules();
    let v2 = rules.state_res.v2_rules().ok_or_else(|| Error::internal("this room version resolves otherwise"))?;
    let mut maps = Vec::new();
    for state in &distinct {
        maps.push(map(tx, *state)?);
    }
    let mut chains = Vec::new();
    for map in &maps {
        chains.push(auth_chain(tx, map.values().cloned())?.into_iter().collect());
    }
    let resolved = state_res::resolve(
        &rules.authorization,
        v2,
        &maps,
        chains,
        |id| Pdu::find(tx, id).ok().flatten(),
        |conflicted| subgraph(tx, conflicted).ok(),
    )
    .map_err(Error::internal)?;
    let mut changes = BTreeMap::new();
    for key in contested {
        let (kind, state_key) = state::key_name(tx, key)?;
        let pos = match resolved.get(&(StateEventType::from(kind), state_key)) {
            Some(id) => position(tx, id)?,
            None => 0,
        };
        changes.insert(key, pos);
    }
    state::with(tx, *first, &changes)
}

fn map(tx: &impl Read, state: StateId) -> Result<StateMap<OwnedEventId>> {
    let mut out = StateMap::new();
    for (key, pos) in state::all(tx, state)? {
        let (kind, state_key) = state::key_name(tx, key)?;
        out.insert((StateEventType::from(kind), state_key), event::parse_id(&event::row(tx, pos)?.id)?);
    }
    Ok(out)
}

fn position(tx: &impl Read, id: &EventId) -> Result<Pos> {
    tables::EVENT_IDS.get(tx, id.as_str())?.ok_or_else(|| Error::internal(format!("event {id} is missing")))
}

/// Every event that some events build their permission on, with themselves.
pub fn auth_chain(tx: &impl Read, from: impl IntoIterator<Item = OwnedEventId>) -> Result<HashSet<OwnedEventId>> {
    let mut waiting: Vec<_> = from.into_iter().collect();
    let mut seen = HashSet::new();
    while let Some(id) = waiting.pop() {
        if seen.contains(&id) {
            continue;
        }
        if seen.len() >= MAX_EVENTS {
            return Err(Error::internal("an auth chain is too long to resolve"));
        }
        if let Some(pdu) = Pdu::find(tx, &id)? {
            waiting.extend(pdu.auth_events);
        }
        seen.insert(id);
    }
    Ok(seen)
}

/// The events that lie on a path between two conflicted events, with those: what each can reach
/// backwards along auth events and what can be reached from there to another one.
/// spec: rooms/v12#state-resolution (conflicted state subgraph)
fn subgraph(
    tx: &impl Read,
    conflicted: &StateMap<Vec<OwnedEventId>>,
) -> Result<state_res::utils::event_id_set::EventIdSet<OwnedEventId>> {
    let ends: HashSet<OwnedEventId> = conflicted.values().flatten().cloned().collect();
    // 1. Everything below the conflicted events, and who stands directly above each.
    let mut above: BTreeMap<OwnedEventId, Vec<OwnedEventId>> = BTreeMap::new();
    for id in auth_chain(tx, ends.iter().cloned())? {
        let Some(pdu) = Pdu::find(tx, &id)? else { continue };
        for cited in pdu.auth_events {
            above.entry(cited).or_default().push(id.clone());
        }
    }
    // 2. From each conflicted event upwards: what is met lies above one and below another.
    let mut out: HashSet<OwnedEventId> = HashSet::new();
    let mut waiting: Vec<OwnedEventId> = ends.into_iter().collect();
    while let Some(id) = waiting.pop() {
        if out.insert(id.clone()) {
            waiting.extend(above.get(&id).into_iter().flatten().cloned());
        }
    }
    Ok(out.into_iter().collect())
}
