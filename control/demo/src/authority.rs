//! The demo's certificate authority: real certificates, trusted by nobody else.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject as _},
};
use serde::{Deserialize, Serialize};

use super::error::DemoError;

/// An authority that lives as long as the demo; its key is only in memory.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn new() -> Result<Self, DemoError> {
        let name = "Ringway demo";
        let certify = |source| DemoError::Certify(name.to_owned(), source);
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().map_err(certify)?;
        let issuer = CertifiedIssuer::self_signed(parameters, key).map_err(certify)?;
        Ok(Self { issuer })
    }

    /// What clients have to trust: for `curl --cacert`.
    pub(super) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// What the server of `hostname` shows.
    pub(super) fn certify(&self, hostname: &str) -> Result<Identity, DemoError> {
        let certify = |source| DemoError::Certify(hostname.to_owned(), source);
        let key = KeyPair::generate().map_err(certify)?;
        let certificate = CertificateParams::new([hostname.to_owned()])
            .and_then(|parameters| parameters.signed_by(&key, &self.issuer))
            .map_err(certify)?;
        Ok(Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }

    /// The TLS side of a client that trusts this authority alone.
    pub(super) fn client(&self) -> Result<Arc<ClientConfig>, DemoError> {
        let mut roots = RootCertStore::empty();
        roots
            .add(self.issuer.der().clone())
            .map_err(DemoError::Tls)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(DemoError::Tls)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// A certificate with its key, both as PEM, so that they can be handed to another process.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Identity {
    certificate: String,
    key: String,
}

/// Why nobody can be served with a certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    /// Either is no PEM.
    #[error("reading a certificate and its key")]
    Pem(#[source] pem::Error),
    /// rustls would not take them.
    #[error("setting up TLS with a certificate")]
    Tls(#[source] rustls::Error),
}

impl Identity {
    /// The TLS side of its server.
    pub(super) fn server(&self) -> Result<Arc<ServerConfig>, IdentityError> {
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes());
        let certificate = certificate.map_err(IdentityError::Pem)?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(IdentityError::Pem)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(IdentityError::Tls)?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .map_err(IdentityError::Tls)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}
