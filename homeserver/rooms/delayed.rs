//! Events that people have the server send later: how they wait, and what came of them. Sending them is the
//! caller's; here it is seen to that each is sent once, in the transaction that says so.
//! spec: MSC4140, as its text is since September 2026.

use std::time::Duration;

use ruma::UserId;

use crate::{
    base::{clock, random},
    config::Delayed,
    error::{Error, Result},
    store::{
        Flow, LAST, Read, WriteTx,
        rows::{
            EventRow,
            client::{DelayedRow, Outcome},
        },
        tables,
    },
};

/// Bytes of what waits at most: what an event may have.
const MAX_CONTENT: usize = 65_536;
/// What came of somebody's events is remembered for so many of them, and for so long (milliseconds).
const MAX_DONE: usize = 100;
const REMEMBERED: u64 = 7 * 24 * 60 * 60 * 1000;
/// In an event's row, the name of the device that sent it, where it was none but the server, later.
const LATER: &str = "\u{1}later";

/// An event that somebody wants sent later.
#[derive(Clone, Debug)]
pub struct Wish {
    /// In which room: its ID.
    pub room: String,
    /// Its type.
    pub kind: String,
    /// Its state key, for state events.
    pub state_key: Option<String>,
    /// Its content as JSON.
    pub content: String,
    /// How much later, milliseconds.
    pub delay: u64,
}

/// Keeps an event until it is due, and says its ID. 403 if it would wait too long, 429 `M_LIMIT_EXCEEDED` if
/// there are too many already.
pub fn schedule(tx: &WriteTx, user: &UserId, wish: Wish, limits: Delayed) -> Result<String> {
    if wish.delay == 0 {
        return Err(Error::invalid_param("the delay is greater than zero"));
    }
    if limits.max_scheduled == 0 {
        return Err(Error::forbidden("this server sends nothing later"));
    }
    if wish.delay > limits.max_delay {
        return Err(Error::forbidden(format!("events wait {} ms at most", limits.max_delay)));
    }
    if wish.content.len() > MAX_CONTENT {
        return Err(Error::too_large(format!("an event has at most {MAX_CONTENT} bytes")));
    }
    let now = clock::now_ms();
    let waiting = of(tx, user)?;
    if let Some((due, _)) = waiting.first().filter(|_| waiting.len() >= limits.max_scheduled) {
        return Err(Error::limited(Duration::from_millis(due.saturating_sub(now).max(1))));
    }
    let (id, Wish { room, kind, state_key, content, delay }) = (random::secret(), wish);
    let user = user.to_string();
    let row = DelayedRow { user, room, kind, state_key, content, delay, since: now, outcome: None };
    await_due(tx, &id, &row)?;
    Ok(id)
}

/// Begins the wait anew.
pub fn restart(tx: &WriteTx, id: &str, row: DelayedRow) -> Result<()> {
    forget_due(tx, id, &row)?;
    await_due(tx, id, &DelayedRow { since: clock::now_ms(), ..row })
}

/// Ends the wait: with the event that was sent, with the error that kept it from being sent, or with neither
/// if nobody wants it any more.
pub fn finish(tx: &WriteTx, id: &str, row: DelayedRow, outcome: Result<Option<String>>) -> Result<()> {
    forget_due(tx, id, &row)?;
    let at = clock::now_ms();
    let (event, error) = match outcome {
        Ok(event) => (event, None),
        Err(error) => (None, Some((error.errcode().to_owned(), error.message().to_owned()))),
    };
    let user = row.user.clone();
    tables::DELAYED.put(tx, id, &DelayedRow { outcome: Some(Outcome { at, event, error }), ..row })?;
    tables::DELAYED_DONE.put(tx, (&*user, at, id), &())?;
    let done = done(tx, &user)?;
    let surplus = done.len().saturating_sub(MAX_DONE);
    for (number, (at_then, id)) in done.iter().enumerate() {
        if number < surplus || at_then.saturating_add(REMEMBERED) < at {
            tables::DELAYED_DONE.remove(tx, (&*user, *at_then, &**id))?;
            tables::DELAYED.remove(tx, &**id)?;
        }
    }
    Ok(())
}

/// What waits or has waited under an ID: for somebody who has shown who they are, only if it is theirs. 404 if
/// there is none.
pub fn find(tx: &impl Read, id: &str, user: Option<&UserId>) -> Result<DelayedRow> {
    let row = tables::DELAYED.get(tx, id)?.filter(|row| user.is_none_or(|user| row.user == user.as_str()));
    row.ok_or_else(|| Error::not_found("there is no such delayed event"))
}

/// What of somebody's waits, the next first: when it is due and its ID.
pub fn of(tx: &impl Read, user: &UserId) -> Result<Vec<(u64, String)>> {
    let range = (user.as_str(), 0, "")..=(user.as_str(), u64::MAX, LAST);
    tables::DELAYED_OF.collect(tx, range, |(_, due, id), ()| (due, id.to_owned()))
}

/// What does not wait any more, the oldest first: since when, and its ID.
pub fn done(tx: &impl Read, user: &str) -> Result<Vec<(u64, String)>> {
    let range = (user, 0, "")..=(user, u64::MAX, LAST);
    tables::DELAYED_DONE.collect(tx, range, |(_, at, id), ()| (at, id.to_owned()))
}

/// What is due next of all: when, and its ID.
pub fn next(tx: &impl Read) -> Result<Option<(u64, String)>> {
    let mut next = None;
    tables::DELAYED_DUE.scan(tx, (0, "")..=(u64::MAX, LAST), |(due, id), ()| {
        next = Some((due, id.to_owned()));
        Ok(Flow::Stop)
    })?;
    Ok(next)
}

/// Forgets all that somebody wanted sent.
pub fn forget(tx: &WriteTx, user: &UserId) -> Result<()> {
    for (_, id) in of(tx, user)? {
        if let Some(row) = tables::DELAYED.get(tx, &*id)? {
            forget_due(tx, &id, &row)?;
        }
        tables::DELAYED.remove(tx, &*id)?;
    }
    for (at, id) in done(tx, user.as_str())? {
        tables::DELAYED_DONE.remove(tx, (user.as_str(), at, &*id))?;
        tables::DELAYED.remove(tx, &*id)?;
    }
    Ok(())
}

/// By whom the row of an event says that it was sent, if it was the server, later.
pub fn sent_later(id: &str) -> (String, String) {
    (LATER.to_owned(), id.to_owned())
}

/// As what an event waited, if it did.
pub fn id_of(row: &EventRow) -> Option<String> {
    row.sent_by.as_ref().filter(|(device, _)| device == LATER).map(|(_, id)| id.clone())
}

fn await_due(tx: &WriteTx, id: &str, row: &DelayedRow) -> Result<()> {
    let due = row.since.saturating_add(row.delay);
    tables::DELAYED.put(tx, id, row)?;
    tables::DELAYED_DUE.put(tx, (due, id), &())?;
    tables::DELAYED_OF.put(tx, (&*row.user, due, id), &())
}

fn forget_due(tx: &WriteTx, id: &str, row: &DelayedRow) -> Result<()> {
    let due = row.since.saturating_add(row.delay);
    tables::DELAYED_DUE.remove(tx, (due, id))?;
    tables::DELAYED_OF.remove(tx, (&*row.user, due, id)).map(drop)
}
