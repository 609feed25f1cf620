//! Finding what was said, and people.

use serde_json::{Value, json};

use crate::common::{Server, User, encode, in_room, transaction};

impl User {
    async fn search(&self, criteria: Value) -> Value {
        self.search_from(criteria, "").await
    }

    async fn search_from(&self, criteria: Value, token: &str) -> Value {
        let query = if token.is_empty() { String::new() } else { format!("?next_batch={}", encode(token)) };
        let body = json!({"search_categories": {"room_events": criteria}});
        let answer = self.post(&format!("/_matrix/client/v3/search{query}"), body).await.ok();
        answer["search_categories"]["room_events"].clone()
    }

    /// The IDs of what a word finds, the newest first.
    async fn find(&self, term: &str) -> Vec<String> {
        ids(&self.search(json!({"search_term": term, "order_by": "recent"})).await)
    }

    async fn people(&self, term: &str) -> Vec<String> {
        let body = json!({"search_term": term, "limit": 50});
        let found = self.post("/_matrix/client/v3/user_directory/search", body).await.ok();
        let people = found["results"].as_array().expect("results").iter();
        people.map(|person| person["user_id"].as_str().expect("an ID").to_owned()).collect()
    }
}

fn ids(found: &Value) -> Vec<String> {
    let results = found["results"].as_array().expect("results").iter();
    results.map(|result| result["result"]["event_id"].as_str().expect("an ID").to_owned()).collect()
}

async fn pair(server: &Server) -> (User, User, String) {
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = alice.create_room(json!({"preset": "public_chat", "name": "Kitchen table"})).await;
    bob.join(&room).await;
    (alice, bob, room)
}

#[tokio::test]
async fn what_was_said_is_found_in_every_form_and_script() {
    let server = Server::start().await;
    let (alice, bob, room) = pair(&server).await;
    let english = alice.say(&room, "We were running to the meeting").await;
    let korean = alice.say(&room, "내일 학교에서 만나요").await;
    let chinese = alice.say(&room, "我昨天去了东京大学").await;
    let japanese = alice.say(&room, "明日はラーメンを食べたい").await;
    assert_eq!(bob.find("run meetings").await, [english]);
    assert_eq!(bob.find("학교").await, [korean]);
    assert_eq!(bob.find("东京").await, [chinese]);
    assert_eq!(bob.find("ラーメン").await, [japanese]);
    assert!(bob.find("walking").await.is_empty());
    assert!(bob.find("!?").await.is_empty());
    let found = bob.search(json!({"search_term": "runs"})).await;
    assert_eq!((&found["count"], &found["highlights"]), (&json!(1), &json!(["running"])));
    let named = bob.search(json!({"search_term": "kitchen", "keys": ["content.name"]})).await;
    assert_eq!(named["results"][0]["result"]["type"], "m.room.name");
    assert_eq!(bob.search(json!({"search_term": "kitchen", "keys": ["content.body"]})).await["count"], 0);
    bob.post(
        "/_matrix/client/v3/search",
        json!({"search_categories": {"room_events": {"search_term": "x", "keys": ["content.x"]}}}),
    )
    .await
    .fails(400, "M_INVALID_PARAM");
    bob.post(
        "/_matrix/client/v3/search?next_batch=x",
        json!({"search_categories": {"room_events": {"search_term": "x"}}}),
    )
    .await
    .fails(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn only_what_one_may_see_is_found() {
    let server = Server::start().await;
    let (alice, bob, room) = pair(&server).await;
    alice.set_state(&room, "m.room.history_visibility", "", json!({"history_visibility": "joined"})).await;
    alice.say(&room, "apples before carol").await;
    let carol = server.register("carol").await;
    assert!(carol.find("apples").await.is_empty());
    carol.join(&room).await;
    let seen = alice.say(&room, "apples with carol").await;
    let found = carol.search(json!({"search_term": "apples", "order_by": "recent"})).await;
    assert_eq!((ids(&found), &found["count"]), (vec![seen.clone()], &json!(1)), "nor is it counted");
    carol.leave(&room).await;
    alice.say(&room, "apples behind her back").await;
    assert_eq!(carol.find("apples").await, [seen]);
    assert_eq!(bob.find("apples").await.len(), 3);
    let path = format!("/_matrix/client/v3/user/{}/account_data/m.ignored_user_list", bob.id);
    bob.put(&path, json!({"ignored_users": {(&*alice.id): {}}})).await.ok();
    assert!(bob.find("apples").await.is_empty(), "whom one ignores is not found");
    let secret = alice
        .create_room(json!({"initial_state": [
            {"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}
        ]}))
        .await;
    alice.say(&secret, "pears in the clear").await;
    assert!(alice.find("pears").await.is_empty(), "encrypted rooms are not indexed");
}

#[tokio::test]
async fn redactions_and_edits_take_words_away() {
    let server = Server::start().await;
    let (alice, bob, room) = pair(&server).await;
    let said = alice.say(&room, "bananas and cherries").await;
    assert_eq!(bob.find("bananas").await, std::slice::from_ref(&said));
    let edit = json!({
        "msgtype": "m.text", "body": "* plums and cherries",
        "m.new_content": {"msgtype": "m.text", "body": "plums and cherries"},
        "m.relates_to": {"rel_type": "m.replace", "event_id": said},
    });
    let edit = alice.send(&room, "m.room.message", edit).await;
    assert!(bob.find("bananas").await.is_empty());
    let found = bob.search(json!({"search_term": "plums cherries"})).await;
    assert_eq!(ids(&found), std::slice::from_ref(&said), "the message, as it is now");
    let bundled = &found["results"][0]["result"]["unsigned"]["m.relations"]["m.replace"];
    assert_eq!(bundled["event_id"], json!(edit));
    let redact = async |event: &str| {
        alice.put(&in_room(&room, &format!("redact/{event}/{}", transaction())), json!({})).await.ok();
    };
    redact(&edit).await;
    assert!(bob.find("plums").await.is_empty());
    assert_eq!(bob.find("bananas").await, std::slice::from_ref(&said), "it says again what it said first");
    redact(&said).await;
    assert!(bob.find("bananas").await.is_empty() && bob.find("cherries").await.is_empty());
}

#[tokio::test]
async fn results_are_ordered_paged_grouped_and_shown_with_what_was_around() {
    let mut server = Server::start().await;
    let (alice, bob, room) = pair(&server).await;
    let other = bob.create_room(json!({"preset": "public_chat"})).await;
    alice.join(&other).await;
    let mut said = Vec::new();
    for n in 0..6 {
        let (who, place) = if n % 2 == 0 { (&alice, &room) } else { (&bob, &other) };
        said.push(who.say(place, &format!("lemon number {n}")).await);
    }
    let best = alice.say(&room, "lemon lemon lemon").await;
    server.restart().await;
    said.push(best.clone());
    said.reverse();
    assert_eq!(bob.find("lemon").await, said);
    let ranked = bob.search(json!({"search_term": "lemon"})).await;
    assert_eq!(ids(&ranked)[0], best);
    for order in ["recent", "rank"] {
        let criteria = json!({"search_term": "lemon", "order_by": order, "filter": {"limit": 3},
            "groupings": {"group_by": [{"key": "room_id"}, {"key": "sender"}]}});
        let (mut token, mut seen, mut pages) = (String::new(), Vec::new(), 0);
        loop {
            let page = bob.search_from(criteria.clone(), &token).await;
            assert_eq!(page["count"], 7, "{order}");
            seen.extend(ids(&page));
            pages += 1;
            match page["next_batch"].as_str() {
                Some(next) => token = next.to_owned(),
                None => break,
            }
        }
        seen.sort();
        let mut all = said.clone();
        all.sort();
        assert_eq!((seen, pages), (all, 3), "{order}");
        let first = bob.search(criteria.clone()).await;
        let group = &first["groups"]["room_id"][&room];
        let rest = bob.search_from(criteria, group["next_batch"].as_str().expect("more of the room")).await;
        let begun = group["results"].as_array().expect("results").len();
        assert_eq!(begun + ids(&rest).len(), 4, "{order}: alice's four are all in this room");
    }
    let criteria = json!({"search_term": "number 2", "include_state": true,
        "event_context": {"before_limit": 1, "after_limit": 1, "include_profile": true}});
    let found = bob.search(criteria).await;
    let context = &found["results"][0]["context"];
    let body = |events: &str| context[events][0]["content"]["body"].clone();
    assert_eq!((body("events_before"), body("events_after")), (json!("lemon number 0"), json!("lemon number 4")));
    assert!(context["profile_info"].get(&alice.id).is_some(), "{context}");
    assert!(found["state"][&room].as_array().is_some_and(|state| !state.is_empty()));
    let only = bob.search(json!({"search_term": "lemon", "filter": {"rooms": [other]}})).await;
    assert_eq!(only["count"], 3);
}

#[tokio::test]
async fn people_are_found_by_name_and_by_id() {
    let server = Server::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let carol = server.register("carol").await;
    carol
        .put(&format!("/_matrix/client/v3/profile/{}/displayname", carol.id), json!({"displayname": "Alice in Chains"}))
        .await
        .ok();
    assert_eq!(bob.people("ali").await, [alice.id.clone(), carol.id.clone()]);
    assert_eq!(bob.people("alice").await, [alice.id.clone(), carol.id.clone()], "the exact name first");
    assert_eq!(bob.people("chains ALICE").await, std::slice::from_ref(&carol.id));
    assert_eq!(bob.people("@carol:localhost").await, std::slice::from_ref(&carol.id));
    assert!(bob.people("bob").await.is_empty() && bob.people("  ").await.is_empty());
    let limited =
        bob.post("/_matrix/client/v3/user_directory/search", json!({"search_term": "al", "limit": 1})).await.ok();
    assert_eq!((limited["limited"].clone(), limited["results"].as_array().map(Vec::len)), (json!(true), Some(1)));
    alice.post("/_matrix/client/v3/account/deactivate", json!({"auth": {
        "type": "m.login.password", "identifier": {"type": "m.id.user", "user": "alice"}, "password": Server::password("alice")
    }})).await.ok();
    assert_eq!(bob.people("ali").await, std::slice::from_ref(&carol.id), "who is gone is not found");
}
