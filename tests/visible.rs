//! Who sees what: for each setting of a room's history, each turn that a membership can take, and each way to
//! read, exactly what the rules allow. spec: client-server-api#room-history-visibility
//!
//! People come and go in step: at each moment somebody speaks, and one of the people stays behind as they are
//! while the others go on to the next membership. What a way of reading shows is found by looking for words
//! anywhere in the answer, so that nothing shines through where nobody looks. What application services and other
//! servers see of the same story is in `visible_outside.rs`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    common::{Peer, Says, Server, User, encode, federated, in_room, transaction, until},
    push,
    websocket::Socket,
};

/// What the people become, one after the other. A message is sent at each.
pub const TURNS: [&str; 6] = ["join", "leave", "invite", "join", "leave", "ban"];
pub const SETTINGS: [&str; 4] = ["world_readable", "shared", "invited", "joined"];
/// What nobody may find anywhere.
pub const REDACTED: &str = "zqredacted";

/// Somebody in the story.
struct Person {
    user: User,
    /// How many turns they have taken after the first. None: they were never there.
    turns: Option<usize>,
    /// They don't want to hear of Mallory.
    ignores: bool,
}

/// The ways to read.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Sync,
    Sliding,
    Socket,
    Back,
    Forth,
    Peek,
    Event,
    EventAlone,
    Context,
    Relations,
    Threads,
    Search,
    Jump,
    Push,
    Notifications,
}

const WAYS: [Way; 15] = [
    Way::Sync,
    Way::Sliding,
    Way::Socket,
    Way::Back,
    Way::Forth,
    Way::Peek,
    Way::Event,
    Way::EventAlone,
    Way::Context,
    Way::Relations,
    Way::Threads,
    Way::Search,
    Way::Jump,
    Way::Push,
    Way::Notifications,
];

/// Where everything happens.
struct Place {
    server: Server,
    /// What everybody's phones are told by.
    gateway: Peer,
}

/// A room with its story.
pub struct Story {
    pub setting: &'static str,
    pub room: String,
    /// The first message, to which all others are replies in its thread.
    root: String,
    pub events: Vec<String>,
    /// The last event of all.
    pub end: String,
    /// What was said by which event, and when.
    said: Vec<(String, String, u64)>,
}

/// The word by which what a speaker said at a moment is known again, in this room only.
pub fn word(setting: &str, speaker: &str, moment: usize) -> String {
    format!("zq{}{speaker}{moment}", setting.replace('_', ""))
}

/// Whether the rules let somebody see what was said at a moment.
pub fn may_see(setting: &str, turns: Option<usize>, moment: usize) -> bool {
    let Some(turns) = turns else { return setting == "world_readable" };
    let then = TURNS[moment.min(turns)];
    let later = TURNS.iter().take(turns + 1).skip(moment + 1);
    match setting {
        "world_readable" => true,
        "shared" => then == "join" || later.into_iter().any(|turn| *turn == "join"),
        "invited" => then == "join" || then == "invite",
        _ => then == "join",
    }
}

impl Person {
    fn sees(&self, setting: &str) -> BTreeSet<String> {
        let mut words = BTreeSet::new();
        for moment in (0..TURNS.len()).filter(|moment| may_see(setting, self.turns, *moment)) {
            words.insert(word(setting, "alice", moment));
            if !self.ignores {
                words.insert(word(setting, "mallory", moment));
            }
        }
        words
    }

    fn is(&self) -> &'static str {
        self.turns.map_or("never", |turns| TURNS[turns])
    }

    /// Who is in the room finds all by every way, but for the thread's first message among its replies, and all but
    /// the newest reply in a list of threads. Who isn't may find some doors shut, but not to what they know by name.
    fn finds_by(&self, way: Way, allowed: &BTreeSet<String>, setting: &str) -> BTreeSet<String> {
        let mut all = allowed.clone();
        match (self.is(), way) {
            ("join", Way::Relations) => drop(all.remove(&word(setting, "alice", 0))),
            ("join", Way::Threads) => all.retain(|found| {
                let speaker = if self.ignores { "alice" } else { "mallory" };
                *found == word(setting, "alice", 0) || *found == word(setting, speaker, TURNS.len() - 1)
            }),
            // Where two messages are of the same millisecond, it finds one of them.
            (_, Way::Jump) => all.clear(),
            // Nobody is pushed what was said before they came, or is notified of it when they come again.
            ("join", Way::Push | Way::Notifications) => {
                let came = TURNS[..=self.turns.unwrap_or(0)].iter().rposition(|turn| *turn == "join").unwrap_or(0);
                let mine = (came..TURNS.len()).flat_map(|at| ["alice", "mallory"].map(|who| word(setting, who, at)));
                let mine: BTreeSet<_> = mine.collect();
                all.retain(|word| mine.contains(word));
            }
            ("join", _) | ("leave" | "ban", Way::Event | Way::EventAlone | Way::Context) => {}
            _ => all.clear(),
        }
        all
    }

    /// Whose word they find in the room's state: the newest while they are in it, afterwards as they left it.
    fn state(&self, setting: &str) -> Option<String> {
        let last = TURNS.len() - 1;
        let at = match (self.is(), self.turns) {
            ("join", _) => last,
            ("never", _) if setting == "world_readable" => last,
            ("leave", Some(turns)) => turns - 1,
            ("invite", Some(_)) => 0,
            ("ban", Some(_)) => last - 2,
            _ => return None,
        };
        Some(word(setting, "state", at))
    }
}

/// All words of the story in an answer.
pub fn words_in(setting: &str, answer: &Value) -> BTreeSet<String> {
    let text = answer.to_string();
    assert!(!text.contains(REDACTED), "what was taken back: {text}");
    let speakers = ["alice", "mallory", "state"];
    let all = (0..TURNS.len()).flat_map(|moment| speakers.map(|speaker| word(setting, speaker, moment)));
    all.filter(|word| text.contains(word.as_str())).collect()
}

impl Story {
    /// Opens a room, of a version if that matters.
    pub async fn open(setting: &'static str, (alice, mallory): (&User, &User), version: Option<&str>) -> Self {
        let history = json!({"type": "m.room.history_visibility", "content": {"history_visibility": setting}});
        let mut wish = json!({"preset": "public_chat", "initial_state": [history]});
        if let Some(version) = version {
            wish["room_version"] = json!(version);
        }
        let room = alice.create_room(wish).await;
        mallory.join(&room).await;
        Self { setting, room, root: String::new(), events: Vec::new(), end: String::new(), said: Vec::new() }
    }

    async fn tell(setting: &'static str, alice: &User, mallory: &User, people: &[Person]) -> Self {
        let mut story = Self::open(setting, (alice, mallory), None).await;
        for (moment, turn) in TURNS.iter().enumerate() {
            for person in people {
                if person.turns.is_some_and(|turns| turns >= moment) {
                    story.moves(alice, &person.user, turn).await;
                }
            }
            story.speak(alice, mallory, moment).await;
        }
        let page = alice.get(&in_room(&story.room, "messages?dir=b&limit=100")).await.ok();
        for event in page["chunk"].as_array().expect("a page") {
            let (id, ts) = (event["event_id"].as_str().expect("an ID"), event["origin_server_ts"].as_u64());
            let said = words_in(setting, &event["content"]).into_iter();
            story.said.extend(said.map(|word| (id.to_owned(), word, ts.expect("a time"))));
        }
        story
    }

    pub async fn moves(&self, alice: &User, user: &User, turn: &str) {
        let room = &self.room;
        match turn {
            "join" => user.join(room).await,
            "leave" => user.leave(room).await,
            "invite" => alice.invite(room, user).await,
            _ => drop(alice.post(&in_room(room, "ban"), json!({"user_id": user.id})).await.ok()),
        }
    }

    pub async fn speak(&mut self, alice: &User, mallory: &User, moment: usize) {
        for (name, speaker) in [("alice", alice), ("mallory", mallory)] {
            let mut content =
                json!({"msgtype": "m.text", "body": format!("pebble {}", word(self.setting, name, moment))});
            if !self.root.is_empty() {
                content["m.relates_to"] = json!({"rel_type": "m.thread", "event_id": self.root});
            }
            let event = speaker.send(&self.room, "m.room.message", content).await;
            if self.root.is_empty() {
                self.root.clone_from(&event);
            }
            self.events.push(event);
        }
        if moment == 0 {
            let content = json!({"msgtype": "m.text", "body": format!("pebble {REDACTED}"),
                "m.relates_to": {"rel_type": "m.thread", "event_id": self.root}});
            let slip = mallory.send(&self.room, "m.room.message", content).await;
            mallory.put(&in_room(&self.room, &format!("redact/{slip}/{}", transaction())), json!({})).await.ok();
            self.events.push(slip);
        }
        // State says who speaks last, for those who read the state.
        let last = json!({"word": word(self.setting, "state", moment)});
        let answer = alice.put(&in_room(&self.room, "state/chat.test.last/"), last).await.ok();
        answer["event_id"].as_str().expect("an ID").clone_into(&mut self.end);
    }

    /// What somebody finds by one way.
    async fn read(&self, place: &Place, user: &User, way: Way) -> BTreeSet<String> {
        let room = &self.room;
        let get = async |path: String| words_in(self.setting, &user.get(&path).await.body);
        match way {
            Way::Sync => {
                let filter =
                    json!({"room": {"include_leave": true, "timeline": {"limit": 100}, "state": {"types": []}}});
                get(format!("/_matrix/client/v3/sync?timeout=0&filter={}", encode(&filter.to_string()))).await
            }
            Way::Sliding => {
                let wish = json!({"lists": {"all": {"ranges": [[0, 20]], "timeline_limit": 100, "required_state": []}},
                    "room_subscriptions": {room: {"timeline_limit": 100, "required_state": []}}});
                let path = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync?timeout=0";
                words_in(self.setting, &user.post(path, wish).await.body)
            }
            Way::Socket => {
                let filter = json!({"room": {"timeline": {"limit": 100}, "state": {"types": []}}});
                let query = format!("filter={}", encode(&filter.to_string()));
                words_in(self.setting, &Socket::open(&place.server, user, &query).await.sync().await)
            }
            Way::Back => get(in_room(room, "messages?dir=b&limit=100")).await,
            Way::Forth => get(in_room(room, "messages?dir=f&limit=100")).await,
            Way::Peek => get(in_room(room, "initialSync?limit=100")).await,
            Way::EventAlone => self.each(user, |event| format!("/_matrix/client/v3/events/{}", encode(event))).await,
            Way::Event => self.each(user, |event| in_room(room, &format!("event/{event}"))).await,
            Way::Context => self.each(user, |event| in_room(room, &format!("context/{event}?limit=40"))).await,
            Way::Relations => {
                let root = encode(&self.root);
                let path = format!("/_matrix/client/v1/rooms/{}/relations/{root}?limit=100&recurse=true", encode(room));
                get(path).await
            }
            Way::Threads => get(format!("/_matrix/client/v1/rooms/{}/threads?include=all", encode(room))).await,
            Way::Search => {
                let criteria = json!({"search_term": "pebble", "filter": {"rooms": [room], "limit": 50},
                    "event_context": {"before_limit": 20, "after_limit": 20}});
                let body = json!({"search_categories": {"room_events": criteria}});
                words_in(self.setting, &user.post("/_matrix/client/v3/search", body).await.body)
            }
            Way::Jump => self.jump(user).await,
            Way::Push => {
                // What was told before it was taken back can't be untold.
                let told = push::told(&place.gateway, &user.id).into_iter();
                let told: Vec<Value> = told.filter(|told| !told.to_string().contains(REDACTED)).collect();
                words_in(self.setting, &Value::from(told))
            }
            Way::Notifications => {
                let mut all = BTreeSet::new();
                let mut from = String::new();
                loop {
                    let page = user.get(&format!("/_matrix/client/v3/notifications?limit=50{from}")).await.ok();
                    all.extend(words_in(self.setting, &page));
                    let Some(next) = page["next_token"].as_str() else { return all };
                    from = format!("&from={}", encode(next));
                }
            }
        }
    }

    async fn each(&self, user: &User, path: impl Fn(&str) -> String) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        for event in &self.events {
            let answer = user.get(&path(event)).await;
            assert!([200, 403, 404].contains(&answer.status), "{}", answer.body);
            all.extend(words_in(self.setting, &answer.body));
        }
        all
    }

    /// What is found by going to the time of each event, and to both sides of it.
    async fn jump(&self, user: &User) -> BTreeSet<String> {
        let (mut all, room) = (BTreeSet::new(), encode(&self.room));
        for (_, _, ts) in &self.said {
            for way in ["f", "b"] {
                let path = format!("/_matrix/client/v1/rooms/{room}/timestamp_to_event?ts={ts}&dir={way}");
                let answer = user.get(&path).await;
                assert!([200, 403, 404].contains(&answer.status), "{}", answer.body);
                let found = self.said.iter().filter(|(id, ..)| answer.body["event_id"] == id.as_str());
                all.extend(found.map(|(_, word, _)| word.clone()));
            }
        }
        all
    }

    /// What is wrong with what somebody finds.
    async fn wrongs(&self, place: &Place, person: &Person) -> Vec<String> {
        let (allowed, mut wrongs) = (person.sees(self.setting), Vec::new());
        let who = format!("{}: {} after {:?} turns", self.setting, person.is(), person.turns);
        for way in WAYS {
            let found = self.read(place, &person.user, way).await;
            // Along with what they may see comes the state there, and nothing of what was later.
            let newest = (0..TURNS.len()).rfind(|moment| may_see(self.setting, person.turns, *moment));
            let is_state =
                |found: &&String| (0..=newest.unwrap_or(0)).any(|at| **found == word(self.setting, "state", at));
            let extra: Vec<_> =
                found.difference(&allowed).filter(|found| newest.is_none() || !is_state(found)).collect();
            if !extra.is_empty() {
                wrongs.push(format!("{who}, by {way:?}, sees {extra:?}"));
            }
            let due = person.finds_by(way, &allowed, self.setting);
            let missing: Vec<_> = due.difference(&found).collect();
            if !missing.is_empty() {
                wrongs.push(format!("{who}, by {way:?}, misses {missing:?}"));
            }
        }
        let state = person.user.get(&in_room(&self.room, "state/chat.test.last/")).await;
        let (found, expected) = (state.body["word"].as_str().map(str::to_owned), person.state(self.setting));
        if found != expected {
            wrongs.push(format!("{who}, state: {found:?} and not {expected:?}"));
        }
        wrongs
    }
}

#[tokio::test]
async fn everybody_sees_what_they_may_and_nothing_else_in_every_way() {
    let gateway = Peer::start().await;
    gateway.says(push::NOTIFY, Says::Json(200, json!({"rejected": []})));
    let place = Place { server: federated("", "").await, gateway };
    let server = &place.server;
    let (alice, mallory) = (server.register("alice").await, server.register("mallory").await);
    let mut people = Vec::new();
    for turns in (0..TURNS.len()).map(Some).chain([None]) {
        let name = turns.map_or("stranger".to_owned(), |turns| format!("person{turns}"));
        people.push(Person { user: server.register(&name).await, turns, ignores: false });
    }
    let hurt = server.register("hurt").await;
    let path = format!("/_matrix/client/v3/user/{}/account_data/m.ignored_user_list", encode(&hurt.id));
    hurt.put(&path, json!({"ignored_users": {(&*mallory.id): {}}})).await.ok();
    people.push(Person { user: hurt, turns: Some(0), ignores: true });
    for person in &people {
        push::set(&person.user, push::pusher(&place.gateway, &person.user.id)).await;
    }
    let mut wrongs = Vec::new();
    for setting in SETTINGS {
        let story = Story::tell(setting, &alice, &mallory, &people).await;
        let last = word(setting, "alice", TURNS.len() - 1);
        let indexed = async || story.read(&place, &alice, Way::Search).await.contains(&last).then_some(());
        until("the last message in the index", indexed).await;
        // Once who is in the room to the end was told of the last word, everybody was told all there is for them.
        for person in people.iter().filter(|person| person.is() == "join") {
            let speaker = if person.ignores { "alice" } else { "mallory" };
            let last = word(setting, speaker, TURNS.len() - 1);
            let told = async || story.read(&place, &person.user, Way::Push).await.contains(&last).then_some(());
            until("the last push", told).await;
        }
        for person in &people {
            wrongs.extend(story.wrongs(&place, person).await);
        }
    }
    assert!(wrongs.is_empty(), "{wrongs:#?}");
}
