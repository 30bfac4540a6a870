//! What TLS is ended with, over all publications.

use std::{collections::HashMap, sync::Arc, time::SystemTime};

use anyhow::Context as _;
use control_plan::tls;
use engine::Origin;
use engine_core::ids::RouteId;
use engine_tls::{
    Certificates, Policies, Policy, Terms, Tickets,
    origin::OriginError,
    policy::{Protocols, UnknownName},
    tickets::{Keys, Secret},
};

/// Certificates, ticket keys, and what is made of them for the workers.
#[derive(Debug)]
pub(crate) struct Tls {
    tickets: Tickets,
    policies: Policies,
    /// For names without a policy of their own.
    others: Arc<Terms>,
    /// Those of the last publication. One that stays as it is stays the same, so that its
    /// connections are used on.
    origins: HashMap<RouteId, (tls::Origin, Arc<Origin>)>,
}

impl Tls {
    /// Ends TLS with these certificates, which go on changing.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub(crate) fn new(certificates: Certificates) -> anyhow::Result<Self> {
        let secret = Secret::random().context("making the first key of session tickets")?;
        let tickets = Tickets::new(Keys::new(&secret, SystemTime::now()));
        let mut policies =
            Policies::new(certificates, tickets.clone()).context("making the TLS configuration")?;
        let others = Policy {
            protocols: Protocols::Http2,
            unknown: UnknownName::Default,
            ..Policy::default()
        };
        let others = policies
            .terms(&others)
            .context("making the TLS configuration")?;
        Ok(Self {
            tickets,
            policies,
            others,
            origins: HashMap::new(),
        })
    }

    /// What the workers are to end TLS with. A name or a route whose part cannot be made is said,
    /// and goes without.
    pub(super) fn publication(&mut self, planned: tls::Tls) -> engine::Tls {
        let mut publication = engine::Tls::default();
        publication.terminate_others(Arc::clone(&self.others));
        for (pattern, policy) in planned.names {
            match self.policies.terms(&policy) {
                Ok(terms) => drop(publication.terminate(pattern, terms)),
                Err(error) => {
                    let error = format!("{:#}", anyhow::Error::from(error));
                    tracing::error!(%pattern, error, "TLS for this name cannot end here");
                }
            }
        }
        let mut before = std::mem::take(&mut self.origins);
        for (route, declared) in planned.origins {
            let same = before.remove(&route).filter(|(old, _)| *old == declared);
            let made = same.map_or_else(|| origin(&declared).map(Arc::new), |(_, old)| Ok(old));
            match made {
                Ok(origin) => {
                    publication.set_origin(route, Arc::clone(&origin));
                    self.origins.insert(route, (declared, origin));
                }
                Err(error) => {
                    let error = format!("{:#}", anyhow::Error::from(error));
                    tracing::error!(%route, error, "the targets of this route cannot be spoken with");
                }
            }
        }
        publication
    }

    /// Takes a new key for session tickets where one is due.
    pub(super) fn rotate_tickets(&self, now: SystemTime) {
        let keys = self.tickets.keys();
        if now < keys.due() {
            return;
        }
        match Secret::random() {
            Ok(secret) => {
                self.tickets.publish(keys.rotated(&secret, now));
                tracing::debug!("session tickets have a new key");
            }
            Err(error) => tracing::error!(%error, "session tickets keep their key"),
        }
    }
}

fn origin(declared: &tls::Origin) -> Result<Origin, OriginError> {
    match declared {
        tls::Origin::Http2 => Ok(Origin::http2()),
        tls::Origin::Tls { settings, name } => Origin::tls(settings, name.as_deref()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use engine_tls::tickets::LIFETIME;

    use super::*;

    #[test]
    fn a_ticket_key_is_replaced_when_it_is_due_and_not_before() {
        let tls = Tls::new(Certificates::default()).unwrap();
        let since = tls.tickets.keys().due();
        tls.rotate_tickets(since - Duration::from_secs(1));
        assert_eq!(tls.tickets.keys().due(), since);
        tls.rotate_tickets(since);
        assert_eq!(tls.tickets.keys().due(), since + LIFETIME);
    }

    #[test]
    fn an_origin_stays_the_same_as_long_as_nothing_of_it_changes() {
        let mut tls = Tls::new(Certificates::default()).unwrap();
        let mut origin = |name: &str| {
            let declared = tls::Origin::Tls {
                settings: engine_tls::origin::Settings::default(),
                name: Some(name.into()),
            };
            let planned = tls::Tls {
                names: Vec::new(),
                origins: vec![(RouteId(1), declared)],
            };
            Arc::clone(tls.publication(planned).origin(RouteId(1)).unwrap())
        };
        let first = origin("a.example");
        assert!(Arc::ptr_eq(&first, &origin("a.example")));
        assert!(!Arc::ptr_eq(&first, &origin("b.example")));
    }
}
