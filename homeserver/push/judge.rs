//! What happened, and who of those with pushers is notified of it. Reads only; what it costs grows with the
//! pushers in a room, never with its people.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use quick_cache::{Weighter, sync::Cache};
use ruma::{OwnedUserId, UserId, push::Ruleset};

use super::desk::Notice;
use crate::{
    accounts::{account_data, invites, push_rules},
    base::{Pos, RoomNum, clock},
    error::Result,
    rooms::{
        Room,
        event::{self, Slices},
        members, receipts,
        timeline::{self, order_of},
        unread::{Reader, Surroundings, Unread},
        visibility::Sight,
    },
    store::Read,
};

/// Events of a room that are looked at in one go at most: of more the newest.
const MAX_EVENTS: usize = 200;

/// What somebody wants to be notified of.
pub struct Wishes {
    pub rules: Ruleset,
    pub ignored: HashSet<OwnedUserId>,
    /// Whose invites they want.
    pub invites: invites::Wishes,
}

#[derive(Clone)]
struct Weight;

impl Weighter<OwnedUserId, Arc<Wishes>> for Weight {
    fn weight(&self, user: &OwnedUserId, wishes: &Arc<Wishes>) -> u64 {
        // Rules are small trees of strings: about 400 bytes each.
        let rules = 400 * wishes.rules.iter().count();
        (user.as_str().len() + 200 + 64 * wishes.ignored.len() + rules + wishes.invites.weight()) as u64
    }
}

/// What came of looking.
#[derive(Default)]
pub struct Found {
    /// Who is to be told what, in the order in which it happened.
    pub notices: Vec<(OwnedUserId, Notice)>,
    /// Who may have read something where.
    pub touched: Vec<(OwnedUserId, RoomNum)>,
    /// Rooms in which something was taken back.
    pub recount: Vec<RoomNum>,
}

/// Who looks.
pub struct Judge {
    pub unread: Arc<Unread>,
    wishes: Cache<OwnedUserId, Arc<Wishes>, Weight>,
}

/// A room, and who in it has pushers.
pub type Hall = (RoomNum, Vec<OwnedUserId>);

impl Judge {
    /// Remembers wishes in at most so many bytes.
    pub fn new(unread: Arc<Unread>, memory: u64) -> Self {
        Self { unread, wishes: Cache::with_weighter(256, memory, Weight) }
    }

    /// Somebody's wishes may have changed.
    pub fn forget(&self, user: &UserId) {
        self.wishes.remove(user);
    }

    /// Everybody's may have.
    pub fn forget_all(&self) {
        self.wishes.clear();
    }

    /// Somebody's wishes.
    pub fn wishes(&self, tx: &impl Read, user: &UserId) -> Result<Arc<Wishes>> {
        if let Some(known) = self.wishes.get(user) {
            return Ok(known);
        }
        let wishes = Arc::new(Wishes {
            rules: push_rules::of(tx, user)?,
            ignored: account_data::ignored(tx, user)?,
            invites: invites::Wishes::of(tx, user)?,
        });
        self.wishes.insert(user.to_owned(), wishes.clone());
        Ok(wishes)
    }

    /// As [`Self::look`], where a room that can't be looked at is left out: it may be damaged, or just gone.
    pub fn look_or_log(&self, tx: &impl Read, hall: &Hall, span: (Pos, Pos), found: &mut Found) {
        if let Err(error) = self.look(tx, hall, span, found) {
            tracing::warn!(%error, room = hall.0, "can't find out whom something in a room notifies");
        }
    }

    /// What happened in a room after a position and up to another one.
    pub fn look(&self, tx: &impl Read, hall: &Hall, (after, upto): (Pos, Pos), found: &mut Found) -> Result<()> {
        let (num, people) = hall;
        let room = Room::at(tx, *num)?;
        let mut places = timeline::back(tx, *num, order_of(after), order_of(upto), MAX_EVENTS)?;
        places.reverse();
        let around = if places.is_empty() { None } else { Some(Surroundings::of(tx, &room)?) };
        for (order, place) in &places {
            let (Ok(order), Some(around)) = (u64::try_from(*order), &around) else { continue };
            self.look_at(tx, (&room, around), people, (order, place.event), found)?;
        }
        let readers = receipts::readers(tx, *num, (after, upto))?;
        for user in people {
            if readers.contains(user.as_str()) {
                found.touched.push((user.clone(), *num));
            }
        }
        Ok(())
    }

    fn look_at(
        &self,
        tx: &impl Read,
        (room, around): (&Room, &Surroundings),
        people: &[OwnedUserId],
        (order, event): (Pos, Pos),
        found: &mut Found,
    ) -> Result<()> {
        let judged = self.unread.judged(tx, room, event)?;
        if judged.is_redaction() {
            found.recount.push(room.num);
        }
        for user in people {
            if judged.sender == user.as_str() {
                // Who answers has read.
                if judged.state_key.is_none() {
                    found.touched.push((user.clone(), room.num));
                }
                continue;
            }
            let wishes = self.wishes(tx, user)?;
            let reader = Reader::new(user, &wishes.rules, &wishes.ignored);
            let Some(actions) = self.unread.actions(tx, room, event, &reader, around)? else { continue };
            if was_there(tx, room, user, order)? {
                let notice = Notice {
                    room: room.num,
                    event,
                    order,
                    actions: actions.into(),
                    invite: false,
                    at: clock::now_ms(),
                };
                found.notices.push((user.clone(), notice));
            }
        }
        Ok(())
    }

    /// Whether somebody is invited to a room since a position and up to another one.
    pub fn look_at_invite(
        &self,
        tx: &impl Read,
        (user, num): (&UserId, RoomNum),
        (after, upto): (Pos, Pos),
        found: &mut Found,
    ) -> Result<()> {
        let row = members::of(tx, num, user)?;
        let new = |since: Pos| after < since && since <= upto;
        let Some(row) = row.filter(|row| row.membership == "invite" && new(row.since())) else { return Ok(()) };
        let wishes = self.wishes(tx, user)?;
        if !wishes.invites.want(&Slices::of(&event::row(tx, row.event)?)?.sender) {
            return Ok(());
        }
        let room = Room::at(tx, num)?;
        let reader = Reader::new(user, &wishes.rules, &wishes.ignored);
        let around = Surroundings::of(tx, &room)?;
        if let Some(actions) = self.unread.actions(tx, &room, row.event, &reader, &around)? {
            let (event, order, at) = (row.event, row.since(), clock::now_ms());
            let notice = Notice { room: num, event, order, actions: actions.into(), invite: true, at };
            found.notices.push((user.to_owned(), notice));
        }
        Ok(())
    }

    /// What somebody is to be told of everything after a position. `latest` remembers rooms.
    pub fn catch_up(
        &self,
        tx: &impl Read,
        user: &UserId,
        (after, upto): (Pos, Pos),
        latest: &mut HashMap<RoomNum, Pos>,
    ) -> Result<Found> {
        let mut found = Found::default();
        for (num, row) in members::rooms_of(tx, user)? {
            match row.membership.as_str() {
                "join" => {
                    let newest = match latest.get(&num) {
                        Some(newest) => *newest,
                        None => {
                            let newest = Room::at(tx, num)?.row.latest;
                            latest.insert(num, newest);
                            newest
                        }
                    };
                    if newest > after {
                        self.look_or_log(tx, &(num, vec![user.to_owned()]), (after, upto), &mut found);
                    }
                }
                "invite" => self.look_at_invite(tx, (user, num), (after, upto), &mut found)?,
                _ => {}
            }
        }
        found.notices.sort_by_key(|(_, notice)| notice.order);
        Ok(found)
    }
}

/// Whether somebody who is in a room was so before a position already.
fn was_there(tx: &impl Read, room: &Room, user: &UserId, order: Pos) -> Result<bool> {
    let Some(row) = members::of(tx, room.num, user)?.filter(|row| row.membership == "join") else { return Ok(false) };
    if row.since() < order {
        return Ok(true);
    }
    // They may have changed their name since.
    let since = Sight::of(tx, room, user)?.in_since(tx)?;
    Ok(since.is_some_and(|since| since < order_of(order)))
}
