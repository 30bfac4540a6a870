//! The engine as control sees it: start, publish, counters, drain.

use std::{
    collections::{HashMap, HashSet},
    io, mem,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{Arc, atomic::AtomicU64},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use core_affinity::CoreId;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use engine_core::{
    admit::Sources,
    balance::Load,
    ids::{Generation, ListenerId, NetnsId, WorkerId},
    snapshot::Snapshot,
};
use engine_sys::{
    netns::Netns,
    probe::{Abilities, Missing, probe},
    process::raise_descriptor_limit,
};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::{
    account::Report,
    config::{Config, DriverChoice, Listener, Workers},
    counters::{ClientTraffic, ClientsTraffic, Counters},
    listen::bind,
    rt::Driver,
    tls::Tls,
    worker::{self, Command, Gone, Published, Shared, Start},
};

/// How long control waits for a worker to answer. They answer between two turns of their loop.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A running engine. Dropping it stops the workers without waiting for connections.
#[derive(Debug)]
pub struct Engine {
    workers: Vec<WorkerThread>,
    addresses: Vec<(Arc<str>, SocketAddr)>,
    abilities: Abilities,
    driver: Driver,
    shared: Arc<Shared>,
    current: Arc<Published>,
    /// Snapshots that some worker may still hold: freed here, off the workers.
    retired: Vec<Arc<Published>>,
    counters: Counters,
    clients: ClientsTraffic,
}

/// What the workers route by from now on.
#[derive(Debug)]
pub struct Publication {
    /// The routes.
    pub snapshot: Snapshot,
    /// What HTTP requests are decided by. The routes of its rules are the snapshot's.
    pub http: engine_http::rules::Table,
    /// Whose TLS ends here, and how the targets of HTTP rules are spoken with.
    pub tls: Tls,
    /// The namespaces that its networks name.
    pub namespaces: HashMap<NetnsId, Arc<Netns>>,
}

/// How a drain ended.
#[derive(Debug)]
pub struct Drained {
    /// Everything that was ever counted.
    pub counters: Counters,
    /// What clients moved since it was last taken.
    pub clients: Vec<ClientTraffic>,
    /// Workers that did not answer in time.
    pub lost_workers: usize,
}

/// Why an engine does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// io_uring was asked for and cannot be had.
    #[error("the io_uring driver cannot start")]
    Driver(#[source] Missing),
    /// Tenants' namespaces cannot be entered.
    #[error("upstream connections cannot be dialed from tenants' namespaces")]
    Namespaces(#[source] Missing),
    /// The gateway's own namespace cannot be opened.
    #[error("the gateway's own network namespace cannot be opened (is /proc mounted?)")]
    Home(#[source] io::Error),
    /// A listener cannot be bound.
    #[error("listener {name} cannot listen on {address}")]
    Listen {
        /// Its name.
        name: Arc<str>,
        /// What it was to bind.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A descriptor that was handed over for a listener does not do.
    #[error("the descriptor handed over for listener {name} is not a listening TCP socket")]
    Inherited {
        /// Its name.
        name: Arc<str>,
        /// What the kernel says of it.
        #[source]
        source: io::Error,
    },
    /// A worker's thread, mailbox or ring cannot be made.
    #[error("worker {worker} cannot start")]
    Worker {
        /// Its number.
        worker: WorkerId,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The limit of open descriptors cannot be read.
    #[error("the limit of open descriptors cannot be raised")]
    DescriptorLimit(#[source] io::Error),
}

/// Why a publication did not reach every worker.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// It is older than the one that is running.
    #[error("generation {offered} is older than the running generation {running}")]
    Stale {
        /// The publication's.
        offered: Generation,
        /// The workers'.
        running: Generation,
    },
    /// A worker did not answer in time.
    #[error("{lost} workers did not take generation {offered} in time")]
    Unanswered {
        /// How many.
        lost: usize,
        /// The publication's.
        offered: Generation,
    },
}

#[derive(Debug)]
struct WorkerThread {
    commands: Sender<Command>,
    doorbell: Arc<EventFd>,
    thread: JoinHandle<io::Result<()>>,
}

impl Engine {
    /// Binds the listeners and starts the workers.
    ///
    /// # Errors
    /// Says what cannot be had, and for abilities of the kernel, how to get them. Nothing is left
    /// running then.
    pub fn start(mut config: Config, publication: Publication) -> Result<Self, StartError> {
        let abilities = probe();
        let driver = match config.driver {
            DriverChoice::Epoll => Driver::Epoll,
            DriverChoice::Auto if abilities.io_uring.is_err() => Driver::Epoll,
            DriverChoice::Auto | DriverChoice::IoUring => Driver::IoUring,
        };
        if driver == Driver::IoUring
            && let Err(missing) = abilities.io_uring
        {
            return Err(StartError::Driver(missing));
        }
        let home = Netns::current().map_err(StartError::Home)?.identity();
        let is_foreign = |netns: &Arc<Netns>| netns.identity() != home;
        if publication.namespaces.values().any(is_foreign)
            && let Err(missing) = abilities.setns
        {
            return Err(StartError::Namespaces(missing));
        }
        raise_descriptor_limit().map_err(StartError::DescriptorLimit)?;
        let cores = choose_cores(config.workers);
        let sockets = mem::take(&mut config.listeners)
            .into_iter()
            .map(|listener| bind(listener, &config, cores.len()))
            .collect::<Result<Vec<_>, _>>()?;
        let mut addresses = Vec::new();
        let mut listeners = Vec::new();
        let mut by_worker: Vec<Vec<(ListenerId, OwnedFd)>> =
            cores.iter().map(|_| Vec::new()).collect();
        for (id, bound) in (0..).map(ListenerId).zip(sockets) {
            addresses.push((Arc::clone(&bound.listener.name), bound.address));
            for (worker, socket) in by_worker.iter_mut().zip(bound.sockets) {
                worker.push((id, socket));
            }
            listeners.push(bound.listener);
        }
        let counters = Counters::new(listeners.len(), cores.len());
        let shared = Arc::new(share(config, listeners));
        let current = Arc::new(Published::after(&[], publication, cores.len()));
        let mut engine = Self {
            workers: Vec::new(),
            addresses,
            abilities,
            driver,
            shared,
            current,
            retired: Vec::new(),
            counters,
            clients: ClientsTraffic::default(),
        };
        for (id, (core, sockets)) in (0..).map(WorkerId).zip(cores.into_iter().zip(by_worker)) {
            let started = engine.start_worker(id, core, sockets);
            engine
                .workers
                .push(started.map_err(|source| StartError::Worker { worker: id, source })?);
        }
        Ok(engine)
    }

    /// Where the listeners listen, with the ports that the kernel chose for port 0.
    pub fn addresses(&self) -> &[(Arc<str>, SocketAddr)] {
        &self.addresses
    }

    /// What the kernel allows.
    pub fn abilities(&self) -> &Abilities {
        &self.abilities
    }

    /// What the workers wait with.
    pub fn driver(&self) -> Driver {
        self.driver
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// The snapshot that the workers route by.
    pub fn snapshot(&self) -> &Snapshot {
        &self.current.snapshot
    }

    /// Makes every worker route by a new snapshot, and waits until they do. Live connections go on;
    /// those of networks that the new snapshot does not have are reset.
    ///
    /// # Errors
    /// When it is older than the running one, or a worker does not answer in time.
    pub fn publish(&mut self, publication: Publication) -> Result<(), PublishError> {
        let offered = publication.snapshot.generation();
        let running = self.current.snapshot.generation();
        if offered < running {
            return Err(PublishError::Stale { offered, running });
        }
        let checks = &self.current.checks;
        let published = Published::after(checks, publication, self.workers.len());
        let published = Arc::new(published);
        let gone = Arc::new(gone(&self.current.snapshot, &published.snapshot));
        let (done, answers) = bounded(self.workers.len());
        for worker in &self.workers {
            worker.send(Command::Publish {
                published: Arc::clone(&published),
                gone: Arc::clone(&gone),
                done: done.clone(),
            });
        }
        drop(done);
        self.retired
            .push(mem::replace(&mut self.current, published));
        let lost = self.workers.len() - collect(&answers, self.workers.len(), ANSWER_TIMEOUT).len();
        self.counters();
        for id in &gone.routes {
            self.counters.routes.remove(id);
        }
        if lost > 0 {
            Err(PublishError::Unanswered { lost, offered })
        } else {
            Ok(())
        }
    }

    /// What every client moved since the last time, exact up to the last [`Engine::counters`]. It
    /// is kept until it is taken: whoever tells clients apart takes it every second or so.
    pub fn take_clients(&mut self) -> Vec<ClientTraffic> {
        self.clients.take()
    }

    /// What was counted since the start, exact up to this moment.
    pub fn counters(&mut self) -> &Counters {
        let (done, answers) = bounded(self.workers.len());
        for worker in &self.workers {
            worker.send(Command::Report(done.clone()));
        }
        drop(done);
        for report in collect(&answers, self.workers.len(), ANSWER_TIMEOUT) {
            self.take_in(report);
        }
        self.retired.retain(|old| Arc::strong_count(old) > 1);
        let down = self.current.checks.iter();
        self.counters.targets_down = down.filter_map(|checked| checked.down()).collect();
        &self.counters
    }

    /// Tells the workers to accept no more and to end by `deadline`, without waiting for it. A
    /// second call only moves the deadline: the workers answer the first one's [`Draining`].
    pub fn begin_drain(&self, deadline: Instant) -> Draining {
        let (done, answers) = bounded(self.workers.len());
        for worker in &self.workers {
            worker.send(Command::Drain {
                deadline,
                done: done.clone(),
            });
        }
        Draining { answers }
    }

    /// Accepts no more, lets connections end for as long as `patience`, resets the rest, and ends
    /// the workers.
    pub fn drain(self, patience: Duration) -> Drained {
        let draining = self.begin_drain(Instant::now() + patience);
        self.finish(&draining, patience)
    }

    /// Waits for the end of a drain.
    pub fn finish(mut self, draining: &Draining, patience: Duration) -> Drained {
        let workers = mem::take(&mut self.workers);
        let reports = collect(&draining.answers, workers.len(), patience + ANSWER_TIMEOUT);
        let lost_workers = workers.len() - reports.len();
        for report in reports {
            self.take_in(report);
        }
        if lost_workers == 0 {
            for worker in workers {
                // Its error, if any, was a failure to wait: it has reported all the same.
                let _ = worker.thread.join();
            }
        }
        Drained {
            counters: mem::take(&mut self.counters),
            clients: self.clients.take(),
            lost_workers,
        }
    }

    fn take_in(&mut self, report: Report) {
        self.counters.add(&report);
        if self.shared.limits.accounted_clients_max > 0 {
            self.clients.add(report.clients);
        }
    }

    fn start_worker(
        &self,
        id: WorkerId,
        core: Option<CoreId>,
        sockets: Vec<(ListenerId, OwnedFd)>,
    ) -> io::Result<WorkerThread> {
        let doorbell = Arc::new(EventFd::from_flags(
            EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC,
        )?);
        // Bounded by what control asks for, one question at a time.
        let (commands, received) = unbounded();
        let start = Start {
            id,
            shared: Arc::clone(&self.shared),
            published: Arc::clone(&self.current),
            sockets,
            commands: received,
            doorbell: Arc::clone(&doorbell),
        };
        let driver = self.driver;
        let (up, is_up) = bounded(1);
        let thread = thread::Builder::new()
            .name(format!("worker-{id}"))
            .spawn(move || {
                if let Some(core) = core {
                    // Unpinned is slower, not wrong.
                    core_affinity::set_for_current(core);
                }
                worker::run(driver, start, up)
            })?;
        match is_up.recv() {
            Ok(()) => Ok(WorkerThread {
                commands,
                doorbell,
                thread,
            }),
            Err(_) => match thread.join() {
                Ok(Err(error)) => Err(error),
                Ok(Ok(())) | Err(_) => Err(io::Error::other("the worker ended at once")),
            },
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.begin_drain(Instant::now());
    }
}

/// A drain that has begun.
#[derive(Debug)]
pub struct Draining {
    answers: Receiver<Report>,
}

impl Draining {
    /// Whether every worker has ended.
    pub fn is_over(&self) -> bool {
        self.answers.is_full()
    }
}

impl WorkerThread {
    /// A worker that has ended takes nothing; what was asked then stays unanswered.
    fn send(&self, command: Command) {
        let _ = self.commands.send(command);
        let _ = self.doorbell.write(1);
    }
}

fn share(config: Config, listeners: Vec<Listener>) -> Shared {
    let limits = config.limits;
    let run_id = ahash::RandomState::new().hash_one(Instant::now());
    Shared {
        listener_loads: listeners.iter().map(|_| Load::default()).collect(),
        gateway_load: Load::default(),
        sources: Sources::new(
            limits.connections_per_source_max,
            limits.accept_rate_per_source,
            run_id,
        ),
        started_at: Instant::now(),
        run_id,
        connections: AtomicU64::new(0),
        records: config.records,
        requests: config.requests,
        challenges: config.challenges,
        strangers: config.strangers,
        listeners,
        limits,
    }
}

/// The core of each worker; more workers than cores share them without being pinned.
fn choose_cores(workers: Workers) -> Vec<Option<CoreId>> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let count = match workers {
        Workers::Auto => cores.len().max(1),
        Workers::Count(count) => usize::from(count.get()),
    };
    (0..count)
        .map(|index| {
            if count <= cores.len() {
                cores.get(index).copied()
            } else {
                None
            }
        })
        .collect()
}

fn gone(before: &Snapshot, after: &Snapshot) -> Gone {
    let kept: HashSet<_> = after.routes().map(|route| route.id).collect();
    let kept_networks: HashSet<_> = after.routes().map(|route| route.network.id).collect();
    let routes = before
        .routes()
        .map(|route| route.id)
        .filter(|id| !kept.contains(id))
        .collect();
    let networks = before
        .routes()
        .map(|route| route.network.id)
        .filter(|id| !kept_networks.contains(id))
        .collect();
    Gone { routes, networks }
}

fn collect<T>(answers: &Receiver<T>, count: usize, timeout: Duration) -> Vec<T> {
    let deadline = Instant::now() + timeout;
    let mut collected = Vec::new();
    while collected.len() < count {
        match answers.recv_deadline(deadline) {
            Ok(answer) => collected.push(answer),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    collected
}
