//! What a sync draws from: the store, who waits, what lives in memory, and what is remembered to answer
//! faster. Also the heartbeat of what lives in memory only.

use std::{sync::Arc, time::Duration};

use ruma::UserId;
use tokio::{
    sync::{Semaphore, watch},
    time::{MissedTickBehavior, interval},
};

use super::{facts, filters, lazy, sliding, sockets::Sockets};
use crate::{
    accounts::presence::Presence,
    notify::Notifier,
    rooms::{typing::Typing, unread::Unread},
    store::Store,
};

/// Answers that take long (a first sync, a long absence) are built this many at once at most, away
/// from the threads that serve everybody.
const HEAVY_AT_ONCE: usize = 4;
/// How often it is looked who has stopped typing and whose presence changed. Changes of presence fold
/// together within a beat, as one person's can concern very many others.
const BEAT: Duration = Duration::from_secs(1);
/// Beats from one look for seats that nobody uses to the next.
const SWEEP_EVERY: u32 = 60;
/// Changes of presence that one beat passes on.
const PRESENCES: usize = 1000;

/// What there is one of in a server.
pub struct Hub {
    /// The database.
    pub store: Store,
    /// Who waits.
    pub notifier: Notifier,
    /// Who is online.
    pub presence: Arc<Presence>,
    /// Who is typing.
    pub typing: Arc<Typing>,
    /// Open WebSockets.
    pub sockets: Sockets,
    pub(super) facts: facts::Cache,
    pub(super) filters: filters::Cache,
    pub(super) lazy: lazy::Cache,
    pub(super) sliding: sliding::Memory,
    pub(super) heavy: Arc<Semaphore>,
    /// What people have not read.
    pub unread: Arc<Unread>,
}

impl Hub {
    /// A hub of a store that tells `notifier` of its commits, with caches of at most `memory` bytes.
    pub fn new(store: Store, notifier: Notifier, presence: Arc<Presence>, memory: u64) -> Self {
        Self {
            store,
            notifier,
            presence,
            typing: Arc::default(),
            sockets: Sockets::default(),
            facts: facts::Cache::new(memory / 4),
            filters: filters::Cache::new(memory / 16),
            lazy: lazy::Cache::new(memory / 4 - memory / 16),
            sliding: sliding::Memory::new(memory / 4),
            heavy: Arc::new(Semaphore::new(HEAVY_AT_ONCE)),
            unread: Arc::new(Unread::new(memory / 4)),
        }
    }

    /// Wakes who waits when something happens, until the server is to stop; then wakes everybody.
    pub async fn run(&self, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = self.follow() => {}
            () = self.beat() => {}
            // An error says that nobody is left to ask for it, which means the same.
            _ = stop.wait_for(|stop| *stop) => {}
        }
        self.notifier.stop();
    }

    async fn follow(&self) {
        let moved = |user: &UserId, room, is_in| match is_in {
            true => self.presence.came(user, room),
            // Who is not in a room any more does not type there either.
            false => drop(self.typing.stop(room, user)),
        };
        self.notifier.clone().follow(self.store.clone(), moved).await;
    }

    async fn beat(&self) {
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut presence_seen = 0;
        for turn in 0u32.. {
            beats.tick().await;
            for room in self.typing.sweep() {
                self.notifier.ring_room(room);
            }
            for (number, user, _) in self.presence.changed_since(presence_seen, PRESENCES) {
                self.notifier.ring_company(&user);
                presence_seen = number;
            }
            if turn % SWEEP_EVERY == 0 {
                self.notifier.sweep();
            }
        }
    }
}
