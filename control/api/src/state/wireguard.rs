//! The WireGuard device of a network.

use std::{collections::BTreeMap, fmt, num::NonZeroU16, str::FromStr};

use ipnet::IpNet;
use serde_json::{Map, Value};

use super::{
    Whose,
    key::{PrivateKey, PublicKey},
    peers::{self, Among, Peer},
    secret::{Secrets, read_secret},
};
use crate::{
    document::{Content, Fields, Spot},
    field::{number, parse_prefix},
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

const FIELDS: [&str; 5] = ["private_key", "listen_port", "mtu", "address", "peers"];

/// Whether a network with a namespace of its own has a device nevertheless.
pub(super) fn is_declared(fields: &Fields<'_>) -> bool {
    FIELDS.iter().any(|key| fields.find(key).is_some())
}

/// `kept` is the device as it was, which secrets may be kept from; `others` are peers of others,
/// which stay.
pub(super) fn read(
    port: NonZeroU16,
    fields: &Fields<'_>,
    kept: Option<&WireGuard>,
    (whose, others): (&Whose, &BTreeMap<PublicKey, Peer>),
    problems: &mut Problems,
) -> Option<WireGuard> {
    let kept_key = kept.map(|kept| &kept.private_key);
    let private_key = fields
        .need("private_key", problems)
        .and_then(|spot| read_secret(spot, kept_key, problems));
    if let Some(spot) = present(fields, "listen_port") {
        check_listen_port(port, spot, problems);
    }
    let mtu = match present(fields, "mtu") {
        Some(spot) => read_mtu(spot, problems),
        None => Some(MTU_DEFAULT),
    };
    let peers = fields.need("peers", problems);
    let address = read_address(fields, peers, problems);
    let among = Among {
        whose,
        kept: kept.map(|kept| &kept.peers),
        others,
    };
    let peers = peers.and_then(|spot| peers::read(spot, among, problems));
    Some(WireGuard {
        private_key: private_key?,
        listen_port: port,
        mtu: mtu?,
        address: address?,
        peers: peers?,
    })
}

pub(super) fn present<'f, 'a>(fields: &'f Fields<'a>, key: &str) -> Option<&'f Spot<'a>> {
    fields.find(key).filter(|spot| !spot.is_null())
}

/// Reads a public key, which may have been a secret by mistake: it is not repeated.
pub(super) fn read_text<T: FromStr<Err: fmt::Display>>(
    spot: &Spot<'_>,
    problems: &mut Problems,
) -> Option<T> {
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

pub(super) fn read_prefixes(spot: &Spot<'_>, problems: &mut Problems) -> Option<Vec<IpNet>> {
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

pub(super) fn write(wireguard: &WireGuard, secrets: Secrets, map: &mut Map<String, Value>) {
    // Without an address it is a document of the first generation, which lists its peers.
    let peers = if wireguard.address.is_empty() {
        peers::write_listed(&wireguard.peers, secrets)
    } else {
        let addresses = wireguard.address.iter().map(ToString::to_string);
        map.insert("address".to_owned(), addresses.collect());
        peers::write_keyed(&wireguard.peers, secrets)
    };
    map.insert(
        "private_key".to_owned(),
        secrets.write(&wireguard.private_key).into(),
    );
    map.insert("mtu".to_owned(), wireguard.mtu.into());
    map.insert("peers".to_owned(), peers);
}
