//! The thread that writes, and alone does.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, after, bounded, never, select_biased};
use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::{
    MovedError, NewGeneration, OpenError, Retention, WriteError,
    chain::{Documents, SinceDocument},
    file::Place,
    forget::Forgotten,
    frontier::Frontier,
    health::Pulse,
    ledger::{Batch, Ledger},
    number::amount,
    open,
    request::Work,
};

mod cut;
mod merge;
mod save;

use cut::Clock;
pub(crate) use cut::clock_of;
use merge::Merges;

/// How long counters wait for a lock that another process holds: they can be written later.
const COUNTERS_PATIENCE: Duration = Duration::from_millis(250);

/// How long somebody who waits for the answer waits for it.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);

/// What a write has to survive before it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// The end of the process: the log is in the kernel's hands.
    Process,
    /// The end of the machine's power: the log is on the disk, and with it all that was written
    /// before.
    Disk,
}

/// Wakes the writer when there is something new to write: once a second of samples, so that
/// counters make one transaction a second at most.
#[derive(Debug)]
pub(crate) struct Wake {
    sender: Sender<()>,
    rung: AtomicU64,
}

impl Wake {
    pub(crate) fn new() -> (Self, Receiver<()>) {
        let (sender, receiver) = bounded(1);
        let rung = AtomicU64::new(0);
        (Self { sender, rung }, receiver)
    }

    pub(crate) fn ring(&self, time: u64) {
        if self.rung.swap(time, Ordering::Relaxed) != time {
            // Full: it will wake up anyway.
            let _ = self.sender.try_send(());
        }
    }
}

/// The connection that writes, and what it has yet to write.
#[derive(Debug)]
pub(crate) struct Writer {
    connection: Connection,
    /// Where the file has to be for what is written to last.
    place: Place,
    ledger: Arc<Ledger>,
    /// Taken from the ledger and not on disk: what could not be written stays here.
    backlog: Batch,
    clock: Clock,
    merges: Merges,
    retention: Retention,
    pulse: Pulse,
    chain: SinceDocument,
    forgotten: Forgotten,
    documents: Arc<Documents>,
    frontier: Arc<Frontier>,
}

/// Does what is asked for until nobody can ask any more.
pub(crate) fn serve(mut writer: Writer, requests: &Receiver<Work<Writer>>, woken: &Receiver<()>) {
    loop {
        // Merging and removing are done in small steps, and only when nothing else is to do.
        let leisure = match writer.is_untidy() {
            true => after(Duration::ZERO),
            false => never(),
        };
        select_biased! {
            recv(requests) -> work => match work {
                Ok(work) => work(&mut writer),
                Err(_) => break,
            },
            // Failures are in the store's health, and are tried again.
            recv(woken) -> _ => drop(writer.save()),
            recv(leisure) -> _ => writer.tidy(),
        }
    }
    drop(writer.save());
}

impl Writer {
    pub(crate) fn new(
        path: &Path,
        retention: Retention,
        ledger: Arc<Ledger>,
        pulse: Pulse,
    ) -> Result<Self, OpenError> {
        let (connection, place) = open::writing(path)?;
        let database = |source| OpenError::Database {
            path: path.to_owned(),
            source,
        };
        let clock = Clock::read(&connection).map_err(database)?;
        let chain = SinceDocument::read(&connection).map_err(database)?;
        let forgotten = Forgotten::of(&connection).map_err(database)?;
        let documents = Arc::new(Documents::default());
        documents.tell(chain);
        let frontier = Arc::new(Frontier::new(clock.sampled, clock.cut));
        Ok(Self {
            connection,
            place,
            ledger,
            backlog: Batch::default(),
            clock,
            merges: Merges::default(),
            retention,
            pulse,
            chain,
            forgotten,
            documents,
            frontier,
        })
    }

    /// Where it says how far answers may tell what is no row yet.
    pub(crate) fn frontier(&self) -> Arc<Frontier> {
        Arc::clone(&self.frontier)
    }

    /// Where it says whether a full document is due.
    pub(crate) fn documents(&self) -> Arc<Documents> {
        Arc::clone(&self.documents)
    }

    /// Notes a generation that was committed, and those that an owner remembers no more.
    pub(crate) fn note_generation(&mut self, new: &NewGeneration, forgotten: Vec<i64>) {
        self.chain = self.chain.with(new.document.as_deref(), &new.difference);
        self.documents.tell(self.chain);
        self.forgotten.append(forgotten);
    }

    /// Notes that a full document was stored, with what came after it, or that it could not be.
    pub(crate) fn note_document(&mut self, generation: u64, chain: Option<SinceDocument>) {
        if let Some(chain) = chain {
            self.chain = chain;
            self.forgotten.append(vec![amount(generation) - 1]);
        }
        self.documents.have_come();
        self.documents.tell(self.chain);
    }

    /// The time of the last sample in the file.
    pub(crate) fn last_stamp(&self) -> u64 {
        self.clock.sampled
    }

    pub(crate) fn retention(&self) -> &Retention {
        &self.retention
    }

    pub(crate) fn set_retention(&mut self, retention: Retention) {
        self.retention = retention;
    }

    /// Runs a transaction: all of it comes to be, as durable as asked for, or nothing.
    pub(crate) fn write<T>(
        &mut self,
        doing: &'static str,
        durability: Durability,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, WriteError> {
        let (connection, place) = (&mut self.connection, &mut self.place);
        transact(connection, place, durability, ANSWER_PATIENCE, change)
            .map_err(|error| error.because(doing))
    }

    /// Writes what was counted and is not written yet, for a question about everything up to `until`.
    pub(crate) fn settle(&mut self, until: Option<u64>) -> Result<(), WriteError> {
        self.backlog.append(self.ledger.take());
        // What is new is of no use to a question about earlier times.
        let is_earlier = until.is_some_and(|until| until < self.backlog.time);
        match self.backlog.counts() && !is_earlier {
            true => self.save(),
            false => Ok(()),
        }
    }

    /// Writes what was counted, and the answers that were given.
    pub(crate) fn save(&mut self) -> Result<(), WriteError> {
        self.backlog.append(self.ledger.take());
        let (backlog, clock) = (&self.backlog, self.clock);
        self.merges.wind(backlog.time, &self.retention);
        let row_interval = self.retention.row_interval.as_secs().max(1);
        let is_due = clock.is_due(backlog.time, row_interval);
        // While it is not well, it is tried even with nothing to write, to learn when it is again.
        if backlog.is_empty() && !is_due && self.pulse.is_well() {
            return match self.place.check() {
                Ok(()) => Ok(()),
                Err(moved) => self.saved(Err(moved.into())),
            };
        }
        // What is open by now is older than what comes: it does not get its time.
        let cuts = self.frontier.begin(backlog.counts(), is_due);
        let saved = transact(
            &mut self.connection,
            &mut self.place,
            Durability::Process,
            COUNTERS_PATIENCE,
            |transaction| {
                let mut clock = clock;
                if cuts {
                    clock.cut(transaction)?;
                }
                save::save(transaction, backlog, &mut clock)?;
                Ok(clock)
            },
        );
        let written = saved.as_ref().ok();
        self.frontier.end(written.map(|clock| clock.times()));
        self.saved(saved)
    }

    fn saved(&mut self, saved: Result<Clock, Failed>) -> Result<(), WriteError> {
        match saved {
            Ok(clock) => {
                self.clock = clock;
                let time = self.backlog.time;
                self.backlog = Batch {
                    time,
                    ..Batch::default()
                };
                if self.pulse.good() {
                    tracing::info!("accounts are written again");
                }
                Ok(())
            }
            Err(failed) => {
                if self.pulse.bad(self.backlog.time, failed.to_string()) {
                    tracing::error!(error = %failed, "accounts cannot be written: kept in memory");
                }
                Err(failed.because("writing the accounts"))
            }
        }
    }

    fn is_untidy(&self) -> bool {
        self.merges.is_due() || !self.forgotten.is_empty()
    }

    /// One step of removing old generations, or of merging old rows.
    fn tidy(&mut self) {
        let removal = self.forgotten.due(&self.connection);
        let (merges, retention) = (&mut self.merges, &self.retention);
        let step = match removal {
            Ok(None) if !merges.is_due() => return,
            Ok(removal) => transact(
                &mut self.connection,
                &mut self.place,
                Durability::Process,
                COUNTERS_PATIENCE,
                |transaction| match removal {
                    Some(removal) => removal.step(transaction),
                    None => merges.step(transaction, retention),
                },
            ),
            Err(source) => Err(source.into()),
        };
        if let Err(source) = step {
            // Tried again after the next sample, or the next start.
            self.merges.rest();
            self.forgotten = Forgotten::default();
            let (time, error) = (self.backlog.time, source.to_string());
            if self.pulse.bad(time, error) {
                tracing::error!(error = %source, "what is old cannot be merged or removed");
            }
        }
    }

    /// What the last transaction had to survive, as SQLite knows it: 2 is FULL, 1 is NORMAL.
    #[cfg(test)]
    pub(crate) fn synchronous(&self) -> i64 {
        let synchronous = "synchronous";
        self.connection
            .pragma_query_value(None, synchronous, |row| row.get(0))
            .unwrap()
    }

    /// Merges whatever is to be merged by now.
    #[cfg(test)]
    pub(crate) fn tidy_all(&mut self) {
        while self.is_untidy() {
            self.tidy();
        }
    }
}

/// Why a transaction did not come to be.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error(transparent)]
    Moved(#[from] MovedError),
}

impl Failed {
    fn because(self, doing: &'static str) -> WriteError {
        match self {
            Self::Sqlite(source) => WriteError::Sqlite { doing, source },
            Self::Moved(source) => WriteError::Moved { doing, source },
        }
    }
}

/// A commit returns when the log is written and, with `synchronous=FULL`, when fsync(2) has
/// returned for it (sqlite.org/pragma.html#pragma_synchronous): a file is synced as a whole, so
/// what was committed with NORMAL before is durable from then on, too.
///
/// What would be written into a file that is gone from its place is not written at all.
fn transact<T>(
    connection: &mut Connection,
    place: &mut Place,
    durability: Durability,
    patience: Duration,
    change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
) -> Result<T, Failed> {
    let synchronous = match durability {
        Durability::Process => "PRAGMA synchronous = NORMAL",
        Durability::Disk => "PRAGMA synchronous = FULL",
    };
    connection.execute_batch(synchronous)?;
    connection.busy_timeout(patience)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let changed = change(&transaction)?;
    place.check()?;
    transaction.commit()?;
    Ok(changed)
}
