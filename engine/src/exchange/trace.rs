//! What is learnt of a request on its way, and the record of it when it ends.

use std::{
    cell::{Cell, OnceCell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use engine_core::outcome::Outcome;
use engine_http::{method::Version, request::Request, trace::TraceParent};

use crate::{
    context::request_record::{RequestRecord, Text, Texts, Times},
    context::{FlowContext, account::RouteTally, record::Flow},
    exchange::connection::Connection,
};

/// A request that is not accounted yet. It is when this is dropped, however that comes about: a
/// connection that the sweep ends takes its request with it.
#[derive(Debug)]
pub(crate) struct RequestTrace<'a> {
    connection: &'a Connection<'a>,
    /// Whose request it is.
    client: Cell<SocketAddr>,
    began: Instant,
    version: Cell<Version>,
    /// `None` where requests are not logged.
    texts: RefCell<Option<Box<Texts>>>,
    route: OnceCell<Rc<RouteTally>>,
    /// The request was admitted to its route, which counts its end too.
    is_admitted: Cell<bool>,
    pub(crate) status: Cell<Option<u16>>,
    /// How it ended; whatever ended its connection if nobody says.
    pub(crate) outcome: Cell<Option<Outcome>>,
    /// Why the gateway answered by itself.
    pub(crate) reason: Cell<Option<&'static str>>,
    pub(crate) upstream: Cell<Option<SocketAddr>>,
    pub(crate) attempts: Cell<u32>,
    /// For connections to upstreams, all attempts together.
    pub(crate) connecting: Cell<Option<Duration>>,
    /// When the head of the upstream's answer was there.
    pub(crate) headed_at: Cell<Option<Instant>>,
    /// When all of the upstream's answer was there.
    pub(crate) answered_at: Cell<Option<Instant>>,
    /// Bytes of content from the client, and to it.
    pub(crate) content: Cell<(u64, u64)>,
    /// The client takes the end of its connection for the end of the response.
    pub(crate) ends_by_close: Cell<bool>,
}

/// What an attempt moves; counted as the request's content when it ends.
#[derive(Debug)]
pub(crate) struct ByteCounts<'a> {
    pub(crate) flow: Flow,
    trace: &'a RequestTrace<'a>,
    /// Bytes of heads, which are no content: to the upstream, and from it.
    pub(crate) heads: Cell<(u64, u64)>,
}

impl<'a> RequestTrace<'a> {
    /// A request whose head began to come at `began`.
    pub(crate) fn new(connection: &'a Connection<'a>, client: SocketAddr, began: Instant) -> Self {
        let logs = connection.worker.shared.requests.is_some();
        Self {
            connection,
            client: Cell::new(client),
            began,
            version: Cell::new(Version::Http11),
            texts: RefCell::new(logs.then(Box::default)),
            route: OnceCell::new(),
            is_admitted: Cell::new(false),
            status: Cell::new(None),
            outcome: Cell::new(None),
            reason: Cell::new(None),
            upstream: Cell::new(None),
            attempts: Cell::new(0),
            connecting: Cell::new(None),
            headed_at: Cell::new(None),
            answered_at: Cell::new(None),
            content: Cell::new((0, 0)),
            ends_by_close: Cell::new(false),
        }
    }

    /// Whether requests are logged.
    pub(crate) fn is_logged(&self) -> bool {
        self.texts.borrow().is_some()
    }

    /// Takes in what the head says.
    pub(crate) fn learn(&self, request: &Request<'_>, id: &str, parent: Option<TraceParent>) {
        self.version.set(request.version);
        let mut texts = self.texts.borrow_mut();
        let Some(texts) = &mut *texts else {
            return;
        };
        texts.put(Text::Id, id.as_bytes());
        texts.put(Text::Method, request.method.as_str().as_bytes());
        texts.put_target(request);
        let host = request.host.map(|host| host.as_str().as_bytes());
        texts.put_some(Text::Host, host);
        texts.put_some(Text::UserAgent, request.fields.first("user-agent"));
        texts.put_some(Text::Referer, request.fields.first("referer"));
        if let Some(parent) = parent {
            texts.put(Text::TraceId, &parent.encode()[3..35]);
        }
    }

    /// Takes in whom trusted proxies name as the client.
    pub(crate) fn learn_client(&self, client: SocketAddr) {
        self.client.set(client);
    }

    /// Takes in the name of a request that was not understood.
    pub(crate) fn learn_id(&self, id: &str) {
        if let Some(texts) = &mut *self.texts.borrow_mut() {
            texts.put(Text::Id, id.as_bytes());
        }
    }

    /// Takes in the name that basic authentication took.
    pub(crate) fn learn_user(&self, user: &str) {
        if let Some(texts) = &mut *self.texts.borrow_mut() {
            texts.put(Text::User, user.as_bytes());
        }
    }

    /// The request falls under this route.
    pub(crate) fn routed(&self, route: Rc<RouteTally>) {
        // A request has one route.
        let _ = self.route.set(route);
    }

    /// The route counts the request as one that began, and will count its end.
    pub(crate) fn admitted(&self) {
        self.is_admitted.set(true);
    }

    /// An upstream was tried, where one was found.
    pub(crate) fn attempt(&self, upstream: Option<SocketAddr>, took: Duration) {
        if upstream.is_some() {
            self.upstream.set(upstream);
        }
        self.attempts.set(self.attempts.get() + 1);
        let before = self.connecting.get().unwrap_or_default();
        self.connecting.set(Some(before + took));
    }

    fn record(&self, outcome: Outcome, took: Duration) -> Option<RequestRecord> {
        let texts = self.texts.take()?;
        let since = |at: Instant| at.saturating_duration_since(self.began);
        Some(RequestRecord {
            time: SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default()
                .saturating_sub(took),
            client: self.client.get(),
            version: self.version.get(),
            status: self.status.get(),
            reason: self
                .reason
                .get()
                .or_else(|| (outcome != Outcome::Done).then(|| outcome.label())),
            content: self.content.get(),
            times: Times {
                whole: took,
                connect: self.connecting.get(),
                head: self.headed_at.get().map(since),
                answer: self.answered_at.get().map(since),
            },
            upstream: self.upstream.get(),
            attempts: self.attempts.get(),
            route: self.route.get().map(|route| Arc::clone(&route.name)),
            texts: *texts,
            tls: self.connection.streams.client.tls_version(),
            outcome,
        })
    }
}

impl Drop for RequestTrace<'_> {
    fn drop(&mut self) {
        let FlowContext { worker, slot, .. } = self.connection.flow;
        let ended = self.outcome.get().or_else(|| slot.end_reason());
        let outcome = ended.unwrap_or(Outcome::GatewayError);
        let took = self.began.elapsed();
        if let Some(route) = self.route.get() {
            worker.ledger.count(route, |tally| {
                tally.requests().close(self.status.get(), took);
                if self.is_admitted.get() {
                    tally.close(outcome);
                }
                if let Some(at) = self.headed_at.get() {
                    let micros = at.saturating_duration_since(self.began).as_micros();
                    tally.record_first_byte(u64::try_from(micros).unwrap_or(u64::MAX));
                }
            });
        }
        if let Some(record) = self.record(outcome, took) {
            worker.log_request(record);
        }
    }
}

impl<'a> ByteCounts<'a> {
    pub(crate) fn new(trace: &'a RequestTrace<'a>) -> Self {
        Self {
            flow: Flow::default(),
            trace,
            heads: Cell::new((0, 0)),
        }
    }
}

impl Drop for ByteCounts<'_> {
    fn drop(&mut self) {
        let client = &self.trace.connection.streams.client;
        client.add_moved(self.flow.bytes_in.get(), self.flow.bytes_out.get());
        let (received, sent) = self.trace.content.get();
        let heads = self.heads.get();
        let of = |bytes: u64, head: u64| bytes.saturating_sub(head);
        self.trace.content.set((
            received + of(self.flow.bytes_in.get(), heads.0),
            sent + of(self.flow.bytes_out.get(), heads.1),
        ));
        if let Some(client) = self.flow.client.get() {
            self.trace.connection.worker.ledger.close_client(client);
        }
    }
}
