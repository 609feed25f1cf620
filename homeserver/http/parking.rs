//! A request that waits weighs little. While hyper has a request it holds a buffer of 8 KiB and more for its
//! connection; thousands of clients wait in a sync that nothing has happened for. So the connection is taken back
//! from hyper while such a request waits, and only the socket and the request's future are held:
//!
//! ```text
//!  hyper reads a request → its future waits → Lot → into_parts: hyper is gone ─► wait: socket and future
//!    ▲                                                                                     │ the answer
//!    └── a new hyper reads the request once more (`REPEATED`), and finds its answer ready ◄┘
//! ```
//!
//! How an answer is written, what else came on the connection and how it ends is thus hyper's as ever.

use std::{
    future::{pending, poll_fn},
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Method, Request, Version, header};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Reply;

/// Stands for a request that was read before. What may park answers in the same way as this would.
const REPEATED: &[u8] = b"GET / HTTP/1.1\r\nhost: repeated\r\n\r\n";
/// Bytes of a further request that are read while one waits: as many as tell that there is one.
const PEEK: usize = 32;

/// A request on its way to its answer.
pub type Waiting = Pin<Box<dyn Future<Output = Reply> + Send>>;

/// Whether a request may wait outside of hyper, once nothing of it is to come any more: one for a sync, by whichever
/// method, after which the connection goes on.
pub fn may_park<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    let goes_on =
        headers.get_all(header::CONNECTION).iter().all(|value| value.as_bytes().eq_ignore_ascii_case(b"keep-alive"));
    matches!(*request.method(), Method::GET | Method::POST)
        && request.version() == Version::HTTP_11
        && request.uri().path().ends_with("/sync")
        && !headers.contains_key(header::UPGRADE)
        && !headers.contains_key(header::EXPECT)
        && goes_on
}

/// What a connection and the request on it share: where a waiting request is put.
#[derive(Clone, Default)]
pub struct Lot(Arc<Inner>);

#[derive(Default)]
struct Inner {
    parked: Mutex<Option<Waiting>>,
    /// The body of the request has come in whole.
    is_read: AtomicBool,
    /// The socket didn't take all that hyper has written.
    is_stuck: AtomicBool,
}

impl Lot {
    /// Notes whether the request's body has come in whole.
    pub fn note_read(&self, is_read: bool) {
        self.0.is_read.store(is_read, Ordering::Relaxed);
    }

    /// Polls a request until it has to wait when it has been read, and then puts it here if it may be.
    pub fn park(&self, request: Waiting, may_park: bool) -> impl Future<Output = Reply> + Send + use<> {
        let (lot, mut request) = (self.clone(), Some(request));
        poll_fn(move |context| {
            // Once it is elsewhere, the connection is about to be taken from hyper.
            let Some(waiting) = &mut request else { return Poll::Pending };
            let polled = waiting.as_mut().poll(context);
            if polled.is_pending() && may_park && lot.0.is_read.load(Ordering::Relaxed) {
                *lot.parked() = request.take();
            }
            polled
        })
    }

    /// The request that waits, once nothing is left with hyper that the socket has still to take.
    pub fn take(&self) -> Option<Waiting> {
        if self.0.is_stuck.load(Ordering::Relaxed) { None } else { self.parked().take() }
    }

    fn parked(&self) -> std::sync::MutexGuard<'_, Option<Waiting>> {
        self.0.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's stream that can be given to hyper again, with what was read of it already.
pub struct Rewound<S> {
    stream: S,
    read: Bytes,
    lot: Lot,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Rewound<S> {
    /// A fresh one.
    pub fn new(stream: S, lot: Lot) -> Self {
        Self { stream, read: Bytes::new(), lot }
    }

    /// With what hyper has read beyond the request that waits.
    pub fn and_read(mut self, read: Bytes) -> Self {
        if !read.is_empty() {
            self.read = Bytes::from([read, self.read].concat());
        }
        self
    }

    /// Waits for the answer, and then is as if the request was still to be read. None if the other end has hung up
    /// meanwhile, and nobody waits any more.
    pub async fn wait(mut self, mut request: Waiting) -> Option<(Self, Reply)> {
        let reply = tokio::select! {
            biased;
            reply = &mut request => reply,
            () = self.hung_up() => return None,
        };
        Some((self.and_read(Bytes::from_static(REPEATED)), reply))
    }

    /// Returns when the other end hangs up. If it asks for more instead, that is kept for hyper, and what comes after
    /// it is not looked at.
    async fn hung_up(&mut self) {
        if self.read.is_empty() {
            let peeked = poll_fn(|context| {
                let mut bytes = [0; PEEK];
                let mut buffer = ReadBuf::new(&mut bytes);
                Pin::new(&mut self.stream)
                    .poll_read(context, &mut buffer)
                    .map_ok(|()| Bytes::copy_from_slice(buffer.filled()))
            });
            match peeked.await {
                Ok(bytes) if !bytes.is_empty() => self.read = bytes,
                _ => return,
            }
        }
        pending().await
    }

    fn note<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.lot.0.is_stuck.store(polled.is_pending(), Ordering::Relaxed);
        polled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let length = self.read.len().min(buffer.remaining());
        buffer.put_slice(&self.read.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.note(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.note(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        sync::oneshot,
    };

    use super::*;
    use crate::http::reply;

    fn request() -> (oneshot::Sender<Reply>, Waiting) {
        let (answer, waiting) = oneshot::channel();
        (answer, Box::pin(async move { waiting.await.expect("answered") }))
    }

    #[test]
    fn syncs_may_park_whose_connection_goes_on() {
        let may = |method: &str, path: &str, (name, value): (&str, &str)| {
            may_park(&Request::builder().method(method).uri(path).header(name, value).body(()).expect("a request"))
        };
        let (sync, goes_on) = ("/_matrix/client/v3/sync?timeout=1", ("connection", "keep-alive"));
        assert!(may("GET", sync, goes_on) && may("POST", sync, goes_on));
        assert!(!may("PUT", sync, goes_on) && !may("GET", "/_matrix/client/versions", goes_on));
        for ends in [("connection", "close"), ("upgrade", "websocket"), ("expect", "100-continue")] {
            assert!(!may("POST", sync, ends), "{ends:?}");
        }
    }

    #[tokio::test]
    async fn what_was_read_comes_again_and_what_came_meanwhile_after_it() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let (answer, waiting) = request();
        let stream = Rewound::new(ours, Lot::default()).and_read(Bytes::from_static(b"one "));
        theirs.write_all(b"two").await.expect("written");
        let parked = tokio::spawn(stream.wait(waiting));
        answer.send(Reply::new(reply::full("yes"))).expect("it waits");
        let (mut stream, _) = parked.await.expect("no panic").expect("still there");
        drop(theirs);
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await.expect("read");
        assert_eq!(read, [REPEATED, b"one two"].concat());
    }

    #[tokio::test]
    async fn nobody_waits_for_an_answer_after_hanging_up() {
        let (ours, theirs) = tokio::io::duplex(64);
        let (answer, waiting) = request();
        let parked = tokio::spawn(Rewound::new(ours, Lot::default()).wait(waiting));
        drop(theirs);
        assert!(parked.await.expect("no panic").is_none());
        assert!(answer.is_closed());
    }

    #[tokio::test]
    async fn a_request_is_not_taken_before_what_was_answered_is_gone() {
        let lot = Lot::default();
        let (_answer, waiting) = request();
        let mut parking = Box::pin(lot.park(waiting, true));
        let polled = poll_fn(|context| Poll::Ready(parking.as_mut().poll(context))).await;
        assert!(polled.is_pending() && lot.take().is_none(), "its body is still to come");
        lot.note_read(true);
        let (ours, mut theirs) = tokio::io::duplex(4);
        let mut stream = Rewound::new(ours, lot.clone());
        poll_fn(|context| {
            assert!(parking.as_mut().poll(context).is_pending());
            assert!(Pin::new(&mut stream).poll_write(context, b"1234").is_ready());
            assert!(Pin::new(&mut stream).poll_write(context, b"5").is_pending());
            Poll::Ready(())
        })
        .await;
        assert!(lot.take().is_none());
        theirs.read_exact(&mut [0; 4]).await.expect("read");
        stream.write_all(b"5").await.expect("written");
        assert!(lot.take().is_some());
        let (_answer, waiting) = request();
        let mut staying = Box::pin(lot.park(waiting, false));
        poll_fn(|context| {
            assert!(staying.as_mut().poll(context).is_pending());
            Poll::Ready(())
        })
        .await;
        assert!(lot.take().is_none());
    }
}
