//! Calling out. Every request to another machine goes through a [`Client`], which calls only addresses
//! that are permitted, whatever a name resolves to, and trusts the authorities of the web and those of the
//! settings. Owns names, addresses and TLS towards others; knows nothing of what is said to them.

mod dns;
mod tls;

use std::{fmt, future::Future, io, net::SocketAddr, path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::Method;
use reqwest::{
    RequestBuilder, Response, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect::{Attempt, Policy},
};

use crate::base::address::Permitted;

pub use dns::Service;
#[cfg(test)]
pub use dns::World;

/// A connection has to stand, with TLS, within this time.
const CONNECT: Duration = Duration::from_secs(10);
/// The store of files says nothing for so long at most, also while it is sent a part of a file: lines to it may
/// be slow.
const STALLED: Duration = Duration::from_secs(60);
/// Connections that nobody used for so long are closed.
const IDLE: Duration = Duration::from_secs(90);
/// Connections to one host that are kept open at most while nobody uses them. HTTP/2 needs one.
const IDLE_OF_HOST: usize = 4;
/// After how long a silence whoever has an HTTP/2 request of ours is asked whether it is there at all, and how
/// long it may take to say so: of a machine that is gone without a word the next request would be asked over the
/// same connection, for as long as TCP believes in it.
const ASKED_AFTER: Duration = Duration::from_secs(5);
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
/// How often a request may be sent elsewhere, where that is followed at all.
const MAX_REDIRECTS: usize = 5;
/// The largest head of an answer over HTTP/2. Over HTTP/1.1 hyper has bounds of its own.
const MAX_HEAD: u32 = 64 * 1024;

/// What we are called in requests.
const AGENT: &str = concat!("Hearth/", env!("CARGO_PKG_VERSION"));

/// Why a call failed, for the log and for people.
pub type Result<T, E = String> = std::result::Result<T, E>;

/// What calls need: names, permitted addresses, trust. Clones share it.
#[derive(Clone)]
pub struct Outside {
    dns: Arc<dns::Dns>,
    permitted: Arc<Permitted>,
    tls: rustls::ClientConfig,
}

/// What [`Find`] answers.
pub type Found = Pin<Box<dyn Future<Output = Result<Vec<SocketAddr>>> + Send>>;
/// Where a name is. A port of 0 is the usual one.
pub type Find = Arc<dyn Fn(String) -> Found + Send + Sync>;

impl Outside {
    /// With these files of authorities to trust beside those of the web.
    pub fn new(permitted: Permitted, trust: &[PathBuf]) -> Result<Self> {
        Ok(Self { dns: Arc::default(), permitted: Arc::new(permitted), tls: tls::client(trust)? })
    }

    /// In a world where these names, and services of names, are there and no others.
    #[cfg(test)]
    pub fn within(world: dns::World, permitted: Permitted, trust: &[PathBuf]) -> Result<Self> {
        Ok(Self { dns: Arc::new(dns::Dns::within(world)), permitted: Arc::new(permitted), tls: tls::client(trust)? })
    }

    /// A client that finds hosts as usual.
    pub fn client(&self) -> Result<Client> {
        self.client_that_finds(self.by_address())
    }

    /// A client that finds hosts its own way. What is found is judged here all the same.
    pub fn client_that_finds(&self, find: Find) -> Result<Client> {
        let finder = Finder { find, permitted: self.permitted.clone() };
        let built = self.builder(finder).redirect(Policy::none()).build();
        self.made(built)
    }

    /// A client that goes where an answer sends it, a few times, by HTTPS alone.
    pub fn client_that_follows(&self) -> Result<Client> {
        let permitted = self.permitted.clone();
        let policy = Policy::custom(move |attempt: Attempt| {
            let refused = check(&permitted, attempt.url()).err();
            match refused {
                Some(why) => attempt.error(why),
                None if attempt.previous().len() > MAX_REDIRECTS => attempt.error("too many redirects"),
                None => attempt.follow(),
            }
        });
        let finder = Finder { find: self.by_address(), permitted: self.permitted.clone() };
        self.made(self.builder(finder).redirect(policy).build())
    }

    /// A client for addresses that stand in the settings: they are called as they are, found as this machine
    /// finds them, and led nowhere else by an answer. Nobody but the administrator names them.
    pub fn client_of_settings(&self) -> Result<Direct> {
        let built = self.plain().redirect(Policy::none()).pool_max_idle_per_host(IDLE_OF_HOST).build();
        Ok(Direct { http: built.map_err(|error| format!("can't set up calls to application services: {error}"))? })
    }

    /// A client for the store of files that stands in the settings, which is called as it is.
    pub fn client_of_store(&self) -> Result<reqwest::Client> {
        let built = self.plain().redirect(Policy::none()).read_timeout(STALLED).build();
        built.map_err(|error| format!("can't set up calls to the store of files: {error}"))
    }

    fn by_address(&self) -> Find {
        let dns = self.dns.clone();
        Arc::new(move |name| {
            let dns = dns.clone();
            Box::pin(async move { dns.sites(&name).await })
        })
    }

    fn builder(&self, finder: Finder) -> reqwest::ClientBuilder {
        self.plain()
            .dns_resolver(finder)
            .pool_max_idle_per_host(IDLE_OF_HOST)
            .tcp_keepalive(Duration::from_secs(60))
            .http2_max_header_list_size(MAX_HEAD)
            .http2_adaptive_window(true)
            .http2_keep_alive_interval(ASKED_AFTER)
            .http2_keep_alive_timeout(ANSWERED_WITHIN)
    }

    /// What all clients have in common.
    fn plain(&self) -> reqwest::ClientBuilder {
        reqwest::Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .no_proxy()
            .referer(false)
            .retry(reqwest::retry::never())
            .user_agent(AGENT)
            .connect_timeout(CONNECT)
            .pool_idle_timeout(IDLE)
            .tcp_nodelay(true)
    }

    fn made(&self, built: reqwest::Result<reqwest::Client>) -> Result<Client> {
        let http = built.map_err(|error| format!("can't set up calls to other servers: {error}"))?;
        Ok(Client { http, permitted: self.permitted.clone() })
    }

    /// The addresses of a host.
    pub async fn addresses(&self, host: &str) -> Result<Vec<std::net::IpAddr>> {
        self.dns.addresses(host).await
    }

    /// Where a service of a name is, by SRV records, the preferred first. None if there are no records.
    pub async fn services(&self, service: &str, name: &str) -> Result<Option<Vec<Service>>> {
        self.dns.services(service, name).await
    }
}

/// Makes requests to addresses that are permitted.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    permitted: Arc<Permitted>,
}

impl Client {
    /// A request to an `https` URL.
    pub fn request(&self, method: Method, url: &str) -> Result<RequestBuilder> {
        let url = Url::parse(url).map_err(|error| format!("{url:?} is not a URL: {error}"))?;
        check(&self.permitted, &url)?;
        Ok(self.http.request(method, url))
    }
}

/// Makes requests to addresses that the administrator has written down.
#[derive(Clone)]
pub struct Direct {
    http: reqwest::Client,
}

impl Direct {
    /// A request to a URL.
    pub fn request(&self, method: Method, url: &str) -> Result<RequestBuilder> {
        let url = Url::parse(url).map_err(|error| format!("{url:?} is not a URL: {error}"))?;
        Ok(self.http.request(method, url))
    }
}

/// Refuses URLs of other schemes, and with addresses that may not be called: an address needs no
/// resolving, so nobody else would look at it.
fn check(permitted: &Permitted, url: &Url) -> Result<()> {
    if url.scheme() != "https" {
        return Err(format!("{}: is not called, only https: is", url.scheme()));
    }
    let host = url.host_str().ok_or("a URL without a host")?;
    permitted.check_host(host).map_err(|refused| refused.to_string())
}

/// What reqwest asks where a name is. The last word on which addresses are called: whatever it answers is
/// connected to, so a name can't turn into another address in between.
struct Finder {
    find: Find,
    permitted: Arc<Permitted>,
}

impl Resolve for Finder {
    fn resolve(&self, name: Name) -> Resolving {
        let name = name.as_str().to_owned();
        let (found, permitted) = ((self.find)(name.clone()), self.permitted.clone());
        Box::pin(async move {
            let found = tokio::time::timeout(CONNECT, found).await;
            let found = found.unwrap_or_else(|_| Err(format!("the address of {name} did not come in time")));
            let mut refused = None;
            let mut fine = Vec::new();
            for address in found.map_err(io::Error::other)? {
                match permitted.check(address.ip()) {
                    Ok(()) => fine.push(address),
                    Err(why) => refused = Some(why),
                }
            }
            match refused {
                Some(why) if fine.is_empty() => Err(io::Error::other(format!("{name}: {why}")).into()),
                _ => Ok(Box::new(fine.into_iter()) as Addrs),
            }
        })
    }
}

/// The address that a reference on a page leads to. None if it is none.
pub fn join(page: &str, reference: &str) -> Option<String> {
    Url::parse(page).ok()?.join(reference).ok().map(String::from)
}

/// Reads the whole body of an answer, refusing it as soon as it is known to be too long.
pub async fn read(mut response: Response, max: usize) -> Result<Bytes> {
    let too_long = || format!("the answer is longer than {max} bytes");
    if response.content_length().is_some_and(|length| length > max as u64) {
        return Err(too_long());
    }
    let mut held = BytesMut::new();
    while let Some(piece) = response.chunk().await.map_err(|error| explain(&error))? {
        if held.len() + piece.len() > max {
            return Err(too_long());
        }
        held.extend_from_slice(&piece);
    }
    Ok(held.freeze())
}

/// An error with what caused it, down to the bottom, without the URL (which may hold what is private).
pub fn explain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut out = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = plainly(error);
        if !text.is_empty() && !out.ends_with(&text) {
            let separator = if out.is_empty() { "" } else { ": " };
            _ = fmt::Write::write_fmt(&mut out, format_args!("{separator}{text}"));
        }
        next = error.source();
    }
    if out.is_empty() { "the call failed".to_owned() } else { out }
}

/// One error without its causes. What only says that there is one, or is for programmers, is left out.
fn plainly(error: &(dyn std::error::Error + 'static)) -> String {
    if let Some(error) = error.downcast_ref::<reqwest::Error>() {
        return kind(error).to_owned();
    }
    if error.is::<hyper_util::client::legacy::Error>() {
        return String::new();
    }
    match error.downcast_ref::<io::Error>() {
        Some(error) if error.kind() == io::ErrorKind::UnexpectedEof => "the connection was closed".to_owned(),
        _ => error.to_string(),
    }
}

fn kind(error: &reqwest::Error) -> &'static str {
    match error {
        _ if error.is_timeout() => "no answer in time",
        _ if error.is_connect() => "can't connect",
        _ if error.is_redirect() => "sent elsewhere",
        _ if error.is_body() || error.is_decode() => "the answer broke off",
        _ => "",
    }
}
