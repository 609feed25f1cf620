//! The files of our people in a second folder, for a backup: as links, where the disk allows it, since a file never
//! changes once it has its name. What can be made or fetched again (thumbnails, other servers' files) is not there.

use std::{fs, io, path::Path};

use super::{
    Media,
    files::{explain, place},
};
use crate::{
    error::{Error, Result},
    store::{Flow, LAST, Read, tables},
};

/// What was linked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Linked {
    /// Files that are there now.
    pub files: u64,
    /// Files that are in the bucket alone.
    pub elsewhere: u64,
    /// Files that are nowhere.
    pub missing: u64,
}

impl Media {
    /// Runs something during which no file of our people is removed. It must not be called where others wait for this
    /// thread.
    pub fn held_still<T>(&self, work: impl FnOnce(&Self) -> T) -> T {
        let _still = self.shelf.removing.blocking_write();
        work(self)
    }

    /// Links all files that a snapshot knows into a folder. `go_on` is asked of each. Slow.
    pub fn link_all(&self, tx: &impl Read, folder: &Path, go_on: &dyn Fn() -> bool) -> Result<Linked> {
        fs::create_dir_all(folder).map_err(explain)?;
        let mut linked = Linked::default();
        tables::MEDIA_FILES.scan(tx, ""..=LAST, |hash, _| {
            if !go_on() {
                return Err(Error::unavailable("the copy was not made to the end", "it was stopped"));
            }
            // Those of other servers are named otherwise.
            if hash.contains('/') {
                return Ok(Flow::Next);
            }
            match link(&self.shelf.files.path(hash), &place(folder, hash), hash) {
                Ok(()) => linked.files += 1,
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(explain(error)),
                Err(_) if self.shelf.bucket.is_some() => linked.elsewhere += 1,
                Err(_) => linked.missing += 1,
            }
            Ok(Flow::Next)
        })?;
        Ok(linked)
    }
}

/// Links a file into a folder, or copies it where that can't be.
fn link(from: &Path, folder: &Path, name: &str) -> io::Result<()> {
    let size = fs::metadata(from)?.len();
    fs::create_dir_all(folder)?;
    let to = folder.join(name);
    if fs::hard_link(from, &to).is_ok() {
        return Ok(());
    }
    match fs::copy(from, &to)? == size {
        true => fs::File::open(&to)?.sync_all(),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
