//! What is done with a request: found out from its head, before anything of it is passed on.

use std::sync::{Arc, LazyLock};

use engine_core::{
    outcome::Outcome,
    snapshot::{NoRoute, Route},
};
use engine_http::{
    facts::Framing,
    forward::{Forwarding, Outgoing, write_request},
    method::Scheme,
    request::Request,
    response::Asked,
    rules::{Action, Found, NoRule, Policy},
};

use super::{
    Visitor,
    answer::{Asker, Own},
    exchange::Plan,
};
use crate::{connection::Connection, worker::Published};

/// What is done with a request.
pub(super) enum Decision<'a> {
    /// It is passed on.
    Pass {
        plan: Plan<'a>,
        /// Its head, as the upstream gets it.
        head: Vec<u8>,
        route: &'a Arc<Route>,
    },
    /// The gateway answers it.
    Answer { own: Own, outcome: Outcome },
}

/// How requests are treated that no rule says anything of.
static PLAIN: LazyLock<Policy> = LazyLock::new(Policy::default);

/// Room for what the gateway adds to a head.
const HEAD_GROWTH: usize = 512;

/// Decides what is done with a request.
pub(super) fn decide<'a>(
    connection: &Connection<'_>,
    visitor: &Visitor,
    published: &'a Published,
    request: &Request<'_>,
    asker: &'a Asker,
) -> Decision<'a> {
    let refused = |outcome, refusal| Decision::Answer {
        own: asker.failed(outcome, refusal),
        outcome,
    };
    if let (Some(secured), Some(host)) = (&visitor.secured, request.host)
        && !secured.carries(host, published)
    {
        return refused(Outcome::Misdirected, None);
    }
    match published.http.find(request) {
        Found::Rule(found) => {
            let policy = &found.rule.policy;
            let client = visitor.client.address().ip();
            if let Err(denied) = policy.admit(client, request.fields) {
                return Decision::Answer {
                    own: asker.denied(denied, policy),
                    outcome: Outcome::Denied,
                };
            }
            let own = match &found.rule.action {
                Action::Proxy => {
                    let path = (found.path.as_str(), found.prefix_len);
                    let route = &found.rule.route;
                    return pass((connection, visitor), request, asker, (route, policy), path);
                }
                Action::Redirect(redirect) => asker.redirected(redirect, request),
                Action::Maintenance => asker.maintained(),
            };
            let outcome = Outcome::Done;
            Decision::Answer { own, outcome }
        }
        Found::Refused(refusal) => refused(Outcome::BadRequest, Some(refusal)),
        Found::NoRule(NoRule::NoMatch) => refused(Outcome::NoRoute, None),
        Found::NoRule(NoRule::UnknownHost | NoRule::NoHost) => {
            match published.snapshot.route(connection.id, None) {
                Ok(route) => {
                    let path = (request.target.path, 0);
                    pass((connection, visitor), request, asker, (route, &PLAIN), path)
                }
                Err(NoRoute::UnknownName | NoRoute::NoName) if request.host.is_some() => {
                    refused(Outcome::UnknownName, None)
                }
                Err(_) => refused(Outcome::NoName, None),
            }
        }
    }
}

fn pass<'a>(
    (connection, visitor): (&Connection<'_>, &Visitor),
    request: &Request<'_>,
    asker: &'a Asker,
    (route, policy): (&'a Arc<Route>, &'a Policy),
    (path, matched): (&str, usize),
) -> Decision<'a> {
    let content_max = policy.body_max.unwrap_or(u64::MAX);
    if matches!(request.framing, Framing::Length(length) if length > content_max) {
        return Decision::Answer {
            own: asker.failed(Outcome::TooLarge, None),
            outcome: Outcome::TooLarge,
        };
    }
    let vouched = visitor.secured.as_ref().map(|secured| secured.vouched());
    let vouched: Vec<_> = vouched
        .unwrap_or_default()
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let forwarding = Forwarding {
        client: &visitor.client,
        local: visitor.local,
        scheme: visitor.scheme,
        trusted: visitor.is_trusted,
        request_id: asker.id(),
        traceparent: None,
        vouched: &vouched,
    };
    let outgoing = Outgoing {
        path,
        matched,
        rewrite: &policy.rewrite,
        edits: &policy.request_edits,
        framing: request.framing,
        expect: true,
        keep_alive: true,
        websocket_key: None,
    };
    let mut head = Vec::with_capacity(request.head_len + HEAD_GROWTH);
    write_request(request, &forwarding, &outgoing, &mut head);
    let has_content = !matches!(request.framing, Framing::None | Framing::Length(0));
    let answer_timeout = policy.timeouts.answer;
    Decision::Pass {
        plan: Plan {
            asked: Asked::by(request),
            version: request.version,
            framing: request.framing,
            keep_alive: request.keep_alive,
            is_repeatable: request.method.is_idempotent() && !has_content,
            request_id: asker.id(),
            response_edits: &policy.response_edits,
            hsts: match visitor.scheme {
                Scheme::Http => None,
                Scheme::Https => policy.hsts.as_deref(),
            },
            content_max,
            answer_timeout: answer_timeout.unwrap_or(connection.listener.answer_timeout),
        },
        head,
        route,
    }
}
