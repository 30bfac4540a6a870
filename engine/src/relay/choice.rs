//! Whether a bulk flow is copied or spliced: measured on the flow itself.
//!
//! Copying moves more where both ends are in memory (loopback, veth); splicing costs less
//! processor time, most of all with a network card below. No constant is right for both, so a flow
//! that turns out to be bulk tries each way for a while, takes the cheaper one unless it is also
//! the slower one, and looks again from time to time.

use std::time::{Duration, Instant};

/// Bytes in one direction that make a flow bulk. Nearly all web traffic stays below.
pub(crate) const BULK_BYTES: u64 = 8 << 20;

/// Bytes that each way is tried for.
const TRIAL_BYTES: u64 = 16 << 20;

/// Longest trial: a flow that is slower than this is not worth one.
const TRIAL_TIME: Duration = Duration::from_secs(2);

/// Bytes before the choice is looked at again.
const SETTLED_BYTES: u64 = 4 << 30;

/// Splicing must be cheaper by this much, in percent: the trial is noisy and copying has lower
/// latency.
const CHEAPER_PERCENT: u128 = 10;

/// Splicing may be slower by this much, in percent.
const SLOWER_PERCENT: u128 = 5;

/// How bytes are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Through the scratch buffer.
    Copy,
    /// Through a pipe.
    Splice,
}

/// What a trial found.
#[derive(Clone, Copy, Debug)]
struct Cost {
    bytes: u64,
    cpu: Duration,
    wall: Duration,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// One way, until that many bytes have moved.
    Settled {
        way: Way,
        until: u64,
    },
    TryCopy(Trial),
    TrySplice {
        copy: Cost,
        trial: Trial,
    },
}

#[derive(Clone, Copy, Debug)]
struct Trial {
    started_at: Instant,
    bytes: u64,
    cpu: Duration,
}

/// The running choice of one direction of one flow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice {
    phase: Phase,
    moved: u64,
}

impl Choice {
    /// For a flow that has just turned out to be bulk.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            phase: Phase::TryCopy(Trial::start(now)),
            moved: 0,
        }
    }

    /// The way to go now.
    pub(crate) fn way(&self) -> Way {
        match self.phase {
            Phase::Settled { way, .. } => way,
            Phase::TryCopy(_) => Way::Copy,
            Phase::TrySplice { .. } => Way::Splice,
        }
    }

    /// Whether the processor time of the coming step is wanted.
    pub(crate) fn is_trial(&self) -> bool {
        !matches!(self.phase, Phase::Settled { .. })
    }

    /// Takes in that a step moved `bytes`, with `cpu` of processor time when it is a trial.
    pub(crate) fn moved(&mut self, bytes: u64, cpu: Duration, now: Instant) {
        self.moved += bytes;
        match &mut self.phase {
            Phase::Settled { until, .. } => {
                if self.moved >= *until {
                    self.phase = Phase::TryCopy(Trial::start(now));
                }
            }
            Phase::TryCopy(trial) => {
                if let Some(copy) = trial.add(bytes, cpu, now) {
                    self.phase = match copy {
                        Ended::Measured(copy) => Phase::TrySplice {
                            copy,
                            trial: Trial::start(now),
                        },
                        Ended::TooSlow => self.settled(Way::Copy),
                    };
                }
            }
            Phase::TrySplice { copy, trial } => {
                let copy = *copy;
                if let Some(ended) = trial.add(bytes, cpu, now) {
                    let way = match ended {
                        Ended::Measured(splice) if splice.beats(copy) => Way::Splice,
                        Ended::Measured(_) | Ended::TooSlow => Way::Copy,
                    };
                    self.phase = self.settled(way);
                }
            }
        }
    }

    fn settled(&self, way: Way) -> Phase {
        Phase::Settled {
            way,
            until: self.moved + SETTLED_BYTES,
        }
    }
}

enum Ended {
    Measured(Cost),
    TooSlow,
}

impl Trial {
    fn start(now: Instant) -> Self {
        Self {
            started_at: now,
            bytes: 0,
            cpu: Duration::ZERO,
        }
    }

    fn add(&mut self, bytes: u64, cpu: Duration, now: Instant) -> Option<Ended> {
        self.bytes += bytes;
        self.cpu += cpu;
        let wall = now.saturating_duration_since(self.started_at);
        if self.bytes >= TRIAL_BYTES {
            return Some(Ended::Measured(Cost {
                bytes: self.bytes,
                cpu: self.cpu,
                wall,
            }));
        }
        (wall > TRIAL_TIME).then_some(Ended::TooSlow)
    }
}

impl Cost {
    /// Whether this way is cheaper than the other by enough, and not slower by too much.
    fn beats(self, other: Self) -> bool {
        let scaled = |time: Duration, bytes: u64, percent: u128| {
            time.as_nanos() * u128::from(bytes) * percent
        };
        let is_cheaper = scaled(self.cpu, other.bytes, 100)
            <= scaled(other.cpu, self.bytes, 100 - CHEAPER_PERCENT);
        let is_fast_enough = scaled(self.wall, other.bytes, 100 - SLOWER_PERCENT)
            <= scaled(other.wall, self.bytes, 100);
        is_cheaper && is_fast_enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a flow whose ways cost what is given for a mebibyte, in microseconds of processor time
    /// and on the wall; gives the way that it settles on after `mebibytes`.
    fn settle(copy: (u64, u64), splice: (u64, u64), mebibytes: u64) -> Way {
        let mut now = Instant::now();
        let mut choice = Choice::new(now);
        for _ in 0..mebibytes {
            let (cpu, wall) = if choice.way() == Way::Copy {
                copy
            } else {
                splice
            };
            now += Duration::from_micros(wall);
            choice.moved(1 << 20, Duration::from_micros(cpu), now);
        }
        assert!(!choice.is_trial());
        choice.way()
    }

    #[test]
    fn the_cheaper_way_wins_unless_it_is_slower() {
        assert_eq!(settle((200, 400), (150, 400), 100), Way::Splice);
        assert_eq!(settle((200, 400), (150, 500), 100), Way::Copy);
        assert_eq!(
            settle((200, 400), (195, 300), 100),
            Way::Copy,
            "within the noise"
        );
        assert_eq!(settle((200, 400), (250, 300), 100), Way::Copy);
    }

    #[test]
    fn a_slow_flow_stays_as_it_is() {
        assert_eq!(settle((200, 500_000), (100, 500_000), 40), Way::Copy);
    }

    #[test]
    fn the_choice_is_looked_at_again() {
        let mut now = Instant::now();
        let mut choice = Choice::new(now);
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
