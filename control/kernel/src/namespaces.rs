//! The namespaces that tenants live in, each held by descriptor.

use std::{collections::BTreeMap, io, path::PathBuf, sync::Arc};

use engine_sys::netns::Netns;

pub use crate::names::BindError;
use crate::{
    links::{self, LinkError, State},
    name::NamespaceName,
    names::{Found, Names},
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
    names: Names,
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
            names: Names::new(directory),
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
        match self.find(name)? {
            Some(netns) => Ok(self.hold(name, netns, Origin::Found)),
            None => Err(EnsureError::Open {
                name: name.clone(),
                source: io::ErrorKind::NotFound.into(),
            }),
        }
    }

    /// The namespace of that name, made when there is none, with `lo` up.
    ///
    /// # Errors
    /// Says what was refused. Nothing is left behind.
    pub fn ensure(&mut self, name: &NamespaceName) -> Result<Arc<Netns>, EnsureError> {
        if let Some(held) = self.held.get(name) {
            return Ok(held.netns.clone());
        }
        if let Some(netns) = self.find(name)? {
            return Ok(self.hold(name, netns, Origin::Found));
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
        self.names
            .bind(name, &netns)
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
            let result = match self.names.look(name, held.netns.identity()) {
                Found::Same | Found::Unknown(_) => return None,
                Found::Other => Err(RestoreError::Taken),
                Found::Nothing => self
                    .names
                    .bind(name, &held.netns)
                    .map_err(RestoreError::Bind),
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
        match self.names.look(name, held.netns.identity()) {
            Found::Nothing => {}
            Found::Same => self.names.unbind(name).map_err(failed)?,
            Found::Unknown(source) => return Err(failed(source)),
            Found::Other => return Err(RemoveError::Taken(name.clone())),
        }
        self.held.remove(name);
        Ok(())
    }

    fn find(&self, name: &NamespaceName) -> Result<Option<Netns>, EnsureError> {
        self.names.open(name).map_err(|source| EnsureError::Open {
            name: name.clone(),
            source,
        })
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
}

#[cfg(test)]
mod tests;
