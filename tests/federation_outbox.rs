//! What other servers are told: all of it, in order and once, whatever happens to them and to us. The other
//! server is one of the test's own, which is in the room because the database says so.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use hearth::{
    base::signing::{Identity, SigningKey},
    rooms::{
        Room,
        members::{self, Change},
        outgoing,
    },
    store::{Options, Read, Store, tables},
};
use reqwest::Method;
use ruma::{RoomId, ServerName, UserId, events::room::member::MembershipState};
use serde_json::{Map, Value, json};

use crate::{
    common::{Asked, Peer, Says, Server, User, encode, federate, in_room, transaction, until},
    federation_hostile::{bodies, hears},
};

const SEND: &str = "/_matrix/federation/v1/send/";
/// Servers of a room that are gone for good.
const DEAD: u16 = 2000;
/// How long it may take until that many have been tried.
const LONG: Duration = Duration::from_secs(240);

/// The database of a server that has stopped.
pub fn database(server: &Server) -> Store {
    let options = Options { page_cache: 1 << 24, state_cache: 1 << 20, min_free: 0 };
    Store::open(&server.data().join("hearth.redb"), options, Box::new(|_, _| {})).expect("opens")
}

/// Puts somebody of each of these servers into a room, as if they had joined it.
pub async fn let_in(server: &mut Server, room: &str, names: Vec<String>) {
    assert!(server.stop().await.success());
    let store = database(server);
    let dir = tempfile::tempdir().expect("a directory");
    let room = RoomId::parse(room).expect("an ID");
    for (part, names) in names.chunks(200).enumerate() {
        let path = dir.path().join(format!("{part}.key"));
        let (names, room) = (names.to_vec(), room.clone());
        let join = move |tx: &_| {
            for name in &names {
                let key = SigningKey::load_or_create(&path).expect("a key");
                let other = Identity { name: ServerName::parse(name).expect("a name"), key };
                let bob = UserId::parse(format!("@bob:{name}")).expect("an ID");
                let join = MembershipState::Join;
                let change = Change { sender: &bob, target: &bob, membership: join, reason: None, more: Map::new() };
                members::change(tx, &other, &mut Room::named(tx, &room)?, change)?;
            }
            Ok(())
        };
        store.write(join).await.expect("written");
    }
    store.close().await;
    drop(store);
    server.resume().await;
}

/// A server with Alice, and a public room that somebody of the peer is in; the peer takes whatever it is sent.
pub async fn shared() -> (Server, Peer, User, String) {
    let [mut server] = federate().await;
    let peer = Peer::start().await;
    peer.says(SEND, taken());
    let alice = server.register("alice").await;
    let room = alice.create_room(json!({"preset": "public_chat"})).await;
    let_in(&mut server, &room, vec![peer.name().to_owned()]).await;
    (server, peer, alice, room)
}

fn taken() -> Says {
    Says::Json(200, json!({"pdus": {}}))
}

/// From now on a peer takes everything, as others do: a transaction that comes again is not taken again. What it
/// has taken, in order.
fn takes(peer: &Peer) -> Arc<Mutex<Vec<Asked>>> {
    let all = Arc::<Mutex<Vec<Asked>>>::default();
    let heard = all.clone();
    let take = move |asked: &Asked| {
        let mut heard = heard.lock().expect("a lock");
        if !heard.iter().any(|other| other.uri == asked.uri) {
            heard.push(asked.clone());
        }
        (200, json!({"pdus": {}}))
    };
    peer.says(SEND, Says::Answer(Arc::new(take)));
    all
}

fn so_far(taken: &Mutex<Vec<Asked>>) -> Vec<Asked> {
    taken.lock().expect("a lock").clone()
}

fn away() -> Says {
    Says::Json(503, json!("away"))
}

/// The peer asks something, which shows that it is there.
async fn speaks(peer: &Peer, server: &Server) {
    let uri = format!("/_matrix/federation/v1/query/profile?user_id={}", encode(&format!("@alice:{}", server.name)));
    peer.ask(server, Method::GET, &uri, None).await.ok();
}

/// Texts of messages in transactions, in the order in which they came.
fn texts(transactions: &[Asked]) -> Vec<String> {
    let pdus = transactions.iter().filter_map(|asked| asked.body["pdus"].as_array()).flatten();
    pdus.filter_map(|pdu| pdu["content"]["body"].as_str().map(str::to_owned)).collect()
}

/// EDUs of a type, in the order in which they came.
fn edus(transactions: &[Asked], kind: &str) -> Vec<Value> {
    let edus = transactions.iter().filter_map(|asked| asked.body["edus"].as_array()).flatten();
    edus.filter(|edu| edu["edu_type"] == kind).map(|edu| edu["content"].clone()).collect()
}

fn numbers(to: usize) -> Vec<String> {
    (0..to).map(|number| number.to_string()).collect()
}

#[tokio::test]
async fn what_was_said_while_a_peer_was_away_arrives_in_order_and_once() {
    let (server, peer, alice, room) = shared().await;
    peer.says(SEND, away());
    for number in 0..500 {
        alice.say(&room, &number.to_string()).await;
    }
    let tries = peer.asked(SEND).len();
    assert!((1..10).contains(&tries), "{tries} tries at a peer that is away");
    let taken = takes(&peer);
    let transactions = until("all messages", async || {
        speaks(&peer, &server).await;
        let taken = so_far(&taken);
        (texts(&taken).last().is_some_and(|last| last == "499")).then_some(taken)
    })
    .await;
    assert_eq!(texts(&transactions), numbers(500));
    for asked in &transactions {
        assert_eq!(asked.body["origin"], server.name.as_str());
        assert!(asked.body["pdus"].as_array().is_some_and(|pdus| pdus.len() <= 50));
    }
    assert!(transactions.len() <= 12, "{} transactions", transactions.len());
}

#[tokio::test]
async fn a_crash_in_the_middle_of_a_transaction_loses_nothing_and_repeats_nothing_that_was_taken() {
    let (mut server, peer, alice, room) = shared().await;
    peer.says(SEND, Says::Silence);
    for number in 0..5 {
        alice.say(&room, &number.to_string()).await;
    }
    until("an attempt", async || peer.asked(SEND).first().cloned()).await;
    server.kill9().await;
    let taken = takes(&peer);
    server.resume().await;
    let first = until("the rest", async || {
        let transactions = so_far(&taken);
        (texts(&transactions).len() >= 5).then_some(transactions)
    })
    .await;
    assert_eq!(texts(&first), numbers(5));
    // That a server which was never behind has taken something is written down now and then: these may come again,
    // which it knows by their IDs, and nothing else does.
    alice.say(&room, "5").await;
    until("the sixth", async || (texts(&so_far(&taken)).len() == 6).then_some(())).await;
    alice.say(&room, "6").await;
    until("the seventh", async || (texts(&so_far(&taken)).len() == 7).then_some(())).await;
    let before = peer.asked(SEND).len();
    server.kill9().await;
    server.resume().await;
    alice.say(&room, "7").await;
    let after = until("the eighth", async || {
        let transactions = peer.asked(SEND).split_off(before);
        texts(&transactions).contains(&"7".to_owned()).then(|| texts(&transactions))
    })
    .await;
    assert!(numbers(8)[5..].ends_with(&after), "{after:?}");
    let before = peer.asked(SEND).len();
    server.restart().await;
    alice.say(&room, "8").await;
    let after = until("the ninth", async || {
        let transactions = peer.asked(SEND).split_off(before);
        texts(&transactions).contains(&"8".to_owned()).then(|| texts(&transactions))
    })
    .await;
    assert_eq!(after, ["8"], "who stops in order has written it down");
}

/// Who is stopped waits for the answers to what is on its way, as nobody is told after that what they have taken; but
/// not for long.
#[tokio::test]
async fn who_is_stopped_hears_what_was_taken_and_waits_for_nobody_who_says_nothing() {
    let (mut server, peer, alice, room) = shared().await;
    peer.says(SEND, Says::Wait);
    alice.say(&room, "0").await;
    until("it is on its way", async || peer.asked(SEND).first().cloned()).await;
    let answering = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        peer.says(SEND, taken());
    };
    let (ended, ()) = tokio::join!(server.stop(), answering);
    assert!(ended.success());
    server.resume().await;
    alice.say(&room, "1").await;
    until("what came after", async || texts(&peer.asked(SEND)).contains(&"1".to_owned()).then_some(())).await;
    assert_eq!(texts(&peer.asked(SEND)), numbers(2));
    peer.says(SEND, Says::Silence);
    alice.say(&room, "2").await;
    until("the next is on its way", async || (texts(&peer.asked(SEND)) == numbers(3)).then_some(())).await;
    let began = Instant::now();
    assert!(server.stop().await.success());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    peer.says(SEND, taken());
    server.resume().await;
    let again = async || (texts(&peer.asked(SEND)).split_off(3) == ["2"]).then_some(());
    until("what nobody is known to have taken comes again", again).await;
}

#[tokio::test]
async fn who_is_there_again_says_so_to_who_shares_a_room() {
    let (mut server, peer, ..) = shared().await;
    until("the first time", async || (peer.greeted() == 1).then_some(())).await;
    server.kill9().await;
    server.resume().await;
    until("once more", async || (peer.greeted() == 2).then_some(())).await;
}

#[tokio::test]
async fn a_retry_is_the_same_transaction() {
    let (_server, peer, alice, room) = shared().await;
    peer.says(SEND, away());
    alice.say(&room, "0").await;
    let first = until("an attempt", async || peer.asked(SEND).first().cloned()).await;
    alice.say(&room, "1").await;
    let second = until("a second attempt", async || peer.asked(SEND).get(1).cloned()).await;
    assert_eq!(first.uri, second.uri);
    assert_eq!(first.body["pdus"], second.body["pdus"]);
}

#[tokio::test]
async fn peers_that_answer_nonsense_or_nothing_are_tried_less_and_less_and_hold_nobody_up() {
    for said in [
        Says::Bytes(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 3\r\n\r\n{{{".to_vec()),
        Says::Bytes(b"\0\0\0\0".to_vec()),
        Says::Endless(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"pdus\":{},\"x\":\"y".to_vec()),
        Says::Json(500, json!({"errcode": "M_UNKNOWN", "error": "broken"})),
        Says::Silence,
    ] {
        let (server, peer, alice, room) = shared().await;
        peer.says(SEND, said.clone());
        let began = Instant::now();
        for number in 0..20 {
            alice.say(&room, &number.to_string()).await;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "people wait for a broken peer");
        until("an attempt", async || peer.asked(SEND).first().cloned()).await;
        if matches!(said, Says::Silence) {
            assert_eq!(peer.asked(SEND).len(), 1, "it is waited for");
            continue;
        }
        let line = format!("can't tell {} what happened; next try in ", peer.name());
        until(&line, async || server.log().contains(&line).then_some(())).await;
        // Each wait is thrice the one before, the first is of a second.
        let (began, before) = (began.elapsed(), peer.asked(SEND).len() as u64);
        assert!(before <= 4 + began.as_secs() / 4, "{before} tries in {began:?}");
        let taken = takes(&peer);
        until("all of it", async || {
            speaks(&peer, &server).await;
            (texts(&so_far(&taken)) == numbers(20)).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn one_thing_that_a_peer_finds_bad_is_told_alone() {
    let (_server, peer, alice, room) = shared().await;
    peer.says(SEND, Says::Json(400, json!({"errcode": "M_BAD_JSON", "error": "no"})));
    for number in 0..3 {
        alice.say(&room, &number.to_string()).await;
    }
    let narrow = until("smaller pieces", async || {
        peer.asked(SEND).into_iter().find(|asked| asked.body["pdus"].as_array().is_some_and(|pdus| pdus.len() == 1))
    })
    .await;
    assert_eq!(texts(&[narrow]), ["0"]);
}

/// Has somebody say the next numbers, up to one, and waits until a peer has been told all of them. What each took of
/// the server's processor.
async fn count_on(server: &Server, (alice, room): (&User, &str), peer: &Peer, to: usize) -> Duration {
    let (before, from) = (server.processor_time(), texts(&peer.asked(SEND)).len());
    for number in from..to {
        alice.say(room, &number.to_string()).await;
    }
    let began = Instant::now();
    while texts(&peer.asked(SEND)) != numbers(to) {
        assert!(began.elapsed() < LONG, "they never came: {:?}", texts(&peer.asked(SEND)));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (server.processor_time() - before) / u32::try_from(to - from).expect("some")
}

/// What the server takes of the processor in a second.
async fn second(server: &Server) -> Duration {
    let before = server.processor_time();
    tokio::time::sleep(Duration::from_secs(1)).await;
    server.processor_time() - before
}

/// What it costs is measured against what the same costs in the same server in a room where nobody is dead, as machines
/// differ.
#[tokio::test]
async fn thousands_of_dead_servers_cost_the_living_nothing() {
    let (mut server, peer, alice, quiet) = shared().await;
    count_on(&server, (&alice, &quiet), &peer, 1).await;
    let idle = second(&server).await;
    let alone = count_on(&server, (&alice, &quiet), &peer, 21).await;
    let room = alice.create_room(json!({"preset": "public_chat"})).await;
    // Nobody listens at these ports of this machine. The peer comes last, and is told nothing of the others' coming.
    let mut names: Vec<String> = (1..=DEAD).map(|port| format!("127.0.0.1:{port}")).collect();
    names.push(peer.name().to_owned());
    let_in(&mut server, &room, names).await;
    let (memory, processor) = (server.own_memory(), server.processor_time());
    // The first time each of them is tried, and then some more.
    count_on(&server, (&alice, &room), &peer, 22).await;
    count_on(&server, (&alice, &room), &peer, 41).await;
    let more = server.own_memory().saturating_sub(memory);
    assert!(more < 64 << 20, "{more} bytes for those who are gone");
    // Each is greeted, and tried after 0, 1, 4 and 13 seconds, somewhat by chance, and not again before 33.
    let (began, tried) = (Instant::now(), || server.log().matches("failures=4").count());
    while tried() < usize::from(DEAD) {
        assert!(began.elapsed() < LONG, "{} of them were tried four times", tried());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let each = (server.processor_time() - processor) / (4 * u32::from(DEAD));
    assert!(each < 3 * alone, "{each:?} of the processor for a try, {alone:?} for a message");
    // Where that took long the first of them are tried once more by now, and then the waits are thrice as long.
    while second(&server).await > idle + 5 * alone {
        assert!(began.elapsed() < LONG, "there is no second in which they take nothing");
    }
    let each = count_on(&server, (&alice, &room), &peer, 51).await;
    assert!(each < 15 * alone, "{each:?} of the processor for a message, {alone:?} where nobody is dead");
    // What was taken is known when the server has stopped, and does not come again.
    server.restart().await;
    count_on(&server, (&alice, &room), &peer, 52).await;
}

/// A server's log of what others are to be told is taken away, once it is on disk that another one is behind.
async fn forgets_its_log(server: &mut Server, behind: &str) {
    loop {
        assert!(server.stop().await.success());
        let store = database(server);
        let row = store.read(|tx| tables::DESTINATIONS.get(tx, behind)).expect("read");
        let is_behind = row.is_some_and(|row| row.behind);
        if is_behind {
            let trimmed = store.write(|tx| outgoing::trim(tx, tx.pos()?, usize::MAX)).await.expect("written");
            assert!(trimmed >= 75, "{trimmed} entries");
        }
        store.close().await;
        drop(store);
        if is_behind {
            return;
        }
        let tries = |server: &Server| server.log().matches("next try in").count();
        let before = tries(server);
        server.resume().await;
        until("another try", async || (tries(server) > before).then_some(())).await;
    }
}

/// Who was away for so long that the log does not go back so far is told the last thing of each room, and finds the
/// rest by itself.
#[tokio::test]
async fn who_was_away_for_very_long_is_told_the_last_of_each_room_and_finds_the_rest() {
    let [mut one, mut two] = federate().await;
    let (alice, bob) = (one.register("alice").await, two.register("bob").await);
    let mut rooms = Vec::new();
    for _ in 0..2 {
        let room = alice.create_room(json!({"preset": "public_chat"})).await;
        let path = format!("/_matrix/client/v3/join/{}?via={}", encode(&room), encode(&one.name));
        bob.post(&path, json!({})).await.ok();
        bob.say(&room, "here").await;
        hears(&alice, &room, "here").await;
        rooms.push(room);
    }
    two.kill9().await;
    let (many, few) = (numbers(70), numbers(5));
    for (room, said) in rooms.iter().zip([&many, &few]) {
        for text in said {
            alice.say(room, text).await;
        }
    }
    let line = format!("can't tell {} what happened", two.name);
    until(&line, async || one.log().contains(&line).then_some(())).await;
    forgets_its_log(&mut one, &two.name).await;
    two.resume().await;
    one.resume().await;
    for (room, said) in rooms.iter().zip([many, few]) {
        until("all of it, in order and once", async || {
            bob.get(&format!("/_matrix/client/v3/profile/{}", encode(&alice.id))).await;
            let mut heard = bodies(&bob, room).await;
            heard.reverse();
            heard.retain(|text| text != "here");
            (heard == said).then_some(())
        })
        .await;
    }
    // From there on it is told what happens, as everybody is.
    alice.say(&rooms[0], "and now").await;
    hears(&bob, &rooms[0], "and now").await;
}

#[tokio::test]
async fn who_is_put_out_is_told_so_and_nothing_more() {
    let (_server, peer, alice, room) = shared().await;
    let bob = format!("@bob:{}", peer.name());
    alice.post(&in_room(&room, "ban"), json!({"user_id": bob, "reason": "enough"})).await.ok();
    let ban = until("the ban", async || {
        let asked = peer.asked(SEND);
        asked.iter().find_map(|asked| Some(asked.body["pdus"].as_array()?.first()?.clone()))
    })
    .await;
    assert_eq!((&ban["state_key"], &ban["content"]["membership"]), (&json!(bob), &json!("ban")));
    alice.say(&room, "he is gone").await;
    let other = alice.create_room(json!({"preset": "public_chat"})).await;
    alice.say(&other, "nobody else is here").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(texts(&peer.asked(SEND)), [] as [&str; 0]);
}

#[tokio::test]
async fn messages_for_devices_reach_their_server_once_over_crashes() {
    let (mut server, peer, alice, room) = shared().await;
    peer.says(SEND, away());
    let bob = format!("@bob:{}", peer.name());
    for number in 0..3 {
        let path = format!("/_matrix/client/v3/sendToDevice/m.test/{}", transaction());
        let body = json!({"messages": {&bob: {"PHONE": {"n": number}, "*": {"n": "all"}}}});
        alice.put(&path, body.clone()).await.ok();
        alice.put(&path, body).await.ok();
    }
    until("an attempt", async || peer.asked(SEND).first().cloned()).await;
    server.kill9().await;
    let taken = takes(&peer);
    server.resume().await;
    let told = until("three messages", async || {
        speaks(&peer, &server).await;
        let told = edus(&so_far(&taken), "m.direct_to_device");
        (told.len() >= 3).then_some(told)
    })
    .await;
    assert_eq!(told.len(), 3);
    for (number, told) in told.iter().enumerate() {
        assert_eq!((&told["sender"], &told["type"]), (&json!(alice.id), &json!("m.test")));
        assert_eq!(told["messages"][&bob], json!({"PHONE": {"n": number}, "*": {"n": "all"}}));
    }
    let ids: std::collections::BTreeSet<_> = told.iter().map(|told| told["message_id"].to_string()).collect();
    assert_eq!(ids.len(), 3);
    // What comes after them is told once it is known that they have arrived.
    alice.say(&room, "and then").await;
    until("what came after", async || (texts(&peer.asked(SEND)) == ["and then"]).then_some(())).await;
    let before = peer.asked(SEND).len();
    server.restart().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(edus(&peer.asked(SEND).split_off(before), "m.direct_to_device").len(), 0);
}

#[tokio::test]
async fn typing_receipts_and_devices_are_told_and_private_receipts_are_not() {
    let (server, peer, alice, room) = shared().await;
    let typing = in_room(&room, &format!("typing/{}", encode(&alice.id)));
    alice.put(&typing, json!({"typing": true, "timeout": 10_000})).await.ok();
    let told = until("typing", async || edus(&peer.asked(SEND), "m.typing").first().cloned()).await;
    assert_eq!(told, json!({"room_id": room, "user_id": alice.id, "typing": true}));
    let event = alice.say(&room, "read this").await;
    let receipt = |kind: &str| in_room(&room, &format!("receipt/{kind}/{}", encode(&event)));
    alice.post(&receipt("m.read.private"), json!({})).await.ok();
    alice.post(&receipt("m.read"), json!({})).await.ok();
    let told = until("a receipt", async || edus(&peer.asked(SEND), "m.receipt").first().cloned()).await;
    assert_eq!(told[&room]["m.read"][&alice.id]["event_ids"], json!([event]));
    assert_eq!(told[&room].as_object().map(Map::len), Some(1));
    // A device without keys is nobody's business; once it has had some and goes, that is told.
    let phone = server.login("alice").await;
    let devices = format!("/_matrix/client/v3/devices/{}", phone.device);
    phone.put(&devices, json!({"display_name": "secret name"})).await.ok();
    phone.post("/_matrix/client/v3/logout", json!({})).await.ok();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(edus(&peer.asked(SEND), "m.device_list_update"), [] as [Value; 0]);
}
