//! Which thread an event belongs to. spec: client-server-api#threading, #threaded-read-receipts

use serde::Deserialize;

use super::event::{self, Slices};
use crate::{
    base::RoomNum,
    error::Result,
    store::{Read, tables},
};

/// Relations that are followed to find a thread. spec: client-server-api#threaded-read-receipts
const MAX_HOPS: usize = 3;

#[derive(Deserialize)]
struct Content {
    #[serde(rename = "m.relates_to")]
    relates_to: Relation,
}

#[derive(Deserialize)]
struct Relation {
    rel_type: String,
    event_id: String,
}

/// The ID of the thread's first event. None for what belongs to the main timeline, as the first event
/// of a thread itself does.
pub fn of(tx: &impl Read, room: RoomNum, event: &Slices<'_>) -> Result<Option<String>> {
    let Some(mut relation) = relation(event) else { return Ok(None) };
    for _ in 0..MAX_HOPS {
        if relation.rel_type == "m.thread" {
            return Ok(Some(relation.event_id));
        }
        let Some(pos) = tables::EVENT_IDS.get(tx, relation.event_id.as_str())? else { break };
        let row = event::row(tx, pos)?;
        if row.room != room {
            break;
        }
        match self::relation(&Slices::of(&row)?) {
            Some(further) => relation = further,
            None => break,
        }
    }
    Ok(None)
}

/// State events can't relate to others.
fn relation(event: &Slices<'_>) -> Option<Relation> {
    // Most events have none, and finding that out need not cost parsing their content.
    if event.state_key.is_some() || !event.content.get().contains("m.relates_to") {
        return None;
    }
    serde_json::from_str::<Content>(event.content.get()).ok().map(|content| content.relates_to)
}
