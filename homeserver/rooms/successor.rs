//! Who comes into a room that took another's place finds it as they had the old one: its tags, whether it
//! notifies, and whose direct room it is. What they have set for the new one already stands.
//! spec: client-server-api#room-upgrades

use ruma::{
    OwnedRoomId, RoomId, UserId,
    events::StateEventType,
    push::{PushCondition, Ruleset},
};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::room::Room;
use crate::{
    accounts::{account_data, push_rules},
    error::{Error, Result},
    store::{Read, WriteTx},
};

/// Brings over what somebody has set for the room before this one, if there is one. People of other servers
/// have set nothing here. Who has set as much as they may already comes in all the same.
pub(super) fn moved_in(tx: &WriteTx, room: &Room, user: &UserId) -> Result<()> {
    if !account_data::has_any(tx, user)? {
        return Ok(());
    }
    let Some(old) = predecessor(tx, room)? else { return Ok(()) };
    for bring in [tags, direct, rules] {
        match bring(tx, user, &old, room.id()) {
            Err(error) if error.status().is_server_error() => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn predecessor(tx: &impl Read, room: &Room) -> Result<Option<OwnedRoomId>> {
    #[derive(Deserialize)]
    struct Create {
        predecessor: Option<Predecessor>,
    }
    #[derive(Deserialize)]
    struct Predecessor {
        room_id: OwnedRoomId,
    }
    // Nobody has checked what a room says of itself there: what can't be read is none.
    let create = room.state_event(tx, &StateEventType::RoomCreate, "")?;
    let create = create.and_then(|create| create.content_as::<Create>());
    Ok(create.and_then(|create| create.predecessor).map(|old| old.room_id))
}

fn tags(tx: &WriteTx, user: &UserId, old: &RoomId, new: &RoomId) -> Result<()> {
    if !account_data::tags(tx, user, new.as_str())?.is_empty() {
        return Ok(());
    }
    for (tag, info) in account_data::tags(tx, user, old.as_str())? {
        if let Value::Object(info) = info {
            account_data::tag(tx, user, new.as_str(), &tag, info)?;
        }
    }
    Ok(())
}

fn direct(tx: &WriteTx, user: &UserId, old: &RoomId, new: &RoomId) -> Result<()> {
    let Some(json) = account_data::get(tx, user, "", account_data::DIRECT)? else { return Ok(()) };
    let mut people: Map<String, Value> = serde_json::from_str(&json).map_err(Error::internal)?;
    let mut is_other = false;
    for rooms in people.values_mut().filter_map(Value::as_array_mut) {
        let has = |room: &RoomId| rooms.iter().any(|listed| listed == room.as_str());
        if has(old) && !has(new) {
            rooms.push(new.as_str().into());
            is_other = true;
        }
    }
    match is_other {
        true => account_data::set(tx, user, "", account_data::DIRECT, Value::Object(people).to_string()),
        false => Ok(()),
    }
}

fn rules(tx: &WriteTx, user: &UserId, old: &RoomId, new: &RoomId) -> Result<()> {
    let mut rules = push_rules::of(tx, user)?;
    match notifies_alike(&mut rules, old, new) {
        true => push_rules::change(tx, user, |own| {
            *own = rules;
            Ok(())
        }),
        false => Ok(()),
    }
}

/// Whether rules were added so that a room notifies as another does: one of the room itself, and the one above
/// all others by which clients silence a room.
fn notifies_alike(rules: &mut Ruleset, old: &RoomId, new: &RoomId) -> bool {
    let is_set = |room: &RoomId| rules.room.contains(room.as_str()) || rules.override_.contains(room.as_str());
    if is_set(new) || !is_set(old) {
        return false;
    }
    if let Some(mut rule) = rules.room.get(old.as_str()).cloned() {
        rule.rule_id = new.to_owned();
        rules.room.insert(rule);
    }
    if let Some(mut rule) = rules.override_.get(old.as_str()).cloned() {
        rule.rule_id = new.to_string();
        for condition in &mut rule.conditions {
            if let PushCondition::EventMatch(of) = condition
                && of.pattern == old.as_str()
            {
                of.pattern = new.to_string();
            }
        }
        rules.override_.shift_insert(0, rule);
    }
    true
}
