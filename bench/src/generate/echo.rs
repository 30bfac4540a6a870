//! The server of exchanges: sends back what it reads.

use std::{
    collections::HashMap,
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
};

use anyhow::Result;
use clap::Args;
use nix::sys::epoll::EpollTimeout;

use super::{
    dial::Events,
    serve::{Counters, Serve, accept},
};

/// Bytes read at a time: more than any message of the generators.
const READ_BYTES: usize = 64 * 1024;

/// Index of the listener among the events.
const LISTENER: usize = usize::MAX;

/// The server that sends back what it reads.
#[derive(Clone, Debug, Args)]
pub(crate) struct Echo {
    #[command(flatten)]
    serve: Serve,
    /// Read and count only, and answer nothing
    #[arg(long)]
    silent: bool,
}

impl Echo {
    /// Serves until the process is ended.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub(crate) fn run(&self) -> Result<()> {
        self.serve
            .run(false, Counters::new(), |listener, counters| {
                serve(&listener, self.silent, counters)
            })
    }
}

/// Answers all connections of a listener.
///
/// # Errors
/// When epoll fails.
pub(crate) fn serve(listener: &TcpListener, silent: bool, counters: &Counters) -> Result<()> {
    let mut events = Events::new()?;
    let mut connections = HashMap::new();
    let mut next = 0;
    let mut buffer = vec![0; READ_BYTES];
    events.watch_input(listener, LISTENER)?;
    loop {
        for index in events.wait(EpollTimeout::NONE)? {
            if index == LISTENER {
                while let Ok(stream) = accept(listener) {
                    events.watch_edges(&stream, next)?;
                    connections.insert(next, Connection::new(stream, silent));
                    next += 1;
                }
            } else if let Some(connection) = connections.get_mut(&index)
                && !connection.answer(&mut buffer, counters)
            {
                connections.remove(&index);
                counters.connection_ended();
            }
        }
    }
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    silent: bool,
    /// Read and not sent back yet, because the socket is full.
    owed: Vec<u8>,
}

impl Connection {
    fn new(stream: TcpStream, silent: bool) -> Self {
        Self {
            stream,
            silent,
            owed: Vec::new(),
        }
    }

    /// Sends back all that is there; false when the connection is over.
    fn answer(&mut self, buffer: &mut [u8], counters: &Counters) -> bool {
        loop {
            if !self.owed.is_empty() {
                let owed = std::mem::take(&mut self.owed);
                if !self.send(&owed) {
                    return false;
                }
                if !self.owed.is_empty() {
                    return true;
                }
            }
            match self.stream.read(buffer) {
                Ok(0) => return false,
                Ok(count) => {
                    counters.read(count);
                    if !self.silent && !self.send(&buffer[..count]) {
                        return false;
                    }
                    // A message shorter than the buffer took all there was: the next one is a
                    // new edge.
                    if count < buffer.len() && self.owed.is_empty() {
                        return true;
                    }
                }
                Err(error) => return again(error.kind()),
            }
        }
    }

    /// Sends what the socket takes and keeps the rest; false when the connection is over.
    fn send(&mut self, bytes: &[u8]) -> bool {
        match self.stream.write(bytes) {
            Ok(count) => {
                self.owed.extend_from_slice(&bytes[count..]);
                true
            }
            Err(error) if again(error.kind()) => {
                self.owed.extend_from_slice(bytes);
                true
            }
            Err(_) => false,
        }
    }
}

fn again(kind: ErrorKind) -> bool {
    kind == ErrorKind::WouldBlock || kind == ErrorKind::Interrupted
}
