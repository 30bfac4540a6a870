//! What the gateway promises where TLS ends at it, seen from outside: rustls, OpenSSL, curl, gRPC and
//! a browser in front of it, and the real gateway with real certificates. Each part of the promise is
//! one module; every test runs on both drivers.

mod both;
mod clients;
mod http2;
mod parts;
mod sessions;
mod terminate;
mod upstream;

use std::{fs, net::TcpStream, path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::Result;
use rustls::ClientConfig;
use serde_json::{Value, json};
use tests::{
    gateway::Gateway,
    http::Wire,
    lab::{GATEWAY, Lab, Tenant},
    stream,
    tls::{self as client, Client},
    wait::eventually,
};

/// The host that most requests ask for.
const NAME: &str = "blue.example";

fn main() -> ExitCode {
    tests::runner::main(
        &[
            terminate::TESTS,
            sessions::TESTS,
            clients::TESTS,
            both::TESTS,
            http2::TESTS,
            upstream::TESTS,
            parts::TESTS,
        ]
        .concat(),
    )
}

/// The part of a state document of a tenant with a certificate for each of its hosts, and rules.
fn network(lab: &Lab, tenant: &Tenant, hosts: &[&str], routes: Value) -> Result<Value> {
    let mut network = tenant.network(json!({}));
    let file = |host: &&str| {
        let identity = lab.authority().certify(&[host], host)?;
        let file = identity.write(lab.directory(), host)?;
        anyhow::Ok(json!({ "hosts": [host], "certificate": file, "key": file }))
    };
    let files: Vec<Value> = hosts.iter().map(file).collect::<Result<_>>()?;
    network["tls"] = json!({ "files": files });
    network["routes"] = routes;
    Ok(network)
}

/// Starts a gateway on a state, and waits until it has a certificate for each of its hosts.
fn serve(lab: &mut Lab, boot: Value, state: Value) -> Result<Arc<Gateway>> {
    let files = |network: &Value| network["tls"]["files"].as_array().map_or(0, Vec::len);
    let networks = state.as_object().into_iter().flatten();
    let expected: usize = networks.map(|(_, network)| files(network)).sum();
    let gateway = lab.gateway(boot, state)?;
    eventually("the certificates are there", || {
        let shown = gateway.api().get("/api/v1/certificates").ok()?;
        let certificates = shown["certificates"].as_array()?;
        let good = certificates.iter().filter(|it| it["state"] == "ok").count();
        (good == expected).then_some(())
    })?;
    Ok(gateway)
}

/// [`serve`] for one tenant, its hosts and its rules.
fn start(
    lab: &mut Lab,
    boot: Value,
    tenant: &Tenant,
    hosts: &[&str],
    routes: Value,
) -> Result<Arc<Gateway>> {
    let network = network(lab, tenant, hosts, routes)?;
    serve(lab, boot, json!({ tenant.port.to_string(): network }))
}

/// The file that clients find the lab's authority in.
fn roots(lab: &Lab) -> Result<PathBuf> {
    let roots = lab.directory().join("roots.pem");
    fs::write(&roots, lab.authority().pem())?;
    Ok(roots)
}

/// A rule that leads to a port of the tenant's machine.
fn to(host: &str, port: u16) -> Value {
    json!({ "host": host, "to": [format!("10.0.0.2:{port}")] })
}

/// Connects to the gateway with TLS, for a name; the handshake happens at first use.
fn dial(config: &Arc<ClientConfig>, name: &str) -> Result<Wire<Client>> {
    let stream: TcpStream = stream::connect(GATEWAY)?;
    Ok(Wire::new(client::client(config, name, stream)?))
}
