//! The engine as control sees it: start, publish, counters, drain.

pub(crate) mod counters;
pub(crate) mod listen;
pub(crate) mod listeners;
pub(crate) mod start;

use std::{
    collections::{HashMap, HashSet},
    io, mem,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use engine_core::{
    ids::{Generation, ListenerId, RouteId},
    snapshot::Snapshot,
};
use engine_sys::{netns::Identity, probe::Abilities};
use nix::sys::eventfd::EventFd;

pub use start::StartError;
pub(crate) use start::choose_cores;

use crate::{
    context::{
        Shared,
        account::Report,
        snapshot::{Publication, Published},
    },
    engine::{
        counters::{ClientTraffic, ClientsTraffic, Counters},
        listeners::{Listeners, share_out},
    },
    rt::Driver,
    worker::{Command, Withdrawn},
};

/// How long control waits for a worker to answer. They answer between two turns of their loop.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A running engine. Dropping it stops the workers without waiting for connections.
#[derive(Debug)]
pub struct Engine {
    workers: Vec<WorkerThread>,
    listeners: Listeners,
    abilities: Abilities,
    driver: Driver,
    shared: Arc<Shared>,
    current: Arc<Published>,
    /// Snapshots that some worker may still hold: freed here, off the workers.
    retired: Vec<Arc<Published>>,
    counters: Counters,
    clients: ClientsTraffic,
    /// Routes that are gone, and still have live connections.
    gone: HashSet<RouteId>,
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
    /// What it was asked to hand over, and has not yet. A worker is asked one thing at a time, and a
    /// late answer is taken in when it comes.
    report: Option<Receiver<Report>>,
}

impl Engine {
    /// Where a listener listens, with the port that the kernel chose for port 0; `None` where it is in no
    /// publication, or never had sockets.
    pub fn address(&self, listener: ListenerId) -> Option<SocketAddr> {
        self.listeners.address(listener)
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

    /// What the workers run, without sockets: what comes next is made of it.
    pub fn publication(&self) -> Publication {
        let current = &self.current;
        Publication {
            snapshot: current.snapshot.clone(),
            http: current.http.clone(),
            tls: current.tls.clone(),
            namespaces: current.namespaces.clone(),
            listeners: current.declared.clone(),
            sockets: HashMap::new(),
            name_servers: current.name_servers.clone(),
        }
    }

    /// Makes every worker route by a new snapshot, and waits until they do. Live connections go on;
    /// those of networks that the new snapshot does not have are reset. Listeners that it does not have, or
    /// that get other sockets, take what waits in their queues first, so that it is still routed by the
    /// snapshot before.
    ///
    /// # Errors
    /// When it is older than the running one, or a worker does not answer in time.
    pub fn publish(&mut self, mut publication: Publication) -> Result<(), PublishError> {
        let offered = publication.snapshot.generation();
        let running = self.current.snapshot.generation();
        if offered < running {
            return Err(PublishError::Stale { offered, running });
        }
        let sockets = mem::take(&mut publication.sockets);
        let (workers, live) = (self.workers.len(), |id| self.listeners.live(id));
        let (published, difference) = self.current.after(publication, &sockets, live, workers);
        let (published, difference) = (Arc::new(published), Arc::new(difference));
        let both = (&*self.current, &*published);
        let changed = &difference.listeners;
        let changes = self
            .listeners
            .take_up(both, changed, &sockets, &mut self.counters);
        self.retire(&changes.retired);
        let shares = share_out(&changes.came, sockets, self.workers.len());
        forget_requests(&published, &difference.moved_routes);
        let (done, answers) = bounded(self.workers.len());
        for (worker, came) in self.workers.iter().zip(shares) {
            worker.send(Command::Publish {
                published: Arc::clone(&published),
                difference: Arc::clone(&difference),
                came,
                done: done.clone(),
            });
        }
        drop(done);
        self.retired
            .push(mem::replace(&mut self.current, published));
        let lost = self.workers.len() - collect(&answers, self.workers.len(), ANSWER_TIMEOUT).len();
        self.gone.extend(&difference.routes);
        self.gone.retain(|id| !self.current.counts(*id));
        self.gather();
        if lost > 0 {
            Err(PublishError::Unanswered { lost, offered })
        } else {
            Ok(())
        }
    }

    /// Has listeners take what waits in their queues, and close. A worker that does not answer in time is
    /// asked to publish all the same: it will do both in order.
    fn retire(&self, listeners: &Arc<[ListenerId]>) {
        if listeners.is_empty() {
            return;
        }
        let (done, answers) = bounded(self.workers.len());
        for worker in &self.workers {
            worker.send(Command::Retire {
                listeners: Arc::clone(listeners),
                done: done.clone(),
            });
        }
        drop(done);
        collect(&answers, self.workers.len(), ANSWER_TIMEOUT);
    }

    /// What every client moved since the last time, exact up to the last [`Engine::counters`]. It
    /// is kept until it is taken: whoever tells clients apart takes it every second or so.
    pub fn take_clients(&mut self) -> Vec<ClientTraffic> {
        self.clients.take()
    }

    /// What was counted since the start, exact up to this moment.
    pub fn counters(&mut self) -> &Counters {
        self.gather();
        let down = self.current.checks.values();
        self.counters.targets_down = down.filter_map(|checked| checked.down()).collect();
        &self.counters
    }

    /// Takes in what the workers counted, and lets go of what nobody holds any more.
    fn gather(&mut self) {
        for worker in &mut self.workers {
            worker.ask();
        }
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let reports: Vec<Report> = self
            .workers
            .iter_mut()
            .filter_map(|worker| worker.answer(deadline))
            .collect();
        for report in reports {
            self.take_in(report);
        }
        self.forget_ended();
        self.retired.retain(|old| Arc::strong_count(old) > 1);
    }

    /// Lets go of the counters of routes and listeners that are gone, when their last connection has
    /// ended.
    fn forget_ended(&mut self) {
        self.listeners.forget_ended(&mut self.counters);
        let routes = &mut self.counters.routes;
        self.gone.retain(|id| {
            let is_live = routes.get(id).is_some_and(|route| route.tally.live() > 0);
            if !is_live {
                routes.remove(id);
            }
            is_live
        });
    }

    /// Ends, on every worker, what leaves from addresses that a namespace has no longer: upstream
    /// connections at rest are closed, and flows end at once with
    /// [`Outcome::NetworkChanged`](engine_core::outcome::Outcome::NetworkChanged), where they would wait
    /// for answers that cannot reach them. Does not wait for the workers.
    pub fn end_addresses(&self, namespace: Identity, addresses: HashSet<IpAddr>) {
        let withdrawn = Arc::new(Withdrawn {
            namespace,
            addresses,
        });
        for worker in &self.workers {
            worker.send(Command::EndAddresses(Arc::clone(&withdrawn)));
        }
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
        let mut workers = mem::take(&mut self.workers);
        let reports = collect(&draining.answers, workers.len(), patience + ANSWER_TIMEOUT);
        let lost_workers = workers.len() - reports.len();
        // What was asked for before and came late.
        let now = Instant::now();
        let late = workers.iter_mut().filter_map(|worker| worker.answer(now));
        let late: Vec<Report> = late.collect();
        for report in late.into_iter().chain(reports) {
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

    /// Asks for what was counted, unless it is still asked.
    fn ask(&mut self) {
        if self.report.is_none() {
            let (done, report) = bounded(1);
            self.send(Command::Report(done));
            self.report = Some(report);
        }
    }

    /// What it was asked for; `None` where nothing was, where it has ended, and where it is silent until
    /// the deadline. It stays asked then.
    fn answer(&mut self, deadline: Instant) -> Option<Report> {
        let answer = self.report.as_ref()?.recv_deadline(deadline);
        if !matches!(answer, Err(RecvTimeoutError::Timeout)) {
            self.report = None;
        }
        answer.ok()
    }
}

/// Forgets what requests showed of the targets of routes: they are other machines now.
fn forget_requests(published: &Published, moved: &HashSet<RouteId>) {
    let moved = moved
        .iter()
        .filter_map(|id| published.snapshot.route_of(*id));
    for target in moved.flat_map(|route| &route.targets) {
        target.health.answer_request();
    }
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

#[cfg(test)]
mod tests {
    use std::thread;

    use crossbeam_channel::unbounded;
    use engine_core::{
        balance::Load,
        ids::{NetnsId, NetworkId},
        snapshot::{Network, SnapshotBuilder},
    };

    use super::*;
    use crate::context::difference::Difference;

    fn published(before: &Published, networks: &[u32], generation: u64) -> (Published, Difference) {
        let mut snapshot = SnapshotBuilder::new(Generation(generation));
        for id in networks {
            snapshot.network(&Network {
                id: NetworkId(*id),
                name: "network".into(),
                netns: NetnsId(0),
                live: Load::default(),
            });
        }
        let publication = Publication {
            snapshot: snapshot.build(None).unwrap(),
            ..Publication::default()
        };
        let live = |_| Load::default();
        before.after(publication, &HashMap::new(), live, 1)
    }

    #[test]
    fn a_network_is_gone_when_it_is_declared_no_longer_and_not_with_its_last_route() {
        let (first, _) = published(&Published::default(), &[1, 2], 1);
        let (_, gone) = published(&first, &[2], 2);
        assert_eq!(gone.networks, HashSet::from([NetworkId(1)]));
        assert!(gone.moved.is_empty());
    }

    #[test]
    fn a_late_answer_is_taken_in_and_nobody_is_asked_twice() {
        let (commands, asked) = unbounded();
        let mut worker = WorkerThread {
            commands,
            doorbell: Arc::new(EventFd::new().unwrap()),
            thread: thread::spawn(|| Ok(())),
            report: None,
        };
        worker.ask();
        assert!(worker.answer(Instant::now()).is_none(), "it is silent");
        worker.ask();
        assert_eq!(asked.len(), 1);
        let Ok(Command::Report(done)) = asked.recv() else {
            panic!("nothing was asked")
        };
        done.send(Report::default()).unwrap();
        assert!(worker.answer(Instant::now()).is_some(), "it came late");
        worker.ask();
        drop(asked);
        assert!(worker.answer(Instant::now() + ANSWER_TIMEOUT).is_none());
        assert!(worker.report.is_none(), "who has ended is not waited for");
    }
}
