//! The rooms that a request looks at: those in the ranges of its lists, and those it names.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use super::{
    filters::Aspects,
    ranking::Ranking,
    required::Required,
    wish::{Count, Rule, Wish},
};
use crate::{
    base::RoomNum,
    error::Result,
    store::{Read, tables},
    sync::turn::Turn,
};

/// What is wanted of a room.
#[derive(Clone)]
pub struct Config {
    /// Events of its timeline.
    pub limit: usize,
    /// State.
    pub required: Arc<Required>,
    /// The lists that it is in.
    pub lists: Vec<String>,
}

/// What a request looks at.
pub struct Window {
    /// The rooms, in the order of lists and then of those that are named.
    pub rooms: Vec<(RoomNum, Config)>,
    /// How many rooms each list has.
    pub counts: BTreeMap<String, Count>,
    /// Rooms that are named.
    pub subscribed: HashSet<RoomNum>,
    /// Conversations of two.
    pub dms: HashSet<RoomNum>,
}

/// Rooms as they are found, each with all the rules that it falls under.
#[derive(Default)]
struct Found {
    order: Vec<RoomNum>,
    rules: BTreeMap<RoomNum, (Vec<usize>, Vec<String>)>,
}

impl Found {
    fn add(&mut self, room: RoomNum, rule: usize, list: Option<&str>) {
        let (rules, lists) = self.rules.entry(room).or_insert_with(|| {
            self.order.push(room);
            Default::default()
        });
        rules.push(rule);
        lists.extend(list.map(str::to_owned));
    }
}

/// The rooms that a request looks at.
pub fn window(turn: &Turn<'_, impl Read>, ranking: &Ranking, wish: &Wish) -> Result<Window> {
    let mut aspects = Aspects::new(turn, ranking)?;
    let (mut found, mut rules, mut counts) = (Found::default(), Vec::<&Rule>::new(), BTreeMap::new());
    for (name, list) in &wish.lists {
        let passing = aspects.passing(&list.filters)?;
        for (from, to) in list.ranges() {
            let places = passing.iter().skip(from).take(to.saturating_sub(from).saturating_add(1));
            for at in places {
                found.add(ranking.entries[*at].room, rules.len(), Some(name));
            }
        }
        rules.push(&list.rule);
        counts.insert(name.clone(), Count { count: passing.len() });
    }
    let mut subscribed = HashSet::new();
    for (id, rule) in &wish.room_subscriptions {
        // What the person has nothing to do with is as if it did not exist.
        if let Some(room) = tables::ROOM_NUMS.get(turn.tx, id.as_str())?
            && ranking.entry(room).is_some_and(|entry| !entry.forgotten)
        {
            found.add(room, rules.len(), None);
            subscribed.insert(room);
        }
        rules.push(rule);
    }
    let dms = aspects.dms;
    Ok(Window { rooms: configure(found, &rules), counts, subscribed, dms })
}

/// Rooms under the same rules share what comes of them.
fn configure(mut found: Found, rules: &[&Rule]) -> Vec<(RoomNum, Config)> {
    let mut made = BTreeMap::<Vec<usize>, (usize, Arc<Required>)>::new();
    let mut out = Vec::with_capacity(found.order.len());
    for room in found.order {
        let (mut under, mut lists) = found.rules.remove(&room).unwrap_or_default();
        under.dedup();
        lists.dedup();
        let (limit, required) = made.entry(under.clone()).or_insert_with(|| {
            let (mut limit, mut required) = (0, Required::default());
            for rule in under.iter().filter_map(|at| rules.get(*at)) {
                limit = limit.max(rule.limit());
                required.add(&Required::new(&rule.required_state));
            }
            (limit, Arc::new(required))
        });
        out.push((room, Config { limit: *limit, required: required.clone(), lists }));
    }
    out
}
