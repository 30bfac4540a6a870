//! One flow: the packets of it that wait, and which one would continue them.

use std::ops::Range;

use super::{
    super::headers::{ACK, ECE, PSH, TCP, TCP_FLAGS, Version, long, put, word},
    Checksum, HEADERS_MAX, Header, Kind, Kinds, Layout, PACKETS_MAX, Super,
};

/// The longest super-packet. IPv6 could say 40 bytes more.
const BYTES_MAX: usize = 65_535;
/// The bit of an IPv4 header that forbids fragmentation, in the sixteen bits at 6.
const DONT_FRAGMENT: u16 = 0x4000;

/// Packets of one flow that continue each other.
#[derive(Debug)]
pub(super) struct Flow {
    layout: Layout,
    /// Those of the first packet.
    headers: [u8; HEADERS_MAX],
    packets: [Range<usize>; PACKETS_MAX],
    count: usize,
    /// The payload of each but the last.
    segment: usize,
    /// All payloads.
    payload: usize,
    /// Nothing continues a packet that is shorter, or pushes.
    ended: bool,
    pushed: bool,
}

impl Flow {
    pub(super) const NONE: Self = Self {
        layout: Layout {
            version: Version::V4,
            protocol: 0,
            transport: 0,
            payload: 0,
        },
        headers: [0; HEADERS_MAX],
        packets: [const { 0..0 }; PACKETS_MAX],
        count: 0,
        segment: 0,
        payload: 0,
        ended: false,
        pushed: false,
    };

    /// Whether an intact packet is one that others may continue.
    pub(super) fn may_begin(kinds: Kinds, layout: &Layout, packet: &[u8]) -> bool {
        if layout.payload == packet.len() || layout.payload > HEADERS_MAX {
            return false;
        }
        if layout.protocol != TCP {
            return kinds.udp;
        }
        let flags = packet.get(layout.transport + TCP_FLAGS).copied();
        kinds.tcp && flags.is_some_and(|flags| flags & !ECE == ACK)
    }

    /// Begins anew with such a packet.
    pub(super) fn begin(&mut self, layout: &Layout, packet: &[u8], range: Range<usize>) {
        self.layout = *layout;
        self.count = 0;
        self.payload = 0;
        self.segment = packet.len() - layout.payload;
        self.ended = false;
        self.pushed = false;
        self.headers[..layout.payload].copy_from_slice(&packet[..layout.payload]);
        self.push(layout, packet, range);
    }

    /// Adds a packet, which continues those before.
    pub(super) fn push(&mut self, layout: &Layout, packet: &[u8], range: Range<usize>) {
        let len = packet.len() - layout.payload;
        self.packets[self.count] = range;
        self.count += 1;
        self.payload += len;
        let flags = packet
            .get(layout.transport + TCP_FLAGS)
            .copied()
            .unwrap_or(0);
        self.pushed = layout.protocol == TCP && flags & PSH != 0;
        self.ended = self.pushed || len < self.segment;
    }

    /// Whether no packet can be added.
    pub(super) fn is_full(&self) -> bool {
        let longest = self.layout.payload + self.payload + self.segment;
        self.ended || self.count == PACKETS_MAX || longest > BYTES_MAX
    }

    /// Whether a packet is of this flow.
    pub(super) fn is_of(&self, layout: &Layout, packet: &[u8]) -> bool {
        self.layout.version == layout.version
            && self.layout.protocol == layout.protocol
            && self.layout.flow(&self.headers) == layout.flow(packet)
    }

    /// Whether an intact packet of this flow continues the packets that wait, which are not full.
    pub(super) fn continues_with(&self, layout: &Layout, packet: &[u8]) -> bool {
        let len = packet.len() - layout.payload;
        len > 0
            && len <= self.segment
            && layout.payload + self.payload + len <= BYTES_MAX
            && self.layout == *layout
            && self.has_same_ip_header(packet)
            && (layout.protocol != TCP || self.has_next_tcp_header(packet))
    }

    fn has_same_ip_header(&self, packet: &[u8]) -> bool {
        let same = |range: Range<usize>| self.headers.get(range.clone()) == packet.get(range);
        match self.layout.version {
            // All but the length, the identification and the checksum.
            Version::V4 => same(0..2) && same(6..10) && self.has_next_identification(packet),
            // All but the length.
            Version::V6 => same(0..4) && same(6..8),
        }
    }

    fn has_next_identification(&self, packet: &[u8]) -> bool {
        let fragments = word(packet, 6).unwrap_or(0) & DONT_FRAGMENT == 0;
        let count = u16::try_from(self.count).unwrap_or(0);
        let next = word(&self.headers, 4).map(|id| id.wrapping_add(count));
        !fragments || word(packet, 4) == next
    }

    fn has_next_tcp_header(&self, packet: &[u8]) -> bool {
        let at = self.layout.transport;
        let same = |range: Range<usize>| self.headers.get(range.clone()) == packet.get(range);
        let flags = |of: &[u8]| of.get(at + TCP_FLAGS).map(|flags| flags & !PSH);
        let sequence = |of: &[u8]| long(of, at + 4);
        let before = u32::try_from(self.payload).unwrap_or(0);
        let next = sequence(&self.headers).map(|first| first.wrapping_add(before));
        sequence(packet) == next
            && flags(packet) == flags(&self.headers)
            // What is acknowledged, and how long the header is.
            && same(at + 8..at + TCP_FLAGS)
            // The window.
            && same(at + 14..at + 16)
            // The urgent pointer and the options.
            && same(at + 18..self.layout.payload)
    }

    /// What they are together.
    pub(super) fn finish<'a>(&'a self, arena: &'a [u8]) -> Super<'a> {
        let layout = &self.layout;
        let mut headers = self.headers;
        let len = layout.payload + self.payload;
        let inner = u16::try_from(len - layout.transport).unwrap_or(u16::MAX);
        match layout.version {
            Version::V4 => finish_v4(&mut headers, len),
            Version::V6 => put(&mut headers, 4, inner.to_be_bytes()),
        }
        if layout.protocol != TCP {
            put(&mut headers, layout.transport + 4, inner.to_be_bytes());
        } else if let Some(flags) = headers
            .get_mut(layout.transport + TCP_FLAGS)
            .filter(|_| self.pushed)
        {
            *flags |= PSH;
        }
        let sum = layout
            .pseudo_header(&headers, inner)
            .unwrap_or_default()
            .fold();
        let offset = layout.checksum_offset();
        put(&mut headers, layout.transport + offset, sum.to_be_bytes());
        let short = |number: usize| u16::try_from(number).unwrap_or(0);
        let header = Header {
            checksum: Checksum::Partial {
                start: short(layout.transport),
                offset: short(offset),
            },
            kind: match (layout.protocol, layout.version) {
                (TCP, Version::V4) => Kind::TcpV4,
                (TCP, Version::V6) => Kind::TcpV6,
                _ => Kind::Udp,
            },
            headers: short(layout.payload),
            segment: short(self.segment),
        };
        Super::together(
            arena,
            &self.packets[..self.count],
            &header,
            &headers[..layout.payload],
        )
    }
}

fn finish_v4(headers: &mut [u8], len: usize) {
    use crate::checksum::changed;
    let len = u16::try_from(len).unwrap_or(u16::MAX);
    let (before, checksum) = (
        word(headers, 2).unwrap_or(0),
        word(headers, 10).unwrap_or(0),
    );
    put(headers, 2, len.to_be_bytes());
    put(headers, 10, changed(checksum, before, len).to_be_bytes());
}
