//! The namespaces that tenants live in, each held by descriptor.

use std::{
    collections::BTreeMap,
    fs, io,
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use engine_sys::netns::{Identity, Netns};
use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
};

use crate::{
    links::{self, LinkError, State},
    name::NamespaceName,
};

/// Where iproute2 keeps the names of namespaces (ip-netns(8)).
pub const DIRECTORY: &str = "/run/netns";

/// The namespaces in use, by name.
///
/// A name is a file that a namespace is mounted on, as `ip netns add` makes it, so `ip netns exec`
/// works on each. Deleting the name hides a namespace but does not end one that is held here:
/// [`Namespaces::restore`] makes the name again.
#[derive(Debug)]
pub struct Namespaces {
    directory: PathBuf,
    held: BTreeMap<NamespaceName, Held>,
}

#[derive(Debug)]
struct Held {
    netns: Arc<Netns>,
    origin: Origin,
}

/// Who made a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was there.
    Found,
    /// [`Namespaces::ensure`] made it.
    Made,
}

/// Why a namespace could not be had.
#[derive(Debug, thiserror::Error)]
pub enum EnsureError {
    /// There is no namespace of that name, or it cannot be opened.
    #[error("opening the namespace {name}")]
    Open {
        /// The namespace.
        name: NamespaceName,
        /// The system's answer.
        source: io::Error,
    },
    /// The kernel made none.
    #[error("making the namespace {name}")]
    Create {
        /// The namespace.
        name: NamespaceName,
        /// The system's answer.
        source: io::Error,
    },
    /// Its `lo` stayed down.
    #[error("bringing up lo in the namespace {name}")]
    Loopback {
        /// The namespace.
        name: NamespaceName,
        /// The kernel's answer.
        source: LinkError,
    },
    /// It was made, but not its name.
    #[error("naming the namespace {name}")]
    Bind {
        /// The namespace.
        name: NamespaceName,
        /// What failed.
        source: BindError,
    },
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

/// Why a namespace was not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// It is not held here.
    #[error("the namespace {0} is not in use")]
    Unknown(NamespaceName),
    /// It was there before: it belongs to whoever made it.
    #[error("the namespace {0} was not made here")]
    Found(NamespaceName),
    /// Its name leads to another namespace now.
    #[error("the name {0} was given to another namespace")]
    Taken(NamespaceName),
    /// Its name could not be removed.
    #[error("removing the name {name}")]
    Unbind {
        /// The namespace.
        name: NamespaceName,
        /// The system's answer.
        source: io::Error,
    },
}

/// What [`Namespaces::restore`] found wrong with one name.
#[derive(Debug)]
pub struct Restored {
    /// The name.
    pub name: NamespaceName,
    /// What was done about it.
    pub result: Result<(), RestoreError>,
}

/// Why a lost name was not made again.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Somebody gave the name to another namespace, or put another file there. It is left alone.
    #[error("the name leads to something else now")]
    Taken,
    /// It could not be mounted.
    #[error(transparent)]
    Bind(BindError),
}

impl Default for Namespaces {
    fn default() -> Self {
        Self::in_directory(PathBuf::from(DIRECTORY))
    }
}

impl Namespaces {
    /// A store whose names are the files of `directory`; [`DIRECTORY`] is the default.
    pub fn in_directory(directory: PathBuf) -> Self {
        Self {
            directory,
            held: BTreeMap::new(),
        }
    }

    /// The namespace of that name, which must exist.
    ///
    /// # Errors
    /// [`EnsureError::Open`].
    pub fn open(&mut self, name: &NamespaceName) -> Result<Arc<Netns>, EnsureError> {
        if let Some(held) = self.held.get(name) {
            return Ok(held.netns.clone());
        }
        let netns = Netns::open(&self.path(name)).map_err(|source| EnsureError::Open {
            name: name.clone(),
            source,
        })?;
        Ok(self.hold(name, netns, Origin::Found))
    }

    /// The namespace of that name, made when there is none, with `lo` up.
    ///
    /// # Errors
    /// Says what was refused. Nothing is left behind.
    pub fn ensure(&mut self, name: &NamespaceName) -> Result<Arc<Netns>, EnsureError> {
        match self.open(name) {
            Err(EnsureError::Open { source, .. }) if unnamed(&self.path(name), &source) => {}
            known_or_failed => return known_or_failed,
        }
        let netns = Netns::create().map_err(|source| EnsureError::Create {
            name: name.clone(),
            source,
        })?;
        let up = links::within(&netns, async |links| links.set("lo", State::Up).await);
        up.map_err(|source| EnsureError::Loopback {
            name: name.clone(),
            source,
        })?;
        self.bind(name, &netns)
            .map_err(|source| EnsureError::Bind {
                name: name.clone(),
                source,
            })?;
        Ok(self.hold(name, netns, Origin::Made))
    }

    /// The namespaces in use and who made each.
    pub fn iter(&self) -> impl Iterator<Item = (&NamespaceName, &Arc<Netns>, Origin)> {
        self.held
            .iter()
            .map(|(name, held)| (name, &held.netns, held.origin))
    }

    /// Makes every lost name again, from the descriptor that is held. Answers those that were lost.
    ///
    /// A name costs two system calls to check; once a second is often enough for `ip netns exec`,
    /// and the connections need no name at all.
    pub fn restore(&self) -> Vec<Restored> {
        let lost = self.held.iter().filter_map(|(name, held)| {
            let result = match self.found_at(name, held.netns.identity()) {
                Found::Same | Found::Unknown(_) => return None,
                Found::Other => Err(RestoreError::Taken),
                Found::Nothing => self.bind(name, &held.netns).map_err(RestoreError::Bind),
            };
            Some(Restored {
                name: name.clone(),
                result,
            })
        });
        lost.collect()
    }

    /// Lets go of a namespace without touching its name.
    pub fn release(&mut self, name: &NamespaceName) {
        self.held.remove(name);
    }

    /// Removes a namespace that [`Namespaces::ensure`] made. It ends when its last descriptor and
    /// its last process do.
    ///
    /// # Errors
    /// Says why it was left alone.
    pub fn remove(&mut self, name: &NamespaceName) -> Result<(), RemoveError> {
        let held = self
            .held
            .get(name)
            .ok_or_else(|| RemoveError::Unknown(name.clone()))?;
        if held.origin == Origin::Found {
            return Err(RemoveError::Found(name.clone()));
        }
        let failed = |source| RemoveError::Unbind {
            name: name.clone(),
            source,
        };
        match self.found_at(name, held.netns.identity()) {
            Found::Nothing => {}
            Found::Same => unbind(&self.path(name)).map_err(failed)?,
            Found::Unknown(source) => return Err(failed(source)),
            Found::Other => return Err(RemoveError::Taken(name.clone())),
        }
        self.held.remove(name);
        Ok(())
    }

    fn hold(&mut self, name: &NamespaceName, netns: Netns, origin: Origin) -> Arc<Netns> {
        let netns = Arc::new(netns);
        let held = Held {
            netns: netns.clone(),
            origin,
        };
        self.held.insert(name.clone(), held);
        netns
    }

    fn path(&self, name: &NamespaceName) -> PathBuf {
        self.directory.join(name)
    }

    /// What is behind the name of a namespace that is held. Takes no descriptor: there may be none
    /// left, and that says nothing about the name.
    fn found_at(&self, name: &NamespaceName, held: Identity) -> Found {
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

    fn bind(&self, name: &NamespaceName, netns: &Netns) -> Result<(), BindError> {
        prepare(&self.directory)?;
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
}

enum Found {
    /// The namespace itself.
    Same,
    /// Nothing, or an empty file to mount on.
    Nothing,
    /// Another namespace, or another file.
    Other,
    /// The system did not say.
    Unknown(io::Error),
}

/// Whether the path holds no namespace and may be given one: nothing is there, or the empty file
/// that remains when a name was unmounted only, or when its maker was killed before the mount.
fn unnamed(path: &Path, error: &io::Error) -> bool {
    let empty = || fs::symlink_metadata(path).is_ok_and(|file| file.is_file() && file.len() == 0);
    // `InvalidInput` is what `Netns::open` says of a file that is no namespace.
    error.kind() == io::ErrorKind::NotFound
        || error.kind() == io::ErrorKind::InvalidInput && empty()
}

/// Makes the directory of names a shared mount of its own, as `ip netns add` does: a name that is
/// removed in one mount namespace then goes from all, and no copy keeps a dead namespace alive.
fn prepare(directory: &Path) -> Result<(), BindError> {
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

fn unbind(path: &Path) -> io::Result<()> {
    umount2(path, MntFlags::MNT_DETACH)?;
    fs::remove_file(path)
}

#[cfg(test)]
mod tests;
