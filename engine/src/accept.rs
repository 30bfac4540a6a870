//! Takes connections off a listener's queue, in bounded batches.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    fs::File,
    future::poll_fn,
    io,
    os::fd::{AsFd, OwnedFd},
    pin::pin,
    rc::Rc,
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use engine_core::ids::ListenerId;
use engine_sys::socket;
use futures::future::{Either, select};

use crate::{
    connection::{self, Accepted},
    rt::{self, Readiness},
    worker::Worker,
};

/// How long accepting rests when no descriptor is left. Meanwhile the queue holds the clients.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(10);

/// Accepts until the worker stops, then takes what still waits in the queue, because closing a
/// listener resets it.
pub(crate) async fn run(worker: Rc<Worker>, id: ListenerId, listener: Readiness) {
    let batch_max = worker.shared.limits.accept_batch_max;
    loop {
        let is_stopped = {
            let readable = pin!(listener.readable());
            let stopped = pin!(worker.stopped().wait(id));
            matches!(select(readable, stopped).await, Either::Right(_))
        };
        let woken_at = Instant::now();
        let mut left = if is_stopped {
            worker.shared.limits.backlog
        } else {
            batch_max
        };
        while left > 0 {
            left -= 1;
            match socket::accept(listener.as_fd()) {
                Ok((socket, peer)) => start(&worker, id, socket, peer, woken_at),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => break,
                    Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                        shed(&worker, id, &listener);
                        rt::sleep(EXHAUSTED_PAUSE).await;
                        break;
                    }
                    // Errors that the connection brought with it (accept(2)): it is off the queue.
                    _ => worker
                        .ledger
                        .count_listener(id, |tally| tally.accept_errors += 1),
                },
            }
        }
        if is_stopped {
            return;
        }
    }
}

/// Opens the descriptor that is given up when no other is left.
///
/// # Errors
/// When there is none for it either.
pub(crate) fn spare() -> io::Result<OwnedFd> {
    Ok(File::open("/dev/null")?.into())
}

fn start(
    worker: &Rc<Worker>,
    id: ListenerId,
    socket: OwnedFd,
    peer: std::net::SocketAddr,
    woken_at: Instant,
) {
    worker
        .ledger
        .count_listener(id, |tally| tally.accepted += 1);
    match Readiness::new(socket) {
        Ok(client) => {
            let accepted = Accepted {
                listener: id,
                client,
                peer,
                woken_at,
            };
            rt::spawn(connection::serve(Rc::clone(worker), accepted));
        }
        Err(_) => worker
            .ledger
            .count_listener(id, |tally| tally.accept_errors += 1),
    }
}

/// Out of descriptors: the client at the head of the queue is told so by a close, rather than left
/// to wait for one of the others to end.
fn shed(worker: &Worker, id: ListenerId, listener: &Readiness) {
    worker
        .ledger
        .count_listener(id, |tally| tally.exhausted += 1);
    let mut spare_place = worker.spare.borrow_mut();
    drop(spare_place.take());
    drop(socket::accept(listener.as_fd()));
    *spare_place = spare().ok();
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

    async fn wait(&self, id: ListenerId) {
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
