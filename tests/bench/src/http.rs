//! One kept-alive HTTP/1.1 connection. It knows nothing of Matrix but how an error body looks.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::Result;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// `host:port`, shared by all connections to a server.
pub type Authority = Arc<str>;

/// The host and port of a plain `http://` address.
pub fn authority(url: &str) -> Result<Authority> {
    let Some(rest) = url.strip_prefix("http://") else {
        return Err(format!("{url}: the address must begin with http:// (TLS is not measured)").into());
    };
    let host = rest.trim_end_matches('/');
    if host.is_empty() || host.contains('/') {
        return Err(format!("{url}: an address is http://HOST:PORT, with no path").into());
    }
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Ok(if has_port { host.into() } else { format!("{host}:80").into() })
}

/// One request.
pub struct Call<'a> {
    pub method: Method,
    pub path: &'a str,
    pub authorization: Option<&'a HeaderValue>,
    pub body: Bytes,
}

/// What came back, read to its end.
pub struct Answer {
    pub status: StatusCode,
    pub body: Bytes,
}

/// A connection that opens itself when it is first needed, and again after the server has closed it.
pub struct Client {
    authority: Authority,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    pub fn new(authority: &Authority) -> Client {
        Client { authority: authority.clone(), sender: None }
    }

    /// The body of a successful answer; any other status is an error that says what was asked and answered.
    pub async fn ok(&mut self, call: Call<'_>) -> Result<Bytes> {
        self.ok_as(call, JSON).await
    }

    /// The same with a body that isn't JSON.
    pub async fn ok_as(&mut self, call: Call<'_>, kind: HeaderValue) -> Result<Bytes> {
        let answer = self.call_as(&call, &kind).await?;
        if answer.status.is_success() {
            return Ok(answer.body);
        }
        let advice = match answer.status {
            StatusCode::TOO_MANY_REQUESTS => " (switch its rate limits off for the benchmark)",
            _ => "",
        };
        let (path, _) = call.path.split_once('?').unwrap_or((call.path, ""));
        let why = String::from_utf8_lossy(&answer.body);
        Err(format!("{} {path}: {} {why}{advice}", call.method, answer.status).into())
    }

    /// A server may close a connection that has been idle just as the next request is on its way: then one more
    /// attempt is made, unless the request might have been obeyed already and isn't safe to repeat.
    pub async fn call(&mut self, call: &Call<'_>) -> Result<Answer> {
        self.call_as(call, &JSON).await
    }

    async fn call_as(&mut self, call: &Call<'_>, kind: &HeaderValue) -> Result<Answer> {
        let reused = self.sender.as_ref().is_some_and(|sender| !sender.is_closed());
        if !reused {
            self.connect().await?;
        }
        match self.attempt(call, kind).await {
            Err(error) if reused && (call.method != Method::POST || error.is_canceled()) => {
                self.connect().await?;
                Ok(self.attempt(call, kind).await?)
            }
            outcome => Ok(outcome?),
        }
    }

    async fn connect(&mut self) -> Result<()> {
        let stream = TcpStream::connect(&*self.authority).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the connection, and whoever waits for an answer learns the error there.
        tokio::spawn(connection);
        self.sender = Some(sender);
        Ok(())
    }

    async fn attempt(&mut self, call: &Call<'_>, kind: &HeaderValue) -> hyper::Result<Answer> {
        let sender = self.sender.as_mut().expect("the caller has connected");
        let mut request = Request::new(Full::new(call.body.clone()));
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = call.path.parse().expect("paths are built from escaped parts");
        let headers = request.headers_mut();
        let host = HeaderValue::from_str(&self.authority).expect("it was part of an address");
        headers.insert(HOST, host);
        if !call.body.is_empty() {
            headers.insert(CONTENT_TYPE, kind.clone());
        }
        if let Some(authorization) = call.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        Ok(Answer { status, body })
    }
}

/// The named string of a JSON object.
pub fn text(body: &[u8], key: &str) -> Result<String> {
    match serde_json::from_slice::<Value>(body)?.get(key) {
        Some(Value::String(text)) => Ok(text.clone()),
        _ => Err(format!("an answer without {key}").into()),
    }
}

/// Percent-encodes one part of a path or query.
pub fn escape(part: &str) -> String {
    let mut escaped = String::with_capacity(part.len() + 16);
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port() {
        assert_eq!(&*authority("http://127.0.0.1:8008/").unwrap(), "127.0.0.1:8008");
        assert_eq!(&*authority("http://localhost").unwrap(), "localhost:80");
        assert!(authority("https://localhost").is_err());
        assert!(authority("http://localhost/path").is_err());
    }

    #[test]
    fn parts_are_escaped() {
        assert_eq!(escape("!a:b"), "%21a%3Ab");
        assert_eq!(escape("{\"ü\"}"), "%7B%22%C3%BC%22%7D");
    }
}
