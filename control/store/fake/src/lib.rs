//! A [`DesiredStore`] in memory, for tests: it answers as the one in SQLite does, and its disk can be full
//! from some write on.
//!
//! It keeps every generation with its whole document, and forgets none. Nothing of it is in the product.
//!
//! May depend on: control-store, whose trait it is, and control-api.
#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use control_api::{
    answer::GenerationEntry,
    place::NetworkKey,
    state::difference::{self, Difference, DifferenceError},
};
use control_store::{
    Answer, CommitError, DesiredStore, Generation, NewGeneration, ReadError, WriteError,
};
use serde_json::{Value, json};

/// A store that is gone with the last of its clones.
#[derive(Clone, Debug, Default)]
pub struct FakeDesired(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    generations: Vec<Kept>,
    owned: BTreeMap<String, String>,
    writes: u64,
    /// Writes that there is room for; all of them where nothing is said.
    room: Option<u64>,
    takes_document: bool,
    compacted: Vec<u64>,
}

#[derive(Debug)]
struct Kept {
    generation: Generation,
    owners: BTreeSet<String>,
    /// Why it has no document.
    damage: Option<DifferenceError>,
}

impl FakeDesired {
    /// So many writes more are taken; those after them find a full disk, until [`free`](Self::free).
    pub fn fill_after(&self, writes: u64) {
        self.state().room = Some(writes);
    }

    /// There is room again.
    pub fn free(&self) {
        self.state().room = None;
    }

    /// How many writes were taken.
    pub fn writes(&self) -> u64 {
        self.state().writes
    }

    /// Has a full document be due.
    pub fn ask_for_document(&self) {
        self.state().takes_document = true;
    }

    /// The generations that full documents were brought of, in order.
    pub fn compacted(&self) -> Vec<u64> {
        self.state().compacted.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn write(&mut self, doing: &'static str) -> Result<(), WriteError> {
        match &mut self.room {
            Some(0) => return Err(WriteError::full(doing)),
            Some(room) => *room -= 1,
            None => {}
        }
        self.writes += 1;
        Ok(())
    }

    fn commit(&mut self, new: NewGeneration) -> Result<u64, CommitError> {
        // Nothing is written of what conflicts; a full disk is not even found out.
        let current = self.generations.last().map_or(0, |last| last.generation.id);
        if let Some(expected) = new.expected.filter(|expected| *expected != current) {
            return Err(CommitError::Conflict { expected, current });
        }
        self.write("committing a generation")?;
        let (document, damage) = match new.document {
            Some(document) => (document, None),
            None => match self.compose(&new.difference) {
                Ok(document) => (document, None),
                Err(damage) => (String::new(), Some(damage)),
            },
        };
        let mut owners = new.owners;
        if owners.is_empty() {
            owners.insert("api".to_owned());
        }
        let id = current + 1;
        let generation = Generation {
            id,
            time: new.time,
            actor: new.actor,
            note: new.note,
            document,
        };
        self.generations.push(Kept {
            generation,
            owners,
            damage,
        });
        Ok(id)
    }

    fn compose(&self, difference: &str) -> Result<String, DifferenceError> {
        let mut document = match self.generations.last() {
            Some(Kept {
                damage: Some(damage),
                ..
            }) => return Err(damage.clone()),
            Some(last) => serde_json::from_str::<Value>(&last.generation.document)
                .map_err(|_| DifferenceError::NoDocument)?,
            None => json!({}),
        };
        difference::apply(&mut document, &Difference::parse(difference)?)?;
        Ok(document.to_string())
    }

    fn find(&self, id: Option<u64>) -> Result<Option<Generation>, ReadError> {
        let found = match id {
            Some(id) => self
                .generations
                .iter()
                .find(|kept| kept.generation.id == id),
            None => self.generations.last(),
        };
        match found {
            Some(kept) => match kept.damage.clone() {
                Some(source) => Err(ReadError::Compose {
                    generation: kept.generation.id,
                    source,
                }),
                None => Ok(Some(kept.generation.clone())),
            },
            None => Ok(None),
        }
    }
}

impl DesiredStore for FakeDesired {
    fn commit(&self, new: NewGeneration) -> Answer<u64, CommitError> {
        Answer::ready(self.state().commit(new))
    }

    fn takes_document(&self) -> bool {
        std::mem::take(&mut self.state().takes_document)
    }

    fn compact(&self, generation: u64, document: String) -> Answer<(), WriteError> {
        let mut state = self.state();
        let written = state.write("storing a full document");
        if written.is_ok() {
            let mut kept = state.generations.iter_mut();
            if let Some(kept) = kept.find(|kept| kept.generation.id == generation) {
                kept.generation.document = document;
                kept.damage = None;
                state.compacted.push(generation);
            }
        }
        Answer::ready(written)
    }

    fn current(&self) -> Answer<Option<Generation>, ReadError> {
        Answer::ready(self.state().find(None))
    }

    fn generation(&self, id: u64) -> Answer<Option<Generation>, ReadError> {
        Answer::ready(self.state().find(Some(id)))
    }

    fn generations(
        &self,
        owner: Option<String>,
        limit: u32,
    ) -> Answer<Vec<GenerationEntry>, ReadError> {
        let state = self.state();
        let of_owner = |kept: &&Kept| owner.as_ref().is_none_or(|one| kept.owners.contains(one));
        let latest = state.generations.iter().rev().filter(of_owner);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let entry = |kept: &Kept| GenerationEntry {
            generation: kept.generation.id,
            time: kept.generation.time,
            actor: kept.generation.actor.clone(),
            note: kept.generation.note.clone(),
            owners: kept.owners.iter().cloned().collect(),
        };
        Answer::ready(Ok(latest.take(limit).map(entry).collect()))
    }

    fn owner_generations(&self) -> Answer<BTreeMap<String, u64>, ReadError> {
        let state = self.state();
        let pairs = state.generations.iter().flat_map(|kept| {
            let owners = kept.owners.iter().cloned();
            owners.map(|owner| (owner, kept.generation.id))
        });
        Answer::ready(Ok(pairs.collect()))
    }

    fn own(&self, network: NetworkKey, identity: String) -> Answer<(), WriteError> {
        let mut state = self.state();
        let written = state.write("recording a namespace of Ringway's own");
        if written.is_ok() {
            state.owned.insert(network.to_string(), identity);
        }
        Answer::ready(written)
    }

    fn disown(&self, network: NetworkKey) -> Answer<(), WriteError> {
        let mut state = self.state();
        let written = state.write("forgetting a namespace");
        if written.is_ok() {
            state.owned.remove(&network.to_string());
        }
        Answer::ready(written)
    }

    fn owned(&self) -> Answer<BTreeMap<String, String>, ReadError> {
        Answer::ready(Ok(self.state().owned.clone()))
    }
}

#[cfg(test)]
mod tests;
