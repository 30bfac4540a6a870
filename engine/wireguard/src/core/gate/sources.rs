//! A share of handshakes for each source.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

/// Handshakes that a source may make in a second, on average (the kernel's `PACKETS_PER_SECOND`).
const PER_SECOND: u32 = 20;
/// Handshakes that it may make at once (the kernel's `PACKETS_BURSTABLE`).
const BURST: u32 = 5;
/// What one costs, and how much may be saved up, in time.
const COST: Duration = Duration::from_millis(1_000 / PER_SECOND as u64);
const SAVED_MAX: Duration = COST.saturating_mul(BURST);
/// Sources that are remembered. Beyond, new ones are refused until old ones have been silent long
/// enough to be forgotten, which takes [`SAVED_MAX`]. About 300 KiB.
const SOURCES_MAX: usize = 8_192;
/// The least time between two searches for sources to forget.
const SWEEP: Duration = Duration::from_secs(1);

/// Token buckets by source.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// When the bucket of each would have been empty, had it never been filled beyond that.
    empty_at: HashMap<IpAddr, Instant, ahash::RandomState>,
    swept: Option<Instant>,
}

impl Sources {
    /// Takes a token from the bucket of a source, if there is one.
    pub(super) fn take(&mut self, now: Instant, source: IpAddr) -> bool {
        let source = holder(source);
        let full = now.checked_sub(SAVED_MAX).unwrap_or(now);
        if let Some(empty_at) = self.empty_at.get_mut(&source) {
            let after = (*empty_at).max(full) + COST;
            let has_one = after <= now;
            if has_one {
                *empty_at = after;
            }
            return has_one;
        }
        if self.empty_at.len() >= SOURCES_MAX {
            self.sweep(now, full);
        }
        let remembered = self.empty_at.len() < SOURCES_MAX;
        if remembered {
            self.empty_at.insert(source, full + COST);
        }
        remembered
    }

    /// Forgets the sources whose buckets are full again: there is nothing to know about them.
    fn sweep(&mut self, now: Instant, full: Instant) {
        let recent = |at: Instant| now.saturating_duration_since(at) < SWEEP;
        if self.swept.is_some_and(recent) {
            return;
        }
        self.swept = Some(now);
        self.empty_at.retain(|_, empty_at| *empty_at > full);
    }
}

/// Whoever has an IPv6 address has the other 2^64 of its network as well.
fn holder(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(_) => source,
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(network.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn start() -> Instant {
        Instant::now() + Duration::from_secs(3_600)
    }

    fn taken(sources: &mut Sources, now: Instant, source: &str) -> usize {
        let source = source.parse().unwrap();
        (0..100).filter(|_| sources.take(now, source)).count()
    }

    #[test]
    fn a_source_has_a_burst_and_then_its_rate() {
        let (mut sources, start) = (Sources::default(), start());
        assert_eq!(taken(&mut sources, start, "192.0.2.1"), 5);
        assert_eq!(taken(&mut sources, start, "192.0.2.2"), 5, "has its own");
        let mut in_ten_seconds = 0;
        for tenth in 1..=100 {
            let now = start + Duration::from_millis(100 * tenth);
            in_ten_seconds += taken(&mut sources, now, "192.0.2.1");
        }
        assert_eq!(in_ten_seconds, 200);
        let later = start + Duration::from_secs(3_600);
        assert_eq!(
            taken(&mut sources, later, "192.0.2.1"),
            5,
            "nothing more is saved up"
        );
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_share() {
        let (mut sources, start) = (Sources::default(), start());
        assert_eq!(taken(&mut sources, start, "2001:db8::1"), 5);
        assert_eq!(taken(&mut sources, start, "2001:db8::2"), 0);
        assert_eq!(taken(&mut sources, start, "2001:db8:0:1::1"), 5);
    }

    #[test]
    fn the_table_does_not_grow_past_its_bound_and_heals() {
        let (mut sources, start) = (Sources::default(), start());
        let address = |number: u32| IpAddr::from(Ipv4Addr::from(number));
        for number in 0..100_000 {
            sources.take(start, address(number));
        }
        assert_eq!(sources.empty_at.len(), SOURCES_MAX);
        assert!(!sources.take(start, address(200_000)));
        let later = start + SWEEP;
        assert!(sources.take(later, address(200_000)));
        assert_eq!(sources.empty_at.len(), 1);
    }
}
