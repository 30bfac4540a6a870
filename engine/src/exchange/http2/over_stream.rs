//! An attempt to have an upstream of HTTP/2 answer a request, whichever way that came.

use std::{
    future::{Future as _, poll_fn},
    io,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use engine_core::outcome::Outcome;
use engine_http::{decoded, method::Version, response::Framing};
use h2::{Reason, RecvStream, client::ResponseFuture};
use http::HeaderMap;

use crate::{
    context::FlowContext,
    exchange::{
        attempt::Failure,
        body::BodyError,
        head::RequestHead,
        http2::{
            Exchange, Passed, bad_response,
            body_copy::{Http2Sink, Http2Source, Sink, Source},
            heads, of_upstream,
        },
    },
    relay::Direction,
    upstream::http2::Lease,
};

/// One attempt.
pub(crate) struct OverStream<'a> {
    pub(crate) exchange: &'a Exchange<'a>,
    pub(crate) lease: &'a Lease,
}

/// A head that the upstream sent.
enum Head {
    Interim(http::Response<()>),
    Final(http::Response<RecvStream>),
}

impl OverStream<'_> {
    /// Passes a request on, and its response back.
    ///
    /// # Errors
    /// Why it ended early.
    pub(crate) async fn run(
        &self,
        head: &RequestHead<'_>,
        content: &mut Source<'_>,
    ) -> Result<Passed, Failure> {
        let connects = self.exchange.plan().asked.upgrade
            && head.opens_websocket()
            && self.lease.takes_protocols().await;
        let written = head.http2(self.lease.is_tls(), connects);
        let written = written.ok_or(Failure::from(Outcome::GatewayError))?;
        let is_end = !self.exchange.has_content() && !connects;
        let (mut response, stream) = self.open(written.request, is_end).await?;
        self.exchange.count_head(Direction::In, written.size);
        let stream = Http2Sink::new(stream);
        let accept = connects.then(|| head.accept_websocket());
        let switched = {
            let content = pin!(self.exchange.send_content(content, Sink::Http2(&stream)));
            let answer = pin!(self.take_answer(&mut response, accept.as_deref()));
            self.exchange.both_ways(content, answer).await?
        };
        if let Some(stream_out) = switched {
            let mut source = Source::Http2(Http2Source {
                stream: stream_out,
                holding: None,
            });
            let sink = Sink::Http2(&stream);
            return Ok(self.exchange.tunnel(content, sink, &mut source).await);
        }
        Ok(Passed {
            upstream_rests: false,
            is_switched: false,
            outcome: Outcome::Done,
        })
    }

    /// Sends the head, and waits until the connection has room for another stream.
    async fn open(
        &self,
        request: http::Request<()>,
        is_end: bool,
    ) -> Result<(ResponseFuture, h2::SendStream<bytes::Bytes>), Failure> {
        let FlowContext {
            worker,
            listener,
            slot,
            ..
        } = self.exchange.connection().flow;
        let mut sender = self.lease.sender();
        let opened = sender.send_request(request, is_end);
        let opened = opened.map_err(|error| {
            // It takes no more requests, so it has not begun with this one.
            self.lease.refused();
            self.broke(Some(&error))
        })?;
        // h2 queues what is more than the upstream allows, and says here when its turn has come.
        let room = poll_fn(|cx| sender.poll_ready(cx));
        let declared = self.exchange.plan().policy.timeouts.connect;
        let patience = declared.unwrap_or(listener.connect_timeout);
        match slot.within(&worker.live, patience, room).await {
            Ok(Ok(())) => Ok(opened),
            Ok(Err(error)) => {
                self.lease.refused();
                Err(self.broke(Some(&error)))
            }
            Err(_) => {
                self.lease.refused();
                Err(Outcome::NoTarget.into())
            }
        }
    }

    /// Takes the response, and passes all of it on: but what follows a protocol that is switched, which it
    /// gives. `accept` is what a client is told then.
    async fn take_answer(
        &self,
        response: &mut ResponseFuture,
        accept: Option<&str>,
    ) -> Result<Option<RecvStream>, Failure> {
        let (connection, plan) = (self.exchange.connection(), self.exchange.plan());
        let downstream = self.exchange.downstream;
        let worker = connection.worker;
        let limits = &worker.shared.limits.http_head;
        let gone = |_: io::Error| Failure::from(Outcome::ClientReset);
        let (parts, content) = loop {
            let head = poll_fn(|cx| poll_head(response, cx));
            let waited =
                connection
                    .slot
                    .within(&worker.live, self.exchange.patience.answer(), head);
            match waited.await {
                Ok(Ok(Head::Interim(head))) => {
                    let lines = heads::lines(head.headers(), limits);
                    let lines = lines.map_err(|refusal| bad_response(Some(refusal)))?;
                    let status = head.status().as_u16();
                    let read = decoded::response(status, lines.fields(), plan.asked, false);
                    let read = read.map_err(|refusal| bad_response(Some(refusal)))?;
                    self.exchange.hinted(&read).await?;
                }
                Ok(Ok(Head::Final(head))) => break head.into_parts(),
                Ok(Err(error)) => return Err(self.broke(Some(&error))),
                Err(_) => {
                    // It may be the connection that leads nowhere.
                    self.lease.distrust();
                    return Err(Outcome::AnswerTimeout.into());
                }
            }
        };
        if let Some(accept) = accept.filter(|_| parts.status.is_success()) {
            self.switch(&parts.headers, accept).await?;
            return Ok(Some(content));
        }
        // A client of HTTP/2 takes success for a protocol that was switched (RFC 8441 section 5).
        if plan.asked.upgrade && plan.version == Version::Http2 && parts.status.is_success() {
            return Err(bad_response(None));
        }
        let lines = heads::lines(&parts.headers, limits);
        let lines = lines.map_err(|refusal| bad_response(Some(refusal)))?;
        let status = parts.status.as_u16();
        let is_end = content.is_end_stream();
        let read = decoded::response(status, lines.fields(), plan.asked, is_end);
        let mut read = read.map_err(|refusal| bad_response(Some(refusal)))?;
        // HTTP/2 has none, and some clients of HTTP/1 take a status without one for no answer.
        read.reason = parts.status.canonical_reason().unwrap_or_default();
        self.exchange.progress.is_heard.set(true);
        self.exchange.replay.give_up();
        let wire_size = lines.fields().lines().len();
        self.exchange.count_head(Direction::Out, wire_size);
        let is_end = is_end || read.framing == Framing::None;
        let mut cookie = Vec::new();
        let told = self.exchange.head(is_end, &mut cookie);
        let answered = downstream.respond(&read, &told).await;
        answered.map_err(gone)?;
        if is_end {
            return Ok(None);
        }
        let mut source = Source::Http2(Http2Source {
            stream: content,
            holding: None,
        });
        let taken = self.exchange.take_content(&mut source).await;
        taken
            .map(|()| None)
            .map_err(|cut| match (cut, self.lease.flood()) {
                (BodyError::Broken(Outcome::UpstreamReset), Some(kind)) => bad_response(Some(kind)),
                (cut, _) => of_upstream(cut),
            })
    }

    /// Tells the client that the protocol is switched.
    async fn switch(&self, fields: &HeaderMap, accept: &str) -> Result<(), Failure> {
        let limits = &self.exchange.connection().worker.shared.limits.http_head;
        let lines = heads::switched(fields, accept, limits);
        let lines = lines.map_err(|refusal| bad_response(Some(refusal)))?;
        let read = decoded::switched(lines.fields());
        self.exchange.progress.is_heard.set(true);
        let wire_size = lines.fields().lines().len();
        self.exchange.count_head(Direction::Out, wire_size);
        let mut cookie = Vec::new();
        let told = self.exchange.head(false, &mut cookie);
        let told = self.exchange.downstream.respond(&read, &told).await;
        told.map_err(|_| Outcome::ClientReset.into())
    }

    /// What a request ends with whose stream broke.
    fn broke(&self, error: Option<&h2::Error>) -> Failure {
        if let Some(kind) = self.lease.flood() {
            return bad_response(Some(kind));
        }
        if let Some(error) = error {
            // Beyond what the upstream's GOAWAY names, and refused: it has not begun (RFC 9113
            // section 8.7).
            if !error.is_reset() {
                self.lease.distrust();
            }
            if error.reason() == Some(Reason::REFUSED_STREAM)
                || error.is_go_away() && error.reason() == Some(Reason::NO_ERROR)
            {
                self.lease.refused();
                return Outcome::NoTarget.into();
            }
        }
        Outcome::UpstreamReset.into()
    }
}

fn poll_head(response: &mut ResponseFuture, cx: &mut Context<'_>) -> Poll<Result<Head, h2::Error>> {
    if let Poll::Ready(Some(interim)) = response.poll_informational(cx) {
        return Poll::Ready(interim.map(Head::Interim));
    }
    Pin::new(response)
        .poll(cx)
        .map(|head| head.map(Head::Final))
}
