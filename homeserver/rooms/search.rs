//! The index of what was said: for each room and term the events that have it, in pieces of sorted places. It
//! is written behind the commits by [`index`], which knows how far it has come, so that sending pays nothing
//! for it and a crash loses nothing; a redaction takes its words out in its own commit. What the index says is
//! held against the event as it is now before it is shown.
//! spec: client-server-api#server-side-search

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ruma::events::StateEventType;
use serde::Deserialize;

use super::{
    event::{self, Pdu, Slices},
    relations,
    room::Room,
    words,
};
use crate::{
    base::{Pos, RoomNum},
    error::Result,
    store::{
        Flow, Read, WriteTx,
        rows::{EventRow, Standing},
        tables,
    },
};

/// Places in one piece of a term's list; a fuller one is divided.
const MAX_PIECE: usize = 128;

/// Which part of an event is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// The text of a message.
    Body,
    /// A room's name.
    Name,
    /// A room's topic.
    Topic,
}

/// What an event is found by: the part, and its text. An edit's is what it puts in the other's place.
pub fn text(event: &Slices<'_>) -> Option<(Key, String)> {
    #[derive(Deserialize)]
    struct Content {
        #[serde(rename = "m.new_content")]
        new: Option<Body>,
        body: Option<String>,
        name: Option<String>,
        topic: Option<String>,
    }
    #[derive(Deserialize)]
    struct Body {
        body: String,
    }
    let (key, is_state) = match &*event.kind {
        "m.room.message" => (Key::Body, false),
        "m.room.name" => (Key::Name, true),
        "m.room.topic" => (Key::Topic, true),
        _ => return None,
    };
    if event.state_key.is_some() != is_state {
        return None;
    }
    let content: Content = serde_json::from_str(event.content.get()).ok()?;
    let text = match key {
        Key::Body => content.new.map(|new| new.body).or(content.body)?,
        Key::Name => content.name?,
        Key::Topic => content.topic?,
    };
    Some((key, text))
}

/// What the index is to have of one event.
#[derive(Debug)]
pub struct Entry {
    room: RoomNum,
    order: i64,
    /// The event itself, and what it edits.
    event: Pos,
    terms: Vec<String>,
}

/// How far the index has come.
pub fn upto(tx: &impl Read) -> Result<Pos> {
    Ok(tables::COUNTERS.get(tx, "indexed")?.unwrap_or(0))
}

/// What some events bring into the index.
pub struct Pending {
    /// What it is to have.
    pub entries: VecDeque<Entry>,
    /// Up to where they are.
    pub upto: Pos,
    /// Whether there are no further ones.
    pub is_all: bool,
}

/// What the next `most` events bring into the index, of those after `seen`. Reading and dividing them into
/// words is done here, beside the writer.
pub fn pending(tx: &impl Read, seen: Pos, most: usize) -> Result<Pending> {
    let (from, now) = (upto(tx)?.max(seen), tx.pos()?);
    let (mut rows, mut upto) = (Vec::new(), now);
    if from >= now {
        return Ok(Pending { entries: VecDeque::new(), upto: from, is_all: true });
    }
    tables::EVENTS.scan(tx, from + 1..=now, |pos, row| {
        rows.push((pos, row));
        if rows.len() < most {
            return Ok(Flow::Next);
        }
        upto = pos;
        Ok(Flow::Stop)
    })?;
    let mut entries = VecDeque::new();
    for (pos, row) in rows {
        entries.extend(entry(tx, pos, &row)?);
    }
    Ok(Pending { entries, upto, is_all: upto == now })
}

fn entry(tx: &impl Read, pos: Pos, row: &EventRow) -> Result<Option<Entry>> {
    if row.standing != Standing::Accepted || row.redacted_by != 0 {
        return Ok(None);
    }
    let slices = Slices::of(row)?;
    let Some((_, text)) = text(&slices) else { return Ok(None) };
    // What is said in the clear in an encrypted room is not for an index either.
    let room = Room::at(tx, row.room)?;
    if room.state_pos(tx, &StateEventType::RoomEncryption, "")?.is_some() {
        return Ok(None);
    }
    let Some(place) = stands_for(tx, pos, row, &slices)? else { return Ok(None) };
    let Some(order) = event::row(tx, place)?.place(place) else { return Ok(None) };
    let mut terms = words::terms(&text);
    // What comes late may have been edited before it came.
    if place == pos && row.order != 0 {
        for (_, edit) in edits(tx, row)? {
            let edit_slices = Slices::of(&edit)?;
            if edit.redacted_by == 0 && edit_slices.sender == slices.sender && edit_slices.kind == slices.kind {
                terms.extend(self::text(&edit_slices).map(|(_, text)| words::terms(&text)).unwrap_or_default());
            }
        }
    }
    Ok(Some(Entry { room: row.room, order, event: pos, terms: terms.into_keys().collect() }))
}

/// The edits of an event that are here, the newest first.
fn edits(tx: &impl Read, original: &EventRow) -> Result<Vec<(Pos, EventRow)>> {
    let children = relations::children(tx, original.room, &original.id, "m.replace")?;
    children.into_iter().map(|child| Ok((child.event, event::row(tx, child.event)?))).collect()
}

/// Which event is found by an event's words: an edit's lead to what it edits, if it may.
fn stands_for(tx: &impl Read, pos: Pos, row: &EventRow, event: &Slices<'_>) -> Result<Option<Pos>> {
    let Some(relation) = relations::of_slices(event).filter(|relation| relation.rel_type == "m.replace") else {
        return Ok(Some(pos));
    };
    let Some((original, other)) = event::shown(tx, row.room, &relation.event_id)? else { return Ok(None) };
    let other_slices = Slices::of(&other)?;
    let may = other_slices.sender == event.sender && other_slices.kind == event.kind && other.redacted_by == 0;
    Ok(may.then_some(original))
}

/// Notes that an event which was here before has come into its room only now: the index may be past it.
pub(super) fn came_late(tx: &WriteTx, pos: Pos, pdu: &Pdu) -> Result<()> {
    match matches!(&*pdu.name, "m.room.message" | "m.room.name" | "m.room.topic") {
        true => tables::TO_INDEX.put(tx, pos, &()),
        false => Ok(()),
    }
}

/// Some of those, with what they bring.
pub fn late(tx: &impl Read, most: usize) -> Result<Vec<(Pos, Option<Entry>)>> {
    let mut events = Vec::new();
    tables::TO_INDEX.scan::<Pos>(tx, .., |pos, ()| {
        events.push(pos);
        Ok(if events.len() < most { Flow::Next } else { Flow::Stop })
    })?;
    let of = |pos| match tables::EVENTS.get(tx, pos)? {
        Some(row) => Ok((pos, entry(tx, pos, &row)?)),
        None => Ok((pos, None)),
    };
    events.into_iter().map(of).collect()
}

/// Writes what [`late`] found.
pub fn index_late(tx: &WriteTx, events: &[Pos], batch: &Batch) -> Result<()> {
    write(tx, batch)?;
    for pos in events {
        tables::TO_INDEX.remove(tx, *pos)?;
    }
    Ok(())
}

/// Entries that are written together, so that a word which several have is looked for once.
#[derive(Debug, Default)]
pub struct Batch {
    /// The events.
    events: Vec<Pos>,
    /// For each room and term, the places that have it and the events there.
    lists: BTreeMap<(RoomNum, String), Vec<(i64, Pos)>>,
}

impl Batch {
    /// The next entries, until they have so many words, or there are so many of them.
    pub fn next(entries: &mut VecDeque<Entry>, (words, most): (usize, usize)) -> Self {
        let mut batch = Self::default();
        while batch.lists.len() < words
            && batch.events.len() < most
            && let Some(entry) = entries.pop_front()
        {
            batch.events.push(entry.event);
            for term in entry.terms {
                batch.lists.entry((entry.room, term)).or_default().push((entry.order, entry.event));
            }
        }
        batch
    }
}

/// Writes entries that [`pending`] found, in their order.
pub fn index(tx: &WriteTx, batch: &Batch) -> Result<()> {
    write(tx, batch)?;
    match batch.events.last() {
        Some(last) => tables::COUNTERS.put(tx, "indexed", last),
        None => Ok(()),
    }
}

/// Events that were redacted meanwhile are left out.
fn write(tx: &WriteTx, batch: &Batch) -> Result<()> {
    let mut gone = BTreeSet::new();
    for event in &batch.events {
        if tables::EVENTS.get(tx, *event)?.is_none_or(|row| row.redacted_by != 0) {
            gone.insert(*event);
        }
    }
    for ((room, term), places) in &batch.lists {
        let places = places.iter().filter(|(_, event)| !gone.contains(event)).map(|(order, _)| *order);
        insert(tx, *room, term, &places.collect())?;
    }
    Ok(())
}

/// Takes the words of an event out that is about to be emptied, and those of its edits with it.
pub(super) fn forget(tx: &WriteTx, pos: Pos) -> Result<()> {
    let row = event::row(tx, pos)?;
    let slices = Slices::of(&row)?;
    let Some((_, text)) = text(&slices) else { return Ok(()) };
    let Some(place) = stands_for(tx, pos, &row, &slices)? else { return Ok(()) };
    let mut gone: Vec<String> = words::terms(&text).into_keys().collect();
    let mut kept = words::Terms::new();
    let original = event::row(tx, place)?;
    let mut versions = vec![(place, original.clone())];
    versions.extend(edits(tx, &original)?);
    for (_, version) in versions.iter().filter(|(at, _)| *at != pos) {
        if let Some((_, text)) = self::text(&Slices::of(version)?) {
            match place == pos {
                true => gone.extend(words::terms(&text).into_keys()),
                false if version.redacted_by == 0 => kept.extend(words::terms(&text)),
                false => {}
            }
        }
    }
    let Some(order) = original.place(place) else { return Ok(()) };
    for term in gone.iter().filter(|term| !kept.contains_key(*term)) {
        remove(tx, row.room, term, order)?;
    }
    Ok(())
}

/// Puts places into a term's list. From the newest down, each piece takes in at once what comes after its
/// beginning.
fn insert(tx: &WriteTx, room: RoomNum, term: &str, new: &BTreeSet<i64>) -> Result<()> {
    let mut rest: Vec<i64> = new.iter().copied().collect();
    while let Some(last) = rest.last() {
        let found = piece(tx, room, term, *last)?;
        let (first, old) = found.unwrap_or_else(|| (rest[0], Vec::new()));
        let here = rest.split_off(rest.partition_point(|place| *place < first));
        let at_the_end = old.last().is_none_or(|last| here[0] > *last);
        let known = old.len();
        let places: BTreeSet<i64> = old.into_iter().chain(here).collect();
        if places.len() == known {
            continue;
        }
        // New places come at the end: full pieces stay as they are.
        let size = if at_the_end || places.len() <= MAX_PIECE { MAX_PIECE } else { MAX_PIECE / 2 };
        for places in Vec::from_iter(places).chunks(size) {
            tables::POSTINGS.put(tx, (room, term, places[0]), &encode(places))?;
        }
    }
    Ok(())
}

fn remove(tx: &WriteTx, room: RoomNum, term: &str, order: i64) -> Result<()> {
    let Some((first, mut places)) = piece(tx, room, term, order)? else { return Ok(()) };
    let Ok(at) = places.binary_search(&order) else { return Ok(()) };
    places.remove(at);
    tables::POSTINGS.remove(tx, (room, term, first))?;
    match places.first() {
        Some(new_first) => tables::POSTINGS.put(tx, (room, term, *new_first), &encode(&places)),
        None => Ok(()),
    }
}

/// The piece that a place is or would be in, with the place that it begins with.
fn piece(tx: &impl Read, room: RoomNum, term: &str, order: i64) -> Result<Option<(i64, Vec<i64>)>> {
    let mut found = None;
    tables::POSTINGS.scan_back(tx, (room, term, i64::MIN)..=(room, term, order), |(.., first), bytes| {
        found = Some((first, decode(first, &bytes)));
        Ok(Flow::Stop)
    })?;
    Ok(found)
}

/// Sorted places as the steps from one to the next, seven bits a byte. The first is in the key.
fn encode(places: &[i64]) -> Vec<u8> {
    let mut out = Vec::with_capacity(places.len() * 2);
    for pair in places.windows(2) {
        let mut step = pair[1].wrapping_sub(pair[0]).cast_unsigned();
        while step >= 0x80 {
            out.push(0x80 | (step & 0x7F) as u8);
            step >>= 7;
        }
        out.push(step as u8);
    }
    out
}

fn decode(first: i64, bytes: &[u8]) -> Vec<i64> {
    let (mut out, mut at, mut step, mut shift) = (vec![first], first, 0u64, 0);
    for byte in bytes {
        step |= u64::from(byte & 0x7F) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            at = at.wrapping_add(step.cast_signed());
            out.push(at);
            (step, shift) = (0, 0);
        }
    }
    out
}

/// One term's places in a room, from a place back.
struct List {
    room: RoomNum,
    term: String,
    piece: Vec<i64>,
    /// Where the piece before this one ends at the latest.
    before: Option<i64>,
}

impl List {
    fn new(room: RoomNum, term: &str) -> Self {
        Self { room, term: term.to_owned(), piece: Vec::new(), before: Some(i64::MAX) }
    }

    /// The newest place that is not after `order`. To be asked for ever earlier ones.
    fn at_or_before(&mut self, tx: &impl Read, order: i64) -> Result<Option<i64>> {
        loop {
            while let Some(last) = self.piece.last() {
                if *last <= order {
                    return Ok(Some(*last));
                }
                self.piece.pop();
            }
            let Some(before) = self.before else { return Ok(None) };
            match piece(tx, self.room, &self.term, before.min(order))? {
                Some((first, places)) => (self.piece, self.before) = (places, first.checked_sub(1)),
                None => self.before = None,
            }
        }
    }
}

/// The places of a room that have all of some terms, the newest first.
pub struct Hits {
    /// The room.
    pub room: RoomNum,
    lists: Vec<List>,
    at: Option<i64>,
}

impl Hits {
    /// From a place back.
    pub fn new<'t>(room: RoomNum, terms: impl Iterator<Item = &'t String>, from: i64) -> Self {
        Self { room, lists: terms.map(|term| List::new(room, term)).collect(), at: Some(from) }
    }

    /// The next place.
    pub fn next(&mut self, tx: &impl Read) -> Result<Option<i64>> {
        let Some(mut at) = self.at else { return Ok(None) };
        if self.lists.is_empty() {
            return Ok(None);
        }
        let mut agreed = 0;
        while agreed < self.lists.len() {
            agreed = 0;
            for list in &mut self.lists {
                match list.at_or_before(tx, at)? {
                    Some(place) if place == at => agreed += 1,
                    Some(place) => at = place,
                    None => {
                        self.at = None;
                        return Ok(None);
                    }
                }
            }
        }
        self.at = at.checked_sub(1);
        Ok(Some(at))
    }
}

/// The text of an event as it is now: its newest valid edit's, or its own.
pub fn current_text(tx: &impl Read, row: &EventRow, event: &Slices<'_>) -> Result<Option<(Key, String)>> {
    let Some((key, own)) = text(event) else { return Ok(None) };
    let edit = super::aggregations::newest_edit(tx, row, event, |_, _, _| Ok(true))?;
    let edited = edit.map(|edit| Ok::<_, crate::error::Error>(text(&Slices::of(&edit)?))).transpose()?.flatten();
    Ok(Some((key, edited.map_or(own, |(_, text)| text))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::{Options, Store};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        /// However places come in, a list has each of them once, in pieces that are not too long.
        #[test]
        fn places_that_come_together_are_put_where_they_belong(
            comings in prop::collection::vec(prop::collection::btree_set(-300i64..900, 1..200), 1..12),
        ) {
            let dir = tempfile::tempdir().expect("a directory");
            let options = Options { page_cache: 1 << 20, state_cache: 1 << 16, min_free: 0 };
            let store = Store::open(&dir.path().join("hearth.redb"), options, Box::new(|_, _| {})).expect("opens");
            let work = move |tx: &WriteTx| {
                let mut known = BTreeSet::new();
                for places in &comings {
                    insert(tx, 1, "soup", places)?;
                    known.extend(places.iter().copied());
                }
                let mut found = Vec::new();
                tables::POSTINGS.scan::<(RoomNum, &str, i64)>(tx, .., |(.., first), bytes| {
                    let places = decode(first, &bytes);
                    assert!(places.len() <= MAX_PIECE);
                    found.extend(places);
                    Ok(Flow::Next)
                })?;
                assert_eq!(found, Vec::from_iter(known));
                Ok(())
            };
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            runtime.block_on(store.write(work)).expect("holds");
        }
    }

    #[test]
    fn places_are_kept_in_few_bytes() {
        for places in [vec![5], vec![-900, -3, 0, 1, 2, 130, 70_000, i64::MAX], vec![i64::MIN, i64::MAX]] {
            let bytes = encode(&places);
            assert_eq!(decode(places[0], &bytes), places);
        }
        assert!(encode(&(0..128).collect::<Vec<_>>()).len() < 128);
    }
}
