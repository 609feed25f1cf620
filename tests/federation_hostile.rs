//! A server in the room that says what it likes: nothing is taken that shouldn't be, each thing costs
//! little, and the room goes on. Beside each refusal stands what passes.

use reqwest::Method;
use ruma::{CanonicalJsonObject, RoomVersionId, signatures::hash_and_sign_event};
use serde_json::{Value, json};

use crate::common::{Answer, Peer, Says, Server, User, encode, federate, in_room, transaction, until};

/// A server of the test's own, of which mallory is in a room of alice's.
pub struct Guest {
    pub peer: Peer,
    pub room: String,
    pub mallory: String,
    /// The events that allow what mallory says: create, power levels, membership.
    pub auth: Vec<String>,
    /// The newest event that the guest knows, and its depth.
    pub end: String,
    pub depth: u64,
}

pub const VERSION: RoomVersionId = RoomVersionId::V11;

/// Events that are made ends of a room.
const ENDS: usize = 10_000;

/// A server with alice, whose room mallory has come into from a server of the test's own.
pub async fn party() -> (Server, User, Guest) {
    let [server] = federate().await;
    party_at(server).await
}

/// The same at a server that there is.
pub async fn party_at(server: Server) -> (Server, User, Guest) {
    let alice = server.register("alice").await;
    let guest = Guest::enters(&server, &alice, Peer::start().await).await;
    (server, alice, guest)
}

/// Hashes and signs an event; its ID, and it.
pub fn seal(peer: &Peer, event: Value) -> (String, Value) {
    let rules = VERSION.rules().expect("known");
    let mut object: CanonicalJsonObject = serde_json::from_value(event).expect("canonical");
    hash_and_sign_event(peer.name(), &peer.me.key, &mut object, &rules.redaction).expect("signs");
    let id = format!("${}", ruma::signatures::reference_hash(&object, &rules).expect("a hash"));
    (id, serde_json::to_value(object).expect("JSON"))
}

impl Guest {
    /// Makes a room of alice's, and has mallory come into it.
    async fn enters(server: &Server, alice: &User, peer: Peer) -> Self {
        let room = alice.create_room(json!({"preset": "public_chat", "room_version": VERSION.as_str()})).await;
        let mut guest = Self {
            mallory: format!("@mallory:{}", peer.name()),
            peer,
            room,
            auth: vec![],
            end: String::new(),
            depth: 0,
        };
        (guest.auth, guest.end, guest.depth) = guest.comes_into(server, &guest.room).await;
        guest
    }

    /// Comes into a room: what allows mallory's events there, their join, and its depth.
    async fn comes_into(&self, server: &Server, room: &str) -> (Vec<String>, String, u64) {
        let (peer, mallory) = (&self.peer, &self.mallory);
        let path = format!("/_matrix/federation/v1/make_join/{}/{}?ver=11", encode(room), encode(mallory));
        let template = peer.ask(server, Method::GET, &path, None).await.ok()["event"].clone();
        let (id, join) = seal(peer, template);
        let path = format!("/_matrix/federation/v2/send_join/{}/{}", encode(room), encode(&id));
        let answer = peer.ask(server, Method::PUT, &path, Some(join.clone())).await.ok();
        let rules = VERSION.rules().expect("known");
        let find = |kind: &str| {
            let state = answer["state"].as_array().expect("a state");
            let event = state.iter().find(|event| event["type"] == kind).expect("it is there");
            let object: CanonicalJsonObject = serde_json::from_value(event.clone()).expect("canonical");
            format!("${}", ruma::signatures::reference_hash(&object, &rules).expect("a hash"))
        };
        let auth = vec![find("m.room.create"), find("m.room.power_levels"), id.clone()];
        (auth, id, join["depth"].as_u64().expect("a depth"))
    }

    /// A message of mallory's after the newest, with what is different from a good one.
    pub fn draft(&self, body: &str, more: Value) -> Value {
        let mut event = json!({
            "type": "m.room.message", "sender": self.mallory, "room_id": self.room,
            "content": {"msgtype": "m.text", "body": body}, "depth": self.depth + 1,
            "origin_server_ts": hearth::base::clock::now_ms(),
            "prev_events": [self.end], "auth_events": self.auth,
        });
        for (name, value) in more.as_object().expect("an object") {
            event[name] = value.clone();
        }
        event
    }

    pub fn message(&self, body: &str, more: Value) -> (String, Value) {
        seal(&self.peer, self.draft(body, more))
    }

    pub async fn send(&self, server: &Server, pdus: &[Value]) -> Answer {
        self.send_as(server, self.peer.name(), &transaction(), pdus).await
    }

    async fn send_as(&self, server: &Server, origin: &str, id: &str, pdus: &[Value]) -> Answer {
        let body = json!({"origin": origin, "origin_server_ts": 1, "pdus": pdus});
        self.peer.ask(server, Method::PUT, &format!("/_matrix/federation/v1/send/{id}"), Some(body)).await
    }

    /// What came of one event.
    pub async fn outcome(&self, server: &Server, (id, event): (String, Value)) -> Value {
        self.send(server, &[event]).await.ok()["pdus"][&id].clone()
    }
}

/// Whether the log has a line with this text.
pub fn is_logged(server: &Server, text: &str) -> bool {
    server.log().lines().any(|line| line.contains(text))
}

pub async fn bodies(user: &User, room: &str) -> Vec<String> {
    let page = user.get(&in_room(room, "messages?dir=b&limit=100")).await.ok();
    let chunk = page["chunk"].as_array().expect("a page");
    chunk.iter().filter_map(|event| event["content"]["body"].as_str()).map(str::to_owned).collect()
}

pub async fn hears(user: &User, room: &str, text: &str) {
    until(text, async || bodies(user, room).await.contains(&text.to_owned()).then_some(())).await;
}

#[tokio::test]
async fn only_what_is_signed_and_whole_is_believed() {
    let (server, alice, guest) = party().await;
    assert_eq!(guest.outcome(&server, guest.message("good", json!({}))).await, json!({}));
    hears(&alice, &guest.room, "good").await;
    // Signed by nobody, by somebody else, and changed afterwards.
    let (id, mut event) = guest.message("unsigned", json!({}));
    event["signatures"] = json!({});
    assert!(guest.outcome(&server, (id, event)).await["error"].is_string());
    let stranger = Peer::start().await;
    let (id, event) = seal(&stranger, guest.draft("forged", json!({})));
    assert!(guest.outcome(&server, (id, event)).await["error"].is_string());
    let (id, mut event) = guest.message("bent", json!({}));
    let signature = &mut event["signatures"][guest.peer.name()][guest.peer.me.key.id().to_string()];
    *signature = json!("A".repeat(86));
    assert!(guest.outcome(&server, (id, event)).await["error"].is_string());
    // A content that is not the one that was signed is taken away, and the event stays.
    let (id, mut event) = guest.message("signed", json!({}));
    event["content"]["body"] = json!("changed");
    assert_eq!(guest.outcome(&server, (id.clone(), event)).await, json!({}));
    let shown = alice.get(&in_room(&guest.room, &format!("event/{}", encode(&id)))).await.ok();
    assert_eq!(shown["content"], json!({}));
    let line = format!("{} sent events whose content is not what was signed: it is taken away", guest.peer.name());
    assert!(is_logged(&server, &line), "{}", server.log());
    assert!(server.log().contains(&format!("{} sent events that are refused", guest.peer.name())));
    let heard = bodies(&alice, &guest.room).await;
    assert!(
        ["unsigned", "forged", "bent", "changed"].iter().all(|body| !heard.contains(&(*body).to_owned())),
        "{heard:?}"
    );
}

#[tokio::test]
async fn a_server_speaks_for_itself_and_where_it_is() {
    let (server, alice, guest) = party().await;
    // For another server, or with more than a transaction holds.
    guest.send_as(&server, "elsewhere.test", "t1", &[]).await.fails(403, "M_FORBIDDEN");
    let line = "says that it is elsewhere.test, and is not believed: its transaction was signed by";
    assert!(is_logged(&server, line), "{}", server.log());
    let many: Vec<Value> = (0..51).map(|n| guest.message(&n.to_string(), json!({})).1).collect();
    guest.send(&server, &many).await.fails(400, "M_BAD_JSON");
    // In rooms that it is not in, and in none.
    let other = alice.create_room(json!({"preset": "public_chat", "room_version": VERSION.as_str()})).await;
    let outcome = guest.outcome(&server, guest.message("intruder", json!({"room_id": other}))).await;
    assert!(outcome["error"].is_string(), "{outcome}");
    let log = server.log();
    assert!(log.contains(&format!("{} sends to a room that it is not in", guest.peer.name())), "{log}");
    let none =
        guest.send(&server, &[guest.message("x", json!({"room_id": "!none:localhost"})).1, json!(7), json!({})]).await;
    assert_eq!(none.ok()["pdus"], json!({}));
    let line = format!("{} sent what are no events, or of no room that is known here", guest.peer.name());
    let log = server.log();
    assert!(log.lines().any(|text| text.contains(&line) && text.contains("nameless=3")), "{log}");
    assert!(!bodies(&alice, &other).await.contains(&"intruder".to_owned()));
    // As somebody who is of another server, or in the room of whom nobody knows.
    let outcome = guest.outcome(&server, guest.message("as alice", json!({"sender": alice.id}))).await;
    assert!(outcome["error"].is_string(), "{outcome}");
    let eve = format!("@eve:{}", guest.peer.name());
    assert_eq!(guest.outcome(&server, guest.message("as eve", json!({"sender": eve}))).await, json!({}));
    let heard = bodies(&alice, &guest.room).await;
    assert!(!heard.iter().any(|body| body.starts_with("as ")), "{heard:?}");
    // The same transaction again is the same transaction.
    let (id, event) = guest.message("once", json!({}));
    for _ in 0..2 {
        let answer = guest.send_as(&server, guest.peer.name(), "again", std::slice::from_ref(&event)).await.ok();
        assert_eq!(answer["pdus"][&id], json!({}));
    }
    assert_eq!(bodies(&alice, &guest.room).await.iter().filter(|body| *body == "once").count(), 1);
    // Whom the room shuts out is not listened to.
    let list = json!({"allow": ["*"], "deny": ["localhost"]});
    alice.set_state(&guest.room, "m.room.server_acl", "", list).await;
    let outcome = guest.outcome(&server, guest.message("shut out", json!({}))).await;
    assert!(outcome["error"].is_string(), "{outcome}");
}

#[tokio::test]
async fn what_the_room_forbids_is_shown_to_nobody() {
    let (server, alice, guest) = party().await;
    let state = |kind: &str, key: &str, content: Value| {
        guest.message("", json!({"type": kind, "state_key": key, "content": content}))
    };
    let levels = alice.get(&in_room(&guest.room, "state/m.room.power_levels/")).await.ok();
    let mut mine = levels.clone();
    mine["users"][&guest.mallory] = json!(100);
    let (grab, event) = state("m.room.power_levels", "", mine);
    assert_eq!(guest.outcome(&server, (grab.clone(), event)).await, json!({}), "a rejected event is no error");
    let line = format!("{} sent events that {} forbids: nobody is shown them", guest.peer.name(), guest.room);
    assert!(is_logged(&server, &line) && server.log().contains(&grab), "{}", server.log());
    // What builds on it falls with it.
    let mut auth = guest.auth.clone();
    auth[1] = grab.clone();
    let (id, event) = guest.message(
        "",
        json!({"type": "m.room.topic", "state_key": "", "content": {"topic": "mine"},
        "auth_events": auth, "prev_events": [grab]}),
    );
    assert_eq!(guest.outcome(&server, (id, event)).await, json!({}));
    assert_eq!(alice.get(&in_room(&guest.room, "state/m.room.power_levels/")).await.ok(), levels);
    assert_eq!(alice.get(&in_room(&guest.room, "state/m.room.topic/")).await.status, 404);
    // Who was banned speaks from before the ban, and is heard by nobody.
    alice.post(&in_room(&guest.room, "ban"), json!({"user_id": guest.mallory})).await.ok();
    assert_eq!(guest.outcome(&server, guest.message("from the past", json!({}))).await, json!({}));
    alice.say(&guest.room, "gone").await;
    let heard = bodies(&alice, &guest.room).await;
    assert!(heard[0] == "gone" && !heard.contains(&"from the past".to_owned()), "{heard:?}");
}

#[tokio::test]
async fn a_past_that_nobody_can_tell_stops_nobody() {
    let (server, alice, guest) = party().await;
    let begin = std::time::Instant::now();
    let garbage =
        |path: &str, body: Value| guest.peer.says(&format!("/_matrix/federation/v1/{path}"), Says::Json(200, body));
    garbage("get_missing_events", json!({"events": [7, {}, guest.draft("unsigned", json!({}))]}));
    garbage("state_ids", json!({"pdu_ids": ["$a", "$b"], "auth_chain_ids": ["$c"]}));
    garbage("event_auth", json!({"auth_chain": [{}]}));
    garbage("event/", json!({"origin": "x", "origin_server_ts": 1, "pdus": [{}]}));
    let unknown = guest.message("from nowhere", json!({"prev_events": ["$nowhere"]}));
    assert!(guest.outcome(&server, unknown).await["error"].is_string());
    let mut auth = guest.auth.clone();
    auth[1] = "$nothing".to_owned();
    let unknown = guest.message("by nothing", json!({"auth_events": auth}));
    assert!(guest.outcome(&server, unknown).await["error"].is_string());
    assert!(begin.elapsed() < std::time::Duration::from_secs(20), "{:?}", begin.elapsed());
    assert_eq!(server.log().matches("can't be judged").count(), 2, "{}", server.log());
    alice.say(&guest.room, "all is well").await;
    assert_eq!(bodies(&alice, &guest.room).await[0], "all is well");
}

/// What is before an event is asked for in vain, for long: who else says something in another room is heard at once,
/// and what takes long is written down, so that it is judged even if the server is killed meanwhile.
#[tokio::test]
async fn a_room_that_takes_long_holds_up_no_other_and_loses_nothing() {
    let (mut server, alice, guest) = party().await;
    let other = alice.create_room(json!({"preset": "public_chat", "room_version": VERSION.as_str()})).await;
    let (auth, end, _) = guest.comes_into(&server, &other).await;
    let elsewhere =
        |text: &str| guest.message(text, json!({"room_id": other, "auth_events": auth, "prev_events": [end]}));
    const MISSING: &str = "/_matrix/federation/v1/get_missing_events/";
    guest.peer.says(MISSING, Says::Wait);
    let (before, missing) = guest.message("before it", json!({}));
    let (late, event) = guest.message("late", json!({"prev_events": [before]}));
    let (beside, good) = elsewhere("beside it");
    let pdus = [event, good];
    let sending = guest.send(&server, &pdus);
    let speaking = async {
        until("what is before it is asked for", async || (!guest.peer.asked(MISSING).is_empty()).then_some(())).await;
        // Of the same transaction, and of another one, while that waits.
        hears(&alice, &other, "beside it").await;
        let began = std::time::Instant::now();
        assert_eq!(guest.outcome(&server, elsewhere("after it")).await, json!({}));
        assert!(began.elapsed() < std::time::Duration::from_secs(10), "{:?}", began.elapsed());
        hears(&alice, &other, "after it").await;
        alice.say(&guest.room, "who lives here speaks").await;
    };
    let (answer, ()) = tokio::join!(sending, speaking);
    let answer = answer.ok();
    assert_eq!((&answer["pdus"][&late], &answer["pdus"][&beside]), (&json!({}), &json!({})));
    assert!(is_logged(&server, &format!("events from {} take long and are judged later", guest.peer.name())));
    assert!(!bodies(&alice, &guest.room).await.contains(&"late".to_owned()));
    server.kill9().await;
    guest.peer.says(MISSING, Says::Json(200, json!({"events": [missing]})));
    server.resume().await;
    hears(&alice, &guest.room, "late").await;
    let heard = bodies(&alice, &guest.room).await;
    assert_eq!(heard.iter().filter(|text| *text == "late" || *text == "before it").count(), 2, "{heard:?}");
}

/// A server whose events take long has two hundred of them wait, and is told to send the rest later; what another one
/// says is heard at once.
#[tokio::test]
async fn a_server_whose_events_take_long_has_so_many_wait_and_no_other_one_waits_for_them() {
    let (server, alice, guest) = party().await;
    let other = Guest::enters(&server, &alice, Peer::start().await).await;
    const MISSING: &str = "/_matrix/federation/v1/get_missing_events/";
    guest.peer.says(MISSING, Says::Wait);
    let lost = |n: usize| guest.message(&n.to_string(), json!({"prev_events": [format!("$nowhere{n}")]})).1;
    let transactions: Vec<Vec<Value>> = (0..5).map(|part| (0..50).map(|n| lost(50 * part + n)).collect()).collect();
    let sending = async |part: usize| {
        guest.send_as(&server, guest.peer.name(), &format!("part{part}"), &transactions[part]).await
    };
    let speaking = async {
        until("what is before them is asked for", async || guest.peer.asked(MISSING).pop()).await;
        let began = std::time::Instant::now();
        assert_eq!(other.outcome(&server, other.message("and I?", json!({}))).await, json!({}));
        hears(&alice, &other.room, "and I?").await;
        assert!(began.elapsed() < std::time::Duration::from_secs(5), "{:?}", began.elapsed());
    };
    let (one, two, three, four, five, ()) =
        tokio::join!(sending(0), sending(1), sending(2), sending(3), sending(4), speaking);
    let answers = [one, two, three, four, five];
    let refused: Vec<usize> = (0..5).filter(|part| answers[*part].status != 200).collect();
    assert_eq!(refused.len(), 1, "{answers:?}");
    answers[refused[0]].fails(429, "M_LIMIT_EXCEEDED");
    // It may come again when the others have been judged.
    guest.peer.says(MISSING, Says::Json(200, json!({"events": []})));
    until("the rest is taken", async || (sending(refused[0]).await.status == 200).then_some(())).await;
    assert_eq!(bodies(&alice, &guest.room).await, [] as [&str; 0]);
}

/// Ten thousand events that all stand on the same one: each is an end of the room when it comes.
#[tokio::test]
async fn very_many_ends_are_brought_together() {
    let (server, alice, guest) = party().await;
    let (memory, mut spent) = (server.own_memory(), vec![server.processor_time()]);
    for batch in 0..ENDS / 50 {
        let events: Vec<Value> = (0..50).map(|n| guest.message(&format!("{batch}/{n}"), json!({})).1).collect();
        let answer = guest.send(&server, &events).await.ok();
        assert!(answer["pdus"].as_object().expect("results").values().all(|outcome| *outcome == json!({})));
        spent.push(server.processor_time());
    }
    let (first, last) = (spent[20] - spent[0], spent[ENDS / 50] - spent[ENDS / 50 - 20]);
    assert!(last < 3 * first, "the first thousand took {first:?} of the processor, the last {last:?}");
    assert!(server.own_memory() < memory + (96 << 20), "{} bytes", server.own_memory());
    for n in 0..4 {
        alice.say(&guest.room, &format!("calm {n}")).await;
    }
    let template = format!("/_matrix/federation/v1/make_leave/{}/{}", encode(&guest.room), encode(&guest.mallory));
    let event = guest.peer.ask(&server, Method::GET, &template, None).await.ok()["event"].clone();
    assert_eq!(event["prev_events"].as_array().map(Vec::len), Some(1), "{event}");
}

/// An event that is nested as deep as there can be reaches other servers, one that is deeper is not taken
/// here, and one that another server sends holds up nothing that comes with it.
#[tokio::test]
async fn events_that_are_nested_deep_hold_up_no_others() {
    let [one, two] = federate().await;
    let (alice, bob) = (one.register("alice").await, two.register("bob").await);
    let room = alice.create_room(json!({"preset": "public_chat"})).await;
    let nested = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!([inner]));
    // The event and its content are two levels.
    alice.set_state(&room, "m.deep", "", json!({"x": nested(98)})).await;
    let path = in_room(&room, "send/m.deep/1");
    alice.put(&path, json!({"x": nested(99)})).await.fails(400, "M_BAD_JSON");
    bob.post(&format!("/_matrix/client/v3/join/{}?via={}", encode(&room), encode(&one.name)), json!({})).await.ok();
    assert_eq!(bob.get(&in_room(&room, "state/m.deep/")).await.ok(), json!({"x": nested(98)}));
    let event = alice.send(&room, "m.deep", json!({"x": nested(98)})).await;
    alice.say(&room, "after it").await;
    hears(&bob, &room, "after it").await;
    let shown = bob.get(&in_room(&room, &format!("event/{}", encode(&event)))).await.ok();
    assert_eq!(shown["content"]["x"], nested(98));
    let (server, alice, guest) = party().await;
    for levels in [104, 120, 400] {
        let (deep, event) = guest.message("too deep", json!({"content": {"x": nested(levels)}}));
        let (good, beside) = guest.message(&format!("beside {levels}"), json!({}));
        let answer = guest.send(&server, &[event, beside]).await.ok();
        assert_eq!(answer["pdus"][&good], json!({}), "{answer}");
        let why = answer["pdus"][&deep]["error"].as_str().unwrap_or_else(|| panic!("{levels}: {answer}")).to_owned();
        assert!(why.contains("nested too deeply"), "{why}");
        hears(&alice, &guest.room, &format!("beside {levels}")).await;
    }
    assert!(!bodies(&alice, &guest.room).await.contains(&"too deep".to_owned()));
}

/// What is no canonical JSON, or too large, is refused by its ID and takes nothing else of its transaction with
/// it; nor does what is wrong in that which an ID is made of, and so has none.
#[tokio::test]
async fn what_is_no_event_is_refused_for_itself() {
    let (server, alice, guest) = party().await;
    // The content of a message is no part of what its ID is made of.
    let (large_id, mut large) = guest.message("large", json!({}));
    large["content"]["body"] = json!("x".repeat(66_000));
    let (huge_id, mut huge) = guest.message("huge", json!({}));
    huge["content"]["body"] = json!("x".repeat(200_000));
    let (odd_id, mut odd) = guest.message("odd", json!({}));
    odd["content"]["x"] = json!(1.5);
    let (beyond_id, mut beyond) = guest.message("beyond", json!({"content": {"x": 1}}));
    beyond["content"]["x"] = json!(1_u64 << 60);
    let (_, mut nameless) = guest.message("nameless", json!({}));
    nameless["depth"] = json!(1.5);
    let (good, beside) = guest.message("beside", json!({}));
    let answer = guest.send(&server, &[large, huge, odd, beyond, nameless, beside]).await.ok();
    assert_eq!(answer["pdus"][&good], json!({}), "{answer}");
    for (id, why) in
        [(large_id, "65536 bytes"), (huge_id, "too large"), (odd_id, "no integer"), (beyond_id, "too large")]
    {
        let told = answer["pdus"][&id]["error"].as_str().unwrap_or_else(|| panic!("{why}: {answer}"));
        assert!(told.contains(why), "{told}");
    }
    assert_eq!(answer["pdus"].as_object().map(serde_json::Map::len), Some(5), "{answer}");
    assert!(is_logged(&server, &format!("{} sent events that are refused, one of them as: ", guest.peer.name())));
    assert!(is_logged(&server, &format!("{} sent what are no events", guest.peer.name())));
    hears(&alice, &guest.room, "beside").await;
}
