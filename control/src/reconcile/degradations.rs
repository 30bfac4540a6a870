//! What keeps declared traffic from being served, over all looks: since when, and what is told of it.

use std::{
    collections::{BTreeMap, HashMap},
    mem,
};

use control_api::answer::{Degradation, Happening, Reason};

/// Entries of one reason that are shown; the rest is one more entry with their number.
const OF_ONE_REASON_MAX: usize = 100;
/// Events that wait for the store; later ones are lost.
const NEWS_WAITING_MAX: usize = 1000;

/// What is not served.
#[derive(Debug, Default)]
pub(super) struct Degradations {
    list: Vec<Degradation>,
    /// Since when there is what.
    known: BTreeMap<Key, u64>,
    news: Vec<Happening>,
}

type Key = (Reason, Option<u16>, String);

impl Degradations {
    /// Takes what was found at `now`, in seconds since the Unix epoch.
    pub(super) fn take(&mut self, found: Vec<Degradation>, now: u64) {
        let mut before = mem::take(&mut self.known);
        self.list = cut(found);
        for found in &mut self.list {
            let key = (found.reason, found.network, found.object.clone());
            let known = before.remove(&key);
            let since = found.since.or(known).unwrap_or(now);
            found.since = Some(since);
            if known.is_none() && !self.known.contains_key(&key) && is_told_here(found.reason) {
                self.news.push(Happening::Degraded {
                    object: found.object.clone(),
                    network: found.network,
                    reason: found.reason,
                    why: found.why.clone(),
                });
            }
            self.known.insert(key, since);
        }
        for ((reason, network, object), _) in before {
            if is_told_here(reason) {
                self.news.push(Happening::Recovered {
                    object,
                    network,
                    reason,
                });
            }
        }
        self.news.truncate(NEWS_WAITING_MAX);
    }

    /// All of it.
    pub(super) fn list(&self) -> &[Degradation] {
        &self.list
    }

    /// What is to be told since this was last asked.
    pub(super) fn take_news(&mut self) -> Vec<Happening> {
        mem::take(&mut self.news)
    }
}

/// Networks that could not be made have an event of their own, as soon as that is known.
fn is_told_here(reason: Reason) -> bool {
    reason != Reason::NetworkFailed
}

/// As many of each reason as are shown.
fn cut(found: Vec<Degradation>) -> Vec<Degradation> {
    let mut counts: HashMap<Reason, usize> = HashMap::new();
    let mut list: Vec<Degradation> = found
        .into_iter()
        .filter(|found| {
            let count = counts.entry(found.reason).or_default();
            *count += 1;
            found.reason == Reason::NetworkFailed || *count <= OF_ONE_REASON_MAX
        })
        .collect();
    for reason in Reason::ALL {
        let count = counts.get(&reason).copied().unwrap_or_default();
        if reason != Reason::NetworkFailed && count > OF_ONE_REASON_MAX {
            let why = format!("{} more for the same reason", count - OF_ONE_REASON_MAX);
            list.push(Degradation::new(reason, "others", why));
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(degradations: &mut Degradations) -> Vec<&'static str> {
        let news = degradations.take_news();
        news.iter().map(Happening::kind).collect()
    }

    #[test]
    fn what_begins_and_ends_is_told_once_and_keeps_its_time() {
        let down = || Degradation::new(Reason::TargetsDown, "a.example/", "down").of(Some(1));
        let failed = Degradation::new(Reason::NetworkFailed, "network-1", "no").of(Some(1));
        let mut degradations = Degradations::default();
        degradations.take(vec![down(), failed], 5);
        assert_eq!(kinds(&mut degradations), ["degraded"]);
        degradations.take(vec![down()], 9);
        assert_eq!(kinds(&mut degradations), [""; 0]);
        assert_eq!(degradations.list()[0].since, Some(5));
        // Of another network it is something else.
        degradations.take(vec![down().of(Some(2))], 10);
        assert_eq!(kinds(&mut degradations), ["degraded", "recovered"]);
        degradations.take(Vec::new(), 11);
        assert_eq!(kinds(&mut degradations), ["recovered"]);
        assert!(degradations.list().is_empty());
    }

    #[test]
    fn the_list_and_what_waits_are_bounded() {
        let many = |word: &str| {
            let one = |n| Degradation::new(Reason::CertificateMissing, format!("{word}{n}"), "");
            (0..1000).map(one).collect::<Vec<_>>()
        };
        let mut degradations = Degradations::default();
        for word in ["a", "b", "c", "d", "e", "f", "g"] {
            degradations.take(many(word), 1);
            assert_eq!(degradations.list().len(), OF_ONE_REASON_MAX + 1);
        }
        let last = degradations.list().last().unwrap();
        assert_eq!(last.why, "900 more for the same reason");
        assert_eq!(degradations.take_news().len(), NEWS_WAITING_MAX);
    }
}
