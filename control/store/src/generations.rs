//! The desired state, in all its generations.

use control_api::answer::GenerationEntry;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use crate::{
    Answer, ReadError, Refused, Store, WriteError,
    number::{amount, from_amount},
    writer::Durability,
};

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
}

impl std::fmt::Debug for NewGeneration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewGeneration")
            .field("expected", &self.expected)
            .field("time", &self.time)
            .field("actor", &self.actor)
            .field("note", &self.note)
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

    /// The latest generations without their documents, the current one first.
    pub fn generations(&self, limit: u32) -> Answer<Vec<GenerationEntry>, ReadError> {
        self.read(move |reader| {
            reader.read("listing the generations", |transaction| {
                let sql = "SELECT id, time, actor, note FROM generations ORDER BY id DESC LIMIT ?";
                transaction
                    .prepare_cached(sql)?
                    .query_map([limit], |row| {
                        Ok(GenerationEntry {
                            generation: from_amount(row.get(0)?),
                            time: from_amount(row.get(1)?),
                            actor: row.get(2)?,
                            note: row.get(3)?,
                        })
                    })?
                    .collect()
            })
        })
    }
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
    transaction
        .prepare_cached("DELETE FROM generations WHERE id <= ?")?
        .execute([id.saturating_sub(keep.max(1).into())])?;
    Ok(Ok(from_amount(id)))
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
