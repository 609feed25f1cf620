//! One request to another server: found, signed, bounded in time and bytes, and its answer read. Knows how
//! requests are made and not what they are about.
//! spec: server-server-api#request-authentication

use std::{fmt, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode, header};
use reqwest::Response;
use ruma::{
    OwnedServerName, ServerName,
    api::{
        IncomingResponseExt, OutgoingBody, OutgoingRequest,
        auth_scheme::{AuthScheme, NoAccessToken, NoAuthentication},
        error::IntoHttpError,
        federation::authentication::ServerSignatures,
        path_builder::PathBuilder,
    },
    signatures::KeyPair,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use super::{
    discovery::{Discovery, Target, find_by_service},
    flights::{Flights, Place},
};
use crate::{
    base::{json, signing::Identity},
    error::Error,
    outside::{self, Client, Outside},
};

/// Calls under way at once, to one server and to all.
const MAX_TO_SERVER: usize = 16;
const MAX_CALLS: usize = 512;
/// Bytes of an answer that only says what was wrong.
const MAX_ERROR: usize = 64 * 1024;
/// A sentence of somebody else's that is passed on has so many letters at most.
const MAX_MESSAGE: usize = 300;

/// What a call may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// From the beginning to the end of its answer, waiting for a place included.
    pub time: Duration,
    /// Bytes of its answer.
    pub size: usize,
}

impl Bounds {
    /// For what people or the rules wait for.
    pub const USUAL: Self = Self { time: Duration::from_secs(30), size: 16 << 20 };
    /// For small answers that others wait for in turn.
    pub const SMALL: Self = Self { time: Duration::from_secs(15), size: 1 << 20 };
    /// For transactions, which the other side may work on for long.
    pub const PATIENT: Self = Self { time: Duration::from_secs(60), size: 1 << 20 };
    /// For the state of large rooms.
    pub const LARGE: Self = Self { time: Duration::from_secs(300), size: 256 << 20 };
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The server is there, and said no.
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// The Matrix error code.
        errcode: String,
        /// The sentence for people.
        message: String,
        /// When to try again, if it said so.
        retry_after: Option<Duration>,
    },
    /// It is not there, or what answers is no Matrix server: the reason, for the log.
    Unreachable(String),
}

impl Failure {
    /// Whether the server said no with this code.
    pub fn is(&self, code: &str) -> bool {
        matches!(self, Self::Refused { errcode, .. } if errcode == code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { status, errcode, message, .. } => write!(out, "{} {errcode}: {message}", status.as_u16()),
            Self::Unreachable(why) => out.write_str(why),
        }
    }
}

/// As people are told: what the other server said with the codes that mean the same here, and 502 for
/// everything that is not their doing.
impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused { status, errcode, message, .. } => {
                let message = format!("the other server says: {message}");
                match (status.as_u16(), &*errcode) {
                    (400, "M_UNSUPPORTED_ROOM_VERSION" | "M_INCOMPATIBLE_ROOM_VERSION") => {
                        Error::bad_request("M_UNSUPPORTED_ROOM_VERSION", message)
                    }
                    (400, "M_UNABLE_TO_AUTHORISE_JOIN") => Error::bad_request("M_UNABLE_TO_AUTHORISE_JOIN", message),
                    (400, "M_INVALID_PARAM") => Error::invalid_param(message),
                    (403, _) => Error::forbidden(message),
                    (404, _) => Error::not_found(message),
                    (413, _) => Error::too_large(message),
                    _ => Error::bad_gateway(message),
                }
            }
            Failure::Unreachable(why) => Error::bad_gateway(format!("the other server can't be reached: {why}")),
        }
    }
}

/// How requests of an authentication scheme are made: signed, or as they are.
pub trait Signed: AuthScheme {
    /// Whether they are signed.
    const SIGNED: bool;
}

impl Signed for ServerSignatures {
    const SIGNED: bool = true;
}

impl Signed for NoAuthentication {
    const SIGNED: bool = false;
}

impl Signed for NoAccessToken {
    const SIGNED: bool = false;
}

/// Calls other servers. Clones share connections.
#[derive(Clone)]
pub struct Remote(Arc<Inner>);

struct Inner {
    me: Arc<Identity>,
    enabled: bool,
    discovery: Discovery,
    /// For hosts that say their port.
    direct: Client,
    /// For hosts that are found by SRV records.
    by_service: Client,
    to_server: Flights,
    all: Arc<Semaphore>,
}

/// An answer whose body comes piece by piece.
pub struct Incoming {
    response: Response,
    left: usize,
    until: Instant,
    _place: Place,
}

impl Remote {
    /// Signs as `me`. Refuses every call unless `enabled`.
    pub fn new(me: Arc<Identity>, outside: &Outside, enabled: bool) -> Result<Self, String> {
        Ok(Self(Arc::new(Inner {
            me,
            enabled,
            discovery: Discovery::new(outside)?,
            direct: outside.client()?,
            by_service: outside.client_that_finds(find_by_service(outside))?,
            to_server: Flights::new(MAX_TO_SERVER),
            all: Arc::new(Semaphore::new(MAX_CALLS)),
        })))
    }

    /// Whether calls are made at all.
    pub fn is_enabled(&self) -> bool {
        self.0.enabled
    }

    /// How servers are found.
    pub(super) fn discovery(&self) -> &Discovery {
        &self.0.discovery
    }

    /// Asks a server, within the usual bounds.
    pub async fn call<R>(&self, to: &ServerName, request: R) -> Result<R::IncomingResponse, Failure>
    where
        R: OutgoingRequest,
        R::Authentication: Signed,
        for<'a> R::PathBuilder: PathBuilder<Input<'a> = ()>,
    {
        self.call_within(Bounds::USUAL, to, request).await
    }

    /// Asks a server, within these bounds.
    pub async fn call_within<R>(
        &self,
        bounds: Bounds,
        to: &ServerName,
        request: R,
    ) -> Result<R::IncomingResponse, Failure>
    where
        R: OutgoingRequest,
        R::Authentication: Signed,
        for<'a> R::PathBuilder: PathBuilder<Input<'a> = ()>,
    {
        self.call_for(bounds, to, request, Some(json::MAX_DEPTH_AROUND)).await
    }

    /// The same for what is answered by events: each is judged by itself, and one that is nested too deep takes
    /// nothing of the others with it.
    pub async fn call_for_events<R>(
        &self,
        bounds: Bounds,
        to: &ServerName,
        request: R,
    ) -> Result<R::IncomingResponse, Failure>
    where
        R: OutgoingRequest,
        R::Authentication: Signed,
        for<'a> R::PathBuilder: PathBuilder<Input<'a> = ()>,
    {
        self.call_for(bounds, to, request, None).await
    }

    async fn call_for<R>(
        &self,
        bounds: Bounds,
        to: &ServerName,
        request: R,
        depth: Option<usize>,
    ) -> Result<R::IncomingResponse, Failure>
    where
        R: OutgoingRequest,
        R::Authentication: Signed,
        for<'a> R::PathBuilder: PathBuilder<Input<'a> = ()>,
    {
        let incoming = self.stream(bounds, to, request).await?;
        let (status, headers, body) = incoming.all().await?;
        if depth.is_some_and(|most| json::is_deeper_than(&body, most)) && is_json(&headers) {
            return Err(Failure::Unreachable("the answer is nested too deep".to_owned()));
        }
        let mut answer = http::Response::new(&body[..]);
        (*answer.status_mut(), *answer.headers_mut()) = (status, headers);
        R::IncomingResponse::try_from_http_response(answer)
            .map_err(|error| Failure::Unreachable(format!("the answer makes no sense: {}", short(&error.to_string()))))
    }

    /// Asks a server, and gives the body of a success as it comes. What is no success is a failure already.
    pub async fn stream<R>(&self, bounds: Bounds, to: &ServerName, request: R) -> Result<Incoming, Failure>
    where
        R: OutgoingRequest,
        R::Authentication: Signed,
        for<'a> R::PathBuilder: PathBuilder<Input<'a> = ()>,
    {
        let until = Instant::now() + bounds.time;
        let prepared = prepare(request).map_err(|error| Failure::Unreachable(format!("can't be asked: {error}")))?;
        let began = timeout_at(until, self.begin(to, prepared, R::Authentication::SIGNED)).await;
        let (response, place) = began.unwrap_or_else(|_| Err(late()))?;
        let incoming = Incoming { response, left: bounds.size, until, _place: place };
        if incoming.response.status().is_success() { Ok(incoming) } else { Err(incoming.refusal().await) }
    }

    /// Gets something that everybody may have, as it comes: nothing is signed.
    pub async fn get(&self, bounds: Bounds, to: &ServerName, path: &str) -> Result<Incoming, Failure> {
        let until = Instant::now() + bounds.time;
        let request = http::Request::get(format!("https://server{path}")).body(Bytes::new());
        let request = request.map_err(|error| Failure::Unreachable(format!("can't be asked: {error}")))?;
        let began = timeout_at(until, self.begin(to, request, false)).await;
        let (response, place) = began.unwrap_or_else(|_| Err(late()))?;
        let incoming = Incoming { response, left: bounds.size, until, _place: place };
        if incoming.response.status().is_success() { Ok(incoming) } else { Err(incoming.refusal().await) }
    }

    async fn begin(
        &self,
        to: &ServerName,
        request: http::Request<Bytes>,
        signed: bool,
    ) -> Result<(Response, Place), Failure> {
        let inner = &*self.0;
        if !inner.enabled {
            return Err(Failure::Unreachable("federation is switched off here".to_owned()));
        }
        if to == inner.me.name {
            return Err(Failure::Unreachable("that is this server itself".to_owned()));
        }
        let to: OwnedServerName = to.to_owned();
        let place = inner.to_server.enter(&to).await;
        // It is never closed.
        let _one_of_all = inner.all.acquire().await.ok();
        let target = inner.discovery.target(&to).await;
        let signature = if signed { Some(sign(&inner.me, &to, &request).map_err(Failure::Unreachable)?) } else { None };
        let response = self.send(&target, request, signature).await.map_err(Failure::Unreachable)?;
        Ok((response, place))
    }

    /// Asks at a place for something, for as long as it takes.
    pub(super) async fn send(
        &self,
        target: &Target,
        request: http::Request<Bytes>,
        signature: Option<String>,
    ) -> Result<Response, String> {
        let (head, body) = request.into_parts();
        let client = if target.by_service { &self.0.by_service } else { &self.0.direct };
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut outgoing = client.request(head.method, &format!("{}{path}", target.url))?.headers(head.headers);
        if let Some(host) = &target.host {
            outgoing = outgoing.header(header::HOST, host);
        }
        if let Some(signature) = signature {
            outgoing = outgoing.header(header::AUTHORIZATION, signature);
        }
        if !body.is_empty() {
            outgoing = outgoing.body(body);
        }
        outgoing.send().await.map_err(|error| outside::explain(&error))
    }
}

#[cfg(test)]
impl Incoming {
    /// An answer with this body.
    pub fn made_of(body: reqwest::Body, bounds: Bounds) -> Self {
        let (response, place) = (http::Response::new(body).into(), Place::of_nobody());
        Self { response, left: bounds.size, until: Instant::now() + bounds.time, _place: place }
    }
}

impl Incoming {
    /// The headers of the answer.
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The next piece of the body; None at its end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        let piece = timeout_at(self.until, self.response.chunk()).await.map_err(|_| late())?;
        let piece = piece.map_err(|error| Failure::Unreachable(outside::explain(&error)))?;
        let Some(piece) = piece else { return Ok(None) };
        let too_long = || Failure::Unreachable("the answer is too long".to_owned());
        self.left = self.left.checked_sub(piece.len()).ok_or_else(too_long)?;
        Ok(Some(piece))
    }

    /// Has the answer end so much later, for what held it up here.
    pub fn wait_longer(&mut self, time: Duration) {
        self.until += time;
    }

    /// All of the body.
    pub async fn body(self) -> Result<Bytes, Failure> {
        self.all().await.map(|(_, _, body)| body)
    }

    async fn all(mut self) -> Result<(StatusCode, HeaderMap, Bytes), Failure> {
        if self.response.content_length().is_some_and(|length| length > self.left as u64) {
            return Err(Failure::Unreachable("the answer is too long".to_owned()));
        }
        let mut held = BytesMut::new();
        while let Some(piece) = self.chunk().await? {
            held.extend_from_slice(&piece);
        }
        Ok((self.response.status(), self.response.headers().clone(), held.freeze()))
    }

    /// What an answer that is no success says. A page of a proxy or of another kind of server is no answer.
    async fn refusal(mut self) -> Failure {
        #[derive(Deserialize)]
        struct Said {
            errcode: String,
            #[serde(default)]
            error: String,
            retry_after_ms: Option<u64>,
        }
        self.left = self.left.min(MAX_ERROR);
        let (status, headers, body) = match self.all().await {
            Ok(all) => all,
            Err(failure) => return failure,
        };
        let header = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        match serde_json::from_slice::<Said>(&body) {
            Ok(said) => Failure::Refused {
                status,
                errcode: short(&said.errcode),
                message: short(&said.error),
                retry_after: header.map(Duration::from_secs).or(said.retry_after_ms.map(Duration::from_millis)),
            },
            Err(_) if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => Failure::Refused {
                status,
                errcode: "M_UNRECOGNIZED".to_owned(),
                message: format!("status {}", status.as_u16()),
                retry_after: None,
            },
            Err(_) => Failure::Unreachable(format!("status {}", status.as_u16())),
        }
    }
}

fn late() -> Failure {
    Failure::Unreachable("no answer in time".to_owned())
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_none_or(|kind| !kind.starts_with("multipart/"))
}

/// Somebody else's text, no longer than is good for a log.
pub(super) fn short(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(MAX_MESSAGE).collect()
}

/// The request as it will be sent, to a server that is not yet known.
fn prepare<R>(request: R) -> Result<http::Request<Bytes>, IntoHttpError>
where
    R: OutgoingRequest,
    for<'a> R::PathBuilder: PathBuilder<Input<'a> = ()>,
{
    let (mut head, body) = request.try_into_http_request_inner("https://server", ())?.into_parts();
    if let Some(kind) = body.content_type() {
        head.headers.entry(header::CONTENT_TYPE).or_insert(kind);
    }
    let body = body.try_into_buf::<BytesMut>().map_err(Into::into)?.freeze();
    // Some types send an empty object with GET, which is no body at all.
    let body = if head.method == Method::GET { Bytes::new() } else { body };
    if body.is_empty() {
        head.headers.remove(header::CONTENT_TYPE);
    }
    Ok(http::Request::from_parts(head, body))
}

/// The `Authorization` header: our signature over all that the other side will see.
fn sign(me: &Identity, to: &ServerName, request: &http::Request<Bytes>) -> Result<String, String> {
    let signed = signed_part(request.method(), request.uri(), &me.name, to, request.body())?;
    let signature = STANDARD_NO_PAD.encode(me.key.sign(signed.as_bytes()).as_bytes());
    let (origin, key) = (&me.name, me.key.id());
    Ok(format!("X-Matrix origin=\"{origin}\",destination=\"{to}\",key=\"{key}\",sig=\"{signature}\""))
}

/// What a request's signature is made over: canonical JSON of its method, URI, origin, destination, and of
/// its body if it has one. Bodies may hold fractions, which canonical JSON does not have and other servers
/// sign all the same, written as they are. One that is nested so deeply that it is not taken apart counts as it
/// stands: servers send the canonical JSON that they have signed.
pub fn signed_part(
    method: &Method,
    uri: &http::Uri,
    origin: &ServerName,
    destination: &ServerName,
    body: &[u8],
) -> Result<String, String> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut object = serde_json::json!({
        "method": method.as_str(),
        "uri": path,
        "origin": origin,
        "destination": destination,
    });
    let not_json = |error: serde_json::Error| format!("the body is not JSON: {error}");
    if json::is_deeper_than(body, json::MAX_DEPTH_AROUND) {
        let content: &RawValue = serde_json::from_slice(body).map_err(not_json)?;
        let rest = serde_json::to_string(&object).map_err(|error| error.to_string())?;
        // "content" comes before the others.
        return Ok(format!("{{\"content\":{},{}", content.get(), rest.trim_start_matches('{')));
    }
    if !body.is_empty() {
        object["content"] = serde_json::from_slice(body).map_err(not_json)?;
    }
    // Its members are sorted by their code points, and nothing stands between them.
    serde_json::to_string(&object).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_is_canonical() {
        let uri = "/_matrix/federation/v1/send/1?b=%20&a".parse().expect("a URI");
        let (origin, to) = (ruma::server_name!("a.b"), ruma::server_name!("c.d:1"));
        let of = |body: &str| signed_part(&Method::PUT, &uri, origin, to, body.as_bytes());
        let rest =
            r#""destination":"c.d:1","method":"PUT","origin":"a.b","uri":"/_matrix/federation/v1/send/1?b=%20&a"}"#;
        assert_eq!(of(""), Ok(format!("{{{rest}")));
        let body = "{ \"z\": [1, -2, 9007199254740991], \"\\u00e9\": \"\\u00e9\\n\\u0007/\", \"a\": {\"\": 1.5} }";
        let content = r#"{"a":{"":1.5},"z":[1,-2,9007199254740991],"é":"é\n\u0007/"}"#;
        assert_eq!(of(body), Ok(format!(r#"{{"content":{content},{rest}"#)));
        assert!(of("{").is_err());
    }

    #[test]
    fn failures_become_errors_that_blame_nobody_here() {
        let refused = |status: u16, errcode: &str| {
            let status = StatusCode::from_u16(status).expect("a status");
            let (errcode, message) = (errcode.to_owned(), "no".to_owned());
            let error = Error::from(Failure::Refused { status, errcode, message, retry_after: None });
            (error.status().as_u16(), error.errcode())
        };
        assert_eq!(refused(403, "M_FORBIDDEN"), (403, "M_FORBIDDEN"));
        assert_eq!(refused(404, "M_NOT_FOUND"), (404, "M_NOT_FOUND"));
        assert_eq!(refused(401, "M_UNAUTHORIZED"), (502, "M_UNKNOWN"));
        assert_eq!(refused(500, "M_UNKNOWN"), (502, "M_UNKNOWN"));
        assert_eq!(Error::from(Failure::Unreachable("gone".into())).status().as_u16(), 502);
    }
}
