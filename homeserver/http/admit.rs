//! Who is calling. A [`Session`] can be made nowhere else: whoever holds one has proved who they are.

use std::{future::Future, net::IpAddr};

use http::{HeaderMap, Request, header};
use ruma::{
    OwnedDeviceId, OwnedUserId, UserId,
    api::auth_scheme::{AccessToken, AccessTokenOptional, AppserviceTokenOptional, NoAccessToken, NoAuthentication},
};

use super::{body::Whose, websocket};
use crate::{
    accounts::{sessions, users},
    app::App,
    error::{Error, Result},
};

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
    proof: std::marker::PhantomData<Proof>,
}

impl Session {
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
            true => Err(Error::forbidden_as("M_USER_SUSPENDED", "this account is suspended and can't do this now")),
        }
    }
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

/// The address of the other end, put into each request's extensions by `server.rs`.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    ip: IpAddr,
    /// The request ends a session, which also those may whose account is locked.
    leaves: bool,
}

impl Peer {
    /// The other end at an address.
    pub fn at(ip: IpAddr) -> Self {
        Self { ip, leaves: false }
    }

    /// The address that a request carries.
    pub fn of<B>(request: &Request<B>) -> Self {
        let peer = request.extensions().get().copied().unwrap_or(Self::at(IpAddr::from([0, 0, 0, 0])));
        let path = request.uri().path();
        Self { leaves: path.ends_with("/logout") || path.ends_with("/logout/all"), ..peer }
    }
}

/// What the spec's authentication scheme gives a handler.
pub trait Admit {
    /// The scheme in a word, for the table in `spec/`.
    const WHO: &'static str;
    /// Who the handler is told is calling.
    type Caller: Send;
    /// Proves it, or refuses.
    fn admit(app: &App, headers: &HeaderMap, peer: Peer) -> impl Future<Output = Result<Self::Caller>> + Send;
    /// Whose body theirs is.
    fn whose(_: &Self::Caller) -> Whose {
        Whose::Stranger
    }
}

impl Admit for AccessToken {
    const WHO: &'static str = "token";
    type Caller = Session;
    async fn admit(app: &App, headers: &HeaderMap, peer: Peer) -> Result<Session> {
        let token = bearer(headers).ok_or_else(Error::missing_token)?;
        session(app, token, peer).await
    }
    fn whose(_: &Session) -> Whose {
        Whose::Account
    }
}

impl Admit for AccessTokenOptional {
    const WHO: &'static str = "optional";
    type Caller = (Caller, Option<Session>);
    async fn admit(app: &App, headers: &HeaderMap, peer: Peer) -> Result<Self::Caller> {
        let session = match bearer(headers) {
            Some(token) => Some(session(app, token, peer).await?),
            None => None,
        };
        Ok((Caller::new(app, headers, peer), session))
    }
    fn whose((_, session): &Self::Caller) -> Whose {
        session.as_ref().map_or(Whose::Stranger, |_| Whose::Account)
    }
}

/// Signing in and registering: no application service is known to this server, so its token would
/// prove nothing, and everybody comes as a stranger.
impl Admit for AppserviceTokenOptional {
    const WHO: &'static str = "none";
    type Caller = Caller;
    async fn admit(app: &App, headers: &HeaderMap, peer: Peer) -> Result<Caller> {
        Ok(Caller::new(app, headers, peer))
    }
}

impl Admit for NoAccessToken {
    const WHO: &'static str = "none";
    type Caller = Caller;
    async fn admit(app: &App, headers: &HeaderMap, peer: Peer) -> Result<Caller> {
        Ok(Caller::new(app, headers, peer))
    }
}

impl Admit for NoAuthentication {
    const WHO: &'static str = "none";
    type Caller = Caller;
    async fn admit(app: &App, headers: &HeaderMap, peer: Peer) -> Result<Caller> {
        Ok(Caller::new(app, headers, peer))
    }
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
        let error = Error::unauthorized("M_USER_LOCKED", "this account is locked");
        return Err(error.with("soft_logout", true.into()));
    }
    if first_use {
        let token = token.to_owned();
        app.store.write(move |tx| sessions::confirm(tx, &token)).await?;
    }
    app.last_seen.saw(&found, peer.ip);
    let suspended = account.is_some_and(|account| account.suspended);
    Ok(Session { user: found.user, device: found.device, ip: peer.ip, suspended, proof: std::marker::PhantomData })
}

/// The token of an `Authorization: Bearer` header. Query parameters never authenticate.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
