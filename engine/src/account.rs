//! What is kept of a connection: counters that are exact while it runs, a record when it ends.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use ahash::RandomState;
use engine_core::{
    classify::{Hello, ServerName},
    ids::{ListenerId, NetworkId, RouteId, WorkerId},
    outcome::Outcome,
    snapshot::Route,
    tally::Tally,
};

/// One ended connection, as the connection log tells it.
#[derive(Clone, Debug)]
pub struct Record {
    /// When it was accepted.
    pub time: SystemTime,
    /// The listener's name.
    pub listener: Arc<str>,
    /// The worker that served it.
    pub worker: WorkerId,
    /// The client, as the PROXY protocol header says where one was accepted.
    pub client: SocketAddr,
    /// The hostname that it asked for.
    pub name: Option<Box<str>>,
    /// The first application protocol that it offered.
    pub alpn: Option<Box<[u8]>>,
    /// The hello carried an `encrypted_client_hello` extension (or GREASE that looks like one).
    pub ech: bool,
    /// The route's label.
    pub route: Option<Arc<str>>,
    /// The network's name.
    pub network: Option<Arc<str>>,
    /// The target that took the connection.
    pub target: Option<SocketAddr>,
    /// Bytes read from the client and accepted by the target.
    pub bytes_in: u64,
    /// Bytes read from the target and accepted by the client.
    pub bytes_out: u64,
    /// How long each stage took.
    pub durations: Durations,
    /// How bytes were moved: `copy`, `splice`, or `none` when there was no relay.
    pub relay: &'static str,
    /// How it ended.
    pub outcome: Outcome,
}

/// How long the stages of a connection took; `None` where it ended before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Durations {
    /// From the wake-up of the listener to the first stage.
    pub accept: Duration,
    /// To the whole hello.
    pub hello: Option<Duration>,
    /// From there to the connection that a target took.
    pub dial: Option<Duration>,
    /// From the accept to the first byte from the target.
    pub first_byte: Option<Duration>,
    /// From the accept to the end.
    pub total: Duration,
}

/// What a worker counted since it was last asked.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) routes: Vec<(Arc<RouteName>, Tally)>,
    pub(crate) listeners: Vec<ListenerTally>,
    pub(crate) records_dropped: u64,
    pub(crate) splices: u64,
}

/// What a listener counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTally {
    /// Connections taken off its queue.
    pub accepted: u64,
    /// Hellos with an `encrypted_client_hello` extension.
    pub ech: u64,
    /// Times that no descriptor was left to accept with.
    pub exhausted: u64,
    /// Other failures of accept(2).
    pub accept_errors: u64,
    /// Ends by outcome; [`Outcome::ALL`] gives the order.
    pub outcomes: Vec<u64>,
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
        }
    }
}

impl ListenerTally {
    /// Adds what another one counted.
    pub(crate) fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.ech += other.ech;
        self.exhausted += other.exhausted;
        self.accept_errors += other.accept_errors;
        for (mine, theirs) in self.outcomes.iter_mut().zip(&other.outcomes) {
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
    listeners: RefCell<Vec<ListenerTally>>,
    records_dropped: Cell<u64>,
    splices: Cell<u64>,
}

impl Ledger {
    pub(crate) fn new(listeners: usize) -> Self {
        Self {
            routes: RefCell::default(),
            dirty: RefCell::default(),
            listeners: RefCell::new(vec![ListenerTally::default(); listeners]),
            records_dropped: Cell::new(0),
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

    /// Changes the counters of a route.
    pub(crate) fn count(&self, route: &Rc<RouteTally>, change: impl FnOnce(&mut Tally)) {
        change(&mut route.counted.borrow_mut());
        if !route.is_dirty.replace(true) {
            self.dirty.borrow_mut().push(Rc::clone(route));
        }
    }

    /// Changes the counters of a listener.
    pub(crate) fn count_listener(&self, id: ListenerId, change: impl FnOnce(&mut ListenerTally)) {
        if let Some(tally) = self.listeners.borrow_mut().get_mut(usize::from(id.0)) {
            change(tally);
        }
    }

    /// Counts a record that found no room.
    pub(crate) fn count_dropped_record(&self) {
        self.records_dropped.set(self.records_dropped.get() + 1);
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
        let mut listeners = self.listeners.borrow_mut();
        let fresh = vec![ListenerTally::default(); listeners.len()];
        Report {
            routes: self.dirty.take().into_iter().map(take).collect(),
            listeners: std::mem::replace(&mut listeners, fresh),
            records_dropped: self.records_dropped.take(),
            splices: self.splices.take(),
        }
    }
}

/// What is learnt of a connection on its way through the stages.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) accepted_at: Instant,
    pub(crate) woken_at: Instant,
    pub(crate) client: SocketAddr,
    pub(crate) name: Option<Box<str>>,
    pub(crate) alpn: Option<Box<[u8]>>,
    pub(crate) ech: bool,
    pub(crate) hello_at: Option<Instant>,
    pub(crate) dialed_at: Option<Instant>,
    pub(crate) target: Option<SocketAddr>,
    pub(crate) route: Option<Rc<RouteTally>>,
    pub(crate) flow: Flow,
}

/// What moves, in the cells that both directions of a relay share.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    pub(crate) bytes_in: Cell<u64>,
    pub(crate) bytes_out: Cell<u64>,
    pub(crate) first_byte_at: Cell<Option<Instant>>,
    pub(crate) relayed_by: Cell<RelayedBy>,
}

/// How the bytes of a connection were moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RelayedBy {
    /// It never came to a relay.
    #[default]
    None,
    /// All of them through the scratch buffer.
    Copy,
    /// Some of them through a pipe.
    Splice,
}

impl RelayedBy {
    fn label(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Copy => "copy",
            Self::Splice => "splice",
        }
    }
}

impl Trace {
    pub(crate) fn new(client: SocketAddr, woken_at: Instant) -> Self {
        Self {
            accepted_at: Instant::now(),
            woken_at,
            client,
            name: None,
            alpn: None,
            ech: false,
            hello_at: None,
            dialed_at: None,
            target: None,
            route: None,
            flow: Flow::default(),
        }
    }

    /// Takes in what the hello says.
    pub(crate) fn learn(&mut self, hello: &Hello) {
        self.hello_at = Some(Instant::now());
        self.ech = hello.ech;
        self.alpn.clone_from(&hello.alpn);
        if let ServerName::Host(name) = &hello.name {
            self.name = Some(name.as_str().into());
        }
    }

    /// The record of the connection, which ends now.
    pub(crate) fn into_record(
        self,
        listener: Arc<str>,
        worker: WorkerId,
        outcome: Outcome,
    ) -> Record {
        let now = Instant::now();
        let total = now - self.accepted_at;
        let since_accept = |at: Instant| at.saturating_duration_since(self.accepted_at);
        let durations = Durations {
            accept: self.accepted_at.saturating_duration_since(self.woken_at),
            hello: self.hello_at.map(since_accept),
            dial: self
                .dialed_at
                .map(|at| at.saturating_duration_since(self.hello_at.unwrap_or(self.accepted_at))),
            first_byte: self.flow.first_byte_at.get().map(since_accept),
            total,
        };
        let name = self.route.as_ref().map(|route| &route.name);
        Record {
            time: SystemTime::now()
                .checked_sub(total)
                .unwrap_or(SystemTime::UNIX_EPOCH),
            listener,
            worker,
            client: self.client,
            name: self.name,
            alpn: self.alpn,
            ech: self.ech,
            route: name.map(|name| Arc::clone(&name.label)),
            network: name.map(|name| Arc::clone(&name.network_name)),
            target: self.target,
            bytes_in: self.flow.bytes_in.get(),
            bytes_out: self.flow.bytes_out.get(),
            durations,
            relay: self.flow.relayed_by.get().label(),
            outcome,
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
        let network = Network {
            id: NetworkId(7),
            name: "network-7".into(),
            netns: NetnsId(0),
            live: Load::default(),
        };
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
        let ledger = Ledger::new(1);
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
        let ledger = Ledger::new(1);
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
