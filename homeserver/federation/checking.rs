//! Events from other servers, checked for who sent them: the keys of all in one go, the signatures away
//! from where requests are answered.

use std::sync::Arc;

use ruma::room_version_rules::RoomVersionRules;
use serde_json::value::RawValue;
use tokio::sync::Semaphore;

use super::keyring::{At, Keyring, Wanted};
use crate::{
    base::clock,
    error::{Error, Result},
    rooms::pdu::{self, Checked, Parsed},
};

/// Checks signatures, on so many threads at once as there are processors. Clones share them.
#[derive(Clone)]
pub struct Checker {
    keyring: Keyring,
    threads: Arc<Semaphore>,
}

impl Checker {
    /// With these keys.
    pub fn new(keyring: Keyring) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { keyring, threads: Arc::new(Semaphore::new(threads)) }
    }

    /// Those of some events that are events of a room with these rules, and are signed; in their order.
    pub async fn check(&self, events: Vec<Box<RawValue>>, rules: &RoomVersionRules) -> Result<Vec<Checked>> {
        let reading = rules.clone();
        let parsed = self.work(move || parse_all(&events, &reading)).await?;
        let checked = self.verify(parsed, rules).await?;
        Ok(checked.into_iter().filter_map(|checked| told(checked).ok()).collect())
    }

    /// What comes of each of some events whose format is right.
    pub async fn verify(&self, events: Vec<Parsed>, rules: &RoomVersionRules) -> Result<Vec<Result<Checked>>> {
        let (mut wanted, mut latest) = (Wanted::new(), 0);
        for event in &events {
            latest = latest.max(sent_at(event));
            for (server, ids) in event.signers(rules) {
                wanted.entry(server).or_default().extend(ids);
            }
        }
        let keys = self.keyring.gather(&wanted, At::Time(latest.min(clock::now_ms()))).await?;
        let rules = rules.clone();
        self.work(move || {
            let verify = |event: Parsed| {
                let keys = keys.valid_at(&event.signers(&rules), At::Time(sent_at(&event)));
                event.verify(&keys, &rules)
            };
            events.into_iter().map(verify).collect()
        })
        .await
    }

    async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        // It is never closed.
        let _thread = self.threads.clone().acquire_owned().await.ok();
        tokio::task::spawn_blocking(work).await.map_err(Error::internal)
    }
}

fn parse_all(events: &[Box<RawValue>], rules: &RoomVersionRules) -> Vec<Parsed> {
    events.iter().filter_map(|event| told(pdu::parse(event, rules)).ok()).collect()
}

fn told<T>(outcome: Result<T>) -> Result<T> {
    outcome.inspect_err(|error| tracing::debug!(%error, "an event of another server is left out"))
}

fn sent_at(event: &Parsed) -> u64 {
    event.pdu().origin_server_ts.get().into()
}
