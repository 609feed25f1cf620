//! State resolution: one state out of several, where a room's history has forked.
//! spec: rooms/v2#state-resolution, rooms/v12#state-resolution
//!
//! The algorithm itself is ruma's. What is done here keeps it cheap: only keys on which the states differ
//! are resolved, and of the auth chains only what can matter is looked at. Whatever would look at more
//! events than a budget allows is not done: in the writer the budget is small, and what is too heavy for it
//! is worked out over a snapshot before, and remembered (see `accept.rs`).

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use ring::digest::{SHA256, digest};
use ruma::{
    EventId, OwnedEventId,
    events::StateEventType,
    room_version_rules::RoomVersionRules,
    state_res::{self, StateMap, auth_types_for_event, utils::event_id_set::EventIdSet},
};

use super::{
    event::Pdu,
    state::{self, Overlay},
};
use crate::{
    base::Pos,
    error::{Error, Result},
    store::{Read, tables},
};

/// Events that a resolution in the writer may look at.
pub const IN_WRITER: usize = 1_000;
/// Events that a resolution over a snapshot may look at: a bound against rooms that were built to be
/// expensive. What needs more is not accepted.
pub const OUTSIDE: usize = 200_000;
/// Conflicting events that are sorted and checked at most.
const MAX_CONFLICTED: usize = 10_000;

/// The position that an event has while it has none.
pub const NEW: Pos = Pos::MAX;

/// An event that is being judged and is not stored, at [`NEW`], and the number of its state key.
#[derive(Clone)]
pub struct Newcomer {
    /// The event.
    pub pdu: Arc<Pdu>,
    /// Its state key's number, or one that no key has.
    pub key: u64,
}

impl Newcomer {
    /// A state event that is not stored yet.
    pub fn of(tx: &impl Read, pdu: &Pdu) -> Result<Option<Self>> {
        let Some(state_key) = &pdu.state_key else { return Ok(None) };
        let known = state::key(tx, &pdu.name, state_key)?;
        let unknown = if pdu.name == "m.room.member" { u64::MAX } else { u64::MAX >> 1 };
        Ok(Some(Self { pdu: Arc::new(pdu.clone()), key: known.unwrap_or(unknown) }))
    }
}

/// What came of an attempt to resolve.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The one state.
    Resolved(Overlay),
    /// It would have meant looking at more events than allowed.
    TooHeavy,
}

/// The one state that several resolve to.
///
/// 1. States that are the same, or that have been resolved before, cost nothing.
/// 2. The contested keys, and the events at them: the conflicted state set.
/// 3. What else makes the states differ: the auth difference, and from room version 12 on the conflicted
///    state subgraph.
/// 4. ruma resolves what is contested, over what the events there may be allowed by.
pub fn resolve(
    tx: &impl Read,
    rules: &RoomVersionRules,
    states: &[Overlay],
    newcomer: Option<&Newcomer>,
    budget: usize,
) -> Result<Outcome> {
    // 1.
    let mut distinct: Vec<&Overlay> = states.iter().collect();
    distinct.sort_unstable();
    distinct.dedup();
    let first = match &distinct[..] {
        [] => return Ok(Outcome::Resolved(Overlay::of(0))),
        [only] => return Ok(Outcome::Resolved((*only).clone())),
        [first, ..] => *first,
    };
    let memo = memo_key(tx, &distinct, newcomer)?;
    if let Some(changes) = tx.resolved(&memo) {
        return Ok(Outcome::Resolved(Overlay { base: first.base, changes: (*changes).clone() }));
    }
    let events = Events { tx, newcomer, by_pos: RefCell::default(), by_id: RefCell::default(), left: budget.into() };
    let resolved = resolve_distinct(&events, rules, &distinct);
    if events.left.get() == 0 {
        return Ok(Outcome::TooHeavy);
    }
    let resolved = resolved?;
    let newest = distinct.iter().map(|state| state.base).max().unwrap_or(0);
    tx.note_resolved(memo, newest, Arc::new(resolved.changes.clone()));
    Ok(Outcome::Resolved(resolved))
}

fn memo_key(tx: &impl Read, states: &[&Overlay], newcomer: Option<&Newcomer>) -> Result<[u8; 32]> {
    let mut text = format!("{}\n", newcomer.map_or("", |newcomer| newcomer.pdu.id.as_str()));
    // What stands on an open layer is another state once that has changed.
    for state in states {
        if let Some(open) = state::open_below(tx, state.base)? {
            text += &format!("on {} {:?}\n", open.below, open.entries);
            break;
        }
    }
    for state in states {
        text += &format!("{} {:?}\n", state.base, state.changes);
    }
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    Ok(out)
}

/// A contested key, and what stands at it in each state: 0 where nothing does.
type Contested = BTreeMap<u64, Vec<Pos>>;

fn resolve_distinct(events: &Events<'_, impl Read>, rules: &RoomVersionRules, states: &[&Overlay]) -> Result<Overlay> {
    let v2 = rules.state_res.v2_rules().ok_or_else(|| Error::internal("this room version resolves otherwise"))?;
    // 2.
    let contested = contested(events.tx, states)?;
    let conflicted: BTreeSet<Pos> = contested.values().flatten().copied().filter(|pos| *pos != 0).collect();
    // 3.
    let mut chains = Vec::with_capacity(states.len());
    for index in 0..states.len() {
        chains.push(events.chain(contested.values().map(|there| there[index]).filter(|pos| *pos != 0))?);
    }
    let difference = difference(events, states[0], (&contested, &conflicted), &chains)?;
    let subgraph = match v2.consider_conflicted_state_subgraph {
        true => subgraph(events, &conflicted, &chains)?,
        false => HashSet::new(),
    };
    let full: BTreeSet<Pos> =
        conflicted.iter().chain(&difference).chain(&subgraph).copied().filter(|pos| *pos != 0).collect();
    if full.len() > MAX_CONFLICTED {
        events.left.set(0);
        return Err(Error::internal("too many events are in conflict"));
    }
    // 4.
    let maps = maps(events, rules, states, (&contested, &full))?;
    let ids = |set: &HashSet<Pos>| -> Result<EventIdSet<OwnedEventId>> {
        set.iter().map(|pos| Ok(events.at(*pos)?.id.clone())).collect()
    };
    let (difference, subgraph) = (ids(&difference)?, ids(&subgraph)?);
    let resolved = state_res::resolve(
        &rules.authorization,
        v2,
        &maps,
        // What is in one of two chains is in the difference.
        vec![difference, EventIdSet::new()],
        |id| events.find(id).ok().flatten(),
        |_| Some(subgraph.clone()),
    );
    let resolved = resolved.map_err(|error| Error::internal(format!("a room's state can't be resolved: {error}")))?;
    let mut out = states[0].clone();
    for key in contested.keys() {
        out.set(events.tx, *key, 0)?;
    }
    // Events of the auth difference can stand where in no state anything stood.
    for pos in full {
        let pdu = events.at(pos)?;
        if resolved.get(&map_key(&pdu)) == Some(&pdu.id)
            && let Some(key) = events.key(pos, &pdu)?
        {
            out.set(events.tx, key, pos)?;
        }
    }
    Ok(out)
}

fn map_key(pdu: &Pdu) -> (StateEventType, String) {
    (StateEventType::from(pdu.name.as_str()), pdu.state_key.clone().unwrap_or_default())
}

fn contested(tx: &impl Read, states: &[&Overlay]) -> Result<Contested> {
    let mut keys = BTreeSet::new();
    for other in &states[1..] {
        keys.extend(states[0].keys_apart(tx, other)?);
    }
    let mut out = Contested::new();
    for key in keys {
        let mut there = Vec::with_capacity(states.len());
        for state in states {
            there.push(state.at(tx, key)?.unwrap_or(0));
        }
        if there.iter().any(|pos| *pos != there[0]) {
            out.insert(key, there);
        }
    }
    Ok(out)
}

/// The auth difference without the conflicted events: what is in the auth chain of one state and not of
/// another. All states have the chains of what they agree on, so what lies in those is left out; and
/// that is looked for only as far as there is something that could.
fn difference(
    events: &Events<'_, impl Read>,
    first: &Overlay,
    (contested, conflicted): (&Contested, &BTreeSet<Pos>),
    chains: &[HashSet<Pos>],
) -> Result<HashSet<Pos>> {
    let mut candidates: HashSet<Pos> = chains.iter().flatten().copied().collect();
    candidates.retain(|pos| !conflicted.contains(pos) && !chains.iter().all(|chain| chain.contains(pos)));
    // Those that all states hold, and their chains.
    let mut agreed = Vec::new();
    for pos in &candidates {
        let pdu = events.at(*pos)?;
        let Some(key) = events.key(*pos, &pdu)? else { continue };
        if !contested.contains_key(&key) && first.at(events.tx, key)? == Some(*pos) {
            agreed.push(*pos);
        }
    }
    for pos in events.chain(agreed)? {
        candidates.remove(&pos);
    }
    if candidates.is_empty() {
        return Ok(candidates);
    }
    // The rest may be behind anything that all states hold.
    let all = first.all(events.tx)?.into_iter().filter(|(key, _)| !contested.contains_key(key));
    for pos in events.chain(all.map(|(_, pos)| pos))? {
        candidates.remove(&pos);
    }
    Ok(candidates)
}

/// The events that lie on a path along auth events from one conflicted event to another, with those.
/// spec: rooms/v12#state-resolution (conflicted state subgraph)
fn subgraph(
    events: &Events<'_, impl Read>,
    conflicted: &BTreeSet<Pos>,
    chains: &[HashSet<Pos>],
) -> Result<HashSet<Pos>> {
    // Who stands directly above each event below the conflicted ones.
    let mut above: HashMap<Pos, Vec<Pos>> = HashMap::new();
    for pos in chains.iter().flatten().collect::<BTreeSet<_>>() {
        for cited in events.cited(*pos)?.iter() {
            above.entry(*cited).or_default().push(*pos);
        }
    }
    // From each conflicted event upwards: what is met lies above one and below another.
    let mut out = HashSet::new();
    let mut waiting: Vec<Pos> = conflicted.iter().copied().collect();
    while let Some(pos) = waiting.pop() {
        if out.insert(pos) {
            waiting.extend(above.get(&pos).into_iter().flatten());
        }
    }
    Ok(out)
}

/// The states as ruma wants them, reduced to what is contested and what may be asked for on the way.
fn maps(
    events: &Events<'_, impl Read>,
    rules: &RoomVersionRules,
    states: &[&Overlay],
    (contested, full): (&Contested, &BTreeSet<Pos>),
) -> Result<Vec<StateMap<OwnedEventId>>> {
    let mut agreed = StateMap::new();
    for pos in full {
        let pdu = events.at(*pos)?;
        let wanted =
            auth_types_for_event(&pdu.kind, &pdu.sender, pdu.state_key.as_deref(), &pdu.content, &rules.authorization);
        let keys = wanted.into_iter().flatten().map(|(kind, key)| (kind.to_string(), key));
        let own = (pdu.name.clone(), pdu.state_key.clone().unwrap_or_default());
        for (kind, key) in keys.chain([own]) {
            let Some(number) = state::key(events.tx, &kind, &key)? else { continue };
            if !contested.contains_key(&number)
                && let Some(pos) = states[0].at(events.tx, number)?
            {
                agreed.insert((StateEventType::from(kind), key), events.at(pos)?.id.clone());
            }
        }
    }
    let mut out = vec![agreed; states.len()];
    for there in contested.values() {
        for (map, pos) in out.iter_mut().zip(there).filter(|(_, pos)| **pos != 0) {
            let pdu = events.at(*pos)?;
            map.insert(map_key(&pdu), pdu.id.clone());
        }
    }
    Ok(out)
}

/// An event that was read, and where the events that allow it are, once somebody has asked.
type Looked = (Arc<Pdu>, Option<Arc<[Pos]>>);

/// Events on the way through one resolution, each read once, and counted.
struct Events<'a, R: Read> {
    tx: &'a R,
    newcomer: Option<&'a Newcomer>,
    by_pos: RefCell<HashMap<Pos, Looked>>,
    by_id: RefCell<HashMap<OwnedEventId, Pos>>,
    left: Cell<usize>,
}

impl<R: Read> Events<'_, R> {
    fn at(&self, pos: Pos) -> Result<Arc<Pdu>> {
        if let Some((pdu, _)) = self.by_pos.borrow().get(&pos) {
            return Ok(pdu.clone());
        }
        let pdu = match self.newcomer {
            Some(newcomer) if pos == NEW => newcomer.pdu.clone(),
            _ => {
                self.left.set(self.left.get().saturating_sub(1));
                if self.left.get() == 0 {
                    return Err(Error::internal("a resolution looks at too many events"));
                }
                Arc::new(Pdu::at(self.tx, pos)?)
            }
        };
        self.by_id.borrow_mut().insert(pdu.id.clone(), pos);
        self.by_pos.borrow_mut().insert(pos, (pdu.clone(), None));
        Ok(pdu)
    }

    fn find(&self, id: &EventId) -> Result<Option<Arc<Pdu>>> {
        match self.position(id)? {
            Some(pos) => self.at(pos).map(Some),
            None => Ok(None),
        }
    }

    fn position(&self, id: &EventId) -> Result<Option<Pos>> {
        if let Some(pos) = self.by_id.borrow().get(id) {
            return Ok(Some(*pos));
        }
        match self.newcomer {
            Some(newcomer) if newcomer.pdu.id == id => Ok(Some(NEW)),
            _ => tables::EVENT_IDS.get(self.tx, id.as_str()),
        }
    }

    /// Where the events that allow an event are.
    fn cited(&self, pos: Pos) -> Result<Arc<[Pos]>> {
        let pdu = self.at(pos)?;
        if let Some((_, Some(cited))) = self.by_pos.borrow().get(&pos) {
            return Ok(cited.clone());
        }
        let mut cited = Vec::with_capacity(pdu.auth_events.len());
        for id in &pdu.auth_events {
            cited.extend(self.position(id)?);
        }
        let cited: Arc<[Pos]> = cited.into();
        if let Some((_, slot)) = self.by_pos.borrow_mut().get_mut(&pos) {
            *slot = Some(cited.clone());
        }
        Ok(cited)
    }

    /// Every event that some events build their permission on, with themselves.
    fn chain(&self, from: impl IntoIterator<Item = Pos>) -> Result<HashSet<Pos>> {
        let mut waiting: Vec<Pos> = from.into_iter().collect();
        let mut seen = HashSet::new();
        while let Some(pos) = waiting.pop() {
            if seen.insert(pos) {
                waiting.extend(self.cited(pos)?.iter());
            }
        }
        Ok(seen)
    }

    /// The number of an event's state key.
    fn key(&self, pos: Pos, pdu: &Pdu) -> Result<Option<u64>> {
        match self.newcomer {
            Some(newcomer) if pos == NEW => Ok(Some(newcomer.key)),
            _ => state::key(self.tx, &pdu.name, pdu.state_key.as_deref().unwrap_or_default()),
        }
    }
}
