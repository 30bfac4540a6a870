//! Connections to every worker of a proxy, and what they say about a route.
//!
//! A kept connection stays with the worker that accepted it. Which one that is shows in the
//! kernel's accounts of the proxy's threads, so every proxy is asked alike and none has to tell.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

use crate::{
    generate::http_answer::whole,
    measure::{cpu_time, thread_times},
    peer::{
        WORKERS,
        routes::{Server, host},
    },
};

/// Connections that are opened to find some of each worker.
const TRIED: usize = 32;
/// Requests by which a connection's worker is told: their work stands out from what other threads
/// do by themselves.
const REQUESTS_EACH: usize = 50;
/// Connections that are asked of each worker.
const EACH: usize = 2;
/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_micros(100);
/// Time over which a proxy that rests uses a twentieth of a core at most.
const REST_LOOK: Duration = Duration::from_millis(500);
/// Time for a change to be in force.
const FORCE_TIMEOUT: Duration = Duration::from_secs(60);
/// Time for an answer: more than any stall that is to be measured.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Some kept connections to each worker.
#[derive(Debug)]
pub(super) struct Probe {
    connections: Vec<Connection>,
}

impl Probe {
    /// Opens connections until there are some to each worker of the process `proxy`.
    ///
    /// # Errors
    /// When a worker has none, or there are more workers than the proxy was told to have.
    pub(super) fn open(proxy: Pid, listener: SocketAddr) -> Result<Self> {
        let mut by_thread: BTreeMap<i32, Vec<Connection>> = BTreeMap::new();
        for n in 0..TRIED {
            let mut connection = on_core(n, || Connection::open(listener))?;
            // What another thread does by chance it does not do twice.
            let seen = [connection.worker(proxy)?, connection.worker(proxy)?];
            if seen[0] == seen[1] {
                by_thread.entry(seen[0]).or_default().push(connection);
            }
        }
        by_thread.retain(|_, connections| connections.len() >= EACH);
        ensure!(
            by_thread.len() == WORKERS,
            "{TRIED} connections show {} workers of {WORKERS}",
            by_thread.len()
        );
        let connections = by_thread.into_values().flat_map(|mut all| {
            all.truncate(EACH);
            all
        });
        Ok(Self {
            connections: connections.collect(),
        })
    }

    /// Asks every connection for `route` again and again until it leads to `server`; gives the
    /// time since `start`.
    ///
    /// # Errors
    /// When that takes too long, or a request is not answered.
    pub(super) fn wait_for(
        &mut self,
        route: u32,
        server: Server,
        start: Instant,
    ) -> Result<Duration> {
        let mut waiting: Vec<_> = self.connections.iter_mut().collect();
        loop {
            for connection in &mut waiting {
                connection.ask(route)?;
            }
            let mut still = Vec::new();
            for connection in waiting {
                if connection.answer()? != server.word() {
                    still.push(connection);
                }
            }
            if still.is_empty() {
                return Ok(start.elapsed());
            }
            if start.elapsed() > FORCE_TIMEOUT {
                bail!(
                    "route {route} does not lead to the {} server",
                    server.word()
                );
            }
            waiting = still;
            thread::sleep(LOOK_EVERY);
        }
    }
}

/// The thread whose processor time grew most.
fn busiest(before: &BTreeMap<i32, Duration>, after: &BTreeMap<i32, Duration>) -> Option<i32> {
    let growth = after.iter().map(|(id, time)| {
        let before = before.get(id).copied().unwrap_or_default();
        (time.saturating_sub(before), *id)
    });
    growth.max().map(|(_, id)| id)
}

/// Waits until a proxy does next to nothing: what it tidies up after its start is no part of a
/// change.
///
/// # Errors
/// When it is gone, or never rests.
pub(super) fn wait_until_at_rest(proxy: Pid) -> Result<()> {
    let start = Instant::now();
    let mut before = cpu_time(proxy)?;
    loop {
        thread::sleep(REST_LOOK);
        let now = cpu_time(proxy)?;
        if now.saturating_sub(before) < REST_LOOK / 20 {
            return Ok(());
        }
        ensure!(start.elapsed() < FORCE_TIMEOUT, "the proxy never rests");
        before = now;
    }
}

/// Does `work` on the `n`th core in turn: a proxy may spread connections over its workers by the
/// core that they come from.
fn on_core<T>(n: usize, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let own = Pid::from_raw(0);
    let all = sched_getaffinity(own)?;
    let cores: Vec<_> = (0..CpuSet::count())
        .filter(|core| all.is_set(*core).unwrap_or_default())
        .collect();
    let mut one = CpuSet::new();
    one.set(cores[n % cores.len()])?;
    sched_setaffinity(own, &one)?;
    let done = work();
    sched_setaffinity(own, &all)?;
    done
}

/// Waits until a proxy leads the first route to its server.
///
/// # Errors
/// When that takes too long.
pub(super) fn wait_until_routed(listener: SocketAddr, server: Server) -> Result<()> {
    let start = Instant::now();
    let ask = || -> Result<String> {
        let mut connection = Connection::open(listener)?;
        connection.ask(0)?;
        connection.answer()
    };
    loop {
        match ask() {
            Ok(word) if word == server.word() => return Ok(()),
            answer if start.elapsed() > FORCE_TIMEOUT => bail!("not routed: {answer:?}"),
            _ => thread::sleep(LOOK_EVERY),
        }
    }
}

/// A connection that is kept from request to request.
#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    fn open(listener: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(listener)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(Self {
            stream,
            read: Vec::new(),
        })
    }

    /// The thread of the proxy that answers here.
    fn worker(&mut self, proxy: Pid) -> Result<i32> {
        let before = thread_times(proxy)?;
        for _ in 0..REQUESTS_EACH {
            self.ask(0)?;
            self.answer()?;
        }
        busiest(&before, &thread_times(proxy)?).context("no thread of the proxy worked")
    }

    fn ask(&mut self, route: u32) -> Result<()> {
        let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", host(route));
        Ok(self.stream.write_all(request.as_bytes())?)
    }

    /// The body of the next answer.
    fn answer(&mut self) -> Result<String> {
        self.read.clear();
        let mut buffer = [0; 4096];
        loop {
            let count = self.stream.read(&mut buffer).context("no answer")?;
            ensure!(count > 0, "closed instead of an answer");
            self.read.extend_from_slice(&buffer[..count]);
            if let Some(answer) = whole(&self.read)? {
                let body = &self.read[answer.head..answer.length];
                let body = String::from_utf8_lossy(body).into_owned();
                ensure!(answer.status == 200, "{}: {body}", answer.status);
                return Ok(body);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_thread_is_the_one_that_grew_most() {
        let times = |pairs: &[(i32, u64)]| -> BTreeMap<_, _> {
            let pairs = pairs.iter();
            pairs
                .map(|(id, ms)| (*id, Duration::from_millis(*ms)))
                .collect()
        };
        let before = times(&[(1, 900), (2, 10)]);
        assert_eq!(busiest(&before, &times(&[(1, 901), (2, 20)])), Some(2));
        assert_eq!(busiest(&before, &times(&[(1, 901), (3, 2)])), Some(3));
    }

    #[test]
    fn work_on_one_core_leaves_the_others_for_later() {
        let before = sched_getaffinity(Pid::from_raw(0)).unwrap();
        let inside = on_core(1, || Ok(sched_getaffinity(Pid::from_raw(0))?)).unwrap();
        let count = |set: &CpuSet| {
            let cores = (0..CpuSet::count()).filter(|core| set.is_set(*core).unwrap());
            cores.count()
        };
        assert_eq!(count(&inside), 1);
        assert_eq!(sched_getaffinity(Pid::from_raw(0)).unwrap(), before);
    }
}
