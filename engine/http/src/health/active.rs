//! Active checks: a target is asked at intervals.

use std::{ops::RangeInclusive, time::Duration};

use super::Change;

/// How a target is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What is asked.
    pub probe: Probe,
    /// From the start of one check to the start of the next.
    pub interval: Duration,
    /// For the whole of one check.
    pub timeout: Duration,
    /// Checks in a row that must pass before a target that is down is up.
    pub rise: u32,
    /// Checks in a row that must fail before a target that is up is down.
    pub fall: u32,
}

/// What a check asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Whether a connection comes about.
    Tcp,
    /// Whether a GET is answered as expected.
    Http {
        /// The path, with a query if need be.
        path: String,
        /// The host to ask for; the target's address if `None`.
        host: Option<String>,
        /// The statuses that pass.
        statuses: RangeInclusive<u16>,
    },
}

/// What the checks of one target came to.
///
/// It begins up, so that a start does not wait for checks. The first check alone may take it down:
/// nothing is known yet that speaks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Active {
    up: bool,
    fresh: bool,
    /// Results in a row that speak against the state.
    streak: u32,
}

impl Default for Active {
    fn default() -> Self {
        Self {
            up: true,
            fresh: true,
            streak: 0,
        }
    }
}

impl Active {
    /// Whether the target may be used.
    pub fn is_up(self) -> bool {
        self.up
    }

    /// Takes the result of one check.
    pub fn observe(&mut self, passed: bool, check: &Check) -> Option<Change> {
        let fresh = std::mem::take(&mut self.fresh);
        if passed == self.up {
            self.streak = 0;
            return None;
        }
        self.streak += 1;
        let needed = match self.up {
            true if fresh => 1,
            true => check.fall,
            false => check.rise,
        };
        if self.streak < needed {
            return None;
        }
        self.up = passed;
        self.streak = 0;
        Some(if passed { Change::Up } else { Change::Down })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check() -> Check {
        Check {
            probe: Probe::Tcp,
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 3,
        }
    }

    #[test]
    fn results_in_a_row_change_the_state_and_others_start_anew() {
        let check = check();
        let mut active = Active::default();
        let mut feed = |results: &[bool]| -> Vec<Option<Change>> {
            let observed = results.iter().map(|passed| active.observe(*passed, &check));
            observed.collect()
        };
        assert_eq!(feed(&[true, false, false, true, false, false]), [None; 6]);
        assert_eq!(feed(&[false]), [Some(Change::Down)]);
        assert_eq!(feed(&[true, false, true]), [None; 3]);
        assert_eq!(feed(&[true]), [Some(Change::Up)]);
    }

    #[test]
    fn the_first_check_alone_may_take_a_target_down() {
        let mut active = Active::default();
        assert_eq!(active.observe(false, &check()), Some(Change::Down));
        assert!(!active.is_up());
    }
}
