//! Small messages over connections that stay open: as many as go, at a fixed rate, and wrk as a
//! check from outside.

use anyhow::Result;

use super::{Case, Contest, Contestant, NAME, Outcome, everybody, outside, way::Way};
use crate::{
    generator::Generator,
    lab::{Lab, observe},
    peer::Routing,
    results::Figure,
    target::{Against, Target},
};

#[derive(Debug)]
pub(super) struct Exchange;

/// Exchanges a second of the fixed rate: about a quarter of what goes on two cores, so that the
/// latency is that of the proxy and not of the queue in front of it.
const RATE: &str = "20000";

/// The cases, by number.
const CLOSED_LOOP: usize = 0;
const FIXED_RATE: usize = 1;

impl Contest for Exchange {
    fn title(&self) -> &'static str {
        "Exchanges of 200 bytes each way over 64 kept connections, routed by their first hello"
    }

    fn figures(&self) -> Vec<Figure> {
        vec![
            Figure::higher("rate", "exchanges", "/s"),
            Figure::lower("cpu", "proxy CPU", "µs/exchange"),
            Figure::lower("p50", "p50", "µs"),
            Figure::lower("p99", "p99", "µs"),
        ]
    }

    fn cases(&self, lab: &Lab) -> Vec<Case> {
        let mut cases = vec![
            Case::new("as many as go", &everybody(lab, false)),
            Case::new(format!("{RATE}/s, fixed"), &everybody(lab, false)),
        ];
        if outside::wrk().is_some() && lab.tools.nginx().is_some() && !lab.quick {
            let name = format!("wrk, {} connections, HTTP", outside::WRK_CONNECTIONS);
            cases.push(Case::new(name, &everybody(lab, true)));
        }
        cases
    }

    fn targets(&self) -> Vec<Target> {
        let target = |case, figure, factor| Target {
            case,
            figure,
            against: Against::BestPeer(factor),
        };
        vec![
            target("as many as go", "rate", 1.05),
            target("as many as go", "p99", 1.0),
            target("fixed", "p99", 1.0),
        ]
    }

    fn measure(&self, lab: &Lab, case: usize, contestant: Contestant) -> Result<Outcome> {
        if !matches!(case, CLOSED_LOOP | FIXED_RATE) {
            return outside::measure_wrk(lab, contestant);
        }
        let (_echo, target) = Generator::serve(&["echo"], None)?;
        let routing = Routing::ByName(vec![(NAME.to_owned(), target)]);
        let mut way = Way::open(lab, contestant, routing)?;
        let connect = way.connect.to_string();
        let mut arguments = vec!["exchange", "--connect", &connect, "--hello", NAME];
        if case == FIXED_RATE {
            arguments.extend(["--rate", RATE]);
        }
        let mut client = lab.client(&arguments)?;
        let observation = observe(&mut client, way.account(), None)?;
        way.check_running()?;
        Ok(Outcome {
            values: observation.values(way.proxy.is_some()),
            faults: observation.faults(),
        })
    }
}
