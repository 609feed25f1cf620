//! A piece of one room: the newest events of its timeline, and the state that goes with them.
//!
//! ```text
//!      since                 first shown               upto
//!   ─────┼────── gap ───────────┼───── timeline ─────────┤
//!        └──── state ──────────►│                        │
//!        └──── state_after ─────────────────────────────►│
//! ```

use std::collections::{BTreeMap, BTreeSet, HashSet};

use ruma::events::StateEventType;
use serde_json::value::RawValue;

use super::{
    StateAt,
    body::{Events, State, Timeline},
    turn::Turn,
};
use crate::{
    accounts::filters::Format,
    base::{Pos, RoomNum, json},
    error::Result,
    rooms::{
        Room,
        event::{self, Slices},
        filter::{is_related, passes},
        gaps, redact,
        state::{self, StateId},
        timeline::{self, View},
    },
    store::{
        Read,
        rows::{EventRow, Place},
    },
};

/// Events of a timeline in one answer, unless the client's filter says otherwise.
const DEFAULT_LIMIT: usize = 10;
/// Events of a timeline in one answer at most.
const MAX_LIMIT: usize = 100;
/// Events that are looked at for them at most, shown or not.
const MAX_LOOK: usize = 1000;

/// Which piece of a room.
pub struct Span {
    /// After which place; None from the beginning.
    pub since: Option<i64>,
    /// Up to and with which place.
    pub upto: i64,
    /// Events at most.
    pub limit: usize,
}

/// Events that are shown.
pub struct Shown {
    /// The section.
    pub timeline: Timeline,
    senders: BTreeSet<String>,
    positions: HashSet<Pos>,
    /// The room's state before the first of them, and after the last.
    start: StateId,
    end: StateId,
    /// The state that the client knows already.
    known: Option<StateId>,
    /// The person's membership event, if they have to be told of it.
    own: Option<Pos>,
}

impl Shown {
    /// The state keys that are different from what the client knows: (key number, position).
    pub fn changed_state(&self, tx: &impl Read) -> Result<Vec<(u64, Pos)>> {
        match self.known {
            Some(known) => state::diff(tx, known, self.end),
            None => state::all(tx, self.end),
        }
    }

    /// Who sent what is shown.
    pub fn senders(&self) -> impl Iterator<Item = &str> {
        self.senders.iter().map(String::as_str)
    }

    /// How many of the events came after a position.
    pub fn live(&self, since: Pos) -> usize {
        self.positions.iter().filter(|pos| **pos > since).count()
    }

    /// The state that the client knows already.
    pub fn known(&self) -> Option<StateId> {
        self.known
    }

    /// Takes the client for one that knows no state.
    pub fn forget_known(&mut self) {
        self.known = None;
    }

    /// Takes the client for one that knows all state, or need not.
    pub fn know_all(&mut self) {
        (self.known, self.start) = (Some(self.end), self.end);
    }

    /// Takes care that the person is told of their own membership event: in the timeline or the state.
    pub fn tell(&mut self, own: Pos) {
        self.own = Some(own);
    }

    /// Whether there is nothing new.
    pub fn is_empty(&self) -> bool {
        self.timeline.events.is_empty() && !self.timeline.limited && self.known == Some(self.end)
    }
}

/// Collects events from the newest back.
struct Collector<'c, 'a, R: Read> {
    turn: &'c Turn<'a, R>,
    room: &'c Room,
    limit: usize,
    looked: usize,
    /// The newest first.
    events: Vec<Box<RawValue>>,
    senders: BTreeSet<String>,
    positions: HashSet<Pos>,
    /// The oldest place that was shown, or at the end of one's patience looked at.
    first: Option<i64>,
    limited: bool,
}

/// The newest events of a span that the person may see and wants to; and behind them `last`, whether they
/// may see it or not.
pub fn timeline(
    turn: &Turn<'_, impl Read>,
    room: &Room,
    view: &mut View<'_>,
    span: &Span,
    last: Option<Pos>,
) -> Result<Shown> {
    let tx = turn.tx;
    // What lies before a gap is not what comes before what lies after it.
    let after = span.since.unwrap_or(i64::MIN);
    let gap = gaps::last(tx, room.num, span.upto)?.map(|gap| gap.before).filter(|before| *before > after);
    let after = gap.map_or(after, |before| before.saturating_sub(1));
    let mut collector = Collector {
        turn,
        room,
        limit: span.limit,
        looked: 0,
        events: Vec::new(),
        senders: BTreeSet::new(),
        positions: HashSet::new(),
        first: None,
        limited: false,
    };
    if let Some(last) = last {
        collector.add_last(view, last)?;
    }
    let (mut upto, mut chunk) = (span.upto, collector.limit + 1);
    loop {
        let places = timeline::back(tx, room.num, after, upto, chunk)?;
        let full = places.len() == chunk;
        let ended = !collector.look(view, &places)?;
        match places.last() {
            Some((order, _)) if full && !ended => (upto, chunk) = (order - 1, 100),
            _ => break,
        }
    }
    collector.finish(span, gap)
}

/// Events that a client wants of a timeline.
pub fn limit(turn: &Turn<'_, impl Read>) -> usize {
    let filter = &turn.ask.filter.room.timeline;
    filter.limit.map_or(DEFAULT_LIMIT, |limit| usize::try_from(limit).unwrap_or(MAX_LIMIT)).min(MAX_LIMIT)
}

impl<R: Read> Collector<'_, '_, R> {
    /// Takes in what may be shown. False once there are enough.
    fn look(&mut self, view: &mut View<'_>, places: &[(i64, Place)]) -> Result<bool> {
        for (order, place) in places {
            self.looked += 1;
            let row = event::row(self.turn.tx, place.event)?;
            let slices = Slices::of(&row)?;
            if self.wants(&slices)
                && is_related(self.turn.tx, &self.turn.ask.filter.room.timeline, view, &row)?
                && let Some(event) = view.see_slices(self.turn.tx, place.event, &row, &slices)?
            {
                if self.events.len() == self.limit {
                    self.limited = true;
                    return Ok(false);
                }
                self.events.push(format(self.turn, view, &row, event)?);
                if row.sent_by.as_ref().is_some_and(|(device, _)| *device == self.turn.ask.device)
                    && slices.sender == self.turn.ask.user.as_str()
                {
                    self.turn.echo.set(true);
                }
                self.senders.insert(slices.sender.into_owned());
                self.positions.insert(place.event);
                self.first = Some(*order);
            }
            if self.looked == MAX_LOOK {
                (self.limited, self.first) = (true, Some(*order));
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes in the event after the span.
    fn add_last(&mut self, view: &mut View<'_>, pos: Pos) -> Result<()> {
        let row = event::row(self.turn.tx, pos)?;
        let slices = Slices::of(&row)?;
        let filter = &self.turn.ask.filter.room.timeline;
        if self.wants(&slices) && is_related(self.turn.tx, filter, view, &row)? {
            if self.limit == 0 {
                self.limited = true;
                return Ok(());
            }
            let event = view.show(self.turn.tx, (pos, &row), &slices)?;
            self.events.push(format(self.turn, view, &row, event)?);
            self.senders.insert(slices.sender.into_owned());
            self.positions.insert(pos);
        }
        Ok(())
    }

    fn wants(&self, event: &Slices<'_>) -> bool {
        // spec: client-server-api#ignoring-users: state events are sent all the same.
        let ignored = event.state_key.is_none() && self.turn.facts.ignores(&event.sender);
        !ignored && passes(&self.turn.ask.filter.room.timeline, &self.room.row.id, event)
    }

    fn finish(mut self, span: &Span, gap: Option<i64>) -> Result<Shown> {
        let (tx, room) = (self.turn.tx, self.room.num);
        let known = match span.since {
            Some(since) => Some(timeline::state_at(tx, room, since)?),
            None => None,
        };
        let end = timeline::state_at(tx, room, span.upto)?;
        self.limited |= gap.is_some();
        let before = self.first.or(gap).unwrap_or(span.upto.saturating_add(1)).saturating_sub(1);
        let start = match (self.limited, known) {
            // Nothing was left out, so the timeline begins where the client's knowledge ends.
            (false, Some(known)) => known,
            _ => state_before(tx, room, self.first, before)?,
        };
        self.events.reverse();
        let timeline = Timeline { events: self.events, limited: self.limited, prev_batch: timeline::token(before) };
        Ok(Shown { timeline, senders: self.senders, positions: self.positions, start, end, known, own: None })
    }
}

/// The room's state before the first event that is shown. Behind a gap that is not what the last event before
/// the gap led to.
fn state_before(tx: &impl Read, room: RoomNum, first: Option<i64>, before: i64) -> Result<StateId> {
    if let Some(first) = first
        && gaps::last(tx, room, first)?.is_some_and(|gap| gap.before == first)
        && let Some((_, place)) = timeline::last(tx, room, first)?
    {
        return Ok(event::row(tx, place.event)?.state_before);
    }
    timeline::state_at(tx, room, before)
}

/// The state that goes with some events, as the client wants it. With lazy loading it holds of the
/// members those who sent the events, the person, and `heroes`.
pub fn state(
    turn: &Turn<'_, impl Read>,
    room: &Room,
    view: &mut View<'_>,
    shown: &Shown,
    heroes: &[ruma::OwnedUserId],
) -> Result<State> {
    let filter = &turn.ask.filter.room.state;
    let lazy = filter.lazy_load_members.then_some(filter.include_redundant_members);
    let mut wanted = changes(turn, shown, lazy.is_some())?;
    if let Some(redundant) = lazy {
        add_members(turn, room, shown, heroes, redundant, &mut wanted)?;
    }
    // In the order in which they came to be.
    let mut by_pos: Vec<_> = wanted.into_iter().map(|(key, pos)| (pos, key)).collect();
    by_pos.sort_unstable();
    let mut events = Vec::with_capacity(by_pos.len());
    for (pos, key) in by_pos {
        let row = event::row(turn.tx, pos)?;
        let slices = Slices::of(&row)?;
        if passes(filter, &room.row.id, &slices) && is_related(turn.tx, filter, view, &row)? {
            let event = view.show(turn.tx, (pos, &row), &slices)?;
            events.push(format(turn, view, &row, event)?);
            if lazy.is_some() && state::is_member(key) {
                turn.hub.lazy.note(turn.ask, room.num, key, (pos, turn.now));
            }
        }
    }
    Ok(match turn.ask.state_at {
        StateAt::Start => State::Start(Events { events }),
        StateAt::End => State::End(Events { events }),
        StateAt::UnstableEnd => State::UnstableEnd(Events { events }),
    })
}

/// What is different from what the client knows: key number to position.
fn changes(turn: &Turn<'_, impl Read>, shown: &Shown, lazy: bool) -> Result<BTreeMap<u64, Pos>> {
    let tx = turn.tx;
    let upto = if turn.ask.state_at == StateAt::Start { shown.start } else { shown.end };
    let mut wanted: BTreeMap<u64, Pos> = match shown.known {
        Some(known) => state::diff(tx, known, upto)?.into_iter().collect(),
        None if lazy => state::without_members(tx, upto)?.into_iter().collect(),
        None => state::all(tx, upto)?.into_iter().collect(),
    };
    // What changed within the timeline and is not shown there is told here, or the client would never
    // know.
    for (key, pos) in state::diff(tx, shown.start, shown.end)? {
        if !shown.positions.contains(&pos) {
            wanted.insert(key, pos);
        }
    }
    wanted.retain(|_, pos| *pos != 0);
    if let Some(own) = shown.own
        && (turn.ask.state_at != StateAt::Start || !shown.positions.contains(&own))
        && let Some(key) = state::key(tx, &StateEventType::RoomMember.to_string(), turn.ask.user.as_str())?
    {
        wanted.insert(key, own);
    }
    Ok(wanted)
}

fn add_members(
    turn: &Turn<'_, impl Read>,
    room: &Room,
    shown: &Shown,
    heroes: &[ruma::OwnedUserId],
    redundant: bool,
    wanted: &mut BTreeMap<u64, Pos>,
) -> Result<()> {
    let tx = turn.tx;
    let at = if turn.ask.state_at == StateAt::Start { shown.start } else { shown.end };
    let own = shown.known.is_none().then(|| turn.ask.user.as_str());
    let users = shown.senders.iter().map(String::as_str).chain(own).chain(heroes.iter().map(|user| user.as_str()));
    for user in users {
        let Some(key) = state::key(tx, &StateEventType::RoomMember.to_string(), user)? else { continue };
        if wanted.contains_key(&key) {
            continue;
        }
        if let Some(pos) = state::at(tx, at, key)?
            && (redundant || !turn.hub.lazy.has(turn.ask, room.num, key, pos))
        {
            wanted.insert(key, pos);
        }
    }
    Ok(())
}

/// An event in the form that the filter asks for.
pub fn format(
    turn: &Turn<'_, impl Read>,
    view: &mut View<'_>,
    row: &EventRow,
    event: Box<RawValue>,
) -> Result<Box<RawValue>> {
    let filter = &turn.ask.filter;
    let event = match filter.event_format {
        // What somebody said who wanted to be forgotten is no more to be seen in this form than in the other.
        Format::Federation if view.hides(turn.tx, &Slices::of(row)?.sender)? => {
            json::raw(redact::emptied(view.room, row)?.pdu)?
        }
        Format::Federation => json::raw(row.pdu.clone())?,
        Format::Client => event,
    };
    match &filter.event_fields {
        Some(fields) => super::fields::only(&event, fields),
        None => Ok(event),
    }
}
