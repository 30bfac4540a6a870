//! What the kernel has on its books about a process: processor time, memory, listening sockets.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{BufRead, BufReader},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nix::{
    time::{clock_getcpuclockid, clock_gettime},
    unistd::Pid,
};

mod memory;
mod threads;

pub(crate) use memory::{proportional_set, settled_slab};
pub(crate) use threads::{beside_workers, kernel_work, thread_times};

/// State of a listening socket in `/proc/net/tcp` (include/net/tcp_states.h, TCP_LISTEN).
const LISTENING: &str = "0A";
/// Length of a tick in `/proc/stat`: USER_HZ is 100 wherever Linux shows ticks to programs
/// (include/asm-generic/param.h).
const TICK_MS: u64 = 10;

/// `root` and all processes that come from it.
///
/// # Errors
/// When `/proc` cannot be read.
pub(crate) fn family(root: Pid) -> Result<Vec<Pid>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").context("cannot read /proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // A process that ended meanwhile has no parent any more.
        if let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat"))
            && let Some(parent) = parent_in(&stat)
        {
            parents.push((pid, parent));
        }
    }
    Ok(descendants(root.as_raw(), &parents)
        .into_iter()
        .map(Pid::from_raw)
        .collect())
}

/// The fourth field of `/proc/PID/stat`; the second, the command, may hold spaces and brackets
/// (proc_pid_stat(5)).
fn parent_in(stat: &str) -> Option<i32> {
    let (_, after) = stat.rsplit_once(')')?;
    after.split_whitespace().nth(1)?.parse().ok()
}

/// `root` and whatever has it above, from pairs of child and parent.
fn descendants(root: i32, parents: &[(i32, i32)]) -> Vec<i32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        next += 1;
        let children = parents.iter().filter(|(_, above)| *above == parent);
        let new: Vec<_> = children
            .map(|(child, _)| *child)
            .filter(|child| !found.contains(child))
            .collect();
        found.extend(new);
    }
    found
}

/// Processor time, user and system, of `root` and what comes from it, with all threads, those
/// that ended included (clock_getcpuclockid(3): nanoseconds, not the ticks of `/proc/PID/stat`).
///
/// # Errors
/// When `root` is gone.
pub(crate) fn cpu_time(root: Pid) -> Result<Duration> {
    let own = cpu_time_of(root).context("the process is gone")?;
    let others = family(root)?.into_iter().filter(|pid| *pid != root);
    Ok(own + others.filter_map(cpu_time_of).sum::<Duration>())
}

/// Processor time of one process with all its threads, without what comes from it.
///
/// # Errors
/// When it is gone.
pub(crate) fn cpu_time_of_one(pid: Pid) -> Result<Duration> {
    cpu_time_of(pid).context("the process is gone")
}

fn cpu_time_of(pid: Pid) -> Option<Duration> {
    let clock = clock_getcpuclockid(pid).ok()?;
    clock_gettime(clock).ok().map(Duration::from)
}

/// Processor time of the whole machine since it started, idle time and what other machines took left
/// out (proc_stat(5)). It counts in ticks of 10 ms.
///
/// # Errors
/// When `/proc/stat` cannot be read.
pub(crate) fn busy_time() -> Result<Duration> {
    let text = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    let ticks = busy_ticks(&text).context("no line of all processors in /proc/stat")?;
    Ok(Duration::from_millis(ticks * TICK_MS))
}

/// Of `cpu user nice system idle iowait irq softirq steal guest guest_nice`; guests are in user.
fn busy_ticks(stat: &str) -> Option<u64> {
    let fields = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Vec<u64> = fields
        .split_whitespace()
        .map_while(|field| field.parse().ok())
        .collect();
    [0, 1, 2, 5, 6].into_iter().map(|at| fields.get(at)).sum()
}

/// The cores that `work` had kept busy by `account`, with what it gave.
///
/// # Errors
/// What either says.
pub(crate) fn cores<T>(
    account: impl Fn() -> Result<Duration>,
    work: impl FnOnce() -> Result<T>,
) -> Result<(T, f64)> {
    let (start, before) = (Instant::now(), account()?);
    let done = work()?;
    let used = account()?.saturating_sub(before);
    Ok((done, used.as_secs_f64() / start.elapsed().as_secs_f64()))
}

/// The TCP ports that somebody listens on in the network namespace of this thread.
///
/// # Errors
/// When `/proc` cannot be read.
pub(crate) fn listening_ports() -> Result<HashSet<u16>> {
    let mut ports = HashSet::new();
    for table in ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"] {
        let file = File::open(table).with_context(|| format!("cannot read {table}"))?;
        for line in BufReader::new(file).lines().skip(1) {
            // Listening sockets come first (net/ipv4/tcp_ipv4.c, tcp_seek_last_pos); after them
            // may come a hundred thousand closed connections.
            match listening_port(&line?) {
                Some(port) => ports.insert(port),
                None => break,
            };
        }
    }
    Ok(ports)
}

fn listening_port(line: &str) -> Option<u16> {
    let mut fields = line.split_whitespace();
    let (_, port) = fields.nth(1)?.rsplit_once(':')?;
    (fields.nth(1)? == LISTENING)
        .then(|| u16::from_str_radix(port, 16).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_command_with_brackets_does_not_hide_the_parent() {
        assert_eq!(parent_in("12 (a (b) c) S 7 12 12 0"), Some(7));
        assert_eq!(parent_in("12"), None);
    }

    #[test]
    fn grandchildren_belong_to_the_family_and_strangers_do_not() {
        let parents = [(2, 1), (3, 2), (4, 3), (5, 1), (9, 8)];
        let mut family = descendants(2, &parents);
        family.sort_unstable();
        assert_eq!(family, [2, 3, 4]);
    }

    #[test]
    fn work_shows_as_processor_time() {
        let own = Pid::this();
        let before = cpu_time(own).unwrap();
        let start = Instant::now();
        while cpu_time_of(own).unwrap() - before < Duration::from_millis(5) {
            assert!(start.elapsed() < Duration::from_secs(20));
        }
        assert!(cpu_time(own).unwrap() >= before + Duration::from_millis(5));
    }

    #[test]
    fn waiting_and_stolen_time_is_not_busy() {
        let stat = "cpu  1 2 4 1000 1000 8 16 1000 0 0\ncpu0 0 0 0 0\n";
        assert_eq!(busy_ticks(stat), Some(31));
        assert_eq!(busy_ticks("cpu0 1 2 3"), None);
    }

    #[test]
    fn only_listening_ports_are_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(listening_ports().unwrap().contains(&port));
        drop(listener);
        assert!(!listening_ports().unwrap().contains(&port));
    }
}
