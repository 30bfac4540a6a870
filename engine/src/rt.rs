//! The only user of monoio: a worker's executor, timers and readiness.
//!
//! Sockets are driven by readiness plus plain system calls, so nothing is ever in flight inside the
//! kernel but polls: dropping a wait loses no bytes, and any wait may be timed out. What another
//! runtime would have to offer is exactly what this module exports.
//!
//! Two rules of monoio 0.2.4 hold everywhere above: no task wakes itself (its scheduler would run
//! it before every other; a task gives way by waiting for readiness, which goes through the
//! ring), and nobody wakes a task from another thread (mailboxes ring an eventfd instead).

use std::{
    future::Future,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream as StdStream,
    },
    time::{Duration, Instant},
};

use engine_sys::stream::Stream;
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder, net::UnixStream};

/// Entries in a worker's submission queue: at least twice the largest burst of new waits, which is
/// two for each of a batch of accepted connections, because monoio panics on a queue that stays
/// full.
const RING_ENTRIES: u32 = 4096;

/// What a worker waits with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// io_uring.
    IoUring,
    /// epoll, where io_uring is refused.
    Epoll,
}

impl Driver {
    /// The word in logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        }
    }
}

/// Runs a worker's main future on this thread, and every task that it spawns.
///
/// # Errors
/// When the ring or the epoll instance cannot be made.
pub(crate) fn run<F: Future>(driver: Driver, main: F) -> io::Result<F::Output> {
    match driver {
        Driver::IoUring => {
            let mut ring = io_uring::IoUring::builder();
            engine_sys::probe::ring_flags(&mut ring);
            let builder = RuntimeBuilder::<IoUringDriver>::new().with_entries(RING_ENTRIES);
            Ok(builder
                .uring_builder(ring)
                .enable_timer()
                .build()?
                .block_on(main))
        }
        Driver::Epoll => {
            let builder = RuntimeBuilder::<LegacyDriver>::new().with_entries(RING_ENTRIES);
            Ok(builder.enable_timer().build()?.block_on(main))
        }
    }
}

/// Starts a task on this worker. It runs until it ends.
pub(crate) fn spawn(task: impl Future<Output = ()> + 'static) {
    drop(monoio::spawn(task));
}

/// Waits for a time.
pub(crate) async fn sleep(duration: Duration) {
    monoio::time::sleep(duration).await;
}

/// A descriptor whose readiness this worker can wait for: a socket, a listener or an eventfd.
#[derive(Debug)]
pub(crate) struct Readiness(Stream);

// A wait with a deadline is boxed: monoio's timer takes 600 bytes, aligned to 128, which would
// otherwise be part of every connection's task for its whole life.

/// A wait that took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimedOut;

impl Readiness {
    /// Takes a non-blocking descriptor over; it is closed when this is dropped.
    ///
    /// # Errors
    /// When the epoll driver cannot register it.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        // Whatever the descriptor is: monoio asks nothing of it but that it can be polled, and of
        // its wrappers this one is the smallest (8 bytes; its TCP stream has 80).
        Ok(Self(Stream(UnixStream::from_std(StdStream::from(fd))?)))
    }

    /// Waits until there is something to read, or the end of the stream, or an error.
    ///
    /// # Errors
    /// When the kernel refuses the wait.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.0.0.readable(false).await
    }

    /// Waits until there is room to write, or an error.
    ///
    /// # Errors
    /// When the kernel refuses the wait.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.0.0.writable(false).await
    }

    /// [`Readiness::readable`], until a deadline.
    ///
    /// # Errors
    /// When the deadline came first. A refused wait counts as readiness: the read that follows
    /// says what is wrong.
    pub(crate) async fn readable_until(&self, deadline: Instant) -> Result<(), TimedOut> {
        let timed = Box::pin(monoio::time::timeout_at(deadline.into(), self.readable()));
        timed.await.map_or(Err(TimedOut), |_| Ok(()))
    }

    /// [`Readiness::writable`], until a deadline.
    ///
    /// # Errors
    /// When the deadline came first. A refused wait counts as readiness: the write that follows
    /// says what is wrong.
    pub(crate) async fn writable_until(&self, deadline: Instant) -> Result<(), TimedOut> {
        let timed = Box::pin(monoio::time::timeout_at(deadline.into(), self.writable()));
        timed.await.map_or(Err(TimedOut), |_| Ok(()))
    }
}

impl AsFd for Readiness {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
