//! What one connection, and all connections of one address, may cost.

use std::{
    collections::HashMap,
    io::{self, IoSlice},
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

use crate::limits;

/// An other end that takes nothing for so long is gone.
const WRITE_TIME: Duration = Duration::from_secs(60);
/// Connections of one address at once at most: many people behind one router, each with many tabs.
const MAX_OF_ADDRESS: u32 = 1000;

/// A connection on which a write that makes no progress fails after a while.
pub struct Impatient<S> {
    stream: S,
    patience: Duration,
    /// Runs while a write waits.
    gives_up: Option<Pin<Box<Sleep>>>,
}

impl<S> Impatient<S> {
    /// With the patience of a server.
    pub fn new(stream: S) -> Self {
        Self { stream, patience: WRITE_TIME, gives_up: None }
    }

    fn bound<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.gives_up = None;
            return polled;
        }
        let patience = self.patience;
        let gives_up = self.gives_up.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        gives_up.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.bound(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.bound(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(context);
        self.bound(context, polled)
    }
}

/// How many connections each address has. Holds no more entries than there are connections.
#[derive(Clone, Default)]
pub struct Addresses(Arc<Mutex<HashMap<String, u32>>>);

impl Addresses {
    /// A place for one more connection of an address; none if it has too many. This machine's own
    /// connections are not counted.
    pub fn enter(&self, ip: IpAddr) -> Option<Entered> {
        if ip.to_canonical().is_loopback() {
            return Some(Entered(None));
        }
        let address = limits::address(ip);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address.clone()).or_default();
        if *count >= MAX_OF_ADDRESS {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Entered(Some((self.clone(), address))))
    }

    fn leave(&self, address: &str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.get_mut(address) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.remove(address)),
        }
    }
}

/// A place, until it is dropped.
pub struct Entered(Option<(Addresses, String)>);

impl Drop for Entered {
    fn drop(&mut self) {
        if let Some((addresses, address)) = self.0.take() {
            addresses.leave(&address);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::{Instant, timeout},
    };

    use super::*;

    #[tokio::test]
    async fn a_write_that_nobody_takes_fails_and_a_slow_one_does_not() {
        let patience = Duration::from_millis(400);
        let (ours, mut theirs) = tokio::io::duplex(4);
        let mut ours = Impatient { patience, ..Impatient::new(ours) };
        let slow = async {
            for _ in 0..3 {
                tokio::time::sleep(patience / 2).await;
                theirs.read_exact(&mut [0; 4]).await.expect("sent");
            }
        };
        let (written, ()) = tokio::join!(ours.write_all(&[0; 16]), slow);
        written.expect("each piece was taken in time");
        let began = Instant::now();
        let stuck = timeout(patience * 20, ours.write_all(&[0; 16])).await.expect("gives up");
        assert_eq!(stuck.expect_err("nobody reads").kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() >= patience);
    }

    #[test]
    fn an_address_has_so_many_places_and_this_machine_any_number() {
        let (addresses, far) = (Addresses::default(), IpAddr::from([192, 0, 2, 1]));
        let mut held: Vec<_> = (0..MAX_OF_ADDRESS).map(|_| addresses.enter(far).expect("a place")).collect();
        assert!(addresses.enter(far).is_none());
        assert!(addresses.enter(IpAddr::from([192, 0, 2, 2])).is_some());
        held.pop();
        assert!(addresses.enter(far).is_some());
        let here: Vec<_> = (0..=MAX_OF_ADDRESS).map(|_| addresses.enter(IpAddr::from([127, 0, 0, 1]))).collect();
        assert!(here.iter().all(Option::is_some));
        drop((held, here));
        assert!(addresses.0.lock().expect("a lock").is_empty());
    }
}
