//! The one task that has certificates: it knows what is wanted, what there is and what is under
//! way, and nobody else changes any of it.

mod held;
mod kept;
mod shown;
#[cfg(test)]
mod tests;
mod turn;
mod watch_files;

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use control_api::{
    answer::{CertificatesView, Happening},
    boot::{Acme, CertificateName, DirectoryName},
};
use control_store::{CertificateStore, ReadError};
use crossbeam_channel::Receiver;
use engine::{Challenges, UndeclaredName};
use engine_core::hostname::HostPattern;
use engine_tls::Certificates;
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};

use self::{
    held::{Held, Trouble},
    turn::Ended,
    watch_files::{LOOKS_MAX, LookEnded, WatchedFiles},
};
use crate::{
    acme::{Directory, Proofs},
    ask::Ask,
    client::ClientError,
    clock,
    demand::{self, Decision, Demand},
    dns::Records,
    random,
    schedule::{self, Due, IssuePolicy, Schedule},
    wants::Wants,
};

/// How often at most what is shown is made anew.
const SHOW_INTERVAL: Duration = Duration::from_secs(1);
/// How often it is looked whether clients asked for unknown names: workers wake nobody.
const STRANGERS_INTERVAL: Duration = Duration::from_millis(250);
/// The longest sleep: the clock may be set meanwhile.
const SLEEP_MAX: Duration = Duration::from_secs(60);
/// Certificates that are obtained on demand and kept.
const ON_DEMAND_MAX: usize = 100_000;
/// Over how many seconds the first looks after a start are spread at most: 100,000 certificates make
/// five a second.
const LOOKS_SPREAD: u64 = 6 * HOUR;
/// In seconds.
const HOUR: u64 = 3600;

/// Why there is no keeper.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The store cannot be read.
    #[error("reading the certificates")]
    Read(#[from] ReadError),
    /// Who is asked about strangers' names cannot be asked.
    #[error("preparing to ask about names")]
    Ask(#[source] ClientError),
}

/// What a keeper works with.
#[derive(Debug)]
pub struct Setting {
    /// As the boot file says.
    pub acme: Acme,
    /// How often files are looked at.
    pub look_interval: Duration,
    /// The boot file's folder, which the names of its files begin at.
    pub folder: PathBuf,
    /// Where certificates and accounts are kept.
    pub store: CertificateStore,
    /// Where certificates are put in force.
    pub certificates: Certificates,
    /// Where proofs of http-01 are put up.
    pub challenges: Challenges,
    /// Where it is told what happens. When it is full, events are lost, and logged all the same.
    pub happenings: mpsc::Sender<Happening>,
}

/// Has certificates: those that are wanted are obtained, renewed, loaded and put in force.
#[derive(Debug)]
pub struct Keeper {
    acme: Acme,
    store: CertificateStore,
    certificates: Certificates,
    happenings: mpsc::Sender<Happening>,
    directories: HashMap<DirectoryName, Arc<Directory>>,
    proofs: Arc<Proofs>,
    schedule: Schedule,
    wants: Arc<Wants>,
    /// What was obtained, wanted or not.
    held: BTreeMap<CertificateName, Held>,
    /// Why there is nothing, or nothing newer.
    trouble: BTreeMap<CertificateName, Trouble>,
    files: WatchedFiles,
    look_interval: Duration,
    /// Looks at files that are under way or wait for their turn.
    looks: JoinSet<LookEnded>,
    look_turns: Arc<Semaphore>,
    /// When the next certificate in force begins to be valid or ends to be.
    changes_at: Option<SystemTime>,
    ask: Option<Ask>,
    demand: Demand,
    /// When it was said last that too many names are asked about; zero, to begin with.
    spent_said_at: u64,
    turns: JoinSet<Ended>,
    shown: watch::Sender<Arc<CertificatesView>>,
    orders: BTreeMap<(String, &'static str), u64>,
    /// Whether what is shown is not what is.
    is_stale: bool,
}

/// Where a keeper hears from.
#[derive(Debug)]
pub struct Ears {
    /// What is wanted.
    pub wants: watch::Receiver<Arc<Wants>>,
    /// Clients that asked for unknown names.
    pub strangers: Receiver<UndeclaredName>,
    /// Orders to look at all files now.
    pub looks: mpsc::Receiver<()>,
}

impl Keeper {
    /// Reads what there is, and puts what is wanted of it in force. What it shows is with it. Blocks
    /// the thread meanwhile.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn start(
        setting: Setting,
        wants: Arc<Wants>,
    ) -> Result<(Self, watch::Receiver<Arc<CertificatesView>>), KeeperError> {
        let Setting {
            acme,
            look_interval,
            folder,
            store,
            certificates,
            challenges,
            happenings,
        } = setting;
        let declared = acme.directories.iter().flatten();
        let directories = declared.map(|directory| {
            let name = directory.name.clone();
            let directory = Directory::new(directory, &folder, store.clone());
            (name, Arc::new(directory))
        });
        let on_demand = &acme.on_demand;
        let ask = on_demand.ask.clone();
        let ask = ask.map(|url| Ask::new(url, on_demand.ask_timeout));
        let (shown, looks) = watch::channel(Arc::default());
        let mut keeper = Self {
            directories: directories.collect(),
            proofs: Arc::new(Proofs {
                challenges,
                certificates: certificates.clone(),
                records: Records::new(&acme.dns, &folder),
            }),
            schedule: schedule_of(&acme),
            ask: ask.transpose().map_err(KeeperError::Ask)?,
            demand: Demand::new(demand::Bounds {
                refused_seconds: on_demand.refused_for.as_secs(),
                source_per_hour: on_demand.source_names_per_hour.get(),
                per_hour: on_demand.names_per_hour.get(),
            }),
            spent_said_at: 0,
            acme,
            store,
            certificates,
            happenings,
            wants: Arc::default(),
            held: BTreeMap::new(),
            trouble: BTreeMap::new(),
            files: WatchedFiles::default(),
            look_interval,
            looks: JoinSet::new(),
            look_turns: Arc::new(Semaphore::new(LOOKS_MAX)),
            changes_at: None,
            turns: JoinSet::new(),
            shown,
            orders: BTreeMap::new(),
            is_stale: true,
        };
        keeper.recall()?;
        keeper.take_wants(wants);
        keeper.look_at_start();
        keeper.enforce();
        keeper.show();
        Ok((keeper, looks))
    }

    /// Works for as long as anybody wants anything.
    pub async fn run(mut self, mut ears: Ears) {
        let mut looks = interval(self.look_interval);
        looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut strangers = interval(STRANGERS_INTERVAL);
        strangers.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut shows = interval(SHOW_INTERVAL);
        shows.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let now = clock::now();
            self.start_turns(now);
            let wake = self.schedule.wake(now);
            let wait = wake.map(|at| Duration::from_secs(at.saturating_sub(now).max(1)));
            tokio::select! {
                changed = ears.wants.changed() => match changed {
                    Ok(()) => {
                        let wants = Arc::clone(&ears.wants.borrow_and_update());
                        self.take_wants(wants);
                        self.look_at_files();
                    }
                    Err(_) => return,
                },
                Some(ended) = self.turns.join_next(), if !self.turns.is_empty() => match ended {
                    Ok(ended) => self.end_turn(ended).await,
                    Err(error) => tracing::error!(%error, "an order has panicked"),
                },
                _ = strangers.tick(), if self.ask.is_some() => {
                    ears.strangers.try_iter().for_each(|stranger| self.consider(&stranger));
                }
                Some(()) = ears.looks.recv() => self.look_at_files(),
                _ = looks.tick() => {
                    self.heed_time();
                    self.look_at_files();
                }
                Some(ended) = self.looks.join_next(), if !self.looks.is_empty() => {
                    self.end_looks(ended);
                }
                _ = shows.tick(), if self.is_stale => self.show(),
                () = sleep(wait.unwrap_or(SLEEP_MAX).min(SLEEP_MAX)) => {}
            }
        }
    }

    /// Wants something else than before. What it costs is by what differs, but for files and who
    /// routes what: then everything is put in force anew.
    fn take_wants(&mut self, wants: Arc<Wants>) {
        let before = std::mem::replace(&mut self.wants, wants);
        let wants = Arc::clone(&self.wants);
        let gone = before.names.keys();
        for name in gone.filter(|name| !wants.names.contains_key(name)) {
            self.unwant(name);
        }
        let now = clock::now();
        for (name, terms) in &wants.names {
            if before.names.get(name) == Some(terms) {
                continue;
            }
            self.want(name, terms.clone(), now);
            if self.held.contains_key(name) {
                self.serve(&name.0);
            }
        }
        let has_other_files = wants.files != before.files || wants.default != before.default;
        if has_other_files {
            self.files.set(&wants);
        }
        if has_other_files || wants.owners != before.owners {
            self.enforce();
        }
        self.is_stale = true;
    }

    /// Does not want a name any more. Its certificate is kept for whoever wants it again.
    fn unwant(&mut self, name: &CertificateName) {
        self.schedule.forget(name);
        if self.trouble.remove(name).is_some() {
            // Logged by the store's health, and of no weight.
            drop(self.store.remove_acme_failure(name.to_string()));
        }
        let Some(held) = self.held.get(name) else {
            return;
        };
        // What clients asked for once may be had on demand still.
        let is_wanted = self.is_wanted(name, held);
        if let Some(terms) = self.terms_on_demand(name).filter(|_| is_wanted) {
            self.want(name, terms, clock::now());
        }
        // Another one may be for the name, too.
        self.serve(&name.0);
    }

    /// Has a name's certificate obtained, now or when it is to be renewed.
    fn want(&mut self, name: &CertificateName, terms: IssuePolicy, now: u64) {
        let trouble = self.trouble.get(name);
        let failures = trouble.map_or(0, |trouble| trouble.failures);
        let directory = self.directories.get(&terms.directory);
        let url = directory.map(|directory| directory.url().to_owned());
        let held = self.held.get(name);
        let due = match (trouble, held) {
            (Some(trouble), _) => Due {
                order: trouble.retry_at,
                look: None,
            },
            (None, Some(held)) if Some(&held.directory) == url.as_ref() => Due {
                order: held.renewal(random::chance()),
                // Not all of them in the first second.
                look: Some(now + random::chance().below(self.look_spread())),
            },
            (None, Some(_) | None) => Due {
                order: now,
                look: None,
            },
        };
        self.schedule.want(name.clone(), terms, due, failures);
    }

    /// Over how many seconds the first looks are spread: few certificates are looked at right away.
    fn look_spread(&self) -> u64 {
        let certificates = u64::try_from(self.held.len());
        certificates.unwrap_or(LOOKS_SPREAD).min(LOOKS_SPREAD)
    }

    /// A client asked for a name without a certificate.
    fn consider(&mut self, stranger: &UndeclaredName) {
        let Some(ask) = &self.ask else { return };
        let name = CertificateName(HostPattern::Exact(stranger.name.clone()));
        if self.schedule.has(&name) || self.certificates.has(&stranger.name) {
            return;
        }
        let count = self.held.values().filter(|held| held.on_demand).count();
        if count >= ON_DEMAND_MAX {
            tracing::warn!(count, "no more certificates are obtained on demand");
            return;
        }
        let now = clock::now();
        let decision = self.demand.consider(&stranger.name, stranger.client, now);
        tracing::debug!(name = %stranger.name, source = %stranger.client, ?decision, "a stranger");
        if self.demand.is_spent(now) && now >= self.spent_said_at + HOUR {
            self.spent_said_at = now;
            let names_per_hour = self.acme.on_demand.names_per_hour.get();
            tracing::warn!(
                names_per_hour,
                "clients ask for too many names without a certificate"
            );
            self.tell(Happening::OnDemandSpent { names_per_hour });
        }
        if decision == Decision::Ask {
            self.turns
                .spawn(turn::ask(ask.clone(), stranger.name.clone()));
        }
    }

    /// How names are obtained that nobody declared.
    fn terms_on_demand(&self, name: &CertificateName) -> Option<IssuePolicy> {
        let on_demand = &self.acme.on_demand;
        let directory = self.acme.directory(on_demand.directory.as_ref())?;
        Some(IssuePolicy {
            network: None,
            directory: directory.name.clone(),
            challenge: self.acme.challenge(name, on_demand.challenge),
            on_demand: true,
        })
    }

    fn tell(&self, happening: Happening) {
        if self.happenings.try_send(happening).is_err() {
            tracing::warn!("an event is lost: too many wait");
        }
    }
}

fn schedule_of(acme: &Acme) -> Schedule {
    let bounds = schedule::Bounds {
        at_once_max: acme.orders_at_once_max.get().into(),
        network_per_hour: acme.network_orders_per_hour.get(),
        retry_wait: acme.retry_wait.as_secs().max(1),
    };
    let directories = acme.directories.iter().flatten();
    Schedule::new(
        bounds,
        directories.map(|it| (it.name.clone(), it.orders_per_hour.get())),
    )
}
