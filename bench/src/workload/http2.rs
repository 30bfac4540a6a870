//! HTTP/2 requests in TLS, a hundred at a time on each connection, from h2load.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result};

use super::{Case, Contest, Contestant, NAME, Outcome, outside, terminating};
use crate::{
    lab::Lab,
    results::{Figure, Values},
    target::{Against, Target},
    tools::on_path,
};

#[derive(Debug)]
pub(super) struct Http2;

/// The cases: connections, each with [`STREAMS`] requests at once.
const CASES: [(&str, &str); 2] = [
    ("8 connections, 100 streams each", "8"),
    ("64 connections, 100 streams each", "64"),
];
const STREAMS: &str = "100";

fn h2load() -> Option<PathBuf> {
    on_path("h2load")
}

impl Contest for Http2 {
    fn title(&self) -> &'static str {
        "HTTP/2 in TLS, each request routed by its authority, to a server of HTTP/1.1"
    }

    fn figures(&self) -> Vec<Figure> {
        vec![
            Figure::higher("rate", "requests", "/s"),
            Figure::lower("cpu", "proxy CPU", "µs/request"),
            Figure::lower("mean", "mean time", "µs"),
        ]
    }

    fn cases(&self, lab: &Lab) -> Vec<Case> {
        let contestants = match (h2load(), lab.tools.nginx()) {
            (Some(_), Some(_)) => terminating(lab),
            _ => Vec::new(),
        };
        CASES
            .map(|(name, _)| Case::new(name, &contestants))
            .to_vec()
    }

    fn targets(&self) -> Vec<Target> {
        ["rate", "cpu"]
            .map(|figure| Target {
                case: "",
                figure,
                against: Against::BestPeer(1.0),
            })
            .to_vec()
    }

    fn measure(&self, lab: &Lab, case: usize, contestant: Contestant) -> Result<Outcome> {
        let (_, connections) = CASES.get(case).context("no such case")?;
        let course = outside::serve_https(lab, contestant)?;
        let seconds = lab.seconds.ceil();
        let mut client = Command::new(h2load().context("h2load is not installed")?);
        client.args(["--threads", "1", "--clients", connections]);
        client.args(["--max-concurrent-streams", STREAMS]);
        client.arg(format!("--duration={seconds}"));
        client.arg(format!("--connect-to={}", course.connect()));
        client.arg(format!("https://{NAME}/"));
        let (output, cores) = course.run(&client, seconds)?;
        let report = read(&output)?;
        let mut values = Values::from([
            ("rate".to_owned(), report.rate),
            ("mean".to_owned(), report.mean),
        ]);
        if let Some(cores) = cores.filter(|_| report.rate > 0.0) {
            values.insert("cpu".to_owned(), cores * 1e6 / report.rate);
        }
        Ok(Outcome {
            values,
            faults: report.faults,
        })
    }
}

/// What h2load found.
#[derive(Debug, PartialEq)]
struct Report {
    /// Requests a second.
    rate: f64,
    /// Mean time of a request, in microseconds.
    mean: f64,
    faults: Vec<String>,
}

/// Reads what h2load said.
fn read(output: &str) -> Result<Report> {
    let after = |key: &str| {
        let mut lines = output.lines().map(str::trim);
        lines.find_map(|line| line.strip_prefix(key)).map(str::trim)
    };
    let rate = after("finished in").and_then(|line| {
        let words = line.split(',').nth(1)?.split_whitespace();
        words.into_iter().next()?.parse().ok()
    });
    // min, max, mean, sd.
    let mean = after("time for request:")
        .and_then(|line| outside::microseconds(line.split_whitespace().nth(2)?));
    let counted = |line: Option<&str>, words: &[&str]| -> Vec<String> {
        let parts = line.unwrap_or_default().split(',').map(str::trim);
        let bad = |part: &&str| {
            let (count, word) = part.split_once(' ').unwrap_or_default();
            words.contains(&word) && count != "0"
        };
        let bad = parts.filter(bad);
        bad.map(|part| format!("h2load: {part}")).collect()
    };
    let mut faults = counted(after("requests:"), &["failed", "errored", "timeout"]);
    faults.extend(counted(after("status codes:"), &["3xx", "4xx", "5xx"]));
    if !output.contains("Application protocol: h2") {
        faults.push("no HTTP/2 was agreed on".to_owned());
    }
    Ok(Report {
        rate: rate.context("h2load gave no rate")?,
        mean: mean.context("h2load gave no time")?,
        faults,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "Application protocol: h2\n\nfinished in 2.00s, 83012.50 req/s, 9.50MB/s\n\
        requests: 166025 total, 166825 started, 166025 done, 166025 succeeded, 0 failed, 0 errored, 0 \
        timeout\nstatus codes: 166025 2xx, 0 3xx, 0 4xx, 0 5xx\n                     min         max  \
               mean         sd        +/- sd\ntime for request:     1.02ms     15.17ms      9.21ms  \
            2.00ms    70.00%\n";

    #[test]
    fn h2load_is_read_in_microseconds() {
        let report = read(OUTPUT).unwrap();
        assert_eq!((report.rate, report.mean), (83_012.5, 9210.0));
        assert!(report.faults.is_empty(), "{report:?}");
    }

    #[test]
    fn what_was_not_answered_well_is_a_fault() {
        let output = OUTPUT
            .replace("0 errored", "3 errored")
            .replace("0 5xx", "7 5xx");
        let report = read(&output.replace("protocol: h2", "protocol: http/1.1")).unwrap();
        assert_eq!(report.faults.len(), 3, "{report:?}");
    }
}
