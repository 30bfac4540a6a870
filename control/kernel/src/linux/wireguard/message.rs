//! What is said to the WireGuard module, and what its answers mean. Nothing here talks to it.

use std::time::Duration;

use control_api::state::PublicKey;
use control_plan::step::{DeviceChange, PeerChange, PeerSettings};
use ipnet::IpNet;
use netlink_packet_core::Emitable as _;
use netlink_packet_wireguard::{
    WireguardAddressFamily, WireguardAllowedIp, WireguardAllowedIpAttr, WireguardAttribute,
    WireguardCmd, WireguardMessage, WireguardPeer, WireguardPeerAttribute, WireguardPeerFlags,
};

use super::Shown;
use crate::keys;

/// Bytes of peers in one message. An attribute holds less than 64 KiB, and the socket's send buffer
/// takes at least 200 KiB.
const PEERS_BYTES_MAX: usize = 16 * 1024;

/// Prefixes of one peer in one part: each takes at most 40 bytes.
const PREFIXES_MAX: usize = 256;

pub(super) fn show(name: &str) -> WireguardMessage {
    WireguardMessage {
        cmd: WireguardCmd::GetDevice,
        attributes: vec![WireguardAttribute::IfName(name.to_owned())],
    }
}

/// A change in as many messages as it takes, each of at most [`PEERS_BYTES_MAX`] and one peer more.
pub(super) fn change(name: &str, change: &DeviceChange) -> Vec<WireguardMessage> {
    let mut messages = Vec::new();
    let mut attributes = vec![WireguardAttribute::IfName(name.to_owned())];
    if let Some(key) = &change.private_key {
        attributes.push(WireguardAttribute::PrivateKey(*key.expose()));
    }
    if let Some(port) = change.listen_port {
        attributes.push(WireguardAttribute::ListenPort(port.get()));
    }
    let mut peers = Vec::new();
    let mut bytes = 0;
    for peer in change
        .peers
        .iter()
        .flat_map(|(key, change)| parts(key, change))
    {
        bytes += peer.buffer_len();
        peers.push(peer);
        if bytes >= PEERS_BYTES_MAX {
            attributes.push(WireguardAttribute::Peers(std::mem::take(&mut peers)));
            messages.push(set(std::mem::take(&mut attributes)));
            attributes.push(WireguardAttribute::IfName(name.to_owned()));
            bytes = 0;
        }
    }
    if !peers.is_empty() {
        attributes.push(WireguardAttribute::Peers(peers));
    }
    // The name alone would change nothing.
    if attributes.len() > 1 {
        messages.push(set(attributes));
    }
    messages
}

fn set(attributes: Vec<WireguardAttribute>) -> WireguardMessage {
    WireguardMessage {
        cmd: WireguardCmd::SetDevice,
        attributes,
    }
}

/// A peer, in several parts where it has many prefixes.
fn parts(key: &PublicKey, change: &PeerChange) -> Vec<WireguardPeer> {
    let PeerChange::Set(settings) = change else {
        let flags = WireguardPeerAttribute::Flags(WireguardPeerFlags::RemoveMe);
        return vec![peer(key, vec![flags])];
    };
    let mut first = settings_of(settings);
    let Some(prefixes) = &settings.allowed_ips else {
        return vec![peer(key, first)];
    };
    let flags = WireguardPeerFlags::ReplaceAllowedIps;
    first.insert(0, WireguardPeerAttribute::Flags(flags));
    let mut chunks = prefixes.chunks(PREFIXES_MAX);
    first.extend(chunks.next().map(allowed));
    let rest = chunks.map(|chunk| peer(key, vec![allowed(chunk)]));
    std::iter::once(peer(key, first)).chain(rest).collect()
}

fn settings_of(settings: &PeerSettings) -> Vec<WireguardPeerAttribute> {
    let mut attributes = Vec::new();
    if let Some(secret) = &settings.preshared_key {
        // Zeros are the kernel's word for none.
        let secret = secret.as_ref().map_or([0; 32], |secret| *secret.expose());
        attributes.push(WireguardPeerAttribute::PresharedKey(secret));
    }
    if let Some(endpoint) = settings.endpoint {
        attributes.push(WireguardPeerAttribute::Endpoint(endpoint));
    }
    if let Some(seconds) = settings.keep_alive {
        attributes.push(WireguardPeerAttribute::PersistentKeepalive(seconds));
    }
    attributes
}

fn peer(key: &PublicKey, attributes: Vec<WireguardPeerAttribute>) -> WireguardPeer {
    let key = WireguardPeerAttribute::PublicKey(*key.as_bytes());
    WireguardPeer(std::iter::once(key).chain(attributes).collect())
}

fn allowed(prefixes: &[IpNet]) -> WireguardPeerAttribute {
    let prefixes = prefixes.iter().map(|prefix| {
        let family = match prefix {
            IpNet::V4(_) => WireguardAddressFamily::Ipv4,
            IpNet::V6(_) => WireguardAddressFamily::Ipv6,
        };
        WireguardAllowedIp(vec![
            WireguardAllowedIpAttr::Family(family),
            WireguardAllowedIpAttr::IpAddr(prefix.network()),
            WireguardAllowedIpAttr::Cidr(prefix.prefix_len()),
        ])
    });
    WireguardPeerAttribute::AllowedIps(prefixes.collect())
}

/// Takes in one message of a dump. A peer that did not fit goes on in the next one, under the same
/// key and with its remaining prefixes only.
pub(super) fn read(shown: &mut Shown, message: WireguardMessage) {
    for attribute in message.attributes {
        if let WireguardAttribute::IfIndex(index) = attribute {
            shown.index = index;
        } else if let WireguardAttribute::PrivateKey(key) = attribute {
            shown.private_key = keys::private(&key);
        } else if let WireguardAttribute::ListenPort(port) = attribute {
            shown.listen_port = port;
        } else if let WireguardAttribute::Peers(peers) = attribute {
            for peer in peers {
                read_peer(shown, peer);
            }
        }
    }
}

fn read_peer(shown: &mut Shown, peer: WireguardPeer) {
    let key = peer.0.iter().find_map(|attribute| {
        if let WireguardPeerAttribute::PublicKey(key) = attribute {
            keys::public(key)
        } else {
            None
        }
    });
    let Some(key) = key else {
        return;
    };
    let shown = shown.peers.entry(key).or_default();
    for attribute in peer.0 {
        if let WireguardPeerAttribute::PresharedKey(secret) = attribute {
            shown.preshared_key = keys::preshared(&secret);
        } else if let WireguardPeerAttribute::Endpoint(endpoint) = attribute {
            shown.endpoint = Some(endpoint);
        } else if let WireguardPeerAttribute::PersistentKeepalive(seconds) = attribute {
            shown.keep_alive = seconds;
        } else if let WireguardPeerAttribute::LastHandshake(time) = attribute {
            let seconds = u64::try_from(time.seconds).unwrap_or(0);
            let nanoseconds = u64::try_from(time.nano_seconds).unwrap_or(0);
            let since = Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds);
            shown.last_handshake = (!since.is_zero()).then_some(since);
        } else if let WireguardPeerAttribute::RxBytes(bytes) = attribute {
            shown.rx = bytes;
        } else if let WireguardPeerAttribute::TxBytes(bytes) = attribute {
            shown.tx = bytes;
        } else if let WireguardPeerAttribute::AllowedIps(prefixes) = attribute {
            shown
                .allowed_ips
                .extend(prefixes.iter().filter_map(read_prefix));
        }
    }
}

fn read_prefix(prefix: &WireguardAllowedIp) -> Option<IpNet> {
    let (mut address, mut length) = (None, None);
    for attribute in &prefix.0 {
        if let WireguardAllowedIpAttr::IpAddr(ip) = attribute {
            address = Some(*ip);
        } else if let WireguardAllowedIpAttr::Cidr(bits) = attribute {
            length = Some(*bits);
        }
    }
    IpNet::new(address?, length?).ok()
}

#[cfg(test)]
mod tests;
