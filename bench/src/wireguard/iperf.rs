//! iperf3 through a tunnel, and what it costs everybody.

use std::{
    process::{Child, Command, Stdio},
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use super::{Family, Side, door, end::End, tunnel::Tunnel};
use crate::{lab::folder, measure, process::Process, process::tied};

/// Port of the server.
const PORT: u16 = 5201;
/// Seconds at the beginning that iperf3 does not count, of TCP.
const OMIT: u32 = 1;
/// Left out of the processor time at each end of the counted time.
const EDGE: Duration = Duration::from_millis(200);
/// Payload of a datagram, in bytes.
pub(crate) const DATAGRAM_BYTES: &str = "1200";
/// Time for flows to begin.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Time for the answer to a flow's first datagram, which makes the flow known.
const ANSWER: Duration = Duration::from_millis(100);

/// What flows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Traffic {
    Tcp {
        flows: usize,
    },
    /// Datagrams of [`DATAGRAM_BYTES`] in one flow, that many bits a second; 0 is as many as go.
    Udp {
        bits: u64,
    },
}

/// What arrived and what it took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Carried {
    /// Gigabits of payload a second, at the server.
    pub(crate) rate: f64,
    /// Datagrams that did not arrive, in per cent.
    pub(crate) loss: f64,
    /// Segments that TCP sent again in the counted time.
    pub(crate) retransmits: f64,
    /// Cores that both ends' processes kept busy.
    pub(crate) ends: f64,
    /// Cores that were busy with anything but iperf3 itself.
    pub(crate) machine: f64,
}

/// A server in the right tenant's namespace.
#[derive(Debug)]
pub(crate) struct Server {
    process: Process,
    _dir: TempDir,
}

impl Server {
    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) fn start(end: &End) -> Result<Self> {
        let dir = folder()?;
        let mut command = Command::new("iperf3");
        command.args(["--server", "--port", &PORT.to_string()]);
        let process = end.serve("iperf3", &command, &dir, PORT)?;
        Ok(Self { process, _dir: dir })
    }

    /// Sends from left to right for that many seconds, and reads the accounts meanwhile.
    ///
    /// # Errors
    /// When the flows do not begin, or end too early.
    pub(crate) fn load(
        &self,
        tunnel: &Tunnel,
        family: Family,
        traffic: Traffic,
        seconds: u32,
    ) -> Result<Carried> {
        let client = tunnel.left.inside(&client(family, traffic, seconds));
        let (child, accounts) = door::open_for(&tunnel.right, |begun| {
            let mut child = spawn(&tunnel.left, &client)?;
            wait_for_flows(tunnel, traffic, &mut child)?;
            begun.store(true, Ordering::Relaxed);
            if let Traffic::Tcp { .. } = traffic {
                thread::sleep(Duration::from_secs(OMIT.into()));
            }
            thread::sleep(EDGE);
            let generators = [Pid::from_raw(child.id().cast_signed()), self.process.pid()];
            let before = Accounts::read(tunnel, generators)?;
            thread::sleep(Duration::from_secs(seconds.into()) - 2 * EDGE);
            let after = Accounts::read(tunnel, generators)?;
            Ok((child, (before, after)))
        })?;
        let output = child.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let report: Value = serde_json::from_str(&text).context("iperf3 did not write JSON")?;
        let (before, after) = accounts;
        let mut carried = read(&report, traffic)?;
        let took = (after.at - before.at).as_secs_f64();
        let cores = |after: Duration, before: Duration| (after - before).as_secs_f64() / took;
        carried.ends = cores(after.ends, before.ends);
        let generators = cores(after.generators, before.generators);
        carried.machine = cores(after.machine, before.machine) - generators;
        Ok(carried)
    }
}

fn client(family: Family, traffic: Traffic, seconds: u32) -> Command {
    let mut client = Command::new("iperf3");
    client.args(["--json", "--client", &Side::Right.inner(family)]);
    client.args(["--port", &PORT.to_string(), "--time", &seconds.to_string()]);
    match traffic {
        // What is omitted of datagrams still counts as lost (iperf 3.12).
        Traffic::Tcp { flows } => {
            let (flows, omit) = (flows.to_string(), OMIT.to_string());
            client.args(["--parallel", &flows, "--omit", &omit])
        }
        Traffic::Udp { bits } => client.args([
            "--udp",
            "--length",
            DATAGRAM_BYTES,
            "--bitrate",
            &bits.to_string(),
        ]),
    };
    client
}

fn spawn(end: &End, command: &Command) -> Result<Child> {
    let mut command = tied(command);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    end.sandbox.run(move || {
        let child = command.stderr(Stdio::null()).spawn();
        child.context("cannot start iperf3")
    })
}

/// Waits until every flow, and the connection that iperf3 speaks on, has been answered.
fn wait_for_flows(tunnel: &Tunnel, traffic: Traffic, child: &mut Child) -> Result<()> {
    let expected = match traffic {
        Traffic::Tcp { flows } => flows + 1,
        Traffic::Udp { .. } => 2,
    };
    let start = Instant::now();
    let port = format!(":{PORT}");
    let filter = ["state", "established", "dport", "=", &port];
    while tunnel.left.sockets(&filter)? < expected {
        if child.try_wait()?.is_some() || start.elapsed() > BEGIN_TIMEOUT {
            let _ = child.kill();
            child.wait()?;
            bail!("iperf3's flows do not begin");
        }
        thread::sleep(LOOK_EVERY);
    }
    thread::sleep(ANSWER);
    Ok(())
}

/// Processor time at one moment.
struct Accounts {
    at: Instant,
    ends: Duration,
    generators: Duration,
    machine: Duration,
}

impl Accounts {
    fn read(tunnel: &Tunnel, generators: [Pid; 2]) -> Result<Self> {
        let times = |pids: [Pid; 2]| -> Result<Duration> {
            Ok(measure::cpu_time(pids[0])? + measure::cpu_time(pids[1])?)
        };
        Ok(Self {
            at: Instant::now(),
            ends: times([tunnel.left.pid(), tunnel.right.pid()])?,
            generators: times(generators)?,
            machine: measure::busy_time()?,
        })
    }
}

fn read(report: &Value, traffic: Traffic) -> Result<Carried> {
    let end = &report["end"];
    let number = |value: &Value| value.as_f64();
    let read = || match traffic {
        Traffic::Tcp { .. } => Some(Carried {
            rate: number(&end["sum_received"]["bits_per_second"])? / 1e9,
            retransmits: number(&end["sum_sent"]["retransmits"])?,
            ..Carried::default()
        }),
        Traffic::Udp { .. } => {
            let loss = number(&end["sum"]["lost_percent"])?;
            let sent = number(&end["sum"]["bits_per_second"])? / 1e9;
            Some(Carried {
                rate: sent * (1.0 - loss / 100.0),
                loss,
                ..Carried::default()
            })
        }
    };
    read().with_context(|| format!("iperf3 gave no figures: {}", report["error"]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_lost_is_not_counted_as_carried() {
        let report = json!({ "end": { "sum": { "bits_per_second": 2e9, "lost_percent": 25.0 } } });
        let carried = read(&report, Traffic::Udp { bits: 0 }).unwrap();
        assert!((carried.rate - 1.5).abs() < 1e-9, "{carried:?}");
    }

    #[test]
    fn a_refused_flow_is_told_in_its_own_words() {
        let report = json!({ "error": "unable to connect", "end": {} });
        let error = read(&report, Traffic::Tcp { flows: 1 }).unwrap_err();
        assert!(error.to_string().contains("unable to connect"), "{error}");
    }
}
