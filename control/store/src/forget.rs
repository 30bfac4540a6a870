//! Generations that nobody remembers any more.
//!
//! A commit only forgets whose part a generation changed, which costs the same however much is stored.
//! What nobody remembers and no kept generation builds on is removed later, in small steps, when the
//! writer has nothing else to do. So a full document is never copied for retention's sake, neither while
//! a commit waits nor afterwards: it goes when the last generation that is composed from it goes.

use rusqlite::{Connection, OptionalExtension as _, Transaction};

/// Generations that are removed in one step: differences of some KB each, or one document.
const REMOVED_PER_STEP: i64 = 64;

/// Generations that were forgotten, and others of whose neighbours some may have been.
#[derive(Debug, Default)]
pub(crate) struct Forgotten(Vec<i64>);

impl Forgotten {
    /// Whatever of a file was left to be removed when it was closed.
    pub(crate) fn of(connection: &Connection) -> rusqlite::Result<Self> {
        // One of each row of generations that end before a full document.
        let sql = "SELECT id - 1 FROM generations WHERE difference IS NULL";
        let ends = connection
            .prepare_cached(sql)?
            .query_map([], |row| row.get(0))?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        Ok(Self(ends))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn append(&mut self, forgotten: Vec<i64>) {
        self.0.extend(forgotten);
    }

    /// What is to be removed next, if anything is.
    pub(crate) fn due(&mut self, connection: &Connection) -> rusqlite::Result<Option<Removal>> {
        while let Some(generation) = self.0.last() {
            let removal = Removal::around(connection, *generation)?;
            if removal.is_some() {
                return Ok(removal);
            }
            self.0.pop();
        }
        Ok(None)
    }
}

/// Generations between two that stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Removal {
    after: i64,
    before: i64,
}

impl Removal {
    /// Of those from a full document up to the next one, of which a given one is one: those after the
    /// last that somebody remembers.
    fn around(connection: &Connection, generation: i64) -> rusqlite::Result<Option<Self>> {
        let id = |sql: &str, values: &[i64]| -> rusqlite::Result<Option<i64>> {
            let mut statement = connection.prepare_cached(sql)?;
            let values = rusqlite::params_from_iter(values);
            let found = statement.query_row(values, |row| row.get(0)).optional()?;
            Ok(found.flatten())
        };
        let sql = "SELECT min(id) FROM generations WHERE difference IS NULL AND id > ?";
        // Where none comes after it, the current generation builds on all of them.
        let Some(before) = id(sql, &[generation])? else {
            return Ok(None);
        };
        let sql = "SELECT max(id) FROM generations WHERE difference IS NULL AND id <= ?";
        let base = id(sql, &[generation])?.unwrap_or(0);
        let sql = "SELECT max(generation) FROM generation_owners
            WHERE generation >= ? AND generation < ?";
        let after = id(sql, &[base, before])?.unwrap_or(base - 1);
        let sql = "SELECT id FROM generations WHERE id > ? AND id < ? LIMIT 1";
        let is_any = id(sql, &[after, before])?.is_some();
        Ok(is_any.then_some(Self { after, before }))
    }

    /// Removes some of them, the last first: what is left still builds on those before it.
    pub(crate) fn step(self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let sql = "DELETE FROM generations WHERE id IN (
            SELECT id FROM generations WHERE id > ? AND id < ? ORDER BY id DESC LIMIT ?)";
        let values = (self.after, self.before, REMOVED_PER_STEP);
        transaction.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }
}
