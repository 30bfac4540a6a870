//! A super-packet into packets, where it lies.
//!
//! ```text
//!   [headers][ payload 1 ][ payload 2 ][ payload 3 ]
//!   └─ packet 1 ─────────┘
//!        [headers][ payload 2 ]   over the end of packet 1, which is sealed by then
//!                     [headers][ payload 3 ]
//! ```
//!
//! Padding needs zeros behind a packet, where the next payload is: that is put aside meanwhile.

use std::net::IpAddr;

use super::{
    PADDING_ROOM,
    headers::{
        CWR, FIN, IPV4_BYTES, IPV6_BYTES, PSH, TCP, TCP_BYTES, TCP_CHECKSUM, TCP_FLAGS, UDP,
        UDP_BYTES, UDP_CHECKSUM, Version, long, put, word,
    },
    virtio::{Checksum, HEADER_BYTES, Header, Kind},
};
use crate::checksum::Sum;
use crate::packet;

/// The headers of one packet at most: those of IP with options or extensions, and 60 bytes of TCP.
const HEADERS_MAX: usize = 256;

/// A packet or super-packet of a tenant, which gives its packets one after the other.
#[derive(Debug)]
pub(crate) struct Packets<'a> {
    bytes: &'a mut [u8],
    len: usize,
    destination: IpAddr,
    congestion: u8,
    cut: Option<Cut>,
    /// Where the packet is that was last given, and where the next payload begins.
    start: usize,
    end: usize,
    /// The first bytes behind that packet while its padding is there.
    aside: [u8; PADDING_ROOM],
    padding: usize,
}

/// How a super-packet is cut.
#[derive(Debug)]
struct Cut {
    headers: [u8; HEADERS_MAX],
    headers_len: usize,
    version: Version,
    protocol: u8,
    transport: usize,
    segment: usize,
    /// The sum of the pseudo-header but for the length.
    pseudo_header: Sum,
    /// How many packets were given.
    count: usize,
}

impl<'a> Packets<'a> {
    /// What lies in the first `len` bytes of `bytes`, after which there is room for padding
    /// ([`PADDING_ROOM`]), and `header` says the kind of. `None` for what no kernel would say.
    pub(crate) fn read(
        header: &[u8; HEADER_BYTES],
        bytes: &'a mut [u8],
        len: usize,
    ) -> Option<Self> {
        if len > usize::from(u16::MAX) || bytes.len() < len + PADDING_ROOM {
            return None;
        }
        let header = Header::read(header)?;
        let packet = bytes.get_mut(..len)?;
        let destination = packet::destination(packet)?;
        let congestion = packet::congestion(packet);
        let cut = match header.kind {
            Kind::Packet => {
                complete(packet, header.checksum)?;
                None
            }
            kind @ (Kind::TcpV4 | Kind::TcpV6 | Kind::Udp) => {
                Some(Cut::read(packet, kind, &header)?)
            }
        };
        Some(Self {
            bytes,
            len,
            destination,
            congestion,
            cut,
            start: 0,
            end: 0,
            aside: [0; PADDING_ROOM],
            padding: 0,
        })
    }

    /// Where all of them go.
    pub(crate) fn destination(&self) -> IpAddr {
        self.destination
    }

    /// What they say of congestion (ECN, RFC 3168).
    pub(crate) fn congestion(&self) -> u8 {
        self.congestion
    }

    /// Whether there is another one.
    pub(crate) fn has_next(&self) -> bool {
        self.end < self.len
    }

    /// Goes on to the next one, if there is one.
    pub(crate) fn advance(&mut self) -> bool {
        if !self.has_next() {
            return false;
        }
        self.unpad();
        let Some(cut) = self.cut.as_mut() else {
            self.end = self.len;
            return true;
        };
        let from = self.end.max(cut.headers_len);
        self.start = from - cut.headers_len;
        self.end = (from + cut.segment).min(self.len);
        let last = self.end == self.len;
        if let Some(packet) = self.bytes.get_mut(self.start..self.end) {
            cut.write(packet, last);
        }
        true
    }

    /// The packet.
    pub(crate) fn packet(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or(&[])
    }

    /// The packet with its padding to `padded` bytes in all, at most [`PADDING_ROOM`] more.
    pub(crate) fn padded(&mut self, padded: usize) -> &[u8] {
        self.unpad();
        let padding = padded
            .saturating_sub(self.end - self.start)
            .min(PADDING_ROOM);
        if let Some(behind) = self.bytes.get_mut(self.end..self.end + padding) {
            self.aside[..padding].copy_from_slice(behind);
            behind.fill(0);
            self.padding = padding;
        }
        self.bytes
            .get(self.start..self.end + self.padding)
            .unwrap_or(&[])
    }

    fn unpad(&mut self) {
        let padding = std::mem::take(&mut self.padding);
        if let Some(behind) = self.bytes.get_mut(self.end..self.end + padding) {
            behind.copy_from_slice(&self.aside[..padding]);
        }
    }
}

/// Finishes the checksum of a packet that is alone.
fn complete(packet: &mut [u8], checksum: Checksum) -> Option<()> {
    let Checksum::Partial { start, offset } = checksum else {
        return Some(());
    };
    // Nothing of the IP header is covered by it.
    let ip = if packet.first()? >> 4 == 4 {
        IPV4_BYTES
    } else {
        IPV6_BYTES
    };
    let start = usize::from(start);
    let inner = packet.get_mut(start..).filter(|_| start >= ip)?;
    let offset = usize::from(offset);
    // What is in the field is part of the sum.
    inner.get(offset..offset + 2)?;
    let checksum = Sum::default().bytes(inner).finish();
    put(inner, offset, as_written(checksum, offset));
    Some(())
}

/// A checksum in the form in which it is written: zero would say of UDP that there is none, and its
/// other form is as right (RFC 768).
fn as_written(checksum: u16, offset: usize) -> [u8; 2] {
    if checksum == 0 && offset == UDP_CHECKSUM {
        return [0xff; 2];
    }
    checksum.to_be_bytes()
}

impl Cut {
    fn read(packet: &[u8], kind: Kind, header: &Header) -> Option<Self> {
        let Checksum::Partial { start, offset } = header.checksum else {
            return None;
        };
        let transport = usize::from(start);
        let inner = packet.get(transport..)?;
        let version = version(packet, transport)?;
        let (protocol, own, checksum) = match (kind, version) {
            (Kind::TcpV4, Version::V4) | (Kind::TcpV6, Version::V6) => {
                let own = usize::from(inner.get(12)? >> 4) * 4;
                (TCP, own.max(TCP_BYTES), TCP_CHECKSUM)
            }
            (Kind::Udp, _) => (UDP, UDP_BYTES, UDP_CHECKSUM),
            _ => return None,
        };
        let headers_len = transport + own;
        if headers_len > HEADERS_MAX || packet.len() <= headers_len || header.segment == 0 {
            return None;
        }
        if usize::from(offset) != checksum {
            return None;
        }
        let mut headers = [0; HEADERS_MAX];
        headers
            .get_mut(..headers_len)?
            .copy_from_slice(packet.get(..headers_len)?);
        let len = u16::try_from(inner.len()).ok()?;
        Some(Self {
            headers,
            headers_len,
            version,
            protocol,
            transport,
            segment: usize::from(header.segment),
            pseudo_header: Sum::default().word(word(inner, checksum)?).without(len),
            count: 0,
        })
    }

    /// Writes the headers of the next packet, in front of whose payload there is room for them.
    fn write(&mut self, packet: &mut [u8], last: bool) {
        let Some(headers) = packet.get_mut(..self.headers_len) else {
            return;
        };
        headers.copy_from_slice(&self.headers[..self.headers_len]);
        match self.version {
            Version::V4 => self.write_v4(packet),
            Version::V6 => {
                let len = u16::try_from(packet.len() - IPV6_BYTES).unwrap_or(u16::MAX);
                put(packet, 4, len.to_be_bytes());
            }
        }
        if let Some(inner) = packet.get_mut(self.transport..) {
            if self.protocol == TCP {
                self.write_tcp(inner, last);
            } else {
                self.write_udp(inner);
            }
        }
        self.count += 1;
    }

    fn write_v4(&self, packet: &mut [u8]) {
        let len = u16::try_from(packet.len()).unwrap_or(u16::MAX);
        put(packet, 2, len.to_be_bytes());
        let count = u16::try_from(self.count).unwrap_or(u16::MAX);
        let id = word(packet, 4).unwrap_or(0).wrapping_add(count);
        put(packet, 4, id.to_be_bytes());
        put(packet, 10, [0, 0]);
        let header = packet.get(..self.transport).unwrap_or(&[]);
        let checksum = Sum::default().bytes(header).finish();
        put(packet, 10, checksum.to_be_bytes());
    }

    fn write_tcp(&self, inner: &mut [u8], last: bool) {
        let before = u32::try_from(self.count * self.segment).unwrap_or(0);
        let sequence = long(inner, 4).unwrap_or(0).wrapping_add(before);
        put(inner, 4, sequence.to_be_bytes());
        if let Some(flags) = inner.get_mut(TCP_FLAGS) {
            if !last {
                *flags &= !(FIN | PSH);
            }
            if self.count > 0 {
                *flags &= !CWR;
            }
        }
        self.write_checksum(inner, TCP_CHECKSUM);
    }

    fn write_udp(&self, inner: &mut [u8]) {
        let len = u16::try_from(inner.len()).unwrap_or(u16::MAX);
        put(inner, 4, len.to_be_bytes());
        self.write_checksum(inner, UDP_CHECKSUM);
    }

    fn write_checksum(&self, inner: &mut [u8], at: usize) {
        put(inner, at, [0, 0]);
        let len = u16::try_from(inner.len()).unwrap_or(u16::MAX);
        let checksum = self.pseudo_header.word(len).bytes(inner).finish();
        put(inner, at, as_written(checksum, at));
    }
}

/// The version of a super-packet whose IP header, with whatever belongs to it, ends at `transport`.
fn version(packet: &[u8], transport: usize) -> Option<Version> {
    let first = packet.first()?;
    match first >> 4 {
        4 if transport >= IPV4_BYTES && usize::from(first & 15) * 4 == transport => {
            Some(Version::V4)
        }
        6 if transport >= IPV6_BYTES => Some(Version::V6),
        _ => None,
    }
}
