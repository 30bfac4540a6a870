//! Networks that are declared over the API: how long until they are there, until a change of one
//! of them is, until they are gone; and what they cost at rest.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{Case, Contest, Contestant, Outcome};
use crate::{
    gateway::{Backend, Gateway},
    lab::Lab,
    measure,
    results::{Figure, Values},
    sandbox,
    statistics::Spread,
    target::{Against, Target},
    tenants,
};

mod device;

#[derive(Debug)]
pub(super) struct Apply;

/// How much is declared.
#[derive(Clone, Copy, Debug)]
struct Size {
    label: &'static str,
    networks: u16,
    /// Of each network.
    peers: u16,
    in_quick: bool,
}

const MANY: &str = "500 networks of 10 peers";

const SIZES: [Size; 5] = [
    size("1 network of 10 peers", 1, 10, true),
    size("100 networks of 10 peers", 100, 10, true),
    size(MANY, 500, 10, false),
    size("1 network of 1,000 peers", 1, 1_000, true),
    size("1 network of 10,000 peers", 1, 10_000, false),
];

const fn size(label: &'static str, networks: u16, peers: u16, in_quick: bool) -> Size {
    Size {
        label,
        networks,
        peers,
        in_quick,
    }
}

/// The cases, by number; the second only where the kernel can.
const BACKENDS: [Backend; 2] = [Backend::Userspace, Backend::Kernel];

/// Changes of one peer in each round.
const CHANGES: u16 = 20;
/// Networks from which on the memory of one is told; the gateway's own noise is larger before.
const MEMORY_NETWORKS_MIN: u16 = 100;
/// Peers of one network from which on the memory of one is told.
const MEMORY_PEERS_MIN: u16 = 1_000;
/// How long the gateway is left alone: a full observation every 30 s is in it.
const REST: Duration = Duration::from_secs(30);
const REST_QUICK: Duration = Duration::from_secs(3);

impl Contest for Apply {
    fn title(&self) -> &'static str {
        "Networks declared over the API, from nothing, changed and removed"
    }

    fn subject(&self) -> Contestant {
        Contestant::Variant(MANY)
    }

    fn compares(&self) -> bool {
        false
    }

    fn figures(&self) -> Vec<Figure> {
        vec![
            Figure::lower("apply", "from nothing", "s"),
            Figure::lower("change", "one peer changed, until its device says so", "ms"),
            Figure::lower("change_max", "the slowest of 20 changes", "ms"),
            Figure::lower("again", "the same again", "ms"),
            Figure::lower("remove", "all removed", "s"),
            Figure::lower("rest", "gateway's CPU at rest", "ms/s"),
            Figure::lower("user", "gateway's memory (PSS)", "KiB/network"),
            Figure::lower("kernel", "kernel slab, whole machine", "KiB/network"),
            Figure::lower("peer", "gateway's memory (PSS)", "bytes/peer"),
        ]
    }

    fn cases(&self, lab: &Lab) -> Vec<Case> {
        let sizes = SIZES.iter().filter(|size| size.in_quick || !lab.quick);
        let sizes: Vec<_> = sizes.map(|size| Contestant::Variant(size.label)).collect();
        let backends = BACKENDS.into_iter();
        backends
            .filter(|backend| *backend == Backend::Userspace || sandbox::has_kernel_wireguard())
            .map(|backend| Case::new(format!("{} WireGuard devices", backend.word()), &sizes))
            .collect()
    }

    fn targets(&self) -> Vec<Target> {
        let asked = |case, figure, bound| Target {
            case,
            figure,
            against: Against::Asked(MANY, bound),
        };
        vec![
            asked("userspace", "apply", 20.0),
            asked("kernel", "apply", 10.0),
            asked("devices", "change", 100.0),
        ]
    }

    fn measure(&self, lab: &Lab, case: usize, contestant: Contestant) -> Result<Outcome> {
        let size = SIZES.iter().find(|size| size.label == contestant.label());
        let size = *size.context("no such size")?;
        let backend = *BACKENDS.get(case).context("no such case")?;
        let values = sandbox::within(|| size.measure(lab, backend))?;
        Ok(Outcome {
            values,
            faults: Vec::new(),
        })
    }
}

impl Size {
    fn measure(self, lab: &Lab, backend: Backend) -> Result<Values> {
        let mut gateway = Gateway::start(lab, backend, None)?;
        // The first network of all brings buffers with it that stay, however many there are.
        gateway.api.apply(&tenants::text(1, 1))?;
        gateway.api.apply("{}")?;
        let document = tenants::text(self.networks, self.peers);
        let before = Memory::of(&gateway)?;
        let mut values = Values::new();

        let (applied, took) = timed(|| gateway.api.apply(&document))?;
        ensure!(applied["changed"] == true, "nothing changed: {applied}");
        values.insert("apply".to_owned(), took.as_secs_f64());
        let (again, took) = timed(|| gateway.api.apply(&document))?;
        ensure!(again["changed"] == false, "changed again: {again}");
        values.insert("again".to_owned(), milliseconds(took));
        gateway.check()?;
        self.memory(&before, &Memory::of(&gateway)?, &mut values);

        let changes = self.change(&gateway, backend)?;
        values.insert("change".to_owned(), changes.median);
        values.insert("change_max".to_owned(), changes.max);
        // Half a minute each: only where there is enough to look after.
        if lab.quick || self.label == MANY {
            values.insert("rest".to_owned(), rest(&gateway, lab)?);
        }

        let (_, took) = timed(|| gateway.api.apply("{}"))?;
        values.insert("remove".to_owned(), took.as_secs_f64());
        gateway.check()?;
        Ok(values)
    }

    /// Gives one peer after the other, in networks far apart, another address.
    fn change(self, gateway: &Gateway, backend: Backend) -> Result<Spread> {
        let mut times = Vec::new();
        for change in 0..CHANGES {
            let network = change * (self.networks / CHANGES).max(1) % self.networks;
            let peer = change % self.peers;
            let port = tenants::port(network);
            let key = tenants::peer_key(network, peer);
            let prefix = format!("10.200.{change}.1/32");
            let body = json!({ "allowed_ips": [prefix] }).to_string();
            let path = format!("/api/v1/networks/{port}/peers/{key}");
            let start = Instant::now();
            gateway.api.ask("PUT", &path, Some(&body))?;
            device::wait_until_shown(backend, port, &prefix)?;
            times.push(milliseconds(start.elapsed()));
        }
        Spread::of(&times).context("no changes")
    }

    fn memory(self, before: &Memory, after: &Memory, values: &mut Values) {
        let grown =
            |after: u64, before: u64, by: u16| (after as f64 - before as f64) / f64::from(by);
        if self.networks >= MEMORY_NETWORKS_MIN {
            let each = |after, before| grown(after, before, self.networks) / 1024.0;
            values.insert("user".to_owned(), each(after.user, before.user));
            values.insert("kernel".to_owned(), each(after.kernel, before.kernel));
        }
        if self.peers >= MEMORY_PEERS_MIN {
            let each = grown(after.user, before.user, self.peers);
            values.insert("peer".to_owned(), each);
        }
    }
}

/// Memory at one moment, in bytes.
struct Memory {
    user: u64,
    kernel: u64,
}

impl Memory {
    fn of(gateway: &Gateway) -> Result<Self> {
        Ok(Self {
            kernel: measure::settled_slab()?,
            user: measure::proportional_set(gateway.pid())?,
        })
    }
}

/// Milliseconds of processor time that the gateway uses in each second when nothing is asked.
fn rest(gateway: &Gateway, lab: &Lab) -> Result<f64> {
    let account = || measure::cpu_time(gateway.pid());
    let rest = if lab.quick { REST_QUICK } else { REST };
    let ((), cores) = measure::cores(account, || {
        thread::sleep(rest);
        Ok(())
    })?;
    Ok(cores * 1000.0)
}

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let start = Instant::now();
    let result = work()?;
    Ok((result, start.elapsed()))
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
