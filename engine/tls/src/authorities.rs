//! Authorities to trust, from PEM text.

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};

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
    /// One of them cannot be trusted as an authority.
    #[error("certificate {position} cannot be an authority: {source}")]
    Certificate {
        /// Which one, from one.
        position: usize,
        /// What is wrong with it.
        source: rustls::Error,
    },
}

/// Reads the certificates of PEM text; other sections are passed over.
///
/// # Errors
/// Says what is wrong with it.
pub fn from_pem(pem: &[u8]) -> Result<Roots, AuthoritiesError> {
    // What is trusted is what sessions are made with: another reader might take more.
    let mut store = RootCertStore::empty();
    let mut roots: Vec<Box<[u8]>> = Vec::new();
    for root in CertificateDer::pem_slice_iter(pem).take(AUTHORITIES_MAX + 1) {
        let root = root.map_err(|error| AuthoritiesError::Pem(PemFault::of(&error)))?;
        roots.push(root.as_ref().into());
        let position = roots.len();
        let added = store.add(root);
        added.map_err(|source| AuthoritiesError::Certificate { position, source })?;
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
    use crate::peer::push_base64;

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
        assert!(matches!(
            from_pem(format!("{pem}{nonsense}").as_bytes()),
            Err(AuthoritiesError::Certificate { position: 2, .. })
        ));
    }

    #[test]
    fn a_certificate_with_bytes_behind_it_is_no_authority() {
        let made = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
        let trailing = [made.cert.der().as_ref(), &[0]].concat();
        let mut text = String::new();
        push_base64(&mut text, &trailing);
        let pem = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
        assert!(matches!(
            from_pem(pem.as_bytes()),
            Err(AuthoritiesError::Certificate { position: 1, .. })
        ));
    }
}
