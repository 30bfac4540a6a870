//! What a network has.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use control_api::place::NetworkKey;

use control_plan::{
    NamespaceSource,
    actual::{ActualDevice, ActualNetwork, Backend, NamespaceState, Owned},
};
use engine_sys::netns::Netns;

use super::{
    Linux, Seen, device_name,
    error::Refusal,
    rtnl::{Kind, Link},
    setting,
    wireguard::Shown,
};

/// What every alias of a device that Ringway made begins with. Its epoch follows, in hex.
const ALIAS: &str = "ringway ";

/// What could not be read.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) object: String,
    pub(super) refusal: Refusal,
}

/// Says what was being read.
fn reading<T, E: Into<Refusal>>(
    result: Result<T, E>,
    object: impl FnOnce() -> String,
) -> Result<T, Failed> {
    result.map_err(|error| Failed {
        object: object(),
        refusal: error.into(),
    })
}

impl Linux {
    pub(super) fn observe_network(
        &mut self,
        network: NetworkKey,
        place: &NamespaceSource,
        owned: Option<&Owned>,
    ) -> Result<ActualNetwork, Failed> {
        let found = reading(self.spaces.find(place, owned), || "its namespace".into())?;
        let is_made = matches!(place, NamespaceSource::Made(_));
        let mut actual = ActualNetwork {
            namespace: found,
            ..ActualNetwork::default()
        };
        let is_held_by_another =
            is_made && found == NamespaceState::Foreign && self.spaces.is_owned(place, owned);
        let is_there = found != NamespaceState::Absent && !is_held_by_another;
        let Some(space) = self.spaces.held(place).filter(|_| is_there) else {
            if !is_held_by_another {
                self.forget(network);
            }
            return Ok(actual);
        };
        let name = device_name(network);
        let index = reading(space.rtnl.link(&name), || format!("the link {name}"))?;
        let index = index.map(|link| link.index);
        let only = (!is_made).then_some((name.as_str(), index));
        let followed = self.watch.follow(network, &space.netns, only);
        reading(followed.map_err(Refusal::Namespace), || {
            "its notifications".into()
        })?;
        if is_made {
            let lo = reading(space.rtnl.link("lo"), || "the link lo".into())?;
            actual.is_loopback_up = lo.is_some_and(|lo| lo.is_up);
            let forwards = setting::is_forwarding(&space.netns);
            actual.is_forwarding = reading(forwards, || "whether it forwards".into())?;
            actual.firewall = reading(space.nftables.read(&name), || "its nftables".into())?;
        }
        actual.device = self.observe_device(network, place)?;
        Ok(actual)
    }

    fn observe_device(
        &mut self,
        network: NetworkKey,
        place: &NamespaceSource,
    ) -> Result<Option<ActualDevice>, Failed> {
        let name = device_name(network);
        let space = reading(self.space(place), || "its namespace".into())?;
        let link = reading(space.rtnl.link(&name), || format!("the link {name}"))?;
        let shown = match &link {
            Some(link) => self.show(network, place, link)?,
            None => None,
        };
        let (Some(link), Some((backend, epoch, shown))) = (link, shown) else {
            self.devices.remove(&network);
            self.note(network, place, None);
            return Ok(None);
        };
        let kernels = (backend == Backend::Kernel).then_some((link.index, epoch));
        self.note(network, place, kernels);
        let space = reading(self.space(place), || "its namespace".into())?;
        let addresses = space.rtnl.addresses(link.index);
        let addresses = reading(addresses, || format!("the addresses of {name}"))?;
        let routed = space.rtnl.routed(link.index, &addresses);
        let routed = reading(routed, || format!("the routes of the addresses of {name}"))?;
        let is_promoting = setting::is_promoting(&space.netns, &name);
        let is_promoting = reading(is_promoting, || format!("the settings of {name}"))?;
        let routes = space.rtnl.routes(link.index);
        let routes = reading(routes, || format!("the routes to {name}"))?;
        Ok(Some(ActualDevice {
            backend,
            epoch,
            is_up: link.is_up,
            mtu: link.mtu,
            addresses,
            routed,
            is_promoting,
            routes,
            private_key: shown.private_key,
            listen_port: shown.listen_port,
            peers: shown.peers,
        }))
    }

    /// The device behind a link. A link of another kind, or a TUN device that this process does not
    /// carry, is none.
    fn show(
        &mut self,
        network: NetworkKey,
        place: &NamespaceSource,
        link: &Link,
    ) -> Result<Option<(Backend, u64, Shown)>, Failed> {
        let name = device_name(network);
        match link.kind {
            Kind::Tun => Ok(self.devices.get(&network).and_then(|device| {
                let shown = device.show()?;
                Some((Backend::Userspace, device.epoch, shown))
            })),
            Kind::Wireguard => {
                let space = reading(self.space(place), || "its namespace".into())?;
                let epoch = epoch_of(link, &space.netns);
                let shown = space.wireguard().and_then(|module| module.show(&name));
                let shown = reading(shown, || format!("the device {name}"))?;
                Ok(shown.map(|shown| (Backend::Kernel, epoch, shown)))
            }
            Kind::Other => Ok(None),
        }
    }

    /// Notes where a network is, so that its counters are found.
    pub(super) fn note(
        &mut self,
        network: NetworkKey,
        place: &NamespaceSource,
        device: Option<(u32, u64)>,
    ) {
        let place = place.clone();
        self.seen.insert(network, Seen { place, device });
    }

    /// Lets go of everything of a network but its namespace.
    pub(super) fn forget(&mut self, network: NetworkKey) {
        self.watch.unfollow(network);
        self.devices.remove(&network);
        self.seen.remove(&network);
    }
}

/// What a device is called beside its name, so that its epoch lasts as long as it does.
pub(super) fn alias_of(epoch: u64) -> String {
    format!("{ALIAS}{epoch:016x}")
}

/// The epoch of a kernel's device. One without an alias of Ringway's, because Ringway was killed
/// right after it made it or because somebody took it away, is told from others by its index and
/// its namespace.
pub(super) fn epoch_of(link: &Link, netns: &Netns) -> u64 {
    let written = link.alias.strip_prefix(ALIAS);
    let written = written.and_then(|text| u64::from_str_radix(text, 16).ok());
    written.unwrap_or_else(|| {
        let mut hasher = DefaultHasher::new();
        (link.index, netns.identity()).hash(&mut hasher);
        hasher.finish()
    })
}
