//! Two looks at the gateway, and the rates between them.

use std::time::Instant;

use control_api::{
    answer::{NetworkStatus, PeerStatus, RouteStatus, Status, WorkerStatus},
    state::PublicKey,
};

/// The latest look beside the one before it, when there is one of the same process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair<'a> {
    latest: &'a Status,
    earlier: Option<&'a Status>,
    milliseconds: u128,
}

/// A network; rates in bytes a second.
#[derive(Clone, Copy, Debug)]
pub(super) struct NetworkRow<'a> {
    pub(super) port: u16,
    pub(super) status: &'a NetworkStatus,
    pub(super) peers_connected: usize,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

/// A peer; rates in bytes a second.
#[derive(Clone, Copy, Debug)]
pub(super) struct PeerRow<'a> {
    pub(super) key: &'a PublicKey,
    pub(super) status: &'a PeerStatus,
    pub(super) received: u64,
    pub(super) sent: u64,
}

/// A route; rates in bytes and connections a second.
#[derive(Clone, Copy, Debug)]
pub(super) struct RouteRow<'a> {
    pub(super) status: &'a RouteStatus,
    pub(super) opened: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

/// A worker; rates in bytes and connections a second.
#[derive(Clone, Copy, Debug)]
pub(super) struct WorkerRow<'a> {
    pub(super) status: &'a WorkerStatus,
    pub(super) accepted: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

/// The rows of a pair, or none before the first look.
pub(super) fn rows_of<'a, T, R: Iterator<Item = T>>(
    pair: Option<Pair<'a>>,
    rows: impl FnOnce(Pair<'a>) -> R,
) -> Vec<T> {
    pair.map(|pair| rows(pair).collect()).unwrap_or_default()
}

impl<'a> Pair<'a> {
    pub(super) fn new(
        latest: &'a Status,
        at: Instant,
        earlier: Option<&'a (Instant, Status)>,
    ) -> Self {
        let milliseconds = earlier.map_or(0, |(before, _)| at.duration_since(*before).as_millis());
        Self {
            latest,
            earlier: earlier.map(|(_, status)| status),
            milliseconds,
        }
    }

    /// Per second. A counter that went back began again: it says nothing about this second. One
    /// that was not there before may have grown for long.
    fn rate(self, earlier: Option<u64>, latest: u64) -> u64 {
        let Some(earlier) = earlier.filter(|_| self.milliseconds > 0) else {
            return 0;
        };
        let grown = u128::from(latest.saturating_sub(earlier));
        u64::try_from(grown * 1000 / self.milliseconds).unwrap_or(u64::MAX)
    }

    fn network_before(self, port: u16) -> Option<&'a NetworkStatus> {
        self.earlier.and_then(|status| status.networks.get(&port))
    }

    pub(super) fn networks(self) -> impl Iterator<Item = NetworkRow<'a>> {
        self.latest.networks.iter().map(move |(&port, status)| {
            let before = self.network_before(port);
            let (received, sent) = self.peers(port).fold((0_u64, 0_u64), |sum, peer| {
                (
                    sum.0.saturating_add(peer.received),
                    sum.1.saturating_add(peer.sent),
                )
            });
            NetworkRow {
                port,
                status,
                peers_connected: status.peers.values().filter(|peer| peer.connected).count(),
                received,
                sent,
                bytes_in: self.rate(before.map(|before| before.bytes_in), status.bytes_in),
                bytes_out: self.rate(before.map(|before| before.bytes_out), status.bytes_out),
            }
        })
    }

    pub(super) fn peers(self, port: u16) -> impl Iterator<Item = PeerRow<'a>> {
        let latest = self.latest.networks.get(&port);
        let before = self.network_before(port);
        let peers = latest.into_iter().flat_map(|network| &network.peers);
        peers.map(move |(key, status)| {
            let before = before.and_then(|network| network.peers.get(key));
            PeerRow {
                key,
                status,
                received: self.rate(before.map(|before| before.rx), status.rx),
                sent: self.rate(before.map(|before| before.tx), status.tx),
            }
        })
    }

    pub(super) fn routes(self, port: u16) -> impl Iterator<Item = RouteRow<'a>> {
        let routes = |network: &'a NetworkStatus| network.routes.as_slice();
        let latest = self.latest.networks.get(&port).map_or(&[][..], routes);
        let before = self.network_before(port).map_or(&[][..], routes);
        latest.iter().map(move |status| {
            let before = before.iter().find(|before| before.route == status.route);
            RouteRow {
                status,
                opened: self.rate(before.map(|before| before.opened), status.opened),
                bytes_in: self.rate(before.map(|before| before.bytes_in), status.bytes_in),
                bytes_out: self.rate(before.map(|before| before.bytes_out), status.bytes_out),
            }
        })
    }

    pub(super) fn workers(self) -> impl Iterator<Item = WorkerRow<'a>> {
        let before = self
            .earlier
            .map_or(&[][..], |status| status.workers.as_slice());
        self.latest.workers.iter().map(move |status| {
            let before = before.iter().find(|before| before.worker == status.worker);
            WorkerRow {
                status,
                accepted: self.rate(before.map(|before| before.accepted), status.accepted),
                bytes_in: self.rate(before.map(|before| before.bytes_in), status.bytes_in),
                bytes_out: self.rate(before.map(|before| before.bytes_out), status.bytes_out),
            }
        })
    }
}

impl NetworkRow<'_> {
    /// Whether a filter's text is in the network's name or namespace, its state, or one of its
    /// peers or routes.
    pub(super) fn matches(&self, filter: &str) -> bool {
        let network = self.status;
        network.name.contains(filter)
            || network.namespace.contains(filter)
            || network.state.word().contains(filter)
            || network
                .routes
                .iter()
                .any(|route| route.route.contains(filter))
            || network
                .peers
                .keys()
                .any(|key| key.to_string().contains(filter))
    }
}
