//! Failed attempts, counted by source: a bounded table.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::source::Prefix;

/// Most sources that are remembered. When there are more, the one that failed first is forgotten:
/// whoever has more addresses than this is not kept off by counting them.
const SOURCES_MAX: usize = 4096;

/// Counts of failed attempts in a window of time that begins with a source's first one.
#[derive(Debug)]
pub(crate) struct Failures {
    max: u16,
    window: Duration,
    counts: Mutex<HashMap<Prefix, Count>>,
}

#[derive(Clone, Copy, Debug)]
struct Count {
    since: Instant,
    failures: u16,
}

/// What is to be done about a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is one of those that are allowed.
    Allowed,
    /// It was the last one that is allowed.
    Last,
}

impl Failures {
    pub(crate) fn new(max: u16, window: Duration) -> Self {
        Self {
            max,
            window,
            counts: Mutex::default(),
        }
    }

    /// How long a source has to wait, if it failed too often.
    pub(crate) fn blocked(&self, source: Prefix) -> Option<Duration> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.get(&source)?;
        let left = self.window.checked_sub(count.since.elapsed())?;
        (count.failures >= self.max && !left.is_zero()).then_some(left)
    }

    /// Counts a failed attempt.
    pub(crate) fn note(&self, source: Prefix) -> Verdict {
        let now = Instant::now();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= SOURCES_MAX && !counts.contains_key(&source) {
            make_room(&mut counts, self.window);
        }
        let fresh = Count {
            since: now,
            failures: 0,
        };
        let count = counts.entry(source).or_insert(fresh);
        if count.since.elapsed() >= self.window {
            *count = fresh;
        }
        count.failures = count.failures.saturating_add(1);
        if count.failures >= self.max {
            Verdict::Last
        } else {
            Verdict::Allowed
        }
    }
}

/// Forgets what no longer counts, and if that is nothing, the oldest.
fn make_room(counts: &mut HashMap<Prefix, Count>, window: Duration) {
    counts.retain(|_, count| count.since.elapsed() < window);
    if counts.len() < SOURCES_MAX {
        return;
    }
    let oldest = counts.iter().min_by_key(|(_, count)| count.since);
    if let Some(oldest) = oldest.map(|(source, _)| *source) {
        counts.remove(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_source_is_blocked_until_its_window_ends() {
        let failures = Failures::new(3, Duration::from_secs(60));
        let (one, other) = (Prefix::User(1), Prefix::User(2));
        assert_eq!(failures.note(one), Verdict::Allowed);
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(failures.note(one), Verdict::Allowed);
        assert_eq!(failures.blocked(one), None);
        assert_eq!(failures.note(one), Verdict::Last);
        assert_eq!(failures.blocked(one), Some(Duration::from_secs(30)));
        assert_eq!(failures.blocked(other), None);
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(failures.blocked(one), None);
        assert_eq!(failures.note(one), Verdict::Allowed);
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_is_bounded() {
        let failures = Failures::new(1, Duration::from_secs(60));
        for user in 0..2 * u32::try_from(SOURCES_MAX).unwrap() {
            failures.note(Prefix::User(user));
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(failures.counts.lock().unwrap().len(), SOURCES_MAX);
        assert_eq!(failures.blocked(Prefix::User(0)), None);
        let last = 2 * u32::try_from(SOURCES_MAX).unwrap() - 1;
        assert!(failures.blocked(Prefix::User(last)).is_some());
    }
}
