//! A valid state document into the table that workers route by.

use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroU16,
    sync::Arc,
};

use control_api::{
    Problem, Problems, Severity,
    boot::{Listener, Protocol},
    place::{NetnsName, NetworkName, Place},
    state::{Desired, Namespace, Network, Pool, Scheme},
};
use engine_core::{
    balance::{Balance, Load},
    health::Health,
    hostname::HostPattern,
    ids::{Generation, ListenerId, NetnsId, RouteId},
    snapshot::{self, Route, Snapshot, SnapshotBuilder, Target},
};
use engine_http::rules::{Action, Match, Policy, Rule, Table, TableBuilder, TableError};

use crate::{
    ids::{HOST, Ids, Leads, NextIds},
    tls::Tls,
};

/// A snapshot, and what it needs.
#[derive(Debug)]
pub struct Planned {
    /// What the workers route by.
    pub snapshot: Snapshot,
    /// What they decide HTTP requests by; its rules' routes are the snapshot's.
    pub http: Table,
    /// Whose TLS ends here, and how targets are spoken with.
    pub tls: Tls,
    /// Every namespace that the snapshot names; the host's is always among them.
    pub namespaces: BTreeMap<NetnsId, NamespaceSource>,
}

/// Where a namespace comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NamespaceSource {
    /// The one that Ringway runs in.
    Host,
    /// `network-<port>`, made when it does not exist.
    Made(NonZeroU16),
    /// One that has to exist.
    Existing(NetnsName),
}

/// Makes the snapshot of a state document and of the listeners' own places. The position of a
/// listener is its id. `ids` takes the new ids when, and only when, all is well.
///
/// # Errors
/// Every place of a listener that is in no declared network.
pub fn publish(
    desired: &Desired,
    listeners: &[Listener],
    ids: &mut Ids,
    generation: Generation,
    previous: Option<&Snapshot>,
) -> Result<Planned, Problems> {
    let mut plan = Plan {
        desired,
        ids: NextIds::after(ids),
        builder: SnapshotBuilder::new(generation),
        serves_http: listeners
            .iter()
            .any(|listener| matches!(listener.protocol, Protocol::Http | Protocol::Https)),
        hosts: Vec::new(),
        networks: HashMap::new(),
        placed: HashMap::new(),
        namespaces: BTreeMap::from([(NetnsId(HOST), NamespaceSource::Host)]),
        problems: Problems::default(),
    };
    for network in desired.networks.values() {
        plan.names(network);
    }
    for (index, listener) in listeners.iter().enumerate() {
        plan.listener(index, listener);
    }
    let (planned, next_ids) = plan.finish(previous)?;
    *ids = next_ids;
    Ok(planned)
}

struct Plan<'a> {
    desired: &'a Desired,
    ids: NextIds<'a>,
    builder: SnapshotBuilder,
    /// Some listener takes HTTP. Otherwise nothing leads to what would be served by it.
    serves_http: bool,
    /// The hosts of HTTP requests, and the routes that they lead to.
    hosts: Vec<(HostPattern, RouteId)>,
    /// Every network met so far: its routes share one count of live connections.
    networks: HashMap<NetworkName, snapshot::Network>,
    /// Routes that listeners lead to: several may name one place.
    placed: HashMap<Place, RouteId>,
    namespaces: BTreeMap<NetnsId, NamespaceSource>,
    problems: Problems,
}

impl Plan<'_> {
    /// The routes of everything that a network serves by name.
    fn names(&mut self, declared: &Network) {
        let name = declared.name();
        // In namespaces whose networks serve nothing, a listener may still dial.
        let network = self.network(&name, &declared.namespace);
        for (key, pool) in &declared.proxy {
            let pattern = key.pattern.clone();
            let leads = match key.scheme {
                Scheme::Https => Leads::Name(pattern.clone()),
                Scheme::Http if self.serves_http => Leads::Host(pattern.clone()),
                Scheme::Http | Scheme::Ssh => continue,
            };
            let id = self.ids.route((name.clone(), leads));
            let label = match key.scheme {
                Scheme::Http => key.to_string(),
                Scheme::Https | Scheme::Ssh => pattern.to_string(),
            };
            self.builder.route(Route {
                id,
                label: label.into(),
                network: network.clone(),
                targets: targets(pool),
                balance: pool.balance,
            });
            if key.scheme == Scheme::Http {
                self.hosts.push((pattern, id));
            } else {
                self.builder.name(pattern, id);
            }
        }
    }

    fn listener(&mut self, index: usize, listener: &Listener) {
        // The boot file has at most `LISTENERS_MAX` listeners.
        let id = ListenerId(u16::try_from(index).unwrap_or(u16::MAX));
        if let Some(to) = &listener.to
            && let Some(route) = self.place(to, index, "to")
        {
            self.builder.fixed(id, route);
        }
        if let Some(default) = &listener.default
            && let Some(route) = self.place(default, index, "default")
        {
            self.builder.default_route(id, route);
        }
    }

    /// The route to a place, added when no other listener has it.
    fn place(&mut self, place: &Place, listener: usize, key: &str) -> Option<RouteId> {
        if let Some(&id) = self.placed.get(place) {
            return Some(id);
        }
        let namespace = match &place.network {
            NetworkName::Host => Namespace::Host,
            NetworkName::Netns(name) => Namespace::Existing(name.clone()),
            NetworkName::Port(port) => match self.desired.networks.get(port) {
                Some(network) => network.namespace.clone(),
                None => {
                    self.problems
                        .push(undeclared(&place.network, listener, key));
                    return None;
                }
            },
        };
        let network = self.network(&place.network, &namespace);
        let leads = Leads::Listener(place.address);
        let id = self.ids.route((place.network.clone(), leads));
        let target = Target {
            address: place.address,
            weight: 1,
            backup: false,
            proxy_protocol: None,
            load: Load::default(),
            health: Health::default(),
        };
        self.builder.route(Route {
            id,
            label: place.address.to_string().into(),
            network,
            targets: vec![target],
            balance: Balance::default(),
        });
        self.placed.insert(place.clone(), id);
        Some(id)
    }

    fn network(&mut self, name: &NetworkName, namespace: &Namespace) -> snapshot::Network {
        if let Some(network) = self.networks.get(name) {
            return network.clone();
        }
        let (netns, source) = match (namespace, name) {
            (Namespace::Own, NetworkName::Port(port)) => {
                (NetnsId(port.get().into()), NamespaceSource::Made(*port))
            }
            (Namespace::Existing(name), _) => (
                self.ids.namespace(name),
                NamespaceSource::Existing(name.clone()),
            ),
            // Only networks with a port have a namespace of their own.
            (Namespace::Host | Namespace::Own, _) => (NetnsId(HOST), NamespaceSource::Host),
        };
        self.namespaces.insert(netns, source);
        let network = snapshot::Network {
            id: self.ids.network(name),
            name: Arc::from(name.to_string()),
            netns,
            live: Load::default(),
        };
        self.networks.insert(name.clone(), network.clone());
        network
    }

    fn finish(self, previous: Option<&Snapshot>) -> Result<(Planned, Ids), Problems> {
        if self.problems.refuse() {
            return Err(self.problems);
        }
        let contradictions = |errors: Vec<String>| {
            // A valid state document and distinct ids leave nothing to contradict.
            let mut problems = Problems::default();
            for error in errors {
                problems.push(Problem::whole(Severity::Error, error));
            }
            problems
        };
        let snapshot = self.builder.build(previous);
        let snapshot = snapshot.map_err(|errors| contradictions(texts(errors)))?;
        let http = rules(&self.hosts, &snapshot);
        let http = http.map_err(|errors| contradictions(texts(errors)))?;
        let namespaces = self.namespaces;
        Ok((
            Planned {
                snapshot,
                http,
                tls: Tls::default(),
                namespaces,
            },
            self.ids.finish(),
        ))
    }
}

fn texts(errors: Vec<impl ToString>) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

/// The rules of HTTP requests, over the routes of a snapshot.
fn rules(hosts: &[(HostPattern, RouteId)], snapshot: &Snapshot) -> Result<Table, Vec<TableError>> {
    let routes: HashMap<RouteId, &Arc<Route>> =
        snapshot.routes().map(|route| (route.id, route)).collect();
    let mut table = TableBuilder::new();
    for (host, id) in hosts {
        let Some(route) = routes.get(id) else {
            continue;
        };
        let everything = Match {
            host: Some(host.clone()),
            path: "/".to_owned(),
            methods: Vec::new(),
            fields: Vec::new(),
        };
        let rule = Rule {
            id: *id,
            route: Arc::clone(route),
            action: Action::Proxy,
            policy: Policy::default(),
        };
        table.rule(everything, rule);
    }
    table.build()
}

fn targets(pool: &Pool) -> Vec<Target> {
    let targets = pool.targets.iter().map(|target| Target {
        address: target.address,
        weight: target.weight,
        backup: target.backup,
        proxy_protocol: target.proxy_protocol,
        load: Load::default(),
        health: Health::default(),
    });
    targets.collect()
}

fn undeclared(network: &NetworkName, listener: usize, key: &str) -> Problem {
    Problem {
        pointer: format!("/listeners/{listener}/{key}"),
        hint: Some("declare it there, or write `host` or `netns:NAME`".to_owned()),
        ..Problem::whole(
            Severity::Error,
            format!("{network} is not in the state document"),
        )
    }
}

#[cfg(test)]
mod tests;
