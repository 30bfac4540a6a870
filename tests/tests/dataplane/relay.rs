//! Bytes through every relay mode: none lost, none changed, and every end passed on as it was.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::{
    gateway::Gateway,
    lab::{GATEWAY, Lab, Tenant, tcp},
    leak,
    random::Random,
    runner::Test,
    server::{self, Server},
    stream::{self, Pattern},
    tests,
    wait::eventually,
};

pub(crate) const TESTS: &[Test] = tests![
    each_side_may_end_first_and_the_other_goes_on,
    a_reset_is_passed_on_as_a_reset_both_ways,
    an_early_answer_is_whole_and_ends_in_order,
    a_server_may_speak_first,
    a_stalled_reader_stops_the_writer_and_not_the_memory,
    nothing_is_lost_when_a_slow_reader_gets_the_end_late,
    an_idle_connection_ends,
    many_connections_at_once_are_all_served,
];

/// How bytes may be moved, each on its own port of the gateway.
const MODES: [(&str, u16); 3] = [("copy", 8443), ("splice", 8444), ("auto", 8445)];

/// A gateway that relays in every mode to port 7 of the tenant's machine.
pub(crate) fn all_modes(lab: &mut Lab, tenant: &Tenant) -> Result<Arc<Gateway>> {
    let listener = |(mode, port): &(&str, u16)| {
        json!({
            "name": mode,
            "bind": format!("127.0.0.1:{port}"),
            "protocol": "tcp",
            "relay": mode,
            "to": "network-51820/10.0.0.2:7",
        })
    };
    let listeners: Vec<Value> = MODES.iter().map(listener).collect();
    lab.gateway(json!({ "listeners": listeners }), tenant.state(json!({})))
}

/// The modes, and where the gateway listens for each.
pub(crate) fn each_mode() -> impl Iterator<Item = (&'static str, SocketAddr)> + Clone {
    MODES
        .into_iter()
        .map(|(mode, port)| (mode, SocketAddr::from(([127, 0, 0, 1], port))))
}

fn each_side_may_end_first_and_the_other_goes_on(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let gateway = all_modes(lab, &tenant)?;
    // The first byte says which side ends first.
    let serve = |mut stream: TcpStream, _| {
        let mut first = [0];
        stream.read_exact(&mut first)?;
        if first == *b"c" {
            let request = stream::read_to_end(&mut stream)?;
            stream.write_all(b"heard it all")?;
            return Ok(request);
        }
        stream.write_all(b"that is all")?;
        stream::half_close(&stream)?;
        stream::read_to_end(&mut stream)
    };
    let server = Server::start(tenant.listen(7)?, serve)?;
    for (mode, address) in each_mode() {
        let mut client_first = stream::connect(address)?;
        client_first.write_all(b"client first")?;
        stream::half_close(&client_first)?;
        let answer = stream::read_to_end(&mut client_first).context(mode)?;
        ensure!(answer == b"heard it all", "{mode}: {answer:?}");
        ensure!(server.next()? == b"lient first", "{mode}");

        let mut server_first = stream::connect(address)?;
        server_first.write_all(b"s")?;
        ensure!(stream::read_to_end(&mut server_first).context(mode)? == b"that is all");
        server_first.write_all(b"and more")?;
        stream::half_close(&server_first)?;
        ensure!(server.next().context(mode)? == b"and more");
    }
    for record in gateway.wait_for_records(2 * MODES.len())? {
        ensure!(
            record["outcome"] == "done" && record["fault"] == "none",
            "{record}"
        );
    }
    Ok(())
}

fn a_reset_is_passed_on_as_a_reset_both_ways(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let gateway = all_modes(lab, &tenant)?;
    let serve = |mut stream: TcpStream, _| {
        stream.write_all(b"!")?;
        let mut first = [0];
        stream.read_exact(&mut first)?;
        match &first {
            b"s" => stream::reset(stream).map(|()| 0),
            b"h" => {
                stream::half_close(&stream)?;
                stream::read_to_reset(&mut stream)
            }
            _ => stream::read_to_reset(&mut stream),
        }
    };
    let server = Server::start(tenant.listen(7)?, serve)?;
    for (mode, address) in each_mode() {
        let begin = |first: &[u8]| {
            let mut stream = stream::connect(address)?;
            stream::expect(&mut stream, b"!")?;
            stream.write_all(first)?;
            anyhow::Ok(stream)
        };
        let mut by_server = begin(b"s")?;
        stream::read_to_reset(&mut by_server).with_context(|| format!("{mode}: by the server"))?;
        server.next()?;

        stream::reset(begin(b"c")?)?;
        server
            .next()
            .with_context(|| format!("{mode}: by the client"))?;

        let mut half_closed = begin(b"h")?;
        ensure!(stream::read_to_end(&mut half_closed)?.is_empty(), "{mode}");
        stream::reset(half_closed)?;
        server
            .next()
            .with_context(|| format!("{mode}: after the server's end"))?;
    }
    let records = gateway.wait_for_records(3 * MODES.len())?;
    let count = |outcome: &str| records.iter().filter(|r| r["outcome"] == outcome).count();
    ensure!(count("upstream_reset") == MODES.len(), "{records:?}");
    ensure!(count("client_reset") == 2 * MODES.len(), "{records:?}");
    Ok(())
}

fn a_server_may_speak_first(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    all_modes(lab, &tenant)?;
    let _server = Server::start(tenant.listen(7)?, server::greet("220 ready"))?;
    for (mode, address) in each_mode() {
        // The client says nothing until it was greeted: nothing may wait for it.
        let mut stream = stream::connect(address)?;
        ensure!(stream::read_to_end(&mut stream).context(mode)? == b"220 ready");
    }
    Ok(())
}

fn a_stalled_reader_stops_the_writer_and_not_the_memory(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let gateway = all_modes(lab, &tenant)?;
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let stopped = Arc::new(Mutex::new(stopped));
    let pattern = Pattern::new(&mut Random::seeded(7));
    let serve = {
        let pattern = pattern.clone();
        move |mut stream: TcpStream, _| {
            // Reads nothing until told.
            let _ = stopped.lock().map(|stopped| stopped.recv());
            pattern.receive(&mut stream, |_| ())
        }
    };
    let server = Server::start(tenant.listen(7)?, serve)?;
    for (mode, address) in each_mode() {
        let before = leak::memory(gateway.process())?;
        let mut stream = stream::connect(address)?;
        stream.set_write_timeout(Some(Duration::from_millis(500)))?;
        let mut sent: u64 = 0;
        // Until nothing goes any more: all buffers between the two are full.
        while let Ok(count) = stream.write(pattern.at(sent, 256 << 10)) {
            sent += count as u64;
            ensure!(sent < 1 << 30, "{mode}: nothing stops the writer");
        }
        let grown = leak::memory(gateway.process())?.saturating_sub(before);
        ensure!(
            grown < 8 << 20,
            "{mode}: {grown} bytes more in the gateway, {sent} sent"
        );
        stop.send(())?;
        stream::half_close(&stream)?;
        ensure!(stream::read_to_end(&mut stream)?.is_empty());
        ensure!(server.next().context(mode)? == sent, "{mode}");
    }
    Ok(())
}

fn nothing_is_lost_when_a_slow_reader_gets_the_end_late(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let gateway = all_modes(lab, &tenant)?;
    let pattern = Pattern::new(&mut Random::seeded(8));
    let bytes: u64 = 24 << 20;
    let serve = {
        let pattern = pattern.clone();
        move |mut stream: TcpStream, _| {
            // Sends all and closes the whole socket while most of it is still under way.
            Ok(pattern.send(&mut stream, bytes, 1 << 20)?)
        }
    };
    let _server = Server::start(tenant.listen(7)?, serve)?;
    for (mode, address) in each_mode() {
        let mut stream = stream::connect(address)?;
        let count = pattern.receive(&mut stream, |position| {
            if position < 4 << 20 {
                thread::sleep(Duration::from_millis(5));
            }
        });
        ensure!(count.context(mode)? == bytes, "{mode}");
    }
    for record in gateway.wait_for_records(MODES.len())? {
        ensure!(
            record["bytes_out"] == bytes && record["outcome"] == "done",
            "{record}"
        );
    }
    Ok(())
}

fn an_idle_connection_ends(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let boot = tcp("network-51820/10.0.0.2:7", json!({ "idle_timeout": "1s" }));
    let gateway = lab.gateway(boot, tenant.state(json!({})))?;
    let server = Server::start(tenant.listen(7)?, |mut stream: TcpStream, _| {
        stream.write_all(b"!")?;
        stream::read_to_any_end(&mut stream)
    })?;
    let mut idle = stream::connect(GATEWAY)?;
    let mut busy = stream::connect(GATEWAY)?;
    stream::expect(&mut idle, b"!")?;
    stream::expect(&mut busy, b"!")?;
    // The other one goes on as long as it moves, for twice the timeout.
    for _ in 0..10 {
        busy.write_all(b"x")?;
        thread::sleep(Duration::from_millis(200));
    }
    stream::read_to_any_end(&mut idle)?;
    ensure!(server.next()? == 0);
    let record = &gateway.wait_for_records(1)?[0];
    ensure!(
        record["outcome"] == "idle" && record["fault"] == "gateway",
        "{record}"
    );
    drop(busy);
    ensure!(server.next()? == 10);
    Ok(())
}

fn many_connections_at_once_are_all_served(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let gateway = all_modes(lab, &tenant)?;
    let _server = Server::start(tenant.listen(7)?, server::echo)?;
    let mut streams = Vec::new();
    for (number, (_, address)) in (0..400_u32).zip(each_mode().cycle()) {
        let mut stream = stream::connect(address)?;
        stream.write_all(&number.to_be_bytes())?;
        streams.push((number, stream));
    }
    for (number, stream) in &mut streams {
        stream::expect(stream, &number.to_be_bytes())?;
    }
    eventually("every connection is live", || {
        (leak::sockets(gateway.process()).ok()? >= 800).then_some(())
    })?;
    for (_, stream) in &mut streams {
        stream::half_close(stream)?;
        ensure!(stream::read_to_end(stream)?.is_empty());
    }
    let records = gateway.wait_for_records(400)?;
    ensure!(
        records
            .iter()
            .all(|record| record["bytes_in"] == 4 && record["bytes_out"] == 4)
    );
    Ok(())
}

/// A server answers before it has read everything, and closes: what it did not read makes a reset of
/// that.
fn an_early_answer_is_whole_and_ends_in_order(lab: &mut Lab) -> Result<()> {
    const ANSWER: usize = 200_000;
    const UPLOAD: usize = 8 << 20;
    let tenant = lab.tenant(51_820)?;
    let _gateway = all_modes(lab, &tenant)?;
    let serve = |mut stream: TcpStream, _| {
        let mut first = [0; 1024];
        stream.read_exact(&mut first)?;
        stream.write_all(&vec![b'a'; ANSWER])?;
        // A close with unread bytes throws away what has not left yet, whoever relays it.
        thread::sleep(Duration::from_millis(100));
        Ok(0)
    };
    let _server = Server::start(tenant.listen(7)?, serve)?;
    for (mode, address) in each_mode() {
        for _ in 0..4 {
            let mut stream = stream::connect(address)?;
            let mut sender = stream.try_clone()?;
            // It is refused at some time, which is what this is about.
            let sending = thread::spawn(move || drop(sender.write_all(&vec![b'u'; UPLOAD])));
            let answer = stream::read_to_end(&mut stream).with_context(|| mode.to_string())?;
            ensure!(answer.len() == ANSWER, "{mode}: {} bytes", answer.len());
            drop(stream);
            ensure!(sending.join().is_ok(), "{mode}: the sender");
        }
    }
    Ok(())
}
