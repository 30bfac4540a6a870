//! Work that may never come back: a file system that hangs cannot be interrupted.

use std::{
    collections::HashSet,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::Duration,
};

/// Threads that are waited for no more. Past this, nothing further is tried: something is wrong with
/// the whole machine.
const STUCK_MAX: usize = 256;
/// What a thread that reads a file and parses a certificate needs.
const STACK_BYTES: usize = 256 * 1024;

/// The paths that a thread hangs at.
static STUCK: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);

/// Does something with the file at `path` on a thread of its own, and waits until it is done, or for
/// as long as `deadline`. A path that a thread hangs at is not tried again before that one is back,
/// so that there is at most one thread for each path.
///
/// # Errors
/// [`ErrorKind::TimedOut`], and what the system says when there is no thread.
pub fn within<T: Send + 'static>(
    deadline: Duration,
    path: &Path,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    {
        let mut stuck = stuck();
        let stuck = stuck.get_or_insert_default();
        if stuck.contains(path) || stuck.len() >= STUCK_MAX {
            return Err(late());
        }
    }
    let (done, result) = mpsc::sync_channel(1);
    let own = path.to_owned();
    let run = move || {
        let value = work();
        // The result is there before the path is free again: see below.
        let mut stuck = stuck();
        let _ = done.send(value);
        stuck.get_or_insert_default().remove(&own);
    };
    thread::Builder::new()
        .name("file".into())
        .stack_size(STACK_BYTES)
        .spawn(run)?;
    if let Ok(value) = result.recv_timeout(deadline) {
        return Ok(value);
    }
    let mut stuck = stuck();
    match result.try_recv() {
        Ok(value) => Ok(value),
        Err(mpsc::TryRecvError::Empty) => {
            stuck.get_or_insert_default().insert(path.to_owned());
            Err(late())
        }
        Err(mpsc::TryRecvError::Disconnected) => Err(io::Error::other("reading it panicked")),
    }
}

fn late() -> io::Error {
    let why = "the file system does not answer: is it a network mount that hangs?";
    io::Error::new(ErrorKind::TimedOut, why)
}

/// Nothing panics while it is held.
fn stuck() -> MutexGuard<'static, Option<HashSet<PathBuf>>> {
    STUCK.lock().unwrap_or_else(PoisonError::into_inner)
}
