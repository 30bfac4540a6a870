//! One side of a connection: a socket, and the TLS session over it where there is one.
//!
//! Whoever moves bytes calls [`Transport::recv`] and [`Transport::send`] until they would block, and then waits
//! by [`Transport::readable`] or [`Transport::writable`]. Those know what a session holds: plaintext that needs
//! no more from the socket, and ciphertext that the socket had no room for. Bytes that `send` took
//! may still be such ciphertext, so whoever stops sending waits for [`Transport::flushed`].
//!
//! A plain end costs what its socket costs, and three words.

pub(crate) mod handshake;
pub(crate) mod http2;
pub(crate) mod linger;
pub(crate) mod read_ahead;
pub(crate) mod received;
pub(crate) mod streams;
pub(crate) mod unsent;

use std::{
    cell::{Cell, OnceCell, RefCell},
    future::{Future as _, poll_fn},
    io,
    os::fd::{AsFd, BorrowedFd},
    pin::pin,
    time::Instant,
};

use engine_sys::socket;
use engine_tls::{
    ClientSession, Scratch, ServerSession, SessionError, Wire, peer::Peer, session::Agreed,
};

use crate::{
    context::tls::origin::Origin,
    rt::{Readiness, TimedOut, give_way, until},
};

/// One side of a connection.
#[derive(Debug)]
pub(crate) struct Transport {
    socket: Readiness,
    session: OnceCell<Box<RefCell<Tls>>>,
    /// Bytes of HTTP that came from it, and went to it.
    moved: Cell<(u64, u64)>,
}

/// A session whose handshake is done.
#[derive(Debug)]
pub(crate) enum Tls {
    /// With a client.
    Server(ServerSession),
    /// With an upstream.
    Client(ClientSession),
}

/// Does the same with a session of either side.
macro_rules! either {
    ($tls:expr, $session:ident => $work:expr) => {
        match $tls {
            Tls::Server($session) => $work,
            Tls::Client($session) => $work,
        }
    };
}

/// A socket's ciphertext.
#[derive(Debug)]
pub(crate) struct Records<'a>(pub(crate) BorrowedFd<'a>);

thread_local! {
    /// The buffers that all sessions of a worker go through. Made by the first of them, so that a
    /// gateway without TLS has none.
    static SCRATCH: RefCell<Option<Box<Scratch>>> = const { RefCell::new(None) };
}

/// Lends the worker's buffers for one call of a session.
pub(crate) fn with_scratch<T>(work: impl FnOnce(&mut Scratch) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| work(scratch.get_or_insert_default()))
}

impl Transport {
    /// One that bytes pass through as they are.
    pub(crate) fn plain(socket: Readiness) -> Self {
        Self {
            socket,
            session: OnceCell::new(),
            moved: Cell::default(),
        }
    }

    /// From now on all bytes go through `session`. An end has one session in its life.
    pub(crate) fn secure(&self, session: Tls) {
        let is_first = self.session.set(Box::new(RefCell::new(session))).is_ok();
        debug_assert!(is_first, "an end has one session");
    }

    /// The socket, where it carries the bytes themselves: to be spliced.
    pub(crate) fn as_plain(&self) -> Option<&Readiness> {
        self.session.get().is_none().then_some(&self.socket)
    }

    /// Bytes of HTTP that came from this client and reached a target, and that went to it.
    pub(crate) fn moved(&self) -> (u64, u64) {
        self.moved.get()
    }

    /// Adds to [`Transport::moved`].
    pub(crate) fn add_moved(&self, received: u64, sent: u64) {
        let before = self.moved.get();
        self.moved.set((before.0 + received, before.1 + sent));
    }

    /// The socket, whatever it carries: its addresses and options.
    pub(crate) fn socket(&self) -> &Readiness {
        &self.socket
    }

    /// Whether both sides have agreed on an application protocol (RFC 7301).
    pub(crate) fn speaks(&self, protocol: &[u8]) -> bool {
        self.asks(|tls| tls.agreed().and_then(|agreed| agreed.protocol) == Some(protocol))
    }

    /// Whether HTTP/2 is spoken on a connection that was made for an origin.
    pub(crate) fn speaks_http2(&self, origin: &Origin) -> bool {
        origin.settings().is_none() || self.speaks(b"h2")
    }

    /// The version of TLS that is spoken, as `TLSv1.3`; `None` on a plain end.
    pub(crate) fn tls_version(&self) -> Option<&'static str> {
        let session = self.session.get()?.borrow();
        session.agreed().map(|agreed| agreed.version)
    }

    /// Receives what is there. 0 is the end of the stream that its sender meant.
    ///
    /// # Errors
    /// `WouldBlock`; `UnexpectedEof` where the stream was cut without TLS' word for its end; those
    /// of the socket, and of the session as [`io::Error`].
    pub(crate) fn recv(&self, into: &mut [u8]) -> io::Result<usize> {
        let Some(session) = self.session.get() else {
            return socket::recv(self.socket.as_fd(), into);
        };
        let mut wire = Records(self.socket.as_fd());
        let mut session = session.borrow_mut();
        let received = with_scratch(
            |scratch| either!(&mut *session, session => session.recv(&mut wire, scratch, into)),
        );
        Ok(received?)
    }

    /// Sends what there is room for, of which a session may keep a part until there is more room.
    ///
    /// # Errors
    /// `WouldBlock` when nothing was taken; those of the socket, and of the session as
    /// [`io::Error`].
    pub(crate) fn send(&self, from: &[u8]) -> io::Result<usize> {
        let Some(session) = self.session.get() else {
            return socket::send(self.socket.as_fd(), from);
        };
        let mut wire = Records(self.socket.as_fd());
        let mut session = session.borrow_mut();
        with_scratch(|scratch| {
            let mut sent = 0;
            while sent < from.len() {
                let rest = &from[sent..];
                match either!(&mut *session, session => session.send(&mut wire, scratch, rest)) {
                    Ok(part) => sent += part,
                    Err(SessionError::WouldBlock) if sent > 0 => break,
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(sent)
        })
    }

    /// Waits until [`Transport::recv`] may have something. Queued ciphertext is sent meanwhile. Where
    /// there is something already, this is how the task gives way.
    ///
    /// # Errors
    /// When the kernel refuses the wait.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        if self.has_received() || self.has_unsent() {
            // Apart, so that the task of a plain connection is small.
            return Box::pin(self.session_readable()).await;
        }
        self.socket.readable().await
    }

    /// Waits until [`Transport::send`] takes something.
    ///
    /// # Errors
    /// When the kernel refuses the wait. What the socket says against queued ciphertext is the next
    /// call's to tell.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        if self.session.get().is_some() {
            return Box::pin(self.session_writable()).await;
        }
        self.socket.writable().await
    }

    /// [`Transport::readable`], until a deadline.
    ///
    /// # Errors
    /// When the deadline came first. A refused wait counts as readiness: the read that follows
    /// says what is wrong.
    pub(crate) async fn readable_until(&self, deadline: Instant) -> Result<(), TimedOut> {
        until(deadline, self.readable()).await.map(drop)
    }

    /// Waits until all that was sent is on its way.
    ///
    /// # Errors
    /// Those of the socket.
    pub(crate) async fn flushed(&self) -> io::Result<()> {
        if !self.has_unsent() {
            return Ok(());
        }
        Box::pin(self.flush_all()).await
    }

    /// Ends the stream towards the other side: by a half-close, and before that by `close_notify`
    /// where there is a session.
    ///
    /// # Errors
    /// Those of the socket.
    pub(crate) async fn shut_down(&self) -> io::Result<()> {
        // What the socket says against it, it says again.
        let _ = self.close_notify();
        self.flushed().await?;
        socket::shutdown_write(self.socket.as_fd())
    }

    /// Says `close_notify`, where there is a session, without waiting for room for it.
    ///
    /// # Errors
    /// `WouldBlock` when it is queued; those of the socket.
    pub(crate) fn close_notify(&self) -> io::Result<()> {
        let Some(session) = self.session.get() else {
            return Ok(());
        };
        let mut wire = Records(self.socket.as_fd());
        let mut session = session.borrow_mut();
        let closed = with_scratch(
            |scratch| either!(&mut *session, session => session.close(&mut wire, scratch)),
        );
        Ok(closed?)
    }

    /// Whether nothing has arrived that concerns a reader: neither the end of the stream, nor bytes
    /// that nobody asked for. What TLS says for itself, as session tickets, is taken in; a part of a
    /// record concerns a reader, as it may be one's bytes.
    pub(crate) fn is_quiet(&self) -> bool {
        let looked = match self.session.get() {
            None => socket::peek(self.socket.as_fd()),
            Some(_) => self.recv(&mut [0]),
        };
        would_block(&looked) && !self.has_begun_record()
    }

    /// What the session says; `false` on a plain end.
    fn asks(&self, question: impl FnOnce(&Tls) -> bool) -> bool {
        self.session
            .get()
            .is_some_and(|session| question(&session.borrow()))
    }

    /// Whether a session has something for a reader without the socket's help.
    fn has_received(&self) -> bool {
        self.asks(|tls| either!(tls, session => session.has_received()))
    }

    /// Whether a session has a part of a record.
    fn has_begun_record(&self) -> bool {
        self.asks(|tls| either!(tls, session => session.has_begun_record()))
    }

    /// Whether a session has ciphertext that the socket had no room for.
    fn has_unsent(&self) -> bool {
        self.asks(Tls::wants_write)
    }

    fn flush(&self) -> io::Result<()> {
        let Some(session) = self.session.get() else {
            return Ok(());
        };
        let mut wire = Records(self.socket.as_fd());
        either!(&mut *session.borrow_mut(), session => session.flush(&mut wire))?;
        Ok(())
    }

    async fn flush_all(&self) -> io::Result<()> {
        while self.has_unsent() {
            self.socket.writable().await?;
            match self.flush() {
                flushed if would_block(&flushed) => {}
                flushed => flushed?,
            }
        }
        Ok(())
    }

    async fn session_writable(&self) -> io::Result<()> {
        if !self.has_unsent() {
            // It took a part because that is as much as it takes at once.
            give_way().await;
            return Ok(());
        }
        loop {
            self.socket.writable().await?;
            if !would_block(&self.flush()) {
                return Ok(());
            }
        }
    }

    async fn session_readable(&self) -> io::Result<()> {
        if self.has_received() {
            give_way().await;
            return Ok(());
        }
        if self.asks(|tls| either!(tls, session => session.is_full())) {
            // Nothing is read before. A socket that takes no more says so to the reader.
            let _ = self.flushed().await;
        }
        let mut readable = pin!(self.socket.readable());
        let mut flushed = pin!(self.flushed());
        let mut is_flushed = false;
        poll_fn(|cx| {
            is_flushed = is_flushed || flushed.as_mut().poll(cx).is_ready();
            readable.as_mut().poll(cx)
        })
        .await
    }
}

impl Tls {
    /// See [`engine_tls::Session::handshake`].
    ///
    /// # Errors
    /// `WouldBlock` until it is done.
    pub(crate) fn handshake(
        &mut self,
        wire: &mut Records<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), SessionError> {
        either!(self, session => session.handshake(wire, scratch))
    }

    /// Whether there is ciphertext that the socket had no room for.
    pub(crate) fn wants_write(&self) -> bool {
        either!(self, session => session.wants_write())
    }

    /// What both sides agreed on.
    pub(crate) fn agreed(&self) -> Option<Agreed<'_>> {
        either!(self, session => session.agreed())
    }

    /// The other side's certificate, which was verified.
    pub(crate) fn peer(&self) -> Option<Peer<'_>> {
        either!(self, session => session.peer().map(Peer))
    }
}

impl Wire for Records<'_> {
    fn recv(&mut self, into: &mut [u8]) -> io::Result<usize> {
        socket::recv(self.0, into)
    }

    fn send(&mut self, from: &[u8]) -> io::Result<usize> {
        socket::send(self.0, from)
    }
}

fn would_block<T>(result: &io::Result<T>) -> bool {
    matches!(result, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}
