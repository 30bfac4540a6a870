//! What the workers route by: from the desired state and the namespaces as they are now.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::SystemTime,
};

use anyhow::Context as _;
use control_api::{Problems, boot::Listener, state::Desired};
use control_kernel::{Linux, linux::Refusal};
use control_plan::{
    Held, Ids, Input, NameServers, NamespaceSource, Planned, PlannedListener, Planner, Running,
};
use control_store::Store;
use engine::{Engine, Publication};
use engine_core::ids::{Generation, NetnsId, NetworkId};
use engine_sys::netns::Identity;
use rustls::crypto::ring;

use super::{
    LeftOut, Reconciler, resolv_conf,
    tls::{Failed, Tls},
};
use crate::ports::{Ports, Unbound};

/// Publications whose desired generation is remembered. Workers answer every publication, so this
/// many are never outstanding.
const REMEMBERED_MAX: usize = 64;

/// Gives out publications, and knows what each of them stands for.
#[derive(Debug)]
pub(crate) struct Publisher {
    planner: Planner,
    tls: Tls,
    /// How many there were: the engine's own generation.
    count: u64,
    /// The desired state that each of the last publications stands for.
    generations: BTreeMap<u64, u64>,
    /// The namespaces that workers hold.
    held: BTreeMap<NamespaceSource, Identity>,
    /// Those that could not be had, and why.
    missing: BTreeMap<NamespaceSource, String>,
    ports: Ports,
    /// The listeners of the last publication, those without a port among them.
    listeners: Vec<PlannedListener>,
    /// Which namespace each of the running publication is.
    sources: BTreeMap<NetnsId, NamespaceSource>,
    /// Those whose absence was said in publications before one that is made from nothing.
    known_missing: BTreeSet<NamespaceSource>,
    /// The networks that go by the host's name servers, and these where there are any such networks.
    by_host: BTreeSet<NetworkId>,
    of_host: Option<Arc<[SocketAddr]>>,
    /// Those that workers hold and whose names are gone, and why they cannot be had any more.
    gone: BTreeMap<NamespaceSource, String>,
}

/// A publication without its namespaces. Nothing changes if it comes to nothing.
#[derive(Debug)]
pub(crate) struct Prepared {
    planned: Planned,
    /// What the publication after it goes on from.
    next: Planner,
    /// What the workers run.
    running: Publication,
}

impl Publisher {
    /// Begins with nothing given out, and with the store's secret for what clients are given: their
    /// cookies lead where they led before a restart.
    ///
    /// # Errors
    /// When the kernel has no random numbers, or the store does not answer.
    pub(crate) fn start(tls: Tls, store: &Store, ports: Ports) -> anyhow::Result<Self> {
        let mut drawn = [0; 32];
        // Of the kernel's random numbers (getrandom(2)).
        let random = ring::default_provider().secure_random;
        let filled = random.fill(&mut drawn);
        filled.ok().context("no random numbers are to be had")?;
        let secret = store.secret("cookies", drawn).wait();
        let secret = secret.context("keeping the secret of cookies")?;
        Ok(Self {
            planner: Planner::new(Ids::with_secret(secret)),
            tls,
            count: 0,
            generations: BTreeMap::new(),
            held: BTreeMap::new(),
            missing: BTreeMap::new(),
            ports,
            listeners: Vec::new(),
            sources: BTreeMap::new(),
            known_missing: BTreeSet::new(),
            by_host: BTreeSet::new(),
            of_host: None,
            gone: BTreeMap::new(),
        })
    }

    /// Takes a new key for session tickets where one is due.
    pub(super) fn rotate_tickets(&self) {
        self.tls.rotate_tickets(SystemTime::now());
    }

    /// Plans the publication of a desired state, and of what is left out of it. It goes on from what the
    /// workers run, where that is what was published last.
    ///
    /// # Errors
    /// Every listener that leads to a network that the state does not have.
    pub(crate) fn prepare(
        &self,
        desired: &Desired,
        left_out: &[LeftOut],
        listeners: &[Listener],
        running: Option<Publication>,
    ) -> Result<Prepared, Problems> {
        let generation = Generation(self.count + 1);
        let held: Vec<Held> = left_out.iter().map(LeftOut::held).collect();
        let mut planner = self.planner.clone();
        if !self.tls.failures().is_empty() {
            // What could not be made may be made now.
            planner.forget();
        }
        let (planned, next) = planner.plan(Input {
            desired,
            held: &held,
            listeners,
            generation,
            running: running.as_ref().map(|running| Running {
                snapshot: &running.snapshot,
                http: &running.http,
            }),
        })?;
        let running = running.unwrap_or_default();
        Ok(Prepared {
            planned,
            next,
            running,
        })
    }

    /// Has the next publication made from nothing: for namespaces as they are then.
    pub(crate) fn begin_anew(&mut self) {
        self.planner.forget();
    }

    /// Opens the namespaces of a publication that stands for a desired generation. One that cannot
    /// be had fails the connections of its own networks only, and is said once.
    pub(crate) fn open(
        &mut self,
        prepared: Prepared,
        desired: u64,
        kernel: &mut Linux,
    ) -> Publication {
        let Prepared {
            planned,
            next,
            running,
        } = prepared;
        self.planner = next;
        self.count = planned.snapshot.generation().0;
        self.generations.insert(self.count, desired);
        while self.generations.len() > REMEMBERED_MAX {
            self.generations.pop_first();
        }
        let mut publication = match planned.gone {
            Some(_) => running,
            None => self.begin_from_nothing(),
        };
        publication.snapshot = planned.snapshot;
        publication.http = planned.http;
        let gone = planned.gone.as_ref();
        self.tls.take_up(&mut publication.tls, planned.tls, gone);
        let gone = planned.gone.unwrap_or_default();
        for id in gone.namespaces {
            publication.namespaces.remove(&id);
            if let Some(source) = self.sources.remove(&id) {
                self.held.remove(&source);
                self.missing.remove(&source);
            }
        }
        for (id, source) in planned.namespaces {
            self.open_namespace(&mut publication, (id, source), kernel);
        }
        for network in &gone.name_servers {
            self.by_host.remove(network);
            publication.name_servers.remove(network);
        }
        self.take_name_servers(&mut publication, planned.name_servers);
        self.gone.clear();
        self.listeners = planned.listeners;
        let (listeners, sockets) = self.ports.settle(&self.listeners, |place| {
            kernel.namespace(place).map_err(why)
        });
        let listeners = listeners.into_iter().map(|it| (it.id, Arc::new(it)));
        publication.listeners = listeners.collect();
        publication.sockets = sockets;
        publication
    }

    /// A publication that nothing is in. What was said of namespaces that are missing is remembered.
    fn begin_from_nothing(&mut self) -> Publication {
        self.held.clear();
        self.sources.clear();
        self.by_host.clear();
        self.known_missing = std::mem::take(&mut self.missing).into_keys().collect();
        Publication::default()
    }

    fn open_namespace(
        &mut self,
        publication: &mut Publication,
        (id, source): (NetnsId, NamespaceSource),
        kernel: &mut Linux,
    ) {
        self.sources.insert(id, source.clone());
        match kernel.namespace(&source) {
            Ok(netns) => {
                self.missing.remove(&source);
                self.known_missing.remove(&source);
                self.held.insert(source, netns.identity());
                let is_held = publication.namespaces.get(&id);
                let is_held = is_held.is_some_and(|held| held.identity() == netns.identity());
                if !is_held {
                    publication.namespaces.insert(id, netns);
                }
            }
            Err(error) => {
                let error = why(error);
                let is_known =
                    self.missing.contains_key(&source) || self.known_missing.contains(&source);
                if !is_known {
                    tracing::error!(error, "the networks of this namespace cannot be reached");
                }
                self.held.remove(&source);
                publication.namespaces.remove(&id);
                self.missing.insert(source, error);
            }
        }
    }

    /// The listeners of the last publication.
    pub(crate) fn listeners(&self) -> &[PlannedListener] {
        &self.listeners
    }

    /// Those of them that have no port, and why.
    pub(crate) fn unbound(&self) -> impl Iterator<Item = &Unbound> {
        self.ports.unbound()
    }

    /// Who is asked for the names of each network's targets, as the host says now where it has the say.
    fn take_name_servers(
        &mut self,
        publication: &mut Publication,
        planned: BTreeMap<NetworkId, NameServers>,
    ) {
        for (id, servers) in planned {
            let servers: Arc<[SocketAddr]> = match servers {
                NameServers::Declared(servers) => servers.into(),
                NameServers::Host => {
                    self.by_host.insert(id);
                    let of_host = self.of_host.take();
                    let of_host = of_host.unwrap_or_else(|| resolv_conf::name_servers().into());
                    Arc::clone(self.of_host.insert(of_host))
                }
            };
            let is_same = |held: &Arc<[SocketAddr]>| **held == *servers;
            if !publication.name_servers.get(&id).is_some_and(is_same) {
                publication.name_servers.insert(id, servers);
            }
        }
        if self.by_host.is_empty() {
            self.of_host = None;
        }
    }

    /// Notes that what the workers run stands for another desired generation, too: nothing in it
    /// concerns them.
    pub(crate) fn stands_for(&mut self, desired: u64) {
        self.generations.insert(self.count, desired);
    }

    /// Whether other namespaces are there now than the workers hold, or the host asks other name servers.
    /// Notes those namespaces whose names are gone.
    pub(crate) fn is_stale(&mut self, kernel: &mut Linux) -> bool {
        let of_host = self.of_host.as_ref();
        let mut is_stale = of_host.is_some_and(|held| **held != *resolv_conf::name_servers());
        self.gone.clear();
        for (source, held) in &self.held {
            match kernel.namespace(source) {
                Ok(netns) => is_stale |= netns.identity() != *held,
                // What Ringway made is bound again from the descriptor.
                Err(error) if matches!(source, NamespaceSource::Existing(_)) => {
                    self.gone.insert(source.clone(), why(error));
                }
                Err(_) => {}
            }
        }
        let mut missing = self.missing.keys();
        is_stale || missing.any(|source| kernel.namespace(source).is_ok())
    }

    /// Whether a port that could not be had can be had now.
    pub(crate) fn has_freed_port(&self, kernel: &mut Linux) -> bool {
        self.ports
            .has_freed(|place| kernel.namespace(place).map_err(why))
    }

    /// What of the TLS of the last publication could not be made, and is served to nobody.
    pub(super) fn tls_failures(&self) -> &BTreeMap<Failed, String> {
        self.tls.failures()
    }

    /// The namespaces that are not there, and why.
    pub(crate) fn missing(&self) -> BTreeMap<&NamespaceSource, &str> {
        let missing = self.missing.iter().chain(&self.gone);
        missing.map(|(source, why)| (source, &**why)).collect()
    }

    /// The desired generation that a publication stands for; 0 when that is long ago.
    pub(crate) fn generation_of(&self, publication: u64) -> u64 {
        self.generations
            .get(&publication)
            .copied()
            .unwrap_or_default()
    }
}

impl Reconciler {
    /// Publishes the state once more for the namespaces as they are now.
    pub(super) fn republish(&mut self) {
        self.publisher.begin_anew();
        let running = Some(self.engine.publication());
        let prepared =
            self.publisher
                .prepare(&self.desired, &self.left_out, &self.boot.listeners, running);
        match prepared {
            Ok(prepared) => self.hand_out(prepared),
            // It was published before with the same listeners.
            Err(_) => tracing::error!("the listeners name undeclared networks"),
        }
    }

    /// Hands a publication to the workers, and waits until every one of them runs it.
    pub(super) fn hand_out(&mut self, prepared: Prepared) {
        let publication = self
            .publisher
            .open(prepared, self.generation, &mut self.networks.kernel);
        if publish_to(&mut self.engine, publication, self.generation) {
            self.running = self.generation;
        }
    }

    /// Takes up namespaces that were missing or replaced. Workers that drain open no more connections
    /// for which that matters, and those that are done cannot take anything.
    pub(super) fn republish_if_stale(&mut self) {
        if self.draining.is_none() && self.publisher.is_stale(&mut self.networks.kernel) {
            self.republish();
        }
    }

    /// Takes up ports that could not be had before.
    pub(super) fn republish_if_freed(&mut self) {
        if self.draining.is_none() && self.publisher.has_freed_port(&mut self.networks.kernel) {
            self.republish();
        }
    }
}

/// Why a namespace cannot be had, in one line.
fn why(error: Refusal) -> String {
    let needs = error.missing_privilege();
    let error = anyhow::Error::from(error);
    match needs {
        Some(needs) => format!("{needs}: {error:#}"),
        None => format!("{error:#}"),
    }
}

/// Whether every worker runs it now.
pub(super) fn publish_to(engine: &mut Engine, publication: Publication, generation: u64) -> bool {
    let routes = publication.snapshot.len();
    match engine.publish(publication) {
        Ok(()) => {
            tracing::info!(generation, routes, "every worker runs the new state");
            true
        }
        Err(error) => {
            tracing::error!(generation, %error, "not every worker runs the new state");
            false
        }
    }
}
