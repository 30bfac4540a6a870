//! What an engine is started with.

use std::{
    net::{IpAddr, SocketAddr},
    num::{NonZeroU16, NonZeroU32},
    time::Duration,
};

use crossbeam_channel::Sender;
use engine_core::hostname::Hostname;
use engine_sys::socket::Liveness;

use crate::context::{
    challenge::Challenges, http2_limits::Http2Limits, record::Record, request_record::RequestRecord,
};

/// Everything that needs a restart to change.
#[derive(Debug)]
pub struct Config {
    /// What the workers wait with.
    pub driver: DriverChoice,
    /// How many workers there are.
    pub workers: Workers,
    /// The bounds.
    pub limits: Limits,
    /// Where the record of each ended connection goes. A full channel drops records, counts them,
    /// and never holds a worker up.
    pub records: Option<Sender<Record>>,
    /// Where the record of each ended HTTP request goes, in the same way.
    pub requests: Option<Sender<RequestRecord>>,
    /// What ACME directories are answered that look whether a name is ours; control changes it.
    pub challenges: Challenges,
    /// Where it is told that a client asked for a name without a certificate, if anyone wants to
    /// know. A full channel passes over some, and never holds a worker up.
    pub strangers: Option<Sender<UndeclaredName>>,
    /// Where the process listens beside its listeners, in its own namespace: no name of a target may lead
    /// there.
    pub reserved: Vec<SocketAddr>,
}

/// A client that asked for a name without a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UndeclaredName {
    /// The name.
    pub name: Hostname,
    /// The client.
    pub client: IpAddr,
}

/// What the workers wait with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DriverChoice {
    /// io_uring, or epoll where it is refused.
    #[default]
    Auto,
    /// io_uring, or no start.
    IoUring,
    /// epoll.
    Epoll,
}

/// How many workers there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Workers {
    /// One for each processor that the process may run on, pinned to it.
    #[default]
    Auto,
    /// This many; pinned while there are processors left.
    Count(NonZeroU16),
}

/// The bounds of everything. See the field for what happens past each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most connections at a time; more are closed at once.
    pub connections_max: NonZeroU32,
    /// Most connections at a time for each network; more are closed when they are routed.
    pub connections_per_network_max: Option<NonZeroU32>,
    /// Most connections at a time for each source (IPv4 address or IPv6 /64).
    pub connections_per_source_max: Option<NonZeroU32>,
    /// Most new connections a second for each source; one second's worth may come at once.
    pub accept_rate_per_source: Option<NonZeroU32>,
    /// Longest ClientHello, with its record headers, in bytes.
    pub hello_bytes_max: usize,
    /// The bounds of HTTP heads; more is refused.
    pub http_head: engine_http::limits::Limits,
    /// The bounds of connections of HTTP/2.
    pub http2: Http2Limits,
    /// Most upstream connections that a worker keeps for the next request; more are closed.
    pub upstreams_idle_max: usize,
    /// How long it keeps one of those.
    pub upstream_idle_timeout: Duration,
    /// Most names of targets that a worker knows; the one that was used longest ago makes room.
    pub names_max: usize,
    /// Most connections that one wake-up of a listener takes off its queue.
    pub accept_batch_max: u32,
    /// Longest queue of connections that are not accepted yet, for each worker; the kernel caps it
    /// at `net.core.somaxconn`.
    pub backlog: u32,
    /// The worker's buffer, and so the largest piece that is copied at once, in bytes.
    pub scratch_bytes: usize,
    /// Most bytes that a worker keeps for destinations that would not take them. Past this, pieces
    /// shrink to 16 KiB. As much may be held of requests of HTTP/2 before their connections' windows
    /// stop growing, and of responses before further streams get windows of 16 KiB.
    pub held_bytes_max: usize,
    /// The capacity of a splice pipe in bytes; the kernel caps it at `fs.pipe-max-size`.
    pub pipe_bytes: usize,
    /// Most idle pipes that a worker keeps.
    pub pipes_idle_max: usize,
    /// Most clients of a worker whose bytes are counted apart at once; 0 counts none of them, and
    /// then [`crate::Engine::take_clients`] has nothing.
    pub accounted_clients_max: usize,
    /// Silence after which a peer is probed (tcp(7), TCP_KEEPIDLE).
    pub keep_alive: Duration,
    /// How long sent bytes may stay unacknowledged.
    pub user_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: NonZeroU32::new(100_000).unwrap_or(NonZeroU32::MIN),
            connections_per_network_max: None,
            connections_per_source_max: None,
            accept_rate_per_source: None,
            hello_bytes_max: 16 << 10,
            http_head: engine_http::limits::Limits::default(),
            http2: Http2Limits::default(),
            upstreams_idle_max: 1024,
            names_max: 4096,
            upstream_idle_timeout: Duration::from_secs(30),
            accept_batch_max: 64,
            backlog: 4096,
            scratch_bytes: 1 << 20,
            held_bytes_max: 256 << 20,
            pipe_bytes: 512 << 10,
            pipes_idle_max: 64,
            accounted_clients_max: 16_384,
            keep_alive: Duration::from_secs(60),
            user_timeout: Duration::from_secs(60),
        }
    }
}

impl Limits {
    pub(crate) fn liveness(&self) -> Liveness {
        Liveness {
            keep_alive: self.keep_alive,
            user_timeout: self.user_timeout,
        }
    }
}
