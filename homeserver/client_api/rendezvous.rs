//! Where two devices meet while one signs in by a code that the other shows: by JSON (MSC4388), and as clients
//! on the web still do it, by bare texts and ETags (MSC4108). Who knows a place's name may use it.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use ruma::api::auth_scheme::NoAccessToken;
use serde::Deserialize;
use serde_json::json;

use crate::{
    app::App,
    error::{Error, Result},
    http::{
        Bucket, Call, Peer, Reply, Router,
        admit::Admit,
        body::{self, Whose},
        reply,
    },
    limits,
    oauth::handing::Place,
};

const TEXTS: &str = "/_matrix/client/unstable/org.matrix.msc4108/rendezvous";
const JSON: &str = "/_matrix/client/unstable/io.element.msc4388/rendezvous";

/// All endpoints.
pub fn routes(router: &mut Router) {
    let (texts, jsons) = (format!("{TEXTS}/{{id}}"), format!("{JSON}/{{id}}"));
    router
        .plain_as("none", Method::POST, TEXTS, open_text)
        .plain_as("none", Method::GET, &texts, text)
        .plain_as("none", Method::PUT, &texts, put_text)
        .plain_as("none", Method::DELETE, &texts, close)
        .plain_as("none", Method::GET, JSON, available)
        .plain_as("none", Method::POST, JSON, open)
        .plain_as("none", Method::GET, &jsons, look)
        .plain_as("none", Method::PUT, &jsons, put)
        .plain_as("none", Method::DELETE, &jsons, close);
}

/// A request without its body.
struct Asked {
    id: String,
    headers: HeaderMap,
    body: String,
}

async fn read(app: &App, call: Call, path: Vec<String>, bucket: Bucket) -> Result<Asked> {
    let peer = Peer::of(&call);
    let (head, incoming) = call.into_parts();
    let caller = NoAccessToken::admit(app, &head, peer).await?;
    app.limits.take(bucket, limits::address(caller.ip))?;
    // Nobody is sent here by a link. spec: MSC4388, unsafe content
    if head.headers.get("sec-fetch-dest").is_some_and(|to| to == "document") {
        return Err(Error::forbidden("this is no page to look at"));
    }
    let (body, _share) = body::collect(incoming, Whose::Stranger, &app.bodies).await?;
    let body = String::from_utf8(body.to_vec()).map_err(|_| Error::not_json("the body is not UTF-8"))?;
    Ok(Asked { id: path.into_iter().next().unwrap_or_default(), headers: head.headers, body })
}

fn parsed<T: for<'a> Deserialize<'a>>(body: &str) -> Result<T> {
    serde_json::from_str(body).map_err(|error| match error.is_syntax() || error.is_eof() {
        true => Error::not_json("the body is not JSON"),
        false => Error::bad_json(error.to_string()),
    })
}

/// Milliseconds until a place is gone.
fn left(place: &Place) -> u64 {
    u64::try_from(place.ends.saturating_duration_since(Instant::now()).as_millis()).unwrap_or(u64::MAX)
}

/// `GET …/io.element.msc4388/rendezvous`
async fn available(app: Arc<App>, call: Call, path: Vec<String>) -> Result<Reply> {
    read(&app, call, path, Bucket::Other).await?;
    reply::json(&json!({ "create_available": true }))
}

/// `POST …/io.element.msc4388/rendezvous`
async fn open(app: Arc<App>, call: Call, path: Vec<String>) -> Result<Reply> {
    #[derive(Deserialize)]
    struct Body {
        data: String,
    }
    let asked = read(&app, call, path, Bucket::Validity).await?;
    let (id, place) = app.handing.open(parsed::<Body>(&asked.body)?.data)?;
    reply::json(&json!({ "id": id, "sequence_token": place.mark, "expires_in_ms": left(&place) }))
}

/// `GET …/io.element.msc4388/rendezvous/{id}`
async fn look(app: Arc<App>, call: Call, path: Vec<String>) -> Result<Reply> {
    let asked = read(&app, call, path, Bucket::Other).await?;
    let place = app.handing.look(&asked.id)?;
    let told = json!({ "data": place.word, "sequence_token": place.mark, "expires_in_ms": left(&place) });
    Ok(unkept(reply::json(&told)?))
}

/// `PUT …/io.element.msc4388/rendezvous/{id}`
async fn put(app: Arc<App>, call: Call, path: Vec<String>) -> Result<Reply> {
    #[derive(Deserialize)]
    struct Body {
        sequence_token: String,
        data: String,
    }
    let asked = read(&app, call, path, Bucket::Other).await?;
    let Body { sequence_token, data } = parsed(&asked.body)?;
    let crossed = || Error::conflict("IO_ELEMENT_MSC4388_CONCURRENT_WRITE", "somebody has left other word since");
    let place = app.handing.leave(&asked.id, &sequence_token, data)?.ok_or_else(crossed)?;
    reply::json(&json!({ "sequence_token": place.mark }))
}

/// `DELETE …/rendezvous/{id}`, in both forms.
async fn close(app: Arc<App>, call: Call, path: Vec<String>) -> Result<Reply> {
    let asked = read(&app, call, path, Bucket::Other).await?;
    app.handing.close(&asked.id)?;
    Ok(for_web(reply::json(&json!({}))?))
}

/// `POST …/org.matrix.msc4108/rendezvous`
async fn open_text(app: Arc<App>, call: Call, path: Vec<String>) -> Result<Reply> {
    let asked = read(&app, call, path, Bucket::Validity).await?;
    let (id, place) = app.handing.open(asked.body)?;
    let url = format!("{}{TEXTS}/{id}", app.config.base_url());
    let mut reply = reply::json(&json!({ "url": url }))?;
    *reply.status_mut() = StatusCode::CREATED;
    marked(reply, &place)
}

/// `GET …/org.matrix.msc4108/rendezvous/{id}`
async fn text(app: Arc<App>, call: Call, path: Vec<String>) -> Result<Reply> {
    let asked = read(&app, call, path, Bucket::Other).await?;
    let place = app.handing.look(&asked.id)?;
    let known = asked.headers.get(header::IF_NONE_MATCH).is_some_and(|seen| seen == &*etag(&place));
    let mut reply = http::Response::new(reply::full(if known { String::new() } else { place.word.clone() }));
    if known {
        *reply.status_mut() = StatusCode::NOT_MODIFIED;
    }
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    marked(reply, &place)
}

/// `PUT …/org.matrix.msc4108/rendezvous/{id}`
async fn put_text(app: Arc<App>, call: Call, path: Vec<String>) -> Result<Reply> {
    let asked = read(&app, call, path, Bucket::Other).await?;
    let seen = asked.headers.get(header::IF_MATCH).and_then(|seen| seen.to_str().ok());
    let seen = seen.ok_or_else(|| Error::missing_param("If-Match is missing"))?.trim_matches('"').to_owned();
    let Some(place) = app.handing.leave(&asked.id, &seen, asked.body)? else {
        let mut body = json!({ "errcode": "M_UNKNOWN", "error": "somebody has left other word since" });
        body["org.matrix.msc4108.errcode"] = "M_CONCURRENT_WRITE".into();
        let mut reply = reply::json(&body)?;
        *reply.status_mut() = StatusCode::PRECONDITION_FAILED;
        return Ok(for_web(reply));
    };
    let mut reply = http::Response::new(reply::full(""));
    *reply.status_mut() = StatusCode::ACCEPTED;
    marked(reply, &place)
}

fn etag(place: &Place) -> String {
    format!("\"{}\"", place.mark)
}

/// An answer that says which word is at a place and when the place is gone.
fn marked(mut reply: Reply, place: &Place) -> Result<Reply> {
    let expires = httpdate::fmt_http_date(SystemTime::now() + Duration::from_millis(left(place)));
    for (name, value) in [(header::ETAG, etag(place)), (header::EXPIRES, expires)] {
        reply.headers_mut().insert(name, HeaderValue::from_str(&value).map_err(Error::internal)?);
    }
    Ok(for_web(unkept(reply)))
}

/// An answer that pages of other sites may read the headers of.
fn for_web(mut reply: Reply) -> Reply {
    let shown = HeaderValue::from_static("ETag, Expires");
    reply.headers_mut().insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, shown);
    reply
}

/// An answer that nothing on the way keeps.
fn unkept(mut reply: Reply) -> Reply {
    reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}
