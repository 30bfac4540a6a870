//! The machine's clock.

use std::io;

use nix::errno::Errno;

/// Whether the kernel says that the clock is set by another one (adjtimex(2)). Without that it may be as
/// wrong as the machine's battery is old. Where it must not be asked, nothing says so.
pub fn is_synchronised() -> bool {
    read().is_ok_and(|told| told.status & libc::STA_UNSYNC == 0)
}

fn read() -> io::Result<libc::timex> {
    // SAFETY: a `timex` has numbers only, and zero is one of each. Its `modes` say then that nothing
    // is to be set, which needs no privilege.
    let mut told: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel reads and writes one `timex`, which lives longer than the call.
    let state = unsafe { libc::clock_adjtime(libc::CLOCK_REALTIME, &raw mut told) };
    Errno::result(state)?;
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_of_the_clock_without_a_privilege() {
        let told = read().unwrap();
        // Microseconds between two ticks, of which it lets nobody change a tenth.
        assert!((9_000..=11_000).contains(&told.tick), "{}", told.tick);
        assert_eq!(is_synchronised(), told.status & libc::STA_UNSYNC == 0);
    }
}
