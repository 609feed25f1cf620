//! Proving who somebody is by password: off the async threads, with a bound on memory, and telling
//! nobody which names exist.

use std::sync::Arc;

use ruma::OwnedUserId;
use tokio::sync::Semaphore;

use super::Bucket;
use crate::{
    accounts::{passwords, users},
    app::App,
    error::{Error, Result},
};

/// Requests that wait for their turn at most.
const MAX_WAITING: usize = 256;
/// Bytes of a name that a bucket is labelled with at most.
const MAX_LABEL: usize = 255;

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

    async fn verify(&self, password: String, hash: Option<String>) -> Result<bool> {
        self.run(move || passwords::verify(&password, hash.as_deref())).await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let place = self.waiting.try_acquire();
        let _place = place.map_err(|_| Error::limited(std::time::Duration::from_secs(2)))?;
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

/// Who somebody is, by password.
pub struct Proven {
    /// The account.
    pub user: OwnedUserId,
    /// The hash that the password was found to be right for, to see that it is still the same later.
    pub hash: String,
}

/// Proves by password that somebody is who they say: a localpart or a user ID, or None for what can't
/// be an account here. Known, unknown and closed accounts go the same way and cost the same.
pub async fn prove(app: &App, name: Option<&str>, password: String) -> Result<Proven> {
    let user = name.and_then(|name| users::meant(name, &app.config.server_name));
    let label: String = match &user {
        Some(user) => user.localpart().to_owned(),
        None => name.unwrap_or_default().chars().take(MAX_LABEL).collect(),
    };
    app.limits.check_failures(Bucket::LoginFailure, &label)?;
    app.limits.take(Bucket::LoginAccount, &label)?;
    let row = app.store.read(|tx| user.as_ref().map(|user| users::lookup(tx, user)).transpose())?.flatten();
    let hash = row.and_then(|row| row.password);
    let right = app.hasher.verify(password, hash.clone()).await?;
    match (user, hash) {
        (Some(user), Some(hash)) if right => Ok(Proven { user, hash }),
        _ => {
            app.limits.failed(Bucket::LoginFailure, &label);
            Err(Error::forbidden("the name or the password is wrong"))
        }
    }
}
