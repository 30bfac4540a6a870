//! Threads that decide give way to threads that carry.

use std::io;

/// How much nicer: a thread that is nicer by ten gets a tenth of what one beside it gets while both
/// want the same processor (sched(7), "The nice value"), and all of it otherwise. Enough to get on
/// with, under any load.
const NICER: i32 = 10;

/// Has the calling thread give way. On Linux the nice value is a thread's own, and what it starts
/// has it, too (setpriority(2)): so threads that carry packets are started before, or by others.
///
/// # Errors
/// When the kernel refuses, which it does not for a higher value.
pub(crate) fn give_way() -> io::Result<()> {
    rustix::process::nice(NICER)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::thread;

    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn one_thread_gives_way_and_no_other() {
        let before = getpriority_process(None).unwrap();
        let lowered = thread::spawn(|| {
            give_way().unwrap();
            getpriority_process(None).unwrap()
        });
        assert_eq!(lowered.join().unwrap(), (before + NICER).min(19));
        assert_eq!(getpriority_process(None).unwrap(), before);
    }
}
