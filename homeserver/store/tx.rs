//! Transactions: what can be read through both kinds, and what only the writer can do.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
};

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata, Table, WriteTransaction};
use ruma::OwnedUserId;

use super::{
    Caches,
    record::Record,
    rows::Layer,
    table::{Bytes, Declared, Kept, TableKey},
    tables,
};
use crate::{
    base::{Pos, RoomNum},
    error::{Error, Result},
};

/// A consistent view of the store: [`ReadTx`], a snapshot, or [`WriteTx`], which sees its own writes.
pub trait Read {
    #[doc(hidden)]
    type Opened<'t, K: TableKey>: ReadableTable<K, Bytes> + ReadableTableMetadata
    where
        Self: 't;

    #[doc(hidden)]
    fn open<K: TableKey>(&self, table: &Declared<K>) -> Result<Self::Opened<'_, K>>;

    /// The newest position that this view holds.
    fn pos(&self) -> Result<Pos>;

    /// A layer of room state, from the shared cache if it is there.
    fn layer(&self, id: u64) -> Result<Arc<Layer>>;

    /// What some states were resolved to, if that is remembered.
    fn resolved(&self, key: &[u8; 32]) -> Option<Changes>;

    /// Remembers what some states were resolved to, of which `newest` is the newest: not if that may yet
    /// be undone.
    fn note_resolved(&self, key: [u8; 32], newest: u64, changes: Changes);
}

/// What is different between two states: key number to position.
pub type Changes = Arc<BTreeMap<u64, Pos>>;

/// A snapshot. Many readers share one: it is that of the last commit.
pub struct ReadTx {
    redb: ReadTransaction,
    caches: Arc<Caches>,
    /// The tables that somebody has used, by number: opening one costs as much as a look into it.
    tables: [OnceLock<Box<dyn Any + Send + Sync>>; tables::COUNT],
}

impl ReadTx {
    pub(super) fn new(redb: ReadTransaction, caches: Arc<Caches>) -> Self {
        Self { redb, caches, tables: [const { OnceLock::new() }; tables::COUNT] }
    }

    pub(super) fn redb(&self) -> &ReadTransaction {
        &self.redb
    }
}

/// The one write transaction there is at a time. Several jobs share it; see `writer.rs`.
pub struct WriteTx {
    pub(super) redb: WriteTransaction,
    pub(super) caches: Arc<Caches>,
    /// The last position of the last commit: rows up to it can't be undone, so they may be cached.
    pub(super) committed: Pos,
    pub(super) pos: Cell<Pos>,
    /// What it has changed, for the journal.
    pub(super) record: RefCell<Record>,
    /// Whether the running job has written: if it then fails, its batch is done again without it.
    pub(super) dirty: Cell<bool>,
    pub(super) wake: RefCell<Wake>,
    /// What was brought along for the running job.
    pub(super) brought: RefCell<Brought>,
}

/// What whoever asks for a job brings along for rules deep within it: events that were made before by the
/// same job, when it failed for want of a signature, and have been signed since.
#[derive(Clone, Default, Debug)]
pub struct Brought {
    /// The events, as JSON.
    pub events: Vec<Arc<str>>,
    /// Whether it goes without the signatures.
    pub unasked: bool,
}

/// Whom a commit concerns. Waiters are told only that something happened and up to where.
#[derive(Default, Debug, PartialEq, Eq)]
pub struct Wake {
    /// Rooms in which something happened that everybody in them may see.
    pub rooms: BTreeSet<RoomNum>,
    /// Rooms in which something happened that only some of `users` may see.
    pub touched: BTreeSet<RoomNum>,
    /// People for whom something happened outside rooms: account data, to-device, invitations.
    pub users: BTreeSet<OwnedUserId>,
    /// People who came into (true) or went out of (false) a room.
    pub members: BTreeMap<(OwnedUserId, RoomNum), bool>,
    /// People who were invited to a room.
    pub invited: BTreeSet<(OwnedUserId, RoomNum)>,
    /// People whose pushers changed.
    pub pushers: BTreeSet<OwnedUserId>,
    /// People whose sessions ended.
    pub signed_out: BTreeSet<OwnedUserId>,
    /// The store was opened anew: any room and anybody's data may be other than was told.
    pub anew: bool,
    /// People whose devices or keys changed: all who share a room with them want to know.
    pub devices: BTreeSet<OwnedUserId>,
    /// There is something new to tell other servers.
    pub outgoing: bool,
}

impl Wake {
    /// Adds what another commit concerns.
    pub fn absorb(&mut self, other: Self) {
        self.rooms.extend(other.rooms);
        self.touched.extend(other.touched);
        self.users.extend(other.users);
        self.members.extend(other.members);
        self.invited.extend(other.invited);
        self.pushers.extend(other.pushers);
        self.signed_out.extend(other.signed_out);
        self.anew |= other.anew;
        self.devices.extend(other.devices);
        self.outgoing |= other.outgoing;
    }
}

impl Read for ReadTx {
    type Opened<'t, K: TableKey> = Kept<'t, K>;

    fn open<K: TableKey>(&self, table: &Declared<K>) -> Result<Kept<'_, K>> {
        let place = &self.tables[table.number];
        if place.get().is_none() {
            // Somebody else may have opened it meanwhile: then this one is dropped.
            let _ = place.set(Box::new(self.redb.open_table(table.definition).map_err(storage)?));
        }
        let kept = place.get().and_then(|table| table.downcast_ref()).map(Kept);
        kept.ok_or_else(|| Error::internal("two tables have one number"))
    }

    fn pos(&self) -> Result<Pos> {
        Ok(tables::COUNTERS.get(self, "pos")?.unwrap_or(0))
    }

    fn layer(&self, id: u64) -> Result<Arc<Layer>> {
        cached_layer(self, &self.caches, id)
    }

    fn resolved(&self, key: &[u8; 32]) -> Option<Changes> {
        self.caches.resolved.get(key)
    }

    fn note_resolved(&self, key: [u8; 32], _: u64, changes: Changes) {
        self.caches.resolved.insert(key, changes);
    }
}

impl Read for WriteTx {
    type Opened<'t, K: TableKey> = Table<'t, K, Bytes>;

    fn open<K: TableKey>(&self, table: &Declared<K>) -> Result<Self::Opened<'_, K>> {
        self.redb.open_table(table.definition).map_err(storage)
    }

    fn pos(&self) -> Result<Pos> {
        Ok(self.pos.get())
    }

    fn layer(&self, id: u64) -> Result<Arc<Layer>> {
        if id <= self.committed {
            return cached_layer(self, &self.caches, id);
        }
        read_layer(self, id)
    }

    fn resolved(&self, key: &[u8; 32]) -> Option<Changes> {
        self.caches.resolved.get(key)
    }

    fn note_resolved(&self, key: [u8; 32], newest: u64, changes: Changes) {
        // Positions of events are given anew too when a batch is undone.
        if newest.max(changes.values().copied().filter(|pos| *pos != Pos::MAX).max().unwrap_or(0)) <= self.committed {
            self.caches.resolved.insert(key, changes);
        }
    }
}

/// A layer from the cache, or into it if it can't change any more.
fn cached_layer(tx: &impl Read, caches: &Caches, id: u64) -> Result<Arc<Layer>> {
    if let Some(layer) = caches.layers.get(&id) {
        return Ok(layer);
    }
    let layer = read_layer(tx, id)?;
    if !layer.may_change() {
        caches.layers.insert(id, layer.clone());
    }
    Ok(layer)
}

fn read_layer(tx: &impl Read, id: u64) -> Result<Arc<Layer>> {
    let layer = tables::STATES.get(tx, id)?;
    layer.map(Arc::new).ok_or_else(|| Error::internal(format!("state {id} is missing")))
}

impl WriteTx {
    /// The next position, now taken. A job that fails gives it back with everything else.
    pub fn next_pos(&self) -> Pos {
        self.dirty.set(true);
        self.pos.set(self.pos.get() + 1);
        self.pos.get()
    }

    /// Leaves out positions, for what belongs before the next one and will come later.
    pub fn skip_positions(&self, count: u64) {
        self.dirty.set(true);
        self.pos.set(self.pos.get() + count);
    }

    /// Runs a job with what was brought along for it.
    pub fn with<T>(&self, brought: &Brought, job: impl FnOnce() -> T) -> T {
        self.brought.replace(brought.clone());
        let outcome = job();
        self.brought.take();
        outcome
    }

    /// What was brought along for the running job.
    pub fn brought(&self) -> Brought {
        self.brought.borrow().clone()
    }

    /// Adds to what waiters are told after the commit.
    pub fn wake(&self, add: impl FnOnce(&mut Wake)) {
        add(&mut self.wake.borrow_mut());
    }

    pub(super) fn open_for_write<K: TableKey>(&self, table: &Declared<K>) -> Result<Table<'_, K, Bytes>> {
        self.dirty.set(true);
        self.redb.open_table(table.definition).map_err(storage)
    }
}

/// A database error towards a client: the server can't do this now, and says why in its log.
pub(super) fn storage(error: impl Into<redb::Error>) -> Error {
    Error::unavailable("the server's storage does not answer: try again later", error.into())
}
