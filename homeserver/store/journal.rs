//! The journal: a file beside the database to which each commit is written and flushed, so that the database
//! itself needs to be flushed only now and then. That costs one short write in order instead of many pages all
//! over a large file, and does not grow with it. Knows frames, checksums and flushes; not what a record says.
//!
//! - Between two flushes of the database lies an *epoch*, which has a random number. The database says in which
//!   it is (`COUNTERS`, "journal"), in the same commit that begins it; the journal then begins anew at its start.
//! - A frame is: length of the record, checksum of all that follows, epoch, number in the epoch, record. Frames
//!   count from the start of the file as long as they are whole, of the database's epoch, and in order: what
//!   comes after is of an earlier epoch, or was never finished and so never acknowledged.
//! - After a crash the database is as it was when the epoch began, or after some of it: the records are all done
//!   once more, in order, which leads to the same rows (see `record.rs`).

use std::io;

use redb::StorageBackend;

use super::tx::storage;
use crate::error::Result;

/// Bytes after which the database is flushed and the journal begins anew. To do so much once more after a crash
/// takes a tenth of a second; the flush keeps those who write waiting for half of that.
const FULL: u64 = 8 << 20;
/// By how much the file grows, in zeros: a flush of what lies within it has no length to write down.
const STEP: u64 = 1 << 20;
const HEAD: usize = 24;

/// The journal of an open database.
pub(super) struct Journal {
    file: Box<dyn StorageBackend>,
    /// The epoch. None if nothing may be added: until the database has been flushed.
    epoch: Option<u64>,
    /// Records in this epoch.
    number: u64,
    /// Where the next frame goes.
    end: u64,
    /// Bytes of the file.
    length: u64,
}

impl Journal {
    /// Nothing can be added until an epoch begins.
    pub fn open(file: Box<dyn StorageBackend>) -> io::Result<Self> {
        let length = file.len()?;
        Ok(Self { file, epoch: None, number: 0, end: 0, length })
    }

    /// Whether the next commit has to flush the database.
    pub fn is_full(&self) -> bool {
        self.epoch.is_none() || self.end >= FULL
    }

    /// Begins anew: the database has been flushed and says that it is in this epoch.
    pub fn begin(&mut self, epoch: u64) {
        (self.epoch, self.number, self.end) = (Some(epoch), 0, 0);
    }

    /// Writes a record and flushes it. If that fails, the journal takes no more.
    pub fn append(&mut self, record: &[u8]) -> Result<()> {
        let epoch = self.epoch.take().ok_or_else(|| failed(io::Error::other("it has not begun")))?;
        let frame = frame(epoch, self.number, record).map_err(failed)?;
        self.write(&frame).map_err(failed)?;
        (self.epoch, self.number, self.end) = (Some(epoch), self.number + 1, self.end + frame.len() as u64);
        Ok(())
    }

    fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        let end = self.end + frame.len() as u64;
        if end > self.length {
            let grown = end.next_multiple_of(STEP);
            self.file.write(self.length, &vec![0; usize::try_from(grown - self.length).map_err(io::Error::other)?])?;
            self.length = grown;
        }
        self.file.write(self.end, frame)?;
        self.file.sync_data()
    }

    /// Empties the file: everything is in the database, which says so.
    pub fn clear(&mut self) -> Result<()> {
        (self.epoch, self.end, self.length) = (None, 0, 0);
        self.file.set_len(0).map_err(failed)
    }

    /// Visits the records of an epoch, in order. Answers how many there are.
    pub fn replay(&mut self, epoch: u64, mut visit: impl FnMut(&[u8]) -> Result<()>) -> Result<u64> {
        let (mut number, mut at) = (0, 0);
        while let Some(record) = self.read(at, (epoch, number)).map_err(failed)? {
            visit(&record)?;
            number += 1;
            at += (HEAD + record.len()) as u64;
        }
        Ok(number)
    }

    /// The record whose frame is at a place, if it is the one that is due: of this epoch, with this number.
    fn read(&self, at: u64, due: (u64, u64)) -> io::Result<Option<Vec<u8>>> {
        let Some(left) = self.length.checked_sub(at + HEAD as u64) else { return Ok(None) };
        let mut head = [0; HEAD];
        self.file.read(at, &mut head)?;
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        if (long(8), long(16)) != due || u64::from(word(0)) > left {
            return Ok(None);
        }
        let mut record = vec![0; usize::try_from(word(0)).map_err(io::Error::other)?];
        self.file.read(at + HEAD as u64, &mut record)?;
        let mut sum = crc32fast::Hasher::new();
        sum.update(&head[8..]);
        sum.update(&record);
        Ok((sum.finalize() == word(4)).then_some(record))
    }
}

fn failed(error: io::Error) -> crate::error::Error {
    storage(redb::StorageError::Io(io::Error::new(error.kind(), format!("the journal: {error}"))))
}

fn frame(epoch: u64, number: u64, record: &[u8]) -> io::Result<Vec<u8>> {
    let length = u32::try_from(record.len()).map_err(io::Error::other)?;
    let mut out = Vec::with_capacity(HEAD + record.len());
    out.extend(length.to_le_bytes());
    out.extend([0; 4]);
    out.extend(epoch.to_le_bytes());
    out.extend(number.to_le_bytes());
    out.extend(record);
    let sum = crc32fast::hash(&out[8..]);
    out[4..8].copy_from_slice(&sum.to_le_bytes());
    Ok(out)
}
