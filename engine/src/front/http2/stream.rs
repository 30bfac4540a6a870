//! One request: a stream, from its head to its account.

use std::{cell::Cell, pin::pin, rc::Rc, time::Instant};

use bytes::Bytes;
use engine_core::{
    destination::Destination,
    outcome::{Fault, Outcome},
};
use engine_http::{refusal::Refusal, request::Request};
use h2::{Reason, RecvStream, server::SendResponse};

use crate::{
    context::{FlowContext, account::ListenerTally, admit::admit_request},
    exchange::{
        Arrival, Exchange,
        answer::{LocalReply, Responder},
        client_info::ClientInfo,
        connection::Connection,
        decide::{DecideInput, Decision, decide},
        exchange,
        http2::{
            body_copy::{Http2Source, Source},
            downstream::{Ending, Http2Downstream},
            heads,
        },
        trace::RequestTrace,
    },
    front::http2::session::Session,
    transport::{
        http2::held::Holding,
        streams::{ClientFlow, Streams},
    },
};

/// Serves one request. Every way that it can end is accounted here once.
pub(crate) async fn serve(
    session: Rc<Session>,
    request: http::Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let worker = &session.worker;
    let began = Instant::now();
    let place = worker.live.enter_stream();
    let streams = Streams::of(Rc::clone(&session.client));
    let connection = Connection {
        client: ClientFlow {
            flow: FlowContext {
                worker,
                listener: &session.listener,
                slot: place.slot(),
            },
            streams: &streams,
        },
        pools: &session.pools,
    };
    let holding = Holding::of(&session.held, respond.stream_id().as_u32());
    let downstream = Http2Downstream::new(respond, &session.left);
    // It accounts the request when it is dropped.
    let trace = RequestTrace::new(&connection, session.client_info.endpoints.client, began);
    let is_whole = Cell::new(false);
    let reason = Cell::new(None);
    let passing = Passing {
        connection: &connection,
        client_info: &session.client_info,
        downstream: &downstream,
        holding: &holding,
        trace: &trace,
        is_whole: &is_whole,
        reason: &reason,
    };
    let outcome = {
        let stages = pin!(passing.serve(request));
        place.supervise(stages).await
    };
    trace.outcome.set(Some(outcome));
    if !is_whole.get() {
        let reason = reason.get().unwrap_or(reason_of(outcome));
        session.reset(downstream, reason);
    }
}

/// A request on its way.
#[derive(Clone, Copy)]
struct Passing<'a> {
    connection: &'a Connection<'a>,
    client_info: &'a ClientInfo,
    downstream: &'a Http2Downstream,
    /// What is held of its content.
    holding: &'a Holding,
    trace: &'a RequestTrace<'a>,
    /// Set when the client has a whole response.
    is_whole: &'a Cell<bool>,
    /// How the stream ends otherwise, where the outcome does not say it.
    reason: &'a Cell<Option<Reason>>,
}

impl Passing<'_> {
    /// Reads the head, and answers what is none.
    async fn serve(&self, request: http::Request<RecvStream>) -> Result<Outcome, Outcome> {
        let FlowContext {
            worker,
            listener,
            slot,
            ..
        } = self.connection.flow;
        slot.watch_idle(&worker.live, listener.idle_timeout);
        let limits = &worker.shared.limits.http_head;
        let (parts, content) = request.into_parts();
        let lines = heads::lines(&parts.headers, limits);
        let read = match &lines {
            Ok(lines) => heads::request(&parts, lines, content.is_end_stream(), limits),
            Err(refusal) => Err(*refusal),
        };
        match read {
            Ok(request) => {
                let content = Http2Source {
                    stream: content,
                    holding: Some(self.holding),
                };
                self.pass(&request, content).await
            }
            Err(refusal) => {
                let is_head = parts.method == http::Method::HEAD;
                let responder = Responder::unread(worker, is_head);
                self.trace.learn_id(responder.id());
                self.refused(refusal);
                let own = responder.failed(Outcome::BadRequest, Some(refusal), None);
                let failed = (Outcome::BadRequest, Some(refusal));
                self.fail(&own, failed).await
            }
        }
    }

    /// Decides what is done with it, and does it.
    async fn pass(
        &self,
        request: &Request<'_>,
        content: Http2Source<'_>,
    ) -> Result<Outcome, Outcome> {
        let Self {
            connection,
            client_info,
            downstream,
            trace,
            ..
        } = *self;
        let worker = connection.worker;
        let id = client_info.trusted_id(request);
        let id = id.unwrap_or_else(|| worker.next_request_id());
        let responder = Responder::of(request, id, worker);
        let current = worker.current();
        let input = DecideInput {
            connection,
            client_info,
            published: &current.0,
            responder: &responder,
            trace,
        };
        let (plan, head, route, dispatch) = match decide(input, request) {
            Decision::Pass {
                plan,
                head,
                route,
                dispatch,
            } => (plan, head, route, dispatch),
            Decision::Answer { own, outcome } => {
                return self.answer(&own, outcome).await;
            }
        };
        let pages = plan.policy.pages.as_deref();
        let resolved = dispatch.resolve(connection).await;
        let permit = match admit_request(connection, Destination::Route(route)) {
            Ok(permit) => permit,
            Err(outcome) => {
                trace.routed(worker.ledger.route(route));
                let own = responder.failed(outcome, None, pages);
                return self.answer(&own, outcome).await;
            }
        };
        trace.routed(Rc::clone(&permit.route));
        trace.admitted();
        let work = Exchange {
            connection,
            permit: &permit,
            resolved: &resolved,
            dispatch,
            plan: &plan,
            trace,
        };
        let mut from = Arrival::Stream(downstream, Source::Http2(content));
        let exchanged = exchange(&work, &head, &mut from).await;
        let outcome = exchanged.outcome;
        if let Some(refusal) = exchanged.refusal {
            self.refused(refusal);
        }
        if trace.status.get().is_none() && exchanged.is_refused {
            // Nobody has begun with it, which no status says.
            self.reason.set(Some(Reason::REFUSED_STREAM));
            return Ok(outcome);
        }
        if trace.status.get().is_none() && outcome != Outcome::ClientReset {
            let own = responder.failed(outcome, exchanged.refusal, pages);
            let failed = (outcome, exchanged.refusal);
            return self.fail(&own, failed).await;
        }
        self.is_whole.set(outcome == Outcome::Done);
        Ok(outcome)
    }

    /// Counts a message that was not taken.
    fn refused(&self, refusal: Refusal) {
        let FlowContext {
            worker, listener, ..
        } = self.connection.flow;
        let count = |tally: &mut ListenerTally| tally.refusals[refusal.index()] += 1;
        worker.ledger.count_listener(listener.id, count);
        self.trace.reason.set(Some(refusal.label()));
    }

    /// Answers a request that failed. One that is malformed is answered and reset (RFC 9113 section
    /// 8.1.1): whoever made it is to know that it was no request.
    async fn fail(
        &self,
        own: &LocalReply,
        (outcome, refusal): (Outcome, Option<Refusal>),
    ) -> Result<Outcome, Outcome> {
        let is_malformed = outcome == Outcome::BadRequest
            && refusal.is_some_and(|refusal| refusal.status() == 400);
        if !is_malformed {
            return self.answer(own, outcome).await;
        }
        self.reason.set(Some(Reason::PROTOCOL_ERROR));
        self.trace.status.set(Some(own.status()));
        let sent = self.downstream.answer(own, Ending::Open).await;
        sent.map_err(|_| Outcome::ClientReset)?;
        Ok(outcome)
    }

    /// Answers a request by itself.
    async fn answer(&self, own: &LocalReply, outcome: Outcome) -> Result<Outcome, Outcome> {
        self.trace.status.set(Some(own.status()));
        let sent = self.downstream.answer(own, Ending::Whole).await;
        sent.map_err(|_| Outcome::ClientReset)?;
        self.is_whole.set(true);
        Ok(outcome)
    }
}

/// How a stream is ended that ended in the middle of something.
fn reason_of(outcome: Outcome) -> Reason {
    let is_ended = matches!(
        outcome,
        Outcome::NetworkRemoved
            | Outcome::NetworkChanged
            | Outcome::AccessChanged
            | Outcome::Drained
            | Outcome::Idle
    );
    if is_ended || outcome.fault() == Fault::Client {
        Reason::CANCEL
    } else {
        Reason::INTERNAL_ERROR
    }
}
