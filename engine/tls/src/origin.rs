//! TLS towards an origin: whom to trust, who to be, what to speak.

#[cfg(test)]
mod tests;
mod verify;

use std::{fmt, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    client::{Resumption, danger::ServerCertVerifier},
    pki_types::{CertificateDer, InvalidDnsNameError, ServerName},
    sign::SingleCertAndKey,
    version,
};

use crate::{
    SessionError,
    bundle::{Bundle, ContentError},
    policy::Roots,
    provider::provider,
    session::ClientSession,
};
use verify::AnyCertificate;

/// Most sessions that a worker keeps for one origin, to resume them. Each has some KiB.
pub const RESUMPTIONS_MAX: usize = 16;

/// Whom to believe that an origin is who it says.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Trust {
    /// The authorities that browsers trust, compiled in (Mozilla's list).
    #[default]
    Public,
    /// These and no others, in DER: a tenant's own authority.
    Own(Roots),
    /// Whoever answers: encrypted, and yet no more certain than plain text. For origins whose
    /// network is the proof, such as a WireGuard peer.
    Anyone,
}

/// What to speak with an origin inside TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP/2 if the origin does, else HTTP/1.1.
    Http2,
    /// HTTP/1.1.
    #[default]
    Http1,
    /// Something else: no protocol is offered.
    Other,
}

/// How to speak TLS with an origin.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// Whom to believe.
    pub trust: Trust,
    /// The certificate to show when it is asked for.
    pub identity: Option<Arc<Bundle>>,
    /// What to speak inside.
    pub speaks: Speaks,
}

/// One origin's TLS, for one worker: the sessions to resume are its own, so that neither the lock
/// around them is ever waited for, nor a session taken from where another tenant was trusted.
#[derive(Clone)]
pub struct Origin(Arc<ClientConfig>);

/// Why an origin's settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// One of the roots is no certificate.
    #[error("reading the root certificate {position} for an origin")]
    Root {
        /// Which one, from zero.
        position: usize,
        /// What is wrong with it.
        source: rustls::Error,
    },
    /// No roots: no origin could be verified.
    #[error("there is no root certificate for an origin")]
    NoRoots,
    /// The gateway's own certificate is not good.
    #[error("reading the certificate to show to an origin")]
    Identity(#[source] ContentError),
    /// The versions do not go with the cipher suites.
    #[error("making a TLS configuration for an origin")]
    Versions(#[source] rustls::Error),
}

/// Why no session was begun.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Neither a hostname nor an IP address.
    #[error("the origin's name is neither a hostname nor an IP address")]
    Name(#[source] InvalidDnsNameError),
    /// The configuration does not work.
    #[error(transparent)]
    Session(SessionError),
}

impl Origin {
    /// Makes the configuration. [`Origin::for_worker`] gives each worker its own sessions.
    ///
    /// # Errors
    /// Says which of the settings is not good.
    pub fn new(settings: &Settings) -> Result<Self, OriginError> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .map_err(OriginError::Versions)?;
        let builder = match settings.trust.roots()? {
            Some(roots) => builder.with_root_certificates(roots),
            None => builder
                .dangerous()
                .with_custom_certificate_verifier(anyone()),
        };
        let mut config = match &settings.identity {
            None => builder.with_no_client_auth(),
            Some(bundle) => {
                let key = bundle.certified_key().map_err(OriginError::Identity)?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
            }
        };
        config.alpn_protocols = match settings.speaks {
            Speaks::Http2 => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            Speaks::Http1 => vec![b"http/1.1".to_vec()],
            Speaks::Other => Vec::new(),
        };
        config.resumption = Resumption::in_memory_sessions(RESUMPTIONS_MAX);
        Ok(Self(Arc::new(config)))
    }

    /// The same origin with no sessions to resume yet.
    #[must_use]
    pub fn for_worker(&self) -> Self {
        let mut config = (*self.0).clone();
        config.resumption = Resumption::in_memory_sessions(RESUMPTIONS_MAX);
        Self(Arc::new(config))
    }

    /// Begins a session with the origin called `name`: what is sent as SNI, unless it is an IP
    /// address, and what the origin's certificate must be for.
    ///
    /// # Errors
    /// The name is none.
    pub fn connect(&self, name: &str) -> Result<ClientSession, ConnectError> {
        let name = ServerName::try_from(name).map_err(ConnectError::Name)?;
        ClientSession::connect(self.0.clone(), name.to_owned()).map_err(ConnectError::Session)
    }
}

impl Trust {
    fn roots(&self) -> Result<Option<RootCertStore>, OriginError> {
        let own = match self {
            Self::Public => {
                return Ok(Some(
                    webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect(),
                ));
            }
            Self::Anyone => return Ok(None),
            Self::Own(own) => own,
        };
        let mut roots = RootCertStore::empty();
        for (position, root) in own.iter().enumerate() {
            let added = roots.add(CertificateDer::from(root.to_vec()));
            added.map_err(|source| OriginError::Root { position, source })?;
        }
        match roots.is_empty() {
            true => Err(OriginError::NoRoots),
            false => Ok(Some(roots)),
        }
    }
}

fn anyone() -> Arc<dyn ServerCertVerifier> {
    Arc::new(AnyCertificate(provider().signature_verification_algorithms))
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the key that may be in it.
        f.debug_struct("Origin").finish_non_exhaustive()
    }
}
