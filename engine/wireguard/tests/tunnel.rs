//! Goal: two devices carry real traffic between two tenants on two hosts. Method: namespaces joined
//! by a veth pair, real sockets of the tenants at both ends, every byte compared.

#![allow(clippy::unwrap_used, reason = "a failing step fails the test")]

mod bed;

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    num::NonZeroUsize,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use bed::{Bed, PATIENCE, Side, eventually};
use engine_sys::netns::Netns;
use engine_wireguard::{
    Change, ConfigureError, Gone, Key, Offload, Offloads, PeerChange, PeerState,
};

/// Bytes that no shift or exchange of pieces leaves the same.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(len).collect()
}

/// All offloads, none, and each degree of those that a kernel may lack.
fn every_offload() -> impl Iterator<Item = Offloads> {
    let all = Offloads::ALL;
    let links = [
        Offload::Header,
        Offload::Tcp,
        Offload::TcpEcn,
        Offload::TcpUdp,
    ];
    let links = links.map(|link| Offloads { link, ..all });
    let (mut no_send, mut no_receive) = (all, all);
    no_send.send = false;
    no_receive.receive = false;
    links
        .into_iter()
        .chain([no_send, no_receive, Offloads::NONE])
}

fn stream(from: &Side, to: &Side, address: IpAddr) -> (TcpStream, TcpStream) {
    let listener = to
        .tenant
        .enter(|| Ok(TcpListener::bind((address, 0))?.into()))
        .map(TcpListener::from)
        .unwrap();
    let target = listener.local_addr().unwrap();
    let dial = || Ok(TcpStream::connect_timeout(&target, PATIENCE)?.into());
    let client = TcpStream::from(from.tenant.enter(dial).unwrap());
    let (server, _) = listener.accept().unwrap();
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
    }
    (client, server)
}

fn send_all(mut from: TcpStream, mut to: TcpStream, bytes: &[u8]) {
    thread::scope(|scope| {
        scope.spawn(move || from.write_all(bytes).unwrap());
        let mut received = Vec::with_capacity(bytes.len());
        to.read_to_end(&mut received).unwrap();
        assert!(received == bytes, "what arrived is not what was sent");
    });
}

fn peer(side: &Side) -> PeerState {
    let state = side.device.state().unwrap();
    state.peers.into_iter().next().unwrap()
}

#[test]
fn tcp_passes_both_ways_over_both_families_whatever_the_kernel_offloads() {
    let bytes = noise(4 << 20);
    for (offloads, outside) in every_offload().flat_map(|it| [(it, 0), (it, 1)]) {
        let bed = Bed::with(offloads);
        bed.introduce(outside, 0);
        let [left, right] = &bed.sides;
        for inside in 0..2 {
            let (client, server) = stream(left, right, right.inside[inside]);
            send_all(client, server, &bytes);
            let (client, server) = stream(right, left, left.inside[inside]);
            send_all(server, client, &bytes);
        }
        // What one end sent the other received, message for message: nothing was lost on the cable.
        let counts = |side: &Side| (peer(side).tx_bytes, peer(side).rx_bytes);
        eventually("equal accounts", || {
            let (left, right) = (counts(left), counts(right));
            left.0 == right.1 && left.1 == right.0
        });
        assert!(peer(left).tx_bytes > bytes.len() as u64);
    }
}

#[test]
fn datagrams_of_every_length_up_to_the_mtu_and_beyond_arrive_whole() {
    datagrams_of_every_length(&Bed::new());
    datagrams_of_every_length(&Bed::with(Offloads::NONE));
}

fn datagrams_of_every_length(bed: &Bed) {
    bed.introduce(0, 0);
    let [left, right] = &bed.sides;
    for inside in 0..2 {
        let bind = |side: &Side| {
            let address = SocketAddr::new(side.inside[inside], 0);
            let socket = side.tenant.enter(|| Ok(UdpSocket::bind(address)?.into()));
            let socket = UdpSocket::from(socket.unwrap());
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        };
        // A new IPv6 address takes a moment until the kernel delivers to it (its work queue does the
        // last step), which TCP waits for and a lone datagram would not survive.
        drop(stream(left, right, right.inside[inside]));
        let (here, there) = (bind(left), bind(right));
        let mut heard = vec![0; 65_536];
        for len in (1..=1_400).step_by(53).chain([1_372, 1_392, 9_000, 60_000]) {
            let sent = noise(len);
            here.send_to(&sent, there.local_addr().unwrap()).unwrap();
            let (received, from) = there.recv_from(&mut heard).unwrap();
            assert!(heard[..received] == sent, "{len} bytes");
            assert_eq!(from, here.local_addr().unwrap());
        }
    }
}

#[test]
fn peers_that_are_to_be_kept_in_touch_with_meet_without_any_traffic() {
    let bed = Bed::new();
    let start = Instant::now();
    bed.introduce(0, 25);
    let [left, right] = &bed.sides;
    eventually("a handshake", || {
        peer(left).last_handshake.is_some() && peer(right).last_handshake.is_some()
    });
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_device_that_does_not_know_where_its_peer_is_learns_it() {
    let bed = Bed::new();
    bed.introduce(0, 0);
    let [left, right] = &bed.sides;
    let forgetful = Change {
        replace_peers: true,
        peers: vec![PeerChange {
            allowed_ips: left.inside.map(Into::into).to_vec(),
            ..PeerChange::new(left.key.public())
        }],
        ..Change::default()
    };
    right.device.configure(forgetful).unwrap();
    assert_eq!(peer(right).endpoint, None);
    let (client, server) = stream(left, right, right.inside[0]);
    send_all(server, client, &noise(100_000));
    let port = left.device.state().unwrap().listen_port;
    assert_eq!(peer(right).endpoint, Some((left.outside[0], port).into()));
}

#[test]
fn a_host_with_several_addresses_answers_from_the_one_that_it_was_spoken_to_at() {
    let bed = Bed::new();
    bed.introduce(0, 0);
    let [left, right] = &bed.sides;
    let second: IpAddr = "192.0.2.77".parse().unwrap();
    bed::furnish(&right.host, "away", &[second], [24, 64]);
    let port = right.device.state().unwrap().listen_port;
    let mut peer = PeerChange::new(right.key.public());
    peer.endpoint = Some((second, port).into());
    let change = |peer| Change {
        peers: vec![peer],
        ..Change::default()
    };
    left.device.configure(change(peer)).unwrap();
    let (client, server) = stream(left, right, right.inside[0]);
    send_all(server, client, &noise(100_000));
    // Had an answer come from elsewhere, the peer would be there now.
    let endpoint = Some((second, port).into());
    assert_eq!(self::peer(left).endpoint, endpoint);
}

#[test]
fn a_device_moves_to_another_port_while_a_stream_goes_on() {
    let bed = Bed::new();
    bed.introduce(0, 0);
    let [left, right] = &bed.sides;
    let (mut client, mut server) = stream(left, right, right.inside[0]);
    let mut exchange = |byte: u8| {
        client.write_all(&[byte]).unwrap();
        let mut heard = [0];
        server.read_exact(&mut heard).unwrap();
        assert_eq!(heard, [byte]);
    };
    exchange(1);
    let (before, handshake) = (peer(right).endpoint, peer(right).last_handshake);
    let moved = Change {
        listen_port: Some(0),
        ..Change::default()
    };
    left.device.configure(moved).unwrap();
    exchange(2);
    assert_ne!(peer(right).endpoint, before, "it roamed");
    assert_eq!(peer(right).last_handshake, handshake, "in the same session");
}

#[test]
fn a_port_that_is_taken_is_refused_and_changes_nothing() {
    let bed = Bed::new();
    let [left, _] = &bed.sides;
    let bind = || Ok(UdpSocket::bind("0.0.0.0:0")?.into());
    let other = UdpSocket::from(left.host.enter(bind).unwrap());
    let port = other.local_addr().unwrap().port();
    let before = left.device.state().unwrap();
    let change = Change {
        listen_port: Some(port),
        peers: vec![PeerChange::new(Key::new([9; 32]).public())],
        ..Change::default()
    };
    let error = left.device.configure(change).unwrap_err();
    assert!(matches!(error, ConfigureError::Bind { .. }), "{error:?}");
    assert_eq!(left.device.state().unwrap(), before);
}

#[test]
fn a_device_that_is_dropped_leaves_neither_link_nor_socket_nor_port() {
    let bed = Bed::new();
    let socket = bed.socket(0);
    assert!(socket.exists());
    let [left, right] = bed.sides;
    assert!(bed::has_link(&left.tenant, "wg1"));
    let port = left.device.state().unwrap().listen_port;
    drop(left.device);
    assert!(!bed::has_link(&left.tenant, "wg1"));
    assert!(!socket.exists());
    for address in ["0.0.0.0", "::"] {
        let address = SocketAddr::new(address.parse().unwrap(), port);
        let bound = left.host.enter(|| Ok(UdpSocket::bind(address)?.into()));
        assert!(bound.is_ok(), "{address}: {bound:?}");
    }
    assert!(right.device.state().is_ok(), "the other is as it was");
}

#[test]
fn a_device_whose_link_was_deleted_says_that_it_is_gone() {
    let bed = Bed::new();
    let [left, _] = &bed.sides;
    bed::delete(&left.tenant, "wg1");
    eventually("its loss", || left.device.state() == Err(Gone));
    let error = left.device.configure(Change::default()).unwrap_err();
    assert!(matches!(error, ConfigureError::Gone { .. }), "{error:?}");
}

#[test]
fn an_mtu_is_set_on_the_link_and_told() {
    let bed = Bed::new();
    let [left, right] = &bed.sides;
    left.device.set_mtu(&left.tenant, 1_300).unwrap();
    assert_eq!(left.device.state().unwrap().mtu, 1_300);
    bed.introduce(0, 0);
    let (client, server) = stream(left, right, right.inside[0]);
    send_all(client, server, &noise(100_000));
}

#[test]
fn whoever_dials_an_address_that_no_peer_has_is_told_at_once() {
    for offloads in [Offloads::ALL, Offloads::NONE] {
        let bed = Bed::with(offloads);
        bed.introduce(0, 0);
        let [left, right] = &bed.sides;
        drop(stream(left, right, right.inside[1]));
        for address in ["10.0.0.77:9", "[fd00::77]:9"] {
            let target: SocketAddr = address.parse().unwrap();
            let dial = || Ok(TcpStream::connect_timeout(&target, PATIENCE)?.into());
            let (start, dialled) = (Instant::now(), left.tenant.enter(dial));
            assert_eq!(dialled.unwrap_err().kind(), ErrorKind::HostUnreachable);
            assert!(start.elapsed() < PATIENCE / 4, "{address}");
        }
    }
}

#[test]
fn congestion_that_is_met_outside_is_told_inside() {
    let bed = Bed::new();
    bed.introduce(0, 0);
    let [left, right] = &bed.sides;
    drop(stream(left, right, right.inside[0]));
    // The right's host marks whatever goes through its device's port.
    let port = right.device.state().unwrap().listen_port;
    bed::nft(
        &right.host,
        &format!(
            "table inet t {{ chain c {{ type filter hook prerouting priority 0; \
             udp dport {port} ip ecn set ce; }}; }}"
        ),
    );
    bed::nft(
        &right.tenant,
        "table inet t { counter marked { }; counter whole { }; \
         chain c { type filter hook prerouting priority 0; \
         udp dport 9 ip ecn ce counter name marked; udp dport 9 counter name whole; }; }",
    );
    let send = |tos: i32| {
        let socket = left
            .tenant
            .enter(|| Ok(UdpSocket::bind("10.0.0.1:0")?.into()));
        let socket = UdpSocket::from(socket.unwrap());
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::Ipv4Tos, &tos).unwrap();
        socket.send_to(b"marked or not", ("10.0.0.2", 9)).unwrap();
    };
    let counts = || {
        let listed = bed::nft(&right.tenant, "list counters");
        let packets = listed.split("packets ").skip(1);
        let counts = packets.map(|rest| rest.split(' ').next().unwrap().parse::<u32>().unwrap());
        counts.collect::<Vec<_>>()
    };
    send(0);
    eventually("a packet", || counts() == [0, 1]);
    send(2);
    eventually("a marked packet", || counts() == [1, 2]);
}

#[test]
fn a_tenant_who_floods_does_not_keep_another_on_the_same_thread_waiting() {
    let bed = Bed::on(NonZeroUsize::MIN, Offloads::ALL);
    bed.introduce(0, 0);
    let [left, right] = &bed.sides;
    drop(stream(left, right, right.inside[0]));
    // A third device, whose tenant talks to nobody but floods the thread that all three share.
    let (tenant, host) = (Netns::create().unwrap(), Netns::create().unwrap());
    let open = bed.open("wg9", &tenant, &host, Key::new([9; 32]));
    bed::furnish(&tenant, "wg9", &["10.9.0.1".parse().unwrap()], [24, 64]);
    let bind = || Ok(UdpSocket::bind("10.9.0.1:0")?.into());
    let flood = UdpSocket::from(tenant.enter(bind).unwrap());
    flood.set_nonblocking(true).unwrap();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                // Full queues refuse some of it.
                let _ = flood.send_to(&[7; 60_000], "10.9.0.2:9");
            }
        });
        let (mut client, mut server) = stream(left, right, right.inside[0]);
        let start = Instant::now();
        for number in 0..200_u8 {
            let mut echoed = [0];
            client.write_all(&[number]).unwrap();
            server.read_exact(&mut echoed).unwrap();
            server.write_all(&echoed).unwrap();
            client.read_exact(&mut echoed).unwrap();
            assert_eq!(echoed, [number]);
        }
        over.store(true, Ordering::Relaxed);
        // Four crossings of the thread each: 20 ms for one would be a hundred turns of the other.
        let each = start.elapsed() / 800;
        assert!(each < Duration::from_millis(20), "{each:?}");
    });
    drop(open);
}
