//! What a transaction has changed, row by row, as bytes from which it can be done once more: what the
//! journal keeps. Knows how such bytes are made and taken apart; not where they lie.
//!
//! Done once more in the order in which it was done, from its beginning, it leads to the same rows whether
//! some of it had been done already or not: each change says what is to be, not what is to be added.

use std::ops::Bound;

use redb::WriteTransaction;

use super::{
    table::{Declared, TableKey},
    tables,
    tx::storage,
};
use crate::error::{Error, Result};

/// Bytes of one record at most: what changes more is not written twice, but to the database at once.
const MAX: usize = 4 << 20;

const PUT: u8 = 0;
const REMOVE: u8 = 1;
const REMOVE_RANGE: u8 = 2;

const UNBOUNDED: u8 = 0;
const INCLUDED: u8 = 1;
const EXCLUDED: u8 = 2;

/// The changes of one transaction. None if they are not kept.
#[derive(Default)]
pub(super) struct Record(Option<Vec<u8>>);

impl Record {
    /// One that keeps what is changed, as long as that is not too much.
    pub fn kept() -> Self {
        Self(Some(Vec::new()))
    }

    pub fn into_bytes(self) -> Option<Vec<u8>> {
        self.0
    }

    pub fn put(&mut self, table: &str, key: &[u8], row: &[u8]) {
        self.add(PUT, table, |out| {
            sized(out, key);
            sized(out, row);
        });
    }

    pub fn remove(&mut self, table: &str, key: &[u8]) {
        self.add(REMOVE, table, |out| sized(out, key));
    }

    pub fn remove_range(&mut self, table: &str, from: Bound<Vec<u8>>, to: Bound<Vec<u8>>) {
        self.add(REMOVE_RANGE, table, |out| {
            bound(out, from);
            bound(out, to);
        });
    }

    fn add(&mut self, kind: u8, table: &str, rest: impl FnOnce(&mut Vec<u8>)) {
        let Some(out) = &mut self.0 else { return };
        out.push(kind);
        sized(out, table.as_bytes());
        rest(out);
        if out.len() > MAX {
            self.0 = None;
        }
    }
}

fn sized(out: &mut Vec<u8>, bytes: &[u8]) {
    // Nothing is that long: redb refuses keys and rows of over 3 GiB, and requests are much smaller.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend(length.to_le_bytes());
    out.extend(bytes);
}

fn bound(out: &mut Vec<u8>, of: Bound<Vec<u8>>) {
    match of {
        Bound::Unbounded => out.push(UNBOUNDED),
        Bound::Included(key) => {
            out.push(INCLUDED);
            sized(out, &key);
        }
        Bound::Excluded(key) => {
            out.push(EXCLUDED);
            sized(out, &key);
        }
    }
}

/// One change, taken from a record.
pub(super) struct Change<'a> {
    pub table: &'a str,
    what: What<'a>,
}

enum What<'a> {
    Put(&'a [u8], &'a [u8]),
    Remove(&'a [u8]),
    RemoveRange(Bound<&'a [u8]>, Bound<&'a [u8]>),
}

/// Does all changes of a record once more.
pub(super) fn redo(tx: &WriteTransaction, mut record: &[u8]) -> Result<()> {
    while !record.is_empty() {
        let change = next(&mut record).ok_or_else(|| Error::internal("a record of the journal is not whole"))?;
        tables::redo(tx, &change)?;
    }
    Ok(())
}

/// Does one change of a table once more.
pub(super) fn redo_in<K: TableKey>(declared: &Declared<K>, tx: &WriteTransaction, change: &Change<'_>) -> Result<()> {
    let mut table = tx.open_table(declared.definition).map_err(storage)?;
    match change.what {
        What::Put(key, row) => table.insert(K::from_bytes(key), row).map(drop),
        What::Remove(key) => table.remove(K::from_bytes(key)).map(drop),
        What::RemoveRange(from, to) => {
            let range = (from.map(K::from_bytes), to.map(K::from_bytes));
            table.retain_in::<K::SelfType<'_>, _>(range, |_, _| false)
        }
    }
    .map_err(storage)
}

fn next<'a>(rest: &mut &'a [u8]) -> Option<Change<'a>> {
    let kind = *rest.split_off_first()?;
    let table = std::str::from_utf8(take(rest)?).ok()?;
    let what = match kind {
        PUT => What::Put(take(rest)?, take(rest)?),
        REMOVE => What::Remove(take(rest)?),
        REMOVE_RANGE => What::RemoveRange(take_bound(rest)?, take_bound(rest)?),
        _ => return None,
    };
    Some(Change { table, what })
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u32::from_le_bytes(rest.split_off(..4)?.try_into().ok()?);
    rest.split_off(..usize::try_from(length).ok()?)
}

fn take_bound<'a>(rest: &mut &'a [u8]) -> Option<Bound<&'a [u8]>> {
    match *rest.split_off_first()? {
        UNBOUNDED => Some(Bound::Unbounded),
        INCLUDED => take(rest).map(Bound::Included),
        EXCLUDED => take(rest).map(Bound::Excluded),
        _ => None,
    }
}
