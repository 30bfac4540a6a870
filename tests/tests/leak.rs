//! After any amount of work, what was held at the start is held: descriptors, threads, memory.
//! Every test of every suite ends with the same look at descriptors, names, mounts and links.

use std::{fs, io::Write as _, net::SocketAddr, process::ExitCode, thread};

use anyhow::{Result, ensure};
use serde_json::json;
use tests::{
    gateway::Gateway,
    lab::{GATEWAY, Lab, MACHINE, tls},
    leak,
    random::Random,
    server::{self, Server},
    stream, tests, tls as client,
};

fn main() -> ExitCode {
    tests::runner::main(tests![
        thousands_of_connections_of_all_kinds_leave_nothing: 180,
        reloads_leave_nothing,
        a_gateway_that_has_nothing_to_do_is_small,
    ])
}

/// What may grow over a whole test: pools and the allocator's own.
const SLACK: u64 = 6 << 20;

fn threads(gateway: &Gateway) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{}/task", gateway.process()))?.count())
}

/// One round: connections that end in every way there is.
fn round(seed: u64) -> Result<()> {
    let mut random = Random::seeded(seed);
    let hello = client::hello("blue.example")?;
    for _ in 0..60 {
        let mut stream = stream::connect(GATEWAY)?;
        let kind = random.below(6);
        match kind {
            0 => stream.write_all(&client::hello("nobody.example")?)?,
            1 => stream.write_all(b"GET / HTTP/1.1\r\n\r\n")?,
            2 => stream.write_all(&hello[..100])?,
            3 => stream.write_all(&client::hello("down.example")?)?,
            _ => stream.write_all(&hello)?,
        }
        match kind {
            4 => stream::reset(stream)?,
            _ => {
                let _ = stream::half_close(&stream);
                stream::read_to_any_end(&mut stream)?;
            }
        }
    }
    Ok(())
}

fn rounds(from: u64) -> Result<()> {
    let workers: Vec<_> = (from..from + 10)
        .map(|seed| thread::spawn(move || round(seed)))
        .collect();
    for worker in workers {
        worker
            .join()
            .map_err(|_| anyhow::anyhow!("a round panicked"))??;
    }
    Ok(())
}

fn thousands_of_connections_of_all_kinds_leave_nothing(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let _server = Server::start(tenant.listen(443)?, server::echo)?;
    let down = SocketAddr::from((MACHINE, 9));
    let state = tenant.state(json!({
        "blue.example": [SocketAddr::from((MACHINE, 443))],
        "down.example": [down],
    }));
    let gateway = lab.gateway(tls(json!({})), state)?;
    rounds(0)?;
    gateway.wait_until_quiet()?;
    let descriptors = leak::descriptors(gateway.process())?;
    let (memory, tasks) = (leak::memory(gateway.process())?, threads(&gateway)?);
    for from in 1..8 {
        rounds(from * 100)?;
    }
    gateway.wait_until_quiet()?;
    gateway.wait_for_records(8 * 600)?;
    let now = leak::descriptors(gateway.process())?;
    ensure!(now == descriptors, "{now:?} instead of {descriptors:?}");
    ensure!(threads(&gateway)? == tasks, "threads are left");
    let grown = leak::memory(gateway.process())?.saturating_sub(memory);
    ensure!(
        grown < SLACK,
        "{grown} bytes more after 4200 more connections"
    );
    Ok(())
}

fn reloads_leave_nothing(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let _server = Server::start(tenant.listen(443)?, server::echo)?;
    let state = |generation: u32| {
        let names = (0..2000).map(|number| {
            let name = format!("host-{number}-{}.example", generation % 2);
            (name, json!(["10.0.0.2:443"]))
        });
        tenant.state(serde_json::Value::Object(names.collect()))
    };
    let gateway = lab.gateway(tls(json!({})), state(0))?;
    let reload = |generation: u32| -> Result<()> {
        gateway.api().apply(&state(generation))?;
        let mut stream = stream::connect(GATEWAY)?;
        let hello = client::hello(&format!("host-7-{}.example", generation % 2))?;
        stream.write_all(&hello)?;
        stream::expect(&mut stream, &hello)
    };
    for generation in 1..=40 {
        reload(generation)?;
    }
    gateway.wait_until_quiet()?;
    let descriptors = leak::descriptors(gateway.process())?;
    let memory = leak::memory(gateway.process())?;
    for generation in 41..=160 {
        reload(generation)?;
    }
    gateway.wait_until_quiet()?;
    let now = leak::descriptors(gateway.process())?;
    ensure!(now == descriptors, "{now:?} instead of {descriptors:?}");
    let grown = leak::memory(gateway.process())?.saturating_sub(memory);
    // A snapshot of 2000 names takes about a megabyte, and two or three are there at a time.
    ensure!(
        grown < 24 << 20,
        "{grown} bytes more after 120 more reloads"
    );
    Ok(())
}

/// Memory at the start beside the program's own text, which differs from build to build, and beside the
/// queue of a connection log, which is as long as the boot file says.
const START_MAX: u64 = 12 << 20;

fn a_gateway_that_has_nothing_to_do_is_small(lab: &mut Lab) -> Result<()> {
    let mut boot = tls(json!({}));
    boot["log"]["file"] = json!("none");
    let gateway = lab.gateway(boot, json!({}))?;
    gateway.wait_until_quiet()?;
    let memory = leak::memory(gateway.process())?;
    ensure!(memory < START_MAX, "{memory} bytes at the start");
    Ok(())
}
