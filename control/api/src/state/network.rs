//! One network of the state document.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use engine_core::endpoint::Endpoint;
use serde_json::{Map, Value};

use super::{
    ErrorPages, Holder, Listener, Owner, Route, RuleId, Taken, Tls, Where, Whose, dns,
    key::PublicKey,
    listeners,
    peers::{self, Peer},
    pool::{self, Pool},
    proxy::{self, ProxyKey},
    routes::{self, Beside},
    secret::{Kept, Secrets},
    wireguard::{self, WireGuard},
};
use crate::{
    boot::ListenerName,
    document::{Duplicates, Fields, Spot},
    field::Field,
    place::{NetnsName, NetworkKey, NetworkName},
    problem::Problems,
};

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Network {
    /// Its public WireGuard port, and so its name: `network-<port>`.
    pub port: NetworkKey,
    /// Who declared it, and so owns all that is not a rule or a peer of somebody else's.
    pub owner: Owner,
    /// Where its upstream connections are dialed from.
    pub namespace: Namespace,
    /// Who is asked for names of targets, from inside the namespace; without any, in the host's namespace
    /// whoever the host asks.
    pub dns: Vec<SocketAddr>,
    /// Its device; absent in networks that bring a namespace of their own.
    pub wireguard: Option<WireGuard>,
    /// Whether a namespace `network-<port>` that somebody else made is taken over.
    pub adopt: bool,
    /// Whether its peers reach each other through the device.
    pub peer_to_peer: bool,
    /// What it serves, in short: hosts and targets.
    pub proxy: Arc<BTreeMap<ProxyKey, Pool>>,
    /// What it serves, by rules.
    pub routes: Vec<Arc<Route>>,
    /// Where its own clients come in, by name.
    pub listeners: BTreeMap<ListenerName, Listener>,
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
        routes
            .find(|route| route.id.as_ref() == Some(id))
            .map(|route| &**route)
    }

    /// The rules that are found: of several owners' rules that match equally, the first one. Those of
    /// `api` come first, then the others by owner and id.
    pub fn served_routes(&self) -> impl Iterator<Item = &Route> {
        let mut first = routes::First::of(self.routes.iter().map(|route| &**route));
        self.routes
            .iter()
            .map(|route| &**route)
            .filter(move |route| first.is_found(route))
    }

    /// What some owner has in it, and whether that is the network itself; `None` if it is nothing.
    /// Secrets are written as [`super::KEPT`].
    pub fn render_masked(&self, whose: &Whose) -> Option<Value> {
        self.render(whose, Secrets::Kept)
    }

    pub(super) fn render(&self, whose: &Whose, secrets: Secrets) -> Option<Value> {
        let Whose::One(owner) = whose else {
            return Some(write(self, secrets));
        };
        let mut part = self.split(|other| other == owner).0;
        let is_owners = part.owner == *owner;
        part.disown();
        let mut written = write(&part, secrets);
        if is_owners {
            return Some(written);
        }
        // All the rest is the network owner's.
        let map = written.as_object_mut()?;
        let is_something = |value: &Value| match value {
            Value::Object(map) => !map.is_empty(),
            Value::Array(list) => !list.is_empty(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
        };
        map.retain(|key, value| matches!(&**key, "routes" | "peers") && is_something(value));
        (!map.is_empty()).then_some(written)
    }

    /// The network with only the rules and peers of some owners, and those of all others.
    pub(super) fn split(&self, is_kept: impl Fn(&Owner) -> bool) -> (Self, Objects) {
        let mut kept = self.clone();
        let mut others = Objects::default();
        kept.routes.retain(|route| {
            let is_kept = is_kept(&route.owner);
            if !is_kept {
                others.routes.push(route.clone());
            }
            is_kept
        });
        if let Some(device) = &mut kept.wireguard {
            device.peers.retain(|key, peer| {
                let is_kept = is_kept(&peer.owner);
                if !is_kept {
                    others.peers.insert(*key, peer.clone());
                }
                is_kept
            });
        }
        (kept, others)
    }

    /// Takes the marks of owners off: what is left is written as one owner's.
    fn disown(&mut self) {
        self.owner = Owner::default();
        for route in self.routes.iter_mut().filter(|route| !route.owner.is_api()) {
            Arc::make_mut(route).owner = Owner::default();
        }
        let device = self.wireguard.iter_mut();
        for peer in device.flat_map(|device| device.peers.values_mut()) {
            peer.owner = Owner::default();
        }
    }

    /// Every owner who has something in it; those with several things more than once.
    pub fn owners(&self) -> impl Iterator<Item = &Owner> {
        let rules = self.routes.iter().map(|route| &route.owner);
        let device = self.wireguard.iter();
        let peers = device.flat_map(|device| device.peers.values());
        let objects = rules.chain(peers.map(|peer| &peer.owner));
        std::iter::once(&self.owner).chain(objects)
    }

    /// Where its targets are, by name or address.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        let pools = self.proxy.values().flat_map(|pool| &pool.targets);
        let rules = self.routes.iter().filter_map(|route| route.to.as_ref());
        let own = self.listeners.values().flat_map(Listener::pools);
        let targets = pools.chain(rules.flat_map(|to| &to.targets));
        let targets = targets.chain(own.flat_map(|pool| &pool.targets));
        targets.map(|target| &target.endpoint)
    }

    /// The ports of its listeners in its own namespace.
    pub fn own_ports(&self) -> BTreeSet<u16> {
        let listeners = self.listeners.values();
        let own = listeners.filter(|listener| listener.r#in == Where::Network);
        own.map(|listener| listener.bind.port()).collect()
    }

    /// Who the network is to its peers; absent in a network without a device.
    pub fn public_key(&self) -> Option<PublicKey> {
        let wireguard = self.wireguard.as_ref()?;
        Some(wireguard.private_key.public_key())
    }
}

const KEYS: [&str; 15] = [
    "owner",
    "netns",
    "dns",
    "adopt",
    "peer_to_peer",
    "proxy",
    "routes",
    "listeners",
    "tls",
    "error_pages",
    "private_key",
    "listen_port",
    "mtu",
    "address",
    "peers",
];

/// What a network is read among.
#[derive(Clone, Copy)]
pub(super) struct Among<'a> {
    /// Its public WireGuard port.
    pub(super) port: NetworkKey,
    /// Whose it is.
    pub(super) whose: &'a Whose,
    /// The network as it was, which secrets may be kept from.
    pub(super) kept: Kept<'a>,
    /// What others have in it, which stays.
    pub(super) others: &'a Objects,
}

/// Rules and peers of a network.
#[derive(Clone, Debug, Default)]
pub(super) struct Objects {
    pub(super) routes: Vec<Arc<Route>>,
    pub(super) peers: BTreeMap<PublicKey, Peer>,
}

/// Reads a network that is declared.
pub(super) fn read(
    spot: &Spot<'_>,
    among: Among<'_>,
    taken: &mut Taken,
    problems: &mut Problems,
) -> Option<Network> {
    let Among { port, whose, .. } = among;
    let fields = Fields::open(spot, &KEYS, problems)?;
    let owner = read_owner(&fields, whose, problems);
    let holder = Holder::new(port, owner.clone().unwrap_or_default());
    let namespace = read_namespace(&fields, problems);
    let dns = match fields.find("dns").filter(|spot| !spot.is_null()) {
        Some(spot) => dns::read(spot, problems),
        None => Some(Vec::new()),
    };
    let kept_device = among.kept.network().and_then(|it| it.wireguard.as_ref());
    let wireguard = if namespace == Some(Namespace::Own) || wireguard::is_declared(&fields) {
        let others = (whose, &among.others.peers);
        wireguard::read(port.port(), &fields, kept_device, others, problems).map(Some)
    } else {
        among.others.need_no_device(spot, problems);
        Some(None)
    };
    let adopt = read_flag(&fields, "adopt", false, problems);
    let peer_to_peer = read_flag(&fields, "peer_to_peer", true, problems);
    let proxy = match fields.find("proxy") {
        Some(spot) => read_proxy(&holder, spot, taken, problems),
        None => Some(BTreeMap::new()),
    };
    let tls: Option<Option<Tls>> = read_key(&fields, "tls", problems);
    if let Some(Some(tls)) = &tls {
        claim(&holder, tls, &fields, taken, problems);
    }
    let beside = Beside {
        holder: holder.clone(),
        whose,
        proxy: proxy.as_ref(),
        tls: tls.as_ref().and_then(Option::as_ref),
        kept: among.kept,
        others: &among.others.routes,
    };
    let list = fields.find("routes").filter(|spot| !spot.is_null());
    let routes = routes::read(spot, list, &beside, taken, problems);
    let listeners = match fields.find("listeners").filter(|spot| !spot.is_null()) {
        Some(spot) => {
            let namespace = namespace.as_ref().unwrap_or(&Namespace::Own);
            listeners::read(spot, (port, namespace), taken, problems)
        }
        None => Some(BTreeMap::new()),
    };
    let error_pages = read_key(&fields, "error_pages", problems);
    let network = Network {
        port,
        owner: owner?,
        namespace: namespace?,
        dns: dns?,
        wireguard: wireguard?,
        adopt: adopt?,
        peer_to_peer: peer_to_peer?,
        proxy: Arc::new(proxy?),
        routes: routes?,
        listeners: listeners?,
        tls: tls?,
        error_pages: error_pages?,
    };
    dns::check(&network, spot, problems);
    Some(network)
}

/// Reads what an owner has in a network of somebody else, who declares all the rest of it. `network`
/// is the network without anything of that owner.
pub(super) fn read_part(
    spot: &Spot<'_>,
    (network, whose, kept): (Network, &Whose, Kept<'_>),
    taken: &mut Taken,
    problems: &mut Problems,
) -> Option<Network> {
    let (mut rules, mut peers) = (None, None);
    let entries = spot.entries(Duplicates::Refused, problems)?;
    for entry in &entries {
        match entry.key() {
            "routes" => rules = Some(entry).filter(|spot| !spot.is_null()),
            "peers" => peers = Some(entry).filter(|spot| !spot.is_null()),
            _ => {
                let (name, owner) = (network.name(), &network.owner);
                entry.error_with_hint(
                    problems,
                    format_args!("{name} belongs to `{owner}`, who alone writes this"),
                    "others have `routes` and `peers` in it",
                );
            }
        }
    }
    let beside = Beside {
        kept,
        others: &network.routes,
        ..Beside::of(&network, whose)
    };
    let routes = routes::read(spot, rules, &beside, taken, problems);
    let wireguard = match (peers, &network.wireguard) {
        (None, device) => Some(device.clone()),
        (Some(spot), Some(device)) => {
            let kept = kept.network().and_then(|it| it.wireguard.as_ref());
            let among = peers::Among {
                whose,
                kept: kept.map(|kept| &kept.peers),
                others: &device.peers,
            };
            let peers = peers::read(spot, among, problems);
            peers.map(|peers| {
                Some(WireGuard {
                    peers,
                    ..device.clone()
                })
            })
        }
        (Some(spot), None) => {
            let name = network.name();
            spot.error(problems, format_args!("{name} has no WireGuard device"));
            None
        }
    };
    let network = Network {
        routes: routes?,
        wireguard: wireguard?,
        ..network
    };
    dns::check(&network, spot, problems);
    Some(network)
}

impl Objects {
    /// Notes peers that would have no device any more.
    fn need_no_device(&self, spot: &Spot<'_>, problems: &mut Problems) {
        if self.peers.is_empty() {
            return;
        }
        let peers = self.peers.iter();
        let peers = peers.map(|(key, peer)| format!("peer {key} of `{}`", peer.owner));
        spot.error_with_hint(
            problems,
            format_args!(
                "others have peers in the network, and it has no WireGuard device: {}",
                some(peers)
            ),
            "they go first, or with the network",
        );
    }

    /// Their names, each with its owner; `None` where there are none.
    pub(super) fn names(&self) -> Option<String> {
        let rules = self.routes.iter();
        let rules = rules.map(|route| format!("{} of `{}`", routes::name_of(route), route.owner));
        let peers = self.peers.iter();
        let peers = peers.map(|(key, peer)| format!("peer {key} of `{}`", peer.owner));
        let is_empty = self.routes.is_empty() && self.peers.is_empty();
        (!is_empty).then(|| some(rules.chain(peers)))
    }
}

/// The first of some names, and how many there are more.
fn some(mut names: impl Iterator<Item = String>) -> String {
    const NAMED_MAX: usize = 8;
    let first: Vec<String> = names.by_ref().take(NAMED_MAX).collect();
    match names.count() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

/// Reads whose an object is.
pub(super) fn read_owner(
    fields: &Fields<'_>,
    whose: &Whose,
    problems: &mut Problems,
) -> Option<Owner> {
    match fields.find("owner").filter(|spot| !spot.is_null()) {
        Some(spot) => whose.settle(Owner::read(spot, problems)?, spot, problems),
        None => Some(match whose {
            Whose::One(owner) => owner.clone(),
            Whose::All => Owner::default(),
        }),
    }
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
    claimant: &Holder,
    tls: &Tls,
    fields: &Fields<'_>,
    taken: &mut Taken,
    problems: &mut Problems,
) {
    for host in tls.hosts() {
        if let Err(holder) = taken.claim(Some(host), claimant)
            && let Some(spot) = fields.find("tls")
        {
            spot.error(problems, routes::taken(host, &holder));
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
    claimant: &Holder,
    spot: &Spot<'_>,
    taken: &mut Taken,
    problems: &mut Problems,
) -> Option<BTreeMap<ProxyKey, Pool>> {
    let mut drafts: BTreeMap<ProxyKey, pool::Draft> = BTreeMap::new();
    for entry in spot.entries(Duplicates::Refused, problems)? {
        let hosts = proxy::read_key(&entry, problems);
        let draft = pool::read(&entry, problems);
        let (Some(hosts), Some(draft)) = (hosts, draft) else {
            continue;
        };
        if let Err(holder) = taken.claim(Some(&hosts.pattern), claimant) {
            entry.error(problems, routes::taken(&hosts.pattern, &holder));
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
    if !network.owner.is_api() {
        map.insert("owner".to_owned(), network.owner.write());
    }
    match &network.namespace {
        Namespace::Own => {}
        Namespace::Host => {
            map.insert("netns".to_owned(), Value::Null);
        }
        Namespace::Existing(name) => {
            map.insert("netns".to_owned(), name.as_str().into());
        }
    }
    if !network.dns.is_empty() {
        let servers = network.dns.iter().map(ToString::to_string);
        map.insert("dns".to_owned(), servers.collect());
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
    if !network.listeners.is_empty() {
        let listeners = network.listeners.iter();
        let listeners = listeners.map(|(name, listener)| (name.to_string(), listener.write()));
        map.insert("listeners".to_owned(), Value::Object(listeners.collect()));
    }
    if let Some(tls) = &network.tls {
        map.insert("tls".to_owned(), tls.write());
    }
    if network.error_pages != ErrorPages::default() {
        map.insert("error_pages".to_owned(), network.error_pages.write());
    }
}
