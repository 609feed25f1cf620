//! An event from another server, from bytes to something that may be judged: its format, its ID, its
//! signatures and its content hash. A [`Checked`] event can be made nowhere else; whether the room
//! allows it is for others to say.
//! spec: server-server-api#checks-performed-on-receipt-of-a-pdu (1 to 3), rooms/v12#event-format

mod strict;

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::digest;
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, EventId, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId,
    RoomVersionId, ServerName, UserId,
    canonical_json::{RedactingSerializer, redact_in_place},
    room_version_rules::RoomVersionRules,
    signatures::content_hash,
};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, value::RawValue};

use super::{draft, event::Pdu, policy::Policy};
use crate::{
    base::{
        ed25519::{self, Claim, PublicKey},
        json, signed_json,
    },
    error::{Error, Result},
};

/// The canonical JSON of an event at most, signatures included and `unsigned` not: it is nobody's word.
/// spec: client-server-api#size-limits
pub const MAX_EVENT: usize = 65_536;
/// The text that an event comes in at most: as large again, for `unsigned` and for white space.
const MAX_TEXT: usize = 2 * MAX_EVENT;
/// The text at most of what is no event and has its ID found all the same.
const MAX_ODD: usize = 1 << 20;
/// IDs, types and state keys at most, bytes.
const MAX_KEY: usize = 255;
/// Events before an event at most. spec: rooms/v4#event-format
pub const MAX_PREV: usize = 20;
/// Events that allow an event at most.
pub const MAX_AUTH: usize = 10;
/// Signatures of one server that are looked at: a bound on what an event costs.
const MAX_SIGNATURES: usize = 8;

/// An event whose format is right. Who sent it is not proven yet.
#[derive(Debug)]
pub struct Parsed {
    pdu: Pdu,
    room_id: OwnedRoomId,
    object: CanonicalJsonObject,
    /// The same as text.
    json: String,
    /// What signatures of it are over.
    signed: String,
}

/// An event whose format, signatures and content hash are right; or, where the hash is not, what is left
/// of it by redaction. Can be made nowhere but here.
#[derive(Clone, Debug)]
pub struct Checked {
    pdu: Pdu,
    room_id: OwnedRoomId,
    json: String,
    /// Whether it had a content that is not the one that was signed, and is taken away.
    bent: bool,
    /// The policy server whose signature it has been found to carry.
    vouched: Option<Policy>,
}

impl Checked {
    /// Whether it had a content that is not the one that was signed, and is taken away.
    pub fn was_bent(&self) -> bool {
        self.bent
    }
    /// The policy server whose signature it has been found to carry.
    pub fn vouched(&self) -> Option<&Policy> {
        self.vouched.as_ref()
    }
    /// The same, once it has been looked whether it carries a policy server's signature.
    pub fn looked_at(mut self, policy: &Policy, rules: &RoomVersionRules) -> Self {
        self.vouched = policy.has_signed(&self.json, rules).then(|| policy.clone());
        self
    }
    /// The same with a policy server's signature. None if that is not right.
    pub fn signed_by(mut self, policy: &Policy, signature: &str, rules: &RoomVersionRules) -> Option<Self> {
        self.json = policy.add_signature(&self.json, signature, rules)?;
        self.vouched = Some(policy.clone());
        Some(self)
    }
    /// The event.
    pub fn pdu(&self) -> &Pdu {
        &self.pdu
    }
    /// Its ID.
    pub fn id(&self) -> &EventId {
        &self.pdu.id
    }
    /// Its room.
    pub fn room_id(&self) -> &RoomId {
        &self.room_id
    }
    /// Its JSON as it federates.
    pub fn json(&self) -> &str {
        &self.json
    }
}

/// The keys that have to sign an event: by server the IDs of those whose signatures it carries.
pub type Signers = BTreeMap<OwnedServerName, BTreeSet<String>>;

/// Where the keys are that an event is checked by.
pub trait KnownKeys {
    /// The key of a server with this ID, if it is known, and was good at the time when an event was sent.
    fn key(&self, server: &ServerName, id: &str, sent: u64) -> Option<&PublicKey>;
}

/// The room that an event says it is in; none for a create event of version 12, whose room is called as
/// it is itself. Looks at nothing else.
pub fn room_of(raw: &RawValue) -> Option<OwnedRoomId> {
    #[derive(Deserialize)]
    struct Named {
        room_id: OwnedRoomId,
    }
    serde_json::from_str::<Named>(raw.get()).ok().map(|named| named.room_id)
}

/// The version of the room that a create event makes, as far as it says a known one.
pub fn version_of(create: &Pdu) -> Option<RoomVersionId> {
    #[derive(Deserialize)]
    struct Content {
        room_version: Option<RoomVersionId>,
    }
    let content: Content = create.content_as()?;
    Some(content.room_version.unwrap_or(RoomVersionId::V1))
}

/// Reads an event of a room with these rules. 400 `M_BAD_JSON` for what is no event there.
pub fn parse(raw: &RawValue, rules: &RoomVersionRules) -> Result<Parsed> {
    if raw.get().len() > MAX_TEXT {
        return Err(wrong("it is too large"));
    }
    if json::is_too_deep(raw.get().as_bytes()) {
        return Err(wrong("it is nested too deeply"));
    }
    let mut object = strict::object(raw.get()).map_err(|error| wrong(&error.to_string()))?;
    object.remove("unsigned");
    check_form(&object, rules)?;
    let json = serde_json::to_string(&object).map_err(Error::internal)?;
    if json.len() > MAX_EVENT {
        return Err(wrong(&format!("it has more than {MAX_EVENT} bytes")));
    }
    let signed = signed_part(&object, rules)?;
    let id = id_of(&signed)?;
    let pdu = Pdu::parse(id, &json)?;
    let room_id = match &pdu.room_id {
        Some(room) => room.clone(),
        None => draft::room_id_of(&pdu.id)?,
    };
    Ok(Parsed { pdu, room_id, object, json, signed })
}

/// The ID that their server knows by which it sent what can't be read as an event of a room with these rules: not
/// canonical JSON, too large, or nested too deeply. None if that which is wrong is part of what has an ID.
pub fn id_of_odd(raw: &RawValue, rules: &RoomVersionRules) -> Option<OwnedEventId> {
    /// Stands for what canonical JSON does not have.
    const ODD: &str = "\u{1}odd\u{1}";
    fn lenient(value: Value) -> CanonicalJsonValue {
        match value {
            Value::Null => CanonicalJsonValue::Null,
            Value::Bool(value) => CanonicalJsonValue::Bool(value),
            Value::String(value) => CanonicalJsonValue::String(value),
            Value::Number(value) => match value.as_i64().and_then(|value| ruma::Int::try_from(value).ok()) {
                Some(value) => CanonicalJsonValue::Integer(value),
                None => CanonicalJsonValue::String(ODD.to_owned()),
            },
            Value::Array(values) => CanonicalJsonValue::Array(values.into_iter().map(lenient).collect()),
            Value::Object(members) => {
                CanonicalJsonValue::Object(members.into_iter().map(|(key, value)| (key, lenient(value))).collect())
            }
        }
    }
    if raw.get().len() > MAX_ODD {
        return None;
    }
    let pruned = json::pruned(raw.get(), json::MAX_DEPTH, "0.5");
    let CanonicalJsonValue::Object(mut object) = lenient(serde_json::from_str(&pruned).ok()?) else { return None };
    object.remove("unsigned");
    redact_in_place(&mut object, &rules.redaction, None).ok()?;
    let is_whole = !serde_json::to_string(&object).ok()?.contains("\\u0001odd\\u0001");
    is_whole.then(|| id_of(&signed_part(&object, rules).ok()?).ok()).flatten()
}

/// What an event is to look like. spec: rooms/v12#event-format, client-server-api#size-limits
fn check_form(object: &CanonicalJsonObject, rules: &RoomVersionRules) -> Result<()> {
    let kind = text(object, "type")?.ok_or_else(|| wrong("it has no type"))?;
    let sender = text(object, "sender")?.ok_or_else(|| wrong("it has no sender"))?;
    UserId::parse(sender).map_err(|_| wrong("its sender is no user ID"))?;
    text(object, "state_key")?;
    let names_room = kind != "m.room.create" || rules.event_format.require_room_create_room_id;
    match text(object, "room_id")? {
        Some(room) => drop(RoomId::parse(room).map_err(|_| wrong("its room_id is no room ID"))?),
        None if names_room => return Err(wrong("it does not say its room")),
        None => {}
    }
    events(object, "prev_events", MAX_PREV)?;
    events(object, "auth_events", MAX_AUTH)?;
    for name in ["depth", "origin_server_ts"] {
        match object.get(name) {
            Some(CanonicalJsonValue::Integer(number)) if i64::from(*number) >= 0 => {}
            _ => return Err(wrong(&format!("its {name} is no natural number"))),
        }
    }
    for name in ["content", "hashes", "signatures"] {
        if !matches!(object.get(name), Some(CanonicalJsonValue::Object(_))) {
            return Err(wrong(&format!("its {name} is no object")));
        }
    }
    Ok(())
}

fn text<'a>(object: &'a CanonicalJsonObject, name: &str) -> Result<Option<&'a str>> {
    match object.get(name) {
        None => Ok(None),
        Some(CanonicalJsonValue::String(text)) if text.len() <= MAX_KEY => Ok(Some(text)),
        Some(_) => Err(wrong(&format!("its {name} is no text of at most {MAX_KEY} bytes"))),
    }
}

fn events(object: &CanonicalJsonObject, name: &str, most: usize) -> Result<()> {
    let Some(CanonicalJsonValue::Array(ids)) = object.get(name) else {
        return Err(wrong(&format!("its {name} is no list")));
    };
    let is_id = |id: &CanonicalJsonValue| id.as_str().is_some_and(|id| <&EventId>::try_from(id).is_ok());
    match ids.len() <= most && ids.iter().all(is_id) {
        true => Ok(()),
        false => Err(wrong(&format!("its {name} is no list of at most {most} event IDs"))),
    }
}

fn wrong(why: &str) -> Error {
    Error::bad_json(format!("not an event of this room version: {why}"))
}

/// What is to be known of an event before it is checked: found for a fraction of what reading all of it takes, and
/// good for no more than getting the keys and finding an order.
#[derive(Debug, PartialEq, Eq)]
pub struct Outline {
    /// Whose keys it will be checked by.
    pub signers: Signers,
    /// When it was sent, in milliseconds.
    pub sent: u64,
    /// How deep in the room it is, as it says.
    pub depth: u64,
}

/// The outline of an event, as far as it can be read as one.
pub fn outline(raw: &RawValue, rules: &RoomVersionRules) -> Option<Outline> {
    #[derive(Deserialize)]
    struct Signed<'a> {
        #[serde(rename = "type")]
        name: String,
        sender: OwnedUserId,
        #[serde(borrow)]
        content: &'a RawValue,
        origin_server_ts: u64,
        depth: u64,
        #[serde(borrow)]
        signatures: BTreeMap<String, &'a RawValue>,
    }
    let text = Some(raw.get()).filter(|text| text.len() <= MAX_TEXT)?;
    let event: Signed<'_> = serde_json::from_str(text).ok()?;
    let servers = signing_servers((&event.name, &event.sender, event.content), rules);
    let key_ids = |server: &OwnedServerName| {
        let own = event.signatures.get(server.as_str())?;
        let own: BTreeMap<String, IgnoredAny> = serde_json::from_str(own.get()).ok()?;
        Some(ed25519(own.keys()))
    };
    let signers = servers.into_iter().map(|server| (server.clone(), key_ids(&server).unwrap_or_default())).collect();
    Some(Outline { signers, sent: event.origin_server_ts, depth: event.depth })
}

/// The servers that have to have signed an event of a type, a sender and a content.
fn signing_servers(
    (name, sender, content): (&str, &UserId, &RawValue),
    rules: &RoomVersionRules,
) -> BTreeSet<OwnedServerName> {
    #[derive(Deserialize)]
    struct Content {
        membership: Option<String>,
        third_party_invite: Option<Box<RawValue>>,
        join_authorised_via_users_server: Option<String>,
    }
    let is_member = name == "m.room.member";
    let content: Option<Content> = if is_member { serde_json::from_str(content.get()).ok() } else { None };
    let by_third_party = content.as_ref().is_some_and(|content| {
        content.membership.as_deref() == Some("invite")
            && content.third_party_invite.as_ref().is_some_and(|invite| invite.get().starts_with('{'))
    });
    let mut servers = BTreeSet::new();
    if !by_third_party {
        servers.insert(sender.server_name().to_owned());
    }
    if rules.signatures.check_join_authorised_via_users_server
        && let Some(user) = content.and_then(|content| content.join_authorised_via_users_server)
        && let Ok(user) = UserId::parse(user)
    {
        servers.insert(user.server_name().to_owned());
    }
    servers
}

/// The IDs of keys of the kind that is known, so many at most.
fn ed25519<'a>(ids: impl Iterator<Item = &'a String>) -> BTreeSet<String> {
    ids.filter(|id| id.starts_with("ed25519:")).take(MAX_SIGNATURES).cloned().collect()
}

impl Parsed {
    /// The event, which nobody has vouched for yet.
    pub fn pdu(&self) -> &Pdu {
        &self.pdu
    }

    /// Its ID.
    pub fn id(&self) -> &EventId {
        &self.pdu.id
    }

    /// Its room.
    pub fn room_id(&self) -> &RoomId {
        &self.room_id
    }

    /// The servers that have to have signed it, with the keys whose signatures it carries: the sender's,
    /// and for somebody whom a member of a restricted room lets in, that member's. An invite that
    /// somebody outside of Matrix was sent proves itself by other keys.
    /// spec: server-server-api#validating-hashes-and-signatures-on-received-events, rooms/v8#authorization-rules
    pub fn signers(&self, rules: &RoomVersionRules) -> Signers {
        let servers = signing_servers((&self.pdu.name, &self.pdu.sender, &self.pdu.content), rules);
        servers.into_iter().map(|server| (server.clone(), self.key_ids(&server))).collect()
    }

    fn key_ids(&self, server: &OwnedServerName) -> BTreeSet<String> {
        let Some(CanonicalJsonValue::Object(all)) = self.object.get("signatures") else { return BTreeSet::new() };
        let Some(CanonicalJsonValue::Object(own)) = all.get(server.as_str()) else { return BTreeSet::new() };
        ed25519(own.keys())
    }

    /// When it was sent, as it says, in milliseconds.
    pub fn sent(&self) -> u64 {
        self.pdu.origin_server_ts.get().into()
    }

    /// Its signatures, as far as they are by known keys. 403 if somebody who has to has not signed it.
    fn claims<'k>(
        &self,
        keys: &'k impl KnownKeys,
        rules: &RoomVersionRules,
    ) -> Result<Vec<(OwnedServerName, Claim<'k>)>> {
        let mut claims = Vec::with_capacity(1);
        for (server, carried) in self.signers(rules) {
            let before = claims.len();
            for id in carried {
                let Some(key) = keys.key(&server, &id, self.sent()) else { continue };
                let signature = signed_json::signature(&self.object, server.as_str(), &id);
                let claim = signature.and_then(|signature| signed_json::claim(key, &self.signed, signature));
                claims.push((server.clone(), claim.ok_or_else(|| wrongly_signed(&server))?));
            }
            if claims.len() == before {
                return Err(Error::forbidden(format!("it is not signed by a known key of {server}")));
            }
        }
        Ok(claims)
    }

    /// The event, whose signatures are good. One whose content hash is wrong goes on in its redacted form.
    fn signed(self, rules: &RoomVersionRules) -> Result<Checked> {
        let Self { pdu, room_id, object, json, .. } = self;
        if has_right_hash(&object) {
            return Ok(Checked { pdu, room_id, json, bent: false, vouched: None });
        }
        let mut redacted = object.clone();
        redact_in_place(&mut redacted, &rules.redaction, None).map_err(|error| wrong(&error.to_string()))?;
        // What has been redacted elsewhere has lost nothing more by it.
        let bent = object != redacted;
        let json = serde_json::to_string(&redacted).map_err(Error::internal)?;
        let pdu = Pdu::parse(pdu.id, &json)?;
        Ok(Checked { pdu, room_id, json, bent, vouched: None })
    }
}

/// Checks the signatures of some events' [`Parsed::signers`] by keys that were good when each was sent, then their
/// content hashes. 403 for an event that somebody who has to has not signed: of each of these servers at least one key
/// has to be known, and all known ones have to have signed well.
pub fn verify(events: Vec<Parsed>, keys: &impl KnownKeys, rules: &RoomVersionRules) -> Vec<Result<Checked>> {
    let claims: Vec<Result<Vec<_>>> = events.iter().map(|event| event.claims(keys, rules)).collect();
    let mut hold = ed25519::hold(claims.iter().flatten().flatten().map(|(_, claim)| claim)).into_iter();
    let one = |(event, claims): (Parsed, Result<Vec<(OwnedServerName, Claim<'_>)>>)| {
        let wrong = claims?.into_iter().zip(&mut hold).filter(|(_, holds)| !holds).last();
        match wrong {
            None => event.signed(rules),
            Some(((server, _), _)) => Err(wrongly_signed(&server)),
        }
    };
    events.into_iter().zip(claims).map(one).collect()
}

fn wrongly_signed(server: &ServerName) -> Error {
    Error::forbidden(format!("the signature of {server} is wrong"))
}

/// What signatures of an event are over, and its ID is made of: what redaction leaves of it, without the signatures.
/// spec: server-server-api#signing-events, #calculating-the-reference-hash-for-an-event
fn signed_part(object: &CanonicalJsonObject, rules: &RoomVersionRules) -> Result<String> {
    let left = RedactingSerializer::new().rules(&rules.redaction);
    let signed = left.custom_redacted_root_fields(&["signatures", "unsigned"]).serialize(object);
    signed.map_err(|error| wrong(&error.to_string()))
}

/// The ID of an event by its signed part. spec: rooms/v4#event-ids
fn id_of(signed: &str) -> Result<OwnedEventId> {
    let hash = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, signed.as_bytes()));
    OwnedEventId::try_from(format!("${hash}")).map_err(Error::internal)
}

/// spec: server-server-api#calculating-the-content-hash-for-an-event
fn has_right_hash(object: &CanonicalJsonObject) -> bool {
    let Some(CanonicalJsonValue::Object(hashes)) = object.get("hashes") else { return false };
    let claimed = hashes.get("sha256").and_then(CanonicalJsonValue::as_str);
    let claimed = claimed.and_then(|hash| signed_json::LENIENT.decode(hash).ok());
    content_hash(object).is_ok_and(|hash| claimed.as_deref() == Some(hash.as_bytes()))
}

#[cfg(test)]
pub(super) mod tests;
