//! Media: files that people upload, under IDs that can't be guessed. Owns what is known of them; where the
//! bytes are is in `shelf.rs`, smaller pictures in `thumbnails.rs`. Knows nothing of HTTP.
//! spec: client-server-api#content-repository

mod bucket;
mod files;
mod linking;
mod moving;
mod multipart;
mod page;
mod pending;
mod previews;
mod relocate;
mod remote;
mod shelf;
mod thumbnails;
pub mod uploads;
mod workbench;

use std::{io, ops::Range, path::Path, pin::pin, sync::Arc, time::Duration};

pub use bucket::Bucket;
use bytes::Bytes;
use files::{Files, Received, Temporary};
pub use linking::Linked;
pub use relocate::{Moved, Towards};
use remote::RemoteMedia;
use ruma::{OwnedMxcUri, OwnedServerName, ServerName, UserId};
pub use shelf::Place;
use shelf::Shelf;
use thumbnails::Thumbnails;
pub use thumbnails::Wanted;
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, timeout_at},
};
use tokio_stream::Stream;
pub use uploads::Upload;

use crate::{
    base::{clock, random},
    error::{Error, Result},
    federation::Remote,
    outside::Client,
    store::{Read, Store, WriteTx, rows::MediaRow, tables},
};

/// Whoever wants a file that was announced waits this long at most.
const MAX_PATIENCE: Duration = Duration::from_secs(60);

/// A file to be sent.
#[derive(Clone, Debug)]
pub struct File {
    /// Where it is.
    pub place: Place,
    /// Bytes.
    pub size: u64,
    /// Equal tag, equal content.
    pub tag: String,
    /// What it is: what its uploader says, or what it was found to be.
    pub content_type: Option<String>,
    /// What its uploader calls it.
    pub filename: Option<String>,
}

impl File {
    /// Reads a part of it, no faster than it is taken.
    pub async fn read(&self, part: Range<u64>) -> Result<mpsc::Receiver<io::Result<Bytes>>> {
        match &self.place {
            Place::Disk(path) => files::read(path, part).await,
            Place::Bucket(stored) => stored.bucket.read(&stored.name, part).await,
        }
    }
}

/// What an uploader says of a file.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// What it is.
    pub content_type: Option<String>,
    /// What it is called.
    pub filename: Option<String>,
}

/// All media of a server.
pub struct Media {
    store: Store,
    server: OwnedServerName,
    shelf: Arc<Shelf>,
    thumbnails: Thumbnails,
    bounds: Bounds,
    folder: std::path::PathBuf,
    previews: Option<previews::Previews>,
    /// Rung when something that was announced has come.
    arrived: Notify,
    /// Rung when there is something to be tidied up.
    stirred: Notify,
    /// Files of other servers, if they can be had.
    remote: Option<Arc<RemoteMedia>>,
}

/// Bounds on what is kept.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of a file at most.
    pub max_upload: u64,
    /// Free bytes on the disk below which nothing is taken.
    pub min_free: u64,
    /// Bytes that one person may upload in all.
    pub quota: u64,
}

impl Media {
    /// Opens the folder of media, or makes it. What an upload left behind that was cut off by a crash
    /// is removed. With a bucket, uploads are kept there.
    pub fn open(
        folder: &Path,
        (store, bucket): (Store, Option<Bucket>),
        server: OwnedServerName,
        bounds: Bounds,
    ) -> io::Result<Self> {
        let shelf = Shelf::new(store.clone(), Files::open(folder, bounds)?, bucket, thumbnails::folder_in(folder));
        Ok(Self {
            store,
            server,
            shelf: Arc::new(shelf),
            thumbnails: Thumbnails::new(folder, bounds.min_free),
            bounds,
            folder: folder.to_owned(),
            previews: None,
            arrived: Notify::new(),
            stirred: Notify::new(),
            remote: None,
        })
    }

    /// With the files of other servers, of which those that were asked for last are kept: `cap` bytes at
    /// most.
    pub fn with_others(
        mut self,
        folder: &Path,
        bounds: Bounds,
        cap: u64,
        (remote, client): (Remote, Client),
    ) -> io::Result<Self> {
        let files = Files::open(&folder.join("remote"), bounds)?;
        let remote = RemoteMedia::new(self.store.clone(), files, (remote, client), (cap, bounds.max_upload));
        let remote = RemoteMedia { thumbnails: thumbnails::folder_in(folder), ..remote };
        self.remote = Some(Arc::new(remote));
        Ok(self)
    }

    /// Refuses an upload that is known to be too large before it comes.
    pub fn check_size(&self, bytes: u64) -> Result<()> {
        self.shelf.files.check_size(bytes)
    }

    /// Refuses an upload by somebody who has uploaded all that they may. 403 `M_FORBIDDEN`.
    pub fn check_quota(&self, uploader: &UserId, bytes: u64) -> Result<()> {
        let quota = self.bounds.quota;
        self.store.read(|tx| uploads::within_quota(tx, uploader.as_str(), bytes, quota))
    }

    /// Keeps a file. Once this returns, it is safe.
    pub async fn upload(
        &self,
        uploader: &UserId,
        about: About,
        body: impl Stream<Item = io::Result<Bytes>>,
    ) -> Result<OwnedMxcUri> {
        let id = random::id::<24>();
        let (row, received, temporary) = self.receive(uploader, about, body).await?;
        let uri = self.uri(&id);
        let (server, quota) = (self.server.clone(), self.bounds.quota);
        let commit = move |tx: &WriteTx| uploads::add(tx, (server.as_str(), &id), &row, quota);
        self.shelf.keep(received, temporary, commit).await?;
        Ok(uri)
    }

    fn uri(&self, id: &str) -> OwnedMxcUri {
        OwnedMxcUri::from(format!("mxc://{}/{id}", self.server))
    }

    async fn receive(
        &self,
        uploader: &UserId,
        about: About,
        body: impl Stream<Item = io::Result<Bytes>>,
    ) -> Result<(MediaRow, Received, Temporary)> {
        let filename = about.filename.filter(|name| !name.is_empty());
        for text in [&about.content_type, &filename].into_iter().flatten() {
            if text.len() > 1024 {
                return Err(Error::invalid_param("the content type or file name is longer than 1024 bytes"));
            }
        }
        let (received, temporary) = self.shelf.files.take(body).await?;
        // It may not have been said how much would come.
        self.check_quota(uploader, received.size)?;
        let row = MediaRow {
            hash: Some(received.hash.clone()),
            content_type: about.content_type,
            filename,
            size: received.size,
            uploader: Some(uploader.to_string()),
            created: clock::now_ms(),
        };
        Ok((row, received, temporary))
    }

    /// Announces a file that its uploader will bring later. Returns its address, and until when it is kept free.
    /// 429 `M_LIMIT_EXCEEDED` for somebody who has announced too many already.
    /// spec: client-server-api#post_matrixmediav1create
    pub async fn announce(&self, uploader: &UserId) -> Result<(OwnedMxcUri, u64)> {
        let (server, id, now) = (self.server.clone(), random::id::<24>(), clock::now_ms());
        let (uri, uploader) = (self.uri(&id), uploader.to_string());
        let work = move |tx: &WriteTx| pending::announce(tx, (server.as_str(), &id), &uploader, now);
        self.store.write(work).await?;
        Ok((uri, now + pending::LIFETIME))
    }

    /// Refuses to take an announced file from anybody but who announced it, once it has come, or too late.
    pub fn check_announced(&self, uploader: &UserId, server: &str, id: &str) -> Result<()> {
        self.store.read(|tx| pending::check(tx, (server, id), uploader.as_str()))
    }

    /// Takes an announced file in.
    pub async fn fulfil(
        &self,
        uploader: &UserId,
        (server, id): (&str, &str),
        about: About,
        body: impl Stream<Item = io::Result<Bytes>>,
    ) -> Result<()> {
        let (row, received, temporary) = self.receive(uploader, about, body).await?;
        let (server, id, uploader) = (server.to_owned(), id.to_owned(), uploader.to_string());
        let quota = self.bounds.quota;
        let work = move |tx: &WriteTx| {
            // Another upload may have come first.
            pending::check(tx, (&server, &id), &uploader)?;
            uploads::add(tx, (&server, &id), &row, quota)?;
            tables::PENDING_MEDIA.remove(tx, (&*uploader, &*id)).map(drop)
        };
        self.shelf.keep(received, temporary, work).await?;
        self.arrived.notify_waiters();
        Ok(())
    }

    /// Returns once a file is there that was announced. 504 `M_NOT_YET_UPLOADED` if it does not come in time.
    pub async fn arrival(&self, server: &str, id: &str, patience: Duration) -> Result<()> {
        let until = Instant::now() + patience.min(MAX_PATIENCE);
        loop {
            let mut arrived = pin!(self.arrived.notified());
            // Before it is looked: what comes meanwhile is heard.
            arrived.as_mut().enable();
            match self.row(server, id) {
                Ok(row) if row.hash.is_none() && row.created + pending::LIFETIME > clock::now_ms() => {}
                _ => return Ok(()),
            }
            if timeout_at(until, arrived).await.is_err() {
                return Err(Error::not_yet_uploaded());
            }
        }
    }

    /// The file of an ID, fetched from its server if it is another's. 404 `M_NOT_FOUND` if there is none.
    pub async fn file(&self, server: &str, id: &str) -> Result<File> {
        let missing = || Error::not_found("there is no such media");
        if server == self.server {
            return self.own(id);
        }
        let name = ServerName::parse(server).ok().filter(|_| server.len() <= 255 && is_id(id)).ok_or_else(missing)?;
        self.remote.as_ref().ok_or_else(missing)?.file(&name, id).await
    }

    /// The file of an ID of ours. 404 `M_NOT_FOUND` if there is none.
    pub fn own(&self, id: &str) -> Result<File> {
        let row = self.row(self.server.as_str(), id)?;
        let missing = || Error::not_found("there is no such media");
        let hash = row.hash.ok_or_else(missing)?;
        let (content_type, filename) = (row.content_type, row.filename);
        let place = match previews::is_picture(id) {
            true => Place::Disk(self.picture(&hash).filter(|path| path.exists()).ok_or_else(missing)?),
            false => self.shelf.place(&hash),
        };
        Ok(File { place, size: row.size, tag: hash, content_type, filename })
    }

    /// A picture of at least the size that is wanted, if the file is a picture: a smaller one, or itself.
    pub async fn thumbnail(&self, server: &str, id: &str, wanted: Wanted) -> Result<File> {
        let original = self.file(server, id).await?;
        match server == self.server && previews::is_picture(id) {
            // They come and go, and smaller ones would stay.
            true => Ok(original),
            false => self.thumbnails.of(original, wanted).await,
        }
    }

    /// Forgets a file: nobody gets it any more, and its bytes go if no other upload has the same. 404
    /// `M_NOT_FOUND` if there is none.
    pub async fn delete(&self, server: &str, id: &str) -> Result<()> {
        let missing = || Error::not_found("there is no such media");
        if !is_id(id) || previews::is_picture(id) {
            return Err(missing());
        }
        if server != self.server {
            let remote = self.remote.as_ref().ok_or_else(missing)?;
            return if remote.forget(server, id).await? { Ok(()) } else { Err(missing()) };
        }
        let key = (server.to_owned(), id.to_owned());
        self.store.write(move |tx| uploads::take_away(tx, (&key.0, &key.1))).await?;
        // What is not removed now is, by the upkeep.
        self.sweep().await;
        Ok(())
    }

    /// Forgets a person's files, those of IDs of ours that are theirs. Returns which it were.
    pub async fn delete_of(&self, uploader: &UserId, ids: Vec<String>) -> Result<Vec<String>> {
        let mut gone = Vec::new();
        for some in ids.chunks(uploads::AT_ONCE) {
            let (server, uploader, some) = (self.server.clone(), uploader.to_owned(), some.to_vec());
            let work = move |tx: &WriteTx| uploads::take_some_away(tx, server.as_str(), &uploader, &some);
            gone.extend(self.store.write(work).await?);
        }
        self.sweep().await;
        Ok(gone)
    }

    /// All that somebody has uploaded, oldest first.
    pub fn of(&self, tx: &impl Read, uploader: &UserId) -> Result<Vec<Upload>> {
        uploads::of(tx, self.server.as_str(), uploader)
    }

    /// Has it looked at once whether there is something to be tidied up.
    pub fn stir(&self) {
        self.stirred.notify_one();
    }

    /// Forgets what was uploaded by whoever wanted to be forgotten, and removes files that nothing refers to any
    /// more: now and then, and when it is stirred. It goes on for ever.
    pub async fn tidy(&self, now_and_then: Duration) {
        loop {
            if let Err(error) = self.forget_leaving().await {
                tracing::warn!(%error, "what was uploaded by somebody who is forgotten is still there");
            }
            self.sweep().await;
            // It does not matter by which of the two it wakes.
            _ = tokio::time::timeout(now_and_then, self.stirred.notified()).await;
        }
    }

    async fn forget_leaving(&self) -> Result<()> {
        while self.store.read(uploads::is_any_leaving)? {
            let server = self.server.clone();
            self.store.write(move |tx| uploads::forget_some(tx, server.as_str())).await?;
        }
        Ok(())
    }

    /// Removes files that nothing refers to any more.
    async fn sweep(&self) {
        if let Err(error) = self.shelf.sweep().await {
            tracing::warn!(%error, "files that nobody needs can't be removed now");
        }
    }

    fn row(&self, server: &str, id: &str) -> Result<MediaRow> {
        let row = match is_id(id) {
            true => self.store.read(|tx| tables::MEDIA.get(tx, (server, id)))?,
            false => None,
        };
        row.ok_or_else(|| Error::not_found("there is no such media"))
    }
}

/// spec: client-server-api#content-repo-security-considerations: what has other letters can't be an ID.
fn is_id(id: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=255).contains(&id.len()) && id.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use ruma::{server_name, user_id};
    use tokio_stream::iter;

    use super::*;
    use crate::accounts::testing;

    fn media() -> (tempfile::TempDir, Media) {
        let (dir, store) = testing::store();
        let bounds = Bounds { max_upload: 100, min_free: 0, quota: 1000 };
        let media = Media::open(&dir.path().join("media"), (store, None), server_name!("here").to_owned(), bounds);
        (dir, media.expect("opens"))
    }

    async fn upload(media: &Media, pieces: &[&'static [u8]]) -> Result<OwnedMxcUri> {
        let about = About { content_type: Some("text/plain".into()), filename: Some("a.txt".into()) };
        let pieces: Vec<_> = pieces.iter().map(|piece| Ok(Bytes::from_static(piece))).collect();
        media.upload(user_id!("@alice:here"), about, iter(pieces)).await
    }

    fn files_in(folder: &Path) -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
        entries.flat_map(|path| if path.is_dir() { files_in(&path) } else { vec![path] }).collect()
    }

    #[tokio::test]
    async fn the_same_bytes_are_kept_once_under_an_id_each() {
        let (dir, media) = media();
        let one = upload(&media, &[b"hello ", b"world"]).await.expect("kept");
        let two = upload(&media, &[b"hello world"]).await.expect("kept");
        assert_ne!(one, two);
        let (server, id) = one.parts().expect("a good URI");
        let file = media.file(server.as_str(), id).await.expect("found");
        let Place::Disk(path) = &file.place else { panic!("it is elsewhere") };
        assert_eq!(std::fs::read(path).expect("read"), b"hello world");
        assert_eq!((file.size, file.filename.as_deref()), (11, Some("a.txt")));
        assert_eq!(files_in(&dir.path().join("media")), std::slice::from_ref(path));
        assert_eq!(media.store.read(|tx| tables::MEDIA_FILES.get(tx, &*file.tag)).expect("read"), Some(2));
    }

    #[tokio::test]
    async fn too_much_and_what_is_cut_off_leaves_nothing_behind() {
        let (dir, media) = media();
        let piece: &[u8] = &[7; 60];
        let error = upload(&media, &[piece, piece]).await.expect_err("too large");
        assert_eq!((error.status().as_u16(), error.errcode()), (413, "M_TOO_LARGE"));
        assert_eq!(upload(&media, &[&[7; 100]]).await.map(drop).ok(), Some(()));
        let cut = vec![Ok(Bytes::from_static(b"x")), Err(io::Error::other("gone"))];
        let cut = media.upload(user_id!("@alice:here"), About::default(), iter(cut)).await;
        assert_eq!(cut.expect_err("cut off").status().as_u16(), 400);
        assert_eq!(files_in(&dir.path().join("media")).len(), 1);
    }

    #[tokio::test]
    async fn a_full_disk_is_said_before_anything_is_read() {
        let (dir, store) = testing::store();
        let bounds = Bounds { max_upload: 100, min_free: u64::MAX, quota: 1000 };
        let media = Media::open(dir.path(), (store, None), server_name!("here").to_owned(), bounds).expect("opens");
        assert_eq!(upload(&media, &[b"x"]).await.expect_err("full").status().as_u16(), 503);
    }

    #[tokio::test]
    async fn ids_that_cannot_be_and_other_servers_are_not_found() {
        let (_dir, media) = media();
        let uri = upload(&media, &[b"x"]).await.expect("kept");
        let id = uri.media_id().expect("an ID");
        for (server, id) in
            [("here", "../../x"), ("here", ""), ("..", id), ("elsewhere", id), ("here", "%2e"), ("here", "nothing")]
        {
            assert_eq!(media.file(server, id).await.expect_err("none").errcode(), "M_NOT_FOUND", "{server}/{id}");
        }
    }
}
