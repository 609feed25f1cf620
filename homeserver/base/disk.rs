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

/// Bytes that are free on it for this process.
pub fn free(folder: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Bytes of memory that this process holds, where the system says so.
pub fn resident_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}
