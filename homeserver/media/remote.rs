//! Media of other servers: fetched when somebody asks, once for all who ask meanwhile, and kept as long as
//! there is room for them: what was not asked for the longest goes first.
//! spec: server-server-api#content-repository

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use ruma::{
    OwnedServerName, ServerName, api::federation::authenticated_media::get_content::v1 as get_content,
    http_headers::ContentDisposition,
};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    File, Place,
    files::Files,
    multipart::{Head, Parts},
    thumbnails,
};
use crate::{
    base::clock,
    error::{Error, Result},
    federation::{Bounds, Failure, Incoming, Remote},
    outside::Client,
    store::{
        Flow, LAST, Store, WriteTx,
        rows::{MediaRow, RemoteMediaRow},
        tables,
    },
};

/// Files fetched at once.
const AT_ONCE: usize = 32;
/// Files that are being fetched or waited for at most.
const MAX_UNDER_WAY: usize = 1000;
/// How long a file may take.
const TIME: Duration = Duration::from_secs(120);
/// Bytes of a name or a type at most.
const MAX_TEXT: usize = 1024;
/// Pieces that are read ahead of the disk.
const AHEAD: usize = 4;
/// How old the note of the last use may be, milliseconds: not each look is a write.
const NOTED_FOR: u64 = 3_600_000;
/// Files that one job forgets.
const FORGET_AT_ONCE: usize = 100;

/// The counter of bytes that are kept.
const KEPT: &str = "remote_media_bytes";

/// Whether it is there by now, once that is known.
type Outcome = Option<std::result::Result<(), Error>>;
type UnderWay = Mutex<HashMap<(String, String), watch::Receiver<Outcome>>>;

/// Files of other servers.
pub struct RemoteMedia {
    pub(super) store: Store,
    pub(super) files: Files,
    /// Where pictures of them are, which go with them.
    pub(super) thumbnails: PathBuf,
    pub(super) remote: Remote,
    /// For files that a server says are elsewhere.
    pub(super) client: Client,
    /// Bytes that are kept at most.
    pub(super) cap: u64,
    /// Bytes of one file at most.
    pub(super) max_file: u64,
    pub(super) places: Semaphore,
    pub(super) under_way: UnderWay,
}

impl RemoteMedia {
    /// Keeps files in a folder of its own, so that no upload of ours depends on what is let go here.
    pub fn new(store: Store, files: Files, (remote, client): (Remote, Client), (cap, max_file): (u64, u64)) -> Self {
        let (places, under_way) = (Semaphore::new(AT_ONCE), UnderWay::default());
        Self { store, files, thumbnails: PathBuf::new(), remote, client, cap, max_file, places, under_way }
    }

    /// A file of another server, fetched if it is not here.
    pub async fn file(self: &Arc<Self>, server: &ServerName, id: &str) -> Result<File> {
        if let Some(file) = self.kept(server, id).await? {
            return Ok(file);
        }
        let mut outcome = self.fetching(server, id)?;
        // An error says that the task has panicked.
        let gone = |_| Error::internal("fetching a file ended without a word");
        let outcome = outcome.wait_for(Option::is_some).await.map_err(gone)?.clone();
        outcome.unwrap_or(Ok(()))?;
        self.kept(server, id).await?.ok_or_else(|| Error::bad_gateway("the file was let go again at once"))
    }

    /// The file, if it is here. Its last use is noted now and then.
    async fn kept(&self, server: &ServerName, id: &str) -> Result<Option<File>> {
        let key = (server.as_str(), id);
        let found = self.store.read(|tx| Ok((tables::MEDIA.get(tx, key)?, tables::REMOTE_MEDIA.get(tx, key)?)))?;
        let (Some(MediaRow { hash: Some(hash), content_type, filename, size, .. }), Some(remote)) = found else {
            return Ok(None);
        };
        let path = self.files.path(&hash);
        if !tokio::fs::try_exists(&path).await.unwrap_or(false) {
            return Ok(None);
        }
        if clock::now_ms().saturating_sub(remote.used) > NOTED_FOR {
            let (server, id) = (server.to_string(), id.to_owned());
            self.store.write(move |tx| note_use(tx, (&server, &id))).await?;
        }
        Ok(Some(File { place: Place::Disk(path), size, tag: hash, content_type, filename }))
    }

    /// Begins to fetch a file, unless that is under way.
    fn fetching(self: &Arc<Self>, server: &ServerName, id: &str) -> Result<watch::Receiver<Outcome>> {
        let key = (server.to_string(), id.to_owned());
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(outcome) = under_way.get(&key) {
            return Ok(outcome.clone());
        }
        if under_way.len() >= MAX_UNDER_WAY {
            return Err(Error::limited(Duration::from_secs(5)));
        }
        let (tell, outcome) = watch::channel(None);
        under_way.insert(key.clone(), outcome.clone());
        let (media, server) = (self.clone(), server.to_owned());
        // On its own: whoever asked may go away, and others may have come.
        tokio::spawn(async move {
            let fetched = media.fetch(&server, &key.1).await;
            if let Err(error) = &fetched {
                tracing::debug!(%server, %error, "a file of {server} can't be fetched");
            }
            media.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            tell.send_replace(Some(fetched));
        });
        Ok(outcome)
    }

    async fn fetch(&self, server: &OwnedServerName, id: &str) -> Result<()> {
        // It is never closed.
        let _place = self.places.acquire().await;
        let size = usize::try_from(self.max_file.saturating_add(1 << 17)).unwrap_or(usize::MAX);
        let bounds = Bounds { time: TIME, size };
        let request = get_content::Request::new(id.to_owned());
        let (head, received) = match self.remote.stream(bounds, server, request).await {
            Ok(incoming) => self.receive_parts(incoming).await?,
            Err(Failure::Refused { errcode, .. }) if errcode == "M_UNRECOGNIZED" => {
                // The endpoint that older servers have instead. IDs have no letters that paths have not.
                let path = format!("/_matrix/media/v3/download/{server}/{id}?allow_remote=false");
                let incoming = self.remote.get(bounds, server, &path).await?;
                self.receive_plain(incoming).await?
            }
            Err(failure) => return Err(failure.into()),
        };
        let text = |text: Option<String>| text.filter(|text| text.len() <= MAX_TEXT);
        let filename = head.disposition.and_then(|value| ContentDisposition::try_from(value.as_bytes()).ok()?.filename);
        let row = MediaRow {
            hash: Some(received.hash),
            content_type: text(head.content_type),
            filename: text(filename),
            size: received.size,
            uploader: None,
            created: clock::now_ms(),
        };
        let (server, id) = (server.to_string(), id.to_owned());
        self.store.write(move |tx| keep(tx, (&server, &id), &row)).await?;
        self.make_room().await
    }

    async fn receive_parts(&self, mut incoming: Incoming) -> Result<(Head, super::files::Received)> {
        let content_type = incoming.headers().get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let mut parts = Parts::new(content_type.unwrap_or_default()).map_err(Error::bad_gateway)?;
        let head = loop {
            let piece = incoming.chunk().await?.ok_or_else(|| Error::bad_gateway("the answer broke off"))?;
            if let Some(head) = parts.push(&piece).map_err(Error::bad_gateway)? {
                break head;
            }
        };
        if let Some(location) = &head.location {
            let (plain, received) = self.receive_from(location).await?;
            let content_type = head.content_type.or(plain.content_type);
            return Ok((Head { content_type, ..head }, received));
        }
        let (send, pieces) = mpsc::channel(AHEAD);
        let pump = async move {
            loop {
                while let Some(piece) = parts.take() {
                    if send.send(Ok(piece)).await.is_err() {
                        return;
                    }
                }
                let more = match incoming.chunk().await {
                    _ if parts.is_whole() => return,
                    Ok(Some(piece)) => parts.push(&piece).is_ok(),
                    _ => false,
                };
                if !more {
                    // Whoever takes it is told, or has gone.
                    let _ = send.send(Err(io::ErrorKind::UnexpectedEof.into())).await;
                    return;
                }
            }
        };
        let ((), received) = tokio::join!(pump, self.files.receive(ReceiverStream::new(pieces)));
        Ok((head, received.map_err(theirs)?))
    }

    async fn receive_plain(&self, mut incoming: Incoming) -> Result<(Head, super::files::Received)> {
        let text = |name| incoming.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (content_type, disposition) = (text(http::header::CONTENT_TYPE), text(http::header::CONTENT_DISPOSITION));
        let (send, pieces) = mpsc::channel(AHEAD);
        let pump = async move {
            loop {
                let piece = match incoming.chunk().await {
                    Ok(Some(piece)) => Ok(piece),
                    Ok(None) => return,
                    Err(_) => Err(io::ErrorKind::UnexpectedEof.into()),
                };
                let ends = piece.is_err();
                if send.send(piece).await.is_err() || ends {
                    return;
                }
            }
        };
        let ((), received) = tokio::join!(pump, self.files.receive(ReceiverStream::new(pieces)));
        Ok((Head { content_type, disposition, location: None }, received.map_err(theirs)?))
    }

    /// A file that its server says is elsewhere. No second hop is made.
    async fn receive_from(&self, url: &str) -> Result<(Head, super::files::Received)> {
        let failed = |why: String| Error::bad_gateway(format!("the file can't be had from where it is: {why}"));
        let request = self.client.request(http::Method::GET, url).map_err(failed)?.timeout(TIME);
        let mut response = request.send().await.map_err(|error| failed(crate::outside::explain(&error)))?;
        if !response.status().is_success() {
            return Err(failed(format!("status {}", response.status().as_u16())));
        }
        let content_type = response.headers().get(http::header::CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (send, pieces) = mpsc::channel::<io::Result<Bytes>>(AHEAD);
        let pump = async move {
            loop {
                let piece = match response.chunk().await {
                    Ok(Some(piece)) => Ok(piece),
                    Ok(None) => return,
                    Err(error) => Err(io::Error::other(error)),
                };
                let ends = piece.is_err();
                if send.send(piece).await.is_err() || ends {
                    return;
                }
            }
        };
        let ((), received) = tokio::join!(pump, self.files.receive(ReceiverStream::new(pieces)));
        Ok((Head { content_type, ..Head::default() }, received.map_err(theirs)?))
    }

    /// Lets go what was not asked for the longest, until what is kept is within its bound.
    async fn make_room(&self) -> Result<()> {
        let cap = self.cap;
        loop {
            let unused = self.store.write(move |tx| forget_oldest(tx, cap)).await?;
            let Some(hashes) = unused else { return Ok(()) };
            for hash in hashes {
                self.remove(hash).await?;
            }
        }
    }

    /// Forgets a file, if it is here. It is fetched again when somebody asks for it.
    pub async fn forget(&self, server: &str, id: &str) -> Result<bool> {
        let key = (server.to_owned(), id.to_owned());
        let work = move |tx: &WriteTx| {
            let known = tables::REMOTE_MEDIA.has(tx, (&*key.0, &*key.1))?;
            Ok((known, forget(tx, (&key.0, &key.1))?))
        };
        let (known, unused) = self.store.write(work).await?;
        if let Some(hash) = unused {
            self.remove(hash).await?;
        }
        Ok(known)
    }

    async fn remove(&self, hash: String) -> Result<()> {
        // A file that is asked for again by another name meanwhile is fetched again.
        if let Err(error) = tokio::fs::remove_file(self.files.path(&hash)).await {
            tracing::debug!(%error, "a file of another server can't be removed");
        }
        let folder = self.thumbnails.clone();
        let forget = move || thumbnails::forget(&folder, &hash);
        tokio::task::spawn_blocking(forget).await.map_err(Error::internal)
    }
}

/// What went wrong with somebody else's file is not the asker's doing.
fn theirs(error: Error) -> Error {
    match error.errcode() {
        "M_TOO_LARGE" => Error::bad_gateway("the file is larger than this server takes"),
        _ if error.status().is_client_error() => Error::bad_gateway("the other server did not send all of the file"),
        _ => error,
    }
}

fn keep(tx: &WriteTx, key: (&str, &str), row: &MediaRow) -> Result<()> {
    let used = clock::now_ms();
    forget(tx, key)?;
    if let Some(name) = row.hash.as_deref().map(name_of) {
        let references = tables::MEDIA_FILES.get(tx, &*name)?.unwrap_or(0);
        tables::MEDIA_FILES.put(tx, &*name, &(references + 1))?;
    }
    tables::MEDIA.put(tx, key, row)?;
    tables::REMOTE_MEDIA.put(tx, key, &RemoteMediaRow { used })?;
    tables::REMOTE_MEDIA_BY_USE.put(tx, (used, key.0, key.1), &row.size)?;
    let kept = tables::COUNTERS.get(tx, KEPT)?.unwrap_or(0);
    tables::COUNTERS.put(tx, KEPT, &kept.saturating_add(row.size))
}

fn note_use(tx: &WriteTx, key: (&str, &str)) -> Result<()> {
    let Some(old) = tables::REMOTE_MEDIA.get(tx, key)? else { return Ok(()) };
    let Some(size) = tables::REMOTE_MEDIA_BY_USE.get(tx, (old.used, key.0, key.1))? else { return Ok(()) };
    let used = clock::now_ms();
    tables::REMOTE_MEDIA_BY_USE.remove(tx, (old.used, key.0, key.1))?;
    tables::REMOTE_MEDIA_BY_USE.put(tx, (used, key.0, key.1), &size)?;
    tables::REMOTE_MEDIA.put(tx, key, &RemoteMediaRow { used })
}

/// Forgets a file. Answers its hash if nothing else has it.
fn forget(tx: &WriteTx, key: (&str, &str)) -> Result<Option<String>> {
    let Some(old) = tables::REMOTE_MEDIA.get(tx, key)? else { return Ok(None) };
    tables::REMOTE_MEDIA.remove(tx, key)?;
    let size = tables::REMOTE_MEDIA_BY_USE.get(tx, (old.used, key.0, key.1))?.unwrap_or(0);
    tables::REMOTE_MEDIA_BY_USE.remove(tx, (old.used, key.0, key.1))?;
    let kept = tables::COUNTERS.get(tx, KEPT)?.unwrap_or(0);
    tables::COUNTERS.put(tx, KEPT, &kept.saturating_sub(size))?;
    let hash = tables::MEDIA.get(tx, key)?.and_then(|row| row.hash);
    tables::MEDIA.remove(tx, key)?;
    let Some(hash) = hash else { return Ok(None) };
    let name = name_of(&hash);
    let references = tables::MEDIA_FILES.get(tx, &*name)?.unwrap_or(0).saturating_sub(1);
    match references {
        0 => {
            tables::MEDIA_FILES.remove(tx, &*name)?;
            Ok(Some(hash))
        }
        more => tables::MEDIA_FILES.put(tx, &*name, &more).map(|()| None),
    }
}

/// How the references to a file are counted: apart from those of our own with the same content.
fn name_of(hash: &str) -> String {
    format!("remote/{hash}")
}

/// Forgets files until what is kept is within its bound, or enough for one job. None if nothing was to do.
fn forget_oldest(tx: &WriteTx, cap: u64) -> Result<Option<Vec<String>>> {
    let mut kept = tables::COUNTERS.get(tx, KEPT)?.unwrap_or(0);
    if kept <= cap {
        return Ok(None);
    }
    let mut oldest = Vec::new();
    tables::REMOTE_MEDIA_BY_USE.scan(tx, (0, "", "")..=(u64::MAX, LAST, LAST), |(_, server, id), size| {
        oldest.push((server.to_owned(), id.to_owned()));
        kept = kept.saturating_sub(size);
        Ok(if kept <= cap || oldest.len() >= FORGET_AT_ONCE { Flow::Stop } else { Flow::Next })
    })?;
    if oldest.is_empty() {
        return Ok(None);
    }
    let mut unused = Vec::new();
    for (server, id) in &oldest {
        unused.extend(forget(tx, (server, id))?);
    }
    Ok(Some(unused))
}
