//! The window of a client's connection: how far ahead of what was taken the client may send.
//!
//! A window that streams share must not be used up by those whose content nobody takes. So it is
//! that of what is held, and room for more beyond: it grows as content comes, before that is taken.
//! It does so for as long as the worker has room. Without any, a connection has what is not taken of
//! its own content, and no more: other connections go on.
//!
//! What a client was told once it may use at any time, so that is promised room until it has used it.

use std::rc::Rc;

use crate::{
    context::{
        http2_limits::{WINDOW_BEGIN, WINDOW_MAX},
        room::{Level, Room},
    },
    transport::http2::held::Held,
};

/// So much content within a second makes a connection worth a larger window: messages that come now and
/// then would never use it, and the room would stay promised.
const BUSY_BYTES: usize = 16 << 10;

/// For how many of its uploads a connection has a window of its own each.
const UPLOADS_AHEAD: usize = 8;

/// The window of one connection.
#[derive(Debug)]
pub(crate) struct Window {
    room: Rc<Room>,
    /// That of a stream.
    stream: usize,
    /// What h2 keeps it at: what is held counts too.
    target: usize,
    /// The most that the client may believe that it may send.
    known: usize,
    /// Content that had come when it was looked at last, how much of it in which second, and in which
    /// one the connection was last busy, in [`crate::context::live::Connections::now`].
    seen: u64,
    within: (u32, usize),
    busy_at: Option<u32>,
}

/// What is to be done about a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fit {
    /// What h2 is to keep it at, where that changes.
    pub(crate) target: Option<u32>,
    /// There is no room for what it should be: it is to be looked at again.
    pub(crate) is_short: bool,
}

impl Window {
    pub(crate) fn new(room: &Rc<Room>, stream: u32) -> Self {
        Self {
            room: Rc::clone(room),
            stream: usize::try_from(stream).unwrap_or(usize::MAX),
            target: WINDOW_BEGIN,
            known: WINDOW_BEGIN,
            seen: 0,
            within: (0, 0),
            busy_at: None,
        }
    }

    /// Makes it fit what is held, and so many requests whose content may come.
    pub(crate) fn fit(&mut self, held: &Held, uploads: usize, now: u32) -> Fit {
        let came = self.came(held, now);
        let is_busy = self.busy_at.is_some_and(|at| now <= at + 1);
        let level = self.room.level();
        let streams = match level {
            _ if !is_busy => 0,
            Level::Plenty => uploads.min(UPLOADS_AHEAD),
            Level::Little => uploads.min(1),
            Level::None => 0,
        };
        let ahead = self.stream.saturating_mul(streams).max(WINDOW_BEGIN);
        let wanted = (ahead + held.bytes()).min(WINDOW_MAX);
        let is_short = wanted > self.target && level == Level::None;
        let before = self.target;
        if !is_short {
            self.target = wanted;
        }
        let told = self.target.saturating_sub(held.bytes());
        self.promise(self.known.saturating_sub(came).max(told));
        Fit {
            target: (self.target != before)
                .then(|| u32::try_from(self.target).unwrap_or(u32::MAX >> 1)),
            is_short,
        }
    }

    /// What has come since the last time.
    fn came(&mut self, held: &Held, now: u32) -> usize {
        let came = usize::try_from(held.came() - self.seen).unwrap_or(usize::MAX);
        self.seen = held.came();
        if self.within.0 != now {
            self.within = (now, 0);
        }
        self.within.1 = self.within.1.saturating_add(came);
        if self.within.1 >= BUSY_BYTES {
            self.busy_at = Some(now);
        }
        came
    }

    /// Every connection begins with a window that nobody can make smaller: that is not counted.
    fn promise(&mut self, known: usize) {
        let beyond = |known: usize| known.saturating_sub(WINDOW_BEGIN);
        self.room.hold(beyond(self.known), beyond(known));
        self.known = known;
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.promise(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::http2::{
        control_frames::{Frame, kind},
        held::Holding,
    };

    const STREAM: u32 = 256 << 10;
    const BYTES: usize = 256 << 10;

    fn connection(room: &Rc<Room>) -> (Rc<Held>, Window) {
        let held = Rc::new(Held::new(room));
        (held, Window::new(room, STREAM))
    }

    fn come(held: &Held, stream: u32, size: usize) {
        for (kind, size) in [(kind::HEADERS, 0), (kind::DATA, size)] {
            let flags = 0;
            held.count(Frame {
                kind,
                flags,
                size,
                stream,
            });
        }
    }

    #[test]
    fn what_is_held_takes_nothing_of_what_others_may_send() {
        let room = Rc::new(Room::new(1 << 30));
        let (held, mut window) = connection(&room);
        assert_eq!(window.fit(&held, 1, 0).target, None, "nothing came yet");
        come(&held, 1, 16 << 10);
        let part = 16 << 10;
        assert_eq!(window.fit(&held, 1, 0).target, Some(STREAM + part));
        come(&held, 1, BYTES - (16 << 10));
        assert_eq!(window.fit(&held, 1, 0).target, Some(2 * STREAM));
        come(&held, 3, BYTES);
        assert_eq!(window.fit(&held, 2, 0).target, Some(4 * STREAM));
        drop((Holding::of(&held, 1), Holding::of(&held, 3)));
        assert_eq!(window.fit(&held, 0, 0).target, Some((1 << 16) - 1));
    }

    #[test]
    fn messages_now_and_then_are_promised_nothing() {
        let room = Rc::new(Room::new(BYTES));
        let (held, mut window) = connection(&room);
        let holding = Holding::of(&held, 1);
        for second in 0..1000 {
            come(&held, 1, 1 << 10);
            holding.taken(1 << 10);
            assert_eq!(window.fit(&held, 1, second).target, None);
        }
        assert_eq!(room.level(), Level::Plenty);
    }

    #[test]
    fn without_room_a_window_does_not_grow_and_with_room_it_does_again() {
        let room = Rc::new(Room::new(BYTES));
        let (held, mut window) = connection(&room);
        let (other, mut others) = connection(&room);
        come(&held, 1, 16 << 10);
        window.fit(&held, 1, 0);
        come(&held, 1, BYTES);
        let fit = Fit {
            target: None,
            is_short: true,
        };
        assert_eq!(window.fit(&held, 1, 0), fit);
        come(&other, 1, WINDOW_BEGIN);
        assert_eq!(others.fit(&other, 1, 0), fit);
        drop(Holding::of(&held, 1));
        assert!(others.fit(&other, 1, 0).target.is_some());
    }

    #[test]
    fn what_a_client_was_told_counts_until_it_was_used() {
        let room = Rc::new(Room::new(BYTES));
        let (held, mut window) = connection(&room);
        come(&held, 1, 16 << 10);
        drop(Holding::of(&held, 1));
        window.fit(&held, 1, 0);
        assert_eq!(room.level(), Level::Little);
        window.fit(&held, 0, 0);
        assert_eq!(room.level(), Level::Little, "it may be used yet");
        come(&held, 3, BYTES);
        drop(Holding::of(&held, 3));
        window.fit(&held, 0, 0);
        assert_eq!(room.level(), Level::Plenty);
        window.fit(&held, 1, 0);
        drop(window);
        assert_eq!(room.level(), Level::Plenty);
    }
}
