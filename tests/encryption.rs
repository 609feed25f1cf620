//! End-to-end encryption, the server's part, as clients meet it: keys published and handed out, proof
//! before keys are replaced, messages between devices, and who hears of changes.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use crate::common::{Server, User, encode, transaction};

const UPLOAD: &str = "/_matrix/client/v3/keys/upload";
const QUERY: &str = "/_matrix/client/v3/keys/query";
const CLAIM: &str = "/_matrix/client/v3/keys/claim";
const CROSS_SIGNING: &str = "/_matrix/client/v3/keys/device_signing/upload";
const SIGNATURES: &str = "/_matrix/client/v3/keys/signatures/upload";

/// A key pair that signs JSON, as clients do.
struct Key(Ed25519KeyPair);

impl Key {
    fn new() -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&hearth::base::random::bytes::<32>()).expect("a key"))
    }

    fn public(&self) -> String {
        STANDARD_NO_PAD.encode(self.0.public_key())
    }

    fn sign(&self, object: &mut Value, user: &User, name: &str) {
        let canonical = hearth::base::json::canonical(object.as_object().expect("an object").clone());
        let message = hearth::base::signed_json::signed_part(&canonical.expect("canonical")).expect("canonical");
        let signature = STANDARD_NO_PAD.encode(self.0.sign(message.as_bytes()));
        object["signatures"][&user.id][format!("ed25519:{name}")] = signature.into();
    }

    /// The key as one for cross-signing.
    fn for_usage(&self, user: &User, usage: &str, master: Option<&Self>) -> Value {
        let public = self.public();
        let mut key = json!({"user_id": user.id, "usage": [usage], "keys": {format!("ed25519:{public}"): public}});
        if let Some(master) = master {
            master.sign(&mut key, user, &master.public());
        }
        key
    }
}

fn device_keys(user: &User, key: &Key) -> Value {
    let mut keys = json!({
        "user_id": user.id,
        "device_id": user.device,
        "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
        "keys": {format!("ed25519:{}", user.device): key.public(), format!("curve25519:{}", user.device): "AAAA"},
    });
    key.sign(&mut keys, user, &user.device);
    keys
}

fn one_time_key(user: &User, key: &Key, value: &str) -> Value {
    let mut one = json!({"key": value});
    key.sign(&mut one, user, &user.device);
    one
}

fn cross_signing(user: &User, master: &Key, own: &Key, others: &Key) -> Value {
    json!({
        "master_key": master.for_usage(user, "master", None),
        "self_signing_key": own.for_usage(user, "self_signing", Some(master)),
        "user_signing_key": others.for_usage(user, "user_signing", Some(master)),
    })
}

/// Two people in a room.
async fn couple(server: &Server) -> (User, User) {
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = alice.create_room(json!({"preset": "public_chat"})).await;
    bob.join(&room).await;
    (alice, bob)
}

#[tokio::test]
async fn keys_are_published_told_of_and_handed_out_once() {
    let mut server = Server::start().await;
    let (alice, bob) = couple(&server).await;
    let (since, key) = (bob.now().await, Key::new());
    let keys = device_keys(&alice, &key);
    let one = one_time_key(&alice, &key, "one");
    let mut fallback = json!({"key": "fallback", "fallback": true});
    key.sign(&mut fallback, &alice, &alice.device);
    let uploaded = alice.post(
        UPLOAD,
        json!({
            "device_keys": keys,
            "one_time_keys": {"signed_curve25519:A": one},
            "fallback_keys": {"signed_curve25519:F": fallback},
        }),
    );
    assert_eq!(uploaded.await.ok()["one_time_key_counts"]["signed_curve25519"], 1);
    let other = json!({"one_time_keys": {"signed_curve25519:A": one_time_key(&alice, &key, "two")}});
    alice.post(UPLOAD, other).await.fails(400, "M_UNKNOWN");
    bob.post(UPLOAD, json!({"device_keys": keys})).await.fails(400, "M_INVALID_PARAM");

    let told = bob.sync(Some(&since), 0).await;
    assert_eq!(told["device_lists"]["changed"], json!([alice.id]));
    let next = told["next_batch"].as_str().expect("a token");
    let changes = format!("/_matrix/client/v3/keys/changes?from={}&to={}", encode(&since), encode(next));
    assert_eq!(bob.get(&changes).await.ok()["changed"], json!([alice.id]));
    bob.get("/_matrix/client/v3/keys/changes?from=x&to=y").await.fails(400, "M_INVALID_PARAM");
    let found = bob.post(QUERY, json!({"device_keys": {&alice.id: [], "@x:elsewhere": []}})).await.ok();
    let found_keys = &found["device_keys"][&alice.id][&alice.device];
    assert_eq!((&found_keys["keys"], &found_keys["signatures"]), (&keys["keys"], &keys["signatures"]));
    assert!(found["failures"]["elsewhere"].is_object());

    server.restart().await;
    let (alice, bob) = (User { url: server.url.clone(), ..alice }, User { url: server.url.clone(), ..bob });
    let claim = json!({"one_time_keys": {&alice.id: {&alice.device: "signed_curve25519"}}});
    let claimed = |answer: Value| answer["one_time_keys"][&alice.id][&alice.device].clone();
    let first = claimed(bob.post(CLAIM, claim.clone()).await.ok());
    assert_eq!(first, json!({"signed_curve25519:A": one}));
    let sync = alice.sync(None, 0).await;
    assert_eq!(sync["device_unused_fallback_key_types"], json!(["signed_curve25519"]));
    let second = claimed(bob.post(CLAIM, claim).await.ok());
    assert_eq!(second, json!({"signed_curve25519:F": fallback}));
    let sync = alice.sync(None, 0).await;
    assert_eq!(sync["device_unused_fallback_key_types"], json!([]));
}

#[tokio::test]
async fn who_has_a_key_claimed_hears_at_once_how_many_are_left() {
    let server = Server::start().await;
    let (alice, bob) = couple(&server).await;
    let key = Key::new();
    let (one, two) = (one_time_key(&alice, &key, "one"), one_time_key(&alice, &key, "two"));
    let keys = json!({"signed_curve25519:A": one, "signed_curve25519:B": two});
    alice.post(UPLOAD, json!({"device_keys": device_keys(&alice, &key), "one_time_keys": keys})).await.ok();
    let since = alice.now().await;
    let waiting = tokio::spawn({
        let alice = alice.clone();
        async move { alice.sync(Some(&since), 30_000).await }
    });
    let claim = json!({"one_time_keys": {&alice.id: {&alice.device: "signed_curve25519"}}});
    bob.post(CLAIM, claim).await.ok();
    let told = tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("at once").expect("answered");
    assert_eq!(told["device_one_time_keys_count"]["signed_curve25519"], 1);
}

#[tokio::test]
async fn cross_signing_keys_are_free_once_and_then_want_proof() {
    let server = Server::start().await;
    let (alice, bob) = couple(&server).await;
    let (device, master, own, others) = (Key::new(), Key::new(), Key::new(), Key::new());
    alice.post(UPLOAD, json!({"device_keys": device_keys(&alice, &device)})).await.ok();
    let keys = cross_signing(&alice, &master, &own, &others);
    alice.post(CROSS_SIGNING, keys.clone()).await.ok();
    alice.post(CROSS_SIGNING, keys).await.ok();
    let collision = json!({
        "type": "m.login.password", "password": Server::password("alice"), "device_id": master.public(),
        "identifier": {"type": "m.id.user", "user": "alice"},
    });
    server.guest().post("/_matrix/client/v3/login", collision).await.fails(403, "M_FORBIDDEN");

    let since = bob.now().await;
    let mut signed = device_keys(&alice, &device);
    own.sign(&mut signed, &alice, &own.public());
    let uploaded = alice.post(SIGNATURES, json!({&alice.id: {&alice.device: signed}})).await.ok();
    assert_eq!(uploaded, json!({}));
    assert_eq!(bob.sync(Some(&since), 0).await["device_lists"]["changed"], json!([alice.id]));
    let seen = bob.post(QUERY, json!({"device_keys": {&alice.id: []}})).await.ok();
    assert_eq!(seen["device_keys"][&alice.id][&alice.device]["signatures"], signed["signatures"]);
    assert!(seen["master_keys"][&alice.id].is_object() && seen["self_signing_keys"][&alice.id].is_object());
    assert!(seen["user_signing_keys"].get(&alice.id).is_none());

    let mut fresh = cross_signing(&alice, &Key::new(), &Key::new(), &Key::new());
    let challenge = alice.post(CROSS_SIGNING, fresh.clone()).await;
    assert_eq!((challenge.status, &challenge.body["flows"][0]["stages"]), (401, &json!(["m.login.password"])));
    let proof = |password: String| {
        json!({
            "type": "m.login.password", "session": challenge.body["session"], "password": password,
            "identifier": {"type": "m.id.user", "user": alice.id},
        })
    };
    fresh["auth"] = proof("a guess".into());
    assert_eq!(alice.post(CROSS_SIGNING, fresh.clone()).await.status, 401);
    fresh["auth"] = proof(Server::password("alice"));
    alice.post(CROSS_SIGNING, fresh.clone()).await.ok();
    let now = alice.post(QUERY, json!({"device_keys": {&alice.id: []}})).await.ok();
    assert_eq!(now["master_keys"][&alice.id]["keys"], fresh["master_key"]["keys"]);
    assert_eq!(now["user_signing_keys"][&alice.id]["keys"], fresh["user_signing_key"]["keys"]);
}

#[tokio::test]
async fn messages_between_devices_come_once_in_order_and_survive_a_crash() {
    let mut server = Server::start().await;
    let (alice, bob) = couple(&server).await;
    let laptop = server.login("bob").await;
    let since = bob.now().await;
    let send = |alice: &User, txn: String, content: Value| {
        let path = format!("/_matrix/client/v3/sendToDevice/m.test/{txn}");
        let (alice, body) = (alice.clone(), json!({"messages": {&bob.id: content}}));
        async move { alice.put(&path, body).await.ok() }
    };
    for n in 0..3 {
        let txn = transaction();
        send(&alice, txn.clone(), json!({"*": {"n": n}})).await;
        send(&alice, txn, json!({"*": {"n": n}})).await;
    }
    server.kill9().await;
    server.resume().await;
    let [alice, bob, laptop] = [alice, bob.clone(), laptop].map(|user| User { url: server.url.clone(), ..user });
    let numbers = |sync: &Value| -> Vec<Value> {
        let events = sync["to_device"]["events"].as_array().cloned().unwrap_or_default();
        events.iter().map(|event| event["content"]["n"].clone()).collect()
    };
    let first = bob.sync(Some(&since), 0).await;
    assert_eq!(numbers(&first), [0, 1, 2]);
    assert_eq!(first["to_device"]["events"][0]["sender"], alice.id.as_str());
    let again = bob.sync(Some(&since), 0).await;
    assert_eq!(numbers(&again), [0, 1, 2], "what was not acknowledged is delivered again");
    let next = first["next_batch"].as_str().expect("a token");
    assert!(numbers(&bob.sync(Some(next), 0).await).is_empty());
    // Forgetting what was acknowledged is a write that no answer waits for.
    let forgotten = async {
        while !numbers(&bob.sync(None, 0).await).is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), forgotten).await.expect("forgotten");
    assert_eq!(numbers(&laptop.sync(None, 0).await), [0, 1, 2], "each device has its own");

    let waiting = bob.sync(Some(next), 10_000);
    let sending = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        send(&alice, transaction(), json!({&bob.device: {"n": 9}})).await
    };
    let (woken, _) = tokio::join!(waiting, sending);
    assert_eq!(numbers(&woken), [9]);
    let large = json!({"messages": {&bob.id: {"*": {"x": "x".repeat(70_000)}}}});
    alice.put("/_matrix/client/v3/sendToDevice/m.test/large", large).await.fails(413, "M_TOO_LARGE");
}

#[tokio::test]
async fn more_messages_than_one_answer_takes_come_in_turn() {
    let server = Server::start().await;
    let (alice, bob) = couple(&server).await;
    let mut token = bob.now().await;
    for n in 0..250 {
        let path = format!("/_matrix/client/v3/sendToDevice/m.test/{}", transaction());
        alice.put(&path, json!({"messages": {&bob.id: {"*": {"n": n}}}})).await.ok();
    }
    let mut seen = Vec::new();
    for expected in [100, 100, 50] {
        let sync = bob.sync(Some(&token), 0).await;
        let events = sync["to_device"]["events"].as_array().cloned().unwrap_or_default();
        assert_eq!(events.len(), expected);
        seen.extend(events.iter().map(|event| event["content"]["n"].as_u64().expect("a number")));
        token = sync["next_batch"].as_str().expect("a token").to_owned();
    }
    assert!(seen.into_iter().eq(0..250));
    assert!(bob.sync(Some(&token), 0).await["to_device"]["events"].as_array().is_none_or(Vec::is_empty));
}

#[tokio::test]
async fn a_session_that_ends_takes_its_keys_along() {
    let server = Server::start().await;
    let (alice, bob) = couple(&server).await;
    let phone = server.login("alice").await;
    phone.post(UPLOAD, json!({"device_keys": device_keys(&phone, &Key::new())})).await.ok();
    let since = bob.now().await;
    phone.post("/_matrix/client/v3/logout", json!({})).await.ok();
    assert_eq!(bob.sync(Some(&since), 0).await["device_lists"]["changed"], json!([alice.id]));
    let left = bob.post(QUERY, json!({"device_keys": {&alice.id: []}})).await.ok();
    assert_eq!(left["device_keys"][&alice.id], json!({}));
    alice.get("/_matrix/client/v3/room_keys/version").await.fails(404, "M_NOT_FOUND");
}

/// However near to each other keys come and their session ends: none is left of a device that is gone.
#[tokio::test]
async fn keys_that_come_while_their_session_ends_are_not_left_behind() {
    let server = Server::start_with("registration = \"open\"\nrate_limits = false\n").await;
    let (alice, bob) = couple(&server).await;
    for round in 0..20 {
        let phone = server.login("alice").await;
        let key = Key::new();
        let upload = async |number: usize| {
            let mut body = json!({"device_keys": device_keys(&phone, &key)});
            body["one_time_keys"][format!("signed_curve25519:{number}")] = one_time_key(&phone, &key, "AAAA");
            body["fallback_keys"]["signed_curve25519:f"] = one_time_key(&phone, &key, "BBBB");
            phone.post(UPLOAD, body).await
        };
        // By turns the session ends itself, together with all others, or another session ends it.
        let end = async || match round % 3 {
            0 => phone.post("/_matrix/client/v3/logout", json!({})).await,
            1 => phone.post("/_matrix/client/v3/logout/all", json!({})).await,
            _ => {
                let proof = json!({"type": "m.login.password", "password": Server::password("alice"),
                    "identifier": {"type": "m.id.user", "user": "alice"}});
                let path = "/_matrix/client/v3/delete_devices";
                phone.post(path, json!({"devices": [phone.device], "auth": proof})).await
            }
        };
        let (uploads, ended) = tokio::join!(futures_util::future::join_all((0..6).map(upload)), end());
        ended.ok();
        assert!(uploads.iter().all(|upload| [200, 401].contains(&upload.status)), "{uploads:?}");
        let left = bob.post(QUERY, json!({"device_keys": {&alice.id: [phone.device]}})).await.ok();
        assert!(left["device_keys"][&alice.id][&phone.device].is_null(), "round {round}: {left}");
        let wanted = json!({"one_time_keys": {&alice.id: {phone.device.clone(): "signed_curve25519"}}});
        let claimed = bob.post(CLAIM, wanted).await.ok();
        assert!(claimed["one_time_keys"][&alice.id][&phone.device].is_null(), "round {round}: {claimed}");
    }
}

#[tokio::test]
async fn what_was_sent_to_a_sleeping_device_is_read_page_by_page() {
    let server = Server::start_with("registration = \"open\"\nrate_limits = false\n").await;
    let (alice, bob) = couple(&server).await;
    let path = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device";
    let mut sleeper = alice.clone();
    sleeper.device = "SLEEPER".to_owned();
    let body = json!({"device_id": "SLEEPER", "device_data": {"algorithm": "org.test"},
        "device_keys": device_keys(&sleeper, &Key::new())});
    alice.put(path, body).await.ok();
    for n in 0..150 {
        let path = format!("/_matrix/client/v3/sendToDevice/m.test/{}", transaction());
        bob.put(&path, json!({"messages": {&alice.id: {"SLEEPER": {"n": n}}}})).await.ok();
    }
    let events = format!("{path}/SLEEPER/events");
    for by_get in [false, true] {
        let (mut seen, mut token) = (Vec::new(), String::new());
        for expected in [100, 50, 0] {
            let page = match by_get {
                true => alice.get(&format!("{events}?next_batch={token}")).await.ok(),
                false => alice.post(&events, json!({"next_batch": token})).await.ok(),
            };
            let told = page["events"].as_array().expect("a list");
            assert_eq!(told.len(), expected);
            seen.extend(told.iter().map(|event| event["content"]["n"].as_u64().expect("a number")));
            page["next_batch"].as_str().expect("a token").clone_into(&mut token);
        }
        assert!(seen.into_iter().eq(0..150));
    }
    bob.get(&events).await.fails(404, "M_NOT_FOUND");
    alice.get(&format!("{path}/OTHER/events")).await.fails(403, "M_FORBIDDEN");
}
