//! Which names end their TLS here, and how upstreams are spoken with.
//!
//! That TLS is not spoken and that it cannot be are different values: where terms or an origin could
//! not be made, nobody is served, rather than served without them.

pub(crate) mod origin;
pub(crate) mod tally;

use std::sync::Arc;

use engine_core::{
    hostname::{HostPattern, Hostname},
    ids::RouteId,
    shared_map::SharedMap,
    snapshot::Snapshot,
};
use engine_tls::ServerTlsConfig;

use crate::context::tls::origin::Origin;

/// What a publication says of TLS. Empty, every TLS connection is passed through, and every
/// upstream is spoken with in plain HTTP/1. A copy shares everything, and a change of it what stays.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    exact: SharedMap<Hostname, Termination>,
    wildcard: SharedMap<Hostname, Termination>,
    others: Option<Termination>,
    /// For the proofs of ACME, whatever others get.
    challenges: Option<Arc<ServerTlsConfig>>,
    origins: SharedMap<RouteId, Speech>,
    /// How many routes are spoken with as an origin says, by its id.
    spoken: SharedMap<u64, u32>,
}

/// How the TLS of a name ends here.
#[derive(Clone, Debug)]
pub enum Termination {
    /// On these terms.
    On(Arc<ServerTlsConfig>),
    /// On terms that could not be made: its handshakes are refused.
    Failed,
}

/// How the targets of a route are spoken with.
#[derive(Clone, Debug)]
pub enum Speech {
    /// So.
    As(Arc<Origin>),
    /// In a way that could not be made: they are not spoken with.
    Failed,
}

impl Termination {
    /// The terms, where there are any.
    pub(crate) fn terms(&self) -> Option<&Arc<ServerTlsConfig>> {
        match self {
            Self::On(terms) => Some(terms),
            Self::Failed => None,
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::On(one), Self::On(other)) => Arc::ptr_eq(one, other),
            (Self::Failed, Self::Failed) => true,
            _ => false,
        }
    }
}

/// The hosts whose TLS ends otherwise than before.
#[derive(Debug)]
pub(crate) struct ChangedHosts<'a> {
    pub(crate) names: Vec<&'a Hostname>,
    /// Those below these, where nothing more specific is declared for them.
    pub(crate) domains: Vec<&'a Hostname>,
    /// Those that nothing is declared for.
    pub(crate) others: bool,
}

/// A host that rules are for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked<'a> {
    Name(&'a Hostname),
    /// Every name below a domain.
    Below(&'a Hostname),
    /// Every name that nobody declared.
    Others,
}

impl Tls {
    /// Ends the connections for a name here, or for all names below a domain. The more specific
    /// pattern counts, also against a route that passes through; of two equal ones, this one.
    pub fn terminate(&mut self, pattern: HostPattern, termination: Termination) {
        match pattern {
            HostPattern::Exact(name) => self.exact.insert(name, termination),
            HostPattern::Wildcard(domain) => self.wildcard.insert(domain, termination),
        };
    }

    /// Has the connections for a name, or for all names below a domain, end as if nobody had said so.
    pub fn pass(&mut self, pattern: &HostPattern) {
        match pattern {
            HostPattern::Exact(name) => self.exact.remove(name),
            HostPattern::Wildcard(domain) => self.wildcard.remove(domain),
        };
    }

    /// How TLS ends for other names, and for none, where no route passes them through. Terms say what
    /// an unknown name gets; without any it gets the alert `unrecognized_name`.
    pub fn terminate_others(&mut self, termination: Termination) {
        self.others = Some(termination);
    }

    /// The terms for the challenges of ACME, on every listener.
    pub fn answer_challenges(&mut self, terms: Arc<ServerTlsConfig>) {
        self.challenges = Some(terms);
    }

    /// Has the targets of a route spoken with in this way.
    pub fn set_origin(&mut self, route: RouteId, speech: Speech) {
        self.speak(&speech);
        if let Some(before) = self.origins.insert(route, speech) {
            self.fall_silent(&before);
        }
    }

    /// Has the targets of a route spoken with in plain HTTP/1.
    pub fn remove_origin(&mut self, route: RouteId) {
        if let Some(before) = self.origins.remove(&route) {
            self.fall_silent(&before);
        }
    }

    fn speak(&mut self, speech: &Speech) {
        if let Speech::As(origin) = speech {
            let count = self.spoken.get(&origin.id()).copied().unwrap_or_default();
            self.spoken.insert(origin.id(), count + 1);
        }
    }

    fn fall_silent(&mut self, speech: &Speech) {
        if let Speech::As(origin) = speech {
            match self.spoken.get(&origin.id()).copied().unwrap_or_default() {
                0 | 1 => self.spoken.remove(&origin.id()),
                count => self.spoken.insert(origin.id(), count - 1),
            };
        }
    }

    /// How the targets of a route are spoken with; `None` is plain HTTP/1.
    pub fn origin(&self, route: RouteId) -> Option<&Speech> {
        self.origins.get(&route)
    }

    /// The origins that no route is spoken with any more `after` this.
    pub(crate) fn removed_origins(&self, after: &Self) -> Vec<u64> {
        let changes = self.spoken.changes(&after.spoken, |_, _| true).into_iter();
        let gone = changes.filter(|change| change.after.is_none());
        gone.map(|change| *change.key).collect()
    }

    /// How many origins there are.
    pub(crate) fn spoken_with(&self) -> usize {
        self.spoken.len()
    }

    /// Whether any route is spoken with as an origin says, by its id.
    pub(crate) fn speaks_with(&self, origin: u64) -> bool {
        self.spoken.contains_key(&origin)
    }

    /// The hosts whose TLS may end otherwise `after` this: names by themselves, and whether it may be any.
    pub(crate) fn changed_hosts<'a>(&'a self, after: &'a Self) -> ChangedHosts<'a> {
        let names = self.exact.changes(&after.exact, Termination::is_same);
        let domains = self.wildcard.changes(&after.wildcard, Termination::is_same);
        let others = match (&self.others, &after.others) {
            (Some(one), Some(other)) => !one.is_same(other),
            (one, other) => one.is_some() != other.is_some(),
        };
        ChangedHosts {
            names: names.into_iter().map(|change| change.key).collect(),
            domains: domains.into_iter().map(|change| change.key).collect(),
            others,
        }
    }

    /// How TLS ends for names that nobody declared.
    pub(crate) fn others(&self) -> Option<&Termination> {
        self.others.as_ref()
    }

    /// The terms for the challenges of ACME.
    pub(crate) fn challenges(&self) -> Option<&Arc<ServerTlsConfig>> {
        self.challenges.as_ref()
    }

    /// How TLS ends for a name, unless the snapshot has a more specific route that passes it
    /// through.
    pub(crate) fn of(&self, name: &Hostname, snapshot: &Snapshot) -> Option<&Termination> {
        if let Some(termination) = self.exact.get(name) {
            return Some(termination);
        }
        if self.wildcard.is_empty() {
            return None;
        }
        let mut parents = name.parents();
        let found = parents.find_map(|parent| Some((parent, self.wildcard.get(parent)?)));
        let (domain, termination) = found?;
        // Of two patterns for one name the longer one is the more specific.
        let passed = snapshot.pattern_of(name);
        passed
            .is_none_or(|passed| passed.len() <= domain.len())
            .then_some(termination)
    }

    /// How TLS ends for the host of a request, or of a rule, whatever passes through.
    pub(crate) fn of_host(&self, host: Asked<'_>) -> Option<&Termination> {
        let of_domain = |domain: &str| self.wildcard.get(domain);
        let found = match host {
            Asked::Name(name) => self
                .exact
                .get(name)
                .or_else(|| name.parents().find_map(of_domain)),
            Asked::Below(domain) => self
                .wildcard
                .get(domain)
                .or_else(|| domain.parents().find_map(of_domain)),
            Asked::Others => None,
        };
        found.or(self.others.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, time::SystemTime};

    use engine_core::{
        balance::{Balance, Load},
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
            network: Arc::new(Network {
                id: NetworkId(1),
                name: "network-1".into(),
                netns: NetnsId(0),
                live: Load::default(),
            }),
            targets: vec![Target::new("10.0.0.2:443".parse::<SocketAddr>().unwrap())],
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
            let termination = Termination::On(Arc::clone(&terms));
            tls.terminate(HostPattern::parse(pattern).unwrap(), termination);
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
