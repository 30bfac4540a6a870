//! The client's side of a request: where its response goes to.

use std::{
    cell::{Cell, OnceCell, RefCell},
    io,
    rc::Rc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use engine_http::{
    date::HttpDate,
    forward::{ResponseForwarding, write_interim, write_response},
    method::Version,
    response::{Framing, Response},
};
use h2::{Reason, server::SendResponse};

use crate::{
    exchange::{
        Plan,
        answer::LocalReply,
        body::send_all,
        http2::{
            body_copy::{Http2Sink, Sink},
            heads,
        },
        trace::RequestTrace,
        watch::ResponseState,
    },
    transport::{
        Transport,
        http2::left::{Counted, Left},
    },
};

/// The client's side of a request.
pub(crate) enum Downstream<'a> {
    /// A stream of HTTP/2.
    Http2(&'a Http2Downstream, &'a RequestTrace<'a>),
    /// A connection of HTTP/1.
    Http1(Http1Downstream<'a>),
}

/// A stream that a request came on.
///
/// Several futures of one task use it, each between two waits.
pub(crate) struct Http2Downstream {
    respond: RefCell<SendResponse<Bytes>>,
    stream: OnceCell<Http2Sink>,
    /// Heads that h2 was handed, and what has left of them and of the content.
    heads: Cell<u64>,
    left: Counted,
}

/// What follows an answer of the gateway's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The stream ends with it.
    Whole,
    /// The stream is reset behind it.
    Open,
}

/// A connection of HTTP/1 that a request came on.
pub(crate) struct Http1Downstream<'a> {
    transport: &'a Transport,
    trace: &'a RequestTrace<'a>,
    is_chunked: Cell<bool>,
    /// It was told that the connection ends.
    closes: Cell<bool>,
    /// Where the response is.
    place: Cell<ResponseState>,
}

/// What the client is told along with the head of a response.
pub(crate) struct Head<'a> {
    pub(crate) plan: &'a Plan<'a>,
    /// The value of a further `Set-Cookie`.
    pub(crate) cookie: Option<&'a Vec<u8>>,
    /// Nothing follows.
    pub(crate) is_end: bool,
    /// The client should ask no more on its connection.
    pub(crate) is_last: bool,
    /// Now.
    pub(crate) date: HttpDate,
}

impl Downstream<'_> {
    /// Whether a final head was sent: from then on nobody else can answer.
    pub(crate) fn is_answered(&self) -> bool {
        match self {
            Self::Http2(downstream, _) => downstream.stream.get().is_some(),
            Self::Http1(downstream) => downstream.trace.status.get().is_some(),
        }
    }

    /// Whether the client has taken its request back, or is gone.
    pub(crate) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Http2(downstream, _) => downstream.poll_gone(cx),
            // It is watched by whoever has sent its content.
            Self::Http1(_) => Poll::Pending,
        }
    }

    /// Passes an interim response on.
    ///
    /// # Errors
    /// When the client is gone.
    pub(crate) async fn inform(&self, response: &Response<'_>, plan: &Plan<'_>) -> io::Result<()> {
        match self {
            Self::Http2(downstream, _) => {
                let mut respond = downstream.respond.borrow_mut();
                let sent = respond.send_informational(heads::interim(response));
                sent.map_err(io::Error::other)?;
                downstream.heads.set(downstream.heads.get() + 1);
                Ok(())
            }
            Self::Http1(_) if plan.version == Version::Http10 => Ok(()),
            Self::Http1(downstream) => {
                let mut head = Vec::new();
                write_interim(response, &mut head);
                let place = downstream.place.replace(ResponseState::Within);
                send_all(downstream.transport, &head).await?;
                downstream.place.set(place);
                Ok(())
            }
        }
    }

    /// Passes the head of the response on.
    ///
    /// # Errors
    /// When the client is gone.
    pub(crate) async fn respond(&self, response: &Response<'_>, told: &Head<'_>) -> io::Result<()> {
        let trace = match self {
            Self::Http2(_, trace) => *trace,
            Self::Http1(downstream) => downstream.trace,
        };
        trace.headed_at.set(Some(Instant::now()));
        match self {
            Self::Http2(downstream, _) => {
                let head = downstream.head(response, told);
                trace.status.set(Some(head.status().as_u16()));
                downstream.respond(head, told.is_end).map(drop)
            }
            Self::Http1(downstream) => {
                let head = downstream.head(response, told);
                trace.status.set(Some(response.status));
                downstream.place.set(ResponseState::Within);
                send_all(downstream.transport, &head).await?;
                if downstream.is_chunked.get() {
                    downstream.place.set(ResponseState::BetweenChunks);
                }
                Ok(())
            }
        }
    }

    /// Whether the client was told that the connection ends.
    pub(crate) fn closes(&self) -> bool {
        match self {
            Self::Http2(..) => false,
            Self::Http1(downstream) => downstream.closes.get(),
        }
    }

    /// Where the content of the response goes to, once its head was sent.
    pub(crate) fn sink(&self) -> Option<Sink<'_>> {
        match self {
            Self::Http2(downstream, _) => downstream.stream.get().map(Sink::Http2),
            Self::Http1(downstream) => Some(Sink::Http1 {
                transport: downstream.transport,
                is_chunked: downstream.is_chunked.get(),
                place: Some(&downstream.place),
            }),
        }
    }
}

/// What a head says, whatever the client speaks.
fn forwarding<'a>(told: &Head<'a>, framing: Framing, keep_alive: bool) -> ResponseForwarding<'a> {
    let plan = told.plan;
    ResponseForwarding {
        version: plan.version,
        keep_alive,
        framing,
        request_id: plan.request_id,
        edits: &plan.policy.response_edits,
        hsts: plan.hsts(),
        set_cookie: told.cookie.map(Vec::as_slice),
        date: told.date,
    }
}

impl Http2Downstream {
    pub(crate) fn new(respond: SendResponse<Bytes>, left: &Rc<Left>) -> Self {
        let left = Counted::begin(left, respond.stream_id().as_u32());
        Self {
            respond: RefCell::new(respond),
            stream: OnceCell::new(),
            heads: Cell::new(0),
            left,
        }
    }

    /// Whether the client has taken its request back, or is gone.
    pub(crate) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self.stream.get() {
            Some(to) => to.stream.borrow_mut().poll_reset(cx).map(drop),
            None => self.respond.borrow_mut().poll_reset(cx).map(drop),
        }
    }

    fn head(&self, response: &Response<'_>, told: &Head<'_>) -> http::Response<()> {
        let mut head = heads::response(response, &forwarding(told, response.framing, true));
        if response.is_upgrade() {
            // So a client of HTTP/2 is told that the protocol is switched (RFC 8441 section 5). The
            // key that this accepts was the gateway's.
            *head.status_mut() = http::StatusCode::OK;
            head.headers_mut().remove("sec-websocket-accept");
        }
        head
    }

    fn respond(&self, head: http::Response<()>, is_end: bool) -> io::Result<&Http2Sink> {
        let stream = self.respond.borrow_mut().send_response(head, is_end);
        let stream = stream.map_err(io::Error::other)?;
        self.heads.set(self.heads.get() + 1);
        Ok(self.stream.get_or_init(|| Http2Sink::new(stream)))
    }

    /// Whether all that was sent on it has left for the client: h2 holds none of it.
    pub(crate) fn has_left(&self) -> bool {
        let content = self.stream.get().map_or(0, |to| to.handed.get());
        self.left.so_far() >= self.heads.get() + content
    }

    /// Sends a response of the gateway's own.
    ///
    /// # Errors
    /// When the client is gone.
    pub(crate) async fn answer(&self, own: &LocalReply, ending: Ending) -> io::Result<()> {
        let content = Bytes::copy_from_slice(own.reply().body());
        let is_whole = ending == Ending::Whole;
        let is_end = content.is_empty() && is_whole;
        let stream = self.respond(heads::own(own), is_end)?;
        if is_end {
            return Ok(());
        }
        stream.send(content, is_whole).await
    }

    /// Ends the stream in the middle.
    pub(crate) fn reset(&self, reason: Reason) {
        match self.stream.get() {
            Some(to) => to.stream.borrow_mut().send_reset(reason),
            None => self.respond.borrow_mut().send_reset(reason),
        }
    }
}

impl<'a> Http1Downstream<'a> {
    pub(crate) fn new(
        transport: &'a Transport,
        trace: &'a RequestTrace<'a>,
        version: Version,
    ) -> Self {
        Self {
            place: Cell::new(ResponseState::before(version)),
            transport,
            trace,
            is_chunked: Cell::new(false),
            closes: Cell::new(false),
        }
    }

    /// Where the response is, for whoever watches the client.
    pub(crate) fn place(&self) -> &Cell<ResponseState> {
        &self.place
    }

    fn head(&self, response: &Response<'_>, told: &Head<'_>) -> Vec<u8> {
        let plan = told.plan;
        let is_modern = plan.version > Version::Http10;
        let framing = if response.framing == Framing::Chunked && !is_modern {
            Framing::UntilClose
        } else {
            response.framing
        };
        self.is_chunked.set(framing == Framing::Chunked);
        self.trace.ends_by_close.set(framing == Framing::UntilClose);
        self.closes
            .set(framing == Framing::UntilClose || told.is_last);
        let keep_alive = plan.keep_alive && !self.closes.get();
        let mut head = Vec::new();
        write_response(response, &forwarding(told, framing, keep_alive), &mut head);
        head
    }
}
