//! Gigabytes through every relay mode, while others half-close, reset and read slowly beside them.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::{
    lab::{GATEWAY, Lab, tcp},
    random::Random,
    runner::Test,
    server::{self, Server},
    stream::{self, Pattern},
    tests,
    wait::{PATIENCE, eventually},
};

use crate::relay::{all_modes, each_mode};

pub(crate) const TESTS: &[Test] = tests![
    gigabytes_arrive_unchanged_whatever_the_others_do: 240,
    bulk_flows_do_not_hold_up_an_exchange_on_their_worker,
];

/// Bytes each way of every whole flow; `RELAY_MIB` sets another size; far more
/// than fits into the buffers between the two (about 20 MiB).
fn flow_bytes() -> u64 {
    let given = std::env::var("RELAY_MIB")
        .ok()
        .and_then(|text| text.parse().ok());
    given.unwrap_or(160_u64) << 20
}

/// What one flow is to be. The client tells the server in the flow's first bytes.
#[derive(Clone, Copy, Debug)]
struct Fate {
    /// Bytes from the client, then its orderly end.
    up: u64,
    /// Bytes from the server, then its orderly end.
    down: u64,
    /// The client resets after that many bytes of the server's.
    client_cuts: Option<u64>,
    /// The server resets after that many bytes of the client's.
    server_cuts: Option<u64>,
    /// The client pauses now and then.
    slow: bool,
}

impl Fate {
    /// Two whole flows, a slow one, one that each side ends early, one that each side resets.
    fn all(random: &mut Random) -> [Self; 7] {
        let bytes = flow_bytes();
        let whole = Self {
            up: bytes,
            down: bytes,
            client_cuts: None,
            server_cuts: None,
            slow: false,
        };
        // Not in the last part: what is in the buffers between the two is done as far as the
        // gateway can know, and a reset then comes after the end.
        let mut moment = || random.below(bytes / 4 * 3);
        [
            whole,
            whole,
            Self {
                slow: true,
                ..whole
            },
            Self {
                up: moment(),
                ..whole
            },
            Self {
                down: moment(),
                ..whole
            },
            Self {
                client_cuts: Some(moment()),
                ..whole
            },
            Self {
                server_cuts: Some(moment()),
                ..whole
            },
        ]
    }

    fn ends_in_order(&self) -> bool {
        self.client_cuts.or(self.server_cuts).is_none()
    }

    fn head(&self) -> [u8; 16] {
        let mut head = [0; 16];
        head[..8].copy_from_slice(&self.down.to_be_bytes());
        head[8..].copy_from_slice(&self.server_cuts.unwrap_or(u64::MAX).to_be_bytes());
        head
    }
}

fn gigabytes_arrive_unchanged_whatever_the_others_do(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let gateway = all_modes(lab, &tenant)?;
    let mut random = Random::from_environment();
    let mut count = 0;
    for (mode, address) in each_mode() {
        let (up, down) = (Pattern::new(&mut random), Pattern::new(&mut random));
        let serve = {
            let (up, down) = (up.clone(), down.clone());
            move |stream, _| serve_fate(stream, &up, &down)
        };
        let server = Server::start(tenant.listen(7)?, serve)?;
        let fates = Fate::all(&mut random);
        let flows = fates.map(|fate| {
            let (up, down, random) = (up.clone(), down.clone(), random.fork());
            thread::spawn(move || run_fate(fate, stream::connect(address)?, &up, &down, random))
        });
        for (flow, fate) in flows.into_iter().zip(fates) {
            let result = flow
                .join()
                .map_err(|_| anyhow::anyhow!("a flow panicked"))?;
            result.with_context(|| format!("{mode}, {fate:?}, the client's side"))?;
        }
        let mut arrived: Vec<u64> = Vec::new();
        for _ in &fates {
            arrived.push(
                server
                    .next()
                    .with_context(|| format!("{mode}, the server's side"))?,
            );
        }
        let expected = fates
            .iter()
            .filter(|fate| fate.ends_in_order())
            .map(|fate| fate.up);
        for wanted in expected {
            let found = arrived.iter().position(|&count| count == wanted);
            ensure!(
                found.is_some(),
                "{mode}: no server had {wanted} bytes: {arrived:?}"
            );
        }
        count += fates.len();
        check_records(
            &gateway.wait_for_records(count)?[count - fates.len()..],
            &fates,
        )
        .with_context(|| format!("{mode}, the records"))?;
    }
    Ok(())
}

fn check_records(records: &[Value], fates: &[Fate]) -> Result<()> {
    for fate in fates.iter().filter(|fate| fate.ends_in_order()) {
        let (up, down) = (fate.up + fate.head().len() as u64, fate.down);
        let equal = |record: &&Value| record["bytes_in"] == up && record["bytes_out"] == down;
        let record = records.iter().find(equal);
        ensure!(
            record.is_some_and(|record| record["outcome"] == "done"),
            "{fate:?}: {records:?}"
        );
    }
    for outcome in ["client_reset", "upstream_reset"] {
        let count = records
            .iter()
            .filter(|record| record["outcome"] == outcome)
            .count();
        ensure!(count == 1, "{count} ended as {outcome}: {records:?}");
    }
    Ok(())
}

/// The server's side of a flow; answers how many bytes came.
fn serve_fate(mut stream: TcpStream, up: &Pattern, down: &Pattern) -> Result<u64> {
    let mut head = [0; 16];
    stream.read_exact(&mut head)?;
    let (bytes, cut) = head.split_at(8);
    let bytes = u64::from_be_bytes(bytes.try_into()?);
    let cut = u64::from_be_bytes(cut.try_into()?);
    exchange(stream, down, bytes, up, cut, |_| ())
}

fn run_fate(
    fate: Fate,
    mut stream: TcpStream,
    up: &Pattern,
    down: &Pattern,
    mut random: Random,
) -> Result<()> {
    stream.write_all(&fate.head())?;
    let cut = fate.client_cuts.unwrap_or(u64::MAX);
    let count = exchange(stream, up, fate.up, down, cut, |_| {
        if fate.slow && random.one_in(64) {
            thread::sleep(Duration::from_millis(random.below(8)));
        }
    })?;
    ensure!(
        !fate.ends_in_order() || count == fate.down,
        "{count} bytes came"
    );
    Ok(())
}

/// Sends `bytes` and receives at once, each to an orderly end, unless `cut` bytes come before: then
/// it resets. A reset by the other side is an end like any other here, as long as all bytes that
/// came before are right. Answers how many came.
fn exchange(
    mut stream: TcpStream,
    send: &Pattern,
    bytes: u64,
    receive: &Pattern,
    cut: u64,
    mut pause: impl FnMut(u64),
) -> Result<u64> {
    let (mut writer, send) = (stream.try_clone()?, send.clone());
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let sending = thread::spawn(move || send_until(&stopped, &mut writer, &send, bytes));
    let mut buffer = vec![0; 256 << 10];
    let mut position = 0;
    while position < cut {
        pause(position);
        match stream.read(&mut buffer) {
            Ok(0) => {
                sending
                    .join()
                    .map_err(|_| anyhow::anyhow!("the sender panicked"))?;
                return Ok(position);
            }
            Ok(length) => {
                receive.check(position, &buffer[..length])?;
                position += length as u64;
            }
            Err(error) if stream::is_reset(&error) => break,
            Err(error) => return Err(error).with_context(|| format!("reading at {position}")),
        }
    }
    // The sender shares the socket: it has to let go of it before closing it can reset.
    stop.store(true, Relaxed);
    sending
        .join()
        .map_err(|_| anyhow::anyhow!("the sender panicked"))?;
    stream::reset(stream)?;
    Ok(position)
}

/// Sends `bytes` and an orderly end, or as much as there is time for until it is stopped or the
/// connection is reset: what counts then is what arrived.
fn send_until(stop: &AtomicBool, to: &mut TcpStream, pattern: &Pattern, bytes: u64) {
    let mut position = 0;
    // Between two looks at `stop`.
    let bounded = to.set_write_timeout(Some(Duration::from_millis(50)));
    while bounded.is_ok() && position < bytes && !stop.load(Relaxed) {
        let piece = usize::try_from(bytes - position)
            .unwrap_or(usize::MAX)
            .min(128 << 10);
        match to.write(pattern.at(position, piece)) {
            Ok(count) => position += count as u64,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
    if position == bytes {
        // The reset may have come meanwhile.
        let _ = stream::half_close(to);
    }
}

fn bulk_flows_do_not_hold_up_an_exchange_on_their_worker(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let _flood = Server::start(tenant.listen(7)?, |mut stream, _| {
        let bytes = vec![b'f'; 1 << 20];
        while stream.write_all(&bytes).is_ok() {}
        Ok(())
    })?;
    let _echo = Server::start(tenant.listen(8)?, server::echo)?;
    for mode in ["copy", "splice", "auto"] {
        let mut boot = tcp("network-51820/10.0.0.2:7", json!({ "relay": mode }));
        let echo = "network-51820/10.0.0.2:8";
        if let Some(listeners) = boot["listeners"].as_array_mut() {
            listeners.push(json!({
                "name": "echo", "bind": "127.0.0.1:8444", "protocol": "tcp", "to": echo,
            }));
        }
        boot["workers"] = json!(1);
        let gateway = lab.gateway(boot, tenant.state(json!({})))?;
        let flows: Vec<TcpStream> = (0..4)
            .map(|_| stream::connect(GATEWAY))
            .collect::<Result<_>>()?;
        let mut exchange = stream::connect("127.0.0.1:8444".parse()?)?;
        let moved = Arc::new(AtomicU64::new(0));
        let read = |stream: &TcpStream| {
            let (mut stream, moved) = (stream.try_clone()?, moved.clone());
            let read = move || {
                let mut buffer = vec![0; 256 << 10];
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    moved.fetch_add(length as u64, Relaxed);
                }
            };
            anyhow::Ok(thread::spawn(read))
        };
        let readers: Vec<_> = flows.iter().map(read).collect::<Result<_>>()?;
        let at_least = |bytes| (moved.load(Relaxed) > bytes).then_some(());
        eventually("the flows are bulk", || at_least(32 << 20))?;
        let mut times = Vec::new();
        for _ in 0..300 {
            let began = Instant::now();
            exchange.write_all(b"x")?;
            stream::expect(&mut exchange, b"x")?;
            times.push(began.elapsed());
        }
        for flow in &flows {
            flow.shutdown(Shutdown::Both)?;
        }
        for reader in readers {
            let panicked = |_| anyhow::anyhow!("a reader panicked");
            reader.join().map_err(panicked)?;
        }
        times.sort_unstable();
        // Generous: machine, clients and gateway share the processors.
        let most = times[times.len() * 9 / 10];
        ensure!(
            most < Duration::from_millis(250),
            "{mode}: exchanges take {most:?}"
        );
        drop((flows, exchange));
        gateway.signal(Signal::SIGTERM)?;
        gateway.wait_for_exit(PATIENCE)?;
    }
    Ok(())
}
