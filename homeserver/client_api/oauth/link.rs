//! Signing in a device that has no browser: it shows a code, and its owner types it on a page elsewhere.
//! spec: client-server-api#device-authorisation-flow

use std::sync::Arc;

use http::StatusCode;
use serde_json::json;

use super::{
    answer_with,
    authorize::{prove, shown_name},
    check_spoken,
    pages::{self, Asking, Words, escape, page, with_name},
    refusal,
};
use crate::{
    app::App,
    error::Result,
    http::{Bucket, Call, Form, Reply},
    limits,
    oauth::{
        clients,
        grants::{Outcome, PATIENCE, POLL_INTERVAL},
        scope,
    },
    store::rows::ApplicationRow,
};

const PATH: &str = "/oauth/link";

/// `POST` to the device authorization endpoint.
pub async fn begin(app: Arc<App>, call: Call, _: Vec<String>) -> Result<Reply> {
    check_spoken(&app)?;
    let form = Form::read(&app, call).await?;
    app.limits.take(Bucket::Validity, limits::address(form.caller.ip))?;
    let id = form.get("client_id").unwrap_or_default();
    let Some(row) = app.store.read(|tx| clients::find(tx, id))? else {
        return Ok(refusal("invalid_client", "this application is not registered"));
    };
    if !row.device_grant {
        return Ok(refusal("unauthorized_client", "this application did not register for this grant"));
    }
    let Some(device) = scope::device(form.get("scope").unwrap_or_default()) else {
        return Ok(refusal("invalid_scope", "the scope is full access for one device"));
    };
    let (own, typed) = app.grants.wait(id.to_owned(), device);
    let page = format!("{}{PATH}", app.config.base_url());
    let answer = json!({
        "device_code": own,
        "user_code": typed,
        "verification_uri": page,
        "verification_uri_complete": format!("{page}?user_code={typed}"),
        "expires_in": PATIENCE.as_secs(),
        "interval": POLL_INTERVAL,
    });
    Ok(answer_with(StatusCode::OK, &answer))
}

/// `GET` of the page on which a code is typed.
pub async fn show(app: Arc<App>, call: Call, _: Vec<String>) -> Result<Reply> {
    check_spoken(&app)?;
    let form = Form::read(&app, call).await?;
    let words = Words::for_reader(&form.languages);
    match form.get("user_code") {
        Some(code) => look_up(&app, &form, words, code),
        None => Ok(ask_for_code(words, None)),
    }
}

/// `POST` of that page: with a code, and then with the decision.
pub async fn decide(app: Arc<App>, call: Call, _: Vec<String>) -> Result<Reply> {
    check_spoken(&app)?;
    let form = Form::read(&app, call).await?;
    let words = Words::for_reader(&form.languages);
    let Some(code) = form.get("user_code") else { return Ok(ask_for_code(words, None)) };
    let done = |text| pages::note(words, StatusCode::OK, words.link, text);
    let ended = || ask_for_code(words, Some(words.link_unknown.to_owned()));
    match form.get("decision") {
        Some("cancel") => {
            app.grants.decide(code, Outcome::Denied);
            Ok(done(words.link_refused))
        }
        Some("allow") if form.get("name").is_some() => {
            app.limits.take(Bucket::Validity, limits::address(form.caller.ip))?;
            let Some(row) = application(&app, code)? else { return Ok(ended()) };
            match prove(&app, &form).await {
                Ok(user) if app.grants.decide(code, Outcome::Allowed(user.clone())) => Ok(done(words.link_done)),
                Ok(_) => Ok(ended()),
                Err(error) if error.status().is_client_error() => {
                    Ok(ask_for_consent(words, &row, code, form.get("name"), Some(words.failure(&error))))
                }
                Err(error) => Err(error),
            }
        }
        _ => look_up(&app, &form, words, code),
    }
}

fn look_up(app: &App, form: &Form, words: &Words, code: &str) -> Result<Reply> {
    app.limits.take(Bucket::Validity, limits::address(form.caller.ip))?;
    Ok(match application(app, code)? {
        Some(row) => ask_for_consent(words, &row, code, None, None),
        None => ask_for_code(words, Some(words.link_unknown.to_owned())),
    })
}

/// The application that waits under a code.
fn application(app: &App, code: &str) -> Result<Option<ApplicationRow>> {
    match app.grants.waiting(code) {
        Some(id) => app.store.read(|tx| clients::find(tx, &id)),
        None => Ok(None),
    }
}

fn ask_for_code(words: &Words, problem: Option<String>) -> Reply {
    let status = if problem.is_some() { StatusCode::NOT_FOUND } else { StatusCode::OK };
    let plain = "autocomplete=\"off\" autocapitalize=\"characters\" spellcheck=\"false\" maxlength=\"20\"";
    let fields = pages::field("user_code", words.link_code, "text", plain);
    let asking = Asking { action: PATH, hidden: &[], problem, fields, go_on: words.next };
    page(words, status, words.link, &asking.html(words))
}

fn ask_for_consent(
    words: &Words,
    row: &ApplicationRow,
    code: &str,
    typed: Option<&str>,
    problem: Option<String>,
) -> Reply {
    let status = if problem.is_some() { StatusCode::FORBIDDEN } else { StatusCode::OK };
    let hidden = [("user_code", code)];
    let fields = pages::credentials(words, typed);
    let asking = Asking { action: PATH, hidden: &hidden, problem, fields, go_on: words.allow };
    let mut body = format!("<p>{}</p>", with_name(words.wants, &shown_name(row)));
    for text in [words.wants_more, words.link_warning] {
        body += &format!("<p class=\"hint\">{}</p>", escape(text));
    }
    body += &asking.html(words);
    page(words, status, words.link, &body)
}
