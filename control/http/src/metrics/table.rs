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
    metric("build", Info, &["version"], "The version that runs", samples::build),
    metric("start_time_seconds", Gauge, &[], "Start time of the process, in seconds since the Unix epoch", samples::start_time),
    metric("ready", Gauge, &[], "1 while clients are accepted and every worker runs the desired state", samples::ready),
    metric("generation", Gauge, &["state"], "Generation of the desired state: `desired`, and `running` on every worker", samples::generation),
    metric("degraded", Gauge, &[], "Number of degradations: what is declared and not served. `ringway status` says what and why", samples::degraded),
    metric("degraded_by_reason", Gauge, &["reason"], "Degradations by reason, as in `ringway status --json`", samples::degraded_by_reason),
    metric("reload_ok", Gauge, &[], "0 if the last reload refused the boot file, otherwise 1", samples::reload_ok),

    metric("worker_connections", Gauge, &["worker"], "Open connections of a worker", samples::worker_connections),
    metric("worker_accepted", Counter, &["worker"], "Connections that a worker accepted", samples::worker_accepted),
    metric("worker_bytes", Counter, &["worker", "direction"], "Bytes that a worker relayed, `in` and `out`", samples::worker_bytes),
    metric("worker_generation", Gauge, &["worker"], "Generation that a worker runs", samples::worker_generation),

    metric("listener_accepted", Counter, &["listener"], "Connections that a listener accepted", samples::listener_accepted),
    metric("listener_ended", Counter, &["listener", "outcome"], "Connections that ended, by outcome", samples::listener_ended),
    metric("listener_ech", Counter, &["listener"], "ClientHellos with encrypted_client_hello", samples::listener_ech),
    metric("listener_tls_handshakes", Counter, &["listener", "version", "group", "session"], "TLS handshakes that the gateway terminated, by version, key exchange group and session (`new` or `resumed`)", samples::listener_tls_handshakes),
    metric("listener_tls_failures", Counter, &["listener", "cause"], "TLS handshakes with clients that failed, by cause", samples::listener_tls_failures),
    metric("listener_http_refused", Counter, &["listener", "reason"], "HTTP messages that were refused, and HTTP/2 connections that were ended because of what the client sent, by reason. Reasons that did not occur are left out", samples::listener_refused),
    metric("listener_exhausted", Counter, &["listener"], "Accepts that failed because no file descriptor was left", samples::listener_exhausted),
    metric("listener_accept_errors", Counter, &["listener"], "Accepts that failed for another reason", samples::listener_accept_errors),
    metric("connection_records_dropped", Counter, &[], "Connection records that were dropped because the queue was full", samples::records_dropped),
    metric("request_records_dropped", Counter, &[], "Request records that were dropped because the queue was full", samples::requests_dropped),
    metric("name_lookups", Counter, &["result"], "Lookups of targets' names that ended, by result: `found`, `negative` (no such name, or no address) or `failed`; and `refused`: not begun, because of a limit", samples::name_lookups),
    metric("connections_spliced", Counter, &[], "Connections that switched to splice", samples::splices),

    metric("network_state", Gauge, &["network", "state"], "1 for the state of a network: `ok`, `pending` or `degraded`", samples::network_state),
    metric("network_connections", Gauge, &["network"], "Open connections of a network", samples::network_connections),
    metric("network_opened", Counter, &["network"], "Connections that were admitted to a network", samples::network_opened),
    metric("network_ended", Counter, &["network", "fault"], "Connections that ended, by fault: `none`, `client`, `upstream` or `gateway`", samples::network_ended),
    metric("network_bytes", Counter, &["network", "direction"], "Bytes relayed for a network, `in` and `out`", samples::network_bytes),
    metric("network_first_byte_seconds", Histogram, &["network"], "Time from the accept to the first byte from the network", samples::network_first_byte),
    metric("network_peers", Gauge, &["network"], "Declared peers", samples::network_peers),
    metric("network_peers_connected", Gauge, &["network"], "Peers with a handshake in the last 180 s", samples::network_peers_connected),
    metric("network_peers_received_bytes", Gauge, &["network"], "Bytes received from all declared peers", samples::network_peers_received),
    metric("network_peers_sent_bytes", Gauge, &["network"], "Bytes sent to all declared peers", samples::network_peers_sent),

    metric("route_connections", Gauge, &["network", "route"], "Open connections of a route", samples::route_connections),
    metric("route_opened", Counter, &["network", "route"], "Connections that were admitted to a route", samples::route_opened),
    metric("route_bytes", Counter, &["network", "route", "direction"], "Bytes relayed on a route, `in` and `out`", samples::route_bytes),

    metric("route_requests", Counter, &["network", "route", "status"], "HTTP requests that ended, by class of the status; `none` for requests without a response", samples::route_requests),
    metric("route_request_seconds", Histogram, &["network", "route"], "Time from the head of an HTTP request to the end of its response", samples::route_request_seconds),
    metric("route_first_byte_seconds", Histogram, &["network", "route"], "Time from the accept, or from the head of an HTTP request, to the first byte from the network", samples::route_first_byte),
    metric("route_retries", Counter, &["network", "route"], "Retries of HTTP requests", samples::route_retries),
    metric("route_ejections", Counter, &["network", "route"], "Ejections of targets, by all workers together", samples::route_ejections),
    metric("route_upstreams", Counter, &["network", "route", "connection"], "Attempts at HTTP requests, by upstream connection: `new` or `reused`", samples::route_upstreams),
    metric("route_targets_down", Gauge, &["network", "route"], "Targets that fail their health checks", samples::route_targets_down),

    metric("peer_connected", Gauge, &["network", "peer"], "1 if the last handshake was within 180 s", samples::peer_connected),
    metric("peer_last_handshake_seconds", Gauge, &["network", "peer"], "Time of the last handshake, in seconds since the Unix epoch; 0 before the first", samples::peer_last_handshake),
    metric("peer_received_bytes", Counter, &["network", "peer"], "Bytes received from a peer", samples::peer_received),
    metric("peer_sent_bytes", Counter, &["network", "peer"], "Bytes sent to a peer", samples::peer_sent),
    metric("wireguard_backend", Info, &["backend"], "What carries the packets of new devices: `kernel` or `userspace`", samples::backend),

    metric("certificates", Gauge, &["state"], "Certificates that are served or to be obtained, by state: `ok`, `pending`, `failed`, `stale` or `expired`", samples::certificates),
    metric("certificate_expiry_seconds", Gauge, &["name", "source"], "Expiry of a certificate, in seconds since the Unix epoch; for those that expire first", samples::certificate_expiry),
    metric("acme_orders", Counter, &["directory", "result"], "Orders for certificates that ended, by result: `ok` or `failed`", samples::acme_orders),
    metric("acme_orders_running", Gauge, &[], "Orders for certificates in progress", samples::acme_orders_running),

    metric("store_ok", Gauge, &[], "0 if accounts cannot be written and wait in memory, otherwise 1", samples::store_ok),
    metric("store_bytes", Gauge, &[], "Size of the database on disk", samples::store_bytes),
    metric("reconcile_rounds", Counter, &[], "Rounds of observing, planning and applying", samples::reconcile_rounds),
    metric("reconcile_failures", Counter, &[], "Rounds that ended with an error", samples::reconcile_failures),
    metric("reconcile_steps", Counter, &[], "Steps that were applied to the kernel", samples::reconcile_steps),
    metric("reconcile_last_seconds", Gauge, &[], "Duration of the last round", samples::reconcile_last),

    metric("api_answers", Counter, &["class"], "Responses of the API, by class of the status", samples::api_answers),
    metric("api_connections", Gauge, &[], "Open connections to the API", samples::api_connections),
    metric("api_connections_refused", Counter, &[], "Connections to the API that were closed because of a limit: that of their source, or to make room for a new one", samples::api_connections_refused),
    metric("api_event_clients", Gauge, &[], "Clients that follow events", samples::api_event_clients),
    metric("api_unauthorized", Counter, &[], "Requests with a missing or wrong token, or with a role that is not sufficient", samples::api_unauthorized),
];
