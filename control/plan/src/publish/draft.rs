//! A publication while it is made: what hosts and listeners of networks come to.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use control_api::{
    Problems,
    boot::Listener,
    place::{NetworkName, Place},
    state::{
        Namespace, Network, Networks, Pool, PoolTarget, ProxyKey, Route as Declared, Scheme,
        Terminated, served,
    },
};
use engine_core::{
    balance::{Balance, Load},
    hostname::HostPattern,
    ids::{NetnsId, NetworkId, RouteId},
    snapshot::{self, Route, SnapshotBuilder, Target},
};
use engine_http::{
    answer::Pages,
    method,
    rules::{Action, Match, Policy},
};

use super::{
    Input, NameServers, NamespaceSource, PlannedListener,
    before::{HostPiece, OwnListener, Piece},
    reach::Reach,
    rules::{self, Draft as RuleDraft},
    source_of,
};
use crate::{
    ids::{HOST, Leads, NextIds, RouteKey},
    tls::{self, Tls},
};

/// A publication while it is made.
pub(super) struct Draft<'a> {
    pub(super) ids: NextIds<'a>,
    pub(super) builder: SnapshotBuilder,
    /// What the listeners of the boot file take. Nothing leads to what no listener does.
    reach: Reach,
    pub(super) rules: Vec<RuleDraft>,
    pub(super) tls: Tls,
    pub(super) name_servers: BTreeMap<NetworkId, NameServers>,
    /// Every network met so far: its routes share one count of live connections.
    networks: HashMap<NetworkName, Arc<snapshot::Network>>,
    /// Routes that listeners lead to: several may name one place.
    placed: HashMap<Place, RouteId>,
    pub(super) namespaces: BTreeMap<NetnsId, NamespaceSource>,
    pub(super) problems: Problems,
}

/// A network while its routes are made.
pub(super) struct Tenant<'d> {
    name: NetworkName,
    network: Arc<snapshot::Network>,
    declared: &'d Network,
    /// What listeners take for it.
    reach: Reach,
    pages: Option<Arc<Pages>>,
}

/// All that a network declares for one host.
#[derive(Default)]
pub(super) struct OfHost<'d> {
    keys: Vec<(&'d ProxyKey, &'d Pool)>,
    rules: Vec<&'d Declared>,
}

impl<'d> OfHost<'d> {
    /// What a network declares for each of its hosts.
    pub(super) fn all(network: &'d Network) -> Vec<(Option<&'d HostPattern>, Self)> {
        let mut places = HashMap::new();
        let mut hosts: Vec<(Option<&HostPattern>, Self)> = Vec::new();
        let mut of = |host: Option<&'d HostPattern>| {
            *places.entry(host).or_insert_with(|| {
                hosts.push((host, Self::default()));
                hosts.len() - 1
            })
        };
        let keys = network.proxy.iter();
        let keys: Vec<_> = keys.map(|key| (of(Some(&key.0.pattern)), key)).collect();
        let rules = network.routes.iter();
        let rules: Vec<_> = rules
            .map(|rule| (of(rule.host.pattern()), &**rule))
            .collect();
        for (place, key) in keys {
            hosts[place].1.keys.push(key);
        }
        for (place, rule) in rules {
            hosts[place].1.rules.push(rule);
        }
        hosts
    }

    /// What a network declares for a host.
    pub(super) fn one(network: &'d Network, host: Option<&HostPattern>) -> Self {
        let schemes = [Scheme::Http, Scheme::Https, Scheme::Ssh];
        let keys = host.into_iter().flat_map(|host| {
            schemes.map(|scheme| ProxyKey {
                scheme,
                pattern: host.clone(),
            })
        });
        let mut keys: Vec<_> = keys
            .filter_map(|key| network.proxy.get_key_value(&key))
            .collect();
        keys.sort_by_key(|(key, _)| *key);
        let rules = network.routes.iter().map(|rule| &**rule);
        Self {
            keys,
            rules: rules.filter(|rule| rule.host.pattern() == host).collect(),
        }
    }

    /// Whether there is anything.
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.rules.is_empty()
    }
}

impl<'a> Draft<'a> {
    pub(super) fn new(ids: NextIds<'a>, builder: SnapshotBuilder, input: &Input<'_>) -> Self {
        Self {
            ids,
            builder,
            reach: Reach::of(input.listeners),
            rules: Vec::new(),
            tls: Tls::default(),
            name_servers: BTreeMap::new(),
            networks: HashMap::new(),
            placed: HashMap::new(),
            namespaces: BTreeMap::new(),
            problems: Problems::default(),
        }
    }

    /// Begins with a network. In namespaces whose networks serve nothing, a listener may still dial.
    pub(super) fn tenant<'d>(&mut self, declared: &'d Network) -> Tenant<'d> {
        let name = declared.name();
        let tenant = Tenant {
            network: self.network(&name, &declared.namespace),
            name,
            declared,
            reach: self.reach.beside(declared),
            pages: declared.error_pages.pages(),
        };
        self.name_servers(&tenant);
        tenant
    }

    /// Everything that a network serves by name.
    pub(super) fn whole(&mut self, tenant: &Tenant<'_>) -> Piece {
        let terminated = Terminated::of(tenant.declared);
        let hosts = OfHost::all(tenant.declared).into_iter();
        let hosts = hosts.map(|(host, declared)| {
            let piece = self.host(tenant, &terminated, host, declared);
            (host.cloned(), Arc::new(piece))
        });
        Piece {
            hosts: hosts.collect(),
            id: tenant.network.id,
            netns: tenant.network.netns,
            listeners: Vec::new(),
        }
    }

    /// What a network serves for a host.
    pub(super) fn host(
        &mut self,
        tenant: &Tenant<'_>,
        terminated: &Terminated<'_>,
        host: Option<&HostPattern>,
        declared: OfHost<'_>,
    ) -> HostPiece {
        let mut of = Host {
            draft: self,
            tenant,
            terminated,
            piece: HostPiece::default(),
        };
        for (key, pool) in declared.keys {
            of.key(key, (&pool.targets, pool.balance.clone()));
        }
        for rule in served(&declared.rules) {
            match (rule.passes_through(), host) {
                (true, Some(host)) => of.passthrough(host, rule),
                (true, None) => {}
                (false, _) => of.rule(rule),
            }
        }
        of.piece
    }

    /// Who is asked for the names of a network's targets, where it has any.
    fn name_servers(&mut self, tenant: &Tenant<'_>) {
        let mut endpoints = tenant.declared.endpoints();
        if endpoints.all(|endpoint| endpoint.address().is_some()) {
            return;
        }
        let servers = servers_of(tenant.declared);
        self.name_servers.insert(tenant.network.id, servers);
    }

    pub(super) fn network(
        &mut self,
        name: &NetworkName,
        namespace: &Namespace,
    ) -> Arc<snapshot::Network> {
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
            // Only networks with a key have a namespace of their own.
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

    /// The boot file's listener, and where it leads.
    pub(super) fn listener(
        &mut self,
        networks: &Networks,
        (index, listener): (usize, &Listener),
    ) -> PlannedListener {
        let id = self.ids.listener(&listener.name);
        if let Some(to) = &listener.to
            && let Some(route) = self.place(networks, to, (index, "to"))
        {
            self.builder.fixed(id, route);
        }
        if let Some(default) = &listener.default
            && let Some(route) = self.place(networks, default, (index, "default"))
        {
            self.builder.default_route(id, route);
        }
        PlannedListener {
            id,
            name: listener.name.clone(),
            owner: None,
            network: None,
            bind: listener.bind,
            place: NamespaceSource::Host,
            terms: listener.terms(),
        }
    }

    /// The route to a place, added when no other listener has it.
    fn place(
        &mut self,
        networks: &Networks,
        place: &Place,
        (listener, key): (usize, &str),
    ) -> Option<RouteId> {
        if let Some(&id) = self.placed.get(place) {
            return Some(id);
        }
        let namespace = match &place.network {
            NetworkName::Host => Namespace::Host,
            NetworkName::Netns(name) => Namespace::Existing(name.clone()),
            NetworkName::Port(port) => match networks.get(port) {
                Some(network) => network.namespace.clone(),
                None => {
                    let problem = super::undeclared(&place.network, listener, key);
                    self.problems.push(problem);
                    return None;
                }
            },
        };
        let network = self.network(&place.network, &namespace);
        if place.endpoint.address().is_none() {
            let Some(servers) = servers_for(networks, place) else {
                self.problems.push(super::nameless(place, listener, key));
                return None;
            };
            self.name_servers.insert(network.id, servers);
        }
        let leads = Leads::Listener(place.endpoint.clone());
        let (id, _) = self.ids.route((place.network.clone(), leads));
        self.builder.route(Route {
            id,
            label: place.endpoint.to_string().into(),
            network,
            targets: vec![Target::new(place.endpoint.clone())],
            balance: Balance::default(),
        });
        self.placed.insert(place.clone(), id);
        Some(id)
    }

    /// The listeners of a network, each with a route of its own.
    pub(super) fn own_listeners(
        &mut self,
        tenant: &Tenant<'_>,
    ) -> (Vec<OwnListener>, Vec<PlannedListener>) {
        let declared = tenant.declared;
        let listeners = declared.listeners.iter().map(|(called, listener)| {
            let id = self.ids.listener(called);
            let mut route = |pool: &Pool| {
                let leads = Leads::OwnListener(called.clone());
                let route = self.ids.route((tenant.name.clone(), leads));
                self.builder.route(Route {
                    id: route.0,
                    label: format!("listener:{called}").into(),
                    network: Arc::clone(&tenant.network),
                    targets: targets(&pool.targets),
                    balance: pool.balance.clone(),
                });
                route
            };
            // It has one of the two.
            let fixed = listener.to.as_ref().map(&mut route);
            let default = listener.default.as_ref().map(route);
            if let Some((route, _)) = fixed {
                self.builder.fixed(id, route);
            }
            if let Some((route, _)) = default {
                self.builder.default_route(id, route);
            }
            let own = OwnListener {
                id,
                is_fixed: fixed.is_some(),
                route: fixed.or(default),
            };
            let planned = PlannedListener {
                id,
                name: called.clone(),
                owner: Some(declared.port),
                network: Some(tenant.network.id),
                bind: listener.bind,
                place: source_of(listener.place(&declared.namespace), declared.port),
                terms: listener.terms(),
            };
            (own, planned)
        });
        listeners.unzip()
    }
}

/// A host while its routes are made.
struct Host<'d, 'a, 't> {
    draft: &'d mut Draft<'a>,
    tenant: &'d Tenant<'t>,
    terminated: &'d Terminated<'t>,
    piece: HostPiece,
}

impl Host<'_, '_, '_> {
    /// A key of `proxy`: a name of TLS, or a rule for everything that comes for the host.
    fn key(&mut self, key: &ProxyKey, to: (&[PoolTarget], Balance)) {
        if self.terminated.passes(key) {
            return self.name(&key.pattern, to);
        }
        let scheme = match key.scheme {
            Scheme::Http => method::Scheme::Http,
            Scheme::Https => method::Scheme::Https,
            Scheme::Ssh => return,
        };
        if !self.tenant.reach.has(Some(scheme), true) {
            return;
        }
        let id = self.id(Leads::Host(scheme, key.pattern.clone()));
        self.end_tls(Some(scheme), Some(&key.pattern));
        self.route((id, key.to_string()), to);
        self.draft.rules.push(RuleDraft {
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
                pages: self.tenant.pages.clone(),
                ..Policy::default()
            },
            aside: None,
        });
    }

    /// TLS of a name that is passed through.
    fn passthrough(&mut self, host: &HostPattern, declared: &Declared) {
        if let Some(to) = &declared.to {
            self.name(host, (&to.targets, balance(declared)));
        }
    }

    fn name(&mut self, pattern: &HostPattern, to: (&[PoolTarget], Balance)) {
        let id = self.id(Leads::Name(pattern.clone()));
        self.route((id, pattern.to_string()), to);
        self.draft.builder.name(pattern.clone(), id);
        self.piece.is_passed = true;
    }

    fn rule(&mut self, declared: &Declared) {
        let found_by = declared.found_by();
        // With the default certificate, requests with TLS come for every host. Without its rule, one
        // would be left to whatever takes the names around it.
        if !self.tenant.reach.has(found_by.scheme, true) {
            return;
        }
        let id = self.id(Leads::Rule(Box::new(found_by.clone())));
        self.end_tls(found_by.scheme, declared.host.pattern());
        if let Some(origin) = tls::origin(declared) {
            self.draft.tls.origins.push((id, origin));
            self.piece.origins.push(id);
        }
        let action = rules::action(declared);
        let aside = match &declared.to {
            Some(to) => {
                let to = (&*to.targets, balance(declared));
                self.route((id, declared.label()), to);
                None
            }
            None => Some(aside(id, declared.label(), &self.tenant.network)),
        };
        let (network, pages) = (self.tenant.network.id, self.tenant.pages.clone());
        let secret = self.draft.ids.secret();
        self.draft.rules.push(RuleDraft {
            id,
            found_by,
            action,
            policy: rules::policy(declared, network, pages, secret),
            aside,
        });
    }

    fn id(&mut self, leads: Leads) -> RouteId {
        let key: RouteKey = (self.tenant.name.clone(), leads);
        let (id, key) = self.draft.ids.route(key);
        self.piece.ids.push((id, key));
        id
    }

    /// Has TLS of a host end here, if it does and requests of the scheme come in it.
    fn end_tls(&mut self, scheme: Option<method::Scheme>, host: Option<&HostPattern>) {
        if scheme == Some(method::Scheme::Http) || !self.terminated.has(host) {
            return;
        }
        if std::mem::replace(&mut self.piece.ends_tls, true) {
            return;
        }
        let terms = tls::terms(self.tenant.declared, host);
        match host {
            None => self.draft.tls.others = Some(terms),
            Some(host) => self.draft.tls.names.push((host.clone(), terms)),
        }
    }

    fn route(&mut self, (id, label): (RouteId, String), (to, balance): (&[PoolTarget], Balance)) {
        self.piece.routes.push(id);
        self.draft.builder.route(Route {
            id,
            label: label.into(),
            network: Arc::clone(&self.tenant.network),
            targets: targets(to),
            balance,
        });
    }
}

/// Who is asked for the name of a place; `None` where nobody is.
fn servers_for(networks: &Networks, place: &Place) -> Option<NameServers> {
    let declared = match &place.network {
        NetworkName::Host => return Some(NameServers::Host),
        NetworkName::Port(key) => networks.get(key).map(servers_of),
        NetworkName::Netns(_) => None,
    };
    declared.filter(|servers| *servers != NameServers::Declared(Vec::new()))
}

/// Who is asked for the names of a network's targets.
fn servers_of(network: &Network) -> NameServers {
    match &*network.dns {
        [] if network.namespace == Namespace::Host => NameServers::Host,
        declared => NameServers::Declared(declared.to_vec()),
    }
}

/// A route that leads to no target.
pub(super) fn aside(id: RouteId, label: String, network: &Arc<snapshot::Network>) -> Arc<Route> {
    Arc::new(Route {
        id,
        label: label.into(),
        network: Arc::clone(network),
        targets: Vec::new(),
        balance: Balance::default(),
    })
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
