//! The store, and the handles on it.

use std::{path::Path, sync::Arc};

use crate::{
    Accounts, Answer, Audit, CertificateStore, OpenError, Retention, SqliteDesired, WriteError,
    health::Pulse,
    ledger::Ledger,
    open,
    reader::{self, Reader},
    request::Requests,
    threads::{Threads, start},
    writer::{self, Wake, Writer},
};

/// Requests that wait for the writer; more are refused.
const WRITES_WAITING_MAX: usize = 1024;

/// Questions that wait for a reader; more are refused.
const READS_WAITING_MAX: usize = 256;

/// Threads that read: one for a long question, and one for the short ones meanwhile.
const READERS: usize = 2;

/// Ringway's durable state: what is asked of it goes by the handles that it gives. Clones and handles
/// share it; when the last one goes, what is in memory is written and the file is closed, for which the
/// dropping thread waits.
///
/// Every method, also of the handles, may be called from anywhere. Those that answer an [`Answer`] have
/// queued the work when they return; none blocks on the disk.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) threads: Arc<Threads>,
}

impl Store {
    /// Opens the store with the default retention. Makes the file, readable by its owner only, and
    /// its directory where they are missing.
    ///
    /// # Errors
    /// Names what is wrong with the file.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_with(path, Retention::default())
    }

    /// Opens the store with another retention.
    ///
    /// # Errors
    /// Names what is wrong with the file.
    pub fn open_with(path: &Path, retention: Retention) -> Result<Self, OpenError> {
        let ledger = Arc::new(Ledger::new(retention.clients_max));
        let pulse = Pulse::default();
        let (writes, write_requests) = Requests::bounded(WRITES_WAITING_MAX);
        let (reads, read_requests) = Requests::bounded(READS_WAITING_MAX);
        let (wake, woken) = Wake::new();
        let writer = Writer::new(path, retention, Arc::clone(&ledger), pulse.clone())?;
        let last_stamp = writer.last_stamp();
        let documents = writer.documents();
        let frontier = writer.frontier();
        let writer = start("store-writer", move || {
            writer::serve(writer, &write_requests, &woken);
        })?;
        let mut threads = Threads {
            reads: Some(reads),
            writes: Some(writes.clone()),
            readers: Vec::new(),
            writer: Some(writer),
            ledger: Arc::clone(&ledger),
            wake,
            pulse,
            last_stamp,
            documents,
        };
        for _ in 0..READERS {
            let reader = Reader::new(
                open::reading(path)?,
                writes.clone(),
                Arc::clone(&ledger),
                Arc::clone(&frontier),
            );
            let requests = read_requests.clone();
            let reader = start("store-reader", move || reader::serve(reader, requests))?;
            threads.readers.push(reader);
        }
        Ok(Self {
            threads: Arc::new(threads),
        })
    }

    /// What is desired.
    pub fn desired(&self) -> SqliteDesired {
        SqliteDesired::new(Arc::clone(&self.threads))
    }

    /// What was counted.
    pub fn accounts(&self) -> Accounts {
        Accounts::new(Arc::clone(&self.threads))
    }

    /// The certificates that were obtained.
    pub fn certificates(&self) -> CertificateStore {
        CertificateStore::new(Arc::clone(&self.threads))
    }

    /// Who did what, and what happened.
    pub fn audit(&self) -> Audit {
        Audit::new(Arc::clone(&self.threads))
    }

    /// Changes what is kept, from now on.
    pub fn set_retention(&self, retention: Retention) -> Answer<(), WriteError> {
        self.threads.ledger.set_clients_max(retention.clients_max);
        self.threads.write(|writer| {
            writer.set_retention(retention);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests;
