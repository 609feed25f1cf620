//! Two hundred requests that wait for something to happen: they disturb nobody, wake at once, and end
//! with the server. And one whose connection goes on, with all that may come on a connection meanwhile.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::common::{Server, User, certificates, encode, federated, until};

const PEOPLE: usize = 20;
const EACH: usize = 10;
/// Much less than those who wait do so, in milliseconds, and much longer than anything takes that waits for none of
/// them, on whatever machine.
const WAITING: u64 = 60_000;
const SOON: Duration = Duration::from_secs(20);
/// Less than what a server that stops gives to those who do not end by themselves.
const STOPPED: Duration = Duration::from_secs(9);

/// Twenty people in a room.
async fn people(server: &Server) -> (Vec<User>, String) {
    let mut people: Vec<User> = Vec::new();
    for number in 0..PEOPLE {
        people.push(server.register(&format!("user{number}")).await);
    }
    let room = people[0].create_room(json!({"preset": "public_chat"})).await;
    for user in &people[1..] {
        user.join(&room).await;
    }
    (people, room)
}

/// A sync that says nothing of whether one is there, as that would wake the others.
async fn quiet_sync(user: &User, rest: &str) -> (u16, Value) {
    let answer = user.get(&format!("/_matrix/client/v3/sync?set_presence=offline{rest}")).await;
    (answer.status, answer.body)
}

/// Ten long syncs of each, from now on.
async fn park(people: &[User]) -> JoinSet<(u16, Value)> {
    let mut tokens = Vec::new();
    for user in people {
        let (_, now) = quiet_sync(user, "").await;
        tokens.push(now["next_batch"].as_str().expect("a token").to_owned());
    }
    let mut parked = JoinSet::new();
    for (user, since) in people.iter().zip(tokens) {
        for _ in 0..EACH {
            let (user, rest) = (user.clone(), format!("&timeout={WAITING}&since={}", encode(&since)));
            parked.spawn(async move { quiet_sync(&user, &rest).await });
        }
    }
    all_wait(&people[0], PEOPLE * EACH).await;
    if let Some(answered) = parked.try_join_next() {
        panic!("somebody was answered without a reason: {answered:?}");
    }
    parked
}

#[tokio::test]
async fn two_hundred_that_wait_disturb_nobody_and_all_wake() {
    let server = Server::start().await;
    let (people, room) = people(&server).await;
    let mut parked = park(&people).await;
    let asked = Instant::now();
    people[0].get("/_matrix/client/v3/account/whoami").await.ok();
    assert!(asked.elapsed() < SOON, "others have to wait");

    let event = people[0].say(&room, "wake up").await;
    let sent = Instant::now();
    while let Some(woken) = parked.join_next().await {
        let (status, body) = woken.expect("answered");
        assert_eq!(status, 200, "{body}");
        let timeline = body["rooms"]["join"][&room]["timeline"]["events"].as_array().expect("the room");
        assert!(timeline.iter().any(|found| found["event_id"] == *event), "{body}");
    }
    assert!(sent.elapsed() < SOON, "waking took {:?}", sent.elapsed());
}

#[tokio::test]
async fn those_that_wait_end_cleanly_with_the_server() {
    let mut server = Server::start().await;
    let (people, _) = people(&server).await;
    let mut parked = park(&people).await;
    let asked = Instant::now();
    assert!(server.stop().await.success());
    assert!(asked.elapsed() < STOPPED, "stopping took {:?}", asked.elapsed());
    while let Some(ended) = parked.join_next().await {
        let (status, body) = ended.expect("answered");
        assert!(status == 200 && body["next_batch"].is_string(), "{status} {body}");
    }
}

/// A connection, byte by byte.
struct Wire<S>(BufReader<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    async fn say(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.expect("written");
        self.0.flush().await.expect("written");
    }

    /// The next answer: its head in small letters, and its JSON.
    async fn hear(&mut self) -> (String, Value) {
        timeout(Duration::from_secs(30), self.read()).await.expect("answered")
    }

    async fn read(&mut self) -> (String, Value) {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(self.0.read_line(&mut head).await.expect("read") > 0, "the connection ended after {head:?}");
        }
        let head = head.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        let mut body = vec![0; length.parse().expect("a number")];
        self.0.read_exact(&mut body).await.expect("read");
        (head, serde_json::from_slice(&body).expect("JSON"))
    }

    /// Waits until the server ends the connection.
    async fn end(mut self) {
        let mut rest = Vec::new();
        let read = timeout(Duration::from_secs(30), self.0.read_to_end(&mut rest)).await;
        // A reset is an end too.
        if read.expect("it ends").is_ok() {
            assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
        }
    }
}

/// The head of a request for a sync that waits for what comes after a token.
fn poll(user: &User, since: &str, version: &str, more: &str) -> String {
    let (since, token) = (encode(since), user.token.as_deref().expect("signed in"));
    format!(
        "GET /_matrix/client/v3/sync?set_presence=offline&timeout=60000&since={since} HTTP/{version}\r\n\
         Host: localhost\r\nAuthorization: Bearer {token}\r\n{more}\r\n"
    )
}

async fn token(user: &User) -> String {
    quiet_sync(user, "").await.1["next_batch"].as_str().expect("a token").to_owned()
}

/// Until so many syncs wait, as the server tells its administrator.
async fn all_wait(admin: &User, number: usize) {
    until("everybody waits", async || {
        let health = admin.get("/_matrix/client/unstable/chat.hearth.admin/health").await.ok();
        (health["clients"]["waiting"] == number).then_some(())
    })
    .await;
}

/// Until a request that was sent has most likely been read.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(300)).await;
}

/// A request for a sliding sync of one list: its head, and its body.
fn slide(user: &User, pos: &str) -> (String, String) {
    let body = json!({"lists": {"all": {"ranges": [[0, 9]], "timeline_limit": 1, "required_state": []}}}).to_string();
    let pos = if pos.is_empty() { String::new() } else { format!("&pos={}", encode(pos)) };
    let (token, length) = (user.token.as_deref().expect("signed in"), body.len());
    let head = format!(
        "POST /_matrix/client/unstable/org.matrix.simplified_msc3575/sync?set_presence=offline&timeout=60000{pos} \
         HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Length: {length}\r\n\r\n"
    );
    (head, body)
}

/// Waits, is woken, and waits again, with other requests that come in pieces while it does.
async fn goes_on(mut wire: Wire<impl AsyncRead + AsyncWrite + Unpin>, alice: &User, room: &str) {
    let whoami = "GET /_matrix/client/v3/account/whoami HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ";
    let mut since = token(alice).await;
    for (turn, connection) in ["", "Connection: keep-alive\r\n", ""].into_iter().enumerate() {
        wire.say(&poll(alice, &since, "1.1", connection)).await;
        settle().await;
        wire.say(&whoami[..20]).await;
        settle().await;
        wire.say(&whoami[20..]).await;
        wire.say(&format!("{}\r\n\r\n", alice.token.as_deref().expect("signed in"))).await;
        let event = alice.say(room, &format!("turn {turn}")).await;
        let (head, sync) = wire.hear().await;
        assert!(head.starts_with("http/1.1 200") && head.contains("\ndate: "), "{head}");
        assert!(head.contains("access-control-allow-origin: *") && !head.contains("connection: close"), "{head}");
        assert_eq!(sync["rooms"]["join"][room]["timeline"]["events"][0]["event_id"], *event);
        since = sync["next_batch"].as_str().expect("a token").to_owned();
        assert_eq!(wire.hear().await.1["user_id"], *alice.id);
    }
    // What fails is answered in the same way, and two that wait one behind the other in their order.
    wire.say(&poll(alice, &since, "1.1", "").repeat(2)).await;
    settle().await;
    let said = alice.say(room, "to both").await;
    let event = |sync: Value| sync["rooms"]["join"][room]["timeline"]["events"][0]["event_id"].clone();
    assert_eq!((event(wire.hear().await.1), event(wire.hear().await.1)), (json!(*said), json!(*said)));
    wire.say(&poll(alice, "nonsense", "1.1", "")).await;
    assert!(wire.hear().await.0.starts_with("http/1.1 400"));
    wire.say(&poll(alice, &token(alice).await, "1.1", "Connection: close\r\n")).await;
    settle().await;
    alice.say(room, "the last").await;
    assert!(wire.hear().await.0.contains("connection: close"));
    wire.end().await;
}

#[tokio::test]
async fn the_connection_of_one_that_waited_goes_on() {
    let server = federated("", "").await;
    let alice = server.register("alice").await;
    let room = alice.create_room(json!({})).await;
    let stream = TcpStream::connect(server.address()).await.expect("connects");
    goes_on(Wire(BufReader::new(stream)), &alice, &room).await;

    let mut roots = rustls::RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(certificates().join("ca.pem")).expect("a certificate");
    roots.add(authority).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("known");
    let tls = TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth()));
    let stream = TcpStream::connect(&server.name).await.expect("connects");
    let stream = tls.connect(ServerName::try_from("localhost").expect("a name"), stream).await.expect("trusted");
    goes_on(Wire(BufReader::new(stream)), &alice, &room).await;

    // The older protocol, whose connections end with the answer.
    let stream = TcpStream::connect(server.address()).await.expect("connects");
    let mut wire = Wire(BufReader::new(stream));
    wire.say(&poll(&alice, &token(&alice).await, "1.0", "")).await;
    settle().await;
    alice.say(&room, "as in 1996").await;
    assert!(wire.hear().await.0.starts_with("http/1.0 200"));
    wire.end().await;
}

#[tokio::test]
async fn the_connection_of_one_that_waited_with_a_body_goes_on() {
    let server = Server::start().await;
    let alice = server.register("alice").await;
    let room = alice.create_room(json!({})).await;
    let mut wire = Wire(BufReader::new(TcpStream::connect(server.address()).await.expect("connects")));
    let (head, body) = slide(&alice, "");
    wire.say(&format!("{head}{body}")).await;
    let mut pos = wire.hear().await.1["pos"].as_str().expect("a position").to_owned();
    for turn in 0..3 {
        // The body comes in pieces, and behind it the next request before this one is answered.
        let (head, body) = slide(&alice, &pos);
        let (first, rest) = body.split_at(turn * 10);
        wire.say(&format!("{head}{first}")).await;
        settle().await;
        wire.say(&format!("{rest}{}", poll(&alice, "nonsense", "1.1", ""))).await;
        all_wait(&alice, 1).await;
        let event = alice.say(&room, &format!("turn {turn}")).await;
        let (head, sync) = wire.hear().await;
        assert!(head.starts_with("http/1.1 200") && !head.contains("connection: close"), "{head}");
        assert_eq!(sync["rooms"][&*room]["timeline"][0]["event_id"], *event, "{sync}");
        pos = sync["pos"].as_str().expect("a position").to_owned();
        assert!(wire.hear().await.0.starts_with("http/1.1 400"));
    }
}

#[tokio::test]
async fn who_hangs_up_while_waiting_leaves_their_place() {
    let settings = "registration = \"open\"\nrate_limits = false\nmax_connections = 16\n";
    let server = Server::start_with(settings).await;
    let alice = server.register("alice").await;
    let since = token(&alice).await;
    for _ in 0..3 {
        let mut held = Vec::new();
        for _ in 0..16 {
            let stream = TcpStream::connect(server.address()).await.expect("connects");
            let mut wire = Wire(BufReader::new(stream));
            wire.say(&poll(&alice, &since, "1.1", "")).await;
            held.push(wire);
        }
        settle().await;
        drop(held);
        until("a free place", async || {
            let asked = alice.get("/_matrix/client/v3/account/whoami").await;
            (asked.status == 200).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn one_that_waits_is_told_that_the_server_ends() {
    let mut server = Server::start().await;
    let alice = server.register("alice").await;
    let stream = TcpStream::connect(server.address()).await.expect("connects");
    let mut wire = Wire(BufReader::new(stream));
    wire.say(&poll(&alice, &token(&alice).await, "1.1", "")).await;
    all_wait(&alice, 1).await;
    assert!(server.stop().await.success());
    let (head, sync) = wire.hear().await;
    assert!(head.contains("connection: close") && sync["next_batch"].is_string(), "{head} {sync}");
    wire.end().await;
}
