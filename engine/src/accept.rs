//! Takes connections off a listener's queue, in bounded batches.

use std::{
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    pin::pin,
    rc::Rc,
    time::{Duration, Instant},
};

use engine_core::ids::ListenerId;
use engine_sys::socket;
use futures::future::{Either, select};

use crate::{
    connection::{self, Accepted},
    context::{WorkerContext, stop},
    rt::{self, Readiness},
    upstream::Pools,
};

/// How long accepting rests when no descriptor is left. Meanwhile the queue holds the clients.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(10);

/// Accepts until the worker stops, then takes what still waits in the queue, because closing a
/// listener resets it.
pub(crate) async fn run(
    (worker, pools): (Rc<WorkerContext>, Rc<Pools>),
    id: ListenerId,
    listener: Readiness,
) {
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
                Ok((client, peer)) => {
                    let accepted = (id, client, peer, woken_at);
                    start(&worker, &pools, accepted);
                }
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

fn start(
    worker: &Rc<WorkerContext>,
    pools: &Rc<Pools>,
    (id, socket, peer, woken_at): (ListenerId, OwnedFd, SocketAddr, Instant),
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
            let (worker, pools) = (Rc::clone(worker), Rc::clone(pools));
            rt::spawn(connection::serve(worker, pools, accepted));
        }
        Err(_) => worker
            .ledger
            .count_listener(id, |tally| tally.accept_errors += 1),
    }
}

/// Out of descriptors: the client at the head of the queue is told so by a close, rather than left
/// to wait for one of the others to end.
fn shed(worker: &WorkerContext, id: ListenerId, listener: &Readiness) {
    worker
        .ledger
        .count_listener(id, |tally| tally.exhausted += 1);
    let mut spare_place = worker.spare.borrow_mut();
    drop(spare_place.take());
    drop(socket::accept(listener.as_fd()));
    *spare_place = stop::spare().ok();
}
