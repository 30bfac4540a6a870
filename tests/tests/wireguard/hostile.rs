//! What strangers send to a network's public port while a real peer works: a million datagrams of
//! all kinds, and floods of handshakes.
//!
//! ```text
//!   peer ──► Underlay (keeps copies) ──► 127.0.0.1:50000 ◄── strangers, 127.0.0.0/8
//! ```

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::json;
use tests::{
    digest::Direction,
    lab::Lab,
    leak,
    network::Network,
    peer::Client,
    random::Random,
    runner::{Test, say},
    tests,
    underlay::{Underlay, Weather},
    wait::{PATIENCE, within},
};

use crate::{
    scene::{self, Family, PORT, Tunnel},
    strangers::{self, Kind},
};

pub(crate) const TESTS: &[Test] = tests![
    a_million_datagrams_of_strangers_change_nothing_and_get_no_answer: 180,
];

/// How many datagrams the device must have taken from its socket.
const TAKEN: u64 = 1_000_000;
/// Of those that are sent, one in so many is a handshake message that the device cannot tell from a
/// good one before it looked inside: few enough a second that it never counts as under load, where
/// it would answer with cookies.
const ONE_HANDSHAKE_IN: u64 = 2_000;
/// After how many datagrams the strangers look whether the device keeps up, and how much may wait in
/// its socket: a quarter of what it holds, so that the peer's own datagrams have room.
const ROUND: u64 = 64;
const WAITING_MAX: u64 = 1 << 20;
/// Memory that may come and go: buffers, pools, the allocator's own.
const SLACK: u64 = 16 << 20;

fn a_million_datagrams_of_strangers_change_nothing_and_get_no_answer(lab: &mut Lab) -> Result<()> {
    let mut random = Random::from_environment();
    let tunnels = [Tunnel::new(lab, Client::WireGuardGo, PORT)?];
    let gateway = scene::start(lab, json!({}), &tunnels)?;
    let [tunnel] = tunnels;
    let weather = Weather {
        doubled: 5,
        swapped: 5,
        ..Weather::default()
    };
    let underlay = Underlay::before(PORT, weather, &mut random)?;
    tunnel.meet_at(Family::V4, underlay.port, tunnel.network.uplink())?;
    let ends = tunnel.join(Family::V4)?;
    ends.pass_both_ways(1 << 20, &mut random)?;
    let endpoint = tunnel.network.endpoint(&tunnel.peer.keys.public)?;
    let before = leak::memory(gateway.process())?;
    let (done, passed) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut own = random.fork();
    let thrown = thread::scope(|scope| {
        let streaming = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for direction in [Direction::Up, Direction::Down] {
                    let bytes = ends.pass(direction, 1 << 20, &mut own)?.bytes;
                    passed.fetch_add(bytes, Ordering::Relaxed);
                }
            }
            anyhow::Ok(())
        });
        let thrown = throw_a_million(&underlay, &tunnel.network, &mut random);
        done.store(true, Ordering::Relaxed);
        let streamed = streaming
            .join()
            .map_err(|_| anyhow!("the stream panicked"))?;
        streamed.context("the peer's stream")?;
        thrown
    })?;
    ensure!(thrown.answers.is_empty(), "answers: {:?}", thrown.answers);
    let grown = leak::memory(gateway.process())?.saturating_sub(before);
    ensure!(grown < SLACK, "{grown} bytes more");
    let now = tunnel.network.endpoint(&tunnel.peer.keys.public)?;
    ensure!(
        now == endpoint,
        "the peer was at {endpoint}, and is at {now}"
    );
    let peers = tunnel.network.show("peers")?;
    ensure!(peers.trim() == tunnel.peer.keys.public, "{peers}");
    say(&format!(
        "  {} sent, {} taken; beside them {} bytes of the peer; {grown} bytes more",
        thrown.sent,
        thrown.taken,
        passed.into_inner(),
    ));
    ends.end()?;
    drop(underlay);
    scene::end(&gateway)
}

/// What became of the strangers' datagrams.
struct Thrown {
    sent: u64,
    taken: u64,
    /// The lengths of what came back.
    answers: Vec<usize>,
}

fn throw_a_million(underlay: &Underlay, network: &Network, random: &mut Random) -> Result<Thrown> {
    let sockets: Vec<UdpSocket> = (0..16_u8)
        .map(|number| {
            let address = Ipv4Addr::new(127, 0, 9, 1 + number);
            let socket = UdpSocket::bind((address, 0))?;
            socket.set_nonblocking(true)?;
            setsockopt(&socket, sockopt::SndBufForce, &(4 << 20))?;
            anyhow::Ok(socket)
        })
        .collect::<Result<_>>()?;
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, network.port));
    let mut copies = Vec::new();
    let (mut sent, mut taken) = (0, 0);
    let dropped_before = dropped(network.port)?;
    let mut datagram = Vec::new();
    let key = strangers::public_key(network)?;
    while taken < TAKEN {
        // Fresh ones, so that replays are of the session that goes on.
        if sent % 65_536 == 0 {
            copies = underlay.copies();
            ensure!(!copies.is_empty(), "there is nothing to replay");
        }
        let kind = if sent % ONE_HANDSHAKE_IN == 0 {
            Kind::Handshake
        } else {
            Kind::OTHERS[random.index(Kind::OTHERS.len())]
        };
        strangers::make(kind, &copies, &key, random, &mut datagram);
        let socket = &sockets[random.index(sockets.len())];
        // What is refused here was never sent, and does not count.
        if socket.send_to(&datagram, target).is_ok() {
            sent += 1;
        }
        if sent % ROUND == 0 {
            within(PATIENCE, "the device reads its socket", || {
                (waiting(network.port).ok()? < WAITING_MAX).then_some(())
            })?;
            taken = sent - (dropped(network.port)? - dropped_before);
        }
    }
    within(
        Duration::from_secs(5),
        "the socket is read to its end",
        || (waiting(network.port).ok()? == 0).then_some(()),
    )?;
    let mut answers = Vec::new();
    for socket in &sockets {
        while let Ok(length) = socket.recv(&mut [0; 65_536]) {
            answers.push(length);
        }
    }
    Ok(Thrown {
        sent,
        taken,
        answers,
    })
}

/// What the kernel had to drop because the socket at that port was full.
fn dropped(port: u16) -> Result<u64> {
    field(port, 12, 10)
}

/// What waits in the socket at that port, in bytes of memory.
fn waiting(port: u16) -> Result<u64> {
    let queues = line(port)?;
    let queue = queues.split_whitespace().nth(4);
    let (_, received) = queue
        .and_then(|queue| queue.split_once(':'))
        .context("no queue")?;
    Ok(u64::from_str_radix(received, 16)?)
}

fn field(port: u16, index: usize, radix: u32) -> Result<u64> {
    let line = line(port)?;
    let field = line
        .split_whitespace()
        .nth(index)
        .context("no such field")?;
    Ok(u64::from_str_radix(field, radix)?)
}

/// The line of an IPv4 socket in `/proc/net/udp` (proc(5)).
fn line(port: u16) -> Result<String> {
    let table = fs::read_to_string("/proc/self/net/udp")?;
    let address = format!(" 00000000:{port:04X} ");
    let line = table.lines().find(|line| line.contains(&address));
    Ok(line.context("no socket at the port")?.to_owned())
}
