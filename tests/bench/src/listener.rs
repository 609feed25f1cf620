//! Somebody who listens, by long-poll or by WebSocket: the same three calls for both.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use hyper::header::AUTHORIZATION;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::Result;
use crate::http::{Authority, Client};
use crate::person::{Person, Sync, next_batch, unequal};
use crate::server::Server;

/// How a person learns of what happens.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    LongPoll,
    WebSocket,
}

impl Way {
    pub const ALL: [Way; 2] = [Way::LongPoll, Way::WebSocket];

    /// As the table says it.
    pub fn name(self) -> &'static str {
        match self {
            Way::LongPoll => "long-poll",
            Way::WebSocket => "WebSocket",
        }
    }

    /// The WebSocket is Hearth's own, and announced where Matrix announces such things.
    pub async fn is_spoken_by(self, server: &Server) -> Result<bool> {
        if self == Way::LongPoll {
            return Ok(true);
        }
        let versions: serde_json::Value = serde_json::from_slice(&server.versions().await?)?;
        Ok(versions["unstable_features"]["chat.hearth.ws"] == true)
    }
}

/// Somebody on a connection of their own, and where they stand.
pub enum Listener<'a> {
    LongPoll { client: Client, person: &'a Person, since: String, unequal: u64 },
    WebSocket { stream: Box<WebSocketStream<TcpStream>> },
}

impl<'a> Listener<'a> {
    /// Listens from `since` on. A WebSocket answers that at once, and then is silent until something happens.
    pub async fn open(way: Way, authority: &Authority, person: &'a Person, since: &str) -> Result<Listener<'a>> {
        match way {
            Way::LongPoll => Ok(Listener::LongPoll {
                client: Client::new(authority),
                person,
                since: since.to_owned(),
                unequal: unequal(),
            }),
            Way::WebSocket => {
                let stream = Box::new(upgrade(authority, person, since).await?);
                let mut listener = Listener::WebSocket { stream };
                listener.next().await?;
                Ok(listener)
            }
        }
    }

    /// The next answer, whole; the one after it is asked for, or this one acknowledged, on the way.
    pub async fn next(&mut self) -> Result<Bytes> {
        match self {
            Listener::LongPoll { client, person, since, unequal } => {
                let ask = Sync::waiting(since, *unequal);
                let answer = person.sync(client, ask).await?;
                *since = next_batch(&answer)?;
                Ok(answer)
            }
            Listener::WebSocket { stream } => {
                let frame = next_frame(stream).await?;
                let Frame { sync } = serde_json::from_str(&frame)?;
                let ack = serde_json::json!({"type": "ack", "since": sync.next_batch});
                stream.send(Message::text(ack.to_string())).await?;
                Ok(frame.into())
            }
        }
    }

    /// Where a person stands now, to listen from.
    pub async fn since(client: &mut Client, person: &Person) -> Result<String> {
        next_batch(&person.sync(client, Sync::initial()).await?)
    }
}

#[derive(Deserialize)]
struct Frame {
    sync: Body,
}

#[derive(Deserialize)]
struct Body {
    next_batch: String,
}

async fn upgrade(authority: &Authority, person: &Person, since: &str) -> Result<WebSocketStream<TcpStream>> {
    let ask = Sync::after(since);
    let url = format!("ws://{authority}/_matrix/client/unstable/chat.hearth.ws/sync?{}", ask.query());
    let mut request = url.into_client_request()?;
    request.headers_mut().insert(AUTHORIZATION, person.authorization().clone());
    let stream = TcpStream::connect(&**authority).await?;
    stream.set_nodelay(true)?;
    // Frames are small, and thousands of sockets share the generator's memory.
    let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0);
    let (stream, _) = client_async_with_config(request, stream, Some(config)).await?;
    Ok(stream)
}

/// The next frame of text; tungstenite answers pings by itself.
async fn next_frame(stream: &mut WebSocketStream<TcpStream>) -> Result<Utf8Bytes> {
    loop {
        match stream.next().await {
            Some(Ok(Message::Text(text))) => return Ok(text),
            Some(Ok(Message::Close(why))) => {
                return Err(format!("the server closed a WebSocket: {why:?}").into());
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error.into()),
            None => return Err("the server closed a WebSocket".into()),
        }
    }
}
