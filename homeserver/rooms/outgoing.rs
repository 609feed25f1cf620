//! The log of what other servers are to be told, written in the same transaction as what it tells of.
//! One entry for each thing, however many servers there are: whom it concerns is found out by who reads
//! the log. It says what happened, and its contents are read when they are sent.

use crate::{
    base::Pos,
    error::Result,
    store::{Flow, Read, WriteTx, tables},
};

pub use crate::store::rows::Outgoing;

/// The counter of up to where the log was taken away.
pub const TRIMMED: &str = "outgoing_trimmed";

/// Notes something that was written at a position.
pub fn log(tx: &WriteTx, pos: Pos, entry: &Outgoing) -> Result<()> {
    tx.wake(|wake| wake.outgoing = true);
    tables::OUTGOING.put(tx, pos, entry)
}

/// Visits the entries after a position, the oldest first.
pub fn after(tx: &impl Read, pos: Pos, visit: impl FnMut(Pos, Outgoing) -> Result<Flow>) -> Result<()> {
    tables::OUTGOING.scan(tx, pos.saturating_add(1).., visit)
}

/// Where the oldest entry is.
pub fn oldest(tx: &impl Read) -> Result<Option<Pos>> {
    let mut oldest = None;
    tables::OUTGOING.scan(tx, 0.., |pos, _| {
        oldest = Some(pos);
        Ok(Flow::Stop)
    })?;
    Ok(oldest)
}

/// How many entries there are.
pub fn len(tx: &impl Read) -> Result<u64> {
    tables::OUTGOING.len(tx)
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
        tables::COUNTERS.put(tx, TRIMMED, last)?;
    }
    Ok(old.len())
}
