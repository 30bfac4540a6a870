//! What has its turn: tasks of their own, and what comes of them.

use std::sync::Arc;

use control_api::{answer::Happening, boot::CertificateName};
use engine_core::hostname::{HostPattern, Hostname};

use super::{Keeper, held::Trouble};
use crate::{
    acme::{self, Directory, LookError, Obtained, Proofs, Suggestion},
    ask::{Ask, AskError},
    clock, leaf, random, reason,
    schedule::{Due, IssuePolicy, Turn, look_wait, suggested},
};

/// How long it is waited after a look that failed, in seconds.
const LOOK_RETRY: u64 = 6 * 3600;

/// What came of a turn.
pub(super) enum Ended {
    /// Of an order.
    Order {
        name: CertificateName,
        terms: IssuePolicy,
        result: Result<Obtained, Failed>,
    },
    /// Of an order for a name on demand that is not agreed to any more.
    Withdrawn { name: CertificateName, why: String },
    /// Of a look at when to renew.
    Look {
        name: CertificateName,
        result: Result<Suggestion, LookError>,
    },
    /// Of a question about a stranger's name.
    Asked {
        name: Hostname,
        result: Result<(), AskError>,
    },
}

/// Why an order failed.
pub(super) struct Failed {
    reason: String,
    /// For how many seconds the directory asks to be left alone.
    patience: Option<u64>,
}

/// Everything that an order needs.
struct Order {
    name: CertificateName,
    terms: IssuePolicy,
    directory: Arc<Directory>,
    proofs: Arc<Proofs>,
    /// The certificate from before, which a directory may want to know of.
    replaces: Option<Arc<[u8]>>,
    /// Who has to agree again.
    ask: Option<Ask>,
}

/// Asks about a stranger's name.
pub(super) async fn ask(ask: Ask, name: Hostname) -> Ended {
    let result = ask.about(&name).await;
    Ended::Asked { name, result }
}

impl Order {
    async fn run(self) -> Ended {
        let Self { name, terms, .. } = &self;
        if let (Some(ask), HostPattern::Exact(host)) = (&self.ask, &name.0) {
            match ask.about(host).await {
                Ok(()) => {}
                Err(error @ AskError::Refused { .. }) => {
                    return Ended::Withdrawn {
                        name: name.clone(),
                        why: error.to_string(),
                    };
                }
                Err(error) => {
                    let failed = Failed {
                        reason: reason::of(&error),
                        patience: None,
                    };
                    return self.ended(Err(failed));
                }
            }
        }
        let account = match self.directory.account().await {
            Ok(account) => account,
            Err(error) => {
                let failed = Failed {
                    reason: reason::of(&error),
                    patience: error.patience(),
                };
                return self.ended(Err(failed));
            }
        };
        let replaces = match self.replaces.as_deref().and_then(leaf::identifier) {
            // Directories that know nothing of renewals refuse to hear of them.
            Some(identifier) => match acme::look(&account, &identifier).await {
                Ok(_) => Some(identifier),
                Err(_) => None,
            },
            None => None,
        };
        let obtained = acme::obtain(&account, name, terms.challenge, &self.proofs, replaces).await;
        let result = match obtained {
            Ok(obtained) => Ok(obtained),
            Err(error) => {
                if let Some(said) = error.acme() {
                    self.directory.doubt(said).await;
                }
                Err(Failed {
                    reason: reason::of(&error),
                    patience: error.patience(),
                })
            }
        };
        self.ended(result)
    }

    fn ended(&self, result: Result<Obtained, Failed>) -> Ended {
        Ended::Order {
            name: self.name.clone(),
            terms: self.terms.clone(),
            result,
        }
    }
}

async fn look(name: CertificateName, directory: Arc<Directory>, leaf: Arc<[u8]>) -> Ended {
    let result = match (directory.account().await, leaf::identifier(&leaf)) {
        (Ok(account), Some(identifier)) => acme::look(&account, &identifier).await,
        (Ok(_), None) => Err(LookError::Unsupported),
        (Err(error), _) => Err(LookError::Account(Box::new(error))),
    };
    Ended::Look { name, result }
}

impl Keeper {
    /// Starts all that has its turn.
    pub(super) fn start_turns(&mut self, now: u64) {
        while let Some((name, terms, turn)) = self.schedule.next(now) {
            let Some(directory) = self.directories.get(&terms.directory).cloned() else {
                // The schedule has queues for known directories only.
                self.schedule.looked(&name, None, None);
                continue;
            };
            let held = self.held.get(&name);
            match turn {
                Turn::Order { failures } => {
                    self.note_order(&terms, now);
                    tracing::info!(%name, directory = %terms.directory, "a certificate is ordered");
                    // What went wrong may have been the mention of the old one.
                    let replaces =
                        held.filter(|held| failures == 0 && held.directory == directory.url());
                    let order = Order {
                        replaces: replaces.map(|held| Arc::clone(&held.leaf)),
                        ask: self
                            .ask
                            .clone()
                            .filter(|_| terms.on_demand && held.is_some()),
                        name,
                        terms,
                        directory,
                        proofs: Arc::clone(&self.proofs),
                    };
                    self.turns.spawn(order.run());
                }
                Turn::Look => match held {
                    Some(held) => {
                        let leaf = Arc::clone(&held.leaf);
                        self.turns.spawn(look(name, directory, leaf));
                    }
                    None => self.schedule.looked(&name, None, None),
                },
            }
        }
    }

    /// Takes what came of a turn.
    pub(super) async fn end_turn(&mut self, ended: Ended) {
        let now = clock::now();
        self.is_stale = true;
        match ended {
            Ended::Order {
                name,
                terms,
                result: Ok(obtained),
            } => self.obtained(&name, &terms, obtained, now).await,
            Ended::Order {
                name,
                terms,
                result: Err(failed),
            } => self.failed(&name, &terms, failed, now),
            Ended::Withdrawn { name, why } => {
                tracing::info!(%name, why, "a certificate on demand is not renewed");
                self.schedule.looked(&name, None, None);
                self.drop_held(&name);
            }
            Ended::Look { name, result } => self.looked(&name, result, now),
            Ended::Asked { name, result } => self.asked(name, &result, now),
        }
    }

    async fn obtained(
        &mut self,
        name: &CertificateName,
        terms: &IssuePolicy,
        obtained: Obtained,
        now: u64,
    ) {
        self.count(terms, "ok");
        let (issuer, not_after) = (obtained.leaf.issuer.clone(), obtained.leaf.not_after);
        let is_leaving = self.schedule.is_leaving(name);
        let renewed = self.held.contains_key(name);
        self.keep(name, terms, obtained).await;
        if let Some(held) = self.held.get(name) {
            let due = Due {
                order: held.renewal(random::chance()).max(now + 1),
                look: Some(now),
            };
            self.schedule.done(name, due);
        }
        if is_leaving {
            // Nobody wants it any more; it is kept for whoever wants it again.
            self.serve(&name.0);
        }
        tracing::info!(%name, issuer, not_after, renewed, "a certificate was obtained");
        self.tell(Happening::CertificateObtained {
            network: terms.network,
            name: name.to_string(),
            directory: terms.directory.to_string(),
            issuer,
            not_after,
            renewed,
        });
    }

    fn failed(&mut self, name: &CertificateName, terms: &IssuePolicy, failed: Failed, now: u64) {
        self.count(terms, "failed");
        let Failed { reason, patience } = failed;
        let again = self.schedule.failed(name, now, patience, random::chance());
        let Some((failures, retry_at)) = again else {
            // It is not wanted any more.
            return;
        };
        tracing::warn!(%name, directory = %terms.directory, failures, retry_at, reason,
            "a certificate could not be obtained");
        self.tell(Happening::CertificateFailed {
            network: terms.network,
            name: name.to_string(),
            directory: terms.directory.to_string(),
            reason: reason.clone(),
            retry_at,
        });
        let trouble = Trouble {
            failures,
            retry_at,
            reason,
        };
        self.note_failure(name, trouble);
    }

    fn looked(&mut self, name: &CertificateName, result: Result<Suggestion, LookError>, now: u64) {
        let chance = random::chance();
        match (result, self.held.get(name)) {
            (Ok(suggestion), Some(held)) => {
                let Suggestion { start, end, again } = suggestion;
                let order = suggested(start, end, held.not_after, chance).max(now);
                tracing::debug!(%name, start, end, order, "the directory says when to renew");
                let again = now + look_wait(again, chance);
                self.schedule.looked(name, Some(order), Some(again));
            }
            (Err(LookError::Unsupported), _) | (_, None) => {
                self.schedule.looked(name, None, None);
            }
            (Err(error), Some(_)) => {
                let wait = error.patience().unwrap_or(LOOK_RETRY);
                tracing::debug!(%name, error = reason::of(&error), "the directory does not say when to renew");
                let again = now + look_wait(wait, chance);
                self.schedule.looked(name, None, Some(again));
            }
        }
    }

    fn asked(&mut self, host: Hostname, result: &Result<(), AskError>, now: u64) {
        self.demand.answered(&host, result.is_ok(), now);
        if let Err(error) = result {
            tracing::debug!(
                error = reason::of(error),
                "a stranger's name gets no certificate"
            );
            return;
        }
        let name = CertificateName(HostPattern::Exact(host));
        if let Some(terms) = self.terms_on_demand(&name)
            && !self.schedule.has(&name)
        {
            tracing::info!(%name, "a certificate is obtained on demand");
            self.want(&name, terms, now);
            // It may be there, from when somebody declared it.
            if let Some(held) = self.held.get_mut(&name) {
                held.on_demand = true;
                self.serve(&name.0);
            }
        }
    }

    fn count(&mut self, terms: &IssuePolicy, result: &'static str) {
        let key = (terms.directory.to_string(), result);
        *self.orders.entry(key).or_default() += 1;
    }
}
