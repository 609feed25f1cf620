//! A room of one store, handed over to another.

use std::sync::Arc;

use ruma::{
    OwnedRoomId, OwnedServerName, OwnedUserId, RoomVersionId, ServerName,
    api::client::room::{Visibility, create_room::v3::RoomPreset},
    events::room::member::MembershipState,
};
use serde_json::{Map, Value, json, value::RawValue};

use super::{
    super::{
        create::{self, StateWish, Wish},
        draft::{self, Draft},
        event,
        handshake::{self, HandedIn, Step},
        members::{self, Change},
        pdu::{self, tests::PublicKeys},
        room,
    },
    *,
};
use crate::{
    base::{
        json as raw,
        signing::{Identity, SigningKey},
    },
    store::{Options, Store},
};

struct House {
    store: Store,
    me: Arc<Identity>,
    _dir: tempfile::TempDir,
}

impl House {
    fn new(name: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let options = Options { page_cache: 1 << 20, state_cache: 1 << 20, min_free: 0 };
        let store = Store::open(&dir.path().join("hearth.redb"), options, Box::new(|_, _| {})).expect("opens");
        let key = SigningKey::load_or_create(&dir.path().join("key")).expect("a key");
        let name: OwnedServerName = ServerName::parse(name).expect("a name");
        Self { store, me: Arc::new(Identity { name, key }), _dir: dir }
    }

    fn user(&self, name: &str) -> OwnedUserId {
        UserId::parse(format!("@{name}:{}", self.me.name)).expect("a user ID")
    }

    async fn write<T: Send + 'static>(
        &self,
        mut work: impl FnMut(&WriteTx, &Identity) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let me = self.me.clone();
        self.store.write(move |tx| work(tx, &me)).await
    }

    async fn create(&self, version: RoomVersionId, join_rules: Value) -> OwnedRoomId {
        let wish = Wish {
            version,
            preset: RoomPreset::PublicChat,
            visibility: Visibility::Private,
            creation_content: Map::new(),
            power_levels: Map::from_iter([("invite".to_owned(), 0.into())]),
            initial_state: vec![StateWish {
                kind: TimelineEventType::RoomJoinRules,
                state_key: String::new(),
                content: raw::to_raw(&join_rules).expect("JSON"),
            }],
            name: Some("Den".into()),
            topic: None,
            alias: None,
            invite: Vec::new(),
            is_direct: false,
            seed: Default::default(),
        };
        let alice = self.user("alice");
        self.write(move |tx, me| create::create(tx, me, &alice, &wish)).await.expect("made")
    }

    async fn member(&self, room: &OwnedRoomId, (sender, target): (&UserId, &UserId), to: MembershipState) {
        let (room, sender, target) = (room.clone(), sender.to_owned(), target.to_owned());
        let change = move |tx: &WriteTx, me: &Identity| {
            let mut room = Room::named(tx, &room)?;
            let (sender, target) = (&*sender, &*target);
            let change = Change { sender, target, membership: to.clone(), reason: None, more: Map::new() };
            members::change(tx, me, &mut room, change).map(drop)
        };
        self.write(change).await.expect("changed");
    }

    /// The signed event that comes of a template.
    fn sign(&self, template: &RawValue, version: &RoomVersionId) -> Box<RawValue> {
        let object = raw::canonical_from_raw(template).expect("canonical");
        let signed = draft::finish(&self.me, object, &room::rules(version).expect("spoken")).expect("signed");
        raw::raw(signed.json).expect("JSON")
    }

    /// What this house, which is in the room, gives to a join.
    async fn take_in(&self, join: &Checked, omit: bool, keys: &PublicKeys, version: &RoomVersionId) -> Given {
        let checked = join.clone();
        let before = self.write(move |tx, _| {
            let mut room = Room::named(tx, checked.room_id())?;
            let before = room.row.state;
            let incoming = Incoming {
                pdu: checked.pdu(),
                json: checked.json().to_owned(),
                state_before: before,
                standing: Standing::Accepted,
                sent_by: None,
                outgoing: true,
            };
            append::append(tx, &mut room, incoming)?;
            Ok(before)
        });
        let before = before.await.expect("taken in");
        let read = |positions: &[Pos]| {
            let text = |tx: &crate::store::ReadTx| {
                positions.iter().map(|pos| Ok(event::row(tx, *pos)?.pdu)).collect::<Result<Vec<_>>>()
            };
            let text = self.store.read(text).expect("read").join(",");
            let events: Vec<Box<RawValue>> = serde_json::from_str(&format!("[{text}]")).expect("a list");
            events.iter().map(|event| check(event, keys, version)).collect::<Vec<_>>()
        };
        let over = self.store.read(|tx| {
            let room = Room::named(tx, join.room_id())?;
            handshake::hand_over(tx, &room, (before, join.pdu()), omit)
        });
        let over = over.expect("handed over");
        Given { state: read(&over.state), auth_chain: read(&over.auth_chain), members_omitted: over.members_omitted }
    }

    /// Judges what is given in pieces of so many events, each of which is written while the next one is judged.
    async fn take(&self, given: Given, (join, version): (&Checked, &RoomVersionId), size: usize) -> Result<Judged> {
        let mut judge = Judge::new(join.room_id(), version, join.pdu(), None)?;
        let (id, version) = (join.room_id().to_owned(), version.clone());
        let num = self.write(move |tx, me| begin(tx, me, &id, &version)).await?.num;
        let write = |piece: Vec<Told>| self.write(move |tx, _| lay_events(tx, num, &piece).map(drop));
        let omitted = given.members_omitted;
        let (mut ready, mut told) = (Vec::new(), given.told().into_iter().peekable());
        while told.peek().is_some() {
            let next = self.store.read(|tx| judge.piece(tx, told.by_ref().take(size).collect()))?;
            write(std::mem::replace(&mut ready, next)).await?;
        }
        write(ready).await?;
        let rest = self.store.read(|tx| judge.rest(tx))?;
        write(rest).await?;
        self.store.read(|tx| judge.finish(tx, omitted))
    }

    /// Lays down and opens what was judged.
    async fn enter(&self, judged: Judged, join: &Checked, version: &RoomVersionId) -> Room {
        let (id, version) = (join.room_id().to_owned(), version.clone());
        let room = self.write(move |tx, me| begin(tx, me, &id, &version)).await.expect("begun");
        let num = room.num;
        let (me, state) = (self.me.clone(), judged.state);
        let (ahead, held) = self.store.read(|tx| plan(tx, &me, &room, &state)).expect("planned");
        for piece in ahead.chunks(3) {
            let piece = piece.to_vec();
            self.write(move |tx, _| lay_state(tx, num, &piece)).await.expect("laid");
            let seen = self.store.read(|tx| Ok(Room::find(tx, room.id())?.is_some())).expect("read");
            assert!(!seen, "half a room is seen");
        }
        let join = join.clone();
        let opened = self.write(move |tx, me| {
            open(tx, me, num, &Opening { join: &join, held: &held })?;
            Room::at(tx, num)
        });
        opened.await.expect("opened")
    }
}

/// What another server hands over.
#[derive(Clone)]
struct Given {
    state: Vec<Checked>,
    auth_chain: Vec<Checked>,
    members_omitted: bool,
}

impl Given {
    /// The least deep first.
    fn told(self) -> Vec<Told> {
        let told = |in_state| move |event| Told { event, in_state };
        let auth_chain = self.auth_chain.into_iter().map(told(false));
        let mut all: Vec<Told> = self.state.into_iter().map(told(true)).chain(auth_chain).collect();
        all.sort_by_key(|told| told.event.pdu().depth);
        all
    }
}

fn check(event: &RawValue, keys: &PublicKeys, version: &RoomVersionId) -> Checked {
    let rules = room::rules(version).expect("spoken");
    pdu::parse(event, &rules).expect("an event").verify(keys, &rules).expect("verified")
}

fn keys_of(houses: &[&House]) -> PublicKeys {
    houses.iter().flat_map(|house| pdu::tests::keys_of(&house.me.name, &house.me.key)).collect()
}

/// Bob of `there` joins through `here`: the signed event, and what he is given.
async fn join(here: &House, there: &House, room: &OwnedRoomId, omit: bool) -> (Checked, Given, RoomVersionId) {
    let bob = there.user("bob");
    let (template, version) = here
        .store
        .read(|tx| {
            let room = handshake::shared_room(tx, &here.me, room, &there.me.name)?;
            Ok((handshake::template(tx, &here.me, &room, &bob, Step::Join)?, room.version()))
        })
        .expect("a template");
    let mut signed = there.sign(&template, &version);
    let rules = room::rules(&version).expect("spoken");
    let parsed = pdu::parse(&signed, &rules).expect("an event");
    let asked = HandedIn { origin: &there.me.name, room, event: parsed.id(), step: Step::Join };
    handshake::check_handed_in(parsed.pdu(), parsed.room_id(), &asked).expect("fits");
    here.store
        .read(|tx| {
            let room = Room::named(tx, room)?;
            let Some(voucher) = handshake::voucher(&here.me, &room, parsed.pdu()) else { return Ok(()) };
            handshake::check_vouched(tx, &here.me, &room, parsed.pdu(), &voucher)?;
            signed = handshake::countersign(&here.me, &signed, &rules)?;
            Ok(())
        })
        .expect("vouched for");
    let keys = keys_of(&[here, there]);
    let join = check(&signed, &keys, &version);
    let given = here.take_in(&join, omit, &keys, &version).await;
    (join, given, version)
}

#[tokio::test]
async fn a_room_of_every_version_is_handed_over() {
    for version in room::VERSIONS {
        for omit in [false, true] {
            let (here, there) = (House::new("here.test"), House::new("there.test"));
            let room = here.create(version.clone(), json!({ "join_rule": "public" })).await;
            for name in ["carol", "dan", "eve"] {
                let user = here.user(name);
                here.member(&room, (&user, &user), MembershipState::Join).await;
            }
            let (join, given, version) = join(&here, &there, &room, omit).await;
            let judged = there.take(given, (&join, &version), 3).await.expect("holds");
            assert_eq!(judged.left_out, 0);
            let entered = there.enter(judged, &join, &version).await;
            assert_eq!(entered.row.joined, if omit { 1 } else { 5 }, "{version}");
            let (bob, rules) = (there.user("bob"), room::rules(&version).expect("spoken"));
            let said = there.write(move |tx, me| {
                let mut room = Room::of_member(tx, entered.id(), &bob)?;
                let content = raw::to_raw(&json!({ "body": "hello" }))?;
                let draft = Draft::message(TimelineEventType::RoomMessage, content);
                draft::send(tx, me, &mut room, &bob, &draft, None)
            });
            said.await.expect("bob speaks");
            assert!(rules.authorization.knocking || version == RoomVersionId::V6);
        }
    }
}

#[tokio::test]
async fn a_restricted_room_is_entered_by_who_is_in_the_other_one() {
    let (here, there) = (House::new("here.test"), House::new("there.test"));
    let lobby = here.create(RoomVersionId::V12, json!({ "join_rule": "public" })).await;
    let rule = json!({ "join_rule": "restricted", "allow": [{ "type": "m.room_membership", "room_id": lobby }] });
    let room = here.create(RoomVersionId::V12, rule).await;
    let bob = there.user("bob");
    let asked = |tx: &crate::store::ReadTx| {
        let room = handshake::shared_room(tx, &here.me, &room, &there.me.name)?;
        handshake::template(tx, &here.me, &room, &bob, Step::Join)
    };
    assert_eq!(here.store.read(asked).expect_err("not in the lobby").errcode(), "M_FORBIDDEN");
    let (entering, given, version) = join(&here, &there, &lobby, false).await;
    there.take(given, (&entering, &version), 3).await.expect("holds");
    let (entering, given, version) = join(&here, &there, &room, false).await;
    let judged = there.take(given, (&entering, &version), 3).await.expect("holds");
    there.enter(judged, &entering, &version).await;
}

#[tokio::test]
async fn what_is_not_the_rooms_state_is_refused() {
    let (here, there) = (House::new("here.test"), House::new("there.test"));
    let room = here.create(RoomVersionId::V11, json!({ "join_rule": "public" })).await;
    let other = here.create(RoomVersionId::V11, json!({ "join_rule": "public" })).await;
    let (entering, given, version) = join(&here, &there, &room, false).await;
    let (_, foreign, _) = join(&here, &there, &other, false).await;
    let given = || given.clone();
    let (there, entering) = (&there, &entering);
    let taken = async |given: Given, version| there.take(given, (entering, version), 3).await;
    let refused = async |given: Given| taken(given, &version).await.err().expect("refused").to_string();
    let kind = |event: &Checked| event.pdu().name.clone();

    let mut mixed = given();
    mixed.auth_chain.push(foreign.state[0].clone());
    assert!(refused(mixed).await.contains("other rooms"));
    let mut doubled = given();
    doubled.state.push(doubled.state[0].clone());
    assert!(refused(doubled).await.contains("two events"));
    for missing in ["m.room.create", "m.room.join_rules", "m.room.power_levels"] {
        let mut less = given();
        less.state.retain(|event| kind(event) != missing);
        less.auth_chain.retain(|event| kind(event) != missing);
        refused(less).await;
    }
    let mut uncreated = given();
    uncreated.state.retain(|event| kind(event) != "m.room.create");
    assert!(refused(uncreated).await.contains("no create event"));
    taken(given(), &RoomVersionId::V10).await.err().expect("of another version");
    taken(given(), &version).await.expect("holds");
}

#[tokio::test]
async fn of_many_those_are_left_out_who_stand_on_what_is_missing_or_does_not_hold() {
    const PART: usize = 20;
    let (here, there) = (House::new("here.test"), House::new("there.test"));
    let room = here.create(RoomVersionId::V11, json!({ "join_rule": "public" })).await;
    let people: Vec<OwnedUserId> = (0..3 * PART).map(|number| here.user(&format!("member{number}"))).collect();
    let [one, two, three] = [0, PART, 3 * PART - 1].map(|number| people[number].clone());
    let (id, back) = (room.clone(), [one.clone(), two.clone(), three.clone()]);
    let come_and_go = move |tx: &WriteTx, me: &Identity| {
        let mut room = Room::named(tx, &id)?;
        let mut turn = |user: &OwnedUserId, to| {
            let change = Change { sender: user, target: user, membership: to, reason: None, more: Map::new() };
            members::change(tx, me, &mut room, change).map(drop)
        };
        people.iter().try_for_each(|user| turn(user, MembershipState::Join))?;
        back.iter().try_for_each(|user| turn(user, MembershipState::Leave))?;
        back.iter().try_for_each(|user| turn(user, MembershipState::Join))
    };
    here.write(come_and_go).await.expect("they come");
    let (entering, mut given, version) = join(&here, &there, &room, false).await;
    // Of the first two their going is missing, which their coming back cites; of the third what that cites.
    given.auth_chain.retain(|event| {
        let (user, is) = (event.pdu().sender.clone(), event.pdu().membership());
        !(is.as_deref() == Some("leave") && [&one, &two].contains(&&user)
            || is.as_deref() == Some("join") && user == three)
    });
    for size in [7, 50, 5 * PART] {
        let judged = there.take(given.clone(), (&entering, &version), size).await.expect("holds");
        assert_eq!(judged.left_out, 4);
        let is_there = |user: &OwnedUserId| judged.state.contains_key(&("m.room.member".to_owned(), user.to_string()));
        assert_eq!([&one, &two, &three, &here.user("member1")].map(is_there), [false, false, false, true]);
        assert_eq!(judged.state.keys().filter(|(kind, _)| kind == "m.room.member").count(), 3 * PART - 3 + 1);
    }
}

/// Some servers say an event once, though it stands in both lists, and some twice. Who invites may be in any piece.
#[tokio::test]
async fn pieces_of_any_size_and_events_said_once_or_twice_come_to_the_same() {
    let (here, there) = (House::new("here.test"), House::new("there.test"));
    let room = here.create(RoomVersionId::V11, json!({ "join_rule": "invite" })).await;
    let mut inviter = here.user("alice");
    for name in ["carol", "dan", "eve"] {
        let user = here.user(name);
        here.member(&room, (&inviter, &user), MembershipState::Invite).await;
        here.member(&room, (&user, &user), MembershipState::Join).await;
        inviter = user;
    }
    here.member(&room, (&inviter, &there.user("bob")), MembershipState::Invite).await;
    let (entering, given, version) = join(&here, &there, &room, false).await;
    let (mut once, mut twice) = (given.clone(), given.clone());
    once.auth_chain.retain(|event| !given.state.iter().any(|other| other.id() == event.id()));
    twice.auth_chain.extend(given.state.clone());
    for given in [&given, &once, &twice] {
        for size in [1, 2, 3, 5, 8, 1000] {
            let judged = there.take(given.clone(), (&entering, &version), size).await.expect("holds");
            assert_eq!((judged.left_out, judged.state.len()), (0, given.state.len()), "{size}");
            for id in judged.state.values() {
                assert!(there.store.read(|tx| Pdu::find(tx, id)).expect("read").is_some(), "{id} is not laid down");
            }
        }
    }
}
