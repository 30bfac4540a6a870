//! Certificates that are kept in files.

use std::{path::PathBuf, time::Duration};

use crate::{
    document::Spot,
    problem::Problems,
    section::{Check, section},
};

/// Most pairs of files: each is looked at every few seconds.
pub const CERTIFICATE_FILES_MAX: usize = 4096;

section! {
    /// Certificates that are kept in files. A file that changes is taken without a restart; one that
    /// is broken then is said to be, and the certificate from before stays.
    pub struct Tls {
        /// Certificates with their keys. Each is for all names that it contains.
        files: Option<Vec<CertificateFiles>>, reload;
        /// The certificate for clients that ask for a name without a certificate, or for no name.
        default: Option<CertificateFiles>, reload;
        /// How often files are checked for changes. SIGHUP checks at once.
        look_interval: Duration = "5s" in "100ms"..="1h";
    }
}

section! {
    /// A certificate and its key.
    pub struct CertificateFiles {
        /// The certificate chain in PEM, the leaf first. Relative to the boot file's folder.
        certificate: PathBuf, reload;
        /// The key in PEM; may be the same file. Relative to the boot file's folder.
        key: PathBuf, reload;
    }
}

impl Check for Tls {
    fn check(&self, spot: &Spot<'_>, problems: &mut Problems) {
        let count = self.files.as_ref().map_or(0, Vec::len);
        if count > CERTIFICATE_FILES_MAX {
            spot.error(
                problems,
                format_args!("more than {CERTIFICATE_FILES_MAX} pairs of files"),
            );
        }
    }
}

impl Check for CertificateFiles {}
