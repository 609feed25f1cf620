//! Servers that federate over real TLS, and a server made by the test itself, which says what it likes.
//!
//! ```ignore
//! let [one, two] = federate().await;
//! let (alice, bob) = (one.register("alice").await, two.register("bob").await);
//! ```

use std::{
    collections::HashMap,
    fs, io,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use hearth::{
    base::signing::{Identity, SigningKey},
    dev_cert,
    federation::{remote, server_keys},
};
use reqwest::Method;
use ruma::{CanonicalJsonObject, ServerName, signatures::KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpStream,
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

use super::{Answer, Server, s3, server::client};

/// How long something may take to reach another server.
const PATIENCE: Duration = Duration::from_secs(30);

/// Servers that trust each other's certificates and know nothing of each other yet.
pub async fn federate<const N: usize>() -> [Server; N] {
    let mut servers = Vec::new();
    for _ in 0..N {
        servers.push(federated("", "").await);
    }
    servers.try_into().unwrap_or_else(|_| panic!("{N} servers"))
}

/// One such server, with further settings and settings of `[federation]`.
pub async fn federated(settings: &str, of_federation: &str) -> Server {
    let address = free_address();
    federated_at((address, address), settings, of_federation).await
}

/// The same, known to be at one address, and listening at another.
pub async fn federated_at((known, address): (SocketAddr, SocketAddr), settings: &str, of_federation: &str) -> Server {
    let (name, certificates) = (format!("localhost:{}", known.port()), certificates());
    let open = match settings.contains("registration = ") {
        true => "",
        false => "registration = \"open\"\n",
    };
    let settings = format!(
        "server_name = {name:?}\nrate_limits = false\n{open}{settings}\n\
         [tls]\nlisten = [\"{address}\"]\ncertificate = {:?}\nkey = {:?}\n\
         [federation]\ntrust = [{:?}]\n{}{}{}{of_federation}\n",
        certificates.join("localhost.pem"),
        certificates.join("localhost-key.pem"),
        certificates.join(dev_cert::AUTHORITY),
        unless(of_federation, "allow_private_addresses", "allow_private_addresses = true\n"),
        unless(of_federation, "notaries", "notaries = []\n"),
        unless(of_federation, "presence", "presence = true\n"),
    );
    let mut server = Server::start_with(&settings).await;
    server.name = name;
    server
}

fn unless(settings: &str, key: &str, default: &'static str) -> &'static str {
    if settings.contains(key) { "" } else { default }
}

/// An address on this machine where nobody listens, nor will by chance.
pub fn free_address() -> SocketAddr {
    listener().local_addr().expect("an address")
}

/// A listener at an address that nobody else of this run had before: servers remember by its port whom they met.
/// It is below those that the system gives to whoever asks for any, of which it may give one again at once.
fn listener() -> TcpListener {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(std::process::id().wrapping_mul(97));
        let port = u16::try_from(10_000 + number % 20_000).expect("below 30,000");
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            return listener;
        }
    }
}

/// The authority that all servers of tests trust, and a certificate of `localhost`.
pub fn certificates() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("certificates");
        let is_young = |path: &Path| {
            let age = fs::metadata(path).and_then(|data| data.modified()).ok().and_then(|made| made.elapsed().ok());
            age.is_some_and(|age| age < Duration::from_secs(30 * 24 * 3600))
        };
        if !is_young(&folder.join("localhost.pem")) {
            // Beside it and then in its place, as another run of the tests may do the same.
            let beside = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory").keep();
            dev_cert::make(&beside, &["localhost".to_owned()]).expect("made");
            _ = fs::remove_dir_all(&folder);
            if fs::rename(&beside, &folder).is_err() {
                _ = fs::remove_dir_all(&beside);
            }
        }
        folder
    })
}

/// Waits until something is so, as things between servers take a moment.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let began = std::time::Instant::now();
    loop {
        // Now and then a peer never answers (Synapse a sync): that is one look, and not the end of all looking.
        if let Ok(Some(found)) = tokio::time::timeout(PATIENCE / 5, look()).await {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "it never came: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What a [`Peer`] answers to what it is asked.
pub type Answering = Arc<dyn Fn(&Asked) -> (u16, Value) + Send + Sync>;

/// What a [`Peer`] answers.
#[derive(Clone)]
pub enum Says {
    /// A status and JSON.
    Json(u16, Value),
    /// The same, depending on what it is asked.
    Answer(Answering),
    /// These bytes, head and all, and then the end of the connection.
    Bytes(Vec<u8>),
    /// These bytes, and then the last of them again and again.
    Endless(Vec<u8>),
    /// These bytes, and then a space now and then for ever.
    Trickle(Vec<u8>),
    /// Nothing, without hanging up.
    Silence,
    /// Nothing, until it is said to answer otherwise.
    Wait,
}

/// A request that a [`Peer`] has got.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The method.
    pub method: String,
    /// Path and query, as sent.
    pub uri: String,
    /// Headers, with names in small letters.
    pub headers: HashMap<String, String>,
    /// The body; null if it is none.
    pub body: Value,
}

impl Asked {
    /// Whether it is a transaction with nothing in it: a server says that it is there again.
    fn is_greeting(&self) -> bool {
        self.uri.starts_with("/_matrix/federation/v1/send/")
            && self.body["pdus"].as_array().is_some_and(Vec::is_empty)
            && self.body.get("edus").is_none()
    }
}

/// A server of the test's own: it has a name, a key and a TLS listener, answers what it is told to, and
/// remembers what it was asked.
pub struct Peer {
    /// Who it is.
    pub me: Arc<Identity>,
    answers: Answers,
    asked: Arc<Mutex<Vec<Asked>>>,
    listening: tokio::task::JoinHandle<()>,
    _dir: TempDir,
}

pub(super) type Answers = Arc<Mutex<Vec<(String, Says)>>>;

impl Drop for Peer {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Peer {
    /// Answers with its keys, and 404 otherwise.
    pub async fn start() -> Self {
        let folder = certificates();
        Self::start_with(&folder.join("localhost.pem"), &folder.join("localhost-key.pem")).await
    }

    /// The same with another certificate.
    pub async fn start_with(certificate: &Path, key: &Path) -> Self {
        let dir = TempDir::new().expect("a directory");
        let listener = listener();
        listener.set_nonblocking(true).expect("a socket");
        let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
        let name = format!("localhost:{}", listener.local_addr().expect("an address").port());
        let me = Identity {
            name: ServerName::parse(name).expect("a name"),
            key: SigningKey::load_or_create(&dir.path().join("signing.key")).expect("made"),
        };
        let (answers, asked) = (Answers::default(), Arc::<Mutex<Vec<Asked>>>::default());
        let tls = acceptor(certificate, key);
        let served = (answers.clone(), asked.clone());
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, (answers, asked)) = (tls.clone(), served.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = tls.accept(stream).await {
                        // Whoever asks may hang up whenever they like.
                        _ = serve(BufReader::new(stream), answers, asked).await;
                    }
                });
            }
        });
        let peer = Self { me: Arc::new(me), answers, asked, listening, _dir: dir };
        peer.says("/_matrix/key/v2/server", Says::Json(200, peer.keys()));
        peer
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.me.name.as_str()
    }

    /// What it says of its keys, signed.
    pub fn keys(&self) -> Value {
        serde_json::to_value(server_keys::publish(&self.me).expect("made")).expect("JSON")
    }

    /// Adds its signature to an object.
    pub fn sign(&self, object: Value) -> Value {
        let mut object: CanonicalJsonObject = serde_json::from_value(object).expect("canonical");
        server_keys::sign(&self.me, &mut object).expect("signed");
        serde_json::to_value(object).expect("JSON")
    }

    /// From now on it answers so where the path begins so; what was said last counts.
    pub fn says(&self, path: &str, answer: Says) {
        self.answers.lock().expect("a lock").insert(0, (path.to_owned(), answer));
    }

    /// What it was asked where the path begins so, but for being told that a server is there again.
    pub fn asked(&self, path: &str) -> Vec<Asked> {
        let asked = self.asked.lock().expect("a lock");
        asked.iter().filter(|asked| asked.uri.starts_with(path) && !asked.is_greeting()).cloned().collect()
    }

    /// How often it was told that a server is there again.
    pub fn greeted(&self) -> usize {
        self.asked.lock().expect("a lock").iter().filter(|asked| asked.is_greeting()).count()
    }

    /// The header that proves that a request is its own.
    pub fn authorization(&self, to: &str, method: &Method, uri: &str, body: Option<&Value>) -> String {
        let body = body.map(|body| serde_json::to_vec(body).expect("JSON")).unwrap_or_default();
        let (uri, to) = (uri.parse().expect("a URI"), ServerName::parse(to).expect("a name"));
        let signed = remote::signed_part(method, &uri, &self.me.name, &to, &body).expect("JSON");
        let signature = STANDARD_NO_PAD.encode(self.me.key.sign(signed.as_bytes()).as_bytes());
        let (origin, key) = (&self.me.name, self.me.key.id());
        format!("X-Matrix origin=\"{origin}\",destination=\"{to}\",key=\"{key}\",sig=\"{signature}\"")
    }

    /// Asks a server, signed.
    pub async fn ask(&self, server: &Server, method: Method, uri: &str, body: Option<Value>) -> Answer {
        let authorization = self.authorization(&server.name, &method, uri, body.as_ref());
        ask_as(server, &authorization, method, uri, body).await
    }
}

/// Asks a server with any `Authorization` header.
pub async fn ask_as(server: &Server, authorization: &str, method: Method, uri: &str, body: Option<Value>) -> Answer {
    let mut request = client().request(method, format!("{}{uri}", server.url)).header("authorization", authorization);
    if let Some(body) = body {
        request = request.json(&body);
    }
    server.guest().send_request(request).await
}

/// TLS by a certificate and its key.
pub fn acceptor(certificate: &Path, key: &Path) -> TlsAcceptor {
    let chain =
        CertificateDer::pem_file_iter(certificate).expect("a file").collect::<Result<Vec<_>, _>>().expect("PEM");
    let key = PrivateKeyDer::from_pem_file(key).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("known");
    Arc::new(config.with_no_client_auth().with_single_cert(chain, key).expect("they fit")).into()
}

/// Listens at an address, from now on. Whoever it speaks to is hung up on when this is ended.
pub(super) async fn listen<F: Future<Output = io::Result<()>> + Send + 'static>(
    address: SocketAddr,
    serve: impl Fn(BufReader<TcpStream>) -> F + Send + 'static,
) -> JoinHandle<()> {
    let listener = tokio::net::TcpListener::bind(address).await.expect("still free");
    tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(serve(BufReader::new(stream)));
        }
    })
}

pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: BufReader<S>,
    answers: Answers,
    seen: Arc<Mutex<Vec<Asked>>>,
) -> io::Result<()> {
    while let Some(asked) = s3::read(&mut stream).await? {
        let asked = Asked {
            method: asked.method,
            uri: asked.uri,
            headers: asked.headers,
            body: serde_json::from_slice(&asked.body).unwrap_or_default(),
        };
        let path = asked.uri.clone();
        seen.lock().expect("a lock").push(asked.clone());
        let said = loop {
            let said = answers.lock().expect("a lock").iter().find(|(begin, _)| path.starts_with(begin)).cloned();
            match said {
                Some((_, Says::Wait)) => tokio::time::sleep(Duration::from_millis(20)).await,
                Some((_, Says::Answer(answer))) => {
                    let (status, body) = answer(&asked);
                    break Says::Json(status, body);
                }
                Some((_, said)) => break said,
                None => break Says::Json(404, json!({"errcode": "M_UNRECOGNIZED", "error": "?"})),
            }
        };
        match said {
            Says::Json(status, body) => {
                let body = body.to_string();
                let head = format!(
                    "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                stream.write_all((head + &body).as_bytes()).await?;
                stream.flush().await?;
            }
            Says::Bytes(bytes) => {
                stream.write_all(&bytes).await?;
                return stream.shutdown().await;
            }
            Says::Endless(bytes) => {
                stream.write_all(&bytes).await?;
                let more = vec![bytes.last().copied().unwrap_or(b' '); 64 * 1024];
                loop {
                    stream.write_all(&more).await?;
                }
            }
            Says::Trickle(bytes) => {
                stream.write_all(&bytes).await?;
                loop {
                    stream.write_all(b" ").await?;
                    stream.flush().await?;
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
            }
            Says::Silence | Says::Wait | Says::Answer(_) => std::future::pending().await,
        }
    }
    Ok(())
}
