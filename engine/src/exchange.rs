//! One request and its response: attempts to have an upstream answer, until one does.

pub(crate) mod answer;
pub(crate) mod attempt;
pub(crate) mod body;
pub(crate) mod client_info;
pub(crate) mod connection;
pub(crate) mod deadlines;
pub(crate) mod decide;
pub(crate) mod head;
pub(crate) mod http2;
pub(crate) mod interim;
pub(crate) mod open;
pub(crate) mod tls_info;
pub(crate) mod trace;
pub(crate) mod watch;
pub(crate) mod websocket;

use std::cell::{Cell, OnceCell};

use engine_core::outcome::{Fault, Outcome};
use engine_http::{
    facts,
    method::{Scheme, Version},
    refusal::Refusal,
    response::Asked,
    retry::{self, Content, Safety},
    rules::Policy,
};

use crate::{
    context::admit::Permit,
    exchange::{
        attempt::{Answered, Attempt, Failure},
        connection::Connection,
        deadlines::Deadlines,
        head::RequestHead,
        http2::{body_copy::Source, downstream::Http2Downstream, replay::Replay},
        open::{Dispatch, Far, Opened, Targets},
        trace::{ByteCounts, RequestTrace},
    },
    relay::Wire,
    transport::read_ahead::ReadAhead,
    upstream::resolve::Resolved,
};

/// What is done with a request, decided from its head alone.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) asked: Asked,
    pub(crate) version: Version,
    pub(crate) framing: facts::Framing,
    /// The client may send another request afterwards.
    pub(crate) keep_alive: bool,
    /// The client sends its content when it is asked to.
    pub(crate) expects_continue: bool,
    /// Whether it may be sent again.
    pub(crate) safety: Safety,
    pub(crate) request_id: &'a str,
    pub(crate) policy: &'a Policy,
    /// What the client speaks.
    pub(crate) scheme: Scheme,
}

impl Plan<'_> {
    /// Whether it is sent once only, though the upstream says nothing to it: doing it twice may
    /// matter, or its content is gone with the first time.
    fn is_once(&self) -> bool {
        let content = match self.has_no_content() {
            true => Content::Whole,
            false => Content::Partial,
        };
        !self.safety.may_repeat(retry::Failure::NoAnswer, content)
    }

    /// The value of `Strict-Transport-Security`, where TLS is spoken.
    pub(crate) fn hsts(&self) -> Option<&str> {
        match self.scheme {
            Scheme::Http => None,
            Scheme::Https => self.policy.hsts.as_deref(),
        }
    }

    /// Whether the request's head was all of it.
    pub(crate) fn has_no_content(&self) -> bool {
        matches!(
            self.framing,
            facts::Framing::None | facts::Framing::Length(0)
        )
    }
}

/// What an exchange works with.
#[derive(Debug)]
pub(crate) struct Exchange<'a> {
    pub(crate) connection: &'a Connection<'a>,
    pub(crate) permit: &'a Permit,
    /// Where the route's targets are.
    pub(crate) resolved: &'a Resolved,
    pub(crate) dispatch: Dispatch<'a>,
    pub(crate) plan: &'a Plan<'a>,
    pub(crate) trace: &'a RequestTrace<'a>,
}

/// What came of a request. The status that the client got, if any, is in its trace.
#[derive(Debug)]
pub(crate) struct Exchanged {
    /// How it ended.
    pub(crate) outcome: Outcome,
    /// Why a message was not taken, where that is how it ended.
    pub(crate) refusal: Option<Refusal>,
    /// The connection can go on with the next request.
    pub(crate) goes_on: bool,
    /// No upstream has begun with it: the client may send it again, whatever it is.
    pub(crate) is_refused: bool,
}

/// Where a request came from, and its response goes.
pub(crate) enum Arrival<'a> {
    /// A connection of HTTP/1. The content begins with these bytes.
    Connection(&'a mut ReadAhead),
    /// A stream of HTTP/2.
    Stream(&'a Http2Downstream, Source<'a>),
}

/// Passes a request on, and its response back.
pub(crate) async fn exchange(
    work: &Exchange<'_>,
    head: &RequestHead<'_>,
    from: &mut Arrival<'_>,
) -> Exchanged {
    let (connection, permit, plan, trace) = (work.connection, work.permit, work.plan, work.trace);
    let (worker, listener, slot) = (connection.worker, connection.listener, connection.slot);
    let retries = &plan.policy.retries;
    let patience = Deadlines::new((slot, &worker.live), &plan.policy.timeouts, listener);
    permit.route.outliers.deposit(retries);
    let to = (&work.dispatch, work.resolved);
    let mut targets = Targets::new(connection, to, permit, plan.is_once());
    let (mut repeated, mut refusals) = (0, 0);
    let mut is_refused = true;
    let replay = OnceCell::new();
    loop {
        let moved = ByteCounts::new(trace);
        let left = patience.left(&worker.live);
        let opened = match targets.open(trace, &moved.flow, left).await {
            Ok(opened) => opened,
            Err(outcome) => return Exchanged::failed(outcome.into()),
        };
        let progress = AttemptProgress::default();
        let one = AttemptContext {
            work,
            opened: &opened,
            moved: &moved,
            patience: &patience,
            progress: &progress,
            replay: &replay,
        };
        let failure = match one.run(head, from).await {
            Ok(answered) => {
                targets.answered(opened.target);
                slot.wake_at(0);
                return answered.end(connection, opened, progress.rests_for.get());
            }
            Err(failure) => failure,
        };
        let was_refused = opened.was_refused();
        let may = progress.may_repeat(plan, failure.outcome)
            || was_refused && progress.can_send_again(replay.get().map(|replay| &**replay));
        let (target, has_rested) = (opened.target, opened.has_rested);
        is_refused &= was_refused;
        drop(moved);
        if may && has_rested {
            // It was closed while it rested: no fault of anybody's.
            targets.again(target);
            continue;
        }
        if may && was_refused && refusals < REFUSALS_MAX {
            // It is at its bound, or about to close: no fault of its either.
            refusals += 1;
            targets.pass_over(target);
            continue;
        }
        for _ in 0..weight_of(&failure, plan) {
            targets.failed(target, failure.outcome);
        }
        let now = worker.nanoseconds();
        let has_budget = || permit.route.outliers.withdraw(retries, now);
        if !may || repeated >= retries.max || !has_budget() {
            return Exchanged {
                is_refused,
                ..Exchanged::failed(failure)
            };
        }
        repeated += 1;
        let count = |tally: &mut engine_core::tally::Tally| tally.requests().retries += 1;
        worker.ledger.count(&permit.route, count);
        if !targets.has_next() {
            targets.start_over();
        }
    }
}

/// How often a request that was refused, before anything was done for it, is sent to the next target, beside
/// the rule's retries. A connection that was shared before is replaced by a new one each time, so a target at
/// its bound gets two connections of a request, and not more.
const REFUSALS_MAX: u32 = 1;

/// How many failures of its target one counts as: none where the target is not to blame, and enough
/// to leave out at once what keeps the gateway busy.
fn weight_of(failure: &Failure, plan: &Plan<'_>) -> u32 {
    match failure.refusal {
        _ if failure.outcome.fault() != Fault::Upstream => 0,
        Some(refusal) if refusal.is_flood() => plan.policy.ejection.failures.max(1),
        Some(_) | None => 1,
    }
}

/// One attempt, by whatever way it takes.
struct AttemptContext<'a> {
    work: &'a Exchange<'a>,
    opened: &'a Opened,
    moved: &'a ByteCounts<'a>,
    patience: &'a Deadlines,
    progress: &'a AttemptProgress,
    replay: &'a OnceCell<Box<Replay>>,
}

impl AttemptContext<'_> {
    async fn run(
        &self,
        head: &RequestHead<'_>,
        from: &mut Arrival<'_>,
    ) -> Result<Answered, Failure> {
        let Self {
            work,
            opened,
            moved,
            patience,
            progress,
            replay,
        } = *self;
        match (&opened.far, from) {
            (Far::Connection(upstream), Arrival::Connection(ahead)) if replay.get().is_none() => {
                let wire = Wire {
                    connection: work.connection,
                    upstream,
                    permit: work.permit,
                    flow: &moved.flow,
                };
                let attempt = Attempt::new(work, &wire, moved, (patience, progress), opened.id);
                attempt.run(head.http1(), ahead).await
            }
            (far, from) => {
                let attempt = http2::Attempt {
                    work,
                    moved,
                    patience,
                    progress,
                    replay: replay.get_or_init(Box::default),
                    target: opened.id,
                };
                // Apart, so that a request between two connections of HTTP/1 is small.
                Box::pin(attempt.run(head, far, from)).await
            }
        }
    }
}

/// How far an attempt went.
#[derive(Debug, Default)]
pub(crate) struct AttemptProgress {
    /// The upstream has said something.
    pub(crate) is_heard: Cell<bool>,
    /// The request's content may be gone.
    pub(crate) content_begun: Cell<bool>,
    /// How long the upstream keeps its connection open afterwards, in seconds, where it says so.
    pub(crate) rests_for: Cell<Option<u32>>,
}

impl AttemptProgress {
    /// Whether all of the content that was taken can be sent again.
    fn can_send_again(&self, replay: Option<&Replay>) -> bool {
        !self.content_begun.get() || replay.is_some_and(Replay::is_whole)
    }

    /// Whether nothing speaks against another attempt but how many there were.
    fn may_repeat(&self, plan: &Plan<'_>, outcome: Outcome) -> bool {
        let content = match self.content_begun.get() {
            true => Content::Partial,
            false => Content::Whole,
        };
        let failure = match self.is_heard.get() {
            true => retry::Failure::Answered,
            false => retry::Failure::NoAnswer,
        };
        outcome == Outcome::UpstreamReset && plan.safety.may_repeat(failure, content)
    }
}

impl Answered {
    fn end(self, connection: &Connection<'_>, opened: Opened, rests_for: Option<u32>) -> Exchanged {
        if self.upstream_rests {
            opened.rest(connection, rests_for);
        }
        Exchanged {
            outcome: self.outcome,
            refusal: None,
            goes_on: self.client_goes_on,
            is_refused: false,
        }
    }
}

impl Exchanged {
    fn failed(failure: Failure) -> Self {
        Self {
            outcome: failure.outcome,
            refusal: failure.refusal,
            goes_on: false,
            is_refused: false,
        }
    }
}
