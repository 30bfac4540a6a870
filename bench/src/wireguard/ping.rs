//! Round trips of ICMP echoes: ping(8) of iputils.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::{
    generate::latency::{Latency, Stopwatch},
    process::tied,
    sandbox::Sandbox,
};

/// Time between two echoes, in seconds: a device is idle in between.
const INTERVAL: &str = "0.01";
const EACH_SECOND: f64 = 100.0;

/// Sends echoes from `sandbox` for so many seconds, by `place` into where they start; gives their round
/// trips in microseconds.
///
/// # Errors
/// When one in a hundred or more is not answered.
pub(crate) fn round_trips(
    sandbox: &Sandbox,
    to: &str,
    seconds: f64,
    place: impl FnOnce(&Command) -> Command,
) -> Result<Latency> {
    let count = (seconds * EACH_SECOND).ceil();
    let mut ping = Command::new("ping");
    ping.args(["-n", "-i", INTERVAL, "-c", &count.to_string()]);
    ping.args(["-W", "1", to]);
    let mut ping = tied(&place(&ping));
    let output = sandbox.run(move || {
        let output = ping.stdin(Stdio::null()).output();
        output.context("cannot run ping (iputils-ping)")
    })?;
    let text = String::from_utf8_lossy(&output.stdout);
    let times = read(&text);
    ensure!(
        times.len() as f64 > 0.99 * count,
        "{} of {count} echoes to {to} were answered: {}",
        times.len(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let mut all = Stopwatch::new()?;
    times.into_iter().for_each(|time| all.record(time));
    all.latency().context("no echo was answered")
}

fn read(text: &str) -> Vec<Duration> {
    let times = text.lines().filter_map(|line| line.split_once("time="));
    times
        .filter_map(|(_, rest)| rest.strip_suffix(" ms")?.parse::<f64>().ok())
        .filter_map(|milliseconds| Duration::try_from_secs_f64(milliseconds / 1000.0).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_from_each_line() {
        let text = "PING 10.9.0.2\n64 bytes from 10.9.0.2: icmp_seq=1 ttl=64 time=0.250 ms\n\
                    64 bytes from 10.9.0.2: icmp_seq=2 ttl=64 time=12.5 ms\n\n--- statistics ---\n";
        assert_eq!(read(text), [250, 12_500].map(Duration::from_micros));
    }
}
