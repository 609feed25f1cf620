//! Rooms as people use them, on a store of their own.

use std::sync::Arc;

use ruma::{
    OwnedRoomId, OwnedUserId, RoomVersionId, UserId,
    api::client::room::{Visibility, create_room::v3::RoomPreset},
    events::{StateEventType, TimelineEventType, room::member::MembershipState},
    server_name,
};
use serde_json::{Map, Value, json};

use super::{
    aliases,
    create::{self, Wish},
    directory,
    draft::{self, Draft},
    history::{self, Wanted, Way},
    members::{self, Change},
    power::Powers,
    redact, resolve, room, state,
    timeline::View,
    upgrade, *,
};
use crate::{
    accounts::filters::Events,
    base::signing::{Identity, SigningKey},
    error::Result,
    store::{Options, ReadTx, Store, WriteTx},
};

struct House {
    store: Store,
    me: Arc<Identity>,
    _dir: tempfile::TempDir,
}

fn user(name: &str) -> OwnedUserId {
    UserId::parse(format!("@{name}:test")).expect("a user ID")
}

fn wish(version: RoomVersionId, preset: RoomPreset) -> Wish {
    Wish {
        version,
        preset,
        visibility: Visibility::Private,
        creation_content: Map::new(),
        power_levels: Map::new(),
        initial_state: Vec::new(),
        name: Some("Den".into()),
        topic: None,
        alias: None,
        invite: Vec::new(),
        is_direct: false,
        seed: Default::default(),
    }
}

impl House {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let options = Options { page_cache: 1 << 20, state_cache: 1 << 20, min_free: 0 };
        let store = Store::open(&dir.path().join("hearth.redb"), options, Box::new(|_, _| {})).expect("opens");
        let key = SigningKey::load_or_create(&dir.path().join("key")).expect("a key");
        let me = Arc::new(Identity { name: server_name!("test").to_owned(), key });
        Self { store, me, _dir: dir }
    }

    async fn write<T: Send + 'static>(
        &self,
        mut work: impl FnMut(&WriteTx, &Identity) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let me = self.me.clone();
        self.store.write(move |tx| work(tx, &me)).await
    }

    fn read<T>(&self, work: impl FnOnce(&ReadTx) -> Result<T>) -> T {
        self.store.read(work).expect("reads")
    }

    async fn create(&self, wish: Wish) -> Result<OwnedRoomId> {
        self.write(move |tx, me| create::create(tx, me, &user("alice"), &wish)).await
    }

    async fn send(&self, room: &OwnedRoomId, sender: &str, draft: Draft) -> Result<ruma::OwnedEventId> {
        let (room, sender) = (room.clone(), user(sender));
        self.write(move |tx, me| {
            let mut room = Room::named(tx, &room)?;
            draft::send(tx, me, &mut room, &sender, &draft, None)
        })
        .await
    }

    async fn say(&self, room: &OwnedRoomId, sender: &str, body: &str) -> Result<ruma::OwnedEventId> {
        let content = json!({ "msgtype": "m.text", "body": body });
        let draft = Draft::message(TimelineEventType::RoomMessage, crate::base::json::to_raw(&content)?);
        self.send(room, sender, draft).await
    }

    async fn set(&self, room: &OwnedRoomId, sender: &str, kind: &str, content: Value) -> Result<ruma::OwnedEventId> {
        self.send(room, sender, Draft::state_of(kind.into(), "", &content)?).await
    }

    async fn member(&self, room: &OwnedRoomId, sender: &str, target: &str, to: MembershipState) -> Result<()> {
        let (room, sender, target) = (room.clone(), user(sender), user(target));
        self.write(move |tx, me| {
            let mut room = Room::named(tx, &room)?;
            let change =
                Change { sender: &sender, target: &target, membership: to.clone(), reason: None, more: Map::new() };
            members::change(tx, me, &mut room, change).map(drop)
        })
        .await
    }

    /// What somebody can read of a room, the newest first: bodies and event types.
    fn history(&self, room: &OwnedRoomId, reader: &str) -> Vec<String> {
        let reader = user(reader);
        self.read(|tx| {
            let room = Room::named(tx, room)?;
            let mut view = View::new(tx, &room, &reader, None)?;
            let filter = Events::default();
            let wanted = Wanted { way: Way::Back, from: i64::MAX, to: None, limit: 100, filter: &filter };
            let page = history::page(tx, &room, &mut view, &wanted)?;
            Ok(page.events.iter().map(|event| name(event.get())).collect())
        })
    }
}

fn name(event: &str) -> String {
    let event: Value = serde_json::from_str(event).expect("JSON");
    let body = event["content"]["body"].as_str().or(event["type"].as_str());
    body.expect("a body or a type").to_owned()
}

#[tokio::test]
async fn every_version_and_preset_makes_a_room_that_its_own_rules_allow() {
    let house = House::new();
    for version in room::VERSIONS {
        for preset in [RoomPreset::PrivateChat, RoomPreset::PublicChat, RoomPreset::TrustedPrivateChat] {
            let mut wish = wish(version.clone(), preset.clone());
            wish.invite = vec![user("bob")];
            let id = house.create(wish).await.expect("made");
            assert_eq!(id.server_name().is_none(), version == RoomVersionId::V12, "{version}");
            house.member(&id, "bob", "bob", MembershipState::Join).await.expect("bob joins");
            house.say(&id, "bob", "hello").await.expect("bob speaks");
            let topic = house.set(&id, "bob", "m.room.topic", json!({ "topic": "x" })).await;
            assert_eq!(topic.is_ok(), preset == RoomPreset::TrustedPrivateChat, "{version} {preset:?}");
            assert_eq!(house.history(&id, "alice")[usize::from(topic.is_ok())], "hello");
        }
    }
    let unknown = house.create(wish(RoomVersionId::V5, RoomPreset::PrivateChat)).await.expect_err("refused");
    assert_eq!(unknown.errcode(), "M_UNSUPPORTED_ROOM_VERSION");
}

#[tokio::test]
async fn rooms_made_alike_in_one_moment_are_different_rooms() {
    let house = House::new();
    let mut made = std::collections::BTreeSet::new();
    for _ in 0..20 {
        made.insert(house.create(wish(RoomVersionId::V12, RoomPreset::PrivateChat)).await.expect("made"));
    }
    assert_eq!(made.len(), 20);
}

#[tokio::test]
async fn strangers_stay_out_and_the_banned_stay_away() {
    let house = House::new();
    let id = house.create(wish(RoomVersionId::V12, RoomPreset::PrivateChat)).await.expect("made");
    assert_eq!(
        house.member(&id, "eve", "eve", MembershipState::Join).await.expect_err("no invite").errcode(),
        "M_FORBIDDEN"
    );
    house.member(&id, "alice", "bob", MembershipState::Invite).await.expect("invited");
    house.member(&id, "bob", "bob", MembershipState::Join).await.expect("joined");
    assert!(house.member(&id, "bob", "alice", MembershipState::Ban).await.is_err());
    house.member(&id, "alice", "bob", MembershipState::Ban).await.expect("banned");
    assert!(house.say(&id, "bob", "still here").await.is_err());
    assert!(house.member(&id, "bob", "bob", MembershipState::Join).await.is_err());
    let row = house.read(|tx| Ok(Room::named(tx, &id)?.row));
    assert_eq!((row.joined, row.invited), (1, 0));
}

#[tokio::test]
async fn history_is_seen_as_the_room_wanted_it_at_the_time() {
    let house = House::new();
    for (visibility, newcomer_sees_before_invite, before_join) in
        [("shared", true, true), ("invited", false, true), ("joined", false, false)]
    {
        let id = house.create(wish(RoomVersionId::V11, RoomPreset::PrivateChat)).await.expect("made");
        let content = json!({ "history_visibility": visibility });
        house.set(&id, "alice", "m.room.history_visibility", content).await.expect("set");
        house.say(&id, "alice", "before").await.expect("sent");
        house.member(&id, "alice", "bob", MembershipState::Invite).await.expect("invited");
        house.say(&id, "alice", "between").await.expect("sent");
        house.member(&id, "bob", "bob", MembershipState::Join).await.expect("joined");
        house.say(&id, "alice", "after").await.expect("sent");
        house.member(&id, "bob", "bob", MembershipState::Leave).await.expect("left");
        house.say(&id, "alice", "gone").await.expect("sent");
        let seen = house.history(&id, "bob");
        let has = |body: &str| seen.iter().any(|name| name == body);
        assert_eq!(has("before"), newcomer_sees_before_invite, "{visibility}");
        assert_eq!(has("between"), before_join, "{visibility}");
        assert!(has("after") && !has("gone"), "{visibility}: {seen:?}");
        assert_eq!(seen[0], "m.room.member", "{visibility}: one's own leaving is seen");
    }
}

#[tokio::test]
async fn redaction_empties_the_stored_event() {
    let house = House::new();
    for version in [RoomVersionId::V10, RoomVersionId::V12] {
        let id = house.create(wish(version, RoomPreset::PublicChat)).await.expect("made");
        house.member(&id, "bob", "bob", MembershipState::Join).await.expect("joined");
        let said = house.say(&id, "alice", "secret").await.expect("sent");
        let checked = house.store.read(|tx| redact::check(tx, &Room::named(tx, &id)?, &user("bob"), &said));
        assert_eq!(checked.expect_err("not bob's").errcode(), "M_FORBIDDEN");
        let mut draft =
            Draft::message(TimelineEventType::RoomRedaction, crate::base::json::to_raw(&json!({})).expect("JSON"));
        draft.redacts = Some(said.clone());
        house.send(&id, "alice", draft).await.expect("redacted");
        house.read(|tx| {
            let (pos, row) = event::shown(tx, Room::named(tx, &id)?.num, &said)?.expect("still there");
            assert!(!row.pdu.contains("secret"));
            let room = Room::named(tx, &id)?;
            let alice = user("alice");
            let shown = View::new(tx, &room, &alice, None)?.see(tx, pos)?.expect("seen");
            let shown: Value = serde_json::from_str(shown.get()).expect("JSON");
            assert_eq!(shown["content"], json!({}));
            assert_eq!(shown["unsigned"]["redacted_because"]["redacts"], json!(said));
            assert_eq!(shown["unsigned"]["redacted_because"]["content"]["redacts"], json!(said));
            Ok(())
        });
    }
}

#[tokio::test]
async fn nobody_redacts_others_by_sending_the_event_itself() {
    let house = House::new();
    for version in [RoomVersionId::V10, RoomVersionId::V12] {
        let id = house.create(wish(version, RoomPreset::PublicChat)).await.expect("made");
        house.member(&id, "bob", "bob", MembershipState::Join).await.expect("joined");
        let said = house.say(&id, "alice", "mine").await.expect("sent");
        let content = crate::base::json::to_raw(&json!({ "redacts": said })).expect("JSON");
        let redaction = Draft::message(TimelineEventType::RoomRedaction, content);
        let refused = house.send(&id, "bob", redaction.clone()).await.expect_err("not bob's");
        assert_eq!(refused.errcode(), "M_FORBIDDEN");
        house.send(&id, "alice", redaction).await.expect("her own");
        assert!(!house.history(&id, "bob").contains(&"mine".to_owned()));
    }
}

#[tokio::test]
async fn a_redacted_message_does_not_carry_its_edit() {
    let house = House::new();
    let id = house.create(wish(RoomVersionId::V12, RoomPreset::PrivateChat)).await.expect("made");
    let said = house.say(&id, "alice", "first").await.expect("sent");
    let edit =
        json!({ "body": "second", "m.new_content": {}, "m.relates_to": { "rel_type": "m.replace", "event_id": said } });
    let edit = Draft::message(TimelineEventType::RoomMessage, crate::base::json::to_raw(&edit).expect("JSON"));
    house.send(&id, "alice", edit).await.expect("edited");
    let shown = |house: &House| {
        house.read(|tx| {
            let (room, alice) = (Room::named(tx, &id)?, user("alice"));
            let (pos, _) = event::shown(tx, room.num, &said)?.expect("there");
            Ok(View::new(tx, &room, &alice, None)?.see(tx, pos)?.expect("seen").get().to_owned())
        })
    };
    assert!(shown(&house).contains("second"));
    let content = crate::base::json::to_raw(&json!({ "redacts": said })).expect("JSON");
    house.send(&id, "alice", Draft::message(TimelineEventType::RoomRedaction, content)).await.expect("redacted");
    assert!(!shown(&house).contains("second"));
}

#[tokio::test]
async fn who_was_put_out_knows_the_room_as_it_was_then() {
    let house = House::new();
    let id = house.create(wish(RoomVersionId::V12, RoomPreset::PrivateChat)).await.expect("made");
    house.member(&id, "alice", "bob", MembershipState::Invite).await.expect("invited");
    house.member(&id, "bob", "bob", MembershipState::Join).await.expect("joined");
    let heard = house.say(&id, "alice", "hello bob").await.expect("sent");
    house.member(&id, "bob", "bob", MembershipState::Leave).await.expect("left");
    house.member(&id, "alice", "bob", MembershipState::Ban).await.expect("banned");
    house.set(&id, "alice", "m.room.topic", json!({ "topic": "without bob" })).await.expect("set");
    house.read(|tx| {
        let (room, bob) = (Room::named(tx, &id)?, user("bob"));
        let topic = |state| state::event(tx, state, &StateEventType::RoomTopic, "");
        assert_eq!(topic(history::known_state(tx, &room, &bob)?)?, None);
        let mut view = View::new(tx, &room, &bob, None)?;
        let filter = Events::default();
        let context = history::context(tx, &room, (&mut view, &bob), &heard, (10, &filter))?;
        assert_eq!(topic(context.state)?, None);
        assert!(topic(room.row.state)?.is_some());
        Ok(())
    });
}

#[tokio::test]
async fn one_odd_room_does_not_spoil_the_directory() {
    let house = House::new();
    let mut odd = wish(RoomVersionId::V12, RoomPreset::PublicChat);
    odd.visibility = Visibility::Public;
    odd.creation_content.insert("type".into(), 5.into());
    let id = house.create(odd).await.expect("made");
    house.set(&id, "alice", "m.room.name", json!({ "name": 1 })).await.expect("set");
    let list = house.read(|tx| directory::list(tx, &directory::Asked::default()));
    assert_eq!(list.rooms[0].room_id, id);
}

#[tokio::test]
async fn an_alias_that_is_taken_away_is_named_no_more() {
    let house = House::new();
    let alias = ruma::RoomAliasId::parse("#den:test").expect("an alias");
    let mut named = wish(RoomVersionId::V12, RoomPreset::PublicChat);
    named.alias = Some(alias.clone());
    let id = house.create(named).await.expect("made");
    let removing = house.write(move |tx, me| aliases::remove(tx, me, &alias, (&user("alice"), false)));
    removing.await.expect("removed");
    let canonical: Value = house.read(|tx| {
        let content = Room::named(tx, &id)?.state_content(tx, &StateEventType::RoomCanonicalAlias)?;
        Ok(content.expect("still set"))
    });
    assert_eq!(canonical, json!({}));
}

#[tokio::test]
async fn a_restricted_room_opens_to_members_of_the_other() {
    let house = House::new();
    let club = house.create(wish(RoomVersionId::V12, RoomPreset::PublicChat)).await.expect("made");
    let den = house.create(wish(RoomVersionId::V12, RoomPreset::PrivateChat)).await.expect("made");
    let allow = json!({ "join_rule": "restricted", "allow": [{ "type": "m.room_membership", "room_id": club }] });
    house.set(&den, "alice", "m.room.join_rules", allow).await.expect("set");
    assert!(house.member(&den, "bob", "bob", MembershipState::Join).await.is_err());
    house.member(&club, "bob", "bob", MembershipState::Join).await.expect("into the club");
    house.member(&den, "bob", "bob", MembershipState::Join).await.expect("into the den");
}

#[tokio::test]
async fn an_upgrade_leaves_a_sign_and_takes_the_state_along() {
    let house = House::new();
    let old = house.create(wish(RoomVersionId::V10, RoomPreset::PublicChat)).await.expect("made");
    let from = old.clone();
    let new = house.write(move |tx, me| {
        let mut room = Room::named(tx, &from)?;
        let wanted = upgrade::Wanted {
            version: RoomVersionId::V12,
            additional_creators: vec![user("bob")],
            seed: Default::default(),
        };
        upgrade::upgrade(tx, me, &mut room, &user("alice"), &wanted)
    });
    let new = new.await.expect("upgraded");
    house.read(|tx| {
        let (old, new) = (Room::named(tx, &old)?, Room::named(tx, &new)?);
        let tombstone: Value = old.state_content(tx, &StateEventType::RoomTombstone)?.expect("a tombstone");
        assert_eq!(tombstone["replacement_room"], json!(new.row.id));
        let create: Value = new.state_content(tx, &StateEventType::RoomCreate)?.expect("a create event");
        assert_eq!(create["predecessor"]["room_id"], json!(old.row.id));
        let name: Value = new.state_content(tx, &StateEventType::RoomName)?.expect("a name");
        assert_eq!(name["name"], json!("Den"));
        assert_eq!(Powers::of(tx, &new)?.level(&user("bob")), i64::MAX);
        Ok(())
    });
}

/// Two branches of a room's history that each set the topic and one of which takes the power away
/// resolve to the same state whichever comes first, and the demotion wins.
#[tokio::test]
async fn forks_resolve_alike_in_either_order() {
    let house = House::new();
    for version in [RoomVersionId::V11, RoomVersionId::V12] {
        let mut wish = wish(version, RoomPreset::PublicChat);
        wish.power_levels = json!({ "users": { "@bob:test": 50 } }).as_object().cloned().expect("an object");
        if wish.version == RoomVersionId::V11 {
            wish.power_levels =
                json!({ "users": { "@alice:test": 100, "@bob:test": 50 } }).as_object().cloned().expect("an object");
        }
        let id = house.create(wish).await.expect("made");
        house.member(&id, "bob", "bob", MembershipState::Join).await.expect("joined");
        let work = move |tx: &WriteTx, me: &Identity| {
            let fork = Room::named(tx, &id)?;
            let mut left = fork.clone();
            let mut levels: Value = left.state_content(tx, &StateEventType::RoomPowerLevels)?.expect("power levels");
            levels["users"]["@bob:test"] = json!(0);
            let demote = Draft::state_of(TimelineEventType::RoomPowerLevels, "", &levels)?;
            draft::send(tx, me, &mut left, &user("alice"), &demote, None)?;
            let mut right = fork.clone();
            let topic = Draft::state_of(TimelineEventType::RoomTopic, "", &json!({ "topic": "bob was here" }))?;
            draft::send(tx, me, &mut right, &user("bob"), &topic, None)?;
            let states = [left.row.state, right.row.state];
            let resolved = |states: [u64; 2]| {
                let states = states.map(state::Overlay::of);
                match resolve::resolve(tx, &fork.rules(), &states, None, resolve::IN_WRITER)? {
                    resolve::Outcome::Resolved(state) => Ok::<_, crate::error::Error>(state),
                    resolve::Outcome::TooHeavy => panic!("too heavy"),
                }
            };
            let (one, other) = (resolved(states)?, resolved([states[1], states[0]])?);
            assert_eq!(one.all(tx)?, other.all(tx)?);
            assert_eq!(one.event(tx, "m.room.topic", "")?, None);
            Ok(())
        };
        house.write(work).await.expect("resolves");
    }
}
