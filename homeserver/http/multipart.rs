//! A file as one server sends it to another: `multipart/mixed`, with an object for what is to be said of it
//! and the file itself. spec: server-server-api#get_matrixfederationv1mediadownloadmediaid

use std::io;

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use tokio::sync::mpsc;

use super::{Reply, reply};
use crate::{
    base::random,
    error::{Error, Result},
};

/// The answer with a file of `size` bytes, which comes in pieces. What it is and how it is to be shown are values that stand in
/// headers elsewhere.
pub fn answer(
    mut file: mpsc::Receiver<io::Result<Bytes>>,
    size: u64,
    (kind, disposition): (HeaderValue, HeaderValue),
) -> Result<Reply> {
    // Nobody who sends a file can know it, so it is not in the file.
    let boundary = random::id::<32>();
    let mut head =
        format!("\r\n--{boundary}\r\nContent-Type: application/json\r\n\r\n{{}}\r\n--{boundary}\r\n").into_bytes();
    for (name, value) in [("Content-Type", &kind), ("Content-Disposition", &disposition)] {
        head.extend_from_slice(name.as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    let tail = format!("\r\n--{boundary}--\r\n").into_bytes();
    let length = head.len() as u64 + size + tail.len() as u64;
    let (pieces, taken) = mpsc::channel(1);
    tokio::spawn(async move {
        // Whoever asked may have gone; then nothing is sent to anybody.
        if pieces.send(Ok(Bytes::from(head))).await.is_err() {
            return;
        }
        while let Some(piece) = file.recv().await {
            let broken = piece.is_err();
            if pieces.send(piece).await.is_err() || broken {
                return;
            }
        }
        let _ = pieces.send(Ok(Bytes::from(tail))).await;
    });
    let mut answer = Response::new(reply::stream(taken));
    let kind = HeaderValue::from_str(&format!("multipart/mixed; boundary={boundary}")).map_err(Error::internal)?;
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    Ok(answer)
}
