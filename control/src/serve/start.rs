//! From nothing to a gateway that serves what is desired.

use std::{
    collections::BTreeSet,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::Context as _;
use control_api::{
    answer::Event,
    boot::{Accounts, ApiListen, Boot, Log, WireGuardOffload},
    state::Owner,
};
use control_http::{BindError, ChangeRefused, ChangeRequest, Listener, Tokens, View};
use control_kernel::{Linux, LinuxConfig};
use control_store::{DesiredStore as _, NewGeneration, Retention, Store};
use crossbeam_channel::SendError;
use engine::{Drained, Engine};
use engine_sys::process::reserve_descriptors;
use nix::fcntl::Flock;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::{
    Inherited,
    certificates::Vault,
    engine_config,
    engine_config::Outlets,
    inherited::Sockets,
    lock::{lock, lock_opened},
    log_problems,
    notices::Notices,
    stored,
};
use crate::{
    files::{self, BootFile, Found},
    logs::Logs,
    ports::{Ports, probe},
    priority::give_way,
    reconcile::{
        CHANGES_MAX, Desk, Ended, Heartbeat, Order, Reconciler, Setting, Stored, unix_now,
        wanted_backend,
    },
    record_log::{self, CONNECTIONS, RecordLog},
    written::Guarded,
};

/// Events that a slow listener may be behind before it misses some.
const EVENTS_WAITING_MAX: usize = 1024;

/// A running gateway, as its control thread sees it.
#[derive(Debug)]
pub(super) struct Gateway<'a> {
    pub(super) boot_file: PathBuf,
    pub(super) boot: Boot,
    pub(super) store: Store,
    pub(super) view: watch::Receiver<Arc<View>>,
    pub(super) events: broadcast::Sender<Event>,
    pub(super) tokens: Tokens,
    pub(super) vault: Vault,
    /// Taken by the API; absent when it is off.
    pub(super) listener: Option<Listener>,
    pub(super) heartbeat: Arc<Heartbeat>,
    pub(super) drain_timeout: Duration,
    pub(super) connections: RecordLog,
    pub(super) requests: RecordLog,
    pub(super) logs: &'a Logs,
    pub(super) notices: Notices,
    _locks: [Flock<File>; 2],
    desk: Desk,
    ended: oneshot::Receiver<Ended>,
    outcome: Option<Ended>,
}

impl<'a> Gateway<'a> {
    /// Brings everything up: the store, the networks, the workers.
    ///
    /// # Errors
    /// Says what cannot be had. A network that cannot be had is no error: it is degraded.
    pub(super) fn start(
        boot_file: &Path,
        inherited: Inherited,
        logs: &'a Logs,
        listen: impl FnOnce(&ApiListen) -> Result<Option<Listener>, BindError>,
    ) -> anyhow::Result<Self> {
        let BootFile {
            text,
            mut boot,
            tokens,
            found,
        } = files::load_boot(boot_file).map_err(|found| refused(&[found]))?;
        logs.set_level(boot.log.level);
        log_problems(&[found]);
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            boot.json = %boot.render(),
            "configuration"
        );
        let lock = lock(&boot.store)?;
        let store = Store::open_with(&boot.store, retention(&boot.accounts))
            .with_context(|| format!("opening the store {}", boot.store.display()))?;
        let locks = [lock, lock_opened(&boot.store)?];
        let stored = begin_with(&store, (boot_file, &text, &mut boot))?;
        // Before anything is touched: a gateway that cannot be asked changes nothing.
        let listener = listen(&boot.api.listen).map_err(|error| no_api(&boot.api.listen, error))?;
        let sockets = take_sockets(inherited, &boot)?;
        let (vault, force) = Vault::open(boot_file, &boot, &stored.desired, &store)?;
        // Ten descriptors for each network, before the engine asks for its own; and some that
        // connections never get.
        let room = reserve_descriptors().context("raising the limit of open files")?;
        let (connections, requests, outlets) =
            open_logs(&boot.log, &Guarded::of(boot_file, &boot))?;
        let certificates = force.certificates.clone();
        let mut config = force.equip(engine_config::from_boot(&boot, room, outlets));
        config.reserved = listener.iter().filter_map(Listener::tcp_address).collect();
        let ports = Ports::start(config.opening(), &boot.listeners, sockets);
        let ports = ports.context("opening the listeners")?;
        let kernel = open_kernel(&boot)?;
        let (events, _) = broadcast::channel(EVENTS_WAITING_MAX);
        let heartbeat = Arc::new(Heartbeat::default());
        let setting = Setting {
            boot: boot.clone(),
            stored,
            store: store.clone(),
            kernel,
            events: events.clone(),
            heartbeat: Arc::clone(&heartbeat),
            ports,
            certificates,
            certificates_view: vault.view.clone(),
        };
        let (reconciler, view) = Reconciler::start(setting, |publication| {
            Engine::start(config, publication).context("starting the engine")
        })?;
        log_start(&reconciler);
        let (desk, ended) = run(reconciler).context("starting the reconcile thread")?;
        Ok(Self {
            boot_file: boot_file.to_owned(),
            drain_timeout: boot.drain_timeout,
            boot,
            store,
            view,
            events,
            tokens,
            vault,
            listener,
            heartbeat,
            connections,
            requests,
            logs,
            notices: Notices::start().context("starting the thread of notices")?,
            _locks: locks,
            desk,
            ended,
            outcome: None,
        })
    }

    /// Has certificates kept from now on.
    pub(super) fn start_certificates(&mut self) {
        let (view, audit) = (self.view.clone(), self.store.audit());
        self.vault.start(view, audit, self.events.clone());
    }

    /// Has the reconcile thread do something; it is lost if it has ended.
    pub(super) fn order(&self, order: Order) {
        // Bounded by what the control thread waits for, so there is room.
        if self.desk.orders.try_send(order).is_err() {
            tracing::error!("the reconcile thread takes no orders");
        }
    }

    /// The way for changes from the API to the reconcile thread, where each waits for its turn. A
    /// thread of its own waits with them, so that the control thread never does; it ends with the API.
    ///
    /// # Errors
    /// When there is no thread left.
    pub(super) fn changes(&self) -> io::Result<mpsc::Sender<ChangeRequest>> {
        let (changes, mut requests) = mpsc::channel(CHANGES_MAX);
        let desk = self.desk.changes.clone();
        let pass_on = move || {
            give_way_or_warn();
            while let Some(request) = requests.blocking_recv() {
                if let Err(SendError(request)) = desk.send(request) {
                    let _ = request.reply.send(Err(ChangeRefused::ShuttingDown));
                }
            }
        };
        thread::Builder::new()
            .name("changes".into())
            .spawn(pass_on)?;
        Ok(changes)
    }

    /// Waits until the reconcile thread has ended.
    pub(super) async fn lost(&mut self) {
        if self.outcome.is_none() {
            // Without an answer, the thread has panicked.
            self.outcome = Some((&mut self.ended).await.unwrap_or_default());
        }
    }

    /// Writes what was counted last, and says it.
    pub(super) async fn end(self) {
        let records_lost = self.connections.finish() + self.requests.finish();
        if let Err(error) = self.store.accounts().flush().await {
            tracing::error!(%error, "the last counters are not written");
        }
        let Some(Ended {
            drained: Some(drained),
        }) = self.outcome
        else {
            return;
        };
        let Drained {
            counters,
            lost_workers,
            ..
        } = drained;
        let totals = counters.networks.values();
        let (connections, bytes) = totals.fold((0, 0), |(connections, bytes), network| {
            let tally = &network.tally;
            (
                connections + tally.closed,
                bytes + tally.bytes_in + tally.bytes_out,
            )
        });
        if lost_workers > 0 {
            tracing::error!(workers = lost_workers, "workers did not end in time");
        }
        tracing::info!(
            connections,
            bytes,
            records_dropped = counters.records_dropped + counters.requests_dropped,
            records_lost,
            "ended"
        );
    }
}

/// The sockets that were handed over for listeners; nobody else listens where the others will.
fn take_sockets(mut inherited: Inherited, boot: &Boot) -> anyhow::Result<Sockets> {
    let sockets = inherited.assign(&boot.listeners);
    inherited.drop_rest();
    let listeners = boot.listeners.iter().enumerate();
    let bound = listeners.filter(|(at, _)| !sockets.contains_key(at));
    probe::all(bound.map(|(_, listener)| listener))?;
    Ok(sockets)
}

/// Why the API has no place to be served at, and who has that.
fn no_api(listen: &ApiListen, error: BindError) -> anyhow::Error {
    if let BindError::Tcp { address, source } = &error {
        let reason = probe::reason(*address, source);
        return anyhow::anyhow!("the API cannot have {address}: {reason}");
    }
    anyhow::Error::from(error).context(format!("serving the API at {listen}"))
}

/// Opens the logs of connections and requests, and gives where the engine's records go.
fn open_logs(log: &Log, guarded: &Guarded) -> anyhow::Result<(RecordLog, RecordLog, Outlets)> {
    let queue_max = log.queue_records_max;
    let (connections, records) = RecordLog::start(CONNECTIONS, &log.file, guarded, queue_max)
        .with_context(|| format!("opening the connection log {}", log.file))?;
    let kind = record_log::requests(log.requests_format);
    let (requests, request_records) = RecordLog::start(kind, &log.requests, guarded, queue_max)
        .with_context(|| format!("opening the request log {}", log.requests))?;
    let outlets = Outlets {
        records,
        requests: request_records,
    };
    Ok((connections, requests, outlets))
}

/// Starts the reconcile thread: the way of orders to it, and how it ends.
fn run(reconciler: Reconciler) -> io::Result<(Desk, oneshot::Receiver<Ended>)> {
    let (desk, waiting) = Desk::open();
    let (end, ended) = oneshot::channel();
    thread::Builder::new()
        .name("reconcile".into())
        .spawn(move || {
            give_way_or_warn();
            drop(end.send(reconciler.run(waiting)));
        })?;
    Ok((desk, ended))
}

/// Has the calling thread give way to those that carry packets.
pub(super) fn give_way_or_warn() {
    if let Err(error) = give_way() {
        tracing::warn!(%error, "a thread of the control plane competes with the workers");
    }
}

/// Logs why the gateway does not start.
fn refused(found: &[Found]) -> anyhow::Error {
    log_problems(found);
    let files: Vec<String> = found.iter().map(|f| f.file.display().to_string()).collect();
    anyhow::anyhow!("{} is refused", files.join(" and "))
}

/// The desired state to begin with, and the boot file held to it: where something of the state had to be
/// left out, the listeners that led there are, too.
fn begin_with(
    store: &Store,
    (boot_file, text, boot): (&Path, &str, &mut Boot),
) -> anyhow::Result<Stored> {
    let mut stored = match stored::read(store)? {
        Some(stored) => stored,
        None => seed(store, boot_file, boot)?,
    };
    let (file, problems) = (
        boot_file.to_owned(),
        files::compare(text, boot, &stored.desired),
    );
    if problems.refuse() {
        let found = [Found { file, problems }];
        if stored.left_out.is_empty() {
            return Err(refused(&found));
        }
        log_problems(&found);
        stored.unbound = stored::leave_out_listeners(boot, &found[0].problems);
    }
    Ok(stored)
}

/// The desired state of an empty store: what the boot file names, or nothing.
fn seed(store: &Store, boot_file: &Path, boot: &Boot) -> anyhow::Result<Stored> {
    let (seed, found) = files::load_seed(boot_file, boot).map_err(|found| refused(&[found]))?;
    log_problems(&[found]);
    let Some(seed) = seed else {
        return Ok(Stored::default());
    };
    let owners: BTreeSet<Owner> = seed.owners().into_iter().cloned().collect();
    let names: BTreeSet<String> = owners.iter().map(ToString::to_string).collect();
    let new = NewGeneration {
        expected: Some(0),
        time: unix_now().as_secs(),
        actor: "boot file".to_owned(),
        note: "seed an empty store".to_owned(),
        difference: String::new(),
        document: Some(seed.render_with_secrets().to_string()),
        owners: names.clone(),
        present: names,
    };
    let committed = store.desired().commit(new).wait();
    let generation = committed.context("seeding the store")?;
    Ok(Stored {
        generation,
        owners: owners
            .into_iter()
            .map(|owner| (owner, generation))
            .collect(),
        desired: seed,
        ..Stored::default()
    })
}

pub(super) fn retention(accounts: &Accounts) -> Retention {
    Retention {
        row_interval: accounts.row_interval,
        fine: accounts.retention,
        hours: accounts.hours_retention,
        days: accounts.days_retention,
        clients_max: usize::try_from(accounts.clients_max.get()).unwrap_or(usize::MAX),
        audit_max: accounts.audit_max.get(),
        events_max: accounts.events_max.get(),
        generations_max: accounts.generations_max.get(),
    }
}

/// The kernel's side; what cannot be done there for want of a privilege is said.
fn open_kernel(boot: &Boot) -> anyhow::Result<Linux> {
    let kernel = Linux::open(kernel_config(boot)).context("preparing the kernel's side")?;
    if let Some(lack) = kernel.lack() {
        tracing::warn!("{lack}");
    }
    Ok(kernel)
}

fn kernel_config(boot: &Boot) -> LinuxConfig {
    LinuxConfig {
        backend: wanted_backend(boot),
        threads: engine_config::threads(boot.wireguard.threads),
        offload: boot.wireguard.offload == WireGuardOffload::Auto,
        ..LinuxConfig::default()
    }
}

fn log_start(reconciler: &Reconciler) {
    let engine = reconciler.engine();
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
    for listener in reconciler.listeners() {
        if let Some(address) = engine.address(listener.id) {
            tracing::info!(listener = %listener.name, %address, "listening");
        }
    }
}
