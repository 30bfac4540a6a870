//! Which rule a request falls under, and what the rule says.
//!
//! The host decides first: the exact name, else the longest wildcard, else the rules for any host,
//! as in [`engine_core::snapshot`]. Among the rules of that host the longest path prefix wins, then
//! the one with most conditions (scheme, methods, each field), then the one declared first. A host that has rules is decided by
//! them alone: what none of them takes is not found.

use std::sync::Arc;

use engine_core::{
    hostname::{HostPattern, Hostname},
    ids::{NetworkId, RouteId},
    shared_map::{Change, SharedMap},
    snapshot::Route,
};

mod auth;
mod build;
mod policy;
mod prefixes;
mod redirect;
mod sticky;
#[cfg(test)]
mod tests;

pub use auth::{Auth, AuthError, CREDENTIALS_BYTES_MAX, SALT_BYTES_MAX, SALT_BYTES_MIN, USERS_MAX};
pub use build::{Condition, Expected, Match, TableBuilder, TableError, is_prefix};
pub use policy::{Denied, Policy, Timeouts};
pub use prefixes::Prefixes;
pub use redirect::{Redirect, RedirectError, RedirectStatus};
pub use sticky::{Secure, Sticky, StickyError};

use crate::{
    field::Fields,
    host::Host,
    method::{Method, Scheme},
    path::Path,
    refusal::Refusal,
    request::Request,
};

/// Most rules of one host. They are gone through one by one, so this bounds the time of a lookup.
pub const RULES_PER_HOST_MAX: usize = 1024;

/// What happens to a request.
#[derive(Clone, Debug)]
pub enum Action {
    /// It is passed on to the route's targets.
    Proxy,
    /// It is sent somewhere else.
    Redirect(Redirect),
    /// It is answered with 503 (see [`crate::answer`]).
    Maintenance,
}

/// A rule: what happens to the requests that fall under it.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Stable over tables.
    pub id: RouteId,
    /// Network, label and targets. Only [`Action::Proxy`] needs a target.
    pub route: Arc<Route>,
    /// What to do.
    pub action: Action,
    /// How to do it. Rules that say the same may share one.
    pub policy: Arc<Policy>,
}

/// Everything that HTTP requests are decided by. Immutable; see [`TableBuilder`]. A copy shares everything.
#[derive(Clone, Debug, Default)]
pub struct Table {
    exact: SharedMap<Hostname, Arc<[Entry]>>,
    wildcard: SharedMap<Hostname, Arc<[Entry]>>,
    any: Arc<[Entry]>,
    /// Of all rules.
    ids: SharedMap<RouteId, ()>,
}

/// A rule with what it is found by.
#[derive(Clone, Copy, Debug)]
pub struct Placed<'a> {
    /// What it is found by beside the scheme.
    pub place: Place<'a>,
    /// With TLS, or without it; `None` is either.
    pub scheme: Option<Scheme>,
    /// The rule.
    pub rule: &'a Arc<Rule>,
}

/// What a rule is found by, with TLS or without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place<'a> {
    /// Its host; a wildcard as the domain above its names.
    pub host: RuleHost<'a>,
    path: &'a str,
    methods: &'a [Box<str>],
    fields: &'a [Condition],
}

/// The host of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RuleHost<'a> {
    /// A name.
    Name(&'a Hostname),
    /// Every name below a domain.
    Below(&'a Hostname),
    /// Every host without rules of its own.
    Any,
}

impl<'a> From<&'a HostPattern> for RuleHost<'a> {
    fn from(pattern: &'a HostPattern) -> Self {
        match pattern {
            HostPattern::Exact(name) => Self::Name(name),
            HostPattern::Wildcard(domain) => Self::Below(domain),
        }
    }
}

/// A rule with what it is found by.
#[derive(Clone, Debug)]
struct Entry {
    scheme: Option<Scheme>,
    path: Box<str>,
    /// As upstreams that fold paths read it, where that is not the same.
    loose: Option<Box<[u8]>>,
    methods: Box<[Box<str>]>,
    fields: Box<[Condition]>,
    rule: Arc<Rule>,
}

/// What a lookup came to.
#[derive(Clone, Debug)]
pub enum Found<'t, 'p> {
    /// A rule.
    Rule(Matched<'t, 'p>),
    /// None.
    NoRule(NoRule),
    /// A path that is not taken.
    Refused(Refusal),
}

/// A rule, and how it was found.
#[derive(Clone, Debug)]
pub struct Matched<'t, 'p> {
    /// The rule.
    pub rule: &'t Arc<Rule>,
    /// The path, in the form in which it is passed on.
    pub path: Path<'p>,
    /// How many bytes of it are the rule's prefix.
    pub prefix_len: usize,
}

/// Why there is no rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRule {
    /// Nobody declared the host, and there are no rules for any host.
    UnknownHost,
    /// The request names no host, and there are no rules for any host.
    NoHost,
    /// The host has rules, but none for this scheme, path, method and fields.
    NoMatch,
}

impl NoRule {
    /// The word in logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::UnknownHost => "unknown_host",
            Self::NoHost => "no_host",
            Self::NoMatch => "no_match",
        }
    }
}

impl Table {
    /// Finds the rule of a request that came with TLS or without it.
    pub fn find<'p>(&self, scheme: Scheme, request: &Request<'p>) -> Found<'_, 'p> {
        let Request { host, target, .. } = *request;
        self.find_parts((scheme, host), target.path, request.method, request.fields)
    }

    /// Finds the rule of what a request consists of.
    pub fn find_parts<'p>(
        &self,
        (scheme, host): (Scheme, Option<Host<'_>>),
        path: &'p str,
        method: Method<'_>,
        fields: Fields<'_>,
    ) -> Found<'_, 'p> {
        let entries = match self.entries(host) {
            Ok(entries) => entries,
            Err(none) => return Found::NoRule(none),
        };
        let path = match Path::read(path) {
            Ok(path) => path,
            Err(refusal) => return Found::Refused(refusal),
        };
        let asked = (scheme, method, fields);
        let strict_path = path.as_str().as_bytes();
        let strict = select(entries, strict_path, asked, |entry| entry.path.as_bytes());
        if let Some(loose) = path.loose() {
            let other = select(entries, loose, asked, Entry::loose);
            let id = |entry: Option<&Entry>| entry.map(|entry| entry.rule.id);
            if id(other) != id(strict) {
                return Found::Refused(Refusal::AmbiguousPath);
            }
        }
        match strict {
            Some(entry) => Found::Rule(Matched {
                rule: &entry.rule,
                // A prefix with a slash at its end may be longer by it than the path that it takes.
                prefix_len: entry.path.len().min(strict_path.len()),
                path,
            }),
            None => Found::NoRule(NoRule::NoMatch),
        }
    }

    /// All rules, in no particular order.
    pub fn rules(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.placed().map(|placed| placed.rule)
    }

    /// Whether there is a rule with an id.
    pub fn has_rule(&self, id: RouteId) -> bool {
        self.ids.contains_key(&id)
    }

    /// All rules with what each is found by.
    pub fn placed(&self) -> impl Iterator<Item = Placed<'_>> {
        self.hosts().flat_map(|host| self.placed_at(host))
    }

    /// The hosts that have rules.
    pub fn hosts(&self) -> impl Iterator<Item = RuleHost<'_>> {
        let named = self.exact.keys().map(RuleHost::Name);
        let below = self.wildcard.keys().map(RuleHost::Below);
        let any = (!self.any.is_empty()).then_some(RuleHost::Any);
        named.chain(below).chain(any)
    }

    /// The rules that are declared for a host, with what each is found by.
    pub fn placed_at<'a>(&'a self, host: RuleHost<'a>) -> impl Iterator<Item = Placed<'a>> {
        let entries = self.declared(host).unwrap_or_default();
        entries.iter().map(move |entry| Placed {
            place: Place {
                host,
                path: &entry.path,
                methods: &entry.methods,
                fields: &entry.fields,
            },
            scheme: entry.scheme,
            rule: &entry.rule,
        })
    }

    /// The hosts that have other rules, or none any more, in a table `after` this one. Where that was built
    /// from nothing, these are all hosts of both.
    pub fn changed_hosts<'a>(&'a self, after: &'a Self) -> Vec<RuleHost<'a>> {
        let is_same = Arc::<[Entry]>::ptr_eq;
        let exact = self.exact.changes(&after.exact, is_same).into_iter();
        let wildcard = self.wildcard.changes(&after.wildcard, is_same).into_iter();
        let exact = exact.map(|Change { key, .. }| RuleHost::Name(key));
        let wildcard = wildcard.map(|Change { key, .. }| RuleHost::Below(key));
        let is_empty = self.any.is_empty() && after.any.is_empty();
        let any = (!is_empty && !is_same(&self.any, &after.any)).then_some(RuleHost::Any);
        exact.chain(wildcard).chain(any).collect()
    }

    /// The ids of the rules that a table `after` this one does not have.
    pub fn removed_rules(&self, after: &Self) -> Vec<RouteId> {
        let changes = self.ids.changes(&after.ids, |(), ()| true).into_iter();
        let gone = changes.filter(|change| change.after.is_none());
        gone.map(|change| *change.key).collect()
    }

    fn declared(&self, host: RuleHost<'_>) -> Option<&[Entry]> {
        match host {
            RuleHost::Name(name) => self.exact.get(name).map(|entries| &**entries),
            RuleHost::Below(domain) => self.wildcard.get(domain).map(|entries| &**entries),
            RuleHost::Any => Some(&self.any),
        }
    }

    /// What the pattern of the rules for a name, folded, ends with: the name itself, or the domain of the
    /// longest wildcard. `None` where only the rules for any host would have it.
    pub fn pattern_of<'n>(&self, name: &'n str) -> Option<&'n str> {
        if self.exact.contains_key(name) {
            return Some(name);
        }
        let mut parents = name.match_indices('.').map(|(dot, _)| &name[dot + 1..]);
        parents.find(|parent| self.wildcard.contains_key(*parent))
    }

    /// Whether any rule is declared for a name: by itself, or by a wildcard.
    pub fn has_host(&self, name: &str) -> bool {
        self.of_name(name).is_some()
    }

    /// The network whose rules decide the requests for a host, or for none: a host has the rules of
    /// one network only.
    pub fn owner(&self, host: Option<Host<'_>>) -> Option<NetworkId> {
        owner_of(self.entries(host).ok()?)
    }

    /// The network whose rules are declared for a name, by itself or by a wildcard.
    pub fn owner_of_name(&self, name: &str) -> Option<NetworkId> {
        owner_of(self.of_name(name)?)
    }

    fn entries(&self, host: Option<Host<'_>>) -> Result<&[Entry], NoRule> {
        let named = host
            .and_then(Host::folded)
            .and_then(|name| self.of_name(&name));
        match (named, self.any.is_empty()) {
            (Some(entries), _) => Ok(entries),
            (None, false) => Ok(&self.any),
            (None, true) if host.is_some() => Err(NoRule::UnknownHost),
            (None, true) => Err(NoRule::NoHost),
        }
    }

    fn of_name(&self, name: &str) -> Option<&[Entry]> {
        if let Some(entries) = self.exact.get(name) {
            return Some(entries);
        }
        if self.wildcard.is_empty() {
            return None;
        }
        let mut dots = name.match_indices('.');
        dots.find_map(|(dot, _)| self.wildcard.get(&name[dot + 1..]))
            .map(|entries| &**entries)
    }
}

fn owner_of(entries: &[Entry]) -> Option<NetworkId> {
    entries.first().map(|entry| entry.rule.route.network.id)
}

/// What entries are compared with beside the path.
type Asked<'a> = (Scheme, Method<'a>, Fields<'a>);

/// The first of the entries, most specific first, that takes a request for a path.
fn select<'e>(
    entries: &'e [Entry],
    path: &[u8],
    asked: Asked<'_>,
    prefix: impl Fn(&Entry) -> &[u8],
) -> Option<&'e Entry> {
    let first = first_of(entries, asked, |entry| is_below(path, prefix(entry)));
    if path.ends_with(b"/") || first.is_some_and(|entry| prefix(entry) == path) {
        return first;
    }
    // Upstreams answer a path without its slash as the directory, or lead there: no other rule may.
    let as_directory = |entry: &Entry| prefix(entry).strip_suffix(b"/") == Some(path);
    first_of(entries, asked, as_directory).or(first)
}

/// The first of the entries whose path is right and that takes a request. HEAD is what GET would
/// be (RFC 9110 section 9.3.2): a rule for GET takes it, but leaves it to one as specific that
/// names it.
fn first_of<'e>(
    entries: &'e [Entry],
    asked: Asked<'_>,
    is_right: impl Fn(&Entry) -> bool,
) -> Option<&'e Entry> {
    let mut fitting = entries
        .iter()
        .filter(|entry| is_right(entry) && entry.takes(asked));
    let first = fitting.next()?;
    let (_, method, _) = asked;
    if first.names(method) {
        return Some(first);
    }
    let named = fitting
        .take_while(|entry| entry.rank() == first.rank())
        .find(|entry| entry.names(method));
    named.or(Some(first))
}

impl Entry {
    fn loose(&self) -> &[u8] {
        self.loose.as_deref().unwrap_or(self.path.as_bytes())
    }

    /// How specific it is: by its path, then by its conditions.
    fn rank(&self) -> (usize, usize) {
        let others = [self.scheme.is_some(), !self.methods.is_empty()];
        let others = others.iter().filter(|declared| **declared).count();
        (self.path.len(), self.fields.len() + others)
    }

    fn takes(&self, (scheme, method, fields): Asked<'_>) -> bool {
        self.scheme.is_none_or(|own| own == scheme)
            && (self.names(method) || method == Method::Head && self.names(Method::Get))
            && self.fields.iter().all(|condition| condition.holds(fields))
    }

    /// Whether it is for a method, and not only for one that includes it.
    fn names(&self, method: Method<'_>) -> bool {
        let methods = &self.methods;
        methods.is_empty() || methods.iter().any(|it| **it == *method.as_str())
    }
}

/// Whether a path is a prefix or lies below it: `/a` holds `/a` and `/a/b`, and not `/ab`. What
/// asks for the server as a whole (`*`) lies below the root alone.
fn is_below(path: &[u8], prefix: &[u8]) -> bool {
    if path == b"*" {
        return prefix == b"/";
    }
    path.strip_prefix(prefix)
        .is_some_and(|rest| prefix.ends_with(b"/") || matches!(rest, [] | [b'/', ..]))
}
