//! One request and its response, between a client and an upstream.
//!
//! ```text
//!   head ► upstream ► heads, interim ones too ► content ► the upstream rests
//!      content ►───────────┘ (at the same time)
//! ```

use std::{
    cell::Cell,
    future::{Future as _, poll_fn},
    io,
    pin::pin,
    task::Poll,
    time::Duration,
};

use engine_core::{outcome::Outcome, snapshot::Route};
use engine_http::{
    edit::FieldEdits,
    facts,
    forward::{ResponseForwarding, write_interim, write_response},
    method::Version,
    reading::Reading,
    refusal::Refusal,
    response::{self, Asked, Response},
    scan::Scan,
};

use super::{
    ahead::Ahead,
    body::{Cut, Towards, send_all, send_content, take_content},
    open::{Opened, Targets},
};
use crate::{
    admit::Permit,
    connection::Connection,
    preface::Endpoints,
    record::Flow,
    relay::{Direction, Wire, relay},
    worker::Published,
};

/// What is done with a request, decided from its head alone.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub(super) asked: Asked,
    pub(super) version: Version,
    pub(super) framing: facts::Framing,
    /// The client may send another request afterwards.
    pub(super) keep_alive: bool,
    /// It does no harm when an upstream gets it twice (RFC 9110 section 9.2.2), and nothing of it
    /// is lost when it is sent again.
    pub(super) is_repeatable: bool,
    pub(super) request_id: &'a str,
    pub(super) response_edits: &'a FieldEdits,
    /// The value of `Strict-Transport-Security`.
    pub(super) hsts: Option<&'a str>,
    /// Longest content of the request.
    pub(super) content_max: u64,
    /// Longest silence of the upstream before its answer.
    pub(super) answer_timeout: Duration,
}

/// What an exchange works with.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    pub(super) connection: &'a Connection<'a>,
    pub(super) published: &'a Published,
    pub(super) route: &'a Route,
    pub(super) permit: &'a Permit,
    pub(super) endpoints: Endpoints,
    pub(super) plan: &'a Plan<'a>,
}

/// What came of a request.
#[derive(Debug)]
pub(super) struct Exchanged {
    /// The status that the client was answered with; `None` when it was not answered yet.
    pub(super) status: Option<u16>,
    /// How it ended.
    pub(super) outcome: Outcome,
    /// Why a message was not taken, where that is how it ended.
    pub(super) refusal: Option<Refusal>,
    /// The connection can go on with the next request.
    pub(super) goes_on: bool,
    /// What moved, to and from the upstream that was tried last.
    pub(super) flow: Flow,
}

/// Why an attempt ended early.
#[derive(Debug)]
struct Failure {
    outcome: Outcome,
    refusal: Option<Refusal>,
}

/// A response that reached the client.
#[derive(Clone, Copy, Debug)]
struct Answered {
    upstream_rests: bool,
    client_goes_on: bool,
    outcome: Outcome,
}

/// Passes a request on, and its response back. `head` is the request's, as the upstream is to get
/// it; its content begins with `ahead`.
pub(super) async fn exchange(exchange: &Exchange<'_>, head: &[u8], ahead: &mut Ahead) -> Exchanged {
    let Exchange {
        connection,
        permit,
        plan,
        ..
    } = exchange;
    let route = (exchange.published, exchange.route);
    let mut targets = Targets::new(connection, route, permit, exchange.endpoints);
    loop {
        let flow = Flow::default();
        let status = Cell::new(None);
        let opened = match targets.open(permit, &flow).await {
            Ok(opened) => opened,
            Err(outcome) => return Exchanged::failed(outcome.into(), status.get(), flow),
        };
        let wire = Wire {
            connection,
            upstream: &opened.end,
            permit,
            flow: &flow,
        };
        let attempt = Attempt {
            plan,
            wire: &wire,
            status: &status,
        };
        let attempted = attempt.run(head, ahead).await;
        if let Some(client) = flow.client.get() {
            connection.worker.ledger.close_client(client);
        }
        match attempted {
            Ok(answered) => return answered.end(connection, opened, status.get(), flow),
            // It was closed while it rested: no fault of anybody's.
            Err(failure)
                if opened.has_rested
                    && plan.is_repeatable
                    && status.get().is_none()
                    && failure.outcome == Outcome::UpstreamReset => {}
            Err(failure) => return Exchanged::failed(failure, status.get(), flow),
        }
    }
}

/// One attempt to have an upstream answer.
struct Attempt<'a> {
    plan: &'a Plan<'a>,
    wire: &'a Wire<'a>,
    /// Set when the client begins to be answered: from then on nobody else can answer it.
    status: &'a Cell<Option<u16>>,
}

impl Attempt<'_> {
    async fn run(&self, head: &[u8], ahead: &mut Ahead) -> Result<Answered, Failure> {
        let sent = send_all(self.wire.upstream, head).await;
        sent.map_err(|_| Failure::from(Outcome::UpstreamReset))?;
        self.wire.count(Direction::In, head.len() as u64);
        let mut gave = Ahead::default();
        let (head, all_sent) = self.both_ways(ahead, &mut gave).await?;
        match head {
            Answer::Upgrade(head) => Ok(self.go_on_raw(head, ahead, gave).await),
            Answer::Done { keep_alive } => Ok(Answered {
                upstream_rests: keep_alive && all_sent && gave.is_empty(),
                client_goes_on: self.plan.keep_alive && all_sent,
                outcome: Outcome::Done,
            }),
            Answer::UntilClose => Ok(Answered {
                upstream_rests: false,
                client_goes_on: false,
                outcome: Outcome::Done,
            }),
        }
    }

    /// Sends the request's content while the response is taken: an upstream may answer before it
    /// has seen all. Says also whether all of the content was sent.
    async fn both_ways(
        &self,
        ahead: &mut Ahead,
        gave: &mut Ahead,
    ) -> Result<(Answer, bool), Failure> {
        let Plan {
            framing,
            content_max,
            ..
        } = *self.plan;
        let mut content = pin!(send_content(self.wire, framing, ahead, content_max));
        let mut answer = pin!(self.take_answer(gave));
        let mut sent = None;
        poll_fn(|cx| {
            if sent.is_none()
                && let Poll::Ready(end) = content.as_mut().poll(cx)
            {
                match end {
                    // The upstream wants no more: it may say why.
                    Ok(()) | Err(Cut::Broken(Outcome::UpstreamReset)) => sent = Some(end.is_ok()),
                    Err(cut) => return Poll::Ready(Err(cut.into())),
                }
            }
            let answered = answer.as_mut().poll(cx);
            answered.map(|answer| Ok((answer?, sent == Some(true))))
        })
        .await
    }

    /// Takes the response, and passes on all of it but what follows an upgrade.
    async fn take_answer(&self, gave: &mut Ahead) -> Result<Answer, Failure> {
        let limits = &self.wire.connection.worker.shared.limits.http_head;
        let mut scan = Scan::default();
        loop {
            let response = match response::read(gave.unused(), self.plan.asked, limits, &mut scan) {
                Reading::Head(response) => response,
                Reading::Refused(refusal) => {
                    return Err(Failure {
                        outcome: Outcome::BadResponse,
                        refusal: Some(refusal),
                    });
                }
                Reading::NeedMore => {
                    self.receive(gave).await?;
                    continue;
                }
            };
            self.wire.count(Direction::Out, response.head_len as u64);
            let head_len = response.head_len;
            if !response.is_interim() {
                let (head, then) = self.head(&response);
                gave.consume(head_len);
                return self.content(head, then, gave).await;
            }
            let mut head = Vec::new();
            if self.plan.version > Version::Http10 {
                write_interim(&response, &mut head);
            }
            gave.consume(head_len);
            scan = Scan::default();
            let sent = send_all(&self.wire.connection.ends.client, &head).await;
            sent.map_err(|_| Failure::from(Outcome::ClientReset))?;
        }
    }

    /// The head that the client gets, and what follows it.
    fn head(&self, response: &Response<'_>) -> (Vec<u8>, Then) {
        let Plan { version, .. } = *self.plan;
        let modern = version > Version::Http10;
        let (framing, towards) = if response.framing == response::Framing::Chunked && !modern {
            (response::Framing::UntilClose, Towards::Close)
        } else {
            (response.framing, Towards::Chunks)
        };
        let worker = self.wire.connection.worker;
        let closes = framing == response::Framing::UntilClose || worker.stopped().is_stopped();
        let keep_alive = self.plan.keep_alive && !closes;
        let forwarding = ResponseForwarding {
            version,
            keep_alive,
            framing,
            request_id: self.plan.request_id,
            edits: self.plan.response_edits,
            hsts: self.plan.hsts,
            set_cookie: None,
        };
        let mut head = Vec::with_capacity(response.head_len + HEAD_GROWTH);
        write_response(response, &forwarding, &mut head);
        self.status.set(Some(response.status));
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
        head: Vec<u8>,
        then: Then,
        gave: &mut Ahead,
    ) -> Result<Answer, Failure> {
        if then.is_upgrade {
            return Ok(Answer::Upgrade(head));
        }
        let taken = take_content(self.wire, head, then.framing, gave, then.towards).await;
        taken.map_err(|cut| match cut {
            Cut::Refused(refusal) => Failure {
                outcome: Outcome::BadResponse,
                refusal: Some(refusal),
            },
            cut @ (Cut::Broken(_) | Cut::TooLong) => cut.into(),
        })?;
        Ok(match then.client_closes {
            true => Answer::UntilClose,
            false => Answer::Done {
                keep_alive: then.keep_alive,
            },
        })
    }

    async fn receive(&self, gave: &mut Ahead) -> Result<(), Failure> {
        let Connection { worker, slot, .. } = *self.wire.connection;
        let upstream = self.wire.upstream;
        loop {
            let patience = self.plan.answer_timeout;
            let waited = slot
                .within(&worker.live, patience, upstream.readable())
                .await;
            match waited {
                Ok(readable) => readable.map_err(|_| Failure::from(Outcome::GatewayError))?,
                Err(_) => return Err(Outcome::AnswerTimeout.into()),
            }
            match gave.receive(worker, upstream) {
                Ok(0) => return Err(Outcome::UpstreamReset.into()),
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Err(Outcome::UpstreamReset.into()),
            }
        }
    }

    /// Goes on with whatever protocol both sides have agreed on.
    async fn go_on_raw(&self, head: Vec<u8>, ahead: &mut Ahead, mut gave: Ahead) -> Answered {
        let client = &self.wire.connection.ends.client;
        let first = ahead.take_behind(Vec::new(), u64::MAX);
        let early = gave.unused().len() as u64;
        let back = gave.take_behind(head, u64::MAX);
        let outcome = match send_all(client, back.unsent()).await {
            Ok(()) => {
                self.wire.count(Direction::Out, early);
                relay(self.wire, first).await
            }
            Err(_) => Outcome::ClientReset,
        };
        Answered {
            upstream_rests: false,
            client_goes_on: false,
            outcome,
        }
    }
}

/// What the gateway's own fields add to a head, about.
const HEAD_GROWTH: usize = 128;

/// What follows the head of a response.
#[derive(Clone, Copy, Debug)]
struct Then {
    framing: response::Framing,
    towards: Towards,
    is_upgrade: bool,
    /// Of the upstream.
    keep_alive: bool,
    client_closes: bool,
}

/// A response that was passed on.
#[derive(Debug)]
enum Answer {
    /// All of it. `keep_alive`: the upstream takes another request.
    Done { keep_alive: bool },
    /// All of it, and the client was told that the connection ends.
    UntilClose,
    /// Its head is to be sent, and another protocol follows.
    Upgrade(Vec<u8>),
}

impl Answered {
    fn end(
        self,
        connection: &Connection<'_>,
        opened: Opened,
        status: Option<u16>,
        flow: Flow,
    ) -> Exchanged {
        if self.upstream_rests {
            opened.rest(connection);
        }
        Exchanged {
            status,
            outcome: self.outcome,
            refusal: None,
            goes_on: self.client_goes_on,
            flow,
        }
    }
}

impl Exchanged {
    fn failed(failure: Failure, status: Option<u16>, flow: Flow) -> Self {
        Self {
            status,
            outcome: failure.outcome,
            refusal: failure.refusal,
            goes_on: false,
            flow,
        }
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

impl From<Cut> for Failure {
    fn from(cut: Cut) -> Self {
        match cut {
            Cut::Broken(outcome) => outcome.into(),
            Cut::Refused(refusal) => Self {
                outcome: Outcome::BadRequest,
                refusal: Some(refusal),
            },
            Cut::TooLong => Self {
                outcome: Outcome::TooLarge,
                refusal: None,
            },
        }
    }
}
