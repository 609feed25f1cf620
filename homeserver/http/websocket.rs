//! WebSockets: the opening handshake, and a socket that sends and receives text within bounds. Knows
//! nothing of what is said over it.

use std::{future::Future, net::IpAddr, time::Duration};

use futures_util::SinkExt;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use ruma::ServerName;
use tokio_stream::StreamExt;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error as SocketError, Message, Utf8Bytes,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::{
    reply::{self, Reply},
    router::Call,
};
use crate::error::{Error, Result};

/// Bytes of a message from a client at most.
pub const MAX_MESSAGE: usize = 128 * 1024;
/// A client that does not take a message for so long is gone.
const SEND_TIME: Duration = Duration::from_secs(60);
/// A closing handshake that takes longer is not waited for.
const CLOSE_TIME: Duration = Duration::from_secs(2);

/// The protocols that a client offers, in its order.
pub fn offered(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).map(str::trim)
}

/// Answers the opening handshake. The socket is there once the answer has been sent.
/// spec: RFC 6455, section 4.2
pub fn accept(
    call: Call,
    protocol: Option<&'static str>,
) -> Result<(Reply, impl Future<Output = Option<Socket>> + Send)> {
    let headers = call.headers();
    let says = |name, wanted: &str| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|word| word.trim().eq_ignore_ascii_case(wanted))
    };
    if !says(header::UPGRADE, "websocket") || !says(header::CONNECTION, "upgrade") {
        return Err(Error::unknown(
            "this endpoint is a WebSocket: ask for one by the headers of its opening handshake",
        ));
    }
    if !says(header::SEC_WEBSOCKET_VERSION, "13") {
        return Err(Error::unknown("the version of the WebSocket protocol here is 13"));
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|key| key.len() == 24);
    let key = key.ok_or_else(|| Error::unknown("a WebSocket's opening handshake has a Sec-WebSocket-Key"))?;
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes())).map_err(Error::internal)?;
    let mut reply = Response::new(reply::full(""));
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = reply.headers_mut();
    answer.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    answer.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(protocol) = protocol {
        answer.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    let upgrade = hyper::upgrade::on(call);
    Ok((reply, async move { Some(Socket::new(upgrade.await.ok()?).await) }))
}

/// Whether a request comes from a page of this host, or of an address that the server is known by, or
/// from no page at all.
pub fn is_from_here(headers: &HeaderMap, known: &str) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let Some((_, host)) = origin.to_str().ok().and_then(|origin| origin.split_once("://")) else { return false };
    let known = known.split_once("://").map(|(_, rest)| rest.split('/').next().unwrap_or_default());
    let asked = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    [known, asked].into_iter().flatten().any(|ours| ours.eq_ignore_ascii_case(host))
}

/// Whether a request comes from a page that this machine served to itself, or from no page. The host
/// alone says nothing: any site's name can be made to lead to this machine.
pub fn is_from_this_machine(headers: &HeaderMap, name: &ServerName) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let Some((_, place)) = origin.to_str().ok().and_then(|origin| origin.split_once("://")) else { return false };
    let Ok(page) = ServerName::parse(place) else { return false };
    let bare = page.host().trim_matches(['[', ']']);
    let local = bare.parse::<IpAddr>().map_or(bare == "localhost" || bare == name.host(), |ip| ip.is_loopback());
    local && is_from_here(headers, "")
}

/// What comes from the other end.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// A message.
    Text(Utf8Bytes),
    /// A sign of life.
    Alive,
    /// A message that is larger than is allowed.
    TooLarge,
    /// Something that is no text.
    Malformed,
    /// The other end has closed, or is gone.
    Closed,
}

/// An open socket.
pub struct Socket {
    stream: Box<WebSocketStream<TokioIo<Upgraded>>>,
    /// A ping was received, and its answer may not have left yet.
    owes_pong: bool,
}

impl Socket {
    async fn new(upgraded: Upgraded) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(2 * 1024)
            .write_buffer_size(0)
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let stream = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config));
        Self { stream: Box::new(stream.await), owes_pong: false }
    }

    /// Waits for what comes next. Can be given up and called again. Answers to pings leave before more is
    /// read: they would pile up for who sends pings and takes nothing.
    pub async fn receive(&mut self) -> Received {
        if self.owes_pong {
            match tokio::time::timeout(SEND_TIME, self.stream.flush()).await {
                Ok(Ok(())) => self.owes_pong = false,
                Ok(Err(_)) | Err(_) => return Received::Closed,
            }
        }
        match self.stream.next().await {
            Some(Ok(Message::Text(text))) => Received::Text(text),
            Some(Ok(Message::Ping(_))) => {
                self.owes_pong = true;
                Received::Alive
            }
            Some(Ok(Message::Pong(_))) => Received::Alive,
            Some(Ok(Message::Binary(_) | Message::Frame(_))) => Received::Malformed,
            Some(Err(SocketError::Capacity(_))) => Received::TooLarge,
            Some(Err(SocketError::Utf8(_))) => Received::Malformed,
            Some(Ok(Message::Close(_)) | Err(_)) | None => Received::Closed,
        }
    }

    /// Sends text, and returns once the connection has taken all of it. None if the other end is gone.
    pub async fn send(&mut self, text: String) -> Option<()> {
        self.send_message(Message::text(text)).await
    }

    /// Asks the other end for a sign of life.
    pub async fn ping(&mut self) -> Option<()> {
        self.send_message(Message::Ping(Default::default())).await
    }

    async fn send_message(&mut self, message: Message) -> Option<()> {
        tokio::time::timeout(SEND_TIME, self.stream.send(message)).await.ok()?.ok()
    }

    /// Says why, and closes.
    pub async fn close(mut self, code: u16, reason: &'static str) {
        let frame = CloseFrame { code: CloseCode::from(code), reason: Utf8Bytes::from_static(reason) };
        let closing = async {
            WebSocketStream::close(&mut self.stream, Some(frame)).await?;
            while let Some(Ok(_)) = self.stream.next().await {}
            Ok::<_, SocketError>(())
        };
        // The other end may be gone or slow to answer: it was told, which is all that can be done.
        let _ = tokio::time::timeout(CLOSE_TIME, closing).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_this_machine_is_one_that_it_served() {
        let from = |origin: &str, host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().expect("a host"));
            headers.insert(header::ORIGIN, origin.parse().expect("an origin"));
            is_from_this_machine(&headers, &ServerName::parse("hearth.lan").expect("a name"))
        };
        for host in ["localhost:8008", "127.0.0.1:8008", "[::1]:8008", "hearth.lan"] {
            assert!(from(&format!("http://{host}"), host), "{host}");
            assert!(!from("https://evil.org", host), "{host}");
            assert!(!from("null", host), "{host}");
        }
        assert!(!from("http://evil.org:8008", "evil.org:8008"), "a name that leads here");
        assert!(!from("http://localhost:3000", "localhost:8008"), "another program's page");
        assert!(is_from_this_machine(&HeaderMap::new(), &ServerName::parse("a.b").expect("a name")));
    }

    #[test]
    fn pages_of_other_sites_are_told_apart() {
        let from = |origin: Option<&str>, host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().expect("a host"));
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().expect("an origin"));
            }
            is_from_here(&headers, "https://chat.example.org/")
        };
        assert!(from(None, "localhost:8008"));
        assert!(from(Some("http://localhost:8008"), "localhost:8008"));
        assert!(from(Some("https://Chat.example.org"), "10.0.0.1"));
        for foreign in ["https://evil.org", "null", "http://localhost", "https://chat.example.org.evil.org", "x"] {
            assert!(!from(Some(foreign), "localhost:8008"), "{foreign}");
        }
    }
}
