//! Memberships that are set as any piece of a room's state: what comes of it is what comes of the endpoint that is
//! for it.

use serde_json::{Value, json};

use crate::common::{Answer, Server, User, encode, federate, in_room, until};

const V3: &str = "/_matrix/client/v3";

/// Sets somebody's membership as state.
async fn sets(who: &User, room: &str, of: &User, content: Value) -> Answer {
    who.put(&in_room(room, &format!("state/m.room.member/{}", encode(&of.id))), content).await
}

/// Somebody's membership, as another one is told.
async fn is(who: &User, room: &str, of: &User) -> Value {
    who.get(&in_room(room, &format!("state/m.room.member/{}", encode(&of.id)))).await.body
}

async fn is_called(user: &User, name: &str) {
    user.put(&format!("{V3}/profile/{}/displayname", encode(&user.id)), json!({"displayname": name})).await.ok();
}

fn own(membership: &str) -> Value {
    json!({"membership": membership})
}

#[tokio::test]
async fn who_sets_their_own_comes_in_as_by_joining_and_goes_as_by_leaving() {
    let server = Server::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    is_called(&bob, "Bob").await;
    let room = alice.create_room(json!({"preset": "public_chat"})).await;
    let came = sets(&bob, &room, &bob, own("join")).await.ok();
    let member =
        alice.get(&in_room(&room, &format!("state/m.room.member/{}?format=event", encode(&bob.id)))).await.ok();
    assert_eq!((&member["event_id"], &member["content"]["displayname"]), (&came["event_id"], &json!("Bob")));
    let sync = bob.sync(None, 0).await;
    assert!(sync["rooms"]["join"][&room].is_object(), "{sync}");
    // Once in, it is how they are called there; what is so already is not said again.
    let called = json!({"membership": "join", "displayname": "Bobby"});
    let said = sets(&bob, &room, &bob, called.clone()).await.ok();
    assert_ne!(said, came);
    assert_eq!(sets(&bob, &room, &bob, called.clone()).await.ok(), said);
    assert_eq!(is(&alice, &room, &bob).await, called);
    let gone = sets(&bob, &room, &bob, json!({"membership": "leave", "reason": "late"})).await.ok();
    assert_eq!(is(&alice, &room, &bob).await, json!({"membership": "leave", "reason": "late"}));
    assert_eq!(sets(&bob, &room, &bob, own("leave")).await.ok(), gone, "who is gone can't go");
    // Nor may more be done so than otherwise.
    sets(&bob, &room, &alice, own("join")).await.fails(403, "M_FORBIDDEN");
    alice.post(&in_room(&room, "ban"), json!({"user_id": bob.id})).await.ok();
    sets(&bob, &room, &bob, own("join")).await.fails(403, "M_FORBIDDEN");
    let private = alice.create_room(json!({"preset": "private_chat"})).await;
    sets(&bob, &private, &bob, own("join")).await.fails(403, "M_FORBIDDEN");
    sets(&bob, &private, &bob, own("leave")).await.fails(403, "M_FORBIDDEN");
    sets(&bob, "!nowhere:localhost", &bob, own("join")).await.fails(404, "M_NOT_FOUND");
    alice.invite(&private, &bob).await;
    sets(&bob, &private, &bob, json!({"membership": "join", "displayname": "B."})).await.ok();
    assert_eq!(is(&alice, &private, &bob).await, json!({"membership": "join", "displayname": "B."}));
}

#[tokio::test]
async fn nobody_vouches_for_themselves() {
    let server = Server::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let space = alice.create_room(json!({"preset": "public_chat"})).await;
    let allow = json!([{"type": "m.room_membership", "room_id": space}]);
    let rule = json!({"type": "m.room.join_rules", "content": {"join_rule": "restricted", "allow": allow}});
    let room = alice.create_room(json!({"preset": "private_chat", "initial_state": [rule]})).await;
    let vouched = json!({"membership": "join", "join_authorised_via_users_server": alice.id});
    sets(&bob, &room, &bob, vouched.clone()).await.fails(403, "M_FORBIDDEN");
    sets(&bob, &space, &bob, own("join")).await.ok();
    sets(&bob, &room, &bob, own("join")).await.ok();
    assert_eq!(is(&alice, &room, &bob).await, vouched);
    // Who is in changes what they are called, and leaves who vouched behind.
    let called = json!({"membership": "join", "displayname": "Bobby"});
    sets(&bob, &space, &bob, own("leave")).await.ok();
    sets(&bob, &room, &bob, called.clone()).await.ok();
    assert_eq!(is(&alice, &room, &bob).await, called);
    let door = json!({"type": "m.room.join_rules", "content": {"join_rule": "knock"}});
    let room = alice.create_room(json!({"preset": "private_chat", "initial_state": [door]})).await;
    sets(&bob, &room, &bob, json!({"membership": "knock", "reason": "me"})).await.ok();
    assert_eq!(is(&alice, &room, &bob).await, json!({"membership": "knock", "reason": "me"}));
    let sync = bob.sync(None, 0).await;
    assert!(sync["rooms"]["knock"][&room].is_object(), "{sync}");
    sets(&bob, &room, &bob, own("leave")).await.ok();
    assert_eq!(is(&alice, &room, &bob).await["membership"], "leave");
}

#[tokio::test]
async fn others_are_invited_and_put_out_by_the_rules_for_that() {
    let server = Server::start().await;
    let (alice, bob, carol) =
        (server.register("alice").await, server.register("bob").await, server.register("carol").await);
    is_called(&bob, "Bob").await;
    let room = alice.create_room(json!({"preset": "private_chat"})).await;
    let nobody = User { id: "@nobody:localhost".to_owned(), ..bob.clone() };
    sets(&alice, &room, &nobody, own("invite")).await.fails(404, "M_NOT_FOUND");
    let blocks = format!("{V3}/user/{}/account_data/m.invite_permission_config", encode(&bob.id));
    bob.put(&blocks, json!({"default_action": "block"})).await.ok();
    sets(&alice, &room, &bob, own("invite")).await.fails(403, "M_INVITE_BLOCKED");
    bob.put(&blocks, json!({})).await.ok();
    let first = sets(&alice, &room, &bob, json!({"membership": "invite", "is_direct": true})).await.ok();
    let told = json!({"membership": "invite", "is_direct": true, "displayname": "Bob"});
    assert_eq!(is(&alice, &room, &bob).await, told);
    let again = sets(&alice, &room, &bob, json!({"membership": "invite", "is_direct": true})).await.ok();
    assert_eq!(again, first, "it is so already");
    let sync = bob.sync(None, 0).await;
    assert!(sync["rooms"]["invite"][&room].is_object(), "{sync}");
    bob.join(&room).await;
    sets(&bob, &room, &alice, own("leave")).await.fails(403, "M_FORBIDDEN");
    sets(&bob, &room, &carol, own("ban")).await.fails(403, "M_FORBIDDEN");
    sets(&alice, &room, &carol, own("leave")).await.fails(403, "M_FORBIDDEN");
    let out = sets(&alice, &room, &bob, json!({"membership": "leave", "reason": "noise"})).await.ok();
    assert_eq!(is(&alice, &room, &bob).await, json!({"membership": "leave", "reason": "noise"}));
    let again = sets(&alice, &room, &bob, json!({"membership": "leave", "reason": "noise"})).await.ok();
    assert_eq!(again, out);
    sets(&alice, &room, &bob, own("leave")).await.fails(403, "M_FORBIDDEN");
    sets(&alice, &room, &bob, own("ban")).await.ok();
    assert_eq!(is(&alice, &room, &bob).await, own("ban"));
    sets(&alice, &room, &bob, own("invite")).await.fails(403, "M_FORBIDDEN");
    sets(&alice, &room, &bob, own("leave")).await.ok();
    assert_eq!(is(&alice, &room, &bob).await, own("leave"));
    sets(&alice, &room, &bob, own("dance")).await.fails(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn rooms_of_other_servers_are_entered_and_left_so_too() {
    let [one, two] = federate().await;
    let (alice, bob, carol) = (one.register("alice").await, two.register("bob").await, two.register("carol").await);
    let room = alice.create_room(json!({"preset": "private_chat"})).await;
    sets(&alice, &room, &bob, own("invite")).await.ok();
    let invited = async |who: &User| {
        let invited = async || who.sync(None, 0).await["rooms"]["invite"][&room].is_object().then_some(());
        until("they are invited", invited).await;
    };
    invited(&bob).await;
    let called = json!({"membership": "join", "displayname": "Bobby"});
    let came = sets(&bob, &room, &bob, called.clone()).await.ok();
    assert!(came["event_id"].as_str().is_some_and(|id| id.starts_with('$')), "{came}");
    until("alice sees who came", async || (is(&alice, &room, &bob).await == called).then_some(())).await;
    bob.say(&room, "here I am").await;
    // An invite is declined.
    sets(&alice, &room, &carol, own("invite")).await.ok();
    invited(&carol).await;
    sets(&carol, &room, &carol, own("leave")).await.ok();
    until("alice sees it", async || (is(&alice, &room, &carol).await["membership"] == "leave").then_some(())).await;
    // Where their server is in the room, it comes in by itself.
    let open = alice.create_room(json!({"preset": "public_chat"})).await;
    bob.post(&format!("{V3}/join/{}?via={}", encode(&open), encode(&one.name)), json!({})).await.ok();
    sets(&carol, &open, &carol, own("join")).await.ok();
    carol.say(&open, "me too").await;
    until("alice sees it", async || (is(&alice, &open, &carol).await["membership"] == "join").then_some(())).await;
    assert_eq!(two.log().matches("entered !").count(), 2, "once each room");
}

/// Nobody invites faster by another way.
#[tokio::test]
async fn invites_are_limited_whichever_way_they_are_sent() {
    let server = Server::start_with("registration = \"open\"\n").await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = alice.create_room(json!({"preset": "private_chat"})).await;
    let mut sent = 0;
    let refused = loop {
        let answer = sets(&alice, &room, &bob, own("invite")).await;
        if answer.status != 200 {
            break answer;
        }
        sent += 1;
        assert!(sent < 200, "there is no limit");
    };
    refused.fails(429, "M_LIMIT_EXCEEDED");
    alice.say(&room, "but I may speak").await;
}
