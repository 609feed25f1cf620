//! What state resolution is for: people do things at once that don't go together, on servers that don't hear
//! of each other, and each situation has one outcome that the algorithm was made to give. Told by hand, for
//! versions 2 and 2.1 of it. spec: rooms/v2#state-resolution, rooms/v12#state-resolution

use super::{agreement::by_the_book, *};

/// A room of alice's (100, or its creator) with bob and carol (50 each) and dave (0).
struct Play<'a> {
    tx: &'a WriteTx,
    me: &'a Identity,
    room: Room,
    /// When the next thing happens.
    now: u64,
}

type State = BTreeMap<(String, String), String>;

impl<'a> Play<'a> {
    fn new(tx: &'a WriteTx, me: &'a Identity, version: &RoomVersionId) -> Self {
        let id = create::create(tx, me, &user("alice"), &wish(version)).expect("made");
        let room = Room::named(tx, &id).expect("reads");
        // After the room was made, which takes its time from the clock.
        let mut play = Self { tx, me, room, now: crate::base::clock::now_ms() };
        for who in ["bob", "carol", "dave"] {
            play.act(&[], who, "m.room.member", &format!("@{who}:test"), json!({ "membership": "join" }));
        }
        play
    }

    /// The newest that everybody knows.
    fn end(&self) -> String {
        self.room.row.extremities.last().expect("there is one").1.clone()
    }

    fn after(&self, id: &str) -> Overlay {
        event::state_after(self.tx, self.at(id)).expect("reads")
    }

    fn at(&self, id: &str) -> Pos {
        tables::EVENT_IDS.get(self.tx, id).expect("reads").expect("known")
    }

    /// Somebody changes the state where these events are all that they know: nothing named is everything.
    fn act(&mut self, on: &[&str], who: &str, kind: &str, key: &str, content: Value) -> String {
        self.now += 1000;
        self.act_at(self.now, on, who, (kind, key, content))
    }

    fn act_at(&mut self, ts: u64, on: &[&str], who: &str, (kind, key, content): (&str, &str, Value)) -> String {
        let mut fork = self.room.clone();
        if !on.is_empty() {
            let states: Vec<Overlay> = on.iter().map(|id| self.after(id)).collect();
            fork.row.extremities = on.iter().map(|id| (self.at(id), (*id).to_owned())).collect();
            fork.row.state = self.resolved(&states).store(self.tx, 0).expect("stored");
        }
        let draft = Draft::state_of(TimelineEventType::from(kind), key, &content).expect("a draft");
        let signed = draft::sign(self.tx, self.me, &fork, &user(who), &draft).expect("it is allowed there");
        let mut event: ruma::CanonicalJsonObject = serde_json::from_str(&signed.json).expect("canonical");
        event.remove("hashes");
        event.remove("signatures");
        let ts = ruma::CanonicalJsonValue::Integer(ts.try_into().expect("a time"));
        event.insert("origin_server_ts".into(), ts);
        let rules = self.room.rules();
        ruma::signatures::hash_and_sign_event("test", &self.me.key, &mut event, &rules.redaction).expect("signs");
        let event = check(self.me, &serde_json::to_string(&event).expect("JSON"), &rules);
        let arrival = Arrival { event: &event, state_before: None, outgoing: false, unvouched: false };
        let verdict = accept(self.tx, &mut self.room, arrival).expect("judged");
        assert!(matches!(verdict, Verdict::Is(_, Standing::Accepted | Standing::SoftFailed)), "{verdict:?}");
        event.id().to_string()
    }

    fn topic(&mut self, on: &[&str], who: &str) -> String {
        let topic = json!({ "topic": format!("{who}'s at {}", self.now) });
        self.act(on, who, "m.room.topic", "", topic)
    }

    fn member(&mut self, on: &[&str], who: &str, whom: &str, membership: &str) -> String {
        self.act(on, who, "m.room.member", &format!("@{whom}:test"), json!({ "membership": membership }))
    }

    fn rule(&mut self, on: &[&str], who: &str, rule: &str) -> String {
        self.act(on, who, "m.room.join_rules", "", json!({ "join_rule": rule }))
    }

    /// Somebody gives somebody power, where the last of these events is known.
    fn level(&mut self, on: &[&str], who: &str, whom: &str, level: i64) -> String {
        let state = self.after(on.last().expect("there is one"));
        let pos = state.event(self.tx, "m.room.power_levels", "").expect("reads").expect("set");
        let row = event::row(self.tx, pos).expect("reads");
        let mut content = serde_json::from_str::<Value>(&row.pdu).expect("JSON")["content"].clone();
        content["users"][format!("@{whom}:test")] = json!(level);
        self.act(on, who, "m.room.power_levels", "", content)
    }

    /// What states come to: in either order, and by the algorithm without short cuts.
    fn resolved(&self, states: &[Overlay]) -> Overlay {
        let rules = self.room.rules();
        let resolve = |states: &[Overlay]| match resolve::resolve(self.tx, &rules, states, None, OUTSIDE) {
            Ok(Outcome::Resolved(state)) => state,
            other => panic!("{other:?}"),
        };
        let there = resolve(states);
        let back: Vec<Overlay> = states.iter().rev().cloned().collect();
        let names = |state: &Overlay| named(self.tx, state).expect("reads");
        assert_eq!(names(&there), names(&resolve(&back)));
        assert_eq!(names(&there), by_the_book(self.tx, &self.room, states).expect("resolves"));
        there
    }

    /// The state for who has heard of all of these.
    fn meet(&self, ends: &[&str]) -> State {
        let states: Vec<Overlay> = ends.iter().map(|id| self.after(id)).collect();
        named(self.tx, &self.resolved(&states)).expect("reads")
    }

    fn membership(&self, state: &State, who: &str) -> String {
        let id = &state[&("m.room.member".to_owned(), format!("@{who}:test"))];
        let row = event::row(self.tx, self.at(id)).expect("reads");
        let event: Value = serde_json::from_str(&row.pdu).expect("JSON");
        event["content"]["membership"].as_str().expect("a membership").to_owned()
    }
}

fn at<'a>(state: &'a State, kind: &str) -> Option<&'a str> {
    state.get(&(kind.to_owned(), String::new())).map(String::as_str)
}

const TOPIC: &str = "m.room.topic";
const LEVELS: &str = "m.room.power_levels";
const RULES: &str = "m.room.join_rules";

/// Plays the same in rooms of all ways to resolve.
async fn everywhere(play: impl Fn(&mut Play<'_>, &RoomVersionId) + Send + Copy + 'static) {
    for version in [RoomVersionId::V6, RoomVersionId::V11, RoomVersionId::V12] {
        let house = House::new();
        let work = move |tx: &WriteTx, me: &Identity| {
            play(&mut Play::new(tx, me, &version), &version);
            Ok(())
        };
        house.write(work).await;
    }
}

#[tokio::test]
async fn who_loses_power_loses_what_they_did_meanwhile() {
    everywhere(|play, _| {
        let start = play.topic(&[], "alice");
        let demoted = play.level(&[&start], "alice", "bob", 0);
        let topic = play.topic(&[&start], "bob");
        let state = play.meet(&[&demoted, &topic]);
        assert_eq!((at(&state, LEVELS), at(&state, TOPIC)), (Some(&*demoted), Some(&*start)));
        // Also what they did before it by the clock, for a clock proves nothing.
        let early = play.act_at(1_600_000_000_000, &[&start], "bob", (TOPIC, "", json!({ "topic": "early" })));
        assert_eq!(at(&play.meet(&[&early, &demoted]), TOPIC), Some(&*start));
        // What nobody had set before is not set then.
        let name = play.act(&[&start], "bob", "m.room.name", "", json!({ "name": "bob's" }));
        assert_eq!(at(&play.meet(&[&demoted, &name]), "m.room.name"), None);
    })
    .await;
}

#[tokio::test]
async fn who_is_banned_changes_no_power_and_bans_nobody() {
    everywhere(|play, _| {
        let start = play.end();
        let before = play.meet(&[&start]);
        let banned = play.member(&[&start], "alice", "bob", "ban");
        let levels = play.level(&[&start], "bob", "dave", 40);
        let state = play.meet(&[&levels, &banned]);
        assert_eq!(play.membership(&state, "bob"), "ban");
        assert_eq!(at(&state, LEVELS), at(&before, LEVELS));
        let revenge = play.member(&[&start], "bob", "dave", "ban");
        let state = play.meet(&[&revenge, &banned]);
        assert_eq!((play.membership(&state, "bob"), play.membership(&state, "dave")), ("ban".into(), "join".into()));
        // Nor does it help to have gone before the ban was heard of, and to come again.
        let gone = play.member(&[&start], "bob", "bob", "leave");
        let back = play.member(&[&gone], "bob", "bob", "join");
        let state = play.meet(&[&back, &banned]);
        assert_eq!(play.membership(&state, "bob"), "ban");
    })
    .await;
}

#[tokio::test]
async fn among_equals_the_later_one_counts_and_then_the_greater_id() {
    everywhere(|play, _| {
        let start = play.end();
        let first = play.topic(&[&start], "carol");
        let second = play.topic(&[&start], "bob");
        assert_eq!(at(&play.meet(&[&second, &first]), TOPIC), Some(&*second));
        let late = play.now + 1_000_000;
        let one = play.act_at(late, &[&start], "bob", (TOPIC, "", json!({ "topic": "one" })));
        let two = play.act_at(late, &[&start], "carol", (TOPIC, "", json!({ "topic": "two" })));
        let greater = if one > two { &one } else { &two };
        assert_eq!(at(&play.meet(&[&one, &two, &second]), TOPIC), Some(&**greater));
        // Of two changes of power by equals that don't contradict each other the later one stands.
        let dave = play.level(&[&start], "bob", "dave", 10);
        let erin = play.level(&[&start], "carol", "erin", 10);
        assert_eq!(at(&play.meet(&[&erin, &dave]), LEVELS), Some(&*erin));
        // Who has more power comes first, so that what they did is what others are judged by.
        let alices = play.level(&[&start], "alice", "carol", 0);
        let carols = play.level(&[&start], "carol", "frank", 10);
        assert_eq!(at(&play.meet(&[&carols, &alices]), LEVELS), Some(&*alices));
    })
    .await;
}

#[tokio::test]
async fn what_was_done_under_newer_power_levels_counts_more_than_a_later_clock() {
    everywhere(|play, _| {
        let start = play.end();
        let levels = play.level(&[&start], "alice", "dave", 10);
        let newer = play.act_at(1_600_000_000_000, &[&levels], "bob", (TOPIC, "", json!({ "topic": "newer" })));
        let older = play.act_at(play.now + 1_000_000, &[&start], "carol", (TOPIC, "", json!({ "topic": "older" })));
        let state = play.meet(&[&newer, &older]);
        assert_eq!((at(&state, LEVELS), at(&state, TOPIC)), (Some(&*levels), Some(&*newer)));
    })
    .await;
}

#[tokio::test]
async fn who_comes_in_while_the_door_is_shut_is_not_in() {
    everywhere(|play, _| {
        let gone = play.member(&[], "dave", "dave", "leave");
        let shut = play.rule(&[&gone], "alice", "invite");
        let joined = play.member(&[&gone], "dave", "dave", "join");
        let state = play.meet(&[&joined, &shut]);
        assert_eq!((at(&state, RULES), &*play.membership(&state, "dave")), (Some(&*shut), "leave"));
        // Who was let in by name is.
        let invited = play.member(&[&gone], "alice", "dave", "invite");
        let joined = play.member(&[&invited], "dave", "dave", "join");
        let state = play.meet(&[&joined, &shut]);
        assert_eq!((at(&state, RULES), &*play.membership(&state, "dave")), (Some(&*shut), "join"));
    })
    .await;
}

#[tokio::test]
async fn who_is_put_out_does_nothing_more() {
    everywhere(|play, _| {
        let start = play.topic(&[], "alice");
        let kicked = play.member(&[&start], "alice", "bob", "leave");
        let topic = play.topic(&[&start], "bob");
        let again = play.topic(&[&topic], "bob");
        let state = play.meet(&[&again, &kicked]);
        assert_eq!((at(&state, TOPIC), &*play.membership(&state, "bob")), (Some(&*start), "leave"));
        // What others did on top of it stands by itself.
        let carols = play.topic(&[&again], "carol");
        assert_eq!(at(&play.meet(&[&carols, &kicked]), TOPIC), Some(&*carols));
    })
    .await;
}

/// Version 2 begins with what nobody disputes, and so judges what somebody did long ago by their having left
/// since: what they had set is gone. Version 2.1 begins with nothing, and judges it by its own time.
/// spec: rooms/v12#state-resolution (MSC4297)
#[tokio::test]
async fn who_has_left_leaves_the_rules_behind_in_version_12_alone() {
    everywhere(|play, version| {
        let start = play.end();
        let old = at(&play.meet(&[&start]), RULES).expect("rules").to_owned();
        let shut = play.rule(&[&start], "alice", "invite");
        let left = play.member(&[&start], "alice", "alice", "leave");
        let state = play.meet(&[&shut, &left]);
        assert_eq!((at(&state, RULES), &*play.membership(&state, "alice")), (Some(&*shut), "leave"));
        // Carol has not heard of the rules, and bob of both: alice is gone for each of them.
        let carols = play.topic(&[&left], "carol");
        let bobs = play.topic(&[&shut, &left], "bob");
        let rules = at(&play.meet(&[&carols]), RULES).map(str::to_owned);
        assert_eq!(rules, Some(old));
        let state = play.meet(&[&carols, &bobs]);
        let wanted = if *version == RoomVersionId::V12 { Some(&*shut) } else { None };
        assert_eq!(at(&state, RULES), wanted, "{version}");
    })
    .await;
}

/// What lies between two contested events and is behind something that nobody contests is in no difference
/// of the auth chains. Version 2 passes over it and so forgets whom it gave power; version 2.1 goes through it.
/// spec: rooms/v12#state-resolution (MSC4297)
#[tokio::test]
async fn what_lies_between_contested_events_is_gone_through_in_version_12_alone() {
    everywhere(|play, version| {
        let start = play.end();
        let first = play.after(&start).event(play.tx, LEVELS, "").expect("reads").expect("set");
        let second = play.level(&[&start], "alice", "bob", 90);
        // Bob's topic needs the power that he has by the second, which is behind it then for everybody.
        let topic = play.topic(&[&second], "bob");
        let third = play.level(&[&topic], "bob", "dave", 60);
        // Somebody has fallen back to the first.
        let (new, mut old) = (play.after(&third), play.after(&topic));
        let key = state::key(play.tx, LEVELS, "").expect("reads").expect("known");
        old.set(play.tx, key, first).expect("set");
        let state = named(play.tx, &play.resolved(&[old, new])).expect("reads");
        let fallen = event::row(play.tx, first).expect("reads").id;
        let wanted = if *version == RoomVersionId::V12 { third } else { fallen };
        assert_eq!((at(&state, LEVELS), at(&state, TOPIC)), (Some(&*wanted), Some(&*topic)), "{version}");
    })
    .await;
}
