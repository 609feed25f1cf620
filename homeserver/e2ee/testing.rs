//! Keys and people for the tests of this folder.

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use ring::signature::{Ed25519KeyPair, KeyPair};
use ruma::{UserId, serde::Raw, user_id};
use serde_json::{Value, json};

pub use crate::accounts::testing::store as open;
use crate::base::{json::canonical, random, signed_json};

pub fn alice() -> &'static UserId {
    user_id!("@alice:here")
}

pub fn bob() -> &'static UserId {
    user_id!("@bob:here")
}

pub fn raw<T>(value: &Value) -> Raw<T> {
    Raw::new(value).expect("JSON").cast_unchecked()
}

/// A key pair that signs JSON.
pub struct Key(Ed25519KeyPair);

impl Key {
    pub fn new() -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&random::bytes::<32>()).expect("a key"))
    }

    pub fn public(&self) -> String {
        STANDARD_NO_PAD.encode(self.0.public_key())
    }

    /// Signs as `ed25519:<name>` of a user.
    pub fn sign(&self, object: &mut Value, user: &UserId, name: &str) {
        let message = canonical(object.as_object().expect("an object").clone()).expect("canonical");
        let message = signed_json::signed_part(&message).expect("canonical");
        let signature = STANDARD_NO_PAD.encode(self.0.sign(message.as_bytes()));
        object["signatures"][user.as_str()][format!("ed25519:{name}")] = signature.into();
    }
}

/// A device's keys, signed by itself.
pub fn device_keys(user: &UserId, device: &str, key: &Key) -> Value {
    let mut keys = json!({
        "user_id": user,
        "device_id": device,
        "algorithms": ["m.megolm.v1.aes-sha2"],
        "keys": { format!("ed25519:{device}"): key.public(), format!("curve25519:{device}"): "AAAA" },
        "chat.example.extra": 1,
    });
    key.sign(&mut keys, user, device);
    keys
}

/// A cross-signing key, signed by a master key if one is given.
pub fn cross_signing_key(user: &UserId, usage: &str, key: &Key, master: Option<&Key>) -> Value {
    let public = key.public();
    let mut object = json!({ "user_id": user, "usage": [usage], "keys": { format!("ed25519:{public}"): public } });
    if let Some(master) = master {
        master.sign(&mut object, user, &master.public());
    }
    object
}
