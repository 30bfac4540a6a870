//! Waiting for something to come true, with a deadline.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// How long anything in the lab may take before it counts as stuck. Far above what a busy machine
/// with two cores needs.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(2);

/// Looks until there is an answer; fails after [`PATIENCE`], saying what did not happen.
///
/// # Errors
/// When it did not happen.
pub fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> Result<T> {
    within(PATIENCE, what, look)
}

/// [`eventually`] with another patience.
///
/// # Errors
/// When it did not happen.
pub fn within<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = look() {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            bail!("did not happen in {patience:?}: {what}");
        }
        thread::sleep(INTERVAL);
    }
}
