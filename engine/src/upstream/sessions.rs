//! TLS sessions with targets that can be resumed.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use ahash::RandomState;
use engine_core::ids::NetnsId;
use engine_sys::netns::{Identity, Netns};

use crate::context::tls::{Tls, origin::Origin};

/// A worker's own part of its origins, by namespace: the sessions that it can resume. One that was
/// begun in a namespace is offered in no other.
#[derive(Debug, Default)]
pub(crate) struct Sessions(RefCell<HashMap<(u64, Identity), engine_tls::Origin, RandomState>>);

impl Sessions {
    /// What this worker speaks to an origin with; `None` without TLS.
    pub(crate) fn of(&self, origin: &Origin, namespace: Identity) -> Option<engine_tls::Origin> {
        let tls = origin.settings()?;
        let mut sessions = self.0.borrow_mut();
        let own = sessions
            .entry((origin.id(), namespace))
            .or_insert_with(|| tls.for_worker());
        Some(own.clone())
    }

    /// Forgets the sessions of origins and namespaces that a publication no longer has.
    pub(crate) fn keep(&self, tls: &Tls, namespaces: &HashMap<NetnsId, Arc<Netns>>) {
        let mut sessions = self.0.borrow_mut();
        if sessions.is_empty() {
            return;
        }
        let origins: HashSet<u64> = tls.origins().map(|origin| origin.id()).collect();
        let held: HashSet<Identity> = namespaces.values().map(|netns| netns.identity()).collect();
        sessions.retain(|(id, namespace), _| origins.contains(id) && held.contains(namespace));
    }
}
