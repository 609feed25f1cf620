//! Spaces whose rooms are on other servers, servers that say of rooms what they like, and aliases of other
//! servers.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    common::{Answer, Crowd, Peer, Says, Server, User, encode, federate, federated, in_room, until},
    federation_partial::join,
};

async fn space(user: &User, name: &str) -> String {
    user.create_room(json!({"name": name, "creation_content": {"type": "m.space"}, "preset": "public_chat"})).await
}

async fn add(user: &User, space: &str, child: &str, server: &str) {
    user.set_state(space, "m.space.child", child, json!({"via": [server]})).await;
}

async fn walk(user: &User, room: &str, query: &str) -> Answer {
    user.get(&format!("/_matrix/client/v1/rooms/{}/hierarchy?{query}", encode(room))).await
}

fn names(page: &Value) -> Vec<&str> {
    page["rooms"].as_array().expect("rooms").iter().filter_map(|room| room["name"].as_str()).collect()
}

async fn summary(user: &User, room: &str, via: &str) -> Answer {
    let via = if via.is_empty() { String::new() } else { format!("?via={}", encode(via)) };
    user.get(&format!("/_matrix/client/v1/room_summary/{}{via}", encode(room))).await
}

#[tokio::test]
async fn a_space_is_walked_into_the_rooms_of_another_server() {
    let [one, two] = federate().await;
    let (alice, bob) = (one.register("alice").await, two.register("bob").await);
    let (sub, open) =
        (space(&alice, "sub").await, alice.create_room(json!({"name": "open", "preset": "public_chat"})).await);
    let secret = alice.create_room(json!({"name": "secret", "preset": "private_chat"})).await;
    let top = space(&bob, "top").await;
    let rule = json!({"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": &top}]});
    let rule = json!({"type": "m.room.join_rules", "content": rule});
    let members = alice.create_room(json!({"name": "members", "initial_state": [rule]})).await;
    let home = bob.create_room(json!({"name": "home", "preset": "public_chat"})).await;
    add(&bob, &top, &sub, &one.name).await;
    add(&bob, &top, &secret, &one.name).await;
    add(&bob, &top, &home, &two.name).await;
    add(&alice, &sub, &open, &one.name).await;
    add(&alice, &sub, &secret, &one.name).await;
    add(&alice, &sub, &members, &one.name).await;
    // Of the room that it is in this server knows better than others; and the walk goes round no circle.
    add(&alice, &sub, &home, &two.name).await;
    add(&alice, &sub, &top, &two.name).await;
    let all = walk(&bob, &top, "").await.ok();
    assert_eq!(names(&all), ["top", "sub", "open", "home"], "{all}");
    let there = &all["rooms"][1];
    assert_eq!((&there["room_id"], &there["room_type"]), (&json!(sub), &json!("m.space")));
    assert_eq!(there["children_state"].as_array().map(Vec::len), Some(5));
    // Page by page it is the same.
    let (mut from, mut paged) = (String::new(), Vec::new());
    loop {
        let page = walk(&bob, &top, &format!("limit=1{from}")).await.ok();
        paged.extend(names(&page).into_iter().map(str::to_owned));
        match page["next_batch"].as_str() {
            Some(next) => from = format!("&from={next}"),
            None => break,
        }
    }
    assert_eq!(paged, names(&all));
    // A space that was seen is walked by itself, and one that nobody told of is not.
    assert_eq!(names(&walk(&bob, &sub, "max_depth=1").await.ok()), ["sub", "open", "home", "top"]);
    walk(&bob, &secret, "").await.fails(403, "M_FORBIDDEN");
    walk(&two.register("carol").await, "!nowhere:localhost", "").await.fails(403, "M_FORBIDDEN");
    // Who was in the space that the room lets in sees that one too, once the other server knows of them.
    alice.post(&format!("/_matrix/client/v3/join/{}?via={}", encode(&top), encode(&two.name)), json!({})).await.ok();
    let dora = two.register("dora").await;
    dora.join(&top).await;
    summary(&dora, &members, &one.name).await.ok();
    summary(&two.register("eve").await, &members, &one.name).await.fails(404, "M_NOT_FOUND");
}

/// What another server keeps back is asked for again by who has been let in, and by nobody else.
#[tokio::test]
async fn who_is_let_in_sees_at_once_what_was_kept_from_them() {
    let [one, two] = federate().await;
    let (alice, bob, dora) = (one.register("alice").await, two.register("bob").await, two.register("dora").await);
    let sub = space(&alice, "sub").await;
    let secret = alice.create_room(json!({"name": "secret", "preset": "private_chat"})).await;
    let (top, hall) = (space(&bob, "top").await, space(&bob, "hall").await);
    alice.post(&format!("/_matrix/client/v3/join/{}?via={}", encode(&hall), encode(&two.name)), json!({})).await.ok();
    let rule = json!({"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": &hall}]});
    let rule = json!({"type": "m.room.join_rules", "content": rule});
    let members = alice.create_room(json!({"name": "members", "initial_state": [rule]})).await;
    // One is named by a space of this server, the other one by a space of the server that knows it.
    add(&bob, &top, &sub, &one.name).await;
    add(&bob, &top, &secret, &one.name).await;
    add(&alice, &sub, &secret, &one.name).await;
    add(&alice, &sub, &members, &one.name).await;
    let seen = async |user: &User| walk(user, &top, "").await.ok();
    // Bob is in the hall himself.
    until("bob sees what its members see", async || {
        (names(&seen(&bob).await) == ["top", "sub", "members"]).then_some(())
    })
    .await;
    assert_eq!(names(&seen(&dora).await), ["top", "sub"]);
    alice.invite(&secret, &dora).await;
    until("dora is invited", async || dora.sync(None, 0).await["rooms"]["invite"][&secret].is_object().then_some(()))
        .await;
    assert_eq!(names(&seen(&dora).await), ["top", "sub", "secret"], "at once");
    dora.join(&hall).await;
    let all = ["top", "sub", "secret", "members"];
    until("she sees what its members see", async || (names(&seen(&dora).await) == all).then_some(())).await;
    // Who was let in nowhere is told from what is known, and sees what is theirs.
    let eve = two.register("eve").await;
    assert_eq!(names(&seen(&eve).await), ["top", "sub"]);
}

/// Who was let in somewhere a moment ago may be ahead of what the other server knows: what it keeps back is asked for
/// again soon. For everybody else it is remembered.
#[tokio::test]
async fn who_was_just_let_in_asks_again_soon_for_what_is_kept_back() {
    let (server, crowd) = tokio::join!(federated("", ""), Crowd::gather(3));
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let peer = &crowd.peer;
    let (top, soon, later) = (space(&alice, "top").await, "!soon:x", "!later:x");
    add(&alice, &top, soon, peer.name()).await;
    let hidden = |room: &str| peer.says(&path(room), Says::Json(404, json!({"errcode": "M_NOT_FOUND", "error": "?"})));
    let shown = |room: &str| {
        let said = json!({"room_id": room, "name": room, "join_rule": "public", "children_state": []});
        peer.says(&path(room), Says::Json(200, json!({"room": said, "children": [], "inaccessible_children": []})));
    };
    hidden(soon);
    hidden(later);
    join(&bob, &crowd).await.ok();
    let began = Instant::now();
    assert_eq!(names(&walk(&bob, &top, "").await.ok()), ["top"]);
    shown(soon);
    until("it is asked for again", async || (names(&walk(&bob, &top, "").await.ok()) == ["top", soon]).then_some(()))
        .await;
    let waited = began.elapsed();
    assert_eq!(peer.asked(&path(soon)).len(), 2, "once before and once after");
    assert!(waited > Duration::from_secs(2) && waited < Duration::from_secs(20), "{waited:?}");
    // Alice was let in nowhere: that there was no answer is remembered for her.
    add(&alice, &top, later, peer.name()).await;
    assert_eq!(names(&walk(&alice, &top, "").await.ok()), ["top", soon]);
    shown(later);
    tokio::time::sleep(waited.max(Duration::from_secs(4))).await;
    assert_eq!(names(&walk(&alice, &top, "").await.ok()), ["top", soon]);
    assert_eq!(peer.asked(&path(later)).len(), 1);
}

#[tokio::test]
async fn a_room_of_another_server_says_what_it_is() {
    let [one, two] = federate().await;
    let (alice, bob) = (one.register("alice").await, two.register("bob").await);
    let open = alice.create_room(json!({"name": "open", "preset": "public_chat", "room_alias_name": "open"})).await;
    let secret = alice.create_room(json!({"name": "secret", "preset": "private_chat"})).await;
    let alias = format!("#open:{}", one.name);
    for found in [summary(&bob, &open, &one.name).await.ok(), summary(&bob, &alias, "").await.ok()] {
        assert_eq!((&found["room_id"], &found["name"]), (&json!(open), &json!("open")));
        assert_eq!((&found["membership"], &found["join_rule"]), (&json!("leave"), &json!("public")));
    }
    summary(&bob, &secret, &one.name).await.fails(404, "M_NOT_FOUND");
    // Who has no account does not make the server ask others.
    for room in [&open, &alias] {
        summary(&two.guest(), room, &one.name).await.fails(404, "M_NOT_FOUND");
    }
    alice.invite(&secret, &bob).await;
    let found = summary(&bob, &secret, "").await.ok();
    assert_eq!((&found["name"], &found["membership"]), (&json!("secret"), &json!("invite")));
}

#[tokio::test]
async fn another_server_is_told_what_its_people_may_see() {
    let [one, _two] = federate().await;
    let (alice, peer) = (one.register("alice").await, Peer::start().await);
    let (top, open) =
        (space(&alice, "top").await, alice.create_room(json!({"name": "open", "preset": "public_chat"})).await);
    let secret = alice.create_room(json!({"name": "secret", "preset": "private_chat"})).await;
    for child in [&open, &secret, &"!elsewhere:example.org".to_owned()] {
        add(&alice, &top, child, &one.name).await;
    }
    let ask = async |room: &str, query: &str| {
        peer.ask(&one, Method::GET, &format!("/_matrix/federation/v1/hierarchy/{}{query}", encode(room)), None).await
    };
    let told = ask(&top, "").await.ok();
    assert_eq!((&told["room"]["name"], &told["room"]["room_type"]), (&json!("top"), &json!("m.space")));
    assert_eq!(told["room"]["children_state"].as_array().map(Vec::len), Some(3));
    let children: Vec<_> = told["children"].as_array().expect("children").iter().map(|room| &room["room_id"]).collect();
    assert_eq!((children, &told["inaccessible_children"]), (vec![&json!(open)], &json!([secret])));
    assert_eq!(ask(&top, "?suggested_only=true").await.ok()["children"], json!([]));
    for hidden in [&secret, "!elsewhere:example.org"] {
        ask(hidden, "").await.fails(404, "M_NOT_FOUND");
    }
    let unsigned = one.guest().get(&format!("/_matrix/federation/v1/hierarchy/{}", encode(&top))).await;
    assert_eq!(unsigned.status, 401, "{:?}", unsigned.body);
}

/// A space of ours with one child, which is the peer's.
async fn with_child_of(peer: &Peer, server: &Server, child: &str) -> (User, String) {
    let alice = server.register("alice").await;
    let top = space(&alice, "top").await;
    add(&alice, &top, child, peer.name()).await;
    (alice, top)
}

fn path(room: &str) -> String {
    format!("/_matrix/federation/v1/hierarchy/{room}")
}

fn event(room: &str, via: &str) -> Value {
    json!({"type": "m.space.child", "state_key": room, "sender": format!("@m:{via}"), "content": {"via": [via]},
        "origin_server_ts": 1})
}

#[tokio::test]
async fn spaces_without_end_and_in_circles_come_to_an_end() {
    let [server] = federate().await;
    let peer = Peer::start().await;
    let (alice, top) = with_child_of(&peer, &server, "!space0:x").await;
    // Each space holds the next one, the first, itself, and a hundred that are not there.
    for level in 0..80 {
        let id = format!("!space{level}:x");
        let mut events: Vec<Value> = (0..100).map(|n| event(&format!("!none{level}-{n}:x"), peer.name())).collect();
        events.insert(0, event(&format!("!space{}:x", level + 1), peer.name()));
        events.extend([event("!space0:x", peer.name()), event(&id, peer.name()), event(&top, peer.name())]);
        let inaccessible: Vec<_> = (0..100).map(|n| format!("!none{level}-{n}:x")).collect();
        let room = json!({"room_id": id, "name": format!("space {level}"), "room_type": "m.space", "join_rule": "public",
            "children_state": events});
        let answer = json!({"room": room, "children": [], "inaccessible_children": inaccessible});
        peer.says(&path(&id), Says::Json(200, answer));
    }
    let page = walk(&alice, &top, "limit=100").await.ok();
    let found = names(&page);
    assert_eq!((found.len(), found[0], found[50]), (51, "top", "space 49"), "50 levels, each room once");
    let asked = peer.asked("/_matrix/federation/v1/hierarchy").len();
    assert!(asked <= 150, "{asked} questions");
    // What was told is kept for a while.
    walk(&alice, &top, "limit=100").await.ok();
    assert_eq!(peer.asked("/_matrix/federation/v1/hierarchy").len(), asked);
}

#[tokio::test]
async fn what_is_no_answer_is_left_out() {
    let [server] = federate().await;
    let peer = Peer::start().await;
    let (alice, top) = with_child_of(&peer, &server, "!bad:x").await;
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{\"x\":\"".to_vec();
    let deep = format!("{{\"room\":{}", "[".repeat(200_000));
    let bytes =
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{deep}", deep.len());
    let odd = [
        Says::Json(200, json!({"room": {"room_id": "!other:x", "name": "lies", "join_rule": "public"}})),
        Says::Json(200, json!([1])),
        Says::Json(200, json!({"room": {"room_id": "!bad:x", "name": "mine", "join_rule": "invite"}})),
        Says::Json(500, json!({})),
        Says::Endless([head, vec![b'x'; 1 << 16]].concat()),
        Says::Bytes(bytes.into_bytes()),
    ];
    for (n, answer) in odd.into_iter().enumerate() {
        let bad = format!("!bad{n}:x");
        add(&alice, &top, &bad, peer.name()).await;
        peer.says(&path(&bad), answer);
    }
    assert_eq!(names(&walk(&alice, &top, "").await.ok()), ["top"]);
    // Nonsense among what is right is left out of it.
    add(&alice, &top, "!good:x", peer.name()).await;
    let room = json!({"room_id": "!good:x", "name": {"x": 1}, "topic": "t", "avatar_url": "https://x/", "join_rule": "public",
        "room_type": "m.space", "num_joined_members": -1, "script": "x", "children_state": [7, {}, event("nonsense", "x")]});
    peer.says(&path("!good:x"), Says::Json(200, json!({"room": room, "children": [7, null]})));
    let page = walk(&alice, &top, "").await.ok();
    let told = page["rooms"].as_array().expect("rooms").iter().find(|room| room["room_id"] == "!good:x");
    let expected = json!({"room_id": "!good:x", "topic": "t", "join_rule": "public", "room_type": "m.space",
        "num_joined_members": 0, "world_readable": false, "guest_can_join": false, "children_state": []});
    assert_eq!(told, Some(&expected), "{page}");
}

#[tokio::test]
async fn a_room_is_called_by_aliases_of_other_servers_that_lead_to_it() {
    let [one, two] = federate().await;
    let (alice, bob) = (one.register("alice").await, two.register("bob").await);
    let room = alice.create_room(json!({"preset": "public_chat"})).await;
    let other = bob.create_room(json!({"preset": "public_chat", "room_alias_name": "other"})).await;
    let (ours, theirs) = (format!("#other:{}", two.name), format!("#kitchen:{}", two.name));
    bob.post(&format!("/_matrix/client/v3/join/{}?via={}", encode(&room), encode(&one.name)), json!({})).await.ok();
    let alias = format!("/_matrix/client/v3/directory/room/{}", encode(&theirs));
    let name = async |content: Value| alice.put(&in_room(&room, "state/m.room.canonical_alias/"), content).await;
    name(json!({"alias": theirs})).await.fails(400, "M_BAD_ALIAS");
    bob.put(&alias, json!({"room_id": room})).await.ok();
    name(json!({"alias": theirs, "alt_aliases": [ours]})).await.fails(400, "M_BAD_ALIAS");
    name(json!({"alias": "#x:localhost:1"})).await.fails(400, "M_BAD_ALIAS");
    name(json!({"alias": "nonsense"})).await.fails(400, "M_INVALID_PARAM");
    let many: Vec<_> = (0..21).map(|n| format!("#{n}:{}", two.name)).collect();
    name(json!({"alt_aliases": many})).await.fails(400, "M_INVALID_PARAM");
    name(json!({"alias": theirs})).await.ok();
    // What is so already needs no proof.
    bob.delete(&alias).await.ok();
    name(json!({"alt_aliases": [theirs]})).await.ok();
    // Nobody is asked for who may not say it.
    let peer = Peer::start().await;
    let mallory = one.register("mallory").await;
    mallory.join(&room).await;
    let content = json!({"alias": format!("#x:{}", peer.name())});
    mallory.put(&in_room(&room, "state/m.room.canonical_alias/"), content).await.fails(403, "M_FORBIDDEN");
    assert!(peer.asked("/_matrix/federation/v1/query").is_empty());
    assert_ne!(other, room);
}
