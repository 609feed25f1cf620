//! Who is typing where. It lives in memory only; each change of a room's list takes the next tick, and
//! a list that has run out is noticed by [`Typing::sweep`]. spec: client-server-api#typing-notifications

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ruma::{OwnedUserId, UserId};

use crate::base::{RoomNum, clock};

/// However long a client says that somebody goes on typing, it is at most this.
const MAX_TIMEOUT: Duration = Duration::from_secs(120);
/// People typing in a room at once at most: further ones are not shown.
const MAX_TYPING: usize = 100;
/// People who were not heard of that are remembered.
const MAX_SILENT: usize = 1000;
/// Rooms that are remembered after everybody has stopped.
const MAX_QUIET: usize = 10_000;

/// All rooms in which somebody types, or did since the server was started.
#[derive(Default)]
pub struct Typing {
    rooms: Mutex<HashMap<RoomNum, List>>,
    /// Who was not heard of for too long, for those who tell other servers.
    silent: Mutex<Vec<(RoomNum, OwnedUserId)>>,
}

#[derive(Default)]
struct List {
    /// The tick of the last change.
    changed: u64,
    /// Who types, and until when, milliseconds.
    people: Vec<(OwnedUserId, u64)>,
}

impl Typing {
    /// Says that somebody types for some time. True if the room's list changed.
    pub fn start(&self, room: RoomNum, user: &UserId, timeout: Duration) -> bool {
        let timeout = u64::try_from(timeout.min(MAX_TIMEOUT).as_millis()).unwrap_or(0);
        let until = clock::now_ms() + timeout;
        let mut rooms = self.rooms();
        let list = rooms.entry(room).or_default();
        if let Some((_, old)) = list.people.iter_mut().find(|(typing, _)| typing == user) {
            *old = until;
            return false;
        }
        if list.people.len() >= MAX_TYPING {
            return false;
        }
        list.people.push((user.to_owned(), until));
        list.changed = clock::tick();
        true
    }

    /// Says that somebody does not type any more. True if the room's list changed.
    pub fn stop(&self, room: RoomNum, user: &UserId) -> bool {
        let mut rooms = self.rooms();
        let Some(list) = rooms.get_mut(&room) else { return false };
        let before = list.people.len();
        list.people.retain(|(typing, _)| typing != user);
        let changed = list.people.len() != before;
        if changed {
            list.changed = clock::tick();
        }
        changed
    }

    /// The rooms whose lists changed after a tick.
    pub fn changed_since(&self, since: u64) -> Vec<RoomNum> {
        let rooms = self.rooms();
        rooms.iter().filter(|(_, list)| list.changed > since).map(|(room, _)| *room).collect()
    }

    /// Who types in a room, if that changed after a tick.
    pub fn list(&self, room: RoomNum, since: u64) -> Option<Vec<OwnedUserId>> {
        let rooms = self.rooms();
        let list = rooms.get(&room).filter(|list| list.changed > since)?;
        Some(list.people.iter().map(|(user, _)| user.clone()).collect())
    }

    /// The rooms in which somebody types.
    pub fn busy(&self) -> Vec<RoomNum> {
        let rooms = self.rooms();
        rooms.iter().filter(|(_, list)| !list.people.is_empty()).map(|(room, _)| *room).collect()
    }

    /// Says that nobody types any more in rooms where somebody did before the server was started anew.
    pub fn ended(&self, busy: &[RoomNum]) {
        let mut rooms = self.rooms();
        for room in busy.iter().take(MAX_QUIET) {
            rooms.entry(*room).or_default().changed = clock::tick();
        }
    }

    /// Takes out who has not said for too long that they still type. Returns the rooms that changed.
    pub fn sweep(&self) -> Vec<RoomNum> {
        self.sweep_at(clock::now_ms())
    }

    /// Who was taken out by that since this was last asked, and where.
    pub fn silent(&self) -> Vec<(RoomNum, OwnedUserId)> {
        std::mem::take(&mut *self.silent.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn sweep_at(&self, now: u64) -> Vec<RoomNum> {
        let mut rooms = self.rooms();
        let mut changed = Vec::new();
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        for (room, list) in rooms.iter_mut() {
            for (user, _) in list.people.extract_if(.., |(_, until)| *until <= now) {
                list.changed = clock::tick();
                if changed.last() != Some(room) {
                    changed.push(*room);
                }
                if silent.len() < MAX_SILENT {
                    silent.push((*room, user));
                }
            }
        }
        if rooms.len() > MAX_QUIET {
            // Whoever polls has heard of these long ago.
            rooms.retain(|_, list| !list.people.is_empty() || now.saturating_sub(list.changed) < 10 * 60_000);
        }
        changed
    }

    fn rooms(&self) -> MutexGuard<'_, HashMap<RoomNum, List>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;

    #[test]
    fn lists_change_when_people_start_stop_or_are_not_heard_of() {
        let (typing, alice, bob) = (Typing::default(), user_id!("@alice:b.c"), user_id!("@bob:b.c"));
        let start = clock::tick();
        assert!(typing.start(1, alice, Duration::from_secs(5)));
        assert!(!typing.start(1, alice, Duration::from_secs(20)), "going on is no change");
        assert!(typing.start(1, bob, Duration::from_secs(3600)));
        assert_eq!(typing.changed_since(start), [1]);
        assert_eq!(typing.list(1, start).expect("changed"), [alice, bob]);
        let seen = clock::last_tick();
        assert_eq!(typing.list(1, seen), None);
        assert!(typing.stop(1, bob));
        assert!(!typing.stop(1, bob));
        assert_eq!(typing.list(1, seen).expect("changed"), [alice]);
        assert!(typing.sweep_at(clock::now_ms() + 10_000).is_empty());
        assert_eq!(typing.sweep_at(clock::now_ms() + 30_000), [1]);
        assert_eq!(typing.list(1, seen).expect("changed"), [] as [&UserId; 0]);
    }

    #[test]
    fn no_list_grows_without_end_and_nobody_types_for_ever() {
        let typing = Typing::default();
        for n in 0..MAX_TYPING + 5 {
            typing.start(1, &UserId::parse(format!("@u{n}:b.c")).expect("an ID"), Duration::MAX);
        }
        assert_eq!(typing.list(1, 0).expect("changed").len(), MAX_TYPING);
        assert_eq!(typing.sweep_at(clock::now_ms() + 121_000), [1]);
        assert!(typing.list(1, 0).expect("changed").is_empty());
    }
}
