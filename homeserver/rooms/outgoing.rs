//! The log of what other servers are to be told, written in the same transaction as what it tells of.
//! One entry for each thing, however many servers there are: whom it concerns is found out by who reads
//! the log. It says what happened, and its contents are read when they are sent.

use crate::{
    base::Pos,
    error::Result,
    store::{Flow, Read, WriteTx, tables},
};

pub use crate::store::rows::Outgoing;

/// Notes something that was written at a position.
pub fn log(tx: &WriteTx, pos: Pos, entry: &Outgoing) -> Result<()> {
    tx.wake(|wake| wake.outgoing = true);
    tables::OUTGOING.put(tx, pos, entry)
}

/// Visits the entries after a position, the oldest first.
pub fn after(tx: &impl Read, pos: Pos, visit: impl FnMut(Pos, Outgoing) -> Result<Flow>) -> Result<()> {
    tables::OUTGOING.scan(tx, pos.saturating_add(1).., visit)
}

/// Takes away up to `most` of the oldest entries, up to a position. Returns how many.
pub fn trim(tx: &WriteTx, upto: Pos, most: usize) -> Result<usize> {
    let mut old = Vec::new();
    tables::OUTGOING.scan(tx, ..=upto, |pos, _| {
        old.push(pos);
        Ok(if old.len() < most { Flow::Next } else { Flow::Stop })
    })?;
    if let Some(last) = old.last() {
        tables::OUTGOING.remove_range(tx, ..=*last)?;
    }
    Ok(old.len())
}
