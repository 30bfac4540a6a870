//! The metrics, held against their reference.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use control_api::answer::{
    Backend, CertificateState, CertificateStatus, CertificatesView, Degradation, ListenerStatus,
    NetworkState, NetworkStatus, PeerStatus, Reason, Status, WorkerStatus,
};
use control_http::{Reconciles, View};
use engine::{Handshake, ListenerCounters, ListenerTally, LookupTally, RouteCounters, TargetDown};
use engine_core::{
    endpoint::Endpoint,
    ids::{ListenerId, NetworkId, RouteId},
    outcome::Outcome,
    tally::Tally,
};
use engine_http::refusal::Refusal;
use engine_tls::Cause;

use crate::{
    gateway::{Gateway, OTHER_PEER, PEER, Wanted},
    wire::{Answer, Request},
};

/// A view in which nothing is zero that need not be.
fn busy(view: &mut View) {
    let mut status = Status::clone(&view.status);
    status.wireguard.backend = Some(Backend::Userspace);
    status.store.bytes = 4096;
    status.workers = vec![WorkerStatus {
        worker: 1,
        generation: 3,
        connections: 2,
        accepted: 9,
        bytes_in: 5,
        bytes_out: 6,
    }];
    status.listeners = vec![ListenerStatus {
        name: "https".to_owned(),
        ..ListenerStatus::default()
    }];
    let degraded = |reason| Degradation::new(reason, "network-2", "gone");
    status.degraded = vec![
        degraded(Reason::NamespaceMissing),
        degraded(Reason::BootFileRefused),
    ];
    status.networks.insert(1, network(1, NetworkState::Ok));
    status
        .networks
        .insert(2, network(2, NetworkState::Degraded));
    view.status = status.into();
    view.generation = 4;
    view.running_generation = 3;
    view.reconciles = Reconciles {
        rounds: 10,
        failures: 1,
        steps: 100,
        last_seconds: 0.25,
    };
    let counters = Arc::make_mut(&mut view.counters);
    let counted = ListenerCounters {
        name: "https".into(),
        tally: listener(),
    };
    counters.listeners.insert(ListenerId(0), counted);
    counters.records_dropped = 11;
    counters.splices = 12;
    counters.lookups = LookupTally {
        lookups: 9,
        failures: 2,
        negative: 3,
        refused: 1,
    };
    counters.requests_dropped = 13;
    counters.targets_down = ["10.0.0.2:80", "10.0.0.3:80"]
        .map(|target| TargetDown {
            route: RouteId(1),
            label: "host-1".into(),
            network: "network-1".into(),
            target: Endpoint::parse(target).unwrap(),
        })
        .into();
    for id in 1..=2 {
        let counted = RouteCounters {
            label: format!("host-{id}").into(),
            network: format!("network-{id}").into(),
            tally: tally(),
        };
        let sum = RouteCounters {
            label: format!("network-{id}").into(),
            ..counted.clone()
        };
        counters.routes.insert(RouteId(id), counted);
        counters.networks.insert(NetworkId(id), sum);
    }
}

fn listener() -> ListenerTally {
    let mut listener = ListenerTally {
        accepted: 9,
        ..ListenerTally::default()
    };
    listener.outcomes[Outcome::UnknownName.index()] = 7;
    listener.refusals[Refusal::NoHost.index()] = 8;
    let handshake = Handshake {
        version: "TLSv1.3",
        group: "X25519MLKEM768",
        resumed: true,
    };
    listener.tls.done.insert(handshake, 14);
    listener.tls.failed.insert(Cause::Version, 15);
    listener
}

fn certificates() -> CertificatesView {
    let certificate = |name: &str, state, not_after| CertificateStatus {
        name: name.to_owned(),
        state,
        source: "one".to_owned(),
        not_after,
        ..CertificateStatus::default()
    };
    CertificatesView {
        certificates: vec![
            certificate("a.example", CertificateState::Ok, Some(1_900_000_000)),
            certificate("b.example", CertificateState::Stale, Some(1_800_000_000)),
            certificate("c.example", CertificateState::Pending, None),
        ],
        orders: [(("one".to_owned(), "failed"), 3)].into(),
        running: 2,
    }
}

fn tally() -> Tally {
    let mut tally = Tally {
        opened: 3,
        bytes_in: 1000,
        bytes_out: 2000,
        ..Tally::default()
    };
    tally.close(Outcome::Done);
    tally.close(Outcome::ClientReset);
    tally.record_first_byte(3_000);
    tally.record_first_byte(50_000_000);
    let requests = tally.requests();
    requests.close(Some(200), Duration::from_micros(2_000));
    requests.close(None, Duration::from_secs(600));
    requests.retries = 4;
    requests.ejections = 5;
    requests.upstreams_reused = 6;
    tally
}

fn network(port: u16, state: NetworkState) -> NetworkStatus {
    let peer = PeerStatus {
        last_handshake: Some(1_700_000_000),
        connected: true,
        rx: 70,
        tx: 80,
        ..PeerStatus::default()
    };
    let keys = [PEER.parse().unwrap(), OTHER_PEER.parse().unwrap()];
    NetworkStatus {
        name: format!("network-{port}"),
        namespace: format!("network-{port}"),
        state,
        reasons: Vec::new(),
        public_key: None,
        device: None,
        peers: keys.map(|key| (key, peer.clone())).into(),
        routes: Vec::new(),
        connections: 0,
        bytes_in: 0,
        bytes_out: 0,
    }
}

/// As Prometheus asks for it.
const OPEN_METRICS: &str =
    "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";

async fn metrics(api: &'static str) -> String {
    let answer = asked(api, OPEN_METRICS).await;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(answer.header("content-type"), Some(kind));
    answer.body
}

async fn asked(api: &'static str, accept: &str) -> Answer {
    let gateway = Gateway::start(Wanted {
        api,
        ..Wanted::default()
    })
    .await;
    gateway.view.send_modify(|view| busy(Arc::make_mut(view)));
    gateway.certificates.send_replace(Arc::new(certificates()));
    let request = Request::new("GET", "/metrics").header("Accept", accept);
    let answer = gateway.ask(request).await;
    assert_eq!(answer.status, 200);
    answer
}

/// The rules that promtool checks: each name is described once, ahead of its samples, and of the kind
/// that its samples have.
#[tokio::test]
async fn the_classic_format_is_for_those_who_do_not_ask_for_another() {
    for accept in [
        "*/*",
        "text/plain",
        "application/openmetrics-text;q=0",
        "application/openmetrics-text;q=0.1, text/plain",
    ] {
        let answer = asked("", accept).await;
        let kind = "text/plain; version=0.0.4; charset=utf-8";
        assert_eq!(answer.header("content-type"), Some(kind), "{accept}");
        assert!(!answer.body.contains("# EOF"));
        let mut described = BTreeSet::new();
        let mut current = ("", "");
        for line in answer.body.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let name = rest.split(' ').next().unwrap();
                assert!(described.insert(name), "{name} twice");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                current = rest.split_once(' ').unwrap();
                assert!(
                    ["counter", "gauge", "histogram"].contains(&current.1),
                    "{line}"
                );
                assert_eq!(
                    current.1 == "counter",
                    current.0.ends_with("_total"),
                    "{line}"
                );
            } else {
                let name = line.split(['{', ' ']).next().unwrap();
                let end = name.strip_prefix(current.0).expect(line);
                let ends: &[&str] = match current.1 {
                    "histogram" => &["_bucket", "_sum", "_count"],
                    _ => &[""],
                };
                assert!(ends.contains(&end), "{line}");
            }
        }
        // The samples themselves are the same ones.
        let samples = |text: &str| -> Vec<String> {
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            // Of these, this very request makes a difference; and sums are rounded in two ways.
            let lines = lines.filter(|line| !line.starts_with("ringway_api_"));
            let lines = lines.filter(|line| !line.contains("_sum"));
            let mut lines: Vec<String> = lines.map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(samples(&answer.body), samples(&metrics("").await));
    }
}

#[tokio::test]
async fn every_metric_of_the_reference_is_there_and_no_other() {
    let text = metrics("").await;
    let reference = control_http::metrics_reference();
    let rows = reference.lines().skip(2);
    let names: BTreeSet<&str> = rows.map(|row| row.split('`').nth(1).unwrap()).collect();
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let found: BTreeSet<&str> = samples
        .map(|line| {
            let name = line.split(['{', ' ']).next().unwrap();
            let of_histogram = ["_bucket", "_sum", "_count"];
            of_histogram
                .iter()
                .find_map(|end| name.strip_suffix(end))
                .unwrap_or(name)
        })
        .collect();
    assert_eq!(found, names);
    assert!(text.ends_with("# EOF\n"));
    let described = text
        .lines()
        .filter(|line| line.starts_with("# HELP "))
        .count();
    assert_eq!(described, names.len());
}

#[tokio::test]
async fn what_is_counted_is_what_is_shown() {
    let text = metrics("").await;
    for line in [
        "ringway_build_info{version=\"0.1.0\"} 1",
        "ringway_ready 1.0",
        "ringway_generation{state=\"desired\"} 4.0",
        "ringway_generation{state=\"running\"} 3.0",
        "ringway_degraded 2.0",
        r#"ringway_degraded_by_reason{reason="namespace_missing"} 1.0"#,
        r#"ringway_degraded_by_reason{reason="store_behind"} 0.0"#,
        "ringway_reload_ok 0.0",
        "ringway_worker_connections{worker=\"1\"} 2.0",
        "ringway_worker_bytes_total{worker=\"1\",direction=\"out\"} 6",
        "ringway_listener_accepted_total{listener=\"https\"} 9",
        "ringway_listener_ended_total{listener=\"https\",outcome=\"unknown_name\"} 7",
        "ringway_connection_records_dropped_total 11",
        "ringway_request_records_dropped_total 13",
        "ringway_listener_http_refused_total{listener=\"https\",reason=\"no_host\"} 8",
        "ringway_route_requests_total{network=\"network-1\",route=\"host-1\",status=\"2xx\"} 1",
        "ringway_route_requests_total{network=\"network-1\",route=\"host-1\",status=\"none\"} 1",
        "ringway_route_request_seconds_bucket{le=\"0.0025\",network=\"network-1\",route=\"host-1\"} 1",
        "ringway_route_request_seconds_count{network=\"network-1\",route=\"host-1\"} 2",
        "ringway_route_request_seconds_sum{network=\"network-1\",route=\"host-1\"} 600.002",
        "ringway_route_retries_total{network=\"network-1\",route=\"host-1\"} 4",
        "ringway_route_ejections_total{network=\"network-1\",route=\"host-1\"} 5",
        "ringway_route_upstreams_total{network=\"network-1\",route=\"host-1\",connection=\"reused\"} 6",
        "ringway_route_targets_down{network=\"network-1\",route=\"host-1\"} 2.0",
        "ringway_connections_spliced_total 12",
        "ringway_listener_tls_failures_total{listener=\"https\",cause=\"tls_no_common_version\"} 15",
        "ringway_listener_tls_handshakes_total{listener=\"https\",version=\"TLSv1.3\",group=\"X25519MLKEM768\",session=\"resumed\"} 14",
        "ringway_network_state{network=\"network-1\",state=\"ok\"} 1.0",
        "ringway_network_state{network=\"network-2\",state=\"ok\"} 0.0",
        "ringway_network_state{network=\"network-2\",state=\"degraded\"} 1.0",
        "ringway_network_connections{network=\"network-1\"} 1.0",
        "ringway_network_ended_total{network=\"network-1\",fault=\"client\"} 1",
        "ringway_network_bytes_total{network=\"network-1\",direction=\"in\"} 1000",
        "ringway_network_first_byte_seconds_bucket{le=\"0.001\",network=\"network-1\"} 0",
        "ringway_network_first_byte_seconds_bucket{le=\"0.005\",network=\"network-1\"} 1",
        "ringway_network_first_byte_seconds_bucket{le=\"10.0\",network=\"network-1\"} 1",
        "ringway_network_first_byte_seconds_bucket{le=\"+Inf\",network=\"network-1\"} 2",
        "ringway_network_first_byte_seconds_count{network=\"network-1\"} 2",
        "ringway_network_peers{network=\"network-1\"} 2.0",
        "ringway_network_peers_received_bytes{network=\"network-1\"} 140.0",
        "ringway_route_opened_total{network=\"network-1\",route=\"host-1\"} 3",
        "ringway_wireguard_backend_info{backend=\"userspace\"} 1",
        "ringway_certificates{state=\"stale\"} 1.0",
        "ringway_certificates{state=\"expired\"} 0.0",
        "ringway_certificate_expiry_seconds{name=\"b.example\",source=\"one\"} 1800000000.0",
        "ringway_acme_orders_total{directory=\"one\",result=\"failed\"} 3",
        "ringway_acme_orders_running 2.0",
        "ringway_store_bytes 4096.0",
        "ringway_reconcile_steps_total 100",
        "ringway_reconcile_last_seconds 0.25",
        "ringway_api_connections 1.0",
    ] {
        assert!(
            text.lines().any(|known| known == line),
            "{line} is not in\n{text}"
        );
    }
    let peer = format!(
        "ringway_peer_sent_bytes_total{{network=\"network-2\",peer=\"{}\"}} 80",
        *PEER
    );
    assert!(text.contains(&peer), "{text}");
}

#[tokio::test]
async fn series_are_bounded_and_the_sums_stay_whole() {
    let text = metrics("metrics: {peers_max: 3, routes_max: 1, networks_max: 1}").await;
    let count = |start: &str| text.lines().filter(|line| line.starts_with(start)).count();
    // The second network's two peers do not fit beside the first one's.
    assert_eq!(count("ringway_peer_connected{"), 2);
    assert_eq!(count("ringway_route_opened_total{"), 1);
    assert_eq!(count("ringway_network_opened_total{"), 2);
    for line in [
        "ringway_network_opened_total{network=\"network-1\"} 3",
        "ringway_network_opened_total{network=\"other\"} 3",
        "ringway_network_peers{network=\"other\"} 2.0",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    let text = metrics("metrics: {certificates_max: 1}").await;
    let expiring = "ringway_certificate_expiry_seconds{";
    let expiring: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with(expiring))
        .collect();
    assert!(
        expiring.len() == 1 && expiring[0].contains("b.example"),
        "{expiring:?}"
    );
    let text = metrics("metrics: {peers_max: 0, routes_max: 0, networks_max: 0}").await;
    assert!(!text.contains("network-1"), "{text}");
    assert!(text.contains("ringway_network_opened_total{network=\"other\"} 6\n"));
}

#[test]
fn the_reference_page_is_up_to_date() {
    control_reference::compare("metrics", &control_http::metrics_reference()).unwrap();
}
