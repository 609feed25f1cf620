//! The redb database behind the store, with its journal: opening, committing, and opening both again when the
//! disk has failed.

use std::{
    fmt::Display,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Instant,
};

use redb::{Database, Durability, ReadableDatabase};

use super::{
    Caches, ReadTx, WriteTx, identity,
    journal::Journal,
    place::Place,
    record::{self, Record},
    tables,
    tx::storage,
};
use crate::{
    base::{Pos, random},
    error::{Error, Result},
};

/// How the store is opened.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes for redb's page cache.
    pub page_cache: usize,
    /// Bytes for the cache of room state.
    pub state_cache: u64,
    /// Free bytes on the disk below which writes are refused.
    pub min_free: u64,
}

pub(super) struct Engine {
    place: Box<dyn Place>,
    options: Options,
    /// None while it is opened anew, and for good once the writer has stopped.
    database: RwLock<Option<Database>>,
    /// The writer's alone. None as the database.
    journal: Mutex<Option<Journal>>,
    /// The snapshot of the last commit, once somebody has asked for it.
    present: RwLock<Present>,
    caches: Arc<Caches>,
}

/// A snapshot that readers share until the next commit.
#[derive(Default)]
struct Present {
    /// Counts commits, so that a snapshot from before one is not kept after it.
    age: u64,
    snapshot: Option<Arc<ReadTx>>,
}

impl Engine {
    pub fn open(place: Box<dyn Place>, options: Options) -> Result<Self, String> {
        let (database, journal) = open_both(&*place, options)?;
        Ok(Self {
            place,
            options,
            database: RwLock::new(Some(database)),
            journal: Mutex::new(Some(journal)),
            present: RwLock::default(),
            caches: Caches::new(options.state_cache),
        })
    }

    /// Bytes that cached layers take.
    pub fn cached_bytes(&self) -> u64 {
        self.caches.layers.weight()
    }

    /// The snapshot of the last commit: after a hundred people were woken by one, the first who looks
    /// takes it and opens its tables for all.
    pub fn snapshot(&self) -> Result<Arc<ReadTx>> {
        let age = {
            let present = self.present.read().unwrap_or_else(PoisonError::into_inner);
            match &present.snapshot {
                Some(snapshot) => return Ok(snapshot.clone()),
                None => present.age,
            }
        };
        let snapshot = {
            let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
            let redb = database.as_ref().ok_or_else(closed)?.begin_read().map_err(storage)?;
            Arc::new(ReadTx::new(redb, self.caches.clone()))
        };
        let mut present = self.present.write().unwrap_or_else(PoisonError::into_inner);
        if present.age == age {
            present.snapshot = Some(snapshot.clone());
        }
        Ok(snapshot)
    }

    /// Has the next reader take a new snapshot. To be called after each commit, before anybody hears of it.
    pub fn renew(&self) {
        let mut present = self.present.write().unwrap_or_else(PoisonError::into_inner);
        *present = Present { age: present.age + 1, snapshot: None };
    }

    pub fn begin_write(&self, committed: Pos) -> Result<WriteTx> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let redb = database.as_ref().ok_or_else(closed)?.begin_write().map_err(storage)?;
        let is_full = self.journal().as_ref().is_none_or(Journal::is_full);
        Ok(WriteTx {
            redb,
            record: if is_full { Record::default() } else { Record::kept() }.into(),
            caches: self.caches.clone(),
            committed,
            pos: committed.into(),
            dirty: false.into(),
            brought: Default::default(),
            wake: Default::default(),
        })
    }

    /// Commits, and returns once that is on disk: in the journal, or in the database where the journal is full
    /// or the record is not kept.
    pub fn commit(&self, tx: WriteTx) -> Result<()> {
        let mut journal = self.journal();
        let journal = journal.as_mut().ok_or_else(closed)?;
        match tx.record.take().into_bytes() {
            Some(record) => {
                journal.append(&record)?;
                let mut redb = tx.redb;
                redb.set_durability(Durability::None).map_err(Error::internal)?;
                redb.commit().map_err(storage)?;
            }
            None => {
                let (epoch, began) = (u64::from_le_bytes(random::bytes()), Instant::now());
                tables::COUNTERS.put(&tx, "journal", &epoch)?;
                flush(tx.redb)?;
                tracing::debug!(took = ?began.elapsed(), "the database was flushed");
                journal.begin(epoch);
            }
        }
        self.renew();
        Ok(())
    }

    /// Opens the database anew after an I/O error, which redb wants before it works again. If that
    /// fails too, the next attempt to write comes here again.
    pub fn reopen(&self) {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        let mut journal = self.journal();
        self.renew();
        (*database, *journal) = (None, None);
        // What was cached under positions of a commit that may not have come about is not to be trusted.
        self.caches.layers.clear();
        self.caches.resolved.clear();
        match open_both(&*self.place, self.options) {
            Ok((opened, its)) => (*database, *journal) = (Some(opened), Some(its)),
            Err(error) => tracing::error!(%error, "the database can't be opened"),
        }
    }

    /// Brings the database up to date by itself, without its journal, and closes both.
    pub fn close(&self) {
        self.renew();
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        let mut journal = self.journal();
        if let (Some(database), Some(journal)) = (&*database, &mut *journal)
            && let Err(error) = finish(database, journal)
        {
            tracing::error!(%error, "the database could not be finished: its newest writes are in its journal");
        }
        (*database, *journal) = (None, None);
    }

    fn journal(&self) -> MutexGuard<'_, Option<Journal>> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the disk has room for more.
    pub fn has_space(&self) -> bool {
        self.place.has_space(self.options.min_free)
    }
}

fn closed() -> Error {
    Error::unavailable("the server's storage does not answer: try again later", "the database is closed")
}

/// Commits to the file, so that it opens at once after a crash.
fn flush(mut tx: redb::WriteTransaction) -> Result<()> {
    tx.set_durability(Durability::Immediate).map_err(Error::internal)?;
    tx.set_quick_repair(true);
    tx.commit().map_err(storage)
}

/// Writes down that all is in the database, and empties the journal.
fn finish(database: &Database, journal: &mut Journal) -> Result<()> {
    flush(without_journal(database)?)?;
    journal.clear()
}

/// A transaction after which the database stands alone.
pub(super) fn without_journal(database: &Database) -> Result<redb::WriteTransaction> {
    let tx = database.begin_write().map_err(storage)?;
    tx.open_table(tables::COUNTERS.declared.definition).map_err(storage)?.remove("journal").map_err(storage)?;
    Ok(tx)
}

/// Opens a database and its journal, and does what is in the journal alone once more.
fn open_both(place: &dyn Place, options: Options) -> Result<(Database, Journal), String> {
    let database = place.database(options.page_cache)?;
    identity::check(&database).map_err(|error| format!("{place}: {error}"))?;
    let failed = |error: &dyn Display| format!("can't read the journal of {place}: {error}");
    let epoch = epoch_of(&database).map_err(|error| failed(&error))?;
    if epoch.is_some() {
        place.expect_journal()?;
    }
    let file = place.journal().map_err(|error| failed(&error))?;
    let mut journal = Journal::open(file).map_err(|error| failed(&error))?;
    if let Some(epoch) = epoch {
        replay(&database, &mut journal, epoch).map_err(|error| failed(&error))?;
    }
    Ok((database, journal))
}

fn epoch_of(database: &Database) -> Result<Option<u64>> {
    let tx = ReadTx::new(database.begin_read().map_err(storage)?, Caches::new(0));
    tables::COUNTERS.get(&tx, "journal")
}

/// Into memory: the first commit flushes it.
fn replay(database: &Database, journal: &mut Journal, epoch: u64) -> Result<()> {
    let mut tx = database.begin_write().map_err(storage)?;
    tx.set_durability(Durability::None).map_err(Error::internal)?;
    let began = Instant::now();
    let records = journal.replay(epoch, |record| record::redo(&tx, record))?;
    match records {
        0 => tx.abort().map_err(storage),
        _ => {
            tracing::info!(records, took = ?began.elapsed(), "the last stop was not a clean one: what was written last is in the journal");
            tx.commit().map_err(storage)
        }
    }
}
