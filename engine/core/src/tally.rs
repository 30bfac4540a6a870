//! Counters of a route or network, and how those of several workers add up.

use hdrhistogram::Histogram;

use crate::{
    outcome::{Fault, Outcome},
    requests::Requests,
};

/// Longest time to the first upstream byte that is told apart, in microseconds; longer ones count
/// as this.
pub const FIRST_BYTE_MICROS_MAX: u64 = 60_000_000;

/// What was counted. Everything only grows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// Connections that were admitted.
    pub opened: u64,
    /// Connections that ended.
    pub closed: u64,
    /// Bytes read from clients and accepted by upstreams.
    pub bytes_in: u64,
    /// Bytes read from upstreams and accepted by clients.
    pub bytes_out: u64,
    /// Ends, by whose doing they were; [`Fault::ALL`] gives the order.
    pub faults: [u64; Fault::ALL.len()],
    /// Microseconds from the accept to the first byte from the upstream.
    pub first_byte: Option<Box<Histogram<u32>>>,
    /// What its HTTP requests came to; made at the first one.
    pub requests: Option<Box<Requests>>,
}

impl Tally {
    /// Adds what another one counted.
    pub fn add(&mut self, other: &Self) {
        self.opened += other.opened;
        self.closed += other.closed;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        for (mine, theirs) in self.faults.iter_mut().zip(other.faults) {
            *mine += theirs;
        }
        if let Some(theirs) = &other.first_byte {
            match &mut self.first_byte {
                // Both have the same bounds, so this cannot fail.
                Some(mine) => drop(mine.add(&**theirs)),
                None => self.first_byte = Some(theirs.clone()),
            }
        }
        if let Some(theirs) = &other.requests {
            self.requests().add(theirs);
        }
    }

    /// The counters of HTTP requests.
    pub fn requests(&mut self) -> &mut Requests {
        self.requests.get_or_insert_default()
    }

    /// Counts the end of a connection.
    pub fn close(&mut self, outcome: Outcome) {
        self.closed += 1;
        self.faults[outcome.fault().index()] += 1;
    }

    /// Counts the time to a first upstream byte. The histogram, 1.5 KB at one significant digit, is
    /// made at the first one.
    pub fn record_first_byte(&mut self, micros: u64) {
        let made = || {
            Histogram::new_with_bounds(1, FIRST_BYTE_MICROS_MAX, 1)
                .ok()
                .map(Box::new)
        };
        if self.first_byte.is_none() {
            self.first_byte = made();
        }
        if let Some(histogram) = &mut self.first_byte {
            histogram.saturating_record(micros.clamp(1, FIRST_BYTE_MICROS_MAX));
        }
    }

    /// Connections that did not end yet.
    pub fn live(&self) -> u64 {
        self.opened.saturating_sub(self.closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_add_up() {
        let mut one = Tally {
            opened: 2,
            bytes_in: 10,
            ..Tally::default()
        };
        one.close(Outcome::Done);
        one.record_first_byte(1_000);
        let mut two = Tally {
            opened: 1,
            bytes_out: 5,
            ..Tally::default()
        };
        two.close(Outcome::ClientReset);
        two.record_first_byte(90_000_000);
        let mut sum = Tally::default();
        sum.add(&one);
        sum.add(&two);
        assert_eq!((sum.opened, sum.closed, sum.live()), (3, 2, 1));
        assert_eq!((sum.bytes_in, sum.bytes_out), (10, 5));
        assert_eq!(sum.faults, [1, 1, 0, 0]);
        let histogram = sum.first_byte.unwrap();
        assert_eq!(histogram.len(), 2);
        assert!(histogram.max() >= FIRST_BYTE_MICROS_MAX);
    }
}
