//! Files in a store that speaks S3, under their hashes. Knows the store and what can go wrong with it; what the
//! files are, and who refers to them, is known elsewhere. Nothing of the store has to be there when the server
//! starts: whoever wants a file while it isn't is told so.

use std::{error::Error as StdError, fmt, io, ops::Range, path::Path, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use object_store::{
    BackoffConfig, ClientOptions, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder},
    client::{HttpClient, HttpConnector},
    multipart::MultipartStore,
    path::Path as Key,
};
use tokio::{
    fs::File,
    io::AsyncReadExt,
    sync::{Semaphore, SemaphorePermit, mpsc},
};
use tokio_stream::{Stream, StreamExt};

use crate::{
    base::random,
    config::{self, Secret},
    error::{Error, Result},
    outside,
};

/// Bytes that are sent at once. Larger files go in parts, so that no file is held whole; stores take none smaller
/// than this but the last.
const PART: usize = 5 << 20;
/// Files that are sent at once: so many parts are in memory.
const AT_ONCE: usize = 4;
/// How often, and for how long, a request is tried again.
const RETRIES: usize = 2;
const RETRY: Duration = Duration::from_secs(10);
/// Pieces that are read ahead of who takes them.
const AHEAD: usize = 4;
/// Bytes of what the store says of a failure, in the log.
const MAX_SAID: usize = 300;

/// A store of files.
pub struct Bucket {
    store: AmazonS3,
    prefix: String,
    places: Semaphore,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The store's own would show its keys.
        out.debug_struct("Bucket").finish_non_exhaustive()
    }
}

/// Lets the store be called by a client of ours.
#[derive(Debug)]
struct Ours(reqwest::Client);

impl HttpConnector for Ours {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}

impl Bucket {
    /// The store of these settings. It is not called.
    pub fn open(settings: &config::Bucket, client: reqwest::Client) -> Result<Self, String> {
        let Secret(secret) = settings.secret_key.take()?;
        let backoff = BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
            ..BackoffConfig::default()
        };
        let retry = RetryConfig { backoff, max_retries: RETRIES, retry_timeout: RETRY };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&settings.name)
            .with_region(&settings.region)
            .with_access_key_id(&settings.access_key)
            .with_secret_access_key(secret)
            .with_allow_http(true)
            // Not all stores have it, and files are removed one by one.
            .with_disable_bulk_delete(true)
            .with_retry(retry)
            .with_http_connector(Ours(client));
        if let Some(endpoint) = &settings.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        let store = builder.build().map_err(|error| format!("[s3] can't be used: {}", explain(&error)))?;
        Ok(Self { store, prefix: settings.prefix.clone(), places: Semaphore::new(AT_ONCE) })
    }

    fn key(&self, name: &str) -> Key {
        let folder = name.get(..2).unwrap_or_default();
        Key::from_iter(self.prefix.split('/').filter(|part| !part.is_empty()).chain([folder, name]))
    }

    /// Whether a file of this size is there.
    pub async fn has(&self, name: &str, size: u64) -> Result<bool> {
        match self.store.head(&self.key(name)).await {
            Ok(seen) => Ok(seen.size == size),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(failed("look for", &error)),
        }
    }

    /// A place among those who send. Whoever has none waits.
    pub async fn place(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.places.acquire().await.ok()
    }

    /// Puts a file there, if it is small enough to be sent at once. Once this returns true, it is safe.
    pub async fn put(&self, name: &str, path: &Path) -> Result<bool> {
        let mut file = File::open(path).await.map_err(super::files::explain)?;
        if file.metadata().await.map_err(super::files::explain)?.len() > PART as u64 {
            return Ok(false);
        }
        let whole = part(&mut file).await?;
        let put = self.store.put(&self.key(name), whole.into()).await;
        put.map(|_| true).map_err(|error| failed("keep", &error))
    }

    /// Begins to put a large file there, and says how that is called. Nothing of it is to be seen before it is whole,
    /// and what was sent of it stays until it is given up.
    pub async fn begin(&self, name: &str) -> Result<String> {
        self.store.create_multipart(&self.key(name)).await.map_err(|error| failed("keep", &error))
    }

    /// Goes on with it to the end. Once this returns, the file is safe.
    pub async fn put_in_parts(&self, name: &str, upload: &str, path: &Path) -> Result<()> {
        let (key, upload) = (self.key(name), upload.to_owned());
        let mut file = File::open(path).await.map_err(super::files::explain)?;
        let mut sent = Vec::new();
        loop {
            let next = part(&mut file).await?;
            if next.is_empty() {
                break;
            }
            let put = self.store.put_part(&key, &upload, sent.len(), PutPayload::from(next)).await;
            sent.push(put.map_err(|error| failed("keep", &error))?);
        }
        let done = self.store.complete_multipart(&key, &upload, sent).await;
        done.map(drop).map_err(|error| failed("keep", &error))
    }

    /// Gives up what was begun: what was sent of it is gone.
    pub async fn give_up(&self, name: &str, upload: &str) -> Result<()> {
        match self.store.abort_multipart(&self.key(name), &upload.to_owned()).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed("remove", &error)),
        }
    }

    /// All files that are there, as their names and sizes.
    pub fn all(&self) -> impl Stream<Item = Result<(String, u64)>> {
        let prefix = Key::from_iter(self.prefix.split('/').filter(|part| !part.is_empty()));
        self.store.list(Some(&prefix)).map(|seen| {
            let seen = seen.map_err(|error| failed("list", &error))?;
            Ok((seen.location.filename().unwrap_or_default().to_owned(), seen.size))
        })
    }

    /// Reads a part of a file, no faster than it is taken.
    pub async fn read(&self, name: &str, part: Range<u64>) -> Result<mpsc::Receiver<io::Result<Bytes>>> {
        let (pieces, taken) = mpsc::channel(AHEAD);
        if part.is_empty() {
            return Ok(taken);
        }
        let options = GetOptions { range: Some(GetRange::Bounded(part.clone())), ..GetOptions::default() };
        let found = self.store.get_opts(&self.key(name), options).await.map_err(|error| match error {
            object_store::Error::NotFound { .. } => {
                tracing::error!(name, "the store of files has lost {name}");
                Error::bad_gateway("the server's store of files does not have this file any more")
            }
            error => failed("give", &error),
        })?;
        if found.range != part {
            tracing::error!(name, "the store of files has {name} in another size");
            return Err(Error::bad_gateway("the server's store of files has something else under this name"));
        }
        let mut body = found.into_stream();
        tokio::spawn(async move {
            let mut left = part.end - part.start;
            while left > 0 {
                let piece = match body.next().await {
                    Some(Ok(piece)) if piece.len() as u64 <= left => piece,
                    Some(Err(error)) => {
                        tracing::warn!(error = explain(&error), "the store of files broke off");
                        _ = pieces.send(Err(io::ErrorKind::UnexpectedEof.into())).await;
                        return;
                    }
                    _ => {
                        _ = pieces.send(Err(io::ErrorKind::UnexpectedEof.into())).await;
                        return;
                    }
                };
                left -= piece.len() as u64;
                // Nobody takes it: the client has gone.
                if pieces.send(Ok(piece)).await.is_err() {
                    return;
                }
            }
        });
        Ok(taken)
    }

    /// Removes a file, if it is there.
    pub async fn remove(&self, name: &str) -> Result<()> {
        match self.store.delete(&self.key(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed("remove", &error)),
        }
    }

    /// Tries whether files can be put there, read and removed. The error says what is wrong.
    pub async fn try_out(&self) -> Result<(), String> {
        let (name, content) = (format!("check-{}", random::id::<16>()), Bytes::from_static(b"hearth check"));
        let key = self.key(&name);
        let say = |what: &str, error: &object_store::Error| format!("[s3] can't {what} files: {}", explain(error));
        self.store.put(&key, content.clone().into()).await.map_err(|error| say("keep", &error))?;
        let options = GetOptions { range: Some(GetRange::Bounded(7..12)), ..GetOptions::default() };
        let read = async { self.store.get_opts(&key, options).await?.bytes().await };
        let read = read.await.map_err(|error| say("read", &error));
        self.store.delete(&key).await.map_err(|error| say("remove", &error))?;
        match read? == content[7..] {
            true => Ok(()),
            false => Err("[s3] the store gives back something else than it was given".into()),
        }
    }
}

/// As much of a file as is sent at once, or the rest.
async fn part(file: &mut File) -> Result<Bytes> {
    let mut out = BytesMut::new();
    let mut rest = file.take(PART as u64);
    while rest.read_buf(&mut out).await.map_err(super::files::explain)? > 0 {}
    Ok(out.freeze())
}

fn failed(what: &str, error: &object_store::Error) -> Error {
    let cause = format!("the store of files can't {what} a file: {}", explain(error));
    Error::unavailable("the server's store of files can't be used now: try again later", cause)
}

/// What went wrong, without what the store may have said of our keys.
fn explain(error: &object_store::Error) -> String {
    let text = error.to_string();
    let said = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(value, _)| value.chars().take(MAX_SAID).collect::<String>())
    };
    if let Some(code) = said("Code") {
        return match said("Message") {
            Some(message) => format!("it says {code}: {message}"),
            None => format!("it says {code}"),
        };
    }
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(inner) = next {
        if inner.is::<reqwest::Error>() {
            return outside::explain(inner);
        }
        next = inner.source();
    }
    match text.split_once("status code: ") {
        Some((_, status)) => format!("it answers {}", status.split(':').next().unwrap_or_default()),
        None if matches!(error, object_store::Error::NotFound { .. }) => "it is not there".into(),
        None => text.chars().take(MAX_SAID).collect(),
    }
}

/// A file of a bucket.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Where it is.
    pub bucket: Arc<Bucket>,
    /// What it is called there.
    pub name: String,
}
