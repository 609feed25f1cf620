//! Who is calling. A [`Session`] and an [`Origin`] can be made nowhere else: whoever holds one has proved
//! who they are.
//!
//! There are two steps: [`Admit::admit`] looks at the head, before anything of the body is read, and says
//! whose body it may be; [`Admit::confirm`] then has the body too, which another server signs.

use std::{future::Future, net::IpAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, header, request::Parts};
use ruma::{
    OwnedDeviceId, OwnedServerName, OwnedUserId, UserId,
    api::{
        auth_scheme::{
            AccessToken, AccessTokenOptional, AppserviceToken, AppserviceTokenOptional, NoAccessToken, NoAuthentication,
        },
        federation::authentication::ServerSignatures,
    },
};

use super::{body::Whose, guests, untyped, websocket, x_matrix::XMatrix};
use crate::{
    accounts::{
        sessions::{self, Found},
        users,
    },
    app::App,
    appservice::{self, Service},
    base::signed_json,
    error::{Error, Result},
    federation::{Federation, Place, remote},
    limits::{self, Bucket},
};

/// Bytes of a signed body that are checked in passing.
const SMALL: usize = 64 * 1024;

/// A local account's session that has shown its access token.
#[derive(Clone, Debug)]
pub struct Session {
    /// Whose.
    pub user: OwnedUserId,
    /// Which.
    pub device: OwnedDeviceId,
    /// Where the call comes from.
    pub ip: IpAddr,
    /// The account is suspended: it may read and tidy up, and nothing else.
    suspended: bool,
    /// The application service that acts as this person.
    pub service: Option<Arc<Service>>,
    proof: std::marker::PhantomData<Proof>,
}

impl Session {
    /// Refuses what only a device can do to an application service that has not said as which it acts. 400
    /// `M_MISSING_PARAM`.
    pub fn needs_device(&self) -> Result<()> {
        match self.device.as_str() {
            "" => Err(Error::missing_param("this takes a device: name one by device_id")),
            _ => Ok(()),
        }
    }

    /// Refuses what belongs to somebody else. 403 `M_FORBIDDEN`.
    pub fn owns(&self, user: &UserId) -> Result<()> {
        match self.user == user {
            true => Ok(()),
            false => Err(Error::forbidden("this is another person's")),
        }
    }

    /// Refuses what a suspended account may not do. 403 `M_USER_SUSPENDED`.
    /// spec: client-server-api#account-suspension
    pub fn may_act(&self) -> Result<()> {
        match self.suspended {
            false => Ok(()),
            true => Err(suspended()),
        }
    }
}

/// What who is suspended is told. spec: client-server-api#account-suspension
pub fn suspended() -> Error {
    Error::forbidden_as("M_USER_SUSPENDED", "this account is suspended and can't do this now")
}

/// Another server, which has signed its request.
#[derive(Clone)]
pub struct Origin {
    /// Its name.
    pub server: OwnedServerName,
    /// Where the call comes from.
    pub ip: IpAddr,
    /// It has only so many requests under way at once.
    _place: Arc<Place>,
    proof: std::marker::PhantomData<Proof>,
}

impl Origin {
    /// Refuses what is another server's to ask. 403 `M_FORBIDDEN`.
    pub fn owns(&self, user: &UserId) -> Result<()> {
        match user.server_name() == self.server {
            true => Ok(()),
            false => Err(Error::forbidden(format!("{user} is not of {}", self.server))),
        }
    }
}

/// A server that says who it is, and whose key is known: its signature is still to be checked.
pub struct Claimed {
    said: XMatrix,
    /// The public half of the key that it says it has signed with.
    key: String,
    me: OwnedServerName,
    ip: IpAddr,
    /// Until it is known whose request it is.
    reading: Place,
    federation: Arc<Federation>,
}

/// Private to this file, and so is the making of what holds it.
#[derive(Clone, Debug)]
struct Proof;

/// Somebody who has not said who they are.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// Where the call comes from.
    pub ip: IpAddr,
    /// It was made by a page of another site, or came through a proxy: whoever is behind it need not be on
    /// this machine, although the connection is.
    pub from_elsewhere: bool,
}

impl Caller {
    fn new(app: &App, headers: &HeaderMap, peer: Peer) -> Self {
        let proxied = headers.contains_key("x-forwarded-for") || headers.contains_key(header::FORWARDED);
        let from_elsewhere = proxied || !websocket::is_from_this_machine(headers, &app.config.server_name);
        Self { ip: peer.ip, from_elsewhere }
    }
}

/// Somebody who signs in or registers.
#[derive(Clone, Debug)]
pub struct Applicant {
    /// From where.
    pub caller: Caller,
    /// The application service that it is, by its token.
    service: Option<Arc<Service>>,
    has_token: bool,
}

impl Applicant {
    /// The application service that it says it is. 401 if its token does not prove it.
    pub fn service(&self) -> Result<Arc<Service>> {
        match &self.service {
            Some(service) => Ok(service.clone()),
            None if self.has_token => Err(Error::unknown_token(false)),
            None => Err(Error::missing_token()),
        }
    }
}

/// The address of the other end, put into each request's extensions by `server.rs`.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    ip: IpAddr,
    /// The request ends a session, which also those may whose account is locked.
    leaves: bool,
    /// The request is for something that guests may do too.
    suits_guests: bool,
    /// The request only reads.
    reads: bool,
}

impl Peer {
    /// The other end at an address.
    pub fn at(ip: IpAddr) -> Self {
        Self { ip, leaves: false, suits_guests: false, reads: false }
    }

    /// The address that a request carries.
    pub fn of<B>(request: &Request<B>) -> Self {
        let peer = request.extensions().get().copied().unwrap_or(Self::at(IpAddr::from([0, 0, 0, 0])));
        let path = request.uri().path();
        Self {
            leaves: path.ends_with("/logout") || path.ends_with("/logout/all"),
            suits_guests: guests::may(request.method(), path),
            reads: matches!(*request.method(), Method::GET | Method::HEAD),
            ..peer
        }
    }
}

/// What the spec's authentication scheme gives a handler.
pub trait Admit {
    /// The scheme in a word, for the table in `spec/`.
    const WHO: &'static str;
    /// What the head says of who is calling.
    type Claim: Send;
    /// Who the handler is told is calling.
    type Caller: Send;
    /// Reads it, or refuses.
    fn admit(app: &App, head: &Parts, peer: Peer) -> impl Future<Output = Result<Self::Claim>> + Send;
    /// Whose body theirs is.
    fn whose(_: &Self::Claim) -> Whose {
        Whose::Stranger
    }
    /// Proves it by the whole request, where the head alone doesn't.
    fn confirm(claim: Self::Claim, head: &Parts, body: &Bytes) -> impl Future<Output = Result<Self::Caller>> + Send;
}

impl Admit for AccessToken {
    const WHO: &'static str = "token";
    type Claim = Session;
    type Caller = Session;
    async fn admit(app: &App, head: &Parts, peer: Peer) -> Result<Session> {
        let token = bearer(&head.headers).ok_or_else(Error::missing_token)?;
        anyones(app, token, head, peer).await
    }
    fn whose(_: &Session) -> Whose {
        Whose::Account
    }
    async fn confirm(caller: Self::Claim, _: &Parts, _: &Bytes) -> Result<Self::Caller> {
        Ok(caller)
    }
}

impl Admit for AccessTokenOptional {
    const WHO: &'static str = "optional";
    type Claim = (Caller, Option<Session>);
    type Caller = (Caller, Option<Session>);
    async fn admit(app: &App, head: &Parts, peer: Peer) -> Result<Self::Claim> {
        let session = match bearer(&head.headers) {
            Some(token) => match anyones(app, token, head, peer).await {
                // A guest is a stranger where strangers may come too.
                Err(error) if error.errcode() == FOR_MEMBERS => None,
                session => Some(session?),
            },
            None => None,
        };
        Ok((Caller::new(app, &head.headers, peer), session))
    }
    fn whose((_, session): &Self::Claim) -> Whose {
        session.as_ref().map_or(Whose::Stranger, |_| Whose::Account)
    }
    async fn confirm(caller: Self::Claim, _: &Parts, _: &Bytes) -> Result<Self::Caller> {
        Ok(caller)
    }
}

/// Signing in and registering: by an application service, or by a stranger, whose other token proves nothing.
impl Admit for AppserviceTokenOptional {
    const WHO: &'static str = "none";
    type Claim = Applicant;
    type Caller = Applicant;
    async fn admit(app: &App, head: &Parts, peer: Peer) -> Result<Applicant> {
        let token = bearer(&head.headers);
        let service = token.and_then(|token| app.services.by_token(token)).cloned();
        Ok(Applicant { caller: Caller::new(app, &head.headers, peer), service, has_token: token.is_some() })
    }
    async fn confirm(caller: Self::Claim, _: &Parts, _: &Bytes) -> Result<Self::Caller> {
        Ok(caller)
    }
}

/// An application service, as the one of its people that it names.
impl Admit for AppserviceToken {
    const WHO: &'static str = "service";
    type Claim = (Session, Arc<Service>);
    type Caller = (Session, Arc<Service>);
    async fn admit(app: &App, head: &Parts, peer: Peer) -> Result<Self::Claim> {
        let session = AccessToken::admit(app, head, peer).await?;
        let service = session.service.clone().ok_or_else(|| Error::forbidden("this is for application services"))?;
        Ok((session, service))
    }
    fn whose(_: &Self::Claim) -> Whose {
        Whose::Account
    }
    async fn confirm(caller: Self::Claim, _: &Parts, _: &Bytes) -> Result<Self::Caller> {
        Ok(caller)
    }
}

impl Admit for NoAccessToken {
    const WHO: &'static str = "none";
    type Claim = Caller;
    type Caller = Caller;
    async fn admit(app: &App, head: &Parts, peer: Peer) -> Result<Caller> {
        Ok(Caller::new(app, &head.headers, peer))
    }
    async fn confirm(caller: Self::Claim, _: &Parts, _: &Bytes) -> Result<Self::Caller> {
        Ok(caller)
    }
}

impl Admit for NoAuthentication {
    const WHO: &'static str = "none";
    type Claim = Caller;
    type Caller = Caller;
    async fn admit(app: &App, head: &Parts, peer: Peer) -> Result<Caller> {
        Ok(Caller::new(app, &head.headers, peer))
    }
    async fn confirm(caller: Self::Claim, _: &Parts, _: &Bytes) -> Result<Self::Caller> {
        Ok(caller)
    }
}

/// Another server. The key is had before the body is read, so that who has no server can't make us read.
/// spec: server-server-api#request-authentication
impl Admit for ServerSignatures {
    const WHO: &'static str = "server";
    type Claim = Claimed;
    type Caller = Origin;
    async fn admit(app: &App, head: &Parts, peer: Peer) -> Result<Claimed> {
        claim(app, &head.headers, peer).await
    }
    fn whose(_: &Claimed) -> Whose {
        Whose::Server
    }
    async fn confirm(claimed: Claimed, head: &Parts, body: &Bytes) -> Result<Origin> {
        origin(claimed, head, body).await
    }
}

/// What the head of a request says of the server that makes it. 401 `M_UNAUTHORIZED` if it says nothing, is
/// meant for another server than this, or its key can't be had.
pub async fn claim(app: &App, headers: &HeaderMap, peer: Peer) -> Result<Claimed> {
    let said = XMatrix::of(headers).map_err(|why| Error::unauthorized("M_UNAUTHORIZED", why))?;
    let me = &app.me.name;
    let refused = |why: &str| {
        app.federation.strangers.complain(peer.ip, &said.origin, why);
        Err(Error::unauthorized("M_UNAUTHORIZED", why.to_owned()))
    };
    if said.destination.as_ref().is_some_and(|destination| destination != me) {
        return refused("this request is meant for another server");
    }
    if said.origin == *me {
        return refused("this server does not ask itself");
    }
    let keyring = &app.federation.keyring;
    if !keyring.knows(&said.origin, &said.key)? {
        app.limits.take(Bucket::NewServer, limits::address(peer.ip))?;
    }
    // Nobody knows yet whose request it is: who only names a server takes no place of that server's.
    let reading = app.federation.reading.enter(&limits::address(peer.ip)).await;
    let Some(key) = keyring.request_key(&said.origin, &said.key).await? else {
        return refused(&format!("the key {} of {} can't be had or is no longer good", said.key, said.origin));
    };
    let federation = app.federation.clone();
    Ok(Claimed { said, key, me: me.clone(), ip: peer.ip, reading, federation })
}

/// The server whose signature a request bears. 400 `M_NOT_JSON` for a body that is none, 401
/// `M_UNAUTHORIZED` for a signature that is not over this request.
pub async fn origin(claimed: Claimed, head: &Parts, body: &Bytes) -> Result<Origin> {
    let Claimed { said, key, me, ip, reading, federation } = claimed;
    let (method, uri, body, server) = (head.method.clone(), head.uri.clone(), body.clone(), said.origin.clone());
    let size = body.len();
    let check = move || -> Result<bool> {
        let message = remote::signed_part(&method, &uri, &said.origin, &me, &body).map_err(Error::not_json)?;
        Ok(signed_json::verify(&message, &said.sig, &key))
    };
    // What takes more than a moment keeps no other request waiting.
    let good =
        if size > SMALL { tokio::task::spawn_blocking(check).await.map_err(Error::internal)?? } else { check()? };
    match good {
        true => {
            drop(reading);
            let place = federation.inbound.enter(&server).await;
            federation.outbox.heard(&server);
            Ok(Origin { server, ip, _place: Arc::new(place), proof: std::marker::PhantomData })
        }
        false => {
            let why = "the signature is not over this request";
            federation.strangers.complain(ip, &server, why);
            Err(Error::unauthorized("M_UNAUTHORIZED", why))
        }
    }
}

/// The session that an access token stands for, or an application service's token and the query with it.
async fn anyones(app: &App, token: &str, head: &Parts, peer: Peer) -> Result<Session> {
    match app.services.by_token(token) {
        Some(service) => assumed(app, service, head.uri.query().unwrap_or_default(), peer).await,
        None => session(app, token, peer).await,
    }
}

/// The session in which an application service acts as one of its people, whom the query names, on the device
/// that it names, or without any. 403 `M_FORBIDDEN` for people that are none of its own, 400
/// `M_UNKNOWN_DEVICE` for a device that they don't have.
/// spec: application-service-api#identity-assertion
async fn assumed(app: &App, service: &Arc<Service>, query: &str, peer: Peer) -> Result<Session> {
    service.heard();
    let query = untyped::query(query)?;
    let user = match query.get("user_id") {
        Some(user) => UserId::parse(user.as_str()).map_err(|_| Error::invalid_param("user_id is no user ID"))?,
        None => service.told.sender.clone(),
    };
    if !service.may_be(&user) {
        return Err(Error::forbidden("this application service may not act as this person"));
    }
    let device = query.get("device_id").or_else(|| query.get("org.matrix.msc3202.device_id"));
    let device = device.map_or("", String::as_str);
    let (account, known) = app.store.read(|tx| {
        let known = device.is_empty() || sessions::device(tx, &user, device)?.is_some();
        Ok((users::lookup(tx, &user)?, known))
    })?;
    let suspended = match account {
        Some(account) if account.deactivated => return Err(Error::forbidden("this account is closed")),
        Some(account) if account.locked && !peer.leaves => return Err(users::locked()),
        Some(account) => account.suspended,
        None if user == service.told.sender => {
            let service = service.clone();
            app.store.write(move |tx| appservice::make_sender(tx, &service)).await?;
            false
        }
        None => return Err(Error::forbidden("this application service has not registered this person")),
    };
    if !known {
        return Err(Error::bad_request("M_UNKNOWN_DEVICE", "this person has no such device"));
    }
    let device: OwnedDeviceId = device.into();
    if !device.as_str().is_empty() {
        app.last_seen.saw(&Found { user: user.clone(), device: device.clone() }, peer.ip);
    }
    let service = Some(service.clone());
    Ok(Session { user, device, ip: peer.ip, suspended, service, proof: std::marker::PhantomData })
}

/// The session that an access token stands for. 401 `M_UNKNOWN_TOKEN` if there is none. The first use
/// of a token that came by refreshing ends the tokens from before, which has to be on disk first.
pub async fn session(app: &App, token: &str, peer: Peer) -> Result<Session> {
    let (found, first_use, account) = app.store.read(|tx| {
        let (found, first_use) = sessions::by_access_token(tx, token)?;
        let account = users::lookup(tx, &found.user)?;
        Ok((found, first_use, account))
    })?;
    // spec: client-server-api#account-locking
    if account.as_ref().is_some_and(|account| account.locked) && !peer.leaves {
        return Err(users::locked());
    }
    if account.as_ref().is_some_and(|account| account.guest) {
        check_guest(app, &found, peer)?;
    }
    if first_use {
        let token = token.to_owned();
        app.store.write(move |tx| sessions::confirm(tx, &token)).await?;
    }
    app.last_seen.saw(&found, peer.ip);
    let suspended = account.is_some_and(|account| account.suspended);
    let Found { user, device } = found;
    Ok(Session { user, device, ip: peer.ip, suspended, service: None, proof: std::marker::PhantomData })
}

/// What guests are told who want more than they may.
const FOR_MEMBERS: &str = "M_GUEST_ACCESS_FORBIDDEN";

/// Refuses what guests may not do, or not as often as others. spec: client-server-api#guest-access
fn check_guest(app: &App, found: &Found, peer: Peer) -> Result<()> {
    if !peer.suits_guests {
        return Err(Error::forbidden_as(FOR_MEMBERS, "this takes an account of one's own: guests can't do it"));
    }
    if peer.reads { Ok(()) } else { app.limits.take(Bucket::Guest, &found.user) }
}

/// The token of an `Authorization: Bearer` header. Query parameters never authenticate.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
