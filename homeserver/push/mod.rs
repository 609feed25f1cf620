//! Telling people what happens while none of their clients looks: every event that somebody's rules notify
//! them of reaches each of their pushers, in order and at least once, whenever its gateway can be reached.
//!
//! A follower looks at what was committed, and only at rooms in which somebody with a pusher is. What waits for
//! a pusher is kept in memory alone; on disk is how far it has been told, from which the rest follows.
//!
//! ```text
//!  commit → news → look: who is notified (judge) → queues (desk) → serve, one at a time for each busy pusher
//!                                                     ▲                │ failed: due later
//!                                                     └────────────────┘
//! ```

mod desk;
mod gateway;
mod judge;
mod notice;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ruma::UserId;
use serde_json::Value;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
};

use self::{
    desk::{Desk, Failed, Key, Turn, Work},
    gateway::{Answer, Gateways},
    judge::{Found, Hall, Judge},
};
use crate::{
    accounts::pushers,
    base::{RoomNum, clock},
    error::{Error, Result},
    notify::{News, Notifier},
    outside::Client,
    rooms::{
        Room, members,
        timeline::order_of,
        unread::{self, Reader, Unread},
    },
    store::{
        Read, ReadTx, Store,
        rows::{Outcome, PushedRow, UnreadRow},
    },
};

pub use gateway::host;

/// How soon it is written down what pushers were told, and how often up to where all was looked at.
const WRITE: Duration = Duration::from_secs(1);
const WRITE_SEEN: Duration = Duration::from_secs(10);
/// Pushers that are written down in one job.
const BATCH: usize = 500;
/// Messages that are put together at once at most: counting what somebody has unread can take a moment.
const READERS: usize = 4;
/// How soon something is tried again that the database did not let be done, milliseconds.
const AGAIN: u64 = 60_000;

/// The one place from which everybody is told. Clones are the same one.
#[derive(Clone)]
pub struct Push(Arc<Inner>);

struct Inner {
    store: Store,
    notifier: Notifier,
    judge: Judge,
    gateways: Gateways,
    desk: Mutex<Desk>,
    readers: Semaphore,
    /// Held by who writes down: what is newer is to be written later.
    writing: tokio::sync::Mutex<()>,
}

/// Something to be told, ready to be sent.
struct Message {
    body: Value,
    /// The event that it is about.
    event: Option<String>,
    /// The count that is told.
    badge: Option<u64>,
}

impl Push {
    /// Calls gateways by `client`, and remembers what people want to hear of in at most `memory` bytes.
    pub fn new(store: Store, notifier: Notifier, unread: Arc<Unread>, client: Client, memory: u64) -> Self {
        let (judge, gateways) = (Judge::new(unread, memory), Gateways::new(client));
        let (readers, writing) = (Semaphore::new(READERS), Default::default());
        Self(Arc::new(Inner { store, notifier, judge, gateways, desk: Mutex::default(), readers, writing }))
    }

    /// Says why a URL can't be that of a gateway.
    pub fn check_url(&self, url: &str) -> Result<(), String> {
        self.0.gateways.check(url)
    }

    /// Tells people what happens, until the server is to stop.
    pub async fn run(&self, mut stop: watch::Receiver<bool>) {
        let bell = self.0.notifier.news_bell();
        let mut loops = JoinSet::new();
        let mut loaded = false;
        let (mut written, mut seen_written) = (tokio::time::Instant::now(), tokio::time::Instant::now());
        loop {
            if !loaded {
                loaded = self.blocking(Self::load).await.is_some();
            }
            let now = clock::now_ms();
            let ready = self.desk().take_ready(now);
            for key in ready {
                let push = self.clone();
                loops.spawn(async move { push.serve(key).await });
            }
            let (due, changed, unseen) = {
                let desk = self.desk();
                (desk.next_due(), desk.is_changed(), desk.seen != desk.written)
            };
            let due = due.map(|due| Duration::from_millis(due.saturating_sub(now)));
            let next = if changed { Some(written + WRITE) } else { unseen.then_some(seen_written + WRITE_SEEN) };
            tokio::select! {
                () = bell.notified() => {
                    let news = self.0.notifier.news();
                    let anew = news.wake.anew;
                    if anew || self.blocking(move |push| push.look(&news)).await.is_none() {
                        // What is known may not be so, or something is not known.
                        self.desk().clear();
                        self.0.judge.forget_all();
                        loaded = false;
                    }
                }
                () = after(due) => {}
                () = at(next) => {
                    self.keep_up().await;
                    (written, seen_written) = (tokio::time::Instant::now(), tokio::time::Instant::now());
                }
                Some(_) = loops.join_next() => {}
                () = stopped(&mut stop) => return,
            }
        }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.0.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs what reads much where it keeps nobody waiting. None if it failed, which is logged.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Self) -> Result<T> + Send + 'static) -> Option<T> {
        let push = self.clone();
        let outcome = tokio::task::spawn_blocking(move || work(&push)).await.map_err(Error::internal);
        match outcome.and_then(|outcome| outcome) {
            Ok(done) => Some(done),
            Err(error) => {
                tracing::warn!(%error, "can't find out whom to notify");
                // It may be the disk; there is no use in asking at once again.
                tokio::time::sleep(WRITE).await;
                None
            }
        }
    }

    /// Finds everybody who has a pusher, and what happened since they were told last.
    fn load(&self) -> Result<()> {
        let owners = self.0.store.read(pushers::owners)?;
        if !owners.is_empty() {
            self.0.notifier.want_news();
        }
        // What happens after this snapshot is in the news; and so is who sets a pusher from now on.
        self.0.store.read(|tx| {
            let now = tx.pos()?;
            let seen = pushers::seen(tx)?.min(now);
            {
                let mut desk = self.desk();
                desk.seen = seen;
                desk.written = seen;
            }
            for user in &owners {
                self.reload(tx, user)?;
            }
            let mut latest = HashMap::new();
            for user in owners {
                let from = self.desk().from(&user);
                let Some(from) = from else { continue };
                let found = self.0.judge.catch_up(tx, &user, (from, now), &mut latest)?;
                self.hand_out(found);
            }
            self.desk().seen = now;
            Ok(())
        })
    }

    /// Takes somebody's pushers as they are.
    fn reload(&self, tx: &ReadTx, user: &UserId) -> Result<()> {
        let mut rows = Vec::new();
        for (id, row) in pushers::of(tx, user)? {
            let state = pushers::state(tx, user, &id)?;
            rows.push((id, row, state));
        }
        let knows = self.desk().knows(user);
        let rooms = if knows { Vec::new() } else { members::joined_rooms(tx, user)? };
        self.desk().set(user, rows, &rooms);
        Ok(())
    }

    /// Looks at what happened.
    fn look(&self, news: &News) -> Result<()> {
        for user in &news.wake.users {
            self.0.judge.forget(user);
        }
        self.0.store.read(|tx| {
            for user in &news.wake.pushers {
                self.reload(tx, user)?;
            }
            let span = {
                let mut desk = self.desk();
                for ((user, room), is_in) in &news.wake.members {
                    desk.place(user, *room, *is_in);
                }
                (desk.seen, news.upto)
            };
            if span.1 <= span.0 {
                return Ok(());
            }
            let halls: Vec<Hall> = {
                let desk = self.desk();
                let halls = news.wake.rooms.iter().map(|room| (*room, desk.audience(*room)));
                halls.filter(|(_, people)| !people.is_empty()).collect()
            };
            let mut found = Found::default();
            for hall in &halls {
                self.0.judge.look_or_log(tx, hall, span, &mut found);
            }
            for (user, room) in &news.wake.invited {
                let knows = self.desk().knows(user);
                if knows {
                    self.0.judge.look_at_invite(tx, (user, *room), span, &mut found)?;
                }
            }
            found.notices.sort_by_key(|(_, notice)| notice.order);
            self.hand_out(found);
            self.desk().seen = span.1;
            Ok(())
        })
    }

    fn hand_out(&self, found: Found) {
        let mut desk = self.desk();
        for (user, notice) in &found.notices {
            desk.add(user, notice, clock::now_ms());
        }
        for (user, room) in &found.touched {
            desk.touch(user, *room);
        }
        for room in found.recount {
            desk.recount(room);
        }
    }

    /// Tells one pusher what there is for it, until there is no more or its gateway can't be reached.
    async fn serve(&self, key: Key) {
        loop {
            let Some(turn) = self.desk().turn(&key, clock::now_ms()) else { return };
            let Some(places) = self.0.gateways.enter(&turn.row.url).await else { return };
            let reader = self.0.readers.acquire().await;
            let (push, number) = (self.clone(), key.0);
            let writing =
                tokio::task::spawn_blocking(move || push.message(number, &turn).map(|message| (turn, message)));
            let written = writing.await.map_err(Error::internal).and_then(|written| written);
            drop(reader);
            match written {
                Ok((turn, None)) => self.desk().taken(&key, &turn.work, None),
                Ok((turn, Some(message))) => {
                    if !self.deliver(&key, &turn, message).await {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "can't find out what to tell a pusher");
                    let failed = Failed { now: clock::now_ms(), entry: None, refused: false, wait: Some(AGAIN) };
                    self.desk().failed(&key, &Work::Badge, failed);
                    return;
                }
            }
            drop(places);
        }
    }

    /// What a pusher is to be told. None if that is nothing any more.
    fn message(&self, number: u32, turn: &Turn) -> Result<Option<Message>> {
        let (user, row) = (&turn.user, &turn.row);
        let outcome = self.0.store.read(|tx| {
            let told = match &turn.work {
                Work::Notice(notice) => match notice::find(tx, &self.0.judge, user, notice)? {
                    Some(told) => Some((notice, told)),
                    None => return Ok(None),
                },
                Work::Badge if !notice::wants_badge(row) || !notice::may_be_told(tx, user)? => return Ok(None),
                Work::Badge => None,
            };
            let badge = if notice::wants_badge(row) { Some(self.count(tx, number, user)?) } else { None };
            Ok(Some(match told {
                Some((notice, told)) => {
                    let body = notice::of_event(tx, (user, row), notice, &told, badge)?;
                    Message { body, event: Some(told.id), badge }
                }
                None => match badge.filter(|badge| turn.badge.unwrap_or(0) != *badge) {
                    Some(badge) => Message { body: notice::of_badge(row, badge), event: None, badge: Some(badge) },
                    None => return Ok(None),
                },
            }))
        });
        if outcome.is_err() {
            self.desk().miscounted(number);
        }
        outcome
    }

    /// How much somebody has unread in all their rooms.
    fn count(&self, tx: &ReadTx, number: u32, user: &UserId) -> Result<u64> {
        let stale = self.desk().uncounted(number);
        let rooms: Vec<RoomNum> = match stale {
            Some(stale) => stale.into_iter().collect(),
            None => members::joined_rooms(tx, user)?,
        };
        let wishes = self.0.judge.wishes(tx, user)?;
        let reader = Reader::new(user, &wishes.rules, &wishes.ignored);
        let now = order_of(tx.pos()?);
        let mut counts = Vec::new();
        for num in rooms {
            let count = match members::is_joined(tx, num, user)? {
                true => self.0.judge.unread.counts(tx, &Room::at(tx, num)?, &reader, now)?,
                false => Default::default(),
            };
            counts.push((num, count.total().notify as u64));
            if let Some(row) = count.to_save {
                self.save(user, num, row);
            }
        }
        Ok(self.desk().counted(number, counts))
    }

    /// Has written down how far unread counts have come. If that fails, they are found out again.
    fn save(&self, user: &UserId, room: RoomNum, row: UnreadRow) {
        let (store, user) = (self.0.store.clone(), user.to_owned());
        tokio::runtime::Handle::current().spawn(async move {
            if let Err(error) = store.write(move |tx| unread::save(tx, &user, room, &row)).await {
                tracing::debug!(%error, "can't write down unread counts");
            }
        });
    }

    /// Tells a pusher something. False if that has to be tried again later, or there is no such pusher any more.
    async fn deliver(&self, key: &Key, turn: &Turn, message: Message) -> bool {
        let at = clock::now_ms();
        let answer = self.0.gateways.tell(&turn.row.url, &message.body).await;
        let now = clock::now_ms();
        let entry = |outcome, status, error| PushedRow {
            at,
            took: now.saturating_sub(at),
            outcome,
            status,
            error,
            event: message.event.clone(),
        };
        match answer {
            Answer::Taken { rejected, .. } if rejected.contains(&turn.row.pushkey) => {
                let (user, app, gateway) = (&turn.user, &turn.row.app_id, host(&turn.row.url));
                tracing::info!(%user, app, gateway, "a push gateway knows a device of {user} no more: its pusher goes");
                let (user, id) = (user.to_owned(), key.1.clone());
                let removed = self.0.store.write(move |tx| pushers::remove(tx, &user, &id)).await;
                if let Err(error) = removed {
                    let error = Some(format!("can't be removed: {}", error.message()));
                    let entry = entry(Outcome::Rejected, Some(200), error);
                    let failed = Failed { now, entry: Some(entry), refused: false, wait: Some(AGAIN) };
                    self.desk().failed(key, &turn.work, failed);
                }
                false
            }
            Answer::Taken { status, .. } => {
                let entry = entry(Outcome::Delivered, Some(status), None);
                self.desk().taken(key, &turn.work, Some((message.badge, entry)));
                true
            }
            Answer::Failed { status, error, refused, wait } => {
                let entry = entry(Outcome::Failed, status, Some(error));
                self.desk().failed(key, &turn.work, Failed { now, entry: Some(entry), refused, wait });
                false
            }
        }
    }

    async fn keep_up(&self) {
        if let Err(error) = self.write_down().await {
            tracing::debug!(%error, "can't write down what pushers were told");
        }
    }

    /// Writes down what pushers were told, and up to where all was looked at.
    pub async fn write_down(&self) -> Result<()> {
        let _writing = self.0.writing.lock().await;
        let (seen, changes) = {
            let mut desk = self.desk();
            let seen = Some(desk.seen).filter(|seen| *seen != desk.written);
            desk.written = desk.seen;
            (seen, desk.changes())
        };
        // The pushers first: who is told less than `seen` says so itself.
        let mut rest = &changes[..];
        while !rest.is_empty() {
            let (batch, after) = rest.split_at(rest.len().min(BATCH));
            let noted = batch.to_vec();
            if let Err(error) = self.0.store.write(move |tx| pushers::note(tx, &noted)).await {
                self.desk().not_written(rest.to_vec());
                return Err(error);
            }
            rest = after;
        }
        if let Some(seen) = seen {
            self.0.store.write(move |tx| pushers::set_seen(tx, seen)).await?;
        }
        Ok(())
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error says that nobody is left to ask for it, which means the same.
    _ = stop.wait_for(|stop| *stop).await;
}

/// Waits so long, or for ever.
async fn after(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

/// Waits until a moment, or for ever.
async fn at(moment: Option<tokio::time::Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
