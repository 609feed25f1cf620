//! The command line: what a person can ask the binary to do, and how its errors reach them.

use std::{
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use hearth::{
    accounts::{passwords, sessions, users},
    appservice::registration,
    backup,
    base::{random, signing::SigningKey},
    client_api::devices,
    config::{self, Config},
    dev_cert,
    http::{Files, tls::Certificate},
    media::{Media, Moved, Towards},
    start,
    store::{Store, WriteTx},
};
use ruma::OwnedUserId;
use rustix::termios;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tracing_subscriber::EnvFilter;

/// What libraries log unless the settings say otherwise.
const LIBRARIES: &str = "ruma_state_res=error,object_store=warn";

/// How often it is said how far something is.
const TOLD_EVERY: Duration = Duration::from_secs(5);

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NAMES: &str = "a name has a-z, 0-9 and . _ = - / +, such as alice";

const EXAMPLES: &str = "\
Examples:
  hearth                          try it: only this machine can reach it
  hearth init example.org         prepare a server for a real domain
  hearth check hearth.toml        find mistakes in a configuration
  hearth backup /backups/monday   copy everything, while the server runs
  hearth user create alice --admin
                                  make an account, while the server is stopped
  hearth --config /etc/hearth.toml
                                  serve with another configuration

Everything is kept in one folder, ./hearth-data unless the configuration says otherwise.";

/// Hearth, a Matrix homeserver in one binary, with its own web client.
///
/// Without a command it serves: with ./hearth.toml if that is there, or else with defaults that
/// anybody on this machine can try at once. It says where to point a browser.
#[derive(Parser)]
#[command(name = "hearth", version, about, after_help = EXAMPLES, subcommand_help_heading = "Commands")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// The configuration file. Default: ./hearth.toml, if it is there
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Args, Default)]
struct Serve {
    /// Serve the web client from this folder, for working on it, instead of the one in the binary
    #[arg(long, value_name = "DIR")]
    web_root: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until stopped by Ctrl-C or SIGTERM. The same as no command at all
    Serve(Serve),
    /// Prepare a server for a real domain: write a commented configuration and make the signing key
    ///
    /// Nothing that exists is overwritten.
    Init {
        /// The domain that user IDs end with, such as example.org
        name: String,
    },
    /// Make and mend accounts, while the server is stopped
    ///
    /// Passwords are asked for, or read as one line of standard input.
    User {
        #[command(subcommand)]
        what: User,
    },
    /// Give the server's signing key up and make a new one, while the server is stopped
    ///
    /// Do this when somebody else may have read the old one. What it has signed stays good; other servers
    /// fetch the new one by themselves. Both are kept in signing.key, in the data directory: back it up.
    RotateKey,
    /// Make TLS certificates to try federation with, and the authority that vouches for them
    ///
    /// For each NAME (localhost, example.org, 192.0.2.1) it writes NAME.pem and NAME-key.pem, and once
    /// ca.pem and ca-key.pem. In each server's configuration, [tls] then names the first two, and
    /// federation.trust the third:
    ///
    ///   [tls]
    ///   certificate = "dev-certs/localhost.pem"
    ///   key = "dev-certs/localhost-key.pem"
    ///   [federation]
    ///   trust = ["dev-certs/ca.pem"]
    ///   allow_private_addresses = ["127.0.0.1", "::1"]
    ///
    /// Only servers that are told to trust ca.pem do. A server on a real domain wants a real certificate.
    #[command(verbatim_doc_comment)]
    DevCert {
        /// The servers' names
        #[arg(required = true)]
        names: Vec<String>,
        /// Where to write
        #[arg(long, value_name = "DIR", default_value = "dev-certs")]
        dir: PathBuf,
    },
    /// Copy everything to a new folder DIR, also while the server runs: its database, media and signing key
    ///
    /// The copy is as the server was at one moment, and gets its name once it is whole and on disk. DIR is then a
    /// data directory: to go back to it, stop the server and put DIR where the configuration's data_dir is. On the
    /// same disk, files of media are links and take no room; files in a bucket stay there. Copy DIR to another
    /// machine, and keep the configuration with it:
    ///
    ///   hearth backup /var/backups/hearth-$(date +%F)
    #[command(verbatim_doc_comment)]
    Backup {
        /// A folder that isn't there yet
        dir: PathBuf,
    },
    /// Bring uploaded files into the bucket of [s3], or back, while the server is stopped
    Media {
        #[command(subcommand)]
        what: Stored,
    },
    /// Check a configuration file, and say all that is wrong with it and what would be right
    Check {
        /// The file
        file: PathBuf,
    },
}

#[derive(Subcommand)]
enum User {
    /// Make an account
    Create {
        /// Its name: alice, or @alice:example.org
        name: String,
        /// Make it an administrator's
        #[arg(long)]
        admin: bool,
    },
    /// Give an account a new password, and end all its sessions
    ResetPassword {
        /// Its name: alice, or @alice:example.org
        name: String,
    },
    /// Make an account an administrator's
    Promote {
        /// Its name: alice, or @alice:example.org
        name: String,
    },
}

#[derive(Subcommand)]
enum Stored {
    /// Bring all files from the data directory into the bucket, or from the bucket into the data directory
    ///
    /// Each file leaves its old place once it is whole in the new one. It can be interrupted at any time and be
    /// started again, also after the server has run in between, which finds every file where it is. Before the
    /// server goes on without [s3], everything has to be on disk:
    ///
    ///   hearth media move bucket      after [s3] has come into the configuration
    ///   hearth media move disk        before [s3] goes from it
    #[command(verbatim_doc_comment)]
    Move {
        /// Where to
        #[arg(value_enum)]
        to: To,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum To {
    /// Into the bucket
    Bucket,
    /// Into the data directory
    Disk,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        None => serve(cli.config.as_deref(), cli.serve),
        Some(Command::Serve(also)) => {
            serve(cli.config.as_deref(), Serve { web_root: also.web_root.or(cli.serve.web_root) })
        }
        Some(Command::Init { name }) => init(&name, cli.config.as_deref().unwrap_or(Path::new(config::FILE))),
        Some(Command::Check { file }) => check(&file),
        Some(Command::RotateKey) => rotate_key(cli.config.as_deref()),
        Some(Command::DevCert { names, dir }) => make_certificates(&names, &dir),
        Some(Command::Backup { dir }) => make_backup(cli.config.as_deref(), &dir),
        Some(Command::Media { what: Stored::Move { to } }) => move_media(cli.config.as_deref(), to),
        Some(Command::User { what }) => user(cli.config.as_deref(), what),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(config: Option<&Path>, options: Serve) -> Result<(), String> {
    let mut config = load(config)?;
    config.web_root = options.web_root.or(config.web_root);
    log_to_stderr(&config.log)?;
    runtime()?.block_on(async { hearth::run(config, until_signal()?).await })
}

fn init(name: &str, path: &Path) -> Result<(), String> {
    let text = Config::written_for(name);
    let config = Config::parse(&text, path).map_err(|_| {
        format!("{name:?} can't be the name of a server: a domain is wanted, such as example.org, without https://")
    })?;
    write_new(path, &text)?;
    start::signing_key(&config)?;
    let (file, data) = (path.display(), config.data_dir.display());
    println!("Wrote {file}, with every setting explained, and the signing key in {data}.");
    println!("Next: look it over, point a reverse proxy for https://{name} at http://127.0.0.1:8008, and run");
    match path == Path::new(config::FILE) {
        true => println!("  hearth"),
        false => println!("  hearth --config {file}"),
    }
    Ok(())
}

fn write_new(path: &Path, text: &str) -> Result<(), String> {
    let file = path.display();
    let made = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
    made.and_then(|mut made| made.write_all(text.as_bytes())).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            format!("{file} exists already and was left as it is: name another file by --config, or move it away")
        }
        _ => format!("can't write {file}: {error}"),
    })
}

fn check(file: &Path) -> Result<(), String> {
    let config = Config::load(file).map_err(|problems| problems.to_string())?;
    let tls = config.tls.as_ref().map(|tls| Certificate::load(tls).map(drop)).unwrap_or(Ok(()));
    let web = Files::new(config.web_root.as_deref()).map(drop);
    let outside = start::outside(&config);
    let bucket = outside.as_ref().map_or(Ok(()), |outside| match start::bucket(&config, outside)? {
        Some(bucket) => runtime()?.block_on(bucket.try_out()),
        None => Ok(()),
    });
    let outside = outside.map(drop);
    let services = registration::load(&config.app_services, &config.server_name).map(drop);
    let problems: Vec<String> = [tls, web, outside, bucket, services].into_iter().filter_map(Result::err).collect();
    if !problems.is_empty() {
        let lines: Vec<String> = problems.iter().map(|problem| format!("{}: {problem}", file.display())).collect();
        return Err(lines.join("\n"));
    }
    println!("{} is fine: the server {}, called at {}.", file.display(), config.server_name, config.base_url());
    Ok(())
}

fn rotate_key(config: Option<&Path>) -> Result<(), String> {
    let config = load(config)?;
    let path = start::signing_key_path(&config);
    if !path.exists() {
        return Err(format!(
            "there is no {}: go to the directory that the server runs in, or name its configuration by --config",
            path.display()
        ));
    }
    runtime()?.block_on(async {
        // It fails while the server runs, which would go on with the old key.
        let store = start::open_store(&config, Box::new(|_, _| {})).await?;
        let rotated = SigningKey::rotate(&path);
        store.close().await;
        let (before, after) = rotated?;
        println!("The server now signs with {after}. What {before} has signed stays good.");
        Ok(())
    })
}

fn make_certificates(names: &[String], folder: &Path) -> Result<(), String> {
    dev_cert::make(folder, names)?;
    let folder = folder.display();
    println!("Wrote a certificate for {} to {folder}.", names.join(", "));
    println!("Servers trust it that have this in their configuration, and nobody else does:");
    println!("  [federation]\n  trust = [\"{folder}/{}\"]", dev_cert::AUTHORITY);
    Ok(())
}

fn make_backup(config: Option<&Path>, dir: &Path) -> Result<(), String> {
    let config = load(config)?;
    check_database(&config)?;
    let dir = std::path::absolute(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let runtime = runtime()?;
    let report = match runtime.block_on(backup::ask(&config.data_dir, &dir)) {
        Some(report) => report?,
        None => {
            let (store, media) = runtime.block_on(at_rest(&config))?;
            let made = backup::make((&store, &media), &config, &dir, &AtomicBool::new(false));
            runtime.block_on(store.close());
            made?
        }
    };
    let backup::Report { database, files, elsewhere, missing } = report;
    println!("{} is a whole copy: a database of {database} bytes, {files} files, the signing key.", dir.display());
    if elsewhere > 0 {
        println!("{elsewhere} files are in the bucket alone, and not in it.");
    }
    if missing > 0 {
        println!("{missing} files of media are missing here and so there too.");
    }
    Ok(())
}

fn move_media(config: Option<&Path>, to: To) -> Result<(), String> {
    let config = load(config)?;
    check_database(&config)?;
    if config.bucket.is_none() {
        return Err("the configuration has no section [s3], which says where the bucket is".into());
    }
    log_to_stderr(&config.log)?;
    let to = match to {
        To::Bucket => Towards::Bucket,
        To::Disk => Towards::Disk,
    };
    runtime()?.block_on(async {
        let (store, media) = at_rest(&config).await?;
        let mut told = Instant::now();
        let tell = |moved: &Moved| {
            if told.elapsed() >= TOLD_EVERY {
                eprintln!("{} files looked at, {} brought ({} bytes)", moved.seen, moved.files, moved.bytes);
                told = Instant::now();
            }
        };
        let moved = media.relocate(to, tell).await;
        store.close().await;
        let again = "What was brought stays there; start it again to go on.";
        let Moved { files, bytes, damaged, unknown, .. } =
            moved.map_err(|error| format!("{}. {again}", error.cause().unwrap_or(error.message())))?;
        println!("Brought {files} files ({bytes} bytes).");
        if unknown > 0 {
            println!("{unknown} files in the bucket are not this server's, and stay there.");
        }
        match damaged {
            0 => Ok(()),
            damaged => Err(format!("{damaged} files are damaged and were left where they are: see the lines above")),
        }
    })
}

/// The database and media of a server that does not run. It fails while it does.
async fn at_rest(config: &Config) -> Result<(Store, Media), String> {
    let store = start::open_store(config, Box::new(|_, _| {})).await?;
    let media = start::media_at_rest(config, &store, &start::outside(config)?)?;
    Ok((store, media))
}

fn check_database(config: &Config) -> Result<(), String> {
    let database = config.data_dir.join("hearth.redb");
    match database.exists() {
        true => Ok(()),
        false => Err(format!(
            "there is no {}: go to the directory that the server runs in, or name its configuration by --config",
            database.display()
        )),
    }
}

fn user(config: Option<&Path>, what: User) -> Result<(), String> {
    let config = load(config)?;
    let (User::Create { name, .. } | User::ResetPassword { name } | User::Promote { name }) = &what;
    let id = users::meant(name, &config.server_name)
        .ok_or_else(|| format!("{name:?} can't be an account of {}: {NAMES}", config.server_name))?;
    if !matches!(what, User::Create { .. }) {
        check_database(&config)?;
    }
    runtime()?.block_on(async {
        // Before a password is asked for, as this fails while the server runs.
        let store = start::open_store(&config, Box::new(|_, _| {})).await?;
        let done = change(&store, id, what).await;
        store.close().await;
        println!("{}", done?);
        Ok(())
    })
}

/// Does it, and answers what to say.
async fn change(store: &Store, id: OwnedUserId, what: User) -> Result<String, String> {
    let text = |error: hearth::error::Error| format!("{id}: {}", error.message());
    let user = id.clone();
    match what {
        User::Create { admin, .. } => {
            store.read(|tx| users::check_free(tx, &id)).map_err(text)?;
            let Password { hash, note } = Password::ask()?;
            store.write(move |tx| users::create(tx, &user, Some(hash.clone()), admin)).await.map_err(text)?;
            let role = if admin { ", an administrator" } else { "" };
            Ok(format!("Made {id}{role}.{note}"))
        }
        User::ResetPassword { .. } => {
            if !store.read(|tx| users::is_open(tx, &id)).map_err(text)? {
                return Err(format!("{id}: there is no such account"));
            }
            let Password { hash, note } = Password::ask()?;
            let work = move |tx: &WriteTx| {
                users::set_password(tx, &user, hash.clone())?;
                let ended = sessions::end_all(tx, &user, None)?;
                devices::ended(tx, &user, &ended)?;
                Ok(ended)
            };
            let ended = store.write(work).await.map_err(text)?.len();
            Ok(format!("{id} has a new password, and {ended} sessions ended.{note}"))
        }
        User::Promote { .. } => {
            store.write(move |tx| users::set_admin(tx, &user, true)).await.map_err(text)?;
            Ok(format!("{id} is an administrator."))
        }
    }
}

/// A new password, as it is stored.
struct Password {
    hash: String,
    /// What it is, if it was made up here.
    note: String,
}

impl Password {
    /// Asks for it, and makes one up if none is wanted.
    fn ask() -> Result<Self, String> {
        let mut password = read_secret("New password (leave empty to have one made up): ")?;
        let mut note = String::new();
        if password.is_empty() {
            password = random::id::<20>();
            note = format!(" The password is {password}");
        } else if io::stdin().is_terminal() && read_secret("Once more: ")? != password {
            return Err("these were two different passwords: nothing was changed".into());
        }
        let hash = passwords::check_new(&password).and_then(|()| passwords::hash(&password));
        Ok(Self { hash: hash.map_err(|error| error.message().to_owned())?, note })
    }
}

/// Reads a line. On a terminal it is asked for and not shown.
fn read_secret(prompt: &str) -> Result<String, String> {
    let stdin = io::stdin();
    let shown = termios::tcgetattr(&stdin).ok();
    if let Some(shown) = &shown {
        eprint!("{prompt}");
        let mut hidden = shown.clone();
        hidden.local_modes.remove(termios::LocalModes::ECHO);
        termios::tcsetattr(&stdin, termios::OptionalActions::Now, &hidden)
            .map_err(|error| format!("can't hide what is typed: {error}"))?;
    }
    let mut line = String::new();
    let read = stdin.read_line(&mut line);
    if let Some(shown) = &shown {
        eprintln!();
        // If it can't be undone there is nobody left to type.
        let _ = termios::tcsetattr(&stdin, termios::OptionalActions::Now, shown);
    }
    read.map_err(|error| format!("can't read the password: {error}"))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// The settings of a file, of ./hearth.toml if none is named, or the defaults.
fn load(file: Option<&Path>) -> Result<Config, String> {
    let usual = Path::new(config::FILE);
    match file.or_else(|| usual.exists().then_some(usual)) {
        Some(file) => Config::load(file).map_err(|problems| problems.to_string()),
        None => Ok(Config::default()),
    }
}

fn log_to_stderr(filter: &str) -> Result<(), String> {
    // The rules' library tells of every event that it allows. Who wants to read that says so.
    let filter = format!("{LIBRARIES},{filter}");
    let filter = EnvFilter::builder().parse(filter).map_err(|error| format!("log: {error}"))?;
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_env_filter(filter)
        .init();
    Ok(())
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    let built = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    built.map_err(|error| format!("can't start: {error}"))
}

/// Says true at the first SIGINT or SIGTERM. At the second the process ends at once: what was
/// acknowledged is on disk in any case.
fn until_signal() -> Result<watch::Receiver<bool>, String> {
    let handler = |kind| signal(kind).map_err(|error| format!("can't listen for signals: {error}"));
    let (mut interrupt, mut terminate) = (handler(SignalKind::interrupt())?, handler(SignalKind::terminate())?);
    let (stop, stopping) = watch::channel(false);
    tokio::spawn(async move {
        for round in 0.. {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if round > 0 {
                std::process::exit(130);
            }
            tracing::info!("stopping; a second signal stops at once");
            stop.send_replace(true);
        }
    });
    Ok(stopping)
}
