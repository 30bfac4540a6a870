//! The headers of a packet of TCP or UDP, as far as cutting and putting together takes them
//! (RFC 791, RFC 8200, RFC 9293, RFC 768).

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::Range,
};

use crate::checksum::Sum;

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;

pub(super) const IPV4_BYTES: usize = 20;
pub(super) const IPV6_BYTES: usize = 40;
pub(super) const TCP_BYTES: usize = 20;
pub(super) const UDP_BYTES: usize = 8;

/// Where the checksum is in a header of TCP and of UDP.
pub(super) const TCP_CHECKSUM: usize = 16;
pub(super) const UDP_CHECKSUM: usize = 6;

/// The flags in the fourteenth byte of a TCP header.
pub(super) const FIN: u8 = 0x01;
pub(super) const PSH: u8 = 0x08;
pub(super) const ACK: u8 = 0x10;
pub(super) const ECE: u8 = 0x40;
pub(super) const CWR: u8 = 0x80;
/// Where they are.
pub(super) const TCP_FLAGS: usize = 13;

/// The version of the Internet protocol that a packet is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V4,
    V6,
}

/// Where things are in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) version: Version,
    /// [`TCP`] or [`UDP`].
    pub(super) protocol: u8,
    /// Where the header of that begins.
    pub(super) transport: usize,
    /// Where the payload begins.
    pub(super) payload: usize,
}

impl Layout {
    /// Reads a whole packet of TCP or UDP without IP options or extension headers that is no
    /// fragment, and whose lengths agree. `None` for everything else.
    pub(super) fn read(packet: &[u8]) -> Option<Self> {
        let (version, protocol, transport) = match packet.first()? >> 4 {
            4 => (Version::V4, read_v4(packet)?, IPV4_BYTES),
            6 => (Version::V6, read_v6(packet)?, IPV6_BYTES),
            _ => return None,
        };
        let inner = packet.get(transport..)?;
        let own = match protocol {
            TCP => usize::from(inner.get(12)? >> 4) * 4,
            UDP if usize::from(word(inner, 4)?) == inner.len() => UDP_BYTES,
            _ => return None,
        };
        let least = if protocol == TCP {
            TCP_BYTES
        } else {
            UDP_BYTES
        };
        (own >= least && own <= inner.len()).then_some(Self {
            version,
            protocol,
            transport,
            payload: transport + own,
        })
    }

    /// Whether both checksums of a packet are right, and in the form in which everybody writes them.
    /// One that is left out is not.
    pub(super) fn is_intact(&self, packet: &[u8]) -> bool {
        if self.version == Version::V4 {
            let header = packet.get(..IPV4_BYTES).unwrap_or(&[]);
            if !Sum::default().bytes(header).is_right() || word(header, 10) == Some(0xffff) {
                return false;
            }
        }
        let inner = packet.get(self.transport..).unwrap_or(&[]);
        // The form of zero that is not written; for UDP the other one says that there is none.
        let unwritten = if self.protocol == UDP { 0 } else { 0xffff };
        if word(inner, self.checksum_offset()) == Some(unwritten) {
            return false;
        }
        let len = u16::try_from(inner.len()).unwrap_or(u16::MAX);
        let sum = self.pseudo_header(packet, len);
        sum.is_some_and(|sum| sum.bytes(inner).is_right())
    }

    /// The sum of the pseudo-header of a packet whose transport header and payload have `len` bytes.
    pub(super) fn pseudo_header(&self, packet: &[u8], len: u16) -> Option<Sum> {
        let (source, destination): (IpAddr, IpAddr) = match self.version {
            Version::V4 => {
                let [source, destination] = addresses::<4>(packet, 12)?;
                (
                    Ipv4Addr::from(source).into(),
                    Ipv4Addr::from(destination).into(),
                )
            }
            Version::V6 => {
                let [source, destination] = addresses::<16>(packet, 8)?;
                (
                    Ipv6Addr::from(source).into(),
                    Ipv6Addr::from(destination).into(),
                )
            }
        };
        Some(Sum::pseudo_header(source, destination, self.protocol, len))
    }

    /// What tells flows apart: the addresses, and the ports.
    pub(super) fn flow<'a>(&self, packet: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        let addresses = match self.version {
            Version::V4 => 12..20,
            Version::V6 => 8..40,
        };
        let part = |range: Range<usize>| packet.get(range).unwrap_or(&[]);
        (part(addresses), part(self.transport..self.transport + 4))
    }

    /// Where the checksum of TCP or UDP is in the header of that.
    pub(super) fn checksum_offset(&self) -> usize {
        if self.protocol == TCP {
            TCP_CHECKSUM
        } else {
            UDP_CHECKSUM
        }
    }
}

fn read_v4(packet: &[u8]) -> Option<u8> {
    let whole = packet.len() >= IPV4_BYTES && usize::from(word(packet, 2)?) == packet.len();
    // The bit that has no meaning, more fragments, and where this one belongs.
    let fragment = word(packet, 6)? & 0xbfff != 0;
    let options = *packet.first()? != 0x45;
    (whole && !fragment && !options).then_some(*packet.get(9)?)
}

fn read_v6(packet: &[u8]) -> Option<u8> {
    let len = usize::from(word(packet, 4)?);
    (packet.len() == IPV6_BYTES + len).then_some(*packet.get(6)?)
}

fn addresses<const N: usize>(packet: &[u8], at: usize) -> Option<[[u8; N]; 2]> {
    let (source, rest) = packet.get(at..)?.split_first_chunk::<N>()?;
    Some([*source, *rest.first_chunk::<N>()?])
}

/// The 16 bits at a place, in network order.
pub(super) fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|word| u16::from_be_bytes(*word))
}

/// The 32 bits at a place, in network order.
pub(super) fn long(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|long| u32::from_be_bytes(*long))
}

/// Writes bytes at a place, if they fit.
pub(super) fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    if let Some(place) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *place = value;
    }
}
