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
    /// Applying the same document twice changes nothing and disturbs no connection. A document with
    /// any problem is refused with all its problems, and nothing changes.
    #[command(after_help = STATUSES)]
    Apply(ApplyArgs),
    /// Show what applying a state document would do.
    #[command(after_help = STATUSES)]
    Diff(DiffArgs),
    /// Print the desired state, as `apply` takes it.
    ///
    /// Private and pre-shared keys read "(kept)"; applying the document again keeps them.
    #[command(after_help = STATUSES)]
    Config(ConfigArgs),
    /// Show desired against actual: networks, peers, routes, workers, and what is degraded.
    #[command(after_help = STATUSES)]
    Status(StatusArgs),
    /// List the certificates that are served or to be obtained; or show all that is known of one.
    ///
    /// Ends with 3 while one of those that are shown is not there or has expired.
    #[command(after_help = STATUSES)]
    Certificates(CertificatesArgs),
    /// Show the accounts: what each peer received and sent, or what was relayed for each route.
    #[command(after_help = STATUSES)]
    Traffic(TrafficArgs),
    /// Follow what happens: peers come and go, networks degrade, state is applied.
    ///
    /// Goes on until it is interrupted, and takes up a broken connection where it broke.
    #[command(after_help = STATUSES)]
    Events(EventsArgs),
    /// List the generations of the desired state that can be returned to.
    #[command(after_help = STATUSES)]
    Generations(ListArgs),
    /// Make an earlier generation the desired state again.
    #[command(after_help = STATUSES)]
    Rollback(RollbackArgs),
    /// Show who asked for what, and what came of it.
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
    /// The API: http://127.0.0.1:8080 (an IP address) or unix:/run/ringway/api.sock [default: the
    /// socket where there is one, else http://127.0.0.1:8080]
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "RINGWAY_API",
        help_heading = "The API"
    )]
    pub(crate) api: Option<Address>,
    /// A file with the token [default: the text of RINGWAY_TOKEN; through the default socket also
    /// /etc/ringway/token]
    #[arg(
        long,
        value_name = "FILE",
        env = "RINGWAY_TOKEN_FILE",
        help_heading = "The API"
    )]
    pub(crate) token_file: Option<PathBuf>,
    /// How long one request may take
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
    /// The API; also after the verb, as the two below
    #[arg(long, value_name = "ADDRESS", help_heading = "The API")]
    api: Option<Address>,
    /// A file with the token
    #[arg(long, value_name = "FILE", help_heading = "The API")]
    token_file: Option<PathBuf>,
    /// How long one request may take
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
    /// Print the API's answer as it is, in JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Showing again and again.
#[derive(Args, Clone, Debug)]
pub struct Watch {
    /// Show it again every so many seconds, until interrupted
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

/// How a change is asked for.
#[derive(Args, Clone, Debug)]
pub struct Change {
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Return when every worker runs it
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
    pub(crate) form: Form,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// `ringway config`.
#[derive(Args, Clone, Debug)]
pub struct ConfigArgs {
    /// With private and pre-shared keys; for admins
    #[arg(long)]
    pub(crate) secrets: bool,
    #[command(flatten)]
    pub(crate) reach: Reach,
    /// Print it on one line, as the API answers it
    #[arg(long)]
    pub(crate) json: bool,
}

/// `ringway status`.
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    /// Only this network, with its peers and routes: its port, its name or its public key
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
    /// Only what is for this host or `*.domain`, or in the file of this path, with all that is known
    /// of it
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Only those of this network: its port
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
    /// Only what came after: a duration back from now (24h), a time (2026-11-21T08:00:00Z) or
    /// seconds since 1970
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Since>,
    /// Only what came until then; as --since
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<Since>,
    /// Only this network: its port or its public key
    #[arg(long, value_name = "NETWORK")]
    pub(crate) network: Option<String>,
    /// Only this peer: its public key
    #[arg(long, value_name = "KEY")]
    pub(crate) peer: Option<String>,
    /// A line for each hour or day
    #[arg(long, value_name = "SPAN")]
    pub(crate) group: Option<Group>,
    /// What was relayed for each route and client, instead of what the peers moved
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
    /// Begin after this event; 0 shows all that are kept [default: only what happens from now on]
    #[arg(long, value_name = "ID")]
    pub(crate) since_id: Option<u64>,
    /// End after so many events
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
    /// One of `ringway generations`
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
    /// So many entries, the newest first
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
    /// Seconds between two looks
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
    /// For which shell
    pub(crate) shell: Shell,
}

/// `ringway man`.
#[derive(Args, Clone, Debug)]
pub struct ManArgs {
    /// An existing folder, for a page for each verb; without one, the main page is printed
    #[arg(value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
}
