//! What somebody was notified of lately, the newest first. Nothing is kept for it: it is worked out from the
//! timelines of their rooms and their rules as they are when they ask.
//! spec: client-server-api#listing-notifications

use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use ruma::{UserId, push::Action};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    Room,
    event::{self, Slices},
    members, receipts,
    timeline::{self, View, order_of},
    unread::{Reader, Surroundings, Unread},
    visibility::Sight,
};
use crate::{
    accounts::{account_data, invites::Wishes, push_rules},
    base::{Pos, RoomNum},
    error::{Error, Result},
    store::{Read, rows::Place},
};

/// Events that one page looks at. What is before them is for the next page.
const MAX_LOOK: usize = 3000;
/// Events of a room that are read at once.
const CHUNK: usize = 50;

/// What is asked for.
pub struct Wish {
    /// Only what is before this place.
    pub from: Option<i64>,
    /// How many at most.
    pub limit: usize,
    /// Only what highlights.
    pub highlights: bool,
}

/// Some notifications.
#[derive(Default, Serialize)]
pub struct Page {
    notifications: Vec<Notification>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

#[derive(Serialize)]
struct Notification {
    actions: Vec<Action>,
    event: Box<RawValue>,
    read: bool,
    room_id: String,
    ts: u64,
}

/// Reads a token of a page. 400 if it is none.
pub fn parse_token(token: &str) -> Result<i64> {
    let order = token.strip_prefix('n').and_then(|order| order.parse().ok());
    order.ok_or_else(|| Error::invalid_param("this pagination token is not one of ours"))
}

/// A room that is gone through.
struct Walk {
    room: Room,
    around: Surroundings,
    /// How far its person has read, by thread.
    read: BTreeMap<String, i64>,
    /// Events at or before this place are not for them: they came by it.
    floor: i64,
    /// Places that were read ahead, the newest first.
    ahead: VecDeque<(i64, Place)>,
    /// The person is outside, and the only event is what invites them.
    invited: bool,
}

impl Walk {
    /// The newest place before another one, which is then the next to be taken.
    fn reach(&mut self, tx: &impl Read, before: i64) -> Result<Option<i64>> {
        if self.ahead.is_empty() && !self.invited {
            self.ahead = timeline::back(tx, self.room.num, self.floor, before.saturating_sub(1), CHUNK)?.into();
        }
        Ok(self.ahead.front().map(|(order, _)| *order))
    }
}

/// A page of what somebody was notified of.
pub fn page(tx: &impl Read, unread: &Unread, user: &UserId, wish: &Wish) -> Result<Page> {
    let (rules, ignored) = (push_rules::of(tx, user)?, account_data::ignored(tx, user)?);
    let reader = Reader::new(user, &rules, &ignored);
    let from = wish.from.unwrap_or(i64::MAX);
    let mut walks = Vec::new();
    // The rooms by the place that comes next in each, the newest first.
    let mut next = BinaryHeap::new();
    for (latest, entry) in entrances(tx, user, from)? {
        next.push((latest, Next::Outside(entry)));
    }
    let mut page = Page::default();
    let mut looked = 0;
    while let Some((order, place)) = next.pop() {
        let index = match place {
            Next::Inside(index) => index,
            Next::Outside(entrance) => {
                walks.push(enter(tx, user, entrance)?);
                let index = walks.len() - 1;
                match walks[index].reach(tx, from.min(order.saturating_add(1)))? {
                    Some(reached) if reached < order => {
                        next.push((reached, Next::Inside(index)));
                        continue;
                    }
                    Some(_) => index,
                    None => continue,
                }
            }
        };
        let walk: &mut Walk = &mut walks[index];
        let Some((order, place)) = walk.ahead.pop_front() else { continue };
        if page.notifications.len() == wish.limit || looked == MAX_LOOK {
            page.next_token = Some(format!("n{}", order.saturating_add(1)));
            break;
        }
        looked += 1;
        if let Some(found) = notification(tx, (unread, &reader), walk, (order, place.event), wish.highlights)? {
            page.notifications.push(found);
        }
        if let Some(reached) = walk.reach(tx, order)? {
            next.push((reached, Next::Inside(index)));
        }
    }
    Ok(page)
}

/// A room that is not yet gone through: its number, and of who is outside their invite, with its place.
type Entrance = (RoomNum, Option<(i64, Pos)>);

/// Where the next newest event may be.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    /// In a room that is gone through, by its index.
    Inside(usize),
    /// In a room that is not gone through yet.
    Outside(Entrance),
}

/// Somebody's rooms, with a place that nothing before `from` is newer than.
fn entrances(tx: &impl Read, user: &UserId, from: i64) -> Result<Vec<(i64, Entrance)>> {
    let mut out = Vec::new();
    for (num, row) in members::rooms_of(tx, user)? {
        let since = order_of(row.since());
        match row.membership.as_str() {
            "join" => {
                let latest = order_of(Room::at(tx, num)?.row.latest).min(from.saturating_sub(1));
                out.push((latest, (num, None)));
            }
            "invite" if since < from => out.push((since, (num, Some((since, row.event))))),
            _ => {}
        }
    }
    Ok(out)
}

fn enter(tx: &impl Read, user: &UserId, (num, invite): Entrance) -> Result<Walk> {
    let room = Room::at(tx, num)?;
    let around = Surroundings::of(tx, &room)?;
    let read = receipts::read_upto(tx, num, user)?;
    let ahead: VecDeque<_> =
        invite.map(|(order, event)| (order, Place { event, state_after: 0 })).into_iter().collect();
    let floor = Sight::of(tx, &room, user)?.in_since(tx)?.unwrap_or(i64::MAX);
    Ok(Walk { room, around, read, floor, ahead, invited: invite.is_some() })
}

fn notification(
    tx: &impl Read,
    (unread, reader): (&Unread, &Reader<'_>),
    walk: &Walk,
    (order, event): (i64, Pos),
    highlights: bool,
) -> Result<Option<Notification>> {
    let Some(actions) = unread.actions(tx, &walk.room, event, reader, &walk.around)? else { return Ok(None) };
    if highlights && !actions.iter().any(Action::is_highlight) {
        return Ok(None);
    }
    let row = event::row(tx, event)?;
    let slices = Slices::of(&row)?;
    let mut view = View::new(tx, &walk.room, reader.user, None)?;
    view.name_room = false;
    // Who is invited may see by what, whatever else they may.
    let seen = match walk.invited {
        true if !Wishes::of(tx, reader.user)?.want(&slices.sender) => None,
        true => Some(view.show(tx, (event, &row), &slices)?),
        false if row.redacted_by != 0 => None,
        false => view.see_slices(tx, event, &row, &slices)?,
    };
    let thread = &unread.judged(tx, &walk.room, event)?.thread;
    let upto = walk.read.get("").max(walk.read.get(thread.as_str()));
    Ok(seen.map(|event| Notification {
        actions,
        event,
        read: upto.is_some_and(|upto| *upto >= order),
        room_id: walk.room.row.id.clone(),
        ts: slices.origin_server_ts,
    }))
}
