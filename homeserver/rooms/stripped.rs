//! What a room tells those who stand outside of it: a few state events, whole for other servers and
//! stripped for clients. What another server tells of its room is stripped before a client sees it.
//! spec: client-server-api#stripped-state, server-server-api#put_matrixfederationv2inviteroomideventid

use ruma::{RoomId, UserId, events::StateEventType};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    event::{self, Pdu, Slices},
    state::{self, StateId},
};
use crate::{
    base::{RoomNum, json},
    error::{Error, Result},
    store::{Read, rows::EventRow, tables},
};

/// What outsiders are shown of a room.
const SHOWN: [StateEventType; 7] = [
    StateEventType::RoomCreate,
    StateEventType::RoomName,
    StateEventType::RoomAvatar,
    StateEventType::RoomTopic,
    StateEventType::RoomJoinRules,
    StateEventType::RoomCanonicalAlias,
    StateEventType::RoomEncryption,
];
/// Events that another server may tell us of its room at most; with the event that brings them there is one
/// more.
pub const MAX_TOLD: usize = 50;
/// The text of all of them at most.
const MAX_TEXT: usize = 256 * 1024;

/// The rows of the events that outsiders are shown in a state, for one who is invited or knocks by `own`.
fn rows(tx: &impl Read, state: StateId, own: (&str, &str)) -> Result<Vec<EventRow>> {
    let (sender, target) = own;
    let mut out = Vec::new();
    for kind in &SHOWN {
        if let Some(pos) = state::event(tx, state, kind, "")? {
            out.push(event::row(tx, pos)?);
        }
    }
    // Whoever invites has a name and a picture.
    if sender != target
        && let Some(pos) = state::event(tx, state, &StateEventType::RoomMember, sender)?
    {
        out.push(event::row(tx, pos)?);
    }
    Ok(out)
}

/// An event of those that a room tells outsiders.
#[derive(serde::Deserialize)]
pub struct Told {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its state key.
    pub state_key: String,
    /// Its content.
    pub content: Box<RawValue>,
}

/// What a room that this server is not in has told somebody at its door.
pub fn told(tx: &impl Read, user: &UserId, room: RoomNum) -> Result<Vec<Told>> {
    let told = tables::STRIPPED.get(tx, (user.as_str(), room))?;
    told.map_or_else(|| Ok(Vec::new()), |told| serde_json::from_str(&told).map_err(Error::internal))
}

/// For the client of somebody who is invited or has knocked by the event in `own`.
pub fn for_client(tx: &impl Read, own: &EventRow) -> Result<Vec<Box<RawValue>>> {
    let slices = Slices::of(own)?;
    let target = slices.state_key.as_deref().unwrap_or_default();
    let rows = rows(tx, own.state_before, (&slices.sender, target))?;
    rows.iter().chain([own]).map(event::stripped).collect()
}

/// For the server of somebody who is invited or knocks, as whole events.
pub fn for_server(tx: &impl Read, state: StateId, own: &Pdu) -> Result<Vec<Box<RawValue>>> {
    let target = own.state_key.as_deref().unwrap_or_default();
    let rows = rows(tx, state, (own.sender.as_str(), target))?;
    rows.into_iter().map(|row| json::raw(row.pdu)).collect()
}

/// The members of a stripped event, and nothing else.
#[derive(Deserialize, Serialize)]
struct Stripped<'a> {
    #[serde(borrow)]
    content: &'a RawValue,
    sender: std::borrow::Cow<'a, str>,
    state_key: std::borrow::Cow<'a, str>,
    #[serde(rename = "type")]
    kind: std::borrow::Cow<'a, str>,
}

/// What a client is shown of what another server told: each event pruned to what a stripped one has; no
/// event of another room, no message, and nothing that is beyond the bounds.
pub fn pruned<'a>(told: impl IntoIterator<Item = &'a RawValue>, room: &RoomId) -> Result<Vec<Box<RawValue>>> {
    #[derive(Deserialize)]
    struct Where<'a> {
        #[serde(borrow)]
        room_id: Option<std::borrow::Cow<'a, str>>,
    }
    let (mut out, mut text) = (Vec::new(), 0);
    for raw in told.into_iter().take(MAX_TOLD + 1) {
        text += raw.get().len();
        if text > MAX_TEXT {
            break;
        }
        if json::is_too_deep(raw.get().as_bytes()) {
            continue;
        }
        let Ok(stripped) = serde_json::from_str::<Stripped<'_>>(raw.get()) else { continue };
        let elsewhere = serde_json::from_str::<Where<'_>>(raw.get())
            .is_ok_and(|told| told.room_id.is_some_and(|id| id != room.as_str()));
        let is_user = <&ruma::UserId>::try_from(&*stripped.sender).is_ok();
        if !elsewhere && is_user && stripped.content.get().starts_with('{') {
            out.push(json::to_raw(&stripped)?);
        }
    }
    Ok(out)
}

/// The text under which pruned events are kept.
pub fn to_text(events: &[Box<RawValue>]) -> Result<String> {
    serde_json::to_string(events).map_err(Error::internal)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pruned_values(told: &[Value]) -> Vec<Value> {
        let told: Vec<_> = told.iter().map(|event| json::to_raw(event).expect("JSON")).collect();
        let room = <&RoomId>::try_from("!a:b").expect("an ID");
        let out = pruned(told.iter().map(|raw| &**raw), room).expect("pruned");
        out.iter().map(|raw| serde_json::from_str(raw.get()).expect("JSON")).collect()
    }

    #[test]
    fn a_client_sees_only_what_a_stripped_event_has() {
        let whole = json!({"type": "m.room.name", "state_key": "", "sender": "@a:b", "content": {"name": "x"},
            "room_id": "!a:b", "unsigned": {"x": 1}, "auth_events": [], "event_id": "$x", "origin_server_ts": 1});
        let stripped = json!({"type": "m.room.name", "state_key": "", "sender": "@a:b", "content": {"name": "x"}});
        assert_eq!(pruned_values(&[whole, stripped.clone()]), [stripped.clone(), stripped]);
    }

    #[test]
    fn what_is_no_state_of_the_room_is_left_out() {
        for odd in [
            json!({"type": "m.room.message", "sender": "@a:b", "content": {}}),
            json!({"type": "m.room.name", "state_key": "", "sender": "nobody", "content": {}}),
            json!({"type": "m.room.name", "state_key": "", "sender": "@a:b", "content": "text"}),
            json!({"type": "m.room.name", "state_key": "", "sender": "@a:b", "content": {}, "room_id": "!c:d"}),
            json!([1]),
            json!(null),
        ] {
            assert_eq!(pruned_values(std::slice::from_ref(&odd)), Vec::<Value>::new(), "{odd}");
        }
        let many = vec![json!({"type": "m.x", "state_key": "", "sender": "@a:b", "content": {}}); 2 * MAX_TOLD];
        assert_eq!(pruned_values(&many).len(), MAX_TOLD + 1);
    }
}
