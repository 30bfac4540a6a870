//! Which name leads where.

use std::{io::Write as _, net::SocketAddr};

use anyhow::{Result, ensure};
use serde_json::json;
use tests::{
    lab::{GATEWAY, Lab, TENANT, tls},
    runner::Test,
    server::{self, Server},
    stream, tests,
    tls::{self as client, UNRECOGNIZED_NAME},
};

pub(crate) const TESTS: &[Test] = tests![
    each_name_leads_to_its_own_tenant_although_their_addresses_are_the_same,
    ipv6_works_on_both_sides,
    exact_names_win_then_the_longest_wildcard_then_the_default,
    an_unknown_name_gets_the_tls_alert_for_it,
    a_hello_without_a_name_goes_to_the_default_or_is_refused,
];

fn each_name_leads_to_its_own_tenant_although_their_addresses_are_the_same(
    lab: &mut Lab,
) -> Result<()> {
    let (blue, green) = (lab.tenant(51_820)?, lab.tenant(51_821)?);
    let mut servers = Vec::new();
    for (tenant, name) in [(&blue, "blue.example"), (&green, "green.example")] {
        let site = client::site(lab.authority().server(name)?, name);
        servers.push(Server::start(tenant.listen(443)?, site)?);
    }
    let state = json!({
        "51820": blue.network(json!({ "blue.example": ["10.0.0.2:443"] })),
        "51821": green.network(json!({ "https://green.example": ["10.0.0.2:443"] })),
    });
    let gateway = lab.gateway(tls(json!({})), state)?;
    let trust = lab.authority().client()?;
    for name in ["blue.example", "green.example", "blue.example"] {
        let answer = client::get(&trust, name, stream::connect(GATEWAY)?)?;
        ensure!(answer == name, "{name} was answered by {answer}");
    }
    for server in &servers {
        ensure!(
            server.next()?.ip().to_canonical() == TENANT,
            "dialed from inside the tenant"
        );
    }
    let records = gateway.wait_for_records(3)?;
    for (name, network) in [
        ("blue.example", "network-51820"),
        ("green.example", "network-51821"),
    ] {
        let found = records.iter().filter(|record| record["name"] == name);
        ensure!(found.clone().all(|record| record["network"] == network));
        ensure!(found.clone().all(|record| record["alpn"] == "http/1.1"));
        ensure!(
            found.clone().all(|record| record["outcome"] == "done"),
            "{records:?}"
        );
    }
    Ok(())
}

fn ipv6_works_on_both_sides(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let _server = Server::start(tenant.listen(443)?, server::greet("six"))?;
    let state = tenant.state(json!({ "six.example": ["[fd00::2]:443"] }));
    let gateway = lab.gateway(tls(json!({ "bind": "[::]:8443" })), state)?;
    for address in ["[::1]:8443", "127.0.0.1:8443"] {
        let answer = greeting(address.parse()?, "six.example")?;
        ensure!(answer == b"six");
    }
    let records = gateway.wait_for_records(2)?;
    for (record, client) in records.iter().zip(["[::1]:", "127.0.0.1:"]) {
        ensure!(record["target"] == "[fd00::2]:443");
        let found = record["client"].as_str().unwrap_or_default();
        ensure!(
            found.starts_with(client),
            "{found} is a client's address as it is written"
        );
    }
    Ok(())
}

fn exact_names_win_then_the_longest_wildcard_then_the_default(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let mut servers = Vec::new();
    for (port, name) in [(1, "exact"), (2, "short"), (3, "long"), (4, "default")] {
        servers.push(Server::start(tenant.listen(port)?, server::greet(name))?);
    }
    let state = tenant.state(json!({
        "a.b.example": ["10.0.0.2:1"],
        "*.example": ["10.0.0.2:2"],
        "*.b.example": ["10.0.0.2:3"],
    }));
    lab.gateway(tls(json!({ "default": "network-51820/10.0.0.2:4" })), state)?;
    for (name, expected) in [
        ("a.b.example", "exact"),
        ("A.B.Example", "exact"),
        ("x.b.example", "long"),
        ("y.x.b.example", "long"),
        ("b.example", "short"),
        ("example", "default"),
        ("elsewhere.test", "default"),
    ] {
        let answer = String::from_utf8(greeting(GATEWAY, name)?)?;
        ensure!(
            answer == expected,
            "{name} leads to {answer} instead of {expected}"
        );
    }
    Ok(())
}

fn an_unknown_name_gets_the_tls_alert_for_it(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let state = tenant.state(json!({ "blue.example": ["10.0.0.2:443"] }));
    let gateway = lab.gateway(tls(json!({})), state)?;
    let answer = greeting(GATEWAY, "green.example")?;
    ensure!(answer == UNRECOGNIZED_NAME, "{answer:?}");
    let trust = lab.authority().client()?;
    let answer = client::get(&trust, "green.example", stream::connect(GATEWAY)?);
    // rustls spells it the British way.
    let understood = format!("{answer:?}").contains("UnrecognisedName");
    ensure!(understood, "a TLS client understands it: {answer:?}");
    for record in gateway.wait_for_records(2)? {
        ensure!(
            record["outcome"] == "unknown_name" && record["fault"] == "client",
            "{record}"
        );
        ensure!(
            record["name"] == "green.example" && record["network"].is_null(),
            "{record}"
        );
    }
    Ok(())
}

fn a_hello_without_a_name_goes_to_the_default_or_is_refused(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let _server = Server::start(tenant.listen(443)?, server::greet("default"))?;
    let mut boot = tls(json!({ "default": "network-51820/10.0.0.2:443" }));
    let strict = json!({ "name": "strict", "bind": "127.0.0.1:8444", "protocol": "tls" });
    if let Some(listeners) = boot["listeners"].as_array_mut() {
        listeners.push(strict);
    }
    let gateway = lab.gateway(boot, tenant.state(json!({})))?;
    // rustls sends no name for an address (RFC 6066, 3).
    ensure!(greeting(GATEWAY, "192.0.2.1")? == b"default");
    let refused = greeting("127.0.0.1:8444".parse()?, "192.0.2.1")?;
    ensure!(refused == UNRECOGNIZED_NAME, "{refused:?}");
    let records = gateway.wait_for_records(2)?;
    let of = |listener: &str| records.iter().find(|record| record["listener"] == listener);
    ensure!(of("https").is_some_and(|record| record["outcome"] == "done"));
    ensure!(
        of("strict").is_some_and(|record| record["outcome"] == "no_name"),
        "{records:?}"
    );
    Ok(())
}

/// What the client of a server-first machine gets: it sends its hello and its end.
pub(crate) fn greeting(gateway: SocketAddr, name: &str) -> Result<Vec<u8>> {
    let mut stream = stream::connect(gateway)?;
    stream.write_all(&client::hello(name)?)?;
    // A refusal may come before the end is sent.
    let _ = stream::half_close(&stream);
    stream::read_to_end(&mut stream)
}
