//! What other events say about one, bundled with it: its edit, its thread, what refers to it. Only of
//! what its reader may see, and nothing of whom they ignore.
//! spec: client-server-api#aggregations-of-child-events

use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    event::{self, Slices, Unsigned},
    relations, threads,
    timeline::View,
};
use crate::{
    base::Pos,
    error::Result,
    store::{
        Read,
        rows::{EventRow, Standing},
    },
};

/// What other events say about one.
#[derive(Serialize)]
pub struct Relations {
    /// The event that replaces it, as clients see it.
    #[serde(rename = "m.replace", skip_serializing_if = "Option::is_none")]
    replace: Option<Box<RawValue>>,
    /// The thread that it begins.
    #[serde(rename = "m.thread", skip_serializing_if = "Option::is_none")]
    thread: Option<threads::Summary>,
    /// What refers to it.
    #[serde(rename = "m.reference", skip_serializing_if = "Option::is_none")]
    reference: Option<References>,
}

#[derive(Serialize)]
struct References {
    chunk: Vec<Reference>,
}

#[derive(Serialize)]
struct Reference {
    event_id: String,
}

/// What other events say about an event, if they say anything. State events have nothing of it.
pub fn of(
    tx: &impl Read,
    view: &mut View<'_>,
    (pos, row): (Pos, &EventRow),
    slices: &Slices<'_>,
) -> Result<Option<Relations>> {
    if slices.state_key.is_some() || !relations::any(tx, row.room, &row.id)? {
        return Ok(None);
    }
    let replace = match row.redacted_by == 0 && !view.hides(tx, &slices.sender)? {
        true => edit(tx, view, row, slices)?,
        false => None,
    };
    let thread = threads::summary(tx, view, (pos, row), slices)?;
    let reference = references(tx, view, row)?;
    let any = replace.is_some() || thread.is_some() || reference.is_some();
    Ok(any.then_some(Relations { replace, thread, reference }))
}

/// The edit that stands for an event now: the newest valid one that the reader may see.
/// spec: client-server-api#server-side-aggregation-of-mreplace-relationships
fn edit(tx: &impl Read, view: &mut View<'_>, row: &EventRow, slices: &Slices<'_>) -> Result<Option<Box<RawValue>>> {
    let newest = newest_edit(tx, row, slices, |pos, row, slices| view.sight.may_see(tx, pos, row, slices))?;
    let Some(edit) = newest else { return Ok(None) };
    view.plain(&edit, &Slices::of(&edit)?, &Unsigned::default()).map(Some)
}

/// The newest valid edit of an event, of those that are `seen`.
pub(super) fn newest_edit(
    tx: &impl Read,
    row: &EventRow,
    slices: &Slices<'_>,
    mut seen: impl FnMut(Pos, &EventRow, &Slices<'_>) -> Result<bool>,
) -> Result<Option<EventRow>> {
    if relations::of_slices(slices).is_some_and(|relation| relation.rel_type == "m.replace") {
        return Ok(None);
    }
    let mut newest: Option<(u64, EventRow)> = None;
    for child in relations::children(tx, row.room, &row.id, "m.replace")? {
        if child.kind != slices.kind {
            continue;
        }
        let edit = event::row(tx, child.event)?;
        let candidate = Slices::of(&edit)?;
        let valid = candidate.sender == slices.sender && edit.standing == Standing::Accepted && replaces(&candidate);
        if !valid || !seen(child.event, &edit, &candidate)? {
            continue;
        }
        let at = candidate.origin_server_ts;
        if newest.as_ref().is_none_or(|(best, row)| (at, &edit.id) > (*best, &row.id)) {
            newest = Some((at, edit));
        }
    }
    Ok(newest.map(|(_, edit)| edit))
}

/// Whether an event says what it puts in another's place. Of an encrypted one only its readers know.
/// spec: client-server-api#validity-of-replacement-events
fn replaces(event: &Slices<'_>) -> bool {
    #[derive(serde::Deserialize)]
    struct Content {
        #[serde(rename = "m.new_content")]
        _new: serde_json::Map<String, serde_json::Value>,
    }
    event.kind == "m.room.encrypted" || serde_json::from_str::<Content>(event.content.get()).is_ok()
}

/// What refers to an event, the oldest first.
/// spec: client-server-api#server-side-aggregation-of-mreference
fn references(tx: &impl Read, view: &mut View<'_>, row: &EventRow) -> Result<Option<References>> {
    let mut chunk = Vec::new();
    for child in relations::children(tx, row.room, &row.id, "m.reference")?.into_iter().rev() {
        let row = event::row(tx, child.event)?;
        let slices = Slices::of(&row)?;
        if !view.ignores(tx, &slices.sender)? && view.sight.may_see(tx, child.event, &row, &slices)? {
            chunk.push(Reference { event_id: row.id });
        }
    }
    Ok((!chunk.is_empty()).then_some(References { chunk }))
}
