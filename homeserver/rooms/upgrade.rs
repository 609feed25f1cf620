//! Upgrading a room: a new room of another version takes its place, and the old one says so.
//! spec: client-server-api#room-upgrades

use ruma::{
    OwnedRoomId, OwnedUserId, RoomVersionId, UserId,
    api::client::room::{Visibility, create_room::v3::RoomPreset},
    events::{StateEventType, TimelineEventType},
};
use serde_json::{Map, Value, json};

use super::{
    aliases,
    create::{self, StateWish, Wish},
    directory,
    draft::{self, Draft},
    room::{self, Room},
};
use crate::{
    base::signing::Identity,
    error::{Error, Result},
    store::{Read, WriteTx, rows::AliasRow, tables},
};

/// What the new room is to be.
pub struct Wanted {
    /// Its version.
    pub version: RoomVersionId,
    /// Further creators, where the version has them.
    pub additional_creators: Vec<OwnedUserId>,
    /// What makes it another room than any other.
    pub seed: create::Seed,
}

/// State that moves to the new room.
const MOVED: [StateEventType; 10] = [
    StateEventType::RoomServerAcl,
    StateEventType::RoomEncryption,
    StateEventType::RoomName,
    StateEventType::RoomAvatar,
    StateEventType::RoomTopic,
    StateEventType::RoomGuestAccess,
    StateEventType::RoomHistoryVisibility,
    StateEventType::RoomJoinRules,
    StateEventType::RoomPowerLevels,
    StateEventType::RoomPinnedEvents,
];

/// Makes the new room, moves aliases and the listing to it, and closes the old one.
pub fn upgrade(tx: &WriteTx, me: &Identity, old: &mut Room, by: &UserId, wanted: &Wanted) -> Result<OwnedRoomId> {
    let rules = room::rules(&wanted.version)?;
    let wish = wish(tx, old, by, wanted, rules.authorization.explicitly_privilege_room_creators)?;
    // The tombstone comes first in the checks: who may not set it may not make the new room either.
    let dry = tombstone("!somewhere:else.example")?;
    draft::sign(tx, me, old, by, &dry)?;
    let id = create::create(tx, me, by, &wish)?;
    draft::send(tx, me, old, by, &tombstone(id.as_str())?, None)?;
    move_names(tx, me, old, &Room::named(tx, &id)?, by)?;
    close(tx, me, old, by)?;
    Ok(id)
}

fn tombstone(replacement: &str) -> Result<Draft> {
    let content = json!({ "body": "This room has been replaced", "replacement_room": replacement });
    Draft::state_of(TimelineEventType::RoomTombstone, "", &content)
}

fn wish(tx: &impl Read, old: &Room, by: &UserId, wanted: &Wanted, privileged: bool) -> Result<Wish> {
    let mut creation: Map<String, Value> = room_content(tx, old, &StateEventType::RoomCreate)?
        .ok_or_else(|| Error::internal("a room without a create event"))?;
    creation
        .retain(|key, _| !matches!(key.as_str(), "creator" | "room_version" | "additional_creators" | "predecessor"));
    creation.insert("predecessor".into(), json!({ "room_id": old.row.id }));
    if privileged && !wanted.additional_creators.is_empty() {
        creation.insert("additional_creators".into(), json!(wanted.additional_creators));
    }
    let (mut initial_state, mut power_levels) = (Vec::new(), Map::new());
    for kind in MOVED {
        let Some(mut content) = room_content(tx, old, &kind)? else { continue };
        if kind == StateEventType::RoomPowerLevels {
            demote_creators(&mut content, by, wanted, privileged);
            power_levels = content;
            continue;
        }
        initial_state.push(StateWish {
            kind: TimelineEventType::from(kind.to_string()),
            state_key: String::new(),
            content: crate::base::json::to_raw(&content)?,
        });
    }
    Ok(Wish {
        version: wanted.version.clone(),
        preset: RoomPreset::PrivateChat,
        visibility: if directory::lists(tx, old.num)? { Visibility::Public } else { Visibility::Private },
        creation_content: creation,
        power_levels,
        initial_state,
        name: None,
        topic: None,
        alias: None,
        invite: Vec::new(),
        is_direct: false,
        seed: wanted.seed.clone(),
    })
}

/// Creators stand above the power levels of the newest versions and may not be named in them.
fn demote_creators(levels: &mut Map<String, Value>, by: &UserId, wanted: &Wanted, privileged: bool) {
    let Some(users) = levels.get_mut("users").and_then(Value::as_object_mut) else { return };
    if privileged {
        users.retain(|user, _| user != by.as_str() && !wanted.additional_creators.iter().any(|other| other == user));
    } else if !users.contains_key(by.as_str()) {
        users.insert(by.to_string(), 100.into());
    }
}

fn room_content(tx: &impl Read, room: &Room, kind: &StateEventType) -> Result<Option<Map<String, Value>>> {
    room.state_content(tx, kind)
}

fn move_names(tx: &WriteTx, me: &Identity, old: &Room, new: &Room, by: &UserId) -> Result<()> {
    for alias in aliases::of(tx, old)? {
        let Some(row) = tables::ALIASES.get(tx, alias.as_str())? else { continue };
        tables::ALIASES.put(tx, alias.as_str(), &AliasRow { room_id: new.row.id.clone(), ..row })?;
        tables::ROOM_ALIASES.remove(tx, (old.num, alias.as_str()))?;
        tables::ROOM_ALIASES.put(tx, (new.num, alias.as_str()), &())?;
    }
    tables::PUBLIC_ROOMS.remove(tx, old.num)?;
    if let Some(content) = room_content(tx, old, &StateEventType::RoomCanonicalAlias)? {
        let mut new = Room::at(tx, new.num)?;
        let draft = Draft::state_of(TimelineEventType::RoomCanonicalAlias, "", &content)?;
        draft::send(tx, me, &mut new, by, &draft, None)?;
    }
    Ok(())
}

/// Lets nobody speak in the old room but those who could set its state. If the one who upgrades has
/// not the power for that, the room stays as it is: the tombstone says enough.
fn close(tx: &WriteTx, me: &Identity, old: &mut Room, by: &UserId) -> Result<()> {
    let Some(mut levels) = room_content(tx, old, &StateEventType::RoomPowerLevels)? else {
        return Ok(());
    };
    let number = |name: &str, default: i64| levels.get(name).and_then(Value::as_i64).unwrap_or(default);
    let level = 50.max(number("users_default", 0) + 1);
    let (speak, invite) = (number("events_default", 0).max(level), number("invite", 0).max(level));
    levels.insert("events_default".into(), speak.into());
    levels.insert("invite".into(), invite.into());
    let draft = Draft::state_of(TimelineEventType::RoomPowerLevels, "", &levels)?;
    if draft::sign(tx, me, old, by, &draft).is_ok() {
        draft::send(tx, me, old, by, &draft, None)?;
    }
    Ok(())
}
