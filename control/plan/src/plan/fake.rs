//! A kernel in memory, with the real one's rules, for the laws of planning.
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "an action that is not known here fails its step, and so its test"
)]

use std::collections::{BTreeMap, BTreeSet};

use control_api::place::NetworkKey;

use ipnet::IpNet;

use crate::{
    actual::{
        Actual, ActualDevice, ActualNetwork, Backend, FirewallState, NamespaceIdentity,
        NamespaceState, Owned,
    },
    publish::NamespaceSource,
    step::{Action, DeviceChange, PeerChange, Step},
};

/// Namespaces by where they are, and what Ringway recorded.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Fake {
    namespaces: BTreeMap<NamespaceSource, Namespace>,
    pub(super) owned: BTreeMap<NetworkKey, Owned>,
    made: u64,
    /// Steps until one fails.
    pub(super) fails_after: Option<usize>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Namespace {
    identity: u64,
    is_loopback_up: bool,
    is_forwarding: bool,
    firewall: FirewallState,
    devices: BTreeMap<NetworkKey, ActualDevice>,
    /// The addresses of devices, in the order in which they were given.
    given: BTreeMap<NetworkKey, Vec<IpNet>>,
}

/// The kernel's word for why not.
pub(super) type Refusal = &'static str;

impl Fake {
    /// With the host's namespace and those of these names.
    pub(super) fn with(existing: &[&str]) -> Self {
        let mut fake = Self::default();
        fake.namespaces
            .insert(NamespaceSource::Host, Namespace::default());
        for name in existing {
            let name = NamespaceSource::Existing(name.parse().unwrap());
            fake.namespaces.insert(name, Namespace::default());
        }
        fake
    }

    /// Forgets how much was made, so that two kernels compare by what they hold.
    pub(super) fn forget_count(&mut self) {
        self.made = 0;
    }

    /// Somebody makes `network-<port>`.
    pub(super) fn intrude(&mut self, port: NetworkKey) {
        self.made += 1;
        let identity = self.made;
        self.namespaces.insert(
            NamespaceSource::Made(port),
            Namespace {
                identity,
                ..Namespace::default()
            },
        );
    }

    /// Somebody deletes a namespace.
    pub(super) fn delete(&mut self, place: &NamespaceSource) {
        self.namespaces.remove(place);
    }

    /// Somebody changes a device.
    pub(super) fn meddle(&mut self, port: NetworkKey, how: impl Fn(&mut ActualDevice)) {
        for namespace in self.namespaces.values_mut() {
            if let Some(device) = namespace.devices.get_mut(&port) {
                how(device);
            }
        }
    }

    pub(super) fn observe(&self, places: &BTreeMap<NetworkKey, NamespaceSource>) -> Actual {
        let networks = places.iter().map(|(port, place)| {
            let observed = self.namespaces.get(place).map(|namespace| ActualNetwork {
                namespace: self.state(*port, place, namespace),
                is_loopback_up: namespace.is_loopback_up,
                is_forwarding: namespace.is_forwarding,
                firewall: namespace.firewall.clone(),
                device: namespace.devices.get(port).cloned(),
            });
            (*port, observed.unwrap_or_default())
        });
        Actual {
            networks: networks.collect(),
        }
    }

    fn state(
        &self,
        port: NetworkKey,
        place: &NamespaceSource,
        namespace: &Namespace,
    ) -> NamespaceState {
        let is_made = matches!(place, NamespaceSource::Made(_));
        match self.owned.get(&port) {
            Some(Owned::Namespace(identity))
                if is_made && identity.0 == namespace.identity.to_string() =>
            {
                NamespaceState::Owned
            }
            _ => NamespaceState::Foreign,
        }
    }

    pub(super) fn apply(&mut self, step: &Step) -> Result<(), Refusal> {
        match &mut self.fails_after {
            Some(0) => return Err("EIO"),
            Some(left) => *left -= 1,
            None => {}
        }
        let port = step.network;
        match &step.action {
            Action::MakeNamespace => return self.make_namespace(port),
            Action::RemoveNamespace => {
                self.namespaces.remove(&step.place).ok_or("ENOENT")?;
                self.owned.remove(&port).ok_or("not owned")?;
                return Ok(());
            }
            Action::Disown => {
                self.owned.remove(&port).ok_or("not owned")?;
                return Ok(());
            }
            Action::MakeDevice { .. } if !matches!(step.place, NamespaceSource::Made(_)) => {
                let owned = Owned::DeviceIn(step.place.clone());
                self.owned.insert(port, owned);
            }
            _ => {}
        }
        self.made += 1;
        let epoch = self.made;
        let namespace = self.namespaces.get_mut(&step.place).ok_or("ENOENT")?;
        if step.action == Action::AdoptNamespace {
            let identity = NamespaceIdentity(namespace.identity.to_string());
            self.owned.insert(port, Owned::Namespace(identity));
            return Ok(());
        }
        namespace.apply(port, &step.action, epoch)
    }

    fn make_namespace(&mut self, port: NetworkKey) -> Result<(), Refusal> {
        let place = NamespaceSource::Made(port);
        if self.namespaces.contains_key(&place) {
            return Err("EEXIST");
        }
        self.intrude(port);
        let identity = NamespaceIdentity(self.made.to_string());
        self.owned.insert(port, Owned::Namespace(identity));
        Ok(())
    }
}

impl Namespace {
    fn apply(&mut self, port: NetworkKey, action: &Action, epoch: u64) -> Result<(), Refusal> {
        match action {
            Action::RaiseLoopback => self.is_loopback_up = true,
            Action::Forward => self.is_forwarding = true,
            Action::WriteFirewall(firewall) => {
                self.firewall = FirewallState::Is(firewall.clone());
            }
            Action::MakeDevice { backend, mtu } => {
                if self.devices.contains_key(&port) {
                    return Err("EEXIST");
                }
                let backend = backend.unwrap_or(Backend::Kernel);
                self.devices.insert(port, fresh(backend, *mtu, epoch));
            }
            Action::RemoveDevice => {
                self.devices.remove(&port).ok_or("ENODEV")?;
                self.given.remove(&port);
            }
            on_device => {
                let device = self.devices.get_mut(&port).ok_or("ENODEV")?;
                let given = self.given.entry(port).or_default();
                return change(device, given, on_device);
            }
        }
        Ok(())
    }
}

fn fresh(backend: Backend, mtu: u16, epoch: u64) -> ActualDevice {
    ActualDevice {
        backend,
        epoch,
        is_up: false,
        mtu: mtu.into(),
        addresses: BTreeSet::new(),
        routed: BTreeSet::new(),
        is_promoting: false,
        routes: BTreeSet::new(),
        private_key: None,
        listen_port: 0,
        peers: BTreeMap::new(),
    }
}

fn change(
    device: &mut ActualDevice,
    given: &mut Vec<IpNet>,
    action: &Action,
) -> Result<(), Refusal> {
    let exists = |added: bool| if added { Ok(()) } else { Err("EEXIST") };
    let gone = |removed: bool| if removed { Ok(()) } else { Err("ENOENT") };
    match action {
        Action::ConfigureDevice(change) => {
            configure(device, change);
            Ok(())
        }
        Action::SetMtu(mtu) => {
            device.mtu = (*mtu).into();
            Ok(())
        }
        Action::KeepSecondaries => {
            device.is_promoting = true;
            Ok(())
        }
        Action::AddAddress(address) => {
            let is_same = |there: &IpNet| {
                there == address || there.addr().is_ipv6() && there.addr() == address.addr()
            };
            exists(!device.addresses.iter().any(is_same))?;
            device.addresses.insert(*address);
            device.routed.insert(*address);
            given.push(*address);
            Ok(())
        }
        Action::RestoreRoutes(address) => {
            gone(device.addresses.contains(address))?;
            device.routed.insert(*address);
            Ok(())
        }
        Action::RemoveAddress(address) => {
            // It may have gone with another one.
            remove_address(device, given, *address);
            Ok(())
        }
        Action::RaiseDevice => {
            device.is_up = true;
            device.routed.clone_from(&device.addresses);
            Ok(())
        }
        Action::AddRoute(_) if !device.is_up => Err("ENETDOWN"),
        Action::AddRoute(route) if route.trunc() != *route => Err("EINVAL"),
        Action::AddRoute(route) => exists(device.routes.insert(*route)),
        Action::RemoveRoute(route) => gone(device.routes.remove(route)),
        _ => Err("no action on a device"),
    }
}

/// The other IPv4 addresses of a network go with its first one, unless they are promoted.
fn remove_address(device: &mut ActualDevice, given: &mut Vec<IpNet>, address: IpNet) {
    let mut network = given
        .iter()
        .filter(|there| there.trunc() == address.trunc());
    let is_first = network.next() == Some(&address) && address.addr().is_ipv4();
    let takes_all = is_first && !device.is_promoting;
    given.retain(|there| *there != address && !(takes_all && there.trunc() == address.trunc()));
    device.addresses.retain(|there| given.contains(there));
    device.routed.retain(|there| given.contains(there));
}

fn configure(device: &mut ActualDevice, change: &DeviceChange) {
    if let Some(key) = &change.private_key {
        device.private_key = Some(key.clone());
    }
    if let Some(port) = change.listen_port {
        device.listen_port = port.get();
    }
    for (key, change) in &change.peers {
        let settings = match change {
            PeerChange::Remove => {
                device.peers.remove(key);
                continue;
            }
            PeerChange::Set(settings) => settings,
        };
        if let Some(prefixes) = &settings.allowed_ips {
            // A prefix belongs to the peer that got it last.
            let moved: BTreeSet<IpNet> = prefixes.iter().map(IpNet::trunc).collect();
            for peer in device.peers.values_mut() {
                peer.allowed_ips.retain(|prefix| !moved.contains(prefix));
            }
            device.peers.entry(*key).or_default().allowed_ips = moved;
        }
        let peer = device.peers.entry(*key).or_default();
        if let Some(secret) = &settings.preshared_key {
            peer.preshared_key.clone_from(secret);
        }
        peer.endpoint = settings.endpoint.or(peer.endpoint);
        peer.keep_alive = settings.keep_alive.unwrap_or(peer.keep_alive);
    }
}
