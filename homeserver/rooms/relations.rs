//! Events that relate to another one: an index by parent. spec: client-server-api#forming-relationships-between-events

use ruma::OwnedEventId;
use serde::Deserialize;

use super::event::Pdu;
use crate::{
    base::Pos,
    error::Result,
    store::{WriteTx, tables},
};

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
    let how = format!("{}\n{}", relation.rel_type, pdu.kind);
    tables::RELATIONS.put(tx, (relation.event_id.as_str(), pos), &how)
}

pub(super) fn forget(tx: &WriteTx, pos: Pos, pdu: &Pdu) -> Result<()> {
    if let Some(relation) = of(pdu) {
        tables::RELATIONS.remove(tx, (relation.event_id.as_str(), pos))?;
    }
    Ok(())
}
