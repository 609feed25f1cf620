//! Transactions of other servers: their events, checked, judged in their rooms, each room by itself and in
//! order.
//!
//! ```text
//!  origin ─► transaction ─► format, ACL ─► signatures, all at once ─┬─► room: queue ─► settle, one by one
//!                                                                  └─► room: queue ─► settle, one by one
//! ```
//!
//! A room that takes long (it lacks much, or is hostile) holds up itself and who waits for it, and nobody
//! else. How much may wait is bounded by origin and in all.
//! spec: server-server-api#transactions

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use quick_cache::sync::Cache;
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, RoomId, RoomVersionId, ServerName};
use serde_json::value::RawValue;
use tokio::{
    sync::{OnceCell, oneshot},
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::{checking::Checker, fetch::Fetch, handshake::Turns};
use crate::{
    base::{Pos, json, signing::Identity},
    error::{Error, Result},
    rooms::{
        Room, acl, doorstep,
        pdu::{self, Checked, Parsed},
        servers,
    },
    store::{
        Flow, ReadTx, Store, WriteTx,
        rows::{ArrivedRow, Standing},
        tables,
    },
};

/// Events in one transaction at most. spec: server-server-api#transactions
const MAX_PDUS: usize = 50;
/// Events of one server, and of all, that wait to be judged.
const MAX_OF_ORIGIN: usize = 200;
const MAX_WAITING: usize = 20_000;
/// Events that are written down to be judged later, at most.
const MAX_KEPT: u64 = 20_000;
/// Transactions whose answers are remembered, for when they are sent again.
const REMEMBERED: usize = 4_000;
/// How long a server waits for the verdicts on its events. What takes longer is written down and judged
/// later, so that it holds up nothing else of what the server has to tell.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long what was written down waits until it is tried again, where too much of its server's waits.
const AGAIN: Duration = Duration::from_secs(1);
/// How long the events of a transaction wait for somebody of ours to have entered their rooms.
const MAX_ENTERING: Duration = Duration::from_secs(30);
/// How long one event may take, with all that has to be fetched for it.
const MAX_TIME: Duration = Duration::from_secs(10 * 60);

/// What became of each event of a transaction: an error only where it is not kept.
pub type Results = BTreeMap<OwnedEventId, Result<(), String>>;

/// What comes in. Clones share it.
#[derive(Clone)]
pub struct Inbound(Arc<Inner>);

struct Inner {
    me: Arc<Identity>,
    store: Store,
    checker: Checker,
    fetch: Fetch,
    turns: Arc<Turns>,
    queues: Mutex<Queues>,
    answers: Cache<(OwnedServerName, String), Arc<OnceCell<Results>>>,
}

#[derive(Default)]
struct Queues {
    rooms: HashMap<OwnedRoomId, VecDeque<Job>>,
    origins: HashMap<OwnedServerName, usize>,
    waiting: usize,
}

struct Job {
    event: Arc<Checked>,
    origin: OwnedServerName,
    done: oneshot::Sender<Result<Option<Standing>>>,
}

/// What a part of a transaction is.
enum Admitted {
    /// An event in the format of its room's version.
    Event(RoomVersionId, Box<Parsed>),
    /// Something that has an ID, and why it is refused.
    Refused(OwnedEventId, String),
    /// What has not even an ID.
    Nothing,
}

/// An event whose verdict somebody waits for.
struct Waiting {
    event: Arc<Checked>,
    /// What it is; none if that can't be said while its room is partial.
    done: oneshot::Receiver<Result<Option<Standing>>>,
}

impl Inbound {
    /// What comes in is judged by `fetch`.
    pub fn new(me: Arc<Identity>, store: Store, checker: Checker, fetch: Fetch, turns: Arc<Turns>) -> Self {
        let answers = Cache::new(REMEMBERED);
        Self(Arc::new(Inner { me, store, checker, fetch, turns, queues: Mutex::default(), answers }))
    }

    /// Does what a transaction wants, once: a transaction that was taken in before gets the same answer.
    pub async fn once<F>(&self, origin: &ServerName, transaction: &str, work: impl FnOnce() -> F) -> Result<Results>
    where
        F: Future<Output = Result<Results>>,
    {
        let key = (origin.to_owned(), transaction.to_owned());
        let cell = self.0.answers.get_or_insert_with(&key, || Ok::<_, Error>(Arc::default()))?;
        cell.get_or_try_init(work).await.cloned()
    }

    /// Takes in a transaction's events, and returns when all have been judged or written down.
    ///
    /// 1. What is no event, of no room that we are in, or of a server that the room shuts out, is refused.
    /// 2. What is not signed is refused.
    /// 3. The rest is judged, room by room.
    pub async fn events(&self, origin: &ServerName, pdus: Vec<Box<RawValue>>) -> Result<Results> {
        if pdus.len() > MAX_PDUS {
            return Err(Error::bad_json(format!("a transaction has {MAX_PDUS} events at most")));
        }
        let (mut results, mut nameless, mut bent) = (Results::new(), 0, 0);
        // 1.
        let mut by_version: BTreeMap<RoomVersionId, Vec<Parsed>> = BTreeMap::new();
        let entered = Instant::now() + MAX_ENTERING;
        for raw in &pdus {
            if let Some(id) = self.retracted(raw, entered).await? {
                results.insert(id, Ok(()));
                continue;
            }
            match self.0.store.read(|tx| self.admit(tx, origin, raw))? {
                Admitted::Event(version, parsed) => by_version.entry(version).or_default().push(*parsed),
                Admitted::Refused(id, why) => drop(results.insert(id, Err(why))),
                Admitted::Nothing => nameless += 1,
            }
        }
        // 2.
        let mut signed = Vec::new();
        for (version, events) in by_version {
            let rules = crate::rooms::room::rules(&version)?;
            let ids: Vec<OwnedEventId> = events.iter().map(|event| event.id().to_owned()).collect();
            for (id, checked) in ids.into_iter().zip(self.0.checker.verify(events, &rules).await?) {
                match checked {
                    Ok(checked) => {
                        bent += usize::from(checked.was_bent());
                        signed.push(checked);
                    }
                    Err(error) if error.cause().is_some() => return Err(error),
                    Err(error) => drop(results.insert(id, Err(error.message().to_owned()))),
                }
            }
        }
        log_refused(origin, &results, (nameless, bent));
        // 3.
        let waiting = self.queue(origin, signed)?;
        self.verdicts(origin, waiting, &mut results).await?;
        Ok(results)
    }

    /// Waits for the verdicts on a transaction's events, and writes down what takes longer.
    async fn verdicts(&self, origin: &ServerName, waiting: Vec<Waiting>, results: &mut Results) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        let (mut late, mut held, mut forbidden) = (Vec::new(), Vec::new(), Vec::new());
        for mut wait in waiting {
            let id = wait.event.id().to_owned();
            let outcome = match timeout_at(until, &mut wait.done).await {
                Ok(outcome) => outcome.map_err(Error::internal)?,
                Err(_) => {
                    results.insert(id, Ok(()));
                    late.push(wait);
                    continue;
                }
            };
            let outcome = match outcome {
                // A rejected event is no error. spec: server-server-api#rejection
                Ok(standing) => {
                    let is_forbidden = matches!(standing, Some(Standing::Rejected | Standing::SoftFailed));
                    forbidden.extend(is_forbidden.then(|| wait.event.clone()));
                    held.extend(standing.is_none().then_some(wait.event));
                    Ok(())
                }
                // Ours to mend, and theirs to send again.
                Err(error) if error.cause().is_some() => return Err(error),
                Err(error) => Err(error.message().to_owned()),
            };
            results.insert(id, outcome);
        }
        log_forbidden(origin, &forbidden);
        self.keep(origin, &held).await?;
        self.keep_late(origin, late).await
    }

    /// Writes events down that will be judged later, and returns where. 429 if there are too many.
    async fn keep(&self, origin: &ServerName, events: &[Arc<Checked>]) -> Result<Vec<Pos>> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let rows: Vec<ArrivedRow> = events.iter().map(|event| arrived(origin, event)).collect();
        let write = move |tx: &WriteTx| {
            if tables::ARRIVED.len(tx)? >= MAX_KEPT {
                return Err(Error::limited(Duration::from_secs(60)));
            }
            let mut out = Vec::with_capacity(rows.len());
            for row in &rows {
                let pos = tx.next_pos();
                tables::ARRIVED.put(tx, pos, row)?;
                out.push(pos);
            }
            Ok(out)
        };
        self.0.store.write(write).await
    }

    /// Writes down what will be judged later: it is ours from now on.
    async fn keep_late(&self, origin: &ServerName, late: Vec<Waiting>) -> Result<()> {
        if late.is_empty() {
            return Ok(());
        }
        tracing::info!(%origin, events = late.len(), "events from {origin} take long and are judged later");
        let events: Vec<Arc<Checked>> = late.iter().map(|wait| wait.event.clone()).collect();
        for (pos, wait) in self.keep(origin, &events).await?.into_iter().zip(late) {
            tokio::spawn(self.clone().forget(pos, wait));
        }
        Ok(())
    }

    /// Forgets an event that was written down, once it has been judged.
    async fn forget(self, pos: Pos, wait: Waiting) {
        let is_ours_to_mend = |error: &Error| error.cause().is_some();
        match wait.done.await {
            // It stays until its room is whole.
            Ok(Ok(None)) => return,
            Ok(outcome) if !outcome.as_ref().is_err_and(is_ours_to_mend) => {}
            _ => return,
        }
        if let Err(error) = self.0.store.write(move |tx| tables::ARRIVED.remove(tx, pos)).await {
            tracing::warn!(%error, "an event that came in can't be forgotten: it will be judged again at the next start");
        }
    }

    /// Goes on with what was written down before the server last stopped.
    pub async fn resume(&self) -> Result<()> {
        self.resume_in(None).await
    }

    /// Judges what was written down to be judged later, in one room or in all, a few at a time.
    pub async fn resume_in(&self, room: Option<&RoomId>) -> Result<()> {
        let mut after = 0;
        loop {
            let rows = self.kept(after)?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            after = *last;
            let mut judging = JoinSet::new();
            for (pos, row) in rows {
                let raw = json::raw(row.event)?;
                let id = pdu::room_of(&raw);
                if room.is_some() && id.as_deref() != room {
                    continue;
                }
                let waiting = loop {
                    match self.again(raw.clone(), id.clone(), &row.origin).await {
                        // As much of that server waits as may: what it sends now came later.
                        Err(error) if error.status() == http::StatusCode::TOO_MANY_REQUESTS => {
                            tokio::time::sleep(AGAIN).await;
                        }
                        waiting => break waiting?,
                    }
                };
                match waiting {
                    Some(wait) => drop(judging.spawn(self.clone().forget(pos, wait))),
                    None => drop(self.0.store.write(move |tx| tables::ARRIVED.remove(tx, pos)).await?),
                }
            }
            while judging.join_next().await.is_some() {}
        }
    }

    /// Some of what was written down after a place.
    fn kept(&self, after: Pos) -> Result<Vec<(Pos, ArrivedRow)>> {
        let mut rows = Vec::new();
        self.0.store.read(|tx| {
            tables::ARRIVED.scan(tx, after + 1.., |pos, row| {
                rows.push((pos, row));
                Ok(if rows.len() < MAX_PDUS { Flow::Next } else { Flow::Stop })
            })
        })?;
        Ok(rows)
    }

    /// Forgets what was written down of a room that nobody of ours is in any more.
    pub async fn forget_in(&self, room: &RoomId) -> Result<()> {
        let mut after = 0;
        loop {
            let rows = self.kept(after)?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            after = *last;
            let mut of_room = Vec::new();
            for (pos, row) in rows {
                if pdu::room_of(&json::raw(row.event)?).as_deref() == Some(room) {
                    of_room.push(pos);
                }
            }
            if !of_room.is_empty() {
                let forget =
                    move |tx: &WriteTx| of_room.iter().try_for_each(|pos| tables::ARRIVED.remove(tx, *pos).map(drop));
                self.0.store.write(forget).await?;
            }
        }
    }

    /// Lets an event that was written down be judged. None if it is none any more.
    async fn again(&self, raw: Box<RawValue>, room: Option<OwnedRoomId>, origin: &str) -> Result<Option<Waiting>> {
        let (Some(room), Ok(origin)) = (room, ServerName::parse(origin)) else { return Ok(None) };
        let rules = self.0.store.read(|tx| Ok(Room::find(tx, &room)?.map(|room| room.rules())))?;
        let Some(rules) = rules else { return Ok(None) };
        let checked = self.0.checker.check(vec![raw], &rules).await?.pop();
        Ok(match checked {
            Some(event) => self.queue(&origin, vec![event])?.pop(),
            None => None,
        })
    }

    /// Takes an invite or a knock of somebody of ours back, if that is what an event does: the one kind that
    /// comes of rooms that we are not in. Its ID, if so. What comes of a room while somebody of ours enters
    /// it, waits until they are in, or until `entered`.
    async fn retracted(&self, raw: &RawValue, entered: Instant) -> Result<Option<OwnedEventId>> {
        let Some(id) = pdu::room_of(raw) else { return Ok(None) };
        // If it takes longer, what comes is refused, and fetched once it is missed.
        let _ = timeout_at(entered, self.0.turns.settled(&id)).await;
        let outside = self.0.store.read(|tx| {
            let room = Room::known(tx, &id)?;
            let inside = room.as_ref().map_or(Ok(true), |room| doorstep::is_inside(tx, &self.0.me, room))?;
            Ok(room.filter(|_| !inside))
        })?;
        let Some(room) = outside else { return Ok(None) };
        let Ok(parsed) = pdu::parse(raw, &room.rules()) else { return Ok(None) };
        if !doorstep::is_retraction(&self.0.me, parsed.pdu()) {
            return Ok(None);
        }
        let Some(Ok(event)) = self.0.checker.verify(vec![parsed], &room.rules()).await?.pop() else { return Ok(None) };
        let (me, id) = (self.0.me.clone(), event.id().to_owned());
        let taken_back = self.0.store.write(move |tx| doorstep::retract(tx, &me, &event)).await?;
        Ok(taken_back.then_some(id))
    }

    /// An event in the format of its room, or why it is refused.
    fn admit(&self, tx: &ReadTx, origin: &ServerName, raw: &RawValue) -> Result<Admitted> {
        let Some(id) = pdu::room_of(raw) else { return Ok(Admitted::Nothing) };
        let Some(room) = Room::find(tx, &id)? else { return Ok(Admitted::Nothing) };
        let parsed = match pdu::parse(raw, &room.rules()) {
            Ok(parsed) => parsed,
            Err(error) => {
                tracing::debug!(%origin, room = %id, %error, "{origin} sent what is no event");
                let id = pdu::id_of_odd(raw, &room.rules());
                return Ok(id.map_or(Admitted::Nothing, |id| Admitted::Refused(id, error.message().to_owned())));
            }
        };
        let refused = match () {
            () if !servers::is_in(tx, room.num, &self.0.me.name)? => Some("this server is not in the room".to_owned()),
            () if !servers::was_ever_in(tx, room.num, origin)? => {
                tracing::info!(%origin, room = %id, "{origin} sends to a room that it is not in");
                Some("your server is not in the room".to_owned())
            }
            () => acl::check(tx, &room, origin).err().map(|error| error.message().to_owned()),
        };
        Ok(match refused {
            Some(why) => Admitted::Refused(parsed.id().to_owned(), why),
            None => Admitted::Event(room.version(), Box::new(parsed)),
        })
    }

    /// Lets events wait in the queues of their rooms. 429 if too many wait: then none of these does, as all of them
    /// come again.
    fn queue(&self, origin: &ServerName, events: Vec<Checked>) -> Result<Vec<Waiting>> {
        let mut queues = self.0.lock();
        let of_origin = queues.origins.get(origin).copied().unwrap_or(0) + events.len();
        if of_origin > MAX_OF_ORIGIN || queues.waiting + events.len() > MAX_WAITING {
            return Err(Error::limited(Duration::from_secs(10)));
        }
        if !events.is_empty() {
            queues.origins.insert(origin.to_owned(), of_origin);
        }
        queues.waiting += events.len();
        let mut out = Vec::with_capacity(events.len());
        for event in events {
            let ((done, receiver), event) = (oneshot::channel(), Arc::new(event));
            out.push(Waiting { event: event.clone(), done: receiver });
            let room = event.room_id().to_owned();
            if !queues.rooms.contains_key(&room) {
                tokio::spawn(self.clone().work(room.clone()));
            }
            queues.rooms.entry(room).or_default().push_back(Job { event, origin: origin.to_owned(), done });
        }
        Ok(out)
    }

    /// Judges what waits in a room, until nothing does: as much as there is in one go, and what lacks
    /// something one by one.
    async fn work(self, room: OwnedRoomId) {
        loop {
            let jobs = self.0.next(&room);
            if jobs.is_empty() {
                return;
            }
            let events = jobs.iter().map(|job| job.event.clone()).collect();
            let judged = self.0.fetch.judge_all(events).await;
            let mut judged = judged.unwrap_or_default().into_iter();
            for job in jobs {
                let outcome = match judged.next() {
                    Some(Ok(Some(standing))) => Ok(Some(standing)),
                    Some(Err(error)) => Err(error),
                    Some(Ok(None)) | None => self.settle(&job).await,
                };
                if let Err(error) = &outcome {
                    let (event, origin) = (job.event.id(), &job.origin);
                    tracing::warn!(%event, %room, %origin, %error, "an event from {origin} in {room} can't be judged");
                }
                self.0.lock().leave(&job.origin);
                // Whoever asked may have gone.
                let _ = job.done.send(outcome);
            }
        }
    }

    /// Judges one event in a task of its own: whatever happens in it, the room goes on.
    async fn settle(&self, job: &Job) -> Result<Option<Standing>> {
        let (fetch, event, origin) = (self.0.fetch.clone(), job.event.clone(), job.origin.clone());
        let settling = tokio::spawn(async move { tokio::time::timeout(MAX_TIME, fetch.settle(&event, &origin)).await });
        match settling.await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Error::unknown("it takes too long to judge the event")),
            Err(error) => Err(Error::internal(error)),
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next jobs of a room; forgets a room that has none.
    fn next(&self, room: &OwnedRoomId) -> Vec<Job> {
        let mut queues = self.lock();
        let jobs: Vec<Job> = match queues.rooms.get_mut(room) {
            Some(waiting) => waiting.drain(..waiting.len().min(MAX_PDUS)).collect(),
            None => Vec::new(),
        };
        if jobs.is_empty() {
            queues.rooms.remove(room);
        }
        jobs
    }
}

impl Queues {
    fn leave(&mut self, origin: &OwnedServerName) {
        self.waiting = self.waiting.saturating_sub(1);
        if let Some(count) = self.origins.get_mut(origin) {
            *count -= 1;
            if *count == 0 {
                self.origins.remove(origin);
            }
        }
    }
}

/// One line for a transaction, however much of it is refused.
fn log_refused(origin: &ServerName, results: &Results, (nameless, bent): (usize, usize)) {
    if let Some(why) = results.values().find_map(|outcome| outcome.as_ref().err()) {
        tracing::info!(%origin, "{origin} sent events that are refused, one of them as: {why}");
    }
    if nameless > 0 {
        tracing::info!(%origin, nameless, "{origin} sent what are no events, or of no room that is known here");
    }
    if bent > 0 {
        tracing::info!(%origin, bent, "{origin} sent events whose content is not what was signed: it is taken away");
    }
}

/// The same for what the rules of its room forbid.
fn log_forbidden(origin: &ServerName, events: &[Arc<Checked>]) {
    if let Some(first) = events.first() {
        let (count, event, room) = (events.len(), first.id(), first.room_id());
        tracing::info!(%origin, count, %event, %room, "{origin} sent events that {room} forbids: nobody is shown them");
    }
}

fn arrived(origin: &ServerName, event: &Checked) -> ArrivedRow {
    ArrivedRow { origin: origin.to_string(), event: event.json().to_owned() }
}
