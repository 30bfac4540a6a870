//! Ends a connection so that its client gets what was sent last (RFC 9112 section 9.6).
//!
//! Closing a socket with unread bytes resets its connection, and a reset may overtake what was sent
//! before it. So the stream is ended first, and what the client still sends is thrown away for a
//! while.

use std::{
    io,
    os::fd::AsFd as _,
    time::{Duration, Instant},
};

use engine_sys::socket;

use crate::{
    context::FlowContext,
    rt::{self, until},
    transport::streams::ClientFlow,
};

/// How long a client is lingered for. Past any of these its connection is closed, and with it comes
/// a reset where it still sends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Linger {
    /// In all.
    time: Duration,
    /// Without a byte of it.
    silence: Duration,
    /// Most bytes that are thrown away.
    bytes_max: u64,
}

impl Linger {
    /// For one that has little to send any more: a client that is refused, or has sent its request.
    pub(crate) const SHORT: Self = Self {
        time: Duration::from_millis(500),
        silence: Duration::from_millis(500),
        bytes_max: 64 << 10,
    };

    /// For one that may be in the middle of a request's content, and looks for its response only when
    /// all of it was sent.
    pub(crate) const LONG: Self = Self {
        time: Duration::from_secs(30),
        silence: Duration::from_secs(5),
        bytes_max: 64 << 20,
    };
}

/// The largest piece that is thrown away at once.
const PIECE_BYTES: usize = 256 << 10;

/// How often it is looked whether a client has what was sent to it.
const LOOK_PERIOD: Duration = Duration::from_millis(20);

/// Ends the stream to a client, and waits for it to take what was sent last and go.
pub(crate) async fn linger(connection: &ClientFlow<'_>, bounds: Linger) {
    let FlowContext { worker, slot, .. } = connection.flow;
    // A drain need not wait for it.
    let bounds = match worker.is_stopped() {
        true => Linger::SHORT,
        false => bounds,
    };
    slot.watch_idle(&worker.live, bounds.time + Duration::from_secs(1));
    slot.rests(bounds.time > Linger::SHORT.time);
    throw_away(connection, bounds).await;
    slot.rests(false);
}

async fn throw_away(connection: &ClientFlow<'_>, bounds: Linger) {
    let client = &connection.streams.client;
    let ends_at = Instant::now() + bounds.time;
    if !matches!(until(ends_at, client.shut_down()).await, Ok(Ok(()))) {
        return;
    }
    // What comes in a session is not worth to be decrypted.
    let socket = client.socket();
    let mut left = bounds.bytes_max;
    while left > 0 {
        let discard = |room: &mut [u8]| socket::discard(socket.as_fd(), room);
        match connection.worker.scratch.with(PIECE_BYTES, discard) {
            Ok(0) => return,
            Ok(count) => left = left.saturating_sub(count as u64),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
        // Where there is more already, this is how the others have their turn.
        let patience = ends_at.min(Instant::now() + bounds.silence);
        if until(patience, socket.readable()).await.is_err() {
            return;
        }
    }
}

/// Waits until a client has all that was sent to it, as far as it takes any of it: what is not
/// acknowledged when the connection is reset never reaches it.
pub(crate) async fn delivered(connection: &ClientFlow<'_>) {
    let client = &connection.streams.client;
    let ends_at = Instant::now() + Linger::LONG.time;
    if !matches!(until(ends_at, client.flushed()).await, Ok(Ok(()))) {
        return;
    }
    let left = || socket::unacknowledged(client.socket().as_fd()).unwrap_or(0);
    let (mut before, mut moved_at) = (left(), Instant::now());
    while before > 0 {
        let now = Instant::now();
        let is_stopped = connection.worker.is_stopped();
        if now >= ends_at || now - moved_at >= Linger::LONG.silence || is_stopped {
            return;
        }
        rt::sleep(LOOK_PERIOD).await;
        let after = left();
        if after != before {
            (before, moved_at) = (after, Instant::now());
        }
    }
}
