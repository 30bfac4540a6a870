//! One change of the kernel's state, with nothing left to choose.

use std::{collections::BTreeMap, fmt, net::SocketAddr, num::NonZeroU16};

use control_api::place::NetworkKey;

use control_api::state::{PresharedKey, PrivateKey, PublicKey};
use ipnet::IpNet;

use crate::{
    actual::{Backend, Firewall},
    publish::NamespaceSource,
};

/// A step, and the network that it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The network's public port: its namespace is `network-<port>` unless `place` says otherwise,
    /// and its device `wg<port>`.
    pub network: NetworkKey,
    /// The namespace that the step happens in.
    pub place: NamespaceSource,
    /// What is to be done.
    pub action: Action,
}

/// What a step does. Each is one request to the kernel, or one atomic batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Makes the namespace, recorded as owned before it has its name.
    MakeNamespace,
    /// Records a namespace that was somebody's as owned.
    AdoptNamespace,
    /// Sets `lo` up.
    RaiseLoopback,
    /// Lets the namespace forward packets of both families.
    Forward,
    /// Replaces Ringway's table, whole and at once.
    WriteFirewall(Firewall),
    /// Makes the device, down and without peers, its UDP port in the host's namespace. The record
    /// that it is owned comes first where the namespace is not Ringway's.
    MakeDevice {
        /// Who carries its packets; absent where whoever can is taken.
        backend: Option<Backend>,
        /// In bytes.
        mtu: u16,
    },
    /// Changes keys, port and peers in place.
    ConfigureDevice(DeviceChange),
    /// Sets the MTU in bytes.
    SetMtu(u16),
    /// Lets IPv4 addresses of the device stay when the first one of their network goes.
    KeepSecondaries,
    /// Adds an address to the device.
    AddAddress(IpNet),
    /// Puts back the routes that the kernel made with an address.
    RestoreRoutes(IpNet),
    /// Sets the device up.
    RaiseDevice,
    /// Routes a prefix to the device.
    AddRoute(IpNet),
    /// Removes a route to the device.
    RemoveRoute(IpNet),
    /// Removes an address of the device.
    RemoveAddress(IpNet),
    /// Removes the device, and with it its addresses and routes; what was counted last is kept.
    RemoveDevice,
    /// Removes the namespace with everything in it, and the record of it.
    RemoveNamespace,
    /// Removes the record of a device in a namespace that is not Ringway's.
    Disown,
}

/// What is to change in a device; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceChange {
    /// The network's own key.
    pub private_key: Option<PrivateKey>,
    /// The UDP port.
    pub listen_port: Option<NonZeroU16>,
    /// Peers that are not named here stay as they are.
    pub peers: BTreeMap<PublicKey, PeerChange>,
}

/// What becomes of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerChange {
    /// It is added, or changed in what is present here.
    Set(PeerSettings),
    /// It is removed.
    Remove,
}

/// What is to be set of a peer; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerSettings {
    /// `Some(None)` takes the secret away.
    pub preshared_key: Option<Option<PresharedKey>>,
    /// Where it is; it may roam from there.
    pub endpoint: Option<SocketAddr>,
    /// In seconds; 0 is off.
    pub keep_alive: Option<u16>,
    /// Replaces all of them.
    pub allowed_ips: Option<Vec<IpNet>>,
}

impl DeviceChange {
    /// Whether nothing is to change.
    pub fn is_empty(&self) -> bool {
        self.private_key.is_none() && self.listen_port.is_none() && self.peers.is_empty()
    }
}

impl Step {
    /// The verb in answers and logs.
    pub fn op(&self) -> &'static str {
        match &self.action {
            Action::MakeNamespace | Action::MakeDevice { .. } => "make",
            Action::AdoptNamespace => "adopt",
            Action::RaiseLoopback | Action::RaiseDevice => "raise",
            Action::Forward
            | Action::WriteFirewall(_)
            | Action::ConfigureDevice(_)
            | Action::SetMtu(_)
            | Action::KeepSecondaries => "set",
            Action::RestoreRoutes(_) => "restore",
            Action::AddAddress(_) | Action::AddRoute(_) => "add",
            Action::RemoveRoute(_)
            | Action::RemoveAddress(_)
            | Action::RemoveDevice
            | Action::RemoveNamespace => "remove",
            Action::Disown => "disown",
        }
    }

    /// What the step is about, as in `network-51820/wg51820`.
    pub fn object(&self) -> String {
        let (port, place) = (self.network, Place(&self.place));
        match &self.action {
            Action::MakeNamespace | Action::AdoptNamespace | Action::RemoveNamespace => {
                format!("{place}")
            }
            Action::RaiseLoopback => format!("{place}/lo"),
            Action::Forward => format!("{place}/forwarding"),
            Action::WriteFirewall(_) => format!("{place}/nftables"),
            Action::MakeDevice { .. }
            | Action::ConfigureDevice(_)
            | Action::SetMtu(_)
            | Action::KeepSecondaries
            | Action::AddAddress(_)
            | Action::RestoreRoutes(_)
            | Action::RaiseDevice
            | Action::AddRoute(_)
            | Action::RemoveRoute(_)
            | Action::RemoveAddress(_)
            | Action::RemoveDevice
            | Action::Disown => format!("{place}/wg{port}"),
        }
    }

    /// What exactly, without secrets. Empty where the object says it all.
    pub fn detail(&self) -> String {
        match &self.action {
            Action::MakeNamespace
            | Action::AdoptNamespace
            | Action::RaiseLoopback
            | Action::RaiseDevice
            | Action::Forward
            | Action::RemoveDevice
            | Action::RemoveNamespace
            | Action::Disown => String::new(),
            Action::WriteFirewall(firewall) => lets_in(firewall),
            Action::MakeDevice { mtu, .. } => format!("mtu {mtu}"),
            Action::ConfigureDevice(change) => change.to_string(),
            Action::SetMtu(mtu) => format!("mtu {mtu}"),
            Action::KeepSecondaries => "secondary addresses stay".to_owned(),
            Action::RestoreRoutes(prefix) => format!("routes of the address {prefix}"),
            Action::AddAddress(prefix) | Action::RemoveAddress(prefix) => {
                format!("address {prefix}")
            }
            Action::AddRoute(prefix) | Action::RemoveRoute(prefix) => format!("route {prefix}"),
        }
    }
}

/// What a firewall lets pass.
fn lets_in(firewall: &Firewall) -> String {
    let mut detail = match firewall.peer_to_peer {
        true => "peer to peer".to_owned(),
        false => "no peer to peer".to_owned(),
    };
    if !firewall.tcp_ports.is_empty() {
        let ports: Vec<String> = firewall.tcp_ports.iter().map(u16::to_string).collect();
        detail += &format!(", TCP ports {}", ports.join(" "));
    }
    detail
}

/// A namespace as answers and logs call it.
struct Place<'a>(&'a NamespaceSource);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            NamespaceSource::Host => f.write_str("host"),
            NamespaceSource::Made(port) => write!(f, "network-{port}"),
            NamespaceSource::Existing(name) => write!(f, "netns:{}", name.as_str()),
        }
    }
}

/// Peers that a detail names before it counts the rest.
const PEERS_NAMED: usize = 3;

impl fmt::Display for DeviceChange {
    /// What changes, without the keys themselves: `private key, port 51820, set peer …, remove …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if self.private_key.is_some() {
            parts.push("private key".to_owned());
        }
        if let Some(port) = self.listen_port {
            parts.push(format!("port {port}"));
        }
        for (key, change) in self.peers.iter().take(PEERS_NAMED) {
            parts.push(match change {
                PeerChange::Set(settings) => format!("set peer {key}{}", settings.what()),
                PeerChange::Remove => format!("remove peer {key}"),
            });
        }
        if let Some(more @ 1..) = self.peers.len().checked_sub(PEERS_NAMED) {
            parts.push(format!("{more} more peers"));
        }
        f.write_str(&parts.join(", "))
    }
}

impl PeerSettings {
    fn what(&self) -> String {
        let mut what = Vec::new();
        if self.preshared_key.is_some() {
            what.push("preshared key".to_owned());
        }
        if let Some(endpoint) = self.endpoint {
            what.push(format!("endpoint {endpoint}"));
        }
        if let Some(seconds) = self.keep_alive {
            what.push(format!("keep-alive {seconds} s"));
        }
        if let Some(prefixes) = &self.allowed_ips {
            what.push(format!("{} allowed ips", prefixes.len()));
        }
        if what.is_empty() {
            return String::new();
        }
        format!(" ({})", what.join(", "))
    }
}
