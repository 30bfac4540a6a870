//! The namespaces that the lab's tenants live in, each with a name as `ip netns add` makes it.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use control_kernel::{
    name::NamespaceName,
    names::{DIRECTORY, Names},
};
use engine_sys::netns::Netns;

use crate::links::{self, State};

/// Namespaces by name. Those that were made here are removed
/// by [`Namespaces::remove_all`].
#[derive(Debug)]
pub struct Namespaces {
    names: Names,
    made: BTreeMap<NamespaceName, Arc<Netns>>,
}

impl Default for Namespaces {
    fn default() -> Self {
        Self {
            names: Names::new(PathBuf::from(DIRECTORY)),
            made: BTreeMap::new(),
        }
    }
}

impl Namespaces {
    /// The namespace of that name, made with `lo` up when there is none.
    ///
    /// # Errors
    /// Says what was refused.
    pub fn ensure(&mut self, name: &NamespaceName) -> Result<Arc<Netns>> {
        if let Some(netns) = self.made.get(name) {
            return Ok(Arc::clone(netns));
        }
        let found = self.names.open(name);
        if let Some(netns) = found.with_context(|| format!("opening the namespace {name}"))? {
            return Ok(Arc::new(netns));
        }
        let netns = Arc::new(Netns::create()?);
        links::within(&netns, async |links| links.set("lo", State::Up).await)?;
        self.names
            .bind(name, &netns)
            .with_context(|| format!("naming the namespace {name}"))?;
        self.made.insert(name.clone(), Arc::clone(&netns));
        Ok(netns)
    }

    /// Removes a name that was made here. Its namespace ends with its last descriptor and its last
    /// process.
    ///
    /// # Errors
    /// When the name leads to another namespace by now, or cannot be removed.
    pub fn remove(&mut self, name: &NamespaceName) -> Result<()> {
        let netns = self.made.get(name);
        let netns = netns.with_context(|| format!("{name} was not made here"))?;
        if let Some(found) = self.names.open(name)? {
            ensure!(
                found.identity() == netns.identity(),
                "the name {name} was given to another namespace"
            );
            let removed = self.names.unbind(name);
            removed.with_context(|| format!("removing the name {name}"))?;
        }
        self.made.remove(name);
        Ok(())
    }

    /// Removes every name that was made here.
    ///
    /// # Errors
    /// As [`Namespaces::remove`].
    pub fn remove_all(&mut self) -> Result<()> {
        let names: Vec<NamespaceName> = self.made.keys().cloned().collect();
        names.iter().try_for_each(|name| self.remove(name))
    }
}
