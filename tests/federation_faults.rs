//! What happens to networks: servers are killed in the middle of what they say, networks fall apart into halves
//! that go on by themselves, lines are slow or go dead without a word. Whole servers, and lines between them that
//! the test cuts: nothing that was acknowledged is lost or comes twice, nobody else waits, and the log says whom
//! it concerns.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::{Crowd, Line, Peer, Says, Server, User, encode, federate_by_lines, federated, in_room, until};

/// Longer than it takes a server to see that a line is dead, and to call again.
const LONG: Duration = Duration::from_secs(120);

async fn join(user: &User, room: &str, by: &Server) {
    let path = format!("/_matrix/client/v3/join/{}?via={}", encode(room), encode(&by.name));
    user.post(&path, json!({})).await.ok();
}

/// What was said in a room, the oldest first.
async fn said(user: &User, room: &str) -> Vec<String> {
    let page = user.get(&in_room(room, "messages?dir=b&limit=500")).await.ok();
    let chunk = page["chunk"].as_array().expect("a page").iter().rev();
    chunk.filter_map(|event| event["content"]["body"].as_str().map(str::to_owned)).collect()
}

async fn hears(user: &User, room: &str, text: &str) {
    let what = format!("{} hears {text}", user.id);
    until(&what, async || said(user, room).await.iter().any(|said| said == text).then_some(())).await;
}

/// Somebody hears all of this, in order and once, however long it takes.
async fn hears_late(user: &User, room: &str, all: &[String]) {
    let began = Instant::now();
    while said(user, room).await != all {
        assert!(began.elapsed() < LONG, "{} has heard {:?}", user.id, said(user, room).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Somebody hears something that another one said whose server may have to find out first that there is a way
/// again: to be asked for something tells it so.
async fn hears_after(user: &User, room: &str, text: &str, from: &User) {
    let what = format!("{} hears {text}", user.id);
    let heard = async || {
        user.get(&format!("/_matrix/client/v3/profile/{}", encode(&from.id))).await;
        said(user, room).await.iter().any(|said| said == text).then_some(())
    };
    until(&what, heard).await;
}

async fn is_joined(user: &User, room: &str, whom: &User) {
    let path = in_room(room, &format!("state/m.room.member/{}", encode(&whom.id)));
    let what = format!("{} knows that {} is there", user.id, whom.id);
    until(&what, async || (user.get(&path).await.body["membership"] == "join").then_some(())).await;
}

async fn state(user: &User, room: &str, kind: &str) -> Value {
    user.get(&in_room(room, &format!("state/{kind}/"))).await.body
}

/// All state of a room, by type and key, as event IDs.
async fn whole_state(user: &User, room: &str) -> Vec<String> {
    let all = user.get(&in_room(room, "state")).await.ok();
    let events = all.as_array().expect("a list").iter();
    let mut out: Vec<_> =
        events.map(|event| format!("{} {} {}", event["type"], event["state_key"], event["event_id"])).collect();
    out.sort();
    out
}

async fn agree(users: &[&User], room: &str) {
    until("all have the same state", async || {
        let first = whole_state(users[0], room).await;
        for user in &users[1..] {
            if whole_state(user, room).await != first {
                return None;
            }
        }
        Some(())
    })
    .await;
}

/// Servers by lines, with somebody of each in a public room of the first one's.
async fn company<const N: usize>(version: &str) -> ([(Server, Line); N], Vec<User>, String) {
    let servers = federate_by_lines::<N>().await;
    let mut users = Vec::new();
    for (number, (server, _)) in servers.iter().enumerate() {
        users.push(server.register(["alice", "bob", "carol"][number]).await);
    }
    let room = users[0].create_room(json!({"preset": "public_chat", "room_version": version})).await;
    for user in &users[1..] {
        join(user, &room, &servers[0].0).await;
    }
    for user in &users {
        for other in &users {
            is_joined(user, &room, other).await;
        }
    }
    (servers, users, room)
}

/// That one server's log says that it can't tell another one something.
async fn complains(server: &Server, of: &Server) {
    let line = format!("can't tell {} what happened", of.name);
    until(&line, async || server.log().contains(&line).then_some(())).await;
}

fn numbers(of: std::ops::Range<usize>) -> impl Iterator<Item = String> {
    of.map(|number| format!("message {number}"))
}

/// Both who is told and who tells are killed while a transaction is on its way between them.
#[tokio::test]
async fn who_is_killed_in_the_middle_of_a_transaction_is_told_all_of_it_once() {
    let ([(mut one, _to_one), (mut two, line)], users, room) = company::<2>("11").await;
    let [alice, bob] = &users[..] else { panic!("two people") };
    let mut all = Vec::new();
    for round in 0..2 {
        line.slows();
        let before = line.carried();
        for text in numbers(round * 40..(round + 1) * 40) {
            alice.say(&room, &text).await;
            all.push(text);
        }
        // A handshake and the beginning of what is told, of which there is more.
        until("something is on its way", async || (line.carried() > before + 8_000).then_some(())).await;
        match round {
            0 => {
                two.kill9().await;
                complains(&one, &two).await;
                line.mend();
                two.resume().await;
            }
            _ => {
                one.kill9().await;
                line.mend();
                one.resume().await;
            }
        }
        hears_after(bob, &room, &all[all.len() - 1], alice).await;
        assert_eq!(said(bob, &room).await, all, "in order and once");
    }
}

/// What people on both sides of a network that is cut do: they change the same state, somebody on one side also who
/// may do so. The power levels that hold afterwards.
async fn go_on_apart(users: &[User], room: &str, levels: &Value) -> Value {
    let [alice, bob, carol] = users else { panic!("three people") };
    bob.set_state(room, "m.room.name", "", json!({"name": "bob's"})).await;
    carol.set_state(room, "m.room.name", "", json!({"name": "carol's"})).await;
    let (mut without, mut own) = (levels.clone(), levels.clone());
    without["users"][&carol.id] = json!(0);
    own["kick"] = json!(40);
    alice.set_state(room, "m.room.power_levels", "", without.clone()).await;
    carol.set_state(room, "m.room.topic", "", json!({"topic": "carol's"})).await;
    carol.set_state(room, "m.room.power_levels", "", own).await;
    bob.set_state(room, "m.room.topic", "", json!({"topic": "bob's"})).await;
    for (user, text) in [(alice, "from alice"), (bob, "from bob"), (carol, "from carol")] {
        user.say(room, text).await;
    }
    without
}

/// A network that falls into two halves, of which each goes on: two servers on one side, one on the other, all of
/// which run all the time and change the same things.
#[tokio::test]
async fn halves_of_a_network_that_changed_the_same_things_agree_afterwards() {
    for version in ["10", "12"] {
        let ([(one, to_one), (two, to_two), (three, to_three)], users, room) = company::<3>(version).await;
        let [alice, bob, carol] = &users[..] else { panic!("three people") };
        let mut levels = state(alice, &room, "m.room.power_levels").await;
        levels["users"][&bob.id] = json!(50);
        levels["users"][&carol.id] = json!(50);
        levels["events"]["m.room.power_levels"] = json!(50);
        alice.set_state(&room, "m.room.power_levels", "", levels.clone()).await;
        agree(&[alice, bob, carol], &room).await;
        to_three.cut(&[&one, &two]);
        to_one.cut(&[&three]);
        to_two.cut(&[&three]);
        let without = go_on_apart(&users, &room, &levels).await;
        // Each half goes on by itself, and knows whom it can't reach.
        hears(bob, &room, "from alice").await;
        hears(alice, &room, "from bob").await;
        complains(&one, &three).await;
        complains(&three, &one).await;
        assert!(!said(carol, &room).await.iter().any(|text| text.starts_with("from a")), "they are apart");
        assert_eq!(state(carol, &room, "m.room.name").await["name"], "carol's");
        assert_eq!(state(alice, &room, "m.room.name").await["name"], "bob's");
        [&to_one, &to_two, &to_three].into_iter().for_each(Line::mend);
        for user in [alice, bob] {
            hears_after(user, &room, "from carol", carol).await;
        }
        hears_after(carol, &room, "from alice", alice).await;
        hears_after(carol, &room, "from bob", bob).await;
        agree(&[alice, bob, carol], &room).await;
        for (speaker, text) in [(alice, "together"), (bob, "again"), (carol, "at last")] {
            speaker.say(&room, text).await;
            for user in &users {
                hears(user, &room, text).await;
            }
        }
        agree(&[alice, bob, carol], &room).await;
        // Who has the greater power decides who may: what carol did meanwhile is undone, and stays undone.
        for user in &users {
            assert_eq!(state(user, &room, "m.room.power_levels").await, without, "{version}: {}", user.id);
            assert_eq!(state(user, &room, "m.room.topic").await["topic"], "bob's", "{version}: {}", user.id);
            assert_eq!(state(user, &room, "m.room.name").await["name"], "bob's", "{version}: {}", user.id);
            let heard = said(user, &room).await;
            for text in ["from alice", "from bob", "from carol", "together", "again", "at last"] {
                assert_eq!(heard.iter().filter(|said| *said == text).count(), 1, "{text} in {heard:?}");
            }
        }
    }
}

/// A server that takes connections and what is said on them, and never answers, as one whose machine hangs.
#[tokio::test]
async fn a_server_that_hangs_holds_up_nobody_and_misses_nothing() {
    let ([(one, _to_one), (two, _to_two), (_three, _to_three)], users, room) = company::<3>("11").await;
    let [alice, bob, carol] = &users[..] else { panic!("three people") };
    two.signal("STOP");
    let (began, memory) = (Instant::now(), one.own_memory());
    let all: Vec<String> = numbers(0..60).collect();
    for text in &all {
        alice.say(&room, text).await;
    }
    assert!(began.elapsed() < Duration::from_secs(20), "who speaks waits for nobody: {:?}", began.elapsed());
    until("carol hears all of it", async || (said(carol, &room).await == all).then_some(())).await;
    // Nor does whoever wants something of it wait for ever, or anybody else with them.
    let path = format!("/_matrix/client/v3/profile/{}", encode(&bob.id));
    _ = tokio::time::timeout(Duration::from_secs(2), alice.get(&path)).await;
    let asked = Instant::now();
    alice.get(&format!("/_matrix/client/v3/profile/{}", encode(&carol.id))).await.ok();
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    assert!(one.own_memory() < memory + (32 << 20), "{} bytes more", one.own_memory().saturating_sub(memory));
    two.signal("CONT");
    hears_after(bob, &room, &all[59], alice).await;
    assert_eq!(said(bob, &room).await, all, "in order and once");
}

/// A line that goes dead without a word: neither side is told, and what is said over it comes to nobody. Once there
/// is a way again it is found, though the old connections are still open.
#[tokio::test]
async fn a_line_that_goes_dead_is_noticed_and_left() {
    let ([(one, _to_one), (two, line), (_three, _to_three)], users, room) = company::<3>("11").await;
    let [alice, bob, carol] = &users[..] else { panic!("three people") };
    alice.say(&room, "first").await;
    hears(bob, &room, "first").await;
    line.dies();
    let all: Vec<String> = std::iter::once("first".to_owned()).chain(numbers(0..20)).collect();
    for text in &all[1..] {
        alice.say(&room, text).await;
    }
    until("carol hears all of it", async || (said(carol, &room).await == all).then_some(())).await;
    // There is a way again, for who calls anew.
    line.mend();
    hears_late(bob, &room, &all).await;
    complains(&one, &two).await;
}

/// A line on which little comes at a time: who is at the end of it hears all, only later, and nobody else waits.
#[tokio::test]
async fn a_slow_line_is_slow_for_who_is_at_the_end_of_it_alone() {
    let ([(_one, _to_one), (_two, line), (_three, _to_three)], users, room) = company::<3>("11").await;
    let [alice, bob, carol] = &users[..] else { panic!("three people") };
    line.slows();
    let all: Vec<String> = numbers(0..120).collect();
    let began = Instant::now();
    for text in &all {
        alice.say(&room, text).await;
    }
    assert!(began.elapsed() < Duration::from_secs(30), "who speaks waits for nobody: {:?}", began.elapsed());
    until("carol hears all of it", async || (said(carol, &room).await == all).then_some(())).await;
    hears_late(bob, &room, &all).await;
}

/// Of the servers in a room one tells its members a byte at a time: it is left, and another one asked.
#[tokio::test]
async fn a_server_that_tells_a_room_a_byte_at_a_time_is_left_for_another() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"pdus\":[";
    is_left_for_another(Says::Trickle(head.as_bytes().to_vec()), "too slowly").await;
}

/// The same for one that is asked and says nothing.
#[tokio::test]
async fn a_server_that_says_nothing_of_a_room_is_left_for_another() {
    is_left_for_another(Says::Silence, "says nothing").await;
}

/// A room becomes whole by another server than the one by which it was entered, as that one says so.
async fn is_left_for_another(says: Says, why: &str) {
    let (server, crowd, other) = tokio::join!(federated("", ""), Crowd::gather(12), Peer::start());
    let (bob, room) = (server.register("bob").await, &crowd.room);
    let state = format!("/_matrix/federation/v1/state/{room}");
    crowd.tells_else(says);
    other.says(&state, Says::Json(200, crowd.whole()));
    let answer = json!({"members_omitted": true, "servers_in_room": [crowd.peer.name(), other.name()],
                        "state": crowd.state, "auth_chain": [crowd.members[0]]});
    crowd.peer.says(&format!("/_matrix/federation/v2/send_join/{room}"), Says::Json(200, answer));
    let path = format!("/_matrix/client/v3/join/{}?via={}", encode(room), encode(crowd.peer.name()));
    bob.post(&path, json!({})).await.ok();
    bob.say(room, "here I am").await;
    let members = until("all members are known", async || {
        let answer = bob.get(&in_room(room, "joined_members")).await;
        (answer.status == 200).then_some(answer.body["joined"].clone())
    })
    .await;
    assert_eq!(members.as_object().map(serde_json::Map::len), Some(13));
    assert_eq!((crowd.peer.asked(&state).len(), other.asked(&state).len()), (1, 1));
    let line = format!("{} does not tell the members of {room}", crowd.peer.name());
    assert!(server.log().lines().any(|said| said.contains(&line) && said.contains(why)), "it is said why");
}

/// The same for who takes a join in and tells the room a byte at a time: whoever comes in does so by another one.
#[tokio::test]
async fn a_server_that_lets_somebody_in_a_byte_at_a_time_is_left_for_another() {
    let (server, crowd, slow) = tokio::join!(federated("", ""), Crowd::gather(5), Peer::start());
    let (bob, room) = (server.register("bob").await, &crowd.room);
    let asked = crowd.template(&bob.id);
    slow.says(&format!("/_matrix/federation/v1/make_join/{room}"), Says::Json(200, asked));
    let path = format!("/_matrix/federation/v2/send_join/{room}");
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"state\":[";
    slow.says(&path, Says::Trickle(head.as_bytes().to_vec()));
    let began = Instant::now();
    let join = format!(
        "/_matrix/client/v3/join/{}?via={}&via={}",
        encode(room),
        encode(slow.name()),
        encode(crowd.peer.name())
    );
    bob.post(&join, json!({})).await.ok();
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert_eq!((slow.asked(&path).len(), crowd.peer.asked(&path).len()), (1, 1));
    bob.say(room, "here at last").await;
}
