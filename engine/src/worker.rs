//! One thread, one ring, one set of listeners. It owns everything that it touches on the way of a
//! byte.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet},
    io,
    net::IpAddr,
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant, SystemTime},
};

use crossbeam_channel::{Receiver, Sender, TrySendError};
use engine_core::{
    admit::Sources,
    balance::Load,
    ids::{Generation, ListenerId, NetnsId, NetworkId, RouteId, WorkerId},
    outcome::Outcome,
    snapshot::Snapshot,
};
use engine_http::date::HttpDate;
use engine_sys::netns::{Identity, Netns};
use nix::sys::eventfd::EventFd;

use crate::{
    accept,
    access::AccessChanges,
    account::{Ledger, Report, WorkerState},
    chance::Chance,
    check::{self, Checked},
    config::{Limits, Listener, Stranger},
    engine::Publication,
    http::{challenge::Challenges, pool::Pool, trace::RequestRecord},
    http2::upstreams::Upstreams,
    live::{Dialed, Live},
    record::{Record, Trace},
    relay::{choice::Way, pipes::Pipes, scratch::Scratch},
    rt::{self, Readiness},
    tls::{Sessions, Tls, Told},
};

/// How often idle connections are looked for, and so the precision of the idle timeout.
const SWEEP_PERIOD: Duration = Duration::from_secs(1);

/// How often a draining worker looks whether its connections have ended.
const DRAIN_PERIOD: Duration = Duration::from_millis(10);

/// What the workers' clock says at the start: what is earned by time has been earned by then.
const CLOCK_BEGIN: Duration = Duration::from_secs(3600);

/// How many routes' counters are dropped in one turn.
const FORGOTTEN_AT_ONCE: usize = 256;

/// How long connections that were told to end may take to do so. They need one turn each.
const LAST_TURNS: Duration = Duration::from_secs(2);

/// What control asks of a worker.
#[derive(Debug)]
pub(crate) enum Command {
    /// Route by this from now on, and say so.
    Publish {
        published: Arc<Published>,
        gone: Arc<Gone>,
        done: Sender<Generation>,
    },
    /// End what leaves from addresses that are gone.
    EndAddresses(Arc<Withdrawn>),
    /// Hand over what was counted.
    Report(Sender<Report>),
    /// Accept no more, let connections end until the deadline, reset the rest, end.
    Drain {
        deadline: Instant,
        done: Sender<Report>,
    },
}

/// What workers route by: a snapshot and the namespaces that it names.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) snapshot: Snapshot,
    pub(crate) http: engine_http::rules::Table,
    pub(crate) tls: Tls,
    pub(crate) namespaces: HashMap<NetnsId, Arc<Netns>>,
    /// The targets that are checked, by whatever worker.
    pub(crate) checks: Vec<Arc<Checked>>,
}

impl Published {
    /// What `workers` workers are to route by, after something that had these checks.
    pub(crate) fn after(checks: &[Arc<Checked>], publication: Publication, workers: usize) -> Self {
        Self {
            checks: check::plan(
                (&publication.http, &publication.namespaces),
                checks,
                workers,
            ),
            snapshot: publication.snapshot,
            http: publication.http,
            tls: publication.tls,
            namespaces: publication.namespaces,
        }
    }
}

/// A worker's hold on what it routes by. Connections share it by a count that no other worker
/// touches.
#[derive(Debug)]
pub(crate) struct Current(pub(crate) Arc<Published>);

/// What a new snapshot no longer has, against the one before.
#[derive(Debug, Default)]
pub(crate) struct Gone {
    pub(crate) routes: Vec<RouteId>,
    pub(crate) networks: HashSet<NetworkId>,
    /// Networks that are in another namespace now, and the routes that lead there.
    pub(crate) moved: HashSet<NetworkId>,
    pub(crate) moved_routes: HashSet<RouteId>,
    /// Those of the networks whose new namespace can be had: their flows lead elsewhere.
    pub(crate) left: HashSet<NetworkId>,
    /// Who is let in no longer.
    pub(crate) access: AccessChanges,
}

/// Addresses that a namespace has no longer.
#[derive(Debug)]
pub(crate) struct Withdrawn {
    pub(crate) namespace: Identity,
    pub(crate) addresses: HashSet<IpAddr>,
}

/// What all workers share. Nothing of it is touched on the way of a byte.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) limits: Limits,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) listener_loads: Vec<Load>,
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
    pub(crate) strangers: Option<Sender<Stranger>>,
}

/// One worker's own state.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    pub(crate) shared: Arc<Shared>,
    pub(crate) live: Live,
    pub(crate) ledger: Ledger,
    pub(crate) scratch: Scratch,
    pub(crate) pipes: Pipes,
    /// Upstream connections that wait for the next HTTP request.
    pub(crate) pool: Pool,
    /// TLS sessions with upstreams that can be resumed.
    pub(crate) sessions: Sessions,
    /// Upstream connections of HTTP/2.
    pub(crate) upstreams: Upstreams,
    /// HTTP requests so far.
    requests: Cell<u64>,
    /// The second that was written out last.
    date: Cell<(u64, HttpDate)>,
    /// Probes of targets under way.
    pub(crate) probes: Cell<u32>,
    pub(crate) chance: Chance,
    /// Failed handshakes that were told of late.
    pub(crate) told: Told,
    /// How the last bulk flow that tried chose to be moved.
    pub(crate) way: Cell<Option<Way>>,
    pub(crate) spare: RefCell<Option<OwnedFd>>,
    current: RefCell<Rc<Current>>,
    draining_until: Cell<Option<Instant>>,
    stopped: accept::Stop,
}

/// What a worker's thread is started with.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) id: WorkerId,
    pub(crate) shared: Arc<Shared>,
    pub(crate) published: Arc<Published>,
    pub(crate) sockets: Vec<(ListenerId, OwnedFd)>,
    pub(crate) commands: Receiver<Command>,
    pub(crate) doorbell: Arc<EventFd>,
}

/// Runs a worker to its end.
///
/// # Errors
/// When its runtime or one of its listeners cannot be set up; `up` is dropped then, and told
/// otherwise.
pub(crate) fn run(driver: rt::Driver, start: Start, up: Sender<()>) -> io::Result<()> {
    rt::run(driver, async move {
        let doorbell = Readiness::new(start.doorbell.as_fd().try_clone_to_owned()?)?;
        let worker = Rc::new(Worker::new(start.id, start.shared, start.published));
        for (id, socket) in start.sockets {
            rt::spawn(accept::run(Rc::clone(&worker), id, Readiness::new(socket)?));
        }
        rt::spawn(sweep(Rc::clone(&worker)));
        check::start(&worker, &worker.current().0.checks);
        let _ = up.send(());
        drop(up);
        let done = worker
            .obey(&start.commands, &start.doorbell, &doorbell)
            .await?;
        worker.drain(&start.commands).await;
        // Nobody listens any more when control gave up waiting.
        let _ = done.send(worker.report());
        Ok(())
    })?
}

impl Worker {
    /// One that has served nobody yet.
    pub(crate) fn new(id: WorkerId, shared: Arc<Shared>, published: Arc<Published>) -> Self {
        let limits = &shared.limits;
        Self {
            id,
            live: Live::default(),
            ledger: Ledger::new(shared.listeners.len(), limits.accounted_clients_max),
            scratch: Scratch::new(limits.scratch_bytes, limits.held_bytes_max),
            pipes: Pipes::new(limits.pipe_bytes, limits.pipes_idle_max),
            pool: Pool::new(limits.upstreams_idle_max, limits.upstream_idle_timeout),
            sessions: Sessions::default(),
            upstreams: Upstreams::new(
                limits.http2.clone(),
                limits.http_head.head_bytes_max,
                limits.upstream_idle_timeout,
            ),
            requests: Cell::new(0),
            date: Cell::new((0, HttpDate::of(Duration::ZERO))),
            probes: Cell::new(0),
            chance: Chance::default(),
            told: Told::default(),
            way: Cell::new(None),
            spare: RefCell::new(accept::spare().ok()),
            current: RefCell::new(Rc::new(Current(published))),
            draining_until: Cell::new(None),
            stopped: accept::Stop::default(),
            shared,
        }
    }

    /// What connections are routed by now. It stays whole for as long as the answer lives.
    pub(crate) fn current(&self) -> Rc<Current> {
        Rc::clone(&self.current.borrow())
    }

    /// Whether the windows of requests of HTTP/2 come to more than is kept for destinations that take
    /// nothing: further connections get small ones.
    pub(crate) fn is_crowded(&self) -> bool {
        let limits = &self.shared.limits;
        let streams = self.live.streams() + self.upstreams.streams();
        let window = usize::try_from(limits.http2.stream_window).unwrap_or(usize::MAX);
        streams.saturating_mul(window) > limits.held_bytes_max
    }

    fn report(&self) -> Report {
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

    /// Whether it accepts connections no longer.
    pub(crate) fn stopped(&self) -> &accept::Stop {
        &self.stopped
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
    pub(crate) fn account(&self, id: ListenerId, trace: Trace, outcome: Outcome) {
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
        self.ledger.count_listener(id, |tally| {
            tally.outcomes[outcome.index()] += 1;
            tally.ech += u64::from(trace.ech);
        });
        let listener = &self.shared.listeners[usize::from(id.0)];
        tracing::debug!(
            listener = &*listener.name,
            client = %trace.client,
            outcome = outcome.label(),
            "connection ended"
        );
        let Some(records) = &self.shared.records else {
            return;
        };
        let record = trace.into_record(Arc::clone(&listener.name), self.id, outcome);
        match records.try_send(record) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => self.ledger.count_dropped_record(),
        }
    }

    /// Does what control asks, until it asks to drain.
    async fn obey(
        self: &Rc<Self>,
        commands: &Receiver<Command>,
        bell: &EventFd,
        doorbell: &Readiness,
    ) -> io::Result<Sender<Report>> {
        loop {
            doorbell.readable().await?;
            // Another bell may ring between this and the next wait; then that wait ends at once.
            let _ = bell.read();
            if let Some(done) = self.take_commands(commands) {
                return Ok(done);
            }
        }
    }

    fn take_commands(self: &Rc<Self>, commands: &Receiver<Command>) -> Option<Sender<Report>> {
        let mut drained = None;
        while let Ok(command) = commands.try_recv() {
            // Whoever asked may have stopped waiting: then the answer is dropped.
            match command {
                Command::Publish {
                    published,
                    gone,
                    done,
                } => {
                    let generation = self.publish(published, &gone);
                    let _ = done.send(generation);
                }
                Command::EndAddresses(withdrawn) => self.end_addresses(&withdrawn),
                Command::Report(done) => {
                    let _ = done.send(self.report());
                }
                Command::Drain { deadline, done } => {
                    self.draining_until.set(Some(deadline));
                    // Whoever asked first waits for what was counted; later ones move the deadline.
                    drained.get_or_insert(done);
                }
            }
        }
        drained
    }

    fn end_addresses(&self, withdrawn: &Withdrawn) {
        let is_gone = |dialed: Dialed| {
            let is_local = |local| withdrawn.addresses.contains(&local);
            dialed.namespace == withdrawn.namespace && dialed.local.is_some_and(is_local)
        };
        self.live.end_dialed(is_gone);
        self.pool.end_dialed(is_gone);
        self.upstreams.end_dialed(is_gone);
    }

    /// Swaps the snapshot; an older one than the running one is refused. The one before dies on
    /// the control thread, which holds on to it until no worker does.
    fn publish(self: &Rc<Self>, published: Arc<Published>, gone: &Arc<Gone>) -> Generation {
        let running = self.current.borrow().0.snapshot.generation();
        if published.snapshot.generation() < running {
            return running;
        }
        let generation = published.snapshot.generation();
        self.sessions.keep(&published.tls, &published.namespaces);
        check::start(self, &published.checks);
        self.current.replace(Rc::new(Current(published)));
        if !gone.routes.is_empty() {
            rt::spawn(forget(Rc::clone(self), Arc::clone(gone)));
        }
        if !gone.access.is_empty() {
            self.live
                .end_admitted(|admission| gone.access.revoke(admission));
        }
        if !gone.networks.is_empty() {
            let is_gone = |network| gone.networks.contains(&network);
            self.live.end_networks(is_gone);
            self.pool.end_networks(is_gone);
            self.upstreams.end_networks(is_gone);
        }
        if !gone.moved.is_empty() {
            let has_moved = |network| gone.moved.contains(&network);
            self.pool.end_networks(has_moved);
            self.upstreams.end_networks(has_moved);
            self.live.end_moved(|network| gone.left.contains(&network));
            self.ledger.forget_standing(&gone.moved_routes);
        }
        generation
    }

    async fn drain(self: &Rc<Self>, commands: &Receiver<Command>) {
        self.stopped.stop();
        self.live.end_at_rest();
        let is_over = || {
            self.draining_until
                .get()
                .is_none_or(|until| Instant::now() >= until)
        };
        while self.live.len() > 0 && !is_over() {
            rt::sleep(DRAIN_PERIOD).await;
            self.take_commands(commands);
        }
        self.live.end_all();
        let last = Instant::now() + LAST_TURNS;
        while self.live.len() > 0 && Instant::now() < last {
            rt::sleep(Duration::from_millis(1)).await;
        }
        // Closes go through the ring: one more turn submits those of the last connections.
        rt::sleep(Duration::from_millis(1)).await;
    }
}

/// Drops the counters of routes that are gone, a few at a time: a hundred thousand at once would
/// stall the worker for milliseconds.
async fn forget(worker: Rc<Worker>, gone: Arc<Gone>) {
    for few in gone.routes.chunks(FORGOTTEN_AT_ONCE) {
        worker.ledger.forget(few);
        rt::sleep(Duration::from_millis(1)).await;
    }
}

/// Sweeps as long as there is a connection to come or to end: a drain's connections have their limits,
/// and their clients leave, as any other's.
async fn sweep(worker: Rc<Worker>) {
    let started_at = Instant::now();
    while !worker.stopped.is_stopped() || worker.live.len() > 0 {
        rt::sleep(SWEEP_PERIOD).await;
        worker
            .live
            .sweep(u32::try_from(started_at.elapsed().as_secs()).unwrap_or(u32::MAX));
        worker.pool.sweep(Instant::now());
        worker.upstreams.sweep(Instant::now());
    }
}
