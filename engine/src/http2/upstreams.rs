//! Connections of HTTP/2 to upstreams, each shared by many requests.
//!
//! Each worker has its own. A request takes the one with the fewest requests; a further one is made
//! when all are as full as the upstream allows, up to a bound. One that nobody uses rests for as
//! long as those of HTTP/1, and ends in order.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io,
    net::IpAddr,
    os::fd::AsFd as _,
    rc::Rc,
    time::{Duration, Instant},
};

use ahash::RandomState;
use bytes::Bytes;
use engine_core::ids::NetworkId;
use engine_sys::socket;
use h2::client::SendRequest;

use super::{limits::Http2Limits, transport::Transport};
use crate::{
    end::End,
    http::{ahead::Ahead, pool::Key},
    live::Dialed,
    rt,
};

/// The connections of one worker.
#[derive(Debug)]
pub(crate) struct Upstreams {
    by_key: RefCell<HashMap<Key, Vec<Rc<Upstream>>, RandomState>>,
    limits: Http2Limits,
    head_bytes_max: u32,
    rest_max: Duration,
}

/// A connection, for as long as anybody may want to use it.
#[derive(Debug)]
struct Upstream {
    sender: SendRequest<Bytes>,
    is_tls: bool,
    /// Where it leaves from.
    local: Option<IpAddr>,
    /// Requests that are on it.
    streams: Cell<usize>,
    /// When the last one ended.
    rests_since: Cell<Instant>,
    /// It takes no more requests.
    is_over: Rc<Cell<bool>>,
}

/// A request's place on a connection.
#[derive(Debug)]
pub(crate) struct Lease {
    upstream: Rc<Upstream>,
    was_refused: Cell<bool>,
}

impl Upstreams {
    /// Keeps connections at rest for at most `rest_max`.
    pub(crate) fn new(limits: Http2Limits, head_bytes_max: usize, rest_max: Duration) -> Self {
        Self {
            by_key: RefCell::default(),
            limits,
            head_bytes_max: u32::try_from(head_bytes_max).unwrap_or(u32::MAX),
            rest_max,
        }
    }

    /// A place on a connection that has one. `None` when a connection is to be made.
    pub(crate) fn take(&self, key: &Key) -> Option<Lease> {
        let mut by_key = self.by_key.borrow_mut();
        let upstreams = by_key.get_mut(key)?;
        upstreams.retain(|upstream| !upstream.is_over.get());
        let is_full = upstreams.len() >= self.limits.connections_per_target_max;
        let least = upstreams.iter().min_by_key(|it| it.streams.get())?;
        // Where no further connection may be made, the request waits for its turn.
        (least.has_room() || is_full).then(|| Lease::of(least))
    }

    /// Makes a connection to be shared of one that was just opened. Without a key it is for one
    /// request alone.
    ///
    /// # Errors
    /// When it broke meanwhile.
    pub(crate) async fn add(&self, key: Option<Key>, end: End) -> io::Result<Lease> {
        let is_tls = end.as_plain().is_none();
        let local = socket::local_address(end.socket().as_fd()).ok();
        let transport = Transport::new(Rc::new(end), Ahead::default());
        let handshake = self.builder().handshake::<_, Bytes>(transport);
        let (sender, driver) = handshake.await.map_err(io::Error::other)?;
        let is_over = Rc::new(Cell::new(false));
        let upstream = Rc::new(Upstream {
            sender,
            is_tls,
            local: local.map(|local| local.ip()),
            streams: Cell::new(0),
            rests_since: Cell::new(Instant::now()),
            is_over: Rc::clone(&is_over),
        });
        rt::spawn(async move {
            // Its requests tell what broke.
            let _ = driver.await;
            is_over.set(true);
        });
        let lease = Lease::of(&upstream);
        let Some(key) = key else {
            return Ok(lease);
        };
        let mut by_key = self.by_key.borrow_mut();
        let upstreams = by_key.entry(key).or_default();
        // Many requests may have found none at once: those past the bound end with their request.
        if upstreams.len() < self.limits.connections_per_target_max {
            upstreams.push(upstream);
        }
        Ok(lease)
    }

    /// Ends what has rested for too long.
    pub(crate) fn sweep(&self, now: Instant) {
        self.keep(|_, upstream| {
            let rested = now.saturating_duration_since(upstream.rests_since.get());
            !upstream.is_over.get() && (upstream.streams.get() > 0 || rested < self.rest_max)
        });
    }

    /// Ends all connections into networks that are gone, as soon as their requests have ended.
    pub(crate) fn end_networks(&self, is_gone: impl Fn(NetworkId) -> bool) {
        self.keep(|key, _| !is_gone(key.network));
    }

    /// Ends all connections that leave from where there is nothing left to leave from.
    pub(crate) fn end_dialed(&self, is_gone: impl Fn(Dialed) -> bool) {
        self.keep(|key, upstream| {
            !is_gone(Dialed {
                namespace: key.namespace,
                local: upstream.local,
            })
        });
    }

    fn keep(&self, keeps: impl Fn(&Key, &Upstream) -> bool) {
        // A connection that no sender is left of says goodbye and ends.
        self.by_key.borrow_mut().retain(|key, upstreams| {
            upstreams.retain(|upstream| keeps(key, upstream));
            !upstreams.is_empty()
        });
    }

    /// How h2 treats upstreams.
    fn builder(&self) -> h2::client::Builder {
        let mut builder = h2::client::Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(self.limits.stream_window)
            .initial_connection_window_size(self.limits.upstream_window)
            .max_header_list_size(self.head_bytes_max);
        builder
    }
}

impl Upstream {
    fn has_room(&self) -> bool {
        self.streams.get() < self.sender.current_max_send_streams()
    }
}

impl Lease {
    fn of(upstream: &Rc<Upstream>) -> Self {
        upstream.streams.set(upstream.streams.get() + 1);
        Self {
            upstream: Rc::clone(upstream),
            was_refused: Cell::new(false),
        }
    }

    /// What a request is sent with.
    pub(super) fn sender(&self) -> SendRequest<Bytes> {
        self.upstream.sender.clone()
    }

    /// Where the connection leaves from.
    pub(crate) fn local(&self) -> Option<IpAddr> {
        self.upstream.local
    }

    /// Whether the connection is one of TLS.
    pub(super) fn is_tls(&self) -> bool {
        self.upstream.is_tls
    }

    /// No further request is to use the connection.
    pub(super) fn distrust(&self) {
        self.upstream.is_over.set(true);
    }

    /// The upstream has not begun with the request, so it may be sent again, whatever it is (RFC
    /// 9113 section 8.7).
    pub(super) fn refused(&self) {
        self.was_refused.set(true);
    }

    /// Whether [`Lease::refused`] was said.
    pub(crate) fn was_refused(&self) -> bool {
        self.was_refused.get()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let upstream = &self.upstream;
        upstream
            .streams
            .set(upstream.streams.get().saturating_sub(1));
        upstream.rests_since.set(Instant::now());
    }
}
