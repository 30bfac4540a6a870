//! Connections on which one message is sent, and which are then kept open and silent.

use std::{
    io::{self, Write},
    net::TcpStream,
};

use anyhow::{Context, Result};
use clap::Args;

use super::{Load, Names, event::Event};

/// The client of idle connections.
#[derive(Clone, Debug, Args)]
pub(crate) struct Hold {
    #[command(flatten)]
    load: Load,
    #[command(flatten)]
    names: Names,
    /// Bytes of the one message
    #[arg(long, default_value_t = 200)]
    bytes: usize,
}

impl Hold {
    /// Opens the connections, sends on each, says so, and keeps them until standard input ends.
    ///
    /// # Errors
    /// Says which connection failed, and how.
    pub(crate) fn run(&self) -> Result<()> {
        let mut first_bytes = self.names.hellos().into_iter().next().unwrap_or_default();
        first_bytes.resize(first_bytes.len() + self.bytes, b'x');
        let open = || -> io::Result<TcpStream> {
            let mut stream = TcpStream::connect(self.load.connect)?;
            stream.write_all(&first_bytes)?;
            Ok(stream)
        };
        let held: Vec<_> = (0..self.load.connections)
            .map(|n| open().with_context(|| format!("connection {n} to {}", self.load.connect)))
            .collect::<Result<_>>()?;
        self.load.announcer().say(&Event::Ready { address: None })?;
        io::copy(&mut io::stdin().lock(), &mut io::sink())?;
        drop(held);
        Ok(())
    }
}
