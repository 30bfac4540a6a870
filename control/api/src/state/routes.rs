//! The rules of a network: read one by one, and compared with each other, with its `proxy` and with
//! the hosts of other networks.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    num::NonZeroU16,
};

use engine_core::hostname::HostPattern;
use engine_http::{method::Scheme as Spoken, rules::Match};

use super::{
    MinVersion, Owners, Pool, ProxyKey, Route, Scheme, Terminated, Tls,
    route::{self, ClientCertificates, ClientMode, ROUTES_PER_HOST_MAX, RouteHost, RouteTls},
    secret::Kept,
};
use crate::{document::Spot, field::Field as _, problem::Problems};

/// What the rules of a network are compared with.
pub(super) struct Beside<'n> {
    pub(super) port: NonZeroU16,
    pub(super) proxy: Option<&'n BTreeMap<ProxyKey, Pool>>,
    pub(super) tls: Option<&'n Tls>,
    /// The network as it was, which secrets may be kept from.
    pub(super) kept: Kept<'n>,
}

pub(super) fn read(
    spot: &Spot<'_>,
    beside: &Beside<'_>,
    owners: &mut Owners,
    problems: &mut Problems,
) -> Option<Vec<Route>> {
    let (mut spots, mut routes, mut complete) = (Vec::new(), Vec::new(), true);
    for item in spot.items(problems)? {
        match Route::read(&item, problems) {
            Some(route) => {
                spots.push(item);
                routes.push(route);
            }
            None => complete = false,
        }
    }
    if let Kept::From(kept) = beside.kept {
        let kept = kept.map_or(&[][..], |kept| &kept.routes);
        route::resolve(&spots, &mut routes, kept, problems);
    }
    hold_to_tls(&spots, &mut routes, beside, problems);
    let mut claimed = HashSet::new();
    for (spot, route) in spots.iter().zip(&routes) {
        if claimed.insert(&route.host)
            && let Err(owner) = owners.claim(route.host.pattern(), beside.port)
        {
            spot.error(problems, taken(&route.host, owner));
        }
    }
    compare(&spots, &routes, beside, problems);
    complete.then_some(routes)
}

/// Has the rules of hosts whose clients must prove who they are, or speak a new version, take requests
/// with TLS alone: without TLS nobody would ask them to. A redirect to TLS goes on for those without.
fn hold_to_tls(
    spots: &[Spot<'_>],
    routes: &mut [Route],
    beside: &Beside<'_>,
    problems: &mut Problems,
) {
    let is_strict = |route: &Route| {
        let said = route.client_certificates.as_ref();
        said.is_some_and(|said| said.mode == ClientMode::Required)
    };
    let strict = routes.iter().filter(|route| is_strict(route));
    let strict: HashSet<RouteHost> = strict.map(|route| route.host.clone()).collect();
    let version = beside.tls.map(|tls| tls.min_version);
    let terminated = Terminated::among(routes, beside.tls);
    let passing = routes.iter().filter(|route| route.passes_through());
    let passing: HashSet<RouteHost> = passing.map(|route| route.host.clone()).collect();
    let held = |route: &Route| {
        let pattern = route.host.pattern();
        let ends_here = terminated.has(pattern);
        let passes = passing.contains(&route.host) || has(beside.proxy, pattern, Scheme::Https);
        let reason = if strict.contains(&route.host) && ends_here {
            "client certificates are required"
        } else if version == Some(MinVersion::Tls13) && (ends_here || !passes) {
            // The default certificate would serve the host, too, and speak any version.
            "`min_version` is written"
        } else {
            return None;
        };
        (route.tls.is_none() && route.scheme().is_none()).then_some(reason)
    };
    let held: Vec<_> = routes.iter().map(held).collect();
    for ((spot, route), reason) in spots.iter().zip(routes).zip(held) {
        if let Some(reason) = reason {
            route.tls = Some(RouteTls::Terminate);
            let host = &route.host;
            spot.warning(
                problems,
                format_args!("the rule is for requests with TLS alone: {reason} for {host}"),
            );
        }
        if strict.contains(&route.host) && has(beside.proxy, route.host.pattern(), Scheme::Http) {
            let host = &route.host;
            spot.error_with_hint(
                problems,
                format_args!(
                    "client certificates of {host} are required, and `proxy` serves it without TLS"
                ),
                format!("write `https://{host}` in `proxy`"),
            );
        }
    }
}

/// What is said where a host belongs to another network.
pub(super) fn taken(host: &impl std::fmt::Display, owner: NonZeroU16) -> String {
    format!("network-{owner} already has {host}, and a name belongs to one network")
}

fn compare(spots: &[Spot<'_>], routes: &[Route], beside: &Beside<'_>, problems: &mut Problems) {
    let terminated = Terminated::among(routes, beside.tls);
    let mut seen = Seen::default();
    for (spot, route) in spots.iter().zip(routes) {
        if let Some(message) = seen.passthrough(route, beside, &terminated) {
            spot.error(problems, message);
        }
        if let Some(message) = seen.rule(route, beside, &terminated) {
            spot.error(problems, message);
        }
        if let Some(message) = seen.clients(route, &terminated) {
            spot.error(problems, message);
        }
    }
}

/// What the rules so far said.
#[derive(Default)]
struct Seen<'n> {
    passing: HashSet<&'n RouteHost>,
    found_by: HashSet<Match>,
    count: HashMap<&'n RouteHost, usize>,
    clients: HashMap<&'n RouteHost, &'n ClientCertificates>,
}

impl<'n> Seen<'n> {
    fn passthrough(
        &mut self,
        route: &'n Route,
        beside: &Beside<'_>,
        terminated: &Terminated<'_>,
    ) -> Option<String> {
        if !route.passes_through() {
            return None;
        }
        let host = &route.host;
        if terminated.has(host.pattern()) {
            return Some(format!(
                "TLS of {host} cannot pass through: a rule or a source of certificates ends it here"
            ));
        }
        if !self.passing.insert(host) {
            return Some(format!(
                "another rule already says where TLS of {host} goes"
            ));
        }
        has(beside.proxy, host.pattern(), Scheme::Https)
            .then(|| format!("`proxy` already says where TLS of {host} goes"))
    }

    fn rule(
        &mut self,
        route: &'n Route,
        beside: &Beside<'_>,
        terminated: &Terminated<'_>,
    ) -> Option<String> {
        if route.passes_through() {
            return None;
        }
        let found_by = route.found_by();
        let (host, scheme) = (&route.host, found_by.scheme);
        let is_whole =
            found_by.path == "/" && found_by.methods.is_empty() && found_by.fields.is_empty();
        let overlaps = |other| match other {
            Scheme::Http => scheme != Some(Spoken::Https),
            Scheme::Https => scheme != Some(Spoken::Http) && terminated.has(host.pattern()),
            Scheme::Ssh => false,
        };
        let declared = [Scheme::Http, Scheme::Https].into_iter().find(|other| {
            is_whole && overlaps(*other) && has(beside.proxy, host.pattern(), *other)
        });
        if let Some(declared) = declared {
            let declared = declared.word();
            return Some(format!(
                "`{declared}://{host}` of `proxy` takes the same requests"
            ));
        }
        let is_overlapped = scheme.is_some() && {
            let either = Match {
                scheme: None,
                ..found_by.clone()
            };
            self.found_by.contains(&either)
        };
        if is_overlapped || !self.found_by.insert(found_by) {
            return Some("a rule before this one takes the same requests".to_owned());
        }
        let count = self.count.entry(host).or_default();
        *count += 1;
        (*count == ROUTES_PER_HOST_MAX + 1)
            .then(|| format!("{host} has more than {ROUTES_PER_HOST_MAX} rules"))
    }

    fn clients(&mut self, route: &'n Route, terminated: &Terminated<'_>) -> Option<String> {
        let said = route.client_certificates.as_ref()?;
        let host = &route.host;
        if !terminated.has(host.pattern()) {
            return Some(format!(
                "`client_certificates` has no effect: TLS of {host} is not terminated"
            ));
        }
        let before = *self.clients.entry(host).or_insert(said);
        (before != said).then(|| {
            format!(
                "another rule of {host} has other `client_certificates`, and TLS has one answer"
            )
        })
    }
}

fn has(
    proxy: Option<&BTreeMap<ProxyKey, Pool>>,
    host: Option<&HostPattern>,
    scheme: Scheme,
) -> bool {
    let (Some(proxy), Some(pattern)) = (proxy, host) else {
        return false;
    };
    let pattern = pattern.clone();
    proxy.contains_key(&ProxyKey { scheme, pattern })
}
