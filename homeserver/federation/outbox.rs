//! Telling other servers what happened here: every acknowledged event reaches every server that is in its
//! room, in order, whenever that server can be reached; and once, but for what it took just before a crash.
//!
//! Nothing is copied for each server. Each has a cursor into the log of what is to be told
//! (`rooms/outgoing.rs`); a loop for each server that is *busy* sends what lies beyond its cursor and moves
//! the cursor when the server has answered. A server that can't be reached is a row with a time to try again.
//!
//! ```text
//!  commit → bell → dispatch: for each new entry, whom it concerns → peers → serve, a loop for each busy one
//!                                                                    ▲        │ failed: due later
//!                                             heard (it spoke to us) ┘ ◄──────┘
//! ```

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ruma::{
    OwnedServerName, ServerName,
    api::federation::transactions::{edu::Edu, send_transaction_message::v1},
    serde::Raw,
};
use tokio::{
    sync::{Notify, Semaphore, watch},
    task::JoinSet,
};

use super::{
    Bounds, Failure, Remote,
    fleeting::Fleeting,
    peers::{Peers, Turn},
    transaction::{self, Batch},
};
use crate::{
    base::{Pos, RoomNum, clock, signing::Identity},
    error::{Error, Result},
    rooms::{outgoing, outgoing::Outgoing, servers},
    store::{Flow, LAST, Read, Store, WriteTx, rows::DestinationRow, rows::ServerRow, tables},
};

/// Entries of the log that are gone through at once.
const MAX_DISPATCH: usize = 256;
/// How often it is written down how far the log was gone through, and old entries are taken away.
const UPKEEP: Duration = Duration::from_secs(10);
/// Entries, and servers that have taken something, after which that is written down earlier.
const MAX_UNWRITTEN: Pos = 2000;
const MAX_TOLD: usize = 1000;
/// Servers of which one job writes down how far they have been told.
const TOLD_BATCH: usize = 200;
/// Entries of the log at most: a server that is further behind gets the last event of each room.
const MAX_LOG: u64 = 200_000;
/// Entries that one job takes away, and jobs in one turn.
const TRIM_BATCH: usize = 1000;
const TRIM_BATCHES: usize = 50;
/// How long answers to what is on its way may take once the server is to stop.
const FINISHING: Duration = Duration::from_secs(2);
/// Servers for which it is gathered at once what they are to be told: each takes a thread meanwhile.
const GATHERERS: usize = 8;

/// The counter of how far the log was gone through: what is not known to be behind has been told all that.
const SEEN: &str = "outgoing_seen";

/// The one outbox. Clones are the same one.
#[derive(Clone)]
pub struct Outbox(Arc<Inner>);

struct Inner {
    me: Arc<Identity>,
    store: Store,
    remote: Remote,
    /// Without federation nobody is told anything, and the log is only taken away.
    enabled: bool,
    bell: Arc<Notify>,
    peers: Mutex<Peers>,
    gatherers: Semaphore,
}

impl Outbox {
    /// An outbox that looks whenever `bell` rings.
    pub fn new(me: Arc<Identity>, store: Store, remote: Remote, bell: Arc<Notify>, enabled: bool) -> Self {
        let (peers, gatherers) = (Mutex::default(), Semaphore::new(GATHERERS));
        Self(Arc::new(Inner { me, store, remote, enabled, bell, peers, gatherers }))
    }

    /// Tells others, until the server is to stop.
    pub async fn run(&self, mut stop: watch::Receiver<bool>) {
        if let Err(error) = self.load() {
            tracing::error!(%error, "can't find out what other servers are to be told");
        }
        let mut loops = JoinSet::new();
        let mut upkeep = tokio::time::interval(UPKEEP);
        upkeep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let due = self.peers().next_due().map(|due| Duration::from_millis(due.saturating_sub(clock::now_ms())));
            tokio::select! {
                () = self.0.bell.notified() => {}
                () = tokio::time::sleep(due.unwrap_or(UPKEEP)) => {}
                _ = upkeep.tick() => self.keep_up().await,
                Some(_) = loops.join_next() => {}
                () = stopped(&mut stop) => return finish(loops).await,
            }
            if self.has_much_unwritten() {
                self.keep_up().await;
            }
            // Once more for what came meanwhile: the bell remembers one ring.
            if self.dispatch().unwrap_or_else(|error| self.complain(&error)) {
                self.0.bell.notify_one();
            }
            let ready = self.peers().take_ready(clock::now_ms());
            for server in ready {
                let (outbox, stop) = (self.clone(), stop.clone());
                loops.spawn(async move { outbox.serve(server, stop).await });
            }
        }
    }

    fn has_much_unwritten(&self) -> bool {
        let peers = self.peers();
        peers.unwritten() > MAX_UNWRITTEN || peers.told_count() > MAX_TOLD
    }

    fn complain(&self, error: &Error) -> bool {
        tracing::warn!(%error, "can't read what other servers are to be told");
        false
    }

    /// A server has spoken to us: whatever kept us from reaching it may be over.
    pub fn heard(&self, server: &ServerName) {
        if self.peers().heard(server, clock::now_ms()) {
            self.0.bell.notify_one();
        }
    }

    /// Tells the other servers in a room something that is gone if it can't be told now.
    pub fn tell_room(&self, room: RoomNum, fleeting: &Fleeting) -> Result<()> {
        if !self.0.enabled {
            return Ok(());
        }
        let servers = self.0.store.read(|tx| servers::in_room(tx, room))?;
        self.tell(servers, fleeting)
    }

    /// Tells servers something that is gone if it can't be told now.
    pub fn tell(&self, servers: impl IntoIterator<Item = OwnedServerName>, fleeting: &Fleeting) -> Result<()> {
        let mut told = false;
        for server in servers.into_iter().filter(|server| *server != self.0.me.name) {
            let acked = self.row(&server)?.acked;
            told |= self.peers().tell(&server, acked, fleeting);
        }
        if told {
            self.0.bell.notify_one();
        }
        Ok(())
    }

    /// Tries a server that could not be reached now, and not when its time has come.
    pub fn try_now(&self, server: &ServerName) {
        if self.peers().try_now(server, clock::now_ms()) {
            self.0.bell.notify_one();
        }
    }

    /// How it stands with a server: how far it was told, and since when it can't be. None if there never was
    /// anything to tell it.
    pub fn destination(&self, server: &ServerName) -> Result<Option<DestinationRow>> {
        let (present, told) = {
            let peers = self.peers();
            (peers.destination(server), peers.told(server))
        };
        if present.is_some() {
            return Ok(present);
        }
        let row = self.0.store.read(|tx| tables::DESTINATIONS.get(tx, server.as_str()))?;
        Ok(match told {
            Some(acked) => Some(DestinationRow { acked, ..row.unwrap_or_default() }),
            None => row,
        })
    }

    fn peers(&self) -> MutexGuard<'_, Peers> {
        self.0.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn row(&self, server: &ServerName) -> Result<DestinationRow> {
        let row = self.0.store.read(|tx| tables::DESTINATIONS.get(tx, server.as_str()))?;
        Ok(row.unwrap_or_default())
    }

    /// Takes up what was left when the server was stopped.
    fn load(&self) -> Result<()> {
        let (seen, behind) = self.0.store.read(|tx| {
            let mut behind = Vec::new();
            tables::DESTINATIONS.scan(tx, ""..=LAST, |server, row| {
                if row.behind {
                    behind.extend(ServerName::parse(server).ok().map(|server| (server, row)));
                }
                Ok(Flow::Next)
            })?;
            Ok((tables::COUNTERS.get(tx, SEEN)?.unwrap_or(0), behind))
        })?;
        self.peers().load(seen, behind);
        self.0.bell.notify_one();
        Ok(())
    }

    /// Finds out whom new entries of the log concern. True if there are more.
    fn dispatch(&self) -> Result<bool> {
        let seen = self.peers().seen();
        let (found, upto, more) = self.0.store.read(|tx| addressees(tx, seen))?;
        if upto == seen {
            return Ok(false);
        }
        let mut known = Vec::new();
        for (server, places) in found {
            if self.0.enabled && server != self.0.me.name {
                let acked = if self.peers().knows(&server) { 0 } else { self.row(&server)?.acked };
                known.push((server, acked, places));
            }
        }
        self.peers().dispatched(upto, known);
        Ok(more)
    }

    /// Sends to one server what there is for it, until there is no more, it can't be reached, or this one is to stop.
    async fn serve(&self, server: OwnedServerName, stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            let Some(turn) = self.peers().turn(&server) else { return };
            let gathered = self.gather(&server, &turn).await;
            let outcome = match gathered {
                Ok(batch) if batch.is_empty() && turn.fleeting.is_empty() => self.pass(&server, batch).await,
                Ok(batch) => self.deliver(&server, turn, batch).await,
                Err(error) => Err(error),
            };
            match outcome {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(%server, %error, "can't go on telling {server}");
                    self.peers().failed(&server, clock::now_ms());
                    return;
                }
            }
        }
    }

    async fn gather(&self, server: &ServerName, turn: &Turn) -> Result<Batch> {
        let _place = self.0.gatherers.acquire().await.map_err(Error::internal)?;
        let (outbox, server) = (self.0.clone(), server.to_owned());
        let wanted = turn.wanted.clone();
        let gather = move || outbox.store.read(|tx| transaction::gather(tx, &outbox.me, &server, &wanted));
        tokio::task::spawn_blocking(gather).await.map_err(Error::internal)?
    }

    /// Goes past entries that were not for this server.
    async fn pass(&self, server: &ServerName, batch: Batch) -> Result<bool> {
        let marked = self.peers().passed(server, &batch);
        if let Some(row) = marked {
            self.write_row(server, row).await?;
        }
        Ok(true)
    }

    /// One transaction. True if it was taken.
    async fn deliver(&self, server: &ServerName, turn: Turn, batch: Batch) -> Result<bool> {
        // A server that failed before is not tried more often for our being restarted.
        if turn.failures > 0 {
            let row = self.peers().before_attempt(server, batch.upto, clock::now_ms());
            self.write_row(server, row).await?;
        }
        let request = self.request(&batch, turn.fleeting)?;
        match self.0.remote.call_within(Bounds::PATIENT, server, request).await {
            Ok(answer) => {
                for (event, outcome) in answer.pdus {
                    if let Err(reason) = outcome {
                        tracing::debug!(%server, %event, reason, "{server} does not take an event");
                    }
                }
                self.acknowledge(server, &batch).await?;
                Ok(true)
            }
            Err(failure) => self.failed(server, &batch, failure).await,
        }
    }

    fn request(&self, batch: &Batch, fleeting: Vec<Edu>) -> Result<v1::Request> {
        let id = if batch.is_empty() { format!("f{}", clock::tick()) } else { batch.id.clone() };
        let mut request = v1::Request::new(id.into(), self.0.me.name.clone(), clock::now());
        request.pdus.clone_from(&batch.pdus);
        request.edus.clone_from(&batch.edus);
        for edu in fleeting.into_iter().take(transaction::MAX_EDUS.saturating_sub(batch.edus.len())) {
            request.edus.push(Raw::new(&edu).map_err(Error::internal)?);
        }
        Ok(request)
    }

    /// The server has it: it will not be told again.
    async fn acknowledge(&self, server: &ServerName, batch: &Batch) -> Result<()> {
        let Some(row) = self.peers().acknowledged(server, batch) else { return Ok(()) };
        let (name, messages) = (server.to_owned(), batch.to_device);
        let write = move |tx: &WriteTx| {
            let name = name.as_str();
            if messages > 0 {
                tables::OUTGOING_TO_DEVICE.remove_range(tx, (name, 0)..=(name, messages))?;
            }
            tables::DESTINATIONS.put(tx, name, &row)
        };
        self.0.store.write(write).await
    }

    async fn failed(&self, server: &ServerName, batch: &Batch, failure: Failure) -> Result<bool> {
        let outcome = self.peers().refused(server, batch, &failure, clock::now_ms());
        let (failures, wait) = (outcome.failures, outcome.wait / 1000);
        // The first failure and the one that makes it serious; the others are the same again.
        match failures {
            1 | 4 => {
                tracing::info!(%server, %failure, failures, "can't tell {server} what happened; next try in {wait} s")
            }
            _ => {
                tracing::debug!(%server, %failure, failures, "can't tell {server} what happened; next try in {wait} s")
            }
        }
        if outcome.skipped {
            tracing::warn!(%server, %failure, "{server} refuses one thing again and again: it is left out");
            let (name, messages) = (server.to_owned(), batch.to_device);
            let drop = move |tx: &WriteTx| {
                tables::OUTGOING_TO_DEVICE.remove_range(tx, (name.as_str(), 0)..=(name.as_str(), messages))
            };
            self.0.store.write(drop).await?;
        }
        if let Some(row) = outcome.row {
            self.write_row(server, row).await?;
        }
        Ok(outcome.again)
    }

    async fn write_row(&self, server: &ServerName, row: DestinationRow) -> Result<()> {
        let server = server.to_owned();
        self.0.store.write(move |tx| tables::DESTINATIONS.put(tx, server.as_str(), &row)).await
    }

    /// Writes down how far others have been told, for the next start.
    pub async fn write_down(&self) -> Result<()> {
        loop {
            let told = self.peers().take_told(TOLD_BATCH);
            if told.is_empty() {
                return Ok(());
            }
            let write = move |tx: &WriteTx| {
                for (server, acked) in &told {
                    let row = tables::DESTINATIONS.get(tx, server.as_str())?.unwrap_or_default();
                    // It may have been told more since.
                    if row.acked < *acked {
                        let row = DestinationRow { acked: *acked, ..row };
                        tables::DESTINATIONS.put(tx, server.as_str(), &row)?;
                    }
                }
                Ok(())
            };
            self.0.store.write(write).await?;
        }
    }

    /// Writes down how far the log was gone through and others have been told, and takes away what everybody has
    /// been told.
    async fn keep_up(&self) {
        if let Err(error) = self.try_to_keep_up().await {
            tracing::debug!(%error, "can't write down what other servers have been told");
        }
    }

    async fn try_to_keep_up(&self) -> Result<()> {
        self.write_down().await?;
        let plan = self.peers().checkpoint();
        if let Some((seen, behind)) = plan {
            let write = move |tx: &WriteTx| {
                let mut written = Vec::new();
                for (server, row) in &behind {
                    // It may have been told more since.
                    let old = tables::DESTINATIONS.get(tx, server.as_str())?;
                    if old.is_none_or(|old| old.acked <= row.acked) {
                        tables::DESTINATIONS.put(tx, server.as_str(), row)?;
                        written.push(server.clone());
                    }
                }
                tables::COUNTERS.put(tx, SEEN, &seen)?;
                Ok(written)
            };
            let written = self.0.store.write(write).await?;
            self.peers().written(seen, written);
        }
        let (told, gone_through) = {
            // Locked once: two guards in one statement would wait for each other for ever.
            let peers = self.peers();
            (peers.told_everybody(), peers.seen())
        };
        for _ in 0..TRIM_BATCHES {
            let (oldest, len) = self.0.store.read(|tx| Ok((outgoing::oldest(tx)?, outgoing::len(tx)?)))?;
            let Some(oldest) = oldest else { break };
            let surplus = usize::try_from(len.saturating_sub(MAX_LOG)).unwrap_or(usize::MAX);
            let (upto, most) = match oldest > told {
                true => (gone_through, TRIM_BATCH.min(surplus)),
                false => (told, TRIM_BATCH),
            };
            if oldest > upto || most == 0 {
                break;
            }
            self.0.store.write(move |tx| outgoing::trim(tx, upto, most)).await?;
        }
        Ok(())
    }
}

/// Waits for the answers to what is on its way, so that nobody is told after the next start what they have taken.
async fn finish(mut loops: JoinSet<()>) {
    let finished = async { while loops.join_next().await.is_some() {} };
    if tokio::time::timeout(FINISHING, finished).await.is_err() {
        tracing::debug!("not everybody has answered: they are told the same again after the next start");
    }
}

/// Returns once the server is to stop.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error says that nobody is left to ask for it, which means the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// A server, and the first and the last of some entries that are for it.
type Found = BTreeMap<OwnedServerName, (Pos, Pos)>;

/// Whom the next entries of the log after a position concern, up to where that is known, and whether there
/// are more.
fn addressees(tx: &impl Read, seen: Pos) -> Result<(Found, Pos, bool)> {
    let (mut entries, mut more) = (Vec::new(), false);
    outgoing::after(tx, seen, |pos, entry| {
        more = entries.len() == MAX_DISPATCH;
        if more {
            return Ok(Flow::Stop);
        }
        entries.push((pos, entry));
        Ok(Flow::Next)
    })?;
    let upto = entries.last().map_or(seen, |(pos, _)| *pos);
    let mut found = Found::new();
    let mut rooms: HashMap<RoomNum, Vec<(OwnedServerName, ServerRow)>> = HashMap::new();
    let mut add = |server: OwnedServerName, pos: Pos| {
        let places = found.entry(server).or_insert((pos, pos));
        places.1 = pos;
    };
    for (pos, entry) in entries {
        if let Outgoing::Event { aside: Some(server), .. } = &entry {
            add(ServerName::parse(server).map_err(Error::internal)?, pos);
        }
        match entry {
            Outgoing::Event { room, .. } | Outgoing::Receipt { room, .. } => {
                let there = match rooms.entry(room) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(free) => free.insert(servers::with_stays(tx, room)?),
                };
                for (server, row) in there.iter() {
                    if row.was_there(pos) {
                        add(server.clone(), pos);
                    }
                }
            }
            Outgoing::Device { user, .. } | Outgoing::SigningKeys { user } => {
                let user = <&ruma::UserId>::try_from(user.as_str()).map_err(Error::internal)?;
                servers::sharing_with(tx, user)?.into_iter().for_each(|server| add(server, pos));
            }
            Outgoing::ToDevice { server } => add(ServerName::parse(server).map_err(Error::internal)?, pos),
        }
    }
    Ok((found, upto, more))
}
