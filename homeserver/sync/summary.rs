//! What a room list shows: how many people are in a room, and after whom it can be named.
//! spec: client-server-api#get_matrixclientv3sync_response-200_roomsummary

use ruma::{UserId, events::StateEventType};
use serde::Deserialize;

use super::body::Summary;
use crate::{
    base::Pos,
    error::Result,
    rooms::{Room, members, state},
    store::Read,
};

/// The summary, if what it says may have changed with some state keys.
pub fn build(tx: &impl Read, room: &Room, user: &UserId, changed: Option<&[(u64, Pos)]>) -> Result<Summary> {
    let key = |kind: StateEventType| state::key(tx, &kind.to_string(), "");
    let naming = [key(StateEventType::RoomName)?, key(StateEventType::RoomCanonicalAlias)?];
    let (people_changed, name_changed) = match changed {
        None => (true, true),
        Some(changed) => (
            changed.iter().any(|(key, _)| state::is_member(*key)),
            changed.iter().any(|(key, _)| naming.contains(&Some(*key))),
        ),
    };
    if !people_changed && !name_changed {
        return Ok(Summary::default());
    }
    let heroes = match is_named(tx, room)? {
        true => None,
        false => Some(members::heroes(tx, room.num, user)?),
    };
    Ok(Summary {
        heroes,
        joined: people_changed.then_some(room.row.joined),
        invited: people_changed.then_some(room.row.invited),
        partial: None,
    })
}

/// Whether the room's members are still to come: said as long as they are, and once when they are there to
/// a client that knows the timeline up to a place (`None`: nothing) and was told that they are not.
pub fn partial(room: &Room, since: Option<i64>) -> Option<bool> {
    if room.is_partial() {
        return Some(true);
    }
    let (from, upto) = room.row.was_partial?;
    since.filter(|since| (from..upto).contains(since)).map(|_| false)
}

fn is_named(tx: &impl Read, room: &Room) -> Result<bool> {
    #[derive(Deserialize)]
    struct Name {
        name: Option<String>,
    }
    #[derive(Deserialize)]
    struct Alias {
        alias: Option<String>,
    }
    let given = |text: Option<String>| text.is_some_and(|text| !text.is_empty());
    let name: Option<Name> = room.state_content(tx, &StateEventType::RoomName)?;
    if given(name.and_then(|content| content.name)) {
        return Ok(true);
    }
    let alias: Option<Alias> = room.state_content(tx, &StateEventType::RoomCanonicalAlias)?;
    Ok(given(alias.and_then(|content| content.alias)))
}
