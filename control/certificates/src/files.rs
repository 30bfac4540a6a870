//! Certificates that are kept in files, looked at every few seconds.
//!
//! What is compared is which file it is, how long, and when it was changed: that sees a file written
//! anew, one moved into its place, and the swapped symbolic links of Kubernetes' volumes, on every
//! filesystem; inotify(7) sees neither changes on network filesystems nor through links.
//!
//! A file system may not answer, so a look is made on a thread of its own, which is waited for no longer
//! than for so long.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use engine_core::hostname::HostPattern;
use engine_tls::{Bundle, bundle::BundleError};

use crate::{leaf, reading::PEM_BYTES_MAX, reason, wants::WantedFiles};

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

/// A look at a pair's files that is to be made.
#[derive(Debug)]
pub(crate) struct Look {
    certificate: PathBuf,
    key: PathBuf,
    /// What they were the last time.
    stamps: Option<(Stamp, Stamp)>,
}

/// What the files are now.
#[derive(Debug)]
pub(crate) struct Looked {
    stamps: Option<(Stamp, Stamp)>,
    /// The certificate, or why it is none; nothing where the files are those of the last time.
    read: Option<Result<Bundle, String>>,
}

/// Reads a certificate and its key, on this thread: see [`control_files::read_now`].
///
/// # Errors
/// Names the file and what to do about it.
pub fn load(certificate: &Path, key: &Path) -> Result<Bundle, BundleError> {
    let read = |path: &Path| control_files::read_now(path, PEM_BYTES_MAX);
    Bundle::load(certificate, key, read)
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

    /// A look at the files, which reads them where they are others than before.
    pub(crate) fn look(&self) -> Look {
        Look {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            stamps: self.stamps,
        }
    }

    /// Takes what a look found.
    pub(crate) fn take(&mut self, looked: Looked) -> Found {
        let Looked { stamps, read } = looked;
        match read {
            None => Found::Same,
            Some(Ok(bundle)) => {
                self.issuer = leaf::read(bundle.leaf()).map(|leaf| leaf.issuer);
                self.bundle = Some(Arc::new(bundle));
                self.stamps = stamps;
                self.error = None;
                Found::Changed
            }
            Some(Err(error)) => {
                // A pair that is being replaced does not belong together for a moment. As the
                // second file is another one then, it is looked at again.
                self.stamps = stamps;
                if self.error.as_ref() == Some(&error) {
                    return Found::Same;
                }
                self.error = Some(error.clone());
                Found::Broken(error)
            }
        }
    }
}

impl Look {
    /// Looks, and waits for that for as long as `deadline`.
    pub(crate) fn run(self, deadline: Duration) -> Looked {
        let path = self.certificate.clone();
        let whose = control_files::Whose::Networks;
        match control_files::within(whose, deadline, &path, move || self.run_now()) {
            Ok(looked) => looked,
            Err(error) => Looked {
                stamps: None,
                read: Some(Err(format!("reading {}: {error}", path.display()))),
            },
        }
    }

    fn run_now(self) -> Looked {
        let stamps = Stamp::of(&self.certificate).zip(Stamp::of(&self.key));
        // A file that is missing is tried again and again, and said to be once.
        if stamps.is_some() && stamps == self.stamps {
            return Looked { stamps, read: None };
        }
        let read = load(&self.certificate, &self.key);
        Looked {
            stamps,
            read: Some(read.map_err(|error| reason::of(&error))),
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

#[cfg(test)]
mod tests;
