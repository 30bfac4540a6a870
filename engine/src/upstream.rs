//! What a worker keeps open towards targets, and what it knows of them.

pub(crate) mod ask;
pub(crate) mod dial;
pub(crate) mod health;
pub(crate) mod http2;
pub(crate) mod pool;
pub(crate) mod sessions;
pub(crate) mod tls;

use crate::{
    context::{WorkerContext, config::Limits},
    upstream::{http2::Upstreams, pool::Pool, sessions::Sessions},
};

/// Connections and sessions of one worker that the next request may use.
#[derive(Debug)]
pub(crate) struct Pools {
    /// Connections of HTTP/1 that wait for the next request.
    pub(crate) idle: Pool,
    /// Connections of HTTP/2.
    pub(crate) shared: Upstreams,
    /// TLS sessions that can be resumed.
    pub(crate) sessions: Sessions,
}

impl Pools {
    /// Empty ones.
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            idle: Pool::new(limits.upstreams_idle_max, limits.upstream_idle_timeout),
            shared: Upstreams::new(
                limits.http2.clone(),
                limits.http_head.head_bytes_max,
                limits.upstream_idle_timeout,
            ),
            sessions: Sessions::default(),
        }
    }

    /// Whether the windows of requests of HTTP/2 come to more than is kept for destinations that take
    /// nothing: further connections get small ones.
    pub(crate) fn is_crowded(&self, worker: &WorkerContext) -> bool {
        let limits = &worker.shared.limits;
        let streams = worker.live.streams() + self.shared.streams();
        let window = usize::try_from(limits.http2.stream_window).unwrap_or(usize::MAX);
        streams.saturating_mul(window) > limits.held_bytes_max
    }
}
