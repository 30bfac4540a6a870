//! Connections of HTTP/1.1 on which one request was answered, and which are then kept open and
//! silent.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use rustls::StreamOwned;

use super::{Load, event::Event, http_answer::whole};
use crate::tls::{self, Stream};

/// Time for an answer, or for a part of it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// An answer that is longer has not come from the servers of this bench.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// The client of resting connections.
#[derive(Clone, Debug, Args)]
pub(crate) struct Rest {
    #[command(flatten)]
    pub(super) load: Load,
    /// Host that is asked for
    #[arg(long)]
    pub(super) name: String,
    /// Ask in TLS
    #[arg(long)]
    pub(super) tls: bool,
}

impl Rest {
    /// Opens the connections, has each request answered, says so, and keeps them until standard
    /// input ends.
    ///
    /// # Errors
    /// Says which connection failed, and how.
    pub(crate) fn run(&self) -> Result<()> {
        let client = self.tls.then(|| tls::client("http/1.1", false));
        let client = client.transpose()?;
        let open = || -> Result<Stream> {
            let stream = TcpStream::connect(self.load.connect)?;
            stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
            let mut stream = match &client {
                None => Stream::Plain(stream),
                Some(client) => {
                    let session = tls::session(client, &self.name)?;
                    Stream::Secured(Box::new(StreamOwned::new(session, stream)))
                }
            };
            ask(&mut stream, &self.name)?;
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

/// Has one request answered.
///
/// # Errors
/// When the answer is not a whole one with status 200 and a measured body.
pub(crate) fn ask(stream: &mut (impl Read + Write), name: &str) -> Result<()> {
    write!(stream, "GET / HTTP/1.1\r\nHost: {name}\r\n\r\n")?;
    stream.flush()?;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    loop {
        if let Some(answer) = whole(&answer)? {
            ensure!(answer.status == 200, "the answer is {}", answer.status);
            return Ok(());
        }
        let count = stream.read(&mut piece)?;
        if count == 0 || answer.len() > ANSWER_BYTES_MAX {
            bail!("no whole answer: {:?}", String::from_utf8_lossy(&answer));
        }
        answer.extend_from_slice(&piece[..count]);
    }
}
