//! What is desired, in all its generations, and the namespaces that were made for it: what a store of it
//! has to do.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use control_api::{answer::GenerationEntry, place::NetworkKey};

use crate::{Answer, ReadError, Refused, WriteError};

/// A state that was desired.
#[derive(Clone, PartialEq, Eq)]
pub struct Generation {
    /// Its number: 1 for the first one, then up, never twice.
    pub id: u64,
    /// Unix time of the commit.
    pub time: u64,
    /// Who asked for it.
    pub actor: String,
    /// By what request.
    pub note: String,
    /// The state document, secrets included.
    pub document: String,
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation")
            .field("id", &self.id)
            .field("time", &self.time)
            .field("actor", &self.actor)
            .field("note", &self.note)
            .finish_non_exhaustive()
    }
}

/// A state to be desired from now on.
#[derive(Clone, Default)]
pub struct NewGeneration {
    /// Only if this is the current generation; 0 means that there is none yet.
    pub expected: Option<u64>,
    /// Unix time.
    pub time: u64,
    /// Who asks for it.
    pub actor: String,
    /// By what request.
    pub note: String,
    /// What it has that the current generation has not, secrets included: the text of a
    /// [`Difference`](control_api::state::difference::Difference).
    pub difference: String,
    /// The whole state document, secrets included, where it is to be stored in place of the difference.
    pub document: Option<String>,
    /// The owners whose parts it changes; none stands for `api`.
    pub owners: BTreeSet<String>,
    /// The owners who have something in it.
    pub present: BTreeSet<String>,
}

impl fmt::Debug for NewGeneration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewGeneration")
            .field("expected", &self.expected)
            .field("time", &self.time)
            .field("actor", &self.actor)
            .field("note", &self.note)
            .field("owners", &self.owners)
            .finish_non_exhaustive()
    }
}

/// Why a generation was not committed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Somebody else committed meanwhile.
    #[error("generation {expected} is not the current one: {current} is")]
    Conflict {
        /// The one that was built upon.
        expected: u64,
        /// The current one; 0 means none.
        current: u64,
    },
    /// It could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl From<Refused> for CommitError {
    fn from(refused: Refused) -> Self {
        Self::Write(refused.into())
    }
}

/// Keeps what is desired, and what was made for it. Whatever is answered as written outlasts a power cut.
pub trait DesiredStore: fmt::Debug + Send + Sync {
    /// Makes a state the current generation and answers its number. Costs what the difference is long,
    /// however much is desired.
    fn commit(&self, new: NewGeneration) -> Answer<u64, CommitError>;

    /// Whether enough differences came after the last full document for a new one:
    /// [`compact`](Self::compact) is then called with the current generation's. Told once, until that
    /// failed.
    fn takes_document(&self) -> bool;

    /// Stores the full document of a generation in the place of its difference, so that what comes after
    /// it is composed from there. Does nothing if the generation is no longer there.
    fn compact(&self, generation: u64, document: String) -> Answer<(), WriteError>;

    /// The current generation; none, if there never was one.
    fn current(&self) -> Answer<Option<Generation>, ReadError>;

    /// A generation, if it is still kept.
    fn generation(&self, id: u64) -> Answer<Option<Generation>, ReadError>;

    /// The latest generations without their documents, the current one first: all, or those that changed
    /// an owner's part.
    fn generations(
        &self,
        owner: Option<String>,
        limit: u32,
    ) -> Answer<Vec<GenerationEntry>, ReadError>;

    /// The last generation that changed each owner's part.
    fn owner_generations(&self) -> Answer<BTreeMap<String, u64>, ReadError>;

    /// Records that the namespace of a network is Ringway's own: the namespace gets its name after that,
    /// so that one with a name has an owner.
    ///
    /// `identity` tells this namespace from any other of that name, after a restart of the machine,
    /// too.
    fn own(&self, network: NetworkKey, identity: String) -> Answer<(), WriteError>;

    /// Forgets a namespace that is gone.
    fn disown(&self, network: NetworkKey) -> Answer<(), WriteError>;

    /// The namespaces that are Ringway's own: the key of the network as it was recorded, and the
    /// identity.
    fn owned(&self) -> Answer<BTreeMap<String, String>, ReadError>;
}
