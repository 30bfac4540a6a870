//! Opening the file: whose it is, who may read it, and which form it has.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, config::DbConfig};

use crate::{
    file::{self, FILE_MODE, FileError, Place},
    migrate::{self, APPLICATION, MigrateError},
};

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
    /// What is there is no store, and was left as it is.
    #[error("taking {} as the store", .path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        source: FileError,
    },
    /// It cannot be read, or is locked or broken.
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
pub(crate) fn writing(path: &Path) -> Result<(Connection, Place), OpenError> {
    make(path)?;
    let at = || path.to_owned();
    let file = |source| OpenError::File { path: at(), source };
    let database = |source| OpenError::Database { path: at(), source };
    let migrate = |source| OpenError::Migrate { path: at(), source };
    let flags = flags(OpenFlags::SQLITE_OPEN_READ_WRITE);
    let resolved = file::resolved(path).map_err(file)?;
    let mut connection = Connection::open_with_flags(&resolved, flags).map_err(database)?;
    // Somebody else's log is not copied into somebody else's file when it is refused.
    let keep_log = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    connection.set_db_config(keep_log, true).map_err(database)?;
    migrate::recognise(&connection).map_err(migrate)?;
    connection
        .set_db_config(keep_log, false)
        .map_err(database)?;
    prepare_writing(&connection).map_err(database)?;
    migrate::run(&mut connection).map_err(migrate)?;
    let place = Place::at(&resolved).map_err(file)?;
    Ok((connection, place))
}

/// Links are refused once more by SQLite, which opens the file itself.
fn flags(access: OpenFlags) -> OpenFlags {
    access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW
}

/// Opens a connection that only reads, on a file that [`writing`] has opened.
pub(crate) fn reading(path: &Path) -> Result<Connection, OpenError> {
    let flags = flags(OpenFlags::SQLITE_OPEN_READ_ONLY);
    let resolved = file::resolved(path).map_err(|source| OpenError::File {
        path: path.to_owned(),
        source,
    })?;
    let open = || {
        let connection = Connection::open_with_flags(&resolved, flags)?;
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
    // Into the file itself, not its log: whoever looks at it finds whose it is.
    if migrate::application(connection)? == 0 {
        connection.pragma_update(None, "application_id", APPLICATION)?;
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // A log that a long question let grow is cut back to this many bytes.
    connection.pragma_update(None, "journal_size_limit", 16 << 20)?;
    connection.pragma_update(None, "cache_size", -16 * 1024)?; // KiB
    // Sorting makes no files: a full disk fails a write, not a merge half-way to nowhere.
    connection.pragma_update(None, "temp_store", "MEMORY")
}

/// Makes the file for its owner alone before SQLite opens it: its log and shared memory get the
/// same mode from it. What is there and is no store is left as it is.
fn make(path: &Path) -> Result<(), OpenError> {
    let not_ours = |source| OpenError::NotOurs {
        path: path.to_owned(),
        source,
    };
    let failed = |source| OpenError::File {
        path: path.to_owned(),
        source,
    };
    if let Some(file) = file::find(path).map_err(not_ours)? {
        return file::close_to_others(&file).map_err(failed);
    }
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
    let mut options = OpenOptions::new();
    // Nothing that came there meanwhile is taken, and no link is followed (open(2), O_EXCL).
    options.write(true).create_new(true).mode(FILE_MODE);
    let made = options.open(path);
    made.and_then(|file| sync_entry(&file, path))
        .map_err(failed)
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
