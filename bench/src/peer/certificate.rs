//! The certificate of TLS that ends at a proxy: one for all of a run, with a key on P-256.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use anyhow::{Context, Result};

use super::write;
use crate::workload::NAME;

/// Where a proxy finds it.
pub(super) struct Files {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    /// Both in one, as HAProxy wants them.
    pub(super) both: PathBuf,
}

/// Writes it into `dir`.
///
/// # Errors
/// When it cannot be made or written.
pub(super) fn files(dir: &Path) -> Result<Files> {
    static MADE: OnceLock<(String, String)> = OnceLock::new();
    let (certificate, key) = match MADE.get() {
        Some(made) => made,
        None => {
            // rcgen's own choice is ECDSA on P-256 with SHA-256.
            let made = rcgen::generate_simple_self_signed([NAME.to_owned()]);
            let made = made.context("cannot make a certificate")?;
            let pem = (made.cert.pem(), made.signing_key.serialize_pem());
            MADE.get_or_init(|| pem)
        }
    };
    Ok(Files {
        certificate: write(dir, "certificate.pem", certificate)?,
        key: write(dir, "key.pem", key)?,
        both: write(dir, "both.pem", &format!("{certificate}{key}"))?,
    })
}
