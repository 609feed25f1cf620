//! Copies of everything that a server keeps, made while it runs: a folder that is a data directory again. The
//! database is copied from one snapshot, so that it is as it was at one moment; files of media, which never change,
//! are linked. A copy gets its name once it is whole and on disk.
//!
//! Who asks is another process of the same machine, by a socket in the data directory, which only those can reach
//! who may read everything anyway.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::{Mutex, OwnedMutexGuard, watch},
    task::JoinSet,
};

use crate::{
    app::App,
    base::disk,
    config::Config,
    media::{Linked, Media},
    store::Store,
};

/// The socket, in the data directory.
const SOCKET: &str = "control.sock";
/// Bytes of what is asked at most.
const MAX_ASKED: u64 = 64 * 1024;
/// The files of a data directory beside its media.
const DATABASE: &str = "hearth.redb";
const KEY: &str = "signing.key";

/// What a copy has.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Bytes of the database.
    pub database: u64,
    /// Files of media.
    pub files: u64,
    /// Files of media that are elsewhere, in a bucket.
    pub elsewhere: u64,
    /// Files of media that should be there and are not.
    pub missing: u64,
}

/// What is asked for.
#[derive(Serialize, Deserialize)]
struct Asked {
    /// Where the copy is to be.
    backup: PathBuf,
}

/// What came of it.
#[derive(Serialize, Deserialize)]
enum Said {
    Done(Report),
    Failed(String),
}

/// Makes a copy. `stop` ends it, and then nothing of it is left. Slow.
///
/// 1. It comes into a folder beside its own, whose name says that it is not whole.
/// 2. Of one snapshot: the database, and the files of media that it knows. None of these is removed meanwhile.
/// 3. The signing key.
/// 4. All of it is on disk, and gets its name.
pub fn make((store, media): (&Store, &Media), config: &Config, to: &Path, stop: &AtomicBool) -> Result<Report, String> {
    let data = &config.data_dir;
    let failed = |what: &Path| {
        let what = what.display().to_string();
        move |error: io::Error| format!("can't write {what}: {error}")
    };
    if fs::symlink_metadata(to).is_ok() {
        return Err(format!("{} is there already and was left as it is", to.display()));
    }
    let unfinished = Unfinished::beside(to).map_err(failed(to))?;
    let folder = &unfinished.0;
    let size = fs::metadata(data.join(DATABASE)).map_err(failed(data))?.len();
    if !disk::has_space(folder, size.saturating_add(config.min_free_disk)) {
        return Err(format!("there is too little room for {size} bytes and more at {}", to.display()));
    }
    let Linked { files, elsewhere, missing } = media
        .held_still(|media| {
            store.read(|tx| {
                tx.copy_to(&folder.join(DATABASE), &|| !stop.load(Relaxed))?;
                media.link_all(tx, &folder.join("media"), &|| !stop.load(Relaxed))
            })
        })
        .map_err(|error| error.cause().unwrap_or(error.message()).to_owned())?;
    fs::copy(data.join(KEY), folder.join(KEY)).map_err(failed(&folder.join(KEY)))?;
    let database = fs::metadata(folder.join(DATABASE)).map_err(failed(folder))?.len();
    sync_all(folder).map_err(failed(folder))?;
    fs::rename(folder, to).map_err(failed(to))?;
    disk::sync_folder(to.parent().unwrap_or(Path::new("."))).map_err(failed(to))?;
    Ok(Report { database, files, elsewhere, missing })
}

/// A folder that goes unless it was given another name.
struct Unfinished(PathBuf);

impl Unfinished {
    fn beside(path: &Path) -> io::Result<Self> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".unfinished");
        let folder = path.with_file_name(name);
        // What an end of the server left of an earlier one.
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut builder = fs::DirBuilder::new();
        builder.mode(0o700).create(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // It is not there any more if all went well; what can't be removed is by the next one.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Makes a folder with all that is in it durable. Files that were linked are already.
fn sync_all(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => sync_all(&entry.path())?,
            false if entry.file_name() == KEY => fs::File::open(entry.path())?.sync_all()?,
            false => {}
        }
    }
    disk::sync_folder(folder)
}

/// Makes copies for who asks for them, until the server stops. Who asks is heard once this has returned.
pub fn serve(app: Arc<App>, stop: watch::Receiver<bool>) -> impl Future<Output = ()> + Send + 'static {
    let path = app.config.data_dir.join(SOCKET);
    let listener = listen(&path);
    async move {
        match listener {
            Ok(listener) => accept(app, listener, stop).await,
            Err(error) => {
                tracing::warn!(%error, "no backup can be made while the server runs, for want of {}", path.display());
                return;
            }
        }
        // If it stays, the next start removes it.
        let _ = fs::remove_file(path);
    }
}

async fn accept(app: Arc<App>, listener: UnixListener, mut stop: watch::Receiver<bool>) {
    let (busy, mut asking) = (Arc::<Mutex<()>>::default(), JoinSet::new());
    loop {
        let stream = tokio::select! {
            stream = listener.accept() => stream,
            Some(_) = asking.join_next() => continue,
            // An error says that nobody is left to ask for it, which means the same.
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match stream {
            Ok((stream, _)) => drop(asking.spawn(answer(app.clone(), busy.clone(), stream))),
            Err(error) => tracing::debug!(%error, "who asks for a backup can't be heard"),
        }
    }
    asking.shutdown().await;
}

/// Listens for the server's own user.
fn listen(path: &Path) -> io::Result<UnixListener> {
    // One that is there is of a server that was ended: the database is ours.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}

async fn answer(app: Arc<App>, busy: Arc<Mutex<()>>, mut stream: UnixStream) {
    let (read, mut write) = stream.split();
    let (mut read, mut line) = (BufReader::new(read.take(MAX_ASKED)), String::new());
    let heard = read.read_line(&mut line).await;
    let said = match heard.map(|_| serde_json::from_str::<Asked>(&line)) {
        Ok(Ok(asked)) => match busy.try_lock_owned() {
            Ok(turn) => tokio::select! {
                said = begin(&app, asked.backup, turn) => said,
                // Who asked has gone, and nobody would know of it.
                _ = read.read_u8() => return,
            },
            Err(_) => Said::Failed("another backup is being made".into()),
        },
        _ => Said::Failed("this is not understood".into()),
    };
    let mut text = serde_json::to_vec(&said).unwrap_or_default();
    text.push(b'\n');
    if let Err(error) = write.write_all(&text).await {
        tracing::debug!(%error, "who asked for a backup has gone");
    }
}

/// Makes a copy beside everything else. It ends when nobody waits for it any more.
async fn begin(app: &Arc<App>, to: PathBuf, turn: OwnedMutexGuard<()>) -> Said {
    struct Stop(Arc<AtomicBool>);
    impl Drop for Stop {
        fn drop(&mut self) {
            self.0.store(true, Relaxed);
        }
    }
    let stop = Stop(Arc::default());
    let (app, to_, stopping) = (app.clone(), to.clone(), stop.0.clone());
    let work = move || {
        let _turn = turn;
        make((&app.store, &app.media), &app.config, &to_, &stopping)
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(report)) => {
            tracing::info!(files = report.files, "a backup was made in {}", to.display());
            Said::Done(report)
        }
        Ok(Err(error)) => {
            tracing::warn!(error, "a backup could not be made");
            Said::Failed(error)
        }
        Err(error) => Said::Failed(format!("it ended without a word: {error}")),
    }
}

/// Asks the server that runs in a data directory for a copy. None if none runs there.
pub async fn ask(data: &Path, to: &Path) -> Option<Result<Report, String>> {
    let stream = UnixStream::connect(data.join(SOCKET)).await.ok()?;
    Some(talk(stream, to).await)
}

async fn talk(mut stream: UnixStream, to: &Path) -> Result<Report, String> {
    let gone = |error| format!("the server broke off: {error}");
    let asked = serde_json::to_string(&Asked { backup: to.to_owned() }).map_err(|error| error.to_string())?;
    stream.write_all(format!("{asked}\n").as_bytes()).await.map_err(gone)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await.map_err(gone)?;
    match serde_json::from_str(&line) {
        Ok(Said::Done(report)) => Ok(report),
        Ok(Said::Failed(why)) => Err(why),
        Err(_) => Err("the server broke off: is it stopping?".into()),
    }
}
