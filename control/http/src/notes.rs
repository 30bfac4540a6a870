//! How many refused attempts are written into the audit log, which forgets its oldest entries: whoever
//! could write as many as they like would make it forget everybody else's.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How long an entry stands for the attempts after it.
const MINUTE: Duration = Duration::from_secs(60);
/// Most of those who ask that are remembered.
const KNOWN_MAX: usize = 4096;

/// Who was noted of late.
#[derive(Debug)]
pub(crate) struct Notes<K> {
    /// Entries of one in a minute.
    per_minute: u32,
    all: Mutex<All<K>>,
}

#[derive(Debug)]
struct All<K> {
    known: HashMap<K, Noted>,
    budget: Option<Budget>,
    /// Attempts that no entry was written for, of those who are not remembered.
    passed_over: u64,
}

#[derive(Clone, Copy, Debug)]
struct Noted {
    since: Instant,
    entries: u32,
    /// Attempts that no entry was written for yet.
    passed_over: u64,
}

/// Entries of all together: so many at once, and then one in a while.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    left: u32,
    max: u32,
    every: Duration,
    refilled: Instant,
}

impl Budget {
    pub(crate) fn new(max: u32, every: Duration) -> Self {
        let (left, refilled) = (max, Instant::now());
        Self {
            left,
            max,
            every,
            refilled,
        }
    }

    fn take(&mut self) -> bool {
        while self.left < self.max && self.refilled.elapsed() >= self.every {
            self.left += 1;
            self.refilled += self.every;
        }
        if self.left == self.max {
            self.refilled = Instant::now();
        }
        let is_some = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_some
    }
}

impl<K: Hash + Eq> Notes<K> {
    pub(crate) fn new(per_minute: u32, budget: Option<Budget>) -> Self {
        Self {
            per_minute,
            all: Mutex::new(All {
                known: HashMap::new(),
                budget,
                passed_over: 0,
            }),
        }
    }

    /// Counts an attempt. Where an entry is to be written, how many were passed over before it.
    pub(crate) fn count(&self, who: K) -> Option<u64> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some(noted) = all.known.get_mut(&who) {
            if noted.since.elapsed() >= MINUTE {
                noted.since = now;
                noted.entries = 0;
            }
            if noted.entries >= self.per_minute {
                noted.passed_over += 1;
                return None;
            }
        }
        if !all.budget.as_mut().is_none_or(Budget::take) || !all.make_room(&who) {
            all.passed_over += 1;
            return None;
        }
        let of_others = std::mem::take(&mut all.passed_over);
        let noted = all.known.entry(who).or_insert(Noted {
            since: now,
            entries: 0,
            passed_over: 0,
        });
        noted.entries += 1;
        Some(std::mem::take(&mut noted.passed_over) + of_others)
    }
}

impl<K: Hash + Eq> All<K> {
    fn make_room(&mut self, who: &K) -> bool {
        if self.known.len() >= KNOWN_MAX && !self.known.contains_key(who) {
            let passed_over = &mut self.passed_over;
            self.known.retain(|_, noted| {
                let is_of_late = noted.since.elapsed() < MINUTE;
                if !is_of_late {
                    *passed_over += noted.passed_over;
                }
                is_of_late
            });
        }
        self.known.len() < KNOWN_MAX || self.known.contains_key(who)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_entry_stands_for_all_attempts_of_a_minute() {
        let notes = Notes::new(1, None);
        assert_eq!(notes.count("one"), Some(0));
        for _ in 0..5 {
            assert_eq!(notes.count("one"), None);
        }
        assert_eq!(notes.count("other"), Some(0));
        tokio::time::advance(MINUTE).await;
        assert_eq!(notes.count("one"), Some(5));
        assert_eq!(notes.count("one"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn entries_of_any_number_of_sources_are_bounded_and_nothing_goes_uncounted() {
        let notes = Notes::new(1, Some(Budget::new(10, MINUTE)));
        let written = (0..100_000).filter(|source| notes.count(*source).is_some());
        assert_eq!(written.count(), 10);
        tokio::time::advance(MINUTE).await;
        assert_eq!(notes.count(100_000), Some(99_990));
        assert_eq!(notes.count(100_001), None);
        assert!(notes.all.lock().unwrap().known.len() <= KNOWN_MAX);
    }
}
