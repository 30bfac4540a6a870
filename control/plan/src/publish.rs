//! A valid state document into the table that workers route by.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
};

use control_api::{
    Problem, Problems, Severity,
    boot::{Listener, ListenerName, ListenerTerms},
    place::{NetnsName, NetworkKey, NetworkName, Place},
    state::{
        Desired, Namespace, Network, Pool, PoolTarget, ProxyKey, Route as Declared, Scheme,
        Terminated,
    },
};
use engine_core::{
    balance::{Balance, Load},
    hostname::HostPattern,
    ids::{Generation, ListenerId, NetnsId, NetworkId, RouteId},
    snapshot::{self, Route, Snapshot, SnapshotBuilder, Target},
};
use engine_http::{
    answer::Pages,
    method,
    rules::{Action, Match, Policy, Table},
};

use crate::{
    ids::{HOST, Ids, Leads, NextIds, is_declared},
    tls::{self, Tls},
};

mod reach;
mod rules;

use reach::Reach;
pub use reach::{Unserved, unserved};
use rules::Draft;

/// A snapshot, and what it needs.
#[derive(Debug)]
pub struct Planned {
    /// What the workers route by.
    pub snapshot: Snapshot,
    /// What they decide HTTP requests by; its rules' routes are the snapshot's.
    pub http: Table,
    /// Whose TLS ends here, and how targets are spoken with.
    pub tls: Tls,
    /// Who is asked for the names of a network's targets.
    pub name_servers: BTreeMap<NetworkId, NameServers>,
    /// Every namespace that the snapshot names; the host's is always among them.
    pub namespaces: BTreeMap<NetnsId, NamespaceSource>,
    /// Where connections come in.
    pub listeners: Vec<PlannedListener>,
}

/// A listener, with all that control and the workers have to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedListener {
    /// Stable over snapshots in which the name is declared.
    pub id: ListenerId,
    /// Unique in the gateway.
    pub name: ListenerName,
    /// The network that declares it, and whose names alone it serves; `None` for the boot file's.
    pub owner: Option<NetworkKey>,
    /// That network as the workers know it.
    pub network: Option<NetworkId>,
    /// Its address.
    pub bind: SocketAddr,
    /// The namespace that it is an address of.
    pub place: NamespaceSource,
    /// What it does with connections.
    pub terms: ListenerTerms,
}

/// Who is asked for the names of a network's targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameServers {
    /// Those that the network names.
    Declared(Vec<SocketAddr>),
    /// Those that the host asks.
    Host,
}

/// Where a namespace comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NamespaceSource {
    /// The one that Ringway runs in.
    Host,
    /// `network-<port>`, made when it does not exist.
    Made(NetworkKey),
    /// One that has to exist.
    Existing(NetnsName),
}

/// The hosts of a network that is not served: nobody else is to have their clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Whose they are.
    pub network: NetworkName,
    /// Those of which a declared network has none of its own are refused TLS and answered 503.
    pub hosts: BTreeSet<HostPattern>,
}

/// Makes the snapshot of a state document and of the listeners' own places. `ids` takes the new ids when, and only when, all is well.
///
/// # Errors
/// Every place of a listener that is in no declared network.
pub fn publish(
    desired: &Desired,
    held: &[Held],
    listeners: &[Listener],
    ids: &mut Ids,
    generation: Generation,
    previous: Option<&Snapshot>,
) -> Result<Planned, Problems> {
    let mut plan = Plan {
        desired,
        ids: NextIds::after(ids),
        builder: SnapshotBuilder::new(generation),
        reach: Reach::of(listeners),
        rules: Vec::new(),
        tls: Tls::default(),
        ended: HashSet::new(),
        name_servers: BTreeMap::new(),
        networks: HashMap::new(),
        placed: HashMap::new(),
        namespaces: BTreeMap::from([(NetnsId(HOST), NamespaceSource::Host)]),
        listeners: Vec::new(),
        problems: Problems::default(),
    };
    for network in desired.networks.values() {
        plan.names(network);
    }
    let networks = desired.networks.values();
    let mut taken: HashSet<&HostPattern> = networks.flat_map(Network::hosts).collect();
    for held in held {
        plan.hold(held, &mut taken);
    }
    for (index, listener) in listeners.iter().enumerate() {
        plan.listener(index, listener);
    }
    for network in desired.networks.values() {
        plan.own_listeners(network);
    }
    let (planned, next_ids) = plan.finish(previous)?;
    *ids = next_ids;
    Ok(planned)
}

struct Plan<'a> {
    desired: &'a Desired,
    ids: NextIds<'a>,
    builder: SnapshotBuilder,
    /// What the listeners of the boot file take. Nothing leads to what no listener does.
    reach: Reach,
    rules: Vec<Draft>,
    tls: Tls,
    /// Hosts whose TLS ends here, each with its terms already.
    ended: HashSet<HostPattern>,
    name_servers: BTreeMap<NetworkId, NameServers>,
    /// Every network met so far: its routes share one count of live connections.
    networks: HashMap<NetworkName, Arc<snapshot::Network>>,
    /// Routes that listeners lead to: several may name one place.
    placed: HashMap<Place, RouteId>,
    namespaces: BTreeMap<NetnsId, NamespaceSource>,
    listeners: Vec<PlannedListener>,
    problems: Problems,
}

/// A network while its routes are made.
struct Tenant<'d> {
    name: NetworkName,
    network: Arc<snapshot::Network>,
    declared: &'d Network,
    terminated: Terminated<'d>,
    /// What listeners take for it.
    reach: Reach,
    pages: Option<Arc<Pages>>,
}

impl Plan<'_> {
    /// The routes of everything that a network serves by name.
    fn names(&mut self, declared: &Network) {
        // In namespaces whose networks serve nothing, a listener may still dial.
        let name = declared.name();
        let tenant = Tenant {
            network: self.network(&name, &declared.namespace),
            name,
            declared,
            terminated: Terminated::of(declared),
            reach: self.reach.beside(declared),
            pages: declared.error_pages.pages(),
        };
        self.name_servers(&tenant);
        for (key, pool) in &declared.proxy {
            self.key(&tenant, key, (&pool.targets, pool.balance.clone()));
        }
        for route in declared.served_routes() {
            if route.passes_through() {
                self.passthrough(&tenant, route);
            } else {
                self.rule(&tenant, route);
            }
        }
    }

    /// Who is asked for the names of a network's targets, where it has any.
    fn name_servers(&mut self, tenant: &Tenant<'_>) {
        let mut endpoints = tenant.declared.endpoints();
        if endpoints.all(|endpoint| endpoint.address().is_some()) {
            return;
        }
        let servers = match &*tenant.declared.dns {
            [] if tenant.declared.namespace == Namespace::Host => NameServers::Host,
            declared => NameServers::Declared(declared.to_vec()),
        };
        self.name_servers.insert(tenant.network.id, servers);
    }

    /// A key of `proxy`: a name of TLS, or a rule for everything that comes for the host.
    fn key(&mut self, tenant: &Tenant<'_>, key: &ProxyKey, to: (&[PoolTarget], Balance)) {
        if tenant.terminated.passes(key) {
            return self.name(tenant, &key.pattern, to);
        }
        let scheme = match key.scheme {
            Scheme::Http => method::Scheme::Http,
            Scheme::Https => method::Scheme::Https,
            Scheme::Ssh => return,
        };
        if !tenant.reach.has(Some(scheme), true) {
            return;
        }
        let id = self.ids.route((
            tenant.name.clone(),
            Leads::Host(scheme, key.pattern.clone()),
        ));
        self.end_tls(tenant, Some(scheme), Some(&key.pattern));
        self.route(tenant, (id, key.to_string()), to);
        self.rules.push(Draft {
            id,
            found_by: Match {
                scheme: Some(scheme),
                host: Some(key.pattern.clone()),
                path: "/".to_owned(),
                methods: Vec::new(),
                fields: Vec::new(),
            },
            action: Action::Proxy,
            policy: Policy {
                pages: tenant.pages.clone(),
                ..Policy::default()
            },
            aside: None,
        });
    }

    /// TLS of a name that is passed through.
    fn passthrough(&mut self, tenant: &Tenant<'_>, declared: &Declared) {
        let (Some(pattern), Some(to)) = (declared.host.pattern(), &declared.to) else {
            return;
        };
        self.name(tenant, pattern, (&to.targets, balance(declared)));
    }

    fn name(&mut self, tenant: &Tenant<'_>, pattern: &HostPattern, to: (&[PoolTarget], Balance)) {
        let id = self
            .ids
            .route((tenant.name.clone(), Leads::Name(pattern.clone())));
        self.route(tenant, (id, pattern.to_string()), to);
        self.builder.name(pattern.clone(), id);
    }

    fn rule(&mut self, tenant: &Tenant<'_>, declared: &Declared) {
        let found_by = declared.found_by();
        // With the default certificate, requests with TLS come for every host. Without its rule, one
        // would be left to whatever takes the names around it.
        if !tenant.reach.has(found_by.scheme, true) {
            return;
        }
        let leads = Leads::Rule(Box::new(found_by.clone()));
        let id = self.ids.route((tenant.name.clone(), leads));
        self.end_tls(tenant, found_by.scheme, declared.host.pattern());
        self.tls
            .origins
            .extend(tls::origin(declared).map(|origin| (id, origin)));
        let action = rules::action(declared);
        let aside = match &declared.to {
            Some(to) => {
                let to = (&*to.targets, balance(declared));
                self.route(tenant, (id, declared.label()), to);
                None
            }
            None => Some(aside(id, declared.label(), &tenant.network)),
        };
        let secret = self.ids.secret();
        self.rules.push(Draft {
            id,
            found_by,
            action,
            policy: rules::policy(declared, tenant.network.id, tenant.pages.clone(), secret),
            aside,
        });
    }

    /// Keeps hosts that are not `taken` from whatever takes the names around them.
    fn hold<'h>(&mut self, held: &'h Held, taken: &mut HashSet<&'h HostPattern>) {
        // Nothing is dialed for it.
        let network = self.network(&held.network, &Namespace::Host);
        for host in held.hosts.iter().filter(|host| taken.insert(*host)) {
            let found_by = Match {
                scheme: None,
                host: Some(host.clone()),
                path: "/".to_owned(),
                methods: Vec::new(),
                fields: Vec::new(),
            };
            let leads = Leads::Rule(Box::new(found_by.clone()));
            let id = self.ids.route((held.network.clone(), leads));
            self.rules.push(Draft {
                id,
                found_by,
                action: Action::Maintenance,
                policy: Policy::default(),
                aside: Some(aside(id, host.to_string(), &network)),
            });
            self.tls.refused.push(host.clone());
        }
    }

    /// Has TLS of a host end here, if it does and requests of the scheme come in it.
    fn end_tls(
        &mut self,
        tenant: &Tenant<'_>,
        scheme: Option<method::Scheme>,
        host: Option<&HostPattern>,
    ) {
        if scheme == Some(method::Scheme::Http) || !tenant.terminated.has(host) {
            return;
        }
        let Some(host) = host else {
            self.tls.others = Some(tls::terms(tenant.declared, None));
            return;
        };
        if self.ended.insert(host.clone()) {
            let terms = tls::terms(tenant.declared, Some(host));
            self.tls.names.push((host.clone(), terms));
        }
    }

    fn route(
        &mut self,
        tenant: &Tenant<'_>,
        (id, label): (RouteId, String),
        (to, balance): (&[PoolTarget], Balance),
    ) {
        self.builder.route(Route {
            id,
            label: label.into(),
            network: Arc::clone(&tenant.network),
            targets: targets(to),
            balance,
        });
    }

    fn listener(&mut self, index: usize, listener: &Listener) {
        let id = self.ids.listener(&listener.name);
        self.listeners.push(PlannedListener {
            id,
            name: listener.name.clone(),
            owner: None,
            network: None,
            bind: listener.bind,
            place: NamespaceSource::Host,
            terms: listener.terms(),
        });
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

    /// The listeners of a network, each with a route of its own.
    fn own_listeners(&mut self, declared: &Network) {
        let name = declared.name();
        let network = self.network(&name, &declared.namespace);
        for (called, listener) in &declared.listeners {
            let id = self.ids.listener(called);
            let route = |pool: &Pool, plan: &mut Self| {
                let leads = Leads::OwnListener(called.clone());
                let route = plan.ids.route((name.clone(), leads));
                plan.builder.route(Route {
                    id: route,
                    label: format!("listener:{called}").into(),
                    network: Arc::clone(&network),
                    targets: targets(&pool.targets),
                    balance: pool.balance.clone(),
                });
                route
            };
            if let Some(to) = &listener.to {
                let route = route(to, self);
                self.builder.fixed(id, route);
            }
            if let Some(default) = &listener.default {
                let route = route(default, self);
                self.builder.default_route(id, route);
            }
            self.listeners.push(PlannedListener {
                id,
                name: called.clone(),
                owner: Some(declared.port),
                network: Some(network.id),
                bind: listener.bind,
                place: source_of(listener.place(&declared.namespace), declared.port),
                terms: listener.terms(),
            });
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
        let target = Target::new(place.address);
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

    fn network(&mut self, name: &NetworkName, namespace: &Namespace) -> Arc<snapshot::Network> {
        if let Some(network) = self.networks.get(name) {
            return Arc::clone(network);
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
        let network = Arc::new(snapshot::Network {
            id: self.ids.network(name),
            name: Arc::from(name.to_string()),
            netns,
            live: Load::default(),
        });
        self.builder.network(&network);
        self.networks.insert(name.clone(), Arc::clone(&network));
        network
    }

    fn finish(mut self, previous: Option<&Snapshot>) -> Result<(Planned, Ids), Problems> {
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
        // What a listener led to and no network of the document is goes on when the listener is gone.
        let before = previous.into_iter().flat_map(Snapshot::networks);
        for id in before.filter(|id| !is_declared(*id)) {
            self.builder.keep_network(id);
        }
        let snapshot = self.builder.build(previous);
        let snapshot = snapshot.map_err(|errors| contradictions(texts(errors)))?;
        let http = rules::table(self.rules, &snapshot);
        let http = http.map_err(contradictions)?;
        let (name_servers, namespaces) = (self.name_servers, self.namespaces);
        let listeners = self.listeners;
        Ok((
            Planned {
                snapshot,
                http,
                tls: self.tls,
                name_servers,
                namespaces,
                listeners,
            },
            self.ids.finish(),
        ))
    }
}

/// Where the namespace of a network comes from.
fn source_of(namespace: &Namespace, port: NetworkKey) -> NamespaceSource {
    match namespace {
        Namespace::Own => NamespaceSource::Made(port),
        Namespace::Host => NamespaceSource::Host,
        Namespace::Existing(name) => NamespaceSource::Existing(name.clone()),
    }
}

/// A route that leads to no target.
fn aside(id: RouteId, label: String, network: &Arc<snapshot::Network>) -> Arc<Route> {
    Arc::new(Route {
        id,
        label: label.into(),
        network: Arc::clone(network),
        targets: Vec::new(),
        balance: Balance::default(),
    })
}

fn texts(errors: Vec<impl ToString>) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

fn targets(declared: &[PoolTarget]) -> Vec<Target> {
    let targets = declared.iter().map(|target| Target {
        weight: target.weight,
        backup: target.backup,
        proxy_protocol: target.proxy_protocol,
        ..Target::new(target.endpoint.clone())
    });
    targets.collect()
}

/// How a rule's route spreads connections or requests.
fn balance(declared: &Declared) -> Balance {
    declared.balance.clone().unwrap_or_default()
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
