//! Whether an event is a service's affair: one of its people sent it, is meant by it or was in the room; or
//! the room is in its namespaces. Answers by the room's state at the event, so that what happened while a
//! service was away is told it as if it had been there. spec: application-service-api#registration

use std::collections::{HashMap, hash_map::Entry};

use ruma::{OwnedUserId, UserId, events::StateEventType};

use super::Service;
use crate::{
    base::{Pos, RoomNum},
    error::Result,
    rooms::{Pdu, event::Slices, members, state},
    store::{
        Flow, LAST, Read,
        rows::{EventRow, Standing},
        tables,
    },
};

/// Rooms that are remembered at most; beyond it all are forgotten, and looked at again.
const MAX_KNOWN: usize = 50_000;

/// What is known of rooms, so that not all of a room's members are looked at for each event.
#[derive(Default)]
pub struct Interest {
    rooms: HashMap<RoomNum, Presence>,
    /// Who the service was told is typing, where anybody is.
    typing: HashMap<RoomNum, Vec<OwnedUserId>>,
}

/// Whether one of a service's people is in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Presence {
    /// This one was, when it was last looked.
    Here(String),
    /// Nobody is in any event after this position, unless somebody has come since.
    Absent(Pos),
}

impl Interest {
    /// Whether the event at a position is the service's affair.
    pub fn takes(
        &mut self,
        tx: &impl Read,
        service: &Service,
        (pos, row): (Pos, &EventRow),
        slices: &Slices<'_>,
    ) -> Result<bool> {
        let is_ours = |user: &str| <&UserId>::try_from(user).is_ok_and(|user| service.may_be(user));
        let target = slices.state_key.as_deref().filter(|key| slices.kind == "m.room.member" && is_ours(key));
        if row.standing != Standing::Accepted {
            return match target {
                Some(user) => stands_at_door(tx, row.room, (pos, user)),
                None => Ok(false),
            };
        }
        if let Some(user) = target {
            self.note(row.room, Presence::Here(user.to_owned()));
            return Ok(true);
        }
        if is_ours(&slices.sender) || has_room(tx, service, row.room)? {
            return Ok(true);
        }
        self.was_there(tx, service, (pos, row))
    }

    /// Whether a room is the service's affair as it is now.
    pub fn has(&mut self, tx: &impl Read, service: &Service, room: RoomNum) -> Result<bool> {
        if has_room(tx, service, room)? {
            return Ok(true);
        }
        let joined = |user: &str| match <&UserId>::try_from(user) {
            Ok(user) => members::is_joined(tx, room, user),
            Err(_) => Ok(false),
        };
        match self.rooms.get(&room) {
            Some(Presence::Here(user)) if joined(user)? => return Ok(true),
            Some(Presence::Absent(_)) => return Ok(false),
            _ => {}
        }
        let found = self.look(tx, service, room, |_, membership| Ok(membership == "join"))?;
        Ok(matches!(found, Presence::Here(_)))
    }

    /// Notes who types in a room. Whether that is something else than what the service was told last.
    pub fn typing_is_new(&mut self, room: RoomNum, users: &[OwnedUserId]) -> bool {
        let before = match users {
            [] => self.typing.remove(&room),
            users => self.typing.insert(room, users.to_vec()),
        };
        before.unwrap_or_default() != users
    }

    fn was_there(&mut self, tx: &impl Read, service: &Service, (pos, row): (Pos, &EventRow)) -> Result<bool> {
        match self.rooms.get(&row.room) {
            Some(Presence::Here(user)) if was_joined(tx, row, user)? => return Ok(true),
            Some(Presence::Absent(after)) if pos > *after => return Ok(false),
            _ => {}
        }
        let found = self.look(tx, service, row.room, |user, _| was_joined(tx, row, user))?;
        Ok(matches!(found, Presence::Here(_)))
    }

    /// Looks for one of the service's people in a room for whom something holds.
    fn look(
        &mut self,
        tx: &impl Read,
        service: &Service,
        room: RoomNum,
        holds: impl Fn(&str, &str) -> Result<bool>,
    ) -> Result<Presence> {
        let (mut found, mut any, mut is_in) = (None, false, false);
        tables::MEMBERS.scan(tx, (room, "")..=(room, LAST), |(_, user), row| {
            if <&UserId>::try_from(user).is_ok_and(|user| service.may_be(user)) {
                any = true;
                is_in |= row.membership == "join";
                if holds(user, &row.membership)? {
                    found = Some(user.to_owned());
                    return Ok(Flow::Stop);
                }
            }
            Ok(Flow::Next)
        })?;
        match found {
            Some(user) => {
                self.note(room, Presence::Here(user.clone()));
                Ok(Presence::Here(user))
            }
            None => {
                // Whoever is in the room now and was not then is looked for again with the next event.
                let after = if any { tx.pos()? } else { 0 };
                if !is_in {
                    self.note(room, Presence::Absent(after));
                }
                Ok(Presence::Absent(after))
            }
        }
    }

    fn note(&mut self, room: RoomNum, presence: Presence) {
        if self.rooms.len() >= MAX_KNOWN {
            self.rooms.clear();
        }
        match self.rooms.entry(room) {
            Entry::Occupied(mut known) => drop(known.insert(presence)),
            Entry::Vacant(free) => drop(free.insert(presence)),
        }
    }
}

/// Whether the namespaces of rooms or aliases have a room.
fn has_room(tx: &impl Read, service: &Service, room: RoomNum) -> Result<bool> {
    if !service.told.rooms.is_empty() && tables::ROOMS.get(tx, room)?.is_some_and(|row| service.has_room(&row.id)) {
        return Ok(true);
    }
    if service.told.aliases.is_empty() {
        return Ok(false);
    }
    let aliases =
        tables::ROOM_ALIASES.collect(tx, (room, "")..=(room, LAST), |(_, alias), ()| service.has_alias(alias))?;
    Ok(aliases.contains(&true))
}

/// Whether somebody was in the room at an event.
pub(super) fn was_joined(tx: &impl Read, row: &EventRow, user: &str) -> Result<bool> {
    match state::event(tx, row.state_before, &StateEventType::RoomMember, user)? {
        Some(pos) => Ok(Pdu::at(tx, pos)?.membership().as_deref() == Some("join")),
        None => Ok(false),
    }
}

/// Whether an event that is not of a room's history here is what somebody stands at its door by.
fn stands_at_door(tx: &impl Read, room: RoomNum, (pos, user): (Pos, &str)) -> Result<bool> {
    let Ok(user) = <&UserId>::try_from(user) else { return Ok(false) };
    let Some(row) = members::of(tx, room, user)?.filter(|row| row.event == pos) else { return Ok(false) };
    let waits = matches!(row.membership.as_str(), "invite" | "knock");
    // Of a room that was never entered nothing else is known, so it is also how that ended.
    Ok(waits || tables::ROOMS.get(tx, room)?.is_some_and(|room| room.state == 0))
}
