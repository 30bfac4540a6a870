//! What is accounted is what both ends counted: exactly once for each connection, in the records
//! and in the totals, however it ended.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpStream},
    process::ExitCode,
    thread,
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::{
    lab::{GATEWAY, Lab, tls},
    random::Random,
    server::Server,
    stream, tests, tls as client,
    wait::PATIENCE,
};

fn main() -> ExitCode {
    tests::runner::main(tests![
        every_connection_has_one_record_with_every_field,
        orderly_ends_are_accounted_to_the_byte,
        after_a_reset_no_more_is_accounted_than_was_sent,
        the_totals_at_the_end_are_the_sum_of_the_records,
    ])
}

const NAME: &str = "blue.example";

/// Every field of a record, and whether it may be null.
const FIELDS: [(&str, bool); 20] = [
    ("time", false),
    ("listener", false),
    ("worker", false),
    ("client", false),
    ("name", true),
    ("alpn", true),
    ("route", true),
    ("network", true),
    ("target", true),
    ("bytes_in", false),
    ("bytes_out", false),
    ("accept_us", false),
    ("hello_us", true),
    ("dial_us", true),
    ("first_byte_us", true),
    ("total_us", false),
    ("relay", false),
    ("outcome", false),
    ("fault", false),
    ("reason", true),
];

/// A server that sends as many bytes as the client's first four say, and reads to the end;
/// answers how many came after the hello, and how many it could send.
fn responder(hello: usize) -> impl Fn(TcpStream, SocketAddr) -> Result<(u64, u64)> + Clone {
    move |mut stream, _| {
        stream::skip(&mut stream, hello)?;
        let mut size = [0; 4];
        std::io::Read::read_exact(&mut stream, &mut size)?;
        let answer = vec![b'a'; u32::from_be_bytes(size).try_into()?];
        let mut sent = 0;
        while sent < answer.len() {
            match stream.write(&answer[sent..]) {
                Ok(count) => sent += count,
                Err(error) if stream::is_reset(&error) => break,
                Err(error) => return Err(error.into()),
            }
        }
        let _ = stream::half_close(&stream);
        Ok((4 + stream::read_to_any_end(&mut stream)?, sent as u64))
    }
}

fn every_connection_has_one_record_with_every_field(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let hello = client::hello(NAME)?;
    let server = Server::start(tenant.listen(443)?, responder(hello.len()))?;
    let gateway = lab.gateway(
        tls(json!({})),
        tenant.state(json!({ NAME: ["10.0.0.2:443"] })),
    )?;
    let mut whole = stream::connect(GATEWAY)?;
    whole.write_all(&[&hello[..], &5_u32.to_be_bytes()].concat())?;
    stream::half_close(&whole)?;
    ensure!(stream::read_to_end(&mut whole)? == b"aaaaa");
    server.next()?;
    for refused in [client::hello("other.example")?, b"nonsense".to_vec()] {
        let mut stream = stream::connect(GATEWAY)?;
        stream.write_all(&refused)?;
        stream::read_to_any_end(&mut stream)?;
    }
    let records = gateway.wait_for_records(3)?;
    for record in &records {
        let record = record.as_object().context("a record is an object")?;
        let keys: Vec<&str> = record.keys().map(String::as_str).collect();
        ensure!(keys.len() == FIELDS.len(), "{keys:?}");
        for (field, nullable) in FIELDS {
            let value = record.get(field).with_context(|| format!("no {field}"))?;
            ensure!(
                nullable || !value.is_null(),
                "{field} is null in {record:?}"
            );
        }
    }
    let done = records
        .iter()
        .find(|record| record["outcome"] == "done")
        .context("none is done")?;
    for (field, expected) in [
        ("listener", json!("https")),
        ("client", json!(whole.local_addr()?)),
        ("name", json!(NAME)),
        ("route", json!(NAME)),
        ("network", json!("network-51820")),
        ("target", json!("10.0.0.2:443")),
        ("bytes_in", json!(hello.len() + 4)),
        ("bytes_out", json!(5)),
        ("fault", json!("none")),
    ] {
        ensure!(
            done[field] == expected,
            "{field} is {} and not {expected}",
            done[field]
        );
    }
    let micros = |field: &str| done[field].as_u64().with_context(|| format!("no {field}"));
    ensure!(micros("first_byte_us")? <= micros("total_us")?);
    ensure!(micros("hello_us")? + micros("dial_us")? <= micros("total_us")?);
    Ok(())
}

/// Runs connections of random sizes, several at once; answers what both ends counted of each, by
/// the client's address: bytes in, bytes out.
fn run(seed: &mut Random) -> Result<Vec<(SocketAddr, u64, u64)>> {
    let hello = client::hello(NAME)?;
    let mut counted = Vec::new();
    for _ in 0..6 {
        let flows: Vec<_> = (0..8)
            .map(|_| {
                let (up, down) = (seed.index(300_000), seed.index(3_000_000));
                let hello = hello.clone();
                thread::spawn(move || {
                    let mut stream = stream::connect(GATEWAY)?;
                    let body = vec![b'q'; up];
                    let size = u32::try_from(down)?.to_be_bytes();
                    stream.write_all(&[&hello[..], &size, &body].concat())?;
                    stream::half_close(&stream)?;
                    let received = stream::read_to_end(&mut stream)?.len();
                    ensure!(received == down, "{received} of {down} bytes came");
                    let sent = (hello.len() + 4 + up) as u64;
                    Ok((stream.local_addr()?, sent, received as u64))
                })
            })
            .collect();
        for flow in flows {
            counted.push(
                flow.join()
                    .map_err(|_| anyhow::anyhow!("a flow panicked"))??,
            );
        }
    }
    Ok(counted)
}

fn number(record: &Value, field: &str) -> u64 {
    record[field].as_u64().unwrap_or_default()
}

fn orderly_ends_are_accounted_to_the_byte(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let hello = client::hello(NAME)?.len();
    let server = Server::start(tenant.listen(443)?, responder(hello))?;
    let gateway = lab.gateway(
        tls(json!({})),
        tenant.state(json!({ NAME: ["10.0.0.2:443"] })),
    )?;
    let counted = run(&mut Random::from_environment())?;
    let records = gateway.wait_for_records(counted.len())?;
    for (client, sent, received) in &counted {
        let of = |record: &&Value| record["client"] == client.to_string();
        let record = records.iter().find(of).context("no record of a client")?;
        ensure!(
            number(record, "bytes_in") == *sent,
            "{record}: the client sent {sent}"
        );
        ensure!(
            number(record, "bytes_out") == *received,
            "{record}: it received {received}"
        );
    }
    let (mut up, mut down) = (0, 0);
    for _ in &counted {
        let (came, sent) = server.next()?;
        up += came + hello as u64;
        down += sent;
    }
    ensure!(
        up == records
            .iter()
            .map(|record| number(record, "bytes_in"))
            .sum::<u64>()
    );
    ensure!(
        down == records
            .iter()
            .map(|record| number(record, "bytes_out"))
            .sum::<u64>()
    );
    Ok(())
}

fn after_a_reset_no_more_is_accounted_than_was_sent(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let hello = client::hello(NAME)?;
    let server = Server::start(tenant.listen(443)?, responder(hello.len()))?;
    let gateway = lab.gateway(
        tls(json!({})),
        tenant.state(json!({ NAME: ["10.0.0.2:443"] })),
    )?;
    let mut random = Random::from_environment();
    for count in 1..=20 {
        let mut stream = stream::connect(GATEWAY)?;
        let local = stream.local_addr()?;
        stream.write_all(&[&hello[..], &(64_u32 << 20).to_be_bytes()].concat())?;
        let want = 1 + random.index(4 << 20);
        stream::skip(&mut stream, want)?;
        stream::reset(stream)?;
        let (came, sent) = server.next()?;
        let record = &gateway.wait_for_records(count)?[count - 1];
        ensure!(record["client"] == local.to_string() && record["outcome"] == "client_reset");
        ensure!(
            came == 4 && number(record, "bytes_in") == hello.len() as u64 + 4,
            "{record}"
        );
        let out = number(record, "bytes_out");
        let between = want as u64..=sent;
        ensure!(
            between.contains(&out),
            "{out} accounted, {want} received, {sent} sent"
        );
    }
    Ok(())
}

fn the_totals_at_the_end_are_the_sum_of_the_records(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let hello = client::hello(NAME)?.len();
    let _server = Server::start(tenant.listen(443)?, responder(hello))?;
    let gateway = lab.gateway(
        tls(json!({})),
        tenant.state(json!({ NAME: ["10.0.0.2:443"] })),
    )?;
    let counted = run(&mut Random::from_environment())?;
    let records = gateway.wait_for_records(counted.len())?;
    gateway.signal(Signal::SIGTERM)?;
    ensure!(gateway.wait_for_exit(PATIENCE)?.success());
    let log = gateway.log()?;
    let ended = log
        .iter()
        .find(|line| line["message"] == "ended")
        .context("no last words")?;
    let bytes = records
        .iter()
        .map(|r| number(r, "bytes_in") + number(r, "bytes_out"));
    ensure!(number(ended, "bytes") == bytes.sum::<u64>(), "{ended}");
    ensure!(
        number(ended, "connections") == counted.len() as u64,
        "{ended}"
    );
    ensure!(number(ended, "records_dropped") == 0, "{ended}");
    Ok(())
}
