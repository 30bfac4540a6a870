//! Names of namespaces: files that namespaces are mounted on, as `ip netns add` makes them.

use std::{
    fs, io,
    num::NonZeroU16,
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use engine_sys::netns::{Identity, Netns};
use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
};

use crate::name::NamespaceName;

/// Where iproute2 keeps the names of namespaces (ip-netns(8)).
pub const DIRECTORY: &str = "/run/netns";

/// How old an empty name is at least when it is swept away.
const SWEEP_AGE_MIN: Duration = Duration::from_secs(1);

/// A directory of names.
///
/// A name is a file that a namespace is mounted on, as `ip netns add` makes it, so `ip netns exec`
/// works on each. Deleting the name hides a namespace but does not end one that is held elsewhere.
#[derive(Clone, Debug)]
pub struct Names {
    directory: PathBuf,
}

/// Why a name could not be mounted.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The directory of names could not be made or shared.
    #[error("preparing the directory {}", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The file to mount on could not be made.
    #[error("making the file {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The mount was refused.
    #[error("mounting a namespace on {}", .path.display())]
    Mount {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl BindError {
    /// The system's error number, where there is one.
    pub fn errno(&self) -> Option<Errno> {
        let (Self::Directory { source, .. }
        | Self::File { source, .. }
        | Self::Mount { source, .. }) = self;
        source.raw_os_error().map(Errno::from_raw)
    }
}

/// What is behind a name.
#[derive(Debug)]
pub(crate) enum Found {
    /// The namespace that was asked about.
    Same,
    /// Nothing, or an empty file to mount on.
    Nothing,
    /// Another namespace, or another file.
    Other,
    /// The system did not say.
    Unknown(io::Error),
}

impl Names {
    /// The names that are the files of `directory`; [`DIRECTORY`] is the system's.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    #[cfg(test)]
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The namespace of that name; absent where there is none and one may be given the name.
    ///
    /// # Errors
    /// The system's, and `InvalidInput` where another file than a namespace is there.
    pub fn open(&self, name: &NamespaceName) -> io::Result<Option<Netns>> {
        let path = self.path(name);
        match Netns::open(&path) {
            Ok(netns) => Ok(Some(netns)),
            Err(error) if is_free(&path, &error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What is behind the name of a namespace that is held. Takes no descriptor: there may be none
    /// left, and that says nothing about the name.
    pub(crate) fn look(&self, name: &NamespaceName, held: Identity) -> Found {
        match fs::metadata(self.path(name)) {
            Ok(file) if file.dev() == held.device && file.ino() == held.inode => Found::Same,
            // Namespaces look like empty files, but for their device.
            Ok(file) if file.dev() != held.device && file.is_file() && file.len() == 0 => {
                Found::Nothing
            }
            Ok(_) => Found::Other,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Found::Nothing,
            Err(error) => Found::Unknown(error),
        }
    }

    /// Gives a namespace a name that is free.
    ///
    /// # Errors
    /// Says what was refused. A name that was not free stays as it was.
    pub fn bind(&self, name: &NamespaceName, netns: &Netns) -> Result<(), BindError> {
        self.prepare()?;
        let path = self.path(name);
        // The mode of iproute2's files: what is mounted on them is what counts.
        let made = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o444)
            .open(&path);
        match made {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(BindError::File {
                    path,
                    source: error,
                });
            }
            Ok(_) | Err(_) => {}
        }
        let descriptor = format!("/proc/self/fd/{}", netns.as_fd().as_raw_fd());
        let mounted = mount(
            Some(descriptor.as_str()),
            &path,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        );
        mounted.map_err(|errno| {
            // Best effort: an empty file is taken for no name, by this store and the next.
            let _ = fs::remove_file(&path);
            BindError::Mount {
                path,
                source: errno.into(),
            }
        })
    }

    /// Takes a name away. The namespace ends with its last descriptor and its last process.
    ///
    /// # Errors
    /// The system's; `EINVAL` where nothing is mounted on the name.
    pub fn unbind(&self, name: &NamespaceName) -> io::Result<()> {
        let path = self.path(name);
        umount2(&path, MntFlags::MNT_DETACH)?;
        fs::remove_file(path)
    }

    /// Makes the directory of names a shared mount of its own, as `ip netns add` does: a name that is
    /// removed in one mount namespace then goes from all, and no copy keeps a dead namespace alive.
    pub(crate) fn prepare(&self) -> Result<(), BindError> {
        let directory = self.directory.as_path();
        let failed = |source: io::Error| BindError::Directory {
            path: directory.to_owned(),
            source,
        };
        fs::create_dir_all(directory).map_err(failed)?;
        let share = || {
            let flags = MsFlags::MS_SHARED | MsFlags::MS_REC;
            mount(None::<&str>, directory, None::<&str>, flags, None::<&str>)
        };
        match share() {
            // Not a mount point yet.
            Err(Errno::EINVAL) => {
                let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
                mount(
                    Some(directory),
                    directory,
                    None::<&str>,
                    flags,
                    None::<&str>,
                )
                .and_then(|()| share())
            }
            shared_or_failed => shared_or_failed,
        }
        .map_err(|errno| failed(errno.into()))
    }

    /// Removes the names of networks that have nothing behind them: a process that is killed between
    /// making a file and mounting on it leaves an empty one, and so does a machine that loses its
    /// mounts. Younger files may be somebody's who is about to mount.
    pub(crate) fn sweep(&self) -> io::Result<()> {
        let device = fs::metadata(&self.directory)?.dev();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let is_networks = entry.file_name().to_str().is_some_and(is_of_network);
            // Of what is there now: a mount hides the file that it is on.
            let Ok(file) = fs::symlink_metadata(entry.path()) else {
                continue;
            };
            let age = file.modified().ok().and_then(|at| at.elapsed().ok());
            let is_old = age.is_some_and(|age| age >= SWEEP_AGE_MIN);
            if is_networks && is_old && file.is_file() && file.len() == 0 && file.dev() == device {
                // Whatever became a mount meanwhile refuses (EBUSY).
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    fn path(&self, name: &NamespaceName) -> PathBuf {
        self.directory.join(name)
    }
}

/// `network-<port>`.
fn is_of_network(name: &str) -> bool {
    let port = name.strip_prefix("network-");
    port.is_some_and(|port| port.parse::<NonZeroU16>().is_ok())
}

/// Whether the path holds no namespace and may be given one: nothing is there, or the empty file
/// that remains when a name was unmounted only, or when its maker was killed before the mount.
fn is_free(path: &Path, error: &io::Error) -> bool {
    let empty = || fs::symlink_metadata(path).is_ok_and(|file| file.is_file() && file.len() == 0);
    // `InvalidInput` is what `Netns::open` says of a file that is no namespace.
    error.kind() == io::ErrorKind::NotFound
        || error.kind() == io::ErrorKind::InvalidInput && empty()
}

#[cfg(test)]
mod tests;
