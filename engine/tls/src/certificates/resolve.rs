//! Which certificate a handshake is answered with.

use std::{fmt, sync::Arc};

use engine_core::hostname::Hostname;
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::{Certificates, Pair, parsed::parsed};

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
            // rustls has left out the schemes that go with none of the offered cipher suites.
            if key.key.choose_scheme(hello.signature_schemes()).is_some() {
                return Some(key);
            }
            last = Some(key);
        }
        last
    }
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
