//! Envoy: tcp_proxy, SNI by the TLS inspector and filter chain matches; HTTP by virtual host.

use std::{net::SocketAddr, path::Path, process::Command};

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    IDLE_SECONDS, Job, Listener, Routing, WORKERS,
    certificate::{self, Files},
    write,
};
use crate::workload::NAME;

pub(super) fn prepare(command: &mut Command, job: &Job, dir: &Path) -> Result<()> {
    let files = certificate::files(dir)?;
    let path = write(dir, "envoy.json", &config(job, &files).to_string())?;
    command.arg("-c").arg(path);
    command.args(["--concurrency", &WORKERS.to_string()]);
    command.args(["--disable-hot-restart", "-l", "error"]);
    Ok(())
}

fn config(job: &Job, files: &Files) -> Value {
    let listeners = job.listeners.iter().map(|one| listener(one, files));
    let listeners: Vec<_> = listeners.collect();
    let clusters: Vec<_> = job.listeners.iter().flat_map(clusters).collect();
    json!({ "static_resources": { "listeners": listeners, "clusters": clusters } })
}

fn listener(listener: &Listener, files: &Files) -> Value {
    let port = listener.port;
    match &listener.routing {
        Routing::Forward(_) => json!({
            "name": format!("l{port}"),
            "address": address(listener.address()),
            "filter_chains": [{ "filters": [tcp_proxy(&format!("c{port}"))] }],
        }),
        Routing::Http(_) => json!({
            "name": format!("l{port}"),
            "address": address(listener.address()),
            "filter_chains": [{ "filters": [connection_manager(&format!("c{port}"))] }],
        }),
        Routing::Https(_) => json!({
            "name": format!("l{port}"),
            "address": address(listener.address()),
            "filter_chains": [{
                "filters": [connection_manager(&format!("c{port}"))],
                "transport_socket": secured(files),
            }],
        }),
        Routing::ByName(routes) => {
            let chains: Vec<_> = (0..)
                .zip(routes)
                .map(|(n, (name, _))| chain(port, n, name))
                .collect();
            json!({
                "name": format!("l{port}"),
                "address": address(listener.address()),
                "listener_filters": [{
                    "name": "envoy.filters.listener.tls_inspector",
                    "typed_config": { "@type": type_url(
                        "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"
                    ) },
                }],
                "filter_chains": chains,
            })
        }
    }
}

fn chain(port: u16, n: usize, name: &str) -> Value {
    json!({
        "filter_chain_match": { "server_names": [name] },
        "filters": [tcp_proxy(&format!("c{port}_{n}"))],
    })
}

fn tcp_proxy(cluster: &str) -> Value {
    json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": type_url("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"),
            "stat_prefix": cluster,
            "cluster": cluster,
            "idle_timeout": format!("{IDLE_SECONDS}s"),
        },
    })
}

fn connection_manager(cluster: &str) -> Value {
    let extension = "envoy.extensions.filters.network.http_connection_manager.v3";
    let router = "envoy.extensions.filters.http.router.v3.Router";
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": type_url(&format!("{extension}.HttpConnectionManager")),
            "stat_prefix": cluster,
            "use_remote_address": true,
            "http_filters": [{
                "name": "envoy.filters.http.router",
                "typed_config": { "@type": type_url(router) },
            }],
            "route_config": { "virtual_hosts": [{
                "name": cluster,
                "domains": [NAME],
                "routes": [{
                    "match": { "prefix": "/" },
                    "route": { "cluster": cluster, "timeout": "0s" },
                }],
            }] },
        },
    })
}

fn secured(files: &Files) -> Value {
    let extension = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": type_url(extension),
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_certificates": [{
                    "certificate_chain": { "filename": files.certificate },
                    "private_key": { "filename": files.key },
                }],
            },
        },
    })
}

fn clusters(listener: &Listener) -> Vec<Value> {
    let port = listener.port;
    match &listener.routing {
        Routing::Forward(target) | Routing::Http(target) | Routing::Https(target) => {
            vec![cluster(&format!("c{port}"), *target)]
        }
        Routing::ByName(routes) => routes
            .iter()
            .enumerate()
            .map(|(n, (_, target))| cluster(&format!("c{port}_{n}"), *target))
            .collect(),
    }
}

/// The circuit breakers' default of 1,024 connections is in the way of the idle workload.
pub(super) fn cluster(name: &str, target: SocketAddr) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": { "thresholds": [{
            "max_connections": 100_000, "max_pending_requests": 100_000,
        }] },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(target) } }] }],
        },
    })
}

pub(super) fn address(address: SocketAddr) -> Value {
    json!({ "socket_address": {
        "address": address.ip().to_string(), "port_value": address.port(),
    } })
}

pub(super) fn type_url(name: &str) -> String {
    format!("type.googleapis.com/{name}")
}
