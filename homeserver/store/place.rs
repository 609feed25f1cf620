//! Where the database and its journal are, and what a disk does for them. Knows nothing of what is in them.

use std::{
    fmt::{self, Display},
    fs, io,
    path::{Path, PathBuf},
};

use redb::{Database, DatabaseError, StorageBackend, backends::FileBackend};

use crate::base::disk;

/// Where both are. What is shown of it is for whoever starts the server.
pub(super) trait Place: Display + Send + Sync {
    /// Opens the database, or makes it. The error says what to do.
    fn database(&self, page_cache: usize) -> Result<Database, String>;
    /// Refuses a database that may not be whole without a journal, if there is none.
    fn expect_journal(&self) -> Result<(), String>;
    /// Opens the journal, or makes it.
    fn journal(&self) -> io::Result<Box<dyn StorageBackend>>;
    /// Whether there is room for more than so many bytes.
    fn has_space(&self, min_free: u64) -> bool;
}

/// Two files in a folder.
pub(super) struct Files {
    database: PathBuf,
    journal: PathBuf,
}

impl Files {
    pub fn new(database: &Path) -> Self {
        Self { database: database.to_owned(), journal: database.with_extension("journal") }
    }

    fn folder(&self) -> &Path {
        self.database.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."))
    }
}

impl Display for Files {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.database.display().fmt(to)
    }
}

impl Place for Files {
    fn database(&self, page_cache: usize) -> Result<Database, String> {
        let open = |path: &Path| {
            make_private(path);
            redb::Builder::new().set_cache_size(page_cache).create(path).map_err(|error| explain(self, &error))
        };
        // One whose making was cut short could never be opened: it gets its name once it can.
        if !self.database.exists() {
            let unfinished = self.database.with_extension("unfinished");
            let _ = fs::remove_file(&unfinished);
            drop(open(&unfinished)?);
            let named = fs::rename(&unfinished, &self.database).and_then(|()| disk::sync_folder(self.folder()));
            named.map_err(|error| format!("can't make {self}: {error}"))?;
        }
        open(&self.database)
    }

    fn expect_journal(&self) -> Result<(), String> {
        match self.journal.exists() {
            true => Ok(()),
            false => Err(format!(
                "{} is missing, and what was written last before the server ended may be there alone. Put it beside \
                 the database again; or, to go on without what it held, make an empty file of that name",
                self.journal.display()
            )),
        }
    }

    fn journal(&self) -> io::Result<Box<dyn StorageBackend>> {
        make_private(&self.journal);
        let file = fs::OpenOptions::new().read(true).write(true).open(&self.journal)?;
        disk::sync_folder(self.folder())?;
        Ok(Box::new(FileBackend::new(file).map_err(io::Error::other)?))
    }

    fn has_space(&self, min_free: u64) -> bool {
        disk::has_space(self.folder(), min_free)
    }
}

/// Makes the file, if it isn't there, for its owner alone, whatever the folder allows. If that fails, so
/// does opening it, which says why.
pub(super) fn make_private(path: &Path) {
    let mut options = std::fs::OpenOptions::new();
    options.append(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    drop(options.open(path));
}

fn explain(path: &Files, error: &DatabaseError) -> String {
    match error {
        DatabaseError::DatabaseAlreadyOpen => {
            format!("{path} is in use: is another hearth running with this data directory? Stop it first")
        }
        DatabaseError::UpgradeRequired(version) => {
            format!("{path} has the file format {version}, which this hearth can't read: use the hearth that wrote it")
        }
        error => format!("can't open {path}: {error}"),
    }
}
