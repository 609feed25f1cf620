//! Account data: of the account, and of its rooms.

use serde_json::value::RawValue;

use super::{
    body::{Events, Plain},
    turn::Turn,
};
use crate::{
    accounts::{
        account_data::{self, Entry},
        filters, push_rules,
    },
    base::json,
    error::Result,
    rooms::Room,
    store::Read,
};

/// Everything that changed, or for a first sync all there is. Push rules that were never touched are
/// told too: clients look for them here.
pub fn entries(turn: &Turn<'_, impl Read>) -> Result<Vec<Entry>> {
    if let Some(since) = turn.since {
        return account_data::changes(turn.tx, &turn.ask.user, since.pos, turn.now);
    }
    let mut entries = account_data::all(turn.tx, &turn.ask.user)?;
    entries.retain(|entry| !entry.room.is_empty() || entry.kind != push_rules::TYPE);
    let json = push_rules::content(&turn.facts.rules)?.to_string();
    entries.push(Entry { room: String::new(), kind: push_rules::TYPE.to_owned(), json });
    Ok(entries)
}

/// What of the account's own changed, with the push rules for a client that knows nothing.
pub fn own_entries(turn: &Turn<'_, impl Read>) -> Result<Vec<Entry>> {
    if turn.since.is_some() {
        let mut entries = entries(turn)?;
        entries.retain(|entry| entry.room.is_empty());
        return Ok(entries);
    }
    let mut entries = account_data::of_room(turn.tx, &turn.ask.user, "")?;
    entries.retain(|entry| entry.kind != push_rules::TYPE);
    let json = push_rules::content(&turn.facts.rules)?.to_string();
    entries.push(Entry { room: String::new(), kind: push_rules::TYPE.to_owned(), json });
    Ok(entries)
}

/// All there is for a room.
pub fn all_of_room(turn: &Turn<'_, impl Read>, room: &Room) -> Result<Vec<Entry>> {
    account_data::of_room(turn.tx, &turn.ask.user, &room.row.id)
}

/// The account's section.
pub fn section(turn: &Turn<'_, impl Read>, entries: Vec<Entry>) -> Result<Events<Plain<Box<RawValue>>>> {
    wanted(turn, entries, &turn.ask.filter.account_data)
}

/// A room's section.
pub fn of_room(turn: &Turn<'_, impl Read>, mut entries: Vec<Entry>) -> Result<Events<Plain<Box<RawValue>>>> {
    let filter = &turn.ask.filter.room.account_data;
    entries.retain(|entry| filter.wants_room(&entry.room));
    wanted(turn, entries, filter)
}

/// What passes a filter. It is the person's own word, so they are its sender. A limit means nothing here: what
/// was left out would never be told.
fn wanted(
    turn: &Turn<'_, impl Read>,
    mut entries: Vec<Entry>,
    filter: &filters::Events,
) -> Result<Events<Plain<Box<RawValue>>>> {
    entries.retain(|entry| {
        filter.wants_type(&entry.kind)
            && filter.wants_sender(Some(turn.ask.user.as_str()))
            && filter.wants_content(&entry.json)
    });
    Ok(Events { events: entries.into_iter().map(as_event).collect::<Result<_>>()? })
}

fn as_event(entry: Entry) -> Result<Plain<Box<RawValue>>> {
    Ok(Plain { content: json::raw(entry.json)?, kind: entry.kind })
}
