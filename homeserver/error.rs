//! What goes wrong, said the Matrix way: an HTTP status, an `errcode` and a sentence for people.
//!
//! Errors are made by the named functions below, anywhere, and become HTTP in one place
//! (`http/reply.rs`). An internal error keeps its cause for the log and never shows it to a client.
//! spec: client-server-api#standard-error-response

use std::{borrow::Cow, fmt, time::Duration};

use http::StatusCode;
use serde_json::{Map, Value};

/// The result of everything that can fail towards a client.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One failure: what the client is told, and for our own faults what the log is told.
#[derive(Debug, Clone)]
pub struct Error(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    status: StatusCode,
    errcode: &'static str,
    message: Cow<'static, str>,
    /// Further members of the JSON body, such as `soft_logout` or a UIA session.
    extra: Map<String, Value>,
    /// Whether `errcode` and `error` are part of the body: a first UIA answer has neither.
    plain: bool,
    retry_after: Option<Duration>,
    cause: Option<String>,
    unsigned: Option<Unsigned>,
}

/// An event that somebody else has to sign before it can be sent.
#[derive(Debug, Clone)]
pub struct Unsigned {
    /// The server that is to sign it.
    pub by: String,
    /// The public half of the key by which it is to sign.
    pub key: String,
    /// The version of the event's room.
    pub version: String,
    /// The event, as it is signed by us.
    pub event: String,
}

type Text = Cow<'static, str>;

impl Error {
    fn new(status: StatusCode, errcode: &'static str, message: impl Into<Text>) -> Self {
        Self(Box::new(Inner {
            status,
            errcode,
            message: message.into(),
            extra: Map::new(),
            plain: true,
            retry_after: None,
            cause: None,
            unsigned: None,
        }))
    }

    /// 400 with an errcode of the caller's choice: for the many endpoint-specific codes.
    pub fn bad_request(errcode: &'static str, message: impl Into<Text>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, errcode, message)
    }
    /// 400 `M_NOT_JSON`: the body is not JSON at all.
    pub fn not_json(message: impl Into<Text>) -> Self {
        Self::bad_request("M_NOT_JSON", message)
    }
    /// 400 `M_BAD_JSON`: JSON, but not of the form that is wanted here.
    pub fn bad_json(message: impl Into<Text>) -> Self {
        Self::bad_request("M_BAD_JSON", message)
    }
    /// 400 `M_INVALID_PARAM`: a parameter has a value that can't be used.
    pub fn invalid_param(message: impl Into<Text>) -> Self {
        Self::bad_request("M_INVALID_PARAM", message)
    }
    /// 400 `M_MISSING_PARAM`.
    pub fn missing_param(message: impl Into<Text>) -> Self {
        Self::bad_request("M_MISSING_PARAM", message)
    }
    /// 400 `M_UNKNOWN`: the request can't be carried out, and no other code says why.
    pub fn unknown(message: impl Into<Text>) -> Self {
        Self::bad_request("M_UNKNOWN", message)
    }
    /// 403 `M_FORBIDDEN`.
    pub fn forbidden(message: impl Into<Text>) -> Self {
        Self::forbidden_as("M_FORBIDDEN", message)
    }
    /// 403 with another errcode, such as `M_USER_DEACTIVATED`.
    pub fn forbidden_as(errcode: &'static str, message: impl Into<Text>) -> Self {
        Self::new(StatusCode::FORBIDDEN, errcode, message)
    }
    /// 404 `M_NOT_FOUND`.
    pub fn not_found(message: impl Into<Text>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "M_NOT_FOUND", message)
    }
    /// 404 `M_UNRECOGNIZED`: no such endpoint.
    pub fn unrecognized() -> Self {
        Self::new(StatusCode::NOT_FOUND, "M_UNRECOGNIZED", "this server has no such endpoint")
    }
    /// 405 `M_UNRECOGNIZED`: the endpoint exists, with other methods.
    pub fn wrong_method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "M_UNRECOGNIZED", "this endpoint has no such method")
    }
    /// 405 `M_BAD_JSON`: account data that only the server may set.
    pub fn server_managed(message: impl Into<Text>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "M_BAD_JSON", message)
    }
    /// 408 `M_UNKNOWN`: whoever has to be asked first has not answered in time.
    pub fn late(message: impl Into<Text>) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "M_UNKNOWN", message)
    }
    /// 409 with an errcode of the caller's choice.
    pub fn conflict(errcode: &'static str, message: impl Into<Text>) -> Self {
        Self::new(StatusCode::CONFLICT, errcode, message)
    }
    /// 413 `M_TOO_LARGE`.
    pub fn too_large(message: impl Into<Text>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE", message)
    }
    /// 401 `M_MISSING_TOKEN`.
    pub fn missing_token() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "M_MISSING_TOKEN", "this needs an access token in the Authorization header")
    }
    /// 401 `M_UNKNOWN_TOKEN`. `soft`: the session still exists and signing in again keeps its keys.
    pub fn unknown_token(soft: bool) -> Self {
        let error =
            Self::new(StatusCode::UNAUTHORIZED, "M_UNKNOWN_TOKEN", "this access token is unknown or has expired");
        error.with("soft_logout", Value::Bool(soft))
    }
    /// 401 without an errcode: the next step of user-interactive authentication.
    pub fn uia(body: Map<String, Value>) -> Self {
        let mut error = Self::new(StatusCode::UNAUTHORIZED, "M_FORBIDDEN", "");
        error.0.plain = false;
        error.0.extra = body;
        error
    }
    /// 401 with an errcode of the caller's choice.
    pub fn unauthorized(errcode: &'static str, message: impl Into<Text>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, errcode, message)
    }
    /// 429 `M_LIMIT_EXCEEDED`, with both the header and the body member that say when to try again.
    pub fn limited(retry_after: Duration) -> Self {
        let mut error =
            Self::new(StatusCode::TOO_MANY_REQUESTS, "M_LIMIT_EXCEEDED", "too many requests: try again later");
        error.0.retry_after = Some(retry_after);
        let millis = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
        error.with("retry_after_ms", millis.into())
    }
    /// 500: our fault. The cause goes to the log and not to the client.
    pub fn internal(cause: impl fmt::Display) -> Self {
        let mut error =
            Self::new(StatusCode::INTERNAL_SERVER_ERROR, "M_UNKNOWN", "internal error: the server's log says more");
        error.0.cause = Some(cause.to_string());
        error
    }
    /// 403: an event lacks the signature of its room's policy server. Whoever can ask for it, does, and tries
    /// again.
    pub fn unsigned(unsigned: Unsigned) -> Self {
        let mut error = Self::forbidden("the room's policy server has not been asked about this");
        error.0.unsigned = Some(unsigned);
        error
    }
    /// What another server said when it refused something, word for word.
    pub fn in_their_words(status: StatusCode, errcode: &str, message: &str) -> Self {
        let mut error = Self::new(status, "M_FORBIDDEN", message.to_owned());
        error.0.plain = false;
        error.with("errcode", errcode.into()).with("error", message.into())
    }
    /// 502: another server is at fault.
    pub fn bad_gateway(message: impl Into<Text>) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "M_UNKNOWN", message)
    }
    /// An application service is at fault: 502, or 504 if it does not answer in time.
    pub fn of_service(status: StatusCode, errcode: &'static str, message: impl Into<Text>) -> Self {
        Self::new(status, errcode, message)
    }
    /// 504 `M_NOT_YET_UPLOADED`: media that are announced and have not come.
    pub fn not_yet_uploaded() -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "M_NOT_YET_UPLOADED", "this has not been uploaded yet")
    }
    /// 503: the server can't write now (the disk is full or failing), and will again by itself.
    pub fn unavailable(message: impl Into<Text>, cause: impl fmt::Display) -> Self {
        let mut error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "M_UNKNOWN", message);
        error.0.cause = Some(cause.to_string());
        error
    }

    /// Adds a member to the JSON body.
    pub fn with(mut self, name: &str, value: Value) -> Self {
        self.0.extra.insert(name.to_owned(), value);
        self
    }
    /// Gives a UIA answer the reason why the last step failed.
    pub fn because(mut self, errcode: &'static str, message: impl Into<Text>) -> Self {
        self.0.plain = true;
        self.0.errcode = errcode;
        self.0.message = message.into();
        self
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }
    /// The Matrix error code.
    pub fn errcode(&self) -> &'static str {
        self.0.errcode
    }
    /// The sentence for people.
    pub fn message(&self) -> &str {
        &self.0.message
    }
    /// When to try again, if the error says so.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }
    /// What the log should say: set for our own faults only.
    pub fn cause(&self) -> Option<&str> {
        self.0.cause.as_deref()
    }
    /// What would have to be signed by another server first, if that is what is wrong.
    pub fn wants_signed(&self) -> Option<&Unsigned> {
        self.0.unsigned.as_ref()
    }
    /// The JSON body.
    pub fn body(&self) -> Value {
        let mut body = self.0.extra.clone();
        if self.0.plain {
            body.insert("errcode".into(), self.0.errcode.into());
            body.insert("error".into(), self.0.message.as_ref().into());
        }
        Value::Object(body)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { status, errcode, message, cause, .. } = &*self.0;
        write!(out, "{} {errcode}: {message}", status.as_u16())?;
        match cause {
            Some(cause) => write!(out, " ({cause})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}
