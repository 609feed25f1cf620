//! What was acknowledged is kept, once: over stops, crashes and disks that are full.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read, Write},
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::common::{Server, User, encode, in_room, transaction};

/// Somebody's message: what it says, the transaction it goes by, and its event ID once acknowledged.
#[derive(Clone, Debug)]
struct Message {
    text: String,
    transaction: String,
    event: Option<String>,
}

/// Sends a message, or sends it again. None without an answer, or with one that says to try later.
async fn try_send(user: &User, room: &str, message: &Message) -> Option<String> {
    let path = in_room(room, &format!("send/m.room.message/{}", message.transaction));
    let request = user.http.put(format!("{}{path}", user.url)).bearer_auth(user.token.as_deref()?);
    let response = request.json(&json!({"msgtype": "m.text", "body": message.text})).send().await.ok()?;
    let status = response.status();
    assert!(status.is_success() || status.is_server_error(), "{status}");
    let body: Value = response.json().await.ok()?;
    Some(body["event_id"].as_str()?.to_owned())
}

/// Sends one message after the other until the server doesn't answer.
async fn send_until_it_ends(user: User, room: String, name: String) -> Vec<Message> {
    let mut out = Vec::new();
    for number in 0.. {
        let mut message = Message { text: format!("{name} {number}"), transaction: transaction(), event: None };
        message.event = try_send(&user, &room, &message).await;
        let ended = message.event.is_none();
        out.push(message);
        if ended {
            break;
        }
    }
    out
}

/// All messages of a room, oldest first: text and event ID.
async fn all_messages(user: &User, room: &str) -> Vec<(String, String)> {
    let mut out = Vec::new();
    let mut from = String::new();
    loop {
        let page = user.get(&in_room(room, &format!("messages?dir=b&limit=100{from}"))).await.ok();
        for event in page["chunk"].as_array().expect("a page") {
            if let Some(text) = event["content"]["body"].as_str() {
                out.push((text.to_owned(), event["event_id"].as_str().expect("an ID").to_owned()));
            }
        }
        match page["end"].as_str() {
            Some(end) => from = format!("&from={end}"),
            None => break,
        }
    }
    out.reverse();
    out
}

/// Holds that each message that was acknowledged is there under its ID, and none is there twice.
async fn assert_kept(user: &User, room: &str, sent: &[Message]) {
    let found = all_messages(user, room).await;
    let by_text: BTreeMap<&str, &str> = found.iter().map(|(text, event)| (&**text, &**event)).collect();
    assert_eq!(by_text.len(), found.len(), "a message is there twice");
    for message in sent {
        if let Some(event) = &message.event {
            assert_eq!(by_text.get(&*message.text), Some(&&**event), "{message:?}");
        }
    }
}

/// Four people send at once until the server ends; `end` ends it after a while.
async fn under_load(server: &mut Server, people: &[User], room: &str, round: u64, sharply: bool) -> Vec<Message> {
    let mut senders = JoinSet::new();
    for (number, user) in people.iter().enumerate() {
        senders.spawn(send_until_it_ends(user.clone(), room.to_owned(), format!("{round} {number}")));
    }
    // Somewhere in the work of some commit: at a time that is another in each round.
    tokio::time::sleep(Duration::from_micros(20_000 + round * 7_919 % 100_000)).await;
    match sharply {
        true => server.kill9().await,
        false => assert!(server.stop().await.success()),
    }
    senders.join_all().await.concat()
}

/// What somebody does beside chatting: numbers that go up in their account data, letters to a device,
/// and a read receipt that moves forward. Of each, how far it was acknowledged.
#[derive(Default)]
struct Chores {
    account_data: u64,
    receipt: usize,
    letters: Vec<Letter>,
}

struct Letter {
    number: u64,
    transaction: String,
    acknowledged: bool,
}

impl Letter {
    async fn try_send(&mut self, from: &User, to: &User) {
        let path = format!("/_matrix/client/v3/sendToDevice/org.example.letter/{}", self.transaction);
        let body = json!({"messages": {&to.id: {&to.device: {"number": self.number}}}});
        self.acknowledged = acknowledged(from, reqwest::Method::PUT, &path, body).await;
    }
}

/// Whether a request was answered, and then with success.
async fn acknowledged(user: &User, method: reqwest::Method, path: &str, body: Value) -> bool {
    let request = user.http.request(method, format!("{}{path}", user.url));
    match request.bearer_auth(user.token.as_deref().expect("signed in")).json(&body).send().await {
        Ok(response) => {
            assert!(response.status().is_success() || response.status().is_server_error(), "{path}: {response:?}");
            response.status().is_success()
        }
        Err(_) => false,
    }
}

/// Does chores until the server doesn't answer.
async fn chores_until_it_ends(user: User, friend: User, room: String, events: Vec<String>, first: u64) -> Chores {
    let mut done = Chores { account_data: first, ..Chores::default() };
    for step in 1.. {
        let number = first + step;
        let path = format!("/_matrix/client/v3/user/{}/account_data/chores", user.id);
        if !acknowledged(&user, reqwest::Method::PUT, &path, json!({"number": number})).await {
            break;
        }
        done.account_data = number;
        let mut letter = Letter { number, transaction: transaction(), acknowledged: false };
        letter.try_send(&user, &friend).await;
        let arrived = letter.acknowledged;
        done.letters.push(letter);
        let next = usize::try_from(step).expect("few").min(events.len() - 1);
        let path = in_room(&room, &format!("receipt/m.read/{}", encode(&events[next])));
        if !arrived || !acknowledged(&user, reqwest::Method::POST, &path, json!({})).await {
            break;
        }
        done.receipt = next;
    }
    done
}

/// Holds that account data and the receipt have got as far as was acknowledged.
async fn assert_chores_kept(user: &User, room: &str, events: &[String], done: &Chores) {
    let path = format!("/_matrix/client/v3/user/{}/account_data/chores", user.id);
    let number = user.get(&path).await.ok()["number"].as_u64().expect("a number");
    // One more may have arrived without being acknowledged.
    assert!(number == done.account_data || number == done.account_data + 1, "{number}, not {}", done.account_data);
    let sync = user.sync(None, 0).await;
    let ephemeral = sync["rooms"]["join"][room]["ephemeral"]["events"].as_array().expect("the room");
    let receipts = ephemeral.iter().find(|event| event["type"] == "m.receipt").expect("receipts");
    let of_user = |(event, kinds): (&String, &Value)| kinds["m.read"].get(&user.id).map(|_| event.clone());
    let read: Vec<String> = receipts["content"].as_object().expect("events").iter().filter_map(of_user).collect();
    let at = events.iter().position(|event| read == [event.clone()]).unwrap_or_else(|| panic!("{read:?}"));
    assert!(at == done.receipt || at == done.receipt + 1, "{at}, not {}", done.receipt);
}

/// Everything that was sent to somebody's device, taken as their client takes it.
async fn all_letters(user: &User) -> Vec<u64> {
    let mut numbers = Vec::new();
    let mut since = None;
    loop {
        let sync = user.sync(since.as_deref(), 0).await;
        let letters = sync["to_device"]["events"].as_array().cloned().unwrap_or_default();
        if letters.is_empty() {
            return numbers;
        }
        numbers.extend(letters.iter().map(|letter| letter["content"]["number"].as_u64().expect("a number")));
        since = sync["next_batch"].as_str().map(str::to_owned);
    }
}

#[tokio::test]
async fn receipts_account_data_and_letters_survive_crashes_too() {
    let mut server = Server::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = alice.create_room(json!({"preset": "public_chat"})).await;
    bob.join(&room).await;
    let mut letters = Vec::new();
    for round in 0..20u64 {
        let mut events = Vec::new();
        for number in 0..30 {
            events.push(bob.say(&room, &format!("{round} {number}")).await);
        }
        let path = in_room(&room, &format!("receipt/m.read/{}", encode(&events[0])));
        alice.post(&path, json!({})).await.ok();
        let first = (round + 1) * 1_000_000;
        let path = format!("/_matrix/client/v3/user/{}/account_data/chores", alice.id);
        alice.put(&path, json!({"number": first})).await.ok();
        let chores = chores_until_it_ends(alice.clone(), bob.clone(), room.clone(), events.clone(), first);
        let chores = tokio::spawn(chores);
        tokio::time::sleep(Duration::from_micros(10_000 + round * 7_919 % 90_000)).await;
        server.kill9().await;
        let mut done = chores.await.expect("done");
        server.resume().await;
        assert_chores_kept(&alice, &room, &events, &done).await;
        for letter in done.letters.iter_mut().filter(|letter| !letter.acknowledged) {
            letter.try_send(&alice, &bob).await;
            assert!(letter.acknowledged, "after the crash");
        }
        letters.extend(done.letters.iter().map(|letter| letter.number));
    }
    assert!(letters.len() >= 20, "nothing was sent");
    assert_eq!(all_letters(&bob).await, letters, "each once, and in order");
}

async fn four_people(server: &Server) -> (Vec<User>, String) {
    let mut people = Vec::new();
    for name in ["alice", "bob", "carol", "dave"] {
        people.push(server.register(name).await);
    }
    let room = people[0].create_room(json!({"preset": "public_chat"})).await;
    for user in &people[1..] {
        user.join(&room).await;
    }
    (people, room)
}

#[tokio::test]
async fn what_was_acknowledged_survives_crashes_and_is_there_once() {
    let mut server = Server::start().await;
    let (people, room) = four_people(&server).await;
    let mut sent = Vec::new();
    for round in 0..20 {
        let path = format!("/_matrix/client/v3/user/{}/account_data/round", people[0].id);
        people[0].put(&path, json!({"round": round})).await.ok();
        let mut messages = under_load(&mut server, &people, &room, round, true).await;
        let took = server.resume().await;
        assert!(took < Duration::from_secs(10), "it took {took:?} to start again");
        assert_eq!(people[0].get(&path).await.ok()["round"], round);
        // Nobody knows whether the last of each arrived; sent again it is the same message.
        for (message, number) in messages.iter_mut().zip(0..).filter(|(message, _)| message.event.is_none()) {
            let sender: usize = message.text.split(' ').nth(1).and_then(|text| text.parse().ok()).expect("a number");
            message.event = try_send(&people[sender], &room, message).await;
            assert!(message.event.is_some(), "message {number} after the crash");
        }
        sent.extend(messages);
    }
    // Four in each round are the ones that the crash cut off.
    assert!(sent.len() > 100, "hardly anything was sent: {}", sent.len());
    assert_kept(&people[0], &room, &sent).await;
}

#[tokio::test]
async fn stopping_under_load_loses_nothing() {
    let mut server = Server::start().await;
    let (people, room) = four_people(&server).await;
    let mut sent = Vec::new();
    for round in 0..3 {
        sent.extend(under_load(&mut server, &people, &room, round * 11, false).await);
        server.resume().await;
    }
    assert_kept(&people[0], &room, &sent).await;
}

#[tokio::test]
async fn the_same_transaction_is_the_same_event_after_a_restart() {
    let mut server = Server::start().await;
    let alice = server.register("alice").await;
    let room = alice.create_room(json!({})).await;
    let message = Message { text: "once".into(), transaction: transaction(), event: None };
    let first = try_send(&alice, &room, &message).await.expect("sent");
    server.restart().await;
    assert_eq!(try_send(&alice, &room, &message).await, Some(first));
    assert_eq!(all_messages(&alice, &room).await.len(), 1);
    let again = server.login("alice").await;
    assert_ne!(try_send(&again, &room, &message).await, None);
    assert_eq!(all_messages(&alice, &room).await.len(), 2, "another device has transactions of its own");
}

/// Whether this system lets a process have mounts of its own.
fn can_mount() -> bool {
    let tried = Command::new("unshare").args(["--user", "--map-root-user", "--mount", "true"]).status();
    tried.is_ok_and(|status| status.success())
}

/// Fills a disk, and answers the file that does it.
fn fill(folder: &std::path::Path) -> std::path::PathBuf {
    let path = folder.join("filler");
    let mut file = File::create(&path).expect("made");
    for size in [1 << 20, 4096] {
        while file.write_all(&vec![1; size]).is_ok() {}
    }
    path
}

/// Sends large messages until one fails, with an error that says so.
async fn send_until_it_is_full(user: &User, room: &str, sent: &mut Vec<Message>) {
    for _ in 0..500 {
        let transaction = transaction();
        let text = format!("{transaction} {}", "x".repeat(30_000));
        let path = in_room(room, &format!("send/m.room.message/{transaction}"));
        let answer = user.put(&path, json!({"msgtype": "m.text", "body": text})).await;
        if answer.status == 200 {
            let event = answer.body["event_id"].as_str().map(str::to_owned);
            sent.push(Message { text, transaction, event });
            continue;
        }
        answer.fails(503, "M_UNKNOWN");
        return;
    }
    panic!("500 large messages found room on a full disk");
}

/// Fills the disk of a server twice and makes room again; answers its log. None where that can't be.
async fn log_of_a_full_disk(min_free: &str) -> Option<String> {
    if !can_mount() {
        eprintln!("not tried: this system allows no mounts of one's own");
        return None;
    }
    let settings = format!("registration = \"open\"\nrate_limits = false\nmin_free_disk = \"{min_free}\"\n");
    let server = Server::start_on_small_disk("24m", &settings).await;
    let alice = server.register("alice").await;
    let room = alice.create_room(json!({})).await;
    let mut sent = Vec::new();
    for round in 0..2 {
        let filler = fill(&server.data());
        // The server looks at the disk now and then.
        tokio::time::sleep(Duration::from_secs(1)).await;
        send_until_it_is_full(&alice, &room, &mut sent).await;
        // Reading goes on, and writing goes on failing clearly.
        assert_kept(&alice, &room, &sent).await;
        let path = format!("/_matrix/client/v3/user/{}/account_data/full", alice.id);
        alice.put(&path, json!({"text": "x".repeat(60_000)})).await.fails(503, "M_UNKNOWN");
        fs::remove_file(filler).expect("removed");
        tokio::time::sleep(Duration::from_secs(1)).await;
        let event = alice.say(&room, &format!("there is room again: {round}")).await;
        alice.get(&in_room(&room, &format!("event/{event}"))).await.ok();
        assert_kept(&alice, &room, &sent).await;
    }
    Some(server.log())
}

#[tokio::test]
async fn a_disk_that_is_full_is_said_and_recovered_from() {
    if let Some(log) = log_of_a_full_disk("0 B").await {
        assert!(log.contains("a commit failed") && log.contains("No space left"), "{log}");
    }
}

#[tokio::test]
async fn a_disk_that_is_nearly_full_is_left_alone() {
    if let Some(log) = log_of_a_full_disk("1 MiB").await {
        assert!(log.contains("too little free disk space") && !log.contains("a commit failed"), "{log}");
    }
}

#[tokio::test]
async fn nothing_secret_is_in_the_log_and_tokens_are_not_in_the_file() {
    let mut server = Server::start_with("registration = \"open\"\nlog = \"trace\"\n").await;
    let alice = server.register("alice").await;
    let room = alice.create_room(json!({})).await;
    alice.say(&room, "nobody else reads this").await;
    server.stop().await;
    let (log, token) = (server.log(), alice.token.expect("signed in"));
    for secret in [&token, &Server::password("alice"), "nobody else reads this"] {
        assert!(!log.contains(secret), "the log has {secret}");
    }
    let mut bytes = Vec::new();
    File::open(server.data().join("hearth.redb")).and_then(|mut file| file.read_to_end(&mut bytes)).expect("read");
    let has = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(has("nobody else reads this"), "this is where it would be");
    assert!(!has(&token) && !has(&Server::password("alice")));
}

#[tokio::test]
async fn an_idle_server_is_small() {
    let server = Server::start_with("rate_limits = false\n").await;
    for _ in 0..50 {
        server.guest().get("/_matrix/client/versions").await.ok();
    }
    let megabytes = server.own_memory() / 1_000_000;
    assert!(megabytes < 12, "{megabytes} MB");
}
