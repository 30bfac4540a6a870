//! Processor time of single threads: nanoseconds on a processor, the first number of
//! `/proc/PID/task/TID/schedstat` (Documentation/scheduler/sched-stats.rst).

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use anyhow::{Context, Result};
use nix::unistd::Pid;

use super::{cpu_time, parent_in};

/// How Ringway calls the threads of its data plane.
const WORKER: &str = "worker-";
/// Parent of the kernel's threads (kernel/kthread.c).
const KTHREADD: i32 = 2;
/// The kernel's threads that take namespaces and devices away, and free what was unlinked.
const KERNEL_WORK: [&str; 2] = ["kworker/", "rcu"];

/// Processor time of a gateway without that of its workers: what its control plane, its store and
/// its WireGuard devices used.
///
/// # Errors
/// When the process is gone, or has no workers.
pub(crate) fn beside_workers(gateway: Pid) -> Result<Duration> {
    let mut workers = Vec::new();
    for entry in fs::read_dir(format!("/proc/{gateway}/task")).context("the process is gone")? {
        let thread = entry?.path();
        // A thread that ended meanwhile was no worker: those stay.
        if let Some(name) = name(&thread)
            && name.starts_with(WORKER)
        {
            workers.push(time(&thread).context("a worker has ended")?);
        }
    }
    anyhow::ensure!(!workers.is_empty(), "no threads are called {WORKER}");
    let workers = workers.into_iter().sum();
    Ok(cpu_time(gateway)?.saturating_sub(workers))
}

/// Processor time of each of the kernel's own threads that tidy up after namespaces, by their ids.
///
/// # Errors
/// When `/proc` cannot be read.
pub(crate) fn kernel_work() -> Result<BTreeMap<i32, Duration>> {
    let mut times = BTreeMap::new();
    for entry in fs::read_dir("/proc").context("cannot read /proc")? {
        let path = entry?.path();
        let id = path
            .file_name()
            .and_then(|name| name.to_str()?.parse().ok());
        let stat = fs::read_to_string(path.join("stat")).unwrap_or_default();
        if let Some(id) = id
            && parent_in(&stat) == Some(KTHREADD)
            && let Some(name) = name(&path)
            && KERNEL_WORK.iter().any(|work| name.starts_with(work))
            && let Some(time) = time(&path)
        {
            times.insert(id, time);
        }
    }
    Ok(times)
}

/// Processor time of each thread of a process, by their ids.
///
/// # Errors
/// When the process is gone.
pub(crate) fn thread_times(process: Pid) -> Result<BTreeMap<i32, Duration>> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).context("the process is gone")?;
    let mut times = BTreeMap::new();
    for entry in tasks {
        let path = entry?.path();
        let id = path
            .file_name()
            .and_then(|name| name.to_str()?.parse().ok());
        // A thread may end between two looks.
        if let (Some(id), Some(time)) = (id, time(&path)) {
            times.insert(id, time);
        }
    }
    Ok(times)
}

fn name(thread: &Path) -> Option<String> {
    fs::read_to_string(thread.join("comm")).ok()
}

fn time(thread: &Path) -> Option<Duration> {
    let text = fs::read_to_string(thread.join("schedstat")).ok()?;
    let nanoseconds = text.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

#[cfg(test)]
mod tests {
    use std::{hint::black_box, sync::mpsc, thread, time::Instant};

    use super::*;

    #[test]
    fn what_a_worker_burns_is_left_out() {
        let (stop, stopped) = mpsc::channel::<()>();
        let worker = thread::Builder::new().name(format!("{WORKER}7"));
        let burning = worker.spawn(move || {
            while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
                black_box(0);
            }
        });
        let (start, own) = (Instant::now(), Pid::this());
        // A thread gives itself its name, some time after it was started.
        let beside_before = loop {
            if let Ok(beside) = beside_workers(own) {
                break beside;
            }
            assert!(start.elapsed() < Duration::from_secs(20));
            thread::yield_now();
        };
        let before = (cpu_time(own).unwrap(), beside_before);
        let all = loop {
            let all = cpu_time(own).unwrap() - before.0;
            if all > Duration::from_millis(200) {
                break all;
            }
            assert!(start.elapsed() < Duration::from_secs(20));
        };
        let beside = beside_workers(own).unwrap().saturating_sub(before.1);
        drop(stop);
        burning.unwrap().join().unwrap();
        assert!(beside < all, "{beside:?} of {all:?}");
    }

    #[test]
    fn the_kernel_has_threads_that_tidy_up() {
        assert!(!kernel_work().unwrap().is_empty());
    }
}
