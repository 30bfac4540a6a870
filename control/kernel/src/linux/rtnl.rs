//! Links, addresses and routes of one namespace, over rtnetlink(7).

mod message;

use std::{collections::BTreeSet, os::fd::AsFd as _};

use engine_sys::netns::Netns;
use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;

pub(crate) use self::message::{Kind, Link};
use super::socket::{NetlinkError, Socket};

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
        unless(Errno::EADDRNOTAVAIL, self.0.change(request, 0))
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

    fn list_routes(&mut self, index: u32) -> Result<Vec<message::Route>, NetlinkError> {
        let mut routes = Vec::new();
        for request in message::list_routes(index) {
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
            routes.extend(answers.into_iter().filter_map(|answer| {
                let RouteNetlinkMessage::NewRoute(route) = answer else {
                    return None;
                };
                message::read_route(&route, index)
            }));
        }
        Ok(routes)
    }
}

fn unless(harmless: Errno, result: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    match result {
        Err(error) if error.errno() == Some(harmless) => Ok(()),
        other => other,
    }
}
