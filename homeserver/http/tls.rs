//! TLS: a certificate from files, followed when they change. Owns everything that says rustls.

use std::{
    fs,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use rustls::{
    ServerConfig,
    crypto::ring,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject};
use tokio_rustls::TlsAcceptor;

use crate::config::Tls;

/// How often the files are looked at. A renewed certificate has weeks, but a wrong one is urgent.
const LOOK: Duration = Duration::from_secs(2);

/// The certificate that handshakes use now.
#[derive(Debug)]
pub struct Certificate {
    files: Tls,
    current: RwLock<Arc<CertifiedKey>>,
}

/// What tells that a file has changed.
type Stamp = [Option<(SystemTime, u64)>; 2];

impl Certificate {
    /// Reads the files.
    pub fn load(files: &Tls) -> Result<Arc<Self>, String> {
        let current = RwLock::new(Arc::new(read(files)?));
        Ok(Arc::new(Self { files: files.clone(), current }))
    }

    /// What makes TLS of a connection. HTTP/2 is offered first.
    pub fn acceptor(self: &Arc<Self>) -> Result<TlsAcceptor, String> {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("can't set up TLS: {error}"))?;
        let mut config = config.with_no_client_auth().with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config).into())
    }

    /// Reads the files again whenever they have changed, for as long as it is polled. If they can't be
    /// used (one may be written before the other), the certificate stays as it was.
    pub async fn follow(&self) {
        let mut seen = self.stamp();
        let mut look = tokio::time::interval(LOOK);
        loop {
            look.tick().await;
            let stamp = self.stamp();
            if stamp == seen {
                continue;
            }
            seen = stamp;
            match read(&self.files) {
                Ok(key) => {
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
                    tracing::info!("the TLS certificate has changed and is in use");
                }
                Err(error) => {
                    tracing::warn!(error, "the TLS certificate has changed and can't be used; keeping the old")
                }
            }
        }
    }

    fn stamp(&self) -> Stamp {
        [&self.files.certificate, &self.files.key].map(|path| {
            let data = fs::metadata(path).ok()?;
            Some((data.modified().ok()?, data.len()))
        })
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

fn read(files: &Tls) -> Result<CertifiedKey, String> {
    let chain = CertificateDer::pem_file_iter(&files.certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| explain(&files.certificate, "certificate", error))?;
    if chain.is_empty() {
        return Err(explain(&files.certificate, "certificate", pem::Error::NoItemsFound));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| explain(&files.key, "private key", error))?;
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| {
        let (certificate, key) = (files.certificate.display(), files.key.display());
        format!("{certificate} and {key} can't be used together: {error}")
    })
}

fn explain(path: &Path, wanted: &str, error: pem::Error) -> String {
    let path = path.display();
    match error {
        pem::Error::Io(error) => format!("can't read the {wanted} {path}: {error}"),
        pem::Error::NoItemsFound => format!("{path} holds no {wanted} in PEM form"),
        error => format!("{path} is not a {wanted} in PEM form: {error}"),
    }
}
