//! Authorities to trust, from PEM text.

use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

use crate::{bundle::PemFault, policy::Roots};

/// Most authorities that one side is asked to trust.
pub const AUTHORITIES_MAX: usize = 64;

/// Why authorities cannot be used.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum AuthoritiesError {
    /// Broken PEM.
    #[error("this is not PEM: {0}")]
    Pem(PemFault),
    /// No `CERTIFICATE` section.
    #[error("there is no CERTIFICATE section in it")]
    NoCertificate,
    /// More than [`AUTHORITIES_MAX`].
    #[error("there are more than {AUTHORITIES_MAX} certificates in it")]
    TooMany,
    /// One of them is not X.509.
    #[error("one of the certificates is not X.509 in DER")]
    Certificate,
}

/// Reads the certificates of PEM text; other sections are passed over.
///
/// # Errors
/// Says what is wrong with it.
pub fn from_pem(pem: &[u8]) -> Result<Roots, AuthoritiesError> {
    let mut roots: Vec<Box<[u8]>> = Vec::new();
    for root in CertificateDer::pem_slice_iter(pem).take(AUTHORITIES_MAX + 1) {
        let root = root.map_err(|error| AuthoritiesError::Pem(PemFault::of(&error)))?;
        X509Certificate::from_der(&root).map_err(|_| AuthoritiesError::Certificate)?;
        roots.push(root.as_ref().into());
    }
    match roots.len() {
        0 => Err(AuthoritiesError::NoCertificate),
        1..=AUTHORITIES_MAX => Ok(roots.into()),
        _ => Err(AuthoritiesError::TooMany),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_read_one_by_one() {
        let names = || vec!["a.example".to_owned()];
        let made = rcgen::generate_simple_self_signed(names()).unwrap();
        let pem = made.cert.pem();
        let two = format!("{pem}\n{pem}");
        assert_eq!(from_pem(two.as_bytes()).unwrap().len(), 2);
        assert_eq!(from_pem(b"").unwrap_err(), AuthoritiesError::NoCertificate);
        let many = pem.repeat(AUTHORITIES_MAX + 1);
        assert_eq!(
            from_pem(many.as_bytes()).unwrap_err(),
            AuthoritiesError::TooMany
        );
        let broken = pem.replace("-----END", "-----");
        assert!(matches!(
            from_pem(broken.as_bytes()),
            Err(AuthoritiesError::Pem(_))
        ));
        let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(
            from_pem(nonsense.as_bytes()).unwrap_err(),
            AuthoritiesError::Certificate
        );
    }
}
