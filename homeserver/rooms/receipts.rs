//! Read receipts: how far somebody has read, for everybody to see (`m.read`) or for themselves alone
//! (`m.read.private`), in the whole room or in one of its threads. They only ever move forward.
//! spec: client-server-api#receipts

use std::collections::{BTreeMap, BTreeSet};

use ruma::{EventId, UserId, events::receipt::ReceiptThread};
use serde::{Deserialize, Serialize};

use super::{
    event::{self, Slices},
    gaps, members,
    outgoing::{self, Outgoing},
    room::Room,
    threads,
    timeline::{self, View},
};
use crate::{
    accounts::account_data,
    base::{Pos, RoomNum, clock},
    error::{Error, Result},
    store::{
        Flow, LAST, Read, WriteTx,
        rows::{EarlyReceiptRow, ReceiptRow},
        tables,
    },
};

/// Receipts of others that an initial sync shows of one room at most, the newest ones.
const MAX_SHOWN: usize = 1000;
/// Receipts of one person in one room at most: threads are many, and each can have its own.
const MAX_OWN: usize = 1000;
/// Receipts for events that have not come which are kept, of one room and in all, and how long, milliseconds.
const MAX_EARLY: usize = 200;
const MAX_EARLY_IN_ALL: u64 = 20_000;
const MAX_AGE: u64 = 24 * 3600 * 1000;
/// The thread that stands for everything that is in no thread.
const MAIN: &str = "main";
/// The account data type of the marker of where somebody reads.
const FULLY_READ: &str = "m.fully_read";

/// What kind of receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// For everybody.
    Read,
    /// For oneself.
    Private,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Read => "m.read",
            Self::Private => "m.read.private",
        }
    }
}

/// The name of a thread in keys: empty for none. 400 `M_INVALID_PARAM` for what can't be one.
pub fn thread_name(thread: &ReceiptThread) -> Result<&str> {
    match thread.as_str() {
        None => Ok(""),
        Some(MAIN) => Ok(MAIN),
        Some(root) if EventId::parse(root).is_ok() => Ok(root),
        Some(_) => Err(Error::invalid_param("thread_id is \"main\" or the ID of a thread's first event")),
    }
}

/// The order of an event that somebody says they have read. 404 if they can't see such an event in the
/// room, 400 if it does not belong to the thread.
pub fn place(tx: &impl Read, room: &Room, user: &UserId, id: &EventId, thread: &str) -> Result<i64> {
    let unknown = || Error::not_found("there is no such event in this room, or you may not see it");
    let (pos, row) = event::shown(tx, room.num, id)?.ok_or_else(unknown)?;
    let slices = Slices::of(&row)?;
    if !View::new(tx, room, user, None)?.sight.may_see(tx, pos, &row, &slices)? {
        return Err(unknown());
    }
    let fits = match thread {
        "" => true,
        root if root == id.as_str() => true,
        thread => threads::of(tx, room.num, &slices)?.as_deref().unwrap_or(MAIN) == thread,
    };
    match fits {
        true => row.place(pos).ok_or_else(unknown),
        false => Err(Error::invalid_param("the event is not in this thread")),
    }
}

/// Notes that somebody has read up to an event. Nothing happens if they have read further already.
pub fn set(tx: &WriteTx, room: &Room, user: &UserId, kind: Kind, id: &EventId, thread: &str) -> Result<()> {
    let outgoing = kind == Kind::Read && room.row.servers > 1;
    note(tx, room, (user, kind, id, thread), clock::now_ms(), outgoing)
}

/// Notes that somebody of another server has read up to an event, as their server tells. Nothing happens
/// if they have read further already. For an event that has not come it is kept until that comes.
pub fn receive(tx: &WriteTx, room: &Room, user: &UserId, id: &EventId, thread: &str, ts: u64) -> Result<()> {
    let ts = ts.min(clock::now_ms());
    match gaps::missing_of(tx, &[id.to_owned()])?.is_empty() {
        true => note(tx, room, (user, Kind::Read, id, thread), ts, false),
        false => keep(tx, room.num, (user, id, thread), ts),
    }
}

/// Keeps a receipt for an event that has not come. Of one person in one thread the latest word counts, and what
/// has not come for long does not come any more.
fn keep(tx: &WriteTx, room: RoomNum, (user, id, thread): (&UserId, &EventId, &str), ts: u64) -> Result<()> {
    let (now, mut stale, mut count) = (clock::now_ms(), Vec::new(), 0);
    let all = (room, "", "", "")..=(room, LAST, LAST, LAST);
    tables::EARLY_RECEIPTS.scan(tx, all, |(_, event, of, at), row| {
        match (of == user.as_str() && at == thread) || now.saturating_sub(row.came) > MAX_AGE {
            true => stale.push((event.to_owned(), of.to_owned(), at.to_owned())),
            false => count += 1,
        }
        Ok(Flow::Next)
    })?;
    for (event, of, at) in stale {
        tables::EARLY_RECEIPTS.remove(tx, (room, event.as_str(), of.as_str(), at.as_str()))?;
    }
    if count >= MAX_EARLY || tables::EARLY_RECEIPTS.len(tx)? >= MAX_EARLY_IN_ALL {
        return Ok(());
    }
    tables::EARLY_RECEIPTS.put(tx, (room, id.as_str(), user.as_str(), thread), &EarlyReceiptRow { ts, came: now })
}

/// Notes the receipts that came before their event, which is here now.
pub(super) fn meet(tx: &WriteTx, room: &Room, id: &EventId) -> Result<()> {
    let all = (room.num, id.as_str(), "", "")..=(room.num, id.as_str(), LAST, LAST);
    let early = tables::EARLY_RECEIPTS
        .collect(tx, all, |(_, _, user, thread), row| (user.to_owned(), thread.to_owned(), row.ts))?;
    for (user, thread, ts) in early {
        tables::EARLY_RECEIPTS.remove(tx, (room.num, id.as_str(), user.as_str(), thread.as_str()))?;
        let Ok(user) = UserId::parse(&user) else { continue };
        if !members::is_joined(tx, room.num, &user)? {
            continue;
        }
        match note(tx, room, (&user, Kind::Read, id, &thread), ts, false) {
            Err(error) if error.cause().is_some() => return Err(error),
            // For what they can't see, or too many.
            _ => {}
        }
    }
    Ok(())
}

fn note(
    tx: &WriteTx,
    room: &Room,
    (user, kind, id, thread): (&UserId, Kind, &EventId, &str),
    ts: u64,
    outgoing: bool,
) -> Result<()> {
    let order = place(tx, room, user, id, thread)?;
    let key = (room.num, user.as_str(), kind.name(), thread);
    match tables::RECEIPTS.get(tx, key)? {
        Some(old) if old.order >= order => return Ok(()),
        Some(old) => drop(tables::RECEIPT_LOG.remove(tx, (room.num, old.pos))?),
        None if own(tx, room.num, user)?.len() >= MAX_OWN => {
            return Err(Error::forbidden_as("M_RESOURCE_LIMIT_EXCEEDED", "there are too many receipts already"));
        }
        None => {}
    }
    let pos = tx.next_pos();
    let row = ReceiptRow { pos, event_id: id.to_string(), order, ts };
    tables::RECEIPTS.put(tx, key, &row)?;
    tables::RECEIPT_LOG.put(tx, (room.num, pos), &format!("{user}\n{}\n{thread}", kind.name()))?;
    if outgoing {
        let (user, thread) = (user.to_string(), thread.to_owned());
        outgoing::log(tx, pos, &Outgoing::Receipt { room: room.num, user, thread })?;
    }
    tx.wake(|wake| match kind {
        Kind::Read => drop(wake.rooms.insert(room.num)),
        Kind::Private => {
            wake.touched.insert(room.num);
            wake.users.insert(user.to_owned());
        }
    });
    Ok(())
}

/// Somebody's receipt for everybody, in a room and of a thread ("" for none).
pub fn public(tx: &impl Read, room: RoomNum, user: &str, thread: &str) -> Result<Option<ReceiptRow>> {
    tables::RECEIPTS.get(tx, (room, user, Kind::Read.name(), thread))
}

/// Moves the marker of where somebody reads, which is account data of the room. It only moves forward.
/// spec: client-server-api#read-and-unread-markers
pub fn set_fully_read(tx: &WriteTx, room: &Room, user: &UserId, id: &EventId) -> Result<()> {
    #[derive(Serialize, Deserialize)]
    struct Content {
        event_id: String,
    }
    let order = place(tx, room, user, id, "")?;
    let old = account_data::get(tx, user, &room.row.id, FULLY_READ)?;
    if let Some(Content { event_id }) = old.and_then(|json| serde_json::from_str(&json).ok())
        && let Some(pos) = tables::EVENT_IDS.get(tx, event_id.as_str())?
        && timeline::order(tx, pos)?.is_some_and(|old| old >= order)
    {
        return Ok(());
    }
    let content = serde_json::to_string(&Content { event_id: id.to_string() }).map_err(Error::internal)?;
    account_data::set(tx, user, &room.row.id, FULLY_READ, content)
}

/// How far somebody has read: per thread ("" for all, "main" for what is in none) the order of the
/// later of their receipts of both kinds.
pub fn read_upto(tx: &impl Read, room: RoomNum, user: &UserId) -> Result<BTreeMap<String, i64>> {
    let mut out = BTreeMap::new();
    for (thread, order) in own(tx, room, user)? {
        let furthest = out.entry(thread).or_insert(order);
        *furthest = order.max(*furthest);
    }
    Ok(out)
}

fn own(tx: &impl Read, room: RoomNum, user: &UserId) -> Result<Vec<(String, i64)>> {
    let user = user.as_str();
    tables::RECEIPTS.collect(tx, (room, user, "", "")..=(room, user, LAST, LAST), |(_, _, _, thread), row| {
        (thread.to_owned(), row.order)
    })
}

/// Who of a room has read further after a position and up to another one; of very many the latest.
pub fn readers(tx: &impl Read, room: RoomNum, (after, upto): (Pos, Pos)) -> Result<BTreeSet<String>> {
    let (mut out, mut seen) = (BTreeSet::new(), 0);
    tables::RECEIPT_LOG.scan_back(tx, (room, after + 1)..=(room, upto), |_, name| {
        seen += 1;
        out.extend(name.split('\n').next().map(str::to_owned));
        Ok(if seen < MAX_SHOWN { Flow::Next } else { Flow::Stop })
    })?;
    Ok(out)
}

/// The position of the newest receipt of a room.
pub fn newest(tx: &impl Read, room: RoomNum) -> Result<Pos> {
    let mut newest = 0;
    tables::RECEIPT_LOG.scan_back(tx, (room, 0)..=(room, u64::MAX), |(_, pos), _| {
        newest = pos;
        Ok(Flow::Stop)
    })?;
    Ok(newest)
}

/// One receipt as others see it.
#[derive(Serialize)]
struct Receipt {
    #[serde(skip_serializing_if = "Option::is_none")]
    thread_id: Option<String>,
    ts: u64,
}

/// event ID → receipt type → user ID → receipt
type Content = BTreeMap<String, BTreeMap<String, BTreeMap<String, Receipt>>>;

/// An `m.receipt` event.
#[derive(Serialize)]
pub struct Event {
    content: Content,
    #[serde(rename = "type")]
    kind: &'static str,
}

impl Event {
    /// Several events as one, for answers that have room for one alone: of a person's receipts for one
    /// event in two threads only one is in it.
    pub fn merged(events: Vec<Self>) -> Option<Self> {
        let mut events = events.into_iter();
        let mut all = events.next()?;
        for event in events {
            for (id, kinds) in event.content {
                let known = all.content.entry(id).or_default();
                for (kind, people) in kinds {
                    known.entry(kind).or_default().extend(people);
                }
            }
        }
        Some(all)
    }
}

/// Receipts that somebody is to be shown.
#[derive(Default)]
pub struct Shown {
    /// One event per thread: in one event there is no room for a person's receipts of two threads.
    pub events: Vec<Event>,
    /// Whether some of them are the person's own: their unread counts may have changed.
    pub own: bool,
}

/// The receipts that changed after `since` up to `upto`, as `viewer` may see them; those of `ignored`
/// people left out. With `since` 0 the newest of all.
pub fn changes(
    tx: &impl Read,
    room: RoomNum,
    (since, upto): (Pos, Pos),
    viewer: &UserId,
    ignores: impl Fn(&str) -> bool,
) -> Result<Shown> {
    let (mut names, mut seen) = (BTreeSet::new(), 0);
    tables::RECEIPT_LOG.scan_back(tx, (room, since + 1)..=(room, upto), |_, name| {
        seen += 1;
        let mut parts = name.splitn(3, '\n');
        let (user, kind) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let visible = user == viewer.as_str() || (kind == Kind::Read.name() && !ignores(user));
        if visible {
            names.insert(name);
        }
        Ok(if since == 0 && seen >= MAX_SHOWN { Flow::Stop } else { Flow::Next })
    })?;
    if since == 0 {
        let all = (room, viewer.as_str(), "", "")..=(room, viewer.as_str(), LAST, LAST);
        let mine =
            tables::RECEIPTS.collect(tx, all, |(_, _, kind, thread), _| format!("{viewer}\n{kind}\n{thread}"))?;
        names.extend(mine);
    }
    let mut by_thread: BTreeMap<String, Content> = BTreeMap::new();
    let mut own = false;
    for name in names {
        let parts: Vec<&str> = name.splitn(3, '\n').collect();
        let [user, kind, thread] = parts[..] else { return Err(Error::internal("damaged receipt log")) };
        let row = tables::RECEIPTS.get(tx, (room, user, kind, thread))?;
        let row = row.ok_or_else(|| Error::internal("receipt log without a receipt"))?;
        own |= user == viewer.as_str();
        let receipt = Receipt { thread_id: (!thread.is_empty()).then(|| thread.to_owned()), ts: row.ts };
        let content = by_thread.entry(thread.to_owned()).or_default();
        let kinds = content.entry(row.event_id).or_default();
        kinds.entry(kind.to_owned()).or_default().insert(user.to_owned(), receipt);
    }
    let events = by_thread.into_values().map(|content| Event { content, kind: "m.receipt" }).collect();
    Ok(Shown { events, own })
}
