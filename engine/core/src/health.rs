//! Whether a target is well, as those that check it and its requests say, and how it failed last.

use std::{
    net::IpAddr,
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
};

/// What is known of one target, for all workers. It outlives the snapshot: the next one inherits it.
/// It is written when a check changes its mind, when the target fails and when it answers again, and
/// otherwise only read.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<State>);

#[derive(Debug, Default)]
struct State {
    is_down: AtomicBool,
    /// Of a target that is a name: its addresses that are down, where the first says that there are any.
    has_places_down: AtomicBool,
    places_down: OnceLock<Box<RwLock<Vec<IpAddr>>>>,
    /// The time of the last failure in seconds since the Unix epoch, above the bits of its code; 0
    /// before the first.
    last_failure: AtomicU64,
    /// Requests and connections that failed since the last that did not, with [`FAILING`] from where on
    /// these are enough. One number, so that an answer takes back both at once.
    failed: AtomicU32,
}

/// Above the count of what failed.
const FAILING: u32 = 1 << 31;

/// Bits of a failure's code.
const CODE_BITS: u32 = u16::BITS;

impl Health {
    /// Whether the target is down. A target that nobody checks never is.
    pub fn is_down(&self) -> bool {
        self.0.is_down.load(Relaxed)
    }

    /// Says whether it is down from now on.
    pub fn set_down(&self, is_down: bool) {
        self.0.is_down.store(is_down, Relaxed);
    }

    /// Whether one address of a target that is a name is down.
    pub fn is_down_at(&self, ip: IpAddr) -> bool {
        self.0.has_places_down.load(Relaxed)
            && self.0.places_down.get().is_some_and(|down| {
                let down = down.read();
                down.unwrap_or_else(PoisonError::into_inner).contains(&ip)
            })
    }

    /// Says which of its addresses are down from now on; the target is down where `all` are.
    pub fn set_down_at(&self, down: Vec<IpAddr>, all: bool) {
        let has_down = !down.is_empty();
        // Most targets are an address, and never have one of several that is down.
        if has_down || self.0.places_down.get().is_some() {
            let places = self.0.places_down.get_or_init(Box::default).write();
            *places.unwrap_or_else(PoisonError::into_inner) = down;
        }
        self.0.has_places_down.store(has_down, Relaxed);
        self.set_down(all);
    }

    /// Counts a request that it failed, or a connection that it did not take. From so many in a row on
    /// it is failing; 0 are never enough.
    pub fn fail_request(&self, enough: u32) {
        let count = |before: u32| {
            let failed = (before & !FAILING).saturating_add(1).min(FAILING - 1);
            let is_failing = enough > 0 && failed >= enough;
            Some(before & FAILING | failed | if is_failing { FAILING } else { 0 })
        };
        // Nothing refuses to be counted.
        let _ = self.0.failed.fetch_update(Relaxed, Relaxed, count);
    }

    /// Notes that it answered a request or took a connection, or that another machine has come into its
    /// place.
    pub fn answer_request(&self) {
        if self.0.failed.load(Relaxed) > 0 {
            self.0.failed.store(0, Relaxed);
        }
    }

    /// Whether its last requests or connections failed, over all workers. It is asked nevertheless: see
    /// [`Health::is_down`] and what each worker has learnt of it.
    pub fn is_failing(&self) -> bool {
        self.0.failed.load(Relaxed) & FAILING != 0
    }

    /// Notes how it failed, by a code of the caller's, at `now` in seconds since the Unix epoch. Says
    /// whether it failed in another way before, or never.
    pub fn note_failure(&self, code: u16, now: u64) -> bool {
        let noted = now << CODE_BITS | u64::from(code);
        let before = self.0.last_failure.swap(noted, Relaxed);
        before == 0 || failure(before).0 != code
    }

    /// The code of its last failure, and when that was, in seconds since the Unix epoch.
    pub fn last_failure(&self) -> Option<(u16, u64)> {
        let noted = self.0.last_failure.load(Relaxed);
        (noted != 0).then(|| failure(noted))
    }
}

fn failure(noted: u64) -> (u16, u64) {
    let code = u16::try_from(noted & u64::from(u16::MAX)).unwrap_or(u16::MAX);
    (code, noted >> CODE_BITS)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::SeqCst;

    use super::*;

    #[test]
    fn one_address_may_be_down_and_the_others_not() {
        let (health, ip) = (Health::default(), |last| IpAddr::from([10, 0, 0, last]));
        health.set_down_at(vec![ip(1)], false);
        assert!(health.is_down_at(ip(1)) && !health.is_down_at(ip(2)) && !health.is_down());
        health.set_down_at(vec![ip(1), ip(2)], true);
        assert!(health.is_down_at(ip(2)) && health.is_down());
        health.set_down_at(Vec::new(), false);
        assert!(!health.is_down_at(ip(1)) && !health.is_down());
    }

    #[test]
    fn requests_that_fail_in_a_row_make_it_failing_until_one_is_answered() {
        let health = Health::default();
        for _ in 0..2 {
            health.fail_request(3);
            assert!(!health.is_failing());
        }
        health.answer_request();
        for is_failing in [false, false, true, true] {
            health.fail_request(3);
            assert_eq!(health.is_failing(), is_failing);
        }
        assert!(!health.is_down(), "it is asked nevertheless");
        health.answer_request();
        assert!(!health.is_failing());
        for _ in 0..10 {
            health.fail_request(0);
        }
        assert!(!health.is_failing());
    }

    #[test]
    fn an_answer_takes_back_what_another_worker_counts_at_the_same_time() {
        const ROUNDS: u32 = 8_000;
        let (health, round) = (Health::default(), AtomicU32::new(0));
        let mut stuck = 0;
        std::thread::scope(|scope| {
            // Fails once a round, and tells.
            scope.spawn(|| {
                for failed in 1..=ROUNDS {
                    health.fail_request(1);
                    round.store(2 * failed - 1, SeqCst);
                    while round.load(SeqCst) < 2 * failed {
                        std::thread::yield_now();
                    }
                }
            });
            for failed in 1..=ROUNDS {
                while round.load(SeqCst) < 2 * failed - 1 {
                    health.answer_request();
                }
                health.answer_request();
                stuck += u32::from(health.is_failing());
                round.store(2 * failed, SeqCst);
            }
        });
        assert_eq!(stuck, 0, "of {ROUNDS} rounds");
    }

    #[test]
    fn the_last_failure_is_kept_and_another_one_is_news() {
        let health = Health::default();
        assert_eq!(health.last_failure(), None);
        assert!(health.note_failure(0, 1_700_000_000));
        assert!(!health.note_failure(0, 1_700_000_001));
        assert!(health.note_failure(0x0507, 1_700_000_002));
        assert_eq!(health.last_failure(), Some((0x0507, 1_700_000_002)));
        assert!(!health.is_down());
    }
}
