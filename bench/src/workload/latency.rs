//! Fairness: small exchanges at a fixed rate, while a bulk flow takes what it can get.

use anyhow::Result;

use super::{Case, Contest, Contestant, Outcome, everybody};
use crate::{
    generator::Generator,
    lab::{Lab, listener, observe, shortfall},
    peer::{Job, Routing},
    results::Figure,
    target::{Against, Target},
};

#[derive(Debug)]
pub(super) struct Fairness;

const SMALL: &str = "small.bench.test";
const BULK: &str = "bulk.bench.test";
/// Exchanges a second: a trickle that even the slowest proxy carries beside the bulk flow.
const RATE: &str = "2000";
const CONNECTIONS: &str = "32";

impl Contest for Fairness {
    fn title(&self) -> &'static str {
        "Exchanges of 200 bytes at 2,000/s over 32 connections, beside one bulk flow"
    }

    fn figures(&self) -> Vec<Figure> {
        vec![
            Figure::lower("p99", "p99", "µs"),
            Figure::lower("p50", "p50", "µs"),
            Figure::lower("p999", "p99.9", "µs"),
            Figure::higher("bulk", "bulk flow", "Gb/s"),
        ]
    }

    fn cases(&self, lab: &Lab) -> Vec<Case> {
        vec![Case::new("beside one bulk flow", &everybody(lab, false))]
    }

    fn targets(&self) -> Vec<Target> {
        vec![Target {
            case: "bulk",
            figure: "p99",
            against: Against::BestPeer(1.0),
        }]
    }

    fn measure(&self, lab: &Lab, _: usize, contestant: Contestant) -> Result<Outcome> {
        let (mut sink, bulk) = Generator::serve(&["sink", "--after-hello"], None)?;
        let (_echo, small) = Generator::serve(&["echo"], None)?;
        let routes = vec![(SMALL.to_owned(), small), (BULK.to_owned(), bulk)];
        let listener = listener(Routing::ByName(routes))?;
        let address = listener.address();
        let job = Job {
            listeners: vec![listener],
            namespace: None,
        };
        let mut proxy = match contestant {
            Contestant::Peer(peer) => Some(lab.start(peer, &job)?),
            Contestant::Direct
            | Contestant::Runtime(_)
            | Contestant::Variant(_)
            | Contestant::Tunnel(_)
            | Contestant::Device(_)
            | Contestant::Library(_) => None,
        };
        let to = |target| if proxy.is_some() { address } else { target };
        let (bulk, small) = (to(bulk).to_string(), to(small).to_string());

        // The bulk flow starts first and lasts longer than the exchanges.
        let seconds = (lab.seconds + 2.0 * lab.warmup()).to_string();
        let mut source = Generator::start(
            &[
                "source",
                "--connect",
                &bulk,
                "--hello",
                BULK,
                "--connections",
                "1",
                "--warmup",
                "0",
                "--seconds",
                &seconds,
            ],
            None,
        )?;
        let mut client = lab.client(&[
            "exchange",
            "--connect",
            &small,
            "--hello",
            SMALL,
            "--connections",
            CONNECTIONS,
            "--rate",
            RATE,
        ])?;
        let account = proxy.as_ref().map(|proxy| proxy.process.pid());
        let observation = observe(&mut client, account, Some(&mut sink))?;
        let sent = source.result()?;
        if let Some(proxy) = &mut proxy {
            proxy.process.check_running()?;
        }
        let mut values = observation.values(false);
        values.insert("bulk".to_owned(), observation.arrived * 8e-9);
        let mut faults = observation.faults();
        faults.extend(shortfall(&mut sink, sent.bytes)?);
        Ok(Outcome { values, faults })
    }
}
