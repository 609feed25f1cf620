//! The redb database behind the store: opening, checking whose file it is, and opening it again when
//! the disk has failed.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use redb::{Database, Durability, ReadableDatabase, TableHandle};

use super::{Caches, ReadTx, WriteTx, tables, tx::storage};
use crate::{
    base::{Pos, disk},
    error::{Error, Result},
};

/// What the file says it is. A change of tables that an old binary can't read takes the next number.
pub(super) const SCHEMA: u64 = 3;
const LINEAGE: &str = "hearth";

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
    path: PathBuf,
    options: Options,
    /// None while it is opened anew, and for good once the writer has stopped.
    database: RwLock<Option<Database>>,
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
    pub fn open(path: &Path, options: Options) -> Result<Self, String> {
        let database = open_database(path, options)?;
        Ok(Self {
            path: path.to_owned(),
            options,
            database: RwLock::new(Some(database)),
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
        let mut redb = database.as_ref().ok_or_else(closed)?.begin_write().map_err(storage)?;
        redb.set_durability(Durability::Immediate).map_err(Error::internal)?;
        redb.set_quick_repair(true);
        Ok(WriteTx {
            redb,
            caches: self.caches.clone(),
            committed,
            pos: committed.into(),
            dirty: false.into(),
            brought: Default::default(),
            wake: Default::default(),
        })
    }

    /// Opens the database anew after an I/O error, which redb wants before it works again. If that
    /// fails too, the next attempt to write comes here again.
    pub fn reopen(&self) {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        self.renew();
        *database = None;
        // What was cached under positions of a commit that may not have come about is not to be trusted.
        self.caches.layers.clear();
        self.caches.resolved.clear();
        match open_database(&self.path, self.options) {
            Ok(opened) => *database = Some(opened),
            Err(error) => tracing::error!(%error, "the database can't be opened"),
        }
    }

    pub fn close(&self) {
        self.renew();
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether the disk has room for more.
    pub fn has_space(&self) -> bool {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        disk::has_space(folder, self.options.min_free)
    }
}

fn closed() -> Error {
    Error::unavailable("the server's storage does not answer: try again later", "the database is closed")
}

fn open_database(path: &Path, options: Options) -> Result<Database, String> {
    make_private(path);
    let database =
        redb::Builder::new().set_cache_size(options.page_cache).create(path).map_err(|error| explain(path, &error))?;
    check_identity(&database).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(database)
}

/// Makes the file, if it isn't there, for its owner alone, whatever the folder allows. If that fails, so
/// does opening it, which says why.
pub(super) fn make_private(path: &Path) {
    let mut options = std::fs::OpenOptions::new();
    options.append(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    drop(options.open(path));
}

fn explain(path: &Path, error: &redb::DatabaseError) -> String {
    let path = path.display();
    match error {
        redb::DatabaseError::DatabaseAlreadyOpen => {
            format!("{path} is in use: is another hearth running with this data directory? Stop it first")
        }
        redb::DatabaseError::UpgradeRequired(version) => {
            format!("{path} has the file format {version}, which this hearth can't read: use the hearth that wrote it")
        }
        error => format!("can't open {path}: {error}"),
    }
}

/// Refuses a file that something else or a newer Hearth wrote, before anything is written to it.
fn check_identity(database: &Database) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let tx = database.begin_read().map_err(|error| text(&error))?;
    let empty = tx.list_tables().map_err(|error| text(&error))?.next().is_none();
    if empty {
        return create(database).map_err(|error| text(&error));
    }
    let foreign = "this database was not made by Hearth; set data_dir to another directory";
    let complete = has_all_tables(&tx).map_err(|error| text(&error))?;
    let tx = ReadTx::new(tx, Caches::new(0));
    let lineage = tables::IDENTITY.get(&tx, "lineage").ok().flatten();
    if lineage.as_deref() != Some(LINEAGE) {
        return Err(foreign.to_owned());
    }
    match tables::COUNTERS.get(&tx, "schema").ok().flatten() {
        Some(SCHEMA) if complete => Ok(()),
        // What else has changed since is done by whoever knows what rows mean: see `Store::upgrade`.
        Some(known) if known > 0 && known <= SCHEMA => add_tables(database).map_err(|error| text(&error)),
        Some(newer) if newer > SCHEMA => Err(format!(
            "this database has schema {newer} and this hearth knows schemas up to {SCHEMA}: start a newer hearth, or restore a backup"
        )),
        _ => Err(foreign.to_owned()),
    }
}

fn has_all_tables(tx: &redb::ReadTransaction) -> Result<bool, redb::StorageError> {
    let there: HashSet<String> = tx.list_tables()?.map(|table| table.name().to_owned()).collect();
    Ok(!tables::lacks_one(|name| there.contains(name)))
}

/// Makes the tables that have come since the file was made.
fn add_tables(database: &Database) -> Result<()> {
    let redb = database.begin_write().map_err(storage)?;
    tables::create_all(&redb).map_err(storage)?;
    redb.commit().map_err(storage)
}

fn create(database: &Database) -> Result<()> {
    let redb = database.begin_write().map_err(storage)?;
    tables::create_all(&redb).map_err(storage)?;
    let tx = WriteTx {
        redb,
        caches: Caches::new(0),
        committed: 0,
        pos: 0.into(),
        dirty: false.into(),
        brought: Default::default(),
        wake: Default::default(),
    };
    tables::IDENTITY.put(&tx, "lineage", &LINEAGE.to_owned())?;
    tables::COUNTERS.put(&tx, "schema", &SCHEMA)?;
    tables::COUNTERS.put(&tx, "pos", &0)?;
    tx.redb.commit().map_err(storage)
}
