//! Where our people's files are: in a folder, or in a store that speaks S3. A file comes to its place before
//! anything refers to it, and leaves it after nothing does; what is on its way in or out stands in a table, so
//! that an end of the server in between leaves nothing behind that nobody knows of.

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

use super::{
    bucket::{Bucket, Stored},
    files::{Files, Received, Temporary},
    thumbnails,
};
use crate::{
    error::{Error, Result},
    store::{Flow, Store, WriteTx, tables},
};

/// Files that are removed in one go.
const REMOVE_AT_ONCE: usize = 100;

/// Where a file is.
#[derive(Clone, Debug)]
pub enum Place {
    /// On this machine.
    Disk(PathBuf),
    /// In a store elsewhere.
    Bucket(Stored),
}

/// The files of our people.
pub struct Shelf {
    store: Store,
    pub(super) files: Files,
    bucket: Option<Arc<Bucket>>,
    thumbnails: PathBuf,
    /// Who puts or removes a file has its turn: otherwise one could remove what the other has just found there.
    turns: Mutex<HashMap<String, Arc<Turn<()>>>>,
}

impl Shelf {
    /// Files in a folder; with a bucket, new ones go there.
    pub fn new(store: Store, files: Files, bucket: Option<Bucket>, thumbnails: PathBuf) -> Self {
        Self { store, files, bucket: bucket.map(Arc::new), thumbnails, turns: Mutex::default() }
    }

    /// Where the file with a hash is.
    pub fn place(&self, hash: &str) -> Place {
        let path = self.files.path(hash);
        match &self.bucket {
            // What came before there was a bucket is still here.
            Some(bucket) if !path.exists() => Place::Bucket(Stored { bucket: bucket.clone(), name: hash.to_owned() }),
            _ => Place::Disk(path),
        }
    }

    /// Keeps a file, and then commits what refers to it. Once this returns, both are safe.
    ///
    /// 1. That it comes is written down, unless it is here already: it is removed again if nothing ever refers
    ///    to it.
    /// 2. It is put in its place.
    /// 3. What refers to it is committed, which also says that it stays.
    pub async fn keep(
        self: &Arc<Self>,
        received: Received,
        temporary: Temporary,
        commit: impl FnMut(&WriteTx) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let shelf = self.clone();
        // On its own: whoever sends it may go away in the middle.
        let work = async move {
            let hash = received.hash;
            let _turn = shelf.turn(&hash).lock_owned().await;
            if !shelf.store.read(|tx| tables::MEDIA_FILES.has(tx, &*hash))? {
                let comes = hash.clone();
                shelf.store.write(move |tx| tables::UNUSED_FILES.put(tx, &*comes, &())).await?;
                shelf.put(&hash, temporary).await?;
            } else if !shelf.has(&hash, received.size).await? {
                shelf.put(&hash, temporary).await?;
            }
            shelf.store.write(commit).await
        };
        tokio::spawn(work).await.map_err(Error::internal)?
    }

    async fn has(&self, hash: &str, size: u64) -> Result<bool> {
        match self.place(hash) {
            Place::Disk(path) => Ok(tokio::fs::metadata(path).await.is_ok_and(|seen| seen.len() == size)),
            Place::Bucket(Stored { bucket, name }) => bucket.has(&name, size).await,
        }
    }

    async fn put(&self, hash: &str, temporary: Temporary) -> Result<()> {
        match &self.bucket {
            Some(bucket) => bucket.put(hash, &temporary.0).await,
            None => self.files.settle(hash, temporary).await,
        }
    }

    fn turn(&self, hash: &str) -> Arc<Turn<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        turns.entry(hash.to_owned()).or_default().clone()
    }

    fn free_turn(&self, hash: &str) -> Option<OwnedMutexGuard<()>> {
        self.turn(hash).try_lock_owned().ok()
    }

    /// Removes what nothing refers to any more. What can't be removed now is removed another time.
    pub async fn sweep(&self) -> Result<()> {
        let mut unused = Vec::new();
        self.store.read(|tx| {
            tables::UNUSED_FILES.scan::<&str>(tx, .., |hash, ()| {
                unused.push(hash.to_owned());
                Ok(if unused.len() >= REMOVE_AT_ONCE { Flow::Stop } else { Flow::Next })
            })
        })?;
        for hash in unused {
            // Somebody who has a turn brings it at this moment.
            let Some(_turn) = self.free_turn(&hash) else { continue };
            if self.store.read(|tx| tables::MEDIA_FILES.has(tx, &*hash))? {
                continue;
            }
            self.remove(&hash).await?;
            self.store.write(move |tx| tables::UNUSED_FILES.remove(tx, &*hash).map(drop)).await?;
        }
        Ok(())
    }

    async fn remove(&self, hash: &str) -> Result<()> {
        if let Some(bucket) = &self.bucket {
            bucket.remove(hash).await?;
        }
        match tokio::fs::remove_file(self.files.path(hash)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(super::files::explain(error)),
            _ => {}
        }
        let (folder, hash) = (self.thumbnails.clone(), hash.to_owned());
        tokio::task::spawn_blocking(move || thumbnails::forget(&folder, &hash)).await.map_err(Error::internal)
    }
}

/// Notes that one thing more refers to a file, which therefore stays.
pub fn refer(tx: &WriteTx, hash: &str) -> Result<()> {
    let references = tables::MEDIA_FILES.get(tx, hash)?.unwrap_or(0);
    tables::MEDIA_FILES.put(tx, hash, &(references + 1))?;
    tables::UNUSED_FILES.remove(tx, hash).map(drop)
}

/// Notes that one thing less refers to a file. If that was the last, it is to be removed.
pub fn release(tx: &WriteTx, hash: &str) -> Result<()> {
    match tables::MEDIA_FILES.get(tx, hash)?.unwrap_or(0) {
        0 | 1 => {
            tables::MEDIA_FILES.remove(tx, hash)?;
            tables::UNUSED_FILES.put(tx, hash, &())
        }
        more => tables::MEDIA_FILES.put(tx, hash, &(more - 1)),
    }
}
