//! One attempt to have an upstream answer.
//!
//! ```text
//!   head ► upstream ► heads, interim ones too ► content ► the upstream rests
//!      content ►───────────┘ (at the same time)
//! ```

pub(crate) mod answer;

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    io,
    os::fd::AsFd,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Instant,
};

use engine_core::{ids::TargetId, outcome::Outcome};
use engine_http::refusal::Refusal;
use engine_sys::socket;

use crate::{
    context::FlowContext,
    exchange::{
        AttemptProgress, Exchange, Plan,
        attempt::answer::Answer,
        body::{BodyError, send_all, send_content},
        deadlines::{Deadlines, Stage},
        trace::{ByteCounts, RequestTrace},
        watch::{ResponseState, Watch},
    },
    relay::{Direction, Wire, relay},
    transport::read_ahead::ReadAhead,
};

/// Why an attempt ended early.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) outcome: Outcome,
    pub(crate) refusal: Option<Refusal>,
}

/// A response that reached the client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    pub(crate) upstream_rests: bool,
    pub(crate) client_goes_on: bool,
    pub(crate) outcome: Outcome,
}

/// One attempt to have an upstream answer.
#[derive(Debug)]
pub(crate) struct Attempt<'a> {
    pub(crate) plan: &'a Plan<'a>,
    wire: &'a Wire<'a>,
    moved: &'a ByteCounts<'a>,
    /// Its status is set when the client begins to be answered: from then on nobody else can.
    trace: &'a RequestTrace<'a>,
    patience: &'a Deadlines,
    /// Which target it is of, and which one the request's cookie marks.
    target: TargetId,
    marked: Option<TargetId>,
    progress: &'a AttemptProgress,
    /// The upstream has not got all of it, so far.
    content_left: Cell<bool>,
    /// The client knows that its content is wanted.
    is_asked_on: Cell<bool>,
    /// Where the response to the client is.
    place: Cell<ResponseState>,
    /// When it was looked last whether the client is still there, in [`crate::context::live::Connections::now`].
    looked_at: Cell<u32>,
}

/// What came first.
enum First {
    /// The content was sent, all of it or as much as the upstream wanted.
    Sent { all: bool },
    /// The response was passed on.
    Answer(Answer),
}

impl<'a> Attempt<'a> {
    /// One at the target that `wire` leads to.
    pub(crate) fn new(
        work: &Exchange<'a>,
        wire: &'a Wire<'a>,
        moved: &'a ByteCounts<'a>,
        (patience, progress): (&'a Deadlines, &'a AttemptProgress),
        target: TargetId,
    ) -> Self {
        Self {
            plan: work.plan,
            wire,
            moved,
            trace: work.trace,
            patience,
            target,
            marked: work.dispatch.marked,
            progress,
            content_left: Cell::new(false),
            is_asked_on: Cell::new(!work.plan.expects_continue),
            place: Cell::new(ResponseState::before(work.plan.version)),
            looked_at: Cell::new(work.connection.worker.live.now()),
        }
    }

    pub(crate) async fn run(
        &self,
        head: Vec<u8>,
        ahead: &mut ReadAhead,
    ) -> Result<Answered, Failure> {
        let sent = send_all(self.wire.upstream, &head).await;
        sent.map_err(|_| Failure::from(Outcome::UpstreamReset))?;
        self.count_head(Direction::In, head.len());
        drop(head);
        let mut gave = ReadAhead::default();
        let (answer, all_sent) = self.both_ways(ahead, &mut gave).await?;
        let answered_at = |done: bool| done.then(Instant::now);
        match answer {
            Answer::Upgrade(head) => Ok(self.go_on_raw(head, ahead, gave).await),
            Answer::Done { keep_alive } => {
                self.trace.answered_at.set(answered_at(true));
                Ok(Answered {
                    upstream_rests: keep_alive && all_sent && gave.is_empty(),
                    client_goes_on: self.plan.keep_alive && all_sent,
                    outcome: Outcome::Done,
                })
            }
            Answer::UntilClose => {
                self.trace.answered_at.set(answered_at(true));
                Ok(Answered {
                    upstream_rests: false,
                    client_goes_on: false,
                    outcome: Outcome::Done,
                })
            }
        }
    }

    /// Sends the request's content while the response is taken: an upstream may answer before it
    /// has seen all. Says also whether all of the content was sent.
    async fn both_ways(
        &self,
        ahead: &mut ReadAhead,
        gave: &mut ReadAhead,
    ) -> Result<(Answer, bool), Failure> {
        let mut answer = pin!(self.take_answer(gave));
        let mut all = true;
        if !self.plan.has_no_content() {
            self.progress.content_begun.set(true);
            self.content_begins();
            self.content_left.set(true);
            match self.send_and(ahead, answer.as_mut()).await? {
                First::Sent { all: was_all } => all = was_all,
                First::Answer(answer) => return Ok((answer, false)),
            }
        }
        let FlowContext { worker, slot, .. } = self.wire.connection.flow;
        // A client is only watched when the answer takes its time.
        let watched_from = worker.live.now() + 1;
        let watch = Watch {
            connection: self.wire.connection,
            flow: self.wire.flow,
            place: &self.place,
            since: Instant::now(),
        };
        let mut gone = pin!(watch.gone(ahead));
        poll_fn(|cx| {
            if let Poll::Ready(answered) = answer.as_mut().poll(cx) {
                return Poll::Ready(Ok((answered?, all)));
            }
            let is_watched = worker.live.now() >= watched_from;
            if is_watched && gone.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(Outcome::ClientReset.into()));
            }
            let judged = self.judge(|| Stage::Answering);
            if !is_watched {
                // Whatever else is waited for: by the clock that this was measured with.
                slot.wake_by(watched_from);
            }
            judged
        })
        .await
    }

    /// Sends the request's content, unless the response comes first.
    async fn send_and(
        &self,
        ahead: &mut ReadAhead,
        mut answer: Pin<&mut impl Future<Output = Result<Answer, Failure>>>,
    ) -> Result<First, Failure> {
        let Plan {
            framing, policy, ..
        } = *self.plan;
        let length_max = policy.body_max.unwrap_or(u64::MAX);
        let held_to = (length_max, &policy.request_edits);
        let mut content = pin!(send_content(self.wire, framing, ahead, held_to));
        poll_fn(|cx: &mut Context<'_>| {
            if let Poll::Ready(end) = content.as_mut().poll(cx) {
                self.content_left.set(end.is_err());
                return Poll::Ready(match end {
                    Ok(()) => Ok(First::Sent { all: true }),
                    // The upstream wants no more: it may say why.
                    Err(BodyError::Broken(Outcome::UpstreamReset)) => {
                        Ok(First::Sent { all: false })
                    }
                    Err(cut) => Err(cut.into()),
                });
            }
            if let Poll::Ready(answered) = answer.as_mut().poll(cx) {
                return Poll::Ready(answered.map(First::Answer));
            }
            if self.has_client_reset() {
                return Poll::Ready(Err(Outcome::ClientReset.into()));
            }
            self.judge(|| Stage::Sending {
                is_quiet: self.is_asked_on.get() && self.is_client_quiet(),
            })
        })
        .await
    }

    /// Whether the exchange has taken too long.
    fn judge<T>(&self, stage: impl FnOnce() -> Stage) -> Poll<Result<T, Failure>> {
        let FlowContext { worker, slot, .. } = self.wire.connection.flow;
        let sent = self.wire.flow.bytes_in.get();
        let stage = || match self.trace.status.get() {
            Some(_) => Stage::Answered,
            None => stage(),
        };
        match self.patience.judge((slot, &worker.live), sent, stage) {
            Some(outcome) => Poll::Ready(Err(outcome.into())),
            None => Poll::Pending,
        }
    }

    /// Whether the client has sent nothing that would wait to be passed on.
    fn is_client_quiet(&self) -> bool {
        let client = self.wire.connection.streams.client.socket();
        let looked = socket::peek(client.as_fd());
        looked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// From now on the client may send its content, or more of it.
    fn content_begins(&self) {
        let live = &self.wire.connection.worker.live;
        let sent = self.wire.flow.bytes_in.get();
        self.patience.content_begins(live, sent);
    }

    /// Whether the client has reset the connection, which nobody reads while the upstream does not
    /// take its content. Looks once a second.
    fn has_client_reset(&self) -> bool {
        let FlowContext { worker, .. } = self.wire.connection.flow;
        let streams = self.wire.connection.streams;
        let now = worker.live.now();
        let is_due = self.looked_at.replace(now) != now;
        is_due && socket::heard(streams.client.socket().as_fd()).reset
    }

    /// Goes on with whatever protocol both sides have agreed on.
    async fn go_on_raw(
        &self,
        head: Vec<u8>,
        ahead: &mut ReadAhead,
        mut gave: ReadAhead,
    ) -> Answered {
        let connection = self.wire.connection;
        let first = ahead.take_behind(Vec::new(), u64::MAX);
        let early = gave.unused().len() as u64;
        let back = gave.take_behind(head, u64::MAX);
        let declared = self.plan.policy.timeouts.upgraded_idle;
        let idle = declared.unwrap_or(connection.listener.idle_timeout);
        let outcome = match send_all(&connection.streams.client, back.unsent()).await {
            Ok(()) => {
                self.wire.count(Direction::Out, early);
                relay(self.wire, first, idle).await
            }
            Err(_) => Outcome::ClientReset,
        };
        Answered {
            upstream_rests: false,
            client_goes_on: false,
            outcome,
        }
    }

    /// Counts the bytes of a head, which are traffic and no content.
    fn count_head(&self, direction: Direction, bytes: usize) {
        let bytes = bytes as u64;
        self.wire.count(direction, bytes);
        let (sent, received) = self.moved.heads.get();
        self.moved.heads.set(match direction {
            Direction::In => (sent + bytes, received),
            Direction::Out => (sent, received + bytes),
        });
    }
}

impl From<Outcome> for Failure {
    fn from(outcome: Outcome) -> Self {
        Self {
            outcome,
            refusal: None,
        }
    }
}

impl From<BodyError> for Failure {
    fn from(cut: BodyError) -> Self {
        match cut {
            BodyError::Broken(outcome) => outcome.into(),
            BodyError::Refused(refusal) => Self {
                outcome: Outcome::BadRequest,
                refusal: Some(refusal),
            },
            BodyError::TooLong => Self {
                outcome: Outcome::TooLarge,
                refusal: None,
            },
        }
    }
}
