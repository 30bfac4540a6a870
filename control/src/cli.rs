//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// An edge gateway that routes public connections into tenants' network namespaces.
#[derive(Debug, Parser)]
#[command(name = "ringway", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the gateway until SIGTERM or SIGINT; SIGHUP reads the boot file again.
    Serve(ServeArgs),
    /// Validate boot files and state documents, and print every problem with its place.
    Check(CheckArgs),
    #[command(flatten)]
    Client(control_client::Verb),
    /// Show the main job: two tenants with the same addresses behind WireGuard, each reached by its
    /// name, and every byte accounted.
    Demo(DemoArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// The boot file.
    #[arg(long, value_name = "FILE", env = "RINGWAY_CONFIG")]
    pub(crate) config: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Boot files and state documents, told apart by their content. The state document that a boot
    /// file names is checked with it.
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Print one JSON object instead of one problem a line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub(crate) struct DemoArgs {
    #[command(subcommand)]
    pub(crate) part: Option<DemoPart>,
    /// The port of 127.0.0.1 to listen on; when it is taken, the next free one.
    #[arg(long, default_value_t = 8443)]
    pub(crate) port: u16,
    /// End after the requests, with status 0 when all went right.
    #[arg(long)]
    pub(crate) once: bool,
    /// Print one JSON object instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A process that a demo starts, and nobody else.
#[derive(Debug, Subcommand)]
pub(crate) enum DemoPart {
    /// The gateway.
    #[command(hide = true)]
    Gateway {
        /// The demo's process.
        demo: u32,
        boot_file: PathBuf,
    },
    /// A tenant's machine; its settings are JSON on standard input.
    #[command(hide = true)]
    Peer {
        /// The demo's process.
        demo: u32,
    },
}
