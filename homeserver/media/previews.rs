//! What a page on the web says of itself: its title, a line about it, a picture. Fetched by the rules of
//! `outside` (public addresses, HTTPS, few redirects), within bounds of time and size, a few at once; kept for an
//! hour, and the newest pictures in a folder of their own.
//! spec: client-server-api#get_matrixclientv1mediapreview_url

use std::{
    io::Cursor,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use image::{ImageFormat, ImageReader};
use quick_cache::sync::Cache;
use serde_json::{Map, Value};
use tokio::sync::{Mutex, Semaphore};

use super::{Bounds, Media, files::Files, page};
use crate::{
    base::clock,
    error::{Error, Result},
    outside::{self, Client},
    store::{Flow, Read, WriteTx, rows::MediaRow, tables},
};

/// Pages that are fetched at once.
const AT_ONCE: usize = 8;
/// How long a page and its picture may take together.
const TIME: Duration = Duration::from_secs(15);
/// Bytes of a page, and of a picture, at most.
const MAX_PAGE: usize = 2 << 20;
const MAX_PICTURE: usize = 5 << 20;
/// Previews that are remembered, and for how long.
const MAX_KEPT: usize = 1000;
const KEPT_FOR: Duration = Duration::from_secs(60 * 60);
/// Pictures that are kept on disk; beyond it the oldest go.
const MAX_PICTURES: u64 = 500;
/// Bytes of an address at most.
const MAX_URL: usize = 2048;
/// How IDs of their pictures begin, which are in a folder of their own.
const PREFIX: &str = "preview-";

/// Who looks at pages.
pub struct Previews {
    client: Client,
    files: Files,
    kept: Cache<String, Arc<Kept>>,
    places: Semaphore,
    /// Pictures come and go one by one, so that none is removed that has just come again.
    saving: Mutex<()>,
}

/// What a page said, and when it was looked at.
type Kept = (Instant, Map<String, Value>);

/// Whether an ID is that of a page's picture.
pub(super) fn is_picture(id: &str) -> bool {
    id.starts_with(PREFIX)
}

impl Media {
    /// Looks at pages from now on.
    pub fn preview_by(&mut self, client: Client) -> std::io::Result<()> {
        let bounds = Bounds { max_upload: MAX_PICTURE as u64, ..self.bounds };
        self.previews = Some(Previews {
            client,
            files: Files::open(&self.folder.join("previews"), bounds)?,
            kept: Cache::new(MAX_KEPT),
            places: Semaphore::new(AT_ONCE),
            saving: Mutex::default(),
        });
        Ok(())
    }

    /// What a page says of itself. 404 `M_UNRECOGNIZED` where that is not offered, 502 if the page can't be had.
    pub async fn preview(&self, url: &str) -> Result<Map<String, Value>> {
        let previews = self.previews.as_ref().ok_or_else(Error::unrecognized)?;
        if url.len() > MAX_URL {
            return Err(Error::invalid_param(format!("an address has at most {MAX_URL} bytes")));
        }
        if let Some(kept) = previews.kept.get(url).filter(|kept| kept.0.elapsed() < KEPT_FOR) {
            return Ok(kept.1.clone());
        }
        let place = previews.places.try_acquire().map_err(|_| Error::limited(Duration::from_secs(1)))?;
        let looked = tokio::time::timeout(TIME, self.look(previews, url)).await;
        drop(place);
        let found = looked.unwrap_or_else(|_| Err(Error::bad_gateway("the page did not come in time")))?;
        previews.kept.insert(url.to_owned(), Arc::new((Instant::now(), found.clone())));
        Ok(found)
    }

    async fn look(&self, previews: &Previews, url: &str) -> Result<Map<String, Value>> {
        let (address, kind, bytes) = fetch(previews, url, MAX_PAGE).await?;
        let mut found = Map::new();
        if kind.starts_with("image/") {
            self.add_picture(previews, bytes, &mut found).await?;
        } else if kind.starts_with("text/html") || kind.starts_with("application/xhtml+xml") {
            let page = page::read(&String::from_utf8_lossy(&bytes));
            found = page.said;
            let picture = page.picture.and_then(|picture| outside::join(&address, &picture));
            if let Some(picture) = picture
                // A page is shown without its picture, if that can't be had.
                && let Ok((_, _, bytes)) = fetch(previews, &picture, MAX_PICTURE).await
            {
                self.add_picture(previews, bytes, &mut found).await?;
            }
        }
        Ok(found)
    }

    /// Keeps a picture, if it is one, and says what it is.
    async fn add_picture(&self, previews: &Previews, bytes: Bytes, found: &mut Map<String, Value>) -> Result<()> {
        let size = bytes.len();
        let Some((kind, width, height)) = measure(&bytes) else { return Ok(()) };
        let _saving = previews.saving.lock().await;
        let received = previews.files.receive(tokio_stream::once(Ok(bytes))).await?;
        let id = format!("{PREFIX}{}", &received.hash[..40]);
        let row = MediaRow {
            hash: Some(received.hash),
            content_type: Some(kind.to_owned()),
            filename: None,
            size: received.size,
            uploader: None,
            created: clock::now_ms(),
        };
        let (server, key) = (self.server.clone(), id.clone());
        let gone = self.store.write(move |tx| keep(tx, server.as_str(), &key, &row)).await?;
        if let Some(hash) = gone {
            // If that fails, it is a file too much and harms nobody.
            _ = tokio::fs::remove_file(previews.files.path(&hash)).await;
        }
        found.insert("og:image".into(), self.uri(&id).as_str().into());
        found.insert("og:image:type".into(), kind.into());
        found.insert("og:image:width".into(), width.into());
        found.insert("og:image:height".into(), height.into());
        found.insert("matrix:image:size".into(), size.into());
        Ok(())
    }

    /// Where pictures of pages are.
    pub(super) fn picture(&self, hash: &str) -> Option<std::path::PathBuf> {
        self.previews.as_ref().map(|previews| previews.files.path(hash))
    }
}

/// Where a page really is, what it says it is, and its bytes.
async fn fetch(previews: &Previews, url: &str, max: usize) -> Result<(String, String, Bytes)> {
    let failed = |why: String| {
        tracing::debug!(why, "a page can't be previewed");
        Error::bad_gateway("the page can't be had")
    };
    let ask = || previews.client.request(http::Method::GET, url).map_err(Error::invalid_param);
    let response = match ask()?.send().await {
        Ok(response) => response,
        // A connection that was kept open may have been closed meanwhile: then another one does.
        Err(_) => ask()?.send().await.map_err(|error| failed(outside::explain(&error)))?,
    };
    if !response.status().is_success() {
        return Err(failed(format!("it answers {}", response.status())));
    }
    let kind = response.headers().get(http::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let (kind, address) = (kind.unwrap_or_default().to_ascii_lowercase(), response.url().to_string());
    Ok((address, kind, outside::read(response, max).await.map_err(failed)?))
}

/// What a picture is and how large, from its head alone.
fn measure(bytes: &[u8]) -> Option<(&'static str, u32, u32)> {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().ok()?;
    let kind = match reader.format()? {
        ImageFormat::Png => "image/png",
        ImageFormat::Jpeg => "image/jpeg",
        ImageFormat::Gif => "image/gif",
        ImageFormat::WebP => "image/webp",
        _ => return None,
    };
    let (width, height) = reader.into_dimensions().ok()?;
    Some((kind, width, height))
}

/// Notes a picture, and forgets the oldest if there are too many. Returns the file of that.
fn keep(tx: &WriteTx, server: &str, id: &str, row: &MediaRow) -> Result<Option<String>> {
    if tables::MEDIA.has(tx, (server, id))? {
        return Ok(None);
    }
    tables::MEDIA.put(tx, (server, id), row)?;
    tables::PREVIEW_PICTURES.put(tx, tx.next_pos(), &id.to_owned())?;
    if tables::PREVIEW_PICTURES.len(tx)? <= MAX_PICTURES {
        return Ok(None);
    }
    let Some((pos, oldest)) = oldest(tx)? else { return Ok(None) };
    tables::PREVIEW_PICTURES.remove(tx, pos)?;
    let row = tables::MEDIA.get(tx, (server, &*oldest))?;
    tables::MEDIA.remove(tx, (server, &*oldest))?;
    Ok(row.and_then(|row| row.hash))
}

fn oldest(tx: &impl Read) -> Result<Option<(u64, String)>> {
    let mut oldest = None;
    tables::PREVIEW_PICTURES.scan::<u64>(tx, .., |pos, id| {
        oldest = Some((pos, id));
        Ok(Flow::Stop)
    })?;
    Ok(oldest)
}
