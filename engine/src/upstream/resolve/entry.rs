//! What a worker knows of one name: pure, time comes in.

use std::{
    net::IpAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use engine_core::endpoint::Unresolved;

/// Shortest and longest time that addresses count, whatever their server says.
const TTL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));
/// Shortest and longest time that it counts that a name has no address.
const NEGATIVE_TTL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How long the servers are left alone after a failure: twice as long each time, up to the second.
const REST: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How long the last good addresses are used after their time while the servers fail (RFC 8767
/// section 5 suggests one to three days).
const STALE: Duration = Duration::from_secs(24 * 3600);

/// An address that a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Registration {
    pub(super) ip: IpAddr,
    /// The gateway's own namespace has it, as far as that is the same machine.
    pub(super) is_at_home: bool,
    /// The namespace that it is dialed from has it.
    pub(super) is_here: bool,
}

/// What a lookup came to.
#[derive(Clone, Debug)]
pub(super) enum Looked {
    /// The name's addresses, for as long as the servers say.
    Found(Vec<Registration>, Duration),
    /// It has none that may be used, which counts so long.
    Nothing(Unresolved, Duration),
    /// Nobody said.
    Failed(Unresolved),
}

/// What is known of a name at some moment.
#[derive(Clone, Debug)]
pub(super) enum Known {
    /// Its addresses.
    Addresses(Rc<[Registration]>),
    /// Why there are none.
    Not(Unresolved),
    /// Addresses whose time is over, of servers that failed the last time: they are used while the servers are
    /// asked again.
    Old(Rc<[Registration]>),
    /// The servers are to be asked. Until they answer there may be addresses whose time is over.
    Unasked(Option<Rc<[Registration]>>),
}

/// One name.
#[derive(Clone, Debug, Default)]
pub(super) struct Entry {
    good: Option<Good>,
    bad: Option<Bad>,
    /// Failures in a row.
    failures: u32,
}

#[derive(Clone, Debug)]
struct Good {
    places: Rc<[Registration]>,
    learnt: Instant,
    until: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Bad {
    why: Unresolved,
    /// The servers say so: what they said before is over.
    is_said: bool,
    until: Instant,
}

impl Entry {
    /// What is known at `now`.
    pub(super) fn known(&self, now: Instant) -> Known {
        if let Some(good) = &self.good
            && now < good.until
        {
            return Known::Addresses(Rc::clone(&good.places));
        }
        match self.bad {
            Some(bad) if now < bad.until => match self.last_good(now) {
                Some(places) if !bad.is_said => Known::Addresses(places),
                Some(_) | None => Known::Not(bad.why),
            },
            Some(_) | None => match self.last_good(now) {
                Some(places) if self.failures > 0 => Known::Old(places),
                old => Known::Unasked(old),
            },
        }
    }

    fn last_good(&self, now: Instant) -> Option<Rc<[Registration]>> {
        let good = self.good.as_ref()?;
        (now < good.until + STALE).then(|| Rc::clone(&good.places))
    }

    /// Takes the end of a lookup at `now`.
    pub(super) fn learn(&mut self, looked: Looked, now: Instant) {
        match looked {
            Looked::Found(places, ttl) => {
                *self = Self {
                    good: Some(Good {
                        places: places.into(),
                        learnt: now,
                        until: now + kept(ttl, TTL),
                    }),
                    bad: None,
                    failures: 0,
                }
            }
            Looked::Nothing(why, ttl) => {
                *self = Self {
                    good: None,
                    bad: Some(Bad {
                        why,
                        is_said: true,
                        until: now + kept(ttl, NEGATIVE_TTL),
                    }),
                    failures: 0,
                }
            }
            Looked::Failed(why) => {
                let doubled = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
                let rest = REST.0.saturating_mul(doubled).min(REST.1);
                self.failures = self.failures.saturating_add(1).min(31);
                self.bad = Some(Bad {
                    why,
                    is_said: false,
                    until: now + rest,
                });
            }
        }
    }

    /// Whether a name that was used at `used` is to be asked for again at `now`, before its time is over:
    /// in the last tenth of it, and at least a second and a half before.
    pub(super) fn is_due(&self, used: Instant, now: Instant) -> bool {
        let Some(good) = &self.good else {
            return false;
        };
        if self.bad.is_some_and(|bad| now < bad.until) || used <= good.learnt {
            return false;
        }
        let early = (good.until - good.learnt) / 10;
        now + early.max(AHEAD) >= good.until
    }
}

/// Names in use are looked at once a second.
const AHEAD: Duration = Duration::from_millis(1500);

fn kept(ttl: Duration, (shortest, longest): (Duration, Duration)) -> Duration {
    ttl.clamp(shortest, longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn found(last: u8, ttl: u64) -> Looked {
        let place = Registration {
            ip: IpAddr::from([10, 0, 0, last]),
            is_at_home: false,
            is_here: false,
        };
        Looked::Found(vec![place], Duration::from_secs(ttl))
    }

    /// The last byte of the only address; `None` where the servers are to be asked.
    fn at(entry: &Entry, now: Instant) -> Option<Result<u8, Unresolved>> {
        match entry.known(now) {
            Known::Addresses(places) => match places[0].ip {
                IpAddr::V4(ip) => Some(Ok(ip.octets()[3])),
                IpAddr::V6(_) => panic!("there is none"),
            },
            Known::Not(why) => Some(Err(why)),
            Known::Unasked(_) | Known::Old(_) => None,
        }
    }

    #[test]
    fn addresses_count_as_long_as_is_said_within_a_second_and_an_hour() {
        for (said, counts) in [(0, 1), (1, 1), (60, 60), (3600, 3600), (1_000_000, 3600)] {
            let (mut entry, now) = (Entry::default(), Instant::now());
            assert_eq!(at(&entry, now), None);
            entry.learn(found(1, said), now);
            let end = now + Duration::from_secs(counts);
            assert_eq!(at(&entry, end - SECOND / 10), Some(Ok(1)), "{said}");
            assert_eq!(at(&entry, end), None, "{said}");
            entry.learn(found(2, said), end);
            assert_eq!(at(&entry, end), Some(Ok(2)), "{said}");
        }
    }

    #[test]
    fn the_last_good_addresses_are_used_while_the_servers_fail_and_not_for_ever() {
        let (mut entry, now) = (Entry::default(), Instant::now());
        entry.learn(found(1, 10), now);
        let mut later = now + 10 * SECOND;
        let mut rests = Vec::new();
        for _ in 0..7 {
            match rests.is_empty() {
                true => assert!(matches!(entry.known(later), Known::Unasked(Some(_)))),
                false => assert!(matches!(entry.known(later), Known::Old(_)), "nobody waits"),
            }
            entry.learn(Looked::Failed(Unresolved::Unanswered), later);
            let asked_at = later;
            while at(&entry, later) == Some(Ok(1)) {
                later += SECOND;
            }
            rests.push((later - asked_at).as_secs());
        }
        assert_eq!(rests, [1, 2, 4, 8, 16, 30, 30]);
        let end = now + 10 * SECOND + STALE;
        assert!(matches!(entry.known(end), Known::Unasked(None)));
        entry.learn(Looked::Failed(Unresolved::Unanswered), end);
        assert_eq!(at(&entry, end), Some(Err(Unresolved::Unanswered)));
        entry.learn(found(3, 10), end);
        assert_eq!(at(&entry, end), Some(Ok(3)));
    }

    #[test]
    fn a_name_that_is_gone_loses_its_addresses_for_a_while() {
        for (said, counts) in [(0, 1), (30, 30), (86_400, 60)] {
            let (mut entry, now) = (Entry::default(), Instant::now());
            entry.learn(found(1, 1), now);
            let gone = Looked::Nothing(Unresolved::Unknown, Duration::from_secs(said));
            entry.learn(gone, now);
            let end = now + Duration::from_secs(counts);
            let unknown = Some(Err(Unresolved::Unknown));
            assert_eq!(at(&entry, now), unknown);
            assert_eq!(at(&entry, end - SECOND / 10), unknown);
            assert!(matches!(entry.known(end), Known::Unasked(None)));
        }
    }

    #[test]
    fn a_name_in_use_is_due_before_its_time_is_over_and_others_are_not() {
        let (mut entry, now) = (Entry::default(), Instant::now());
        assert!(!entry.is_due(now, now));
        entry.learn(found(1, 100), now);
        let used = now + SECOND;
        assert!(!entry.is_due(used, now + 89 * SECOND));
        assert!(entry.is_due(used, now + 90 * SECOND));
        assert!(!entry.is_due(now, now + 95 * SECOND), "nobody used it");
        entry.learn(Looked::Failed(Unresolved::Unanswered), now + 90 * SECOND);
        assert!(
            !entry.is_due(used, now + 90 * SECOND),
            "the servers have a rest"
        );
        assert!(entry.is_due(used, now + 91 * SECOND));
    }
}
