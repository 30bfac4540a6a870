//! What is repeated when an upstream fails, and how often.

use crate::request::Request;

/// A token in a budget is counted in thousandths.
const TOKEN: u64 = 1000;
const NANOSECONDS: u128 = 1_000_000_000;

/// How much a rule repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// Further attempts for one request.
    pub max: u8,
    /// Further attempts in percent of the requests of the rule, on the long run: when everything
    /// fails, repeating everything would double the load on what is left.
    pub percent: u8,
    /// Further attempts a second that are possible without any other request.
    pub floor: u16,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            max: 1,
            percent: 20,
            floor: 10,
        }
    }
}

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection came about: the target knows nothing of the request.
    Connect,
    /// The connection ended before the first byte of an answer. Whether the target did what was
    /// asked is not known, also for a connection of the pool that it may have closed before.
    NoAnswer,
    /// The answer began, or its time ran out.
    Answered,
}

/// What became of a request's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// All of it is still there to be sent: there is none, or none was read off the client.
    Whole,
    /// Some of it was sent, and is gone.
    Partial,
}

/// What of a request decides whether it is sent again. It outlives the request's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Safety {
    idempotent: bool,
}

impl Safety {
    /// That of a request. One that asks for another protocol is not sent twice, whatever its
    /// method.
    pub fn of(request: &Request<'_>) -> Self {
        Self {
            idempotent: request.method.is_idempotent() && request.upgrade.is_none(),
        }
    }

    /// Whether an attempt may be repeated (RFC 9110 section 9.2.2): not what could be done twice
    /// by that, unless doing it twice is the same as doing it once.
    pub fn may_repeat(self, failure: Failure, content: Content) -> bool {
        match (failure, content) {
            (_, Content::Partial) | (Failure::Answered, _) => false,
            (Failure::Connect, Content::Whole) => true,
            (Failure::NoAnswer, Content::Whole) => self.idempotent,
        }
    }
}

/// The budget of a rule on one worker: a bucket that requests fill and repetitions empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct Budget {
    tokens: u64,
    filled: u64,
}

impl Budget {
    /// Counts a request.
    pub fn deposit(&mut self, retries: &Retries) {
        let earned = TOKEN * u64::from(retries.percent) / 100;
        self.tokens = (self.tokens + earned).min(Self::most(retries));
    }

    /// Takes one repetition at `now`, in nanoseconds of a clock that only grows. False if there is
    /// none.
    pub fn withdraw(&mut self, retries: &Retries, now: u64) -> bool {
        let passed = u128::from(now.saturating_sub(self.filled));
        let earned = passed * u128::from(retries.floor) * u128::from(TOKEN) / NANOSECONDS;
        if earned > 0 {
            let tokens = u128::from(self.tokens) + earned;
            let most = Self::most(retries);
            self.tokens = u64::try_from(tokens).map_or(most, |tokens| tokens.min(most));
            self.filled = now;
        }
        let left = self.tokens.checked_sub(TOKEN);
        self.tokens = left.unwrap_or(self.tokens);
        left.is_some()
    }

    /// What a bucket holds: the floor of ten seconds, and at least ten repetitions, so that a burst
    /// after a quiet time is bounded.
    fn most(retries: &Retries) -> u64 {
        TOKEN * 10 * u64::from(retries.floor.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::Reading;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn the_long_run_is_bounded_by_percent_and_floor() {
        let retries = Retries {
            max: 1,
            percent: 10,
            floor: 2,
        };
        let mut budget = Budget::default();
        let mut repeated = 0;
        for request in 0..10_000 {
            budget.deposit(&retries);
            repeated += u32::from(budget.withdraw(&retries, request * SECOND / 1000));
        }
        assert!((1000..=1021).contains(&repeated), "{repeated}");
    }

    #[test]
    fn a_quiet_time_saves_up_no_more_than_the_bucket_holds() {
        let retries = Retries {
            floor: 1,
            ..Retries::default()
        };
        let mut budget = Budget::default();
        let hour = 3600 * SECOND;
        assert_eq!(
            (0..100).filter(|_| budget.withdraw(&retries, hour)).count(),
            10
        );
        assert!(!Budget::default().withdraw(&retries, 0));
        assert!(Budget::default().withdraw(&retries, u64::MAX));
    }

    #[test]
    fn nothing_is_done_twice_that_may_matter() {
        let read = |head: &str| {
            let bytes = head.as_bytes();
            let (limits, mut scan) = Default::default();
            match crate::request::read(bytes, &limits, &mut scan) {
                Reading::Head(request) => [
                    Safety::of(&request).may_repeat(Failure::Connect, Content::Whole),
                    Safety::of(&request).may_repeat(Failure::NoAnswer, Content::Whole),
                    Safety::of(&request).may_repeat(Failure::NoAnswer, Content::Partial),
                    Safety::of(&request).may_repeat(Failure::Answered, Content::Whole),
                ],
                other @ (Reading::NeedMore | Reading::Refused(_)) => panic!("{other:?}"),
            }
        };
        assert_eq!(
            read("GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            [true, true, false, false]
        );
        assert_eq!(
            read("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"),
            [true, false, false, false]
        );
        assert_eq!(
            read("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"),
            [true, true, false, false]
        );
        assert_eq!(
            read("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"),
            [true, false, false, false]
        );
    }
}
