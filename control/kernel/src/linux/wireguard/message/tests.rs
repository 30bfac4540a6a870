use std::{collections::BTreeMap, num::NonZeroU16};

use netlink_packet_wireguard::WireguardTimeSpec;

use super::*;

fn key(number: u16) -> PublicKey {
    let hex = format!("{number:04x}{}", "5e".repeat(30));
    hex.parse().unwrap()
}

fn prefixes(count: u16) -> Vec<IpNet> {
    let prefix = |number: u16| {
        let [high, low] = number.to_be_bytes();
        format!("10.{high}.{low}.0/24").parse().unwrap()
    };
    (0..count).map(prefix).collect()
}

fn of_peers(peers: impl IntoIterator<Item = (PublicKey, PeerChange)>) -> DeviceChange {
    DeviceChange {
        peers: peers.into_iter().collect(),
        ..DeviceChange::default()
    }
}

fn peers_of(message: &WireguardMessage) -> &[WireguardPeer] {
    let peers = message.attributes.iter().find_map(|attribute| {
        if let WireguardAttribute::Peers(peers) = attribute {
            Some(peers.as_slice())
        } else {
            None
        }
    });
    peers.unwrap_or_default()
}

#[test]
fn ten_thousand_peers_go_in_messages_of_a_bounded_size() {
    let settings = PeerSettings {
        keep_alive: Some(25),
        allowed_ips: Some(prefixes(1)),
        ..PeerSettings::default()
    };
    let peers = (0..10_000).map(|number| (key(number), PeerChange::Set(settings.clone())));
    let change = DeviceChange {
        listen_port: NonZeroU16::new(51820),
        ..of_peers(peers)
    };
    let messages = super::change("wg51820", &change);
    let port = WireguardAttribute::ListenPort(51820);
    let with_port = messages.iter().filter(|m| m.attributes.contains(&port));
    assert_eq!(with_port.count(), 1, "the device's own settings go once");
    assert!(messages[0].attributes.contains(&port));
    let counted: usize = messages.iter().map(|m| peers_of(m).len()).sum();
    assert_eq!(counted, 10_000);
    for message in &messages {
        assert!(message.buffer_len() < 17 * 1024, "{}", message.buffer_len());
        let name = WireguardAttribute::IfName("wg51820".to_owned());
        assert_eq!(message.attributes[0], name);
    }
}

#[test]
fn the_prefixes_of_one_peer_replace_the_old_ones_once_and_then_add_up() {
    let settings = PeerSettings {
        allowed_ips: Some(prefixes(1000)),
        ..PeerSettings::default()
    };
    let change = of_peers([(key(1), PeerChange::Set(settings))]);
    let messages = super::change("wg1", &change);
    let parts: Vec<&WireguardPeer> = messages.iter().flat_map(peers_of).collect();
    assert_eq!(parts.len(), 4);
    let replace = WireguardPeerAttribute::Flags(WireguardPeerFlags::ReplaceAllowedIps);
    let replacing: Vec<bool> = parts.iter().map(|part| part.0.contains(&replace)).collect();
    assert_eq!(replacing, [true, false, false, false]);
    let same = WireguardPeerAttribute::PublicKey(*key(1).as_bytes());
    assert!(parts.iter().all(|part| part.0[0] == same));
}

#[test]
fn what_is_absent_is_not_said_and_taking_a_secret_away_is() {
    let keep = PeerChange::Set(PeerSettings::default());
    let settings = PeerSettings {
        preshared_key: Some(None),
        allowed_ips: Some(Vec::new()),
        ..PeerSettings::default()
    };
    let change = of_peers([
        (key(1), keep),
        (key(2), PeerChange::Set(settings)),
        (key(3), PeerChange::Remove),
    ]);
    let [message] = &super::change("wg1", &change)[..] else {
        panic!("one message");
    };
    let [kept, cleared, removed] = peers_of(message) else {
        panic!("three peers");
    };
    assert_eq!(kept.0.len(), 1);
    let flags = WireguardPeerAttribute::Flags;
    assert_eq!(
        cleared.0[1..],
        [
            flags(WireguardPeerFlags::ReplaceAllowedIps),
            WireguardPeerAttribute::PresharedKey([0; 32]),
        ]
    );
    assert_eq!(removed.0[1..], [flags(WireguardPeerFlags::RemoveMe)]);
    assert!(super::change("wg1", &DeviceChange::default()).is_empty());
}

#[test]
fn a_peer_that_goes_on_in_the_next_message_is_read_as_one() {
    let told = |attributes: Vec<WireguardPeerAttribute>| WireguardMessage {
        cmd: WireguardCmd::GetDevice,
        attributes: vec![WireguardAttribute::Peers(vec![peer(&key(1), attributes)])],
    };
    let mut shown = Shown::default();
    let first = vec![
        WireguardPeerAttribute::RxBytes(7),
        WireguardPeerAttribute::LastHandshake(WireguardTimeSpec {
            seconds: 1,
            nano_seconds: 5,
        }),
        allowed(&prefixes(2)),
    ];
    read(&mut shown, told(first));
    read(&mut shown, told(vec![allowed(&prefixes(5)[2..])]));
    let peers: BTreeMap<_, _> = shown.peers;
    let [(found, peer)] = peers.iter().collect::<Vec<_>>()[..] else {
        panic!("one peer");
    };
    assert_eq!(*found, key(1));
    assert_eq!(peer.rx, 7);
    assert_eq!(peer.last_handshake, Some(Duration::new(1, 5)));
    assert_eq!(peer.allowed_ips.len(), 5);
}
