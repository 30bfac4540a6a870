//! When exchanges are meant to start: at once after the one before, or at a fixed rate.
//!
//! At a fixed rate an exchange that cannot start in time, because its connection still waits for
//! an answer, is timed from when it was meant to start. A stall of the proxy so counts for every
//! exchange that it delayed, not for one a connection ("coordinated omission").

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// The intended start times of one thread's exchanges.
#[derive(Debug)]
pub(crate) struct Schedule {
    start: Instant,
    /// Time between two exchanges of this thread.
    interval: Duration,
    /// How many have become due.
    due: u32,
    /// What each connection has to start and has not, oldest first.
    late: Vec<VecDeque<Instant>>,
}

impl Schedule {
    /// A schedule over `connections`, `interval` apart, from `start` on.
    pub(crate) fn new(start: Instant, interval: Duration, connections: usize) -> Self {
        Self {
            start,
            interval,
            due: 0,
            late: vec![VecDeque::new(); connections],
        }
    }

    /// When the next exchange becomes due.
    pub(crate) fn next(&self) -> Instant {
        self.start + self.interval * self.due
    }

    /// Makes the next exchange due if it is time, on the connections in turn; gives which.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<usize> {
        let at = self.next();
        if at > now {
            return None;
        }
        let connection = self.due as usize % self.late.len();
        self.due += 1;
        self.late[connection].push_back(at);
        Some(connection)
    }

    /// When the oldest exchange that `connection` has not started was meant to start.
    pub(crate) fn start_oldest(&mut self, connection: usize) -> Option<Instant> {
        self.late[connection].pop_front()
    }

    /// What became due and was never started.
    pub(crate) fn never_started(&self) -> impl Iterator<Item = Instant> {
        self.late.iter().flatten().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_exchange_keeps_the_time_it_was_meant_to_start() {
        let start = Instant::now();
        let interval = Duration::from_millis(1);
        let mut schedule = Schedule::new(start, interval, 2);
        let late = start + interval * 3;
        let due: Vec<_> = std::iter::from_fn(|| schedule.take_due(late)).collect();
        assert_eq!(due, [0, 1, 0, 1]);
        assert_eq!(schedule.start_oldest(0), Some(start));
        assert_eq!(schedule.start_oldest(0), Some(start + interval * 2));
        assert_eq!(schedule.start_oldest(0), None);
        assert_eq!(schedule.never_started().count(), 2);
    }

    #[test]
    fn nothing_is_due_before_its_time() {
        let start = Instant::now() + Duration::from_secs(1);
        let mut schedule = Schedule::new(start, Duration::from_millis(1), 1);
        assert_eq!(schedule.take_due(start - Duration::from_nanos(1)), None);
        assert_eq!(schedule.take_due(start), Some(0));
        assert_eq!(schedule.next(), start + Duration::from_millis(1));
    }
}
