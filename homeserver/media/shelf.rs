//! Where our people's files are: in a folder, or in a store that speaks S3. A file comes to its place before
//! anything refers to it, and leaves it after nothing does; what is on its way in or out stands in a table, so
//! that an end of the server in between leaves nothing behind that nobody knows of.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{Mutex as Turn, OwnedMutexGuard, RwLock};

use super::{
    bucket::{Bucket, Stored},
    files::{Files, Received, Temporary},
    thumbnails,
};
use crate::{
    error::{Error, Result},
    store::{Flow, LAST, Read, Store, WriteTx, tables},
};

/// Files that are looked up at once to be removed.
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
    pub(super) store: Store,
    pub(super) files: Files,
    pub(super) bucket: Option<Arc<Bucket>>,
    thumbnails: PathBuf,
    /// Who puts or removes a file has its turn: otherwise one could remove what the other has just found there.
    turns: Mutex<HashMap<String, Arc<Turn<()>>>>,
    /// Whoever removes files has a share of it; who wants none removed has all of it.
    pub(super) removing: RwLock<()>,
}

impl Shelf {
    /// Files in a folder; with a bucket, new ones go there.
    pub fn new(store: Store, files: Files, bucket: Option<Bucket>, thumbnails: PathBuf) -> Self {
        Self {
            store,
            files,
            bucket: bucket.map(Arc::new),
            thumbnails,
            turns: Mutex::default(),
            removing: RwLock::default(),
        }
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
            Some(bucket) => self.send(bucket, hash, &temporary.0).await,
            None => self.files.settle(hash, temporary).await,
        }
    }

    /// Puts a file into the bucket. Of one that goes in parts it is written down how that is called, as nobody
    /// else could take away what was sent when the server ends in the middle.
    pub(super) async fn send(&self, bucket: &Bucket, hash: &str, path: &Path) -> Result<()> {
        let _place = bucket.place().await;
        if bucket.put(hash, path).await? {
            return Ok(());
        }
        // It may have been begun before.
        self.give_up(bucket, hash).await?;
        let upload = bucket.begin(hash).await?;
        let (key, begun) = (hash.to_owned(), upload.clone());
        self.store.write(move |tx| tables::FILES_IN_PARTS.put(tx, &*key, &begun)).await?;
        match bucket.put_in_parts(hash, &upload, path).await {
            Ok(()) => {
                let key = hash.to_owned();
                self.store.write(move |tx| tables::FILES_IN_PARTS.remove(tx, &*key).map(drop)).await
            }
            Err(error) => {
                if let Err(error) = self.give_up(bucket, hash).await {
                    tracing::debug!(%error, "an upload to the store of files is given up later");
                }
                Err(error)
            }
        }
    }

    /// Gives up what was begun of a file that goes in parts.
    async fn give_up(&self, bucket: &Bucket, hash: &str) -> Result<()> {
        if let Some(upload) = self.store.read(|tx| tables::FILES_IN_PARTS.get(tx, hash))? {
            bucket.give_up(hash, &upload).await?;
            let key = hash.to_owned();
            self.store.write(move |tx| tables::FILES_IN_PARTS.remove(tx, &*key).map(drop)).await?;
        }
        Ok(())
    }

    /// Gives up whatever was begun and is not gone on with.
    async fn give_all_up(&self, bucket: &Bucket) -> Result<()> {
        let all = |tx: &_| tables::FILES_IN_PARTS.collect::<&str, _>(tx, .., |hash, _| hash.to_owned());
        // Of these there are few: an end of the server leaves as many as were under way.
        for hash in self.store.read(all)? {
            let Some(_turn) = self.free_turn(&hash) else { continue };
            if let Err(error) = self.give_up(bucket, &hash).await {
                tracing::warn!(%error, "an upload to the store of files that was cut off can't be given up now");
            }
        }
        Ok(())
    }

    pub(super) fn turn(&self, hash: &str) -> Arc<Turn<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        turns.entry(hash.to_owned()).or_default().clone()
    }

    fn free_turn(&self, hash: &str) -> Option<OwnedMutexGuard<()>> {
        self.turn(hash).try_lock_owned().ok()
    }

    /// Removes what nothing refers to any more. What can't be removed now is removed another time.
    pub async fn sweep(&self) -> Result<()> {
        let Ok(_removing) = self.removing.try_read() else { return Ok(()) };
        if let Some(bucket) = &self.bucket {
            self.give_all_up(bucket).await?;
        }
        let mut after = String::new();
        loop {
            let unused = self.store.read(|tx| unused(tx, &after))?;
            let Some(last) = unused.last() else { return Ok(()) };
            // What is passed over now is not looked at twice.
            after = format!("{last}\0");
            for hash in unused {
                // Somebody who has a turn brings it at this moment.
                let Some(_turn) = self.free_turn(&hash) else { continue };
                if self.store.read(|tx| tables::MEDIA_FILES.has(tx, &*hash))? {
                    continue;
                }
                self.remove(&hash).await?;
                self.store.write(move |tx| tables::UNUSED_FILES.remove(tx, &*hash).map(drop)).await?;
            }
        }
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

/// Some files that nothing refers to, from a hash on.
fn unused(tx: &impl Read, from: &str) -> Result<Vec<String>> {
    let mut out = Vec::new();
    tables::UNUSED_FILES.scan(tx, from..=LAST, |hash, ()| {
        out.push(hash.to_owned());
        Ok(if out.len() >= REMOVE_AT_ONCE { Flow::Stop } else { Flow::Next })
    })?;
    Ok(out)
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
