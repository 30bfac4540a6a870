//! The packets inside: as much of their IP headers as routing them takes (RFC 791, RFC 8200).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::checksum;

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
/// Padding brings a packet to a multiple of this (the paper, section 5.4.6), so that its length
/// says less about what is in it.
const PADDING: usize = 16;
/// The bits of ECN in a traffic class, and what they say.
const CONGESTION: u8 = 3;
const CAPABLE_1: u8 = 1;
const CAPABLE_0: u8 = 2;
const CONGESTED: u8 = 3;

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

/// What a packet says of congestion: the two bits of ECN (RFC 3168) in its traffic class.
pub(crate) fn congestion(packet: &[u8]) -> u8 {
    traffic_class(packet).unwrap_or(0) & CONGESTION
}

fn traffic_class(packet: &[u8]) -> Option<u8> {
    let [first, second] = *packet.first_chunk()?;
    match first >> 4 {
        4 => Some(second),
        6 => Some(first << 4 | second >> 4),
        _ => None,
    }
}

/// The traffic class of the message that a packet goes in: its ECN, and nothing of its DSCP, which
/// is between the tenant's machines (`ip_tunnel_ecn_encap` in `drivers/net/wireguard/send.c`). That
/// congestion was met inside is not told again outside.
pub(crate) fn class_outside(congestion: u8) -> u8 {
    if congestion == CONGESTED {
        CAPABLE_0
    } else {
        congestion
    }
}

/// Tells a packet what its message met on the way, if it can be told (RFC 6040, section 4.2; the
/// kernel's `INET_ECN_decapsulate`, of which it does not heed the advice to drop either).
pub(crate) fn carry_congestion(packet: &mut [u8], class_outside: u8) {
    let before = congestion(packet);
    match (before, class_outside & CONGESTION) {
        (0 | CONGESTED, _) => {}
        (_, CONGESTED) => set_congestion(packet, CONGESTED),
        (CAPABLE_0, CAPABLE_1) => set_congestion(packet, CAPABLE_1),
        _ => {}
    }
}

fn set_congestion(packet: &mut [u8], congestion: u8) {
    let Some(([first, second], rest)) = packet.split_first_chunk_mut() else {
        return;
    };
    if *first >> 4 == 6 {
        *second = *second & !(CONGESTION << 4) | congestion << 4;
        return;
    }
    let word = [*first, *second];
    *second = *second & !CONGESTION | congestion;
    // The header checksum, two bytes at 10.
    if let Some(checksum) = rest.get_mut(8..).and_then(<[u8]>::first_chunk_mut) {
        let before = u16::from_be_bytes(*checksum);
        let words = [word, [*first, *second]].map(u16::from_be_bytes);
        *checksum = checksum::changed(before, words[0], words[1]).to_be_bytes();
    }
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

    /// An IPv4 and an IPv6 header with a traffic class.
    fn headers(class: u8) -> [Vec<u8>; 2] {
        let mut v4 = vec![
            0x45, class, 0, 20, 1, 2, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        ];
        let checksum = checksum::Sum::default().bytes(&v4).finish();
        v4[10..12].copy_from_slice(&checksum.to_be_bytes());
        let mut v6 = vec![0; 40];
        v6[0] = 0x60 | class >> 4;
        v6[1] = class << 4 | 5;
        [v4, v6]
    }

    #[test]
    fn marks_of_congestion_are_carried_in_and_leave_everything_else_as_it_is() {
        // What was inside and outside, and what is inside then.
        let cases = [
            (0, 3, 0),
            (0, 1, 0),
            (2, 0, 2),
            (2, 2, 2),
            (2, 1, 1),
            (2, 3, 3),
            (1, 3, 3),
            (1, 2, 1),
            (3, 0, 3),
        ];
        for (inside, outside, expected) in cases {
            for dscp in [0, 0xb8, 0xfc] {
                let before = headers(dscp | inside);
                for (mut packet, expected) in before.into_iter().zip(headers(dscp | expected)) {
                    assert_eq!(congestion(&packet), inside);
                    carry_congestion(&mut packet, outside | 0x88);
                    assert_eq!(packet, expected, "{inside} {outside}");
                }
            }
        }
        carry_congestion(&mut [], 3);
        carry_congestion(&mut [0x45, 1], 3);
    }

    #[test]
    fn congestion_met_inside_is_not_told_outside() {
        assert_eq!([0, 1, 2, 3].map(class_outside), [0, 1, 2, 2]);
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
