//! Small messages back and forth over connections that stay open.

use std::{
    os::fd::AsFd,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use nix::sys::{
    epoll::EpollTimeout,
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};

use super::{
    Load, Names,
    dial::Events,
    event::{Announcer, Event, Measured},
    exchange::connection::{Connection, Progress},
    latency::Stopwatch,
    on_threads,
    schedule::Schedule,
    window::Window,
};

pub(crate) mod connection;

/// Longest wait for an event, so that the end is noticed.
const WAIT_MS: u16 = 20;

/// How long after the load's end an answer may come.
const GRACE: Duration = Duration::from_secs(2);

/// Index of the timer among the events.
const TIMER: usize = usize::MAX;

/// The client of exchanges.
#[derive(Clone, Debug, Args)]
pub(crate) struct Exchange {
    #[command(flatten)]
    pub(super) load: Load,
    #[command(flatten)]
    pub(super) names: Names,
    /// Bytes of a message, both ways
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(16..=65_536))]
    pub(super) bytes: u32,
    /// Exchanges a second over all connections, instead of as many as go
    #[arg(long)]
    pub(super) rate: Option<f64>,
}

impl Exchange {
    /// Exchanges for as long as asked, and gives the result.
    ///
    /// # Errors
    /// When a connection cannot be opened, or the events cannot be told.
    pub(crate) fn run(&self) -> Result<()> {
        let announcer = self.load.announcer();
        let connections = self.open()?;
        announcer.say(&Event::Ready { address: None })?;
        let result = self.measure(connections, announcer)?;
        announcer.say(&Event::Result(result))?;
        Ok(())
    }

    /// Opens each thread's connections, each with its hello sent and echoed.
    pub(super) fn open(&self) -> Result<Vec<Vec<Connection>>> {
        let hellos = self.names.hellos();
        let bytes = self.bytes as usize;
        let mut number = 0;
        let mut open = || {
            let hello = hellos.get(number % hellos.len().max(1));
            number += 1;
            Connection::open(self.load.connect, hello.map(Vec::as_slice), number, bytes)
                .with_context(|| format!("connection {number} to {}", self.load.connect))
        };
        (0..self.load.threads)
            .map(|thread| (0..self.load.share(thread)).map(|_| open()).collect())
            .collect()
    }

    pub(super) fn measure(
        &self,
        connections: Vec<Vec<Connection>>,
        announcer: Announcer,
    ) -> Result<Measured> {
        let window = self.load.window()?;
        let interval = self.interval()?;
        let shares: Vec<_> = connections
            .into_iter()
            .map(|share| std::sync::Mutex::new(Some(share)))
            .collect();
        let parts = on_threads(
            shares.len(),
            |n| {
                let taken = shares[n].lock().map(|mut share| share.take());
                let connections = taken.ok().flatten().context("connections taken twice")?;
                Worker::new(connections, window, interval)?.run()
            },
            || window.announce(announcer).context("cannot tell the events"),
        )?;
        let mut watch = Stopwatch::new()?;
        let mut result = Measured {
            seconds: window.seconds(),
            ..Measured::default()
        };
        for part in &parts {
            watch.add(&part.watch)?;
            result.operations += part.operations;
            result.wrong += part.wrong;
            result.failed += part.failed;
        }
        result.measured_bytes = result.operations * u64::from(self.bytes);
        result.latency = watch.latency();
        Ok(result)
    }

    /// Time between two exchanges of one thread.
    fn interval(&self) -> Result<Option<Duration>> {
        let Some(rate) = self.rate else {
            return Ok(None);
        };
        if !(0.1..=10e6).contains(&rate) {
            bail!("the rate must be between 0.1 and 10,000,000 a second");
        }
        let share = rate / self.load.threads as f64;
        Ok(Some(Duration::from_secs_f64(1.0 / share)))
    }
}

/// What one thread measured.
#[derive(Debug)]
struct Part {
    watch: Stopwatch,
    operations: u64,
    wrong: u64,
    failed: u64,
}

/// One thread's connections.
#[derive(Debug)]
struct Worker {
    connections: Vec<Connection>,
    window: Window,
    schedule: Option<Schedule>,
    events: Events,
    timer: TimerFd,
    part: Part,
}

impl Worker {
    fn new(
        connections: Vec<Connection>,
        window: Window,
        interval: Option<Duration>,
    ) -> Result<Self> {
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
        let events = Events::new()?;
        events.watch_edges(timer.as_fd(), TIMER)?;
        for (index, connection) in connections.iter().enumerate() {
            events.watch_edges(connection.stream(), index)?;
        }
        let count = connections.len();
        let schedule = interval.map(|interval| Schedule::new(Instant::now(), interval, count));
        Ok(Self {
            connections,
            window,
            schedule,
            events,
            timer,
            part: Part {
                watch: Stopwatch::new()?,
                operations: 0,
                wrong: 0,
                failed: 0,
            },
        })
    }

    fn run(mut self) -> Result<Part> {
        if self.schedule.is_none() {
            let now = Instant::now();
            (0..self.connections.len()).for_each(|index| self.connections[index].start(now));
        }
        loop {
            let now = Instant::now();
            if now >= self.window.stop && self.is_over(now) {
                self.count_unanswered(now);
                return Ok(self.part);
            }
            self.start_due(now)?;
            for index in self.events.wait(EpollTimeout::from(WAIT_MS))? {
                if index != TIMER {
                    self.progress(index);
                }
            }
        }
    }

    /// Whether nothing is on the way any more, or it took too long.
    fn is_over(&self, now: Instant) -> bool {
        let waiting = self.connections.iter().any(Connection::is_waiting);
        !waiting || now >= self.window.stop + GRACE
    }

    /// Starts what has become due on idle connections, and sets the timer for the next.
    fn start_due(&mut self, now: Instant) -> Result<()> {
        let Some(schedule) = &mut self.schedule else {
            return Ok(());
        };
        if now >= self.window.stop {
            return Ok(());
        }
        while let Some(index) = schedule.take_due(now) {
            if self.connections[index].is_idle()
                && let Some(meant) = schedule.start_oldest(index)
            {
                self.connections[index].start(meant);
            }
        }
        let wait = schedule.next().saturating_duration_since(Instant::now());
        let wait = wait.max(Duration::from_nanos(1));
        let once = Expiration::OneShot(TimeSpec::from(wait));
        Ok(self.timer.set(once, TimerSetTimeFlags::empty())?)
    }

    fn progress(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        match connection.progress() {
            Progress::Waiting => {}
            Progress::Answered(started) => {
                let now = Instant::now();
                self.record(started, now);
                self.start_next(index, now);
            }
            Progress::Wrong => self.part.wrong += 1,
            Progress::Failed => self.part.failed += 1,
        }
    }

    /// In a closed loop an exchange belongs to the window that it ends in; at a fixed rate, to the
    /// one that it was meant to start in.
    fn record(&mut self, started: Instant, now: Instant) {
        let belongs = if self.schedule.is_some() {
            started
        } else {
            now
        };
        if self.window.contains(belongs) {
            self.part.operations += 1;
            self.part.watch.record(now - started);
        }
    }

    fn start_next(&mut self, index: usize, now: Instant) {
        if now >= self.window.stop {
            return;
        }
        let started = match &mut self.schedule {
            Some(schedule) => schedule.start_oldest(index),
            None => Some(now),
        };
        if let Some(started) = started {
            self.connections[index].start(started);
        }
    }

    /// At a fixed rate, what was never answered took at least until now.
    fn count_unanswered(&mut self, now: Instant) {
        let waiting = self
            .connections
            .iter()
            .filter_map(Connection::waiting_since);
        let late = self.schedule.iter().flat_map(Schedule::never_started);
        let unanswered: Vec<_> = waiting.chain(late).collect();
        for started in unanswered {
            if self.window.contains(started) {
                self.part.failed += 1;
                self.part.watch.record(now - started);
            }
        }
    }
}
