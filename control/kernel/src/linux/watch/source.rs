//! What the thread listens to.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

use control_api::place::NetworkKey;

use engine_sys::netns::Netns;
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    RouteNetlinkMessage,
    address::AddressMessage,
    link::{LinkAttribute, LinkMessage},
    route::{RouteAttribute, RouteMessage},
};
use netlink_sys::SocketAddr;
use nix::{
    libc::MSG_DONTWAIT,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};

use super::Notice;
use crate::linux::socket::{Family, split};

/// Groups of rtnetlink(7): links, IPv4 and IPv6 addresses, IPv4 and IPv6 routes (`RTNLGRP_*` in
/// `linux/rtnetlink.h`).
const ROUTE_GROUPS: [u32; 5] = [1, 5, 9, 7, 11];

/// Whether IPv4 and IPv6 packets are forwarded (`RTNLGRP_IPV4_NETCONF` and its sibling).
const FORWARDING_GROUPS: [u32; 2] = [24, 25];

/// `NFNLGRP_NFTABLES` in `linux/netfilter/nfnetlink.h`.
const NFTABLES_GROUP: u32 = 7;

/// Longest notification that is read whole; what is cut off is not looked at.
const NOTIFICATION_BYTES: usize = 16 * 1024;

/// Notifications that are taken before other sources have their turn.
const NOTIFICATIONS_MAX: usize = 256;

#[derive(Debug)]
pub(super) enum Source {
    Names(Inotify),
    Network {
        network: NetworkKey,
        socket: netlink_sys::Socket,
        /// Absent where everything counts.
        only: Option<Device>,
    },
}

/// The device that notifications have to be about.
#[derive(Debug)]
pub(super) struct Device {
    name: String,
    /// Its index, as far as it was heard of.
    index: Option<u32>,
}

impl Source {
    pub(super) fn names(directory: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let changes = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_MOVED_TO;
        inotify.add_watch(directory, changes)?;
        Ok(Self::Names(inotify))
    }

    /// Links, addresses and routes; where the namespace is the network's own, its table and its
    /// forwarding, too.
    pub(super) fn of_network(
        network: NetworkKey,
        netns: &Netns,
        only: Option<(&str, Option<u32>)>,
    ) -> io::Result<Vec<Self>> {
        let open = |family, groups: &[u32]| -> io::Result<Self> {
            let socket = listen(family, groups)?;
            let only = only.map(|(name, index)| Device {
                name: name.to_owned(),
                index,
            });
            Ok(Self::Network {
                network,
                socket,
                only,
            })
        };
        netns.run(|| {
            if only.is_some() {
                return Ok(vec![open(Family::Route, &ROUTE_GROUPS)?]);
            }
            let groups = [&ROUTE_GROUPS[..], &FORWARDING_GROUPS].concat();
            Ok(vec![
                open(Family::Route, &groups)?,
                open(Family::Netfilter, &[NFTABLES_GROUP])?,
            ])
        })
    }

    /// Takes what came, and says what it is about.
    pub(super) fn read(&mut self) -> Option<Notice> {
        match self {
            Self::Names(inotify) => {
                let events = inotify.read_events().unwrap_or_default();
                (!events.is_empty()).then_some(Notice::Names)
            }
            Self::Network {
                network,
                socket,
                only,
            } => {
                let mut concerns = false;
                let mut notification = Vec::with_capacity(NOTIFICATION_BYTES);
                for _ in 0..NOTIFICATIONS_MAX {
                    notification.clear();
                    match socket.recv(&mut notification, MSG_DONTWAIT) {
                        Ok(_) => {
                            concerns |= match only {
                                None => true,
                                Some(device) => device.is_meant(&notification),
                            };
                        }
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                        // Some were lost (ENOBUFS): anything may have changed.
                        Err(_) => concerns = true,
                    }
                }
                concerns.then_some(Notice::Network(*network))
            }
        }
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Names(inotify) => inotify.as_fd(),
            Self::Network { socket, .. } => socket.as_fd(),
        }
    }
}

fn listen(family: Family, groups: &[u32]) -> io::Result<netlink_sys::Socket> {
    let mut socket = netlink_sys::Socket::new(family.protocol())?;
    socket.bind(&SocketAddr::new(0, 0))?;
    for group in groups {
        socket.add_membership(*group)?;
    }
    Ok(socket)
}

impl Device {
    /// Whether any message of a datagram is about the device.
    fn is_meant(&mut self, notification: &[u8]) -> bool {
        let mut concerns = false;
        for bytes in split(notification) {
            let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) else {
                continue;
            };
            if let NetlinkPayload::InnerMessage(message) = message.payload {
                concerns |= self.is_meant_by(&message);
            }
        }
        concerns
    }

    fn is_meant_by(&mut self, message: &RouteNetlinkMessage) -> bool {
        if let RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link) = message {
            self.is_link(link)
        } else if let RouteNetlinkMessage::NewAddress(AddressMessage { header, .. })
        | RouteNetlinkMessage::DelAddress(AddressMessage { header, .. }) = message
        {
            // Before its index is known, any may be it.
            self.index.is_none_or(|index| index == header.index)
        } else if let RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) =
            message
        {
            self.is_route(route)
        } else {
            false
        }
    }

    fn is_link(&mut self, link: &LinkMessage) -> bool {
        let name = LinkAttribute::IfName(self.name.clone());
        if link.attributes.contains(&name) {
            self.index = Some(link.header.index);
            return true;
        }
        // One that had the name before.
        self.index == Some(link.header.index)
    }

    fn is_route(&self, route: &RouteMessage) -> bool {
        let to = |index| route.attributes.contains(&RouteAttribute::Oif(index));
        self.index.is_none_or(to)
    }
}
