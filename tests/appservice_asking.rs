//! Application services are asked: for people and rooms that they could make, for what their networks hold, and
//! whether they are there. And what is wrong with a registration is said before it does harm.

use std::{
    fs,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::common::{Bridge, Says, Server, encode, in_room, until};

const QUIET: &str = "rate_limits = false\n";

#[tokio::test]
async fn people_and_rooms_come_to_be_when_somebody_asks_for_them() {
    let bridge = Bridge::start("b", "").await;
    let server = Server::start_with(&bridge.settings(QUIET)).await;
    let alice = server.register("alice").await;
    let room = alice.create_room(json!({})).await;
    let invite = |user: &str| (in_room(&room, "invite"), json!({"user_id": user}));
    let (path, body) = invite("@_b_nobody:localhost");
    alice.post(&path, body).await.fails(404, "M_NOT_FOUND");
    let asked = bridge.asked("/_matrix/app/v1/users/");
    assert_eq!(asked[0].uri, "/_matrix/app/v1/users/@_b_nobody:localhost");
    assert_eq!(asked[0].headers["authorization"], format!("Bearer {}", bridge.hs_token));

    // The bridge makes them while it is asked.
    bridge.says("/_matrix/app/v1/users/@_b_anna", Says::Wait);
    let (path, body) = invite("@_b_anna:localhost");
    let inviting = tokio::spawn({
        let alice = alice.clone();
        async move { alice.post(&path, body).await }
    });
    until("the question", async || bridge.asked("/_matrix/app/v1/users/@_b_anna").pop()).await;
    bridge.make(&server, "_b_anna").await;
    bridge.says("/_matrix/app/v1/users/@_b_anna", Says::Json(200, json!({})));
    inviting.await.expect("answers").ok();

    bridge.says("/_matrix/app/v1/rooms/", Says::Wait);
    let joining = tokio::spawn({
        let alice = alice.clone();
        async move { alice.post("/_matrix/client/v3/join/%23_b_kitchen%3Alocalhost", json!({})).await }
    });
    until("the question", async || bridge.asked("/_matrix/app/v1/rooms/").pop()).await;
    let made = json!({"preset": "public_chat", "room_alias_name": "_b_kitchen"});
    let kitchen = bridge.bot(&server).create_room(made).await;
    bridge.says("/_matrix/app/v1/rooms/", Says::Json(200, json!({})));
    assert_eq!(joining.await.expect("answers").ok()["room_id"], kitchen.as_str());

    // What is not the bridge's it is not asked for, and what is there neither.
    let before = bridge.asked("/_matrix/app/v1/").len() - bridge.asked("/_matrix/app/v1/transactions").len();
    alice.get("/_matrix/client/v3/directory/room/%23other%3Alocalhost").await.fails(404, "M_NOT_FOUND");
    alice.get("/_matrix/client/v3/directory/room/%23_b_kitchen%3Alocalhost").await.ok();
    alice.get("/_matrix/client/v3/profile/@nobody:localhost").await.fails(404, "M_NOT_FOUND");
    alice.get("/_matrix/client/v3/profile/@_b_anna:localhost").await.ok();
    let after = bridge.asked("/_matrix/app/v1/").len() - bridge.asked("/_matrix/app/v1/transactions").len();
    assert_eq!(before, after);
}

#[tokio::test]
async fn who_waits_for_a_bridge_that_does_not_answer_is_told_so() {
    let mut bridge = Bridge::start("b", "").await;
    let server = Server::start_with(&bridge.settings(QUIET)).await;
    let alice = server.register("alice").await;
    let anna = "/_matrix/client/v3/profile/@_b_anna:localhost";
    // It answers with something that is no answer to the question.
    bridge.says("/_matrix/app/v1/users/", Says::Json(500, json!({"errcode": "M_UNKNOWN_ERROR"})));
    alice.get(anna).await.fails(404, "M_NOT_FOUND");
    bridge.stop().await;
    alice.get(anna).await.fails(408, "M_UNKNOWN");
    alice.get("/_matrix/client/v3/directory/room/%23_b_x%3Alocalhost").await.fails(408, "M_UNKNOWN");
    // A room is not made without somebody who might have been in it.
    let wish = json!({"invite": ["@_b_anna:localhost"]});
    alice.post("/_matrix/client/v3/createRoom", wish.clone()).await.fails(408, "M_UNKNOWN");
    // It comes back while somebody waits.
    let before = bridge.asked("/_matrix/app/v1/users/").len();
    let inviting = tokio::spawn({
        let alice = alice.clone();
        async move { alice.get(anna).await }
    });
    bridge.resume().await;
    inviting.await.expect("answers").fails(404, "M_NOT_FOUND");
    assert_eq!(bridge.asked("/_matrix/app/v1/users/").len(), before + 1);
}

/// A bridge that takes questions and says nothing keeps nobody waiting for longer than ten seconds.
#[tokio::test]
async fn who_waits_for_a_bridge_that_says_nothing_is_told_so_in_time() {
    let bridge = Bridge::start("b", "protocols: [irc]\n").await;
    let server = Server::start_with(&bridge.settings(QUIET)).await;
    let (alice, bot) = (server.register("alice").await, bridge.bot(&server));
    for path in ["users/", "rooms/", "ping", "thirdparty/"] {
        bridge.says(&format!("/_matrix/app/v1/{path}"), Says::Silence);
    }
    let began = Instant::now();
    let (anna, kitchen, pinged, network) = tokio::join!(
        alice.get("/_matrix/client/v3/profile/@_b_anna:localhost"),
        alice.post("/_matrix/client/v3/join/%23_b_kitchen%3Alocalhost", json!({})),
        bot.post("/_matrix/client/v1/appservice/b/ping", json!({})),
        alice.get("/_matrix/client/v3/thirdparty/protocol/irc"),
    );
    let took = began.elapsed();
    assert!(took > Duration::from_secs(9) && took < Duration::from_secs(20), "{took:?}");
    anna.fails(408, "M_UNKNOWN");
    kitchen.fails(408, "M_UNKNOWN");
    pinged.fails(504, "M_CONNECTION_TIMEOUT");
    network.fails(404, "M_NOT_FOUND");
    // It was asked once: who says nothing is not asked again while somebody waits.
    assert_eq!(bridge.asked("/_matrix/app/v1/users/").len(), 1);
}

#[tokio::test]
async fn a_bridge_can_find_out_whether_it_is_reached() {
    let mut bridge = Bridge::start("b", "").await;
    let other = Bridge::start("c", "").await;
    let silent = Bridge::start("d", "").await;
    let text = fs::read_to_string(&silent.file).expect("read");
    let url = text.lines().find(|line| line.starts_with("url:")).expect("a line");
    fs::write(&silent.file, text.replace(url, "url: null")).expect("written");
    let settings = format!(
        "app_services = [{:?}, {:?}, {:?}]\nregistration = \"open\"\n{QUIET}",
        bridge.file, other.file, silent.file
    );
    let server = Server::start_with(&settings).await;
    let alice = server.register("alice").await;
    let bot = bridge.bot(&server);
    bridge.says("/_matrix/app/v1/ping", Says::Json(200, json!({})));
    for path in ["v1/appservice", "unstable/fi.mau.msc2659/appservice"] {
        let path = format!("/_matrix/client/{path}/b/ping");
        assert!(bot.post(&path, json!({"transaction_id": "meow"})).await.ok()["duration_ms"].is_u64());
    }
    assert_eq!(bridge.asked("/_matrix/app/v1/ping")[0].body, json!({"transaction_id": "meow"}));
    let path = "/_matrix/client/v1/appservice/b/ping";
    alice.post(path, json!({})).await.fails(403, "M_FORBIDDEN");
    other.bot(&server).post(path, json!({})).await.fails(403, "M_FORBIDDEN");
    silent.bot(&server).post("/_matrix/client/v1/appservice/d/ping", json!({})).await.fails(400, "M_URL_NOT_SET");
    bridge.says("/_matrix/app/v1/ping", Says::Json(403, json!({"errcode": "M_FORBIDDEN"})));
    let answer = bot.post(path, json!({})).await;
    answer.fails(502, "M_BAD_STATUS");
    assert_eq!((&answer.body["status"], &answer.body["body"]), (&json!(403), &json!("{\"errcode\":\"M_FORBIDDEN\"}")));
    bridge.stop().await;
    bot.post(path, json!({})).await.fails(502, "M_CONNECTION_FAILED");
}

fn network(id: &str) -> Value {
    json!({
        "user_fields": ["nick"], "location_fields": ["channel"], "icon": "mxc://localhost/x", "field_types": {},
        "instances": [{"desc": format!("The {id} network"), "network_id": id, "fields": {}}],
    })
}

#[tokio::test]
async fn networks_are_asked_and_answered_as_one() {
    let bridges = [Bridge::start("b", "protocols: [irc]\n").await, Bridge::start("c", "protocols: [irc, x]\n").await];
    let settings =
        format!("app_services = [{:?}, {:?}]\nregistration = \"open\"\n{QUIET}", bridges[0].file, bridges[1].file);
    let server = Server::start_with(&settings).await;
    let alice = server.register("alice").await;
    let path = "/_matrix/client/v3/thirdparty";
    for (bridge, name) in bridges.iter().zip(["libera", "oftc"]) {
        bridge.says("/_matrix/app/v1/thirdparty/protocol/irc", Says::Json(200, network(name)));
        let user = json!([{"userid": format!("@_{}_anna:localhost", bridge.id), "protocol": "irc", "fields": {"nick": "anna"}}]);
        bridge.says("/_matrix/app/v1/thirdparty/user", Says::Json(200, user));
        let place = json!([{"alias": format!("#_{}_x:localhost", bridge.id), "protocol": "irc", "fields": {}}]);
        bridge.says("/_matrix/app/v1/thirdparty/location", Says::Json(200, place));
    }
    let irc = alice.get(&format!("{path}/protocol/irc")).await.ok();
    let instances: Vec<_> =
        irc["instances"].as_array().expect("a list").iter().map(|it| it["instance_id"].clone()).collect();
    assert_eq!(instances, [json!("b|libera"), json!("c|oftc")]);
    assert_eq!(irc["user_fields"], json!(["nick"]));
    let all = alice.get(&format!("{path}/protocols")).await.ok();
    assert_eq!(all, json!({"irc": irc}), "of x its bridge says nothing");
    alice.get(&format!("{path}/protocol/other")).await.fails(404, "M_NOT_FOUND");
    let people = alice.get(&format!("{path}/user/irc?nick=anna&server=libera")).await.ok();
    assert_eq!(people.as_array().map(Vec::len), Some(2), "{people}");
    let asked = bridges[0].asked("/_matrix/app/v1/thirdparty/user/irc");
    assert!(asked[0].uri.contains("nick=anna") && asked[0].uri.contains("server=libera"), "{asked:?}");
    for rest in ["location/irc?channel=x", "location?alias=%23_b_x%3Alocalhost", "user?userid=%40_b_anna%3Alocalhost"] {
        assert_eq!(alice.get(&format!("{path}/{rest}")).await.ok().as_array().map(Vec::len), Some(2), "{rest}");
    }
    assert_eq!(alice.get(&format!("{path}/user/other")).await.ok(), json!([]));
}

#[tokio::test]
async fn a_bridge_lists_rooms_of_its_networks() {
    let bridge = Bridge::start("b", "protocols: [irc]\n").await;
    let server = Server::start_with(&bridge.settings(QUIET)).await;
    let alice = server.register("alice").await;
    let bot = bridge.bot(&server);
    let room = bot.create_room(json!({"preset": "public_chat", "name": "Of elsewhere"})).await;
    let ours = alice.create_room(json!({"visibility": "public", "name": "Ours"})).await;
    let path = format!("/_matrix/client/v3/directory/list/appservice/libera/{}", encode(&room));
    alice.put(&path, json!({"visibility": "public"})).await.fails(403, "M_FORBIDDEN");
    let found = async |asked: Value| {
        let found = alice.post("/_matrix/client/v3/publicRooms", asked).await.ok();
        let rooms = found["chunk"].as_array().expect("a list").iter();
        let mut rooms: Vec<String> = rooms.map(|room| room["room_id"].as_str().expect("an ID").to_owned()).collect();
        rooms.sort();
        rooms
    };
    let of_network = json!({"third_party_instance_id": "b|libera"});
    for (visibility, is_listed) in [("public", true), ("private", false)] {
        bot.put(&path, json!({"visibility": visibility})).await.ok();
        assert_eq!(found(json!({})).await, [ours.as_str()]);
        let network = if is_listed { vec![room.clone()] } else { Vec::new() };
        assert_eq!(found(of_network.clone()).await, network);
        assert_eq!(found(json!({"third_party_instance_id": "b|oftc"})).await, Vec::<String>::new());
        let mut all = [network, vec![ours.clone()]].concat();
        all.sort();
        assert_eq!(found(json!({"include_all_networks": true})).await, all);
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_registration_is_said_before_anything_starts() {
    let bridges = [Bridge::start("b", "rate_limited: perhaps\n").await, Bridge::start("b", "").await];
    let dir = tempfile::tempdir().expect("a directory");
    let check = |files: &[&std::path::Path]| {
        let config = dir.path().join("hearth.toml");
        fs::write(&config, format!("app_services = {files:?}\n")).expect("written");
        let out = Server::command().arg("check").arg(&config).output().expect("it runs");
        (out.status.success(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let (fine, said) = check(&[&bridges[0].file]);
    assert!(!fine && said.contains("registration.yaml:13:") && said.contains("rate_limited"), "{said}");
    assert!(!said.contains(&bridges[0].as_token), "{said}");
    let (fine, said) = check(&[&bridges[1].file, &bridges[1].file]);
    assert!(!fine && said.contains("has the id \"b\" too") && said.contains("same as_token"), "{said}");
    let (fine, said) = check(&[&dir.path().join("gone.yaml")]);
    assert!(!fine && said.contains("gone.yaml") && said.contains("can't be read"), "{said}");
    let (fine, said) = check(&[&bridges[1].file]);
    assert!(fine, "{said}");
}
