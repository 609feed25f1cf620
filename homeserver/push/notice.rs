//! What a gateway is told, as JSON, read at the moment of telling: what was taken back, read or can't be seen
//! any more by then is not told. spec: push-gateway-api#post_matrixpushv1notify

use ruma::{
    UserId,
    events::StateEventType,
    push::{Action, Tweak},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{desk::Notice, judge::Judge};
use crate::{
    accounts::users,
    error::{Error, Result},
    rooms::{
        Room,
        event::{self, Slices},
        members, receipts, stripped,
        timeline::order_of,
        visibility::Sight,
    },
    store::{
        Read,
        rows::{EventRow, PusherRow},
    },
};

/// What a client says in a pusher's data if its gateway is not to be told counts (MSC4076).
const NO_BADGE: &str = "org.matrix.msc4076.disable_badge_count";

/// Whether a pusher is told counts.
pub fn wants_badge(row: &PusherRow) -> bool {
    row.data.get(NO_BADGE).and_then(Value::as_bool) != Some(true)
}

/// Whether an account may be told anything.
pub fn may_be_told(tx: &impl Read, user: &UserId) -> Result<bool> {
    Ok(users::lookup(tx, user)?.is_some_and(|row| !row.locked && !row.deactivated))
}

/// What is told of a count alone.
pub fn of_badge(row: &PusherRow, badge: u64) -> Value {
    // A count of zero should be left out, says the spec; then the gateways there are would leave the last one.
    json!({ "notification": { "counts": { "unread": badge }, "devices": [device(row)] } })
}

fn device(row: &PusherRow) -> Value {
    json!({
        "app_id": row.app_id,
        "pushkey": row.pushkey,
        "pushkey_ts": row.set / 1000,
        "data": row.data,
    })
}

/// An event that is to be told.
pub struct Told {
    /// Its ID.
    pub id: String,
    row: EventRow,
    room: Room,
}

/// The event of a notice, if it is still for its person.
pub fn find(tx: &impl Read, judge: &Judge, user: &UserId, notice: &Notice) -> Result<Option<Told>> {
    let row = event::row(tx, notice.event)?;
    if row.redacted_by != 0 || !may_be_told(tx, user)? {
        return Ok(None);
    }
    let slices = Slices::of(&row)?;
    let wishes = judge.wishes(tx, user)?;
    let hidden = slices.state_key.is_none() || notice.invite;
    if hidden && wishes.ignored.iter().any(|ignored| ignored.as_str() == slices.sender) {
        return Ok(None);
    }
    let room = Room::at(tx, notice.room)?;
    let member = members::of(tx, room.num, user)?;
    let wanted = if notice.invite { "invite" } else { "join" };
    if member.is_none_or(|member| member.membership != wanted) {
        return Ok(None);
    }
    if !notice.invite {
        let read = receipts::read_upto(tx, room.num, user)?;
        let thread = &judge.unread.judged(tx, &room, notice.event)?.thread;
        let upto = read.get("").max(read.get(thread.as_str()));
        let seen = Sight::of(tx, &room, user)?.may_see(tx, notice.event, &row, &slices)?;
        if !seen || upto.is_some_and(|upto| *upto >= order_of(notice.order)) {
            return Ok(None);
        }
    }
    Ok(Some(Told { id: row.id.clone(), row, room }))
}

/// What is told of an event.
pub fn of_event(
    tx: &impl Read,
    (user, pusher): (&UserId, &PusherRow),
    notice: &Notice,
    told: &Told,
    badge: Option<u64>,
) -> Result<Value> {
    let slices = Slices::of(&told.row)?;
    let tweaks = tweaks(&notice.actions)?;
    let loud = tweaks.get("highlight").and_then(Value::as_bool) == Some(true) || tweaks.contains_key("sound");
    let mut out = json!({
        "event_id": told.id,
        "room_id": told.room.row.id,
        // What is encrypted may be for the person alone, as far as can be told here.
        "prio": if loud || slices.kind == "m.room.encrypted" { "high" } else { "low" },
    });
    if let Some(badge) = badge.filter(|badge| *badge > 0) {
        out["counts"] = json!({ "unread": badge });
    }
    let mut device = device(pusher);
    if pusher.data.get("format").and_then(Value::as_str) != Some("event_id_only") {
        device["tweaks"] = Value::Object(tweaks);
        out["type"] = (*slices.kind).into();
        out["sender"] = (*slices.sender).into();
        out["content"] = serde_json::from_str(slices.content.get()).map_err(Error::internal)?;
        if slices.kind == "m.room.member" {
            out["user_is_target"] = (slices.state_key.as_deref() == Some(user.as_str())).into();
        }
        let names = names(tx, &told.room, user, &slices.sender)?;
        let named = [("sender_display_name", names.sender), ("room_name", names.room), ("room_alias", names.alias)];
        for (key, name) in named {
            if let Some(name) = name.filter(|name| !name.is_empty()) {
                out[key] = name.into();
            }
        }
    }
    out["devices"] = json!([device]);
    Ok(json!({ "notification": out }))
}

fn tweaks(actions: &[Action]) -> Result<Map<String, Value>> {
    let mut out = Map::new();
    for action in actions {
        let Action::SetTweak(tweak) = action else { continue };
        let value = match tweak {
            Tweak::Highlight(_) => action.is_highlight().into(),
            tweak => match tweak.value() {
                Some(value) => serde_json::from_str(value.get()).map_err(Error::internal)?,
                None => Value::Null,
            },
        };
        out.insert(tweak.set_tweak().to_owned(), value);
    }
    Ok(out)
}

#[derive(Default)]
struct Names {
    sender: Option<String>,
    room: Option<String>,
    alias: Option<String>,
}

/// What the sender and the room are called; in a room that was never entered, as it told outsiders.
fn names(tx: &impl Read, room: &Room, user: &UserId, sender: &str) -> Result<Names> {
    #[derive(Deserialize)]
    struct Content {
        displayname: Option<String>,
        name: Option<String>,
        alias: Option<String>,
    }
    let read = |content: Option<String>| content.and_then(|json| serde_json::from_str::<Content>(&json).ok());
    let told = if room.row.state == 0 { stripped::told(tx, user, room.num)? } else { Vec::new() };
    let find = |kind: StateEventType, key: &str| -> Result<Option<Content>> {
        if room.row.state == 0 {
            let same = |event: &&stripped::Told| event.kind == kind.to_string() && event.state_key == key;
            return Ok(read(told.iter().find(same).map(|event| event.content.get().to_owned())));
        }
        let event = room.state_event(tx, &kind, key)?;
        Ok(read(event.map(|event| event.content.get().to_owned())))
    };
    Ok(Names {
        sender: find(StateEventType::RoomMember, sender)?.and_then(|content| content.displayname),
        room: find(StateEventType::RoomName, "")?.and_then(|content| content.name),
        alias: find(StateEventType::RoomCanonicalAlias, "")?.and_then(|content| content.alias),
    })
}
