//! Where peers were said to be, and where they were seen.

use std::{collections::BTreeMap, net::SocketAddr};

use control_api::{
    place::NetworkKey,
    state::{Desired, PublicKey},
};

/// What tells a peer that roamed from one whose declaration changed. The kernel keeps one endpoint
/// for both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    endpoints: BTreeMap<NetworkKey, BTreeMap<PublicKey, Endpoint>>,
}

/// The endpoints of one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// What the last state that was taken up said.
    pub declared: Option<SocketAddr>,
    /// Where it was seen last under that declaration.
    pub seen: Option<SocketAddr>,
}

impl Known {
    /// The endpoints of a peer, where there are any.
    pub fn endpoint(&self, network: NetworkKey, peer: &PublicKey) -> Option<&Endpoint> {
        self.endpoints.get(&network)?.get(peer)
    }

    /// Notes that a state is taken up in some networks. What was seen under another declaration is
    /// forgotten, and so is what is no longer declared.
    pub fn settle<'n>(
        &mut self,
        desired: &Desired,
        networks: impl IntoIterator<Item = &'n NetworkKey>,
    ) {
        for port in networks {
            let old = self.endpoints.remove(port);
            let network = desired.networks.get(port);
            let Some(wireguard) = network.and_then(|network| network.wireguard.as_ref()) else {
                continue;
            };
            let settled = wireguard.peers.iter().map(|(key, peer)| {
                let seen = old
                    .as_ref()
                    .and_then(|old| old.get(key))
                    .filter(|old| old.declared == peer.endpoint)
                    .and_then(|old| old.seen);
                let declared = peer.endpoint;
                (*key, Endpoint { declared, seen })
            });
            self.endpoints.insert(*port, settled.collect());
        }
    }

    /// Notes where a peer was seen. Only peers of the settled state are noted.
    pub fn see(&mut self, network: NetworkKey, peer: &PublicKey, at: SocketAddr) {
        let peers = self.endpoints.get_mut(&network);
        if let Some(known) = peers.and_then(|peers| peers.get_mut(peer)) {
            known.seen = Some(at);
        }
    }
}
