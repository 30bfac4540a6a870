//! Who did what, and what happened: two lists that forget their oldest entries.

use control_api::answer::AuditEntry;
use rusqlite::{Row, params};

use crate::{
    Answer, ReadError, Store, WriteError,
    number::{amount, from_amount},
    writer::Durability,
};

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

impl Store {
    /// Appends to the audit log and answers the entry's number; the one in the entry is ignored.
    pub fn append_audit(&self, entry: AuditEntry) -> Answer<u64, WriteError> {
        self.write(move |writer| {
            let keep = writer.retention().audit_max;
            writer.write(
                "writing the audit log",
                Durability::Process,
                |transaction| {
                    let sql = "INSERT INTO audit
                    (time, actor, role, source, action, generation, result, detail)
                    VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
                    let id = transaction.prepare_cached(sql)?.insert(params![
                        amount(entry.time),
                        entry.actor,
                        entry.role,
                        entry.source,
                        entry.action,
                        entry.generation.map(amount),
                        entry.result,
                        entry.detail,
                    ])?;
                    transaction
                        .prepare_cached("DELETE FROM audit WHERE id <= ?")?
                        .execute([id.saturating_sub(keep.into())])?;
                    Ok(from_amount(id))
                },
            )
        })
    }

    /// The latest entries of the audit log before a number, or all; the newest first.
    pub fn audit(&self, before: Option<u64>, limit: u32) -> Answer<Vec<AuditEntry>, ReadError> {
        self.read(move |reader| {
            reader.read("reading the audit log", |transaction| {
                let sql = "SELECT id, time, actor, role, source, action, generation, result, detail
                    FROM audit WHERE id < ? ORDER BY id DESC LIMIT ?";
                let before = amount(before.unwrap_or(u64::MAX));
                transaction
                    .prepare_cached(sql)?
                    .query_map((before, limit), audit_entry)?
                    .collect()
            })
        })
    }

    /// Appends an event and answers its number.
    pub fn append_event(&self, time: u64, kind: String, json: String) -> Answer<u64, WriteError> {
        self.write(move |writer| {
            let keep = writer.retention().events_max;
            writer.write("writing an event", Durability::Process, |transaction| {
                let sql = "INSERT INTO events (time, kind, json) VALUES (?, ?, ?)";
                let values = (amount(time), kind, json);
                let id = transaction.prepare_cached(sql)?.insert(values)?;
                transaction
                    .prepare_cached("DELETE FROM events WHERE id <= ?")?
                    .execute([id.saturating_sub(keep.into())])?;
                Ok(from_amount(id))
            })
        })
    }

    /// Events after a number, the oldest first.
    pub fn events_after(&self, id: u64, limit: u32) -> Answer<Vec<Event>, ReadError> {
        self.read(move |reader| {
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
        self.read(|reader| {
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
