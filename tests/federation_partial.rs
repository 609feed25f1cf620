//! Rooms of very many people are entered at once, and what is lacking of them comes afterwards: whatever
//! happens meanwhile.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::{Answer, Crowd, Says, Server, User, encode, federated, in_room, until};

/// What the server may take to read members that are told without end.
const MOST: u64 = 640 << 20;

pub async fn join(who: &User, crowd: &Crowd) -> Answer {
    let path = format!("/_matrix/client/v3/join/{}?via={}", encode(&crowd.room), encode(crowd.peer.name()));
    who.post(&path, json!({})).await
}

/// A crowd, and somebody of a server who has come in while nobody tells of its members.
pub async fn party(count: usize) -> (Server, User, Crowd) {
    let (server, crowd) = tokio::join!(federated("", ""), Crowd::gather(count));
    let bob = server.register("bob").await;
    join(&bob, &crowd).await.ok();
    (server, bob, crowd)
}

pub async fn bodies(user: &User, room: &str) -> Vec<String> {
    let page = user.get(&in_room(room, "messages?dir=b&limit=100")).await.ok();
    let chunk = page["chunk"].as_array().expect("a page");
    chunk.iter().filter_map(|event| event["content"]["body"].as_str()).map(str::to_owned).collect()
}

pub async fn hears(user: &User, room: &str, text: &str) {
    until(text, async || bodies(user, room).await.contains(&text.to_owned()).then_some(())).await;
}

/// How many people are in the room, once that can be said.
pub async fn joined(user: &User, room: &str) -> usize {
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

#[tokio::test]
async fn clients_are_told_that_members_are_still_to_come_and_once_that_they_are_there() {
    let (_server, bob, crowd) = party(300).await;
    let room = &crowd.room;
    // Also those that want to know of the members only what they need.
    let filter = encode(&json!({"room": {"state": {"lazy_load_members": true}}}).to_string());
    let news = async |since: &str| {
        let sync = bob.get(&format!("/_matrix/client/v3/sync?filter={filter}&timeout=0{since}")).await.ok();
        let since = format!("&since={}", sync["next_batch"].as_str().expect("a token"));
        (sync["rooms"]["join"][room].clone(), since)
    };
    let (seen, since) = news("").await;
    assert_eq!(seen["summary"]["chat.hearth.partial"], true);
    bob.say(room, "here I am").await;
    let (seen, since) = news(&since).await;
    assert_eq!(seen["summary"]["chat.hearth.partial"], true);
    crowd.tells();
    assert_eq!(joined(&bob, room).await, 301);
    let (seen, since) = news(&since).await;
    assert_eq!(seen["summary"]["chat.hearth.partial"], false);
    assert_eq!(seen["summary"]["m.joined_member_count"], 301);
    assert_eq!(seen["unread_notifications"]["notification_count"], 0);
    let (seen, since) = news(&since).await;
    assert!(seen.is_null(), "{seen}");
    bob.say(room, "so many").await;
    for since in [&since, ""] {
        let (seen, _) = news(since).await;
        assert!(seen["summary"]["chat.hearth.partial"].is_null(), "{seen}");
    }
}

#[tokio::test]
async fn a_crash_in_the_middle_loses_nothing() {
    let (mut server, bob, crowd) = party(1_000).await;
    let room = &crowd.room;
    let (_, said) = crowd.message(3, "before", &crowd.handed_in());
    crowd.send(&server, &[said]).await.ok();
    hears(&bob, room, "before").await;
    // What stands on something that nobody tells waits until the room is whole.
    let (id, lost) = crowd.message(4, "held", "$Zm9yZ2V0dGVuLWZvcmdvdHRlbi1mb3Jnb3R0ZW4tZm9");
    assert_eq!(crowd.send(&server, &[lost]).await.ok()["pdus"][&id], json!({}));
    assert!(!bodies(&bob, room).await.contains(&"held".to_owned()));
    server.kill9().await;
    server.resume().await;
    assert_eq!(bodies(&bob, room).await, ["before"]);
    let (_, said) = crowd.message(5, "after", &crowd.handed_in());
    crowd.send(&server, &[said]).await.ok();
    hears(&bob, room, "after").await;
    crowd.tells();
    for moment in [30, 120, 300, 600] {
        tokio::time::sleep(Duration::from_millis(moment)).await;
        server.kill9().await;
        server.resume().await;
        bob.say(room, &format!("alive after {moment}")).await;
    }
    assert_eq!(joined(&bob, room).await, 1_001);
    hears(&bob, room, "held").await;
    // What it stands on is missing, so the timeline begins anew with it, and bob's own coming is state.
    assert_eq!(members(state(&bob.sync(None, 0).await, room)), 1_001);
    for text in ["before", "after", "alive after 30", "alive after 600"] {
        hears(&bob, room, text).await;
    }
}

#[tokio::test]
async fn who_was_put_out_before_is_shown_out_once_that_is_known() {
    let (server, mut crowd) = tokio::join!(federated("", ""), Crowd::gather(20));
    crowd.bans(7);
    let bob = server.register("bob").await;
    join(&bob, &crowd).await.ok();
    let (room, banned) = (&crowd.room, crowd.person(7));
    // Nobody has told that they are banned, and what they show allows it.
    let (first, intruding) = crowd.message(7, "let me in", &crowd.handed_in());
    crowd.send(&server, &[intruding]).await.ok();
    hears(&bob, room, "let me in").await;
    let again = json!({"type": "m.room.member", "state_key": banned, "content": {"membership": "join", "x": 1}});
    let (second, again) = crowd.event(7, again, &first);
    crowd.send(&server, &[again]).await.ok();
    let (_, said) = crowd.message(3, "who is that", &second);
    crowd.send(&server, &[said]).await.ok();
    hears(&bob, room, "who is that").await;
    let path = in_room(room, &format!("state/m.room.member/{}", encode(&banned)));
    assert_eq!(bob.get(&path).await.ok()["membership"], "join");
    let since = bob.now().await;
    crowd.tells();
    assert_eq!(joined(&bob, room).await, 20);
    until("they are out", async || (bob.get(&path).await.body["membership"] == "ban").then_some(())).await;
    until("what they said is gone", async || (bodies(&bob, room).await == ["who is that"]).then_some(())).await;
    assert_eq!(joined(&bob, room).await, 20);
    let told = async || {
        let news = bob.sync(Some(&since), 0).await;
        let events = news["rooms"]["join"][room]["state"]["events"].as_array()?;
        let of = events.iter().find(|event| event["state_key"] == banned)?;
        (of["content"]["membership"] == "ban").then_some(())
    };
    until("clients are told", told).await;
    // What stands on it goes on, and they don't.
    let (_, more) = crowd.message(7, "hello again", &second);
    crowd.send(&server, &[more]).await.ok();
    let (_, said) = crowd.message(4, "good", &second);
    crowd.send(&server, &[said]).await.ok();
    hears(&bob, room, "good").await;
    assert_eq!(bodies(&bob, room).await, ["good", "who is that"]);
}

#[tokio::test]
async fn people_come_and_go_while_the_room_is_not_whole() {
    let (server, bob, crowd) = party(50).await;
    let (room, carol) = (&crowd.room, server.register("carol").await);
    join(&carol, &crowd).await.ok();
    carol.say(room, "me too").await;
    hears(&bob, room, "me too").await;
    assert_eq!(server.log().matches("entered !").count(), 1, "one room, entered once");
    // Nobody's membership is changed by who does not know it.
    let path = in_room(room, "kick");
    let kick = tokio::time::timeout(Duration::from_secs(1), bob.post(&path, json!({"user_id": crowd.person(3)})));
    assert!(kick.await.is_err(), "it waits");
    bob.leave(room).await;
    carol.say(room, "alone").await;
    carol.leave(room).await;
    crowd.tells();
    join(&bob, &crowd).await.ok();
    assert_eq!(joined(&bob, room).await, 51);
    let sync = bob.sync(None, 0).await;
    assert!(members(state(&sync, room)) >= 50, "{sync}");
    assert_eq!(sync["rooms"]["join"][room]["summary"]["m.joined_member_count"], 51);
}

#[tokio::test]
async fn servers_that_leave_nothing_out_or_lie_are_met() {
    let (server, crowd) = tokio::join!(federated("", ""), Crowd::gather(30));
    let (bob, room) = (server.register("bob").await, &crowd.room);
    let send_join = format!("/_matrix/federation/v2/send_join/{room}");
    let said = |omitted: bool, state: Vec<Value>| {
        let body = json!({"members_omitted": omitted, "servers_in_room": [], "state": state,
                          "auth_chain": [crowd.members[0]]});
        crowd.peer.says(&send_join, Says::Json(200, body));
    };
    // Without a beginning, without the rules, with a rule that somebody has changed.
    for kind in ["m.room.create", "m.room.power_levels", "m.room.join_rules"] {
        said(true, crowd.state.iter().filter(|event| event["type"] != kind).cloned().collect());
        join(&bob, &crowd).await.fails(502, "M_UNKNOWN");
        let mut forged = crowd.state.clone();
        forged.iter_mut().filter(|event| event["type"] == kind).for_each(|event| event["origin_server_ts"] = json!(7));
        said(true, forged);
        join(&bob, &crowd).await.fails(502, "M_UNKNOWN");
    }
    let sync = bob.sync(None, 0).await;
    assert!(sync["rooms"]["join"][room].is_null(), "{sync}");
    // Of the state it says afterwards the same is held.
    crowd.opens(true);
    let mut lie = crowd.whole();
    lie["pdus"].as_array_mut().expect("a list").retain(|event| event["type"] != "m.room.create");
    crowd.tells_else(Says::Json(200, lie));
    join(&bob, &crowd).await.ok();
    until("the lie is seen", async || server.log().contains("nobody tells the members").then_some(())).await;
    // Memberships that nobody has signed are none.
    let mut whole = crowd.whole();
    let mut forged = crowd.members[5].clone();
    forged["sender"] = json!(crowd.person(900));
    forged["state_key"] = json!(crowd.person(900));
    whole["pdus"].as_array_mut().expect("a list").push(forged);
    crowd.tells_else(Says::Json(200, whole));
    let all = joined(&bob, room).await;
    assert_eq!(all, 31);
    // One that leaves nothing out is asked nothing more.
    let other = Crowd::gather(30).await;
    other.opens(false);
    join(&bob, &other).await.ok();
    assert_eq!(joined(&bob, &other.room).await, 31);
    assert!(other.peer.asked("/_matrix/federation/v1/state/").is_empty());
}

/// Members are written down while others are still being looked at: if it then turns out that the state is none, nobody
/// is left of those who are not in the one that is told next.
#[tokio::test]
async fn nobody_is_left_of_a_state_that_turned_out_to_be_none() {
    let (server, crowd) = tokio::join!(federated("", ""), Crowd::gather(1_500));
    let (bob, room) = (server.register("bob").await, &crowd.room);
    crowd.opens(true);
    let without = |told: &mut Value, is_out: &dyn Fn(&Value) -> bool| {
        told["pdus"].as_array_mut().expect("a list").retain(|event| !is_out(event));
    };
    let mut lie = crowd.whole();
    lie["auth_chain"].as_array_mut().expect("a list").extend(crowd.state.iter().cloned());
    without(&mut lie, &|event| event["type"] == "m.room.create");
    crowd.tells_else(Says::Json(200, lie));
    join(&bob, &crowd).await.ok();
    until("the lie is seen", async || server.log().contains("nobody tells the members").then_some(())).await;
    let gone = [crowd.person(7), crowd.person(800)];
    let mut truth = crowd.whole();
    without(&mut truth, &|event| gone.iter().any(|user| event["state_key"] == **user));
    crowd.tells_else(Says::Json(200, truth));
    assert_eq!(joined(&bob, room).await, 1_499);
    for user in &gone {
        bob.get(&format!("/_matrix/client/v3/rooms/{room}/state/m.room.member/{user}")).await.fails(404, "M_NOT_FOUND");
    }
}

/// What a server tells of a room without its members may be wrong in any part: the room is entered with what is
/// right of it, or not at all.
#[tokio::test]
async fn of_a_room_without_its_members_what_is_forged_is_left_out() {
    let (server, crowd) = tokio::join!(federated("", ""), Crowd::gather(5));
    let (bob, room) = (server.register("bob").await, &crowd.room);
    let send_join = format!("/_matrix/federation/v2/send_join/{room}");
    let says = |servers: Value, state: &[Value], auth_chain: Value| {
        let body =
            json!({"members_omitted": true, "servers_in_room": servers, "state": state, "auth_chain": auth_chain});
        crowd.peer.says(&send_join, Says::Json(200, body));
    };
    // What allows the rules is not told.
    says(json!([crowd.peer.name()]), &crowd.state, json!([]));
    join(&bob, &crowd).await.fails(502, "M_UNKNOWN");
    says(json!([crowd.peer.name()]), &crowd.state, json!([crowd.members[1]]));
    join(&bob, &crowd).await.fails(502, "M_UNKNOWN");
    // One whose sender's membership is not told, one that nobody has signed, and what is none.
    let topic = |number| {
        let more = json!({"type": "m.room.topic", "state_key": "", "content": {"topic": "?"}});
        crowd.event(number, more, &crowd.end).1
    };
    let mut unsigned = topic(0);
    unsigned["signatures"] = json!({});
    let mut unnamed = topic(0);
    unnamed["type"] = json!("m.forged");
    let forged = [&crowd.state[..], &[topic(3), unsigned, unnamed, json!({"type": 7}), json!("x")]].concat();
    let servers = json!([7, "no name!", "x".repeat(400), {"a": 1}, crowd.peer.name(), "localhost:1"]);
    says(servers, &forged, json!([crowd.members[0]]));
    join(&bob, &crowd).await.ok();
    for kind in ["m.room.topic", "m.forged"] {
        bob.get(&in_room(room, &format!("state/{kind}/"))).await.fails(404, "M_NOT_FOUND");
    }
    // The servers that are named are told, those that are none hold up nobody.
    bob.say(room, "here I am").await;
    until("the crowd hears bob", async || {
        let asked = crowd.peer.asked("/_matrix/federation/v1/send/");
        let mut pdus = asked.iter().filter_map(|asked| asked.body["pdus"].as_array()).flatten();
        pdus.any(|pdu| pdu["content"]["body"] == "here I am").then_some(())
    })
    .await;
    crowd.tells();
    assert_eq!(joined(&bob, room).await, 6);
    bob.get(&in_room(room, "state/m.room.topic/")).await.fails(404, "M_NOT_FOUND");
}

/// A server that lets somebody in and then tells the members without end, or one member without end, is cut off;
/// the room is used meanwhile, and is whole once somebody tells what there is.
#[tokio::test]
async fn members_that_are_told_without_end_are_cut_off() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n";
    for text in ["{\"pdus\":[{\"x\":\"y", "{\"pdus\":[], \"auth_chain\": [ "] {
        let (server, crowd) = tokio::join!(federated("", ""), Crowd::gather(12));
        let (bob, room) = (server.register("bob").await, &crowd.room);
        crowd.tells_else(Says::Endless(format!("{head}{text}").into_bytes()));
        let memory = server.memory();
        join(&bob, &crowd).await.ok();
        bob.say(room, "here I am").await;
        let (line, began) = (format!("{} does not tell the members of {room}", crowd.peer.name()), Instant::now());
        let mut most = 0;
        while !server.log().contains(&line) {
            assert!(began.elapsed() < Duration::from_secs(240), "it is read for ever: {}", server.log());
            most = server.memory().max(most);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(most < memory + MOST, "{} bytes more", most.saturating_sub(memory));
        bob.say(room, "still here").await;
        crowd.tells();
        assert_eq!(joined(&bob, room).await, 13);
        assert_eq!(bodies(&bob, room).await, ["still here", "here I am"]);
    }
}

/// Of what a client shows of a room, and whose devices it follows, nothing is left out once the members are known.
#[tokio::test]
async fn names_and_devices_of_those_who_turn_out_to_be_there_are_told() {
    let (server, mut crowd) = tokio::join!(federated("", ""), Crowd::gather(4));
    crowd.is_nameless();
    let (bob, room) = (server.register("bob").await, &crowd.room);
    join(&bob, &crowd).await.ok();
    let summary = async |since: Option<&str>| {
        let sync = bob.sync(since, 0).await;
        (sync["rooms"]["join"][room]["summary"].clone(), sync)
    };
    let (known, sync) = summary(None).await;
    assert_eq!(known["chat.hearth.partial"], true, "{sync}");
    let since = sync["next_batch"].as_str().expect("a token").to_owned();
    crowd.tells();
    assert_eq!(joined(&bob, room).await, 5);
    let all: Vec<String> = (0..4).map(|number| crowd.person(number)).collect();
    let sorted = |list: &serde_json::Value| {
        let mut out: Vec<String> =
            list.as_array().into_iter().flatten().filter_map(|one| one.as_str().map(str::to_owned)).collect();
        out.sort();
        out
    };
    let mut expected = all.clone();
    expected.sort();
    let (told, sync) = summary(Some(&since)).await;
    assert_eq!(sorted(&told["m.heroes"]), expected, "{sync}");
    assert_eq!((&told["m.joined_member_count"], &told["chat.hearth.partial"]), (&json!(5), &json!(false)), "{sync}");
    let changed = sorted(&sync["device_lists"]["changed"]);
    let unknown: Vec<&String> = all.iter().filter(|person| !changed.contains(person)).collect();
    assert!(unknown.iter().all(|person| known["m.heroes"].to_string().contains(&***person)), "{changed:?}: {sync}");
    // From the beginning it is the same.
    let (first, sync) = summary(None).await;
    assert_eq!(sorted(&first["m.heroes"]), expected, "{sync}");
}

/// Clients of every kind have what is known of a room, and of who speaks in it, while its members are to come.
#[tokio::test]
async fn what_is_known_of_people_is_enough_to_read_them() {
    let (server, bob, crowd) = party(20).await;
    let (room, speaker) = (&crowd.room, crowd.person(7));
    let lazily = |since: &str| {
        let filter = json!({"room": {"state": {"lazy_load_members": true}, "timeline": {"lazy_load_members": true}}});
        format!("/_matrix/client/v3/sync?timeout=0&filter={}{since}", encode(&filter.to_string()))
    };
    let slide = async || {
        let room = json!({"required_state": [["m.room.member", "$LAZY"], ["m.room.name", ""]], "timeline_limit": 5});
        let body = json!({"lists": {}, "room_subscriptions": {&crowd.room: room}});
        bob.post("/_matrix/client/unstable/org.matrix.simplified_msc3575/sync?timeout=0", body).await.ok()
    };
    let first = bob.get(&lazily("")).await.ok();
    let since = format!("&since={}", encode(first["next_batch"].as_str().expect("a token")));
    assert_eq!(slide().await["rooms"][room]["name"], "Crowd");
    let (_, said) = crowd.message(7, "it is me", &crowd.handed_in());
    crowd.send(&server, &[said]).await.ok();
    hears(&bob, room, "it is me").await;
    let is_of = |event: &Value| event["state_key"] == json!(speaker) && event["content"]["membership"] == "join";
    let news = bob.get(&lazily(&since)).await.ok();
    assert!(state(&news, room).iter().any(is_of), "{news}");
    let seen = slide().await;
    let required = seen["rooms"][room]["required_state"].as_array().unwrap_or_else(|| panic!("no state: {seen}"));
    assert!(required.iter().any(is_of), "{seen}");
    // Whoever speaks has devices, which are asked for when a message is to be encrypted for them.
    let keys = json!({"device_keys": {&speaker: {"PHONE": {
        "user_id": speaker, "device_id": "PHONE", "algorithms": [], "keys": {}, "signatures": {}}}}});
    crowd.peer.says("/_matrix/federation/v1/user/keys/query", Says::Json(200, keys));
    let wanted = json!({"device_keys": {&speaker: []}});
    bob.post("/_matrix/client/v3/keys/query", wanted).await.ok();
    let asked = [
        crowd.peer.asked("/_matrix/federation/v1/user/keys/query"),
        crowd.peer.asked("/_matrix/federation/v1/user/devices/"),
    ];
    assert!(asked.iter().any(|asked| !asked.is_empty()), "their server is asked");
    // Once all are known, the rest is there for who asks, lazily still only who speaks.
    crowd.tells();
    assert_eq!(joined(&bob, room).await, 21);
    let whole = bob.get(&lazily("")).await.ok();
    assert!(members(state(&whole, room)) < 5, "{whole}");
    assert_eq!(whole["rooms"]["join"][room]["summary"]["m.joined_member_count"], 21);
    assert_eq!(slide().await["rooms"][room]["joined_count"], 21);
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

/// Not for every run, as before: what a room's state takes of memory, told to others and fetched from them.
#[tokio::test]
async fn what_a_large_state_takes() {
    let Some(count) = std::env::var("HEARTH_CROWD").ok().and_then(|count| count.parse().ok()) else { return };
    let (server, crowd) = tokio::join!(federated("", ""), Crowd::gather(count));
    let bob = server.register("bob").await;
    crowd.tells();
    server.forget_peak();
    let (idle, size) = (server.memory(), crowd.whole().to_string().len());
    join(&bob, &crowd).await.ok();
    assert_eq!(joined(&bob, &crowd.room).await, count + 1);
    println!("entered and made whole, {} KiB of text: {} KiB more", size / 1024, (server.peak() - idle) / 1024);
    let event = encode(&crowd.handed_in());
    for what in ["state", "state_ids"] {
        server.forget_peak();
        let (idle, began) = (server.memory(), Instant::now());
        let path = format!("/_matrix/federation/v1/{what}/{}?event_id={event}", encode(&crowd.room));
        let ask = || crowd.peer.ask(&server, reqwest::Method::GET, &path, None);
        let answers = tokio::join!(ask(), ask(), ask(), ask());
        let told = answers.0.ok()["auth_chain"].as_array().map_or(0, Vec::len);
        println!(
            "told {what} 4 times ({told}): {:?}, {} KiB more",
            began.elapsed(),
            server.peak().saturating_sub(idle) / 1024
        );
    }
    // A state in which as many are called something else as can be resolved.
    let others = count.min(4_000);
    let renamed: Vec<(String, Value)> = (0..others)
        .map(|number| {
            let who = crowd.person(number);
            let content = json!({"membership": "join", "displayname": format!("Number {number}")});
            let more = json!({"type": "m.room.member", "state_key": who, "content": content,
                              "auth_events": crowd.cites_to_change(crowd.membership(number))});
            crowd.made(number, more, &crowd.end)
        })
        .collect();
    let ids: Vec<String> = renamed.iter().map(|(id, _)| id.clone()).collect();
    let is_old = |id: &String| (0..others).any(|number| crowd.membership(number) == *id);
    let rest: Vec<String> = crowd.ids().iter().filter(|id| !is_old(id)).cloned().collect();
    crowd.names(&[rest, ids].concat(), &[]);
    let kept = crowd.state.iter().chain(&crowd.members[others..]).cloned();
    let pdus: Vec<Value> = kept.chain(renamed.into_iter().map(|(_, event)| event)).collect();
    crowd.tells_else(Says::Json(200, json!({"pdus": pdus, "auth_chain": []})));
    server.forget_peak();
    let (idle, began) = (server.memory(), Instant::now());
    let (_, said) = crowd.message(0, "far away", "$Zm9yZ2V0dGVuLWZvcmdvdHRlbi1mb3Jnb3R0ZW4tZm9");
    crowd.send(&server, &[said]).await.ok();
    until("it is judged", async || bodies(&bob, &crowd.room).await.contains(&"far away".to_owned()).then_some(()))
        .await;
    println!("fetched a state: {:?}, {} KiB more", began.elapsed(), server.peak().saturating_sub(idle) / 1024);
}
