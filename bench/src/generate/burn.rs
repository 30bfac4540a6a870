//! Processor time that is burned for nothing: what a busy neighbour takes from a proxy.

use std::{
    hint::black_box,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use clap::Args;
use nix::time::{ClockId, clock_gettime};

use super::{event::Announcer, event::Event, on_threads};

/// How long a thread sleeps when it has burned what it should have by now.
const NAP: Duration = Duration::from_millis(1);
/// Steps of arithmetic between two looks at the clocks: some microseconds.
const STEPS: u32 = 4096;
/// More than any machine has.
const CORES_MAX: f64 = 1024.0;

/// The neighbour.
#[derive(Clone, Debug, Args)]
pub(crate) struct Burn {
    /// Cores to keep busy, such as 0.5: as even as it can be, on as few threads as can do it
    #[arg(long)]
    cores: f64,
    /// For how long
    #[arg(long)]
    seconds: f64,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

impl Burn {
    /// Burns until its end.
    ///
    /// # Errors
    /// When the numbers make no sense.
    pub(crate) fn run(&self) -> Result<()> {
        if !(0.0..=CORES_MAX).contains(&self.cores) {
            bail!("between 0 and {CORES_MAX} cores");
        }
        let length = Duration::try_from_secs_f64(self.seconds)?;
        let (threads, share) = threads(self.cores);
        let announcer = Announcer::new(self.json);
        let end = Instant::now() + length;
        let ready = || Ok(announcer.say(&Event::Ready { address: None })?);
        on_threads(threads, |_| burn(share, end), ready)?;
        Ok(())
    }
}

/// How many threads, and the share of a core of each.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 1 and 1024"
)]
fn threads(cores: f64) -> (usize, f64) {
    let threads = cores.ceil().max(1.0);
    (threads as usize, cores / threads)
}

/// Burns `share` of a core on this thread until `end`. A thread that did not get its share makes
/// up for it as soon as it can.
fn burn(share: f64, end: Instant) -> Result<()> {
    let start = Instant::now();
    let begin = cpu()?;
    loop {
        let now = Instant::now();
        if now >= end {
            return Ok(());
        }
        if cpu()?.saturating_sub(begin) >= (now - start).mul_f64(share) {
            thread::sleep(NAP);
            continue;
        }
        let mut number = 1_u64;
        for _ in 0..STEPS {
            number = black_box(number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(7));
        }
    }
}

fn cpu() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_split_over_as_few_threads_as_can_burn_it() {
        assert_eq!(threads(0.0), (1, 0.0));
        assert_eq!(threads(0.5), (1, 0.5));
        assert_eq!(threads(1.5), (2, 0.75));
    }

    #[test]
    fn no_more_is_burned_than_was_asked_for() {
        let (start, begin) = (Instant::now(), cpu().unwrap());
        let length = Duration::from_millis(400);
        burn(0.25, start + length).unwrap();
        let burned = cpu().unwrap() - begin;
        assert!(burned > Duration::from_millis(20), "{burned:?}");
        // At most what was due, one look more, and the looks themselves.
        assert!(burned < Duration::from_millis(140), "{burned:?}");
    }
}
