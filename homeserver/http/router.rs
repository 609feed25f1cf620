//! From a request to its handler. A typed route takes its method, paths and authentication from the
//! endpoint's ruma type, so that a handler that forgets to authenticate doesn't compile.

use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri};
use ruma::api::{
    IncomingRequest, IncomingRequestExt,
    error::{DeserializationError, FromHttpRequestError},
    path_builder::PathBuilder,
};
use serde::de::IgnoredAny;

use super::{
    Arriving, Files,
    admit::{Admit, Peer},
    body,
    reply::{self, Reply},
};
use crate::{
    app::App,
    base::json,
    error::{Error, Result},
};

/// A request whose body has not been read.
pub type Call = Request<Arriving>;
type Answer = Pin<Box<dyn Future<Output = Result<Reply>> + Send>>;
/// Reads a request and begins to answer it. Two futures, so that a request that waits for long holds
/// nothing of what it took to read it.
type Reading = Pin<Box<dyn Future<Output = Result<Answer>> + Send>>;
/// Takes the request and its decoded path arguments.
type Handler = Arc<dyn Fn(Arc<App>, Call, Vec<String>) -> Reading + Send + Sync>;

/// The routes of one listener.
#[derive(Default)]
pub struct Router {
    paths: matchit::Router<Vec<(Method, Handler)>>,
    listed: BTreeMap<(String, String), &'static str>,
    /// What answers for paths that are no endpoint's and not of Matrix.
    files: Option<Arc<Files>>,
}

impl Router {
    /// A typed endpoint with a typed answer, under every path that its type knows.
    pub fn route<R, F, Fut>(&mut self, handle: F) -> &mut Self
    where
        R: IncomingRequest + Send + 'static,
        R::Authentication: Admit,
        F: Fn(Arc<App>, <R::Authentication as Admit>::Caller, R) -> Fut + Copy + Send + Sync + 'static,
        Fut: Future<Output = Result<R::OutgoingResponse>> + Send + 'static,
        R::OutgoingResponse: Send,
    {
        self.route_raw(move |app, caller, request: R| async move { reply::typed(handle(app, caller, request).await?) })
    }

    /// A typed endpoint whose handler writes its answer itself.
    pub fn route_raw<R, F, Fut>(&mut self, handle: F) -> &mut Self
    where
        R: IncomingRequest + Send + 'static,
        R::Authentication: Admit,
        F: Fn(Arc<App>, <R::Authentication as Admit>::Caller, R) -> Fut + Copy + Send + Sync + 'static,
        Fut: Future<Output = Result<Reply>> + Send + 'static,
    {
        let handler = typed_handler(handle);
        for path in R::PATH_BUILDER.all_paths() {
            self.add(R::METHOD, path, R::Authentication::WHO, handler.clone());
        }
        self
    }

    /// A typed endpoint under a further path. Path arguments that the type wants and the path does not
    /// have are empty.
    pub fn alias<R, F, Fut>(&mut self, path: &str, handle: F) -> &mut Self
    where
        R: IncomingRequest + Send + 'static,
        R::Authentication: Admit,
        F: Fn(Arc<App>, <R::Authentication as Admit>::Caller, R) -> Fut + Copy + Send + Sync + 'static,
        Fut: Future<Output = Result<R::OutgoingResponse>> + Send + 'static,
        R::OutgoingResponse: Send,
    {
        self.alias_raw(
            path,
            move |app, caller, request: R| async move { reply::typed(handle(app, caller, request).await?) },
        )
    }

    /// The same for a handler that writes its answer itself.
    pub fn alias_raw<R, F, Fut>(&mut self, path: &str, handle: F) -> &mut Self
    where
        R: IncomingRequest + Send + 'static,
        R::Authentication: Admit,
        F: Fn(Arc<App>, <R::Authentication as Admit>::Caller, R) -> Fut + Copy + Send + Sync + 'static,
        Fut: Future<Output = Result<Reply>> + Send + 'static,
    {
        self.add(R::METHOD, path, R::Authentication::WHO, typed_handler(handle))
    }

    /// A typed endpoint whose handler takes the body as a stream: method and paths come from the type,
    /// and the handler admits the caller.
    pub fn stream<R, F, Fut>(&mut self, handle: F) -> &mut Self
    where
        R: IncomingRequest,
        R::Authentication: Admit,
        F: Fn(Arc<App>, Call, Vec<String>) -> Fut + Copy + Send + Sync + 'static,
        Fut: Future<Output = Result<Reply>> + Send + 'static,
    {
        for path in R::PATH_BUILDER.all_paths() {
            self.add(R::METHOD, path, R::Authentication::WHO, plain_handler(handle));
        }
        self
    }

    /// An endpoint that reads the request itself, and sees to it who is calling: streams, WebSockets,
    /// and what has no type.
    pub fn plain<F, Fut>(&mut self, method: Method, path: &str, handle: F) -> &mut Self
    where
        F: Fn(Arc<App>, Call, Vec<String>) -> Fut + Copy + Send + Sync + 'static,
        Fut: Future<Output = Result<Reply>> + Send + 'static,
    {
        self.plain_as("see notes", method, path, handle)
    }

    /// The same, with a word for who may call.
    pub fn plain_as<F, Fut>(&mut self, who: &'static str, method: Method, path: &str, handle: F) -> &mut Self
    where
        F: Fn(Arc<App>, Call, Vec<String>) -> Fut + Copy + Send + Sync + 'static,
        Fut: Future<Output = Result<Reply>> + Send + 'static,
    {
        self.add(method, path, who, plain_handler(handle))
    }

    /// Serves the web client beside the endpoints.
    pub fn serve_files(&mut self, files: Arc<Files>) -> &mut Self {
        self.files = Some(files);
        self
    }

    /// Every route as (method, path, who may call), for the table in `spec/`.
    pub fn listed(&self) -> impl Iterator<Item = (&str, &str, &'static str)> {
        self.listed.iter().map(|((method, path), who)| (&**method, &**path, *who))
    }

    /// Adds a route, and for the oldest endpoints the prefixes under which clients still call them.
    fn add(&mut self, method: Method, path: &str, who: &'static str, handler: Handler) -> &mut Self {
        if let Some(rest) = path.strip_prefix("/_matrix/client/v3/") {
            self.add_one(method.clone(), &format!("/_matrix/client/r0/{rest}"), who, handler.clone());
            self.add_one(method.clone(), &format!("/_matrix/client/unstable/{rest}"), who, handler.clone());
        }
        self.add_one(method, path, who, handler);
        self
    }

    fn add_one(&mut self, method: Method, path: &str, who: &'static str, handler: Handler) {
        let key = (method.to_string(), path.to_owned());
        if self.listed.contains_key(&key) {
            return;
        }
        self.listed.insert(key, who);
        // Endpoints name the same segment differently, which the path router does not allow.
        let mut numbered = String::new();
        for (index, segment) in path.split('/').skip(1).enumerate() {
            numbered.push('/');
            match segment.starts_with('{') {
                true if segment.starts_with("{*") => numbered.push_str("{*rest}"),
                true => numbered.push_str(&format!("{{{index}}}")),
                false => numbered.push_str(segment),
            }
        }
        match self.paths.at_mut(&numbered) {
            Ok(found) if found.params.iter().all(|(name, value)| value == format!("{{{name}}}")) => {
                found.value.push((method, handler));
            }
            _ => self.paths.insert(&numbered, vec![(method, handler)]).expect("no two routes contradict each other"),
        }
    }

    /// Finds the handler and answers, whatever happens. The future holds nothing of the request but what
    /// its handler does.
    pub fn answer(&self, app: Arc<App>, request: Call) -> impl Future<Output = Reply> + Send + use<> {
        let path = request.uri().path();
        let asked = format!("{} {path}", request.method()).into_boxed_str();
        // The client's own files are of use to its own page only.
        let is_open = is_matrix(path) || self.paths.at(path).is_ok();
        let reading = match request.method() {
            &Method::OPTIONS => None,
            _ => Some(self.dispatch(app, request)),
        };
        async move {
            let mut reply = match reading {
                Some(reading) => read_and_answer(reading).await.unwrap_or_else(|error| reply::error(&error, &asked)),
                None => no_content(),
            };
            if is_open {
                reply::add_cors(&mut reply);
            }
            reply
        }
    }

    fn dispatch(&self, app: Arc<App>, request: Call) -> Reading {
        match self.find(request.method(), request.uri().path()) {
            Some(Ok((handler, arguments))) => handler(app, request, arguments),
            Some(Err(error)) => failed(error),
            None => self.beside(request),
        }
    }

    /// The handler for a path and the path's arguments. None if the path is no endpoint's.
    fn find(&self, method: &Method, path: &str) -> Option<Result<(&Handler, Vec<String>)>> {
        let shorter = || self.paths.at(path.strip_suffix('/')?).ok();
        let found = self.paths.at(path).ok().or_else(shorter)?;
        let wanted = if method == Method::HEAD { &Method::GET } else { method };
        let Some((_, handler)) = found.value.iter().find(|(method, _)| method == wanted) else {
            return Some(Err(Error::wrong_method()));
        };
        let arguments: Option<_> = found.params.iter().map(|(_, value)| decode(value)).collect();
        let arguments = arguments.ok_or_else(|| Error::invalid_param("the path is not UTF-8"));
        Some(arguments.map(|arguments| (handler, arguments)))
    }

    /// The decoded arguments of a path. None if it is no endpoint's.
    pub fn arguments(&self, method: &Method, path: &str) -> Option<Result<Vec<String>>> {
        Some(self.find(method, path)?.map(|(_, arguments)| arguments))
    }

    /// What is no endpoint: a file of the web client, or nothing.
    fn beside(&self, request: Call) -> Reading {
        match self.files.clone().filter(|_| !is_matrix(request.uri().path())) {
            Some(files) => {
                let (head, _) = request.into_parts();
                Box::pin(async move {
                    let reply = files.answer(&head.method, head.uri.path(), &head.headers).await;
                    Ok(Box::pin(std::future::ready(Ok(reply))) as Answer)
                })
            }
            None => failed(Error::unrecognized()),
        }
    }
}

/// Whether a path is Matrix's own, so that what is not there is said the Matrix way.
fn is_matrix(path: &str) -> bool {
    ["/_matrix", "/_synapse", "/.well-known"].iter().any(|prefix| {
        let rest = path.strip_prefix(prefix);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

async fn read_and_answer(reading: Reading) -> Result<Reply> {
    let answer = reading.await?;
    answer.await
}

fn failed(error: Error) -> Reading {
    Box::pin(async { Err(error) })
}

fn no_content() -> Reply {
    let mut reply = Response::new(reply::full(""));
    *reply.status_mut() = StatusCode::NO_CONTENT;
    reply
}

fn plain_handler<F, Fut>(handle: F) -> Handler
where
    F: Fn(Arc<App>, Call, Vec<String>) -> Fut + Copy + Send + Sync + 'static,
    Fut: Future<Output = Result<Reply>> + Send + 'static,
{
    Arc::new(move |app, request, arguments| {
        let answer: Answer = Box::pin(handle(app, request, arguments));
        Box::pin(std::future::ready(Ok(answer)))
    })
}

fn typed_handler<R, F, Fut>(handle: F) -> Handler
where
    R: IncomingRequest + Send + 'static,
    R::Authentication: Admit,
    F: Fn(Arc<App>, <R::Authentication as Admit>::Caller, R) -> Fut + Copy + Send + Sync + 'static,
    Fut: Future<Output = Result<Reply>> + Send + 'static,
{
    Arc::new(move |app, request, arguments| {
        Box::pin(async move {
            let peer = Peer::of(&request);
            let (head, body) = request.into_parts();
            let claim = R::Authentication::admit(&app, &head, peer).await?;
            let (body, share) = body::collect(body, R::Authentication::whose(&claim), &app.bodies).await?;
            let caller = R::Authentication::confirm(claim, &head, &body).await?;
            let parsed = parse::<R>(head, &body, &arguments)?;
            drop(body);
            let answer = handle(app, caller, parsed);
            Ok(match share {
                // What was read is held in another form until it is answered.
                Some(share) => Box::pin(async move {
                    let answered = answer.await;
                    drop(share);
                    answered
                }) as Answer,
                None => Box::pin(answer),
            })
        })
    })
}

/// Where the paths begin by which servers ask each other.
const BETWEEN_SERVERS: &str = "/_matrix/federation/";

/// Where the paths of transactions begin: what is in one is looked at piece by piece, so that what is nested too
/// deeply takes nothing else with it.
const TRANSACTIONS: &str = "/_matrix/federation/v1/send/";

/// Arguments of queries that say where a page begins or ends.
const PLACES: [&str; 4] = ["from", "to", "since", "at"];

/// Takes places that are empty out of a query: they mean none, and there are apps (gomuks, Quaternion) that know of
/// none and send them so.
fn drop_empty_places(uri: &mut Uri) {
    let Some(query) = uri.query().filter(|query| query.contains("=&") || query.ends_with('=')) else { return };
    let is_empty = |part: &&str| part.strip_suffix('=').is_some_and(|name| PLACES.contains(&name));
    let kept: Vec<&str> = query.split('&').filter(|part| !is_empty(part)).collect();
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = format!("{}?{}", uri.path(), kept.join("&")).parse().ok();
    if let Ok(without) = Uri::from_parts(parts) {
        *uri = without;
    }
}

/// The request that head, body and path arguments make, or what is wrong with them.
pub fn parse<R: IncomingRequest>(mut head: http::request::Parts, body: &Bytes, arguments: &[String]) -> Result<R> {
    drop_empty_places(&mut head.uri);
    let most = if head.uri.path().starts_with(BETWEEN_SERVERS) { json::MAX_DEPTH_AROUND } else { json::MAX_DEPTH };
    if json::is_deeper_than(body, most) && !head.uri.path().starts_with(TRANSACTIONS) {
        return Err(Error::not_json(format!("the body is nested deeper than {most} levels")));
    }
    // Some paths of an endpoint have fewer arguments than others, or more: what is missing is empty, and what is
    // too much is left out.
    let wanted = R::PATH_BUILDER.all_paths().map(|path| path.matches('{').count()).max().unwrap_or(0);
    let mut given: Vec<&str> = arguments.iter().map(String::as_str).collect();
    given.resize(wanted, "");
    // Some clients send nothing where an empty object is meant.
    let mut request = match body.is_empty() && head.method != Method::GET {
        true => Request::from_parts(head, &b"{}"[..]),
        false => Request::from_parts(head, &body[..]),
    };
    if request.method() == Method::HEAD {
        *request.method_mut() = Method::GET;
    }
    R::try_from_http_request(request, &given).map_err(|error| explain(&error, body))
}

/// Why a request could not be understood. spec: client-server-api#common-error-codes
fn explain(error: &FromHttpRequestError, body: &[u8]) -> Error {
    let FromHttpRequestError::Deserialization(error) = error else {
        return Error::wrong_method();
    };
    match error {
        DeserializationError::Utf8(_) => Error::not_json("the body is not UTF-8"),
        DeserializationError::Json(_) if std::str::from_utf8(body).is_err() => Error::not_json("the body is not UTF-8"),
        DeserializationError::Json(error)
            if error.is_syntax() || serde_json::from_slice::<IgnoredAny>(body).is_err() =>
        {
            Error::not_json("the body is not JSON")
        }
        DeserializationError::Json(error) if error.to_string().starts_with("missing field") => {
            Error::bad_json(error.to_string())
        }
        DeserializationError::Json(error) => Error::bad_json(error.to_string()),
        DeserializationError::Query(error) if error.to_string().contains("missing field") => {
            Error::missing_param(error.to_string())
        }
        other => Error::invalid_param(other.to_string()),
    }
}

/// Percent-decodes a path segment. None if it is not UTF-8 then.
pub fn decode(segment: &str) -> Option<String> {
    let mut out = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let [byte, after @ ..] = rest {
        match after.get(..2).filter(|_| *byte == b'%').and_then(hex_byte) {
            Some(decoded) => {
                out.push(decoded);
                rest = &after[2..];
            }
            None => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8(out).ok()
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    Some(nibble(digits[0])? << 4 | nibble(digits[1])?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn path_segments_are_decoded_once() {
        assert_eq!(super::decode("%21a%3Ab.c%252F"), Some("!a:b.c%2F".into()));
        assert_eq!(super::decode("100%"), Some("100%".into()));
        assert_eq!(super::decode("%zz%f"), Some("%zz%f".into()));
        assert_eq!(super::decode("%ff"), None);
    }

    #[test]
    fn places_that_are_empty_are_none() {
        let without = |uri: &'static str| {
            let mut uri = super::Uri::from_static(uri);
            super::drop_empty_places(&mut uri);
            uri.to_string()
        };
        assert_eq!(without("/a?from=&dir=b&to="), "/a?dir=b");
        assert_eq!(without("http://b/a?user_id=&from=x&since="), "http://b/a?user_id=&from=x");
        assert_eq!(without("/a?from="), "/a?");
        assert_eq!(without("/a?xfrom=&afrom=&b"), "/a?xfrom=&afrom=&b");
    }
}
