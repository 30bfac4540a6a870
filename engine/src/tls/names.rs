//! Which names end their TLS here, and how upstreams are spoken with.

use std::{collections::HashMap, sync::Arc};

use ahash::RandomState;
use engine_core::{
    hostname::{HostPattern, Hostname},
    ids::RouteId,
    snapshot::Snapshot,
};
use engine_tls::Terms;

use super::Origin;

/// What a publication says of TLS. Empty, every TLS connection is passed through, and every
/// upstream is spoken with in plain HTTP/1.
#[derive(Debug, Default)]
pub struct Tls {
    exact: HashMap<Hostname, Arc<Terms>, RandomState>,
    wildcard: HashMap<Hostname, Arc<Terms>, RandomState>,
    others: Option<Arc<Terms>>,
    origins: HashMap<RouteId, Arc<Origin>, RandomState>,
}

impl Tls {
    /// Ends the connections for a name here, or for all names below a domain. The more specific
    /// pattern counts, also against a route that passes through; of two equal ones, this one.
    /// Returns the terms that there were for the same pattern.
    pub fn terminate(&mut self, pattern: HostPattern, terms: Arc<Terms>) -> Option<Arc<Terms>> {
        match pattern {
            HostPattern::Exact(name) => self.exact.insert(name, terms),
            HostPattern::Wildcard(domain) => self.wildcard.insert(domain, terms),
        }
    }

    /// The terms for all that `https` listeners accept for other names or for none, and for the
    /// challenges of ACME on every listener. Their policy says what an unknown name gets; without
    /// them it gets the alert `unrecognized_name`.
    pub fn terminate_others(&mut self, terms: Arc<Terms>) {
        self.others = Some(terms);
    }

    /// Has the targets of a route spoken with in this way.
    pub fn set_origin(&mut self, route: RouteId, origin: Arc<Origin>) {
        self.origins.insert(route, origin);
    }

    /// How the targets of a route are spoken with; `None` is plain HTTP/1.
    pub fn origin(&self, route: RouteId) -> Option<&Arc<Origin>> {
        self.origins.get(&route)
    }

    /// All origins.
    pub(crate) fn origins(&self) -> impl Iterator<Item = &Arc<Origin>> {
        self.origins.values()
    }

    /// The terms for names without terms of their own.
    pub(crate) fn others(&self) -> Option<&Arc<Terms>> {
        self.others.as_ref()
    }

    /// The terms for a name, unless the snapshot has a more specific route that passes it through.
    pub(crate) fn of(&self, name: &Hostname, snapshot: &Snapshot) -> Option<&Arc<Terms>> {
        if let Some(terms) = self.exact.get(name) {
            return Some(terms);
        }
        if self.wildcard.is_empty() {
            return None;
        }
        let mut parents = name.parents();
        let found = parents.find_map(|parent| Some((parent, self.wildcard.get(parent)?)));
        let (domain, terms) = found?;
        // Of two patterns for one name the longer one is the more specific.
        let passed = snapshot.pattern_of(name);
        passed
            .is_none_or(|passed| passed.len() <= domain.len())
            .then_some(terms)
    }

    /// The terms for the name of a request, whatever passes through.
    pub(crate) fn of_host(&self, name: &Hostname) -> Option<&Arc<Terms>> {
        let exact = self.exact.get(name);
        exact
            .or_else(|| name.parents().find_map(|parent| self.wildcard.get(parent)))
            .or(self.others.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use engine_core::{
        balance::{Balance, Load},
        health::Health,
        ids::{Generation, NetnsId, NetworkId},
        snapshot::{Network, Route, SnapshotBuilder, Target},
    };
    use engine_tls::{
        Certificates, Policies, Policy, Tickets,
        tickets::{Keys, Secret},
    };

    use super::*;

    fn passing(patterns: &[&str]) -> Snapshot {
        let mut builder = SnapshotBuilder::new(Generation(1));
        builder.route(Route {
            id: RouteId(1),
            label: "passed".into(),
            network: Network {
                id: NetworkId(1),
                name: "network-1".into(),
                netns: NetnsId(0),
                live: Load::default(),
            },
            targets: vec![Target {
                address: "10.0.0.2:443".parse().unwrap(),
                weight: 1,
                backup: false,
                proxy_protocol: None,
                load: Load::default(),
                health: Health::default(),
            }],
            balance: Balance::default(),
        });
        for pattern in patterns {
            builder.name(HostPattern::parse(pattern).unwrap(), RouteId(1));
        }
        builder.build(None).unwrap()
    }

    #[test]
    fn the_more_specific_pattern_decides_who_ends_the_tls() {
        let tickets = Tickets::new(Keys::new(&Secret::from_bytes([7; 48]), SystemTime::now()));
        let mut policies = Policies::new(Certificates::default(), tickets).unwrap();
        let terms = policies.terms(&Policy::default()).unwrap();
        let mut tls = Tls::default();
        for pattern in ["*.a.example", "b.example", "*.same.example"] {
            tls.terminate(HostPattern::parse(pattern).unwrap(), Arc::clone(&terms));
        }
        let snapshot = passing(&[
            "x.a.example",
            "*.deep.a.example",
            "*.example",
            "*.same.example",
        ]);
        for (name, ends_here) in [
            ("y.a.example", true),
            ("x.a.example", false),
            ("z.deep.a.example", false),
            ("b.example", true),
            ("c.example", false),
            ("d.same.example", true),
            ("a.test", false),
        ] {
            let name = Hostname::parse(name.as_bytes()).unwrap();
            assert_eq!(tls.of(&name, &snapshot).is_some(), ends_here, "{name:?}");
        }
    }
}
