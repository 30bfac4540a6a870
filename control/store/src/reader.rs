//! The threads that answer questions, so that they never wait for writes.

use std::{sync::Arc, time::Duration};

use crossbeam_channel::Receiver;
use rusqlite::{Connection, Transaction};

use crate::{
    ReadError,
    ledger::Ledger,
    request::{Requests, Work},
    writer::Writer,
};

/// How long a question about traffic waits for the youngest bytes to be put into rows. A writer
/// that takes longer has a slow or locked disk; those bytes then come with the next question.
const CUT_PATIENCE: Duration = Duration::from_millis(500);

/// Answers until nobody can ask any more.
pub(crate) fn serve(mut reader: Reader, requests: Receiver<Work<Reader>>) {
    requests.into_iter().for_each(|work| work(&mut reader));
}

/// A connection that reads.
#[derive(Debug)]
pub(crate) struct Reader {
    connection: Connection,
    writes: Requests<Writer>,
    ledger: Arc<Ledger>,
}

impl Reader {
    pub(crate) fn new(
        connection: Connection,
        writes: Requests<Writer>,
        ledger: Arc<Ledger>,
    ) -> Self {
        Self {
            connection,
            writes,
            ledger,
        }
    }

    /// Reads everything of one question from the same state of the file.
    pub(crate) fn read<T>(
        &mut self,
        doing: &'static str,
        read: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, ReadError> {
        // Deferred, and never committed: there is nothing to commit.
        let consistent = || read(&self.connection.transaction()?);
        consistent().map_err(|source| ReadError::Sqlite { doing, source })
    }

    /// Has what was counted up to now put into rows, as far as it can be had before long.
    pub(crate) fn cut(&self, until: Option<u64>) {
        let (done, cut) = crossbeam_channel::bounded(1);
        let work: Work<Writer> = Box::new(move |writer| {
            // Its own account of a failure is the store's health.
            drop(writer.cut(until));
            let _ = done.send(());
        });
        if self.writes.post(work).is_ok() {
            let _ = cut.recv_timeout(CUT_PATIENCE);
        }
    }

    /// Notes that a poller got everything after `since` up to `stop`, and will ask from there.
    pub(crate) fn note_answer(&self, since: u64, stop: u64) {
        self.ledger.note_answer(since, stop);
    }
}
