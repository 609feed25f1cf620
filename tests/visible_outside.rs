//! Who sees what, outside of this server: which of a story's words application services are told, and which other
//! servers get by each way to ask, for each setting of a room's history and each turn that the membership of
//! their people can take. The story is that of `visible.rs`.
//! spec: client-server-api#room-history-visibility, server-server-api#backfilling-and-retrieving-missing-events

use std::{collections::BTreeSet, sync::Arc};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    common::{Asked, Bridge, Peer, Says, Server, User, encode, federated, in_room, until},
    federation_hostile::{VERSION, seal},
    visible::{REDACTED, SETTINGS, Story, TURNS, may_see, word, words_in},
};

const F: &str = "/_matrix/federation";

/// What alice and mallory said at the moments for which something holds.
fn said(setting: &str, holds: impl Fn(usize) -> bool) -> BTreeSet<String> {
    let moments = (0..TURNS.len()).filter(|moment| holds(*moment));
    moments.flat_map(|moment| ["alice", "mallory"].map(|who| word(setting, who, moment))).collect()
}

fn without_state(words: BTreeSet<String>) -> BTreeSet<String> {
    words.into_iter().filter(|word| !word.contains("state")).collect()
}

/// A service is told what happens while one of its people is in the room, and nothing else.
#[tokio::test]
async fn services_are_told_what_happened_while_their_people_were_there() {
    let mut bridges = Vec::new();
    for turns in 0..TURNS.len() {
        bridges.push(Bridge::start(&format!("b{turns}"), "").await);
    }
    let files: Vec<_> = bridges.iter().map(|bridge| &bridge.file).collect();
    let settings = format!("app_services = {files:?}\nregistration = \"open\"\nrate_limits = false\n");
    let server = Server::start_with(&settings).await;
    let (alice, mallory) = (server.register("alice").await, server.register("mallory").await);
    let afterwards = alice.create_room(json!({"preset": "public_chat"})).await;
    let mut people = Vec::new();
    for bridge in &bridges {
        people.push(bridge.make(&server, &format!("_{}_person", bridge.id)).await);
        bridge.bot(&server).join(&afterwards).await;
    }
    for setting in SETTINGS {
        let mut story = Story::open(setting, (&alice, &mallory), None).await;
        for (moment, turn) in TURNS.iter().enumerate() {
            for person in people.iter().skip(moment) {
                story.moves(&alice, person, turn).await;
            }
            story.speak(&alice, &mallory, moment).await;
        }
    }
    alice.say(&afterwards, "that was all").await;
    let mut wrongs = Vec::new();
    for (turns, bridge) in bridges.iter().enumerate() {
        until("the end", async || bridge.texts().contains(&"that was all".to_owned()).then_some(())).await;
        // What was told before it was taken back can't be untold.
        let told: Vec<_> = bridge.events().into_iter().filter(|told| !told.to_string().contains(REDACTED)).collect();
        for setting in SETTINGS {
            let found = without_state(words_in(setting, &json!(told)));
            let due = said(setting, |moment| TURNS[moment.min(turns)] == "join");
            if found != due {
                wrongs.push(format!("{setting}, {turns} turns: {found:?} and not {due:?}"));
            }
        }
    }
    assert!(wrongs.is_empty(), "{wrongs:#?}");
}

/// A server of the test's own with one person.
struct Outsider {
    peer: Arc<Peer>,
    person: String,
}

impl Outsider {
    /// It takes all that it is told, and every invite.
    async fn start() -> Self {
        let peer = Arc::new(Peer::start().await);
        peer.says(&format!("{F}/v1/send/"), Says::Json(200, json!({"pdus": {}})));
        let signer = Arc::downgrade(&peer);
        let invited = move |asked: &Asked| match signer.upgrade() {
            Some(peer) => (200, json!({"event": countersigned(&peer, asked.body["event"].clone())})),
            None => (404, json!({})),
        };
        peer.says(&format!("{F}/v2/invite/"), Says::Answer(Arc::new(invited)));
        let person = format!("@person:{}", peer.name());
        Self { peer, person }
    }

    async fn ask(&self, server: &Server, method: Method, path: &str, body: Option<Value>) -> Value {
        self.peer.ask(server, method, path, body).await.ok()
    }

    /// The next turn of its person.
    async fn moves(&self, server: &Server, story: &Story, alice: &User, turn: &str) {
        let (room, person) = (encode(&story.room), encode(&self.person));
        match turn {
            "join" | "leave" => {
                let path = format!("{F}/v1/make_{turn}/{room}/{person}?ver={VERSION}");
                let template = self.ask(server, Method::GET, &path, None).await["event"].clone();
                let (id, event) = seal(&self.peer, template);
                let path = format!("{F}/v2/send_{turn}/{room}/{}", encode(&id));
                self.ask(server, Method::PUT, &path, Some(event)).await;
            }
            turn => {
                let path = in_room(&story.room, turn);
                alice.post(&path, json!({"user_id": self.person})).await.ok();
            }
        }
    }

    /// What is found in the answers to all that it can ask for, by what it asks.
    async fn read(&self, server: &Server, story: &Story) -> Vec<(&'static str, BTreeSet<String>)> {
        let (room, end) = (encode(&story.room), encode(&story.end));
        let get = async |path: String| {
            let answer = self.peer.ask(server, Method::GET, &path, None).await;
            assert!([200, 403, 404].contains(&answer.status), "{path}: {}", answer.body);
            words_in(story.setting, &answer.body)
        };
        let mut events = BTreeSet::new();
        for event in &story.events {
            events.extend(get(format!("{F}/v1/event/{}", encode(event))).await);
        }
        let missing = json!({"earliest_events": [], "latest_events": [story.end], "limit": 100});
        let path = format!("{F}/v1/get_missing_events/{room}");
        let missing = self.peer.ask(server, Method::POST, &path, Some(missing)).await;
        vec![
            ("event", events),
            ("backfill", get(format!("{F}/v1/backfill/{room}?v={end}&limit=100")).await),
            ("get_missing_events", words_in(story.setting, &missing.body)),
            ("state", get(format!("{F}/v1/state/{room}?event_id={end}")).await),
            ("state_ids", get(format!("{F}/v1/state_ids/{room}?event_id={end}")).await),
            ("event_auth", get(format!("{F}/v1/event_auth/{room}/{}", encode(&story.events[0]))).await),
        ]
    }

    /// Whether it is told anything at all of the room's course in time.
    async fn is_answered(&self, server: &Server, story: &Story) -> bool {
        let path = format!("{F}/v1/timestamp_to_event/{}?ts=0&dir=f", encode(&story.room));
        self.peer.ask(server, Method::GET, &path, None).await.status == 200
    }
}

/// An invite with a second signature: that of who is invited.
fn countersigned(peer: &Peer, event: Value) -> Value {
    let mut signed = event.clone();
    let (_, own) = seal(peer, event);
    signed["signatures"][peer.name()] = own["signatures"][peer.name()].clone();
    signed
}

/// A server sees what one of its people could see, as long as it is in the room; afterwards only what all may read.
#[tokio::test]
async fn servers_see_what_their_people_may_and_nothing_else() {
    let server = federated("", "").await;
    let (alice, mallory) = (server.register("alice").await, server.register("mallory").await);
    let mut outsiders = Vec::new();
    for _ in 0..TURNS.len() {
        outsiders.push(Outsider::start().await);
    }
    let stranger = Outsider::start().await;
    let mut wrongs = Vec::new();
    for setting in SETTINGS {
        let mut story = Story::open(setting, (&alice, &mallory), Some(VERSION.as_str())).await;
        for (moment, turn) in TURNS.iter().enumerate() {
            for outsider in outsiders.iter().skip(moment) {
                outsider.moves(&server, &story, &alice, turn).await;
            }
            story.speak(&alice, &mallory, moment).await;
        }
        let everybody = outsiders.iter().enumerate().map(|(turns, outsider)| (Some(turns), outsider));
        for (turns, outsider) in everybody.chain([(None, &stranger)]) {
            let is_in = turns.is_some_and(|turns| TURNS[turns] == "join");
            let is_let_in = is_in || setting == "world_readable";
            let due = said(setting, |moment| is_let_in && may_see(setting, turns, moment));
            let newest = is_let_in.then(|| word(setting, "state", TURNS.len() - 1));
            for (way, found) in outsider.read(&server, &story).await {
                let of_messages = matches!(way, "event" | "backfill" | "get_missing_events");
                let due = if of_messages { due.clone() } else { BTreeSet::new() };
                let (state, found): (BTreeSet<_>, BTreeSet<_>) =
                    found.into_iter().partition(|word| word.contains("state"));
                if found != due {
                    wrongs.push(format!("{setting}, {turns:?} turns, by {way}: {found:?} and not {due:?}"));
                }
                // State is no secret to whoever is in the room, nor anything of it to others.
                if (!is_let_in && !state.is_empty()) || (way == "backfill" && state.last() != newest.as_ref()) {
                    wrongs.push(format!("{setting}, {turns:?} turns, by {way}: state {state:?}"));
                }
            }
            if outsider.is_answered(&server, &story).await != is_let_in {
                wrongs.push(format!("{setting}, {turns:?} turns, by timestamp_to_event"));
            }
        }
    }
    assert!(wrongs.is_empty(), "{wrongs:#?}");
}

/// Who stands before a room.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Who {
    Member,
    Invited,
    Gone,
    Banned,
    /// In the community whose members a restricted room lets in.
    Fellow,
    Stranger,
    /// Without an account.
    Nobody,
}

const EVERYBODY: [Who; 7] =
    [Who::Member, Who::Invited, Who::Gone, Who::Banned, Who::Fellow, Who::Stranger, Who::Nobody];

/// Whether what a room says of itself is shown to somebody.
fn is_shown(who: Who, rule: &str, history: &str) -> bool {
    let may_come = match rule {
        "public" | "knock" | "knock_restricted" => true,
        "restricted" => who == Who::Fellow,
        _ => false,
    };
    matches!(who, Who::Member | Who::Invited) || may_come || history == "world_readable"
}

/// A room with a rule of who comes in and a setting of its history, in a space, before which people stand.
struct Door {
    rule: &'static str,
    history: &'static str,
    room: String,
    /// Where alice has said something.
    event: String,
}

impl Door {
    /// What is said in the room.
    const SAID: &str = "zqsaid";

    async fn open(
        (rule, history): (&'static str, &'static str),
        alice: &User,
        people: &[(Who, User)],
        (lobby, community): (&str, &str),
    ) -> Self {
        let state = json!([{"type": "m.room.history_visibility", "content": {"history_visibility": history}}]);
        let room = alice.create_room(json!({"preset": "public_chat", "initial_state": state})).await;
        for (who, user) in people {
            match who {
                Who::Member => user.join(&room).await,
                Who::Invited => alice.invite(&room, user).await,
                Who::Gone => {
                    user.join(&room).await;
                    user.leave(&room).await;
                }
                Who::Banned => drop(alice.post(&in_room(&room, "ban"), json!({"user_id": user.id})).await.ok()),
                Who::Fellow | Who::Stranger | Who::Nobody => {}
            }
        }
        let allow = json!([{"type": "m.room_membership", "room_id": community}]);
        alice.set_state(&room, "m.room.join_rules", "", json!({"join_rule": rule, "allow": allow})).await;
        alice.set_state(lobby, "m.space.child", &room, json!({"via": ["localhost"]})).await;
        let event = alice.say(&room, Self::SAID).await;
        Self { rule, history, room, event }
    }

    /// What is wrong with what somebody is told of the room by its summaries.
    async fn summaries(&self, who: Who, user: &User) -> Vec<String> {
        let (id, due) = (encode(&self.room), is_shown(who, self.rule, self.history));
        let old = "/_matrix/client/unstable/im.nheko.summary";
        let paths = [
            format!("/_matrix/client/v1/room_summary/{id}"),
            format!("{old}/summary/{id}"),
            format!("{old}/rooms/{id}/summary"),
        ];
        let mut wrongs = Vec::new();
        for path in paths {
            let found = user.get(&path).await;
            let wanted = if due { 200 } else { 404 };
            if found.status != wanted || found.body.to_string().contains(Self::SAID) {
                wrongs.push(self.wrong(who, &path, &found.body));
            }
        }
        wrongs
    }

    /// The same of whether its space shows it.
    async fn hierarchy(&self, who: Who, user: &User, lobby: &str) -> Vec<String> {
        let path = format!("/_matrix/client/v1/rooms/{}/hierarchy", encode(lobby));
        let found = user.get(&path).await.ok();
        let rooms = found["rooms"].as_array().expect("rooms");
        let is_there = rooms.iter().any(|found| found["room_id"] == self.room.as_str());
        match is_there == is_shown(who, self.rule, self.history) && !found.to_string().contains(Self::SAID) {
            true => Vec::new(),
            false => vec![self.wrong(who, "the hierarchy", &found)],
        }
    }

    /// The same of what is said in the room, for who reads without coming in.
    async fn reads(&self, who: Who, user: &User) -> Vec<String> {
        let event = encode(&self.event);
        let paths = [
            in_room(&self.room, "messages?dir=b&limit=10"),
            in_room(&self.room, &format!("event/{event}")),
            in_room(&self.room, &format!("context/{event}")),
            in_room(&self.room, "state"),
            in_room(&self.room, "members"),
            in_room(&self.room, "initialSync"),
            format!("/_matrix/client/v3/events?timeout=0&room_id={}", encode(&self.room)),
            format!("/_matrix/client/v3/events/{event}"),
        ];
        let due = who == Who::Member || self.history == "world_readable";
        let mut wrongs = Vec::new();
        for path in paths {
            let found = user.get(&path).await;
            if (found.status == 200) != due || (!due && found.body.to_string().contains(Self::SAID)) {
                wrongs.push(self.wrong(who, &path, &found.body));
            }
        }
        wrongs
    }

    fn wrong(&self, who: Who, way: &str, found: &Value) -> String {
        format!("{}, {}, {who:?} by {way}: {found}", self.rule, self.history)
    }
}

/// What a room says of itself is for whoever may come in or read it, and tells nothing of what is said there; and
/// that is for whoever may read it, without coming in.
#[tokio::test]
async fn previews_are_for_those_who_may_come_in_or_read() {
    let server = Server::start_with("registration = \"open\"\nrate_limits = false\n").await;
    let alice = server.register("alice").await;
    let mut people = Vec::new();
    for who in EVERYBODY {
        let user = match who {
            Who::Nobody => server.guest(),
            who => server.register(&format!("{who:?}").to_lowercase()).await,
        };
        people.push((who, user));
    }
    let space = json!({"preset": "public_chat", "creation_content": {"type": "m.space"}});
    let (lobby, community) = (alice.create_room(space.clone()).await, alice.create_room(space).await);
    for (_, user) in people.iter().filter(|(who, _)| *who == Who::Fellow) {
        user.join(&community).await;
    }
    let mut wrongs = Vec::new();
    for rule in ["public", "knock", "knock_restricted", "restricted", "invite"] {
        for history in ["world_readable", "shared"] {
            let door = Door::open((rule, history), &alice, &people, (&lobby, &community)).await;
            for (who, user) in &people {
                wrongs.extend(door.summaries(*who, user).await);
                if *who != Who::Nobody {
                    wrongs.extend(door.hierarchy(*who, user, &lobby).await);
                }
                // Who was there and is not any more finds what they left.
                if !matches!(who, Who::Nobody | Who::Gone) {
                    wrongs.extend(door.reads(*who, user).await);
                }
            }
        }
    }
    assert!(wrongs.is_empty(), "{wrongs:#?}");
}

/// Somebody looks into a room that everybody may read, and hears what is said in it from then on.
#[tokio::test]
async fn who_looks_into_a_room_hears_what_is_said_there() {
    let server = Server::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let history = json!([{"type": "m.room.history_visibility", "content": {"history_visibility": "world_readable"}}]);
    let room = alice.create_room(json!({"preset": "private_chat", "name": "Glass", "initial_state": history})).await;
    for text in ["one", "two", "three"] {
        alice.say(&room, text).await;
    }
    let texts = |events: &Value| {
        let events = events.as_array().expect("events").iter();
        events.filter_map(|event| event["content"]["body"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    let seen = bob.get(&in_room(&room, "initialSync?limit=2")).await.ok();
    assert_eq!((&seen["room_id"], &seen["membership"]), (&json!(room), &Value::Null));
    assert_eq!(texts(&seen["messages"]["chunk"]), ["two", "three"]);
    let named = |event: &Value| event["type"] == "m.room.name" && event["content"]["name"] == "Glass";
    assert!(seen["state"].as_array().is_some_and(|state| state.iter().any(named)), "{seen}");
    let older = encode(seen["messages"]["start"].as_str().expect("a token"));
    let page = bob.get(&in_room(&room, &format!("messages?dir=b&limit=1&from={older}"))).await.ok();
    assert_eq!(texts(&page["chunk"]), ["one"]);

    // From now on: what comes ends the wait, and nothing is heard twice or passed over.
    let events = format!("/_matrix/client/v3/events?room_id={}", encode(&room));
    let path = format!("{events}&timeout=60000&from={}", encode(seen["messages"]["end"].as_str().expect("a token")));
    let waiting = tokio::spawn({
        let bob = bob.clone();
        async move { bob.get(&path).await.ok() }
    });
    until("somebody waits", async || {
        let health = alice.get("/_matrix/client/unstable/chat.hearth.admin/health").await.ok();
        (health["clients"]["waiting"] == 1).then_some(())
    })
    .await;
    alice.say(&room, "four").await;
    let told = waiting.await.expect("answered");
    assert_eq!((texts(&told["chunk"]), &told["chunk"][0]["room_id"]), (vec!["four".to_owned()], &json!(room)));
    alice.say(&room, "five").await;
    let next = format!("{events}&timeout=0&from={}", encode(told["end"].as_str().expect("a token")));
    assert_eq!(texts(&bob.get(&next).await.ok()["chunk"]), ["five"]);
    assert_eq!(bob.get(&format!("{events}&timeout=0")).await.ok()["chunk"], json!([]));
    alice.set_state(&room, "m.room.history_visibility", "", json!({"history_visibility": "shared"})).await;
    bob.get(&next).await.fails(403, "M_FORBIDDEN");
    bob.get(&in_room(&room, "initialSync")).await.fails(403, "M_FORBIDDEN");
    bob.get("/_matrix/client/v3/events").await.fails(400, "M_MISSING_PARAM");
}
