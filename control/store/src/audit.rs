//! Who did what, and what happened: two lists that forget the oldest entries of each owner.

use std::sync::Arc;

use control_api::answer::AuditEntry;
use rusqlite::{Row, Transaction, params};

use crate::{
    Answer, ReadError, WriteError,
    number::{amount, from_amount},
    threads::Threads,
    writer::Durability,
};

/// The owner of what is about nobody's part of the desired state.
const NOBODY: &str = "-";
/// Each list is as long as those of so many owners.
const OWNERS_MAX: i64 = 64;

const AUDIT: &str = "audit";
const EVENTS: &str = "events";

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its number: counts up, over restarts, too.
    pub id: u64,
    /// Unix time.
    pub time: u64,
    /// What kind of event it is.
    pub kind: String,
    /// What happened, as a JSON text.
    pub json: String,
}

/// The audit log, and the events. Clones share it.
#[derive(Clone, Debug)]
pub struct Audit {
    threads: Arc<Threads>,
}

impl Audit {
    pub(crate) fn new(threads: Arc<Threads>) -> Self {
        Self { threads }
    }

    /// Appends to the audit log and answers the entry's number; the one in the entry is ignored.
    pub fn append(&self, entry: AuditEntry) -> Answer<u64, WriteError> {
        self.threads.write(move |writer| {
            let keep = writer.retention().audit_max;
            let doing = "writing the audit log";
            writer.write(doing, Durability::Process, |transaction| {
                let place = next_place(transaction, AUDIT, &entry.owner)?;
                let sql = "INSERT INTO audit
                    (time, actor, role, source, action, generation, result, detail, owner, place)
                    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
                let id = transaction.prepare_cached(sql)?.insert(params![
                    amount(entry.time),
                    entry.actor,
                    entry.role,
                    entry.source,
                    entry.action,
                    entry.generation.map(amount),
                    entry.result,
                    entry.detail,
                    entry.owner,
                    place,
                ])?;
                forget(transaction, AUDIT, &entry.owner, (id, place), keep)?;
                Ok(from_amount(id))
            })
        })
    }

    /// The latest entries of the audit log before a number, or all; the newest first.
    pub fn entries(&self, before: Option<u64>, limit: u32) -> Answer<Vec<AuditEntry>, ReadError> {
        self.threads.read(move |reader| {
            reader.read("reading the audit log", |transaction| {
                let sql = "SELECT id, time, actor, role, source, action, generation, result, detail, owner
                    FROM audit WHERE id < ? ORDER BY id DESC LIMIT ?";
                let before = amount(before.unwrap_or(u64::MAX));
                transaction
                    .prepare_cached(sql)?
                    .query_map((before, limit), audit_entry)?
                    .collect()
            })
        })
    }

    /// Appends an event of the gateway itself and answers its number.
    pub fn append_event(&self, time: u64, kind: String, json: String) -> Answer<u64, WriteError> {
        self.append_event_of(NOBODY.to_owned(), time, kind, json)
    }

    /// Appends an event about an owner's part of the desired state and answers its number.
    pub fn append_event_of(
        &self,
        owner: String,
        time: u64,
        kind: String,
        json: String,
    ) -> Answer<u64, WriteError> {
        self.threads.write(move |writer| {
            let keep = writer.retention().events_max;
            writer.write("writing an event", Durability::Process, |transaction| {
                let place = next_place(transaction, EVENTS, &owner)?;
                let sql =
                    "INSERT INTO events (time, kind, json, owner, place) VALUES (?, ?, ?, ?, ?)";
                let values = (amount(time), kind, json, &owner, place);
                let id = transaction.prepare_cached(sql)?.insert(values)?;
                forget(transaction, EVENTS, &owner, (id, place), keep)?;
                Ok(from_amount(id))
            })
        })
    }

    /// Events after a number, the oldest first.
    pub fn events_after(&self, id: u64, limit: u32) -> Answer<Vec<Event>, ReadError> {
        self.threads.read(move |reader| {
            reader.read("reading the events", |transaction| {
                let sql = "SELECT id, time, kind, json FROM events
                    WHERE id > ? ORDER BY id LIMIT ?";
                transaction
                    .prepare_cached(sql)?
                    .query_map((amount(id), limit), event)?
                    .collect()
            })
        })
    }

    /// The number of the last event that was ever appended; 0 means none.
    pub fn last_event(&self) -> Answer<u64, ReadError> {
        self.threads.read(|reader| {
            reader.read("reading the last event's number", |transaction| {
                // Where AUTOINCREMENT remembers it (sqlite.org/autoinc.html).
                let sql = "SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'events'";
                let id = transaction
                    .prepare_cached(sql)?
                    .query_row([], |row| row.get(0))?;
                Ok(from_amount(id))
            })
        })
    }
}

/// The number that the next entry has among those of its owner.
fn next_place(transaction: &Transaction<'_>, list: &str, owner: &str) -> rusqlite::Result<i64> {
    let sql = format!("SELECT 1 + ifnull(max(place), 0) FROM {list} WHERE owner = ?");
    transaction
        .prepare_cached(&sql)?
        .query_row([owner], |row| row.get(0))
}

/// Forgets the oldest entries of an owner, and those of everybody beyond what so many owners may have.
fn forget(
    transaction: &Transaction<'_>,
    list: &str,
    owner: &str,
    (id, place): (i64, i64),
    keep: u32,
) -> rusqlite::Result<()> {
    let keep = i64::from(keep);
    let sql = format!("DELETE FROM {list} WHERE owner = ? AND place <= ?");
    let oldest = place.saturating_sub(keep);
    transaction.prepare_cached(&sql)?.execute((owner, oldest))?;
    let sql = format!("DELETE FROM {list} WHERE id <= ?");
    let oldest = id.saturating_sub(keep.saturating_mul(OWNERS_MAX));
    transaction.prepare_cached(&sql)?.execute([oldest])?;
    Ok(())
}

fn audit_entry(row: &Row<'_>) -> rusqlite::Result<AuditEntry> {
    Ok(AuditEntry {
        id: from_amount(row.get(0)?),
        time: from_amount(row.get(1)?),
        actor: row.get(2)?,
        role: row.get(3)?,
        source: row.get(4)?,
        action: row.get(5)?,
        generation: row.get::<_, Option<i64>>(6)?.map(from_amount),
        result: row.get(7)?,
        detail: row.get(8)?,
        owner: row.get(9)?,
    })
}

fn event(row: &Row<'_>) -> rusqlite::Result<Event> {
    Ok(Event {
        id: from_amount(row.get(0)?),
        time: from_amount(row.get(1)?),
        kind: row.get(2)?,
        json: row.get(3)?,
    })
}

#[cfg(test)]
mod tests;
