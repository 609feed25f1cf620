//! What a person can ask about a room's past and present: pages of its timeline, its state as they may
//! know it, its members.

use ruma::{OwnedEventId, UserId, events::StateEventType};
use serde_json::value::RawValue;

use super::{
    event::{self, Slices},
    filter, gaps, members,
    room::Room,
    state::{self, StateId},
    timeline::{self, View},
};
use crate::{
    accounts::filters::Events,
    base::Pos,
    error::{Error, Result},
    store::{Read, rows::Place},
};

/// Events that one answer holds at most.
pub const MAX_PAGE: usize = 1000;
/// Events that one answer looks at, seen or not: the rest is for the next page.
const MAX_LOOK: usize = 4000;

/// Changes of somebody's membership that are followed back to when they left.
const MAX_MOVES: usize = 100;

/// Which way a page goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Towards the past.
    Back,
    /// Towards the present.
    Forward,
}

/// A page of a room's timeline that somebody asks for.
pub struct Wanted<'a> {
    /// Which way.
    pub way: Way,
    /// Just after which place it starts.
    pub from: i64,
    /// Just after which place it ends, if that comes first.
    pub to: Option<i64>,
    /// Events at most.
    pub limit: usize,
    /// Which events.
    pub filter: &'a Events,
}

/// A page of a room's timeline.
pub struct Page {
    /// The events in the order asked for.
    pub events: Vec<Box<RawValue>>,
    /// Who sent them.
    pub senders: Vec<String>,
    /// Where the next page starts; none if there is none.
    pub end: Option<i64>,
}

/// One page, of what the person may see.
pub fn page(tx: &impl Read, room: &Room, view: &mut View<'_>, wanted: &Wanted<'_>) -> Result<Page> {
    let limit = wanted.limit.clamp(1, MAX_PAGE);
    let mut page = Page { events: Vec::new(), senders: Vec::new(), end: None };
    let (mut at, mut looked) = (wanted.from, 0);
    loop {
        let places = places(tx, room, wanted, at, limit)?;
        let full = places.len() == limit;
        for (order, place) in places {
            at = if wanted.way == Way::Back { order - 1 } else { order };
            looked += 1;
            let row = event::row(tx, place.event)?;
            let slices = Slices::of(&row)?;
            if filter::passes(wanted.filter, &room.row.id, &slices)
                && filter::is_related(tx, wanted.filter, view, &row)?
                && let Some(event) = view.see_row(tx, place.event, &row)?
            {
                page.events.push(event);
                page.senders.push(slices.sender.into_owned());
            }
            if page.events.len() == limit || looked == MAX_LOOK {
                page.end = Some(at);
                return Ok(page);
            }
        }
        if !full {
            return Ok(page);
        }
    }
}

fn places(tx: &impl Read, room: &Room, wanted: &Wanted<'_>, at: i64, limit: usize) -> Result<Vec<(i64, Place)>> {
    match wanted.way {
        Way::Back => timeline::back(tx, room.num, wanted.to.unwrap_or(i64::MIN), at, limit),
        Way::Forward => timeline::forward(tx, room.num, at, wanted.to.unwrap_or(i64::MAX), limit),
    }
}

/// The state of a room that somebody may know: the present one for its members (and for everybody if
/// the room is readable by the world), the one in which they left for those who left. 403 for others.
pub fn known_state(tx: &impl Read, room: &Room, user: &UserId) -> Result<StateId> {
    let row = members::of(tx, room.num, user)?.filter(|row| !row.forgotten && row.event != 0);
    match row {
        Some(row) if row.membership == "join" => return Ok(room.row.state),
        Some(row) => {
            if let Some(left) = last_leaving(tx, user, row.event)? {
                let order = timeline::order(tx, left)?.unwrap_or_else(|| timeline::order_of(row.since()));
                return timeline::state_at(tx, room.num, order);
            }
        }
        None => {}
    }
    match is_world_readable(tx, room)? {
        true => Ok(room.row.state),
        false => Err(Error::forbidden("you are not in this room")),
    }
}

/// Where somebody last went out of a room that they were in, going back from their membership event at
/// `at`. None if they never were in it.
fn last_leaving(tx: &impl Read, user: &UserId, mut at: Pos) -> Result<Option<Pos>> {
    // What other servers say of their pasts may go in circles.
    for _ in 0..MAX_MOVES {
        let before = event::row(tx, at)?.state_before;
        let Some(earlier) = state::event(tx, before, &StateEventType::RoomMember, user.as_str())? else {
            return Ok(None);
        };
        if membership(tx, earlier)? == "join" {
            return Ok(Some(at));
        }
        at = earlier;
    }
    Ok(None)
}

/// Whether everybody may read the room.
pub fn is_world_readable(tx: &impl Read, room: &Room) -> Result<bool> {
    #[derive(serde::Deserialize)]
    struct Content {
        history_visibility: String,
    }
    let content: Option<Content> = room.state_content(tx, &StateEventType::RoomHistoryVisibility)?;
    Ok(content.is_some_and(|content| content.history_visibility == "world_readable"))
}

/// The membership events of the senders of some events, for clients that load members lazily.
pub fn members_of_senders(
    tx: &impl Read,
    view: &mut View<'_>,
    state: StateId,
    senders: &[String],
) -> Result<Vec<Box<RawValue>>> {
    let distinct: std::collections::BTreeSet<&String> = senders.iter().collect();
    let mut out = Vec::new();
    for sender in distinct {
        if let Some(pos) = state::event(tx, state, &StateEventType::RoomMember, sender)? {
            out.push(view.show_state(tx, pos)?);
        }
    }
    Ok(out)
}

/// An event with what came before and after it.
pub struct Context {
    /// The event.
    pub event: Box<RawValue>,
    /// What came before, the newest first.
    pub before: Page,
    /// What came after, the oldest first.
    pub after: Page,
    /// Where the events before begin.
    pub start: i64,
    /// Where the events after end.
    pub end: i64,
    /// The room's state at the last of them.
    pub state: StateId,
}

/// An event with its surroundings, as far as the person may see them. 404 if they may not see it.
pub fn context(
    tx: &impl Read,
    room: &Room,
    (view, user): (&mut View<'_>, &UserId),
    id: &OwnedEventId,
    (limit, filter): (usize, &Events),
) -> Result<Context> {
    let unknown = || Error::not_found("there is no such event, or you may not see it");
    let (pos, row) = event::shown(tx, room.num, id)?.ok_or_else(unknown)?;
    let event = view.see_row(tx, pos, &row)?.ok_or_else(unknown)?;
    let order = row.place(pos).ok_or_else(unknown)?;
    let half = limit.min(MAX_PAGE) / 2;
    // What stands beyond a gap does not come just before, nor just after.
    let (below, above) = (gaps::last(tx, room.num, order)?, gaps::next(tx, room.num, order)?);
    let (below, above) = (below.map(|gap| gap.before.saturating_sub(1)), above.map(|gap| gap.start().max(order)));
    let around = |way, from, limit| {
        let to = if way == Way::Back { below } else { above };
        Wanted { way, from, to, limit, filter }
    };
    let none = || Page { events: Vec::new(), senders: Vec::new(), end: None };
    let before = match half {
        0 => none(),
        half => page(tx, room, view, &around(Way::Back, order - 1, half))?,
    };
    let after = match limit.min(MAX_PAGE) - half {
        0 => none(),
        rest => page(tx, room, view, &around(Way::Forward, order, rest))?,
    };
    let newest = || Ok::<_, Error>(timeline::last(tx, room.num, i64::MAX)?.map_or(order, |(order, _)| order));
    let end = match after.end.or(above.filter(|_| limit > 0)) {
        Some(end) => end,
        None if after.events.is_empty() && limit == 0 => order,
        None => newest()?,
    };
    let start = before.end.unwrap_or(if half == 0 { order - 1 } else { below.unwrap_or(i64::MIN) });
    // Who is not in the room any more may not know how it went on.
    let is_current = known_state(tx, room, user).is_ok_and(|known| known == room.row.state);
    let state = timeline::state_at(tx, room.num, if is_current { end } else { order })?;
    Ok(Context { event, start, state, end, before, after })
}

/// The state of a room at some moment as far as a filter wants it: of the members, if they are loaded lazily,
/// those who sent some events.
pub fn state_in(
    tx: &impl Read,
    view: &mut View<'_>,
    (at, senders): (StateId, &[String]),
    filter: &Events,
) -> Result<Vec<Box<RawValue>>> {
    let mut wanted = match filter.lazy_load_members {
        true => state::without_members(tx, at)?,
        false => state::all(tx, at)?,
    };
    if filter.lazy_load_members {
        for sender in senders.iter().collect::<std::collections::BTreeSet<_>>() {
            if let Some(key) = state::key(tx, &StateEventType::RoomMember.to_string(), sender)? {
                wanted.extend(state::at(tx, at, key)?.map(|pos| (key, pos)));
            }
        }
    }
    let mut out = Vec::new();
    for (_, pos) in wanted {
        let row = event::row(tx, pos)?;
        let slices = Slices::of(&row)?;
        if filter::passes(filter, &view.room.row.id, &slices) {
            out.push(view.show(tx, (pos, &row), &slices)?);
        }
    }
    Ok(out)
}

/// The members of a room in a state, as membership events: all, or those with (true) or without
/// (false) a certain membership.
pub fn members_in(
    tx: &impl Read,
    view: &mut View<'_>,
    state: StateId,
    keep: impl Fn(&str) -> bool,
) -> Result<Vec<Box<RawValue>>> {
    let mut out = Vec::new();
    for (key, pos) in state::all(tx, state)? {
        if state::is_member(key) && keep(&membership(tx, pos)?) {
            out.push(view.show_state(tx, pos)?);
        }
    }
    Ok(out)
}

fn membership(tx: &impl Read, pos: Pos) -> Result<String> {
    Ok(event::Pdu::at(tx, pos)?.membership().unwrap_or_default())
}
