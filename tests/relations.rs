//! Edits, reactions, threads and references, as their readers find them.

use serde_json::{Value, json};

use crate::common::{Server, User, encode, in_room};

async fn pair(server: &Server) -> (User, User, String) {
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = alice.create_room(json!({"preset": "public_chat"})).await;
    bob.join(&room).await;
    (alice, bob, room)
}

fn related(rel_type: &str, parent: &str, body: &str) -> Value {
    json!({"msgtype": "m.text", "body": body, "m.relates_to": {"rel_type": rel_type, "event_id": parent}})
}

impl User {
    async fn reply_in(&self, room: &str, root: &str, body: &str) -> String {
        self.send(room, "m.room.message", related("m.thread", root, body)).await
    }

    async fn edit(&self, room: &str, event: &str, body: &str) -> String {
        let mut content = related("m.replace", event, &format!("* {body}"));
        content["m.new_content"] = json!({"msgtype": "m.text", "body": body});
        self.send(room, "m.room.message", content).await
    }

    async fn react(&self, room: &str, event: &str, key: &str) -> String {
        let relation = json!({"rel_type": "m.annotation", "event_id": event, "key": key});
        self.send(room, "m.reaction", json!({"m.relates_to": relation})).await
    }

    async fn redact(&self, room: &str, event: &str) {
        let path = in_room(room, &format!("redact/{event}/{}", crate::common::transaction()));
        self.put(&path, json!({})).await.ok();
    }

    async fn event(&self, room: &str, event: &str) -> Value {
        self.get(&in_room(room, &format!("event/{event}"))).await.ok()
    }

    /// What is bundled with an event.
    async fn bundle(&self, room: &str, event: &str) -> Value {
        self.event(room, event).await["unsigned"]["m.relations"].clone()
    }

    async fn relations(&self, room: &str, rest: &str) -> Value {
        self.get(&format!("/_matrix/client/v1/rooms/{}/relations/{rest}", encode(room))).await.ok()
    }

    async fn threads(&self, room: &str, query: &str) -> Value {
        self.get(&format!("/_matrix/client/v1/rooms/{}/threads{query}", encode(room))).await.ok()
    }

    async fn ignore(&self, other: &User) {
        let path = format!("/_matrix/client/v3/user/{}/account_data/m.ignored_user_list", encode(&self.id));
        self.put(&path, json!({"ignored_users": {(&*other.id): {}}})).await.ok();
    }
}

fn ids(page: &Value) -> Vec<&str> {
    let events = page["chunk"].as_array().expect("a chunk");
    events.iter().filter_map(|event| event["event_id"].as_str()).collect()
}

#[tokio::test]
async fn a_thread_is_summed_up_at_its_first_event_wherever_that_is_shown() {
    let server = Server::start().await;
    let (alice, bob, room) = pair(&server).await;
    let root = alice.say(&room, "who comes?").await;
    bob.reply_in(&room, &root, "me").await;
    let last = alice.reply_in(&room, &root, "fine").await;
    alice.edit(&room, &last, "great").await;
    for shown in [
        bob.event(&room, &root).await,
        bob.get(&in_room(&room, "messages?dir=b&limit=100")).await.ok()["chunk"].clone(),
        bob.get(&in_room(&room, &format!("context/{root}"))).await.ok()["event"].clone(),
        bob.threads(&room, "").await["chunk"].clone(),
        bob.sync(None, 0).await["rooms"]["join"][&room]["timeline"]["events"].clone(),
    ] {
        let of = |event: &Value| event["event_id"] == json!(root);
        let event = match &shown {
            Value::Array(events) => events.iter().find(|event| of(event)).expect("shown").clone(),
            event => event.clone(),
        };
        let thread = &event["unsigned"]["m.relations"]["m.thread"];
        assert_eq!((&thread["count"], &thread["current_user_participated"]), (&json!(2), &json!(true)), "{event}");
        assert_eq!(thread["latest_event"]["event_id"], json!(last));
        let edit = &thread["latest_event"]["unsigned"]["m.relations"]["m.replace"];
        assert_eq!(edit["content"]["m.new_content"]["body"], "great", "{thread}");
    }
    let carol = server.register("carol").await;
    carol.join(&room).await;
    let thread = carol.bundle(&room, &root).await["m.thread"].clone();
    assert_eq!((&thread["count"], &thread["current_user_participated"]), (&json!(2), &json!(false)), "{thread}");
}

#[tokio::test]
async fn what_is_redacted_is_in_no_relation_any_more() {
    let server = Server::start().await;
    let (alice, bob, room) = pair(&server).await;
    let root = alice.say(&room, "root").await;
    let one = bob.reply_in(&room, &root, "one").await;
    let two = bob.reply_in(&room, &root, "two").await;
    let like = bob.react(&room, &one, "👍").await;
    bob.redact(&room, &two).await;
    let thread = bob.bundle(&room, &root).await["m.thread"].clone();
    assert_eq!((&thread["count"], &thread["latest_event"]["event_id"]), (&json!(1), &json!(one)), "{thread}");
    assert_eq!(ids(&bob.relations(&room, &format!("{root}?recurse=true")).await), [&like, &one]);
    bob.redact(&room, &one).await;
    assert_eq!(bob.bundle(&room, &root).await, Value::Null);
    assert!(ids(&bob.threads(&room, "").await).is_empty());
    // The reaction led to the thread by way of a message that is gone.
    assert!(ids(&bob.relations(&room, &format!("{root}?recurse=true")).await).is_empty());
    assert_eq!(ids(&bob.relations(&room, &one).await), [&like], "what relates to a redacted event stays");
    // A first event that is gone still has its thread.
    let three = bob.reply_in(&room, &root, "three").await;
    alice.redact(&room, &root).await;
    let thread = alice.bundle(&room, &root).await["m.thread"].clone();
    assert_eq!((&thread["count"], &thread["latest_event"]["event_id"]), (&json!(1), &json!(three)), "{thread}");
    let edited = alice.say(&room, "secert").await;
    let edit = alice.edit(&room, &edited, "secret").await;
    assert_eq!(alice.bundle(&room, &edited).await["m.replace"]["event_id"], json!(edit));
    alice.redact(&room, &edit).await;
    assert_eq!(alice.bundle(&room, &edited).await, Value::Null);
}

#[tokio::test]
async fn relations_are_paged_both_ways_and_by_type() {
    let server = Server::start().await;
    let (alice, bob, room) = pair(&server).await;
    let root = alice.say(&room, "root").await;
    let mut sent = Vec::new();
    for n in 0..5 {
        sent.push(bob.reply_in(&room, &root, &n.to_string()).await);
        bob.react(&room, &sent[n], "👍").await;
    }
    let like = bob.react(&room, &root, "👍").await;
    bob.edit(&room, &root, "not his to change").await;
    assert_eq!(bob.bundle(&room, &root).await["m.replace"], Value::Null, "only its sender edits a message");
    for backward in [true, false] {
        let (mut from, mut seen) = (String::new(), Vec::new());
        loop {
            let dir = if backward { "b" } else { "f" };
            let page = bob.relations(&room, &format!("{root}/m.thread?limit=2&dir={dir}{from}")).await;
            seen.extend(ids(&page).into_iter().map(str::to_owned));
            match page["next_batch"].as_str() {
                Some(next) => from = format!("&from={next}"),
                None => break,
            }
        }
        if backward {
            seen.reverse();
        }
        assert_eq!(seen, sent);
    }
    let reactions = bob.relations(&room, &format!("{root}/m.annotation/m.reaction")).await;
    assert_eq!(ids(&reactions), [&like]);
    assert!(ids(&bob.relations(&room, &format!("{root}/m.annotation/m.room.message")).await).is_empty());
    let direct = bob.relations(&room, &format!("{root}?limit=100")).await;
    assert_eq!(ids(&direct).len(), 7);
    assert_eq!(direct["recursion_depth"], Value::Null);
    let all = bob.relations(&room, &format!("{root}?limit=100&recurse=true")).await;
    assert_eq!((ids(&all).len(), &all["recursion_depth"]), (12, &json!(3)));
    let deep = bob.relations(&room, &format!("{root}/m.annotation?recurse=true&dir=f")).await;
    assert_eq!(ids(&deep).len(), 6);
    let some = bob.sync(None, 0).await;
    let now = some["next_batch"].as_str().expect("a token");
    alice.reply_in(&room, &root, "after").await;
    let before = bob.relations(&room, &format!("{root}/m.thread?from={}&limit=1", encode(now))).await;
    assert_eq!(ids(&before), [&sent[4]], "tokens of syncs are good here");
    bob.get(&format!("/_matrix/client/v1/rooms/{room}/relations/{root}?from=nonsense"))
        .await
        .fails(400, "M_INVALID_PARAM");
    bob.get(&format!("/_matrix/client/v1/rooms/{room}/relations/$none")).await.fails(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn nobody_learns_by_relations_what_they_may_not_see() {
    let server = Server::start().await;
    let (alice, bob, room) = pair(&server).await;
    alice.set_state(&room, "m.room.history_visibility", "", json!({"history_visibility": "joined"})).await;
    let root = alice.say(&room, "root").await;
    let seen = alice.reply_in(&room, &root, "while bob is here").await;
    bob.leave(&room).await;
    alice.reply_in(&room, &root, "behind his back").await;
    alice.edit(&room, &root, "changed").await;
    bob.join(&room).await;
    let bundle = bob.bundle(&room, &root).await;
    assert_eq!(bundle["m.replace"], Value::Null, "{bundle}");
    assert_eq!(
        (&bundle["m.thread"]["count"], &bundle["m.thread"]["latest_event"]["event_id"]),
        (&json!(1), &json!(seen))
    );
    assert_eq!(ids(&bob.relations(&room, &format!("{root}?recurse=true")).await), [&seen]);
    let eve = server.register("eve").await;
    eve.get(&format!("/_matrix/client/v1/rooms/{room}/relations/{root}")).await.fails(404, "M_NOT_FOUND");
    eve.get(&format!("/_matrix/client/v1/rooms/{room}/threads")).await.fails(403, "M_FORBIDDEN");
    eve.join(&room).await;
    assert!(ids(&eve.threads(&room, "").await).is_empty(), "she sees neither the first event nor any other");
}

#[tokio::test]
async fn threads_are_listed_by_what_was_said_last() {
    let server = Server::start().await;
    let (alice, bob, room) = pair(&server).await;
    let mut roots = Vec::new();
    for n in 0..4 {
        let root = alice.say(&room, &format!("root {n}")).await;
        alice.reply_in(&room, &root, "first").await;
        roots.push(root);
    }
    bob.reply_in(&room, &roots[1], "bump").await;
    assert_eq!(ids(&bob.threads(&room, "").await), [&roots[1], &roots[3], &roots[2], &roots[0]]);
    assert_eq!(ids(&bob.threads(&room, "?include=participated").await), [&roots[1]]);
    let page = bob.threads(&room, "?limit=3").await;
    let next = page["next_batch"].as_str().expect("there is more");
    let rest = bob.threads(&room, &format!("?limit=3&from={next}")).await;
    assert_eq!((ids(&rest), &rest["next_batch"]), (vec![&*roots[0]], &Value::Null));
    bob.get(&format!("/_matrix/client/v1/rooms/{room}/threads?limit=0")).await.fails(400, "M_INVALID_PARAM");
    let reply = bob.reply_in(&room, &roots[0], "in a thread").await;
    let path = in_room(&room, "send/m.room.message/tx");
    bob.put(&path, related("m.thread", &reply, "a thread in a thread")).await.fails(400, "M_UNKNOWN");
}

#[tokio::test]
async fn whom_one_ignores_says_nothing_in_threads_either() {
    let server = Server::start().await;
    let (alice, bob, room) = pair(&server).await;
    let root = alice.say(&room, "root").await;
    let kept = alice.reply_in(&room, &root, "kept").await;
    let rude = bob.reply_in(&room, &root, "rude").await;
    let his = bob.say(&room, "bob's").await;
    alice.reply_in(&room, &his, "answer").await;
    alice.ignore(&bob).await;
    let thread = alice.bundle(&room, &root).await["m.thread"].clone();
    assert_eq!((&thread["count"], &thread["latest_event"]["event_id"]), (&json!(1), &json!(kept)), "{thread}");
    assert_eq!(ids(&alice.relations(&room, &root).await), [&kept]);
    let page = alice.get(&in_room(&room, "messages?dir=b&limit=100")).await.ok();
    assert!(!ids(&page).contains(&&*rude) && !ids(&page).contains(&&*his));
    let threads = alice.threads(&room, "").await;
    let event = threads["chunk"].as_array().expect("a list").iter().find(|event| event["event_id"] == json!(his));
    assert_eq!(event.expect("listed, as she answered there")["content"], json!({}), "its first event is emptied");
    assert_eq!(bob.event(&room, &his).await["content"]["body"], "bob's", "for her alone");
}

#[tokio::test]
async fn references_are_bundled_as_ids() {
    let server = Server::start().await;
    let (alice, bob, room) = pair(&server).await;
    let event = alice.say(&room, "verify me").await;
    let one = bob
        .send(&room, "com.example.step", json!({"m.relates_to": {"rel_type": "m.reference", "event_id": event}}))
        .await;
    let two = alice
        .send(&room, "com.example.step", json!({"m.relates_to": {"rel_type": "m.reference", "event_id": event}}))
        .await;
    let bundle = alice.bundle(&room, &event).await;
    assert_eq!(bundle["m.reference"]["chunk"], json!([{"event_id": one}, {"event_id": two}]));
    let other = alice.create_room(json!({})).await;
    alice
        .send(&other, "com.example.step", json!({"m.relates_to": {"rel_type": "m.reference", "event_id": event}}))
        .await;
    assert_eq!(alice.bundle(&room, &event).await["m.reference"]["chunk"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn unread_counts_and_receipts_are_kept_by_thread() {
    let server = Server::start().await;
    let (alice, bob, room) = pair(&server).await;
    let root = alice.say(&room, "root").await;
    let filter = json!({"room": {"timeline": {"unread_thread_notifications": true}}}).to_string();
    let counts = async |bob: &User| {
        let path = format!("/_matrix/client/v3/sync?timeout=0&filter={}", encode(&filter));
        let room = bob.get(&path).await.ok()["rooms"]["join"][&room].clone();
        let threads = room["unread_thread_notifications"].clone();
        (room["unread_notifications"]["notification_count"].clone(), threads)
    };
    let first = alice.reply_in(&room, &root, "in the thread").await;
    let second = alice.reply_in(&room, &root, "and again").await;
    alice.say(&room, "beside it").await;
    let (main, threads) = counts(&bob).await;
    assert_eq!((main, &threads[&root]["notification_count"]), (json!(2), &json!(2)), "{threads}");
    let read = async |event: &str, thread: &str| {
        let path = in_room(&room, &format!("receipt/m.read/{event}"));
        bob.post(&path, json!({"thread_id": thread})).await
    };
    read(&first, &root).await.ok();
    let (main, threads) = counts(&bob).await;
    assert_eq!((main, &threads[&root]["notification_count"]), (json!(2), &json!(1)), "{threads}");
    read(&second, &root).await.ok();
    read(&root, "main").await.ok();
    let (main, threads) = counts(&bob).await;
    assert_eq!((main, threads), (json!(1), Value::Null));
    read(&second, "main").await.fails(400, "M_INVALID_PARAM");
}
