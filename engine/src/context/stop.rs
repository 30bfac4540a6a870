//! The end of accepting, and the descriptor that is kept for when there is no other.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    fs::File,
    future::poll_fn,
    io,
    os::fd::OwnedFd,
    task::{Poll, Waker},
};

use engine_core::ids::ListenerId;

/// Opens the descriptor that is given up when no other is left.
///
/// # Errors
/// When there is none for it either.
pub(crate) fn spare() -> io::Result<OwnedFd> {
    Ok(File::open("/dev/null")?.into())
}

/// Tells a worker's acceptors to stop.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    is_stopped: Cell<bool>,
    /// One for each listener: wakers of one task need not compare as equal, so they are not told
    /// apart by that.
    wakers: RefCell<HashMap<ListenerId, Waker>>,
}

impl Stop {
    /// From now on [`Stop::wait`] is over.
    pub(crate) fn stop(&self) {
        self.is_stopped.set(true);
        self.wakers.take().into_values().for_each(Waker::wake);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped.get()
    }

    /// Waits until the worker stops.
    pub(crate) async fn wait(&self, id: ListenerId) {
        poll_fn(|cx| {
            if self.is_stopped.get() {
                return Poll::Ready(());
            }
            self.wakers.borrow_mut().insert(id, cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
