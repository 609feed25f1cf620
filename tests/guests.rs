//! Guests: people without an account of their own, who look around and speak where a room lets them.
//! spec: client-server-api#guest-access

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    common::{Server, User, encode, in_room, transaction, until},
    doors::{doors, fill},
};

const V3: &str = "/_matrix/client/v3";
const SETTINGS: &str = "registration = \"open\"\nrate_limits = false\nguests = true\n";

/// Somebody who has come in as a guest.
async fn come_in(server: &Server) -> User {
    let mut guest = server.guest();
    let wish = json!({"initial_device_display_name": "Browser", "device_id": "MINE", "username": "wished",
        "password": "ignored", "inhibit_login": true});
    let made = guest.post(&format!("{V3}/register?kind=guest"), wish).await.ok();
    let text = |key: &str| made[key].as_str().expect("told").to_owned();
    (guest.id, guest.device, guest.token) = (text("user_id"), text("device_id"), Some(text("access_token")));
    assert!(!guest.id.starts_with("@wished:") && guest.device != "MINE", "{made}");
    guest
}

async fn membership(user: &User, room: &str, of: &User) -> Value {
    let path = in_room(room, &format!("state/m.room.member/{}", encode(&of.id)));
    user.get(&path).await.body["membership"].clone()
}

/// What guests may do, as the spec's text has it, with the /join by which they all come in.
const LISTED: [(&str, &str); 25] = [
    ("GET", "/rooms/{room_id}/state"),
    ("GET", "/rooms/{room_id}/context/{event_id}"),
    ("GET", "/rooms/{room_id}/event/{event_id}"),
    ("GET", "/rooms/{room_id}/state/{event_type}/{state_key}"),
    ("GET", "/rooms/{room_id}/state/{event_type}"),
    ("GET", "/rooms/{room_id}/messages"),
    ("GET", "/rooms/{room_id}/members"),
    ("GET", "/rooms/{room_id}/initialSync"),
    ("GET", "/events"),
    ("GET", "/sync"),
    ("GET", "/media/download/{server_name}/{media_id}"),
    ("GET", "/media/download/{server_name}/{media_id}/{filename}"),
    ("GET", "/media/thumbnail/{server_name}/{media_id}"),
    ("POST", "/rooms/{room_id}/join"),
    ("POST", "/join/{room_id_or_alias}"),
    ("POST", "/rooms/{room_id}/leave"),
    ("PUT", "/rooms/{room_id}/send/{event_type}/{txn_id}"),
    ("PUT", "/rooms/{room_id}/state/{event_type}/{state_key}"),
    ("PUT", "/rooms/{room_id}/state/{event_type}"),
    ("PUT", "/sendToDevice/{event_type}/{txn_id}"),
    ("GET", "/devices"),
    ("GET", "/devices/{device_id}"),
    ("PUT", "/devices/{device_id}"),
    ("GET", "/account/whoami"),
    ("POST", "/keys/{what}"),
];

#[tokio::test]
async fn guests_do_what_the_spec_lists_and_nothing_else() {
    let named = |path: &str| {
        let rest = ["/_matrix/client/v3", "/_matrix/client/v1", "/_matrix/client/unstable"];
        let rest = rest.iter().find_map(|prefix| path.strip_prefix(prefix))?;
        Some(rest.split('/').map(|part| if part.starts_with('{') { "{}" } else { part }).collect::<Vec<_>>().join("/"))
    };
    let blank = |path: &str| named(&format!("/_matrix/client/v3{path}")).expect("a path");
    let is_listed = |method: &Method, path: &str| {
        let Some(path) = named(path) else { return false };
        let keys = ["/keys/upload", "/keys/query", "/keys/claim"];
        LISTED.iter().any(|(listed, pattern)| *listed == method.as_str() && blank(pattern) == path)
            || (*method == Method::POST && keys.contains(&&*path))
    };
    let server = Server::start_with(SETTINGS).await;
    let guest = come_in(&server).await;
    let arguments =
        std::collections::BTreeMap::from([("user_id", guest.id.clone()), ("device_id", guest.device.clone())]);
    let (mut let_in, mut refused, mut wrongs) = (0, 0, Vec::new());
    for (method, path, who) in doors() {
        if !matches!(&*who, "token" | "admin" | "service") && !path.contains("chat.hearth.ws") {
            continue;
        }
        let body = (method != Method::GET).then(|| json!({}));
        let answer = guest.request(method.clone(), &fill(&path, &arguments), body).await;
        let is_refused = answer.body["errcode"] == "M_GUEST_ACCESS_FORBIDDEN" && answer.status == 403;
        if is_refused == is_listed(&method, &path) {
            wrongs.push(format!("{method} {path}: {} {}", answer.status, answer.body));
        }
        if is_refused { refused += 1 } else { let_in += 1 }
    }
    assert!(wrongs.is_empty(), "{wrongs:#?}");
    assert!(let_in >= 22 && refused > 150, "{let_in} and {refused}");
    // Where strangers may come, a guest is one of them.
    guest.get("/_matrix/client/versions").await.ok();
}

#[tokio::test]
async fn guests_call_themselves_something_and_change_nothing_else_of_their_profile() {
    let server = Server::start_with(SETTINGS).await;
    let guest = come_in(&server).await;
    let mine = |field: &str| format!("{V3}/profile/{}/{field}", encode(&guest.id));
    guest.put(&mine("displayname"), json!({"displayname": "Passer-by"})).await.ok();
    assert_eq!(guest.get(&mine("displayname")).await.ok()["displayname"], "Passer-by");
    guest.put(&mine("avatar_url"), json!({"avatar_url": "mxc://a/b"})).await.fails(403, "M_GUEST_ACCESS_FORBIDDEN");
    guest.put(&mine("displaynam%65"), json!({"displayname": "x"})).await.fails(403, "M_GUEST_ACCESS_FORBIDDEN");
    guest.put(&mine("m.tz"), json!({"m.tz": "UTC"})).await.fails(403, "M_GUEST_ACCESS_FORBIDDEN");
    guest.delete(&mine("displayname")).await.ok();
    let me = guest.get(&format!("{V3}/account/whoami")).await.ok();
    assert_eq!((&me["is_guest"], &me["user_id"]), (&json!(true), &json!(guest.id)));
    let devices = guest.get(&format!("{V3}/devices")).await.ok();
    assert_eq!(devices["devices"][0]["display_name"], "Browser");
}

#[tokio::test]
async fn guests_come_where_they_are_let_in_and_go_when_they_are_not_any_more() {
    let mut server = Server::start_with(SETTINGS).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let (one, two) = (come_in(&server).await, come_in(&server).await);
    let open = alice.create_room(json!({"preset": "public_chat"})).await;
    let other = alice
        .create_room(json!({"preset": "public_chat", "initial_state":
        [{"type": "m.room.guest_access", "content": {"guest_access": "can_join"}}]}))
        .await;
    one.post(&in_room(&open, "join"), json!({})).await.fails(403, "M_GUEST_ACCESS_FORBIDDEN");
    // An invite is not enough either.
    alice.invite(&open, &one).await;
    one.post(&in_room(&open, "join"), json!({})).await.fails(403, "M_GUEST_ACCESS_FORBIDDEN");
    one.post(&in_room("!elsewhere:far.test", "join"), json!({})).await.fails(403, "M_GUEST_ACCESS_FORBIDDEN");
    let by_name = |room: &str| format!("{V3}/join/{}", encode(room));
    for shut in [&*open, "!elsewhere:far.test"] {
        one.post(&by_name(shut), json!({})).await.fails(403, "M_GUEST_ACCESS_FORBIDDEN");
    }
    two.post(&by_name(&other), json!({})).await.ok();
    alice.set_state(&open, "m.room.guest_access", "", json!({"guest_access": "can_join"})).await;
    for user in [&one, &two, &bob] {
        user.join(&open).await;
        user.join(&other).await;
    }
    one.say(&open, "hello from outside").await;
    let about = json!({"purpose": "looking around"});
    one.put(&in_room(&open, &format!("send/chat.test.any/{}", transaction())), about).await.ok();
    assert!(one.sync(None, 0).await["rooms"]["join"][&open].is_object());
    // The one who has an account by now is no guest any more.
    let token = two.token.clone();
    let name = two.id.split([':', '@']).nth(1).expect("a name").to_owned();
    let wish = |name: &str| {
        json!({"username": name, "password": Server::password(name), "guest_access_token": token,
        "auth": {"type": "m.login.dummy"}})
    };
    let register = format!("{V3}/register");
    server.guest().post(&register, wish("another")).await.fails(403, "M_FORBIDDEN");
    server.guest().post(&register, wish("bob")).await.fails(403, "M_FORBIDDEN");
    let mut stolen = wish(&name);
    stolen["guest_access_token"] = json!(bob.token);
    server.guest().post(&register, stolen).await.fails(403, "M_FORBIDDEN");
    stolen = wish(&name);
    stolen.as_object_mut().expect("an object").remove("guest_access_token");
    server.guest().post(&register, stolen).await.fails(400, "M_USER_IN_USE");
    assert_eq!(server.guest().post(&register, wish(&name)).await.ok()["user_id"], *two.id);
    server.guest().post(&register, wish(&name)).await.fails(403, "M_FORBIDDEN");
    let grown = server.login(&name).await;
    assert_eq!(grown.get(&format!("{V3}/account/whoami")).await.ok().get("is_guest"), None);
    // What was begun is gone on with after a crash.
    alice.set_state(&open, "m.room.guest_access", "", json!({"guest_access": "forbidden"})).await;
    server.kill9().await;
    server.resume().await;
    until("the guest has left", async || (membership(&alice, &open, &one).await == "leave").then_some(())).await;
    assert_eq!(membership(&alice, &open, &bob).await, "join");
    assert_eq!(membership(&alice, &open, &grown).await, "join");
    assert_eq!(membership(&alice, &other, &one).await, "join");
    one.post(&in_room(&open, "join"), json!({})).await.fails(403, "M_GUEST_ACCESS_FORBIDDEN");
    one.say(&other, "still here").await;
}

#[tokio::test]
async fn what_everybody_may_read_guests_read_without_coming_in() {
    let server = Server::start_with(SETTINGS).await;
    let (alice, guest) = (server.register("alice").await, come_in(&server).await);
    let history = json!({"type": "m.room.history_visibility", "content": {"history_visibility": "world_readable"}});
    let shown = alice.create_room(json!({"preset": "public_chat", "name": "Square", "initial_state": [history]})).await;
    let hidden = alice.create_room(json!({"preset": "public_chat"})).await;
    let said = alice.say(&shown, "for all the world").await;
    let whispered = alice.say(&hidden, "among us").await;
    let events = guest.get(&in_room(&shown, "messages?dir=b")).await.ok();
    assert_eq!(events["chunk"][0]["event_id"], *said);
    assert_eq!(guest.get(&in_room(&shown, "state/m.room.name")).await.ok()["name"], "Square");
    assert!(guest.get(&in_room(&shown, "state")).await.ok().as_array().is_some_and(|all| all.len() > 5));
    assert_eq!(guest.get(&in_room(&shown, "members")).await.ok()["chunk"][0]["state_key"], *alice.id);
    guest.get(&in_room(&shown, &format!("event/{said}"))).await.ok();
    guest.get(&in_room(&shown, &format!("context/{said}"))).await.ok();
    for rest in ["messages?dir=b", "state", "state/m.room.name", "members"] {
        guest.get(&in_room(&hidden, rest)).await.fails(403, "M_FORBIDDEN");
    }
    guest.get(&in_room(&hidden, &format!("event/{whispered}"))).await.fails(404, "M_NOT_FOUND");
    guest
        .put(&in_room(&shown, &format!("send/m.room.message/{}", transaction())), json!({"body": "x"}))
        .await
        .fails(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn guests_are_few_and_slow_and_own_no_fresh_server() {
    let server = Server::start_with("registration = \"open\"\nguests = true\n").await;
    let path = format!("{V3}/register?kind=guest");
    let first = come_in(&server).await;
    let limited = until("too many guests from here", async || {
        let answer = server.guest().post(&path, json!({})).await;
        (answer.status != 200).then_some(answer)
    });
    limited.await.fails(429, "M_LIMIT_EXCEEDED");
    let too_fast = until("too much for a guest", async || {
        let answer = first.put(&format!("{V3}/devices/{}", first.device), json!({"display_name": "x"})).await;
        (answer.status != 200).then_some(answer)
    });
    too_fast.await.fails(429, "M_LIMIT_EXCEEDED");
    first.get(&format!("{V3}/account/whoami")).await.ok();
    // Whoever registers first on a server of this machine alone owns it, guests or not.
    let owner = server.register("owner").await;
    assert_eq!(
        owner.get(&format!("{V3}/capabilities")).await.ok()["capabilities"]["m.account_moderation"]["lock"],
        true
    );
}

#[tokio::test]
async fn a_server_lets_no_guests_in_unless_it_is_told_to() {
    let server = Server::start().await;
    let answer = server.guest().post(&format!("{V3}/register?kind=guest"), json!({})).await;
    answer.fails(403, "M_GUEST_ACCESS_FORBIDDEN");
}

#[tokio::test]
async fn guests_who_stay_away_are_forgotten() {
    let settings = "registration = \"open\"\nrate_limits = false\nguests = true\n";
    let mut server = Server::start_with(settings).await;
    let root = server.register("root").await;
    let room = root
        .create_room(json!({"preset": "public_chat", "initial_state":
        [{"type": "m.room.guest_access", "content": {"guest_access": "can_join"}}]}))
        .await;
    let (here, away) = (come_in(&server).await, come_in(&server).await);
    here.join(&room).await;
    let said = here.say(&room, "I was here").await;
    let keys = json!({"one_time_keys": {"signed_curve25519:A": {"key": "x"}}});
    away.post(&format!("{V3}/keys/upload"), keys).await;
    let known = async || -> Vec<String> {
        let page = root.get("/_synapse/admin/v2/users?guests=true&deactivated=true").await.ok();
        let all = page["users"].as_array().expect("a list").iter();
        all.map(|user| format!("{} {}", user["name"], user["deactivated"]).replace('"', "")).collect()
    };
    assert_eq!(known().await.len(), 4, "with the server's own account");
    // With the usual time they stay over a restart.
    server.restart().await;
    here.get(&format!("{V3}/account/whoami")).await.ok();

    server.configure(&format!("{settings}guest_lifetime = \"1 s\"\n"));
    server.restart().await;
    until("both are gone", async || {
        let known = known().await;
        (known.contains(&format!("{} true", here.id)) && !known.iter().any(|name| name.starts_with(&away.id)))
            .then_some(())
    })
    .await;
    assert_eq!(known().await.len(), 3, "who was in no room leaves nothing, and nobody takes the name of who was");
    for guest in [&here, &away] {
        guest.get(&format!("{V3}/account/whoami")).await.fails(401, "M_UNKNOWN_TOKEN");
    }
    assert_eq!(membership(&root, &room, &here).await, "leave");
    assert_eq!(root.get(&in_room(&room, &format!("event/{said}"))).await.ok()["content"]["body"], "I was here");
    root.get(&format!("{V3}/account/whoami")).await.ok();
    let name = here.id.split([':', '@']).nth(1).expect("a name");
    let wish = json!({"username": name, "password": "a long pass phrase", "auth": {"type": "m.login.dummy"}});
    server.guest().post(&format!("{V3}/register"), wish).await.fails(400, "M_USER_IN_USE");
}
