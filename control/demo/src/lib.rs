//! `ringway demo`: the main job on one machine, with nothing else installed.
//!
//! ```text
//!   TLS client ─► 127.0.0.1:8443 ─► gateway ─► network-51820 ═ WireGuard ═► blue, 10.0.0.2
//!       │                             ▲    └─► network-51821 ═ WireGuard ═► green, 10.0.0.2
//!       └─ state document, accounts ──┘ API
//! ```
//!
//! Everything is real, and each box is a process of this program: the gateway does what `serve`
//! does, and each peer has a userspace device and an HTTPS server in a namespace of its own. They
//! share a mount namespace with an empty `/run`, where all that they make is; they die with the demo,
//! and it is gone with the last of them, however that ends.
#![forbid(unsafe_code)]

mod api;
mod authority;
mod certificate;
mod client;
mod error;
mod gateway;
mod isolation;
mod narrator;
mod peer;
mod port;
mod process;
mod report;
mod site;
mod tenant;

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, SystemTime},
};

use nix::sys::signal::{SigSet, Signal};
use rustls::ClientConfig;

use self::{
    authority::Authority,
    certificate::Certificate,
    error::DemoError,
    gateway::Gateway,
    peer::Settings,
    process::{AWAITED, Part},
    report::{Chapter, Form, Report, Visit},
    tenant::Tenant,
};

/// What the demo's processes share, in a `/run` of their own.
const DIRECTORY: &str = "/run/ringway-demo";
/// How long bytes may take to be accounted after their connection's end.
const ACCOUNT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a peer may take to end.
const PEER_END_TIMEOUT: Duration = Duration::from_secs(2);

/// What the demo is told.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub struct DemoArgs {
    /// One of its processes; the demo itself unless written.
    #[command(subcommand)]
    pub part: Option<DemoPart>,
    /// The port of 127.0.0.1 to listen on; when it is taken, the next free one.
    #[arg(long, default_value_t = 8443)]
    pub port: u16,
    /// End after the requests, with status 0 when all went right.
    #[arg(long)]
    pub once: bool,
    /// Print one JSON object instead of text.
    #[arg(long)]
    pub json: bool,
}

/// A process that a demo starts, and nobody else.
#[derive(Debug, clap::Subcommand)]
pub enum DemoPart {
    /// The gateway.
    #[command(hide = true)]
    Gateway {
        /// The demo's process.
        demo: u32,
        /// Its boot file.
        boot_file: PathBuf,
    },
    /// A tenant's machine; its settings are JSON on standard input.
    #[command(hide = true)]
    Peer {
        /// The demo's process.
        demo: u32,
    },
}

/// Runs the demo, or one of its parts: `serve` is the gateway, by its boot file. Must be called before
/// any thread is started.
///
/// # Errors
/// When something that it needs cannot be had.
pub fn run(
    args: &DemoArgs,
    serve: impl FnOnce(&Path) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    match &args.part {
        None => Ok(play(args)?),
        Some(DemoPart::Gateway { demo, boot_file }) => {
            gateway::attach(*demo)?;
            serve(boot_file)
        }
        Some(DemoPart::Peer { demo }) => peer::run(*demo),
    }
}

/// Runs the demo: to its end with `--once`, and until a signal without. Exits with status 0 when
/// every tenant answered through the gateway and every byte was accounted.
fn play(args: &DemoArgs) -> Result<ExitCode, DemoError> {
    let signals = SigSet::from_iter(AWAITED);
    // Blocked in this thread and all that it starts, and taken at the end: nothing is left half
    // made by a Ctrl-C.
    signals
        .thread_block()
        .map_err(|errno| DemoError::Signal(errno.into()))?;
    let form = if args.json { Form::Json } else { Form::Text };

    let authority = Authority::new()?;
    // Where curl can read it: outside of what follows.
    let certificate = Certificate::write(&authority.pem())?;
    isolation::isolate()?;
    let directory = Path::new(DIRECTORY);
    fs::create_dir(directory).map_err(|source| DemoError::Write(directory.to_owned(), source))?;

    let mut gateway = Gateway::start(args.port, directory)?;
    let mut peers = Vec::new();
    let report = tell(
        &mut gateway,
        &mut peers,
        &authority,
        certificate.path(),
        !args.once,
    )?;
    report.print(form).map_err(DemoError::Print)?;
    if report.stays {
        if form == Form::Text {
            gateway.narrate();
        }
        wait_for_end(&signals, &mut gateway, &mut peers)?;
    }
    gateway.end();
    for peer in peers {
        peer.end(PEER_END_TIMEOUT);
    }
    Ok(if report.is_right() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The story: networks are declared, their peers come, clients ask for them, and the accounts tell.
fn tell(
    gateway: &mut Gateway,
    peers: &mut Vec<Part>,
    authority: &Authority,
    certificate: &Path,
    stays: bool,
) -> Result<Report, DemoError> {
    let tenants = tenant::prepare()?;
    let facts = gateway.facts()?;
    let applied = gateway.declare(&tenants)?;
    for tenant in &tenants {
        peers.push(start_peer(tenant, authority)?);
    }
    let connected = gateway.wait_for_peers(&tenants, peers)?;
    let now = unix_now();
    let tls = authority.client()?;
    let visits = tenants.iter().map(|tenant| visit(gateway, tenant, &tls));
    let visits = visits.collect::<Result<Vec<Visit>, _>>()?;
    let accounts = gateway.accounts(&tenants, ACCOUNT_TIMEOUT, |accounts| {
        let mut both = visits.iter().zip(accounts);
        both.all(|(visit, accounts)| visit.is_relayed_as(accounts) && visit.is_carried_by(accounts))
    })?;
    let told = tenants.iter().zip(&*peers).zip(connected);
    let told = told.zip(visits.into_iter().zip(accounts));
    let chapters = told.map(|(((tenant, part), peer), (visit, accounts))| Chapter {
        names: tenant.names,
        port: tenant.port.number(),
        process: part.process(),
        handshake_age: peer.last_handshake.map(|at| now.saturating_sub(at)),
        peer,
        visit,
        accounts,
    });
    Ok(Report {
        gateway: gateway.address(),
        gateway_process: gateway.process(),
        facts,
        applied,
        chapters: chapters.collect(),
        certificate: certificate.to_owned(),
        socket: gateway.api().socket().to_owned(),
        process: std::process::id(),
        program: std::env::args()
            .next()
            .unwrap_or_else(|| "ringway".to_owned()),
        stays,
    })
}

fn start_peer(tenant: &Tenant, authority: &Authority) -> Result<Part, DemoError> {
    let (name, directory) = (
        tenant.names.name,
        Path::new(DIRECTORY).join(tenant.names.name),
    );
    fs::create_dir(&directory).map_err(|source| DemoError::Write(directory.clone(), source))?;
    let settings = Settings {
        name: name.to_owned(),
        network: tenant.network(),
        private_key: tenant.peer_key.private.clone(),
        gateway_key: tenant.network_key.public,
        endpoint: tenant.endpoint(),
        identity: authority.certify(tenant.names.hostname)?,
        directory,
    };
    let settings = serde_json::to_vec(&settings).map_err(|source| DemoError::Tell(name, source))?;
    let log = Path::new(DIRECTORY).join(format!("{name}.log"));
    Part::start((name, "peer"), &[], &settings, log)
}

/// Asks one tenant over HTTPS, and counts the bytes that this takes.
fn visit(gateway: &Gateway, tenant: &Tenant, tls: &Arc<ClientConfig>) -> Result<Visit, DemoError> {
    let hostname = tenant.names.hostname;
    let ask = |source| DemoError::Ask(hostname, source);
    let answer = client::ask(gateway.address(), hostname, tls).map_err(ask)?;
    let text = answer.body().ok_or(DemoError::Answer(hostname))?.to_owned();
    Ok(Visit {
        text,
        sent: answer.sent,
        received: answer.received,
    })
}

/// Waits until somebody wants it to end. A part that ends before is a failure.
fn wait_for_end(
    signals: &SigSet,
    gateway: &mut Gateway,
    peers: &mut [Part],
) -> Result<(), DemoError> {
    loop {
        let signal = signals
            .wait()
            .map_err(|errno| DemoError::Signal(io::Error::from(errno)))?;
        if signal != Signal::SIGCHLD {
            return Ok(());
        }
        gateway.part().check()?;
        for peer in &mut *peers {
            peer.check()?;
        }
    }
}

/// Loopback, so that the demo serves nobody but this machine.
fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn unix_now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
