//! Rooms: listing them, looking at one, and blocking.

use std::sync::Arc;

use http::Method;
use ruma::{OwnedRoomId, events::StateEventType};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{backward, look, part, route};
use crate::{
    accounts::sessions,
    app::App,
    error::{Error, Result},
    http::{Asked, Reply, Router, reply},
    rooms::{Room, blocked, directory, event, members, servers, state},
    store::Read,
};

const ONE: &str = "/_synapse/admin/v1/rooms/{room_id}";
const BLOCK: &str = "/_synapse/admin/v1/rooms/{room_id}/block";

pub(super) fn routes(router: &mut Router) {
    route(router, Method::GET, "/_synapse/admin/v1/rooms", list);
    route(router, Method::GET, ONE, get);
    route(router, Method::GET, "/_synapse/admin/v1/rooms/{room_id}/members", list_members);
    route(router, Method::GET, "/_synapse/admin/v1/rooms/{room_id}/state", room_state);
    route(router, Method::GET, BLOCK, is_blocked);
    route(router, Method::PUT, BLOCK, block);
}

/// What a list shows of a room.
fn shown(app: &App, tx: &impl Read, room: &Room) -> Result<Map<String, Value>> {
    let create = room.state_event(tx, &StateEventType::RoomCreate, "")?;
    let content = create.as_ref().and_then(|event| event.content_as::<Map<String, Value>>()).unwrap_or_default();
    let text = |kind: StateEventType, key: &str| -> Result<Value> {
        let content: Option<Map<String, Value>> = room.state_content(tx, &kind)?;
        Ok(content.and_then(|mut content| content.remove(key)).filter(Value::is_string).unwrap_or_default())
    };
    let shown = json!({
        "room_id": room.row.id,
        "name": text(StateEventType::RoomName, "name")?,
        "canonical_alias": text(StateEventType::RoomCanonicalAlias, "alias")?,
        "joined_members": room.row.joined,
        "joined_local_members": servers::joined(tx, room.num, &app.me.name)?,
        "version": room.row.version,
        "creator": create.map(|event| event.sender),
        "encryption": text(StateEventType::RoomEncryption, "algorithm")?,
        "federatable": content.get("m.federate") != Some(&Value::Bool(false)),
        "public": directory::lists(tx, room.num)?,
        "join_rules": text(StateEventType::RoomJoinRules, "join_rule")?,
        "guest_access": text(StateEventType::RoomGuestAccess, "guest_access")?,
        "history_visibility": text(StateEventType::RoomHistoryVisibility, "history_visibility")?,
        "members_missing": room.is_partial(),
        "state_events": state::all(tx, room.row.state)?.len(),
        "room_type": content.get("type").filter(|kind| kind.is_string()),
    });
    Ok(shown.as_object().cloned().unwrap_or_default())
}

const ORDERS: [&str; 15] = [
    "alphabetical",
    "size",
    "name",
    "canonical_alias",
    "joined_members",
    "joined_local_members",
    "version",
    "creator",
    "encryption",
    "federatable",
    "public",
    "join_rules",
    "guest_access",
    "history_visibility",
    "state_events",
];

/// How two of these values stand to each other: nothing first, then numbers and texts in their order.
fn compare(a: &Value, b: &Value) -> std::cmp::Ordering {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_u64().cmp(&b.as_u64()),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        _ => a.as_str().map(str::to_lowercase).cmp(&b.as_str().map(str::to_lowercase)),
    }
}

/// `GET /_synapse/admin/v1/rooms`
async fn list(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let (from, limit) = part(&asked)?;
    let order = asked.query("order_by").unwrap_or("name").to_owned();
    if !ORDERS.contains(&&*order) {
        return Err(Error::invalid_param(format!("order_by is one of {ORDERS:?}")));
    }
    let (key, largest_first) = match &*order {
        "alphabetical" => ("name", false),
        "size" => ("joined_members", true),
        "joined_members" | "joined_local_members" | "version" | "federatable" | "public" | "state_events" => {
            (&*order, true)
        }
        other => (other, false),
    };
    let (key, back) = (key.to_owned(), backward(&asked, false)? != largest_first);
    let term = asked.query("search_term").map(str::to_lowercase).filter(|term| !term.is_empty());
    let found = look(app, move |app, tx| {
        let mut rooms = Vec::new();
        for num in directory::all(tx)? {
            let room = shown(app, tx, &Room::at(tx, num)?)?;
            let holds = |term: &String| {
                let text = |key: &str| room.get(key).and_then(Value::as_str).unwrap_or_default().to_lowercase();
                text("name").contains(term) || text("canonical_alias").contains(term) || text("room_id") == *term
            };
            if term.as_ref().is_none_or(holds) {
                rooms.push(room);
            }
        }
        let value = |room: &Map<String, Value>| room.get(&key).cloned().unwrap_or_default();
        rooms.sort_by(|a, b| compare(&value(a), &value(b)));
        if back {
            rooms.reverse();
        }
        let total = rooms.len();
        let page: Vec<_> = rooms.into_iter().skip(from).take(limit).collect();
        let mut answer = json!({ "offset": from, "total_rooms": total });
        if from + page.len() < total {
            answer["next_batch"] = (from + page.len()).into();
        }
        if from > 0 {
            answer["prev_batch"] = from.saturating_sub(limit).into();
        }
        answer["rooms"] = page.into_iter().map(Value::Object).collect();
        Ok(answer)
    });
    reply::json(&found.await?)
}

/// `GET /_synapse/admin/v1/rooms/{room_id}`
async fn get(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let id: OwnedRoomId = asked.path(0)?;
    let found = look(app, move |app, tx| {
        let room = Room::named(tx, &id)?;
        let mut out = shown(app, tx, &room)?;
        let text = |kind: StateEventType, key: &str| -> Result<Value> {
            let content: Option<Map<String, Value>> = room.state_content(tx, &kind)?;
            Ok(content.and_then(|mut content| content.remove(key)).unwrap_or_default())
        };
        let replacement = text(StateEventType::RoomTombstone, "replacement_room")?;
        let mut devices = 0;
        for user in members::with(tx, room.num, "join")?.iter().filter(|user| app.me.owns(user)) {
            devices += sessions::devices(tx, user)?.len();
        }
        out.extend([
            ("avatar".to_owned(), text(StateEventType::RoomAvatar, "url")?),
            ("topic".to_owned(), text(StateEventType::RoomTopic, "topic")?),
            ("joined_local_devices".to_owned(), devices.into()),
            ("forgotten".to_owned(), (servers::joined(tx, room.num, &app.me.name)? == 0).into()),
            ("tombstoned".to_owned(), room.state_pos(tx, &StateEventType::RoomTombstone, "")?.is_some().into()),
            ("replacement_room".to_owned(), replacement),
            ("servers".to_owned(), servers::in_room(tx, room.num)?.into_iter().map(|name| name.to_string()).collect()),
        ]);
        Ok(out)
    });
    reply::json(&found.await?)
}

/// `GET /_synapse/admin/v1/rooms/{room_id}/members`
async fn list_members(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let id: OwnedRoomId = asked.path(0)?;
    let found = look(app, move |_, tx| members::with(tx, Room::named(tx, &id)?.num, "join")).await?;
    reply::json(&json!({ "total": found.len(), "members": found }))
}

/// `GET /_synapse/admin/v1/rooms/{room_id}/state`
async fn room_state(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let id: OwnedRoomId = asked.path(0)?;
    let found = look(app, move |_, tx| {
        let room = Room::named(tx, &id)?;
        let mut out = Vec::new();
        for (_, pos) in state::all(tx, room.row.state)? {
            let row = event::row(tx, pos)?;
            let slices = event::Slices::of(&row)?;
            out.push(event::client_form(&row, &slices, Some(id.as_str()), &event::Unsigned::default())?);
        }
        Ok(out)
    });
    reply::json(&json!({ "state": found.await? }))
}

/// `GET /_synapse/admin/v1/rooms/{room_id}/block`
async fn is_blocked(app: Arc<App>, asked: Asked) -> Result<Reply> {
    let id: OwnedRoomId = asked.path(0)?;
    let by = app.store.read(|tx| blocked::by(tx, &id))?;
    let mut answer = json!({ "block": by.is_some() });
    if let Some(by) = by {
        answer["user_id"] = by.into();
    }
    reply::json(&answer)
}

/// `PUT /_synapse/admin/v1/rooms/{room_id}/block`
async fn block(app: Arc<App>, mut asked: Asked) -> Result<Reply> {
    #[derive(Deserialize)]
    struct Body {
        block: bool,
    }
    let (id, admin): (OwnedRoomId, _) = (asked.path(0)?, asked.session.user.clone());
    let Body { block } = asked.body()?;
    let work = move |tx: &_| match block {
        true => blocked::block(tx, &id, &admin),
        false => blocked::unblock(tx, &id),
    };
    app.store.write(work).await?;
    reply::json(&json!({ "block": block }))
}
