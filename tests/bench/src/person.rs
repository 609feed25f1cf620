//! What a simulated person can do: the few client API calls that the measures are made of.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use hyper::Method;
use hyper::header::HeaderValue;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::Result;
use crate::http::{Call, Client, escape, text};

pub const API: &str = "/_matrix/client/v3";

/// The most timeline events in each room of a sync.
const EVENTS: u32 = 20;

/// What a person might type: messages have the length that chat messages have.
const TEXT: &str = "The bread is in the oven, and there will be soup at seven for whoever is in by then. ";

/// Stands before the number of a message in its text.
const MARK: &str = "Message number ";

/// Every message of a run has its own number: so have transactions, and no two events are equal, for which a server
/// may keep only one.
static MESSAGES: AtomicU64 = AtomicU64::new(0);

/// Somebody who has registered. It holds no connection: a person may have many.
pub struct Person {
    /// The user ID, and the device that they have signed in with.
    pub id: String,
    pub device: String,
    authorization: HeaderValue,
}

/// A message that the server has accepted.
pub struct Sent {
    pub number: u64,
    pub event: String,
}

impl Person {
    /// Registers by whatever the server asks for, as long as that is nothing or a token.
    pub async fn register(client: &mut Client, name: &str, token: Option<&str>) -> Result<Person> {
        let password = format!("{name} has a long password");
        let first = match token {
            Some(token) => json!({"type": "m.login.registration_token", "token": token}),
            None => json!({"type": "m.login.dummy"}),
        };
        let mut auth = first;
        // spec: c-s#user-interactive-authentication-api. Two more stages are the most that these two flows have.
        for _ in 0..3 {
            let body = json!({"username": name, "password": password, "auth": auth});
            let path = format!("{API}/register");
            let call = Call { method: Method::POST, path: &path, authorization: None, body: bytes(&body) };
            let answer = client.call(&call).await?;
            if answer.status.is_success() {
                return Person::signed_in(&answer.body);
            }
            let why: Value = serde_json::from_slice(&answer.body)?;
            let Some(session) = why.get("session").filter(|_| answer.status == 401) else {
                return Err(format!("register: {} {why}", answer.status).into());
            };
            let proven = why["completed"]
                .as_array()
                .is_some_and(|stages| stages.iter().any(|stage| stage == "m.login.registration_token"));
            auth = match token {
                Some(token) if !proven => {
                    json!({"type": "m.login.registration_token", "token": token, "session": session})
                }
                _ => json!({"type": "m.login.dummy", "session": session}),
            };
        }
        Err("register: the server asks for more than the benchmark can give (is registration open?)".into())
    }

    fn signed_in(answer: &[u8]) -> Result<Person> {
        let authorization = HeaderValue::from_str(&format!("Bearer {}", text(answer, "access_token")?))?;
        Ok(Person { id: text(answer, "user_id")?, device: text(answer, "device_id")?, authorization })
    }

    /// The header that proves who asks.
    pub fn authorization(&self) -> &HeaderValue {
        &self.authorization
    }

    /// Any question of the client API that isn't worth a function of its own here.
    pub async fn ask(&self, client: &mut Client, method: Method, path: &str, body: Bytes) -> Result<Bytes> {
        client.ok(Call { method, path, authorization: Some(&self.authorization), body }).await
    }

    /// The same with JSON, both ways.
    pub async fn post(&self, client: &mut Client, path: &str, body: &Value) -> Result<Value> {
        Ok(serde_json::from_slice(&self.ask(client, Method::POST, path, bytes(body)).await?)?)
    }

    /// The cheapest question that only an open store can answer.
    pub async fn whoami(&self, client: &mut Client) -> Result<()> {
        let path = format!("{API}/account/whoami");
        self.ask(client, Method::GET, &path, Bytes::new()).await?;
        Ok(())
    }

    /// Creates a room that anybody may join.
    pub async fn create_room(&self, client: &mut Client, name: &str) -> Result<String> {
        let body = json!({"preset": "public_chat", "name": name});
        let path = format!("{API}/createRoom");
        let answer = self.ask(client, Method::POST, &path, bytes(&body)).await?;
        text(&answer, "room_id")
    }

    /// Joins a room that anybody may join, by way of another server that is in it.
    pub async fn join_by(&self, client: &mut Client, room: &str, server: &str) -> Result<()> {
        let path = format!("{API}/join/{}?via={server}&server_name={server}", escape(room), server = escape(server));
        self.ask(client, Method::POST, &path, bytes(&json!({}))).await?;
        Ok(())
    }

    /// How many people are in a room.
    pub async fn count_members(&self, client: &mut Client, room: &str) -> Result<usize> {
        #[derive(Deserialize)]
        struct Members {
            joined: HashMap<String, IgnoredAny>,
        }
        let path = format!("{API}/rooms/{}/joined_members", escape(room));
        let answer = self.ask(client, Method::GET, &path, Bytes::new()).await?;
        Ok(serde_json::from_slice::<Members>(&answer)?.joined.len())
    }

    /// Joins a room that anybody may join.
    pub async fn join(&self, client: &mut Client, room: &str) -> Result<()> {
        let path = format!("{API}/rooms/{}/join", escape(room));
        self.ask(client, Method::POST, &path, bytes(&json!({}))).await?;
        Ok(())
    }

    /// Leaves a room.
    pub async fn leave(&self, client: &mut Client, room: &str) -> Result<()> {
        let path = format!("{API}/rooms/{}/leave", escape(room));
        self.ask(client, Method::POST, &path, bytes(&json!({}))).await?;
        Ok(())
    }

    /// Sends a text message.
    pub async fn send(&self, client: &mut Client, room: &str) -> Result<Sent> {
        let (number, body) = message();
        let path = format!("{API}/rooms/{}/send/m.room.message/{number}", escape(room));
        let answer = self.ask(client, Method::PUT, &path, bytes(&body)).await?;
        Ok(Sent { number, event: text(&answer, "event_id")? })
    }

    /// The whole answer to a sync.
    pub async fn sync(&self, client: &mut Client, ask: Sync<'_>) -> Result<Bytes> {
        self.ask(client, Method::GET, &format!("{API}/sync?{}", ask.query()), Bytes::new()).await
    }

    /// One page of 100 events backwards, and the token of the next.
    pub async fn page_back(&self, client: &mut Client, room: &str, from: Option<&str>) -> Result<(usize, String)> {
        let answer = self.page(client, room, from).await?;
        let page: Page = serde_json::from_slice(&answer)?;
        let Some(end) = page.end else {
            return Err("the room's history ended before it should".into());
        };
        Ok((page.chunk.len(), end))
    }

    /// The numbers of all messages in a room's history that this person can page back to.
    pub async fn history(&self, client: &mut Client, room: &str) -> Result<HashSet<u64>> {
        let mut numbers = HashSet::new();
        let mut from: Option<String> = None;
        loop {
            let answer = self.page(client, room, from.as_deref()).await?;
            numbers.extend(marks(std::str::from_utf8(&answer)?));
            let page: Page = serde_json::from_slice(&answer)?;
            if page.end.is_none() || page.end == from {
                return Ok(numbers);
            }
            from = page.end;
        }
    }

    async fn page(&self, client: &mut Client, room: &str, from: Option<&str>) -> Result<Bytes> {
        let mut path = format!("{API}/rooms/{}/messages?dir=b&limit=100", escape(room));
        if let Some(from) = from {
            path.push_str(&format!("&from={}", escape(from)));
        }
        self.ask(client, Method::GET, &path, Bytes::new()).await
    }

    /// The pagination token just before an event.
    pub async fn place_of(&self, client: &mut Client, room: &str, event: &str) -> Result<String> {
        let path = format!("{API}/rooms/{}/context/{}?limit=0", escape(room), escape(event));
        let answer = self.ask(client, Method::GET, &path, Bytes::new()).await?;
        text(&answer, "start")
    }
}

#[derive(Deserialize)]
struct Page {
    chunk: Vec<IgnoredAny>,
    end: Option<String>,
}

/// The content of a message that nobody has sent before, and its number.
pub fn message() -> (u64, Value) {
    let number = MESSAGES.fetch_add(1, Ordering::Relaxed);
    (number, json!({"msgtype": "m.text", "body": format!("{TEXT}{MARK}{number}.")}))
}

/// The parameters of a sync. Presence stays out of it: it isn't what is measured.
#[derive(Clone, Copy)]
pub struct Sync<'a> {
    since: Option<&'a str>,
    timeout: u64,
}

impl<'a> Sync<'a> {
    /// A first sync.
    pub fn initial() -> Sync<'static> {
        Sync { since: None, timeout: unequal() }
    }

    /// What is new, at once.
    pub fn after(since: &'a str) -> Sync<'a> {
        Sync { since: Some(since), timeout: 0 }
    }

    /// What is new, as soon as there is something, for five minutes and a bit.
    pub fn waiting(since: &'a str, unequal: u64) -> Sync<'a> {
        Sync { since: Some(since), timeout: 300_000 + unequal }
    }

    /// The query string of it, by HTTP and by WebSocket alike.
    pub fn query(&self) -> String {
        let filter = json!({
            "room": {"timeline": {"limit": EVENTS}, "state": {"lazy_load_members": true}},
            "presence": {"types": []}
        });
        let mut query = format!("set_presence=offline&timeout={}&filter={}", self.timeout, escape(&filter.to_string()));
        if let Some(since) = self.since {
            query.push_str("&since=");
            query.push_str(&escape(since));
        }
        query
    }
}

/// Milliseconds that make requests unequal: a server may answer equal requests of one person from one computation,
/// and keep that answer for a while, and then the second would cost nothing.
pub fn unequal() -> u64 {
    static REQUESTS: AtomicU64 = AtomicU64::new(0);
    REQUESTS.fetch_add(1, Ordering::Relaxed)
}

/// Where the next sync begins. Read without building the answer, since thousands of them share the generator's core.
pub fn next_batch(answer: &[u8]) -> Result<String> {
    #[derive(Deserialize)]
    struct Next {
        next_batch: String,
    }
    Ok(serde_json::from_slice::<Next>(answer)?.next_batch)
}

/// The numbers of the messages in an answer. It is searched, not parsed: a thousand of them arrive at once.
pub fn marks(answer: &str) -> impl Iterator<Item = u64> {
    answer.split(MARK).skip(1).filter_map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        rest[..end].parse().ok()
    })
}

/// A body of JSON.
pub fn bytes(body: &Value) -> Bytes {
    Bytes::from(body.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_in_an_answer() {
        let answer = r#"{"body":"Message number 17."},{"body":"Message number 4."},{"body":"Message number x"}"#;
        assert_eq!(marks(answer).collect::<Vec<_>>(), [17, 4]);
        assert_eq!(marks("nothing").count(), 0);
    }
}
