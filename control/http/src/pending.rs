//! Changes that were not answered in time: what became of them.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use axum::http::{HeaderName, HeaderValue};
use control_api::answer::Applied;
use tokio::task::JoinHandle;

use crate::{front::Actor, refusal::Refusal, shared::Shared};

/// In the next answer to whoever was not told: what came of the change before.
pub(crate) const EARLIER_CHANGE: HeaderName = HeaderName::from_static("ringway-earlier-change");
/// Outcomes that wait for their clients to come back; of more, the oldest are in the audit log alone.
const OUTCOMES_MAX: usize = 1024;
/// How long one waits. Whoever comes later than that asks for something else.
const AGE_MAX: Duration = Duration::from_secs(3600);

const WAITING: u8 = 0;
const TAKEN: u8 = 1;
const WITHDRAWN: u8 = 2;

/// Whether a change waits, is being made, or was withdrawn by whoever asked: so that nothing is done
/// that somebody was told is not. Clones are of the same change.
#[derive(Clone, Debug, Default)]
pub struct Claim(Arc<AtomicU8>);

impl Claim {
    /// Begins with the change; false when it was withdrawn, and nothing is to be done.
    #[must_use]
    pub fn take(&self) -> bool {
        self.leave(TAKEN)
    }

    /// Makes sure that nothing is done; false when it was begun.
    pub(crate) fn withdraw(&self) -> bool {
        self.leave(WITHDRAWN)
    }

    fn leave(&self, next: u8) -> bool {
        let order = Ordering::AcqRel;
        let before = self
            .0
            .compare_exchange(WAITING, next, order, Ordering::Acquire);
        // What is withdrawn twice is withdrawn.
        before.is_ok() || before == Err(next) && next == WITHDRAWN
    }
}

/// A change whose client waits for the answer. When it is dropped before, the client has gone: what
/// was not begun is not done, and what was begun is told in the next answer.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) task: Option<JoinHandle<Result<Applied, Refusal>>>,
    pub(crate) claim: Claim,
    pub(crate) actor: Actor,
    pub(crate) shared: Arc<Shared>,
}

impl Drop for Pending {
    fn drop(&mut self) {
        let Some(task) = self.task.take() else {
            return;
        };
        if self.claim.withdraw() {
            return;
        }
        let (shared, actor) = (Arc::clone(&self.shared), self.actor.clone());
        tokio::spawn(async move {
            let outcome = match task.await {
                Ok(Ok(applied)) => format!("done; generation {}", applied.generation),
                Ok(Err(refusal)) => format!("refused; {}", refusal.error()),
                Err(_) => "broken off".to_owned(),
            };
            shared.outcomes.keep(&actor, &outcome, Instant::now());
        });
    }
}

/// What came of changes whose clients were not told, by who asked.
#[derive(Debug, Default)]
pub(crate) struct Outcomes(Mutex<HashMap<Asker, Outcome>>);

#[derive(Debug)]
struct Outcome {
    value: HeaderValue,
    since: Instant,
}

/// The name of a token and an address.
type Asker = (Arc<str>, Arc<str>);

impl Outcomes {
    fn keep(&self, actor: &Actor, outcome: &str, since: Instant) {
        let text: String = outcome
            .chars()
            .map(|char| match char {
                ' '..='~' => char,
                _ => '?',
            })
            .collect();
        let Ok(value) = HeaderValue::from_str(&text) else {
            return;
        };
        let mut outcomes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let asker = key(actor);
        if outcomes.len() >= OUTCOMES_MAX && !outcomes.contains_key(&asker) {
            let oldest = outcomes.iter().min_by_key(|(_, outcome)| outcome.since);
            if let Some(oldest) = oldest.map(|(asker, _)| asker.clone()) {
                outcomes.remove(&oldest);
            }
        }
        outcomes.insert(asker, Outcome { value, since });
    }

    /// What somebody was not told, once.
    pub(crate) fn take(&self, actor: &Actor) -> Option<HeaderValue> {
        self.take_at(actor, Instant::now())
    }

    fn take_at(&self, actor: &Actor, now: Instant) -> Option<HeaderValue> {
        let mut outcomes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = outcomes.remove(&key(actor))?;
        (now.saturating_duration_since(outcome.since) < AGE_MAX).then_some(outcome.value)
    }
}

fn key(actor: &Actor) -> Asker {
    (Arc::clone(&actor.name), Arc::clone(&actor.source))
}

#[cfg(test)]
mod tests {
    use control_api::boot::Role;

    use super::*;

    #[test]
    fn a_change_is_begun_or_withdrawn_and_never_both() {
        let claim = Claim::default();
        let other = claim.clone();
        assert!(other.take());
        assert!(!claim.withdraw());
        let claim = Claim::default();
        assert!(claim.withdraw() && claim.withdraw());
        assert!(!claim.take());
    }

    #[test]
    fn the_oldest_outcomes_give_way_and_none_is_told_too_late() {
        let actor = |number: usize| Actor {
            name: format!("token-{number}").into(),
            role: Role::Admin,
            source: "192.0.2.1".into(),
        };
        let outcomes = Outcomes::default();
        let begun = Instant::now();
        let at = |seconds: usize| begun + Duration::from_secs(seconds as u64);
        for number in 0..OUTCOMES_MAX {
            outcomes.keep(&actor(number), "done", at(number));
        }
        // It makes room for itself, and the second is the oldest then.
        outcomes.keep(&actor(0), "refused", at(OUTCOMES_MAX));
        outcomes.keep(&actor(OUTCOMES_MAX), "done", at(OUTCOMES_MAX));
        let now = at(OUTCOMES_MAX);
        let told = |number| outcomes.take_at(&actor(number), now);
        assert_eq!(told(0).unwrap(), "refused");
        assert!(told(0).is_none(), "once");
        assert!(told(1).is_none());
        assert_eq!(told(2).unwrap(), "done");
        assert_eq!(told(OUTCOMES_MAX).unwrap(), "done");
        let late = at(3) + AGE_MAX;
        assert!(outcomes.take_at(&actor(3), late).is_none());
        assert!(outcomes.take_at(&actor(4), late).is_some());
    }
}
