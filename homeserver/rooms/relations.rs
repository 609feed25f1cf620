//! Events that relate to another one: an index by what they relate to, directly and by way of others.
//! spec: client-server-api#forming-relationships-between-events

use ruma::{EventId, OwnedEventId, UserId, events::TimelineEventType};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    event::{self, Pdu, Slices},
    history::{self, Way},
    threads,
    timeline::View,
};
use crate::{
    base::{Pos, RoomNum},
    error::{Error, Result},
    store::{
        Flow, Read, WriteTx,
        rows::{ChildRow, EventRow},
        tables,
    },
};

/// Related events that are looked at: a bound on what one event can cost its readers.
pub(super) const MAX_CHILDREN: usize = 200;
/// Relations by which one event is a descendant of another at most.
pub const MAX_DEPTH: u64 = 3;
/// Bytes of a relation's type at most; what has a longer one relates to nothing.
const MAX_TYPE: usize = 255;
/// Events that one page holds at most.
const MAX_PAGE: usize = 100;
/// Entries of the index that one page looks at: the rest is for the next page.
const MAX_LOOK: usize = 4000;

#[derive(Deserialize)]
struct Content {
    #[serde(rename = "m.relates_to")]
    relates_to: Relation,
}

/// What an event says that it relates to, and how.
#[derive(Deserialize)]
pub struct Relation {
    /// How.
    pub rel_type: String,
    /// To what.
    pub event_id: OwnedEventId,
}

/// The relation that an event's content declares, if it does.
pub fn of(pdu: &Pdu) -> Option<Relation> {
    declared(pdu.state_key.is_some(), &pdu.content)
}

/// The same of a stored event.
pub fn of_slices(event: &Slices<'_>) -> Option<Relation> {
    declared(event.state_key.is_some(), event.content)
}

/// State events can't relate to others.
fn declared(is_state: bool, content: &RawValue) -> Option<Relation> {
    // Most events have none, and finding that out need not cost parsing their content.
    if is_state || !content.get().contains("m.relates_to") {
        return None;
    }
    let relation = serde_json::from_str::<Content>(content.get()).ok()?.relates_to;
    (1..=MAX_TYPE).contains(&relation.rel_type.len()).then_some(relation)
}

/// Enters the event at `pos`, whose place in the timeline is `order`, under what it relates to.
pub(super) fn index(tx: &WriteTx, room: RoomNum, (order, pos): (i64, Pos), pdu: &Pdu) -> Result<()> {
    let Some(relation) = of(pdu) else { return Ok(()) };
    // Its redaction may have come before it.
    if event::row(tx, pos)?.redacted_by != 0 {
        return Ok(());
    }
    let row = ChildRow { event: pos, depth: 1, rel_type: relation.rel_type.clone(), kind: pdu.kind.to_string() };
    tables::RELATED.put(tx, (room, relation.event_id.as_str(), &*relation.rel_type, order), &row)?;
    let ancestors = ancestors(tx, room, &relation)?;
    for (depth, ancestor) in (1..).zip(&ancestors) {
        tables::DESCENDANTS.put(tx, (room, &**ancestor, order), &ChildRow { depth, ..row.clone() })?;
    }
    adopt(tx, room, pdu.id.as_str(), &ancestors)?;
    if relation.rel_type == threads::RELATION {
        threads::add(tx, room, relation.event_id.as_str(), order, &pdu.sender)?;
    }
    Ok(())
}

/// Events that relate to this one and came before it are descendants of its ancestors too.
fn adopt(tx: &WriteTx, room: RoomNum, id: &str, ancestors: &[String]) -> Result<()> {
    let mut known = Vec::new();
    tables::DESCENDANTS.scan_back(tx, (room, id, i64::MIN)..=(room, id, i64::MAX), |(_, _, order), row| {
        known.push((order, row));
        Ok(if known.len() < MAX_CHILDREN { Flow::Next } else { Flow::Stop })
    })?;
    for (order, row) in known {
        for (further, ancestor) in (1..).zip(ancestors) {
            let depth = row.depth + further;
            if depth <= MAX_DEPTH {
                tables::DESCENDANTS.put(tx, (room, &**ancestor, order), &ChildRow { depth, ..row.clone() })?;
            }
        }
    }
    Ok(())
}

/// What a relation leads to, the nearest first.
fn ancestors(tx: &impl Read, room: RoomNum, relation: &Relation) -> Result<Vec<String>> {
    let mut out = vec![relation.event_id.to_string()];
    while (out.len() as u64) < MAX_DEPTH {
        let Some(nearest) = out.last() else { break };
        let Some(pos) = tables::EVENT_IDS.get(tx, nearest.as_str())? else { break };
        let row = event::row(tx, pos)?;
        if row.room != room {
            break;
        }
        match of_slices(&Slices::of(&row)?) {
            Some(further) => out.push(further.event_id.to_string()),
            None => break,
        }
    }
    Ok(out)
}

/// Takes an event that is about to be emptied out of the index. Its own descendants stay entered under
/// its ancestors; who reads them there sees that the way is broken.
pub(super) fn forget(tx: &WriteTx, room: RoomNum, order: i64, pdu: &Pdu) -> Result<()> {
    let Some(relation) = of(pdu) else { return Ok(()) };
    let known = tables::RELATED.remove(tx, (room, relation.event_id.as_str(), &*relation.rel_type, order))?;
    for ancestor in ancestors(tx, room, &relation)? {
        tables::DESCENDANTS.remove(tx, (room, &*ancestor, order))?;
    }
    if known && relation.rel_type == threads::RELATION {
        threads::remove(tx, room, relation.event_id.as_str(), order, &pdu.sender)?;
    }
    Ok(())
}

/// The newest events that relate to an event in one way, [`MAX_CHILDREN`] at most.
pub(super) fn children(tx: &impl Read, room: RoomNum, parent: &str, rel_type: &str) -> Result<Vec<ChildRow>> {
    let mut out = Vec::new();
    let range = (room, parent, rel_type, i64::MIN)..=(room, parent, rel_type, i64::MAX);
    tables::RELATED.scan_back(tx, range, |_, child| {
        out.push(child);
        Ok(if out.len() < MAX_CHILDREN { Flow::Next } else { Flow::Stop })
    })?;
    Ok(out)
}

/// Whether anything relates to an event.
pub(super) fn any(tx: &impl Read, room: RoomNum, parent: &str) -> Result<bool> {
    let mut found = false;
    tables::DESCENDANTS.scan(tx, (room, parent, i64::MIN)..=(room, parent, i64::MAX), |_, _| {
        found = true;
        Ok(Flow::Stop)
    })?;
    Ok(found)
}

/// A page of what relates to an event that somebody asks for.
pub struct Wanted<'a> {
    /// The event.
    pub parent: &'a EventId,
    /// How the events relate to what they name; None for anyhow.
    pub rel_type: Option<&'a str>,
    /// Their type; None for any.
    pub kind: Option<&'a str>,
    /// Also what relates to it by way of others.
    pub recurse: bool,
    /// Which way.
    pub way: Way,
    /// Just after which place the page starts.
    pub from: Option<i64>,
    /// Just after which place it ends, if that comes first.
    pub to: Option<i64>,
    /// Events at most.
    pub limit: usize,
}

impl Wanted<'_> {
    fn fits(&self, child: &ChildRow) -> bool {
        (self.recurse || child.depth == 1)
            && self.rel_type.is_none_or(|wanted| wanted == child.rel_type)
            && self.kind.is_none_or(|wanted| wanted == child.kind)
    }
}

/// One page of what relates to an event, as far as the person may see it. 404 if they may not see the
/// event.
pub fn page(tx: &impl Read, room: &super::Room, view: &mut View<'_>, wanted: &Wanted<'_>) -> Result<history::Page> {
    let unknown = || Error::not_found("there is no such event, or you may not see it");
    let (pos, row) = event::shown(tx, room.num, wanted.parent)?.ok_or_else(unknown)?;
    if !view.sight.may_see(tx, pos, &row, &Slices::of(&row)?)? {
        return Err(unknown());
    }
    let limit = wanted.limit.clamp(1, MAX_PAGE);
    let mut page = history::Page { events: Vec::new(), senders: Vec::new(), end: None };
    let mut at = wanted.from.unwrap_or(if wanted.way == Way::Back { i64::MAX } else { i64::MIN });
    let mut patience = MAX_LOOK;
    loop {
        let (found, ended) = candidates(tx, room.num, wanted, at, (limit, &mut patience))?;
        for (order, child) in found {
            at = if wanted.way == Way::Back { order - 1 } else { order };
            let Some(child) = child else { continue };
            let row = event::row(tx, child.event)?;
            if !is_linked(tx, wanted.parent, &row, child.depth)? {
                continue;
            }
            let slices = Slices::of(&row)?;
            if view.ignores(tx, &slices.sender)? {
                continue;
            }
            if let Some(event) = view.see_slices(tx, child.event, &row, &slices)? {
                page.events.push(event);
                page.senders.push(slices.sender.into_owned());
            }
            if page.events.len() == limit {
                page.end = Some(at);
                return Ok(page);
            }
        }
        if ended {
            return Ok(page);
        }
        if patience == 0 {
            page.end = Some(at);
            return Ok(page);
        }
    }
}

/// The next entries of the index that fit; the last one looked at comes along as None if it does not,
/// to go on from there. True if there are no further ones.
#[expect(clippy::type_complexity, reason = "used once")]
fn candidates(
    tx: &impl Read,
    room: RoomNum,
    wanted: &Wanted<'_>,
    at: i64,
    (limit, patience): (usize, &mut usize),
) -> Result<(Vec<(i64, Option<ChildRow>)>, bool)> {
    let (parent, mut out, mut ended) = (wanted.parent.as_str(), Vec::new(), true);
    let (after, upto) = match wanted.way {
        Way::Back => (wanted.to.unwrap_or(i64::MIN), at),
        Way::Forward => (at, wanted.to.unwrap_or(i64::MAX)),
    };
    if after >= upto {
        return Ok((out, true));
    }
    let mut fitting = 0;
    let mut visit = |order: i64, child: ChildRow| {
        *patience = patience.saturating_sub(1);
        let fits = wanted.fits(&child);
        fitting += usize::from(fits);
        ended = fitting < limit && *patience > 0;
        if fits || !ended {
            out.push((order, fits.then_some(child)));
        }
        Ok(if ended { Flow::Next } else { Flow::Stop })
    };
    let first = after.saturating_add(1);
    match (wanted.rel_type.filter(|_| !wanted.recurse), wanted.way) {
        (Some(kind), Way::Back) => {
            let range = (room, parent, kind, first)..=(room, parent, kind, upto);
            tables::RELATED.scan_back(tx, range, |(.., order), child| visit(order, child))?;
        }
        (Some(kind), Way::Forward) => {
            let range = (room, parent, kind, first)..=(room, parent, kind, upto);
            tables::RELATED.scan(tx, range, |(.., order), child| visit(order, child))?;
        }
        (None, Way::Back) => {
            let range = (room, parent, first)..=(room, parent, upto);
            tables::DESCENDANTS.scan_back(tx, range, |(.., order), child| visit(order, child))?;
        }
        (None, Way::Forward) => {
            let range = (room, parent, first)..=(room, parent, upto);
            tables::DESCENDANTS.scan(tx, range, |(.., order), child| visit(order, child))?;
        }
    }
    Ok((out, ended))
}

/// Whether an event still leads to an ancestor: what was between may have been redacted.
fn is_linked(tx: &impl Read, ancestor: &EventId, row: &EventRow, depth: u64) -> Result<bool> {
    let Some(relation) = of_slices(&Slices::of(row)?) else { return Ok(false) };
    if depth == 1 {
        return Ok(relation.event_id == ancestor);
    }
    Ok(ancestors(tx, row.room, &relation)?.iter().any(|id| id == ancestor.as_str()))
}

/// Refuses a second reaction with the same key by the same person (400 `M_DUPLICATE_ANNOTATION`), and a
/// thread that begins with what relates to something else (400 `M_UNKNOWN`).
/// spec: client-server-api#avoiding-duplicate-annotations, #validation-of-mthread-relationships
pub(super) fn check_new(
    tx: &impl Read,
    room: RoomNum,
    sender: &UserId,
    kind: &TimelineEventType,
    content: &RawValue,
) -> Result<()> {
    let Some(relation) = declared(false, content) else { return Ok(()) };
    match relation.rel_type.as_str() {
        "m.annotation" => check_annotation(tx, room, sender, kind, content),
        threads::RELATION => match event::shown(tx, room, &relation.event_id)? {
            Some((_, row)) if of_slices(&Slices::of(&row)?).is_some() => {
                Err(Error::unknown("a thread can't begin with an event that relates to another"))
            }
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

fn check_annotation(
    tx: &impl Read,
    room: RoomNum,
    sender: &UserId,
    kind: &TimelineEventType,
    content: &RawValue,
) -> Result<()> {
    #[derive(Deserialize)]
    struct Annotating {
        #[serde(rename = "m.relates_to")]
        relates_to: Annotation,
    }
    #[derive(Deserialize)]
    struct Annotation {
        event_id: String,
        key: String,
    }
    let annotation = |content: &RawValue| {
        let parsed = serde_json::from_str::<Annotating>(content.get()).ok();
        parsed.map(|parsed| parsed.relates_to)
    };
    let Some(wanted) = annotation(content) else { return Ok(()) };
    let kind = kind.to_string();
    for child in children(tx, room, &wanted.event_id, "m.annotation")?.iter().filter(|child| child.kind == kind) {
        let there = Pdu::at(tx, child.event)?;
        if there.sender == sender && annotation(&there.content).is_some_and(|there| there.key == wanted.key) {
            return Err(Error::bad_request("M_DUPLICATE_ANNOTATION", "you have said this about the event already"));
        }
    }
    Ok(())
}
