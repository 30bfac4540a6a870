//! What h2 reads and writes: the bytes of a connection, driven by readiness.
//!
//! h2 reads for as long as there is something, and writes frame by frame. Here a busy connection
//! gives way after a turn, and frames leave together.

pub(crate) mod control_frames;
pub(crate) mod held;
pub(crate) mod left;

use std::{
    cell::Cell,
    future::Future,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Instant,
};

use engine_http::refusal::Refusal;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::transport::{
    Transport,
    http2::{
        control_frames::{Allowance, ControlFrames, Frame, Side, kind},
        held::Held,
        left::Left,
    },
    read_ahead::ReadAhead,
};

/// What a client sends first (RFC 9113 section 3.4). In HTTP/1 it is no request.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The most that h2 queues for a stream whose reader does not take it, in bytes: four frames, as much as
/// leaves at once.
pub(crate) const SEND_BUFFER_BYTES: usize = 64 << 10;

/// The most that is received before every other connection of the worker has its turn.
const TURN_BYTES: usize = 256 << 10;

/// Frames are gathered up to this size before they are sent. As h2 asks for a flush when it has
/// nothing more to say, none waits for others.
const GATHERED_BYTES: usize = 64 << 10;

thread_local! {
    /// A buffer for frames that nobody uses: connections that have nothing to send hold none.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

type Wait = Pin<Box<dyn Future<Output = io::Result<()>>>>;

/// A connection, as h2 reads and writes it.
pub(crate) struct ByteStream {
    transport: Rc<Transport>,
    /// What was received by whoever found out that this is HTTP/2.
    ahead: ReadAhead,
    reading: Option<Wait>,
    writing: Option<Wait>,
    /// Bytes received in this turn.
    taken: usize,
    /// The last receipt left room: there was no more.
    is_drained: bool,
    gathered: Vec<u8>,
    sent: usize,
    /// Set once the other side's frames are counted.
    control_frames: Option<Watched>,
    /// What has left of the streams.
    left: Rc<Left>,
    /// What is held of the other side's content, where that is counted.
    held: Option<Rc<Held>>,
}

/// The other side's frames.
struct Watched {
    control_frames: ControlFrames,
    /// Set when there are too many, with their kind: from then on nothing more is received.
    flood: Rc<Cell<Option<Refusal>>>,
    /// Set when its settings came.
    has_settings: Rc<Cell<bool>>,
}

impl ByteStream {
    pub(crate) fn new(transport: Rc<Transport>, ahead: ReadAhead) -> Self {
        Self {
            transport,
            ahead,
            reading: None,
            writing: None,
            taken: 0,
            is_drained: false,
            gathered: Vec::new(),
            sent: 0,
            control_frames: None,
            left: Rc::default(),
            held: None,
        }
    }

    /// Counts the other side's frames from now on, and says by `flood` when they are too many.
    pub(crate) fn watch(
        &mut self,
        (side, allowance): (Side, Allowance),
        flood: Rc<Cell<Option<Refusal>>>,
    ) {
        self.control_frames = Some(Watched {
            control_frames: ControlFrames::new(side, allowance, Instant::now()),
            flood,
            has_settings: Rc::default(),
        });
    }

    /// Whether the other side's settings have begun to come, while its frames are counted.
    pub(crate) fn has_settings(&self) -> Rc<Cell<bool>> {
        let watched = self.control_frames.as_ref();
        watched.map_or_else(Rc::default, |watched| Rc::clone(&watched.has_settings))
    }

    /// What leaves of the streams, while it is watched.
    pub(crate) fn left(&self) -> Rc<Left> {
        Rc::clone(&self.left)
    }

    /// Counts what is held of the other side's content, while it is watched.
    pub(crate) fn hold(&mut self, held: Rc<Held>) {
        self.held = Some(held);
    }

    /// Counts what was received. False when it is too much.
    fn is_bearable(&mut self, bytes: &[u8]) -> bool {
        let Some(Watched {
            control_frames,
            flood,
            has_settings,
        }) = &mut self.control_frames
        else {
            return true;
        };
        if flood.get().is_none() {
            let held = self.held.as_deref();
            let each = |frame: Frame| {
                if frame.kind == kind::SETTINGS {
                    has_settings.set(true);
                }
                if let Some(held) = held {
                    held.count(frame);
                }
            };
            flood.set(control_frames.take(bytes, Instant::now(), each).err());
        }
        flood.get().is_none()
    }

    fn receive(&mut self, into: &mut ReadBuf<'_>) -> io::Result<()> {
        if !self.ahead.is_empty() {
            let count = self.ahead.unused().len().min(into.remaining());
            into.put_slice(&self.ahead.unused()[..count]);
            self.ahead.consume(count);
            return Ok(());
        }
        let place = into.initialize_unfilled();
        let count = self.transport.recv(place)?;
        self.is_drained = count < place.len();
        self.taken += count;
        into.advance(count);
        Ok(())
    }

    /// Sends what was gathered.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if let Some(wait) = &mut self.writing {
                let waited = ready!(wait.as_mut().poll(cx));
                self.writing = None;
                waited?;
            }
            if self.sent == self.gathered.len() {
                self.gathered.clear();
                self.sent = 0;
                SPARE.set(std::mem::take(&mut self.gathered));
                return Poll::Ready(Ok(()));
            }
            match self.transport.send(&self.gathered[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let transport = Rc::clone(&self.transport);
                    self.writing = Some(Box::pin(async move { transport.writable().await }));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Waits for what comes behind the last byte that was sent.
    fn poll_last(
        &mut self,
        cx: &mut Context<'_>,
        last: impl FnOnce(Rc<Transport>) -> Wait,
    ) -> Poll<io::Result<()>> {
        let transport = &self.transport;
        let wait = self
            .writing
            .get_or_insert_with(|| last(Rc::clone(transport)));
        let waited = ready!(wait.as_mut().poll(cx));
        self.writing = None;
        Poll::Ready(waited)
    }
}

impl AsyncRead for ByteStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if let Some(wait) = &mut this.reading {
                let waited = ready!(wait.as_mut().poll(cx));
                (this.reading, this.taken, this.is_drained) = (None, 0, false);
                waited?;
            }
            if this.taken < TURN_BYTES && !this.is_drained {
                let before = into.filled().len();
                match this.receive(into) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    // Whoever drives the connection ends it, without waiting.
                    Ok(()) if !this.is_bearable(&into.filled()[before..]) => {
                        into.set_filled(before);
                        return Poll::Pending;
                    }
                    received => return Poll::Ready(received),
                }
            }
            // Also where there is more: this is how the connection gives way.
            let transport = Rc::clone(&this.transport);
            this.reading = Some(Box::pin(async move { transport.readable().await }));
        }
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.gathered.len() >= GATHERED_BYTES {
            ready!(this.poll_send(cx))?;
        }
        if this.gathered.capacity() == 0 {
            this.gathered = SPARE.take();
        }
        this.gathered.extend_from_slice(bytes);
        if let Some(watched) = &mut this.control_frames {
            watched.control_frames.sent(bytes, |frame| {
                this.left.count(frame);
                if let Some(held) = &this.held
                    && frame.kind == kind::RST_STREAM
                {
                    held.ended(frame.stream);
                }
            });
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.gathered.is_empty() {
            ready!(this.poll_send(cx))?;
        }
        if this.transport.as_plain().is_some() {
            return Poll::Ready(Ok(()));
        }
        this.poll_last(cx, |transport| {
            Box::pin(async move { transport.flushed().await })
        })
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.gathered.is_empty() {
            ready!(this.poll_send(cx))?;
        }
        this.poll_last(cx, |transport| {
            Box::pin(async move { transport.shut_down().await })
        })
    }
}
