//! Which networks are not as desired, and why.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use control_api::place::NetworkKey;

use control_api::answer::{Degradation, Happening, Reason};

/// The first wait before a network that failed is tried again; it doubles up to [`WAIT_MAX`].
const WAIT_MIN: Duration = Duration::from_millis(500);
/// The longest wait.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// The networks that failed.
#[derive(Debug, Default)]
pub(crate) struct Degraded {
    networks: BTreeMap<NetworkKey, Failure>,
}

#[derive(Debug)]
struct Failure {
    reason: String,
    since: u64,
    wait: Duration,
    retry_at: Instant,
}

impl Degraded {
    /// Notes that a network failed, at `now` and at `unix` seconds since the Unix epoch. The news,
    /// where it failed differently before or not at all.
    pub(crate) fn fail(
        &mut self,
        network: NetworkKey,
        reason: String,
        now: Instant,
        unix: u64,
    ) -> Option<Happening> {
        let before = self.networks.get(&network);
        let is_new = before.is_none_or(|before| before.reason != reason);
        let wait = before.map_or(WAIT_MIN, |before| (before.wait * 2).min(WAIT_MAX));
        let reasons = vec![reason.clone()];
        let failure = Failure {
            reason,
            since: before.map_or(unix, |before| before.since),
            wait,
            retry_at: now + wait,
        };
        self.networks.insert(network, failure);
        is_new.then(|| Happening::NetworkDegraded {
            network: network.get(),
            reasons,
        })
    }

    /// Notes that a network is as desired, or is gone. The news, where it was not.
    pub(crate) fn recover(&mut self, network: NetworkKey) -> Option<Happening> {
        self.networks.remove(&network)?;
        Some(Happening::NetworkRecovered {
            network: network.get(),
        })
    }

    /// The networks that are to be tried again by now.
    pub(crate) fn due(&self, now: Instant) -> impl Iterator<Item = NetworkKey> {
        let due = self.networks.iter();
        due.filter(move |(_, failure)| failure.retry_at <= now)
            .map(|(network, _)| *network)
    }

    /// All of them, for answers.
    pub(crate) fn list(&self) -> Vec<Degradation> {
        let list = self.networks.iter().map(|(network, failure)| {
            let object = format!("network-{network}");
            Degradation::new(Reason::NetworkFailed, object, &*failure.reason)
                .of(Some(network.get()))
                .since(failure.since)
        });
        list.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_news_once_and_is_tried_again_ever_later() {
        let network = NetworkKey::new(1).unwrap();
        let mut degraded = Degraded::default();
        let mut now = Instant::now();
        let first = degraded.fail(network, "no module".to_owned(), now, 7);
        assert_eq!(first.unwrap().kind(), "network_degraded");
        let mut waits = Vec::new();
        for _ in 0..8 {
            let from = now;
            while degraded.due(now).next().is_none() {
                now += Duration::from_millis(250);
            }
            waits.push((now - from).as_millis());
            assert_eq!(degraded.fail(network, "no module".to_owned(), now, 7), None);
        }
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        assert!(
            degraded
                .fail(network, "port taken".to_owned(), now, 8)
                .is_some()
        );
        assert_eq!(degraded.list()[0].since, Some(7));
        assert_eq!(
            degraded.recover(network).unwrap().kind(),
            "network_recovered"
        );
        assert_eq!(degraded.recover(network), None);
    }
}
