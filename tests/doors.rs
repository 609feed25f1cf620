//! Every door, tried by those to whom it is shut: without a token, with a wrong one, and with one that is good
//! for somebody else's things. The list of doors is the router's own, so that a new one is tried from its first day.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use crate::common::{Server, User, encode, in_room, until};

/// (method, path, who may call), without the older prefixes under which paths are repeated.
pub fn doors() -> Vec<(Method, String, String)> {
    let routes = hearth::routes(&hearth::config::Config::default());
    let old = |path: &str| path.starts_with("/_matrix/client/r0/");
    let all = routes.listed().filter(|(_, path, _)| !old(path));
    all.map(|(method, path, who)| (method.parse().expect("a method"), path.to_owned(), who.to_owned())).collect()
}

/// A path with these in the place of its arguments, and something for all others.
pub fn fill(path: &str, arguments: &BTreeMap<&str, String>) -> String {
    let segment = |segment: &str| match segment.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
        Some(name) => encode(arguments.get(name).map_or("something", String::as_str)),
        None => segment.to_owned(),
    };
    path.split('/').map(segment).collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn nobody_comes_in_without_a_token_or_with_a_wrong_one() {
    let server = Server::start().await;
    let (nobody, mut liar) = (server.guest(), server.guest());
    liar.token = Some("not_a_token".to_owned());
    let (mut tried, mut wrongs) = (0, Vec::new());
    for (method, path, who) in doors() {
        if !matches!(&*who, "token" | "admin") {
            continue;
        }
        let filled = fill(&path, &BTreeMap::from([("user_id", "@alice:localhost".to_owned())]));
        for (user, code) in [(&nobody, "M_MISSING_TOKEN"), (&liar, "M_UNKNOWN_TOKEN")] {
            let body = (method != Method::GET).then(|| json!({}));
            let answer = user.request(method.clone(), &filled, body).await;
            if (answer.status, &answer.body["errcode"]) != (401, &json!(code)) {
                wrongs.push(format!("{method} {path}: {} {} and not {code}", answer.status, answer.body["errcode"]));
            }
            tried += 1;
        }
    }
    assert!(wrongs.is_empty(), "{wrongs:#?}");
    assert!(tried > 200, "only {tried} were tried");
}

/// Alice, with something of everything that she could lose.
struct Owner {
    user: User,
    room: String,
    arguments: BTreeMap<&'static str, String>,
}

impl Owner {
    async fn settle(server: &Server) -> Self {
        let user = server.register("alice").await;
        let room = user.create_room(json!({"preset": "private_chat", "name": "Mine", "room_alias_name": "mine"})).await;
        let event = user.say(&room, "to myself").await;
        let me = format!("/_matrix/client/v3/user/{}", encode(&user.id));
        let filter = user.post(&format!("{me}/filter"), json!({"room": {"timeline": {"limit": 3}}})).await.ok();
        user.put(&format!("{me}/account_data/chat.test.mine"), json!({"mine": true})).await.ok();
        user.put(&format!("{me}/rooms/{}/account_data/chat.test.mine", encode(&room)), json!({"mine": true}))
            .await
            .ok();
        user.put(&format!("{me}/rooms/{}/tags/u.mine", encode(&room)), json!({})).await.ok();
        user.put(&format!("/_matrix/client/v3/profile/{}/displayname", encode(&user.id)), json!({"displayname": "A"}))
            .await
            .ok();
        let alias = format!("#mine:{}", server.name);
        let arguments = BTreeMap::from([
            ("user_id", user.id.clone()),
            ("device_id", user.device.clone()),
            ("room_id", room.clone()),
            ("room_id_or_alias", room.clone()),
            ("room_alias", alias),
            ("event_id", event),
            ("event_type", "chat.test.mine".to_owned()),
            ("filter_id", filter["filter_id"].as_str().expect("an ID").to_owned()),
            ("tag", "u.mine".to_owned()),
            ("field", "displayname".to_owned()),
            ("receipt_type", "m.read".to_owned()),
        ]);
        Self { user, room, arguments }
    }

    /// All that is hers, but for what changes by itself.
    async fn things(&self) -> Value {
        let mut sync = self.user.sync(None, 0).await;
        sync.as_object_mut().expect("an object").retain(|key, _| matches!(&**key, "rooms" | "account_data"));
        let mut devices = self.user.get("/_matrix/client/v3/devices").await.ok();
        let mut alias = self.user.get("/_matrix/client/v3/directory/room/%23mine%3Alocalhost").await.ok();
        let listed =
            self.user.get(&format!("/_matrix/client/v3/directory/list/room/{}", encode(&self.room))).await.ok();
        let profile = self.user.get(&format!("/_matrix/client/v3/profile/{}", encode(&self.user.id))).await.ok();
        for value in [&mut sync, &mut devices, &mut alias] {
            without_time(value);
        }
        json!({"sync": sync, "devices": devices, "alias": alias, "listed": listed, "profile": profile})
    }
}

fn without_time(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|key, _| !matches!(&**key, "age" | "last_seen_ts" | "prev_batch" | "last_active_ago"));
            fields.values_mut().for_each(without_time);
        }
        Value::Array(items) => items.iter_mut().for_each(without_time),
        _ => {}
    }
}

/// What anybody with an account may ask of others and their rooms, and why.
const OPEN: [(&str, &str); 6] = [
    ("GET", "/profile/"),
    ("GET", "/directory/"),
    // Whoever has seen somebody or a room may report them; events only who is in the room.
    ("POST", "/users/{user_id}/report"),
    ("POST", "/rooms/{room_id}/report"),
    // One's own: the keys that somebody keeps of the messages of a room.
    ("*", "/room_keys/"),
    ("POST", "/dehydrated_device/{device_id}/events"),
];

fn is_open(method: &Method, path: &str) -> bool {
    OPEN.iter().any(|(open, part)| {
        (*open == "*" || *open == method.as_str()) && path.contains(part) && !path.contains("/report/")
    })
}

#[tokio::test]
async fn what_is_somebody_elses_stays_theirs() {
    let server = Server::start().await;
    let owner = Owner::settle(&server).await;
    let mallory = server.register("mallory").await;
    let before = until("all is there", async || Some(owner.things().await)).await;
    // As many fields as any of them wants, so that what is wrong is who asks.
    let body = json!({
        "user_id": owner.user.id, "membership": "join", "displayname": "M", "avatar_url": "mxc://localhost/m",
        "typing": true, "timeout": 1000, "presence": "online", "reason": "none", "room_id": owner.room,
        "visibility": "public", "new_version": "11", "mine": false, "display_name": "stolen", "locked": true,
        "suspended": true, "new_password": "stolen stolen", "erase": true, "block": true, "admin": false,
        "devices": [owner.user.device], "m.fully_read": "$e", "score": 0,
        "delay_ms": 1000, "content": {},
    });
    let (mut tried, mut wrongs) = (0, Vec::new());
    for (method, path, who) in doors() {
        let theirs = ["{user_id}", "{room_id", "{room_alias}", "{device_id}"].iter().any(|part| path.contains(part));
        if !theirs || !matches!(&*who, "token" | "admin" | "optional") || is_open(&method, &path) {
            continue;
        }
        let body = (method != Method::GET).then(|| body.clone());
        let answer = mallory.request(method.clone(), &(fill(&path, &owner.arguments) + "?ts=0&dir=f"), body).await;
        let code = answer.body["errcode"].as_str().unwrap_or("nothing");
        let refused = match (&method, path.rsplit('/').next()) {
            // She is asked for her own password first, and then has no such device.
            (&Method::DELETE, Some("{device_id}")) if who == "token" => answer.status == 401,
            // An alias that is taken stays whose it is.
            (&Method::PUT, Some("{room_alias}")) => answer.status == 409,
            _ => matches!((answer.status, code), (403, "M_FORBIDDEN") | (404, "M_NOT_FOUND")),
        };
        if !refused {
            wrongs.push(format!("{method} {path}: {} {}", answer.status, answer.body));
        }
        tried += 1;
    }
    assert!(wrongs.is_empty(), "{wrongs:#?}");
    assert!(tried > 80, "only {tried} were tried");
    assert_eq!(owner.things().await, before, "changed by somebody else");
    assert!(mallory.get(&in_room(&owner.room, "state")).await.status == 403);
}
