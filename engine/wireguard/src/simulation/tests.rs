//! Devices over time.

use std::{collections::BTreeSet, env, net::SocketAddr, ops::Range, time::Duration};

use mock_instant::MockClock;

use crate::{
    change::PeerChange,
    core::tests::world::{Weather, World, inside, number},
    key::Key,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const FOUL: Weather = Weather {
    lost: 20,
    doubled: 10,
    delay: Duration::from_millis(300),
};
/// When whoever shows peers takes one for disconnected.
const DISCONNECTED: Duration = Duration::from_secs(180);

fn seeds(range: Range<u64>) -> Vec<u64> {
    match env::var("SIM_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None => range.collect(),
    }
}

fn world(seed: u64, nodes: usize) -> World {
    World::new(seed, nodes, MockClock::set_time)
}

fn kinds(world: &World, from: usize, kind: u8) -> usize {
    let address = world.nodes[from].address;
    let sent = world.log.iter().filter(|flying| flying.from == address);
    sent.filter(|flying| flying.bytes[0] == kind).count()
}

/// How long ago a node completed a handshake with another.
fn session_age(world: &World, of: usize, with: usize) -> Option<Duration> {
    let at = world.peer(of, with).last_handshake?;
    Some(world.wall().duration_since(at).unwrap())
}

fn numbers(heard: &[Vec<u8>]) -> Vec<u64> {
    heard.iter().map(|packet| number(packet)).collect()
}

#[test]
fn a_steady_flow_loses_nothing_while_keys_are_renewed() {
    for seed in seeds(0..4) {
        let mut world = world(seed, 2);
        world.introduce(0, 1, 0);
        for number in 0..3_600 {
            world.send(0, 1, number, 100);
            world.send(1, 0, number, 100);
            world.run_for(SECOND);
            for (one, other) in [(0, 1), (1, 0)] {
                let age = session_age(&world, one, other).unwrap();
                assert!(age < Duration::from_secs(125), "seed {seed}: {age:?}");
            }
        }
        for node in 0..2 {
            let heard = numbers(&world.nodes[node].heard);
            assert_eq!(heard, (0..3_600).collect::<Vec<_>>(), "seed {seed}");
        }
        let renewals = kinds(&world, 0, 1) + kinds(&world, 1, 1);
        assert!((29..=65).contains(&renewals), "seed {seed}: {renewals}");
    }
}

#[test]
fn a_session_lives_its_time_while_nobody_answers_to_the_next_one() {
    let mut world = world(1, 2);
    world.introduce(0, 1, 0);
    world.send(0, 1, 0, 100);
    world.run_for(SECOND);
    // No handshake gets through, and for a while no answer at all, so that one is asked for.
    world.stops = |flying| flying.bytes[0] != 4 || flying.from.to_string().starts_with("192.0.2.2:");
    for number in 1..25 {
        world.send(0, 1, number, 100);
        world.run_for(SECOND);
    }
    assert!(kinds(&world, 0, 1) > 1);
    world.stops = |flying| flying.bytes[0] != 4;
    for number in 25..174 {
        world.send(0, 1, number, 100);
        world.send(1, 0, number, 100);
        world.run_for(SECOND);
    }
    assert_eq!(numbers(&world.nodes[1].heard), (0..174).collect::<Vec<_>>());
    assert_eq!(numbers(&world.nodes[0].heard), (25..174).collect::<Vec<_>>());
    // Once it gets through, nothing is lost of what follows.
    world.stops = |_| false;
    for number in 174..240 {
        world.send(0, 1, number, 100);
        world.run_for(SECOND);
    }
    assert_eq!(numbers(&world.nodes[1].heard), (0..240).collect::<Vec<_>>());
}

#[test]
fn one_way_traffic_is_enough_for_both_to_stay_in_touch() {
    for from in 0..2 {
        let mut world = world(1, 2);
        world.introduce(0, 1, 0);
        world.send(0, 1, 0, 100);
        for number in 1..1_800 {
            world.send(from, 1 - from, number, 100);
            world.run_for(SECOND);
            assert!(session_age(&world, 0, 1).unwrap() < DISCONNECTED);
            assert!(session_age(&world, 1, 0).unwrap() < DISCONNECTED);
        }
        assert!(world.nodes[1 - from].heard.len() >= 1_799);
    }
}

#[test]
fn foul_weather_neither_doubles_nor_alters_anything_and_ends_no_session_for_good() {
    for seed in seeds(0..16) {
        let mut world = world(seed, 2);
        world.introduce(0, 1, 0);
        world.weather = FOUL;
        for number in 0..6_000 {
            world.send(0, 1, number, 100);
            world.send(1, 0, number, 100);
            world.run_for(Duration::from_millis(100));
        }
        world.run_for(SECOND);
        for node in 0..2 {
            let heard = numbers(&world.nodes[node].heard);
            let different: BTreeSet<u64> = heard.iter().copied().collect();
            assert_eq!(different.len(), heard.len(), "seed {seed}: none came twice");
            assert!(different.iter().all(|number| *number < 6_000));
            // A fifth is lost on the way; a handshake that is lost costs five seconds more.
            assert!(heard.len() > 4_200, "seed {seed}: {}", heard.len());
        }
    }
}

#[test]
fn keep_alives_alone_keep_two_in_touch_for_hours() {
    for seed in seeds(0..4) {
        let mut world = world(seed, 2);
        let knowing = world.acquaintance(1, 25);
        world.configure(0, knowing);
        let mut waiting = world.acquaintance(0, 0);
        waiting.endpoint = None;
        world.configure(1, waiting);
        world.run_for(SECOND);
        for _ in 0..4 * 60 {
            world.run_for(MINUTE);
            assert!(session_age(&world, 0, 1).unwrap() < DISCONNECTED);
            assert!(session_age(&world, 1, 0).unwrap() < DISCONNECTED);
        }
        let (handshakes, data) = (kinds(&world, 0, 1), kinds(&world, 0, 4));
        assert!(
            (90..=125).contains(&handshakes),
            "seed {seed}: {handshakes}"
        );
        assert!((450..=700).contains(&data), "seed {seed}: {data}");
    }
}

#[test]
fn a_silent_network_comes_to_rest() {
    let mut world = world(1, 2);
    world.introduce(0, 1, 0);
    world.send(0, 1, 1, 100);
    world.run_for(10 * MINUTE);
    for node in &world.nodes {
        assert_eq!(node.core.next_turn(), None);
    }
    let sent = world.log.len();
    world.run_for(24 * HOUR);
    assert_eq!(world.log.len(), sent);
    // And it wakes when there is something to say.
    world.send(1, 0, 2, 100);
    world.run_for(SECOND);
    assert_eq!(numbers(&world.nodes[0].heard), [2]);
}

#[test]
fn a_handshake_after_a_long_rest_is_tried_again_when_it_is_lost() {
    let mut world = world(1, 2);
    world.introduce(0, 1, 0);
    world.send(0, 1, 1, 100);
    world.run_for(24 * HOUR);
    world.weather.lost = 100;
    world.send(1, 0, 2, 100);
    world.run_for(4 * SECOND);
    world.weather.lost = 0;
    world.run_for(3 * SECOND);
    assert_eq!(numbers(&world.nodes[0].heard), [2], "what waited came with it");
}

#[test]
fn a_thread_that_was_held_up_uses_no_session_past_its_end() {
    let mut world = world(1, 2);
    world.introduce(0, 1, 0);
    world.send(0, 1, 1, 100);
    world.run_for(SECOND);
    let handshakes = kinds(&world, 0, 1);
    world.stall(Duration::from_secs(200));
    world.send(0, 1, 2, 100);
    assert_eq!(kinds(&world, 0, 1), handshakes + 1, "a new session comes first");
    world.run_for(SECOND);
    assert_eq!(numbers(&world.nodes[1].heard), [1, 2]);
}

#[test]
fn an_absent_peer_is_called_for_a_minute_and_a_half_and_then_left_alone() {
    let mut world = world(1, 2);
    let absent = world.acquaintance(1, 0);
    world.configure(0, absent);
    world.send(0, 1, 1, 100);
    world.run_for(5 * MINUTE);
    let calls = kinds(&world, 0, 1);
    assert!((14..=19).contains(&calls), "{calls}");
    assert_eq!(world.nodes[0].core.next_turn(), None);
    // It comes after all, and is called again for the next packet.
    let present = world.acquaintance(0, 0);
    world.configure(1, present);
    world.send(0, 1, 2, 100);
    world.run_for(SECOND);
    assert_eq!(
        numbers(&world.nodes[1].heard),
        [2],
        "what waited longest is gone"
    );
}

#[test]
fn a_peer_to_be_kept_in_touch_with_is_called_until_it_comes_back() {
    let mut world = world(1, 2);
    world.introduce(0, 1, 25);
    world.run_for(10 * MINUTE);
    let away: SocketAddr = "203.0.113.1:1".parse().unwrap();
    let home = std::mem::replace(&mut world.nodes[1].address, away);
    let mut gone = PeerChange::new(world.nodes[0].key.public());
    gone.remove = true;
    world.configure(1, gone);
    world.run_for(6 * HOUR);
    assert!(session_age(&world, 0, 1).unwrap() > 5 * HOUR);
    world.nodes[1].address = home;
    let mut back = world.acquaintance(0, 0);
    back.endpoint = None;
    world.configure(1, back);
    world.run_for(32 * SECOND);
    assert!(session_age(&world, 0, 1).unwrap() < 32 * SECOND);
    assert!(session_age(&world, 1, 0).unwrap() < 32 * SECOND);
}

#[test]
fn a_keep_alive_that_is_set_and_taken_back_takes_effect_in_the_same_session() {
    let mut world = world(1, 2);
    world.introduce(0, 1, 0);
    world.send(0, 1, 1, 100);
    world.run_for(30 * SECOND);
    let count = |world: &World| (kinds(world, 0, 1), kinds(world, 0, 4));
    let (handshakes, data) = count(&world);
    let mut change = PeerChange::new(world.nodes[1].key.public());
    change.keep_alive = Some(5);
    world.configure(0, change.clone());
    world.run_for(50 * SECOND);
    let after = count(&world);
    assert_eq!(after.0, handshakes);
    assert!((9..=11).contains(&(after.1 - data)), "{after:?}");
    change.keep_alive = Some(0);
    world.configure(0, change);
    world.run_for(20 * SECOND);
    assert_eq!(count(&world), after);
}

#[test]
fn a_peer_that_moves_is_followed_from_its_first_packet_on() {
    for seed in seeds(0..8) {
        let mut world = world(seed, 2);
        world.introduce(0, 1, 25);
        world.run_for(MINUTE);
        for step in 0..50 {
            let elsewhere = SocketAddr::from(([203, 0, 113, step], 4_000 + u16::from(step)));
            world.nodes[0].address = elsewhere;
            world.send(0, 1, 1, 100);
            world.run_for(20 * SECOND);
            assert_eq!(world.peer(1, 0).endpoint, Some(elsewhere));
            world.send(1, 0, u64::from(step), 100);
            world.run_for(SECOND);
        }
        let heard = numbers(&world.nodes[0].heard);
        assert_eq!(heard, (0..50).collect::<Vec<_>>(), "seed {seed}");
    }
}

#[test]
fn a_recording_of_a_whole_hour_is_believed_by_nobody() {
    let mut world = world(1, 2);
    world.introduce(0, 1, 25);
    for number in 0..360 {
        world.send(0, 1, number, 100);
        world.send(1, 0, number, 100);
        world.run_for(10 * SECOND);
    }
    // Nothing is under way any longer that would be new to anybody.
    world.run_for(SECOND / 2);
    let recorded = world.log.clone();
    let peers = |world: &World| [world.peer(0, 1), world.peer(1, 0)];
    let (before, sent) = (peers(&world), world.log.len());
    let heard = [world.nodes[0].heard.len(), world.nodes[1].heard.len()];
    let attacker: SocketAddr = "198.51.100.66:666".parse().unwrap();
    for flying in &recorded {
        for to in 0..2 {
            world.deliver(to, attacker, &flying.bytes);
        }
    }
    assert_eq!(world.log.len(), sent);
    assert_eq!(peers(&world), before);
    assert_eq!(
        [world.nodes[0].heard.len(), world.nodes[1].heard.len()],
        heard
    );
}

#[test]
fn the_pre_shared_key_is_changed_hour_after_hour() {
    let mut world = world(1, 2);
    world.introduce(0, 1, 0);
    for hour in 0..6 {
        // boringtun's stamps begin with the true time of day, which does not pass here.
        let psk = Some(Some(Key::new([hour + 1; 32])));
        for (node, other) in [(0, 1), (1, 0)] {
            let mut change = PeerChange::new(world.nodes[other].key.public());
            change.preshared_key = psk.clone();
            world.configure(node, change);
        }
        world.send(
            usize::from(hour % 2),
            usize::from(1 - hour % 2),
            u64::from(hour),
            100,
        );
        world.run_for(HOUR);
    }
    assert_eq!(numbers(&world.nodes[1].heard), [0, 2, 4]);
    assert_eq!(numbers(&world.nodes[0].heard), [1, 3, 5]);
}

#[test]
fn many_peers_of_one_device_each_keep_their_own_session() {
    let mut world = world(1, 41);
    for peer in 1..=40 {
        world.introduce(0, peer, 25);
    }
    world.weather = FOUL;
    world.run_for(10 * MINUTE);
    world.weather.lost = 0;
    world.run_for(MINUTE);
    for peer in 1..=40 {
        assert!(session_age(&world, 0, peer).unwrap() < DISCONNECTED);
        world.send(0, peer, peer as u64, 100);
        world.send(peer, 0, peer as u64, 100);
    }
    world.run_for(SECOND);
    for peer in 1..=40 {
        assert_eq!(numbers(&world.nodes[peer].heard), [peer as u64]);
    }
    assert_eq!(world.nodes[0].heard.len(), 40);
    let sources = world.nodes[0]
        .heard
        .iter()
        .map(|packet| packet[12..16].to_vec());
    assert_eq!(sources.collect::<BTreeSet<_>>().len(), 40);
    assert_ne!(inside(1), inside(2));
}

#[test]
fn a_peer_in_a_flood_of_handshakes_gets_in_with_a_cookie() {
    use boringtun::noise::{Tunn, TunnResult};
    let mut world = world(1, 2);
    let public = world.nodes[1].key.public();
    let stranger = Key::new([8; 32]).secret();
    let point = boringtun::x25519::PublicKey::from(*public.as_bytes());
    let mut stranger = Tunn::new(stranger, point, None, None, 1, None);
    let mut room = [0; 148];
    let flood = match stranger.format_handshake_initiation(&mut room, true) {
        TunnResult::WriteToNetwork(message) => message.to_vec(),
        other => panic!("{other:?}"),
    };
    world.introduce(0, 1, 0);
    world.send(0, 1, 7, 100);
    for tick in 0_u32..300 {
        for number in 0..150 {
            let source = SocketAddr::from(([198, 18, (tick % 250) as u8, number as u8], 1));
            world.deliver(1, source, &flood);
        }
        if tick == 0 {
            // The flood comes first, so that the peer needs its cookie.
            for number in 0..1_000_u32 {
                let source = SocketAddr::from((number.to_be_bytes(), 1));
                world.deliver(1, source, &flood);
            }
        }
        world.run_for(Duration::from_millis(100));
    }
    let cookies = world
        .log
        .iter()
        .filter(|it| it.bytes[0] == 3 && it.to == world.nodes[0].address);
    assert!(cookies.count() >= 1, "it was asked for proof");
    assert_eq!(numbers(&world.nodes[1].heard), [7], "and gave it");
    assert_eq!(world.nodes[1].core.state(0).peers.len(), 1);
}
