//! Whatever happens and whenever a client syncs, in the end it knows what a client knows that comes anew.

mod gaps;
mod left;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use ruma::{
    OwnedEventId, OwnedRoomId, RoomId, RoomVersionId,
    api::client::room::{Visibility, create_room::v3::RoomPreset},
    events::{TimelineEventType, room::member::MembershipState},
    server_name, user_id,
};
use serde_json::{Map, Value, json};

use super::*;
use crate::{
    accounts::account_data,
    base::{
        json,
        signing::{Identity, SigningKey},
    },
    notify::Notifier,
    rooms::{
        Room,
        create::{self, Wish},
        draft::{self, Draft},
        history::{self, Wanted, Way},
        members::{self, Change},
        receipts,
        timeline::{self, View},
    },
    store::{Options, Store, WriteTx},
};

/// Something that somebody does. Rooms and people are given by number, and what is not allowed does
/// not happen.
#[derive(Clone, Debug)]
enum Deed {
    Join(usize, usize),
    Leave(usize, usize),
    Invite(usize, usize),
    Kick(usize, usize),
    Ban(usize, usize),
    Unban(usize, usize),
    Say(usize, usize),
    Topic(usize, usize),
    Read {
        person: usize,
        room: usize,
        private: bool,
        event: prop::sample::Index,
    },
    Note(usize, u8),
    /// The person under test forgets a room that they are out of.
    GiveUp(usize),
    /// The client under test syncs.
    Sync,
    /// The server forgets what it remembers to be faster.
    Forget,
}

fn deed() -> impl Strategy<Value = Deed> {
    let (person, room) = (0..3usize, 0..3usize);
    prop_oneof![
        2 => (person.clone(), room.clone()).prop_map(|(person, room)| Deed::Join(person, room)),
        1 => (person.clone(), room.clone()).prop_map(|(person, room)| Deed::Leave(person, room)),
        1 => (person.clone(), room.clone()).prop_map(|(person, room)| Deed::Invite(person, room)),
        1 => (person.clone(), room.clone()).prop_map(|(person, room)| Deed::Kick(person, room)),
        1 => (person.clone(), room.clone()).prop_map(|(person, room)| Deed::Ban(person, room)),
        1 => (person.clone(), room.clone()).prop_map(|(person, room)| Deed::Unban(person, room)),
        6 => (person.clone(), room.clone()).prop_map(|(person, room)| Deed::Say(person, room)),
        2 => (person.clone(), room.clone()).prop_map(|(person, room)| Deed::Topic(person, room)),
        3 => (person, room.clone(), any::<bool>(), any::<prop::sample::Index>())
            .prop_map(|(person, room, private, event)| Deed::Read { person, room, private, event }),
        1 => (room, any::<u8>()).prop_map(|(room, value)| Deed::Note(room, value)),
        1 => (0..3usize).prop_map(Deed::GiveUp),
        3 => Just(Deed::Sync),
        1 => Just(Deed::Forget),
    ]
}

/// How the client syncs.
#[derive(Clone, Debug)]
struct Manner {
    limit: u8,
    lazy: bool,
    after: bool,
}

fn manner() -> impl Strategy<Value = Manner> {
    (1u8..6, any::<bool>(), any::<bool>()).prop_map(|(limit, lazy, after)| Manner { limit, lazy, after })
}

fn people() -> [&'static UserId; 3] {
    [user_id!("@alice:test"), user_id!("@bob:test"), user_id!("@carol:test")]
}

/// The one whose client is tested.
fn bob() -> &'static UserId {
    people()[1]
}

struct House {
    hub: Hub,
    me: Arc<Identity>,
    rooms: Vec<OwnedRoomId>,
    _dir: tempfile::TempDir,
}

impl House {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let notifier = Notifier::default();
        let options = Options { page_cache: 1 << 20, state_cache: 1 << 20, min_free: 0 };
        let store = Store::open(&dir.path().join("hearth.redb"), options, notifier.on_commit()).expect("opens");
        let key = SigningKey::load_or_create(&dir.path().join("key")).expect("a key");
        let me = Arc::new(Identity { name: server_name!("test").to_owned(), key });
        let maker = me.clone();
        let make = move |tx: &WriteTx| (0..3).map(|n| create::create(tx, &maker, people()[0], &wish(n))).collect();
        let rooms = store.write(make).await.expect("makes rooms");
        Self { hub: Hub::new(store, notifier, Default::default(), 1 << 20), me, rooms, _dir: dir }
    }

    /// Lets things happen, in one commit.
    async fn happen(&self, deeds: Vec<Deed>) {
        let (me, rooms) = (self.me.clone(), self.rooms.clone());
        let work = move |tx: &WriteTx| deeds.iter().try_for_each(|deed| act(tx, &me, &rooms, deed));
        self.hub.store.write(work).await.expect("happens");
    }

    fn sync(&self, since: Option<&str>, manner: &Manner) -> Value {
        let filter = json!({ "room": {
            "timeline": { "limit": manner.limit },
            "state": { "lazy_load_members": manner.lazy },
        } });
        self.answer(&ask(since, filter, manner.after))
    }

    fn answer(&self, ask: &Ask) -> Value {
        let seat = self.hub.notifier.sit(&self.hub.store, bob()).expect("a seat");
        let body = turn::build(&self.hub, &seat, ask).expect("builds").body;
        serde_json::from_slice(&body.to_bytes().expect("JSON")).expect("JSON")
    }

    /// Pages back from a token: event IDs, the newest first.
    fn back(&self, room: &str, from: &str) -> Vec<Value> {
        let read = self.hub.store.read(|tx| {
            let room = Room::named(tx, &RoomId::parse(room).expect("an ID"))?;
            let mut view = View::new(tx, &room, bob(), None)?;
            let from = timeline::parse_token(from)?;
            let filter = Default::default();
            let wanted = Wanted { way: Way::Back, from, to: None, limit: 1000, filter: &filter };
            history::page(tx, &room, &mut view, &wanted)
        });
        let events = read.expect("reads").events;
        events.iter().map(|event| serde_json::from_str(event.get()).expect("JSON")).collect()
    }

    /// What bob has not read, counted the long way.
    fn unread(&self, room: &str) -> usize {
        let newest = format!("t{}", i64::MAX);
        let read: BTreeSet<OwnedEventId> = self.receipts_of_bob(room);
        let mut count = 0;
        for event in self.back(room, &newest) {
            let of_bob = event["sender"] == bob().as_str();
            let came = event["state_key"] == bob().as_str()
                && event["content"]["membership"] == "join"
                && event["unsigned"]["prev_content"]["membership"] != "join";
            let answered = of_bob && event["type"] == "m.room.message";
            if read.iter().any(|id| event["event_id"] == id.as_str()) || came || answered {
                break;
            }
            count += usize::from(event["type"] == "m.room.message");
        }
        count
    }

    fn receipts_of_bob(&self, room: &str) -> BTreeSet<OwnedEventId> {
        let whole = self.sync(None, &Manner { limit: 5, lazy: false, after: false });
        let mut client = Client::default();
        client.take(self, &whole);
        let receipts = client.rooms.get(room).map(|room| room.receipts.clone()).unwrap_or_default();
        let own = receipts.into_iter().filter(|((user, _), _)| user == bob().as_str());
        own.map(|(_, event)| OwnedEventId::try_from(event).expect("an ID")).collect()
    }
}

/// What bob's client asks.
fn ask(since: Option<&str>, filter: Value, after: bool) -> Ask {
    Ask {
        user: bob().to_owned(),
        device: "PHONE".into(),
        since: since.map(|since| since.parse().expect("a token")),
        filter: Arc::new(serde_json::from_value(filter).expect("a filter")),
        full_state: false,
        state_at: if after { StateAt::End } else { StateAt::Start },
        lane: 0,
    }
}

fn wish(n: usize) -> Wish {
    Wish {
        version: [RoomVersionId::V12, RoomVersionId::V10, RoomVersionId::V11][n].clone(),
        preset: RoomPreset::PublicChat,
        visibility: Visibility::Private,
        creation_content: Map::new(),
        power_levels: Map::new(),
        initial_state: Vec::new(),
        name: (n != 1).then(|| "Den".into()),
        topic: None,
        alias: None,
        invite: Vec::new(),
        is_direct: false,
        seed: Default::default(),
    }
}

fn act(tx: &WriteTx, me: &Identity, rooms: &[OwnedRoomId], deed: &Deed) -> Result<()> {
    let room = |n: usize| Room::named(tx, &rooms[n]);
    let change = |room: usize, sender: usize, target: usize, membership: MembershipState| {
        let (sender, target) = (people()[sender], people()[target]);
        let change = Change { sender, target, membership, reason: None, more: Map::new() };
        members::change(tx, me, &mut self::room_of(tx, rooms, room)?, change).map(drop)
    };
    let send = |person: usize, n: usize, draft: Draft| {
        let mut room = room(n)?;
        draft::send(tx, me, &mut room, people()[person], &draft, None).map(drop)
    };
    let outcome = match deed {
        Deed::Join(person, n) => change(*n, *person, *person, MembershipState::Join),
        Deed::Leave(person, n) => members::leave(tx, me, &mut room(*n)?, people()[*person], None),
        Deed::Invite(person, n) => change(*n, 0, *person, MembershipState::Invite),
        Deed::Kick(person, n) => {
            members::put_out(tx, me, &mut room(*n)?, people()[0], people()[*person], (None, false))
        }
        Deed::Ban(person, n) => change(*n, 0, *person, MembershipState::Ban),
        Deed::Unban(person, n) => {
            members::put_out(tx, me, &mut room(*n)?, people()[0], people()[*person], (None, true))
        }
        Deed::Say(person, n) => {
            let content = json::to_raw(&json!({ "msgtype": "m.text", "body": "hello" }))?;
            send(*person, *n, Draft::message(TimelineEventType::RoomMessage, content))
        }
        Deed::Topic(person, n) => {
            let content = json!({ "topic": tx.pos()?.to_string() });
            send(*person, *n, Draft::state_of(TimelineEventType::RoomTopic, "", &content)?)
        }
        Deed::Read { person, room: n, private, event } => {
            let room = room(*n)?;
            let places = timeline::forward(tx, room.num, i64::MIN, i64::MAX, 10_000)?;
            let place = places[event.index(places.len())].1;
            let id = OwnedEventId::try_from(crate::rooms::event::row(tx, place.event)?.id).expect("an ID");
            let kind = if *private { receipts::Kind::Private } else { receipts::Kind::Read };
            receipts::set(tx, &room, people()[*person], kind, &id, "")
        }
        Deed::Note(n, value) => {
            account_data::set(tx, bob(), rooms[*n].as_str(), "test.note", json!({ "v": value }).to_string())
        }
        Deed::GiveUp(n) => members::forget(tx, &room(*n)?, bob()),
        Deed::Sync | Deed::Forget => Ok(()),
    };
    // What is forbidden is refused before anything is written.
    drop(outcome);
    Ok(())
}

fn room_of(tx: &WriteTx, rooms: &[OwnedRoomId], n: usize) -> Result<Room> {
    Room::named(tx, &rooms[n])
}

/// What a client knows, from answers alone.
#[derive(Default)]
struct Client {
    since: Option<String>,
    rooms: BTreeMap<String, Known>,
    invites: BTreeSet<String>,
}

#[derive(Default, Debug)]
struct Known {
    state: BTreeMap<(String, String), String>,
    /// Event IDs, the oldest first.
    timeline: Vec<String>,
    /// (user, receipt type) to event ID.
    receipts: BTreeMap<(String, String), String>,
    notes: Value,
    unread: Value,
    joined: Value,
    heroes: Value,
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}

impl Client {
    fn take(&mut self, house: &House, answer: &Value) {
        self.since = Some(text(&answer["next_batch"]));
        for (id, room) in answer["rooms"]["join"].as_object().into_iter().flatten() {
            self.invites.remove(id);
            self.rooms.entry(id.clone()).or_default().take(house, id, room);
        }
        for (id, room) in answer["rooms"]["leave"].as_object().into_iter().flatten() {
            self.invites.remove(id);
            self.rooms.remove(id);
            let is_own = |event: &Value| {
                let out = ["leave", "ban"].iter().any(|out| event["content"]["membership"] == *out);
                out && event["state_key"] == bob().as_str()
            };
            let last = list(&room["timeline"]["events"]).pop().expect("one is told how one left");
            assert!(is_own(&last), "{room}");
            if let Some(state) = room["state_after"]["events"].as_array() {
                let own = state.iter().find(|event| is_own(event)).expect("one's own membership is in the state");
                assert_eq!(own["event_id"], last["event_id"], "{room}");
            }
        }
        for (id, room) in answer["rooms"]["invite"].as_object().into_iter().flatten() {
            self.rooms.remove(id);
            let has_create = list(&room["invite_state"]["events"]).iter().any(|event| event["type"] == "m.room.create");
            assert!(has_create, "{room}");
            self.invites.insert(id.clone());
        }
    }
}

impl Known {
    fn take(&mut self, house: &House, id: &str, room: &Value) {
        let fresh = list(&room["timeline"]["events"]);
        let mut ids: Vec<String> = fresh.iter().map(|event| text(&event["event_id"])).collect();
        if room["timeline"]["limited"] == true {
            // The gap is filled by paging back to what is known.
            let mut gap = Vec::new();
            for event in house.back(id, &text(&room["timeline"]["prev_batch"])) {
                let event = text(&event["event_id"]);
                if self.timeline.contains(&event) {
                    break;
                }
                gap.push(event);
            }
            gap.reverse();
            gap.append(&mut ids);
            ids = gap;
        }
        self.timeline.append(&mut ids);
        let after = list(&room["state_after"]["events"]);
        let state = match room["state_after"].is_object() {
            true => after,
            false => [list(&room["state"]["events"]), fresh].concat(),
        };
        for event in state.iter().filter(|event| event["state_key"].is_string()) {
            let key = (text(&event["type"]), text(&event["state_key"]));
            self.state.insert(key, text(&event["event_id"]));
        }
        for event in list(&room["ephemeral"]["events"]).iter().filter(|event| event["type"] == "m.receipt") {
            for (event, kinds) in event["content"].as_object().expect("receipts") {
                for (kind, users) in kinds.as_object().expect("kinds") {
                    for user in users.as_object().expect("users").keys() {
                        assert!(kind == "m.read" || user == bob().as_str(), "{user}'s private receipt");
                        self.receipts.insert((user.clone(), kind.clone()), event.clone());
                    }
                }
            }
        }
        for event in list(&room["account_data"]["events"]).iter().filter(|event| event["type"] == "test.note") {
            self.notes = event["content"].clone();
        }
        self.unread = room["unread_notifications"]["notification_count"].clone();
        for (of, name) in [(&mut self.joined, "m.joined_member_count"), (&mut self.heroes, "m.heroes")] {
            if !room["summary"][name].is_null() {
                *of = room["summary"][name].clone();
            }
        }
    }
}

fn compare(house: &House, old: &Client, lazy: bool) {
    let mut new = Client::default();
    new.take(house, &house.sync(None, &Manner { limit: 100, lazy: false, after: false }));
    assert_eq!(old.rooms.keys().collect::<Vec<_>>(), new.rooms.keys().collect::<Vec<_>>(), "rooms");
    assert_eq!(old.invites, new.invites, "invites");
    for (id, now) in &new.rooms {
        let then = &old.rooms[id];
        let visible: Vec<String> =
            house.back(id, &format!("t{}", i64::MAX)).iter().rev().map(|event| text(&event["event_id"])).collect();
        assert_eq!(then.timeline, visible, "timeline");
        assert_eq!(then.receipts, now.receipts, "receipts");
        assert_eq!(then.notes, now.notes, "account data");
        assert_eq!(then.unread, now.unread, "unread");
        assert_eq!(then.unread, json!(house.unread(id)), "unread, counted the long way");
        assert_eq!((&then.joined, &then.heroes), (&now.joined, &now.heroes), "summary");
        let without_members = |known: &Known| -> Vec<_> {
            let state = known.state.iter().filter(|((kind, _), _)| kind != "m.room.member");
            state.map(|(key, event)| (key.clone(), event.clone())).collect()
        };
        assert_eq!(without_members(then), without_members(now), "state");
        match lazy {
            false => assert_eq!(then.state, now.state, "members"),
            true => {
                for (key, event) in &then.state {
                    assert_eq!(now.state.get(key), Some(event), "a member that is known is known as it is");
                }
                let own = ("m.room.member".to_owned(), bob().to_string());
                assert!(then.state.contains_key(&own), "oneself is known");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_syncs_leads_where_a_first_sync_leads(
        manner in manner(),
        deeds in prop::collection::vec(deed(), 1..80),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut house = House::new().await;
            let mut client = Client::default();
            let mut together = Vec::new();
            for deed in deeds.into_iter().chain([Deed::Sync]) {
                match deed {
                    Deed::Sync => {
                        house.happen(std::mem::take(&mut together)).await;
                        client.take(&house, &house.sync(client.since.as_deref(), &manner));
                    }
                    Deed::Forget => {
                        let Hub { store, notifier, presence, .. } = house.hub;
                        house.hub = Hub::new(store, notifier, presence, 1 << 20);
                    }
                    deed => together.push(deed),
                }
            }
            compare(&house, &client, manner.lazy);
            let again = house.sync(client.since.as_deref(), &manner);
            assert!(again["rooms"].is_null(), "nothing is told twice: {again}");
        });
    }
}
