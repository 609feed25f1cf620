//! Who is calling. A [`Session`] can be made nowhere else: whoever holds one has proved who they are.

use std::net::IpAddr;

use http::{HeaderMap, Request, header};
use ruma::{
    OwnedDeviceId, OwnedUserId,
    api::auth_scheme::{AccessToken, AccessTokenOptional, NoAccessToken, NoAuthentication},
};

use crate::{
    accounts::sessions,
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
    proof: std::marker::PhantomData<Proof>,
}

/// Private to this file, and so is the making of what holds it.
#[derive(Clone, Debug)]
struct Proof;

/// Somebody who has not said who they are.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// Where the call comes from.
    pub ip: IpAddr,
}

/// The address of the other end, put into each request's extensions by `server.rs`.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

impl Peer {
    /// The address that a request carries.
    pub fn of<B>(request: &Request<B>) -> Self {
        request.extensions().get().copied().unwrap_or(Self(IpAddr::from([0, 0, 0, 0])))
    }
}

/// What the spec's authentication scheme gives a handler.
pub trait Admit {
    /// Who the handler is told is calling.
    type Caller: Send;
    /// Proves it, or refuses.
    fn admit(app: &App, headers: &HeaderMap, peer: Peer) -> Result<Self::Caller>;
}

impl Admit for AccessToken {
    type Caller = Session;
    fn admit(app: &App, headers: &HeaderMap, peer: Peer) -> Result<Session> {
        let token = bearer(headers).ok_or_else(Error::missing_token)?;
        session(app, token, peer)
    }
}

impl Admit for AccessTokenOptional {
    type Caller = (Caller, Option<Session>);
    fn admit(app: &App, headers: &HeaderMap, peer: Peer) -> Result<Self::Caller> {
        let session = bearer(headers).map(|token| session(app, token, peer)).transpose()?;
        Ok((Caller { ip: peer.0 }, session))
    }
}

impl Admit for NoAccessToken {
    type Caller = Caller;
    fn admit(_: &App, _: &HeaderMap, peer: Peer) -> Result<Caller> {
        Ok(Caller { ip: peer.0 })
    }
}

impl Admit for NoAuthentication {
    type Caller = Caller;
    fn admit(_: &App, _: &HeaderMap, peer: Peer) -> Result<Caller> {
        Ok(Caller { ip: peer.0 })
    }
}

/// The session that an access token stands for. 401 `M_UNKNOWN_TOKEN` if there is none.
pub fn session(app: &App, token: &str, peer: Peer) -> Result<Session> {
    let found = app.store.read(|tx| sessions::by_access_token(tx, token))?;
    app.last_seen.saw(&found, peer.0);
    Ok(Session { user: found.user, device: found.device, ip: peer.0, proof: std::marker::PhantomData })
}

/// The token of an `Authorization: Bearer` header. Query parameters never authenticate.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
