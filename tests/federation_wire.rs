//! The wire between servers: keys, notaries, who may ask and who is asked. Point by point what matrix's
//! threat model says of identity; each refusal beside what passes.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt, task::JoinHandle};

use crate::common::{
    Answer, Peer, Says, Server, ask_as, certificates, encode, federate, federated, free_address, repository, until,
};

/// An endpoint that wants a server's signature, whatever it answers then.
const SIGNED: &str = "/_matrix/federation/v1/query/nonsense?of=%40nobody%3Alocalhost&and=more";

/// Whether a server has let that request in.
fn admitted(answer: &Answer) -> bool {
    answer.status == 404 && answer.body["errcode"] == "M_NOT_FOUND"
}

/// What the log says where the keys of a server can't be had; then comes why.
fn complaint(of: &Peer) -> String {
    format!("can't get the keys of {}: ", of.name())
}

/// That the log says why the keys of a server can't be had.
fn complains(server: &Server, of: &Peer) {
    let (line, log) = (complaint(of), server.log());
    let why = log.lines().find_map(|text| text.split_once(&line)).expect("a line in the log").1;
    assert!(!why.is_empty(), "{log}");
}

/// Has a server ask `peer` for its keys, for somebody who wants to know them. Answers what came of it.
async fn asks(server: &Server, peer: &Peer) -> Vec<Value> {
    let answer = server.guest().get(&format!("/_matrix/key/v2/query/{}", encode(peer.name()))).await.ok();
    answer["server_keys"].as_array().expect("an array").clone()
}

#[tokio::test]
async fn keys_are_published_signed_and_outlive_their_rotation() {
    let [mut server] = federate().await;
    let keys = server.guest().get("/_matrix/key/v2/server").await.ok();
    assert_eq!(keys["server_name"], server.name.as_str());
    let (id, key) = keys["verify_keys"].as_object().and_then(|keys| keys.iter().next()).expect("a key");
    assert!(id.starts_with("ed25519:") && keys["signatures"][&server.name][id].is_string(), "{keys}");
    assert!(keys["valid_until_ts"].as_u64().expect("a time") > keys["verify_keys"].as_object().map_or(0, |_| now()));
    for same in ["/_matrix/key/v2/server/", "/_matrix/key/v2/server/ed25519%3Aold"] {
        assert_eq!(server.guest().get(same).await.ok()["verify_keys"], keys["verify_keys"]);
    }

    let rotate = |server: &Server| {
        Server::command().arg("rotate-key").arg("--config").arg(server.config()).output().expect("it runs")
    };
    assert!(!rotate(&server).status.success(), "not while it runs");
    assert!(server.stop().await.success());
    let output = rotate(&server);
    assert!(output.status.success(), "{output:?}");
    server.resume().await;
    let after = server.guest().get("/_matrix/key/v2/server").await.ok();
    assert!(after["verify_keys"][id].is_null());
    assert_eq!(after["old_verify_keys"][id]["key"], key["key"]);
    assert!(after["old_verify_keys"][id]["expired_ts"].as_u64().expect("a time") <= now());
}

fn now() -> u64 {
    hearth::base::clock::now_ms()
}

#[tokio::test]
async fn a_notary_vouches_for_those_whose_keys_it_has_seen() {
    let [server] = federate().await;
    let (peer, guest) = (Peer::start().await, server.guest());
    for answer in [
        guest.get(&format!("/_matrix/key/v2/query/{}", encode(peer.name()))).await,
        guest.get(&format!("/_matrix/key/v2/query/{}/ed25519%3Ax", encode(peer.name()))).await,
        guest.post("/_matrix/key/v2/query", json!({"server_keys": {peer.name(): {}}})).await,
    ] {
        let keys = &answer.ok()["server_keys"][0];
        assert_eq!(keys["verify_keys"], peer.keys()["verify_keys"]);
        assert!(keys["signatures"][peer.name()].is_object() && keys["signatures"][&server.name].is_object(), "{keys}");
    }
    assert_eq!(peer.asked("/_matrix/key/v2/server").len(), 1, "asked once, kept then");
    let own = guest.post("/_matrix/key/v2/query", json!({"server_keys": {&server.name: {}}})).await.ok();
    assert_eq!(own["server_keys"][0]["server_name"], server.name.as_str());
    let gone = format!("localhost:{}", free_address().port());
    let none = guest.post("/_matrix/key/v2/query", json!({"server_keys": {gone: {}}})).await.ok();
    assert_eq!(none["server_keys"], json!([]));
}

#[tokio::test]
async fn a_signed_request_passes_in_every_way_to_write_it() {
    let [server] = federate().await;
    let peer = Peer::start().await;
    let good = peer.authorization(&server.name, &Method::GET, SIGNED, None);
    assert!(admitted(&ask_as(&server, &good, Method::GET, SIGNED, None).await));
    let parameters: Vec<&str> = good.trim_start_matches("X-Matrix ").split(',').collect();
    let backwards: Vec<&str> = parameters.iter().rev().copied().collect();
    for same in [
        good.replace('"', ""),
        good.replace("X-Matrix", "x-mAtRiX").replace("origin=", "Origin = "),
        format!("X-Matrix {}, unknown=\"a,b\"", backwards.join(" ,\t")),
    ] {
        assert!(admitted(&ask_as(&server, &same, Method::GET, SIGNED, None).await), "{same}");
    }
    let old: Vec<&str> = parameters.iter().filter(|part| !part.starts_with("destination")).copied().collect();
    let old = format!("X-Matrix {}", old.join(","));
    assert!(admitted(&ask_as(&server, &old, Method::GET, SIGNED, None).await), "old servers name no destination");
    assert_eq!(peer.asked("/_matrix/key/v2/server").len(), 1, "its key is fetched once");
}

#[tokio::test]
async fn what_is_not_signed_as_it_was_sent_is_refused() {
    let [server, other] = federate().await;
    let (peer, stranger) = (Peer::start().await, Peer::start().await);
    let good = peer.authorization(&server.name, &Method::GET, SIGNED, None);
    let refused = async |authorization: &str, method: Method, uri: &str, body: Option<Value>| {
        let answer = ask_as(&server, authorization, method, uri, body).await;
        answer.fails(401, "M_UNAUTHORIZED");
    };
    server.guest().get(SIGNED).await.fails(401, "M_UNAUTHORIZED");
    refused("Bearer abc", Method::GET, SIGNED, None).await;
    refused("X-Matrix origin=a.b", Method::GET, SIGNED, None).await;
    refused(&good, Method::GET, &SIGNED.replace("nobody", "anybody"), None).await;
    let elsewhere = peer.authorization(&other.name, &Method::GET, SIGNED, None);
    refused(&elsewhere, Method::GET, SIGNED, None).await;
    refused(&elsewhere.replace(&other.name, &server.name), Method::GET, SIGNED, None).await;
    let own = stranger.authorization(&server.name, &Method::GET, SIGNED, None);
    refused(&own.replace(stranger.name(), peer.name()), Method::GET, SIGNED, None).await;
    refused(&good.replace(peer.name(), &server.name), Method::GET, SIGNED, None).await;
    refused(&good.replace(peer.me.key.id().as_str(), "ed25519:other"), Method::GET, SIGNED, None).await;
    let flipped =
        if good.contains("sig=\"A") { good.replace("sig=\"A", "sig=\"B") } else { good.replace("sig=\"", "sig=\"A") };
    refused(&flipped, Method::GET, SIGNED, None).await;
    // Once in a while for each address and name, whatever it says.
    for claimed in [peer.name(), &server.name] {
        let line = format!("says that it is {claimed}, and is not believed: ");
        assert_eq!(server.log().matches(&line).count(), 1, "{}", server.log());
    }
}

#[tokio::test]
async fn a_body_is_signed_with_its_request() {
    let [server] = federate().await;
    let peer = Peer::start().await;
    let (uri, body) = ("/_matrix/federation/v1/user/keys/query", json!({"device_keys": {}}));
    let signed = peer.authorization(&server.name, &Method::POST, uri, Some(&body));
    ask_as(&server, &signed, Method::POST, uri, Some(body)).await.ok();
    for other in [Some(json!({"device_keys": {"@a:b.c": []}})), None] {
        ask_as(&server, &signed, Method::POST, uri, other).await.fails(401, "M_UNAUTHORIZED");
    }
}

#[tokio::test]
async fn a_strangers_body_is_not_read_and_a_servers_only_so_far() {
    let [server] = federate().await;
    let (peer, stranger) = (Peer::start().await, Peer::start().await);
    stranger.says("/_matrix/key/v2/server", Says::Json(404, json!({})));
    let uri = "/_matrix/federation/v1/user/keys/query";
    let large = |bytes: usize| Some(json!({"device_keys": {}, "x": "x".repeat(bytes)}));
    // So small that it is sent before the answer comes, and the connection stays whole.
    stranger.ask(&server, Method::POST, uri, large(1000)).await.fails(401, "M_UNAUTHORIZED");
    peer.ask(&server, Method::POST, uri, large(1 << 20)).await.ok();
    peer.ask(&server, Method::POST, uri, large(14 << 20)).await.fails(413, "M_TOO_LARGE");
}

#[tokio::test]
async fn keys_that_prove_nothing_are_refused_whatever_they_have_signed() {
    let [server] = federate().await;
    let other = Peer::start().await;
    let expired = |peer: &Peer| {
        let mut keys = peer.keys();
        keys["valid_until_ts"] = json!(now() - 1000);
        keys.as_object_mut().expect("an object").remove("signatures");
        peer.sign(keys)
    };
    let given_up = |peer: &Peer| {
        let mut keys = peer.keys();
        keys["old_verify_keys"] = keys["verify_keys"].take();
        keys["old_verify_keys"][peer.me.key.id().as_str()]["expired_ts"] = json!(now() + 1_000_000);
        keys["verify_keys"] = json!({});
        keys.as_object_mut().expect("an object").remove("signatures");
        peer.sign(keys)
    };
    let unsigned = |peer: &Peer| {
        let mut keys = peer.keys();
        keys["signatures"] = json!({});
        keys
    };
    let of_another = |_: &Peer| other.keys();
    let garbage = |_: &Peer| json!(["no", "keys"]);
    let ways: [&dyn Fn(&Peer) -> Value; 5] = [&expired, &given_up, &unsigned, &of_another, &garbage];
    for (number, say) in ways.iter().enumerate() {
        let peer = Peer::start().await;
        peer.says("/_matrix/key/v2/server", Says::Json(200, say(&peer)));
        let answer = peer.ask(&server, Method::GET, SIGNED, None).await;
        assert_eq!((answer.status, answer.body["errcode"].as_str()), (401, Some("M_UNAUTHORIZED")), "way {number}");
        let line = format!("says that it is {}, and is not believed: ", peer.name());
        assert!(server.log().contains(&line), "way {number}: {}", server.log());
    }
}

#[tokio::test]
async fn private_addresses_are_not_called_unless_the_settings_say_so() {
    let peer = Peer::start().await;
    let careful = federated("", "allow_private_addresses = false\n").await;
    let port = peer.name().trim_start_matches("localhost").to_owned();
    for host in ["localhost", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"] {
        let query = format!("/_matrix/key/v2/query/{}", encode(&format!("{host}{port}")));
        assert_eq!(careful.guest().get(&query).await.ok()["server_keys"], json!([]), "{host}");
    }
    peer.ask(&careful, Method::GET, SIGNED, None).await.fails(401, "M_UNAUTHORIZED");
    assert_eq!(peer.asked("/").len(), 0, "nobody called");
    let generous = federated("", "allow_private_addresses = [\"127.0.0.1\"]\n").await;
    assert!(admitted(&peer.ask(&generous, Method::GET, SIGNED, None).await));
}

#[tokio::test]
async fn only_the_right_certificate_is_trusted() {
    let [server] = federate().await;
    let folder = TempDir::new().expect("a directory");
    let make = |names: &[&str], folder: &std::path::Path| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        hearth::dev_cert::make(folder, &names).expect("made");
    };
    make(&["localhost"], folder.path());
    let of_nobody =
        Peer::start_with(&folder.path().join("localhost.pem"), &folder.path().join("localhost-key.pem")).await;
    of_nobody.ask(&server, Method::GET, SIGNED, None).await.fails(401, "M_UNAUTHORIZED");

    let ours = TempDir::new().expect("a directory");
    for file in ["ca.pem", "ca-key.pem"] {
        std::fs::copy(certificates().join(file), ours.path().join(file)).expect("copied");
    }
    make(&["elsewhere.example"], ours.path());
    let file = |name: &str| ours.path().join(name);
    let of_another = Peer::start_with(&file("elsewhere.example.pem"), &file("elsewhere.example-key.pem")).await;
    of_another.ask(&server, Method::GET, SIGNED, None).await.fails(401, "M_UNAUTHORIZED");
    assert!(of_nobody.asked("/").is_empty() && of_another.asked("/").is_empty(), "nothing was said to them");
    complains(&server, &of_nobody);
    complains(&server, &of_another);
}

#[tokio::test]
async fn answers_that_are_no_answers_cost_little_and_do_no_harm() {
    let [server] = federate().await;
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    let deep = format!("{head}Content-Length: 400000\r\n\r\n{}", "[".repeat(400_000));
    for (what, says) in [
        ("garbage", Says::Bytes(b"\0\x01 this is no HTTP".to_vec())),
        ("no JSON", Says::Bytes(format!("{head}Content-Length: 3\r\n\r\nhey").into_bytes())),
        ("other JSON", Says::Json(200, json!({"server_name": 5}))),
        ("broken off", Says::Bytes(format!("{head}Content-Length: 300\r\n\r\n{{").into_bytes())),
        ("nested", Says::Bytes(deep.into_bytes())),
        ("announced", Says::Bytes(format!("{head}Content-Length: 99999999999\r\n\r\n{{").into_bytes())),
        ("endless body", Says::Endless(format!("{head}\r\n{{\"server_name\":\" ").into_bytes())),
        ("endless head", Says::Endless(b"HTTP/1.1 200 OK\r\nX: a".to_vec())),
        ("a page", Says::Bytes(b"HTTP/1.1 503 No\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nno".to_vec())),
        ("elsewhere", Says::Bytes(b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n".to_vec())),
    ] {
        let peer = Peer::start().await;
        peer.says("/_matrix/key/v2/server", says);
        let (before, began) = (server.memory(), Instant::now());
        assert_eq!(asks(&server, &peer).await, Vec::<Value>::new(), "{what}");
        assert_eq!(peer.asked("/_matrix/key/v2/server").len(), 1, "{what}");
        assert!(began.elapsed() < Duration::from_secs(20), "{what} took {:?}", began.elapsed());
        assert!(server.memory() < before + (96 << 20), "{what} took memory");
        complains(&server, &peer);
        assert!(peer.asked("/x").is_empty(), "it goes where it is sent");
    }
    assert_eq!(asks(&server, &Peer::start().await).await.len(), 1, "others are asked as before");
}

#[tokio::test]
async fn who_does_not_answer_keeps_nobody_else_waiting_and_is_not_waited_for_again() {
    let [server] = federate().await;
    let (silent, lively) = (Peer::start().await, Peer::start().await);
    silent.says("/", Says::Silence);
    let waiting: Vec<_> = (0..40)
        .map(|_| {
            let (guest, name) = (server.guest(), encode(silent.name()));
            tokio::spawn(async move { guest.get(&format!("/_matrix/key/v2/query/{name}")).await })
        })
        .collect();
    until("a call", async || (!silent.asked("/").is_empty()).then_some(())).await;
    assert!(admitted(&lively.ask(&server, Method::GET, SIGNED, None).await));
    assert_eq!(asks(&server, &lively).await.len(), 1);
    assert!(!waiting.iter().any(JoinHandle::is_finished), "the others are answered before they are");
    for waiting in waiting {
        assert_eq!(waiting.await.expect("answered").ok()["server_keys"], json!([]));
    }
    until("a line in the log", async || server.log().contains(&complaint(&silent)).then_some(())).await;
    assert_eq!(asks(&server, &silent).await, Vec::<Value>::new());
    assert_eq!(silent.asked("/").len(), 1, "all who want the same wait for one call, and it is not tried again soon");
}

#[tokio::test]
async fn a_server_says_what_it_is_and_where() {
    let [server] = federate().await;
    let version = server.guest().get("/_matrix/federation/v1/version").await.ok();
    assert_eq!(version["server"]["name"], "Hearth");
    server.guest().get("/.well-known/matrix/server").await.fails(404, "M_NOT_FOUND");
    let told = federated("", "address = \"matrix.example.org:8448\"\n").await;
    let page = told.guest().get("/.well-known/matrix/server").await;
    assert!(page.headers.contains_key("access-control-allow-origin"));
    assert_eq!(page.ok(), json!({"m.server": "matrix.example.org:8448"}));
    server.guest().get("/.well-known/matrix/support").await.fails(404, "M_NOT_FOUND");
    let known = federated("support = { email = \"admin@example.org\", page = \"https://example.org/help\" }", "").await;
    let page = known.guest().get("/.well-known/matrix/support").await.ok();
    let contacts = json!([{"role": "m.role.admin", "email_address": "admin@example.org"}]);
    assert_eq!(page, json!({"contacts": contacts, "support_page": "https://example.org/help"}));
    let alone = federated("", "enabled = false\n").await;
    alone.guest().get("/_matrix/federation/v1/version").await.fails(404, "M_UNRECOGNIZED");
}

#[tokio::test]
async fn the_two_servers_of_the_example_know_each_other() {
    let dir = TempDir::new().expect("a directory");
    let ports = [free_address(), free_address(), free_address(), free_address()].map(|address| address.port());
    let binary = Server::command().get_program().to_owned();
    let mut example = std::process::Command::new(repository("examples/two-servers"))
        .arg(dir.path())
        .env("HEARTH", binary)
        .env("PORTS", ports.map(|port| port.to_string()).join(" "))
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("it runs");
    let http = reqwest::Client::new();
    let url = format!("http://127.0.0.1:{}/_matrix/key/v2/query/localhost%3A{}", ports[0], ports[3]);
    let look = async || {
        let answer: Value = http.get(&url).send().await.ok()?.json().await.ok()?;
        answer["server_keys"].get(0).cloned()
    };
    let keys = until("the key of the one, vouched for by the other", look).await;
    let signed = std::process::Command::new("kill").arg(example.id().to_string()).status();
    assert!(signed.is_ok_and(|signed| signed.success()) && example.wait().is_ok(), "it ends");
    assert_eq!(keys["server_name"], format!("localhost:{}", ports[3]));
}

/// A server whose keys could not be had while it was down is believed as soon as it speaks again, however
/// long it was asked for them in vain.
#[tokio::test]
async fn who_is_back_is_believed_at_once() {
    let ([server], peer) = (federate().await, Peer::start().await);
    peer.says("/_matrix/key/v2/server", Says::Json(503, json!("down")));
    let asked = || peer.asked("/_matrix/key/v2/server").len();
    for attempts in 1..=3 {
        until("it was asked for its keys", async || {
            peer.ask(&server, Method::GET, SIGNED, None).await.fails(401, "M_UNAUTHORIZED");
            (asked() == attempts).then_some(())
        })
        .await;
    }
    peer.says("/_matrix/key/v2/server", Says::Json(200, peer.keys()));
    let began = Instant::now();
    until("it is believed", async || admitted(&peer.ask(&server, Method::GET, SIGNED, None).await).then_some(())).await;
    // Nobody else would ask it again for twenty seconds.
    assert!(began.elapsed() < Duration::from_secs(18), "{:?}", began.elapsed());
    assert!(asked() <= 5, "it was asked {} times", asked());
}

/// Whoever claims to be a server, and then takes their time with what they say, takes nothing from it.
#[tokio::test]
async fn who_only_names_a_server_keeps_it_from_nothing() {
    let ([server], peer) = (federate().await, Peer::start().await);
    assert!(admitted(&peer.ask(&server, Method::GET, SIGNED, None).await));
    let body = json!({"origin": peer.name(), "origin_server_ts": 1, "pdus": []});
    let uri = "/_matrix/federation/v1/send/slow";
    let authorization = peer.authorization(&server.name, &Method::PUT, uri, Some(&body));
    let head = format!(
        "PUT {uri} HTTP/1.1\r\nHost: {}\r\nAuthorization: {authorization}\r\nContent-Length: 500\r\n\r\n{{",
        server.name
    );
    let mut slow = Vec::new();
    for _ in 0..40 {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.0.2:0".parse().expect("an address")).expect("another address of this machine");
        let mut stream = socket.connect(server.address().parse().expect("an address")).await.expect("connected");
        stream.write_all(head.as_bytes()).await.expect("sent");
        slow.push(stream);
    }
    let ask = peer.ask(&server, Method::PUT, "/_matrix/federation/v1/send/quick", Some(body));
    tokio::time::timeout(Duration::from_secs(15), ask).await.expect("it is heard").ok();
}

/// A server looks whether others find it, soon after its start, and the log says so.
#[tokio::test]
async fn a_server_says_whether_others_find_it() {
    let dir = TempDir::new().expect("a directory");
    hearth::dev_cert::make(dir.path(), &["127.0.0.1".to_owned()]).expect("made");
    let start = async |known: SocketAddr, listen: SocketAddr| {
        let file = |name: &str| dir.path().join(name);
        Server::start_with(&format!(
            "server_name = \"{known}\"\n[tls]\nlisten = [\"{listen}\"]\ncertificate = {:?}\nkey = {:?}\n\
             [federation]\nallow_private_addresses = true\ntrust = [{:?}]\n",
            file("127.0.0.1.pem"),
            file("127.0.0.1-key.pem"),
            file(hearth::dev_cert::AUTHORITY),
        ))
        .await
    };
    let (address, other) = (free_address(), free_address());
    let (found, lost) = tokio::join!(start(address, address), start(other, free_address()));
    let says = async |server: &Server, line: String| {
        until(&line, async || server.log().contains(&line).then_some(())).await;
    };
    says(&found, format!("others find this server at {address}")).await;
    says(&lost, format!("others can't reach this server at {other}, as far as can be seen from here: can't connect"))
        .await;
}
