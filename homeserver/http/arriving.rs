//! A request's body while it comes in. Who is refused before the body is read sends it all the same, and a
//! connection that is closed under what is still being sent takes the answer with it; so what nobody has read
//! is thrown away, for a while, and the refusal arrives. Knows nothing of what is in a body.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Version, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::parking::Lot;

/// Bytes of an unread body that are thrown away, and for how long. After that the connection ends.
const REST: usize = 32 * 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(5);

/// A body of which all, some or nothing has been read.
pub struct Arriving {
    /// None once it has come in whole.
    body: Option<Incoming>,
    /// It is on its way, whether it is wanted or not.
    unasked: bool,
    /// Where it is noted that it has come in whole.
    lot: Option<Lot>,
}

impl Arriving {
    /// The body of a request with this version and these headers. Who asks first whether to send
    /// (`Expect: 100-continue`) will not, and a stream of HTTP/2 ends without its connection.
    pub fn new(body: Incoming, version: Version, headers: &HeaderMap, lot: Option<Lot>) -> Self {
        let unasked = version < Version::HTTP_2 && !headers.contains_key(header::EXPECT);
        if let Some(lot) = &lot {
            lot.note_read(body.is_end_stream());
        }
        Self { body: Some(body), unasked, lot }
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(cx);
        if let Poll::Ready(None | Some(Err(_))) = polled {
            self.body = None;
        }
        if let (Poll::Ready(None), Some(lot)) = (&polled, &self.lot) {
            lot.note_read(true);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        let rest = self.body.take().filter(|rest| self.unasked && !rest.is_end_stream());
        if let (Some(rest), Ok(runtime)) = (rest, tokio::runtime::Handle::try_current()) {
            runtime.spawn(tokio::time::timeout(PATIENCE, throw_away(rest)));
        }
    }
}

async fn throw_away(mut rest: Incoming) {
    let mut left = REST;
    while let Some(Ok(frame)) = rest.frame().await {
        let size = frame.data_ref().map_or(0, Bytes::len);
        let Some(less) = left.checked_sub(size) else { return };
        left = less;
    }
}
