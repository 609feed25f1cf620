//! What other servers are told, on a store of its own, without a network.

use std::sync::Arc;

use http::StatusCode;
use ruma::{
    OwnedRoomId, OwnedServerName, ServerName, UserId,
    api::{
        client::room::{Visibility, create_room::v3::RoomPreset},
        federation::transactions::edu::{Edu, PresenceUpdate},
    },
    events::{TimelineEventType, room::member::MembershipState},
    presence::PresenceState,
    user_id,
};
use serde_json::{Map, Value, json};

use super::{
    Failure,
    fleeting::{Fleeting, Waiting},
    peers::Peers,
    transaction::{self, Batch, Wanted},
};
use crate::{
    base::{
        Pos,
        signing::{Identity, SigningKey},
    },
    e2ee::device_lists,
    error::Result,
    rooms::{
        Room,
        create::{self, Wish},
        draft::{self, Draft},
        members::{self, Change},
        outgoing,
        receipts::{self, Kind},
        room::DEFAULT_VERSION,
    },
    store::{Options, Store, WriteTx, tables},
};

fn alice() -> &'static UserId {
    user_id!("@alice:a.test")
}

fn bob() -> &'static UserId {
    user_id!("@bob:b.test")
}

struct House {
    store: Store,
    me: Arc<Identity>,
    room: OwnedRoomId,
    _dir: tempfile::TempDir,
}

fn identity(dir: &std::path::Path, name: &str) -> Arc<Identity> {
    let key = SigningKey::load_or_create(&dir.join(format!("{name}.key"))).expect("a key");
    Arc::new(Identity { name: ServerName::parse(name).expect("a name"), key })
}

fn b_test() -> OwnedServerName {
    bob().server_name().to_owned()
}

impl House {
    /// A store of a.test with a public room in which Alice is, and Bob of b.test.
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let options = Options { page_cache: 1 << 20, state_cache: 1 << 16, min_free: 0 };
        let store = Store::open(&dir.path().join("hearth.redb"), options, Box::new(|_, _| {})).expect("opens");
        let (me, other) = (identity(dir.path(), "a.test"), identity(dir.path(), "b.test"));
        let wish = Wish {
            version: DEFAULT_VERSION,
            preset: RoomPreset::PublicChat,
            visibility: Visibility::Private,
            creation_content: Map::new(),
            power_levels: Map::new(),
            initial_state: Vec::new(),
            name: None,
            topic: None,
            alias: None,
            invite: Vec::new(),
            is_direct: false,
            seed: Default::default(),
        };
        let (creator, them) = (me.clone(), other.clone());
        let made = store.write(move |tx| {
            let room = create::create(tx, &creator, alice(), &wish)?;
            member(tx, &them, &room, (bob(), bob()), MembershipState::Join)?;
            Ok(room)
        });
        let room = made.await.expect("made");
        Self { store, me, room, _dir: dir }
    }

    async fn write<T: Send + 'static>(
        &self,
        mut work: impl FnMut(&WriteTx, &Identity, &OwnedRoomId) -> Result<T> + Send + 'static,
    ) -> T {
        let (me, room) = (self.me.clone(), self.room.clone());
        self.store.write(move |tx| work(tx, &me, &room)).await.expect("written")
    }

    async fn say(&self, from: usize, to: usize) {
        let say = move |tx: &WriteTx, me: &Identity, room: &OwnedRoomId| {
            (from..to).try_for_each(|n| {
                let content = crate::base::json::to_raw(&json!({ "msgtype": "m.text", "body": n.to_string() }))?;
                let draft = Draft::message(TimelineEventType::RoomMessage, content);
                draft::send(tx, me, &mut Room::named(tx, room)?, alice(), &draft, None).map(drop)
            })
        };
        self.write(say).await;
    }

    fn gather(&self, cursor: Pos) -> Batch {
        let wanted = Wanted { cursor, limit: Pos::MAX, narrow: false };
        self.gather_as(&wanted)
    }

    fn gather_as(&self, wanted: &Wanted) -> Batch {
        self.store.read(|tx| transaction::gather(tx, &self.me, bob().server_name(), wanted)).expect("gathered")
    }

    fn pos(&self) -> Pos {
        self.store.read(crate::store::Read::pos).expect("read")
    }
}

fn member(
    tx: &WriteTx,
    me: &Identity,
    room: &OwnedRoomId,
    (sender, target): (&UserId, &UserId),
    membership: MembershipState,
) -> Result<()> {
    let mut room = Room::named(tx, room)?;
    let change = Change { sender, target, membership, reason: None, more: Map::new() };
    members::change(tx, me, &mut room, change).map(drop)
}

fn said(batch: &Batch) -> Vec<String> {
    let body = |pdu: &Value| pdu["content"]["body"].as_str().map(str::to_owned);
    batch.pdus.iter().filter_map(|pdu| body(&serde_json::from_str(pdu.get()).expect("JSON"))).collect()
}

fn edus(batch: &Batch) -> Vec<Value> {
    batch.edus.iter().map(|edu| serde_json::from_str(edu.json().get()).expect("JSON")).collect()
}

#[tokio::test]
async fn events_are_told_in_order_by_fifties_and_alike_when_tried_again() {
    let house = House::new().await;
    house.say(0, 120).await;
    let mut cursor = 0;
    let mut all = Vec::new();
    for size in [50, 50, 21] {
        let batch = house.gather(cursor);
        assert_eq!((batch.pdus.len(), batch.more), (size, size == 50));
        assert_eq!(house.gather(cursor).id, batch.id);
        let wanted = Wanted { cursor, limit: batch.upto, narrow: false };
        if cursor == 0 {
            house.say(500, 501).await;
        }
        assert_eq!(house.gather_as(&wanted).id, batch.id, "what came later does not change what failed");
        all.extend(said(&batch));
        cursor = batch.upto;
    }
    all.retain(|body| body != "500");
    assert_eq!(all, (0..120).map(|n| n.to_string()).collect::<Vec<_>>());
    let one = house.gather_as(&Wanted { cursor: 0, limit: Pos::MAX, narrow: true });
    assert_eq!((said(&one), one.more), (vec!["0".to_owned()], true));
}

#[tokio::test]
async fn who_is_put_out_hears_of_that_and_of_nothing_after_it() {
    let house = House::new().await;
    let start = house.pos();
    house.say(0, 1).await;
    house.write(|tx, me, room| member(tx, me, room, (alice(), bob()), MembershipState::Ban)).await;
    house.say(1, 2).await;
    let batch = house.gather(start);
    assert_eq!((batch.pdus.len(), said(&batch)), (2, vec!["0".to_owned()]));
    assert!(batch.pdus[1].get().contains("ban"));
    assert_eq!(house.gather(batch.upto).pdus.len(), 0);
}

#[tokio::test]
async fn receipts_for_all_are_told_and_others_are_not() {
    let house = House::new().await;
    house.say(0, 2).await;
    let (start, events) = (house.pos(), house.gather(0).pdus.len());
    assert_eq!(events, 2);
    house
        .write(|tx, _, room| {
            let room = Room::named(tx, room)?;
            let (pos, newest) = room.row.extremities[0].clone();
            let newest = ruma::EventId::parse(&newest).map_err(crate::error::Error::internal)?;
            assert!(pos > 0);
            receipts::set(tx, &room, alice(), Kind::Private, &newest, "")?;
            receipts::set(tx, &room, alice(), Kind::Read, &newest, "")?;
            receipts::set(tx, &room, alice(), Kind::Read, &newest, "main")
        })
        .await;
    let edus = edus(&house.gather(start));
    assert_eq!(edus.len(), 2, "two threads of one person need two");
    assert_eq!(edus[0]["edu_type"], "m.receipt");
    let receipt = &edus[0]["content"][house.room.as_str()]["m.read"][alice().as_str()];
    assert!(receipt["event_ids"][0].is_string() && receipt["data"]["ts"].is_u64());
    assert!(!format!("{edus:?}").contains("private"));
}

#[tokio::test]
async fn changes_of_devices_are_told_one_after_another_to_those_who_share_a_room() {
    let house = House::new().await;
    let start = house.pos();
    let change = |tx: &WriteTx, _: &Identity, _: &OwnedRoomId| {
        device_lists::device_changed(tx, user_id!("@lonely:a.test"), "PHONE")?;
        device_lists::device_changed(tx, alice(), "PHONE")?;
        device_lists::keys_changed(tx, alice())?;
        device_lists::device_changed(tx, alice(), "PHONE")
    };
    house.write(change).await;
    let edus = edus(&house.gather(start));
    let kinds: Vec<_> = edus.iter().map(|edu| edu["edu_type"].as_str().expect("a type")).collect();
    assert_eq!(kinds, ["m.device_list_update", "m.signing_key_update", "m.device_list_update"]);
    assert_eq!(edus[0]["content"]["deleted"], true, "it has no keys");
    assert_eq!(edus[0]["content"].get("prev_id"), None);
    assert_eq!(edus[2]["content"]["prev_id"][0], edus[0]["content"]["stream_id"]);
}

#[tokio::test]
async fn who_was_away_for_longer_than_the_log_goes_back_gets_the_last_event_of_each_room() {
    let house = House::new().await;
    let start = house.pos();
    house.say(0, 30).await;
    house.write(|tx, _, _| device_lists::device_changed(tx, alice(), "PHONE")).await;
    let upto = house.pos();
    house.write(move |tx, _, _| outgoing::trim(tx, upto, 1000)).await;
    house.say(30, 32).await;
    let batch = house.gather(start);
    assert_eq!((said(&batch), batch.more), (Vec::<String>::new(), true), "the room's last event is in the log still");
    assert_eq!(edus(&batch)[0]["edu_type"], "m.device_list_update");
    let rest = house.gather(batch.upto);
    assert_eq!((said(&rest), rest.more), (vec!["30".to_owned(), "31".to_owned()], false));
    let upto = house.pos();
    house.write(move |tx, _, _| outgoing::trim(tx, upto, 1000)).await;
    let batch = house.gather(start);
    assert_eq!(said(&batch), ["31"]);
    assert!(house.gather(batch.upto).is_empty());
}

#[tokio::test]
async fn messages_for_devices_wait_in_order_and_don_t_crowd_out_the_rest() {
    let house = House::new().await;
    let start = house.pos();
    house
        .write(|tx, _, _| {
            for n in 0..70 {
                let content =
                    json!({ "sender": alice(), "type": "m.test", "message_id": n.to_string(), "messages": {} });
                tables::OUTGOING_TO_DEVICE.put(tx, ("b.test", tx.next_pos()), &content.to_string())?;
            }
            Ok(())
        })
        .await;
    house.say(0, 1).await;
    let batch = house.gather(start);
    assert_eq!((batch.edus.len(), batch.pdus.len(), batch.more), (50, 1, true));
    assert_eq!(edus(&batch)[49]["content"]["message_id"], "49");
    assert!(batch.edus.iter().all(|edu| matches!(edu.deserialize(), Ok(Edu::DirectToDevice(_)))));
}

#[tokio::test]
async fn more_than_a_hundred_changes_besides_events_are_told_in_parts() {
    let house = House::new().await;
    let start = house.pos();
    house.write(|tx, _, _| (0..230).try_for_each(|_| device_lists::device_changed(tx, alice(), "PHONE"))).await;
    let (mut cursor, mut sizes) = (start, Vec::new());
    loop {
        let batch = house.gather(cursor);
        sizes.push((batch.edus.len(), batch.more));
        cursor = batch.upto;
        if !batch.more {
            break;
        }
    }
    assert_eq!(sizes, [(100, true), (100, true), (30, false)]);
}

#[test]
fn of_what_passes_the_newest_word_of_each_is_told() {
    let room: OwnedRoomId = "!r:a.test".try_into().expect("an ID");
    let person = |n: usize| UserId::parse(format!("@p{n}:a.test")).expect("an ID");
    let mut waiting = Waiting::default();
    for n in 0..300 {
        let mut update = PresenceUpdate::new(person(n % 3), PresenceState::Online, n.try_into().expect("a number"));
        update.currently_active = n == 299;
        waiting.add(&Fleeting::Presence(update));
        waiting.add(&Fleeting::Typing(room.clone(), person(n % 2), n < 298));
    }
    let told = waiting.take();
    let Some((Edu::Presence(presence), typing)) = told.split_first() else { panic!("{told:?}") };
    let last: Vec<u64> = presence.push.iter().map(|update| update.last_active_ago.into()).collect();
    assert_eq!((last, presence.push[2].currently_active), (vec![297, 298, 299], true));
    assert_eq!(typing.len(), 2);
    assert!(typing.iter().all(|edu| matches!(edu, Edu::Typing(typing) if !typing.typing)), "{typing:?}");
    assert!(waiting.is_empty() && waiting.take().is_empty());
    // And of so many at most.
    (0..1000).for_each(|n| waiting.add(&Fleeting::Typing(room.clone(), person(n), true)));
    waiting.add(&Fleeting::Typing(room, person(0), false));
    let told = waiting.take();
    assert_eq!(told.len(), 100);
    assert!(matches!(&told[0], Edu::Typing(typing) if typing.user_id == person(0) && !typing.typing), "{told:?}");
}

fn refused(status: StatusCode) -> Failure {
    Failure::Refused { status, errcode: "M_UNKNOWN".into(), message: String::new(), retry_after: None }
}

#[test]
fn who_can_t_be_reached_is_tried_less_and_less_until_it_speaks() {
    let (mut peers, server) = (Peers::default(), b_test());
    peers.dispatched(10, vec![(server.clone(), 0, (3, 10))]);
    let mut now = 1_000_000;
    let mut waits = Vec::new();
    let batch =
        || Batch { upto: 10, pdus: vec![crate::base::json::raw("{}".into()).expect("JSON")], ..Batch::default() };
    for _ in 0..12 {
        assert_eq!(peers.take_ready(now), std::slice::from_ref(&server));
        let turn = peers.turn(&server).expect("there is something");
        assert_eq!(turn.wanted.cursor, 2);
        let outcome = peers.refused(&server, &batch(), &Failure::Unreachable("gone".into()), now);
        waits.push(outcome.wait);
        assert!(outcome.row.expect("written").behind && !outcome.again && !outcome.skipped);
        assert!(peers.take_ready(now).is_empty());
        peers.dispatched(10, Vec::new());
        now = peers.next_due().expect("tried again");
    }
    assert!(waits[0] <= 1250 && waits[11] >= 4 * 60 * 60_000 && waits[11] <= 8 * 60 * 60_000, "{waits:?}");
    assert!(waits[..8].is_sorted());
    peers.take_ready(now);
    peers.turn(&server).expect("there is something");
    peers.refused(&server, &batch(), &Failure::Unreachable("gone".into()), now);
    assert!(peers.heard(&server, now + 1), "it has come back");
    assert_eq!(peers.take_ready(now + 1), std::slice::from_ref(&server));
    peers.turn(&server).expect("there is something");
    assert!(!peers.heard(&server, now + 1), "it is being tried");
    peers.refused(&server, &batch(), &Failure::Unreachable("gone".into()), now + 2);
    assert!(peers.take_ready(now + 2).is_empty(), "it was tried in vain for having spoken");
    assert!(!peers.heard(&server, now + 500) && peers.heard(&server, now + 1100));
    assert_eq!(peers.take_ready(now + 1100), std::slice::from_ref(&server));
    peers.turn(&server).expect("there is something");
    peers.refused(&server, &batch(), &Failure::Unreachable("gone".into()), now + 1100);
    assert!(!peers.heard(&server, now + 2200) && peers.heard(&server, now + 3200), "less and less");
    assert_eq!(peers.take_ready(now + 3200), std::slice::from_ref(&server));
    peers.turn(&server).expect("there is something");
    assert_eq!(peers.acknowledged(&server, &batch()).expect("written").failures, 0);
    assert!(peers.turn(&server).is_none() && !peers.knows(&server));
}

#[test]
fn who_speaks_while_it_is_tried_is_tried_once_more_at_once() {
    let (mut peers, server) = (Peers::default(), b_test());
    peers.dispatched(10, vec![(server.clone(), 0, (3, 10))]);
    let batch = Batch { upto: 10, ..Batch::default() };
    peers.take_ready(1000);
    peers.turn(&server).expect("there is something");
    peers.refused(&server, &batch, &Failure::Unreachable("gone".into()), 1000);
    let later = peers.next_due().expect("tried again");
    peers.take_ready(later);
    peers.turn(&server).expect("there is something");
    assert!(!peers.heard(&server, later + 5), "it is being tried");
    peers.refused(&server, &batch, &Failure::Unreachable("gone".into()), later + 9);
    assert_eq!(peers.take_ready(later + 9), std::slice::from_ref(&server));
}

#[test]
fn one_bad_thing_does_not_stop_all_that_comes_after_it() {
    let (mut peers, server) = (Peers::default(), b_test());
    peers.dispatched(10, vec![(server.clone(), 0, (3, 10))]);
    let (mut now, mut skipped) = (1_000_000, false);
    let one = Batch { upto: 3, pdus: vec![crate::base::json::raw("{}".into()).expect("JSON")], ..Batch::default() };
    peers.take_ready(now);
    peers.turn(&server).expect("there is something");
    assert!(peers.refused(&server, &one, &refused(StatusCode::BAD_REQUEST), now).again);
    for turn in 0..5 {
        assert!(peers.turn(&server).expect("there is something").wanted.narrow);
        skipped = peers.refused(&server, &one, &refused(StatusCode::BAD_REQUEST), now).skipped;
        assert_eq!(skipped, turn == 4);
        now = peers.next_due().expect("tried again");
        assert_eq!(peers.take_ready(now), std::slice::from_ref(&server));
    }
    assert!(skipped);
    assert_eq!(peers.turn(&server).expect("more").wanted.cursor, 3);
}

#[test]
fn what_a_server_takes_that_was_never_behind_is_written_down_later_and_what_changes_its_row_at_once() {
    let (mut peers, servers) =
        (Peers::default(), ["b.test", "c.test", "d.test"].map(|name| name.try_into().expect("a name")));
    let [b, c, d]: [OwnedServerName; 3] = servers;
    let took = |upto, to_device| Batch {
        upto,
        to_device,
        pdus: vec![crate::base::json::raw("{}".into()).expect("JSON")],
        ..Batch::default()
    };
    for (server, upto) in [(&b, 3), (&c, 4), (&d, 5), (&b, 6)] {
        peers.dispatched(upto, vec![(server.clone(), 0, (upto, upto))]);
        peers.take_ready(1);
        peers.turn(server).expect("there is something");
        assert!(peers.acknowledged(server, &took(upto, 0)).is_none());
        assert!(peers.turn(server).is_none() && !peers.knows(server));
    }
    assert_eq!((peers.told_count(), peers.told(&b), peers.told(&d)), (3, Some(6), Some(5)));
    assert_eq!(peers.take_told(2), [(b.clone(), 6), (c.clone(), 4)]);
    peers.dispatched(7, vec![(d.clone(), 0, (7, 7))]);
    peers.take_ready(1);
    peers.turn(&d).expect("there is something");
    let row = peers.acknowledged(&d, &took(7, 7)).expect("messages for devices are taken away");
    assert_eq!((row.acked, row.behind), (7, false));
    assert!(peers.take_told(2).is_empty(), "that says it all");
    peers.dispatched(8, vec![(b.clone(), 6, (8, 8))]);
    peers.take_ready(1);
    peers.turn(&b).expect("there is something");
    let (seen, behind) = peers.checkpoint().expect("something new");
    peers.written(seen, behind.into_iter().map(|(server, _)| server).collect());
    let row = peers.acknowledged(&b, &took(8, 0)).expect("its row says that it is behind");
    assert_eq!((row.acked, row.behind, peers.told_count()), (8, false, 0));
}

#[test]
fn a_restart_begins_where_it_was_written_down() {
    let (mut peers, server) = (Peers::default(), b_test());
    peers.load(
        5,
        vec![(server.clone(), crate::store::rows::DestinationRow { acked: 2, behind: true, ..Default::default() })],
    );
    assert_eq!((peers.seen(), peers.told_everybody()), (5, 2));
    let typing = Fleeting::Typing("!r:a.test".try_into().expect("an ID"), alice().to_owned(), true);
    assert!(peers.tell(ServerName::parse("c.test").expect("a name").as_ref(), 0, &typing));
    peers.dispatched(9, vec![(server.clone(), 0, (7, 9))]);
    let mut ready = peers.take_ready(1);
    ready.sort();
    assert_eq!(ready.len(), 2);
    assert_eq!(peers.turn(&server).expect("something").wanted.cursor, 2);
    let (seen, behind) = peers.checkpoint().expect("something new");
    assert_eq!((seen, behind.len()), (9, 0), "its row says that it is behind");
    peers.written(9, Vec::new());
    assert!(peers.checkpoint().is_none());
}
