//! What of the declared traffic is not served at this moment, and why.

use std::collections::{BTreeMap, BTreeSet};

use control_api::{
    answer::{CertificateState, CertificateStatus, Degradation, Reason},
    boot::{Listener, Protocol},
    place::{NetworkKey, NetworkName},
    state::{Desired, Network, Terminated},
};
use control_plan::{NamespaceSource, Unserved, plan::place_of, unserved};
use control_store::Health as StoreHealth;
use engine_core::{
    hostname::{HostPattern, Hostname},
    snapshot::{Route, Snapshot, Target},
};

use super::{LeftOut, Reconciler, tls::Failed};
use crate::ports::Unbound;

/// What only changes with the desired state and the boot file.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// Networks of which something is not served.
    networks: BTreeMap<NetworkKey, OfNetwork>,
}

/// What of a network is not served.
#[derive(Debug)]
struct OfNetwork {
    /// What no listener leads to.
    unserved: Vec<Unserved>,
    /// Hosts whose TLS is terminated and that no source of certificates is declared for.
    unsourced: Vec<Option<HostPattern>>,
}

impl Standing {
    pub(super) fn of(desired: &Desired, listeners: &[Listener]) -> Self {
        let mut standing = Self::default();
        standing.take_up(desired, desired.networks.keys(), listeners);
        standing
    }

    /// Takes up a state that is another one in some networks alone.
    pub(super) fn take_up<'n>(
        &mut self,
        desired: &Desired,
        networks: impl IntoIterator<Item = &'n NetworkKey>,
        listeners: &[Listener],
    ) {
        for key in networks {
            let found = desired.networks.get(key);
            let found = found.and_then(|network| OfNetwork::of(network, listeners));
            match found {
                Some(found) => drop(self.networks.insert(*key, found)),
                None => drop(self.networks.remove(key)),
            }
        }
    }

    fn unserved(&self) -> impl Iterator<Item = &Unserved> {
        let networks = self.networks.values();
        networks.flat_map(|network| &network.unserved)
    }

    fn unsourced(&self) -> impl Iterator<Item = (NetworkKey, Option<&HostPattern>)> {
        let networks = self.networks.iter();
        networks.flat_map(|(key, network)| {
            let hosts = network.unsourced.iter();
            hosts.map(|host| (*key, host.as_ref()))
        })
    }
}

impl OfNetwork {
    /// `None` where all is served.
    fn of(network: &Network, listeners: &[Listener]) -> Option<Self> {
        let terminates = |protocol: Protocol| match protocol {
            Protocol::Tls | Protocol::Https => true,
            Protocol::Tcp | Protocol::Http => false,
        };
        // Where there is no listener, that is reason enough.
        let everywhere = listeners.iter().any(|it| terminates(it.protocol));
        let mut own = network.listeners.values();
        let is_reached = everywhere || own.any(|it| terminates(it.protocol));
        let unsourced = match is_reached {
            true => unsourced(network),
            false => Vec::new(),
        };
        let unserved = unserved(network, listeners);
        let is_something = !unserved.is_empty() || !unsourced.is_empty();
        is_something.then_some(Self {
            unserved,
            unsourced,
        })
    }
}

fn unsourced(network: &Network) -> Vec<Option<HostPattern>> {
    let sourced: BTreeSet<&HostPattern> = network.tls.iter().flat_map(|tls| tls.hosts()).collect();
    let terminated = Terminated::of(network);
    let hosts: BTreeSet<Option<&HostPattern>> = terminated
        .hosts()
        .filter(|host| host.is_none_or(|host| !sourced.contains(host)))
        .collect();
    hosts.into_iter().map(|host| host.cloned()).collect()
}

/// What a boot file says that is not so until it is taken, or until a restart.
#[derive(Debug, Default)]
pub(super) struct BootState {
    /// Why the last one was refused.
    pub(super) refused: Option<String>,
    /// Listeners that are left out, and why.
    unbound: Vec<(String, String)>,
}

impl BootState {
    /// Of one whose listeners lead to networks that were left out at the start.
    pub(super) fn left_out(listeners: &[Listener]) -> Self {
        let unbound = listeners.iter();
        let why = "the network that it leads to was refused at the start";
        Self {
            refused: None,
            unbound: unbound.map(|it| not_bound(it, why)).collect(),
        }
    }
}

fn not_bound(listener: &Listener, why: &str) -> (String, String) {
    let name = listener.name.as_str().to_owned();
    (name, format!("{} is not bound: {why}", listener.bind))
}

impl Reconciler {
    /// Looks for everything that is not served.
    pub(super) fn find_unserved(&self) -> Vec<Degradation> {
        let view = self.certificates.borrow();
        let scene = Scene {
            desired: &self.desired,
            generation: self.generation,
            running: self.running,
            failed: self.networks.degraded.list(),
            left_out: &self.left_out,
            missing: self.publisher.missing(),
            standing: &self.standing,
            boot_state: &self.boot_state,
            unbound: self.publisher.unbound().cloned().collect(),
            certificates: &view.certificates,
            is_covered: &|host| self.is_covered(host),
            tls_failures: self.publisher.tls_failures(),
            snapshot: self.engine.snapshot(),
            down: &self.down,
            store: self.networks.store.accounts().health(),
        };
        scene.unserved()
    }

    /// Whether clients of a host are shown a certificate, or one is obtained when they come.
    pub(super) fn is_covered(&self, host: Option<&HostPattern>) -> bool {
        if self.in_force.has_default() || self.boot.acme.on_demand.ask.is_some() {
            return true;
        }
        match host {
            Some(HostPattern::Exact(name)) => self.in_force.has(name),
            Some(HostPattern::Wildcard(domain)) => {
                // Any name one label below.
                let name = Hostname::parse(format!("x.{domain}").as_bytes());
                name.is_ok_and(|name| self.in_force.has(&name))
            }
            None => !self.in_force.is_empty(),
        }
    }

    /// What works, and should still be looked at.
    pub(super) fn find_warnings(&self) -> Vec<String> {
        let view = self.certificates.borrow();
        let certificates = view.certificates.iter();
        let stale = certificates.filter(|it| it.state == CertificateState::Stale);
        let warnings = stale.take(WARNINGS_MAX).map(|it| {
            let error = it.error.as_deref().unwrap_or("the reason is unknown");
            format!("the certificate of {} is not replaced: {error}", named(it))
        });
        warnings.collect()
    }
}

/// Everything that may stand between a declared name and its target, at one moment.
struct Scene<'a> {
    desired: &'a Desired,
    /// The desired generation, and the newest that every worker runs.
    generation: u64,
    running: u64,
    /// Networks that could not be made.
    failed: Vec<Degradation>,
    left_out: &'a [LeftOut],
    /// Namespaces that are not there, and why.
    missing: BTreeMap<&'a NamespaceSource, &'a str>,
    standing: &'a Standing,
    boot_state: &'a BootState,
    /// Listeners that have no port.
    unbound: Vec<Unbound>,
    certificates: &'a [CertificateStatus],
    /// Whether clients of a host, or of one that nobody declared, get a certificate.
    is_covered: &'a dyn Fn(Option<&HostPattern>) -> bool,
    tls_failures: &'a BTreeMap<Failed, String>,
    snapshot: &'a Snapshot,
    /// Routes all of whose targets fail.
    down: &'a [Degradation],
    store: StoreHealth,
}

impl Scene<'_> {
    /// What is not served, and why.
    fn unserved(&self) -> Vec<Degradation> {
        let mut found = self.failed.clone();
        found.extend(self.left_out.iter().map(LeftOut::degradation));
        found.extend(self.without_namespace());
        found.extend(self.standing.unserved().map(without_listener));
        found.extend(self.of_the_boot_file());
        found.extend(self.unbound.iter().map(without_port));
        found.extend(self.without_certificate());
        found.extend(self.without_tls());
        found.extend_from_slice(self.down);
        found.extend(self.of_the_store());
        if self.running != self.generation {
            let why = format!("not every worker runs generation {}", self.generation);
            found.push(Degradation::new(Reason::WorkersBehind, "workers", why));
        }
        found
    }

    fn of_the_store(&self) -> Option<Degradation> {
        let health = &self.store;
        (!health.ok).then(|| Degradation {
            since: health.since,
            ..Degradation::new(
                Reason::StoreBehind,
                "store",
                health.error.clone().unwrap_or_default(),
            )
        })
    }

    fn of_the_boot_file(&self) -> Vec<Degradation> {
        let refused = self.boot_state.refused.iter();
        let refused =
            refused.map(|why| Degradation::new(Reason::BootFileRefused, "boot file", why));
        let unbound = self.boot_state.unbound.iter();
        let unbound =
            unbound.map(|(name, why)| Degradation::new(Reason::ListenerNotBound, name, why));
        refused.chain(unbound).collect()
    }

    /// Networks, and listeners' own places, in namespaces that are not there.
    fn without_namespace(&self) -> Vec<Degradation> {
        let mut missing = self.missing.clone();
        if missing.is_empty() {
            return Vec::new();
        }
        let failed: BTreeSet<Option<u16>> = self.failed.iter().map(|it| it.network).collect();
        let mut found = Vec::new();
        let mut used = BTreeSet::new();
        for network in self.desired.networks.values() {
            let place = place_of(network);
            let Some(why) = missing.get(&place) else {
                continue;
            };
            let port = Some(network.port.get());
            if !failed.contains(&port) {
                let object = network.name().to_string();
                found.push(Degradation::new(Reason::NamespaceMissing, object, *why).of(port));
            }
            used.insert(place);
        }
        missing.retain(|place, _| !used.contains(place));
        found.extend(missing.into_iter().map(|(place, why)| {
            let object = match place {
                NamespaceSource::Host => "host".to_owned(),
                NamespaceSource::Made(port) => format!("network-{port}"),
                NamespaceSource::Existing(name) => format!("netns:{}", name.as_str()),
            };
            Degradation::new(Reason::NamespaceMissing, object, why)
        }));
        found
    }

    /// Names whose certificates are to be had and are not, and hosts that nobody has one for.
    fn without_certificate(&self) -> Vec<Degradation> {
        let certificates = self.certificates.iter();
        let mut found: Vec<Degradation> = certificates.filter_map(uncertified).collect();
        let unsourced = self.standing.unsourced();
        let missing = unsourced.filter(|(_, host)| !(self.is_covered)(*host));
        found.extend(missing.map(|(port, host)| {
            let host = host.map_or_else(|| "*".to_owned(), ToString::to_string);
            let why = "TLS is terminated for it, and there is no certificate for it";
            Degradation::new(Reason::CertificateMissing, host, why).of(Some(port.get()))
        }));
        found
    }

    /// What is served to nobody, because its TLS could not be set up.
    fn without_tls(&self) -> Vec<Degradation> {
        let degradation = |(of, why): (&Failed, &String)| {
            let (object, network) = match of {
                Failed::Host(host) => (host.clone(), None),
                Failed::Targets(id) => match self.snapshot.route_of(*id) {
                    Some(route) => (route.label.to_string(), port_of(route)),
                    None => (id.to_string(), None),
                },
            };
            Degradation::new(Reason::TlsFailed, object, &**why).of(network)
        };
        self.tls_failures.iter().map(degradation).collect()
    }
}

/// Routes all of whose targets fail at `now`, as checks or requests show.
pub(super) fn targets_down(snapshot: &Snapshot, now: u64) -> Vec<Degradation> {
    let routes = snapshot.routes();
    routes.filter_map(|route| all_down(route, now)).collect()
}

/// Targets of a route that are named.
const TARGETS_SHOWN_MAX: usize = 3;
/// For how long a target's last requests and connections speak for it, in seconds, when none comes after them.
const FAILURE_SECONDS: u64 = 300;
/// Warnings that are shown.
const WARNINGS_MAX: usize = 100;

fn without_port(unbound: &Unbound) -> Degradation {
    let (name, why) = (unbound.name.as_str(), unbound.why.as_str());
    Degradation::new(Reason::ListenerNotBound, name, why).of(unbound.owner.map(NetworkKey::get))
}

fn without_listener(unserved: &Unserved) -> Degradation {
    let why = format!(
        "no listener with `protocol: {}` takes it",
        unserved.protocol
    );
    Degradation::new(Reason::ListenerMissing, &*unserved.label, why)
        .of(Some(unserved.network.get()))
}

fn uncertified(certificate: &CertificateStatus) -> Option<Degradation> {
    let error = certificate.error.as_deref();
    let after = |error: Option<&str>| error.map(|it| format!(": {it}")).unwrap_or_default();
    let (reason, why) = match certificate.state {
        CertificateState::Ok | CertificateState::Stale => return None,
        CertificateState::Pending => (
            Reason::CertificateMissing,
            "its certificate is being obtained".to_owned(),
        ),
        CertificateState::Failed => (
            Reason::CertificateFailed,
            format!("there is no certificate{}", after(error)),
        ),
        CertificateState::Expired => (
            Reason::CertificateExpired,
            format!("its certificate has expired{}", after(error)),
        ),
    };
    Some(Degradation::new(reason, named(certificate), why).of(certificate.network))
}

/// The name of a certificate; a file that was never good has none.
fn named(certificate: &CertificateStatus) -> &str {
    match certificate.name.is_empty() {
        true => &certificate.source,
        false => &certificate.name,
    }
}

/// A route all of whose targets are down at `now`; a rule that answers by itself has none.
fn all_down(route: &Route, now: u64) -> Option<Degradation> {
    let fails = |target: &Target| target.health.is_down() || fails_requests(target, now).is_some();
    if route.targets.is_empty() || !route.targets.iter().all(fails) {
        return None;
    }
    let is_checked = |target: &Target| target.health.is_down();
    let what = match (
        route.targets.iter().any(is_checked),
        route.targets.iter().all(is_checked),
    ) {
        (_, true) => "their checks",
        (true, false) => "their checks or the last requests or connections",
        (false, false) => "the last requests or connections",
    };
    let shown = route.targets.iter().take(TARGETS_SHOWN_MAX);
    let shown: Vec<String> = shown
        .map(|target| match fails_requests(target, now) {
            Some(how) if !target.health.is_down() => {
                format!("{} ({})", target.endpoint, how.label())
            }
            Some(_) | None => target.endpoint.to_string(),
        })
        .collect();
    let more = match route.targets.len() > shown.len() {
        true => " and others",
        false => "",
    };
    let why = format!("all targets fail {what}: {}{more}", shown.join(", "));
    Some(Degradation::new(Reason::TargetsDown, &*route.label, why).of(port_of(route)))
}

/// How a target failed its last requests or connections, where that was not long ago.
fn fails_requests(target: &Target, now: u64) -> Option<engine::Failure> {
    let (how, at) = engine::Failure::last_of(target)?;
    let is_recent = now.saturating_sub(at) < FAILURE_SECONDS;
    (target.health.is_failing() && is_recent).then_some(how)
}

/// The public port of a route's network; none of the host's or of a namespace by name.
fn port_of(route: &Route) -> Option<u16> {
    match route.network.name.parse() {
        Ok(NetworkName::Port(port)) => Some(port.get()),
        Ok(NetworkName::Host | NetworkName::Netns(_)) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests;
