//! Which causes of failed handshakes were told of late: strangers can make as many fail as they like, and
//! fill no log with that.

use std::cell::Cell;

use engine_tls::Cause;

/// For how long one cause is not told again.
const QUIET_NANOS: u64 = 60_000_000_000;

/// What a worker told, by cause, in this minute.
#[derive(Debug, Default)]
pub(crate) struct Told {
    minute: Cell<u64>,
    causes: Cell<u64>,
}

/// A bit for each.
const _: () = assert!(Cause::ALL.len() <= u64::BITS as usize);

impl Told {
    /// Whether a cause is to be told `now`, in nanoseconds of the workers' clock. It is told then.
    pub(crate) fn is_due(&self, cause: Cause, now: u64) -> bool {
        let minute = now / QUIET_NANOS;
        if self.minute.replace(minute) != minute {
            self.causes.set(0);
        }
        let bit = 1 << cause.index();
        let causes = self.causes.get();
        self.causes.set(causes | bit);
        causes & bit == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once_a_minute() {
        let told = Told::default();
        assert!(told.is_due(Cause::Version, 1));
        assert!(!told.is_due(Cause::Version, 2));
        assert!(told.is_due(Cause::Cipher, 3));
        assert!(told.is_due(Cause::Version, QUIET_NANOS + 1));
    }
}
