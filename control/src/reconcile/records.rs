//! What Ringway made, durable before it exists.

use std::{collections::BTreeMap, io};

use control_api::place::NetworkKey;

use control_kernel::{OwnError, Ownership};
use control_plan::actual::Owned;
use control_store::{DesiredStore, ReadError, SqliteDesired, WriteError};

/// The records of the store, and all of them in memory.
#[derive(Debug)]
pub(crate) struct Records<S = SqliteDesired> {
    store: S,
    owned: BTreeMap<NetworkKey, Owned>,
}

impl<S: DesiredStore> Records<S> {
    /// Reads them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn load(store: S) -> Result<Self, ReadError> {
        let written = store.owned().wait()?;
        let read = |(network, text): (String, String)| {
            let record = network.parse().ok().zip(text.parse().ok());
            if record.is_none() {
                tracing::error!(
                    network,
                    text,
                    "a record of what Ringway made is not readable"
                );
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

fn failed(network: NetworkKey, error: WriteError) -> OwnError {
    let source = io::Error::other(error);
    OwnError { network, source }
}

impl<S: DesiredStore> Ownership for Records<S> {
    fn own(&mut self, network: NetworkKey, what: &Owned) -> Result<(), OwnError> {
        let written = self.store.own(network, what.to_string()).wait();
        written.map_err(|error| failed(network, error))?;
        self.owned.insert(network, what.clone());
        Ok(())
    }

    fn disown(&mut self, network: NetworkKey) -> Result<(), OwnError> {
        let written = self.store.disown(network).wait();
        written.map_err(|error| failed(network, error))?;
        self.owned.remove(&network);
        Ok(())
    }

    fn owned(&self, network: NetworkKey) -> Option<Owned> {
        self.owned.get(&network).cloned()
    }
}
