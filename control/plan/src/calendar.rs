//! The time that accounts are stamped with, from a clock that may be wrong.
//!
//! Stamps never go back: whoever asked for everything up to one is told what comes after it. So one
//! stamp from a clock that was ahead would hold up all later rows until that time comes, and old rows
//! would be merged by it long before they are old. Both are avoided: a clock that jumps far ahead, and
//! that nothing sets, is believed once it has said so for a while, and behind stamps that are ahead of the clock, time goes on
//! at a quarter of its speed until the clock has caught up.

use std::time::Duration;

/// How far a clock that nothing sets may jump ahead and be believed at once. Farther, and it may be a
/// machine whose clock was never set.
const JUMP_MAX: Duration = Duration::from_secs(24 * 3600);

/// How long a clock that jumped farther has to stay there. One that is set over the network is set by
/// then.
const DOUBT: Duration = Duration::from_secs(600);

/// How much slower than itself time goes while the clock is behind.
const SLOWER: u32 = 4;

/// The time of the accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calendar {
    /// The last stamp, since the Unix epoch. Zero: nothing was stamped yet.
    time: Duration,
    /// When it was given.
    given: Duration,
    /// Since when the clock has been far ahead.
    doubted: Option<Duration>,
}

impl Calendar {
    /// Goes on from the last stamp of another run, in seconds since the Unix epoch; 0 if there is none.
    /// `running` is a time that only grows, as in [`stamp`](Self::stamp).
    #[must_use]
    pub fn after(last_unix: u64, running: Duration) -> Self {
        Self {
            time: Duration::from_secs(last_unix),
            given: running,
            doubted: None,
        }
    }

    /// The stamp of what is counted now, in seconds since the Unix epoch: never less than the one
    /// before. `clock` is what the machine's clock says, since the Unix epoch, `is_synchronised` whether
    /// it is set by another one, and `running` the time since any fixed moment, of a clock that only
    /// grows, also while the machine sleeps.
    pub fn stamp(&mut self, clock: Duration, is_synchronised: bool, running: Duration) -> u64 {
        let passed = running.saturating_sub(self.given);
        self.given = running;
        self.time = self.follow(clock, is_synchronised, passed);
        self.time.as_secs()
    }

    /// By how much the stamps are ahead of the clock.
    #[must_use]
    pub fn ahead_of(&self, clock: Duration) -> Duration {
        self.time.saturating_sub(clock)
    }

    fn follow(&mut self, clock: Duration, is_synchronised: bool, passed: Duration) -> Duration {
        if clock < self.time {
            self.doubted = None;
            return self.time.saturating_add(passed / SLOWER);
        }
        let expected = self.time.saturating_add(passed);
        let is_near = clock.saturating_sub(expected) <= JUMP_MAX;
        if self.time.is_zero() || is_synchronised || is_near {
            self.doubted = None;
            return clock;
        }
        let since = *self.doubted.get_or_insert(self.given);
        if self.given.saturating_sub(since) < DOUBT {
            return expected;
        }
        self.doubted = None;
        clock
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_800_000_000;
    const YEAR: u64 = 365 * 24 * 3600;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn set(last_unix: u64) -> Calendar {
        Calendar::after(last_unix, Duration::ZERO)
    }

    #[test]
    fn a_clock_that_is_right_is_followed() {
        let mut calendar = set(0);
        assert_eq!(calendar.stamp(seconds(NOW), false, seconds(5)), NOW);
        assert_eq!(
            calendar.stamp(seconds(NOW + 10), false, seconds(15)),
            NOW + 10
        );
        // A gateway that was off for an hour, or a clock that is set by one.
        assert_eq!(
            calendar.stamp(seconds(NOW + 3_610), false, seconds(16)),
            NOW + 3_610
        );
        assert_eq!(calendar.ahead_of(seconds(NOW + 3_610)), Duration::ZERO);
    }

    #[test]
    fn a_clock_that_is_years_ahead_for_a_moment_stamps_nothing() {
        let mut calendar = set(NOW);
        for running in 0..500 {
            let stamp = calendar.stamp(seconds(NOW + 70 * YEAR), false, seconds(running));
            assert_eq!(stamp, NOW + running);
        }
        assert_eq!(
            calendar.stamp(seconds(NOW + 501), false, seconds(501)),
            NOW + 501
        );
        // Each jump is doubted anew.
        let again = calendar.stamp(seconds(NOW + 70 * YEAR), false, seconds(1_000));
        assert_eq!(again, NOW + 1_000);
    }

    #[test]
    fn a_clock_that_stays_ahead_is_believed_in_the_end() {
        let mut calendar = set(NOW - YEAR);
        let mut last = 0;
        for running in 1..=602 {
            last = calendar.stamp(seconds(NOW + running), false, seconds(running));
        }
        assert_eq!(last, NOW + 602);
    }

    #[test]
    fn a_clock_that_another_one_sets_is_believed_at_once() {
        let mut calendar = set(NOW);
        let later = NOW + 25 * 3_600;
        assert_eq!(calendar.stamp(seconds(later), true, seconds(1)), later);
        // It was in doubt before it was set.
        let mut calendar = set(NOW);
        assert_eq!(calendar.stamp(seconds(later), false, seconds(1)), NOW + 1);
        assert_eq!(
            calendar.stamp(seconds(later + 1), true, seconds(2)),
            later + 1
        );
        // Stamps do not go back for it.
        assert_eq!(calendar.stamp(seconds(NOW), true, seconds(2)), later + 1);
    }

    #[test]
    fn a_machine_that_slept_knows_for_how_long() {
        let mut calendar = set(NOW);
        let slept = 25 * 3_600;
        let stamp = calendar.stamp(seconds(NOW + slept), false, seconds(slept));
        assert_eq!(stamp, NOW + slept);
    }

    #[test]
    fn behind_stamps_that_were_ahead_time_goes_on_until_the_clock_has_caught_up() {
        let mut calendar = set(NOW + 3_600);
        assert_eq!(calendar.stamp(seconds(NOW), false, seconds(0)), NOW + 3_600);
        assert_eq!(
            calendar.stamp(seconds(NOW + 60), false, seconds(60)),
            NOW + 3_615
        );
        assert_eq!(calendar.ahead_of(seconds(NOW + 60)), seconds(3_555));
        let mut stamp = 0;
        for running in 61..=4_800 {
            stamp = calendar.stamp(seconds(NOW + running), false, seconds(running));
        }
        assert_eq!(stamp, NOW + 4_800);
    }

    proptest! {
        #[test]
        fn stamps_never_go_back_nor_stand_still_for_long(
            steps in prop::collection::vec(
                (0..2_000_u64, -9_000_000..9_000_000_i64, any::<bool>()), 1..80,
            ),
        ) {
            let mut calendar = set(NOW);
            let (mut running, mut clock, mut last) = (0, NOW, NOW);
            for (passed, jump, is_synchronised) in steps {
                running += passed;
                clock = (clock + passed).saturating_add_signed(jump).max(1);
                let stamp = calendar.stamp(seconds(clock), is_synchronised, seconds(running));
                prop_assert!(stamp >= last + passed / u64::from(SLOWER));
                last = stamp;
            }
        }
    }
}
