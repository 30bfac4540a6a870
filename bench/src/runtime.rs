//! A plain TCP relay on several async runtimes, as simple as each allows: two tasks a connection,
//! each with a buffer that it reads into and writes from. What differs is the runtime.

use std::{
    net::{SocketAddr, TcpListener},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use engine_sys::socket::{self, Listen, Liveness};

mod on_monoio;
mod on_tokio;
mod on_tokio_uring;

/// Bytes read at a time.
const BUFFER_BYTES: usize = 256 * 1024;

/// Entries of each ring's submission queue.
const RING_ENTRIES: u32 = 1024;

/// Far more than a run lasts.
const LIVENESS: Liveness = Liveness {
    keep_alive: Duration::from_secs(3600),
    user_timeout: Duration::from_secs(3600),
};

/// Which runtime to relay on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Runtime {
    /// monoio with the ring flags that Ringway uses
    Monoio,
    /// monoio with the ring flags it comes with
    MonoioDefault,
    /// monoio's epoll driver
    MonoioEpoll,
    /// tokio, one current-thread runtime a thread
    Tokio,
    /// tokio-uring
    TokioUring,
}

impl Runtime {
    pub(crate) const ALL: [Self; 5] = [
        Self::Monoio,
        Self::MonoioDefault,
        Self::MonoioEpoll,
        Self::Tokio,
        Self::TokioUring,
    ];

    /// As it is called in tables.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Monoio => "monoio",
            Self::MonoioDefault => "monoio, default flags",
            Self::MonoioEpoll => "monoio, epoll",
            Self::Tokio => "tokio",
            Self::TokioUring => "tokio-uring",
        }
    }

    /// As it is called on the command line.
    pub(crate) fn argument(self) -> &'static str {
        match self {
            Self::Monoio => "monoio",
            Self::MonoioDefault => "monoio-default",
            Self::MonoioEpoll => "monoio-epoll",
            Self::Tokio => "tokio",
            Self::TokioUring => "tokio-uring",
        }
    }
}

/// The relay to run.
#[derive(Clone, Debug, Args)]
pub(crate) struct Relay {
    runtime: Runtime,
    /// Where to listen
    #[arg(long)]
    listen: SocketAddr,
    /// Where to relay to
    #[arg(long)]
    to: SocketAddr,
    /// Threads, each with a runtime and a listener of its own
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

impl Relay {
    /// Relays until the process is ended.
    ///
    /// # Errors
    /// When a listener or a runtime cannot be made.
    pub(crate) fn run(&self) -> Result<()> {
        let listeners = (0..self.threads)
            .map(|_| self.listener())
            .collect::<Result<Vec<_>>>()?;
        let (runtime, to) = (self.runtime, self.to);
        thread::scope(|scope| {
            let threads: Vec<_> = listeners
                .into_iter()
                .map(|listener| scope.spawn(move || relay(runtime, listener, to)))
                .collect();
            threads
                .into_iter()
                .try_for_each(|thread| match thread.join() {
                    Ok(result) => result,
                    Err(_) => bail!("a thread of the relay panicked"),
                })
        })
    }

    fn listener(&self) -> Result<TcpListener> {
        let options = Listen {
            backlog: 4096,
            client_first: false,
            liveness: LIVENESS,
        };
        let socket = socket::listen(self.listen, options)
            .with_context(|| format!("cannot listen on {}", self.listen))?;
        Ok(TcpListener::from(socket))
    }
}

fn relay(runtime: Runtime, listener: TcpListener, to: SocketAddr) -> Result<()> {
    match runtime {
        Runtime::Monoio => on_monoio::relay_on_ring(listener, to, true),
        Runtime::MonoioDefault => on_monoio::relay_on_ring(listener, to, false),
        Runtime::MonoioEpoll => on_monoio::relay_on_epoll(listener, to),
        Runtime::Tokio => on_tokio::relay(listener, to),
        Runtime::TokioUring => on_tokio_uring::relay(listener, to),
    }
}

#[cfg(test)]
mod tests;
