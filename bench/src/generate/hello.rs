//! New connections, each with a ClientHello: as many as go with so many open at a time.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use nix::sys::epoll::EpollTimeout;

use super::{
    Load, Names,
    acceptor::{ANSWER_BYTES, answer},
    dial::{Events, start_to_connect},
    event::{Announcer, Event, Measured},
    latency::Stopwatch,
    on_threads,
    window::Window,
};

/// Longest wait for an event, so that the end is noticed.
const WAIT_MS: u16 = 20;

/// A connection that takes longer than this has failed.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The client of hello connections.
#[derive(Clone, Debug, Args)]
pub(crate) struct Hello {
    #[command(flatten)]
    pub(super) load: Load,
    #[command(flatten)]
    pub(super) names: Names,
}

impl Hello {
    /// Connects for as long as asked, and gives the result.
    ///
    /// # Errors
    /// When epoll fails, or the events cannot be told.
    pub(crate) fn run(&self) -> Result<()> {
        let announcer = self.load.announcer();
        let result = self.measure(announcer)?;
        announcer.say(&Event::Result(result))?;
        Ok(())
    }

    pub(super) fn measure(&self, announcer: Announcer) -> Result<Measured> {
        let hellos: Vec<_> = self.names.hellos().into_iter().map(Greeting::new).collect();
        if hellos.is_empty() {
            bail!("--hello NAME says what to ask for");
        }
        let window = self.load.window()?;
        let parts = on_threads(
            self.load.threads,
            |n| Worker::new(self.load.connect, &hellos, window)?.run(self.load.share(n)),
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
        result.latency = watch.latency();
        Ok(result)
    }
}

/// A hello and the answer that belongs to it.
#[derive(Debug)]
struct Greeting {
    hello: Vec<u8>,
    answer: [u8; ANSWER_BYTES],
}

impl Greeting {
    fn new(hello: Vec<u8>) -> Self {
        let answer = answer(&hello);
        Self { hello, answer }
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

/// A connection on its way.
#[derive(Debug)]
struct Attempt {
    stream: TcpStream,
    started: Instant,
    greeting: usize,
    sent: bool,
    got: Vec<u8>,
}

/// One thread's connections.
#[derive(Debug)]
struct Worker<'a> {
    target: SocketAddr,
    greetings: &'a [Greeting],
    window: Window,
    events: Events,
    /// Greeting of the next connection; large strides visit names far from each other.
    next: usize,
    part: Part,
}

impl<'a> Worker<'a> {
    fn new(target: SocketAddr, greetings: &'a [Greeting], window: Window) -> Result<Self> {
        Ok(Self {
            target,
            greetings,
            window,
            events: Events::new()?,
            next: 0,
            part: Part {
                watch: Stopwatch::new()?,
                operations: 0,
                wrong: 0,
                failed: 0,
            },
        })
    }

    fn run(mut self, connections: usize) -> Result<Part> {
        let mut slots: Vec<Option<Attempt>> =
            (0..connections).map(|slot| self.start(slot)).collect();
        loop {
            let now = Instant::now();
            if now >= self.window.stop {
                return Ok(self.part);
            }
            for slot in self.events.wait(EpollTimeout::from(WAIT_MS))? {
                self.progress(slot, &mut slots);
            }
            self.replace_stuck(now, &mut slots);
        }
    }

    /// Opens a slot's next connection and sends its hello if that goes at once.
    fn start(&mut self, slot: usize) -> Option<Attempt> {
        let greeting = self.next;
        self.next = (self.next + 1021) % self.greetings.len();
        let started = Instant::now();
        let opened = start_to_connect(self.target).and_then(|stream| {
            let mut attempt = Attempt {
                stream,
                started,
                greeting,
                sent: false,
                got: Vec::new(),
            };
            attempt.send(self.greetings)?;
            self.events.watch_edges(&attempt.stream, slot)?;
            Ok(attempt)
        });
        if opened.is_err() {
            self.part.failed += 1;
        }
        opened.ok()
    }

    fn progress(&mut self, slot: usize, slots: &mut [Option<Attempt>]) {
        let Some(attempt) = &mut slots[slot] else {
            return;
        };
        let Ok(over) = attempt.progress(self.greetings) else {
            self.part.failed += 1;
            slots[slot] = None;
            slots[slot] = self.start(slot);
            return;
        };
        if !over {
            return;
        }
        let now = Instant::now();
        if attempt.got.is_empty() {
            self.part.failed += 1;
        } else if attempt.got != self.greetings[attempt.greeting].answer {
            self.part.wrong += 1;
        } else if self.window.contains(now) {
            self.part.operations += 1;
            self.part.watch.record(now - attempt.started);
        }
        // Close first: a slot holds one descriptor.
        slots[slot] = None;
        slots[slot] = self.start(slot);
    }

    /// Gives up what hangs, and fills slots that could not open.
    fn replace_stuck(&mut self, now: Instant, slots: &mut [Option<Attempt>]) {
        for (slot, attempt) in slots.iter_mut().enumerate() {
            match attempt {
                Some(attempt) if now.saturating_duration_since(attempt.started) < TIMEOUT => {
                    continue;
                }
                Some(_) => self.part.failed += 1,
                None => {}
            }
            *attempt = None;
            *attempt = self.start(slot);
        }
    }
}

impl Attempt {
    /// Sends the hello when the connection is there.
    fn send(&mut self, greetings: &[Greeting]) -> io::Result<()> {
        if self.sent {
            return Ok(());
        }
        let hello = &greetings[self.greeting].hello;
        match self.stream.write(hello) {
            Ok(count) if count == hello.len() => {
                self.sent = true;
                Ok(())
            }
            Ok(_) => Err(io::Error::other("an empty socket did not take a hello")),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Goes on after an event; true when the server has closed.
    fn progress(&mut self, greetings: &[Greeting]) -> io::Result<bool> {
        self.send(greetings)?;
        let mut buffer = [0; 2 * ANSWER_BYTES];
        while self.got.len() <= ANSWER_BYTES {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(true),
                Ok(count) => self.got.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}
