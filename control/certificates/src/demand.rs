//! Which names that nobody declared are asked about, and how often.
//!
//! Whoever connects chooses the name, so everything here is bounded: how many are remembered, how
//! many are asked about in an hour, of one source and of all. Time is an argument.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::IpAddr,
};

use engine_core::hostname::Hostname;

use crate::schedule::Budget;

/// Refused names that are remembered; of more, those go that would be forgotten first.
const REFUSED_MAX: usize = 10_000;
/// Sources whose budgets are remembered; while there are so many, others wait.
const SOURCES_MAX: usize = 10_000;
/// Names that are asked about at once.
const ASKED_MAX: usize = 16;

/// What is done with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It is asked about.
    Ask,
    /// It is being asked about.
    Asked,
    /// It was refused of late.
    Refused,
    /// Enough was asked about for this source, or for all.
    TooMany,
}

/// The bounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) refused_seconds: u64,
    pub(crate) source_per_hour: u32,
    pub(crate) per_hour: u32,
}

/// What was asked about, and what is.
#[derive(Debug)]
pub(crate) struct Demand {
    bounds: Bounds,
    all: Budget,
    sources: HashMap<IpAddr, Budget>,
    asked: HashSet<Hostname>,
    refused: HashMap<Hostname, u64>,
    /// The same by the time until which they are refused.
    refused_until: BTreeSet<(u64, Hostname)>,
}

impl Demand {
    /// One that remembers nothing.
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            all: Budget::new(bounds.per_hour),
            sources: HashMap::new(),
            asked: HashSet::new(),
            refused: HashMap::new(),
            refused_until: BTreeSet::new(),
        }
    }

    /// Decides about a name that a client at `source` asked for.
    pub(crate) fn consider(&mut self, name: &Hostname, source: IpAddr, now: u64) -> Decision {
        self.forget_until(now);
        if self.refused.contains_key(name) {
            return Decision::Refused;
        }
        if self.asked.contains(name) {
            return Decision::Asked;
        }
        if self.asked.len() >= ASKED_MAX || self.all.ask(now).is_err() {
            return Decision::TooMany;
        }
        let prefix = prefix_of(source);
        if !self.sources.contains_key(&prefix) && self.sources.len() >= SOURCES_MAX {
            let full = Budget::new(self.bounds.source_per_hour);
            self.sources
                .retain(|_, budget| !budget.is_as_full_as(&full, now));
            if self.sources.len() >= SOURCES_MAX {
                return Decision::TooMany;
            }
        }
        let per_hour = self.bounds.source_per_hour;
        let budget = self.sources.entry(prefix);
        let budget = budget.or_insert_with(|| Budget::new(per_hour));
        if budget.ask(now).is_err() {
            return Decision::TooMany;
        }
        budget.take(now);
        self.all.take(now);
        self.asked.insert(name.clone());
        Decision::Ask
    }

    /// Notes what was said about a name.
    pub(crate) fn answered(&mut self, name: &Hostname, is_agreed: bool, now: u64) {
        self.asked.remove(name);
        if is_agreed {
            return;
        }
        let until = now.saturating_add(self.bounds.refused_seconds);
        if let Some(before) = self.refused.insert(name.clone(), until) {
            self.refused_until.remove(&(before, name.clone()));
        }
        self.refused_until.insert((until, name.clone()));
        if self.refused.len() > REFUSED_MAX
            && let Some((_, name)) = self.refused_until.pop_first()
        {
            self.refused.remove(&name);
        }
    }

    fn forget_until(&mut self, now: u64) {
        while let Some((until, _)) = self.refused_until.first()
            && *until <= now
        {
            if let Some((_, name)) = self.refused_until.pop_first() {
                self.refused.remove(&name);
            }
        }
    }
}

/// What counts as one source: an IPv4 address, or an IPv6 /64, of which whoever has one address
/// mostly has all.
fn prefix_of(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let prefix = address.to_bits() & (u128::MAX << 64);
            std::net::Ipv6Addr::from_bits(prefix).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn host(name: &str) -> Hostname {
        Hostname::parse(name.as_bytes()).unwrap()
    }

    fn demand(source_per_hour: u32, per_hour: u32) -> Demand {
        Demand::new(Bounds {
            refused_seconds: 60,
            source_per_hour,
            per_hour,
        })
    }

    const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn a_name_is_asked_about_once_and_a_no_counts_for_a_while() {
        let mut demand = demand(10, 10);
        let name = host("a.example");
        assert_eq!(demand.consider(&name, SOURCE, 0), Decision::Ask);
        assert_eq!(demand.consider(&name, SOURCE, 1), Decision::Asked);
        demand.answered(&name, false, 2);
        assert_eq!(demand.consider(&name, SOURCE, 61), Decision::Refused);
        assert_eq!(demand.consider(&name, SOURCE, 62), Decision::Ask);
    }

    #[test]
    fn one_source_does_not_use_up_what_is_there_for_all() {
        let mut demand = demand(2, 3);
        let ask = |demand: &mut Demand, n: u8, source: &str| {
            let name = host(&format!("n{n}.example"));
            let decision = demand.consider(&name, source.parse().unwrap(), 1);
            demand.answered(&name, false, 1);
            decision
        };
        assert_eq!(ask(&mut demand, 1, "2001:db8::1"), Decision::Ask);
        assert_eq!(ask(&mut demand, 2, "2001:db8::2"), Decision::Ask);
        assert_eq!(ask(&mut demand, 3, "2001:db8::3"), Decision::TooMany);
        assert_eq!(ask(&mut demand, 4, "2001:db8:1::3"), Decision::Ask);
        assert_eq!(ask(&mut demand, 5, "192.0.2.1"), Decision::TooMany);
    }

    proptest! {
        #[test]
        fn what_is_remembered_is_bounded_and_consistent(
            steps in prop::collection::vec((0..40_u8, any::<u32>(), 0..100_u64, any::<bool>()), 1..300),
        ) {
            let mut demand = demand(3, 20);
            let mut now = 0;
            for (n, source, pass, is_agreed) in steps {
                now += pass;
                let name = host(&format!("n{n}.example"));
                let source = IpAddr::V4(source.into());
                if demand.consider(&name, source, now) == Decision::Ask {
                    demand.answered(&name, is_agreed, now);
                }
                prop_assert!(demand.asked.len() <= ASKED_MAX);
                prop_assert_eq!(demand.refused.len(), demand.refused_until.len());
            }
        }
    }
}
