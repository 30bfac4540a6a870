//! What is counted, cut down to the series that there may be.

use std::{collections::BTreeMap, sync::Arc};

use control_api::answer::{CertificatesView, NetworkStatus, PeerStatus, Status};
use engine::RouteCounters;
use engine_core::tally::Tally;

use crate::{
    front::{Reconciles, View},
    shared::Shared,
};

/// The label of everything that has no series of its own.
pub(super) const OTHER: &str = "other";

/// Everything that samples are taken from.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(super) view: Arc<View>,
    /// By name; those beyond the bound are summed under [`OTHER`].
    pub(super) networks: BTreeMap<String, NetworkSums>,
    /// Routes with series of their own: whole networks, in the order of their names.
    pub(super) routes: Vec<RouteCounters>,
    /// Peers with series of their own: whole networks, in the order of their ports.
    pub(super) peers: Vec<PeerSeries>,
    pub(super) certificates: Arc<CertificatesView>,
    /// When certificates with series of their own expire, with their names and sources.
    pub(super) expiring: Vec<(u64, String, String)>,
    pub(super) api: ApiCounts,
}

/// One network, or all those beyond the bound.
#[derive(Debug, Default)]
pub(super) struct NetworkSums {
    pub(super) tally: Tally,
    pub(super) peers: u64,
    pub(super) peers_connected: u64,
    pub(super) received: u64,
    pub(super) sent: u64,
}

/// One peer.
#[derive(Debug)]
pub(super) struct PeerSeries {
    pub(super) network: String,
    pub(super) peer: String,
    pub(super) status: PeerStatus,
}

/// What the API counted of itself.
#[derive(Debug)]
pub(super) struct ApiCounts {
    pub(super) answers: Vec<(&'static str, u64)>,
    pub(super) connections: u64,
    pub(super) connections_refused: u64,
    pub(super) event_clients: u64,
    pub(super) unauthorized: u64,
}

impl Scene {
    pub(super) fn of(shared: &Arc<Shared>) -> Self {
        let view = Arc::clone(&shared.front.view.borrow());
        let bounds = &shared.settings.metrics;
        let bound = |max: u32| usize::try_from(max).unwrap_or(usize::MAX);
        let taken = shared.settings.limits.event_clients_max.get();
        let free = shared.event_clients.available_permits();
        let certificates = Arc::clone(&shared.front.certificates.borrow());
        Self {
            expiring: expiring(&certificates, bound(bounds.certificates_max)),
            certificates,
            networks: networks(&view, bound(bounds.networks_max)),
            routes: routes(&view, bound(bounds.routes_max)),
            peers: peers(&view.status, bound(bounds.peers_max)),
            api: ApiCounts {
                answers: shared.tally.answers().to_vec(),
                connections: shared.tally.connections.count(),
                connections_refused: shared.tally.connections_refused.count(),
                event_clients: u64::from(taken).saturating_sub(free.try_into().unwrap_or(0)),
                unauthorized: shared.tally.unauthorized.count(),
            },
            view,
        }
    }

    pub(super) fn status(&self) -> &Status {
        &self.view.status
    }

    pub(super) fn reconciles(&self) -> Reconciles {
        self.view.reconciles
    }
}

/// Networks with a device have the peers' sums, networks that carried something have the engine's.
fn networks(view: &View, max: usize) -> BTreeMap<String, NetworkSums> {
    let mut sums: BTreeMap<String, NetworkSums> = BTreeMap::new();
    for status in view.status.networks.values() {
        sums.entry(status.name.clone())
            .or_default()
            .add_peers(status);
    }
    for counters in view.counters.networks.values() {
        let name = counters.label.to_string();
        sums.entry(name).or_default().tally.add(&counters.tally);
    }
    let beyond: Vec<String> = sums.keys().skip(max).cloned().collect();
    if !beyond.is_empty() {
        let mut other = NetworkSums::default();
        for name in beyond {
            if let Some(network) = sums.remove(&name) {
                other.add(&network);
            }
        }
        sums.insert(OTHER.to_owned(), other);
    }
    sums
}

impl NetworkSums {
    fn add_peers(&mut self, status: &NetworkStatus) {
        for peer in status.peers.values() {
            self.peers += 1;
            self.peers_connected += u64::from(peer.connected);
            self.received = self.received.saturating_add(peer.rx);
            self.sent = self.sent.saturating_add(peer.tx);
        }
    }

    fn add(&mut self, other: &Self) {
        self.tally.add(&other.tally);
        self.peers += other.peers;
        self.peers_connected += other.peers_connected;
        self.received = self.received.saturating_add(other.received);
        self.sent = self.sent.saturating_add(other.sent);
    }
}

fn routes(view: &View, max: usize) -> Vec<RouteCounters> {
    let mut by_network: BTreeMap<&str, Vec<&RouteCounters>> = BTreeMap::new();
    for counters in view.counters.routes.values() {
        by_network
            .entry(&counters.network)
            .or_default()
            .push(counters);
    }
    let mut kept: Vec<RouteCounters> = Vec::new();
    for routes in by_network.into_values() {
        if kept.len() + routes.len() > max {
            break;
        }
        kept.extend(merged(routes));
    }
    kept
}

/// A route that was removed and declared again has two ids for a while, and one label.
fn merged(routes: Vec<&RouteCounters>) -> Vec<RouteCounters> {
    let mut by_label: BTreeMap<&str, RouteCounters> = BTreeMap::new();
    for route in routes {
        by_label
            .entry(&route.label)
            .and_modify(|known| known.tally.add(&route.tally))
            .or_insert_with(|| route.clone());
    }
    by_label.into_values().collect()
}

/// Those that expire first. A file may have the name of another one, and then the sooner counts.
fn expiring(view: &CertificatesView, max: usize) -> Vec<(u64, String, String)> {
    let certificates = view.certificates.iter();
    let mut by_time: Vec<(u64, &str, &str)> = certificates
        .filter_map(|it| Some((it.not_after?, &*it.name, &*it.source)))
        .collect();
    by_time.sort_unstable();
    let mut known = std::collections::HashSet::new();
    by_time.retain(|(_, name, source)| known.insert((*name, *source)));
    let first = by_time.into_iter().take(max);
    first
        .map(|(at, name, source)| (at, name.to_owned(), source.to_owned()))
        .collect()
}

fn peers(status: &Status, max: usize) -> Vec<PeerSeries> {
    let mut kept = Vec::new();
    for network in status.networks.values() {
        if kept.len() + network.peers.len() > max {
            break;
        }
        kept.extend(network.peers.iter().map(|(key, peer)| PeerSeries {
            network: network.name.clone(),
            peer: key.to_string(),
            status: peer.clone(),
        }));
    }
    kept
}
