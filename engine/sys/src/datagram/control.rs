//! What is said beside the bytes of datagrams.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroU16,
};

use super::Path;

/// What is said beside the bytes: control messages (cmsg(3)), each a header of its length, level and
/// type, and its data, padded to the alignment of the header.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Control {
    bytes: [u8; CONTROL_BYTES],
    pub(super) len: usize,
}

/// Room for the length of segments (24 bytes), the longer form of a local address (40) and a traffic
/// class (24), and half as much again.
pub(super) const CONTROL_BYTES: usize = 128;
const CONTROL_HEADER: usize = size_of::<libc::cmsghdr>();
const _: () = assert!(align_of::<Control>() >= align_of::<libc::cmsghdr>());
const _: () = assert!(
    CONTROL_HEADER == 16,
    "length, level and type follow each other"
);

/// What the kernel said beside a buffer.
#[derive(Default)]
pub(super) struct Said {
    /// The length of each of several datagrams (UDP_GRO).
    pub(super) segment: Option<usize>,
    /// The address that they were sent to.
    pub(super) local: Option<IpAddr>,
    /// Their traffic class.
    pub(super) class: u8,
}

impl Control {
    pub(super) const EMPTY: Self = Self {
        bytes: [0; CONTROL_BYTES],
        len: 0,
    };

    /// What goes with every datagram on a path.
    pub(super) fn to(path: Path, class: u8) -> Self {
        let mut control = Self::EMPTY;
        control.set_local(path.local);
        if class != 0 {
            let class = libc::c_int::from(class).to_ne_bytes();
            match path.remote {
                SocketAddr::V4(_) => control.push(libc::IPPROTO_IP, libc::IP_TOS, &class),
                SocketAddr::V6(_) => control.push(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &class),
            }
        }
        control
    }

    /// Has the kernel cut the bytes.
    pub(super) fn set_segment(&mut self, segment: NonZeroU16) {
        let segment = segment.get().to_ne_bytes();
        self.push(libc::SOL_UDP, libc::UDP_SEGMENT, &segment);
    }

    /// Has the datagram leave from an address (IP_PKTINFO in ip(7), IPV6_PKTINFO in ipv6(7)).
    fn set_local(&mut self, local: Option<IpAddr>) {
        match local {
            None => {}
            Some(IpAddr::V4(local)) => {
                // The interface, which is any; the address to send from; one that only counts when
                // receiving.
                let mut data = [0; 12];
                data[4..8].copy_from_slice(&local.octets());
                self.push(libc::IPPROTO_IP, libc::IP_PKTINFO, &data);
            }
            Some(IpAddr::V6(local)) => {
                // The address to send from; the interface, which is any.
                let mut data = [0; 20];
                data[..16].copy_from_slice(&local.octets());
                self.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &data);
            }
        }
    }

    /// Adds a message. What is added here fits by far.
    fn push(&mut self, level: libc::c_int, kind: libc::c_int, data: &[u8]) {
        let len = CONTROL_HEADER + data.len();
        let Some(rest) = self
            .bytes
            .get_mut(self.len..)
            .filter(|rest| rest.len() >= len)
        else {
            return;
        };
        rest[..8].copy_from_slice(&len.to_ne_bytes());
        rest[8..12].copy_from_slice(&level.to_ne_bytes());
        rest[12..16].copy_from_slice(&kind.to_ne_bytes());
        rest[16..len].copy_from_slice(data);
        self.len = (self.len + len.next_multiple_of(8)).min(CONTROL_BYTES);
    }

    /// Reads the messages in the first `len` bytes.
    pub(super) fn read(&self, len: usize) -> Said {
        let mut said = Said::default();
        let mut rest = &self.bytes[..len.min(CONTROL_BYTES)];
        while let Some((header, _)) = rest.split_first_chunk::<CONTROL_HEADER>() {
            let number = |at: usize| {
                header[at..]
                    .first_chunk()
                    .map_or(0, |n| i32::from_ne_bytes(*n))
            };
            let len = header
                .first_chunk()
                .map_or(0, |len| usize::from_ne_bytes(*len));
            let Some(data) = rest.get(CONTROL_HEADER..len) else {
                break;
            };
            match (number(8), number(12)) {
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    // One int (`udp_cmsg_recv` in net/ipv4/udp.c).
                    let segment = data.first_chunk().map(|n| i32::from_ne_bytes(*n));
                    said.segment = segment.and_then(|segment| usize::try_from(segment).ok());
                }
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let local = data.get(4..).and_then(<[u8]>::first_chunk::<4>);
                    said.local = local.map(|local| Ipv4Addr::from(*local).into());
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let local = data.first_chunk::<16>().map(|local| Ipv6Addr::from(*local));
                    // An address of one link says nothing without the link.
                    let local = local.filter(|local| !local.is_unicast_link_local());
                    said.local = local.map(IpAddr::from);
                }
                (libc::IPPROTO_IP, libc::IP_TOS) => {
                    // One byte (`ip_cmsg_recv_tos` in net/ipv4/ip_sockglue.c).
                    said.class = data.first().copied().unwrap_or(0);
                }
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                    let class = data.first_chunk().map(|n| i32::from_ne_bytes(*n));
                    said.class = class
                        .and_then(|class| u8::try_from(class).ok())
                        .unwrap_or(0);
                }
                _ => {}
            }
            rest = rest.get(len.next_multiple_of(8)..).unwrap_or(&[]);
        }
        said
    }
}
