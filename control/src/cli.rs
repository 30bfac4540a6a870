//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{
    ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand,
    error::ErrorKind, parser::ValueSource,
};
use control_client::ReachAhead;

/// An edge gateway that routes public connections into the network namespaces of tenants.
#[derive(Debug, Parser)]
#[command(
    name = "ringway",
    version,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    ahead: ReachAhead,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// Reads the command line; whoever wrote a wrong one is told, and the process ends with 2.
    pub(crate) fn read() -> Self {
        let matches = Self::command().get_matches();
        let read = Self::from_arg_matches(&matches);
        let read = read.and_then(|cli| cli.with_ahead(&matches));
        read.unwrap_or_else(|error| error.format(&mut Self::command()).exit())
    }

    /// What stands ahead of a verb counts for it.
    fn with_ahead(mut self, matches: &ArgMatches) -> Result<Self, clap::Error> {
        let ahead = std::mem::take(&mut self.ahead);
        let is_after = |name: &str| {
            let verb = matches.subcommand().map(|(_, verb)| verb);
            verb.and_then(|verb| verb.value_source(name)) == Some(ValueSource::CommandLine)
        };
        let counts = match &mut self.command {
            Command::Client(verb) => ahead.count_for(verb, is_after),
            Command::Serve(_) | Command::Check(_) | Command::Reload(_) | Command::Help(_) => {
                !ahead.is_written()
            }
            #[cfg(feature = "demo")]
            Command::Demo(_) => !ahead.is_written(),
        };
        if counts {
            return Ok(self);
        }
        let message = "--api, --token-file and --timeout are for verbs that ask a running gateway";
        Err(Self::command().error(ErrorKind::ArgumentConflict, message))
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the gateway until SIGTERM or SIGINT; SIGHUP reads the boot file again.
    Serve(ServeArgs),
    /// Check boot files and state documents, and print every problem with file and line.
    Check(CheckArgs),
    /// Reload the boot file of a running gateway (SIGHUP), and print the result.
    ///
    /// If the file is refused, every problem is printed, the exit status is 1, and nothing changes. Run it
    /// as root or as the gateway's user.
    Reload(ReloadArgs),
    #[command(flatten)]
    Client(control_client::Verb),
    /// Run a demo: two tenants with the same addresses behind WireGuard, each reached by its name, and
    /// every byte accounted.
    #[cfg(feature = "demo")]
    Demo(control_demo::DemoArgs),
    /// Print the help of a command, or a page of the reference.
    #[command(after_help = topics())]
    Help(HelpArgs),
}

/// The pages of the reference, for the end of a help.
fn topics() -> String {
    let pages = control_reference::PAGES.iter();
    let lines = pages.map(|page| format!("  {:<11} {}\n", page.name, page.about));
    format!("Reference pages:\n{}", lines.collect::<String>())
}

#[derive(Debug, Args)]
pub(crate) struct HelpArgs {
    /// A command, or a page of the reference; without one, the list of commands is printed.
    #[arg(value_name = "COMMAND|PAGE")]
    pub(crate) topic: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// The boot file.
    #[arg(long, value_name = "FILE", env = "RINGWAY_CONFIG")]
    pub(crate) config: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ReloadArgs {
    /// The process id of the gateway [default: the only one on this machine]
    #[arg(long, value_name = "PID", env = "MAINPID")]
    pub(crate) pid: Option<u32>,
    /// How long to wait for the result
    #[arg(
        long = "for",
        value_name = "DURATION",
        default_value = "60s",
        value_parser = humantime::parse_duration
    )]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Boot files and state documents, recognized by their content. They are checked together, with
    /// the state document that a boot file names, and with the certificates, keys and tokens that they
    /// name.
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Print one JSON object instead of one problem per line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<String, ErrorKind> {
        let matches = Cli::command().try_get_matches_from(line.split(' '));
        let matches = matches.map_err(|error| error.kind())?;
        let cli = Cli::from_arg_matches(&matches).map_err(|error| error.kind())?;
        let cli = cli.with_ahead(&matches).map_err(|error| error.kind())?;
        Ok(format!("{:?}", cli.command))
    }

    #[test]
    fn where_the_api_is_may_stand_on_either_side_of_the_verb() {
        let after = read("ringway status --api 127.0.0.1:9 --token-file t --timeout 3s").unwrap();
        let ahead = read("ringway --api 127.0.0.1:9 --token-file t --timeout 3s status").unwrap();
        assert_eq!(ahead, after);
        let both =
            read("ringway --api 127.0.0.1:7 --timeout 3s status --api 127.0.0.1:9 --token-file t");
        assert_eq!(both.unwrap(), after, "the nearer one counts");
        for line in [
            "ringway --api 127.0.0.1:9 serve --config x",
            "ringway --timeout 3s check x",
            "ringway --token-file t man",
            "ringway --timeout 3s help boot",
        ] {
            assert_eq!(read(line), Err(ErrorKind::ArgumentConflict), "{line}");
        }
    }
}
