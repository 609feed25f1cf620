//! Who wants to be forgotten, and what is left of them: nothing of what they uploaded, and of what they said
//! nothing that those find who came later, by any way.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    common::{Server, User, encode, in_room, until},
    media::{bytes, files_in, place, request, upload},
    websocket::Socket,
};

const DOWNLOAD: &str = "/_matrix/client/v1/media/download";

/// The administrator's path to what somebody has uploaded.
fn uploads(user: &User) -> String {
    format!("/_synapse/admin/v1/users/{}/media", encode(&user.id))
}

async fn erase(user: &User, name: &str) {
    let auth = json!({"type": "m.login.password", "identifier": {"type": "m.id.user", "user": name},
        "password": Server::password(name)});
    user.post("/_matrix/client/v3/account/deactivate", json!({"erase": true, "auth": auth})).await.ok();
}

/// Whether a file can be had.
async fn has(user: &User, place: &str) -> bool {
    let (status, ..) = bytes(request(user, Method::GET, &format!("{DOWNLOAD}/{place}"))).await;
    assert!([200, 404].contains(&status), "{status}");
    status == 200
}

fn names(page: &Value) -> Vec<&str> {
    let all = page["media"].as_array().expect("a list");
    all.iter().map(|upload| upload["upload_name"].as_str().expect("a name")).collect()
}

#[tokio::test]
async fn administrators_list_and_remove_what_somebody_has_uploaded() {
    let server = Server::start().await;
    let (root, alice, bob) =
        (server.register("root").await, server.register("alice").await, server.register("bob").await);
    let mut places = Vec::new();
    for (name, size) in [("b", 30), ("c", 10), ("a", 20)] {
        let body = vec![b'x'; size];
        places.push(place(&upload(&alice, &format!("?filename={name}"), "text/plain", body).await.ok()));
        // So that each has a time of its own.
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    let same = place(&upload(&bob, "?filename=a", "text/plain", vec![b'x'; 20]).await.ok());
    alice.post("/_matrix/media/v1/create", json!({})).await.ok();

    let page = root.get(&uploads(&alice)).await.ok();
    assert_eq!((names(&page), &page["total"], page.get("next_token")), (vec!["a", "c", "b"], &json!(3), None));
    let first = &page["media"][0];
    let id = places[2].rsplit_once('/').expect("an ID").1;
    assert_eq!(
        (&first["media_id"], &first["media_length"], &first["media_type"]),
        (&json!(id), &json!(20), &json!("text/plain"))
    );
    assert!(first["created_ts"].as_u64().is_some_and(|at| at > 1_600_000_000_000), "{first}");
    for (query, expected) in [
        ("order_by=created_ts", ["b", "c", "a"]),
        ("dir=b", ["a", "c", "b"]),
        ("order_by=upload_name", ["a", "b", "c"]),
        ("order_by=media_length&dir=b", ["b", "a", "c"]),
        ("dir=f", ["b", "c", "a"]),
    ] {
        let page = root.get(&format!("{}?{query}", uploads(&alice))).await.ok();
        assert_eq!(names(&page), expected, "{query}");
    }
    let some = root.get(&format!("{}?limit=2&order_by=upload_name", uploads(&alice))).await.ok();
    assert_eq!((names(&some), &some["next_token"], &some["total"]), (vec!["a", "b"], &json!(2), &json!(3)));
    let rest = root.get(&format!("{}?from=2&order_by=upload_name", uploads(&alice))).await.ok();
    assert_eq!((names(&rest), rest.get("next_token")), (vec!["c"], None));
    for bad in ["order_by=colour", "dir=up", "limit=-1", "from=x"] {
        root.get(&format!("{}?{bad}", uploads(&alice))).await.fails(400, "M_INVALID_PARAM");
    }
    alice.get(&uploads(&alice)).await.fails(403, "M_FORBIDDEN");
    alice.delete(&uploads(&alice)).await.fails(403, "M_FORBIDDEN");
    root.get("/_synapse/admin/v1/users/@nobody:localhost/media").await.fails(404, "M_NOT_FOUND");
    root.get("/_synapse/admin/v1/users/@alice:elsewhere/media").await.fails(400, "M_INVALID_PARAM");

    let gone = root.delete(&format!("{}?limit=1&order_by=upload_name", uploads(&alice))).await.ok();
    assert_eq!(gone, json!({"deleted_media": [id], "total": 1}));
    assert!(!has(&bob, &places[2]).await && has(&bob, &places[0]).await);
    assert!(has(&alice, &same).await, "somebody else has uploaded the same");
    assert_eq!(root.delete(&uploads(&alice)).await.ok()["total"], 2);
    let none = root.get(&uploads(&alice)).await.ok();
    assert_eq!(none, json!({"media": [], "total": 0}));
    assert_eq!(names(&root.get(&uploads(&bob)).await.ok()), ["a"]);
    let log = server.log();
    assert!(log.contains("DELETE") && log.contains("/_synapse/admin/v1/users/"), "{log}");
}

#[tokio::test]
async fn the_erased_take_all_with_them_that_they_uploaded() {
    let settings = "registration = \"open\"\nrate_limits = false\nmedia_quota = \"100 KiB\"\n";
    let mut server = Server::start_with(settings).await;
    let (root, alice, bob) =
        (server.register("root").await, server.register("alice").await, server.register("bob").await);
    let mut places = Vec::new();
    for number in 0..120 {
        places.push(place(&upload(&alice, "", "text/plain", format!("number {number}")).await.ok()));
    }
    let both = place(&upload(&bob, "", "text/plain", "number 7").await.ok());
    let announced = alice.post("/_matrix/media/v1/create", json!({})).await.ok();
    // What is written down goes on after a crash.
    erase(&alice, "alice").await;
    server.kill9().await;
    server.resume().await;
    until("all is gone", async || (root.get(&uploads(&alice)).await.ok()["total"] == 0).then_some(())).await;
    for place in &places {
        assert!(!has(&bob, place).await, "{place}");
    }
    assert!(has(&bob, &both).await, "what bob has uploaded too is his");
    let announced = announced["content_uri"].as_str().expect("an address").replacen("mxc://", "", 1);
    bob.get(&format!("{DOWNLOAD}/{announced}?timeout_ms=0")).await.fails(404, "M_NOT_FOUND");
    let folder = server.data().join("media");
    until("the bytes are gone", async || (files_in(&folder).len() == 1).then_some(())).await;

    // Whoever is let in again begins anew.
    let path = format!("/_synapse/admin/v2/users/{}", encode(&alice.id));
    let again = json!({"deactivated": false, "password": Server::password("alice")});
    root.put(&path, again).await.ok();
    let alice = server.login("alice").await;
    let new = place(&upload(&alice, "", "text/plain", vec![b'n'; 100 << 10]).await.ok());
    server.restart().await;
    assert!(has(&bob, &new).await);
    assert_eq!(root.get(&uploads(&alice)).await.ok()["total"], 1);
    upload(&alice, "", "text/plain", "more than the quota").await.fails(403, "M_FORBIDDEN");
}

/// Whether anything of what the erased said is in an answer.
fn says(answer: &Value) -> bool {
    let text = answer.to_string();
    ["zqplain", "zqedit", "zqthread", "zqroot"].iter().any(|word| text.contains(word))
}

/// What two people find by every way to read a room.
async fn by_every_way(server: &Server, room: &str, events: &[String], two: [&User; 2]) -> Vec<(String, [Value; 2])> {
    let [bob, carol] = two;
    let path = |kind: &str, rest: &str| format!("/_matrix/client/v1/rooms/{}/{kind}{rest}", encode(room));
    let filter = encode(&json!({"room": {"timeline": {"limit": 100}}}).to_string());
    let federation = json!({"event_format": "federation", "room": {"timeline": {"limit": 100}}}).to_string();
    let mut ways = vec![
        format!("/_matrix/client/v3/sync?timeout=0&filter={filter}"),
        format!("/_matrix/client/v3/sync?timeout=0&filter={}", encode(&federation)),
        in_room(room, "messages?dir=b&limit=100"),
        in_room(room, "messages?dir=f&limit=100"),
        path("threads", "?include=all"),
        "/_matrix/client/v3/notifications".into(),
    ];
    for event in events {
        ways.push(in_room(room, &format!("event/{}", encode(event))));
        ways.push(in_room(room, &format!("context/{}?limit=40", encode(event))));
        ways.push(path("relations", &format!("/{}?limit=100&recurse=true", encode(event))));
    }
    let mut answers = Vec::new();
    for way in &ways {
        answers.push((way.clone(), [bob.get(way).await.ok(), carol.get(way).await.ok()]));
    }
    let criteria = json!({"search_term": "pebble", "event_context": {"before_limit": 20, "after_limit": 20}});
    let search = json!({"search_categories": {"room_events": criteria}});
    let list = json!({"ranges": [[0, 20]], "timeline_limit": 100, "required_state": [["*", "*"]]});
    let sliding = json!({"lists": {"all": list}});
    for (path, body) in [
        ("/_matrix/client/v3/search", search),
        ("/_matrix/client/unstable/org.matrix.simplified_msc3575/sync?timeout=0", sliding),
    ] {
        answers.push((path.into(), [bob.post(path, body.clone()).await.ok(), carol.post(path, body).await.ok()]));
    }
    let query = format!("filter={filter}");
    let of_bob = Socket::open(server, bob, &query).await.sync().await;
    answers.push(("socket".into(), [of_bob, Socket::open(server, carol, &query).await.sync().await]));
    answers
}

/// By every way to read, with what the erased said in edits, threads and replies.
#[tokio::test]
async fn who_comes_later_finds_by_no_way_what_the_erased_said() {
    let server = Server::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = alice.create_room(json!({"preset": "public_chat"})).await;
    bob.join(&room).await;
    let said = |text: &str, relates: Value| json!({"msgtype": "m.text", "body": text, "m.relates_to": relates});
    let root = bob.say(&room, "a pebble of bob's").await;
    let mut events = vec![root.clone(), alice.say(&room, "pebble zqplain").await];
    let edit = json!({"rel_type": "m.replace", "event_id": events[1]});
    let mut content = said("* pebble zqedit", edit);
    content["m.new_content"] = json!({"msgtype": "m.text", "body": "pebble zqedit"});
    events.push(alice.send(&room, "m.room.message", content).await);
    let thread = json!({"rel_type": "m.thread", "event_id": root});
    events.push(alice.send(&room, "m.room.message", said("pebble zqthread", thread)).await);
    let root_of_hers = alice.say(&room, "pebble zqroot").await;
    let thread = json!({"rel_type": "m.thread", "event_id": root_of_hers});
    events.push(bob.send(&room, "m.room.message", said("what bob answers", thread)).await);
    events.push(root_of_hers);
    alice.set_state(&room, "m.room.topic", "", json!({"topic": "state stays"})).await;
    erase(&alice, "alice").await;
    let carol = server.register("carol").await;
    carol.join(&room).await;

    let answers = by_every_way(&server, &room, &events, [&bob, &carol]).await;
    let (mut seen, mut wrongs) = (0, Vec::new());
    for (way, [of_bob, of_carol]) in answers {
        seen += usize::from(says(&of_bob));
        if says(&of_carol) {
            wrongs.push(format!("{way}: {of_carol}"));
        }
    }
    assert!(wrongs.is_empty(), "{wrongs:#?}");
    assert!(seen >= 15, "bob, who was there, sees it by {seen} ways only");
    assert_eq!(carol.get(&in_room(&room, "state/m.room.topic")).await.ok()["topic"], "state stays");
}
