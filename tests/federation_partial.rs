//! Rooms of very many people are entered at once, and what is lacking of them comes afterwards: whatever
//! happens meanwhile.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::{Answer, Crowd, Server, User, encode, federated, in_room, until};

async fn join(who: &User, crowd: &Crowd) -> Answer {
    let path = format!("/_matrix/client/v3/join/{}?via={}", encode(&crowd.room), encode(crowd.peer.name()));
    who.post(&path, json!({})).await
}

/// A crowd, and somebody of a server who has come in while nobody tells of its members.
async fn party(count: usize) -> (Server, User, Crowd) {
    let (server, crowd) = tokio::join!(federated("", ""), Crowd::gather(count));
    let bob = server.register("bob").await;
    join(&bob, &crowd).await.ok();
    (server, bob, crowd)
}

async fn bodies(user: &User, room: &str) -> Vec<String> {
    let page = user.get(&in_room(room, "messages?dir=b&limit=100")).await.ok();
    let chunk = page["chunk"].as_array().expect("a page");
    chunk.iter().filter_map(|event| event["content"]["body"].as_str()).map(str::to_owned).collect()
}

async fn hears(user: &User, room: &str, text: &str) {
    until(text, async || bodies(user, room).await.contains(&text.to_owned()).then_some(())).await;
}

/// How many people are in the room, once that can be said.
async fn joined(user: &User, room: &str) -> usize {
    until("all members are known", async || {
        let answer = user.get(&in_room(room, "joined_members")).await;
        (answer.status == 200).then(|| answer.body["joined"].as_object().map_or(0, serde_json::Map::len))
    })
    .await
}

fn state<'a>(sync: &'a Value, room: &str) -> &'a Vec<Value> {
    sync["rooms"]["join"][room]["state"]["events"].as_array().unwrap_or_else(|| panic!("no state: {sync}"))
}

fn members(events: &[Value]) -> usize {
    events.iter().filter(|event| event["type"] == "m.room.member").count()
}

#[tokio::test]
async fn a_room_is_used_while_its_members_are_still_to_come() {
    let (server, bob, crowd) = party(300).await;
    let room = &crowd.room;
    // What there is of it is seen at once.
    let sync = bob.sync(None, 0).await;
    let seen = state(&sync, room);
    let has = |kind: &str| seen.iter().any(|event| event["type"] == kind);
    assert!(has("m.room.create") && has("m.room.power_levels") && has("m.room.join_rules") && has("m.room.name"));
    // Bob speaks, and the room's server hears it with what allows it.
    let said = bob.say(room, "here I am").await;
    let heard = until("the crowd hears bob", async || {
        let asked = crowd.peer.asked("/_matrix/federation/v1/send/");
        let pdus = asked.iter().filter_map(|asked| asked.body["pdus"].as_array()).flatten().cloned();
        pdus.into_iter().find(|pdu| pdu["content"]["body"] == "here I am")
    })
    .await;
    let join = crowd.handed_in();
    assert!(heard["auth_events"].as_array().expect("a list").contains(&json!(join)), "{heard}");
    // People speak whom nobody has told of yet, and their names come with it.
    let (id, message) = crowd.message(7, "welcome", &join);
    crowd.send(&server, &[message]).await.ok();
    hears(&bob, room, "welcome").await;
    let since = sync["next_batch"].as_str().expect("a token");
    let news = bob.sync(Some(since), 0).await;
    let told = state(&news, room).iter().any(|event| event["state_key"] == crowd.person(7));
    assert!(told, "who speaks is known: {news}");
    // State changes too.
    let topic = json!({"type": "m.room.topic", "state_key": "", "content": {"topic": "news"}});
    let (_, topic) = crowd.event(0, topic, &id);
    crowd.send(&server, &[topic]).await.ok();
    let path = in_room(room, "state/m.room.topic/");
    until("the topic is set", async || (bob.get(&path).await.status == 200).then_some(())).await;
    // Who wants all members waits for them.
    let (waiting, of) = (bob.clone(), room.clone());
    let waiting = tokio::spawn(async move { waiting.get(&in_room(&of, "members")).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waiting.is_finished());
    let since = bob.now().await;
    crowd.tells();
    let all = waiting.await.expect("ends").ok();
    assert_eq!(all["chunk"].as_array().expect("a list").len(), 301);
    assert_eq!(joined(&bob, room).await, 301);
    // They come to clients that want them, once.
    let news = bob.sync(Some(&since), 0).await;
    assert_eq!(members(state(&news, room)), 298, "all but bob and who was heard of already");
    assert_eq!(news["rooms"]["join"][room]["summary"]["m.joined_member_count"], 301);
    let since = news["next_batch"].as_str().expect("a token");
    let nothing = bob.sync(Some(since), 0).await;
    assert!(nothing["rooms"]["join"][room].is_null(), "{nothing}");
    assert_eq!(members(state(&bob.sync(None, 0).await, room)), 300, "bob's own is in the timeline");
    // And it goes on.
    let (_, message) = crowd.message(9, "still here", &said);
    crowd.send(&server, &[message]).await.ok();
    hears(&bob, room, "still here").await;
    assert_eq!(bodies(&bob, room).await, ["still here", "welcome", "here I am"]);
}

/// Not for every run: `HEARTH_CROWD=10000` says how many.
#[tokio::test]
async fn how_long_a_large_room_takes() {
    let Some(count) = std::env::var("HEARTH_CROWD").ok().and_then(|count| count.parse().ok()) else { return };
    let (server, crowd) = tokio::join!(federated("", ""), Crowd::gather(count));
    let bob = server.register("bob").await;
    crowd.tells();
    let began = Instant::now();
    join(&bob, &crowd).await.ok();
    bob.say(&crowd.room, "here I am").await;
    let usable = began.elapsed();
    assert_eq!(joined(&bob, &crowd.room).await, count + 1);
    println!("{count} members: usable in {usable:?}, complete in {:?}", began.elapsed());
    println!("memory {}\n{}", server.memory(), server.log());
}
