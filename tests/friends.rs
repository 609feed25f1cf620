//! Asking to be friends, answering, and ending it; with clients that know of it and clients that don't.

use serde_json::{Value, json};

use crate::common::{Answer, Server, User, encode, in_room};

const BASE: &str = "/_matrix/client/unstable/chat.hearth.friends";

impl User {
    async fn friends(&self) -> Value {
        self.get(&format!("{BASE}/list")).await.ok()
    }

    async fn about(&self, deed: &str, other: &User) -> Answer {
        self.post(&format!("{BASE}/{deed}"), json!({"user_id": other.id})).await
    }

    async fn ask(&self, other: &User, note: &str) -> Value {
        self.post(&format!("{BASE}/request"), json!({"user_id": other.id, "note": note})).await.ok()
    }

    /// The three lists by user ID alone.
    async fn ties(&self) -> [Vec<String>; 3] {
        let lists = self.friends().await;
        ["friends", "incoming", "outgoing"].map(|list| {
            let people = lists[list].as_array().expect("a list").iter();
            people.map(|person| person["user_id"].as_str().expect("an ID").to_owned()).collect()
        })
    }
}

fn nobody() -> Vec<String> {
    Vec::new()
}

fn only(user: &User) -> Vec<String> {
    vec![user.id.clone()]
}

#[tokio::test]
async fn a_request_with_a_note_is_accepted_and_both_are_friends_until_one_ends_it() {
    let server = Server::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    alice
        .put(&format!("/_matrix/client/v3/profile/{}/displayname", alice.id), json!({"displayname": "Alice M."}))
        .await
        .ok();
    let asked = alice.ask(&bob, "From the choir").await;
    assert_eq!(asked["state"], "outgoing");
    assert_eq!(alice.ask(&bob, "again").await["room_id"], asked["room_id"], "asking twice is asking once");
    assert_eq!(alice.ties().await, [nobody(), nobody(), only(&bob)]);
    let lists = bob.friends().await;
    assert_eq!(lists["incoming"][0]["note"], "From the choir");
    assert_eq!(lists["incoming"][0]["displayname"], "Alice M.");
    assert!(lists["incoming"][0]["sent_ts"].as_u64().is_some());
    // Any client sees it as an invitation to a direct chat.
    let sync = bob.sync(None, 0).await;
    let room = asked["room_id"].as_str().expect("a room");
    let events = sync["rooms"]["invite"][room]["invite_state"]["events"].as_array().expect("an invitation").clone();
    let member = events.iter().find(|event| event["state_key"] == json!(bob.id)).expect("bob's membership");
    assert_eq!(
        (&member["content"]["is_direct"], &member["content"]["reason"]),
        (&json!(true), &json!("From the choir"))
    );
    assert_eq!(bob.about("accept", &alice).await.ok(), json!({"state": "friend", "room_id": room}));
    assert_eq!(alice.ties().await, [only(&bob), nobody(), nobody()]);
    assert_eq!(bob.ties().await, [only(&alice), nobody(), nobody()]);
    bob.say(room, "hello").await;
    let direct = bob.get(&format!("/_matrix/client/v3/user/{}/account_data/m.direct", bob.id)).await.ok();
    assert_eq!(direct[&alice.id], json!([room]));
    bob.about("remove", &alice).await.ok();
    assert_eq!(alice.ties().await, [nobody(), nobody(), nobody()], "one side is enough");
    assert_eq!(bob.ties().await, [nobody(), nobody(), nobody()]);
    bob.about("remove", &alice).await.fails(404, "M_NOT_FOUND");
    // Once more, and in the same room, as alice has kept it.
    assert_eq!(alice.ask(&bob, "Sorry").await["room_id"], json!(room));
    bob.about("accept", &alice).await.ok();
    assert_eq!(bob.ties().await, [only(&alice), nobody(), nobody()]);
}

#[tokio::test]
async fn requests_are_rejected_cancelled_and_cross() {
    let server = Server::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    alice.ask(&bob, "").await;
    bob.about("reject", &alice).await.ok();
    assert_eq!(
        (alice.ties().await, bob.ties().await),
        ([nobody(), nobody(), nobody()], [nobody(), nobody(), nobody()])
    );
    alice.ask(&bob, "please").await;
    alice.about("cancel", &bob).await.ok();
    assert_eq!(
        (alice.ties().await, bob.ties().await),
        ([nobody(), nobody(), nobody()], [nobody(), nobody(), nobody()])
    );
    for deed in ["accept", "reject"] {
        bob.about(deed, &alice).await.fails(404, "M_NOT_FOUND");
    }
    alice.about("cancel", &bob).await.fails(404, "M_NOT_FOUND");
    // Who asks somebody that has asked them accepts.
    alice.ask(&bob, "a").await;
    assert_eq!(bob.ask(&alice, "b").await["state"], "friend");
    assert_eq!(
        (alice.ties().await, bob.ties().await),
        ([only(&bob), nobody(), nobody()], [only(&alice), nobody(), nobody()])
    );
    alice.about("request", &alice).await.fails(400, "M_INVALID_PARAM");
    let nobody = json!({"user_id": "@nobody:localhost"});
    alice.post(&format!("{BASE}/request"), nobody).await.fails(404, "M_NOT_FOUND");
    let long = json!({"user_id": bob.id, "note": "x".repeat(501)});
    alice.post(&format!("{BASE}/request"), long).await.fails(400, "M_INVALID_PARAM");
    server.guest().get(&format!("{BASE}/list")).await.fails(401, "M_MISSING_TOKEN");
}

#[tokio::test]
async fn other_clients_make_friends_by_plain_matrix() {
    let server = Server::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let settings = json!({"preset": "trusted_private_chat", "is_direct": true, "invite": [bob.id]});
    let room = alice.create_room(settings).await;
    assert_eq!(bob.ties().await, [nobody(), only(&alice), nobody()]);
    let group = alice.create_room(json!({"invite": [bob.id]})).await;
    assert_eq!(bob.friends().await["incoming"].as_array().map(Vec::len), Some(1), "a group is no request");
    bob.join(&room).await;
    for (who, other) in [(&alice, &bob), (&bob, &alice)] {
        let path = format!("/_matrix/client/v3/user/{}/account_data/m.direct", who.id);
        who.put(&path, json!({(&*other.id): [room, "!nowhere:localhost"], "not an id": 3})).await.ok();
    }
    assert_eq!(
        (alice.ties().await, bob.ties().await),
        ([only(&bob), nobody(), nobody()], [only(&alice), nobody(), nobody()])
    );
    assert_eq!(alice.friends().await["friends"][0]["room_id"], json!(room));
    bob.leave(&room).await;
    assert_eq!(alice.ties().await, [nobody(), nobody(), nobody()]);
    alice.leave(&group).await;
}

#[tokio::test]
async fn who_is_ignored_asks_in_vain_and_unseen() {
    let server = Server::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let path = format!("/_matrix/client/v3/user/{}/account_data/m.ignored_user_list", encode(&bob.id));
    bob.put(&path, json!({"ignored_users": {(&*alice.id): {}}})).await.ok();
    alice.ask(&bob, "let me in").await;
    assert_eq!(bob.ties().await, [nobody(), nobody(), nobody()]);
    bob.about("request", &alice).await.fails(403, "M_FORBIDDEN");
    bob.put(&path, json!({"ignored_users": {}})).await.ok();
    assert_eq!(bob.ties().await, [nobody(), only(&alice), nobody()]);
}

#[tokio::test]
async fn a_friend_in_a_room_with_more_people_is_lost_without_leaving_it() {
    let server = Server::start().await;
    let (alice, bob, carol) =
        (server.register("alice").await, server.register("bob").await, server.register("carol").await);
    let room = alice.ask(&bob, "hi").await["room_id"].as_str().expect("a room").to_owned();
    bob.about("accept", &alice).await.ok();
    bob.invite(&room, &carol).await;
    carol.join(&room).await;
    alice.about("remove", &bob).await.ok();
    assert_eq!(alice.ties().await, [nobody(), nobody(), nobody()]);
    alice.say(&room, "still here").await;
    alice.get(&in_room(&room, "members")).await.ok();
}
