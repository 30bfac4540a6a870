//! What everything that a worker does works with: its own state, and one flow's part of it.
//!
//! Nothing here knows a protocol or holds a socket of a flow.

pub(crate) mod access;
pub(crate) mod account;
pub(crate) mod admit;
pub(crate) mod challenge;
pub(crate) mod checked;
pub(crate) mod config;
pub(crate) mod difference;
pub(crate) mod failure;
pub(crate) mod http2_limits;
pub(crate) mod listener;
pub(crate) mod live;
pub(crate) mod lookups;
pub(crate) mod outliers;
pub(crate) mod pipes;
pub(crate) mod record;
pub(crate) mod request_record;
pub(crate) mod rng;
pub(crate) mod room;
pub(crate) mod scratch;
pub(crate) mod snapshot;
pub(crate) mod stop;
pub(crate) mod tls;
pub(crate) mod told;

use std::{
    cell::{Cell, RefCell},
    os::fd::OwnedFd,
    rc::Rc,
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant, SystemTime},
};

use crossbeam_channel::{Sender, TrySendError};
use engine_core::{admit::Sources, balance::Load, ids::WorkerId, outcome::Outcome};
use engine_http::date::HttpDate;

use crate::context::{
    account::{Ledger, Report, WorkerState},
    challenge::Challenges,
    config::{Limits, UndeclaredName},
    listener::Listening,
    live::{Connections, Slot},
    pipes::Pipes,
    record::{Record, Trace},
    request_record::RequestRecord,
    rng::Rng,
    room::Room,
    scratch::Scratch,
    snapshot::{Bound, Published, SnapshotRef},
    told::Told,
};

/// What the workers' clock says at the start: what is earned by time has been earned by then.
const CLOCK_BEGIN: Duration = Duration::from_secs(3600);

/// What all workers share. Nothing of it is touched on the way of a byte.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) limits: Limits,
    pub(crate) gateway_load: Load,
    pub(crate) sources: Sources,
    pub(crate) started_at: Instant,
    /// Drawn at the start, so that connections of two runs never share an id.
    pub(crate) run_id: u64,
    pub(crate) connections: AtomicU64,
    pub(crate) records: Option<Sender<Record>>,
    pub(crate) requests: Option<Sender<RequestRecord>>,
    /// What ACME directories are answered.
    pub(crate) challenges: Challenges,
    /// Who is told of names without a certificate.
    pub(crate) strangers: Option<Sender<UndeclaredName>>,
    /// Where the process listens beside its listeners.
    pub(crate) reserved: Vec<Bound>,
}

/// One worker's own state.
#[derive(Debug)]
pub(crate) struct WorkerContext {
    pub(crate) id: WorkerId,
    pub(crate) shared: Arc<Shared>,
    pub(crate) live: Connections,
    pub(crate) ledger: Ledger,
    pub(crate) scratch: Scratch,
    /// For content of clients of HTTP/2.
    pub(crate) room: Rc<Room>,
    pub(crate) pipes: Pipes,
    /// HTTP requests so far.
    requests: Cell<u64>,
    /// The second that was written out last.
    date: Cell<(u64, HttpDate)>,
    /// Probes of targets under way.
    pub(crate) probes: Cell<u32>,
    pub(crate) rng: Rng,
    /// Failed handshakes that were told of late.
    pub(crate) told: Told,
    /// How the last bulk flow that tried chose to be moved.
    pub(crate) mode: Cell<Option<Mode>>,
    /// A descriptor that is given up when no other is left.
    pub(crate) spare: RefCell<Option<OwnedFd>>,
    current: RefCell<Rc<SnapshotRef>>,
    is_stopped: Cell<bool>,
}

/// What every stage of one flow works with: a connection, or a request on a shared one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FlowContext<'a> {
    pub(crate) worker: &'a Rc<WorkerContext>,
    pub(crate) listener: &'a Rc<Listening>,
    pub(crate) slot: &'a Slot,
}

/// What moves the bytes of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The worker's scratch buffer.
    Copy,
    /// A pipe.
    Splice,
}

impl WorkerContext {
    /// One that has served nobody yet.
    pub(crate) fn new(id: WorkerId, shared: Arc<Shared>, published: Arc<Published>) -> Self {
        let limits = &shared.limits;
        Self {
            id,
            live: Connections::default(),
            ledger: Ledger::new(limits.accounted_clients_max),
            scratch: Scratch::new(limits.scratch_bytes, limits.held_bytes_max),
            room: Rc::new(Room::new(limits.held_bytes_max)),
            pipes: Pipes::new(limits.pipe_bytes, limits.pipes_idle_max),
            requests: Cell::new(0),
            date: Cell::new((0, HttpDate::of(Duration::ZERO))),
            probes: Cell::new(0),
            rng: Rng::default(),
            told: Told::default(),
            mode: Cell::new(None),
            spare: RefCell::new(stop::spare().ok()),
            current: RefCell::new(Rc::new(SnapshotRef(published))),
            is_stopped: Cell::new(false),
            shared,
        }
    }

    /// Everything that was counted since the last time.
    pub(crate) fn report(&self) -> Report {
        let worker = WorkerState {
            id: self.id.0,
            generation: self.current.borrow().0.snapshot.generation().0,
            live: u64::try_from(self.live.connections()).unwrap_or(u64::MAX),
        };
        Report {
            worker,
            ..self.ledger.report()
        }
    }

    /// From now on connections are routed by this.
    pub(crate) fn replace(&self, published: Arc<Published>) {
        self.current.replace(Rc::new(SnapshotRef(published)));
    }

    /// What connections are routed by now. It stays whole for as long as the answer lives.
    pub(crate) fn current(&self) -> Rc<SnapshotRef> {
        Rc::clone(&self.current.borrow())
    }

    /// Whether it accepts connections no longer.
    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped.get()
    }

    /// From now on it accepts no connections.
    pub(crate) fn stop(&self) {
        self.is_stopped.set(true);
    }

    /// A number that no other request has, in any run: it names the request in logs.
    pub(crate) fn next_request_id(&self) -> String {
        let number = self.requests.get();
        self.requests.set(number + 1);
        format!("{:016x}{:04x}{number:012x}", self.shared.run_id, self.id.0)
    }

    /// Nanoseconds of a clock that only grows. It began with [`CLOCK_BEGIN`] when the engine
    /// started.
    pub(crate) fn nanoseconds(&self) -> u64 {
        let elapsed = self.shared.started_at.elapsed() + CLOCK_BEGIN;
        u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Now, as responses say it; written out once a second.
    pub(crate) fn date(&self) -> HttpDate {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.unwrap_or_default();
        let (second, date) = self.date.get();
        if second == now.as_secs() {
            return date;
        }
        let date = HttpDate::of(now);
        self.date.set((now.as_secs(), date));
        date
    }

    /// Hands the record of an HTTP request to the request log.
    pub(crate) fn log_request(&self, record: RequestRecord) {
        let Some(requests) = &self.shared.requests else {
            return;
        };
        match requests.try_send(record) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => self.ledger.count_dropped_request(),
        }
    }

    /// Counts and records a connection that ended: the only place that does.
    pub(crate) fn account(&self, listener: &Listening, trace: &mut Trace, outcome: Outcome) {
        if let Some(route) = &trace.route {
            let first_byte = trace.flow.first_byte_at.get();
            self.ledger.count(route, |tally| {
                tally.close(outcome);
                if let Some(at) = first_byte {
                    let micros = at.saturating_duration_since(trace.accepted_at).as_micros();
                    tally.record_first_byte(u64::try_from(micros).unwrap_or(u64::MAX));
                }
            });
        }
        if let Some(client) = trace.flow.client.get() {
            self.ledger.close_client(client);
        }
        self.ledger.count_listener(listener.id, |tally| {
            tally.outcomes[outcome.index()] += 1;
            tally.ech += u64::from(trace.ech);
        });
        tracing::debug!(
            listener = &*listener.name,
            client = %trace.client,
            outcome = outcome.label(),
            "connection ended"
        );
        let Some(records) = &self.shared.records else {
            return;
        };
        let record = trace.take_record(Arc::clone(&listener.name), self.id, outcome);
        match records.try_send(record) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => self.ledger.count_dropped_record(),
        }
    }
}
