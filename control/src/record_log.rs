//! The connection log and the request log: a line for each connection and each HTTP request that
//! ended.
//!
//! Each has a queue and a thread. Workers put records into the bounded queue and never wait: where it is full, the engine counts
//! the record as dropped. The thread takes them out. It looks every few milliseconds instead of
//! blocking on the queue, so that no worker ever pays for waking it.

mod line;

use std::{
    io::{self, Write as _},
    num::NonZeroU32,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use control_api::boot::{LogFile, RequestFormat};
use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use engine::{Record, RequestRecord};

use crate::written::{Guarded, LogError};

/// How long the writer sleeps when there is nothing to write.
const PAUSE: Duration = Duration::from_millis(10);
/// Bytes gathered before they are written at once.
const BATCH_BYTES: usize = 64 << 10;
/// How long the end waits for whoever reads the log.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// The least time between two complaints about a log that cannot be written.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

/// What a log is called, and how one of its records is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind<R> {
    name: &'static str,
    write: fn(&R, &mut Vec<u8>),
}

/// The log of connections.
pub(crate) const CONNECTIONS: Kind<Record> = Kind {
    name: "connection",
    write: line::write,
};

/// The log of HTTP requests.
pub(crate) fn requests(format: RequestFormat) -> Kind<RequestRecord> {
    Kind {
        name: "request",
        write: match format {
            RequestFormat::Json => |record, batch| record.line().write_json(batch),
            RequestFormat::Common => |record, batch| record.line().write_common(batch),
        },
    }
}

/// The running writer of one log.
#[derive(Debug)]
pub(crate) struct RecordLog {
    name: &'static str,
    orders: Arc<Orders>,
    thread: Option<JoinHandle<()>>,
}

/// What the writer is told, and what it tells.
#[derive(Debug, Default)]
struct Orders {
    reopen: AtomicBool,
    end: AtomicBool,
    lost: AtomicU64,
}

impl RecordLog {
    /// Opens the log and starts its writer; the sender is the engine's. A log to nowhere has
    /// neither.
    ///
    /// # Errors
    /// When the file cannot be opened, or the thread not be started.
    pub(crate) fn start<R: Send + 'static>(
        kind: Kind<R>,
        file: &LogFile,
        guarded: &Guarded,
        queue_records_max: NonZeroU32,
    ) -> io::Result<(Self, Option<Sender<R>>)> {
        let name = kind.name;
        let orders = Arc::new(Orders::default());
        let Some(sink) = Sink::open(file, guarded).map_err(io::Error::other)? else {
            return Ok((
                Self {
                    name,
                    orders,
                    thread: None,
                },
                None,
            ));
        };
        let capacity = usize::try_from(queue_records_max.get()).unwrap_or(usize::MAX);
        let (sender, records) = bounded(capacity);
        let writer = Writer {
            kind,
            records,
            orders: Arc::clone(&orders),
            sink,
            batch: Vec::with_capacity(2 * BATCH_BYTES),
            complained_at: None,
        };
        let thread = thread::Builder::new()
            .name(format!("{name}s"))
            .spawn(move || writer.run())?;
        let log = Self {
            name,
            orders,
            thread: Some(thread),
        };
        Ok((log, Some(sender)))
    }

    /// Has the file opened again, by its name: for whoever rotates logs.
    pub(crate) fn reopen(&self) {
        self.orders.reopen.store(true, Relaxed);
    }

    /// Writes what still waits, and ends. A reader that takes nothing is not waited for. Answers how
    /// many records reached the writer and could not be written.
    pub(crate) fn finish(self) -> u64 {
        let Some(writer) = self.thread else {
            return 0;
        };
        self.orders.end.store(true, Relaxed);
        let deadline = Instant::now() + FLUSH_TIMEOUT;
        while !writer.is_finished() {
            if Instant::now() > deadline {
                let name = self.name;
                tracing::warn!("the {name} log's reader is too slow: its last lines are lost");
                return self.orders.lost.load(Relaxed);
            }
            thread::sleep(PAUSE);
        }
        if writer.join().is_err() {
            tracing::error!("the {} log's writer panicked", self.name);
        }
        self.orders.lost.load(Relaxed)
    }
}

struct Writer<R> {
    kind: Kind<R>,
    records: Receiver<R>,
    orders: Arc<Orders>,
    sink: Sink,
    batch: Vec<u8>,
    complained_at: Option<Instant>,
}

impl<R> Writer<R> {
    fn run(mut self) {
        loop {
            // Read before the queue: what was in it then is still written.
            let ends = self.orders.end.load(Relaxed);
            let gathered = self.gather();
            self.write(gathered.records);
            if self.orders.reopen.swap(false, Relaxed) {
                let reopened = self.sink.reopen().map_err(io::Error::other);
                self.complain("opened again", reopened, 0);
            }
            match gathered.rest {
                Rest::More => {}
                Rest::None if ends => return,
                Rest::None => thread::sleep(PAUSE),
                Rest::Ended => return,
            }
        }
    }

    /// Takes records out of the queue until a batch is full or the queue is empty.
    fn gather(&mut self) -> Gathered {
        let mut records = 0;
        while self.batch.len() < BATCH_BYTES {
            match self.records.try_recv() {
                Ok(record) => {
                    (self.kind.write)(&record, &mut self.batch);
                    records += 1;
                }
                Err(TryRecvError::Empty) => {
                    return Gathered {
                        records,
                        rest: Rest::None,
                    };
                }
                Err(TryRecvError::Disconnected) => {
                    return Gathered {
                        records,
                        rest: Rest::Ended,
                    };
                }
            }
        }
        Gathered {
            records,
            rest: Rest::More,
        }
    }

    fn write(&mut self, records: u64) {
        if records > 0 {
            let written = self.sink.write(&self.batch);
            self.batch.clear();
            self.complain("written", written, records);
        }
    }

    /// Says that the log cannot be had, but not for every line of it.
    fn complain(&mut self, what: &str, done: io::Result<()>, records: u64) {
        let Err(error) = done else {
            return;
        };
        self.orders.lost.fetch_add(records, Relaxed);
        let quiet = |at: Instant| at.elapsed() < COMPLAINT_INTERVAL;
        if !self.complained_at.is_some_and(quiet) {
            self.complained_at = Some(Instant::now());
            let lost = self.orders.lost.load(Relaxed);
            let name = self.kind.name;
            tracing::error!(%error, lost, "the {name} log cannot be {what}");
        }
    }
}

struct Gathered {
    records: u64,
    rest: Rest,
}

/// What is left in the queue.
enum Rest {
    More,
    None,
    /// And nothing will ever come.
    Ended,
}

#[derive(Debug)]
enum Sink {
    Stdout,
    File {
        path: PathBuf,
        guarded: Guarded,
        file: std::fs::File,
    },
}

impl Sink {
    fn open(file: &LogFile, guarded: &Guarded) -> Result<Option<Self>, LogError> {
        Ok(match file {
            LogFile::None => None,
            LogFile::Stdout => Some(Self::Stdout),
            LogFile::Path(path) => Some(Self::File {
                path: path.clone(),
                file: guarded.open_log(path)?,
                guarded: guarded.clone(),
            }),
        })
    }

    /// Keeps the open file when its name cannot be opened.
    fn reopen(&mut self) -> Result<(), LogError> {
        if let Self::File {
            path,
            guarded,
            file,
        } = self
        {
            *file = guarded.open_log(path)?;
        }
        Ok(())
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(lines).and_then(|()| stdout.flush())
            }
            Self::File { file, .. } => file.write_all(lines),
        }
    }
}

#[cfg(test)]
mod tests;
