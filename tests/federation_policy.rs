//! Rooms with a policy server, which is a server of the test's own: what is said here is said with its
//! signature or not at all, and what others say without it is shown to nobody.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use hearth::base::{signed_json, signing::SigningKey};
use reqwest::Method;
use ruma::{
    CanonicalJsonObject,
    canonical_json::redact_in_place,
    signatures::{KeyPair, hash_and_sign_event},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    common::{Asked, Says, encode, federate, in_room, until},
    federation_hostile::{Guest, VERSION, bodies, hears, party},
};

const SIGN: &str = "/_matrix/policy/v1/sign";

/// What a policy server says of an event: its signature, unless a text in it is forbidden.
struct Judge {
    key: SigningKey,
    name: String,
    forbidden: &'static str,
}

impl Judge {
    fn new(guest: &Guest, forbidden: &'static str) -> Self {
        let dir = TempDir::new().expect("a directory");
        let key = SigningKey::load_or_create(&dir.path().join("policy.key")).expect("made");
        Self { key, name: guest.peer.name().to_owned(), forbidden }
    }

    fn public(&self) -> String {
        STANDARD_NO_PAD.encode(self.key.public())
    }

    fn signature(&self, event: &Value) -> String {
        let rules = VERSION.rules().expect("known");
        let mut object: CanonicalJsonObject = serde_json::from_value(event.clone()).expect("canonical");
        redact_in_place(&mut object, &rules.redaction, None).expect("redacts");
        let message = signed_json::signed_part(&object).expect("it can be signed");
        STANDARD_NO_PAD.encode(self.key.sign(message.as_bytes()).as_bytes())
    }

    fn answer(&self, asked: &Asked) -> (u16, Value) {
        if asked.body["content"].to_string().contains(self.forbidden) {
            return (400, json!({"errcode": "ORG_EXAMPLE_SPAM", "error": "we have had enough of that"}));
        }
        (200, json!({ (self.name.as_str()): { "ed25519:policy_server": self.signature(&asked.body) } }))
    }
}

/// Makes the guest's server the room's policy server.
async fn policed(alice: &crate::common::User, guest: &Guest, forbidden: &'static str) -> Arc<Judge> {
    let judge = Arc::new(Judge::new(guest, forbidden));
    let answering = judge.clone();
    guest.peer.says(SIGN, Says::Answer(Arc::new(move |asked| answering.answer(asked))));
    let content = json!({"via": guest.peer.name(), "public_keys": {"ed25519": judge.public()}});
    alice.set_state(&guest.room, "m.room.policy", "", content).await;
    judge
}

#[tokio::test]
async fn what_people_say_is_signed_by_the_rooms_policy_server_or_not_said() {
    let (server, alice, guest) = party().await;
    guest.peer.says("/_matrix/federation/v1/send/", Says::Json(200, json!({"pdus": {}})));
    let judge = policed(&alice, &guest, "spam").await;
    assert!(guest.peer.asked(SIGN).is_empty(), "it is not asked about the event that names it");
    let sent = alice.say(&guest.room, "hello").await;
    let told = until("the event is told", async || {
        let told = guest.peer.asked("/_matrix/federation/v1/send/").into_iter();
        let mut events = told.flat_map(|asked| asked.body["pdus"].as_array().cloned().unwrap_or_default());
        events.find(|event| event["content"]["body"] == "hello")
    });
    let event = told.await;
    assert_eq!(event["signatures"][guest.peer.name()]["ed25519:policy_server"], json!(judge.signature(&event)));
    assert!(event["signatures"][&server.name].is_object());
    alice.get(&in_room(&guest.room, &format!("event/{}", encode(&sent)))).await.ok();
    // Its refusal is told word for word, and the event is nowhere.
    let path = in_room(&guest.room, "send/m.room.message/t1");
    let refused = alice.put(&path, json!({"msgtype": "m.text", "body": "spam"})).await;
    refused.fails(400, "ORG_EXAMPLE_SPAM");
    assert_eq!(refused.body["error"], "we have had enough of that");
    alice
        .put(&in_room(&guest.room, "state/m.room.topic/"), json!({"topic": "spam"}))
        .await
        .fails(400, "ORG_EXAMPLE_SPAM");
    assert!(!bodies(&alice, &guest.room).await.contains(&"spam".to_owned()));
    // State, membership and the upgrade of the room are signed as well; a transaction is sent once.
    let bob = server.register("bob").await;
    bob.join(&guest.room).await;
    alice.set_state(&guest.room, "m.room.topic", "", json!({"topic": "calm"})).await;
    let path = in_room(&guest.room, "send/m.room.message/t2");
    let twice = [(); 2].map(|()| alice.put(&path, json!({"msgtype": "m.text", "body": "once"})));
    let [one, two] = twice;
    assert_eq!(one.await.ok()["event_id"], two.await.ok()["event_id"]);
    bob.put(&format!("/_matrix/client/v3/profile/{}/displayname", encode(&bob.id)), json!({"displayname": "Bobby"}))
        .await
        .ok();
    let member = bob.get(&in_room(&guest.room, &format!("state/m.room.member/{}", encode(&bob.id)))).await.ok();
    assert_eq!(member["displayname"], "Bobby");
    let asked = guest.peer.asked(SIGN);
    assert!(asked.iter().any(|asked| asked.body["type"] == "m.room.member"), "joins are asked about");
    alice.post(&in_room(&guest.room, "upgrade"), json!({"new_version": "12"})).await.ok();
    // Nobody is kept in by it.
    guest.peer.says(SIGN, Says::Json(400, json!({"errcode": "M_FORBIDDEN", "error": "no"})));
    bob.leave(&guest.room).await;
}

#[tokio::test]
async fn what_others_say_without_the_signature_is_shown_to_nobody() {
    let (server, alice, guest) = party().await;
    let judge = policed(&alice, &guest, "spam").await;
    // Signed by whom it is to be: nobody is asked.
    let (id, mut event) = guest.message("signed before", json!({}));
    event["signatures"][guest.peer.name()]["ed25519:policy_server"] = json!(judge.signature(&event));
    assert_eq!(guest.outcome(&server, (id, event)).await, json!({}));
    hears(&alice, &guest.room, "signed before").await;
    assert!(guest.peer.asked(SIGN).is_empty());
    // Not signed, or wrongly: it is asked.
    assert_eq!(guest.outcome(&server, guest.message("asked about", json!({}))).await, json!({}));
    hears(&alice, &guest.room, "asked about").await;
    let (id, mut event) = guest.message("bent", json!({}));
    event["signatures"][guest.peer.name()]["ed25519:policy_server"] = json!("A".repeat(86));
    assert_eq!(guest.outcome(&server, (id, event)).await, json!({}));
    hears(&alice, &guest.room, "bent").await;
    assert_eq!(guest.peer.asked(SIGN).len(), 2);
    assert_eq!(guest.outcome(&server, guest.message("spam", json!({}))).await, json!({}));
    // By another key than the room says.
    let other = Judge::new(&guest, "");
    let other = Judge { forbidden: "never", ..other };
    guest.peer.says(SIGN, Says::Answer(Arc::new(move |asked| other.answer(asked))));
    assert_eq!(guest.outcome(&server, guest.message("by another key", json!({}))).await, json!({}));
    let tried = alice.put(&in_room(&guest.room, "send/m.room.message/x"), json!({"body": "mine"})).await;
    assert_eq!(tried.status, 502, "{:?}", tried.body);
    // Somebody with the power to do so gets rid of it, without asking it.
    alice.set_state(&guest.room, "m.room.policy", "", json!({})).await;
    assert_eq!(guest.outcome(&server, guest.message("afterwards", json!({}))).await, json!({}));
    hears(&alice, &guest.room, "afterwards").await;
    let heard = bodies(&alice, &guest.room).await;
    assert!(!heard.iter().any(|body| body == "spam" || body == "by another key" || body == "mine"), "{heard:?}");
}

/// Invites over servers are signed by the policy server before whoever is invited hears of them, and before the room
/// does.
#[tokio::test]
async fn invites_are_signed_by_the_rooms_policy_server_or_not_sent() {
    let (server, alice, guest) = party().await;
    let [two] = federate().await;
    let bob = two.register("bob").await;
    guest.peer.says("/_matrix/federation/v1/send/", Says::Json(200, json!({"pdus": {}})));
    let judge = policed(&alice, &guest, "spam").await;
    let invite = async |whom: &str, why: &str| {
        alice.post(&in_room(&guest.room, "invite"), json!({"user_id": whom, "reason": why})).await
    };
    // Somebody of a third server: refused where the policy server refuses, and they hear nothing of it.
    invite(&bob.id, "spam").await.fails(400, "ORG_EXAMPLE_SPAM");
    let none = bob.sync(None, 0).await;
    assert!(none["rooms"]["invite"][&guest.room].is_null(), "{none}");
    invite(&bob.id, "come in").await.ok();
    let told = async |membership: &str, of: &str| {
        until(&format!("{membership} of {of} is told"), async || {
            let told = guest.peer.asked("/_matrix/federation/v1/send/").into_iter();
            let mut events = told.flat_map(|asked| asked.body["pdus"].as_array().cloned().unwrap_or_default());
            events.find(|event| event["state_key"] == json!(of) && event["content"]["membership"] == json!(membership))
        })
        .await
    };
    let invited = told("invite", &bob.id).await;
    assert_eq!(invited["signatures"][guest.peer.name()]["ed25519:policy_server"], json!(judge.signature(&invited)));
    assert!(invited["signatures"][&two.name].is_object() && invited["signatures"][&server.name].is_object());
    until("bob is invited", async || {
        let sync = bob.sync(None, 0).await;
        sync["rooms"]["invite"][&guest.room].is_object().then_some(())
    })
    .await;
    let path = format!("/_matrix/client/v3/join/{}?via={}", encode(&guest.room), encode(&server.name));
    bob.post(&path, json!({})).await.ok();
    told("join", &bob.id).await;
    bob.say(&guest.room, "thank you").await;
    hears(&alice, &guest.room, "thank you").await;
    // Somebody of the policy server's own, which signs as both.
    let (peer, eve) = (guest.peer.me.clone(), format!("@eve:{}", guest.peer.name()));
    let countersigns = move |asked: &Asked| {
        let mut event: CanonicalJsonObject = serde_json::from_value(asked.body["event"].clone()).expect("canonical");
        let rules = VERSION.rules().expect("known");
        hash_and_sign_event(peer.name.as_str(), &peer.key, &mut event, &rules.redaction).expect("signs");
        (200, json!({ "event": event }))
    };
    guest.peer.says("/_matrix/federation/v2/invite/", Says::Answer(Arc::new(countersigns)));
    invite(&eve, "spam").await.fails(400, "ORG_EXAMPLE_SPAM");
    assert!(guest.peer.asked("/_matrix/federation/v2/invite/").is_empty(), "it hears nothing of it either");
    invite(&eve, "come in").await.ok();
    let signatures = told("invite", &eve).await["signatures"][guest.peer.name()].clone();
    assert_eq!(signatures.as_object().map(serde_json::Map::len), Some(2), "{signatures}");
}

/// Somebody of ours is invited by another server, which has not asked the policy server: this server is in the
/// room, and believes it with the signature alone.
#[tokio::test]
async fn an_invite_that_others_bring_without_the_signature_brings_nobody_to_the_door() {
    let (server, alice, mut guest) = party().await;
    let carol = server.register("carol").await;
    let mut levels = alice.get(&in_room(&guest.room, "state/m.room.power_levels/")).await.ok();
    levels["invite"] = json!(0);
    guest.end = alice.set_state(&guest.room, "m.room.power_levels", "", levels).await;
    guest.auth[1].clone_from(&guest.end);
    policed(&alice, &guest, "spam").await;
    let brings = async |why: &str| {
        let content = json!({"membership": "invite", "reason": why});
        let (id, event) =
            guest.message("", json!({"type": "m.room.member", "state_key": carol.id, "content": content}));
        let uri = format!("/_matrix/federation/v2/invite/{}/{}", encode(&guest.room), encode(&id));
        let body = json!({"room_version": VERSION.as_str(), "event": event, "invite_room_state": []});
        let signed = guest.peer.ask(&server, Method::PUT, &uri, Some(body)).await.ok()["event"].clone();
        assert_eq!(guest.outcome(&server, (id, signed)).await, json!({}));
        carol.sync(None, 0).await["rooms"]["invite"][&guest.room].is_object()
    };
    assert!(!brings("spam").await);
    assert!(brings("come in").await);
    carol.join(&guest.room).await;
}

#[tokio::test]
async fn a_policy_server_that_does_not_answer_costs_little_and_can_be_got_rid_of() {
    let (server, alice, guest) = party().await;
    policed(&alice, &guest, "spam").await;
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{\"x\":\"".to_vec();
    guest.peer.says(SIGN, Says::Endless([head, vec![b'x'; 1 << 16]].concat()));
    let say = async |text: &str| {
        let path = in_room(&guest.room, &format!("send/m.room.message/{}", crate::common::transaction()));
        alice.put(&path, json!({"msgtype": "m.text", "body": text})).await
    };
    assert_eq!(say("lost").await.status, 502);
    let asked = guest.peer.asked(SIGN).len();
    // For a while it is not asked again.
    let began = Instant::now();
    for n in 0..20 {
        assert_eq!(guest.outcome(&server, guest.message(&format!("silence {n}"), json!({}))).await, json!({}));
    }
    assert_eq!(say("lost").await.status, 502);
    assert!(began.elapsed() < Duration::from_secs(10) && guest.peer.asked(SIGN).len() <= asked + 1);
    alice.set_state(&guest.room, "m.room.policy", "", json!({})).await;
    say("heard").await.ok();
    let heard = bodies(&alice, &guest.room).await;
    assert_eq!(heard, ["heard"], "{heard:?}");
}

#[tokio::test]
async fn a_server_that_nobody_is_from_is_no_policy_server() {
    let [server] = federate().await;
    let alice = server.register("alice").await;
    let room = alice.create_room(json!({"preset": "public_chat"})).await;
    let asked = AtomicU64::new(0);
    for content in [
        json!({"via": "example.org", "public_keys": {"ed25519": "x"}}),
        json!({"via": "nonsense?", "public_keys": {"ed25519": "x"}}),
        json!({"via": server.name, "public_keys": {}}),
        json!({"via": 7, "public_keys": {"ed25519": 7}}),
        json!([]),
    ] {
        if content.is_object() {
            alice.set_state(&room, "m.room.policy", "", content).await;
        }
        alice.say(&room, &format!("heard {}", asked.fetch_add(1, Ordering::Relaxed))).await;
    }
    let none = server.guest().get("/.well-known/matrix/policy_server").await;
    assert_eq!(none.status, 404, "Hearth is none itself");
    let none = alice.post("/_matrix/policy/v1/sign", json!({})).await;
    none.fails(404, "M_UNRECOGNIZED");
}
