//! What a flow leaves in what its worker uses again, however it streams: nothing that another one gets.
//!
//! A flow of network A is broken while bytes of it are in a pipe, or held for its target. Then one of
//! network B runs on the same worker, and both of its streams compare what they got with what was sent.

use std::{
    cell::Cell,
    collections::HashMap,
    future::{Future as _, poll_fn},
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    os::fd::AsFd as _,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    rc::Rc,
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use engine_core::{
    admit::Sources,
    balance::{Balance, Load},
    destination::Destination,
    ids::{Generation, ListenerId, NetnsId, NetworkId, RouteId, WorkerId},
    outcome::Outcome,
    snapshot::{Network, Route, SnapshotBuilder},
};
use engine_sys::socket;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::{
    context::{
        FlowContext, Shared, WorkerContext,
        admit::admit_network,
        challenge::Challenges,
        config::Limits,
        listener::{Listener, Listening, RelayMode},
        pipes::Pipes,
        record::{RelayedBy, Trace},
        snapshot::{Publication, Published},
    },
    front::http::tests::bench::{PATIENCE, listener},
    relay::{Wire, relay},
    rt::{self, Driver, Readiness},
    transport::{
        Transport,
        streams::{ClientFlow, Streams},
        unsent::Unsent,
    },
};

const A: NetworkId = NetworkId(1);
const B: NetworkId = NetworkId(2);

/// More than any of these flows is idle for.
const IDLE: Duration = Duration::from_secs(3600);

/// What B sends each way.
const BYTES: usize = 3 << 20;

/// How A's flow streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The kernel does not splice into its target's socket any longer.
    Refused,
    /// Its target resets it.
    Reset,
    /// Its code panics.
    Panic,
    /// Its network goes.
    Cancelled,
}

/// A flow between two sockets.
struct Bed {
    network: NetworkId,
    streams: Streams,
    upstream: Transport,
}

/// Its other streams.
struct Theirs {
    client: TcpStream,
    target: TcpStream,
}

/// What is said between the two.
#[derive(Default)]
struct Signals {
    /// What is to happen in the flow's own code.
    fault: Cell<Option<Fault>>,
    ended: Cell<Option<(Outcome, RelayedBy)>>,
}

fn worker(relay: RelayMode) -> Rc<WorkerContext> {
    let limits = Limits {
        // Crowded is then whoever holds anything.
        held_bytes_max: 1,
        ..Limits::default()
    };
    let shared = Shared {
        limits,
        gateway_load: Load::default(),
        sources: Sources::new(None, None, 0),
        started_at: Instant::now(),
        run_id: 0,
        connections: AtomicU64::new(0),
        records: None,
        requests: None,
        challenges: Challenges::default(),
        strangers: None,
        reserved: Vec::new(),
    };
    let listener = Listener {
        relay,
        ..listener()
    };
    let publication = Publication {
        snapshot: SnapshotBuilder::new(Generation(1)).build(None).unwrap(),
        listeners: [(listener.id, Arc::new(listener))].into(),
        ..Publication::default()
    };
    let (nothing, live) = (Published::default(), |_| Load::default());
    let (published, _) = nothing.after(publication, &HashMap::new(), live, 1);
    Rc::new(WorkerContext::new(
        WorkerId(0),
        Arc::new(shared),
        Arc::new(published),
    ))
}

fn listening(worker: &WorkerContext) -> Listening {
    let current = worker.current();
    current.0.listeners.get(&ListenerId(0)).unwrap().clone()
}

fn pair() -> (TcpStream, Transport) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (ours, _) = listener.accept().unwrap();
    theirs.set_nonblocking(true).unwrap();
    ours.set_nonblocking(true).unwrap();
    (
        theirs,
        Transport::plain(Readiness::new(ours.into()).unwrap()),
    )
}

impl Bed {
    fn new(network: NetworkId) -> (Self, Theirs) {
        let ((client, near), (target, upstream)) = (pair(), pair());
        let bed = Self {
            network,
            streams: Streams::of(Rc::new(near)),
            upstream,
        };
        (bed, Theirs { client, target })
    }

    fn route(&self) -> Route {
        Route {
            id: RouteId(self.network.0),
            label: "route".into(),
            network: Arc::new(Network {
                id: self.network,
                name: "network".into(),
                netns: NetnsId(0),
                live: Load::default(),
            }),
            targets: Vec::new(),
            balance: Balance::default(),
        }
    }

    /// Serves it as a connection is served, and closes it.
    async fn serve(self, worker: &Rc<WorkerContext>, signals: &Signals) {
        let place = worker.live.enter();
        let listener = Rc::new(listening(worker));
        let flow = FlowContext {
            worker,
            listener: &listener,
            slot: place.slot(),
        };
        let connection = ClientFlow {
            flow,
            streams: &self.streams,
        };
        let mut trace = Trace::new(([127, 0, 0, 1], 9).into(), Instant::now());
        let permit =
            admit_network(&connection, Destination::Route(&self.route()), &mut trace).unwrap();
        let wire = Wire {
            connection: &connection,
            upstream: &self.upstream,
            permit: &permit,
            flow: &trace.flow,
        };
        let stages = async {
            let mut relayed = pin!(relay(&wire, Unsent::default(), IDLE));
            let relayed = poll_fn(|cx| {
                self.commit(signals.fault.take());
                relayed.as_mut().poll(cx)
            });
            Ok(relayed.await)
        };
        let outcome = place.supervise(pin!(stages)).await;
        signals
            .ended
            .set(Some((outcome, wire.flow.relayed_by.get())));
    }

    fn commit(&self, fault: Option<Fault>) {
        match fault {
            Some(Fault::Panic) => panic!("on purpose"),
            Some(Fault::Refused) => {
                // A splice into a file that is appended to is answered with EINVAL (splice(2)).
                let flags = OFlag::O_NONBLOCK | OFlag::O_APPEND;
                fcntl(self.upstream.socket(), FcntlArg::F_SETFL(flags)).unwrap();
            }
            Some(Fault::Reset | Fault::Cancelled) | None => {}
        }
    }
}

impl Theirs {
    /// Sends to a target that takes nothing, until something is under way.
    async fn fill(&self, is_under_way: impl Fn() -> bool) {
        let bytes = marked('A', 64 << 10);
        eventually("bytes are under way", || {
            while (&self.client).write(&bytes).is_ok_and(|count| count > 0) {}
            is_under_way()
        })
        .await;
    }

    /// Streams A's flow so.
    async fn end(self, worker: &WorkerContext, fault: Fault, signals: &Signals) {
        signals.fault.set(Some(fault));
        let mut kept = Some(self);
        match fault {
            Fault::Reset => kept.take().into_iter().for_each(Self::reset),
            Fault::Cancelled => worker.live.end_networks(|network| network == A),
            Fault::Refused | Fault::Panic => {}
        }
        let mut now = 0;
        eventually("it streams", || {
            if let (Fault::Refused, Some(theirs)) = (fault, &kept) {
                let _ = (&theirs.target).read(&mut [0; 64 << 10]);
                // A flow whose target takes no more is idle soon; any other is not for an hour.
                now += 6;
                worker.live.sweep(now);
            }
            signals.ended.get().is_some()
        })
        .await;
    }

    fn reset(self) {
        for end in [&self.target, &self.client] {
            socket::reset_on_close(end.as_fd()).unwrap();
        }
    }

    /// Sends one way and then the other, so that one pipe is enough, and compares what arrives.
    async fn talk(&self, (there, back): (char, char)) {
        passes(&self.client, &self.target, there).await;
        passes(&self.target, &self.client, back).await;
    }
}

async fn passes(from: &TcpStream, to: &TcpStream, mark: char) {
    let sent = marked(mark, BYTES);
    let sending = async {
        send_all(from, &sent).await;
        from.shutdown(Shutdown::Write).unwrap();
    };
    let ((), got) = futures::join!(sending, read_to_end(to));
    let (count, wanted) = (got.len(), sent.len());
    let is_foreign = |byte: &&u8| !byte.is_ascii_digit() && char::from(**byte) != mark;
    let foreign = got.iter().filter(is_foreign).count();
    assert!(
        got == sent,
        "{count} bytes for {wanted}, {foreign} of them of somebody else"
    );
}

async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        rt::sleep(Duration::from_millis(1)).await;
    }
}

/// Bytes that say whose they are.
fn marked(mark: char, count: usize) -> Vec<u8> {
    let mut bytes = mark.to_string().repeat(count).into_bytes();
    // Where each piece begins, so that none can be taken for another.
    for (number, piece) in bytes.chunks_exact_mut(8).enumerate() {
        let [.., low] = number.to_be_bytes();
        piece[7] = b'0' + low % 10;
    }
    bytes
}

async fn send_all(mut to: &TcpStream, mut bytes: &[u8]) {
    let mut error = None;
    eventually("all is sent", || {
        while !bytes.is_empty() {
            match to.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(failed) if failed.kind() == ErrorKind::WouldBlock => return false,
                Err(failed) => {
                    error = Some(failed);
                    return true;
                }
            }
        }
        true
    })
    .await;
    assert!(error.is_none(), "{error:?}");
}

async fn read_to_end(mut from: &TcpStream) -> Vec<u8> {
    let mut got = Vec::new();
    eventually("all is read", || match from.read_to_end(&mut got) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        ended => {
            ended.unwrap();
            true
        }
    })
    .await;
    got
}

/// Runs a flow of a network in order.
async fn run(worker: &Rc<WorkerContext>, network: NetworkId, marks: (char, char)) {
    let (bed, theirs) = Bed::new(network);
    let signals = Signals::default();
    futures::join!(bed.serve(worker, &signals), theirs.talk(marks));
    let wanted = match listening(worker).relay {
        RelayMode::Splice => RelayedBy::Splice,
        RelayMode::Copy | RelayMode::Auto => RelayedBy::Copy,
    };
    assert_eq!(signals.ended.get(), Some((Outcome::Done, wanted)));
}

/// That idle pipes have nothing to give, those neither that nobody has taken since.
fn assert_all_empty(pipes: &Pipes) {
    let (_theirs, to) = pair();
    let idle: Vec<_> = (0..pipes.idle()).map(|_| pipes.take().unwrap()).collect();
    for pipe in idle {
        let drained = pipe.drain(to.socket().as_fd(), 1);
        let error = drained.expect_err("an idle pipe has bytes in it");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        pipes.give(pipe);
    }
}

/// Runs a flow of A's in order, breaks the next one by `fault`, and runs one of B's.
fn nothing_is_left(relay: RelayMode, fault: Fault) {
    for driver in [Driver::IoUring, Driver::Epoll] {
        rt::run(driver, async {
            let worker = worker(relay);
            run(&worker, A, ('A', 'a')).await;
            // The pipe that A left is the one that A takes.
            let spliced = usize::from(relay == RelayMode::Splice);
            assert_eq!(worker.pipes.idle(), spliced);
            let (broken, theirs) = Bed::new(A);
            let signals = Signals::default();
            let script = async {
                let is_under_way = || match relay {
                    // It is away for no longer than there are bytes in it.
                    RelayMode::Splice => worker.pipes.idle() == 0,
                    RelayMode::Copy | RelayMode::Auto => worker.scratch.is_crowded(),
                };
                theirs.fill(is_under_way).await;
                theirs.end(&worker, fault, &signals).await;
            };
            futures::join!(broken.serve(&worker, &signals), script);
            let wanted = match fault {
                Fault::Refused => Outcome::Idle,
                Fault::Reset => Outcome::UpstreamReset,
                Fault::Panic => Outcome::Panic,
                Fault::Cancelled => Outcome::NetworkRemoved,
            };
            let (outcome, _) = signals.ended.get().unwrap();
            assert_eq!(outcome, wanted, "{driver:?}");
            run(&worker, B, ('B', 'b')).await;
            assert_all_empty(&worker.pipes);
            assert!(!worker.scratch.is_crowded(), "nothing is held any longer");
        })
        .unwrap();
    }
}

#[test]
fn an_empty_pipe_is_the_next_networks_and_nothing_comes_with_it() {
    rt::run(Driver::Epoll, async {
        let worker = worker(RelayMode::Splice);
        for (network, marks) in [(A, ('A', 'a')), (B, ('B', 'b')), (A, ('A', 'a'))] {
            run(&worker, network, marks).await;
            assert_eq!(worker.pipes.idle(), 1, "one is enough for all of them");
        }
    })
    .unwrap();
}

#[test]
fn a_splice_that_is_refused_with_bytes_in_its_pipe_leaves_them_to_nobody() {
    nothing_is_left(RelayMode::Splice, Fault::Refused);
}

#[test]
fn a_reset_half_way_through_a_pipe_leaves_its_bytes_to_nobody() {
    nothing_is_left(RelayMode::Splice, Fault::Reset);
}

#[test]
fn a_panic_half_way_through_a_pipe_leaves_its_bytes_to_nobody() {
    nothing_is_left(RelayMode::Splice, Fault::Panic);
}

#[test]
fn a_task_that_is_cancelled_half_way_through_a_pipe_leaves_its_bytes_to_nobody() {
    nothing_is_left(RelayMode::Splice, Fault::Cancelled);
}

#[test]
fn unsent_bytes_of_a_flow_that_was_reset_go_to_nobody() {
    nothing_is_left(RelayMode::Copy, Fault::Reset);
}

#[test]
fn unsent_bytes_of_a_flow_that_panicked_go_to_nobody() {
    nothing_is_left(RelayMode::Copy, Fault::Panic);
}

#[test]
fn unsent_bytes_of_a_flow_that_was_cancelled_go_to_nobody() {
    nothing_is_left(RelayMode::Copy, Fault::Cancelled);
}

/// The buffer itself is full of A's bytes, and lent when the panic comes.
#[test]
fn a_panic_over_the_scratch_buffer_leaves_it_to_the_next_flow_and_nothing_in_what_that_one_gets() {
    rt::run(Driver::Epoll, async {
        let worker = worker(RelayMode::Copy);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            worker.scratch.with(usize::MAX, |buffer| {
                buffer.fill(b'A');
                panic!("on purpose")
            })
        }));
        assert!(panicked.is_err());
        run(&worker, B, ('B', 'b')).await;
    })
    .unwrap();
}
