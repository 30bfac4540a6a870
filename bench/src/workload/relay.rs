//! Bulk: flows that send as much as goes, one way; and iperf3 as a check from outside.

use anyhow::Result;

use super::{Case, Contest, Contestant, Outcome, everybody, outside, way::Way};
use crate::{
    generator::Generator,
    lab::{Lab, Observation, observe, shortfall},
    peer::Routing,
    results::{Figure, Values},
    target::{Against, DIRECT, Target},
};

#[derive(Debug)]
pub(super) struct Relay;

const FLOWS: [usize; 3] = [1, 8, 64];
const FLOWS_QUICK: [usize; 2] = [1, 64];

impl Contest for Relay {
    fn title(&self) -> &'static str {
        "Bulk relay, one way: writes of 128 KiB, reads of up to 1 MiB"
    }

    fn figures(&self) -> Vec<Figure> {
        vec![
            Figure::higher("rate", "throughput", "Gb/s"),
            Figure::lower("cpu", "proxy CPU", "s/GB"),
        ]
    }

    fn cases(&self, lab: &Lab) -> Vec<Case> {
        let contestants = everybody(lab, true);
        let mut cases: Vec<_> = flows(lab)
            .iter()
            .map(|flows| {
                let plural = if *flows == 1 { "" } else { "s" };
                Case::new(format!("{flows} flow{plural}"), &contestants)
            })
            .collect();
        if outside::iperf3().is_some() && !lab.quick {
            let name = format!("iperf3, {} streams", outside::IPERF3_STREAMS);
            cases.push(Case::new(name, &contestants));
        }
        cases
    }

    fn targets(&self) -> Vec<Target> {
        let rate = |case, against| Target {
            case,
            figure: "rate",
            against,
        };
        let cpu = |case| Target {
            case,
            figure: "cpu",
            against: Against::BestPeer(0.5),
        };
        vec![
            rate("1 flow", Against::BestPeer(1.15)),
            rate("64 flows", Against::BestPeer(1.35)),
            rate("64 flows", Against::Contestant(DIRECT, 0.45)),
            cpu("1 flow"),
            cpu("64 flows"),
        ]
    }

    fn measure(&self, lab: &Lab, case: usize, contestant: Contestant) -> Result<Outcome> {
        let Some(flows) = flows(lab).get(case) else {
            return outside::measure_iperf3(lab, contestant);
        };
        let (mut sink, target) = Generator::serve(&["sink"], None)?;
        let mut way = Way::open(lab, contestant, Routing::Forward(target))?;
        let (connect, flows) = (way.connect.to_string(), flows.to_string());
        let mut source = lab.client(&["source", "--connect", &connect, "--connections", &flows])?;
        let observation = observe(&mut source, way.account(), Some(&mut sink))?;
        bulk_outcome(&observation, &mut sink, &mut way)
    }
}

fn flows(lab: &Lab) -> &'static [usize] {
    if lab.quick { &FLOWS_QUICK } else { &FLOWS }
}

/// What a bulk measure gave, with all bytes accounted for.
pub(super) fn bulk_outcome(
    observation: &Observation,
    sink: &mut Generator,
    way: &mut Way,
) -> Result<Outcome> {
    way.check_running()?;
    let mut values = bulk_values(observation);
    if way.proxy.is_none() {
        values.remove("cpu");
    }
    let mut faults = observation.faults();
    faults.extend(shortfall(sink, observation.measured.bytes)?);
    Ok(Outcome { values, faults })
}

/// Throughput as the sink counted it, and the processor time for it.
fn bulk_values(observation: &Observation) -> Values {
    let gigabytes = observation.arrived / 1e9;
    let mut values = Values::from([("rate".to_owned(), gigabytes * 8.0)]);
    if gigabytes > 0.0 {
        values.insert("cpu".to_owned(), observation.cores / gigabytes);
    }
    values
}
