//! Application services as bridges use them: acting as many people, with names that nobody else may have, and
//! being told what happens in their rooms: all of it, in order, once, whatever falls over meanwhile.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::common::{Bridge, Says, Server, User, encode, in_room, until};

const REGISTER: &str = "/_matrix/client/v3/register";
const QUIET: &str = "rate_limits = false\n";

/// A server, and a bridge that is in a room with Alice.
async fn settled(more: &str) -> (Bridge, Server, User, String) {
    let bridge = Bridge::start("b", more).await;
    let server = Server::start_with(&bridge.settings(QUIET)).await;
    let alice = server.register("alice").await;
    let bot = bridge.bot(&server);
    bot.get("/_matrix/client/v3/account/whoami").await.ok();
    let room = alice.create_room(json!({"invite": [bot.id]})).await;
    bot.join(&room).await;
    (bridge, server, alice, room)
}

async fn says_it_was_told(bridge: &Bridge, text: &str) {
    until(text, async || bridge.texts().iter().any(|told| told == text).then_some(())).await;
}

#[tokio::test]
async fn a_bridge_is_told_of_its_rooms_and_speaks_as_its_people() {
    let (bridge, server, alice, room) = settled("").await;
    let invite = until("the invite", async || {
        bridge.events().into_iter().find(|event| event["content"]["membership"] == "invite")
    });
    let invite = invite.await;
    assert_eq!((&invite["state_key"], &invite["room_id"]), (&json!("@bbot:localhost"), &json!(room)));
    let told = invite["unsigned"]["invite_room_state"].as_array().expect("what the room says of itself");
    assert!(told.iter().any(|event| event["type"] == "m.room.join_rules"), "{told:?}");
    let asked = bridge.asked("/_matrix/app/v1/transactions/");
    assert_eq!(asked[0].headers["authorization"], format!("Bearer {}", bridge.hs_token));
    assert!(!asked[0].uri.contains('?'), "no secret in the address");

    let anna = bridge.make(&server, "_b_anna").await;
    bridge.bot(&server).invite(&room, &anna).await;
    anna.join(&room).await;
    let name = format!("/_matrix/client/v3/profile/{}/displayname", encode(&anna.id));
    anna.put(&name, json!({"displayname": "Anna of elsewhere"})).await.ok();
    anna.say(&room, "from the other side").await;
    alice.say(&room, "hello over there").await;
    says_it_was_told(&bridge, "hello over there").await;
    let sync = alice.sync(None, 0).await;
    let timeline = sync["rooms"]["join"][&room]["timeline"]["events"].as_array().expect("events").clone();
    assert!(timeline.iter().any(|event| event["sender"] == anna.id.as_str() && event["type"] == "m.room.message"));

    // What it was told is the room's own history, each event once.
    let events = bridge.events();
    let ids: HashSet<_> = events.iter().map(|event| event["event_id"].as_str().expect("an ID")).collect();
    assert_eq!(ids.len(), events.len());
    assert!(events.iter().all(|event| event["room_id"] == room.as_str()));
    // It is none of the bridge's business what is said elsewhere.
    let other = alice.create_room(json!({})).await;
    alice.say(&other, "a secret").await;
    alice.say(&room, "and on").await;
    says_it_was_told(&bridge, "and on").await;
    assert!(!bridge.texts().contains(&"a secret".to_owned()));
}

#[tokio::test]
async fn a_message_may_be_of_another_time_if_a_bridge_says_so() {
    let (bridge, server, alice, room) = settled("").await;
    let bot = bridge.bot(&server);
    let message = json!({"msgtype": "m.text", "body": "long ago"});
    for (user, then, is_old) in [(&bot, "1000000000000", true), (&alice, "1000000000000", false)] {
        let path = in_room(&room, &format!("send/m.room.message/old?ts={then}"));
        let sent = user.put(&path, message.clone()).await.ok();
        let event = sent["event_id"].as_str().expect("an ID");
        let event = alice.get(&in_room(&room, &format!("event/{}", encode(event)))).await.ok();
        assert_eq!(event["origin_server_ts"] == json!(1_000_000_000_000_u64), is_old, "{event}");
    }
    alice.put(&in_room(&room, "state/m.room.power_levels"), json!({"users": {&bot.id: 100}})).await.ok();
    bot.put(&in_room(&room, "state/m.room.topic?ts=1000000000001"), json!({"topic": "old"})).await.ok();
    let state = alice.get(&in_room(&room, "state")).await.ok();
    let topic = state.as_array().expect("state").iter().find(|event| event["type"] == "m.room.topic").expect("set");
    assert_eq!(topic["origin_server_ts"], json!(1_000_000_000_001_u64));
    bot.put(&in_room(&room, "state/m.room.topic?ts=soon"), json!({"topic": "x"})).await.fails(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn its_names_are_its_own_and_no_others_are() {
    let (bridge, server, alice, room) = settled("").await;
    let guest = server.guest();
    for name in ["_b_mallory", "bbot"] {
        let body = json!({"username": name, "password": "a long password", "auth": {"type": "m.login.dummy"}});
        guest.post(REGISTER, body).await.fails(400, "M_EXCLUSIVE");
        let available = format!("/_matrix/client/v3/register/available?username={name}");
        guest.get(&available).await.fails(400, "M_EXCLUSIVE");
    }
    let alias = json!({"room_id": room});
    alice.put("/_matrix/client/v3/directory/room/%23_b_x%3Alocalhost", alias.clone()).await.fails(400, "M_EXCLUSIVE");
    let made = alice.post("/_matrix/client/v3/createRoom", json!({"room_alias_name": "_b_x"})).await;
    made.fails(400, "M_EXCLUSIVE");
    let bot = bridge.bot(&server);
    bot.put("/_matrix/client/v3/directory/room/%23other%3Alocalhost", alias.clone()).await.fails(400, "M_EXCLUSIVE");
    bot.put("/_matrix/client/v3/directory/room/%23_b_x%3Alocalhost", alias).await.ok();
    // Its aliases lead where it likes, also to rooms that its people are not in.
    let apart = alice.create_room(json!({})).await;
    bot.put("/_matrix/client/v3/directory/room/%23_b_y%3Alocalhost", json!({"room_id": apart})).await.ok();
    let nowhere = json!({"room_id": "!nowhere:localhost"});
    bot.put("/_matrix/client/v3/directory/room/%23_b_z%3Alocalhost", nowhere).await.fails(404, "M_NOT_FOUND");

    let body = |name: &str| json!({"type": "m.login.application_service", "username": name});
    bot.post(REGISTER, body("mallory")).await.fails(400, "M_EXCLUSIVE");
    guest.post(REGISTER, body("_b_anna")).await.fails(401, "M_MISSING_TOKEN");
    alice.post(REGISTER, body("_b_anna")).await.fails(401, "M_UNKNOWN_TOKEN");
    bridge.make(&server, "_b_anna").await;
    bot.post(REGISTER, body("_b_anna")).await.fails(400, "M_USER_IN_USE");

    let whoami = "/_matrix/client/v3/account/whoami";
    bridge.act_as(&server, "alice").get(whoami).await.fails(403, "M_FORBIDDEN");
    bridge.act_as(&server, "_b_nobody").get(whoami).await.fails(403, "M_FORBIDDEN");
    let mut elsewhere = bridge.bot(&server);
    elsewhere.acting = Some("user_id=%40_b_anna%3Aelsewhere.org".to_owned());
    elsewhere.get(whoami).await.fails(403, "M_FORBIDDEN");
    assert_eq!(bridge.act_as(&server, "_b_anna").get(whoami).await.ok()["user_id"], "@_b_anna:localhost");
    let mut liar = bridge.bot(&server);
    for token in [&*bridge.hs_token, "as_secret"] {
        liar.token = Some(token.to_owned());
        liar.get(whoami).await.fails(401, "M_UNKNOWN_TOKEN");
    }
    let masked = format!("{whoami}?user_id=%40_b_anna%3Alocalhost");
    assert_eq!(alice.get(&masked).await.ok()["user_id"], alice.id.as_str(), "others are who they are");
    let log = server.log();
    assert!(!log.contains(&bridge.hs_token) && !log.contains(&bridge.as_token));
}

#[tokio::test]
async fn its_people_have_devices_and_sessions_without_proving_anything() {
    let (bridge, server, ..) = settled("").await;
    let anna = bridge.make(&server, "_b_anna").await;
    let whoami = "/_matrix/client/v3/account/whoami";
    assert!(anna.get(whoami).await.ok().get("device_id").is_none());
    anna.post("/_matrix/client/v3/keys/upload", json!({})).await.fails(400, "M_MISSING_PARAM");
    let device = "/_matrix/client/v3/devices/BRIDGE";
    assert_eq!(anna.put(device, json!({"display_name": "Bridge"})).await.status, 201);
    assert_eq!(anna.put(device, json!({"display_name": "The bridge"})).await.status, 200);
    assert_eq!(anna.get(device).await.ok()["display_name"], "The bridge");
    let on_device = |name: &str, key: &str| {
        let mut user = anna.clone();
        user.acting = Some(format!("{}&{key}={name}", anna.acting.as_ref().expect("acts")));
        user
    };
    for key in ["device_id", "org.matrix.msc3202.device_id"] {
        assert_eq!(on_device("BRIDGE", key).get(whoami).await.ok()["device_id"], "BRIDGE");
        on_device("OTHER", key).get(whoami).await.fails(400, "M_UNKNOWN_DEVICE");
    }
    anna.delete(device).await.ok();
    anna.get(device).await.fails(404, "M_NOT_FOUND");

    let login =
        |name: &str| json!({"type": "m.login.application_service", "identifier": {"type": "m.id.user", "user": name}});
    let path = "/_matrix/client/v3/login";
    let issued = bridge.bot(&server).post(path, login("_b_anna")).await.ok();
    let mut session = server.guest();
    session.token = issued["access_token"].as_str().map(str::to_owned);
    assert_eq!(session.get(whoami).await.ok()["user_id"], anna.id.as_str());
    bridge.bot(&server).post(path, login("alice")).await.fails(400, "M_EXCLUSIVE");
    server.guest().post(path, login("_b_anna")).await.fails(401, "M_MISSING_TOKEN");
    session.post(path, login("_b_anna")).await.fails(401, "M_UNKNOWN_TOKEN");
    let flows = server.guest().get(path).await.ok();
    let offered =
        flows["flows"].as_array().expect("flows").iter().any(|flow| flow["type"] == "m.login.application_service");
    assert!(offered, "{flows}");
}

#[tokio::test]
async fn only_a_bridge_that_is_to_be_is_limited() {
    let bridges = [Bridge::start("b", "").await, Bridge::start("c", "rate_limited: true\n").await];
    let settings = format!(
        "app_services = [{:?}, {:?}]\nregistration = \"open\"\nrate_limits = true\n",
        bridges[0].file, bridges[1].file
    );
    let server = Server::start_with(&settings).await;
    for (bridge, is_limited) in bridges.iter().zip([false, true]) {
        let person = bridge.make(&server, &format!("_{}_anna", bridge.id)).await;
        let bot = bridge.bot(&server);
        let room = bot.create_room(json!({"preset": "public_chat"})).await;
        person.join(&room).await;
        for (user, is_limited) in [(&person, is_limited), (&bot, false)] {
            let mut limited = false;
            for number in 0..100 {
                let path = in_room(&room, &format!("send/m.room.message/{number}"));
                limited |= user.put(&path, json!({"msgtype": "m.text", "body": "x"})).await.status == 429;
            }
            assert_eq!(limited, is_limited, "{}", user.id);
        }
    }
}

#[tokio::test]
async fn who_was_away_is_told_everything_in_order_and_once_and_holds_nobody_up() {
    let mut bridge = Bridge::start("b", "").await;
    let other = Bridge::start("c", "").await;
    let settings =
        format!("app_services = [{:?}, {:?}]\nregistration = \"open\"\nrate_limits = false\n", bridge.file, other.file);
    let mut server = Server::start_with(&settings).await;
    let alice = server.register("alice").await;
    let room = alice.create_room(json!({"preset": "public_chat"})).await;
    for bridge in [&bridge, &other] {
        bridge.bot(&server).join(&room).await;
    }
    alice.say(&room, "first").await;
    says_it_was_told(&bridge, "first").await;
    bridge.stop().await;
    let mut expected = vec!["first".to_owned()];
    for number in 0..230 {
        expected.push(format!("message {number}"));
        alice.say(&room, &format!("message {number}")).await;
        if number == 100 {
            server.restart().await;
        }
    }
    says_it_was_told(&other, "message 229").await;
    assert_eq!(bridge.texts(), ["first"]);
    bridge.resume().await;
    says_it_was_told(&bridge, "message 229").await;
    assert_eq!(bridge.texts(), expected);
    assert_eq!(other.texts(), expected);
    let ids: Vec<u64> = bridge.transactions().iter().map(|(id, _)| id.parse().expect("a number")).collect();
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
}

#[tokio::test]
async fn a_crash_in_the_middle_of_a_transaction_repeats_it_as_it_was() {
    let (bridge, mut server, alice, room) = settled("").await;
    alice.say(&room, "before").await;
    says_it_was_told(&bridge, "before").await;
    bridge.takes(Says::Silence);
    alice.say(&room, "one").await;
    says_it_was_told(&bridge, "one").await;
    alice.say(&room, "two").await;
    server.kill9().await;
    bridge.takes(Says::Json(200, json!({})));
    server.resume().await;
    alice.say(&room, "three").await;
    says_it_was_told(&bridge, "three").await;
    let all = bridge.transactions();
    let texts = |body: &Value| {
        let events = body["events"].as_array().expect("events").iter();
        events.map(|event| event["content"]["body"].as_str().unwrap_or("").to_owned()).collect::<Vec<_>>()
    };
    let with_one: Vec<_> = all.iter().filter(|(_, body)| texts(body).contains(&"one".to_owned())).collect();
    assert_eq!(with_one.len(), 2, "{all:?}");
    assert_eq!(with_one[0].0, with_one[1].0, "the same transaction");
    assert_eq!(texts(&with_one[0].1), texts(&with_one[1].1), "with the same in it");
    assert_eq!(bridge.texts(), ["before", "one", "two", "three"]);
}

#[tokio::test]
async fn a_bridge_that_refuses_is_told_the_same_again_and_administrators_see_it() {
    let (bridge, server, alice, room) = settled("").await;
    alice.say(&room, "before").await;
    says_it_was_told(&bridge, "before").await;
    bridge.takes(Says::Json(500, json!({"errcode": "M_UNKNOWN", "error": "not now"})));
    alice.say(&room, "again and again").await;
    let tried = until("two tries", async || {
        let tried = bridge.transactions();
        let with = |body: &Value| body.to_string().contains("again and again");
        let tried: Vec<_> = tried.into_iter().filter(|(_, body)| with(body)).collect();
        (tried.len() >= 2).then_some(tried)
    })
    .await;
    assert!(tried.iter().all(|again| *again == tried[0]), "{tried:?}");
    let health = "/_matrix/client/unstable/chat.hearth.admin/health";
    let shown = alice.get(health).await.ok()["app_services"][0].clone();
    assert_eq!((&shown["id"], &shown["last_error"]), (&json!("b"), &json!("answered 500")), "{shown}");
    assert!(shown["behind_by"].as_u64().is_some_and(|behind| behind > 0), "{shown}");
    bridge.takes(Says::Json(200, json!({})));
    // Who calls can be told again at once.
    bridge.bot(&server).get("/_matrix/client/v3/account/whoami").await.ok();
    until("all is well", async || {
        let shown = alice.get(health).await.ok()["app_services"][0].clone();
        (shown["last_error"].is_null() && shown["behind_by"] == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_old_bridge_is_told_where_it_listens() {
    let (bridge, _server, alice, room) = settled("").await;
    bridge.takes(Says::Json(404, json!({"errcode": "M_UNRECOGNIZED", "error": "?"})));
    bridge.says("/transactions/", Says::Json(200, json!({})));
    alice.say(&room, "to the old path").await;
    until("the old path", async || {
        let told = bridge.asked("/transactions/").into_iter();
        told.map(|asked| asked.body.to_string()).find(|body| body.contains("to the old path"))
    })
    .await;
}

#[tokio::test]
async fn what_passes_is_told_to_who_asks_for_it() {
    let (bridge, server, alice, room) = settled("receive_ephemeral: true\n").await;
    let event = alice.say(&room, "read this").await;
    let bob = server.register("bob").await;
    alice.invite(&room, &bob).await;
    bob.join(&room).await;
    bob.post(&in_room(&room, &format!("receipt/m.read/{}", encode(&event))), json!({})).await.ok();
    let typing = in_room(&room, &format!("typing/{}", encode(&alice.id)));
    alice.put(&typing, json!({"typing": true, "timeout": 30_000})).await.ok();
    let receipt = until("a receipt", async || bridge.passing("m.receipt").pop()).await;
    assert_eq!(receipt["room_id"], room.as_str());
    assert!(receipt["content"][&event]["m.read"][&bob.id]["ts"].is_u64(), "{receipt}");
    let typed = until("typing", async || bridge.passing("m.typing").pop()).await;
    assert_eq!((&typed["room_id"], &typed["content"]["user_ids"]), (&json!(room), &json!([alice.id])));
    alice.put(&typing, json!({"typing": false})).await.ok();
    until("no typing", async || {
        bridge.passing("m.typing").pop().filter(|typed| typed["content"]["user_ids"] == json!([]))
    })
    .await;
    let status = format!("/_matrix/client/v3/presence/{}/status", encode(&bob.id));
    bob.put(&status, json!({"presence": "unavailable", "status_msg": "at lunch"})).await.ok();
    until("presence", async || {
        let told = bridge.passing("m.presence").into_iter();
        told.rev().find(|told| told["sender"] == bob.id.as_str() && told["content"]["status_msg"] == "at lunch")
    })
    .await;
}

#[tokio::test]
async fn what_its_devices_have_to_know_is_told_too_once_and_over_a_crash() {
    let more = "de.sorunome.msc2409.push_ephemeral: true\norg.matrix.msc3202: true\n";
    let (bridge, mut server, alice, room) = settled(more).await;
    let bot = bridge.bot(&server);
    assert_eq!(bot.put("/_matrix/client/v3/devices/BOT", json!({})).await.status, 201);
    let mut on_device = bot.clone();
    on_device.acting = Some("device_id=BOT".to_owned());
    let send = |text: &'static str| {
        let (alice, bot) = (alice.clone(), bot.id.clone());
        async move {
            let path = format!("/_matrix/client/v3/sendToDevice/chat.test.secret/{text}");
            alice.put(&path, json!({"messages": {bot: {"BOT": {"text": text}}}})).await.ok();
        }
    };
    let told = |text: &'static str| {
        let all = bridge.transactions().into_iter();
        let messages = all.flat_map(|(id, body)| {
            let list = body["de.sorunome.msc2409.to_device"].as_array().cloned().unwrap_or_default();
            list.into_iter().map(move |message| (id.clone(), message))
        });
        messages.filter(|(_, message)| message["content"]["text"] == text).collect::<Vec<_>>()
    };
    send("first").await;
    let (_, message) = until("a message", async || told("first").pop()).await;
    assert_eq!((&message["to_user_id"], &message["to_device_id"]), (&json!(bot.id), &json!("BOT")));
    assert_eq!((&message["sender"], &message["type"]), (&json!(alice.id), &json!("chat.test.secret")));
    // Another comes while the bridge is silent, and the server falls over.
    bridge.takes(Says::Silence);
    send("second").await;
    until("the second", async || told("second").pop()).await;
    server.kill9().await;
    bridge.takes(Says::Json(200, json!({})));
    server.resume().await;
    send("third").await;
    until("the third", async || told("third").pop()).await;
    let second: HashSet<_> = told("second").into_iter().map(|(id, _)| id).collect();
    assert_eq!((told("first").len(), second.len(), told("third").len()), (1, 1, 1));
    let sync = on_device.sync(None, 0).await;
    assert_eq!(sync["to_device"]["events"].as_array().map_or(0, Vec::len), 0, "what was taken waits no more: {sync}");
    // Whose devices change, in its rooms.
    alice.say(&room, "hello").await;
    let device = format!("/_matrix/client/v3/devices/{}", alice.device);
    alice.put(&device, json!({"display_name": "My phone"})).await.ok();
    until("a change of devices", async || {
        let told = bridge.transactions().into_iter();
        told.map(|(_, body)| body["org.matrix.msc3202.device_lists"]["changed"].clone())
            .find(|changed| changed.as_array().is_some_and(|users| users.contains(&json!(alice.id))))
    })
    .await;
}

/// Whose devices a bridge has to follow, and whose not any more: of people who come and go, and where it does.
#[tokio::test]
async fn who_comes_to_share_a_room_with_a_bridge_and_who_shares_none_any_more() {
    let (bridge, server, alice, _) = settled("org.matrix.msc3202: true\n").await;
    let bot = bridge.bot(&server);
    let (carol, dave) = (server.register("carol").await, server.register("dave").await);
    let other = alice.create_room(json!({"preset": "public_chat"})).await;
    carol.join(&other).await;
    bot.join(&other).await;
    dave.join(&other).await;
    let listed = async |which: &'static str, user: &User| {
        until("people who came or went", async || {
            let told = bridge.transactions().into_iter();
            let lists = told.map(|(_, body)| body["org.matrix.msc3202.device_lists"][which].clone());
            lists.into_iter().find(|users| users.as_array().is_some_and(|users| users.contains(&json!(user.id))))
        })
        .await
    };
    listed("changed", &carol).await;
    listed("changed", &dave).await;
    carol.leave(&other).await;
    listed("left", &carol).await;
    // Dave stays, and the bridge goes; Alice is in another room with it.
    bot.leave(&other).await;
    assert!(!listed("left", &dave).await.to_string().contains(&alice.id));
}
