//! Each reason, with what it is said of.

use control_api::{
    boot::{self, Boot},
    state,
};
use control_plan::{Ids, publish};
use engine_core::ids::{Generation, RouteId};
use serde_json::{Value, json};

use super::*;

/// A world in which everything is served, and what a test changes of it.
struct World {
    boot: Boot,
    desired: Desired,
    failed: Vec<Degradation>,
    left_out: Vec<LeftOut>,
    missing: BTreeMap<NamespaceSource, String>,
    boot_state: BootState,
    unbound: Vec<Unbound>,
    certificates: Vec<CertificateStatus>,
    is_covered: bool,
    tls_failures: BTreeMap<Failed, String>,
    snapshot: Snapshot,
    store: StoreHealth,
    running: u64,
    now: u64,
}

fn read_boot(protocols: &[&str]) -> Boot {
    let listeners = protocols
        .iter()
        .map(|protocol| json!({ "name": protocol, "bind": "127.0.0.1:0", "protocol": protocol }));
    let listeners: Vec<Value> = listeners.collect();
    let none = BTreeMap::<String, String>::new();
    let text = json!({ "listeners": listeners }).to_string();
    boot::parse(&text, &none).unwrap().value
}

impl World {
    fn new(document: &Value) -> Self {
        Self::beside(read_boot(&["http", "https"]), document)
    }

    fn beside(boot: Boot, document: &Value) -> Self {
        let desired = state::parse(&document.to_string()).unwrap().value;
        let (mut ids, first) = (Ids::default(), Generation(1));
        let planned = publish(&desired, &[], &boot.listeners, &mut ids, first, None).unwrap();
        Self {
            boot,
            desired,
            failed: Vec::new(),
            left_out: Vec::new(),
            missing: BTreeMap::new(),
            boot_state: BootState::default(),
            unbound: Vec::new(),
            certificates: Vec::new(),
            is_covered: true,
            tls_failures: BTreeMap::new(),
            snapshot: planned.snapshot,
            store: StoreHealth {
                ok: true,
                ..StoreHealth::default()
            },
            running: 7,
            now: 1000,
        }
    }

    fn unserved(&self) -> Vec<Degradation> {
        let missing = self.missing.iter();
        let scene = Scene {
            desired: &self.desired,
            generation: 7,
            running: self.running,
            failed: self.failed.clone(),
            left_out: &self.left_out,
            missing: missing.map(|(place, why)| (place, &**why)).collect(),
            standing: &Standing::of(&self.desired, &self.boot.listeners),
            boot_state: &self.boot_state,
            unbound: self.unbound.clone(),
            certificates: &self.certificates,
            is_covered: &|_| self.is_covered,
            tls_failures: &self.tls_failures,
            snapshot: &self.snapshot,
            store: self.store.clone(),
            down: &targets_down(&self.snapshot, self.now),
        };
        scene.unserved()
    }

    /// Reason, network, object and cause of each, in one line.
    fn told(&self) -> Vec<String> {
        let told = self.unserved().into_iter().map(|it| {
            assert_eq!(it.hint, it.reason.hint());
            let network = it.network.map_or("-".to_owned(), |port| port.to_string());
            let (reason, object, why) = (it.reason.word(), it.object, it.why);
            format!("{reason} {network} {object}: {why}")
        });
        told.collect()
    }

    fn route(&self, label: &str) -> &Route {
        let mut routes = self.snapshot.routes();
        routes.find(|route| &*route.label == label).unwrap()
    }
}

/// Two networks without a device: one of rules, one in a namespace that somebody else makes.
fn document() -> Value {
    json!({
        "1": { "netns": null, "routes": [
            { "host": "a.example", "to": ["10.0.0.1:80", "10.0.0.2:80"] },
            { "host": "b.example", "redirect": "https" },
        ] },
        "2": { "netns": "blue", "routes": [{ "host": "c.example", "to": ["10.0.0.3:80"] }] },
    })
}

fn certificate(name: &str, state: CertificateState, error: Option<&str>) -> CertificateStatus {
    CertificateStatus {
        name: name.to_owned(),
        network: Some(1),
        state,
        source: "/etc/c.pem".to_owned(),
        error: error.map(str::to_owned),
        ..CertificateStatus::default()
    }
}

#[test]
fn a_world_in_order_has_nothing_to_tell() {
    let mut world = World::new(&document());
    world.certificates = vec![
        certificate("a.example", CertificateState::Ok, None),
        certificate("b.example", CertificateState::Stale, Some("timed out")),
    ];
    assert_eq!(world.told(), [""; 0]);
}

#[test]
fn a_network_that_failed_is_told_as_it_was_noted_and_not_for_its_namespace_too() {
    let mut world = World::new(&document());
    let failed = Degradation::new(Reason::NetworkFailed, "network-2", "no module").of(Some(2));
    world.failed = vec![failed.since(5)];
    let blue = NamespaceSource::Existing("blue".parse().unwrap());
    world.missing.insert(blue, "there is none".to_owned());
    assert_eq!(world.told(), ["network_failed 2 network-2: no module"]);
    assert_eq!(world.unserved()[0].since, Some(5));
}

#[test]
fn a_network_that_is_refused_is_told_with_what_is_wrong_with_it() {
    let mut world = World::new(&document());
    world.left_out = vec![LeftOut {
        key: Some("3".to_owned()),
        why: "/3/x: `x` is not a key here".to_owned(),
        document: json!({ "proxy": {} }),
    }];
    let told = ["network_refused 3 network-3: /3/x: `x` is not a key here"];
    assert_eq!(world.told(), told);
}

#[test]
fn a_namespace_that_is_missing_is_told_of_whoever_is_dialed_from_it() {
    let mut world = World::new(&document());
    for place in ["blue", "red"] {
        let place = NamespaceSource::Existing(place.parse().unwrap());
        world.missing.insert(place, "there is none".to_owned());
    }
    assert_eq!(
        world.told(),
        [
            "namespace_missing 2 network-2: there is none",
            // A listener's own place.
            "namespace_missing - netns:red: there is none",
        ]
    );
}

#[test]
fn what_no_listener_takes_is_told_by_its_route() {
    let world = World::beside(
        read_boot(&["http"]),
        &json!({ "1": { "netns": null, "proxy": { "https://a.example": ["10.0.0.1:443"] } } }),
    );
    assert_eq!(
        world.told(),
        ["listener_missing 1 https://a.example: no listener with `protocol: tls` takes it"]
    );
}

#[test]
fn listeners_that_are_not_bound_are_told_with_the_reason() {
    let more = read_boot(&["http", "https"]);
    let mut world = World::new(&document());
    world.boot_state = BootState::left_out(&more.listeners[1..]);
    assert_eq!(
        world.told(),
        [
            "listener_not_bound - https: 127.0.0.1:0 is not bound: the network that it leads to was refused at the start"
        ]
    );
}

#[test]
fn a_refused_boot_file_is_told_with_its_first_problem() {
    let mut world = World::new(&document());
    world.boot_state.refused = Some("boot.yaml:1: /x: no".to_owned());
    assert_eq!(
        world.told(),
        ["boot_file_refused - boot file: boot.yaml:1: /x: no"]
    );
}

#[test]
fn certificates_that_are_not_there_or_have_expired_are_told_by_their_names() {
    let mut world = World::new(&document());
    world.certificates = vec![
        certificate("a.example", CertificateState::Pending, None),
        certificate("b.example", CertificateState::Failed, Some("timed out")),
        // A file that was never good.
        certificate("", CertificateState::Failed, None),
        certificate("c.example", CertificateState::Expired, Some("refused")),
    ];
    assert_eq!(
        world.told(),
        [
            "certificate_missing 1 a.example: its certificate is being obtained",
            "certificate_failed 1 b.example: there is no certificate: timed out",
            "certificate_failed 1 /etc/c.pem: there is no certificate",
            "certificate_expired 1 c.example: its certificate has expired: refused",
        ]
    );
}

#[test]
fn hosts_that_nobody_declared_a_certificate_for_are_told_unless_one_covers_them() {
    let to = json!(["10.0.0.1:80"]);
    let mut world = World::new(&json!({ "1": {
        "netns": null,
        "routes": [
            { "host": "a.example", "to": to, "tls": "terminate" },
            { "host": "b.example", "to": to, "tls": "terminate" },
            { "host": "*", "to": to, "tls": "terminate" },
        ],
        "tls": { "acme": { "hosts": ["b.example"] } },
    } }));
    assert_eq!(world.told(), [""; 0]);
    world.is_covered = false;
    let why = "TLS is terminated for it, and there is no certificate for it";
    assert_eq!(
        world.told(),
        [
            format!("certificate_missing 1 *: {why}"),
            format!("certificate_missing 1 a.example: {why}"),
        ]
    );
}

#[test]
fn tls_that_cannot_be_set_up_is_told_by_host_and_by_route() {
    let mut world = World::new(&document());
    let failure = |of| (of, "no such root".to_owned());
    let route = world.route("c.example/").id;
    world.tls_failures = BTreeMap::from([
        failure(Failed::Host("a.example".to_owned())),
        failure(Failed::Targets(route)),
        failure(Failed::Targets(RouteId(99))),
    ]);
    assert_eq!(
        world.told(),
        [
            "tls_failed - a.example: no such root".to_owned(),
            "tls_failed 2 c.example/: no such root".to_owned(),
            format!("tls_failed - {}: no such root", RouteId(99)),
        ]
    );
}

#[test]
fn a_route_is_told_when_the_last_of_its_targets_fails_its_checks() {
    let world = World::new(&document());
    let targets = &world.route("a.example/").targets;
    targets[0].health.set_down(true);
    assert_eq!(world.told(), [""; 0]);
    targets[1].health.set_down(true);
    assert_eq!(
        world.told(),
        ["targets_down 1 a.example/: all targets fail their checks: 10.0.0.1:80, 10.0.0.2:80"]
    );
}

/// As the engine counts what requests show.
fn fail_requests(target: &Target, requests: u32, at: u64) {
    target.health.note_failure(0, at);
    for _ in 0..requests {
        target.health.fail_request(5);
    }
}

#[test]
fn a_route_is_told_when_the_last_requests_of_all_its_targets_failed_not_long_ago() {
    let mut world = World::new(&document());
    let how = {
        let targets = &world.route("a.example/").targets;
        fail_requests(&targets[0], 5, 990);
        fail_requests(&targets[1], 4, 990);
        engine::Failure::last_of(&targets[0]).unwrap().0.label()
    };
    assert_eq!(world.told(), [""; 0]);
    fail_requests(&world.route("a.example/").targets[1], 1, 995);
    let told = |what: &str, targets: &str| {
        [format!(
            "targets_down 1 a.example/: all targets fail {what}: {targets}"
        )]
    };
    let both = format!("10.0.0.1:80 ({how}), 10.0.0.2:80 ({how})");
    assert_eq!(
        world.told(),
        told("the last requests or connections", &both)
    );
    world.now = 990 + FAILURE_SECONDS;
    assert_eq!(world.told(), [""; 0], "it is long ago");
    let first = &world.route("a.example/").targets[0];
    first.health.set_down(true);
    let both = format!("10.0.0.1:80, 10.0.0.2:80 ({how})");
    assert_eq!(
        world.told(),
        told("their checks or the last requests or connections", &both)
    );
    world.route("a.example/").targets[1].health.answer_request();
    assert_eq!(world.told(), [""; 0]);
}

#[test]
fn many_targets_are_told_in_few_words() {
    let to: Vec<String> = (1..6).map(|n| format!("10.0.0.{n}:80")).collect();
    let world = World::new(
        &json!({ "1": { "netns": null, "routes": [{ "host": "a.example", "to": to }] } }),
    );
    for target in &world.route("a.example/").targets {
        target.health.set_down(true);
    }
    assert_eq!(
        world.told(),
        [
            "targets_down 1 a.example/: all targets fail their checks: 10.0.0.1:80, 10.0.0.2:80, 10.0.0.3:80 and others"
        ]
    );
}

#[test]
fn a_store_that_is_behind_is_told_with_its_own_time() {
    let mut world = World::new(&document());
    world.store = StoreHealth {
        ok: false,
        since: Some(5),
        error: Some("the disk is full".to_owned()),
    };
    assert_eq!(world.told(), ["store_behind - store: the disk is full"]);
    assert_eq!(world.unserved()[0].since, Some(5));
}

#[test]
fn workers_that_run_an_older_state_are_told_with_the_one_that_they_should_run() {
    let mut world = World::new(&document());
    world.running = 6;
    assert_eq!(
        world.told(),
        ["workers_behind - workers: not every worker runs generation 7"]
    );
}

/// So that a reason that is added has a test here as well.
#[test]
fn every_reason_that_a_gateway_gives_is_among_these_tests() {
    let text = include_str!("tests.rs");
    for reason in Reason::ALL {
        let told = format!("{} ", reason.word());
        assert!(text.contains(&told), "{}", reason.word());
    }
}
