//! Passive ejection: a target that fails requests is left out for a while.

use std::time::Duration;

use super::Change;

/// When a target is left out, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// Requests in a row that must fail; 0 never ejects.
    pub failures: u32,
    /// How long the first time. Each time that follows closely is twice as long.
    pub base: Duration,
    /// How long at most.
    pub max: Duration,
    /// How many of a rule's targets may be out at once, in percent. Never all of them: the last
    /// one is worth a try, however bad it looks.
    pub share_max: u8,
}

impl Default for Ejection {
    fn default() -> Self {
        Self {
            failures: 5,
            base: Duration::from_secs(10),
            max: Duration::from_secs(300),
            share_max: 50,
        }
    }
}

impl Ejection {
    fn most(&self, targets: usize) -> usize {
        let share = targets * usize::from(self.share_max) / 100;
        // Half of two or of three is one; a small share of a few targets is one as well.
        let share = if self.share_max > 0 { share.max(1) } else { 0 };
        share.min(targets.saturating_sub(1))
    }
}

/// What requests showed about the targets of one rule.
#[derive(Clone, Debug, Default)]
pub struct Passive {
    targets: Box<[Seen]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// In a row.
    failures: u32,
    /// In a row, without a healthy time between.
    ejections: u32,
    /// Out until then; in the past if it is back.
    until: u64,
    /// How long it was or is out.
    length: u64,
}

impl Passive {
    /// For so many targets, all of them in.
    pub fn new(targets: usize) -> Self {
        Self {
            targets: vec![Seen::default(); targets].into(),
        }
    }

    /// What was seen of these targets, for a route that has others now: `from` gives where each of them
    /// was, and `None` for one that is new.
    #[must_use]
    pub fn arranged(&self, from: impl Iterator<Item = Option<usize>>) -> Self {
        let seen = |from: Option<usize>| from.and_then(|from| self.targets.get(from));
        Self {
            targets: from
                .map(|from| seen(from).copied().unwrap_or_default())
                .collect(),
        }
    }

    /// Whether a target is left out at `now`.
    pub fn is_ejected(&self, target: usize, now: u64) -> bool {
        self.targets
            .get(target)
            .is_some_and(|seen| now < seen.until)
    }

    /// Takes the end of one request: whether the target answered it. An answer of any status is
    /// one; what a status means is the tenant's business.
    pub fn observe(
        &mut self,
        target: usize,
        answered: bool,
        ejection: &Ejection,
        now: u64,
    ) -> Option<Change> {
        let out = self.targets.iter().filter(|seen| now < seen.until).count();
        let may_eject = out < ejection.most(self.targets.len());
        let seen = self.targets.get_mut(target)?;
        if answered {
            seen.failures = 0;
            if now >= seen.until.saturating_add(seen.length) {
                seen.ejections = 0;
            }
            return None;
        }
        seen.failures = seen.failures.saturating_add(1);
        let enough = ejection.failures > 0 && seen.failures >= ejection.failures;
        if !enough || !may_eject || now < seen.until {
            return None;
        }
        let base = nanoseconds(ejection.base);
        let doubled = base.saturating_mul(1_u64.checked_shl(seen.ejections).unwrap_or(u64::MAX));
        seen.length = doubled.min(nanoseconds(ejection.max));
        seen.until = now.saturating_add(seen.length);
        seen.ejections = seen.ejections.saturating_add(1);
        // One failure after it is back is enough to leave it out again.
        seen.failures = ejection.failures - 1;
        Some(Change::Down)
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn failures_in_a_row_eject_and_each_time_for_longer() {
        let ejection = Ejection {
            failures: 2,
            ..Ejection::default()
        };
        let mut passive = Passive::new(2);
        assert_eq!(passive.observe(0, false, &ejection, 0), None);
        assert_eq!(passive.observe(0, true, &ejection, 0), None);
        assert_eq!(passive.observe(0, false, &ejection, 0), None);
        assert_eq!(passive.observe(0, false, &ejection, 0), Some(Change::Down));
        assert!(passive.is_ejected(0, 10 * SECOND - 1));
        assert!(!passive.is_ejected(0, 10 * SECOND));
        let down = passive.observe(0, false, &ejection, 11 * SECOND);
        assert_eq!(down, Some(Change::Down), "one failure after it is back");
        assert!(passive.is_ejected(0, 30 * SECOND));
        assert!(!passive.is_ejected(0, 31 * SECOND));
        // Healthy for as long as it was out: the next time is a first time.
        passive.observe(0, true, &ejection, 51 * SECOND);
        passive.observe(0, false, &ejection, 52 * SECOND);
        passive.observe(0, false, &ejection, 52 * SECOND);
        assert!(!passive.is_ejected(0, 62 * SECOND));
    }

    #[test]
    fn a_single_target_is_never_ejected() {
        let mut passive = Passive::new(1);
        for now in 0..100 {
            assert_eq!(passive.observe(0, false, &Ejection::default(), now), None);
        }
    }

    proptest! {
        #[test]
        fn never_more_than_the_share_is_out(
            share_max in 0_u8..=100,
            count in 1_usize..8,
            failures in proptest::collection::vec((0_usize..8, 0_u64..20), 0..200),
        ) {
            let ejection = Ejection { failures: 1, share_max, ..Ejection::default() };
            let mut passive = Passive::new(count);
            let mut now = 0;
            for (target, step) in failures {
                now += step * SECOND / 4;
                passive.observe(target, false, &ejection, now);
                let out = (0..count).filter(|it| passive.is_ejected(*it, now)).count();
                prop_assert!(out < count);
                prop_assert!(out <= (count * usize::from(share_max) / 100).max(1));
            }
        }
    }
}
