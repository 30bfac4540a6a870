//! Who may have a connection: caps and rates over the whole process.
//!
//! Workers share nothing on the way of a byte. Here they share counters, touched once when a
//! connection comes and once when it goes, because a cap that each worker kept alone would be
//! wrong by the number of workers.

use std::{
    hash::{BuildHasher, Hasher},
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
};

use ahash::RandomState;

/// Slots in each row of the table of sources: a power of two.
pub const SOURCE_SLOTS: usize = 1 << 16;

/// Bits of an IPv6 address that make one source: what one site usually gets.
pub const SOURCE_PREFIX_V6: u32 = 64;

/// How far ahead of its rate a source may run, in seconds of that rate.
pub const SOURCE_BURST_SECONDS: u64 = 1;

/// Connections and their rate for each source prefix: one IPv4 address, or an IPv6 /64.
///
/// The memory is fixed, whatever the number of sources: a count-min sketch of two rows. A source
/// is judged by the lower of its two slots, so it suffers for others only when it shares both of
/// them with busy ones; with 10,000 busy sources that is about one in fifty, with 1,000 one in
/// 4,000. It never gets more than its limit. The seed is random, so nobody can aim for another.
#[derive(Debug)]
pub struct Sources {
    hashers: [RandomState; 2],
    live: Option<(u32, [Box<[AtomicU32]>; 2])>,
    rate: Option<(Rate, [Box<[AtomicU64]>; 2])>,
}

/// Why a source may have no further connection now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It opens them faster than its rate.
    Rate,
    /// It has as many as it may.
    Limit,
}

/// A source that holds one connection; give it back with [`Sources::leave`].
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Entered(Option<[u16; 2]>);

impl Sources {
    /// A table for at most `live_max` connections and `rate_max` new ones a second for each source.
    /// What is `None` is not limited, and costs nothing.
    pub fn new(live_max: Option<NonZeroU32>, rate_max: Option<NonZeroU32>, seed: u64) -> Self {
        let hasher = |row| RandomState::with_seeds(seed, row, !seed, 0x5eed);
        Self {
            hashers: [hasher(1), hasher(2)],
            live: live_max.map(|max| (max.get(), [row(), row()])),
            rate: rate_max.map(|max| (Rate::new(max), [row(), row()])),
        }
    }

    /// Counts a new connection of `source` at `now`, in nanoseconds of a clock that only grows.
    ///
    /// # Errors
    /// Says which limit holds it back; then nothing is counted.
    pub fn enter(&self, source: IpAddr, now: u64) -> Result<Entered, Refusal> {
        if self.live.is_none() && self.rate.is_none() {
            return Ok(Entered(None));
        }
        let slots = self.slots(source);
        if let Some((rate, rows)) = &self.rate {
            let allowed = (0..2).map(|row| rate.take(&rows[row][usize::from(slots[row])], now));
            // Both rows are charged, so neither `any` nor `||`.
            if !allowed.fold(false, |any, one| any | one) {
                return Err(Refusal::Rate);
            }
        }
        let Some((max, rows)) = &self.live else {
            return Ok(Entered(None));
        };
        let counts = (0..2).map(|row| rows[row][usize::from(slots[row])].fetch_add(1, Relaxed) + 1);
        let entered = Entered(Some(slots));
        if counts.fold(u32::MAX, u32::min) > *max {
            self.leave(entered);
            return Err(Refusal::Limit);
        }
        Ok(entered)
    }

    /// Gives a connection back.
    pub fn leave(&self, entered: Entered) {
        let (Some((_, rows)), Some(slots)) = (&self.live, entered.0) else {
            return;
        };
        for row in 0..2 {
            rows[row][usize::from(slots[row])].fetch_sub(1, Relaxed);
        }
    }

    fn slots(&self, source: IpAddr) -> [u16; 2] {
        let prefix = match source {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => prefix_v6(v6),
        };
        [0, 1].map(|row: usize| {
            let mut hasher = self.hashers[row].build_hasher();
            hasher.write_u128(prefix);
            u16::try_from(hasher.finish() & (SOURCE_SLOTS as u64 - 1)).unwrap_or(0)
        })
    }
}

const _: () = assert!(SOURCE_SLOTS == 1 << u16::BITS, "a slot is a u16");

fn prefix_v6(address: Ipv6Addr) -> u128 {
    address.to_bits() & (u128::MAX << (Ipv6Addr::BITS - SOURCE_PREFIX_V6))
}

fn row<T: Default>() -> Box<[T]> {
    (0..SOURCE_SLOTS).map(|_| T::default()).collect()
}

/// The generic cell rate algorithm (ITU-T I.371, annex A): one number for each source, the time at
/// which its credit is whole again.
#[derive(Clone, Copy, Debug)]
struct Rate {
    interval: u64,
    tolerance: u64,
}

impl Rate {
    fn new(per_second: NonZeroU32) -> Self {
        let interval = 1_000_000_000 / u64::from(per_second.get());
        let tolerance = SOURCE_BURST_SECONDS * 1_000_000_000;
        Self {
            interval: interval.max(1),
            tolerance: tolerance.saturating_sub(interval),
        }
    }

    fn take(self, due: &AtomicU64, now: u64) -> bool {
        let charge = |due: u64| {
            let from = due.max(now);
            (from - now <= self.tolerance).then_some(from + self.interval)
        };
        due.fetch_update(Relaxed, Relaxed, charge).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_source_has_no_more_connections_than_its_limit_and_others_are_left_alone() {
        let sources = Sources::new(NonZeroU32::new(2), None, 7);
        let first = sources.enter(ip("192.0.2.1"), 0).unwrap();
        let _second = sources.enter(ip("192.0.2.1"), 0).unwrap();
        assert_eq!(
            sources.enter(ip("192.0.2.1"), 0).unwrap_err(),
            Refusal::Limit
        );
        assert!(sources.enter(ip("192.0.2.2"), 0).is_ok());
        sources.leave(first);
        assert!(sources.enter(ip("192.0.2.1"), 0).is_ok());
    }

    #[test]
    fn an_ipv6_source_is_a_64() {
        let sources = Sources::new(NonZeroU32::new(1), None, 7);
        let _held = sources.enter(ip("2001:db8:0:1::1"), 0).unwrap();
        assert!(sources.enter(ip("2001:db8:0:1:ffff::2"), 0).is_err());
        assert!(sources.enter(ip("2001:db8:0:2::1"), 0).is_ok());
    }

    #[test]
    fn a_source_gets_its_rate_after_its_burst() {
        let sources = Sources::new(None, NonZeroU32::new(100), 7);
        let granted = |now| {
            (0..500)
                .filter(|_| sources.enter(ip("192.0.2.1"), now).is_ok())
                .count()
        };
        assert_eq!(granted(0), 100, "the burst");
        assert_eq!(granted(SECOND / 2), 50, "half a second of the rate");
        assert_eq!(
            granted(10 * SECOND),
            100,
            "credit does not grow past the burst"
        );
    }

    #[test]
    fn without_limits_everything_enters() {
        let sources = Sources::new(None, None, 7);
        let entered = sources.enter(ip("192.0.2.1"), 0).unwrap();
        sources.leave(entered);
    }

    #[test]
    fn a_thousand_busy_sources_hardly_ever_block_a_quiet_one() {
        let sources = Sources::new(NonZeroU32::new(1), None, 7);
        for n in 0..1000_u32 {
            let _ = sources.enter(IpAddr::from((0x0a00_0000 + n).to_be_bytes()), 0);
        }
        let quiet = (0..1000_u32).map(|n| IpAddr::from((0x0b00_0000 + n).to_be_bytes()));
        let blocked = quiet.filter(|&source| match sources.enter(source, 0) {
            Ok(entered) => {
                sources.leave(entered);
                false
            }
            Err(_) => true,
        });
        assert!(blocked.count() <= 3);
    }
}
