//! So much an hour, and no more.

/// Seconds of an hour, and what one order costs: levels are counted in parts of an order that come
/// back in a second, so that nothing is rounded.
const HOUR: u64 = 3600;

/// A token bucket: full, it lets an hour's worth go at once, and then fills up again evenly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    per_hour: u64,
    /// In 3600th parts of an order.
    level: u64,
    /// Unix time of `level`.
    at: u64,
}

impl Budget {
    /// A full one. A budget of nothing would never let anything go, so there is at least one.
    pub fn new(per_hour: u32) -> Self {
        let per_hour = u64::from(per_hour.max(1));
        Self {
            per_hour,
            level: per_hour * HOUR,
            at: 0,
        }
    }

    /// Whether there is enough for one at `now`, and otherwise when there will be.
    ///
    /// # Errors
    /// The Unix time at which there is.
    pub fn ask(&self, now: u64) -> Result<(), u64> {
        let level = self.level_at(now);
        match HOUR.checked_sub(level) {
            None | Some(0) => Ok(()),
            // A clock that was set back lets nothing go early, and nothing wait for longer.
            Some(lacking) => Err(now + lacking.div_ceil(self.per_hour)),
        }
    }

    /// Takes one at `now`, be it there or not: what happened has happened.
    pub fn take(&mut self, now: u64) {
        self.level = self.level_at(now).saturating_sub(HOUR);
        self.at = self.at.max(now);
    }

    /// Whether at `now` it has as much as another one, which is full.
    pub fn is_as_full_as(&self, full: &Self, now: u64) -> bool {
        self.level_at(now) >= full.level
    }

    fn level_at(&self, now: u64) -> u64 {
        let gained = now.saturating_sub(self.at).saturating_mul(self.per_hour);
        self.level.saturating_add(gained).min(self.per_hour * HOUR)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_hours_worth_goes_at_once_and_then_one_after_the_other() {
        let mut budget = Budget::new(3);
        for _ in 0..3 {
            assert_eq!(budget.ask(1000), Ok(()));
            budget.take(1000);
        }
        assert_eq!(budget.ask(1000), Err(2200));
        assert_eq!(budget.ask(2199), Err(2200));
        assert_eq!(budget.ask(2200), Ok(()));
        // The clock was set back.
        assert_eq!(budget.ask(10), Err(1210));
    }

    proptest! {
        #[test]
        fn no_hour_ever_gets_more_than_twice_the_budget(
            per_hour in 1..50_u32,
            steps in prop::collection::vec(0..900_u64, 1..200),
        ) {
            let mut budget = Budget::new(per_hour);
            let mut now = 1;
            let mut taken = Vec::new();
            for step in steps {
                now += step;
                match budget.ask(now) {
                    Ok(()) => {
                        budget.take(now);
                        taken.push(now);
                    }
                    Err(when) => {
                        prop_assert!(when > now && when <= now + HOUR);
                        prop_assert_eq!(budget.ask(when), Ok(()));
                    }
                }
                let of_late = taken.iter().filter(|at| **at + HOUR > now).count();
                prop_assert!(of_late <= 2 * per_hour as usize);
            }
        }
    }
}
