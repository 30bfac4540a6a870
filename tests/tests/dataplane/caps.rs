//! Every bound holds, is told in the record, and lets go when there is room again.

use std::{
    io::Write as _,
    net::{IpAddr, Ipv4Addr, TcpStream},
    process::Stdio,
    time::Duration,
};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::{
    gateway::Gateway,
    lab::{GATEWAY, Lab, tcp},
    runner::Test,
    server::{self, Server},
    stream, tests,
    wait::eventually,
};

pub(crate) const TESTS: &[Test] = tests![
    a_listener_has_at_most_its_connections,
    the_gateway_has_at_most_its_connections,
    a_network_has_at_most_its_connections,
    a_source_has_at_most_its_connections_and_takes_no_room_from_others,
    a_source_comes_at_most_at_its_rate,
    without_descriptors_it_waits_and_then_goes_on,
];

const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));

/// Connects and exchanges a byte: the connection is served.
fn served(source: IpAddr) -> Result<Option<TcpStream>> {
    let mut stream = stream::connect_from(source, GATEWAY)?;
    let echoed = stream.write_all(b"x").is_ok() && stream::expect(&mut stream, b"x").is_ok();
    Ok(echoed.then_some(stream))
}

/// Two are served, the third is not; when one ended, the next is.
fn two_and_no_more(lab: &mut Lab, boot: Value, outcome: &str) -> Result<std::sync::Arc<Gateway>> {
    let tenant = lab.tenant(51_820)?;
    let _server = Server::start(tenant.listen(7)?, server::echo)?;
    let gateway = lab.gateway(boot, tenant.state(json!({})))?;
    let local = Ipv4Addr::LOCALHOST.into();
    let (first, second) = (served(local)?, served(local)?);
    ensure!(first.is_some() && second.is_some());
    for _ in 0..5 {
        ensure!(served(local)?.is_none(), "one too many is served");
    }
    let records = gateway.wait_for_records(5)?;
    ensure!(
        records.iter().all(|record| record["outcome"] == outcome),
        "{records:?}"
    );
    drop(first);
    gateway.wait_for_records(6)?;
    let third = eventually("there is room again", || served(local).ok()?);
    ensure!(third.is_ok());
    drop((second, third));
    gateway.wait_until_quiet()?;
    Ok(gateway)
}

fn boot(limits: Value) -> Value {
    let mut boot = tcp("network-51820/10.0.0.2:7", json!({}));
    boot["limits"] = limits;
    boot
}

fn a_listener_has_at_most_its_connections(lab: &mut Lab) -> Result<()> {
    let boot = tcp("network-51820/10.0.0.2:7", json!({ "connections_max": 2 }));
    two_and_no_more(lab, boot, "listener_limit").map(drop)
}

fn the_gateway_has_at_most_its_connections(lab: &mut Lab) -> Result<()> {
    two_and_no_more(lab, boot(json!({ "connections_max": 2 })), "gateway_limit").map(drop)
}

fn a_network_has_at_most_its_connections(lab: &mut Lab) -> Result<()> {
    let boot = boot(json!({ "connections_per_network_max": 2 }));
    two_and_no_more(lab, boot, "network_limit").map(drop)
}

fn a_source_has_at_most_its_connections_and_takes_no_room_from_others(lab: &mut Lab) -> Result<()> {
    let boot = boot(json!({ "connections_per_source_max": 2 }));
    two_and_no_more(lab, boot, "source_limit")?;
    Ok(())
}

fn a_source_comes_at_most_at_its_rate(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let _server = Server::start(tenant.listen(7)?, server::echo)?;
    let boot = boot(json!({ "accept_rate_per_source": 5 }));
    let gateway = lab.gateway(boot, tenant.state(json!({})))?;
    let local = Ipv4Addr::LOCALHOST.into();
    let mut count = 0;
    for _ in 0..40 {
        count += usize::from(served(local)?.is_some());
    }
    // A second's worth at once, and what comes back while the others are tried.
    ensure!((5..20).contains(&count), "{count} of 40 were served");
    ensure!(
        served(OTHER)?.is_some(),
        "another source has a rate of its own"
    );
    let records = gateway.wait_for_records(41)?;
    let refused = records
        .iter()
        .filter(|record| record["outcome"] == "source_rate")
        .count();
    ensure!(
        refused == 40 - count,
        "{refused} refused and {count} served of 40"
    );
    eventually("the rate lets it in again", || served(local).ok()?)?;
    Ok(())
}

fn without_descriptors_it_waits_and_then_goes_on(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let _server = Server::start(tenant.listen(7)?, server::echo)?;
    // Unless it is written, there are no more connections than descriptors.
    let mut boot = boot(json!({ "connections_max": 1000 }));
    boot["workers"] = json!(1);
    let state = tenant.state(json!({}));
    // A quarter of them is kept back for control.
    lab.gateway_after("ulimit -n 96", Stdio::null(), boot, state)?;
    let local: IpAddr = Ipv4Addr::LOCALHOST.into();
    // One after the other, until one is not served: each takes two descriptors.
    let mut live = Vec::new();
    let refused = loop {
        let mut stream = stream::connect_from(local, GATEWAY)?;
        stream.set_read_timeout(Some(Duration::from_millis(500)))?;
        let sent = stream.write_all(b"x");
        if sent.is_err() || stream::expect(&mut stream, b"x").is_err() {
            break stream;
        }
        live.push(stream);
        ensure!(live.len() <= 32, "more connections than descriptors");
    };
    ensure!(live.len() >= 10, "only {} are served", live.len());
    // Many more at once.
    let burst: Vec<_> = (0..100)
        .map(|_| stream::connect_from(local, GATEWAY))
        .collect();
    for stream in &mut live {
        stream.write_all(b"y")?;
        stream::expect(stream, b"y")?;
    }
    drop((live, refused, burst));
    let mut stream = eventually("it serves again", || served(local).ok()?)?;
    stream::half_close(&stream)?;
    ensure!(stream::read_to_end(&mut stream)?.is_empty());
    Ok(())
}
