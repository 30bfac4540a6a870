//! Names of networks: certificates as their networks declare them, served by TLS that ends here, and
//! given up; and names that pass through beside them.

use std::{fs, net::TcpStream, sync::Arc};

use anyhow::{Result, ensure};
use rustls::{ClientConfig, ServerConfig};
use serde_json::{Map, Value, json};
use tests::{
    lab::{GATEWAY, Lab, Tenant},
    runner::Test,
    server::{self, Server},
    tests, tls,
    wait::eventually,
};

use crate::pebble::{
    HTTP, Options, Pebble, TENANT, await_answer, await_certificate, boot, fetch, is_ok, self_signed,
};

pub(crate) const TESTS: &[Test] = tests![
    a_network_gets_certificates_for_its_names_and_serves_them: 180,
    a_network_serves_its_names_with_certificates_in_files: 180,
    proofs_for_a_name_that_passes_through_are_its_tenants: 180,
    a_name_without_a_directory_is_said_to_be_impossible: 180,
];

/// A network whose machine answers for `hosts` without TLS of its own.
fn network(tenant: &Tenant, hosts: &[&str], tls: &Value) -> Value {
    let names = hosts.iter().map(|host| format!("https://{host}"));
    let proxy: Map<String, Value> = names.map(|key| (key, json!(["10.0.0.2:80"]))).collect();
    json!({ tenant.port.to_string(): {
        "netns": tenant.name.as_str(),
        "proxy": proxy,
        "tls": tls,
    }})
}

fn a_network_gets_certificates_for_its_names_and_serves_them(lab: &mut Lab) -> Result<()> {
    let pebble = Pebble::start(lab, Options::default())?;
    let tenant = lab.tenant(51_820)?;
    let _server = Server::start(tenant.listen(80)?, server::greet(TENANT))?;
    let hosts = ["a.example", "b.example"];
    let both = |challenge: &str| {
        let tls = json!({ "acme": { "hosts": hosts, "challenge": challenge } });
        network(&tenant, &hosts, &tls)
    };
    let boot = boot(json!({ "directories": [pebble.declared()] }));
    let gateway = lab.gateway(boot, both("tls-alpn-01"))?;
    let roots = pebble.root(lab)?;
    for host in hosts {
        let shown = await_certificate(&gateway, host, is_ok)?;
        ensure!(shown["network"] == 51_820, "{shown}");
        await_answer(&roots, host, "200 tenant")?;
    }
    // One of them goes, and comes back without another order, however it would be proved.
    let less = json!({ "acme": { "hosts": ["a.example"] } });
    gateway
        .api()
        .apply(&network(&tenant, &["a.example"], &less))?;
    eventually("the certificate is given up", || {
        let shown = gateway.api().get("/api/v1/certificates").ok()?;
        (shown["total"] == 1).then_some(())
    })?;
    ensure!(fetch(&roots, "b.example").is_err(), "it is still served");
    await_answer(&roots, "a.example", "200 tenant")?;
    gateway.api().apply(&both("http-01"))?;
    await_certificate(&gateway, "b.example", is_ok)?;
    await_answer(&roots, "b.example", "200 tenant")?;
    let metrics = gateway.api().ask("GET", "/metrics", None)?.body;
    let orders = "ringway_acme_orders_total{directory=\"pebble\",result=\"ok\"} 2\n";
    ensure!(metrics.contains(orders), "{metrics}");
    Ok(())
}

fn a_network_serves_its_names_with_certificates_in_files(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let _server = Server::start(tenant.listen(80)?, server::greet(TENANT))?;
    let folder = lab.directory().clone();
    let (certificate, key) = (folder.join("f.pem"), folder.join("f.key"));
    let (chain, secret) = self_signed("f.example")?;
    fs::write(&certificate, chain)?;
    fs::write(&key, secret)?;
    let hosts = ["f.example", "g.example"];
    let files = json!([{ "hosts": hosts, "certificate": certificate, "key": key }]);
    let state = network(&tenant, &["f.example"], &json!({ "files": files }));
    let gateway = lab.gateway(boot(json!({})), state)?;
    let shown = await_certificate(&gateway, "f.example", is_ok)?;
    ensure!(shown["network"] == 51_820, "{shown}");
    ensure!(shown["source"] == json!(certificate), "{shown}");
    await_answer(&certificate, "f.example", "200 tenant")?;
    let other = await_certificate(&gateway, "g.example", |it| it["state"] == "failed")?;
    let error = other["error"].as_str().unwrap_or_default();
    ensure!(error.contains("is not for this host"), "{other}");
    ensure!(other["source"] == json!(certificate), "{other}");
    Ok(())
}

fn proofs_for_a_name_that_passes_through_are_its_tenants(lab: &mut Lab) -> Result<()> {
    let pebble = Pebble::start(lab, Options::default())?;
    let tenant = lab.tenant(51_820)?;
    let _plain = Server::start(tenant.listen(80)?, server::greet(TENANT))?;
    let proof = vec![b"acme-tls/1".to_vec()];
    let mut config = ServerConfig::clone(&*lab.authority().server("p.example")?);
    config.alpn_protocols.clone_from(&proof);
    let site = tls::site(Arc::new(config), "the tenant's proof");
    let _site = Server::start(tenant.listen(443)?, site)?;
    let tls = json!({ "acme": { "hosts": ["a.example"], "challenge": "tls-alpn-01" } });
    let mut state = network(&tenant, &["a.example"], &tls);
    state["51820"]["proxy"]["https://p.example"] = json!(["10.0.0.2:443"]);
    let boot = json!({
        "listeners": [
            { "name": "http", "bind": HTTP, "protocol": "http" },
            { "name": "tls", "bind": GATEWAY, "protocol": "tls" },
        ],
        "acme": { "directories": [pebble.declared()] },
    });
    let gateway = lab.gateway(boot, state)?;
    // On the same port the gateway proves what is its own.
    await_certificate(&gateway, "a.example", is_ok)?;
    await_answer(&pebble.root(lab)?, "a.example", "200 tenant")?;
    let mut client = ClientConfig::clone(&*lab.authority().client()?);
    client.alpn_protocols = proof;
    let said = tls::get(&Arc::new(client), "p.example", TcpStream::connect(GATEWAY)?)?;
    ensure!(said == "the tenant's proof", "{said}");
    Ok(())
}

fn a_name_without_a_directory_is_said_to_be_impossible(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let tls = json!({ "acme": { "hosts": ["a.example"] } });
    let state = network(&tenant, &["a.example"], &tls);
    let gateway = lab.gateway(boot(json!({})), state)?;
    let shown = await_certificate(&gateway, "a.example", |it| it["state"] == "failed")?;
    let error = shown["error"].as_str().unwrap_or_default();
    ensure!(error.contains("`acme.directories` is empty"), "{shown}");
    Ok(())
}
