//! One line of the connection log.

use std::{net::SocketAddr, time::Duration};

use engine::Record;
use serde::{Serialize, Serializer};

/// The fields, in the order in which they are written. Durations are in microseconds; what a
/// connection did not come to is null.
#[derive(Debug, Serialize)]
struct Line<'a> {
    /// When the connection was accepted, in UTC.
    time: Time,
    listener: &'a str,
    worker: u16,
    client: SocketAddr,
    name: Option<&'a str>,
    alpn: Option<String>,
    route: Option<&'a str>,
    network: Option<&'a str>,
    target: Option<SocketAddr>,
    /// From the client to the target.
    bytes_in: u64,
    /// From the target to the client.
    bytes_out: u64,
    accept_us: u64,
    hello_us: Option<u64>,
    dial_us: Option<u64>,
    first_byte_us: Option<u64>,
    total_us: u64,
    relay: &'static str,
    outcome: &'static str,
    fault: &'static str,
    /// Why, where that is more than the outcome says.
    reason: Option<&'static str>,
}

#[derive(Debug)]
struct Time(std::time::SystemTime);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_rfc3339_micros(self.0))
    }
}

/// Appends the line of a record.
pub(super) fn write(record: &Record, batch: &mut Vec<u8>) {
    let durations = &record.durations;
    let alpn = record.alpn.as_deref();
    let line = Line {
        time: Time(record.time),
        listener: &record.listener,
        worker: record.worker.0,
        client: record.client,
        name: record.name.as_deref(),
        alpn: alpn.map(|alpn| String::from_utf8_lossy(alpn).into_owned()),
        route: record.route.as_deref(),
        network: record.network.as_deref(),
        target: record.target,
        bytes_in: record.bytes_in,
        bytes_out: record.bytes_out,
        accept_us: micros(durations.accept),
        hello_us: durations.hello.map(micros),
        dial_us: durations.dial.map(micros),
        first_byte_us: durations.first_byte.map(micros),
        total_us: micros(durations.total),
        relay: record.relay,
        outcome: record.outcome.label(),
        fault: record.outcome.fault().label(),
        reason: record.reason,
    };
    // Neither the line nor a vector can fail.
    if serde_json::to_writer(&mut *batch, &line).is_ok() {
        batch.push(b'\n');
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
