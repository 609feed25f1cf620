//! TLS without a proxy: HTTP/2 and 1.1, and a certificate that is followed when it changes.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::common::{Server, free_address};

/// Writes a new certificate for `localhost` and its key, and answers the certificate.
fn renew(dir: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
    fs::write(dir.join("certificate.pem"), made.cert.pem()).expect("written");
    fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).expect("written");
    made.cert.der().clone()
}

/// Connects, trusting only this certificate.
async fn connect(
    address: SocketAddr,
    trusted: &CertificateDer<'static>,
    protocol: &[u8],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.clone()).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("known");
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").expect("a name"), stream).await
}

async fn start(dir: &Path) -> (Server, SocketAddr) {
    let free = free_address();
    let (certificate, key) = (dir.join("certificate.pem"), dir.join("key.pem"));
    let settings = format!("[tls]\nlisten = [\"{free}\"]\ncertificate = {certificate:?}\nkey = {key:?}\n");
    (Server::start_with(&settings).await, free)
}

#[tokio::test]
async fn both_protocols_are_spoken() {
    let dir = TempDir::new().expect("a directory");
    let certificate = renew(dir.path());
    let (_server, address) = start(dir.path()).await;
    let mut stream = connect(address, &certificate, b"http/1.1").await.expect("trusted");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let request = "GET /_matrix/client/versions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("read");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("v1.11"), "{answer}");

    let mut stream = connect(address, &certificate, b"h2").await.expect("trusted");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    // The preface and empty settings; a server of HTTP/2 answers with its own settings.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.expect("written");
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).await.expect("a frame");
    assert_eq!(frame[3], 4, "settings");
}

#[tokio::test]
async fn a_renewed_certificate_is_used_without_a_restart() {
    let dir = TempDir::new().expect("a directory");
    let first = renew(dir.path());
    let (server, address) = start(dir.path()).await;
    connect(address, &first, b"http/1.1").await.expect("trusted");

    fs::write(dir.path().join("key.pem"), "half written").expect("written");
    wait_for(|| server.log().contains("keeping the old")).await;
    connect(address, &first, b"http/1.1").await.expect("the old one is kept");

    let second = renew(dir.path());
    wait_for(|| server.log().contains("is in use")).await;
    connect(address, &second, b"http/1.1").await.expect("trusted");
    connect(address, &first, b"http/1.1").await.expect_err("the old one is gone");
}

async fn wait_for(done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(20), "it never came");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn a_key_that_does_not_fit_is_said() {
    let dir = TempDir::new().expect("a directory");
    renew(dir.path());
    let key = fs::read(dir.path().join("key.pem")).expect("written");
    renew(dir.path());
    fs::write(dir.path().join("key.pem"), key).expect("written");
    fs::write(dir.path().join("hearth.toml"), "[tls]\ncertificate = \"certificate.pem\"\nkey = \"key.pem\"\n")
        .expect("written");
    let output = Server::command().args(["check", "hearth.toml"]).current_dir(dir.path()).output().expect("it runs");
    assert!(String::from_utf8_lossy(&output.stderr).contains("can't be used together"), "{output:?}");
    assert!(CertificateDer::from_pem_file(dir.path().join("certificate.pem")).is_ok());
}
