//! Hellos as they come from the wire: whole, in pieces, late, and not at all.

use std::{
    fs,
    io::Write as _,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::{
    lab::{GATEWAY, Lab, tls},
    runner::Test,
    server::Server,
    stream, tests,
    tls::{self as client, in_records_of},
};

pub(crate) const TESTS: &[Test] = tests![
    a_hello_may_come_in_any_pieces_and_arrives_unchanged,
    captured_hellos_of_real_clients_arrive_unchanged,
    what_is_no_tls_is_refused_at_once,
    a_hello_that_does_not_come_is_not_waited_for,
    a_hello_that_ends_early_or_is_too_long_is_refused,
    a_partly_arrived_hello_costs_no_cpu,
];

const NAME: &str = "blue.example";

fn a_hello_may_come_in_any_pieces_and_arrives_unchanged(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let read = |mut stream, _| stream::read_to_end(&mut stream);
    let server = Server::start(tenant.listen(443)?, read)?;
    lab.gateway(
        tls(json!({})),
        tenant.state(json!({ NAME: ["10.0.0.2:443"] })),
    )?;
    let short = client::hello(NAME)?;
    // As long as hellos with post-quantum keys, and longer than any packet.
    let long = client::hello_with(NAME, vec![vec![b'x'; 200]; 20])?;
    ensure!(long.len() > 4000);
    for (hello, piece) in [
        (short.clone(), usize::MAX),
        (short.clone(), 1),
        (in_records_of(1, &short), usize::MAX),
        (in_records_of(1, &short), 1),
        (in_records_of(3, &short), 7),
        (long.clone(), usize::MAX),
        (long.clone(), 100),
        (in_records_of(100, &long), 33),
    ] {
        let mut stream = stream::connect(GATEWAY)?;
        for bytes in hello.chunks(piece) {
            stream.write_all(bytes)?;
        }
        stream.write_all(b"and what follows")?;
        stream::half_close(&stream)?;
        let answer = stream::read_to_end(&mut stream)?;
        ensure!(
            answer.is_empty(),
            "{answer:?} for {} in pieces of {piece}",
            hello.len()
        );
        let arrived = server.next()?;
        ensure!(
            arrived == [&hello[..], b"and what follows"].concat(),
            "pieces of {piece}"
        );
    }
    Ok(())
}

fn captured_hellos_of_real_clients_arrive_unchanged(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let read = |mut stream, _| stream::read_to_end(&mut stream);
    let server = Server::start(tenant.listen(443)?, read)?;
    let boot = tls(json!({ "default": "network-51820/10.0.0.2:443" }));
    let gateway = lab.gateway(boot, tenant.state(json!({})))?;
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/hellos");
    let files = fs::read_dir(directory)?.filter_map(|entry| Some(entry.ok()?.path()));
    let hellos = files.filter(|path| path.extension().is_some_and(|extension| extension == "bin"));
    let mut count = 0;
    for path in hellos {
        let hello = fs::read(&path)?;
        for piece in [usize::MAX, 1 + hello.len() / 3, 11] {
            let mut stream = stream::connect(GATEWAY)?;
            for bytes in hello.chunks(piece) {
                stream.write_all(bytes)?;
            }
            stream::half_close(&stream)?;
            stream::read_to_end(&mut stream)?;
            ensure!(
                server.next()? == hello,
                "{} in pieces of {piece}",
                path.display()
            );
            count += 1;
            let record = &gateway.wait_for_records(count)?[count - 1];
            ensure!(outcome(record) == "done", "{}: {record}", path.display());
        }
    }
    ensure!(count >= 60, "only {count} hellos were found");
    Ok(())
}

fn what_is_no_tls_is_refused_at_once(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let gateway = lab.gateway(
        tls(json!({ "hello_timeout": "15s" })),
        tenant.state(json!({})),
    )?;
    let requests: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nHost: blue.example\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
        b"\0",
        b"\x16\x03\x01\x02\x00\x02",
    ];
    for request in requests {
        let began = Instant::now();
        let mut stream = stream::connect(GATEWAY)?;
        stream.write_all(request)?;
        stream::read_to_any_end(&mut stream)?;
        let took = began.elapsed();
        ensure!(
            took < Duration::from_secs(5),
            "{request:?} was refused after {took:?}"
        );
    }
    for record in gateway.wait_for_records(requests.len())? {
        ensure!(
            ["not_tls", "bad_hello"].contains(&outcome(&record)),
            "{record}"
        );
        ensure!(record["fault"] == "client", "{record}");
    }
    Ok(())
}

fn a_hello_that_does_not_come_is_not_waited_for(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let boot = tls(json!({ "hello_timeout": "300ms" }));
    let gateway = lab.gateway(boot, tenant.state(json!({ NAME: ["10.0.0.2:443"] })))?;
    let hello = client::hello(NAME)?;
    for part in [1, 5, 6, hello.len() - 1] {
        let mut stream = stream::connect(GATEWAY)?;
        stream.write_all(&hello[..part])?;
        stream::read_to_any_end(&mut stream)?;
    }
    // One byte at a time does not stretch it.
    let mut dribbling = stream::connect(GATEWAY)?;
    let began = Instant::now();
    dribbling.set_read_timeout(Some(Duration::from_millis(50)))?;
    for byte in &hello {
        if dribbling.write_all(&[*byte]).is_err() || ended(&mut dribbling) {
            break;
        }
    }
    ensure!(
        began.elapsed() < Duration::from_secs(3),
        "dribbled for {:?}",
        began.elapsed()
    );
    for record in gateway.wait_for_records(5)? {
        ensure!(outcome(&record) == "hello_timeout", "{record}");
    }
    // A client that says nothing at all: the kernel may hold it back for a while.
    let mut silent = stream::connect(GATEWAY)?;
    stream::read_to_any_end(&mut silent)?;
    Ok(())
}

fn a_hello_that_ends_early_or_is_too_long_is_refused(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let mut boot = tls(json!({}));
    boot["limits"] = json!({ "hello_bytes_max": "1KiB" });
    let gateway = lab.gateway(boot, tenant.state(json!({ NAME: ["10.0.0.2:443"] })))?;
    let hello = client::hello(NAME)?;
    let mut early = stream::connect(GATEWAY)?;
    early.write_all(&hello[..hello.len() / 2])?;
    stream::half_close(&early)?;
    stream::read_to_any_end(&mut early)?;
    ensure!(outcome(&gateway.wait_for_records(1)?[0]) == "hello_eof");
    let mut long = stream::connect(GATEWAY)?;
    long.write_all(&client::hello_with(NAME, vec![vec![b'x'; 200]; 20])?)?;
    stream::read_to_any_end(&mut long)?;
    let record = &gateway.wait_for_records(2)?[1];
    ensure!(outcome(record) == "hello_too_long", "{record}");
    Ok(())
}

/// A peeked socket stays readable: whoever only waits for that spins.
fn a_partly_arrived_hello_costs_no_cpu(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let boot = tls(json!({ "hello_timeout": "2s" }));
    let gateway = lab.gateway(boot, tenant.state(json!({ NAME: ["10.0.0.2:443"] })))?;
    let hello = client::hello(NAME)?;
    let mut streams = Vec::new();
    for part in [1, 4, 5, 6, 50, hello.len() - 1] {
        let mut stream = stream::connect(GATEWAY)?;
        stream.write_all(&hello[..part])?;
        streams.push(stream);
    }
    let before = tests::leak::cpu_ticks(gateway.process())?;
    for stream in &mut streams {
        stream::read_to_any_end(stream)?;
    }
    let ticks = tests::leak::cpu_ticks(gateway.process())? - before;
    // A spinning worker uses 100 ticks a second; two seconds passed.
    ensure!(ticks < 40, "{ticks} ticks while waiting for hellos");
    Ok(())
}

fn outcome(record: &Value) -> &str {
    record["outcome"].as_str().unwrap_or_default()
}

fn ended(stream: &mut std::net::TcpStream) -> bool {
    match std::io::Read::read(stream, &mut [0; 16]) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => stream::is_reset(&error),
    }
}
