//! What was obtained, and what went wrong.

use std::sync::Arc;

use control_api::boot::CertificateName;
use control_store::StoredCertificate;
use engine_tls::{Bundle, bundle::ContentError};
use rustls::pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

use crate::schedule::{Chance, renewal};

/// A certificate that was obtained.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) bundle: Arc<Bundle>,
    /// In DER; shared with the bundle.
    pub(super) leaf: Arc<[u8]>,
    pub(super) network: Option<u16>,
    /// The URL of the directory that it is from.
    pub(super) directory: String,
    pub(super) issuer: String,
    pub(super) not_before: u64,
    pub(super) not_after: u64,
    pub(super) on_demand: bool,
}

/// Why there is nothing, or nothing newer.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    pub(super) failures: u32,
    pub(super) retry_at: u64,
    pub(super) reason: String,
}

/// Chains as they were read, so that certificates of one authority share what is the same.
#[derive(Debug, Default)]
pub(super) struct Chains(Vec<Chain>);

/// Intermediates as they were stored, and each by itself.
#[derive(Debug)]
struct Chain {
    stored: Arc<[u8]>,
    apart: Vec<Arc<[u8]>>,
}

/// Chains that are looked through; more than there are authorities in use at a time.
const CHAINS_MAX: usize = 64;

impl Held {
    /// What the store has.
    ///
    /// # Errors
    /// When the leaf is damaged.
    pub(super) fn read(
        stored: StoredCertificate,
        chains: &mut Chains,
    ) -> Result<(CertificateName, Self), ContentError> {
        let name = stored.name.parse().map_err(|_| ContentError::NoNames)?;
        let leaf: Arc<[u8]> = stored.leaf.into();
        let mut chain = vec![Arc::clone(&leaf)];
        chain.extend(chains.read(&stored.intermediates).iter().cloned());
        let bundle = Bundle::from_stored(chain, stored.key)?;
        let held = Self {
            bundle: Arc::new(bundle),
            leaf,
            network: stored.network,
            directory: stored.directory,
            issuer: stored.issuer,
            not_before: stored.not_before,
            not_after: stored.not_after,
            on_demand: stored.on_demand,
        };
        Ok((name, held))
    }

    /// When it is renewed if its directory does not say.
    pub(super) fn renewal(&self, chance: Chance) -> u64 {
        renewal(self.not_before, self.not_after, chance)
    }
}

impl Chains {
    /// Takes certificates in DER apart that lie one after the other; a damaged rest is left out.
    fn read(&mut self, der: &Arc<[u8]>) -> &[Arc<[u8]>] {
        let mut known = self.0.iter();
        let known = known.position(|known| Arc::ptr_eq(&known.stored, der));
        let index = known.unwrap_or_else(|| {
            if self.0.len() >= CHAINS_MAX {
                self.0.clear();
            }
            self.0.push(Chain {
                stored: Arc::clone(der),
                apart: apart(der),
            });
            self.0.len() - 1
        });
        self.0.get(index).map_or(&[], |chain| &chain.apart)
    }
}

fn apart(mut der: &[u8]) -> Vec<Arc<[u8]>> {
    let mut chain = Vec::new();
    while let Ok((rest, _)) = X509Certificate::from_der(der) {
        let length = der.len() - rest.len();
        let certificate = CertificateDer::from(&der[..length]);
        chain.push(Arc::from(certificate.as_ref()));
        der = rest;
    }
    chain
}
