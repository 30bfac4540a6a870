//! The server of hello connections: as cheap as it can be, so that the proxy is the bottleneck.

use std::{
    collections::HashMap,
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
};

use anyhow::Result;
use clap::Args;
use nix::sys::epoll::EpollTimeout;

use super::{
    client_hello::RECORD_HEADER_BYTES,
    dial::Events,
    serve::{Counters, Serve, accept},
};

/// Longest hello that is read: header and the largest record (RFC 8446 section 5.1).
const HELLO_BYTES_MAX: usize = RECORD_HEADER_BYTES + (1 << 14);

/// Index of the listener among the events.
const LISTENER: usize = usize::MAX;

/// Bytes of an answer.
pub(crate) const ANSWER_BYTES: usize = 32;

/// The server that reads one ClientHello, answers its digest, and closes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Acceptor {
    #[command(flatten)]
    serve: Serve,
}

impl Acceptor {
    /// Serves until the process is ended.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub(crate) fn run(&self) -> Result<()> {
        self.serve.run(true, Counters::new(), |listener, counters| {
            serve(&listener, counters)
        })
    }
}

/// The answer to a hello: which one it was (FNV-1a, repeated to [`ANSWER_BYTES`]).
pub(crate) fn answer(hello: &[u8]) -> [u8; ANSWER_BYTES] {
    let digest = hello.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut answer = [0; ANSWER_BYTES];
    for part in answer.chunks_exact_mut(8) {
        part.copy_from_slice(&digest.to_le_bytes());
    }
    answer
}

/// Answers all connections of a listener.
///
/// # Errors
/// When epoll fails.
pub(crate) fn serve(listener: &TcpListener, counters: &Counters) -> Result<()> {
    let mut events = Events::new()?;
    let mut waiting = HashMap::new();
    let mut next = 0;
    let mut buffer = vec![0; HELLO_BYTES_MAX];
    events.watch_input(listener, LISTENER)?;
    loop {
        for index in events.wait(EpollTimeout::NONE)? {
            if index != LISTENER {
                if let Some(hello) = waiting.remove(&index)
                    && let Some(hello) = progress(hello, &mut buffer, counters)
                {
                    waiting.insert(index, hello);
                }
                continue;
            }
            while let Ok(stream) = accept(listener) {
                let hello = Hello {
                    stream,
                    read: Vec::new(),
                };
                // The listener defers accept until data is there, so this is the way that
                // nearly all connections take: no epoll for them.
                if let Some(hello) = progress(hello, &mut buffer, counters) {
                    events.watch_input(&hello.stream, next)?;
                    waiting.insert(next, hello);
                    next += 1;
                }
            }
        }
    }
}

/// A connection whose hello is not complete.
#[derive(Debug)]
struct Hello {
    stream: TcpStream,
    read: Vec<u8>,
}

/// Reads what is there; answers and closes when the hello is complete, gives it back when not.
fn progress(mut hello: Hello, buffer: &mut [u8], counters: &Counters) -> Option<Hello> {
    match hello.stream.read(buffer) {
        Ok(0) => return None,
        Ok(count) => {
            counters.read(count);
            hello.read.extend_from_slice(&buffer[..count]);
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(hello),
        Err(_) => return None,
    }
    match hello.read.get(..RECORD_HEADER_BYTES) {
        Some(&[22, 3, _, high, low]) => {
            let wanted = RECORD_HEADER_BYTES + usize::from(u16::from_be_bytes([high, low]));
            if hello.read.len() < wanted {
                return Some(hello);
            }
        }
        Some(_) => {
            counters.wrong_piece();
            return None;
        }
        None => return Some(hello),
    }
    if hello.stream.write_all(&answer(&hello.read)).is_ok() {
        counters.connection_ended();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_depends_on_every_byte_of_the_hello() {
        let hello = [7; 517];
        for place in [0, 258, 516] {
            let mut other = hello;
            other[place] ^= 1;
            assert_ne!(answer(&hello), answer(&other));
        }
        assert_ne!(answer(&hello), answer(&hello[..516]));
    }
}
