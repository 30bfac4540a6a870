//! Opening the file: whose it is, who may read it, and which form it has.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};

use crate::migrate::{self, MigrateError};

/// Only the owner reads the file: it holds the networks' private keys.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// Statements that a connection keeps compiled: more than there are.
const STATEMENTS_MAX: usize = 128;

/// How long readers wait for a lock. In WAL mode they meet one only while the log is recovered
/// (sqlite.org/wal.html, section 8).
const READER_PATIENCE: Duration = Duration::from_secs(1);

/// Why the store did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory could not be made.
    #[error("making the directory {}", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The file could not be made, or not be kept from others.
    #[error("making the store's file {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// It is not a database, or it cannot be read.
    #[error("opening the store {}", .path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// SQLite's answer.
        source: rusqlite::Error,
    },
    /// It could not be brought to this version's form.
    #[error("bringing the store {} up to date", .path.display())]
    Migrate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: MigrateError,
    },
    /// No thread could be started.
    #[error("starting the store's threads")]
    Thread {
        /// The system's answer.
        source: io::Error,
    },
}

/// Opens the one connection that writes; makes the file where there is none.
pub(crate) fn writing(path: &Path) -> Result<Connection, OpenError> {
    make(path)?;
    let database = |source| OpenError::Database {
        path: path.to_owned(),
        source,
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(database)?;
    migrate::recognise(&connection).map_err(|source| OpenError::Migrate {
        path: path.to_owned(),
        source,
    })?;
    prepare_writing(&connection).map_err(database)?;
    migrate::run(&mut connection).map_err(|source| OpenError::Migrate {
        path: path.to_owned(),
        source,
    })?;
    Ok(connection)
}

/// Opens a connection that only reads, on a file that [`writing`] has opened.
pub(crate) fn reading(path: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(READER_PATIENCE)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        connection.pragma_update(None, "cache_size", -16 * 1024)?; // KiB
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        Ok(connection)
    };
    open().map_err(|source| OpenError::Database {
        path: path.to_owned(),
        source,
    })
}

fn prepare_writing(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // Pages of merged rows can be given back; only settable before the first table is made.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // A log that a long question let grow is cut back to this many bytes.
    connection.pragma_update(None, "journal_size_limit", 16 << 20)?;
    connection.pragma_update(None, "cache_size", -16 * 1024)?; // KiB
    // Sorting makes no files: a full disk fails a write, not a merge half-way to nowhere.
    connection.pragma_update(None, "temp_store", "MEMORY")
}

/// Makes the file for its owner alone before SQLite opens it: its log and shared memory get the
/// same mode from it.
fn make(path: &Path) -> Result<(), OpenError> {
    if let Some(directory) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(DIRECTORY_MODE);
        builder
            .create(directory)
            .map_err(|source| OpenError::Directory {
                path: directory.to_owned(),
                source,
            })?;
    }
    let make = || {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(FILE_MODE);
        match options.open(path) {
            Ok(file) => sync_entry(&file, path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => close_to_others(path),
            Err(error) => Err(error),
        }
    };
    make().map_err(|source| OpenError::File {
        path: path.to_owned(),
        source,
    })
}

/// A new file survives a power cut once its directory is on disk, too (fsync(2)).
fn sync_entry(file: &File, path: &Path) -> io::Result<()> {
    file.sync_all()?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    File::open(directory)?.sync_all()
}

fn close_to_others(path: &Path) -> io::Result<()> {
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(FILE_MODE))
}
