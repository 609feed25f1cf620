//! Simplified sliding sync, as a client's room list and its open room use it.

use serde_json::{Value, json};

use crate::common::{Server, User, encode, in_room, transaction};

const SYNC: &str = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync";

/// One connection of a client.
struct Connection<'a> {
    user: &'a User,
    pos: Option<String>,
}

impl<'a> Connection<'a> {
    fn new(user: &'a User) -> Self {
        Self { user, pos: None }
    }

    async fn ask(&self, wish: Value, wait_ms: u64) -> crate::common::Answer {
        let pos = self.pos.as_ref().map(|pos| format!("&pos={}", encode(pos))).unwrap_or_default();
        self.user.post(&format!("{SYNC}?timeout={wait_ms}{pos}"), wish).await
    }

    /// One turn, after which the client has the answer.
    async fn turn(&mut self, wish: Value, wait_ms: u64) -> Value {
        let answer = self.ask(wish, wait_ms).await.ok();
        self.pos = Some(answer["pos"].as_str().expect("a position").to_owned());
        answer
    }
}

fn list(to: u64, limit: u64) -> Value {
    json!({"lists": {"all": {"ranges": [[0, to]], "timeline_limit": limit,
        "required_state": [["m.room.create", ""], ["m.room.member", "$ME"], ["m.room.member", "$LAZY"]]}}})
}

fn rooms(answer: &Value) -> Vec<String> {
    let mut rooms: Vec<_> = answer["rooms"].as_object().expect("rooms").keys().cloned().collect();
    rooms.sort();
    rooms
}

fn bodies(room: &Value) -> Vec<&str> {
    let events = room["timeline"].as_array().map(Vec::as_slice).unwrap_or_default();
    events.iter().filter_map(|event| event["content"]["body"].as_str()).collect()
}

/// (type, state key) of required state.
fn states(room: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let events = room["required_state"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut out: Vec<_> = events.iter().map(|event| (text(&event["type"]), text(&event["state_key"]))).collect();
    out.sort();
    out
}

fn pair(kind: &str, key: &str) -> (String, String) {
    (kind.to_owned(), key.to_owned())
}

#[tokio::test]
async fn a_list_shows_the_rooms_with_the_newest_activity_and_grows() {
    let server = Server::start().await;
    server.register("founder").await;
    let alice = server.register("alice").await;
    let mut made = Vec::new();
    for n in 0..5 {
        made.push(alice.create_room(json!({"name": format!("Room {n}")})).await);
    }
    alice.say(&made[1], "up it goes").await;
    let mut sync = Connection::new(&alice);
    let first = sync.turn(list(1, 1), 0).await;
    assert_eq!(first["lists"]["all"]["count"], 5);
    let mut newest = vec![made[1].clone(), made[4].clone()];
    newest.sort();
    assert_eq!(rooms(&first), newest);
    let room = &first["rooms"][&made[1]];
    assert_eq!((bodies(room), &room["initial"], &room["name"]), (vec!["up it goes"], &json!(true), &json!("Room 1")));
    assert_eq!(
        (&room["joined_count"], &room["limited"], &room["membership"]),
        (&json!(1), &json!(true), &json!("join"))
    );
    assert_eq!(states(room), [pair("m.room.create", ""), pair("m.room.member", &alice.id)]);
    assert!(room["bump_stamp"].as_u64() > first["rooms"][&made[4]]["bump_stamp"].as_u64());

    let grown = sync.turn(list(99, 1), 0).await;
    assert_eq!(rooms(&grown).len(), 3, "only those that are new to the client");
    assert_eq!(rooms(&sync.turn(list(99, 1), 0).await), [""; 0]);
    let pages = format!("{}?dir=b&from={}", in_room(&made[0], "messages"), encode(sync.pos.as_ref().expect("one")));
    assert!(!alice.get(&pages).await.ok()["chunk"].as_array().expect("a page").is_empty());

    alice.say(&made[0], "one").await;
    alice.say(&made[0], "two").await;
    alice.set_state(&made[0], "m.room.name", "", json!({"name": "Other"})).await;
    let next = sync.turn(list(99, 5), 0).await;
    assert!(rooms(&next).contains(&made[0]), "{next}");
    let room = &next["rooms"][&made[0]];
    assert_eq!(room["name"], "Other");
    assert_eq!(room["num_live"], 3);
    alice.say(&made[0], "three").await;
    let last = sync.turn(list(99, 5), 0).await;
    assert_eq!(rooms(&last), [made[0].clone()]);
    let room = &last["rooms"][&made[0]];
    assert_eq!((bodies(room), &room["num_live"], &room["limited"]), (vec!["three"], &json!(1), &Value::Null));
    assert!(room["name"].is_null() && room["initial"].is_null() && states(room).is_empty(), "{room}");
}

#[tokio::test]
async fn an_answer_that_was_missed_is_given_again_and_a_lost_connection_begins_anew() {
    let mut server = Server::start().await;
    server.register("founder").await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = alice.create_room(json!({})).await;
    let mut sync = Connection::new(&alice);
    sync.turn(list(9, 1), 0).await;
    let before = sync.pos.clone();
    alice.say(&room, "hello").await;
    let missed = sync.turn(list(9, 1), 0).await;
    sync.pos = before.clone();
    let again = sync.turn(list(9, 1), 0).await;
    assert_eq!(bodies(&missed["rooms"][&room]), bodies(&again["rooms"][&room]));
    sync.turn(list(9, 1), 0).await;
    let stale = Connection { user: &alice, pos: before };
    stale.ask(list(9, 1), 0).await.fails(400, "M_UNKNOWN_POS");
    let stolen = Connection { user: &bob, pos: sync.pos.clone() };
    stolen.ask(list(9, 1), 0).await.fails(400, "M_UNKNOWN_POS");
    let mut other = list(9, 1);
    other["conn_id"] = json!("encryption");
    sync.ask(other.clone(), 0).await.fails(400, "M_UNKNOWN_POS");
    let mut second = Connection::new(&alice);
    assert_eq!(rooms(&second.turn(other.clone(), 0).await), std::slice::from_ref(&room), "a connection of its own");
    sync.turn(list(9, 1), 0).await;
    second.turn(other, 0).await;
    server.restart().await;
    sync.ask(list(9, 1), 0).await.fails(400, "M_UNKNOWN_POS");
    sync.pos = None;
    assert_eq!(rooms(&sync.turn(list(9, 1), 0).await), [room]);
}

#[tokio::test]
async fn who_asks_again_before_the_answer_is_there_goes_on_with_either() {
    let server = Server::start().await;
    let alice = server.register("alice").await;
    let room = alice.create_room(json!({})).await;
    for takes_first in [true, false] {
        let mut sync = Connection::new(&alice);
        sync.turn(list(9, 1), 0).await;
        alice.say(&room, "hello").await;
        // As when a request is given up for another one, and the server answers both.
        let first = sync.ask(list(9, 1), 0).await.ok();
        let second = sync.ask(list(9, 5), 0).await.ok();
        let taken = if takes_first { first } else { second };
        assert_eq!(bodies(&taken["rooms"][&room]).last(), Some(&"hello"));
        sync.pos = taken["pos"].as_str().map(str::to_owned);
        alice.say(&room, "still there?").await;
        assert_eq!(bodies(&sync.turn(list(9, 1), 5000).await["rooms"][&room]), ["still there?"]);
    }
}

#[tokio::test]
async fn an_open_room_gets_more_events_and_state_at_once() {
    let server = Server::start().await;
    server.register("founder").await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = alice.create_room(json!({"topic": "tea", "preset": "public_chat"})).await;
    bob.join(&room).await;
    for n in 0..6 {
        let who = if n % 2 == 0 { &alice } else { &bob };
        who.say(&room, &format!("line {n}")).await;
    }
    let mut sync = Connection::new(&alice);
    let first = sync.turn(list(9, 1), 0).await;
    assert_eq!(bodies(&first["rooms"][&room]), ["line 5"]);
    assert!(states(&first["rooms"][&room]).contains(&pair("m.room.member", &bob.id)), "who speaks is told");
    let mut open = list(9, 1);
    open["room_subscriptions"] = json!({&room: {"timeline_limit": 4, "required_state": [["m.room.topic", ""]]}});
    let opened = sync.turn(open.clone(), 10_000).await;
    let shown = &opened["rooms"][&room];
    assert_eq!(bodies(shown), ["line 2", "line 3", "line 4", "line 5"]);
    assert_eq!((&shown["expanded_timeline"], &shown["num_live"]), (&json!(true), &json!(0)));
    assert_eq!(states(shown), [pair("m.room.topic", "")]);
    assert!(rooms(&sync.turn(open.clone(), 0).await).is_empty());
    alice.set_state(&room, "m.room.topic", "", json!({"topic": "coffee"})).await;
    let changed = sync.turn(open.clone(), 0).await;
    assert_eq!(changed["rooms"][&room]["required_state"][0]["content"]["topic"], "coffee");
    // All state but members, and then all.
    open["room_subscriptions"][&room]["required_state"] = json!([["*", "*"], ["m.room.member", "$LAZY"]]);
    let all = sync.turn(open.clone(), 0).await;
    let kinds = states(&all["rooms"][&room]);
    assert!(kinds.contains(&pair("m.room.join_rules", "")) && !kinds.contains(&pair("m.room.member", &bob.id)));
    open["lists"]["all"]["required_state"] = json!([]);
    open["room_subscriptions"][&room]["required_state"] = json!([["m.room.member", "*"]]);
    let members = sync.turn(open, 0).await;
    assert!(states(&members["rooms"][&room]).contains(&pair("m.room.member", &bob.id)), "{members}");
    let stranger = server.register("carol").await;
    let mut peek = Connection::new(&stranger);
    let nothing = peek.turn(json!({"room_subscriptions": {&room: {"timeline_limit": 9}}}), 0).await;
    assert!(rooms(&nothing).is_empty(), "what is not one's own is as if it were not");
}

#[tokio::test]
async fn invitations_joins_and_farewells() {
    let server = Server::start().await;
    server.register("founder").await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = alice.create_room(json!({"name": "Kitchen", "preset": "private_chat"})).await;
    alice.say(&room, "before bob").await;
    let mut sync = Connection::new(&bob);
    sync.turn(list(9, 5), 0).await;
    alice.invite(&room, &bob).await;
    let invited = sync.turn(list(9, 5), 10_000).await;
    let shown = &invited["rooms"][&room];
    assert_eq!((&shown["membership"], &shown["timeline"]), (&json!("invite"), &Value::Null));
    let stripped = shown["invite_state"].as_array().expect("stripped state");
    assert!(stripped.iter().any(|event| event["content"]["name"] == "Kitchen"));
    let only = |filter: Value| json!({"conn_id": "count", "lists": {"l": {"ranges": [[0, 9]], "timeline_limit": 1, "filters": filter}}});
    let count = async |filter: Value| {
        let answer = Connection::new(&bob).turn(only(filter), 0).await;
        answer["lists"]["l"]["count"].clone()
    };
    assert_eq!(
        (count(json!({"is_invite": true})).await, count(json!({"is_invite": false})).await),
        (json!(1), json!(0))
    );

    bob.join(&room).await;
    let joined = sync.turn(list(9, 5), 0).await;
    let shown = &joined["rooms"][&room];
    assert_eq!(
        (&shown["initial"], &shown["membership"], &shown["name"]),
        (&json!(true), &json!("join"), &json!("Kitchen"))
    );
    alice.post(&in_room(&room, "kick"), json!({"user_id": bob.id, "reason": "crumbs"})).await.ok();
    alice.say(&room, "he is gone").await;
    let kicked = sync.turn(list(9, 5), 0).await;
    let shown = &kicked["rooms"][&room];
    assert_eq!(shown["membership"], "leave");
    assert!(!kicked.to_string().contains("he is gone"), "{kicked}");
    let own = shown["required_state"].as_array().expect("state").last().expect("their own").clone();
    assert_eq!((&own["state_key"], &own["content"]["membership"]), (&json!(bob.id), &json!("leave")));
    assert_eq!(count(json!({})).await, 1, "who was put out sees that");
    assert!(rooms(&sync.turn(list(9, 5), 0).await).is_empty());

    let own = bob.create_room(json!({})).await;
    sync.turn(list(9, 5), 0).await;
    bob.leave(&own).await;
    let left = sync.turn(list(9, 5), 0).await;
    assert_eq!(left["rooms"][&own]["membership"], "leave");
    assert!(rooms(&sync.turn(list(9, 5), 0).await).is_empty());
    assert!(rooms(&Connection::new(&bob).turn(list(9, 5), 0).await).iter().all(|id| *id != own));
}

#[tokio::test]
async fn lists_are_filtered_by_type_tags_spaces_encryption_and_who_is_alone_with_whom() {
    let server = Server::start().await;
    server.register("founder").await;
    let alice = server.register("alice").await;
    let plain = alice.create_room(json!({})).await;
    let encryption = json!({"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}});
    let secret = alice.create_room(json!({"initial_state": [encryption]})).await;
    let space = alice.create_room(json!({"creation_content": {"type": "m.space"}})).await;
    alice.set_state(&space, "m.space.child", &secret, json!({"via": ["x"]})).await;
    let data = |rest: &str| format!("/_matrix/client/v3/user/{}/{rest}", encode(&alice.id));
    alice.put(&data("account_data/m.direct"), json!({"@bob:x": [&plain]})).await.ok();
    alice.put(&data(&format!("rooms/{}/tags/m.favourite", encode(&plain))), json!({"order": 1})).await.ok();
    let holds = async |filters: Value| {
        let wish = json!({"lists": {"l": {"ranges": [[0, 9]], "timeline_limit": 0, "filters": filters}}});
        rooms(&Connection::new(&alice).turn(wish, 0).await)
    };
    let sorted = |rooms: &[&String]| {
        let mut rooms: Vec<String> = rooms.iter().map(|room| (*room).clone()).collect();
        rooms.sort();
        rooms
    };
    assert_eq!(holds(json!({"not_room_types": ["m.space"]})).await, sorted(&[&plain, &secret]));
    assert_eq!(holds(json!({"room_types": ["m.space"]})).await, sorted(&[&space]));
    assert_eq!(holds(json!({"room_types": [null]})).await, sorted(&[&plain, &secret]));
    assert_eq!(holds(json!({"is_encrypted": true})).await, sorted(&[&secret]));
    assert_eq!(holds(json!({"is_dm": true})).await, sorted(&[&plain]));
    assert_eq!(holds(json!({"tags": ["m.favourite"]})).await, sorted(&[&plain]));
    assert_eq!(holds(json!({"not_tags": ["m.favourite"]})).await, sorted(&[&secret, &space]));
    assert_eq!(holds(json!({"spaces": [&space]})).await, sorted(&[&secret]));
}

#[tokio::test]
async fn extensions_tell_of_devices_data_receipts_and_typing() {
    let server = Server::start().await;
    server.register("founder").await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = alice.create_room(json!({"preset": "public_chat"})).await;
    bob.join(&room).await;
    let said = alice.say(&room, "hello").await;
    let mut wish = list(9, 5);
    let on = json!({"enabled": true});
    wish["extensions"] = json!({"to_device": on, "e2ee": on, "account_data": on, "receipts": on, "typing": on});
    let mut sync = Connection::new(&alice);
    let first = sync.turn(wish.clone(), 0).await;
    let found = &first["extensions"];
    assert!(
        found["account_data"]["global"].as_array().is_some_and(|all| all.iter().any(|e| e["type"] == "m.push_rules"))
    );
    assert!(found["e2ee"]["device_one_time_keys_count"].is_object());
    let waiting = async |connection: &mut Connection<'_>, wish: &Value| connection.turn(wish.clone(), 10_000).await;

    bob.put(&in_room(&room, &format!("typing/{}", encode(&bob.id))), json!({"typing": true, "timeout": 20_000}))
        .await
        .ok();
    let typing = waiting(&mut sync, &wish).await;
    assert_eq!(typing["extensions"]["typing"]["rooms"][&room]["content"]["user_ids"], json!([bob.id]));
    bob.post(&in_room(&room, &format!("receipt/m.read/{}", encode(&said))), json!({})).await.ok();
    let receipt = waiting(&mut sync, &wish).await;
    assert!(receipt["extensions"]["receipts"]["rooms"][&room]["content"][&said]["m.read"][&bob.id].is_object());
    let data = format!("/_matrix/client/v3/user/{}/rooms/{}/account_data/m.test", encode(&alice.id), encode(&room));
    alice.put(&data, json!({"x": 1})).await.ok();
    let told = waiting(&mut sync, &wish).await;
    assert_eq!(told["extensions"]["account_data"]["rooms"][&room][0]["content"], json!({"x": 1}));

    let path = format!("/_matrix/client/v3/sendToDevice/m.test/{}", transaction());
    bob.put(&path, json!({"messages": {&alice.id: {"*": {"n": 1}}}})).await.ok();
    let message = waiting(&mut sync, &wish).await;
    let found = &message["extensions"]["to_device"];
    assert_eq!(found["events"][0]["content"], json!({"n": 1}));
    wish["extensions"]["to_device"]["since"] = found["next_batch"].clone();
    assert_eq!(sync.turn(wish.clone(), 0).await["extensions"]["to_device"]["events"], json!([]));
    let carol = server.register("carol").await;
    carol.join(&room).await;
    let joined = waiting(&mut sync, &wish).await;
    assert_eq!(joined["extensions"]["e2ee"]["device_lists"]["changed"], json!([carol.id]));
    carol.leave(&room).await;
    let left = waiting(&mut sync, &wish).await;
    assert_eq!(left["extensions"]["e2ee"]["device_lists"]["left"], json!([carol.id]));
}

#[tokio::test]
async fn requests_without_measure_are_refused() {
    let server = Server::start().await;
    server.register("founder").await;
    let alice = server.register("alice").await;
    let sync = Connection::new(&alice);
    sync.ask(json!({"lists": {"l": {"ranges": [[5, 1]], "timeline_limit": 1}}}), 0).await.fails(400, "M_INVALID_PARAM");
    let many: serde_json::Map<_, _> =
        (0..101).map(|n| (n.to_string(), json!({"ranges": [], "timeline_limit": 1}))).collect();
    sync.ask(json!({"lists": many}), 0).await.fails(400, "M_INVALID_PARAM");
    sync.ask(json!({"lists": {"l": {"ranges": [["x", 1]]}}}), 0).await.fails(400, "M_BAD_JSON");
    sync.ask(json!({"conn_id": "x".repeat(65)}), 0).await.fails(400, "M_INVALID_PARAM");
    let huge = json!({"lists": {"l": {"ranges": [[0, u64::MAX]], "timeline_limit": u64::MAX}}});
    assert!(rooms(&Connection::new(&alice).turn(huge, 0).await).is_empty());
}
