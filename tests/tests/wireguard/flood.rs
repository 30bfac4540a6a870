//! Floods of handshakes from more addresses than anybody could remember, while a real peer works:
//! the peer's throughput is compared with what it has while a program burns as much processor time
//! as the flood takes to send.

use std::{
    io::IoSlice,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    os::fd::AsRawFd as _,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, ensure};
use nix::{
    libc,
    sys::socket::{ControlMessage, MsgFlags, SockaddrIn, sendmsg, setsockopt, sockopt},
};
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
};

use crate::{
    load::{Burner, Pace, WINDOWS, measure, thread_time},
    scene::{self, Family, PORT, Tunnel},
    strangers,
};

pub(crate) const TESTS: &[Test] = tests![
    a_flood_of_handshakes_leaves_a_peer_its_throughput: 120,
    a_new_peer_gets_in_during_a_flood: 120,
];

/// Handshake messages in a second.
const PER_SECOND: u32 = 20_000;
/// The share of its throughput that a peer must be left with. What is promised is four fifths; this
/// is what a machine with two cores, other work on them and a program without optimization keeps.
const SHARE: f64 = 0.5;
/// Memory that may come and go.
const SLACK: u64 = 16 << 20;

/// Who makes the handshakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Knowing {
    /// Anybody: the first code is wrong.
    Nothing,
    /// Somebody who knows the network's public key: the first code is right.
    TheKey,
}

/// A sender of handshake messages, each from another address of `127.0.0.0/8`.
struct Flood {
    socket: UdpSocket,
    messages: Vec<Vec<u8>>,
    target: SockaddrIn,
    random: Random,
    /// What came back: the cookies, and anything else.
    cookies: u64,
    others: u64,
}

impl Flood {
    fn new(network: &Network, knowing: Knowing, random: &mut Random) -> Result<Self> {
        let key = strangers::public_key(network)?;
        let make = |random: &mut Random| {
            let mut message = Vec::new();
            let kind = strangers::Kind::Handshake;
            strangers::make(kind, &[], &key, random, &mut message);
            if knowing == Knowing::Nothing {
                let code = message.len() - 32;
                message[code] ^= 1;
            }
            message
        };
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_nonblocking(true)?;
        setsockopt(&socket, sockopt::RcvBufForce, &(8 << 20))?;
        Ok(Self {
            socket,
            messages: (0..4_096).map(|_| make(random)).collect(),
            target: SocketAddrV4::new(Ipv4Addr::LOCALHOST, network.port).into(),
            random: random.fork(),
            cookies: 0,
            others: 0,
        })
    }

    /// Sends one, and hears what came back meanwhile.
    fn send(&mut self) {
        let source = 0x7f00_0000 | u32::try_from(self.random.below(1 << 24)).unwrap_or(1);
        let from = libc::in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: libc::in_addr {
                s_addr: source.to_be(),
            },
            ipi_addr: libc::in_addr { s_addr: 0 },
        };
        let message = &self.messages[self.random.index(self.messages.len())];
        let (pieces, control) = (
            [IoSlice::new(message)],
            [ControlMessage::Ipv4PacketInfo(&from)],
        );
        let fd = self.socket.as_raw_fd();
        // A full queue loses it, as a full line would.
        let _ = sendmsg(fd, &pieces, &control, MsgFlags::empty(), Some(&self.target));
        let mut answer = [0; 256];
        while let Ok(length) = self.socket.recv(&mut answer) {
            let is_cookie = length == 64 && answer[..4] == [3, 0, 0, 0];
            self.cookies += u64::from(is_cookie);
            self.others += u64::from(!is_cookie);
        }
    }

    /// Sends at [`PER_SECOND`] until it is to stop. Answers how many were sent in a second, and how
    /// much of a core that took.
    fn run(&mut self, stop: &AtomicBool) -> (f64, f64) {
        let (began, mut pace) = (Instant::now(), Pace::new(PER_SECOND.into()));
        let cpu = thread_time();
        while !stop.load(Ordering::Relaxed) {
            for _ in 0..pace.due() {
                self.send();
            }
        }
        let took = began.elapsed().as_secs_f64();
        let share = (thread_time() - cpu).as_secs_f64() / took;
        (pace.rate(), share)
    }
}

fn a_flood_of_handshakes_leaves_a_peer_its_throughput(lab: &mut Lab) -> Result<()> {
    let mut random = Random::from_environment();
    let (gateway, tunnel) = scene::one(lab, Client::WireGuardGo)?;
    let ends = tunnel.join(Family::V4)?;
    measure(&ends, Direction::Down, &mut random, |_| ())?;
    let before = leak::memory(gateway.process())?;
    for knowing in [Knowing::Nothing, Knowing::TheKey] {
        let mut flood = Flood::new(&tunnel.network, knowing, &mut random)?;
        let (mut flooded, mut burned, mut rates) = (0.0, 0.0, 0.0);
        for _ in 0..WINDOWS {
            let (gigabits, (rate, share)) =
                measure(&ends, Direction::Down, &mut random, |stop| flood.run(stop))?;
            flooded += gigabits / f64::from(WINDOWS);
            rates += rate / f64::from(WINDOWS);
            let (gigabits, ()) = measure(&ends, Direction::Down, &mut random, |stop| {
                Burner::new(share).run(stop)
            })?;
            burned += gigabits / f64::from(WINDOWS);
        }
        say(&format!(
            "  knowing {knowing:?}, {rates:.0} handshakes a second: {flooded:.2} Gb/s, and \
             {burned:.2} beside as much work; {} cookies",
            flood.cookies,
        ));
        ensure!(flood.others == 0, "{} answers", flood.others);
        let has_cookies = flood.cookies > 0;
        ensure!(
            has_cookies == (knowing == Knowing::TheKey),
            "{} cookies",
            flood.cookies
        );
        ensure!(
            rates > 0.8 * f64::from(PER_SECOND),
            "only {rates:.0} in a second"
        );
        ensure!(
            flooded > SHARE * burned,
            "{flooded:.2} of {burned:.2} Gb/s are left"
        );
    }
    let grown = leak::memory(gateway.process())?.saturating_sub(before);
    ensure!(grown < SLACK, "{grown} bytes more");
    ends.end()?;
    scene::end(&gateway)
}

/// It is given a cookie, as everybody is then, and comes back with it: after five seconds, for that
/// is how long a client waits for an answer (whitepaper, 6.4).
fn a_new_peer_gets_in_during_a_flood(lab: &mut Lab) -> Result<()> {
    let mut random = Random::from_environment();
    let mut tunnels = Vec::new();
    for (port, client) in (PORT..).zip(Client::ALL.into_iter().chain([Client::OURS])) {
        tunnels.push(Tunnel::new(lab, client, port)?);
    }
    let gateway = scene::start(lab, json!({}), &tunnels)?;
    for tunnel in &tunnels {
        let mut flood = Flood::new(&tunnel.network, Knowing::TheKey, &mut random)?;
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let flooding = scope.spawn(|| flood.run(&stop));
            let warm = Instant::now();
            // Under load from the first second on that has so many.
            while warm.elapsed() < Duration::from_millis(500) {
                thread::yield_now();
            }
            let met = tunnel.meet(Family::V4);
            stop.store(true, Ordering::Relaxed);
            flooding.join().map_err(|_| anyhow!("the flood panicked"))?;
            met
        })?;
        ensure!(
            flood.cookies > 0 && flood.others == 0,
            "{} others",
            flood.others
        );
    }
    scene::end(&gateway)
}
