//! Load generators that are not ours: iperf3 for bulk, wrk for small exchanges.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{Contestant, Outcome, way::Way};
use crate::{
    lab::{Lab, folder},
    measure,
    peer::{Routing, nginx},
    process::{Process, free_port, tied},
    results::Values,
    tools::on_path,
};

/// Parallel streams of iperf3.
pub(super) const IPERF3_STREAMS: usize = 8;
/// Connections of wrk.
pub(super) const WRK_CONNECTIONS: usize = 64;
/// What is left out of the processor time at each end of a run, in seconds.
const EDGE: f64 = 0.3;

pub(super) fn iperf3() -> Option<PathBuf> {
    on_path("iperf3")
}

pub(super) fn wrk() -> Option<PathBuf> {
    on_path("wrk")
}

/// A server, and perhaps a proxy in front of it.
#[derive(Debug)]
pub(super) struct Course {
    _server: Process,
    _server_folder: tempfile::TempDir,
    way: Way,
}

impl Course {
    fn open(
        lab: &Lab,
        contestant: Contestant,
        routing: impl FnOnce(SocketAddr) -> Routing,
        serve: impl FnOnce(u16, &Path) -> Result<(&'static str, Command)>,
    ) -> Result<Self> {
        let folder = folder()?;
        let port = free_port()?;
        let (name, command) = serve(port, folder.path())?;
        let server = Process::start(name, &command, folder.path(), &[port])?;
        let target = SocketAddr::from(([127, 0, 0, 1], port));
        let way = Way::open(lab, contestant, routing(target))?;
        Ok(Self {
            _server: server,
            _server_folder: folder,
            way,
        })
    }

    /// Where clients connect to.
    pub(super) fn connect(&self) -> SocketAddr {
        self.way.connect
    }

    /// What is in front of the server.
    pub(super) fn way(&mut self) -> &mut Way {
        &mut self.way
    }

    /// Runs `client`, and gives its output and the cores that the proxy kept busy meanwhile.
    ///
    /// # Errors
    /// When the client fails, with what it said.
    pub(super) fn run(&self, client: &Command, seconds: f64) -> Result<(String, Option<f64>)> {
        let account = self.way.account();
        let (output, cores) = run_client(client, seconds, || {
            Ok(account
                .map(measure::cpu_time)
                .transpose()?
                .unwrap_or_default())
        })?;
        Ok((output, account.map(|_| cores)))
    }
}

/// Runs `client`, which takes `seconds`, and gives its output and the cores that were kept busy by
/// `account` meanwhile.
///
/// # Errors
/// When the client fails, with what it said.
pub(super) fn run_client(
    client: &Command,
    seconds: f64,
    account: impl Fn() -> Result<Duration>,
) -> Result<(String, f64)> {
    let child = tied(client)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {:?}", client.get_program()))?;
    let cores = cores_over(account, seconds)?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!(
            "{:?} failed: {}{}",
            client.get_program(),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok((String::from_utf8_lossy(&output.stdout).into_owned(), cores))
}

/// The cores that are kept busy by `account`, over the middle of the next `seconds`.
fn cores_over(account: impl Fn() -> Result<Duration>, seconds: f64) -> Result<f64> {
    thread::sleep(Duration::from_secs_f64(EDGE));
    let middle = Duration::from_secs_f64((seconds - 2.0 * EDGE).max(0.2));
    let ((), cores) = measure::cores(account, || {
        thread::sleep(middle);
        Ok(())
    })?;
    Ok(cores)
}

pub(super) fn measure_iperf3(lab: &Lab, contestant: Contestant) -> Result<Outcome> {
    let program = iperf3().context("iperf3 is not installed")?;
    let course = Course::open(lab, contestant, Routing::Forward, |port, _| {
        let mut command = Command::new(&program);
        command.args([
            "--server",
            "--bind",
            "127.0.0.1",
            "--port",
            &port.to_string(),
        ]);
        Ok(("iperf3", command))
    })?;
    let mut client = Command::new(&program);
    client
        .args(["--json", "--client", "127.0.0.1", "--length", "128K"])
        .args(["--port", &course.way.connect.port().to_string()])
        .args(["--parallel", &IPERF3_STREAMS.to_string()])
        .args(["--time", &lab.seconds.ceil().to_string()]);
    let (output, cores) = course.run(&client, lab.seconds.ceil())?;
    let report: Value = serde_json::from_str(&output).context("iperf3 did not write JSON")?;
    let bits = report["end"]["sum_received"]["bits_per_second"]
        .as_f64()
        .with_context(|| format!("iperf3 gave no throughput: {}", report["error"]))?;
    let mut values = Values::from([("rate".to_owned(), bits / 1e9)]);
    if let Some(cores) = cores {
        values.insert("cpu".to_owned(), cores / (bits / 8e9));
    }
    Ok(Outcome {
        values,
        faults: Vec::new(),
    })
}

pub(super) fn measure_wrk(lab: &Lab, contestant: Contestant) -> Result<Outcome> {
    let program = wrk().context("wrk is not installed")?;
    let course = answer(lab, contestant, Routing::Forward, None)?;
    let mut client = Command::new(&program);
    client
        .args(["--latency", "--threads", "1", "--connections"])
        .arg(WRK_CONNECTIONS.to_string())
        .arg(format!("--duration={}s", lab.seconds.ceil()))
        .arg(format!("http://{}/", course.way.connect));
    let (output, cores) = course.run(&client, lab.seconds.ceil())?;
    let report = read_wrk(&output)?;
    let mut values = Values::from([
        ("rate".to_owned(), report.rate),
        ("p50".to_owned(), report.p50),
        ("p99".to_owned(), report.p99),
    ]);
    if let Some(cores) = cores {
        values.insert("cpu".to_owned(), cores * 1e6 / report.rate);
    }
    Ok(Outcome {
        values,
        faults: report.faults,
    })
}

/// An HTTP server, and what reads requests in front of it. It has a body of `bulk` bytes at
/// [`nginx::BULK`], if it is to have one.
///
/// # Errors
/// When one of both does not start.
pub(super) fn serve_http(lab: &Lab, contestant: Contestant, bulk: Option<u64>) -> Result<Course> {
    answer(lab, contestant, Routing::Http, bulk)
}

/// An HTTP server, and what reads requests out of TLS in front of it.
///
/// # Errors
/// When one of both does not start.
pub(super) fn serve_https(lab: &Lab, contestant: Contestant) -> Result<Course> {
    answer(lab, contestant, Routing::Https, None)
}

/// nginx as the HTTP server behind the proxy.
fn answer(
    lab: &Lab,
    contestant: Contestant,
    routing: impl FnOnce(SocketAddr) -> Routing,
    bulk: Option<u64>,
) -> Result<Course> {
    let nginx = lab
        .tools
        .nginx()
        .context("nginx, which answers, is not installed")?;
    Course::open(lab, contestant, routing, |port, dir| {
        if let Some(bytes) = bulk {
            let name = nginx::BULK.trim_start_matches('/');
            std::fs::File::create(dir.join(name))?.set_len(bytes)?;
        }
        let file = dir.join("nginx.conf");
        std::fs::write(&file, answering(port, dir))?;
        let mut command = Command::new(&nginx);
        command
            .arg("-p")
            .arg(dir)
            .arg("-c")
            .arg(file)
            .args(["-e", "stderr"]);
        Ok(("nginx", command))
    })
}

fn answering(port: u16, dir: &Path) -> String {
    let (body, bulk, root) = ("x".repeat(nginx::BODY_BYTES), nginx::BULK, dir.display());
    let server = format!(
        "server {{ listen 127.0.0.1:{port} reuseport backlog=4096; root {root}; location / {{ return \
         200 {body}; }} location {bulk} {{ }} }}"
    );
    nginx::http(dir, &server)
}

/// What wrk found.
#[derive(Debug, PartialEq)]
pub(super) struct Wrk {
    /// Requests a second.
    pub(super) rate: f64,
    /// Bytes of answers a second.
    pub(super) bytes: f64,
    /// In microseconds.
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) faults: Vec<String>,
}

/// Reads what wrk said.
///
/// # Errors
/// When there are no figures in it.
pub(super) fn read_wrk(output: &str) -> Result<Wrk> {
    let after = |key: &str| {
        let mut lines = output.lines().map(str::trim);
        lines.find_map(|line| line.strip_prefix(key)).map(str::trim)
    };
    let time = |key| {
        after(key)
            .and_then(microseconds)
            .context("wrk gave no latency")
    };
    let faults = ["Socket errors:", "Non-2xx or 3xx responses:"]
        .into_iter()
        .filter_map(|key| after(key).map(|value| format!("wrk: {key} {value}")))
        .collect();
    Ok(Wrk {
        rate: after("Requests/sec:")
            .and_then(|rate| rate.parse().ok())
            .context("wrk gave no rate")?,
        bytes: after("Transfer/sec:")
            .and_then(bytes)
            .context("wrk gave no transfer")?,
        p50: time("50%")?,
        p99: time("99%")?,
        faults,
    })
}

/// A size as wrk writes it, in powers of 1024.
fn bytes(text: &str) -> Option<f64> {
    let number = text.strip_suffix('B')?;
    let (factor, number) = [("K", 10), ("M", 20), ("G", 30)]
        .into_iter()
        .find_map(|(unit, power)| Some((1_u64 << power, number.strip_suffix(unit)?)))
        .unwrap_or((1, number));
    Some(number.parse::<f64>().ok()? * factor as f64)
}

/// A time as wrk writes it.
pub(super) fn microseconds(text: &str) -> Option<f64> {
    for (unit, factor) in [("us", 1.0), ("ms", 1e3), ("s", 1e6), ("m", 60e6)] {
        if let Some(number) = text.strip_suffix(unit) {
            return Some(number.parse::<f64>().ok()? * factor);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "Running 2s test @ http://127.0.0.1:1/\n  1 threads and 64 connections\n  \
        Latency Distribution\n     50%  640.00us\n     75%    1.00ms\n     90%    1.25ms\n     \
        99%    2.10ms\n  151000 requests in 2.00s\nRequests/sec:  75412.75\nTransfer/sec:      1.50MB\n";

    #[test]
    fn wrk_is_read_in_microseconds() {
        let report = read_wrk(OUTPUT).unwrap();
        assert_eq!(
            (report.rate, report.p50, report.p99),
            (75_412.75, 640.0, 2100.0)
        );
        assert_eq!((report.bytes, bytes("12B")), (1_572_864.0, Some(12.0)));
        assert!(report.faults.is_empty());
    }

    #[test]
    fn what_wrk_complains_about_is_a_fault() {
        let output = format!("{OUTPUT}  Socket errors: connect 0, read 3, write 0, timeout 0\n");
        let report = read_wrk(&output).unwrap();
        assert_eq!(report.faults.len(), 1, "{report:?}");
    }
}
