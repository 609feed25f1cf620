//! Threads: which one an event belongs to, what there is to say of one, and which there are in a room.
//! spec: client-server-api#threading, #threaded-read-receipts

use ruma::{EventId, UserId};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    event::{self, Slices},
    relations::{self, MAX_CHILDREN, MAX_DEPTH},
    room::Room,
    timeline::View,
};
use crate::{
    base::{Pos, RoomNum},
    error::Result,
    store::{
        Flow, Read, WriteTx,
        rows::{EventRow, ThreadRow},
        tables,
    },
};

/// How what is in a thread relates to its first event.
pub(super) const RELATION: &str = "m.thread";
/// Threads that one page lists at most.
const MAX_PAGE: usize = 100;
/// Threads that one page looks at: the rest is for the next page.
const MAX_LOOK: usize = 1000;
/// Ignored people whose part in a thread is left out of its count.
const MAX_IGNORED: usize = 1000;

/// The ID of the thread's first event. None for what belongs to the main timeline, as the first event
/// of a thread itself does.
pub fn of(tx: &impl Read, room: RoomNum, event: &Slices<'_>) -> Result<Option<String>> {
    let Some(mut relation) = relations::of_slices(event) else { return Ok(None) };
    for _ in 0..MAX_DEPTH {
        if relation.rel_type == RELATION {
            return Ok(Some(relation.event_id.to_string()));
        }
        let Some(pos) = tables::EVENT_IDS.get(tx, relation.event_id.as_str())? else { break };
        let row = event::row(tx, pos)?;
        if row.room != room {
            break;
        }
        match relations::of_slices(&Slices::of(&row)?) {
            Some(further) => relation = further,
            None => break,
        }
    }
    Ok(None)
}

/// Counts a further event of a thread.
pub(super) fn add(tx: &WriteTx, room: RoomNum, root: &str, order: i64, sender: &UserId) -> Result<()> {
    let old = tables::THREADS.get(tx, (room, root))?;
    let row = ThreadRow {
        count: old.as_ref().map_or(0, |row| row.count) + 1,
        latest: old.as_ref().map_or(order, |row| row.latest.max(order)),
    };
    if old.as_ref().map(|row| row.latest) != Some(row.latest) {
        move_to(tx, room, root, old.map(|row| row.latest), Some(row.latest))?;
    }
    tables::THREADS.put(tx, (room, root), &row)?;
    let said = tables::THREAD_SENDERS.get(tx, (room, root, sender.as_str()))?.unwrap_or(0);
    tables::THREAD_SENDERS.put(tx, (room, root, sender.as_str()), &(said + 1))
}

/// Takes an event out of a thread's count. It is no longer among those that relate to the first.
pub(super) fn remove(tx: &WriteTx, room: RoomNum, root: &str, order: i64, sender: &UserId) -> Result<()> {
    let Some(row) = tables::THREADS.get(tx, (room, root))? else { return Ok(()) };
    let latest = newest(tx, room, root)?;
    if row.latest == order {
        move_to(tx, room, root, Some(order), latest)?;
    }
    match latest {
        Some(latest) => {
            let less = ThreadRow { count: row.count.saturating_sub(1), latest };
            tables::THREADS.put(tx, (room, root), &less)?;
        }
        None => drop(tables::THREADS.remove(tx, (room, root))?),
    }
    let key = (room, root, sender.as_str());
    match tables::THREAD_SENDERS.get(tx, key)?.unwrap_or(0) {
        0 | 1 => tables::THREAD_SENDERS.remove(tx, key).map(drop),
        said => tables::THREAD_SENDERS.put(tx, key, &(said - 1)),
    }
}

fn move_to(tx: &WriteTx, room: RoomNum, root: &str, from: Option<i64>, to: Option<i64>) -> Result<()> {
    if let Some(from) = from {
        tables::THREADS_BY_LATEST.remove(tx, (room, from))?;
    }
    match to {
        Some(to) => tables::THREADS_BY_LATEST.put(tx, (room, to), &root.to_owned()),
        None => Ok(()),
    }
}

fn newest(tx: &impl Read, room: RoomNum, root: &str) -> Result<Option<i64>> {
    let mut newest = None;
    let range = (room, root, RELATION, i64::MIN)..=(room, root, RELATION, i64::MAX);
    tables::RELATED.scan_back(tx, range, |(.., order), _| {
        newest = Some(order);
        Ok(Flow::Stop)
    })?;
    Ok(newest)
}

/// What is said of a thread beside its first event.
/// spec: client-server-api#server-side-aggregation-of-mthread-relationships
#[derive(Serialize)]
pub struct Summary {
    latest_event: Box<RawValue>,
    count: u64,
    current_user_participated: bool,
}

/// What there is to say of the thread that an event begins, if it begins one that the reader can see
/// anything of.
pub(super) fn summary(
    tx: &impl Read,
    view: &mut View<'_>,
    (pos, root): (Pos, &EventRow),
    slices: &Slices<'_>,
) -> Result<Option<Summary>> {
    let Some(thread) = tables::THREADS.get(tx, (root.room, root.id.as_str()))? else { return Ok(None) };
    if relations::of_slices(slices).is_some() {
        return Ok(None);
    }
    // Who has been in the room all the while may see all of the thread, and it need not be looked through.
    let sees_all = view.sight.sees_all_after(pos);
    let (mut latest, mut seen, mut looked) = (None, 0, 0);
    for child in relations::children(tx, root.room, &root.id, RELATION)? {
        looked += 1;
        let row = event::row(tx, child.event)?;
        let slices = Slices::of(&row)?;
        if view.ignores(tx, &slices.sender)? || !view.sight.may_see(tx, child.event, &row, &slices)? {
            continue;
        }
        seen += 1;
        if latest.is_none() {
            latest = view.see_slices(tx, child.event, &row, &slices)?;
        }
        if sees_all {
            break;
        }
    }
    let Some(latest_event) = latest else { return Ok(None) };
    let count = match sees_all || looked == MAX_CHILDREN {
        true => thread.count.saturating_sub(said_by_ignored(tx, view, root)?),
        false => seen,
    };
    let participated = slices.sender == view.user.as_str() || takes_part(tx, root, view.user)?;
    Ok(Some(Summary { latest_event, count, current_user_participated: participated }))
}

fn said_by_ignored(tx: &impl Read, view: &View<'_>, root: &EventRow) -> Result<u64> {
    let mut sum = 0;
    for user in view.ignored(tx)?.iter().take(MAX_IGNORED) {
        sum += tables::THREAD_SENDERS.get(tx, (root.room, root.id.as_str(), user.as_str()))?.unwrap_or(0);
    }
    Ok(sum)
}

fn takes_part(tx: &impl Read, root: &EventRow, user: &UserId) -> Result<bool> {
    tables::THREAD_SENDERS.has(tx, (root.room, root.id.as_str(), user.as_str()))
}

/// The threads of a room, those first in which something was said last.
pub struct List {
    /// Their first events.
    pub roots: Vec<Box<RawValue>>,
    /// Where the next page starts, if there is one.
    pub next: Option<i64>,
}

/// A page of a room's threads from a place on: of all, or of those that the reader takes part in.
pub fn list(
    tx: &impl Read,
    room: &Room,
    view: &mut View<'_>,
    (from, limit): (i64, usize),
    participated: bool,
) -> Result<List> {
    let limit = limit.clamp(1, MAX_PAGE);
    let mut found = Vec::new();
    tables::THREADS_BY_LATEST.scan_back(tx, (room.num, i64::MIN)..=(room.num, from), |(_, order), root| {
        found.push((order, root));
        Ok(if found.len() < MAX_LOOK { Flow::Next } else { Flow::Stop })
    })?;
    let mut list = List { roots: Vec::new(), next: None };
    let last = found.len();
    for (looked, (order, root)) in (1..).zip(found) {
        if let Ok(root) = EventId::parse(root)
            && let Some(event) = begun_by(tx, room, view, &root, participated)?
        {
            list.roots.push(event);
        }
        if list.roots.len() == limit || (looked == last && last == MAX_LOOK) {
            list.next = (looked < last || last == MAX_LOOK).then_some(order - 1);
            break;
        }
    }
    Ok(list)
}

/// The first event of a thread, if the reader may see it and something of the thread.
fn begun_by(
    tx: &impl Read,
    room: &Room,
    view: &mut View<'_>,
    root: &EventId,
    participated: bool,
) -> Result<Option<Box<RawValue>>> {
    let Some((pos, row)) = event::shown(tx, room.num, root)? else { return Ok(None) };
    let slices = Slices::of(&row)?;
    if participated && slices.sender != view.user.as_str() && !takes_part(tx, &row, view.user)? {
        return Ok(None);
    }
    if summary(tx, view, (pos, &row), &slices)?.is_none() {
        return Ok(None);
    }
    match view.ignores(tx, &slices.sender)? {
        true => view.see_emptied(tx, (pos, &row)),
        false => view.see_slices(tx, pos, &row, &slices),
    }
}
