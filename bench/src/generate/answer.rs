//! The server of HTTP/1.1 requests: every answer is a head and one word, the server's own, so that
//! whoever asks through a proxy sees which server it was led to.

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

/// End of a request without a body (RFC 9112 section 2.1).
const HEAD_END: &[u8] = b"\r\n\r\n";
/// Bytes read at a time; what is not a whole request by then ends its connection.
const READ_BYTES: usize = 16 * 1024;
/// Index of the listener among the events.
const LISTENER: usize = usize::MAX;

/// The server that answers each request with one word.
#[derive(Clone, Debug, Args)]
pub(crate) struct Answer {
    #[command(flatten)]
    serve: Serve,
    /// Body of all answers
    #[arg(long, default_value = "hello")]
    word: String,
}

impl Answer {
    /// Serves until the process is ended.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub(crate) fn run(&self) -> Result<()> {
        self.serve
            .run(false, Counters::new(), |listener, counters| {
                serve(&listener, &self.word, counters)
            })
    }
}

/// Answers all requests on all connections of a listener.
///
/// # Errors
/// When epoll fails.
pub(crate) fn serve(listener: &TcpListener, word: &str, counters: &Counters) -> Result<()> {
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n{word}",
        word.len()
    );
    let mut events = Events::new()?;
    let mut open: HashMap<usize, Connection> = HashMap::new();
    let mut next = 0;
    events.watch_input(listener, LISTENER)?;
    loop {
        for index in events.wait(EpollTimeout::NONE)? {
            if index != LISTENER {
                let goes_on = open
                    .get_mut(&index)
                    .is_some_and(|one| one.progress(answer.as_bytes(), counters));
                if !goes_on {
                    open.remove(&index);
                }
                continue;
            }
            while let Ok(stream) = accept(listener) {
                stream.set_nodelay(true)?;
                events.watch_input(&stream, next)?;
                open.insert(
                    next,
                    Connection {
                        stream,
                        read: Vec::new(),
                    },
                );
                next += 1;
            }
        }
    }
}

/// A connection, and what of its next request has come.
#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    /// Reads what is there and answers each whole request; whether the connection goes on. An
    /// answer is so small that the socket takes it whole.
    fn progress(&mut self, answer: &[u8], counters: &Counters) -> bool {
        let mut buffer = [0; READ_BYTES];
        let count = match self.stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(count) => count,
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        };
        counters.read(count);
        self.read.extend_from_slice(&buffer[..count]);
        while let Some(end) = end_of_head(&self.read) {
            self.read.drain(..end);
            if self.stream.write_all(answer).is_err() {
                return false;
            }
        }
        self.read.len() < READ_BYTES
    }
}

fn end_of_head(read: &[u8]) -> Option<usize> {
    let mut ends = read.windows(HEAD_END.len());
    Some(ends.position(|bytes| bytes == HEAD_END)? + HEAD_END.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_ends_at_its_empty_line() {
        let two = b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET /";
        assert_eq!(end_of_head(two), Some(two.len() - 5));
        assert_eq!(end_of_head(&two[..20]), None);
    }
}
