//! The disk under a folder: how much room there is, and making changes of names durable.

use std::{fs, io, path::Path};

/// Whether there is at least this much room. If that can't be found out, yes: writing will tell.
pub fn has_space(folder: &Path, min_free: u64) -> bool {
    match rustix::fs::statvfs(folder) {
        Ok(disk) => disk.f_bavail.saturating_mul(disk.f_frsize) >= min_free,
        Err(_) => true,
    }
}

/// Makes names durable that were made or changed in a folder: a file's own fsync says nothing of them.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}
