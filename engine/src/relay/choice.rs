//! Whether a bulk flow is copied or spliced: measured on the flow itself.
//!
//! Copying is quicker where few flows move between sockets in memory; splicing costs less processor
//! time, most of all with many flows or with a network card below. No constant is right for all of
//! that, so a flow that turns out to be bulk tries both ways in turn, takes the cheaper one unless
//! it is also the slower one, and looks again from time to time. A flow that becomes bulk while its
//! worker has just seen another one choose goes that mode first, and tries for itself later.

use crate::context::Mode;
use std::time::{Duration, Instant};

/// Bytes in one direction that make a flow bulk. Nearly all web traffic stays below.
pub(crate) const BULK_BYTES: u64 = 8 << 20;

/// Bytes of one trial of one mode.
const TRIAL_BYTES: u64 = 4 << 20;

/// Trials of each mode. They alternate, because the machine changes under them.
const TRIALS: u8 = 3;

/// Longest trial: a flow that is slower than this is not worth one.
const TRIAL_TIME: Duration = Duration::from_secs(1);

/// Bytes before the choice is looked at again.
const SETTLED_BYTES: u64 = 4 << 30;

/// Bytes that a flow goes the mode of another one before it tries for itself.
const BORROWED_BYTES: u64 = 256 << 20;

/// Splicing must be cheaper by this much, in percent: copying has the lower latency.
const CHEAPER_PERCENT: u128 = 10;

/// Splicing may be slower by this much, in percent: less cannot be told from noise.
const SLOWER_PERCENT: u128 = 10;

/// What the trials of one mode found. Every trial is of [`TRIAL_BYTES`], as near as pieces allow.
#[derive(Clone, Copy, Debug)]
struct Cost {
    /// The least processor time of a trial.
    cpu: Duration,
    /// The least time of a trial: what others took away is not this mode's doing.
    wall: Duration,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// One mode, until that many bytes have moved.
    Settled { until: u64 },
    /// One of several trials.
    Trying {
        done: u8,
        started_at: Instant,
        bytes: u64,
        cpu: Duration,
    },
}

/// The running choice of one direction of one flow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice {
    mode: Mode,
    phase: Phase,
    moved: u64,
    copy: Cost,
    splice: Cost,
}

impl Choice {
    /// For a flow that has just turned out to be bulk, on a worker where another one last chose
    /// `borrowed`.
    pub(crate) fn new(borrowed: Option<Mode>, now: Instant) -> Self {
        let nothing = Cost {
            cpu: Duration::MAX,
            wall: Duration::MAX,
        };
        let phase = match borrowed {
            Some(_) => Phase::Settled {
                until: BORROWED_BYTES,
            },
            None => trial(0, now),
        };
        let mode = borrowed.unwrap_or(Mode::Copy);
        Self {
            mode,
            phase,
            moved: 0,
            copy: nothing,
            splice: nothing,
        }
    }

    /// The mode to go now.
    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    /// What the flow chose after it tried both ways, for others to begin with.
    pub(crate) fn chosen(&self) -> Option<Mode> {
        let has_tried = self.copy.cpu < Duration::MAX && self.splice.cpu < Duration::MAX;
        (has_tried && !self.is_trial()).then_some(self.mode)
    }

    /// Whether the processor time of the coming step is wanted.
    pub(crate) fn is_trial(&self) -> bool {
        matches!(self.phase, Phase::Trying { .. })
    }

    /// Takes in that a step moved `bytes`, with `cpu` of processor time when it is a trial.
    pub(crate) fn moved(&mut self, bytes: u64, cpu: Duration, now: Instant) {
        self.moved += bytes;
        match &mut self.phase {
            Phase::Settled { until } if self.moved >= *until => {
                let moved = self.moved;
                *self = Self {
                    moved,
                    ..Self::new(None, now)
                };
            }
            Phase::Settled { .. } => {}
            Phase::Trying {
                done,
                started_at,
                bytes: tried,
                cpu: used,
            } => {
                *tried += bytes;
                *used += cpu;
                let wall = now.saturating_duration_since(*started_at);
                if *tried >= TRIAL_BYTES {
                    let ended = (*done, Cost { cpu: *used, wall });
                    self.end_trial(ended, now);
                } else if wall > TRIAL_TIME {
                    self.settle(Mode::Copy);
                }
            }
        }
    }

    fn end_trial(&mut self, (done, cost): (u8, Cost), now: Instant) {
        match self.mode {
            Mode::Copy => self.copy = self.copy.least(cost),
            Mode::Splice => self.splice = self.splice.least(cost),
        }
        if done + 1 == 2 * TRIALS {
            let is_better = self.splice.beats(self.copy);
            return self.settle(if is_better { Mode::Splice } else { Mode::Copy });
        }
        self.phase = trial(done + 1, now);
        self.mode = match self.mode {
            Mode::Copy => Mode::Splice,
            Mode::Splice => Mode::Copy,
        };
    }

    fn settle(&mut self, mode: Mode) {
        self.mode = mode;
        self.phase = Phase::Settled {
            until: self.moved + SETTLED_BYTES,
        };
    }
}

fn trial(done: u8, started_at: Instant) -> Phase {
    Phase::Trying {
        done,
        started_at,
        bytes: 0,
        cpu: Duration::ZERO,
    }
}

impl Cost {
    fn least(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.min(other.cpu),
            wall: self.wall.min(other.wall),
        }
    }

    /// Whether this mode is cheaper than the other by enough, and not slower by too much.
    fn beats(self, other: Self) -> bool {
        let is_below = |mine: Duration, theirs: Duration, percent: u128| {
            mine.as_nanos().saturating_mul(100) <= theirs.as_nanos().saturating_mul(percent)
        };
        is_below(self.cpu, other.cpu, 100 - CHEAPER_PERCENT)
            && is_below(self.wall, other.wall, 100 + SLOWER_PERCENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a flow whose ways cost what is given for a mebibyte, in microseconds of processor time
    /// and on the wall; gives the mode that it settles on after `mebibytes`.
    fn settle(copy: (u64, u64), splice: (u64, u64), mebibytes: u64) -> Mode {
        let mut now = Instant::now();
        let mut choice = Choice::new(None, now);
        for _ in 0..mebibytes {
            let (cpu, wall) = if choice.mode() == Mode::Copy {
                copy
            } else {
                splice
            };
            now += Duration::from_micros(wall);
            choice.moved(1 << 20, Duration::from_micros(cpu), now);
        }
        assert!(!choice.is_trial());
        choice.mode()
    }

    #[test]
    fn the_cheaper_way_wins_unless_it_is_slower() {
        assert_eq!(settle((200, 400), (150, 420), 100), Mode::Splice);
        assert_eq!(settle((200, 400), (150, 500), 100), Mode::Copy);
        assert_eq!(
            settle((200, 400), (195, 300), 100),
            Mode::Copy,
            "within the noise"
        );
        assert_eq!(settle((200, 400), (250, 300), 100), Mode::Copy);
    }

    #[test]
    fn a_disturbed_trial_does_not_decide() {
        let mut now = Instant::now();
        let mut choice = Choice::new(None, now);
        let mut steps = 0;
        while choice.is_trial() {
            let disturbance = if steps < 8 { 10 } else { 1 };
            let cpu = if choice.mode() == Mode::Copy {
                200
            } else {
                100
            };
            now += Duration::from_micros(400 * disturbance);
            choice.moved(1 << 20, Duration::from_micros(cpu * disturbance), now);
            steps += 1;
        }
        assert_eq!(choice.mode(), Mode::Splice);
    }

    #[test]
    fn a_borrowed_choice_holds_until_the_flow_tries_for_itself() {
        let mut now = Instant::now();
        let mut choice = Choice::new(Some(Mode::Splice), now);
        for _ in 0..BORROWED_BYTES >> 20 {
            assert!(!choice.is_trial());
            assert_eq!(choice.mode(), Mode::Splice);
            now += Duration::from_micros(300);
            choice.moved(1 << 20, Duration::ZERO, now);
        }
        assert!(choice.is_trial());
    }

    #[test]
    fn a_slow_flow_stays_as_it_is() {
        assert_eq!(settle((200, 500_000), (100, 500_000), 40), Mode::Copy);
    }

    #[test]
    fn the_choice_is_looked_at_again() {
        let mut now = Instant::now();
        let mut choice = Choice::new(None, now);
        let mut trials = 0;
        let mut was_trial = false;
        for _ in 0..3 * (SETTLED_BYTES >> 20) {
            now += Duration::from_micros(300);
            choice.moved(1 << 20, Duration::from_micros(200), now);
            trials += u32::from(choice.is_trial() && !was_trial);
            was_trial = choice.is_trial();
        }
        assert_eq!(trials, 3);
    }
}
