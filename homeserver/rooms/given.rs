//! A state that another server says a room had: events that are kept here, put together. Read over a
//! snapshot, so that only what is different from a state that is here is written.

use std::{collections::BTreeMap, ops::Range};

use ruma::OwnedEventId;

use super::{
    event::Pdu,
    room::Room,
    state::{self, StateId},
};
use crate::{
    base::Pos,
    error::{Error, Result},
    store::{Read, WriteTx, tables},
};

/// A state that is not stored yet.
#[derive(Clone, Debug)]
pub struct Given {
    base: StateId,
    changes: BTreeMap<u64, Pos>,
    /// What stands at keys that have no number yet.
    fresh: Vec<(String, String, Pos)>,
    /// How many of its events are not here.
    pub lacking: usize,
}

impl Given {
    /// How many keys have no number yet.
    pub fn fresh(&self) -> usize {
        self.fresh.len()
    }
}

/// Puts the state together out of those of the events that are here, are of the room, and were not rejected.
/// 502 if that can't be a state of the room.
pub fn read(tx: &impl Read, room: &Room, ids: &[OwnedEventId]) -> Result<Given> {
    let (mut there, mut fresh, mut lacking) = (BTreeMap::new(), Vec::new(), 0);
    let mut begins = false;
    for id in ids {
        let Some(pos) = tables::EVENT_IDS.get(tx, id.as_str())? else {
            lacking += 1;
            continue;
        };
        let pdu = Pdu::at(tx, pos)?;
        let is_here = super::event::row(tx, pos)?.room == room.num;
        let Some(state_key) = pdu.state_key.filter(|_| is_here && !pdu.rejected) else { continue };
        begins |= pdu.name == "m.room.create" && state_key.is_empty();
        match state::key(tx, &pdu.name, &state_key)? {
            Some(key) => drop(there.insert(key, pos)),
            None => fresh.push((pdu.name, state_key, pos)),
        }
    }
    if !begins {
        return Err(Error::bad_gateway("the other server tells of a state without a create event"));
    }
    // What is below the state of a partial room is not known yet, and would be below this one.
    let base = if room.is_partial() { 0 } else { room.row.state };
    let (mut changes, mut old) = (BTreeMap::new(), BTreeMap::new());
    old.extend(state::all(tx, base)?);
    for (key, pos) in &there {
        if old.get(key) != Some(pos) {
            changes.insert(*key, *pos);
        }
    }
    changes.extend(old.keys().filter(|key| !there.contains_key(key)).map(|key| (*key, 0)));
    Ok(Given { base, changes, fresh, lacking })
}

/// Gives some of the keys that have none their numbers: there may be too many for one job.
pub fn number(tx: &WriteTx, given: &Given, some: Range<usize>) -> Result<()> {
    for (kind, state_key, _) in given.fresh.iter().skip(some.start).take(some.len()) {
        state::key_or_new(tx, kind, state_key)?;
    }
    Ok(())
}

/// Stores it.
pub fn store(tx: &WriteTx, given: &Given) -> Result<StateId> {
    let mut changes = given.changes.clone();
    for (kind, state_key, pos) in &given.fresh {
        changes.insert(state::key_or_new(tx, kind, state_key)?, *pos);
    }
    state::with(tx, given.base, &changes)
}
