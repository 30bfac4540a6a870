//! The desired state in SQLite, in all its generations.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use control_api::{answer::GenerationEntry, place::NetworkKey};
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use crate::{
    Answer, CommitError, DesiredStore, Generation, NewGeneration, ReadError, WriteError,
    chain::{self, SinceDocument},
    namespaces,
    number::{amount, from_amount},
    threads::Threads,
    writer::Durability,
};

/// The owner of all that was desired before there were others.
const API: &str = "api";

/// Owners without anything in the desired state whose generations are kept: those who had something
/// last.
const OWNERS_GONE_MAX: u32 = 64;

/// What is desired, in the file of a [`Store`](crate::Store). Clones share it.
#[derive(Clone, Debug)]
pub struct SqliteDesired {
    threads: Arc<Threads>,
}

impl SqliteDesired {
    pub(crate) fn new(threads: Arc<Threads>) -> Self {
        Self { threads }
    }
}

impl DesiredStore for SqliteDesired {
    fn commit(&self, new: NewGeneration) -> Answer<u64, CommitError> {
        self.threads.write(move |writer| {
            let keep = writer.retention().generations_max;
            let doing = "committing a generation";
            let committed = writer.write(doing, Durability::Disk, |transaction| {
                commit(transaction, &new, keep)
            })?;
            let Committed { id, forgotten } = committed?;
            writer.note_generation(&new, forgotten);
            Ok(id)
        })
    }

    fn takes_document(&self) -> bool {
        self.threads.documents.ask()
    }

    fn compact(&self, generation: u64, document: String) -> Answer<(), WriteError> {
        let answer = self.threads.write(move |writer| {
            let doing = "storing a full document";
            // What it replaces says the same, and is there if this is lost.
            let stored = writer.write(doing, Durability::Process, |transaction| {
                let sql = "UPDATE generations SET document = ?, difference = NULL
                    WHERE id = ? AND difference IS NOT NULL";
                let id = amount(generation);
                transaction.prepare_cached(sql)?.execute((document, id))?;
                SinceDocument::read(transaction)
            });
            writer.note_document(generation, stored.as_ref().ok().copied());
            stored.map(drop)
        });
        if answer.is_refused() {
            self.threads.documents.are_due();
        }
        answer
    }

    fn current(&self) -> Answer<Option<Generation>, ReadError> {
        self.read(None)
    }

    fn generation(&self, id: u64) -> Answer<Option<Generation>, ReadError> {
        self.read(Some(id))
    }

    fn generations(
        &self,
        owner: Option<String>,
        limit: u32,
    ) -> Answer<Vec<GenerationEntry>, ReadError> {
        self.threads.read(move |reader| {
            reader.read("listing the generations", |transaction| {
                let sql = "SELECT id, time, actor, note,
                        (SELECT json_group_array(owner) FROM
                            (SELECT owner FROM generation_owners WHERE generation = id ORDER BY owner))
                    FROM generations
                    WHERE id IN (SELECT generation FROM generation_owners
                        WHERE ?1 IS NULL OR owner = ?1)
                    ORDER BY id DESC LIMIT ?2";
                transaction
                    .prepare_cached(sql)?
                    .query_map((&owner, limit), entry)?
                    .collect()
            })
        })
    }

    fn owner_generations(&self) -> Answer<BTreeMap<String, u64>, ReadError> {
        self.threads.read(|reader| {
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

    fn own(&self, network: NetworkKey, identity: String) -> Answer<(), WriteError> {
        namespaces::own(&self.threads, network, identity)
    }

    fn disown(&self, network: NetworkKey) -> Answer<(), WriteError> {
        namespaces::disown(&self.threads, network)
    }

    fn owned(&self) -> Answer<BTreeMap<String, String>, ReadError> {
        namespaces::owned(&self.threads)
    }
}

impl SqliteDesired {
    /// Reads a generation, or the current one. It is composed where it is not stored whole, on the
    /// thread that reads.
    fn read(&self, id: Option<u64>) -> Answer<Option<Generation>, ReadError> {
        self.threads.read(move |reader| {
            let read = reader.read("reading a generation", |transaction| find(transaction, id))?;
            let Some(found) = read else {
                return Ok(None);
            };
            let Found {
                mut generation,
                full,
                differences,
            } = found;
            let composed = chain::compose(full, &differences);
            generation.document = composed.map_err(|source| ReadError::Compose {
                generation: generation.id,
                source,
            })?;
            Ok(Some(generation))
        })
    }
}

/// A generation, without its document, and what that is composed of.
struct Found {
    generation: Generation,
    full: Option<String>,
    differences: Vec<String>,
}

/// A generation that somebody remembers, or the current one.
fn find(transaction: &Transaction<'_>, id: Option<u64>) -> rusqlite::Result<Option<Found>> {
    let current = current_id(transaction)?;
    let wanted = id.unwrap_or(current);
    let sql = "SELECT id, time, actor, note FROM generations WHERE id = ?1 AND (
        id = ?2 OR EXISTS (SELECT 1 FROM generation_owners WHERE generation = id))";
    let found = transaction
        .prepare_cached(sql)?
        .query_row([amount(wanted), amount(current)], generation)
        .optional()?;
    let Some(generation) = found else {
        return Ok(None);
    };
    let sql = "SELECT id, document FROM generations WHERE difference IS NULL AND id <= ?
        ORDER BY id DESC LIMIT 1";
    let full: Option<(i64, String)> = transaction
        .prepare_cached(sql)?
        .query_row([amount(wanted)], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (base, full) = full.unzip();
    let sql = "SELECT difference FROM generations WHERE id > ? AND id <= ? ORDER BY id";
    let values = (base.unwrap_or(0), amount(wanted));
    let differences = transaction
        .prepare_cached(sql)?
        .query_map(values, |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(Some(Found {
        generation,
        full,
        differences,
    }))
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

/// A generation that was written.
struct Committed {
    id: u64,
    /// Generations that some owner remembers no more.
    forgotten: Vec<i64>,
}

fn commit(
    transaction: &Transaction<'_>,
    new: &NewGeneration,
    keep: u32,
) -> rusqlite::Result<Result<Committed, CommitError>> {
    let current = current_id(transaction)?;
    if let Some(expected) = new.expected.filter(|expected| *expected != current) {
        return Ok(Err(CommitError::Conflict { expected, current }));
    }
    let sql = "INSERT INTO generations (time, actor, note, document, difference)
        VALUES (?, ?, ?, ?, ?)";
    let difference = match new.document {
        Some(_) => None,
        None => Some(&new.difference),
    };
    let document = new.document.as_deref().unwrap_or_default();
    let values = params![amount(new.time), new.actor, new.note, document, difference];
    let id = transaction.prepare_cached(sql)?.insert(values)?;
    let mut owners: Vec<&str> = new.owners.iter().map(String::as_str).collect();
    if owners.is_empty() {
        owners.push(API);
    }
    let mut forgotten = Vec::new();
    for owner in owners {
        forgotten.extend(note_owner(transaction, owner, id, keep)?);
    }
    forgotten.extend(forget_owners(transaction, &new.present)?);
    // What comes before a full document needs no more than what is remembered of it.
    if new.document.is_some() {
        forgotten.push(id - 1);
    }
    let id = from_amount(id);
    Ok(Ok(Committed { id, forgotten }))
}

/// Notes that a generation changes an owner's part, and forgets the oldest ones of that owner.
fn note_owner(
    transaction: &Transaction<'_>,
    owner: &str,
    id: i64,
    keep: u32,
) -> rusqlite::Result<Vec<i64>> {
    let sql = "INSERT INTO generation_owners (owner, generation) VALUES (?, ?)";
    transaction.prepare_cached(sql)?.execute((owner, id))?;
    let sql = "DELETE FROM generation_owners WHERE owner = ?1 AND generation <= (
            SELECT generation FROM generation_owners WHERE owner = ?1
            ORDER BY generation DESC LIMIT 1 OFFSET ?2)
        RETURNING generation";
    let mut statement = transaction.prepare_cached(sql)?;
    let old = statement.query_map((owner, keep.max(1)), |row| row.get(0))?;
    old.collect()
}

/// Forgets the generations of owners who have nothing any more, beyond those who had something last.
fn forget_owners(
    transaction: &Transaction<'_>,
    present: &BTreeSet<String>,
) -> rusqlite::Result<Vec<i64>> {
    let present = serde_json::to_string(present).unwrap_or_default();
    let sql = "DELETE FROM generation_owners WHERE owner IN (
            SELECT owner FROM generation_owners
            WHERE owner <> ?1 AND owner NOT IN (SELECT value FROM json_each(?2))
            GROUP BY owner ORDER BY max(generation) DESC LIMIT -1 OFFSET ?3)
        RETURNING generation";
    let mut statement = transaction.prepare_cached(sql)?;
    let values = (API, present, OWNERS_GONE_MAX);
    let old = statement.query_map(values, |row| row.get(0))?;
    old.collect()
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
        document: String::new(),
    })
}

#[cfg(test)]
mod tests;
