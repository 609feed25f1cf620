//! Histories that fork and merge, as two servers meet them in different orders.

mod agreement;
mod entered;
mod situations;

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use ruma::{
    OwnedRoomId, OwnedUserId, RoomVersionId, UserId,
    api::client::room::{Visibility, create_room::v3::RoomPreset},
    events::{StateEventType, TimelineEventType},
    room_version_rules::RoomVersionRules,
    server_name,
};
use serde_json::{Map, Value, json};

use super::{super::*, *};
use crate::{
    base::signing::{Identity, SigningKey},
    rooms::{
        create::{self, Wish},
        draft::{self, Draft},
    },
    store::{Options, Store},
};

struct House {
    store: Store,
    me: Arc<Identity>,
    dir: tempfile::TempDir,
}

impl House {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let options = Options { page_cache: 1 << 20, state_cache: 1 << 20, min_free: 0 };
        let store = Store::open(&dir.path().join("hearth.redb"), options, Box::new(|_, _| {})).expect("opens");
        let key = SigningKey::load_or_create(&dir.path().join("key")).expect("a key");
        Self { store, me: Arc::new(Identity { name: server_name!("test").to_owned(), key }), dir }
    }

    /// Another server that knows this one's keys.
    fn other(&self) -> Self {
        let other = Self::new();
        let key = SigningKey::load_or_create(&self.dir.path().join("key")).expect("a key");
        Self { me: Arc::new(Identity { name: self.me.name.clone(), key }), ..other }
    }

    async fn write<T: Send + 'static>(
        &self,
        mut work: impl FnMut(&WriteTx, &Identity) -> Result<T> + Send + 'static,
    ) -> T {
        let me = self.me.clone();
        self.store.write(move |tx| work(tx, &me)).await.expect("written")
    }
}

fn user(name: &str) -> OwnedUserId {
    UserId::parse(format!("@{name}:test")).expect("a user ID")
}

fn wish(version: &RoomVersionId) -> Wish {
    let mut users = json!({ "@bob:test": 50, "@carol:test": 50 });
    if *version != RoomVersionId::V12 {
        users["@alice:test"] = json!(100);
    }
    Wish {
        version: version.clone(),
        preset: RoomPreset::PublicChat,
        visibility: Visibility::Private,
        creation_content: Map::new(),
        power_levels: json!({ "users": users, "events": {} }).as_object().cloned().expect("an object"),
        initial_state: Vec::new(),
        name: None,
        topic: None,
        alias: None,
        invite: Vec::new(),
        is_direct: false,
        seed: Default::default(),
    }
}

fn check(me: &Identity, json: &str, rules: &RoomVersionRules) -> Checked {
    let keys = pdu::tests::keys_of(&me.name, &me.key);
    let raw: Box<serde_json::value::RawValue> = serde_json::from_str(json).expect("JSON");
    pdu::parse(&raw, rules).expect("well-formed").verify(&keys, rules).expect("signed")
}

/// All events of a room, in the order in which they came.
fn events(tx: &impl Read, room: &Room) -> Result<Vec<String>> {
    let mut out = Vec::new();
    tables::EVENTS.scan(tx, 0.., |_, row| {
        if row.room == room.num {
            out.push(row.pdu);
        }
        Ok(crate::store::Flow::Next)
    })?;
    Ok(out)
}

/// A state by names and event IDs, which every server can compare.
fn named(tx: &impl Read, state: &Overlay) -> Result<BTreeMap<(String, String), String>> {
    let mut out = BTreeMap::new();
    for (key, pos) in state.all(tx)? {
        out.insert(state::key_name(tx, key)?, event::row(tx, pos)?.id);
    }
    Ok(out)
}

type Seen = BTreeMap<String, (bool, BTreeMap<(String, String), String>)>;

/// Of every event whether it was rejected, and the state after it.
fn seen(tx: &impl Read, room: &Room) -> Result<Seen> {
    let mut positions = Vec::new();
    tables::EVENTS.scan(tx, 0.., |pos, row| {
        if row.room == room.num {
            positions.push((pos, row));
        }
        Ok(crate::store::Flow::Next)
    })?;
    let mut out = Seen::new();
    for (pos, row) in positions {
        let after = named(tx, &event::state_after(tx, pos)?)?;
        out.insert(row.id, (row.standing == Standing::Rejected, after));
    }
    Ok(out)
}

/// Takes in a room's events in some order, as often as it takes until nothing is lacking.
fn take_in(
    tx: &WriteTx,
    me: &Identity,
    (id, version): (&OwnedRoomId, &RoomVersionId),
    events: &[String],
) -> Result<Room> {
    let mut room = create::new_room(tx, id, version)?;
    let mut waiting: Vec<Checked> = events.iter().map(|json| check(me, json, &room.rules())).collect();
    while !waiting.is_empty() {
        let before = waiting.len();
        let mut lacking = Vec::new();
        for event in waiting {
            match accept(
                tx,
                &mut room,
                Arrival { event: &event, state_before: None, outgoing: false, unvouched: false },
            )? {
                Verdict::Is(..) => {}
                Verdict::Lacks(_) => lacking.push(event),
                Verdict::TooHeavy => panic!("too heavy"),
            }
        }
        assert!(lacking.len() < before, "nothing goes on");
        waiting = lacking;
    }
    Ok(room)
}

/// Signs an event as its sender's server would, over what the test says and not what the rules say.
fn forge(
    me: &Identity,
    room: &Room,
    sender: &UserId,
    (kind, key, content): (&str, Option<&str>, Value),
    more: Value,
) -> Checked {
    let mut event = json!({
        "type": kind, "sender": sender, "content": content, "room_id": room.row.id, "depth": 100,
        "origin_server_ts": 1_700_000_000_000u64, "prev_events": [], "auth_events": [],
    });
    if let Some(key) = key {
        event["state_key"] = json!(key);
    }
    for (name, value) in more.as_object().expect("an object") {
        event[name] = value.clone();
    }
    let mut object: ruma::CanonicalJsonObject = serde_json::from_value(event).expect("canonical");
    let rules = room.rules();
    ruma::signatures::hash_and_sign_event("test", &me.key, &mut object, &rules.redaction).expect("signs");
    check(me, &serde_json::to_string(&object).expect("JSON"), &rules)
}

fn state_id(tx: &impl Read, room: &Room, kind: &str, key: &str) -> String {
    let pos = Overlay::of(room.row.state).event(tx, kind, key).expect("reads").expect("set");
    event::row(tx, pos).expect("there").id
}

/// A room of alice's with bob in it.
fn shared_room(tx: &WriteTx, me: &Identity) -> Result<Room> {
    let id = create::create(tx, me, &user("alice"), &wish(&RoomVersionId::V11))?;
    let mut room = Room::named(tx, &id)?;
    let join = Draft::state_of(TimelineEventType::RoomMember, "@bob:test", &json!({ "membership": "join" }))?;
    draft::send(tx, me, &mut room, &user("bob"), &join, None)?;
    Ok(room)
}

fn auth_of(tx: &impl Read, room: &Room, who: &str) -> Vec<String> {
    let keys = [("m.room.create", ""), ("m.room.power_levels", ""), ("m.room.member", who)];
    keys.into_iter().map(|(kind, key)| state_id(tx, room, kind, key)).collect()
}

#[tokio::test]
async fn what_depends_on_a_rejected_event_is_rejected_and_what_stands_beside_it_is_not() {
    let house = House::new();
    let work = |tx: &WriteTx, me: &Identity| {
        let mut room = shared_room(tx, me)?;
        let end = room.row.extremities[0].1.clone();
        let bob = user("bob");
        // Bob gives himself more power than he has.
        let mut levels: Value = room.state_content(tx, &StateEventType::RoomPowerLevels)?.expect("levels");
        levels["users"]["@bob:test"] = json!(100);
        let auth = auth_of(tx, &room, "@bob:test");
        let grab = forge(
            me,
            &room,
            &bob,
            ("m.room.power_levels", Some(""), levels),
            json!({ "prev_events": [end], "auth_events": auth }),
        );
        let arrival = |event| Arrival { event, state_before: None, outgoing: false, unvouched: false };
        assert!(matches!(accept(tx, &mut room, arrival(&grab))?, Verdict::Is(_, Standing::Rejected)));
        assert_eq!(room.row.extremities[0].1, end, "what is rejected is no end");
        // What builds its permission on that is rejected too, and so on.
        let mut cited = auth.clone();
        cited[1] = grab.id().to_string();
        let banned = json!({ "membership": "ban" });
        cited.push(state_id(tx, &room, "m.room.member", "@alice:test"));
        let ban = forge(
            me,
            &room,
            &bob,
            ("m.room.member", Some("@alice:test"), banned),
            json!({ "prev_events": [grab.id()], "auth_events": cited }),
        );
        assert!(matches!(accept(tx, &mut room, arrival(&ban))?, Verdict::Is(_, Standing::Rejected)));
        // What only comes after it is part of the room, in a state without it.
        let hello = forge(
            me,
            &room,
            &bob,
            ("m.room.message", None, json!({ "body": "hello" })),
            json!({ "prev_events": [ban.id()], "auth_events": auth }),
        );
        let Verdict::Is(pos, Standing::Accepted) = accept(tx, &mut room, arrival(&hello))? else { panic!("accepted") };
        assert_eq!(event::row(tx, pos)?.state_before, room.row.state);
        assert_eq!(room.row.extremities.iter().map(|(_, id)| id.as_str()).collect::<Vec<_>>(), [hello.id().as_str()]);
        assert_eq!(auth_of(tx, &room, "@bob:test"), auth);
        Ok(())
    };
    house.write(work).await;
}

#[tokio::test]
async fn who_was_banned_speaks_from_the_past_to_nobody() {
    let house = House::new();
    let work = |tx: &WriteTx, me: &Identity| {
        let mut room = shared_room(tx, me)?;
        let end = room.row.extremities[0].1.clone();
        let auth = auth_of(tx, &room, "@bob:test");
        let ban = Draft::state_of(TimelineEventType::RoomMember, "@bob:test", &json!({ "membership": "ban" }))?;
        draft::send(tx, me, &mut room, &user("alice"), &ban, None)?;
        let ends = room.row.extremities.clone();
        let late = forge(
            me,
            &room,
            &user("bob"),
            ("m.room.topic", Some(""), json!({ "topic": "ha" })),
            json!({ "prev_events": [end], "auth_events": auth }),
        );
        let Verdict::Is(pos, standing) =
            accept(tx, &mut room, Arrival { event: &late, state_before: None, outgoing: false, unvouched: false })?
        else {
            panic!("judged")
        };
        assert_eq!(standing, Standing::SoftFailed);
        assert_eq!(room.row.extremities, ends);
        assert!(event::shown(tx, room.num, late.id())?.is_none());
        // It takes part in resolution all the same: the state after it holds it.
        let topic = event::state_after(tx, pos)?.event(tx, "m.room.topic", "")?;
        assert_eq!(topic, Some(pos));
        // Somebody who had not heard of the ban merges both: the ban wins, and the end is one.
        let auth = auth_of(tx, &room, "@alice:test");
        let merge = forge(
            me,
            &room,
            &user("alice"),
            ("m.room.message", None, json!({ "body": "well" })),
            json!({ "prev_events": [late.id(), ends[0].1], "auth_events": auth }),
        );
        let verdict =
            accept(tx, &mut room, Arrival { event: &merge, state_before: None, outgoing: false, unvouched: false })?;
        assert!(matches!(verdict, Verdict::Is(_, Standing::Accepted)));
        assert_eq!(room.row.extremities.len(), 1);
        assert_eq!(Overlay::of(room.row.state).event(tx, "m.room.topic", "")?, None);
        Ok(())
    };
    house.write(work).await;
}

#[tokio::test]
async fn wrong_auth_events_reject_and_missing_ones_are_asked_for() {
    let house = House::new();
    let work = |tx: &WriteTx, me: &Identity| {
        let mut room = shared_room(tx, me)?;
        let other = shared_room(tx, me)?;
        let end = room.row.extremities[0].1.clone();
        let auth = auth_of(tx, &room, "@bob:test");
        let mut say = |auth: Vec<String>, prev: Vec<String>| {
            let event = forge(
                me,
                &room,
                &user("bob"),
                ("m.room.message", None, json!({})),
                json!({ "prev_events": prev, "auth_events": auth, "depth": 7 }),
            );
            accept(tx, &mut room, Arrival { event: &event, state_before: None, outgoing: false, unvouched: false })
        };
        let rejected = |verdict: Verdict| matches!(verdict, Verdict::Is(_, Standing::Rejected));
        let twice = [auth.clone(), vec![auth[1].clone()]].concat();
        assert!(rejected(say(twice, vec![end.clone()])?), "an entry twice");
        assert!(rejected(say(auth[1..].to_vec(), vec![end.clone()])?), "no create event");
        let extra = [auth.clone(), vec![state_id(tx, &other, "m.room.join_rules", "")]].concat();
        assert!(rejected(say(extra, vec![end.clone()])?), "an event that allows nothing here");
        assert!(rejected(say(auth_of(tx, &other, "@bob:test"), vec![end.clone()])?), "another room's");
        let unknown = [auth.clone(), vec!["$unknown".to_owned()]].concat();
        let lacks = |ids: &[&str]| ids.iter().map(|id| OwnedEventId::try_from(*id).expect("an ID")).collect();
        assert_eq!(say(unknown, vec![end.clone()])?, Verdict::Lacks(Lacks::Auth(lacks(&["$unknown"]))));
        let gap = say(auth.clone(), vec![end, "$missing".to_owned()])?;
        assert_eq!(gap, Verdict::Lacks(Lacks::Prev(lacks(&["$missing"]))));
        assert!(say(auth, vec![other.row.extremities[0].1.clone()]).is_err(), "another room's as before it");
        Ok(())
    };
    house.write(work).await;
}

#[tokio::test]
async fn a_gap_is_filled_from_its_end_and_closes() {
    let house = House::new();
    let made = house.write(|tx, me| {
        let mut room = shared_room(tx, me)?;
        for body in ["one", "two", "three", "four"] {
            let content = crate::base::json::to_raw(&json!({ "body": body }))?;
            let draft = Draft::message(TimelineEventType::RoomMessage, content);
            draft::send(tx, me, &mut room, &user("bob"), &draft, None)?;
        }
        Ok((room.row.id.clone(), events(tx, &room)?))
    });
    let (id, all) = made.await;
    let id = OwnedRoomId::try_from(id).expect("a room ID");
    let other = house.other();
    let work = move |tx: &WriteTx, me: &Identity| {
        let (early, late) = all.split_at(all.len() - 3);
        let mut room = take_in(tx, me, (&id, &RoomVersionId::V11), early)?;
        let rules = room.rules();
        let late: Vec<Checked> = late.iter().map(|json| check(me, json, &rules)).collect();
        let state = room.row.state;
        let arrival = Arrival { event: &late[2], state_before: Some(state), outgoing: false, unvouched: false };
        let Verdict::Is(pos, Standing::Accepted) = accept(tx, &mut room, arrival)? else { panic!("accepted") };
        let gap = gaps::last(tx, room.num, i64::MAX)?.expect("a gap");
        assert_eq!(Some(gap.before), timeline::order(tx, pos)?);
        assert_eq!(gap.row.missing, [late[1].id().as_str()]);
        // The event at the end of the gap is history, even if it comes in late by itself.
        let arrival = |event| Arrival { event, state_before: Some(state), outgoing: false, unvouched: false };
        let ends = room.row.extremities.clone();
        for event in [&late[1], &late[0]] {
            assert!(matches!(accept(tx, &mut room, arrival(event))?, Verdict::Is(_, Standing::Accepted)));
        }
        assert_eq!(room.row.extremities.last(), ends.last());
        assert_eq!(gaps::last(tx, room.num, i64::MAX)?, None);
        let places = timeline::back(tx, room.num, i64::MIN, i64::MAX, 4)?;
        let ids: Vec<String> = places.iter().map(|(_, place)| event::row(tx, place.event).expect("there").id).collect();
        let wanted: Vec<&str> = late.iter().rev().map(|event| event.id().as_str()).collect();
        assert_eq!(ids[..3], wanted[..]);
        Ok(())
    };
    other.write(work).await;
}

#[tokio::test]
async fn redactions_work_whichever_comes_first() {
    let house = House::new();
    let work = |tx: &WriteTx, me: &Identity| {
        let mut room = shared_room(tx, me)?;
        let end = room.row.extremities[0].1.clone();
        let (by_bob, by_alice) = (auth_of(tx, &room, "@bob:test"), auth_of(tx, &room, "@alice:test"));
        let said = forge(
            me,
            &room,
            &user("bob"),
            ("m.room.message", None, json!({ "body": "secret" })),
            json!({ "prev_events": [end], "auth_events": by_bob }),
        );
        let redaction = forge(
            me,
            &room,
            &user("alice"),
            ("m.room.redaction", None, json!({ "redacts": said.id() })),
            json!({ "prev_events": [end], "auth_events": by_alice }),
        );
        for event in [&redaction, &said] {
            let verdict =
                accept(tx, &mut room, Arrival { event, state_before: None, outgoing: false, unvouched: false })?;
            assert!(matches!(verdict, Verdict::Is(_, Standing::Accepted)));
        }
        let (_, row) = event::shown(tx, room.num, said.id())?.expect("there");
        assert!(row.redacted_by != 0 && !row.pdu.contains("secret"));
        Ok(())
    };
    house.write(work).await;
}

#[tokio::test]
async fn a_thousand_ends_stay_cheap() {
    let house = House::new();
    let work = |tx: &WriteTx, me: &Identity| {
        let mut room = shared_room(tx, me)?;
        let end = room.row.extremities[0].1.clone();
        let auth = auth_of(tx, &room, "@bob:test");
        let began = std::time::Instant::now();
        for n in 0..1_000 {
            let event = forge(
                me,
                &room,
                &user("bob"),
                ("m.room.message", None, json!({ "n": n })),
                json!({ "prev_events": [end], "auth_events": auth }),
            );
            accept(tx, &mut room, Arrival { event: &event, state_before: None, outgoing: false, unvouched: false })?;
        }
        assert!(room.row.extremities.len() <= 50);
        assert!(began.elapsed() < std::time::Duration::from_secs(30), "{:?}", began.elapsed());
        // What is said next brings them together.
        let mut turns = 0;
        while room.row.extremities.len() > 1 {
            let content = crate::base::json::to_raw(&json!({ "body": "calm" }))?;
            draft::send(
                tx,
                me,
                &mut room,
                &user("alice"),
                &Draft::message(TimelineEventType::RoomMessage, content),
                None,
            )?;
            turns += 1;
        }
        assert!(turns <= 3);
        Ok(())
    };
    house.write(work).await;
}
