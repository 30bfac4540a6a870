//! Why the store did not do what it was asked.

use crate::{file::MovedError, request::Refused};

/// Why something was not written. Nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// It was not even tried.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// SQLite failed: the disk is full or broken, or somebody else holds the file's lock.
    #[error("{doing}")]
    Sqlite {
        /// What was being done.
        doing: &'static str,
        /// SQLite's answer.
        source: rusqlite::Error,
    },
    /// The file is no longer in its place.
    #[error("{doing}")]
    Moved {
        /// What was being done.
        doing: &'static str,
        /// Which file.
        source: MovedError,
    },
}

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It was not even tried.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// SQLite failed.
    #[error("{doing}")]
    Sqlite {
        /// What was being done.
        doing: &'static str,
        /// SQLite's answer.
        source: rusqlite::Error,
    },
}
