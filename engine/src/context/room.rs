//! Room for the content of HTTP/2 that came and was not taken yet.

use std::cell::Cell;

/// What a worker may hold of it, and what it holds or has promised to.
#[derive(Debug)]
pub(crate) struct Room {
    most: usize,
    used: Cell<usize>,
}

/// How much room is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Half of it and more.
    Plenty,
    Little,
    None,
}

impl Level {
    /// That of `used` bytes of `most`.
    pub(crate) fn of(used: usize, most: usize) -> Self {
        if used >= most {
            Self::None
        } else if used > most / 2 {
            Self::Little
        } else {
            Self::Plenty
        }
    }
}

impl Room {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            used: Cell::new(0),
        }
    }

    /// Counts what somebody uses more or less than before.
    pub(crate) fn hold(&self, before: usize, after: usize) {
        self.used
            .set((self.used.get() + after).saturating_sub(before));
    }

    pub(crate) fn level(&self) -> Level {
        Level::of(self.used.get(), self.most)
    }
}
