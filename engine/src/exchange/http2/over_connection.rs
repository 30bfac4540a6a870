//! An attempt to have an upstream of HTTP/1 answer a request that came on a stream.

use std::{io, pin::pin};

use engine_core::outcome::Outcome;
use engine_http::{
    chunked::Decoder,
    facts,
    reading::Reading,
    response::{self, Framing, Response},
    scan::Scan,
};

use crate::{
    context::FlowContext,
    exchange::{
        attempt::Failure,
        body::send_all,
        http2::{
            Exchange, Passed, bad_response,
            body_copy::{Extent, Http1Source, Sink, Source},
            of_upstream,
        },
    },
    relay::Direction,
    transport::{Transport, read_ahead::ReadAhead},
};

/// One attempt.
pub(crate) struct OverConnection<'a> {
    pub(crate) exchange: &'a Exchange<'a>,
    pub(crate) transport: &'a Transport,
}

/// A head that the upstream sent, and what follows it.
struct Begun {
    extent: Extent,
    is_end: bool,
    is_upgrade: bool,
    keep_alive: bool,
}

impl OverConnection<'_> {
    /// Passes a request on, and its response back.
    ///
    /// # Errors
    /// Why it ended early.
    pub(crate) async fn run(
        &self,
        head: Vec<u8>,
        content: &mut Source<'_>,
    ) -> Result<Passed, Failure> {
        let sent = send_all(self.transport, &head).await;
        sent.map_err(|_| Failure::from(Outcome::UpstreamReset))?;
        self.exchange.count_head(Direction::In, head.len());
        drop(head);
        let mut gave = ReadAhead::default();
        let begun = {
            let sink = Sink::Http1 {
                transport: self.transport,
                is_chunked: self.exchange.plan().framing == facts::Framing::Chunked,
                place: None,
            };
            let content = pin!(self.exchange.send_content(content, sink));
            let answer = pin!(self.take_answer(&mut gave));
            self.exchange.both_ways(content, answer).await?
        };
        if begun.is_upgrade {
            let sink = Sink::Http1 {
                transport: self.transport,
                is_chunked: false,
                place: None,
            };
            let mut source = Source::Http1(Http1Source {
                worker: self.exchange.connection().worker,
                transport: self.transport,
                ahead: &mut gave,
                extent: Extent::Close,
            });
            return Ok(self.exchange.tunnel(content, sink, &mut source).await);
        }
        Ok(Passed {
            upstream_rests: begun.keep_alive && self.exchange.is_sent() && gave.is_empty(),
            is_switched: false,
            outcome: Outcome::Done,
        })
    }

    /// Takes the response, and passes on all of it but what follows an upgrade.
    async fn take_answer(&self, gave: &mut ReadAhead) -> Result<Begun, Failure> {
        let (connection, plan) = (self.exchange.connection(), self.exchange.plan());
        let limits = &connection.worker.shared.limits.http_head;
        let mut scan = Scan::default();
        let begun = loop {
            let response = match response::read(gave.unused(), plan.asked, limits, &mut scan) {
                Reading::Head(response) => response,
                Reading::Refused(refusal) => return Err(bad_response(Some(refusal))),
                Reading::NeedMore => {
                    self.receive(gave).await?;
                    continue;
                }
            };
            let head_len = response.head_len;
            self.exchange.count_head(Direction::Out, head_len);
            let begun = self.pass_head(&response).await?;
            gave.consume(head_len);
            scan = Scan::default();
            if let Some(begun) = begun {
                break begun;
            }
        };
        if begun.is_end || begun.is_upgrade {
            return Ok(begun);
        }
        let mut source = Source::Http1(Http1Source {
            worker: connection.worker,
            transport: self.transport,
            ahead: gave,
            extent: begun.extent,
        });
        let taken = self.exchange.take_content(&mut source).await;
        taken.map_err(of_upstream)?;
        Ok(Begun {
            extent: Extent::Left(0),
            ..begun
        })
    }

    /// Passes a head on; gives what follows it, if it is the last one.
    async fn pass_head(&self, response: &Response<'_>) -> Result<Option<Begun>, Failure> {
        let (downstream, plan) = (self.exchange.downstream, self.exchange.plan());
        self.exchange.progress.rests_for.set(response.rests_for);
        let gone = |_: io::Error| Failure::from(Outcome::ClientReset);
        if response.is_interim() {
            self.exchange.hinted(response).await?;
            return Ok(None);
        }
        // To a client of HTTP/2 success says that the protocol is switched (RFC 8441 section 5): an
        // upstream that answers so without switching is not understood.
        let is_success = (200..300).contains(&response.status);
        if plan.asked.upgrade && is_success {
            return Err(bad_response(None));
        }
        let (extent, is_end) = match response.framing {
            Framing::None => (Extent::Left(0), !response.is_upgrade()),
            Framing::Length(length) => (Extent::Left(length), length == 0),
            Framing::Chunked => (Extent::Chunks(Box::new(Decoder::of_response())), false),
            Framing::UntilClose => (Extent::Close, false),
        };
        let mut cookie = Vec::new();
        let told = self.exchange.head(is_end, &mut cookie);
        downstream.respond(response, &told).await.map_err(gone)?;
        Ok(Some(Begun {
            extent,
            is_end,
            is_upgrade: response.is_upgrade(),
            keep_alive: response.keep_alive,
        }))
    }

    async fn receive(&self, gave: &mut ReadAhead) -> Result<(), Failure> {
        let FlowContext { worker, slot, .. } = self.exchange.connection().flow;
        let patience = self.exchange.patience.answer();
        loop {
            let waited = slot.within(&worker.live, patience, self.transport.readable());
            match waited.await {
                Ok(readable) => readable.map_err(|_| Failure::from(Outcome::GatewayError))?,
                Err(_) => return Err(Outcome::AnswerTimeout.into()),
            }
            match gave.receive(worker, self.transport) {
                Ok(0) => return Err(Outcome::UpstreamReset.into()),
                Ok(_) => {
                    self.exchange.progress.is_heard.set(true);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Err(Outcome::UpstreamReset.into()),
            }
        }
    }
}
