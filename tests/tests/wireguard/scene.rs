//! What most tests of this suite begin with: a gateway that carries a network itself, and a peer.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use anyhow::{Result, bail};
use serde_json::{Value, json};
use tests::{
    digest::Ends,
    gateway::Gateway,
    lab::{Lab, tls},
    leak::nothing_is_left,
    network::{self, Network},
    peer::{Client, Peer, Uplink},
};

/// The port of the first network.
pub(crate) const PORT: u16 = 50_000;

/// An address family, inside a tunnel or outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// Where a network's machine with this number is inside.
    pub(crate) fn inside(self, number: u8) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::new(10, 0, 0, number).into(),
            Self::V6 => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number.into()).into(),
        }
    }
}

/// A boot file whose gateway carries the packets itself, with more keys for that.
pub(crate) fn boot(keys: Value) -> Value {
    let mut boot = tls(json!({}));
    boot["wireguard"] = keys;
    boot["wireguard"]["backend"] = "userspace".into();
    boot
}

/// A network and its peer, `10.0.0.2` and `fd00::2` inside.
pub(crate) struct Tunnel {
    pub(crate) network: Network,
    pub(crate) peer: Peer,
}

impl Tunnel {
    /// A network at that port with one peer, of which a gateway is to be told.
    pub(crate) fn new(lab: &mut Lab, client: Client, port: u16) -> Result<Self> {
        let peer = lab.peer(client)?;
        let mut network = Network::new(port)?;
        network.invite(&peer, 2)?;
        Ok(Self { network, peer })
    }

    /// Connects the peer over a family outside, and waits until it is answered.
    pub(crate) fn meet(&self, outside: Family) -> Result<()> {
        self.meet_at(outside, self.network.port, self.network.uplink())
    }

    /// [`Tunnel::meet`] through another port, or with other words.
    pub(crate) fn meet_at(&self, outside: Family, port: u16, uplink: Uplink<'_>) -> Result<()> {
        let host = match outside {
            Family::V4 => self.peer.host(),
            Family::V6 => self.peer.host_v6(),
        };
        self.peer.connect_to(SocketAddr::new(host, port), uplink)?;
        self.peer.wait_for_ping("10.0.0.1")
    }

    /// A connection from the network to the peer.
    pub(crate) fn join(&self, inside: Family) -> Result<Ends> {
        self.join_with(inside, None)
    }

    /// [`Tunnel::join`] with segments of at most so many bytes.
    pub(crate) fn join_with(&self, inside: Family, segment_bytes: Option<u32>) -> Result<Ends> {
        let (network, peer) = (self.network.netns()?, &self.peer.netns);
        Ends::join(&network, peer, inside.inside(2), segment_bytes)
    }

    /// What the two ends counted, each as received and sent by the gateway.
    pub(crate) fn accounts(&self) -> Result<[(u64, u64); 2]> {
        let (received, sent) = self.peer.transfer()?;
        let ours = self.network.transfer(&self.peer.keys.public)?;
        Ok([ours, (sent, received)])
    }
}

/// Starts a gateway of these networks.
pub(crate) fn start(lab: &mut Lab, keys: Value, tunnels: &[Tunnel]) -> Result<Arc<Gateway>> {
    let state = network::state(tunnels.iter().map(|tunnel| &tunnel.network));
    lab.gateway(boot(keys), state)
}

/// One tunnel over IPv4, and its gateway.
pub(crate) fn one(lab: &mut Lab, client: Client) -> Result<(Arc<Gateway>, Tunnel)> {
    let tunnels = [Tunnel::new(lab, client, PORT)?];
    let gateway = start(lab, json!({}), &tunnels)?;
    let [tunnel] = tunnels;
    tunnel.meet(Family::V4)?;
    Ok((gateway, tunnel))
}

/// Takes every network away, and sees that nothing of it is left.
pub(crate) fn end(gateway: &Gateway) -> Result<()> {
    let applied = gateway.api().apply(&json!({}))?;
    if applied.get("degraded").is_some() {
        bail!("{applied}");
    }
    nothing_is_left(gateway)
}
