//! What a publication changes of who is let in: requests that last are judged by it, too.

use std::{collections::HashMap, sync::Arc};

use ahash::RandomState;
use engine_core::ids::RouteId;
use engine_http::rules::{Rule, RuleHost};
use engine_tls::policy::MinVersion;

use crate::{
    live::Admission,
    tls::{Asked, Tls},
    worker::Published,
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
}

impl AccessChanges {
    /// What is different after a publication. A rule that is gone has let its requests in, and they
    /// go on.
    pub(crate) fn between(before: &Published, after: &Published) -> Self {
        let mut old: HashMap<RouteId, (RuleHost<'_>, &Arc<Rule>), RandomState> = HashMap::default();
        let rules = before.http.rules_by_host();
        old.extend(rules.map(|(host, rule)| (rule.id, (host, rule))));
        let mut changes = Self::default();
        for (host, rule) in after.http.rules_by_host() {
            if let Some((old_host, old_rule)) = old.get(&rule.id)
                && let Some(change) =
                    change((*old_host, old_rule, &before.tls), (host, rule, &after.tls))
            {
                changes.0.insert(rule.id, change);
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
            || admission.tls.is_some_and(is_outdated)
            || !change.rule.policy.lets_in(admission.client)
    }
}

type Side<'a> = (RuleHost<'a>, &'a Arc<Rule>, &'a Tls);

fn change((old_host, old_rule, old_tls): Side<'_>, (host, rule, tls): Side<'_>) -> Option<Change> {
    let (old_policy, policy) = (&old_rule.policy, &rule.policy);
    let terms = |tls: &Tls, host| {
        let termination = tls.of_host(asked(host));
        termination.and_then(|it| it.terms().cloned())
    };
    let (old_terms, terms) = (terms(old_tls, old_host), terms(tls, host));
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
        rule: Arc::clone(rule),
        auth,
        clients,
        version,
    })
}

fn asked(host: RuleHost<'_>) -> Asked<'_> {
    match host {
        RuleHost::Name(name) => Asked::Name(name),
        RuleHost::Below(domain) => Asked::Below(domain),
        RuleHost::Any => Asked::Others,
    }
}
