//! The buffer that a worker copies through: one for all of its connections.
//!
//! An idle connection so costs no buffer, and the busy ones share one that stays in the cache. It
//! is only borrowed between two waits, never across one.

use std::cell::{Cell, RefCell};

/// The piece that is copied at once while the worker holds more than it may.
pub(crate) const SMALL_PIECE: usize = 16 << 10;

/// A worker's scratch buffer, and how much its connections hold beside it.
#[derive(Debug)]
pub(crate) struct Scratch {
    buffer: RefCell<Box<[u8]>>,
    bytes: usize,
    held: Cell<usize>,
    held_max: usize,
}

impl Scratch {
    pub(crate) fn new(bytes: usize, held_max: usize) -> Self {
        let bytes = bytes.max(SMALL_PIECE);
        let buffer = RefCell::new(vec![0; bytes].into_boxed_slice());
        Self {
            buffer,
            bytes,
            held: Cell::new(0),
            held_max,
        }
    }

    /// Its size.
    pub(crate) fn len(&self) -> usize {
        self.bytes
    }

    /// Lends the first `len` bytes of it, or all where it has fewer.
    pub(crate) fn with<T>(&self, len: usize, work: impl FnOnce(&mut [u8]) -> T) -> T {
        let mut buffer = self.buffer.borrow_mut();
        work(&mut buffer[..len.min(self.bytes)])
    }

    /// Counts memory that a connection holds for a slow destination, or gives back.
    pub(crate) fn hold(&self, before: usize, after: usize) {
        self.held
            .set((self.held.get() + after).saturating_sub(before));
    }

    /// Whether connections hold as much as they may.
    pub(crate) fn is_crowded(&self) -> bool {
        self.held.get() >= self.held_max
    }
}
