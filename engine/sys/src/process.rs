//! What the process may have, and what its threads used.

use std::{io, time::Duration};

use nix::{
    errno::Errno,
    sys::resource::{Resource, getrlimit, setrlimit},
    time::{ClockId, clock_gettime},
};

/// Raises the soft limit of open descriptors to the hard one; gives what holds then.
///
/// # Errors
/// When the kernel refuses.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// Has every descriptor but the three standard streams closed in programs that are started from now on
/// (close_range(2), CLOSE_RANGE_CLOEXEC): whoever started this process may have left it some, a lock's
/// among them, that are not theirs to hold.
///
/// # Errors
/// When the kernel refuses.
pub fn keep_descriptors_from_children() -> io::Result<()> {
    const FIRST: libc::c_uint = 3;
    // CLOSE_RANGE_CLOEXEC is a small positive number.
    let flags = libc::CLOSE_RANGE_CLOEXEC.cast_signed();
    // SAFETY: it takes numbers only, and closes nothing in this process.
    let done = unsafe { libc::close_range(FIRST, libc::c_uint::MAX, flags) };
    Errno::result(done)?;
    Ok(())
}

/// The processor time of the calling thread (clock_gettime(2), CLOCK_THREAD_CPUTIME_ID): not
/// stretched when the thread is preempted, unlike the time on the wall.
pub fn thread_cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}
