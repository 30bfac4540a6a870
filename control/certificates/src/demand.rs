//! Which names that nobody declared are asked about, and how often.
//!
//! Whoever connects chooses the name, so everything here is bounded: how many are remembered, how
//! many are asked about in an hour, of one source and of all. Time is an argument.
//!
//! Names that are refused could be made up without end. A part of the budget of all is kept for
//! sources that had nothing refused of late, and who has many IPv6 prefixes is counted by the site,
//! too: so those who try names shut out each other, and not whoever has a good one.

use std::{
    collections::{BTreeSet, HashMap},
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
/// What part of the budget of all is kept for sources without refusals: one in so many.
const RESERVED: u32 = 4;
/// How many prefixes' worth an IPv6 site may ask about.
const SITE_PREFIXES: u32 = 4;
/// Bits of an IPv6 prefix, of which whoever has one address mostly has all, and of a site's, which is
/// what one customer gets at most (RFC 6177).
const PREFIX_BITS: u32 = 64;
const SITE_BITS: u32 = 48;

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
    /// Of all sources.
    shared: Budget,
    /// Of those without refusals, when the other one is spent.
    reserve: Option<Budget>,
    prefixes: Sources,
    /// The same for IPv6 sites; IPv4 addresses are prefix and site.
    sites: Sources,
    /// By which site.
    asked: HashMap<Hostname, IpAddr>,
    refused: HashMap<Hostname, u64>,
    /// The same by the time until which they are refused.
    refused_until: BTreeSet<(u64, Hostname)>,
}

/// The budgets of sources.
#[derive(Debug)]
struct Sources {
    per_hour: u32,
    known: HashMap<IpAddr, Source>,
}

#[derive(Debug)]
struct Source {
    budget: Budget,
    /// Whether something of it was refused since it is known.
    is_refused: bool,
}

impl Demand {
    /// One that remembers nothing.
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            shared: Budget::new(bounds.per_hour - bounds.per_hour / RESERVED),
            reserve: (bounds.per_hour >= RESERVED).then(|| Budget::new(bounds.per_hour / RESERVED)),
            prefixes: Sources::new(bounds.source_per_hour),
            sites: Sources::new(bounds.source_per_hour.saturating_mul(SITE_PREFIXES)),
            asked: HashMap::new(),
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
        if self.asked.contains_key(name) {
            return Decision::Asked;
        }
        if self.asked.len() >= ASKED_MAX {
            return Decision::TooMany;
        }
        let (prefix, site) = (prefix_of(source, PREFIX_BITS), prefix_of(source, SITE_BITS));
        if !self.prefixes.has_left(prefix, now) || !self.sites.has_left(site, now) {
            return Decision::TooMany;
        }
        let is_refused = self.sites.is_refused(site);
        let reserve = self.reserve.as_mut().filter(|_| !is_refused);
        let shared = Some(&mut self.shared);
        let mut budgets = shared.into_iter().chain(reserve);
        let Some(budget) = budgets.find(|budget| budget.ask(now).is_ok()) else {
            return Decision::TooMany;
        };
        budget.take(now);
        self.prefixes.take(prefix, now);
        self.sites.take(site, now);
        self.asked.insert(name.clone(), site);
        Decision::Ask
    }

    /// Whether what all sources share is spent: those that had names refused wait.
    pub(crate) fn is_spent(&self, now: u64) -> bool {
        self.shared.ask(now).is_err()
    }

    /// Notes what was said about a name.
    pub(crate) fn answered(&mut self, name: &Hostname, is_agreed: bool, now: u64) {
        let site = self.asked.remove(name);
        if is_agreed {
            return;
        }
        if let Some(site) = site {
            self.sites.note_refusal(site);
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

impl Sources {
    fn new(per_hour: u32) -> Self {
        Self {
            per_hour,
            known: HashMap::new(),
        }
    }

    /// Whether a source may have one more, and is known or can be.
    fn has_left(&mut self, source: IpAddr, now: u64) -> bool {
        if let Some(source) = self.known.get(&source) {
            return source.budget.ask(now).is_ok();
        }
        if self.known.len() >= SOURCES_MAX {
            let full = Budget::new(self.per_hour);
            self.known
                .retain(|_, source| !source.budget.is_as_full_as(&full, now));
        }
        self.known.len() < SOURCES_MAX
    }

    fn take(&mut self, source: IpAddr, now: u64) {
        let full = Budget::new(self.per_hour);
        let source = self.known.entry(source).or_insert_with(|| Source {
            budget: full.clone(),
            is_refused: false,
        });
        // An hour without a question clears a name.
        source.is_refused &= !source.budget.is_as_full_as(&full, now);
        source.budget.take(now);
    }

    fn is_refused(&self, source: IpAddr) -> bool {
        self.known
            .get(&source)
            .is_some_and(|source| source.is_refused)
    }

    fn note_refusal(&mut self, source: IpAddr) {
        if let Some(source) = self.known.get_mut(&source) {
            source.is_refused = true;
        }
    }
}

/// What counts as one source: an IPv4 address, or the first `bits` of an IPv6 one.
fn prefix_of(source: IpAddr, bits: u32) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let prefix = address.to_bits() & (u128::MAX << (128 - bits));
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

    /// Asks, and is refused.
    fn try_name(demand: &mut Demand, n: u32, source: &str) -> Decision {
        let name = host(&format!("n{n}.example"));
        let decision = demand.consider(&name, source.parse().unwrap(), 1);
        demand.answered(&name, false, 1);
        decision
    }

    #[test]
    fn one_source_does_not_use_up_what_is_there_for_all() {
        let mut demand = demand(2, 3);
        assert_eq!(try_name(&mut demand, 1, "2001:db8::1"), Decision::Ask);
        assert_eq!(try_name(&mut demand, 2, "2001:db8::2"), Decision::Ask);
        assert_eq!(try_name(&mut demand, 3, "2001:db8::3"), Decision::TooMany);
        assert_eq!(try_name(&mut demand, 4, "2001:db8:1::3"), Decision::Ask);
        assert_eq!(try_name(&mut demand, 5, "192.0.2.1"), Decision::TooMany);
    }

    /// As a /56 has 256 prefixes.
    #[test]
    fn a_site_does_not_shut_others_out_by_its_many_prefixes() {
        let mut demand = demand(10, 1000);
        let asked = (0..2560).filter(|n| {
            let source = format!("2001:db8:0:{:x}::1", n % 256);
            try_name(&mut demand, *n, &source) == Decision::Ask
        });
        assert_eq!(asked.count(), 40);
        assert!(!demand.is_spent(1));
        assert_eq!(try_name(&mut demand, 9999, "2001:db8:1::1"), Decision::Ask);
    }

    #[test]
    fn those_whose_names_are_refused_leave_something_to_others() {
        let mut demand = demand(10, 100);
        let asked = (0..1000).filter(|n| {
            let source = format!("192.0.2.{}", n % 50);
            try_name(&mut demand, *n, &source) == Decision::Ask
        });
        // Each of them was new once.
        assert_eq!(asked.count(), 75);
        assert!(demand.is_spent(1));
        assert_eq!(try_name(&mut demand, 5000, "192.0.2.1"), Decision::TooMany);
        for new in 1..=25 {
            let source = format!("198.51.100.{new}");
            assert_eq!(try_name(&mut demand, 5000 + new, &source), Decision::Ask);
            let again = try_name(&mut demand, 6000 + new, &source);
            assert_eq!(again, Decision::TooMany, "{source}");
        }
        assert_eq!(
            try_name(&mut demand, 7000, "203.0.113.1"),
            Decision::TooMany
        );
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
