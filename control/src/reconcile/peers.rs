//! What the peers of all networks did since they were looked at last.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use control_api::{
    answer::{CONNECTED_SECONDS, Happening},
    place::NetworkKey,
    state::PublicKey,
};
use control_plan::sample::{Delta, Raw};
use rpds::RedBlackTreeMapSync;

/// One look at a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) raw: Raw,
    pub(crate) endpoint: Option<SocketAddr>,
    /// Since the Unix epoch.
    pub(crate) last_handshake: Option<Duration>,
}

/// What is known of a peer over all looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The last look; absent for a peer that only the accounts know.
    pub(crate) look: Option<Look>,
    /// Everything that was ever counted.
    pub(crate) total: Delta,
    pub(crate) is_connected: bool,
}

/// Every peer of every network.
#[derive(Debug)]
pub(crate) struct Peers {
    /// Handshakes before this are nobody's news: somebody else told of them.
    since: Duration,
    networks: SeenPeers,
}

/// What is known of the peers of each network. A clone shares everything.
pub(crate) type SeenPeers = RedBlackTreeMapSync<NetworkKey, Arc<BTreeMap<PublicKey, Seen>>>;

impl Peers {
    /// Nobody yet, at this time since the Unix epoch.
    pub(crate) fn new(since: Duration) -> Self {
        Self {
            since,
            networks: SeenPeers::new_sync(),
        }
    }

    /// All of them.
    pub(crate) fn all(&self) -> &SeenPeers {
        &self.networks
    }

    /// Takes over what the accounts know of a peer.
    pub(crate) fn remember(
        &mut self,
        network: NetworkKey,
        peer: PublicKey,
        raw: Option<Raw>,
        total: Delta,
    ) {
        let look = raw.map(|raw| Look {
            raw,
            ..Look::default()
        });
        let seen = Seen {
            look,
            total,
            is_connected: false,
        };
        let mut peers = self.networks.get(&network).cloned().unwrap_or_default();
        Arc::make_mut(&mut peers).insert(peer, seen);
        self.networks.insert_mut(network, peers);
    }

    /// Takes in one look at all peers of a network, and tells what happened. Peers that are gone
    /// are only disconnected: what they moved stays theirs.
    pub(crate) fn look(
        &mut self,
        network: NetworkKey,
        looks: &BTreeMap<PublicKey, Look>,
        now: Duration,
    ) -> Vec<Happening> {
        let mut news = Vec::new();
        let mut all = self.networks.get(&network).cloned().unwrap_or_default();
        let peers = Arc::make_mut(&mut all);
        for (peer, seen) in peers.iter_mut() {
            if seen.is_connected && !looks.contains_key(peer) {
                seen.is_connected = false;
                news.push(disconnected(network, *peer));
            }
        }
        for (peer, look) in looks {
            let seen = peers.entry(*peer).or_default();
            let before = seen.take(*look, now);
            let endpoint = look.endpoint;
            match (before.is_connected, seen.is_connected) {
                (false, true) if look.last_handshake >= Some(self.since) => {
                    news.push(Happening::PeerConnected {
                        network: network.get(),
                        peer: *peer,
                        endpoint,
                    });
                }
                (true, false) => news.push(disconnected(network, *peer)),
                (true, true) if before.endpoint() != endpoint => {
                    if let Some(endpoint) = endpoint {
                        news.push(Happening::EndpointChanged {
                            network: network.get(),
                            peer: *peer,
                            endpoint,
                        });
                    }
                }
                (false, _) | (true, true) => {}
            }
        }
        self.networks.insert_mut(network, all);
        news
    }

    /// What is known of a peer.
    pub(crate) fn seen(&self, network: NetworkKey, peer: &PublicKey) -> Option<&Seen> {
        self.networks.get(&network)?.get(peer)
    }
}

impl Seen {
    /// Takes in a look; gives what was known before it.
    fn take(&mut self, look: Look, now: Duration) -> Self {
        let before = *self;
        let counted = look.raw.since(before.look.map(|before| before.raw));
        self.total = self.total.plus(counted);
        self.look = Some(look);
        let connected = Duration::from_secs(CONNECTED_SECONDS);
        self.is_connected = look
            .last_handshake
            .is_some_and(|at| now.saturating_sub(at) < connected);
        before
    }

    fn endpoint(&self) -> Option<SocketAddr> {
        self.look?.endpoint
    }
}

fn disconnected(network: NetworkKey, peer: PublicKey) -> Happening {
    Happening::PeerDisconnected {
        network: network.get(),
        peer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1_000_000);

    fn network() -> NetworkKey {
        NetworkKey::new(51820).unwrap()
    }

    fn peer() -> PublicKey {
        "0a".repeat(32).parse().unwrap()
    }

    fn at(seconds: u64) -> Duration {
        START + Duration::from_secs(seconds)
    }

    fn look(handshake: Option<Duration>, endpoint: &str, rx: u64) -> BTreeMap<PublicKey, Look> {
        let look = Look {
            raw: Raw {
                epoch: 1,
                rx,
                tx: 0,
            },
            endpoint: endpoint.parse().ok(),
            last_handshake: handshake,
        };
        BTreeMap::from([(peer(), look)])
    }

    fn kinds(news: &[Happening]) -> Vec<&'static str> {
        news.iter().map(Happening::kind).collect()
    }

    #[test]
    fn a_peer_connects_moves_and_disconnects_once_each() {
        let mut peers = Peers::new(START);
        let (home, away) = ("192.0.2.1:1", "192.0.2.2:2");
        let mut news = Vec::new();
        for (now, looks) in [
            (0, look(None, home, 0)),
            (1, look(Some(at(1)), home, 0)),
            (2, look(Some(at(1)), home, 10)),
            (3, look(Some(at(1)), away, 10)),
            (180, look(Some(at(1)), away, 10)),
            (181, look(Some(at(1)), away, 10)),
            (400, look(Some(at(1)), away, 10)),
        ] {
            news.extend(peers.look(network(), &looks, at(now)));
        }
        assert_eq!(
            kinds(&news),
            ["peer_connected", "endpoint_changed", "peer_disconnected"]
        );
    }

    #[test]
    fn a_removed_peer_is_disconnected_and_keeps_what_it_moved() {
        let mut peers = Peers::new(START);
        peers.look(network(), &look(Some(at(0)), "192.0.2.1:1", 7), at(0));
        let news = peers.look(network(), &BTreeMap::new(), at(1));
        assert_eq!(kinds(&news), ["peer_disconnected"]);
        assert!(peers.look(network(), &BTreeMap::new(), at(2)).is_empty());
        assert_eq!(peers.seen(network(), &peer()).unwrap().total.rx, 7);
    }

    #[test]
    fn a_restart_tells_no_old_news_and_forgets_no_byte() {
        let mut peers = Peers::new(START);
        let before = Raw {
            epoch: 1,
            rx: 5,
            tx: 0,
        };
        let total = Delta { rx: 100, tx: 3 };
        peers.remember(network(), peer(), Some(before), total);
        let handshake = START.checked_sub(Duration::from_secs(60));
        let news = peers.look(network(), &look(handshake, "192.0.2.1:1", 8), at(0));
        assert!(news.is_empty(), "{news:?}");
        let seen = peers.seen(network(), &peer()).unwrap();
        assert!(seen.is_connected);
        assert_eq!(seen.total, Delta { rx: 103, tx: 3 });
    }
}
