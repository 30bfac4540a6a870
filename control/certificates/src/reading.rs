//! Reads files that the boot file and documents name, away from the thread that all tasks share.

use std::{io, path::Path};

use zeroize::Zeroizing;

/// Longest file of certificates in PEM.
pub(crate) const PEM_BYTES_MAX: u64 = engine_tls::bundle::FILE_BYTES_MAX;
/// Longest file with a shared key in base64.
pub(crate) const KEY_BYTES_MAX: u64 = 64 * 1024;

/// A file's content.
///
/// # Errors
/// As of [`control_files::read`].
pub(crate) async fn file(path: &Path, bytes_max: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || control_files::read(&path, bytes_max));
    read.await.map_err(io::Error::other)?
}

/// A file's content as text.
///
/// # Errors
/// As of [`control_files::read_text`].
pub(crate) async fn text(path: &Path, bytes_max: u64) -> io::Result<Zeroizing<String>> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || control_files::read_text(&path, bytes_max));
    read.await.map_err(io::Error::other)?
}
