//! What one change among many routes costs, and what a route takes: with one worker for each core, over all
//! that a rule of a host with TLS has.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fs,
    net::SocketAddr,
    num::NonZeroU16,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use engine::{Challenges, Config, DriverChoice, Engine, Limits, Publication, Termination, Workers};
use engine_core::{
    balance::{Balance, Load},
    hostname::HostPattern,
    ids::{Generation, NetnsId, NetworkId, RouteId},
    snapshot::{Network, Route, SnapshotBuilder, Target},
};
use engine_http::{
    method::Scheme,
    rules::{Action, Match, Policy, Rule, TableBuilder},
};
use engine_sys::netns::Netns;
use engine_tls::{
    Certificates, Policies, ServerTlsConfig, Tickets,
    tickets::{Keys, Secret},
};

const ROUTES: u32 = 50_000;

const ROUTES_PER_NETWORK: u32 = 100;

/// Most bytes that a route may take, with its rule, its name and its part of everything else: 1,214 were
/// measured, with what building all of them left to the allocator.
const ROUTE_BYTES_MAX: u64 = 1_400;

const CHANGES: u32 = 1_000;

/// What all routes share.
struct Shared {
    terms: Arc<ServerTlsConfig>,
    policy: Arc<Policy>,
}

fn host(id: u32) -> HostPattern {
    HostPattern::parse(&format!(
        "app-{id}.tenant-{}.example",
        id / ROUTES_PER_NETWORK
    ))
    .unwrap()
}

fn route(id: u32, port: u16) -> Route {
    let network = id / ROUTES_PER_NETWORK;
    Route {
        id: RouteId(id),
        label: host(id).to_string().into(),
        network: Arc::new(Network {
            id: NetworkId(network),
            name: format!("network-{network}").into(),
            netns: NetnsId(0),
            live: Load::default(),
        }),
        targets: vec![Target::new(SocketAddr::from(([127, 0, 0, 1], port)))],
        balance: Balance::default(),
    }
}

/// Changes a publication by routes, each to a port.
fn change(mut next: Publication, shared: &Shared, routes: &[(u32, u16)]) -> Publication {
    let generation = Generation(next.snapshot.generation().0 + 1);
    let mut snapshot = SnapshotBuilder::after(&next.snapshot, generation);
    for (id, port) in routes {
        snapshot.route(route(*id, *port));
    }
    next.snapshot = snapshot.build(None).unwrap();
    let mut table = TableBuilder::after(&next.http);
    for (id, _) in routes {
        let host = host(*id);
        next.tls
            .terminate(host.clone(), Termination::On(Arc::clone(&shared.terms)));
        table.clear(Some(&host));
        let found_by = Match {
            scheme: Some(Scheme::Https),
            host: Some(host),
            path: "/".into(),
            methods: Vec::new(),
            fields: Vec::new(),
        };
        let rule = Rule {
            id: RouteId(*id),
            route: Arc::clone(next.snapshot.route_of(RouteId(*id)).unwrap()),
            action: Action::Proxy,
            policy: Arc::clone(&shared.policy),
        };
        table.rule(found_by, rule);
    }
    next.http = table.build().unwrap();
    next
}

fn resident_bytes() -> u64 {
    let sizes = fs::read_to_string("/proc/self/statm").unwrap();
    let pages = sizes.split(' ').nth(1).unwrap();
    pages.parse::<u64>().unwrap() * 4096
}

fn start() -> Engine {
    let config = Config {
        reserved: Vec::new(),
        driver: DriverChoice::Auto,
        workers: Workers::Count(NonZeroU16::new(2).unwrap()),
        limits: Limits::default(),
        records: None,
        requests: None,
        challenges: Challenges::default(),
        strangers: None,
    };
    let nothing = Publication {
        namespaces: [(NetnsId(0), Arc::new(Netns::current().unwrap()))].into(),
        ..Publication::default()
    };
    Engine::start(config, nothing).unwrap()
}

/// The median and the 99th of 100.
fn shares(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

#[test]
fn one_change_among_many_routes_shares_all_others() {
    let secret = Secret::random().unwrap();
    let tickets = Tickets::new(Keys::new(&secret, SystemTime::now()));
    let mut policies = Policies::new(Certificates::default(), tickets).unwrap();
    let shared = Shared {
        terms: policies.terms(&engine_tls::Policy::default()).unwrap(),
        policy: Arc::default(),
    };
    let mut engine = start();

    let all: Vec<(u32, u16)> = (0..ROUTES).map(|id| (id, 80)).collect();
    let (before, began) = (resident_bytes(), Instant::now());
    let first = change(engine.publication(), &shared, &all);
    let built = began.elapsed();
    engine.publish(first).unwrap();
    let whole = began.elapsed();
    let taken = (resident_bytes() - before) / u64::from(ROUTES);
    println!("{ROUTES} routes: built in {built:?}, in force after {whole:?}, {taken} bytes each");
    assert!(taken < ROUTE_BYTES_MAX, "{taken} bytes a route");

    let (mut made, mut in_force) = (Vec::new(), Vec::new());
    for turn in 0..CHANGES {
        let began = Instant::now();
        let next = change(engine.publication(), &shared, &[(turn * 37 % ROUTES, 81)]);
        made.push(began.elapsed());
        engine.publish(next).unwrap();
        in_force.push(began.elapsed());
    }
    let (made, in_force) = (shares(made), shares(in_force));
    println!("one change, median and 99 of 100: made in {made:?}, in force after {in_force:?}");

    let before = engine.publication();
    engine
        .publish(change(engine.publication(), &shared, &[(7, 82)]))
        .unwrap();
    let after = engine.publication();
    let generation = after.snapshot.generation().0;
    let workers = &engine.counters().workers;
    assert!(workers.iter().all(|it| it.state.generation == generation));
    let changed = before.snapshot.changed_routes(&after.snapshot);
    assert_eq!(
        changed.iter().map(|it| it.id).collect::<Vec<_>>(),
        [RouteId(7)]
    );
    assert_eq!(before.http.changed_hosts(&after.http).len(), 1);
    let is_shared = |id: &u32| {
        let of = |of: &Publication| of.snapshot.route_of(RouteId(*id)).cloned();
        let both = of(&before).zip(of(&after));
        both.is_some_and(|(one, other)| Arc::ptr_eq(&one, &other))
    };
    assert!((0..ROUTES).filter(|id| *id != 7).all(|id| is_shared(&id)));
}
