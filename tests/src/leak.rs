//! What a process or the lab holds, to compare before and after.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context as _, Result};

use crate::{gateway::Gateway, peer::SOCKETS, tool::Tool, wait::eventually};

/// The open descriptors of a process, counted by kind: `socket`, `pipe`, `anon_inode:[eventfd]`, or
/// the path of a file.
///
/// # Errors
/// When the process is gone.
pub fn descriptors(process: u32) -> Result<BTreeMap<String, usize>> {
    let mut counts = BTreeMap::new();
    let directory = format!("/proc/{process}/fd");
    for entry in fs::read_dir(&directory).with_context(|| format!("reading {directory}"))? {
        // One that was closed since the directory was read is not open.
        let Ok(target) = fs::read_link(entry?.path()) else {
            continue;
        };
        let target = target.to_string_lossy().into_owned();
        let kind = match target.split_once(":[") {
            Some((kind, _)) if kind != "anon_inode" => kind.to_owned(),
            Some(_) | None => target,
        };
        *counts.entry(kind).or_insert(0) += 1;
    }
    Ok(counts)
}

/// The sockets among [`descriptors`].
///
/// # Errors
/// When the process is gone.
pub fn sockets(process: u32) -> Result<usize> {
    Ok(descriptors(process)?.get("socket").copied().unwrap_or(0))
}

/// The memory that is a process's own and present, in bytes: anonymous pages, not files.
///
/// # Errors
/// When the process is gone.
pub fn memory(process: u32) -> Result<u64> {
    let path = format!("/proc/{process}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kibibytes: u64 = kibibytes.context("no RssAnon")?.parse()?;
    Ok(kibibytes * 1024)
}

/// The processor time of a process so far, in clock ticks (a hundredth of a second; proc(5)).
///
/// # Errors
/// When the process is gone.
pub fn cpu_ticks(process: u32) -> Result<u64> {
    let path = format!("/proc/{process}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    // The second field is a name in parentheses, with anything in it.
    let (_, fields) = stat.rsplit_once(") ").context("no name")?;
    let times = fields.split(' ').skip(11).take(2);
    let times = times
        .map(str::parse::<u64>)
        .collect::<Result<Vec<_>, _>>()?;
    Ok(times.iter().sum())
}

/// Namespaces, devices, sockets, tables: all gone. Userspace devices end in the background, right
/// after they were removed.
///
/// # Errors
/// Says what is left.
pub fn nothing_is_left(gateway: &Gateway) -> Result<()> {
    let mut last = Vec::new();
    let gone = eventually("nothing is left", || {
        last = leftovers().unwrap_or_else(|error| vec![format!("{error:#}")]);
        last.is_empty().then_some(())
    });
    gone.with_context(|| format!("{last:?}"))?;
    gateway.wait_until_quiet()
}

fn leftovers() -> Result<Vec<String>> {
    let names = |directory: &str| {
        if !fs::exists(directory)? {
            return Ok(Vec::new());
        }
        let entries =
            fs::read_dir(directory)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        anyhow::Ok(entries.collect::<Vec<String>>())
    };
    let mut left = names("/run/netns")?;
    left.extend(
        names(SOCKETS)?
            .into_iter()
            .filter(|name| !name.starts_with("wgpeer")),
    );
    for sockets in ["udp", "udp6"] {
        let table = fs::read_to_string(format!("/proc/self/net/{sockets}"))?;
        left.extend(table.lines().skip(1).map(str::to_owned));
    }
    let links = fs::read_to_string("/proc/self/net/dev")?;
    let devices = links.lines().filter(|line| line.trim().starts_with("wg"));
    left.extend(devices.map(str::to_owned));
    left.extend(
        Tool::new("nft", "list ruleset")
            .run()?
            .lines()
            .map(str::to_owned),
    );
    Ok(left)
}

/// What the lab holds for everybody: names of namespaces, mounts, links of the lab's own namespace.
#[derive(Debug, PartialEq, Eq)]
pub struct Surroundings {
    names: BTreeSet<String>,
    mounts: BTreeSet<String>,
    links: BTreeSet<String>,
}

impl Surroundings {
    /// What is there now.
    ///
    /// # Errors
    /// When `/proc` or `/run/netns` cannot be read.
    pub fn observe() -> Result<Self> {
        let names = fs::read_dir("/run/netns").context("reading /run/netns")?;
        let names = names.filter_map(|entry| Some(file_name(&entry.ok()?.path())));
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("reading the mounts")?;
        let mounts = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        let links = fs::read_to_string("/proc/self/net/dev").context("reading the links")?;
        let links = links
            .lines()
            .skip(2)
            .filter_map(|line| line.split(':').next());
        Ok(Self {
            names: names.collect(),
            // A shared directory of names is a mount of its own from the first name on.
            mounts: mounts
                .filter(|path| *path != "/run/netns")
                .map(str::to_owned)
                .collect(),
            links: links.map(|name| name.trim().to_owned()).collect(),
        })
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}
