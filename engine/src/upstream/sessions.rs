//! TLS sessions with targets that can be resumed.

use std::{cell::RefCell, collections::HashMap};

use ahash::RandomState;
use engine_sys::netns::Identity;

use crate::context::{
    difference::Difference,
    tls::{Tls, origin::Origin},
};

/// A worker's own part of its origins, by their ids and by namespace: the sessions that it can resume. One
/// that was begun in a namespace is offered in no other.
#[derive(Debug, Default)]
pub(crate) struct Sessions(RefCell<HashMap<u64, OfOrigin, RandomState>>);

/// Those of one origin: mostly there is one namespace.
type OfOrigin = Vec<(Identity, engine_tls::Origin)>;

/// So many origins more than are spoken with may be kept: what an older publication still speaks with comes
/// back after it was forgotten.
const LATE_MAX: usize = 64;

impl Sessions {
    /// What this worker speaks to an origin with; `None` without TLS.
    pub(crate) fn of(&self, origin: &Origin, namespace: Identity) -> Option<engine_tls::Origin> {
        let tls = origin.settings()?;
        let mut sessions = self.0.borrow_mut();
        let own = sessions.entry(origin.id()).or_default();
        if let Some((_, known)) = own.iter().find(|(held, _)| *held == namespace) {
            return Some(known.clone());
        }
        let fresh = tls.for_worker();
        own.push((namespace, fresh.clone()));
        Some(fresh)
    }

    /// Forgets the sessions of origins and namespaces that a publication no longer has.
    pub(crate) fn forget(&self, difference: &Difference, now: &Tls) {
        let mut sessions = self.0.borrow_mut();
        for origin in &difference.origins {
            sessions.remove(origin);
        }
        if sessions.len() > now.spoken_with() + LATE_MAX {
            sessions.retain(|origin, _| now.speaks_with(*origin));
        }
        if !difference.namespaces.is_empty() {
            for own in sessions.values_mut() {
                own.retain(|(namespace, _)| !difference.namespaces.contains(namespace));
            }
        }
    }
}
