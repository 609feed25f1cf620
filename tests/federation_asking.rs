//! What servers ask each other for their people: files, profiles, directories, keys of devices, and who
//! somebody is.

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use bytes::Bytes;
use reqwest::Method;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use crate::{
    common::{Peer, Says, Server, User, encode, federate, federated, free_address},
    federation_outbox::{let_in, shared},
};

async fn upload(user: &User, query: &str, kind: &str, bytes: impl Into<Bytes>) -> String {
    let path = format!("{}/_matrix/media/v3/upload{query}", user.url);
    let request = user.http.post(path).bearer_auth(user.token.as_deref().expect("a token"));
    let answer = user.send_request(request.header("content-type", kind).body(bytes.into())).await.ok();
    answer["content_uri"].as_str().and_then(|uri| uri.strip_prefix("mxc://")).expect("a URI").to_owned()
}

async fn download(user: &User, place: &str) -> (u16, reqwest::header::HeaderMap, Bytes) {
    let path = format!("{}/_matrix/client/v1/media/{place}", user.url);
    let request = user.http.get(path).bearer_auth(user.token.as_deref().expect("a token"));
    let response = request.send().await.expect("the server answers");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    (status, headers, response.bytes().await.expect("a body"))
}

/// Bytes in which there are many beginnings of what could end them.
fn tricky(length: usize) -> Vec<u8> {
    b"\r\n--a\0\r\n\r\n----\xff".iter().copied().cycle().take(length).collect()
}

#[tokio::test]
async fn files_come_from_other_servers_once_and_stay_when_those_are_gone() {
    let [mut one, two] = federate().await;
    let (alice, bob) = (one.register("alice").await, two.register("bob").await);
    let content = tricky(3_000_000);
    let place = upload(&alice, "?filename=k%C3%A4se.bin", "application/x-cheese", content.clone()).await;
    let path = format!("download/{place}");
    let asked = (0..8).map(|_| {
        let (bob, path) = (bob.clone(), path.clone());
        tokio::spawn(async move { download(&bob, &path).await })
    });
    for asked in asked.collect::<Vec<_>>() {
        let (status, headers, body) = asked.await.expect("asked");
        assert_eq!((status, body == content), (200, true));
        assert_eq!(headers["content-type"], "application/x-cheese");
        assert_eq!(headers["content-disposition"], "attachment; filename*=utf-8''k%C3%A4se.bin");
        assert_eq!(headers["x-content-type-options"], "nosniff");
    }
    let (empty, none) = (upload(&alice, "", "text/plain", "").await, format!("download/{}/nothing", one.name));
    assert_eq!(download(&bob, &format!("download/{empty}")).await.0, 200);
    assert_eq!(download(&bob, &none).await.0, 404);
    assert_eq!(download(&bob, &format!("download/{}/nothing", two.name)).await.0, 404);
    assert!(one.stop().await.success());
    assert_eq!(download(&bob, &path).await.2, content, "it is here");
    assert_eq!(download(&bob, &format!("download/{}/other", one.name)).await.0, 502);
}

#[tokio::test]
async fn pictures_of_other_servers_are_made_smaller_here() {
    let [one, two] = federate().await;
    let (alice, bob) = (one.register("alice").await, two.register("bob").await);
    let mut picture = std::io::Cursor::new(Vec::new());
    image::DynamicImage::new_rgb8(1000, 500).write_to(&mut picture, image::ImageFormat::Png).expect("written");
    let place = upload(&alice, "", "image/png", picture.into_inner()).await;
    let (status, _, body) = download(&bob, &format!("thumbnail/{place}?width=320&height=240")).await;
    assert_eq!(status, 200);
    let small = image::load_from_memory(&body).expect("a picture");
    assert_eq!((small.width(), small.height()), (320, 160));
}

#[tokio::test]
async fn files_that_are_too_large_or_nonsense_or_too_many_are_not_kept() {
    let [one] = federate().await;
    let two = federated("max_upload = \"100 KiB\"\nremote_media_cache = \"150 KiB\"\n", "").await;
    let (alice, bob) = (one.register("alice").await, two.register("bob").await);
    let large = upload(&alice, "", "text/plain", tricky(200_000)).await;
    assert_eq!(download(&bob, &format!("download/{large}")).await.0, 502);
    let mut places = Vec::new();
    for number in 0..4u8 {
        places.push(upload(&alice, "", "text/plain", vec![number; 60_000]).await);
    }
    for (number, place) in places.iter().enumerate() {
        let (status, _, body) = download(&bob, &format!("download/{place}")).await;
        assert_eq!((status, body[0], body.len()), (200, u8::try_from(number).expect("small"), 60_000));
    }
    let kept = std::fs::read_dir(two.data().join("media/remote")).expect("a folder").flatten();
    let folders = kept.filter(|entry| entry.file_name() != "incoming");
    let files = folders.flat_map(|entry| std::fs::read_dir(entry.path()).expect("a folder").flatten());
    let files = files.flat_map(|entry| std::fs::read_dir(entry.path()).expect("a folder").flatten()).count();
    assert_eq!(files, 2, "what was asked for the longest ago is gone");

    let peer = Peer::start().await;
    let endpoint = "/_matrix/federation/v1/media/download/";
    for said in [
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-Type: multipart/mixed; boundary=a\r\nContent-Length: 19\r\n\r\n--a\r\n\r\n{}\r\n--a\r\n\r\n--",
        "HTTP/1.1 200 OK\r\nContent-Type: multipart/mixed; boundary=a\r\nContent-Length: 99\r\n\r\n--a\r\n\r\n{}\r\n--a\r\n\r\nhalf",
        "HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n",
    ] {
        peer.says(endpoint, Says::Bytes(said.as_bytes().to_vec()));
        assert_eq!(download(&bob, &format!("download/{}/x", peer.name())).await.0, 502, "{said}");
    }
    let good = "HTTP/1.1 200 OK\r\nContent-Type: multipart/mixed; boundary=a\r\nContent-Length: 28\r\n\r\n--a\r\n\r\n{}\r\n--a\r\n\r\nhi\r\n--a--\r\n";
    peer.says(endpoint, Says::Bytes(good.as_bytes().to_vec()));
    assert_eq!(&download(&bob, &format!("download/{}/x", peer.name())).await.2[..], b"hi");
}

#[tokio::test]
async fn servers_without_the_endpoint_are_asked_at_the_old_one() {
    let [server] = federate().await;
    let (peer, bob) = (Peer::start().await, server.register("bob").await);
    let old = "HTTP/1.1 200 OK\r\nContent-Type: image/gif\r\nContent-Length: 3\r\n\r\nold";
    peer.says("/_matrix/media/v3/download/", Says::Bytes(old.as_bytes().to_vec()));
    let (status, headers, body) = download(&bob, &format!("download/{}/abc", peer.name())).await;
    assert_eq!(
        (status, &body[..], &headers["content-type"]),
        (200, &b"old"[..], &"image/gif".parse().expect("a value"))
    );
    let asked = peer.asked("/_matrix/media/v3/download/");
    assert!(asked[0].uri.ends_with("/abc?allow_remote=false") && !asked[0].headers.contains_key("authorization"));
}

#[tokio::test]
async fn profiles_and_directories_of_other_servers_are_shown() {
    let [mut one, two] = federate().await;
    let (alice, bob) = (one.register("alice").await, two.register("bob").await);
    let profile = format!("/_matrix/client/v3/profile/{}", encode(&alice.id));
    alice.put(&format!("{profile}/displayname"), json!({"displayname": "Alice"})).await.ok();
    assert_eq!(bob.get(&profile).await.ok()["displayname"], "Alice");
    assert_eq!(bob.get(&format!("{profile}/displayname")).await.ok(), json!({"displayname": "Alice"}));
    bob.get(&format!("{profile}/avatar_url")).await.fails(404, "M_NOT_FOUND");
    let nobody = format!("/_matrix/client/v3/profile/{}", encode(&format!("@nobody:{}", one.name)));
    bob.get(&nobody).await.fails(404, "M_NOT_FOUND");

    let settings = json!({"preset": "public_chat", "visibility": "public", "name": "Den", "room_alias_name": "den"});
    let room = alice.create_room(settings).await;
    let rooms = format!("/_matrix/client/v3/publicRooms?server={}", encode(&one.name));
    for list in [bob.get(&rooms).await.ok(), bob.post(&rooms, json!({"limit": 5})).await.ok()] {
        assert_eq!((&list["chunk"][0]["room_id"], &list["chunk"][0]["name"]), (&json!(room), &json!("Den")));
    }
    let other = bob.post(&rooms, json!({"filter": {"generic_search_term": "kitchen"}})).await.ok();
    assert_eq!(other["chunk"], json!([]));
    let peer = Peer::start().await;
    let alias = encode(&format!("#den:{}", one.name));
    let query = format!("/_matrix/federation/v1/query/directory?room_alias={alias}");
    let found = peer.ask(&one, Method::GET, &query, None).await;
    assert_eq!(found.status, 200, "{}", found.body);
    assert_eq!(found.body, json!({"room_id": room, "servers": [one.name]}));
    assert_eq!(
        peer.ask(&one, Method::GET, "/_matrix/federation/v1/publicRooms", None).await.ok()["chunk"][0]["name"],
        "Den"
    );
    assert!(one.stop().await.success());
    assert_eq!(bob.get(&profile).await.status, 502);
}

#[tokio::test]
async fn a_token_says_who_somebody_is_and_nothing_else() {
    let [one] = federate().await;
    let alice = one.register("alice").await;
    let path = format!("/_matrix/client/v3/user/{}/openid/request_token", encode(&alice.id));
    let token = alice.post(&path, json!({})).await.ok();
    assert_eq!((&token["matrix_server_name"], &token["expires_in"]), (&json!(one.name), &json!(3600)));
    let token = token["access_token"].as_str().expect("a token").to_owned();
    let userinfo = |token: &str| format!("/_matrix/federation/v1/openid/userinfo?access_token={}", encode(token));
    assert_eq!(one.guest().get(&userinfo(&token)).await.ok(), json!({"sub": alice.id}));
    one.guest().get(&userinfo(&token.replace('.', "x"))).await.fails(401, "M_UNKNOWN_TOKEN");
    one.guest().get(&userinfo(alice.token.as_deref().expect("one"))).await.fails(401, "M_UNKNOWN_TOKEN");
    let as_session = User { token: Some(token), ..one.guest() };
    as_session.get("/_matrix/client/v3/account/whoami").await.fails(401, "M_UNKNOWN_TOKEN");
    let bobs = format!("/_matrix/client/v3/user/{}/openid/request_token", encode(&format!("@bob:{}", one.name)));
    alice.post(&bobs, json!({})).await.fails(403, "M_FORBIDDEN");
}

/// A key pair that signs JSON, as clients do.
pub struct Key(Ed25519KeyPair);

impl Key {
    pub fn new() -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&hearth::base::random::bytes::<32>()).expect("a key"))
    }

    pub fn sign(&self, object: &mut Value, user: &str, name: &str) {
        let canonical = hearth::base::json::canonical(object.as_object().expect("an object").clone());
        let message = hearth::base::signed_json::signed_part(&canonical.expect("canonical")).expect("canonical");
        let signature = STANDARD_NO_PAD.encode(self.0.sign(message.as_bytes()));
        object["signatures"][user][format!("ed25519:{name}")] = signature.into();
    }

    fn public(&self) -> String {
        STANDARD_NO_PAD.encode(self.0.public_key())
    }

    /// It as somebody's cross-signing key, signed by the master key if it is another.
    pub fn of_person(&self, user: &str, usage: &str, master: Option<&Self>) -> Value {
        let public = self.public();
        let mut key = json!({"user_id": user, "usage": [usage], "keys": {format!("ed25519:{public}"): public}});
        if let Some(master) = master {
            master.sign(&mut key, user, &master.public());
        }
        key
    }

    /// Keys of somebody's device.
    pub fn of_device(&self, user: &str, device: &str) -> Value {
        let public = self.public();
        let mut keys = json!({
            "user_id": user,
            "device_id": device,
            "algorithms": ["m.megolm.v1.aes-sha2"],
            "keys": {format!("ed25519:{device}"): public, format!("curve25519:{device}"): "AAAA"},
        });
        self.sign(&mut keys, user, device);
        keys
    }
}

const QUERY: &str = "/_matrix/client/v3/keys/query";
const CLAIM: &str = "/_matrix/client/v3/keys/claim";

#[tokio::test]
async fn keys_are_asked_and_claimed_across_servers_and_who_does_not_answer_is_named() {
    let [one, two] = federate().await;
    let (alice, bob) = (one.register("alice").await, two.register("bob").await);
    let key = Key::new();
    let keys = key.of_device(&alice.id, &alice.device);
    let mut once = json!({"key": "once"});
    key.sign(&mut once, &alice.id, &alice.device);
    let body = json!({"device_keys": keys, "one_time_keys": {"signed_curve25519:A": once}});
    alice.post("/_matrix/client/v3/keys/upload", body).await.ok();
    let devices = format!("/_matrix/client/v3/devices/{}", alice.device);
    alice.put(&devices, json!({"display_name": "my secret phone"})).await.ok();

    let gone = format!("localhost:{}", free_address().port());
    let ghost = format!("@ghost:{gone}");
    let asked = json!({"device_keys": {&alice.id: [], &ghost: [], &bob.id: []}, "timeout": 5000});
    let answer = bob.post(QUERY, asked).await.ok();
    let mut shown = answer["device_keys"][&alice.id][&alice.device].clone();
    shown.as_object_mut().expect("an object").remove("unsigned");
    assert_eq!(shown, keys);
    assert!(!answer.to_string().contains("secret phone"));
    assert!(
        answer["failures"][&gone].is_object() && answer["failures"].as_object().map(serde_json::Map::len) == Some(1)
    );
    let asked =
        json!({"one_time_keys": {&alice.id: {&alice.device: "signed_curve25519"}, &ghost: {"X": "signed_curve25519"}}});
    let claimed = bob.post(CLAIM, asked.clone()).await.ok();
    assert_eq!(claimed["one_time_keys"][&alice.id][&alice.device]["signed_curve25519:A"], once);
    assert!(claimed["failures"][&gone].is_object());
    let again = bob.post(CLAIM, asked).await.ok();
    assert!(again["one_time_keys"][&alice.id].is_null(), "each is given once: {again}");
}

#[tokio::test]
async fn what_is_known_of_company_is_kept_and_what_is_forged_is_not_passed_on() {
    let [mut server] = federate().await;
    let peer = Peer::start().await;
    let alice = server.register("alice").await;
    let room = alice.create_room(json!({"preset": "public_chat"})).await;
    let_in(&mut server, &room, vec![peer.name().to_owned()]).await;
    let (bob, key) = (format!("@bob:{}", peer.name()), Key::new());
    let good = key.of_device(&bob, "GOOD");
    let mut forged = key.of_device(&bob, "FORGED");
    forged["algorithms"] = json!(["none"]);
    let foreign = key.of_device(&alice.id, "FOREIGN");
    let devices = json!({"GOOD": good, "FORGED": forged, "FOREIGN": foreign});
    let said = json!({"device_keys": {&bob: devices, &alice.id: {"X": foreign}}});
    peer.says("/_matrix/federation/v1/user/keys/query", Says::Json(200, said));
    let ask = async |server: &Server| {
        let alice = User { url: server.url.clone(), ..alice.clone() };
        alice.post(QUERY, json!({"device_keys": {&bob: []}})).await.ok()
    };
    for _ in 0..2 {
        let answer = ask(&server).await;
        let devices = answer["device_keys"][&bob].as_object().expect("devices");
        assert_eq!(devices.keys().collect::<Vec<_>>(), ["GOOD"]);
        assert!(answer["device_keys"][&alice.id].is_null());
    }
    assert_eq!(peer.asked("/_matrix/federation/v1/user/keys/query").len(), 1, "asked once, kept then");
    server.restart().await;
    assert!(ask(&server).await["device_keys"][&bob]["GOOD"].is_object());
    assert_eq!(peer.asked("/_matrix/federation/v1/user/keys/query").len(), 1);
}

#[tokio::test]
async fn what_allows_an_event_is_told_with_the_create_event_that_the_rooms_name_stands_for() {
    let (server, peer, alice, room) = shared().await;
    let said = alice.say(&room, "why may I").await;
    let path = format!("/_matrix/federation/v1/event_auth/{}/{}", encode(&room), encode(&said));
    let told = peer.ask(&server, Method::GET, &path, None).await.ok();
    let chain = told["auth_chain"].as_array().expect("a list");
    let mut kinds: Vec<_> = chain.iter().filter_map(|event| event["type"].as_str()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["m.room.create", "m.room.member", "m.room.power_levels"]);
}
