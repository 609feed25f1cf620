//! Signing in and out. spec: client-server-api#legacy-login, #refreshing-access-tokens

use std::sync::Arc;

use ruma::api::client::{
    account::whoami,
    session::{
        get_login_token,
        get_login_types::{
            self,
            v3::{ApplicationServiceLoginType, LoginType, PasswordLoginType, TokenLoginType},
        },
        login, logout, logout_all, refresh_token,
    },
};
use serde::Deserialize;

use super::devices;
use crate::{
    accounts::{
        sessions::{self, Wish},
        uia::Identifier,
        users,
    },
    app::App,
    error::{Error, Result},
    http::{Applicant, Bucket, Caller, Guarded, Loose, Session, passwords, uia},
    limits,
    oauth::handing::TOKEN_LIFE,
};

/// `GET /_matrix/client/v3/login`
pub async fn login_types(
    _: Arc<App>,
    _: Caller,
    _: get_login_types::v3::Request,
) -> Result<get_login_types::v3::Response> {
    let mut token = TokenLoginType::new();
    token.get_login_token = true;
    let service = LoginType::ApplicationService(ApplicationServiceLoginType::new());
    let flows = vec![LoginType::Password(PasswordLoginType::new()), LoginType::Token(token), service];
    Ok(get_login_types::v3::Response::new(flows))
}

/// `POST /_matrix/client/v1/login/get_token`
pub async fn login_token(
    app: Arc<App>,
    session: Session,
    asked: Guarded<get_login_token::v1::Request>,
) -> Result<get_login_token::v1::Response> {
    app.limits.take(Bucket::Other, &session.user)?;
    uia::require(&app, &session, &asked).await?;
    let token = app.handing.token(session.user, session.device);
    Ok(get_login_token::v1::Response::new(TOKEN_LIFE, token))
}

/// What somebody who signs in sends, in the forms of now and of old.
#[derive(Deserialize)]
pub struct Login {
    #[serde(rename = "type")]
    kind: String,
    identifier: Option<Identifier>,
    user: Option<String>,
    password: Option<String>,
    token: Option<String>,
    device_id: Option<String>,
    initial_device_display_name: Option<String>,
    #[serde(default)]
    refresh_token: bool,
}

impl Login {
    /// The name and the password. A telephone number or an e-mail address is no name, but goes the way
    /// of one that nobody has.
    fn credentials(&mut self) -> Result<(Option<String>, String)> {
        if self.kind != "m.login.password" {
            return Err(Error::unknown("this server knows m.login.password and m.login.token"));
        }
        let password = self.password.take().ok_or_else(|| Error::missing_param("a password is missing"))?;
        match (self.identifier.take(), self.user.take()) {
            (Some(identifier), user) => Ok((identifier.name().or(user), password)),
            (None, Some(user)) => Ok((Some(user), password)),
            (None, None) => Err(Error::missing_param("an identifier is missing")),
        }
    }
}

/// `POST /_matrix/client/v3/login`
pub async fn login(
    app: Arc<App>,
    who: Applicant,
    request: Loose<login::v3::Request, Login>,
) -> Result<login::v3::Response> {
    if request.body.kind == "m.login.application_service" {
        return login_of_service(&app, &who, request.body).await;
    }
    let caller = who.caller;
    app.limits.take(Bucket::LoginAddress, limits::address(caller.ip))?;
    let mut login = request.body;
    let wish = Wish {
        device: login.device_id.take(),
        display_name: login.initial_device_display_name.take(),
        refresh: login.refresh_token,
        ip: caller.ip.to_string(),
    };
    if login.kind == "m.login.token" {
        return by_token(&app, login.token.as_deref(), wish).await;
    }
    let (name, password) = login.credentials()?;
    let proven = passwords::prove(&app, name.as_deref(), password, passwords::By::Stranger(caller.ip)).await?;
    let sign_in = move |tx: &_| {
        users::check_password_is(tx, &proven.user, &proven.hash)?;
        let issued = devices::start(tx, &proven.user, &wish)?;
        Ok(issued)
    };
    Ok(signed_in(app.store.write(sign_in).await?))
}

/// Signs in whoever has a token that another device had made, which has to be signed in still.
async fn by_token(app: &App, token: Option<&str>, wish: Wish) -> Result<login::v3::Response> {
    let token = token.ok_or_else(|| Error::missing_param("a token is missing"))?;
    let bad = || Error::forbidden("this token is not good, or not any more");
    let (user, device) = app.handing.redeem(token).ok_or_else(bad)?;
    let sign_in = move |tx: &_| {
        sessions::device(tx, &user, device.as_str())?.ok_or_else(bad)?;
        devices::start(tx, &user, &wish)
    };
    Ok(signed_in(app.store.write(sign_in).await?))
}

fn signed_in(issued: sessions::Issued) -> login::v3::Response {
    let mut response = login::v3::Response::new(issued.user, issued.access, issued.device);
    (response.refresh_token, response.expires_in) = (issued.refresh, issued.lifetime);
    response
}

/// Signs in one of an application service's people. spec: application-service-api#server-admin-style-permissions
async fn login_of_service(app: &App, who: &Applicant, login: Login) -> Result<login::v3::Response> {
    let service = who.service()?;
    let name = login.identifier.and_then(Identifier::name).or(login.user);
    let name = name.ok_or_else(|| Error::missing_param("an identifier is missing"))?;
    let user = users::meant(&name, &app.me.name).filter(|user| service.may_be(user));
    let user = user.ok_or_else(|| Error::bad_request("M_EXCLUSIVE", "this application service has no such person"))?;
    let wish = Wish {
        device: login.device_id,
        display_name: login.initial_device_display_name,
        refresh: login.refresh_token,
        ip: who.caller.ip.to_string(),
    };
    let issued = app.store.write(move |tx| devices::start(tx, &user, &wish)).await?;
    let mut response = login::v3::Response::new(issued.user, issued.access, issued.device);
    (response.refresh_token, response.expires_in) = (issued.refresh, issued.lifetime);
    Ok(response)
}

/// `POST /_matrix/client/v3/refresh`
pub async fn refresh(
    app: Arc<App>,
    caller: Caller,
    request: refresh_token::v3::Request,
) -> Result<refresh_token::v3::Response> {
    app.limits.take(Bucket::Other, limits::address(caller.ip))?;
    let issued = app.store.write(move |tx| sessions::refresh(tx, &request.refresh_token)).await?;
    let mut response = refresh_token::v3::Response::new(issued.access);
    (response.refresh_token, response.expires_in_ms) = (issued.refresh, issued.lifetime);
    Ok(response)
}

/// `POST /_matrix/client/v3/logout`
pub async fn logout(app: Arc<App>, session: Session, _: logout::v3::Request) -> Result<logout::v3::Response> {
    let end = move |tx: &_| {
        sessions::end(tx, &session.user, session.device.as_str())?;
        devices::ended(tx, &session.user, &[session.device.to_string()])
    };
    app.store.write(end).await?;
    Ok(logout::v3::Response::new())
}

/// `POST /_matrix/client/v3/logout/all`
pub async fn logout_all(
    app: Arc<App>,
    session: Session,
    _: logout_all::v3::Request,
) -> Result<logout_all::v3::Response> {
    let end = move |tx: &_| {
        let ended = sessions::end_all(tx, &session.user, None)?;
        devices::ended(tx, &session.user, &ended)
    };
    app.store.write(end).await?;
    Ok(logout_all::v3::Response::new())
}

/// `GET /_matrix/client/v3/account/whoami`
pub async fn whoami(app: Arc<App>, session: Session, _: whoami::v3::Request) -> Result<whoami::v3::Response> {
    app.limits.take(Bucket::Other, &session.user)?;
    let is_guest = app.store.read(|tx| users::is_guest(tx, &session.user))?;
    let mut response = whoami::v3::Response::new(session.user, is_guest);
    response.device_id = Some(session.device).filter(|device| !device.as_str().is_empty());
    Ok(response)
}
