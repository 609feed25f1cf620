//! Push: what a gateway is told, of what, when, and what comes of its answers. The gateway is the test's own.

use std::time::Duration;

use serde_json::{Value, json};

use crate::common::{Peer, Says, Server, User, encode, federated, free_address, in_room, until};

pub const NOTIFY: &str = "/_matrix/push/v1/notify";

/// A server that may call this machine, and a gateway that takes everything.
async fn start() -> (Server, Peer) {
    let (server, gateway) = (federated("", "").await, Peer::start().await);
    gateway.says(NOTIFY, Says::Json(200, json!({"rejected": []})));
    (server, gateway)
}

pub fn pusher(gateway: &Peer, pushkey: &str) -> Value {
    json!({
        "kind": "http", "app_id": "org.example.app", "pushkey": pushkey, "lang": "en",
        "app_display_name": "Example", "device_display_name": "Phone",
        "data": {"url": format!("https://{}{NOTIFY}", gateway.name()), "colour": "green"},
    })
}

pub async fn set(user: &User, pusher: Value) {
    user.post("/_matrix/client/v3/pushers/set", pusher).await.ok();
}

async fn pushers(user: &User) -> Vec<Value> {
    let mut answer = user.get("/_matrix/client/v3/pushers").await.ok();
    serde_json::from_value(answer["pushers"].take()).expect("a list")
}

/// What a gateway was told about events, in order: those of one pushkey.
pub fn told(gateway: &Peer, pushkey: &str) -> Vec<Value> {
    let all = gateway.asked(NOTIFY).into_iter().map(|asked| asked.body["notification"].clone());
    all.filter(|told| told["devices"][0]["pushkey"] == pushkey && !told["event_id"].is_null()).collect()
}

/// What it was told about counts alone.
fn counts(gateway: &Peer, pushkey: &str) -> Vec<Value> {
    let all = gateway.asked(NOTIFY).into_iter().map(|asked| asked.body["notification"].clone());
    let all = all.filter(|told| told["devices"][0]["pushkey"] == pushkey && told["event_id"].is_null());
    all.map(|told| told["counts"]["unread"].clone()).collect()
}

/// Waits until a gateway was told of an event, and answers what it was told.
async fn hears(gateway: &Peer, pushkey: &str, event: &str) -> Value {
    until("a push", async || told(gateway, pushkey).into_iter().find(|told| told["event_id"] == event)).await
}

/// The events of which a gateway was told.
fn events(gateway: &Peer, pushkey: &str) -> Vec<String> {
    told(gateway, pushkey).iter().filter_map(|told| told["event_id"].as_str().map(str::to_owned)).collect()
}

async fn log(user: &User) -> Vec<Value> {
    let mut answer = user.get("/_matrix/client/unstable/chat.hearth.push/pushers").await.ok();
    serde_json::from_value(answer["pushers"].take()).expect("a list")
}

async fn rule(user: &User, kind: &str, id: &str, rule: Value) {
    user.put(&format!("/_matrix/client/v3/pushrules/global/{kind}/{}", encode(id)), rule).await.ok();
}

async fn is_called(user: &User, name: &str) {
    let path = format!("/_matrix/client/v3/profile/{}/displayname", encode(&user.id));
    user.put(&path, json!({"displayname": name})).await.ok();
}

/// A room of the two.
async fn room_of(alice: &User, bob: &User) -> String {
    let room = alice.create_room(json!({"preset": "private_chat", "name": "Kitchen", "invite": [bob.id]})).await;
    bob.join(&room).await;
    room
}

#[tokio::test]
async fn a_message_reaches_the_phone_with_all_that_there_is_to_say() {
    let (server, gateway) = start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    is_called(&alice, "Alice").await;
    let room = room_of(&alice, &bob).await;
    set(&bob, pusher(&gateway, "bobs-secret-key")).await;
    let shown = pushers(&bob).await;
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0]["data"], pusher(&gateway, "x")["data"]);
    assert_eq!(shown[0]["org.matrix.msc3881.device_id"], json!(bob.device));
    assert_eq!(shown[0]["org.matrix.msc3881.enabled"], json!(true));
    let said = alice.say(&room, "dinner is ready").await;
    let push = hears(&gateway, "bobs-secret-key", &said).await;
    assert_eq!(
        (&push["room_id"], &push["type"], &push["sender"]),
        (&json!(room), &json!("m.room.message"), &json!(alice.id))
    );
    assert_eq!(push["content"]["body"], "dinner is ready");
    assert_eq!((&push["sender_display_name"], &push["room_name"]), (&json!("Alice"), &json!("Kitchen")));
    assert_eq!((&push["prio"], &push["counts"]), (&json!("high"), &json!({"unread": 1})));
    let device = &push["devices"][0];
    assert_eq!((&device["app_id"], &device["data"]), (&json!("org.example.app"), &json!({"colour": "green"})));
    assert_eq!(device["tweaks"], json!({"sound": "default"}), "the two of them are alone");
    assert!(device["pushkey_ts"].as_u64().is_some_and(|at| at > 1_700_000_000 && at < 10_000_000_000));
    // Nobody is told of what they said themselves.
    bob.say(&room, "coming").await;
    let next = alice.say(&room, "wash your hands").await;
    hears(&gateway, "bobs-secret-key", &next).await;
    assert_eq!(events(&gateway, "bobs-secret-key"), [said, next]);
    let log = log(&bob).await;
    let entries = log[0]["log"].as_array().expect("a log");
    assert!(entries.iter().all(|entry| entry["outcome"] == "delivered" && entry["status"] == 200), "{log:?}");
    assert_eq!(log[0]["gateway"], json!(gateway.name()));
    assert!(!log[0].to_string().contains("bobs-secret-key") && !server.log().contains("bobs-secret-key"));
}

#[tokio::test]
async fn a_client_that_wants_ids_alone_gets_no_more() {
    let (server, gateway) = start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = room_of(&alice, &bob).await;
    let mut wish = pusher(&gateway, "k");
    wish["data"]["format"] = json!("event_id_only");
    set(&bob, wish).await;
    let said = alice.say(&room, "a secret").await;
    let mut push = hears(&gateway, "k", &said).await;
    assert_eq!(push["devices"][0]["data"], json!({"format": "event_id_only", "colour": "green"}));
    push.as_object_mut().expect("an object").remove("devices");
    assert_eq!(push, json!({"event_id": said, "room_id": room, "prio": "high", "counts": {"unread": 1}}));
}

#[tokio::test]
async fn what_was_not_told_is_told_in_order_once_the_gateway_is_back() {
    let (mut server, gateway) = start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = room_of(&alice, &bob).await;
    set(&bob, pusher(&gateway, "k")).await;
    let before = alice.say(&room, "zero").await;
    hears(&gateway, "k", &before).await;
    gateway.says(NOTIFY, Says::Json(503, json!({})));
    let mut said = vec![alice.say(&room, "one").await];
    until("a failure", async || log(&bob).await[0]["failures"].as_u64().filter(|failures| *failures > 1)).await;
    let shown = log(&bob).await;
    assert_eq!((&shown[0]["waiting"], &shown[0]["log"][0]["outcome"]), (&json!(true), &json!("failed")));
    assert_eq!(shown[0]["log"][0]["status"], 503);
    server.restart().await;
    said.push(alice.say(&room, "two").await);
    is_called(&bob, "Robert").await;
    server.kill9().await;
    server.resume().await;
    said.push(alice.say(&room, "three").await);
    let refused = told(&gateway, "k").len();
    gateway.says(NOTIFY, Says::Json(200, json!({"rejected": []})));
    hears(&gateway, "k", &said[2]).await;
    let mut after = events(&gateway, "k").split_off(refused);
    after.retain(|event| said.contains(event));
    // One more attempt may have failed after they were counted.
    after.dedup();
    assert_eq!(after, said, "each once, in order");
    until("peace", async || (log(&bob).await[0]["waiting"] == false).then_some(())).await;
}

#[tokio::test]
async fn a_device_that_is_gone_is_told_nothing_more() {
    let (server, gateway) = start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let tablet = server.login("bob").await;
    let room = room_of(&alice, &bob).await;
    set(&bob, pusher(&gateway, "phone")).await;
    set(&tablet, pusher(&gateway, "tablet")).await;
    assert_eq!(pushers(&bob).await.len(), 2);
    gateway.says(NOTIFY, Says::Json(200, json!({"rejected": ["phone", "of somebody else"]})));
    alice.say(&room, "one").await;
    until("the phone's pusher goes", async || (pushers(&bob).await.len() == 1).then_some(())).await;
    assert_eq!(pushers(&bob).await[0]["pushkey"], "tablet", "a gateway speaks of what it was told alone");
    gateway.says(NOTIFY, Says::Json(200, json!({"rejected": []})));
    set(&bob, pusher(&gateway, "phone")).await;
    tablet.post("/_matrix/client/v3/logout", json!({})).await.ok();
    assert_eq!(pushers(&bob).await.len(), 1);
    let said = alice.say(&room, "two").await;
    hears(&gateway, "phone", &said).await;
    assert!(!events(&gateway, "tablet").contains(&said));
    // Somebody else signs in on the phone: it is theirs now.
    set(&alice, pusher(&gateway, "phone")).await;
    assert_eq!((pushers(&bob).await.len(), pushers(&alice).await.len()), (0, 1));
    let mut both = pusher(&gateway, "phone");
    both["append"] = json!(true);
    set(&bob, both).await;
    assert_eq!((pushers(&bob).await.len(), pushers(&alice).await.len()), (1, 1));
    let password = json!({
        "new_password": "another pass phrase", "logout_devices": true,
        "auth": {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "bob"},
                 "password": Server::password("bob")},
    });
    set(&server.login("bob").await, pusher(&gateway, "laptop")).await;
    bob.post("/_matrix/client/v3/account/password", password).await.ok();
    assert_eq!(pushers(&bob).await.len(), 1, "the laptop's is gone, one's own stays");
    set(&bob, json!({"kind": null, "app_id": "org.example.app", "pushkey": "phone"})).await;
    assert!(pushers(&bob).await.is_empty());
}

#[tokio::test]
async fn the_badge_goes_down_when_one_reads_elsewhere() {
    let (server, gateway) = start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let (kitchen, garden) = (room_of(&alice, &bob).await, room_of(&alice, &bob).await);
    set(&bob, pusher(&gateway, "k")).await;
    let first = alice.say(&kitchen, "one").await;
    alice.say(&kitchen, "two").await;
    let last = alice.say(&garden, "three").await;
    assert_eq!(hears(&gateway, "k", &last).await["counts"]["unread"], 3);
    bob.post(&in_room(&kitchen, &format!("receipt/m.read/{}", encode(&first))), json!({})).await.ok();
    until("a count", async || (counts(&gateway, "k").last() == Some(&json!(2))).then_some(())).await;
    // Who answers has read.
    bob.say(&kitchen, "yes").await;
    until("a count", async || (counts(&gateway, "k").last() == Some(&json!(1))).then_some(())).await;
    bob.post(&in_room(&garden, &format!("receipt/m.read.private/{}", encode(&last))), json!({})).await.ok();
    until("a count", async || (counts(&gateway, "k").last() == Some(&json!(0))).then_some(())).await;
}

#[tokio::test]
async fn rules_decide() {
    let (server, gateway) = start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let carol = server.register("carol").await;
    let [muted, mentions, open] =
        [room_of(&alice, &bob).await, room_of(&alice, &bob).await, room_of(&alice, &bob).await];
    for room in [&mentions, &open] {
        alice.invite(room, &carol).await;
        carol.join(room).await;
    }
    rule(&bob, "room", &mentions, json!({"actions": []})).await;
    let in_it = json!([{"kind": "event_match", "key": "room_id", "pattern": muted}]);
    rule(&bob, "override", &muted, json!({"conditions": in_it, "actions": []})).await;
    let cake = json!({"pattern": "cake", "actions": ["notify", {"set_tweak": "sound", "value": "cake.wav"}, {"set_tweak": "blink"}]});
    rule(&bob, "content", "cake", cake).await;
    let ignored = json!({"ignored_users": {carol.id.clone(): {}}});
    bob.put(&format!("/_matrix/client/v3/user/{}/account_data/m.ignored_user_list", encode(&bob.id)), ignored)
        .await
        .ok();
    set(&bob, pusher(&gateway, "k")).await;
    let mention = json!({"msgtype": "m.text", "body": "bob?", "m.mentions": {"user_ids": [bob.id]}});
    alice.send(&muted, "m.room.message", mention.clone()).await;
    alice.say(&mentions, "hello").await;
    let mentioned = alice.send(&mentions, "m.room.message", mention.clone()).await;
    carol.say(&open, "you don't hear me").await;
    alice.send(&open, "m.room.message", json!({"msgtype": "m.notice", "body": "beep"})).await;
    alice
        .send(
            &open,
            "m.reaction",
            json!({"m.relates_to": {"rel_type": "m.annotation", "event_id": mentioned, "key": "x"}}),
        )
        .await;
    let sealed =
        alice.send(&open, "m.room.encrypted", json!({"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "x"})).await;
    let call = alice.send(&open, "m.call.invite", json!({"call_id": "1", "version": "1", "lifetime": 1000})).await;
    let room = alice
        .send(&open, "m.room.message", json!({"msgtype": "m.text", "body": "all", "m.mentions": {"room": true}}))
        .await;
    let sweet = alice.say(&open, "there is Cake!").await;
    let plain = alice.say(&open, "and tea").await;
    hears(&gateway, "k", &plain).await;
    let expected = [mentioned, sealed, call, room, sweet, plain];
    assert_eq!(events(&gateway, "k"), expected);
    let heard: Vec<_> =
        told(&gateway, "k").iter().map(|told| (told["devices"][0]["tweaks"].clone(), told["prio"].clone())).collect();
    let high = |tweaks: Value| (tweaks, json!("high"));
    assert_eq!(heard[0], high(json!({"sound": "default", "highlight": true})));
    assert_eq!(heard[1], high(json!({})));
    assert_eq!(heard[2], high(json!({"sound": "ring"})));
    assert_eq!(heard[3], high(json!({"highlight": true})));
    assert_eq!(heard[4], high(json!({"sound": "cake.wav", "blink": null})));
    assert_eq!(heard[5], (json!({}), json!("low")));
}

#[tokio::test]
async fn what_is_taken_back_or_silenced_is_not_told() {
    let (server, gateway) = start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let open = room_of(&alice, &bob).await;
    set(&bob, pusher(&gateway, "k")).await;
    // Who hears everything, and by whom it is seen what has been gone through.
    let dan = server.register("dan").await;
    alice.invite(&open, &dan).await;
    dan.join(&open).await;
    set(&dan, pusher(&gateway, "d")).await;
    gateway.says(NOTIFY, Says::Json(500, json!({})));
    let regretted = alice.say(&open, "oh no").await;
    until("an attempt", async || events(&gateway, "k").contains(&regretted).then_some(())).await;
    alice.put(&in_room(&open, &format!("redact/{}/r", encode(&regretted))), json!({})).await.ok();
    gateway.says(NOTIFY, Says::Json(200, json!({"rejected": []})));
    let attempts = |id: &str| events(&gateway, "k").iter().filter(|event| *event == id).count();
    let then = alice.say(&open, "as I said").await;
    hears(&gateway, "k", &then).await;
    let before = attempts(&regretted);
    let last = alice.say(&open, "good").await;
    hears(&gateway, "k", &last).await;
    assert_eq!(attempts(&regretted), before);
    rule(&bob, "sender", &alice.id, json!({"actions": []})).await;
    let whispered = alice.say(&open, "whisper").await;
    hears(&gateway, "d", &whispered).await;
    bob.delete(&format!("/_matrix/client/v3/pushrules/global/sender/{}", encode(&alice.id))).await.ok();
    // The switch for everything.
    bob.put("/_matrix/client/v3/pushrules/global/override/.m.rule.master/enabled", json!({"enabled": true})).await.ok();
    let unheard = alice.say(&open, "silence").await;
    hears(&gateway, "d", &unheard).await;
    bob.put("/_matrix/client/v3/pushrules/global/override/.m.rule.master/enabled", json!({"enabled": false}))
        .await
        .ok();
    let loud = alice.say(&open, "noise").await;
    hears(&gateway, "k", &loud).await;
    assert_eq!((attempts(&whispered), attempts(&unheard)), (0, 0));
}

#[tokio::test]
async fn invites_are_told_from_here_and_from_elsewhere() {
    let (server, gateway) = start().await;
    let elsewhere = federated("", "").await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let dora = elsewhere.register("dora").await;
    is_called(&dora, "Dora").await;
    set(&bob, pusher(&gateway, "k")).await;
    let room = alice.create_room(json!({"name": "Attic", "invite": [bob.id]})).await;
    let heard = |room: String| {
        let gateway = &gateway;
        async move { until("an invite", async || told(gateway, "k").into_iter().find(|told| told["room_id"] == room)).await }
    };
    let near = heard(room.clone()).await;
    assert_eq!((&near["type"], &near["content"]["membership"]), (&json!("m.room.member"), &json!("invite")));
    assert_eq!((&near["user_is_target"], &near["room_name"]), (&json!(true), &json!("Attic")));
    let far = dora.create_room(json!({"name": "Far away", "invite": [bob.id]})).await;
    let far = heard(far).await;
    assert_eq!((&far["sender"], &far["sender_display_name"]), (&json!(dora.id), &json!("Dora")));
    assert_eq!((&far["room_name"], &far["devices"][0]["tweaks"]), (&json!("Far away"), &json!({"sound": "default"})));
    // What was said before one came is no news.
    let open = alice.create_room(json!({"preset": "public_chat"})).await;
    let old = alice.say(&open, "before").await;
    bob.join(&open).await;
    let new = alice.say(&open, "after").await;
    hears(&gateway, "k", &new).await;
    assert!(!events(&gateway, "k").contains(&old));
    bob.leave(&open).await;
    let gone = alice.say(&open, "gone").await;
    bob.join(&room).await;
    let last = alice.say(&room, "welcome").await;
    hears(&gateway, "k", &last).await;
    assert!(!events(&gateway, "k").contains(&gone));
}

#[tokio::test]
async fn a_gateway_that_is_slow_or_talks_without_end_holds_nobody_up() {
    let (server, quick) = start().await;
    let (silent, endless) = (Peer::start().await, Peer::start().await);
    silent.says(NOTIFY, Says::Silence);
    endless.says(NOTIFY, Says::Endless(b"HTTP/1.1 200 OK\r\n\r\n{\"rejected\": [                ".to_vec()));
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = room_of(&alice, &bob).await;
    set(&bob, pusher(&silent, "silent")).await;
    set(&bob, pusher(&endless, "endless")).await;
    set(&bob, pusher(&quick, "quick")).await;
    let first = alice.say(&room, "one").await;
    hears(&silent, "silent", &first).await;
    let second = alice.say(&room, "two").await;
    tokio::time::timeout(Duration::from_secs(14), hears(&quick, "quick", &second)).await.expect("it waits for nobody");
    let failed = until("a failure", async || {
        let log = log(&bob).await;
        let of = log.iter().find(|pusher| pusher["gateway"] == endless.name())?["log"][0].clone();
        (of["outcome"] == "failed").then_some(of)
    });
    let failed = failed.await;
    assert!(failed["error"].as_str().is_some_and(|error| error.contains("longer than")), "{failed}");
    assert!(server.own_memory() < 400 << 20);
}

#[tokio::test]
async fn not_everything_can_be_a_pusher() {
    let (server, gateway) = start().await;
    let bob = server.register("bob").await;
    let with = |change: Value| {
        let mut wish = pusher(&gateway, "k");
        for (key, value) in change.as_object().expect("an object") {
            wish[key] = value.clone();
        }
        wish
    };
    let refused = async |wish: Value, errcode: &str| {
        bob.post("/_matrix/client/v3/pushers/set", wish).await.fails(400, errcode);
    };
    for key in ["kind", "app_id", "pushkey", "lang", "data", "app_display_name", "device_display_name"] {
        let mut wish = pusher(&gateway, "k");
        wish.as_object_mut().expect("an object").remove(key);
        refused(wish, "M_MISSING_PARAM").await;
    }
    refused(with(json!({"data": {}})), "M_MISSING_PARAM").await;
    refused(with(json!({"pushkey": "k".repeat(513)})), "M_INVALID_PARAM").await;
    refused(with(json!({"app_id": "k".repeat(65)})), "M_INVALID_PARAM").await;
    refused(with(json!({"kind": "email"})), "M_INVALID_PARAM").await;
    refused(with(json!({"kind": "pigeon"})), "M_INVALID_PARAM").await;
    refused(with(json!({"kind": 7})), "M_BAD_JSON").await;
    let name = gateway.name();
    for url in [
        format!("http://{name}{NOTIFY}"),
        format!("https://{name}/_matrix/push/v1/notify/"),
        format!("https://{name}/elsewhere"),
        format!("https://me:secret@{name}{NOTIFY}"),
        format!("https://{name}{NOTIFY}#x"),
        format!("ftp://{name}{NOTIFY}"),
        "nonsense".to_owned(),
    ] {
        refused(with(json!({"data": {"url": url}})), "M_INVALID_PARAM").await;
    }
    for _ in 0..2 {
        set(&bob, json!({"kind": null, "app_id": "org.example.app", "pushkey": "unknown"})).await;
    }
    for n in 0..50 {
        set(&bob, with(json!({"pushkey": n.to_string()}))).await;
    }
    bob.post("/_matrix/client/v3/pushers/set", pusher(&gateway, "k")).await.fails(403, "M_RESOURCE_LIMIT_EXCEEDED");
    set(&bob, with(json!({"pushkey": "7", "org.matrix.msc3881.enabled": false}))).await;
    let off = pushers(&bob).await.into_iter().filter(|pusher| pusher["org.matrix.msc3881.enabled"] == false);
    assert_eq!(off.count(), 1);
    server.guest().get("/_matrix/client/v3/pushers").await.fails(401, "M_MISSING_TOKEN");
    server.guest().post("/_matrix/client/v3/pushers/set", pusher(&gateway, "k")).await.fails(401, "M_MISSING_TOKEN");
}

#[tokio::test]
async fn gateways_in_private_networks_are_not_called() {
    let server = federated("", "allow_private_addresses = false\n").await;
    let gateway = Peer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = room_of(&alice, &bob).await;
    let mut wish = pusher(&gateway, "k");
    for host in
        [format!("127.0.0.1:{}", free_address().port()), "[::1]".into(), "10.1.2.3".into(), "169.254.169.254".into()]
    {
        wish["data"]["url"] = json!(format!("https://{host}{NOTIFY}"));
        bob.post("/_matrix/client/v3/pushers/set", wish.clone()).await.fails(400, "M_INVALID_PARAM");
    }
    // What a name stands for is seen when it is called.
    set(&bob, pusher(&gateway, "k")).await;
    alice.say(&room, "hello").await;
    let failed = until("a failure", async || log(&bob).await[0]["log"].as_array()?.first().cloned()).await;
    assert_eq!((&failed["outcome"], &failed["status"]), (&json!("failed"), &Value::Null));
    assert_eq!(failed["error"], "can't connect", "what the name stands for is not told");
    assert!(gateway.asked("/").is_empty());
}

#[tokio::test]
async fn what_one_was_notified_of_can_be_looked_up() {
    let server = Server::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let (kitchen, garden) = (room_of(&alice, &bob).await, room_of(&alice, &bob).await);
    let one = alice.say(&kitchen, "one").await;
    let mention = json!({"msgtype": "m.text", "body": "bob!", "m.mentions": {"user_ids": [bob.id]}});
    let two = alice.send(&garden, "m.room.message", mention).await;
    let root = alice.say(&kitchen, "three").await;
    let thread =
        json!({"msgtype": "m.text", "body": "aside", "m.relates_to": {"rel_type": "m.thread", "event_id": root}});
    let four = alice.send(&kitchen, "m.room.message", thread).await;
    is_called(&bob, "Robert").await;
    let attic = alice.create_room(json!({"invite": [bob.id]})).await;
    let page = async |query: &str| bob.get(&format!("/_matrix/client/v3/notifications{query}")).await.ok();
    let ids = |page: &Value| -> Vec<String> {
        let all = page["notifications"].as_array().expect("a list").iter();
        all.map(|one| one["event"]["event_id"].as_str().expect("an ID").to_owned()).collect()
    };
    let whole = page("").await;
    let newest = &whole["notifications"][0];
    assert_eq!((&newest["room_id"], &newest["event"]["content"]["membership"]), (&json!(attic), &json!("invite")));
    assert_eq!(ids(&whole)[1..], [four.clone(), root.clone(), two.clone(), one.clone()]);
    assert!(whole.get("next_token").is_none(), "{whole}");
    assert_eq!(newest["actions"], json!(["notify", {"set_tweak": "sound", "value": "default"}]));
    assert!(newest["ts"].as_u64().is_some() && newest["event"].get("room_id").is_none());
    // Page by page it is the same.
    let (mut from, mut paged) = (String::new(), Vec::new());
    loop {
        let part = page(&format!("?limit=2{from}")).await;
        paged.extend(ids(&part));
        let Some(next) = part["next_token"].as_str() else { break };
        from = format!("&from={next}");
    }
    assert_eq!(paged, ids(&whole));
    assert_eq!(ids(&page("?only=highlight").await), [two]);
    bob.get("/_matrix/client/v3/notifications?from=x").await.fails(400, "M_INVALID_PARAM");
    let read = |page: &Value| -> Vec<bool> {
        page["notifications"].as_array().expect("a list").iter().map(|one| one["read"] == true).collect()
    };
    assert_eq!(read(&whole), [false; 5]);
    let main = json!({"thread_id": "main"});
    bob.post(&in_room(&kitchen, &format!("receipt/m.read/{}", encode(&root))), main).await.ok();
    assert_eq!(read(&page("").await), [false, false, true, false, true]);
    alice.put(&in_room(&kitchen, &format!("redact/{}/r", encode(&four))), json!({})).await.ok();
    assert!(!ids(&page("").await).contains(&four));
    assert!(ids(&alice.get("/_matrix/client/v3/notifications").await.ok()).is_empty(), "one's own are none");
}

#[tokio::test]
async fn administrators_see_how_it_stands_with_pushers_and_others_don_t() {
    let (server, gateway) = start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = room_of(&alice, &bob).await;
    set(&bob, pusher(&gateway, "bobs-secret-key")).await;
    let said = alice.say(&room, "hello").await;
    hears(&gateway, "bobs-secret-key", &said).await;
    let path = format!("/_matrix/client/unstable/chat.hearth.admin/pushers/{}", encode(&bob.id));
    bob.get(&path).await.fails(403, "M_FORBIDDEN");
    // It is noted once the gateway has answered.
    let noted = async || {
        let seen = alice.get(&path).await.ok();
        (seen["pushers"][0]["log"][0]["event_id"] == json!(said)).then_some(seen)
    };
    let seen = until("what was told is noted", noted).await;
    assert_eq!(seen["pushers"][0]["device_id"], json!(bob.device));
    let listed = alice.get(&format!("/_synapse/admin/v1/users/{}/pushers", encode(&bob.id))).await.ok();
    assert_eq!((&listed["total"], &listed["pushers"][0]["app_id"]), (&json!(1), &json!("org.example.app")));
    assert!(!seen.to_string().contains("bobs-secret-key") && !listed.to_string().contains("bobs-secret-key"));
    assert!(log(&alice).await.is_empty(), "one's own alone");
}

/// Polls, and that they are over, are told like messages; what each person answers is not, whoever it mentions.
/// spec: MSC3930
#[tokio::test]
async fn polls_are_told_like_messages_and_answers_to_them_are_not() {
    let (server, gateway) = start().await;
    let (alice, bob, carol) =
        (server.register("alice").await, server.register("bob").await, server.register("carol").await);
    let two = room_of(&alice, &bob).await;
    let three = alice.create_room(json!({"preset": "public_chat"})).await;
    bob.join(&three).await;
    carol.join(&three).await;
    set(&bob, pusher(&gateway, "k")).await;
    let poll = |kind: &str| format!("org.matrix.msc3381.poll.{kind}");
    let mut told_of = Vec::new();
    for (room, tweaks) in [(&two, json!({"sound": "default"})), (&three, json!({}))] {
        let question = json!({"question": {"org.matrix.msc1767.text": "Tea?"}, "kind": "org.matrix.msc3381.poll.disclosed",
            "answers": [{"id": "y", "org.matrix.msc1767.text": "Yes"}]});
        let asked = alice.send(room, &poll("start"), json!({poll("start"): question})).await;
        let about = json!({"rel_type": "m.reference", "event_id": asked});
        let answered = json!({poll("response"): {"answers": ["y"]}, "m.relates_to": about});
        alice.send(room, &poll("response"), answered).await;
        let over = alice.send(room, &poll("end"), json!({poll("end"): {}, "m.relates_to": about})).await;
        for event in [&asked, &over] {
            let push = hears(&gateway, "k", event).await;
            assert_eq!(push["devices"][0]["tweaks"], tweaks, "{push}");
        }
        told_of.extend([asked, over]);
    }
    assert_eq!(events(&gateway, "k"), told_of);
    // Each of the rules can be switched off.
    let off = "/_matrix/client/v3/pushrules/global/underride/.org.matrix.msc3930.rule.poll_start_one_to_one/enabled";
    bob.put(off, json!({"enabled": false})).await.ok();
    let quietly = "/_matrix/client/v3/pushrules/global/underride/.org.matrix.msc3930.rule.poll_start/actions";
    bob.put(quietly, json!({"actions": []})).await.ok();
    alice.send(&two, &poll("start"), json!({poll("start"): {}})).await;
    let said = alice.say(&two, "nobody?").await;
    hears(&gateway, "k", &said).await;
    told_of.push(said);
    assert_eq!(events(&gateway, "k"), told_of);
}
