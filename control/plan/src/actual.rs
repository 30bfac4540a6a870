//! What the kernel holds for each network, in the words of the state document.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    str::FromStr,
    time::Duration,
};

use control_api::{
    place::{NetnsName, NetworkKey},
    state::{PresharedKey, PrivateKey, PublicKey},
};
use ipnet::IpNet;

use crate::publish::NamespaceSource;

/// What was observed, for every network that was asked about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actual {
    /// By public port. A network that nothing is there for has an entry all the same.
    pub networks: BTreeMap<NetworkKey, ActualNetwork>,
}

/// What is there for one network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActualNetwork {
    /// The namespace that the network asked for.
    pub namespace: NamespaceState,
    /// Whether `lo` is up in it.
    pub is_loopback_up: bool,
    /// Whether it forwards packets of both families (`net.ipv4.ip_forward` and
    /// `net.ipv6.conf.all.forwarding`).
    pub is_forwarding: bool,
    /// Ringway's table in it.
    pub firewall: FirewallState,
    /// The device `wg<port>` in it.
    pub device: Option<ActualDevice>,
}

/// Whether a namespace is there, and whose it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NamespaceState {
    /// There is none.
    #[default]
    Absent,
    /// It was made or adopted by Ringway, and is recorded as such.
    Owned,
    /// It is somebody else's. The host's own is always this.
    Foreign,
}

/// What there is of Ringway's nftables table in a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FirewallState {
    /// No table of that name.
    #[default]
    Absent,
    /// Exactly these rules.
    Is(Firewall),
    /// Other rules than Ringway writes.
    Differs,
}

/// The rules of a tenant's namespace: what they let pass beyond replies to the gateway and echo
/// requests to its own address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firewall {
    /// Whether peers of the network reach each other through the device.
    pub peer_to_peer: bool,
    /// The TCP ports of the network's listeners there.
    pub tcp_ports: BTreeSet<u16>,
}

/// Who carries the packets of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Backend {
    /// The kernel's module.
    Kernel,
    /// Ringway itself, over a TUN device.
    Userspace,
}

impl Backend {
    /// The word in the boot file and in answers.
    pub fn label(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Userspace => "userspace",
        }
    }
}

/// A WireGuard device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActualDevice {
    /// Who carries its packets.
    pub backend: Backend,
    /// Tells this device from one that is made later under the same name: the counters of its
    /// peers begin again with it.
    pub epoch: u64,
    /// Whether it carries traffic.
    pub is_up: bool,
    /// In bytes.
    pub mtu: u32,
    /// With the lengths of their prefixes. Link-local addresses that the kernel gave are left out.
    pub addresses: BTreeSet<IpNet>,
    /// Those of them whose own routes are there: the one that makes the address local and, for an
    /// address with a network, the one that leads to it. The kernel makes them once, with the
    /// address, and never again when somebody deletes them.
    pub routed: BTreeSet<IpNet>,
    /// Whether the other IPv4 addresses of a network stay when its first one goes
    /// (`promote_secondaries`).
    pub is_promoting: bool,
    /// Routes that lead to it, but for those that the kernel adds for addresses.
    pub routes: BTreeSet<IpNet>,
    /// Absent when none was set.
    pub private_key: Option<PrivateKey>,
    /// Its UDP port.
    pub listen_port: u16,
    /// By public key.
    pub peers: BTreeMap<PublicKey, ActualPeer>,
}

/// A peer of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActualPeer {
    /// Absent when none was set.
    pub preshared_key: Option<PresharedKey>,
    /// Where its last authenticated packet came from, or what was set.
    pub endpoint: Option<SocketAddr>,
    /// In seconds; 0 is off.
    pub keep_alive: u16,
    /// Without host bits.
    pub allowed_ips: BTreeSet<IpNet>,
    /// Since the Unix epoch; absent before the first.
    pub last_handshake: Option<Duration>,
    /// Bytes received from it, as the device counts them.
    pub rx: u64,
    /// Bytes sent to it.
    pub tx: u64,
}

/// What Ringway made and may remove: recorded before it exists, so that a crash leaves nothing
/// that nobody owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owned {
    /// A namespace with everything in it.
    Namespace(NamespaceIdentity),
    /// A device only, in a namespace that is not Ringway's.
    DeviceIn(NamespaceSource),
}

/// One namespace among all that there ever were: the boot of the machine and the inode in nsfs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespaceIdentity(pub String);

/// The text is not that of an [`Owned`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a record of what Ringway made")]
pub struct ParseOwnedError;

const NAMESPACE: &str = "namespace:";
const DEVICE_IN_HOST: &str = "device:host";
const DEVICE_IN: &str = "device:netns:";

impl fmt::Display for Owned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace(identity) => write!(f, "{NAMESPACE}{}", identity.0),
            Self::DeviceIn(NamespaceSource::Existing(name)) => {
                write!(f, "{DEVICE_IN}{}", name.as_str())
            }
            // A namespace that Ringway made is owned whole.
            Self::DeviceIn(NamespaceSource::Host | NamespaceSource::Made(_)) => {
                f.write_str(DEVICE_IN_HOST)
            }
        }
    }
}

impl FromStr for Owned {
    type Err = ParseOwnedError;

    fn from_str(text: &str) -> Result<Self, ParseOwnedError> {
        if let Some(identity) = text.strip_prefix(NAMESPACE) {
            return Ok(Self::Namespace(NamespaceIdentity(identity.to_owned())));
        }
        if text == DEVICE_IN_HOST {
            return Ok(Self::DeviceIn(NamespaceSource::Host));
        }
        let name = text.strip_prefix(DEVICE_IN).ok_or(ParseOwnedError)?;
        let name: NetnsName = name.parse().map_err(|_| ParseOwnedError)?;
        Ok(Self::DeviceIn(NamespaceSource::Existing(name)))
    }
}
