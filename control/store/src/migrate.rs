//! The file's form, and the way from older ones to this version's.
//!
//! `PRAGMA user_version` counts the migrations that were run. Each runs in a transaction together
//! with its count, so a crash leaves the form before it or the one after it. Migrations that were
//! released are never edited.

use rusqlite::{Connection, TransactionBehavior};

/// `RING`: what `PRAGMA application_id` says of Ringway's files.
pub(crate) const APPLICATION: u32 = 0x5249_4e47;

/// Every migration, in order; the first makes version 1.
pub(crate) const MIGRATIONS: [&str; 9] = [
    include_str!("migrations/0001_desired.sql"),
    include_str!("migrations/0002_accounts.sql"),
    include_str!("migrations/0003_journal.sql"),
    include_str!("migrations/0004_certificates.sql"),
    include_str!("migrations/0005_secrets.sql"),
    include_str!("migrations/0006_answers.sql"),
    include_str!("migrations/0007_owners.sql"),
    include_str!("migrations/0008_differences.sql"),
    include_str!("migrations/0009_next.sql"),
];

/// Why a file could not be brought to this version's form. It is as it was.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// It is a database of something else.
    #[error("the file is a database, but not Ringway's")]
    Foreign,
    /// A later version of Ringway wrote it.
    #[error("its form is {found}, and this version of Ringway knows forms up to {known} only")]
    Newer {
        /// The file's form.
        found: i64,
        /// The last one known.
        known: i64,
    },
    /// What it says of itself could not be read.
    #[error("reading its form")]
    Read {
        /// SQLite's answer.
        source: rusqlite::Error,
    },
    /// A migration failed.
    #[error("changing its form from {from}")]
    Run {
        /// The form that it has.
        from: i64,
        /// SQLite's answer.
        source: rusqlite::Error,
    },
}

/// Refuses files of others before anything is written to them.
pub(crate) fn recognise(connection: &Connection) -> Result<(), MigrateError> {
    let read = |source| MigrateError::Read { source };
    let application = application(connection).map_err(read)?;
    let ours = i64::from(APPLICATION);
    let tables = "SELECT count(*) FROM sqlite_schema";
    let tables: i64 = connection
        .query_row(tables, [], |row| row.get(0))
        .map_err(read)?;
    let empty = application == 0 && tables == 0;
    if application != ours && !empty {
        return Err(MigrateError::Foreign);
    }
    let found = pragma(connection, "user_version").map_err(read)?;
    let known = version_after(MIGRATIONS.len());
    if found > known {
        return Err(MigrateError::Newer { found, known });
    }
    Ok(())
}

/// Runs what was not run on this file yet.
pub(crate) fn run(connection: &mut Connection) -> Result<(), MigrateError> {
    let done =
        pragma(connection, "user_version").map_err(|source| MigrateError::Read { source })?;
    for (index, migration) in MIGRATIONS.iter().enumerate() {
        let from = version_after(index);
        if from >= done {
            step(connection, migration, from + 1)
                .map_err(|source| MigrateError::Run { from, source })?;
        }
    }
    Ok(())
}

fn step(connection: &mut Connection, migration: &str, version: i64) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(migration)?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", version)?;
    transaction.commit()
}

/// What the file says whose it is; 0 when it says nothing.
pub(crate) fn application(connection: &Connection) -> rusqlite::Result<i64> {
    pragma(connection, "application_id")
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}

fn version_after(migrations: usize) -> i64 {
    i64::try_from(migrations).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
