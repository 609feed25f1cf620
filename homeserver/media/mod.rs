//! Media: files that people upload, under IDs that can't be guessed. Owns what is known of them; the
//! bytes are in `files.rs`, smaller pictures in `thumbnails.rs`. Knows nothing of HTTP.
//! spec: client-server-api#content-repository

mod files;
mod thumbnails;

use std::{io, path::Path};

use bytes::Bytes;
use files::Files;
use ruma::{OwnedMxcUri, OwnedServerName, UserId};
use thumbnails::Thumbnails;
pub use thumbnails::Wanted;
use tokio_stream::Stream;

use crate::{
    base::{clock, random},
    error::{Error, Result},
    store::{Store, WriteTx, rows::MediaRow, tables},
};

/// A file to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Where it is.
    pub path: std::path::PathBuf,
    /// Bytes.
    pub size: u64,
    /// Equal tag, equal content.
    pub tag: String,
    /// What it is: what its uploader says, or what it was found to be.
    pub content_type: Option<String>,
    /// What its uploader calls it.
    pub filename: Option<String>,
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
    files: Files,
    thumbnails: Thumbnails,
}

/// Bounds on what is kept.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of a file at most.
    pub max_upload: u64,
    /// Free bytes on the disk below which nothing is taken.
    pub min_free: u64,
}

impl Media {
    /// Opens the folder of media, or makes it. What an upload left behind that was cut off by a crash
    /// is removed.
    pub fn open(folder: &Path, store: Store, server: OwnedServerName, bounds: Bounds) -> io::Result<Self> {
        let files = Files::open(folder, bounds)?;
        Ok(Self { store, server, files, thumbnails: Thumbnails::new(folder.join("thumbnails")) })
    }

    /// Refuses an upload that is known to be too large before it comes.
    pub fn check_size(&self, bytes: u64) -> Result<()> {
        self.files.check_size(bytes)
    }

    /// Keeps a file. Once this returns, it is on disk.
    pub async fn upload(
        &self,
        uploader: &UserId,
        about: About,
        body: impl Stream<Item = io::Result<Bytes>>,
    ) -> Result<OwnedMxcUri> {
        let filename = about.filename.filter(|name| !name.is_empty());
        for text in [&about.content_type, &filename].into_iter().flatten() {
            if text.len() > 1024 {
                return Err(Error::invalid_param("the content type or file name is longer than 1024 bytes"));
            }
        }
        let received = self.files.receive(body).await?;
        let id = random::id::<24>();
        let uri = OwnedMxcUri::from(format!("mxc://{}/{id}", self.server));
        let row = MediaRow {
            hash: Some(received.hash),
            content_type: about.content_type,
            filename,
            size: received.size,
            uploader: Some(uploader.to_string()),
            created: clock::now_ms(),
        };
        let server = self.server.clone();
        self.store.write(move |tx| add(tx, (server.as_str(), &id), &row)).await?;
        Ok(uri)
    }

    /// The file of an ID. 404 `M_NOT_FOUND` if there is none.
    pub fn file(&self, server: &str, id: &str) -> Result<File> {
        let row = self.row(server, id)?;
        let missing = || Error::not_found("there is no such media");
        let hash = row.hash.ok_or_else(missing)?;
        let (content_type, filename) = (row.content_type, row.filename);
        Ok(File { path: self.files.path(&hash), size: row.size, tag: hash, content_type, filename })
    }

    /// A picture of at least the size that is wanted, if the file is a picture: a smaller one, or itself.
    pub async fn thumbnail(&self, server: &str, id: &str, wanted: Wanted) -> Result<File> {
        let original = self.file(server, id)?;
        self.thumbnails.of(original, wanted).await
    }

    fn row(&self, server: &str, id: &str) -> Result<MediaRow> {
        // spec: client-server-api#content-repo-security-considerations: such an ID can't be one.
        let is_id = !id.is_empty() && id.len() <= 255;
        let is_id = is_id && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
        let row = match is_id && server.len() <= 255 {
            true => self.store.read(|tx| tables::MEDIA.get(tx, (server, id)))?,
            false => None,
        };
        row.ok_or_else(|| Error::not_found("there is no such media"))
    }
}

fn add(tx: &WriteTx, key: (&str, &str), row: &MediaRow) -> Result<()> {
    if let Some(hash) = &row.hash {
        let references = tables::MEDIA_FILES.get(tx, &**hash)?.unwrap_or(0);
        tables::MEDIA_FILES.put(tx, &**hash, &(references + 1))?;
    }
    tables::MEDIA.put(tx, key, row)
}

#[cfg(test)]
mod tests {
    use ruma::{server_name, user_id};
    use tokio_stream::iter;

    use super::*;
    use crate::accounts::testing;

    fn media() -> (tempfile::TempDir, Media) {
        let (dir, store) = testing::store();
        let bounds = Bounds { max_upload: 100, min_free: 0 };
        let media = Media::open(&dir.path().join("media"), store, server_name!("here").to_owned(), bounds);
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
        let file = media.file(server.as_str(), id).expect("found");
        assert_eq!(std::fs::read(&file.path).expect("read"), b"hello world");
        assert_eq!((file.size, file.filename.as_deref()), (11, Some("a.txt")));
        assert_eq!(files_in(&dir.path().join("media")), [file.path]);
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
        let bounds = Bounds { max_upload: 100, min_free: u64::MAX };
        let media = Media::open(dir.path(), store, server_name!("here").to_owned(), bounds).expect("opens");
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
            assert_eq!(media.file(server, id).expect_err("none").errcode(), "M_NOT_FOUND", "{server}/{id}");
        }
    }
}
