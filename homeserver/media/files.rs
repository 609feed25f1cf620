//! Bytes on disk, named by their hash, so that the same file is kept once however often it is sent.
//! A file comes into its place whole and durable, or not at all.

use std::{
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
    pin::pin,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use ring::digest::{Context, SHA256};
use tokio::{
    io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt},
    sync::mpsc,
    time::{Instant, timeout_at},
};
use tokio_stream::{Stream, StreamExt};

use super::Bounds;
use crate::{
    base::{disk, random},
    error::{Error, Result},
};

/// A sender may take this long, and a second more for every [`SLOWEST`] bytes that came.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes per second that a sender has to keep up.
const SLOWEST: u64 = 8 * 1024;

/// The folder of what is not finished.
const INCOMING: &str = "incoming";
/// How many bytes are written before it is looked again how much room there is.
const LOOK_EVERY: u64 = 4 << 20;

/// Bytes read at once, and pieces that wait for who takes them.
const PIECE: usize = 64 * 1024;
const AHEAD: usize = 4;

/// The folder of files.
pub struct Files {
    folder: PathBuf,
    bounds: Bounds,
}

/// A file that was received.
#[derive(Debug)]
pub struct Received {
    /// Its SHA-256, in hexadecimal.
    pub hash: String,
    /// Bytes.
    pub size: u64,
}

impl Files {
    /// Opens the folder, or makes it, and removes what was never finished.
    pub fn open(folder: &Path, bounds: Bounds) -> io::Result<Self> {
        let unfinished = folder.join(INCOMING);
        match fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir_all(&unfinished)?,
        }
        Ok(Self { folder: folder.to_owned(), bounds })
    }

    /// Where the file with a hash is.
    pub fn path(&self, hash: &str) -> PathBuf {
        place(&self.folder, hash).join(hash)
    }

    /// 413 `M_TOO_LARGE` for more bytes than a file may have.
    pub fn check_size(&self, bytes: u64) -> Result<()> {
        match self.bounds.max_upload {
            max if bytes > max => Err(Error::too_large(format!("a file has at most {max} bytes here"))),
            _ => Ok(()),
        }
    }

    /// Takes a file in and puts it in its place.
    pub async fn receive(&self, body: impl Stream<Item = io::Result<Bytes>>) -> Result<Received> {
        let (received, temporary) = self.take(body).await?;
        self.settle(&received.hash, temporary).await?;
        Ok(received)
    }

    /// Takes a file in: it is written under a name of its own, while it is hashed and its size is watched, and
    /// made durable.
    pub async fn take(&self, body: impl Stream<Item = io::Result<Bytes>>) -> Result<(Received, Temporary)> {
        self.check_space()?;
        let temporary = Temporary(incoming(&self.folder));
        let received = self.write(&temporary.0, body).await?;
        Ok((received, temporary))
    }

    /// Gives a file that was taken its name, over the same content if that is there already; and makes the name
    /// durable, and the folders that were made for it.
    pub async fn settle(&self, hash: &str, temporary: Temporary) -> Result<()> {
        let (root, target) = (self.folder.clone(), self.path(hash));
        let settle = move || {
            let folder = target.parent().unwrap_or(&root);
            fs::create_dir_all(folder)?;
            fs::rename(&temporary.0, &target)?;
            folder.ancestors().take(3).try_for_each(disk::sync_folder)
        };
        tokio::task::spawn_blocking(settle).await.map_err(Error::internal)?.map_err(explain)
    }

    fn check_space(&self) -> Result<()> {
        match disk::has_space(&self.folder, self.bounds.min_free) {
            true => Ok(()),
            false => Err(full("too little free disk space")),
        }
    }

    async fn write(&self, path: &Path, body: impl Stream<Item = io::Result<Bytes>>) -> Result<Received> {
        let mut file = tokio::fs::File::create_new(path).await.map_err(explain)?;
        let (mut body, mut hash, mut size) = (pin!(body), Context::new(&SHA256), 0);
        let start = Instant::now();
        loop {
            let deadline = start + PATIENCE + Duration::from_secs(size / SLOWEST);
            let piece = timeout_at(deadline, body.next()).await;
            let piece = match piece.map_err(|_| Error::unknown("the upload came too slowly"))? {
                Some(Ok(piece)) => piece,
                Some(Err(_)) => return Err(Error::unknown("the upload was cut off")),
                None => break,
            };
            if size / LOOK_EVERY != (size + piece.len() as u64) / LOOK_EVERY {
                self.check_space()?;
            }
            size += piece.len() as u64;
            self.check_size(size)?;
            hash.update(&piece);
            file.write_all(&piece).await.map_err(explain)?;
        }
        file.flush().await.map_err(explain)?;
        file.sync_all().await.map_err(explain)?;
        Ok(Received { hash: name(hash), size })
    }

    /// Whether a file has the bytes that its name says.
    pub async fn is_whole(&self, hash: &str) -> Result<bool> {
        let path = self.path(hash);
        let look = move || {
            let (mut file, mut hash) = (fs::File::open(path)?, Context::new(&SHA256));
            let mut piece = vec![0; PIECE];
            loop {
                match io::Read::read(&mut file, &mut piece)? {
                    0 => return Ok(name(hash)),
                    count => hash.update(&piece[..count]),
                }
            }
        };
        let found: io::Result<String> = tokio::task::spawn_blocking(look).await.map_err(Error::internal)?;
        Ok(found.map_err(explain)? == hash)
    }
}

/// A hash as files are named.
fn name(hash: Context) -> String {
    hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A name for a file that is not finished, in the folder of files. What is left there goes at the next start.
pub fn incoming(folder: &Path) -> PathBuf {
    folder.join(INCOMING).join(random::id::<24>())
}

/// Reads a part of a file, no faster than it is taken.
pub async fn read(path: &Path, part: Range<u64>) -> Result<mpsc::Receiver<io::Result<Bytes>>> {
    let gone = |error| Error::internal(format!("a file can't be read: {error}"));
    let mut file = tokio::fs::File::open(path).await.map_err(gone)?;
    if part.start > 0 {
        file.seek(io::SeekFrom::Start(part.start)).await.map_err(gone)?;
    }
    let (pieces, taken) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        let mut left = part.end - part.start;
        while left > 0 {
            let mut piece = BytesMut::with_capacity(PIECE.min(usize::try_from(left).unwrap_or(PIECE)));
            let read = (&mut file).take(left).read_buf(&mut piece).await;
            let sent = match read {
                Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    left -= count as u64;
                    Ok(())
                }
                Err(error) => Err(error),
            };
            let ends = sent.is_err();
            // Nobody takes it: the client has gone.
            if pieces.send(sent.map(|()| piece.freeze())).await.is_err() || ends {
                break;
            }
        }
    });
    Ok(taken)
}

/// The folder for a hash below another: two levels, so that no folder grows large.
pub fn place(folder: &Path, hash: &str) -> PathBuf {
    let (first, rest) = hash.split_at_checked(2).unwrap_or((hash, ""));
    folder.join(first).join(rest.get(..2).unwrap_or_default())
}

/// What a failure of the disk means for a client.
pub fn explain(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => full(error),
        _ => Error::internal(format!("media: {error}")),
    }
}

pub fn full(cause: impl std::fmt::Display) -> Error {
    Error::unavailable("the server's disk is full: try again later", cause)
}

/// A file that is removed unless it has been given another name, also when the sender goes away.
pub struct Temporary(pub PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // It is not there any more if all went well; what can't be removed goes at the next start.
        let _ = fs::remove_file(&self.0);
    }
}
