//! Whether the accounts reach the disk.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Whether the accounts are being written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// False while counters cannot be written. They are kept in memory meanwhile, so nothing is
    /// lost unless the process ends.
    pub ok: bool,
    /// Unix time of the first sample that could not be written.
    pub since: Option<u64>,
    /// Why the last attempt failed.
    pub error: Option<String>,
}

/// The last word on it, for everyone.
#[derive(Clone, Debug)]
pub(crate) struct Pulse(Arc<Mutex<Health>>);

impl Default for Pulse {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Health {
            ok: true,
            since: None,
            error: None,
        })))
    }
}

impl Pulse {
    pub(crate) fn health(&self) -> Health {
        self.lock().clone()
    }

    pub(crate) fn is_well(&self) -> bool {
        self.lock().ok
    }

    /// True if it was not well before.
    pub(crate) fn good(&self) -> bool {
        let mut health = self.lock();
        let recovered = !health.ok;
        *health = Health {
            ok: true,
            since: None,
            error: None,
        };
        recovered
    }

    /// True if it was well before.
    pub(crate) fn bad(&self, time: u64, error: String) -> bool {
        let mut health = self.lock();
        let first = health.ok;
        health.ok = false;
        health.since.get_or_insert(time);
        health.error = Some(error);
        first
    }

    fn lock(&self) -> MutexGuard<'_, Health> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
