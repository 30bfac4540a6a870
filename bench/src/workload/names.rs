//! Many names: what 100,000 of them cost a connection, and what publishing them anew stalls.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use super::{Case, Contest, Contestant, NAME, Outcome, hello};
use crate::{
    generate::{client_hello::nth_name, event::Event},
    generator::Generator,
    lab::{Lab, Observation, listener, observe},
    peer::{Job, Peer, Routing, ringway},
    results::Figure,
    target::{Against, Target},
};

#[derive(Debug)]
pub(super) struct Names;

const MANY: u32 = 100_000;
const ONE_NAME: &str = "1 name";
const MANY_NAMES: &str = "100,000 names";
const QUIET: &str = "100,000 names, nothing published";
/// Exchanges a second while names are published: low, so that the other core has room for the
/// control thread, and one exchange waits at any moment.
const RATE: &str = "5000";
/// Time between the end of a publication and the next one.
const PUBLISH_EVERY: Duration = Duration::from_millis(700);
/// What every document has beside the names that are asked for, so that each one differs.
const MARK: &str = "generation.bench.test";

impl Contest for Names {
    fn title(&self) -> &'static str {
        "100,000 names: connections against one name, and exchanges while names are published"
    }

    fn subject(&self) -> Contestant {
        Contestant::Variant(MANY_NAMES)
    }

    fn figures(&self) -> Vec<Figure> {
        let mut figures = hello::figures();
        figures.push(Figure::lower("p999", "p99.9", "µs"));
        figures.push(Figure::lower("max", "longest", "µs"));
        figures
    }

    fn cases(&self, _: &Lab) -> Vec<Case> {
        let subject = self.subject();
        vec![
            Case::new(
                "hello connections",
                &[subject, Contestant::Variant(ONE_NAME)],
            ),
            Case::new(
                format!("exchanges at {RATE}/s, publishing"),
                &[subject, Contestant::Variant(QUIET)],
            ),
        ]
    }

    fn targets(&self) -> Vec<Target> {
        vec![
            Target {
                case: "hello",
                figure: "rate",
                against: Against::Contestant(ONE_NAME, 0.97),
            },
            Target {
                case: "publishing",
                figure: "max",
                against: Against::Over(QUIET, 1000.0),
            },
        ]
    }

    fn measure(&self, lab: &Lab, case: usize, contestant: Contestant) -> Result<Outcome> {
        if case == 0 {
            connections(
                lab,
                if contestant == self.subject() {
                    MANY
                } else {
                    1
                },
            )
        } else {
            exchanges(lab, contestant == self.subject())
        }
    }
}

/// Hello connections with that many names in the state, drawn from all of them.
fn connections(lab: &Lab, names: u32) -> Result<Outcome> {
    let (_acceptor, target) = Generator::serve(&["acceptor"], None)?;
    let job = job(names, target, target, 0)?;
    let mut proxy = lab.start(Peer::Ringway, &job)?;
    let (connect, names) = (connect_to(&job)?, names.to_string());
    let arguments = [
        "hello",
        "--connect",
        &connect,
        "--hello",
        NAME,
        "--names",
        &names,
    ];
    let observation = observe(
        &mut lab.client(&arguments)?,
        Some(proxy.process.pid()),
        None,
    )?;
    proxy.process.check_running()?;
    Ok(Outcome {
        values: observation.values(true),
        faults: observation.faults(),
    })
}

/// Exchanges at a fixed rate; meanwhile, if asked, documents with 100,000 names are published.
fn exchanges(lab: &Lab, publishing: bool) -> Result<Outcome> {
    let (_echo, target) = Generator::serve(&["echo"], None)?;
    let (_acceptor, acceptor) = Generator::serve(&["acceptor"], None)?;
    let mut job = job(MANY, target, acceptor, 0)?;
    let mut proxy = lab.start(Peer::Ringway, &job)?;
    let (connect, names) = (connect_to(&job)?, MANY.to_string());
    let mut client = lab.client(&[
        "exchange",
        "--connect",
        &connect,
        "--hello",
        NAME,
        "--names",
        &names,
        "--rate",
        RATE,
    ])?;
    client.wait_for(&Event::Ready { address: None })?;
    let start = Instant::now();
    let mut generation = 0;
    while publishing && start.elapsed().as_secs_f64() < lab.warmup() + lab.seconds {
        generation += 1;
        let port = job.listeners.first().map_or(0, |listener| listener.port);
        job.listeners = self::job(MANY, target, acceptor, generation)?.listeners;
        job.listeners
            .iter_mut()
            .for_each(|listener| listener.port = port);
        ringway::publish(&job, proxy.dir.path())?;
        thread::sleep(PUBLISH_EVERY);
    }
    let measured = client.result()?;
    proxy.process.check_running()?;
    let observation = Observation {
        measured,
        ..Observation::default()
    };
    let mut faults = observation.faults();
    if publishing && !is_published(&connect, generation)? {
        faults.push(format!("document {generation} was never published"));
    }
    Ok(Outcome {
        values: observation.values(false),
        faults,
    })
}

/// Whether the name that only this generation has is routed.
fn is_published(connect: &str, generation: u32) -> Result<bool> {
    let name = format!("g{generation}.{MARK}");
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        let mut client = Generator::start(
            &[
                "hello",
                "--connect",
                connect,
                "--hello",
                &name,
                "--connections",
                "1",
                "--warmup",
                "0",
                "--seconds",
                "0.1",
            ],
            None,
        )?;
        if client.result()?.operations > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Ringway with `names` names that lead to `target`, and one that marks the generation.
fn job(names: u32, target: SocketAddr, mark: SocketAddr, generation: u32) -> Result<Job> {
    let mut routes: Vec<_> = (0..names)
        .map(|n| (nth_name(NAME, names, n), target))
        .collect();
    if generation > 0 {
        routes.push((format!("g{generation}.{MARK}"), mark));
    }
    Ok(Job {
        listeners: vec![listener(Routing::ByName(routes))?],
        namespace: None,
    })
}

fn connect_to(job: &Job) -> Result<String> {
    match job.listeners.first() {
        Some(listener) => Ok(listener.address().to_string()),
        None => bail!("a job without a listener"),
    }
}
