//! How a target failed, for the status, the records and the log.

use std::{
    fmt, io,
    time::{SystemTime, UNIX_EPOCH},
};

use engine_core::{endpoint::Unresolved, health::Health, outcome::Outcome, snapshot::Target};
use engine_http::health::Ejection;
use engine_tls::{Cause, SessionError};

/// How a target failed: with what outcome, and why where that was TLS or its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What whoever asked for it ended with.
    pub outcome: Outcome,
    /// Why no TLS session came about.
    pub cause: Option<Cause>,
    /// Why its name led nowhere.
    pub name: Option<Unresolved>,
}

impl From<Outcome> for Failure {
    fn from(outcome: Outcome) -> Self {
        Self {
            outcome,
            cause: None,
            name: None,
        }
    }
}

impl From<Unresolved> for Failure {
    fn from(why: Unresolved) -> Self {
        Self {
            name: Some(why),
            ..Outcome::Unresolved.into()
        }
    }
}

impl Failure {
    /// The word in records: the most exact one that there is.
    pub fn label(self) -> &'static str {
        self.reason().unwrap_or_else(|| self.outcome.label())
    }

    /// The word that says more than the outcome does.
    pub(crate) fn reason(self) -> Option<&'static str> {
        let name = self.name.map(Unresolved::label);
        self.cause.map(Cause::label).or(name)
    }

    /// How many failures in a row make the target failing: a name that leads nowhere is tried in vain.
    pub(crate) fn enough(self, ejection: &Ejection) -> u32 {
        match self.name {
            Some(_) => 1,
            None => ejection.failures,
        }
    }

    /// How a target failed whose answer could not be read. In TLS 1.3 a target says only then that it
    /// does without no certificate (RFC 8446 section 4.4.2.4).
    pub(crate) fn of_answer(error: &io::Error) -> Self {
        let session = error
            .get_ref()
            .and_then(|it| it.downcast_ref::<SessionError>());
        match session.and_then(SessionError::cause) {
            cause @ Some(Cause::CertificateMissing | Cause::CertificateRefused) => Self {
                cause,
                ..Outcome::UpstreamTls.into()
            },
            _ => Outcome::UpstreamReset.into(),
        }
    }

    /// How a target failed last, and when, in seconds since the Unix epoch.
    pub fn last_of(target: &Target) -> Option<(Self, u64)> {
        let (code, at) = target.health.last_failure()?;
        let [outcome, why] = code.to_be_bytes().map(usize::from);
        let outcome = *Outcome::ALL.get(outcome)?;
        let why = why.checked_sub(1);
        let failure = match outcome == Outcome::Unresolved {
            true => Self {
                name: why.and_then(|why| Unresolved::ALL.get(why)).copied(),
                ..outcome.into()
            },
            false => Self {
                cause: why.and_then(|why| Cause::ALL.get(why)).copied(),
                ..outcome.into()
            },
        };
        Some((failure, at))
    }

    /// Notes it at the target, and logs it where the target failed in another way before: clients that
    /// ask for the same again and again fill no log.
    pub(crate) fn note(self, target: &Target, network: &str) {
        self.note_at(&target.health, network, &target.endpoint);
    }

    /// [`Failure::note`], where there is no target at hand.
    pub(crate) fn note_at(self, health: &Health, network: &str, target: &dyn fmt::Display) {
        if self.outcome == Outcome::GatewayError {
            // That says nothing of the target, and is logged where it happens.
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs();
        if health.note_failure(self.code(), now) {
            tracing::info!(network, %target, reason = self.label(), "a target fails");
        }
    }

    /// Whether a target may be fine for other names than the one that it was asked for.
    pub(crate) fn is_about_name(self) -> bool {
        let is_of_name = matches!(self.cause, None | Some(Cause::CertificateName));
        // Many refuse a name that they do not know by an alert (RFC 6066 section 3).
        self.outcome == Outcome::UpstreamTls
            || self.outcome == Outcome::UpstreamUntrusted && is_of_name
    }

    fn code(self) -> u16 {
        let byte = |index: usize| u8::try_from(index).unwrap_or(u8::MAX);
        let cause = self.cause.map(Cause::index);
        let why = cause.or(self.name.map(Unresolved::index));
        let why = why.map_or(0, |why| byte(why + 1));
        u16::from_be_bytes([byte(self.outcome.index()), why])
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn every_failure_is_read_back_as_it_was_noted() {
        let target = Target::new("10.0.0.2:443".parse::<SocketAddr>().unwrap());
        assert_eq!(Failure::last_of(&target), None);
        let causes = Cause::ALL.iter().copied().map(Some).chain([None]);
        for cause in causes {
            for &outcome in Outcome::ALL {
                let failure = Failure {
                    cause: cause.filter(|_| outcome != Outcome::Unresolved),
                    ..outcome.into()
                };
                failure.note(&target, "network-1");
                if outcome != Outcome::GatewayError {
                    assert_eq!(Failure::last_of(&target).unwrap().0, failure);
                }
            }
        }
        for why in Unresolved::ALL {
            Failure::from(why).note(&target, "network-1");
            assert_eq!(Failure::last_of(&target).unwrap().0, Failure::from(why));
        }
    }
}
