//! How servers are found: each step of the spec in a small world of names, services and servers.

use std::{collections::BTreeMap, path::Path, sync::Mutex};

use ruma::api::federation::discovery::get_server_version::v1 as get_version;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{
    base::{
        address::Permitted,
        signing::{Identity, SigningKey},
    },
    dev_cert,
    federation::Remote,
    outside::{Service, World},
};

fn name(text: &str) -> OwnedServerName {
    ServerName::parse(text).expect("a name")
}

#[test]
fn names_that_say_where_are_called_there() {
    for (server, url, host) in [
        ("1.2.3.4", "https://1.2.3.4:8448", Some("1.2.3.4")),
        ("1.2.3.4:80", "https://1.2.3.4:80", None),
        ("[2001:db8::1]", "https://[2001:db8::1]:8448", Some("[2001:db8::1]")),
        ("[2001:db8::1]:99", "https://[2001:db8::1]:99", None),
        ("Example.ORG:443", "https://example.org:443", None),
    ] {
        let target = at_once(&name(server)).expect("it says where");
        assert_eq!((&*target.url, target.host.as_deref(), target.by_service), (url, host, false), "{server}");
    }
    assert_eq!(at_once(&name("example.org")), None);
    assert_eq!(by_service(&name("example.org")).url, "https://example.org");
}

#[test]
fn a_delegation_is_kept_as_long_as_it_says_within_bounds() {
    let of = |value: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(header::CACHE_CONTROL, value.parse().expect("a value"));
        life(&headers)
    };
    assert_eq!(life(&HeaderMap::new()), DEFAULT_LIFE);
    assert_eq!(of("public, max-age=3600"), Duration::from_secs(3600));
    assert_eq!(of("Max-Age=99999999"), MAX_LIFE);
    assert_eq!(of("max-age=0"), MIN_LIFE);
    assert_eq!(of("no-store"), MIN_LIFE);
    assert_eq!(of("max-age=never"), DEFAULT_LIFE);
}

#[test]
fn failures_are_tried_again_later_and_later_and_a_good_answer_outlives_them() {
    let mut known = after_failure(None);
    let wait = |known: &Known| known.until - Instant::now();
    assert!(known.delegated.is_none() && wait(&known) <= FIRST_RETRY);
    for _ in 0..40 {
        known = after_failure(Some(known));
        assert!(wait(&known) <= MAX_RETRY);
    }
    assert!(wait(&known) > MAX_RETRY / 2);
    let now = Instant::now();
    let good = Known { delegated: Some(name("a.b:1")), seen: now, until: now, failures: 0 };
    let mut kept = after_failure(Some(good.clone()));
    assert_eq!(kept.delegated, good.delegated);
    let Some(long_ago) = now.checked_sub(MAX_LIFE) else { return };
    kept.seen = long_ago;
    assert_eq!(after_failure(Some(kept)).delegated, None);
}

#[tokio::test]
async fn a_name_on_a_private_address_is_not_called() {
    let outside = Outside::new(Default::default(), &[]).expect("made");
    let client = outside.client_that_finds(find_by_service(&outside)).expect("made");
    let direct = outside.client().expect("made");
    for (client, url) in [(&client, "https://localhost/"), (&direct, "https://localhost:1/")] {
        let error = client.request(Method::GET, url).expect("a name").send().await.expect_err("refused");
        assert!(outside::explain(&error).contains("not on the public Internet"), "{}", outside::explain(&error));
    }
    for url in
        ["https://127.0.0.1/", "https://[::1]:1/", "https://0x7f.1/", "http://example.org/", "https://2130706433/"]
    {
        assert!(direct.request(Method::GET, url).is_err(), "{url}");
    }
}

/// An address that is this machine's and that nobody else listens at.
const FAR: &str = "127.84.48.1";

/// What servers were asked: by the name of their certificate, the `Host` and path.
type Asked = Arc<Mutex<Vec<(String, String, String)>>>;

/// Servers with certificates, and what they were asked.
struct Servers {
    certificates: TempDir,
    asked: Asked,
    world: World,
}

impl Servers {
    fn new() -> Self {
        let certificates = TempDir::new().expect("a directory");
        Self { certificates, asked: Arc::default(), world: World::default() }
    }

    /// A server with the certificate of a name, which answers `.well-known` with `page` and what is asked
    /// of a Matrix server.
    async fn serve(&self, name: &str, address: &str, page: Option<&str>) -> SocketAddr {
        let folder = self.certificates.path();
        dev_cert::make(folder, &[name.to_owned()]).expect("made");
        let tls = acceptor(folder, name);
        let listener = TcpListener::bind(address).await.expect("a free address");
        let bound = listener.local_addr().expect("an address");
        let (asked, name, page) = (self.asked.clone(), name.to_owned(), page.map(str::to_owned));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(stream) = tls.accept(stream).await else { continue };
                let mut stream = BufReader::new(stream);
                let (mut path, mut host) = (String::new(), String::new());
                loop {
                    let mut line = String::new();
                    if stream.read_line(&mut line).await.unwrap_or(0) == 0 || line.trim().is_empty() {
                        break;
                    }
                    if path.is_empty() {
                        path = line.split(' ').nth(1).unwrap_or_default().to_owned();
                    } else if let Some(("host", value)) = line.to_ascii_lowercase().split_once(':') {
                        host = value.trim().to_owned();
                    }
                }
                let answer = match (&page, path.starts_with("/.well-known")) {
                    (Some(page), true) => page.clone(),
                    (None, true) => "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n".to_owned(),
                    (_, false) => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_owned(),
                };
                asked.lock().expect("a lock").push((name.clone(), host, path));
                _ = stream.write_all(answer.as_bytes()).await;
                _ = stream.shutdown().await;
            }
        });
        bound
    }

    /// A site of a name that says who its Matrix server is.
    async fn delegate(&mut self, name: &str, to: &str) {
        let page = format!("{{\"m.server\": \"{to}\"}}");
        let page = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{page}", page.len());
        let site = self.serve(name, "127.0.0.1:0", Some(&page)).await;
        self.world.sites.insert(name.to_owned(), site);
    }

    /// A name that resolves to this machine, and has no site.
    fn resolve(&mut self, name: &str, ip: &str) {
        self.world.sites.insert(name.to_owned(), SocketAddr::new(ip.parse().expect("an address"), 1));
    }

    fn service(&mut self, service: &str, host: &str, port: u16) {
        let at = Service { host: host.to_owned(), port };
        self.world.services.insert(service.to_owned(), vec![at]);
    }

    /// This world, to call out in.
    fn outside(&mut self) -> Outside {
        let trust = [self.certificates.path().join(dev_cert::AUTHORITY)];
        Outside::within(std::mem::take(&mut self.world), Permitted::All, &trust).expect("made")
    }

    /// What calls within it.
    fn remote(&mut self) -> Remote {
        let outside = self.outside();
        let key = SigningKey::load_or_create(&self.certificates.path().join("signing.key")).expect("made");
        Remote::new(Arc::new(Identity { name: name("me.test"), key }), &outside, true).expect("made")
    }

    /// The Matrix requests: certificate to `Host`.
    fn hosts(&self) -> BTreeMap<String, String> {
        let asked = self.asked.lock().expect("a lock");
        asked
            .iter()
            .filter(|asked| asked.2.starts_with("/_matrix"))
            .map(|asked| (asked.0.clone(), asked.1.clone()))
            .collect()
    }
}

fn acceptor(folder: &Path, name: &str) -> TlsAcceptor {
    let file = |end: &str| folder.join(format!("{name}{end}.pem"));
    let chain = vec![CertificateDer::from_pem_file(file("")).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_file(file("-key")).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("known");
    Arc::new(config.with_no_client_auth().with_single_cert(chain, key).expect("they fit")).into()
}

#[tokio::test]
async fn it_is_known_whom_a_page_names_or_why_it_cannot_be_read() {
    let mut servers = Servers::new();
    servers.delegate("three-two.test", "port.test:1234").await;
    let site = servers.serve("two.test", "127.0.0.1:0", None).await;
    servers.world.sites.insert("two.test".to_owned(), site);
    let discovery = Discovery::new(&servers.outside()).expect("made");
    let named = discovery.delegation(&name("three-two.test")).await.expect("a page").expect("read");
    assert_eq!(named, "port.test:1234");
    assert_eq!(through(&name("three-two.test"), Some(&named)).url, "https://port.test:1234");
    let missing = discovery.delegation(&name("two.test")).await.expect("no page");
    assert_eq!(missing, Err("status 404".to_owned()));
    assert!(through(&name("two.test"), None).by_service);
    for needless in ["two.test:8448", "127.0.0.1", "[::1]:1"] {
        assert_eq!(discovery.delegation(&name(needless)).await, None, "{needless}");
    }
}

#[tokio::test]
async fn each_step_leads_to_its_server_with_the_right_certificate_and_host() {
    let mut servers = Servers::new();
    let mut wanted = BTreeMap::new();
    // 1. An IP address, with a port and without.
    let port = servers.serve("127.0.0.1", "127.0.0.1:0", None).await.port();
    let mut names = vec![format!("127.0.0.1:{port}"), FAR.to_owned()];
    wanted.insert("127.0.0.1".to_owned(), format!("127.0.0.1:{port}"));
    servers.serve(FAR, &format!("{FAR}:8448"), None).await;
    wanted.insert(FAR.to_owned(), FAR.to_owned());
    // 2. A name with a port.
    let port = servers.serve("two.test", "127.0.0.1:0", None).await.port();
    servers.resolve("two.test", "127.0.0.1");
    names.push(format!("two.test:{port}"));
    wanted.insert("two.test".to_owned(), format!("two.test:{port}"));
    // 3.2. Delegated to a name with a port.
    let port = servers.serve("port.test", "127.0.0.1:0", None).await.port();
    servers.resolve("port.test", "127.0.0.1");
    servers.delegate("three-two.test", &format!("port.test:{port}")).await;
    names.push("three-two.test".to_owned());
    wanted.insert("port.test".to_owned(), format!("port.test:{port}"));
    servers.resolve("target.test", "127.0.0.1");
    // 3.3 and 3.4. Delegated to a name with a service of the new or the old kind.
    for (step, delegated, service) in
        [("three-three.test", "new.test", "_matrix-fed._tcp"), ("three-four.test", "old.test", "_matrix._tcp")]
    {
        let port = servers.serve(delegated, "127.0.0.1:0", None).await.port();
        servers.service(&format!("{service} {delegated}"), "target.test", port);
        servers.delegate(step, delegated).await;
        names.push(step.to_owned());
        wanted.insert(delegated.to_owned(), delegated.to_owned());
    }
    // 3.5. Delegated to a name alone.
    servers.serve("alone.test", "127.84.48.2:8448", None).await;
    servers.resolve("alone.test", "127.84.48.2");
    servers.delegate("three-five.test", "alone.test").await;
    names.push("three-five.test".to_owned());
    wanted.insert("alone.test".to_owned(), "alone.test".to_owned());
    // 4 and 5. No delegation, but a service.
    for (step, service) in [("four.test", "_matrix-fed._tcp"), ("five.test", "_matrix._tcp")] {
        let port = servers.serve(step, "127.0.0.1:0", None).await.port();
        servers.service(&format!("{service} {step}"), "target.test", port);
        servers.resolve(step, "127.0.0.1");
        names.push(step.to_owned());
        wanted.insert(step.to_owned(), step.to_owned());
    }
    // 6. The name alone.
    servers.serve("six.test", "127.84.48.3:8448", None).await;
    servers.resolve("six.test", "127.84.48.3");
    names.push("six.test".to_owned());
    wanted.insert("six.test".to_owned(), "six.test".to_owned());

    let remote = servers.remote();
    for server in &names {
        remote.call(&name(server), get_version::Request::new()).await.unwrap_or_else(|why| panic!("{server}: {why}"));
    }
    assert_eq!(servers.hosts(), wanted);
}

#[tokio::test]
async fn a_delegation_is_read_once_goes_no_further_and_is_checked_by_its_own_certificate() {
    let mut servers = Servers::new();
    let port = servers.serve("end.test", "127.0.0.1:0", None).await.port();
    servers.service("_matrix-fed._tcp end.test", "end.test", port);
    servers.delegate("begin.test", "middle.test").await;
    servers.delegate("middle.test", "end.test").await;
    servers.delegate("liar.test", &format!("end.test:{port}")).await;
    let site = servers.world.sites["liar.test"];
    servers.world.sites.insert("robbed.test".to_owned(), site);
    servers.resolve("end.test", "127.0.0.1");
    let location = |to: &str| format!("HTTP/1.1 302 X\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
    let page = location("https://liar.test/.well-known/matrix/server");
    let site = servers.serve("sent.test", "127.0.0.1:0", Some(&page)).await;
    servers.world.sites.insert("sent.test".to_owned(), site);
    let round = location("https://round.test/.well-known/matrix/server");
    let site = servers.serve("round.test", "127.0.0.1:0", Some(&round)).await;
    servers.world.sites.insert("round.test".to_owned(), site);

    let remote = servers.remote();
    let call = async |server: &str| remote.call(&name(server), get_version::Request::new()).await;
    assert!(call("begin.test").await.is_err(), "a delegate's own delegation counts for nothing");
    assert!(call("robbed.test").await.is_err(), "the page of another name's certificate counts for nothing");
    assert!(call("round.test").await.is_err(), "round and round");
    for _ in 0..3 {
        call("sent.test").await.expect("a page may be elsewhere");
    }
    let asked = servers.asked.lock().expect("a lock");
    let pages = |of: &str| asked.iter().filter(|asked| asked.0 == of && asked.2.starts_with("/.well")).count();
    assert_eq!((pages("sent.test"), pages("middle.test")), (1, 0));
    assert!(pages("round.test") <= 7);
}
