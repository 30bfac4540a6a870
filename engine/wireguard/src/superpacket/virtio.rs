//! The header before what crosses the border (`struct virtio_net_hdr`,
//! `include/uapi/linux/virtio_net.h`). Its numbers are in the byte order of the machine.

/// Its length.
pub(crate) const HEADER_BYTES: usize = 10;

/// The checksum is not finished.
const NEEDS_CHECKSUM: u8 = 1;
/// The checksum was found to be right.
const CHECKED: u8 = 2;
/// Marks a super-packet of TCP whose first packet alone says that congestion was answered (CWR).
const ECN: u8 = 0x80;

/// What is said of a packet or super-packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) checksum: Checksum,
    pub(crate) kind: Kind,
    /// The length of the headers in front of the payload; a hint.
    pub(crate) headers: u16,
    /// The payload of each packet but the last.
    pub(crate) segment: u16,
}

/// What is said of the checksum of TCP or UDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Checksum {
    /// Nothing: whoever wants to know computes it.
    #[default]
    Complete,
    /// It is right.
    Checked,
    /// Its field holds a part of the sum; the rest is that of the bytes from `start` on, and the
    /// result goes to `offset` from there.
    Partial { start: u16, offset: u16 },
}

/// How a super-packet is to be cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Not at all.
    #[default]
    Packet,
    /// As TCP over IPv4.
    TcpV4,
    /// As TCP over IPv6.
    TcpV6,
    /// As UDP, over the version that the packet is of (Linux 6.2).
    Udp,
}

impl Header {
    /// Reads one. `None` for a kind that was not asked for.
    pub(crate) fn read(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let [flags, kind, numbers @ ..] = bytes;
        let [h0, h1, s0, s1, c0, c1, o0, o1] = *numbers;
        let kind = match kind & !ECN {
            0 => Kind::Packet,
            1 => Kind::TcpV4,
            4 => Kind::TcpV6,
            5 => Kind::Udp,
            _ => return None,
        };
        let checksum = if flags & NEEDS_CHECKSUM != 0 {
            Checksum::Partial {
                start: u16::from_ne_bytes([c0, c1]),
                offset: u16::from_ne_bytes([o0, o1]),
            }
        } else if flags & CHECKED != 0 {
            Checksum::Checked
        } else {
            Checksum::Complete
        };
        Some(Self {
            checksum,
            kind,
            headers: u16::from_ne_bytes([h0, h1]),
            segment: u16::from_ne_bytes([s0, s1]),
        })
    }

    /// Writes it.
    pub(crate) fn write(&self) -> [u8; HEADER_BYTES] {
        let (flags, start, offset) = match self.checksum {
            Checksum::Complete => (0, 0, 0),
            Checksum::Checked => (CHECKED, 0, 0),
            Checksum::Partial { start, offset } => (NEEDS_CHECKSUM, start, offset),
        };
        let kind = match self.kind {
            Kind::Packet => 0,
            Kind::TcpV4 => 1,
            Kind::TcpV6 => 4,
            Kind::Udp => 5,
        };
        let [h0, h1] = self.headers.to_ne_bytes();
        let [s0, s1] = self.segment.to_ne_bytes();
        let [c0, c1] = start.to_ne_bytes();
        let [o0, o1] = offset.to_ne_bytes();
        [flags, kind, h0, h1, s0, s1, c0, c1, o0, o1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_marks_of_congestion_do_not_hide_the_kind() {
        for kind in [Kind::Packet, Kind::TcpV4, Kind::TcpV6, Kind::Udp] {
            let partial = Checksum::Partial {
                start: 40,
                offset: 16,
            };
            for checksum in [Checksum::Complete, Checksum::Checked, partial] {
                let header = Header {
                    checksum,
                    kind,
                    headers: 60,
                    segment: 1_380,
                };
                let mut bytes = header.write();
                assert_eq!(Header::read(&bytes), Some(header));
                bytes[1] |= 0x80;
                assert_eq!(Header::read(&bytes), Some(header));
            }
        }
        // UDP fragmentation (VIRTIO_NET_HDR_GSO_UDP) is never asked for.
        assert_eq!(Header::read(&[0, 3, 0, 0, 0, 0, 0, 0, 0, 0]), None);
    }
}
