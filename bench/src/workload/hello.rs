//! New connections, each routed by its ClientHello.

use anyhow::Result;

use super::{Case, Contest, Contestant, NAME, Outcome, everybody, way::Way};
use crate::{
    generator::Generator,
    lab::{Lab, observe},
    peer::Routing,
    results::Figure,
    target::{Against, Target},
};

#[derive(Debug)]
pub(super) struct Hello;

impl Contest for Hello {
    fn title(&self) -> &'static str {
        "ClientHello connections: connect, 517-byte hello, routed, 32-byte answer, close"
    }

    fn figures(&self) -> Vec<Figure> {
        figures()
    }

    fn cases(&self, lab: &Lab) -> Vec<Case> {
        vec![Case::new(
            "64 connections at a time",
            &everybody(lab, false),
        )]
    }

    fn targets(&self) -> Vec<Target> {
        ["rate", "cpu"]
            .into_iter()
            .map(|figure| Target {
                case: "64",
                figure,
                against: Against::Contestant("HAProxy", 1.0),
            })
            .collect()
    }

    fn measure(&self, lab: &Lab, _: usize, contestant: Contestant) -> Result<Outcome> {
        let (_acceptor, target) = Generator::serve(&["acceptor"], None)?;
        let routing = Routing::ByName(vec![(NAME.to_owned(), target)]);
        let mut way = Way::open(lab, contestant, routing)?;
        let connect = way.connect.to_string();
        let mut client = lab.client(&["hello", "--connect", &connect, "--hello", NAME])?;
        let observation = observe(&mut client, way.account(), None)?;
        way.check_running()?;
        Ok(Outcome {
            values: observation.values(way.proxy.is_some()),
            faults: observation.faults(),
        })
    }
}

/// What is read off wherever connections are counted.
pub(super) fn figures() -> Vec<Figure> {
    vec![
        Figure::higher("rate", "connections", "/s"),
        Figure::lower("cpu", "proxy CPU", "µs/connection"),
        Figure::lower("p50", "p50", "µs"),
        Figure::lower("p99", "p99", "µs"),
    ]
}
