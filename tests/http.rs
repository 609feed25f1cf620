//! HTTP as it comes from outside: what is wrong with it is said the Matrix way, what is slow or too
//! large is let go, and what is served to browsers is safe.

use std::time::{Duration, Instant};

use reqwest::{Method, header};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::common::{Server, User, in_room, transaction};

const VERSIONS: &str = "/_matrix/client/versions";

/// Sends bytes as they are, and answers what comes back until the server closes.
async fn raw(server: &Server, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address()).await.expect("connects");
    stream.write_all(request).await.expect("written");
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
    read.expect("the server closes").expect("read");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn unknown_endpoints_and_wrong_methods_are_errors_of_matrix() {
    let server = Server::start().await;
    let guest = server.guest();
    for path in ["/_matrix/client/v3/nothing", "/_matrix/nothing", "/_matrix", "/_matrix/", "/.well-known/nothing"] {
        guest.get(path).await.fails(404, "M_UNRECOGNIZED");
        guest.put(path, json!({})).await.fails(404, "M_UNRECOGNIZED");
    }
    for method in [Method::DELETE, Method::PUT, Method::POST, Method::PATCH] {
        guest.request(method, VERSIONS, None).await.fails(405, "M_UNRECOGNIZED");
    }
    assert_eq!(guest.request(Method::HEAD, VERSIONS, None).await.status, 200);
    assert_eq!(guest.get(&format!("{VERSIONS}/")).await.status, 200);
}

#[tokio::test]
async fn every_answer_of_an_endpoint_has_cors() {
    let server = Server::start().await;
    let guest = server.guest();
    let paths = [VERSIONS, "/_matrix/nothing", "/.well-known/nothing", "/_matrix/client/v3/sync"];
    for (method, path) in [Method::GET, Method::PUT, Method::OPTIONS].iter().flat_map(|m| paths.map(|p| (m, p))) {
        let answer = guest.request(method.clone(), path, None).await;
        assert_eq!(answer.headers["access-control-allow-origin"], "*", "{method} {path}");
        let methods = answer.headers["access-control-allow-methods"].to_str().expect("text");
        assert!(["GET", "POST", "PUT", "DELETE", "OPTIONS"].iter().all(|one| methods.contains(one)), "{methods}");
        let headers = answer.headers["access-control-allow-headers"].to_str().expect("text");
        assert!(["X-Requested-With", "Content-Type", "Authorization"].iter().all(|one| headers.contains(one)));
        if *method == Method::OPTIONS {
            assert!(matches!(answer.status, 200 | 204), "{path}: {}", answer.status);
        }
    }
    // The web client's own files are of use to its own page only.
    assert!(!guest.get("/").await.headers.contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn a_token_counts_in_its_header_alone() {
    let server = Server::start().await;
    let guest = server.guest();
    let whoami = "/_matrix/client/v3/account/whoami";
    guest.get(whoami).await.fails(401, "M_MISSING_TOKEN");
    let alice = server.register("alice").await;
    assert_eq!(alice.get(whoami).await.ok()["user_id"], "@alice:localhost");
    let token = alice.token.clone().expect("signed in");
    guest.get(&format!("{whoami}?access_token={token}")).await.fails(401, "M_MISSING_TOKEN");
    let with = |value: String| guest.http.get(format!("{}{whoami}", server.url)).header(header::AUTHORIZATION, value);
    let unknown = guest.send_request(with("Bearer nobody".into())).await;
    unknown.fails(401, "M_UNKNOWN_TOKEN");
    assert_eq!(unknown.body["soft_logout"], false);
    guest.send_request(with(format!("Basic {token}"))).await.fails(401, "M_MISSING_TOKEN");
    assert_eq!(guest.send_request(with(format!("bearer {token}"))).await.status, 200);
    assert!(!server.log().contains(&token), "a token is in the log");
}

#[tokio::test]
async fn bodies_that_are_no_json_or_not_the_right_json_are_told_apart() {
    let server = Server::start().await;
    let alice = server.register("alice").await;
    let post = |body: Vec<u8>| {
        let request = alice.http.post(format!("{}/_matrix/client/v3/createRoom", server.url));
        alice.send_request(request.bearer_auth(alice.token.as_deref().expect("signed in")).body(body))
    };
    for text in ["{", "hello", "{\"name\": }", "{\"name\": \"a\"} b", "{'name': 1}", "\u{FEFF}{}"] {
        post(text.into()).await.fails(400, "M_NOT_JSON");
    }
    post(b"{\"name\": \"\xff\xfe\"}".to_vec()).await.fails(400, "M_NOT_JSON");
    for text in ["[]", "3", "{\"name\": 5}", "{\"preset\": {}}", "{\"invite\": \"@bob:localhost\"}"] {
        post(text.into()).await.fails(400, "M_BAD_JSON");
    }
    let nested = format!("{}1{}", "{\"a\":".repeat(10_000), "}".repeat(10_000));
    post(nested.into()).await.fails(400, "M_NOT_JSON");
    let nested = format!("{{\"creation_content\": {}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
    post(nested.into()).await.fails(400, "M_NOT_JSON");
    assert_eq!(alice.get("/_matrix/client/v3/account/whoami").await.status, 200);
}

#[tokio::test]
async fn a_stranger_may_not_send_what_an_account_may() {
    let server = Server::start().await;
    let alice = server.register("alice").await;
    for path in ["register", "login", "refresh"] {
        let head = format!("POST /_matrix/client/v3/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
        let answer = raw(&server, format!("{head}Content-Length: 100000\r\n\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("M_TOO_LARGE"), "{path}: {answer}");
    }
    alice.post("/_matrix/client/v3/createRoom", json!({"x": " ".repeat(100_000)})).await.ok();
}

#[tokio::test]
async fn too_large_a_body_is_refused_before_it_is_read() {
    let server = Server::start().await;
    let head = "POST /_matrix/client/v3/login HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
    let began = Instant::now();
    let answer = raw(&server, format!("{head}Content-Length: 99999999999\r\n\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("M_TOO_LARGE"), "{answer}");

    // Whoever sends it all before they look for the answer finds it.
    let body = vec![b' '; 8 << 20];
    let whole = [format!("{head}Content-Length: {}\r\n\r\n", body.len()).into_bytes(), body].concat();
    let answer = raw(&server, &whole).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("M_TOO_LARGE"), "{answer}");

    // In chunks it is found out on the way, and little of the rest is taken.
    let mut stream = TcpStream::connect(server.address()).await.expect("connects");
    stream.write_all(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes()).await.expect("written");
    let chunk = [b"100000\r\n".as_slice(), &[b' '; 0x10_0000], b"\r\n"].concat();
    let mut sent = 0;
    while sent < 512 && stream.write_all(&chunk).await.is_ok() {
        sent += 1;
    }
    assert!(sent < 100, "the server has read {sent} MiB");
    assert!(began.elapsed() < Duration::from_secs(30));
    server.guest().get(VERSIONS).await.ok();
}

#[tokio::test]
async fn heads_that_are_too_large_or_no_http_are_refused() {
    let server = Server::start().await;
    let many = (0..200).map(|number| format!("X-Header-{number}: x\r\n")).collect::<String>();
    let answer = raw(&server, format!("GET {VERSIONS} HTTP/1.1\r\n{many}\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let answer = raw(&server, b"\x16\x03\x01 this is no HTTP\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    let answer =
        raw(&server, b"GET /_matrix/client/v3/profile/%ff HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("M_INVALID_PARAM"), "{answer}");
    server.guest().get(VERSIONS).await.ok();
}

#[tokio::test]
async fn connections_that_dribble_are_closed_and_disturb_nobody() {
    let server = Server::start().await;
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(server.address()).await.expect("connects");
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n").await.expect("written");
        slow.push(stream);
    }
    let began = Instant::now();
    let mut open = slow.len();
    while open > 0 {
        assert!(began.elapsed() < Duration::from_secs(40), "{open} slow connections are still open");
        let asked = Instant::now();
        server.guest().get(VERSIONS).await.ok();
        assert!(asked.elapsed() < Duration::from_secs(5), "others have to wait");
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut still_open = Vec::new();
        for mut stream in slow {
            // Writing to a connection that was closed fails, if not the first time then the second.
            let written = stream.write_all(b"X: y\r\n").await;
            let mut byte = [0; 1024];
            let closed = matches!(stream.try_read(&mut byte), Ok(0));
            if written.is_ok() && !closed {
                still_open.push(stream);
            }
        }
        slow = still_open;
        open = slow.len();
    }
    assert!(began.elapsed() > Duration::from_secs(3), "slow but honest connections have some time");
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_their_turn() {
    let server = Server::start_with("max_connections = 16\n").await;
    let mut held = Vec::new();
    for _ in 0..16 {
        held.push(TcpStream::connect(server.address()).await.expect("connects"));
    }
    let guest = server.guest();
    let asking = tokio::spawn(async move { guest.get(VERSIONS).await.status });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!asking.is_finished(), "a seventeenth connection is served");
    held.clear();
    assert_eq!(asking.await.expect("answered"), 200);
}

#[tokio::test]
async fn other_paths_are_files_or_nothing() {
    let server = Server::start().await;
    let guest = server.guest();
    for path in ["/nothing", "/_matrixx", "/../Cargo.toml", "/%2e%2e/Cargo.toml", "/@/nothing"] {
        let answer = guest.get(path).await;
        assert_eq!(
            (answer.status, &answer.headers["content-type"]),
            (404, &"text/plain; charset=utf-8".parse().expect("text"))
        );
        let policy = answer.headers["content-security-policy"].to_str().expect("text");
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers["x-frame-options"], "DENY");
        assert_eq!(answer.headers["referrer-policy"], "no-referrer");
    }
}

#[tokio::test]
async fn a_web_root_is_served_as_it_is_now() {
    let web = tempfile::TempDir::new().expect("a directory");
    let page = web.path().join("index.html");
    std::fs::write(&page, "<!doctype html>one").expect("written");
    let server = Server::start_with(&format!("web_root = {:?}\n", web.path())).await;
    let read = async || {
        let response = server.guest().http.get(&server.url).send().await.expect("answered");
        assert_eq!(response.headers()["content-type"], "text/html; charset=utf-8");
        assert_eq!(response.headers()["cache-control"], "no-store");
        response.text().await.expect("text")
    };
    assert_eq!(read().await, "<!doctype html>one");
    std::fs::write(&page, "<!doctype html>two").expect("written");
    assert_eq!(read().await, "<!doctype html>two");
    assert_eq!(server.guest().request(Method::POST, "/", None).await.status, 405);
    let head = server.guest().request(Method::HEAD, "/", None).await;
    assert_eq!((head.status, &head.headers["content-length"]), (200, &"18".parse().expect("text")));
}

#[tokio::test]
async fn well_known_leads_to_the_server() {
    let server = Server::start().await;
    let said = server.guest().get("/.well-known/matrix/client").await.ok();
    assert_eq!(said["m.homeserver"]["base_url"], server.url);
    let server = Server::start_with("public_url = \"https://chat.example.org/\"\n").await;
    let said = server.guest().get("/.well-known/matrix/client").await.ok();
    assert_eq!(said["m.homeserver"]["base_url"], "https://chat.example.org");
}

#[tokio::test]
async fn numbers_that_canonical_json_lacks_are_refused() {
    let server = Server::start().await;
    let alice = server.register("alice").await;
    let room = alice.create_room(json!({})).await;
    let send = async |number: &str| {
        let path = in_room(&room, &format!("send/m.room.message/{}", transaction()));
        let request =
            alice.http.put(format!("{}{path}", server.url)).bearer_auth(alice.token.as_deref().expect("signed in"));
        alice
            .send_request(request.body(format!("{{\"msgtype\": \"m.text\", \"body\": \"x\", \"n\": [{number}]}}")))
            .await
    };
    for number in ["1.5", "9007199254740992", "-9007199254740992", "1e400", "12345678901234567890123"] {
        let answer = send(number).await;
        assert_eq!(answer.status, 400, "{number}: {}", answer.body);
        assert!(matches!(answer.body["errcode"].as_str(), Some("M_BAD_JSON" | "M_NOT_JSON")), "{}", answer.body);
    }
    for number in ["0", "9007199254740991", "-9007199254740991"] {
        send(number).await.ok();
    }
}

#[tokio::test]
async fn ids_and_events_have_a_greatest_size() {
    let server = Server::start().await;
    let alice = server.register("alice").await;
    let room = alice.create_room(json!({})).await;
    let message = |length: usize| json!({"msgtype": "m.text", "body": "x".repeat(length)});
    alice.send(&room, "m.room.message", message(60_000)).await;
    let path = || in_room(&room, &format!("send/m.room.message/{}", transaction()));
    alice.put(&path(), message(65_536)).await.fails(413, "M_TOO_LARGE");
    alice
        .put(&in_room(&room, "state/m.room.topic"), json!({"topic": "x".repeat(65_536)}))
        .await
        .fails(413, "M_TOO_LARGE");
    alice.send(&room, "m.room.message", message(10)).await;

    let long = "x".repeat(256);
    let kind = in_room(&room, &format!("send/{long}/{}", transaction()));
    assert!(matches!(alice.put(&kind, json!({})).await.status, 400 | 413));
    let key = in_room(&room, &format!("state/org.example.test/{long}"));
    assert!(matches!(alice.put(&key, json!({})).await.status, 400 | 413));
    let invited = json!({"user_id": format!("@{long}:localhost")});
    assert_eq!(alice.post(&in_room(&room, "invite"), invited).await.status, 400);
    assert_eq!(alice.post(&in_room(&format!("!{long}:localhost"), "join"), json!({})).await.status, 400);
    let name = json!({"username": long, "password": "long enough", "auth": {"type": "m.login.dummy"}});
    server.guest().post("/_matrix/client/v3/register", name).await.fails(400, "M_INVALID_USERNAME");
    assert_eq!(alice.post("/_matrix/client/v3/createRoom", json!({"room_alias_name": long})).await.status, 400);
}

#[tokio::test]
async fn limits_say_when_to_try_again_in_both_ways() {
    let server = Server::start_with("registration = \"open\"\n").await;
    let guest = server.guest();
    let body =
        json!({"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "x"}, "password": "wrong"});
    for _ in 0..100 {
        let answer = guest.post("/_matrix/client/v3/login", body.clone()).await;
        if answer.status == 403 {
            continue;
        }
        answer.fails(429, "M_LIMIT_EXCEEDED");
        let millis = answer.body["retry_after_ms"].as_u64().expect("a number");
        let seconds: u64 = answer.headers["retry-after"].to_str().expect("text").parse().expect("a number");
        assert!(seconds >= 1 && seconds * 1000 >= millis, "{seconds} s, {millis} ms");
        return;
    }
    panic!("a hundred wrong passwords were not too many");
}

#[tokio::test]
async fn whoever_writes_or_asks_for_much_is_slowed_down() {
    let server = Server::start_with("registration = \"open\"\n").await;
    let alice = server.register("alice").await;
    let room = alice.create_room(json!({})).await;
    for (what, burst) in [("kick", 60), ("unban", 60), ("leave", 60)] {
        let other = server.login("alice").await;
        let limited = is_limited(&other, &in_room(&room, what), json!({"user_id": "@bob:localhost"}), burst).await;
        assert!(limited, "{what} has no limit");
    }
    let query = json!({"device_keys": {&alice.id: []}});
    assert!(is_limited(&alice, "/_matrix/client/v3/keys/query", query, 500).await, "keys/query has no limit");
}

/// Whether somebody who asks this as fast as they can is refused soon after a burst of so many.
async fn is_limited(user: &User, path: &str, body: Value, burst: usize) -> bool {
    for _ in 0..burst * 2 {
        let answer = user.post(path, body.clone()).await;
        if answer.status == 429 {
            answer.fails(429, "M_LIMIT_EXCEEDED");
            return true;
        }
    }
    false
}

#[tokio::test]
async fn the_web_client_comes_packed_and_is_kept() {
    let server = Server::start().await;
    let fetch = async |path: &str, tag: Option<&str>| {
        let mut request = server.guest().http.get(format!("{}{path}", server.url)).header("accept-encoding", "gzip");
        if let Some(tag) = tag {
            request = request.header("if-none-match", tag);
        }
        request.send().await.expect("answered")
    };
    let page = fetch("/", None).await;
    assert_eq!(page.headers()["cache-control"], "no-cache");
    let tag = page.headers()["etag"].to_str().expect("text").to_owned();
    let page = page.text().await.expect("text");
    let script = page.split('"').find(|part| part.ends_with("main.js")).expect("a script").to_owned();
    let got = fetch(&script, None).await;
    assert_eq!((got.status().as_u16(), &got.headers()["content-encoding"]), (200, &"gzip".parse().expect("text")));
    assert_eq!(got.headers()["content-type"], "text/javascript; charset=utf-8");
    assert!(got.headers()["cache-control"].to_str().expect("text").contains("immutable"));
    // The page is asked for again, and not sent again; what it names is kept for good.
    assert_eq!(fetch("/", Some(&tag)).await.status().as_u16(), 304);
    let manifest = fetch("/manifest.webmanifest", None).await;
    assert_eq!(manifest.headers()["content-type"], "application/manifest+json");
    assert_eq!(fetch("/package.json", None).await.status().as_u16(), 404);
}

#[tokio::test]
async fn who_types_need_not_say_for_how_long() {
    let server = Server::start().await;
    let alice = server.register("alice").await;
    let room = alice.create_room(json!({})).await;
    let path = format!("/_matrix/client/v3/rooms/{room}/typing");
    for body in [json!({"typing": true}), json!({"typing": true, "timeout": 5000}), json!({"typing": false})] {
        alice.put(&format!("{path}/{}", alice.id), body).await.ok();
    }
    alice.put(&format!("{path}/@bob:localhost"), json!({"typing": true})).await.fails(403, "M_FORBIDDEN");
    alice.put(&format!("{path}/{}", alice.id), json!({"typing": "yes"})).await.fails(400, "M_BAD_JSON");
}

#[cfg(unix)]
#[tokio::test]
async fn the_database_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let server = Server::start().await;
    let file = std::fs::metadata(server.data().join("hearth.redb")).expect("a database");
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
}
