//! Keeps the index of what was said in step with the rooms: behind the commits, a piece at a time, so that
//! senders don't wait for it. How far it has come is in the store, so nothing is lost when the server ends.

use std::{
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    time::Duration,
};

use tokio::sync::{Mutex, watch};

use crate::{
    error::Result,
    rooms::search::{self, Batch},
    store::Store,
};

/// Events that are read at once, and of those that have words, how many are written in one job: or those that have
/// so many words of their rooms together, each of which is a list to be read and written.
const READ: usize = 256;
const WRITTEN: usize = 128;
const WORDS: usize = 256;
/// Events that came late, which are written in one job.
const LATE: usize = 32;
/// How often it is looked what came.
const EVERY: Duration = Duration::from_secs(1);
/// Pieces that one look takes: with more to do, the next one comes at once.
const PIECES: usize = 50;

/// The one who keeps the index.
pub struct Indexer {
    store: Store,
    /// Up to where there is nothing to do, which need not be written down.
    seen: AtomicU64,
    turn: Mutex<()>,
}

impl Indexer {
    /// One for a store, from where the index has come to.
    pub fn new(store: Store) -> Self {
        Self { store, seen: AtomicU64::new(0), turn: Mutex::default() }
    }

    /// Brings the index up to now, or by so many pieces if there is more to do. False if there is.
    pub async fn catch_up(&self, pieces: usize) -> Result<bool> {
        let _turn = self.turn.lock().await;
        let mut is_more = self.late().await?;
        for _ in 0..pieces {
            let (store, seen) = (self.store.clone(), self.seen.load(SeqCst));
            let work = move || store.read(|tx| search::pending(tx, seen, READ));
            let mut pending = tokio::task::spawn_blocking(work).await.map_err(crate::error::Error::internal)??;
            while !pending.entries.is_empty() {
                let batch = Batch::next(&mut pending.entries, (WORDS, WRITTEN));
                self.store.write(move |tx| search::index(tx, &batch)).await?;
            }
            self.seen.store(pending.upto, SeqCst);
            if pending.is_all && !is_more {
                return Ok(true);
            }
            if is_more {
                is_more = self.late().await?;
            }
        }
        Ok(false)
    }

    /// Takes in some events that came late. Whether there may be more.
    async fn late(&self) -> Result<bool> {
        let late = self.store.read(|tx| search::late(tx, LATE))?;
        let is_more = late.len() == LATE;
        let (events, entries): (Vec<_>, Vec<_>) = late.into_iter().unzip();
        if !events.is_empty() {
            let batch = Batch::next(&mut entries.into_iter().flatten().collect(), (usize::MAX, LATE));
            self.store.write(move |tx| search::index_late(tx, &events, &batch)).await?;
        }
        Ok(is_more)
    }

    /// Does so until the server is to stop.
    pub async fn run(&self, mut stop: watch::Receiver<bool>) {
        loop {
            let done = match self.catch_up(PIECES).await {
                Ok(done) => done,
                Err(error) => {
                    // It goes on from the same place; what is wrong is logged where it went wrong.
                    tracing::debug!(%error, "the index of what was said stands still");
                    true
                }
            };
            let pause = if done { EVERY } else { Duration::ZERO };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // An error says that nobody is left to ask for it, which means the same.
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }
}
