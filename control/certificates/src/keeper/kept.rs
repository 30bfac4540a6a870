//! What outlives a restart, and what of it is in force.

use std::{sync::Arc, time::SystemTime};

use control_api::boot::CertificateName;
use control_store::{StoredCertificate, StoredFailure, StoredOrder};
use engine_core::{hostname::HostPattern, ids::NetworkId};
use engine_tls::{Bundle, certificates::Offer};

use super::{
    HOUR, Keeper, KeeperError,
    held::{Chains, Held, Trouble},
};
use crate::{acme::Obtained, clock, schedule::IssuePolicy};

impl Keeper {
    /// Reads the certificates, the failures and the orders of late.
    pub(super) fn recall(&mut self) -> Result<(), KeeperError> {
        let begun = std::time::Instant::now();
        let stored = self.store.all().wait()?;
        let failures = self.store.acme_failures().wait()?;
        let now = clock::now();
        let orders = self
            .store
            .acme_orders_after(now.saturating_sub(HOUR))
            .wait()?;
        let mut chains = Chains::default();
        for certificate in stored {
            let name = certificate.name.clone();
            match Held::read(certificate, &mut chains) {
                Ok((name, held)) => drop(self.held.insert(name, held)),
                Err(error) => tracing::error!(name, %error, "a stored certificate is damaged"),
            }
        }
        for StoredFailure {
            name,
            failures,
            retry_at,
            reason,
        } in failures
        {
            if let Ok(name) = name.parse() {
                let trouble = Trouble {
                    failures,
                    retry_at,
                    reason,
                };
                self.trouble.insert(name, trouble);
            }
        }
        for order in &orders {
            if let Some(directory) = self.directory_at(&order.directory) {
                let name = directory.name().clone();
                self.schedule.remember(order.time, &name, order.network);
            }
        }
        self.recall_strangers(now);
        tracing::info!(
            certificates = self.held.len(),
            milliseconds = begun.elapsed().as_millis(),
            "certificates were read"
        );
        Ok(())
    }

    fn directory_at(&self, url: &str) -> Option<&crate::acme::Directory> {
        let mut directories = self.directories.values();
        directories
            .find(|directory| directory.url() == url)
            .map(Arc::as_ref)
    }

    /// Goes on renewing what was obtained on demand, for as long as that is permitted.
    fn recall_strangers(&mut self, now: u64) {
        if self.ask.is_none() {
            return;
        }
        let on_demand = self.held.iter().filter(|(_, held)| held.on_demand);
        let names: Vec<CertificateName> = on_demand.map(|(name, _)| name.clone()).collect();
        for name in names {
            if let Some(terms) = self.terms_on_demand(&name) {
                self.want(&name, terms, now);
            }
        }
    }

    /// Whether a certificate that is held is to be served.
    pub(super) fn is_wanted(&self, name: &CertificateName, held: &Held) -> bool {
        self.wants.names.contains_key(name) || (held.on_demand && self.ask.is_some())
    }

    /// Puts in force exactly what is wanted, whatever was before.
    pub(super) fn enforce(&mut self) {
        let now = clock::time();
        let held = self.held.iter();
        let wanted = held.filter(|(name, held)| self.is_wanted(name, held));
        let obtained = wanted.map(|(name, held)| (name.0.clone(), self.offer(name, held)));
        let files = self.files.offers();
        let files = files.map(|(host, offer)| (host.clone(), offer.clone()));
        let offers: Vec<(HostPattern, Offer)> = obtained.chain(files).collect();
        let changes = offers.iter();
        self.changes_at = changes
            .filter_map(|(_, offer)| change_of(&offer.bundle, now))
            .min();
        self.certificates
            .replace(offers, self.wants.owners.clone(), now);
        self.serve_default();
        // What serves which hosts is shown, and so is what has expired.
        self.is_stale = true;
    }

    /// Puts in force whatever there is for a host now.
    pub(super) fn serve(&mut self, host: &HostPattern) {
        let now = clock::time();
        let name = CertificateName(host.clone());
        let held = self.held.get(&name);
        let wanted = held.filter(|held| self.is_wanted(&name, held));
        let obtained = wanted.map(|held| self.offer(&name, held));
        let files = self.files.offers_for(host).iter().cloned();
        let offers: Vec<Offer> = obtained.into_iter().chain(files).collect();
        let changes = offers
            .iter()
            .filter_map(|offer| change_of(&offer.bundle, now));
        self.changes_at = changes.chain(self.changes_at).min();
        self.certificates.set(host, &offers, now);
    }

    /// Puts the default in force.
    pub(super) fn serve_default(&self) {
        let default: Vec<Arc<Bundle>> = self.files.default_bundle().cloned().into_iter().collect();
        self.certificates.set_default(&default);
    }

    /// Judges anew which certificates are valid, if one of them has begun or ended to be.
    pub(super) fn heed_time(&mut self) {
        if self.changes_at.is_some_and(|at| at <= clock::time()) {
            self.enforce();
        }
    }

    /// What was obtained, for the name that it was obtained for.
    fn offer(&self, name: &CertificateName, held: &Held) -> Offer {
        let terms = self.wants.names.get(name);
        let network = terms.and_then(|terms| terms.network);
        Offer {
            bundle: Arc::clone(&held.bundle),
            network: network.map(|port| NetworkId(port.into())),
            is_declared: terms.is_some(),
        }
    }

    /// Keeps a new certificate and puts it in force. One that could not be kept is served all the
    /// same, and is obtained again after a restart.
    pub(super) async fn keep(
        &mut self,
        name: &CertificateName,
        terms: &IssuePolicy,
        new: Obtained,
    ) {
        let Obtained {
            bundle,
            leaf,
            chain,
            key,
        } = new;
        let directory = self.directories.get(&terms.directory);
        let directory = directory.map_or_else(String::new, |it| it.url().to_owned());
        let (first, rest) = match chain.split_first() {
            Some((first, rest)) => (first.clone(), rest.concat()),
            None => return,
        };
        let stored = StoredCertificate {
            name: name.to_string(),
            network: terms.network,
            directory: directory.clone(),
            on_demand: terms.on_demand,
            issuer: leaf.issuer.clone(),
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            leaf: first.clone(),
            intermediates: rest.into(),
            key,
        };
        if let Err(error) = self.store.put(stored).await {
            let error = crate::reason::of(&error);
            tracing::error!(%name, error, "a certificate is served and could not be kept");
        }
        let held = Held {
            bundle,
            leaf: first.into(),
            network: terms.network,
            directory,
            issuer: leaf.issuer,
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            on_demand: terms.on_demand,
        };
        self.held.insert(name.clone(), held);
        self.serve(&name.0);
        self.trouble.remove(name);
    }

    /// Forgets a certificate that nobody may have any more.
    pub(super) fn drop_held(&mut self, name: &CertificateName) {
        self.schedule.forget(name);
        self.trouble.remove(name);
        if self.held.remove(name).is_some() {
            self.serve(&name.0);
            drop(self.store.remove(name.to_string()));
        }
    }

    /// Remembers an order, for the budgets after a restart.
    pub(super) fn note_order(&self, terms: &IssuePolicy, now: u64) {
        let Some(directory) = self.directories.get(&terms.directory) else {
            return;
        };
        drop(self.store.note_acme_order(StoredOrder {
            time: now,
            directory: directory.url().to_owned(),
            network: terms.network,
        }));
    }

    /// Remembers a failure, so that a restart is no reason to ask again at once.
    pub(super) fn note_failure(&mut self, name: &CertificateName, trouble: Trouble) {
        drop(self.store.put_acme_failure(StoredFailure {
            name: name.to_string(),
            failures: trouble.failures,
            retry_at: trouble.retry_at,
            reason: trouble.reason.clone(),
        }));
        self.trouble.insert(name.clone(), trouble);
    }
}

/// When a certificate begins to be valid, or ends to be, after `now`.
fn change_of(bundle: &Bundle, now: SystemTime) -> Option<SystemTime> {
    let mut changes = [bundle.not_before(), bundle.not_after()].into_iter();
    changes.find(|at| *at > now)
}
