//! The rules of a network: read one by one, and compared with each other, with its `proxy` and with
//! the hosts of other networks.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    num::NonZeroU16,
};

use engine_core::hostname::HostPattern;
use engine_http::{method::Scheme as Spoken, rules::Match};

use super::{
    MinVersion, Network, Pool, ProxyKey, Route, RuleId, Scheme, Taken, Terminated, Tls,
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

impl<'n> Beside<'n> {
    /// What a rule of a network is compared with that is read alone.
    pub(super) fn of(network: &'n Network) -> Self {
        Self {
            port: network.port,
            proxy: Some(&network.proxy),
            tls: network.tls.as_ref(),
            kept: Kept::From(Some(network)),
        }
    }
}

/// A rule among the rules of its network.
pub(super) struct Placed<'s> {
    /// Where it is written; of a rule that stays, where what is compared with it is.
    spot: Spot<'s>,
    route: Route,
    /// Whether it was there before, and is not what is read.
    stays: bool,
}

impl<'s> Placed<'s> {
    fn error(&self, problems: &mut Problems, message: impl fmt::Display) {
        match self.stays {
            false => self.spot.error(problems, message),
            true => {
                let rule = name_of(&self.route);
                self.spot.error(problems, format_args!("{rule}: {message}"));
            }
        }
    }

    fn warning(&self, problems: &mut Problems, message: impl fmt::Display) {
        match self.stays {
            false => self.spot.warning(problems, message),
            true => {
                let rule = name_of(&self.route);
                self.spot
                    .warning(problems, format_args!("{rule}: {message}"));
            }
        }
    }
}

/// A rule as problems call it.
fn name_of(route: &Route) -> String {
    match &route.id {
        Some(id) => format!("rule `{id}`"),
        None => format!("the rule for {}", route.label()),
    }
}

/// Reads the list of a network's rules.
pub(super) fn read(
    spot: &Spot<'_>,
    beside: &Beside<'_>,
    taken: &mut Taken,
    problems: &mut Problems,
) -> Option<Vec<Route>> {
    let (mut rules, mut complete) = (Vec::new(), true);
    for item in spot.items(problems)? {
        match Route::read(&item, problems) {
            Some(route) => rules.push(Placed {
                spot: item,
                route,
                stays: false,
            }),
            None => complete = false,
        }
    }
    let routes = settle(rules, beside, taken, problems);
    complete.then_some(routes)
}

/// Reads one rule, which takes the place of the rule with its id, or comes after all others.
pub(super) fn put(
    spot: &Spot<'_>,
    (id, current): (&RuleId, &[Route]),
    beside: &Beside<'_>,
    taken: &mut Taken,
    problems: &mut Problems,
) -> Option<Vec<Route>> {
    let mut route = Route::read(spot, problems)?;
    if route.id.get_or_insert_with(|| id.clone()) != id {
        let message = format_args!("the id of the path is `{id}`, and this is another one");
        spot.error(problems, message);
        return None;
    }
    let mut rules: Vec<Placed<'_>> = staying(spot, current).collect();
    let written = Placed {
        spot: *spot,
        route,
        stays: false,
    };
    let has_id = |rule: &&mut Placed<'_>| rule.route.id.as_ref() == Some(id);
    match rules.iter_mut().find(has_id) {
        Some(place) => *place = written,
        None => rules.push(written),
    }
    Some(settle(rules, beside, taken, problems))
}

/// The rules without one of them: what it ended for others may be missing now, such as TLS.
pub(super) fn remove(
    spot: &Spot<'_>,
    (id, current): (&RuleId, &[Route]),
    beside: &Beside<'_>,
    taken: &mut Taken,
    problems: &mut Problems,
) -> Vec<Route> {
    let has_id = |rule: &Placed<'_>| rule.route.id.as_ref() == Some(id);
    let rules = staying(spot, current).filter(|rule| !has_id(rule));
    settle(rules.collect(), beside, taken, problems)
}

/// Rules that stay as they are, beside what is read at a place.
fn staying<'s>(spot: &Spot<'s>, routes: &[Route]) -> impl Iterator<Item = Placed<'s>> {
    routes.iter().map(|route| Placed {
        spot: *spot,
        route: route.clone(),
        stays: true,
    })
}

/// Compares the rules of a network with each other and with all that they are beside.
fn settle(
    mut rules: Vec<Placed<'_>>,
    beside: &Beside<'_>,
    taken: &mut Taken,
    problems: &mut Problems,
) -> Vec<Route> {
    if let Kept::From(kept) = beside.kept {
        let kept = kept.map_or(&[][..], |kept| &kept.routes);
        let written = rules.iter_mut().filter(|rule| !rule.stays);
        let written = written.map(|rule| (&rule.spot, &mut rule.route));
        route::resolve(written, kept, problems);
    }
    hold_to_tls(&mut rules, beside, problems);
    let mut claimed = HashSet::new();
    for rule in &rules {
        let host = &rule.route.host;
        if claimed.insert(host)
            && let Err(holder) = taken.claim(host.pattern(), beside.port)
        {
            rule.error(problems, self::taken(host, holder));
        }
        if let Some(id) = &rule.route.id
            && let Err(holder) = taken.name(id, beside.port)
        {
            rule.error(
                problems,
                format_args!("network-{holder} already has a rule with the id `{id}`"),
            );
        }
    }
    compare(&rules, beside, problems);
    rules.into_iter().map(|rule| rule.route).collect()
}

/// Has the rules of hosts whose clients must prove who they are, or speak a new version, take requests
/// with TLS alone: without TLS nobody would ask them to. A redirect to TLS goes on for those without.
fn hold_to_tls(rules: &mut [Placed<'_>], beside: &Beside<'_>, problems: &mut Problems) {
    let strict = strict_hosts(rules);
    let reasons = reasons_for_tls(rules, &strict, beside);
    for (rule, reason) in rules.iter_mut().zip(reasons) {
        let host = rule.route.host.clone();
        if let Some(reason) = reason {
            rule.route.tls = Some(RouteTls::Terminate);
            rule.warning(
                problems,
                format_args!("the rule is for requests with TLS alone: {reason} for {host}"),
            );
        }
        if strict.contains(&host) && has(beside.proxy, host.pattern(), Scheme::Http) {
            rule.spot.error_with_hint(
                problems,
                format_args!(
                    "client certificates of {host} are required, and `proxy` serves it without TLS"
                ),
                format!("write `https://{host}` in `proxy`"),
            );
        }
    }
}

/// The hosts whose clients must prove who they are.
fn strict_hosts(rules: &[Placed<'_>]) -> HashSet<RouteHost> {
    let is_strict = |route: &Route| {
        let said = route.client_certificates.as_ref();
        said.is_some_and(|said| said.mode == ClientMode::Required)
    };
    let routes = rules.iter().map(|rule| &rule.route);
    let strict = routes.filter(|route| is_strict(route));
    strict.map(|route| route.host.clone()).collect()
}

/// For each rule, why it takes requests with TLS alone without saying so.
fn reasons_for_tls(
    rules: &[Placed<'_>],
    strict: &HashSet<RouteHost>,
    beside: &Beside<'_>,
) -> Vec<Option<&'static str>> {
    let version = beside.tls.map(|tls| tls.min_version);
    let routes = || rules.iter().map(|rule| &rule.route);
    let terminated = Terminated::among(routes(), beside.tls);
    let passing = routes().filter(|route| route.passes_through());
    let passing: HashSet<&RouteHost> = passing.map(|route| &route.host).collect();
    let reason = |route: &Route| {
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
    routes().map(reason).collect()
}

/// What is said where a host belongs to another network.
pub(super) fn taken(host: &impl fmt::Display, holder: NonZeroU16) -> String {
    format!("network-{holder} already has {host}, and a name belongs to one network")
}

fn compare(rules: &[Placed<'_>], beside: &Beside<'_>, problems: &mut Problems) {
    let terminated = Terminated::among(rules.iter().map(|rule| &rule.route), beside.tls);
    let mut seen = Seen::default();
    for rule in rules {
        let route = &rule.route;
        let found = [
            seen.passthrough(route, beside, &terminated),
            seen.rule(route, beside, &terminated),
            seen.clients(route, &terminated),
        ];
        for message in found.into_iter().flatten() {
            rule.error(problems, message);
        }
    }
}

/// What the rules so far said.
#[derive(Default)]
struct Seen<'n> {
    passing: HashSet<&'n RouteHost>,
    found_by: HashMap<Match, &'n Route>,
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
        let either = Match {
            scheme: None,
            ..found_by.clone()
        };
        let before = scheme.and_then(|_| self.found_by.get(&either).copied());
        let before = before.or_else(|| self.found_by.insert(found_by, route));
        if let Some(before) = before {
            let before = match &before.id {
                Some(_) => name_of(before),
                None => "a rule before this one".to_owned(),
            };
            return Some(format!("{before} takes the same requests"));
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
