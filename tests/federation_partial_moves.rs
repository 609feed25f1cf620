//! Rooms whose members are still to come: people of ours are put out of them, the rooms move elsewhere, and people
//! go and come back meanwhile.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    common::{Crowd, Says, Server, User, encode, federated, in_room, until},
    federation_outbox::database,
    federation_partial::{bodies, hears, join, joined, party},
};
use hearth::store::tables;

/// How soon what is known is seen: much sooner than the members of a room are given up.
const SOON: Duration = Duration::from_secs(10);

/// The room's maker puts somebody out whose membership and what comes before are named: the event's ID.
async fn puts_out(crowd: &Crowd, server: &Server, (who, was): (&User, &str), membership: &str, after: &str) -> String {
    let mut cites = crowd.cites(crowd.membership(0));
    cites.as_array_mut().expect("a list").push(json!(was));
    let content = json!({"membership": membership, "reason": "enough"});
    let event = json!({"type": "m.room.member", "state_key": who.id, "content": content, "auth_events": cites});
    let (id, event) = crowd.event(0, event, after);
    assert_eq!(crowd.send(server, &[event]).await.ok()["pdus"][&id], json!({}));
    id
}

/// Waits until somebody is shown that they are out of a room, and answers by which event.
async fn is_out(who: &User, since: &str, room: &str) -> Value {
    until("they are shown that they are out", async || {
        let sync = who.sync(Some(since), 0).await;
        let events = sync["rooms"]["leave"][room]["timeline"]["events"].as_array().cloned()?;
        events.into_iter().rfind(|event| event["state_key"] == json!(who.id))
    })
    .await
}

async fn membership(who: &User, room: &str, of: &str) -> Value {
    who.get(&in_room(room, &format!("state/m.room.member/{}", encode(of)))).await.body["membership"].clone()
}

/// What others are told, of an event type.
fn told(crowd: &Crowd, kind: &str) -> Vec<Value> {
    let asked = crowd.peer.asked("/_matrix/federation/v1/send/");
    let pdus = asked.iter().filter_map(|asked| asked.body["pdus"].as_array()).flatten();
    pdus.filter(|pdu| pdu["type"] == kind).cloned().collect()
}

#[tokio::test]
async fn who_is_kicked_or_banned_meanwhile_sees_it_at_once_and_the_others_go_on() {
    let (server, bob, crowd) = party(20).await;
    let room = &crowd.room;
    let (carol, dora) = (server.register("carol").await, server.register("dora").await);
    let mut after = crowd.handed_in();
    for (who, does) in [(&carol, "leave"), (&dora, "ban")] {
        join(who, &crowd).await.ok();
        let was = crowd.handed_in();
        who.say(room, "hello").await;
        let since = who.now().await;
        after = puts_out(&crowd, &server, (who, &was), does, &was).await;
        let seen = is_out(who, &since, room).await;
        assert_eq!((&seen["event_id"], &seen["content"]["reason"]), (&json!(after), &json!("enough")));
        assert_eq!(membership(&bob, room, &who.id).await, does, "the others see it too");
        let path = in_room(room, "send/m.room.message/x");
        who.put(&path, json!({"msgtype": "m.text", "body": "I won't go"})).await.fails(403, "M_FORBIDDEN");
    }
    bob.say(room, "they are gone").await;
    crowd.tells();
    assert_eq!(joined(&bob, room).await, 21);
    for (who, is) in [(&carol, "leave"), (&dora, "ban")] {
        until("it stays so", async || (membership(&bob, room, &who.id).await == is).then_some(())).await;
    }
    // Whoever was kicked may come again, as the room is open, and who was banned may not.
    let (_, said) = crowd.message(3, "good", &after);
    crowd.send(&server, &[said]).await.ok();
    hears(&bob, room, "good").await;
    join(&dora, &crowd).await.fails(403, "M_FORBIDDEN");
    join(&carol, &crowd).await.ok();
    assert_eq!(joined(&bob, room).await, 22);
}

/// Once the last of ours is put out nobody asks for the members any more: who waits for them is told what is known,
/// other rooms have their turn, and whoever comes in again has all of the room.
#[tokio::test]
async fn a_room_that_the_last_of_ours_is_put_out_of_is_given_up() {
    let (mut server, bob, crowd) = party(20).await;
    let (room, was) = (&crowd.room, crowd.handed_in());
    bob.say(room, "here I am").await;
    until("the members are asked for", async || crowd.peer.asked("/_matrix/federation/v1/state/").pop()).await;
    // What stands on something that nobody tells is kept until the room is whole.
    let (id, held) = crowd.message(4, "held", "$Zm9yZ2V0dGVuLWZvcmdvdHRlbi1mb3Jnb3R0ZW4tZm9");
    assert_eq!(crowd.send(&server, &[held]).await.ok()["pdus"][&id], json!({}));
    let (waiting, of) = (bob.clone(), room.clone());
    let waiting = tokio::spawn(async move {
        let began = Instant::now();
        let answer = waiting.get(&in_room(&of, "members")).await;
        (answer, began.elapsed())
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let since = bob.now().await;
    let kick = puts_out(&crowd, &server, (&bob, &was), "leave", &was).await;
    assert_eq!(is_out(&bob, &since, room).await["event_id"], json!(kick));
    let (answer, took) = waiting.await.expect("ends");
    assert!(took < SOON, "{took:?}");
    let members = answer.ok();
    let own = members["chunk"].as_array().expect("a list").iter().find(|event| event["state_key"] == json!(bob.id));
    assert_eq!(own.expect("bob is known")["content"]["membership"], "leave", "{members}");
    assert_eq!(bodies(&bob, room).await, ["here I am"]);
    // Nothing is held any more, by that room or for it.
    let line = format!("{room} is left");
    until("it is given up", async || server.log().contains(&line).then_some(())).await;
    let (began, other) = (Instant::now(), Crowd::gather(5).await);
    other.tells();
    join(&bob, &other).await.ok();
    assert_eq!(joined(&bob, &other.room).await, 6);
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    assert!(server.stop().await.success());
    let store = database(&server);
    assert_eq!(store.read(|tx| tables::ARRIVED.len(tx)).expect("read"), 0);
    store.close().await;
    drop(store);
    server.resume().await;
    // Who comes again begins anew.
    crowd.tells();
    join(&bob, &crowd).await.ok();
    assert_eq!(joined(&bob, room).await, 21);
    bob.say(room, "here again").await;
    assert_eq!(bodies(&bob, room).await[0], "here again");
    assert!(!bodies(&bob, room).await.contains(&"held".to_owned()));
}

#[tokio::test]
async fn a_room_that_moves_elsewhere_meanwhile_says_so() {
    let (server, bob, crowd) = party(20).await;
    let (room, since) = (&crowd.room, bob.now().await);
    let content = json!({"body": "we have moved", "replacement_room": "!new:example.org"});
    let (id, moved) =
        crowd.event(0, json!({"type": "m.room.tombstone", "state_key": "", "content": content}), &crowd.handed_in());
    crowd.send(&server, &[moved]).await.ok();
    until("it is seen", async || {
        let sync = bob.sync(Some(&since), 0).await;
        let events = sync["rooms"]["join"][room]["timeline"]["events"].as_array().cloned()?;
        events.into_iter().find(|event| event["event_id"] == json!(id))
    })
    .await;
    let path = in_room(room, "state/m.room.tombstone/");
    assert_eq!(bob.get(&path).await.ok(), content);
    crowd.tells();
    assert_eq!(joined(&bob, room).await, 21);
    assert_eq!(bob.get(&path).await.ok(), content);
}

/// An upgrade needs to know nobody else of the room.
#[tokio::test]
async fn who_may_moves_the_room_elsewhere_while_it_is_not_whole() {
    let (server, bob, crowd) = party(20).await;
    let room = &crowd.room;
    let path = in_room(room, "upgrade");
    bob.post(&path, json!({"new_version": "12"})).await.fails(403, "M_FORBIDDEN");
    let levels = json!({"users": {crowd.person(0): 100, bob.id.clone(): 100}});
    let event = json!({"type": "m.room.power_levels", "state_key": "", "content": levels});
    let (_, event) = crowd.event(0, event, &crowd.handed_in());
    crowd.send(&server, &[event]).await.ok();
    let has_power = async || {
        let known = bob.get(&in_room(room, "state/m.room.power_levels/")).await.body;
        (known["users"][&bob.id] == 100).then_some(())
    };
    until("bob has the power", has_power).await;
    let new = bob.post(&path, json!({"new_version": "12"})).await.ok()["replacement_room"].clone();
    let new = new.as_str().expect("a room").to_owned();
    bob.say(&new, "we are here now").await;
    let name = bob.get(&in_room(&new, "state/m.room.name/")).await.ok();
    assert_eq!(name["name"], "Crowd");
    let tombstone = until("the others are told", async || told(&crowd, "m.room.tombstone").pop()).await;
    assert_eq!(tombstone["content"]["replacement_room"], json!(new));
    crowd.tells();
    assert_eq!(joined(&bob, room).await, 21);
    let known = bob.get(&in_room(room, "state/m.room.tombstone/")).await.ok();
    assert_eq!(known["replacement_room"], json!(new), "it stands once all are known");
}

#[tokio::test]
async fn who_goes_and_comes_back_meanwhile_is_there_as_if_all_had_been_known() {
    let (server, bob, crowd) = party(20).await;
    let (room, carol) = (&crowd.room, server.register("carol").await);
    join(&carol, &crowd).await.ok();
    carol.say(room, "first").await;
    carol.leave(room).await;
    assert_eq!(membership(&bob, room, &carol.id).await, "leave");
    carol.put(&in_room(room, "send/m.room.message/x"), json!({"body": "?"})).await.fails(403, "M_FORBIDDEN");
    join(&carol, &crowd).await.ok();
    assert_eq!(membership(&bob, room, &carol.id).await, "join");
    carol.say(room, "second").await;
    hears(&bob, room, "second").await;
    crowd.tells();
    assert_eq!(joined(&bob, room).await, 22);
    carol.say(room, "third").await;
    assert_eq!(bodies(&bob, room).await, ["third", "second", "first"]);
    // The second look changes nothing.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(membership(&bob, room, &carol.id).await, "join");
    assert_eq!(joined(&carol, room).await, 22);
}

/// Of an earlier stay nothing is left but what is so still; and it is forgotten only for something better: a server that
/// hands over what is no room takes nothing away, not even from where it is known who is in the room.
#[tokio::test]
async fn who_comes_back_after_all_of_ours_went_finds_the_room_as_it_is_now() {
    let (_server, bob, mut crowd) = party(10).await;
    let room = crowd.room.clone();
    crowd.tells();
    assert_eq!(joined(&bob, &room).await, 11);
    bob.leave(&room).await;
    let (banned, gone) = (crowd.person(7), crowd.person(5));
    crowd.bans(7);
    let mut now = crowd.whole();
    now["pdus"].as_array_mut().expect("a list").retain(|event| event["state_key"] != *gone);
    crowd.tells_else(Says::Json(200, now));
    let none = json!({"members_omitted": true, "servers_in_room": [], "state": [], "auth_chain": []});
    crowd.peer.says(&format!("/_matrix/federation/v2/send_join/{room}"), Says::Json(200, none));
    join(&bob, &crowd).await.fails(502, "M_UNKNOWN");
    crowd.opens(true);
    bob.post(&format!("/_matrix/client/v3/join/{}", encode(&room)), json!({})).await.ok();
    assert_eq!(joined(&bob, &room).await, 9);
    assert_eq!(membership(&bob, &room, &banned).await, "ban");
    assert_eq!(membership(&bob, &room, &gone).await, Value::Null);
    assert_eq!(membership(&bob, &room, &crowd.person(6)).await, "join");
}

/// Of very many rooms that are entered at once some are asked for at a time; those whose servers take long hold up no
/// others, as long as there are places.
#[tokio::test]
async fn eight_rooms_are_asked_for_at_once() {
    let server = federated("", "").await;
    let bob = server.register("bob").await;
    let mut crowds = Vec::new();
    for _ in 0..10 {
        let crowd = Crowd::gather(3).await;
        join(&bob, &crowd).await.ok();
        crowds.push(crowd);
    }
    let is_asked = |crowd: &&Crowd| !crowd.peer.asked("/_matrix/federation/v1/state/").is_empty();
    let asked = |count: usize| {
        let crowds = &crowds;
        until("so many are asked", async move || (crowds.iter().filter(is_asked).count() == count).then_some(()))
    };
    asked(8).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    asked(8).await;
    let last = crowds.iter().rfind(is_asked).expect("one that is asked");
    last.tells();
    assert_eq!(joined(&bob, &last.room).await, 4);
    asked(9).await;
    crowds.iter().for_each(Crowd::tells);
    for crowd in &crowds {
        assert_eq!(joined(&bob, &crowd.room).await, 4);
    }
}
