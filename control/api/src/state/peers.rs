//! The peers of a network's WireGuard device.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
};

use ipnet::IpNet;
use serde_json::{Value, json};

use super::{
    Owner, Whose,
    key::{PresharedKey, PublicKey},
    network::read_owner,
    secret::{Secrets, read_secret},
    wireguard::{present, read_prefixes, read_text},
};
use crate::{
    document::{Content, Duplicates, Fields, Spot},
    field::Field as _,
    place::parse_target,
    problem::Problems,
    word::printable,
};

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
    /// Who the peer belongs to.
    pub owner: Owner,
}

/// The peers of a network, by public key.
pub(super) type PeerMap = BTreeMap<PublicKey, Peer>;

/// What peers are read among.
#[derive(Clone, Copy)]
pub(super) struct Among<'a> {
    /// Whose they are.
    pub(super) whose: &'a Whose,
    /// Those as they were, which secrets may be kept from.
    pub(super) kept: Option<&'a PeerMap>,
    /// Those of the same device that stay as they are.
    pub(super) others: &'a PeerMap,
}

/// Reads both generations: a map by public key, and the older list. A peer that is declared twice
/// is what its last declaration says, as it always was.
pub(super) fn read(spot: &Spot<'_>, among: Among<'_>, problems: &mut Problems) -> Option<PeerMap> {
    let declared: Vec<Option<Declared>> = if let Content::List(_) = &spot.node.content {
        let items = spot.items(problems)?;
        items
            .map(|item| read_listed(&item, among, problems))
            .collect()
    } else {
        let entries = spot.entries(Duplicates::LastCounts, problems)?;
        entries
            .iter()
            .map(|entry| read_keyed(entry, among, problems))
            .collect()
    };
    let mut peers = Peers::of(among.others.clone());
    for (key, peer) in declared.into_iter().collect::<Option<Vec<_>>>()? {
        peers.declare(key, peer, spot, problems);
    }
    Some(peers.by_key)
}

/// Reads the document of one peer and declares it after all others, in the place of what it was.
pub(super) fn put(
    current: &PeerMap,
    (key, whose): (PublicKey, &Whose),
    spot: &Spot<'_>,
    problems: &mut Problems,
) -> Option<PeerMap> {
    let fields = Fields::open(spot, &FIELDS, problems)?;
    let mut peer = read_fields(&fields, (whose, current.get(&key)), problems)?;
    let mut others = current.clone();
    if let Some(before) = others.remove(&key)
        && peer.owner.is_api()
    {
        peer.owner = before.owner;
    }
    let mut peers = Peers::of(others);
    peers.declare(key, peer, spot, problems);
    Some(peers.by_key)
}

type Declared = (PublicKey, Peer);

const FIELDS: [&str; 5] = [
    "preshared_key",
    "allowed_ips",
    "endpoint",
    "preshared_secret",
    "owner",
];

const LISTED_FIELDS: [&str; 6] = [
    "public_key",
    "preshared_key",
    "allowed_ips",
    "endpoint",
    "preshared_secret",
    "owner",
];

fn read_keyed(spot: &Spot<'_>, among: Among<'_>, problems: &mut Problems) -> Option<Declared> {
    let key: Option<PublicKey> = spot
        .key()
        .parse()
        .map_err(|error| spot.error(problems, error))
        .ok();
    let fields = Fields::open(spot, &FIELDS, problems)?;
    let peer = read_fields(&fields, (among.whose, known(key, among.kept)), problems);
    Some((key?, peer?))
}

fn read_listed(spot: &Spot<'_>, among: Among<'_>, problems: &mut Problems) -> Option<Declared> {
    let fields = Fields::open(spot, &LISTED_FIELDS, problems)?;
    let key = fields
        .need("public_key", problems)
        .and_then(|spot| read_text(spot, problems));
    let peer = read_fields(&fields, (among.whose, known(key, among.kept)), problems);
    Some((key?, peer?))
}

fn known(key: Option<PublicKey>, kept: Option<&PeerMap>) -> Option<&Peer> {
    kept?.get(&key?)
}

/// `kept` is the peer as it was, which its secret may be kept from.
fn read_fields(
    fields: &Fields<'_>,
    (whose, kept): (&Whose, Option<&Peer>),
    problems: &mut Problems,
) -> Option<Peer> {
    if let Some(spot) = fields.find("preshared_secret") {
        spot.warning(
            problems,
            "`preshared_secret` has no effect; write `preshared_key`",
        );
    }
    let kept = kept.and_then(|peer| peer.preshared_key.as_ref());
    let preshared_key = match present(fields, "preshared_key") {
        Some(spot) => read_secret(spot, kept, problems).map(Some),
        None => Some(None),
    };
    let endpoint = match present(fields, "endpoint") {
        Some(spot) => read_endpoint(spot, problems).map(Some),
        None => Some(None),
    };
    let allowed_ips = fields
        .need("allowed_ips", problems)
        .and_then(|spot| read_allowed_ips(spot, problems));
    let owner = read_owner(fields, whose, problems);
    Some(Peer {
        preshared_key: preshared_key?,
        allowed_ips: allowed_ips?,
        endpoint: endpoint?,
        owner: owner?,
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
    let target = parse_target(text);
    if target.is_none() {
        spot.error(problems, message());
    }
    target
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
    by_key: PeerMap,
    holders: HashMap<IpNet, PublicKey>,
}

impl Peers {
    fn of(by_key: PeerMap) -> Self {
        let prefixes = |(key, peer): (&PublicKey, &Peer)| {
            let key = *key;
            let owned = peer.allowed_ips.iter().map(move |prefix| (*prefix, key));
            owned.collect::<Vec<_>>()
        };
        let holders = by_key.iter().flat_map(prefixes).collect();
        Self { by_key, holders }
    }

    fn declare(&mut self, key: PublicKey, peer: Peer, spot: &Spot<'_>, problems: &mut Problems) {
        if let Some(theirs) = self.by_key.get(&key)
            && theirs.owner != peer.owner
        {
            let owner = &theirs.owner;
            return spot.error(problems, format_args!("peer {key} belongs to `{owner}`"));
        }
        for prefix in &peer.allowed_ips {
            let holder = self
                .holders
                .insert(*prefix, key)
                .filter(|holder| *holder != key);
            let Some(loser) = holder.and_then(|holder| self.by_key.get_mut(&holder)) else {
                continue;
            };
            if loser.owner != peer.owner && loser.allowed_ips.contains(prefix) {
                let (holder, owner) = (holder.unwrap_or(key), &loser.owner);
                let message =
                    format_args!("{prefix} goes to peer {holder}, which belongs to `{owner}`");
                spot.error(problems, message);
                continue;
            }
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

/// Writes a map by public key.
pub(super) fn write_keyed(peers: &PeerMap, secrets: Secrets) -> Value {
    let peers = peers.iter();
    Value::Object(
        peers
            .map(|(key, peer)| (key.to_string(), write(peer, secrets)))
            .collect(),
    )
}

/// Writes the list of documents of the first generation.
pub(super) fn write_listed(peers: &PeerMap, secrets: Secrets) -> Value {
    let list = peers.iter().map(|(key, peer)| {
        let mut peer = write(peer, secrets);
        peer["public_key"] = key.to_string().into();
        peer
    });
    list.collect()
}

pub(super) fn write(peer: &Peer, secrets: Secrets) -> Value {
    let allowed = peer.allowed_ips.iter().map(ToString::to_string);
    let mut written = json!({
        "preshared_key": peer.preshared_key.as_ref().map(|key| secrets.write(key)),
        "allowed_ips": allowed.collect::<Vec<_>>(),
        "endpoint": peer.endpoint.map(|endpoint| endpoint.to_string()),
    });
    if !peer.owner.is_api() {
        written["owner"] = peer.owner.write();
    }
    written
}
