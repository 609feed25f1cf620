//! Guests in rooms: they come into those alone that let guests in, and leave when a room no longer does. Which
//! accounts are guests' is in `accounts/users.rs`. spec: client-server-api#guest-access

use ruma::{OwnedUserId, UserId, events::StateEventType};
use serde::Deserialize;

use super::{
    members,
    room::Room,
    state::{self, StateId},
};
use crate::{
    accounts::users,
    base::{RoomNum, signing::Identity},
    error::{Error, Result},
    store::{Flow, LAST, Read, WriteTx, tables},
};

/// What guests are told who want more than they may.
const FORBIDDEN: &str = "M_GUEST_ACCESS_FORBIDDEN";

/// Refuses guests who want into a room that lets none in. 403 `M_GUEST_ACCESS_FORBIDDEN`.
pub(super) fn check(tx: &impl Read, room: &Room, user: &UserId) -> Result<()> {
    match users::is_guest(tx, user)? && !is_open(tx, room)? {
        false => Ok(()),
        true => Err(Error::forbidden_as(FORBIDDEN, "this room lets no guests in")),
    }
}

/// Refuses guests who want into a room that this server is not in: whether it lets guests in can't be known
/// before somebody is in it. 403 `M_GUEST_ACCESS_FORBIDDEN`.
pub fn check_far(tx: &impl Read, user: &UserId) -> Result<()> {
    match users::is_guest(tx, user)? {
        false => Ok(()),
        true => Err(Error::forbidden_as(FORBIDDEN, "guests come only into rooms that this server is in already")),
    }
}

/// Notes that somebody came into a room, or is not in it any more.
pub(super) fn moved(tx: &WriteTx, room: RoomNum, user: &UserId, is_in: bool) -> Result<()> {
    match is_in {
        true if users::is_guest(tx, user)? => tables::GUEST_ROOMS.put(tx, (room, user.as_str()), &()),
        false if tables::GUEST_ROOMS.len(tx)? > 0 => tables::GUEST_ROOMS.remove(tx, (room, user.as_str())).map(drop),
        _ => Ok(()),
    }
}

/// Notes that a room's guests have to leave, if its state has become one that lets no guests in.
pub(super) fn follow(tx: &WriteTx, room: &Room, old: StateId) -> Result<()> {
    if old == room.row.state || tables::GUEST_ROOMS.len(tx)? == 0 || first_in(tx, room.num)?.is_none() {
        return Ok(());
    }
    let access = |state| state::event(tx, state, &StateEventType::RoomGuestAccess, "");
    if access(old)? == access(room.row.state)? || is_open(tx, room)? {
        return Ok(());
    }
    tables::GUESTS_LEAVING.put(tx, room.num, &())
}

/// A room whose guests have to leave, if there is one.
pub fn leaving(tx: &impl Read) -> Result<Option<RoomNum>> {
    let mut found = None;
    tables::GUESTS_LEAVING.scan::<RoomNum>(tx, .., |room, ()| {
        found = Some(room);
        Ok(Flow::Stop)
    })?;
    Ok(found)
}

/// Lets the first guest of a room leave it. The room is done with when none is left, or guests may be there
/// again.
pub fn see_out(tx: &WriteTx, me: &Identity, num: RoomNum) -> Result<()> {
    let mut room = Room::at(tx, num)?;
    let guest = if is_open(tx, &room)? { None } else { first_in(tx, num)? };
    let Some(guest) = guest else { return tables::GUESTS_LEAVING.remove(tx, num).map(drop) };
    // Whoever has an account of their own by now may stay.
    if users::is_guest(tx, &guest)? && members::is_joined(tx, num, &guest)? {
        let why = Some("this room no longer lets guests in".to_owned());
        return members::leave(tx, me, &mut room, &guest, why);
    }
    tables::GUEST_ROOMS.remove(tx, (num, guest.as_str())).map(drop)
}

/// Gives up a room whose guests can't leave it.
pub fn give_up(tx: &WriteTx, room: RoomNum) -> Result<()> {
    tables::GUESTS_LEAVING.remove(tx, room).map(drop)
}

fn is_open(tx: &impl Read, room: &Room) -> Result<bool> {
    #[derive(Deserialize)]
    struct Content {
        guest_access: String,
    }
    let event = room.state_event(tx, &StateEventType::RoomGuestAccess, "")?;
    let content = event.and_then(|event| event.content_as::<Content>());
    Ok(content.is_some_and(|content| content.guest_access == "can_join"))
}

fn first_in(tx: &impl Read, room: RoomNum) -> Result<Option<OwnedUserId>> {
    let mut found = None;
    tables::GUEST_ROOMS.scan(tx, (room, "")..=(room, LAST), |(_, user), ()| {
        found = UserId::parse(user).ok();
        Ok(Flow::Stop)
    })?;
    Ok(found)
}
