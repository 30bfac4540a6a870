//! Who gets so far as to cost us a handshake's arithmetic.
//!
//! ```text
//!   mac1 wrong ──────────────────────────────► silence
//!   mac1 right, quiet ───────────────────────► the handshake
//!   mac1 right, busy, no proof of address ───► a cookie
//!   mac1 right, busy, address proven ────────► the handshake, so many a second for each source
//! ```
//!
//! It is the order of the kernel (`wg_receive_handshake_packet` in `drivers/net/wireguard`): a source
//! is charged only once it has proven to be there, so that nobody uses up the share of somebody
//! else by forging addresses; and while it is quiet, thousands of peers behind one address come
//! back at once.

mod sources;

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use boringtun::{
    noise::{TunnResult, rate_limiter::RateLimiter},
    x25519,
};

use self::sources::Sources;

/// Handshake messages in a second, of one device, beyond which senders must prove their addresses.
/// A forged one costs a multiplication on the curve, about 50 µs: so 5 % of a core.
const QUIET_MAX: u32 = 1_000;
/// How long it stays busy after the last second that was.
const BUSY: Duration = Duration::from_secs(1);

/// The gate of one device.
pub(crate) struct Gate {
    /// Checks mac1 alone. It is what boringtun's tunnels are given too, which check everything once
    /// more: their own limit would count each message twice.
    quiet: Arc<RateLimiter>,
    /// Checks mac2 as well and makes the cookies: a limiter that is always at its limit.
    busy: RateLimiter,
    busy_until: Option<Instant>,
    second: Option<Instant>,
    in_second: u32,
    sources: Sources,
}

/// What becomes of a handshake message.
#[derive(Debug)]
pub(crate) enum Admission<'a> {
    /// It may go on.
    Admitted,
    /// The sender gets this cookie instead.
    Answered(&'a [u8]),
    /// Silence.
    Refused,
}

impl Gate {
    pub(crate) fn new(public_key: &x25519::PublicKey) -> Self {
        Self {
            quiet: Arc::new(RateLimiter::new(public_key, u64::MAX)),
            busy: RateLimiter::new(public_key, 0),
            busy_until: None,
            second: None,
            in_second: 0,
            sources: Sources::default(),
        }
    }

    /// The limiter that lets everything with a right mac1 pass.
    pub(crate) fn limiter(&self) -> Arc<RateLimiter> {
        self.quiet.clone()
    }

    /// Judges a handshake initiation or response. `cookie` has room for at least 64 bytes.
    pub(crate) fn admit<'a>(
        &mut self,
        now: Instant,
        source: IpAddr,
        message: &[u8],
        cookie: &'a mut [u8],
    ) -> Admission<'a> {
        let mac1 = self.quiet.verify_packet(Some(source), message, &mut []);
        if mac1.is_err() {
            return Admission::Refused;
        }
        if !self.is_busy(now) {
            return Admission::Admitted;
        }
        match self.busy.verify_packet(Some(source), message, cookie) {
            Ok(_) if self.sources.take(now, source) => Admission::Admitted,
            Err(TunnResult::WriteToNetwork(cookie)) => Admission::Answered(cookie),
            Ok(_) | Err(_) => Admission::Refused,
        }
    }

    fn is_busy(&mut self, now: Instant) -> bool {
        let same_second = |start: Instant| now.saturating_duration_since(start) < BUSY;
        if !self.second.is_some_and(same_second) {
            self.second = Some(now);
            self.in_second = 0;
        }
        self.in_second = self.in_second.saturating_add(1);
        if self.in_second > QUIET_MAX {
            self.busy_until = Some(now + BUSY);
        }
        self.busy_until.is_some_and(|until| now < until)
    }
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate")
            .field("busy_until", &self.busy_until)
            .field("in_second", &self.in_second)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
