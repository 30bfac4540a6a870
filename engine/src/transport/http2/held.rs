//! Content of a connection that came and was not taken yet: what h2 holds in memory.
//!
//! h2 says it of one stream at a time, and not how many pieces it is. So it is counted as frames come
//! and as their content is taken, for each stream, because h2 drops what is left of one that ends.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
};

use ahash::RandomState;

use crate::{
    context::room::Room,
    transport::http2::control_frames::{Frame, kind},
};

/// What a frame takes beside its content.
const FRAME_BYTES: usize = 256;

/// What was not taken of a connection's content.
#[derive(Debug)]
pub(crate) struct Held {
    room: Rc<Room>,
    by_stream: RefCell<HashMap<u32, Content, RandomState>>,
    /// The last stream that began.
    newest: Cell<u32>,
    all: Cell<Content>,
    /// Bytes of content that ever came.
    came: Cell<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Content {
    bytes: usize,
    frames: usize,
}

/// The content of one stream, until it is dropped.
#[derive(Debug)]
pub(crate) struct Holding {
    held: Rc<Held>,
    stream: u32,
}

impl Content {
    fn weight(self) -> usize {
        self.bytes + self.frames * FRAME_BYTES
    }
}

impl Held {
    pub(crate) fn new(room: &Rc<Room>) -> Self {
        Self {
            room: Rc::clone(room),
            by_stream: RefCell::default(),
            newest: Cell::new(0),
            all: Cell::default(),
            came: Cell::new(0),
        }
    }

    /// Takes a frame that came. Streams begin with their heads, so that none of their content is
    /// missed, whenever somebody looks at them.
    pub(crate) fn count(&self, frame: Frame) {
        match frame.kind {
            kind::HEADERS if frame.stream > self.newest.get() => {
                self.newest.set(frame.stream);
                let is_end = frame.flags & kind::END_STREAM != 0;
                if !is_end {
                    self.by_stream.borrow_mut().entry(frame.stream).or_default();
                }
            }
            kind::DATA => {
                self.came.set(self.came.get() + frame.size as u64);
                let is_piece = frame.size > 0 || frame.flags & kind::END_STREAM != 0;
                self.change(frame.stream, |content| Content {
                    bytes: content.bytes + frame.size,
                    frames: content.frames + usize::from(is_piece),
                });
            }
            _ => {}
        }
    }

    /// A stream was reset: h2 throws its content away.
    pub(crate) fn ended(&self, stream: u32) {
        self.change(stream, |_| Content::default());
        self.by_stream.borrow_mut().remove(&stream);
    }

    fn change(&self, stream: u32, change: impl FnOnce(Content) -> Content) {
        let mut by_stream = self.by_stream.borrow_mut();
        let Some(content) = by_stream.get_mut(&stream) else {
            return;
        };
        let (before, after) = (*content, change(*content));
        *content = after;
        let all = self.all.get();
        self.all.set(Content {
            bytes: all.bytes + after.bytes - before.bytes,
            frames: all.frames + after.frames - before.frames,
        });
        self.room.hold(before.weight(), after.weight());
    }

    /// Bytes that were not taken yet.
    pub(crate) fn bytes(&self) -> usize {
        self.all.get().bytes
    }

    /// Pieces that were not taken yet.
    pub(crate) fn frames(&self) -> usize {
        self.all.get().frames
    }

    /// Bytes that ever came.
    pub(crate) fn came(&self) -> u64 {
        self.came.get()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.hold(self.all.get().weight(), 0);
    }
}

impl Holding {
    pub(crate) fn of(held: &Rc<Held>, stream: u32) -> Self {
        Self {
            held: Rc::clone(held),
            stream,
        }
    }

    /// A piece was taken.
    pub(crate) fn taken(&self, bytes: usize) {
        self.held.change(self.stream, |content| Content {
            bytes: content.bytes.saturating_sub(bytes),
            frames: content.frames.saturating_sub(1),
        });
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.held.ended(self.stream);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::room::Level;

    fn frame(kind: u8, stream: u32, size: usize) -> Frame {
        Frame {
            kind,
            flags: 0,
            size,
            stream,
        }
    }

    #[test]
    fn content_is_held_from_when_it_comes_until_it_is_taken_or_its_stream_ends() {
        let room = Rc::new(Room::new(2000));
        let held = Rc::new(Held::new(&room));
        for stream in [1, 3] {
            held.count(frame(kind::HEADERS, stream, 20));
            held.count(frame(kind::DATA, stream, 300));
            held.count(frame(kind::DATA, stream, 200));
        }
        // A stream that nobody knows any more.
        held.count(frame(kind::DATA, 5, 100));
        assert_eq!((held.bytes(), held.frames(), held.came()), (1000, 4, 1100));
        assert_eq!(room.level(), Level::None);
        let (one, three) = (Holding::of(&held, 1), Holding::of(&held, 3));
        one.taken(300);
        assert_eq!((held.bytes(), held.frames()), (700, 3));
        assert_eq!(room.level(), Level::Little);
        drop(three);
        assert_eq!((held.bytes(), held.frames()), (200, 1));
        // Trailers begin no stream.
        held.count(frame(kind::HEADERS, 3, 20));
        held.count(frame(kind::DATA, 3, 500));
        assert_eq!(held.bytes(), 200);
        drop(one);
        assert_eq!((held.bytes(), held.frames()), (0, 0));
        held.count(frame(kind::HEADERS, 7, 20));
        held.count(frame(kind::DATA, 7, 5000));
        assert_eq!(room.level(), Level::None);
        drop(held);
        assert_eq!(room.level(), Level::Plenty);
    }
}
