//! The embedded database: one file with its journal, one writer, many readers on snapshots. Owns the files, the
//! order of commits and the shape of every table; knows nothing of what the rows mean.
//!
//! What is written goes to a journal first, which is flushed with every commit, and the file itself now and
//! then: no commit costs more for what the file holds already.
//!
//! `read` gives a snapshot to a closure, never across an await. `write` queues a job for the writer
//! thread and returns once it is on disk.

mod copy;
mod engine;
mod identity;
mod journal;
mod place;
mod record;
pub mod rows;
mod table;
pub mod tables;
mod tx;
mod writer;

use std::{path::Path, sync::Arc};

use engine::Engine;
pub use engine::Options;
use place::{Files, Place};
pub use table::{Flow, LAST, Table};
use tokio::sync::{mpsc, oneshot, watch};
pub use tx::{Brought, Read, ReadTx, Wake, WriteTx};
pub use writer::OnCommit;

use crate::error::{Error, Result};

/// Immutable things that are worth keeping in memory, each cache bounded by bytes.
pub(crate) struct Caches {
    layers: quick_cache::sync::Cache<u64, Arc<rows::Layer>, rows::LayerWeight>,
    /// What states were resolved to: a hash of what they were, to what is different from the first.
    resolved: quick_cache::sync::Cache<[u8; 32], tx::Changes, rows::ChangesWeight>,
}

impl Caches {
    fn new(bytes: u64) -> Arc<Self> {
        let layers = quick_cache::sync::Cache::with_weighter(1024, bytes, rows::LayerWeight);
        let resolved = quick_cache::sync::Cache::with_weighter(256, bytes / 8, rows::ChangesWeight);
        Arc::new(Self { layers, resolved })
    }
}

/// The store. Clones share one database and one writer.
#[derive(Clone)]
pub struct Store {
    engine: Arc<Engine>,
    jobs: mpsc::Sender<Box<dyn writer::Job>>,
    ended: watch::Receiver<()>,
}

impl Store {
    /// Opens the database at `path`, or makes it. `on_commit` is called by the writer after each
    /// commit, before those who asked for it are answered.
    pub fn open(path: &Path, options: Options, on_commit: OnCommit) -> Result<Self, String> {
        Self::open_at(Box::new(Files::new(path)), options, on_commit)
    }

    fn open_at(place: Box<dyn Place>, options: Options, on_commit: OnCommit) -> Result<Self, String> {
        let engine = Arc::new(Engine::open(place, options)?);
        let pos = engine.snapshot().and_then(|tx| tx.pos()).map_err(|error| error.to_string())?;
        let (jobs, queue) = mpsc::channel(writer::QUEUE);
        let (end, ended) = watch::channel(());
        let writer = writer::Writer {
            engine: engine.clone(),
            jobs: queue,
            on_commit,
            pos,
            space_checked: None,
            reopened: false,
            ended: end,
        };
        std::thread::Builder::new()
            .name("writer".into())
            .spawn(|| writer.run())
            .map_err(|error| format!("can't start the writer thread: {error}"))?;
        Ok(Self { engine, jobs, ended })
    }

    /// Makes this the database of a server, or finds that it is another's: what users and rooms are
    /// called can't be changed afterwards.
    pub async fn claim(&self, server_name: &str) -> Result<(), String> {
        let text = |error: Error| error.to_string();
        let mut owner = self.read(|tx| tables::IDENTITY.get(tx, "server_name")).map_err(text)?;
        if owner.is_none() {
            let name = server_name.to_owned();
            self.write(move |tx| tables::IDENTITY.put(tx, "server_name", &name)).await.map_err(text)?;
            owner = Some(server_name.to_owned());
        }
        match owner.filter(|owner| owner != server_name) {
            None => Ok(()),
            Some(owner) => Err(format!(
                "this data directory belongs to the server {owner:?}, not {server_name:?}: \
                 set server_name back, or data_dir to another directory"
            )),
        }
    }

    /// Brings a file of an earlier schema up to date, in one transaction with saying so. `work` is told which
    /// schema it is; a file that is up to date is left alone.
    pub async fn upgrade(&self, mut work: impl FnMut(&WriteTx, u64) -> Result<()> + Send + 'static) -> Result<()> {
        let schema = self.read(|tx| tables::COUNTERS.get(tx, "schema"))?.unwrap_or(0);
        if schema == identity::SCHEMA {
            return Ok(());
        }
        let upgrade = move |tx: &WriteTx| {
            work(tx, schema)?;
            tables::COUNTERS.put(tx, "schema", &identity::SCHEMA)
        };
        self.write(upgrade).await
    }

    /// Does what is queued, closes the file and returns then. Later writes are refused.
    pub async fn close(&self) {
        // If the queue is closed already, somebody else has asked for the same.
        let _ = self.jobs.send(Box::new(writer::Last)).await;
        let _ = self.ended.clone().changed().await;
    }

    /// Bytes that cached room state takes.
    pub fn cached_bytes(&self) -> u64 {
        self.engine.cached_bytes()
    }

    /// Reads from a snapshot of the last commit.
    pub fn read<T>(&self, work: impl FnOnce(&ReadTx) -> Result<T>) -> Result<T> {
        work(&*self.engine.snapshot()?)
    }

    /// Runs a job in the writer and returns when its effects are on disk. The job may run more than
    /// once (see `writer.rs`); if it fails, it has left no trace.
    pub async fn write<T: Send + 'static>(
        &self,
        work: impl FnMut(&WriteTx) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(writer::Task { work, outcome: None, reply });
        let stopped = || Error::unavailable("the server is stopping", "the writer has stopped");
        self.jobs.send(job).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

#[cfg(test)]
mod tests;
