//! Where applications send people who want to look after their account: the web client's own settings, and
//! the page that confirms new cross-signing keys.
//! spec: client-server-api#oauth-20-account-management, #oauth-authentication

use std::sync::Arc;

use http::{HeaderValue, Response, StatusCode, header};

use super::{
    authorize::prove,
    check_spoken,
    pages::{self, Asking, Words, escape, page},
};
use crate::{
    app::App,
    error::Result,
    http::{Call, Form, Reply, reply},
};

/// What the web client and this page can do.
pub const ACTIONS: [&str; 6] = [
    "org.matrix.profile",
    "org.matrix.devices_list",
    "org.matrix.device_view",
    "org.matrix.device_delete",
    "org.matrix.account_deactivate",
    RESET,
];

const RESET: &str = "org.matrix.cross_signing_reset";
const PATH: &str = "/oauth/account";

/// `GET` of the account management page.
pub async fn show(app: Arc<App>, call: Call, _: Vec<String>) -> Result<Reply> {
    check_spoken(&app)?;
    let form = Form::read(&app, call).await?;
    let place = match form.get("action") {
        Some(RESET) => return Ok(ask(Words::for_reader(&form.languages), None, None)),
        Some("org.matrix.devices_list" | "org.matrix.device_view" | "org.matrix.device_delete") => {
            "/#/settings/sessions"
        }
        Some("org.matrix.account_deactivate") => "/#/settings/account",
        _ => "/#/settings/profile",
    };
    let mut reply = Response::new(reply::full(""));
    *reply.status_mut() = StatusCode::SEE_OTHER;
    reply.headers_mut().insert(header::LOCATION, HeaderValue::from_static(place));
    Ok(reply)
}

/// `POST` of the page that confirms new cross-signing keys.
pub async fn confirm(app: Arc<App>, call: Call, _: Vec<String>) -> Result<Reply> {
    check_spoken(&app)?;
    let form = Form::read(&app, call).await?;
    let words = Words::for_reader(&form.languages);
    if form.get("decision") != Some("allow") {
        return Ok(pages::note(words, StatusCode::OK, words.reset, words.link_refused));
    }
    match prove(&app, &form).await {
        Ok(user) => {
            app.grants.allow_reset(&user);
            Ok(pages::note(words, StatusCode::OK, words.reset, words.reset_done))
        }
        Err(error) if error.status().is_client_error() => Ok(ask(words, form.get("name"), Some(words.failure(&error)))),
        Err(error) => Err(error),
    }
}

fn ask(words: &Words, typed: Option<&str>, problem: Option<String>) -> Reply {
    let status = if problem.is_some() { StatusCode::FORBIDDEN } else { StatusCode::OK };
    let fields = pages::credentials(words, typed);
    let asking = Asking { action: PATH, hidden: &[], problem, fields, go_on: words.reset };
    let body = format!("<p>{}</p>{}", escape(words.reset_more), asking.html(words));
    page(words, status, words.reset, &body)
}
