//! What passes and what does not, tried from inside with real packets: two tenants' machines, each
//! in a namespace of its own, and the gateway between them.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use control_plan::{actual::Backend, step::Action};
use engine_sys::netns::Netns;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use serde_json::{Value, json};

use super::lab::*;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long what must not arrive is waited for.
const SILENCE: Duration = Duration::from_millis(300);

struct Tenants {
    gateway: Arc<Netns>,
    /// `10.0.0.2` and `fd00::2`.
    second: Arc<Netns>,
    /// `10.0.0.3` and `fd00::3`.
    third: Arc<Netns>,
    document: Value,
}

/// Everything up, and both tenants heard of.
fn connected(lab: &mut Lab) -> Tenants {
    connected_to(lab, lab.backend())
}

/// With this backend on the tenants' machines.
fn connected_to(lab: &mut Lab, theirs: Backend) -> Tenants {
    let (second, third) = (
        lab.somebody_makes("tenant-2"),
        lab.somebody_makes("tenant-3"),
    );
    let peers: serde_json::Map<_, _> = [peer(2), peer(3)].into_iter().collect();
    let document = json!({
        "51820": gateway(51820, &Value::Object(peers)),
        "51822": tenant(2, 51820),
        "51823": tenant(3, 51820),
    });
    let wanted = desired(&document);
    let plan = lab.plan_with(&wanted, None);
    for mut step in plan.before {
        let is_theirs = step.network != port(51820);
        if let (true, Action::MakeDevice { backend, .. }) = (is_theirs, &mut step.action) {
            *backend = Some(theirs);
        }
        lab.apply(&step);
    }
    assert!(lab.plan_with(&wanted, None).is_empty());
    wait_for_handshakes(lab, 2);
    Tenants {
        gateway: lab.netns(51820),
        second,
        third,
        document,
    }
}

fn wait_for_handshakes(lab: &mut Lab, count: usize) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let sampled = lab.linux.sample(port(51820)).unwrap();
        let heard = sampled.peers.values();
        if heard.filter(|peer| peer.last_handshake.is_some()).count() == count {
            return;
        }
        assert!(Instant::now() < deadline, "{sampled:?}");
        std::thread::yield_now();
    }
}

fn listen(netns: &Netns, address: &str) -> (TcpListener, SocketAddr) {
    let address = SocketAddr::new(address.parse().unwrap(), 0);
    let listener = netns.enter(|| Ok(TcpListener::bind(address)?.into()));
    let listener = TcpListener::from(listener.unwrap());
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn dial(netns: &Netns, address: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let dial = || Ok(TcpStream::connect_timeout(&address, patience)?.into());
    Ok(netns.enter(dial)?.into())
}

fn datagrams(netns: &Netns, address: &str) -> UdpSocket {
    let address = SocketAddr::new(address.parse().unwrap(), 0);
    let bound = netns.enter(|| Ok(UdpSocket::bind(address)?.into()));
    let socket = UdpSocket::from(bound.unwrap());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Sends an echo request and waits for the reply.
fn ping(netns: &Netns, address: &str) -> io::Result<()> {
    let address: IpAddr = address.parse().unwrap();
    // Of IPv4, a raw socket gives the header of the packet, too (raw(7)).
    let (family, protocol, request, reply, at) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, 8, 0, 20),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, 128, 129, 0),
    };
    let open = || {
        Ok(socket(
            family,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            protocol,
        )?)
    };
    let socket = UdpSocket::from(netns.enter(open)?);
    socket.connect((address, 0))?;
    socket.set_read_timeout(Some(SILENCE * 3))?;
    // Identifier 1 and sequence 1; the checksum is the complement of the sum (RFC 1071).
    let checksum = !(u16::from(request) << 8).wrapping_add(2);
    let [high, low] = checksum.to_be_bytes();
    socket.send(&[request, 0, high, low, 0, 1, 0, 1])?;
    loop {
        let mut answer = [0; 128];
        let length = socket.recv(&mut answer)?;
        if answer[..length].get(at) == Some(&reply) {
            return Ok(());
        }
    }
}

#[test]
fn the_gateway_reaches_its_tenants_over_both_families_and_every_byte_is_counted() {
    on_each_backend(|lab| {
        let tenants = connected(lab);
        let before = lab.linux.sample(port(51820)).unwrap();
        for address in ["10.0.0.2", "fd00::2"] {
            let (listener, target) = listen(&tenants.second, address);
            let mut client = dial(&tenants.gateway, target, PATIENCE).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            client.write_all(&[7; 100_000]).unwrap();
            drop(client);
            let mut heard = Vec::new();
            server.read_to_end(&mut heard).unwrap();
            assert_eq!(heard.len(), 100_000);
        }
        let after = lab.linux.sample(port(51820)).unwrap();
        assert_eq!(after.epoch, before.epoch);
        let sent = |number: u8| {
            let key = public(number.into()).parse().unwrap();
            after.peers[&key].tx - before.peers[&key].tx
        };
        assert!(sent(2) > 200_000, "{}", sent(2));
        assert!(sent(3) < 10_000, "nothing was sent to the other");
    });
}

#[test]
fn a_tenant_gets_echoes_from_the_gateway_and_nothing_else() {
    on_each_backend(|lab| {
        let tenants = connected(lab);
        for address in ["10.0.0.1", "fd00::1"] {
            ping(&tenants.second, address).unwrap();
            let (_listener, target) = listen(&tenants.gateway, address);
            let refused = dial(&tenants.second, target, SILENCE).unwrap_err();
            assert_eq!(
                refused.kind(),
                io::ErrorKind::TimedOut,
                "{address}: {refused}"
            );
            let inside = datagrams(&tenants.gateway, address);
            inside.set_read_timeout(Some(SILENCE)).unwrap();
            let outside = datagrams(
                &tenants.second,
                if address == "10.0.0.1" {
                    "10.0.0.2"
                } else {
                    "fd00::2"
                },
            );
            outside
                .send_to(b"in", inside.local_addr().unwrap())
                .unwrap();
            let heard = inside.recv(&mut [0; 8]);
            assert_eq!(heard.unwrap_err().kind(), io::ErrorKind::WouldBlock);
            // The same two sockets speak when the gateway begins.
            inside
                .send_to(b"out", outside.local_addr().unwrap())
                .unwrap();
            assert_eq!(outside.recv(&mut [0; 8]).unwrap(), 3);
            outside
                .send_to(b"back", inside.local_addr().unwrap())
                .unwrap();
            inside.set_read_timeout(Some(PATIENCE)).unwrap();
            assert_eq!(inside.recv(&mut [0; 8]).unwrap(), 4);
        }
    });
}

#[test]
fn tenants_reach_each_other_only_where_they_are_declared_to() {
    on_each_backend(|lab| {
        let mut tenants = connected(lab);
        for (from, to) in [("10.0.0.2", "10.0.0.3"), ("fd00::2", "fd00::3")] {
            let sender = datagrams(&tenants.second, from);
            let receiver = datagrams(&tenants.third, to);
            let target = receiver.local_addr().unwrap();
            sender.send_to(b"peer", target).unwrap();
            assert_eq!(receiver.recv(&mut [0; 16]).unwrap(), 4);
            ping(&tenants.second, to).unwrap();

            tenants.document["51820"]["peer_to_peer"] = json!(false);
            lab.settle(&desired(&tenants.document));
            sender.send_to(b"blocked", target).unwrap();
            receiver.set_read_timeout(Some(SILENCE)).unwrap();
            let heard = receiver.recv(&mut [0; 16]);
            assert_eq!(heard.unwrap_err().kind(), io::ErrorKind::WouldBlock);
            assert!(ping(&tenants.second, to).is_err());
            // What the gateway sends arrives all the same.
            let gateway = datagrams(
                &tenants.gateway,
                if from == "10.0.0.2" {
                    "10.0.0.1"
                } else {
                    "fd00::1"
                },
            );
            gateway.send_to(b"gateway", target).unwrap();
            receiver.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut heard = [0; 16];
            let length = receiver.recv(&mut heard).unwrap();
            assert_eq!(&heard[..length], b"gateway");

            tenants.document["51820"]["peer_to_peer"] = json!(true);
            lab.settle(&desired(&tenants.document));
        }
    });
}

#[test]
fn a_change_of_one_peer_does_not_disturb_the_connection_of_another() {
    on_each_backend(|lab| {
        let mut tenants = connected(lab);
        let (listener, target) = listen(&tenants.second, "10.0.0.2");
        let mut client = dial(&tenants.gateway, target, PATIENCE).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let before = lab.linux.sample(port(51820)).unwrap();
        let peers = tenants.document["51820"]["peers"].as_object_mut().unwrap();
        peers.remove(&public(3)).unwrap();
        let (key, peer) = peer(4);
        peers.insert(key, peer);
        lab.settle(&desired(&tenants.document));
        client.write_all(b"still here").unwrap();
        drop(client);
        let mut heard = String::new();
        server.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "still here");
        let after = lab.linux.sample(port(51820)).unwrap();
        assert_eq!(after.epoch, before.epoch);
        let second = public(2).parse().unwrap();
        assert_eq!(
            after.peers[&second].last_handshake, before.peers[&second].last_handshake,
            "the session goes on"
        );
        assert!(after.peers[&second].tx > before.peers[&second].tx);
    });
}

#[test]
fn a_restart_keeps_the_kernels_sessions_and_begins_userspace_ones_anew() {
    on_each_backend(|lab| {
        let tenants = connected(lab);
        let before = lab.linux.sample(port(51820)).unwrap();
        lab.restart();
        lab.settle(&desired(&tenants.document));
        wait_for_handshakes(lab, 2);
        let after = lab.linux.sample(port(51820)).unwrap();
        let is_kept = lab.backend() == Backend::Kernel;
        assert_eq!(after.epoch == before.epoch, is_kept);
        let (listener, target) = listen(&tenants.second, "10.0.0.2");
        let mut client = dial(&tenants.gateway, target, PATIENCE).unwrap();
        client.write_all(b"x").unwrap();
        assert_eq!(listener.accept().unwrap().0.read(&mut [0; 8]).unwrap(), 1);
    });
}

#[test]
fn the_kernels_device_and_ringways_own_understand_each_other() {
    on_both_backends(|lab, other| {
        let tenants = connected_to(lab, other);
        for (address, from) in [("10.0.0.2", "10.0.0.3"), ("fd00::2", "fd00::3")] {
            let (listener, target) = listen(&tenants.second, address);
            let mut client = dial(&tenants.gateway, target, PATIENCE).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            client.write_all(&[7; 100_000]).unwrap();
            drop(client);
            let mut heard = Vec::new();
            server.read_to_end(&mut heard).unwrap();
            assert_eq!(heard.len(), 100_000);
            ping(&tenants.third, address).unwrap();
            ping(&tenants.second, from).unwrap();
        }
    });
}
