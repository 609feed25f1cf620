//! Whether an event from another server becomes part of its room. Judged in the order that the spec gives,
//! over what is here: whoever asks fetches what is lacking, and asks again.
//! spec: server-server-api#checks-performed-on-receipt-of-a-pdu (4 to 7)
//!
//! ```text
//!   fetched, checked ──► accept, in the writer ──► accepted, soft-failed, rejected
//!          ▲                   │        │
//!          └── lacks events ◄──┘        └──► too heavy ──► prepare, over a snapshot ──► again
//! ```

use ruma::OwnedEventId;

use super::{
    append::{self, Entry, Incoming, Present},
    auth::{self, Authority, Wanted},
    event::{self, Pdu},
    gaps::{self, Gap},
    outliers::{self, Cited},
    partial,
    pdu::Checked,
    policy::{self, Policy},
    resolve::{self, IN_WRITER, NEW, Newcomer, OUTSIDE, Outcome},
    room::Room,
    state::{Overlay, StateId},
};
use crate::{
    base::Pos,
    error::{Error, Result},
    store::{Read, WriteTx, rows::Standing, tables},
};

/// An event that came in.
#[derive(Clone, Copy)]
pub struct Arrival<'a> {
    /// The event.
    pub event: &'a Checked,
    /// The state before it, where the events before it can't be had and another server has said what it is.
    pub state_before: Option<StateId>,
    /// Whether it comes into the room through us, who then tell the room's other servers.
    pub outgoing: bool,
    /// Whether the room's policy server was asked about it and has not signed it.
    pub unvouched: bool,
}

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was judged, now or before: where it is, and as what.
    Is(Pos, Standing),
    /// Something has to be fetched first.
    Lacks(Lacks),
    /// It has to be thought about for too long to do so in the writer: [`prepare`] first.
    TooHeavy,
}

/// What is not here.
#[derive(Debug, PartialEq, Eq)]
pub enum Lacks {
    /// Events that allow it.
    Auth(Vec<OwnedEventId>),
    /// Events before it, or what the state after them is.
    Prev(Vec<OwnedEventId>),
    /// The signature of the room's policy server.
    Signature(Policy),
}

/// Judges an event and writes it into its room.
pub fn accept(tx: &WriteTx, room: &mut Room, arrival: Arrival<'_>) -> Result<Verdict> {
    if room.is_partial() {
        outliers::check_room(room, arrival.event)?;
        partial::learn(tx, room, arrival.event.pdu())?;
    }
    let gap = gaps::awaiting(tx, room.num, &arrival.event.pdu().id)?;
    let judged = match judge(tx, room, arrival, gap, IN_WRITER)? {
        Judgement::Is(judged) => *judged,
        Judgement::Not(verdict) => return Ok(verdict),
    };
    let pdu = arrival.event.pdu();
    if let Some(why) = &judged.why {
        let standing = judged.standing;
        tracing::debug!(event = %pdu.id, room = %room.row.id, ?standing, why, "an event is not part of the room");
    }
    let incoming = Incoming {
        pdu,
        json: arrival.event.json().to_owned(),
        state_before: judged.before.store(tx, room.row.state)?,
        standing: judged.standing,
        sent_by: None,
        outgoing: arrival.outgoing,
    };
    let pos = match judged.entry {
        Came::Late(gap) => {
            let Some(place) = gaps::place(&gap) else {
                return Err(Error::internal(format!("a gap of {} is full", room.row.id)));
            };
            let pos = append::enter(tx, room, incoming, Entry::Past(place))?;
            gaps::met(tx, room, gap, pos)?;
            pos
        }
        Came::Now(present) => append::enter(tx, room, incoming, Entry::Live(present))?,
    };
    Ok(Verdict::Is(pos, judged.standing))
}

/// An event of a piece of history, with the state before it where no events before it are here.
pub type Piece = [(Checked, Option<StateId>)];

/// Puts a piece of history, the oldest first, at the end of the gap before a place: what is allowed by the
/// state before it. Returns how many events came in; what can't be judged is left out.
pub fn fill(tx: &WriteTx, room: &mut Room, before: i64, events: &Piece) -> Result<usize> {
    let Some(gap) = gaps::last(tx, room.num, before)?.filter(|gap| gap.before == before) else { return Ok(0) };
    match put(tx, room, &gap, events)? {
        Some(Put { count, oldest, behind, .. }) => {
            gaps::moved(tx, room.num, gap, oldest, behind)?;
            Ok(count)
        }
        None => Ok(0),
    }
}

/// The same in the middle of the gap before a place, which becomes two gaps: one before the piece and one
/// after it. Nothing comes in where there is no room for that.
pub fn split(tx: &WriteTx, room: &mut Room, before: i64, events: &Piece) -> Result<usize> {
    let Some(gap) = gaps::last(tx, room.num, before)?.filter(|gap| gap.before == before) else { return Ok(0) };
    let Some(lower) = gaps::lower(&gap) else { return Ok(0) };
    match put(tx, room, &lower, events)? {
        Some(Put { count, oldest, newest, behind }) if count > 0 => {
            gaps::narrow(tx, room.num, gap, newest)?;
            gaps::moved(tx, room.num, lower, oldest, behind)?;
            Ok(count)
        }
        _ => Ok(0),
    }
}

/// What was put into a gap.
struct Put {
    count: usize,
    /// The places of the first and the last.
    oldest: i64,
    newest: i64,
    /// The events before them.
    behind: Vec<OwnedEventId>,
}

/// Puts events at the end of a gap. None if there is no room for them.
fn put(tx: &WriteTx, room: &mut Room, gap: &Gap, events: &Piece) -> Result<Option<Put>> {
    let count = i64::try_from(events.len()).map_err(Error::internal)?;
    let Some(first) = gaps::place(gap).and_then(|place| place.checked_sub(count - 1)) else { return Ok(None) };
    if gap.row.after.is_some_and(|after| first <= after) {
        gaps::give_up(tx, room.num, gap.before)?;
        return Ok(None);
    }
    let mut put = Put { count: 0, oldest: gap.before, newest: i64::MIN, behind: Vec::new() };
    for (index, (event, state_before)) in (first..).zip(events) {
        let arrival = Arrival { event, state_before: *state_before, outgoing: false, unvouched: false };
        let judged = match judge(tx, room, arrival, Some(gap.clone()), IN_WRITER)? {
            Judgement::Is(judged) => judged,
            Judgement::Not(_) => continue,
        };
        let standing = judged.standing;
        let incoming = Incoming {
            pdu: event.pdu(),
            json: event.json().to_owned(),
            state_before: judged.before.store(tx, room.row.state)?,
            standing,
            sent_by: None,
            outgoing: false,
        };
        append::enter(tx, room, incoming, Entry::Past(index))?;
        if standing == Standing::Accepted {
            put.count += 1;
            put.oldest = put.oldest.min(index);
            put.newest = index;
        }
        put.behind.extend(event.pdu().prev_events.iter().cloned());
    }
    Ok(Some(put))
}

/// Thinks ahead, over a snapshot, about what is too heavy for the writer. What comes out of it is remembered
/// by the store. The same answers as of [`accept`], and that it is too heavy even so.
pub fn prepare(tx: &impl Read, room: &Room, arrival: Arrival<'_>) -> Result<bool> {
    let gap = gaps::awaiting(tx, room.num, &arrival.event.pdu().id)?;
    Ok(!matches!(judge(tx, room, arrival, gap, OUTSIDE)?, Judgement::Not(Verdict::TooHeavy)))
}

enum Judgement {
    Is(Box<Judged>),
    Not(Verdict),
}

struct Judged {
    standing: Standing,
    why: Option<String>,
    before: Overlay,
    entry: Came,
}

/// How an event comes into its room.
enum Came {
    /// After what is there.
    Now(Option<Present>),
    /// As something that was missing.
    Late(Gap),
}

/// The verdict, step by step as the spec has it, without writing anything. What belongs into a gap is not
/// judged by the room's present.
fn judge(tx: &impl Read, room: &Room, arrival: Arrival<'_>, gap: Option<Gap>, budget: usize) -> Result<Judgement> {
    let (pdu, rules) = (arrival.event.pdu(), room.rules());
    outliers::check_room(room, arrival.event)?;
    // What was judged before stays so.
    if let Some(pos) = tables::EVENT_IDS.get(tx, pdu.id.as_str())? {
        let row = event::row(tx, pos)?;
        if row.room != room.num {
            return Err(Error::forbidden("the event is in another room"));
        }
        if row.standing != Standing::Outlier {
            return Ok(Judgement::Not(Verdict::Is(pos, row.standing)));
        }
    }
    let entry = gap.map_or(Came::Now(None), Came::Late);
    // 4. The events that it cites itself allow it.
    let cited = match outliers::cited(tx, room, pdu)? {
        Cited::Known(cited) => cited,
        Cited::Lacks(missing) => return Ok(Judgement::Not(Verdict::Lacks(Lacks::Auth(missing)))),
    };
    let by_cited = auth::check_cited(&rules.authorization, pdu, &cited);
    // The state before it: what the events before it lead to.
    let before = match before(tx, room, arrival, budget)? {
        Before::State(before) => before,
        Before::Not(verdict) => return Ok(Judgement::Not(verdict)),
    };
    let is = |standing, why, before, entry| Ok(Judgement::Is(Box::new(Judged { standing, why, before, entry })));
    if let Err(why) = by_cited {
        return is(Standing::Rejected, Some(why), before, entry);
    }
    // 5. The state before it allows it.
    if let Err(why) = allows(tx, room, &before, pdu)? {
        return is(Standing::Rejected, Some(why), before, entry);
    }
    if let Came::Late(_) = entry {
        return is(Standing::Accepted, None, before, entry);
    }
    // 6. The room's current state allows it.
    let now = Overlay::of(room.row.state);
    if before != now
        && !room.row.extremities.is_empty()
        && let Err(why) = allows(tx, room, &now, pdu)?
    {
        return is(Standing::SoftFailed, Some(why), before, entry);
    }
    // 7. The room's policy server welcomes it.
    match unwelcome(tx, room, arrival)? {
        Some(policy) if arrival.unvouched => {
            let why = format!("{} does not welcome it", policy.server);
            return is(Standing::SoftFailed, Some(why), before, entry);
        }
        Some(policy) => return Ok(Judgement::Not(Verdict::Lacks(Lacks::Signature(policy)))),
        None => {}
    }
    // What the room's state is once it is part of it.
    match present(tx, room, pdu, &before, budget)? {
        Some(present) => is(Standing::Accepted, None, before, Came::Now(Some(present))),
        None => Ok(Judgement::Not(Verdict::TooHeavy)),
    }
}

/// The room's policy server, if it has not said yet that an event is welcome.
fn unwelcome(tx: &impl Read, room: &Room, arrival: Arrival<'_>) -> Result<Option<Policy>> {
    let policy = policy::for_event(tx, room, arrival.event.pdu())?;
    Ok(policy.filter(|policy| !room.row.extremities.is_empty() && arrival.event.vouched() != Some(policy)))
}

enum Before {
    State(Overlay),
    Not(Verdict),
}

/// The state before an event: resolved from those after the events before it.
fn before(tx: &impl Read, room: &Room, arrival: Arrival<'_>, budget: usize) -> Result<Before> {
    if let Some(told) = arrival.state_before {
        return Ok(Before::State(Overlay::of(told)));
    }
    let (mut states, mut missing) = (Vec::new(), Vec::new());
    for id in &arrival.event.pdu().prev_events {
        match after(tx, room, id)? {
            Some(state) => states.push(state),
            None if room.is_partial()
                && let Some(state) = partial::after_end(tx, room, id)? =>
            {
                states.push(Overlay::of(state));
            }
            None => missing.push(id.clone()),
        }
    }
    if !missing.is_empty() {
        return Ok(Before::Not(Verdict::Lacks(Lacks::Prev(missing))));
    }
    match resolve::resolve(tx, &room.rules(), &states, None, budget)? {
        Outcome::Resolved(state) => Ok(Before::State(state)),
        Outcome::TooHeavy => Ok(Before::Not(Verdict::TooHeavy)),
    }
}

/// The state after an event, if that is known: not of events that are known only as part of a state.
pub(super) fn after(tx: &impl Read, room: &Room, id: &OwnedEventId) -> Result<Option<Overlay>> {
    let Some(pos) = tables::EVENT_IDS.get(tx, id.as_str())? else { return Ok(None) };
    let row = event::row(tx, pos)?;
    if row.room != room.num {
        return Err(Error::forbidden("the event names one of another room as before it"));
    }
    let after = event::state_after(tx, pos)?;
    // No state but the one before the first event is empty.
    let is_known = row.standing != Standing::Outlier && after != Overlay::of(0);
    Ok(is_known.then_some(after))
}

/// Whether a state allows an event; the reason if not.
pub(super) fn allows(tx: &impl Read, room: &Room, state: &Overlay, pdu: &Pdu) -> Result<Result<(), String>> {
    let rules = room.rules().authorization;
    let wanted =
        Wanted { kind: &pdu.kind, sender: &pdu.sender, state_key: pdu.state_key.as_deref(), content: &pdu.content };
    let verdict =
        Authority::choose_in(tx, &rules, state, &wanted).and_then(|authority| authority.check_state(&rules, pdu));
    match verdict {
        Ok(()) => Ok(Ok(())),
        Err(error) if error.cause().is_none() => Ok(Err(error.message().to_owned())),
        Err(error) => Err(error),
    }
}

/// The room's state with an event that is not written yet. None if that is too heavy.
fn present(tx: &impl Read, room: &Room, pdu: &Pdu, before: &Overlay, budget: usize) -> Result<Option<Present>> {
    let newcomer = Newcomer::of(tx, pdu)?;
    let mut own = before.clone();
    if let Some(newcomer) = &newcomer {
        own.set(tx, newcomer.key, NEW)?;
    }
    let mut states = vec![own];
    for (pos, _) in append::ends_before(tx, room, pdu)? {
        states.push(event::state_after(tx, pos)?);
    }
    match resolve::resolve(tx, &room.rules(), &states, newcomer.as_ref(), budget)? {
        Outcome::Resolved(state) => Ok(Some(Present { key: newcomer.map(|newcomer| newcomer.key), state })),
        Outcome::TooHeavy => Ok(None),
    }
}

#[cfg(test)]
mod tests;
