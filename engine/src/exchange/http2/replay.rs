//! Content that was sent to a target which did not begin with the request: it is sent again to the next.
//!
//! A target of HTTP/2 says by GOAWAY and by REFUSED_STREAM which requests it has not begun with, and those
//! may be repeated whatever they are (RFC 9113 sections 6.8 and 8.7). It says so when their content may
//! be on its way already: ordinary servers do after every thousand requests or so.

use std::{
    cell::{Cell, RefCell},
    mem,
};

use bytes::Bytes;

use crate::exchange::http2::body_copy::{Chunk, Extent};

/// Most content that is kept for another attempt, in bytes. With more, a request that was refused is
/// given back to its client.
const KEPT_BYTES_MAX: usize = 16 << 10;

/// What was taken of a request's content, over its attempts.
#[derive(Default)]
pub(crate) struct Replay {
    kept: RefCell<Vec<Chunk>>,
    size: Cell<usize>,
    /// More was taken than is kept, or the target has begun.
    is_lost: Cell<bool>,
    /// What is left of the content on its client's connection of HTTP/1.
    extent: RefCell<Option<Extent>>,
}

impl Replay {
    /// Whether everything that was taken can be sent again.
    pub(crate) fn is_whole(&self) -> bool {
        !self.is_lost.get()
    }

    /// The target has begun: nothing is sent again.
    pub(crate) fn give_up(&self) {
        self.is_lost.set(true);
        self.kept.take();
    }

    /// A chunk was taken.
    pub(crate) fn keep(&self, chunk: &Chunk) {
        if self.is_lost.get() {
            return;
        }
        self.size.set(self.size.get() + chunk.size());
        if self.size.get() > KEPT_BYTES_MAX {
            self.give_up();
            return;
        }
        self.kept.borrow_mut().push(chunk.copy());
    }

    /// What an earlier attempt has taken.
    pub(crate) fn chunks(&self) -> Vec<Chunk> {
        self.kept.borrow().iter().map(Chunk::copy).collect()
    }

    /// Remembers where a client's content goes on.
    pub(crate) fn leave(&self, extent: &mut Extent) {
        self.extent
            .replace(Some(mem::replace(extent, Extent::Left(0))));
    }

    /// Where it goes on, after another attempt.
    pub(crate) fn extent(&self) -> Option<Extent> {
        self.extent.take()
    }
}

impl Chunk {
    fn size(&self) -> usize {
        match self {
            Self::Data { bytes, .. } => bytes.len(),
            Self::End { trailers, .. } => trailers.len(),
        }
    }

    /// The same, of bytes that take no more room than they are long: a chunk may be a small part of what
    /// was received at once.
    fn copy(&self) -> Self {
        match self {
            Self::Data {
                bytes,
                wire_size,
                is_last,
            } => Self::Data {
                bytes: Bytes::copy_from_slice(bytes),
                wire_size: *wire_size,
                is_last: *is_last,
            },
            Self::End {
                trailers,
                wire_size,
            } => Self::End {
                trailers: trailers.clone(),
                wire_size: *wire_size,
            },
        }
    }
}
