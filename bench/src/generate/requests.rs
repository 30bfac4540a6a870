//! HTTP/1.1 requests at a fixed rate over connections that are kept, each for the next of many
//! hosts. A request that cannot start in time is timed from when it was meant to (see
//! [`schedule`](super::schedule)).

use std::{
    io::{self, ErrorKind, Read, Write},
    net::TcpStream,
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
    HELLOS_MAX, Load,
    client_hello::nth_name,
    dial::Events,
    event::{Announcer, Event, Measured},
    http_answer::whole,
    latency::Stopwatch,
    schedule::Schedule,
    window::Window,
};

/// Longest wait for an event, so that the end is noticed.
const WAIT_MS: u16 = 20;
/// How long after the load's end an answer may come.
const GRACE: Duration = Duration::from_secs(2);
/// Index of the timer among the events.
const TIMER: usize = usize::MAX;
/// An answer that is longer has not come from the servers of this bench.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// The client of requests.
#[derive(Clone, Debug, Args)]
pub(crate) struct Requests {
    #[command(flatten)]
    pub(super) load: Load,
    /// Host that is asked for
    #[arg(long)]
    pub(super) name: String,
    /// Ask for that many different hosts in turn: n000000.NAME, n000001.NAME and so on
    #[arg(long, default_value_t = 1)]
    pub(super) names: u32,
    /// Requests a second over all connections
    #[arg(long)]
    pub(super) rate: f64,
}

impl Requests {
    /// Asks for as long as asked, and gives the result.
    ///
    /// # Errors
    /// When a connection cannot be opened, or the events cannot be told.
    pub(crate) fn run(&self) -> Result<()> {
        let announcer = self.load.announcer();
        let connections = self.open()?;
        announcer.say(&Event::Ready { address: None })?;
        let result = self.measure(connections, announcer)?;
        Ok(announcer.say(&Event::Result(result))?)
    }

    pub(super) fn open(&self) -> Result<Vec<Connection>> {
        let open = |n| {
            Connection::open(self.load.connect)
                .with_context(|| format!("connection {n} to {}", self.load.connect))
        };
        (0..self.load.connections).map(open).collect()
    }

    pub(super) fn measure(
        &self,
        connections: Vec<Connection>,
        announcer: Announcer,
    ) -> Result<Measured> {
        if !(0.1..=10e6).contains(&self.rate) {
            bail!("the rate must be between 0.1 and 10,000,000 a second");
        }
        let window = self.load.window()?;
        let client = Client::new(connections, self.requests(), window, self.rate)?;
        std::thread::scope(|scope| {
            let client = scope.spawn(|| client.run());
            window
                .announce(announcer)
                .context("cannot tell the events")?;
            match client.join() {
                Ok(result) => result,
                Err(_) => bail!("the client panicked"),
            }
        })
    }

    /// The requests, for hosts drawn evenly from all names.
    fn requests(&self) -> Vec<Vec<u8>> {
        let count = self.names.clamp(1, HELLOS_MAX);
        let step = (self.names / count).max(1);
        (0..count)
            .map(|n| nth_name(&self.name, self.names, n * step))
            .map(|host| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes())
            .collect()
    }
}

/// All connections, and what was measured on them.
#[derive(Debug)]
struct Client {
    connections: Vec<Connection>,
    requests: Vec<Vec<u8>>,
    next: usize,
    window: Window,
    schedule: Schedule,
    events: Events,
    timer: TimerFd,
    watch: Stopwatch,
    result: Measured,
}

impl Client {
    fn new(
        connections: Vec<Connection>,
        requests: Vec<Vec<u8>>,
        window: Window,
        rate: f64,
    ) -> Result<Self> {
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
        let events = Events::new()?;
        events.watch_edges(timer.as_fd(), TIMER)?;
        for (index, connection) in connections.iter().enumerate() {
            events.watch_edges(&connection.stream, index)?;
        }
        let interval = Duration::from_secs_f64(1.0 / rate);
        Ok(Self {
            schedule: Schedule::new(Instant::now(), interval, connections.len()),
            connections,
            requests,
            next: 0,
            window,
            events,
            timer,
            watch: Stopwatch::new()?,
            result: Measured {
                seconds: window.seconds(),
                ..Measured::default()
            },
        })
    }

    fn run(mut self) -> Result<Measured> {
        loop {
            let now = Instant::now();
            if now >= self.window.stop && self.is_over(now) {
                self.count_unanswered(now);
                self.result.latency = self.watch.latency();
                return Ok(self.result);
            }
            self.start_due(now)?;
            for index in self.events.wait(EpollTimeout::from(WAIT_MS))? {
                if index != TIMER {
                    self.progress(index);
                }
            }
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        let waiting = |one: &Connection| matches!(one.state, State::Waiting { .. });
        !self.connections.iter().any(waiting) || now >= self.window.stop + GRACE
    }

    /// Starts what has become due on idle connections, and sets the timer for the next.
    fn start_due(&mut self, now: Instant) -> Result<()> {
        if now >= self.window.stop {
            return Ok(());
        }
        while let Some(index) = self.schedule.take_due(now) {
            self.start_oldest(index);
        }
        let wait = self
            .schedule
            .next()
            .saturating_duration_since(Instant::now());
        let wait = wait.max(Duration::from_nanos(1));
        let once = Expiration::OneShot(TimeSpec::from(wait));
        Ok(self.timer.set(once, TimerSetTimeFlags::empty())?)
    }

    fn start_oldest(&mut self, index: usize) {
        if self.connections[index].state != State::Idle {
            return;
        }
        if let Some(since) = self.schedule.start_oldest(index) {
            let request = &self.requests[self.next % self.requests.len()];
            self.next += 1;
            self.connections[index].start(request, since);
        }
    }

    fn progress(&mut self, index: usize) {
        match self.connections[index].progress() {
            Ok(None) => {}
            Ok(Some(Answered { since, status })) => {
                let now = Instant::now();
                if self.window.contains(since) {
                    self.watch.record(now - since);
                    self.result.operations += 1;
                }
                if status != 200 {
                    self.result.wrong += 1;
                }
                if now < self.window.stop {
                    self.start_oldest(index);
                }
            }
            Err(_) => self.result.failed += 1,
        }
    }

    /// What was never answered took at least until now.
    fn count_unanswered(&mut self, now: Instant) {
        let waiting = self.connections.iter().filter_map(|one| match one.state {
            State::Waiting { since } => Some(since),
            State::Idle | State::Broken => None,
        });
        for since in waiting.chain(self.schedule.never_started()) {
            if self.window.contains(since) {
                self.result.failed += 1;
                self.watch.record(now - since);
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Waiting { since: Instant },
    Broken,
}

/// A whole answer, to the request that was meant to start then.
#[derive(Debug)]
struct Answered {
    since: Instant,
    status: u16,
}

/// A connection with at most one request on it.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    state: State,
    read: Vec<u8>,
}

impl Connection {
    fn open(target: std::net::SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(target)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            state: State::Idle,
            read: Vec::new(),
        })
    }

    /// Sends a request, which is so small that the socket takes it whole. An error shows at the
    /// next event.
    fn start(&mut self, request: &[u8], since: Instant) {
        self.state = State::Waiting { since };
        self.read.clear();
        let _ = self.stream.write_all(request);
    }

    /// Reads what is there. The connection is out of use after an error.
    fn progress(&mut self) -> Result<Option<Answered>> {
        let State::Waiting { since } = self.state else {
            return Ok(None);
        };
        let answer = self.read();
        match &answer {
            Ok(Some(_)) => self.state = State::Idle,
            Ok(None) => {}
            Err(_) => self.state = State::Broken,
        }
        let status = answer?;
        Ok(status.map(|status| Answered { since, status }))
    }

    fn read(&mut self) -> Result<Option<u16>> {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => bail!("closed"),
                Ok(count) => self.read.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error.into()),
            }
            if let Some(answer) = whole(&self.read)? {
                if answer.length < self.read.len() {
                    bail!("more than one answer");
                }
                return Ok(Some(answer.status));
            }
            if self.read.len() > ANSWER_BYTES_MAX {
                bail!("an answer without an end");
            }
        }
    }
}
