//! Whatever strangers send: an orderly end, bounded memory, bounded time, and no error in the log.

use std::{
    io::Write as _,
    net::SocketAddr,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::{
    gateway::Gateway,
    lab::{GATEWAY, Lab},
    leak,
    random::Random,
    server::{self, Server},
    stream, tests, tls as client,
    wait::eventually,
};

fn main() -> ExitCode {
    tests::runner::main(tests![
        random_bytes_get_an_end,
        broken_hellos_get_an_end: 120,
        connections_that_come_and_go_cost_nothing,
        slow_hellos_cost_little_and_end_in_time,
        nobody_waits_for_whoever_does_not_read,
    ])
}

const TCP: SocketAddr = SocketAddr::new(GATEWAY.ip(), 8444);

/// Memory that may come and go with load: buffers, pools, the allocator's own.
const SLACK: u64 = 16 << 20;

fn boot() -> Value {
    json!({ "listeners": [
        {
            "name": "https",
            "bind": GATEWAY,
            "protocol": "tls",
            "hello_timeout": "1s",
            "idle_timeout": "2s",
            "proxy_protocol": { "accept_from": ["127.0.0.2/32"] },
        },
        { "name": "db", "bind": TCP, "protocol": "tcp", "to": "network-51820/10.0.0.2:443" },
    ] })
}

fn start(lab: &mut Lab) -> Result<(std::sync::Arc<Gateway>, Server<u64>)> {
    let tenant = lab.tenant(51_820)?;
    let server = Server::start(tenant.listen(443)?, |mut stream, _| {
        stream::read_to_any_end(&mut stream)
    })?;
    let state = tenant.state(json!({ "blue.example": ["10.0.0.2:443"] }));
    Ok((lab.gateway(boot(), state)?, server))
}

/// Sends the bytes in random pieces, and waits for the end.
fn throw(to: SocketAddr, from: [u8; 4], bytes: &[u8], random: &mut Random) -> Result<()> {
    let mut stream = stream::connect_from(from.into(), to)?;
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(1 + random.index(rest.len()));
        if stream.write_all(piece).is_err() {
            return Ok(());
        }
        rest = after;
    }
    match random.below(3) {
        0 => return stream::reset(stream),
        1 => drop(stream::half_close(&stream)),
        _ if to == TCP => drop(stream::half_close(&stream)),
        _ => {}
    }
    stream::read_to_any_end(&mut stream).map(drop)
}

fn random_bytes_get_an_end(lab: &mut Lab) -> Result<()> {
    let (gateway, _server) = start(lab)?;
    let mut random = Random::from_environment();
    let before = leak::memory(gateway.process())?;
    for number in 0..300 {
        let length = 1 + random.index(if number % 10 == 0 { 100_000 } else { 600 });
        let bytes = random.bytes(length);
        let to = if random.one_in(4) { TCP } else { GATEWAY };
        throw(
            to,
            [127, 0, 0, 1 + u8::from(random.one_in(2))],
            &bytes,
            &mut random,
        )?;
    }
    gateway.wait_for_records(300)?;
    let grown = leak::memory(gateway.process())?.saturating_sub(before);
    ensure!(grown < SLACK, "{grown} bytes more");
    Ok(())
}

/// Real hellos with a few bytes changed, cut or doubled: they come much further than random bytes.
fn broken_hellos_get_an_end(lab: &mut Lab) -> Result<()> {
    let (gateway, _server) = start(lab)?;
    let mut random = Random::from_environment();
    let hellos = [
        client::hello("blue.example")?,
        client::in_records_of(9, &client::hello("blue.example")?),
        client::hello_with("blue.example", vec![vec![b'x'; 250]; 60])?,
        tests::proxy::v2(([203, 0, 113, 7].into(), 1), ([203, 0, 113, 8].into(), 2)),
    ];
    let mut count = 0;
    for _ in 0..500 {
        let mut bytes = hellos[random.index(hellos.len())].clone();
        for _ in 0..=random.index(4) {
            let at = random.index(bytes.len());
            match random.below(3) {
                0 => bytes[at] = random.bytes(1)[0],
                1 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, bytes[at]),
            }
        }
        // Those that come out whole wait for the server, those cut short for the timeout: at once.
        let mut stream =
            stream::connect_from([127, 0, 0, 1 + u8::from(count % 2 == 0)].into(), GATEWAY)?;
        let _ = stream.write_all(&bytes);
        let _ = stream::half_close(&stream);
        stream::read_to_any_end(&mut stream)?;
        count += 1;
    }
    gateway.wait_for_records(count)?;
    Ok(())
}

fn connections_that_come_and_go_cost_nothing(lab: &mut Lab) -> Result<()> {
    let (gateway, _server) = start(lab)?;
    let before = leak::memory(gateway.process())?;
    for round in 0..1000 {
        for to in [GATEWAY, TCP] {
            let stream = stream::connect(to)?;
            if round % 2 == 0 {
                stream::reset(stream)?;
            }
        }
    }
    gateway.wait_until_quiet()?;
    let grown = leak::memory(gateway.process())?.saturating_sub(before);
    ensure!(grown < SLACK, "{grown} bytes more");
    Ok(())
}

fn slow_hellos_cost_little_and_end_in_time(lab: &mut Lab) -> Result<()> {
    let (gateway, server) = start(lab)?;
    let before = leak::memory(gateway.process())?;
    let hello = client::hello("blue.example")?;
    let began = Instant::now();
    let mut slow = Vec::new();
    for number in 0..1000 {
        let mut stream = stream::connect(GATEWAY)?;
        stream.write_all(&hello[..1 + number % (hello.len() - 1)])?;
        slow.push(stream);
    }
    // Whoever comes now is served as if they were not there.
    let mut stream = stream::connect(GATEWAY)?;
    stream.write_all(&hello)?;
    stream::half_close(&stream)?;
    stream::read_to_end(&mut stream)?;
    ensure!(server.next()? == hello.len() as u64);
    let grown = leak::memory(gateway.process())?.saturating_sub(before);
    ensure!(grown < SLACK, "{grown} bytes for 1000 slow hellos");
    for stream in &mut slow {
        stream::read_to_any_end(stream)?;
    }
    ensure!(
        began.elapsed() < Duration::from_secs(10),
        "took {:?}",
        began.elapsed()
    );
    let records = gateway.wait_for_records(1001)?;
    let ended = records
        .iter()
        .filter(|record| record["outcome"] == "hello_timeout")
        .count();
    ensure!(ended == 1000, "{ended}");
    Ok(())
}

fn nobody_waits_for_whoever_does_not_read(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let _flood = Server::start(tenant.listen(443)?, |mut stream, _| {
        let bytes = vec![b'f'; 1 << 20];
        while stream.write_all(&bytes).is_ok() {}
        Ok(0_u64)
    })?;
    let _echo = Server::start(tenant.listen(7)?, server::echo)?;
    let mut boot = boot();
    boot["workers"] = json!(1);
    boot["listeners"][1]["to"] = json!("network-51820/10.0.0.2:7");
    let state = tenant.state(json!({ "blue.example": ["10.0.0.2:443"] }));
    let gateway = lab.gateway(boot, state)?;
    let before = leak::memory(gateway.process())?;
    let hello = client::hello("blue.example")?;
    let mut deaf = Vec::new();
    for _ in 0..50 {
        let mut stream = stream::connect(GATEWAY)?;
        stream.write_all(&hello)?;
        deaf.push(stream);
    }
    let mut stream = stream::connect(TCP)?;
    for _ in 0..100 {
        let began = Instant::now();
        stream.write_all(b"x")?;
        stream::expect(&mut stream, b"x")?;
        let took = began.elapsed();
        ensure!(
            took < Duration::from_secs(1),
            "an exchange took {took:?} beside deaf clients"
        );
    }
    // What no destination takes is bounded for each connection, and for the worker.
    let grown = leak::memory(gateway.process())?.saturating_sub(before);
    ensure!(grown < 128 << 20, "{grown} bytes for 50 deaf clients");
    // Nothing moves on them any more: the idle timeout ends them.
    let records = eventually("they are let go", || {
        let records = gateway.records().ok()?;
        (records.len() >= 50).then_some(records)
    })?;
    ensure!(
        records.iter().all(|record| record["outcome"] == "idle"),
        "{records:?}"
    );
    drop(deaf);
    Ok(())
}
