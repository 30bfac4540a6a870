//! The threads behind every handle.

use std::{
    io,
    sync::Arc,
    thread::{self, JoinHandle},
};

use crate::{
    Answer, OpenError,
    chain::Documents,
    health::Pulse,
    ledger::Ledger,
    reader::Reader,
    request::Requests,
    writer::{Wake, Writer},
};

/// How much nicer its threads are than the one that opens the store: a long question takes a tenth
/// of what a thread beside it gets of a processor that both want (sched(7), "The nice value").
const NICER: i32 = 10;

/// The threads, while anyone wants them.
#[derive(Debug)]
pub(crate) struct Threads {
    // Both are there until the drop.
    pub(crate) reads: Option<Requests<Reader>>,
    pub(crate) writes: Option<Requests<Writer>>,
    pub(crate) readers: Vec<JoinHandle<()>>,
    pub(crate) writer: Option<JoinHandle<()>>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) wake: Wake,
    pub(crate) pulse: Pulse,
    pub(crate) last_stamp: u64,
    pub(crate) documents: Arc<Documents>,
}

impl Threads {
    pub(crate) fn write<T: Send + 'static, E: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writer) -> Result<T, E> + Send + 'static,
    ) -> Answer<T, E> {
        match &self.writes {
            Some(writes) => writes.ask(work),
            None => Answer::closed(),
        }
    }

    pub(crate) fn read<T: Send + 'static, E: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Reader) -> Result<T, E> + Send + 'static,
    ) -> Answer<T, E> {
        match &self.reads {
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

/// Starts a thread that gives way to those that carry packets.
pub(crate) fn start(
    name: &str,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, OpenError> {
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
