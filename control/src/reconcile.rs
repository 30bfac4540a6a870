//! The one place that changes the kernel and the workers.
//!
//! ```text
//!   orders (API, SIGHUP) ─┐                       ┌─► before ─► publish, wait for every worker ─► after
//!   notices (netlink)    ─┼─► observe ─► plan ────┤
//!   ticks (1 s)          ─┘                       └─► the store, events, the view that the API shows
//! ```
//!
//! It runs on a thread of its own, because the kernel is asked in blocking calls: neither the API
//! nor a worker ever waits for it. Whatever goes wrong in one network degrades that network, and is
//! tried again from a new observation.

mod answers;
mod change;
mod clock;
mod compaction;
mod degradations;
mod degraded;
mod left_out;
mod networks;
mod news;
mod order;
mod owners;
mod peers;
mod publication;
mod records;
mod resolv_conf;
mod round;
mod sampling;
mod tls;
mod unserved;
mod view;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use control_api::{
    Problems,
    answer::{CertificatesView, Degradation, Event, Status},
    boot::{Boot, WireGuardBackend},
    place::NetworkKey,
    state::{Desired, Owner},
};
use control_http::{ChangeRefused, Reconciles, View};
use control_kernel::{Linux, linux::Notice};
use control_plan::{PlannedListener, actual::Backend, plan::place_of};
use control_store::Store;
use crossbeam_channel::{never, select, tick};
use engine::{Counters, Drained, Engine, Publication};
use engine_tls::Certificates;
use tokio::sync::{broadcast, watch};

use self::{
    answers::Answers,
    degradations::Degradations,
    networks::Networks,
    publication::Publisher,
    tls::Tls,
    unserved::{BootState, Standing},
};
pub(crate) use self::{
    clock::unix_now,
    left_out::{LeftOut, Stored},
    order::{CHANGES_MAX, Desk, Drain, Order, Taken, Waiting},
};
use crate::ports::Ports;

/// How often peers are looked at, failed networks tried again and totals written.
const TICK: Duration = Duration::from_secs(1);
/// How often the end of a drain is looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How long workers may take to reset what is left after a drain's deadline.
const RESET_TIMEOUT: Duration = Duration::from_secs(5);
/// Ticks between two observations of everything, notified or not.
const TICKS_PER_OBSERVATION: u32 = 30;

/// Everything that the desired state is made real with.
#[derive(Debug)]
pub(crate) struct Reconciler {
    boot: Boot,
    desired: Arc<Desired>,
    /// What the stored state has beside it, and is refused.
    left_out: Vec<LeftOut>,
    /// The number of the desired state; 0 before the first.
    generation: u64,
    /// The last one that changed the part of each owner.
    owners: Arc<BTreeMap<Owner, u64>>,
    /// The newest one that every worker runs.
    running: u64,
    /// Networks that a new state is being made for.
    pending: BTreeSet<NetworkKey>,
    networks: Networks,
    publisher: Publisher,
    engine: Engine,
    /// What the engine had counted when it was asked last.
    counters: Arc<Counters>,
    /// The certificates, as of a second ago at most; and those in service.
    certificates: watch::Receiver<Arc<CertificatesView>>,
    in_force: Certificates,
    standing: Standing,
    boot_state: BootState,
    /// Routes all of whose targets fail, as of a second ago at most.
    down: Vec<Degradation>,
    degradations: Degradations,
    answers: Answers,
    /// Present from the first order to drain on.
    draining: Option<Draining>,
    view: watch::Sender<Arc<View>>,
    started: Duration,
    ticks: u32,
    drops_reported: u64,
}

/// What a reconciler is made from.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) boot: Boot,
    pub(crate) stored: Stored,
    pub(crate) store: Store,
    pub(crate) kernel: Linux,
    pub(crate) events: broadcast::Sender<Event>,
    pub(crate) heartbeat: Arc<Heartbeat>,
    /// Those of the boot file's listeners, which are open already.
    pub(crate) ports: Ports,
    /// What TLS is ended with; whoever gets certificates puts them in.
    pub(crate) certificates: Certificates,
    /// How the certificates are.
    pub(crate) certificates_view: watch::Receiver<Arc<CertificatesView>>,
}

/// A drain that goes on.
#[derive(Debug)]
struct Draining {
    workers: engine::Draining,
    deadline: Instant,
}

impl Draining {
    fn is_over(&self) -> bool {
        self.workers.is_over() || Instant::now() >= self.deadline + RESET_TIMEOUT
    }
}

/// How a reconciler ended.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    /// Absent when it was lost.
    pub(crate) drained: Option<Drained>,
}

/// When the reconcile thread was last seen alive.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    started: Instant,
    beat_ms: AtomicU64,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            beat_ms: AtomicU64::new(0),
        }
    }
}

impl Heartbeat {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Says that the thread gets on with its work.
    pub(crate) fn beat(&self) {
        self.beat_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// For how long nothing was heard.
    pub(crate) fn silence(&self) -> Duration {
        let beat = self.beat_ms.load(Ordering::Relaxed);
        Duration::from_millis(self.now_ms().saturating_sub(beat))
    }
}

impl Reconciler {
    /// Makes the networks what is desired, and then starts the engine on them.
    ///
    /// # Errors
    /// When the store cannot be read, a listener leads nowhere, or the engine does not start.
    pub(crate) fn start(
        setting: Setting,
        start_engine: impl FnOnce(Publication) -> anyhow::Result<Engine>,
    ) -> anyhow::Result<(Self, watch::Receiver<Arc<View>>)> {
        let Setting {
            boot,
            stored:
                Stored {
                    generation,
                    owners,
                    desired,
                    left_out,
                    unbound,
                },
            store,
            kernel,
            events,
            heartbeat,
            ports,
            certificates,
            certificates_view,
        } = setting;
        let started = unix_now();
        let hello_bytes_max = boot.limits.hello_bytes_max.in_memory();
        let tls = Tls::new(certificates.clone(), hello_bytes_max)?;
        let mut publisher = Publisher::start(tls, &store, ports)?;
        let prepared = publisher
            .prepare(&desired, &left_out, &boot.listeners, None)
            .map_err(|problems| misfit(&problems))?;
        let mut networks = Networks::new(
            (kernel, wanted_backend(&boot)),
            store,
            events,
            heartbeat,
            &desired,
            started,
        )
        .context("reading what Ringway made")?;
        networks.round(&desired, None);
        let publication = publisher.open(prepared, generation, &mut networks.kernel);
        let engine = start_engine(publication)?;
        let desired = Arc::new(desired);
        let owners = Arc::new(owners);
        let (view, shown) = watch::channel(first_view(&desired, generation, &owners));
        let standing = Standing::of(&desired, &boot.listeners);
        let mut reconciler = Self {
            boot,
            desired,
            left_out,
            generation,
            owners,
            running: generation,
            pending: BTreeSet::new(),
            networks,
            publisher,
            engine,
            counters: Arc::default(),
            certificates: certificates_view,
            in_force: certificates,
            standing,
            boot_state: BootState::left_out(&unbound),
            down: Vec::new(),
            degradations: Degradations::default(),
            answers: Answers::start().context("starting the thread of answers")?,
            draining: None,
            view,
            started,
            ticks: 0,
            drops_reported: 0,
        };
        reconciler.sample();
        reconciler.show();
        Ok((reconciler, shown))
    }

    /// The running engine.
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The listeners that are declared.
    pub(crate) fn listeners(&self) -> &[PlannedListener] {
        self.publisher.listeners()
    }

    /// Works until it is told to drain and that is over.
    pub(crate) fn run(mut self, waiting: Waiting) -> Ended {
        let ticks = tick(TICK);
        let mut notices = self.networks.kernel.notices();
        let mut looks = never();
        let Waiting {
            orders,
            mut changes,
        } = waiting;
        loop {
            self.networks.heartbeat.beat();
            select! {
                recv(orders) -> order => match order {
                    Ok(Order::Boot { boot, reply }) => {
                        // Whoever asked may have ended.
                        let _ = reply.send(self.take_boot(*boot));
                    }
                    Ok(Order::BootRefused(why)) => {
                        self.boot_state.refused = Some(why);
                        self.show();
                    }
                    Ok(Order::Drain(until)) => {
                        self.begin_drain(until);
                        looks = tick(LOOK_INTERVAL);
                    }
                    Err(_) => return Ended::default(),
                },
                recv(changes) -> request => match request {
                    Ok(request) if self.draining.is_some() => {
                        let _ = request.reply.send(Err(ChangeRefused::ShuttingDown));
                    }
                    Ok(request) => self.change(request),
                    // The API is off.
                    Err(_) => changes = never(),
                },
                recv(notices) -> notice => match notice {
                    Ok(notice) => self.note(notice),
                    Err(_) => {
                        tracing::error!("the kernel's notices have ended: looking every 30 s");
                        notices = never();
                    }
                },
                recv(ticks) -> _ => self.tick(),
                recv(looks) -> _ => {}
            }
            if self.draining.as_ref().is_some_and(Draining::is_over) {
                return self.finish();
            }
        }
    }

    /// Looks at what a notice is about, and at everything else that was notified by now.
    fn note(&mut self, notice: Notice) {
        let mut networks = BTreeSet::new();
        let mut is_all = false;
        let more: Vec<Notice> = self.networks.kernel.notices().try_iter().collect();
        for notice in std::iter::once(notice).chain(more) {
            match notice {
                Notice::Network(network) => drop(networks.insert(network)),
                Notice::Names => is_all = true,
            }
        }
        self.networks
            .round(&self.desired, (!is_all).then_some(&networks));
        self.end_withdrawn();
        if is_all {
            self.republish_if_stale();
        }
    }

    /// Has the workers end what leaves from addresses that are gone: it would wait for answers that
    /// cannot come.
    fn end_withdrawn(&mut self) {
        for (network, addresses) in std::mem::take(&mut self.networks.withdrawn) {
            let declared = self.desired.networks.get(&network);
            let Some(place) = declared.map(place_of) else {
                continue;
            };
            // Where there is no namespace any more, nothing leaves from it.
            if let Ok(netns) = self.networks.kernel.namespace(&place) {
                self.engine.end_addresses(netns.identity(), addresses);
            }
        }
    }

    fn tick(&mut self) {
        self.ticks = self.ticks.wrapping_add(1);
        if self.ticks.is_multiple_of(TICKS_PER_OBSERVATION) {
            self.networks.round(&self.desired, None);
        } else {
            let due: BTreeSet<NetworkKey> = self.networks.degraded.due(Instant::now()).collect();
            if !due.is_empty() {
                self.networks.round(&self.desired, Some(&due));
            }
        }
        self.end_withdrawn();
        self.publisher.rotate_tickets();
        self.republish_if_stale();
        self.republish_if_freed();
        if self.running != self.generation {
            // A worker did not answer in time.
            self.republish();
        }
        let changed = self.sample();
        if !changed.is_empty() {
            self.networks.round(&self.desired, Some(&changed));
        }
        self.report_drops();
        self.show();
    }

    /// Asks the workers what they counted. Each answers between two turns of its loop, so they are
    /// asked once for whatever is done with it.
    fn count(&mut self) {
        self.counters = Arc::new(self.engine.counters().clone());
    }

    /// Hands everything that was counted to the store.
    fn sample(&mut self) -> BTreeSet<NetworkKey> {
        self.count();
        let clients = self.engine.take_clients();
        self.networks.sample(&self.desired, &clients)
    }

    /// Counts for those who have networks, keys, addresses and routes now: after a change takes hold,
    /// what is counted is for whoever has them then.
    fn sample_before(&mut self, changing: &BTreeSet<NetworkKey>) {
        self.count();
        let clients = self.engine.take_clients();
        self.networks.sample_some(changing, &clients);
    }

    fn begin_drain(&mut self, until: Drain) {
        let workers = self.engine.begin_drain(until.deadline);
        match &mut self.draining {
            // Only moves the deadline: the workers answer to whoever began.
            Some(draining) => draining.deadline = until.deadline,
            None => {
                self.draining = Some(Draining {
                    workers,
                    deadline: until.deadline,
                });
                // Whoever balances load over gateways learns it before clients are refused longer.
                self.show();
            }
        }
    }

    /// Whether clients are accepted and every worker runs the desired state.
    fn is_ready(&self) -> bool {
        self.draining.is_none() && self.running == self.generation
    }

    /// Counts a last time. Networks stay as they are: the next start takes them over.
    fn finish(mut self) -> Ended {
        let draining = self.draining.take();
        let drained = draining.map(|it| self.engine.finish(&it.workers, Duration::ZERO));
        let clients = drained.as_ref().map(|drained| drained.clients.as_slice());
        self.networks
            .sample(&self.desired, clients.unwrap_or_default());
        Ended { drained }
    }

    fn report_drops(&mut self) {
        let dropped = self.counters.records_dropped;
        if dropped > self.drops_reported {
            let new = dropped - self.drops_reported;
            tracing::warn!(
                new,
                dropped,
                "connection records were dropped: their reader is slow"
            );
            self.drops_reported = dropped;
        }
    }
}

/// What is shown until there has been a look.
fn first_view(
    desired: &Arc<Desired>,
    generation: u64,
    owners: &Arc<BTreeMap<Owner, u64>>,
) -> Arc<View> {
    Arc::new(View {
        desired: Arc::clone(desired),
        generation,
        owners: Arc::clone(owners),
        running_generation: generation,
        status: Status::default().into(),
        counters: Arc::default(),
        reconciles: Reconciles::default(),
        ready: false,
    })
}

/// Who has to carry the packets; absent where it does not matter.
pub(crate) fn wanted_backend(boot: &Boot) -> Option<Backend> {
    match boot.wireguard.backend {
        WireGuardBackend::Auto => None,
        WireGuardBackend::Kernel => Some(Backend::Kernel),
        WireGuardBackend::Userspace => Some(Backend::Userspace),
    }
}

/// Why a desired state is not begun with.
fn misfit(problems: &Problems) -> anyhow::Error {
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let problems = problems.join("; ");
    anyhow::anyhow!("the desired state does not fit the boot file: {problems}")
}
