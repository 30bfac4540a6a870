//! Connections of HTTP/1.1 on which one request was answered, and which are then kept open and
//! silent.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use rustls::StreamOwned;

use super::{Load, event::Event};
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
        if let Some(length) = whole_length(&answer)?
            && answer.len() >= length
        {
            return Ok(());
        }
        let count = stream.read(&mut piece)?;
        if count == 0 || answer.len() > ANSWER_BYTES_MAX {
            bail!("no whole answer: {:?}", String::from_utf8_lossy(&answer));
        }
        answer.extend_from_slice(&piece[..count]);
    }
}

/// The length of an answer with its head; `None` while the head is not there.
fn whole_length(answer: &[u8]) -> Result<Option<usize>> {
    let text = String::from_utf8_lossy(answer);
    let Some((head, _)) = text.split_once("\r\n\r\n") else {
        return Ok(None);
    };
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        bail!("the answer is {status:?}");
    }
    let mut fields = lines.filter_map(|line| line.split_once(':'));
    let (_, length) = fields
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .context("the answer does not say how long it is")?;
    let length: usize = length.trim().parse().context("the length is no number")?;
    Ok(Some(head.len() + 4 + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(whole_length(&head[..20]).unwrap(), None);
        assert_eq!(whole_length(head).unwrap(), Some(head.len() + 5));
    }

    #[test]
    fn an_answer_that_says_no_or_not_how_long_it_is_does_not_count() {
        for answer in [
            "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            assert!(whole_length(answer.as_bytes()).is_err(), "{answer}");
        }
    }
}
