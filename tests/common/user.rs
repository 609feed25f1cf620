//! A person with a session: what they do in words, and below that any request there is.

use std::sync::atomic::{AtomicU64, Ordering};

use reqwest::{Method, header::HeaderMap};
use serde_json::{Value, json};

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The JSON body; null if it is none.
    pub body: Value,
    /// The headers.
    pub headers: HeaderMap,
}

impl Answer {
    /// The body of a success.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        self.body
    }

    /// Holds an answer to be this Matrix error.
    #[track_caller]
    pub fn fails(&self, status: u16, errcode: &str) {
        let said = (self.status, self.body["errcode"].as_str().unwrap_or("no errcode"));
        assert_eq!(said, (status, errcode), "{}", self.body);
        assert!(self.body["error"].as_str().is_some_and(|text| !text.is_empty()), "{}", self.body);
    }
}

/// Somebody who speaks to a server.
#[derive(Clone)]
pub struct User {
    /// The server's address.
    pub url: String,
    /// The full user ID; empty without an account.
    pub id: String,
    /// The session's device.
    pub device: String,
    /// The access token, if they are signed in.
    pub token: Option<String>,
    /// The client that requests go out by.
    pub http: reqwest::Client,
    /// What an application service adds to each query, to act as this person: `user_id=…`.
    pub acting: Option<String>,
}

impl User {
    pub(super) fn new(url: String, http: reqwest::Client) -> Self {
        Self { url, id: String::new(), device: String::new(), token: None, http, acting: None }
    }

    /// Any request. `path` may have a query.
    pub async fn request(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let separator = if path.contains('?') { '&' } else { '?' };
        let acting = self.acting.as_ref().map(|acting| format!("{separator}{acting}")).unwrap_or_default();
        let mut request = self.http.request(method, format!("{}{path}{acting}", self.url));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        self.send_request(request).await
    }

    /// A request that is made by hand; nothing is added to it.
    pub async fn send_request(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.expect("the server answers");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await.expect("a body");
        Answer { status, headers, body: serde_json::from_slice(&bytes).unwrap_or_default() }
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.request(Method::GET, path, None).await
    }
    /// PUT with JSON.
    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.request(Method::PUT, path, Some(body)).await
    }
    /// POST with JSON.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.request(Method::POST, path, Some(body)).await
    }
    /// DELETE.
    pub async fn delete(&self, path: &str) -> Answer {
        self.request(Method::DELETE, path, None).await
    }

    /// Makes a room, and answers its ID.
    pub async fn create_room(&self, settings: Value) -> String {
        let made = self.post("/_matrix/client/v3/createRoom", settings).await.ok();
        made["room_id"].as_str().expect("a room ID").to_owned()
    }
    /// Invites somebody.
    pub async fn invite(&self, room: &str, other: &User) {
        self.post(&in_room(room, "invite"), json!({"user_id": other.id})).await.ok();
    }
    /// Joins a room.
    pub async fn join(&self, room: &str) {
        self.post(&in_room(room, "join"), json!({})).await.ok();
    }
    /// Leaves a room.
    pub async fn leave(&self, room: &str) {
        self.post(&in_room(room, "leave"), json!({})).await.ok();
    }
    /// Writes a text message, and answers its event ID.
    pub async fn say(&self, room: &str, text: &str) -> String {
        self.send(room, "m.room.message", json!({"msgtype": "m.text", "body": text})).await
    }
    /// Sends an event, and answers its ID.
    pub async fn send(&self, room: &str, kind: &str, content: Value) -> String {
        let path = in_room(room, &format!("send/{kind}/{}", transaction()));
        let sent = self.put(&path, content).await.ok();
        sent["event_id"].as_str().expect("an event ID").to_owned()
    }
    /// Sets a piece of room state, and answers the event's ID.
    pub async fn set_state(&self, room: &str, kind: &str, key: &str, content: Value) -> String {
        let path = in_room(room, &format!("state/{kind}/{}", encode(key)));
        let sent = self.put(&path, content).await.ok();
        sent["event_id"].as_str().expect("an event ID").to_owned()
    }

    /// One sync: what there is since a token, waiting up to `wait_ms` for something new.
    pub async fn sync(&self, since: Option<&str>, wait_ms: u64) -> Value {
        let since = since.map(|token| format!("&since={}", encode(token))).unwrap_or_default();
        self.get(&format!("/_matrix/client/v3/sync?timeout={wait_ms}{since}")).await.ok()
    }
    /// Where a sync has got to.
    pub async fn now(&self) -> String {
        let sync = self.sync(None, 0).await;
        sync["next_batch"].as_str().expect("a token").to_owned()
    }
}

/// The path of something in a room.
pub fn in_room(room: &str, rest: &str) -> String {
    format!("/_matrix/client/v3/rooms/{}/{rest}", encode(room))
}

/// A transaction ID that nobody else uses.
pub fn transaction() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Percent-encodes a path segment or a query value.
pub fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let mut out = String::new();
    for byte in text.bytes() {
        match plain(byte) {
            true => out.push(char::from(byte)),
            false => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
