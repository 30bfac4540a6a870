//! Reading files whose paths an operator or a document chose.
//!
//! Such a path may lead to a pipe that nobody writes into, a device without an end, a folder, or a
//! network file system that does not answer. So a file is opened without waiting, must be a regular
//! one, is read up to a limit of its caller's, and on a thread of its own, which is left behind when
//! it does not come back in time (open(2), `O_NONBLOCK`, has no effect on regular files).
//!
//! ```text
//!   read(path, limit) ─► within(deadline) ─► a thread: read_now ─► stat, open, fstat, read
//!                             └─ too late: the path is not tried again before the thread is back,
//!                                and with many of them nothing else on that mount
//! ```
//!
//! May depend on: the standard library and what wraps system calls.
#![forbid(unsafe_code)]

mod mounts;
mod stuck;
#[cfg(test)]
mod tests;

use std::{
    fs::{self, File, FileType, Metadata},
    io::{self, ErrorKind, Read as _},
    os::unix::fs::FileTypeExt as _,
    path::Path,
    time::Duration,
};

use rustix::fs::{CWD, Mode, OFlags};
pub use stuck::{Whose, within};
use zeroize::Zeroizing;

/// How long one file may take to be read. A local disk takes milliseconds.
pub const DEADLINE: Duration = Duration::from_secs(2);
/// How fast a large one is read at least: 16 MiB a second.
const BYTES_PER_MILLISECOND: u64 = 16 * 1024;

/// Reads a regular file of at most `bytes_max` bytes within [`DEADLINE`], and a millisecond more for
/// each 16 KiB of these. What was read is wiped when
/// it is dropped: it may be a key.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] for what is no regular file, [`ErrorKind::FileTooLarge`] beyond the
/// limit, [`ErrorKind::TimedOut`] past the deadline, and whatever the system says.
pub fn read(path: &Path, bytes_max: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    read_for(Whose::Networks, path, bytes_max)
}

fn read_for(whose: Whose, path: &Path, bytes_max: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = path.to_owned();
    let deadline = DEADLINE + Duration::from_millis(bytes_max / BYTES_PER_MILLISECOND);
    within(whose, deadline, path, move || read_now(&file, bytes_max))?
}

/// As [`read`], for text: a boot file, a token, a key. Files of networks that hang leave room for it.
///
/// # Errors
/// As [`read`], and [`ErrorKind::InvalidData`] for what is not UTF-8.
pub fn read_text(path: &Path, bytes_max: u64) -> io::Result<Zeroizing<String>> {
    let bytes = read_for(Whose::Gateway, path, bytes_max)?;
    match str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(refused(
            ErrorKind::InvalidData,
            "the file is not UTF-8 text",
        )),
    }
}

/// What is known of a regular file without opening it, within [`DEADLINE`].
///
/// # Errors
/// As [`read`], whatever its length.
pub fn look(path: &Path) -> io::Result<Metadata> {
    let file = path.to_owned();
    within(Whose::Networks, DEADLINE, path, move || {
        let found = fs::metadata(file)?;
        require_regular(&found, u64::MAX)?;
        Ok(found)
    })?
}

/// As [`read`] without a deadline, for a caller that is within one already.
///
/// # Errors
/// As [`read`], without [`ErrorKind::TimedOut`].
pub fn read_now(path: &Path, bytes_max: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    // Opening a device may do something to it, so it is looked at first.
    require_regular(&fs::metadata(path)?, bytes_max)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(CWD, path, flags, Mode::empty())?);
    // Something else may have come there meanwhile.
    let found = file.metadata()?;
    require_regular(&found, bytes_max)?;
    // All of it at once, because a vector that grows leaves copies of a key behind. A file of /proc
    // says that it is empty.
    let room = usize::try_from(found.len()).unwrap_or(usize::MAX);
    let mut bytes = Zeroizing::new(Vec::with_capacity(room.saturating_add(1)));
    file.take(bytes_max.saturating_add(1))
        .read_to_end(&mut bytes)?;
    require_short(bytes.len() as u64, bytes_max)?;
    Ok(bytes)
}

fn require_regular(found: &Metadata, bytes_max: u64) -> io::Result<()> {
    if !found.is_file() {
        let kind = kind(found.file_type());
        return Err(refused(
            ErrorKind::InvalidInput,
            &format!("it is {kind}, and a regular file is needed"),
        ));
    }
    require_short(found.len(), bytes_max)
}

fn require_short(bytes: u64, bytes_max: u64) -> io::Result<()> {
    if bytes <= bytes_max {
        return Ok(());
    }
    let why = format!("it is longer than {bytes_max} bytes: is it the right file?");
    Err(refused(ErrorKind::FileTooLarge, &why))
}

fn kind(found: FileType) -> &'static str {
    if found.is_dir() {
        "a folder"
    } else if found.is_fifo() {
        "a pipe"
    } else if found.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

fn refused(kind: ErrorKind, why: &str) -> io::Error {
    io::Error::new(kind, why.to_owned())
}
