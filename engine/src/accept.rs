//! Takes connections off a listener's queue, in bounded batches.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io,
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
    context::{
        WorkerContext,
        listener::Listening,
        stop::{self, Stop},
    },
    rt::{self, Readiness},
    upstream::Pools,
};

/// How long accepting rests when no descriptor is left. Meanwhile the queue holds the clients.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(10);

/// How often it is looked whether listeners that go have taken their queues.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// What takes connections off the queues of a worker's listeners.
#[derive(Debug, Default)]
pub(crate) struct Acceptors(RefCell<HashMap<ListenerId, Rc<Acceptor>>>);

/// What takes connections off one listener's queue.
#[derive(Debug)]
struct Acceptor {
    /// Replaced by publications; what was accepted before keeps what it was accepted under.
    listening: RefCell<Rc<Listening>>,
    stop: Stop,
    has_ended: Cell<bool>,
}

impl Acceptors {
    /// Takes over what a publication says of a listener; with a socket, accepts from that.
    ///
    /// # Errors
    /// When the socket cannot be waited for. Nothing is accepted from it then.
    pub(crate) fn put(
        &self,
        (worker, pools): (&Rc<WorkerContext>, &Rc<Pools>),
        listening: &Listening,
        socket: Option<OwnedFd>,
    ) -> io::Result<()> {
        let own = Rc::new(listening.clone());
        let Some(socket) = socket else {
            if let Some(acceptor) = self.0.borrow().get(&listening.id) {
                acceptor.listening.replace(own);
            }
            return Ok(());
        };
        let socket = Readiness::new(socket)?;
        let acceptor = Rc::new(Acceptor {
            listening: RefCell::new(own),
            stop: Stop::default(),
            has_ended: Cell::new(false),
        });
        let running = Rc::clone(&acceptor);
        rt::spawn(run((Rc::clone(worker), Rc::clone(pools)), running, socket));
        if let Some(before) = self.0.borrow_mut().insert(listening.id, acceptor) {
            before.stop.stop();
        }
        Ok(())
    }

    /// Ends listeners: each takes what waits in its queue, and closes. The answer is over when what
    /// they took has had its first turn, so that what leads to one place is on its way there.
    pub(crate) fn retire(&self, ids: &[ListenerId]) -> impl Future<Output = ()> + use<> {
        let mut acceptors = self.0.borrow_mut();
        let going: Vec<Rc<Acceptor>> = ids.iter().filter_map(|id| acceptors.remove(id)).collect();
        going.iter().for_each(|acceptor| acceptor.stop.stop());
        async move {
            while !going.iter().all(|acceptor| acceptor.has_ended.get()) {
                rt::sleep(LOOK_INTERVAL).await;
            }
            rt::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Ends all of them.
    pub(crate) fn stop(&self) {
        for acceptor in self.0.take().into_values() {
            acceptor.stop.stop();
        }
    }
}

/// Accepts until it is stopped, then takes what still waits in the queue, because closing a
/// listener resets it.
async fn run(
    (worker, pools): (Rc<WorkerContext>, Rc<Pools>),
    acceptor: Rc<Acceptor>,
    listener: Readiness,
) {
    let batch_max = worker.shared.limits.accept_batch_max;
    loop {
        let is_stopped = {
            let readable = pin!(listener.readable());
            let stopped = pin!(acceptor.stop.wait());
            matches!(select(readable, stopped).await, Either::Right(_))
        };
        let woken_at = Instant::now();
        let listening = Rc::clone(&acceptor.listening.borrow());
        let mut left = if is_stopped {
            worker.shared.limits.backlog
        } else {
            batch_max
        };
        while left > 0 {
            left -= 1;
            match socket::accept(listener.as_fd()) {
                Ok((client, peer)) => {
                    start((&worker, &pools), &listening, (client, peer, woken_at));
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => break,
                    Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                        shed(&worker, listening.id, &listener);
                        rt::sleep(EXHAUSTED_PAUSE).await;
                        // What waits in the queue of one that goes would be reset with it.
                        if !is_stopped {
                            break;
                        }
                    }
                    // Errors that the connection brought with it (accept(2)): it is off the queue.
                    _ => worker
                        .ledger
                        .count_listener(listening.id, |tally| tally.accept_errors += 1),
                },
            }
        }
        if is_stopped {
            drop(listener);
            acceptor.has_ended.set(true);
            return;
        }
    }
}

fn start(
    (worker, pools): (&Rc<WorkerContext>, &Rc<Pools>),
    listening: &Rc<Listening>,
    (socket, peer, woken_at): (OwnedFd, SocketAddr, Instant),
) {
    match Readiness::new(socket) {
        Ok(client) => {
            worker
                .ledger
                .count_listener(listening.id, |tally| tally.accepted += 1);
            let accepted = Accepted {
                listener: Rc::clone(listening),
                client,
                peer,
                woken_at,
            };
            let (worker, pools) = (Rc::clone(worker), Rc::clone(pools));
            rt::spawn(connection::serve(worker, pools, accepted));
        }
        Err(_) => worker
            .ledger
            .count_listener(listening.id, |tally| tally.accept_errors += 1),
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
