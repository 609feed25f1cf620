//! Accounts as people use them: registering, signing in and out, proving who one is, and what belongs
//! to one person alone.

use serde_json::{Value, json};

use crate::common::{Server, User, encode, in_room};

const V3: &str = "/_matrix/client/v3";

fn password_stage(user: &str, password: &str, session: &Value) -> Value {
    let identifier = json!({ "type": "m.id.user", "user": user });
    json!({ "type": "m.login.password", "identifier": identifier, "password": password, "session": session })
}

fn sign_in(name: &str, password: &str) -> Value {
    json!({ "type": "m.login.password", "identifier": { "type": "m.id.user", "user": name }, "password": password })
}

async fn whoami(user: &User, token: &Value) -> u16 {
    let other = User { token: token.as_str().map(str::to_owned), ..user.clone() };
    other.get(&format!("{V3}/account/whoami")).await.status
}

#[tokio::test]
async fn registering_asks_for_a_flow_and_takes_a_name_once() {
    let server = Server::start().await;
    let guest = server.guest();
    let path = format!("{V3}/register");
    let wish = json!({ "username": "Alice", "password": "through the glass" });
    let asked = guest.post(&path, wish.clone()).await;
    assert_eq!(asked.status, 401);
    assert_eq!(asked.body["flows"], json!([{ "stages": ["m.login.dummy"] }]));
    assert!(asked.body["errcode"].is_null());
    let mut with_auth = wish.clone();
    with_auth["auth"] = json!({ "type": "m.login.dummy", "session": asked.body["session"] });
    let made = guest.post(&path, with_auth).await.ok();
    assert_eq!(made["user_id"], "@alice:localhost");
    assert_eq!(whoami(&guest, &made["access_token"]).await, 200);

    guest.post(&path, wish).await.fails(400, "M_USER_IN_USE");
    guest.post(&path, json!({ "username": "no spaces" })).await.fails(400, "M_INVALID_USERNAME");
    guest.post(&path, json!({ "username": "x".repeat(250) })).await.fails(400, "M_INVALID_USERNAME");
    guest.post(&path, json!({ "username": "weak", "password": "123" })).await.fails(400, "M_WEAK_PASSWORD");
    guest.post(&format!("{path}?kind=guest"), json!({})).await.fails(403, "M_GUEST_ACCESS_FORBIDDEN");
    guest.get(&format!("{path}/available?username=alice")).await.fails(400, "M_USER_IN_USE");
    assert_eq!(guest.get(&format!("{path}/available?username=bob")).await.ok(), json!({ "available": true }));
    let quiet = json!({ "username": "quiet", "password": "long enough", "inhibit_login": true,
        "auth": { "type": "m.login.dummy" } });
    let made = guest.post(&path, quiet).await.ok();
    assert_eq!(made["user_id"], "@quiet:localhost");
    assert_eq!(made, json!({ "user_id": "@quiet:localhost" }), "nothing is said of a session that there is not");
}

#[tokio::test]
async fn rule_25_a_closed_server_opens_only_to_the_first_administrators_token() {
    let server = Server::start_with("registration = \"closed\"\nrate_limits = false\n").await;
    let guest = server.guest();
    let path = format!("{V3}/register");
    let asked = guest.post(&path, json!({ "username": "eve", "password": "long enough" })).await;
    assert_eq!(asked.body["flows"], json!([{ "stages": ["m.login.registration_token"] }]), "only by the token");
    let guess = json!({ "username": "eve", "password": "long enough",
        "auth": { "type": "m.login.registration_token", "token": "a guess" } });
    guest.post(&path, guess).await.fails(401, "M_FORBIDDEN");
    let dummy = json!({ "username": "eve", "password": "long enough", "auth": { "type": "m.login.dummy" } });
    guest.post(&path, dummy).await.fails(401, "M_FORBIDDEN");
}

/// Cinny begins with an empty body, to learn the flows, and goes on with what is typed then.
#[tokio::test]
async fn a_name_and_a_password_may_come_after_the_flows_are_known() {
    let server = Server::start().await;
    let (guest, path) = (server.guest(), format!("{V3}/register"));
    let session = guest.post(&path, json!({})).await.body["session"].clone();
    let wish = |auth: Value| json!({ "username": "cindy", "password": "long enough", "auth": auth });
    let told = guest.post(&path, wish(json!({ "session": session }))).await;
    assert_eq!((told.status, &told.body["session"], &told.body["errcode"]), (401, &session, &Value::Null));
    let made = guest.post(&path, wish(json!({ "session": session, "type": "m.login.dummy" }))).await.ok();
    assert_eq!(made["user_id"], "@cindy:localhost");
    // What is proved once makes one account.
    let again = json!({ "username": "other", "password": "long enough", "auth": { "session": session } });
    guest.post(&path, again).await.fails(401, "M_FORBIDDEN");
}

/// Element Web asks every other second whether a session is complete, as long as somebody types their token.
#[tokio::test]
async fn whoever_takes_their_time_while_registering_is_not_held_to_register_too_fast() {
    let server = Server::start_with("registration = \"open\"\nrate_limits = true\n").await;
    let (guest, path) = (server.guest(), format!("{V3}/register"));
    let wish = |auth: Value| json!({ "username": "slow", "password": "long enough", "auth": auth });
    let asked = guest.post(&path, json!({ "username": "slow", "password": "long enough" })).await;
    let session = &asked.body["session"];
    for _ in 0..30 {
        let waits = guest.post(&path, wish(json!({ "session": session }))).await;
        assert_eq!((waits.status, &waits.body["session"]), (401, session), "{}", waits.body);
    }
    let made = guest.post(&path, wish(json!({ "session": session, "type": "m.login.dummy" }))).await;
    assert_eq!(made.ok()["user_id"], "@slow:localhost");
}

#[tokio::test]
async fn signing_in_tells_nobody_which_names_exist() {
    let server = Server::start().await;
    let alice = server.register("alice").await;
    let guest = server.guest();
    let path = format!("{V3}/login");
    let known = guest.post(&path, sign_in("alice", "a wrong one")).await;
    let unknown = guest.post(&path, sign_in("nobody", "a wrong one")).await;
    let elsewhere = guest.post(&path, sign_in("@alice:elsewhere", &Server::password("alice"))).await;
    known.fails(403, "M_FORBIDDEN");
    assert_eq!((known.status, &known.body), (unknown.status, &unknown.body));
    assert_eq!((known.status, &known.body), (elsewhere.status, &elsewhere.body));
    let old_form = json!({ "type": "m.login.password", "user": "alice", "password": Server::password("alice") });
    for form in [sign_in("alice", &Server::password("alice")), sign_in(&alice.id, &Server::password("alice")), old_form]
    {
        assert_eq!(guest.post(&path, form).await.ok()["user_id"], "@alice:localhost");
    }
    guest.post(&path, json!({ "type": "m.login.password", "password": "x" })).await.fails(400, "M_MISSING_PARAM");
    guest.post(&path, json!({ "type": "m.login.token", "token": "x" })).await.fails(403, "M_FORBIDDEN");
    guest.post(&path, json!({ "password": "x" })).await.fails(400, "M_BAD_JSON");
}

#[tokio::test]
async fn rule_16_tokens_authenticate_by_header_only_and_die_with_their_session() {
    let mut server = Server::start().await;
    let alice = server.register("alice").await;
    let token = alice.token.clone().expect("signed in");
    let path = format!("{V3}/account/whoami");
    server.guest().get(&path).await.fails(401, "M_MISSING_TOKEN");
    server.guest().get(&format!("{path}?access_token={token}")).await.fails(401, "M_MISSING_TOKEN");
    let laptop = server.login("alice").await;
    server.restart().await;
    assert_eq!(alice.get(&path).await.ok()["device_id"], *alice.device);
    let file = std::fs::read(server.data().join("hearth.redb")).expect("the database");
    assert!(!file.windows(token.len()).any(|bytes| bytes == token.as_bytes()), "the token itself is stored");
    alice.post(&format!("{V3}/logout"), json!({})).await.ok();
    let gone = alice.get(&path).await;
    gone.fails(401, "M_UNKNOWN_TOKEN");
    assert_eq!(gone.body["soft_logout"], false);
    laptop.get(&path).await.ok();
    laptop.post(&format!("{V3}/logout/all"), json!({})).await.ok();
    laptop.get(&path).await.fails(401, "M_UNKNOWN_TOKEN");
}

#[tokio::test]
async fn rule_16_a_refresh_token_works_until_what_it_gave_is_used() {
    let server = Server::start().await;
    server.register("alice").await;
    let guest = server.guest();
    let mut wish = sign_in("alice", &Server::password("alice"));
    wish["refresh_token"] = json!(true);
    let first = guest.post(&format!("{V3}/login"), wish).await.ok();
    assert_eq!(first["expires_in_ms"], 3_600_000);
    let refresh = async |token: &Value| guest.post(&format!("{V3}/refresh"), json!({ "refresh_token": token })).await;
    refresh(&first["refresh_token"]).await.ok();
    let second = refresh(&first["refresh_token"]).await.ok();
    assert_eq!(whoami(&guest, &second["access_token"]).await, 200);
    refresh(&first["refresh_token"]).await.fails(401, "M_UNKNOWN_TOKEN");
    assert_eq!(whoami(&guest, &first["access_token"]).await, 401);
    refresh(&second["refresh_token"]).await.ok();
    refresh(&second["access_token"]).await.fails(401, "M_UNKNOWN_TOKEN");
}

#[tokio::test]
async fn rule_16_a_proof_is_good_for_one_request_of_one_person() {
    let server = Server::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let (phone, laptop) = (server.login("alice").await, server.login("alice").await);
    let device = |user: &User| format!("{V3}/devices/{}", user.device);
    let asked = alice.request(reqwest::Method::DELETE, &device(&phone), None).await;
    assert_eq!(asked.body["flows"], json!([{ "stages": ["m.login.password"] }]));
    let session = &asked.body["session"];
    let proof = |user: &str| json!({ "auth": password_stage(user, &Server::password(user), session) });
    let delete = async |who: &User, what: &User, body: Value| {
        who.request(reqwest::Method::DELETE, &device(what), Some(body)).await
    };
    delete(&alice, &laptop, proof("alice")).await.fails(401, "M_FORBIDDEN");
    delete(&bob, &phone, proof("alice")).await.fails(401, "M_FORBIDDEN");
    delete(&phone, &phone, proof("alice")).await.fails(401, "M_FORBIDDEN");
    delete(&alice, &phone, proof("bob")).await.fails(401, "M_FORBIDDEN");
    let wrong = json!({ "auth": password_stage("alice", "not it at all", session) });
    let again = delete(&alice, &phone, wrong).await;
    again.fails(401, "M_FORBIDDEN");
    assert_eq!(&again.body["session"], session, "one may try again");
    let close = json!({ "auth": password_stage("alice", &Server::password("alice"), session) });
    alice.post(&format!("{V3}/account/deactivate"), close).await.fails(401, "M_FORBIDDEN");
    delete(&alice, &phone, proof("alice")).await.ok();
    let whoami = format!("{V3}/account/whoami");
    phone.get(&whoami).await.fails(401, "M_UNKNOWN_TOKEN");
    laptop.get(&whoami).await.ok();
    delete(&alice, &phone, proof("alice")).await.fails(401, "M_FORBIDDEN");
}

#[tokio::test]
async fn a_new_password_ends_other_sessions_unless_told_otherwise() {
    let server = Server::start().await;
    let alice = server.register("alice").await;
    let phone = server.login("alice").await;
    let change = async |old: &str, new: &str, logout_devices: bool| {
        let auth = password_stage("alice", old, &Value::Null);
        let body = json!({ "new_password": new, "logout_devices": logout_devices, "auth": auth });
        alice.post(&format!("{V3}/account/password"), body).await.ok();
    };
    change(&Server::password("alice"), "the second one", false).await;
    phone.get(&format!("{V3}/account/whoami")).await.ok();
    change("the second one", "the third one", true).await;
    phone.get(&format!("{V3}/account/whoami")).await.fails(401, "M_UNKNOWN_TOKEN");
    alice.get(&format!("{V3}/account/whoami")).await.ok();
    let login = format!("{V3}/login");
    server.guest().post(&login, sign_in("alice", &Server::password("alice"))).await.fails(403, "M_FORBIDDEN");
    server.guest().post(&login, sign_in("alice", "the third one")).await.ok();
}

#[tokio::test]
async fn a_closed_account_is_out_of_its_rooms_and_stays_closed() {
    let server = Server::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = alice.create_room(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await;
    let auth = password_stage("bob", &Server::password("bob"), &Value::Null);
    bob.post(&format!("{V3}/account/deactivate"), json!({ "auth": auth, "erase": true })).await.ok();
    bob.get(&format!("{V3}/account/whoami")).await.fails(401, "M_UNKNOWN_TOKEN");
    let member = alice.get(&in_room(&room, &format!("state/m.room.member/{}", bob.id))).await.ok();
    assert_eq!(member["membership"], "leave");
    let guest = server.guest();
    guest.post(&format!("{V3}/login"), sign_in("bob", &Server::password("bob"))).await.fails(403, "M_FORBIDDEN");
    let again = json!({ "username": "bob", "password": "long enough", "auth": { "type": "m.login.dummy" } });
    guest.post(&format!("{V3}/register"), again).await.fails(400, "M_USER_IN_USE");
}

#[tokio::test]
async fn rule_18_what_is_one_persons_is_nobody_elses() {
    let server = Server::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let mine = format!("{V3}/user/{}", alice.id);
    alice.put(&format!("{mine}/account_data/m.direct"), json!({ "x": 1 })).await.ok();
    let filter = alice.post(&format!("{mine}/filter"), json!({})).await.ok();
    let filter = format!("{mine}/filter/{}", filter["filter_id"].as_str().expect("an ID"));
    alice.get(&filter).await.ok();
    let room = alice.create_room(json!({})).await;
    let tags = format!("{mine}/rooms/{}/tags", encode(&room));
    alice.put(&format!("{tags}/u.work"), json!({ "order": 0.5 })).await.ok();
    assert_eq!(alice.get(&tags).await.ok(), json!({ "tags": { "u.work": { "order": 0.5 } } }));
    for path in [&format!("{mine}/account_data/m.direct"), &filter, &tags] {
        bob.get(path).await.fails(403, "M_FORBIDDEN");
    }
    for path in ["account_data/x", "rooms/!r:localhost/account_data/x", "rooms/!r:localhost/tags/x"] {
        bob.put(&format!("{mine}/{path}"), json!({})).await.fails(403, "M_FORBIDDEN");
    }
    let profile = format!("{V3}/profile/{}/displayname", alice.id);
    bob.put(&profile, json!({ "displayname": "Mallory" })).await.fails(403, "M_FORBIDDEN");
    bob.get(&format!("{V3}/devices/{}", alice.device)).await.fails(404, "M_NOT_FOUND");
    bob.get(&format!("{V3}/presence/{}/status", alice.id)).await.fails(403, "M_FORBIDDEN");
    bob.put(&format!("{V3}/presence/{}/status", alice.id), json!({ "presence": "online" }))
        .await
        .fails(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn a_profile_shows_in_rooms_as_it_changes() {
    let server = Server::start().await;
    let alice = server.register("alice").await;
    let room = alice.create_room(json!({})).await;
    let profile = format!("{V3}/profile/{}", alice.id);
    alice.put(&format!("{profile}/displayname"), json!({ "displayname": "Alice" })).await.ok();
    alice.put(&format!("{profile}/m.tz"), json!({ "m.tz": "Europe/Berlin" })).await.ok();
    let member = alice.get(&in_room(&room, &format!("state/m.room.member/{}", alice.id))).await.ok();
    assert_eq!(member["displayname"], "Alice");
    let whole = server.guest().get(&profile).await.ok();
    assert_eq!(whole, json!({ "displayname": "Alice", "m.tz": "Europe/Berlin" }));
    alice.put(&format!("{profile}/displayname"), json!({ "name": "x" })).await.fails(400, "M_MISSING_PARAM");
    alice.put(&format!("{profile}/BAD"), json!({ "BAD": 1 })).await.fails(400, "M_INVALID_PARAM");
    alice.delete(&format!("{profile}/displayname")).await.ok();
    server.guest().get(&format!("{profile}/displayname")).await.fails(404, "M_NOT_FOUND");
    let member = alice.get(&in_room(&room, &format!("state/m.room.member/{}", alice.id))).await.ok();
    assert!(member["displayname"].is_null());
}

#[tokio::test]
async fn rule_20_the_server_manages_push_rules_and_read_markers() {
    let server = Server::start().await;
    let alice = server.register("alice").await;
    let mine = format!("{V3}/user/{}", alice.id);
    for path in
        ["account_data/m.push_rules", "account_data/m.fully_read", "rooms/!r:localhost/account_data/m.fully_read"]
    {
        alice.put(&format!("{mine}/{path}"), json!({})).await.fails(405, "M_BAD_JSON");
    }
    let rules = format!("{V3}/pushrules/global");
    let cake = json!({ "pattern": "cake", "actions": ["notify"] });
    alice.put(&format!("{rules}/content/cake"), cake.clone()).await.ok();
    alice.put(&format!("{rules}/content/pie?after=cake"), cake.clone()).await.ok();
    alice.put(&format!("{rules}/content/tart?before=none"), cake.clone()).await.fails(400, "M_UNKNOWN");
    alice.put(&format!("{rules}/content/.tart"), cake).await.fails(400, "M_INVALID_PARAM");
    alice.put(&format!("{rules}/override/all"), json!({ "actions": [] })).await.ok();
    alice.put(&format!("{rules}/content/pie/enabled"), json!({ "enabled": false })).await.ok();
    let kept = alice.get(&format!("{V3}/pushrules/")).await.ok();
    let content = kept["global"]["content"].as_array().expect("rules");
    let shown: Vec<_> = content.iter().map(|rule| (rule["rule_id"].as_str(), rule["enabled"].as_bool())).collect();
    assert_eq!(shown, [(Some("cake"), Some(true)), (Some("pie"), Some(false))]);
    assert_eq!(alice.get(&format!("{mine}/account_data/m.push_rules")).await.ok(), kept);
    alice.delete(&format!("{rules}/content/pie")).await.ok();
    alice.get(&format!("{rules}/content/pie")).await.fails(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn guessing_passwords_is_slowed_down() {
    // Behind a proxy calls may come from different addresses.
    let settings = "registration = \"open\"\nrate_limits = true\nbehind_proxy = true\n";
    let server = Server::start_with(settings).await;
    let alice = server.register("alice").await;
    let guest = server.guest();
    let mut last = guest.post(&format!("{V3}/login"), sign_in("alice", "guess number 0")).await;
    for n in 1..12 {
        if last.status == 429 {
            break;
        }
        last.fails(403, "M_FORBIDDEN");
        last = guest.post(&format!("{V3}/login"), sign_in("alice", &format!("guess number {n}"))).await;
    }
    last.fails(429, "M_LIMIT_EXCEEDED");
    assert!(last.headers.contains_key("retry-after") && last.body["retry_after_ms"].as_u64().is_some());
    let right = guest.post(&format!("{V3}/login"), sign_in("alice", &Server::password("alice"))).await;
    right.fails(429, "M_LIMIT_EXCEEDED");

    // The owner is kept out neither elsewhere nor in a session.
    let elsewhere = guest.http.post(format!("{}{V3}/login", server.url)).header("x-forwarded-for", "192.0.2.1:4711");
    guest.send_request(elsewhere.json(&sign_in("alice", &Server::password("alice")))).await.ok();
    let auth = sign_in("alice", &Server::password("alice"));
    let change = json!({"new_password": "another pass phrase", "logout_devices": false, "auth": auth});
    alice.post(&format!("{V3}/account/password"), change).await.ok();
}

#[tokio::test]
async fn a_server_of_this_machine_alone_is_not_registered_at_from_elsewhere() {
    let server = Server::start().await;
    let register = |name: &str, header: (&'static str, &str)| {
        let body = json!({"username": name, "password": "long enough", "auth": {"type": "m.login.dummy"}});
        let guest = server.guest();
        let request = guest.http.post(format!("{}{V3}/register", server.url)).header(header.0, header.1).json(&body);
        async move { guest.send_request(request).await }
    };
    let port = server.address().rsplit_once(':').expect("a port").1;
    let foreign = format!("http://evil.org:{port}");
    for header in [("origin", "https://evil.org"), ("origin", &foreign), ("origin", "null"), ("x-forwarded-for", "::1")]
    {
        let answer = register("mallory", header).await;
        answer.fails(403, "M_FORBIDDEN");
        assert!(answer.body["error"].as_str().is_some_and(|text| text.contains("public_url")));
    }
    register("alice", ("origin", &server.url)).await.ok();
}

#[tokio::test]
async fn what_the_erased_said_is_shown_to_those_alone_who_were_there() {
    let server = Server::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = alice.create_room(json!({"preset": "public_chat"})).await;
    bob.join(&room).await;
    let said = alice.say(&room, "remember me not").await;
    alice.leave(&room).await;
    let auth = json!({"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "alice"},
        "password": Server::password("alice")});
    alice.post("/_matrix/client/v3/account/deactivate", json!({"erase": true, "auth": auth})).await.ok();
    let carol = server.register("carol").await;
    carol.join(&room).await;
    let path = crate::common::in_room(&room, &format!("event/{said}"));
    assert_eq!(bob.get(&path).await.ok()["content"]["body"], "remember me not");
    assert_eq!(carol.get(&path).await.ok()["content"], json!({}));
    let page = carol.get(&crate::common::in_room(&room, "messages?dir=b&limit=50")).await.ok();
    assert!(!page.to_string().contains("remember"), "{page}");
    let search = json!({"search_categories": {"room_events": {"search_term": "remember"}}});
    let count = async |user: &crate::common::User| {
        user.post("/_matrix/client/v3/search", search.clone()).await.ok()["search_categories"]["room_events"]["count"]
            .clone()
    };
    assert_eq!((count(&bob).await, count(&carol).await), (json!(1), json!(0)));
}
