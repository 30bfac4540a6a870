//! The counters of a network's peers, read every second.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::SocketAddr,
    time::Duration,
};

use control_api::place::NetworkKey;

use control_api::state::{PresharedKey, PrivateKey, PublicKey};

use super::{Linux, device_name, error::SampleError, observe::epoch_of, wireguard::Shown};
use crate::linux::error::Refusal;

/// What the device of a network counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sampled {
    /// The device that counted; another one begins at zero.
    pub epoch: u64,
    /// Another number when the device's key, its port or anything that was set for a peer is
    /// another: WireGuard tells nobody of such changes. Only good within one process.
    pub settings: u64,
    /// By public key.
    pub peers: BTreeMap<PublicKey, PeerSample>,
}

/// What it counted for a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerSample {
    /// Where its last authenticated packet came from, or what was set.
    pub endpoint: Option<SocketAddr>,
    /// Since the Unix epoch; absent before the first.
    pub last_handshake: Option<Duration>,
    /// Bytes received from it.
    pub rx: u64,
    /// Bytes sent to it.
    pub tx: u64,
}

impl Linux {
    /// Reads the counters of a network that was observed: one request, whatever the backend.
    ///
    /// # Errors
    /// [`SampleError::NoDevice`] where there is none, also when it went since it was observed.
    pub fn sample(&mut self, network: NetworkKey) -> Result<Sampled, SampleError> {
        let none = || SampleError::NoDevice(network);
        if let Some(device) = self.devices.get(&network) {
            let shown = device.show().ok_or_else(none)?;
            return Ok(sampled(device.epoch, &shown));
        }
        let failed = |source: Refusal| SampleError::Read { network, source };
        let seen = self.seen.get(&network).ok_or_else(none)?;
        let (index, epoch) = seen.device.ok_or_else(none)?;
        let place = seen.place.clone();
        let space = self.space(&place).map_err(failed)?;
        let name = device_name(network);
        let shown = space.wireguard().and_then(|module| module.show(&name));
        let shown = shown.map_err(|error| failed(error.into()))?;
        let shown = shown.ok_or_else(none)?;
        if shown.index == index {
            return Ok(sampled(epoch, &shown));
        }
        // Somebody made it anew since.
        let link = space.rtnl.link(&name);
        let link = link.map_err(|error| failed(error.into()))?;
        let epoch = epoch_of(&link.ok_or_else(none)?, &space.netns);
        self.note(network, &place, Some((shown.index, epoch)));
        Ok(sampled(epoch, &shown))
    }
}

fn sampled(epoch: u64, shown: &Shown) -> Sampled {
    let peers = shown.peers.iter().map(|(key, peer)| {
        let sample = PeerSample {
            endpoint: peer.endpoint,
            last_handshake: peer.last_handshake,
            rx: peer.rx,
            tx: peer.tx,
        };
        (*key, sample)
    });
    Sampled {
        epoch,
        settings: settings(shown),
        peers: peers.collect(),
    }
}

/// Endpoints are left out: peers roam.
fn settings(shown: &Shown) -> u64 {
    let mut hasher = DefaultHasher::new();
    let private_key = shown.private_key.as_ref().map(PrivateKey::expose);
    (private_key, shown.listen_port, shown.peers.len()).hash(&mut hasher);
    for (key, peer) in &shown.peers {
        let secret = peer.preshared_key.as_ref().map(PresharedKey::expose);
        (key, secret, peer.keep_alive, &peer.allowed_ips).hash(&mut hasher);
    }
    hasher.finish()
}
