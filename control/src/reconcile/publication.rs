//! What the workers route by: from the desired state and the namespaces as they are now.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::SystemTime};

use anyhow::Context as _;
use control_api::{Problems, boot::Listener, state::Desired};
use control_kernel::{Linux, linux::Refusal};
use control_plan::{Held, Ids, NameServers, NamespaceSource, Planned, PlannedListener, publish};
use control_store::Store;
use engine::{Engine, Publication};
use engine_core::{
    ids::{Generation, NetworkId},
    shared_map::SharedMap,
    snapshot::Snapshot,
};
use engine_sys::netns::Identity;
use rustls::crypto::ring;

use super::{
    LeftOut, Reconciler, resolv_conf,
    tls::{Failure, Tls},
};
use crate::ports::{Ports, Unbound};

/// Publications whose desired generation is remembered. Workers answer every publication, so this
/// many are never outstanding.
const REMEMBERED_MAX: usize = 64;

/// Gives out publications, and knows what each of them stands for.
#[derive(Debug)]
pub(crate) struct Publisher {
    ids: Ids,
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
    /// The host's name servers, where a network goes by them.
    of_host: Option<Arc<[SocketAddr]>>,
    /// Those that workers hold and whose names are gone, and why they cannot be had any more.
    gone: BTreeMap<NamespaceSource, String>,
}

/// A publication without its namespaces. Nothing changes if it comes to nothing.
#[derive(Debug)]
pub(crate) struct Prepared {
    planned: Planned,
    ids: Ids,
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
            ids: Ids::with_secret(secret),
            tls,
            count: 0,
            generations: BTreeMap::new(),
            held: BTreeMap::new(),
            missing: BTreeMap::new(),
            ports,
            listeners: Vec::new(),
            of_host: None,
            gone: BTreeMap::new(),
        })
    }

    /// Takes a new key for session tickets where one is due.
    pub(super) fn rotate_tickets(&self) {
        self.tls.rotate_tickets(SystemTime::now());
    }

    /// Makes the snapshot of a desired state, and of what is left out of it.
    ///
    /// # Errors
    /// Every listener that leads to a network that the state does not have.
    pub(crate) fn prepare(
        &self,
        desired: &Desired,
        left_out: &[LeftOut],
        listeners: &[Listener],
        previous: Option<&Snapshot>,
    ) -> Result<Prepared, Problems> {
        let mut ids = self.ids.clone();
        let generation = Generation(self.count + 1);
        let held: Vec<Held> = left_out.iter().map(LeftOut::held).collect();
        let planned = publish(desired, &held, listeners, &mut ids, generation, previous)?;
        Ok(Prepared { planned, ids })
    }

    /// Opens the namespaces of a publication that stands for a desired generation. One that cannot
    /// be had fails the connections of its own networks only, and is said once.
    pub(crate) fn open(
        &mut self,
        prepared: Prepared,
        desired: u64,
        kernel: &mut Linux,
    ) -> Publication {
        let Prepared { planned, ids } = prepared;
        self.ids = ids;
        self.count = planned.snapshot.generation().0;
        self.generations.insert(self.count, desired);
        while self.generations.len() > REMEMBERED_MAX {
            self.generations.pop_first();
        }
        let mut namespaces = SharedMap::new();
        let mut missing = BTreeMap::new();
        self.held.clear();
        for (id, source) in planned.namespaces {
            match kernel.namespace(&source) {
                Ok(netns) => {
                    self.held.insert(source, netns.identity());
                    namespaces.insert(id, netns);
                }
                Err(error) => {
                    let error = why(error);
                    if !self.missing.contains_key(&source) {
                        tracing::error!(error, "the networks of this namespace cannot be reached");
                    }
                    missing.insert(source, error);
                }
            }
        }
        self.missing = missing;
        self.gone.clear();
        self.listeners = planned.listeners;
        let (listeners, sockets) = self.ports.settle(&self.listeners, |place| {
            kernel.namespace(place).map_err(why)
        });
        let listeners = listeners.into_iter().map(|it| (it.id, Arc::new(it)));
        let name_servers = self.name_servers(planned.name_servers);
        Publication {
            snapshot: planned.snapshot,
            http: planned.http,
            tls: self.tls.publication(planned.tls),
            namespaces,
            name_servers,
            listeners: listeners.collect(),
            sockets,
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
    fn name_servers(
        &mut self,
        planned: BTreeMap<NetworkId, NameServers>,
    ) -> SharedMap<NetworkId, Arc<[SocketAddr]>> {
        let needs_host = planned.values().any(|it| *it == NameServers::Host);
        self.of_host = needs_host.then(|| resolv_conf::name_servers().into());
        let of_host = self.of_host.clone().unwrap_or_default();
        let servers = planned.into_iter().map(|(id, servers)| match servers {
            NameServers::Declared(servers) => (id, servers.into()),
            NameServers::Host => (id, Arc::clone(&of_host)),
        });
        servers.collect()
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
    pub(super) fn tls_failures(&self) -> &[Failure] {
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
        let previous = Some(self.engine.snapshot());
        let prepared = self.publisher.prepare(
            &self.desired,
            &self.left_out,
            &self.boot.listeners,
            previous,
        );
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
