//! Which of a room's events a client asked for. spec: client-server-api#filtering

use super::{
    event::Slices,
    relations::{self, MAX_CHILDREN},
    timeline::View,
};
use crate::{
    accounts::filters::Events,
    base::Pos,
    error::Result,
    store::{
        Flow, Read,
        rows::{ChildRow, EventRow},
        tables,
    },
};

/// Whether an event of a room passes a filter, as far as the event itself says.
pub fn passes(filter: &Events, room: &str, event: &Slices<'_>) -> bool {
    filter.wants_type(&event.kind)
        && filter.wants_sender(Some(&event.sender))
        && filter.wants_room(room)
        && filter.wants_content(event.content.get())
        && wants_relation(filter, event)
}

fn wants_relation(filter: &Events, event: &Slices<'_>) -> bool {
    if filter.rel_types.is_none() && filter.not_rel_types.is_empty() {
        return true;
    }
    let relation = relations::of_slices(event);
    let named = |types: &[String]| relation.as_ref().is_some_and(|relation| types.contains(&relation.rel_type));
    !named(&filter.not_rel_types) && filter.rel_types.as_deref().is_none_or(named)
}

/// Whether those have related something to an event whom the filter names, in a way that it names. Only what
/// the person may see of that counts, and of very much only the newest.
pub fn is_related(tx: &impl Read, filter: &Events, view: &mut View<'_>, row: &EventRow) -> Result<bool> {
    let (senders, types) = (filter.related_by_senders.as_deref(), filter.related_by_rel_types.as_deref());
    if senders.is_none() && types.is_none() {
        return Ok(true);
    }
    for child in children(tx, row, types)? {
        let row = super::event::row(tx, child)?;
        let event = Slices::of(&row)?;
        let sent = senders.is_none_or(|senders| senders.iter().any(|user| *user == event.sender));
        if sent && view.see_slices(tx, child, &row, &event)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn children(tx: &impl Read, row: &EventRow, types: Option<&[String]>) -> Result<Vec<Pos>> {
    let (mut out, id) = (Vec::new(), row.id.as_str());
    let mut note = |kind: &str, child: ChildRow| {
        if types.is_none_or(|types| types.iter().any(|wanted| wanted == kind)) {
            out.push(child.event);
        }
        if out.len() < MAX_CHILDREN { Flow::Next } else { Flow::Stop }
    };
    let range = (row.room, id, "", i64::MIN)..=(row.room, id, crate::store::LAST, i64::MAX);
    tables::RELATED.scan_back(tx, range, |(_, _, kind, _), child| Ok(note(kind, child)))?;
    Ok(out)
}
