//! Whom we trust to say who others are: the authorities of the web, and those that the settings name.

use std::{path::PathBuf, sync::Arc};

use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, pem, pem::PemObject};

/// TLS towards others. HTTP/2 is asked for first.
pub fn client(trust: &[PathBuf]) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    for path in trust {
        let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let certificates = certificates.map_err(|error| match error {
            pem::Error::Io(error) => format!("federation.trust: can't read {}: {error}", path.display()),
            error => format!("federation.trust: {} holds no certificates in PEM form: {error}", path.display()),
        })?;
        if certificates.is_empty() {
            return Err(format!("federation.trust: {} holds no certificates in PEM form", path.display()));
        }
        for certificate in certificates {
            let added = roots.add(certificate);
            added.map_err(|error| format!("federation.trust: {} can't be trusted: {error}", path.display()))?;
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("can't set up TLS: {error}"))?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
