//! Events that the server sends later: what an app in a call leaves behind in case it is gone.

use serde_json::{Value, json};

use crate::common::{Server, User, encode, in_room, transaction, until};

/// Longer than any test takes.
const LONG: u64 = 3_600_000;
const PATH: &str = "/_matrix/client/v1/delayed_events";
const OLD: &str = "/_matrix/client/unstable/org.matrix.msc4140/delayed_events";

/// Has an event sent later, and answers its ID.
async fn later(user: &User, room: &str, body: Value) -> String {
    let path = in_room(room, &format!("delayed_event/x.later/{}", transaction()));
    let kept = user.put(&path, body).await.ok();
    kept["delay_id"].as_str().expect("an ID").to_owned()
}

async fn act(user: &User, id: &str, action: &str) -> crate::common::Answer {
    user.post(&format!("{PATH}/{id}/{action}"), json!({})).await
}

async fn one(user: &User, id: &str) -> Value {
    user.get(&format!("{PATH}/{id}")).await.ok()
}

async fn waiting(user: &User) -> Vec<Value> {
    user.get(&format!("{PATH}?status=scheduled")).await.ok()["delayed_events"].as_array().expect("a list").clone()
}

/// The event that something led to, once it was sent.
async fn sent(user: &User, room: &str, id: &str) -> Value {
    let found = until("the event", async || {
        let found = one(user, id).await;
        found["finalised"].is_object().then_some(found)
    })
    .await;
    let event = found["finalised"]["event_id"].as_str().unwrap_or_else(|| panic!("not sent: {found}"));
    user.get(&in_room(room, &format!("event/{}", encode(event)))).await.ok()
}

#[tokio::test]
async fn an_event_is_sent_when_it_is_due_and_not_before() {
    let server = Server::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = alice.create_room(json!({"preset": "public_chat"})).await;
    bob.join(&room).await;
    let path = in_room(&room, "delayed_event/x.later/t1");
    let body = json!({"delay_ms": 500, "content": {"a": 1}});
    let kept = alice.put(&path, body.clone()).await.ok();
    assert_eq!(alice.put(&path, body).await.ok(), kept, "one transaction ID, one event");
    let id = kept["delay_id"].as_str().expect("an ID");
    let event = sent(&alice, &room, id).await;
    let shown = one(&alice, id).await;
    assert_eq!((&event["content"], &event["sender"]), (&json!({"a": 1}), &json!(alice.id)));
    let due = shown["delayed_since_ts"].as_u64().expect("a time") + 500;
    assert!(
        event["origin_server_ts"].as_u64() >= Some(due) && shown["finalised"]["finalised_ts"].as_u64() >= Some(due)
    );
    // Only its sender sees as what it waited.
    assert_eq!(event["unsigned"]["org.matrix.msc4140.delay_id"], id);
    let path = in_room(&room, &format!("event/{}", encode(event["event_id"].as_str().expect("an ID"))));
    assert!(bob.get(&path).await.ok()["unsigned"]["org.matrix.msc4140.delay_id"].is_null());
    bob.get(&format!("{PATH}/{id}")).await.fails(404, "M_NOT_FOUND");
    bob.post(&format!("{PATH}/{id}/cancel"), json!({})).await.fails(404, "M_NOT_FOUND");

    // As older clients ask for it: messages with a transaction ID, and state.
    let delay = "org.matrix.msc4140.delay=200";
    let path = in_room(&room, &format!("send/x.later/t2?{delay}"));
    let kept = alice.put(&path, json!({"b": 1})).await.ok();
    assert_eq!(alice.put(&path, json!({"b": 1})).await.ok(), kept);
    let event = sent(&alice, &room, kept["delay_id"].as_str().expect("an ID")).await;
    assert_eq!(event["content"], json!({"b": 1}));
    let kept = alice.put(&in_room(&room, &format!("state/x.later/key?{delay}")), json!({"c": 1})).await.ok();
    let event = sent(&alice, &room, kept["delay_id"].as_str().expect("an ID")).await;
    assert_eq!((&event["state_key"], &event["content"]), (&json!("key"), &json!({"c": 1})));
}

#[tokio::test]
async fn what_waits_is_listed_sent_early_put_off_and_cancelled() {
    let server = Server::start().await;
    let alice = server.register("alice").await;
    let room = alice.create_room(json!({})).await;
    let late = later(&alice, &room, json!({"delay_ms": 2 * LONG, "content": {}})).await;
    let state = json!({"delay_ms": LONG, "content": {"x": 1}, "state_key": ""});
    let soon = later(&alice, &room, state).await;
    let list = waiting(&alice).await;
    let ids: Vec<&Value> = list.iter().map(|one| &one["delay_id"]).collect();
    assert_eq!(ids, [&json!(soon), &json!(late)], "the next comes first");
    assert_eq!(list[0]["state_key"], "");
    assert_eq!((&list[0]["type"], &list[0]["room_id"]), (&json!("x.later"), &json!(room)));
    assert_eq!((&list[0]["delay_ms"], &list[0]["content"]), (&json!(LONG), &json!({"x": 1})));
    assert!(list[0]["finalised"].is_null() && list[1]["state_key"].is_null());

    // Put off: it is due later than it was.
    act(&alice, &soon, "restart").await.ok();
    assert!(one(&alice, &soon).await["delayed_since_ts"].as_u64() >= list[0]["delayed_since_ts"].as_u64());
    act(&alice, &soon, "send").await.ok();
    act(&alice, &soon, "send").await.ok();
    assert_eq!(sent(&alice, &room, &soon).await["content"], json!({"x": 1}));
    act(&alice, &soon, "cancel").await.fails(409, "M_UNKNOWN");
    act(&alice, &soon, "restart").await.fails(404, "M_NOT_FOUND");

    act(&alice, &late, "cancel").await.ok();
    act(&alice, &late, "cancel").await.ok();
    act(&alice, &late, "send").await.fails(409, "M_UNKNOWN");
    act(&alice, &late, "restart").await.fails(409, "M_UNKNOWN");
    let shown = one(&alice, &late).await;
    let finalised = shown["finalised"].as_object().expect("an object");
    assert_eq!(finalised.keys().collect::<Vec<_>>(), ["finalised_ts"]);
    assert!(waiting(&alice).await.is_empty());
    act(&alice, &late, "other").await.fails(404, "M_UNRECOGNIZED");
    act(&alice, "unknown", "send").await.fails(404, "M_NOT_FOUND");

    // By its ID alone, as the service of a call does it; and with the action in the body.
    let id = later(&alice, &room, json!({"delay_ms": LONG, "content": {}})).await;
    let service = server.guest();
    service.post(&format!("{PATH}/{id}/restart"), json!({})).await.ok();
    service.post(&format!("{OLD}/{id}/restart"), json!({})).await.ok();
    service.post(&format!("{OLD}/{id}"), json!({"action": "send"})).await.ok();
    service.get(&format!("{OLD}/{id}")).await.fails(401, "M_MISSING_TOKEN");
    assert_eq!(sent(&alice, &room, &id).await["type"], "x.later");
}

#[tokio::test]
async fn what_waits_outlives_a_crash_and_is_sent_once() {
    let mut server = Server::start().await;
    let alice = server.register("alice").await;
    let room = alice.create_room(json!({})).await;
    let mut ids = Vec::new();
    for delay in [1500, 1000, 500] {
        ids.push(later(&alice, &room, json!({"delay_ms": delay, "content": {"delay": delay}})).await);
    }
    let long = later(&alice, &room, json!({"delay_ms": LONG, "content": {}})).await;
    server.kill9().await;
    tokio::time::sleep(std::time::Duration::from_millis(1600)).await;
    server.resume().await;
    // A slow machine may be long at asking for the three.
    let mut due = Vec::new();
    for (id, delay) in ids.iter().zip([1500, 1000, 500]) {
        sent(&alice, &room, id).await;
        let since = one(&alice, id).await["delayed_since_ts"].as_u64().expect("a time");
        due.push((since + delay, delay));
    }
    due.sort_unstable();
    server.kill9().await;
    server.resume().await;
    assert_eq!(waiting(&alice).await.len(), 1);
    act(&alice, &long, "cancel").await.ok();
    let history = alice.get(&in_room(&room, "messages?dir=f&limit=100")).await.ok();
    let delays: Vec<&Value> = history["chunk"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|event| event["type"] == "x.later")
        .map(|event| &event["content"]["delay"])
        .collect();
    let due: Vec<u64> = due.into_iter().map(|(_, delay)| delay).collect();
    assert_eq!(delays, due, "what fell due first is sent first, and each once");
}

#[tokio::test]
async fn what_can_not_be_sent_says_why() {
    let server = Server::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = alice.create_room(json!({"preset": "public_chat"})).await;
    let path = in_room(&room, "delayed_event/x.later/t");
    bob.put(&path, json!({"delay_ms": 1, "content": {}})).await.fails(403, "M_FORBIDDEN");
    bob.join(&room).await;
    // What may be sent is judged when it is sent.
    let id = later(&bob, &room, json!({"delay_ms": LONG, "content": {}, "state_key": "x"})).await;
    act(&bob, &id, "send").await.fails(403, "M_FORBIDDEN");
    assert!(one(&bob, &id).await["finalised"].is_null(), "it waits on");
    let powers = json!({"users": {alice.id.clone(): 100, bob.id.clone(): 50}});
    let powers = if room.contains(':') { powers } else { json!({"users": {bob.id.clone(): 50}}) };
    alice.set_state(&room, "m.room.power_levels", "", powers).await;
    act(&bob, &id, "send").await.ok();

    let id = later(&bob, &room, json!({"delay_ms": 300, "content": {}})).await;
    bob.leave(&room).await;
    let failed = until("the failure", async || {
        let found = one(&bob, &id).await;
        found["finalised"].is_object().then_some(found)
    })
    .await;
    assert_eq!(failed["finalised"]["error"]["errcode"], "M_FORBIDDEN");
    assert!(failed["finalised"]["event_id"].is_null());
    act(&bob, &id, "send").await.fails(409, "M_UNKNOWN");
    act(&bob, &id, "cancel").await.ok();
}

#[tokio::test]
async fn how_much_and_how_long_waits_is_bounded() {
    let limits = "[delayed_events]\nmax_delay = \"1 h\"\nmax_scheduled = 3\n";
    let server = Server::start_with(&format!("registration = \"open\"\nrate_limits = false\n{limits}")).await;
    let alice = server.register("alice").await;
    let room = alice.create_room(json!({})).await;
    let capabilities = alice.get("/_matrix/client/v3/capabilities").await.ok();
    let said = json!({"max_delay_ms": LONG, "max_scheduled": 3});
    assert_eq!(capabilities["capabilities"]["m.delayed_events"], said);
    let ask =
        async |body: Value| alice.put(&in_room(&room, &format!("delayed_event/x.later/{}", transaction())), body).await;
    ask(json!({"delay_ms": LONG + 1, "content": {}})).await.fails(403, "M_FORBIDDEN");
    ask(json!({"delay_ms": 0, "content": {}})).await.fails(400, "M_INVALID_PARAM");
    ask(json!({"delay_ms": -1, "content": {}})).await.fails(400, "M_BAD_JSON");
    ask(json!({"delay_ms": 5})).await.fails(400, "M_BAD_JSON");
    ask(json!({"delay_ms": 5, "content": []})).await.fails(400, "M_BAD_JSON");
    ask(json!({"delay_ms": 5, "content": {"a": "x".repeat(70_000)}})).await.fails(413, "M_TOO_LARGE");
    let old = in_room(&room, &format!("send/x.later/t?org.matrix.msc4140.delay={}", LONG + 1));
    let refused = alice.put(&old, json!({})).await;
    refused.fails(400, "M_UNKNOWN");
    assert_eq!(refused.body["org.matrix.msc4140.errcode"], "M_MAX_DELAY_EXCEEDED");
    assert_eq!(refused.body["org.matrix.msc4140.max_delay"], LONG);
    let elsewhere = json!({"delay_ms": LONG, "content": {"membership": "invite"}, "state_key": "@bob:elsewhere.org"});
    let path = in_room(&room, "delayed_event/m.room.member/t");
    alice.put(&path, elsewhere).await.fails(400, "M_UNKNOWN");

    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(later(&alice, &room, json!({"delay_ms": LONG, "content": {}})).await);
    }
    let refused = ask(json!({"delay_ms": LONG, "content": {}})).await;
    refused.fails(429, "M_LIMIT_EXCEEDED");
    assert!(refused.headers.contains_key("retry-after"));
    act(&alice, &ids[0], "cancel").await.ok();
    ask(json!({"delay_ms": LONG, "content": {}})).await.ok();
}

#[tokio::test]
async fn what_waits_and_has_waited_is_listed_by_what_is_sought_in_pages() {
    let server =
        Server::start_with("registration = \"open\"\nrate_limits = false\n[delayed_events]\nmax_scheduled = 200\n")
            .await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let rooms = [alice.create_room(json!({})).await, alice.create_room(json!({})).await];
    let mut ids = Vec::new();
    for number in 0..60 {
        let body = json!({"delay_ms": LONG + number * 1000, "content": {"n": number}});
        ids.push(later(&alice, &rooms[usize::from(number % 2 == 1)], body).await);
    }
    let list = async |query: &str| {
        let page = alice.get(&format!("{PATH}{query}")).await.ok();
        let of = |value: &Value| ids.iter().position(|id| value["delay_id"] == id.as_str()).expect("one of them");
        let found: Vec<usize> = page["delayed_events"].as_array().expect("a list").iter().map(of).collect();
        (found, page["next_batch"].as_str().map(str::to_owned))
    };
    for (dir, all) in [("f", (0..60).collect::<Vec<_>>()), ("b", (0..60).rev().collect())] {
        let (first, next) = list(&format!("?dir={dir}")).await;
        let (second, end) = list(&format!("?dir={dir}&from={}", encode(&next.expect("there is more")))).await;
        assert_eq!(([first, second].concat(), end), (all, None), "{dir}");
    }
    let (found, _) = list(&format!("?room_id={}", encode(&rooms[1]))).await;
    assert_eq!(found, (0..60).filter(|number| number % 2 == 1).collect::<Vec<_>>());
    assert!(list("?type=x.other").await.0.is_empty());
    act(&alice, &ids[3], "cancel").await.ok();
    act(&alice, &ids[4], "send").await.ok();
    assert_eq!(list("?status=cancelled").await.0, [3]);
    assert_eq!(list("?status=sent").await.0, [4]);
    assert!(list("?status=failed").await.0.is_empty());
    let third = one(&alice, &ids[2]).await;
    let due = third["delayed_since_ts"].as_u64().expect("a time") + third["delay_ms"].as_u64().expect("a delay");
    assert_eq!(list(&format!("?to_ts={due}")).await.0, [0, 1, 2]);
    assert_eq!(list(&format!("?from_ts={due}&to_ts={due}")).await.0, [2]);
    for query in ["dir=x", "status=none", "from=here", "to_ts=soon", "room_id=kitchen"] {
        alice.get(&format!("{PATH}?{query}")).await.fails(400, "M_INVALID_PARAM");
    }
    assert_eq!(bob.get(PATH).await.ok(), json!({"delayed_events": []}));

    // As clients know it from before: what waits, and what came of the rest.
    let old = alice.get(OLD).await.ok();
    assert_eq!(old["delayed_events"].as_array().map(Vec::len), Some(58));
    assert_eq!(old["scheduled"][0]["running_since"], old["scheduled"][0]["delayed_since_ts"]);
    let told: Vec<_> = old["finalised"].as_array().expect("a list").iter().collect();
    assert_eq!((&told[0]["outcome"], &told[0]["reason"]), (&json!("cancel"), &json!("action")));
    assert_eq!((&told[1]["outcome"], &told[1]["reason"]), (&json!("send"), &json!("action")));
    assert_eq!(told[1]["delayed_event"]["delay_id"], ids[4].as_str());
}
