//! Into rooms of other servers and out again, where it is not as simple as it mostly is.

use std::time::Duration;

use serde_json::{Value, json};

use crate::common::{Answer, Crowd, Peer, Says, Server, User, encode, federate, federated, in_room, until};

/// Joins by servers that may be in the room.
async fn join_by(who: &User, room: &str, via: &[&str]) -> Answer {
    let via: String = via.iter().map(|server| format!("via={}&", encode(server))).collect();
    who.post(&format!("/_matrix/client/v3/join/{}?{via}", encode(room)), json!({})).await
}

/// What somebody is to a room, as another one knows it.
async fn knows(who: &User, room: &str, other: &User, membership: &str) {
    let path = in_room(room, &format!("state/m.room.member/{}", encode(&other.id)));
    let look = async || (who.get(&path).await.body["membership"] == membership).then_some(());
    until(&format!("{} knows that {} is {membership}", who.id, other.id), look).await;
}

async fn public_room(who: &User) -> String {
    who.create_room(json!({"preset": "public_chat", "name": "Square"})).await
}

fn section<'a>(sync: &'a Value, membership: &str, room: &str) -> Option<&'a Value> {
    sync["rooms"][membership].get(room)
}

#[tokio::test]
async fn rooms_of_all_versions_are_entered_and_spoken_in() {
    let [one, two] = federate().await;
    let (alice, bob) = (one.register("alice").await, two.register("bob").await);
    for version in 6..=12 {
        let room = alice.create_room(json!({"preset": "private_chat", "room_version": version.to_string()})).await;
        alice.invite(&room, &bob).await;
        join_by(&bob, &room, &[]).await.ok();
        knows(&alice, &room, &bob, "join").await;
        bob.say(&room, "hello").await;
        let sync = bob.sync(None, 0).await;
        let state = section(&sync, "join", &room).expect("joined")["state"]["events"].as_array().expect("a list");
        let has = |kind: &str| state.iter().any(|event| event["type"] == kind);
        assert!(has("m.room.create") && has("m.room.power_levels"), "version {version}: {sync}");
    }
}

#[tokio::test]
async fn servers_that_are_gone_are_passed_over() {
    let [one, two] = federate().await;
    let (alice, bob) = (one.register("alice").await, two.register("bob").await);
    let room = public_room(&alice).await;
    join_by(&bob, &room, &["localhost:1", "localhost:2", &one.name]).await.ok();
    knows(&alice, &room, &bob, "join").await;
    join_by(&bob, "!nowhere:localhost", &["localhost:1"]).await.fails(502, "M_UNKNOWN");
    join_by(&bob, "!nowhere:localhost", &[&one.name]).await.fails(404, "M_NOT_FOUND");
    join_by(&bob, "!nowhere:localhost", &[]).await.fails(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn many_who_come_at_once_come_in_together() {
    let [one, two] = federate().await;
    let alice = one.register("alice").await;
    let room = public_room(&alice).await;
    let mut coming = tokio::task::JoinSet::new();
    for number in 0..5 {
        let who = two.register(&format!("guest{number}")).await;
        let (room, via) = (room.clone(), one.name.clone());
        coming.spawn(async move {
            join_by(&who, &room, &[&via]).await.ok();
            who
        });
    }
    for who in coming.join_all().await {
        knows(&alice, &room, &who, "join").await;
    }
    assert_eq!(two.log().matches("entered !").count(), 1, "one handshake is enough");
}

#[tokio::test]
async fn who_leaves_and_comes_again_finds_what_has_changed() {
    let [one, two] = federate().await;
    let (alice, bob) = (one.register("alice").await, two.register("bob").await);
    let room = public_room(&alice).await;
    join_by(&bob, &room, &[&one.name]).await.ok();
    bob.say(&room, "first").await;
    bob.leave(&room).await;
    knows(&alice, &room, &bob, "leave").await;
    alice.set_state(&room, "m.room.name", "", json!({"name": "Circle"})).await;
    alice.set_state(&room, "m.room.topic", "", json!({"topic": "news"})).await;
    join_by(&bob, &room, &[&one.name]).await.ok();
    let name = bob.get(&in_room(&room, "state/m.room.name/")).await.ok();
    assert_eq!(name["name"], "Circle");
    let sync = bob.sync(None, 0).await;
    let joined = section(&sync, "join", &room).expect("joined");
    let named = |event: &Value| event["type"] == "m.room.topic" && event["content"]["topic"] == "news";
    assert!(joined["state"]["events"].as_array().expect("a list").iter().any(named), "{joined}");
    bob.say(&room, "second").await;
    let heard = async || {
        let page = alice.get(&in_room(&room, "messages?dir=b&limit=20")).await;
        page.body["chunk"].as_array()?.iter().any(|event| event["content"]["body"] == "second").then_some(())
    };
    until("the second stay is heard", heard).await;
}

#[tokio::test]
async fn a_join_that_is_cut_off_leaves_nothing_half_visible() {
    let one = federated("", "").await;
    let mut two = federated("", "").await;
    let (alice, bob) = (one.register("alice").await, two.register("bob").await);
    let room = public_room(&alice).await;
    for round in 0..20 {
        alice.set_state(&room, "m.x", &round.to_string(), json!({"n": round})).await;
    }
    for moment in [0, 5, 20, 60] {
        let (who, to, via) = (bob.clone(), room.clone(), one.name.clone());
        let joining = tokio::spawn(async move {
            let via = format!("via={}", encode(&via));
            let path = format!("{}/_matrix/client/v3/join/{}?{via}", who.url, encode(&to));
            // The server dies under it.
            let _ = who.http.post(path).bearer_auth(who.token.unwrap_or_default()).body("{}").send().await;
        });
        tokio::time::sleep(Duration::from_millis(moment)).await;
        two.kill9().await;
        joining.await.expect("ends");
        two.resume().await;
        let sync = bob.sync(None, 0).await;
        if section(&sync, "join", &room).is_some() {
            let state = bob.get(&in_room(&room, "state")).await.ok();
            let pieces = state.as_array().expect("a list").iter().filter(|event| event["type"] == "m.x").count();
            assert_eq!(pieces, 20, "all of the room is there, or nothing");
        }
    }
    // What the last cut left under way at the other server may refuse the first attempt.
    until("bob comes in", async || (join_by(&bob, &room, &[&one.name]).await.status == 200).then_some(())).await;
    knows(&alice, &room, &bob, "join").await;
}

#[tokio::test]
async fn who_wants_no_invites_gets_none_from_elsewhere_either() {
    let [one, two] = federate().await;
    let (alice, bob) = (one.register("alice").await, two.register("bob").await);
    let path = format!("/_matrix/client/v3/user/{}/account_data/m.invite_permission_config", encode(&bob.id));
    bob.put(&path, json!({"default_action": "block"})).await.ok();
    let room = alice.create_room(json!({"invite": [bob.id]})).await;
    let invite = alice.post(&in_room(&room, "invite"), json!({"user_id": bob.id})).await;
    invite.fails(403, "M_INVITE_BLOCKED");
    let nobody = format!("@nobody:{}", two.name);
    alice.post(&in_room(&room, "invite"), json!({"user_id": nobody})).await.fails(403, "M_FORBIDDEN");
    bob.put(&path, json!({})).await.ok();
    let content = json!({"membership": "invite", "reason": "please"});
    alice.set_state(&room, "m.room.member", &bob.id, content).await;
    let invited = async || section(&bob.sync(None, 0).await, "invite", &room).map(drop);
    until("bob is invited", invited).await;
    rejected_while_nobody_is_there(one, &bob, &room).await;
}

/// An invitation can be declined when its server is gone for good.
async fn rejected_while_nobody_is_there(mut one: Server, bob: &User, room: &str) {
    one.kill9().await;
    bob.leave(room).await;
    let sync = bob.sync(None, 0).await;
    assert!(section(&sync, "invite", room).is_none(), "{sync}");
    bob.post(&in_room(room, "forget"), json!({})).await.ok();
}

/// A room of alice's on the first server that members of her space may join, and bob of the second one in it,
/// who may invite nobody.
async fn restricted(version: &str, rule: &str, alice: &User, bob: &User, one: &Server) -> (String, String) {
    let space = alice.create_room(json!({"preset": "public_chat", "creation_content": {"type": "m.space"}})).await;
    let allow = json!([{"type": "m.room_membership", "room_id": space}]);
    let rules = json!({"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": rule, "allow": allow}});
    let room = alice
        .create_room(json!({
            "preset": "private_chat", "room_version": version, "initial_state": [rules],
            "power_level_content_override": {"invite": 50},
        }))
        .await;
    alice.invite(&room, bob).await;
    join_by(bob, &room, &[&one.name]).await.ok();
    knows(alice, &room, bob, "join").await;
    (space, room)
}

#[tokio::test]
async fn another_server_vouches_for_who_nobody_here_may_let_in() {
    let [one, two, three] = federate().await;
    let (alice, bob) = (one.register("alice").await, two.register("bob").await);
    let (dave, frank, eve) = (two.register("dave").await, two.register("frank").await, three.register("eve").await);
    for (version, rule) in [("8", "restricted"), ("11", "knock_restricted"), ("12", "restricted")] {
        let (space, room) = restricted(version, rule, &alice, &bob, &one).await;
        alice.invite(&room, &eve).await;
        join_by(&eve, &room, &[&one.name]).await.ok();
        join_by(&dave, &space, &[&one.name]).await.ok();
        knows(&alice, &space, &dave, "join").await;
        // Dave's server is in the room, and nobody there may invite: alice's server vouches for him.
        join_by(&dave, &room, &[]).await.ok();
        for witness in [&alice, &bob, &eve] {
            knows(witness, &room, &dave, "join").await;
        }
        let member = in_room(&room, &format!("state/m.room.member/{}", encode(&dave.id)));
        let member = eve.get(&member).await.ok();
        assert_eq!(member["join_authorised_via_users_server"], alice.id.as_str(), "version {version}");
        dave.say(&room, "I am in").await;
        let heard = async || {
            let page = eve.get(&in_room(&room, "messages?dir=b&limit=5")).await;
            page.body["chunk"].as_array()?.iter().any(|event| event["content"]["body"] == "I am in").then_some(())
        };
        until("what dave says is heard", heard).await;
        // Frank is not in the space: nobody vouches for him, whomever he names.
        join_by(&frank, &room, &[&one.name, &three.name]).await.fails(403, "M_FORBIDDEN");
        assert!(section(&frank.sync(None, 0).await, "join", &room).is_none());
    }
}

#[tokio::test]
async fn who_is_in_no_such_space_knocks_and_members_of_it_walk_in() {
    let [one, two, three] = federate().await;
    let (alice, bob) = (one.register("alice").await, two.register("bob").await);
    let (grace, frank) = (three.register("grace").await, three.register("frank").await);
    let (space, room) = restricted("10", "knock_restricted", &alice, &bob, &one).await;
    join_by(&grace, &space, &[&one.name]).await.ok();
    // The first of her server: by a server that may let her in, after one that may not.
    join_by(&grace, &room, &[&two.name, &one.name]).await.ok();
    knows(&bob, &room, &grace, "join").await;
    join_by(&frank, &room, &[&one.name]).await.fails(403, "M_FORBIDDEN");
    let knock = format!("/_matrix/client/v3/knock/{}?via={}", encode(&room), encode(&one.name));
    frank.post(&knock, json!({"reason": "let me in"})).await.ok();
    knows(&alice, &room, &frank, "knock").await;
    knows(&bob, &room, &frank, "knock").await;
    alice.invite(&room, &frank).await;
    until("frank is invited", async || section(&frank.sync(None, 0).await, "invite", &room).map(drop)).await;
    join_by(&frank, &room, &[]).await.ok();
    for witness in [&alice, &bob, &grace] {
        knows(witness, &room, &frank, "join").await;
    }
}

/// Who knocks, and who declines an invite, is told of by the first server that can be had and knows the room.
#[tokio::test]
async fn knocks_and_refusals_go_by_the_first_server_that_takes_them() {
    let [one, mut two, three, four] = federate().await;
    let (alice, bob) = (one.register("alice").await, two.register("bob").await);
    let (carol, dave) = (three.register("carol").await, four.register("dave").await);
    let rule = json!({"type": "m.room.join_rules", "content": {"join_rule": "knock"}});
    let levels = json!({"invite": 0});
    let wish = json!({"preset": "private_chat", "initial_state": [rule], "power_level_content_override": levels});
    let room = alice.create_room(wish).await;
    alice.invite(&room, &bob).await;
    join_by(&bob, &room, &[]).await.ok();
    knows(&alice, &room, &bob, "join").await;
    let via = |servers: &[&str]| servers.iter().map(|server| format!("via={}&", encode(server))).collect::<String>();
    let knock = |servers: &[&str]| format!("/_matrix/client/v3/knock/{}?{}", encode(&room), via(servers));
    dave.post(&knock(&["localhost:1", &three.name]), json!({})).await.fails(404, "M_NOT_FOUND");
    dave.post(&knock(&["localhost:1", &three.name, &one.name]), json!({})).await.ok();
    knows(&alice, &room, &dave, "knock").await;
    // The server of who invites is gone: the one of who made the room is told.
    bob.invite(&room, &carol).await;
    until("carol is invited", async || section(&carol.sync(None, 0).await, "invite", &room).map(drop)).await;
    // Whoever does not know of the invite takes no refusal of it.
    knows(&alice, &room, &carol, "invite").await;
    two.kill9().await;
    carol.leave(&room).await;
    knows(&alice, &room, &carol, "leave").await;
}

/// Of the servers by which somebody wants to come in one is gone, one does not know the room, and one hands out a
/// template and then says nothing more: the next one is asked.
#[tokio::test]
async fn servers_that_are_gone_or_fall_silent_keep_nobody_out() {
    let (server, crowd, silent, ignorant) =
        tokio::join!(federated("", ""), Crowd::gather(5), Peer::start(), Peer::start());
    let (bob, room) = (server.register("bob").await, &crowd.room);
    let path = format!("/_matrix/federation/v1/make_join/{room}");
    silent.says(&path, Says::Json(200, crowd.template(&bob.id)));
    silent.says(&format!("/_matrix/federation/v2/send_join/{room}"), Says::Silence);
    join_by(&bob, room, &["localhost:1", ignorant.name(), silent.name(), crowd.peer.name()]).await.ok();
    assert_eq!(silent.asked("/_matrix/federation/v2/send_join/").len(), 1);
    assert_eq!(crowd.peer.asked("/_matrix/federation/v2/send_join/").len(), 1);
    bob.say(room, "here at last").await;
}
