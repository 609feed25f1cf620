//! What an account may be and may say of itself, held against the spec: profiles and their bounds, passwords and what
//! ends with them, closing an account, who is suspended or locked, who is found, addresses, whose invites are wanted.

use serde_json::{Value, json};

use crate::common::{Server, User, encode, federate, in_room, transaction, until};

const V3: &str = "/_matrix/client/v3";

fn proof(name: &str) -> Value {
    json!({"type": "m.login.password", "identifier": {"type": "m.id.user", "user": name},
        "password": Server::password(name)})
}

#[tokio::test]
async fn a_profile_has_fields_of_ones_own_within_bounds() {
    let server = Server::start().await;
    let alice = server.register("alice").await;
    let field = |key: &str| format!("{V3}/profile/{}/{key}", encode(&alice.id));
    alice.put(&field("org.test.pets"), json!({"org.test.pets": [{"name": "Rex"}, null]})).await.ok();
    alice.put(&field("m.tz"), json!({"m.tz": "Asia/Seoul"})).await.ok();
    assert_eq!(
        server.guest().get(&field("org.test.pets")).await.ok(),
        json!({"org.test.pets": [{"name": "Rex"}, null]})
    );
    alice.put(&field("org.test.pets"), json!({"another": 1})).await.fails(400, "M_MISSING_PARAM");
    let long = "x".repeat(256);
    alice.put(&field(&long), json!({(&*long): 1})).await.fails(400, "M_KEY_TOO_LARGE");
    let long = "x".repeat(255);
    alice.put(&field(&long), json!({(&*long): 1})).await.ok();
    alice.delete(&field(&long)).await.ok();
    // Less than 64 KiB in all, whatever it is made of.
    let big = "y".repeat(40_000);
    alice.put(&field("org.test.one"), json!({"org.test.one": big})).await.ok();
    alice.put(&field("org.test.two"), json!({"org.test.two": big})).await.fails(400, "M_PROFILE_TOO_LARGE");
    alice.put(&field("displayname"), json!({"displayname": "Alice"})).await.ok();
    alice.delete(&field("org.test.one")).await.ok();
    alice.put(&field("org.test.two"), json!({"org.test.two": big})).await.ok();
    alice.delete(&field("org.test.never")).await.ok();
    server.guest().get(&field("org.test.one")).await.fails(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn a_new_password_takes_the_pushers_of_the_sessions_that_it_ends() {
    let server = Server::start().await;
    let (alice, phone) = (server.register("alice").await, server.login("alice").await);
    let pusher = |key: &str| {
        json!({"kind": "http", "app_id": "org.test", "pushkey": key, "lang": "en", "app_display_name": "T",
            "device_display_name": "D", "data": {"url": "https://push.test/_matrix/push/v1/notify"}})
    };
    alice.post(&format!("{V3}/pushers/set"), pusher("laptop")).await.ok();
    phone.post(&format!("{V3}/pushers/set"), pusher("phone")).await.ok();
    let keys = async || {
        let all = alice.get(&format!("{V3}/pushers")).await.ok()["pushers"].clone();
        let mut keys: Vec<String> =
            all.as_array().expect("a list").iter().map(|one| one["pushkey"].to_string()).collect();
        keys.sort();
        keys.join(" ")
    };
    assert_eq!(keys().await, "\"laptop\" \"phone\"");
    let change = async |old: &str, new: &str, logout: Option<bool>| {
        let mut auth = proof("alice");
        auth["password"] = json!(old);
        let mut body = json!({"new_password": new, "auth": auth});
        if let Some(logout) = logout {
            body["logout_devices"] = json!(logout);
        }
        alice.post(&format!("{V3}/account/password"), body).await.ok();
    };
    change(&Server::password("alice"), "the second phrase", Some(false)).await;
    assert_eq!(keys().await, "\"laptop\" \"phone\"");
    phone.now().await;
    let devices = async || alice.get(&format!("{V3}/devices")).await.ok()["devices"].as_array().map_or(0, Vec::len);
    assert_eq!(devices().await, 2);
    // Unless told otherwise.
    change("the second phrase", "the third phrase", None).await;
    assert_eq!((keys().await, devices().await), ("\"laptop\"".to_owned(), 1));
    phone.get(&format!("{V3}/sync")).await.fails(401, "M_UNKNOWN_TOKEN");
    alice.now().await;
}

#[tokio::test]
async fn a_closed_account_leaves_nothing_open_behind_it() {
    let server = Server::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let phone = server.login("bob").await;
    let (in_it, invited) =
        (alice.create_room(json!({"preset": "public_chat"})).await, alice.create_room(json!({})).await);
    bob.join(&in_it).await;
    alice.invite(&invited, &bob).await;
    bob.put(&format!("{V3}/profile/{}/displayname", encode(&bob.id)), json!({"displayname": "Bob the Great"}))
        .await
        .ok();
    let found = async |term: &str| {
        let answer = alice.post(&format!("{V3}/user_directory/search"), json!({"search_term": term})).await.ok();
        answer["results"].as_array().map_or(0, Vec::len)
    };
    assert_eq!(found("great").await, 1);
    let path = format!("{V3}/account/deactivate");
    // It takes a proof, and an open session.
    let asked = bob.post(&path, json!({"erase": true})).await;
    assert_eq!((asked.status, asked.body["flows"].is_array()), (401, true));
    let closed = bob.post(&path, json!({"erase": true, "auth": proof("bob")})).await.ok();
    assert_eq!(closed["id_server_unbind_result"], "success");
    for session in [&bob, &phone] {
        session.get(&format!("{V3}/sync")).await.fails(401, "M_UNKNOWN_TOKEN");
    }
    for room in [&in_it, &invited] {
        let member = alice.get(&in_room(room, &format!("state/m.room.member/{}", bob.id))).await.ok();
        assert_eq!(member["membership"], "leave");
    }
    assert_eq!(found("great").await + found("bob").await, 0);
    let profile = alice.get(&format!("{V3}/profile/{}", encode(&bob.id))).await;
    assert!(!profile.body.to_string().contains("Great"), "{}", profile.body);
    let guest = server.guest();
    let mut sign_in = proof("bob");
    sign_in["refresh_token"] = json!(true);
    let refused = guest.post(&format!("{V3}/login"), sign_in).await;
    assert_eq!(refused.status, 403, "{}", refused.body);
    guest.get(&format!("{V3}/register/available?username=bob")).await.fails(400, "M_USER_IN_USE");
}

#[tokio::test]
async fn the_suspended_may_do_what_the_spec_lists() {
    let server = Server::start().await;
    let (root, alice) = (server.register("root").await, server.register("alice").await);
    let open = root.create_room(json!({"preset": "public_chat"})).await;
    let (stay, door) = (alice.create_room(json!({})).await, root.create_room(json!({})).await);
    root.invite(&door, &alice).await;
    alice.join(&open).await;
    let phone = server.login("alice").await;
    let said = alice.say(&open, "mine").await;
    root.put(&format!("/_matrix/client/v1/admin/suspend/{}", encode(&alice.id)), json!({"suspended": true})).await.ok();
    // See, leave and decline, redact one's own, sign in and out, keep keys.
    alice.now().await;
    alice.get(&in_room(&open, "messages?dir=b")).await.ok();
    alice.put(&in_room(&open, &format!("redact/{said}/{}", transaction())), json!({})).await.ok();
    alice.leave(&door).await;
    alice.leave(&open).await;
    phone.post(&format!("{V3}/logout"), json!({})).await.ok();
    server.login("alice").await;
    let verify = json!({"messages": {}});
    alice.put(&format!("{V3}/sendToDevice/m.key.verification.request/{}", transaction()), verify).await.ok();
    alice.post(&format!("{V3}/keys/upload"), json!({})).await.ok();
    // And nothing that others would see.
    let denied = [
        alice.put(&in_room(&stay, &format!("send/m.room.message/{}", transaction())), json!({"body": "x"})).await,
        alice.put(&in_room(&stay, "state/m.room.topic"), json!({"topic": "x"})).await,
        alice.post(&in_room(&open, "join"), json!({})).await,
        alice.post(&format!("{V3}/knock/{}", encode(&open)), json!({})).await,
        alice.post(&in_room(&stay, "invite"), json!({"user_id": root.id})).await,
        alice.post(&in_room(&stay, "ban"), json!({"user_id": root.id})).await,
        alice.post(&in_room(&stay, "kick"), json!({"user_id": root.id})).await,
        alice.post(&format!("{V3}/createRoom"), json!({})).await,
        alice.post(&in_room(&stay, "upgrade"), json!({"new_version": "11"})).await,
        alice.put(&format!("{V3}/profile/{}/m.tz", encode(&alice.id)), json!({"m.tz": "UTC"})).await,
        alice.delete(&format!("{V3}/profile/{}/displayname", encode(&alice.id))).await,
    ];
    denied.iter().for_each(|answer| answer.fails(403, "M_USER_SUSPENDED"));
}

#[tokio::test]
async fn the_locked_are_told_so_wherever_they_wait_and_may_still_sign_out() {
    let server = Server::start().await;
    let (root, alice) = (server.register("root").await, server.register("alice").await);
    let path = format!("/_matrix/client/v1/admin/lock/{}", encode(&alice.id));
    let since = alice.now().await;
    let waiting = async {
        let query = format!("{V3}/sync?timeout=30000&since={}", encode(&since));
        alice.get(&query).await
    };
    let locking = async { root.put(&path, json!({"locked": true})).await.ok() };
    let (answer, _) = tokio::join!(waiting, locking);
    // A wait that had not begun is refused as one that had.
    answer.fails(401, "M_USER_LOCKED");
    assert_eq!(answer.body["soft_logout"], true);
    let sliding = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync?timeout=0";
    for refused in [
        alice.get(&format!("{V3}/account/whoami")).await,
        alice.post(sliding, json!({})).await,
        alice.get("/_matrix/client/versions").await,
        server.guest().post(&format!("{V3}/login"), proof("alice")).await,
    ] {
        assert_eq!((refused.status, &refused.body["errcode"]), (401, &json!("M_USER_LOCKED")), "{}", refused.body);
        assert_eq!(refused.body["soft_logout"], true, "{}", refused.body);
    }
    assert_eq!(root.get(&path).await.ok(), json!({"locked": true}));
    root.put(&path, json!({"locked": false})).await.ok();
    alice.sync(Some(&since), 0).await;
    let mut wish = proof("alice");
    wish["refresh_token"] = json!(true);
    let phone = server.guest().post(&format!("{V3}/login"), wish).await.ok();
    let refresh = json!({"refresh_token": phone["refresh_token"]});
    root.put(&path, json!({"locked": true})).await.ok();
    server.guest().post(&format!("{V3}/refresh"), refresh.clone()).await.fails(401, "M_USER_LOCKED");
    alice.post(&format!("{V3}/logout"), json!({})).await.ok();
    root.put(&path, json!({"locked": false})).await.ok();
    alice.get(&format!("{V3}/account/whoami")).await.fails(401, "M_UNKNOWN_TOKEN");
    // The lock has ended no session.
    server.guest().post(&format!("{V3}/refresh"), refresh).await.ok();
}

#[tokio::test]
async fn people_are_found_by_name_and_by_part_of_it() {
    let server = Server::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    server.register("robin").await;
    bob.put(&format!("{V3}/profile/{}/displayname", encode(&bob.id)), json!({"displayname": "Robert Smith"}))
        .await
        .ok();
    let search = async |term: &str, limit: u64| {
        let wish = json!({"search_term": term, "limit": limit});
        let answer = alice.post(&format!("{V3}/user_directory/search"), wish).await.ok();
        let ids = answer["results"].as_array().expect("a list").iter().map(|one| one["user_id"].to_string());
        (ids.collect::<Vec<_>>(), answer["limited"] == true)
    };
    let id = |name: &str| format!("\"@{name}:localhost\"");
    assert_eq!(search("ROBERT", 10).await, (vec![id("bob")], false));
    assert_eq!(search("smith", 10).await, (vec![id("bob")], false));
    assert_eq!(search("@bob:localhost", 10).await, (vec![id("bob")], false));
    let (both, limited) = search("rob", 10).await;
    assert_eq!((both.len(), limited), (2, false));
    let (one, limited) = search("rob", 1).await;
    assert_eq!((one.len(), limited), (1, true));
    assert_eq!(search("nobody", 10).await, (vec![], false));
    server
        .guest()
        .post(&format!("{V3}/user_directory/search"), json!({"search_term": "x"}))
        .await
        .fails(401, "M_MISSING_TOKEN");
    alice.post(&format!("{V3}/user_directory/search"), json!({})).await.fails(400, "M_BAD_JSON");
}

/// Of other servers whoever is in a room that is open to all is found, published or not, and nobody else.
#[tokio::test]
async fn people_of_other_servers_are_found_where_everybody_could_meet_them() {
    let [here, there] = federate().await;
    let (alice, seeker) = (here.register("alice").await, here.register("seeker").await);
    let found = async |name: &str| {
        let body = json!({"search_term": name});
        let answer = seeker.post(&format!("{V3}/user_directory/search"), body).await.ok();
        answer["results"].as_array().map(Vec::len)
    };
    let history = json!([{"type": "m.room.history_visibility", "content": {"history_visibility": "world_readable"}}]);
    let rooms = [
        ("openly", json!({"preset": "public_chat"})),
        ("readably", json!({"preset": "private_chat", "initial_state": history})),
        ("secretly", json!({"preset": "private_chat"})),
    ];
    for (name, wish) in rooms {
        let guest = there.register(name).await;
        let room = alice.create_room(wish).await;
        alice.invite(&room, &guest).await;
        let path = format!("{V3}/join/{}?via={}", encode(&room), encode(&here.name));
        until("the invite", async || {
            let joined = guest.sync(None, 0).await;
            joined["rooms"]["invite"][&room].is_object().then_some(())
        })
        .await;
        guest.post(&path, json!({})).await.ok();
        assert_eq!(found(name).await, Some(usize::from(name != "secretly")), "{name}");
    }
}

#[tokio::test]
async fn nobody_has_an_address_here_and_is_told_so() {
    let server = Server::start().await;
    let alice = server.register("alice").await;
    assert_eq!(alice.get(&format!("{V3}/account/3pid")).await.ok(), json!({"threepids": []}));
    let email = json!({"client_secret": "s3cret", "email": "alice@test.example", "send_attempt": 1});
    let phone = json!({"client_secret": "s3cret", "country": "GB", "phone_number": "07700900001", "send_attempt": 1});
    let nobodys = (400, "M_THREEPID_NOT_FOUND");
    let denied = (403, "M_THREEPID_DENIED");
    for (place, (status, code)) in [("account/3pid", denied), ("account/password", nobodys), ("register", denied)] {
        let by_mail = alice.post(&format!("{V3}/{place}/email/requestToken"), email.clone()).await;
        by_mail.fails(status, code);
        let by_phone = alice.post(&format!("{V3}/{place}/msisdn/requestToken"), phone.clone()).await;
        by_phone.fails(status, code);
    }
    let delete = json!({"medium": "email", "address": "alice@test.example"});
    let answer = alice.post(&format!("{V3}/account/3pid/delete"), delete.clone()).await.ok();
    assert_eq!(answer["id_server_unbind_result"], "no-support");
    alice.post(&format!("{V3}/account/3pid/unbind"), delete).await.ok();
    let add = json!({"client_secret": "s3cret", "sid": "1", "auth": proof("alice")});
    alice.post(&format!("{V3}/account/3pid/add"), add).await.fails(400, "M_THREEPID_AUTH_FAILED");
    let of_old = json!({"three_pid_creds": {"client_secret": "s3cret", "sid": "1"}});
    alice.post(&format!("{V3}/account/3pid"), of_old).await.fails(403, "M_THREEPID_AUTH_FAILED");
    let capabilities = alice.get(&format!("{V3}/capabilities")).await.ok();
    assert_eq!(capabilities["capabilities"]["m.3pid_changes"]["enabled"], false);
}

async fn wishes(user: &User, kind: &str, content: Value) {
    user.put(&format!("{V3}/user/{}/account_data/{kind}", encode(&user.id)), content).await.ok();
}

#[tokio::test]
async fn invites_are_for_those_who_want_them() {
    let server = Server::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let (before, room) = (alice.create_room(json!({})).await, alice.create_room(json!({})).await);
    alice.invite(&before, &bob).await;
    wishes(&bob, "m.invite_permission_config", json!({"default_action": "block"})).await;
    let invites = async || bob.sync(None, 0).await["rooms"]["invite"].clone();
    // One that was there already is not shown either, for as long as that is so.
    until("the invite hidden", async || invites().await.get(&before).is_none().then_some(())).await;
    let member = format!("state/m.room.member/{}", encode(&bob.id));
    alice.post(&in_room(&room, "invite"), json!({"user_id": bob.id})).await.fails(403, "M_INVITE_BLOCKED");
    alice.put(&in_room(&room, &member), json!({"membership": "invite"})).await.fails(403, "M_INVITE_BLOCKED");
    let made = alice.create_room(json!({"invite": [bob.id]})).await;
    alice.get(&in_room(&made, &member)).await.fails(404, "M_NOT_FOUND");
    assert_eq!(alice.get(&in_room(&before, &member)).await.ok()["membership"], "invite");
    wishes(&bob, "m.invite_permission_config", json!({})).await;
    alice.invite(&room, &bob).await;
    assert!(invites().await[&room].is_object() && invites().await[&before].is_object());
}

#[tokio::test]
async fn invites_are_let_in_shown_or_refused_by_who_sends_them() {
    let server = Server::start().await;
    let bob = server.register("bob").await;
    let (friend, bore, pest) =
        (server.register("friend").await, server.register("bore").await, server.register("pest").await);
    let filters = json!({"allowed_users": ["@friend:*"], "ignored_users": ["@bo?e:localhost"],
        "blocked_servers": ["local*"]});
    wishes(&bob, "org.matrix.msc4155.invite_permission_config", filters.clone()).await;
    let mut rooms = Vec::new();
    for user in [&friend, &bore, &pest] {
        rooms.push(user.create_room(json!({"preset": "private_chat"})).await);
    }
    friend.invite(&rooms[0], &bob).await;
    // Who is not heard is not told so.
    bore.invite(&rooms[1], &bob).await;
    pest.post(&in_room(&rooms[2], "invite"), json!({"user_id": bob.id})).await.fails(403, "M_INVITE_BLOCKED");
    let shown = async || {
        let sync = bob.sync(None, 0).await["rooms"]["invite"].clone();
        let wish = json!({"lists": {"all": {"ranges": [[0, 20]], "timeline_limit": 1, "required_state": []}}});
        let path = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync?timeout=0";
        let sliding = bob.post(path, wish).await.ok()["rooms"].clone();
        let notified = bob.get(&format!("{V3}/notifications")).await.ok().to_string();
        rooms
            .iter()
            .map(|room| [sync.get(room).is_some(), sliding.get(room).is_some(), notified.contains(room)])
            .collect()
    };
    let seen: Vec<[bool; 3]> = shown().await;
    assert_eq!(seen, [[true; 3], [false; 3], [false; 3]]);
    let mut off = filters;
    off["enabled"] = json!(false);
    wishes(&bob, "org.matrix.msc4155.invite_permission_config", off).await;
    pest.invite(&rooms[2], &bob).await;
    let seen: Vec<[bool; 3]> = shown().await;
    assert_eq!(seen, [[true; 3]; 3]);
}

/// Account data that is deleted, or set to nothing, is told once to who knew it, and is not there. (MSC3391)
#[tokio::test]
async fn account_data_that_is_deleted_is_told_once_and_gone() {
    let server = Server::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = alice.create_room(json!({})).await;
    let me = encode(&alice.id);
    for part in ["account_data/org.test".to_owned(), format!("rooms/{}/account_data/org.test", encode(&room))] {
        let path = format!("{V3}/user/{me}/{part}");
        let deleting = format!("/_matrix/client/unstable/org.matrix.msc3391/user/{me}/{part}");
        for by_putting in [false, true] {
            alice.put(&path, json!({"a": 1})).await.ok();
            bob.delete(&deleting).await.fails(403, "M_FORBIDDEN");
            let since = alice.now().await;
            match by_putting {
                true => alice.put(&path, json!({})).await.ok(),
                false => alice.delete(&deleting).await.ok(),
            };
            alice.get(&path).await.fails(404, "M_NOT_FOUND");
            alice.delete(&deleting).await.ok();
            let told = alice.sync(Some(&since), 0).await.to_string();
            assert!(told.contains(r#""content":{},"type":"org.test""#), "{told}");
            assert!(!alice.sync(None, 0).await.to_string().contains("org.test"));
        }
    }
    let rules = format!("/_matrix/client/unstable/org.matrix.msc3391/user/{me}/account_data/m.push_rules");
    alice.delete(&rules).await.fails(405, "M_BAD_JSON");
}
