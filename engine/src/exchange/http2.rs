//! One request and its response, where one side speaks HTTP/2.
//!
//! ```text
//!   head ► upstream ► heads, interim ones too ► content ► the upstream rests
//!      content ►───────────┘ (at the same time)
//! ```

pub(crate) mod body_copy;
pub(crate) mod downstream;
pub(crate) mod heads;
pub(crate) mod over_connection;
pub(crate) mod over_stream;
pub(crate) mod replay;

use std::{
    cell::Cell,
    future::{Future, pending, poll_fn},
    os::fd::AsFd as _,
    pin::{Pin, pin},
    task::Poll,
    time::Instant,
};

use engine_core::{ids::TargetId, outcome::Outcome};
use engine_http::{facts, refusal::Refusal, response::Response};
use engine_sys::socket;

use crate::{
    context::FlowContext,
    exchange::{
        Arrival, AttemptProgress, Exchange as Work, Plan,
        attempt::{Answered, Failure},
        body::BodyError,
        connection::Connection,
        deadlines::{Deadlines, Stage},
        head::RequestHead,
        http2::{
            body_copy::{BodyCopy, Extent, Http1Source, Sink, Source},
            downstream::{Downstream, Head, Http1Downstream},
            over_connection::OverConnection,
            over_stream::OverStream,
            replay::Replay,
        },
        interim::Interims,
        open::Far,
        trace::ByteCounts,
        watch::Watch,
    },
    relay::{Direction, count},
};

/// One attempt to have an upstream answer, where one side speaks HTTP/2.
pub(crate) struct Attempt<'a> {
    pub(crate) work: &'a Work<'a>,
    pub(crate) moved: &'a ByteCounts<'a>,
    pub(crate) patience: &'a Deadlines,
    pub(crate) progress: &'a AttemptProgress,
    /// What earlier attempts took of the content.
    pub(crate) replay: &'a Replay,
    /// Which of the route's targets it is made at.
    pub(crate) target: TargetId,
}

/// What an attempt works with, now that both sides are known.
pub(crate) struct Exchange<'a> {
    pub(crate) work: &'a Work<'a>,
    pub(crate) downstream: &'a Downstream<'a>,
    pub(crate) progress: &'a AttemptProgress,
    pub(crate) replay: &'a Replay,
    pub(crate) patience: &'a Deadlines,
    moved: &'a ByteCounts<'a>,
    target: TargetId,
    /// The client has more content to send, and has not sent any of it.
    is_awaited: Cell<bool>,
    /// The client knows that its content is wanted.
    is_asked_on: Cell<bool>,
    /// The upstream has not got all of the content, so far.
    content_left: Cell<bool>,
    /// The client's content is being sent.
    sends: Cell<bool>,
    /// From when on it is watched whether the client leaves, and when it was looked last whether it
    /// has reset its connection, in [`crate::context::live::Connections::now`].
    watched_from: Cell<u32>,
    looked_at: Cell<u32>,
    interims: Interims,
}

/// What an upstream did with a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passed {
    /// The upstream is ready for another request.
    pub(crate) upstream_rests: bool,
    /// The connection of the client went on with another protocol.
    pub(crate) is_switched: bool,
    pub(crate) outcome: Outcome,
}

impl Attempt<'_> {
    /// Passes a request on, and its response back.
    ///
    /// # Errors
    /// Why it ended early.
    pub(crate) async fn run(
        &self,
        head: &RequestHead<'_>,
        far: &Far,
        from: &mut Arrival<'_>,
    ) -> Result<Answered, Failure> {
        let Work {
            connection,
            plan,
            trace,
            ..
        } = *self.work;
        match from {
            Arrival::Stream(downstream, content) => {
                self.pass(head, far, (&Downstream::Http2(downstream, trace), content))
                    .await
            }
            Arrival::Connection(ahead) => {
                let client = &connection.streams.client;
                let downstream =
                    Downstream::Http1(Http1Downstream::new(client, trace, plan.version));
                let mut content = Source::Http1(Http1Source {
                    worker: connection.worker,
                    transport: client,
                    ahead,
                    extent: self.replay.extent().unwrap_or_else(|| match plan.framing {
                        facts::Framing::None => Extent::Left(0),
                        facts::Framing::Length(length) => Extent::Left(length),
                        facts::Framing::Chunked => Extent::Chunks(Box::default()),
                    }),
                });
                let passed = self.pass(head, far, (&downstream, &mut content)).await;
                if let Source::Http1(arriving) = &mut content {
                    self.replay.leave(&mut arriving.extent);
                }
                passed
            }
        }
    }

    async fn pass(
        &self,
        head: &RequestHead<'_>,
        far: &Far,
        (downstream, content): (&Downstream<'_>, &mut Source<'_>),
    ) -> Result<Answered, Failure> {
        let plan = self.work.plan;
        let now = self.work.connection.worker.live.now();
        let exchange = Exchange {
            work: self.work,
            downstream,
            progress: self.progress,
            replay: self.replay,
            patience: self.patience,
            moved: self.moved,
            target: self.target,
            is_awaited: Cell::new(false),
            is_asked_on: Cell::new(!plan.expects_continue),
            content_left: Cell::new(false),
            sends: Cell::new(false),
            watched_from: Cell::new(0),
            looked_at: Cell::new(now),
            interims: Interims::new(now, plan.expects_continue),
        };
        let passed = match far {
            Far::Connection(transport) => {
                let over = OverConnection {
                    exchange: &exchange,
                    transport,
                };
                over.run(head.http1(), content).await?
            }
            Far::Stream(lease) => {
                let over = OverStream {
                    exchange: &exchange,
                    lease,
                };
                over.run(head, content).await?
            }
        };
        self.work.trace.answered_at.set(Some(Instant::now()));
        Ok(Answered {
            upstream_rests: passed.upstream_rests,
            client_goes_on: plan.keep_alive
                && !passed.is_switched
                && !exchange.content_left.get()
                && !downstream.closes(),
            outcome: passed.outcome,
        })
    }
}

impl<'a> Exchange<'a> {
    pub(crate) fn connection(&self) -> &'a Connection<'a> {
        self.work.connection
    }

    pub(crate) fn plan(&self) -> &'a Plan<'a> {
        self.work.plan
    }

    pub(crate) fn count(&self, direction: Direction, bytes: u64) {
        let Work {
            connection, permit, ..
        } = *self.work;
        count(connection, permit, &self.moved.flow, direction, bytes);
    }

    /// Counts the bytes of a head, which are traffic and no content.
    pub(crate) fn count_head(&self, direction: Direction, bytes: usize) {
        let bytes = bytes as u64;
        self.count(direction, bytes);
        let (sent, received) = self.moved.heads.get();
        self.moved.heads.set(match direction {
            Direction::In => (sent + bytes, received),
            Direction::Out => (sent, received + bytes),
        });
    }

    /// The upstream asks for content, or hints at its answer: the client is told.
    ///
    /// # Errors
    /// When it does so too often, or the client is gone.
    pub(crate) async fn hinted(&self, response: &Response<'_>) -> Result<(), Failure> {
        if !self.is_asked_on.replace(true) {
            self.content_begins();
        }
        let now = self.work.connection.worker.live.now();
        let passes = self.interims.take(response.status, now);
        if !passes.map_err(|refusal| bad_response(Some(refusal)))? {
            return Ok(());
        }
        let told = self.downstream.inform(response, self.work.plan).await;
        told.map_err(|_| Outcome::ClientReset.into())
    }

    /// From now on the client may send its content, or more of it.
    fn content_begins(&self) {
        let live = &self.work.connection.worker.live;
        let sent = self.moved.flow.bytes_in.get();
        self.patience.content_begins(live, sent);
    }

    /// All of the content is with the upstream, or there was none.
    pub(crate) fn is_sent(&self) -> bool {
        !self.content_left.get()
    }

    /// What the client is told along with the head of the response.
    pub(crate) fn head<'h>(&'h self, is_end: bool, cookie: &'h mut Vec<u8>) -> Head<'h> {
        let Work {
            connection,
            plan,
            ref dispatch,
            ..
        } = *self.work;
        if let Some(sticky) = &plan.policy.sticky
            && dispatch.marked != Some(self.target)
        {
            sticky.write_cookie(self.target, cookie);
        }
        Head {
            plan,
            cookie: (!cookie.is_empty()).then_some(cookie),
            is_end,
            is_last: self.content_left.get() || connection.worker.is_stopped(),
            date: connection.worker.date(),
        }
    }

    /// Sends the request's content while the response is taken: an upstream may answer before it
    /// has seen all.
    ///
    /// # Errors
    /// Why it ended early: one of them, the client's wish, or a limit of time.
    pub(crate) async fn both_ways<T>(
        &self,
        mut content: Pin<&mut impl Future<Output = BodyError>>,
        mut answer: Pin<&mut impl Future<Output = Result<T, Failure>>>,
    ) -> Result<T, Failure> {
        let sends = self.has_content();
        self.sends.set(sends);
        self.content_left.set(sends);
        if sends {
            self.content_begins();
        }
        poll_fn(|cx| {
            if self.downstream.poll_gone(cx).is_ready() || self.has_client_reset() {
                return Poll::Ready(Err(Outcome::ClientReset.into()));
            }
            if let Poll::Ready(cut) = content.as_mut().poll(cx) {
                return Poll::Ready(Err(cut.into()));
            }
            if let Poll::Ready(answered) = answer.as_mut().poll(cx) {
                return Poll::Ready(answered);
            }
            let judged = self.judge(self.sends.get());
            let FlowContext { worker, slot, .. } = self.work.connection.flow;
            if !self.sends.get() && worker.live.now() < self.watched_from.get() {
                // Whatever else is waited for: by the clock that this was measured with.
                slot.wake_by(self.watched_from.get());
            }
            judged
        })
        .await
    }

    /// Whether a client of HTTP/1 has reset its connection, which nobody reads while the upstream does
    /// not take its content. Looks once a second.
    fn has_client_reset(&self) -> bool {
        if !self.sends.get() || matches!(self.downstream, Downstream::Http2(..)) {
            return false;
        }
        let FlowContext { worker, .. } = self.work.connection.flow;
        let streams = self.work.connection.streams;
        let now = worker.live.now();
        let is_due = self.looked_at.replace(now) != now;
        is_due && socket::heard(streams.client.socket().as_fd()).reset
    }

    /// Waits until a client of HTTP/1 is gone, which one of HTTP/2 says by itself. It is only watched
    /// when the answer takes its time.
    async fn client_gone(&self, content: &mut Source<'_>) {
        let (Downstream::Http1(downstream), Source::Http1(arriving)) = (self.downstream, content)
        else {
            return pending().await;
        };
        let since = Instant::now();
        let live = &self.work.connection.worker.live;
        self.watched_from.set(live.now() + 1);
        poll_fn(|_| match live.now() >= self.watched_from.get() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
        let watch = Watch {
            connection: self.work.connection,
            flow: &self.moved.flow,
            place: downstream.place(),
            since,
        };
        watch.gone(arriving.ahead).await;
    }

    /// Whether the exchange has taken too long.
    fn judge<T>(&self, sends: bool) -> Poll<Result<T, Failure>> {
        let FlowContext { worker, slot, .. } = self.work.connection.flow;
        let sent = self.moved.flow.bytes_in.get();
        let stage = || match (self.downstream.is_answered(), sends) {
            (true, _) => Stage::Answered,
            (false, true) => Stage::Sending {
                is_quiet: self.is_asked_on.get() && self.is_awaited.get(),
            },
            (false, false) => Stage::Answering,
        };
        match self.patience.judge((slot, &worker.live), sent, stage) {
            Some(outcome) => Poll::Ready(Err(outcome.into())),
            None => Poll::Pending,
        }
    }

    /// Whether the request has content.
    pub(crate) fn has_content(&self) -> bool {
        let framing = self.work.plan.framing;
        !matches!(framing, facts::Framing::None | facts::Framing::Length(0))
    }

    /// Moves the request's content to the upstream, and then waits for the client to leave.
    ///
    /// Says what was in the content's way, or that the client has left.
    pub(crate) async fn send_content(&self, content: &mut Source<'_>, sink: Sink<'_>) -> BodyError {
        if self.has_content() {
            let copy = BodyCopy {
                direction: Direction::In,
                length_max: self.work.plan.policy.body_max.unwrap_or(u64::MAX),
                edits: &self.work.plan.policy.request_edits,
                count: |bytes| self.count(Direction::In, bytes),
                is_awaited: &self.is_awaited,
                is_begun: &self.progress.content_begun,
                replay: Some(self.replay),
                sink,
            };
            let ended = copy.run(content).await;
            self.content_left.set(ended.is_err());
            match ended {
                // The upstream wants no more: it may say why.
                Ok(()) | Err(BodyError::Broken(Outcome::UpstreamReset)) => {}
                Err(cut) => return cut,
            }
        }
        self.sends.set(false);
        self.client_gone(content).await;
        BodyError::Broken(Outcome::ClientReset)
    }

    /// Moves the response's content to the client.
    ///
    /// # Errors
    /// Says what was in its way.
    pub(crate) async fn take_content(&self, source: &mut Source<'_>) -> Result<(), BodyError> {
        let Some(sink) = self.downstream.sink() else {
            return Ok(());
        };
        let copy = BodyCopy {
            direction: Direction::Out,
            length_max: u64::MAX,
            edits: &self.work.plan.policy.response_edits,
            count: |bytes| self.count(Direction::Out, bytes),
            is_awaited: &Cell::new(false),
            is_begun: &Cell::new(true),
            replay: None,
            sink,
        };
        copy.run(source).await
    }

    /// Goes on with whatever protocol both sides have agreed on, until both have ended it. `content` is the
    /// client's, and `sink` leads to the upstream, whose own bytes `source` has.
    pub(crate) async fn tunnel(
        &self,
        content: &mut Source<'_>,
        sink: Sink<'_>,
        source: &mut Source<'_>,
    ) -> Passed {
        let FlowContext {
            worker,
            listener,
            slot,
            ..
        } = self.connection().flow;
        let declared = self.plan().policy.timeouts.upgraded_idle;
        slot.watch_idle(&worker.live, declared.unwrap_or(listener.idle_timeout));
        if let Source::Http1(client) = content {
            client.extent = Extent::Close;
        }
        let copy_in = BodyCopy {
            direction: Direction::In,
            length_max: u64::MAX,
            edits: &self.plan().policy.request_edits,
            count: |bytes| self.count(Direction::In, bytes),
            is_awaited: &Cell::new(false),
            is_begun: &Cell::new(true),
            replay: None,
            sink,
        };
        let mut half_in = pin!(async {
            copy_in.run(content).await?;
            let ended = sink.shut_down().await;
            ended.map_err(|_| BodyError::Broken(Outcome::UpstreamReset))
        });
        let mut half_out = pin!(async {
            self.take_content(source).await?;
            let Some(sink) = self.downstream.sink() else {
                return Ok(());
            };
            let ended = sink.shut_down().await;
            ended.map_err(|_| BodyError::Broken(Outcome::ClientReset))
        });
        let (mut in_ended, mut out_ended) = (false, false);
        let outcome = poll_fn(|cx| {
            if self.downstream.poll_gone(cx).is_ready() {
                return Poll::Ready(Outcome::ClientReset);
            }
            if !in_ended && let Poll::Ready(ended) = half_in.as_mut().poll(cx) {
                match ended {
                    Ok(()) => in_ended = true,
                    Err(cut) => return Poll::Ready(Failure::from(cut).outcome),
                }
            }
            if !out_ended && let Poll::Ready(ended) = half_out.as_mut().poll(cx) {
                match ended {
                    Ok(()) => out_ended = true,
                    Err(cut) => return Poll::Ready(Failure::from(cut).outcome),
                }
            }
            if in_ended && out_ended {
                Poll::Ready(Outcome::Done)
            } else {
                Poll::Pending
            }
        });
        Passed {
            upstream_rests: false,
            is_switched: true,
            outcome: outcome.await,
        }
    }
}

/// What an exchange ends with when the upstream broke off its content.
pub(crate) fn of_upstream(cut: BodyError) -> Failure {
    match cut {
        BodyError::Refused(refusal) => bad_response(Some(refusal)),
        cut @ (BodyError::Broken(_) | BodyError::TooLong) => cut.into(),
    }
}

/// What an exchange ends with when the upstream's answer is none.
pub(crate) fn bad_response(refusal: Option<Refusal>) -> Failure {
    Failure {
        outcome: Outcome::BadResponse,
        refusal,
    }
}
