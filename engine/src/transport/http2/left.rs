//! What has left of each stream of a connection.
//!
//! h2 queues what it is handed, stream by stream, and drops what is still queued of a stream that is
//! reset. It does not say how much that is, so the frames that it writes are counted: a head as one,
//! content by its bytes. Whoever hands them over counts alike.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use ahash::RandomState;

use crate::transport::http2::control_frames::{Frame, kind};

/// The streams of a connection that somebody asks about.
#[derive(Debug, Default)]
pub(crate) struct Left {
    by_stream: RefCell<HashMap<u32, u64, RandomState>>,
}

/// A stream of which is counted what leaves.
#[derive(Debug)]
pub(crate) struct Counted {
    left: Rc<Left>,
    stream: u32,
}

impl Left {
    /// Takes a frame that h2 writes.
    pub(crate) fn count(&self, frame: Frame) {
        let weight = match frame.kind {
            kind::DATA => frame.size as u64,
            kind::HEADERS => 1,
            _ => return,
        };
        if let Some(left) = self.by_stream.borrow_mut().get_mut(&frame.stream) {
            *left += weight;
        }
    }
}

impl Counted {
    /// Counts what leaves of a stream, of which nothing was handed over yet.
    pub(crate) fn begin(left: &Rc<Left>, stream: u32) -> Self {
        left.by_stream.borrow_mut().insert(stream, 0);
        Self {
            left: Rc::clone(left),
            stream,
        }
    }

    /// How much has left: heads, and bytes of content.
    pub(crate) fn so_far(&self) -> u64 {
        let by_stream = self.left.by_stream.borrow();
        by_stream.get(&self.stream).copied().unwrap_or_default()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.left.by_stream.borrow_mut().remove(&self.stream);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_and_content_of_the_streams_that_are_asked_about_count() {
        let left = Rc::new(Left::default());
        let (one, three) = (Counted::begin(&left, 1), Counted::begin(&left, 3));
        for (kind, stream, size) in [
            (kind::HEADERS, 1, 40),
            (kind::DATA, 1, 1000),
            (kind::DATA, 1, 0),
            (kind::DATA, 3, 5),
            (kind::DATA, 5, 7),
            (kind::WINDOW_UPDATE, 1, 4),
            (kind::CONTINUATION, 1, 300),
        ] {
            let flags = 0;
            left.count(Frame {
                kind,
                flags,
                size,
                stream,
            });
        }
        assert_eq!((one.so_far(), three.so_far()), (1001, 5));
        drop((one, three));
        assert!(left.by_stream.borrow().is_empty());
    }
}
