//! The demo's certificate authority: real certificates, trusted by nobody else.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

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

    /// The TLS side of the server of `hostname`.
    pub(super) fn server(&self, hostname: &str) -> Result<Arc<ServerConfig>, DemoError> {
        let certify = |source| DemoError::Certify(hostname.to_owned(), source);
        let key = KeyPair::generate().map_err(certify)?;
        let certificate = CertificateParams::new([hostname.to_owned()])
            .and_then(|parameters| parameters.signed_by(&key, &self.issuer))
            .map_err(certify)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(DemoError::Tls)?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .map_err(DemoError::Tls)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
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
