//! One network of the state document.

use std::{collections::BTreeMap, num::NonZeroU16};

use serde_json::{Map, Value};

use super::{
    ErrorPages, Route, RuleId, Taken, Tls,
    key::PublicKey,
    pool::{self, Pool},
    proxy::{self, ProxyKey},
    routes::{self, Beside},
    secret::{Kept, Secrets},
    wireguard::{self, WireGuard},
};
use crate::{
    document::{Fields, Spot},
    field::Field,
    place::{NetnsName, NetworkName},
    problem::Problems,
};

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Network {
    /// Its public WireGuard port, and so its name: `network-<port>`.
    pub port: NonZeroU16,
    /// Where its upstream connections are dialed from.
    pub namespace: Namespace,
    /// Its device; absent in networks that bring a namespace of their own.
    pub wireguard: Option<WireGuard>,
    /// Whether a namespace `network-<port>` that somebody else made is taken over.
    pub adopt: bool,
    /// Whether its peers reach each other through the device.
    pub peer_to_peer: bool,
    /// What it serves, in short: hosts and targets.
    pub proxy: BTreeMap<ProxyKey, Pool>,
    /// What it serves, by rules.
    pub routes: Vec<Route>,
    /// Where the certificates of its hosts come from.
    pub tls: Option<Tls>,
    /// What it answers in place of the gateway's own error bodies.
    pub error_pages: ErrorPages,
}

/// Where a network's upstream connections are dialed from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Namespace {
    /// `network-<port>`, made when it does not exist: the document says nothing.
    Own,
    /// The namespace that Ringway runs in: the document says `"netns": null`.
    Host,
    /// An existing one, by name.
    Existing(NetnsName),
}

impl Network {
    /// As in the boot file, logs and metrics.
    pub fn name(&self) -> NetworkName {
        NetworkName::Port(self.port)
    }

    /// Its rule with this id.
    pub fn route(&self, id: &RuleId) -> Option<&Route> {
        let mut routes = self.routes.iter();
        routes.find(|route| route.id.as_ref() == Some(id))
    }

    /// What stands at its port in a document, with [`super::KEPT`] in the place of each secret.
    pub fn render_masked(&self) -> Value {
        write(self, Secrets::Kept)
    }

    /// Who the network is to its peers; absent in a network without a device.
    pub fn public_key(&self) -> Option<PublicKey> {
        let wireguard = self.wireguard.as_ref()?;
        Some(wireguard.private_key.public_key())
    }
}

const KEYS: [&str; 12] = [
    "netns",
    "adopt",
    "peer_to_peer",
    "proxy",
    "routes",
    "tls",
    "error_pages",
    "private_key",
    "listen_port",
    "mtu",
    "address",
    "peers",
];

/// `kept` is the network as it was, which secrets may be kept from.
pub(super) fn read(
    port: NonZeroU16,
    spot: &Spot<'_>,
    kept: Kept<'_>,
    taken: &mut Taken,
    problems: &mut Problems,
) -> Option<Network> {
    let fields = Fields::open(spot, &KEYS, problems)?;
    let namespace = read_namespace(&fields, problems);
    let kept_device = kept
        .network()
        .and_then(|network| network.wireguard.as_ref());
    let wireguard = if namespace == Some(Namespace::Own) || wireguard::is_declared(&fields) {
        wireguard::read(port, &fields, kept_device, problems).map(Some)
    } else {
        Some(None)
    };
    let adopt = read_flag(&fields, "adopt", false, problems);
    let peer_to_peer = read_flag(&fields, "peer_to_peer", true, problems);
    let proxy = match fields.find("proxy") {
        Some(spot) => read_proxy(port, spot, taken, problems),
        None => Some(BTreeMap::new()),
    };
    let tls: Option<Option<Tls>> = read_key(&fields, "tls", problems);
    if let Some(Some(tls)) = &tls {
        claim(port, tls, &fields, taken, problems);
    }
    let beside = Beside {
        port,
        proxy: proxy.as_ref(),
        tls: tls.as_ref().and_then(Option::as_ref),
        kept,
    };
    let routes = match fields.find("routes").filter(|spot| !spot.is_null()) {
        Some(spot) => routes::read(spot, &beside, taken, problems),
        None => Some(Vec::new()),
    };
    let error_pages = read_key(&fields, "error_pages", problems);
    Some(Network {
        port,
        namespace: namespace?,
        wireguard: wireguard?,
        adopt: adopt?,
        peer_to_peer: peer_to_peer?,
        proxy: proxy?,
        routes: routes?,
        tls: tls?,
        error_pages: error_pages?,
    })
}

fn read_flag(
    fields: &Fields<'_>,
    key: &str,
    default: bool,
    problems: &mut Problems,
) -> Option<bool> {
    match fields.find(key) {
        None => Some(default),
        Some(spot) => bool::read(spot, problems),
    }
}

fn read_key<T: Field>(fields: &Fields<'_>, key: &str, problems: &mut Problems) -> Option<T> {
    match fields.find(key).filter(|spot| !spot.is_null()) {
        Some(spot) => T::read(spot, problems),
        None => T::absent(),
    }
}

/// A certificate is for the network's own hosts.
fn claim(
    port: NonZeroU16,
    tls: &Tls,
    fields: &Fields<'_>,
    taken: &mut Taken,
    problems: &mut Problems,
) {
    for host in tls.hosts() {
        if let Err(holder) = taken.claim(Some(host), port)
            && let Some(spot) = fields.find("tls")
        {
            spot.error(problems, routes::taken(host, holder));
        }
    }
}

fn read_namespace(fields: &Fields<'_>, problems: &mut Problems) -> Option<Namespace> {
    let Some(spot) = fields.find("netns") else {
        return Some(Namespace::Own);
    };
    if spot.is_null() {
        return Some(Namespace::Host);
    }
    let name: NetnsName = spot
        .text(problems)?
        .parse()
        .map_err(|error| spot.error(problems, error))
        .ok()?;
    Some(Namespace::Existing(name))
}

fn read_proxy(
    port: NonZeroU16,
    spot: &Spot<'_>,
    taken: &mut Taken,
    problems: &mut Problems,
) -> Option<BTreeMap<ProxyKey, Pool>> {
    let mut drafts: BTreeMap<ProxyKey, pool::Draft> = BTreeMap::new();
    for entry in spot.entries(crate::document::Duplicates::Refused, problems)? {
        let hosts = proxy::read_key(&entry, problems);
        let draft = pool::read(&entry, problems);
        let (Some(hosts), Some(draft)) = (hosts, draft) else {
            continue;
        };
        if let Err(holder) = taken.claim(Some(&hosts.pattern), port) {
            entry.error(problems, routes::taken(&hosts.pattern, holder));
            continue;
        }
        for key in hosts.keys() {
            drafts
                .entry(key)
                .or_default()
                .merge(draft.clone(), &entry, problems);
        }
    }
    let pools = drafts.into_iter().map(|(key, draft)| (key, draft.finish()));
    Some(pools.collect())
}

pub(super) fn write(network: &Network, secrets: Secrets) -> Value {
    let mut map = Map::new();
    match &network.namespace {
        Namespace::Own => {}
        Namespace::Host => {
            map.insert("netns".to_owned(), Value::Null);
        }
        Namespace::Existing(name) => {
            map.insert("netns".to_owned(), name.as_str().into());
        }
    }
    if let Some(wireguard) = &network.wireguard {
        wireguard::write(wireguard, secrets, &mut map);
    }
    if network.adopt {
        map.insert("adopt".to_owned(), true.into());
    }
    if !network.peer_to_peer {
        map.insert("peer_to_peer".to_owned(), false.into());
    }
    let pools = network.proxy.iter();
    let proxy = pools.map(|(key, pool)| (key.to_string(), pool::write(pool)));
    map.insert("proxy".to_owned(), Value::Object(proxy.collect()));
    write_rules(network, secrets, &mut map);
    Value::Object(map)
}

/// What says nothing is left out.
fn write_rules(network: &Network, secrets: Secrets, map: &mut Map<String, Value>) {
    if !network.routes.is_empty() {
        let routes = network.routes.iter();
        let routes = routes.map(|route| route.render(secrets));
        map.insert("routes".to_owned(), routes.collect());
    }
    if let Some(tls) = &network.tls {
        map.insert("tls".to_owned(), tls.write());
    }
    if network.error_pages != ErrorPages::default() {
        map.insert("error_pages".to_owned(), network.error_pages.write());
    }
}
