//! Signatures as Matrix has them: of JSON in its canonical form, and of events. `serde_json` keeps the members of
//! objects in order, so that what it prints of strings and integers is canonical already.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use crate::Result;

/// An Ed25519 key and its name.
pub struct Key {
    pair: Ed25519KeyPair,
    name: String,
}

impl Key {
    /// A new one.
    pub fn new(name: &str) -> Result<Key> {
        let secret = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| "no randomness")?;
        let pair = Ed25519KeyPair::from_pkcs8(secret.as_ref()).map_err(|_| "a key that isn't one")?;
        Ok(Key { pair, name: name.to_owned() })
    }

    /// Such as `ed25519:1`.
    pub fn id(&self) -> String {
        format!("ed25519:{}", self.name)
    }

    /// The public half, as text.
    pub fn public(&self) -> String {
        STANDARD_NO_PAD.encode(self.pair.public_key().as_ref())
    }

    /// The signature of these bytes, as text.
    pub fn signature(&self, bytes: &[u8]) -> String {
        STANDARD_NO_PAD.encode(self.pair.sign(bytes).as_ref())
    }

    /// Signs an object in somebody's name. spec: appendices#signing-json
    pub fn sign(&self, whose: &str, object: &mut Value) {
        let signature = self.signature(without(object, &["signatures", "unsigned"]).to_string().as_bytes());
        object["signatures"] = json!({whose: {self.id(): signature}});
    }

    /// Hashes and signs an event of a server; the answer is its ID. spec: s2s#signing-events
    pub fn seal(&self, server: &str, event: &mut Value) -> String {
        let whole = without(event, &["signatures", "unsigned", "hashes"]).to_string();
        event["hashes"] = json!({"sha256": STANDARD_NO_PAD.encode(digest(&SHA256, whole.as_bytes()))});
        let redacted = redact(event).to_string();
        event["signatures"] = json!({server: {self.id(): self.signature(redacted.as_bytes())}});
        format!("${}", URL_SAFE_NO_PAD.encode(digest(&SHA256, redacted.as_bytes())))
    }
}

fn without(object: &Value, names: &[&str]) -> Value {
    let mut object = object.clone();
    if let Some(members) = object.as_object_mut() {
        members.retain(|name, _| !names.contains(&name.as_str()));
    }
    object
}

/// What is left of an event of room version 11 when it is redacted, without signatures. Of contents only those that
/// the benchmark's events have are known. spec: rooms/v11#redactions
fn redact(event: &Value) -> Value {
    let kept: &[&str] = match event["type"].as_str() {
        Some("m.room.create") => &["creator", "room_version", "type", "predecessor", "m.federate"],
        Some("m.room.member") => &["membership"],
        Some("m.room.join_rules") => &["join_rule"],
        Some("m.room.power_levels") => {
            &["ban", "events", "events_default", "invite", "kick", "redact", "state_default", "users", "users_default"]
        }
        Some("m.room.history_visibility") => &["history_visibility"],
        _ => &[],
    };
    let mut event = without(event, &["signatures", "unsigned"]);
    if let Some(content) = event["content"].as_object_mut() {
        content.retain(|name, _| kept.contains(&name.as_str()));
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_is_canonical_and_redacted() {
        let key = Key::new("1").unwrap();
        let mut event = json!({
            "type": "m.room.message", "room_id": "!r:a", "sender": "@a:a", "content": {"msgtype": "m.text", "body": "é"},
            "depth": 3, "origin_server_ts": 1, "prev_events": ["$a"], "auth_events": [],
        });
        let id = key.seal("a", &mut event);
        assert_eq!(id.len(), 44);
        assert_eq!(redact(&event)["content"], json!({}));
        // What others may add doesn't change which event it is.
        event["unsigned"] = json!({"age": 5});
        let mut again = event.clone();
        assert_eq!(key.seal("a", &mut again), id);
        event["content"]["body"] = json!("other");
        assert_ne!(key.seal("a", &mut event), id);
        assert_eq!(json!({"b": 1, "a": {"d": 2, "c": []}}).to_string(), r#"{"a":{"c":[],"d":2},"b":1}"#);
    }
}
