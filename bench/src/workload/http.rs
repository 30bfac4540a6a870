//! HTTP/1.1 requests through a proxy that reads them: over connections that stay open, over a
//! connection each, and for bodies that are large.

use std::process::Command;

use anyhow::{Context, Result};

use super::{Case, Contest, Contestant, NAME, Outcome, outside};
use crate::{
    lab::Lab,
    peer::nginx,
    results::{Figure, Values},
    target::{Against, Target},
};

#[derive(Debug)]
pub(super) struct Http;

const KEPT: &str = "64 kept connections";
const EACH: &str = "a connection for each request, 64 at a time";
const BULK: &str = "one body of 16 MiB after the other, 8 connections";

/// The cases, by number.
const CASES: [&str; 3] = [KEPT, EACH, BULK];
/// Bytes of a large body.
const BULK_BYTES: u64 = 16 << 20;

impl Contest for Http {
    fn title(&self) -> &'static str {
        "HTTP/1.1, each request routed by its host, over kept connections to the server"
    }

    fn figures(&self) -> Vec<Figure> {
        vec![
            Figure::higher("rate", "requests", "/s"),
            Figure::lower("cpu", "proxy CPU", "µs/request"),
            Figure::lower("p50", "p50", "µs"),
            Figure::lower("p99", "p99", "µs"),
            Figure::higher("bulk", "throughput", "Gb/s"),
            Figure::lower("each", "proxy CPU", "s/GB"),
        ]
    }

    fn cases(&self, lab: &Lab) -> Vec<Case> {
        let able = outside::wrk().is_some() && lab.tools.nginx().is_some();
        let peers = lab.peers.iter().copied();
        let peers =
            peers.filter(|peer| able && peer.can_proxy_http() && lab.tools.find(*peer).is_some());
        let mut contestants = vec![Contestant::Direct];
        contestants.extend(peers.map(Contestant::Peer));
        CASES.map(|name| Case::new(name, &contestants)).to_vec()
    }

    fn targets(&self) -> Vec<Target> {
        let haproxy = |case, figure, factor| Target {
            case,
            figure,
            against: Against::Contestant("HAProxy", factor),
        };
        vec![
            haproxy(KEPT, "rate", 1.0),
            haproxy(KEPT, "cpu", 1.0),
            haproxy(KEPT, "p99", 1.0),
            haproxy(EACH, "rate", 1.0),
            Target {
                case: BULK,
                figure: "bulk",
                against: Against::BestPeer(1.2),
            },
        ]
    }

    fn measure(&self, lab: &Lab, case: usize, contestant: Contestant) -> Result<Outcome> {
        let name = CASES.get(case).context("no such case")?;
        let bulk = *name == BULK;
        let course = outside::serve_http(lab, contestant, bulk.then_some(BULK_BYTES))?;
        let seconds = lab.seconds.ceil();
        let (connections, path) = if bulk {
            ("8", nginx::BULK)
        } else {
            ("64", "/")
        };
        let mut wrk = Command::new(outside::wrk().context("wrk is not installed")?);
        wrk.args(["--latency", "--threads", "1", "--connections", connections]);
        wrk.arg(format!("--duration={seconds}s"));
        // A body takes as long as it takes.
        wrk.args(["--timeout", "30s"]);
        wrk.args(["--header", &format!("Host: {NAME}")]);
        if *name == EACH {
            wrk.args(["--header", "Connection: close"]);
        }
        wrk.arg(format!("http://{}{path}", course.connect()));
        let (output, cores) = course.run(&wrk, seconds)?;
        let report = outside::read_wrk(&output)?;
        Ok(Outcome {
            values: values(&report, cores, bulk),
            faults: report.faults,
        })
    }
}

fn values(report: &outside::Wrk, cores: Option<f64>, bulk: bool) -> Values {
    let gigabytes = report.bytes / 1e9;
    let (mut values, cpu) = if bulk {
        let values = Values::from([("bulk".to_owned(), gigabytes * 8.0)]);
        (values, ("each", cores.map(|cores| cores / gigabytes)))
    } else {
        let values = Values::from([
            ("rate".to_owned(), report.rate),
            ("p50".to_owned(), report.p50),
            ("p99".to_owned(), report.p99),
        ]);
        (
            values,
            ("cpu", cores.map(|cores| cores * 1e6 / report.rate)),
        )
    };
    if let (key, Some(cpu)) = cpu {
        values.insert(key.to_owned(), cpu);
    }
    values
}
