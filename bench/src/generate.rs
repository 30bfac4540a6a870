//! Load generators: each is a subcommand, so that it runs as a process of its own, which can be
//! pinned, limited and measured apart from what it loads.

use std::{net::SocketAddr, thread, time::Duration};

use anyhow::{Result, bail};
use clap::{Args, Subcommand};

pub(crate) mod acceptor;
pub(crate) mod answer;
pub(crate) mod burn;
pub(crate) mod client_hello;
mod dial;
pub(crate) mod echo;
pub(crate) mod event;
pub(crate) mod exchange;
pub(crate) mod handshake;
pub(crate) mod hello;
pub(crate) mod hold;
pub(crate) mod http_answer;
pub(crate) mod latency;
mod pattern;
pub(crate) mod requests;
pub(crate) mod rest;
mod schedule;
pub(crate) mod serve;
pub(crate) mod sink;
pub(crate) mod source;
mod window;

use client_hello::{client_hello, nth_name};
use event::Announcer;
use window::Window;

/// Hellos that are made in advance, at most: more names than this are drawn evenly.
const HELLOS_MAX: u32 = 4096;

/// What to generate.
#[derive(Debug, Subcommand)]
pub(crate) enum Generate {
    /// Server: reads everything and counts it; answers each flow's end with its byte count
    Sink(sink::Sink),
    /// Client: sends as much as goes, one way
    Source(source::Source),
    /// Server: sends back what it reads
    Echo(echo::Echo),
    /// Client: small messages back and forth over connections that stay open
    Exchange(exchange::Exchange),
    /// Server: reads one ClientHello, answers its digest, closes
    Acceptor(acceptor::Acceptor),
    /// Client: a new connection with a ClientHello for each operation
    Hello(hello::Hello),
    /// Client: a TLS handshake on a connection of its own for each operation
    Handshake(handshake::Handshake),
    /// Client: opens connections, sends one message on each, and keeps them open
    Hold(hold::Hold),
    /// Client: opens connections, has one HTTP request answered on each, and keeps them open
    Rest(rest::Rest),
    /// Server: answers each HTTP request with one word
    Answer(answer::Answer),
    /// Client: HTTP requests at a fixed rate over connections that stay open
    Requests(requests::Requests),
    /// Neither: burns processor time
    Burn(burn::Burn),
}

/// Runs a generator until its end.
///
/// # Errors
/// Says what could not be opened; failed operations are counted, not errors.
pub(crate) fn run(generate: &Generate) -> Result<()> {
    engine_sys::process::raise_descriptor_limit()?;
    match generate {
        Generate::Sink(sink) => sink.run(),
        Generate::Source(source) => source.run(),
        Generate::Echo(echo) => echo.run(),
        Generate::Exchange(exchange) => exchange.run(),
        Generate::Acceptor(acceptor) => acceptor.run(),
        Generate::Hello(hello) => hello.run(),
        Generate::Handshake(handshake) => handshake.run(),
        Generate::Hold(hold) => hold.run(),
        Generate::Rest(rest) => rest.run(),
        Generate::Answer(answer) => answer.run(),
        Generate::Requests(requests) => requests.run(),
        Generate::Burn(burn) => burn.run(),
    }
}

/// What every client has.
#[derive(Clone, Debug, Args)]
pub(crate) struct Load {
    /// Where to connect to
    #[arg(long)]
    pub(crate) connect: SocketAddr,
    /// Connections at a time
    #[arg(long, default_value_t = 64)]
    pub(crate) connections: usize,
    /// Threads that the connections are shared among
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
    /// Length of the measured time
    #[arg(long, default_value_t = 3.0)]
    pub(crate) seconds: f64,
    /// Load in front of the measured time
    #[arg(long, default_value_t = 0.5)]
    pub(crate) warmup: f64,
    /// One JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

impl Load {
    fn window(&self) -> Result<Window> {
        let measured = Duration::try_from_secs_f64(self.seconds)?;
        if measured.is_zero() || self.connections == 0 || self.threads == 0 {
            bail!("seconds, connections and threads must be more than zero");
        }
        let warmup = Duration::try_from_secs_f64(self.warmup)?;
        Ok(Window::starting_now(warmup, measured))
    }

    fn announcer(&self) -> Announcer {
        Announcer::new(self.json)
    }

    /// Connections of thread `n`: as even as they can be.
    fn share(&self, n: usize) -> usize {
        let extra = usize::from(n < self.connections % self.threads);
        self.connections / self.threads + extra
    }
}

/// Which names the hellos ask for.
#[derive(Clone, Debug, Args)]
pub(crate) struct Names {
    /// Name that the ClientHello asks for
    #[arg(long = "hello", id = "hello")]
    pub(crate) name: Option<String>,
    /// Ask for that many different names: n000000.NAME, n000001.NAME and so on
    #[arg(long, default_value_t = 1)]
    pub(crate) names: u32,
}

impl Names {
    /// The hellos, drawn evenly from all names; none if no name was given.
    fn hellos(&self) -> Vec<Vec<u8>> {
        let Some(name) = &self.name else {
            return Vec::new();
        };
        let count = self.names.clamp(1, HELLOS_MAX);
        let step = (self.names / count).max(1);
        (0..count)
            .map(|n| client_hello(&nth_name(name, self.names, n * step)))
            .collect()
    }
}

/// Runs `work` on `count` threads and collects what they give.
fn on_threads<T: Send>(
    count: usize,
    work: impl Fn(usize) -> Result<T> + Sync,
    meanwhile: impl FnOnce() -> Result<()>,
) -> Result<Vec<T>> {
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..count).map(|n| scope.spawn(move || work(n))).collect();
        meanwhile()?;
        threads
            .into_iter()
            .map(|thread| match thread.join() {
                Ok(result) => result,
                Err(_) => bail!("a thread of the generator panicked"),
            })
            .collect()
    })
}

#[cfg(test)]
mod tests;
