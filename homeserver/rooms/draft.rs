//! From an event that one of our users wants to send to a signed one that the room's rules allow.

use std::{borrow::Cow, collections::BTreeMap};

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, EventId, OwnedEventId, RoomId, UserId,
    canonical_json::to_canonical_value,
    events::TimelineEventType,
    room_version_rules::RoomVersionRules,
    signatures::{hash_and_sign_event, reference_hash},
};
use serde_json::value::RawValue;

use super::{
    append::{self, Incoming},
    auth::{Authority, Wanted},
    event::{Pdu, parse_id},
    policy, redact, relations,
    room::Room,
};
use crate::{
    base::{clock, json, signing::Identity},
    error::{Error, Result},
    store::{Read, WriteTx, rows::Standing},
};

/// The JSON of an event at most. spec: client-server-api#size-limits
const MAX_EVENT: usize = 65_536;
/// The greatest depth that an event can have: what canonical JSON has of numbers.
const MAX_DEPTH: u64 = (1 << 53) - 1;
/// IDs, types and state keys at most.
const MAX_KEY: usize = 255;

/// An event that somebody wants to send.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Its type.
    pub kind: TimelineEventType,
    /// Its state key, for state events.
    pub state_key: Option<String>,
    /// Its content.
    pub content: Box<RawValue>,
    /// What it redacts, for redactions.
    pub redacts: Option<OwnedEventId>,
    /// When it was said, milliseconds, if that is not now: an application service may know better.
    pub at: Option<u64>,
}

impl Draft {
    /// A message event.
    pub fn message(kind: TimelineEventType, content: Box<RawValue>) -> Self {
        Self { kind, state_key: None, content, redacts: None, at: None }
    }

    /// A state event.
    pub fn state(kind: TimelineEventType, key: impl Into<String>, content: Box<RawValue>) -> Self {
        Self { kind, state_key: Some(key.into()), content, redacts: None, at: None }
    }

    /// A state event with content that we make ourselves.
    pub fn state_of(kind: TimelineEventType, key: impl Into<String>, content: &impl serde::Serialize) -> Result<Self> {
        Ok(Self::state(kind, key, json::to_raw(content)?))
    }
}

/// A signed event, not yet written.
pub struct Signed {
    /// The event.
    pub pdu: Pdu,
    /// Its JSON as it federates.
    pub json: String,
}

/// Signs a draft on top of a room's current state and writes it. 403 if the room's rules forbid it.
pub fn send(
    tx: &WriteTx,
    me: &Identity,
    room: &mut Room,
    sender: &UserId,
    draft: &Draft,
    sent_by: Option<(String, String)>,
) -> Result<OwnedEventId> {
    let signed = policy::signed(tx, room, sign(tx, me, room, sender, draft)?)?;
    post(tx, room, signed, sent_by)
}

/// Writes an event that was signed on top of a room's current state in the same transaction.
pub fn post(tx: &WriteTx, room: &mut Room, signed: Signed, sent_by: Option<(String, String)>) -> Result<OwnedEventId> {
    let id = signed.pdu.id.clone();
    let incoming = Incoming {
        pdu: &signed.pdu,
        json: signed.json,
        state_before: append::before_next(tx, room)?.store(tx, room.row.state)?,
        standing: Standing::Accepted,
        sent_by,
        outgoing: true,
    };
    append::append(tx, room, incoming)?;
    Ok(id)
}

/// Signs a draft on top of a room's current state, if the room's rules allow it.
pub fn sign(tx: &impl Read, me: &Identity, room: &Room, sender: &UserId, draft: &Draft) -> Result<Signed> {
    check_keys(draft)?;
    if draft.state_key.is_none() {
        relations::check_new(tx, room.num, sender, &draft.kind, &draft.content)?;
    }
    let draft = &aimed(tx, room, sender, draft)?;
    let rules = room.rules();
    let (object, authority) = unsigned(tx, room, sender, draft)?;
    let signed = finish(me, object, &rules)?;
    authority.check(&rules.authorization, &signed.pdu)?;
    Ok(signed)
}

/// What an event says of its place in a room.
pub struct Cited {
    /// The events before it.
    pub prev: Vec<OwnedEventId>,
    /// The events that allow it.
    pub auth: Vec<OwnedEventId>,
    /// Its depth; the greatest there is for what is more.
    pub depth: u64,
}

/// Signs a draft at a place in a room whose state is not known here: it is for others to judge.
pub(super) fn sign_on(
    me: &Identity,
    (room, rules): (&RoomId, &RoomVersionRules),
    sender: &UserId,
    draft: &Draft,
    cited: Cited,
) -> Result<Signed> {
    let ids = |ids: Vec<OwnedEventId>| ids.into_iter().map(|id| CanonicalJsonValue::String(id.into())).collect();
    let mut object = body(sender, draft, rules, moment(draft))?;
    object.insert("room_id".into(), room.as_str().into());
    object.insert("prev_events".into(), CanonicalJsonValue::Array(ids(cited.prev)));
    object.insert("auth_events".into(), CanonicalJsonValue::Array(ids(cited.auth)));
    object.insert("depth".into(), integer(cited.depth.min(MAX_DEPTH))?);
    finish(me, object, rules)
}

/// What a draft makes on top of a room's current state, before it is hashed and signed; with what can
/// allow it.
pub(super) fn unsigned(
    tx: &impl Read,
    room: &Room,
    sender: &UserId,
    draft: &Draft,
) -> Result<(CanonicalJsonObject, Authority)> {
    let rules = room.rules();
    let wanted = Wanted { kind: &draft.kind, sender, state_key: draft.state_key.as_deref(), content: &draft.content };
    let authority = Authority::choose_in(tx, &rules.authorization, &append::before_next(tx, room)?, &wanted)?;
    let prev: Vec<_> = room.row.extremities.iter().take(append::MAX_PREV).map(|(_, id)| id.as_str().into()).collect();
    let auth = authority.cited().into_iter().map(|id| CanonicalJsonValue::String(id.into())).collect();
    let mut object = body(sender, draft, &rules, moment(draft))?;
    object.insert("room_id".into(), room.row.id.as_str().into());
    object.insert("prev_events".into(), CanonicalJsonValue::Array(prev));
    object.insert("auth_events".into(), CanonicalJsonValue::Array(auth));
    object.insert("depth".into(), integer(room.row.depth + 1)?);
    Ok((object, authority))
}

/// A redaction says what it redacts, in its draft or in its content, and that may be redacted by its
/// sender: the rooms' own rules don't look at it. Other drafts are as they are.
fn aimed<'a>(tx: &impl Read, room: &Room, sender: &UserId, draft: &'a Draft) -> Result<Cow<'a, Draft>> {
    #[derive(serde::Deserialize)]
    struct Content {
        redacts: OwnedEventId,
    }
    if draft.kind != TimelineEventType::RoomRedaction || draft.state_key.is_some() {
        return Ok(Cow::Borrowed(draft));
    }
    let target = draft.redacts.clone().or_else(|| {
        let content: Result<Content, _> = serde_json::from_str(draft.content.get());
        content.ok().map(|content| content.redacts)
    });
    let target = target.ok_or_else(|| Error::bad_json("a redaction says what it redacts"))?;
    redact::check(tx, room, sender, &target)?;
    Ok(Cow::Owned(Draft { redacts: Some(target), ..draft.clone() }))
}

/// Signs a room's first event, of a certain moment. In version 12 its ID is the room's.
pub fn sign_create(
    me: &Identity,
    (room_id, at): (Option<&RoomId>, u64),
    rules: &RoomVersionRules,
    sender: &UserId,
    draft: &Draft,
) -> Result<Signed> {
    let mut object = body(sender, draft, rules, at)?;
    if let Some(room_id) = room_id {
        object.insert("room_id".into(), room_id.as_str().into());
    }
    object.insert("prev_events".into(), CanonicalJsonValue::Array(Vec::new()));
    object.insert("auth_events".into(), CanonicalJsonValue::Array(Vec::new()));
    object.insert("depth".into(), integer(1)?);
    let signed = finish(me, object, rules)?;
    Authority::none().check(&rules.authorization, &signed.pdu)?;
    Ok(signed)
}

fn moment(draft: &Draft) -> u64 {
    draft.at.unwrap_or_else(clock::now_ms)
}

/// What is the same for every event: its own words and when they are said.
fn body(sender: &UserId, draft: &Draft, rules: &RoomVersionRules, at: u64) -> Result<CanonicalJsonObject> {
    let mut content = json::canonical_from_raw(&draft.content)?;
    let mut object = BTreeMap::new();
    if let Some(target) = &draft.redacts {
        match rules.redaction.content_field_redacts {
            true => drop(content.insert("redacts".into(), target.as_str().into())),
            false => drop(object.insert("redacts".to_owned(), target.as_str().into())),
        }
    }
    object.insert("content".to_owned(), CanonicalJsonValue::Object(content));
    object.insert("origin_server_ts".into(), integer(at)?);
    object.insert("sender".into(), sender.as_str().into());
    object.insert("type".into(), draft.kind.to_string().into());
    if let Some(key) = &draft.state_key {
        object.insert("state_key".into(), key.as_str().into());
    }
    Ok(object)
}

/// Hashes and signs an event that is complete otherwise.
pub(super) fn finish(me: &Identity, mut object: CanonicalJsonObject, rules: &RoomVersionRules) -> Result<Signed> {
    hash_and_sign_event(me.name.as_str(), &me.key, &mut object, &rules.redaction).map_err(unsignable)?;
    let text = serde_json::to_string(&object).map_err(Error::internal)?;
    if text.len() > MAX_EVENT {
        return Err(too_large());
    }
    // As other servers will read it.
    if json::is_too_deep(text.as_bytes()) {
        return Err(Error::bad_json(format!("the event is nested deeper than {} levels", json::MAX_DEPTH)));
    }
    let id = parse_id(&format!("${}", reference_hash(&object, rules).map_err(unsignable)?))?;
    Ok(Signed { pdu: Pdu::parse(id, &text)?, json: text })
}

fn unsignable(error: ruma::signatures::JsonError) -> Error {
    match error {
        ruma::signatures::JsonError::PduTooLarge => too_large(),
        error => Error::bad_json(error.to_string()),
    }
}

fn too_large() -> Error {
    Error::too_large(format!("the event is larger than {MAX_EVENT} bytes"))
}

fn check_keys(draft: &Draft) -> Result<()> {
    let long = |text: &str| text.len() > MAX_KEY;
    if long(&draft.kind.to_string()) || draft.state_key.as_deref().is_some_and(long) {
        return Err(Error::invalid_param(format!("event types and state keys are at most {MAX_KEY} bytes")));
    }
    Ok(())
}

pub(super) fn integer(value: u64) -> Result<CanonicalJsonValue> {
    to_canonical_value(value).map_err(Error::internal)
}

/// The ID of the room whose create event has this ID, in room version 12.
pub fn room_id_of(create: &EventId) -> Result<ruma::OwnedRoomId> {
    RoomId::parse(format!("!{}", create.localpart())).map_err(Error::internal)
}
