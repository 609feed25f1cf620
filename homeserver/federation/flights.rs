//! One at a time for each name: whoever wants what somebody else is just fetching waits for them, and then
//! finds it there.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use ruma::OwnedServerName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Names are forgotten, once nobody is busy with them, when there are more than this.
const SWEEP: usize = 1000;

/// Who is busy with which name. Holds no more than there are tasks at work, and `SWEEP` beyond them.
pub struct Flights<Name = OwnedServerName> {
    /// How many may be busy with one name at once.
    width: usize,
    busy: Mutex<HashMap<Name, Weak<Semaphore>>>,
}

/// A place, until it is dropped.
pub struct Place {
    _permit: Option<OwnedSemaphorePermit>,
    _semaphore: Arc<Semaphore>,
}

#[cfg(test)]
impl Place {
    /// One that keeps nobody waiting.
    pub fn of_nobody() -> Self {
        Self { _permit: None, _semaphore: Arc::new(Semaphore::new(0)) }
    }
}

impl<Name: Clone + Eq + Hash> Flights<Name> {
    /// So many at once for each name.
    pub fn new(width: usize) -> Self {
        Self { width, busy: Mutex::default() }
    }

    /// Waits for a place with a name.
    pub async fn enter(&self, name: &Name) -> Place {
        let semaphore = self.of(name);
        // It is never closed.
        let permit = semaphore.clone().acquire_owned().await.ok();
        Place { _permit: permit, _semaphore: semaphore }
    }

    fn of(&self, name: &Name) -> Arc<Semaphore> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(semaphore) = busy.get(name).and_then(Weak::upgrade) {
            return semaphore;
        }
        if busy.len() >= SWEEP {
            busy.retain(|_, semaphore| semaphore.strong_count() > 0);
        }
        let semaphore = Arc::new(Semaphore::new(self.width));
        busy.insert(name.clone(), Arc::downgrade(&semaphore));
        semaphore
    }
}
