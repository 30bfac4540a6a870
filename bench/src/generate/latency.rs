//! How long operations took: HDR histograms of microseconds.

use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longest time that is told apart; anything longer counts as this.
const LONGEST: Duration = Duration::from_secs(60);

/// A histogram of nanoseconds with three significant digits.
#[derive(Clone, Debug)]
pub(crate) struct Stopwatch(Histogram<u64>);

impl Stopwatch {
    /// An empty one.
    ///
    /// # Errors
    /// Never with these bounds; the library checks them at run time.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(Histogram::new_with_bounds(
            100,
            nanoseconds(LONGEST),
            3,
        )?))
    }

    /// Adds one operation.
    pub(crate) fn record(&mut self, took: Duration) {
        self.0.saturating_record(nanoseconds(took));
    }

    /// Adds all operations of `other`.
    ///
    /// # Errors
    /// Never: both have the same bounds.
    pub(crate) fn add(&mut self, other: &Self) -> Result<()> {
        Ok(self.0.add(&other.0)?)
    }

    /// The figures to report, if anything was recorded.
    pub(crate) fn latency(&self) -> Option<Latency> {
        let at = |quantile| self.0.value_at_quantile(quantile) as f64 / 1000.0;
        (!self.0.is_empty()).then(|| Latency {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: self.0.max() as f64 / 1000.0,
        })
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Quantiles in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_in_microseconds() {
        let mut watch = Stopwatch::new().unwrap();
        (1..=1000).for_each(|n| watch.record(Duration::from_micros(n)));
        let latency = watch.latency().unwrap();
        assert!((latency.p50 - 500.0).abs() < 1.0, "{latency:?}");
        assert!((latency.p99 - 990.0).abs() < 1.0, "{latency:?}");
        assert!((latency.max - 1000.0).abs() < 1.0, "{latency:?}");
    }

    #[test]
    fn what_takes_longer_than_the_longest_is_kept_as_the_longest() {
        let mut watch = Stopwatch::new().unwrap();
        watch.record(LONGEST * 3);
        assert!(watch.latency().unwrap().max >= 60e6 * 0.99);
    }

    #[test]
    fn nothing_recorded_gives_no_latency() {
        assert_eq!(Stopwatch::new().unwrap().latency(), None);
    }
}
