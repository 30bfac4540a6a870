//! What is done with a request: found out from its head, before anything of it is passed on.

use std::{
    rc::Rc,
    sync::{Arc, LazyLock},
};

use engine_core::{
    balance::Balance,
    outcome::Outcome,
    snapshot::{NoRoute, Route},
};
use engine_http::{
    balance,
    facts::Framing,
    forward::Client,
    host::Host,
    path::Path,
    request::Request,
    response::Asked,
    retry::Safety,
    rules::{Action, Found, NoRule, Policy, Rule},
    trace::TraceParent,
};

use crate::{
    context::{live::Admission, snapshot::Published, tls::Speech},
    exchange::{
        Plan,
        answer::{LocalReply, Responder},
        client_info::ClientInfo,
        connection::Connection,
        head::RequestHead,
        open::Dispatch,
        trace::RequestTrace,
    },
};

/// What is done with a request.
#[allow(
    clippy::large_enum_variant,
    reason = "it is taken apart as soon as it is made"
)]
pub(crate) enum Decision<'a, 'r> {
    /// It is passed on.
    Pass {
        plan: Plan<'a>,
        /// Its head, which the upstream is to get.
        head: RequestHead<'r>,
        /// The route that leads there. The trace has its counters once it is admitted.
        route: &'a Arc<Route>,
        dispatch: Dispatch<'a>,
    },
    /// The gateway answers it.
    Answer { own: LocalReply, outcome: Outcome },
}

/// What a request is decided with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DecideInput<'a> {
    pub(crate) connection: &'a Connection<'a>,
    pub(crate) client_info: &'a ClientInfo,
    pub(crate) published: &'a Published,
    pub(crate) responder: &'a Responder,
    pub(crate) trace: &'a RequestTrace<'a>,
}

/// Where a request comes from.
struct Origin {
    /// Whose it is, behind proxies that are trusted.
    client: Client,
    /// The trace that it belongs to, and whether the client said so.
    parent: Option<(TraceParent, bool)>,
}

/// How requests are treated that no rule says anything of.
static PLAIN: LazyLock<Policy> = LazyLock::new(Policy::default);

/// Decides what is done with a request.
pub(crate) fn decide<'a: 'r, 'r>(
    input: DecideInput<'a>,
    request: &'r Request<'r>,
) -> Decision<'a, 'r> {
    let DecideInput {
        connection,
        client_info,
        published,
        responder,
        trace,
    } = input;
    let parent = parent_of(input, request);
    trace.learn(request, responder.id(), parent.map(|(parent, _)| parent));
    let origin = Origin {
        client: client_info.real_client(connection.listener, request),
        parent,
    };
    trace.learn_client(origin.client.address());
    let refused = |outcome, refusal| Decision::Answer {
        own: responder.failed(outcome, refusal, None),
        outcome,
    };
    if let Some(tls_info) = &client_info.tls_info
        && !tls_info.carries(request.host, published)
    {
        if tls_info.is_outdated() {
            responder.end_connection();
        }
        return refused(Outcome::Misdirected, None);
    }
    // What the request before was let in by says nothing of this one.
    connection.slot.admit(None);
    let only = connection.listener.network;
    if only.is_some() && published.http.owner(request.host) != only {
        let name = request.host.and_then(Host::folded);
        let owner = name.and_then(|name| published.http.owner_of_name(&name));
        // Over TLS the host's own clients would be led astray.
        if owner.is_some_and(|owner| Some(owner) != only) && client_info.tls_info.is_some() {
            return refused(Outcome::Misdirected, None);
        }
        return undeclared(input, request, &origin);
    }
    let found = match published.http.find(client_info.scheme, request) {
        Found::Rule(found) => found,
        Found::Refused(refusal) => return refused(Outcome::BadRequest, Some(refusal)),
        Found::NoRule(NoRule::NoMatch) => return refused(Outcome::NoRoute, None),
        Found::NoRule(NoRule::UnknownHost | NoRule::NoHost) => {
            return undeclared(input, request, &origin);
        }
    };
    let policy = &found.rule.policy;
    let pages = policy.pages.as_deref();
    let route = &found.rule.route;
    if is_anothers(input, request, route) {
        return refused(Outcome::Misdirected, None);
    }
    if let Some(denied) = let_in(input, request, found.rule, &origin) {
        return denied;
    }
    let (own, reason) = match &found.rule.action {
        Action::Proxy => {
            let path = (found.path, found.prefix_len);
            return pass(input, request, (route, policy), path, &origin);
        }
        Action::Redirect(redirect) => (responder.redirected(redirect, request), "redirect"),
        Action::Maintenance => (responder.maintained(pages), "maintenance"),
    };
    trace.routed(connection.worker.ledger.route(route));
    trace.reason.set(Some(reason));
    Decision::Answer {
        own,
        outcome: Outcome::Done,
    }
}

/// What is done with a request for a host that nobody declared whose names the listener serves: the
/// listener's default has it.
fn undeclared<'a: 'r, 'r>(
    input: DecideInput<'a>,
    request: &'r Request<'r>,
    origin: &Origin,
) -> Decision<'a, 'r> {
    let DecideInput {
        connection,
        published,
        responder,
        ..
    } = input;
    let refused = |outcome, refusal| Decision::Answer {
        own: responder.failed(outcome, refusal, None),
        outcome,
    };
    match published.snapshot.route(connection.listener.scope(), None) {
        Ok(route) if is_anothers(input, request, route) => refused(Outcome::Misdirected, None),
        // What a path may not be, it may not be here either.
        Ok(route) => match Path::read(request.target.path) {
            Ok(path) => pass(input, request, (route, &PLAIN), (path, 0), origin),
            Err(refusal) => refused(Outcome::BadRequest, Some(refusal)),
        },
        Err(NoRoute::UnknownName | NoRoute::NoName) if request.host.is_some() => {
            refused(Outcome::UnknownName, None)
        }
        Err(_) => refused(Outcome::NoName, None),
    }
}

/// Whether a request came over TLS for a host whose TLS another network has pass through.
fn is_anothers(input: DecideInput<'_>, request: &Request<'_>, route: &Route) -> bool {
    let is_of_another = |host| input.published.is_anothers(host, route.network.id);
    input.client_info.tls_info.is_some() && request.host.is_some_and(is_of_another)
}

/// Lets a request in, or gives what it is answered.
fn let_in<'a, 'r>(
    input: DecideInput<'a>,
    request: &Request<'_>,
    rule: &Rule,
    origin: &Origin,
) -> Option<Decision<'a, 'r>> {
    let DecideInput {
        connection,
        client_info,
        responder,
        trace,
        ..
    } = input;
    let (policy, client) = (&rule.policy, origin.client.address().ip());
    match policy.admit(client, request.fields) {
        Ok(user) => {
            if let Some(user) = user {
                trace.learn_user(user);
            }
            connection.slot.admit(Some(Admission {
                rule: rule.id,
                client,
                tls: client_info
                    .tls_info
                    .as_ref()
                    .map(|tls_info| tls_info.version()),
            }));
            None
        }
        Err(denied) => {
            trace.routed(connection.worker.ledger.route(&rule.route));
            trace.reason.set(Some(denied.label()));
            Some(Decision::Answer {
                own: responder.denied(denied, policy),
                outcome: Outcome::Denied,
            })
        }
    }
}

/// The trace that a request belongs to, and whether the client said so. Where requests are logged,
/// one that belongs to none begins one, so that its line and what upstreams record of it have a
/// name in common.
fn parent_of(input: DecideInput<'_>, request: &Request<'_>) -> Option<(TraceParent, bool)> {
    if !input.trace.is_logged() {
        return None;
    }
    let given = request.fields.first("traceparent");
    let made = || {
        let random = || input.connection.worker.rng.draw();
        let trace_id = u128::from(random()) << 64 | u128::from(random() | 1);
        let parent = TraceParent {
            trace_id: trace_id.to_be_bytes(),
            parent_id: (random() | 1).to_be_bytes(),
            sampled: false,
        };
        (parent, false)
    };
    let parsed = given.and_then(TraceParent::parse);
    Some(parsed.map_or_else(made, |parent| (parent, true)))
}

fn pass<'a: 'r, 'r>(
    input: DecideInput<'a>,
    request: &'r Request<'r>,
    (route, policy): (&'a Arc<Route>, &'a Policy),
    (path, matched): (Path<'r>, usize),
    origin: &Origin,
) -> Decision<'a, 'r> {
    let DecideInput {
        client_info,
        responder,
        ..
    } = input;
    let content_max = policy.body_max.unwrap_or(u64::MAX);
    if matches!(request.framing, Framing::Length(length) if length > content_max) {
        let worker = input.connection.worker;
        input.trace.routed(worker.ledger.route(route));
        let pages = policy.pages.as_deref();
        return Decision::Answer {
            own: responder.failed(Outcome::TooLarge, None, pages),
            outcome: Outcome::TooLarge,
        };
    }
    let client = origin.client.address().ip();
    let hashed = match &route.balance {
        Balance::Consistent(on) => balance::key(on, client, Some(request)),
        Balance::RoundRobin | Balance::LeastConnections | Balance::PowerOfTwo => 0,
    };
    let sticky = policy.sticky.as_ref();
    Decision::Pass {
        plan: Plan {
            asked: Asked::by(request),
            version: request.version,
            framing: request.framing,
            keep_alive: request.keep_alive,
            expects_continue: request.expects_continue,
            safety: Safety::of(request),
            request_id: responder.id(),
            policy,
            scheme: client_info.scheme,
        },
        head: RequestHead {
            request,
            client_info,
            real: origin.client,
            policy,
            request_id: responder.id(),
            begun: origin
                .parent
                .and_then(|(parent, is_given)| (!is_given).then_some(parent)),
            path,
            matched,
        },
        route,
        dispatch: Dispatch {
            published: input.published,
            route,
            policy,
            key: hashed,
            marked: sticky.and_then(|sticky| sticky.target(request.fields)),
            host: host_for(input.published, route, request),
            endpoints: client_info.endpoints,
            client,
        },
    }
}

/// The host that a target must prove to be, where no name was declared for the targets.
fn host_for(published: &Published, route: &Route, request: &Request<'_>) -> Option<Rc<str>> {
    let Some(Speech::As(origin)) = published.tls.origin(route.id) else {
        return None;
    };
    if !origin.is_named_by_requests() {
        return None;
    }
    request.host?.to_proved().map(Rc::from)
}
