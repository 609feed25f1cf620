//! Who is what to a room: the index of memberships as they are now, kept in step with the state, and
//! the changes that people make: join, invite, leave, kick, ban, unban, knock.

use std::collections::BTreeMap;

use ruma::{
    OwnedEventId, OwnedUserId, ServerName, UserId,
    events::{StateEventType, TimelineEventType, room::member::MembershipState},
};
use serde_json::{Map, Value};

use super::{
    blocked,
    draft::{self, Draft},
    event::Pdu,
    guests,
    restricted::{self, Among},
    room::Room,
    servers,
    state::{self, StateId},
    successor,
};
use crate::{
    accounts::profile,
    base::{Pos, RoomNum, signing::Identity},
    error::{Error, Result},
    store::{Flow, LAST, Read, WriteTx, rows::MemberRow, tables},
};

/// Who vouches for somebody's join of a restricted room, in its content.
const VOUCHER: &str = "join_authorised_via_users_server";
/// People that a room is named after.
const HEROES: usize = 5;
/// Memberships that are looked at to find them. A room of more people without a name is named after
/// some of its people, if not the first.
const MAX_LOOK: usize = 1000;

/// Brings the index in step with a room whose current state was `old`, and is another since the position
/// `now`.
pub(super) fn follow(tx: &WriteTx, room: &mut Room, old: StateId, now: Pos) -> Result<()> {
    let state = room.row.state;
    step(tx, room, (old, state), now)
}

/// Brings the index from one state to another that is so since the position `now`. The room is to be saved
/// afterwards.
pub(super) fn step(tx: &WriteTx, room: &mut Room, (from, to): (StateId, StateId), now: Pos) -> Result<()> {
    for (key, pos) in state::diff(tx, from, to)? {
        if !state::is_member(key) {
            continue;
        }
        let (_, user) = state::key_name(tx, key)?;
        if let Ok(user) = UserId::parse(&user) {
            stand(tx, room, &user, (pos, now))?;
        }
    }
    Ok(())
}

/// Notes the membership that an event at a position sets (0: none) since another position. The room is to
/// be saved afterwards.
pub(super) fn stand(tx: &WriteTx, room: &mut Room, user: &UserId, (pos, now): (Pos, Pos)) -> Result<()> {
    let membership = match pos {
        0 => None,
        pos => Pdu::at(tx, pos)?.membership(),
    };
    set(tx, room, user, row_of(membership, (pos, now)))
}

fn row_of(membership: Option<String>, (pos, now): (Pos, Pos)) -> MemberRow {
    let membership = membership.unwrap_or_else(|| "leave".to_owned());
    MemberRow { membership, event: pos, at: Some(now).filter(|now| *now != pos), forgotten: false }
}

/// Notes somebody's membership. The room is to be saved afterwards: it counts its people.
pub(super) fn set(tx: &WriteTx, room: &mut Room, user: &UserId, row: MemberRow) -> Result<()> {
    let old = of(tx, room.num, user)?;
    let (row, moved) = turn(tx, room, user, (old, row))?;
    write(tx, room.num, &[(user.as_str(), row)])?;
    let Some(is_in) = moved else { return Ok(()) };
    count(tx, room, user.server_name(), if is_in { 1 } else { -1 })?;
    guests::moved(tx, room.num, user, is_in)?;
    if is_in { successor::moved_in(tx, room, user) } else { Ok(()) }
}

/// Notes the memberships that events at their positions set since another position, if they are not noted already:
/// of people of other servers, each of whom stands there once. It is counted once for each server how many came, and
/// what only people of ours have is not looked for. The room is to be saved afterwards.
pub(super) fn note_crowd(tx: &WriteTx, room: &mut Room, crowd: &[(&UserId, &Pdu, Pos)], now: Pos) -> Result<()> {
    let olds = tables::MEMBERS.get_all(tx, crowd.iter().map(|(user, ..)| (room.num, user.as_str())))?;
    let (mut rows, mut came) = (Vec::with_capacity(crowd.len()), BTreeMap::<&ServerName, i64>::new());
    for ((user, event, pos), old) in crowd.iter().zip(olds) {
        if old.as_ref().is_some_and(|old| old.event == *pos) {
            continue;
        }
        let (row, moved) = turn(tx, room, user, (old, row_of(event.membership(), (*pos, now))))?;
        if let Some(is_in) = moved {
            *came.entry(user.server_name()).or_default() += if is_in { 1 } else { -1 };
        }
        rows.push((user.as_str(), row));
    }
    write(tx, room.num, &rows)?;
    came.into_iter().try_for_each(|(server, came)| count(tx, room, server, came))
}

fn count(tx: &WriteTx, room: &mut Room, server: &ServerName, came: i64) -> Result<()> {
    let change = servers::count(tx, room.num, server, came)?;
    room.row.servers = room.row.servers.saturating_add_signed(change);
    Ok(())
}

/// Memberships of a room to be written, by user ID.
fn write(tx: &WriteTx, num: RoomNum, rows: &[(&str, MemberRow)]) -> Result<()> {
    tables::MEMBERS.put_all(tx, rows.iter().map(|(user, row)| ((num, *user), row)))?;
    tables::USER_ROOMS.put_all(tx, rows.iter().map(|(user, row)| ((*user, num), row)))
}

/// What is to be written when somebody's membership takes the place of what it was, and whether they are in the room
/// now, if that is new.
fn turn(
    tx: &WriteTx,
    room: &mut Room,
    user: &UserId,
    (old, mut row): (Option<MemberRow>, MemberRow),
) -> Result<(MemberRow, Option<bool>)> {
    // What befalls somebody outside, such as a ban, brings nothing back.
    let stays_out = matches!(row.membership.as_str(), "leave" | "ban");
    row.forgotten = stays_out && old.as_ref().is_some_and(|old| old.forgotten);
    let was = old.as_ref().map_or("leave", |row| &row.membership);
    let count = |membership: &str, of: &str| u64::from(membership == of);
    room.row.joined = (room.row.joined + count(&row.membership, "join")).saturating_sub(count(was, "join"));
    room.row.invited = (room.row.invited + count(&row.membership, "invite")).saturating_sub(count(was, "invite"));
    let is_in = row.membership == "join";
    let moved = (is_in != (was == "join")).then_some(is_in);
    if moved == Some(false) {
        servers::lose_sight(tx, user, room.num)?;
    }
    tx.wake(|wake| {
        if moved.is_some() {
            wake.members.insert((user.to_owned(), room.num), is_in);
        }
        if row.membership == "invite" {
            wake.invited.insert((user.to_owned(), room.num));
        }
        wake.users.insert(user.to_owned());
    });
    Ok((row, moved))
}

/// Somebody's membership of a room, if they ever had one.
pub fn of(tx: &impl Read, room: RoomNum, user: &UserId) -> Result<Option<MemberRow>> {
    tables::MEMBERS.get(tx, (room, user.as_str()))
}

/// Whether somebody is in a room.
pub fn is_joined(tx: &impl Read, room: RoomNum, user: &UserId) -> Result<bool> {
    Ok(of(tx, room, user)?.is_some_and(|row| row.membership == "join"))
}

/// The rooms that somebody has a membership of, with it, forgotten ones left out.
pub fn rooms_of(tx: &impl Read, user: &UserId) -> Result<Vec<(RoomNum, MemberRow)>> {
    Ok(all_rooms_of(tx, user)?.into_iter().filter(|(_, row)| !row.forgotten).collect())
}

/// The rooms that somebody has or had a membership of, with it.
pub fn all_rooms_of(tx: &impl Read, user: &UserId) -> Result<Vec<(RoomNum, MemberRow)>> {
    tables::USER_ROOMS.collect(tx, (user.as_str(), 0)..=(user.as_str(), u64::MAX), |(_, room), row| (room, row))
}

/// Somebody's newest membership that concerns other servers: of a room that these are in, or at its door.
pub fn newest_abroad(tx: &impl Read, user: &UserId) -> Result<Option<MemberRow>> {
    let mut rows = all_rooms_of(tx, user)?;
    rows.sort_unstable_by_key(|(_, row)| std::cmp::Reverse(row.since()));
    for (room, row) in rows {
        if matches!(row.membership.as_str(), "invite" | "knock") || Room::at(tx, room)?.row.servers > 1 {
            return Ok(Some(row));
        }
    }
    Ok(None)
}

/// The rooms that somebody is in.
pub fn joined_rooms(tx: &impl Read, user: &UserId) -> Result<Vec<RoomNum>> {
    let rooms = rooms_of(tx, user)?.into_iter();
    Ok(rooms.filter(|(_, row)| row.membership == "join").map(|(room, _)| room).collect())
}

/// Visits everybody who has or had a membership of a room.
pub fn each(tx: &impl Read, room: RoomNum, mut visit: impl FnMut(&str, MemberRow) -> Result<Flow>) -> Result<()> {
    tables::MEMBERS.scan(tx, (room, "")..=(room, LAST), |(_, user), row| visit(user, row))
}

/// The people with a certain membership of a room.
pub fn with(tx: &impl Read, room: RoomNum, membership: &str) -> Result<Vec<OwnedUserId>> {
    let mut out = Vec::new();
    each(tx, room, |user, row| {
        if row.membership == membership
            && let Ok(user) = UserId::parse(user)
        {
            out.push(user);
        }
        Ok(Flow::Next)
    })?;
    Ok(out)
}

/// The people after whom somebody calls a room without a name: the first who are in it or invited; if
/// there are none, the first who are not any more.
/// spec: client-server-api#get_matrixclientv3sync_response-200_roomsummary
pub fn heroes(tx: &impl Read, room: RoomNum, user: &UserId) -> Result<Vec<OwnedUserId>> {
    let (mut here, mut gone, mut looked) = (Vec::new(), Vec::new(), 0);
    each(tx, room, |other, row| {
        looked += 1;
        if other != user.as_str()
            && let Ok(other) = UserId::parse(other)
        {
            match row.membership.as_str() {
                "join" | "invite" => here.push((row.event, other)),
                "leave" | "ban" => gone.push((row.event, other)),
                _ => {}
            }
        }
        Ok(if looked < MAX_LOOK { Flow::Next } else { Flow::Stop })
    })?;
    let mut heroes = if here.is_empty() { gone } else { here };
    heroes.sort_unstable();
    Ok(heroes.into_iter().take(HEROES).map(|(_, user)| user).collect())
}

/// A change of membership that somebody asks for.
pub struct Change<'a> {
    /// Who asks.
    pub sender: &'a UserId,
    /// Whose membership.
    pub target: &'a UserId,
    /// What it is to be.
    pub membership: MembershipState,
    /// Why, in the sender's words.
    pub reason: Option<String>,
    /// Further content, such as `is_direct`.
    pub more: Map<String, Value>,
}

/// Makes the change, if the room's rules allow it. Joining again what one is in changes nothing.
pub fn change(tx: &WriteTx, me: &Identity, room: &mut Room, change: Change<'_>) -> Result<Option<OwnedEventId>> {
    change_vouched(tx, me, room, change, None)
}

/// The same for a change that somebody of ours may vouch for.
pub fn change_vouched(
    tx: &WriteTx,
    me: &Identity,
    room: &mut Room,
    change: Change<'_>,
    voucher: Option<&UserId>,
) -> Result<Option<OwnedEventId>> {
    let sender = change.sender;
    if change.membership == MembershipState::Join && is_joined(tx, room.num, change.target)? {
        return Ok(None);
    }
    let draft = draft(tx, me, room, change, voucher)?;
    draft::send(tx, me, room, sender, &draft, None).map(Some)
}

/// The event that makes a change.
pub(super) fn draft(
    tx: &impl Read,
    me: &Identity,
    room: &Room,
    change: Change<'_>,
    voucher: Option<&UserId>,
) -> Result<Draft> {
    let Change { sender, target, membership, reason, more } = change;
    let was = of(tx, room.num, target)?.map(|row| row.membership);
    let is_in = was.as_deref() == Some("join");
    if membership == MembershipState::Invite && me.owns(target) {
        super::inviting::check_welcome(tx, target, sender)?;
    }
    let comes = matches!(membership, MembershipState::Join | MembershipState::Invite | MembershipState::Knock);
    if me.owns(target) && comes && !is_in {
        blocked::check(tx, room.id())?;
    }
    if me.owns(target) && membership == MembershipState::Join && !is_in {
        guests::check(tx, room, target)?;
    }
    let mut content = more;
    content.insert("membership".into(), membership.to_string().into());
    if let Some(reason) = reason {
        content.insert("reason".into(), reason.into());
    }
    if me.owns(target) && comes && !is_in {
        profile::introduce(tx, target, &mut content)?;
    }
    if membership == MembershipState::Join
        && !is_in
        && was.as_deref() != Some("invite")
        && let Some(authoriser) = restricted::authoriser(tx, me, room, (target, Among::Known(voucher)))?
    {
        content.insert(VOUCHER.into(), authoriser.as_str().into());
    }
    Draft::state_of(TimelineEventType::RoomMember, target.as_str(), &content)
}

/// What a membership means that is set as any piece of state.
pub struct Meant {
    /// Whose.
    pub target: OwnedUserId,
    /// What it is to be.
    pub membership: MembershipState,
    /// Further content.
    pub more: Map<String, Value>,
}

/// What a draft of a membership means. None if it is none.
pub fn meant(draft: &Draft) -> Option<Meant> {
    let target = UserId::parse(draft.state_key.as_deref().filter(|_| draft.kind == TimelineEventType::RoomMember)?);
    let mut more: Map<String, Value> = serde_json::from_str(draft.content.get()).ok()?;
    let membership = more.remove("membership")?.as_str()?.into();
    // Who vouches for a join is for their server to say.
    more.remove(VOUCHER);
    Some(Meant { target: target.ok()?, membership, more })
}

/// A membership that is set as any piece of state, as the change that it means: by the rules of that. What means
/// none stays as it is.
pub fn as_change(tx: &impl Read, me: &Identity, room: &Room, sender: &UserId, wish: &Draft) -> Result<Draft> {
    let Some(Meant { target, membership, more }) = meant(wish) else { return Ok(wish.clone()) };
    if membership == MembershipState::Leave && target != sender {
        let is_banned = of(tx, room.num, &target)?.is_some_and(|row| row.membership == "ban");
        check_put_out(tx, room, &target, is_banned)?;
    }
    let change = Change { sender, target: &target, membership, reason: None, more };
    Ok(Draft { at: wish.at, ..draft(tx, me, room, change, None)? })
}

/// Leaves a room, or rejects its invite. Leaving what one is not in changes nothing.
pub fn leave(tx: &WriteTx, me: &Identity, room: &mut Room, user: &UserId, reason: Option<String>) -> Result<()> {
    leave_saying(tx, me, room, user, (reason, Map::new()))
}

/// The same with further content.
pub fn leave_saying(
    tx: &WriteTx,
    me: &Identity,
    room: &mut Room,
    user: &UserId,
    (reason, more): (Option<String>, Map<String, Value>),
) -> Result<()> {
    let row = of(tx, room.num, user)?.ok_or_else(|| Error::forbidden("you are not in this room"))?;
    if row.membership == "leave" {
        return Ok(());
    }
    // spec: client-server-api#server-notices
    if row.membership == "invite" && super::admins::is_of_notices(tx, room, user)? {
        let why = "notices of the server can't be declined";
        return Err(Error::forbidden_as("M_CANNOT_LEAVE_SERVER_NOTICE_ROOM", why));
    }
    let leaving = Change { sender: user, target: user, membership: MembershipState::Leave, reason, more };
    change(tx, me, room, leaving).map(drop)
}

/// Puts somebody out: a kick, or with `unban` only the end of a ban. The target has to be in that state.
pub fn put_out(
    tx: &WriteTx,
    me: &Identity,
    room: &mut Room,
    sender: &UserId,
    target: &UserId,
    (reason, unban): (Option<String>, bool),
) -> Result<()> {
    check_put_out(tx, room, target, unban)?;
    let out = Change { sender, target, membership: MembershipState::Leave, reason, more: Map::new() };
    change(tx, me, room, out).map(drop)
}

fn check_put_out(tx: &impl Read, room: &Room, target: &UserId, unban: bool) -> Result<()> {
    let was = of(tx, room.num, target)?.map(|row| row.membership);
    let fits = match unban {
        true => was.as_deref() == Some("ban"),
        false => matches!(was.as_deref(), Some("join" | "invite" | "knock")),
    };
    let what = if unban { "not banned from" } else { "not in" };
    if fits { Ok(()) } else { Err(Error::forbidden(format!("{target} is {what} this room"))) }
}

/// Forgets a room that one has left: it is in no list any more.
pub fn forget(tx: &WriteTx, room: &Room, user: &UserId) -> Result<()> {
    let row = of(tx, room.num, user)?;
    match row {
        Some(row) if matches!(row.membership.as_str(), "leave" | "ban") => {
            let row = MemberRow { forgotten: true, ..row };
            tx.wake(|wake| {
                wake.users.insert(user.to_owned());
            });
            write(tx, room.num, &[(user.as_str(), row)])
        }
        Some(_) => Err(Error::unknown("leave the room before you forget it")),
        None => Err(Error::forbidden("you have not been in this room")),
    }
}

/// Shows a changed profile in a room that its owner is in. A room that forbids it keeps the old one.
pub fn profile_changed(tx: &WriteTx, me: &Identity, num: RoomNum, user: &UserId) -> Result<()> {
    let mut room = Room::at(tx, num)?;
    if !is_joined(tx, num, user)? {
        return Ok(());
    }
    let Some(event) = room.state_event(tx, &StateEventType::RoomMember, user.as_str())? else { return Ok(()) };
    let Some(old) = event.content_as::<Map<String, Value>>() else { return Ok(()) };
    let mut content = old.clone();
    content.remove(VOUCHER);
    content.remove("reason");
    profile::add_to_member(tx, user, &mut content)?;
    if content == old {
        return Ok(());
    }
    let draft = Draft::state_of(TimelineEventType::RoomMember, user.as_str(), &content)?;
    match draft::send(tx, me, &mut room, user, &draft, None) {
        Ok(_) => Ok(()),
        Err(error) if error.wants_signed().is_some() || error.cause().is_some() => Err(error),
        Err(error) => {
            tracing::debug!(room = %room.row.id, %error, "a profile change is not allowed");
            Ok(())
        }
    }
}
