//! TLS handshakes that end at the proxy, each on a connection of its own: full ones with a key on
//! P-256, and those that take up an earlier session.

use anyhow::Result;

use super::{Case, Contest, Contestant, NAME, Outcome, outside, terminating};
use crate::{
    lab::{Lab, observe},
    results::Figure,
    target::{Against, Target},
};

#[derive(Debug)]
pub(super) struct Tls;

const FULL: &str = "full handshakes, 32 at a time";
const RESUMED: &str = "resumed handshakes, 32 at a time";

/// The cases, by number.
const CASES: [&str; 2] = [FULL, RESUMED];
/// Handshakes at a time.
const CONNECTIONS: &str = "32";

impl Contest for Tls {
    fn title(&self) -> &'static str {
        "TLS 1.3 that ends at the proxy: X25519, an ECDSA key on P-256, a connection for each handshake"
    }

    fn figures(&self) -> Vec<Figure> {
        vec![
            Figure::higher("rate", "handshakes", "/s"),
            Figure::lower("cpu", "proxy CPU", "µs/handshake"),
            Figure::lower("p50", "p50", "µs"),
            Figure::lower("p99", "p99", "µs"),
        ]
    }

    fn cases(&self, lab: &Lab) -> Vec<Case> {
        let contestants = match lab.tools.nginx() {
            Some(_) => terminating(lab),
            None => Vec::new(),
        };
        CASES.map(|name| Case::new(name, &contestants)).to_vec()
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
        let mut course = outside::serve_https(lab, contestant)?;
        let connect = course.connect().to_string();
        let mut arguments = vec!["handshake", "--connect", &connect, "--name", NAME];
        arguments.extend(["--connections", CONNECTIONS]);
        if CASES.get(case) == Some(&RESUMED) {
            arguments.push("--resumed");
        }
        let mut client = lab.client(&arguments)?;
        let observation = observe(&mut client, course.way().account(), None)?;
        course.way().check_running()?;
        let mut faults = observation.faults();
        if observation.measured.wrong > 0 {
            // No bytes are compared here.
            faults.retain(|fault| !fault.starts_with("changed bytes"));
            faults.push(format!(
                "handshakes of the other kind ({})",
                observation.measured.wrong
            ));
        }
        Ok(Outcome {
            values: observation.values(true),
            faults,
        })
    }
}
