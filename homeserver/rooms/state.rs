//! Room state: which event stands at each (type, state key), after every event.
//!
//! A state is a stack of layers, named by the topmost one: each layer holds what differs from the one
//! below. States are immutable and shared: a message does not make one, and a state event adds a layer
//! of one entry. A new layer that has grown to at least half of the one below takes it in, so that
//! sizes at least double from layer to layer downwards: a stack has at most log₂(n) layers, and a
//! change costs O(log n) entries over time, however many members a room has.
//!
//! Of a room that was entered before all its members were known, the lowest layer is an *open* one
//! ([`open`]): it stands for them, and every state of that room is built on it. Once they are known,
//! [`close`] puts them below it, and with that into all those states at once.
//!
//! Keys are numbers (`STATE_KEYS`); member keys have their top bit set, so that state without members
//! is found without looking at names.

use std::{collections::BTreeMap, sync::Arc};

use ruma::events::StateEventType;

use crate::{
    base::Pos,
    error::{Error, Result},
    store::{Read, WriteTx, rows::Layer, tables},
};

/// A state. Equal ID, equal state. 0 is the empty state.
pub type StateId = u64;

/// Set in the numbers of `m.room.member` keys.
const MEMBER: u64 = 1 << 63;

/// Whether a key number is that of somebody's membership.
pub fn is_member(key: u64) -> bool {
    key & MEMBER != 0
}

/// The number of a key, if any room has ever had it.
pub fn key(tx: &impl Read, kind: &str, key: &str) -> Result<Option<u64>> {
    tables::STATE_KEYS.get(tx, (kind, key))
}

/// The number of a key, given now if it had none.
pub fn key_or_new(tx: &WriteTx, kind: &str, key: &str) -> Result<u64> {
    match tables::STATE_KEYS.get(tx, (kind, key))? {
        Some(number) => Ok(number),
        None => Ok(new_keys(tx, kind, &[key])?[0]),
    }
}

/// The same for keys of one type, each of which stands there once.
pub fn keys_or_new(tx: &WriteTx, kind: &str, keys: &[&str]) -> Result<Vec<u64>> {
    let known = tables::STATE_KEYS.get_all(tx, keys.iter().map(|key| (kind, *key)))?;
    let unknown = keys.iter().zip(&known).filter(|(_, known)| known.is_none()).map(|(key, _)| *key);
    let mut new = new_keys(tx, kind, &unknown.collect::<Vec<_>>())?.into_iter();
    Ok(known.into_iter().filter_map(|known| known.or_else(|| new.next())).collect())
}

fn new_keys(tx: &WriteTx, kind: &str, keys: &[&str]) -> Result<Vec<u64>> {
    let is_member = if kind == "m.room.member" { MEMBER } else { 0 };
    let numbers: Vec<u64> = keys.iter().map(|_| tx.next_pos() | is_member).collect();
    tables::STATE_KEYS.put_all(tx, keys.iter().map(|key| (kind, *key)).zip(&numbers))?;
    // A type may hold line feeds too: then its length comes first.
    let name = |key: &&str| match kind.contains('\n') || kind.is_empty() {
        true => format!("\n{}\n{kind}\n{key}", kind.len()),
        false => format!("{kind}\n{key}"),
    };
    let names: Vec<String> = keys.iter().map(name).collect();
    tables::STATE_KEY_NAMES.put_all(tx, numbers.iter().zip(&names))?;
    Ok(numbers)
}

/// The (type, state key) that a number stands for.
pub fn key_name(tx: &impl Read, number: u64) -> Result<(String, String)> {
    let name = tables::STATE_KEY_NAMES.get(tx, number)?;
    let missing = || Error::internal(format!("state key {number} is missing"));
    let name: String = name.ok_or_else(missing)?;
    let (kind, key) = match name.strip_prefix('\n').and_then(|rest| rest.split_once('\n')) {
        Some((length, rest)) => {
            let length = length.parse().map_err(|_| missing())?;
            let (kind, key) = rest.split_at_checked(length).ok_or_else(missing)?;
            (kind, key.strip_prefix('\n').ok_or_else(missing)?)
        }
        None => name.split_once('\n').ok_or_else(missing)?,
    };
    Ok((kind.to_owned(), key.to_owned()))
}

/// The position of the event that stands at a key.
pub fn event(tx: &impl Read, state: StateId, kind: &StateEventType, state_key: &str) -> Result<Option<Pos>> {
    match key(tx, &kind.to_string(), state_key)? {
        Some(number) => at(tx, state, number),
        None => Ok(None),
    }
}

/// The position of the event that stands at a key number.
pub fn at(tx: &impl Read, state: StateId, key: u64) -> Result<Option<Pos>> {
    look_for(tx, state, key, false)
}

/// The same, of what is not only for the time being: in an open layer nothing is found.
pub fn at_firmly(tx: &impl Read, state: StateId, key: u64) -> Result<Option<Pos>> {
    look_for(tx, state, key, true)
}

fn look_for(tx: &impl Read, state: StateId, key: u64, firmly: bool) -> Result<Option<Pos>> {
    let mut id = state;
    while id != 0 && id != Layer::UNKNOWN {
        let layer = tx.layer(id)?;
        if firmly && layer.is_open() {
            break;
        }
        if let Ok(index) = layer.entries.binary_search_by_key(&key, |(key, _)| *key) {
            return Ok(Some(layer.entries[index].1).filter(|pos| *pos != 0));
        }
        id = layer.below;
    }
    Ok(None)
}

/// The state that differs from `base` by `changes` (0 as position: the key is not set).
pub fn with(tx: &WriteTx, base: StateId, changes: &BTreeMap<u64, Pos>) -> Result<StateId> {
    let mut entries = Vec::with_capacity(changes.len());
    for (key, pos) in changes {
        if at_firmly(tx, base, *key)?.unwrap_or(0) != *pos {
            entries.push((*key, *pos));
        }
    }
    if entries.is_empty() {
        return Ok(base);
    }
    let mut layer = Layer { below: base, entries };
    while layer.below != 0 {
        let below = tx.layer(layer.below)?;
        if below.is_open() || layer.entries.len() * 2 < below.entries.len() {
            break;
        }
        layer = Layer { below: below.below, entries: merge(&below.entries, &layer.entries) };
    }
    if layer.below == 0 {
        layer.entries.retain(|(_, pos)| *pos != 0);
    }
    let id = tx.next_pos();
    tables::STATES.put(tx, id, &layer)?;
    Ok(id)
}

/// A new open layer: what is below it is not known yet, and `entries` are for the time being.
pub fn open(tx: &WriteTx, entries: &BTreeMap<u64, Pos>) -> Result<StateId> {
    let id = tx.next_pos();
    let entries = entries.iter().map(|(key, pos)| (*key, *pos)).collect();
    tables::STATES.put(tx, id, &Layer { below: Layer::UNKNOWN, entries })?;
    Ok(id)
}

/// Puts something into an open layer for the time being.
pub fn suppose(tx: &WriteTx, open: StateId, (key, pos): (u64, Pos)) -> Result<()> {
    let mut layer = Layer::clone(&*open_layer(tx, open)?);
    layer.entries = merge(&layer.entries, &[(key, pos)]);
    tables::STATES.put(tx, open, &layer)
}

/// Puts below an open layer what was not known: it has nothing of its own any more.
pub fn close(tx: &WriteTx, open: StateId, below: StateId) -> Result<()> {
    open_layer(tx, open)?;
    tables::STATES.put(tx, open, &Layer { below, entries: Vec::new() })
}

fn open_layer(tx: &WriteTx, id: StateId) -> Result<Arc<Layer>> {
    let layer = tx.layer(id)?;
    if layer.is_open() { Ok(layer) } else { Err(Error::internal(format!("state {id} is not open"))) }
}

/// The layer below a state that is, or was, an open one.
pub(super) fn open_below(tx: &impl Read, state: StateId) -> Result<Option<Arc<Layer>>> {
    let mut id = state;
    while id != 0 {
        let layer = tx.layer(id)?;
        if layer.may_change() {
            return Ok(Some(layer));
        }
        id = layer.below;
    }
    Ok(None)
}

/// Both sorted lists in one, the upper one's entries where both have a key.
fn merge(lower: &[(u64, Pos)], upper: &[(u64, Pos)]) -> Vec<(u64, Pos)> {
    let mut out = Vec::with_capacity(lower.len() + upper.len());
    let mut rest = upper;
    for entry in lower {
        let before = rest.partition_point(|(key, _)| *key < entry.0);
        out.extend_from_slice(&rest[..before]);
        rest = &rest[before..];
        if rest.first().is_none_or(|(key, _)| *key != entry.0) {
            out.push(*entry);
        }
    }
    out.extend_from_slice(rest);
    out
}

/// A state that need not be stored: a stored one, and what is different from it (0: not set).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Overlay {
    /// The stored one.
    pub base: StateId,
    /// Key number to position.
    pub changes: BTreeMap<u64, Pos>,
}

impl Overlay {
    /// A stored state as it is.
    pub fn of(base: StateId) -> Self {
        Self { base, changes: BTreeMap::new() }
    }

    /// The position of the event that stands at a key number.
    pub fn at(&self, tx: &impl Read, key: u64) -> Result<Option<Pos>> {
        match self.changes.get(&key) {
            Some(pos) => Ok(Some(*pos).filter(|pos| *pos != 0)),
            None => at(tx, self.base, key),
        }
    }

    /// The position of the event that stands at a key.
    pub fn event(&self, tx: &impl Read, kind: &str, state_key: &str) -> Result<Option<Pos>> {
        match key(tx, kind, state_key)? {
            Some(number) => self.at(tx, number),
            None => Ok(None),
        }
    }

    /// Puts an event at a key number, or with 0 none.
    pub fn set(&mut self, tx: &impl Read, key: u64, pos: Pos) -> Result<()> {
        match at_firmly(tx, self.base, key)?.unwrap_or(0) == pos {
            true => drop(self.changes.remove(&key)),
            false => drop(self.changes.insert(key, pos)),
        }
        Ok(())
    }

    /// Gives an event that was not stored yet its place: its key's number and its position, for those that
    /// stood for them.
    pub fn settle(&mut self, (stood_for_key, stood_for): (u64, Pos), (key, pos): (u64, Pos)) {
        if let Some(found) = self.changes.remove(&stood_for_key) {
            self.changes.insert(key, if found == stood_for { pos } else { found });
        }
    }

    /// Key numbers at which it may be different from another.
    pub fn keys_apart(&self, tx: &impl Read, other: &Self) -> Result<std::collections::BTreeSet<u64>> {
        let stored = diff(tx, self.base, other.base)?.into_iter().map(|(key, _)| key);
        Ok(stored.chain(self.changes.keys().copied()).chain(other.changes.keys().copied()).collect())
    }

    /// Whether it is the same as a stored one.
    pub fn is(&self, tx: &impl Read, other: StateId) -> Result<bool> {
        for key in self.keys_apart(tx, &Self::of(other))? {
            if self.at(tx, key)? != at(tx, other, key)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Every (key number, position) that is set.
    pub fn all(&self, tx: &impl Read) -> Result<Vec<(u64, Pos)>> {
        let changes: Vec<_> = self.changes.iter().map(|(key, pos)| (*key, *pos)).collect();
        let mut out = merge(&all(tx, self.base)?, &changes);
        out.retain(|(_, pos)| *pos != 0);
        Ok(out)
    }

    /// Stores it. `near` is a state that it may be the same as: equal states should have one ID.
    pub fn store(&self, tx: &WriteTx, near: StateId) -> Result<StateId> {
        match near != self.base && self.is(tx, near)? {
            true => Ok(near),
            false => with(tx, self.base, &self.changes),
        }
    }
}

/// Every (key number, position) of a state, by key number: members come last.
pub fn all(tx: &impl Read, state: StateId) -> Result<Vec<(u64, Pos)>> {
    let layers = stack(tx, state)?;
    let mut out = Vec::new();
    for (_, layer) in layers.iter().rev() {
        out = merge(&out, &layer.entries);
    }
    out.retain(|(_, pos)| *pos != 0);
    Ok(out)
}

/// Every (key number, position) that is no membership.
pub fn without_members(tx: &impl Read, state: StateId) -> Result<Vec<(u64, Pos)>> {
    let layers = stack(tx, state)?;
    let mut out = Vec::new();
    for (_, layer) in layers.iter().rev() {
        let end = layer.entries.partition_point(|(key, _)| !is_member(*key));
        out = merge(&out, &layer.entries[..end]);
    }
    out.retain(|(_, pos)| *pos != 0);
    Ok(out)
}

/// What one has to set in `from` to get `to`: 0 as position where the key is no longer set.
pub fn diff(tx: &impl Read, from: StateId, to: StateId) -> Result<Vec<(u64, Pos)>> {
    if from == to {
        return Ok(Vec::new());
    }
    let (old, new) = (stack(tx, from)?, stack(tx, to)?);
    let mut keys = std::collections::BTreeSet::new();
    for (mine, theirs) in [(&old, &new), (&new, &old)] {
        for (id, layer) in mine {
            if !theirs.iter().any(|(other, _)| other == id) {
                keys.extend(layer.entries.iter().map(|(key, _)| *key));
            }
        }
    }
    let mut out = Vec::new();
    for key in keys {
        let now = look(&new, key);
        if look(&old, key) != now {
            out.push((key, now));
        }
    }
    Ok(out)
}

type Stack = Vec<(StateId, Arc<Layer>)>;

/// The layers of a state, the topmost first.
fn stack(tx: &impl Read, state: StateId) -> Result<Stack> {
    let mut out = Vec::new();
    let mut id = state;
    while id != 0 && id != Layer::UNKNOWN {
        let layer = tx.layer(id)?;
        let below = layer.below;
        out.push((id, layer));
        id = below;
    }
    Ok(out)
}

fn look(stack: &Stack, key: u64) -> Pos {
    for (_, layer) in stack {
        if let Ok(index) = layer.entries.binary_search_by_key(&key, |(key, _)| *key) {
            return layer.entries[index].1;
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::{Options, Store};

    fn store(dir: &std::path::Path) -> Store {
        let options = Options { page_cache: 1 << 20, state_cache: 1 << 16, min_free: 0 };
        Store::open(&dir.join("hearth.redb"), options, Box::new(|_, _| {})).expect("opens")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        /// Stacked deltas say the same as full maps, for every state and every pair of states.
        #[test]
        fn layers_agree_with_full_maps(changes in prop::collection::vec(
            (any::<prop::sample::Index>(), prop::collection::btree_map((0u64..40).prop_map(|key| (key % 20 + 1) | ((key / 20) << 63)), 0u64..9, 1..5)), 1..60,
        )) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let dir = tempfile::tempdir().expect("a directory");
            let store = store(dir.path());
            let work = move |tx: &WriteTx| {
                let mut known: Vec<(StateId, BTreeMap<u64, Pos>)> = vec![(0, BTreeMap::new())];
                for (base, change) in &changes {
                    let (id, mut map) = known[base.index(known.len())].clone();
                    let next = with(tx, id, change)?;
                    map.extend(change.iter().map(|(key, pos)| (*key, *pos)));
                    map.retain(|_, pos| *pos != 0);
                    known.push((next, map));
                }
                for (id, map) in &known {
                    assert_eq!(all(tx, *id)?, map.clone().into_iter().collect::<Vec<_>>());
                    let plain: Vec<_> = map.clone().into_iter().filter(|(key, _)| !is_member(*key)).collect();
                    assert_eq!(without_members(tx, *id)?, plain);
                    let (other, their) = &known[known.len() / 2];
                    let mut patched = map.clone();
                    patched.extend(diff(tx, *id, *other)?);
                    patched.retain(|_, pos| *pos != 0);
                    assert_eq!(&patched, their);
                }
                Ok(())
            };
            runtime.block_on(store.write(work)).expect("holds");
        }
    }

    #[tokio::test]
    async fn ten_thousand_changes_stay_shallow_and_small() {
        let dir = tempfile::tempdir().expect("a directory");
        let work = |tx: &WriteTx| {
            let (mut state, mut stored) = (0, 0);
            for n in 1..=10_000u64 {
                state = with(tx, state, &BTreeMap::from([(n | MEMBER, n)]))?;
                stored += tx.layer(state)?.entries.len();
                assert!(stack(tx, state)?.len() <= 15);
            }
            Ok(stored)
        };
        let stored = store(dir.path()).write(work).await.expect("writes");
        assert!(stored < 10_000 * 15, "{stored} entries for 10,000 changes");
    }
}
