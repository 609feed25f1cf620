//! Account data: of the account, and of its rooms.

use ruma::api::client::filter::Filter;
use serde_json::value::RawValue;

use super::{
    body::{Events, Plain},
    turn::Turn,
};
use crate::{
    accounts::{
        account_data::{self, Entry},
        push_rules,
    },
    base::json,
    error::Result,
    rooms::{Room, filter::matches},
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
    let filter = &turn.ask.filter.account_data;
    let wanted = entries.into_iter().filter(|entry| passes(filter, &entry.kind, turn.ask.user.as_str()));
    Ok(Events { events: wanted.map(as_event).collect::<Result<_>>()? })
}

/// A room's section.
pub fn of_room(turn: &Turn<'_, impl Read>, entries: Vec<Entry>) -> Result<Events<Plain<Box<RawValue>>>> {
    let filter = &turn.ask.filter.room.account_data;
    let named = |patterns: &[String], kind: &str| patterns.iter().any(|pattern| matches(pattern, kind));
    let wanted = entries.into_iter().filter(|entry| {
        !named(&filter.not_types, &entry.kind)
            && filter.types.as_deref().is_none_or(|types| named(types, &entry.kind))
            && !filter.not_rooms.iter().any(|room| *room == entry.room)
            && filter.rooms.as_ref().is_none_or(|rooms| rooms.iter().any(|room| *room == entry.room))
    });
    Ok(Events { events: wanted.map(as_event).collect::<Result<_>>()? })
}

/// Whether something outside rooms passes a filter.
pub fn passes(filter: &Filter, kind: &str, sender: &str) -> bool {
    let named = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, kind));
    let sent = |senders: &[ruma::OwnedUserId]| senders.iter().any(|user| user == sender);
    !named(&filter.not_types)
        && filter.types.as_deref().is_none_or(named)
        && !sent(&filter.not_senders)
        && filter.senders.as_deref().is_none_or(sent)
}

fn as_event(entry: Entry) -> Result<Plain<Box<RawValue>>> {
    Ok(Plain { content: json::raw(entry.json)?, kind: entry.kind })
}
