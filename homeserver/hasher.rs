//! Passwords off the async threads: hashing and checking them, with a bound on memory and on who waits.

use std::{sync::Arc, time::Duration};

use tokio::sync::Semaphore;

use crate::{
    accounts::passwords,
    error::{Error, Result},
};

/// Requests that wait for their turn at most.
const MAX_WAITING: usize = 256;

/// Where passwords are hashed: as many at once as there are cores, each with 19 MiB.
pub struct Hasher {
    running: Arc<Semaphore>,
    waiting: Semaphore,
}

impl Default for Hasher {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { running: Arc::new(Semaphore::new(cores)), waiting: Semaphore::new(MAX_WAITING) }
    }
}

impl Hasher {
    /// The hash of a new password. 400 if it is too weak to be one.
    pub async fn hash(&self, password: String) -> Result<String> {
        passwords::check_new(&password)?;
        self.run(move || passwords::hash(&password)).await?
    }

    /// Whether a password is the one of a hash, as slow if there is none.
    pub async fn verify(&self, password: String, hash: Option<String>) -> Result<bool> {
        self.run(move || passwords::verify(&password, hash.as_deref())).await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let place = self.waiting.try_acquire();
        let _place = place.map_err(|_| Error::limited(Duration::from_secs(2)))?;
        let turn = self.running.clone().acquire_owned().await.map_err(Error::internal)?;
        let work = move || {
            let done = work();
            // Held by the work and not by the request, which may be given up.
            drop(turn);
            done
        };
        tokio::task::spawn_blocking(work).await.map_err(Error::internal)
    }
}
