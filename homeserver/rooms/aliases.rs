//! Room aliases of this server: names that lead to rooms. spec: client-server-api#room-aliases

use std::collections::BTreeSet;

use ruma::{
    OwnedRoomAliasId, OwnedRoomId, RoomAliasId, RoomId, UserId,
    events::{StateEventType, TimelineEventType},
};
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use super::{
    draft::{self, Draft},
    members,
    power::Powers,
    room::Room,
};
use crate::{
    accounts::users,
    base::signing::Identity,
    error::{Error, Result},
    store::{LAST, Read, WriteTx, rows::AliasRow, tables},
};

/// The room that an alias of ours leads to.
pub fn resolve(tx: &impl Read, alias: &RoomAliasId) -> Result<Option<OwnedRoomId>> {
    let row = tables::ALIASES.get(tx, alias.as_str())?;
    row.map(|row| RoomId::parse(row.room_id).map_err(Error::internal)).transpose()
}

/// Refuses an alias that is not of this server or is taken.
pub fn check_free(tx: &impl Read, me: &Identity, alias: &RoomAliasId) -> Result<()> {
    if alias.server_name() != me.name {
        return Err(Error::invalid_param(format!("aliases made here end with :{}", me.name)));
    }
    if tables::ALIASES.has(tx, alias.as_str())? {
        return Err(Error::bad_request("M_ROOM_IN_USE", "this alias is taken"));
    }
    Ok(())
}

/// Makes an alias lead to a room.
pub fn set(tx: &WriteTx, me: &Identity, alias: &RoomAliasId, room: &Room, creator: &UserId) -> Result<()> {
    check_free(tx, me, alias)?;
    let row = AliasRow { room_id: room.row.id.clone(), creator: creator.to_string() };
    tables::ALIASES.put(tx, alias.as_str(), &row)?;
    tables::ROOM_ALIASES.put(tx, (room.num, alias.as_str()), &())
}

/// Takes an alias away: its maker may, people who may set the room's aliases may, administrators, and whoever
/// may do so `anyway`. The room stops naming it, if they may say so there.
pub fn remove(tx: &WriteTx, me: &Identity, alias: &RoomAliasId, (by, anyway): (&UserId, bool)) -> Result<()> {
    let unknown = || Error::not_found("there is no such alias");
    let row = tables::ALIASES.get(tx, alias.as_str())?.ok_or_else(unknown)?;
    let mut room = Room::named(tx, &RoomId::parse(&row.room_id).map_err(Error::internal)?)?;
    let kind = TimelineEventType::RoomCanonicalAlias;
    let may = anyway || row.creator == by.as_str() || Powers::of(tx, &room)?.may_send(by, &kind, true);
    if !may && !users::is_admin(tx, by)? {
        return Err(Error::forbidden("this alias is somebody else's"));
    }
    tables::ALIASES.remove(tx, alias.as_str())?;
    tables::ROOM_ALIASES.remove(tx, (room.num, alias.as_str()))?;
    unname(tx, me, &mut room, alias, by)
}

/// Takes an alias out of the room's canonical aliases.
fn unname(tx: &WriteTx, me: &Identity, room: &mut Room, alias: &RoomAliasId, by: &UserId) -> Result<()> {
    let kind = StateEventType::RoomCanonicalAlias;
    let Some(old) = room.state_content::<Map<String, Value>>(tx, &kind)? else { return Ok(()) };
    let mut content = old.clone();
    if content.get("alias").and_then(Value::as_str) == Some(alias.as_str()) {
        content.remove("alias");
    }
    if let Some(others) = content.get_mut("alt_aliases").and_then(Value::as_array_mut) {
        others.retain(|other| other.as_str() != Some(alias.as_str()));
    }
    if content == old || !members::is_joined(tx, room.num, by)? {
        return Ok(());
    }
    let draft = Draft::state_of(TimelineEventType::RoomCanonicalAlias, "", &content)?;
    match Powers::of(tx, room)?.may_send(by, &TimelineEventType::RoomCanonicalAlias, true) {
        true => draft::send(tx, me, room, by, &draft, None).map(drop),
        false => Ok(()),
    }
}

/// Aliases that a canonical alias event names and the room's present one does not: those have to lead to the
/// room. 400 for what is no alias. spec: client-server-api#mroomcanonical_alias
pub fn newly_named(tx: &impl Read, room: &Room, content: &RawValue) -> Result<BTreeSet<OwnedRoomAliasId>> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Content {
        alias: Option<String>,
        alt_aliases: Vec<String>,
    }
    let all = |content: Content| content.alias.into_iter().chain(content.alt_aliases);
    let wanted: Content = serde_json::from_str(content.get()).map_err(|error| Error::bad_json(error.to_string()))?;
    let now: Content = room.state_content(tx, &StateEventType::RoomCanonicalAlias)?.unwrap_or_default();
    let known: Vec<String> = all(now).collect();
    let new = all(wanted).filter(|alias| !alias.is_empty() && !known.contains(alias));
    new.map(|alias| {
        RoomAliasId::parse(&alias).map_err(|_| Error::invalid_param(format!("{alias} is not a room alias")))
    })
    .collect()
}

/// Refuses a canonical alias event that newly names an alias which does not lead to its room; `elsewhere`
/// are those of other servers that do. 400 `M_BAD_ALIAS`.
pub fn check_named(
    tx: &impl Read,
    me: &Identity,
    room: &Room,
    (content, elsewhere): (&RawValue, &BTreeSet<OwnedRoomAliasId>),
) -> Result<()> {
    for alias in newly_named(tx, room, content)? {
        let leads_here = match alias.server_name() == me.name {
            true => resolve(tx, &alias)?.is_some_and(|id| id == *room.id()),
            false => elsewhere.contains(&alias),
        };
        if !leads_here {
            return Err(Error::bad_request("M_BAD_ALIAS", format!("{alias} does not lead to this room")));
        }
    }
    Ok(())
}

/// How many aliases of ours there are.
pub fn count(tx: &impl Read) -> Result<u64> {
    tables::ALIASES.len(tx)
}

/// The aliases of ours that lead to a room.
pub fn of(tx: &impl Read, room: &Room) -> Result<Vec<String>> {
    tables::ROOM_ALIASES.collect(tx, (room.num, "")..=(room.num, LAST), |(_, alias), ()| alias.to_owned())
}
