//! What a peer may expect of its gateway, over real sockets: it moves and its streams go on, what is
//! not for it never comes, and both ends count the same.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::{Value, json};
use tests::{
    digest::Direction,
    lab::Lab,
    network::Network,
    peer::{Client, Peer},
    random::Random,
    runner::{Test, say},
    tests,
    tool::Tool,
    wait::{eventually, within},
};

use crate::scene::{self, Family, PORT, Tunnel};

pub(crate) const TESTS: &[Test] = tests![
    streams_go_on_while_their_peer_moves,
    a_prefix_moves_between_peers_and_no_packet_is_lost_or_strays,
    both_ends_count_the_same_bytes,
    a_peer_that_is_to_be_kept_in_touch_with_is_sent_nothing_but_keep_alives,
];

/// For a kernel that has the module.
pub(crate) const WITH_MODULE: &[Test] =
    tests![both_ends_count_the_same_bytes_beside_the_kernels_device: 300];

/// A message without anything in it (whitepaper, 5.4.6).
const KEEP_ALIVE_BYTES: u64 = 32;

fn streams_go_on_while_their_peer_moves(lab: &mut Lab) -> Result<()> {
    const MOVES: usize = 2;
    let mut random = Random::from_environment();
    for client in Client::ALL {
        let (gateway, tunnel) = scene::one(lab, client)?;
        let ends = tunnel.join(Family::V4)?;
        let at_rest = AtomicBool::new(false);
        let passed = thread::scope(|scope| {
            let streaming = scope.spawn(|| {
                let mut passed = 0;
                while !at_rest.load(Ordering::Relaxed) {
                    for direction in [Direction::Up, Direction::Down] {
                        passed += ends.pass(direction, 2 << 20, &mut random)?.bytes;
                    }
                }
                anyhow::Ok(passed)
            });
            let moved = (0..MOVES).try_for_each(|_| move_away_and_back(&tunnel));
            at_rest.store(true, Ordering::Relaxed);
            let passed = streaming.join().map_err(|_| anyhow!("a stream panicked"))?;
            moved.and(passed)
        });
        let passed = passed.with_context(|| format!("{client:?}"))?;
        say(&format!("  {client:?}: {passed} bytes on the way"));
        ends.end()?;
        scene::end(&gateway)?;
        gateway.stop()?;
    }
    Ok(())
}

fn move_away_and_back(tunnel: &Tunnel) -> Result<()> {
    let key = &tunnel.peer.keys.public;
    let there = tunnel.network.endpoint(key)?;
    for step in [Peer::roam_away, Peer::roam_home] {
        let before = tunnel.network.endpoint(key)?;
        step(&tunnel.peer)?;
        // Until the peer says something from there, nobody can know where it is.
        tunnel.peer.wait_for_ping("10.0.0.1")?;
        let known = eventually("the gateway knows where the peer went", || {
            let now = tunnel.network.endpoint(key).ok()?;
            (now != before).then_some(())
        });
        known.with_context(|| format!("it was at {before}"))?;
    }
    let now = tunnel.network.endpoint(key)?;
    ensure!(now == there, "{there} before, {now} after");
    Ok(())
}

/// The address that moves between peers.
const MOVING: &str = "10.0.0.9";

/// Three peers that all have the address, of which the network believes one.
struct Trio {
    network: Network,
    peers: [Peer; 3],
    sockets: [UdpSocket; 3],
}

impl Trio {
    fn new(lab: &mut Lab) -> Result<Self> {
        let mut network = Network::new(PORT)?;
        let clients = [Client::WireGuardGo, Client::OURS, Client::WireGuardGo];
        let peers = clients.map(|client| lab.peer(client));
        let [left, right, third] = peers;
        let peers = [left?, right?, third?];
        for (number, peer) in (2..).zip(&peers) {
            network.invite(peer, number)?;
            peer.add_address(&format!("{MOVING}/24"))?;
        }
        // Whatever nobody else has is the third one's.
        let wide = &mut network.document["peers"][&peers[2].keys.public]["allowed_ips"];
        wide.as_array_mut()
            .context("no prefixes")?
            .push(json!("10.0.0.0/24"));
        let open = |peer: &Peer| {
            let address = SocketAddr::new(MOVING.parse()?, 7);
            let bind = || Ok(UdpSocket::bind(address)?.into());
            let socket = UdpSocket::from(peer.netns.enter(bind)?);
            socket.set_nonblocking(true)?;
            anyhow::Ok(socket)
        };
        let sockets = [open(&peers[0])?, open(&peers[1])?, open(&peers[2])?];
        Ok(Self {
            network,
            peers,
            sockets,
        })
    }

    /// What the network is when the address is that peer's.
    fn with_owner(&self, owner: usize) -> Value {
        let mut document = self.network.document.clone();
        let key = &self.peers[owner].keys.public;
        let prefixes = &mut document["peers"][key]["allowed_ips"];
        if let Some(prefixes) = prefixes.as_array_mut() {
            prefixes.push(json!(format!("{MOVING}/32")));
        }
        json!({ PORT.to_string(): document })
    }

    /// Notes the numbers that have come to each.
    fn hear(&self, heard: &mut [Vec<u64>; 3]) {
        let mut number = [0; 8];
        for (socket, heard) in self.sockets.iter().zip(heard) {
            while let Ok(8) = socket.recv(&mut number) {
                heard.push(u64::from_be_bytes(number));
            }
        }
    }
}

fn a_prefix_moves_between_peers_and_no_packet_is_lost_or_strays(lab: &mut Lab) -> Result<()> {
    const MOVES: usize = 20;
    const PER_MOVE: u64 = 300;
    let trio = Trio::new(lab)?;
    let gateway = lab.gateway(scene::boot(json!({})), trio.with_owner(0))?;
    for peer in &trio.peers {
        trio.network.meet(peer)?;
    }
    let inside = trio.network.netns()?;
    let bind = || Ok(UdpSocket::bind("10.0.0.1:0")?.into());
    let from = UdpSocket::from(inside.enter(bind)?);
    let mut heard = [const { Vec::new() }; 3];
    let api = gateway.api();
    let moved = AtomicBool::new(false);
    let sent = AtomicU64::new(0);
    thread::scope(|scope| {
        let moving = scope.spawn(|| {
            let applied = (1..=MOVES).try_for_each(|turn| {
                let enough = turn as u64 * PER_MOVE;
                eventually("some datagrams before the next move", || {
                    (sent.load(Ordering::Relaxed) >= enough).then_some(())
                })?;
                api.apply(&trio.with_owner(turn % 2))?;
                anyhow::Ok(())
            });
            moved.store(true, Ordering::Relaxed);
            applied
        });
        while !moved.load(Ordering::Relaxed) {
            let number = sent.fetch_add(1, Ordering::Relaxed);
            from.send_to(&number.to_be_bytes(), (MOVING, 7))?;
            trio.hear(&mut heard);
            // About ten thousand a second: what waits anywhere stays far below every queue.
            pause_until(Instant::now() + Duration::from_micros(100));
        }
        moving.join().map_err(|_| anyhow!("a change panicked"))?
    })?;
    let sent = sent.into_inner();
    let arrived = eventually("every datagram arrived", || {
        trio.hear(&mut heard);
        let count: usize = heard.iter().map(Vec::len).sum();
        (count as u64 >= sent).then_some(())
    });
    let [left, right, third] = heard.each_ref().map(Vec::len);
    arrived.with_context(|| format!("{left}, {right} and {third} of {sent}"))?;
    say(&format!("  {left} and {right} of {sent} in {MOVES} moves"));
    ensure!(third == 0, "{third} went to a third");
    ensure!(left > 0 && right > 0, "{left} and {right}");
    let mut numbers = heard.concat();
    numbers.sort_unstable();
    ensure!(numbers.iter().copied().eq(0..sent), "some came twice");
    drop(inside);
    scene::end(&gateway)
}

fn pause_until(then: Instant) {
    while Instant::now() < then {
        std::hint::spin_loop();
    }
}

fn both_ends_count_the_same_bytes(lab: &mut Lab) -> Result<()> {
    count_the_same(lab, Client::WireGuardGo)?;
    count_the_same(lab, Client::OURS)
}

fn both_ends_count_the_same_bytes_beside_the_kernels_device(lab: &mut Lab) -> Result<()> {
    count_the_same(lab, Client::Kernel)
}

/// The kernel counts whole messages (`wg_socket_send_skb_to_peer` and `update_rx_stats` in
/// `drivers/net/wireguard`), and so do wireguard-go and we; those that are made of boringtun count
/// what is inside, and are left out.
fn count_the_same(lab: &mut Lab, client: Client) -> Result<()> {
    let mut random = Random::from_environment();
    let (gateway, tunnel) = scene::one(lab, client)?;
    let ends = tunnel.join(Family::V4)?;
    // One piece at a time, so that no queue anywhere overflows.
    for _ in 0..200 {
        let length = 1 + random.below(40_000);
        ends.pass_both_ways(length, &mut random)?;
    }
    ends.end()?;
    let mut last = [(0, 0); 2];
    let agree = eventually("the accounts of both ends agree", || {
        last = tunnel.accounts().ok()?;
        (last[0] == last[1]).then_some(())
    });
    agree.with_context(|| format!("{client:?} and we: {last:?}"))?;
    ensure!(last[0].0 > 3_000_000 && last[0].1 > 3_000_000, "{last:?}");
    scene::end(&gateway)?;
    gateway.stop()
}

fn a_peer_that_is_to_be_kept_in_touch_with_is_sent_nothing_but_keep_alives(
    lab: &mut Lab,
) -> Result<()> {
    const TIMES: u64 = 3;
    let (gateway, tunnel) = scene::one(lab, Client::OURS)?;
    let Tunnel { network, peer } = &tunnel;
    let (device, key) = (peer.device(), &network.keys.public);
    let every_second = format!("set {device} peer {key} persistent-keepalive 1");
    Tool::new("wg", &every_second).run_in(&peer.netns)?;
    let before = network.transfer(&peer.keys.public)?;
    let patience = Duration::from_secs(2 * TIMES);
    let now = within(patience, "keep-alives", || {
        let now = network.transfer(&peer.keys.public).ok()?;
        (now.0 >= before.0 + TIMES * KEEP_ALIVE_BYTES).then_some(now)
    })?;
    // Nobody answers a keep-alive, or two would never be silent again.
    ensure!(now.1 == before.1, "{before:?}, then {now:?}");
    let more = now.0 - before.0;
    ensure!(more == TIMES * KEEP_ALIVE_BYTES, "{more} bytes came");
    scene::end(&gateway)
}
