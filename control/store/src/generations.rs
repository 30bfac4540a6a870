//! The desired state, in all its generations.

use std::collections::{BTreeMap, BTreeSet};

use control_api::answer::GenerationEntry;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use crate::{
    Answer, ReadError, Refused, Store, WriteError,
    number::{amount, from_amount},
    writer::Durability,
};

/// The owner of all that was desired before there were others.
const API: &str = "api";

/// Owners without anything in the desired state whose generations are kept: those who had something
/// last.
const OWNERS_GONE_MAX: u32 = 64;

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

impl std::fmt::Debug for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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
    /// The state document, secrets included.
    pub document: String,
    /// The owners whose parts it changes; none stands for `api`.
    pub owners: BTreeSet<String>,
    /// The owners who have something in it.
    pub present: BTreeSet<String>,
}

impl std::fmt::Debug for NewGeneration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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

impl Store {
    /// Makes a document the current generation and answers its number. It is on disk by then.
    pub fn commit_generation(&self, new: NewGeneration) -> Answer<u64, CommitError> {
        self.write(move |writer| {
            let keep = writer.retention().generations_max;
            let doing = "committing a generation";
            writer.write(doing, Durability::Disk, |transaction| {
                commit(transaction, &new, keep)
            })?
        })
    }

    /// The current generation; none, if there never was one.
    pub fn current(&self) -> Answer<Option<Generation>, ReadError> {
        self.read(|reader| {
            reader.read("reading the current generation", |transaction| {
                let sql = "SELECT id, time, actor, note, document FROM generations
                    ORDER BY id DESC LIMIT 1";
                transaction
                    .prepare_cached(sql)?
                    .query_row([], generation)
                    .optional()
            })
        })
    }

    /// A generation, if it is still kept.
    pub fn generation(&self, id: u64) -> Answer<Option<Generation>, ReadError> {
        self.read(move |reader| {
            reader.read("reading a generation", |transaction| {
                let sql = "SELECT id, time, actor, note, document FROM generations WHERE id = ?";
                transaction
                    .prepare_cached(sql)?
                    .query_row([amount(id)], generation)
                    .optional()
            })
        })
    }

    /// The latest generations without their documents, the current one first: all, or those that changed
    /// an owner's part.
    pub fn generations(
        &self,
        owner: Option<String>,
        limit: u32,
    ) -> Answer<Vec<GenerationEntry>, ReadError> {
        self.read(move |reader| {
            reader.read("listing the generations", |transaction| {
                let sql = "SELECT id, time, actor, note,
                        (SELECT json_group_array(owner) FROM
                            (SELECT owner FROM generation_owners WHERE generation = id ORDER BY owner))
                    FROM generations
                    WHERE ?1 IS NULL OR id IN (SELECT generation FROM generation_owners WHERE owner = ?1)
                    ORDER BY id DESC LIMIT ?2";
                transaction
                    .prepare_cached(sql)?
                    .query_map((&owner, limit), entry)?
                    .collect()
            })
        })
    }

    /// The last generation that changed each owner's part.
    pub fn owner_generations(&self) -> Answer<BTreeMap<String, u64>, ReadError> {
        self.read(|reader| {
            reader.read("reading the owners", |transaction| {
                let sql = "SELECT owner, max(generation) FROM generation_owners GROUP BY owner";
                let pair = |row: &Row<'_>| Ok((row.get(0)?, from_amount(row.get(1)?)));
                transaction
                    .prepare_cached(sql)?
                    .query_map([], pair)?
                    .collect()
            })
        })
    }
}

fn entry(row: &Row<'_>) -> rusqlite::Result<GenerationEntry> {
    let owners: String = row.get(4)?;
    Ok(GenerationEntry {
        generation: from_amount(row.get(0)?),
        time: from_amount(row.get(1)?),
        actor: row.get(2)?,
        note: row.get(3)?,
        // SQLite wrote it.
        owners: serde_json::from_str(&owners).unwrap_or_default(),
    })
}

fn commit(
    transaction: &Transaction<'_>,
    new: &NewGeneration,
    keep: u32,
) -> rusqlite::Result<Result<u64, CommitError>> {
    let current = current_id(transaction)?;
    if let Some(expected) = new.expected.filter(|expected| *expected != current) {
        return Ok(Err(CommitError::Conflict { expected, current }));
    }
    let sql = "INSERT INTO generations (time, actor, note, document) VALUES (?, ?, ?, ?)";
    let values = params![amount(new.time), new.actor, new.note, new.document];
    let id = transaction.prepare_cached(sql)?.insert(values)?;
    let mut owners: Vec<&str> = new.owners.iter().map(String::as_str).collect();
    if owners.is_empty() {
        owners.push(API);
    }
    for owner in owners {
        note_owner(transaction, owner, id, keep)?;
    }
    forget_owners(transaction, &new.present)?;
    Ok(Ok(from_amount(id)))
}

/// Notes that a generation changes an owner's part, and forgets the oldest ones of that owner.
fn note_owner(
    transaction: &Transaction<'_>,
    owner: &str,
    id: i64,
    keep: u32,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO generation_owners (owner, generation) VALUES (?, ?)";
    transaction.prepare_cached(sql)?.execute((owner, id))?;
    let sql = "DELETE FROM generation_owners WHERE owner = ?1 AND generation <= (
            SELECT generation FROM generation_owners WHERE owner = ?1
            ORDER BY generation DESC LIMIT 1 OFFSET ?2)
        RETURNING generation";
    let mut statement = transaction.prepare_cached(sql)?;
    let old = statement.query_map((owner, keep.max(1)), |row| row.get(0))?;
    forget(transaction, &old.collect::<rusqlite::Result<Vec<_>>>()?)
}

/// Forgets the generations of owners who have nothing any more, beyond those who had something last.
fn forget_owners(
    transaction: &Transaction<'_>,
    present: &BTreeSet<String>,
) -> rusqlite::Result<()> {
    let present = serde_json::to_string(present).unwrap_or_default();
    let sql = "DELETE FROM generation_owners WHERE owner IN (
            SELECT owner FROM generation_owners
            WHERE owner <> ?1 AND owner NOT IN (SELECT value FROM json_each(?2))
            GROUP BY owner ORDER BY max(generation) DESC LIMIT -1 OFFSET ?3)
        RETURNING generation";
    let mut statement = transaction.prepare_cached(sql)?;
    let values = (API, present, OWNERS_GONE_MAX);
    let old = statement.query_map(values, |row| row.get(0))?;
    forget(transaction, &old.collect::<rusqlite::Result<Vec<_>>>()?)
}

/// Removes the generations that changed the part of nobody who remembers them.
fn forget(transaction: &Transaction<'_>, generations: &[i64]) -> rusqlite::Result<()> {
    let sql = "DELETE FROM generations WHERE id = ?1
        AND NOT EXISTS (SELECT 1 FROM generation_owners WHERE generation = ?1)";
    for generation in generations {
        transaction.prepare_cached(sql)?.execute([generation])?;
    }
    Ok(())
}

fn current_id(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT ifnull(max(id), 0) FROM generations";
    let id = connection
        .prepare_cached(sql)?
        .query_row([], |row| row.get(0))?;
    Ok(from_amount(id))
}

fn generation(row: &Row<'_>) -> rusqlite::Result<Generation> {
    Ok(Generation {
        id: from_amount(row.get(0)?),
        time: from_amount(row.get(1)?),
        actor: row.get(2)?,
        note: row.get(3)?,
        document: row.get(4)?,
    })
}

#[cfg(test)]
mod tests;
