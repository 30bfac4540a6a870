//! A certificate chain with its key, from files or from where they were stored.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use engine_core::hostname::HostPattern;
use rustls::{
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{
        CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
        pem::{self, PemObject},
    },
    sign::CertifiedKey,
};
use x509_parser::{
    certificate::X509Certificate, extensions::GeneralName, oid_registry::OID_PKCS1_RSAENCRYPTION,
    prelude::FromDer,
};
use zeroize::{Zeroize as _, Zeroizing};

/// Longest PEM file that is read.
pub const FILE_BYTES_MAX: u64 = 1 << 20;
/// Most certificates of a chain: real ones have two to four.
pub const CHAIN_MAX: usize = 16;

/// A certificate chain, its key, and what the leaf says of itself.
///
/// Only the leaf is read when a bundle is made. The key stays bytes, wiped when they are dropped,
/// until a handshake needs it: 100,000 bundles are loaded in seconds, and few of them are in use.
pub struct Bundle {
    /// Never given twice in one process, so that what is derived from a bundle can be kept by it.
    pub(crate) id: u64,
    chain: Box<[Arc<[u8]>]>,
    key: Key,
    names: Box<[HostPattern]>,
    not_before: SystemTime,
    not_after: SystemTime,
    pub(crate) algorithm: Algorithm,
}

/// What kind of signature a bundle's key makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA or Ed25519: small and quick to sign.
    Curve,
    /// RSA: for clients that know nothing else.
    Rsa,
}

/// A private key's encoding, told by its PEM label or found by trying.
struct Key {
    bytes: Zeroizing<Vec<u8>>,
    encoding: Encoding,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Pkcs1,
    Sec1,
    Pkcs8,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// Why a certificate or its key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The file cannot be opened or read.
    #[error("reading {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// What the file holds is not good.
    #[error("{}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ContentError,
    },
    /// Each file is good by itself, but not the two together.
    #[error("{} does not go with {}", key.display(), certificate.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        source: ContentError,
    },
}

/// What is wrong with a certificate or a key.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum ContentError {
    /// Broken PEM: a line that is not base64, or an end that does not go with its beginning.
    #[error("this is not PEM: {0}")]
    Pem(PemFault),
    /// No `CERTIFICATE` section.
    #[error("there is no CERTIFICATE section in it: give the full chain, the leaf first")]
    NoCertificate,
    /// More than [`CHAIN_MAX`] certificates.
    #[error(
        "the chain has more than {CHAIN_MAX} certificates: leave out all but leaf and intermediates"
    )]
    ChainTooLong,
    /// No section with a private key.
    #[error(
        "there is no private key in it that can be read: PKCS#8, PKCS#1 and SEC1 without a \
         password can (openssl pkey -in old.key -out new.key)"
    )]
    NoKey,
    /// The leaf is not an X.509 certificate.
    #[error("the first certificate is not X.509 in DER")]
    Certificate,
    /// No name in the leaf that a client could ask for. The subject's common name does not count
    /// (RFC 9525 section 2).
    #[error("the first certificate has no DNS name in its subjectAltName: is it a CA's?")]
    NoNames,
    /// A key of a kind or size that TLS cannot use here.
    #[error(
        "the key is of no kind that is supported: ECDSA P-256, P-384 and P-521, Ed25519, RSA of \
         2048 bits and more"
    )]
    KeyKind,
    /// The key is not that of the leaf.
    #[error("the key is not the first certificate's key: is the chain in order, the leaf first?")]
    Mismatch,
}

/// How a file breaks the rules of PEM (RFC 7468).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemFault {
    /// A section has no end line.
    #[error("a section does not end")]
    NoEnd,
    /// A section starts with a damaged line.
    #[error("a section's first line is damaged")]
    Start,
    /// The contents are not base64.
    #[error("a section is not base64")]
    Base64,
    /// Something else.
    #[error("it is malformed")]
    Other,
}

impl PartialEq for Bundle {
    /// The same chain and the same key, whichever was read when.
    fn eq(&self, other: &Self) -> bool {
        self.chain == other.chain && self.key.bytes == other.key.bytes
    }
}

impl Bundle {
    /// Reads a chain and a key from PEM files, which may be the same, and checks that they belong
    /// together. `read` gives the content of a file, of at most [`FILE_BYTES_MAX`].
    ///
    /// # Errors
    /// Names the file and what to do about it.
    pub fn load(
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
        read: impl Fn(&Path) -> io::Result<Zeroizing<Vec<u8>>>,
    ) -> Result<Self, BundleError> {
        let (certificate, key) = (certificate.into(), key.into());
        let read = |path: &PathBuf| {
            read(path).map_err(|source| BundleError::Read {
                path: path.clone(),
                source,
            })
        };
        let chain_pem = read(&certificate)?;
        let chain = chain_of(&chain_pem).map_err(|source| BundleError::Content {
            path: certificate.clone(),
            source,
        })?;
        let key_pem = read(&key)?;
        let private = Key::from_pem(&key_pem).map_err(|source| BundleError::Content {
            path: key.clone(),
            source,
        })?;
        let bundle = Self::of(chain, private, names_of).map_err(|source| BundleError::Content {
            path: certificate.clone(),
            source,
        })?;
        match bundle.certified_key() {
            Ok(_) => Ok(bundle),
            Err(source) => Err(BundleError::Pair {
                certificate,
                key,
                source,
            }),
        }
    }

    /// Reads a chain and a key from PEM text and checks that they belong together.
    ///
    /// # Errors
    /// Says what is wrong with which of them.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, ContentError> {
        let bundle = Self::of(chain_of(chain)?, Key::from_pem(key)?, names_of)?;
        bundle.certified_key()?;
        Ok(bundle)
    }

    /// As [`Bundle::from_pem`], for what is shown to an origin: it needs no name.
    ///
    /// # Errors
    /// Says what is wrong with which of them.
    pub fn of_client(chain: &[u8], key: &[u8]) -> Result<Self, ContentError> {
        let bundle = Self::of(chain_of(chain)?, Key::from_pem(key)?, |_| Ok([].into()))?;
        bundle.certified_key()?;
        Ok(bundle)
    }

    /// Takes a chain, the leaf first, and a PKCS#8 key as they were stored: known to belong
    /// together, so the key is not looked at before a handshake needs it.
    ///
    /// Chains that share their intermediates should share the `Arc`s.
    ///
    /// # Errors
    /// Says what is wrong with the leaf.
    pub fn from_stored(
        chain: Vec<Arc<[u8]>>,
        pkcs8: Zeroizing<Vec<u8>>,
    ) -> Result<Self, ContentError> {
        Self::of(
            chain,
            Key {
                bytes: pkcs8,
                encoding: Encoding::Pkcs8,
            },
            names_of,
        )
    }

    fn of(
        chain: Vec<Arc<[u8]>>,
        key: Key,
        names_of: fn(&X509Certificate<'_>) -> Result<Box<[HostPattern]>, ContentError>,
    ) -> Result<Self, ContentError> {
        if chain.len() > CHAIN_MAX {
            return Err(ContentError::ChainTooLong);
        }
        let leaf = chain.first().ok_or(ContentError::NoCertificate)?;
        let (_, leaf) = X509Certificate::from_der(leaf).map_err(|_| ContentError::Certificate)?;
        let names = names_of(&leaf)?;
        let time = |seconds: i64| {
            let since_epoch = u64::try_from(seconds).unwrap_or(0);
            SystemTime::UNIX_EPOCH + Duration::from_secs(since_epoch)
        };
        let (not_before, not_after) = (leaf.validity().not_before, leaf.validity().not_after);
        let rsa = leaf.public_key().algorithm.algorithm == OID_PKCS1_RSAENCRYPTION;
        Ok(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            key,
            names,
            not_before: time(not_before.timestamp()),
            not_after: time(not_after.timestamp()),
            algorithm: if rsa {
                Algorithm::Rsa
            } else {
                Algorithm::Curve
            },
            chain: chain.into(),
        })
    }

    /// The names that the leaf is for. A wildcard stands for one label (RFC 9525 section 6.3).
    pub fn names(&self) -> &[HostPattern] {
        &self.names
    }

    /// The leaf in DER.
    pub fn leaf(&self) -> &[u8] {
        self.chain.first().map_or(&[], |leaf| leaf)
    }

    /// When the leaf begins to be valid.
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// Whether the leaf is valid at a time.
    pub fn is_valid(&self, now: SystemTime) -> bool {
        self.not_before <= now && now < self.not_after
    }

    /// When the leaf expires.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// What kind of signature the key makes.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether this can stand for `name`.
    pub fn covers(&self, name: &engine_core::hostname::Hostname) -> bool {
        self.names.iter().any(|pattern| match pattern {
            HostPattern::Exact(exact) => exact == name,
            HostPattern::Wildcard(domain) => name.parents().next() == Some(domain.as_str()),
        })
    }

    /// Parses the key and ties it to the chain: tens of microseconds for a curve's key, a
    /// millisecond for one of RSA.
    ///
    /// # Errors
    /// [`ContentError::KeyKind`] or [`ContentError::Mismatch`].
    pub(crate) fn certified_key(&self) -> Result<CertifiedKey, ContentError> {
        let key = any_supported_type(&self.key.der()).map_err(|_| ContentError::KeyKind)?;
        let chain = self.chain.iter();
        let chain = chain
            .map(|der| CertificateDer::from(der.to_vec()))
            .collect();
        // Compared here and not by rustls, whose parser refuses what may well be served: the
        // critical extension of a proof for ACME (RFC 8737 section 3) is one that it does not know.
        let leaf = self.chain.first().ok_or(ContentError::NoCertificate)?;
        let (_, leaf) = X509Certificate::from_der(leaf).map_err(|_| ContentError::Certificate)?;
        match key.public_key() {
            Some(public) if public.as_ref() != leaf.public_key().raw => Err(ContentError::Mismatch),
            _ => Ok(CertifiedKey::new(chain, key)),
        }
    }
}

impl Key {
    /// Reads the first private key of PEM text.
    fn from_pem(pem: &[u8]) -> Result<Self, ContentError> {
        let mut private = PrivateKeyDer::from_pem_slice(pem).map_err(key_fault)?;
        let encoding = if matches!(private, PrivateKeyDer::Pkcs1(_)) {
            Encoding::Pkcs1
        } else if matches!(private, PrivateKeyDer::Sec1(_)) {
            Encoding::Sec1
        } else {
            Encoding::Pkcs8
        };
        let bytes = Zeroizing::new(private.secret_der().to_vec());
        private.zeroize();
        Ok(Self { bytes, encoding })
    }

    fn der(&self) -> PrivateKeyDer<'_> {
        let bytes = self.bytes.as_slice();
        match self.encoding {
            Encoding::Pkcs1 => PrivatePkcs1KeyDer::from(bytes).into(),
            Encoding::Sec1 => PrivateSec1KeyDer::from(bytes).into(),
            Encoding::Pkcs8 => PrivatePkcs8KeyDer::from(bytes).into(),
        }
    }
}

fn names_of(leaf: &X509Certificate<'_>) -> Result<Box<[HostPattern]>, ContentError> {
    let alternative = leaf.subject_alternative_name();
    let alternative = alternative.map_err(|_| ContentError::Certificate)?;
    let names = alternative
        .iter()
        .flat_map(|names| &names.value.general_names);
    let names: Box<[HostPattern]> = names
        .filter_map(|name| {
            let GeneralName::DNSName(name) = name else {
                return None;
            };
            HostPattern::parse(name).ok()
        })
        .collect();
    if names.is_empty() {
        return Err(ContentError::NoNames);
    }
    Ok(names)
}

fn chain_of(pem: &[u8]) -> Result<Vec<Arc<[u8]>>, ContentError> {
    let mut chain = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem).take(CHAIN_MAX + 1) {
        let certificate = certificate.map_err(|error| ContentError::Pem(PemFault::of(&error)))?;
        chain.push(certificate.as_ref().into());
    }
    Ok(chain)
}

fn key_fault(error: pem::Error) -> ContentError {
    if matches!(error, pem::Error::NoItemsFound) {
        return ContentError::NoKey;
    }
    ContentError::Pem(PemFault::of(&error))
}

impl PemFault {
    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "what is left has nothing in common"
    )]
    pub(crate) fn of(error: &pem::Error) -> Self {
        match error {
            pem::Error::MissingSectionEnd { .. } => Self::NoEnd,
            pem::Error::IllegalSectionStart { .. } => Self::Start,
            pem::Error::Base64Decode(_) => Self::Base64,
            _ => Self::Other,
        }
    }
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the key.
        f.debug_struct("Bundle")
            .field("names", &self.names)
            .field("algorithm", &self.algorithm)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
