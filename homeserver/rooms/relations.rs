//! Events that relate to another one: an index by parent. spec: client-server-api#forming-relationships-between-events

use ruma::{OwnedEventId, UserId, events::TimelineEventType};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::event::{self, Pdu, Slices};
use crate::{
    base::Pos,
    error::{Error, Result},
    store::{
        Flow, Read, WriteTx,
        rows::{EventRow, Standing},
        tables,
    },
};

/// Related events that are looked at: a bound on what one event can cost its readers.
const MAX_CHILDREN: usize = 200;

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
    // State events can't relate to others.
    if pdu.state_key.is_some() {
        return None;
    }
    pdu.content_as::<Content>().map(|content| content.relates_to)
}

pub(super) fn index(tx: &WriteTx, pos: Pos, pdu: &Pdu) -> Result<()> {
    let Some(relation) = of(pdu) else { return Ok(()) };
    let key = (relation.event_id.as_str(), relation.rel_type.as_str(), pos);
    tables::RELATIONS.put(tx, key, &pdu.kind.to_string())
}

pub(super) fn forget(tx: &WriteTx, pos: Pos, pdu: &Pdu) -> Result<()> {
    if let Some(relation) = of(pdu) {
        tables::RELATIONS.remove(tx, (relation.event_id.as_str(), relation.rel_type.as_str(), pos))?;
    }
    Ok(())
}

/// The newest events of a type that relate to an event in one way, among the newest [`MAX_CHILDREN`].
fn children(tx: &impl Read, parent: &str, rel_type: &str, kind: &str) -> Result<Vec<Pos>> {
    let (mut out, mut looked) = (Vec::new(), 0);
    let range = (parent, rel_type, 0)..=(parent, rel_type, Pos::MAX);
    tables::RELATIONS.scan_back(tx, range, |(_, _, pos), child| {
        if child == kind {
            out.push(pos);
        }
        looked += 1;
        Ok(if looked < MAX_CHILDREN { Flow::Next } else { Flow::Stop })
    })?;
    Ok(out)
}

/// The edit that stands for an event now: the newest one of the same type by the same sender.
/// spec: client-server-api#server-side-aggregation-of-mreplace-relationships
pub(super) fn edit(tx: &impl Read, parent: &str, slices: &Slices<'_>) -> Result<Option<(Pos, EventRow)>> {
    let mut newest: Option<(u64, String, (Pos, EventRow))> = None;
    for pos in children(tx, parent, "m.replace", &slices.kind)? {
        let row = event::row(tx, pos)?;
        let candidate = Slices::of(&row)?;
        if candidate.sender != slices.sender || row.standing != Standing::Accepted {
            continue;
        }
        let (ts, id) = (candidate.origin_server_ts, row.id.clone());
        if newest.as_ref().is_none_or(|(best, best_id, _)| (ts, &id) > (*best, best_id)) {
            newest = Some((ts, id, (pos, row)));
        }
    }
    Ok(newest.map(|(.., found)| found))
}

/// Refuses a second reaction with the same key by the same person. 400 `M_DUPLICATE_ANNOTATION`.
/// spec: client-server-api#avoiding-duplicate-annotations
pub(super) fn check_new(tx: &impl Read, sender: &UserId, kind: &TimelineEventType, content: &RawValue) -> Result<()> {
    #[derive(Deserialize)]
    struct Annotating {
        #[serde(rename = "m.relates_to")]
        relates_to: Annotation,
    }
    #[derive(Deserialize)]
    struct Annotation {
        rel_type: String,
        event_id: String,
        key: String,
    }
    let annotation = |content: &RawValue| {
        let parsed = serde_json::from_str::<Annotating>(content.get()).ok();
        parsed.map(|parsed| parsed.relates_to).filter(|relation| relation.rel_type == "m.annotation")
    };
    let Some(wanted) = annotation(content) else { return Ok(()) };
    for pos in children(tx, &wanted.event_id, "m.annotation", &kind.to_string())? {
        let there = Pdu::at(tx, pos)?;
        if there.sender == sender && annotation(&there.content).is_some_and(|there| there.key == wanted.key) {
            return Err(Error::bad_request("M_DUPLICATE_ANNOTATION", "you have said this about the event already"));
        }
    }
    Ok(())
}
