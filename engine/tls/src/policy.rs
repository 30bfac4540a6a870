//! How a name's clients are to speak TLS, and the configurations made of that.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use aws_lc_rs::digest::{self, Context};
use engine_core::{
    classify::{self, ClientHello},
    hostname::Hostname,
};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::CertificateDer,
    server::{
        NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier,
        danger::ClientCertVerifier,
    },
    version,
};

use crate::{
    certificates::{Certificates, ForChallenge, ForName},
    failure::SessionError,
    provider::provider,
    session::ServerSession,
    tickets::Tickets,
};
use suites::prefers_chacha;

mod suites;
#[cfg(test)]
mod tests;

/// The protocol of ACME's tls-alpn-01 challenge (RFC 8737 section 6.2).
pub const ACME_PROTOCOL: &[u8] = b"acme-tls/1";
/// Most different policies in use at a time.
pub const POLICIES_MAX: usize = 4096;

/// How a name's clients are to speak TLS. Equal policies share one configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Policy {
    /// The application protocols, the preferred one first.
    pub protocols: Protocols,
    /// The oldest version that is spoken.
    pub version: MinVersion,
    /// Whether clients must say who they are.
    pub clients: Clients,
    /// What a client gets whose name is unknown.
    pub unknown: UnknownName,
}

/// The application protocols to agree on (RFC 7301).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocols {
    /// HTTP/2, else HTTP/1.1.
    #[default]
    Http2,
    /// HTTP/1.1 alone.
    Http1,
    /// None: the extension is not answered, for what is not HTTP.
    Any,
}

/// The oldest version that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MinVersion {
    /// TLS 1.2, with ECDHE and AEAD suites alone.
    #[default]
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// Whether clients must say who they are. The roots are certificates in DER.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Clients {
    /// They are not asked.
    #[default]
    Unasked,
    /// They are asked, and verified if they answer.
    Optional(Roots),
    /// No certificate, no connection.
    Required(Roots),
}

/// The authorities that vouch for clients, each in DER.
pub type Roots = Arc<[Box<[u8]>]>;

/// What a client gets that asks for a name without a certificate, or for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum UnknownName {
    /// The alert `unrecognized_name`.
    #[default]
    Refuse,
    /// The default certificate, if there is one.
    Default,
}

/// Why a policy cannot be put into force.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// More than [`POLICIES_MAX`] at a time.
    #[error("making one more TLS configuration: {POLICIES_MAX} different ones are in use")]
    TooMany,
    /// One of the roots is no certificate.
    #[error("reading the root certificate {position} for clients")]
    Root {
        /// Which one, from zero.
        position: usize,
        /// What is wrong with it.
        source: rustls::Error,
    },
    /// No root, so no client could be verified.
    #[error("making the verifier of client certificates")]
    Verifier(#[source] VerifierBuilderError),
    /// The versions do not go with the cipher suites.
    #[error("making a TLS configuration")]
    Versions(#[source] rustls::Error),
}

/// Why a hello is not answered with a handshake.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// There is no certificate for the name that the client asks for.
    #[error("there is no certificate for the name that the client asks for")]
    UnknownName,
    /// The hello wants a proof that nobody put up.
    #[error("there is no ACME challenge for the name that the client asks for")]
    NoChallenge,
    /// The session did not begin.
    #[error(transparent)]
    Session(SessionError),
}

impl AcceptError {
    /// The alert to send before the connection is closed. A session's own is sent by the session.
    pub fn alert(&self) -> Option<&'static [u8]> {
        match self {
            Self::UnknownName => Some(&classify::UNRECOGNIZED_NAME),
            Self::NoChallenge => Some(&NO_APPLICATION_PROTOCOL),
            Self::Session(_) => None,
        }
    }

    /// The word in logs and metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::UnknownName => "tls_unknown_name",
            Self::NoChallenge => "tls_no_challenge",
            Self::Session(error) => error.cause().map_or("", crate::Cause::label),
        }
    }
}

/// A fatal `no_application_protocol` alert (RFC 7301 section 3.2).
const NO_APPLICATION_PROTOCOL: [u8; 7] = [21, 3, 3, 0, 2, 2, 120];

/// A policy put into force: what a route's snapshot holds, and workers accept with.
#[derive(Debug)]
pub struct ServerTlsConfig {
    certificates: Certificates,
    /// Chooses the cipher in our order.
    config: Arc<ServerConfig>,
    /// Chooses it in the client's.
    chacha: Arc<ServerConfig>,
    challenge: Arc<ServerConfig>,
    policy: Policy,
}

impl ServerTlsConfig {
    /// Begins a session with the client whose hello was read from `received`.
    ///
    /// # Errors
    /// Says why not; [`AcceptError::alert`] is what the client should hear.
    pub fn accept(
        &self,
        hello: &ClientHello,
        received: &[u8],
    ) -> Result<ServerSession, AcceptError> {
        let config = self.config_for(hello, received)?.clone();
        ServerSession::accept(config, received).map_err(AcceptError::Session)
    }

    /// Whether the proof for `name` is up that an ACME directory asks for.
    pub fn has_challenge(&self, name: &Hostname) -> bool {
        self.certificates.has_challenge(name)
    }

    /// Whether a connection made to `name` may also carry requests for `other`: see
    /// [`Certificates::may_carry`].
    pub fn may_carry(&self, name: Option<&Hostname>, other: &Hostname) -> bool {
        self.certificates.may_carry(name, other)
    }

    /// The policy that this is made of.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    pub(crate) fn config_for(
        &self,
        hello: &ClientHello,
        received: &[u8],
    ) -> Result<&Arc<ServerConfig>, AcceptError> {
        let name = match &hello.name {
            classify::ServerName::Host(name) => Some(name),
            classify::ServerName::Absent
            | classify::ServerName::IpLiteral
            | classify::ServerName::Invalid(_) => None,
        };
        // RFC 8737 section 3 has the directory offer this protocol and no other.
        if hello.alpn.as_deref() == Some(ACME_PROTOCOL) {
            return match name.is_some_and(|name| self.certificates.has_challenge(name)) {
                true => Ok(&self.challenge),
                false => Err(AcceptError::NoChallenge),
            };
        }
        if !self.is_known(name) {
            return Err(AcceptError::UnknownName);
        }
        match prefers_chacha(received) {
            true => Ok(&self.chacha),
            false => Ok(&self.config),
        }
    }

    fn is_known(&self, name: Option<&Hostname>) -> bool {
        name.is_some_and(|name| self.certificates.has(name))
            || self.policy.unknown == UnknownName::Default && self.certificates.has_default()
    }
}

/// Makes [`ServerTlsConfig`] of policies, the same of equal ones: thousands of routes need few of them.
///
/// Used while a snapshot is built. What no snapshot uses any longer is let go.
#[derive(Debug)]
pub struct Policies {
    certificates: Certificates,
    tickets: Tickets,
    challenge: Arc<ServerConfig>,
    made: HashMap<Policy, Weak<ServerTlsConfig>>,
}

impl Policies {
    /// Makes terms with these certificates and tickets, both of which go on changing.
    ///
    /// # Errors
    /// [`PolicyError::Versions`].
    pub fn new(certificates: Certificates, tickets: Tickets) -> Result<Self, PolicyError> {
        let mut challenge = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .map_err(PolicyError::Versions)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(ForChallenge(certificates.clone())));
        challenge.alpn_protocols = vec![ACME_PROTOCOL.to_vec()];
        challenge.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self {
            certificates,
            tickets,
            challenge: Arc::new(challenge),
            made: HashMap::new(),
        })
    }

    /// The terms for `policy`.
    ///
    /// # Errors
    /// Says what is wrong with the policy.
    pub fn terms(&mut self, policy: &Policy) -> Result<Arc<ServerTlsConfig>, PolicyError> {
        if let Some(terms) = self.made.get(policy).and_then(Weak::upgrade) {
            return Ok(terms);
        }
        if self.made.len() >= POLICIES_MAX {
            self.made.retain(|_, terms| terms.strong_count() > 0);
        }
        if self.made.len() >= POLICIES_MAX {
            return Err(PolicyError::TooMany);
        }
        let chacha = self.config(policy)?;
        let mut config = chacha.clone();
        config.ignore_client_order = true;
        let terms = Arc::new(ServerTlsConfig {
            certificates: self.certificates.clone(),
            config: Arc::new(config),
            chacha: Arc::new(chacha),
            challenge: self.challenge.clone(),
            policy: policy.clone(),
        });
        self.made.insert(policy.clone(), Arc::downgrade(&terms));
        Ok(terms)
    }

    fn config(&self, policy: &Policy) -> Result<ServerConfig, PolicyError> {
        let versions: &[_] = match policy.version {
            MinVersion::Tls12 => &[&version::TLS13, &version::TLS12],
            MinVersion::Tls13 => &[&version::TLS13],
        };
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .map_err(PolicyError::Versions)?
            .with_client_cert_verifier(policy.clients.verifier()?)
            .with_cert_resolver(Arc::new(ForName {
                certificates: self.certificates.clone(),
                or_default: policy.unknown == UnknownName::Default,
            }));
        config.alpn_protocols = policy.protocols.list();
        // Tickets hold the sessions, so nothing is kept here and any worker can resume any.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = self.tickets.bound(policy.clients.binding());
        Ok(config)
    }
}

impl Protocols {
    fn list(self) -> Vec<Vec<u8>> {
        match self {
            Self::Http2 => vec![b"h2".to_vec(), b"http/1.1".to_vec(), b"http/1.0".to_vec()],
            Self::Http1 => vec![b"http/1.1".to_vec(), b"http/1.0".to_vec()],
            Self::Any => Vec::new(),
        }
    }
}

impl Clients {
    fn verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, PolicyError> {
        let (roots, required) = match self {
            Self::Unasked => return Ok(WebPkiClientVerifier::no_client_auth()),
            Self::Optional(roots) => (roots, false),
            Self::Required(roots) => (roots, true),
        };
        let mut store = RootCertStore::empty();
        for (position, root) in roots.iter().enumerate() {
            let added = store.add(CertificateDer::from(root.to_vec()));
            added.map_err(|source| PolicyError::Root { position, source })?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider());
        let builder = match required {
            true => builder,
            false => builder.allow_unauthenticated(),
        };
        builder.build().map_err(PolicyError::Verifier)
    }

    /// What tickets are bound to: who verified the client, and whether it had to be. A resumed
    /// session brings its client along unverified (RFC 8446 section 4.6.1), so it must not come
    /// from where other roots, or none, were asked.
    fn binding(&self) -> [u8; 32] {
        let (mode, roots): (u8, &[Box<[u8]>]) = match self {
            Self::Unasked => (0, &[]),
            Self::Optional(roots) => (1, roots),
            Self::Required(roots) => (2, roots),
        };
        let mut context = Context::new(&digest::SHA256);
        context.update(&[mode]);
        for root in roots {
            context.update(&(root.len() as u64).to_be_bytes());
            context.update(root);
        }
        let mut binding = [0; 32];
        binding.copy_from_slice(context.finish().as_ref());
        binding
    }
}
