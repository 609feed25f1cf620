//! Which servers are in which room: an index over the memberships, kept in step by `members::set`, with
//! how many people each server has in the room, and from when to when it had any.
//!
//! "When" is a position: a server is told of an event if it was in the room when the event was written,
//! and so of the event by which its last member went out, but not of the one by which its first came in,
//! which it has from whoever let it in.

use ruma::{OwnedServerName, ServerName, UserId};

use super::members;
use crate::{
    base::{Pos, RoomNum},
    error::Result,
    store::{
        Flow, LAST, Read, WriteTx,
        rows::{ServerRow, Stay},
        tables,
    },
};

/// Stays of a server in a room that are remembered; of two that are too old to tell apart, the gap between
/// them is forgotten.
const MAX_STAYS: usize = 16;

/// Notes that so many people of a server came into a room, or with a minus went out. Returns by how much the
/// number of servers in the room changed.
pub(super) fn count(tx: &WriteTx, room: RoomNum, server: &ServerName, came: i64) -> Result<i64> {
    let mut row = tables::ROOM_SERVERS.get(tx, (room, server.as_str()))?.unwrap_or_default();
    let was = row.is_in();
    row.joined = row.joined.saturating_add_signed(came);
    turn(tx, (room, server), row, was)
}

/// Notes that we were told of a server that it is in a room, or that this does not count any more. Returns by
/// how much the number of servers in the room changed.
pub(super) fn tell(tx: &WriteTx, room: RoomNum, server: &ServerName, told: bool) -> Result<i64> {
    let mut row = tables::ROOM_SERVERS.get(tx, (room, server.as_str()))?.unwrap_or_default();
    let was = row.is_in();
    row.told = told;
    turn(tx, (room, server), row, was)
}

/// Writes a server's row in a room, in which it was or was not before.
fn turn(tx: &WriteTx, (room, server): (RoomNum, &ServerName), mut row: ServerRow, was: bool) -> Result<i64> {
    let change = i64::from(row.is_in()) - i64::from(was);
    match change {
        1 => {
            row.stays.push(Stay { since: tx.pos()?, until: Pos::MAX });
            if row.stays.len() > MAX_STAYS {
                row.stays[1].since = row.stays[0].since;
                row.stays.remove(0);
            }
            tables::SERVER_ROOMS.put(tx, (server.as_str(), room), &())?;
        }
        -1 => {
            if let Some(stay) = row.stays.last_mut() {
                stay.until = tx.pos()?;
            }
            tables::SERVER_ROOMS.remove(tx, (server.as_str(), room))?;
        }
        _ => {}
    }
    tables::ROOM_SERVERS.put(tx, (room, server.as_str()), &row)?;
    Ok(change)
}

/// The servers that are in a room.
pub fn in_room(tx: &impl Read, room: RoomNum) -> Result<Vec<OwnedServerName>> {
    collect(tx, room, ServerRow::is_in)
}

/// The servers of which we were told that they are in a room.
pub fn told(tx: &impl Read, room: RoomNum) -> Result<Vec<OwnedServerName>> {
    collect(tx, room, |row| row.told)
}

/// The servers that were in a room when something was written at a position.
pub fn in_room_at(tx: &impl Read, room: RoomNum, pos: Pos) -> Result<Vec<OwnedServerName>> {
    collect(tx, room, |row| row.was_there(pos))
}

fn collect(tx: &impl Read, room: RoomNum, fits: impl Fn(&ServerRow) -> bool) -> Result<Vec<OwnedServerName>> {
    let mut out = Vec::new();
    tables::ROOM_SERVERS.scan(tx, (room, "")..=(room, LAST), |(_, server), row| {
        if fits(&row) {
            out.extend(ServerName::parse(server).ok());
        }
        Ok(Flow::Next)
    })?;
    Ok(out)
}

/// The servers that are or were in a room, with when they were.
pub fn with_stays(tx: &impl Read, room: RoomNum) -> Result<Vec<(OwnedServerName, ServerRow)>> {
    let range = (room, "")..=(room, LAST);
    let rows = tables::ROOM_SERVERS.collect(tx, range, |(_, server), row| (ServerName::parse(server), row))?;
    Ok(rows.into_iter().filter_map(|(server, row)| Some((server.ok()?, row))).collect())
}

/// Whether a server is in a room.
pub fn is_in(tx: &impl Read, room: RoomNum, server: &ServerName) -> Result<bool> {
    Ok(tables::ROOM_SERVERS.get(tx, (room, server.as_str()))?.is_some_and(|row| row.is_in()))
}

/// The position since which a server is in a room, if it is.
pub fn in_since(tx: &impl Read, room: RoomNum, server: &ServerName) -> Result<Option<Pos>> {
    let row = tables::ROOM_SERVERS.get(tx, (room, server.as_str()))?.filter(ServerRow::is_in);
    Ok(row.and_then(|row| row.stays.last().map(|stay| stay.since)))
}

/// How many people of a server are in a room.
pub fn joined(tx: &impl Read, room: RoomNum, server: &ServerName) -> Result<u64> {
    Ok(tables::ROOM_SERVERS.get(tx, (room, server.as_str()))?.map_or(0, |row| row.joined))
}

/// Whether a server is or was in a room.
pub fn was_ever_in(tx: &impl Read, room: RoomNum, server: &ServerName) -> Result<bool> {
    tables::ROOM_SERVERS.has(tx, (room, server.as_str()))
}

/// Whether a server was in a room when something was written at a position.
pub fn was_in(tx: &impl Read, room: RoomNum, server: &ServerName, pos: Pos) -> Result<bool> {
    Ok(tables::ROOM_SERVERS.get(tx, (room, server.as_str()))?.is_some_and(|row| row.was_there(pos)))
}

/// Whether a server was in a room at some time before a position.
pub fn came_before(tx: &impl Read, room: RoomNum, server: &ServerName, pos: Pos) -> Result<bool> {
    let row = tables::ROOM_SERVERS.get(tx, (room, server.as_str()))?;
    Ok(row.is_some_and(|row| row.stays.iter().any(|stay| stay.since < pos)))
}

/// The rooms that a server is in.
pub fn rooms_of(tx: &impl Read, server: &ServerName) -> Result<Vec<RoomNum>> {
    let server = server.as_str();
    tables::SERVER_ROOMS.collect(tx, (server, 0)..=(server, RoomNum::MAX), |(_, room), ()| room)
}

/// Other servers that are in any room of ours, from a name on.
pub fn known(tx: &impl Read, me: &ServerName, from: &str, limit: usize) -> Result<Vec<OwnedServerName>> {
    let mut out: Vec<OwnedServerName> = Vec::new();
    let mut after = (from.to_owned(), 0);
    while out.len() < limit {
        // The first room of the next server: the other rooms of one are passed over.
        let mut next = None;
        tables::SERVER_ROOMS.scan(tx, (after.0.as_str(), after.1)..=(LAST, RoomNum::MAX), |(server, _), ()| {
            next = Some(server.to_owned());
            Ok(Flow::Stop)
        })?;
        let Some(server) = next else { break };
        out.extend(ServerName::parse(&server).ok().filter(|name| name != me));
        after = (format!("{server}\0"), 0);
    }
    Ok(out)
}

/// Whether a server is in a room that somebody is in.
pub fn shares_room(tx: &impl Read, server: &ServerName, user: &UserId) -> Result<bool> {
    for room in members::joined_rooms(tx, user)? {
        if is_in(tx, room, server)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The servers that are in rooms that somebody is in.
pub fn sharing_with(tx: &impl Read, user: &UserId) -> Result<std::collections::BTreeSet<OwnedServerName>> {
    let mut out = std::collections::BTreeSet::new();
    for room in members::joined_rooms(tx, user)? {
        out.extend(in_room(tx, room)?);
    }
    Ok(out)
}

/// Somebody goes out of a room. If they are in no other one with our people, their server will not tell us
/// of their devices any more, and what is kept of those is not to be trusted when they come back.
pub(super) fn lose_sight(tx: &WriteTx, user: &UserId, left: RoomNum) -> Result<()> {
    if !tables::REMOTE_DEVICE_LISTS.has(tx, user.as_str())? {
        return Ok(());
    }
    let me = tables::IDENTITY.get(tx, "server_name")?.and_then(|name| ServerName::parse(name).ok());
    for room in members::joined_rooms(tx, user)?.into_iter().filter(|room| *room != left) {
        if let Some(me) = &me
            && is_in(tx, room, me)?
        {
            return Ok(());
        }
    }
    tables::REMOTE_DEVICE_LISTS.remove(tx, user.as_str()).map(drop)
}

/// Builds the index for a store from before it.
pub fn build(tx: &WriteTx) -> Result<()> {
    let mut joined = Vec::new();
    tables::MEMBERS.scan(tx, (0, "")..=(RoomNum::MAX, LAST), |(room, user), row| {
        if row.membership == "join"
            && let Ok(user) = UserId::parse(user)
        {
            joined.push((room, user.server_name().to_owned()));
        }
        Ok(Flow::Next)
    })?;
    for (num, server) in joined {
        let came = count(tx, num, &server, 1)?;
        if came != 0 {
            let mut room = super::Room::at(tx, num)?;
            room.row.servers = room.row.servers.saturating_add_signed(came);
            room.save(tx)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;
    use crate::store::{Options, Store};

    #[tokio::test]
    async fn a_server_is_told_what_was_written_while_it_was_there() {
        let dir = tempfile::tempdir().expect("a directory");
        let options = Options { page_cache: 1 << 20, state_cache: 1 << 16, min_free: 0 };
        let store = Store::open(&dir.path().join("hearth.redb"), options, Box::new(|_, _| {})).expect("opens");
        let (a, b) = (server_name!("a.test"), server_name!("b.test"));
        let told = store.write(move |tx| {
            let before = tx.next_pos();
            assert_eq!((count(tx, 1, a, 1)?, count(tx, 1, a, 1)?, count(tx, 1, b, 1)?), (1, 0, 1));
            let (in_it, more) = (tx.next_pos(), tx.next_pos());
            assert_eq!((count(tx, 1, b, -1)?, count(tx, 1, a, -1)?), (-1, 0));
            let after = tx.next_pos();
            let was_in = |server, pos| was_in(tx, 1, server, pos).expect("read");
            assert_eq!([before, in_it, more, after].map(|pos| was_in(b, pos)), [false, true, true, false]);
            assert_eq!([before, in_it, more, after].map(|pos| was_in(a, pos)), [false, true, true, true]);
            assert_eq!(in_room(tx, 1)?, [a]);
            assert_eq!(in_room_at(tx, 1, more)?, [a, b]);
            assert_eq!((rooms_of(tx, a)?, rooms_of(tx, b)?), (vec![1], vec![]));
            for _ in 0..3 * MAX_STAYS {
                tx.next_pos();
                count(tx, 1, b, 1)?;
                tx.next_pos();
                count(tx, 1, b, -1)?;
            }
            let row = tables::ROOM_SERVERS.get(tx, (1, b.as_str()))?.expect("a row");
            assert_eq!((row.stays.len(), row.joined), (MAX_STAYS, 0));
            assert!(row.was_there(in_it), "what is forgotten is that it was away");
            Ok(())
        });
        told.await.expect("written");
    }
}
