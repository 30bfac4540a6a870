//! The steps of one device.

use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
};

use control_api::state::{Peer, PrivateKey, PublicKey, WireGuard};
use ipnet::IpNet;

use super::{Endpoint, KEEP_ALIVE_SECONDS, network::Steps, routes};
use crate::{
    actual::{ActualDevice, ActualPeer, Backend},
    step::{Action, DeviceChange, PeerChange, PeerSettings},
};

/// What is desired of a device.
pub(super) struct Wish<'a> {
    pub(super) wireguard: &'a WireGuard,
    pub(super) backend: Option<Backend>,
    /// Whether its namespace is the network's own.
    pub(super) is_alone: bool,
    pub(super) known: &'a dyn Fn(&PublicKey) -> Option<&'a Endpoint>,
}

/// Makes a device what is desired of it. Addresses and peers that stay are never touched.
pub(super) fn keep(
    wish: &Wish<'_>,
    there: Option<&ActualDevice>,
    before: &mut Steps<'_>,
    after: &mut Steps<'_>,
) {
    let wireguard = wish.wireguard;
    let other_backend =
        |device: &&ActualDevice| wish.backend.is_some_and(|wanted| wanted != device.backend);
    let there = match there {
        Some(device) if other_backend(&device) => {
            before.push(Action::RemoveDevice);
            None
        }
        there => there,
    };
    let Some(device) = there else {
        return make(wish, before);
    };
    if device.mtu != u32::from(wireguard.mtu) {
        before.push(Action::SetMtu(wireguard.mtu));
    }
    let change = change(wish, Some(device));
    if !change.is_empty() {
        before.push(Action::ConfigureDevice(change));
    }
    let addresses: BTreeSet<IpNet> = wireguard.address.iter().copied().collect();
    let leaving = number(&addresses, device, before);
    if !device.is_up {
        before.push(Action::RaiseDevice);
    }
    let routes = routes::wanted(wireguard, wish.is_alone);
    for route in routes.difference(&device.routes) {
        before.push(Action::AddRoute(*route));
    }
    for route in device.routes.difference(&routes) {
        after.push(Action::RemoveRoute(*route));
    }
    for address in leaving {
        after.push(Action::RemoveAddress(address));
    }
    let removed = removed(wireguard, device);
    if !removed.is_empty() {
        after.push(Action::ConfigureDevice(removed));
    }
}

/// Gives a device the addresses that it lacks, and those that it has what belongs to them. Answers
/// the ones that are to go when nobody uses them any longer.
fn number(
    wanted: &BTreeSet<IpNet>,
    device: &ActualDevice,
    before: &mut Steps<'_>,
) -> BTreeSet<IpNet> {
    let mut leaving: BTreeSet<IpNet> = device.addresses.difference(wanted).copied().collect();
    let takes_others_along = |gone: &IpNet| wanted.iter().any(|stays| is_neighbour(gone, stays));
    if !device.is_promoting && leaving.iter().any(takes_others_along) {
        before.push(Action::KeepSecondaries);
    }
    for address in wanted.difference(&device.addresses) {
        // IPv6 has an address once, whatever the length of its prefix.
        let other = |there: &&IpNet| there.addr() == address.addr() && there.addr().is_ipv6();
        if let Some(other) = leaving.iter().find(other).copied() {
            leaving.remove(&other);
            before.push(Action::RemoveAddress(other));
        }
        before.push(Action::AddAddress(*address));
    }
    // A device that is down has no routes, and gets them when it is raised.
    if device.is_up {
        let there = wanted.intersection(&device.addresses);
        for address in there.filter(|address| !device.routed.contains(address)) {
            before.push(Action::RestoreRoutes(*address));
        }
    }
    leaving
}

/// Whether two IPv4 addresses have one network: the kernel takes the second for secondary, and
/// removes it together with the first (`__inet_del_ifa` in `net/ipv4/devinet.c`).
fn is_neighbour(one: &IpNet, other: &IpNet) -> bool {
    one.addr().is_ipv4() && one.trunc() == other.trunc()
}

fn make(wish: &Wish<'_>, steps: &mut Steps<'_>) {
    let wireguard = wish.wireguard;
    steps.push(Action::MakeDevice {
        backend: wish.backend,
        mtu: wireguard.mtu,
    });
    steps.push(Action::ConfigureDevice(change(wish, None)));
    let addresses: BTreeSet<IpNet> = wireguard.address.iter().copied().collect();
    for address in addresses {
        steps.push(Action::AddAddress(address));
    }
    steps.push(Action::RaiseDevice);
    for route in routes::wanted(wireguard, wish.is_alone) {
        steps.push(Action::AddRoute(route));
    }
}

/// Everything to add or change at once, so that a prefix moves between peers without a moment in
/// which it is nobody's.
fn change(wish: &Wish<'_>, device: Option<&ActualDevice>) -> DeviceChange {
    let wireguard = wish.wireguard;
    let key = &wireguard.private_key;
    let has_key = device
        .and_then(|device| device.private_key.as_ref())
        .is_some_and(|there| clamped(there) == clamped(key));
    let has_port = device.is_some_and(|device| device.listen_port == wireguard.listen_port.get());
    // Deriving it takes some time, and is seldom needed.
    let own = OnceCell::new();
    let is_own = |key: &PublicKey| own.get_or_init(|| wireguard.private_key.public_key()) == key;
    let mut peers = BTreeMap::new();
    for (key, peer) in &wireguard.peers {
        let there = device.and_then(|device| device.peers.get(key));
        let known = (wish.known)(key);
        let settings = match there {
            Some(there) => changed(peer, there, known),
            // No device takes itself for a peer (`set_peer` in `drivers/net/wireguard/netlink.c`).
            None if is_own(key) => None,
            None => Some(added(peer, known)),
        };
        if let Some(settings) = settings {
            peers.insert(*key, PeerChange::Set(settings));
        }
    }
    DeviceChange {
        private_key: (!has_key).then(|| key.clone()),
        listen_port: (!has_port).then_some(wireguard.listen_port),
        peers,
    }
}

/// A key as devices keep it: five bits of an X25519 secret say nothing (RFC 7748, section 5).
pub(crate) fn clamped(key: &PrivateKey) -> [u8; 32] {
    let mut bytes = *key.expose();
    bytes[0] &= 0b1111_1000;
    bytes[31] = bytes[31] & 0b0111_1111 | 0b0100_0000;
    bytes
}

/// A new peer is looked for where it was seen last, unless it is declared elsewhere since.
fn added(peer: &Peer, known: Option<&Endpoint>) -> PeerSettings {
    let seen = known
        .filter(|known| known.declared == peer.endpoint)
        .and_then(|known| known.seen);
    PeerSettings {
        preshared_key: peer.preshared_key.clone().map(Some),
        endpoint: seen.or(peer.endpoint),
        keep_alive: Some(KEEP_ALIVE_SECONDS),
        allowed_ips: Some(peer.allowed_ips.clone()),
    }
}

/// A peer that roamed stays where it is: its endpoint is set when the declaration changed, or when
/// it has none.
fn changed(peer: &Peer, there: &ActualPeer, known: Option<&Endpoint>) -> Option<PeerSettings> {
    let is_redeclared = known.is_some_and(|known| known.declared != peer.endpoint);
    let endpoint = peer.endpoint.filter(|declared| {
        there.endpoint.is_none() || (is_redeclared && there.endpoint != Some(*declared))
    });
    let secret = (peer.preshared_key != there.preshared_key).then(|| peer.preshared_key.clone());
    let keep_alive = (there.keep_alive != KEEP_ALIVE_SECONDS).then_some(KEEP_ALIVE_SECONDS);
    let allowed: BTreeSet<IpNet> = peer.allowed_ips.iter().map(IpNet::trunc).collect();
    let allowed_ips = (allowed != there.allowed_ips).then(|| peer.allowed_ips.clone());
    let settings = PeerSettings {
        preshared_key: secret,
        endpoint,
        keep_alive,
        allowed_ips,
    };
    (settings != PeerSettings::default()).then_some(settings)
}

fn removed(wireguard: &WireGuard, device: &ActualDevice) -> DeviceChange {
    let strangers = device.peers.keys();
    let strangers = strangers.filter(|key| !wireguard.peers.contains_key(key));
    DeviceChange {
        peers: strangers.map(|key| (*key, PeerChange::Remove)).collect(),
        ..DeviceChange::default()
    }
}
