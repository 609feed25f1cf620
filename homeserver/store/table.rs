//! The shape of a table: a typed name with the few operations that the house uses. This file and its
//! neighbours are the only ones that say redb; the rest of Hearth sees keys, rows and ranges.

use std::{borrow::Borrow, marker::PhantomData, ops::RangeBounds};

use redb::{
    AccessGuard, Key, Range, ReadOnlyTable, ReadableTable, ReadableTableMetadata, TableDefinition, TableHandle,
    TableStats,
};

use super::{Read, WriteTx, rows::Row, tx::storage};
use crate::error::Result;

/// What no text of a key comes after: an upper bound for ranges. Texts in keys have 255 bytes at most, or
/// begin with a letter that we gave them.
pub const LAST: &str = match std::str::from_utf8(&LAST_BYTES) {
    Ok(text) => text,
    Err(_) => panic!("these are whole characters"),
};

/// The last character there is, again and again: one alone would come before what begins with it.
const LAST_BYTES: [u8; 256] = {
    let (mut bytes, mut at) = ([0; 256], 0);
    while at < bytes.len() {
        bytes[at] = [0xF4, 0x8F, 0xBF, 0xBF][at % 4];
        at += 1;
    }
    bytes
};

/// Whether a scan goes on after this row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// To the next row.
    Next,
    /// No further.
    Stop,
}

pub(super) type Bytes = &'static [u8];

/// What can be a key: its table may be kept open for many readers.
pub trait TableKey: Key + Send + Sync + 'static {}

impl<K: Key + Send + Sync + 'static> TableKey for K {}

/// A table's declaration, without the type of its rows.
pub struct Declared<K: TableKey> {
    pub(super) definition: TableDefinition<'static, K, Bytes>,
    /// Its place among all tables.
    pub(super) number: usize,
}

/// A table with keys of redb type `K` (ordered component by component) and rows of type `V`.
pub struct Table<K: TableKey, V> {
    pub(super) declared: Declared<K>,
    row: PhantomData<fn() -> V>,
}

/// A table that a snapshot keeps open.
pub struct Kept<'t, K: TableKey>(pub(super) &'t ReadOnlyTable<K, Bytes>);

impl<K: TableKey> ReadableTableMetadata for Kept<'_, K> {
    fn stats(&self) -> redb::Result<TableStats> {
        self.0.stats()
    }
    fn len(&self) -> redb::Result<u64> {
        self.0.len()
    }
}

impl<K: TableKey> ReadableTable<K, Bytes> for Kept<'_, K> {
    fn get<'a>(&self, key: impl Borrow<K::SelfType<'a>>) -> redb::Result<Option<AccessGuard<'_, Bytes>>> {
        self.0.get(key)
    }
    fn range<'a, R>(&self, range: impl RangeBounds<R> + 'a) -> redb::Result<Range<'_, K, Bytes>>
    where
        R: Borrow<K::SelfType<'a>> + 'a,
    {
        self.0.range(range)
    }
    fn first(&self) -> redb::Result<Option<(AccessGuard<'_, K>, AccessGuard<'_, Bytes>)>> {
        self.0.first()
    }
    fn last(&self) -> redb::Result<Option<(AccessGuard<'_, K>, AccessGuard<'_, Bytes>)>> {
        self.0.last()
    }
}

impl<K: TableKey, V: Row> Table<K, V> {
    /// Declares a table. Every declaration stands in `tables.rs`.
    pub(super) const fn new(name: &'static str, number: usize) -> Self {
        Self { declared: Declared { definition: TableDefinition::new(name), number }, row: PhantomData }
    }

    /// The row at `key`, if there is one.
    pub fn get<'k>(&self, tx: &impl Read, key: impl Borrow<K::SelfType<'k>>) -> Result<Option<V>> {
        let table = tx.open(&self.declared)?;
        match table.get(key).map_err(storage)? {
            Some(guard) => V::decode(guard.value()).map(Some),
            None => Ok(None),
        }
    }

    /// The rows at some keys, in their order.
    pub fn get_all<'k>(
        &self,
        tx: &impl Read,
        keys: impl IntoIterator<Item: Borrow<K::SelfType<'k>>>,
    ) -> Result<Vec<Option<V>>> {
        let table = tx.open(&self.declared)?;
        let get = |key| match table.get(key).map_err(storage)? {
            Some(guard) => V::decode(guard.value()).map(Some),
            None => Ok(None),
        };
        keys.into_iter().map(get).collect()
    }

    /// Whether there is a row at `key`.
    pub fn has<'k>(&self, tx: &impl Read, key: impl Borrow<K::SelfType<'k>>) -> Result<bool> {
        let table = tx.open(&self.declared)?;
        Ok(table.get(key).map_err(storage)?.is_some())
    }

    /// Visits the rows of a range in the order of their keys. While it runs, a write transaction can't
    /// use the same table otherwise.
    pub fn scan<'k, R>(
        &self,
        tx: &impl Read,
        range: impl RangeBounds<R> + 'k,
        mut visit: impl FnMut(K::SelfType<'_>, V) -> Result<Flow>,
    ) -> Result<()>
    where
        R: Borrow<K::SelfType<'k>> + 'k,
    {
        let table = tx.open(&self.declared)?;
        for row in table.range::<R>(range).map_err(storage)? {
            let (key, value) = row.map_err(storage)?;
            if visit(key.value(), V::decode(value.value())?)? == Flow::Stop {
                break;
            }
        }
        Ok(())
    }

    /// As [`Self::scan`], from the last key to the first.
    pub fn scan_back<'k, R>(
        &self,
        tx: &impl Read,
        range: impl RangeBounds<R> + 'k,
        mut visit: impl FnMut(K::SelfType<'_>, V) -> Result<Flow>,
    ) -> Result<()>
    where
        R: Borrow<K::SelfType<'k>> + 'k,
    {
        let table = tx.open(&self.declared)?;
        for row in table.range::<R>(range).map_err(storage)?.rev() {
            let (key, value) = row.map_err(storage)?;
            if visit(key.value(), V::decode(value.value())?)? == Flow::Stop {
                break;
            }
        }
        Ok(())
    }

    /// What `map` makes of each row of a range, in the order of the keys.
    pub fn collect<'k, R, T>(
        &self,
        tx: &impl Read,
        range: impl RangeBounds<R> + 'k,
        mut map: impl FnMut(K::SelfType<'_>, V) -> T,
    ) -> Result<Vec<T>>
    where
        R: Borrow<K::SelfType<'k>> + 'k,
    {
        let mut out = Vec::new();
        self.scan(tx, range, |key, row| {
            out.push(map(key, row));
            Ok(Flow::Next)
        })?;
        Ok(out)
    }

    /// How many rows the table has.
    pub fn len(&self, tx: &impl Read) -> Result<u64> {
        tx.open(&self.declared)?.len().map_err(storage)
    }

    /// Writes the row at `key`, over what was there.
    pub fn put<'k>(&self, tx: &WriteTx, key: impl Borrow<K::SelfType<'k>>, row: &V) -> Result<()> {
        self.put_all(tx, [(key, row)])
    }

    /// Writes rows at their keys, over what was there.
    pub fn put_all<'k, 'r>(
        &self,
        tx: &WriteTx,
        rows: impl IntoIterator<Item = (impl Borrow<K::SelfType<'k>>, &'r V)>,
    ) -> Result<()>
    where
        V: 'r,
    {
        let mut table = tx.open_for_write(&self.declared)?;
        let mut record = tx.record.borrow_mut();
        for (key, row) in rows {
            let (key, row) = (key.borrow(), row.encode()?);
            table.insert(key, &*row).map_err(storage)?;
            record.put(self.name(), K::as_bytes(key).as_ref(), &row);
        }
        Ok(())
    }

    /// Takes the row at `key` away. True if there was one.
    pub fn remove<'k>(&self, tx: &WriteTx, key: impl Borrow<K::SelfType<'k>>) -> Result<bool> {
        let mut table = tx.open_for_write(&self.declared)?;
        let key = key.borrow();
        let was_there = table.remove(key).map_err(storage)?.is_some();
        if was_there {
            tx.record.borrow_mut().remove(self.name(), K::as_bytes(key).as_ref());
        }
        Ok(was_there)
    }

    /// Takes all rows of a range away.
    pub fn remove_range<'k, R>(&self, tx: &WriteTx, range: impl RangeBounds<R> + 'k) -> Result<()>
    where
        R: Borrow<K::SelfType<'k>> + 'k,
    {
        let mut table = tx.open_for_write(&self.declared)?;
        let bytes = |key: &R| K::as_bytes(key.borrow()).as_ref().to_vec();
        tx.record.borrow_mut().remove_range(self.name(), range.start_bound().map(bytes), range.end_bound().map(bytes));
        table.retain_in::<R, _>(range, |_, _| false).map_err(storage)
    }

    fn name(&self) -> &str {
        self.declared.definition.name()
    }
}
