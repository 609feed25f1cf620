//! User-interactive authentication: what a client may do to prove itself, and the sessions in which it
//! does. A session is bound to one operation (endpoint, arguments, body) of one caller: what was
//! proved for one thing can't be used for another. Sessions live in memory, for a while, and there is
//! a bound on how many. Who checks a password or a token is `http/uia.rs`.
//! spec: client-server-api#user-interactive-authentication-api

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ring::{
    digest::{Context, Digest, SHA256},
    hmac,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::base::random;

/// A session lasts this long.
const LIFETIME: Duration = Duration::from_secs(15 * 60);
/// Sessions at once at most; beyond it the oldest goes.
const MAX_SESSIONS: usize = 10_000;

/// One step of authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nothing but asking again.
    Dummy,
    /// The account's password.
    Password,
    /// A token that allows one to register.
    RegistrationToken,
    /// Confirming it on a page of this server, as sessions do that came by OAuth.
    OAuth,
}

/// Stages that are enough together.
pub type Flow = &'static [Stage];

/// The flow for changes to one's own account.
pub const BY_PASSWORD: &[Flow] = &[&[Stage::Password]];
/// The flows for replacing cross-signing keys in a session that came by OAuth.
pub const BY_PAGE: &[Flow] = &[&[Stage::OAuth], &[Stage::Password]];

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Dummy => "m.login.dummy",
            Self::Password => "m.login.password",
            Self::RegistrationToken => "m.login.registration_token",
            Self::OAuth => "m.oauth",
        }
    }
}

/// What a client submits as `auth`.
#[derive(Clone, PartialEq, Eq)]
pub struct Auth {
    /// The session it goes on with.
    pub session: Option<String>,
    /// What it tries; none if it only asks whether the session is complete.
    pub attempt: Option<Attempt>,
}

/// An attempt at a stage.
#[derive(Clone, PartialEq, Eq)]
pub enum Attempt {
    /// [`Stage::Dummy`].
    Dummy,
    /// [`Stage::Password`], with the name that was given, if it is a Matrix name.
    Password {
        /// The localpart or user ID.
        name: Option<String>,
        /// The password.
        password: String,
    },
    /// [`Stage::RegistrationToken`].
    RegistrationToken(String),
    /// A stage that this server does not have.
    Unknown,
}

impl Attempt {
    /// The stage that is tried.
    pub fn stage(&self) -> Option<Stage> {
        match self {
            Self::Dummy => Some(Stage::Dummy),
            Self::Password { .. } => Some(Stage::Password),
            Self::RegistrationToken(_) => Some(Stage::RegistrationToken),
            Self::Unknown => None,
        }
    }
}

/// A user identifier, as signing in and authentication have it.
#[derive(Clone, Deserialize)]
pub struct Identifier {
    /// `m.id.user` or another.
    #[serde(rename = "type")]
    kind: String,
    user: Option<String>,
}

impl Identifier {
    /// The localpart or user ID. None for e-mail addresses and telephone numbers, which belong to no
    /// account here. spec: client-server-api#identifier-types
    pub fn name(self) -> Option<String> {
        self.user.filter(|_| self.kind == "m.id.user")
    }
}

impl<'de> Deserialize<'de> for Auth {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Fields {
            #[serde(rename = "type")]
            kind: Option<String>,
            session: Option<String>,
            identifier: Option<Identifier>,
            /// How older clients say who they are.
            user: Option<String>,
            password: Option<String>,
            token: Option<String>,
        }
        let missing = serde::de::Error::missing_field;
        let fields = Fields::deserialize(from)?;
        let attempt = match fields.kind.as_deref() {
            None => None,
            Some("m.login.dummy") => Some(Attempt::Dummy),
            Some("m.login.password") => {
                let name = fields.identifier.and_then(Identifier::name).or(fields.user);
                Some(Attempt::Password { name, password: fields.password.ok_or_else(|| missing("password"))? })
            }
            Some("m.login.registration_token") => {
                Some(Attempt::RegistrationToken(fields.token.ok_or_else(|| missing("token"))?))
            }
            Some(_) => Some(Attempt::Unknown),
        };
        Ok(Self { session: fields.session, attempt })
    }
}

/// The digest of what is asked for: an endpoint, the arguments in its path, and a body. It is not keyed
/// and bodies may hold passwords: it is not kept.
#[derive(Clone, Copy)]
pub struct Operation(Digest);

impl Operation {
    /// Of a request. Takes no copy of the body.
    pub fn new(method: &str, path: &str, arguments: &[&str], body: &Map<String, Value>) -> Self {
        let mut context = Context::new(&SHA256);
        [method, path].iter().chain(arguments).for_each(|text| digest_text(text, &mut context));
        digest_object(body, &mut context);
        Self(context.finish())
    }

    /// Of registering, whatever the name and the password: nobody's account is at stake, and there are apps (Cinny)
    /// that begin with an empty body to learn the flows, and go on with what is typed then.
    pub fn registering() -> Self {
        Self::new("POST", "register", &[], &Map::new())
    }
}

impl PartialEq for Operation {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_ref() == other.0.as_ref()
    }
}

/// What a session is bound to: a digest of an operation and its caller.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Bound([u8; 32]);

/// Where a session stands.
#[derive(Clone, Default)]
pub struct Progress {
    /// Stages that are done.
    pub completed: Vec<Stage>,
    /// The registration token that one of them was.
    pub registration_token: Option<String>,
}

impl Progress {
    /// Whether the stages of one flow are all done.
    pub fn satisfies(&self, flows: &[Flow]) -> bool {
        flows.iter().any(|flow| flow.iter().all(|stage| self.completed.contains(stage)))
    }
}

/// All sessions under way.
pub struct Sessions {
    /// Digests are keyed, as bodies may hold passwords.
    key: hmac::Key,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    by_id: HashMap<String, Session>,
    /// From the oldest to the newest.
    ends: VecDeque<(Instant, String)>,
}

struct Session {
    bound: Bound,
    ends: Instant,
    progress: Progress,
}

impl Default for Sessions {
    fn default() -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &random::bytes::<32>());
        Self { key, open: Mutex::default() }
    }
}

impl Sessions {
    /// The digest of an operation by a caller: (user, device) or, while registering, nobody.
    pub fn bind(&self, caller: Option<(&str, &str)>, operation: &Operation) -> Bound {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(json!(caller).to_string().as_bytes());
        context.update(operation.0.as_ref());
        let mut digest = [0; 32];
        digest.copy_from_slice(context.sign().as_ref());
        Bound(digest)
    }

    /// Begins a session.
    pub fn begin(&self, bound: Bound) -> String {
        self.begin_at(bound, Instant::now())
    }

    fn begin_at(&self, bound: Bound, now: Instant) -> String {
        let id = random::id::<24>();
        let mut open = self.open();
        while open.ends.front().is_some_and(|(end, _)| *end <= now) || open.ends.len() >= MAX_SESSIONS {
            let Some((_, oldest)) = open.ends.pop_front() else { break };
            open.by_id.remove(&oldest);
        }
        let session = Session { bound, ends: now + LIFETIME, progress: Progress::default() };
        open.ends.push_back((session.ends, id.clone()));
        open.by_id.insert(id.clone(), session);
        id
    }

    /// Where a session stands. None if there is none of that ID for this operation and caller.
    pub fn progress(&self, id: &str, bound: Bound) -> Option<Progress> {
        self.progress_at(id, bound, Instant::now())
    }

    fn progress_at(&self, id: &str, bound: Bound, now: Instant) -> Option<Progress> {
        let open = self.open();
        let session = open.by_id.get(id).filter(|session| session.bound == bound && session.ends > now)?;
        Some(session.progress.clone())
    }

    /// Notes how far a session has come.
    pub fn advance(&self, id: &str, progress: &Progress) {
        if let Some(session) = self.open().by_id.get_mut(id) {
            session.progress = progress.clone();
        }
    }

    /// Ends a session that has served.
    pub fn end(&self, id: &str) {
        let mut open = self.open();
        open.by_id.remove(id);
        open.ends.retain(|(_, other)| other != id);
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body that asks a client for more. `page` is where [`Stage::OAuth`] is done.
pub fn challenge(flows: &[Flow], session: &str, progress: &Progress, page: &str) -> Map<String, Value> {
    let by_page = flows.iter().any(|flow| flow.contains(&Stage::OAuth));
    let names = |stages: &[Stage]| stages.iter().map(|stage| stage.name()).collect::<Vec<_>>();
    let flows: Vec<_> = flows.iter().map(|flow| json!({ "stages": names(flow) })).collect();
    let mut body = Map::new();
    body.insert("flows".into(), flows.into());
    let params = if by_page { json!({"m.oauth": {"url": page}}) } else { json!({}) };
    body.insert("params".into(), params);
    body.insert("session".into(), session.into());
    if !progress.completed.is_empty() {
        body.insert("completed".into(), names(&progress.completed).into());
    }
    body
}

/// Adds a value to a digest, the members of objects in order, so that equal bodies have equal digests.
/// Every text comes with its length, so that no two values are the same bytes. The depth is bounded by
/// what a body may have.
fn digest(value: &Value, into: &mut Context) {
    match value {
        Value::Object(members) => digest_object(members, into),
        Value::Array(values) => {
            length(b'[', values.len(), into);
            values.iter().for_each(|value| digest(value, into));
        }
        Value::String(text) => digest_text(text, into),
        Value::Number(number) => {
            into.update(b"#");
            digest_text(&number.to_string(), into);
        }
        Value::Bool(true) => into.update(b"t"),
        Value::Bool(false) => into.update(b"f"),
        Value::Null => into.update(b"n"),
    }
}

fn digest_object(members: &Map<String, Value>, into: &mut Context) {
    let mut pairs: Vec<_> = members.iter().collect();
    pairs.sort_unstable_by_key(|(name, _)| *name);
    length(b'{', pairs.len(), into);
    for (name, value) in pairs {
        digest_text(name, into);
        digest(value, into);
    }
}

fn digest_text(text: &str, into: &mut Context) {
    length(b'"', text.len(), into);
    into.update(text.as_bytes());
}

fn length(kind: u8, count: usize, into: &mut Context) {
    into.update(&[kind]);
    into.update(&(count as u64).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_serves_only_what_it_was_begun_for() {
        let sessions = Sessions::default();
        let alice = Some(("@alice:b.c", "PHONE"));
        let asked = |endpoint: &str, device: &str, body: Value| {
            Operation::new(endpoint, "/devices", &[device], body.as_object().expect("an object"))
        };
        let operation = asked("DELETE", "OLD", json!({ "a": 1, "b": { "c": 2, "d": [3] } }));
        let bound = sessions.bind(alice, &operation);
        let id = sessions.begin(bound);
        let same = asked("DELETE", "OLD", json!({ "b": { "d": [3], "c": 2 }, "a": 1 }));
        assert!(sessions.progress(&id, sessions.bind(alice, &same)).is_some());
        for (number, (caller, other)) in [
            (alice, asked("POST", "OLD", json!({ "a": 1, "b": { "c": 2, "d": [3] } }))),
            (alice, asked("DELETE", "NEW", json!({ "a": 1, "b": { "c": 2, "d": [3] } }))),
            (alice, asked("DELETE", "OLD", json!({ "a": 2, "b": { "c": 2, "d": [3] } }))),
            (alice, asked("DELETE", "OLD", json!({ "a": "1", "b": { "c": 2, "d": [3] } }))),
            (alice, asked("DELETE", "OLD", json!({ "a": 1, "b": { "c": 2, "d": 3 } }))),
            (alice, asked("DELETE", "OLD", json!({ "a": 1, "b": { "c": 2 }, "d": [3] }))),
            (Some(("@bob:b.c", "PHONE")), operation),
            (Some(("@alice:b.c", "LAPTOP")), operation),
            (None, operation),
        ]
        .into_iter()
        .enumerate()
        {
            assert!(sessions.progress(&id, sessions.bind(caller, &other)).is_none(), "{number}");
        }
    }

    #[test]
    fn sessions_end_by_use_by_time_and_by_number() {
        let sessions = Sessions::default();
        let bound = sessions.bind(None, &Operation::new("", "", &[], &Map::new()));
        let (start, used) = (Instant::now(), sessions.begin(bound));
        sessions.end(&used);
        assert!(sessions.progress(&used, bound).is_none());
        let old = sessions.begin_at(bound, start);
        assert!(sessions.progress_at(&old, bound, start + LIFETIME - Duration::from_secs(1)).is_some());
        assert!(sessions.progress_at(&old, bound, start + LIFETIME).is_none());
        let first = sessions.begin_at(bound, start + LIFETIME);
        for _ in 0..MAX_SESSIONS {
            sessions.begin_at(bound, start + LIFETIME);
        }
        assert!(sessions.progress_at(&first, bound, start + LIFETIME).is_none());
        assert_eq!(sessions.open().by_id.len(), MAX_SESSIONS);
        assert_eq!(sessions.open().ends.len(), MAX_SESSIONS);
    }

    #[test]
    fn auth_is_read_in_its_old_and_new_forms() {
        let name = |value: Value| match serde_json::from_value::<Auth>(value).expect("parses").attempt {
            Some(Attempt::Password { name, .. }) => name,
            _ => panic!("a password is meant"),
        };
        let new = json!({ "type": "m.login.password", "password": "x",
            "identifier": { "type": "m.id.user", "user": "alice" } });
        assert_eq!(name(new).as_deref(), Some("alice"));
        assert_eq!(name(json!({ "type": "m.login.password", "password": "x", "user": "bob" })).as_deref(), Some("bob"));
        let mail = json!({ "type": "m.login.password", "password": "x",
            "identifier": { "type": "m.id.thirdparty", "medium": "email", "address": "a@b.c" } });
        assert_eq!(name(mail), None);
        assert!(serde_json::from_value::<Auth>(json!({ "type": "m.login.password" })).is_err());
        let poll: Auth = serde_json::from_value(json!({ "session": "s" })).expect("parses");
        assert!(poll.attempt.is_none() && poll.session.as_deref() == Some("s"));
    }

    #[test]
    fn a_flow_wants_all_of_its_stages() {
        const FLOWS: &[Flow] = &[&[Stage::RegistrationToken, Stage::Dummy]];
        let mut progress = Progress { completed: vec![Stage::Dummy], ..Progress::default() };
        assert!(!progress.satisfies(FLOWS));
        assert_eq!(challenge(FLOWS, "s", &progress, "")["completed"], json!(["m.login.dummy"]));
        progress.completed.push(Stage::RegistrationToken);
        assert!(progress.satisfies(FLOWS));
    }
}
