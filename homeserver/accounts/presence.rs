//! Presence: who is online, idle or away. It lives in memory only, with a bound on how many people are
//! remembered. Each visible change takes a number; numbers follow the clock, so that none that was
//! given out before a restart comes again. Whom a change concerns is not known here.
//! spec: client-server-api#presence

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ruma::{OwnedUserId, UserId, presence::PresenceState};

use crate::{
    base::{RoomNum, clock},
    error::{Error, Result},
};

/// Without doing anything for this long, milliseconds, somebody online counts as idle.
const IDLE_AFTER: u64 = 5 * 60_000;
/// For this long after doing something, milliseconds, somebody is active now.
const ACTIVE_FOR: u64 = 60_000;
/// A device that has not synced for this long, milliseconds, is gone.
const GONE_AFTER: u64 = 30_000;
/// What another server said counts for this long, milliseconds, if nothing more is heard.
const HEARD_FOR: u64 = 30 * 60_000;
/// People remembered at most.
const MAX_PEOPLE: usize = 50_000;
/// Devices of one person remembered at most.
const MAX_DEVICES: usize = 16;
/// Arrivals in rooms that are remembered until other servers are told who is there.
const MAX_ARRIVALS: usize = 1000;
/// Bytes of a status message at most.
const MAX_STATUS: usize = 1024;

/// What others see of somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Online, unavailable or offline.
    pub state: PresenceState,
    /// What the person says about it.
    pub message: Option<String>,
    /// Milliseconds since the person last did something, if they ever did.
    pub last_active_ago: Option<u64>,
    /// The person is doing something now, and nobody is told each time.
    pub currently_active: bool,
}

/// Everybody's presence.
#[derive(Default)]
pub struct Presence {
    people: Mutex<People>,
    arrivals: Mutex<Vec<(OwnedUserId, RoomNum)>>,
}

#[derive(Default)]
struct People {
    known: HashMap<OwnedUserId, Person>,
    /// The last change of each, by its number.
    changes: BTreeMap<u64, OwnedUserId>,
    newest: u64,
}

#[derive(Default)]
struct Person {
    devices: Vec<Device>,
    /// What another server says of its own.
    heard: Option<Heard>,
    message: Option<String>,
    last_active: u64,
    /// What others were last told, and the number of that change.
    shown: Option<(PresenceState, bool, Option<String>)>,
    changed: u64,
}

struct Heard {
    state: PresenceState,
    currently_active: bool,
    at: u64,
}

struct Device {
    id: String,
    state: PresenceState,
    /// Syncs that wait right now.
    syncing: u32,
    seen: u64,
}

/// A sync under way: as long as it is held, its device is there.
pub struct Syncing {
    presence: Arc<Presence>,
    user: OwnedUserId,
    device: String,
}

impl Drop for Syncing {
    fn drop(&mut self) {
        let mut people = self.presence.people();
        let Some(person) = people.known.get_mut(&self.user) else { return };
        if let Some(device) = person.devices.iter_mut().find(|device| device.id == self.device) {
            device.syncing = device.syncing.saturating_sub(1);
            device.seen = clock::now_ms();
        }
    }
}

impl Presence {
    /// Sets what somebody wants to be seen as, and what they say about it. Counts as doing something.
    pub fn set(&self, user: &UserId, device: &str, state: PresenceState, message: Option<String>) -> Result<()> {
        if message.as_ref().is_some_and(|text| text.len() > MAX_STATUS) {
            return Err(Error::invalid_param(format!("a status message has at most {MAX_STATUS} bytes")));
        }
        if !matches!(state, PresenceState::Online | PresenceState::Unavailable | PresenceState::Offline) {
            return Err(Error::invalid_param("presence is online, unavailable or offline"));
        }
        self.update(user, clock::now_ms(), |person, now| {
            person.device(device, now).state = state;
            person.message = message.filter(|text| !text.is_empty());
            person.last_active = now;
        });
        Ok(())
    }

    /// Notes that a device syncs, as long as the answer is held. None if it does not want to be seen
    /// (`set_presence=offline`).
    pub fn syncing(self: &Arc<Self>, user: &UserId, device: &str, state: &PresenceState) -> Option<Syncing> {
        if *state == PresenceState::Offline {
            return None;
        }
        self.update(user, clock::now_ms(), |person, now| {
            if !person.is_there(now) {
                person.last_active = now;
            }
            let device = person.device(device, now);
            device.state = state.clone();
            device.syncing += 1;
        });
        Some(Syncing { presence: self.clone(), user: user.to_owned(), device: device.to_owned() })
    }

    /// Notes that somebody did something, such as sending a message: who was idle is online again. Who
    /// does not sync stays offline all the same.
    pub fn active(&self, user: &UserId, device: &str) {
        self.update(user, clock::now_ms(), |person, now| {
            let known = person.devices.iter_mut().find(|known| known.id == device);
            if let Some(known) = known.filter(|known| known.state == PresenceState::Unavailable) {
                known.state = PresenceState::Online;
            }
            person.last_active = now;
        });
    }

    /// Notes what another server says of somebody of its own.
    pub fn hear(&self, user: &UserId, told: Status) {
        let known = [PresenceState::Online, PresenceState::Unavailable, PresenceState::Offline];
        if !known.contains(&told.state) || told.message.as_ref().is_some_and(|text| text.len() > MAX_STATUS) {
            return;
        }
        self.update(user, clock::now_ms(), |person, now| {
            person.heard = Some(Heard { state: told.state, currently_active: told.currently_active, at: now });
            person.message = told.message.filter(|text| !text.is_empty());
            person.last_active = told.last_active_ago.map_or(person.last_active, |ago| now.saturating_sub(ago));
        });
    }

    /// Notes that somebody's name or picture changed, which presence shows as well.
    pub fn profile_changed(&self, user: &UserId) {
        let mut people = self.people();
        let Some(person) = people.known.get_mut(user) else { return };
        person.shown = None;
        people.settle(user, clock::now_ms());
    }

    /// Notes that somebody came into a room, whose servers may not know yet who is online.
    pub fn came(&self, user: &UserId, room: RoomNum) {
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever is not told now is told with the next change.
        if arrivals.len() < MAX_ARRIVALS {
            arrivals.push((user.to_owned(), room));
        }
    }

    /// Who came into which room since this was last asked.
    pub fn take_arrivals(&self) -> Vec<(OwnedUserId, RoomNum)> {
        std::mem::take(&mut *self.arrivals.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Everybody who is known, and so perhaps online.
    pub fn everybody(&self) -> Vec<OwnedUserId> {
        self.people().known.keys().cloned().collect()
    }

    /// Somebody's presence now. None if nothing is known.
    pub fn of(&self, user: &UserId) -> Option<Status> {
        let now = clock::now_ms();
        self.people().known.get(user).map(|person| person.status(now))
    }

    /// The next few who changed after the change numbered `since`, with the number of that change and
    /// the presence they have now.
    pub fn changed_since(&self, since: u64, limit: usize) -> Vec<(u64, OwnedUserId, Status)> {
        let (people, now) = (self.people(), clock::now_ms());
        let changed = people.changes.range(since.saturating_add(1)..);
        let with_status =
            |(number, user): (&u64, &OwnedUserId)| Some((*number, user.clone(), people.known.get(user)?.status(now)));
        changed.filter_map(with_status).take(limit).collect()
    }

    /// The number of the newest change.
    pub fn newest(&self) -> u64 {
        self.people().newest
    }

    /// Notes who has become idle or gone by now. Returns them; to be called now and then.
    pub fn pass_time(&self) -> Vec<OwnedUserId> {
        self.pass_time_at(clock::now_ms())
    }

    fn pass_time_at(&self, now: u64) -> Vec<OwnedUserId> {
        let mut people = self.people();
        let users: Vec<_> = people.known.keys().cloned().collect();
        users.into_iter().filter(|user| people.settle(user, now)).collect()
    }

    fn update(&self, user: &UserId, now: u64, change: impl FnOnce(&mut Person, u64)) {
        let mut people = self.people();
        people.make_room(user);
        change(people.known.entry(user.to_owned()).or_default(), now);
        people.settle(user, now);
    }

    fn people(&self) -> MutexGuard<'_, People> {
        self.people.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl People {
    /// Numbers a change if there is one that others can see.
    fn settle(&mut self, user: &UserId, now: u64) -> bool {
        let Some(person) = self.known.get_mut(user) else { return false };
        person.devices.retain(|device| device.is_there(now));
        let status = person.status(now);
        let shown = Some((status.state, status.currently_active, status.message));
        if person.shown == shown {
            return false;
        }
        self.newest = clock::tick();
        self.changes.remove(&person.changed);
        self.changes.insert(self.newest, user.to_owned());
        (person.shown, person.changed) = (shown, self.newest);
        true
    }

    /// Forgets who changed the longest ago, if there are too many.
    fn make_room(&mut self, user: &UserId) {
        while self.known.len() >= MAX_PEOPLE && !self.known.contains_key(user) {
            let Some((_, oldest)) = self.changes.pop_first() else { return };
            self.known.remove(&oldest);
        }
    }
}

impl Person {
    fn device(&mut self, id: &str, now: u64) -> &mut Device {
        let found = self.devices.iter().position(|device| device.id == id);
        let at = found.unwrap_or_else(|| {
            if self.devices.len() >= MAX_DEVICES {
                self.devices.remove(0);
            }
            self.devices.push(Device { id: id.to_owned(), state: PresenceState::Online, syncing: 0, seen: now });
            self.devices.len() - 1
        });
        let device = &mut self.devices[at];
        device.seen = now;
        device
    }

    fn is_there(&self, now: u64) -> bool {
        self.devices.iter().any(|device| device.is_there(now))
    }

    fn status(&self, now: u64) -> Status {
        let of = |state| self.devices.iter().any(|device| device.is_there(now) && device.state == state);
        let idle_for = now.saturating_sub(self.last_active);
        if let Some(heard) = &self.heard {
            let old = now.saturating_sub(heard.at) > HEARD_FOR;
            return Status {
                state: if old { PresenceState::Offline } else { heard.state.clone() },
                currently_active: heard.currently_active && !old,
                message: self.message.clone(),
                last_active_ago: (self.last_active > 0).then_some(idle_for),
            };
        }
        let state = match (of(PresenceState::Online), of(PresenceState::Unavailable)) {
            (true, _) if idle_for < IDLE_AFTER => PresenceState::Online,
            (true, _) | (_, true) => PresenceState::Unavailable,
            _ => PresenceState::Offline,
        };
        Status {
            currently_active: state == PresenceState::Online && idle_for < ACTIVE_FOR,
            state,
            message: self.message.clone(),
            last_active_ago: (self.last_active > 0).then_some(idle_for),
        }
    }
}

impl Device {
    fn is_there(&self, now: u64) -> bool {
        self.syncing > 0 || now.saturating_sub(self.seen) < GONE_AFTER
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;

    fn alice() -> &'static UserId {
        user_id!("@alice:b.c")
    }

    fn state_at(presence: &Presence, now: u64) -> (PresenceState, bool) {
        let status = presence.people().known[alice()].status(now);
        (status.state, status.currently_active)
    }

    #[test]
    fn who_syncs_is_online_then_idle_and_gone_when_it_ends() {
        let presence = Arc::new(Presence::default());
        let sync = presence.syncing(alice(), "PHONE", &PresenceState::Online).expect("is seen");
        let start = clock::now_ms();
        assert_eq!(state_at(&presence, start), (PresenceState::Online, true));
        assert_eq!(state_at(&presence, start + 2 * 60_000), (PresenceState::Online, false));
        assert_eq!(state_at(&presence, start + 6 * 60_000), (PresenceState::Unavailable, false));
        drop(sync);
        assert_eq!(state_at(&presence, start + 10_000).0, PresenceState::Online, "the next sync is soon");
        assert_eq!(state_at(&presence, start + 60_000).0, PresenceState::Offline);
        assert!(presence.syncing(user_id!("@bob:b.c"), "X", &PresenceState::Offline).is_none());
        assert_eq!(presence.of(user_id!("@bob:b.c")), None);
    }

    #[test]
    fn doing_something_ends_idleness_but_not_absence_that_is_wished() {
        let presence = Arc::new(Presence::default());
        let _sync = presence.syncing(alice(), "PHONE", &PresenceState::Unavailable).expect("is seen");
        assert_eq!(state_at(&presence, clock::now_ms()).0, PresenceState::Unavailable);
        presence.active(alice(), "PHONE");
        assert_eq!(state_at(&presence, clock::now_ms()), (PresenceState::Online, true));
        presence.set(alice(), "PHONE", PresenceState::Offline, None).expect("sets");
        presence.active(alice(), "PHONE");
        assert_eq!(state_at(&presence, clock::now_ms()).0, PresenceState::Offline);
        let _laptop = presence.syncing(alice(), "LAPTOP", &PresenceState::Online).expect("is seen");
        assert_eq!(state_at(&presence, clock::now_ms()).0, PresenceState::Online, "the most present device counts");
    }

    #[test]
    fn only_visible_changes_are_numbered_and_numbers_follow_the_clock() {
        let presence = Arc::new(Presence::default());
        let before = clock::now_ms();
        presence.set(alice(), "PHONE", PresenceState::Online, Some("lunch".into())).expect("sets");
        let first = presence.newest();
        assert!(first >= before);
        presence.active(alice(), "PHONE");
        assert_eq!(presence.newest(), first, "active people are not announced each time");
        presence.set(alice(), "PHONE", PresenceState::Online, Some("back".into())).expect("sets");
        assert!(presence.newest() > first);
        let changed = presence.changed_since(first, 9);
        assert_eq!(changed.len(), 1);
        assert_eq!(changed[0].2.message.as_deref(), Some("back"));
        assert!(presence.changed_since(presence.newest(), 9).is_empty());
        assert!(presence.changed_since(u64::MAX, 9).is_empty());
        assert_eq!(presence.pass_time_at(clock::now_ms() + GONE_AFTER), [alice()]);
        assert!(presence.pass_time_at(clock::now_ms() + GONE_AFTER).is_empty());
        let long = presence.set(alice(), "PHONE", PresenceState::Online, Some("x".repeat(MAX_STATUS + 1)));
        assert_eq!(long.expect_err("refused").errcode(), "M_INVALID_PARAM");
        assert!(presence.set(alice(), "PHONE", "odd".into(), None).is_err());
    }

    #[test]
    fn the_crowd_is_bounded() {
        let presence = Presence::default();
        for n in 0..MAX_PEOPLE + 10 {
            let user: OwnedUserId = format!("@u{n}:b.c").try_into().expect("an ID");
            presence.active(&user, "X");
        }
        let people = presence.people();
        assert_eq!((people.known.len(), people.changes.len()), (MAX_PEOPLE, MAX_PEOPLE));
    }
}
