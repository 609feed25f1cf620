//! Rooms whose history forks between servers: each goes on by itself, then they meet, and agree. And what
//! somebody finds who was away for long, or came late.

use serde_json::{Value, json};

use crate::common::{Server, User, encode, federate, in_room, until};

/// Somebody of each server, in a room of alice's.
async fn together(one: &Server, two: &Server, settings: Value) -> (User, User, String) {
    let (alice, bob) = (one.register("alice").await, two.register("bob").await);
    let mut wanted = json!({"preset": "public_chat"});
    for (name, value) in settings.as_object().expect("an object") {
        wanted[name] = value.clone();
    }
    let room = alice.create_room(wanted).await;
    enter(&bob, &room, one).await;
    sees_member(&alice, &room, &bob.id, "join").await;
    (alice, bob, room)
}

async fn enter(user: &User, room: &str, by: &Server) {
    let via = encode(&by.name);
    let path = format!("/_matrix/client/v3/join/{}?via={via}&server_name={via}", encode(room));
    user.post(&path, json!({})).await.ok();
}

async fn state(user: &User, room: &str, kind: &str, key: &str) -> Option<Value> {
    let answer = user.get(&in_room(room, &format!("state/{kind}/{}", encode(key)))).await;
    (answer.status == 200).then_some(answer.body)
}

async fn sees_member(user: &User, room: &str, whom: &str, membership: &str) {
    let look = async || {
        let found = state(user, room, "m.room.member", whom).await?;
        (found["membership"] == membership).then_some(())
    };
    until(&format!("{} sees {whom} {membership}", user.id), look).await;
}

/// The bodies of messages that somebody can go back to, the newest first.
async fn history(user: &User, room: &str) -> Vec<String> {
    let (mut out, mut from) = (Vec::new(), String::new());
    for _ in 0..50 {
        let page = user.get(&in_room(room, &format!("messages?dir=b&limit=20{from}"))).await.ok();
        let chunk = page["chunk"].as_array().cloned().unwrap_or_default();
        out.extend(chunk.iter().filter_map(|event| event["content"]["body"].as_str()).map(str::to_owned));
        match page["end"].as_str() {
            Some(end) => from = format!("&from={end}"),
            None => return out,
        }
    }
    panic!("it never ends")
}

async fn hears(user: &User, room: &str, text: &str) {
    let look = async || {
        let page = user.get(&in_room(room, "messages?dir=b&limit=20")).await.ok();
        let chunk = page["chunk"].as_array()?;
        chunk.iter().any(|event| event["content"]["body"] == text).then_some(())
    };
    until(&format!("{} hears {text}", user.id), look).await;
}

/// All state of a room, by type and key, as event IDs.
async fn whole_state(user: &User, room: &str) -> Vec<(String, String, String)> {
    let all = user.get(&in_room(room, "state")).await.ok();
    let text = |event: &Value, name: &str| event[name].as_str().unwrap_or_default().to_owned();
    let mut out: Vec<_> = all
        .as_array()
        .expect("an array")
        .iter()
        .map(|event| (text(event, "type"), text(event, "state_key"), text(event, "event_id")))
        .collect();
    out.sort();
    out
}

async fn agree(one: &User, two: &User, room: &str) {
    let look = async || (whole_state(one, room).await == whole_state(two, room).await).then_some(());
    until("both have the same state", look).await;
}

/// A network cut in two: each server changes the same things while the other can't be reached. Who has the
/// greater power wins, and both see it so, in rooms of every way to resolve.
#[tokio::test]
async fn two_halves_of_a_network_agree_when_they_meet() {
    for version in ["6", "11", "12"] {
        let [mut one, mut two] = federate().await;
        let (alice, bob, room) = together(&one, &two, json!({"room_version": version})).await;
        let mut levels = state(&alice, &room, "m.room.power_levels", "").await.expect("levels");
        levels["users"][&bob.id] = json!(90);
        alice.set_state(&room, "m.room.power_levels", "", levels.clone()).await;
        let has = async || (state(&bob, &room, "m.room.power_levels", "").await? == levels).then_some(());
        until("bob has power", has).await;
        // Alice's half: she takes bob's power away, and says so.
        two.kill9().await;
        levels["users"][&bob.id] = json!(0);
        alice.set_state(&room, "m.room.power_levels", "", levels.clone()).await;
        alice.set_state(&room, "m.room.topic", "", json!({"topic": "alice's"})).await;
        alice.say(&room, "from alice").await;
        // Bob's half, where nobody knows.
        one.kill9().await;
        two.resume().await;
        bob.set_state(&room, "m.room.topic", "", json!({"topic": "bob's"})).await;
        bob.set_state(&room, "m.room.name", "", json!({"name": "bob's"})).await;
        bob.say(&room, "from bob").await;
        one.resume().await;
        hears(&bob, &room, "from alice").await;
        agree(&alice, &bob, &room).await;
        assert_eq!(state(&bob, &room, "m.room.topic", "").await.expect("a topic")["topic"], "alice's", "{version}");
        alice.say(&room, "together again").await;
        hears(&bob, &room, "together again").await;
        bob.say(&room, "indeed").await;
        hears(&alice, &room, "indeed").await;
        agree(&alice, &bob, &room).await;
    }
}

/// Whoever comes late goes back to what was said before, page by page, and sees it once and in order.
#[tokio::test]
async fn who_comes_late_reads_what_was_said_before() {
    let [one, two] = federate().await;
    let alice = one.register("alice").await;
    let room = alice.create_room(json!({"preset": "public_chat"})).await;
    let mut said = Vec::new();
    for n in 0..130 {
        said.push(format!("message {n}"));
        alice.say(&room, &said[n]).await;
    }
    let bob = two.register("bob").await;
    enter(&bob, &room, &one).await;
    said.reverse();
    assert_eq!(history(&bob, &room).await, said);
    assert_eq!(history(&bob, &room).await, said, "the same again, from what is here now");
    // The first time that somebody syncs, the timeline says that there is more.
    let sync = bob.sync(None, 0).await;
    assert_eq!(sync["rooms"]["join"][&room]["timeline"]["limited"], true, "{sync}");
    // And by time.
    let first = alice.get(&in_room(&room, "messages?dir=f&limit=20")).await.ok();
    let event = first["chunk"].as_array().expect("a page").iter().find(|event| event["content"]["body"] == "message 3");
    let event = event.expect("the message").clone();
    let path =
        format!("/_matrix/client/v1/rooms/{}/timestamp_to_event?dir=f&ts={}", encode(&room), event["origin_server_ts"]);
    let found = bob.get(&path).await.ok();
    assert!(found["origin_server_ts"].as_u64() >= event["origin_server_ts"].as_u64(), "{found}");
}

/// History that a room keeps from those who were not there stays so, also for those who fetch it.
#[tokio::test]
async fn who_comes_late_does_not_read_what_is_not_theirs() {
    let [one, two] = federate().await;
    let alice = one.register("alice").await;
    let hidden =
        json!({"type": "m.room.history_visibility", "state_key": "", "content": {"history_visibility": "joined"}});
    let room = alice.create_room(json!({"preset": "public_chat", "initial_state": [hidden]})).await;
    alice.say(&room, "secret").await;
    let bob = two.register("bob").await;
    enter(&bob, &room, &one).await;
    alice.say(&room, "open").await;
    hears(&bob, &room, "open").await;
    assert!(!history(&bob, &room).await.contains(&"secret".to_owned()));
}

/// After a long absence a server has the newest at once, and the rest when somebody goes back to it.
#[tokio::test]
async fn a_server_that_was_away_for_long_catches_up() {
    let [one, mut two] = federate().await;
    let (alice, bob, room) = together(&one, &two, json!({})).await;
    let since = bob.now().await;
    assert!(two.stop().await.success());
    let mut said = Vec::new();
    for n in 0..600 {
        said.push(format!("message {n}"));
        alice.say(&room, &said[n]).await;
    }
    alice.set_state(&room, "m.room.topic", "", json!({"topic": "later"})).await;
    two.resume().await;
    alice.say(&room, "are you there?").await;
    hears(&bob, &room, "are you there?").await;
    agree(&alice, &bob, &room).await;
    let sync = bob.sync(Some(&since), 0).await;
    assert_eq!(sync["rooms"]["join"][&room]["timeline"]["limited"], true);
    said.reverse();
    let read: Vec<String> = history(&bob, &room).await.into_iter().filter(|text| text.starts_with("message")).collect();
    assert_eq!(read.len(), said.len(), "each once");
    assert_eq!(read, said);
}
