//! The `ringway` binary: it wires control and the engine together.
//!
//! ```text
//!   ringway serve ─► boot file, store ─► reconcile ─► namespaces, WireGuard, snapshot ─► engine
//!                          ▲ SIGHUP         ▲ ▼ desired, accounts                         │ records
//!                                         API, store                         logs ◄───────┘
//!   ringway apply|diff|config|status|traffic|events|… ─► the API of a running `serve`
//!   ringway check ─► the same parsers
//!   ringway reload ─► SIGHUP, and what came of it
//!   ringway help  ─► the pages of the reference
//!   ringway demo  ─► `serve` and peers as processes of its own, asked over the API
//! ```
#![forbid(unsafe_code)]

mod check;
mod cli;
mod environment;
mod files;
mod help;
mod logs;
mod named;
mod pages;
mod ports;
mod priority;
mod reconcile;
mod record_log;
mod reload;
mod serve;
mod tokens;
mod written;

use std::process::ExitCode;

use clap::CommandFactory as _;

use crate::cli::{Cli, Command};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit statuses: 0 for success, 1 for problems, 2 for a wrong command line (clap's).
fn main() -> ExitCode {
    let done = match Cli::read().command {
        Command::Serve(args) => serve::run(&args.config),
        Command::Check(args) => check::run(&args.files, args.json),
        Command::Reload(args) => reload::run(&args),
        Command::Client(verb) => Ok(control_client::run(&verb, &Cli::command())),
        #[cfg(feature = "demo")]
        Command::Demo(args) => control_demo::run(&args, serve::run),
        Command::Help(args) => help::run(&args, &Cli::command()),
    };
    match done {
        Ok(status) => status,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

/// The one place that prints an error with everything behind it.
#[allow(
    clippy::print_stderr,
    reason = "the last words of a command, when no log is open"
)]
fn report(error: &anyhow::Error) {
    eprintln!("ringway: {error:#}");
}
