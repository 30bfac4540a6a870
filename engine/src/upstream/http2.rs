//! Connections of HTTP/2 to upstreams, each shared by many requests.
//!
//! Each worker has its own. A request takes the one with the fewest requests; a further one is made
//! when all are full: the upstream allows no more requests on them, or their window has no room for
//! the content of another one, or the worker has no room for a window of its size. Up to a bound they
//! are kept: one that nobody uses rests for as long as those of HTTP/1, and ends in order. Those beyond
//! it are used when all others are full, and end as soon as nobody uses them.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::{Future as _, poll_fn},
    io,
    net::IpAddr,
    os::fd::AsFd as _,
    pin::pin,
    rc::Rc,
    task::Poll,
    time::{Duration, Instant},
};

use ahash::RandomState;
use bytes::Bytes;
use engine_core::ids::NetworkId;
use engine_http::refusal::Refusal;
use engine_sys::socket;
use h2::client::SendRequest;

use crate::{
    context::{
        http2_limits::{Http2Limits, Windows},
        live::Dialed,
        room::Level,
    },
    rt,
    transport::{
        Transport,
        http2::{
            ByteStream, SEND_BUFFER_BYTES,
            control_frames::{Allowance, Side},
        },
        read_ahead::ReadAhead,
    },
    upstream::pool::Key,
};

/// How many of the hosts that requests name have a connection that is kept, and how many of one network: a
/// connection for a further one is for one request alone. They are made up by clients.
const HOSTS_MAX: usize = 1024;
const HOSTS_OF_NETWORK_MAX: usize = 128;

/// How long the settings of a new connection are waited for, and how often it is looked whether they are
/// there. They are the first that an upstream sends (RFC 9113 section 3.4).
const SETTINGS_WITHIN: Duration = Duration::from_secs(1);
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// The connections of one worker.
#[derive(Debug)]
pub(crate) struct Upstreams {
    by_key: RefCell<HashMap<Key, Vec<Rc<Upstream>>, RandomState>>,
    limits: Http2Limits,
    head_bytes_max: u32,
    rest_max: Duration,
    /// The windows of all requests on them together, and what they may come to before further requests
    /// get the least.
    promised: Rc<Cell<usize>>,
    promised_max: usize,
}

/// A connection, for as long as anybody may want to use it.
#[derive(Debug)]
struct Upstream {
    sender: SendRequest<Bytes>,
    is_tls: bool,
    /// Where it leaves from.
    local: Option<IpAddr>,
    /// Requests that are on it, and the most that its window has room for.
    streams: Cell<usize>,
    streams_max: usize,
    /// The window of each.
    window: usize,
    /// Those of all requests on all connections.
    promised: Rc<Cell<usize>>,
    /// When the last one ended.
    rests_since: Cell<Instant>,
    /// It takes no more requests.
    is_over: Rc<Cell<bool>>,
    /// The kind of the last of too many frames that the upstream sent. The connection ended with it.
    flood: Rc<Cell<Option<Refusal>>>,
    /// Its settings have begun to come.
    has_settings: Rc<Cell<bool>>,
}

/// A request's place on a connection.
#[derive(Debug)]
pub(crate) struct Lease {
    upstream: Rc<Upstream>,
    was_refused: Cell<bool>,
}

impl Upstreams {
    /// Keeps connections at rest for at most `rest_max`.
    pub(crate) fn new(
        limits: Http2Limits,
        head_bytes_max: usize,
        rest_max: Duration,
        promised_max: usize,
    ) -> Self {
        Self {
            by_key: RefCell::default(),
            limits,
            head_bytes_max: u32::try_from(head_bytes_max).unwrap_or(u32::MAX),
            rest_max,
            promised: Rc::default(),
            promised_max,
        }
    }

    fn level(&self) -> Level {
        Level::of(self.promised.get(), self.promised_max)
    }

    /// Whether a further request may have a window of this size. One of the least is never refused: the
    /// number of requests is limited where they come from.
    fn may_promise(&self, window: usize) -> bool {
        let least = self.limits.upstream_windows(Level::None).stream;
        usize::try_from(least).is_ok_and(|least| window <= least)
            || self.promised.get() + window <= self.promised_max
    }

    /// A place on a connection that has one. `None` when a connection is to be made.
    pub(crate) fn take(&self, key: &Key) -> Option<Lease> {
        let mut by_key = self.by_key.borrow_mut();
        let upstreams = by_key.get_mut(key)?;
        upstreams.retain(|upstream| !upstream.is_over.get());
        let kept = upstreams.len().min(self.limits.connections_per_target_max);
        let (kept, further) = upstreams.split_at(kept);
        let has_room =
            |upstream: &&Rc<Upstream>| upstream.has_room() && self.may_promise(upstream.window);
        let least = kept.iter().filter(has_room);
        let least = least.min_by_key(|upstream| upstream.streams.get());
        least
            .or_else(|| further.iter().find(has_room))
            .map(Lease::of)
    }

    /// Makes a connection to be shared of one that was just opened. Without a key it is for one
    /// request alone. Its windows are as large as there is room for.
    ///
    /// # Errors
    /// When it broke meanwhile.
    pub(crate) async fn add(&self, key: Option<Key>, transport: Transport) -> io::Result<Lease> {
        let is_tls = transport.as_plain().is_none();
        let local = socket::local_address(transport.socket().as_fd()).ok();
        let mut stream = ByteStream::new(Rc::new(transport), ReadAhead::default());
        let flood = Rc::default();
        let allowance = Allowance::of(&self.limits);
        stream.watch((Side::Upstream, allowance), Rc::clone(&flood));
        let has_settings = stream.has_settings();
        let windows = self.limits.upstream_windows(self.level());
        let handshake = self.builder(windows).handshake::<_, Bytes>(stream);
        let (sender, driver) = handshake.await.map_err(io::Error::other)?;
        let is_over = Rc::new(Cell::new(false));
        let upstream = Rc::new(Upstream {
            sender,
            is_tls,
            local: local.map(|local| local.ip()),
            streams: Cell::new(0),
            streams_max: usize::try_from(windows.streams_max).unwrap_or(usize::MAX),
            window: usize::try_from(windows.stream).unwrap_or(usize::MAX),
            promised: Rc::clone(&self.promised),
            rests_since: Cell::new(Instant::now()),
            is_over: Rc::clone(&is_over),
            flood: Rc::clone(&flood),
            has_settings,
        });
        rt::spawn(async move {
            let mut driver = pin!(driver);
            // Its requests tell what broke. Too many frames end it with all of them.
            poll_fn(|cx| match driver.as_mut().poll(cx) {
                Poll::Pending if flood.get().is_none() => Poll::Pending,
                Poll::Pending | Poll::Ready(_) => Poll::Ready(()),
            })
            .await;
            is_over.set(true);
        });
        let lease = Lease::of(&upstream);
        let Some(key) = key else {
            return Ok(lease);
        };
        let mut by_key = self.by_key.borrow_mut();
        if by_key.contains_key(&key) || has_room_for(&by_key, &key) {
            by_key.entry(key).or_default().push(upstream);
        }
        Ok(lease)
    }

    /// Ends what has rested for too long, and what is more than is kept.
    pub(crate) fn sweep(&self, now: Instant) {
        let mut kept = 0;
        let mut key_before = None;
        self.keep(|key, upstream| {
            if key_before.as_ref() != Some(key) {
                (key_before, kept) = (Some(key.clone()), 0);
            }
            let rested = now.saturating_duration_since(upstream.rests_since.get());
            let may_rest = rested < self.rest_max && kept < self.limits.connections_per_target_max;
            let stays = !upstream.is_over.get() && (upstream.streams.get() > 0 || may_rest);
            kept += usize::from(stays);
            stays
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

    fn keep(&self, mut keeps: impl FnMut(&Key, &Upstream) -> bool) {
        // A connection that no sender is left of sends GOAWAY and ends.
        self.by_key.borrow_mut().retain(|key, upstreams| {
            upstreams.retain(|upstream| keeps(key, upstream));
            !upstreams.is_empty()
        });
    }

    /// How h2 treats upstreams.
    fn builder(&self, windows: Windows) -> h2::client::Builder {
        let mut builder = h2::client::Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(windows.stream)
            .initial_connection_window_size(windows.connection())
            .max_send_buffer_size(SEND_BUFFER_BYTES)
            .max_header_list_size(self.head_bytes_max);
        builder
    }
}

/// Whether a connection for another host may be kept.
fn has_room_for<T>(by_key: &HashMap<Key, T, RandomState>, key: &Key) -> bool {
    if key.host.is_none() {
        return true;
    }
    let named = by_key.keys().filter(|other| other.host.is_some());
    let (mut all, mut own) = (0, 0);
    for other in named {
        all += 1;
        own += usize::from(other.network == key.network);
    }
    all < HOSTS_MAX && own < HOSTS_OF_NETWORK_MAX
}

impl Upstream {
    fn has_room(&self) -> bool {
        let allowed = self.sender.current_max_send_streams();
        self.streams.get() < allowed.min(self.streams_max)
    }
}

impl Lease {
    fn of(upstream: &Rc<Upstream>) -> Self {
        upstream.streams.set(upstream.streams.get() + 1);
        let promised = upstream.promised.get() + upstream.window;
        upstream.promised.set(promised);
        Self {
            upstream: Rc::clone(upstream),
            was_refused: Cell::new(false),
        }
    }

    /// What a request is sent with.
    pub(crate) fn sender(&self) -> SendRequest<Bytes> {
        self.upstream.sender.clone()
    }

    /// Where the connection leaves from.
    pub(crate) fn local(&self) -> Option<IpAddr> {
        self.upstream.local
    }

    /// Whether the connection is one of TLS.
    pub(crate) fn is_tls(&self) -> bool {
        self.upstream.is_tls
    }

    /// Whether the upstream takes protocols inside a stream (RFC 8441 section 3). Its settings say so:
    /// those of a new connection are waited for, for at most [`SETTINGS_WITHIN`].
    pub(crate) async fn takes_protocols(&self) -> bool {
        let sender = &self.upstream.sender;
        let until = Instant::now() + SETTINGS_WITHIN;
        while !self.upstream.has_settings.get() && Instant::now() < until {
            rt::sleep(LOOK_INTERVAL).await;
        }
        if !sender.is_extended_connect_protocol_enabled() {
            // The frame may have come in parts.
            rt::sleep(LOOK_INTERVAL).await;
        }
        sender.is_extended_connect_protocol_enabled()
    }

    /// No further request is to use the connection.
    pub(crate) fn distrust(&self) {
        self.upstream.is_over.set(true);
    }

    /// The kind of frames that the upstream sent too many of.
    pub(crate) fn flood(&self) -> Option<Refusal> {
        self.upstream.flood.get()
    }

    /// The upstream has not begun with the request, so it may be sent again, whatever it is (RFC
    /// 9113 section 8.7).
    pub(crate) fn refused(&self) {
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
        let promised = upstream.promised.get().saturating_sub(upstream.window);
        upstream.promised.set(promised);
        upstream.rests_since.set(Instant::now());
    }
}
