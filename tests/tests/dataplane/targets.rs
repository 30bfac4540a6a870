//! Which of a name's machines is dialed, and what happens when it does not answer.

use std::{
    collections::BTreeMap,
    io::Write as _,
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::{
    lab::{GATEWAY, Lab, Tenant, tls},
    runner::Test,
    server::{self, Server},
    stream, tests, tls as client,
};

use crate::names::greeting;

pub(crate) const TESTS: &[Test] = tests![
    the_next_target_is_dialed_when_one_refuses,
    the_next_target_is_dialed_when_one_is_silent,
    when_no_target_answers_the_client_is_let_go_and_the_record_says_why,
    weights_say_how_often_each_target_is_dialed,
    a_backup_is_only_dialed_when_nothing_else_answers,
    least_connections_goes_where_there_is_room,
];

const NAME: &str = "pool.example";

fn the_next_target_is_dialed_when_one_refuses(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let _server = Server::start(tenant.listen(443)?, server::greet("up"))?;
    let state = tenant.state(json!({ NAME: ["10.0.0.2:9", "10.0.0.2:443", "10.0.0.2:10"] }));
    let gateway = lab.gateway(tls(json!({})), state)?;
    for _ in 0..12 {
        ensure!(greeting(GATEWAY, NAME)? == b"up");
    }
    for record in gateway.wait_for_records(12)? {
        ensure!(
            record["target"] == "10.0.0.2:443" && record["outcome"] == "done",
            "{record}"
        );
    }
    Ok(())
}

fn the_next_target_is_dialed_when_one_is_silent(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let _server = Server::start(tenant.listen(443)?, server::greet("up"))?;
    // Nobody has that address; the kernel itself gives up after three seconds.
    let state = tenant.state(json!({ NAME: ["10.0.0.99:443", "10.0.0.2:443"] }));
    let gateway = lab.gateway(tls(json!({ "connect_timeout": "200ms" })), state)?;
    let began = Instant::now();
    for _ in 0..4 {
        ensure!(greeting(GATEWAY, NAME)? == b"up");
    }
    ensure!(
        began.elapsed() < Duration::from_millis(2500),
        "took {:?}",
        began.elapsed()
    );
    let records = gateway.wait_for_records(4)?;
    let waited = records
        .iter()
        .filter_map(|record| record["dial_us"].as_u64());
    let waited = waited
        .filter(|&micros| (200_000..2_000_000).contains(&micros))
        .count();
    ensure!(
        waited >= 1,
        "none was dialed at the silent one first: {records:?}"
    );
    Ok(())
}

fn when_no_target_answers_the_client_is_let_go_and_the_record_says_why(
    lab: &mut Lab,
) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let state = tenant.state(json!({
        "refused.example": ["10.0.0.2:9", "10.0.0.2:10"],
        "silent.example": ["10.0.0.99:443"],
        "unreachable.example": ["192.0.2.1:443"],
    }));
    let gateway = lab.gateway(tls(json!({ "connect_timeout": "300ms" })), state)?;
    for (name, outcome) in [
        ("refused.example", "refused"),
        ("silent.example", "connect_timeout"),
        ("unreachable.example", "unreachable"),
    ] {
        let mut stream = stream::connect(GATEWAY)?;
        stream.write_all(&client::hello(name)?)?;
        stream::read_to_any_end(&mut stream)?;
        let record = gateway.wait_for_record(name, |record| record["name"] == name)?;
        ensure!(
            record["outcome"] == outcome && record["fault"] == "upstream",
            "{record}"
        );
        ensure!(
            record["bytes_out"] == 0 && record["network"] == "network-51820",
            "{record}"
        );
    }
    Ok(())
}

/// Servers at ports 1, 2, 3 that answer with their port.
fn three(tenant: &Tenant) -> Result<Vec<Server<std::net::SocketAddr>>> {
    let start = |port: u16| Server::start(tenant.listen(port)?, server::greet(&port.to_string()));
    (1..=3).map(start).collect()
}

fn one_worker(keys: Value) -> Value {
    let mut boot = tls(keys);
    // Turns are each worker's own.
    boot["workers"] = json!(1);
    boot
}

fn answers(count: usize) -> Result<BTreeMap<String, usize>> {
    let mut answers = BTreeMap::new();
    for _ in 0..count {
        *answers
            .entry(String::from_utf8(greeting(GATEWAY, NAME)?)?)
            .or_insert(0) += 1;
    }
    Ok(answers)
}

fn weights_say_how_often_each_target_is_dialed(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let _servers = three(&tenant)?;
    let state = tenant.state(json!({ NAME: [
        { "to": "10.0.0.2:1", "weight": 5 },
        { "to": "10.0.0.2:2" },
        { "to": "10.0.0.2:3", "weight": 2 },
    ] }));
    lab.gateway(one_worker(json!({})), state)?;
    let answers = answers(24)?;
    let expected = [("1", 15), ("2", 3), ("3", 6)].map(|(port, count)| (port.to_owned(), count));
    ensure!(answers == BTreeMap::from(expected), "{answers:?}");
    Ok(())
}

fn a_backup_is_only_dialed_when_nothing_else_answers(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let primary = Server::start(tenant.listen(1)?, server::greet("primary"))?;
    let _backup = Server::start(tenant.listen(2)?, server::greet("backup"))?;
    let state = tenant.state(json!({ NAME: [
        { "to": "10.0.0.2:2", "backup": true },
        { "to": "10.0.0.2:1" },
    ] }));
    lab.gateway(tls(json!({})), state)?;
    ensure!(answers(6)?.into_iter().eq([("primary".to_owned(), 6)]));
    drop(primary);
    ensure!(answers(6)?.into_iter().eq([("backup".to_owned(), 6)]));
    Ok(())
}

fn least_connections_goes_where_there_is_room(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let stay = |port: u16| {
        move |mut stream: TcpStream, _| {
            stream.write_all(port.to_string().as_bytes())?;
            stream::read_to_any_end(&mut stream)
        }
    };
    let _one = Server::start(tenant.listen(1)?, stay(1))?;
    let _two = Server::start(tenant.listen(2)?, stay(2))?;
    let pool = json!({
        "balance": "least_connections",
        "targets": [{ "to": "10.0.0.2:1" }, { "to": "10.0.0.2:2" }],
    });
    let gateway = lab.gateway(tls(json!({})), tenant.state(json!({ NAME: pool })))?;
    let dial = || {
        let mut stream = stream::connect(GATEWAY)?;
        stream.write_all(&client::hello(NAME)?)?;
        let mut port = [0];
        std::io::Read::read_exact(&mut stream, &mut port)?;
        anyhow::Ok((port[0], stream))
    };
    let mut live = Vec::new();
    for _ in 0..10 {
        live.push(dial()?);
    }
    let of = |live: &[(u8, TcpStream)], port| live.iter().filter(|(p, _)| *p == port).count();
    ensure!(
        of(&live, b'1') == 5 && of(&live, b'2') == 5,
        "an even spread over all workers"
    );
    live.retain(|(port, _)| *port == b'1');
    gateway.wait_for_records(5)?;
    for _ in 0..5 {
        let (port, stream) = dial()?;
        ensure!(port == b'2', "where nothing lives is room");
        live.push((port, stream));
    }
    Ok(())
}
