//! Certificates: what is wanted, from the boot file and the desired state, to the one who has them.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use control_api::{
    answer::{CertificatesView, Event, Happening},
    boot::Boot,
    state::Desired,
};
use control_certificates::{Ears, Keeper, Setting, Wants};
use control_http::View;
use control_store::{Audit, Store};
use crossbeam_channel::{Sender, bounded};
use engine::{Challenges, Config, UndeclaredName};
use engine_tls::Certificates;
use tokio::sync::{broadcast, mpsc, watch};

use crate::reconcile::unix_now;

/// Events of certificates that wait for the store.
const HAPPENINGS_WAITING_MAX: usize = 1024;
/// Clients' unknown names that wait to be asked about; more are passed over.
const STRANGERS_WAITING_MAX: usize = 256;

/// What the gateway knows of its certificates, and tells those that have them.
#[derive(Debug)]
pub(super) struct Vault {
    folder: PathBuf,
    boot: watch::Sender<Arc<Boot>>,
    looks: mpsc::Sender<()>,
    /// As they are shown.
    pub(super) view: watch::Receiver<Arc<CertificatesView>>,
    idle: Option<Idle>,
}

/// What runs once there are tasks.
#[derive(Debug)]
struct Idle {
    keeper: Keeper,
    ears: Ears,
    wants: watch::Sender<Arc<Wants>>,
    happenings: mpsc::Receiver<Happening>,
}

/// What certificates are put in force with, before there is an engine.
#[derive(Debug, Default)]
pub(super) struct Force {
    pub(super) certificates: Certificates,
    pub(super) challenges: Challenges,
    /// Absent where nobody may have a certificate on demand.
    pub(super) strangers: Option<Sender<UndeclaredName>>,
}

impl Force {
    /// Has an engine show the proofs that are put up, and tell of names without a certificate.
    pub(super) fn equip(self, config: Config) -> Config {
        Config {
            challenges: self.challenges,
            strangers: self.strangers,
            ..config
        }
    }
}

impl Vault {
    /// Reads the certificates that there are, and puts them in force.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(super) fn open(
        boot_file: &Path,
        boot: &Boot,
        desired: &Desired,
        store: &Store,
    ) -> anyhow::Result<(Self, Force)> {
        let (strangers, waiting_strangers) = bounded(STRANGERS_WAITING_MAX);
        let force = Force {
            strangers: boot.acme.on_demand.ask.as_ref().map(|_| strangers),
            ..Force::default()
        };
        let folder = boot_file.parent().unwrap_or(Path::new("")).to_owned();
        let (happenings, waiting) = mpsc::channel(HAPPENINGS_WAITING_MAX);
        let setting = Setting {
            acme: boot.acme.clone(),
            look_interval: boot.tls.look_interval,
            folder: folder.clone(),
            store: store.certificates(),
            certificates: force.certificates.clone(),
            challenges: force.challenges.clone(),
            happenings,
        };
        let first = Arc::new(Wants::of(boot, desired, &folder));
        let (keeper, view) =
            Keeper::start(setting, Arc::clone(&first)).context("opening the certificates")?;
        let (wants, wanted) = watch::channel(first);
        let (looks, looked) = mpsc::channel(1);
        let (boot, _) = watch::channel(Arc::new(boot.clone()));
        let vault = Self {
            folder,
            boot,
            looks,
            view,
            idle: Some(Idle {
                keeper,
                ears: Ears {
                    wants: wanted,
                    strangers: waiting_strangers,
                    looks: looked,
                },
                wants,
                happenings: waiting,
            }),
        };
        Ok((vault, force))
    }

    /// Has certificates kept, as long as the runtime runs.
    pub(super) fn start(
        &mut self,
        view: watch::Receiver<Arc<View>>,
        audit: Audit,
        events: broadcast::Sender<Event>,
    ) {
        let Some(idle) = self.idle.take() else { return };
        tokio::spawn(idle.keeper.run(idle.ears));
        tokio::spawn(tell(idle.happenings, audit, events));
        let follow = Follow {
            view,
            boot: self.boot.subscribe(),
            folder: self.folder.clone(),
        };
        tokio::spawn(follow.run(idle.wants));
    }

    /// Takes up another boot file, and looks at every file now.
    pub(super) fn reload(&self, boot: &Boot) {
        self.boot.send_replace(Arc::new(boot.clone()));
        // Full: there is a look to come already.
        let _ = self.looks.try_send(());
    }
}

/// What decides about what is wanted.
struct Follow {
    view: watch::Receiver<Arc<View>>,
    boot: watch::Receiver<Arc<Boot>>,
    folder: PathBuf,
}

impl Follow {
    async fn run(mut self, wants: watch::Sender<Arc<Wants>>) {
        let mut before = None;
        loop {
            let changed = tokio::select! {
                changed = self.view.changed() => changed,
                changed = self.boot.changed() => changed,
            };
            if changed.is_err() {
                // The gateway is going down, and certificates stay as they are.
                return;
            }
            let view = Arc::clone(&self.view.borrow_and_update());
            let boot = Arc::clone(&self.boot.borrow_and_update());
            // The view is a new one every second.
            let is_same = |(desired, last): &(Arc<Desired>, Arc<Boot>)| {
                Arc::ptr_eq(desired, &view.desired) && Arc::ptr_eq(last, &boot)
            };
            if before.as_ref().is_some_and(is_same) {
                continue;
            }
            let now = Wants::of(&boot, &view.desired, &self.folder);
            before = Some((Arc::clone(&view.desired), boot));
            wants.send_if_modified(|before| {
                let is_other = **before != now;
                if is_other {
                    *before = Arc::new(now);
                }
                is_other
            });
        }
    }
}

/// Gives each event its number in the store, and tells it.
async fn tell(
    mut happenings: mpsc::Receiver<Happening>,
    audit: Audit,
    events: broadcast::Sender<Event>,
) {
    while let Some(happening) = happenings.recv().await {
        let time = unix_now().as_secs();
        let json = serde_json::to_string(&happening).unwrap_or_default();
        let kind = happening.kind().to_owned();
        match audit.append_event(time, kind, json).await {
            Ok(id) => {
                // Nobody may be listening.
                let _ = events.send(Event {
                    id,
                    time,
                    happening,
                });
            }
            Err(error) => {
                tracing::warn!(%error, kind = happening.kind(), "an event is not kept");
            }
        }
    }
}
