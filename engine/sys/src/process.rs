//! What the process may have, and what its threads used.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    sys::resource::{Resource, getrlimit, setrlimit},
    time::{ClockId, clock_gettime},
    unistd::pipe2,
};

/// Most descriptors that are kept back, and which part of all at most.
const RESERVE_MAX: u64 = 256;
const RESERVE_PART: u64 = 4;

/// Descriptors that the soft limit stays below the hard one.
static RESERVE: AtomicU64 = AtomicU64::new(0);
/// The first number of a descriptor that is kept back: numbers are given out from the lowest on.
static KEPT_FROM: AtomicU64 = AtomicU64::new(u64::MAX);
/// How many have work done beyond the soft limit.
static BEYOND: Mutex<u32> = Mutex::new(0);

/// Raises the soft limit of open descriptors to the hard one, less what is
/// [kept back](reserve_descriptors); gives what holds then.
///
/// # Errors
/// When the kernel refuses.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = hard - RESERVE.load(Ordering::Relaxed).min(hard);
    // Whatever has work done beyond the limit lowers it again.
    let beyond = BEYOND.lock().unwrap_or_else(PoisonError::into_inner);
    if soft != wanted && *beyond == 0 {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)?;
    }
    Ok(wanted)
}

/// Keeps descriptors back, a quarter of all and 256 at most, which are only had by what
/// [`beyond_descriptor_limit`] runs: however many connections there are, whoever decides can go on.
/// Gives the soft limit from now on.
///
/// # Errors
/// When the kernel refuses.
pub fn reserve_descriptors() -> io::Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let reserve = (hard / RESERVE_PART).min(RESERVE_MAX);
    RESERVE.store(reserve, Ordering::Relaxed);
    KEPT_FROM.store(hard - reserve, Ordering::Relaxed);
    raise_descriptor_limit()
}

/// Closes a descriptor that was made for a connection while somebody [had the
/// limit raised](beyond_descriptor_limit): those kept back are for others.
///
/// # Errors
/// `EMFILE` then, as without them.
pub(crate) fn for_a_connection(descriptor: OwnedFd) -> io::Result<OwnedFd> {
    let number = u64::try_from(descriptor.as_raw_fd()).unwrap_or(u64::MAX);
    match number < KEPT_FROM.load(Ordering::Relaxed) {
        true => Ok(descriptor),
        false => Err(Errno::EMFILE.into()),
    }
}

/// Runs work that may have the descriptors which are kept back.
///
/// A limit is the process', and counts when a descriptor is made (getrlimit(2), RLIMIT_NOFILE): others
/// find it raised meanwhile, too. What is made for connections is closed again then
/// (`for_a_connection`); for the rest, this is what was refused without, or is about to be.
pub fn beyond_descriptor_limit<T>(work: impl FnOnce() -> T) -> T {
    struct Beyond;
    impl Beyond {
        fn change(by: impl FnOnce(&mut u32)) {
            let mut beyond = BEYOND.lock().unwrap_or_else(PoisonError::into_inner);
            by(&mut beyond);
            let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
                return;
            };
            let reserve = match *beyond {
                0 => RESERVE.load(Ordering::Relaxed).min(hard),
                _ => 0,
            };
            // Lowering is always allowed, and so is raising to the hard limit.
            let _ = setrlimit(Resource::RLIMIT_NOFILE, hard - reserve, hard);
        }
    }
    impl Drop for Beyond {
        fn drop(&mut self) {
            Self::change(|beyond| *beyond -= 1);
        }
    }
    Beyond::change(|beyond| *beyond += 1);
    let _lowered = Beyond;
    work()
}

/// Whether so many descriptors can be made now, without those that are kept back.
pub fn has_descriptors(count: usize) -> bool {
    // A pipe has two. All are held until the last one is made.
    let pipes = (0..count.div_ceil(2)).map(|_| pipe2(OFlag::O_CLOEXEC));
    let made: Vec<_> = pipes.collect();
    made.iter().all(Result::is_ok)
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
