//! Who has to hear that somebody's devices or keys changed: the people who share a room with them.
//!
//! The log holds each person once, at their last change, so it never grows beyond the number of people.
//! spec: client-server-api#tracking-the-device-list-for-a-user

use std::collections::BTreeSet;

use ruma::{OwnedUserId, UserId};

use crate::{
    base::{Pos, RoomNum},
    error::Result,
    rooms::outgoing::{self, Outgoing},
    store::{Flow, LAST, Read, WriteTx, tables},
};

/// Whose devices a client should ask for again, and whose it need not track any more.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Their devices or keys changed, or they share a room with the viewer since.
    pub changed: BTreeSet<OwnedUserId>,
    /// They share no room with the viewer any more.
    pub left: BTreeSet<OwnedUserId>,
}

/// Who came and went between two syncs. Whoever asks knows it from the rooms that changed.
#[derive(Debug, Default)]
pub struct Moves {
    /// Rooms that the viewer came into.
    pub entered: Vec<RoomNum>,
    /// Rooms that the viewer was in and went out of.
    pub exited: Vec<RoomNum>,
    /// People who came into a room that the viewer is in.
    pub joined: BTreeSet<OwnedUserId>,
    /// People who went out of a room that the viewer is in.
    pub left: BTreeSet<OwnedUserId>,
}

/// Notes that somebody's devices, keys, own signatures or devices' names changed.
pub fn changed(tx: &WriteTx, user: &UserId) -> Result<()> {
    changed_at(tx, user, tx.next_pos())
}

fn changed_at(tx: &WriteTx, user: &UserId, pos: Pos) -> Result<()> {
    if let Some(old) = tables::DEVICE_LOG_POS.get(tx, user.as_str())? {
        tables::DEVICE_LOG.remove(tx, old)?;
    }
    tables::DEVICE_LOG.put(tx, pos, &user.to_string())?;
    tables::DEVICE_LOG_POS.put(tx, user.as_str(), &pos)?;
    tx.wake(|wake| {
        wake.devices.insert(user.to_owned());
    });
    Ok(())
}

/// Notes that one of our people's devices came, changed its keys or the signatures on them, or went, which
/// other servers are told as well. spec: server-server-api#device-management
pub fn device_changed(tx: &WriteTx, user: &UserId, device: &str) -> Result<()> {
    let prev = stream(tx, user)?;
    let pos = tx.next_pos();
    tables::DEVICE_STREAMS.put(tx, user.as_str(), &pos)?;
    outgoing::log(tx, pos, &Outgoing::Device { user: user.to_string(), device: device.to_owned(), prev })?;
    changed_at(tx, user, pos)
}

/// Notes that one of our people's cross-signing keys or their own signatures on them changed, which other
/// servers are told as well.
pub fn keys_changed(tx: &WriteTx, user: &UserId) -> Result<()> {
    let pos = tx.next_pos();
    outgoing::log(tx, pos, &Outgoing::SigningKeys { user: user.to_string() })?;
    changed_at(tx, user, pos)
}

/// The number of the last change of one of our people's devices that other servers are told of.
pub fn stream(tx: &impl Read, user: &UserId) -> Result<Pos> {
    Ok(tables::DEVICE_STREAMS.get(tx, user.as_str())?.unwrap_or(0))
}

/// Notes that `signer` has signed somebody's master key: the signer's other devices want to see it, and
/// nobody else may.
pub(super) fn signed(tx: &WriteTx, signer: &UserId, target: &UserId) -> Result<()> {
    let mut old = None;
    tables::SIGNING_LOG.scan(tx, (signer.as_str(), 0)..=(signer.as_str(), u64::MAX), |(_, pos), other| {
        old = (other == target.as_str()).then_some(pos);
        Ok(if old.is_some() { Flow::Stop } else { Flow::Next })
    })?;
    if let Some(old) = old {
        tables::SIGNING_LOG.remove(tx, (signer.as_str(), old))?;
    }
    tables::SIGNING_LOG.put(tx, (signer.as_str(), tx.next_pos()), &target.to_string())?;
    tx.wake(|wake| {
        wake.users.insert(signer.to_owned());
    });
    Ok(())
}

/// What `viewer` has to be told for the time after `from` up to `to`, with who came and went then.
pub fn changes(tx: &impl Read, viewer: &UserId, from: Pos, to: Pos, moves: &Moves) -> Result<Changes> {
    let mut changes = Changes::default();
    let mine = Company::of(tx, viewer);
    let to = to.max(from);
    for user in logged(tx, from, to)? {
        if user == viewer || mine.includes(&user)? {
            changes.changed.insert(user);
        }
    }
    changes.changed.extend(signed_by(tx, viewer, from, to)?);
    for room in &moves.entered {
        changes.changed.extend(members(tx, *room, Pos::MAX)?.into_iter().filter(|user| user != viewer));
    }
    let mut gone = moves.left.clone();
    for room in &moves.exited {
        // Who came in after the viewer went out is none of the viewer's business.
        let exit = tables::MEMBERS.get(tx, (*room, viewer.as_str()))?.map_or(0, |row| row.event);
        gone.extend(members(tx, *room, exit)?);
    }
    for user in moves.joined.iter().chain(&gone).filter(|user| *user != viewer) {
        match mine.includes(user)? {
            true if moves.joined.contains(user) => drop(changes.changed.insert(user.clone())),
            true => {}
            false => drop(changes.left.insert(user.clone())),
        }
    }
    let Changes { changed, left } = &mut changes;
    left.retain(|user| !changed.contains(user));
    Ok(changes)
}

/// The same for a client that comes back without having synced: who came and went is read from the
/// memberships as they are now. Rooms that the viewer left are not looked at, as what happened in them
/// since is none of the viewer's business.
pub fn changes_since(tx: &impl Read, viewer: &UserId, from: Pos, to: Pos) -> Result<Changes> {
    let mut moves = Moves::default();
    let range = (viewer.as_str(), 0)..=(viewer.as_str(), u64::MAX);
    let mut stayed = Vec::new();
    tables::USER_ROOMS.scan(tx, range, |(_, room), row| {
        match row.membership == "join" {
            true if row.event > from => moves.entered.push(room),
            true => stayed.push(room),
            false => {}
        }
        Ok(Flow::Next)
    })?;
    for room in stayed {
        tables::MEMBERS.scan(tx, (room, "")..=(room, LAST), |(_, user), row| {
            if row.event > from
                && let Ok(user) = UserId::parse(user)
            {
                match row.membership.as_str() {
                    "join" => drop(moves.joined.insert(user)),
                    "leave" | "ban" => drop(moves.left.insert(user)),
                    _ => {}
                }
            }
            Ok(Flow::Next)
        })?;
    }
    changes(tx, viewer, from, to, &moves)
}

/// Whether two people are in a room together.
pub fn shares_room(tx: &impl Read, a: &UserId, b: &UserId) -> Result<bool> {
    Company::of(tx, a).includes(b)
}

/// The rooms that somebody is in, read when first asked for.
struct Company<'a, T> {
    tx: &'a T,
    user: &'a UserId,
    rooms: std::cell::OnceCell<BTreeSet<RoomNum>>,
}

impl<'a, T: Read> Company<'a, T> {
    fn of(tx: &'a T, user: &'a UserId) -> Self {
        Self { tx, user, rooms: std::cell::OnceCell::new() }
    }

    fn includes(&self, other: &UserId) -> Result<bool> {
        if self.rooms.get().is_none() {
            let mut rooms = BTreeSet::new();
            each_room(self.tx, self.user, |room| {
                rooms.insert(room);
                Flow::Next
            })?;
            // Nobody else sets it: the cell is this thread's.
            let _ = self.rooms.set(rooms);
        }
        let Some(rooms) = self.rooms.get().filter(|rooms| !rooms.is_empty()) else { return Ok(false) };
        let mut found = false;
        each_room(self.tx, other, |room| {
            found = rooms.contains(&room);
            if found { Flow::Stop } else { Flow::Next }
        })?;
        Ok(found)
    }
}

fn each_room(tx: &impl Read, user: &UserId, mut visit: impl FnMut(RoomNum) -> Flow) -> Result<()> {
    let range = (user.as_str(), 0)..=(user.as_str(), u64::MAX);
    tables::USER_ROOMS.scan(tx, range, |(_, room), row| match row.membership == "join" {
        true => Ok(visit(room)),
        false => Ok(Flow::Next),
    })
}

/// Who is in a room, and was when a position was taken.
fn members(tx: &impl Read, room: RoomNum, at: Pos) -> Result<Vec<OwnedUserId>> {
    let mut out = Vec::new();
    tables::MEMBERS.scan(tx, (room, "")..=(room, LAST), |(_, user), row| {
        if row.membership == "join" && row.event <= at {
            out.extend(UserId::parse(user).ok());
        }
        Ok(Flow::Next)
    })?;
    Ok(out)
}

/// Whose devices changed after `from` up to `to`, and where that stands in the log.
pub fn log(tx: &impl Read, from: Pos, to: Pos) -> Result<Vec<(Pos, OwnedUserId)>> {
    let rows = tables::DEVICE_LOG.collect(tx, after(from)..after(to), |pos, user| (pos, UserId::parse(user)))?;
    Ok(rows.into_iter().filter_map(|(pos, user)| Some((pos, user.ok()?))).collect())
}

/// Whose devices changed after `from` up to `to`.
fn logged(tx: &impl Read, from: Pos, to: Pos) -> Result<Vec<OwnedUserId>> {
    Ok(log(tx, from, to)?.into_iter().map(|(_, user)| user).collect())
}

/// Whom `signer` has signed after `from` up to `to`.
fn signed_by(tx: &impl Read, signer: &UserId, from: Pos, to: Pos) -> Result<Vec<OwnedUserId>> {
    let range = (signer.as_str(), after(from))..(signer.as_str(), after(to));
    let users = tables::SIGNING_LOG.collect(tx, range, |_, user| UserId::parse(user))?;
    Ok(users.into_iter().flatten().collect())
}

/// The first position after one.
fn after(pos: Pos) -> Pos {
    pos.saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        e2ee::testing::{alice, bob, open},
        store::rows::MemberRow,
    };

    /// Sets a membership at the next position.
    fn member(tx: &WriteTx, room: RoomNum, user: &UserId, membership: &str) -> Result<()> {
        let row = MemberRow { membership: membership.into(), event: tx.next_pos(), at: None, forgotten: false };
        tables::MEMBERS.put(tx, (room, user.as_str()), &row)?;
        tables::USER_ROOMS.put(tx, (user.as_str(), room), &row)
    }

    fn only(user: &UserId) -> BTreeSet<OwnedUserId> {
        BTreeSet::from([user.to_owned()])
    }

    fn nothing() -> Changes {
        Changes::default()
    }

    #[tokio::test]
    async fn changes_are_told_once_and_to_those_who_share_a_room() {
        let (_dir, store) = open();
        let told = store.write(|tx| {
            let none = Moves::default();
            changed(tx, alice())?;
            assert_eq!(changes(tx, bob(), 0, u64::MAX, &none)?, nothing());
            assert_eq!(changes(tx, alice(), 0, u64::MAX, &none)?.changed, only(alice()));
            member(tx, 1, alice(), "join")?;
            member(tx, 1, bob(), "invite")?;
            assert!(!shares_room(tx, alice(), bob())?);
            member(tx, 1, bob(), "join")?;
            assert!(shares_room(tx, alice(), bob())? && shares_room(tx, bob(), alice())?);
            let before = tx.pos()?;
            changed(tx, alice())?;
            changed(tx, alice())?;
            let after = tx.pos()?;
            assert_eq!(changes(tx, bob(), before, after, &none)?.changed, only(alice()));
            assert_eq!(changes(tx, bob(), after, after + 9, &none)?, nothing());
            assert_eq!(changes(tx, bob(), after + 9, after, &none)?, nothing());
            tables::DEVICE_LOG.len(tx)
        });
        assert_eq!(told.await.expect("written"), 1, "each person stands in the log once");
    }

    #[tokio::test]
    async fn sharing_a_first_room_and_the_last_one_no_more_are_told() {
        let (_dir, store) = open();
        let told = store.write(|tx| {
            for room in [1, 2] {
                member(tx, room, alice(), "join")?;
                member(tx, room, bob(), "join")?;
            }
            let joined = Moves { joined: only(bob()), ..Moves::default() };
            assert_eq!(changes(tx, alice(), 9, 9, &joined)?.changed, only(bob()));
            let entered = Moves { entered: vec![1], ..Moves::default() };
            assert_eq!(changes(tx, alice(), 9, 9, &entered)?.changed, only(bob()));
            member(tx, 1, bob(), "leave")?;
            let left = Moves { left: only(bob()), ..Moves::default() };
            assert_eq!(changes(tx, alice(), 9, 9, &left)?, nothing(), "they still share room 2");
            member(tx, 2, alice(), "leave")?;
            assert_eq!(changes(tx, alice(), 9, 9, &left)?.left, only(bob()));
            let exited = || Moves { exited: vec![2], ..Moves::default() };
            assert_eq!(changes(tx, alice(), 9, 9, &exited())?.left, only(bob()));
            member(tx, 2, bob(), "leave")?;
            member(tx, 2, bob(), "join")?;
            assert_eq!(changes(tx, alice(), 9, 9, &exited())?, nothing(), "who came later is not told of");
            Ok(())
        });
        told.await.expect("written");
    }

    #[tokio::test]
    async fn a_client_that_comes_back_learns_who_came_and_went() {
        let (_dir, store) = open();
        let told = store.write(|tx| {
            member(tx, 1, alice(), "join")?;
            let away = tx.pos()?;
            member(tx, 1, bob(), "join")?;
            assert_eq!(changes_since(tx, alice(), away, tx.pos()?)?.changed, only(bob()));
            assert_eq!(changes_since(tx, bob(), away, tx.pos()?)?.changed, only(alice()));
            let away = tx.pos()?;
            member(tx, 1, bob(), "leave")?;
            assert_eq!(changes_since(tx, alice(), away, tx.pos()?)?.left, only(bob()));
            assert_eq!(changes_since(tx, bob(), away, tx.pos()?)?, nothing());
            Ok(())
        });
        told.await.expect("written");
    }

    #[tokio::test]
    async fn whom_one_has_signed_is_told_to_oneself_alone() {
        let (_dir, store) = open();
        let told = store.write(|tx| {
            member(tx, 1, alice(), "join")?;
            member(tx, 1, bob(), "join")?;
            let before = tx.pos()?;
            signed(tx, alice(), bob())?;
            signed(tx, alice(), bob())?;
            let none = Moves::default();
            assert_eq!(changes(tx, alice(), before, tx.pos()?, &none)?.changed, only(bob()));
            assert_eq!(changes(tx, bob(), before, tx.pos()?, &none)?, nothing());
            tables::SIGNING_LOG.len(tx)
        });
        assert_eq!(told.await.expect("written"), 1);
    }
}
