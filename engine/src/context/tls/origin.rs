//! How the targets of a route are spoken with.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use engine_tls::origin::{OriginError, Settings};

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

    /// What speaks TLS for it; `None` where it is not spoken.
    pub(crate) fn settings(&self) -> Option<&engine_tls::Origin> {
        self.tls.as_ref()
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
