//! The seam between reconciling and the kernel.

use std::{collections::BTreeMap, io};

use control_api::place::NetworkKey;

use control_plan::{
    NamespaceSource,
    actual::{Actual, Owned},
    step::Step,
};

use crate::linux::{ApplyError, ObserveError};

/// The record of what Ringway made: what is in it may be removed, and nothing else is ever touched.
pub trait Ownership {
    /// Records that what a network has is Ringway's, in place of what was recorded for it. Durable
    /// when it returns: a crash right after it leaves at worst the record of something that never
    /// came to be.
    ///
    /// # Errors
    /// When it could not be recorded; nothing may be made then.
    fn own(&mut self, network: NetworkKey, what: &Owned) -> Result<(), OwnError>;

    /// Removes the record of a network. Durable when it returns.
    ///
    /// # Errors
    /// When it could not be removed.
    fn disown(&mut self, network: NetworkKey) -> Result<(), OwnError>;

    /// What is recorded for a network.
    fn owned(&self, network: NetworkKey) -> Option<Owned>;
}

/// The record of what Ringway made could not be changed.
#[derive(Debug, thiserror::Error)]
#[error("recording what Ringway made for network {network}")]
pub struct OwnError {
    /// The network.
    pub network: NetworkKey,
    /// What the store said.
    pub source: io::Error,
}

/// Who holds the networks. One thread uses it, and may be kept waiting by it.
pub trait Kernel {
    /// Looks at everything that the named networks have, each in its namespace. The name of a
    /// namespace that is held is made again when it was deleted.
    fn observe(
        &mut self,
        networks: &BTreeMap<NetworkKey, NamespaceSource>,
        ownership: &dyn Ownership,
    ) -> Observed;

    /// Does one step. A step that was done before is no failure.
    ///
    /// # Errors
    /// Says what was refused and why; nothing of the step may then be counted on, so observe again.
    fn apply(&mut self, step: &Step, ownership: &mut dyn Ownership) -> Result<(), ApplyError>;
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Observed {
    /// What there is, but for the networks below.
    pub actual: Actual,
    /// Networks that could not be looked at, and why.
    pub errors: BTreeMap<NetworkKey, ObserveError>,
}
