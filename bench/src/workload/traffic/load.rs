//! Requests one after the other, on connections that stay open.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{
    gateway::Gateway,
    generate::latency::{Latency, Stopwatch},
    measure,
};

/// Requests to one path.
#[derive(Debug)]
pub(super) struct Load<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) path: &'a str,
    pub(super) seconds: f64,
    pub(super) warmup: f64,
}

/// What they took.
#[derive(Debug)]
pub(super) struct Taken {
    /// In microseconds.
    pub(super) latency: Latency,
    /// Requests a second, all connections together.
    pub(super) rate: f64,
    /// Seconds of the gateway's processor time for each.
    pub(super) cpu_each: f64,
}

impl Load<'_> {
    /// Asks on that many connections at once. What begins in the measured time counts, however
    /// late it ends.
    ///
    /// # Errors
    /// When a request is not answered with 200.
    pub(super) fn run(&self, connections: usize) -> Result<Taken> {
        let begin = Instant::now() + Duration::try_from_secs_f64(self.warmup)?;
        let end = begin + Duration::try_from_secs_f64(self.seconds)?;
        thread::scope(|scope| {
            let asking: Vec<_> = (0..connections)
                .map(|_| scope.spawn(move || self.ask(begin, end)))
                .collect();
            thread::sleep(begin.saturating_duration_since(Instant::now()));
            let start = Instant::now();
            let mut all = Stopwatch::new()?;
            let account = || measure::cpu_time(self.gateway.pid());
            let (requests, cores) = measure::cores(account, || {
                let mut requests = 0;
                for asking in asking {
                    let Ok(asked) = asking.join() else {
                        bail!("a client panicked");
                    };
                    let (own, count) = asked?;
                    all.add(&own)?;
                    requests += count;
                }
                Ok(f64::from(requests))
            })?;
            let rate = requests / start.elapsed().as_secs_f64();
            Ok(Taken {
                latency: all.latency().context("no request ended")?,
                rate,
                cpu_each: cores / rate,
            })
        })
    }

    fn ask(&self, begin: Instant, end: Instant) -> Result<(Stopwatch, u32)> {
        let mut connection = self.gateway.api.connect()?;
        let (mut times, mut count) = (Stopwatch::new()?, 0);
        loop {
            let start = Instant::now();
            if start >= end {
                return Ok((times, count));
            }
            connection.ask("GET", self.path, None)?.expect_ok()?;
            if start >= begin {
                times.record(start.elapsed());
                count += 1;
            }
        }
    }
}
