//! Small messages over the data plane: quiet, while networks come and go and accounts are asked
//! for, and beside another process that burns as much processor time as that did.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Result, bail};
use nix::unistd::Pid;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::{Case, Contest, Contestant, NAME, Outcome, traffic};
use crate::{
    accounts::Day,
    gateway::{Backend, Gateway},
    generate::event::Event,
    generator::Generator,
    lab::{Lab, Observation},
    measure,
    results::{Figure, Values},
    sandbox,
    target::{Against, Target},
    tenants,
};

mod unrest;

use unrest::Unrest;

/// What is measured once for all rounds.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    accounts: RefCell<Option<(TempDir, Day)>>,
    /// Cores that the last measure beside the control plane saw it burn.
    burned: Cell<Option<f64>>,
}

const UNREST: &str = "networks come and go";
const QUIET: &str = "quiet";
const BURN: &str = "the same CPU burned by another process";

/// Exchanges a second: low, so that two cores have room for this and for the rest.
const RATE: &str = "5000";
/// Measured times the length of others: a round of the networks has to fit in several times.
const LONGER: f64 = 4.0;
/// Networks that come and go.
const NETWORKS: u16 = 100;
const NETWORKS_QUICK: u16 = 20;
const PEERS: u16 = 10;
/// Port of the network that the exchanges go to: far from the others'.
const STEADY: &str = "51820";
/// Time that the burning goes on after the measured time.
const AFTER: f64 = 2.0;

impl Contest for Quiet {
    fn title(&self) -> &'static str {
        "Exchanges at 5,000/s over 64 kept connections, while the control plane works"
    }

    fn subject(&self) -> Contestant {
        Contestant::Variant(UNREST)
    }

    fn figures(&self) -> Vec<Figure> {
        vec![
            Figure::lower("p99", "p99", "µs"),
            Figure::lower("p50", "p50", "µs"),
            Figure::lower("p999", "p99.9", "µs"),
            Figure::lower("cores", "burned beside the exchanges", "cores"),
            Figure::higher("changes", "applies and rollbacks", "/s"),
            Figure::higher("questions", "days of accounts asked for", "/s"),
        ]
    }

    fn cases(&self, lab: &Lab) -> Vec<Case> {
        let name = format!("{} networks applied and rolled back", networks(lab));
        let all = [UNREST, QUIET, BURN].map(Contestant::Variant);
        vec![Case::new(name, &all)]
    }

    fn targets(&self) -> Vec<Target> {
        vec![Target {
            case: "networks",
            figure: "p99",
            against: Against::Contestant(BURN, 1.1),
        }]
    }

    fn measure(&self, lab: &Lab, _: usize, contestant: Contestant) -> Result<Outcome> {
        let mut accounts = self.accounts.borrow_mut();
        let (dir, day) = match &mut *accounts {
            Some(written) => written,
            none => none.insert(traffic::write_day(lab)?),
        };
        let (store, day) = (dir.path().join(traffic::ACCOUNTS), *day);
        let run = |beside: Beside| {
            sandbox::within(|| {
                let gateway = Gateway::start(lab, Backend::Userspace, Some(&store))?;
                Measure { lab, gateway, day }.run(beside)
            })
        };
        match contestant.label() {
            UNREST => {
                let outcome = run(Beside::Unrest)?;
                self.burned.set(outcome.values.get("cores").copied());
                Ok(outcome)
            }
            BURN => {
                let cores = match self.burned.get() {
                    Some(cores) => Some(cores),
                    // The order of this round has it before anyone could know.
                    None => run(Beside::Unrest)?.values.get("cores").copied(),
                };
                run(Beside::Burn(cores.unwrap_or_default()))
            }
            _ => run(Beside::Nothing),
        }
    }
}

fn networks(lab: &Lab) -> u16 {
    if lab.quick { NETWORKS_QUICK } else { NETWORKS }
}

/// What goes on beside the exchanges.
#[derive(Clone, Copy, Debug)]
enum Beside {
    Nothing,
    Unrest,
    /// On that many cores.
    Burn(f64),
}

/// One measure, in its sandbox.
#[derive(Debug)]
struct Measure<'a> {
    lab: &'a Lab,
    gateway: Gateway,
    day: Day,
}

impl Measure<'_> {
    fn run(mut self, beside: Beside) -> Result<Outcome> {
        let (_echo, target) = Generator::serve(&["echo"], None)?;
        let calm = document(target);
        self.gateway
            .api
            .apply(&Value::Object(calm.clone()).to_string())?;
        let mut all = calm;
        all.extend(tenants::document(0..networks(self.lab), PEERS));
        let outcome = match beside {
            Beside::Nothing => self.exchange(),
            Beside::Burn(cores) => self.beside_a_burner(cores),
            Beside::Unrest => self.beside_unrest(&Value::Object(all).to_string()),
        }?;
        self.gateway.check()?;
        Ok(outcome)
    }

    fn beside_a_burner(&self, cores: f64) -> Result<Outcome> {
        let seconds = self.lab.warmup() + LONGER * self.lab.seconds + AFTER;
        let (share, seconds) = (cores.to_string(), seconds.to_string());
        let arguments = ["burn", "--cores", &share, "--seconds", &seconds];
        let mut burner = Generator::start(&arguments, None)?;
        burner.wait_for(&Event::Ready { address: None })?;
        // The burner's account: the gateway's control plane is at rest.
        let mut outcome = self.exchange_beside(|| measure::cpu_time(burner.pid()))?;
        outcome.faults.extend(falls_short(&outcome.values, cores));
        Ok(outcome)
    }

    fn beside_unrest(&self, document: &str) -> Result<Outcome> {
        let stop = AtomicBool::new(false);
        let unrest = Unrest {
            gateway: &self.gateway,
            document,
            day: self.day,
            stop: &stop,
        };
        thread::scope(|scope| {
            let changes = scope.spawn(|| unrest.change());
            let questions = scope.spawn(|| unrest.ask());
            let outcome = self.exchange();
            stop.store(true, Ordering::Relaxed);
            let (Ok(changes), Ok(questions)) = (changes.join(), questions.join()) else {
                bail!("what goes on beside the exchanges panicked");
            };
            let mut outcome = outcome?;
            outcome.values.insert("changes".to_owned(), changes?);
            outcome.values.insert("questions".to_owned(), questions?);
            Ok(outcome)
        })
    }

    /// Exchanges, and what the control plane burns meanwhile: the gateway's threads that are no
    /// workers, and whoever asks it, which is this process.
    fn exchange(&self) -> Result<Outcome> {
        let gateway = self.gateway.pid();
        self.exchange_beside(|| {
            let own = measure::cpu_time_of_one(Pid::this())?;
            Ok(measure::beside_workers(gateway)? + own)
        })
    }

    fn exchange_beside(&self, burned: impl Fn() -> Result<Duration>) -> Result<Outcome> {
        let connect = format!("127.0.0.1:{}", self.gateway.port);
        let seconds = (LONGER * self.lab.seconds).to_string();
        let warmup = self.lab.warmup().to_string();
        let arguments = [
            "exchange",
            "--connect",
            &connect,
            "--hello",
            NAME,
            "--rate",
            RATE,
            "--seconds",
            &seconds,
            "--warmup",
            &warmup,
        ];
        let mut client = Generator::start(&arguments, None)?;
        client.wait_for(&Event::Begin)?;
        let kernel = measure::kernel_work()?;
        let account = || Ok(burned()? + growth(&kernel, &measure::kernel_work()?));
        let ((), cores) = measure::cores(account, || client.wait_for(&Event::End))?;
        let observation = Observation {
            measured: client.result()?,
            ..Observation::default()
        };
        let mut values = observation.values(false);
        values.insert("cores".to_owned(), cores);
        Ok(Outcome {
            values,
            faults: observation.faults(),
        })
    }
}

/// A burner that did not get what it should have makes the comparison worthless.
fn falls_short(values: &Values, cores: f64) -> Option<String> {
    let burned = values.get("cores").copied().unwrap_or_default();
    (burned < 0.9 * cores).then(|| format!("burned {burned:.2} cores of {cores:.2}"))
}

/// Processor time that threads used since then; those that have ended are not counted.
fn growth(before: &BTreeMap<i32, Duration>, after: &BTreeMap<i32, Duration>) -> Duration {
    let since = |id: &i32| before.get(id).copied().unwrap_or_default();
    let each = after.iter().map(|(id, now)| now.saturating_sub(since(id)));
    each.sum()
}

/// The network that the exchanges go to, on the host.
fn document(target: SocketAddr) -> Map<String, Value> {
    let mut proxy = Map::new();
    proxy.insert(format!("https://{NAME}"), json!([target.to_string()]));
    let network = json!({ "netns": null, "proxy": proxy });
    Map::from_iter([(STEADY.to_owned(), network)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_is_new_counts_from_its_beginning() {
        let times = |pairs: &[(i32, u64)]| {
            let pairs = pairs.iter();
            pairs
                .map(|(id, ms)| (*id, Duration::from_millis(*ms)))
                .collect()
        };
        let (before, after) = (times(&[(1, 5), (2, 7)]), times(&[(1, 6), (3, 4)]));
        assert_eq!(growth(&before, &after), Duration::from_millis(5));
    }

    #[test]
    fn a_burner_that_starves_is_a_fault() {
        let values = |cores| Values::from([("cores".to_owned(), cores)]);
        assert!(falls_short(&values(0.5), 0.8).is_some());
        assert!(falls_short(&values(0.79), 0.8).is_none());
    }
}
