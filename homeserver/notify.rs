//! Who waits, and up to which position the world has come. Owns the list of people who wait for
//! something to happen, by room, and the latest position of each room; knows nothing of what happened.
//!
//! A commit costs only the people who wait: `on_commit` (in the writer's thread) notes positions, and
//! a follower wakes whoever sits at a room or is named. A [`Seat`] remembers that it was rung, so who
//! takes a seat first, then a snapshot, and then waits misses nothing.
//!
//! ```text
//!  writer: commit → present (room → position) → published → pending ──┐
//!  follower:        pending → rooms → seats → ring                ◄───┘
//!  sync:            seat → published → snapshot → answer, or wait for the ring
//! ```

use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock,
        atomic::{
            AtomicBool, AtomicU32, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
};

use ruma::{OwnedUserId, UserId};
use tokio::sync::Notify;

use crate::{
    base::{Pos, RoomNum, clock},
    error::{Error, Result},
    rooms::members,
    store::{OnCommit, Store, Wake},
};

/// How long a seat is kept for somebody who is not there, milliseconds: the next poll finds it warm.
const LINGER: u64 = 3 * 60_000;
/// Seats beyond which nobody's is kept while they are not there.
const MAX_IDLE_SEATS: usize = 20_000;
/// Rooms whose latest position is remembered. Beyond it all are forgotten, and syncs that go back
/// before that moment look into the store.
const MAX_PRESENT: usize = 200_000;
/// Requests of one person that wait at once at most.
const MAX_WAITING: u32 = 1000;

/// The one notifier there is. Clones are the same one.
#[derive(Clone, Default)]
pub struct Notifier(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// Everything up to here has been noted in `present` and in the seats.
    published: AtomicU64,
    present: Mutex<Present>,
    /// What the follower has yet to pass on. Commits fold into each other here, so it never grows
    /// beyond the people and rooms there are.
    pending: Mutex<News>,
    bell: Notify,
    /// What is kept for who looks at all that happens, once there is anything to look at it for.
    news: Mutex<News>,
    news_bell: Arc<Notify>,
    wants_news: AtomicBool,
    /// Rung when there is something new to tell other servers.
    outgoing: Arc<Notify>,
    seats: RwLock<HashMap<OwnedUserId, Arc<Seat>>>,
    /// Who sits where. Locked before a seat's `rooms`.
    rooms: Mutex<HashMap<RoomNum, HashMap<usize, Arc<Seat>>>>,
    /// Seats made so far.
    numbers: AtomicU64,
    stopping: AtomicBool,
    /// Who is told what commits concern, beside whoever waits.
    tap: OnceLock<Tap>,
}

/// What happened, and up to where: all that was committed up to there and rang anybody is in it.
#[derive(Default)]
pub struct News {
    /// Whom it concerns.
    pub wake: Wake,
    /// Up to where.
    pub upto: Pos,
}

impl News {
    fn absorb(&mut self, wake: Wake, upto: Pos) {
        self.wake.absorb(wake);
        self.upto = self.upto.max(upto);
    }
}

/// Is told what commits concern, after they are made, and up to where that is all.
type Tap = Box<dyn Fn(&Wake, Pos) + Send + Sync>;

/// The latest position of each room that changed after `floor`.
#[derive(Default)]
struct Present {
    floor: Pos,
    rooms: HashMap<RoomNum, Pos>,
}

/// Where one person waits, on however many devices.
#[derive(Default)]
pub struct Seat {
    /// Differs from that of any earlier seat of the same person.
    number: u64,
    rung: AtomicU64,
    personal: AtomicU64,
    sessions: AtomicU64,
    bell: Notify,
    /// Whether the rooms of the person have been found.
    placed: AtomicBool,
    rooms: Mutex<HashSet<RoomNum>>,
    taken: AtomicU32,
    left: AtomicU64,
}

/// A seat that somebody has taken.
pub struct Taken(Arc<Seat>);

/// A seat at one room.
pub struct Beside {
    seat: Taken,
    room: RoomNum,
    notifier: Notifier,
    _counted: Taken,
}

impl std::ops::Deref for Beside {
    type Target = Taken;

    fn deref(&self) -> &Taken {
        &self.seat
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.notifier.0.place(&self.seat.0, self.room, false);
    }
}

impl Notifier {
    /// What the writer is to call after each commit.
    pub fn on_commit(&self) -> OnCommit {
        let inner = self.0.clone();
        Box::new(move |wake, pos| inner.note(wake, pos))
    }

    /// Names, once, who is told what commits concern, beside whoever waits.
    pub fn tap(&self, tap: impl Fn(&Wake, Pos) + Send + Sync + 'static) {
        // A second time changes nothing.
        let _ = self.0.tap.set(Box::new(tap));
    }

    /// Begins at the position where the store is.
    pub fn start(&self, pos: Pos) {
        lock(&self.0.present).floor = pos;
        self.0.published.fetch_max(pos, SeqCst);
    }

    /// Wakes people as commits come, for as long as the server runs. `moved` is told who came into (true)
    /// or went out of which room, before anybody is woken.
    pub async fn follow(self, store: Store, moved: impl Fn(&UserId, RoomNum, bool)) {
        loop {
            self.0.bell.notified().await;
            let news = mem::take(&mut *lock(&self.0.pending));
            self.0.keep_news(&news);
            if let Some(tap) = self.0.tap.get() {
                tap(&news.wake, news.upto);
            }
            self.0.pass_on(&store, news.wake, &moved);
        }
    }

    /// Takes somebody's seat. 429 if unreasonably many of their requests wait already.
    pub fn sit(&self, store: &Store, user: &UserId) -> Result<Taken> {
        let taken = self.0.take(user);
        if taken.0.taken.load(SeqCst) > MAX_WAITING {
            return Err(Error::limited(std::time::Duration::from_secs(5)));
        }
        if !taken.0.placed.load(SeqCst) {
            // The seat is known by now: what changes after this snapshot reaches it through the
            // follower. A room that was left meanwhile may stay, which costs a needless look.
            for room in store.read(|tx| members::joined_rooms(tx, user))? {
                self.0.place(&taken.0, room, true);
            }
            taken.0.placed.store(true, SeqCst);
        }
        Ok(taken)
    }

    /// A seat of its own at one room, for somebody who may not be in it. Counted like any other of theirs.
    pub fn sit_at(&self, store: &Store, user: &UserId, room: RoomNum) -> Result<Beside> {
        let counted = self.sit(store, user)?;
        let seat = Arc::new(Seat { taken: AtomicU32::new(1), ..Seat::default() });
        self.0.place(&seat, room, true);
        Ok(Beside { seat: Taken(seat), room, notifier: self.clone(), _counted: counted })
    }

    /// How many requests and WebSockets wait for something to happen, of everybody together.
    pub fn waiting(&self) -> u64 {
        let seats = self.0.seats.read().unwrap_or_else(PoisonError::into_inner);
        seats.values().map(|seat| u64::from(seat.taken.load(Relaxed))).sum()
    }

    /// Whether all that a snapshot holds has been noted here.
    pub fn covers(&self, snapshot: Pos) -> bool {
        self.0.published.load(SeqCst) >= snapshot
    }

    /// Those of some rooms in which anything happened after `since`. None if that is not known here:
    /// it is too long ago, or the snapshot is newer than what has been noted.
    pub fn changed(&self, snapshot: Pos, since: Pos, rooms: impl Iterator<Item = RoomNum>) -> Option<Vec<RoomNum>> {
        if !self.covers(snapshot) {
            return None;
        }
        let present = lock(&self.0.present);
        let is_new = |room: &RoomNum| present.rooms.get(room).is_some_and(|pos| *pos > since);
        (since >= present.floor).then(|| rooms.filter(is_new).collect())
    }

    /// Wakes who waits at a room, for something that no commit told.
    pub fn ring_room(&self, room: RoomNum) {
        lock(&self.0.pending).wake.rooms.insert(room);
        self.0.bell.notify_one();
    }

    /// Wakes somebody and who shares a room with them, for something that no commit told.
    pub fn ring_company(&self, user: &UserId) {
        lock(&self.0.pending).wake.devices.insert(user.to_owned());
        self.0.bell.notify_one();
    }

    /// Wakes everybody, and lets nobody wait again.
    pub fn stop(&self) {
        self.0.stopping.store(true, SeqCst);
        for seat in self.0.seats.read().unwrap_or_else(PoisonError::into_inner).values() {
            seat.ring();
        }
    }

    /// Whether the server is stopping.
    pub fn is_stopping(&self) -> bool {
        self.0.stopping.load(SeqCst)
    }

    /// What rings when there is something new to tell other servers.
    pub fn outgoing(&self) -> Arc<Notify> {
        self.0.outgoing.clone()
    }

    /// What rings when there are news.
    pub fn news_bell(&self) -> Arc<Notify> {
        self.0.news_bell.clone()
    }

    /// Has news kept from now on, as they are once somebody has a pusher.
    pub fn want_news(&self) {
        self.0.wants_news.store(true, SeqCst);
    }

    /// What happened since this was asked last. There is one who asks.
    pub fn news(&self) -> News {
        mem::take(&mut *lock(&self.0.news))
    }

    /// Gives up the seats of people who have not been there for a while. To be called now and then.
    pub fn sweep(&self) {
        self.0.sweep(clock::now_ms());
    }
}

impl Inner {
    /// Runs in the writer's thread, between a commit and its answers.
    fn note(&self, wake: Wake, pos: Pos) {
        {
            let mut present = lock(&self.present);
            if present.rooms.len() > MAX_PRESENT || wake.anew {
                *present = Present { floor: pos, rooms: HashMap::new() };
            }
            for room in wake.rooms.iter().chain(&wake.touched) {
                present.rooms.insert(*room, pos);
            }
        }
        if wake.anew {
            let seats = self.seats.read().unwrap_or_else(PoisonError::into_inner);
            for seat in seats.values() {
                seat.personal.fetch_add(1, SeqCst);
            }
        }
        if !wake.users.is_empty() || !wake.signed_out.is_empty() {
            let seats = self.seats.read().unwrap_or_else(PoisonError::into_inner);
            for seat in wake.users.iter().filter_map(|user| seats.get(user)) {
                seat.personal.fetch_add(1, SeqCst);
            }
            for seat in wake.signed_out.iter().filter_map(|user| seats.get(user)) {
                seat.sessions.fetch_add(1, SeqCst);
            }
        }
        self.published.store(pos, SeqCst);
        if wake.outgoing || wake.anew {
            self.outgoing.notify_one();
        }
        if wake != Wake::default() {
            lock(&self.pending).absorb(wake, pos);
            self.bell.notify_one();
        }
    }

    /// Keeps what concerns pushers, if anybody has one.
    fn keep_news(&self, News { wake, upto }: &News) {
        if !wake.pushers.is_empty() {
            self.wants_news.store(true, SeqCst);
        }
        if !self.wants_news.load(SeqCst) {
            return;
        }
        let kept = Wake {
            rooms: wake.rooms.union(&wake.touched).copied().collect(),
            users: wake.users.clone(),
            members: wake.members.clone(),
            invited: wake.invited.clone(),
            pushers: wake.pushers.clone(),
            anew: wake.anew,
            ..Wake::default()
        };
        lock(&self.news).absorb(kept, *upto);
        self.news_bell.notify_one();
    }

    fn pass_on(&self, store: &Store, wake: Wake, moved: impl Fn(&UserId, RoomNum, bool)) {
        for ((user, room), is_in) in &wake.members {
            moved(user, *room, *is_in);
            if let Some(seat) = self.find(user) {
                self.place(&seat, *room, *is_in);
            }
        }
        let mut rooms = wake.rooms;
        for user in &wake.devices {
            match store.read(|tx| members::joined_rooms(tx, user)) {
                Ok(shared) => rooms.extend(shared),
                Err(error) => tracing::warn!(%error, "can't tell who shares rooms with somebody whose devices changed"),
            }
        }
        for seat in wake.users.iter().chain(&wake.signed_out).chain(&wake.devices).filter_map(|user| self.find(user)) {
            seat.ring();
        }
        let sitting = lock(&self.rooms);
        for seat in rooms.iter().filter_map(|room| sitting.get(room)).flat_map(HashMap::values) {
            seat.ring();
        }
    }

    fn find(&self, user: &UserId) -> Option<Arc<Seat>> {
        self.seats.read().unwrap_or_else(PoisonError::into_inner).get(user).cloned()
    }

    fn take(&self, user: &UserId) -> Taken {
        {
            let seats = self.seats.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(seat) = seats.get(user) {
                seat.taken.fetch_add(1, SeqCst);
                return Taken(seat.clone());
            }
        }
        let mut seats = self.seats.write().unwrap_or_else(PoisonError::into_inner);
        let number = || self.numbers.fetch_add(1, Relaxed);
        let fresh = || Arc::new(Seat { number: number(), ..Seat::default() });
        let seat = seats.entry(user.to_owned()).or_insert_with(fresh);
        seat.taken.fetch_add(1, SeqCst);
        Taken(seat.clone())
    }

    fn place(&self, seat: &Arc<Seat>, room: RoomNum, is_in: bool) {
        let mut rooms = lock(&self.rooms);
        match is_in {
            true => {
                rooms.entry(room).or_default().insert(Arc::as_ptr(seat).addr(), seat.clone());
                lock(&seat.rooms).insert(room);
            }
            false => {
                unseat(&mut rooms, seat, room);
                lock(&seat.rooms).remove(&room);
            }
        }
    }

    fn sweep(&self, now: u64) {
        let mut seats = self.seats.write().unwrap_or_else(PoisonError::into_inner);
        let crowded = seats.len() > MAX_IDLE_SEATS;
        let mut rooms = lock(&self.rooms);
        seats.retain(|_, seat| {
            let idle = seat.taken.load(SeqCst) == 0;
            let stays = !idle || (!crowded && now.saturating_sub(seat.left.load(Relaxed)) < LINGER);
            if !stays {
                for room in mem::take(&mut *lock(&seat.rooms)) {
                    unseat(&mut rooms, seat, room);
                }
            }
            stays
        });
    }
}

fn unseat(rooms: &mut HashMap<RoomNum, HashMap<usize, Arc<Seat>>>, seat: &Arc<Seat>, room: RoomNum) {
    let Some(seats) = rooms.get_mut(&room) else { return };
    seats.remove(&Arc::as_ptr(seat).addr());
    if seats.is_empty() {
        rooms.remove(&room);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seat {
    fn ring(&self) {
        self.rung.fetch_add(1, SeqCst);
        self.bell.notify_waiters();
    }
}

impl Taken {
    /// How often this seat was rung so far. To be noted before the snapshot is taken.
    pub fn rung(&self) -> u64 {
        self.0.rung.load(SeqCst)
    }

    /// How often something changed that is this person's own (memberships, account data, keys), with
    /// the number of the seat that counted it.
    pub fn personal(&self) -> (u64, u64) {
        (self.0.number, self.0.personal.load(SeqCst))
    }

    /// How often sessions of this person ended.
    pub fn sessions(&self) -> u64 {
        self.0.sessions.load(SeqCst)
    }

    /// Returns once the seat has been rung more than `seen` times: at once if it has already.
    pub async fn ring_after(&self, seen: u64) {
        loop {
            let bell = self.0.bell.notified();
            tokio::pin!(bell);
            bell.as_mut().enable();
            if self.rung() != seen {
                return;
            }
            bell.await;
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.left.store(clock::now_ms(), Relaxed);
        self.0.taken.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests;
