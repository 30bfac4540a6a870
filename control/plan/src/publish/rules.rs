//! Rules of the state document as the engine decides by them.

use std::sync::Arc;

use control_api::state::{Route, route::HeaderEdits};
use engine_core::{
    endpoint::Endpoint,
    ids::{NetworkId, RouteId},
    snapshot::{self, Snapshot},
};
use engine_http::{
    answer::Pages,
    method::Scheme,
    rules::{Action, Match, Policy, Prefixes, Rule, Secure, Sticky, Table, TableBuilder},
};

/// A rule before its route is in a snapshot.
pub(super) struct Draft {
    pub(super) id: RouteId,
    pub(super) found_by: Match,
    pub(super) action: Action,
    pub(super) policy: Policy,
    /// Its route, where it leads to no target and so is not in the snapshot.
    pub(super) aside: Option<Arc<snapshot::Route>>,
}

/// The table with all these rules, over the routes of a snapshot.
///
/// # Errors
/// Everything that contradicts itself. A rule without its route is refused, too: left out, its
/// requests would go to a rule that says less of them.
pub(super) fn table(
    mut table: TableBuilder,
    drafts: Vec<Draft>,
    snapshot: &Snapshot,
) -> Result<Table, Vec<String>> {
    let mut lost = Vec::new();
    for draft in drafts {
        let Some(route) = draft.aside.or_else(|| snapshot.route_of(draft.id).cloned()) else {
            lost.push(format!("rule {} has no route", draft.id));
            continue;
        };
        let rule = Rule {
            id: draft.id,
            route,
            action: draft.action,
            policy: draft.policy.into(),
        };
        table.rule(draft.found_by, rule);
    }
    match (table.build(), lost.is_empty()) {
        (Ok(table), true) => Ok(table),
        (Ok(_), false) => Err(lost),
        (Err(errors), _) => {
            lost.extend(errors.iter().map(ToString::to_string));
            Err(lost)
        }
    }
}

/// What happens to the requests of a rule.
pub(super) fn action(route: &Route) -> Action {
    match &route.redirect {
        _ if route.maintenance => Action::Maintenance,
        // A value that was read has its passwords. Without them nobody is to be let in.
        _ if route
            .auth
            .as_ref()
            .is_some_and(|auth| auth.auth().is_none()) =>
        {
            Action::Maintenance
        }
        Some(redirect) => Action::Redirect(redirect.redirect()),
        None => Action::Proxy,
    }
}

/// How a rule treats its requests. `secret` is what the marks of its cookie are made with.
pub(super) fn policy(
    route: &Route,
    network: NetworkId,
    pages: Option<Arc<Pages>>,
    secret: &[u8; 32],
) -> Policy {
    let edits =
        |edits: &Option<HeaderEdits>| edits.as_ref().map(HeaderEdits::edits).unwrap_or_default();
    Policy {
        request_edits: edits(&route.request_headers),
        response_edits: edits(&route.response_headers),
        rewrite: route
            .rewrite
            .as_ref()
            .map(|rewrite| rewrite.rewrite())
            .unwrap_or_default(),
        timeouts: route
            .timeouts
            .as_ref()
            .map(|it| it.timeouts())
            .unwrap_or_default(),
        body_max: route.body_max.map(|max| max.bytes()),
        retries: route
            .retries
            .as_ref()
            .map(|it| it.retries())
            .unwrap_or_default(),
        auth: route.auth.as_ref().and_then(|auth| auth.auth()),
        allow: Prefixes::new(route.allow.iter().copied()),
        deny: Prefixes::new(route.deny.iter().copied()),
        sticky: sticky(route, network, secret),
        check: route.health.as_ref().map(|health| health.check_of()),
        ejection: route
            .ejection
            .as_ref()
            .map(|it| it.ejection())
            .unwrap_or_default(),
        hsts: route.hsts.as_ref().map(|hsts| hsts.to_string().into()),
        pages,
    }
}

fn sticky(route: &Route, network: NetworkId, secret: &[u8; 32]) -> Option<Sticky> {
    let (declared, to) = (route.sticky.as_ref()?, route.to.as_ref()?);
    let targets: Vec<Endpoint> = to
        .targets
        .iter()
        .map(|target| target.endpoint.clone())
        .collect();
    let secure = match route.scheme() {
        Some(Scheme::Https) => Secure::Yes,
        Some(Scheme::Http) | None => Secure::No,
    };
    let age = declared.max_age.map(|age| age.as_secs());
    // Its name was checked when it was read.
    Sticky::new(
        declared.cookie.as_str(),
        age,
        secure,
        secret,
        (network, &targets),
    )
    .ok()
}

#[cfg(test)]
mod tests;
