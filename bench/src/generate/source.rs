//! The start of bulk flows: sends as much as the way to the sink takes.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Args;

use super::{
    Load, Names,
    event::{Announcer, Event, Measured},
    on_threads,
    pattern::pattern,
    window::Window,
};

/// How long the sink may take to confirm a flow: what is on the way has to get there first.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);

/// The client that sends bulk flows; each has a thread of its own.
#[derive(Clone, Debug, Args)]
pub(crate) struct Source {
    #[command(flatten)]
    pub(super) load: Load,
    #[command(flatten)]
    pub(super) names: Names,
}

/// What one flow sent, and how it ended.
#[derive(Clone, Copy, Debug)]
struct Flow {
    bytes: u64,
    measured_bytes: u64,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The sink got all of it and said so.
    Confirmed,
    /// The sink got another number of bytes.
    Wrong,
    /// Sent, but the sink's answer did not come back.
    Unconfirmed,
    /// The connection was refused, or broke while sending.
    Failed,
}

impl Source {
    /// Sends for as long as asked, and gives the result.
    ///
    /// # Errors
    /// When nobody reads the events.
    pub(crate) fn run(&self) -> Result<()> {
        let announcer = self.load.announcer();
        let result = self.measure(announcer)?;
        announcer.say(&Event::Result(result))?;
        Ok(())
    }

    pub(super) fn measure(&self, announcer: Announcer) -> Result<Measured> {
        let hellos = self.names.hellos();
        let hello = hellos.first().map_or(&[][..], Vec::as_slice);
        let window = self.load.window()?;
        let flows = on_threads(
            self.load.connections,
            |_| Ok(send_flow(self.load.connect, hello, &window)),
            || window.announce(announcer).context("cannot tell the events"),
        )?;
        Ok(sum(&flows, &window))
    }
}

fn sum(flows: &[Flow], window: &Window) -> Measured {
    let mut result = Measured {
        seconds: window.seconds(),
        ..Measured::default()
    };
    for flow in flows {
        result.bytes += flow.bytes;
        result.measured_bytes += flow.measured_bytes;
        match flow.end {
            End::Confirmed => result.operations += 1,
            End::Wrong => result.wrong += 1,
            End::Unconfirmed => result.unconfirmed += 1,
            End::Failed => result.failed += 1,
        }
    }
    result
}

fn send_flow(target: SocketAddr, hello: &[u8], window: &Window) -> Flow {
    let mut flow = Flow {
        bytes: 0,
        measured_bytes: 0,
        end: End::Failed,
    };
    let Ok(mut stream) = TcpStream::connect(target) else {
        return flow;
    };
    if send_until_stop(&mut stream, hello, window, &mut flow).is_ok() {
        flow.end = match confirmed(&mut stream) {
            Ok(got) if got == flow.bytes => End::Confirmed,
            Ok(_) => End::Wrong,
            Err(_) => End::Unconfirmed,
        };
    }
    flow
}

fn send_until_stop(
    stream: &mut TcpStream,
    hello: &[u8],
    window: &Window,
    flow: &mut Flow,
) -> io::Result<()> {
    stream.set_write_timeout(Some(CONFIRM_TIMEOUT))?;
    stream.write_all(hello)?;
    let pattern = pattern();
    loop {
        let now = Instant::now();
        if now >= window.stop {
            return stream.shutdown(Shutdown::Write);
        }
        let mut left = &pattern[..];
        while !left.is_empty() {
            let count = stream.write(left)?;
            flow.bytes += count as u64;
            left = &left[count..];
        }
        if window.contains(now) {
            flow.measured_bytes += pattern.len() as u64;
        }
    }
}

fn confirmed(stream: &mut TcpStream) -> io::Result<u64> {
    stream.set_read_timeout(Some(CONFIRM_TIMEOUT))?;
    let mut count = [0; 8];
    stream.read_exact(&mut count)?;
    Ok(u64::from_le_bytes(count))
}
