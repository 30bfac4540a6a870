//! The upstream's side of an attempt: the response, and its way to the client.

use std::{io, time::Instant};

use engine_core::outcome::Outcome;
use engine_http::{
    forward::{ResponseForwarding, write_interim, write_response},
    method::Version,
    reading::Reading,
    refusal::Refusal,
    response::{self, Framing, Response},
    scan::Scan,
};

use crate::{
    context::{FlowContext, failure},
    exchange::{
        Plan,
        attempt::{Attempt, Failure},
        body::{BodyError, Receiver, Towards, send_all, take_content},
        interim::Interims,
        watch::ResponseState,
    },
    relay::Direction,
    transport::read_ahead::ReadAhead,
};

/// What the gateway's own fields add to a head, about.
const HEAD_GROWTH: usize = 128;

/// A response that was passed on.
#[derive(Debug)]
pub(crate) enum Answer {
    /// All of it. `keep_alive`: the upstream takes another request.
    Done { keep_alive: bool },
    /// All of it, and the client was told that the connection ends.
    UntilClose,
    /// Its head is to be sent, and another protocol follows.
    Upgrade(Vec<u8>),
}

/// What follows the head of a response.
#[derive(Clone, Copy, Debug)]
struct Then {
    framing: Framing,
    towards: Towards,
    is_upgrade: bool,
    /// Of the upstream.
    keep_alive: bool,
    client_closes: bool,
}

impl Attempt<'_> {
    /// Takes the response, and passes on all of it but what follows an upgrade.
    pub(crate) async fn take_answer(&self, gave: &mut ReadAhead) -> Result<Answer, Failure> {
        let worker = self.wire.connection.worker;
        let limits = &worker.shared.limits.http_head;
        let interims = Interims::new(worker.live.now(), self.plan.expects_continue);
        let mut scan = Scan::default();
        loop {
            let response = match response::read(gave.unused(), self.plan.asked, limits, &mut scan) {
                Reading::Head(response) => response,
                Reading::Refused(refusal) => return Err(bad_response(refusal)),
                Reading::NeedMore => {
                    self.receive(gave).await?;
                    continue;
                }
            };
            let head_len = response.head_len;
            self.count_head(Direction::Out, head_len);
            if !response.is_interim() {
                let (head, then) = self.head(&response);
                gave.consume(head_len);
                return self.content(head, then, gave).await;
            }
            let mut head = Vec::new();
            let passes = interims.take(response.status, worker.live.now());
            if passes.map_err(bad_response)? && self.plan.version > Version::Http10 {
                write_interim(&response, &mut head);
            }
            if !self.is_asked_on.replace(true) {
                self.content_begins();
            }
            gave.consume(head_len);
            scan = Scan::default();
            let place = self.place.replace(ResponseState::Within);
            let sent = send_all(&self.wire.connection.streams.client, &head).await;
            sent.map_err(|_| Failure::from(Outcome::ClientReset))?;
            self.place.set(place);
        }
    }

    /// The head that the client gets, and what follows it.
    fn head(&self, response: &Response<'_>) -> (Vec<u8>, Then) {
        let Plan {
            version, policy, ..
        } = *self.plan;
        let modern = version > Version::Http10;
        let (framing, towards) = if response.framing == Framing::Chunked && !modern {
            (Framing::UntilClose, Towards::Close)
        } else {
            (response.framing, Towards::Chunks)
        };
        let worker = self.wire.connection.worker;
        // What is left of a request cannot be told from the next one (RFC 9112 section 9.6).
        let closes =
            framing == Framing::UntilClose || self.content_left.get() || worker.is_stopped();
        let mut cookie = Vec::new();
        if let Some(sticky) = &policy.sticky
            && self.marked != Some(self.target)
        {
            sticky.write_cookie(self.target, &mut cookie);
        }
        let forwarding = ResponseForwarding {
            version,
            keep_alive: self.plan.keep_alive && !closes,
            framing,
            request_id: self.plan.request_id,
            edits: &policy.response_edits,
            hsts: self.plan.hsts(),
            set_cookie: (!cookie.is_empty()).then_some(&cookie),
            date: worker.date(),
        };
        let mut head = Vec::with_capacity(response.head_len + HEAD_GROWTH);
        write_response(response, &forwarding, &mut head);
        self.trace.status.set(Some(response.status));
        self.trace.ends_by_close.set(framing == Framing::UntilClose);
        self.progress.rests_for.set(response.rests_for);
        self.place.set(ResponseState::Within);
        self.trace.headed_at.set(Some(Instant::now()));
        let then = Then {
            framing: response.framing,
            towards,
            is_upgrade: response.is_upgrade(),
            keep_alive: response.keep_alive,
            client_closes: closes,
        };
        (head, then)
    }

    async fn content(
        &self,
        mut head: Vec<u8>,
        then: Then,
        gave: &mut ReadAhead,
    ) -> Result<Answer, Failure> {
        if then.is_upgrade {
            return Ok(Answer::Upgrade(head));
        }
        let receiver = Receiver {
            towards: then.towards,
            place: &self.place,
            edits: &self.plan.policy.response_edits,
        };
        let taken = take_content(self.wire, &mut head, then.framing, gave, receiver).await;
        if taken.is_err() && !head.is_empty() {
            self.trace.status.set(None);
        }
        taken.map_err(|cut| match cut {
            BodyError::Refused(refusal) => bad_response(refusal),
            cut @ (BodyError::Broken(_) | BodyError::TooLong) => cut.into(),
        })?;
        Ok(match then.client_closes {
            true => Answer::UntilClose,
            false => Answer::Done {
                keep_alive: then.keep_alive,
            },
        })
    }

    async fn receive(&self, gave: &mut ReadAhead) -> Result<(), Failure> {
        let FlowContext { worker, slot, .. } = self.wire.connection.flow;
        let upstream = self.wire.upstream;
        loop {
            let waited = slot
                .within(&worker.live, self.patience.answer(), upstream.readable())
                .await;
            match waited {
                Ok(readable) => readable.map_err(|_| Failure::from(Outcome::GatewayError))?,
                Err(_) => return Err(Outcome::AnswerTimeout.into()),
            }
            match gave.receive(worker, upstream) {
                Ok(0) => return Err(Outcome::UpstreamReset.into()),
                Ok(_) => {
                    self.progress.is_heard.set(true);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    let failure = failure::Failure::of_answer(&error);
                    if let Some(cause) = failure.cause {
                        self.trace.reason.set(Some(cause.label()));
                    }
                    return Err(failure.outcome.into());
                }
            }
        }
    }
}

/// What an attempt ends with when the upstream's answer is none.
fn bad_response(refusal: Refusal) -> Failure {
    Failure {
        outcome: Outcome::BadResponse,
        refusal: Some(refusal),
    }
}
