//! A copy of the database as it is in one snapshot, in a file of its own: row by row, while others read and write.

use std::path::Path;

use redb::{Database, ReadTransaction, ReadableTable};

use super::{
    ReadTx, engine, place,
    table::{Declared, TableKey},
    tables,
    tx::storage,
};
use crate::error::{Error, Result};

/// Rows in one commit of the copy: so many are in memory.
const AT_ONCE: usize = 20_000;
/// Bytes for the page cache of the copy.
const CACHE: usize = 32 << 20;

impl ReadTx {
    /// Writes all that this snapshot holds to a new file. Once this returns, that is on disk. `go_on` is asked now and
    /// then.
    pub fn copy_to(&self, path: &Path, go_on: &dyn Fn() -> bool) -> Result<()> {
        place::make_private(path);
        let copy = redb::Builder::new().set_cache_size(CACHE).create(path).map_err(storage)?;
        tables::copy_all(self.redb(), &copy, go_on)?;
        engine::without_journal(&copy)?.commit().map_err(storage)
    }
}

/// Copies one table.
pub(super) fn table<K: TableKey>(
    declared: &Declared<K>,
    (from, to): (&ReadTransaction, &Database),
    go_on: &dyn Fn() -> bool,
) -> Result<()> {
    let source = from.open_table(declared.definition).map_err(storage)?;
    let mut rows = source.iter().map_err(storage)?;
    let mut left = true;
    while left {
        if !go_on() {
            return Err(Error::unavailable("the copy was not made to the end", "it was stopped"));
        }
        let tx = to.begin_write().map_err(storage)?;
        {
            let mut target = tx.open_table(declared.definition).map_err(storage)?;
            for _ in 0..AT_ONCE {
                let Some(row) = rows.next() else {
                    left = false;
                    break;
                };
                let (key, value) = row.map_err(storage)?;
                target.insert(key.value(), value.value()).map_err(storage)?;
            }
        }
        tx.commit().map_err(storage)?;
    }
    Ok(())
}
