//! One route changed among many: how long until every worker has it, at rest and under load; what
//! a route costs; and what a proxy is before anything is declared.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use super::{Case, Contest, Contestant, Outcome};
use crate::{
    generate::{event::Event, latency::Stopwatch},
    generator::Generator,
    lab::{Lab, Observation, folder},
    measure,
    peer::{
        Peer,
        routes::{self, Control, Edit, Server, Table, domain},
    },
    process::{Process, free_port},
    results::{Figure, Values},
    target::{Against, Target},
};

mod probe;

use probe::Probe;

#[derive(Debug)]
pub(super) struct Routes;

/// Ringway with all routes in one network; otherwise each has [`PER_NETWORK`].
const ONE_NETWORK: &str = "Ringway, one network";
const RINGWAY: &str = "Ringway";
const PER_NETWORK: u32 = 100;
/// Changes that are timed in each measure at rest.
const CHANGES: u32 = 200;
const CHANGES_QUICK: u32 = 20;
/// Time between two changes at rest, for what a change leaves to tidy up.
const REST: Duration = Duration::from_millis(20);
/// Time between two changes under load, if the one before is in force by then.
const CHANGE_EVERY: Duration = Duration::from_millis(50);
/// Measured times the length of others under load, so that there are enough changes.
const LONGER: f64 = 8.0;
/// Changes that are not timed, before those that are.
const WARMUP_CHANGES: u32 = 3;
/// A stride without a common factor with the numbers of routes, so that changes are far apart.
const STRIDE: u32 = 7_919;
/// Time for memory to be given back after the start.
const SETTLE: Duration = Duration::from_secs(2);

/// What is asked for in each case.
#[derive(Clone, Copy, Debug)]
enum Work {
    /// Changes at rest among so many routes.
    Rest(u32),
    /// Routes added and removed at rest.
    AddAndRemove(u32),
    /// Changes under so many requests a second.
    Load(u32, u32),
    /// Nothing: what memory is there without any route.
    Nothing,
}

/// The cases; those with `true` belong to a quick run.
const CASES: [(&str, Work, bool); 7] = [
    ("1,000 routes, at rest", Work::Rest(1_000), true),
    ("5,000 routes, at rest", Work::Rest(5_000), false),
    ("50,000 routes, at rest", Work::Rest(50_000), false),
    (
        "50,000 routes, one added and removed",
        Work::AddAndRemove(50_000),
        false,
    ),
    (
        "50,000 routes, 30,000 requests/s",
        Work::Load(50_000, 30_000),
        false,
    ),
    (
        "50,000 routes, 10,000 requests/s",
        Work::Load(50_000, 10_000),
        true,
    ),
    ("nothing declared", Work::Nothing, true),
];

impl Contest for Routes {
    fn title(&self) -> &'static str {
        "One route changed among many, until every worker has it"
    }

    fn figures(&self) -> Vec<Figure> {
        vec![
            Figure::lower("change_p99", "in force on every worker, p99", "ms"),
            Figure::lower("change_p50", "median", "ms"),
            Figure::lower("change_max", "slowest", "ms"),
            Figure::lower("each", "memory (PSS)", "bytes/route"),
            Figure::lower("after", "the same after the changes", "bytes/route"),
            Figure::higher("changes", "changes", "/s"),
            Figure::higher("rate", "requests", "/s"),
            Figure::lower("p50", "requests, p50", "µs"),
            Figure::lower("p99", "p99", "µs"),
            Figure::lower("max", "longest", "µs"),
            Figure::lower("start", "memory at start (PSS)", "MB"),
        ]
    }

    fn cases(&self, lab: &Lab) -> Vec<Case> {
        let able = |peer: &Peer| {
            matches!(peer, Peer::Ringway | Peer::Haproxy | Peer::Envoy)
                && lab.tools.find(*peer).is_some()
        };
        let peers = lab.peers.iter().copied().filter(able);
        let all: Vec<_> = peers.map(Contestant::Peer).collect();
        let with_one = [&all[..], &[Contestant::Variant(ONE_NETWORK)]].concat();
        let case = |&(name, work, in_quick): &(&str, Work, bool)| {
            let contestants = match work {
                Work::Nothing => &all,
                Work::Rest(_) | Work::AddAndRemove(_) | Work::Load(..) => &with_one,
            };
            // A quick run leaves the others out; the numbers of cases stay.
            let left = if in_quick || !lab.quick {
                contestants.as_slice()
            } else {
                &[]
            };
            Case::new(name, left)
        };
        CASES.iter().map(case).collect()
    }

    fn targets(&self) -> Vec<Target> {
        let asked = |case, figure, bound| Target {
            case,
            figure,
            against: Against::Asked(RINGWAY, bound),
        };
        vec![
            asked("50,000", "change_p99", 10.0),
            asked("50,000 routes, at rest", "each", 2_000.0),
            asked("nothing", "start", 20.0),
        ]
    }

    fn measure(&self, lab: &Lab, case: usize, contestant: Contestant) -> Result<Outcome> {
        let (_, work, _) = *CASES.get(case).context("no such case")?;
        let (peer, one_network) = match contestant {
            Contestant::Peer(peer) => (peer, false),
            Contestant::Variant(_)
            | Contestant::Direct
            | Contestant::Runtime(_)
            | Contestant::Tunnel(_)
            | Contestant::Device(_)
            | Contestant::Library(_) => (Peer::Ringway, true),
        };
        let servers = Servers::start()?;
        let run = |routes: u32| {
            let per_network = if one_network { routes } else { PER_NETWORK };
            Run::start(lab, peer, &servers, routes, per_network)
        };
        let changes = if lab.quick { CHANGES_QUICK } else { CHANGES };
        match work {
            Work::Nothing => nothing(lab, peer, &servers),
            Work::Rest(routes) => {
                let one = run(1)?.memory()?;
                run(routes)?.at_rest(one, changes)
            }
            Work::AddAndRemove(routes) => run(routes)?.add_and_remove(changes),
            Work::Load(routes, rate) => run(routes)?.under_load(lab, rate),
        }
    }
}

/// The servers that routes lead to.
#[derive(Debug)]
struct Servers {
    _processes: Vec<Generator>,
    addresses: [std::net::SocketAddr; 3],
}

impl Servers {
    fn start() -> Result<Self> {
        let start = |server: Server| Generator::serve(&["answer", "--word", server.word()], None);
        let [first, second, other] = Server::ALL.map(start);
        let (first, second, other) = (first?, second?, other?);
        Ok(Self {
            addresses: [first.1, second.1, other.1],
            _processes: vec![first.0, second.0, other.0],
        })
    }
}

/// A proxy with routes. Dropped in this order: the process ends before its folder goes.
struct Run {
    process: Process,
    control: Box<dyn Control>,
    table: Table,
    _dir: tempfile::TempDir,
}

/// The memory of a proxy that nothing was declared to.
fn nothing(lab: &Lab, peer: Peer, servers: &Servers) -> Result<Outcome> {
    let bytes = Run::open(lab, peer, servers, 0, 0)?.memory()?;
    let values = Values::from([("start".to_owned(), bytes as f64 / 1e6)]);
    Ok(Outcome {
        values,
        faults: Vec::new(),
    })
}

impl Run {
    fn open(
        lab: &Lab,
        peer: Peer,
        servers: &Servers,
        routes: u32,
        per_network: u32,
    ) -> Result<Self> {
        let dir = folder()?;
        let table = Table {
            port: free_port()?,
            routes,
            per_network,
            servers: servers.addresses,
        };
        let (process, control) = routes::start(peer, &lab.tools, &table, dir.path())?;
        Ok(Self {
            process,
            control,
            table,
            _dir: dir,
        })
    }

    /// Starts a proxy and waits until it routes.
    fn start(
        lab: &Lab,
        peer: Peer,
        servers: &Servers,
        routes: u32,
        per_network: u32,
    ) -> Result<Self> {
        let run = Self::open(lab, peer, servers, routes, per_network)?;
        probe::wait_until_routed(run.table.listener(), Server::First)?;
        Ok(run)
    }

    fn memory(&self) -> Result<u64> {
        thread::sleep(SETTLE);
        measure::proportional_set(self.process.pid())
    }

    fn probe(&self) -> Result<Probe> {
        probe::wait_until_at_rest(self.process.pid())?;
        Probe::open(self.process.pid(), self.table.listener())
    }

    /// Bytes for each route beyond the first.
    fn each(&self, bytes: u64, one: u64) -> f64 {
        (bytes as f64 - one as f64) / f64::from(self.table.routes - 1)
    }

    fn at_rest(mut self, one: u64, changes: u32) -> Result<Outcome> {
        let before = self.memory()?;
        let mut probe = self.probe()?;
        let mut times = Times::default();
        for n in 0..WARMUP_CHANGES + changes {
            let took = self.change(&mut probe, n)?;
            if n >= WARMUP_CHANGES {
                times.add(took);
            }
            thread::sleep(REST);
        }
        let mut values = times.values()?;
        values.insert("each".to_owned(), self.each(before, one));
        let after = self.memory()?;
        values.insert("after".to_owned(), self.each(after, one));
        self.done(values, Vec::new())
    }

    fn add_and_remove(mut self, changes: u32) -> Result<Outcome> {
        let mut probe = self.probe()?;
        let mut times = Times::default();
        for n in 0..changes {
            // Every second change takes the route away that the one before has added.
            let route = self.table.routes + n / 2;
            let (edit, leads_to) = if n % 2 == 0 {
                (Edit::Add(Server::Second), Server::Second)
            } else {
                (Edit::Remove, Server::Other)
            };
            times.add(self.edit(&mut probe, route, edit, leads_to)?);
            thread::sleep(REST);
        }
        let values = times.values()?;
        self.done(values, Vec::new())
    }

    fn under_load(mut self, lab: &Lab, rate: u32) -> Result<Outcome> {
        let mut probe = self.probe()?;
        let (connect, rate) = (self.table.listener().to_string(), rate.to_string());
        let names = self.table.routes.to_string();
        let length = LONGER * lab.seconds;
        let (seconds, warmup) = (length.to_string(), lab.warmup().to_string());
        let arguments = [
            "requests",
            "--connect",
            &connect,
            "--name",
            domain(),
            "--names",
        ];
        let times = [
            &names,
            "--rate",
            &rate,
            "--seconds",
            &seconds,
            "--warmup",
            &warmup,
        ];
        let mut client = Generator::start(&[&arguments[..], &times[..]].concat(), None)?;
        client.wait_for(&Event::Begin)?;
        let start = Instant::now();
        let (mut times, mut n) = (Times::default(), 0);
        while start.elapsed().as_secs_f64() < length {
            let due = Instant::now() + CHANGE_EVERY;
            times.add(self.change(&mut probe, n)?);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            n += 1;
        }
        let changes = f64::from(n) / start.elapsed().as_secs_f64();
        let observation = Observation {
            measured: client.result()?,
            ..Observation::default()
        };
        let mut values = times.values()?;
        values.append(&mut observation.values(false));
        values.insert("changes".to_owned(), changes);
        self.done(values, observation.faults())
    }

    /// Leads the `n`th route, far from the one before, to its other server.
    fn change(&mut self, probe: &mut Probe, n: u32) -> Result<Duration> {
        let routes = self.table.routes;
        let (route, lap) = (n.wrapping_mul(STRIDE) % routes, n / routes);
        let server = if lap % 2 == 0 {
            Server::Second
        } else {
            Server::First
        };
        self.edit(probe, route, Edit::Change(server), server)
    }

    fn edit(
        &mut self,
        probe: &mut Probe,
        route: u32,
        edit: Edit,
        leads_to: Server,
    ) -> Result<Duration> {
        self.control.prepare(route, edit)?;
        let start = Instant::now();
        self.control.hand_over()?;
        let took = probe.wait_for(route, leads_to, start);
        // What was refused is never in force, and says why.
        self.control.confirm()?;
        took
    }

    fn done(mut self, values: Values, faults: Vec<String>) -> Result<Outcome> {
        self.process.check_running()?;
        Ok(Outcome { values, faults })
    }
}

/// How long changes took.
#[derive(Debug, Default)]
struct Times(Vec<Duration>);

impl Times {
    fn add(&mut self, took: Duration) {
        self.0.push(took);
    }

    fn values(&self) -> Result<Values> {
        ensure!(!self.0.is_empty(), "nothing was changed");
        let mut watch = Stopwatch::new()?;
        self.0.iter().for_each(|took| watch.record(*took));
        let latency = watch.latency().context("nothing was timed")?;
        Ok([
            ("change_p50", latency.p50),
            ("change_p99", latency.p99),
            ("change_max", latency.max),
        ]
        .map(|(key, us)| (key.to_owned(), us / 1000.0))
        .into())
    }
}
