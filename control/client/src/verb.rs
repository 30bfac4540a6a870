//! The command line of the client verbs.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand, ValueEnum, builder::PossibleValuesParser};
use clap_complete::Shell;
use control_api::answer::CertificateState;

use crate::{api::Address, exit::STATUSES, since::Since};

/// A verb that talks to a running gateway, or writes what a shell and a reader of man pages need.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// Make a state document the whole desired state.
    ///
    /// Networks that are not in the document are removed, but for those of other owners. Applying the
    /// same document again changes nothing and disturbs no connection. A document with any problem is refused: every problem is
    /// printed, and nothing changes.
    #[command(after_help = STATUSES)]
    Apply(ApplyArgs),
    /// Show what applying a state document would do.
    #[command(after_help = STATUSES)]
    Diff(DiffArgs),
    /// Print the desired state as a document for `apply`.
    ///
    /// Secrets read "(kept)"; applying such a document keeps them.
    #[command(after_help = STATUSES)]
    Config(ConfigArgs),
    /// Show desired against actual: networks, peers, routes, workers, and what is degraded.
    #[command(after_help = STATUSES)]
    Status(StatusArgs),
    /// List certificates that are served or to be obtained, or show the details of one.
    ///
    /// The exit status is 3 if one of them is missing or has expired.
    #[command(after_help = STATUSES)]
    Certificates(CertificatesArgs),
    /// Show the traffic of peers, or of routes and clients.
    #[command(after_help = STATUSES)]
    Traffic(TrafficArgs),
    /// Follow events: peers connect and disconnect, networks degrade, state is applied.
    ///
    /// Runs until it is interrupted. After a lost connection it continues where it stopped.
    #[command(after_help = STATUSES)]
    Events(EventsArgs),
    /// List the generations of the desired state that are kept for a rollback.
    #[command(after_help = STATUSES)]
    Generations(ListArgs),
    /// Make an earlier generation the desired state again.
    #[command(after_help = STATUSES)]
    Rollback(RollbackArgs),
    /// Show the audit log: who asked for what, and the result.
    #[command(after_help = STATUSES)]
    Audit(AuditArgs),
    /// Watch networks, peers, routes and workers live.
    #[command(after_help = STATUSES)]
    Top(TopArgs),
    /// Print the completions for a shell.
    Completions(CompletionsArgs),
    /// Print the manual page, or write all manual pages into a folder.
    Man(ManArgs),
}

/// Where the API is and what opens it.
#[derive(Args, Clone, Debug)]
pub struct Reach {
    /// The address of the API: http://127.0.0.1:8080 (an IP address) or unix:/run/ringway/api.sock
    /// [default: the socket if it exists, otherwise http://127.0.0.1:8080]
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "RINGWAY_API",
        help_heading = "The API"
    )]
    pub(crate) api: Option<Address>,
    /// A file with the token [default: the value of RINGWAY_TOKEN; through the default socket also
    /// /etc/ringway/token]
    #[arg(
        long,
        value_name = "FILE",
        env = "RINGWAY_TOKEN_FILE",
        help_heading = "The API"
    )]
    pub(crate) token_file: Option<PathBuf>,
    /// Timeout for one request
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "30s",
        value_parser = humantime::parse_duration,
        help_heading = "The API"
    )]
    pub(crate) timeout: Duration,
}

/// The same ahead of the verb, where many write it.
#[derive(Args, Clone, Debug, Default)]
pub struct ReachAhead {
    /// The address of the API; this and the next two options may also follow the command
    #[arg(long, value_name = "ADDRESS", help_heading = "The API")]
    api: Option<Address>,
    /// A file with the token
    #[arg(long, value_name = "FILE", help_heading = "The API")]
    token_file: Option<PathBuf>,
    /// Timeout for one request
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = humantime::parse_duration,
        help_heading = "The API"
    )]
    timeout: Option<Duration>,
}

impl ReachAhead {
    /// Whether anything of it was written.
    pub fn is_written(&self) -> bool {
        self.api.is_some() || self.token_file.is_some() || self.timeout.is_some()
    }

    /// Has it count for a verb, but for what was written after the verb as well. `is_after` answers
    /// for an argument, by its name. False when the verb asks no gateway.
    pub fn count_for(self, verb: &mut Verb, is_after: impl Fn(&str) -> bool) -> bool {
        let is_written = self.is_written();
        let Some(reach) = verb.reach_mut() else {
            return !is_written;
        };
        if self.api.is_some() && !is_after("api") {
            reach.api = self.api;
        }
        if self.token_file.is_some() && !is_after("token_file") {
            reach.token_file = self.token_file;
        }
        if let Some(timeout) = self.timeout.filter(|_| !is_after("timeout")) {
            reach.timeout = timeout;
        }
        true
    }
}

impl Verb {
    fn reach_mut(&mut self) -> Option<&mut Reach> {
        Some(match self {
            Self::Apply(args) => &mut args.reach,
            Self::Diff(args) => &mut args.reach,
            Self::Config(args) => &mut args.reach,
            Self::Status(args) => &mut args.reach,
            Self::Certificates(args) => &mut args.reach,
            Self::Traffic(args) => &mut args.reach,
            Self::Events(args) => &mut args.reach,
            Self::Generations(args) => &mut args.reach,
            Self::Rollback(args) => &mut args.reach,
            Self::Audit(args) => &mut args.reach,
            Self::Top(args) => &mut args.reach,
            Self::Completions(_) | Self::Man(_) => return None,
        })
    }
}

/// How the answer is shown.
#[derive(Args, Clone, Debug)]
pub struct Form {
    /// Print the API's response in JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Showing again and again.
#[derive(Args, Clone, Debug)]
pub struct Watch {
    /// Repeat every SECONDS [default: 2] until interrupted
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "2",
        value_parser = clap::value_parser!(u32).range(1..=86_400)
    )]
    pub(crate) watch: Option<u32>,
}

/// `ringway apply`.
#[derive(Args, Clone, Debug)]
pub struct ApplyArgs {
    /// The state document; `-` reads standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) change: Change,
    #[command(flatten)]
    pub(crate) form: Form,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// Whose part of the desired state is meant.
#[derive(Args, Clone, Debug, Default)]
pub struct Owners {
    /// Whose networks, routes and peers; those of others stay as they are [default: api]
    #[arg(long, value_name = "NAME")]
    pub(crate) owner: Option<String>,
    /// Those of all owners, each with its "owner" in the document
    #[arg(long, value_name = "WHOSE", conflicts_with = "owner")]
    pub(crate) owners: Option<Everybody>,
}

/// The word for all owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Everybody {
    /// All of them.
    All,
}

/// How a change is asked for.
#[derive(Args, Clone, Debug)]
pub struct Change {
    #[command(flatten)]
    pub(crate) owners: Owners,
    /// Remove what other owners have in a network together with it
    #[arg(long)]
    pub(crate) cascade: bool,
    /// Print what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Return when every worker runs the new state
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) wait: bool,
    /// Refuse unless this is the desired generation
    #[arg(long, value_name = "GENERATION")]
    pub(crate) if_match: Option<u64>,
}

/// `ringway diff`.
#[derive(Args, Clone, Debug)]
pub struct DiffArgs {
    /// The state document; `-` reads standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) owners: Owners,
    /// Remove what other owners have in a network together with it
    #[arg(long)]
    pub(crate) cascade: bool,
    #[command(flatten)]
    pub(crate) form: Form,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// `ringway config`.
#[derive(Args, Clone, Debug)]
pub struct ConfigArgs {
    /// Include secrets; for admins
    #[arg(long)]
    pub(crate) secrets: bool,
    #[command(flatten)]
    pub(crate) owners: Owners,
    #[command(flatten)]
    pub(crate) reach: Reach,
    /// Print the document on one line
    #[arg(long)]
    pub(crate) json: bool,
}

/// `ringway status`.
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    /// Only this network, with its peers and routes (its port, its name or its public key)
    #[arg(value_name = "NETWORK")]
    pub(crate) network: Option<String>,
    #[command(flatten)]
    pub(crate) watch: Watch,
    #[command(flatten)]
    pub(crate) form: Form,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// `ringway certificates`.
#[derive(Args, Clone, Debug)]
pub struct CertificatesArgs {
    /// Only the certificates for this host or `*.domain`, or in this file, with all details
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Only those of this network (its port)
    #[arg(long, value_name = "PORT")]
    pub(crate) network: Option<u16>,
    /// Only those in this state
    #[arg(long, value_name = "STATE", value_parser = certificate_state())]
    pub(crate) state: Option<String>,
    #[command(flatten)]
    pub(crate) watch: Watch,
    #[command(flatten)]
    pub(crate) form: Form,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

fn certificate_state() -> PossibleValuesParser {
    CertificateState::ALL.map(CertificateState::word).into()
}

/// `ringway traffic`.
#[derive(Args, Clone, Debug)]
pub struct TrafficArgs {
    /// Only traffic after this time: a duration back from now (24h), a time (2026-11-21T08:00:00Z)
    /// or seconds since 1970
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Since>,
    /// Only traffic until this time; as --since
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<Since>,
    /// Only this network (its port or its public key)
    #[arg(long, value_name = "NETWORK")]
    pub(crate) network: Option<String>,
    /// Only this peer (its public key)
    #[arg(long, value_name = "KEY")]
    pub(crate) peer: Option<String>,
    /// Print one line for each hour or day
    #[arg(long, value_name = "SPAN")]
    pub(crate) group: Option<Group>,
    /// Show the traffic of routes and clients instead of peers
    #[arg(long)]
    pub(crate) routes: bool,
    #[command(flatten)]
    pub(crate) watch: Watch,
    #[command(flatten)]
    pub(crate) form: Form,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// Spans that accounts are summed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Group {
    /// Hours, in UTC.
    Hour,
    /// Days, in UTC.
    Day,
}

/// `ringway events`.
#[derive(Args, Clone, Debug)]
pub struct EventsArgs {
    /// Start after this event; 0 shows all stored events [default: only new events]
    #[arg(long, value_name = "ID")]
    pub(crate) since_id: Option<u64>,
    /// Stop after this number of events
    #[arg(long, value_name = "NUMBER")]
    pub(crate) count: Option<u64>,
    #[command(flatten)]
    pub(crate) form: Form,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// `ringway generations`.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    /// Only those that changed the part of this owner
    #[arg(long, value_name = "NAME")]
    pub(crate) owner: Option<String>,
    #[command(flatten)]
    pub(crate) watch: Watch,
    #[command(flatten)]
    pub(crate) form: Form,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// `ringway rollback`.
#[derive(Args, Clone, Debug)]
pub struct RollbackArgs {
    /// The generation, as in `ringway generations`
    #[arg(value_name = "GENERATION")]
    pub(crate) generation: u64,
    #[command(flatten)]
    pub(crate) change: Change,
    #[command(flatten)]
    pub(crate) form: Form,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// `ringway audit`.
#[derive(Args, Clone, Debug)]
pub struct AuditArgs {
    /// The number of entries, newest first
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) watch: Watch,
    #[command(flatten)]
    pub(crate) form: Form,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// `ringway top`.
#[derive(Args, Clone, Debug)]
pub struct TopArgs {
    /// Seconds between two updates
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=3600)
    )]
    pub(crate) interval: u32,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// `ringway completions`.
#[derive(Args, Clone, Debug)]
pub struct CompletionsArgs {
    /// The shell
    pub(crate) shell: Shell,
}

/// `ringway man`.
#[derive(Args, Clone, Debug)]
pub struct ManArgs {
    /// An existing folder for the pages of all commands; without it, the main page is printed
    #[arg(value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
}
