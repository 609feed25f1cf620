//! Policy servers: a room may name a server that is asked about each of its events before it is sent, and
//! whose signature says that the event is welcome. Which server that is, whether it has signed, and what is
//! to be signed of what is made here; it is asked elsewhere (`federation/policy.rs`).
//! spec: server-server-api#policy-servers

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedServerName, ServerName, canonical_json::redact_in_place,
    room_version_rules::RoomVersionRules,
};
use serde::Deserialize;

use super::{append, draft::Signed, event::Pdu, room::Room, servers, state::Overlay};
use crate::{
    base::{RoomNum, signed_json},
    error::{Error, Result, Unsigned},
    store::{Read, WriteTx},
};

/// The type of the event that names it.
const POLICY: &str = "m.room.policy";
/// The ID under which it signs. spec: server-server-api#validating-policy-server-signatures
const KEY_ID: &str = "ed25519:policy_server";

/// A room's policy server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its name.
    pub server: OwnedServerName,
    /// The public half of the key by which it signs, base64.
    pub key: String,
}

/// The policy server of a room, if it has one: named in its state, and in the room itself.
/// spec: server-server-api#determining-if-a-policy-server-is-enabled-in-a-room
pub fn of(tx: &impl Read, room: &Room) -> Result<Option<Policy>> {
    of_state(tx, (room.num, &Overlay::of(room.row.state)))
}

/// The same in a state of a room.
fn of_state(tx: &impl Read, (room, state): (RoomNum, &Overlay)) -> Result<Option<Policy>> {
    #[derive(Deserialize)]
    struct Content {
        via: String,
        public_keys: Keys,
    }
    #[derive(Deserialize)]
    struct Keys {
        ed25519: String,
    }
    let Some(named) = state.event(tx, POLICY, "")? else { return Ok(None) };
    let Some(content) = Pdu::at(tx, named)?.content_as::<Content>() else { return Ok(None) };
    let Ok(server) = ServerName::parse(&content.via) else { return Ok(None) };
    let is_there = servers::is_in(tx, room, &server)?;
    Ok(is_there.then_some(Policy { server, key: content.public_keys.ed25519 }))
}

/// The policy server that has to have signed an event, if one has: it is not asked about the event that names
/// it, so that it can be got rid of.
pub fn for_event(tx: &impl Read, room: &Room, pdu: &Pdu) -> Result<Option<Policy>> {
    for_event_in(tx, (room.num, &Overlay::of(room.row.state)), pdu)
}

/// The same in a state of a room.
pub(super) fn for_event_in(tx: &impl Read, (room, state): (RoomNum, &Overlay), pdu: &Pdu) -> Result<Option<Policy>> {
    match pdu.name == POLICY && pdu.state_key.as_deref() == Some("") {
        true => Ok(None),
        false => of_state(tx, (room, state)),
    }
}

impl Policy {
    /// Whether an event carries its signature.
    pub fn has_signed(&self, json: &str, rules: &RoomVersionRules) -> bool {
        serde_json::from_str::<CanonicalJsonObject>(json).is_ok_and(|object| self.holds(object, rules))
    }

    /// An event with its signature. None if that is not right.
    pub fn add_signature(&self, json: &str, signature: &str, rules: &RoomVersionRules) -> Option<String> {
        let mut object: CanonicalJsonObject = serde_json::from_str(json).ok()?;
        let CanonicalJsonValue::Object(all) = object.get_mut("signatures")? else { return None };
        let of_server =
            all.entry(self.server.to_string()).or_insert_with(|| CanonicalJsonValue::Object(Default::default()));
        let CanonicalJsonValue::Object(of_server) = of_server else { return None };
        of_server.insert(KEY_ID.to_owned(), signature.into());
        let json = serde_json::to_string(&object).ok()?;
        (json.len() <= super::pdu::MAX_EVENT && self.holds(object, rules)).then_some(json)
    }

    fn holds(&self, mut object: CanonicalJsonObject, rules: &RoomVersionRules) -> bool {
        redact_in_place(&mut object, &rules.redaction, None).is_ok()
            && signed_json::is_signed_by(&object, self.server.as_str(), KEY_ID, &self.key)
    }
}

/// An event that was made on top of a room's present, or the one like it that was made before and is signed
/// by the room's policy server by now. Otherwise the error says what has to be signed.
pub(super) fn signed(tx: &WriteTx, room: &Room, fresh: Signed) -> Result<Signed> {
    let brought = tx.brought();
    if brought.unasked {
        return Ok(fresh);
    }
    let Some(policy) = for_event(tx, room, &fresh.pdu)? else { return Ok(fresh) };
    for json in &brought.events {
        let Some(pdu) = same(tx, room, &fresh, json)? else { continue };
        if policy.has_signed(json, &room.rules()) {
            return Ok(Signed { pdu, json: json.to_string() });
        }
    }
    let Policy { server, key } = policy;
    let version = room.row.version.clone();
    Err(Error::unsigned(Unsigned { by: server.to_string(), key, version, event: fresh.json }))
}

/// The event in `json`, if it says the same as a fresh one and still stands where it can: on the same events,
/// or on others after which the room's state was what it is now.
fn same(tx: &WriteTx, room: &Room, fresh: &Signed, json: &str) -> Result<Option<Pdu>> {
    let object = |json: &str| serde_json::from_str::<CanonicalJsonObject>(json).map_err(Error::internal);
    let (new, old) = (object(&fresh.json)?, object(json)?);
    let words = ["type", "room_id", "sender", "state_key", "content", "redacts", "auth_events"];
    if words.iter().any(|name| new.get(*name) != old.get(*name)) {
        return Ok(None);
    }
    let hash = ruma::signatures::reference_hash(&old, &room.rules()).map_err(Error::internal)?;
    let pdu = Pdu::parse(super::event::parse_id(&format!("${hash}"))?, json)?;
    let stands = pdu.prev_events == fresh.pdu.prev_events || append::is_after_the_same(tx, room, &pdu)?;
    Ok(stands.then_some(pdu))
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use ruma::{room_version_rules::RoomVersionRules, server_name};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_signature_by_another_key_or_of_another_event_is_none() {
        let dir = tempfile::tempdir().expect("a directory");
        let key = |name: &str| crate::base::signing::SigningKey::load_or_create(&dir.path().join(name)).expect("a key");
        let (right, wrong) = (key("right"), key("wrong"));
        let rules = RoomVersionRules::V11;
        let event = json!({"type": "m.room.message", "content": {"body": "x"}, "sender": "@a:b", "signatures": {}});
        let policy =
            Policy { server: server_name!("p.test").to_owned(), key: signed_json::LENIENT.encode(right.public()) };
        let sign = |key: &crate::base::signing::SigningKey, event: &serde_json::Value| {
            let mut object: CanonicalJsonObject = serde_json::from_value(event.clone()).expect("canonical");
            redact_in_place(&mut object, &rules.redaction, None).expect("redacts");
            let message = signed_json::signed_part(&object).expect("signs");
            signed_json::LENIENT.encode(ruma::signatures::KeyPair::sign(key, message.as_bytes()).as_bytes())
        };
        let text = event.to_string();
        let signed = policy.add_signature(&text, &sign(&right, &event), &rules).expect("it is right");
        assert!(policy.has_signed(&signed, &rules) && !policy.has_signed(&text, &rules));
        assert_eq!(policy.add_signature(&text, &sign(&wrong, &event), &rules), None);
        let other = json!({"type": "m.room.message", "content": {}, "sender": "@x:b", "signatures": {}});
        assert_eq!(policy.add_signature(&text, &sign(&right, &other), &rules), None);
        let elsewhere =
            Policy { server: server_name!("q.test").to_owned(), key: signed_json::LENIENT.encode(right.public()) };
        assert!(!elsewhere.has_signed(&signed, &rules));
    }
}
