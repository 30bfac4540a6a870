//! The end of bulk flows: reads and counts everything, and confirms each flow's count.

use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    thread,
};

use anyhow::Result;
use clap::Args;

use super::{
    client_hello::HELLO_BYTES,
    pattern::{fits, pattern},
    serve::{Counters, Serve},
};

/// Bytes read at a time.
const READ_BYTES: usize = 1024 * 1024;

/// The server that reads bulk flows.
#[derive(Clone, Debug, Args)]
pub(crate) struct Sink {
    #[command(flatten)]
    serve: Serve,
    /// Each flow starts with a ClientHello that is not payload
    #[arg(long)]
    after_hello: bool,
}

impl Sink {
    /// Serves until the process is ended.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub(crate) fn run(&self) -> Result<()> {
        let skip = if self.after_hello { HELLO_BYTES } else { 0 };
        self.serve
            .run(false, Counters::new(), |listener, counters| {
                take_flows(&listener, skip, counters)
            })
    }
}

/// Reads each accepted flow on a thread of its own.
///
/// # Errors
/// When the listener fails.
pub(crate) fn take_flows(
    listener: &TcpListener,
    skip: usize,
    counters: &'static Counters,
) -> Result<()> {
    listener.set_nonblocking(false)?;
    let pattern: &'static [u8] = Vec::leak(pattern());
    loop {
        let Ok((stream, _)) = listener.accept() else {
            continue;
        };
        thread::spawn(move || {
            if read_flow(stream, skip, pattern, counters).is_ok() {
                counters.connection_ended();
            }
        });
    }
}

fn read_flow(
    mut stream: TcpStream,
    skip: usize,
    pattern: &[u8],
    counters: &Counters,
) -> io::Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    stream.read_exact(&mut buffer[..skip])?;
    let mut offset = 0;
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        if !fits(pattern, offset, &buffer[..count]) {
            counters.wrong_piece();
        }
        offset += count as u64;
        counters.read(count);
    }
    stream.write_all(&offset.to_le_bytes())
}
