//! Signing in by OAuth 2.0: what applications call, and the pages that people see on the way. What may be
//! granted is `oauth/`; nothing here is kept by cookies, so no other site can act for whoever is here.
//! spec: client-server-api#oauth-20-api

mod account;
mod authorize;
mod link;
mod pages;
mod token;

use std::sync::Arc;

use http::{HeaderValue, Method, StatusCode, header};
use ruma::{
    api::client::discovery::get_authorization_server_metadata::v1::{Request, Response},
    serde::Raw,
};
use serde_json::{Value, json};

use crate::{
    app::App,
    base::json as text,
    error::{Error, Result},
    http::{Bucket, Call, Caller, Reply, Router, form, reply},
    limits,
    oauth::clients::{self, DEVICE_GRANT, Metadata, Unfit},
};

/// Adds the routes.
pub fn routes(router: &mut Router) {
    router
        .route(metadata)
        .plain_as("none", Method::POST, "/oauth/register", register)
        .plain_as("none", Method::GET, "/oauth/authorize", authorize::show)
        .plain_as("none", Method::POST, "/oauth/authorize", authorize::decide)
        .plain_as("none", Method::POST, "/oauth/token", token::token)
        .plain_as("none", Method::POST, "/oauth/revoke", token::revoke)
        .plain_as("none", Method::POST, "/oauth/device", link::begin)
        .plain_as("none", Method::GET, "/oauth/link", link::show)
        .plain_as("none", Method::POST, "/oauth/link", link::decide)
        .plain_as("none", Method::GET, "/oauth/account", account::show)
        .plain_as("none", Method::POST, "/oauth/account", account::confirm);
}

/// `GET /_matrix/client/v1/auth_metadata`
pub async fn metadata(app: Arc<App>, _: Caller, _: Request) -> Result<Response> {
    check_spoken(&app)?;
    let at = |path: &str| format!("{}/oauth/{path}", app.config.base_url());
    let described = json!({
        "issuer": format!("{}/", app.config.base_url()),
        "authorization_endpoint": at("authorize"),
        "token_endpoint": at("token"),
        "revocation_endpoint": at("revoke"),
        "registration_endpoint": at("register"),
        "device_authorization_endpoint": at("device"),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query", "fragment"],
        "grant_types_supported": ["authorization_code", "refresh_token", DEVICE_GRANT],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none"],
        "revocation_endpoint_auth_methods_supported": ["none"],
        "prompt_values_supported": ["create"],
        "account_management_uri": at("account"),
        "account_management_actions_supported": account::ACTIONS,
    });
    Ok(Response::new(Raw::from_json(text::to_raw(&described)?)))
}

/// Where the server does not speak OAuth, its endpoints are as if they were not there.
fn check_spoken(app: &App) -> Result<()> {
    if app.config.speaks_oauth() { Ok(()) } else { Err(Error::unrecognized()) }
}

/// `POST` to the registration endpoint. spec: client-server-api#dynamic-client-registration-flow
pub async fn register(app: Arc<App>, call: Call, _: Vec<String>) -> Result<Reply> {
    check_spoken(&app)?;
    let (caller, described): (_, Metadata) = match form::read_json(&app, call).await {
        Ok(read) => read,
        Err(error) => return Ok(refusal("invalid_client_metadata", error.message())),
    };
    app.limits.take(Bucket::Validity, limits::address(caller.ip))?;
    let row = match described.judge() {
        Ok(row) => row,
        Err(Unfit::Redirect(why)) => return Ok(refusal("invalid_redirect_uri", why)),
        Err(Unfit::Metadata(why)) => return Ok(refusal("invalid_client_metadata", why)),
    };
    let kept = row.clone();
    let id = app.store.write(move |tx| clients::register(tx, &kept)).await?;
    let mut grants = vec!["authorization_code", "refresh_token"];
    grants.extend(row.device_grant.then_some(DEVICE_GRANT));
    let mut answer = json!({
        "client_id": id,
        "client_uri": row.home,
        "redirect_uris": row.redirects,
        "token_endpoint_auth_method": "none",
        "response_types": ["code"],
        "grant_types": grants,
        "application_type": if row.native { "native" } else { "web" },
    });
    for (name, value) in
        [("client_name", row.name), ("logo_uri", row.logo), ("tos_uri", row.terms), ("policy_uri", row.privacy)]
    {
        if let Some(value) = value {
            answer[name] = value.into();
        }
    }
    Ok(answer_with(StatusCode::CREATED, &answer))
}

/// An answer that nobody keeps, as it may hold tokens.
fn answer_with(status: StatusCode, body: &Value) -> Reply {
    let mut reply = reply::json_with(status, body.to_string());
    reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

/// A refusal, as OAuth has it. spec: RFC 6749 section 5.2
fn refusal(code: &str, why: &str) -> Reply {
    answer_with(StatusCode::BAD_REQUEST, &json!({"error": code, "error_description": why}))
}
