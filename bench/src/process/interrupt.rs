//! Ends everything that was started when the run is broken off.
//!
//! What this process starts is tied to it; what that starts in turn, as nginx its workers, is not,
//! and would go on listening for ever. Only SIGKILL cannot be met so.

use std::{process, thread};

use anyhow::{Context, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
};

use crate::measure;

/// What a shell says of a process that a signal ended, without the signal's number.
const ENDED_BY_SIGNAL: i32 = 128;

/// From now on SIGTERM, SIGINT and SIGHUP end this process with all that come from it.
///
/// # Errors
/// When nobody can wait for signals.
pub(crate) fn end_all_when_interrupted() -> Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_io().build();
    let runtime = runtime.context("cannot wait for signals")?;
    let (mut terminate, mut interrupt, mut hang_up) = {
        let _inside = runtime.enter();
        let kinds = [
            SignalKind::terminate(),
            SignalKind::interrupt(),
            SignalKind::hangup(),
        ];
        let [terminate, interrupt, hang_up] = kinds.map(signal);
        (terminate?, interrupt?, hang_up?)
    };
    let wait = move || {
        let signal = runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => Signal::SIGTERM,
                _ = interrupt.recv() => Signal::SIGINT,
                _ = hang_up.recv() => Signal::SIGHUP,
            }
        });
        end_descendants(Pid::this());
        process::exit(ENDED_BY_SIGNAL + signal as i32);
    };
    let thread = thread::Builder::new().name("interrupt".into());
    thread.spawn(wait).context("cannot wait for signals")?;
    Ok(())
}

/// Kills what comes from `root`: parents first, so that none starts others meanwhile.
fn end_descendants(root: Pid) {
    // Without /proc there was no run.
    let family = measure::family(root).unwrap_or_default();
    for pid in family.into_iter().filter(|pid| *pid != root) {
        // It may have ended with its parent.
        let _ = kill(pid, Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        process::Command,
        time::{Duration, Instant},
    };

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);
    const LOOK_EVERY: Duration = Duration::from_millis(5);

    #[test]
    fn grandchildren_end_with_the_run() {
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "sh -c 'trap \"\" TERM; while :; do sleep 1; done' & wait",
        ]);
        let mut root = command.spawn().unwrap();
        let pid = Pid::from_raw(root.id().cast_signed());
        let start = Instant::now();
        let family = loop {
            let family = measure::family(pid).unwrap();
            if family.len() >= 3 {
                break family;
            }
            assert!(start.elapsed() < PATIENCE);
            thread::sleep(LOOK_EVERY);
        };
        end_descendants(pid);
        root.wait().unwrap();
        let gone = |pid: &Pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
            stat.map_or(true, |stat| stat.contains(") Z "))
        };
        while !family.iter().all(gone) {
            assert!(start.elapsed() < PATIENCE, "{family:?}");
            thread::sleep(LOOK_EVERY);
        }
    }
}
