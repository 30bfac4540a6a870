//! The threads that answer questions, so that they never wait for writes.

use std::{sync::Arc, time::Duration};

use crossbeam_channel::Receiver;
use rusqlite::{Connection, Transaction};

use crate::{
    ReadError, Refused, TrafficQuery,
    frontier::{Frontier, Reach},
    ledger::{Ledger, Told},
    request::{Requests, Work},
    writer::{Writer, clock_of},
};

/// How long a question about traffic waits until what was counted before it is in the file. A writer
/// that takes longer has a slow or locked disk; those bytes then come with the next question.
const SETTLE_PATIENCE: Duration = Duration::from_millis(500);

/// How often a question looks at a file that goes on at the same moment, until it ends with the rows.
const LOOKS_MAX: u32 = 4;

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
    frontier: Arc<Frontier>,
}

impl Reader {
    pub(crate) fn new(
        connection: Connection,
        writes: Requests<Writer>,
        ledger: Arc<Ledger>,
        frontier: Arc<Frontier>,
    ) -> Self {
        Self {
            connection,
            writes,
            ledger,
            frontier,
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

    /// Reads a question about traffic: everything from the same state of the file, and with how far the
    /// answer reaches.
    pub(crate) fn read_traffic<T>(
        &mut self,
        doing: &'static str,
        query: &TrafficQuery,
        read: impl Fn(&Transaction<'_>, Reach) -> rusqlite::Result<T>,
    ) -> Result<T, ReadError> {
        self.settle(query.until);
        let span = (query.since, query.until.unwrap_or(u64::MAX));
        let frontier = Arc::clone(&self.frontier);
        let mut look = |is_last| {
            let turn = frontier.turn();
            self.read(doing, |transaction| {
                let reach = frontier.reach(turn, clock_of(transaction)?, span, is_last);
                reach.map(|reach| read(transaction, reach)).transpose()
            })
        };
        for _ in 1..LOOKS_MAX {
            if let Some(found) = look(false)? {
                return Ok(found);
            }
        }
        let found = look(true)?;
        found.ok_or(ReadError::Refused(Refused::Busy))
    }

    /// Waits until what was counted before is in the file, as far as it can be had before long. It would
    /// be written within a second, and is written now.
    fn settle(&self, until: Option<u64>) {
        let (done, settled) = crossbeam_channel::bounded(1);
        let work: Work<Writer> = Box::new(move |writer| {
            // Its own account of a failure is the store's health.
            drop(writer.settle(until));
            let _ = done.send(());
        });
        if self.writes.post(work).is_ok() {
            let _ = settled.recv_timeout(SETTLE_PATIENCE);
        }
    }

    /// Notes an answer: its poller will ask from its end.
    pub(crate) fn note_answer(&self, answer: Told) {
        self.ledger.note_answer(answer);
    }
}
