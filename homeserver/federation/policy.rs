//! Asking the policy servers of rooms: for a signature on what people of ours send, before it is sent, and on
//! what came from elsewhere without one.
//! spec: server-server-api#asking-for-a-policy-server-signature-on-an-event
//!
//! What is sent is made in the writer, which asks nobody. So a job whose event lacks a signature fails, leaving
//! no trace; the event that it made is signed; and the job is done again with that event at hand, which it
//! takes instead of a new one as long as it still fits.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::StatusCode;
use quick_cache::sync::Cache;
use ruma::{
    OwnedServerName, RoomVersionId, ServerName, api::federation::policy::sign_event::v1 as sign_event,
    room_version_rules::RoomVersionRules,
};

use super::{Bounds, Failure, Federation, Remote};
use crate::{
    base::json,
    error::{Error, Result, Unsigned},
    rooms::{pdu::Checked, policy::Policy, room},
    store::{Brought, WriteTx},
};

/// What a policy server may take for one event, and in how many bytes.
const BOUNDS: Bounds = Bounds { time: Duration::from_secs(10), size: 64 * 1024 };
/// How long one that does not answer is not asked again, and how many are remembered.
const PAUSE: Duration = Duration::from_secs(15);
const MAX_SILENT: usize = 1000;
/// How long is waited for one that is asked too often, once.
const MAX_WAIT: Duration = Duration::from_secs(3);
/// Signatures that one thing somebody does is worth asking for: it may be several events, and events that a
/// change of the room's state overtook are asked about anew.
const MAX_SIGNED: usize = 20;
/// Error codes by which clients would take the policy server's trouble for their own session's.
const OF_SESSIONS: [&str; 6] = [
    "M_UNKNOWN_TOKEN",
    "M_MISSING_TOKEN",
    "M_USER_LOCKED",
    "M_USER_SUSPENDED",
    "M_USER_DEACTIVATED",
    "M_CONSENT_NOT_GIVEN",
];

/// Asks policy servers. Clones share what is known of them.
#[derive(Clone)]
pub struct PolicyServers {
    remote: Remote,
    /// Since when those are silent that are.
    silent: Arc<Cache<OwnedServerName, Instant>>,
}

impl PolicyServers {
    /// By these requests.
    pub fn new(remote: Remote) -> Self {
        Self { remote, silent: Arc::new(Cache::new(MAX_SILENT)) }
    }

    /// The event with the signature of its room's policy server.
    pub async fn signed(&self, policy: &Policy, event: &str, rules: &RoomVersionRules) -> Result<String> {
        let signature = self.ask(policy, event).await.map_err(refused)?;
        let signed = policy.add_signature(event, &signature, rules);
        signed.ok_or_else(|| Error::bad_gateway("the room's policy server signs by another key than the room says"))
    }

    /// The same for an event that came from elsewhere. None if it is not to be had.
    pub async fn vouch(&self, policy: &Policy, event: &Checked, rules: &RoomVersionRules) -> Option<Checked> {
        let looked_at = event.clone().looked_at(policy, rules);
        if looked_at.vouched().is_some() {
            return Some(looked_at);
        }
        match self.ask(policy, event.json()).await {
            Ok(signature) => event.clone().signed_by(policy, &signature, rules),
            Err(failure) => {
                let (event, server) = (event.id(), &policy.server);
                tracing::debug!(%event, %server, %failure, "{server} does not sign an event");
                None
            }
        }
    }

    async fn ask(&self, policy: &Policy, event: &str) -> Result<String, Failure> {
        if self.silent.get(&policy.server).is_some_and(|since| since.elapsed() < PAUSE) {
            return Err(Failure::Unreachable("it did not answer a moment ago".to_owned()));
        }
        let mut answer = self.ask_once(&policy.server, event).await;
        if let Err(Failure::Refused { retry_after: Some(wait), status: StatusCode::TOO_MANY_REQUESTS, .. }) = &answer
            && *wait <= MAX_WAIT
        {
            tokio::time::sleep(*wait).await;
            answer = self.ask_once(&policy.server, event).await;
        }
        if let Err(Failure::Unreachable(why)) = &answer {
            tracing::info!(server = %policy.server, why, "the policy server {} does not answer", policy.server);
            self.silent.insert(policy.server.clone(), Instant::now());
        }
        answer
    }

    async fn ask_once(&self, server: &ServerName, event: &str) -> Result<String, Failure> {
        let event = json::raw(event.to_owned()).map_err(|error| Failure::Unreachable(error.to_string()))?;
        let answer = self.remote.call_within(BOUNDS, server, sign_event::Request::new(event)).await?;
        let signature = answer.ed25519_signature(server).map(str::to_owned);
        signature.ok_or_else(|| Failure::Unreachable("it answers without a signature".to_owned()))
    }
}

/// What somebody is told whose event a policy server did not sign: its own words, if it has some.
/// spec: server-server-api#validating-policy-server-signatures
fn refused(failure: Failure) -> Error {
    match failure {
        Failure::Refused { status, errcode, message, .. }
            if matches!(status.as_u16(), 400 | 403 | 404 | 429) && !OF_SESSIONS.contains(&&*errcode) =>
        {
            Error::in_their_words(status, &errcode, &message)
        }
        Failure::Refused { .. } => Error::forbidden("the room's policy server does not sign this"),
        Failure::Unreachable(why) => Error::bad_gateway(format!("the room's policy server can't be asked: {why}")),
    }
}

impl Federation {
    /// Runs a job by which somebody sends events, having those signed that need it.
    pub async fn write<T: Send + 'static>(
        &self,
        work: impl Fn(&WriteTx) -> Result<T> + Send + Sync + 'static,
    ) -> Result<T> {
        self.write_asking(Arc::new(work), false).await
    }

    /// The same for what a policy server can't hold up: if it does not sign, it goes without.
    pub async fn write_anyway<T: Send + 'static>(
        &self,
        work: impl Fn(&WriteTx) -> Result<T> + Send + Sync + 'static,
    ) -> Result<T> {
        self.write_asking(Arc::new(work), true).await
    }

    async fn write_asking<T, F>(&self, work: Arc<F>, anyway: bool) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&WriteTx) -> Result<T> + Send + Sync + 'static,
    {
        let mut brought = Brought::default();
        for _ in 0..=MAX_SIGNED {
            let (again, with) = (work.clone(), brought.clone());
            let error = match self.store.write(move |tx| tx.with(&with, || again(tx))).await {
                Err(error) => error,
                done => return done,
            };
            let Some(unsigned) = error.wants_signed() else { return Err(error) };
            match self.have_signed(unsigned).await {
                Ok(event) => brought.events.push(event.into()),
                Err(_) if anyway => return self.write_unasked(move |tx| work(tx)).await,
                Err(error) => return Err(error),
            }
        }
        Err(Error::bad_gateway("the room changes faster than its policy server signs"))
    }

    /// Runs a job by which events are sent that no policy server is asked about. The room's other servers may
    /// ask it themselves, and not show them.
    pub async fn write_unasked<T: Send + 'static>(
        &self,
        mut work: impl FnMut(&WriteTx) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let with = Brought { unasked: true, ..Brought::default() };
        self.store.write(move |tx| tx.with(&with, || work(tx))).await
    }

    async fn have_signed(&self, unsigned: &Unsigned) -> Result<String> {
        let server = ServerName::parse(&unsigned.by).map_err(Error::internal)?;
        let rules = room::rules(&RoomVersionId::try_from(unsigned.version.as_str()).map_err(Error::internal)?)?;
        let policy = Policy { server, key: unsigned.key.clone() };
        self.fetch.policy.signed(&policy, &unsigned.event, &rules).await
    }
}
