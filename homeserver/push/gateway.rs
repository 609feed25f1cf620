//! Telling a gateway something: one request, and what its answer means. Whatever the gateway does, it takes
//! a bounded time and memory. spec: push-gateway-api#post_matrixpushv1notify

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::{Method, header};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Url;

use crate::outside::{self, Client};

/// How long a gateway may take to answer.
const TIME: Duration = Duration::from_secs(15);
/// Bytes of an answer at most.
const MAX_ANSWER: usize = 64 * 1024;
/// Requests at once in all, and to one host: a gateway that is slow holds up its own pushers alone.
const AT_ONCE: usize = 256;
const AT_ONCE_TO_HOST: usize = 32;
/// Where a gateway takes notifications.
const PATH: &str = "/_matrix/push/v1/notify";
/// Bytes of a URL at most.
const MAX_URL: usize = 2048;

/// What a gateway answered.
pub enum Answer {
    /// It has taken it, and knows these pushkeys no more.
    Taken { status: u16, rejected: Vec<String> },
    /// It could not be told.
    Failed { status: Option<u16>, error: String, refused: bool, wait: Option<u64> },
}

/// The way to all gateways.
pub struct Gateways {
    client: Client,
    places: Arc<Semaphore>,
    hosts: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// Says why a URL can't be that of a gateway. A name is looked up only when the gateway is called.
pub fn check(client: &Client, url: &str) -> Result<(), String> {
    if url.len() > MAX_URL {
        return Err(format!("a URL has {MAX_URL} bytes at most"));
    }
    let parsed = Url::parse(url).map_err(|_| "this is not a URL".to_owned())?;
    if parsed.scheme() != "https" || parsed.path() != PATH {
        return Err(format!("the URL of a push gateway is an https URL with the path {PATH}"));
    }
    if !parsed.username().is_empty() || parsed.password().is_some() || parsed.fragment().is_some() {
        return Err("the URL of a push gateway holds no name, password or fragment".to_owned());
    }
    client.request(Method::POST, url).map(drop)
}

/// The host of a gateway, with its port if that is not the usual one.
pub fn host(url: &str) -> String {
    let Ok(url) = Url::parse(url) else { return String::new() };
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

impl Gateways {
    pub fn new(client: Client) -> Self {
        Self { client, places: Arc::new(Semaphore::new(AT_ONCE)), hosts: Mutex::default() }
    }

    pub fn check(&self, url: &str) -> Result<(), String> {
        check(&self.client, url)
    }

    /// Waits until a gateway may be called.
    pub async fn enter(&self, url: &str) -> Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)> {
        let gate = {
            let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
            // Nobody holds or awaits a place of the others.
            hosts.retain(|_, gate| Arc::strong_count(gate) > 1);
            let fresh = || Arc::new(Semaphore::new(AT_ONCE_TO_HOST));
            hosts.entry(host(url)).or_insert_with(fresh).clone()
        };
        // The host's first: who waits for a slow one holds no place that others could have.
        let of_host = gate.acquire_owned().await.ok()?;
        Some((of_host, self.places.clone().acquire_owned().await.ok()?))
    }

    /// Tells a gateway something.
    pub async fn tell(&self, url: &str, body: &Value) -> Answer {
        let failed = |status, error| Answer::Failed { status, error, refused: false, wait: None };
        match tokio::time::timeout(TIME, self.ask(url, body)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err((status, error))) => {
                tracing::debug!(gateway = host(url), error, "a push gateway can't be told something");
                // What a name stands for, inside of our network too, is not for whoever set the pusher.
                failed(status, error.split(": ").next().unwrap_or_default().to_owned())
            }
            Err(_) => failed(None, "no answer in time".to_owned()),
        }
    }

    async fn ask(&self, url: &str, body: &Value) -> Result<Answer, (Option<u16>, String)> {
        #[derive(Deserialize)]
        struct Said {
            rejected: Vec<String>,
        }
        let request = self.client.request(Method::POST, url).map_err(|error| (None, error))?;
        let request = request.header(header::CONTENT_TYPE, "application/json").body(body.to_string());
        let response = request.send().await.map_err(|error| (None, outside::explain(&error)))?;
        let status = response.status();
        let code = Some(status.as_u16());
        if !status.is_success() {
            let wait = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            let wait = wait.map(|seconds: u64| seconds.saturating_mul(1000));
            let refused = status.is_client_error() && !matches!(status.as_u16(), 408 | 429);
            return Ok(Answer::Failed { status: code, error: format!("it answered {status}"), refused, wait });
        }
        let bytes = outside::read(response, MAX_ANSWER).await.map_err(|error| (code, error))?;
        let said: Said = serde_json::from_slice(&bytes).map_err(|_| (code, "its answer makes no sense".to_owned()))?;
        Ok(Answer::Taken { status: status.as_u16(), rejected: said.rejected })
    }
}
