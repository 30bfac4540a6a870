//! The end of accepting, and the descriptor that is kept for when there is no other.

use std::{
    cell::{Cell, RefCell},
    fs::File,
    future::poll_fn,
    io,
    os::fd::OwnedFd,
    task::{Poll, Waker},
};

/// Opens the descriptor that is given up when no other is left.
///
/// # Errors
/// When there is none for it either.
pub(crate) fn spare() -> io::Result<OwnedFd> {
    Ok(File::open("/dev/null")?.into())
}

/// Tells one acceptor to stop.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    is_stopped: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Stop {
    /// From now on [`Stop::wait`] is over.
    pub(crate) fn stop(&self) {
        self.is_stopped.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Waits until it is told to stop. One task waits at a time.
    pub(crate) async fn wait(&self) {
        poll_fn(|cx| {
            if self.is_stopped.get() {
                return Poll::Ready(());
            }
            self.waker.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}
