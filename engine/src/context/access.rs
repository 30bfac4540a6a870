//! What a publication changes of who is let in: requests that last are judged by it, too.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use ahash::RandomState;
use engine_core::{hostname::Hostname, ids::RouteId};
use engine_http::{
    method::Scheme,
    rules::{Place, Placed, Rule, RuleHost},
};
use engine_tls::policy::MinVersion;

use crate::context::{
    live::Admission,
    snapshot::Published,
    tls::{Asked, Tls},
};

/// The rules that let other clients in than before.
#[derive(Debug, Default)]
pub(crate) struct AccessChanges(HashMap<RouteId, Change, RandomState>);

#[derive(Debug)]
struct Change {
    /// As it is now.
    rule: Arc<Rule>,
    /// It asks for other names and passwords. Those that were given are not kept.
    auth: bool,
    /// Its host asks TLS clients otherwise who they are.
    clients: bool,
    /// The oldest version of TLS that its host speaks now.
    version: MinVersion,
    /// It took requests without TLS, too, and its host asks of TLS what they do not have.
    tls_alone: bool,
}

impl AccessChanges {
    /// What is different after a publication. A rule that is gone has let its requests in, and they
    /// go on, unless it stayed for requests with TLS alone.
    pub(crate) fn between(before: &Published, after: &Published) -> Self {
        let hosts = changed_hosts(before, after);
        let placed = hosts.iter().flat_map(|host| after.http.placed_at(*host));
        let now: HashMap<RouteId, Placed<'_>, RandomState> =
            placed.map(|it| (it.rule.id, it)).collect();
        let of_tls = now.values().filter(|it| it.scheme == Some(Scheme::Https));
        let of_tls: HashMap<Place<'_>, Placed<'_>, RandomState> =
            of_tls.map(|it| (it.place, *it)).collect();
        let mut changes = Self::default();
        let placed = hosts.iter().flat_map(|host| before.http.placed_at(*host));
        for old in placed {
            let stayed = now.get(&old.rule.id);
            let narrowed = || of_tls.get(&old.place).filter(|_| old.scheme.is_none());
            if let Some(new) = stayed.or_else(narrowed)
                && let Some(mut change) = change((&old, &before.tls), (new, &after.tls))
            {
                change.tls_alone &= old.scheme != new.scheme;
                changes.0.insert(old.rule.id, change);
            }
        }
        changes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a request that was let in would not be now.
    pub(crate) fn revoke(&self, admission: Admission) -> bool {
        let Some(change) = self.0.get(&admission.rule) else {
            return false;
        };
        let is_outdated = |version| change.clients || version < change.version;
        change.auth
            || admission.tls.map_or(change.tls_alone, is_outdated)
            || !change.rule.policy.lets_in(admission.client)
    }
}

/// The hosts that have other rules than before, or whose TLS ends otherwise. Only where that of a wildcard, or
/// of what nobody declared, is another are all hosts gone through.
fn changed_hosts<'a>(before: &'a Published, after: &'a Published) -> HashSet<RuleHost<'a>> {
    let rules = before.http.changed_hosts(&after.http);
    let mut hosts: HashSet<RuleHost<'_>> = rules.into_iter().collect();
    let tls = before.tls.changed_hosts(&after.tls);
    hosts.extend(tls.names.into_iter().map(RuleHost::Name));
    if tls.others {
        hosts.extend(after.http.hosts());
    } else if !tls.domains.is_empty() {
        let domains: HashSet<&str> = tls.domains.into_iter().map(Hostname::as_str).collect();
        let is_below = |host: &RuleHost<'_>| match host {
            RuleHost::Name(name) => name.parents().any(|it| domains.contains(it)),
            RuleHost::Below(domain) => {
                domains.contains(domain.as_str()) || domain.parents().any(|it| domains.contains(it))
            }
            RuleHost::Any => false,
        };
        hosts.extend(after.http.hosts().filter(is_below));
    }
    hosts
}

type Side<'a> = (&'a Placed<'a>, &'a Tls);

fn change((old, old_tls): Side<'_>, (new, tls): Side<'_>) -> Option<Change> {
    let (old_policy, policy) = (&old.rule.policy, &new.rule.policy);
    let terms = |tls: &Tls, host| {
        let termination = tls.of_host(asked(host));
        termination.and_then(|it| it.terms().cloned())
    };
    let (old_terms, terms) = (terms(old_tls, old.place.host), terms(tls, new.place.host));
    let auth = old_policy.auth != policy.auth;
    let (clients, version) = match (&old_terms, &terms) {
        (Some(old), Some(new)) => {
            let (old, new) = (old.policy(), new.policy());
            (old.clients != new.clients, new.version)
        }
        // No TLS ended here before, or none of it can now.
        (_, None) => (old_terms.is_some(), MinVersion::default()),
        (None, Some(new)) => (false, new.policy().version),
    };
    let is_newer = old_terms.is_some_and(|old| old.policy().version < version);
    let lists = old_policy.allow != policy.allow || old_policy.deny != policy.deny;
    (auth || clients || is_newer || lists).then(|| Change {
        rule: Arc::clone(new.rule),
        auth,
        clients,
        version,
        tls_alone: clients || is_newer,
    })
}

fn asked(host: RuleHost<'_>) -> Asked<'_> {
    match host {
        RuleHost::Name(name) => Asked::Name(name),
        RuleHost::Below(domain) => Asked::Below(domain),
        RuleHost::Any => Asked::Others,
    }
}
