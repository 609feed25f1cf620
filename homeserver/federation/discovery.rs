//! From a server's name to where it is called, in the order that the spec gives. Owns what is remembered of
//! `.well-known`; knows nothing of what is said once the server is found.
//! spec: server-server-api#resolving-server-names
//!
//! The steps come down to the `Host` that is asked for, which is also the name that the certificate must
//! bear, and to how that host is found: with a port of its own it is looked up as it is, without one by SRV
//! records and then at port 8448.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, Method, header};
use quick_cache::sync::Cache;
use reqwest::Response;
use ruma::{OwnedServerName, ServerName};
use serde::Deserialize;

use super::flights::Flights;
use crate::outside::{self, Client, Find, Outside};

/// Where servers listen unless something says otherwise.
const PORT: u16 = 8448;
/// Delegations that are remembered at most.
const REMEMBERED: usize = 10_000;
/// How long a delegation is good for if it doesn't say, and at most.
const DEFAULT_LIFE: Duration = Duration::from_secs(24 * 3600);
const MAX_LIFE: Duration = Duration::from_secs(48 * 3600);
/// It is not asked for more often than this, whatever it says.
const MIN_LIFE: Duration = Duration::from_secs(5 * 60);
/// How long after a failure it is asked for again: at first, and at most, with doubling in between.
const FIRST_RETRY: Duration = Duration::from_secs(60);
const MAX_RETRY: Duration = Duration::from_secs(3600);
/// The page may have this many bytes, and has to be there within this time.
const MAX_PAGE: usize = 50 * 1024;
const PAGE_TIME: Duration = Duration::from_secs(10);
/// Hosts of SRV records that are looked up at most.
const MAX_SERVICES: usize = 4;

/// Where and how a server is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `https://`, and the host with its port if it has one.
    pub url: String,
    /// The `Host` header, where it is another than follows from the URL.
    pub host: Option<String>,
    /// Whether the host is found by SRV records and port 8448.
    pub by_service: bool,
}

/// Finds servers.
#[derive(Clone)]
pub struct Discovery(Arc<Inner>);

struct Inner {
    pages: Client,
    known: Cache<OwnedServerName, Known>,
    flights: Flights,
}

/// What is known of a host's `.well-known`.
#[derive(Clone)]
struct Known {
    /// Whom it names. None if it has no such page.
    delegated: Option<OwnedServerName>,
    /// When it was last seen.
    seen: Instant,
    /// When to look again.
    until: Instant,
    /// How often in a row it could not be read.
    failures: u32,
}

impl Discovery {
    /// Calls out by `outside`.
    pub fn new(outside: &Outside) -> Result<Self, String> {
        let pages = outside.client_that_follows()?;
        Ok(Self(Arc::new(Inner { pages, known: Cache::new(REMEMBERED), flights: Flights::new(1) })))
    }

    /// Where to call a server.
    ///
    /// 1. An IP address: there, at its port or 8448.
    /// 2. A name with a port: there.
    /// 3. If `.well-known` names another, the same with that one, but for a further `.well-known`.
    /// 4. and 5. By SRV records, the current and then the old.
    /// 6. At port 8448.
    pub async fn target(&self, server: &ServerName) -> Target {
        if let Some(target) = at_once(server) {
            return target;
        }
        through(server, self.delegated(server.to_owned()).await.as_deref())
    }

    /// Whom the `.well-known` of a server names now, or why it can't be read. None if the name needs no such page.
    pub async fn delegation(&self, server: &ServerName) -> Option<Result<OwnedServerName, String>> {
        if at_once(server).is_some() {
            return None;
        }
        Some(self.read_in_time(server).await.map(|(delegated, _)| delegated))
    }

    async fn delegated(&self, server: OwnedServerName) -> Option<OwnedServerName> {
        let fresh = |known: &Known| known.until > Instant::now();
        if let Some(known) = self.0.known.get(&server).filter(fresh) {
            return known.delegated;
        }
        let _place = self.0.flights.enter(&server).await;
        let before = self.0.known.get(&server);
        if let Some(known) = before.clone().filter(fresh) {
            return known.delegated;
        }
        let known = match self.read_in_time(&server).await {
            Ok((delegated, life)) => {
                tracing::debug!(%server, %delegated, "found by .well-known");
                Known { delegated: Some(delegated), seen: Instant::now(), until: Instant::now() + life, failures: 0 }
            }
            Err(why) => {
                tracing::debug!(%server, why, "no .well-known");
                after_failure(before)
            }
        };
        self.0.known.insert(server, known.clone());
        known.delegated
    }

    async fn read_in_time(&self, server: &ServerName) -> Result<(OwnedServerName, Duration), String> {
        let read = tokio::time::timeout(PAGE_TIME, self.read(server)).await;
        read.unwrap_or_else(|_| Err("no answer in time".to_owned()))
    }

    /// Reads the page of a host: whom it names, and for how long.
    async fn read(&self, server: &ServerName) -> Result<(OwnedServerName, Duration), String> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(rename = "m.server")]
            server: OwnedServerName,
        }
        let url = format!("https://{}/.well-known/matrix/server", server.host());
        let request = self.0.pages.request(Method::GET, &url)?;
        let response: Response = request.send().await.map_err(|error| outside::explain(&error))?;
        if response.status() != http::StatusCode::OK {
            return Err(format!("status {}", response.status().as_u16()));
        }
        let life = life(response.headers());
        let page = outside::read(response, MAX_PAGE).await?;
        let Page { server } = serde_json::from_slice(&page).map_err(|error| error.to_string())?;
        Ok((server, life))
    }
}

/// What is known after the page could not be read: what was known, for as long as it may be, and when to try
/// again, with more patience each time.
fn after_failure(before: Option<Known>) -> Known {
    let now = Instant::now();
    let failures = before.as_ref().map_or(0, |known| known.failures);
    let retry = FIRST_RETRY.saturating_mul(1 << failures.min(10)).min(MAX_RETRY);
    let good = before.filter(|known| known.delegated.is_some() && known.seen + MAX_LIFE > now);
    let (delegated, seen) = good.map_or((None, now), |known| (known.delegated, known.seen));
    Known { delegated, seen, until: now + retry, failures: failures + 1 }
}

/// How long an answer may be kept.
fn life(headers: &HeaderMap) -> Duration {
    let control = headers.get(header::CACHE_CONTROL).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut life = DEFAULT_LIFE;
    for directive in control.split(',').map(|directive| directive.trim().to_ascii_lowercase()) {
        match directive.split_once('=') {
            Some(("max-age", seconds)) => {
                life = seconds.trim_matches('"').parse().map_or(life, Duration::from_secs);
            }
            None if ["no-store", "no-cache"].contains(&&*directive) => life = Duration::ZERO,
            _ => {}
        }
    }
    life.clamp(MIN_LIFE, MAX_LIFE)
}

/// Where to call a server whose `.well-known` names another one, or none.
pub fn through(server: &ServerName, delegated: Option<&ServerName>) -> Target {
    let named = delegated.unwrap_or(server);
    at_once(server).or_else(|| at_once(named)).unwrap_or_else(|| by_service(named))
}

/// The target of a name that leaves nothing to find out but addresses.
fn at_once(server: &ServerName) -> Option<Target> {
    let host = server.host().to_ascii_lowercase();
    match server.port() {
        Some(port) => Some(Target { url: format!("https://{host}:{port}"), host: None, by_service: false }),
        None if server.is_ip_literal() => {
            Some(Target { url: format!("https://{host}:{PORT}"), host: Some(host), by_service: false })
        }
        None => None,
    }
}

fn by_service(server: &ServerName) -> Target {
    let host = server.host().to_ascii_lowercase();
    Target { url: format!("https://{host}"), host: None, by_service: true }
}

/// How hosts without a port are found: steps 4 to 6, also for the host that `.well-known` names.
pub fn find_by_service(outside: &Outside) -> Find {
    let outside = outside.clone();
    Arc::new(move |host| {
        let outside = outside.clone();
        Box::pin(async move {
            for service in ["_matrix-fed._tcp", "_matrix._tcp"] {
                let Some(services) = outside.services(service, &host).await? else { continue };
                let mut found = Vec::new();
                let mut failed = None;
                for service in services.iter().take(MAX_SERVICES) {
                    match outside.addresses(&service.host).await {
                        Ok(ips) => found.extend(ips.into_iter().map(|ip| SocketAddr::new(ip, service.port))),
                        Err(why) => failed = Some(why),
                    }
                }
                return match failed {
                    Some(why) if found.is_empty() => Err(why),
                    _ => Ok(found),
                };
            }
            Ok(outside.addresses(&host).await?.into_iter().map(|ip| SocketAddr::new(ip, PORT)).collect())
        })
    })
}

#[cfg(test)]
mod tests;
