//! What moderation does where other servers are concerned: rooms that are blocked, rooms that are taken down
//! while others are still to be told of them, people who stop typing without a word, and who vouches for whom.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    common::{Answer, Peer, Says, Server, User, encode, federate, in_room, repository, transaction, until},
    federation_hostile::{Guest, bodies, hears, party, party_at},
};

async fn join_by(user: &User, room: &str, server: &Server) -> Answer {
    let path = format!("/_matrix/client/v3/join/{}?via={}", encode(room), encode(&server.name));
    user.post(&path, json!({})).await
}

#[tokio::test]
async fn nobody_comes_into_a_blocked_room_by_another_server() {
    let [one, two] = federate().await;
    let alice = one.register("alice").await;
    let (root, bob) = (two.register("root").await, two.register("bob").await);
    let room = alice.create_room(json!({"preset": "public_chat"})).await;
    let block = format!("/_synapse/admin/v1/rooms/{}/block", encode(&room));
    root.put(&block, json!({"block": true})).await.ok();
    join_by(&bob, &room, &one).await.fails(403, "M_FORBIDDEN");
    let knock = format!("/_matrix/client/v3/knock/{}?via={}", encode(&room), encode(&one.name));
    bob.post(&knock, json!({})).await.fails(403, "M_FORBIDDEN");
    alice.post(&in_room(&room, "invite"), json!({"user_id": bob.id})).await.fails(403, "M_FORBIDDEN");
    let sync = bob.sync(None, 0).await;
    assert_eq!(sync["rooms"]["invite"].get(&room), None, "{sync}");
    root.put(&block, json!({"block": false})).await.ok();
    alice.post(&in_room(&room, "invite"), json!({"user_id": bob.id})).await.ok();
    join_by(&bob, &room, &one).await.ok();
}

#[tokio::test]
async fn who_wants_no_invites_gets_none_from_other_servers() {
    let [one, two] = federate().await;
    let (alice, bob) = (one.register("alice").await, two.register("bob").await);
    let room = alice.create_room(json!({"preset": "private_chat"})).await;
    let data = |kind: &str| format!("/_matrix/client/v3/user/{}/account_data/{kind}", encode(&bob.id));
    bob.put(&data("m.invite_permission_config"), json!({"default_action": "block"})).await.ok();
    let invite = async || alice.post(&in_room(&room, "invite"), json!({"user_id": bob.id})).await;
    invite().await.fails(403, "M_INVITE_BLOCKED");
    bob.put(&data("m.invite_permission_config"), json!({})).await.ok();
    let filters = data("org.matrix.msc4155.invite_permission_config");
    bob.put(&filters, json!({"blocked_servers": ["localhos?"], "allowed_users": ["@carol:*"]})).await.ok();
    invite().await.fails(403, "M_INVITE_BLOCKED");
    bob.put(&filters, json!({"blocked_servers": ["localhost"], "allowed_users": ["@alice:*"]})).await.ok();
    // Who is ignored may send one, which is not shown.
    bob.put(&data("m.ignored_user_list"), json!({"ignored_users": {(&*alice.id): {}}})).await.ok();
    invite().await.ok();
    let sync = bob.sync(None, 0).await;
    assert_eq!(sync["rooms"]["invite"].get(&room), None, "{sync}");
    bob.put(&data("m.ignored_user_list"), json!({"ignored_users": {}})).await.ok();
    let sync = bob.sync(None, 0).await;
    assert!(sync["rooms"]["invite"].get(&room).is_some(), "{sync}");
}

#[tokio::test]
async fn an_invite_that_is_taken_back_is_gone_on_the_other_server() {
    let [one, two] = federate().await;
    let (alice, bob) = (one.register("alice").await, two.register("bob").await);
    let room = alice.create_room(json!({"preset": "private_chat"})).await;
    alice.invite(&room, &bob).await;
    let is_invited = async || bob.sync(None, 0).await["rooms"]["invite"].get(&room).is_some();
    assert!(is_invited().await);
    alice.post(&in_room(&room, "kick"), json!({"user_id": bob.id})).await.ok();
    until("the invite is taken back", async || (!is_invited().await).then_some(())).await;
    join_by(&bob, &room, &one).await.fails(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn a_room_that_was_purged_holds_up_nothing_that_others_are_told() {
    let (one, alice, guest) = party().await;
    // The other server takes nothing for a while.
    guest.peer.says("/_matrix/federation/v1/send/", Says::Json(500, json!({})));
    for number in 0..5 {
        alice.say(&guest.room, &format!("lost {number}")).await;
    }
    until("the server was tried", async || {
        (!guest.peer.asked("/_matrix/federation/v1/send/").is_empty()).then_some(())
    })
    .await;
    let delete = format!("/_synapse/admin/v2/rooms/{}", encode(&guest.room));
    let removal = alice.request(Method::DELETE, &delete, Some(json!({"purge": true, "block": false}))).await.ok();
    let status = format!("/_synapse/admin/v2/rooms/delete_status/{}", removal["delete_id"].as_str().expect("an ID"));
    until("the room is taken down", async || (alice.get(&status).await.ok()["status"] == "complete").then_some(()))
        .await;
    guest.peer.says("/_matrix/federation/v1/send/", Says::Json(200, json!({"pdus": {}})));
    // It speaks again, and is told what there is to tell: that alice went.
    let version =
        guest.peer.ask(&one, Method::GET, "/_matrix/federation/v1/query/profile?user_id=%40x%3Ay", None).await;
    assert_eq!(version.status, 404);
    let told = until("the peer is told", async || {
        let asked = guest.peer.asked("/_matrix/federation/v1/send/").into_iter();
        let mut events = asked.flat_map(|asked| asked.body["pdus"].as_array().cloned().unwrap_or_default());
        events.find(|event| event["type"] == "m.room.member" && event["content"]["membership"] == "leave")
    })
    .await;
    assert_eq!(told["state_key"], json!(alice.id));
}

#[tokio::test]
async fn who_stops_typing_without_a_word_is_told_of_too() {
    let (_one, alice, guest) = party().await;
    guest.peer.says("/_matrix/federation/v1/send/", Says::Json(200, json!({"pdus": {}})));
    let path = in_room(&guest.room, &format!("typing/{}", encode(&alice.id)));
    alice.put(&path, json!({"typing": true, "timeout": 500})).await.ok();
    let told = |peer: &Peer| -> Vec<Value> {
        let asked = peer.asked("/_matrix/federation/v1/send/").into_iter();
        let edus = asked.flat_map(|asked| asked.body["edus"].as_array().cloned().unwrap_or_default());
        edus.filter(|edu| edu["edu_type"] == "m.typing").map(|edu| edu["content"]["typing"].clone()).collect()
    };
    until("it is told", async || (told(&guest.peer).last() == Some(&json!(false))).then_some(())).await;
}

#[tokio::test]
async fn anybody_here_may_vouch_where_everybody_may_invite() {
    let [one] = federate().await;
    let names = ["alice", "bob", "carol"];
    let [alice, bob, carol] = [0, 1, 2].map(|n| one.register(names[n]));
    let (alice, bob, carol) = (alice.await, bob.await, carol.await);
    let club = alice.create_room(json!({"preset": "public_chat"})).await;
    let rule = json!({"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": &club}]});
    let rule = json!({"type": "m.room.join_rules", "content": rule});
    let levels = json!({"invite": 0, "users": {(&*alice.id): 100}});
    let room = alice
        .create_room(json!({"initial_state": [rule], "room_version": "11", "power_level_content_override": levels,
            "invite": [bob.id]}))
        .await;
    bob.join(&room).await;
    // Nobody is left whose power is named.
    alice.leave(&room).await;
    let join = format!("/_matrix/client/v3/join/{}", encode(&room));
    carol.post(&join, json!({})).await.fails(403, "M_FORBIDDEN");
    carol.join(&club).await;
    carol.join(&room).await;
    let member = bob.get(&in_room(&room, &format!("state/m.room.member/{}", encode(&carol.id)))).await.ok();
    assert_eq!(member["join_authorised_via_users_server"], json!(bob.id));
}

const F: &str = "/_matrix/federation";

/// Endpoints between servers that are about no room that we are in.
const ELSEWHERE: &[&str] = &[
    "v1/media/",
    "v1/openid/",
    "v1/publicRooms",
    "v1/query/",
    "v1/user/",
    "v1/version",
    // Only for rooms of versions 1 and 2, of which there are none.
    "v1/invite/",
];

type Asking = (Method, String, Option<Value>);

/// What a guest may want of a room by each of the other endpoints; and the ID of the message that it sends.
fn all_ways(guest: &Guest, alice: &str, said: &str) -> (Vec<Asking>, String) {
    let (room, mallory) = (encode(&guest.room), encode(&guest.mallory));
    let eve = encode(&format!("@eve:{}", guest.peer.name()));
    let get = |path: String| (Method::GET, path, None);
    let put = |path: String, body: Value| (Method::PUT, path, Some(body));
    let member = |who: &str, membership: &str| {
        let who = format!("@{who}:{}", guest.peer.name());
        let more =
            json!({"type": "m.room.member", "state_key": who, "sender": who, "content": {"membership": membership}});
        let (id, event) = guest.message("", more);
        (id, event)
    };
    let ((join_id, join), (leave_id, leave)) = (member("eve", "join"), member("mallory", "leave"));
    let (knock_id, knock) = member("eve", "knock");
    let invite = json!({"type": "m.room.member", "state_key": alice, "content": {"membership": "invite"}});
    let (invite_id, invite) = guest.message("", invite);
    let invite = json!({"room_version": "11", "event": invite, "invite_room_state": []});
    let (message_id, message) = guest.message("let me", json!({}));
    let transaction = json!({"origin": guest.peer.name(), "origin_server_ts": 1, "pdus": [message]});
    let missing = json!({"earliest_events": [], "latest_events": [guest.end], "limit": 10});
    let table = vec![
        get(format!("{F}/v1/backfill/{room}?v={said}&limit=5")),
        get(format!("{F}/v1/event/{said}")),
        get(format!("{F}/v1/event_auth/{room}/{said}")),
        (Method::POST, format!("{F}/v1/get_missing_events/{room}"), Some(missing)),
        get(format!("{F}/v1/hierarchy/{room}")),
        get(format!("{F}/v1/make_join/{room}/{eve}?ver=11")),
        get(format!("{F}/v1/make_knock/{room}/{eve}?ver=11")),
        get(format!("{F}/v1/make_leave/{room}/{mallory}")),
        get(format!("{F}/v1/state/{room}?event_id={said}")),
        get(format!("{F}/v1/state_ids/{room}?event_id={said}")),
        get(format!("{F}/v1/timestamp_to_event/{room}?ts=1&dir=f")),
        put(format!("{F}/v1/send/shut-out"), transaction),
        put(format!("{F}/v1/send_knock/{room}/{}", encode(&knock_id)), knock),
        put(format!("{F}/v2/invite/{room}/{}", encode(&invite_id)), invite),
        put(format!("{F}/v2/send_join/{room}/{}", encode(&join_id)), join),
        put(format!("{F}/v2/send_leave/{room}/{}", encode(&leave_id)), leave),
    ];
    (table, message_id)
}

/// Holds such a table against the page of endpoints, so that none is forgotten.
fn is_complete(table: &[Asking]) {
    let page = std::fs::read_to_string(repository("spec/README.md")).expect("the page");
    let endpoints = page.lines().filter_map(|line| line.split('`').nth(1).filter(|path| path.starts_with(F)));
    for endpoint in endpoints {
        let begin = endpoint.split('{').next().expect("a path");
        let is_held = table.iter().any(|(_, path, _)| path.starts_with(begin));
        let is_elsewhere = ELSEWHERE.iter().any(|other| begin.starts_with(&format!("{F}/{other}")));
        assert!(is_held != is_elsewhere, "{endpoint}");
    }
}

#[tokio::test]
async fn a_server_that_is_shut_out_is_refused_wherever_it_asks_for_a_room() {
    let (server, alice, guest) = party().await;
    let said = encode(&alice.say(&guest.room, "before").await);
    let (table, message_id) = all_ways(&guest, &alice.id, &said);
    is_complete(&table);
    // As long as it is let in, it is told what may be asked for.
    for (method, path, _) in table.iter().filter(|(method, path, _)| *method == Method::GET && !path.contains("knock"))
    {
        guest.peer.ask(&server, method.clone(), path, None).await.ok();
    }
    alice.set_state(&guest.room, "m.room.server_acl", "", json!({"allow": ["*"], "deny": ["localhost"]})).await;
    for (method, path, body) in table {
        let answer = guest.peer.ask(&server, method, &path, body).await;
        match path.split('/').nth(4).expect("a path") {
            // That there is such a room, or event, is not for it to know.
            "event" | "hierarchy" => assert_eq!((answer.status, &answer.body["errcode"]), (404, &json!("M_NOT_FOUND"))),
            "send" => {
                let why = answer.ok()["pdus"][&message_id]["error"].as_str().map(str::to_owned);
                assert!(why.is_some_and(|why| why.contains("not allowed in the room")), "{path}");
            }
            _ => {
                assert_eq!((answer.status, &answer.body["errcode"]), (403, &json!("M_FORBIDDEN")), "{path}");
                assert!(
                    answer.body["error"].as_str().is_some_and(|why| why.contains("not allowed")),
                    "{path}: {}",
                    answer.body
                );
            }
        }
    }
}

/// Who has the power to do so takes back also what has not come here, or was shown to nobody here: it comes empty,
/// and other servers empty it.
#[tokio::test]
async fn what_is_not_here_is_taken_back_for_when_it_comes() {
    let [one, two] = federate().await;
    let (one, alice, guest) = party_at(one).await;
    let (bob, room) = (two.register("bob").await, &guest.room);
    join_by(&bob, room, &one).await.ok();
    let state = alice.get(&in_room(room, "state")).await.ok();
    let of_bob = state.as_array().expect("a list").iter().find(|event| event["state_key"] == json!(bob.id));
    let after = json!({"prev_events": [of_bob.expect("bob is there")["event_id"]]});
    let redact = async |user: &User, event: &str, of: &str| {
        user.put(&in_room(of, &format!("redact/{}/{}", encode(event), transaction())), json!({"reason": "spam"})).await
    };
    let event = async |user: &User, id: &str| user.get(&in_room(room, &format!("event/{}", encode(id)))).await;
    let hears_of = async |user: &User, redaction: &str| {
        until("the redaction", async || (event(user, redaction).await.status == 200).then_some(())).await;
    };
    let (id, spam) = guest.message("buy this", after.clone());
    // Others don't get to know that way what there is.
    redact(&bob, &id, room).await.fails(404, "M_NOT_FOUND");
    let elsewhere = alice.create_room(json!({})).await;
    redact(&alice, &alice.say(&elsewhere, "mine").await, room).await.fails(404, "M_NOT_FOUND");
    let redaction = redact(&alice, &id, room).await.ok()["event_id"].as_str().expect("an ID").to_owned();
    hears_of(&bob, &redaction).await;
    for (server, user) in [(&one, &alice), (&two, &bob)] {
        assert_eq!(guest.outcome(server, (id.clone(), spam.clone())).await, json!({}));
        let seen = event(user, &id).await.ok();
        assert_eq!(seen["content"], json!({}));
        assert_eq!(seen["unsigned"]["redacted_because"]["event_id"], json!(redaction), "{seen}");
        let sync = user.sync(None, 0).await;
        let unread = &sync["rooms"]["join"][room]["unread_notifications"]["notification_count"];
        assert_eq!(*unread, 0, "nobody is called for it");
        assert!(!sync.to_string().contains("buy this"));
    }
    // Bob's server has it from before the ban, alice's shows it to nobody.
    let (id, past) = guest.message("from the past", after);
    assert_eq!(guest.outcome(&two, (id.clone(), past.clone())).await, json!({}));
    hears(&bob, room, "from the past").await;
    alice.post(&in_room(room, "ban"), json!({"user_id": guest.mallory})).await.ok();
    assert_eq!(guest.outcome(&one, (id.clone(), past)).await, json!({}));
    event(&alice, &id).await.fails(404, "M_NOT_FOUND");
    let redaction = redact(&alice, &id, room).await.ok()["event_id"].as_str().expect("an ID").to_owned();
    hears_of(&bob, &redaction).await;
    assert_eq!(event(&bob, &id).await.ok()["content"], json!({}));
    assert!(!bodies(&bob, room).await.contains(&"from the past".to_owned()));
    event(&alice, &id).await.fails(404, "M_NOT_FOUND");
}
