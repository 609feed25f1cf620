//! How many WebSockets are open, of each person and of all.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ruma::{OwnedUserId, UserId};
use tokio::sync::watch;

use crate::error::{Error, Result};

/// Sockets of one person at most.
const MAX_OF_ONE: usize = 64;

/// The count. Clones are the same one.
#[derive(Clone, Default)]
pub struct Sockets(Arc<Inner>);

#[derive(Default)]
struct Inner {
    by_user: Mutex<HashMap<OwnedUserId, usize>>,
    all: watch::Sender<usize>,
}

/// A socket's place, given back when it is dropped.
pub struct Place {
    sockets: Sockets,
    user: OwnedUserId,
}

impl Sockets {
    /// Takes a place for somebody's socket. 429 if they have very many, or all have `most` together.
    pub fn enter(&self, user: &UserId, most: usize) -> Result<Place> {
        let mut by_user = self.0.by_user.lock().unwrap_or_else(PoisonError::into_inner);
        let own = by_user.entry(user.to_owned()).or_default();
        if *own >= MAX_OF_ONE || *self.0.all.borrow() >= most {
            return Err(Error::limited(Duration::from_secs(10)));
        }
        *own += 1;
        self.0.all.send_modify(|all| *all += 1);
        Ok(Place { sockets: self.clone(), user: user.to_owned() })
    }

    /// Returns once all are closed, or after some time.
    pub async fn closed(&self, patience: Duration) {
        let mut all = self.0.all.subscribe();
        // Who has not closed by then is cut off.
        let _ = tokio::time::timeout(patience, all.wait_for(|all| *all == 0)).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_user = self.sockets.0.by_user.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = by_user.get_mut(&self.user) {
            *own -= 1;
            if *own == 0 {
                by_user.remove(&self.user);
            }
        }
        self.sockets.0.all.send_modify(|all| *all -= 1);
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;

    #[tokio::test]
    async fn places_are_bounded_and_come_back() {
        let (sockets, alice, bob) = (Sockets::default(), user_id!("@alice:b.c"), user_id!("@bob:b.c"));
        let mut places: Vec<_> = (0..MAX_OF_ONE).map(|_| sockets.enter(alice, 100).expect("a place")).collect();
        assert!(sockets.enter(alice, 100).is_err());
        places.push(sockets.enter(bob, 100).expect("bob has his own"));
        assert!(sockets.enter(bob, MAX_OF_ONE + 1).is_err(), "all together are bounded too");
        places.remove(0);
        places.push(sockets.enter(alice, 100).expect("one came back"));
        drop(places);
        sockets.closed(Duration::from_secs(5)).await;
        assert!(sockets.0.by_user.lock().expect("unpoisoned").is_empty());
    }
}
