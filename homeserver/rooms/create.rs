//! Making a room: its first events, in the order that the spec gives, in one transaction.
//! spec: client-server-api#post_matrixclientv3createroom

use ruma::{
    OwnedRoomAliasId, OwnedRoomId, OwnedUserId, RoomId, RoomVersionId, UserId,
    api::client::room::{Visibility, create_room::v3::RoomPreset},
    events::{TimelineEventType, room::member::MembershipState},
    room_version_rules::RoomVersionRules,
};
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use super::{
    aliases, append,
    append::Incoming,
    draft::{self, Draft},
    members::{self, Change},
    room::{self, Room},
};
use crate::{
    base::{clock, json as raw, random, signing::Identity},
    error::{Error, Result},
    store::{
        WriteTx,
        rows::{RoomRow, Standing},
        tables,
    },
};

/// A room that somebody wants.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The room version.
    pub version: RoomVersionId,
    /// What to start from.
    pub preset: RoomPreset,
    /// Whether the directory lists it.
    pub visibility: Visibility,
    /// Further content of the create event.
    pub creation_content: Map<String, Value>,
    /// What replaces parts of the power levels.
    pub power_levels: Map<String, Value>,
    /// State events to set after the preset's.
    pub initial_state: Vec<StateWish>,
    /// Its name.
    pub name: Option<String>,
    /// Its topic.
    pub topic: Option<String>,
    /// Its alias.
    pub alias: Option<OwnedRoomAliasId>,
    /// Whom to invite.
    pub invite: Vec<OwnedUserId>,
    /// Whether the invites are to a direct chat.
    pub is_direct: bool,
    /// What makes it another room than any other.
    pub seed: Seed,
}

/// What is different between rooms that somebody makes alike. It is chosen once, so that a job that is done
/// again makes the same room.
#[derive(Clone, Debug)]
pub struct Seed {
    at: u64,
    id: String,
}

impl Default for Seed {
    fn default() -> Self {
        Self { at: clock::now_ms(), id: random::id::<18>() }
    }
}

/// A state event that somebody wants in a new room.
#[derive(Clone, Debug, Deserialize)]
pub struct StateWish {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: TimelineEventType,
    /// Its state key.
    #[serde(default)]
    pub state_key: String,
    /// Its content.
    pub content: Box<RawValue>,
}

/// Makes a room for `creator`, who is its first member.
pub fn create(tx: &WriteTx, me: &Identity, creator: &UserId, wish: &Wish) -> Result<OwnedRoomId> {
    let rules = room::rules(&wish.version)?;
    if let Some(alias) = &wish.alias {
        aliases::check_free(tx, me, alias)?;
    }
    let mut room = first_event(tx, me, creator, wish, &rules)?;
    let id = room.id().to_owned();
    let joining =
        Change { sender: creator, target: creator, membership: MembershipState::Join, reason: None, more: Map::new() };
    members::change(tx, me, &mut room, joining)?;
    for draft in drafts(creator, wish, &rules)? {
        draft::send(tx, me, &mut room, creator, &draft, None).map_err(as_invalid_state)?;
    }
    if let Some(alias) = &wish.alias {
        aliases::set(tx, me, alias, &room, creator)?;
    }
    if wish.visibility == Visibility::Public {
        tables::PUBLIC_ROOMS.put(tx, room.num, &())?;
    }
    // People of other servers are asked for there, once the room is.
    for guest in wish.invite.iter().filter(|guest| me.owns(guest)) {
        match invite(tx, me, &mut room, creator, guest, wish.is_direct) {
            Err(error) if error.errcode() == "M_INVITE_BLOCKED" => {}
            invited => invited?,
        }
    }
    Ok(id)
}

/// A room whose events its own rules forbid was asked for wrongly.
fn as_invalid_state(error: Error) -> Error {
    match error.errcode() {
        "M_FORBIDDEN" => Error::bad_request("M_INVALID_ROOM_STATE", error.to_string()),
        _ => error,
    }
}

fn first_event(tx: &WriteTx, me: &Identity, creator: &UserId, wish: &Wish, rules: &RoomVersionRules) -> Result<Room> {
    let mut content = wish.creation_content.clone();
    content.insert("room_version".into(), wish.version.as_str().into());
    match rules.authorization.use_room_create_sender {
        true => drop(content.remove("creator")),
        false => drop(content.insert("creator".into(), creator.as_str().into())),
    }
    if rules.authorization.additional_room_creators && wish.preset == RoomPreset::TrustedPrivateChat {
        add_creators(&mut content, creator, &wish.invite)?;
    }
    let draft = Draft::state_of(TimelineEventType::RoomCreate, "", &content)?;
    let named = (!rules.authorization.room_create_event_id_as_room_id)
        .then(|| RoomId::parse(format!("!{}:{}", wish.seed.id, me.name)))
        .transpose()
        .map_err(Error::internal)?;
    // Two rooms that somebody makes alike in the same millisecond would have the same first event, and
    // in version 12 so the same ID: the later one is dated later.
    let mut at = wish.seed.at;
    let (id, signed) = loop {
        let signed =
            draft::sign_create(me, (named.as_deref(), at), rules, creator, &draft).map_err(as_invalid_state)?;
        let id = named.clone().map_or_else(|| draft::room_id_of(&signed.pdu.id), Ok)?;
        if !tables::ROOM_NUMS.has(tx, id.as_str())? {
            break (id, signed);
        }
        at += 1;
    };
    let mut room = new_room(tx, &id, &wish.version)?;
    let incoming = Incoming {
        pdu: &signed.pdu,
        json: signed.json,
        state_before: 0,
        standing: Standing::Accepted,
        sent_by: None,
        outgoing: true,
    };
    append::append(tx, &mut room, incoming)?;
    Ok(room)
}

/// A room without events, which nobody has a membership of.
pub fn new_room(tx: &WriteTx, id: &RoomId, version: &RoomVersionId) -> Result<Room> {
    if tables::ROOM_NUMS.has(tx, id.as_str())? {
        return Err(Error::internal(format!("room {id} exists already")));
    }
    let num = tx.next_pos();
    tables::ROOM_NUMS.put(tx, id.as_str(), &num)?;
    let row = RoomRow {
        shown: 0,
        was_partial: None,
        looked_at_again: false,
        id: id.to_string(),
        version: version.to_string(),
        state: 0,
        extremities: Vec::new(),
        depth: 0,
        joined: 0,
        invited: 0,
        servers: 0,
        told: 0,
        latest: 0,
        bump: 0,
        kind: None,
        encrypted: false,
    };
    Ok(Room { num, row })
}

fn add_creators(content: &mut Map<String, Value>, creator: &UserId, invite: &[OwnedUserId]) -> Result<()> {
    let creators = content.entry("additional_creators").or_insert_with(|| json!([]));
    let creators =
        creators.as_array_mut().ok_or_else(|| Error::bad_json("additional_creators is a list of user IDs"))?;
    for user in invite.iter().filter(|user| **user != creator) {
        let user = Value::from(user.as_str());
        if !creators.contains(&user) {
            creators.push(user);
        }
    }
    Ok(())
}

/// Everything between the creator's joining and the invites.
fn drafts(creator: &UserId, wish: &Wish, rules: &RoomVersionRules) -> Result<Vec<Draft>> {
    use TimelineEventType as Kind;
    let mut out = vec![Draft::state_of(Kind::RoomPowerLevels, "", &power_levels(creator, wish, rules)?)?];
    if let Some(alias) = &wish.alias {
        out.push(Draft::state_of(Kind::RoomCanonicalAlias, "", &json!({ "alias": alias }))?);
    }
    let (join_rule, guests) = match wish.preset {
        RoomPreset::PublicChat => ("public", "forbidden"),
        _ => ("invite", "can_join"),
    };
    for (kind, content) in [
        (Kind::RoomJoinRules, json!({ "join_rule": join_rule })),
        (Kind::RoomHistoryVisibility, json!({ "history_visibility": "shared" })),
        (Kind::RoomGuestAccess, json!({ "guest_access": guests })),
    ] {
        // What is wanted otherwise is not set twice: nobody should see the room change at birth.
        if !wish.initial_state.iter().any(|state| state.kind == kind && state.state_key.is_empty()) {
            out.push(Draft::state_of(kind, "", &content)?);
        }
    }
    for state in &wish.initial_state {
        out.push(Draft::state(state.kind.clone(), state.state_key.clone(), state.content.clone()));
    }
    if let Some(name) = &wish.name {
        out.push(Draft::state_of(Kind::RoomName, "", &json!({ "name": name }))?);
    }
    if let Some(topic) = &wish.topic {
        // spec: client-server-api#mroomtopic
        let content = json!({ "topic": topic, "m.topic": { "m.text": [{ "body": topic }] } });
        out.push(Draft::state_of(Kind::RoomTopic, "", &content)?);
    }
    Ok(out)
}

fn power_levels(creator: &UserId, wish: &Wish, rules: &RoomVersionRules) -> Result<Map<String, Value>> {
    let privileged = rules.authorization.explicitly_privilege_room_creators;
    let tombstone = if privileged { 150 } else { 100 };
    let mut users = Map::new();
    if !privileged {
        users.insert(creator.to_string(), 100.into());
        if wish.preset == RoomPreset::TrustedPrivateChat {
            users.extend(wish.invite.iter().map(|user| (user.to_string(), 100.into())));
        }
    }
    let levels = json!({
        "users": users,
        "users_default": 0,
        "events": {
            "m.room.name": 50, "m.room.avatar": 50, "m.room.canonical_alias": 50, "m.room.topic": 50,
            "m.room.power_levels": 100, "m.room.history_visibility": 100, "m.room.encryption": 100,
            "m.room.server_acl": 100, "m.room.tombstone": tombstone,
        },
        "events_default": 0, "state_default": 50, "invite": 0, "kick": 50, "ban": 50, "redact": 50,
        "notifications": { "room": 50 },
    });
    let Value::Object(mut levels) = levels else { return Err(Error::internal("power levels are an object")) };
    if wish.preset == RoomPreset::PublicChat {
        levels.insert("invite".into(), 50.into());
    }
    levels.extend(wish.power_levels.clone());
    Ok(levels)
}

/// Invites somebody to a room.
pub fn invite(
    tx: &WriteTx,
    me: &Identity,
    room: &mut Room,
    sender: &UserId,
    target: &UserId,
    is_direct: bool,
) -> Result<()> {
    let mut more = Map::new();
    if is_direct {
        more.insert("is_direct".into(), true.into());
    }
    let inviting = Change { sender, target, membership: MembershipState::Invite, reason: None, more };
    members::change(tx, me, room, inviting).map(drop)
}

/// Reads an initial state event. 400 `M_BAD_JSON` if it is none.
pub fn state_wish(raw: &RawValue) -> Result<StateWish> {
    let wish: StateWish =
        serde_json::from_str(raw.get()).map_err(|error| Error::bad_json(format!("initial_state: {error}")))?;
    match wish.kind == TimelineEventType::RoomMember {
        true => Err(Error::bad_json("initial_state: people are invited by `invite`")),
        false => Ok(wish),
    }
}

/// The JSON object in a raw value, or an empty one.
pub fn object<T>(raw: Option<&ruma::serde::Raw<T>>) -> Result<Map<String, Value>> {
    match raw {
        Some(object) => raw::canonical_from_raw(object.json())
            .and_then(|object| serde_json::to_value(object).map_err(Error::internal))
            .map(|value| value.as_object().cloned().unwrap_or_default()),
        None => Ok(Map::new()),
    }
}
