//! Answers that are as long as a room is large: an object with lists of events, told as they are read, so that no
//! more is held than is on its way. Events stay, so no snapshot is held for a slow reader.

use std::io;

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use tokio::sync::mpsc;

use crate::{
    base::Pos,
    error::Result,
    http::{Reply, reply},
    store::{ReadTx, Store},
};

/// Events of an answer that are read at a time.
const PIECE: usize = 200;
/// Pieces that wait for a slow reader.
const WAITING: usize = 4;

/// An object that begins with `head`, an open brace and members without a comma behind them, and ends with some
/// lists, in which each event is what `say` makes of it.
pub fn object(
    store: Store,
    head: String,
    lists: Vec<(&'static str, Vec<Pos>)>,
    say: impl FnMut(&ReadTx, Pos) -> Result<String> + Send + 'static,
) -> Reply {
    let (pieces, body) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        // Whoever reads it may go away in the middle.
        let _ = write(&store, head, lists, say, &pieces).await;
    });
    let mut reply = Response::new(reply::stream(body));
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

async fn write(
    store: &Store,
    mut text: String,
    lists: Vec<(&'static str, Vec<Pos>)>,
    mut say: impl FnMut(&ReadTx, Pos) -> Result<String>,
    to: &mpsc::Sender<io::Result<Bytes>>,
) -> Result<(), ()> {
    for (name, positions) in lists {
        let comma = if text.ends_with('{') { "" } else { "," };
        text += &format!("{comma}\"{name}\":[");
        for (index, piece) in positions.chunks(PIECE).enumerate() {
            let read = store.read(|tx| {
                for (at, pos) in piece.iter().enumerate() {
                    if index + at > 0 {
                        text.push(',');
                    }
                    text.push_str(&say(tx, *pos)?);
                }
                Ok(())
            });
            send(to, read.map(|()| std::mem::take(&mut text))).await?;
        }
        text.push(']');
    }
    send(to, Ok(text + "}")).await
}

async fn send(to: &mpsc::Sender<io::Result<Bytes>>, text: Result<String>) -> Result<(), ()> {
    let piece = text.map(Bytes::from).map_err(|error| {
        tracing::error!(%error, "a room could not be handed over");
        io::Error::other("the answer can't go on")
    });
    let failed = piece.is_err();
    to.send(piece).await.map_err(drop)?;
    if failed { Err(()) } else { Ok(()) }
}
