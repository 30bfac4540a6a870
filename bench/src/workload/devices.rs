//! WireGuard devices in user space at rest: up, with a key and a peer that nobody hears of.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::{Case, Contest, Contestant, Outcome};
use crate::{
    gateway::{Backend, Gateway},
    lab::{Lab, folder},
    measure,
    process::Process,
    results::{Figure, Values},
    sandbox::{self, ip},
    target::Target,
    tenants,
    wireguard::{
        Family, Implementation, Side,
        end::{configuration, configure},
    },
};

#[derive(Debug)]
pub(super) struct Devices;

/// Networks of one gateway: a gateway holds ten descriptors for each, of 20,000 on the machine of the
/// published figures.
const NETWORKS: u16 = 1_500;
/// Devices of one process without a gateway.
const POOL: u16 = 2_000;
/// Processes with one device each.
const PROCESSES: u16 = 50;
/// In quick runs, of each.
const QUICK: u16 = 20;
/// How long they are left alone.
const REST: Duration = Duration::from_secs(10);
const REST_QUICK: Duration = Duration::from_secs(3);
/// What links have to say when they come up (router solicitations, RFC 4861 section 6.3.7: three in
/// eight seconds) is not rest.
const SETTLE: Duration = Duration::from_secs(12);
/// Time for all sockets of a process to be there.
const OPEN_TIMEOUT: Duration = Duration::from_secs(60);
/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

impl Contest for Devices {
    fn title(&self) -> &'static str {
        "WireGuard devices in user space at rest, for each device"
    }

    fn subject(&self) -> Contestant {
        Contestant::Device(Implementation::Ringway)
    }

    fn figures(&self) -> Vec<Figure> {
        vec![
            Figure::lower("user", "memory (PSS)", "KiB/device"),
            Figure::lower("rest", "CPU at rest", "µs/s for each device"),
            Figure::lower("kernel", "kernel slab, whole machine", "KiB/device"),
            Figure::lower("all", "CPU at rest of all", "ms/s"),
            Figure::higher("devices", "devices", "in all"),
        ]
    }

    fn cases(&self, lab: &Lab) -> Vec<Case> {
        let installed = |one: &Implementation| lab.tools.implementation(*one).is_some();
        let all = Implementation::ALL.into_iter().filter(installed);
        let all: Vec<_> = all.map(Contestant::Device).collect();
        let name = "in one gateway, in one process, in a process for each device";
        vec![Case::new(name, &all)]
    }

    fn targets(&self) -> Vec<Target> {
        Vec::new()
    }

    fn measure(&self, lab: &Lab, _: usize, contestant: Contestant) -> Result<Outcome> {
        let Contestant::Device(implementation) = contestant else {
            bail!("{} is no device", contestant.label());
        };
        let values = sandbox::within(|| {
            if implementation == Implementation::Ringway {
                networks(lab)
            } else {
                devices(lab, implementation)
            }
        })?;
        Ok(Outcome {
            values,
            faults: Vec::new(),
        })
    }
}

/// A gateway's, each in a namespace of its own; what the gateway is without any is left out.
fn networks(lab: &Lab) -> Result<Values> {
    let count = if lab.quick { QUICK } else { NETWORKS };
    let mut gateway = Gateway::start(lab, Backend::Userspace, None)?;
    // The first network of all brings buffers with it that stay, however many there are.
    gateway.api.apply(&tenants::text(1, 1))?;
    gateway.api.apply("{}")?;
    let before = Memory::of(&[gateway.pid()])?;
    gateway.api.apply(&tenants::text(count, 1))?;
    let values = at_rest(lab, count, &[gateway.pid()], &before)?;
    gateway.check()?;
    Ok(values)
}

/// One process with all, or a process for each.
fn devices(lab: &Lab, implementation: Implementation) -> Result<Values> {
    let program = lab.tools.implementation(implementation);
    let program = program.context("not installed")?;
    let together = implementation == Implementation::RingwayDevice;
    let count = match (lab.quick, together) {
        (true, _) => QUICK,
        (false, true) => POOL,
        (false, false) => PROCESSES,
    };
    let before = Memory::of(&[])?;
    let configuration = configuration(Side::Left, Family::V4)?;
    let mut running: Vec<(Process, TempDir)> = Vec::new();
    for number in 0..count {
        let name = format!("wg{number}");
        if !together || number == 0 {
            let mut command = implementation.device(&program, if together { "wg" } else { &name });
            if together {
                command.args(["--count", &count.to_string()]);
            }
            let dir = folder()?;
            let process = Process::start(implementation.label(), &command, dir.path(), &[])?;
            running.push((process, dir));
        }
        // Each has a port of its own: the kernel chooses.
        let configuration = configuration.replace("listen_port=51820", "listen_port=0");
        configure(&name, &configuration)?;
        ip(&["link", "set", &name, "up"])?;
    }
    wait_for_sockets(count)?;
    let pids: Vec<_> = running.iter().map(|(process, _)| process.pid()).collect();
    let values = at_rest(lab, count, &pids, &before)?;
    for (process, _) in &mut running {
        process.check_running()?;
    }
    Ok(values)
}

fn wait_for_sockets(count: u16) -> Result<()> {
    let start = Instant::now();
    let folder = Path::new("/var/run/wireguard");
    while fs::read_dir(folder)?.count() < usize::from(count) {
        if start.elapsed() > OPEN_TIMEOUT {
            bail!("not all devices are there");
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// Memory at one moment, in bytes.
struct Memory {
    user: u64,
    kernel: u64,
}

impl Memory {
    fn of(pids: &[Pid]) -> Result<Self> {
        let sizes = pids.iter().map(|pid| measure::proportional_set(*pid));
        Ok(Self {
            user: sizes.sum::<Result<u64>>()?,
            kernel: measure::settled_slab()?,
        })
    }
}

fn at_rest(lab: &Lab, count: u16, pids: &[Pid], before: &Memory) -> Result<Values> {
    let (settle, rest) = if lab.quick {
        (REST_QUICK, REST_QUICK)
    } else {
        (SETTLE, REST)
    };
    thread::sleep(settle);
    let account = || {
        let times = pids.iter().map(|pid| measure::cpu_time_of_one(*pid));
        times.sum::<Result<Duration>>()
    };
    let ((), cores) = measure::cores(account, || {
        thread::sleep(rest);
        Ok(())
    })?;
    let after = Memory::of(pids)?;
    let count = f64::from(count);
    let each = |after: u64, before: u64| (after as f64 - before as f64) / count / 1024.0;
    Ok(Values::from([
        ("rest".to_owned(), cores * 1e6 / count),
        ("all".to_owned(), cores * 1e3),
        ("user".to_owned(), each(after.user, before.user)),
        ("kernel".to_owned(), each(after.kernel, before.kernel)),
        ("devices".to_owned(), count),
    ]))
}
