//! Ringway's league: the same work through Ringway and its peers, in alternation.
#![forbid(unsafe_code)]

use anyhow::Result;
use clap::{Parser, Subcommand};

mod generate;

/// Measures Ringway beside its peers
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Generates load, or serves it
    #[command(subcommand)]
    Generate(generate::Generate),
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Generate(generate) => generate::run(&generate),
    }
}
