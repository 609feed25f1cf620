//! Starting: the data directory, the addresses, and what is said once the server is there. Errors here
//! reach the person who started it, so they say what to do.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::{
    accounts::registration,
    base::signing::SigningKey,
    config::{Config, Registration},
    error,
    federation::Remote,
    http::tls::Certificate,
    media::{Bounds, Bucket, Media, uploads},
    outside::{Client, Outside},
    rooms::servers,
    store::{OnCommit, Options, Store, WriteTx},
};

/// Asks for as many open files as this process may have: each connection is one, and the usual limit was
/// made for programs that open few.
pub(crate) fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, ?current, "can't raise the limit of open files: connections may be refused");
    }
}

/// Opens the database of these settings, making it and its folder if need be. `on_commit` is called after
/// each commit.
pub async fn open_store(config: &Config, on_commit: OnCommit) -> Result<Store, String> {
    make_data_dir(&config.data_dir)?;
    let options = Options {
        page_cache: usize::try_from(config.memory / 2).unwrap_or(usize::MAX),
        state_cache: config.memory / 4,
        min_free: config.min_free_disk,
    };
    let store = Store::open(&config.data_dir.join("hearth.redb"), options, on_commit)?;
    store.claim(config.server_name.as_str()).await?;
    store.upgrade(upgrade).await.map_err(|error| format!("can't bring the database up to date: {error}"))?;
    Ok(store)
}

/// What a database of an earlier schema lacks.
fn upgrade(tx: &WriteTx, schema: u64) -> error::Result<()> {
    if schema < 2 {
        servers::build(tx)?;
    }
    if schema < 3 {
        uploads::build(tx)?;
    }
    Ok(())
}

/// The signing key of these settings, made if there is none.
pub fn signing_key(config: &Config) -> Result<SigningKey, String> {
    make_data_dir(&config.data_dir)?;
    SigningKey::load_or_create(&signing_key_path(config))
}

/// Where the signing key of these settings is.
pub fn signing_key_path(config: &Config) -> PathBuf {
    config.data_dir.join("signing.key")
}

/// What calls other machines, by these settings.
pub fn outside(config: &Config) -> Result<Outside, String> {
    Outside::new(config.federation.allow_private_addresses.clone(), &config.federation.trust)
}

/// The folder of media of these settings, made if there is none.
pub(crate) fn media(
    config: &Config,
    store: &Store,
    outside: &Outside,
    others: (Remote, Client),
) -> Result<Media, String> {
    let bounds = bounds(config);
    let folder = media_folder(config);
    open_media(config, store, outside, bounds)?
        .with_others(&folder, bounds, config.remote_media_cache, others)
        .map_err(|error| cant_open(&folder, &error))
}

/// The media of a server of these settings that does not run, without bounds: what was taken once is let through.
pub fn media_at_rest(config: &Config, store: &Store, outside: &Outside) -> Result<Media, String> {
    open_media(config, store, outside, Bounds { max_upload: u64::MAX, ..bounds(config) })
}

fn open_media(config: &Config, store: &Store, outside: &Outside, bounds: Bounds) -> Result<Media, String> {
    let (folder, server) = (media_folder(config), config.server_name.clone());
    Media::open(&folder, (store.clone(), bucket(config, outside)?), server, bounds)
        .map_err(|error| cant_open(&folder, &error))
}

fn bounds(config: &Config) -> Bounds {
    Bounds { max_upload: config.max_upload, min_free: media_reserve(config.min_free_disk), quota: config.media_quota }
}

fn media_folder(config: &Config) -> PathBuf {
    config.data_dir.join("media")
}

fn cant_open(folder: &Path, error: &io::Error) -> String {
    format!("can't open the folder of media {}: {error}", folder.display())
}

/// The store of files of these settings, if they have one. It is not called.
pub fn bucket(config: &Config, outside: &Outside) -> Result<Option<Bucket>, String> {
    let Some(settings) = &config.bucket else { return Ok(None) };
    Bucket::open(settings, outside.client_of_store()?).map(Some)
}

/// The free space that media leave: more than what the database needs to go on, so that files, which
/// are what fills disks, can't stop the writing of messages.
fn media_reserve(min_free_disk: u64) -> u64 {
    min_free_disk.saturating_add(min_free_disk.saturating_mul(3).max(512 << 20))
}

/// Makes the folder for everything private, if it isn't there.
fn make_data_dir(dir: &Path) -> Result<(), String> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    let cure = "set data_dir to a folder that this user may write to";
    builder.create(dir).map_err(|error| format!("can't make the data directory {}: {error}; {cure}", dir.display()))?;
    rustix::fs::access(dir, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
        .map_err(|error| format!("can't write to the data directory {}: {error}; {cure}", dir.display()))
}

/// What listens, each with its TLS if it has any.
type Listening = Vec<(TcpListener, Option<TlsAcceptor>)>;

/// Listens at all addresses, plain and by TLS; with the certificate, so that it can be followed.
pub(crate) async fn listen(config: &mut Config) -> Result<(Listening, Option<Arc<Certificate>>), String> {
    let mut out: Listening = bind(&mut config.listen).await?.into_iter().map(|listener| (listener, None)).collect();
    let Some(tls) = &mut config.tls else { return Ok((out, None)) };
    let certificate = Certificate::load(tls)?;
    let acceptor = certificate.acceptor()?;
    out.extend(bind(&mut tls.listen).await?.into_iter().map(|listener| (listener, Some(acceptor.clone()))));
    Ok((out, Some(certificate)))
}

/// Listens at all these addresses, and notes which they really are: port 0 is any.
async fn bind(addresses: &mut [SocketAddr]) -> Result<Vec<TcpListener>, String> {
    let mut listeners = Vec::new();
    for address in addresses {
        let listener = TcpListener::bind(*address).await.map_err(|error| cant_listen(*address, &error))?;
        *address = listener.local_addr().map_err(|error| cant_listen(*address, &error))?;
        listeners.push(listener);
    }
    Ok(listeners)
}

fn cant_listen(address: SocketAddr, error: &io::Error) -> String {
    let cure = match error.kind() {
        io::ErrorKind::AddrInUse => {
            let other = SocketAddr::new(address.ip(), address.port().checked_add(1).unwrap_or(8008));
            format!(
                "something listens there already, perhaps another hearth. Stop it, or choose another \
                 address by this line in hearth.toml: listen = [\"{other}\"]"
            )
        }
        io::ErrorKind::PermissionDenied => "choose a port from 1024 up, or give this program the right to bind \
                                            lower ones (CAP_NET_BIND_SERVICE)"
            .to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        _ => error.to_string(),
    };
    format!("can't listen on {address}: {cure}")
}

/// Says on standard output that the server is there, and what to do next.
pub(crate) async fn greet(config: &Config, store: &Store) {
    let local = config.local_url();
    let mut text = format!("Hearth is at {local}\n");
    if config.base_url() != local {
        text += &format!("For people elsewhere it is {}.\n", config.base_url());
    }
    let policy = registration::policy(config);
    let token = store.write(move |tx| registration::ensure_first_admin_token(tx, policy)).await;
    text += &match (token, config.registration) {
        (Ok(Some(token)), _) => format!(
            "Nobody administers it yet. Open it in a browser and make an account with this registration token, \
             which works once:\n  {token}\n"
        ),
        (_, Registration::Open) => "Open it in a browser and make an account: the first is its administrator.\n".into(),
        _ => "Open it in a browser and sign in.\n".into(),
    };
    // Nobody may be reading; the server is there all the same.
    let _ = io::Write::write_all(&mut io::stdout(), text.as_bytes());
    if !config.behind_proxy {
        for address in config.listen.iter().filter(|address| !address.ip().is_loopback()) {
            tracing::warn!(%address, "plain HTTP beyond this machine: what people write can be read on the way");
        }
    }
}
