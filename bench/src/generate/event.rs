//! What a generator says while it runs: one JSON object a line, or plain text for people.

use std::{
    io::{self, Write},
    net::SocketAddr,
};

use serde::{Deserialize, Serialize};

use crate::generate::latency::Latency;

/// One line of a generator's output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// A server listens at `address`; a client (without one) has all its connections open.
    Ready {
        /// Where the server listens.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<SocketAddr>,
    },
    /// The warm-up is over: what happens from now on is measured.
    Begin,
    /// The measured time is over; the load goes on for a moment, so that whoever reads the
    /// proxy's accounts now reads them under load.
    End,
    /// A server's counters, one for each line it is sent.
    Count(Count),
    /// A client's result, its last line.
    Result(Measured),
}

/// A server's counters since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Count {
    /// Payload bytes read.
    pub(crate) bytes: u64,
    /// Connections that ended in order.
    pub(crate) connections: u64,
    /// Pieces that were not what the client sent.
    pub(crate) wrong: u64,
    /// When this was counted: nanoseconds since the server started.
    pub(crate) at_ns: u64,
}

/// A client's result over its measured time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// Length of the measured time.
    pub(crate) seconds: f64,
    /// Exchanges or connections that ended well in it.
    pub(crate) operations: u64,
    /// Payload bytes sent, from the first to the last and not only in the measured time.
    pub(crate) bytes: u64,
    /// Payload bytes sent in the measured time.
    pub(crate) measured_bytes: u64,
    /// Answers that were not what the server sends.
    pub(crate) wrong: u64,
    /// Connections refused, reset, ended too early or never answered.
    pub(crate) failed: u64,
    /// Flows whose end the server did not confirm: half-close does not work through the proxy.
    pub(crate) unconfirmed: u64,
    /// How long an operation took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) latency: Option<Latency>,
}

impl Measured {
    /// Operations in a second.
    pub(crate) fn rate(&self) -> f64 {
        self.operations as f64 / self.seconds
    }
}

/// Writes events to standard output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Announcer {
    json: bool,
}

impl Announcer {
    /// As JSON lines, or as text.
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Writes one event and flushes it.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub(crate) fn say(self, event: &Event) -> io::Result<()> {
        let line = if self.json {
            serde_json::to_string(event)?
        } else {
            match text(event) {
                Some(line) => line,
                None => return Ok(()),
            }
        };
        let mut out = io::stdout().lock();
        writeln!(out, "{line}")?;
        out.flush()
    }
}

fn text(event: &Event) -> Option<String> {
    match event {
        Event::Ready { address } => address.map(|address| format!("listening on {address}")),
        Event::Begin | Event::End => None,
        Event::Count(count) => Some(format!("{count:?}")),
        Event::Result(result) => Some(result_text(result)),
    }
}

fn result_text(result: &Measured) -> String {
    let mut line = format!(
        "{:.0}/s ({} in {:.2} s), {:.2} Gb/s, {} wrong, {} failed, {} unconfirmed",
        result.rate(),
        result.operations,
        result.seconds,
        result.measured_bytes as f64 * 8e-9 / result.seconds,
        result.wrong,
        result.failed,
        result.unconfirmed
    );
    if let Some(latency) = &result.latency {
        line.push_str(&format!(
            "; µs p50 {:.0} p90 {:.0} p99 {:.0} p99.9 {:.0} max {:.0}",
            latency.p50, latency.p90, latency.p99, latency.p999, latency.max
        ));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_reads_back_as_it_was_written() {
        let events = [
            Event::Ready { address: None },
            Event::Begin,
            Event::Count(Count {
                bytes: u64::MAX,
                ..Count::default()
            }),
            Event::Result(Measured {
                seconds: 1.5,
                operations: 3,
                ..Measured::default()
            }),
        ];
        for event in events {
            let line = serde_json::to_string(&event).unwrap();
            assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
        }
    }
}
