//! What came into a room before all of its members were known is judged once more when they are: however much it is,
//! whatever stands on it, and whatever happens meanwhile.

use serde_json::{Value, json};

use crate::common::{Crowd, Server, User, encode, federated, in_room, until};

/// What a server says that has done so and found something.
const LOOKED: &str = "were not what they were taken for";

/// Somebody of ours in a room of twenty, out of which the seventh was put before, who may moderate otherwise.
async fn haunted() -> (Server, User, Crowd) {
    let (server, mut crowd) = tokio::join!(federated("", ""), Crowd::gather_with(20, &[7]));
    crowd.bans(7);
    let bob = server.register("bob").await;
    let path = format!("/_matrix/client/v3/join/{}?via={}", encode(&crowd.room), encode(crowd.peer.name()));
    bob.post(&path, json!({})).await.ok();
    (server, bob, crowd)
}

/// What was said in a room, the oldest first.
async fn said(user: &User, room: &str) -> Vec<String> {
    let (mut out, mut from) = (Vec::new(), String::new());
    loop {
        let page = user.get(&in_room(room, &format!("messages?dir=b&limit=100{from}"))).await.ok();
        let chunk = page["chunk"].as_array().expect("a page");
        out.extend(chunk.iter().filter_map(|event| event["content"]["body"].as_str()).map(str::to_owned));
        match page["end"].as_str() {
            Some(end) if !chunk.is_empty() => from = format!("&from={}", encode(end)),
            _ => break,
        }
    }
    out.reverse();
    out
}

async fn is_over(server: &Server, bob: &User, room: &str) {
    until("all has been looked at again", async || server.log().contains(LOOKED).then_some(())).await;
    let members = bob.get(&in_room(room, "joined_members")).await.ok();
    assert_eq!(members["joined"].as_object().expect("an object").len(), 20);
}

#[tokio::test]
async fn thousands_of_events_are_judged_again_also_over_crashes() {
    let (mut server, bob, crowd) = haunted().await;
    let (room, banned) = (&crowd.room, crowd.person(7));
    // What allows the first of each is told; the rest cites the same.
    let (mut end, first) = crowd.message(7, "haunting", &crowd.handed_in());
    let (mut good, mut batch) = (Vec::new(), vec![first]);
    for number in 0..2_500 {
        let is_good = number % 10 == 0;
        let who = if is_good { 3 } else { 7 };
        let content = json!({"msgtype": "m.text", "body": format!("{who} says {number}")});
        let more = match number % 100 {
            55 => json!({"type": "m.room.member", "state_key": banned, "content": {"membership": "join", "n": number},
                         "auth_events": crowd.cites_to_change(crowd.membership(7))}),
            _ => json!({"type": "m.room.message", "content": content}),
        };
        let (id, event) = if number == 0 { crowd.event(who, more, &end) } else { crowd.made(who, more, &end) };
        end = id;
        batch.push(event);
        if is_good {
            good.push(format!("{who} says {number}"));
        }
        if batch.len() == 50 || number == 2_499 {
            let answer = crowd.send(&server, &std::mem::take(&mut batch)).await.ok();
            let pdus = answer["pdus"].as_object().expect("an object");
            assert!(pdus.values().all(|pdu| pdu["error"].is_null()), "{answer}");
        }
    }
    assert!(said(&bob, room).await.len() > 2_000, "they are shown, as nobody knows better");
    crowd.tells();
    until("the room is whole", async || server.log().contains(" is whole: ").then_some(())).await;
    // In the middle, again and again; people go on meanwhile.
    for turn in 0..3 {
        server.kill9().await;
        server.resume().await;
        bob.say(room, &format!("alive {turn}")).await;
        good.push(format!("alive {turn}"));
    }
    // To read all of it over and over would take longer than to judge it.
    until("all has been looked at again", async || server.log().contains(LOOKED).then_some(())).await;
    until("what the banned one said is gone", async || (said(&bob, room).await == good).then_some(())).await;
    let path = in_room(room, &format!("state/m.room.member/{}", encode(&banned)));
    until("they are out", async || (bob.get(&path).await.body["membership"] == "ban").then_some(())).await;
    // Nothing of it comes back, and the room goes on.
    let (_, event) = crowd.message(4, "good", &end);
    crowd.send(&server, &[event]).await.ok();
    good.push("good".to_owned());
    until("it goes on", async || (said(&bob, room).await == good).then_some(())).await;
}

#[tokio::test]
async fn forks_are_resolved_anew_and_what_should_not_have_been_redacted_is_there_again() {
    let (server, bob, crowd) = haunted().await;
    let room = &crowd.room;
    let (kept, message) = crowd.message(3, "kept", &crowd.handed_in());
    crowd.send(&server, &[message]).await.ok();
    // On one side the maker says what it is about, on the other, later, who was put out; and then both sides meet.
    let topic = |text: &str, later: u64| {
        let ts = hearth::base::clock::now_ms() + later;
        json!({"type": "m.room.topic", "state_key": "", "content": {"topic": text}, "origin_server_ts": ts})
    };
    let (one, right) = crowd.event(0, topic("right", 0), &kept);
    let (other, wrong) = crowd.event(7, topic("wrong", 5_000), &kept);
    let both = json!({"type": "m.room.message", "content": {"msgtype": "m.text", "body": "together"},
                      "prev_events": [one, other]});
    let (end, together) = crowd.event(4, both, &one);
    let redaction = json!({"type": "m.room.redaction", "content": {"redacts": kept}});
    let (end, redaction) = crowd.event(7, redaction, &end);
    let (_, after) = crowd.message(5, "after", &end);
    crowd.send(&server, &[right, wrong, together, redaction, after]).await.ok();
    until("it has come", async || said(&bob, room).await.contains(&"after".to_owned()).then_some(())).await;
    let about = async || bob.get(&in_room(room, "state/m.room.topic/")).await.ok()["topic"].clone();
    assert_eq!(about().await, "wrong", "nobody knows better");
    assert_eq!(said(&bob, room).await, ["together", "after"]);
    crowd.tells();
    is_over(&server, &bob, room).await;
    assert_eq!(about().await, "right");
    assert_eq!(said(&bob, room).await, ["kept", "together", "after"]);
    let shown: Value = bob.get(&in_room(room, &format!("event/{}", encode(&kept)))).await.ok();
    assert!(shown["unsigned"]["redacted_because"].is_null(), "{shown}");
    bob.get(&in_room(room, &format!("event/{}", encode(&other)))).await.fails(404, "M_NOT_FOUND");
}
