//! What other servers tell besides events: devices, keys, messages for devices, receipts, who types and who
//! is online. It is taken of whom it may be told, in order and once, over crashes; and nothing of it that is
//! bad takes anything good with it.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    common::{Answer, Says, Server, User, encode, federate, federated, in_room, transaction, until},
    federation_asking::Key,
    federation_hostile::{Guest, party, party_at},
};

const SEND: &str = "/_matrix/federation/v1/send/";
/// Where the whole list of somebody's devices is asked for, and where keys are asked for whoever wants them.
const WHOLE: &str = "/_matrix/federation/v1/user/devices/";
const QUERY: &str = "/_matrix/federation/v1/user/keys/query";

/// Mallory's server tells something in one transaction, with events or without.
async fn tell_in(server: &Server, guest: &Guest, id: &str, pdus: &[Value], edus: &[Value]) -> Answer {
    let body = json!({"origin": guest.peer.name(), "origin_server_ts": 1, "pdus": pdus, "edus": edus});
    guest.peer.ask(server, Method::PUT, &format!("{SEND}{id}"), Some(body)).await
}

async fn tell(server: &Server, guest: &Guest, edus: &[Value]) {
    tell_in(server, guest, &transaction(), &[], edus).await.ok();
}

fn edu(kind: &str, content: Value) -> Value {
    json!({"edu_type": kind, "content": content})
}

/// The next sync that has something to say of what is looked for.
async fn synced<T>(user: &User, since: &str, what: &str, find: impl Fn(&Value) -> Option<T>) -> T {
    until(what, async || find(&user.sync(Some(since), 0).await)).await
}

/// What of a kind passes in a room without being an event of it.
fn passing(sync: &Value, room: &str, kind: &str) -> Option<Value> {
    let events = sync["rooms"]["join"][room]["ephemeral"]["events"].as_array()?;
    events.iter().find(|event| event["type"] == kind).map(|event| event["content"].clone())
}

fn is_changed(sync: &Value, who: &str) -> bool {
    sync["device_lists"]["changed"].as_array().is_some_and(|changed| changed.iter().any(|user| user == who))
}

/// The devices of somebody, as a client is shown them.
async fn devices(user: &User, who: &str) -> Vec<String> {
    let answer = user.post("/_matrix/client/v3/keys/query", json!({"device_keys": {who: []}})).await.ok();
    answer["device_keys"][who].as_object().map(|devices| devices.keys().cloned().collect()).unwrap_or_default()
}

async fn shows(user: &User, who: &str, wanted: &[&str]) {
    let what = format!("{who} has the devices {wanted:?}");
    until(&what, async || (devices(user, who).await == wanted).then_some(())).await;
}

fn broken() -> Says {
    Says::Json(500, json!({"errcode": "M_UNKNOWN", "error": "broken"}))
}

/// Mallory's devices.
struct Devices<'a> {
    guest: &'a Guest,
    key: Key,
}

impl Devices<'_> {
    /// The whole list, as it is at a number of the stream.
    fn whole(&self, stream: u64, devices: &[&str], more: Value) {
        let devices: Vec<Value> =
            devices.iter().map(|device| json!({"device_id": device, "keys": self.keys(device)})).collect();
        let mut said = json!({"user_id": self.guest.mallory, "stream_id": stream, "devices": devices});
        said.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        self.guest.peer.says(WHOLE, Says::Json(200, said));
    }

    /// What is answered to whoever asks for keys.
    fn answers(&self, devices: &[&str]) {
        let keys: serde_json::Map<_, _> =
            devices.iter().map(|device| ((*device).to_owned(), self.keys(device))).collect();
        self.guest.peer.says(QUERY, Says::Json(200, json!({"device_keys": {&self.guest.mallory: keys}})));
    }

    fn keys(&self, device: &str) -> Value {
        self.key.of_device(&self.guest.mallory, device)
    }

    /// A change of one device.
    fn change(&self, device: &str, stream: u64, prev: &[u64]) -> Value {
        let keys = self.keys(device);
        let (user, id) = (&self.guest.mallory, device);
        edu(
            "m.device_list_update",
            json!({"user_id": user, "device_id": id, "stream_id": stream, "prev_id": prev, "keys": keys}),
        )
    }

    fn removal(&self, device: &str, stream: u64, prev: &[u64]) -> Value {
        let mut change = self.change(device, stream, prev);
        let content = change["content"].as_object_mut().expect("an object");
        content.remove("keys");
        content.insert("deleted".into(), json!(true));
        change
    }

    /// How often the whole list was asked for, and keys.
    fn asked(&self) -> (usize, usize) {
        (self.guest.peer.asked(WHOLE).len(), self.guest.peer.asked(QUERY).len())
    }
}

#[tokio::test]
async fn device_lists_are_followed_and_asked_for_whole_where_something_is_missing() {
    let (mut server, alice, guest) = party().await;
    let (key, mallory) = (Key::new(), guest.mallory.clone());
    let list = Devices { guest: &guest, key };
    // Nothing is kept of somebody whom nobody asked for, but clients hear that there is something to ask.
    let since = alice.now().await;
    tell(&server, &guest, &[list.change("ONE", 1, &[])]).await;
    synced(&alice, &since, "a change", |sync| is_changed(sync, &mallory).then_some(())).await;
    list.answers(&["ONE"]);
    shows(&alice, &mallory, &["ONE"]).await;
    guest.peer.says(QUERY, broken());
    // Of a list that was asked for by name it is not known up to where it goes: the next change has it asked
    // for whole, and from there on each is applied as it comes.
    list.whole(5, &["ONE", "TWO"], json!({}));
    tell(&server, &guest, &[list.change("TWO", 5, &[4])]).await;
    until("the whole list", async || (list.asked().0 == 1).then_some(())).await;
    shows(&alice, &mallory, &["ONE", "TWO"]).await;
    let (asked, since) = (list.asked(), alice.now().await);
    tell(&server, &guest, &[list.change("THREE", 6, &[5]), list.removal("ONE", 7, &[6])]).await;
    shows(&alice, &mallory, &["THREE", "TWO"]).await;
    synced(&alice, &since, "a change", |sync| is_changed(sync, &mallory).then_some(())).await;
    // What was told before is nothing new.
    let since = alice.now().await;
    tell(&server, &guest, &[list.change("ONE", 6, &[5]), list.removal("TWO", 7, &[6])]).await;
    assert_eq!(devices(&alice, &mallory).await, ["THREE", "TWO"]);
    assert!(!is_changed(&alice.sync(Some(&since), 0).await, &mallory));
    assert_eq!(list.asked(), asked, "nobody was asked for it");
    // 8 was lost.
    list.whole(9, &["EIGHT", "NINE"], json!({}));
    tell(&server, &guest, &[list.change("NINE", 9, &[8])]).await;
    shows(&alice, &mallory, &["EIGHT", "NINE"]).await;
    // And 10, and its server does not answer: whoever wants to know asks it again, also after a restart, and
    // is told meanwhile what was known.
    guest.peer.says(WHOLE, broken());
    let before = list.asked().0;
    tell(&server, &guest, &[list.change("NINE", 11, &[10])]).await;
    until("an attempt", async || (list.asked().0 > before).then_some(())).await;
    server.kill9().await;
    server.resume().await;
    let answer = alice.post("/_matrix/client/v3/keys/query", json!({"device_keys": {&mallory: []}})).await.ok();
    assert!(answer["failures"][guest.peer.name()].is_object(), "{answer}");
    assert!(answer["device_keys"][&mallory]["NINE"].is_object(), "{answer}");
    list.answers(&["TEN"]);
    assert_eq!(devices(&alice, &mallory).await, ["TEN"]);
}

#[tokio::test]
async fn new_cross_signing_keys_are_fetched_and_never_taken_from_who_tells_of_them() {
    let (server, alice, guest) = party().await;
    let (mallory, since) = (guest.mallory.clone(), alice.now().await);
    let list = Devices { guest: &guest, key: Key::new() };
    list.answers(&["ONE"]);
    shows(&alice, &mallory, &["ONE"]).await;
    guest.peer.says(QUERY, broken());
    let (master, own) = (Key::new(), Key::new());
    let (master_key, own_key) =
        (master.of_person(&mallory, "master", None), own.of_person(&mallory, "self_signing", Some(&master)));
    list.whole(3, &["ONE"], json!({"master_key": master_key, "self_signing_key": own_key}));
    let forged = Key::new().of_person(&mallory, "master", None);
    tell(&server, &guest, &[edu("m.signing_key_update", json!({"user_id": mallory, "master_key": forged}))]).await;
    synced(&alice, &since, "a change", |sync| is_changed(sync, &mallory).then_some(())).await;
    let answer = until("the keys", async || {
        let asked = json!({"device_keys": {&mallory: []}});
        let answer = alice.post("/_matrix/client/v3/keys/query", asked).await.ok();
        answer["master_keys"][&mallory].is_object().then_some(answer)
    })
    .await;
    assert_eq!(answer["master_keys"][&mallory]["keys"], master_key["keys"]);
    assert_eq!(answer["self_signing_keys"][&mallory]["keys"], own_key["keys"]);
    // One that another master key has signed is not passed on.
    let (next, stray) = (Key::new().of_person(&mallory, "master", None), Key::new());
    let stray = own.of_person(&mallory, "self_signing", Some(&stray));
    list.whole(4, &["ONE"], json!({"master_key": next, "self_signing_key": stray}));
    tell(&server, &guest, &[edu("m.signing_key_update", json!({"user_id": mallory}))]).await;
    let answer = until("the next keys", async || {
        let asked = json!({"device_keys": {&mallory: []}});
        let answer = alice.post("/_matrix/client/v3/keys/query", asked).await.ok();
        (answer["master_keys"][&mallory]["keys"] == next["keys"]).then_some(answer)
    })
    .await;
    assert!(answer["self_signing_keys"][&mallory].is_null(), "{answer}");
}

fn to_device(guest: &Guest, id: &str, to: &User, device: &str, n: usize) -> Value {
    let messages = json!({&to.id: {device: {"n": n}}});
    let content = json!({"sender": guest.mallory, "type": "m.test", "message_id": id, "messages": messages});
    edu("m.direct_to_device", content)
}

/// Messages that wait for a device after a token, and the next token.
async fn messages(user: &User, since: Option<&str>) -> (Vec<Value>, String) {
    let sync = user.sync(since, 0).await;
    let events = sync["to_device"]["events"].as_array().cloned().unwrap_or_default();
    let numbers = events.iter().filter(|event| event["type"] == "m.test").map(|event| event["content"]["n"].clone());
    (numbers.collect(), sync["next_batch"].as_str().expect("a token").to_owned())
}

#[tokio::test]
async fn messages_for_devices_come_once_however_often_they_are_told() {
    let (mut server, alice, guest) = party().await;
    let phone = server.login("alice").await;
    let message = |id: &str, n| to_device(&guest, id, &alice, "*", n);
    // Twice in one transaction, in two, and in the same one again.
    tell_in(&server, &guest, "first", &[], &[message("a", 1), message("b", 2), message("a", 3)]).await.ok();
    tell_in(&server, &guest, "second", &[], &[message("b", 4)]).await.ok();
    tell_in(&server, &guest, "first", &[], &[message("a", 5)]).await.ok();
    // What was acknowledged is there after a crash, and still known.
    server.kill9().await;
    server.resume().await;
    tell_in(&server, &guest, "first", &[], &[message("a", 6), message("b", 7)]).await.ok();
    tell_in(&server, &guest, "third", &[], &[to_device(&guest, "c", &alice, &alice.device, 8)]).await.ok();
    let (read, since) = messages(&alice, None).await;
    assert_eq!(read, [1, 2, 8]);
    assert_eq!(messages(&phone, None).await.0, [1, 2], "and one of them is not for all devices");
    // Also when it has been read, and its queue is empty.
    let (read, since) = messages(&alice, Some(&since)).await;
    assert_eq!(read, [] as [Value; 0]);
    tell(&server, &guest, &[message("a", 9), message("c", 10)]).await;
    assert_eq!(messages(&alice, Some(&since)).await.0, [] as [Value; 0]);
    // Messages in another's name, without a name of their own, or for nobody here.
    let mut forged = message("d", 11);
    forged["content"]["sender"] = json!(alice.id);
    let mut nameless = message("", 12);
    nameless["content"]["message_id"] = json!("");
    let mut long = message("", 13);
    long["content"]["message_id"] = json!("x".repeat(300));
    let mut elsewhere = message("e", 14);
    elsewhere["content"]["messages"] = json!({"@bob:elsewhere.test": {"*": {}}, "@nobody:localhost": {"*": {}}});
    tell(&server, &guest, &[forged, nameless, long, elsewhere, message("f", 15)]).await;
    assert_eq!(messages(&alice, Some(&since)).await.0, [15]);
}

/// Receipts travel beside events, and may be here first: then they wait, over a restart too.
#[tokio::test]
async fn a_receipt_that_comes_before_its_event_is_shown_with_it() {
    let (mut server, alice, guest) = party().await;
    let (mallory, room) = (&guest.mallory, &guest.room);
    let read = |user: &str, event: &str, ts: u64| {
        edu("m.receipt", json!({room: {"m.read": {user: {"event_ids": [event], "data": {"ts": ts}}}}}))
    };
    let since = alice.now().await;
    let (early, event) = guest.message("read early", json!({}));
    // The last word counts, and hundreds for what never comes take the place of none that was before.
    tell(&server, &guest, &[read(mallory, "$never", 3), read(mallory, &early, 4)]).await;
    let many: Vec<Value> = (0..90).map(|n| read(mallory, &format!("$never{n}"), 5)).collect();
    tell(&server, &guest, &many).await;
    tell(&server, &guest, &[read(mallory, &early, 6), read(&alice.id, &early, 6)]).await;
    server.restart().await;
    let none = alice.sync(Some(&since), 0).await;
    assert!(passing(&none, room, "m.receipt").is_none(), "{none}");
    tell_in(&server, &guest, &transaction(), &[event], &[]).await.ok();
    let shown = synced(&alice, &since, "the receipt", |sync| passing(sync, room, "m.receipt")).await;
    assert_eq!(shown, json!({&early: {"m.read": {mallory: {"ts": 6}}}}));
}

#[tokio::test]
async fn receipts_of_other_servers_are_shown_if_they_are_of_their_own_people() {
    let (server, alice, guest) = party().await;
    let (mallory, room) = (&guest.mallory, &guest.room);
    let (first, since) = (alice.say(room, "read this").await, alice.now().await);
    let relation = json!({"rel_type": "m.thread", "event_id": first});
    let content = json!({"msgtype": "m.text", "body": "in a thread", "m.relates_to": relation});
    let reply = alice.send(room, "m.room.message", content).await;
    let read = |user: &str, event: &str, data: Value| {
        edu("m.receipt", json!({room: {"m.read": {user: {"event_ids": [event], "data": data}}}}))
    };
    // A receipt for what comes in the same transaction stands at its end.
    let (own, event) = guest.message("what I say I have read", json!({}));
    let receipt = read(mallory, &own, json!({"ts": 5}));
    tell_in(&server, &guest, &transaction(), &[event], &[receipt]).await.ok();
    let shown = synced(&alice, &since, "a receipt", |sync| passing(sync, room, "m.receipt")).await;
    assert_eq!(shown, json!({&own: {"m.read": {mallory: {"ts": 5}}}}));
    // One back is no news, and one of a thread is another matter.
    let since = alice.now().await;
    let in_thread = read(mallory, &reply, json!({"ts": 6, "thread_id": first}));
    tell(&server, &guest, &[read(mallory, &first, json!({"ts": 7})), in_thread]).await;
    let shown = synced(&alice, &since, "a receipt of a thread", |sync| passing(sync, room, "m.receipt")).await;
    assert_eq!(shown, json!({&reply: {"m.read": {mallory: {"ts": 6, "thread_id": first}}}}));
    // In the names of others, of who is not there, for what is nowhere, of no thread, and private ones.
    let since = alice.now().await;
    let eve = format!("@eve:{}", guest.peer.name());
    let private = json!({room: {"m.read.private": {mallory: {"event_ids": [reply], "data": {"ts": 1}}}}});
    let bad = [
        read(&alice.id, &reply, json!({"ts": 8})),
        read(&eve, &reply, json!({"ts": 8})),
        read(mallory, "$nowhere", json!({"ts": 8})),
        read(mallory, &reply, json!({"ts": 8, "thread_id": "nonsense"})),
        read(mallory, &own, json!({"ts": 8, "thread_id": first})),
        edu("m.receipt", private),
        edu("m.receipt", json!({"!none:localhost": {"m.read": {mallory: {"event_ids": [reply], "data": {}}}}})),
        edu("m.receipt", json!({room: {"m.read": {mallory: {"event_ids": [], "data": {}}}}})),
    ];
    tell(&server, &guest, &bad).await;
    let next = alice.say(room, "next").await;
    // Of many in one EDU those that are good are taken, whatever the others are.
    let many = json!({"m.read": {
        &alice.id: {"event_ids": [next], "data": {"ts": 9}},
        &eve: {"event_ids": [next], "data": {"ts": 9}},
        mallory: {"event_ids": [next], "data": {"ts": 9}},
    }});
    tell(&server, &guest, &[edu("m.receipt", json!({room: many}))]).await;
    let shown = synced(&alice, &since, "the last receipt", |sync| passing(sync, room, "m.receipt")).await;
    assert_eq!(shown, json!({&next: {"m.read": {mallory: {"ts": 9}}}}));
}

#[tokio::test]
async fn who_types_elsewhere_is_shown_if_they_are_in_the_room() {
    let (server, alice, guest) = party().await;
    let (mallory, room) = (&guest.mallory, &guest.room);
    let typing = |room: &str, user: &str, typing: bool| {
        edu("m.typing", json!({"room_id": room, "user_id": user, "typing": typing}))
    };
    let who = |sync: &Value| passing(sync, room, "m.typing").map(|content| content["user_ids"].clone());
    let since = alice.now().await;
    let other = alice.create_room(json!({"preset": "public_chat"})).await;
    let eve = format!("@eve:{}", guest.peer.name());
    let bad = [typing(room, &alice.id, true), typing(room, &eve, true), typing(&other, mallory, true)];
    tell(&server, &guest, &bad).await;
    let sync = alice.sync(Some(&since), 0).await;
    assert_eq!((who(&sync), passing(&sync, &other, "m.typing")), (None, None), "{sync}");
    tell(&server, &guest, &[typing(room, mallory, true)]).await;
    assert_eq!(synced(&alice, &since, "typing", who).await, json!([mallory]));
    let since = alice.now().await;
    tell(&server, &guest, &[typing(room, mallory, false)]).await;
    assert_eq!(synced(&alice, &since, "no typing", who).await, json!([]));
}

/// Somebody's presence in a sync.
fn presence(sync: &Value, who: &str) -> Option<Value> {
    let events = sync["presence"]["events"].as_array()?;
    events.iter().find(|event| event["sender"] == who).map(|event| event["content"].clone())
}

fn online(users: &[&str]) -> Value {
    let of = |user: &&str| json!({"user_id": user, "presence": "online", "last_active_ago": 7, "status_msg": "here"});
    edu("m.presence", json!({"push": users.iter().map(of).collect::<Vec<_>>()}))
}

#[tokio::test]
async fn presence_of_company_is_shown_where_it_is_wanted() {
    let (server, alice, guest) = party().await;
    let (mallory, since) = (&guest.mallory, alice.now().await);
    let bob = server.register("bob").await;
    let (eve, stranger) = (format!("@eve:{}", guest.peer.name()), "@stranger:elsewhere.test".to_owned());
    tell(&server, &guest, &[online(&[&bob.id, &eve, &stranger, mallory])]).await;
    let shown = synced(&alice, &since, "mallory's presence", |sync| presence(sync, mallory)).await;
    assert_eq!((&shown["presence"], &shown["status_msg"]), (&json!("online"), &json!("here")));
    for other in [&eve, &stranger, &bob.id] {
        let path = format!("/_matrix/client/v3/presence/{}/status", encode(other));
        let answer = alice.get(&path).await;
        assert!(answer.status != 200 || answer.body["status_msg"] != "here", "{other}: {}", answer.body);
    }
    // Where it is not wanted, nothing is heard of it.
    let (server, alice, guest) = party_at(federated("", "presence = false\n").await).await;
    let since = alice.now().await;
    tell(&server, &guest, &[online(&[&guest.mallory]), to_device(&guest, "a", &alice, "*", 1)]).await;
    let sync = alice.sync(Some(&since), 0).await;
    assert_eq!(sync["to_device"]["events"].as_array().map(Vec::len), Some(1), "it came after the presence");
    assert_eq!(presence(&sync, &guest.mallory), None);
}

#[tokio::test]
async fn what_is_nonsense_is_left_out_and_the_rest_of_its_transaction_taken() {
    let (server, alice, guest) = party().await;
    let (id, event) = guest.message("between nonsense", json!({}));
    let device_list = |user: &str, device: &str| {
        let content = json!({"user_id": user, "device_id": device, "stream_id": 1, "prev_id": [], "keys": {}});
        edu("m.device_list_update", content)
    };
    let big = "x".repeat(70_000);
    let mut nonsense = vec![
        json!(7),
        json!(null),
        json!([]),
        json!({}),
        json!({"edu_type": 7, "content": {}}),
        json!({"edu_type": "m.typing"}),
        edu("m.typing", json!({"room_id": "no room", "user_id": "nobody", "typing": "yes"})),
        edu("m.unheard.of", json!({"anything": big})),
        edu("m.presence", json!({"push": [{"user_id": 7}]})),
        edu("m.receipt", json!({"!a:b": {"m.read": []}})),
        edu("m.signing_key_update", json!({"user_id": alice.id, "master_key": {"keys": {}}})),
        device_list(&guest.mallory, &big),
        device_list(&alice.id, &alice.device),
        to_device(&guest, "large", &alice, "*", 1),
        edu(
            "m.direct_to_device",
            json!({"sender": guest.mallory, "type": big, "message_id": "type", "messages": {&alice.id: {"*": {}}}}),
        ),
    ];
    nonsense[13]["content"]["messages"][&alice.id]["*"] = json!({"big": big});
    let deep = (0..90).fold(json!(1), |inner, _| json!([inner]));
    nonsense.push(edu("m.typing", deep));
    nonsense.push(to_device(&guest, "good", &alice, "*", 2));
    let answer = tell_in(&server, &guest, &transaction(), &[event], &nonsense).await.ok();
    assert_eq!(answer["pdus"], json!({&id: {}}));
    assert_eq!(messages(&alice, None).await.0, [2]);
    let own = devices(&alice, &alice.id).await;
    assert_eq!(own, [] as [String; 0], "nobody else's server says what devices alice has");
    // More than a transaction holds is refused whole.
    let many: Vec<Value> = (0..101).map(|n| to_device(&guest, &format!("m{n}"), &alice, "*", n)).collect();
    tell_in(&server, &guest, &transaction(), &[], &many).await.fails(400, "M_BAD_JSON");
    tell(&server, &guest, &many[..100]).await;
    let (read, since) = messages(&alice, None).await;
    assert_eq!(read.len(), 100);
    assert_eq!(messages(&alice, Some(&since)).await.0.len(), 1);
}

#[tokio::test]
async fn a_room_that_shuts_a_server_out_hears_nothing_of_it() {
    let (server, alice, guest) = party().await;
    let (mallory, room) = (&guest.mallory, &guest.room);
    let event = alice.say(room, "before").await;
    alice.set_state(room, "m.room.server_acl", "", json!({"allow": ["*"], "deny": ["localhost"]})).await;
    let since = alice.now().await;
    let typing = edu("m.typing", json!({"room_id": room, "user_id": mallory, "typing": true}));
    let receipt = edu("m.receipt", json!({room: {"m.read": {mallory: {"event_ids": [event], "data": {"ts": 1}}}}}));
    // What belongs to no room is heard all the same, and shows that the rest was looked at.
    tell(&server, &guest, &[typing, receipt, to_device(&guest, "a", &alice, "*", 1)]).await;
    let sync = alice.sync(Some(&since), 0).await;
    assert_eq!(sync["to_device"]["events"].as_array().map(Vec::len), Some(1), "{sync}");
    assert_eq!((passing(&sync, room, "m.typing"), passing(&sync, room, "m.receipt")), (None, None), "{sync}");
}

/// Alice and Bob on two servers, in one room.
async fn company() -> (Server, Server, User, User, String) {
    let [one, two] = federate().await;
    let (alice, bob) = (one.register("alice").await, two.register("bob").await);
    let room = alice.create_room(json!({"preset": "public_chat"})).await;
    let path = format!("/_matrix/client/v3/join/{}?via={}", encode(&room), encode(&one.name));
    bob.post(&path, json!({})).await.ok();
    (one, two, alice, bob, room)
}

async fn upload(user: &User, key: &Key) {
    let keys = json!({"device_keys": key.of_device(&user.id, &user.device)});
    user.post("/_matrix/client/v3/keys/upload", keys).await.ok();
}

#[tokio::test]
async fn devices_come_and_go_across_servers_also_while_one_is_away() {
    let (one, mut two, alice, bob, _room) = company().await;
    let key = Key::new();
    upload(&alice, &key).await;
    shows(&bob, &alice.id, &[&alice.device]).await;
    let since = bob.now().await;
    let phone = one.login("alice").await;
    upload(&phone, &key).await;
    synced(&bob, &since, "a new device", |sync| is_changed(sync, &alice.id).then_some(())).await;
    let mut both = [&*alice.device, &*phone.device];
    both.sort_unstable();
    shows(&bob, &alice.id, &both).await;
    two.kill9().await;
    phone.post("/_matrix/client/v3/logout", json!({})).await.ok();
    let tablet = one.login("alice").await;
    upload(&tablet, &key).await;
    two.resume().await;
    let mut left = [&*alice.device, &*tablet.device];
    left.sort_unstable();
    // Speaking to it, it hears what it has missed.
    until("the devices that are left", async || {
        bob.get(&format!("/_matrix/client/v3/profile/{}", encode(&alice.id))).await;
        (devices(&bob, &alice.id).await == left).then_some(())
    })
    .await;
}

/// The receiver is killed again and again while it is told things: nothing is lost, and nothing is there twice.
#[tokio::test]
async fn a_receiver_that_dies_in_the_middle_gets_all_of_it_once() {
    let (_one, mut two, alice, bob, room) = company().await;
    let mut said = Vec::new();
    for round in 0..4 {
        for n in 0..15 {
            said.push(format!("{round}/{n}"));
            alice.say(&room, &said[said.len() - 1]).await;
            let messages = json!({"messages": {&bob.id: {"*": {"n": said.len()}}}});
            alice.put(&format!("/_matrix/client/v3/sendToDevice/m.test/{}", transaction()), messages).await.ok();
        }
        // At another place in what it is told each time.
        tokio::time::sleep(std::time::Duration::from_millis(7 * round)).await;
        two.kill9().await;
        two.resume().await;
        // Whoever speaks is told at once what it has missed.
        bob.get(&format!("/_matrix/client/v3/profile/{}", encode(&alice.id))).await;
    }
    alice.say(&room, "the end").await;
    said.push("the end".into());
    let read = until("the end", async || {
        bob.get(&format!("/_matrix/client/v3/profile/{}", encode(&alice.id))).await;
        let page = bob.get(&in_room(&room, "messages?dir=b&limit=200")).await.ok();
        let chunk = page["chunk"].as_array()?;
        let mut bodies: Vec<String> =
            chunk.iter().filter_map(|event| event["content"]["body"].as_str()).map(str::to_owned).collect();
        bodies.reverse();
        (bodies.len() >= said.len()).then_some(bodies)
    })
    .await;
    assert_eq!(read, said);
    let (read, _) = until("all messages for devices", async || {
        let read = messages(&bob, None).await;
        (read.0.len() >= said.len() - 1).then_some(read)
    })
    .await;
    assert_eq!(read, (1..said.len()).map(Value::from).collect::<Vec<_>>());
}

/// A transaction is told again after the crash that took its answer away: the same answer, and nothing twice.
#[tokio::test]
async fn a_transaction_that_is_told_again_after_a_crash_is_answered_alike() {
    let (mut server, alice, guest) = party().await;
    let (good, event) = guest.message("once", json!({}));
    let (bad, mut forged) = guest.message("forged", json!({}));
    forged["signatures"] = json!({});
    let (pdus, edus) = ([event, forged], [to_device(&guest, "a", &alice, "*", 1)]);
    let first = tell_in(&server, &guest, "same", &pdus, &edus).await.ok();
    assert_eq!((&first["pdus"][&good], first["pdus"][&bad]["error"].is_string()), (&json!({}), true));
    assert_eq!(tell_in(&server, &guest, "same", &pdus, &edus).await.ok(), first);
    server.kill9().await;
    server.resume().await;
    assert_eq!(tell_in(&server, &guest, "same", &pdus, &edus).await.ok(), first);
    let heard = crate::federation_hostile::bodies(&alice, &guest.room).await;
    assert_eq!(heard, ["once"]);
    assert_eq!(messages(&alice, None).await.0, [1]);
}
