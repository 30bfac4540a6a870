//! Which certificate a handshake is answered with.

use std::{fmt, sync::Arc};

use engine_core::hostname::Hostname;
use rustls::{
    SignatureAlgorithm,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::{Certificates, Pair, parsed::parsed};
use crate::{
    bundle::{Algorithm, Bundle},
    provider::provider,
};

/// Answers with the certificate for the name, or with the default where that is permitted.
pub(crate) struct ForName {
    pub(crate) certificates: Certificates,
    pub(crate) or_default: bool,
}

/// Answers with the proof for the name, and with nothing else.
pub(crate) struct ForChallenge(pub(crate) Certificates);

impl ResolvesServerCert for ForName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let index = self.certificates.0.load();
        let name = hello.server_name();
        let name = name.and_then(|name| Hostname::parse(name.as_bytes()).ok());
        let found = name.and_then(|name| index.find(name.as_str()));
        let pair = found.or_else(|| self.or_default.then_some(&index.default))?;
        pair.choose(&hello)
    }
}

impl ResolvesServerCert for ForChallenge {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = Hostname::parse(hello.server_name()?.as_bytes()).ok()?;
        parsed(self.0.0.load().challenges.get(&name)?)
    }
}

impl Pair {
    /// The first that the client can verify. If none is, then any, for the alert that says so.
    fn choose(&self, hello: &ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut last = None;
        for bundle in self.bundles() {
            let Some(key) = parsed(bundle) else { continue };
            let signs = key.key.choose_scheme(hello.signature_schemes()).is_some();
            if signs && has_suite_for(hello, bundle) {
                return Some(key);
            }
            last = Some(key);
        }
        last
    }
}

/// Whether the client offers a cipher suite that goes with the bundle's key: those of TLS 1.2 name
/// the kind of key, those of TLS 1.3 go with any.
fn has_suite_for(hello: &ClientHello<'_>, bundle: &Bundle) -> bool {
    let algorithm = match bundle.algorithm() {
        Algorithm::Rsa => SignatureAlgorithm::RSA,
        Algorithm::Curve => SignatureAlgorithm::ECDSA,
    };
    let offered = hello.cipher_suites();
    provider().cipher_suites.iter().any(|suite| {
        offered.contains(&suite.suite()) && suite.usable_for_signature_algorithm(algorithm)
    })
}

impl fmt::Debug for ForName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForName")
            .field("or_default", &self.or_default)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ForChallenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ForChallenge")
    }
}
