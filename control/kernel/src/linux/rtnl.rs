//! Links, addresses and routes of one namespace, over rtnetlink(7).

mod message;

use std::{collections::BTreeSet, os::fd::AsFd as _, thread, time::Duration};

use engine_sys::netns::Netns;
use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
#[cfg(test)]
use netlink_packet_route::route::RouteAttribute;
use netlink_packet_route::{RouteNetlinkMessage, route::RouteMessage};
use nix::errno::Errno;

pub(crate) use self::message::{Kind, Link};
use super::socket::{NetlinkError, Socket};

/// How long what the kernel does in its own time is waited for: some 20 ms in all.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);
const LOOKS_MAX: usize = 10;

/// The rtnetlink socket of a namespace.
#[derive(Debug)]
pub(crate) struct Rtnl(Socket);

impl Rtnl {
    pub(crate) fn new(socket: Socket) -> Self {
        Self(socket)
    }

    /// The link of that name, if there is one.
    pub(crate) fn link(&mut self, name: &str) -> Result<Option<Link>, NetlinkError> {
        match self.0.get(message::get_link(name)) {
            Ok(Some(RouteNetlinkMessage::NewLink(link))) => Ok(Some(Link::from(link))),
            Ok(_) => Ok(None),
            Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a WireGuard device in another namespace than this socket's, in one request: it is
    /// never anywhere else, and its UDP socket is opened here (`wg_newlink` in
    /// `drivers/net/wireguard/device.c` keeps the namespace that the request came from).
    pub(crate) fn make_wireguard(
        &mut self,
        name: &str,
        mtu: u16,
        tenant: &Netns,
    ) -> Result<(), NetlinkError> {
        let request = message::make_wireguard(name, mtu, tenant.as_fd());
        self.0.change(request, NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Sets a link up.
    pub(crate) fn raise(&mut self, index: u32) -> Result<(), NetlinkError> {
        self.0.change(message::raise(index), 0)
    }

    /// Sets a link down: a WireGuard device closes its UDP sockets (`wg_stop` in
    /// `drivers/net/wireguard/device.c`). One that is gone is no failure.
    pub(crate) fn lower(&mut self, index: u32) -> Result<(), NetlinkError> {
        unless(Errno::ENODEV, self.0.change(message::lower(index), 0))
    }

    /// Sets the MTU of a link, in bytes.
    pub(crate) fn set_mtu(&mut self, index: u32, mtu: u16) -> Result<(), NetlinkError> {
        self.0.change(message::set_mtu(index, mtu), 0)
    }

    /// Gives a link another name that only people and [`Link::alias`] read.
    pub(crate) fn set_alias(&mut self, index: u32, alias: &str) -> Result<(), NetlinkError> {
        self.0.change(message::set_alias(index, alias), 0)
    }

    /// Keeps the kernel from giving a link an IPv6 link-local address of its own. Without IPv6
    /// there is nothing to keep it from.
    pub(crate) fn keep_unnumbered(&mut self, index: u32) -> Result<(), NetlinkError> {
        match self.0.change(message::keep_unnumbered(index), 0) {
            Err(error) if error.errno() == Some(Errno::EAFNOSUPPORT) => Ok(()),
            kept_or_failed => kept_or_failed,
        }
    }

    /// Removes a link. One that is gone is no failure.
    pub(crate) fn remove_link(&mut self, index: u32) -> Result<(), NetlinkError> {
        unless(Errno::ENODEV, self.0.change(message::remove_link(index), 0))
    }

    /// The addresses of a link, but for link-local ones that the kernel gave.
    pub(crate) fn addresses(&mut self, index: u32) -> Result<BTreeSet<IpNet>, NetlinkError> {
        let answers = self.0.dump(message::list_addresses(index))?;
        let addresses = answers.into_iter().filter_map(|answer| {
            let RouteNetlinkMessage::NewAddress(address) = answer else {
                return None;
            };
            message::read_address(&address, index)
        });
        Ok(addresses.collect())
    }

    /// Adds an address. An IPv6 address is usable at once: duplicate address detection (RFC 4862,
    /// 5.4) would hold it back for a second, and a tunnel has no neighbours. One that is there is
    /// no failure.
    pub(crate) fn add_address(&mut self, index: u32, address: IpNet) -> Result<(), NetlinkError> {
        let request = message::add_address(index, address);
        let added = self.0.change(request, NLM_F_CREATE | NLM_F_EXCL);
        unless(Errno::EEXIST, added)
    }

    /// Removes an address. One that is gone is no failure.
    pub(crate) fn remove_address(
        &mut self,
        index: u32,
        address: IpNet,
    ) -> Result<(), NetlinkError> {
        let request = message::remove_address(index, address);
        unless(Errno::EADDRNOTAVAIL, self.0.change(request, 0))?;
        if address.addr().is_ipv4() {
            return Ok(());
        }
        // One that was put back is not the kernel's to take away.
        let local = message::remove_local(index, address.addr());
        unless(Errno::ESRCH, self.0.change(local, 0))
    }

    /// Those of a link's addresses whose own routes are there: see [`Rtnl::restore_routes`].
    ///
    /// The kernel makes the local ones of IPv6 a moment after the address (`addrconf_dad_work` in
    /// `net/ipv6/addrconf.c`), so what is missing is looked for again before it is believed.
    pub(crate) fn routed(
        &mut self,
        index: u32,
        addresses: &BTreeSet<IpNet>,
    ) -> Result<BTreeSet<IpNet>, NetlinkError> {
        let is_late = |address: &IpNet| address.addr().is_ipv6();
        let mut routed = self.routed_now(index, addresses)?;
        for _ in 0..LOOKS_MAX {
            if !addresses.difference(&routed).any(is_late) {
                break;
            }
            thread::sleep(LOOK_INTERVAL);
            routed = self.routed_now(index, addresses)?;
        }
        Ok(routed)
    }

    fn routed_now(
        &mut self,
        index: u32,
        addresses: &BTreeSet<IpNet>,
    ) -> Result<BTreeSet<IpNet>, NetlinkError> {
        let mut local = BTreeSet::new();
        self.each_route(message::list_local_routes(), |route| {
            local.extend(message::read_local(route));
        })?;
        let mut connected = BTreeSet::new();
        self.each_route(message::list_routes(index), |route| {
            connected.extend(message::read_connected(route, index));
        })?;
        let is_routed = |address: &&IpNet| {
            let has_network = address.prefix_len() < address.max_prefix_len();
            local.contains(&address.addr())
                && (!has_network || connected.contains(&address.trunc()))
        };
        Ok(addresses.iter().filter(is_routed).copied().collect())
    }

    /// Puts back the routes that the kernel made with an address: the one that makes it local, and
    /// the one to its network. Those that are there are no failure.
    pub(crate) fn restore_routes(
        &mut self,
        index: u32,
        address: IpNet,
    ) -> Result<(), NetlinkError> {
        for request in message::restore_routes(index, address) {
            let added = self.0.change(request, NLM_F_CREATE | NLM_F_EXCL);
            unless(Errno::EEXIST, added)?;
        }
        Ok(())
    }

    /// The unicast routes of the main table that lead to a link, but for the kernel's own.
    pub(crate) fn routes(&mut self, index: u32) -> Result<BTreeSet<IpNet>, NetlinkError> {
        let routes = self.list_routes(index)?;
        Ok(routes.into_iter().map(|route| route.prefix).collect())
    }

    /// Routes a prefix to a link. A route that is there is no failure.
    pub(crate) fn add_route(&mut self, index: u32, prefix: IpNet) -> Result<(), NetlinkError> {
        // Without NLM_F_EXCL: the kernel's own route for an address may have the same prefix.
        let added = self
            .0
            .change(message::add_route(index, prefix), NLM_F_CREATE);
        unless(Errno::EEXIST, added)
    }

    /// Removes every route of a prefix to a link, whoever added it, but for the kernel's own.
    pub(crate) fn remove_route(&mut self, index: u32, prefix: IpNet) -> Result<(), NetlinkError> {
        let routes = self.list_routes(index)?;
        for route in routes.iter().filter(|route| route.prefix == prefix) {
            let removed = self.0.change(message::remove_route(index, route), 0);
            unless(Errno::ESRCH, removed)?;
        }
        Ok(())
    }

    /// Takes the routes of an address away, as `ip route flush` does.
    #[cfg(test)]
    pub(crate) fn take_routes(&mut self, index: u32, address: IpNet) -> Result<(), NetlinkError> {
        for request in message::restore_routes(index, address) {
            if let RouteNetlinkMessage::NewRoute(mut route) = request {
                if address.addr().is_ipv6() {
                    route
                        .attributes
                        .retain(|of| !matches!(of, RouteAttribute::Priority(_)));
                }
                self.0.change(RouteNetlinkMessage::DelRoute(route), 0)?;
            }
        }
        Ok(())
    }

    fn list_routes(&mut self, index: u32) -> Result<Vec<message::Route>, NetlinkError> {
        let mut routes = Vec::new();
        self.each_route(message::list_routes(index), |route| {
            routes.extend(message::read_route(route, index));
        })?;
        Ok(routes)
    }

    fn each_route(
        &mut self,
        requests: [RouteNetlinkMessage; 2],
        mut read: impl FnMut(&RouteMessage),
    ) -> Result<(), NetlinkError> {
        for request in requests {
            let answers = match self.0.dump(request) {
                Ok(answers) => answers,
                // The table is made with its first route; a kernel without IPv6 knows no such
                // family.
                Err(error)
                    if matches!(
                        error.errno(),
                        Some(Errno::ENOENT | Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT)
                    ) =>
                {
                    continue;
                }
                Err(error) => return Err(error),
            };
            for answer in answers {
                if let RouteNetlinkMessage::NewRoute(route) = answer {
                    read(&route);
                }
            }
        }
        Ok(())
    }
}

fn unless(harmless: Errno, result: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    match result {
        Err(error) if error.errno() == Some(harmless) => Ok(()),
        other => other,
    }
}
