//! What all workers counted, added up.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use engine_core::{
    ids::{ListenerId, NetworkId, RouteId},
    tally::Tally,
};

use crate::context::{
    account::{ListenerTally, Report, WorkerState, clients::ClientReport},
    checked::TargetDown,
    lookups::LookupTally,
};

/// Everything that was counted since the start. Totals only grow, also over snapshots.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// By route; a route that was removed stays until the next publication after its end.
    pub routes: BTreeMap<RouteId, RouteCounters>,
    /// By network: the sum of all routes that it ever had.
    pub networks: BTreeMap<NetworkId, RouteCounters>,
    /// By listener; one that was removed stays until its last connection has ended.
    pub listeners: BTreeMap<ListenerId, ListenerCounters>,
    /// By worker.
    pub workers: Vec<WorkerCounters>,
    /// Connection records that found no room in the log's channel.
    pub records_dropped: u64,
    /// Request records that found no room in the request log's channel.
    pub requests_dropped: u64,
    /// Connections that moved to splice.
    pub splices: u64,
    /// Lookups of targets' names.
    pub lookups: LookupTally,
    /// Targets that fail their checks at this moment.
    pub targets_down: Vec<TargetDown>,
}

/// What was counted of one worker.
#[derive(Clone, Debug, Default)]
pub struct WorkerCounters {
    /// When it was last asked.
    pub state: WorkerState,
    /// Connections taken off its listeners' queues.
    pub accepted: u64,
    /// Bytes read from clients and accepted by upstreams.
    pub bytes_in: u64,
    /// Bytes read from upstreams and accepted by clients.
    pub bytes_out: u64,
}

/// What the connections of one client to one target moved since they were last taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTraffic {
    /// The route.
    pub route: RouteId,
    /// The route's label.
    pub label: Arc<str>,
    /// The network.
    pub network: NetworkId,
    /// The network's name.
    pub network_name: Arc<str>,
    /// Who took the connections.
    pub target: IpAddr,
    /// Who made them; absent for all those beyond the bound of clients that are told apart.
    pub client: Option<IpAddr>,
    /// Connections that a target took.
    pub connections: u64,
    /// Bytes read from the client and accepted by the target.
    pub bytes_in: u64,
    /// Bytes read from the target and accepted by the client.
    pub bytes_out: u64,
}

/// What clients moved, over all workers, until it is taken.
#[derive(Debug, Default)]
pub(crate) struct ClientsTraffic(HashMap<(RouteId, IpAddr, Option<IpAddr>), ClientTraffic>);

impl ClientsTraffic {
    pub(crate) fn add(&mut self, reports: Vec<ClientReport>) {
        for report in reports {
            let route = &report.route;
            let key = (route.id, report.target, report.client);
            let traffic = self.0.entry(key).or_insert_with(|| ClientTraffic {
                route: route.id,
                label: Arc::clone(&route.label),
                network: route.network,
                network_name: Arc::clone(&route.network_name),
                target: report.target,
                client: report.client,
                connections: 0,
                bytes_in: 0,
                bytes_out: 0,
            });
            traffic.connections += report.connections;
            traffic.bytes_in += report.bytes_in;
            traffic.bytes_out += report.bytes_out;
        }
    }

    pub(crate) fn take(&mut self) -> Vec<ClientTraffic> {
        std::mem::take(&mut self.0).into_values().collect()
    }
}

/// What was counted of one listener.
#[derive(Clone, Debug, Default)]
pub struct ListenerCounters {
    /// The listener's name.
    pub name: Arc<str>,
    /// The counters.
    pub tally: ListenerTally,
}

/// What was counted of one route or network.
#[derive(Clone, Debug)]
pub struct RouteCounters {
    /// The route's label, or the network's name.
    pub label: Arc<str>,
    /// The network's name.
    pub network: Arc<str>,
    /// The counters.
    pub tally: Tally,
}

impl Counters {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            workers: vec![WorkerCounters::default(); workers],
            ..Self::default()
        }
    }

    /// Adds what one worker counted since it was last asked.
    pub(crate) fn add(&mut self, report: &Report) {
        if let Some(worker) = self.workers.get_mut(usize::from(report.worker.id)) {
            worker.state = report.worker;
            worker.accepted += report
                .listeners
                .iter()
                .map(|(_, l)| l.accepted)
                .sum::<u64>();
            worker.bytes_in += report.routes.iter().map(|(_, t)| t.bytes_in).sum::<u64>();
            worker.bytes_out += report.routes.iter().map(|(_, t)| t.bytes_out).sum::<u64>();
        }
        for (name, tally) in &report.routes {
            let counters = |label: &Arc<str>| RouteCounters {
                label: Arc::clone(label),
                network: Arc::clone(&name.network_name),
                tally: Tally::default(),
            };
            let route = self
                .routes
                .entry(name.id)
                .or_insert_with(|| counters(&name.label));
            route.tally.add(tally);
            let network = self
                .networks
                .entry(name.network)
                .or_insert_with(|| counters(&name.network_name));
            network.tally.add(tally);
        }
        for (id, tally) in &report.listeners {
            if let Some(listener) = self.listeners.get_mut(id) {
                listener.tally.add(tally);
            }
        }
        self.records_dropped += report.records_dropped;
        self.requests_dropped += report.requests_dropped;
        self.splices += report.splices;
        self.lookups.add(&report.lookups);
    }
}
