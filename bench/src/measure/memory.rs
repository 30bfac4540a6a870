//! Memory: of processes, and of the kernel.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nix::unistd::Pid;

use super::family;

/// When two looks this far apart differ by less than [`SETTLED_BYTES`], the kernel has freed what
/// it frees late (closed sockets, RCU).
const LOOK_EVERY: Duration = Duration::from_millis(200);
const SETTLED_BYTES: u64 = 256 * 1024;
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);

/// Proportional set size in bytes, of `root` and what comes from it: its own pages, and its part
/// of those that it shares (proc_pid_smaps(5)).
///
/// # Errors
/// When `root` is gone.
pub(crate) fn proportional_set(root: Pid) -> Result<u64> {
    let mut sum = 0;
    for pid in family(root)? {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
            .with_context(|| format!("no memory account of process {pid}"))?;
        sum += kilobytes(&text, "Pss:").context("no Pss in smaps_rollup")? * 1024;
    }
    Ok(sum)
}

/// The kernel's own objects, in bytes: sockets, files, inodes, timers (proc_meminfo(5), Slab).
///
/// # Errors
/// When `/proc/meminfo` cannot be read.
fn slab() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    Ok(kilobytes(&text, "Slab:").context("no Slab in /proc/meminfo")? * 1024)
}

/// The slab, once it stands still; or as it is after a while.
///
/// # Errors
/// When `/proc/meminfo` cannot be read.
pub(crate) fn settled_slab() -> Result<u64> {
    let start = Instant::now();
    let mut before = slab()?;
    loop {
        thread::sleep(LOOK_EVERY);
        let now = slab()?;
        if now.abs_diff(before) < SETTLED_BYTES || start.elapsed() > SETTLE_TIMEOUT {
            return Ok(now);
        }
        before = now;
    }
}

fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_was_written_shows_in_the_proportional_set() {
        let own = Pid::this();
        let before = proportional_set(own).unwrap();
        let block = vec![1_u8; 64 << 20];
        let after = proportional_set(own).unwrap();
        assert!(after > before + (48 << 20), "{before} {after}");
        assert_eq!(block.last(), Some(&1));
    }

    #[test]
    fn the_kernel_says_how_much_slab_it_has() {
        assert!(slab().unwrap() > 1 << 20);
    }
}
