//! What a worker keeps open towards targets, and what it knows of them.

pub(crate) mod ask;
pub(crate) mod dial;
pub(crate) mod health;
pub(crate) mod http2;
pub(crate) mod pick;
pub(crate) mod pool;
pub(crate) mod race;
pub(crate) mod resolve;
pub(crate) mod sessions;
pub(crate) mod tls;

use std::rc::Rc;

use crate::{
    context::config::Limits,
    upstream::{http2::Upstreams, pool::Pool, resolve::Names, sessions::Sessions},
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
    /// Where the names of targets lead.
    pub(crate) names: Rc<Names>,
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
                limits.held_bytes_max,
            ),
            sessions: Sessions::default(),
            names: Rc::new(Names::new(limits.names_max)),
        }
    }
}
