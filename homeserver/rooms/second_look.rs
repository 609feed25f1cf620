//! What came into a room while not all of its members were known, judged once more when they are, in the order of
//! its coming, as if the room had been whole from the beginning: an event whose sender had been put out before is
//! rejected after all, one that was refused for want of what is known now comes in, and states that forked are
//! resolved anew.
//!
//! ```text
//!  CAME ─► ahead, over a snapshot: does it hold? ─ yes ─► on ────────────────────────────┐
//!               └─ no ─► judge_some, in the writer, some at a time ─► on ─► nothing left ─► settle
//! ```
//!
//! 1. Whatever comes into the room is noted (`came`) until all has been looked at, so that also what comes
//!    meanwhile is judged by what has become of that which it stands on.
//! 2. [`ahead`] only reads: in most rooms everything holds.
//! 3. [`judge_some`] writes what has become of events. The room's present stays beside it until all is done;
//!    what it will be is in `PartialRow::look`, which is where a restart goes on.
//! 4. [`judge_some`] at last puts the room's present in step, some of it at a time. What clients were told is not
//!    taken back from them: a place without an event tells them what the state is.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use ruma::OwnedEventId;

use super::{
    accept, append, auth,
    event::{self, Pdu},
    guests, members,
    outliers::{self, Cited},
    partial::{self, PartialRow},
    policy::{self, Policy},
    receipts, redact, relations,
    resolve::{self, Outcome},
    room::Room,
    search,
    state::{self, Overlay, StateId},
    timeline::order_of,
};
use crate::{
    base::{Pos, RoomNum},
    error::{Error, Result},
    store::{
        Flow, Read, WriteTx,
        rows::{CameRow, EventRow, How, LookRow, Place, Standing},
        tables,
    },
};

/// Events that are looked at in one go over a snapshot, and in one job.
const AHEAD: usize = if cfg!(test) { 5 } else { 500 };
const IN_JOB: usize = if cfg!(test) { 3 } else { 100 };
/// How long a job goes on judging: what other people's requests wait for besides.
const MOMENT: Duration = Duration::from_millis(10);
/// Pieces of state by which the room's present is changed in one job.
const STEP: usize = if cfg!(test) { 2 } else { 100 };

/// Notes that an event has come into a room, if it is to be judged once more.
pub(super) fn came(tx: &WriteTx, room: &Room, event: Pos, how: How) -> Result<()> {
    match room.row.looked_at_again {
        true => tables::CAME.put(tx, (room.num, tx.next_pos()), &CameRow { event, how }),
        false => Ok(()),
    }
}

/// What a job has come to.
#[derive(Debug)]
pub enum Went {
    /// There is more.
    On,
    /// The next event has to be thought about for too long to do so in the writer: [`prepare`] first.
    TooHeavy,
    /// The room's policy server has to be asked about the next event, which is this.
    Unsigned(Box<(Policy, String)>),
    /// Everything has been looked at.
    Over,
}

/// What is known of the next event besides what is here.
#[derive(Clone, Debug)]
pub enum Known {
    /// It is too heavy, whoever thinks about it.
    TooHeavy,
    /// The room's policy server was asked: the event as it has signed it, if it has.
    Asked(Option<String>),
}

/// A look over a snapshot.
pub struct Ahead {
    from: LookRow,
    to: Working,
}

/// A room as it would be if nothing had come after an event.
#[derive(Clone)]
struct Working {
    room: Room,
    state: Overlay,
    after: Pos,
    changed: bool,
}

/// Looks at events as long as they hold. None if there are none, or the next one does not.
pub fn ahead(tx: &impl Read, num: RoomNum) -> Result<Option<Ahead>> {
    let Some((_, mut working)) = begin(tx, num)? else { return Ok(None) };
    let from = working.row(working.state.base);
    if from.changed {
        return Ok(None);
    }
    for (arrival, came) in next(tx, num, working.after, AHEAD)? {
        let judged = judge(tx, &working, came, (None, resolve::OUTSIDE))?;
        match judged {
            Judged::Gone => {}
            Judged::Is(again) if again.holds(tx)? => working.go_over(&again),
            _ => break,
        }
        working.after = arrival;
    }
    Ok((working.after != from.after).then_some(Ahead { from, to: working }))
}

/// Notes how far everything holds.
pub fn confirm(tx: &WriteTx, num: RoomNum, ahead: &Ahead) -> Result<()> {
    let Some((mut partial, working)) = begin(tx, num)? else { return Ok(()) };
    if working.row(working.state.base) != ahead.from {
        return Ok(());
    }
    let state = ahead.to.state.store(tx, working.room.row.state)?;
    partial.look = Some(ahead.to.row(state));
    tables::CAME.remove_range(tx, (num, 0)..=(num, ahead.to.after))?;
    tables::PARTIAL.put(tx, num, &partial)
}

/// Thinks ahead, over a snapshot, about what is too heavy for the writer: what comes out of it is remembered by
/// the store. False if it is too heavy even so.
pub fn prepare(tx: &impl Read, num: RoomNum) -> Result<bool> {
    let Some((_, working)) = begin(tx, num)? else { return Ok(true) };
    let Some((_, came)) = next(tx, num, working.after, 1)?.pop() else { return Ok(true) };
    Ok(!matches!(judge(tx, &working, came, (None, resolve::OUTSIDE))?, Judged::TooHeavy))
}

/// Judges some events once more, and writes what has become of them; once there are none left, puts the room's
/// present in step with it.
pub fn judge_some(tx: &WriteTx, num: RoomNum, known: Option<&Known>) -> Result<Went> {
    let began = Instant::now();
    let Some((partial, mut working)) = begin(tx, num)? else { return Ok(Went::Over) };
    let came = next(tx, num, working.after, IN_JOB)?;
    if came.is_empty() {
        return settle(tx, partial, &working);
    }
    let mut went = Went::On;
    for (index, (arrival, came)) in came.into_iter().enumerate() {
        let known = known.filter(|_| index == 0);
        number(tx, came)?;
        match judge(tx, &working, came, (known, resolve::IN_WRITER))? {
            Judged::Gone => {}
            Judged::Is(again) => working.take(tx, *again)?,
            Judged::TooHeavy => went = Went::TooHeavy,
            Judged::Unsigned(policy, json) => went = Went::Unsigned(Box::new((policy, json))),
        }
        if !matches!(went, Went::On) {
            break;
        }
        tables::CAME.remove(tx, (num, arrival))?;
        working.after = arrival;
        if began.elapsed() > MOMENT {
            break;
        }
    }
    let state = working.state.store(tx, Room::at(tx, num)?.row.state)?;
    let look = Some(working.row(state));
    tables::PARTIAL.put(tx, num, &PartialRow { look, ..partial })?;
    Ok(went)
}

/// Forgets some of what was noted of a room, as it was left: true once nothing is.
pub fn forget(tx: &WriteTx, num: RoomNum) -> Result<bool> {
    let left = next(tx, num, 0, IN_JOB)?;
    for (arrival, _) in &left {
        tables::CAME.remove(tx, (num, *arrival))?;
    }
    Ok(forget_redacted(tx, num)? && left.len() < IN_JOB)
}

/// What was redacted is gone for good.
fn forget_redacted(tx: &WriteTx, num: RoomNum) -> Result<bool> {
    let mut left = Vec::new();
    tables::REDACTED_MEANWHILE.scan(tx, (num, 0)..=(num, Pos::MAX), |(_, pos), _| {
        left.push(pos);
        Ok(if left.len() < IN_JOB { Flow::Next } else { Flow::Stop })
    })?;
    for pos in &left {
        tables::REDACTED_MEANWHILE.remove(tx, (num, *pos))?;
    }
    Ok(left.len() < IN_JOB)
}

/// The next events that are to be judged once more, in the order of their coming.
fn next(tx: &impl Read, num: RoomNum, after: Pos, most: usize) -> Result<Vec<(Pos, CameRow)>> {
    let mut out = Vec::new();
    tables::CAME.scan(tx, (num, after.saturating_add(1))..=(num, Pos::MAX), |(_, arrival), row| {
        out.push((arrival, row));
        Ok(if out.len() < most { Flow::Next } else { Flow::Stop })
    })?;
    Ok(out)
}

/// Where the look stands: at the beginning as the room was when it had been entered. None if there is nothing to
/// be looked at.
fn begin(tx: &impl Read, num: RoomNum) -> Result<Option<(PartialRow, Working)>> {
    let Some(partial) = partial::of(tx, num)?.filter(|row| row.whole != 0) else { return Ok(None) };
    let mut room = Room::at(tx, num)?;
    if !room.row.looked_at_again {
        return Ok(None);
    }
    let look = match &partial.look {
        Some(look) => look.clone(),
        None => {
            let join = event::position(tx, &event::parse_id(&partial.join)?)?;
            let join = join.ok_or_else(|| Error::internal("the join is missing by which a room was entered"))?;
            let state = event::row(tx, join)?.state_after;
            LookRow { after: 0, ends: vec![(join, partial.join.clone())], state, changed: false }
        }
    };
    (room.row.extremities, room.row.state) = (look.ends, look.state);
    let working = Working { state: Overlay::of(look.state), room, after: look.after, changed: look.changed };
    Ok(Some((partial, working)))
}

/// What comes of an event.
enum Judged {
    Is(Box<Again>),
    /// It is not here any more, or something else speaks for it.
    Gone,
    TooHeavy,
    Unsigned(Policy, String),
}

/// A room's ends, and its state.
type Present = (Vec<(Pos, String)>, Overlay);

/// An event that was judged once more.
struct Again {
    pdu: Pdu,
    row: EventRow,
    /// The event as its policy server has signed it by now.
    signed: Option<String>,
    standing: Standing,
    before: Overlay,
    /// The room's ends and state with it, if it is one of them.
    present: Option<Present>,
}

impl Again {
    /// Whether it is what it was taken for.
    fn holds(&self, tx: &impl Read) -> Result<bool> {
        Ok(self.standing == self.row.standing && self.before.is(tx, self.row.state_before)?)
    }
}

/// Judges an event as [`accept::accept`] would have done if the room had been what it is now taken for.
fn judge(tx: &impl Read, working: &Working, came: CameRow, (known, budget): (Option<&Known>, usize)) -> Result<Judged> {
    let (room, now) = (&working.room, &working.state);
    let Some(row) = tables::EVENTS.get(tx, came.event)? else { return Ok(Judged::Gone) };
    let pdu = Pdu::at(tx, came.event)?;
    let by_cited = match outliers::cited(tx, room, &pdu)? {
        Cited::Known(cited) => auth::check_cited(&room.rules().authorization, &pdu, &cited).is_ok(),
        Cited::Lacks(_) => false,
    };
    let is = |standing, before, present, signed| {
        Ok(Judged::Is(Box::new(Again { pdu: pdu.clone(), row: row.clone(), signed, standing, before, present })))
    };
    if came.how == How::Kept {
        // It has come into the room itself since: then that is judged.
        if row.state_before != 0 {
            return Ok(Judged::Gone);
        }
        return is(if by_cited { Standing::Outlier } else { Standing::Rejected }, Overlay::of(0), None, None);
    }
    if let Some(Known::TooHeavy) = known {
        return is(Standing::SoftFailed, Overlay::of(row.state_before), None, None);
    }
    let before = match before(tx, room, (&pdu, &row), budget)? {
        Outcome::Resolved(before) => before,
        Outcome::TooHeavy => return Ok(Judged::TooHeavy),
    };
    if !by_cited || accept::allows(tx, room, &before, &pdu)?.is_err() {
        return is(Standing::Rejected, before, None, None);
    }
    if came.how == How::Late {
        return is(Standing::Accepted, before, None, None);
    }
    if before != *now && !room.row.extremities.is_empty() && accept::allows(tx, room, now, &pdu)?.is_err() {
        return is(Standing::SoftFailed, before, None, None);
    }
    let mut signed = None;
    if let Some(policy) = policy::for_event_in(tx, (room.num, now), &pdu)?.filter(|_| row.sent_by.is_none()) {
        match known {
            _ if policy.has_signed(&row.pdu, &room.rules()) => {}
            Some(Known::Asked(Some(json))) => signed = Some(json.clone()),
            Some(_) => return is(Standing::SoftFailed, before, None, None),
            None => return Ok(Judged::Unsigned(policy, row.pdu)),
        }
    }
    let mut after = before.clone();
    if let Some(state_key) = &pdu.state_key {
        match state::key(tx, &pdu.name, state_key)? {
            Some(key) => after.set(tx, key, pdu.pos)?,
            // That of a rejected event may have no number before the writer has given it one.
            None => return is(Standing::Accepted, before, None, signed),
        }
    }
    match present(tx, room, (&pdu, after), budget)? {
        Some(present) => is(Standing::Accepted, before, Some(present), signed),
        None => Ok(Judged::TooHeavy),
    }
}

/// A room's ends and its state with an event. None if that is too heavy.
fn present(tx: &impl Read, room: &Room, (pdu, after): (&Pdu, Overlay), budget: usize) -> Result<Option<Present>> {
    let (mut states, mut ends) = (vec![after], append::ends_before(tx, room, pdu)?);
    for (pos, _) in &ends {
        states.push(event::state_after(tx, *pos)?);
    }
    ends.push((pdu.pos, pdu.id.to_string()));
    match resolve::resolve(tx, &room.rules(), &states, None, budget)? {
        Outcome::Resolved(state) => Ok(Some((ends, state))),
        Outcome::TooHeavy => Ok(None),
    }
}

/// Sees to it that an event's state key has a number, also if it was rejected.
fn number(tx: &WriteTx, came: CameRow) -> Result<()> {
    if !tables::EVENTS.has(tx, came.event)? {
        return Ok(());
    }
    let pdu = Pdu::at(tx, came.event)?;
    pdu.state_key.map_or(Ok(()), |key| state::key_or_new(tx, &pdu.name, &key).map(drop))
}

/// The state before an event. Where what is before it is not here, it is what it was given.
fn before(tx: &impl Read, room: &Room, (pdu, row): (&Pdu, &EventRow), budget: usize) -> Result<Outcome> {
    let given = || Ok(Outcome::Resolved(Overlay::of(row.state_before)));
    let mut states = Vec::with_capacity(pdu.prev_events.len());
    for id in &pdu.prev_events {
        match state_after(tx, room, id)? {
            Some(state) => states.push(state),
            None => return given(),
        }
    }
    match states.is_empty() {
        true => given(),
        false => resolve::resolve(tx, &room.rules(), &states, None, budget),
    }
}

fn state_after(tx: &impl Read, room: &Room, id: &OwnedEventId) -> Result<Option<Overlay>> {
    match accept::after(tx, room, id)? {
        Some(state) => Ok(Some(state)),
        None => Ok(partial::after_end(tx, room, id)?.map(Overlay::of)),
    }
}

impl Working {
    fn row(&self, state: StateId) -> LookRow {
        LookRow { after: self.after, ends: self.room.row.extremities.clone(), state, changed: self.changed }
    }

    fn go_over(&mut self, again: &Again) {
        if let Some((ends, state)) = &again.present {
            self.room.row.extremities.clone_from(ends);
            self.state = state.clone();
        }
    }

    /// Writes what has become of an event.
    fn take(&mut self, tx: &WriteTx, mut again: Again) -> Result<()> {
        if !again.holds(tx)? {
            self.changed = true;
            again = self.change(tx, again)?;
        }
        if self.changed && again.standing != Standing::Outlier {
            redact::look_again(tx, &self.room, &again.pdu, again.standing == Standing::Accepted)?;
        }
        self.go_over(&again);
        Ok(())
    }

    fn change(&self, tx: &WriteTx, again: Again) -> Result<Again> {
        let Again { pdu, mut row, signed, standing, before, present } = again;
        let (was, place) = (row.standing, row.place(pdu.pos));
        tracing::debug!(event = %pdu.id, room = %self.room.row.id, ?was, now = ?standing, "an event is judged anew");
        row.standing = standing;
        row.state_before = before.store(tx, row.state_before)?;
        row.state_after = match &pdu.state_key {
            Some(key) if !matches!(standing, Standing::Rejected | Standing::Outlier) => {
                let key = state::key_or_new(tx, &pdu.name, key)?;
                state::with(tx, row.state_before, &BTreeMap::from([(key, pdu.pos)]))?
            }
            Some(_) => row.state_before,
            None => 0,
        };
        if let Some(json) = &signed {
            row.pdu.clone_from(json);
        }
        if let Some(order) = place.filter(|_| standing != Standing::Accepted) {
            tables::TIMELINE.remove(tx, (self.room.num, order))?;
            search::forget(tx, pdu.pos)?;
            relations::forget(tx, self.room.num, order, &pdu)?;
            row.order = 0;
        }
        if standing == Standing::Accepted && was != Standing::Accepted {
            row.order = self.show(tx, &pdu, &row)?;
        } else {
            tables::EVENTS.put(tx, pdu.pos, &row)?;
        }
        Ok(Again { pdu, row, signed, standing, before, present })
    }

    /// Puts an event into the timeline, as the newest: nobody has been shown it.
    fn show(&self, tx: &WriteTx, pdu: &Pdu, row: &EventRow) -> Result<i64> {
        let (num, at) = (self.room.num, tx.next_pos());
        let order = order_of(at);
        tables::LATE_EVENTS.put(tx, at, &pdu.pos)?;
        tables::EVENTS.put(tx, pdu.pos, &EventRow { order, ..row.clone() })?;
        let state_after = Room::at(tx, num)?.row.state;
        tables::TIMELINE.put(tx, (num, order), &Place { event: pdu.pos, state_after })?;
        redact::meet(tx, &self.room, pdu.pos, pdu)?;
        relations::index(tx, num, (order, pdu.pos), pdu)?;
        search::came_late(tx, pdu.pos, pdu)?;
        receipts::meet(tx, &self.room, &pdu.id)?;
        tx.wake(|wake| {
            wake.rooms.insert(num);
        });
        Ok(order)
    }
}

/// Nothing is left to be judged: the room is what it is now taken for, some of its state at a time.
fn settle(tx: &WriteTx, mut partial: PartialRow, working: &Working) -> Result<Went> {
    let num = working.room.num;
    if !forget_redacted(tx, num)? {
        return Ok(Went::On);
    }
    let mut room = Room::at(tx, num)?;
    let old = room.row.state;
    let changes = state::diff(tx, old, working.state.base)?;
    let is_last = changes.len() <= STEP;
    room.row.state = match is_last {
        true if changes.is_empty() => old,
        true => working.state.base,
        false => state::with(tx, old, &changes.into_iter().take(STEP).collect())?,
    };
    let now = tx.next_pos();
    if room.row.state != old || (is_last && working.changed) {
        let place = Place { event: 0, state_after: room.row.state };
        tables::TIMELINE.put(tx, (num, order_of(now)), &place)?;
        members::follow(tx, &mut room, old, now)?;
        guests::follow(tx, &room, old)?;
        room.note_state(tx)?;
        tx.wake(|wake| {
            wake.rooms.insert(num);
        });
    }
    if is_last {
        room.row.extremities.clone_from(&working.room.row.extremities);
        room.row.looked_at_again = false;
        partial.look = None;
        tables::PARTIAL.put(tx, num, &partial)?;
        if working.changed {
            tracing::warn!(room = %room.row.id, "events in {} were not what they were taken for", room.row.id);
        }
    }
    room.save(tx)?;
    Ok(if is_last { Went::Over } else { Went::On })
}
