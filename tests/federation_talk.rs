//! People of two servers with each other, in the language of clients alone: the same scenarios between
//! Hearth and Hearth, and with Synapse on either side. `one` is where the room is made.
//!
//! Those with Synapse want it installed: `tests/run synapse` sees to that.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::common::{Answer, Server, Synapse, User, encode, federate, in_room, until};

/// A server of either kind.
enum Home {
    Hearth(Box<Server>),
    Synapse(&'static Synapse),
}

impl Home {
    async fn hearths() -> (Self, Self) {
        let [one, two] = federate().await;
        (Self::Hearth(Box::new(one)), Self::Hearth(Box::new(two)))
    }

    async fn with_synapse() -> (Self, Self) {
        let [hearth] = federate().await;
        (Self::Hearth(Box::new(hearth)), Self::Synapse(Synapse::shared().await))
    }

    fn name(&self) -> &str {
        match self {
            Self::Hearth(server) => &server.name,
            Self::Synapse(server) => &server.name,
        }
    }

    /// A new account, whose name has something to make it one's own: Synapse is shared.
    async fn register(&self, name: &str) -> User {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("{name}{}", NEXT.fetch_add(1, Ordering::Relaxed));
        match self {
            Self::Hearth(server) => server.register(&name).await,
            Self::Synapse(server) => server.register(&name).await,
        }
    }
}

/// What people do when others are on another server.
impl User {
    /// Joins a room by a server that is in it.
    async fn join_by(&self, room: &str, home: &Home) -> Answer {
        let (room, via) = (encode(room), encode(home.name()));
        self.post(&format!("/_matrix/client/v3/join/{room}?via={via}&server_name={via}"), json!({})).await
    }

    /// Waits for an event of a room's timeline.
    async fn sees(&self, room: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let path = in_room(room, "messages?dir=b&limit=100");
        let look = async || {
            let page = self.get(&path).await;
            page.body["chunk"].as_array()?.iter().find(|event| is(event)).cloned()
        };
        until(&format!("{} sees {what}", self.id), look).await
    }

    /// Waits for a message.
    async fn hears(&self, room: &str, text: &str) -> Value {
        self.sees(room, text, |event| event["content"]["body"] == text).await
    }

    /// Waits for a piece of state.
    async fn finds(&self, room: &str, kind: &str, key: &str, is: impl Fn(&Value) -> bool) -> Value {
        let path = in_room(room, &format!("state/{kind}/{}", encode(key)));
        let look = async || Some(self.get(&path).await).filter(|found| found.status == 200 && is(&found.body));
        until(&format!("{} finds {kind} {key}", self.id), look).await.body
    }

    /// Waits until somebody is joined, invited and so on.
    async fn knows(&self, room: &str, other: &User, membership: &str) {
        self.finds(room, "m.room.member", &other.id, |member| member["membership"] == membership).await;
    }

    /// Waits for something in a sync, from here on.
    async fn gets<T>(&self, what: &str, is: impl FnMut(&Value) -> Option<T>) -> T {
        self.gets_after("", what, is).await
    }

    /// Waits for something in a sync, from a token on: what is over by then is not in a first sync.
    async fn gets_after<T>(&self, since: &str, what: &str, mut is: impl FnMut(&Value) -> Option<T>) -> T {
        let (mut since, mut limit) = (since.to_owned(), 20);
        let look = async || {
            // In other words each time: when Synapse never answers a sync, it answers none that asks for the same.
            limit += 1;
            let filter = encode(&json!({"room": {"timeline": {"limit": limit}}}).to_string());
            let from = if since.is_empty() { String::new() } else { format!("&since={}", encode(&since)) };
            let sync = self.get(&format!("/_matrix/client/v3/sync?timeout=200&filter={filter}{from}")).await.ok();
            since = sync["next_batch"].as_str().unwrap_or_default().to_owned();
            is(&sync)
        };
        until(&format!("{} gets {what}", self.id), look).await
    }

    /// Waits for an invitation.
    async fn is_invited(&self, room: &str) -> Value {
        self.gets("an invitation", |sync| {
            let invite = &sync["rooms"]["invite"][room]["invite_state"]["events"];
            invite.is_array().then(|| invite.clone())
        })
        .await
    }
}

/// Somebody of each server, together in a new room.
async fn together(one: &Home, two: &Home, settings: Value) -> (User, User, String) {
    let (alice, bob) = (one.register("alice").await, two.register("bob").await);
    let room = alice.create_room(settings).await;
    alice.invite(&room, &bob).await;
    bob.is_invited(&room).await;
    bob.join_by(&room, one).await.ok();
    alice.knows(&room, &bob, "join").await;
    (alice, bob, room)
}

async fn an_invitation_is_taken(one: &Home, two: &Home) {
    let (alice, bob) = (one.register("alice").await, two.register("bob").await);
    let room = alice.create_room(json!({"name": "Kitchen", "preset": "private_chat"})).await;
    alice.invite(&room, &bob).await;
    let stripped = bob.is_invited(&room).await;
    let has = |kind: &str| stripped.as_array().is_some_and(|all| all.iter().any(|event| event["type"] == kind));
    assert!(has("m.room.create") && has("m.room.name") && has("m.room.member"), "{stripped}");
    bob.join_by(&room, one).await.ok();
    alice.knows(&room, &bob, "join").await;
    bob.finds(&room, "m.room.name", "", |name| name["name"] == "Kitchen").await;
    alice.say(&room, "hello bob").await;
    bob.hears(&room, "hello bob").await;
    bob.say(&room, "hello alice").await;
    alice.hears(&room, "hello alice").await;
}

async fn an_invitation_is_declined(one: &Home, two: &Home) {
    let (alice, bob) = (one.register("alice").await, two.register("bob").await);
    let room = alice.create_room(json!({})).await;
    alice.invite(&room, &bob).await;
    bob.is_invited(&room).await;
    bob.leave(&room).await;
    alice.knows(&room, &bob, "leave").await;
    alice.invite(&room, &bob).await;
    bob.is_invited(&room).await;
    let before = bob.now().await;
    alice.post(&in_room(&room, "kick"), json!({"user_id": bob.id})).await.ok();
    bob.gets_after(&before, "the end of the invitation", |sync| sync["rooms"]["leave"].get(&room).map(drop)).await;
}

async fn a_public_room_is_joined_by_its_alias(one: &Home, two: &Home) {
    let (alice, bob) = (one.register("alice").await, two.register("bob").await);
    let local = alice.id.trim_start_matches('@').split(':').next().expect("a name");
    let settings = json!({"preset": "public_chat", "room_alias_name": local, "name": "Square"});
    let room = alice.create_room(settings).await;
    let alias = encode(&format!("#{local}:{}", one.name()));
    let found = bob.get(&format!("/_matrix/client/v3/directory/room/{alias}")).await.ok();
    assert_eq!(found["room_id"], room.as_str());
    let joined = bob.post(&format!("/_matrix/client/v3/join/{alias}"), json!({})).await.ok();
    assert_eq!(joined["room_id"], room.as_str());
    bob.say(&room, "found it").await;
    alice.hears(&room, "found it").await;
    bob.leave(&room).await;
    alice.knows(&room, &bob, "leave").await;
    bob.join_by(&room, one).await.ok();
    alice.knows(&room, &bob, "join").await;
    let nothing = encode(&format!("#nothing:{}", one.name()));
    bob.get(&format!("/_matrix/client/v3/directory/room/{nothing}")).await.fails(404, "M_NOT_FOUND");
}

async fn what_is_said_is_edited_answered_and_taken_back(one: &Home, two: &Home) {
    let (alice, bob, room) = together(one, two, json!({})).await;
    for (speaker, listener) in [(&alice, &bob), (&bob, &alice)] {
        let text = format!("tpyo of {}", speaker.id);
        let said = speaker.say(&room, &text).await;
        let heard = listener.hears(&room, &text).await;
        assert_eq!((heard["event_id"].as_str(), heard["sender"].as_str()), (Some(&*said), Some(&*speaker.id)));
        let edit = json!({"msgtype": "m.text", "body": format!("* {text}"), "m.new_content": {"msgtype": "m.text", "body": "typo"},
            "m.relates_to": {"rel_type": "m.replace", "event_id": said}});
        speaker.send(&room, "m.room.message", edit).await;
        listener.hears(&room, &format!("* {text}")).await;
        let key = json!({"m.relates_to": {"rel_type": "m.annotation", "event_id": said, "key": "👍"}});
        let reaction = listener.send(&room, "m.reaction", key).await;
        speaker.sees(&room, "a reaction", |event| event["event_id"] == reaction.as_str()).await;
        let path = in_room(&room, &format!("redact/{}/{reaction}r", encode(&reaction)));
        listener.put(&path, json!({"reason": "no"})).await.ok();
        let gone = |event: &Value| event["event_id"] == reaction.as_str() && event["content"] == json!({});
        speaker.sees(&room, "the reaction gone", gone).await;
    }
}

async fn state_is_changed_by_who_may(one: &Home, two: &Home) {
    let (alice, bob, room) = together(one, two, json!({"name": "Before"})).await;
    let refused = bob.put(&in_room(&room, "state/m.room.topic/"), json!({"topic": "mine"})).await;
    refused.fails(403, "M_FORBIDDEN");
    alice.set_state(&room, "m.room.name", "", json!({"name": "After"})).await;
    bob.finds(&room, "m.room.name", "", |name| name["name"] == "After").await;
    let mut levels = alice.finds(&room, "m.room.power_levels", "", |_| true).await;
    levels["users"][&bob.id] = json!(50);
    alice.set_state(&room, "m.room.power_levels", "", levels).await;
    bob.finds(&room, "m.room.power_levels", "", |levels| levels["users"][&bob.id] == 50).await;
    bob.set_state(&room, "m.room.topic", "", json!({"topic": "ours"})).await;
    alice.finds(&room, "m.room.topic", "", |topic| topic["topic"] == "ours").await;
}

async fn who_is_put_out_stays_out(one: &Home, two: &Home) {
    let (alice, bob, room) = together(one, two, json!({"preset": "public_chat"})).await;
    let before = bob.now().await;
    alice.post(&in_room(&room, "kick"), json!({"user_id": bob.id, "reason": "loud"})).await.ok();
    bob.gets_after(&before, "the kick", |sync| sync["rooms"]["leave"].get(&room).map(drop)).await;
    bob.join_by(&room, one).await.ok();
    alice.knows(&room, &bob, "join").await;
    let before = bob.now().await;
    alice.post(&in_room(&room, "ban"), json!({"user_id": bob.id})).await.ok();
    bob.gets_after(&before, "the ban", |sync| {
        let left = &sync["rooms"]["leave"][&room]["timeline"]["events"];
        left.as_array()?.iter().any(|event| event["content"]["membership"] == "ban").then_some(())
    })
    .await;
    bob.join_by(&room, one).await.fails(403, "M_FORBIDDEN");
    alice.post(&in_room(&room, "unban"), json!({"user_id": bob.id})).await.ok();
    until("bob may again", async || (bob.join_by(&room, one).await.status == 200).then_some(())).await;
    alice.knows(&room, &bob, "join").await;
}

async fn people_see_each_other_read_and_type(one: &Home, two: &Home) {
    let (alice, bob, room) = together(one, two, json!({})).await;
    for (speaker, listener) in [(&alice, &bob), (&bob, &alice)] {
        let said = speaker.say(&room, &format!("read this, {}", listener.id)).await;
        listener.hears(&room, &format!("read this, {}", listener.id)).await;
        let path = in_room(&room, &format!("receipt/m.read/{}", encode(&said)));
        listener.post(&path, json!({})).await.ok();
        let of_room = |sync: &Value, kind: &str| {
            let events = sync["rooms"]["join"][&room]["ephemeral"]["events"].as_array()?;
            Some(events.iter().find(|event| event["type"] == kind)?["content"].clone())
        };
        speaker
            .gets("a receipt", |sync| of_room(sync, "m.receipt")?[&said]["m.read"].get(&listener.id).map(drop))
            .await;
        let path = in_room(&room, &format!("typing/{}", encode(&listener.id)));
        listener.put(&path, json!({"typing": true, "timeout": 30000})).await.ok();
        speaker
            .gets("typing", |sync| {
                let typing = of_room(sync, "m.typing")?;
                typing["user_ids"].as_array()?.iter().any(|id| *id == listener.id.as_str()).then_some(())
            })
            .await;
        listener.put(&path, json!({"typing": false})).await.ok();
        let path = format!("/_matrix/client/v3/presence/{}/status", encode(&listener.id));
        listener.put(&path, json!({"presence": "online", "status_msg": "here"})).await.ok();
        speaker
            .gets("presence", |sync| {
                let here =
                    |event: &Value| event["sender"] == listener.id.as_str() && event["content"]["status_msg"] == "here";
                sync["presence"]["events"].as_array()?.iter().any(here).then_some(())
            })
            .await;
    }
}

async fn names_are_known_to_the_others(one: &Home, two: &Home) {
    let (alice, bob, room) = together(one, two, json!({})).await;
    for (who, other) in [(&alice, &bob), (&bob, &alice)] {
        let path = format!("/_matrix/client/v3/profile/{}", encode(&who.id));
        who.put(&format!("{path}/displayname"), json!({"displayname": "Somebody"})).await.ok();
        other.finds(&room, "m.room.member", &who.id, |member| member["displayname"] == "Somebody").await;
        let look = async || Some(other.get(&path).await).filter(|answer| answer.body["displayname"] == "Somebody");
        until("the profile", look).await;
    }
}

async fn the_directory_of_the_other_server_is_read(one: &Home, two: &Home) {
    let (alice, bob) = (one.register("alice").await, two.register("bob").await);
    let room = alice.create_room(json!({"preset": "public_chat", "visibility": "public", "name": "Fair"})).await;
    let lists = |answer: Answer| {
        let listed = answer.ok()["chunk"].as_array().cloned().unwrap_or_default();
        listed.into_iter().find(|entry| entry["room_id"] == room.as_str())
    };
    let path = format!("/_matrix/client/v3/publicRooms?server={}", encode(one.name()));
    let listed = lists(bob.get(&path).await).expect("listed");
    assert_eq!((listed["name"].as_str(), listed["num_joined_members"].as_u64()), (Some("Fair"), Some(1)));
    let search = json!({"filter": {"generic_search_term": "fair"}});
    assert!(lists(bob.post(&path, search).await).is_some());
    let other = json!({"filter": {"generic_search_term": "nothing of the kind"}});
    assert!(lists(bob.post(&path, other).await).is_none());
}

async fn a_room_is_upgraded_under_everybody(one: &Home, two: &Home) {
    let (alice, bob, room) = together(one, two, json!({"preset": "public_chat", "room_version": "9"})).await;
    let upgraded = alice.post(&in_room(&room, "upgrade"), json!({"new_version": "11"})).await.ok();
    let next = upgraded["replacement_room"].as_str().expect("a room").to_owned();
    bob.finds(&room, "m.room.tombstone", "", |tombstone| tombstone["replacement_room"] == next.as_str()).await;
    bob.join_by(&next, one).await.ok();
    let create = bob.finds(&next, "m.room.create", "", |_| true).await;
    assert_eq!(create["predecessor"]["room_id"], room.as_str());
    bob.say(&next, "moved").await;
    alice.hears(&next, "moved").await;
}

async fn somebody_knocks_and_is_let_in(one: &Home, two: &Home) {
    let (alice, bob) = (one.register("alice").await, two.register("bob").await);
    let rule = json!({"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}});
    let room = alice.create_room(json!({"name": "Club", "initial_state": [rule]})).await;
    bob.join_by(&room, one).await.fails(403, "M_FORBIDDEN");
    let (id, via) = (encode(&room), encode(one.name()));
    let path = format!("/_matrix/client/v3/knock/{id}?via={via}&server_name={via}");
    bob.post(&path, json!({"reason": "please"})).await.ok();
    alice.finds(&room, "m.room.member", &bob.id, |member| member["reason"] == "please").await;
    let has_name = |sync: &Value| {
        let stripped = sync["rooms"]["knock"][&room]["knock_state"]["events"].as_array()?;
        stripped.iter().any(|event| event["content"]["name"] == "Club").then_some(())
    };
    bob.gets("what it knocks on", has_name).await;
    alice.invite(&room, &bob).await;
    bob.is_invited(&room).await;
    bob.join_by(&room, one).await.ok();
    bob.say(&room, "thanks").await;
    alice.hears(&room, "thanks").await;
}

async fn members_of_a_space_may_come_in(one: &Home, two: &Home) {
    let (alice, bob) = (one.register("alice").await, two.register("bob").await);
    let stranger = two.register("stranger").await;
    let space = alice.create_room(json!({"preset": "public_chat", "creation_content": {"type": "m.space"}})).await;
    let allow = json!([{"type": "m.room_membership", "room_id": space}]);
    let content = json!({"join_rule": "restricted", "allow": allow});
    let rule = json!({"type": "m.room.join_rules", "state_key": "", "content": content});
    let room = alice.create_room(json!({"initial_state": [rule], "room_version": "10"})).await;
    stranger.join_by(&room, one).await.fails(403, "M_FORBIDDEN");
    bob.join_by(&space, one).await.ok();
    bob.join_by(&room, one).await.ok();
    bob.finds(&room, "m.room.member", &bob.id, |member| {
        member["join_authorised_via_users_server"] == alice.id.as_str()
    })
    .await;
    bob.say(&room, "inside").await;
    alice.hears(&room, "inside").await;
}

async fn a_server_that_is_shut_out_hears_and_says_nothing_more(one: &Home, two: &Home) {
    let (alice, bob, room) = together(one, two, json!({"preset": "public_chat"})).await;
    let acl = json!({"allow": ["*"], "deny": ["localhost"], "allow_ip_literals": true});
    // Ports don't count, so both are shut out by this: the room's own server goes on for its own people.
    alice.set_state(&room, "m.room.server_acl", "", acl).await;
    bob.finds(&room, "m.room.server_acl", "", |acl| acl["deny"][0] == "localhost").await;
    bob.put(&in_room(&room, "send/m.room.message/shut"), json!({"msgtype": "m.text", "body": "let me"})).await;
    alice.say(&room, "alone").await;
    alice.hears(&room, "alone").await;
    // Their own server may let its people in; here nobody hears of it.
    let carol = two.register("carol").await;
    carol.join_by(&room, one).await;
    alice.say(&room, "still alone").await;
    alice.hears(&room, "still alone").await;
    let page = alice.get(&in_room(&room, "messages?dir=b&limit=20")).await.ok();
    let heard = |event: &Value| event["content"]["body"] == "let me" || event["state_key"] == carol.id.as_str();
    assert!(!page["chunk"].as_array().expect("events").iter().any(heard), "{page}");
}

async fn pictures_are_fetched_from_where_they_are(one: &Home, two: &Home) {
    let (alice, bob) = (one.register("alice").await, two.register("bob").await);
    for (owner, other) in [(&alice, &bob), (&bob, &alice)] {
        let path = format!("{}/_matrix/media/v3/upload?filename=note.txt", owner.url);
        let request = owner.http.post(path).bearer_auth(owner.token.as_deref().expect("signed in"));
        let made = owner.send_request(request.header("content-type", "text/plain").body("some text")).await.ok();
        let id =
            made["content_uri"].as_str().and_then(|uri| uri.strip_prefix("mxc://")).expect("an address").to_owned();
        let path = format!("{}/_matrix/client/v1/media/download/{id}", other.url);
        let response = other.http.get(path).bearer_auth(other.token.as_deref().expect("signed in")).send().await;
        let response = response.expect("an answer");
        assert_eq!(response.status().as_u16(), 200);
        assert!(response.headers()["content-type"].to_str().expect("text").starts_with("text/plain"));
        assert_eq!(response.text().await.expect("text"), "some text");
    }
}

async fn what_was_said_before_is_read_by_who_comes_later(one: &Home, two: &Home) {
    let (alice, bob) = (one.register("alice").await, two.register("bob").await);
    let room = alice.create_room(json!({"preset": "public_chat"})).await;
    for number in 0..40 {
        alice.say(&room, &format!("before {number}")).await;
    }
    bob.join_by(&room, one).await.ok();
    let mut heard = Vec::new();
    let mut from = String::new();
    for _ in 0..20 {
        let page = bob.get(&in_room(&room, &format!("messages?dir=b&limit=10{from}"))).await.ok();
        let texts =
            page["chunk"].as_array().expect("events").iter().filter_map(|event| event["content"]["body"].as_str());
        heard.extend(texts.map(str::to_owned));
        match page["end"].as_str() {
            Some(end) => from = format!("&from={}", encode(end)),
            None => break,
        }
    }
    let wanted: Vec<String> = (0..40).rev().map(|number| format!("before {number}")).collect();
    assert_eq!(heard, wanted);
}

async fn a_space_is_walked_into_the_other_server(one: &Home, two: &Home) {
    let (alice, bob) = (one.register("alice").await, two.register("bob").await);
    let space = json!({"name": "below", "creation_content": {"type": "m.space"}, "preset": "public_chat"});
    let (open, below) = (
        alice.create_room(json!({"name": "open", "preset": "public_chat"})).await,
        alice.create_room(space.clone()).await,
    );
    let top = bob.create_room(space).await;
    alice.set_state(&below, "m.space.child", &open, json!({"via": [one.name()]})).await;
    bob.set_state(&top, "m.space.child", &below, json!({"via": [one.name()]})).await;
    let page = bob.get(&format!("/_matrix/client/v1/rooms/{}/hierarchy", encode(&top))).await.ok();
    let rooms: Vec<_> = page["rooms"].as_array().expect("rooms").iter().map(|room| &room["room_id"]).collect();
    assert_eq!(rooms, [&json!(top), &json!(below), &json!(open)], "{page}");
}

async fn every_room_version_is_shared(one: &Home, two: &Home) {
    let (alice, bob) = (one.register("alice").await, two.register("bob").await);
    for version in 6..=12 {
        let room = alice.create_room(json!({"preset": "public_chat", "room_version": version.to_string()})).await;
        let joined = bob.join_by(&room, one).await;
        assert_eq!(joined.status, 200, "version {version}: {}", joined.body);
        alice.say(&room, "from one").await;
        bob.hears(&room, "from one").await;
        bob.say(&room, "from two").await;
        alice.hears(&room, "from two").await;
        let create = bob.finds(&room, "m.room.create", "", |_| true).await;
        assert_eq!(create["room_version"], version.to_string());
    }
}

/// Each scenario as a test, for each pair of servers.
macro_rules! scenarios {
    ($($name:ident)+) => {
        mod hearth_and_hearth {
            $(#[tokio::test]
            async fn $name() {
                let (one, two) = super::Home::hearths().await;
                super::$name(&one, &two).await;
            })+
        }
        mod hearth_and_synapse {
            $(#[tokio::test]
            #[ignore = "wants Synapse: tests/run synapse"]
            async fn $name() {
                let (hearth, synapse) = super::Home::with_synapse().await;
                super::$name(&hearth, &synapse).await;
            })+
        }
        mod synapse_and_hearth {
            $(#[tokio::test]
            #[ignore = "wants Synapse: tests/run synapse"]
            async fn $name() {
                let (hearth, synapse) = super::Home::with_synapse().await;
                super::$name(&synapse, &hearth).await;
            })+
        }
    };
}

scenarios! {
    an_invitation_is_taken
    an_invitation_is_declined
    a_public_room_is_joined_by_its_alias
    what_is_said_is_edited_answered_and_taken_back
    state_is_changed_by_who_may
    who_is_put_out_stays_out
    people_see_each_other_read_and_type
    names_are_known_to_the_others
    the_directory_of_the_other_server_is_read
    a_room_is_upgraded_under_everybody
    somebody_knocks_and_is_let_in
    members_of_a_space_may_come_in
    a_server_that_is_shut_out_hears_and_says_nothing_more
    pictures_are_fetched_from_where_they_are
    what_was_said_before_is_read_by_who_comes_later
    a_space_is_walked_into_the_other_server
    every_room_version_is_shared
}
