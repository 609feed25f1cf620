//! What another server says of a room that this one is not in, and of the rooms below it: pruned to what a
//! summary has, bounded, and shown only to whoever it concerns. It may be false: it is never state.
//! spec: server-server-api#get_matrixfederationv1hierarchyroomid

use std::collections::{HashMap, HashSet};

use ruma::{OwnedRoomId, OwnedServerName, RoomAliasId, RoomId, UserId};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    hierarchy::{self, Child, SPACE},
    members,
    room::Room,
};
use crate::{base::json, error::Result, store::Read};

/// Children of one space that are taken in.
const MAX_CHILDREN: usize = 1000;
/// Bytes of one text that is shown.
const MAX_TEXT: usize = 8 * 1024;
/// Bytes of an event that names a child.
const MAX_EVENT: usize = 4 * 1024;
/// Rooms whose members may come in, of which are looked at.
const MAX_ALLOWED: usize = 50;

/// What a server said of a room.
pub struct Told {
    /// Who said it.
    pub by: OwnedServerName,
    /// What the room says of itself.
    pub summary: Map<String, Value>,
    /// What the rooms right below it say of themselves, as far as that server knows them.
    pub children: HashMap<OwnedRoomId, Map<String, Value>>,
    /// Rooms below it that nobody of ours could come into.
    inaccessible: HashSet<OwnedRoomId>,
    /// The events that name its children, stripped.
    events: Vec<Map<String, Value>>,
}

impl Told {
    /// What an answer says of the room that was asked about. None if it says nothing of it.
    pub fn parse(answer: &[u8], room: &RoomId, by: &OwnedServerName) -> Option<Self> {
        #[derive(Deserialize)]
        struct Answer {
            room: Map<String, Value>,
            #[serde(default)]
            children: Vec<Value>,
            #[serde(default)]
            inaccessible_children: Vec<Value>,
        }
        if json::is_too_deep(answer) {
            return None;
        }
        let mut answer: Answer = serde_json::from_slice(answer).ok()?;
        let events = answer.room.remove("children_state");
        let (_, summary) = prune(&answer.room).filter(|(id, _)| id == room)?;
        let is_space = summary.get("room_type").and_then(Value::as_str) == Some(SPACE);
        let events = events.filter(|_| is_space).and_then(|events| events.as_array().cloned()).unwrap_or_default();
        let events: Vec<_> = events.into_iter().take(MAX_CHILDREN).filter_map(naming).collect();
        let mut named: HashSet<OwnedRoomId> = events.iter().filter_map(|event| id(event.get("state_key")?)).collect();
        // It was asked about this room and those below it, and of nothing else.
        named.remove(room);
        let children = answer.children.iter().take(MAX_CHILDREN).filter_map(|child| prune(child.as_object()?));
        let inaccessible = answer.inaccessible_children.iter().take(MAX_CHILDREN).filter_map(id);
        Some(Self {
            by: by.clone(),
            summary,
            children: children.filter(|(id, _)| named.contains(id)).collect(),
            inaccessible: inaccessible.filter(|id| named.contains(id)).collect(),
            events,
        })
    }

    /// Whether it may say more to who was let in somewhere.
    pub fn keeps_back(&self) -> bool {
        !self.inaccessible.is_empty()
    }

    /// Its children, in their order.
    pub fn below(&self) -> Vec<Child> {
        let mut out: Vec<_> = self.events.iter().cloned().filter_map(Child::of).collect();
        hierarchy::sort(&mut out);
        out
    }

    /// Whether all that there is to know of a child has been said: it has no children of its own, or it
    /// can't be seen from anywhere.
    pub fn is_enough(&self, child: &RoomId) -> bool {
        let is_space = |summary: &Map<String, Value>| summary.get("room_type").and_then(Value::as_str) == Some(SPACE);
        self.inaccessible.contains(child) || self.children.get(child).is_some_and(|summary| !is_space(summary))
    }
}

fn id(value: &Value) -> Option<OwnedRoomId> {
    RoomId::parse(value.as_str()?).ok()
}

/// The stripped event that names a child, and nothing else that was said with it.
fn naming(event: Value) -> Option<Map<String, Value>> {
    let Value::Object(mut event) = event else { return None };
    let sender = event.get("sender").and_then(Value::as_str).and_then(|sender| UserId::parse(sender).ok());
    let is_child = event.get("type").and_then(Value::as_str) == Some("m.space.child");
    if sender.is_none() || !is_child || !event.get("origin_server_ts").is_some_and(Value::is_u64) {
        return None;
    }
    let members = ["type", "state_key", "sender", "content", "origin_server_ts"];
    event.retain(|name, _| members.contains(&name.as_str()));
    (serde_json::to_string(&event).ok()?.len() <= MAX_EVENT)
        .then(|| Child::of(event))
        .flatten()
        .map(|child| child.event)
}

/// The members of a summary that are of the right form. Without an ID it is no summary.
fn prune(said: &Map<String, Value>) -> Option<(OwnedRoomId, Map<String, Value>)> {
    let room = id(said.get("room_id")?)?;
    let is_text = |value: &Value| value.as_str().is_some_and(|text| text.len() <= MAX_TEXT);
    let fits = |name: &str, value: &Value| match name {
        "room_id" | "name" | "topic" | "room_type" | "join_rule" | "encryption" | "room_version" => is_text(value),
        "avatar_url" => is_text(value) && value.as_str().is_some_and(|url| url.starts_with("mxc://")),
        "canonical_alias" => value.as_str().is_some_and(|alias| <&RoomAliasId>::try_from(alias).is_ok()),
        "num_joined_members" => value.is_u64(),
        "world_readable" | "guest_can_join" => value.is_boolean(),
        "allowed_room_ids" => {
            value.as_array().is_some_and(|rooms| rooms.len() <= MAX_ALLOWED && rooms.iter().all(is_text))
        }
        _ => false,
    };
    let members = said.iter().filter(|(name, value)| fits(name, value));
    let mut out: Map<_, _> = members.map(|(name, value)| (name.clone(), value.clone())).collect();
    // What a client counts on.
    out.entry("num_joined_members").or_insert_with(|| 0.into());
    out.entry("world_readable").or_insert_with(|| false.into());
    out.entry("guest_can_join").or_insert_with(|| false.into());
    // spec: client-server-api#get_matrixclientv1room_summaryroomidoralias: no rule is "public".
    out.entry("join_rule").or_insert_with(|| "public".into());
    Some((room, out))
}

/// Whether somebody of ours may see what another server said of a room.
pub fn may_see(tx: &impl Read, room: &RoomId, summary: &Map<String, Value>, user: &UserId) -> Result<bool> {
    let rule = summary.get("join_rule").and_then(Value::as_str).unwrap_or("invite");
    let is_readable = summary.get("world_readable") == Some(&Value::Bool(true));
    if is_readable || matches!(rule, "public" | "knock" | "knock_restricted") {
        return Ok(true);
    }
    if let Some(room) = Room::known(tx, room)?
        && let Some(row) = members::of(tx, room.num, user)?
        && matches!(row.membership.as_str(), "join" | "invite" | "knock")
    {
        return Ok(true);
    }
    if rule == "restricted" {
        for id in summary.get("allowed_room_ids").and_then(Value::as_array).into_iter().flatten().filter_map(id) {
            if let Some(allowed) = Room::find(tx, &id)?
                && members::is_joined(tx, allowed.num, user)?
            {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use ruma::{room_id, server_name};
    use serde_json::json;

    use super::*;

    fn told(answer: &Value) -> Option<Told> {
        Told::parse(answer.to_string().as_bytes(), room_id!("!space:a.test"), &server_name!("a.test").to_owned())
    }

    fn child(room: &str, more: Value) -> Value {
        let mut event = json!({"type": "m.space.child", "state_key": room, "sender": "@a:a.test",
            "content": {"via": ["a.test"]}, "origin_server_ts": 1});
        event.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        event
    }

    #[test]
    fn only_what_was_asked_about_is_taken_in() {
        let space = |more: Value| {
            let mut room = json!({"room_id": "!space:a.test", "room_type": "m.space", "name": 7, "topic": "t", "x": 1});
            room["children_state"] = more;
            room
        };
        let events = json!([
            child("!in:a.test", json!({"unsigned": {"x": 1}})),
            child("!sub:a.test", json!({})),
            child("!no:a.test", json!({})),
            child("nonsense", json!({})),
            child("!void:a.test", json!({"content": {"via": []}})),
            child("!forged:a.test", json!({"type": "m.room.name"})),
            child("!space:a.test", json!({})),
            7,
        ]);
        let answer = json!({"room": space(events), "inaccessible_children": ["!no:a.test", "!other:a.test", 1],
            "children": [{"room_id": "!in:a.test", "join_rule": "knock"}, {"room_id": "!stranger:b.test"},
                {"room_id": "!sub:a.test", "room_type": "m.space"}, {"room_id": "!space:a.test"}, null]});
        let told = told(&answer).expect("an answer");
        assert_eq!(told.summary["topic"], "t");
        assert!(!told.summary.contains_key("name") && !told.summary.contains_key("x"));
        assert_eq!(told.summary["num_joined_members"], 0);
        let below: Vec<_> = told.below().into_iter().map(|child| child.room.to_string()).collect();
        assert_eq!(below, ["!in:a.test", "!no:a.test", "!space:a.test", "!sub:a.test"]);
        assert!(told.below().iter().all(|child| !child.event.contains_key("unsigned")));
        assert_eq!(told.children.len(), 2);
        let enough = |room| told.is_enough(room);
        assert!(enough(room_id!("!in:a.test")) && enough(room_id!("!no:a.test")));
        assert!(!enough(room_id!("!sub:a.test")) && !enough(room_id!("!other:a.test")));
    }

    #[test]
    fn an_answer_about_something_else_is_none() {
        for odd in [
            json!({"room": {"room_id": "!else:a.test"}}),
            json!({"room": {"room_id": 7}}),
            json!({"room": []}),
            json!([]),
            json!({}),
        ] {
            assert!(told(&odd).is_none(), "{odd}");
        }
        let deep = format!("{{\"room\":{{\"room_id\":\"!space:a.test\",\"x\":{}", "[".repeat(100_000));
        assert!(Told::parse(deep.as_bytes(), room_id!("!space:a.test"), &server_name!("a.test").to_owned()).is_none());
    }
}
