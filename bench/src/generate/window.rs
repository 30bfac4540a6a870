//! The measured time of a run: after a warm-up, and with the load going on past its end.

use std::{
    io, thread,
    time::{Duration, Instant},
};

use crate::generate::event::{Announcer, Event};

/// How long the load goes on after the measured time.
const TAIL: Duration = Duration::from_millis(150);

/// When the warm-up ends, when the measured time ends, and when the load stops.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) begin: Instant,
    pub(crate) end: Instant,
    pub(crate) stop: Instant,
}

impl Window {
    /// A window that starts to warm up now.
    pub(crate) fn starting_now(warmup: Duration, measured: Duration) -> Self {
        let begin = Instant::now() + warmup;
        let end = begin + measured;
        let stop = end + TAIL;
        Self { begin, end, stop }
    }

    /// Whether `at` is in the measured time.
    pub(crate) fn contains(&self, at: Instant) -> bool {
        self.begin <= at && at < self.end
    }

    /// Length of the measured time.
    pub(crate) fn seconds(&self) -> f64 {
        (self.end - self.begin).as_secs_f64()
    }

    /// Waits through the window and says when the measured time begins and ends.
    ///
    /// # Errors
    /// When nobody reads the events.
    pub(crate) fn announce(&self, announcer: Announcer) -> io::Result<()> {
        wait_until(self.begin);
        announcer.say(&Event::Begin)?;
        wait_until(self.end);
        announcer.say(&Event::End)
    }
}

fn wait_until(at: Instant) {
    thread::sleep(at.saturating_duration_since(Instant::now()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_ends_between_warm_up_and_end_is_measured() {
        let window = Window::starting_now(Duration::from_secs(1), Duration::from_secs(2));
        let just = Duration::from_nanos(1);
        assert!(!window.contains(window.begin - just));
        assert!(window.contains(window.begin));
        assert!(window.contains(window.end - just));
        assert!(!window.contains(window.end));
        assert!(window.stop > window.end);
    }
}
