//! `ringway serve`: from the boot file and the store to a running gateway, and to its orderly end.
//!
//! SIGHUP reads the boot file again; SIGUSR1 has the logs opened again; SIGTERM, SIGINT and SIGQUIT
//! drain, and a second one ends the drain at once; SIGUSR2 does nothing. systemd is told of each (sd_notify(3)), hears that the threads are alive (WATCHDOG=1), and
//! may hand listening sockets over (LISTEN_FDS).

mod api;
mod certificates;
pub(crate) mod engine_config;
mod inherited;
mod lock;
mod notices;
mod reload;
pub(crate) mod results;
mod start;
mod stored;

use std::{path::Path, process::ExitCode, time::Duration};

use anyhow::Context as _;
use control_api::{
    Severity,
    boot::{ApiListen, LogLevel},
};
use control_http::Listener;
use sd_notify::NotifyState;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

use self::{
    api::Api,
    results::Results,
    start::{Gateway, give_way_or_warn},
};
pub(crate) use self::{inherited::Inherited, reload::adopt};
use crate::{
    files::Found,
    logs::Logs,
    pages,
    reconcile::{Drain, Order},
};

/// How often the service manager hears that the gateway is alive, when it wants to.
const WATCHDOG_PERIOD: Duration = Duration::from_secs(1);
/// Silence of the reconcile thread after which it counts as stuck: one step of it may wait for a
/// locked database.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How long the end waits for what tasks have done on threads of their own.
const STRAGGLERS_TIMEOUT: Duration = Duration::from_millis(500);

/// Serves until a signal ends it; answers 1 when it cannot start.
///
/// # Errors
/// When the log or the runtime cannot be made: all else is logged.
pub(crate) fn run(boot_file: &Path) -> anyhow::Result<ExitCode> {
    // Before any thread: the environment changes, and threads bring memory of their own.
    let small = pages::keep_small();
    let inherited = Inherited::take();
    let logs = Logs::open(LogLevel::Info)?;
    if let Err(error) = small {
        tracing::warn!(%error, "memory may be of huge pages, which takes more of it");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("making the control thread's runtime")?;
    let serve = || {
        // From here on no signal is missed.
        let signals = {
            let _inside = runtime.enter();
            Signals::catch().context("catching signals")?
        };
        // The store and the kernel are asked in blocking calls.
        let listen = |listen: &ApiListen| runtime.block_on(Listener::bind(listen));
        let gateway = Gateway::start(boot_file, inherited, &logs, listen)?;
        runtime.block_on(serve(gateway, signals))
    };
    let served = serve();
    // A look-up or a file that hangs is not waited for.
    runtime.shutdown_timeout(STRAGGLERS_TIMEOUT);
    match served {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "ringway does not run");
            Ok(ExitCode::FAILURE)
        }
    }
}

async fn serve(mut gateway: Gateway<'_>, mut signals: Signals) -> anyhow::Result<()> {
    // Everything that carries packets runs by now, with the priority that it was started with.
    give_way_or_warn();
    gateway.start_certificates();
    let api = Api::start(&mut gateway).context("starting the API")?;
    let results = Results::start();
    gateway.notices.tell([NotifyState::Ready]);
    let mut watchdog = interval(WATCHDOG_PERIOD);
    watchdog.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = watchdog.tick() => gateway.report_life(),
            _ = signals.hangup.recv() => gateway.reload(&api, &results, &mut watchdog).await,
            _ = signals.reopen.recv() => gateway.reopen_logs(),
            () = signals.ending.recv() => break,
            () = gateway.lost() => anyhow::bail!("the reconcile thread has ended"),
        }
    }
    drop(results);
    gateway.notices.tell([NotifyState::Stopping]);
    let patience = gateway.drain_timeout;
    tracing::info!(
        timeout_s = patience.as_secs(),
        "draining: no more connections are accepted"
    );
    gateway.order(Order::Drain(Drain::within(patience)));
    loop {
        tokio::select! {
            _ = watchdog.tick() => gateway.report_life(),
            () = gateway.lost() => break,
            _ = signals.reopen.recv() => gateway.reopen_logs(),
            () = signals.ending.recv() => {
                tracing::info!("a second signal: connections are reset now");
                gateway.order(Order::Drain(Drain::within(Duration::ZERO)));
            }
        }
    }
    api.stop().await;
    gateway.end().await;
    Ok(())
}

struct Signals {
    hangup: Signal,
    /// SIGUSR1, as whoever rotates logs sends it to other programs.
    reopen: Signal,
    ending: Ending,
    /// SIGUSR2, which other programs upgrade at: caught, it does not end the process.
    _ignored: Signal,
}

/// The signals that a gateway ends at.
struct Ending {
    terminate: Signal,
    interrupt: Signal,
    /// SIGQUIT, at which other programs let connections end.
    quit: Signal,
}

impl Signals {
    fn catch() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            reopen: signal(SignalKind::user_defined1())?,
            ending: Ending {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
                quit: signal(SignalKind::quit())?,
            },
            _ignored: signal(SignalKind::user_defined2())?,
        })
    }
}

impl Ending {
    /// Waits for one of them.
    async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.quit.recv() => {}
        }
    }
}

impl Gateway<'_> {
    /// Tells the service manager that all is alive, unless the reconcile thread is stuck.
    fn report_life(&self) {
        let silence = self.heartbeat.silence();
        if silence < SILENCE_MAX {
            self.notices.tell([NotifyState::Watchdog]);
        } else {
            let silence_s = silence.as_secs();
            tracing::error!(silence_s, "the reconcile thread does not get on");
        }
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
