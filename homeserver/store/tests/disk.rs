//! A disk in memory, of which each step may fail, and whose power may go: then only what was flushed is there for
//! certain, and of the rest any part.

use std::{fmt, io, sync::Mutex};

use redb::StorageBackend;

use super::*;

/// Bytes of which a disk writes all or none.
const SECTOR: usize = 512;

/// Which steps fail.
#[derive(Clone, Copy, Debug)]
pub enum Fails {
    Never,
    /// That one alone.
    At(usize),
    /// That one and all after it: the power is gone.
    From(usize),
}

#[derive(Clone)]
pub struct Disk(Arc<Mutex<State>>);

struct State {
    /// The database, and the journal.
    files: [File; 2],
    has_journal: bool,
    steps: usize,
    fails: Fails,
}

#[derive(Default)]
struct File {
    /// As it is read.
    now: Vec<u8>,
    /// As it was when it was flushed last.
    flushed: Vec<u8>,
    since: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Length(length) => bytes.resize(*length, 0),
        Change::Write(at, written) => {
            let end = at + written.len();
            bytes.resize(bytes.len().max(end), 0);
            bytes[*at..end].copy_from_slice(written);
        }
    }
}

impl Disk {
    /// One on which the database was made, and flushed; nothing is in it.
    pub fn new(fails: Fails) -> Self {
        let disk = Self::with(Default::default(), false, Fails::Never);
        drop(disk.database(1 << 20).expect("made"));
        let state = &mut *disk.state();
        assert!(state.files[0].since.is_empty(), "redb leaves nothing unflushed");
        (state.steps, state.fails) = (0, fails);
        disk.clone()
    }

    fn with(files: [File; 2], has_journal: bool, fails: Fails) -> Self {
        Self(Arc::new(Mutex::new(State { files, has_journal, steps: 0, fails })))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("unpoisoned")
    }

    pub fn steps(&self) -> usize {
        self.state().steps
    }

    /// The disk as it is found when the power is back: `chance` of 256 says how much of what was not flushed is there.
    pub fn after_the_power_was_gone(&self, mut dice: u64, chance: u64) -> Self {
        let state = self.state();
        let mut roll = || {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            dice >> 56 < chance
        };
        let files = state.files.each_ref().map(|file| {
            let mut bytes = file.flushed.clone();
            for change in &file.since {
                match change {
                    Change::Length(_) if roll() => apply(&mut bytes, change),
                    Change::Length(_) => {}
                    Change::Write(at, written) => {
                        for (number, sector) in written.chunks(SECTOR).enumerate().filter(|_| roll()) {
                            apply(&mut bytes, &Change::Write(at + number * SECTOR, sector.to_vec()));
                        }
                    }
                }
            }
            File { now: bytes.clone(), flushed: bytes, since: Vec::new() }
        });
        Self::with(files, state.has_journal, Fails::Never)
    }
}

impl State {
    fn step(&mut self) -> io::Result<()> {
        self.steps += 1;
        match self.fails {
            Fails::At(step) if self.steps == step => Err(io::Error::other("this step fails")),
            Fails::From(step) if self.steps >= step => Err(io::Error::other("the power is gone")),
            _ => Ok(()),
        }
    }

    fn has_power(&self) -> io::Result<()> {
        match self.fails {
            Fails::From(step) if self.steps >= step => Err(io::Error::other("the power is gone")),
            _ => Ok(()),
        }
    }

    fn change(&mut self, file: usize, change: Change) -> io::Result<()> {
        self.has_power()?;
        let outcome = self.step();
        // What fails may have been done in part.
        self.files[file].since.push(change.clone());
        outcome?;
        apply(&mut self.files[file].now, &change);
        Ok(())
    }
}

/// One of its files.
struct Handle(Disk, usize);

impl fmt::Debug for Handle {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "file {}", self.1)
    }
}

fn size(at: u64) -> usize {
    usize::try_from(at).expect("small")
}

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.state().files[self.1].now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.state();
        state.has_power()?;
        let bytes = state.files[self.1].now.get(size(offset)..size(offset) + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.state().change(self.1, Change::Length(size(len)))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.state();
        state.has_power()?;
        state.step()?;
        let file = &mut state.files[self.1];
        file.since.clear();
        file.flushed = file.now.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.state().change(self.1, Change::Write(size(offset), data.to_vec()))
    }
}

impl fmt::Display for Disk {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a disk in memory")
    }
}

impl Place for Disk {
    fn database(&self, page_cache: usize) -> Result<redb::Database, String> {
        let mut builder = redb::Builder::new();
        let opened = builder.set_cache_size(page_cache).create_with_backend(Handle(self.clone(), 0));
        opened.map_err(|error| error.to_string())
    }

    fn expect_journal(&self) -> Result<(), String> {
        self.state().has_journal.then_some(()).ok_or_else(|| "there is no journal".to_owned())
    }

    fn journal(&self) -> io::Result<Box<dyn StorageBackend>> {
        self.state().has_journal = true;
        Ok(Box::new(Handle(self.clone(), 1)))
    }

    fn has_space(&self, _: u64) -> bool {
        true
    }
}
