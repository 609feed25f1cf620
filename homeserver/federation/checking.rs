//! Events from other servers, checked for who sent them: the keys of all in one go, the signatures many at
//! once and away from where requests are answered.

use std::sync::{Arc, Mutex, PoisonError};

use ruma::room_version_rules::RoomVersionRules;
use serde_json::value::RawValue;
use tokio::{sync::Semaphore, task::JoinSet};

use super::keyring::{At, Keyring, Keys, Wanted};
use crate::{
    base::clock,
    error::{Error, Result},
    rooms::pdu::{self, Checked, Outline, Parsed},
};

/// Events that one thread checks at a time; of few events at least so many, as a thread costs something too.
const CHUNK: usize = 128;
const LEAST: usize = 16;
/// Events that are checked by whoever asks: to have another thread do it takes as long.
const FEW: usize = 2;

/// Checks signatures, on so many threads at once as there are processors. Clones share them.
#[derive(Clone)]
pub struct Checker {
    keyring: Keyring,
    threads: Arc<Semaphore>,
    count: usize,
}

impl Checker {
    /// With these keys.
    pub fn new(keyring: Keyring) -> Self {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        Self { keyring, threads: Arc::new(Semaphore::new(count)), count }
    }

    /// Those of some events that are events of a room with these rules, and are signed; in their order. Each
    /// is held parsed only while it is looked at, as there may be very many.
    pub async fn check(&self, events: Vec<Box<RawValue>>, rules: &RoomVersionRules) -> Result<Vec<Checked>> {
        let events = events.into_iter().map(|raw| Outlined { raw, list: 0, depth: 0 }).collect();
        Ok(self.outline(events, rules).await?.some(usize::MAX).await?.into_iter().map(|(_, event)| event).collect())
    }

    /// The same for lists of very many, of which some are taken at a time, the least deep first: as a rule that is
    /// after those which allow them. The keys of all are had then.
    pub async fn begin<const N: usize>(
        &self,
        lists: [Vec<Box<RawValue>>; N],
        rules: &RoomVersionRules,
    ) -> Result<Checking> {
        let of_list = |(list, events): (usize, Vec<Box<RawValue>>)| {
            events.into_iter().map(move |raw| Outlined { raw, list, depth: 0 })
        };
        let events = lists.into_iter().enumerate().flat_map(of_list).collect();
        let mut checking = self.outline(events, rules).await?;
        checking.left.as_mut_slice().sort_by_key(|event| event.depth);
        Ok(checking)
    }

    async fn outline(&self, events: Vec<Outlined>, rules: &RoomVersionRules) -> Result<Checking> {
        let total = events.len();
        // 1. Whose keys are wanted.
        let reading = rules.clone();
        let read = self.in_chunks(events, move |chunk| Signers::of(chunk, &reading)).await?;
        let (mut all, mut events) = (Signers::default(), Vec::with_capacity(total));
        for (signers, chunk) in read {
            all.add(signers);
            events.extend(chunk);
        }
        // 2. The keys, all together.
        let keys = Arc::new(self.keys(&all).await?);
        Ok(Checking { checker: self.clone(), keys, rules: rules.clone(), left: events.into_iter() })
    }

    /// What comes of each of some events whose format is right.
    pub async fn verify(&self, events: Vec<Parsed>, rules: &RoomVersionRules) -> Result<Vec<Result<Checked>>> {
        let mut all = Signers::default();
        for event in &events {
            all.add(Signers { wanted: event.signers(rules), latest: sent_at(event) });
        }
        let (keys, rules) = (Arc::new(self.keys(&all).await?), rules.clone());
        let work = move |chunk: Vec<Parsed>| {
            chunk.into_iter().map(|event| verify(event, &keys, &rules)).collect::<Vec<Result<Checked>>>()
        };
        Ok(self.in_chunks(events, work).await?.into_iter().flatten().collect())
    }

    async fn keys(&self, signers: &Signers) -> Result<Keys> {
        self.keyring.gather(&signers.wanted, At::Time(signers.latest.min(clock::now_ms()))).await
    }

    /// Does work on all items, a chunk at a time. The results keep the order of the items.
    async fn in_chunks<I, O>(
        &self,
        items: Vec<I>,
        work: impl Fn(Vec<I>) -> O + Clone + Send + 'static,
    ) -> Result<Vec<O>>
    where
        I: Send + 'static,
        O: Send + 'static,
    {
        if items.len() <= FEW {
            return Ok(vec![work(items)]);
        }
        let each = items.len().div_ceil(self.count).clamp(LEAST, CHUNK);
        let mut chunks = Vec::with_capacity(items.len().div_ceil(each));
        let mut items = items.into_iter().peekable();
        while items.peek().is_some() {
            chunks.push(items.by_ref().take(each).collect::<Vec<I>>());
        }
        let wanted = chunks.len().min(self.count);
        let queue = Arc::new(Mutex::new(chunks.into_iter().enumerate()));
        let mut threads = JoinSet::new();
        for _ in 0..wanted {
            let (queue, work, places) = (queue.clone(), work.clone(), self.threads.clone());
            threads.spawn(async move {
                let mut done = Vec::new();
                loop {
                    let _thread = places.clone().acquire_owned().await.ok();
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some((index, chunk)) = next else { return Ok::<_, Error>(done) };
                    let work = work.clone();
                    let worked = tokio::task::spawn_blocking(move || work(chunk)).await.map_err(Error::internal)?;
                    done.push((index, worked));
                }
            });
        }
        let mut done = Vec::new();
        while let Some(part) = threads.join_next().await {
            done.extend(part.map_err(Error::internal)??);
        }
        done.sort_by_key(|(index, _)| *index);
        Ok(done.into_iter().map(|(_, result)| result).collect())
    }
}

/// An event that is to be checked: of which list, and how deep in the room.
struct Outlined {
    raw: Box<RawValue>,
    list: usize,
    depth: u64,
}

/// Events whose keys are had and whose signatures are still to be checked.
pub struct Checking {
    checker: Checker,
    keys: Arc<Keys>,
    rules: RoomVersionRules,
    left: std::vec::IntoIter<Outlined>,
}

impl Checking {
    /// Whether there are none left.
    pub fn is_over(&self) -> bool {
        self.left.as_slice().is_empty()
    }

    /// Those of the next ones that are signed, each with the number of its list.
    pub async fn some(&mut self, most: usize) -> Result<Vec<(usize, Checked)>> {
        // 3. The signatures.
        let (keys, rules) = (self.keys.clone(), self.rules.clone());
        let some = self.left.by_ref().take(most).collect();
        let checked = self.checker.in_chunks(some, move |chunk| verify_all(chunk, &keys, &rules)).await?;
        Ok(checked.into_iter().flatten().collect())
    }
}

/// Who has to have signed some events, and when the last of those was sent.
#[derive(Default)]
struct Signers {
    wanted: Wanted,
    latest: u64,
}

impl Signers {
    /// Of some events, whose depth is noted.
    fn of(mut events: Vec<Outlined>, rules: &RoomVersionRules) -> (Self, Vec<Outlined>) {
        let mut out = Self::default();
        for event in &mut events {
            let Some(Outline { signers, sent, depth }) = pdu::outline(&event.raw, rules) else { continue };
            out.add(Self { wanted: signers, latest: sent });
            event.depth = depth;
        }
        (out, events)
    }

    fn add(&mut self, other: Self) {
        self.latest = self.latest.max(other.latest);
        for (server, ids) in other.wanted {
            self.wanted.entry(server).or_default().extend(ids);
        }
    }
}

fn verify_all(events: Vec<Outlined>, keys: &Keys, rules: &RoomVersionRules) -> Vec<(usize, Checked)> {
    let mut out = Vec::with_capacity(events.len());
    for Outlined { raw, list, .. } in events {
        match pdu::parse(&raw, rules).and_then(|parsed| verify(parsed, keys, rules)) {
            Ok(checked) => out.push((list, checked)),
            Err(error) => tracing::debug!(%error, "an event of another server is left out"),
        }
    }
    out
}

fn verify(event: Parsed, keys: &Keys, rules: &RoomVersionRules) -> Result<Checked> {
    let keys = keys.valid_at(At::Time(sent_at(&event)));
    event.verify(&keys, rules)
}

fn sent_at(event: &Parsed) -> u64 {
    event.pdu().origin_server_ts.get().into()
}
