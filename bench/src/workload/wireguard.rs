//! Tunnels between two ends in user space: TCP and UDP through them, and what they add to a round
//! trip when nothing else is there.

use std::process::Command;

use anyhow::{Context, Result};

use super::{Case, Contest, Contestant, Outcome};
use crate::{
    lab::Lab,
    results::{Figure, Values},
    target::{Against, Target},
    wireguard::{
        FROM_GOTATUN, Family, Implementation, Pair, Plan, Side, TO_GOTATUN, Tunnel, Underlay,
        iperf::{Carried, Server, Traffic},
        ping,
    },
};

mod steps;

#[derive(Debug)]
pub(super) struct Tunnels;

/// One case: what lies below, what flows, who is at the ends.
#[derive(Clone, Copy, Debug)]
struct Course {
    name: &'static str,
    underlay: Underlay,
    /// Both inside and outside.
    family: Family,
    work: Work,
    ends: Ends,
    in_quick: bool,
}

#[derive(Clone, Copy, Debug)]
enum Work {
    /// That many flows.
    Tcp(usize),
    /// Datagrams, as many as one sender can send.
    UdpFlood,
    /// The most datagrams of which nearly all arrive.
    UdpSteps,
    /// Echoes, and nothing else.
    Idle,
}

#[derive(Clone, Copy, Debug)]
enum Ends {
    /// The same at both.
    Same,
    /// Ringway at one of them and gotatun-cli at the other.
    Mixed,
}

const ONE_FLOW_V4: &str = "TCP, 1 flow";
const EIGHT_FLOWS_V4: &str = "TCP, 8 flows";
const MIXED: &str = "TCP, mixed ends";
const FLOOD: &str = "UDP of 1,200 bytes, as much as goes";
const STEPS: &str = "UDP of 1,200 bytes, the most with 1 % lost or less";
const IDLE: &str = "idle, 100 echoes a second";

const COURSES: [Course; 13] = [
    tcp(ONE_FLOW_V4, 1).quick(),
    tcp(EIGHT_FLOWS_V4, 8),
    tcp("TCP, underlay cuts to the MTU, 1 flow", 1)
        .over(Underlay::Cut)
        .quick(),
    tcp("TCP, underlay cuts to the MTU, 8 flows", 8).over(Underlay::Cut),
    tcp("TCP, underlay cuts, GRO forwarding, 1 flow", 1).over(Underlay::CutAndForwarded),
    tcp("TCP, underlay cuts, GRO forwarding, 8 flows", 8).over(Underlay::CutAndForwarded),
    tcp("TCP, IPv6 in IPv6, 1 flow", 1).in_v6().quick(),
    tcp("TCP, IPv6 in IPv6, 8 flows", 8).in_v6(),
    tcp("TCP, mixed ends, 1 flow", 1).mixed().quick(),
    tcp("TCP, mixed ends, 8 flows", 8).mixed(),
    course(FLOOD, Work::UdpFlood),
    course(STEPS, Work::UdpSteps).quick(),
    course(IDLE, Work::Idle).quick(),
];

const fn course(name: &'static str, work: Work) -> Course {
    Course {
        name,
        underlay: Underlay::Whole,
        family: Family::V4,
        work,
        ends: Ends::Same,
        in_quick: false,
    }
}

const fn tcp(name: &'static str, flows: usize) -> Course {
    course(name, Work::Tcp(flows))
}

/// Takes part in quick runs; beside those come all implementations that are installed.
const QUICK: [Implementation; 3] = [
    Implementation::Ringway,
    Implementation::Gotatun,
    Implementation::WireguardGo,
];
const GOTATUN: &str = Implementation::Gotatun.label();
const WIREGUARD_GO: &str = Implementation::WireguardGo.label();
const RINGWAY: &str = Implementation::Ringway.label();

impl Contest for Tunnels {
    fn title(&self) -> &'static str {
        "Tunnels in user space between two ends over veth, MTU 1420"
    }

    fn subject(&self) -> Contestant {
        Contestant::Tunnel(Pair::both(Implementation::Ringway))
    }

    fn figures(&self) -> Vec<Figure> {
        vec![
            Figure::higher("rate", "throughput", "Gb/s"),
            Figure::lower("cpu", "both ends' CPU", "s/GB"),
            Figure::lower("machine", "machine's CPU without iperf3's", "s/GB"),
            Figure::lower("retransmits", "sent again", "segments/GB"),
            Figure::lower("loss", "lost", "%"),
            Figure::lower("p50", "added round trip, p50", "µs"),
            Figure::lower("p99", "added round trip, p99", "µs"),
            Figure::lower("bare", "round trip of the bare veth, p50", "µs"),
        ]
    }

    fn cases(&self, lab: &Lab) -> Vec<Case> {
        let courses = COURSES.iter();
        courses
            .map(|course| {
                let taking_part: &[Contestant] = if lab.quick && !course.in_quick {
                    &[]
                } else {
                    &course.contestants(lab)
                };
                Case::new(course.name, taking_part)
            })
            .collect()
    }

    fn targets(&self) -> Vec<Target> {
        let rate = |case, against| Target {
            case,
            figure: "rate",
            against,
        };
        let gotatun = |case, factor| rate(case, Against::Contestant(GOTATUN, factor));
        let of = |case, figure, against| Target {
            case,
            figure,
            against,
        };
        vec![
            gotatun(ONE_FLOW_V4, 5.0),
            gotatun(EIGHT_FLOWS_V4, 5.0),
            of(ONE_FLOW_V4, "cpu", Against::Asked(RINGWAY, 2.0)),
            of(EIGHT_FLOWS_V4, "cpu", Against::Asked(RINGWAY, 2.0)),
            gotatun("cuts to the MTU", 3.0),
            gotatun("GRO forwarding", 3.5),
            rate("IPv6 in IPv6, 1 flow", Against::Case(ONE_FLOW_V4, 0.9)),
            rate("IPv6 in IPv6, 8 flows", Against::Case(EIGHT_FLOWS_V4, 0.9)),
            rate(MIXED, Against::Between(TO_GOTATUN, GOTATUN, 1.0)),
            rate(MIXED, Against::Between(FROM_GOTATUN, GOTATUN, 1.0)),
            gotatun(FLOOD, 2.0),
            of(FLOOD, "loss", Against::Contestant(GOTATUN, 1.0)),
            gotatun(STEPS, 2.0),
            of(IDLE, "p50", Against::Contestant(WIREGUARD_GO, 1.0)),
            of(IDLE, "p99", Against::Contestant(WIREGUARD_GO, 1.0)),
        ]
    }

    fn measure(&self, lab: &Lab, case: usize, contestant: Contestant) -> Result<Outcome> {
        let course = COURSES.get(case).context("no such case")?;
        let Contestant::Tunnel(pair) = contestant else {
            anyhow::bail!("{} is no tunnel", contestant.label());
        };
        let plan = Plan {
            pair,
            underlay: course.underlay,
            outer: course.family,
        };
        let mut tunnel = Tunnel::open(lab, plan)?;
        let values = course.measure(lab, &tunnel)?;
        tunnel.check()?;
        Ok(Outcome {
            values,
            faults: Vec::new(),
        })
    }
}

impl Course {
    const fn over(mut self, underlay: Underlay) -> Self {
        self.underlay = underlay;
        self
    }

    const fn in_v6(mut self) -> Self {
        self.family = Family::V6;
        self
    }

    const fn mixed(mut self) -> Self {
        self.ends = Ends::Mixed;
        self
    }

    const fn quick(mut self) -> Self {
        self.in_quick = true;
        self
    }

    fn contestants(&self, lab: &Lab) -> Vec<Contestant> {
        let (ringway, gotatun) = (Implementation::Ringway, Implementation::Gotatun);
        let pairs: Vec<_> = match self.ends {
            Ends::Mixed => vec![
                Pair {
                    left: ringway,
                    right: gotatun,
                },
                Pair {
                    left: gotatun,
                    right: ringway,
                },
                Pair::both(gotatun),
            ],
            Ends::Same if lab.quick => QUICK.map(Pair::both).to_vec(),
            Ends::Same => Implementation::ALL.map(Pair::both).to_vec(),
        };
        let installed = |pair: &Pair| {
            let mut both = [pair.left, pair.right].into_iter();
            both.all(|one| lab.tools.implementation(one).is_some())
        };
        let pairs = pairs.into_iter().filter(installed);
        pairs.map(Contestant::Tunnel).collect()
    }

    fn measure(&self, lab: &Lab, tunnel: &Tunnel) -> Result<Values> {
        let load = |traffic| {
            let server = Server::start(&tunnel.right)?;
            server.load(tunnel, self.family, traffic, seconds(lab))
        };
        match self.work {
            Work::Tcp(flows) => {
                let carried = load(Traffic::Tcp { flows })?;
                let mut values = costs(&carried);
                let gigabytes = carried.rate / 8.0 * f64::from(seconds(lab));
                let each = carried.retransmits / gigabytes;
                values.insert("retransmits".to_owned(), each);
                Ok(values)
            }
            Work::UdpFlood => {
                let carried = load(Traffic::Udp { bits: 0 })?;
                let mut values = costs(&carried);
                values.insert("loss".to_owned(), carried.loss);
                Ok(values)
            }
            Work::UdpSteps => {
                let server = Server::start(&tunnel.right)?;
                let best = steps::climb(|bits| {
                    server.load(tunnel, self.family, Traffic::Udp { bits }, STEP_SECONDS)
                })?;
                let mut values = costs(&best);
                values.insert("loss".to_owned(), best.loss);
                Ok(values)
            }
            Work::Idle => idle(tunnel, seconds(lab), self.family),
        }
    }
}

/// iperf3 takes whole seconds; twice a measure's usual length, since what is sent again and where
/// threads are placed make single seconds differ.
fn seconds(lab: &Lab) -> u32 {
    let mut whole = 1;
    while f64::from(whole) < 2.0 * lab.seconds {
        whole += 1;
    }
    whole
}

/// Seconds of each step up or down.
const STEP_SECONDS: u32 = 1;

fn costs(carried: &Carried) -> Values {
    let gigabytes = carried.rate / 8.0;
    Values::from([
        ("rate".to_owned(), carried.rate),
        ("cpu".to_owned(), carried.ends / gigabytes),
        ("machine".to_owned(), carried.machine / gigabytes),
    ])
}

/// What the tunnel adds to the median of the bare underlay, which is measured right before.
fn idle(tunnel: &Tunnel, seconds: u32, family: Family) -> Result<Values> {
    let (left, seconds) = (&tunnel.left, f64::from(seconds));
    let outer = Side::Right.outer(family);
    let bare = ping::round_trips(&left.sandbox, &outer, seconds, |command| {
        let mut same = Command::new(command.get_program());
        same.args(command.get_args());
        same
    })?;
    let inner = Side::Right.inner(family);
    let through = ping::round_trips(&left.sandbox, &inner, seconds, |command| {
        left.inside(command)
    })?;
    Ok(Values::from([
        ("p50".to_owned(), through.p50 - bare.p50),
        ("p99".to_owned(), through.p99 - bare.p50),
        ("bare".to_owned(), bare.p50),
    ]))
}
