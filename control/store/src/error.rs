//! Why the store did not do what it was asked.

use control_api::state::difference::DifferenceError;

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

impl WriteError {
    /// As SQLite says of a disk that is full: for stores that have none.
    pub fn full(doing: &'static str) -> Self {
        let full = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
        let source = rusqlite::Error::SqliteFailure(full, None);
        Self::Sqlite { doing, source }
    }
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
    /// A generation's differences do not lead to a document: somebody wrote into the file.
    #[error("composing generation {generation}")]
    Compose {
        /// Which.
        generation: u64,
        /// What is wrong.
        source: DifferenceError,
    },
}
