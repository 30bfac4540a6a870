//! Work that goes on beside what is measured.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use nix::time::ClockId;
use tests::{
    digest::{Direction, Ends, Passed},
    random::Random,
};

/// How long work waits where it is ahead of its time.
const TICK: Duration = Duration::from_micros(500);

/// How long is measured at once, and how often.
const WINDOW: Duration = Duration::from_millis(1_500);
pub(crate) const WINDOWS: u8 = 3;

/// Gigabits in a second one way, by digest, while `beside` runs; and what that answers.
pub(crate) fn measure<T: Send>(
    ends: &Ends,
    direction: Direction,
    random: &mut Random,
    beside: impl FnOnce(&AtomicBool) -> T + Send,
) -> Result<(f64, T)> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let beside = scope.spawn(|| beside(&stop));
        let (began, mut bytes, mut passed) = (Instant::now(), 0, Ok(()));
        while began.elapsed() < WINDOW && passed.is_ok() {
            let piece = ends.pass(direction, 1 << 20, random);
            passed = piece.map(|piece| bytes += piece.bytes);
        }
        let took = began.elapsed();
        stop.store(true, Ordering::Relaxed);
        let beside = beside.join().map_err(|_| anyhow!("a load panicked"))?;
        passed?;
        Ok((Passed { bytes, took }.gigabits(), beside))
    })
}

/// The processor time of this thread so far, with what the kernel did for it.
pub(crate) fn thread_time() -> Duration {
    let now = ClockId::CLOCK_THREAD_CPUTIME_ID.now();
    now.map(Duration::from).unwrap_or_default()
}

/// So many of something in a second, in small bursts.
#[derive(Debug)]
pub(crate) struct Pace {
    per_second: u64,
    began: Instant,
    done: u64,
}

impl Pace {
    pub(crate) fn new(per_second: u64) -> Self {
        Self {
            per_second,
            began: Instant::now(),
            done: 0,
        }
    }

    /// How many are due by now; waits a little where none are. What could not be done within a
    /// tenth of a second is left out, so that a held-up thread does not make it good in one burst.
    pub(crate) fn due(&mut self) -> u64 {
        thread::sleep(TICK);
        let elapsed = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let due = elapsed.saturating_mul(self.per_second) / 1_000_000;
        let late = due.saturating_sub(self.done);
        self.done += late;
        late.min(self.per_second / 10)
    }

    /// How many there were in a second.
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    pub(crate) fn rate(&self) -> f64 {
        self.done as f64 / self.began.elapsed().as_secs_f64()
    }
}

/// Takes a share of a core, and does nothing with it.
#[derive(Debug)]
pub(crate) struct Burner {
    share: f64,
}

impl Burner {
    pub(crate) fn new(share: f64) -> Self {
        Self { share }
    }

    pub(crate) fn run(&self, stop: &AtomicBool) {
        let (began, cpu) = (Instant::now(), thread_time());
        while !stop.load(Ordering::Relaxed) {
            let burned = (thread_time() - cpu).as_secs_f64();
            if burned > self.share * began.elapsed().as_secs_f64() {
                thread::sleep(TICK);
            }
        }
    }
}
