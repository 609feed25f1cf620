//! Making accounts. spec: client-server-api#legacy-account-registration

use std::sync::Arc;

use ruma::{
    OwnedUserId, UserId,
    api::client::account::{
        check_registration_token_validity, get_username_availability,
        register::{LoginType, RegistrationKind, v3::Request},
    },
};
use serde_json::json;

use super::devices;
use crate::{
    accounts::{
        passwords, registration,
        sessions::{self, Wish},
        uia::{Auth, Operation},
        users,
    },
    app::App,
    base::random,
    error::{Error, Result},
    http::{Applicant, Bucket, Caller, Guarded, Reply, reply, uia},
    limits,
    rooms::admins,
};

/// `POST /_matrix/client/v3/register`
pub async fn register(app: Arc<App>, who: Applicant, asked: Guarded<Request>) -> Result<Reply> {
    if let Some(LoginType::ApplicationService) = asked.request.login_type {
        return for_service(&app, &who, asked.request).await;
    }
    let caller = who.caller;
    check_nearness(&app, caller)?;
    if asked.request.kind == RegistrationKind::Guest {
        return for_guest(&app, caller, asked.request).await;
    }
    app.limits.take(weighed(asked.auth.as_ref()), limits::address(caller.ip))?;
    let user = wished(&app, &asked.request)?;
    app.services.check_user(None, &user)?;
    let policy = registration::policy(&app.config);
    let flows = app.store.read(|tx| {
        let flows = registration::flows(tx, policy)?;
        registration::check_name(tx, &user, asked.request.guest_access_token.as_deref())?;
        Ok(flows)
    })?;
    let asked = Guarded { operation: Operation::registering(), ..asked };
    let proved = uia::prove(&app, None, &asked, flows).await?;
    let issued = make(&app, caller, user.clone(), asked.request, proved.registration_token).await?;
    answer(&user, issued)
}

/// How a request to register is limited. Only what tries a stage can make an account. Asking for the flows makes
/// nothing; nor does asking whether a session is complete, which apps do every other second while somebody types
/// their registration token.
fn weighed(auth: Option<&Auth>) -> Bucket {
    match auth {
        Some(Auth { attempt: Some(_), .. }) => Bucket::Registration,
        Some(Auth { attempt: None, .. }) => Bucket::Other,
        None => Bucket::Validity,
    }
}

/// While only this machine can reach the server, whoever registers first owns it. Then it must not be a page
/// of some site in a browser of this machine, nor somebody behind a proxy that the settings don't know of.
pub(super) fn check_nearness(app: &App, caller: Caller) -> Result<()> {
    if !app.config.is_private() || !caller.from_elsewhere {
        return Ok(());
    }
    Err(Error::forbidden(
        "this server is set up for this machine alone, and the request comes from elsewhere: register at the \
         server's own address, or set public_url, and behind_proxy if there is a proxy, in its configuration",
    ))
}

/// Makes the account and, unless the client wants none, its first session.
async fn make(
    app: &App,
    caller: Caller,
    user: OwnedUserId,
    request: Request,
    token: Option<String>,
) -> Result<Option<sessions::Issued>> {
    let password = request.password.ok_or_else(|| Error::missing_param("a password is missing"))?;
    let hash = app.hasher.hash(password).await?;
    let wish = Wish {
        device: request.device_id.map(|id| id.to_string()),
        display_name: request.initial_device_display_name,
        refresh: request.refresh_token,
        ip: caller.ip.to_string(),
    };
    let (policy, me, guest) = (registration::policy(&app.config), app.me.clone(), request.guest_access_token);
    let work = move |tx: &_| {
        registration::register(tx, policy, &user, Some(hash.clone()), (token.as_deref(), guest.as_deref()))?;
        admins::keep(tx, &me, &user)?;
        match request.inhibit_login {
            true => Ok(None),
            false => devices::start(tx, &user, &wish).map(Some),
        }
    };
    app.store.write(work).await
}

/// Makes an account that an application service acts as. spec: application-service-api#server-admin-style-permissions
async fn for_service(app: &App, who: &Applicant, request: Request) -> Result<Reply> {
    let service = who.service()?;
    let name = request.username.as_deref().ok_or_else(|| Error::missing_param("a username is missing"))?;
    let user = users::wished(name, &app.me.name)?;
    app.services.check_user(Some(&service), &user)?;
    let wish = Wish {
        device: request.device_id.map(|id| id.to_string()),
        display_name: request.initial_device_display_name,
        refresh: request.refresh_token,
        ip: who.caller.ip.to_string(),
    };
    let (made, inhibit) = (user.clone(), request.inhibit_login);
    let work = move |tx: &_| {
        users::create_for_service(tx, &made, &service.told.id)?;
        if inhibit { Ok(None) } else { devices::start(tx, &made, &wish).map(Some) }
    };
    let issued = app.store.write(work).await?;
    answer(&user, issued)
}

/// Makes an account for a guest. Of what they ask only what they call their device is heeded.
/// spec: client-server-api#guest-access
async fn for_guest(app: &App, caller: Caller, request: Request) -> Result<Reply> {
    if !app.config.guests {
        return Err(Error::forbidden_as("M_GUEST_ACCESS_FORBIDDEN", "this server has no guest accounts"));
    }
    app.limits.take(Bucket::BecomingGuest, limits::address(caller.ip))?;
    let user = made_up(app)?;
    app.services.check_user(None, &user)?;
    let wish = Wish {
        device: None,
        display_name: request.initial_device_display_name,
        refresh: false,
        ip: caller.ip.to_string(),
    };
    let made = user.clone();
    let work = move |tx: &_| {
        users::create_guest(tx, &made)?;
        devices::start(tx, &made, &wish)
    };
    let issued = app.store.write(work).await?;
    answer(&user, Some(issued))
}

/// A user ID that nobody has chosen.
fn made_up(app: &App) -> Result<OwnedUserId> {
    users::wished(&random::device_id(), &app.me.name)
}

/// The user ID that is asked for; a made-up one if none is.
fn wished(app: &App, request: &Request) -> Result<OwnedUserId> {
    if request.kind != RegistrationKind::User {
        return Err(Error::invalid_param("there is no such kind of account"));
    }
    if let Some(password) = &request.password {
        passwords::check_new(password)?;
    }
    match &request.username {
        Some(name) => users::wished(name, &app.me.name),
        None if request.guest_access_token.is_some() => {
            Err(Error::missing_param("the username that you have as a guest is missing"))
        }
        None => made_up(app),
    }
}

/// Whose account it is, and its first session. Without one nothing is said of it, not even that it is null.
fn answer(user: &UserId, issued: Option<sessions::Issued>) -> Result<Reply> {
    let mut answer = json!({ "user_id": user });
    if let Some(issued) = issued {
        answer["access_token"] = issued.access.into();
        answer["device_id"] = issued.device.as_str().into();
        if let Some(refresh) = issued.refresh {
            answer["refresh_token"] = refresh.into();
        }
        if let Some(lifetime) = issued.lifetime {
            answer["expires_in_ms"] = u64::try_from(lifetime.as_millis()).map_err(Error::internal)?.into();
        }
    }
    reply::json(&answer)
}

/// `GET /_matrix/client/v3/register/available`
pub async fn available(
    app: Arc<App>,
    caller: Caller,
    request: get_username_availability::v3::Request,
) -> Result<get_username_availability::v3::Response> {
    app.limits.take(Bucket::Validity, limits::address(caller.ip))?;
    let user = users::wished(&request.username, &app.me.name)?;
    app.services.check_user(None, &user)?;
    let policy = registration::policy(&app.config);
    app.store.read(|tx| {
        registration::flows(tx, policy)?;
        users::check_free(tx, &user)
    })?;
    Ok(get_username_availability::v3::Response::new(true))
}

/// `GET /_matrix/client/v1/register/m.login.registration_token/validity`
pub async fn token_validity(
    app: Arc<App>,
    caller: Caller,
    request: check_registration_token_validity::v1::Request,
) -> Result<check_registration_token_validity::v1::Response> {
    app.limits.take(Bucket::Validity, limits::address(caller.ip))?;
    let policy = registration::policy(&app.config);
    let valid = app.store.read(|tx| {
        registration::flows(tx, policy)?;
        registration::token_is_valid(tx, policy, &request.token)
    })?;
    Ok(check_registration_token_validity::v1::Response::new(valid))
}
