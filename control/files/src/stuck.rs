//! Work that may never come back: a file system that hangs cannot be interrupted.

use std::{
    collections::HashMap,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use crate::mounts::Mounts;

/// Threads that are waited for no more, of all file systems together. Past this, something is wrong
/// with the whole machine.
const LATE_MAX: usize = 256;
/// Those of one file system. Past this, it is taken to hang as a whole.
const LATE_PER_MOUNT_MAX: usize = 64;
/// How many more may be late that do something for [`Whose::Gateway`].
const KEPT_BACK: usize = 32;
/// What a thread that reads a file and parses a certificate needs.
const STACK_BYTES: usize = 256 * 1024;

/// The threads there are.
static BUSY: Mutex<Busy> = Mutex::new(Busy(None));
/// Told when one has ended.
static ENDED: Condvar = Condvar::new();

/// Who needs a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The gateway itself: a boot file, a token, a key for directories or zones, a program.
    Gateway,
    /// Networks, which name as many files as they like.
    Networks,
}

/// Does something with the file at `path` on a thread of its own, and waits until it is done, or for
/// as long as `deadline`. There is at most one thread for each path: others wait for it, and where it
/// is late, the path is not tried again before it is back. A file system with many late ones is not
/// tried at all, except for files of the gateway's own.
///
/// # Errors
/// [`ErrorKind::TimedOut`], and what the system says when there is no thread.
pub fn within<T: Send + 'static>(
    whose: Whose,
    deadline: Duration,
    path: &Path,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let until = Instant::now() + deadline;
    let place = enter(whose, path, until)?;
    let (done, result) = mpsc::sync_channel(1);
    let run = move || {
        // Let go of when the result is there, also after a panic.
        let _place = place;
        let done = done;
        // Whoever asked may wait no more.
        let _ = done.send(work());
    };
    thread::Builder::new()
        .name("file".into())
        .stack_size(STACK_BYTES)
        .spawn(run)?;
    if let Ok(value) = result.recv_timeout(until.saturating_duration_since(Instant::now())) {
        return Ok(value);
    }
    // The thread lets go of its place under this lock: until then the place is its own.
    let mut busy = busy();
    match result.try_recv() {
        Ok(value) => Ok(value),
        Err(mpsc::TryRecvError::Empty) => {
            busy.note_late(path, &Mounts::now());
            ENDED.notify_all();
            Err(late())
        }
        Err(mpsc::TryRecvError::Disconnected) => Err(io::Error::other("reading it panicked")),
    }
}

/// Waits until no thread is at a path, and takes the place of one.
fn enter(whose: Whose, path: &Path, until: Instant) -> io::Result<Place> {
    let mut busy = busy();
    loop {
        match busy.enter(whose, path, Mounts::now) {
            Entry::Free => return Ok(Place(path.to_owned())),
            Entry::Refused => return Err(late()),
            Entry::Taken => {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(late());
                }
                let woken = ENDED.wait_timeout(busy, left);
                busy = woken.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }
}

fn late() -> io::Error {
    let why = "the file system does not answer: is it a network mount that hangs?";
    io::Error::new(ErrorKind::TimedOut, why)
}

/// Nothing panics while it is held.
fn busy() -> MutexGuard<'static, Busy> {
    BUSY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// That a thread is at a path.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        busy().threads().remove(&self.0);
        ENDED.notify_all();
    }
}

/// The paths that threads are at, each with the mount of one that is late.
#[derive(Default)]
struct Busy(Option<HashMap<PathBuf, Option<PathBuf>>>);

/// Whether a thread may be at a path.
#[derive(Debug, PartialEq, Eq)]
enum Entry {
    /// It is from now on.
    Free,
    /// Another one is, and not late.
    Taken,
    Refused,
}

impl Busy {
    fn threads(&mut self) -> &mut HashMap<PathBuf, Option<PathBuf>> {
        self.0.get_or_insert_default()
    }

    fn enter(&mut self, whose: Whose, path: &Path, mounts: impl FnOnce() -> Mounts) -> Entry {
        let threads = self.threads();
        match threads.get(path) {
            Some(Some(_)) => return Entry::Refused,
            Some(None) => return Entry::Taken,
            None => {}
        }
        let more = match whose {
            Whose::Gateway => KEPT_BACK,
            Whose::Networks => 0,
        };
        let late = || threads.values().flatten();
        let count = late().count();
        if count >= LATE_MAX + more {
            return Entry::Refused;
        }
        // Mounts are looked at where it matters alone.
        if count >= LATE_PER_MOUNT_MAX {
            let mounts = mounts();
            let own = mounts.of(path);
            if late().filter(|mount| *mount == own).count() >= LATE_PER_MOUNT_MAX + more {
                return Entry::Refused;
            }
        }
        threads.insert(path.to_owned(), None);
        Entry::Free
    }

    fn note_late(&mut self, path: &Path, mounts: &Mounts) {
        if let Some(thread) = self.threads().get_mut(path) {
            *thread = Some(mounts.of(path).to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has so many threads be late at paths of a folder.
    fn hang(busy: &mut Busy, whose: Whose, folder: &str, count: usize) -> usize {
        let mounts = || {
            Mounts::read(
                "1 1 0:1 / / rw - x x rw\n2 1 0:2 / /mnt/a rw - x x rw\n3 1 0:3 / /mnt/b rw - x x rw\n4 1 0:4 / /mnt/c rw - x x rw\n5 1 0:5 / /mnt/d rw - x x rw\n",
            )
        };
        let paths = (0..count).map(|number| format!("{folder}/{whose:?}/{number}"));
        let entered = paths.filter(|path| {
            let path = Path::new(path);
            let entry = busy.enter(whose, path, mounts);
            busy.note_late(path, &mounts());
            entry == Entry::Free
        });
        entered.count()
    }

    #[test]
    fn a_mount_that_hangs_leaves_room_for_the_others_and_for_the_gateways_own() {
        let mut busy = Busy::default();
        assert_eq!(
            hang(&mut busy, Whose::Networks, "/mnt/a", 300),
            LATE_PER_MOUNT_MAX
        );
        assert_eq!(hang(&mut busy, Whose::Networks, "/mnt/a/below", 1), 0);
        assert_eq!(hang(&mut busy, Whose::Networks, "/etc/ringway", 1), 1);
        assert_eq!(hang(&mut busy, Whose::Gateway, "/mnt/a", 300), KEPT_BACK);
        for folder in ["/mnt/b", "/mnt/c", "/mnt/d"] {
            hang(&mut busy, Whose::Networks, folder, 300);
        }
        assert_eq!(hang(&mut busy, Whose::Networks, "/etc/other", 1), 0);
        assert_eq!(hang(&mut busy, Whose::Gateway, "/etc/other", 1), 1);
    }

    #[test]
    fn a_path_has_one_thread() {
        let mut busy = Busy::default();
        let path = Path::new("/a");
        let none = || Mounts::read("");
        let enter = |busy: &mut Busy| busy.enter(Whose::Gateway, path, none);
        assert_eq!(enter(&mut busy), Entry::Free);
        assert_eq!(enter(&mut busy), Entry::Taken);
        busy.note_late(path, &none());
        assert_eq!(enter(&mut busy), Entry::Refused);
        busy.threads().remove(path);
        // Its place is not another's.
        busy.note_late(path, &none());
        assert_eq!(enter(&mut busy), Entry::Free);
    }
}
