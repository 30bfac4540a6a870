//! Certificates that are kept in files, looked at every few seconds.
//!
//! What is compared is which file it is, how long, and when it was changed: that sees a file written
//! anew, one moved into its place, and the swapped symbolic links of Kubernetes' volumes, on every
//! filesystem; inotify(7) sees neither changes on network filesystems nor through links.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use engine_core::hostname::HostPattern;
use engine_tls::Bundle;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use crate::{leaf, reason, wants::WantedFiles};

/// A certificate and a key in files, and what they were when they were looked at last.
#[derive(Debug)]
pub(crate) struct Pair {
    certificate: PathBuf,
    key: PathBuf,
    stamps: Option<(Stamp, Stamp)>,
    /// The last good one.
    bundle: Option<Arc<Bundle>>,
    /// Who issued that.
    issuer: Option<String>,
    /// Why the newest one is not taken.
    error: Option<String>,
}

/// Which file, in which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Changes of the content and of the metadata, in nanoseconds.
    times: (i64, i64, i64, i64),
}

/// What a look found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The same as before.
    Same,
    /// Another certificate.
    Changed,
    /// Something that is no certificate; the one from before stays.
    Broken(String),
}

impl Pair {
    /// Files that were not looked at yet.
    pub(crate) fn new(files: &WantedFiles) -> Self {
        Self {
            certificate: files.certificate.clone(),
            key: files.key.clone(),
            stamps: None,
            bundle: None,
            issuer: None,
            error: None,
        }
    }

    /// Which files these are: the certificate's and the key's.
    pub(crate) fn paths(&self) -> (PathBuf, PathBuf) {
        (self.certificate.clone(), self.key.clone())
    }

    /// The certificate's file.
    pub(crate) fn path(&self) -> &Path {
        &self.certificate
    }

    /// The last good certificate.
    pub(crate) fn bundle(&self) -> Option<&Arc<Bundle>> {
        self.bundle.as_ref()
    }

    /// Whether the last good certificate can stand for a host, or for all hosts below a domain.
    pub(crate) fn covers(&self, host: &HostPattern) -> bool {
        self.bundle.as_ref().is_some_and(|bundle| match host {
            HostPattern::Exact(name) => bundle.covers(name),
            HostPattern::Wildcard(_) => bundle.names().contains(host),
        })
    }

    /// Who issued it.
    pub(crate) fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// Why the newest one is not taken.
    pub(crate) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Looks at the files, and reads them where they are others than before.
    pub(crate) fn look(&mut self) -> Found {
        let stamps = Stamp::of(&self.certificate).zip(Stamp::of(&self.key));
        // A file that is missing is tried again and again, and said to be once.
        if stamps.is_some() && stamps == self.stamps {
            return Found::Same;
        }
        match Bundle::load(&self.certificate, &self.key) {
            Ok(bundle) => {
                self.issuer = issuer(&self.certificate);
                self.bundle = Some(Arc::new(bundle));
                self.stamps = stamps;
                self.error = None;
                Found::Changed
            }
            Err(error) => {
                // A pair that is being replaced does not belong together for a moment. As the
                // second file is another one then, it is looked at again.
                self.stamps = stamps;
                let text = reason::of(&error);
                if self.error.as_ref() == Some(&text) {
                    return Found::Same;
                }
                self.error = Some(text.clone());
                Found::Broken(text)
            }
        }
    }
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let file = fs::metadata(path).ok()?;
        Some(Self {
            device: file.dev(),
            inode: file.ino(),
            bytes: file.len(),
            times: (
                file.mtime(),
                file.mtime_nsec(),
                file.ctime(),
                file.ctime_nsec(),
            ),
        })
    }
}

/// Who issued the first certificate of a file that is known to have one.
fn issuer(path: &Path) -> Option<String> {
    let leaf = CertificateDer::from_pem_file(path).ok()?;
    Some(leaf::read(&leaf)?.issuer)
}

#[cfg(test)]
mod tests;
