//! Counters of the HTTP requests of a route, and how those of several workers add up.

use std::time::Duration;

/// Upper bounds of the times that are told apart, in microseconds; longer ones count behind the
/// last. From a page out of memory to a slow upload.
pub const DURATION_MICROS: [u64; 12] = [
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    1_000_000,
    5_000_000,
    30_000_000,
    300_000_000,
];

/// Classes of statuses: 0 for requests that ended without one, then the first digits.
pub const STATUS_CLASSES: usize = 6;

/// What was counted. Everything only grows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Requests that ended, by the class of their status.
    pub statuses: [u64; STATUS_CLASSES],
    /// Times from the head of a request to the end of its answer.
    pub durations: Spread,
    /// Further attempts after one that failed.
    pub retries: u64,
    /// Times that a target was left out because requests to it failed.
    pub ejections: u64,
    /// Attempts over upstream connections that had rested.
    pub upstreams_reused: u64,
    /// Attempts over new upstream connections.
    pub upstreams_opened: u64,
}

/// Times, by how long they were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// How many up to each of [`DURATION_MICROS`] and above the one before; the last for longer
    /// ones.
    pub counts: [u64; DURATION_MICROS.len() + 1],
    /// All of them together, in microseconds.
    pub sum_micros: u64,
}

impl Requests {
    /// Counts the end of a request.
    pub fn close(&mut self, status: Option<u16>, took: Duration) {
        let class = usize::from(status.unwrap_or(0) / 100).min(STATUS_CLASSES - 1);
        self.statuses[class] += 1;
        self.durations.record(took);
    }

    /// Adds what another one counted.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.statuses.iter_mut().zip(other.statuses) {
            *mine += theirs;
        }
        self.durations.add(&other.durations);
        self.retries += other.retries;
        self.ejections += other.ejections;
        self.upstreams_reused += other.upstreams_reused;
        self.upstreams_opened += other.upstreams_opened;
    }
}

impl Spread {
    /// Counts a time.
    pub fn record(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.counts[DURATION_MICROS.partition_point(|bound| *bound < micros)] += 1;
        self.sum_micros = self.sum_micros.saturating_add(micros);
    }

    /// Adds what another one counted.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine += theirs;
        }
        self.sum_micros = self.sum_micros.saturating_add(other.sum_micros);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart_by_class_and_time_and_add_up() {
        let mut one = Requests::default();
        one.close(Some(204), Duration::from_millis(1));
        one.close(Some(599), Duration::from_micros(1001));
        one.close(None, Duration::from_secs(3600));
        let mut sum = one.clone();
        sum.add(&one);
        assert_eq!(sum.statuses, [2, 0, 2, 0, 0, 2]);
        assert_eq!((sum.durations.counts[0], sum.durations.counts[1]), (2, 2));
        assert_eq!(sum.durations.counts[DURATION_MICROS.len()], 2);
        assert_eq!(sum.durations.sum_micros, 2 * 3_600_002_001);
    }
}
