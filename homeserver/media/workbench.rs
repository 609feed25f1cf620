//! Memory and processors for pictures: whoever decodes one waits for its share of both, so that many at once take no
//! more than one machine has.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Result};

/// Bytes of memory for all pictures that are decoded at once: files, what is in them, and what is made of it. One
/// that takes more than all of it is alone.
const MEMORY: u64 = 256 << 20;
/// The unit in which that is shared out.
const UNIT: u64 = 1 << 20;

/// What there is.
pub struct Workbench {
    memory: Arc<Semaphore>,
    /// As many as there are processors: more would only keep everybody else waiting.
    hands: Arc<Semaphore>,
}

/// A share of it, until it is dropped.
pub struct Share {
    _hand: OwnedSemaphorePermit,
    _memory: OwnedSemaphorePermit,
}

impl Workbench {
    /// All of it, free.
    pub fn new() -> Self {
        let units = usize::try_from(MEMORY / UNIT).unwrap_or(1);
        let hands = std::thread::available_parallelism().map_or(1, |count| count.get());
        Self { memory: Arc::new(Semaphore::new(units)), hands: Arc::new(Semaphore::new(hands)) }
    }

    /// Waits for so many bytes of memory, and somebody to do the work.
    pub async fn share(&self, bytes: u64) -> Result<Share> {
        let hand = self.hands.clone().acquire_owned().await.map_err(Error::internal)?;
        // Never more than there is altogether, or it would wait for ever.
        let units = u32::try_from((bytes / UNIT + 1).min(MEMORY / UNIT)).map_err(Error::internal)?;
        let memory = self.memory.clone().acquire_many_owned(units).await.map_err(Error::internal)?;
        Ok(Share { _hand: hand, _memory: memory })
    }

    /// Takes all of it, for tests of those who wait.
    #[cfg(test)]
    pub async fn all(&self) -> Share {
        self.share(MEMORY).await.expect("it is never closed")
    }
}
