//! The page on which somebody signs in, or makes an account, and lets an application act for them.
//! spec: client-server-api#authorisation-code-flow

use std::sync::Arc;

use http::{HeaderValue, Response, StatusCode, header};
use ruma::OwnedUserId;
use url::{Url, form_urlencoded};

use super::{
    check_spoken,
    pages::{self, Asking, Words, escape, page, with_name},
};
use crate::{
    accounts::{passwords as rules, registration, uia::Stage, users},
    app::App,
    client_api::registration::check_nearness,
    error::{Error, Result},
    http::{Bucket, Call, Form, Reply, passwords, reply},
    limits,
    oauth::{clients, grants::Request, scope},
    store::rows::ApplicationRow,
};

/// Bytes of what an application wants back at most.
const MAX_STATE: usize = 2048;
const PATH: &str = "/oauth/authorize";

/// `GET` of the authorization endpoint.
pub async fn show(app: Arc<App>, call: Call, _: Vec<String>) -> Result<Reply> {
    check_spoken(&app)?;
    let form = Form::read(&app, call).await?;
    app.limits.take(Bucket::Other, limits::address(form.caller.ip))?;
    let words = Words::for_reader(&form.languages);
    // An application that can't be sent back to is told nothing: whoever is here is.
    let known = form.get("client_id").map(|id| app.store.read(|tx| clients::find(tx, id))).transpose()?.flatten();
    let redirect = form.get("redirect_uri").unwrap_or_default();
    let Some(row) = known.filter(|row| clients::may_return_to(row, redirect)) else {
        let why = "the app is not registered here, or wants to be answered elsewhere than it said";
        return Ok(pages::note(words, StatusCode::BAD_REQUEST, words.sign_in, &words.problem.replace("{}", why)));
    };
    let request = match asked(&form, redirect) {
        Ok(request) => request,
        Err((code, why)) => {
            let fragment = form.get("response_mode") == Some("fragment");
            return back(redirect, fragment, &[("error", code), ("error_description", why)], form.get("state"));
        }
    };
    let name = app.grants.ask(request.clone());
    let create = form.get("prompt") == Some("create");
    screen(&app, words, &Screen { row: &row, request: &request, name: &name, create, typed: None, problem: None })
}

/// What an application asks for, or the error that it is sent.
fn asked(form: &Form, redirect: &str) -> Result<Request, (&'static str, &'static str)> {
    if form.get("response_type") != Some("code") {
        return Err(("unsupported_response_type", "response_type is code"));
    }
    let fragment = match form.get("response_mode") {
        None | Some("query") => false,
        Some("fragment") => true,
        Some(_) => return Err(("invalid_request", "response_mode is query or fragment")),
    };
    let challenge = form.get("code_challenge").filter(|challenge| challenge.len() == 43);
    if form.get("code_challenge_method") != Some("S256") {
        return Err(("invalid_request", "code_challenge_method is S256"));
    }
    let device = scope::device(form.get("scope").unwrap_or_default());
    let device = device.ok_or(("invalid_scope", "the scope is full access for one device"))?;
    if form.get("state").is_some_and(|state| state.len() > MAX_STATE) {
        return Err(("invalid_request", "the state is too long"));
    }
    Ok(Request {
        application: form.get("client_id").unwrap_or_default().to_owned(),
        redirect: redirect.to_owned(),
        fragment,
        state: form.get("state").map(str::to_owned),
        device,
        challenge: challenge.ok_or(("invalid_request", "a code_challenge is wanted"))?.to_owned(),
    })
}

/// What the page shows.
struct Screen<'a> {
    row: &'a ApplicationRow,
    request: &'a Request,
    /// The name of the request.
    name: &'a str,
    /// Whether it offers to make an account.
    create: bool,
    /// The name that was typed the last time.
    typed: Option<&'a str>,
    problem: Option<String>,
}

fn screen(app: &App, words: &Words, screen: &Screen<'_>) -> Result<Reply> {
    let offer = app.store.read(|tx| registration::flows(tx, registration::policy(&app.config))).ok();
    let create = screen.create && offer.is_some();
    let mut fields = pages::credentials(words, screen.typed);
    if create && offer.is_some_and(|flows| flows.iter().all(|flow| flow.contains(&Stage::RegistrationToken))) {
        fields += &pages::field("token", words.token, "text", "autocomplete=\"off\" spellcheck=\"false\"");
    }
    let (title, go_on) = if create { (words.create, words.create) } else { (words.sign_in, words.allow) };
    let asking = Asking {
        action: PATH,
        hidden: &[("request", screen.name), ("create", if create { "1" } else { "" })],
        problem: screen.problem.clone(),
        fields,
        go_on,
    };
    let mut body = format!("<p>{}</p>", with_name(words.wants, &shown_name(screen.row)));
    body += &format!("<p class=\"hint\">{}</p>", escape(words.wants_more));
    body += &asking.html(words);
    body += &format!("<p class=\"hint\">{}</p>", with_name(words.goes_to, &shown_place(&screen.request.redirect)));
    if offer.is_some() {
        let (other, text) = if create { ("", words.have_account) } else { ("1", words.no_account) };
        // Another form, as the fields of the first one are required.
        body += &format!(
            "<form method=\"post\" action=\"{PATH}\"><input type=\"hidden\" name=\"request\" value=\"{}\">\
             <input type=\"hidden\" name=\"create\" value=\"{other}\">\
             <button class=\"link\" type=\"submit\" name=\"decision\" value=\"switch\">{}</button></form>",
            escape(screen.name),
            escape(text)
        );
    }
    body += &links(words, screen.row);
    let status = if screen.problem.is_some() { StatusCode::FORBIDDEN } else { StatusCode::OK };
    Ok(page(words, status, title, &body))
}

/// What an application is called on a page: its name, and the host that answers for it.
pub fn shown_name(row: &ApplicationRow) -> String {
    let host = Url::parse(&row.home).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
    match &row.name {
        Some(name) => format!("{name} ({host})"),
        None => host,
    }
}

/// Where somebody is sent back to, in short: a host, or for an app's own addresses their kind.
fn shown_place(redirect: &str) -> String {
    let url = Url::parse(redirect).ok();
    let place = url.as_ref().and_then(|url| url.host_str().or(Some(url.scheme())));
    place.unwrap_or_default().to_owned()
}

/// Its terms and its privacy policy.
fn links(words: &Words, row: &ApplicationRow) -> String {
    let link = |address: &Option<String>, text: &str| {
        let address = address.as_ref()?;
        let rel = "noopener noreferrer nofollow";
        Some(format!("<a href=\"{}\" rel=\"{rel}\" target=\"_blank\">{}</a> ", escape(address), escape(text)))
    };
    let both: String =
        [link(&row.terms, words.terms), link(&row.privacy, words.privacy)].into_iter().flatten().collect();
    if both.is_empty() { both } else { format!("<p class=\"hint\">{both}</p>") }
}

/// `POST` of the page.
pub async fn decide(app: Arc<App>, call: Call, _: Vec<String>) -> Result<Reply> {
    check_spoken(&app)?;
    let form = Form::read(&app, call).await?;
    let words = Words::for_reader(&form.languages);
    let ended = || pages::note(words, StatusCode::BAD_REQUEST, words.sign_in, words.expired);
    let name = form.get("request").unwrap_or_default();
    let Some(request) = app.grants.asked(name) else { return Ok(ended()) };
    let Some(row) = app.store.read(|tx| clients::find(tx, &request.application))? else { return Ok(ended()) };
    let create = form.get("create").is_some();
    let again =
        |typed, problem| screen(&app, words, &Screen { row: &row, request: &request, name, create, typed, problem });
    match form.get("decision") {
        Some("allow") => {}
        Some("switch") => return again(None, None),
        _ => {
            app.grants.refuse(name);
            let denied = [("error", "access_denied"), ("error_description", "the person refused")];
            return back(&request.redirect, request.fragment, &denied, request.state.as_deref());
        }
    }
    let proven = if create { make(&app, &form).await } else { prove(&app, &form).await };
    let user = match proven {
        Ok(user) => user,
        Err(error) if error.status().is_client_error() => {
            let problem = match create && error.errcode() == "M_FORBIDDEN" {
                true => words.problem.replace("{}", error.message()),
                false => words.failure(&error),
            };
            return again(form.get("name"), Some(problem));
        }
        Err(error) => return Err(error),
    };
    let Some((request, code)) = app.grants.allow(name, user) else { return Ok(ended()) };
    back(&request.redirect, request.fragment, &[("code", &code)], request.state.as_deref())
}

/// Who somebody is, by the name and the password that they typed.
pub async fn prove(app: &App, form: &Form) -> Result<OwnedUserId> {
    let ip = form.caller.ip;
    app.limits.take(Bucket::LoginAddress, limits::address(ip))?;
    let password = form.get("password").unwrap_or_default().to_owned();
    let proven = passwords::prove(app, form.get("name"), password, passwords::By::Stranger(ip)).await?;
    match app.store.read(|tx| users::is_open(tx, &proven.user))? {
        true => Ok(proven.user),
        false => Err(Error::forbidden("this account can't sign in")),
    }
}

/// Makes an account by the rules for registering.
async fn make(app: &App, form: &Form) -> Result<OwnedUserId> {
    check_nearness(app, form.caller)?;
    app.limits.take(Bucket::Registration, limits::address(form.caller.ip))?;
    let password = form.get("password").unwrap_or_default().to_owned();
    rules::check_new(&password)?;
    let user = users::wished(form.get("name").unwrap_or_default(), &app.me.name)?;
    app.services.check_user(None, &user)?;
    let policy = registration::policy(&app.config);
    app.store.read(|tx| registration::flows(tx, policy).and_then(|_| users::check_free(tx, &user)))?;
    let hash = app.hasher.hash(password).await?;
    let (token, made) = (form.get("token").map(str::to_owned), user.clone());
    let work = move |tx: &_| registration::register(tx, policy, &made, Some(hash.clone()), (token.as_deref(), None));
    app.store.write(work).await?;
    Ok(user)
}

/// Sends the browser back to the application with an answer.
fn back(redirect: &str, fragment: bool, answer: &[(&str, &str)], state: Option<&str>) -> Result<Reply> {
    let mut pairs = form_urlencoded::Serializer::new(String::new());
    pairs.extend_pairs(answer);
    if let Some(state) = state {
        pairs.append_pair("state", state);
    }
    let mut url = Url::parse(redirect).map_err(Error::internal)?;
    let pairs = pairs.finish();
    match fragment {
        true => url.set_fragment(Some(&pairs)),
        false => {
            let query = url.query().filter(|query| !query.is_empty()).map(|query| format!("{query}&{pairs}"));
            url.set_query(Some(&query.unwrap_or(pairs)));
        }
    }
    let mut reply = Response::new(reply::full(""));
    *reply.status_mut() = StatusCode::SEE_OTHER;
    let place = HeaderValue::from_str(url.as_str()).map_err(Error::internal)?;
    reply.headers_mut().insert(header::LOCATION, place);
    reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Ok(reply)
}
