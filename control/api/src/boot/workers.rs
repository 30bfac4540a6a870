//! How many workers, and what they run on.

use std::{fmt, num::NonZeroU16, str::FromStr};

use crate::field::{text_field, words};

/// Most workers.
pub const WORKERS_MAX: u16 = 1024;

/// How many workers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Workers {
    /// One for each core that the process may run on.
    Auto,
    /// This many.
    Count(NonZeroU16),
}

/// Why a text is no number of workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`auto` or a number from 1 to {WORKERS_MAX} is expected")]
pub struct WorkersError;

impl FromStr for Workers {
    type Err = WorkersError;

    fn from_str(text: &str) -> Result<Self, WorkersError> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let count: NonZeroU16 = text.parse().map_err(|_| WorkersError)?;
        if count.get() > WORKERS_MAX {
            return Err(WorkersError);
        }
        Ok(Self::Count(count))
    }
}

impl fmt::Display for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Count(count) => count.fmt(f),
        }
    }
}

text_field!(Workers, "`auto` or a number from 1 to 1024");

words! {
    /// How workers wait for the kernel.
    pub enum Driver {
        /// io_uring where the kernel allows it, else epoll.
        Auto = "auto",
        /// io_uring, or no start.
        IoUring = "io_uring",
        /// epoll.
        Epoll = "epoll",
    }
}
