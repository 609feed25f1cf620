//! Whoever is not sure whether a request arrived sends it again: it has happened once, with the same answer. Also
//! when both arrive at once, and when the server was killed in between.
//! spec: client-server-api#transaction-identifiers

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    common::{Server, User, encode, in_room},
    doors,
};

/// A request with a transaction ID of its own, as the spec has them.
#[derive(Clone, Debug)]
struct Put {
    path: String,
    body: Value,
}

impl Put {
    async fn by(&self, user: &User) -> Value {
        user.put(&self.path, self.body.clone()).await.ok()
    }
}

/// One of each kind.
fn all(room: &str, said: &str, bob: &User) -> Vec<Put> {
    let to_device = json!({"messages": {(&*bob.id): {(&*bob.device): {"once": true}}}});
    let text = |text: &str| json!({"msgtype": "m.text", "body": text});
    let reaction = json!({"m.relates_to": {"rel_type": "m.annotation", "event_id": said, "key": "+"}});
    let later = json!({"delay_ms": 3_600_000, "content": {}});
    let old = format!("/_matrix/client/unstable/org.matrix.msc4140/rooms/{}/delayed_event/m.once/six", encode(room));
    let notice = json!({"user_id": bob.id, "content": text("once")});
    [
        (in_room(room, "send/m.room.message/one"), text("once")),
        (in_room(room, "send/m.reaction/two"), reaction),
        (in_room(room, &format!("redact/{}/three", encode(said))), json!({"reason": "once"})),
        ("/_matrix/client/v3/sendToDevice/m.once/four".to_owned(), to_device),
        (in_room(room, "delayed_event/m.once/five"), later.clone()),
        (old, later),
        ("/_synapse/admin/v1/send_server_notice/seven".to_owned(), notice),
    ]
    .into_iter()
    .map(|(path, body)| Put { path, body })
    .collect()
}

/// Whether a path is one of those that a door is for.
fn fits(door: &str, path: &str) -> bool {
    let path = path.split('?').next().unwrap_or_default();
    let fits = |(wanted, found): (&str, &str)| wanted.starts_with('{') || wanted == found;
    door.split('/').count() == path.split('/').count() && door.split('/').zip(path.split('/')).all(fits)
}

/// The doors by which something is put, each once, of which none of these paths is one.
fn left_out(paths: &[&str], wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let doors = doors::doors();
    // Under the older prefix there is the same again.
    let is_again = |path: &str| {
        let newer = path.replacen("/_matrix/client/unstable/", "/_matrix/client/v3/", 1);
        newer != path && doors.iter().any(|(_, other, _)| *other == newer)
    };
    let puts = doors.iter().filter(|(method, path, who)| *method == Method::PUT && who != "server" && !is_again(path));
    let missing = puts.filter(|(_, door, _)| wanted(door) && !paths.iter().any(|path| fits(door, path)));
    missing.map(|(_, door, _)| door.clone()).collect()
}

/// How many events of each type there are in the room.
async fn counts(user: &User, room: &str) -> Value {
    let page = user.get(&in_room(room, "messages?dir=b&limit=100")).await.ok();
    let mut counts = json!({});
    for event in page["chunk"].as_array().expect("a chunk") {
        let kind = event["type"].as_str().expect("a type");
        counts[kind] = json!(counts[kind].as_u64().unwrap_or(0) + 1);
    }
    counts
}

#[tokio::test]
async fn what_is_sent_twice_happens_once() {
    let mut server = Server::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = alice.create_room(json!({"preset": "public_chat"})).await;
    bob.join(&room).await;
    let said = alice.say(&room, "a slip").await;
    let before = bob.now().await;

    let puts = all(&room, &said, &bob);
    let tried: Vec<&str> = puts.iter().map(|put| put.path.as_str()).collect();
    assert_eq!(left_out(&tried, |door| door.contains("{txn_id}")), Vec::<String>::new());
    let mut first = Vec::new();
    for put in &puts {
        // All at once: one of them does it, and the others hear of that one.
        let copies = (0..8).map(|_| put.by(&alice));
        let answers = futures_util::future::join_all(copies).await;
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{put:?}: {answers:?}");
        first.push(answers[0].clone());
    }
    let once = counts(&alice, &room).await;
    assert_eq!(
        (&once["m.room.message"], &once["m.reaction"], &once["m.room.redaction"]),
        (&json!(2), &json!(1), &json!(1))
    );

    server.kill9().await;
    server.resume().await;
    for (put, first) in puts.iter().zip(&first) {
        assert_eq!(put.by(&alice).await, *first, "{put:?} after a crash");
        // Another body under the same ID is the same request all the same, if it is one at all.
        if ["delayed_event", "server_notice"].iter().any(|own| put.path.contains(own)) {
            continue;
        }
        let other = Put { body: json!({"messages": {}, "msgtype": "m.text", "body": "?"}), ..put.clone() };
        assert_eq!(other.by(&alice).await, *first, "{put:?} with another body");
    }
    assert_eq!(counts(&alice, &room).await, once);
    let waiting = alice.get("/_matrix/client/v1/delayed_events").await.ok();
    assert_eq!(waiting["delayed_events"].as_array().map(Vec::len), Some(2), "{waiting}");
    let sync = bob.sync(Some(&before), 0).await;
    assert_eq!(sync["to_device"]["events"].as_array().map(Vec::len), Some(1), "{}", sync["to_device"]);

    // The ID is this device's: on another it is another request.
    let other = puts[0].by(&server.login("alice").await).await;
    assert_ne!(other["event_id"], first[0]["event_id"], "on another device");
}

#[tokio::test]
async fn what_is_set_again_is_as_it_was() {
    let server = Server::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = alice.create_room(json!({"preset": "public_chat"})).await;
    let (me, here) = (encode(&alice.id), encode(&room));
    let rule = format!("/_matrix/client/v3/pushrules/global/room/{here}");
    let own = |path: &str| format!("/_matrix/client/unstable/uk.tcpip.msc4133/profile/{me}/{path}");
    let puts = [
        (in_room(&room, "state/m.room.topic"), json!({"topic": "again"})),
        (in_room(&room, "state/m.room.topic/"), json!({"topic": "again"})),
        (format!("/_matrix/client/v3/user/{me}/account_data/chat.test"), json!({"a": 1})),
        (format!("/_matrix/client/v3/user/{me}/rooms/{here}/account_data/chat.test"), json!({"a": 1})),
        (format!("/_matrix/client/v3/user/{me}/rooms/{here}/tags/u.again"), json!({"order": 0.5})),
        (format!("/_matrix/client/v3/profile/{me}/displayname"), json!({"displayname": "Again"})),
        (own("m.tz"), json!({"m.tz": "Asia/Seoul"})),
        (format!("/_matrix/client/v3/presence/{me}/status"), json!({"presence": "online"})),
        (in_room(&room, &format!("typing/{me}")), json!({"typing": true, "timeout": 20000})),
        ("/_matrix/client/v3/directory/list/room/".to_owned() + &here, json!({"visibility": "public"})),
        (rule.clone(), json!({"actions": []})),
        (rule.clone() + "/enabled", json!({"enabled": false})),
        (rule + "/actions", json!({"actions": ["notify"]})),
        ("/_matrix/client/v3/devices/".to_owned() + &alice.device, json!({"display_name": "Desk"})),
    ];
    // What is put only once, or by who proves more than an account, is tried where it is at home.
    let elsewhere = [
        "{txn_id}",
        "{room_alias}",
        "/upload/",
        "/rendezvous/",
        "/appservice/",
        "/dehydrated_device",
        "/room_keys/",
        "/admin/",
    ];
    let tried: Vec<&str> = puts.iter().map(|(path, _)| path.as_str()).collect();
    let wanted = |door: &str| !elsewhere.iter().any(|part| door.contains(part));
    assert_eq!(left_out(&tried, wanted), Vec::<String>::new());
    for (path, body) in &puts {
        let answers = futures_util::future::join_all((0..4).map(|_| alice.put(path, body.clone()))).await;
        let answers: Vec<_> = answers.into_iter().map(crate::common::Answer::ok).collect();
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{path}: {answers:?}");
    }
    // The room knows of each change once: of the topic (by two paths), and of the name that came with the profile.
    let counts = counts(&alice, &room).await;
    assert_eq!((&counts["m.room.topic"], &counts["m.room.member"]), (&json!(1), &json!(2)), "{counts}");

    // To be there already is as good as to come.
    let join = in_room(&room, "join");
    for _ in 0..2 {
        let joins = futures_util::future::join_all((0..4).map(|_| bob.post(&join, json!({})))).await;
        assert!(joins.into_iter().all(|join| join.ok()["room_id"] == room.as_str()));
    }
    let page = bob.get(&in_room(&room, "members")).await.ok();
    assert_eq!(page["chunk"].as_array().map(Vec::len), Some(2));
}
