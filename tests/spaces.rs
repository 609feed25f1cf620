//! Spaces, what rooms say of themselves, and the rooms that two people share.

use serde_json::{Value, json};

use crate::common::{Server, User, encode};

async fn space(user: &User, name: &str) -> String {
    user.create_room(json!({"name": name, "creation_content": {"type": "m.space"}, "preset": "public_chat"})).await
}

async fn walk(user: &User, room: &str, query: &str) -> Value {
    user.get(&format!("/_matrix/client/v1/rooms/{}/hierarchy?{query}", encode(room))).await.ok()
}

fn names(page: &Value) -> Vec<&str> {
    page["rooms"].as_array().expect("rooms").iter().filter_map(|room| room["name"].as_str()).collect()
}

#[tokio::test]
async fn a_space_is_walked_in_order_page_by_page_and_only_where_one_may_look() {
    let server = Server::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let (top, below) = (space(&alice, "top").await, space(&alice, "below").await);
    let open = alice.create_room(json!({"name": "open", "preset": "public_chat"})).await;
    let secret = alice.create_room(json!({"name": "secret", "preset": "private_chat"})).await;
    let rule = json!({"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": &top}]});
    let rule = json!({"type": "m.room.join_rules", "content": rule});
    let members = alice.create_room(json!({"name": "members", "initial_state": [rule]})).await;
    let child = async |space: &str, room: &str, more: Value| {
        let mut content = json!({"via": ["localhost"]});
        content.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        alice.set_state(space, "m.space.child", room, content).await;
    };
    child(&top, &below, json!({"order": "b", "suggested": true})).await;
    child(&top, &secret, json!({"order": "a"})).await;
    child(&top, &members, json!({})).await;
    child(&below, &open, json!({"order": "x"})).await;
    child(&below, &top, json!({})).await;
    assert_eq!(names(&walk(&alice, &top, "").await), ["top", "secret", "below", "open", "members"]);
    assert_eq!(names(&walk(&bob, &top, "").await), ["top", "below", "open"]);
    bob.join(&top).await;
    let all = walk(&bob, &top, "").await;
    assert_eq!(names(&all), ["top", "below", "open", "members"]);
    let first = &all["rooms"][0];
    assert_eq!((&first["room_type"], &first["num_joined_members"]), (&json!("m.space"), &json!(2)));
    assert_eq!(first["children_state"].as_array().map(Vec::len), Some(3));
    assert!(first["children_state"][0]["origin_server_ts"].is_u64());
    assert_eq!(all["rooms"][3]["allowed_room_ids"], json!([top]));
    assert_eq!(names(&walk(&bob, &top, "max_depth=1").await), ["top", "below", "members"]);
    assert_eq!(names(&walk(&bob, &top, "suggested_only=true").await), ["top", "below"]);
    let page = walk(&bob, &top, "limit=3").await;
    let next = page["next_batch"].as_str().expect("there is more");
    let rest = walk(&bob, &top, &format!("limit=3&from={next}")).await;
    assert_eq!((names(&rest), &rest["next_batch"]), (vec!["members"], &Value::Null));
    let other = format!("/_matrix/client/v1/rooms/{}/hierarchy?max_depth=1&from={next}", encode(&top));
    bob.get(&other).await.fails(400, "M_INVALID_PARAM");
    bob.get(&format!("/_matrix/client/v1/rooms/{}/hierarchy", encode(&secret))).await.fails(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn a_room_says_what_it_is_to_whoever_may_come_in() {
    let server = Server::start().await;
    let (alice, bob, nobody) = (server.register("alice").await, server.register("bob").await, server.guest());
    let open = alice.create_room(json!({"name": "open", "preset": "public_chat", "room_alias_name": "open"})).await;
    let secret = alice.create_room(json!({"name": "secret", "preset": "private_chat"})).await;
    let paths = |room: &str| {
        let room = encode(room);
        [
            format!("/_matrix/client/v1/room_summary/{room}"),
            format!("/_matrix/client/unstable/im.nheko.summary/summary/{room}"),
            format!("/_matrix/client/unstable/im.nheko.summary/rooms/{room}/summary"),
        ]
    };
    for path in paths(&open).into_iter().chain(paths("#open:localhost")) {
        let found = nobody.get(&path).await.ok();
        assert_eq!(
            (&found["room_id"], &found["name"], &found["membership"]),
            (&json!(open), &json!("open"), &Value::Null)
        );
        assert_eq!(alice.get(&path).await.ok()["membership"], "join");
    }
    for path in paths(&secret) {
        for asker in [&bob, &nobody] {
            asker.get(&path).await.fails(404, "M_NOT_FOUND");
        }
    }
    alice.invite(&secret, &bob).await;
    assert_eq!(bob.get(&paths(&secret)[0]).await.ok()["membership"], "invite");
}

#[tokio::test]
async fn two_people_find_the_rooms_that_they_share() {
    let server = Server::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let shared = alice.create_room(json!({"preset": "public_chat"})).await;
    alice.create_room(json!({})).await;
    bob.join(&shared).await;
    let with = |user: &User| {
        let user = encode(&user.id);
        [
            format!("/_matrix/client/v1/mutual_rooms?user_id={user}"),
            format!("/_matrix/client/v1/mutual_rooms?from=&user_id={user}"),
            format!("/_matrix/client/unstable/uk.half-shot.msc2666/user/mutual_rooms?user_id={user}"),
        ]
    };
    for path in with(&bob) {
        let found = alice.get(&path).await.ok();
        assert_eq!((&found["joined"], &found["count"]), (&json!([shared]), &json!(1)));
    }
    alice.get(&with(&alice)[0]).await.fails(400, "M_INVALID_PARAM");
}
