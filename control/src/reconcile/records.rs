//! What Ringway made, durable before it exists.

use std::{collections::BTreeMap, io};

use control_api::place::NetworkKey;

use control_kernel::{OwnError, Ownership};
use control_plan::actual::Owned;
use control_store::Store;

/// The records of the store, and all of them in memory.
#[derive(Debug)]
pub(crate) struct Records {
    store: Store,
    owned: BTreeMap<NetworkKey, Owned>,
}

impl Records {
    /// Reads them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn load(store: Store) -> Result<Self, control_store::ReadError> {
        let written = store.owned().wait()?;
        let read = |(port, text): (u16, String)| {
            let record = NetworkKey::new(port).zip(text.parse().ok());
            if record.is_none() {
                tracing::error!(port, text, "a record of what Ringway made is not readable");
            }
            record
        };
        let owned = written.into_iter().filter_map(read).collect();
        Ok(Self { store, owned })
    }

    /// All of them.
    pub(crate) fn all(&self) -> &BTreeMap<NetworkKey, Owned> {
        &self.owned
    }
}

fn failed(network: NetworkKey, error: control_store::WriteError) -> OwnError {
    let source = io::Error::other(error);
    OwnError { network, source }
}

impl Ownership for Records {
    fn own(&mut self, network: NetworkKey, what: &Owned) -> Result<(), OwnError> {
        let written = self.store.own(network.get(), what.to_string()).wait();
        written.map_err(|error| failed(network, error))?;
        self.owned.insert(network, what.clone());
        Ok(())
    }

    fn disown(&mut self, network: NetworkKey) -> Result<(), OwnError> {
        let written = self.store.disown(network.get()).wait();
        written.map_err(|error| failed(network, error))?;
        self.owned.remove(&network);
        Ok(())
    }

    fn owned(&self, network: NetworkKey) -> Option<Owned> {
        self.owned.get(&network).cloned()
    }
}
