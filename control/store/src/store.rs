//! The handle, and the threads behind it.

use std::{
    io,
    path::Path,
    sync::Arc,
    thread::{self, JoinHandle},
};

use crate::{
    Answer, OpenError, Retention, Sample, WriteError,
    health::{Health, Pulse},
    ledger::Ledger,
    open,
    reader::{self, Reader},
    request::Requests,
    writer::{self, Wake, Writer},
};

/// Requests that wait for the writer; more are refused.
const WRITES_WAITING_MAX: usize = 1024;

/// Questions that wait for a reader; more are refused.
const READS_WAITING_MAX: usize = 256;

/// Threads that read: one for a long question, and one for the short ones meanwhile.
const READERS: usize = 2;

/// How much nicer its threads are than the one that opens the store: a long question takes a tenth
/// of what a thread beside it gets of a processor that both want (sched(7), "The nice value").
const NICER: i32 = 10;

/// Ringway's durable state. Clones share it; when the last one goes, what is in memory is written
/// and the file is closed, for which the dropping thread waits.
///
/// Every method may be called from anywhere. Those that answer an [`Answer`] have queued the work
/// when they return; none blocks on the disk.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) threads: Arc<Threads>,
}

/// The threads, while anyone wants them.
#[derive(Debug)]
pub(crate) struct Threads {
    // Both are there until the drop.
    reads: Option<Requests<Reader>>,
    writes: Option<Requests<Writer>>,
    readers: Vec<JoinHandle<()>>,
    writer: Option<JoinHandle<()>>,
    ledger: Arc<Ledger>,
    wake: Wake,
    pulse: Pulse,
    last_stamp: u64,
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
        };
        for _ in 0..READERS {
            let reader = Reader::new(open::reading(path)?, writes.clone(), Arc::clone(&ledger));
            let requests = read_requests.clone();
            let reader = start("store-reader", move || reader::serve(reader, requests))?;
            threads.readers.push(reader);
        }
        Ok(Self {
            threads: Arc::new(threads),
        })
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
        self.write(Writer::save)
    }

    /// Whether the accounts reach the disk.
    pub fn health(&self) -> Health {
        self.threads.pulse.health()
    }

    /// Changes what is kept, from now on.
    pub fn set_retention(&self, retention: Retention) -> Answer<(), WriteError> {
        self.threads.ledger.set_clients_max(retention.clients_max);
        self.write(|writer| {
            writer.set_retention(retention);
            Ok(())
        })
    }

    pub(crate) fn write<T: Send + 'static, E: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writer) -> Result<T, E> + Send + 'static,
    ) -> Answer<T, E> {
        match &self.threads.writes {
            Some(writes) => writes.ask(work),
            None => Answer::closed(),
        }
    }

    pub(crate) fn read<T: Send + 'static, E: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Reader) -> Result<T, E> + Send + 'static,
    ) -> Answer<T, E> {
        match &self.threads.reads {
            Some(reads) => reads.ask(work),
            None => Answer::closed(),
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // A thread ends when nobody can ask it any more. Readers ask the writer: they go first.
        drop(self.reads.take());
        self.readers.drain(..).for_each(join);
        drop(self.writes.take());
        self.writer.take().into_iter().for_each(join);
    }
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a thread of the store has panicked");
    }
}

fn start(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, OpenError> {
    let give_way_and_run = || {
        // The nice value is a thread's own (setpriority(2)), and raising it is always allowed.
        if let Err(error) = rustix::process::nice(NICER) {
            tracing::warn!(%error, "a thread of the store competes with those that carry packets");
        }
        run();
    };
    let started: io::Result<_> = thread::Builder::new()
        .name(name.to_owned())
        .spawn(give_way_and_run);
    started.map_err(|source| OpenError::Thread { source })
}

#[cfg(test)]
mod tests;
