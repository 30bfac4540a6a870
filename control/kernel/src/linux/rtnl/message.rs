//! What is said over rtnetlink(7), and what the answers mean. Nothing here talks to the kernel.

use std::{
    net::IpAddr,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use ipnet::IpNet;
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope},
    link::{
        AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoKind, LinkAttribute, LinkExtentMask,
        LinkFlags, LinkInfo, LinkMessage,
    },
    route::{
        RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
        RouteType,
    },
};

/// Who added a route, in the words of `ip route` (`rtm_protocol`, rtnetlink(7)): a number that no
/// routing daemon has, so that an operator sees which routes are Ringway's.
const PROTOCOL: RouteProtocol = RouteProtocol::Other(82);

/// A link as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) is_up: bool,
    /// Whether it has a carrier: a TUN device has one while somebody has it open.
    pub(crate) is_served: bool,
    pub(crate) mtu: u32,
    pub(crate) kind: Kind,
    /// Empty where it has none.
    pub(crate) alias: String,
}

/// Whose driver a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Wireguard,
    Tun,
    Other,
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            is_up: message.header.flags.contains(LinkFlags::Up),
            is_served: false,
            mtu: 0,
            kind: Kind::Other,
            alias: String::new(),
        };
        for attribute in message.attributes {
            if let LinkAttribute::Mtu(mtu) = attribute {
                link.mtu = mtu;
            } else if let LinkAttribute::Carrier(carrier) = attribute {
                link.is_served = carrier != 0;
            } else if let LinkAttribute::IfAlias(alias) = attribute {
                link.alias = alias;
            } else if let LinkAttribute::LinkInfo(information) = attribute {
                link.kind = kind(&information);
            }
        }
        link
    }
}

fn kind(information: &[LinkInfo]) -> Kind {
    let is = |kind: InfoKind| information.contains(&LinkInfo::Kind(kind));
    if is(InfoKind::Wireguard) {
        Kind::Wireguard
    } else if is(InfoKind::Tun) {
        Kind::Tun
    } else {
        Kind::Other
    }
}

pub(super) fn get_link(name: &str) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]),
    ];
    RouteNetlinkMessage::GetLink(message)
}

pub(super) fn make_wireguard(name: &str, mtu: u16, tenant: BorrowedFd<'_>) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Mtu(mtu.into()),
        LinkAttribute::NetNsFd(tenant.as_raw_fd()),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Wireguard)]),
    ];
    RouteNetlinkMessage::NewLink(message)
}

pub(super) fn raise(index: u32) -> RouteNetlinkMessage {
    set_flags(index, LinkFlags::Up)
}

pub(super) fn lower(index: u32) -> RouteNetlinkMessage {
    set_flags(index, LinkFlags::empty())
}

/// Up, or not.
fn set_flags(index: u32, flags: LinkFlags) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = flags;
    message.header.change_mask = LinkFlags::Up;
    RouteNetlinkMessage::SetLink(message)
}

pub(super) fn set_mtu(index: u32, mtu: u16) -> RouteNetlinkMessage {
    set_link(index, LinkAttribute::Mtu(mtu.into()))
}

pub(super) fn set_alias(index: u32, alias: &str) -> RouteNetlinkMessage {
    set_link(index, LinkAttribute::IfAlias(alias.to_owned()))
}

pub(super) fn keep_unnumbered(index: u32) -> RouteNetlinkMessage {
    let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    let family = AfSpecUnspec::Inet6(vec![mode]);
    set_link(index, LinkAttribute::AfSpecUnspec(vec![family]))
}

fn set_link(index: u32, attribute: LinkAttribute) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes = vec![attribute];
    RouteNetlinkMessage::SetLink(message)
}

pub(super) fn remove_link(index: u32) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    RouteNetlinkMessage::DelLink(message)
}

pub(super) fn list_addresses(index: u32) -> RouteNetlinkMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    RouteNetlinkMessage::GetAddress(message)
}

pub(super) fn add_address(index: u32, address: IpNet) -> RouteNetlinkMessage {
    let mut message = address_of(index, address);
    if matches!(address, IpNet::V6(_)) {
        message
            .attributes
            .push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    RouteNetlinkMessage::NewAddress(message)
}

pub(super) fn remove_address(index: u32, address: IpNet) -> RouteNetlinkMessage {
    RouteNetlinkMessage::DelAddress(address_of(index, address))
}

fn address_of(index: u32, address: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.family = family(address.addr());
    message.header.prefix_len = address.prefix_len();
    message.attributes = vec![
        AddressAttribute::Local(address.addr()),
        AddressAttribute::Address(address.addr()),
    ];
    message
}

/// What a link has, but for link-local addresses that the kernel gave.
pub(super) fn read_address(message: &AddressMessage, index: u32) -> Option<IpNet> {
    let is_kernels =
        message.header.family == AddressFamily::Inet6 && message.header.scope == AddressScope::Link;
    if message.header.index != index || is_kernels {
        return None;
    }
    let mut address = None;
    for attribute in &message.attributes {
        // Of a point-to-point address, `Address` is the other end. IPv6 has no `Local` otherwise.
        if let AddressAttribute::Local(local) = attribute {
            address = Some(*local);
        } else if let AddressAttribute::Address(only) = attribute {
            address = address.or(Some(*only));
        }
    }
    IpNet::new(address?, message.header.prefix_len).ok()
}

/// A route to a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) prefix: IpNet,
    protocol: RouteProtocol,
    priority: Option<u32>,
}

/// One list for each family.
pub(super) fn list_routes(index: u32) -> [RouteNetlinkMessage; 2] {
    [AddressFamily::Inet, AddressFamily::Inet6].map(|family| {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        message.attributes = vec![
            RouteAttribute::Table(RouteHeader::RT_TABLE_MAIN.into()),
            RouteAttribute::Oif(index),
        ];
        RouteNetlinkMessage::GetRoute(message)
    })
}

/// `RT_TABLE_LOCAL` of `include/uapi/linux/rtnetlink.h`.
const TABLE_LOCAL: u8 = 255;

/// What makes addresses local, on whichever link: older kernels name `lo` for those of IPv6.
pub(super) fn list_local_routes() -> [RouteNetlinkMessage; 2] {
    [AddressFamily::Inet, AddressFamily::Inet6].map(|family| {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        message.attributes = vec![RouteAttribute::Table(TABLE_LOCAL.into())];
        RouteNetlinkMessage::GetRoute(message)
    })
}

/// The address that a route makes local.
pub(super) fn read_local(message: &RouteMessage) -> Option<IpAddr> {
    let header = &message.header;
    let is_local = header.kind == RouteType::Local && header.table == TABLE_LOCAL;
    let prefix = destination(message)?;
    (is_local && prefix.prefix_len() == prefix.max_prefix_len()).then(|| prefix.addr())
}

/// The network that the kernel's own route to a link leads to.
pub(super) fn read_connected(message: &RouteMessage, index: u32) -> Option<IpNet> {
    let header = &message.header;
    let is_kernels = header.kind == RouteType::Unicast
        && header.table == RouteHeader::RT_TABLE_MAIN
        && header.protocol == RouteProtocol::Kernel;
    if !is_kernels || !message.attributes.contains(&RouteAttribute::Oif(index)) {
        return None;
    }
    destination(message)
}

/// The routes that the kernel makes with an address, as it makes them: then it takes them away with
/// the address, too (`fib_add_ifaddr` in `net/ipv4/fib_frontend.c`, `addrconf_prefix_route` in
/// `net/ipv6/addrconf.c`). The local one comes first, for the other one names its address.
pub(super) fn restore_routes(index: u32, address: IpNet) -> Vec<RouteNetlinkMessage> {
    let mut routes = vec![RouteNetlinkMessage::NewRoute(local_of(
        index,
        address.addr(),
    ))];
    if address.prefix_len() < address.max_prefix_len() {
        let route = Route {
            prefix: address.trunc(),
            protocol: RouteProtocol::Kernel,
            priority: address.addr().is_ipv6().then_some(CONNECTED_IPV6_PRIORITY),
        };
        let mut message = route_of(index, &route);
        message.header.kind = RouteType::Unicast;
        name_source(&mut message, address.addr(), RouteScope::Link);
        routes.push(RouteNetlinkMessage::NewRoute(message));
    }
    routes
}

/// `IP6_RT_PRIO_ADDRCONF` of `include/uapi/linux/ipv6_route.h`.
const CONNECTED_IPV6_PRIORITY: u32 = 256;

pub(super) fn remove_local(index: u32, address: IpAddr) -> RouteNetlinkMessage {
    RouteNetlinkMessage::DelRoute(local_of(index, address))
}

fn local_of(index: u32, address: IpAddr) -> RouteMessage {
    let route = Route {
        prefix: address.into(),
        protocol: RouteProtocol::Kernel,
        priority: None,
    };
    let mut message = route_of(index, &route);
    message.header.kind = RouteType::Local;
    message.header.table = TABLE_LOCAL;
    name_source(&mut message, address, RouteScope::Host);
    message
}

/// IPv6 has neither scopes of routes nor sources in routes of its own.
fn name_source(message: &mut RouteMessage, address: IpAddr, scope: RouteScope) {
    if address.is_ipv4() {
        message.header.scope = scope;
        let source = RouteAttribute::PrefSource(RouteAddress::from(address));
        message.attributes.push(source);
    }
}

pub(super) fn add_route(index: u32, prefix: IpNet) -> RouteNetlinkMessage {
    let route = Route {
        prefix,
        protocol: PROTOCOL,
        priority: None,
    };
    let mut message = route_of(index, &route);
    // What is reached without a gateway (rtnetlink(7), rtm_scope).
    message.header.scope = RouteScope::Link;
    message.header.kind = RouteType::Unicast;
    RouteNetlinkMessage::NewRoute(message)
}

pub(super) fn remove_route(index: u32, route: &Route) -> RouteNetlinkMessage {
    let mut message = route_of(index, route);
    message.header.scope = RouteScope::NoWhere;
    message.header.kind = RouteType::Unicast;
    RouteNetlinkMessage::DelRoute(message)
}

fn route_of(index: u32, route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(route.prefix.addr());
    message.header.destination_prefix_length = route.prefix.prefix_len();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = route.protocol;
    message.attributes = vec![
        RouteAttribute::Destination(RouteAddress::from(route.prefix.network())),
        RouteAttribute::Oif(index),
    ];
    let priority = route.priority.map(RouteAttribute::Priority);
    message.attributes.extend(priority);
    message
}

/// What somebody routed to a link: neither the kernel's own routes nor those of other tables.
pub(super) fn read_route(message: &RouteMessage, index: u32) -> Option<Route> {
    let header = &message.header;
    let is_somebodys = header.kind == RouteType::Unicast
        && header.table == RouteHeader::RT_TABLE_MAIN
        && !matches!(
            header.protocol,
            RouteProtocol::Kernel | RouteProtocol::IcmpRedirect | RouteProtocol::Ra
        );
    if !is_somebodys || !message.attributes.contains(&RouteAttribute::Oif(index)) {
        return None;
    }
    let mut priority = None;
    for attribute in &message.attributes {
        if let RouteAttribute::Priority(number) = attribute {
            priority = Some(*number);
        }
    }
    Some(Route {
        prefix: destination(message)?,
        protocol: header.protocol,
        priority,
    })
}

fn destination(message: &RouteMessage) -> Option<IpNet> {
    let header = &message.header;
    // What a default route leaves out.
    let mut destination = if header.address_family == AddressFamily::Inet6 {
        IpAddr::from([0_u16; 8])
    } else {
        IpAddr::from([0_u8; 4])
    };
    for attribute in &message.attributes {
        if let RouteAttribute::Destination(RouteAddress::Inet(address)) = attribute {
            destination = (*address).into();
        } else if let RouteAttribute::Destination(RouteAddress::Inet6(address)) = attribute {
            destination = (*address).into();
        }
    }
    IpNet::new(destination, header.destination_prefix_length).ok()
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

#[cfg(test)]
mod tests;
