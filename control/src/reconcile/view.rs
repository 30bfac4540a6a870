//! What the API shows: desired against actual, as of the last look.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use control_api::{
    answer::{
        self, Degradation, DeviceStatus, GenerationStatus, ListenerStatus, NetworkState,
        NetworkStatus, PeerStatus, RouteStatus, Status, StoreStatus, TargetStatus, WireGuardStatus,
        WorkerStatus,
    },
    boot::Protocol,
    place::NetworkKey,
    state::{Desired, Namespace, Network, PublicKey, Route, Scheme, Terminated, WireGuard},
};
use control_http::{LazyStatus, View};
use control_plan::actual;
use control_store::Health as StoreHealth;
use engine::{Counters, Failure, RouteCounters};
use engine_core::snapshot::{self, Snapshot};
use rpds::RedBlackTreeMapSync;

use super::{
    Reconciler, clock::unix_now, owners::PublicKeys, peers::SeenPeers, unserved::targets_down,
};

/// Routes of a network beyond which those that were never used are left out of its status.
const UNUSED_ROUTES_SHOWN_MAX: usize = 100;
/// Failing targets that are shown of a route.
const FAILING_SHOWN_MAX: usize = 16;

impl Reconciler {
    /// Shows everything as it is now, with what was counted when the workers were asked last.
    pub(super) fn show(&mut self) {
        self.down = targets_down(self.engine.snapshot(), unix_now().as_secs());
        self.show_but_targets();
    }

    /// The same after a change of some networks. All targets are looked at once a second: a change would
    /// cost what there are of them.
    pub(super) fn show_change(&mut self, networks: &BTreeSet<NetworkKey>) {
        let concerns = |down: &Degradation| {
            let network = down.network.and_then(NetworkKey::new);
            network.is_some_and(|network| networks.contains(&network))
        };
        match self.down.iter().any(concerns) {
            true => self.show(),
            false => self.show_but_targets(),
        }
    }

    fn show_but_targets(&mut self) {
        let unserved = self.find_unserved();
        self.degradations.take(unserved, unix_now().as_secs());
        // While the store takes nothing, its own events wait with all others.
        if self.networks.store.accounts().health().ok {
            let news = self.degradations.take_news();
            self.networks.news.tell(news);
        }
        let picture = self.picture();
        let view = View {
            desired: Arc::clone(&self.desired),
            generation: self.generation,
            owners: Arc::clone(&self.owners),
            running_generation: self.running,
            status: LazyStatus::new(move || picture.status()),
            counters: Arc::clone(&self.counters),
            reconciles: self.networks.reconciles,
            ready: self.is_ready(),
        };
        self.view.send_replace(Arc::new(view));
    }

    /// Everything that the status tells of, shared with what goes on: taking it costs nothing for each
    /// network.
    fn picture(&self) -> Picture {
        let counters = &self.counters;
        Picture {
            desired: Arc::clone(&self.desired),
            generation: GenerationStatus {
                desired: self.generation,
                running: self.running,
            },
            pending: self.pending.clone(),
            snapshot: self.engine.snapshot().clone(),
            counters: Arc::clone(counters),
            public_keys: self.networks.owners.public_keys().clone(),
            devices: self.networks.devices.clone(),
            peers: self.networks.peers.all().clone(),
            degraded: self.degradations.list().to_vec(),
            wireguard: WireGuardStatus {
                backend: Some(backend(self.networks.kernel.backend())),
                reason: self.backend_reason().to_owned(),
            },
            listeners: self.listener_status(counters),
            workers: self.workers(counters),
            store: self.boot.store.clone(),
            health: self.networks.store.accounts().health(),
            warnings: self.find_warnings(),
            started: self.started,
            ready: self.is_ready(),
        }
    }

    /// Why the backend is the one that it is.
    fn backend_reason(&self) -> &'static str {
        match (self.networks.backend, self.networks.kernel.backend()) {
            (Some(_), _) => "wireguard.backend says so",
            (None, actual::Backend::Kernel) => "the kernel has the module",
            (None, actual::Backend::Userspace) => "this kernel has no WireGuard module",
        }
    }

    fn listener_status(&self, counters: &Counters) -> Vec<ListenerStatus> {
        let listeners = self.listeners().iter();
        let bound = listeners.filter_map(|it| Some((it, self.engine.address(it.id)?)));
        let status = bound.map(|(listener, address)| ListenerStatus {
            name: listener.name.to_string(),
            bind: address.to_string(),
            protocol: match listener.terms.protocol {
                Protocol::Tls => "tls".to_owned(),
                Protocol::Tcp => "tcp".to_owned(),
                Protocol::Http => "http".to_owned(),
                Protocol::Https => "https".to_owned(),
            },
            accepted: counters
                .listeners
                .get(&listener.id)
                .map_or(0, |it| it.tally.accepted),
        });
        status.collect()
    }

    fn workers(&self, counters: &Counters) -> Vec<WorkerStatus> {
        let status = counters.workers.iter().map(|worker| WorkerStatus {
            worker: worker.state.id,
            generation: self.publisher.generation_of(worker.state.generation),
            connections: worker.state.live,
            accepted: worker.accepted,
            bytes_in: worker.bytes_in,
            bytes_out: worker.bytes_out,
        });
        status.collect()
    }
}

/// What a status is made from.
struct Picture {
    desired: Arc<Desired>,
    generation: GenerationStatus,
    /// Networks that a new state is being made for.
    pending: BTreeSet<NetworkKey>,
    snapshot: Snapshot,
    counters: Arc<Counters>,
    public_keys: PublicKeys,
    devices: RedBlackTreeMapSync<NetworkKey, DeviceStatus>,
    peers: SeenPeers,
    degraded: Vec<Degradation>,
    wireguard: WireGuardStatus,
    listeners: Vec<ListenerStatus>,
    workers: Vec<WorkerStatus>,
    /// The file of the store.
    store: PathBuf,
    health: StoreHealth,
    warnings: Vec<String>,
    started: Duration,
    ready: bool,
}

impl Picture {
    fn status(self) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started.as_secs(),
            // As of the request, the API knows.
            uptime_seconds: 0,
            ready: self.ready,
            generation: self.generation,
            networks: self.networks(),
            wireguard: self.wireguard,
            listeners: self.listeners,
            workers: self.workers,
            store: StoreStatus {
                bytes: store_bytes(&self.store),
                ok: self.health.ok,
                since: self.health.since,
                error: self.health.error,
            },
            degraded: self.degraded,
            warnings: self.warnings,
        }
    }

    fn networks(&self) -> BTreeMap<u16, NetworkStatus> {
        let by_network = by_network(&self.counters);
        let mut reasons = self.reasons();
        let mut failing_of: HashMap<&str, HashMap<&str, Vec<TargetStatus>>> = HashMap::new();
        for route in self.snapshot.routes() {
            let targets = failing(route);
            if !targets.is_empty() {
                let network = failing_of.entry(&route.network.name).or_default();
                network.insert(&route.label, targets);
            }
        }
        let networks = self.desired.networks.values().map(|network| {
            let routes = by_network.get(&*network.name().to_string());
            let routes = routes.map(Vec::as_slice).unwrap_or_default();
            let port = network.port.get();
            let reasons = reasons.remove(&port).unwrap_or_default();
            let failing = failing_of.remove(&*network.name().to_string());
            let failing = failing.unwrap_or_default();
            (port, self.network(network, routes, reasons, failing))
        });
        networks.collect()
    }

    /// Why networks are degraded, by their ports.
    fn reasons(&self) -> BTreeMap<u16, Vec<String>> {
        let mut reasons: BTreeMap<u16, Vec<String>> = BTreeMap::new();
        for degraded in &self.degraded {
            let Some(port) = degraded.network else {
                continue;
            };
            let reason = match degraded.object == format!("network-{port}") {
                true => degraded.why.clone(),
                false => format!("{}: {}", degraded.object, degraded.why),
            };
            reasons.entry(port).or_default().push(reason);
        }
        reasons
    }

    fn network(
        &self,
        network: &Network,
        routes: &[&RouteCounters],
        reasons: Vec<String>,
        mut failing: HashMap<&str, Vec<TargetStatus>>,
    ) -> NetworkStatus {
        let port = network.port;
        let GenerationStatus { desired, running } = self.generation;
        let is_running = running == desired || !self.pending.contains(&port);
        let sum = |count: fn(&RouteCounters) -> u64| routes.iter().map(|route| count(route)).sum();
        NetworkStatus {
            name: network.name().to_string(),
            namespace: match &network.namespace {
                Namespace::Own => network.name().to_string(),
                Namespace::Host => "host".to_owned(),
                Namespace::Existing(name) => name.as_str().to_owned(),
            },
            state: match reasons.is_empty() {
                false => NetworkState::Degraded,
                true if is_running => NetworkState::Ok,
                true => NetworkState::Pending,
            },
            reasons,
            public_key: self.public_keys.get(&port).copied(),
            device: self.devices.get(&port).cloned(),
            peers: match &network.wireguard {
                Some(wireguard) => self.peers(port, wireguard),
                None => BTreeMap::new(),
            },
            routes: with_targets(route_statuses(network, routes), &mut failing),
            connections: sum(|route| route.tally.live()),
            bytes_in: sum(|route| route.tally.bytes_in),
            bytes_out: sum(|route| route.tally.bytes_out),
        }
    }

    fn peers(&self, network: NetworkKey, wireguard: &WireGuard) -> BTreeMap<PublicKey, PeerStatus> {
        let known = self.peers.get(&network);
        let statuses = wireguard.peers.iter().map(|(key, peer)| {
            let seen = known.and_then(|peers| peers.get(key));
            let seen = seen.copied().unwrap_or_default();
            let look = seen.look.unwrap_or_default();
            let status = PeerStatus {
                endpoint: look.endpoint.or(peer.endpoint),
                last_handshake: look.last_handshake.map(|at| at.as_secs()),
                connected: seen.is_connected,
                rx: seen.total.rx,
                tx: seen.total.tx,
                allowed_ips: peer.allowed_ips.clone(),
            };
            (*key, status)
        });
        statuses.collect()
    }
}

/// A device as answers show it.
pub(super) fn device_status(port: NetworkKey, device: &actual::ActualDevice) -> DeviceStatus {
    DeviceStatus {
        name: format!("wg{port}"),
        backend: backend(device.backend),
        up: device.is_up,
        mtu: device.mtu,
        addresses: device.addresses.iter().copied().collect(),
        listen_port: device.listen_port,
    }
}

fn backend(backend: actual::Backend) -> answer::Backend {
    match backend {
        actual::Backend::Kernel => answer::Backend::Kernel,
        actual::Backend::Userspace => answer::Backend::Userspace,
    }
}

/// The size of the database and of its log, as far as there are any.
fn store_bytes(file: &Path) -> u64 {
    let log = PathBuf::from(format!("{}-wal", file.display()));
    let bytes = |file: &Path| fs::metadata(file).map_or(0, |file| file.len());
    bytes(file) + bytes(&log)
}

fn by_network(counters: &Counters) -> BTreeMap<&str, Vec<&RouteCounters>> {
    let mut networks: BTreeMap<&str, Vec<&RouteCounters>> = BTreeMap::new();
    for route in counters.routes.values() {
        networks.entry(&route.network).or_default().push(route);
    }
    networks
}

/// The routes that were used, and then those that were not, as many as are shown.
fn route_statuses(network: &Network, used: &[&RouteCounters]) -> Vec<RouteStatus> {
    let mut statuses: Vec<RouteStatus> = used.iter().map(|route| route_status(route)).collect();
    let labels: BTreeSet<&str> = used.iter().map(|route| &*route.label).collect();
    let terminated = Terminated::of(network);
    let names = network.proxy.keys().filter_map(|key| match key.scheme {
        Scheme::Https if terminated.passes(key) => Some(key.pattern.to_string()),
        Scheme::Https => Some(key.to_string()),
        Scheme::Http | Scheme::Ssh => None,
    });
    let served = names.chain(network.served_routes().map(Route::label));
    let unused = served.filter(|label| !labels.contains(&**label));
    let room = UNUSED_ROUTES_SHOWN_MAX.saturating_sub(statuses.len());
    statuses.extend(unused.take(room).map(|route| RouteStatus {
        route,
        ..RouteStatus::default()
    }));
    statuses
}

fn route_status(route: &RouteCounters) -> RouteStatus {
    RouteStatus {
        route: route.label.to_string(),
        connections: route.tally.live(),
        opened: route.tally.opened,
        bytes_in: route.tally.bytes_in,
        bytes_out: route.tally.bytes_out,
        targets: Vec::new(),
    }
}

/// The same, with the targets that fail, by the label of their routes.
fn with_targets(
    mut routes: Vec<RouteStatus>,
    failing: &mut HashMap<&str, Vec<TargetStatus>>,
) -> Vec<RouteStatus> {
    for route in &mut routes {
        route.targets = failing.remove(&*route.route).unwrap_or_default();
    }
    routes
}

/// The targets of a route that failed or are down, as far as they are shown.
fn failing(route: &snapshot::Route) -> Vec<TargetStatus> {
    let failing = route.targets.iter().filter_map(|target| {
        let (down, last) = (target.health.is_down(), Failure::last_of(target));
        (down || last.is_some()).then(|| TargetStatus {
            target: target.endpoint.to_string(),
            down,
            last_error: last.map(|(failure, _)| failure.label().to_owned()),
            last_error_at: last.map(|(_, at)| at),
        })
    });
    failing.take(FAILING_SHOWN_MAX).collect()
}
