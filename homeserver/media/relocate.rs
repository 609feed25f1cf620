//! Bringing our people's files from the folder into the bucket, or back: one after the other, each whole in its new
//! place before it leaves the old one. It can end at any time and is gone on with; meanwhile every file is found
//! where it is.

use std::pin::pin;

use tokio_stream::{StreamExt, wrappers::ReceiverStream};

use super::{Media, bucket::Bucket, shelf::Shelf};
use crate::{
    error::{Error, Result},
    store::{Flow, LAST, Read, tables},
};

/// Files that are looked up at once.
const AT_ONCE: usize = 1000;

/// Where files are brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Towards {
    /// Into the bucket.
    Bucket,
    /// Into the folder.
    Disk,
}

/// What has been done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Files that were looked at.
    pub seen: u64,
    /// Files that were brought.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that have other bytes than their name says, and were left where they are.
    pub damaged: u64,
    /// Files that nobody knows of here, and were left where they are.
    pub unknown: u64,
}

impl Media {
    /// Brings all files there. `tell` hears of each that was looked at.
    pub async fn relocate(&self, to: Towards, tell: impl FnMut(&Moved)) -> Result<Moved> {
        self.shelf.relocate(to, tell).await
    }
}

impl Shelf {
    async fn relocate(&self, to: Towards, mut tell: impl FnMut(&Moved)) -> Result<Moved> {
        let bucket = self.bucket.clone().ok_or_else(|| Error::not_found("the configuration has no [s3]"))?;
        let mut moved = Moved::default();
        match to {
            Towards::Bucket => {
                let mut after = String::new();
                while let Some(portion) = self.store.read(|tx| portion(tx, &after))? {
                    for hash in &portion.hashes {
                        self.to_bucket(&bucket, hash, &mut moved).await?;
                        tell(&moved);
                    }
                    after = portion.next;
                }
            }
            Towards::Disk => {
                let mut all = pin!(bucket.all());
                while let Some(seen) = all.next().await {
                    let (hash, size) = seen?;
                    self.to_disk(&bucket, (&hash, size), &mut moved).await?;
                    tell(&moved);
                }
            }
        }
        Ok(moved)
    }

    async fn to_bucket(&self, bucket: &Bucket, hash: &str, moved: &mut Moved) -> Result<()> {
        let _turn = self.turn(hash).lock_owned().await;
        moved.seen += 1;
        let path = self.files.path(hash);
        let Ok(seen) = tokio::fs::metadata(&path).await else { return Ok(()) };
        if !self.files.is_whole(hash).await? {
            tracing::warn!(hash, "{} is damaged and stays", path.display());
            moved.damaged += 1;
            return Ok(());
        }
        // Otherwise it was brought before, and the end came then.
        if !bucket.has(hash, seen.len()).await? {
            self.send(bucket, hash, &path).await?;
        }
        tokio::fs::remove_file(&path).await.map_err(super::files::explain)?;
        moved.files += 1;
        moved.bytes += seen.len();
        Ok(())
    }

    async fn to_disk(&self, bucket: &Bucket, (hash, size): (&str, u64), moved: &mut Moved) -> Result<()> {
        let _turn = self.turn(hash).lock_owned().await;
        moved.seen += 1;
        if !self.store.read(|tx| tables::MEDIA_FILES.has(tx, hash))? {
            moved.unknown += 1;
            return Ok(());
        }
        if !tokio::fs::metadata(self.files.path(hash)).await.is_ok_and(|seen| seen.len() == size) {
            let body = ReceiverStream::new(bucket.read(hash, 0..size).await?);
            let (received, temporary) = self.files.take(body).await?;
            if received.hash != hash {
                tracing::warn!(hash, "{hash} is damaged in the store of files and stays there");
                moved.damaged += 1;
                return Ok(());
            }
            self.files.settle(hash, temporary).await?;
            moved.files += 1;
            moved.bytes += size;
        }
        bucket.remove(hash).await
    }
}

/// Some files that are known, and where to go on.
struct Portion {
    hashes: Vec<String>,
    next: String,
}

fn portion(tx: &impl Read, from: &str) -> Result<Option<Portion>> {
    let (mut hashes, mut last) = (Vec::new(), None);
    tables::MEDIA_FILES.scan(tx, from..=LAST, |name, _| {
        last = Some(format!("{name}\0"));
        // Those of other servers are named otherwise.
        if !name.contains('/') {
            hashes.push(name.to_owned());
        }
        Ok(if hashes.len() >= AT_ONCE { Flow::Stop } else { Flow::Next })
    })?;
    Ok(last.map(|next| Portion { hashes, next }))
}
