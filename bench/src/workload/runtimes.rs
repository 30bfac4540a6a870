//! The same plain relay on several async runtimes: why the data plane runs on monoio.

use anyhow::Result;

use super::{Case, Contest, Contestant, Outcome, relay::bulk_outcome, way::Way};
use crate::{
    generator::Generator,
    lab::{Lab, observe},
    peer::Routing,
    results::Figure,
    runtime::Runtime,
    target::Target,
};

#[derive(Debug)]
pub(super) struct Runtimes;

/// Flows of the bulk cases; the case after them is that of exchanges.
const FLOWS: [&str; 2] = ["1", "64"];

impl Contest for Runtimes {
    fn title(&self) -> &'static str {
        "A plain TCP relay (256 KiB buffers, two threads) on several async runtimes"
    }

    fn subject(&self) -> Contestant {
        Contestant::Runtime(Runtime::Monoio)
    }

    fn figures(&self) -> Vec<Figure> {
        vec![
            Figure::higher("rate", "throughput; exchanges", "Gb/s; /s"),
            Figure::lower("cpu", "relay CPU", "s/GB; µs/exchange"),
            Figure::lower("p99", "p99", "µs"),
        ]
    }

    fn cases(&self, _: &Lab) -> Vec<Case> {
        let runtimes = Runtime::ALL.map(Contestant::Runtime);
        let contestants = [&[Contestant::Direct][..], &runtimes].concat();
        let mut cases: Vec<_> = FLOWS
            .iter()
            .map(|flows| Case::new(format!("bulk, flows: {flows}"), &contestants))
            .collect();
        cases.push(Case::new(
            "exchanges of 200 bytes, 64 connections",
            &contestants,
        ));
        cases
    }

    fn targets(&self) -> Vec<Target> {
        Vec::new()
    }

    fn measure(&self, lab: &Lab, case: usize, contestant: Contestant) -> Result<Outcome> {
        match FLOWS.get(case) {
            Some(flows) => bulk(lab, contestant, flows),
            None => exchanges(lab, contestant),
        }
    }
}

fn bulk(lab: &Lab, contestant: Contestant, flows: &str) -> Result<Outcome> {
    let (mut sink, target) = Generator::serve(&["sink"], None)?;
    let mut way = Way::open(lab, contestant, Routing::Forward(target))?;
    let connect = way.connect.to_string();
    let mut source = lab.client(&["source", "--connect", &connect, "--connections", flows])?;
    let observation = observe(&mut source, way.account(), Some(&mut sink))?;
    bulk_outcome(&observation, &mut sink, &mut way)
}

fn exchanges(lab: &Lab, contestant: Contestant) -> Result<Outcome> {
    let (_echo, target) = Generator::serve(&["echo"], None)?;
    let mut way = Way::open(lab, contestant, Routing::Forward(target))?;
    let connect = way.connect.to_string();
    let mut client = lab.client(&["exchange", "--connect", &connect])?;
    let observation = observe(&mut client, way.account(), None)?;
    way.check_running()?;
    Ok(Outcome {
        values: observation.values(way.proxy.is_some()),
        faults: observation.faults(),
    })
}
