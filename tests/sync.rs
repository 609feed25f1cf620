//! Syncing, as clients do it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::{Server, User, encode, in_room};

/// A room's part of an answer.
fn joined<'a>(sync: &'a Value, room: &str) -> &'a Value {
    &sync["rooms"]["join"][room]
}

fn token(sync: &Value) -> &str {
    sync["next_batch"].as_str().expect("a token")
}

fn bodies(room: &Value) -> Vec<&str> {
    let events = room["timeline"]["events"].as_array().expect("a timeline");
    events.iter().filter_map(|event| event["content"]["body"].as_str()).collect()
}

fn kinds(events: &Value) -> Vec<&str> {
    events.as_array().expect("events").iter().filter_map(|event| event["type"].as_str()).collect()
}

async fn pair(server: &Server) -> (User, User, String) {
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = alice.create_room(json!({"preset": "public_chat", "name": "Den"})).await;
    bob.join(&room).await;
    (alice, bob, room)
}

#[tokio::test]
async fn a_message_wakes_who_waits_and_says_all_about_the_room() {
    let server = Server::start().await;
    let (alice, bob, room) = pair(&server).await;
    let first = bob.sync(None, 0).await;
    let den = joined(&first, &room);
    assert!(kinds(&den["timeline"]["events"]).contains(&"m.room.create"), "{den}");
    assert_eq!(den["timeline"]["limited"], false);
    assert_eq!(den["summary"]["m.joined_member_count"], 2);
    assert_eq!(den["unread_notifications"]["notification_count"], 0);
    assert!(kinds(&first["account_data"]["events"]).contains(&"m.push_rules"));
    assert_eq!(first["device_one_time_keys_count"]["signed_curve25519"], 0);
    let waiting = tokio::spawn({
        let (bob, since) = (bob.clone(), token(&first).to_owned());
        async move { bob.sync(Some(&since), 20_000).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let began = Instant::now();
    alice.say(&room, "hello bob").await;
    let second = waiting.await.expect("answered");
    assert!(began.elapsed() < Duration::from_secs(15));
    let den = joined(&second, &room);
    assert_eq!(bodies(den), ["hello bob"]);
    assert_eq!(den["unread_notifications"]["notification_count"], 1);
    let again = bob.sync(Some(token(&second)), 0).await;
    assert!(again["rooms"].is_null(), "{again}");
}

#[tokio::test]
async fn empty_waits_last_as_long_as_asked_and_signing_out_ends_them() {
    let server = Server::start().await;
    let (_alice, bob, _room) = pair(&server).await;
    let now = bob.now().await;
    let began = Instant::now();
    // Presence of who came just now may come first.
    let now = token(&bob.sync(Some(&now), 1500).await).to_owned();
    let now = token(&bob.sync(Some(&now), 300).await).to_owned();
    assert!(began.elapsed() >= Duration::from_millis(300));
    let waiting = tokio::spawn({
        let (bob, now) = (bob.clone(), now.clone());
        async move { bob.get(&format!("/_matrix/client/v3/sync?timeout=30000&since={now}")).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    bob.post("/_matrix/client/v3/logout", json!({})).await.ok();
    let answer = tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("at once").expect("answered");
    answer.fails(401, "M_UNKNOWN_TOKEN");
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said() {
    let server = Server::start().await;
    let alice = server.register("alice").await;
    for since in ["x", "s1", "t5", "s1_2_3_4"] {
        alice.get(&format!("/_matrix/client/v3/sync?since={since}")).await.fails(400, "M_INVALID_PARAM");
    }
    alice.get("/_matrix/client/v3/sync?filter=none").await.fails(400, "M_INVALID_PARAM");
    server.guest().get("/_matrix/client/v3/sync").await.fails(401, "M_MISSING_TOKEN");
    let future = alice.sync(Some("s99999999_1"), 0).await;
    assert!(kinds(&future["account_data"]["events"]).contains(&"m.push_rules"), "begins anew");
}

#[tokio::test]
async fn long_absences_leave_a_gap_that_can_be_filled() {
    let server = Server::start().await;
    let (alice, bob, room) = pair(&server).await;
    let since = bob.now().await;
    for n in 0..15 {
        alice.say(&room, &n.to_string()).await;
        if n == 2 {
            alice.set_state(&room, "m.room.topic", "", json!({"topic": "in the gap"})).await;
        }
    }
    let sync = bob.sync(Some(&since), 0).await;
    let den = joined(&sync, &room);
    assert_eq!(bodies(den), ["5", "6", "7", "8", "9", "10", "11", "12", "13", "14"]);
    assert_eq!(den["timeline"]["limited"], true);
    assert_eq!(kinds(&den["state"]["events"]), ["m.room.topic"]);
    assert_eq!(den["unread_notifications"]["notification_count"], 15);
    let from = encode(den["timeline"]["prev_batch"].as_str().expect("a token"));
    let path = in_room(&room, &format!("messages?dir=b&limit=50&from={from}&to={}", encode(&since)));
    let page = bob.get(&path).await.ok();
    let gap: Vec<_> = page["chunk"].as_array().expect("events").iter().map(|event| &event["content"]).collect();
    let texts: Vec<_> = gap.iter().filter_map(|content| content["body"].as_str()).collect();
    assert_eq!(texts, ["4", "3", "2", "1", "0"], "{page}");
}

/// A room that came whole has no `prev_batch`; Quaternion asks for what was before it from "".
#[tokio::test]
async fn history_from_nowhere_begins_with_the_newest() {
    let server = Server::start().await;
    let (alice, _, room) = pair(&server).await;
    alice.say(&room, "the newest").await;
    let page = alice.get(&in_room(&room, "messages?from=&dir=b&limit=500")).await.ok();
    assert_eq!(page["chunk"][0]["content"]["body"], "the newest");
    assert_eq!(page["end"], Value::Null, "that is all: {page}");
}

#[tokio::test]
async fn invites_leaves_and_ignored_people() {
    let server = Server::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let start = bob.now().await;
    let room = alice.create_room(json!({"preset": "private_chat", "name": "Secret"})).await;
    alice.invite(&room, &bob).await;
    let invited = bob.sync(Some(&start), 0).await;
    let stripped = &invited["rooms"]["invite"][&room]["invite_state"]["events"];
    assert!(kinds(stripped).contains(&"m.room.create") && kinds(stripped).contains(&"m.room.name"), "{invited}");
    let own = stripped.as_array().expect("events").iter().find(|event| event["state_key"] == *bob.id);
    assert_eq!(own.expect("the invite")["content"]["membership"], "invite");
    bob.leave(&room).await;
    let rejected = bob.sync(Some(token(&invited)), 0).await;
    assert_eq!(kinds(&rejected["rooms"]["leave"][&room]["timeline"]["events"]), ["m.room.member"], "{rejected}");
    assert_eq!(rejected["rooms"]["leave"][&room]["state"]["events"], json!([]));

    let path = format!("/_matrix/client/v3/user/{}/account_data/m.ignored_user_list", encode(&bob.id));
    bob.put(&path, json!({"ignored_users": {alice.id.clone(): {}}})).await.ok();
    let since = bob.now().await;
    alice.invite(&room, &bob).await;
    let ignoring = bob.sync(Some(&since), 0).await;
    assert!(ignoring["rooms"]["invite"].is_null(), "{ignoring}");
    bob.join(&room).await;
    let since = bob.now().await;
    alice.say(&room, "can you hear me").await;
    alice.set_state(&room, "m.room.topic", "", json!({"topic": "hm"})).await;
    let heard = bob.sync(Some(&since), 0).await;
    assert_eq!(kinds(&joined(&heard, &room)["timeline"]["events"]), ["m.room.topic"]);
    assert_eq!(joined(&heard, &room)["unread_notifications"]["notification_count"], 0);

    alice.post(&in_room(&room, "kick"), json!({"user_id": bob.id})).await.ok();
    alice.set_state(&room, "m.room.topic", "", json!({"topic": "gone"})).await;
    let kicked = bob.sync(Some(token(&heard)), 0).await;
    assert_eq!(kinds(&kicked["rooms"]["leave"][&room]["timeline"]["events"]), ["m.room.member"], "{kicked}");
    let filter = encode(r#"{"room":{"include_leave":true}}"#);
    let archive = bob.get(&format!("/_matrix/client/v3/sync?filter={filter}")).await.ok();
    let left = &archive["rooms"]["leave"][&room];
    assert!(!left["timeline"]["events"].to_string().contains("gone"), "{left}");
    assert!(left["timeline"]["events"].to_string().contains("hm"), "{left}");
    assert!(bob.sync(None, 0).await["rooms"]["leave"].is_null());
}

#[tokio::test]
async fn receipts_and_typing_reach_others_and_private_ones_do_not() {
    let server = Server::start().await;
    let (alice, bob, room) = pair(&server).await;
    let (first, second) = (alice.say(&room, "one").await, alice.say(&room, "two").await);
    let (a, b) = (alice.now().await, bob.now().await);
    let receipt = |kind: &str, event: &str| in_room(&room, &format!("receipt/{kind}/{}", encode(event)));
    bob.post(&receipt("m.read", &first), json!({})).await.ok();
    bob.post(&receipt("m.read.private", &second), json!({})).await.ok();
    let typing = in_room(&room, &format!("typing/{}", encode(&bob.id)));
    bob.put(&typing, json!({"typing": true, "timeout": 20000})).await.ok();
    alice.put(&typing, json!({"typing": true, "timeout": 20000})).await.fails(403, "M_FORBIDDEN");

    let seen = alice.sync(Some(&a), 1000).await;
    let ephemeral = joined(&seen, &room)["ephemeral"]["events"].to_string();
    assert!(ephemeral.contains(&first) && !ephemeral.contains("m.read.private"), "{ephemeral}");
    assert!(ephemeral.contains("m.typing") && ephemeral.contains(&bob.id), "{ephemeral}");
    let own = bob.sync(Some(&b), 1000).await;
    assert!(joined(&own, &room)["ephemeral"]["events"].to_string().contains("m.read.private"), "{own}");
    assert_eq!(joined(&own, &room)["unread_notifications"]["notification_count"], 0);

    bob.put(&typing, json!({"typing": false})).await.ok();
    let stopped = alice.sync(Some(token(&seen)), 1000).await;
    let events = &joined(&stopped, &room)["ephemeral"]["events"];
    assert_eq!(events[0]["content"]["user_ids"], json!([]), "{stopped}");
    // Going back changes nothing.
    bob.post(&receipt("m.read.private", &first), json!({})).await.ok();
    let quiet = bob.sync(Some(token(&own)), 0).await;
    assert!(!quiet.to_string().contains("m.read.private"), "{quiet}");

    bob.post(&receipt("m.read", "$unknown"), json!({})).await.fails(404, "M_NOT_FOUND");
    bob.post(&receipt("m.odd", &first), json!({})).await.fails(400, "M_INVALID_PARAM");
    for thread in [json!(""), json!("x"), json!(second)] {
        bob.post(&receipt("m.read", &first), json!({"thread_id": thread})).await.fails(400, "M_INVALID_PARAM");
    }
    bob.post(&receipt("m.fully_read", &first), json!({"thread_id": "main"})).await.fails(400, "M_INVALID_PARAM");
    bob.post(&in_room(&room, "read_markers"), json!({"m.fully_read": second, "m.read": second})).await.ok();
    let marked = bob.sync(Some(token(&quiet)), 0).await;
    assert_eq!(kinds(&joined(&marked, &room)["account_data"]["events"]), ["m.fully_read"], "{marked}");
}

#[tokio::test]
async fn threads_are_counted_by_themselves_if_asked() {
    let server = Server::start().await;
    let (alice, bob, room) = pair(&server).await;
    let root = alice.say(&room, "root").await;
    let content = json!({
        "msgtype": "m.text", "body": format!("hey {}", bob.id), "m.mentions": {"user_ids": [bob.id]},
        "m.relates_to": {"rel_type": "m.thread", "event_id": root}
    });
    let reply = alice.send(&room, "m.room.message", content).await;
    let filter = encode(r#"{"room":{"timeline":{"unread_thread_notifications":true}}}"#);
    let whole = bob.get("/_matrix/client/v3/sync").await.ok();
    let both = json!({"notification_count": 2, "highlight_count": 1});
    assert_eq!(joined(&whole, &room)["unread_notifications"], both);
    let divided = bob.get(&format!("/_matrix/client/v3/sync?filter={filter}")).await.ok();
    let room_part = joined(&divided, &room);
    assert_eq!(room_part["unread_notifications"], json!({"notification_count": 1, "highlight_count": 0}));
    let in_thread = json!({"notification_count": 1, "highlight_count": 1});
    assert_eq!(room_part["unread_thread_notifications"][&root], in_thread);
    let receipt = in_room(&room, &format!("receipt/m.read/{}", encode(&reply)));
    bob.post(&receipt, json!({"thread_id": "main"})).await.fails(400, "M_INVALID_PARAM");
    bob.post(&receipt, json!({"thread_id": root})).await.ok();
    let read = bob.get(&format!("/_matrix/client/v3/sync?filter={filter}")).await.ok();
    assert!(joined(&read, &room)["unread_thread_notifications"].is_null(), "{read}");
    assert_eq!(joined(&read, &room)["unread_notifications"]["notification_count"], 1);
}

#[tokio::test]
async fn members_come_as_they_are_needed() {
    let server = Server::start().await;
    let (alice, bob, room) = pair(&server).await;
    let carol = server.register("carol").await;
    carol.join(&room).await;
    for n in 0..12 {
        alice.say(&room, &n.to_string()).await;
    }
    let members = |sync: &Value, part: &str| -> Vec<String> {
        let events = joined(sync, &room)[part]["events"].as_array().cloned().unwrap_or_default();
        let keys = events.iter().filter(|event| event["type"] == "m.room.member");
        keys.filter_map(|event| event["state_key"].as_str().map(str::to_owned)).collect()
    };
    let filter = encode(r#"{"room":{"state":{"lazy_load_members":true}}}"#);
    let path = |since: &str| format!("/_matrix/client/v3/sync?filter={filter}&since={since}");
    let first = bob.get(&path("")).await.ok();
    assert_eq!(members(&first, "state"), [alice.id.clone(), bob.id.clone()]);
    alice.say(&room, "again").await;
    let second = bob.get(&path(token(&first))).await.ok();
    assert_eq!(members(&second, "state"), [] as [String; 0], "alice is known");
    carol.say(&room, "hi").await;
    let third = bob.get(&path(token(&second))).await.ok();
    assert_eq!(members(&third, "state"), std::slice::from_ref(&carol.id));
    let lost = bob.get(&path(token(&second))).await.ok();
    assert_eq!(members(&lost, "state"), std::slice::from_ref(&carol.id), "an answer that was lost is given again");
    let after = bob.get(&format!("{}&use_state_after=true", path(""))).await.ok();
    assert!(joined(&after, &room)["state"].is_null() && members(&after, "state_after").len() >= 2, "{after}");
    let unstable = bob.get(&format!("{}&org.matrix.msc4222.use_state_after=true", path(""))).await.ok();
    assert!(!joined(&unstable, &room)["org.matrix.msc4222.state_after"].is_null());
}

#[tokio::test]
async fn presence_reaches_those_who_share_a_room() {
    let server = Server::start().await;
    let (alice, bob, room) = pair(&server).await;
    let carol = server.register("carol").await;
    let (b, c) = (bob.now().await, carol.now().await);
    let path = format!("/_matrix/client/v3/presence/{}/status", encode(&alice.id));
    alice.put(&path, json!({"presence": "online", "status_msg": "baking"})).await.ok();
    let of_alice = |sync: &Value| -> Option<Value> {
        let events = sync["presence"]["events"].as_array().cloned().unwrap_or_default();
        events.into_iter().find(|event| event["sender"] == *alice.id).map(|event| event["content"].clone())
    };
    let mut since = b;
    let told = loop {
        let sync = bob.sync(Some(&since), 5000).await;
        since = token(&sync).to_owned();
        if let Some(content) = of_alice(&sync) {
            break content;
        }
    };
    assert_eq!((&told["presence"], &told["status_msg"]), (&json!("online"), &json!("baking")));
    let apart = carol.sync(Some(&c), 0).await;
    assert_eq!(of_alice(&apart), None, "{apart}");
    carol.join(&room).await;
    let together = carol.sync(Some(token(&apart)), 0).await;
    assert_eq!(of_alice(&together).expect("now they share a room")["status_msg"], "baking");
}

#[tokio::test]
async fn to_device_messages_come_until_they_are_acknowledged() {
    let server = Server::start().await;
    let (alice, bob, _) = pair(&server).await;
    let since = bob.now().await;
    let path = "/_matrix/client/v3/sendToDevice/m.test/t1";
    alice.put(path, json!({"messages": {bob.id.clone(): {bob.device.clone(): {"n": 1}}}})).await.ok();
    let count = |sync: &Value| sync["to_device"]["events"].as_array().map_or(0, Vec::len);
    let first = bob.sync(Some(&since), 1000).await;
    assert_eq!(count(&first), 1);
    assert_eq!(count(&bob.sync(Some(&since), 0).await), 1, "again, as it may have been lost");
    assert_eq!(count(&bob.sync(Some(token(&first)), 0).await), 0);
    // Forgotten a moment later, even for who comes without a token.
    let patience = Instant::now();
    while count(&bob.sync(None, 0).await) != 0 {
        assert!(patience.elapsed() < Duration::from_secs(30));
    }
}

#[tokio::test]
async fn who_typed_when_the_server_stopped_does_not_type_for_ever() {
    let mut server = Server::start().await;
    let (alice, bob, room) = pair(&server).await;
    alice.put(&in_room(&room, &format!("typing/{}", alice.id)), json!({"typing": true, "timeout": 60_000})).await.ok();
    let sync = bob.sync(None, 0).await;
    assert!(joined(&sync, &room)["ephemeral"].to_string().contains("m.typing"), "{sync}");
    server.restart().await;
    let sync = bob.sync(Some(token(&sync)), 5_000).await;
    let events = joined(&sync, &room)["ephemeral"]["events"].as_array().expect("events").clone();
    let typing = events.iter().find(|event| event["type"] == "m.typing").expect("told");
    assert_eq!(typing["content"]["user_ids"], json!([]));
}

#[tokio::test]
async fn signing_in_anew_on_a_device_ends_what_waits_with_its_old_token() {
    let server = Server::start().await;
    let (_alice, bob, _room) = pair(&server).await;
    let now = bob.now().await;
    let waiting = tokio::spawn({
        let (bob, now) = (bob.clone(), now.clone());
        async move { bob.get(&format!("/_matrix/client/v3/sync?timeout=30000&since={now}")).await }
    });
    let body = json!({"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "bob"},
        "password": Server::password("bob"), "device_id": bob.device});
    server.guest().post("/_matrix/client/v3/login", body).await.ok();
    let answer = tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("at once").expect("answered");
    if answer.status == 401 {
        return answer.fails(401, "M_UNKNOWN_TOKEN");
    }
    // Something had come before it waited.
    let next = answer.ok()["next_batch"].as_str().expect("a token").to_owned();
    bob.get(&format!("/_matrix/client/v3/sync?timeout=0&since={next}")).await.fails(401, "M_UNKNOWN_TOKEN");
}
