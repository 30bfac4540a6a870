//! What was counted: taken here, and asked for.

use std::sync::Arc;

use crate::{Answer, Health, Sample, WriteError, threads::Threads, writer::Writer};

/// What peers and routes moved. Clones share it.
#[derive(Clone, Debug)]
pub struct Accounts {
    pub(crate) threads: Arc<Threads>,
}

impl Accounts {
    pub(crate) fn new(threads: Arc<Threads>) -> Self {
        Self { threads }
    }

    /// The latest time that a sample of an earlier run had, in seconds since the Unix epoch; 0 if there
    /// was none.
    #[must_use]
    pub fn last_stamp(&self) -> u64 {
        self.threads.last_stamp
    }

    /// Takes what was counted. Never blocks on the disk and never fails: what cannot be written yet
    /// waits in memory, merged, and [`health`](Self::health) says so.
    pub fn record_sample(&self, sample: &Sample) {
        self.threads.ledger.record(sample);
        self.threads.wake.ring(sample.time_unix);
    }

    /// Writes what was counted so far.
    pub fn flush(&self) -> Answer<(), WriteError> {
        self.threads.write(Writer::save)
    }

    /// Whether the accounts reach the disk.
    pub fn health(&self) -> Health {
        self.threads.pulse.health()
    }
}
