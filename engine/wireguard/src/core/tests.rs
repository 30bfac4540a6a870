//! What takes no time: sessions as they begin, and what is refused. What takes time is in the
//! simulation, where boringtun's clock is a simulated one too.

use std::{net::SocketAddr, time::Duration};

use ipnet::IpNet;

use self::world::{Numbers, World, inside, key, number, packet};
use super::{path, peer::STAGED_MAX, send::Unsent};
use crate::{
    change::{Change, PeerChange},
    core::outbox::Outbox,
    key::Key,
    state::State,
    superpacket::{HEADER_BYTES, PADDING_ROOM, Packets},
};

pub(crate) mod world;

/// Enough for handshakes and what follows, and too short for any timer.
const MOMENT: Duration = Duration::from_millis(50);

fn world(nodes: usize) -> World {
    World::new(1, nodes, |_| {})
}

/// Two devices with a session.
fn acquainted() -> World {
    let mut world = world(2);
    world.introduce(0, 1, 0);
    world.send(0, 1, 0, 100);
    world.run_for(MOMENT);
    assert_eq!(world.nodes[1].heard.len(), 1);
    world.nodes[1].heard.clear();
    world
}

fn numbers(heard: &[Vec<u8>]) -> Vec<u64> {
    heard.iter().map(|packet| number(packet)).collect()
}

/// What an attacker may not change: everything but the accounts of others.
fn state(world: &World, node: usize) -> State {
    world.nodes[node].core.state(0)
}

#[test]
fn packets_that_waited_for_the_handshake_arrive_in_order_and_so_do_the_next() {
    let mut world = world(2);
    world.introduce(0, 1, 0);
    for number in 0..100 {
        world.send(0, 1, number, 100);
    }
    world.run_for(MOMENT);
    for number in 100..200 {
        world.send(0, 1, number, 100);
        world.send(1, 0, number, 100);
    }
    world.run_for(MOMENT);
    assert_eq!(numbers(&world.nodes[1].heard), (0..200).collect::<Vec<_>>());
    assert_eq!(
        numbers(&world.nodes[0].heard),
        (100..200).collect::<Vec<_>>()
    );
}

#[test]
fn both_may_begin_at_once() {
    let mut world = world(2);
    world.introduce(0, 1, 0);
    for number in 0..10 {
        world.send(0, 1, number, 100);
        world.send(1, 0, number, 100);
    }
    world.run_for(MOMENT);
    for node in 0..2 {
        assert_eq!(
            numbers(&world.nodes[node].heard),
            (0..10).collect::<Vec<_>>()
        );
    }
}

#[test]
fn what_is_sent_is_padded_with_zeros_to_sixteen_bytes_but_not_past_the_mtu() {
    let mut world = acquainted();
    for (len, sealed) in [(28, 32), (32, 32), (33, 48), (1_409, 1_420), (1_420, 1_420)] {
        world.send(0, 1, 7, len);
        assert_eq!(world.log.last().unwrap().bytes.len(), sealed + 32, "{len}");
        world.run_for(MOMENT);
        // The other end cuts it to the length in its header.
        assert_eq!(world.nodes[1].heard.pop().unwrap().len(), len);
    }
}

#[test]
fn the_accounts_are_those_of_the_messages() {
    let mut world = acquainted();
    for number in 0..50 {
        world.send(0, 1, 1, 100 + number);
        world.send(1, 0, 1, 100);
    }
    world.run_for(MOMENT);
    let sent = |from: usize| -> u64 {
        let address = world.nodes[from].address;
        let sent = world.log.iter().filter(|flying| flying.from == address);
        sent.map(|flying| flying.bytes.len() as u64).sum()
    };
    for (one, other) in [(0, 1), (1, 0)] {
        assert_eq!(world.peer(one, other).tx_bytes, sent(one));
        assert_eq!(world.peer(other, one).rx_bytes, sent(one));
    }
}

#[test]
fn what_the_network_did_not_take_is_not_counted() {
    let mut world = acquainted();
    let before = world.peer(0, 1).tx_bytes;
    world.send(0, 1, 1, 100);
    let sent = world.log.last().unwrap().bytes.len();
    let slot = *world.nodes[0].core.by_key.values().next().unwrap();
    world.nodes[0].core.unsent(slot, sent);
    assert_eq!(world.peer(0, 1).tx_bytes, before);
}

#[test]
fn a_peer_may_use_its_own_addresses_only_and_the_longest_prefix_decides() {
    let mut world = world(3);
    world.introduce(0, 1, 0);
    world.introduce(0, 2, 0);
    // 1 has all of 10/8 but what 2 has: also the addresses of 2, were it not for the longer prefix.
    let mut wide = PeerChange::new(world.nodes[1].key.public());
    wide.allowed_ips = vec!["10.0.0.0/8".parse().unwrap()];
    world.configure(0, wide);
    let elsewhere = "10.9.9.9".parse().unwrap();
    for (from, source, arrives) in [
        (1, inside(1), true),
        (1, elsewhere, true),
        (1, inside(2), false),
        (2, inside(2), true),
        (2, elsewhere, false),
    ] {
        let before = (world.nodes[0].heard.len(), world.peer(0, from).rx_bytes);
        world.send_packet(from, &packet(source, inside(0), 1, 100));
        world.run_for(MOMENT);
        let heard = world.nodes[0].heard.len() - before.0;
        assert_eq!(heard, usize::from(arrives), "{source} from {from}");
        if !arrives {
            // A handshake may have been counted, the packet not.
            let counted = world.peer(0, from).rx_bytes - before.1;
            assert!(counted < 32 + 112 || counted == 148 + 32, "{counted}");
        }
    }
    // And what is sent goes to whoever has the longest prefix.
    for (to, node) in [(elsewhere, 1), (inside(2), 2)] {
        world.send_packet(0, &packet(inside(0), to, 1, 100));
        assert_eq!(world.log.last().unwrap().to, world.nodes[node].address);
    }
}

#[test]
fn an_allowed_address_moves_at_once() {
    let mut world = world(3);
    world.introduce(0, 1, 0);
    world.introduce(0, 2, 0);
    let prefix: IpNet = "10.7.0.0/16".parse().unwrap();
    let target = "10.7.1.1".parse().unwrap();
    for owner in [1, 2, 1] {
        let mut change = PeerChange::new(world.nodes[owner].key.public());
        change.allowed_ips = vec![prefix];
        world.configure(0, change);
        for node in [1, 2] {
            let listed = world.peer(0, node).allowed_ips.contains(&prefix);
            assert_eq!(listed, node == owner);
        }
        world.send_packet(0, &packet(inside(0), target, 1, 100));
        world.run_for(MOMENT);
        let before = world.nodes[0].heard.len();
        world.send_packet(1, &packet(target, inside(0), 1, 100));
        world.send_packet(2, &packet(target, inside(0), 1, 100));
        world.run_for(MOMENT);
        assert_eq!(world.nodes[0].heard.len(), before + 1, "from {owner} alone");
    }
    let mut removal = PeerChange::new(world.nodes[1].key.public());
    removal.remove = true;
    world.configure(0, removal);
    let mut buffer = [packet(inside(0), target, 1, 100), vec![0; PADDING_ROOM]].concat();
    let mut packets = Packets::read(&[0; HEADER_BYTES], &mut buffer, 100).unwrap();
    let now = world.now();
    let core = &mut world.nodes[0].core;
    let sent = core.send(now, &mut packets, &mut Outbox::default());
    assert_eq!(sent, Err(Unsent::NoPeer));
}

#[test]
fn a_change_of_one_peer_leaves_the_sessions_of_the_others_alone() {
    let mut world = world(3);
    world.introduce(0, 1, 0);
    world.introduce(0, 2, 0);
    world.send(1, 0, 0, 100);
    world.send(2, 0, 0, 100);
    world.run_for(MOMENT);
    let handshakes = |world: &World| world.log.iter().filter(|it| it.bytes[0] == 1).count();
    let before = handshakes(&world);
    // Keep-alive, endpoint and addresses in place, of 1 itself and of others.
    let mut change = PeerChange::new(world.nodes[1].key.public());
    change.keep_alive = Some(25);
    change.endpoint = Some(world.nodes[1].address);
    change.replace_allowed_ips = true;
    change.allowed_ips = vec![inside(1).into()];
    world.configure(0, change);
    let mut same_psk = PeerChange::new(world.nodes[2].key.public());
    same_psk.preshared_key = Some(Some(Key::ZERO));
    world.configure(0, same_psk);
    world.configure(0, PeerChange::new(key(77).public()));
    world.send(1, 0, 1, 100);
    world.send(2, 0, 1, 100);
    world.run_for(MOMENT);
    assert_eq!(handshakes(&world), before);
    assert_eq!(world.nodes[0].heard.len(), 4);
}

#[test]
fn changes_mean_what_they_mean_to_the_kernel() {
    let mut world = world(2);
    let peer = PeerChange::new(key(50).public());
    let is_peer = |world: &World| {
        let peers = state(world, 0).peers;
        peers.iter().any(|it| it.public_key == key(50).public())
    };
    let update = PeerChange {
        update_only: true,
        ..peer.clone()
    };
    world.configure(0, update);
    assert!(!is_peer(&world), "an update adds nobody");
    let removal = PeerChange {
        remove: true,
        ..peer.clone()
    };
    world.configure(0, removal.clone());
    world.configure(0, peer);
    assert!(is_peer(&world));
    world.configure(0, removal);
    assert!(!is_peer(&world));
    let own = PeerChange::new(world.nodes[0].key.public());
    world.configure(0, own);
    assert_eq!(state(&world, 0).peers, [], "a device is not its own peer");
    world.introduce(0, 1, 0);
    let with_the_key_of_a_peer = Change {
        private_key: Some(world.nodes[1].key.clone()),
        ..Change::default()
    };
    world.change(0, with_the_key_of_a_peer);
    assert_eq!(state(&world, 0).peers, []);
    let replaced = Change {
        private_key: Some(Key::ZERO),
        replace_peers: true,
        peers: vec![PeerChange::new(key(51).public())],
        ..Change::default()
    };
    world.change(0, replaced);
    assert_eq!(state(&world, 0).private_key, None);
    assert_eq!(state(&world, 0).peers.len(), 1);
}

#[test]
fn pre_shared_keys_have_to_be_equal_and_may_change() {
    let mut world = acquainted();
    let psk = |world: &World, with: usize, psk: Option<Key>| PeerChange {
        preshared_key: Some(psk),
        ..PeerChange::new(world.nodes[with].key.public())
    };
    let one_sided = psk(&world, 1, Some(Key::new([9; 32])));
    world.configure(0, one_sided);
    world.send(0, 1, 1, 100);
    world.run_for(MOMENT);
    assert_eq!(world.nodes[1].heard.len(), 0);
    let at_both_ends = psk(&world, 0, Some(Key::new([9; 32])));
    world.configure(1, at_both_ends);
    world.send(1, 0, 2, 100);
    world.run_for(MOMENT);
    assert_eq!(numbers(&world.nodes[0].heard), [2]);
}

#[test]
fn another_private_key_ends_every_session() {
    let mut world = acquainted();
    let change = Change {
        private_key: Some(key(99)),
        ..Change::default()
    };
    world.change(0, change);
    world.send(1, 0, 1, 100);
    world.send(0, 1, 1, 100);
    world.run_for(MOMENT);
    assert_eq!(world.nodes[0].heard.len(), 0);
    assert_eq!(world.nodes[1].heard.len(), 0);
    assert_eq!(state(&world, 0).public_key, Some(key(99).public()));
}

#[test]
fn forged_truncated_and_replayed_datagrams_change_nothing_and_meet_silence() {
    let mut world = acquainted();
    world.send(0, 1, 1, 200);
    world.send(1, 0, 2, 200);
    world.run_for(MOMENT);
    let recorded = world.log.clone();
    let (before, sent) = ([state(&world, 0), state(&world, 1)], world.log.len());
    let attacker: SocketAddr = "198.51.100.66:666".parse().unwrap();
    let mut numbers = Numbers::new(3);
    for flying in &recorded {
        for to in 0..2 {
            world.deliver(to, attacker, &flying.bytes);
            for cut in 0..flying.bytes.len().min(200) {
                world.deliver(to, attacker, &flying.bytes[..cut]);
            }
            for _ in 0..200 {
                let mut forged = flying.bytes.clone();
                let at = usize::try_from(numbers.below(forged.len() as u64)).unwrap();
                forged[at] ^= 1 << numbers.below(8);
                world.deliver(to, attacker, &forged);
            }
        }
    }
    assert_eq!(world.log.len(), sent, "nobody was answered");
    assert_eq!([state(&world, 0), state(&world, 1)], before);
    world.send(0, 1, 3, 100);
    world.send(1, 0, 4, 100);
    world.run_for(MOMENT);
    assert_eq!(number(world.nodes[1].heard.last().unwrap()), 3);
    assert_eq!(number(world.nodes[0].heard.last().unwrap()), 4);
}

#[test]
fn an_initiation_by_somebody_who_knows_only_public_keys_leaves_no_trace() {
    use blake2::{
        Blake2s256, Blake2sMac, Digest as _,
        digest::{Mac as _, consts::U16},
    };
    let mut world = world(2);
    world.introduce(0, 1, 0);
    world.send(0, 1, 1, 100);
    let genuine = world.log.pop().unwrap();
    // Up to the sealed timestamp, an initiation takes nothing secret; and neither does mac1.
    let mut forged = genuine.bytes;
    forged[100] ^= 1;
    let public_key = world.nodes[1].key.public();
    let hashed = Blake2s256::new().chain_update(b"mac1----");
    let mac1_key = hashed.chain_update(public_key.as_bytes()).finalize();
    let mac1 = Blake2sMac::<U16>::new_from_slice(&mac1_key).unwrap();
    let mac1 = mac1.chain_update(&forged[..116]).finalize().into_bytes();
    forged[116..132].copy_from_slice(&mac1);
    let before = state(&world, 1);
    world.deliver(1, genuine.from, &forged);
    assert_eq!(world.log.len(), 0);
    assert_eq!(state(&world, 1), before);
    let core = &world.nodes[1].core;
    assert!(core.indices.is_empty() && core.awake.is_empty());
    core.assert_invariants();
}

#[test]
fn noise_leaves_no_trace() {
    let mut world = acquainted();
    let before = [state(&world, 0), state(&world, 1)];
    let sent = world.log.len();
    let attacker: SocketAddr = "198.51.100.66:666".parse().unwrap();
    let mut numbers = Numbers::new(4);
    for _ in 0..100_000 {
        let len = [0, 3, 31, 32, 64, 92, 148, 1_452][usize::try_from(numbers.below(8)).unwrap()];
        let mut noise: Vec<u8> = (0..len).map(|_| numbers.next().to_le_bytes()[0]).collect();
        if let Some(head) = noise.first_chunk_mut() {
            *head = [1 + numbers.next().to_le_bytes()[0] % 4, 0, 0, 0];
        }
        world.deliver(0, attacker, &noise);
    }
    assert_eq!(world.log.len(), sent);
    assert_eq!([state(&world, 0), state(&world, 1)], before);
    world.nodes[0].core.assert_invariants();
}

#[test]
fn an_initiation_alone_does_not_move_a_peer() {
    let mut world = world(2);
    world.introduce(0, 1, 0);
    world.send(0, 1, 1, 100);
    let initiation = world.log.last().unwrap().clone();
    let before = world.peer(1, 0).endpoint;
    let attacker: SocketAddr = "198.51.100.66:666".parse().unwrap();
    world.deliver(1, attacker, &initiation.bytes);
    assert_eq!(
        world.log.last().unwrap().to,
        attacker,
        "it is answered there"
    );
    assert_eq!(world.peer(1, 0).endpoint, before);
    assert_eq!(
        world.peer(1, 0).last_handshake,
        None,
        "nothing is completed"
    );
}

#[test]
fn a_peer_is_where_its_last_authenticated_data_came_from() {
    let mut world = acquainted();
    let elsewhere: SocketAddr = "203.0.113.9:4000".parse().unwrap();
    world.nodes[0].address = elsewhere;
    world.send(0, 1, 1, 100);
    world.run_for(MOMENT);
    assert_eq!(world.peer(1, 0).endpoint, Some(elsewhere));
    world.send(1, 0, 2, 100);
    assert_eq!(world.log.last().unwrap().to, elsewhere);
    world.run_for(MOMENT);
    assert_eq!(numbers(&world.nodes[0].heard), [2]);
}

#[test]
fn what_waits_for_absent_peers_is_bounded_for_each_and_for_all() {
    let mut world = world(1);
    let nowhere = "198.51.100.1:1".parse().unwrap();
    for number in 1..=100 {
        let mut absent = PeerChange::new(key(number).public());
        absent.endpoint = Some(nowhere);
        absent.allowed_ips = vec![inside(number).into()];
        world.configure(0, absent);
    }
    for packet in 0..200 {
        world.send(0, 1, packet, 1_420);
    }
    let slot = world.nodes[0].core.by_key[&key(1).public()];
    let staged = &world.nodes[0].core.peers[slot].staged;
    assert_eq!(staged.len(), STAGED_MAX);
    assert_eq!(
        number(&staged[0]),
        200 - STAGED_MAX as u64,
        "the oldest went"
    );
    for node in 1..=100 {
        for packet in 0..100 {
            world.send(0, node, packet, 1_420);
        }
    }
    world.nodes[0].core.assert_invariants();
    assert!(world.nodes[0].core.staged_bytes <= 4 << 20);
    let initiations = world.log.len();
    assert_eq!(initiations, 100, "one handshake was started with each");
}

#[test]
fn indices_are_drawn_at_random_and_shared_by_no_two() {
    let mut world = World::new(5, 1, |_| {});
    let mut repeating = Numbers::new(0);
    // Hands out every number twice.
    let mut held = None;
    world.nodes[0].core.draw = Box::new(move || {
        held.take().unwrap_or_else(|| {
            let drawn = u32::try_from(repeating.next() >> 32).unwrap();
            held = Some(drawn);
            drawn
        })
    });
    for number in 1..=50 {
        let mut peer = PeerChange::new(key(number).public());
        peer.endpoint = Some("198.51.100.1:1".parse().unwrap());
        peer.allowed_ips = vec![inside(number).into()];
        world.configure(0, peer);
        world.send(0, number, 0, 100);
    }
    world.nodes[0].core.assert_invariants();
    let mut senders: Vec<&[u8]> = world.log.iter().map(|it| &it.bytes[5..8]).collect();
    senders.sort_unstable();
    senders.dedup();
    assert_eq!(senders.len(), 50);
}

#[test]
fn more_peers_or_addresses_than_there_may_be_are_refused_before_anything_changes() {
    use super::configure::{ALLOWED_IPS_MAX, PEERS_MAX, TooMany};
    let world = world(1);
    let core = &world.nodes[0].core;
    let peers = (0..=PEERS_MAX).map(|number| {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        PeerChange::new(bytes.into())
    });
    let mut change = Change {
        peers: peers.collect(),
        ..Change::default()
    };
    assert_eq!(core.check(&change), Err(TooMany::Peers));
    change.peers.truncate(1);
    change.peers[0].allowed_ips = vec![inside(1).into(); ALLOWED_IPS_MAX + 1];
    assert_eq!(core.check(&change), Err(TooMany::AllowedIps));
    change.peers[0].allowed_ips.truncate(ALLOWED_IPS_MAX);
    assert_eq!(core.check(&change), Ok(()));
}

#[test]
fn a_source_that_has_gone_is_forgotten_until_the_peer_speaks_to_another() {
    let mut world = World::new(1, 2, |_| {});
    world.introduce(0, 1, 0);
    let core = &mut world.nodes[0].core;
    let slot = *core.by_key.values().next().unwrap();
    let mut path = core.peers[slot].endpoint.unwrap();
    path.local = Some([192, 0, 2, 1].into());
    core.peers[slot].endpoint = Some(path);
    let elsewhere = path::Path::to(([192, 0, 2, 9], 1).into());
    core.forget_source(slot, elsewhere);
    assert_eq!(core.peers[slot].endpoint, Some(path), "of another path");
    core.forget_source(slot, path);
    assert_eq!(core.peers[slot].endpoint, Some(path::Path::to(path.remote)));
}
