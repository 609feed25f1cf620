//! Requests whose bodies are too large to be held: their handlers take them piece by piece.

use std::io;

use bytes::Bytes;
use http_body_util::BodyExt;
use tokio_stream::{Stream, StreamExt};

use super::Arriving;
pub use super::router::Call as Request;

/// The least size that a body can have, from what its head says.
pub fn least_size(request: &Request) -> u64 {
    http_body::Body::size_hint(request.body()).lower()
}

/// A body as it comes.
pub fn pieces(body: Arriving) -> impl Stream<Item = io::Result<Bytes>> + Send {
    body.into_data_stream().map(|piece| piece.map_err(io::Error::other))
}
