//! What lives in memory of push: who has pushers, in which rooms they are, what waits for each pusher and when
//! it is tried next. Knows neither the database nor the network; all in it can be found out anew.
//!
//! ```text
//!  add, touch → queue of each pusher → due → take_ready → turn → taken ─┐
//!                                       ▲                  ▲  └─► failed │
//!                                       └── later ─────────┼─────┘      │
//!                                                          └────────────┘
//! ```

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
};

use ruma::{OwnedUserId, UserId, push::Action};

use crate::{
    accounts::pushers::Progress,
    base::{Pos, RoomNum},
    store::rows::{Outcome, PushedRow, PusherRow, PusherStateRow},
};

/// Notices that wait for a pusher at most: beyond it the oldest are left out.
const MAX_QUEUE: usize = 50;
/// A gateway that fails for so long is told the newest notice alone once it is back, milliseconds.
const LONG: u64 = 60 * 60_000;
/// Notices older than this are not worth telling any more, milliseconds.
const MAX_AGE: u64 = 24 * 60 * 60_000;
/// How long is waited after the first failure, and at most, milliseconds.
const FIRST_WAIT: u64 = 1000;
const MAX_WAIT: u64 = 30 * 60_000;
/// Times that a gateway refuses a notice before it is left out.
const MAX_REFUSALS: u32 = 3;

/// A pusher: whose, by number, and its ID.
pub type Key = (u32, String);

/// Something that somebody is to be told.
#[derive(Clone, Debug)]
pub struct Notice {
    /// The room.
    pub room: RoomNum,
    /// The event's position.
    pub event: Pos,
    /// When it came to be so.
    pub order: Pos,
    /// What rules have done about it.
    pub actions: Arc<[Action]>,
    /// Whether it invites the person.
    pub invite: bool,
    /// When it was noticed, milliseconds.
    pub at: u64,
}

/// What a pusher is told next.
#[derive(Clone, Debug)]
pub enum Work {
    /// Something that happened.
    Notice(Notice),
    /// How much is unread, if that has changed.
    Badge,
}

/// A pusher's turn.
pub struct Turn {
    /// Whose.
    pub user: OwnedUserId,
    /// The pusher.
    pub row: Arc<PusherRow>,
    /// The count that it was told last.
    pub badge: Option<u64>,
    /// What it is told.
    pub work: Work,
}

/// An attempt that failed.
pub struct Failed {
    /// When, milliseconds.
    pub now: u64,
    /// What is to be told about it.
    pub entry: Option<PushedRow>,
    /// Whether the gateway answered that it does not want this.
    pub refused: bool,
    /// How long it wants to be left alone, milliseconds.
    pub wait: Option<u64>,
}

struct Person {
    user: OwnedUserId,
    pushers: BTreeMap<String, Pusher>,
    /// What is unread, by room, where there is anything. None until it is asked for.
    unread: Option<HashMap<RoomNum, u64>>,
    /// Rooms whose count may be another one by now.
    stale: HashSet<RoomNum>,
}

struct Pusher {
    row: Arc<PusherRow>,
    /// It is told of what came after this.
    from: Pos,
    state: PusherStateRow,
    /// Refusals of what is first in the queue.
    refusals: u32,
    queue: VecDeque<Notice>,
    busy: bool,
    /// What of the log is to be written down.
    log: Vec<PushedRow>,
}

impl Pusher {
    fn has_work(&self) -> bool {
        !self.row.disabled && (!self.queue.is_empty() || self.state.badge_due)
    }

    fn trim(&mut self, now: u64) {
        let long = self.state.failures > 0 && now.saturating_sub(self.state.failing_since) > LONG;
        let most = if long { 1 } else { MAX_QUEUE };
        while self.queue.len() > most || self.queue.front().is_some_and(|notice| notice.at + MAX_AGE < now) {
            self.queue.pop_front();
            self.refusals = 0;
        }
    }

    /// Is done with some work, whatever came of it.
    fn pass(&mut self, work: &Work) {
        match work {
            Work::Notice(told) => {
                let same = |first: &Notice| (first.room, first.event) == (told.room, told.event);
                if self.queue.front().is_some_and(same) {
                    self.queue.pop_front();
                }
                self.refusals = 0;
            }
            Work::Badge => self.state.badge_due = false,
        }
    }
}

/// All of it.
#[derive(Default)]
pub struct Desk {
    /// Everything up to here has been looked at; and what of that is written down.
    pub seen: Pos,
    pub written: Pos,
    numbers: HashMap<OwnedUserId, u32>,
    people: HashMap<u32, Person>,
    next: u32,
    /// Who of those who have pushers is in a room.
    rooms: HashMap<RoomNum, HashSet<u32>>,
    /// When pushers are to be tried that have something to be told.
    due: BTreeSet<(u64, Key)>,
    /// Pushers of which something is to be written down.
    dirty: BTreeSet<Key>,
}

impl Desk {
    /// Forgets everything but which numbers were given out: somebody may still be busy by them.
    pub fn clear(&mut self) {
        *self = Self { next: self.next, ..Self::default() };
    }

    /// Whether somebody has a pusher.
    pub fn knows(&self, user: &UserId) -> bool {
        self.numbers.contains_key(user)
    }

    /// Takes somebody's pushers as they are now, and if they are new here also the rooms that they are in.
    /// Each pusher that is new here is told of what came after `seen`, or after what it says itself.
    pub fn set(&mut self, user: &UserId, rows: Vec<(String, PusherRow, PusherStateRow)>, rooms: &[RoomNum]) {
        if rows.is_empty() {
            return self.forget(user);
        }
        let number = match self.numbers.get(user) {
            Some(number) => *number,
            None => {
                self.next += 1;
                self.numbers.insert(user.to_owned(), self.next);
                for room in rooms {
                    self.rooms.entry(*room).or_default().insert(self.next);
                }
                self.next
            }
        };
        let seen = self.seen;
        let fresh = || Person { user: user.to_owned(), pushers: BTreeMap::new(), unread: None, stale: HashSet::new() };
        let person = self.people.entry(number).or_insert_with(fresh);
        person.pushers.retain(|id, _| rows.iter().any(|(known, ..)| known == id));
        let mut keys = Vec::new();
        for (id, row, state) in rows {
            let from = row.since.max(state.told.unwrap_or(seen));
            match person.pushers.get_mut(&id) {
                Some(pusher) => {
                    // Its client is there: whatever kept the gateway from answering may be over.
                    if *pusher.row != row {
                        (pusher.state.failures, pusher.state.retry_at) = (0, 0);
                    }
                    if row.disabled {
                        pusher.queue.clear();
                        pusher.state.badge_due = false;
                    }
                    pusher.row = Arc::new(row);
                }
                None => {
                    let (row, queue, log) = (Arc::new(row), VecDeque::new(), Vec::new());
                    let pusher = Pusher { row, from, state, refusals: 0, queue, busy: false, log };
                    person.pushers.insert(id.clone(), pusher);
                }
            }
            keys.push((number, id));
        }
        keys.iter().for_each(|key| self.rouse(key));
    }

    fn forget(&mut self, user: &UserId) {
        let Some(number) = self.numbers.remove(user) else { return };
        self.people.remove(&number);
        self.rooms.retain(|_, people| {
            people.remove(&number);
            !people.is_empty()
        });
    }

    /// Somebody came into a room, or went out of it.
    pub fn place(&mut self, user: &UserId, room: RoomNum, is_in: bool) {
        let Some(number) = self.numbers.get(user).copied() else { return };
        if is_in {
            self.rooms.entry(room).or_default().insert(number);
            return;
        }
        if let Some(people) = self.rooms.get_mut(&room) {
            people.remove(&number);
            if people.is_empty() {
                self.rooms.remove(&room);
            }
        }
        self.touch(user, room);
    }

    /// Those in a room who have pushers.
    pub fn audience(&self, room: RoomNum) -> Vec<OwnedUserId> {
        let numbers = self.rooms.get(&room).into_iter().flatten();
        numbers.filter_map(|number| self.people.get(number)).map(|person| person.user.clone()).collect()
    }

    /// From where somebody is to be told of things; None if there are no pushers of theirs.
    pub fn from(&self, user: &UserId) -> Option<Pos> {
        let person = self.people.get(self.numbers.get(user)?)?;
        person.pushers.values().map(|pusher| pusher.from).min()
    }

    /// Somebody is to be told something.
    pub fn add(&mut self, user: &UserId, notice: &Notice, now: u64) {
        let Some(number) = self.numbers.get(user).copied() else { return };
        let Some(person) = self.people.get_mut(&number) else { return };
        person.stale.insert(notice.room);
        let mut roused = Vec::new();
        for (id, pusher) in &mut person.pushers {
            if notice.order > pusher.from && !pusher.row.disabled {
                pusher.queue.push_back(notice.clone());
                pusher.trim(now);
                roused.push((number, id.clone()));
            }
        }
        for key in roused {
            self.rouse(&key);
            self.dirty.insert(key);
        }
    }

    /// Somebody may have read something in a room.
    pub fn touch(&mut self, user: &UserId, room: RoomNum) {
        let Some(number) = self.numbers.get(user).copied() else { return };
        let Some(person) = self.people.get_mut(&number) else { return };
        person.stale.insert(room);
        let mut roused = Vec::new();
        for (id, pusher) in &mut person.pushers {
            if !pusher.state.badge_due && !pusher.row.disabled {
                pusher.state.badge_due = true;
                roused.push((number, id.clone()));
            }
        }
        for key in roused {
            self.rouse(&key);
            self.dirty.insert(key);
        }
    }

    /// Counts in a room may have changed in a way that nobody has to be told of by itself.
    pub fn recount(&mut self, room: RoomNum) {
        for number in self.rooms.get(&room).into_iter().flatten() {
            if let Some(person) = self.people.get_mut(number) {
                person.stale.insert(room);
            }
        }
    }

    fn rouse(&mut self, key: &Key) {
        if let Some(pusher) = self.pusher(key)
            && !pusher.busy
            && pusher.has_work()
        {
            self.due.insert((pusher.state.retry_at, key.clone()));
        }
    }

    fn pusher(&self, (number, id): &Key) -> Option<&Pusher> {
        self.people.get(number)?.pushers.get(id)
    }

    fn pusher_mut(&mut self, (number, id): &Key) -> Option<&mut Pusher> {
        self.people.get_mut(number)?.pushers.get_mut(id)
    }

    /// When the next pusher is to be tried, milliseconds.
    pub fn next_due(&self) -> Option<u64> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The pushers to be tried now, which are busy from now on.
    pub fn take_ready(&mut self, now: u64) -> Vec<Key> {
        let mut ready = Vec::new();
        while self.due.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, key)) = self.due.pop_first() else { break };
            if let Some(pusher) = self.pusher_mut(&key)
                && !pusher.busy
                && pusher.has_work()
            {
                pusher.busy = true;
                ready.push(key);
            }
        }
        ready
    }

    /// What a busy pusher is told next. None if there is nothing more: then it is not busy any more.
    pub fn turn(&mut self, key: &Key, now: u64) -> Option<Turn> {
        let user = self.people.get(&key.0)?.user.clone();
        let pusher = self.pusher_mut(key)?;
        pusher.trim(now);
        let work = match pusher.queue.front() {
            _ if pusher.row.disabled => None,
            Some(notice) => Some(Work::Notice(notice.clone())),
            None => pusher.state.badge_due.then_some(Work::Badge),
        };
        let Some(work) = work else {
            pusher.busy = false;
            return None;
        };
        Some(Turn { user, row: pusher.row.clone(), badge: pusher.state.badge, work })
    }

    /// Which rooms of somebody are to be counted; None for all.
    pub fn uncounted(&mut self, number: u32) -> Option<HashSet<RoomNum>> {
        let person = self.people.get_mut(&number)?;
        let stale = std::mem::take(&mut person.stale);
        person.unread.is_some().then_some(stale)
    }

    /// How much somebody has unread in all, with what was counted.
    pub fn counted(&mut self, number: u32, counts: Vec<(RoomNum, u64)>) -> u64 {
        let Some(person) = self.people.get_mut(&number) else { return 0 };
        let unread = person.unread.get_or_insert_default();
        for (room, count) in counts {
            match count {
                0 => drop(unread.remove(&room)),
                count => drop(unread.insert(room, count)),
            }
        }
        unread.values().sum()
    }

    /// What was counted is not known after all.
    pub fn miscounted(&mut self, number: u32) {
        if let Some(person) = self.people.get_mut(&number) {
            person.unread = None;
        }
    }

    /// A pusher need not be told something, or was told it: then with the count that it was told, if any.
    pub fn taken(&mut self, key: &Key, work: &Work, told: Option<(Option<u64>, PushedRow)>) {
        let Some(pusher) = self.pusher_mut(key) else { return };
        pusher.pass(work);
        if let Some((badge, entry)) = told {
            (pusher.state.failures, pusher.state.failing_since, pusher.state.retry_at) = (0, 0, 0);
            pusher.state.badge = badge.or(pusher.state.badge);
            pusher.log.push(entry);
        }
        self.dirty.insert(key.clone());
    }

    /// A pusher could not be told something. It is not busy any more and will be tried again.
    pub fn failed(&mut self, key: &Key, work: &Work, failed: Failed) {
        let Some(pusher) = self.pusher_mut(key) else { return };
        let state = &mut pusher.state;
        if state.failures == 0 {
            state.failing_since = failed.now;
        }
        state.failures = state.failures.saturating_add(1);
        let wait = FIRST_WAIT << (state.failures - 1).min(20);
        state.retry_at = failed.now + wait.max(failed.wait.unwrap_or(0)).min(MAX_WAIT);
        pusher.busy = false;
        pusher.refusals += u32::from(failed.refused);
        let dropped = pusher.refusals >= MAX_REFUSALS;
        if dropped {
            pusher.pass(work);
        }
        if let Some(entry) = failed.entry {
            let outcome = if dropped { Outcome::Dropped } else { entry.outcome };
            pusher.log.push(PushedRow { outcome, ..entry });
        }
        self.rouse(key);
        self.dirty.insert(key.clone());
    }

    /// Whether something of a pusher is to be written down.
    pub fn is_changed(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// What is to be written down.
    pub fn changes(&mut self) -> Vec<Progress> {
        let mut out = Vec::new();
        for (number, id) in std::mem::take(&mut self.dirty) {
            let Some(person) = self.people.get_mut(&number) else { continue };
            let Some(pusher) = person.pushers.get_mut(&id) else { continue };
            let told = pusher.queue.front().map(|first| first.order.saturating_sub(1));
            out.push(Progress {
                user: person.user.clone(),
                id,
                state: PusherStateRow { told, ..pusher.state.clone() },
                log: std::mem::take(&mut pusher.log),
            });
        }
        out
    }

    /// These could not be written down.
    pub fn not_written(&mut self, changes: Vec<Progress>) {
        self.written = 0;
        for Progress { user, id, mut log, .. } in changes {
            let Some(number) = self.numbers.get(&user).copied() else { continue };
            let key = (number, id);
            if let Some(pusher) = self.pusher_mut(&key) {
                log.append(&mut pusher.log);
                let surplus = log.len().saturating_sub(MAX_QUEUE);
                pusher.log = log.split_off(surplus);
                self.dirty.insert(key);
            }
        }
    }
}

#[cfg(test)]
mod tests;
