//! How answers look: JSON, CORS on every one of them, and errors as Matrix defines them.

use std::{convert::Infallible, io};

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use ruma::api::{OutgoingResponse, OutgoingResponseExt};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};

use crate::error::{Error, Result};

/// The body of an answer: bytes that are there, or a stream of them.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;
/// An answer.
pub type Reply = Response<Body>;

/// A body of bytes.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// A body that comes in pieces from elsewhere; the channel's bound is the bound of what waits.
pub fn stream(pieces: mpsc::Receiver<io::Result<Bytes>>) -> Body {
    StreamBody::new(ReceiverStream::new(pieces).map(|piece| piece.map(Frame::data))).boxed_unsync()
}

/// 200 with JSON.
pub fn json(value: &impl Serialize) -> Result<Reply> {
    Ok(json_with(StatusCode::OK, serde_json::to_vec(value).map_err(Error::internal)?))
}

/// Any status, with JSON text.
pub fn json_with(status: StatusCode, text: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(full(text));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

/// A typed answer.
pub fn typed(response: impl OutgoingResponse) -> Result<Reply> {
    let response = response.try_into_http_response::<BytesMut>().map_err(Error::internal)?;
    Ok(response.map(|body| full(body.freeze())))
}

/// An error, as the client sees it. Our own faults are logged here, once, with what was asked.
pub fn error(error: &Error, asked: &str) -> Reply {
    if let Some(cause) = error.cause() {
        tracing::error!(asked, cause, "answered {}", error.status().as_u16());
    }
    let mut reply = json_with(error.status(), error.body().to_string());
    if let Some(after) = error.retry_after() {
        let seconds = after.as_millis().div_ceil(1000).max(1);
        reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX)));
    }
    reply
}

/// Headers that every answer of an endpoint carries. spec: client-server-api#web-browser-clients
pub fn add_cors(reply: &mut Reply) {
    const CORS: [(HeaderName, HeaderValue); 4] = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
        (header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE, OPTIONS")),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            // The last two are for devices that meet while one signs in (MSC4108).
            HeaderValue::from_static("X-Requested-With, Content-Type, Authorization, If-Match, If-None-Match"),
        ),
        (header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400")),
    ];
    for (name, value) in CORS {
        reply.headers_mut().entry(name).or_insert(value);
    }
}
