//! Servers whose answers are not to be believed: the one that somebody comes into a room by, and the one that
//! says what allows an event. What they forge is left out or refused, what never ends is cut off, each leaves
//! a line in the log, and who asks goes on.

use std::time::{Duration, Instant};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use hearth::{
    base::{
        clock,
        signing::{Identity, SigningKey},
    },
    federation::server_keys,
};
use rcgen::{CertificateParams, DnType, Issuer, KeyPair, date_time_ymd};
use reqwest::Method;
use ruma::CanonicalJsonObject;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    common::{Answer, Peer, Says, Server, User, certificates, encode, federate, in_room, until},
    federation_hostile::{bodies, party, seal},
};

const TEMPLATE: &str = "/_matrix/federation/v1/make_join/";
const JOIN: &str = "/_matrix/federation/v2/send_join/";

/// A server of the test's own with a public room of carol's.
struct Host {
    peer: Peer,
    room: String,
    carol: String,
    /// The room's state: create, carol's membership, power levels, join rules.
    state: Vec<Value>,
    ids: Vec<String>,
}

impl Host {
    async fn start() -> Self {
        let peer = Peer::start().await;
        let (room, carol) = (format!("!room:{}", peer.name()), format!("@carol:{}", peer.name()));
        let mut host = Self { peer, room, carol, state: Vec::new(), ids: Vec::new() };
        host.state("m.room.create", "", json!({"room_version": "11"}), &[]);
        host.state("m.room.member", &host.carol.clone(), json!({"membership": "join"}), &[0]);
        host.state("m.room.power_levels", "", json!({"users": {&host.carol: 100}}), &[0, 1]);
        host.state("m.room.join_rules", "", json!({"join_rule": "public"}), &[0, 1, 2]);
        host.hands_over(json!({}));
        host
    }

    /// Adds a piece of state, which cites others by their places.
    fn state(&mut self, kind: &str, key: &str, content: Value, cites: &[usize]) {
        let (id, event) = seal(&self.peer, self.draft(kind, key, content, cites));
        self.ids.push(id);
        self.state.push(event);
    }

    fn draft(&self, kind: &str, key: &str, content: Value, cites: &[usize]) -> Value {
        let cited: Vec<&String> = cites.iter().map(|place| &self.ids[*place]).collect();
        let last: Vec<&String> = self.ids.iter().rev().take(1).collect();
        json!({
            "type": kind, "state_key": key, "sender": self.carol, "room_id": self.room, "content": content,
            "depth": self.ids.len() + 1, "origin_server_ts": hearth::base::clock::now_ms(),
            "prev_events": last, "auth_events": cited,
        })
    }

    /// A template for somebody, which they get when they ask.
    fn invites(&self, who: &User) -> Value {
        let mut event = self.draft("m.room.member", &who.id, json!({"membership": "join"}), &[0, 2, 3]);
        event["sender"] = json!(who.id);
        let template = json!({"room_version": "11", "event": event});
        self.peer.says(TEMPLATE, Says::Json(200, template.clone()));
        template
    }

    /// What a good answer to a join is, but for this.
    fn answer(&self, more: Value) -> Value {
        let mut answer = json!({"origin": self.peer.name(), "state": self.state, "auth_chain": self.state});
        answer.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        answer
    }

    fn hands_over(&self, more: Value) {
        self.peer.says(JOIN, Says::Json(200, self.answer(more)));
    }

    async fn asked_by(&self, who: &User) -> Answer {
        who.post(&format!("/_matrix/client/v3/join/{}?via={}", encode(&self.room), encode(self.peer.name())), json!({}))
            .await
    }

    /// That somebody does not come in, and the log says by whom.
    async fn keeps_out(&self, server: &Server, who: &User, what: &str) {
        let (before, began, lines) = (server.memory(), Instant::now(), server.log().len());
        let answer = self.asked_by(who).await;
        assert!([400, 403, 502].contains(&answer.status), "{what}: {} {}", answer.status, answer.body);
        assert!(began.elapsed() < Duration::from_secs(20), "{what} took {:?}", began.elapsed());
        assert!(server.memory() < before + (128 << 20), "{what} took memory");
        let line = format!("{} is of no help: ", self.peer.name());
        assert!(server.log()[lines..].contains(&line), "{what} is not in the log");
        let sync = who.sync(None, 0).await;
        assert!(sync["rooms"]["join"][&self.room].is_null(), "{what}: {sync}");
        assert_eq!(who.get(&in_room(&self.room, "state")).await.status, 403, "{what}");
    }

    /// An event as it is, but for this; signed again.
    fn bent(&self, place: usize, more: Value) -> Value {
        let mut event = self.state[place].clone();
        event.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        for name in ["hashes", "signatures"] {
            event.as_object_mut().expect("an object").remove(name);
        }
        seal(&self.peer, event).1
    }

    /// The state with another event in a place.
    fn with(&self, place: usize, event: Value) -> Value {
        let mut state = self.state.clone();
        state[place] = event;
        json!({"state": state, "auth_chain": state})
    }
}

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";

#[tokio::test]
async fn a_template_that_is_none_brings_nobody_in() {
    let [server] = federate().await;
    let (host, bob) = (Host::start().await, server.register("bob").await);
    let good = host.invites(&bob);
    let with = |name: &str, value: Value| {
        let mut template = good.clone();
        template["event"][name] = value;
        Says::Json(200, template)
    };
    let version = |version: Value| Says::Json(200, json!({"room_version": version, "event": good["event"]}));
    let many: Vec<String> = (0..5000).map(|n| format!("$event{n}")).collect();
    for (what, said) in [
        ("no JSON", Says::Bytes(format!("{HEAD}Content-Length: 3\r\n\r\nhey").into_bytes())),
        ("nothing in it", Says::Json(200, json!({}))),
        ("a list", Says::Json(200, json!([good]))),
        ("no event", Says::Json(200, json!({"room_version": "11", "event": 7}))),
        ("another version", version(json!("org.example.99"))),
        ("no version", version(json!(null))),
        ("very many to cite", with("auth_events", json!(many))),
        ("very many before it", with("prev_events", json!(many))),
        ("nobody's IDs", with("prev_events", json!([7, {}, "x"]))),
        ("an endless one", Says::Endless(format!("{HEAD}\r\n{{\"room_version\":\"11\",\"x\":\" ").into_bytes())),
        ("an announced one", Says::Bytes(format!("{HEAD}Content-Length: 99999999999\r\n\r\n{{").into_bytes())),
        ("one that breaks off", Says::Bytes(format!("{HEAD}Content-Length: 500\r\n\r\n{{\"room").into_bytes())),
        ("a refusal", Says::Json(403, json!({"errcode": "M_FORBIDDEN", "error": "no\nINFO all is well"}))),
    ] {
        host.peer.says(TEMPLATE, said);
        host.keeps_out(&server, &bob, what).await;
    }
    assert!(!server.log().contains("\nINFO all is well"), "nobody else writes lines into the log");
    assert!(host.peer.asked(JOIN).is_empty(), "nothing was handed in");
    // What it wants to have signed besides the join is not: ours is the join of who asked, to that room.
    let stray = json!({"membership": "join", "join_authorised_via_users_server": "@alice:elsewhere.test", "x": 1});
    for (name, value) in [
        ("sender", json!(host.carol)),
        ("state_key", json!(host.carol)),
        ("type", json!("m.room.power_levels")),
        ("room_id", json!("!other:elsewhere.test")),
        ("content", stray),
        ("redacts", json!("$something")),
    ] {
        let (said, before) = (with(name, value), host.peer.asked(JOIN).len());
        host.peer.says(TEMPLATE, said);
        host.peer.says(JOIN, Says::Json(403, json!({"errcode": "M_FORBIDDEN", "error": "no"})));
        host.asked_by(&bob).await;
        for asked in host.peer.asked(JOIN).split_off(before) {
            let event = &asked.body;
            let said = ["sender", "state_key", "type", "room_id"].map(|name| event[name].clone());
            assert_eq!(said, [json!(bob.id), json!(bob.id), json!("m.room.member"), json!(host.room)], "{name}");
            assert_eq!(event["content"]["membership"], "join", "{name}");
            assert!(event["redacts"].is_null() && event["content"]["x"].is_null(), "{event}");
        }
    }
    host.invites(&bob);
    host.hands_over(json!({}));
    host.asked_by(&bob).await.ok();
}

#[tokio::test]
async fn a_room_that_is_forged_is_not_entered() {
    let [server] = federate().await;
    let (host, bob) = (Host::start().await, server.register("bob").await);
    host.invites(&bob);
    let stranger = Peer::start().await;
    let without = |place: usize| {
        let state: Vec<&Value> =
            host.state.iter().enumerate().filter(|(at, _)| *at != place).map(|(_, event)| event).collect();
        json!({"state": state, "auth_chain": state})
    };
    let unsigned = |place: usize| {
        let mut event = host.state[place].clone();
        event["signatures"] = json!({});
        host.with(place, event)
    };
    let mut twice = host.state.clone();
    twice.push(host.bent(3, json!({"content": {"join_rule": "public"}, "depth": 9})));
    let message = json!({"type": "m.room.message", "content": {"body": "hi", "msgtype": "m.text"}});
    let (mut message, mut with_message) = (host.bent(3, message), host.state.clone());
    message.as_object_mut().expect("an object").remove("state_key");
    with_message.push(seal(&host.peer, message).1);
    let mut by_another = host.state[0].clone();
    by_another["sender"] = json!(format!("@carol:{}", stranger.name()));
    for (what, said) in [
        ("nothing", json!({"state": [], "auth_chain": []})),
        ("no beginning", without(0)),
        ("nobody in it", without(1)),
        ("no join rules", without(3)),
        ("a beginning that nobody has signed", unsigned(0)),
        ("join rules that nobody has signed", unsigned(3)),
        ("a beginning by another server", host.with(0, seal(&stranger, by_another).1)),
        ("a beginning of another version", host.with(0, host.bent(0, json!({"content": {"room_version": "10"}})))),
        ("another room", host.with(3, host.bent(3, json!({"room_id": "!other:elsewhere.test"})))),
        ("a closed room", host.with(3, host.bent(3, json!({"content": {"join_rule": "invite"}})))),
        ("two of a kind", json!({"state": twice})),
        ("a message among the state", json!({"state": with_message})),
        ("other things", json!({"state": 7, "auth_chain": {}})),
        ("numbers", json!({"state": [1, 2, 3], "auth_chain": [null]})),
        ("a large thing", json!({"state": [{"x": "x".repeat(200_000)}]})),
        ("a large member", json!({"event": "x".repeat(5_000_000)})),
    ] {
        host.hands_over(said);
        host.keeps_out(&server, &bob, what).await;
    }
    // It is none the worse for it.
    host.hands_over(json!({}));
    host.asked_by(&bob).await.ok();
    bob.say(&host.room, "at last").await;
}

#[tokio::test]
async fn an_answer_to_a_join_that_does_not_end_is_cut_off() {
    let [server] = federate().await;
    let (host, bob) = (Host::start().await, server.register("bob").await);
    host.invites(&bob);
    let deep = format!("{HEAD}Content-Length: 400010\r\n\r\n{{\"state\":[{}", "[".repeat(400_000));
    let text = host.answer(json!({})).to_string();
    for (what, said) in [
        ("no JSON", Says::Bytes(format!("{HEAD}Content-Length: 3\r\n\r\nhey").into_bytes())),
        ("deep nesting", Says::Bytes(deep.into_bytes())),
        ("half of it", Says::Bytes(format!("{HEAD}Content-Length: 99999\r\n\r\n{}", &text[..500]).into_bytes())),
        ("an endless event", Says::Endless(format!("{HEAD}\r\n{{\"state\":[{{\"x\":\"y").into_bytes())),
        ("an endless member", Says::Endless(format!("{HEAD}\r\n{{\"x\":\"y").into_bytes())),
        ("an endless name", Says::Endless(format!("{HEAD}\r\n{{\"xxx").into_bytes())),
        ("a refusal", Says::Json(403, json!({"errcode": "M_FORBIDDEN", "error": "no"}))),
    ] {
        host.peer.says(JOIN, said);
        host.keeps_out(&server, &bob, what).await;
    }
    host.hands_over(json!({}));
    host.asked_by(&bob).await.ok();
}

#[tokio::test]
async fn of_a_true_room_what_is_forged_is_left_out() {
    let [server] = federate().await;
    let (mut host, bob) = (Host::start().await, server.register("bob").await);
    let alice = server.register("alice").await;
    host.state("m.room.name", "", json!({"name": "Harbour"}), &[0, 1, 2]);
    host.invites(&bob);
    let mut more = host.state.clone();
    // Somebody of ours who never joined, with a signature of the wrong server; somebody who may not; a name
    // that was changed after it was signed, of which only the content goes.
    let forged =
        json!({"sender": alice.id, "state_key": alice.id, "auth_events": [host.ids[0], host.ids[2], host.ids[3]]});
    more.push(host.bent(1, forged));
    let eve = format!("@eve:{}", host.peer.name());
    let topic = host.draft("m.room.topic", "", json!({"topic": "eve's"}), &[0, 2]);
    let mut topic = topic;
    topic["sender"] = json!(eve);
    more.push(seal(&host.peer, topic).1);
    let name = more.iter_mut().find(|event| event["type"] == "m.room.name").expect("a name");
    name["content"]["name"] = json!("changed");
    host.hands_over(json!({"state": more}));
    host.asked_by(&bob).await.ok();
    let state = bob.get(&in_room(&host.room, "state")).await.ok();
    let mut found: Vec<(&str, &str)> = state
        .as_array()
        .expect("a list")
        .iter()
        .map(|event| (event["type"].as_str().unwrap_or_default(), event["state_key"].as_str().unwrap_or_default()))
        .collect();
    found.sort_unstable();
    let mut wanted = [
        ("m.room.create", ""),
        ("m.room.join_rules", ""),
        ("m.room.member", &*bob.id),
        ("m.room.member", &*host.carol),
        ("m.room.name", ""),
        ("m.room.power_levels", ""),
    ];
    wanted.sort_unstable();
    assert_eq!(found, wanted);
    let name = bob.get(&in_room(&host.room, "state/m.room.name/")).await.ok();
    assert_eq!(name, json!({}));
    let log = server.log();
    let line = log.lines().find(|line| line.contains("entered !")).expect("a line in the log");
    assert!(line.contains("left_out=") && !line.contains("left_out=0"), "{line}");
    let sync = alice.sync(None, 0).await;
    assert!(sync["rooms"]["join"].as_object().is_none_or(serde_json::Map::is_empty), "{sync}");
}

/// A certificate that was good once.
fn expired(folder: &std::path::Path) {
    let read = |name: &str| std::fs::read_to_string(certificates().join(name)).expect("read");
    let authority_key = KeyPair::from_pem(&read("ca-key.pem")).expect("a key");
    let mut of_authority = CertificateParams::new(Vec::new()).expect("no names");
    of_authority.distinguished_name.push(DnType::CommonName, "Hearth's authority for development");
    let authority = Issuer::new(of_authority, authority_key);
    let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
    (params.not_before, params.not_after) = (date_time_ymd(2019, 1, 1), date_time_ymd(2020, 1, 1));
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, &authority).expect("signed");
    std::fs::write(folder.join("old.pem"), certificate.pem()).expect("written");
    std::fs::write(folder.join("old-key.pem"), key.serialize_pem()).expect("written");
}

#[tokio::test]
async fn a_certificate_that_has_run_out_is_not_trusted() {
    let [server] = federate().await;
    let folder = TempDir::new().expect("a directory");
    expired(folder.path());
    let peer = Peer::start_with(&folder.path().join("old.pem"), &folder.path().join("old-key.pem")).await;
    let uri = "/_matrix/federation/v1/query/profile?user_id=%40a%3Ab";
    peer.ask(&server, Method::GET, uri, None).await.fails(401, "M_UNAUTHORIZED");
    assert!(peer.asked("/").is_empty(), "nothing was said to it");
    let line = format!("can't get the keys of {}: ", peer.name());
    let log = server.log();
    let line = log.lines().find(|text| text.contains(&line)).expect("a line in the log");
    assert!(line.to_lowercase().contains("expired"), "{line}");
    // Nor is it asked for people's sake.
    let bob = server.register("bob").await;
    let path = format!("/_matrix/client/v3/join/{}?via={}", encode("!room:elsewhere.test"), encode(peer.name()));
    bob.post(&path, json!({})).await.fails(502, "M_UNKNOWN");
    assert!(server.log().contains(&format!("{} is of no help: ", peer.name())));
}

/// What is asked for while an event is judged may be answered by what never ends: it is cut off, what stands on it
/// is shown to nobody, and the room goes on.
#[tokio::test]
async fn what_is_told_of_the_past_without_end_is_cut_off() {
    let (server, alice, guest) = party().await;
    let endless = |begin: &str| Says::Endless(format!("{HEAD}\r\n{begin}").into_bytes());
    let path = |what: &str| format!("/_matrix/federation/v1/{what}");
    let ids: Vec<String> = (0..400).map(|n| format!("${n:043}")).collect();
    let ids = Says::Json(200, json!({"pdu_ids": ids, "auth_chain_ids": []}));
    let none = Says::Json(200, json!({"events": []}));
    for (what, asked, said, line) in [
        ("before", "get_missing_events", endless("{\"events\":[{\"x\":\"y"), "does not tell what came before an event"),
        ("ids", "state_ids", endless("{\"pdu_ids\":[\"$"), "does not tell the state before an event"),
        ("ids without end", "state_ids", endless("{\"auth_chain_ids\":[],\"x\":\" "), "does not tell the state before"),
        ("auth", "event_auth", endless("{\"auth_chain\":[{\"x\":\"y"), "does not tell what allows an event"),
        ("one by one", "event/", endless("{\"pdus\":[{\"x\":\"y"), "can't be judged"),
    ] {
        guest.peer.says(&path(""), Says::Json(404, json!({"errcode": "M_NOT_FOUND", "error": "?"})));
        guest.peer.says(&path("get_missing_events"), none.clone());
        guest.peer.says(&path("state_ids"), ids.clone());
        guest.peer.says(&path(asked), said);
        let (memory, began, lines) = (server.memory(), Instant::now(), server.log().len());
        let mut more = json!({"prev_events": [format!("$unknown-{what}")]});
        if matches!(what, "auth" | "one by one") {
            more = json!({"auth_events": [guest.auth[0], format!("$unknown-{what}"), guest.auth[2]]});
        }
        let outcome = guest.outcome(&server, guest.message(&format!("on {what}"), more)).await;
        assert!(outcome["error"].is_string() || outcome == json!({}), "{what}: {outcome}");
        let log = || server.log()[lines..].to_owned();
        until(what, async || (log().contains("can't be judged") && log().contains(line)).then_some(())).await;
        assert!(began.elapsed() < Duration::from_secs(60), "{what} took {:?}", began.elapsed());
        assert!(server.memory() < memory + (128 << 20), "{what} took {} bytes", server.memory() - memory);
        assert!(!guest.peer.asked(&path(asked)).is_empty(), "{what}: it was not asked for");
    }
    let heard = bodies(&alice, &guest.room).await;
    assert!(!heard.iter().any(|body| body.starts_with("on ")), "{heard:?}");
    let (id, good) = guest.message("all the same", json!({}));
    assert_eq!(guest.send(&server, &[good]).await.ok()["pdus"][&id], json!({}));
    assert!(bodies(&alice, &guest.room).await.contains(&"all the same".to_owned()));
}

/// A key that its server has given up is good for what was sent before that, and for nothing that says that it was
/// sent later.
#[tokio::test]
async fn a_key_that_was_given_up_speaks_of_the_time_before_that_alone() {
    let (server, alice, guest) = party().await;
    let (eves, folder) = (Peer::start().await, TempDir::new().expect("a directory"));
    let fresh = SigningKey::load_or_create(&folder.path().join("fresh.key")).expect("made");
    let (given_up, mut keys) = (clock::now_ms() - 60_000, eves.keys());
    keys["old_verify_keys"] = keys["verify_keys"].take();
    keys["old_verify_keys"][eves.me.key.id().as_str()]["expired_ts"] = json!(given_up);
    keys["verify_keys"] = json!({ fresh.id().as_str(): { "key": STANDARD_NO_PAD.encode(fresh.public()) } });
    keys.as_object_mut().expect("an object").remove("signatures");
    let mut keys: CanonicalJsonObject = serde_json::from_value(keys).expect("canonical");
    server_keys::sign(&Identity { name: eves.me.name.clone(), key: fresh }, &mut keys).expect("signed");
    eves.says("/_matrix/key/v2/server", Says::Json(200, serde_json::to_value(keys).expect("JSON")));
    let eve = format!("@eve:{}", eves.name());
    let rules = alice.get(&in_room(&guest.room, "state")).await.ok();
    let rules = rules.as_array().expect("a list").iter().find(|event| event["type"] == "m.room.join_rules");
    let rules = rules.expect("join rules")["event_id"].clone();
    let joins = |at: u64| {
        let more = json!({
            "type": "m.room.member", "sender": eve, "state_key": eve, "content": {"membership": "join"},
            "origin_server_ts": at, "auth_events": [guest.auth[0], guest.auth[1], rules],
        });
        seal(&eves, guest.draft("", more))
    };
    let member = in_room(&guest.room, &format!("state/m.room.member/{}", encode(&eve)));
    for late in [given_up + 1, clock::now_ms()] {
        let outcome = guest.outcome(&server, joins(late)).await;
        assert!(outcome["error"].is_string(), "{outcome}");
        alice.get(&member).await.fails(404, "M_NOT_FOUND");
    }
    assert!(server.log().contains(&format!("{} sent events that are refused, one of them as: ", guest.peer.name())));
    assert_eq!(guest.outcome(&server, joins(given_up - 1000)).await, json!({}));
    assert_eq!(alice.get(&member).await.ok()["membership"], "join");
}

const EVENT_AUTH: &str = "/_matrix/federation/v1/event_auth/";

#[tokio::test]
async fn very_long_chains_of_events_cost_no_more_than_their_reading() {
    let (server, alice, mut guest) = party().await;
    let [create, levels, join] = &guest.auth.clone()[..] else { panic!("three events") };
    // Mallory has changed names a thousand times: each change cites the one before it, and is good.
    let rules = alice.get(&in_room(&guest.room, "state")).await.ok();
    let rules = rules.as_array().expect("a list").iter().find(|event| event["type"] == "m.room.join_rules");
    let rules = rules.expect("join rules")["event_id"].as_str().expect("an ID").to_owned();
    let mut chains = Vec::new();
    for branch in ["left", "right"] {
        let (mut last, mut chain) = (join.clone(), Vec::new());
        for n in 0..700 {
            let content = json!({"membership": "join", "displayname": format!("{branch} {n}")});
            let (id, event) = guest.message(
                "",
                json!({
                    "type": "m.room.member", "state_key": guest.mallory, "content": content, "prev_events": [last],
                    "auth_events": [create, levels, rules, last], "depth": guest.depth + 1 + n,
                }),
            );
            chain.push(event);
            last = id;
        }
        chains.push((last, chain));
    }
    let began = Instant::now();
    for (last, chain) in &chains {
        guest.peer.says(EVENT_AUTH, Says::Json(200, json!({"auth_chain": chain})));
        guest.auth[2] = last.clone();
        let (id, event) = guest.message("on a long chain", json!({}));
        let outcome = guest.send(&server, &[event]).await.ok()["pdus"][&id].clone();
        assert_eq!(outcome, json!({}));
    }
    // Both branches at once, as state and not only as what is cited: the room has to choose.
    for (last, chain) in &chains {
        let tip = chain.last().expect("a last one").clone();
        let outcome = guest.send(&server, &[tip]).await.ok()["pdus"][last].clone();
        assert!(outcome.is_object(), "{outcome}");
    }
    alice.say(&guest.room, "the room goes on").await;
    assert_eq!(bodies(&alice, &guest.room).await[0], "the room goes on");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    // A chain that is longer than there can be is not read, and what stands on it is refused.
    let chain = vec![json!({"no": "event"}); 10_001];
    guest.peer.says(EVENT_AUTH, Says::Json(200, json!({"auth_chain": chain})));
    guest.auth[2] = "$nothing".to_owned();
    let outcome = guest.outcome(&server, guest.message("on nothing", json!({}))).await;
    assert!(outcome["error"].is_string(), "{outcome}");
    let log = server.log();
    assert!(log.contains("says that 10001 events allow one: too many"), "{log}");
    assert!(log.contains("can't be judged"), "{log}");
    until("alice is heard", async || {
        alice.say(&guest.room, "and on").await;
        (bodies(&alice, &guest.room).await[0] == "and on").then_some(())
    })
    .await;
}
