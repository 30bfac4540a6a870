//! The rules of a network: read one by one, and compared with each other, with its `proxy` and with
//! the hosts of other networks.

use std::{
    collections::{BTreeMap, HashMap, HashSet, hash_map::Entry},
    fmt,
    hash::Hash,
    sync::Arc,
};

use engine_core::hostname::HostPattern;
use engine_http::{method::Scheme as Spoken, rules::Match};

use super::{
    Holder, MinVersion, Network, Owner, Pool, ProxyKey, Route, RuleId, Scheme, Taken, Terminated,
    Tls, Whose,
    route::{self, ClientCertificates, ClientMode, ROUTES_PER_HOST_MAX, RouteHost, RouteTls},
    secret::Kept,
};
use crate::{document::Spot, field::Field as _, problem::Problems};

/// What the rules of a network are compared with.
pub(super) struct Beside<'n> {
    /// The network and its owner.
    pub(super) holder: Holder,
    /// Whose the rules are that are read.
    pub(super) whose: &'n Whose,
    pub(super) proxy: Option<&'n BTreeMap<ProxyKey, Pool>>,
    pub(super) tls: Option<&'n Tls>,
    /// The network as it was, which secrets may be kept from.
    pub(super) kept: Kept<'n>,
    /// Rules of others, which stay.
    pub(super) others: &'n [Arc<Route>],
}

impl<'n> Beside<'n> {
    /// What a rule of a network is compared with that is read alone.
    pub(super) fn of(network: &'n Network, whose: &'n Whose) -> Self {
        Self {
            holder: Holder::of(network),
            whose,
            proxy: Some(&network.proxy),
            tls: network.tls.as_ref(),
            kept: Kept::From(Some(network)),
            others: &[],
        }
    }
}

/// A rule among the rules of its network.
pub(super) struct Placed<'s> {
    /// Where it is written; of a rule that stays, where what is compared with it is.
    spot: Spot<'s>,
    route: Arc<Route>,
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
pub(super) fn name_of(route: &Route) -> String {
    match &route.id {
        Some(id) => format!("rule `{id}`"),
        None => format!("the rule for {}", route.label()),
    }
}

/// Reads the list of a network's rules, if there is one, beside those of others. `whole` is where the
/// network stands.
pub(super) fn read(
    whole: &Spot<'_>,
    list: Option<&Spot<'_>>,
    beside: &Beside<'_>,
    taken: &mut Taken,
    problems: &mut Problems,
) -> Option<Vec<Arc<Route>>> {
    let mut rules: Vec<Placed<'_>> = staying(whole, beside.others).collect();
    let mut complete = true;
    if let Some(list) = list {
        for item in list.items(problems)? {
            match read_one(&item, beside, problems) {
                Some(route) => rules.push(Placed {
                    spot: item,
                    route: Arc::new(route),
                    stays: false,
                }),
                None => complete = false,
            }
        }
    }
    let routes = settle(rules, beside, taken, problems);
    complete.then_some(routes)
}

fn read_one(spot: &Spot<'_>, beside: &Beside<'_>, problems: &mut Problems) -> Option<Route> {
    let mut route = Route::read(spot, problems)?;
    route.owner = beside.whose.settle(route.owner, spot, problems)?;
    Some(route)
}

/// Reads one rule, which takes the place of the rule with its id, or comes after all others.
pub(super) fn put(
    spot: &Spot<'_>,
    (id, current): (&RuleId, &[Arc<Route>]),
    beside: &Beside<'_>,
    taken: &mut Taken,
    problems: &mut Problems,
) -> Option<Vec<Arc<Route>>> {
    let mut route = read_one(spot, beside, problems)?;
    if route.id.get_or_insert_with(|| id.clone()) != id {
        let message = format_args!("the id of the path is `{id}`, and this is another one");
        spot.error(problems, message);
        return None;
    }
    let mut rules: Vec<Placed<'_>> = staying(spot, current).collect();
    let has_id = |rule: &&mut Placed<'_>| rule.route.id.as_ref() == Some(id);
    match rules.iter_mut().find(has_id) {
        Some(place) => {
            if route.owner.is_api() {
                route.owner = place.route.owner.clone();
            }
            place.route = Arc::new(route);
            place.stays = false;
        }
        None => rules.push(Placed {
            spot: *spot,
            route: Arc::new(route),
            stays: false,
        }),
    }
    Some(settle(rules, beside, taken, problems))
}

/// The rules without one of them: what it ended for others may be missing now, such as TLS.
pub(super) fn remove(
    spot: &Spot<'_>,
    (id, current): (&RuleId, &[Arc<Route>]),
    beside: &Beside<'_>,
    taken: &mut Taken,
    problems: &mut Problems,
) -> Vec<Arc<Route>> {
    let has_id = |rule: &Placed<'_>| rule.route.id.as_ref() == Some(id);
    let rules = staying(spot, current).filter(|rule| !has_id(rule));
    settle(rules.collect(), beside, taken, problems)
}

/// Rules that stay as they are, beside what is read at a place.
fn staying<'s>(spot: &Spot<'s>, routes: &[Arc<Route>]) -> impl Iterator<Item = Placed<'s>> {
    routes.iter().map(|route| Placed {
        spot: *spot,
        route: Arc::clone(route),
        stays: true,
    })
}

/// Compares the rules of a network with each other and with all that they are beside.
fn settle(
    mut rules: Vec<Placed<'_>>,
    beside: &Beside<'_>,
    taken: &mut Taken,
    problems: &mut Problems,
) -> Vec<Arc<Route>> {
    if let Kept::From(kept) = beside.kept {
        let kept = kept.map_or(&[][..], |kept| &kept.routes);
        let written = rules.iter_mut().filter(|rule| !rule.stays);
        let written = written.map(|rule| (&rule.spot, Arc::make_mut(&mut rule.route)));
        route::resolve(written, kept, problems);
    }
    // Stable: rules of the base stay in their order.
    rules.sort_by(|one, other| order(&one.route).cmp(&order(&other.route)));
    hold_to_tls(&mut rules, beside, problems);
    claim(&rules, beside, taken, problems);
    compare(&rules, beside, problems);
    rules.into_iter().map(|rule| rule.route).collect()
}

/// By what the rules of several owners are in order.
fn order(route: &Route) -> (&Owner, Option<&RuleId>) {
    let id = route.id.as_ref().filter(|_| !route.owner.is_api());
    (&route.owner, id)
}

/// Notes hosts and ids as the network's.
fn claim(rules: &[Placed<'_>], beside: &Beside<'_>, taken: &mut Taken, problems: &mut Problems) {
    let (mut hosts, mut ids) = (HashSet::new(), HashSet::new());
    for rule in rules {
        let Route {
            host, id, owner, ..
        } = &*rule.route;
        if hosts.insert(host)
            && let Err(holder) = taken.claim(host.pattern(), &beside.holder)
        {
            rule.error(problems, self::taken(host, &holder));
        }
        let Some(id) = id else {
            if *owner != beside.holder.owner {
                let network = &beside.holder;
                rule.error(
                    problems,
                    format_args!("an `id` is missing: {network} is not of `{owner}`"),
                );
            }
            continue;
        };
        let named = match ids.insert(id) {
            true => taken.name(id, &Holder::new(beside.holder.port, owner.clone())),
            false => Err(beside.holder.clone()),
        };
        if let Err(holder) = named {
            rule.error(
                problems,
                format_args!("{holder} already has a rule with the id `{id}`"),
            );
        }
    }
}

/// Has the rules of hosts whose clients must prove who they are, or speak a new version, take requests
/// with TLS alone: without TLS nobody would ask them to. A redirect to TLS goes on for those without.
fn hold_to_tls(rules: &mut [Placed<'_>], beside: &Beside<'_>, problems: &mut Problems) {
    let strict = strict_hosts(rules);
    let reasons = reasons_for_tls(rules, &strict, beside);
    for (rule, reason) in rules.iter_mut().zip(reasons) {
        let host = rule.route.host.clone();
        if let Some(reason) = reason {
            Arc::make_mut(&mut rule.route).tls = Some(RouteTls::Terminate);
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
    let routes = rules.iter().map(|rule| &*rule.route);
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
    let routes = || rules.iter().map(|rule| &*rule.route);
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
pub(super) fn taken(host: &impl fmt::Display, holder: &Holder) -> String {
    format!("{holder} already has {host}, and a name belongs to one network")
}

fn compare(rules: &[Placed<'_>], beside: &Beside<'_>, problems: &mut Problems) {
    let terminated = Terminated::among(rules.iter().map(|rule| &*rule.route), beside.tls);
    let mut seen = Seen::default();
    for rule in rules {
        let route = &*rule.route;
        let found = [
            seen.passthrough(route, beside, &terminated),
            seen.rule(route, beside, &terminated),
            seen.clients(route, &terminated).map(Found::Error),
        ];
        for found in found.into_iter().flatten() {
            match found {
                Found::Error(message) => rule.error(problems, message),
                Found::Warning(message) => rule.warning(problems, message),
            }
        }
    }
}

/// What is found of a rule and those before it.
enum Found {
    Error(String),
    Warning(String),
}

impl Found {
    /// Of two owners' rules that match equally the first one is found; one owner writes only one.
    fn equal(route: &Route, before: &Route, message: String) -> Self {
        match route.owner == before.owner {
            true => Self::Error(message),
            false => Self::Warning(format!(
                "{} of `{}` is before it: {message}",
                name_of(before),
                before.owner
            )),
        }
    }
}

/// What the rules so far said.
#[derive(Default)]
struct Seen<'n> {
    first: First<'n>,
    count: HashMap<&'n RouteHost, usize>,
    clients: HashMap<&'n RouteHost, &'n ClientCertificates>,
}

impl<'n> Seen<'n> {
    fn passthrough(
        &mut self,
        route: &'n Route,
        beside: &Beside<'_>,
        terminated: &Terminated<'_>,
    ) -> Option<Found> {
        if !route.passes_through() {
            return None;
        }
        let host = &route.host;
        if terminated.has(host.pattern()) {
            return Some(Found::Error(format!(
                "TLS of {host} cannot pass through: a rule or a source of certificates ends it here"
            )));
        }
        if let Some(before) = self.first.before(route) {
            let message = format!("another rule already says where TLS of {host} goes");
            return Some(Found::equal(route, before, message));
        }
        has(beside.proxy, host.pattern(), Scheme::Https)
            .then(|| Found::Error(format!("`proxy` already says where TLS of {host} goes")))
    }

    fn rule(
        &mut self,
        route: &'n Route,
        beside: &Beside<'_>,
        terminated: &Terminated<'_>,
    ) -> Option<Found> {
        if route.passes_through() {
            return None;
        }
        let host = &route.host;
        if let Some(declared) = declared_beside(route, beside, terminated) {
            let declared = declared.word();
            return Some(Found::Error(format!(
                "`{declared}://{host}` of `proxy` takes the same requests"
            )));
        }
        if let Some(before) = self.first.before(route) {
            let before_it = match &before.id {
                Some(_) => name_of(before),
                None => "a rule before this one".to_owned(),
            };
            let message = format!("{before_it} takes the same requests");
            return Some(Found::equal(route, before, message));
        }
        let count = self.count.entry(host).or_default();
        *count += 1;
        (*count == ROUTES_PER_HOST_MAX + 1)
            .then(|| Found::Error(format!("{host} has more than {ROUTES_PER_HOST_MAX} rules")))
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

/// The scheme of the key of `proxy` that takes all requests of a rule.
fn declared_beside(
    route: &Route,
    beside: &Beside<'_>,
    terminated: &Terminated<'_>,
) -> Option<Scheme> {
    let is_whole =
        route.path.as_str() == "/" && route.methods.is_empty() && route.headers.list().is_empty();
    let (host, scheme) = (route.host.pattern(), route.scheme());
    let overlaps = |other| match other {
        Scheme::Http => scheme != Some(Spoken::Https),
        Scheme::Https => scheme != Some(Spoken::Http) && terminated.has(host),
        Scheme::Ssh => false,
    };
    let mut schemes = [Scheme::Http, Scheme::Https].into_iter();
    schemes.find(|other| is_whole && overlaps(*other) && has(beside.proxy, host, *other))
}

/// Which rules are found: the first of those that match equally.
#[derive(Default)]
pub(super) struct First<'n> {
    passing: HashMap<&'n RouteHost, &'n Route>,
    found_by: HashMap<Match, &'n Route>,
    /// One owner's rules were compared when they were read.
    is_known: bool,
}

/// Of some rules in their order those that are found: all rules of their hosts have to be among them.
pub fn served<'n>(routes: &[&'n Route]) -> Vec<&'n Route> {
    let mut first = First::of(routes.iter().copied());
    let found = routes.iter().filter(|route| first.is_found(route));
    found.copied().collect()
}

impl<'n> First<'n> {
    /// To ask about each of these rules, in their order.
    pub(super) fn of(mut routes: impl Iterator<Item = &'n Route> + Clone) -> Self {
        let owner = routes.clone().next().map(|route| &route.owner);
        Self {
            is_known: routes.all(|route| Some(&route.owner) == owner),
            ..Self::default()
        }
    }

    /// Whether a rule is found.
    pub(super) fn is_found(&mut self, route: &'n Route) -> bool {
        self.is_known || self.before(route).is_none()
    }

    /// The rule that is found in the place of this one; notes this one where there is none.
    fn before(&mut self, route: &'n Route) -> Option<&'n Route> {
        if route.passes_through() {
            return note(&mut self.passing, &route.host, route);
        }
        let found_by = route.found_by();
        let either = found_by.scheme.and_then(|_| {
            let either = Match {
                scheme: None,
                ..found_by.clone()
            };
            self.found_by.get(&either).copied()
        });
        either.or_else(|| note(&mut self.found_by, found_by, route))
    }
}

/// The rule that has a place, or none: then the given one has it.
fn note<'n, K: Eq + Hash>(
    places: &mut HashMap<K, &'n Route>,
    place: K,
    route: &'n Route,
) -> Option<&'n Route> {
    match places.entry(place) {
        Entry::Occupied(before) => Some(before.get()),
        Entry::Vacant(place) => {
            place.insert(route);
            None
        }
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
