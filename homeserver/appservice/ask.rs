//! Calling a service: whether somebody or something is there that it could make, what its networks hold, and
//! whether it can be reached at all. Owns how a call is made and what its failure is called.
//! spec: application-service-api#querying, #third-party-networks, #pinging

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Method, header};
use ruma::{
    OwnedTransactionId, RoomAliasId, UserId,
    api::{
        OutgoingRequest, OutgoingRequestExt,
        appservice::{
            HomeserverToken, ping::send_ping, query::query_room_alias, query::query_user_id, thirdparty::get_protocol,
        },
    },
};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::{Service, Services};
use crate::{
    accounts::users,
    error::{Error, Result},
    outside::{self, Direct},
    rooms::aliases,
    store::Store,
};

/// How long a service may take to answer a question that somebody waits for.
const PATIENCE: Duration = Duration::from_secs(10);
/// The waits after which a service that can't be reached is asked again, while somebody waits: it may be restarting.
const AGAIN: [Duration; 2] = [Duration::from_millis(250), Duration::from_millis(750)];
/// Bytes of an answer at most.
const MAX_ANSWER: usize = 1 << 20;
/// Bytes of an answer that is an error, as somebody is told of it.
const MAX_SHOWN: usize = 1000;
/// Questions that are asked at once at most.
const AT_ONCE: usize = 64;
/// How long it is remembered what a service says of a network.
const REMEMBERED: Duration = Duration::from_secs(60);

/// The beginning of paths, and what stood there before it was part of the spec.
const PREFIX: &str = "/_matrix/app/v1/";

/// Why a call failed.
#[derive(Debug)]
pub enum Failure {
    /// Nobody answered.
    Unreachable(String),
    /// Nobody answered in time.
    TooLate,
    /// The answer was no success: its status, and what it said.
    Status(u16, String),
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => out.write_str(why),
            Self::TooLate => out.write_str("no answer in time"),
            Self::Status(status, _) => write!(out, "answered {status}"),
        }
    }
}

/// Makes calls. Clones share what they share.
#[derive(Clone)]
pub struct Calls(Arc<Inner>);

struct Inner {
    http: Direct,
    places: Semaphore,
    networks: Mutex<HashMap<(String, String), Said>>,
}

/// What a service says of a network, and when it did; by the service and the network.
type Said = (Instant, Option<Value>);

impl Calls {
    pub(super) fn new(http: Direct) -> Self {
        Self(Arc::new(Inner { http, places: Semaphore::new(AT_ONCE), networks: Mutex::default() }))
    }

    /// Puts something there, under the path of old if it is not there under that of now.
    pub(super) async fn put(
        &self,
        service: &Service,
        path: &str,
        body: String,
        patience: Duration,
    ) -> Result<(), Failure> {
        self.call(service, (Method::PUT, path), Bytes::from(body), patience).await.map(drop)
    }

    /// A typed question.
    async fn ask<R>(&self, service: &Service, request: R) -> Result<Bytes, Failure>
    where
        R: OutgoingRequest<Authentication = HomeserverToken>,
        for<'a> R::PathBuilder: ruma::api::path_builder::PathBuilder<Input<'a> = ()>,
    {
        let broken = |error: &dyn fmt::Display| Failure::Unreachable(error.to_string());
        let _place = self.0.places.acquire().await.map_err(|error| broken(&error))?;
        let token = service.told.hs_token.as_str();
        let built = request.try_into_http_request::<Vec<u8>>("http://service", token, ());
        let (head, body) = built.map_err(|error| broken(&error))?.into_parts();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        self.call(service, (head.method, path), Bytes::from(body), PATIENCE).await
    }

    async fn call(
        &self,
        service: &Service,
        (method, path): (Method, &str),
        body: Bytes,
        patience: Duration,
    ) -> Result<Bytes, Failure> {
        let outcome = self.call_at(service, (method.clone(), path), body.clone(), patience).await;
        let old = path.strip_prefix(PREFIX).and_then(|rest| match rest {
            "ping" => None,
            rest if rest.starts_with("thirdparty/") => Some(format!("/_matrix/app/unstable/{rest}")),
            rest => Some(format!("/{rest}")),
        });
        match (&outcome, old) {
            (Err(Failure::Status(404 | 405 | 501, said)), Some(old)) if is_unknown_path(said) => {
                self.call_at(service, (method, &old), body, patience).await
            }
            _ => outcome,
        }
    }

    async fn call_at(
        &self,
        service: &Service,
        (method, path): (Method, &str),
        body: Bytes,
        patience: Duration,
    ) -> Result<Bytes, Failure> {
        let base = service.told.url.as_deref().ok_or_else(|| Failure::Unreachable("it has no address".to_owned()))?;
        let mut request = self.0.http.request(method, &format!("{base}{path}")).map_err(Failure::Unreachable)?;
        request = request.bearer_auth(&service.told.hs_token).timeout(patience);
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json").body(body);
        }
        let response = request.send().await.map_err(|error| match error.is_timeout() {
            true => Failure::TooLate,
            false => Failure::Unreachable(outside::explain(&error)),
        })?;
        let status = response.status();
        let answer = outside::read(response, MAX_ANSWER).await;
        match status.is_success() {
            true => answer.map_err(Failure::Unreachable),
            false => {
                let said = String::from_utf8_lossy(&answer.unwrap_or_default()).chars().take(MAX_SHOWN).collect();
                Err(Failure::Status(status.as_u16(), said))
            }
        }
    }

    fn remembered(&self, key: &(String, String)) -> Option<Option<Value>> {
        let networks = self.0.networks.lock().unwrap_or_else(PoisonError::into_inner);
        networks.get(key).filter(|(at, _)| at.elapsed() < REMEMBERED).map(|(_, value)| value.clone())
    }
}

/// Whether an answer says that there is no such path, and not that there is no such thing.
fn is_unknown_path(said: &str) -> bool {
    let said: Option<Value> = serde_json::from_str(said).ok();
    let errcode = said.as_ref().and_then(|said| said.get("errcode")?.as_str());
    errcode.is_none_or(|errcode| matches!(errcode, "M_UNRECOGNIZED" | "M_UNKNOWN"))
}

impl Services {
    /// Lets the services make somebody who is not here, if they have a claim to that name and want to.
    pub async fn seek_user(&self, store: &Store, user: &UserId) -> Result<()> {
        let claim = |service: &&Arc<Service>| service.told.url.is_some() && service.may_be(user);
        let known = || store.read(|tx| Ok(users::lookup(tx, user)?.is_some()));
        self.seek(claim, known, query_user_id::v1::Request::new(user.to_owned())).await
    }

    /// Lets the services make a room for an alias that leads nowhere, if they have a claim to it and want to.
    pub async fn seek_alias(&self, store: &Store, alias: &RoomAliasId) -> Result<()> {
        let claim = |service: &&Arc<Service>| service.told.url.is_some() && service.has_alias(alias.as_str());
        let known = || store.read(|tx| Ok(aliases::resolve(tx, alias)?.is_some()));
        self.seek(claim, known, query_room_alias::v1::Request::new(alias.to_owned())).await
    }

    /// Asks those that have a claim to something that is not known, until one of them has made it. 408 if it is not
    /// there and not all of them have answered, as one of them might have made it.
    /// spec: application-service-api#querying
    async fn seek<R>(
        &self,
        claim: impl Fn(&&Arc<Service>) -> bool,
        known: impl Fn() -> Result<bool>,
        request: R,
    ) -> Result<()>
    where
        R: OutgoingRequest<Authentication = HomeserverToken> + Clone,
        for<'a> R::PathBuilder: ruma::api::path_builder::PathBuilder<Input<'a> = ()>,
    {
        if !self.all.iter().any(|service| claim(&service)) || known()? {
            return Ok(());
        }
        let mut all_answered = true;
        for service in self.all.iter().filter(claim) {
            match self.is_there(service, &request).await {
                Some(true) => return Ok(()),
                Some(false) => {}
                None => all_answered = false,
            }
        }
        match all_answered || known()? {
            true => Ok(()),
            false => Err(Error::late("the application service that could make this does not answer")),
        }
    }

    /// Whether a service has made something; none if it does not answer.
    async fn is_there<R>(&self, service: &Service, request: &R) -> Option<bool>
    where
        R: OutgoingRequest<Authentication = HomeserverToken> + Clone,
        for<'a> R::PathBuilder: ruma::api::path_builder::PathBuilder<Input<'a> = ()>,
    {
        let mut outcome = self.calls.ask(service, request.clone()).await;
        for wait in AGAIN {
            if !matches!(outcome, Err(Failure::Unreachable(_))) {
                break;
            }
            tokio::time::sleep(wait).await;
            outcome = self.calls.ask(service, request.clone()).await;
        }
        let failure = match outcome {
            Ok(_) => return Some(true),
            Err(Failure::Status(404, _)) => return Some(false),
            Err(failure) => failure,
        };
        let id = &service.told.id;
        tracing::info!(service = id, %failure, "the application service {id} can't be asked what it could make");
        matches!(failure, Failure::Status(..)).then_some(false)
    }

    /// What all services say of a network: one answer, with the instances of all. None if there is no such network.
    pub async fn network(&self, name: &str) -> Option<Value> {
        let mut merged: Option<Value> = None;
        for service in self.leading_to(Some(name)) {
            let Some(mut said) = self.network_of(service, name).await else { continue };
            if let Some(instances) = said.get_mut("instances").and_then(Value::as_array_mut) {
                instances.iter_mut().for_each(|instance| add_id(service, instance));
            }
            let more = said.get("instances").and_then(Value::as_array).cloned().unwrap_or_default();
            match merged.as_mut().map(|merged| merged.get_mut("instances").and_then(Value::as_array_mut)) {
                Some(Some(instances)) => instances.extend(more),
                Some(None) => {}
                None => merged = Some(said),
            }
        }
        merged
    }

    /// What all services say of all of their networks.
    pub async fn networks(&self) -> BTreeMap<String, Value> {
        let mut out = BTreeMap::new();
        for name in self.all.iter().flat_map(|service| &service.told.protocols) {
            if !out.contains_key(name)
                && let Some(said) = self.network(name).await
            {
                out.insert(name.clone(), said);
            }
        }
        out
    }

    async fn network_of(&self, service: &Service, name: &str) -> Option<Value> {
        let key = (service.told.id.clone(), name.to_owned());
        if let Some(said) = self.calls.remembered(&key) {
            return said;
        }
        let answer = self.calls.ask(service, get_protocol::v1::Request::new(name.to_owned())).await;
        let said = answer.ok().and_then(|answer| serde_json::from_slice::<Value>(&answer).ok());
        let said = said.filter(|said| said.get("instances").is_some_and(Value::is_array));
        // No more are kept than registrations name.
        let mut networks = self.calls.0.networks.lock().unwrap_or_else(PoisonError::into_inner);
        networks.insert(key, (Instant::now(), said.clone()));
        said
    }

    /// What the services find that lead to a network, or all: the lists that they answer, as one.
    pub async fn find<R>(&self, network: Option<&str>, request: R) -> Vec<Value>
    where
        R: OutgoingRequest<Authentication = HomeserverToken> + Clone,
        for<'a> R::PathBuilder: ruma::api::path_builder::PathBuilder<Input<'a> = ()>,
    {
        let mut found = Vec::new();
        for service in self.leading_to(network) {
            match self.calls.ask(service, request.clone()).await {
                Ok(answer) => found.extend(serde_json::from_slice::<Vec<Value>>(&answer).unwrap_or_default()),
                Err(failure) => {
                    let id = &service.told.id;
                    tracing::debug!(service = id, %failure, "the application service {id} finds nothing");
                }
            }
        }
        found
    }

    fn leading_to<'a>(&'a self, network: Option<&'a str>) -> impl Iterator<Item = &'a Arc<Service>> {
        self.all.iter().filter(move |service| {
            let mut protocols = service.told.protocols.iter();
            service.told.url.is_some() && protocols.any(|name| network.is_none_or(|network| network == name))
        })
    }

    /// Whether the service can be reached, and how long that takes.
    pub async fn ping(&self, service: &Service, transaction: Option<OwnedTransactionId>) -> Result<Duration, Failure> {
        let began = Instant::now();
        let mut request = send_ping::v1::Request::new();
        request.transaction_id = transaction;
        self.calls.ask(service, request).await?;
        Ok(began.elapsed())
    }
}

/// Gives an instance of a network the name by which its rooms are asked for.
fn add_id(service: &Service, instance: &mut Value) {
    let Some(network) = instance.get("network_id").and_then(Value::as_str).map(str::to_owned) else { return };
    instance["instance_id"] = super::instance_id(&service.told.id, &network).into();
}
