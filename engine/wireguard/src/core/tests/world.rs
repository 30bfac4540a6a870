//! A world for cores: a clock, a network that loses, delays and doubles, and devices on it. All of
//! it follows from one seed, but for the keys that boringtun draws.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{
    change::{Change, PeerChange},
    core::{
        Core, Now,
        outbox::{MESSAGE_BYTES_MAX, Outbox},
        path::Path,
    },
    key::Key,
    state::PeerState,
    superpacket::{HEADER_BYTES, PADDING_ROOM, Packets},
};

/// Numbers that follow from a seed (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Below a bound.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// What a network does to datagrams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// Of a hundred, how many are lost.
    pub(crate) lost: u64,
    /// Of a hundred, how many come twice.
    pub(crate) doubled: u64,
    /// The longest that one takes.
    pub(crate) delay: Duration,
}

/// Everything arrives once, in order, after a millisecond.
pub(crate) const FAIR: Weather = Weather {
    lost: 0,
    doubled: 0,
    delay: Duration::ZERO,
};

/// A datagram under way.
#[derive(Clone, Debug)]
pub(crate) struct Flying {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) struct Node {
    pub(crate) core: Core,
    pub(crate) key: Key,
    pub(crate) address: SocketAddr,
    /// What the tenant received.
    pub(crate) heard: Vec<Vec<u8>>,
}

pub(crate) struct World {
    pub(crate) nodes: Vec<Node>,
    pub(crate) weather: Weather,
    /// Datagrams that never arrive.
    pub(crate) stops: fn(&Flying) -> bool,
    /// Every datagram that was ever sent.
    pub(crate) log: Vec<Flying>,
    elapsed: Duration,
    base: Instant,
    set_clock: fn(Duration),
    numbers: Numbers,
    wire: BTreeMap<(Duration, usize), Flying>,
    outbox: Outbox,
}

pub(crate) fn key(number: usize) -> Key {
    let mut bytes = [0x40; 32];
    bytes[1..9].copy_from_slice(&number.to_le_bytes());
    Key::new(bytes).clamped()
}

/// The address that a node's tenant has inside.
pub(crate) fn inside(node: usize) -> IpAddr {
    let [.., high, low] = node.to_be_bytes();
    IpAddr::from([10, 0, high, low])
}

/// An IPv4 packet with a number in it.
pub(crate) fn packet(from: IpAddr, to: IpAddr, number: u64, len: usize) -> Vec<u8> {
    let (IpAddr::V4(from), IpAddr::V4(to)) = (from, to) else {
        panic!("IPv4 is meant");
    };
    let mut packet = vec![0; len.max(28)];
    packet[0] = 0x45;
    let len = u16::try_from(packet.len()).unwrap();
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    packet[12..16].copy_from_slice(&from.octets());
    packet[16..20].copy_from_slice(&to.octets());
    packet[20..28].copy_from_slice(&number.to_be_bytes());
    packet
}

/// The number in a packet.
pub(crate) fn number(packet: &[u8]) -> u64 {
    u64::from_be_bytes(packet[20..28].try_into().unwrap())
}

impl World {
    /// Devices that do not know each other. `set_clock` sets the clock that boringtun reads.
    pub(crate) fn new(seed: u64, nodes: usize, set_clock: fn(Duration)) -> Self {
        let mut world = Self {
            nodes: Vec::new(),
            weather: FAIR,
            stops: |_| false,
            log: Vec::new(),
            elapsed: Duration::from_secs(1_000),
            base: Instant::now(),
            set_clock,
            numbers: Numbers::new(seed),
            wire: BTreeMap::new(),
            outbox: Outbox::default(),
        };
        set_clock(world.elapsed);
        for number in 0..nodes {
            let mut numbers = Numbers::new(seed ^ number as u64);
            let draw = move || u32::try_from(numbers.next() >> 32).unwrap();
            let key = key(number);
            world.nodes.push(Node {
                core: Core::new(key.clone(), 1_420, Box::new(draw)),
                key,
                address: format!("192.0.2.{}:51820", number + 1).parse().unwrap(),
                heard: Vec::new(),
            });
        }
        world
    }

    pub(crate) fn now(&self) -> Now {
        Now {
            instant: self.base + self.elapsed,
            wall: self.wall(),
        }
    }

    /// What people's clocks show.
    pub(crate) fn wall(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000) + self.elapsed
    }

    /// The change that makes a node know another.
    pub(crate) fn acquaintance(&self, with: usize, keep_alive: u16) -> PeerChange {
        PeerChange {
            endpoint: Some(self.nodes[with].address),
            keep_alive: Some(keep_alive),
            allowed_ips: vec![inside(with).into()],
            ..PeerChange::new(self.nodes[with].key.public())
        }
    }

    /// Makes two nodes know each other.
    pub(crate) fn introduce(&mut self, left: usize, right: usize, keep_alive: u16) {
        for (one, other) in [(left, right), (right, left)] {
            let peer = self.acquaintance(other, keep_alive);
            self.configure(one, peer);
        }
    }

    pub(crate) fn configure(&mut self, node: usize, peer: PeerChange) {
        let change = Change {
            peers: vec![peer],
            ..Change::default()
        };
        self.change(node, change);
    }

    pub(crate) fn change(&mut self, node: usize, change: Change) {
        let now = self.now();
        let core = &mut self.nodes[node].core;
        core.check(&change).unwrap();
        core.configure(now.instant, change);
        core.assert_invariants();
    }

    /// What a node knows of another.
    pub(crate) fn peer(&self, of: usize, with: usize) -> PeerState {
        let state = self.nodes[of].core.state(0);
        let public_key = self.nodes[with].key.public();
        let mut peers = state.peers.into_iter();
        peers.find(|peer| peer.public_key == public_key).unwrap()
    }

    /// Has the tenant of a node send a packet to that of another.
    pub(crate) fn send(&mut self, from: usize, to: usize, number: u64, len: usize) {
        self.send_packet(from, &packet(inside(from), inside(to), number, len));
    }

    pub(crate) fn send_packet(&mut self, from: usize, packet: &[u8]) {
        let now = self.now();
        let mut buffer = packet.to_vec();
        buffer.resize(packet.len() + PADDING_ROOM, 0xee);
        let core = &mut self.nodes[from].core;
        let alone = [0; HEADER_BYTES];
        if let Some(mut packets) = Packets::read(&alone, &mut buffer, packet.len()) {
            let _ = core.send(now, &mut packets, &mut self.outbox);
        }
        self.post(from);
    }

    /// Hands a datagram to a node at once, whatever the weather.
    pub(crate) fn deliver(&mut self, to: usize, from: SocketAddr, datagram: &[u8]) {
        let now = self.now();
        let mut plain = vec![0; MESSAGE_BYTES_MAX];
        let node = &mut self.nodes[to];
        let heard = node.core.receive(
            now,
            Path::to(from),
            0,
            datagram,
            &mut plain,
            &mut self.outbox,
        );
        node.heard.extend(heard.map(<[u8]>::to_vec));
        self.post(to);
    }

    /// Puts what a node has to send on the wire.
    fn post(&mut self, from: usize) {
        let address = self.nodes[from].address;
        let mut posted = Vec::new();
        for (run, bytes) in self.outbox.runs() {
            let segment = run
                .segment()
                .map_or(bytes.len(), |len| usize::from(len.get()));
            posted.extend(bytes.chunks(segment.max(1)).map(|bytes| Flying {
                from: address,
                to: run.path.remote,
                bytes: bytes.to_vec(),
            }));
        }
        self.outbox.clear();
        for flying in posted {
            self.log.push(flying.clone());
            self.fly(flying);
        }
    }

    fn fly(&mut self, flying: Flying) {
        if (self.stops)(&flying) || self.numbers.below(100) < self.weather.lost {
            return;
        }
        let copies = 1 + u64::from(self.numbers.below(100) < self.weather.doubled);
        for _ in 0..copies {
            let most = u64::try_from(self.weather.delay.as_micros()).unwrap();
            let delay = Duration::from_micros(1_000 + self.numbers.below(most + 1));
            let order = self.log.len() * 2 + self.wire.len();
            self.wire
                .insert((self.elapsed + delay, order), flying.clone());
        }
    }

    /// Lets time pass.
    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.elapsed + time;
        loop {
            let arrival = self.wire.keys().next().map(|(at, _)| *at);
            let turns = self.nodes.iter().filter_map(|node| node.core.next_turn());
            let turn = turns
                .min()
                .map(|at| at.saturating_duration_since(self.base));
            let next = arrival.into_iter().chain(turn).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.set_elapsed(end);
                return;
            };
            self.set_elapsed(next.max(self.elapsed));
            if arrival == Some(next) {
                let ((_, _), flying) = self.wire.pop_first().unwrap();
                let to = self.nodes.iter().position(|node| node.address == flying.to);
                if let Some(to) = to {
                    self.deliver(to, flying.from, &flying.bytes);
                }
                continue;
            }
            for node in 0..self.nodes.len() {
                let now = self.now();
                self.nodes[node].core.turn(now, &mut self.outbox);
                self.nodes[node].core.assert_invariants();
                self.post(node);
            }
        }
    }

    /// Lets time pass in which nobody gets to do anything.
    #[allow(dead_code, reason = "for the simulation")]
    pub(crate) fn stall(&mut self, time: Duration) {
        self.set_elapsed(self.elapsed + time);
    }

    fn set_elapsed(&mut self, elapsed: Duration) {
        self.elapsed = elapsed;
        (self.set_clock)(elapsed);
    }
}

impl Core {
    /// What the module promises.
    pub(crate) fn assert_invariants(&self) {
        assert_eq!(self.by_key.len(), self.peers.len());
        let live = self.peers.iter().filter(|(_, peer)| peer.live.is_some());
        assert_eq!(self.indices.len(), live.count());
        let mut staged_bytes = 0;
        for (slot, peer) in &self.peers {
            assert_eq!(self.by_key.get(&peer.public_key), Some(&slot));
            if let Some(live) = &peer.live {
                assert_eq!(self.indices.get(&live.index), Some(&slot));
                assert!(live.index < 1 << 24);
            }
            for prefix in peer.allowed_ips.iter() {
                let owners = self.peers.iter().map(|(_, peer)| &peer.allowed_ips);
                let listed = owners.flat_map(|ips| ips.iter()).filter(|ip| *ip == prefix);
                assert_eq!(listed.count(), 1, "{prefix} is listed once");
            }
            staged_bytes += peer.staged.iter().map(Vec::len).sum::<usize>();
        }
        assert_eq!(self.staged_bytes, staged_bytes);
        assert!(self.awake.iter().all(|slot| self.peers.contains(*slot)));
        assert!(self.awake.is_empty() || self.round_at.is_some());
    }
}
