//! The authority's certificate in a file, for curl.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
};

use nix::unistd::{UnlinkatFlags, unlinkat};

use super::error::DemoError;

/// The file. Removed when dropped.
pub(super) struct Certificate {
    path: PathBuf,
    /// The directory that it is in, which may be out of sight by then.
    directory: File,
    name: String,
}

impl Certificate {
    /// Writes it where everybody on this machine can read it.
    ///
    /// # Errors
    /// When the directory for such files takes none.
    pub(super) fn write(pem: &str) -> Result<Self, DemoError> {
        let name = format!("ringway-demo-{}.pem", std::process::id());
        let parent = std::env::temp_dir();
        let path = parent.join(&name);
        let write = || {
            let directory = File::open(&parent)?;
            // A file that is there already belongs to somebody else, or leads somewhere else.
            File::create_new(&path)?.write_all(pem.as_bytes())?;
            Ok(directory)
        };
        match write() {
            Ok(directory) => Ok(Self {
                path,
                directory,
                name,
            }),
            Err(source) => Err(DemoError::Write(path, source)),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        // It holds no secret: at worst a small file is left in the directory for such files.
        let _ = unlinkat(
            &self.directory,
            self.name.as_str(),
            UnlinkatFlags::NoRemoveDir,
        );
    }
}
