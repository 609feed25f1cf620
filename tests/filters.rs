//! Filters: what a filtered answer tells is what a filter leaves of the whole one, whatever the filter.

use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};

use crate::common::{Server, User, encode, in_room, until};

/// Filters that are tried.
const FILTERS: usize = 60;

/// Rooms and people with something of everything that filters speak of.
struct World {
    _server: Server,
    people: [User; 3],
    rooms: [String; 3],
    /// What alice is told without a filter.
    whole: Value,
}

impl World {
    async fn new() -> Self {
        let server = Server::start().await;
        let people = [server.register("alice").await, server.register("bob").await, server.register("carol").await];
        let mut rooms = Vec::new();
        for number in 0..3 {
            let room = people[0].create_room(json!({"preset": "public_chat", "name": format!("room {number}")})).await;
            for person in &people[1..] {
                person.join(&room).await;
            }
            fill(&people, &room).await;
            rooms.push(room);
        }
        let [alice, bob, carol] = &people;
        for other in [bob, carol] {
            other.sync(None, 0).await;
        }
        let own = format!("/_matrix/client/v3/user/{}", encode(&alice.id));
        for kind in ["x.own", "m.own", "x.url"] {
            let content = if kind == "x.url" { json!({"url": 1}) } else { json!({"a": 1}) };
            alice.put(&format!("{own}/account_data/{kind}"), content.clone()).await.ok();
            for room in &rooms[..2] {
                alice.put(&format!("{own}/rooms/{}/account_data/{kind}", encode(room)), content.clone()).await.ok();
            }
        }
        let whole = until("everybody's presence", async || {
            let told = whole(alice).await;
            (list(&told["presence"]["events"]).len() == 3).then_some(told)
        })
        .await;
        let rooms = rooms.try_into().expect("three rooms");
        Self { _server: server, people, rooms, whole }
    }
}

async fn fill(people: &[User], room: &str) {
    let [alice, bob, carol] = people else { unreachable!("three people") };
    let mut last = String::new();
    for (number, person) in [alice, bob, carol, bob].into_iter().enumerate() {
        for (kind, content) in [
            ("m.room.message", json!({"msgtype": "m.text", "body": format!("message {number}")})),
            ("m.room.message", json!({"msgtype": "m.image", "body": "picture", "url": "mxc://localhost/a"})),
            ("x.plain.thing", json!({"a": number})),
            ("x.link", json!({"url": number})),
        ] {
            last = person.send(room, kind, content).await;
        }
        let thread = json!({"rel_type": "m.thread", "event_id": last});
        carol.send(room, "m.room.message", json!({"msgtype": "m.text", "body": "x", "m.relates_to": thread})).await;
        let like = json!({"rel_type": "m.annotation", "event_id": last, "key": "+"});
        bob.send(room, "m.reaction", json!({"m.relates_to": like})).await;
    }
    bob.put(&in_room(room, "state/x.state/key"), json!({"a": 1, "url": "b"})).await.fails(403, "M_FORBIDDEN");
    alice.put(&in_room(room, "state/x.state/key"), json!({"a": 1, "url": "b"})).await.ok();
    bob.post(&in_room(room, &format!("receipt/m.read/{}", encode(&last))), json!({})).await.ok();
}

async fn whole(user: &User) -> Value {
    told(user, &json!({"room": {"timeline": {"limit": 100}}})).await
}

async fn told(user: &User, filter: &Value) -> Value {
    let filter = encode(&filter.to_string());
    user.get(&format!("/_matrix/client/v3/sync?use_state_after=true&filter={filter}")).await.ok()
}

/// Any filter of events that speaks of what there is.
fn events(people: &[String], rooms: &[String]) -> impl Strategy<Value = Value> + use<> {
    let types = ["*", "m.*", "m.room.*", "x.*", "m.room.message", "*.thing", "x.*.thing", "m.receipt", "*own", "no"];
    let some = |from: Vec<String>| {
        let most = from.len().min(3);
        proptest::option::weighted(0.25, proptest::sample::subsequence(from, 0..=most))
    };
    let types: Vec<String> = types.map(str::to_owned).into();
    let relations: Vec<String> = ["m.thread", "m.annotation", "no"].map(str::to_owned).into();
    let lists = (
        some(types.clone()),
        some(types),
        some(people.to_vec()),
        some(people.to_vec()),
        some(rooms.to_vec()),
        some(rooms.to_vec()),
        some(relations.clone()),
        some(relations),
    );
    (lists, proptest::option::weighted(0.25, any::<bool>())).prop_map(|(lists, url)| {
        let mut filter = json!({});
        let names = ["types", "not_types", "senders", "not_senders", "rooms", "not_rooms"];
        let (types, not_types, senders, not_senders, rooms, not_rooms, rel_types, not_rel_types) = lists;
        let lists = [types, not_types, senders, not_senders, rooms, not_rooms, rel_types, not_rel_types];
        let names = names.into_iter().chain(["org.matrix.msc3874.rel_types", "org.matrix.msc3874.not_rel_types"]);
        for (name, list) in names.zip(lists) {
            if let Some(list) = list {
                filter[name] = json!(list);
            }
        }
        if let Some(url) = url {
            filter["contains_url"] = json!(url);
        }
        filter
    })
}

fn filters(people: &[String], rooms: &[String]) -> impl Strategy<Value = Value> + use<> {
    let part = || events(people, rooms);
    let of_rooms = proptest::option::weighted(0.2, proptest::sample::subsequence(rooms.to_vec(), 0..=2));
    let not_rooms = proptest::option::weighted(0.2, proptest::sample::subsequence(rooms.to_vec(), 0..=1));
    (part(), part(), part(), part(), part(), part(), of_rooms, not_rooms).prop_map(
        |(presence, own, mut timeline, state, ephemeral, account_data, rooms, not_rooms)| {
            timeline["limit"] = json!(100);
            let mut room =
                json!({"timeline": timeline, "state": state, "ephemeral": ephemeral, "account_data": account_data});
            if let Some(rooms) = rooms {
                room["rooms"] = json!(rooms);
            }
            if let Some(rooms) = not_rooms {
                room["not_rooms"] = json!(rooms);
            }
            json!({"presence": presence, "account_data": own, "room": room})
        },
    )
}

/// Whether a filter leaves an event, said as plainly as the spec says it.
fn leaves(filter: &Value, room: Option<&str>, sender: Option<&str>, event: &Value) -> bool {
    let list = |name: &str| filter[name].as_array();
    let has = |list: &Vec<Value>, wanted: Option<&str>| list.iter().any(|item| item.as_str() == wanted);
    let kind = event["type"].as_str().expect("a type");
    let fits = |list: &Vec<Value>| list.iter().any(|pattern| glob(pattern.as_str().expect("text"), kind));
    let relation = event["content"]["m.relates_to"]["rel_type"].as_str();
    let within = |name: &str, not: &str, value: Option<&str>| {
        list(name).is_none_or(|list| value.is_some() && has(list, value))
            && !list(not).is_some_and(|list| value.is_some() && has(list, value))
    };
    list("types").is_none_or(fits)
        && !list("not_types").is_some_and(fits)
        && within("senders", "not_senders", sender)
        && room.is_none_or(|room| within("rooms", "not_rooms", Some(room)))
        && (room.is_none() || within("org.matrix.msc3874.rel_types", "org.matrix.msc3874.not_rel_types", relation))
        && filter["contains_url"].as_bool().is_none_or(|wanted| wanted == event["content"].get("url").is_some())
}

fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_at_checked(1) {
        None => text.is_empty(),
        Some(("*", rest)) => (0..=text.len()).any(|at| glob(rest, &text[at..])),
        Some((letter, rest)) => text.strip_prefix(letter).is_some_and(|text| glob(rest, text)),
    }
}

/// What stays the same from one answer to the next.
fn essence(event: &Value) -> Value {
    match event["type"].as_str() {
        Some("m.presence") => json!([event["type"], event["sender"]]),
        _ => json!([event["type"], event["event_id"], event["content"]]),
    }
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn ids(events: &[Value]) -> Vec<String> {
    events.iter().map(|event| event["event_id"].as_str().expect("an ID").to_owned()).collect()
}

#[track_caller]
fn same(name: &str, filter: &Value, told: &Value, whole: &Value, leaves: impl Fn(&Value) -> bool) {
    let told: Vec<Value> = list(told).iter().map(essence).collect();
    let expected: Vec<Value> = list(whole).iter().filter(|event| leaves(event)).map(essence).collect();
    assert_eq!(told, expected, "{name} with {filter}");
}

#[tokio::test]
async fn a_filtered_sync_is_what_the_filter_leaves_of_the_whole() {
    let World { _server, people, rooms, whole } = World::new().await;
    let alice = &people[0];
    let ids = people.each_ref().map(|person| person.id.clone());
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let any = filters(&ids, &rooms);
    for _ in 0..FILTERS {
        let filter = any.new_tree(&mut runner).expect("a filter").current();
        let told = told(alice, &filter).await;
        same("presence", &filter["presence"], &told["presence"]["events"], &whole["presence"]["events"], |event| {
            leaves(&filter["presence"], None, event["sender"].as_str(), event)
        });
        let own = |event: &Value| leaves(&filter["account_data"], None, Some(&alice.id), event);
        let part = |answer: &Value| answer["account_data"]["events"].clone();
        same("account data", &filter["account_data"], &part(&told), &part(&whole), own);
        for room in &rooms {
            let (one, all) = (&told["rooms"]["join"][room], &whole["rooms"]["join"][room]);
            let id = json!(room);
            let wanted = filter["room"]["rooms"].as_array().is_none_or(|rooms| rooms.contains(&id))
                && !filter["room"]["not_rooms"].as_array().is_some_and(|rooms| rooms.contains(&id));
            assert_eq!(one.is_object(), wanted, "{filter}");
            if !wanted {
                continue;
            }
            let of = &filter["room"];
            for (name, key) in [("timeline", "timeline"), ("state", "state_after")] {
                same(name, of, &one[key]["events"], &all[key]["events"], |event| {
                    leaves(&of[name], Some(room), event["sender"].as_str(), event)
                });
            }
            same("ephemeral", of, &one["ephemeral"]["events"], &all["ephemeral"]["events"], |event| {
                let mut of = of["ephemeral"].clone();
                // Relations are of events alone.
                let of = of.as_object_mut().expect("an object");
                of.retain(|name, _| !name.contains("msc3874"));
                leaves(&json!(of), Some(room), None, event)
            });
            same("account data", of, &one["account_data"]["events"], &all["account_data"]["events"], |event| {
                let mut of = of["account_data"].clone();
                let of = of.as_object_mut().expect("an object");
                of.retain(|name, _| !name.contains("msc3874"));
                leaves(&json!(of), Some(room), Some(&alice.id), event)
            });
        }
    }
}

#[tokio::test]
async fn history_is_filtered_too() {
    let World { _server, people, rooms, whole } = World::new().await;
    let [alice, bob, _] = &people;
    let room = &rooms[0];
    let timeline = list(&whole["rooms"]["join"][room]["timeline"]["events"]);
    let messages = async |filter: Value| {
        let filter = encode(&filter.to_string());
        let page = alice.get(&in_room(room, &format!("messages?dir=b&limit=100&filter={filter}"))).await.ok();
        let mut found = ids(&list(&page["chunk"]));
        found.reverse();
        found
    };
    for filter in [
        json!({}),
        json!({"types": ["x.*"]}),
        json!({"not_types": ["m.*"], "senders": [bob.id]}),
        json!({"contains_url": true}),
        json!({"org.matrix.msc3874.not_rel_types": ["m.thread"], "types": ["m.room.message"]}),
        json!({"rel_types": ["m.annotation"]}),
        json!({"not_rooms": [room]}),
    ] {
        let expected = timeline.iter().filter(|event| {
            let relation = event["content"]["m.relates_to"]["rel_type"].as_str();
            leaves(&filter, Some(room), event["sender"].as_str(), event)
                && (filter.get("rel_types").is_none() || relation == Some("m.annotation"))
        });
        assert_eq!(messages(filter.clone()).await, ids(&expected.cloned().collect::<Vec<_>>()), "{filter}");
    }
    // What others have related something to.
    let parents = |kind: &str| {
        let relating = timeline.iter().filter(|event| event["content"]["m.relates_to"]["rel_type"] == kind);
        relating.map(|event| event["content"]["m.relates_to"]["event_id"].as_str().expect("an ID").to_owned()).collect()
    };
    let threads: Vec<String> = parents("m.thread");
    assert_eq!(threads.len(), 4);
    assert_eq!(messages(json!({"related_by_rel_types": ["m.thread"]})).await, threads);
    assert_eq!(messages(json!({"related_by_senders": [bob.id]})).await, parents("m.annotation"));
    let neither = json!({"related_by_senders": [alice.id], "related_by_rel_types": ["m.thread"]});
    assert!(messages(neither).await.is_empty());
    // The smaller of both limits counts.
    let page = alice.get(&in_room(room, "messages?dir=b&limit=50&filter=%7B%22limit%22%3A3%7D")).await.ok();
    assert_eq!(page["chunk"].as_array().map(Vec::len), Some(3));
    for bad in ["%7B", "%5B%5D", "%7B%22types%22%3A3%7D", "%7B%22rooms%22%3A%5B%22x%22%5D%7D"] {
        let refused = alice.get(&in_room(room, &format!("messages?dir=b&filter={bad}"))).await;
        assert_eq!(refused.status, 400, "{}", refused.body);
    }
}

#[tokio::test]
async fn surroundings_and_searches_are_filtered_too() {
    let World { _server, people, rooms, whole } = World::new().await;
    let [alice, bob, _] = &people;
    let room = &rooms[0];
    let timeline = list(&whole["rooms"]["join"][room]["timeline"]["events"]);
    // The event itself is shown whatever the filter says, and its surroundings and the state are not.
    let middle = ids(&timeline)[timeline.len() / 2].clone();
    let filter = encode(&json!({"types": ["x.link", "m.room.name"], "senders": [bob.id]}).to_string());
    let path = in_room(room, &format!("context/{}?limit=60&filter={filter}", encode(&middle)));
    let context = alice.get(&path).await.ok();
    assert_eq!(context["event"]["event_id"], middle);
    let around = [list(&context["events_before"]), list(&context["events_after"])].concat();
    assert!(!around.is_empty() && around.iter().all(|event| event["type"] == "x.link" && event["sender"] == bob.id));
    assert!(list(&context["state"]).is_empty(), "alice named the room");

    let search = json!({"search_categories": {"room_events": {
        "search_term": "message", "filter": {"senders": [bob.id], "rooms": rooms[..2]}, "order_by": "recent"}}});
    let found = alice.post("/_matrix/client/v3/search", search).await.ok();
    let results = list(&found["search_categories"]["room_events"]["results"]);
    assert_eq!(results.len(), 4);
    assert!(results.iter().all(|hit| hit["result"]["sender"] == bob.id && hit["result"]["room_id"] != rooms[2]));
}

#[tokio::test]
async fn events_are_told_in_the_form_and_with_the_parts_that_were_asked_for() {
    let server = Server::start().await;
    let alice = server.register("alice").await;
    let room = alice.create_room(json!({})).await;
    let id = alice.send(&room, "m.room.message", json!({"msgtype": "m.text", "body": "hello", "a.b": 1})).await;
    let last = async |filter: Value| {
        let told = told(&alice, &filter).await;
        list(&told["rooms"]["join"][&room]["timeline"]["events"]).pop().expect("an event")
    };
    let fields = json!({"event_fields": ["type", "content.body", "content.a\\.b", "event_id"]});
    assert_eq!(
        last(fields).await,
        json!({"type": "m.room.message", "content": {"body": "hello", "a.b": 1}, "event_id": id})
    );
    let federated = last(json!({"event_format": "federation"})).await;
    for name in ["auth_events", "prev_events", "hashes", "signatures", "depth", "room_id"] {
        assert!(!federated[name].is_null(), "no {name}: {federated}");
    }
    let bad = encode(&json!({"event_format": "other"}).to_string());
    alice.get(&format!("/_matrix/client/v3/sync?filter={bad}")).await.fails(400, "M_BAD_JSON");
}

/// Of many whose presence changed no more are told at once than are asked for, and the others at once after.
#[tokio::test]
async fn presence_is_told_in_parts_of_the_size_that_is_asked_for() {
    let server = Server::start().await;
    let alice = server.register("alice").await;
    let room = alice.create_room(json!({"preset": "public_chat"})).await;
    let mut people = Vec::new();
    for number in 0..5 {
        let user = server.register(&format!("person{number}")).await;
        user.join(&room).await;
        people.push(user);
    }
    let mut since = alice.now().await;
    for user in &people {
        let path = format!("/_matrix/client/v3/presence/{}/status", encode(&user.id));
        user.put(&path, json!({"presence": "unavailable", "status_msg": "told in parts"})).await.ok();
    }
    let filter = encode(&json!({"presence": {"limit": 2}, "room": {"rooms": []}}).to_string());
    let mut told = Vec::new();
    until("all of them", async || {
        let path = format!("/_matrix/client/v3/sync?timeout=0&since={since}&filter={filter}");
        let answer = alice.get(&path).await.ok();
        let events = list(&answer["presence"]["events"]);
        assert!(events.len() <= 2, "{answer}");
        told.extend(
            events
                .iter()
                .filter(|event| event["content"]["status_msg"] == "told in parts")
                .map(|event| event["sender"].as_str().expect("a sender").to_owned()),
        );
        answer["next_batch"].as_str().expect("a token").clone_into(&mut since);
        told.sort();
        told.dedup();
        people.iter().all(|user| told.contains(&user.id)).then_some(())
    })
    .await;
}

/// gomuks wants no presence of the rooms `*`, which is no room's ID.
#[tokio::test]
async fn what_a_filter_says_of_rooms_means_nothing_outside_of_them() {
    let server = Server::start().await;
    let alice = server.register("alice").await;
    let path = format!("/_matrix/client/v3/user/{}/filter", encode(&alice.id));
    let wanted = json!({
        "presence": {"not_rooms": ["*"]},
        "account_data": {"rooms": ["none"], "types": ["m.push_rules"]},
        "room": {"state": {"lazy_load_members": true}, "timeline": {"limit": 100, "lazy_load_members": true}},
    });
    let id = alice.post(&path, wanted).await.ok()["filter_id"].as_str().expect("an ID").to_owned();
    let sync = alice.get(&format!("/_matrix/client/v3/sync?filter={id}")).await.ok();
    assert_eq!(sync["account_data"]["events"][0]["type"], "m.push_rules", "{sync}");
    alice.post(&path, json!({"room": {"not_rooms": ["*"]}})).await.fails(400, "M_BAD_JSON");
}
