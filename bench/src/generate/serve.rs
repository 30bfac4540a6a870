//! What every server has: an address, threads with a listener each, counters, and an end.

use std::{
    io::{self, BufRead},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    process,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Args;
use engine_sys::socket::{self, Listen, Liveness};

use super::event::{Announcer, Count, Event};

/// Far more than a run lasts: servers never end a connection for silence.
const LIVENESS: Liveness = Liveness {
    keep_alive: Duration::from_secs(3600),
    user_timeout: Duration::from_secs(3600),
};

/// Where and how to listen.
#[derive(Clone, Debug, Args)]
pub(crate) struct Serve {
    /// Where to listen; port 0 takes a free one and says which
    #[arg(long, default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
    /// Threads, each with a listener of its own on the same port
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
    /// One JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
    /// Answer each line of standard input with the counters, and end when it ends
    #[arg(long)]
    pub(crate) attached: bool,
}

impl Serve {
    /// Opens the listeners, says where, and calls `serve` on a thread for each. Returns when all
    /// of them have.
    ///
    /// # Errors
    /// When the address cannot be had, or a thread's work fails.
    pub(crate) fn run(
        &self,
        client_first: bool,
        counters: &'static Counters,
        serve: impl Fn(TcpListener, &'static Counters) -> Result<()> + Sync,
    ) -> Result<()> {
        let listeners = open(self.listen, self.threads.max(1), client_first)?;
        let address = listeners.first().context("no listener")?.local_addr()?;
        let announcer = Announcer::new(self.json);
        announcer.say(&Event::Ready {
            address: Some(address),
        })?;
        if self.attached {
            thread::spawn(move || follow_input(announcer, counters));
        }
        thread::scope(|scope| {
            let serve = &serve;
            let threads: Vec<_> = listeners
                .into_iter()
                .map(|listener| scope.spawn(move || serve(listener, counters)))
                .collect();
            threads
                .into_iter()
                .try_for_each(|thread| match thread.join() {
                    Ok(result) => result,
                    Err(_) => anyhow::bail!("a thread of the server panicked"),
                })
        })
    }
}

/// Listeners that share one port (SO_REUSEPORT); the first one decides which.
pub(super) fn open(
    address: SocketAddr,
    count: usize,
    client_first: bool,
) -> Result<Vec<TcpListener>> {
    let options = Listen {
        backlog: 4096,
        client_first,
        liveness: LIVENESS,
    };
    let one = |address| {
        let socket = socket::listen(address, options)
            .with_context(|| format!("cannot listen on {address}"))?;
        anyhow::Ok(TcpListener::from(socket))
    };
    let first = one(address)?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..count {
        listeners.push(one(address)?);
    }
    Ok(listeners)
}

/// Takes the next connection, non-blocking.
///
/// # Errors
/// `WouldBlock` when there is none.
pub(crate) fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    socket::accept(listener.as_fd()).map(|(fd, _)| TcpStream::from(fd))
}

/// Ends the process when whoever started it is gone or closes our input.
fn follow_input(announcer: Announcer, counters: &Counters) {
    for line in io::stdin().lock().lines() {
        if line.is_err() || announcer.say(&Event::Count(counters.count())).is_err() {
            break;
        }
    }
    process::exit(0);
}

/// What all threads of a server count.
#[derive(Debug)]
pub(crate) struct Counters {
    started: Instant,
    bytes: AtomicU64,
    connections: AtomicU64,
    wrong: AtomicU64,
}

impl Counters {
    /// All zero; they live as long as the process.
    pub(crate) fn new() -> &'static Self {
        Box::leak(Box::new(Self {
            started: Instant::now(),
            bytes: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            wrong: AtomicU64::new(0),
        }))
    }

    /// `count` more payload bytes were read.
    pub(crate) fn read(&self, count: usize) {
        self.bytes.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// A connection ended in order.
    pub(crate) fn connection_ended(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// A piece was not what the client sent.
    pub(crate) fn wrong_piece(&self) {
        self.wrong.fetch_add(1, Ordering::Relaxed);
    }

    /// How they stand.
    pub(crate) fn count(&self) -> Count {
        Count {
            bytes: self.bytes.load(Ordering::Relaxed),
            connections: self.connections.load(Ordering::Relaxed),
            wrong: self.wrong.load(Ordering::Relaxed),
            at_ns: u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX),
        }
    }
}
