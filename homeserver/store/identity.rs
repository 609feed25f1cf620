//! Whose a database is: one that something else or a newer Hearth wrote is left as it is, a new one is made.

use std::collections::HashSet;

use redb::{Database, ReadableDatabase, TableHandle};

use super::{Caches, ReadTx, WriteTx, tables, tx::storage};
use crate::error::Result;

/// What the file says it is. A change of tables that an old binary can't read takes the next number.
pub(super) const SCHEMA: u64 = 4;
const LINEAGE: &str = "hearth";

/// Refuses a file that something else or a newer Hearth wrote, before anything is written to it.
pub(super) fn check(database: &Database) -> Result<(), String> {
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
        record: Default::default(),
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
