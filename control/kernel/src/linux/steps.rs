//! One step of a plan.

use control_api::place::NetworkKey;

use control_plan::{
    NamespaceSource,
    actual::{Backend, NamespaceState, Owned},
    step::{Action, DeviceChange, Step},
};

use super::{
    Linux, Space, device_name,
    error::Refusal,
    is_record_of, new_epoch,
    observe::alias_of,
    rtnl::{Kind, Link},
    setting,
};
use crate::kernel::Ownership;

impl Linux {
    pub(super) fn take(
        &mut self,
        step: &Step,
        ownership: &mut dyn Ownership,
    ) -> Result<(), Refusal> {
        match &step.action {
            Action::MakeNamespace => self.make_namespace(step, ownership),
            Action::AdoptNamespace => self.adopt_namespace(step, ownership),
            Action::RemoveNamespace => self.remove_namespace(step, ownership),
            Action::Disown => self.disown(step, ownership),
            Action::MakeDevice { backend, mtu } => {
                self.make_device(step, *backend, *mtu, ownership)
            }
            Action::RaiseLoopback | Action::Forward | Action::WriteFirewall(_) => {
                self.furnish(step, ownership)
            }
            Action::RemoveDevice => self.remove_device(step, ownership),
            Action::ConfigureDevice(change) => {
                self.require_owned(step, ownership)?;
                self.configure_device(step, change)
            }
            Action::SetMtu(_)
            | Action::KeepSecondaries
            | Action::AddAddress(_)
            | Action::RestoreRoutes(_)
            | Action::RemoveAddress(_)
            | Action::RaiseDevice
            | Action::AddRoute(_)
            | Action::RemoveRoute(_) => {
                self.require_owned(step, ownership)?;
                self.shape_device(step)
            }
        }
    }

    fn make_namespace(
        &mut self,
        step: &Step,
        ownership: &mut dyn Ownership,
    ) -> Result<(), Refusal> {
        let port = made(step)?;
        let owned = ownership.owned(step.network);
        self.spaces.make(port, owned.as_ref(), |identity| {
            Ok(ownership.own(step.network, &Owned::Namespace(identity))?)
        })?;
        self.follow(step)
    }

    fn adopt_namespace(
        &mut self,
        step: &Step,
        ownership: &mut dyn Ownership,
    ) -> Result<(), Refusal> {
        let port = made(step)?;
        self.spaces.adopt(port, |identity| {
            Ok(ownership.own(step.network, &Owned::Namespace(identity))?)
        })?;
        self.follow(step)
    }

    /// Everything in the namespace ends with it, but not before whoever holds it lets go, and the
    /// kernel takes a while then: the UDP port is free when this returns.
    fn remove_namespace(
        &mut self,
        step: &Step,
        ownership: &mut dyn Ownership,
    ) -> Result<(), Refusal> {
        let port = made(step)?;
        let owned = ownership.owned(step.network);
        self.spaces.find(&step.place, owned.as_ref())?;
        if self.spaces.is_owned(&step.place, owned.as_ref()) {
            self.free_port(step)?;
            self.spaces.unname(port)?;
            self.part_with(step);
        }
        self.forget(step.network);
        Ok(ownership.disown(step.network)?)
    }

    fn disown(&mut self, step: &Step, ownership: &mut dyn Ownership) -> Result<(), Refusal> {
        let owned = ownership.owned(step.network);
        // It lives on without its name, which somebody else took.
        let is_owned = self.spaces.is_owned(&step.place, owned.as_ref());
        if is_owned {
            self.free_port(step)?;
        }
        if is_record_of(owned.as_ref(), &step.place)
            && self.spaces.find(&step.place, None)? != NamespaceState::Absent
        {
            // A link that lasts is left when its device ended with an earlier process.
            self.remove_link(step)?;
        }
        ownership.disown(step.network)?;
        if matches!(step.place, NamespaceSource::Made(_)) {
            self.part_with(step);
        }
        self.forget(step.network);
        Ok(())
    }

    /// Frees the UDP port of a device whose namespace is about to end. The device ends with it: to
    /// wait for that takes ten times as long (`netdev_run_todo` in `net/core/dev.c`), and hundreds
    /// of namespaces end together.
    fn free_port(&mut self, step: &Step) -> Result<(), Refusal> {
        if let Some(device) = self.devices.get(&step.network) {
            return Ok(device.free_port()?);
        }
        let space = self.space(&step.place)?;
        match space.rtnl.link(&device_name(step.network))? {
            Some(link) => Ok(space.rtnl.lower(link.index)?),
            None => Ok(()),
        }
    }

    /// Lets go of a namespace and of the device in it.
    fn part_with(&mut self, step: &Step) {
        let space = self.spaces.release(&step.place);
        let device = self.devices.remove(&step.network);
        if let (Some(space), Some(device)) = (space, device) {
            self.endings.begin(step.network, space, device);
        }
    }

    /// What only namespaces of Ringway's get.
    fn furnish(&mut self, step: &Step, ownership: &dyn Ownership) -> Result<(), Refusal> {
        made(step)?;
        self.require_owned(step, ownership)?;
        let space = self.space(&step.place)?;
        if let Action::WriteFirewall(firewall) = &step.action {
            let device = device_name(step.network);
            return Ok(space.nftables.write(&device, firewall)?);
        }
        if step.action == Action::Forward {
            return setting::forward(&space.netns);
        }
        let lo = space.rtnl.link("lo")?.ok_or(Refusal::NoDevice)?;
        Ok(space.rtnl.raise(lo.index)?)
    }

    fn make_device(
        &mut self,
        step: &Step,
        backend: Option<Backend>,
        mtu: u16,
        ownership: &mut dyn Ownership,
    ) -> Result<(), Refusal> {
        let name = device_name(step.network);
        let owned = ownership.owned(step.network);
        self.endings.wait_for(step.network);
        if matches!(step.place, NamespaceSource::Made(_)) {
            self.require_owned(step, ownership)?;
        } else {
            self.spaces.find(&step.place, owned.as_ref())?;
            let is_recorded = is_record_of(owned.as_ref(), &step.place);
            let there = self.space(&step.place)?.rtnl.link(&name)?;
            if there.is_some_and(|link| !is_recorded || link.kind == Kind::Other) {
                return Err(Refusal::Foreign);
            }
            if !is_recorded {
                ownership.own(step.network, &Owned::DeviceIn(step.place.clone()))?;
            }
        }
        let backend = backend.unwrap_or(self.backend);
        self.make_way(step, backend)?;
        let epoch = new_epoch();
        let netns = std::sync::Arc::clone(&self.space(&step.place)?.netns);
        let device = match backend {
            Backend::Kernel => {
                self.host.make_wireguard(&name, mtu, &netns)?;
                let (space, link) = self.device(step)?;
                space.rtnl.set_alias(link.index, &alias_of(epoch))?;
                Some((link.index, epoch))
            }
            Backend::Userspace => {
                let namespaces = (&*netns, &*self.spaces.host);
                let sockets = &self.config.sockets;
                let device = self.carriers.open(&name, mtu, namespaces, sockets, epoch)?;
                self.devices.insert(step.network, device);
                let (space, link) = self.device(step)?;
                // The kernel's own device asks for none, either.
                space.rtnl.keep_unnumbered(link.index)?;
                None
            }
        };
        self.note(step.network, &step.place, device);
        Ok(())
    }

    /// Removes what is in a new device's place: what somebody put there, or what a crash left of it.
    /// A TUN device that nobody serves is the one of the process before, and is taken over instead.
    fn make_way(&mut self, step: &Step, backend: Backend) -> Result<(), Refusal> {
        // Whatever is wrong with one that this process has would be wrong again.
        let is_another = !self.devices.contains_key(&step.network);
        let name = device_name(step.network);
        let there = self.space(&step.place)?.rtnl.link(&name)?;
        let is_left = there.is_some_and(|link| link.kind == Kind::Tun && !link.is_served);
        if is_another && is_left && backend == Backend::Userspace {
            return Ok(());
        }
        self.remove_link(step)
    }

    fn remove_device(&mut self, step: &Step, ownership: &dyn Ownership) -> Result<(), Refusal> {
        self.require_owned(step, ownership)?;
        self.remove_link(step)?;
        self.note(step.network, &step.place, None);
        Ok(())
    }

    /// Removes `wg<port>`, whatever it is. One that is gone is no failure.
    ///
    /// The kernel takes some 30 ms to end a link. A userspace device's goes before the device does,
    /// so that this thread waits for it and not the one that carries the packets of others.
    fn remove_link(&mut self, step: &Step) -> Result<(), Refusal> {
        let space = self.space(&step.place)?;
        if let Some(link) = space.rtnl.link(&device_name(step.network))? {
            space.rtnl.remove_link(link.index)?;
        }
        self.devices.remove(&step.network);
        Ok(())
    }

    fn configure_device(&mut self, step: &Step, change: &DeviceChange) -> Result<(), Refusal> {
        if let Some(device) = self.devices.get(&step.network) {
            return Ok(device.change(change)?);
        }
        let space = self.space(&step.place)?;
        let module = space.wireguard()?;
        Ok(module.change(&device_name(step.network), change)?)
    }

    fn shape_device(&mut self, step: &Step) -> Result<(), Refusal> {
        if let (Action::SetMtu(mtu), Some(device)) = (&step.action, self.devices.get(&step.network))
        {
            let netns = self.spaces.held(&step.place).map(|space| &space.netns);
            return Ok(device.set_mtu(netns.ok_or(Refusal::NoNamespace)?, *mtu)?);
        }
        let (space, link) = self.device(step)?;
        if step.action == Action::KeepSecondaries {
            return setting::promote(&space.netns, &device_name(step.network));
        }
        let (rtnl, index) = (&mut space.rtnl, link.index);
        match &step.action {
            Action::SetMtu(mtu) => rtnl.set_mtu(index, *mtu)?,
            Action::AddAddress(address) => rtnl.add_address(index, *address)?,
            Action::RestoreRoutes(address) => rtnl.restore_routes(index, *address)?,
            Action::RemoveAddress(address) => rtnl.remove_address(index, *address)?,
            Action::AddRoute(prefix) => rtnl.add_route(index, *prefix)?,
            Action::RemoveRoute(prefix) => rtnl.remove_route(index, *prefix)?,
            Action::RaiseDevice => rtnl.raise(index)?,
            Action::MakeNamespace
            | Action::AdoptNamespace
            | Action::RaiseLoopback
            | Action::Forward
            | Action::WriteFirewall(_)
            | Action::MakeDevice { .. }
            | Action::KeepSecondaries
            | Action::ConfigureDevice(_)
            | Action::RemoveDevice
            | Action::RemoveNamespace
            | Action::Disown => {}
        }
        Ok(())
    }

    fn device(&mut self, step: &Step) -> Result<(&mut Space, Link), Refusal> {
        let space = self.space(&step.place)?;
        let link = space.rtnl.link(&device_name(step.network))?;
        Ok((space, link.ok_or(Refusal::NoDevice)?))
    }

    /// Only what is recorded as Ringway's is touched.
    fn require_owned(&self, step: &Step, ownership: &dyn Ownership) -> Result<(), Refusal> {
        let owned = ownership.owned(step.network);
        let is_owned = match step.place {
            NamespaceSource::Made(_) => self.spaces.is_owned(&step.place, owned.as_ref()),
            NamespaceSource::Host | NamespaceSource::Existing(_) => {
                is_record_of(owned.as_ref(), &step.place)
            }
        };
        if is_owned {
            Ok(())
        } else {
            Err(Refusal::Foreign)
        }
    }

    fn follow(&mut self, step: &Step) -> Result<(), Refusal> {
        let space = self.spaces.held(&step.place).ok_or(Refusal::NoNamespace)?;
        let followed = self.watch.follow(step.network, &space.netns, None);
        followed.map_err(Refusal::Namespace)?;
        self.note(step.network, &step.place, None);
        Ok(())
    }
}

/// The network of a namespace that Ringway makes.
fn made(step: &Step) -> Result<NetworkKey, Refusal> {
    match step.place {
        NamespaceSource::Made(port) => Ok(port),
        NamespaceSource::Host | NamespaceSource::Existing(_) => Err(Refusal::Misplaced),
    }
}
