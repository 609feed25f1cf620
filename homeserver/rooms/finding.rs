//! Searching what was said: the index's places, held against the events as they are now and against what the
//! searcher may see. spec: client-server-api#server-side-search

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, HashMap},
};

use ruma::UserId;
use serde_json::value::RawValue;

use super::{
    event::{self, Slices},
    filter, members,
    room::Room,
    search::{self, Hits, Key},
    timeline::View,
    words::Query,
};
use crate::{
    accounts::filters::Events,
    base::{Pos, RoomNum},
    error::Result,
    store::{Read, rows::EventRow, tables},
};

/// Places that one search looks at.
const MAX_LOOK: usize = 5000;
/// Results that are counted beyond a page that is full: what a count is good for ends long before.
const MAX_COUNTED: usize = 1000;
/// Results that are ranked: of more, the newest.
const MAX_RANKED: usize = 1000;
/// Words to highlight in one answer.
const MAX_HIGHLIGHTS: usize = 100;

/// What is searched for.
pub struct Wanted<'a> {
    /// The words.
    pub query: &'a Query,
    /// In which parts.
    pub keys: &'a [Key],
    /// In which events.
    pub filter: &'a Events,
    /// By whom alone, if by one person.
    pub sender: Option<&'a str>,
    /// The best first, not the newest.
    pub ranked: bool,
    /// Just after which result the page begins: its place and room.
    pub after: Option<(i64, RoomNum)>,
    /// Results to leave out, where they are ranked.
    pub skip: usize,
    /// Results at most.
    pub limit: usize,
}

/// One result.
pub struct Hit {
    /// Its room, by its index among those that were searched.
    pub room: usize,
    /// Its place in the room's timeline.
    pub order: i64,
    /// Where it is.
    pub pos: Pos,
    /// Its ID.
    pub id: String,
    /// Who sent it.
    pub sender: String,
    /// How well it fits.
    pub rank: f64,
    /// As the searcher's client sees it.
    pub event: Box<RawValue>,
    highlights: Vec<String>,
}

/// What was found.
#[derive(Default)]
pub struct Found {
    /// A page of results.
    pub hits: Vec<Hit>,
    /// How many results of the same sender and room stand up to the end of the page, if they are ranked.
    pub passed: HashMap<(usize, String), usize>,
    /// Results from here on, if they are not very many.
    pub count: usize,
    /// Whether there are more than the page holds.
    pub more: bool,
    /// The words that were found.
    pub highlights: BTreeSet<String>,
}

/// The rooms that somebody may search: those that they are or were in and have not forgotten.
pub fn rooms(tx: &impl Read, user: &UserId, filter: &Events) -> Result<Vec<Room>> {
    let mut out = Vec::new();
    for (num, row) in members::rooms_of(tx, user)? {
        if !matches!(row.membership.as_str(), "join" | "leave" | "ban") {
            continue;
        }
        let room = Room::at(tx, num)?;
        if filter.wants_room(&room.row.id) {
            out.push(room);
        }
    }
    Ok(out)
}

/// Searches rooms.
pub fn find(tx: &impl Read, rooms: &[Room], views: &mut [View<'_>], wanted: &Wanted<'_>) -> Result<Found> {
    let mut found = Found::default();
    // The newest place of each room that is still to be looked at.
    let mut heap = BinaryHeap::new();
    let mut hits = Vec::with_capacity(rooms.len());
    for (index, room) in rooms.iter().enumerate() {
        let from = match wanted.after {
            Some((order, num)) if room.num <= num => order.saturating_sub(1),
            Some((order, _)) => order,
            None => i64::MAX,
        };
        let mut of_room = Hits::new(room.num, wanted.query.terms.keys(), from);
        if let Some(order) = of_room.next(tx)? {
            heap.push((order, Reverse((room.num, index))));
        }
        hits.push(of_room);
    }
    let mut looked = 0;
    while let Some((order, Reverse((num, index)))) = heap.pop() {
        if let Some(next) = hits[index].next(tx)? {
            heap.push((next, Reverse((num, index))));
        }
        if let Some(hit) = look(tx, (index, &rooms[index]), &mut views[index], order, wanted)? {
            found.count += 1;
            match wanted.ranked || found.hits.len() < wanted.limit {
                true => found.hits.push(hit),
                false => found.more = true,
            }
        }
        looked += 1;
        let is_counted = found.more && found.count >= MAX_COUNTED;
        if looked == MAX_LOOK || is_counted || (wanted.ranked && found.hits.len() == MAX_RANKED) {
            found.more |= !wanted.ranked && !heap.is_empty();
            break;
        }
    }
    if wanted.ranked {
        rank(&mut found, wanted);
    }
    let all = found.hits.iter().flat_map(|hit| hit.highlights.iter().cloned());
    found.highlights = all.take(MAX_HIGHLIGHTS).collect();
    Ok(found)
}

/// Puts the best results first, and keeps the page.
fn rank(found: &mut Found, wanted: &Wanted<'_>) {
    let hits = std::mem::take(&mut found.hits);
    let mut hits: Vec<Hit> = hits;
    hits.sort_by(|a, b| b.rank.total_cmp(&a.rank).then(b.order.cmp(&a.order)));
    let end = wanted.skip.saturating_add(wanted.limit);
    found.more = hits.len() > end;
    for hit in hits.iter().take(end) {
        *found.passed.entry((hit.room, hit.sender.clone())).or_default() += 1;
    }
    found.hits = hits.into_iter().skip(wanted.skip).take(wanted.limit).collect();
}

/// The event at a place, if it is a result.
fn look(
    tx: &impl Read,
    (index, room): (usize, &Room),
    view: &mut View<'_>,
    order: i64,
    wanted: &Wanted<'_>,
) -> Result<Option<Hit>> {
    let Some(place) = tables::TIMELINE.get(tx, (room.num, order))? else { return Ok(None) };
    let row: EventRow = event::row(tx, place.event)?;
    let slices = Slices::of(&row)?;
    if row.redacted_by != 0
        || wanted.sender.is_some_and(|sender| sender != slices.sender)
        || !filter::passes(wanted.filter, &room.row.id, &slices)
        || (slices.state_key.is_none() && view.ignores(tx, &slices.sender)?)
        || view.hides(tx, &slices.sender)?
        || !filter::is_related(tx, wanted.filter, view, &row)?
    {
        return Ok(None);
    }
    let Some((key, text)) = search::current_text(tx, &row, &slices)? else { return Ok(None) };
    let Some(rank) = wanted.query.fits(&text).filter(|_| wanted.keys.contains(&key)) else { return Ok(None) };
    let Some(event) = view.see_slices(tx, place.event, &row, &slices)? else { return Ok(None) };
    let highlights = wanted.query.highlights(&text);
    let sender = slices.sender.clone().into_owned();
    Ok(Some(Hit { room: index, order, pos: place.event, id: row.id.clone(), sender, rank, event, highlights }))
}
