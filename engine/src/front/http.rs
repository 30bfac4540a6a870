//! HTTP/1 on a listener: the requests of a connection, one after the other.
//!
//! ```text
//!   head ► decide ► admit ► exchange ► account ─┐
//!    ▲                                          │
//!    └─────────────── the next ◄────────────────┘
//! ```
//!
//! What heads mean, and what may be passed on, is engine-http's to say; here bytes move. A request
//! is only ever passed on as a whole that was understood: its head is written anew, its content is
//! measured or framed anew.

use std::{io, mem, os::fd::AsFd, rc::Rc, sync::Arc, time::Instant};

use engine_core::{destination::Destination, outcome::Outcome, snapshot::Route};
use engine_http::{
    answer::Pages,
    forward::Client,
    limits::Limits,
    method::{Method, Scheme},
    reading::Reading,
    request,
    scan::Scan,
};
use engine_sys::socket;

use crate::{
    context::{FlowContext, account::ListenerTally, admit::admit_request},
    exchange::{
        Arrival, Exchange, Exchanged, Plan,
        answer::{LocalReply, Responder},
        client_info::{ClientInfo, trusts},
        connection::Connection,
        decide::{DecideInput, Decision, decide},
        exchange,
        head::RequestHead,
        open::Dispatch,
        tls_info::TlsInfo,
        trace::RequestTrace,
    },
    front::http2,
    transport::{
        http2::PREFACE,
        linger::{Linger, delivered, linger},
        read_ahead::ReadAhead,
        received::Endpoints,
        streams::Parting,
    },
};

/// What follows a request.
enum Next {
    /// Another one may.
    Request,
    /// The end of the connection.
    End(Outcome, Closing),
}

/// How a client's connection is closed. It is when its last request is accounted, and nothing of it is kept.
#[derive(Clone, Copy, Debug)]
enum Closing {
    /// At once.
    AtOnce,
    /// When it has taken a whole response, and gone.
    Linger(Linger),
    /// When it has what came of a response, and sees by length or chunks that something is missing.
    BreakOff,
    /// The same, but it takes the end of the connection for that of the response: it has to see another
    /// end.
    Cut,
}

/// Serves the requests of a connection until one of both sides has had enough. They begin with
/// `ahead`.
pub(crate) async fn serve(
    connection: &Connection<'_>,
    mut ahead: ReadAhead,
    endpoints: Endpoints,
    tls_info: Option<Box<TlsInfo>>,
) -> Result<Outcome, Outcome> {
    let client = Client::new(endpoints.client);
    let local = || socket::local_address(connection.streams.client.socket().as_fd());
    let client_info = ClientInfo {
        client,
        endpoints,
        local: endpoints
            .dialed
            .map_or_else(local, Ok)
            .unwrap_or(endpoints.client),
        scheme: match tls_info {
            Some(_) => Scheme::Https,
            None => Scheme::Http,
        },
        is_trusted: trusts(connection.listener, client.address().ip()),
        tls_info,
    };
    let mut is_first = true;
    loop {
        await_request(connection, &mut ahead, is_first).await?;
        // Apart, and only where it may be: a connection that rests is no larger for it.
        if is_first && may_be_http2(&ahead) && Box::pin(is_http2(connection, &mut ahead)).await? {
            return Box::pin(http2::serve(connection, client_info, ahead)).await;
        }
        is_first = false;
        // Apart, so that a connection that waits for its next request is small.
        match Box::pin(serve_request(connection, &client_info, &mut ahead)).await {
            Next::Request => {}
            Next::End(outcome, closing) => {
                Box::pin(part(connection, closing)).await;
                return Ok(outcome);
            }
        }
    }
}

/// Parts from a client.
async fn part(connection: &Connection<'_>, closing: Closing) {
    let parting = match closing {
        Closing::AtOnce => return,
        Closing::Linger(bounds) => {
            linger(connection, bounds).await;
            Parting::InOrder
        }
        Closing::BreakOff => {
            linger(connection, Linger::LONG).await;
            Parting::InOrder
        }
        Closing::Cut => {
            delivered(connection).await;
            Parting::Cut
        }
    };
    connection.streams.parting.set(parting);
}

/// Waits until the next request has begun.
async fn await_request(
    connection: &Connection<'_>,
    ahead: &mut ReadAhead,
    is_first: bool,
) -> Result<(), Outcome> {
    let FlowContext {
        worker,
        listener,
        slot,
        ..
    } = connection.flow;
    let streams = connection.streams;
    let patience = match is_first {
        true => listener.hello_timeout,
        false => listener.keep_alive_timeout,
    };
    slot.watch_idle(&worker.live, patience);
    slot.rests(!is_first);
    // The first request often came while its connection waited to be accepted.
    let mut may_be_there = is_first;
    while ahead.is_empty() {
        if !is_first && worker.is_stopped() {
            return Err(Outcome::Done);
        }
        if !mem::take(&mut may_be_there) {
            let readable = streams.client.readable().await;
            readable.map_err(|_| Outcome::GatewayError)?;
        }
        match ahead.receive(worker, &streams.client) {
            Ok(0) if is_first => return Err(Outcome::HelloEof),
            Ok(0) => return Err(Outcome::Done),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // Between requests a reset is only a rude end.
            Err(_) if !is_first => return Err(Outcome::Done),
            Err(_) => return Err(Outcome::ClientReset),
        }
    }
    slot.rests(false);
    slot.watch_idle(&worker.live, listener.idle_timeout);
    Ok(())
}

/// Whether what came so far may be the begin of HTTP/2's preface.
fn may_be_http2(ahead: &ReadAhead) -> bool {
    let unused = ahead.unused();
    unused.starts_with(PREFACE) || PREFACE.starts_with(unused)
}

/// Whether the client speaks HTTP/2 without asking first (RFC 9113 section 3.3).
async fn is_http2(connection: &Connection<'_>, ahead: &mut ReadAhead) -> Result<bool, Outcome> {
    let begun = Instant::now();
    loop {
        if !may_be_http2(ahead) {
            return Ok(false);
        }
        if ahead.unused().len() >= PREFACE.len() {
            return Ok(true);
        }
        receive_head(connection, ahead, begun).await?;
    }
}

/// Counts a head that is none, and has its record say why.
fn count_refused(
    connection: &Connection<'_>,
    trace: &RequestTrace<'_>,
    refusal: engine_http::refusal::Refusal,
) {
    let ledger = &connection.worker.ledger;
    ledger.count_listener(connection.listener.id, |tally| {
        tally.refusals[refusal.index()] += 1;
    });
    trace.reason.set(Some(refusal.label()));
}

async fn serve_request(
    connection: &Connection<'_>,
    client_info: &ClientInfo,
    ahead: &mut ReadAhead,
) -> Next {
    let worker = connection.worker;
    let began = Instant::now();
    let trace = RequestTrace::new(connection, client_info.endpoints.client, began);
    let mut scan = Scan::default();
    let request = loop {
        let refused = match request::read(ahead.unused(), limits(connection), &mut scan) {
            Reading::Head(request) => break request,
            Reading::Refused(refusal) => {
                count_refused(connection, &trace, refusal);
                Some((Outcome::BadRequest, Some(refusal)))
            }
            Reading::NeedMore => match receive_head(connection, ahead, began).await {
                Ok(()) => None,
                Err(Outcome::HelloTimeout) => Some((Outcome::HelloTimeout, None)),
                Err(outcome) => return end(&trace, outcome),
            },
        };
        if let Some((outcome, refusal)) = refused {
            let responder = Responder::unread(worker, false);
            trace.learn_id(responder.id());
            let own = responder.failed(outcome, refusal, None);
            return answer(connection, &trace, &own, outcome).await;
        }
    };
    let current = worker.current();
    let head_len = request.head_len;
    let id = client_info
        .trusted_id(&request)
        .unwrap_or_else(|| worker.next_request_id());
    let responder = Responder::of(&request, id, worker);
    if let Some(proof) = proof(connection, &request) {
        let own = responder.proved(&proof);
        ahead.consume(head_len);
        return answer(connection, &trace, &own, Outcome::Done).await;
    }
    let input = DecideInput {
        connection,
        client_info,
        published: &current.0,
        responder: &responder,
        trace: &trace,
    };
    match decide(input, &request) {
        Decision::Pass {
            plan,
            head,
            route,
            dispatch,
        } => {
            // The head is written from these bytes, once for each attempt.
            let mut following = ahead.behind(head_len);
            let passing = Passing {
                trace: &trace,
                responder: &responder,
                plan: &plan,
                head: &head,
            };
            let next = pass_on(connection, passing, (route, dispatch), &mut following).await;
            *ahead = following;
            next
        }
        Decision::Answer { own, outcome } => {
            ahead.consume(head_len);
            answer(connection, &trace, &own, outcome).await
        }
    }
}

/// A request that is passed on.
struct Passing<'a> {
    trace: &'a RequestTrace<'a>,
    responder: &'a Responder,
    plan: &'a Plan<'a>,
    head: &'a RequestHead<'a>,
}

/// Passes a request on, if its route has room for it.
async fn pass_on<'a>(
    connection: &'a Connection<'_>,
    passing: Passing<'a>,
    (route, dispatch): (&Arc<Route>, Dispatch<'a>),
    ahead: &mut ReadAhead,
) -> Next {
    let Passing {
        trace,
        responder,
        plan,
        head,
    } = passing;
    let pages = plan.policy.pages.as_deref();
    let resolved = dispatch.resolve(connection).await;
    let permit = match admit_request(connection, Destination::Route(route)) {
        Ok(permit) => permit,
        Err(outcome) => {
            trace.routed(connection.worker.ledger.route(route));
            let own = responder.failed(outcome, None, pages);
            return answer(connection, trace, &own, outcome).await;
        }
    };
    trace.routed(Rc::clone(&permit.route));
    trace.admitted();
    let work = Exchange {
        connection,
        permit: &permit,
        resolved: &resolved,
        dispatch,
        plan,
        trace,
    };
    let exchanged = exchange(&work, head, &mut Arrival::Connection(ahead)).await;
    // Such a client sends no more (RFC 9112 section 9.6). Unread bytes would make a reset of the close.
    let client = &connection.streams.client;
    let is_last = !plan.keep_alive && plan.has_no_content() && ahead.is_empty();
    let closing = match plan.has_no_content() {
        true if is_last && client.as_plain().is_some() && client.is_quiet() => Closing::AtOnce,
        true => Closing::Linger(Linger::SHORT),
        false => Closing::Linger(Linger::LONG),
    };
    finish(connection, (responder, pages), trace, (&exchanged, closing)).await
}

/// What is answered to an ACME directory, before any rule.
fn proof(connection: &Connection<'_>, request: &request::Request<'_>) -> Option<Arc<str>> {
    if !matches!(request.method, Method::Get | Method::Head) {
        return None;
    }
    let challenges = &connection.worker.shared.challenges;
    challenges.find(request.host?.text(), request.target.path)
}

/// Ends a request, and answers it where nobody has begun to. `closing` is for after a whole response.
async fn finish(
    connection: &Connection<'_>,
    (responder, pages): (&Responder, Option<&Pages>),
    trace: &RequestTrace<'_>,
    (exchanged, closing): (&Exchanged, Closing),
) -> Next {
    let outcome = exchanged.outcome;
    if let Some(refusal) = exchanged.refusal {
        let count = |tally: &mut ListenerTally| tally.refusals[refusal.index()] += 1;
        connection
            .worker
            .ledger
            .count_listener(connection.listener.id, count);
        trace.reason.set(Some(refusal.label()));
    }
    if trace.status.get().is_none() && outcome != Outcome::ClientReset {
        let own = responder.failed(outcome, exchanged.refusal, pages);
        return answer(connection, trace, &own, outcome).await;
    }
    trace.outcome.set(Some(outcome));
    if exchanged.goes_on {
        return Next::Request;
    }
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "all others end in the middle"
    )]
    let closing = match outcome {
        Outcome::Done => closing,
        Outcome::ClientReset => Closing::AtOnce,
        _ if trace.ends_by_close.get() => Closing::Cut,
        _ => Closing::BreakOff,
    };
    Next::End(outcome, closing)
}

/// Answers a request by itself.
async fn answer(
    connection: &Connection<'_>,
    trace: &RequestTrace<'_>,
    own: &LocalReply,
    outcome: Outcome,
) -> Next {
    trace.status.set(Some(own.status()));
    if own.send(connection).await.is_err() {
        return end(trace, Outcome::ClientReset);
    }
    trace.outcome.set(Some(outcome));
    if own.keeps_alive() {
        return Next::Request;
    }
    Next::End(outcome, Closing::Linger(Linger::LONG))
}

/// Ends a request that nobody is there to get an answer to.
fn end(trace: &RequestTrace<'_>, outcome: Outcome) -> Next {
    trace.outcome.set(Some(outcome));
    Next::End(outcome, Closing::AtOnce)
}

/// Receives more of a head that has begun.
async fn receive_head(
    connection: &Connection<'_>,
    ahead: &mut ReadAhead,
    begun: Instant,
) -> Result<(), Outcome> {
    let FlowContext {
        worker,
        listener,
        slot,
        ..
    } = connection.flow;
    let streams = connection.streams;
    loop {
        match ahead.receive(worker, &streams.client) {
            Ok(0) => return Err(Outcome::Truncated),
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Err(Outcome::ClientReset),
        }
        let patience = listener.hello_timeout.saturating_sub(begun.elapsed());
        if patience.is_zero() {
            return Err(Outcome::HelloTimeout);
        }
        let readable = streams.client.readable();
        match slot.within(&worker.live, patience, readable).await {
            Ok(readable) => readable.map_err(|_| Outcome::GatewayError)?,
            Err(_) => return Err(Outcome::HelloTimeout),
        }
    }
}

fn limits<'a>(connection: &'a Connection<'_>) -> &'a Limits {
    &connection.worker.shared.limits.http_head
}

#[cfg(test)]
pub(crate) mod tests;
