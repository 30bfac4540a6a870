//! What others see of the certificates.

use std::sync::Arc;

use control_api::{
    answer::{CertificateState, CertificateStatus, CertificatesView},
    boot::CertificateName,
};
use engine_core::hostname::HostPattern;
use engine_tls::Bundle;

use super::{Keeper, held::Held};
use crate::{clock, files::Pair};

impl Keeper {
    /// Shows how things are.
    pub(super) fn show(&mut self) {
        self.is_stale = false;
        let now = clock::now();
        let wanted = self.wants.names.iter();
        let mut certificates: Vec<CertificateStatus> = wanted
            .map(|(name, terms)| {
                let place = (terms.network, terms.directory.to_string());
                self.status(name, place, self.held.get(name), now)
            })
            .collect();
        let on_demand = self.held.iter().filter(|(name, held)| {
            self.is_wanted(name, held) && !self.wants.names.contains_key(name)
        });
        certificates.extend(on_demand.map(|(name, held)| {
            self.status(
                name,
                (held.network, held.directory.clone()),
                Some(held),
                now,
            )
        }));
        let impossible = self.wants.impossible.iter();
        certificates.extend(impossible.map(|(name, why)| CertificateStatus {
            name: name.to_string(),
            network: why.network,
            state: CertificateState::Failed,
            error: Some(why.objection.clone()),
            ..CertificateStatus::default()
        }));
        let files = self.files.pairs();
        certificates.extend(files.map(|(network, pair, hosts)| CertificateStatus {
            hosts: self.hosts_of(pair.bundle(), &hosts),
            ..file_status(network, pair, now)
        }));
        certificates.extend(
            self.files
                .uncovered()
                .map(|(files, host)| CertificateStatus {
                    name: host.to_string(),
                    network: files.network,
                    state: CertificateState::Failed,
                    source: files.certificate.display().to_string(),
                    error: Some("the certificate in the file is not for this host".to_owned()),
                    ..CertificateStatus::default()
                }),
        );
        certificates.sort_by(|a, b| (&a.name, &a.source).cmp(&(&b.name, &b.source)));
        self.shown.send_replace(Arc::new(CertificatesView {
            certificates,
            orders: self.orders.clone(),
            running: self.schedule.running().try_into().unwrap_or(u64::MAX),
        }));
    }

    fn status(
        &self,
        name: &CertificateName,
        (network, source): (Option<u16>, String),
        held: Option<&Held>,
        now: u64,
    ) -> CertificateStatus {
        let trouble = self.trouble.get(name);
        let due = self.schedule.due(name);
        CertificateStatus {
            name: name.to_string(),
            network,
            state: state(held.map(|held| held.not_after), trouble.is_some(), now),
            source,
            names: names_of(held.map(|held| &held.bundle)),
            hosts: self.hosts_of(held.map(|held| &held.bundle), std::slice::from_ref(&name.0)),
            issuer: held.map(|held| held.issuer.clone()),
            not_before: held.map(|held| held.not_before),
            not_after: held.map(|held| held.not_after),
            due: due.map(|due| due.order),
            error: trouble.map(|trouble| trouble.reason.clone()),
        }
    }

    /// Those of the hosts that a certificate is offered for which it is shown for. Another one may
    /// have gone before it.
    fn hosts_of(&self, bundle: Option<&Arc<Bundle>>, offered: &[HostPattern]) -> Vec<String> {
        let Some(bundle) = bundle else {
            return Vec::new();
        };
        let shown = offered.iter();
        let shown = shown.filter(|host| self.certificates.shows(host, bundle));
        let default = self.certificates.shows_by_default(bundle);
        let default = default.then(|| "*".to_owned());
        shown.map(ToString::to_string).chain(default).collect()
    }
}

fn names_of(bundle: Option<&Arc<Bundle>>) -> Vec<String> {
    let names = bundle.map_or(&[][..], |bundle| bundle.names());
    names.iter().map(ToString::to_string).collect()
}

fn file_status(network: Option<u16>, pair: &Pair, now: u64) -> CertificateStatus {
    let bundle = pair.bundle();
    let seconds = |at| clock::since_epoch(at).as_secs();
    let until = bundle.map(|bundle| seconds(bundle.not_after()));
    let names = names_of(bundle);
    CertificateStatus {
        name: names.first().cloned().unwrap_or_default(),
        network,
        state: state(until, pair.error().is_some(), now),
        source: pair.path().display().to_string(),
        issuer: pair.issuer().map(str::to_owned),
        names,
        hosts: Vec::new(),
        not_before: bundle.map(|bundle| seconds(bundle.not_before())),
        not_after: until,
        due: None,
        error: pair.error().map(str::to_owned),
    }
}

fn state(until: Option<u64>, has_failed: bool, now: u64) -> CertificateState {
    match (until, has_failed) {
        (Some(until), _) if until <= now => CertificateState::Expired,
        (Some(_), true) => CertificateState::Stale,
        (Some(_), false) => CertificateState::Ok,
        (None, true) => CertificateState::Failed,
        (None, false) => CertificateState::Pending,
    }
}
