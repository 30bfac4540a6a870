//! The list of all metrics.

use super::{
    Kind::{self, Counter, Gauge, Histogram, Info},
    Metric, Sample, samples,
    scene::Scene,
};

const fn metric(
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
    samples: fn(&Scene) -> Vec<Sample>,
) -> Metric {
    Metric {
        name,
        kind,
        labels,
        help,
        samples,
    }
}

/// Every metric. Bytes `in` go from clients to the network, bytes `out` the other way; what is
/// received comes from a peer, what is sent goes to it.
#[rustfmt::skip]
pub(crate) const METRICS: &[Metric] = &[
    metric("build", Info, &["version"], "What runs", samples::build),
    metric("start_time_seconds", Gauge, &[], "When the process began, in seconds since the Unix epoch", samples::start_time),
    metric("ready", Gauge, &[], "1 while clients are accepted and every worker runs the desired state", samples::ready),
    metric("generation", Gauge, &["state"], "Generation of the desired state: `desired`, and `running` on every worker", samples::generation),
    metric("degraded", Gauge, &[], "How much keeps declared traffic from being served; `ringway status` says what and why", samples::degraded),
    metric("degraded_by_reason", Gauge, &["reason"], "The same, by the word of the reason as in `ringway status --json`", samples::degraded_by_reason),
    metric("reload_ok", Gauge, &[], "0 while the boot file is one that was refused at the last reload", samples::reload_ok),

    metric("worker_connections", Gauge, &["worker"], "Connections that are open on a worker", samples::worker_connections),
    metric("worker_accepted", Counter, &["worker"], "Connections that a worker took off its listeners' queues", samples::worker_accepted),
    metric("worker_bytes", Counter, &["worker", "direction"], "Bytes that a worker relayed, `in` and `out`", samples::worker_bytes),
    metric("worker_generation", Gauge, &["worker"], "Generation that a worker runs", samples::worker_generation),

    metric("listener_accepted", Counter, &["listener"], "Connections taken off a listener's queue", samples::listener_accepted),
    metric("listener_ended", Counter, &["listener", "outcome"], "Connections that ended, by how", samples::listener_ended),
    metric("listener_ech", Counter, &["listener"], "Hellos with encrypted_client_hello", samples::listener_ech),
    metric("listener_tls_handshakes", Counter, &["listener", "version", "group", "session"], "TLS handshakes that ended here, by what was agreed on; `session` is `new` or `resumed`", samples::listener_tls_handshakes),
    metric("listener_tls_failures", Counter, &["listener", "cause"], "TLS handshakes that failed here, by why", samples::listener_tls_failures),
    metric("listener_http_refused", Counter, &["listener", "reason"], "HTTP messages that were refused, and HTTP/2 connections that were ended for what they sent, by reason, where there are any", samples::listener_refused),
    metric("listener_exhausted", Counter, &["listener"], "Times that no descriptor was left to accept with", samples::listener_exhausted),
    metric("listener_accept_errors", Counter, &["listener"], "Other failures of accept", samples::listener_accept_errors),
    metric("connection_records_dropped", Counter, &[], "Connection records that found no room on the way to the log", samples::records_dropped),
    metric("request_records_dropped", Counter, &[], "Request records that found no room on the way to the log", samples::requests_dropped),
    metric("connections_spliced", Counter, &[], "Connections that moved to splice", samples::splices),

    metric("network_state", Gauge, &["network", "state"], "1 for the state that a network is in: `ok`, `pending` or `degraded`", samples::network_state),
    metric("network_connections", Gauge, &["network"], "Connections that are open to a network", samples::network_connections),
    metric("network_opened", Counter, &["network"], "Connections that were admitted to a network", samples::network_opened),
    metric("network_ended", Counter, &["network", "fault"], "Connections that ended, by whose doing", samples::network_ended),
    metric("network_bytes", Counter, &["network", "direction"], "Bytes relayed for a network, `in` and `out`", samples::network_bytes),
    metric("network_first_byte_seconds", Histogram, &["network"], "Time from the accept to the first byte from the network", samples::network_first_byte),
    metric("network_peers", Gauge, &["network"], "Peers that are declared", samples::network_peers),
    metric("network_peers_connected", Gauge, &["network"], "Peers with a handshake in the last 180 s", samples::network_peers_connected),
    metric("network_peers_received_bytes", Gauge, &["network"], "Bytes received from all peers that are declared", samples::network_peers_received),
    metric("network_peers_sent_bytes", Gauge, &["network"], "Bytes sent to all peers that are declared", samples::network_peers_sent),

    metric("route_connections", Gauge, &["network", "route"], "Connections that are open on a route", samples::route_connections),
    metric("route_opened", Counter, &["network", "route"], "Connections that were admitted to a route", samples::route_opened),
    metric("route_bytes", Counter, &["network", "route", "direction"], "Bytes relayed on a route, `in` and `out`", samples::route_bytes),

    metric("route_requests", Counter, &["network", "route", "status"], "HTTP requests that ended, by the class of the status; `none` for those that were not answered", samples::route_requests),
    metric("route_request_seconds", Histogram, &["network", "route"], "Time from the head of an HTTP request to the end of its answer", samples::route_request_seconds),
    metric("route_first_byte_seconds", Histogram, &["network", "route"], "Time from the accept, or from the head of an HTTP request, to the first byte from the network", samples::route_first_byte),
    metric("route_retries", Counter, &["network", "route"], "Further attempts at HTTP requests after one that failed", samples::route_retries),
    metric("route_ejections", Counter, &["network", "route"], "Times that a worker left a target out because HTTP requests to it failed", samples::route_ejections),
    metric("route_upstreams", Counter, &["network", "route", "connection"], "Attempts at HTTP requests over upstream connections, `new` and `reused`", samples::route_upstreams),
    metric("route_targets_down", Gauge, &["network", "route"], "Targets that fail their checks", samples::route_targets_down),

    metric("peer_connected", Gauge, &["network", "peer"], "1 while the last handshake is younger than 180 s", samples::peer_connected),
    metric("peer_last_handshake_seconds", Gauge, &["network", "peer"], "When the last handshake was, in seconds since the Unix epoch; 0 before the first", samples::peer_last_handshake),
    metric("peer_received_bytes", Counter, &["network", "peer"], "Bytes received from a peer", samples::peer_received),
    metric("peer_sent_bytes", Counter, &["network", "peer"], "Bytes sent to a peer", samples::peer_sent),
    metric("wireguard_backend", Info, &["backend"], "Who carries the packets of new devices: `kernel` or `userspace`", samples::backend),

    metric("certificates", Gauge, &["state"], "Certificates that there are or are to be, by how they are: `ok`, `pending`, `failed`, `stale` or `expired`", samples::certificates),
    metric("certificate_expiry_seconds", Gauge, &["name", "source"], "When a certificate expires, in seconds since the Unix epoch; those that expire first", samples::certificate_expiry),
    metric("acme_orders", Counter, &["directory", "result"], "Orders for certificates that ended, by how: `ok` or `failed`", samples::acme_orders),
    metric("acme_orders_running", Gauge, &[], "Orders for certificates that are under way", samples::acme_orders_running),

    metric("store_ok", Gauge, &[], "0 while accounts cannot be written and wait in memory", samples::store_ok),
    metric("store_bytes", Gauge, &[], "Bytes of the database on disk", samples::store_bytes),
    metric("reconcile_rounds", Counter, &[], "Rounds of observing, planning and applying", samples::reconcile_rounds),
    metric("reconcile_failures", Counter, &[], "Rounds that ended with an error", samples::reconcile_failures),
    metric("reconcile_steps", Counter, &[], "Steps that were applied to the kernel", samples::reconcile_steps),
    metric("reconcile_last_seconds", Gauge, &[], "How long the last round took", samples::reconcile_last),

    metric("api_answers", Counter, &["class"], "Answers of the API, by the class of their status", samples::api_answers),
    metric("api_connections", Gauge, &[], "Connections to the API that are open", samples::api_connections),
    metric("api_connections_refused", Counter, &[], "Connections to the API that were closed: their source had as many as it may, or they gave way to a new one", samples::api_connections_refused),
    metric("api_event_clients", Gauge, &[], "Clients that follow the events", samples::api_event_clients),
    metric("api_unauthorized", Counter, &[], "Requests with a missing or wrong token, or one of a lesser role", samples::api_unauthorized),
];
