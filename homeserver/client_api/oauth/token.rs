//! What applications exchange for tokens, and the end of tokens.
//! spec: client-server-api#grant-types, #token-revocation

use std::sync::Arc;

use http::StatusCode;
use serde_json::json;

use super::{answer_with, check_spoken, refusal};
use crate::{
    accounts::sessions::{self, Issued, Wish},
    app::App,
    client_api::devices,
    error::Result,
    http::{Bucket, Call, Form, Reply},
    limits,
    oauth::{
        clients::{self, DEVICE_GRANT},
        grants::{Allowed, Exchange, Poll},
        scope,
    },
    store::WriteTx,
};

/// `POST` to the token endpoint.
pub async fn token(app: Arc<App>, call: Call, _: Vec<String>) -> Result<Reply> {
    check_spoken(&app)?;
    let form = Form::read(&app, call).await?;
    app.limits.take(Bucket::Other, limits::address(form.caller.ip))?;
    let Some(application) = form.get("client_id") else {
        return Ok(refusal("invalid_request", "client_id is missing"));
    };
    match form.get("grant_type") {
        Some("authorization_code") => by_code(&app, &form, application).await,
        Some("refresh_token") => by_refresh(&app, &form, application).await,
        Some(DEVICE_GRANT) => by_device(&app, &form, application).await,
        _ => Ok(refusal("unsupported_grant_type", "this server has no such grant")),
    }
}

async fn by_code(app: &App, form: &Form, application: &str) -> Result<Reply> {
    let (Some(code), Some(redirect), Some(verifier)) =
        (form.get("code"), form.get("redirect_uri"), form.get("code_verifier"))
    else {
        return Ok(refusal("invalid_request", "code, redirect_uri and code_verifier are wanted"));
    };
    match app.grants.exchange(code, application, redirect, verifier) {
        Exchange::Good(allowed) => begin(app, form, allowed).await,
        Exchange::Again(allowed) => {
            // Somebody else has the code: what it gave can't be trusted any more.
            let end = move |tx: &WriteTx| end(tx, &allowed.user, &allowed.device);
            app.store.write(end).await?;
            Ok(refusal("invalid_grant", "this code was used before, and the session that it began has ended"))
        }
        Exchange::Bad => Ok(refusal("invalid_grant", "this code is not good, or not for this")),
    }
}

async fn by_device(app: &App, form: &Form, application: &str) -> Result<Reply> {
    let Some(code) = form.get("device_code") else {
        return Ok(refusal("invalid_request", "device_code is missing"));
    };
    match app.grants.poll(code, application) {
        Poll::Pending => Ok(refusal("authorization_pending", "nobody has allowed it yet")),
        Poll::TooOften => Ok(refusal("slow_down", "this is asked too often")),
        Poll::Denied => Ok(refusal("access_denied", "it was refused")),
        Poll::Expired => Ok(refusal("expired_token", "this code is not good any more")),
        Poll::Allowed(allowed) => begin(app, form, allowed).await,
    }
}

/// Begins the session that somebody allowed.
async fn begin(app: &App, form: &Form, allowed: Allowed) -> Result<Reply> {
    let application = app.store.read(|tx| clients::find(tx, &allowed.application))?;
    let Some(application) = application else {
        return Ok(refusal("invalid_client", "this application is not registered"));
    };
    let wish = Wish {
        device: Some(allowed.device.clone()),
        display_name: Some(application.name.unwrap_or(application.home)),
        refresh: true,
        ip: form.caller.ip.to_string(),
    };
    let start = move |tx: &WriteTx| {
        let issued = devices::start(tx, &allowed.user, &wish)?;
        sessions::set_application(tx, &allowed.user, &allowed.device, &allowed.application)?;
        Ok(issued)
    };
    match app.store.write(start).await {
        Ok(issued) => Ok(answer(issued)),
        Err(error) if error.status().is_client_error() => Ok(refusal("invalid_grant", error.message())),
        Err(error) => Err(error),
    }
}

async fn by_refresh(app: &App, form: &Form, application: &str) -> Result<Reply> {
    let Some(token) = form.get("refresh_token").map(str::to_owned) else {
        return Ok(refusal("invalid_request", "refresh_token is missing"));
    };
    let found = app.store.read(|tx| sessions::by_any_token(tx, &token))?;
    if found.is_none_or(|(_, by)| by.as_deref() != Some(application)) {
        return Ok(refusal("invalid_grant", "this refresh token is not good, or not this application's"));
    }
    match app.store.write(move |tx| sessions::refresh(tx, &token)).await {
        Ok(issued) => Ok(answer(issued)),
        Err(error) if error.status().is_client_error() => Ok(refusal("invalid_grant", error.message())),
        Err(error) => Err(error),
    }
}

fn answer(issued: Issued) -> Reply {
    let body = json!({
        "access_token": issued.access,
        "token_type": "Bearer",
        "expires_in": issued.lifetime.map(|life| life.as_secs()),
        "refresh_token": issued.refresh,
        "scope": scope::granted(issued.device.as_str()),
    });
    answer_with(StatusCode::OK, &body)
}

/// `POST` to the revocation endpoint: whoever has a token may end its session, so that a leaked one can be
/// made worthless by who finds it.
pub async fn revoke(app: Arc<App>, call: Call, _: Vec<String>) -> Result<Reply> {
    check_spoken(&app)?;
    let form = Form::read(&app, call).await?;
    app.limits.take(Bucket::Other, limits::address(form.caller.ip))?;
    let Some(token) = form.get("token").map(str::to_owned) else {
        return Ok(refusal("invalid_request", "token is missing"));
    };
    let revoke = move |tx: &WriteTx| match sessions::by_any_token(tx, &token)? {
        Some((found, _)) => end(tx, &found.user, found.device.as_str()),
        None => Ok(()),
    };
    app.store.write(revoke).await?;
    Ok(answer_with(StatusCode::OK, &json!({})))
}

fn end(tx: &WriteTx, user: &ruma::UserId, device: &str) -> Result<()> {
    if sessions::end(tx, user, device)? {
        devices::ended(tx, user, &[device.to_owned()])?;
    }
    Ok(())
}
