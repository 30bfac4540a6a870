//! The WireGuard device of a network.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    net::SocketAddr,
    num::NonZeroU16,
    str::FromStr,
};

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::key::{PresharedKey, PrivateKey, PublicKey};
use crate::{
    document::{Content, Duplicates, Fields, Spot},
    field::{number, parse_prefix},
    place::parse_target,
    problem::Problems,
    word::printable,
};

/// The MTU of a device when nothing is written: 1500 less the most that WireGuard adds over IPv6.
pub const MTU_DEFAULT: u16 = 1420;
/// The smallest MTU that IPv6 works with (RFC 8200 section 5).
const MTU_MIN: u16 = 1280;

/// A network's device.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WireGuard {
    /// The network's own key.
    pub private_key: PrivateKey,
    /// Its public UDP port: always the network's key in the document.
    pub listen_port: NonZeroU16,
    /// From 1280; [`MTU_DEFAULT`] when nothing is written.
    pub mtu: u16,
    /// The device's own addresses. Empty only in documents of the first generation.
    pub address: Vec<IpNet>,
    /// Who may speak with it.
    pub peers: BTreeMap<PublicKey, Peer>,
}

/// A machine of the tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// A secret beside the keys.
    pub preshared_key: Option<PresharedKey>,
    /// Which sources are believed from it, and which destinations are sent to it. Without host
    /// bits; no prefix twice in a network.
    pub allowed_ips: Vec<IpNet>,
    /// Where it was last known to be.
    pub endpoint: Option<SocketAddr>,
}

const FIELDS: [&str; 5] = ["private_key", "listen_port", "mtu", "address", "peers"];

/// Whether a network with a namespace of its own has a device nevertheless.
pub(super) fn is_declared(fields: &Fields<'_>) -> bool {
    FIELDS.iter().any(|key| fields.find(key).is_some())
}

pub(super) fn read(
    port: NonZeroU16,
    fields: &Fields<'_>,
    problems: &mut Problems,
) -> Option<WireGuard> {
    let private_key = fields
        .need("private_key", problems)
        .and_then(|spot| read_text(spot, problems));
    if let Some(spot) = present(fields, "listen_port") {
        check_listen_port(port, spot, problems);
    }
    let mtu = match present(fields, "mtu") {
        Some(spot) => read_mtu(spot, problems),
        None => Some(MTU_DEFAULT),
    };
    let peers = fields.need("peers", problems);
    let address = read_address(fields, peers, problems);
    let peers = peers.and_then(|spot| read_peers(spot, problems));
    Some(WireGuard {
        private_key: private_key?,
        listen_port: port,
        mtu: mtu?,
        address: address?,
        peers: peers?,
    })
}

fn present<'f, 'a>(fields: &'f Fields<'a>, key: &str) -> Option<&'f Spot<'a>> {
    fields.find(key).filter(|spot| !spot.is_null())
}

fn read_text<T: FromStr<Err: fmt::Display>>(spot: &Spot<'_>, problems: &mut Problems) -> Option<T> {
    // The text may be a secret: it is never repeated.
    spot.text(problems)?
        .parse()
        .map_err(|error: T::Err| spot.error(problems, error))
        .ok()
}

/// The field says nothing that the network's key does not: 0 and the key itself are silent.
fn check_listen_port(port: NonZeroU16, spot: &Spot<'_>, problems: &mut Problems) {
    let written: Option<u16> = number(spot, problems, "number from 0 to 65535");
    if written.is_some_and(|written| written != 0 && written != port.get()) {
        let message = format_args!("the network's key counts: its port is {port}");
        spot.warning(problems, message);
    }
}

fn read_mtu(spot: &Spot<'_>, problems: &mut Problems) -> Option<u16> {
    let what = "number from 1280 to 65535";
    let mtu = number(spot, problems, what)?;
    if mtu < MTU_MIN {
        spot.error(problems, format_args!("`{mtu}`: a {what} is expected"));
        return None;
    }
    Some(mtu)
}

/// Documents of the first generation, told by their list of peers, have no addresses.
fn read_address(
    fields: &Fields<'_>,
    peers: Option<&Spot<'_>>,
    problems: &mut Problems,
) -> Option<Vec<IpNet>> {
    let spot = match present(fields, "address") {
        Some(spot) => spot,
        None => {
            let listed = |spot: &Spot<'_>| matches!(spot.node.content, Content::List(_));
            if peers.is_some_and(listed) {
                return Some(Vec::new());
            }
            fields.need("address", problems)?
        }
    };
    let addresses = read_prefixes(spot, problems)?;
    if addresses.is_empty() {
        spot.error(problems, "at least one address is needed");
        return None;
    }
    Some(addresses)
}

fn read_prefixes(spot: &Spot<'_>, problems: &mut Problems) -> Option<Vec<IpNet>> {
    let read = |item: Spot<'_>, problems: &mut Problems| {
        let text = item.text(problems)?;
        let wrong = |error| format!("`{}`: {error}", printable(text));
        parse_prefix(text)
            .map_err(|error| item.error(problems, wrong(error)))
            .ok()
    };
    let items = spot.items(problems)?;
    let prefixes: Vec<Option<IpNet>> = items.map(|item| read(item, problems)).collect();
    prefixes.into_iter().collect()
}

/// Reads both generations: a map by public key, and the older list. A peer that is declared twice
/// is what its last declaration says, as it always was.
fn read_peers(spot: &Spot<'_>, problems: &mut Problems) -> Option<BTreeMap<PublicKey, Peer>> {
    let declared: Vec<Option<Declared>> = if let Content::List(_) = &spot.node.content {
        let items = spot.items(problems)?;
        items
            .map(|item| read_listed_peer(&item, problems))
            .collect()
    } else {
        let entries = spot.entries(Duplicates::LastCounts, problems)?;
        entries
            .iter()
            .map(|entry| read_keyed_peer(entry, problems))
            .collect()
    };
    let mut peers = Peers::default();
    for (key, peer) in declared.into_iter().collect::<Option<Vec<_>>>()? {
        peers.declare(key, peer, spot, problems);
    }
    Some(peers.by_key)
}

type Declared = (PublicKey, Peer);

fn read_keyed_peer(spot: &Spot<'_>, problems: &mut Problems) -> Option<Declared> {
    let known = [
        "preshared_key",
        "allowed_ips",
        "endpoint",
        "preshared_secret",
    ];
    let key = spot
        .key()
        .parse()
        .map_err(|error| spot.error(problems, error))
        .ok();
    let fields = Fields::open(spot, &known, problems)?;
    let peer = read_peer(&fields, problems);
    Some((key?, peer?))
}

fn read_listed_peer(spot: &Spot<'_>, problems: &mut Problems) -> Option<Declared> {
    let known = [
        "public_key",
        "preshared_key",
        "allowed_ips",
        "endpoint",
        "preshared_secret",
    ];
    let fields = Fields::open(spot, &known, problems)?;
    let key = fields
        .need("public_key", problems)
        .and_then(|spot| read_text(spot, problems));
    let peer = read_peer(&fields, problems);
    Some((key?, peer?))
}

fn read_peer(fields: &Fields<'_>, problems: &mut Problems) -> Option<Peer> {
    if let Some(spot) = fields.find("preshared_secret") {
        spot.warning(
            problems,
            "`preshared_secret` means nothing; `preshared_key` is the field",
        );
    }
    let preshared_key = match present(fields, "preshared_key") {
        Some(spot) => read_text(spot, problems).map(Some),
        None => Some(None),
    };
    let endpoint = match present(fields, "endpoint") {
        Some(spot) => read_endpoint(spot, problems).map(Some),
        None => Some(None),
    };
    let allowed_ips = fields
        .need("allowed_ips", problems)
        .and_then(|spot| read_allowed_ips(spot, problems));
    Some(Peer {
        preshared_key: preshared_key?,
        allowed_ips: allowed_ips?,
        endpoint: endpoint?,
    })
}

fn read_endpoint(spot: &Spot<'_>, problems: &mut Problems) -> Option<SocketAddr> {
    let text = spot.text(problems)?;
    let message = || {
        format!(
            "`{}`: `ip:port` or `[ip]:port` is expected",
            printable(text)
        )
    };
    parse_target(text)
        .map_err(|_| spot.error(problems, message()))
        .ok()
}

/// Host bits are cut off, as the kernel does; it is warned of, since somebody may have meant the
/// one address.
fn read_allowed_ips(spot: &Spot<'_>, problems: &mut Problems) -> Option<Vec<IpNet>> {
    let mut allowed = Vec::new();
    for prefix in read_prefixes(spot, problems)? {
        let network = prefix.trunc();
        if network != prefix {
            spot.warning(problems, format_args!("{prefix} is taken as {network}"));
        }
        if !allowed.contains(&network) {
            allowed.push(network);
        }
    }
    Some(allowed)
}

/// The peers so far. One prefix leads to one peer: the kernel takes it from whoever had it before
/// (wg(8), "allowed-ips"), and documents that do so have always been accepted. Nested prefixes are
/// no conflict, since the longest one counts.
#[derive(Default)]
struct Peers {
    by_key: BTreeMap<PublicKey, Peer>,
    owners: HashMap<IpNet, PublicKey>,
}

impl Peers {
    fn declare(&mut self, key: PublicKey, peer: Peer, spot: &Spot<'_>, problems: &mut Problems) {
        for prefix in &peer.allowed_ips {
            let owner = self
                .owners
                .insert(*prefix, key)
                .filter(|owner| *owner != key);
            let Some(loser) = owner.and_then(|owner| self.by_key.get_mut(&owner)) else {
                continue;
            };
            // A declaration that was replaced may have owned it in name only.
            if let Some(at) = loser.allowed_ips.iter().position(|other| other == prefix) {
                loser.allowed_ips.remove(at);
                let message =
                    format_args!("{prefix} goes to two peers: the last one, {key}, has it");
                spot.warning(problems, message);
            }
        }
        if self.by_key.insert(key, peer).is_some() {
            let message = format_args!("peer {key} is declared twice: the last one counts");
            spot.warning(problems, message);
        }
    }
}

pub(super) fn write(wireguard: &WireGuard, map: &mut Map<String, Value>) {
    let texts = |prefixes: &[IpNet]| prefixes.iter().map(ToString::to_string).collect::<Vec<_>>();
    let write_peer = |peer: &Peer| {
        json!({
            "preshared_key": peer.preshared_key.as_ref().map(PresharedKey::expose_base64),
            "allowed_ips": texts(&peer.allowed_ips),
            "endpoint": peer.endpoint.map(|endpoint| endpoint.to_string()),
        })
    };
    let peers = wireguard.peers.iter();
    // Without an address it is a document of the first generation, which lists its peers.
    let peers = if wireguard.address.is_empty() {
        let list = peers.map(|(key, peer)| {
            let mut peer = write_peer(peer);
            peer["public_key"] = key.to_string().into();
            peer
        });
        list.collect()
    } else {
        map.insert("address".to_owned(), texts(&wireguard.address).into());
        Value::Object(
            peers
                .map(|(key, peer)| (key.to_string(), write_peer(peer)))
                .collect(),
        )
    };
    map.insert(
        "private_key".to_owned(),
        wireguard.private_key.expose_base64().into(),
    );
    map.insert("mtu".to_owned(), wireguard.mtu.into());
    map.insert("peers".to_owned(), peers);
}
