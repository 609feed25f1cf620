//! What other servers know of rooms that this one is not in: asked for when somebody walks through a space
//! or wants to know what a room is, a few servers for each room, kept for a while.
//! spec: client-server-api#get_matrixclientv1roomsroomidhierarchy (server behaviour)

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use quick_cache::{Weighter, sync};
use ruma::{OwnedRoomId, OwnedServerName, RoomId, UserId, api::federation::space::get_hierarchy::v1 as get_hierarchy};
use serde_json::{Map, Value};
use tokio::{task::JoinSet, time::timeout_at};

use super::{Bounds, Federation, Remote};
use crate::{
    base::{Pos, clock},
    error::{Error, Result},
    rooms::{
        Room, doorstep,
        event::Pdu,
        hearsay,
        hearsay::Told,
        hierarchy::{self, Elsewhere, Page, Walk},
        members,
    },
    store::{Read, ReadTx},
};

/// What one server may take to answer, and in how many bytes.
const BOUNDS: Bounds = Bounds { time: Duration::from_secs(10), size: 1 << 20 };
/// How long one page waits for all that it lacks.
const TIME: Duration = Duration::from_secs(20);
/// Rooms that are asked about for one page.
const MAX_ROOMS: usize = 150;
/// Servers that are asked about one room.
const MAX_SERVERS: usize = 3;
/// Questions under way at once for one page.
const WIDTH: usize = 8;
/// How long an answer is good, and how long it is remembered that there was none.
const KEPT: Duration = Duration::from_secs(300);
const KEPT_NOTHING: Duration = Duration::from_secs(60);
/// How long an answer is good that keeps something back, if whoever wanted it has just been let in somewhere, so
/// that the other server may not have heard of it; and how long that is so.
const KEPT_EARLY: Duration = Duration::from_secs(3);
const EARLY: Duration = Duration::from_secs(60);
/// Answers that are kept, by their text, and rooms whose servers are remembered.
const CACHE: u64 = 8 << 20;
const MAX_PATHS: usize = 10_000;

/// What servers said, and which ones may know a room that somebody saw in a space.
///
/// Answers are kept by who gave them: what a server says of a room that it is not in is believed only
/// where that server is named for it.
pub struct Spaces {
    answers: sync::Cache<(OwnedRoomId, OwnedServerName), Kept, Weight>,
    paths: sync::Cache<OwnedRoomId, Vec<OwnedServerName>>,
}

#[derive(Clone)]
struct Kept {
    at: Instant,
    /// How far things were here when it was asked for.
    pos: Pos,
    good_for: Duration,
    size: usize,
    told: Option<Arc<Told>>,
}

impl Kept {
    fn new(asker: &Asker, told: Option<Arc<Told>>, size: usize) -> Self {
        let good_for = match &told {
            _ if asker.is_early && keeps_back(told.as_ref()) => KEPT_EARLY,
            Some(_) => KEPT,
            None => KEPT_NOTHING,
        };
        Self { at: Instant::now(), pos: asker.now, good_for, size, told }
    }

    /// Whether it is what somebody would be told who asked now. What was kept back may be theirs to see once
    /// they have come in somewhere, or were invited.
    fn is_good_for(&self, asker: &Asker) -> bool {
        let is_outdated = keeps_back(self.told.as_ref()) && self.pos < asker.changed;
        self.at.elapsed() < self.good_for && !is_outdated && (self.told.is_some() || !asker.again)
    }
}

fn keeps_back(told: Option<&Arc<Told>>) -> bool {
    told.is_none_or(|told| told.keeps_back())
}

/// For whom servers are asked.
#[derive(Clone, Copy)]
struct Asker {
    /// The position of the present, and of what their memberships are since.
    now: Pos,
    changed: Pos,
    /// Other servers may not know of that.
    is_early: bool,
    /// Those that said nothing are asked again.
    again: bool,
}

impl Asker {
    fn of(tx: &ReadTx, user: &UserId) -> Result<Self> {
        let newest = members::newest_abroad(tx, user)?;
        let since = match &newest {
            Some(row) => u64::from(Pdu::at(tx, row.event)?.origin_server_ts.get()),
            None => 0,
        };
        let age = Duration::from_millis(clock::now_ms().saturating_sub(since));
        let changed = newest.map_or(0, |row| row.since());
        Ok(Self { now: tx.pos()?, changed, is_early: age < EARLY, again: false })
    }
}

#[derive(Clone)]
struct Weight;

impl Weighter<(OwnedRoomId, OwnedServerName), Kept> for Weight {
    fn weight(&self, _: &(OwnedRoomId, OwnedServerName), kept: &Kept) -> u64 {
        // Parsed it takes about thrice the room.
        (500 + 3 * kept.size) as u64
    }
}

impl Default for Spaces {
    fn default() -> Self {
        Self { answers: sync::Cache::with_weighter(1000, CACHE, Weight), paths: sync::Cache::new(MAX_PATHS) }
    }
}

impl Spaces {
    /// What the first of some servers that knows the room says of it.
    async fn ask(&self, remote: &Remote, room: &RoomId, via: &[OwnedServerName], asker: Asker) -> Option<Arc<Told>> {
        for server in via.iter().take(MAX_SERVERS) {
            let key = (room.to_owned(), server.clone());
            let kept = self.answers.get(&key).filter(|kept| kept.is_good_for(&asker));
            let told = match kept {
                Some(kept) => kept.told,
                None => {
                    let (told, size) = asked(remote, room, server).await;
                    self.answers.insert(key, Kept::new(&asker, told.clone(), size));
                    told
                }
            };
            if told.is_some() {
                return told;
            }
        }
        None
    }
}

async fn asked(remote: &Remote, room: &RoomId, server: &OwnedServerName) -> (Option<Arc<Told>>, usize) {
    let request = get_hierarchy::Request::new(room.to_owned());
    let answer = match remote.stream(BOUNDS, server, request).await {
        Ok(incoming) => incoming.body().await,
        Err(failure) => Err(failure),
    };
    match answer {
        Ok(body) => (Told::parse(&body, room, server).map(Arc::new), body.len()),
        Err(failure) => {
            tracing::debug!(%server, %room, %failure, "{server} says nothing of {room}");
            (None, 0)
        }
    }
}

impl Federation {
    /// One page of a walk through a space.
    pub async fn walk(self: &Arc<Self>, mut walk: Walk) -> Result<Page> {
        walk.root.1 = self.servers_near(&walk.root.0, &walk.user)?;
        let asker = self.store.read(|tx| Asker::of(tx, &walk.user))?;
        let (walk, mut elsewhere) = (Arc::new(walk), Elsewhere::new());
        let until = tokio::time::Instant::now() + TIME;
        loop {
            let (this, walking, known) = (self.clone(), walk.clone(), elsewhere);
            let looking = move || {
                let page = this.store.read(|tx| hierarchy::page(tx, &this.me, &walking, &known));
                (page, known)
            };
            let (page, known) = tokio::task::spawn_blocking(looking).await.map_err(Error::internal)?;
            let mut page = page?;
            elsewhere = known;
            page.lacking.truncate(MAX_ROOMS.saturating_sub(elsewhere.len()));
            if page.lacking.is_empty() || tokio::time::Instant::now() >= until {
                return match page.rooms.is_empty() && walk.from.is_none() {
                    true => Err(Error::forbidden("there is no such room, or it is not yours to see")),
                    false => Ok(page),
                };
            }
            self.gather((page.lacking, asker), &mut elsewhere, until).await;
        }
    }

    /// Asks about rooms, a few at a time, for as long as there is time.
    async fn gather(
        self: &Arc<Self>,
        (lacking, asker): (Vec<(OwnedRoomId, Vec<OwnedServerName>)>, Asker),
        elsewhere: &mut Elsewhere,
        until: tokio::time::Instant,
    ) {
        let mut asking = JoinSet::new();
        let mut lacking = lacking.into_iter();
        loop {
            while asking.len() < WIDTH
                && let Some((room, mut via)) = lacking.next()
            {
                // In vain, unless it turns out otherwise.
                elsewhere.insert(room.clone(), None);
                via.retain(|server| *server != self.me.name);
                if !via.is_empty() {
                    self.spaces.paths.insert(room.clone(), via.clone());
                    let this = self.clone();
                    asking.spawn(async move {
                        let told = this.spaces.ask(&this.remote, &room, &via, asker).await;
                        (room, told)
                    });
                }
            }
            match timeout_at(until, asking.join_next()).await {
                Ok(Some(Ok((room, told)))) => _ = elsewhere.insert(room, told),
                // One that failed has its entry already.
                Ok(Some(Err(_))) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// What a room that this server is not in says of itself to somebody of ours, as servers that may know it
    /// tell. 404 if none does, or it is not theirs to see.
    pub async fn summary(&self, room: &RoomId, via: &[OwnedServerName], user: &UserId) -> Result<Map<String, Value>> {
        let mut servers: Vec<OwnedServerName> = via.iter().take(MAX_SERVERS).cloned().collect();
        servers.extend(self.servers_near(room, user)?);
        servers.retain(|server| *server != self.me.name);
        let hidden = || Error::not_found("there is no such room, or it is not yours to see");
        // Those that said nothing are asked again: somebody may have been invited since, and ask for this alone.
        let asker = Asker { again: true, ..self.store.read(|tx| Asker::of(tx, user))? };
        let told = self.spaces.ask(&self.remote, room, &servers, asker).await.ok_or_else(hidden)?;
        match self.store.read(|tx| hearsay::may_see(tx, room, &told.summary, user))? {
            true => Ok(told.summary.clone()),
            false => Err(hidden()),
        }
    }

    /// Servers that may know a room at whose door somebody stands, or that somebody saw in a space.
    fn servers_near(&self, room: &RoomId, user: &UserId) -> Result<Vec<OwnedServerName>> {
        let mut out = self.store.read(|tx| {
            let Some(room) = Room::known(tx, room)? else { return Ok(Vec::new()) };
            match doorstep::standing(tx, &self.me, &room, user)? {
                Some((_, from)) => doorstep::servers_behind(tx, &room, user, &from),
                None => Ok(Vec::new()),
            }
        })?;
        out.extend(self.spaces.paths.get(room).unwrap_or_default());
        out.retain(|server| *server != self.me.name);
        Ok(out)
    }
}
