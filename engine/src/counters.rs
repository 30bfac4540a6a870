//! What all workers counted, added up.

use std::{collections::BTreeMap, sync::Arc};

use engine_core::{
    ids::{NetworkId, RouteId},
    tally::Tally,
};

use crate::account::{ListenerTally, Report};

/// Everything that was counted since the start. Totals only grow, also over snapshots.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// By route; a route that was removed stays until the next publication after its end.
    pub routes: BTreeMap<RouteId, RouteCounters>,
    /// By network: the sum of all routes that it ever had.
    pub networks: BTreeMap<NetworkId, RouteCounters>,
    /// By listener, in the order of the configuration.
    pub listeners: Vec<ListenerTally>,
    /// Connection records that found no room in the log's channel.
    pub records_dropped: u64,
    /// Connections that moved to splice.
    pub splices: u64,
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
    pub(crate) fn new(listeners: usize) -> Self {
        Self {
            listeners: vec![ListenerTally::default(); listeners],
            ..Self::default()
        }
    }

    /// Adds what one worker counted since it was last asked.
    pub(crate) fn add(&mut self, report: &Report) {
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
        for (mine, theirs) in self.listeners.iter_mut().zip(&report.listeners) {
            mine.add(theirs);
        }
        self.records_dropped += report.records_dropped;
        self.splices += report.splices;
    }
}
