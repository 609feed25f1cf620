//! The one thread that writes. It takes all jobs that wait, runs them in one transaction, commits once
//! with an fsync, wakes whoever waits, and answers everybody.
//!
//! - A job that fails before its first write costs its neighbours nothing.
//! - A job that fails after writing has the batch undone and run again without it. Jobs are therefore
//!   re-runnable: they have no side effect but the transaction.
//! - A job that panics is answered as an internal error and counts as one that failed after writing.
//! - When the disk fails, everybody in the batch is told so and the database is opened anew; when the
//!   disk is nearly full, jobs are refused before they start, so that readers never notice.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot, watch};

use super::{
    Engine, Read, WriteTx, tables,
    tx::{Wake, storage},
};
use crate::{
    base::Pos,
    error::{Error, Result},
};

/// Jobs in one commit at most: a bound on how long the first of them waits for the last.
const MAX_BATCH: usize = 512;
/// Jobs waiting at most; a further one waits outside, holding only its own request.
pub(super) const QUEUE: usize = 2048;
/// Jobs that fail after writing for which a whole batch is run again.
const MAX_UNDONE: usize = 2;
/// How often the free space is looked at.
const SPACE_CHECK: Duration = Duration::from_millis(500);

/// Called after each commit, with whom it concerns and the newest position.
pub type OnCommit = Box<dyn Fn(Wake, Pos) + Send>;

pub(super) trait Job: Send {
    /// Runs once or more, until its outcome is final.
    fn run(&mut self, tx: &WriteTx) -> bool;
    /// Replaces the outcome.
    fn fail(&mut self, error: Error);
    /// Tells the caller.
    fn answer(self: Box<Self>);
    /// Whether it is the last one that is taken.
    fn is_last(&self) -> bool {
        false
    }
}

/// The job that ends the writer, after those that were queued before.
pub(super) struct Last;

impl Job for Last {
    fn run(&mut self, _: &WriteTx) -> bool {
        true
    }
    fn fail(&mut self, _: Error) {}
    fn answer(self: Box<Self>) {}
    fn is_last(&self) -> bool {
        true
    }
}

pub(super) struct Task<T, F> {
    pub work: F,
    pub outcome: Option<Result<T>>,
    pub reply: oneshot::Sender<Result<T>>,
}

impl<T: Send, F: FnMut(&WriteTx) -> Result<T> + Send> Job for Task<T, F> {
    fn run(&mut self, tx: &WriteTx) -> bool {
        let outcome = catch_unwind(AssertUnwindSafe(|| (self.work)(tx))).unwrap_or_else(|panic| {
            tx.dirty.set(true);
            Err(Error::internal(format!("a write job panicked: {}", panic_text(&*panic))))
        });
        let succeeded = outcome.is_ok();
        self.outcome = Some(outcome);
        succeeded
    }

    fn fail(&mut self, error: Error) {
        self.outcome = Some(Err(error));
    }

    fn answer(self: Box<Self>) {
        if let Some(outcome) = self.outcome {
            // The caller may have gone away; what it asked for is done all the same.
            let _ = self.reply.send(outcome);
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

pub(super) struct Writer {
    pub engine: Arc<Engine>,
    pub jobs: mpsc::Receiver<Box<dyn Job>>,
    pub on_commit: OnCommit,
    pub pos: Pos,
    pub space_checked: Option<(Instant, bool)>,
    /// Whether the file was opened anew and has not been looked at since.
    pub reopened: bool,
    /// Told when the writer has ended and the file is closed.
    pub ended: watch::Sender<()>,
}

/// What a commit did: the first `jobs` of a batch are done with.
struct Committed {
    wake: Wake,
    pos: Pos,
    jobs: usize,
}

impl Writer {
    /// Serves jobs until the store is closed or the last [`super::Store`] is gone.
    pub fn run(mut self) {
        let mut batch = Vec::with_capacity(MAX_BATCH);
        while let Some(first) = self.jobs.blocking_recv() {
            batch.push(first);
            while batch.len() < MAX_BATCH {
                let Ok(job) = self.jobs.try_recv() else { break };
                batch.push(job);
            }
            if batch.iter().any(|job| job.is_last()) {
                self.jobs.close();
            }
            self.serve(&mut batch);
            batch.drain(..).for_each(Job::answer);
        }
        self.engine.close();
        self.ended.send_replace(());
    }

    fn serve(&mut self, batch: &mut [Box<dyn Job>]) {
        if self.reopened {
            self.begin_anew();
        }
        if !self.has_space() {
            let full = Error::unavailable("the server's disk is full: try again later", "too little free disk space");
            return batch.iter_mut().for_each(|job| job.fail(full.clone()));
        }
        let mut rest = batch;
        while !rest.is_empty() {
            match self.commit(rest) {
                Ok(Committed { wake, pos, jobs }) => {
                    self.pos = pos;
                    (self.on_commit)(wake, pos);
                    rest = &mut rest[jobs..];
                }
                Err(error) => {
                    tracing::error!(%error, "a commit failed; opening the database anew");
                    rest.iter_mut().for_each(|job| job.fail(error.clone()));
                    self.engine.reopen();
                    self.reopened = true;
                    return;
                }
            }
        }
    }

    /// Finds out where the file stands once it has been opened anew: a commit whose last step failed
    /// may be in it all the same, and its positions must not be given twice.
    fn begin_anew(&mut self) {
        if let Ok(pos) = self.engine.snapshot().and_then(|tx| tx.pos()) {
            self.pos = pos;
            self.reopened = false;
            (self.on_commit)(Wake { anew: true, ..Wake::default() }, pos);
        }
    }

    /// Runs jobs in one transaction, leaving out those that failed after writing, and commits. After
    /// a few of those it commits what stands before the next one, and leaves the rest to another
    /// transaction: many of them should not make all others run many times.
    fn commit(&self, batch: &mut [Box<dyn Job>]) -> Result<Committed> {
        let mut failed = vec![false; batch.len()];
        let (mut jobs, mut undone) = (batch.len(), 0);
        'again: loop {
            let tx = self.engine.begin_write(self.pos)?;
            let mut wake = Wake::default();
            let (mut index, mut changed) = (0, false);
            while index < jobs {
                let this = index;
                index += 1;
                if failed[this] {
                    continue;
                }
                tx.dirty.set(false);
                // One that panicked left it behind.
                tx.brought.take();
                if batch[this].run(&tx) {
                    wake.absorb(tx.wake.take());
                    changed |= tx.dirty.get();
                    continue;
                }
                failed[this] = true;
                tx.wake.take();
                if tx.dirty.get() {
                    tx.redb.abort().map_err(storage)?;
                    undone += 1;
                    if undone > MAX_UNDONE {
                        jobs = index;
                    }
                    continue 'again;
                }
            }
            let pos = tx.pos.get();
            // Jobs that only looked, or only failed, have nothing to be flushed.
            if !changed {
                tx.redb.abort().map_err(storage)?;
                return Ok(Committed { wake, pos, jobs });
            }
            tables::COUNTERS.put(&tx, "pos", &pos)?;
            self.engine.commit(tx)?;
            return Ok(Committed { wake, pos, jobs });
        }
    }

    fn has_space(&mut self) -> bool {
        match self.space_checked {
            Some((at, enough)) if at.elapsed() < SPACE_CHECK => enough,
            _ => {
                let enough = self.engine.has_space();
                self.space_checked = Some((Instant::now(), enough));
                enough
            }
        }
    }
}
