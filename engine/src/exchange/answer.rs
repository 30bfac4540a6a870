//! What the gateway answers by itself.

use std::{cell::Cell, io};

use engine_core::outcome::Outcome;
use engine_http::{
    answer::{self, Answer, Code, Ending, Form, Pages, Reply},
    date::HttpDate,
    method::{Method, Version},
    refusal::Refusal,
    request::Request,
    rules::{Denied, Policy, Redirect},
};

use crate::{
    context::WorkerContext,
    exchange::{body::send_all, connection::Connection},
};

/// How to answer a request, as long as nobody else has begun to.
#[derive(Debug)]
pub(crate) struct Responder {
    form: Form,
    is_head: bool,
    ending: Cell<Ending>,
    id: String,
}

/// An answer of the gateway, whole.
#[derive(Debug)]
pub(crate) struct LocalReply {
    reply: Reply,
    ending: Ending,
}

/// Seconds after which a client may try again when no target is there for it.
const RETRY_SECONDS: u64 = 5;

impl Responder {
    /// Whom to answer. With content that nobody has read yet, the connection ends with the answer.
    pub(crate) fn of(request: &Request<'_>, id: String, worker: &WorkerContext) -> Self {
        let like = Answer::to(request, Code::Internal, "");
        let content = !matches!(
            request.framing,
            engine_http::facts::Framing::None | engine_http::facts::Framing::Length(0)
        );
        Self {
            form: like.form,
            is_head: request.method == Method::Head,
            ending: Cell::new(Ending {
                version: request.version,
                keep_alive: request.keep_alive && !content && !worker.is_stopped(),
                date: worker.date(),
            }),
            id,
        }
    }

    /// Whom to answer of whom nothing is known, but that the method was HEAD (`is_head`).
    pub(crate) fn unread(worker: &WorkerContext, is_head: bool) -> Self {
        Self {
            form: Form::Json,
            is_head,
            ending: Cell::new(Ending {
                version: Version::Http11,
                keep_alive: false,
                date: worker.date(),
            }),
            id: worker.next_request_id(),
        }
    }

    /// The request's name in logs.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Has the connection end with the answer.
    pub(crate) fn end_connection(&self) {
        self.ending.set(Ending {
            keep_alive: false,
            ..self.ending.get()
        });
    }

    /// An answer to a request that ended so. `refusal` is of what the client sent; `pages` are
    /// those of the network that the request was for, where that is known.
    pub(crate) fn failed(
        &self,
        outcome: Outcome,
        refusal: Option<Refusal>,
        pages: Option<&Pages>,
    ) -> LocalReply {
        let refused = refusal.filter(|_| outcome == Outcome::BadRequest);
        let code = refused.map_or_else(|| code_of(outcome), Code::from);
        self.answer(code, None, pages)
    }

    pub(crate) fn denied(&self, denied: Denied, policy: &Policy) -> LocalReply {
        let challenge = match denied {
            Denied::Address => None,
            Denied::Unauthorized | Denied::BadCredentials => policy.auth.as_ref(),
        };
        let challenge = challenge.map(|auth| auth.challenge());
        self.answer(denied.into(), challenge, policy.pages.as_deref())
    }

    pub(crate) fn maintained(&self, pages: Option<&Pages>) -> LocalReply {
        self.answer(Code::NoBackend, None, pages)
    }

    pub(crate) fn redirected(&self, redirect: &Redirect, request: &Request<'_>) -> LocalReply {
        self.whole(answer::redirect(redirect, request, &self.id))
    }

    /// What an ACME directory looks for.
    pub(crate) fn proved(&self, proof: &str) -> LocalReply {
        self.whole(answer::proof(proof, self.is_head, &self.id))
    }

    fn answer(&self, code: Code, challenge: Option<&str>, pages: Option<&Pages>) -> LocalReply {
        let retry_after = (code == Code::NoBackend).then_some(RETRY_SECONDS);
        let answer = Answer {
            form: self.form,
            head: self.is_head,
            pages,
            retry_after,
            challenge,
            ..Answer::to_unread(code, &self.id)
        };
        self.whole(answer.reply())
    }

    fn whole(&self, reply: Reply) -> LocalReply {
        LocalReply {
            reply,
            ending: self.ending.get(),
        }
    }
}

impl LocalReply {
    /// The status that it has.
    pub(crate) fn status(&self) -> u16 {
        self.reply.status()
    }

    /// Whether another request may follow.
    pub(crate) fn keeps_alive(&self) -> bool {
        self.ending.keep_alive
    }

    /// Its fields and its body.
    pub(crate) fn reply(&self) -> &Reply {
        &self.reply
    }

    /// When it was made.
    pub(crate) fn date(&self) -> HttpDate {
        self.ending.date
    }

    /// Sends it to a client of HTTP/1.
    ///
    /// # Errors
    /// When the client is gone.
    pub(crate) async fn send(&self, connection: &Connection<'_>) -> io::Result<()> {
        let client = &connection.streams.client;
        let mut bytes = Vec::with_capacity(512);
        self.reply.write(self.ending, &mut bytes);
        send_all(client, &bytes).await?;
        client.add_moved(0, bytes.len() as u64);
        Ok(())
    }
}

/// What a client is told of a request that ended so.
fn code_of(outcome: Outcome) -> Code {
    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "the rest is the gateway's own doing"
    )]
    match outcome {
        Outcome::BadRequest | Outcome::Truncated => Code::BadRequest,
        Outcome::HelloTimeout | Outcome::ContentTimeout => Code::RequestTimeout,
        Outcome::Misdirected => Code::Misdirected,
        Outcome::TooLarge => Code::BodyTooLarge,
        Outcome::UnknownName | Outcome::NoName | Outcome::NoRoute => Code::NoRoute,
        Outcome::Refused
        | Outcome::UpstreamReset
        | Outcome::UpstreamUntrusted
        | Outcome::UpstreamTls
        | Outcome::Unreachable
        | Outcome::BadResponse => Code::BackendDown,
        Outcome::ConnectTimeout | Outcome::AnswerTimeout => Code::BackendTimeout,
        Outcome::NetworkLimit
        | Outcome::NetworkChanged
        | Outcome::NoTarget
        | Outcome::Unresolved
        | Outcome::UpstreamUnset => Code::NoBackend,
        _ => Code::Internal,
    }
}
