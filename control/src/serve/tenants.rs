//! The namespaces of the running state, each held by descriptor.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    sync::Arc,
};

use control_kernel::{
    name::NamespaceName,
    namespaces::{EnsureError, Namespaces, Restored},
};
use control_plan::{NamespaceSource, Planned};
use engine::Publication;
use engine_core::ids::NetnsId;
use engine_sys::netns::Netns;

/// Every namespace that the running snapshot names.
///
/// One that cannot be had fails the connections of its own networks only: it is said once, tried
/// again at every watch, and taken up when it appears. A namespace that the state no longer names
/// is let go of and keeps its name: what is in it may be somebody's.
#[derive(Debug)]
pub(super) struct Tenants {
    host: Arc<Netns>,
    namespaces: Namespaces,
    missing: BTreeSet<NamespaceSource>,
    /// Names that lead to something else now; said once.
    taken: BTreeSet<NamespaceName>,
}

impl Tenants {
    /// Opens the namespace that Ringway runs in.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            host: Arc::new(Netns::current()?),
            namespaces: Namespaces::default(),
            missing: BTreeSet::new(),
            taken: BTreeSet::new(),
        })
    }

    /// Opens everything that a plan names. What only earlier plans named stays open until
    /// [`Tenants::release_all_but`].
    pub(super) fn open(&mut self, planned: Planned) -> Publication {
        let mut opened = HashMap::new();
        let mut missing = BTreeSet::new();
        for (id, source) in planned.namespaces {
            match self.take(&source) {
                Ok(netns) => {
                    opened.insert(id, netns);
                }
                Err(error) => {
                    if !self.missing.contains(&source) {
                        let error = format!("{:#}", anyhow::Error::from(error));
                        tracing::error!(error, "the networks of this namespace cannot be reached");
                    }
                    missing.insert(source);
                }
            }
        }
        self.missing = missing;
        Publication {
            snapshot: planned.snapshot,
            namespaces: opened,
        }
    }

    fn take(&mut self, source: &NamespaceSource) -> Result<Arc<Netns>, EnsureError> {
        match (source, name_of(source)) {
            (NamespaceSource::Made(_), Some(name)) => self.namespaces.ensure(&name),
            (NamespaceSource::Existing(_), Some(name)) => self.namespaces.open(&name),
            (_, _) => Ok(Arc::clone(&self.host)),
        }
    }

    /// Lets go of what the running state no longer names.
    pub(super) fn release_all_but(&mut self, wanted: &BTreeMap<NetnsId, NamespaceSource>) {
        let wanted: BTreeSet<NamespaceName> = wanted.values().filter_map(name_of).collect();
        let held: Vec<NamespaceName> = self
            .namespaces
            .iter()
            .map(|(name, _, _)| name.clone())
            .collect();
        for name in held.iter().filter(|name| !wanted.contains(name)) {
            tracing::info!(namespace = %name, "no network names this namespace any more");
            self.namespaces.release(name);
        }
        self.taken.retain(|name| wanted.contains(name));
    }

    /// Whether a namespace that was missing can be had now.
    pub(super) fn some_appeared(&mut self) -> bool {
        for source in self.missing.clone() {
            if self.take(&source).is_ok() {
                return true;
            }
        }
        false
    }

    /// Makes the names again that were deleted.
    pub(super) fn restore_names(&mut self) {
        for Restored { name, result } in self.namespaces.restore() {
            match result {
                Ok(()) => {
                    tracing::warn!(namespace = %name, "its name was deleted and is made again");
                }
                Err(error) if self.taken.insert(name.clone()) => {
                    tracing::warn!(namespace = %name, %error, "its name was deleted and stays so");
                }
                Err(_) => {}
            }
        }
    }

    /// Lets go of namespaces whose names lead to others now, so that the next plan opens those.
    pub(super) fn forget_replaced(&mut self) {
        for Restored { name, result } in self.namespaces.restore() {
            if result.is_err() {
                tracing::info!(namespace = %name, "the namespace that has the name now is taken");
                self.namespaces.release(&name);
                self.taken.remove(&name);
            }
        }
    }
}

/// The file in `/run/netns`; the host's has none.
fn name_of(source: &NamespaceSource) -> Option<NamespaceName> {
    match source {
        NamespaceSource::Host => None,
        NamespaceSource::Made(port) => Some(NamespaceName::of_network(port.get())),
        // Both parsers know the same rules.
        NamespaceSource::Existing(name) => NamespaceName::parse(name.as_str()).ok(),
    }
}
