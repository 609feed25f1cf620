//! A server of the benchmark's own that lives in rooms with as many people as are wanted: others join them by way of
//! it, and it sends them events. It makes a room of ten thousand in a second, and costs next to nothing beside the
//! server that is measured. It answers in a thread of its own, so that a large answer keeps nobody waiting who measures.
//! It believes whatever it is told, so it is of no use but for this.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::Result;
use crate::http::{Call, Client};
use crate::person::message;
use crate::signing::Key;

/// The version of its rooms: the newest whose rooms have IDs that can be chosen, which every server knows.
const VERSION: &str = "11";

/// Events of one transaction. spec: s2s#transactions
pub const TRANSACTION: usize = 50;

/// The server. It ends with the value.
pub struct Resident {
    inner: Arc<Inner>,
    /// Ends the thread when it goes.
    _end: oneshot::Sender<()>,
}

struct Inner {
    name: String,
    key: Key,
    rooms: Mutex<HashMap<String, Room>>,
    /// How often it was told something as a push gateway.
    told: AtomicUsize,
}

struct Room {
    id: String,
    /// Create, power levels, join rules, history visibility, and the creator's membership: what allows the rest.
    frame: Vec<Event>,
    members: Vec<Event>,
    joined: Vec<Event>,
    servers: HashSet<String>,
    end: String,
    depth: u64,
}

/// An event, and what others call it.
#[derive(Clone)]
pub struct Event {
    pub id: String,
    json: String,
}

impl Resident {
    /// Starts it with a certificate of `localhost` from that folder.
    pub fn start(certificates: &Path) -> Result<Resident> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let name = format!("localhost:{}", listener.local_addr()?.port());
        let tls = acceptor(certificates)?;
        let inner = Arc::new(Inner { name, key: Key::new("1")?, rooms: Mutex::default(), told: AtomicUsize::new(0) });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (end, ended) = oneshot::channel();
        let served = inner.clone();
        thread::Builder::new().name("resident".to_owned()).spawn(move || {
            tokio::task::LocalSet::new().block_on(&runtime, async {
                tokio::select! {
                    () = listen(listener, tls, served) => {}
                    _ = ended => {}
                }
            });
        })?;
        Ok(Resident { inner, _end: end })
    }

    /// What others call it.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// How often it was told something as a push gateway.
    pub fn told(&self) -> usize {
        self.inner.told.load(Relaxed)
    }

    /// A room that anybody may join, with so many people in it.
    pub fn make_room(&self, members: usize) -> Result<String> {
        let room = Room::new(&self.inner, members);
        let id = room.id.clone();
        self.inner.rooms().insert(id.clone(), room);
        Ok(id)
    }

    /// So many messages of a room's people, one after the other.
    pub fn write(&self, room: &str, count: usize) -> Result<Vec<Event>> {
        let mut rooms = self.inner.rooms();
        let room = rooms.get_mut(room).ok_or("no such room")?;
        let mut written = Vec::with_capacity(count);
        for number in 0..count {
            let who = number % room.members.len().min(10);
            let mut auth: Vec<&str> = room.frame[..2].iter().map(|event| event.id.as_str()).collect();
            auth.push(&room.members[who].id);
            let event = json!({
                "type": "m.room.message", "sender": self.inner.member(who), "content": message().1,
                "auth_events": auth,
            });
            written.push(room.append(&self.inner, event));
        }
        Ok(written)
    }

    /// Sends events to a server as one transaction; the answer is how many it has refused.
    pub async fn send(&self, client: &mut Client, to: &str, events: &[Event]) -> Result<usize> {
        let inner = &self.inner;
        let now = now();
        let head = json!({"origin": inner.name, "origin_server_ts": now}).to_string();
        let body = format!("{},\"pdus\":{}}}", head.trim_end_matches('}'), list(events.iter()));
        // Signed is the canonical form: the same, with the events in order.
        let content: Value = serde_json::from_str(&body)?;
        let path = format!("/_matrix/federation/v1/send/{now}-{}", crate::person::unequal());
        let signed = json!({
            "method": "PUT", "uri": path, "origin": inner.name, "destination": to, "content": content,
        });
        let signature = inner.key.signature(signed.to_string().as_bytes());
        let proof = format!(
            "X-Matrix origin=\"{}\",destination=\"{to}\",key=\"{}\",sig=\"{signature}\"",
            inner.name,
            inner.key.id()
        );
        let authorization = HeaderValue::from_str(&proof)?;
        let call = Call { method: Method::PUT, path: &path, authorization: Some(&authorization), body: body.into() };
        let answer: Value = serde_json::from_slice(&client.ok(call).await?)?;
        let outcomes = answer["pdus"].as_object().ok_or("a transaction without outcomes")?;
        Ok(outcomes.values().filter(|outcome| outcome.get("error").is_some()).count())
    }
}

impl Inner {
    fn rooms(&self) -> MutexGuard<'_, HashMap<String, Room>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn member(&self, number: usize) -> String {
        format!("@member{number}:{}", self.name)
    }
}

impl Room {
    fn new(inner: &Inner, members: usize) -> Room {
        let id = format!("!{}{}:{}", now(), crate::person::unequal(), inner.name);
        let mut room = Room {
            id,
            frame: Vec::new(),
            members: Vec::new(),
            joined: Vec::new(),
            servers: HashSet::from([inner.name.clone()]),
            end: String::new(),
            depth: 0,
        };
        let creator = inner.member(0);
        let state = |kind: &str, key: &str, content: Value| json!({"type": kind, "sender": creator, "state_key": key, "content": content});
        let create = room.append(inner, state("m.room.create", "", json!({"room_version": VERSION})));
        let first =
            room.append_after(inner, state("m.room.member", &creator, json!({"membership": "join"})), &[&create]);
        let levels = json!({"users": {creator.as_str(): 100}});
        let power = room.append_after(inner, state("m.room.power_levels", "", levels), &[&create, &first]);
        let allowed = [&create, &power, &first];
        let rules = room.append_after(inner, state("m.room.join_rules", "", json!({"join_rule": "public"})), &allowed);
        let seen = json!({"history_visibility": "shared"});
        let seen = room.append_after(inner, state("m.room.history_visibility", "", seen), &allowed);
        let name = json!({"name": format!("A room of {members}")});
        let name = room.append_after(inner, state("m.room.name", "", name), &allowed);
        for number in 1..members {
            let who = inner.member(number);
            let content = json!({"membership": "join", "displayname": format!("Member {number}")});
            let join = json!({"type": "m.room.member", "sender": who, "state_key": who, "content": content});
            let join = room.append_after(inner, join, &[&create, &power, &rules]);
            room.members.push(join);
        }
        room.members.insert(0, first);
        room.frame = vec![create, power, rules, seen, name];
        room
    }

    fn append_after(&mut self, inner: &Inner, mut event: Value, auth: &[&Event]) -> Event {
        event["auth_events"] = auth.iter().map(|event| event.id.as_str()).collect();
        self.append(inner, event)
    }

    /// The next event of the room.
    fn append(&mut self, inner: &Inner, mut event: Value) -> Event {
        self.depth += 1;
        event["room_id"] = json!(self.id);
        event["depth"] = json!(self.depth);
        event["origin_server_ts"] = json!(now());
        event["prev_events"] = if self.end.is_empty() { json!([]) } else { json!([self.end]) };
        if event.get("auth_events").is_none() {
            event["auth_events"] = json!([]);
        }
        let id = inner.key.seal(&inner.name, &mut event);
        self.end.clone_from(&id);
        Event { id, json: event.to_string() }
    }

    fn template(&self, user: &str) -> Value {
        let auth: Vec<&str> = self.frame[..3].iter().map(|event| event.id.as_str()).collect();
        json!({"room_version": VERSION, "event": {
            "type": "m.room.member", "sender": user, "state_key": user, "room_id": self.id,
            "content": {"membership": "join"}, "depth": self.depth + 1, "origin_server_ts": now(),
            "prev_events": [self.end], "auth_events": auth,
        }})
    }

    /// Takes a join, and answers with the room as it was before it. spec: s2s#put_matrixfederationv2send_joinroomideventid
    fn take_join(&mut self, inner: &Inner, id: &str, body: &str, omit: bool) -> String {
        let server = serde_json::from_str::<Value>(body).ok().and_then(|event| {
            let (_, server) = event["sender"].as_str()?.split_once(':')?;
            Some(server.to_owned())
        });
        self.servers.extend(server);
        let members = if omit { &self.members[..1] } else { &self.members[..] };
        let answer = format!(
            "{{\"origin\":{:?},\"auth_chain\":{},\"members_omitted\":{omit},\"servers_in_room\":{},\"event\":{body},\"state\":{}}}",
            inner.name,
            self.auth_chain(),
            json!(self.servers),
            list(self.frame.iter().chain(members).chain(&self.joined)),
        );
        self.joined.push(Event { id: id.to_owned(), json: body.to_owned() });
        self.end = id.to_owned();
        self.depth += 1;
        answer
    }

    /// The state before one of the joins. Whoever joined later isn't in it.
    fn state_before(&self, event: &str) -> impl Iterator<Item = &Event> {
        let joined = self.joined.iter().take_while(move |joined| joined.id != event);
        self.frame.iter().chain(&self.members).chain(joined)
    }

    fn auth_chain(&self) -> String {
        list(self.frame[..3].iter().chain(&self.members[..1]))
    }

    fn find(&self, id: &str) -> Option<&Event> {
        self.frame.iter().chain(&self.members).chain(&self.joined).find(|event| event.id == id)
    }
}

fn list<'a>(events: impl Iterator<Item = &'a Event>) -> String {
    let events: Vec<&str> = events.map(|event| event.json.as_str()).collect();
    format!("[{}]", events.join(","))
}

fn ids<'a>(events: impl Iterator<Item = &'a Event>) -> Value {
    events.map(|event| event.id.as_str()).collect()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

async fn listen(listener: std::net::TcpListener, tls: TlsAcceptor, served: Arc<Inner>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, served) = (tls.clone(), served.clone());
        // A small answer that waits for an acknowledgement would be measured as the asking server's time.
        _ = stream.set_nodelay(true);
        tokio::task::spawn_local(async move {
            if let Ok(stream) = tls.accept(stream).await {
                let service = service_fn(|request| answer(served.clone(), request));
                // Whoever asks may hang up whenever they like.
                _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            }
        });
    }
}

async fn answer(
    inner: Arc<Inner>,
    request: Request<Incoming>,
) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let body = String::from_utf8_lossy(&body);
    let path: Vec<String> = head.uri.path().split('/').skip(2).map(unescape).collect();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let query = head.uri.query().unwrap_or_default();
    let (status, text) = match inner.say(&path, query, &body) {
        Some(text) => (200, text),
        None => (404, json!({"errcode": "M_NOT_FOUND", "error": "Not here"}).to_string()),
    };
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

impl Inner {
    fn say(&self, path: &[&str], query: &str, body: &str) -> Option<String> {
        let parameter = |name: &str| {
            let found = query.split('&').find_map(|part| part.split_once('=').filter(|(key, _)| *key == name));
            found.map(|(_, value)| unescape(value)).unwrap_or_default()
        };
        let mut rooms = self.rooms();
        match *path {
            ["key", "v2", "server", ..] => Some(self.keys()),
            ["push", "v1", "notify"] => {
                self.told.fetch_add(1, Relaxed);
                Some(json!({"rejected": []}).to_string())
            }
            ["federation", "v1", "version"] => Some(json!({"server": {"name": "bench", "version": "1"}}).to_string()),
            ["federation", "v1", "make_join", room, user] => Some(rooms.get(room)?.template(user).to_string()),
            ["federation", "v2", "send_join", room, event] => {
                Some(rooms.get_mut(room)?.take_join(self, event, body, parameter("omit_members") == "true"))
            }
            ["federation", "v1", "state", room] => {
                let room = rooms.get(room)?;
                let state = list(room.state_before(&parameter("event_id")));
                Some(format!("{{\"auth_chain\":{},\"pdus\":{state}}}", room.auth_chain()))
            }
            ["federation", "v1", "state_ids", room] => {
                let room = rooms.get(room)?;
                let chain = ids(room.frame[..3].iter().chain(&room.members[..1]));
                let state = ids(room.state_before(&parameter("event_id")));
                Some(json!({"pdu_ids": state, "auth_chain_ids": chain}).to_string())
            }
            ["federation", "v1", "event_auth", room, _] => {
                Some(format!("{{\"auth_chain\":{}}}", rooms.get(room)?.auth_chain()))
            }
            ["federation", "v1", "event", id] => {
                let event = rooms.values().find_map(|room| room.find(id))?;
                Some(format!("{{\"origin\":{:?},\"origin_server_ts\":{},\"pdus\":[{}]}}", self.name, now(), event.json))
            }
            ["federation", "v1", "get_missing_events", _] => Some(json!({"events": []}).to_string()),
            ["federation", "v1", "send", _] => Some(json!({"pdus": {}}).to_string()),
            ["federation", "v1", "user", "keys", "query"] => Some(json!({"device_keys": {}}).to_string()),
            ["federation", "v1", "user", "devices", user] => {
                Some(json!({"user_id": user, "stream_id": 1, "devices": []}).to_string())
            }
            _ => None,
        }
    }

    fn keys(&self) -> String {
        let mut keys = json!({
            "server_name": self.name,
            "valid_until_ts": now() + 86_400_000,
            "verify_keys": {self.key.id(): {"key": self.key.public()}},
            "old_verify_keys": {},
        });
        self.key.sign(&self.name, &mut keys);
        keys.to_string()
    }
}

fn unescape(part: &str) -> String {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()).filter(|_| byte == b'%') {
            Some(code) => {
                bytes.push(code);
                rest = &after[2..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn acceptor(certificates: &Path) -> Result<TlsAcceptor> {
    let chain = CertificateDer::pem_slice_iter(&fs::read(certificates.join("localhost.pem"))?)
        .collect::<std::result::Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(&fs::read(certificates.join("localhost-key.pem"))?)?;
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(config.with_no_client_auth().with_single_cert(chain, key)?).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::escape;

    #[test]
    fn rooms_are_made_and_joined() {
        let inner = Inner {
            name: "localhost:1".into(),
            key: Key::new("1").unwrap(),
            rooms: Mutex::default(),
            told: AtomicUsize::new(0),
        };
        let room = Room::new(&inner, 5);
        let id = room.id.clone();
        assert_eq!((room.members.len(), room.frame.len(), room.depth), (5, 5, 10));
        inner.rooms().insert(id.clone(), room);
        let joined =
            inner.say(&["federation", "v2", "send_join", &id, "$j"], "omit_members=true", r#"{"sender":"@a:b"}"#);
        let joined: Value = serde_json::from_str(&joined.unwrap()).unwrap();
        assert_eq!(joined["state"].as_array().unwrap().len(), 6);
        let state = inner.say(&["federation", "v1", "state_ids", &id], "event_id=%24j", "").unwrap();
        assert_eq!(serde_json::from_str::<Value>(&state).unwrap()["pdu_ids"].as_array().unwrap().len(), 10);
        assert!(inner.say(&["federation", "v1", "elsewhere"], "", "").is_none());
        assert_eq!(unescape(&escape("!a:b%")), "!a:b%");
    }
}
