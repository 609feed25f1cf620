//! History of rooms on many servers: what was fetched later is found by search, and who wanted to be forgotten
//! is forgotten by servers that came later too.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    common::{Server, User, encode, federate, in_room, until},
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
