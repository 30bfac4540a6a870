//! Once a second: what every peer and every route moved.

use std::collections::{BTreeMap, BTreeSet};

use control_api::{
    answer::Happening,
    place::{NetworkKey, NetworkName},
    state::{Desired, PublicKey},
};
use control_plan::sample::Raw;
use control_store::{PeerSample, RelaySample, Sample};
use engine::ClientTraffic;

use super::{clock::unix_now, networks::Networks, peers::Look};

impl Networks {
    /// Looks at all peers, and hands everything that was counted to the store: what they moved, and
    /// what clients moved since the last sample.
    ///
    /// Answers the networks whose devices were changed since the last sample, by Ringway or by
    /// somebody else: WireGuard gives no notice of that.
    pub(super) fn sample(
        &mut self,
        desired: &Desired,
        clients: &[ClientTraffic],
    ) -> BTreeSet<NetworkKey> {
        let mut peers = Vec::new();
        let mut news = Vec::new();
        let mut changed = BTreeSet::new();
        for network in desired.networks.values() {
            if network.wireguard.is_some() && self.look_at(network.port, &mut peers, &mut news) {
                changed.insert(network.port);
            }
        }
        self.news.tell(news);
        let relays = self.relays(clients);
        self.record(peers, relays);
        changed
    }

    /// Looks at the peers of one network, before what counts them is gone.
    pub(super) fn sample_network(&mut self, network: NetworkKey) {
        self.sample_networks(&BTreeSet::from([network]));
    }

    /// Looks at the peers of some networks that Ringway itself has just changed.
    pub(super) fn sample_networks(&mut self, networks: &BTreeSet<NetworkKey>) {
        self.sample_some(networks, &[]);
    }

    /// Looks at the peers of some networks, and hands over what clients moved since the last sample.
    pub(super) fn sample_some(
        &mut self,
        networks: &BTreeSet<NetworkKey>,
        clients: &[ClientTraffic],
    ) {
        let (mut peers, mut news) = (Vec::new(), Vec::new());
        for network in networks {
            self.look_at(*network, &mut peers, &mut news);
        }
        self.news.tell(news);
        let relays = self.relays(clients);
        self.record(peers, relays);
    }

    /// Hands over what clients moved by now, for those who had these networks, before others have them.
    pub(super) fn hand_over(
        &mut self,
        clients: &[ClientTraffic],
        desired: &Desired,
        networks: &BTreeSet<NetworkKey>,
    ) {
        let relays = self.relays(clients);
        self.record(Vec::new(), relays);
        self.owners.take_up(desired, networks);
    }

    /// Says of networks that are no longer desired that their peers are gone.
    pub(super) fn part_with<'a>(&mut self, gone: impl Iterator<Item = &'a NetworkKey>) {
        for network in gone {
            let nobody = BTreeMap::new();
            let news = self.peers.look(*network, &nobody, unix_now());
            self.news.tell(news);
            self.devices.remove_mut(network);
            self.settings.remove(network);
        }
    }

    fn record(&mut self, peers: Vec<PeerSample>, relays: Vec<RelaySample>) {
        self.store.accounts().record_sample(&Sample {
            time_unix: self.clock.stamp(),
            peers,
            relays,
        });
    }

    /// Whether something else is set in the device than at the last look.
    fn look_at(
        &mut self,
        network: NetworkKey,
        samples: &mut Vec<PeerSample>,
        news: &mut Vec<Happening>,
    ) -> bool {
        // One that is not there is degraded, and its reason is known.
        let Ok(sampled) = self.kernel.sample(network) else {
            return self.settings.remove(&network).is_some();
        };
        let settings = sampled.settings;
        let network_key = self.network_key(network);
        let mut looks = BTreeMap::new();
        for (peer, counted) in sampled.peers {
            let look = Look {
                raw: Raw {
                    epoch: sampled.epoch,
                    rx: counted.rx,
                    tx: counted.tx,
                },
                endpoint: counted.endpoint,
                last_handshake: counted.last_handshake,
            };
            if let Some(endpoint) = look.endpoint {
                self.known.see(network, &peer, endpoint);
            }
            let before = self.peers.seen(network, &peer).and_then(|seen| seen.look);
            if let Some(network_key) = network_key
                && before != Some(look)
            {
                samples.push(PeerSample {
                    network,
                    network_key,
                    peer,
                    raw: look.raw,
                    last_handshake: look.last_handshake.map(|at| at.as_secs()),
                    endpoint: look.endpoint,
                });
            }
            looks.insert(peer, look);
        }
        news.extend(self.peers.look(network, &looks, unix_now()));
        self.settings.insert(network, settings) != Some(settings)
    }

    fn network_key(&self, network: NetworkKey) -> Option<PublicKey> {
        self.owners.public_key(network)
    }

    fn relays(&self, clients: &[ClientTraffic]) -> Vec<RelaySample> {
        let relay = |moved: &ClientTraffic| {
            let network: NetworkName = moved.network_name.parse().ok()?;
            let port = match &network {
                NetworkName::Port(port) => Some(*port),
                NetworkName::Host | NetworkName::Netns(_) => None,
            };
            Some(RelaySample {
                network_key: port.and_then(|port| self.network_key(port)),
                peer: port.and_then(|port| self.owners.peer(port, moved.target)),
                network,
                route: moved.label.to_string(),
                client: moved.client,
                bytes_in: moved.bytes_in,
                bytes_out: moved.bytes_out,
                connections: moved.connections,
            })
        };
        clients.iter().filter_map(relay).collect()
    }
}
