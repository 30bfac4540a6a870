//! The counters of one worker: exact while a flow runs, handed over as differences.

pub(crate) mod clients;

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet},
    net::IpAddr,
    rc::Rc,
    sync::Arc,
};

use ahash::RandomState;
use engine_core::{
    ids::{ListenerId, NetworkId, RouteId},
    outcome::Outcome,
    snapshot::Route,
    tally::Tally,
};
use engine_http::refusal::Refusal;

use crate::context::{
    account::clients::{ClientReport, ClientTally, Clients, Moved},
    lookups::LookupTally,
    outliers::OutlierDetection,
    tls::tally::TlsTally,
};

/// What a worker counted since it was last asked.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Who and how it is; the ledger does not know.
    pub(crate) worker: WorkerState,
    pub(crate) routes: Vec<(Arc<RouteName>, Tally)>,
    pub(crate) clients: Vec<ClientReport>,
    pub(crate) listeners: Vec<(ListenerId, ListenerTally)>,
    pub(crate) lookups: LookupTally,
    pub(crate) records_dropped: u64,
    pub(crate) requests_dropped: u64,
    pub(crate) splices: u64,
}

/// A worker as it is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerState {
    /// Its number, from 0.
    pub id: u16,
    /// The generation of the snapshot that it routes by.
    pub generation: u64,
    /// Connections that live, from the accept on.
    pub live: u64,
}

/// What a listener counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTally {
    /// Connections taken off its queue, but for those that accepting failed with.
    pub accepted: u64,
    /// Hellos with an `encrypted_client_hello` extension.
    pub ech: u64,
    /// Times that no descriptor was left to accept with.
    pub exhausted: u64,
    /// Other failures of accept(2).
    pub accept_errors: u64,
    /// Ends by outcome; [`Outcome::ALL`] gives the order.
    pub outcomes: Vec<u64>,
    /// TLS handshakes that ended here.
    pub tls: TlsTally,
    /// HTTP messages that were refused, by reason; [`Refusal::ALL`] gives the order.
    pub refusals: Vec<u64>,
}

impl Default for ListenerTally {
    fn default() -> Self {
        let outcomes = vec![0; Outcome::ALL.len()];
        Self {
            accepted: 0,
            ech: 0,
            exhausted: 0,
            accept_errors: 0,
            outcomes,
            tls: TlsTally::default(),
            refusals: vec![0; Refusal::ALL.len()],
        }
    }
}

impl ListenerTally {
    /// Connections that were accepted and have not ended.
    pub fn live(&self) -> u64 {
        let ended: u64 = self.outcomes.iter().sum();
        self.accepted.saturating_sub(ended)
    }

    /// Adds what another one counted.
    pub fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.ech += other.ech;
        self.exhausted += other.exhausted;
        self.accept_errors += other.accept_errors;
        for (mine, theirs) in self.outcomes.iter_mut().zip(&other.outcomes) {
            *mine += theirs;
        }
        self.tls.add(&other.tls);
        for (mine, theirs) in self.refusals.iter_mut().zip(&other.refusals) {
            *mine += theirs;
        }
    }
}

/// A route, by all that counters and logs call it.
#[derive(Debug)]
pub(crate) struct RouteName {
    pub(crate) id: RouteId,
    pub(crate) label: Arc<str>,
    pub(crate) network: NetworkId,
    pub(crate) network_name: Arc<str>,
}

/// One worker's counters of one route. Live connections hold it, also when the route is gone.
#[derive(Debug)]
pub(crate) struct RouteTally {
    pub(crate) name: Arc<RouteName>,
    counted: RefCell<Tally>,
    is_dirty: Cell<bool>,
    turn: Cell<u64>,
    /// What its HTTP requests showed of its targets.
    pub(crate) outliers: OutlierDetection,
}

impl RouteTally {
    /// The number of this connection among the route's on this worker.
    pub(crate) fn take_turn(&self) -> u64 {
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        turn
    }
}

/// All that one worker counted since control last asked.
#[derive(Debug)]
pub(crate) struct Ledger {
    routes: RefCell<HashMap<RouteId, Rc<RouteTally>, RandomState>>,
    dirty: RefCell<Vec<Rc<RouteTally>>>,
    clients: Clients,
    listeners: RefCell<HashMap<ListenerId, ListenerTally, RandomState>>,
    lookups: Cell<LookupTally>,
    records_dropped: Cell<u64>,
    requests_dropped: Cell<u64>,
    splices: Cell<u64>,
}

impl Ledger {
    /// At most `clients_max` clients are told apart at once.
    pub(crate) fn new(clients_max: usize) -> Self {
        Self {
            routes: RefCell::default(),
            dirty: RefCell::default(),
            clients: Clients::new(clients_max),
            listeners: RefCell::default(),
            lookups: Cell::default(),
            records_dropped: Cell::new(0),
            requests_dropped: Cell::new(0),
            splices: Cell::new(0),
        }
    }

    /// The counters of a route, made at its first connection.
    pub(crate) fn route(&self, route: &Route) -> Rc<RouteTally> {
        let made = || {
            Rc::new(RouteTally {
                name: Arc::new(RouteName {
                    id: route.id,
                    label: Arc::clone(&route.label),
                    network: route.network.id,
                    network_name: Arc::clone(&route.network.name),
                }),
                counted: RefCell::default(),
                is_dirty: Cell::new(false),
                turn: Cell::new(0),
                outliers: OutlierDetection::default(),
            })
        };
        Rc::clone(
            self.routes
                .borrow_mut()
                .entry(route.id)
                .or_insert_with(made),
        )
    }

    /// Forgets routes that are gone. What their live connections still count is reported.
    pub(crate) fn forget(&self, gone: &[RouteId]) {
        let mut routes = self.routes.borrow_mut();
        for id in gone {
            routes.remove(id);
        }
    }

    /// Forgets what requests showed of targets that their routes do not have any more.
    pub(crate) fn follow(&self, replaced: &[Arc<Route>]) {
        let routes = self.routes.borrow();
        for route in replaced {
            if let Some(tally) = routes.get(&route.id) {
                tally.outliers.follow(route);
            }
        }
    }

    /// Forgets what requests showed of the targets of routes: they are other machines now.
    pub(crate) fn forget_standing(&self, moved: &HashSet<RouteId>) {
        let routes = self.routes.borrow();
        for tally in moved.iter().filter_map(|id| routes.get(id)) {
            tally.outliers.forget();
        }
    }

    /// Changes the counters of a route.
    pub(crate) fn count(&self, route: &Rc<RouteTally>, change: impl FnOnce(&mut Tally)) {
        change(&mut route.counted.borrow_mut());
        if !route.is_dirty.replace(true) {
            self.dirty.borrow_mut().push(Rc::clone(route));
        }
    }

    /// The counters of what a client moves through a target from now on.
    pub(crate) fn open_client(
        &self,
        route: &RouteTally,
        target: IpAddr,
        client: IpAddr,
    ) -> Rc<ClientTally> {
        self.clients.open(route, target, client)
    }

    /// Counts what moved between a client and its target.
    pub(crate) fn count_moved(&self, client: &Rc<ClientTally>, moved: Moved) {
        self.clients.count(client, moved);
    }

    /// Lets go of a client's counters at the end of its connection.
    pub(crate) fn close_client(&self, client: &Rc<ClientTally>) {
        self.clients.touch(client);
    }

    /// Changes the counters of a listener.
    pub(crate) fn count_listener(&self, id: ListenerId, change: impl FnOnce(&mut ListenerTally)) {
        change(self.listeners.borrow_mut().entry(id).or_default());
    }

    /// Changes the counters of lookups.
    pub(crate) fn count_lookups(&self, change: impl FnOnce(&mut LookupTally)) {
        let mut tally = self.lookups.get();
        change(&mut tally);
        self.lookups.set(tally);
    }

    /// Counts a record that found no room.
    pub(crate) fn count_dropped_record(&self) {
        self.records_dropped.set(self.records_dropped.get() + 1);
    }

    /// Counts the record of a request that found no room.
    pub(crate) fn count_dropped_request(&self) {
        self.requests_dropped.set(self.requests_dropped.get() + 1);
    }

    /// Counts a flow that moved to splice.
    pub(crate) fn count_splice(&self) {
        self.splices.set(self.splices.get() + 1);
    }

    /// Hands over everything counted since the last time, and starts again from zero.
    pub(crate) fn report(&self) -> Report {
        let take = |route: Rc<RouteTally>| {
            route.is_dirty.set(false);
            (Arc::clone(&route.name), route.counted.take())
        };
        Report {
            worker: WorkerState::default(),
            routes: self.dirty.take().into_iter().map(take).collect(),
            clients: self.clients.report(),
            listeners: self.listeners.take().into_iter().collect(),
            lookups: self.lookups.take(),
            records_dropped: self.records_dropped.take(),
            requests_dropped: self.requests_dropped.take(),
            splices: self.splices.take(),
        }
    }
}

#[cfg(test)]
mod tests {
    use engine_core::{
        balance::{Balance, Load},
        ids::NetnsId,
        snapshot::Network,
    };

    use super::*;

    fn route(id: u32) -> Route {
        let network = Arc::new(Network {
            id: NetworkId(7),
            name: "network-7".into(),
            netns: NetnsId(0),
            live: Load::default(),
        });
        let balance = Balance::default();
        Route {
            id: RouteId(id),
            label: "a.example".into(),
            network,
            targets: vec![],
            balance,
        }
    }

    #[test]
    fn a_report_has_what_changed_since_the_last_one_and_nothing_twice() {
        let ledger = Ledger::new(8);
        let tally = ledger.route(&route(1));
        let _quiet = ledger.route(&route(2));
        ledger.count(&tally, |tally| tally.bytes_in += 5);
        ledger.count(&tally, |tally| tally.bytes_in += 5);
        let report = ledger.report();
        assert_eq!(report.routes.len(), 1);
        assert_eq!(report.routes[0].1.bytes_in, 10);
        assert!(ledger.report().routes.is_empty());
        ledger.count(&tally, |tally| tally.bytes_in += 1);
        assert_eq!(ledger.report().routes[0].1.bytes_in, 1);
    }

    #[test]
    fn a_forgotten_route_still_reports_its_live_connections() {
        let ledger = Ledger::new(8);
        let held = ledger.route(&route(1));
        ledger.forget(&[RouteId(1)]);
        ledger.count(&held, |tally| tally.bytes_out += 3);
        let fresh = ledger.route(&route(1));
        ledger.count(&fresh, |tally| tally.bytes_out += 4);
        let report = ledger.report();
        let bytes: u64 = report.routes.iter().map(|(_, tally)| tally.bytes_out).sum();
        assert_eq!(bytes, 7);
    }
}
