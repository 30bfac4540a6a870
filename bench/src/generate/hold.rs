//! Connections that are opened, used once, and then kept open and silent.

use std::io;

use anyhow::{Context, Result};
use clap::Args;

use super::{
    Load, Names,
    event::Event,
    exchange::connection::{Connection, Progress},
};

/// The client of idle connections.
#[derive(Clone, Debug, Args)]
pub(crate) struct Hold {
    #[command(flatten)]
    load: Load,
    #[command(flatten)]
    names: Names,
    /// Bytes of the one message, both ways
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(16..=65_536))]
    bytes: u32,
}

impl Hold {
    /// Opens and uses the connections, says so, and keeps them until standard input ends.
    ///
    /// # Errors
    /// Says which connection failed, and how.
    pub(crate) fn run(&self) -> Result<()> {
        let hellos = self.names.hellos();
        let hello = hellos.first().map(Vec::as_slice);
        let held: Vec<_> = (0..self.load.connections)
            .map(|number| {
                self.open(hello, number)
                    .with_context(|| format!("connection {number} to {}", self.load.connect))
            })
            .collect::<Result<_>>()?;
        self.load.announcer().say(&Event::Ready { address: None })?;
        io::copy(&mut io::stdin().lock(), &mut io::sink())?;
        drop(held);
        Ok(())
    }

    fn open(&self, hello: Option<&[u8]>, number: usize) -> Result<Connection> {
        let mut connection =
            Connection::open(self.load.connect, hello, number, self.bytes as usize)?;
        connection.stream().set_nonblocking(false)?;
        connection.start(std::time::Instant::now());
        match connection.progress() {
            Progress::Answered(_) => Ok(connection),
            progress @ (Progress::Waiting | Progress::Wrong | Progress::Failed) => {
                anyhow::bail!("the message did not come back: {progress:?}")
            }
        }
    }
}
