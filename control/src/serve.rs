//! `ringway serve`: from the files to a running engine, and to its orderly end.
//!
//! SIGHUP reads both files again; SIGTERM and SIGINT drain, and a second one ends the drain at
//! once. systemd is told of each (sd_notify(3)), and may hand listening sockets over (LISTEN_FDS).

mod drain;
pub(crate) mod engine_config;
mod inherited;
mod reload;
mod tenants;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use control_api::{
    Severity,
    boot::{Boot, LogLevel},
    state::Desired,
};
use control_plan::{Ids, Planned, publish};
use engine::{Engine, Publication};
use engine_core::ids::Generation;
use sd_notify::NotifyState;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

pub(crate) use self::inherited::Inherited;
use self::tenants::Tenants;
use crate::{
    connection_log::ConnectionLog,
    files::{self, Files, Found},
    logs::Logs,
};

/// How often lost names of namespaces are looked for, and missing namespaces tried again.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// Watches between two looks at what was dropped.
const WATCHES_PER_REPORT: u32 = 10;

/// Serves until a signal ends it; answers 1 when it cannot start.
///
/// # Errors
/// When the log or the runtime cannot be made: all else is logged.
pub(crate) fn run(boot_file: &Path) -> anyhow::Result<ExitCode> {
    // Before any thread: the environment changes.
    let inherited = Inherited::take();
    let logs = Logs::open(LogLevel::Info)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("making the control thread's runtime")?;
    match runtime.block_on(serve(boot_file, inherited, &logs)) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "ringway does not run");
            Ok(ExitCode::FAILURE)
        }
    }
}

async fn serve(boot_file: &Path, inherited: Inherited, logs: &Logs) -> anyhow::Result<()> {
    // From here on no signal is missed.
    let mut signals = Signals::catch().context("catching signals")?;
    let mut gateway = Gateway::start(boot_file, inherited, logs)?;
    tell(&[NotifyState::Ready]);
    let mut watch = interval(WATCH_INTERVAL);
    watch.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut watches = 0_u32;
    loop {
        tokio::select! {
            _ = watch.tick() => {
                watches = watches.wrapping_add(1);
                gateway.watch();
                if watches.is_multiple_of(WATCHES_PER_REPORT) {
                    gateway.report_drops();
                }
            }
            _ = signals.hangup.recv() => gateway.reload(),
            () = ending(&mut signals.terminate, &mut signals.interrupt) => break,
        }
    }
    tell(&[NotifyState::Stopping]);
    gateway.drain(&mut signals).await;
    Ok(())
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn catch() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

/// Waits for SIGTERM or SIGINT.
async fn ending(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// A running gateway.
struct Gateway<'a> {
    boot_file: PathBuf,
    boot: Boot,
    desired: Desired,
    ids: Ids,
    generation: Generation,
    tenants: Tenants,
    engine: Engine,
    connections: ConnectionLog,
    drops_reported: u64,
    logs: &'a Logs,
}

impl<'a> Gateway<'a> {
    fn start(boot_file: &Path, inherited: Inherited, logs: &'a Logs) -> anyhow::Result<Self> {
        let Files {
            boot,
            desired,
            found,
        } = match files::load(boot_file) {
            Ok(files) => files,
            Err(found) => {
                log_problems(&found);
                anyhow::bail!("{} and what it names are refused", boot_file.display());
            }
        };
        logs.set_level(boot.log.level);
        log_problems(&found);
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            boot.json = %boot.render(),
            networks = desired.networks.len(),
            "configuration"
        );
        let (mut ids, generation) = (Ids::default(), Generation(1));
        let planned = publish(&desired, &boot.listeners, &mut ids, generation, None)
            .map_err(|_| anyhow::anyhow!("the listeners name undeclared networks"))?;
        let mut tenants = Tenants::new().context("opening the host's network namespace")?;
        let publication = tenants.open(planned);
        let (connections, records) =
            ConnectionLog::start(&boot.log.file, boot.log.queue_records_max)
                .with_context(|| format!("opening the connection log {}", boot.log.file))?;
        let config = engine_config::from_boot(&boot, inherited, records);
        let engine = Engine::start(config, publication).context("starting the engine")?;
        log_start(&engine);
        Ok(Self {
            boot_file: boot_file.to_owned(),
            boot,
            desired,
            ids,
            generation,
            tenants,
            engine,
            connections,
            drops_reported: 0,
            logs,
        })
    }

    /// Plans the desired state once more, for the listeners as they are now.
    fn plan(&mut self, desired: &Desired) -> Result<Planned, control_api::Problems> {
        let next = Generation(self.generation.0 + 1);
        let running = Some(self.engine.snapshot());
        let planned = publish(desired, &self.boot.listeners, &mut self.ids, next, running)?;
        self.generation = next;
        Ok(planned)
    }

    /// Hands a publication to the workers.
    fn publish(&mut self, publication: Publication) {
        let (generation, routes) = (self.generation.0, publication.snapshot.len());
        match self.engine.publish(publication) {
            Ok(()) => tracing::info!(generation, routes, "every worker runs the new state"),
            Err(error) => {
                tracing::error!(generation, %error, "not every worker runs the new state")
            }
        }
    }

    /// Makes lost names of namespaces again, and takes up namespaces that were missing.
    fn watch(&mut self) {
        self.tenants.restore_names();
        if !self.tenants.some_appeared() {
            return;
        }
        let desired = std::mem::take(&mut self.desired);
        // It was planned before, and only more namespaces are there now.
        if let Ok(planned) = self.plan(&desired) {
            let publication = self.tenants.open(planned);
            self.publish(publication);
        }
        self.desired = desired;
    }

    fn report_drops(&mut self) {
        let dropped = self.engine.counters().records_dropped;
        if dropped > self.drops_reported {
            let new = dropped - self.drops_reported;
            tracing::warn!(
                new,
                dropped,
                "connection records were dropped: their reader is slow"
            );
            self.drops_reported = dropped;
        }
    }
}

fn log_start(engine: &Engine) {
    let abilities = engine.abilities();
    tracing::info!(
        kernel = abilities.kernel,
        driver = engine.driver().label(),
        workers = engine.workers(),
        "started"
    );
    for missing in [&abilities.io_uring, &abilities.splice]
        .into_iter()
        .filter_map(|able| able.as_ref().err())
    {
        tracing::warn!(reason = %missing, "an ability of the kernel is missing");
    }
    for (listener, address) in engine.addresses() {
        tracing::info!(%listener, %address, "listening");
    }
}

/// Logs every problem with its place.
fn log_problems(found: &[Found]) {
    for Found { file, problems } in found {
        let file = file.display();
        for problem in problems.iter() {
            let (pointer, line) = (&problem.pointer, problem.line);
            let (variable, hint) = (problem.variable.as_deref(), problem.hint.as_deref());
            let message = &problem.message;
            match problem.severity {
                Severity::Error => {
                    tracing::error!(%file, line, variable, pointer, hint, "{message}");
                }
                Severity::Warning => {
                    tracing::warn!(%file, line, variable, pointer, hint, "{message}");
                }
            }
        }
        if problems.unlisted() > 0 {
            tracing::error!(%file, more = problems.unlisted(), "and more problems");
        }
    }
}

/// Tells the service manager, where there is one.
fn tell(news: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(news) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}
