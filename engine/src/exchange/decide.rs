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
    forward::{Client, Forwarding, Outgoing, write_request},
    method::Version,
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
        open::Dispatch,
        trace::RequestTrace,
        websocket,
    },
};

/// What is done with a request.
pub(crate) enum Decision<'a> {
    /// It is passed on.
    Pass {
        plan: Plan<'a>,
        /// Its head, as the upstream gets it.
        head: Vec<u8>,
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

/// Room for what the gateway adds to a head.
const HEAD_GROWTH: usize = 512;

/// Decides what is done with a request.
pub(crate) fn decide<'a>(input: DecideInput<'a>, request: &Request<'_>) -> Decision<'a> {
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
            let path = (found.path.as_str(), found.prefix_len);
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

/// What is done with a request for a host that nobody declared: the listener's default has it.
fn undeclared<'a>(input: DecideInput<'a>, request: &Request<'_>, origin: &Origin) -> Decision<'a> {
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
    match published.snapshot.route(connection.id, None) {
        Ok(route) if is_anothers(input, request, route) => refused(Outcome::Misdirected, None),
        // What a path may not be, it may not be here either.
        Ok(route) => match Path::read(request.target.path) {
            Ok(path) => {
                let path = (path.as_str(), 0);
                pass(input, request, (route, &PLAIN), path, origin)
            }
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
fn let_in<'a>(
    input: DecideInput<'a>,
    request: &Request<'_>,
    rule: &Rule,
    origin: &Origin,
) -> Option<Decision<'a>> {
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

fn pass<'a>(
    input: DecideInput<'a>,
    request: &Request<'_>,
    (route, policy): (&'a Arc<Route>, &'a Policy),
    (path, matched): (&str, usize),
    origin: &Origin,
) -> Decision<'a> {
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
        head: head(input, request, policy, (path, matched), origin),
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

/// The head as the upstream gets it.
fn head(
    input: DecideInput<'_>,
    request: &Request<'_>,
    policy: &Policy,
    (path, matched): (&str, usize),
    origin: &Origin,
) -> Vec<u8> {
    let DecideInput {
        client_info,
        responder,
        ..
    } = input;
    let made = origin.parent.filter(|(_, is_given)| !is_given);
    let made = made.map(|(parent, _)| parent.encode());
    let vouched = client_info
        .tls_info
        .as_ref()
        .map(|tls_info| tls_info.vouched());
    let vouched: Vec<_> = vouched
        .unwrap_or_default()
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let forwarding = Forwarding {
        client: &client_info.client,
        real: &origin.client,
        local: client_info.local,
        scheme: client_info.scheme,
        trusted: client_info.is_trusted,
        request_id: responder.id(),
        traceparent: made
            .as_ref()
            .and_then(|made| std::str::from_utf8(made).ok()),
        vouched: &vouched,
    };
    let opens_websocket = request.version == Version::Http2
        && request
            .upgrade
            .is_some_and(|upgrade| upgrade.is_websocket());
    let websocket_key = opens_websocket.then(websocket::key);
    let outgoing = Outgoing {
        path,
        matched,
        rewrite: &policy.rewrite,
        edits: &policy.request_edits,
        framing: request.framing,
        expect: true,
        keep_alive: true,
        websocket_key: websocket_key.as_deref(),
    };
    let mut head = Vec::with_capacity(request.head_len + HEAD_GROWTH);
    write_request(request, &forwarding, &outgoing, &mut head);
    head
}
