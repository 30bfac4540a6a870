//! Interim responses: which of them a client gets, and how many an upstream may send.

use std::cell::Cell;

use engine_http::refusal::Refusal;

/// Interim responses that an upstream may send to a request at once. With more it is not answering
/// but keeping the gateway busy.
const BURST: u32 = 32;

/// What an upstream may still send before its response. Times are seconds of [`crate::context::live::Connections::now`].
#[derive(Debug)]
pub(crate) struct Interims {
    /// How many at once, of those one more comes back each second.
    left: Cell<u32>,
    counted_at: Cell<u32>,
    /// The client waits for `100`, and has not got one.
    awaits_continue: Cell<bool>,
}

impl Interims {
    /// Starts with a request whose client may wait to be asked for its content.
    pub(crate) fn new(now: u32, awaits_continue: bool) -> Self {
        Self {
            left: Cell::new(BURST),
            counted_at: Cell::new(now),
            awaits_continue: Cell::new(awaits_continue),
        }
    }

    /// Counts one, and says whether it is passed on. A `100` that nobody waits for says nothing (RFC
    /// 9110 section 15.2.1).
    ///
    /// # Errors
    /// When it is one too many.
    pub(crate) fn take(&self, status: u16, now: u32) -> Result<bool, Refusal> {
        let earned = now.saturating_sub(self.counted_at.replace(now));
        let left = self.left.get().saturating_add(earned).min(BURST);
        self.left.set(left.saturating_sub(1));
        if left == 0 {
            return Err(Refusal::FloodOfInterims);
        }
        Ok(status != 100 || self.awaits_continue.replace(false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_continue_that_is_awaited_passes() {
        let interims = Interims::new(0, true);
        assert_eq!(interims.take(103, 0), Ok(true));
        assert_eq!(interims.take(100, 0), Ok(true));
        assert_eq!(interims.take(100, 0), Ok(false), "once");
        assert_eq!(Interims::new(0, false).take(100, 0), Ok(false));
    }

    #[test]
    fn too_many_at_once_are_refused_and_a_long_wait_is_not() {
        let interims = Interims::new(0, false);
        for _ in 0..BURST {
            assert_eq!(interims.take(102, 0), Ok(true));
        }
        assert_eq!(interims.take(102, 0), Err(Refusal::FloodOfInterims));
        let interims = Interims::new(0, false);
        for now in 0..10_000 {
            assert_eq!(interims.take(102, now), Ok(true));
        }
    }
}
