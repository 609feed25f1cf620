//! History of rooms on many servers: what was fetched later is found by search, and who wanted to be forgotten
//! is forgotten by servers that came later too.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    common::{Says, Server, User, encode, federate, in_room, until},
    federation_hostile::{Guest, party},
};

async fn join_by(user: &User, room: &str, server: &Server) {
    let path = format!("/_matrix/client/v3/join/{}?via={}", encode(room), encode(&server.name));
    user.post(&path, json!({})).await.ok();
}

/// All texts of a room, from the newest back to its beginning.
async fn read_all(user: &User, room: &str) -> Vec<Value> {
    let (mut out, mut from) = (Vec::new(), String::new());
    for _ in 0..50 {
        let page = user.get(&in_room(room, &format!("messages?dir=b&limit=50{from}"))).await.ok();
        out.extend(page["chunk"].as_array().expect("events").iter().cloned());
        match page["end"].as_str() {
            Some(end) => from = format!("&from={}", encode(end)),
            None => break,
        }
    }
    out
}

async fn found(user: &User, term: &str) -> Vec<Value> {
    let body = json!({"search_categories": {"room_events": {"search_term": term, "order_by": "recent"}}});
    let answer = user.post("/_matrix/client/v3/search", body).await.ok();
    let results = answer["search_categories"]["room_events"]["results"].as_array().expect("results").clone();
    results.iter().map(|result| result["result"]["content"].clone()).collect()
}

#[tokio::test]
async fn history_that_was_fetched_later_is_found_by_its_words() {
    let [one, two] = federate().await;
    let (alice, bob) = (one.register("alice").await, two.register("bob").await);
    let room = alice.create_room(json!({"preset": "public_chat", "name": "Marmalade"})).await;
    for number in 0..30 {
        alice.say(&room, &format!("lemon number{number}")).await;
    }
    let old = alice.say(&room, "quince").await;
    let edit = json!({"msgtype": "m.text", "body": "* medlar", "m.new_content": {"msgtype": "m.text", "body": "medlar"},
        "m.relates_to": {"rel_type": "m.replace", "event_id": old}});
    alice.send(&room, "m.room.message", edit).await;
    let taken_back = alice.say(&room, "secret").await;
    alice.put(&in_room(&room, &format!("redact/{}/r1", encode(&taken_back))), json!({})).await.ok();
    join_by(&bob, &room, &one).await;
    assert!(found(&bob, "number7").await.is_empty(), "it is not here yet");
    read_all(&bob, &room).await;
    assert_eq!(found(&bob, "number7").await, [json!({"msgtype": "m.text", "body": "lemon number7"})]);
    assert_eq!(found(&bob, "lemon").await.len(), 10, "a page of them");
    assert_eq!(found(&bob, "marmalade").await, [json!({"name": "Marmalade"})], "what was known as state before");
    let medlar = found(&bob, "medlar").await;
    assert!(!medlar.is_empty(), "an edit that was here before what it edits");
    assert!(found(&bob, "secret").await.is_empty());
}

#[tokio::test]
async fn who_is_erased_is_forgotten_by_servers_that_come_later() {
    let (one, alice, guest) = party().await;
    let Guest { peer, room, .. } = &guest;
    let [two] = federate().await;
    let (carol, bob) = (one.register("carol").await, two.register("bob").await);
    carol.join(room).await;
    let said = alice.say(room, "about me").await;
    carol.say(room, "about carol").await;
    let auth = json!({"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "alice"},
        "password": Server::password("alice")});
    alice.post("/_matrix/client/v3/account/deactivate", json!({"auth": auth, "erase": true})).await.ok();
    // The server that was there knows it anyway.
    let path = format!("/_matrix/federation/v1/event/{}", encode(&said));
    let told = peer.ask(&one, Method::GET, &path, None).await.ok();
    assert_eq!(told["pdus"][0]["content"]["body"], "about me");
    join_by(&bob, room, &one).await;
    let all = until("the history", async || {
        let all = read_all(&bob, room).await;
        all.iter().any(|event| event["event_id"] == json!(said)).then_some(all)
    })
    .await;
    let texts: Vec<_> = all.iter().filter_map(|event| event["content"]["body"].as_str()).collect();
    assert_eq!(texts, ["about carol"]);
    assert!(!json!(all).to_string().contains("about me"));
    let members = bob.get(&in_room(room, "members")).await.ok();
    assert!(members["chunk"].as_array().is_some_and(|all| all.len() >= 3), "who was what to the room stays: {members}");
}

fn texts(events: &Value) -> Vec<String> {
    events
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|event| event["content"]["body"].as_str())
        .map(str::to_owned)
        .collect()
}

/// Pages one way until there are no more, as texts.
async fn pages(user: &User, room: &str, way: &str, from: &str) -> Vec<String> {
    let (mut out, mut from) = (Vec::new(), from.to_owned());
    loop {
        let page = user.get(&in_room(room, &format!("messages?dir={way}&limit=40&from={}", encode(&from)))).await.ok();
        out.extend(texts(&page["chunk"]));
        match page["end"].as_str() {
            Some(end) if end != from => end.clone_into(&mut from),
            _ => return out,
        }
    }
}

/// Who goes to a date long before their server came into the room is brought there by others that were in it: a
/// page from about then stands by itself, and from it it goes both ways without leaving anything out.
#[tokio::test]
async fn a_time_before_ours_is_found_by_asking_others() {
    let [one, two] = federate().await;
    let (alice, bob) = (one.register("alice").await, two.register("bob").await);
    let room = alice.create_room(json!({"preset": "public_chat"})).await;
    let (mut said, mut ids) = (Vec::new(), Vec::new());
    for number in 0..320 {
        said.push(format!("message {number}"));
        ids.push(alice.say(&room, &said[number]).await);
    }
    join_by(&bob, &room, &one).await;
    let sent = async |number: usize| -> u64 {
        let event = alice.get(&in_room(&room, &format!("event/{}", encode(&ids[number])))).await.ok();
        event["origin_server_ts"].as_u64().expect("a time")
    };
    let at = async |user: &User, ts: u64, way: &str| {
        let room = encode(&room);
        user.get(&format!("/_matrix/client/v1/rooms/{room}/timestamp_to_event?dir={way}&ts={ts}")).await.ok()
    };
    let ts = sent(60).await;
    let found = at(&bob, ts, "f").await;
    assert_eq!(found, at(&alice, ts, "f").await);
    let id = found["event_id"].as_str().expect("an ID");
    let number = ids.iter().position(|other| other == id).expect("one of the messages");
    // What stands around it is what was said around it, and after it nothing that was said long after.
    let around = bob.get(&in_room(&room, &format!("context/{}?limit=20", encode(id)))).await.ok();
    let mut before = texts(&around["events_before"]);
    before.reverse();
    assert_eq!(before, said[number - 10..number]);
    assert_eq!(texts(&around["events_after"]), Vec::<String>::new());
    let (start, end) = (around["start"].as_str().expect("a token"), around["end"].as_str().expect("a token"));
    let mut older = pages(&bob, &room, "b", start).await;
    older.reverse();
    assert_eq!(older, said[..number - 10]);
    assert_eq!(pages(&bob, &room, "f", end).await, said[number + 1..]);
    // All of it is there once, from the newest as well; and another time is found at home.
    let mut all = texts(&json!(read_all(&bob, &room).await));
    all.reverse();
    assert_eq!(all, said);
    let ts = sent(200).await;
    assert_eq!(at(&bob, ts, "b").await, at(&alice, ts, "b").await);
}

/// The same for a gap in the middle: what was said while a server was away.
#[tokio::test]
async fn a_time_in_a_gap_is_found_by_asking_others() {
    let [one, mut two] = federate().await;
    let (alice, bob) = (one.register("alice").await, two.register("bob").await);
    let room = alice.create_room(json!({"preset": "public_chat"})).await;
    join_by(&bob, &room, &one).await;
    let hears = async |text: &str| {
        let look = async || {
            let page = bob.get(&in_room(&room, "messages?dir=b&limit=1")).await.ok();
            (texts(&page["chunk"]) == [text]).then_some(())
        };
        until(text, look).await;
    };
    alice.say(&room, "before").await;
    hears("before").await;
    two.kill9().await;
    let (mut said, mut ids) = (Vec::new(), Vec::new());
    for number in 0..600 {
        said.push(format!("message {number}"));
        ids.push(alice.say(&room, &said[number]).await);
    }
    two.resume().await;
    alice.say(&room, "after").await;
    hears("after").await;
    let event = alice.get(&in_room(&room, &format!("event/{}", encode(&ids[90])))).await.ok();
    let path =
        format!("/_matrix/client/v1/rooms/{}/timestamp_to_event?dir=b&ts={}", encode(&room), event["origin_server_ts"]);
    assert_eq!(bob.get(&path).await.ok(), alice.get(&path).await.ok());
    let mut all = texts(&json!(read_all(&bob, &room).await));
    all.reverse();
    assert_eq!(all[0], "before");
    assert_eq!(all[1..601], said[..]);
    assert_eq!(all[601..], ["after"]);
}

/// Whom one asks for a time may lie: what is no event of the room, or was not sent then, is not taken.
#[tokio::test]
async fn lies_about_a_time_are_not_believed() {
    let (server, crowd) = tokio::join!(crate::common::federated("", ""), crate::common::Crowd::gather(3));
    let (bob, room) = (server.register("bob").await, &crowd.room);
    let path = format!("/_matrix/client/v3/join/{}?via={}", encode(room), encode(crowd.peer.name()));
    crowd.tells();
    bob.post(&path, json!({})).await.ok();
    let path = format!("/_matrix/client/v1/rooms/{}/timestamp_to_event?dir=f&ts=1000", encode(room));
    let asked = "/_matrix/federation/v1/timestamp_to_event/";
    let honest = bob.get(&path).await.ok();
    let stranger = crate::common::Crowd::gather(1).await;
    let (id, foreign) = stranger.message(0, "of another room", &stranger.end);
    let (own, later) = crowd.message(1, "far from then", &crowd.handed_in());
    let says = |path: &str, answer: Value| crowd.peer.says(path, Says::Json(200, answer));
    for (id, pdus) in [
        (json!("$nowhere"), json!([])),
        (json!(id), json!([foreign])),
        (json!(7), json!([])),
        (json!(own), json!([later])),
        (json!("x".repeat(300_000)), json!([])),
    ] {
        let before = crowd.peer.asked(asked).len();
        says(asked, json!({"event_id": id, "origin_server_ts": 1000}));
        let page = json!({"origin": crowd.peer.name(), "origin_server_ts": 1, "pdus": pdus});
        says("/_matrix/federation/v1/backfill/", page);
        assert_eq!(bob.get(&path).await.ok(), honest);
        assert!(crowd.peer.asked(asked).len() > before, "it was asked");
    }
}
