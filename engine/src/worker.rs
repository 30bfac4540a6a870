//! One thread, one ring, one set of listeners. It owns everything that it touches on the way of a
//! byte.

use std::{
    cell::Cell,
    collections::{HashMap, HashSet},
    io,
    net::IpAddr,
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender};
use engine_core::ids::{Generation, ListenerId, WorkerId};
use engine_sys::netns::Identity;
use nix::sys::eventfd::EventFd;

use crate::{
    accept::Acceptors,
    context::{
        Shared, WorkerContext, account::Report, checked::Checked, difference::Difference,
        live::Dialed, snapshot::Published,
    },
    rt::{self, Readiness},
    upstream::{Pools, health, resolve},
};

/// How often idle connections are looked for, and so the precision of the idle timeout.
const SWEEP_PERIOD: Duration = Duration::from_secs(1);

/// How often a draining worker looks whether its connections have ended.
const DRAIN_PERIOD: Duration = Duration::from_millis(10);

/// How many routes' counters are dropped in one turn.
const FORGOTTEN_AT_ONCE: usize = 256;

/// How long a connection of HTTP/2 may take to reset the requests that a drain has ended: without it some
/// clients take a cut response for a whole one.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// How long connections that were told to end may take to do so. They need one turn each.
const LAST_TURNS: Duration = Duration::from_secs(2);

/// What control asks of a worker.
#[derive(Debug)]
pub(crate) enum Command {
    /// Accept no more from these listeners but what waits in their queues, and say when that is done.
    Retire {
        listeners: Arc<[ListenerId]>,
        done: Sender<()>,
    },
    /// Route by this from now on, and say so.
    Publish {
        published: Arc<Published>,
        difference: Arc<Difference>,
        came: Came,
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

/// Listeners of a publication that are new or not as they were, and the sockets that they get.
#[derive(Debug, Default)]
pub(crate) struct Came {
    pub(crate) listeners: Arc<[ListenerId]>,
    pub(crate) sockets: HashMap<ListenerId, OwnedFd>,
}

/// Addresses that a namespace has no longer.
#[derive(Debug)]
pub(crate) struct Withdrawn {
    pub(crate) namespace: Identity,
    pub(crate) addresses: HashSet<IpAddr>,
}

/// What a worker's thread is started with.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) id: WorkerId,
    pub(crate) shared: Arc<Shared>,
    pub(crate) published: Arc<Published>,
    pub(crate) came: Came,
    pub(crate) commands: Receiver<Command>,
    pub(crate) doorbell: Arc<EventFd>,
}

/// A worker, with what only its own thread does.
#[derive(Debug)]
struct Worker {
    context: Rc<WorkerContext>,
    pools: Rc<Pools>,
    acceptors: Acceptors,
    draining_until: Cell<Option<Instant>>,
}

/// Runs a worker to its end.
///
/// # Errors
/// When its runtime or one of its listeners cannot be set up; `up` is dropped then, and told
/// otherwise.
pub(crate) fn run(driver: rt::Driver, start: Start, up: Sender<()>) -> io::Result<()> {
    rt::run(driver, async move {
        let doorbell = Readiness::new(start.doorbell.as_fd().try_clone_to_owned()?)?;
        let pools = Rc::new(Pools::new(&start.shared.limits));
        let context = WorkerContext::new(start.id, start.shared, start.published);
        let worker = Worker {
            context: Rc::new(context),
            pools,
            acceptors: Acceptors::default(),
            draining_until: Cell::new(None),
        };
        worker.listen(start.came)?;
        rt::spawn(sweep(Rc::clone(&worker.context), Rc::clone(&worker.pools)));
        let (context, pools) = (Rc::clone(&worker.context), Rc::clone(&worker.pools));
        rt::spawn(resolve::watch::watch(context, pools));
        let current = worker.context.current();
        worker.start_checks(current.0.checks.values());
        let _ = up.send(());
        drop(up);
        let done = worker
            .obey(&start.commands, &start.doorbell, &doorbell)
            .await?;
        worker.drain(&start.commands).await;
        // Nobody listens any more when control gave up waiting.
        let _ = done.send(worker.context.report());
        Ok(())
    })?
}

impl Worker {
    /// Does what control asks, until it asks to drain.
    async fn obey(
        &self,
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

    fn take_commands(&self, commands: &Receiver<Command>) -> Option<Sender<Report>> {
        let mut drained = None;
        while let Ok(command) = commands.try_recv() {
            // Whoever asked may have stopped waiting: then the answer is dropped.
            match command {
                Command::Retire { listeners, done } => {
                    let retired = self.acceptors.retire(&listeners);
                    rt::spawn(async move {
                        retired.await;
                        let _ = done.send(());
                    });
                }
                Command::Publish {
                    published,
                    difference,
                    came,
                    done,
                } => {
                    let generation = self.publish(published, &difference, came);
                    let _ = done.send(generation);
                }
                Command::EndAddresses(withdrawn) => self.end_addresses(&withdrawn),
                Command::Report(done) => {
                    let _ = done.send(self.context.report());
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
        self.context.live.end_dialed(is_gone);
        self.pools.idle.end_dialed(is_gone);
        self.pools.shared.end_dialed(is_gone);
    }

    /// Swaps the snapshot; an older one than the running one is refused. The one before dies on
    /// the control thread, which holds on to it until no worker does.
    fn publish(
        &self,
        published: Arc<Published>,
        difference: &Arc<Difference>,
        came: Came,
    ) -> Generation {
        let running = self.context.current().0.snapshot.generation();
        if published.snapshot.generation() < running {
            return running;
        }
        let generation = published.snapshot.generation();
        self.pools.sessions.forget(difference, &published.tls);
        self.start_checks(&difference.checks);
        self.context.replace(published);
        if let Err(error) = self.listen(came) {
            tracing::error!(worker = %self.context.id, %error, "a listener cannot be waited for");
        }
        self.context.ledger.follow(&difference.replaced);
        if !difference.routes.is_empty() {
            rt::spawn(forget(Rc::clone(&self.context), Arc::clone(difference)));
        }
        if !difference.access.is_empty() {
            self.context
                .live
                .end_admitted(|admission| difference.access.revoke(admission));
        }
        self.leave(difference);
        generation
    }

    /// Ends what leads to networks that are gone, or are in another namespace now.
    fn leave(&self, difference: &Difference) {
        if !difference.networks.is_empty() {
            let is_gone = |network| difference.networks.contains(&network);
            self.context.live.end_networks(is_gone);
            self.pools.idle.end_networks(is_gone);
            self.pools.shared.end_networks(is_gone);
            self.pools.names.end_networks(is_gone);
        }
        if !difference.moved.is_empty() {
            let has_moved = |network| difference.moved.contains(&network);
            self.pools.idle.end_networks(has_moved);
            self.pools.shared.end_networks(has_moved);
            self.pools.names.end_networks(has_moved);
            self.context
                .live
                .end_moved(|network| difference.left.contains(&network));
            self.context
                .ledger
                .forget_standing(&difference.moved_routes);
        }
    }

    /// Takes up listeners that are new or not as they were. A worker that drains listens no more.
    fn listen(&self, came: Came) -> io::Result<()> {
        if self.context.is_stopped() {
            return Ok(());
        }
        let Came {
            listeners,
            mut sockets,
        } = came;
        let current = self.context.current();
        let known = listeners.iter().map(|id| current.0.listeners.get(id));
        let mut listened = Ok(());
        for listening in known.flatten() {
            let socket = sockets.remove(&listening.id);
            let put = self
                .acceptors
                .put((&self.context, &self.pools), listening, socket);
            listened = listened.and(put);
        }
        listened
    }

    fn start_checks<'c>(&self, checks: impl IntoIterator<Item = &'c Arc<Checked>>) {
        health::start(&self.context, &self.pools, checks);
    }

    async fn drain(&self, commands: &Receiver<Command>) {
        self.context.stop();
        self.acceptors.stop();
        self.context.live.end_at_rest();
        let is_over = || {
            self.draining_until
                .get()
                .is_none_or(|until| Instant::now() >= until)
        };
        while self.context.live.len() > 0 && !is_over() {
            rt::sleep(DRAIN_PERIOD).await;
            self.take_commands(commands);
        }
        self.context.live.end_requests();
        let told = Instant::now() + LAST_WORDS;
        while self.context.live.len() > 0 && Instant::now() < told {
            rt::sleep(Duration::from_millis(1)).await;
        }
        self.context.live.end_all();
        let last = Instant::now() + LAST_TURNS;
        while self.context.live.len() > 0 && Instant::now() < last {
            rt::sleep(Duration::from_millis(1)).await;
        }
        // Closes go through the ring: one more turn submits those of the last connections.
        rt::sleep(Duration::from_millis(1)).await;
    }
}

/// Drops the counters of routes that are gone, a few at a time: a hundred thousand at once would
/// stall the worker for milliseconds.
async fn forget(worker: Rc<WorkerContext>, difference: Arc<Difference>) {
    for few in difference.routes.chunks(FORGOTTEN_AT_ONCE) {
        worker.ledger.forget(few);
        rt::sleep(Duration::from_millis(1)).await;
    }
}

/// Sweeps as long as there is a connection to come or to end: a drain's connections have their limits,
/// and their clients leave, as any other's.
async fn sweep(worker: Rc<WorkerContext>, pools: Rc<Pools>) {
    let started_at = Instant::now();
    while !worker.is_stopped() || worker.live.len() > 0 {
        rt::sleep(SWEEP_PERIOD).await;
        worker
            .live
            .sweep(u32::try_from(started_at.elapsed().as_secs()).unwrap_or(u32::MAX));
        pools.idle.sweep(Instant::now());
        pools.shared.sweep(Instant::now());
        resolve::refresh(&worker, &pools, Instant::now());
    }
}
