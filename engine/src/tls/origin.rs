//! How the targets of a route are spoken with.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use ahash::RandomState;
use engine_core::ids::NetnsId;
use engine_sys::netns::{Identity, Netns};
use engine_tls::origin::{OriginError, Settings};

use super::Tls;
use crate::end::End;

/// Numbers that are never given again: what a connection was verified for is told by them.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// How the targets of a route are spoken with. Connections of one origin are never used for
/// another one, so one that stays as it is should be the same value in the next publication.
#[derive(Debug)]
pub struct Origin {
    id: u64,
    tls: Option<engine_tls::Origin>,
    name: Option<Box<str>>,
}

impl Origin {
    /// With TLS. `name` is what targets must have a certificate for, and what they are asked for by
    /// SNI; without one it is the host of each request, and of what names no host, their address.
    ///
    /// # Errors
    /// Says which of the settings is not good.
    pub fn tls(settings: &Settings, name: Option<&str>) -> Result<Self, OriginError> {
        Ok(Self {
            id: NEXT_ID.fetch_add(1, Relaxed),
            tls: Some(engine_tls::Origin::new(settings)?),
            name: name.map(Box::from),
        })
    }

    /// With HTTP/2 and without TLS (RFC 9113 section 3.3).
    pub fn http2() -> Self {
        Self {
            id: NEXT_ID.fetch_add(1, Relaxed),
            tls: None,
            name: None,
        }
    }

    /// Told apart by this from all other origins there ever were; 0 is none's.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Whether HTTP/2 is spoken on a connection that was made for it.
    pub(crate) fn speaks_http2(&self, end: &End) -> bool {
        self.tls.is_none() || end.speaks(b"h2")
    }

    /// The name that a target must prove to be, where it was declared.
    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether the name that a target must prove to be is the host of each request.
    pub(crate) fn is_named_by_requests(&self) -> bool {
        self.tls.is_some() && self.name.is_none()
    }
}

/// A worker's own part of its origins, by namespace: the sessions that it can resume. One that was
/// begun in a namespace is offered in no other.
#[derive(Debug, Default)]
pub(crate) struct Sessions(RefCell<HashMap<(u64, Identity), engine_tls::Origin, RandomState>>);

impl Sessions {
    /// What this worker speaks to an origin with; `None` without TLS.
    pub(crate) fn of(&self, origin: &Origin, namespace: Identity) -> Option<engine_tls::Origin> {
        let tls = origin.tls.as_ref()?;
        let mut sessions = self.0.borrow_mut();
        let own = sessions
            .entry((origin.id, namespace))
            .or_insert_with(|| tls.for_worker());
        Some(own.clone())
    }

    /// Forgets the sessions of origins and namespaces that a publication no longer has.
    pub(crate) fn keep(&self, tls: &Tls, namespaces: &HashMap<NetnsId, Arc<Netns>>) {
        let mut sessions = self.0.borrow_mut();
        if sessions.is_empty() {
            return;
        }
        let origins: HashSet<u64> = tls.origins().map(|origin| origin.id).collect();
        let held: HashSet<Identity> = namespaces.values().map(|netns| netns.identity()).collect();
        sessions.retain(|(id, namespace), _| origins.contains(id) && held.contains(namespace));
    }
}
