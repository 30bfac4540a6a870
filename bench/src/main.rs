//! Ringway's league: the same work through Ringway and its peers, in alternation.
//!
//! ```text
//!   league ─► workload ─► generator (client) ─► peer or Ringway ─► generator (server)
//!     │                        │                     │
//!     └─ rounds, order         └─ rate, latency      └─ the kernel's accounts: CPU, memory
//!                                  results ─► JSON, SVG, Markdown
//! ```
#![forbid(unsafe_code)]

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};

mod accounts;
mod api;
mod gateway;
mod generate;
mod generator;
mod lab;
mod league;
mod machine;
mod measure;
mod peer;
mod process;
mod readiness;
mod report;
mod results;
mod runtime;
mod sandbox;
mod statistics;
mod target;
mod tenants;
mod tls;
mod tools;
mod wireguard;
mod workload;

use lab::{Lab, Part};
use peer::Peer;
use tools::Tools;
use workload::Workload;

/// Measures Ringway beside its peers
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs workloads through Ringway and its peers, and writes the results
    League(League),
    /// Generates load, or serves it
    #[command(subcommand)]
    Generate(generate::Generate),
    /// Relays on one of the async runtimes
    Runtime(runtime::Relay),
    /// Carries Ringway's own WireGuard devices, without a gateway
    Device(wireguard::device::Devices),
    /// Writes the page of results again from their files
    Page {
        /// Folder of the results
        #[arg(long, default_value = "bench/results")]
        results: PathBuf,
    },
}

#[derive(Debug, Args)]
struct League {
    /// Workloads to run; all of them if none is named
    workloads: Vec<Workload>,
    /// One second a measure, three rounds, fewer peers and cases
    #[arg(long)]
    quick: bool,
    /// Peers beside Ringway, separated by commas
    #[arg(long, value_delimiter = ',')]
    peers: Vec<Peer>,
    /// Only cases whose names have one of these words in them, separated by semicolons
    #[arg(long, value_delimiter = ';')]
    cases: Vec<String>,
    /// Only contestants whose names have one of these words in them, separated by commas
    #[arg(long, value_delimiter = ',')]
    contestants: Vec<String>,
    /// Rounds of each case [default: 5, quick: 3]
    #[arg(long)]
    rounds: Option<u32>,
    /// Seconds of each measure [default: 1.5, quick: 1]
    #[arg(long)]
    seconds: Option<f64>,
    /// Folder for the results [default: bench/results, quick or a part: target/bench-quick]
    #[arg(long)]
    results: Option<PathBuf>,
    /// Folder of the peers that no package manager installs
    #[arg(
        long,
        env = "RINGWAY_BENCH_TOOLS",
        default_value = "target/bench-tools"
    )]
    tools: PathBuf,
    /// Ringway's program [default: the one beside this program]
    #[arg(long, env = "RINGWAY_BENCH_BINARY")]
    ringway: Option<PathBuf>,
}

/// The peers of a quick run.
const QUICK_PEERS: [Peer; 3] = [Peer::Haproxy, Peer::HaproxySplice, Peer::Envoy];

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::League(league) => league.run(),
        Command::Generate(generate) => generate::run(&generate),
        Command::Runtime(relay) => relay.run(),
        Command::Device(devices) => devices.run().map(|never| match never {}),
        Command::Page { results } => report::write_page(&results),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // When nobody reads the error, the exit status still tells.
            let _ = writeln!(io::stderr(), "bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl League {
    fn run(&self) -> Result<()> {
        engine_sys::process::keep_descriptors_from_children()?;
        process::end_all_when_interrupted()?;
        // The proxies inherit the limit.
        engine_sys::process::raise_descriptor_limit()?;
        let lab = self.lab()?;
        let workloads = if self.workloads.is_empty() {
            Workload::value_variants()
        } else {
            &self.workloads
        };
        let folder = self.results.as_deref().unwrap_or_else(|| {
            // A smoke test, or a part, must not pass for a result.
            Path::new(if self.quick || self.is_part() {
                "target/bench-quick"
            } else {
                "bench/results"
            })
        });
        for workload in workloads {
            let results = league::run(&lab, *workload)?;
            report::write(&results, folder)?;
            report::write_page(folder)?;
            writeln!(io::stdout(), "{}", report::markdown::section(&results))?;
        }
        Ok(())
    }

    /// Whether cases or contestants are left out.
    fn is_part(&self) -> bool {
        !self.cases.is_empty() || !self.contestants.is_empty()
    }

    fn lab(&self) -> Result<Lab> {
        let ringway = match &self.ringway {
            Some(path) => path.clone(),
            None => beside_this_program()?,
        };
        let lab = Lab {
            tools: Tools {
                ringway,
                folder: absolute(&self.tools)?,
            },
            peers: self.peers(),
            part: Part {
                cases: self.cases.clone(),
                contestants: self.contestants.clone(),
            },
            rounds: self.rounds.unwrap_or(if self.quick { 3 } else { 5 }),
            seconds: self.seconds.unwrap_or(if self.quick { 1.0 } else { 1.5 }),
            quick: self.quick,
        };
        if lab.rounds == 0 || !(0.1..=600.0).contains(&lab.seconds) {
            bail!("at least one round, and between 0.1 and 600 seconds each");
        }
        Ok(lab)
    }

    /// Ringway, and the peers that were asked for or belong to this kind of run.
    fn peers(&self) -> Vec<Peer> {
        let asked: &[Peer] = match (&self.peers[..], self.quick) {
            ([], true) => &QUICK_PEERS,
            ([], false) => Peer::value_variants(),
            (asked, _) => asked,
        };
        let mut peers = vec![Peer::Ringway];
        for peer in asked {
            if !peers.contains(peer) {
                peers.push(*peer);
            }
        }
        peers
    }
}

fn beside_this_program() -> Result<PathBuf> {
    let program = std::env::current_exe().context("cannot find this program")?;
    Ok(program.with_file_name("ringway"))
}

/// Peers run in folders of their own, so their paths must not depend on ours.
fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("cannot make {path:?} absolute"))
}
