//! Rooms that were entered before all of their members were known: a *partial* room can be read and spoken
//! in at once, and what is lacking is laid down beside it.
//! spec: server-server-api#put_matrixfederationv2send_joinroomideventid (`omit_members`)
//!
//! 1. [`open`] enters the room. Below its state is an open layer (see `state`) that stands for the members.
//!    `RoomRow::shown` is what clients are told of the state meanwhile: places of the timeline have that.
//! 2. What happens is judged as always. Of members who are not known yet, the memberships that an event cites
//!    are supposed (`learn`): put into the open layer and shown. What cites another person's old membership may
//!    so be let in that should not be.
//! 3. [`lay`] puts the members together in pieces, and into the index of who is in the room.
//! 4. [`finish`] puts them below the open layer, and so into every state of the room at once. A place without
//!    an event tells clients.
//! 5. What came meanwhile is judged once more; see `second_look.rs`.
//!
//! What a crash leaves behind is where the next start goes on from: `PARTIAL` has a row until 5 is done.

use std::collections::BTreeMap;

use ruma::{EventId, OwnedServerName, OwnedUserId, UserId, events::TimelineEventType};

use super::{
    auth, event,
    event::Pdu,
    joining::{self, Entry, Told},
    members,
    outliers::{self, Cited},
    pdu::Checked,
    room::Room,
    servers,
    state::{self, StateId},
    timeline::order_of,
};
use crate::{
    base::{Pos, RoomNum, clock, signing::Identity},
    error::{Error, Result},
    store::{Flow, Read, WriteTx, rows::Place, tables},
};

pub use crate::store::rows::PartialRow;

const MEMBER: &str = "m.room.member";

/// What is lacking of a room, if it is partial, or was and has not been looked at again.
pub fn of(tx: &impl Read, room: RoomNum) -> Result<Option<PartialRow>> {
    tables::PARTIAL.get(tx, room)
}

/// All such rooms.
pub fn all(tx: &impl Read) -> Result<Vec<(RoomNum, PartialRow)>> {
    tables::PARTIAL.collect(tx, 0.., |room, row| (room, row))
}

/// 404 `M_UNABLE_DUE_TO_PARTIAL_STATE`: what can't be said while the members are not known.
pub fn unable() -> Error {
    Error::not_found("").because("M_UNABLE_DUE_TO_PARTIAL_STATE", "this server does not know all of the room yet")
}

/// Whoever is thought to be in a room that is to be entered, or at its door, and is not of ours: from an earlier
/// stay.
pub fn remembered(tx: &impl Read, me: &Identity, room: RoomNum) -> Result<Vec<OwnedUserId>> {
    let mut out = Vec::new();
    members::each(tx, room, |user, row| {
        if row.membership != "leave"
            && let Ok(user) = UserId::parse(user)
            && !me.owns(&user)
        {
            out.push(user);
        }
        Ok(Flow::Next)
    })?;
    Ok(out)
}

/// Whether anything is remembered of who was in a room that is to be entered.
pub fn is_remembered(tx: &impl Read, room: &Room) -> Result<bool> {
    Ok(room.row.state != 0 || tables::STAGED.has(tx, room.num)? || tables::PARTIAL.has(tx, room.num)?)
}

/// Forgets that some people are in a room.
pub fn forget(tx: &WriteTx, num: RoomNum, users: &[OwnedUserId]) -> Result<()> {
    let mut room = Room::at(tx, num)?;
    for user in users {
        let now = tx.pos()?;
        members::stand(tx, &mut room, user, (0, now))?;
    }
    room.save(tx)
}

/// Once everybody is forgotten, and what came before: nothing is laid down of the room that is to be entered.
pub fn forgotten(tx: &WriteTx, num: RoomNum) -> Result<()> {
    let mut room = Room::at(tx, num)?;
    room.row.looked_at_again = false;
    room.save(tx)?;
    tables::PARTIAL.remove(tx, num)?;
    tables::STAGED.put(tx, num, &0)
}

/// Notes that some servers are in a room, or that this does not count any more.
pub fn tell(tx: &WriteTx, num: RoomNum, servers: &[OwnedServerName], told: bool) -> Result<()> {
    let mut room = Room::at(tx, num)?;
    for server in servers {
        let change = servers::tell(tx, num, server, told)?;
        room.row.servers = room.row.servers.saturating_add_signed(change);
    }
    room.save(tx)
}

/// What [`open`] opens.
pub struct Opening<'a> {
    /// The join, as the server in the room has taken it in.
    pub join: &'a Checked,
    /// The members that are known.
    pub members: &'a [Entry],
    /// The server by which the room is entered.
    pub by: &'a ruma::ServerName,
}

/// Writes the join on top of the state that was laid down, all but its members: the room is there.
pub fn open(tx: &WriteTx, num: RoomNum, opening: &Opening<'_>) -> Result<Pos> {
    let mut room = Room::at(tx, num)?;
    let laid = tables::STAGED.get(tx, num)?.unwrap_or(0);
    let supposed = joining::numbered(tx, opening.members)?;
    let open = state::open(tx, &supposed)?;
    let before = state::with(tx, open, &state::all(tx, laid)?.into_iter().collect())?;
    room.row.state = before;
    room.row.shown = state::with(tx, laid, &supposed)?;
    let now = tx.pos()?;
    for (key, pos) in supposed {
        let (_, user) = state::key_name(tx, key)?;
        members::stand(tx, &mut room, <&UserId>::try_from(user.as_str()).map_err(Error::internal)?, (pos, now))?;
    }
    let row = PartialRow {
        join: opening.join.pdu().id.to_string(),
        by: opening.by.to_string(),
        began: clock::now_ms(),
        open,
        members: 0,
        failures: 0,
        retry_at: 0,
        whole: 0,
        look: None,
    };
    tables::PARTIAL.put(tx, num, &row)?;
    let pos = joining::enter_by(tx, &mut room, opening.join, before)?;
    room.row.looked_at_again = true;
    room.save(tx)?;
    Ok(pos)
}

/// The state that clients are told of, once the room's state has changed from another.
pub(super) fn follow(tx: &WriteTx, room: &mut Room, old: StateId) -> Result<()> {
    if room.is_partial() {
        let changes = state::diff(tx, old, room.row.state)?.into_iter().collect();
        room.row.shown = state::with(tx, room.row.shown, &changes)?;
    }
    Ok(())
}

/// Supposes the memberships that an event cites, where nothing better is known, if they allow it.
pub(super) fn learn(tx: &WriteTx, room: &mut Room, pdu: &Pdu) -> Result<()> {
    let Some(partial) = of(tx, room.num)?.filter(|row| row.whole == 0) else { return Ok(()) };
    let Cited::Known(cited) = outliers::cited(tx, room, pdu)? else { return Ok(()) };
    if cited.iter().any(|event| event.rejected) || auth::check_cited(&room.rules().authorization, pdu, &cited).is_err()
    {
        return Ok(());
    }
    // Our own people are those who came in through us.
    let me = tables::IDENTITY.get(tx, "server_name")?;
    let mut learnt = false;
    for event in cited.iter().filter(|event| event.kind == TimelineEventType::RoomMember && event.pos != 0) {
        let Some(user) = event.state_key.as_deref().and_then(|key| <&UserId>::try_from(key).ok()) else { continue };
        let key = state::key_or_new(tx, &event.name, user.as_str())?;
        if me.as_deref() == Some(user.server_name().as_str()) || state::at_firmly(tx, room.row.state, key)?.is_some() {
            continue;
        }
        match state::at(tx, room.row.state, key)? {
            Some(known) if known == event.pos || Pdu::at(tx, known)?.depth >= event.depth => continue,
            _ => {}
        }
        state::suppose(tx, partial.open, (key, event.pos))?;
        room.row.shown = state::with(tx, room.row.shown, &BTreeMap::from([(key, event.pos)]))?;
        let now = tx.pos()?;
        members::stand(tx, room, user, (event.pos, now))?;
        learnt = true;
    }
    if learnt { room.save(tx) } else { Ok(()) }
}

/// The state after an event that stands just before the join by which a room was entered: it need not be
/// here, as that is the state before the join.
pub(super) fn after_end(tx: &impl Read, room: &Room, id: &EventId) -> Result<Option<StateId>> {
    let Some(partial) = of(tx, room.num)? else { return Ok(None) };
    let join = event::parse_id(&partial.join)?;
    let Some(pos) = event::position(tx, &join)? else { return Ok(None) };
    let names = Pdu::at(tx, pos)?.prev_events.iter().any(|before| before == id);
    Ok(if names { Some(event::row(tx, pos)?.state_before) } else { None })
}

/// Forgets what was laid down of some members, before others are: by a server that told what does not hold, or before
/// a crash. 409 as for [`lay`].
pub fn lay_off(tx: &WriteTx, num: RoomNum, join: &EventId, keys: &[u64]) -> Result<()> {
    let (mut room, mut partial) = lacking(tx, num, join)?;
    let none = keys.iter().map(|key| (*key, 0)).collect();
    partial.members = state::with(tx, partial.members, &none)?;
    tables::PARTIAL.put(tx, num, &partial)?;
    for key in keys {
        let (_, user) = state::key_name(tx, *key)?;
        if let Ok(user) = UserId::parse(user) {
            // They may have come since, or be supposed to be there.
            let (pos, now) = (state::at(tx, room.row.state, *key)?.unwrap_or(0), tx.pos()?);
            members::stand(tx, &mut room, &user, (pos, now))?;
        }
    }
    room.save(tx)
}

/// The members that are laid down already, by their keys.
pub fn laid(tx: &impl Read, num: RoomNum) -> Result<Vec<u64>> {
    let members = of(tx, num)?.filter(|row| row.whole == 0).map_or(0, |row| row.members);
    Ok(state::all(tx, members)?.into_iter().map(|(key, _)| key).collect())
}

/// Lays down some events that were judged, and those of them that are members before the join. 409 if the room was
/// left, or is not lacking them any more.
pub fn lay<'a>(tx: &WriteTx, num: RoomNum, join: &EventId, piece: &'a [Told]) -> Result<()> {
    let (mut room, mut partial) = lacking(tx, num, join)?;
    let places = joining::lay_events(tx, num, piece)?;
    let as_member = |(told, pos): (&'a Told, Pos)| {
        let event = told.event.pdu();
        let is_member = told.in_state && event.name == MEMBER;
        Some((event.state_key.as_deref().filter(|_| is_member)?, event, pos))
    };
    let laid: Vec<(&str, &Pdu, Pos)> = piece.iter().zip(places).filter_map(as_member).collect();
    let users: Vec<&str> = laid.iter().map(|(user, ..)| *user).collect();
    let keys = state::keys_or_new(tx, MEMBER, &users)?;
    let entries = keys.iter().copied().zip(laid.iter().map(|(.., pos)| *pos)).collect();
    partial.members = state::with(tx, partial.members, &entries)?;
    tables::PARTIAL.put(tx, num, &partial)?;
    let (me, now, mut crowd) = (tables::IDENTITY.get(tx, "server_name")?, tx.pos()?, Vec::with_capacity(laid.len()));
    for (key, (user, event, pos)) in keys.into_iter().zip(laid) {
        let Ok(user) = <&UserId>::try_from(user) else { continue };
        if state::at_firmly(tx, room.row.state, key)?.is_some() {
            continue;
        }
        match me.as_deref() == Some(user.server_name().as_str()) {
            false => crowd.push((user, event, pos)),
            true if members::of(tx, num, user)?.is_some_and(|row| row.event == pos) => {}
            true => members::stand(tx, &mut room, user, (pos, now))?,
        }
    }
    members::note_crowd(tx, &mut room, &crowd, now)?;
    room.save(tx)
}

fn lacking(tx: &impl Read, num: RoomNum, join: &EventId) -> Result<(Room, PartialRow)> {
    let partial = of(tx, num)?.filter(|row| row.whole == 0 && row.join == join.as_str());
    let partial = partial.ok_or_else(|| Error::conflict("M_UNKNOWN", "the room lacks nothing any more"))?;
    Ok((Room::at(tx, num)?, partial))
}

/// All members are laid down: the room lacks nothing any more.
pub fn finish(tx: &WriteTx, num: RoomNum, join: &EventId) -> Result<()> {
    let (mut room, mut partial) = lacking(tx, num, join)?;
    state::close(tx, partial.open, partial.members)?;
    let whole = tx.next_pos();
    let place = Place { event: 0, state_after: room.row.state };
    tables::TIMELINE.put(tx, (num, order_of(whole)), &place)?;
    partial.whole = whole;
    tables::PARTIAL.put(tx, num, &partial)?;
    room.row.shown = 0;
    let entered = event::position(tx, join)?.map(|pos| event::row(tx, pos).map(|row| row.place(pos))).transpose()?;
    room.row.was_partial = entered.flatten().map(|entered| (entered, order_of(whole)));
    room.save(tx)?;
    tx.wake(|wake| {
        wake.rooms.insert(num);
    });
    Ok(())
}

/// The place of a room's timeline at which its members as of another place are known.
pub fn known_at(room: &Room, order: i64) -> i64 {
    match room.row.was_partial {
        Some((from, upto)) if (from..upto).contains(&order) => upto,
        _ => order,
    }
}

/// Notes that nobody could tell the members, and when it is to be tried again.
pub fn failed(tx: &WriteTx, num: RoomNum, join: &EventId, retry_at: u64) -> Result<()> {
    let (_, mut partial) = lacking(tx, num, join)?;
    partial.failures = partial.failures.saturating_add(1);
    partial.retry_at = retry_at;
    tables::PARTIAL.put(tx, num, &partial)
}

/// Nothing is left to do for a room.
pub fn done(tx: &WriteTx, num: RoomNum) -> Result<()> {
    tables::PARTIAL.remove(tx, num).map(drop)
}
