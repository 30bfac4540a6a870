//! Requests on the API of a gateway with 500 networks and a million rows of accounts.

use std::{
    cell::RefCell,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use super::{Case, Contest, Contestant, Outcome};
use crate::{
    accounts::{Day, ROW_SECONDS},
    gateway::{Backend, Gateway},
    lab::{Lab, folder},
    results::{Figure, Values},
    sandbox::Sandbox,
    target::{Against, Target},
    tenants,
};

mod load;

use load::Load;

/// The gateway that all rounds ask: a million rows are not written anew for each.
#[derive(Debug, Default)]
pub(super) struct Requests(RefCell<Option<Scene>>);

const DAY: &str = "traffic: a day of one network";
const HOURS: &str = "traffic: the same, by hour";
const MINUTE: &str = "traffic: a minute of all networks";
const STATUS: &str = "status";
const METRICS: &str = "metrics";

const NETWORKS: u16 = 500;
const NETWORKS_QUICK: u16 = 20;
const PEERS: u16 = 10;
/// Networks whose peers have moved bytes in every minute of the day: 70 of 10 peers, and 1,440
/// minutes, are 1,008,000 rows.
const BUSY: u16 = 70;
const BUSY_QUICK: u16 = 5;
const MINUTES: u64 = 24 * 60;
/// Connections that ask at once, where the rate is measured.
const CONNECTIONS: usize = 4;

/// A gateway with its accounts.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) gateway: Gateway,
    pub(super) day: Day,
    networks: u16,
    // The gateway ends with its sandbox, and is ended before.
    _sandbox: Sandbox,
}

impl Contest for Requests {
    fn title(&self) -> &'static str {
        "Requests on the API, with 500 networks and a million rows of accounts"
    }

    fn subject(&self) -> Contestant {
        Contestant::Variant(DAY)
    }

    fn compares(&self) -> bool {
        false
    }

    fn figures(&self) -> Vec<Figure> {
        vec![
            Figure::lower("p99", "p99, one at a time", "ms"),
            Figure::higher("rate", "4 at a time", "/s"),
            Figure::lower("p50", "p50, one at a time", "ms"),
            Figure::lower("cpu", "gateway's CPU", "ms/request"),
            Figure::lower("size", "answer", "KiB"),
        ]
    }

    fn cases(&self, lab: &Lab) -> Vec<Case> {
        let (networks, day) = scale(lab, 0);
        let name = format!("{networks} networks, {} rows", day.rows());
        let requests = [DAY, HOURS, MINUTE, STATUS, METRICS];
        vec![Case::new(name, &requests.map(Contestant::Variant))]
    }

    fn targets(&self) -> Vec<Target> {
        vec![Target {
            case: "rows",
            figure: "p99",
            against: Against::Asked(DAY, 50.0),
        }]
    }

    fn measure(&self, lab: &Lab, _: usize, contestant: Contestant) -> Result<Outcome> {
        let mut scene = self.0.borrow_mut();
        let scene = match &mut *scene {
            Some(scene) => scene,
            none => none.insert(Scene::open(lab)?),
        };
        let request = contestant.label();
        let path = scene.path(request);
        let size = scene.check(request, &path)?;
        let load = Load {
            gateway: &scene.gateway,
            path: &path,
            seconds: lab.seconds,
            warmup: lab.warmup(),
        };
        let (alone, together) = (load.run(1)?, load.run(CONNECTIONS)?);
        scene.gateway.check()?;
        Ok(Outcome {
            values: Values::from([
                ("p50".to_owned(), alone.latency.p50 / 1000.0),
                ("p99".to_owned(), alone.latency.p99 / 1000.0),
                ("rate".to_owned(), together.rate),
                ("cpu".to_owned(), together.cpu_each * 1000.0),
                ("size".to_owned(), size as f64 / 1024.0),
            ]),
            faults: Vec::new(),
        })
    }
}

/// How many networks there are, and the accounts of the day that ends at `end`.
fn scale(lab: &Lab, end: u64) -> (u16, Day) {
    let (networks, busy) = if lab.quick {
        (NETWORKS_QUICK, BUSY_QUICK)
    } else {
        (NETWORKS, BUSY)
    };
    let day = Day {
        networks: busy,
        peers: PEERS,
        minutes: MINUTES,
        end,
    };
    (networks, day)
}

/// Writes a day of accounts that ends now into a folder of their own.
///
/// # Errors
/// When the store does not take them.
pub(super) fn write_day(lab: &Lab) -> Result<(TempDir, Day)> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let (_, day) = scale(lab, now / ROW_SECONDS * ROW_SECONDS);
    let dir = folder()?;
    day.write(&dir.path().join(ACCOUNTS))?;
    Ok((dir, day))
}

/// Name of the accounts in the folder of [`write_day`].
pub(super) const ACCOUNTS: &str = "accounts.db";

impl Scene {
    fn open(lab: &Lab) -> Result<Self> {
        let (dir, day) = write_day(lab)?;
        let (networks, _) = scale(lab, 0);
        let (store, sandbox) = (dir.path().join(ACCOUNTS), Sandbox::open()?);
        let lab = lab.clone();
        let start = move || Gateway::start(&lab, Backend::Userspace, Some(&store));
        let gateway = sandbox.run(start)?;
        gateway.api.apply(&tenants::text(networks, PEERS))?;
        Ok(Self {
            gateway,
            day,
            networks,
            _sandbox: sandbox,
        })
    }

    /// What is asked for.
    fn path(&self, request: &str) -> String {
        match request {
            STATUS => "/api/v1/status".to_owned(),
            METRICS => "/metrics".to_owned(),
            MINUTE => format!("/api/v1/traffic?since={}", self.day.end - ROW_SECONDS),
            HOURS => format!("{}&group=hour", self.path(DAY)),
            _ => self.day.path(),
        }
    }

    /// Whether the answer has everything that it should; gives its size in bytes.
    fn check(&self, request: &str, path: &str) -> Result<usize> {
        let answer = self.gateway.api.connect()?.ask("GET", path, None)?;
        answer.expect_ok()?;
        let Day {
            networks, peers, ..
        } = self.day;
        let peers = u64::from(peers);
        let found = match request {
            METRICS => {
                let text = String::from_utf8_lossy(&answer.body);
                let found = text.lines().any(|line| line.starts_with("ringway_"));
                (u64::from(found), 1)
            }
            STATUS => {
                let found = answer.json()?["networks"]
                    .as_object()
                    .map(|all| all.len() as u64);
                (found.unwrap_or_default(), u64::from(self.networks))
            }
            MINUTE => (times(&answer.json()?), peers * u64::from(networks)),
            // A day that does not begin with an hour has parts of 25 of them.
            HOURS => {
                let hours = self.day.end.div_ceil(3600) - self.day.start() / 3600;
                (times(&answer.json()?), peers * hours)
            }
            _ => (times(&answer.json()?), peers * self.day.minutes),
        };
        ensure!(found.0 == found.1, "{path}: {} of {}", found.0, found.1);
        Ok(answer.body.len())
    }
}

impl Day {
    /// The question for all of one network's day: of one in the middle.
    pub(super) fn path(self) -> String {
        let port = tenants::port(self.networks / 2);
        format!("/api/v1/traffic?since={}&network={port}", self.start())
    }
}

/// How many times, of all peers together, an answer about traffic has.
fn times(answer: &Value) -> u64 {
    let networks = answer["networks"].as_object().into_iter().flatten();
    let devices = networks.flat_map(|(_, one)| one["devices"].as_object().into_iter().flatten());
    let times = devices.filter_map(|(_, one)| one["times"].as_object());
    times.map(|times| times.len() as u64).sum()
}

/// One request of the day's accounts, for whoever asks beside other work.
///
/// # Errors
/// When it is not answered.
pub(super) fn ask_for_the_day(gateway: &Gateway, day: Day) -> Result<()> {
    let answer = gateway.api.connect()?.ask("GET", &day.path(), None)?;
    answer.expect_ok().context("a day of one network")
}
