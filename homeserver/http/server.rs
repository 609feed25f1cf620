//! Listening, connections, and stopping cleanly.

use std::{
    convert::Infallible,
    future::poll_fn,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Request, header};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::{
    Arriving, Router,
    admit::Peer,
    connection::{Addresses, Impatient},
    parking::{self, Lot, Rewound, Waiting},
};
use crate::app::App;

/// A request's head has to arrive within this time.
const HEAD_TIME: Duration = Duration::from_secs(15);
/// How long requests under way may take once the server is stopping.
const GRACE: Duration = Duration::from_secs(10);

/// What the listeners serve, and how.
pub struct Service {
    /// What requests reach.
    pub app: Arc<App>,
    /// Where they go.
    pub router: Router,
    /// As many places as there may be connections at once.
    pub places: Arc<Semaphore>,
    /// How many of them each address has.
    pub addresses: Addresses,
    /// A proxy stands in front, and its `X-Forwarded-For` says where calls come from.
    pub behind_proxy: bool,
}

/// Serves a listener, with TLS if there is a certificate, until `stop` says true; then lets requests
/// under way end.
pub async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    service: Arc<Service>,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &service.places) => accepted,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            () = stopping(&mut stop) => break,
        };
        let (stream, address, place) = accepted;
        // What comes by a proxy has the proxy's address.
        let entered = match service.behind_proxy {
            true => None,
            false => match service.addresses.enter(address.ip()) {
                Some(entered) => Some(entered),
                None => continue,
            },
        };
        let (tls, service, stop) = (tls.clone(), service.clone(), stop.clone());
        connections.spawn(async move {
            connection(stream, address, tls, service, stop).await;
            drop((place, entered));
        });
    }
    drop(listener);
    let ended = tokio::time::timeout(GRACE, async { while connections.join_next().await.is_some() {} });
    if ended.await.is_err() {
        tracing::warn!(connections = connections.len(), "closing connections that did not end in time");
    }
}

/// Waits until the server is to stop.
async fn stopping(stop: &mut watch::Receiver<bool>) {
    // An error says that nobody is left to ask for it, which means the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit) {
    loop {
        let place = places.clone().acquire_owned().await.expect("never closed");
        match listener.accept().await {
            Ok((stream, address)) => return (stream, address, place),
            Err(error) => {
                // Out of file descriptors, most likely: let some connections end first.
                tracing::warn!(%error, "can't accept connections");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// Each way to serve it is a box of its own, so that a connection weighs what its own way needs.
async fn connection(
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    service: Arc<Service>,
    stop: watch::Receiver<bool>,
) {
    // Small answers should leave at once; failing to ask for that is no reason to refuse.
    let _ = stream.set_nodelay(true);
    let stream = Impatient::new(stream);
    let Some(tls) = tls else {
        return Box::pin(http1(stream, address, service, stop)).await;
    };
    match tokio::time::timeout(HEAD_TIME, Box::pin(tls.accept(stream))).await {
        Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
            Box::pin(http2(stream, address, service, stop)).await;
        }
        Ok(Ok(stream)) => Box::pin(http1(stream, address, service, stop)).await,
        Ok(Err(error)) => tracing::debug!(%address, %error, "TLS handshake failed"),
        Err(_) => tracing::debug!(%address, "TLS handshake took too long"),
    }
}

async fn http1(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    address: SocketAddr,
    service: Arc<Service>,
    mut stop: watch::Receiver<bool>,
) {
    let lot = Lot::default();
    let (mut stream, mut ready) = (Rewound::new(stream, lot.clone()), None);
    loop {
        // In a box, so that it weighs nothing while the connection is parked.
        let (back, waiting) = match Box::pin(hyper1(stream, address, &service, &lot, ready.take(), &mut stop)).await {
            Ok(Some(parked)) => parked,
            Ok(None) => return,
            Err(error) => return tracing::debug!(%address, %error, "connection ended"),
        };
        let Some((back, mut reply)) = back.wait(waiting).await else { return };
        if *stop.borrow() {
            reply.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        (stream, ready) = (back, Some(reply));
    }
}

/// Serves a connection until it ends, or until a request on it waits. The answer to the first request may be
/// there already.
async fn hyper1<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: Rewound<S>,
    address: SocketAddr,
    service: &Arc<Service>,
    lot: &Lot,
    ready: Option<super::Reply>,
    stop: &mut watch::Receiver<bool>,
) -> hyper::Result<Option<(Rewound<S>, Waiting)>> {
    let ready = Mutex::new(ready);
    let mut served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_headers(64)
        .serve_connection(
            TokioIo::new(stream),
            service_fn(|request| {
                let ready = ready.lock().unwrap_or_else(PoisonError::into_inner).take();
                let may_park = ready.is_none() && parking::may_park(&request);
                let answer: Waiting = match ready {
                    Some(reply) => Box::pin(std::future::ready(reply)),
                    None => Box::pin(answer(service, address, request, Some(lot.clone()))),
                };
                let answer = lot.park(answer, may_park);
                async move { Ok::<_, Infallible>(answer.await) }
            }),
        )
        .with_upgrades();
    let mut stopping = pin!(stopping(stop));
    let mut is_stopping = false;
    let parked = poll_fn(|context| {
        // First, as an answer that is there is still to be given.
        if let Poll::Ready(ended) = Pin::new(&mut served).poll(context) {
            return Poll::Ready(ended.map(|()| None));
        }
        if let Some(waiting) = lot.take() {
            return Poll::Ready(Ok(Some(waiting)));
        }
        if !is_stopping && stopping.as_mut().poll(context).is_ready() {
            is_stopping = true;
            Pin::new(&mut served).graceful_shutdown();
            context.waker().wake_by_ref();
        }
        Poll::Pending
    });
    let Some(waiting) = parked.await? else { return Ok(None) };
    let Some(parts) = served.into_parts() else { return Ok(None) };
    Ok(Some((parts.io.into_inner().and_read(parts.read_buf), waiting)))
}

async fn http2(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    address: SocketAddr,
    service: Arc<Service>,
    mut stop: watch::Receiver<bool>,
) {
    let mut served = Box::pin(
        hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(64)
            .max_header_list_size(16 * 1024)
            .keep_alive_interval(Some(Duration::from_secs(60)))
            .serve_connection(
                TokioIo::new(stream),
                service_fn(move |request| {
                    let answer = answer(&service, address, request, None);
                    async move { Ok::<_, Infallible>(answer.await) }
                }),
            ),
    );
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = stopping(&mut stop) => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%address, %error, "connection ended");
    }
}

fn answer(
    service: &Service,
    address: SocketAddr,
    request: Request<Incoming>,
    lot: Option<Lot>,
) -> impl Future<Output = super::Reply> + Send + use<> {
    let ip = match service.behind_proxy {
        true => forwarded_for(request.headers()).unwrap_or(address.ip()),
        false => address.ip(),
    };
    let (head, body) = request.into_parts();
    let body = Arriving::new(body, head.version, &head.headers, lot);
    let mut request = Request::from_parts(head, body);
    request.extensions_mut().insert(Peer::at(ip));
    service.router.answer(service.app.clone(), request)
}

/// The address that the nearest proxy saw: the last one it added, with or without a port.
pub fn forwarded_for(headers: &HeaderMap) -> Option<std::net::IpAddr> {
    let value = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
    let last = value.rsplit(',').next()?.trim();
    let bare = || last.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    last.parse().ok().or_else(|| Some(last.parse::<SocketAddr>().ok()?.ip())).or_else(bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_forwarded_address_is_read_with_and_without_a_port() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", value.parse().expect("a value"));
            forwarded_for(&headers).map(|ip| ip.to_string())
        };
        for (value, address) in [
            ("192.0.2.1", "192.0.2.1"),
            ("10.0.0.1, 192.0.2.1:4711", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
        ] {
            assert_eq!(of(value).as_deref(), Some(address));
        }
        assert_eq!(of("unknown"), None);
    }
}
