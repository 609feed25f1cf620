//! What administrators do, by the paths that the tools for it use; and that nobody else does it.

use std::{io::Write, process::Stdio};

use serde_json::{Value, json};

use crate::{
    common::{Peer, Says, Server, User, encode, federated, federated_at, free_address, in_room, until},
    federation_outbox::{let_in, shared},
};

const SYNAPSE: &str = "/_synapse/admin";

/// A server whose first account, `root`, administers it, and somebody who does not.
async fn governed() -> (Server, User, User) {
    let server = Server::start().await;
    let (root, alice) = (server.register("root").await, server.register("alice").await);
    (server, root, alice)
}

fn user(path: &str, user: &User) -> String {
    format!("{SYNAPSE}/{path}").replace("{}", &encode(&user.id))
}

#[tokio::test]
async fn the_first_account_administers_and_is_told_so() {
    let (server, root, alice) = governed().await;
    let capabilities = root.get("/_matrix/client/v3/capabilities").await.ok()["capabilities"].clone();
    assert_eq!(capabilities["chat.hearth.admin"]["enabled"], true);
    assert_eq!(capabilities["m.account_moderation"], json!({"suspend": true, "lock": true}));
    let others = alice.get("/_matrix/client/v3/capabilities").await.ok()["capabilities"].clone();
    assert_eq!(
        (&others["chat.hearth.admin"]["enabled"], &others["m.account_moderation"]),
        (&json!(false), &Value::Null)
    );
    for path in [
        "v2/users",
        "v1/rooms",
        "v1/registration_tokens",
        "v1/event_reports",
        "v1/server_version",
        "v1/whois/@root:localhost",
    ] {
        alice.get(&format!("{SYNAPSE}/{path}")).await.fails(403, "M_FORBIDDEN");
        server.guest().get(&format!("{SYNAPSE}/{path}")).await.fails(401, "M_MISSING_TOKEN");
        root.get(&format!("{SYNAPSE}/{path}")).await.ok();
    }
    alice.put(&user("v2/users/{}", &alice), json!({"admin": true})).await.fails(403, "M_FORBIDDEN");
    alice.get("/_matrix/client/unstable/chat.hearth.admin/health").await.fails(403, "M_FORBIDDEN");
    let health = root.get("/_matrix/client/unstable/chat.hearth.admin/health").await.ok();
    assert!(health["database"]["bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{health}");
    assert!(health["memory"]["resident_bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20), "{health}");
    root.get(&format!("{SYNAPSE}/v1/nothing")).await.fails(404, "M_UNRECOGNIZED");
}

#[tokio::test]
async fn accounts_are_listed_made_changed_and_closed() {
    let (server, root, alice) = governed().await;
    let names = |page: &Value| -> Vec<String> {
        page["users"]
            .as_array()
            .expect("users")
            .iter()
            .map(|user| user["name"].as_str().expect("a name").to_owned())
            .collect()
    };
    let page = root.get(&format!("{SYNAPSE}/v2/users?from=0&limit=1&order_by=creation_ts")).await.ok();
    assert_eq!(page["next_token"], "1");
    let all = root.get(&format!("{SYNAPSE}/v2/users?name=ALI")).await.ok();
    assert_eq!((names(&all), &all["total"]), (vec![alice.id.clone()], &json!(1)));
    let made = root
        .put(
            &format!("{SYNAPSE}/v2/users/@bob:localhost"),
            json!({"password": Server::password("bob"), "displayname": "Bob B."}),
        )
        .await;
    assert_eq!((made.status, &made.body["displayname"]), (201, &json!("Bob B.")), "{}", made.body);
    let bob = server.login("bob").await;
    root.put(&user("v2/users/{}", &bob), json!({"displayname": "Robert", "admin": true})).await.ok();
    assert_eq!(root.get(&user("v1/users/{}/admin", &bob)).await.ok(), json!({"admin": true}));
    bob.get(&format!("{SYNAPSE}/v2/users")).await.ok();
    assert_eq!(root.get(&user("v2/users/{}", &bob)).await.ok()["displayname"], "Robert");
    root.put(&user("v1/users/{}/admin", &root), json!({"admin": false})).await.fails(403, "M_FORBIDDEN");
    root.put(&user("v1/users/{}/admin", &bob), json!({"admin": false})).await.ok();
    bob.get(&format!("{SYNAPSE}/v2/users")).await.fails(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn sessions_and_passwords_of_others_are_looked_after() {
    let (server, root, alice) = governed().await;
    let bob = server.register("bob").await;
    let devices = root.get(&user("v2/users/{}/devices", &bob)).await.ok();
    assert_eq!((&devices["total"], &devices["devices"][0]["device_id"]), (&json!(1), &json!(bob.device)));
    let whois = root.get(&format!("/_matrix/client/v3/admin/whois/{}", bob.id)).await.ok();
    assert_eq!(whois["devices"][""]["sessions"][0]["connections"][0]["ip"], "127.0.0.1");
    alice.get(&format!("/_matrix/client/v3/admin/whois/{}", bob.id)).await.fails(403, "M_FORBIDDEN");
    bob.get(&format!("/_matrix/client/v3/admin/whois/{}", bob.id)).await.ok();
    root.post(
        &user("v1/reset_password/{}", &bob),
        json!({"new_password": "another pass phrase", "logout_devices": false}),
    )
    .await
    .ok();
    bob.now().await;
    root.post(&user("v1/reset_password/{}", &bob), json!({"new_password": Server::password("bob")})).await.ok();
    bob.get("/_matrix/client/v3/account/whoami").await.fails(401, "M_UNKNOWN_TOKEN");
    let bob = server.login("bob").await;
    root.delete(&format!("{}/{}", user("v2/users/{}/devices", &bob), bob.device)).await.ok();
    bob.get("/_matrix/client/v3/account/whoami").await.fails(401, "M_UNKNOWN_TOKEN");
}

#[tokio::test]
async fn accounts_are_closed_and_opened_again() {
    let (server, root, _) = governed().await;
    let bob = server.register("bob").await;
    let names = |page: &Value| page["users"].to_string();
    let room = bob.create_room(json!({"preset": "public_chat"})).await;
    root.post(&user("v1/deactivate/{}", &bob), json!({"erase": true})).await.ok();
    bob.get("/_matrix/client/v3/account/whoami").await.fails(401, "M_UNKNOWN_TOKEN");
    assert_eq!(root.get(&user("v1/users/{}/joined_rooms", &bob)).await.ok()["total"], 0);
    let closed = root.get(&user("v2/users/{}", &bob)).await.ok();
    assert_eq!(
        (&closed["deactivated"], &closed["erased"], &closed["displayname"]),
        (&json!(true), &json!(true), &Value::Null)
    );
    assert!(!names(&root.get(&format!("{SYNAPSE}/v2/users")).await.ok()).contains(&bob.id));
    assert!(names(&root.get(&format!("{SYNAPSE}/v3/users?deactivated=true")).await.ok()).contains(&bob.id));
    root.put(&user("v2/users/{}", &bob), json!({"deactivated": false, "password": Server::password("bob")})).await.ok();
    server.login("bob").await.join(&room).await;
    root.get(&format!("{SYNAPSE}/v2/users/@nobody:localhost")).await.fails(404, "M_NOT_FOUND");
    root.get(&format!("{SYNAPSE}/v2/users/@bob:elsewhere.example")).await.fails(400, "M_INVALID_PARAM");
    let log = server.log();
    assert!(log.contains("an administrator acted") && log.contains("@bob:localhost"), "what is done is logged");
    assert!(!log.contains("pass phrase"), "and no secret");
}

#[tokio::test]
async fn the_locked_are_shut_out_and_keep_their_session() {
    let (_server, root, alice) = governed().await;
    let path = format!("/_matrix/client/v1/admin/lock/{}", alice.id);
    let room = alice.create_room(json!({})).await;
    let waiting = tokio::spawn({
        let (alice, now) = (alice.clone(), alice.now().await);
        async move { alice.get(&format!("/_matrix/client/v3/sync?timeout=30000&since={now}")).await }
    });
    alice.put(&path, json!({"locked": true})).await.fails(403, "M_FORBIDDEN");
    assert_eq!(root.put(&path, json!({"locked": true})).await.ok(), json!({"locked": true}));
    assert_eq!(root.get(&path).await.ok(), json!({"locked": true}));
    let refused = alice.get("/_matrix/client/v3/account/whoami").await;
    refused.fails(401, "M_USER_LOCKED");
    assert_eq!(refused.body["soft_logout"], true);
    let waited = tokio::time::timeout(std::time::Duration::from_secs(10), waiting).await;
    waited.expect("who waits is not left waiting").expect("answered").fails(401, "M_USER_LOCKED");
    root.put(&path, json!({"locked": false})).await.ok();
    alice.say(&room, "I am back").await;
    root.put(&path, json!({"locked": true})).await.ok();
    alice.post("/_matrix/client/v3/logout", json!({})).await.ok();
    root.put(&format!("/_matrix/client/v1/admin/lock/{}", root.id), json!({"locked": true}))
        .await
        .fails(403, "M_FORBIDDEN");
    root.get("/_matrix/client/v1/admin/lock/@nobody:localhost").await.fails(404, "M_NOT_FOUND");
    root.get("/_matrix/client/v1/admin/lock/@a:elsewhere.example").await.fails(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn the_suspended_read_and_tidy_up_and_nothing_else() {
    let (server, root, alice) = governed().await;
    let room = alice.create_room(json!({"preset": "public_chat"})).await;
    let other = root.create_room(json!({"preset": "public_chat"})).await;
    let said = alice.say(&room, "too much").await;
    root.join(&room).await;
    let roots = root.say(&room, "careful").await;
    let path = format!("/_matrix/client/v1/admin/suspend/{}", alice.id);
    assert_eq!(root.put(&path, json!({"suspended": true})).await.ok(), json!({"suspended": true}));
    let denied = [
        alice.put(&in_room(&room, "send/m.room.message/1"), json!({"body": "x"})).await,
        alice.put(&in_room(&room, "state/m.room.topic/"), json!({"topic": "x"})).await,
        alice.post(&in_room(&other, "join"), json!({})).await,
        alice.post(&in_room(&room, "invite"), json!({"user_id": "@root:localhost"})).await,
        alice.post("/_matrix/client/v3/createRoom", json!({})).await,
        alice.put(&format!("/_matrix/client/v3/profile/{}/displayname", alice.id), json!({"displayname": "x"})).await,
        alice.put(&in_room(&room, &format!("redact/{roots}/2")), json!({})).await,
    ];
    denied.iter().for_each(|answer| answer.fails(403, "M_USER_SUSPENDED"));
    alice.now().await;
    alice.put(&in_room(&room, &format!("redact/{said}/3")), json!({})).await.ok();
    alice.leave(&room).await;
    server.login("alice").await;
    root.put(&path, json!({"suspended": false})).await.ok();
    alice.join(&other).await;
}

#[tokio::test]
async fn registration_tokens_are_invitations_with_uses_and_an_end() {
    let mut server = Server::start_with("registration = \"token\"\nrate_limits = false\n").await;
    server.stop().await;
    let mut command = Server::command();
    command.arg("--config").arg(server.config()).args(["user", "create", "root", "--admin"]).stdin(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    let password = format!("{}\n", Server::password("root"));
    child.stdin.take().expect("piped").write_all(password.as_bytes()).expect("read");
    assert!(child.wait().expect("ended").success());
    server.resume().await;
    let root = server.login("root").await;
    let joined = root.get("/_matrix/client/v3/joined_rooms").await.ok();
    assert_eq!(
        joined["joined_rooms"].as_array().map(Vec::len),
        Some(1),
        "brought into #admins when the server started"
    );
    let register = async |name: &str, token: &str| {
        let auth = json!({"type": "m.login.registration_token", "token": token});
        let body = json!({"username": name, "password": Server::password(name), "auth": auth});
        server.guest().post("/_matrix/client/v3/register", body).await
    };
    let tokens = format!("{SYNAPSE}/v1/registration_tokens");
    let made = root.post(&format!("{tokens}/new"), json!({"uses_allowed": 2})).await.ok();
    let token = made["token"].as_str().expect("a token").to_owned();
    assert_eq!((token.len(), &made["completed"], &made["expiry_time"]), (16, &json!(0), &Value::Null));
    let valid = async |token: &str| {
        let path = format!("/_matrix/client/v1/register/m.login.registration_token/validity?token={token}");
        server.guest().get(&path).await.ok()["valid"].clone()
    };
    assert_eq!(valid(&token).await, true);
    register("a", &token).await.ok();
    register("b", &token).await.ok();
    register("c", &token).await.fails(401, "M_FORBIDDEN");
    assert_eq!(valid(&token).await, false);
    let row = root.get(&format!("{tokens}/{token}")).await.ok();
    assert_eq!((&row["uses_allowed"], &row["completed"]), (&json!(2), &json!(2)));
    root.put(&format!("{tokens}/{token}"), json!({"uses_allowed": 3})).await.ok();
    assert_eq!(valid(&token).await, true);
    root.put(&format!("{tokens}/{token}"), json!({"expiry_time": 1})).await.fails(400, "M_INVALID_PARAM");
    root.post(&format!("{tokens}/new"), json!({"token": "guests-2026", "uses_allowed": null})).await.ok();
    root.post(&format!("{tokens}/new"), json!({"token": "guests-2026"})).await.fails(400, "M_INVALID_PARAM");
    root.post(&format!("{tokens}/new"), json!({"token": "what is this"})).await.fails(400, "M_INVALID_PARAM");
    let listed = root.get(&format!("{tokens}?valid=true")).await.ok();
    assert_eq!(listed["registration_tokens"].as_array().map(Vec::len), Some(2));
    root.delete(&format!("{tokens}/guests-2026")).await.ok();
    root.delete(&format!("{tokens}/guests-2026")).await.fails(404, "M_NOT_FOUND");
    assert_eq!(valid("guests-2026").await, false);
    assert!(!server.log().contains("guests-2026"), "a token is a secret");
}

#[tokio::test]
async fn rooms_are_listed_and_taken_down() {
    let (server, root, alice) = governed().await;
    let bob = server.register("bob").await;
    let room = alice
        .create_room(
            json!({"preset": "public_chat", "name": "Bad Place", "room_alias_name": "bad", "visibility": "public"}),
        )
        .await;
    bob.join(&room).await;
    let said = alice.say(&room, "to be forgotten").await;
    let listed = root.get(&format!("{SYNAPSE}/v1/rooms?search_term=bad")).await.ok();
    let shown = &listed["rooms"][0];
    assert_eq!(
        (&shown["room_id"], &shown["joined_local_members"], &shown["public"]),
        (&json!(room), &json!(2), &json!(true))
    );
    assert_eq!(root.get(&format!("{SYNAPSE}/v1/rooms/{}", encode(&room))).await.ok()["creator"], json!(alice.id));
    assert_eq!(root.get(&format!("{SYNAPSE}/v1/rooms/{}/members", encode(&room))).await.ok()["total"], 2);
    let since = bob.now().await;
    let path = format!("{SYNAPSE}/v2/rooms/{}", encode(&room));
    let body = json!({"block": true, "new_room_user_id": root.id, "message": "It is closed."});
    let removal = root.request(reqwest::Method::DELETE, &path, Some(body)).await.ok();
    let id = removal["delete_id"].as_str().expect("an ID");
    let done = loop {
        let status = root.get(&format!("{SYNAPSE}/v2/rooms/delete_status/{id}")).await.ok();
        assert_ne!(status["status"], "failed", "{status}");
        if status["status"] == "complete" {
            break status;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    let result = &done["shutdown_room"];
    assert_eq!(
        (result["kicked_users"].as_array().map(Vec::len), &result["local_aliases"]),
        (Some(2), &json!(["#bad:localhost"]))
    );
    assert_eq!(root.get(&format!("{path}/delete_status")).await.ok()["results"][0]["delete_id"], json!(id));
    let sync = bob.sync(Some(&since), 0).await;
    assert!(sync["rooms"]["leave"].get(&room).is_some(), "{sync}");
    let new = result["new_room_id"].as_str().expect("a new room");
    assert!(sync["rooms"]["join"].get(new).is_some(), "{sync}");
    bob.get(&in_room(&room, &format!("event/{said}"))).await.fails(404, "M_NOT_FOUND");
    bob.post(&in_room(&room, "join"), json!({})).await.fails(403, "M_FORBIDDEN");
    bob.get("/_matrix/client/v3/directory/room/%23bad:localhost").await.fails(404, "M_NOT_FOUND");
    let block = format!("{SYNAPSE}/v1/rooms/{}/block", encode(&room));
    assert_eq!(root.get(&block).await.ok(), json!({"block": true, "user_id": root.id}));
    root.put(&block, json!({"block": false})).await.ok();
    bob.join(&room).await;
    let other = alice.create_room(json!({})).await;
    let gone = root
        .request(reqwest::Method::DELETE, &format!("{SYNAPSE}/v1/rooms/{}", encode(&other)), Some(json!({})))
        .await
        .ok();
    assert_eq!(gone["kicked_users"], json!([alice.id]));
}

#[tokio::test]
async fn reports_reach_the_administrators() {
    let (server, root, alice) = governed().await;
    let bob = server.register("bob").await;
    let room = alice.create_room(json!({"preset": "public_chat", "name": "Den"})).await;
    let said = alice.say(&room, "rude").await;
    let path = in_room(&room, &format!("report/{said}"));
    bob.post(&path, json!({"reason": "x"})).await.fails(404, "M_NOT_FOUND");
    bob.join(&room).await;
    bob.post(&path, json!({"reason": "He is rude"})).await.ok();
    bob.post(&in_room(&room, "report"), json!({"reason": "The room too"})).await.ok();
    bob.post("/_matrix/client/v3/users/@alice:localhost/report", json!({"reason": "And she"})).await.ok();
    bob.post(&in_room("!nowhere:localhost", "report"), json!({"reason": "?"})).await.ok();
    let listed = root.get(&format!("{SYNAPSE}/v1/event_reports")).await.ok();
    let report = &listed["event_reports"][0];
    assert_eq!(
        (&listed["total"], &report["reason"], &report["sender"], &report["user_id"]),
        (&json!(1), &json!("He is rude"), &json!(alice.id), &json!(bob.id))
    );
    assert_eq!((&report["name"], &report["event_id"]), (&json!("Den"), &json!(said)));
    let all = root.get("/_matrix/client/unstable/chat.hearth.admin/reports").await.ok();
    assert_eq!((&all["total"], &all["reports"][0]["sender"]), (&json!(3), &json!(alice.id)));
    let one = format!("{SYNAPSE}/v1/event_reports/{}", report["id"]);
    assert_eq!(root.get(&one).await.ok()["event_json"]["content"]["body"], "rude");
    let admins = root.get("/_matrix/client/v3/directory/room/%23admins:localhost").await.ok();
    let page = root.get(&in_room(admins["room_id"].as_str().expect("a room"), "messages?dir=b&limit=10")).await.ok();
    let told = page["chunk"].as_array().expect("events").iter().any(|event| {
        event["content"]["body"].as_str().is_some_and(|body| body.contains("reported a message by @alice:localhost"))
    });
    assert!(told, "{page}");
    root.delete(&one).await.ok();
    root.get(&one).await.fails(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn the_room_of_the_administrators_is_kept_in_step() {
    let (server, root, alice) = governed().await;
    let rooms = async |user: &User| user.get("/_matrix/client/v3/joined_rooms").await.ok()["joined_rooms"].clone();
    let admins = root.get("/_matrix/client/v3/directory/room/%23admins:localhost").await.ok()["room_id"].clone();
    assert_eq!(rooms(&root).await, json!([admins]));
    let id = admins.as_str().expect("an ID");
    alice.post(&in_room(id, "join"), json!({})).await.fails(403, "M_FORBIDDEN");
    root.post(&in_room(id, "invite"), json!({"user_id": alice.id})).await.fails(403, "M_FORBIDDEN");
    root.put(&user("v1/users/{}/admin", &alice), json!({"admin": true})).await.ok();
    assert_eq!(rooms(&alice).await, json!([admins]));
    alice.say(id, "hello").await;
    root.put(&user("v1/users/{}/admin", &alice), json!({"admin": false})).await.ok();
    assert_eq!(rooms(&alice).await, json!([]));
    let login = json!({"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "hearth"}, "password": "guess it now"});
    server.guest().post("/_matrix/client/v3/login", login).await.fails(403, "M_FORBIDDEN");
    root.post(&format!("{SYNAPSE}/v1/deactivate/@hearth:localhost"), json!({})).await.fails(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn notices_of_the_server_arrive_and_cannot_be_declined() {
    let (_server, root, alice) = governed().await;
    let path = format!("{SYNAPSE}/v1/send_server_notice");
    let notice = |body: &str| json!({"user_id": alice.id, "content": {"msgtype": "m.text", "body": body}});
    root.post(&path, notice("Tonight we restart")).await.ok();
    let sync = alice.sync(None, 0).await;
    let invites = sync["rooms"]["invite"].as_object().expect("an invitation");
    let room = invites.keys().next().expect("one").clone();
    alice.post(&in_room(&room, "leave"), json!({})).await.fails(403, "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM");
    let own = in_room(&room, &format!("state/m.room.member/{}", encode(&alice.id)));
    alice.put(&own, json!({"membership": "leave"})).await.fails(403, "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM");
    alice.join(&room).await;
    let again = root.put(&format!("{path}/tx1"), notice("Done")).await.ok();
    assert_eq!(root.put(&format!("{path}/tx1"), notice("Done")).await.ok(), again, "once");
    let page = alice.get(&in_room(&room, "messages?dir=b&limit=50")).await.ok();
    let said: Vec<&str> = page["chunk"]
        .as_array()
        .expect("events")
        .iter()
        .filter_map(|event| event["content"]["body"].as_str())
        .collect();
    assert_eq!(said, ["Done", "Tonight we restart"]);
    let tags = alice.get(&format!("/_matrix/client/v3/user/{}/rooms/{}/tags", alice.id, encode(&room))).await.ok();
    assert!(tags["tags"].get("m.server_notice").is_some(), "{tags}");
    alice.put(&in_room(&room, "send/m.room.message/1"), json!({"body": "no"})).await.fails(403, "M_FORBIDDEN");
    root.post(&path, json!({"user_id": "@nobody:localhost", "content": {}})).await.fails(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn a_server_that_is_alone_has_no_others_to_show() {
    let (_server, root, alice) = governed().await;
    let all = format!("{SYNAPSE}/v1/federation/destinations");
    assert_eq!(root.get(&all).await.ok(), json!({"destinations": [], "total": 0}));
    root.get(&format!("{all}/elsewhere.example")).await.fails(404, "M_NOT_FOUND");
    root.post(&format!("{all}/elsewhere.example/reset_connection"), json!({})).await.fails(404, "M_NOT_FOUND");
    root.get(&format!("{all}/%20/rooms")).await.fails(400, "M_INVALID_PARAM");
    alice.get(&all).await.fails(403, "M_FORBIDDEN");
}

/// Who can't be told is seen before the others, with the reason, also after a restart, and is tried now if that is
/// wanted.
#[tokio::test]
async fn servers_that_cannot_be_told_come_first_and_it_is_said_why() {
    let (mut server, peer, alice, room) = shared().await;
    let (other, send) = (Peer::start().await, "/_matrix/federation/v1/send/");
    other.says(send, Says::Json(200, json!({"pdus": {}})));
    let_in(&mut server, &room, vec![other.name().to_owned()]).await;
    let away = json!({"errcode": "M_UNKNOWN", "error": "out for lunch"});
    peer.says(send, Says::Json(503, away));
    alice.say(&room, "is anybody there?").await;
    let list = async |query: &str| alice.get(&format!("{SYNAPSE}/v1/federation/destinations?{query}")).await;
    let names = |list: &Value| {
        let all = list["destinations"].as_array().expect("a list").iter();
        all.map(|one| one["destination"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    const FAILING: &str = "order_by=failure_ts&dir=b";
    let failing = async || Some(list(FAILING).await.ok()).filter(|all| all["destinations"][0]["failure_ts"].is_u64());
    let seen = until("it is failing", failing).await;
    assert_eq!(names(&seen), [peer.name(), other.name()]);
    assert_eq!(names(&list("order_by=failure_ts").await.ok()), [other.name(), peer.name()]);
    server.restart().await;
    let seen = until("it is failing", failing).await;
    let (one, good) = (&seen["destinations"][0], &seen["destinations"][1]);
    assert_eq!(one["chat.hearth.last_error"], "503 M_UNKNOWN: out for lunch");
    let at = |name: &str| one[name].as_u64().expect("a time");
    assert!(at("retry_last_ts") >= at("failure_ts") && at("retry_interval") > 0, "{one}");
    assert_eq!((&good["failure_ts"], &good["chat.hearth.last_error"]), (&Value::Null, &Value::Null));
    let found = list(&format!("destination={}", other.name())).await.ok();
    assert_eq!((names(&found), &found["total"]), (vec![other.name().to_owned()], &json!(1)));
    list("order_by=colour").await.fails(400, "M_INVALID_PARAM");
    peer.says(send, Says::Json(200, json!({"pdus": {}})));
    let now = format!("{SYNAPSE}/v1/federation/destinations/{}/reset_connection", encode(peer.name()));
    // It may be being tried just now.
    alice.post(&now, json!({})).await;
    until("all is well", async || failing().await.is_none().then_some(())).await;
    assert_eq!(list(FAILING).await.ok()["destinations"][0]["chat.hearth.last_error"], Value::Null);
}

/// The server is looked up as others do it: what answers under its name has to be itself.
#[tokio::test]
async fn administrators_see_whether_others_find_the_server() {
    const SEEN: &str = "/_matrix/client/unstable/chat.hearth.admin/federation";
    let seen = async |server: &Server| server.register("root").await.get(SEEN).await.ok();
    let server = federated("", "").await;
    let found = json!({"server_name": server.name, "enabled": true, "address": server.name,
        "well_known": null, "error": null});
    assert_eq!(seen(&server).await, found);
    server.register("alice").await.get(SEEN).await.fails(403, "M_FORBIDDEN");
    // Nobody is where its name leads, or somebody else; or it would be private there.
    let nowhere = federated_at((free_address(), free_address()), "", "").await;
    let why = seen(&nowhere).await["error"].clone();
    assert!(why.as_str().is_some_and(|why| why.starts_with("can't connect")), "{why}");
    let thief = Peer::start().await;
    let port = thief.name().rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let robbed = federated_at((([127, 0, 0, 1], port).into(), free_address()), "", "").await;
    let why = seen(&robbed).await["error"].clone();
    assert!(why.as_str().is_some_and(|why| why.contains("another server answers there")), "{why}");
    thief.says("/_matrix/key/v2/server", Says::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi".to_vec()));
    assert_eq!(robbed.login("root").await.get(SEEN).await.ok()["error"], "what answers there is no Matrix server");
    let hidden = federated("", "allow_private_addresses = false\n").await;
    let why = seen(&hidden).await["error"].clone();
    assert!(why.as_str().is_some_and(|why| why.contains("private") || why.contains("127.0.0.1")), "{why}");
    let alone = federated("", "enabled = false\n").await;
    assert_eq!(seen(&alone).await, json!({"server_name": alone.name, "enabled": false}));
}
