//! The WebSocket, as spec/websocket.md says it.

use std::time::Duration;

use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_stream::StreamExt;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Error, Message, client::IntoClientRequest, http::Request},
};

use crate::common::{Server, User, encode};

const PATH: &str = "/_matrix/client/unstable/chat.hearth.ws/sync";

/// A client at the other end.
pub struct Socket(WebSocketStream<TcpStream>);

fn request(server: &Server, query: &str) -> Request<()> {
    format!("ws://{}{PATH}?set_presence=offline&{query}", server.address()).into_client_request().expect("a request")
}

fn with(mut request: Request<()>, name: &'static str, value: &str) -> Request<()> {
    request.headers_mut().insert(name, value.parse().expect("a value"));
    request
}

fn of(server: &Server, user: &User, query: &str) -> Request<()> {
    let token = user.token.as_deref().expect("signed in");
    with(request(server, query), "authorization", &format!("Bearer {token}"))
}

impl Socket {
    async fn try_open(server: &Server, request: Request<()>) -> Result<(Self, Option<String>), Error> {
        let stream = TcpStream::connect(server.address()).await.expect("connects");
        let (socket, answer) = tokio_tungstenite::client_async(request, stream).await?;
        let protocol = answer.headers().get("sec-websocket-protocol");
        Ok((Self(socket), protocol.map(|value| value.to_str().expect("text").to_owned())))
    }

    /// Opens it for somebody.
    pub async fn open(server: &Server, user: &User, query: &str) -> Self {
        Self::try_open(server, of(server, user, query)).await.expect("opens").0
    }

    async fn next(&mut self) -> Result<Value, u16> {
        loop {
            let message = tokio::time::timeout(Duration::from_secs(10), self.0.next()).await.expect("in time");
            match message {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).expect("JSON")),
                Some(Ok(Message::Close(frame))) => return Err(frame.map_or(0, |frame| frame.code.into())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(0),
            }
        }
    }

    /// The next sync frame's answer, acknowledged.
    pub async fn sync(&mut self) -> Value {
        let frame = self.next().await.expect("a frame");
        assert_eq!(frame["type"], "sync", "{frame}");
        self.say(json!({"type": "ack", "since": frame["sync"]["next_batch"]})).await;
        frame["sync"].clone()
    }

    async fn say(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.expect("sent");
    }

    /// A request's reply; sync frames that come before it are acknowledged and kept for nobody.
    async fn ask(&mut self, id: &str, request: Value) -> Value {
        let mut whole = request;
        whole["type"] = "request".into();
        whole["id"] = id.into();
        self.say(whole).await;
        loop {
            let frame = self.next().await.expect("a frame");
            if frame["type"] == "reply" {
                assert_eq!(frame["id"], id, "{frame}");
                return frame;
            }
            self.say(json!({"type": "ack", "since": frame["sync"]["next_batch"]})).await;
        }
    }
}

async fn pair(server: &Server) -> (User, User, String) {
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = alice.create_room(json!({"preset": "public_chat"})).await;
    bob.join(&room).await;
    (alice, bob, room)
}

fn bodies(sync: &Value, room: &str) -> Vec<String> {
    let events = sync["rooms"]["join"][room]["timeline"]["events"].as_array().cloned().unwrap_or_default();
    events.iter().filter_map(|event| event["content"]["body"].as_str().map(str::to_owned)).collect()
}

#[tokio::test]
async fn frames_come_at_once_and_go_on_from_a_token() {
    let server = Server::start().await;
    let (alice, bob, room) = pair(&server).await;
    let mut socket = Socket::open(&server, &bob, "").await;
    let first = socket.sync().await;
    assert!(first["rooms"]["join"][&room]["state"].is_object(), "{first}");
    alice.say(&room, "one").await;
    let second = socket.sync().await;
    assert_eq!(bodies(&second, &room), ["one"]);
    drop(socket);
    alice.say(&room, "two").await;
    let since = encode(second["next_batch"].as_str().expect("a token"));
    let mut socket = Socket::open(&server, &bob, &format!("since={since}")).await;
    let third = socket.sync().await;
    assert_eq!(bodies(&third, &room), ["two"]);
    let mut quiet =
        Socket::open(&server, &bob, &format!("since={}", third["next_batch"].as_str().expect("a token"))).await;
    assert!(quiet.sync().await["rooms"].is_null(), "the first frame comes even if it is empty");
}

#[tokio::test]
async fn a_client_that_does_not_acknowledge_gets_few_frames_and_then_all_in_one() {
    let server = Server::start().await;
    let (alice, bob, room) = pair(&server).await;
    let mut socket = Socket::open(&server, &bob, "").await;
    let mut last = socket.next().await.expect("the first");
    for n in 0..3 {
        alice.say(&room, &n.to_string()).await;
        last = socket.next().await.expect("a frame");
        assert_eq!(bodies(&last["sync"], &room), [n.to_string()]);
    }
    for n in 3..6 {
        alice.say(&room, &n.to_string()).await;
    }
    let more = tokio::time::timeout(Duration::from_millis(300), socket.0.next()).await;
    assert!(more.is_err(), "no fifth frame: {more:?}");
    socket.say(json!({"type": "ack", "since": last["sync"]["next_batch"]})).await;
    assert_eq!(bodies(&socket.sync().await, &room), ["3", "4", "5"]);
}

#[tokio::test]
async fn requests_are_answered_by_their_ids_and_as_over_http() {
    let server = Server::start().await;
    let (alice, bob, room) = pair(&server).await;
    let mut socket = Socket::open(&server, &bob, "").await;
    let content = json!({"msgtype": "m.text", "body": "over the socket"});
    let send =
        json!({"action": "send", "room_id": room, "event_type": "m.room.message", "txn_id": "x", "content": content});
    let sent = socket.ask("7", send.clone()).await;
    let event = sent["ok"]["event_id"].as_str().expect("an ID").to_owned();
    assert_eq!(socket.ask("8", send).await["ok"]["event_id"], *event, "the same transaction");
    let topic = json!({"action": "state", "room_id": room, "event_type": "m.room.topic", "content": {"topic": "x"}});
    let refused = socket.ask("9", topic).await;
    assert_eq!((&refused["error"]["status"], &refused["error"]["errcode"]), (&json!(403), &json!("M_FORBIDDEN")));
    let profile = json!({
        "action": "state", "room_id": room, "event_type": "m.room.member", "state_key": bob.id,
        "content": {"membership": "join", "displayname": "Bobby"}
    });
    assert!(socket.ask("10", profile).await["ok"]["event_id"].is_string());
    let since = alice.now().await;
    let nothing = json!({});
    for (id, asked) in [
        ("11", json!({"action": "typing", "room_id": room, "typing": true})),
        ("12", json!({"action": "receipt", "room_id": room, "receipt_type": "m.read", "event_id": event})),
        ("13", json!({"action": "read_markers", "room_id": room, "m.fully_read": event})),
        ("14", json!({"action": "presence", "presence": "unavailable", "status_msg": "away"})),
    ] {
        assert_eq!(socket.ask(id, asked).await["ok"], nothing, "{id}");
    }
    let seen = alice.sync(Some(&since), 1000).await["rooms"]["join"][&room]["ephemeral"].to_string();
    assert!(seen.contains("m.typing") && seen.contains("m.receipt"), "{seen}");
    let redact = json!({"action": "redact", "room_id": room, "event_id": event, "txn_id": "y", "reason": "oh"});
    assert!(socket.ask("15", redact).await["ok"]["event_id"].is_string());
    assert_eq!(socket.ask("16", json!({"action": "fly"})).await["error"]["errcode"], "M_UNRECOGNIZED");
    assert_eq!(socket.ask("17", json!({"action": "send"})).await["error"]["errcode"], "M_BAD_JSON");
}

#[tokio::test]
async fn browsers_give_their_token_as_a_protocol_and_other_sites_are_refused() {
    let server = Server::start().await;
    let (_, bob, _) = pair(&server).await;
    let token = bob.token.clone().expect("signed in");
    let offers = format!("hearth.sync.v1, hearth.token.{token}");
    let here = with(with(request(&server, ""), "sec-websocket-protocol", &offers), "origin", &server.url);
    let (mut socket, protocol) = Socket::try_open(&server, here.clone()).await.expect("opens");
    assert_eq!(protocol.as_deref(), Some("hearth.sync.v1"));
    socket.sync().await;
    let failure = async |request| match Socket::try_open(&server, request).await {
        Err(Error::Http(answer)) => {
            let body: Value = serde_json::from_slice(answer.body().as_deref().unwrap_or_default()).expect("JSON");
            (answer.status().as_u16(), body["errcode"].as_str().expect("an errcode").to_owned())
        }
        other => panic!("not refused: {:?}", other.map(|_| ())),
    };
    assert_eq!(failure(with(here, "origin", "https://evil.example")).await, (403, "M_FORBIDDEN".into()));
    assert_eq!(failure(request(&server, "")).await, (401, "M_MISSING_TOKEN".into()));
    assert_eq!(failure(request(&server, &format!("access_token={token}"))).await, (401, "M_MISSING_TOKEN".into()));
    let wrong = with(request(&server, ""), "authorization", "Bearer wrong");
    assert_eq!(failure(wrong).await, (401, "M_UNKNOWN_TOKEN".into()));
    assert_eq!(failure(of(&server, &bob, "since=x")).await, (400, "M_INVALID_PARAM".into()));
    bob.get(PATH).await.fails(400, "M_UNKNOWN");
}

#[tokio::test]
async fn sockets_close_with_a_reason() {
    let mut server = Server::start().await;
    let (_, bob, _) = pair(&server).await;
    for (message, code) in [
        (Message::text("not JSON"), 4400),
        (Message::text(r#"{"type":"dance"}"#), 4400),
        (Message::text(r#"{"type":"ack","since":"x"}"#), 4400),
        (Message::binary(vec![1, 2]), 4400),
        (Message::text("x".repeat(200 * 1024)), 1009),
    ] {
        let mut socket = Socket::open(&server, &bob, "").await;
        socket.sync().await;
        socket.0.send(message).await.expect("sent");
        assert_eq!(socket.next().await, Err(code));
    }
    let mut flooding = Socket::open(&server, &bob, "").await;
    flooding.sync().await;
    for id in 0..200 {
        let request = json!({"type": "request", "id": id.to_string(), "action": "presence", "presence": "online"});
        flooding.0.feed(Message::text(request.to_string())).await.expect("buffered");
    }
    flooding.0.flush().await.expect("sent");
    let end = loop {
        if let Err(code) = flooding.next().await {
            break code;
        }
    };
    assert_eq!(end, 4429);

    let mut socket = Socket::open(&server, &bob, "").await;
    socket.sync().await;
    let laptop = server.login("bob").await;
    laptop.post("/_matrix/client/v3/logout", json!({})).await.ok();
    bob.post("/_matrix/client/v3/logout", json!({})).await.ok();
    let end = loop {
        if let Err(code) = socket.next().await {
            break code;
        }
    };
    assert_eq!(end, 4401);

    let again = server.login("bob").await;
    let mut socket = Socket::open(&server, &again, "").await;
    socket.sync().await;
    server.signal("TERM");
    assert_eq!(socket.next().await, Err(1001));
    server.ended().await;
}

#[tokio::test]
async fn who_floods_with_pings_and_takes_nothing_is_not_read_from() {
    const ENOUGH: usize = 64 * 1024 * 1024;
    let server = Server::start().await;
    let alice = server.register("alice").await;
    let mut socket = Socket::open(&server, &alice, "").await;
    // A ping as a client sends it, masked by zeros.
    let ping = [&[0x89, 0x80 | 125, 0, 0, 0, 0][..], &[b'x'; 125]].concat();
    let pings = ping.repeat(500);
    let (stream, mut sent) = (socket.0.get_mut(), 0);
    while let Ok(written) =
        tokio::time::timeout(Duration::from_secs(2), stream.write(&pings[sent % ping.len()..])).await
    {
        sent += written.expect("still open");
        assert!(sent < ENOUGH, "the server keeps reading");
    }
}

#[tokio::test]
async fn requests_are_nested_no_deeper_than_over_http() {
    let server = Server::start().await;
    let alice = server.register("alice").await;
    let room = alice.create_room(json!({})).await;
    let mut socket = Socket::open(&server, &alice, "").await;
    socket.sync().await;
    let nested = format!("{}1{}", "[".repeat(110), "]".repeat(110));
    let content = format!(r#"{{"x":{nested}}}"#);
    let text =
        json!({"type": "request", "id": "1", "action": "send", "room_id": room, "event_type": "m.x", "txn_id": "1"});
    let text = text.to_string().replacen('{', &format!("{{\"content\":{content},"), 1);
    socket.0.send(Message::text(text)).await.expect("sent");
    let reply = loop {
        let frame = socket.next().await.expect("a frame");
        if frame["type"] == "reply" {
            break frame;
        }
    };
    assert_eq!((&reply["id"], &reply["error"]["errcode"]), (&json!("1"), &json!("M_NOT_JSON")), "{reply}");
}
