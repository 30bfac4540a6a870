//! Keys made ready to sign, kept by each worker for itself.

use std::{cell::RefCell, num::NonZeroUsize, sync::Arc};

use lru::LruCache;
use rustls::sign::CertifiedKey;

use crate::bundle::Bundle;

/// Most keys that one thread keeps ready, about 6 KiB each. Making one ready costs a curve's key
/// some ten microseconds, so a miss is no disaster.
pub(super) const PARSED_MAX: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

thread_local! {
    /// By the bundle's number, which is never given again: what was replaced ages out. For each
    /// thread, because signing writes to a key's reference count, which cores would fight for.
    /// None for what cannot be parsed, so that it is logged once and not for each handshake.
    static PARSED: RefCell<LruCache<u64, Option<Arc<CertifiedKey>>>> =
        RefCell::new(LruCache::new(PARSED_MAX));
}

/// The bundle ready to sign with, if it can be.
pub(super) fn parsed(bundle: &Bundle) -> Option<Arc<CertifiedKey>> {
    PARSED.with_borrow_mut(|parsed| parsed.get_or_insert(bundle.id, || parse(bundle)).clone())
}

fn parse(bundle: &Bundle) -> Option<Arc<CertifiedKey>> {
    match bundle.certified_key() {
        Ok(key) => Some(Arc::new(key)),
        Err(error) => {
            tracing::error!(names = ?bundle.names(), %error, "a certificate cannot be used");
            None
        }
    }
}

/// How many keys this thread keeps ready.
#[cfg(test)]
pub(super) fn count() -> usize {
    PARSED.with_borrow(LruCache::len)
}
