//! What the workloads measure with: settings, proxies in folders of their own, and the kernel's
//! accounts read while a client runs.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::{
    generate::event::{Event, Measured},
    generator::Generator,
    measure,
    peer::{Job, Listener, Peer, Routing},
    process::{Process, free_port},
    readiness::wait_until_routed,
    results::Values,
    tools::Tools,
    workload::{Case, Contestant},
};

/// Time for the last bytes of finished flows to arrive.
const ARRIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// The settings of a run.
#[derive(Clone, Debug)]
pub(crate) struct Lab {
    pub(crate) tools: Tools,
    /// The proxies to compare; Ringway is one of them.
    pub(crate) peers: Vec<Peer>,
    pub(crate) part: Part,
    pub(crate) rounds: u32,
    /// Length of each measure.
    pub(crate) seconds: f64,
    /// Fewer and smaller cases.
    pub(crate) quick: bool,
}

/// What is run of each workload: all of it, where nothing is named.
#[derive(Clone, Debug, Default)]
pub(crate) struct Part {
    /// Words in the names of cases.
    pub(crate) cases: Vec<String>,
    /// Words in the names of contestants.
    pub(crate) contestants: Vec<String>,
}

impl Part {
    /// The cases that were asked for, with the contestants that were; those without any fall out.
    pub(crate) fn of(&self, cases: Vec<Case>) -> Vec<(usize, Case)> {
        let named = |words: &[String], name: &str| {
            words.is_empty() || words.iter().any(|word| name.contains(word))
        };
        let mut part: Vec<_> = cases.into_iter().enumerate().collect();
        part.retain(|(_, case)| named(&self.cases, &case.name));
        for (_, case) in &mut part {
            let taking_part = |one: &Contestant| named(&self.contestants, one.label());
            case.contestants.retain(taking_part);
        }
        part.retain(|(_, case)| !case.contestants.is_empty());
        part
    }
}

/// A running proxy and its folder.
#[derive(Debug)]
pub(crate) struct Proxy {
    // Dropped in this order: the process ends before its folder goes.
    pub(crate) process: Process,
    pub(crate) dir: TempDir,
}

impl Lab {
    /// Starts a proxy on `job`.
    ///
    /// # Errors
    /// When it is not there or does not start.
    pub(crate) fn start(&self, peer: Peer, job: &Job) -> Result<Proxy> {
        let dir = folder()?;
        let process = peer.start(&self.tools, job, dir.path())?;
        // Connections in another namespace cannot be seen from here; Ringway and HAProxy, which
        // dial there, listen when they can route.
        if job.namespace.is_none() {
            wait_until_routed(job).with_context(|| format!("{} does not route", peer.label()))?;
        }
        Ok(Proxy { process, dir })
    }

    /// Load in front of each measure, in seconds.
    pub(crate) fn warmup(&self) -> f64 {
        if self.quick { 0.3 } else { 0.5 }
    }

    /// Starts a client of the generators with this run's times.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn client(&self, arguments: &[&str]) -> Result<Generator> {
        let (seconds, warmup) = (self.seconds.to_string(), self.warmup().to_string());
        let times = ["--seconds", &seconds, "--warmup", &warmup];
        Generator::start(&[arguments, &times].concat(), None)
    }
}

/// A folder for one process, removed when dropped.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn folder() -> Result<TempDir> {
    tempfile::Builder::new()
        .prefix("ringway-bench-")
        .tempdir()
        .context("cannot make a folder")
}

/// A listener on a free port.
///
/// # Errors
/// When no port is left.
pub(crate) fn listener(routing: Routing) -> Result<Listener> {
    Ok(Listener {
        port: free_port()?,
        routing,
    })
}

/// What happened in one measure.
#[derive(Debug, Default)]
pub(crate) struct Observation {
    /// What the client measured.
    pub(crate) measured: Measured,
    /// Cores that the proxy kept busy.
    pub(crate) cores: f64,
    /// Bytes a second that arrived at the sink.
    pub(crate) arrived: f64,
}

/// Lets `client` run, and reads the accounts of the process `account` and of the server `sink`
/// when its measured time begins and ends.
///
/// # Errors
/// When one of them ends too early.
pub(crate) fn observe(
    client: &mut Generator,
    account: Option<Pid>,
    mut sink: Option<&mut Generator>,
) -> Result<Observation> {
    let read = |sink: &mut Option<&mut Generator>| -> Result<_> {
        let count = sink.as_mut().map(|sink| sink.count()).transpose()?;
        let cpu = account.map(measure::cpu_time).transpose()?;
        Ok((
            Instant::now(),
            cpu.unwrap_or_default(),
            count.unwrap_or_default(),
        ))
    };
    client.wait_for(&Event::Begin)?;
    let begin = read(&mut sink)?;
    client.wait_for(&Event::End)?;
    let end = read(&mut sink)?;
    let nanoseconds = (end.2.at_ns - begin.2.at_ns).max(1) as f64;
    Ok(Observation {
        measured: client.result()?,
        cores: (end.1.saturating_sub(begin.1)).as_secs_f64() / (end.0 - begin.0).as_secs_f64(),
        arrived: (end.2.bytes - begin.2.bytes) as f64 * 1e9 / nanoseconds,
    })
}

impl Observation {
    /// Rate, processor time and latency of operations.
    pub(crate) fn values(&self, with_cpu: bool) -> Values {
        let rate = self.measured.rate();
        let mut values = Values::from([("rate".to_owned(), rate)]);
        if with_cpu && rate > 0.0 {
            values.insert("cpu".to_owned(), self.cores * 1e6 / rate);
        }
        if let Some(latency) = self.measured.latency {
            values.insert("p50".to_owned(), latency.p50);
            values.insert("p99".to_owned(), latency.p99);
            values.insert("p999".to_owned(), latency.p999);
            values.insert("max".to_owned(), latency.max);
        }
        values
    }

    /// What the client found wrong, in words.
    pub(crate) fn faults(&self) -> Vec<String> {
        let measured = &self.measured;
        let mut faults = Vec::new();
        for (count, what) in [
            (measured.wrong, "changed bytes"),
            (measured.failed, "failed connections"),
            (measured.unconfirmed, "half-close not passed on"),
        ] {
            if count > 0 {
                faults.push(format!("{what} ({count})"));
            }
        }
        faults
    }
}

/// What a sink got of flows that have ended, in words if it is not all that was sent.
///
/// # Errors
/// When the sink has ended.
pub(crate) fn shortfall(sink: &mut Generator, sent: u64) -> Result<Vec<String>> {
    let start = Instant::now();
    loop {
        let count = sink.count()?;
        if count.bytes == sent || start.elapsed() > ARRIVE_TIMEOUT {
            let mut faults = Vec::new();
            if count.bytes != sent {
                faults.push(format!(
                    "{sent} bytes were sent and {} arrived",
                    count.bytes
                ));
            }
            if count.wrong > 0 {
                faults.push(format!("changed bytes ({} pieces)", count.wrong));
            }
            return Ok(faults);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
