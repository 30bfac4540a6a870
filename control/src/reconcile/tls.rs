//! What TLS is ended with, over all publications.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::SystemTime,
};

use anyhow::Context as _;
use control_plan::{Gone, tls};
use engine::{Origin, Speech, Termination};
use engine_core::ids::RouteId;
use engine_tls::{
    Certificates, Policies, Policy, ServerTlsConfig, Tickets,
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
    others: Arc<ServerTlsConfig>,
    /// Those of the last publication. One that stays as it is stays the same, so that its
    /// connections are used on.
    origins: Origins,
    /// What of the last publication could not be made, and is served to nobody; and why.
    failures: BTreeMap<Failed, String>,
}

/// How the targets of routes are spoken with, each as it is declared and as it was made.
type Origins = HashMap<RouteId, (tls::Origin, Arc<Origin>)>;

/// A part of a publication.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Failed {
    /// TLS of a host's clients.
    Host(String),
    /// TLS with a route's targets.
    Targets(RouteId),
}

impl Tls {
    /// Ends TLS with these certificates, which go on changing. Hellos have up to so many bytes.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub(crate) fn new(certificates: Certificates, hello_bytes_max: usize) -> anyhow::Result<Self> {
        let secret = Secret::random().context("making the first key of session tickets")?;
        let tickets = Tickets::new(Keys::new(&secret, SystemTime::now()));
        let tickets = tickets.fitting(hello_bytes_max);
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
            failures: BTreeMap::new(),
        })
    }

    /// Begins with a publication in which nothing is said yet.
    fn begin(&mut self, publication: &mut engine::Tls) {
        self.failures.clear();
        publication.answer_challenges(Arc::clone(&self.others));
        publication.terminate_others(Termination::On(Arc::clone(&self.others)));
    }

    /// Has the workers end TLS as it is planned. A name or a route whose part cannot be made is served to
    /// nobody, and noted among [`Tls::failures`]. Without anything that is gone, the publication is made
    /// from nothing.
    pub(super) fn take_up(
        &mut self,
        publication: &mut engine::Tls,
        planned: tls::Tls,
        gone: Option<&Gone>,
    ) {
        let mut had = match gone {
            Some(gone) => self.take_out(publication, gone),
            None => {
                self.begin(publication);
                std::mem::take(&mut self.origins)
            }
        };
        let others = match &planned.others {
            None if !gone.is_some_and(|gone| gone.others) => None,
            None => {
                self.failures.remove(&Failed::Host("*".to_owned()));
                Some(Termination::On(Arc::clone(&self.others)))
            }
            Some(policy) => Some(self.termination("*", policy)),
        };
        if let Some(others) = others {
            publication.terminate_others(others);
        }
        for (pattern, policy) in planned.names {
            let termination = self.termination(&pattern, &policy);
            publication.terminate(pattern, termination);
        }
        for pattern in planned.refused {
            publication.terminate(pattern, Termination::Failed);
        }
        for (route, declared) in planned.origins {
            self.speak(publication, route, declared, &mut had);
        }
    }

    /// Takes out what is not so any more. The answer is how targets were spoken with.
    fn take_out(&mut self, publication: &mut engine::Tls, gone: &Gone) -> Origins {
        for pattern in &gone.names {
            publication.pass(pattern);
            self.failures.remove(&Failed::Host(pattern.to_string()));
        }
        let had = gone.origins.iter().filter_map(|route| {
            publication.remove_origin(*route);
            self.failures.remove(&Failed::Targets(*route));
            Some((*route, self.origins.remove(route)?))
        });
        had.collect()
    }

    /// Has the targets of a route spoken with as it is declared; as before, where that was declared alike.
    fn speak(
        &mut self,
        publication: &mut engine::Tls,
        route: RouteId,
        declared: tls::Origin,
        had: &mut Origins,
    ) {
        let same = had.remove(&route).filter(|(old, _)| *old == declared);
        let made = same.map_or_else(|| origin(&declared).map(Arc::new), |(_, old)| Ok(old));
        match made {
            Ok(origin) => {
                publication.set_origin(route, Speech::As(Arc::clone(&origin)));
                self.failures.remove(&Failed::Targets(route));
                self.origins.insert(route, (declared, origin));
            }
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::from(error));
                tracing::error!(%route, error, "the targets of this route cannot be spoken with");
                publication.set_origin(route, Speech::Failed);
                let why = format!("TLS with the targets cannot be set up: {error}");
                self.failures.insert(Failed::Targets(route), why);
            }
        }
    }

    /// How TLS of a host ends.
    fn termination(&mut self, host: impl ToString, policy: &Policy) -> Termination {
        match self.policies.terms(policy) {
            Ok(terms) => {
                self.failures.remove(&Failed::Host(host.to_string()));
                Termination::On(terms)
            }
            Err(error) => {
                let (host, error) = (
                    host.to_string(),
                    format!("{:#}", anyhow::Error::from(error)),
                );
                tracing::error!(host, error, "TLS of this host cannot be terminated");
                let why = format!("TLS of {host} is refused, because it cannot be set up: {error}");
                self.failures.insert(Failed::Host(host), why);
                Termination::Failed
            }
        }
    }

    /// What of the last publication could not be made.
    pub(super) fn failures(&self) -> &BTreeMap<Failed, String> {
        &self.failures
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

    use engine_core::hostname::HostPattern;
    use engine_tls::{
        origin::Trust,
        policy::{Clients, Roots},
        tickets::LIFETIME,
    };

    use super::*;

    fn publication(tls: &mut Tls, planned: tls::Tls) -> engine::Tls {
        let mut publication = engine::Tls::default();
        tls.take_up(&mut publication, planned, None);
        publication
    }

    #[test]
    fn a_ticket_key_is_replaced_when_it_is_due_and_not_before() {
        let tls = Tls::new(Certificates::default(), 16 * 1024).unwrap();
        let since = tls.tickets.keys().due();
        tls.rotate_tickets(since - Duration::from_secs(1));
        assert_eq!(tls.tickets.keys().due(), since);
        tls.rotate_tickets(since);
        assert_eq!(tls.tickets.keys().due(), since + LIFETIME);
    }

    #[test]
    fn what_cannot_be_made_is_closed_and_not_left_open() {
        let mut tls = Tls::new(Certificates::default(), 16 * 1024).unwrap();
        let broken: Roots = [Box::from(&b"no certificate"[..])].into();
        let policy = Policy {
            clients: Clients::Required(Roots::clone(&broken)),
            ..Policy::default()
        };
        let origin = tls::Origin::Tls {
            settings: engine_tls::origin::Settings {
                trust: Trust::Own(broken),
                ..Default::default()
            },
            name: None,
        };
        let planned = tls::Tls {
            names: vec![(HostPattern::parse("a.example").unwrap(), policy.clone())],
            others: Some(policy),
            origins: vec![(RouteId(7), origin)],
            ..tls::Tls::default()
        };
        let made = publication(&mut tls, planned);
        assert!(matches!(made.origin(RouteId(7)), Some(Speech::Failed)));
        let failed: Vec<Failed> = tls.failures().keys().cloned().collect();
        let host = |name: &str| Failed::Host(name.to_owned());
        let expected = [host("*"), host("a.example"), Failed::Targets(RouteId(7))];
        assert_eq!(failed, expected);
        publication(&mut tls, tls::Tls::default());
        assert!(tls.failures().is_empty());
    }

    #[test]
    fn an_origin_stays_the_same_as_long_as_nothing_of_it_changes() {
        let mut tls = Tls::new(Certificates::default(), 16 * 1024).unwrap();
        let mut origin = |name: &str| {
            let declared = tls::Origin::Tls {
                settings: engine_tls::origin::Settings::default(),
                name: Some(name.into()),
            };
            let planned = tls::Tls {
                origins: vec![(RouteId(1), declared)],
                ..tls::Tls::default()
            };
            match publication(&mut tls, planned).origin(RouteId(1)) {
                Some(Speech::As(origin)) => Arc::clone(origin),
                other => panic!("{other:?}"),
            }
        };
        let first = origin("a.example");
        assert!(Arc::ptr_eq(&first, &origin("a.example")));
        assert!(!Arc::ptr_eq(&first, &origin("b.example")));
    }
}
