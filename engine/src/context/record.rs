//! What is learnt of a connection on its way, and the record of it when it ends.

use std::{
    cell::{Cell, OnceCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use engine_core::{
    classify::{ClientHello, ServerName},
    endpoint::Unresolved,
    ids::WorkerId,
    outcome::Outcome,
};
use engine_tls::Cause;

use crate::context::account::{RouteTally, clients::ClientTally};

/// One ended connection, as the connection log tells it.
#[derive(Clone, Debug)]
pub struct Record {
    /// When it was accepted.
    pub time: SystemTime,
    /// The listener's name.
    pub listener: Arc<str>,
    /// The worker that served it.
    pub worker: WorkerId,
    /// The client, as the PROXY protocol header says where one was accepted.
    pub client: SocketAddr,
    /// The hostname that it asked for.
    pub name: Option<Box<str>>,
    /// The first application protocol that it offered.
    pub alpn: Option<Box<[u8]>>,
    /// The hello carried an `encrypted_client_hello` extension (or GREASE that looks like one).
    pub ech: bool,
    /// The route's label.
    pub route: Option<Arc<str>>,
    /// The network's name.
    pub network: Option<Arc<str>>,
    /// The target that took the connection.
    pub target: Option<SocketAddr>,
    /// Bytes read from the client and accepted by the target; of HTTP, those of all requests together,
    /// as they left.
    pub bytes_in: u64,
    /// Bytes read from the target and accepted by the client; of HTTP, those of all responses together,
    /// the gateway's own among them.
    pub bytes_out: u64,
    /// How long each stage took.
    pub durations: Durations,
    /// How bytes were moved: `copy`, `splice`, or `none` when there was no relay.
    pub relay: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, where that is more than the outcome says: what its handshake failed with, why its
    /// target's name led nowhere.
    pub reason: Option<&'static str>,
}

/// How long the stages of a connection took; `None` where it ended before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Durations {
    /// From the wake-up of the listener to the first stage.
    pub accept: Duration,
    /// To the whole hello.
    pub hello: Option<Duration>,
    /// From there to the connection that a target took.
    pub dial: Option<Duration>,
    /// From the accept to the first byte from the target.
    pub first_byte: Option<Duration>,
    /// From the accept to the end.
    pub total: Duration,
}

/// What is learnt of a connection on its way through the stages.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) accepted_at: Instant,
    pub(crate) woken_at: Instant,
    pub(crate) client: SocketAddr,
    pub(crate) name: Option<Box<str>>,
    pub(crate) alpn: Option<Box<[u8]>>,
    pub(crate) ech: bool,
    pub(crate) hello_at: Option<Instant>,
    pub(crate) dialed_at: Option<Instant>,
    pub(crate) target: Option<SocketAddr>,
    pub(crate) route: Option<Rc<RouteTally>>,
    /// Why the client's handshake failed.
    pub(crate) cause: Option<Cause>,
    /// Why the target's name led nowhere.
    pub(crate) unresolved: Option<Unresolved>,
    pub(crate) flow: Flow,
}

/// What moves, in the cells that both directions of a relay share.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    pub(crate) bytes_in: Cell<u64>,
    pub(crate) bytes_out: Cell<u64>,
    pub(crate) first_byte_at: Cell<Option<Instant>>,
    pub(crate) relayed_by: Cell<RelayedBy>,
    /// Where the bytes are counted for the client; set with the target.
    pub(crate) client: OnceCell<Rc<ClientTally>>,
}

impl Flow {
    /// Adds what moved beside a relay: the requests of HTTP.
    pub(crate) fn add(&self, received: u64, sent: u64) {
        self.bytes_in.set(self.bytes_in.get() + received);
        self.bytes_out.set(self.bytes_out.get() + sent);
    }
}

/// How the bytes of a connection were moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RelayedBy {
    /// It never came to a relay.
    #[default]
    None,
    /// All of them through the scratch buffer.
    Copy,
    /// Some of them through a pipe.
    Splice,
}

impl RelayedBy {
    fn label(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Copy => "copy",
            Self::Splice => "splice",
        }
    }
}

impl Trace {
    pub(crate) fn new(client: SocketAddr, woken_at: Instant) -> Self {
        Self {
            accepted_at: Instant::now(),
            woken_at,
            client,
            name: None,
            alpn: None,
            ech: false,
            hello_at: None,
            dialed_at: None,
            target: None,
            route: None,
            cause: None,
            unresolved: None,
            flow: Flow::default(),
        }
    }

    /// Takes in what the hello says.
    pub(crate) fn learn(&mut self, hello: &ClientHello) {
        self.hello_at = Some(Instant::now());
        self.ech = hello.ech;
        self.alpn.clone_from(&hello.alpn);
        if let ServerName::Host(name) = &hello.name {
            self.name = Some(name.as_str().into());
        }
    }

    /// The record of the connection, which ends now. Takes the names out.
    pub(crate) fn take_record(
        &mut self,
        listener: Arc<str>,
        worker: WorkerId,
        outcome: Outcome,
    ) -> Record {
        let now = Instant::now();
        let total = now - self.accepted_at;
        let since_accept = |at: Instant| at.saturating_duration_since(self.accepted_at);
        let durations = Durations {
            accept: self.accepted_at.saturating_duration_since(self.woken_at),
            hello: self.hello_at.map(since_accept),
            dial: self
                .dialed_at
                .map(|at| at.saturating_duration_since(self.hello_at.unwrap_or(self.accepted_at))),
            first_byte: self.flow.first_byte_at.get().map(since_accept),
            total,
        };
        let name = self.route.as_ref().map(|route| &route.name);
        let unresolved = self.unresolved.map(Unresolved::label);
        Record {
            time: SystemTime::now()
                .checked_sub(total)
                .unwrap_or(SystemTime::UNIX_EPOCH),
            listener,
            worker,
            client: self.client,
            name: self.name.take(),
            alpn: self.alpn.take(),
            ech: self.ech,
            route: name.map(|name| Arc::clone(&name.label)),
            network: name.map(|name| Arc::clone(&name.network_name)),
            target: self.target,
            bytes_in: self.flow.bytes_in.get(),
            bytes_out: self.flow.bytes_out.get(),
            durations,
            relay: self.flow.relayed_by.get().label(),
            outcome,
            reason: self.cause.map(Cause::label).or(unresolved),
        }
    }
}
