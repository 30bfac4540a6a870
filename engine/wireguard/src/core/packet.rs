//! The packets inside: as much of their IP headers as routing them takes (RFC 791, RFC 8200).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
/// Padding brings a packet to a multiple of this (the paper, section 5.4.6), so that its length
/// says less about what is in it.
const PADDING: usize = 16;

/// Where a packet goes; `None` for what is no whole IP header.
pub(crate) fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 if packet.len() >= IPV4_HEADER => {
            let octets: [u8; 4] = *packet.get(16..)?.first_chunk()?;
            Some(Ipv4Addr::from(octets).into())
        }
        6 if packet.len() >= IPV6_HEADER => {
            let octets: [u8; 16] = *packet.get(24..)?.first_chunk()?;
            Some(Ipv6Addr::from(octets).into())
        }
        _ => None,
    }
}

/// Whether a packet that was cut to the length in its header is still as long as a header.
pub(crate) fn holds_its_header(packet: &[u8]) -> bool {
    destination(packet).is_some()
}

/// How long a packet of `len` bytes becomes with its padding: a multiple of 16, but never over the
/// MTU, as the kernel does it (`calculate_skb_padding` in `drivers/net/wireguard/send.c`).
pub(crate) fn padded(len: usize, mtu: usize) -> usize {
    len.next_multiple_of(PADDING).min(mtu.max(len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_read_from_whole_headers_only() {
        let mut v4 = [0; 20];
        v4[0] = 0x45;
        v4[16..20].copy_from_slice(&[10, 0, 0, 2]);
        assert_eq!(destination(&v4), Some("10.0.0.2".parse().unwrap()));
        assert_eq!(destination(&v4[..19]), None);
        let mut v6 = [0; 40];
        v6[0] = 0x60;
        v6[39] = 1;
        assert_eq!(destination(&v6), Some("::1".parse().unwrap()));
        assert_eq!(destination(&v6[..39]), None);
        assert_eq!(destination(&[]), None);
        assert_eq!(destination(&[0x55; 40]), None);
    }

    #[test]
    fn padding_reaches_the_next_multiple_of_sixteen_but_not_past_the_mtu() {
        let cases = [
            (0, 0),
            (1, 16),
            (16, 16),
            (17, 32),
            (1_409, 1_420),
            (1_420, 1_420),
        ];
        for (len, expected) in cases {
            assert_eq!(padded(len, 1_420), expected, "{len}");
        }
        assert_eq!(padded(1_500, 1_420), 1_500, "the MTU has just shrunk");
    }
}
