//! The answer to a packet that there is nobody to send to: that its destination is unreachable, so
//! that whoever dials a machine that is not there learns it at once (as `wg_xmit` in
//! `drivers/net/wireguard/device.c` has them learn it; RFC 792, RFC 4443 section 3.1).
//!
//! It says to come from the destination itself: that is where replies would come from on this link,
//! while an address of the tenant's own would be refused as forged.

use std::time::{Duration, Instant};

use crate::checksum::Sum;

/// Answers in a second, of one device. Further packets meet silence.
const ANSWERS_MAX: u32 = 1_000;
const SECOND: Duration = Duration::from_secs(1);
const TTL: u8 = 64;
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const ICMP_HEADER: usize = 8;
/// The longest answers: what every IPv4 host takes (RFC 1812, section 4.3.2.3), and the least MTU of
/// IPv6.
const IPV4_ANSWER_MAX: usize = 576;
const IPV6_ANSWER_MAX: usize = 1_280;
/// Destination unreachable: host, and address.
const ICMP_UNREACHABLE: [u8; 2] = [3, 1];
const ICMPV6_UNREACHABLE: [u8; 2] = [1, 3];
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// Counts the answers.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    second: Option<Instant>,
    in_second: u32,
}

impl Refusals {
    /// The answer to a packet that cannot be sent; `None` for one that gets none.
    pub(crate) fn answer(&mut self, now: Instant, packet: &[u8]) -> Option<Vec<u8>> {
        let answer = match packet.first()? >> 4 {
            4 => answer_v4(packet),
            6 => answer_v6(packet),
            _ => None,
        }?;
        let same_second = |start: Instant| now.saturating_duration_since(start) < SECOND;
        if !self.second.is_some_and(same_second) {
            self.second = Some(now);
            self.in_second = 0;
        }
        self.in_second = self.in_second.saturating_add(1);
        (self.in_second <= ANSWERS_MAX).then_some(answer)
    }
}

fn answer_v4(packet: &[u8]) -> Option<Vec<u8>> {
    let header: &[u8; IPV4_HEADER] = packet.first_chunk()?;
    let options = usize::from(header[0] & 15) * 4;
    let later_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x1fff != 0;
    // Errors about errors would go on for ever: of ICMP, only requests are answered.
    let own = packet.get(options)?;
    let error = header[9] == ICMP && !matches!(own, 8 | 13);
    if later_fragment || error || !is_of_one(header[12]) || !is_of_one(header[16]) {
        return None;
    }
    let quoted = packet.get(
        ..packet
            .len()
            .min(IPV4_ANSWER_MAX - IPV4_HEADER - ICMP_HEADER),
    )?;
    let mut answer = vec![0; IPV4_HEADER + ICMP_HEADER];
    let len = u16::try_from(answer.len() + quoted.len()).ok()?;
    answer[0] = 0x45;
    answer[2..4].copy_from_slice(&len.to_be_bytes());
    answer[8] = TTL;
    answer[9] = ICMP;
    answer[12..16].copy_from_slice(&header[16..20]);
    answer[16..20].copy_from_slice(&header[12..16]);
    let checksum = Sum::default().bytes(&answer[..IPV4_HEADER]).finish();
    answer[10..12].copy_from_slice(&checksum.to_be_bytes());
    answer[IPV4_HEADER..IPV4_HEADER + 2].copy_from_slice(&ICMP_UNREACHABLE);
    answer.extend_from_slice(quoted);
    let checksum = Sum::default().bytes(&answer[IPV4_HEADER..]).finish();
    answer[IPV4_HEADER + 2..IPV4_HEADER + 4].copy_from_slice(&checksum.to_be_bytes());
    Some(answer)
}

/// Whether an address that begins so is one host's: not of multicast, or reserved, or nobody's.
fn is_of_one(first: u8) -> bool {
    (1..224).contains(&first)
}

fn answer_v6(packet: &[u8]) -> Option<Vec<u8>> {
    let header: &[u8; IPV6_HEADER] = packet.first_chunk()?;
    let (source, destination) = (&header[8..24], &header[24..40]);
    // Of ICMPv6, what is no error has a type from 128 on.
    let error = header[6] == ICMPV6 && *packet.get(IPV6_HEADER)? < 128;
    let multicast = source[0] == 0xff || destination[0] == 0xff;
    if error || multicast || source == [0; 16] {
        return None;
    }
    let quoted = packet.get(
        ..packet
            .len()
            .min(IPV6_ANSWER_MAX - IPV6_HEADER - ICMP_HEADER),
    )?;
    let mut answer = vec![0; IPV6_HEADER + ICMP_HEADER];
    let len = u16::try_from(ICMP_HEADER + quoted.len()).ok()?;
    answer[0] = 0x60;
    answer[4..6].copy_from_slice(&len.to_be_bytes());
    answer[6] = ICMPV6;
    answer[7] = TTL;
    answer[8..24].copy_from_slice(destination);
    answer[24..40].copy_from_slice(source);
    answer[IPV6_HEADER..IPV6_HEADER + 2].copy_from_slice(&ICMPV6_UNREACHABLE);
    answer.extend_from_slice(quoted);
    // The pseudo-header: the addresses, the length and the protocol.
    let sum = Sum::default()
        .bytes(&answer[8..40])
        .word(len)
        .word(ICMPV6.into());
    let checksum = sum.bytes(&answer[IPV6_HEADER..]).finish();
    answer[IPV6_HEADER + 2..IPV6_HEADER + 4].copy_from_slice(&checksum.to_be_bytes());
    Some(answer)
}

#[cfg(test)]
mod tests {
    use etherparse::{NetHeaders, PacketBuilder, PacketHeaders, TransportHeader};

    use super::*;

    fn built(build: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut bytes = Vec::new();
        build(&mut bytes);
        bytes
    }

    fn datagram(v6: bool, payload: usize) -> Vec<u8> {
        let (v4, ip6) = (
            PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 9], 64),
            PacketBuilder::ipv6([1; 16], [2; 16], 64),
        );
        let ip = if v6 { ip6 } else { v4 };
        built(|bytes| ip.udp(1, 2).write(bytes, &vec![7; payload]).unwrap())
    }

    #[test]
    fn an_answer_comes_from_the_destination_and_quotes_the_packet() {
        for (v6, payload) in [(false, 10), (false, 1_300), (true, 10), (true, 1_300)] {
            let packet = datagram(v6, payload);
            let answer = Refusals::default().answer(Instant::now(), &packet).unwrap();
            let headers = PacketHeaders::from_ip_slice(&answer).unwrap();
            let quoted = headers.payload.slice();
            assert_eq!(quoted, &packet[..quoted.len()]);
            let longest = if v6 { 1_280 } else { 576 };
            assert_eq!(
                answer.len(),
                longest.min(packet.len() + answer.len() - quoted.len())
            );
            match (headers.net.unwrap(), headers.transport.unwrap()) {
                (NetHeaders::Ipv4(ip, _), TransportHeader::Icmpv4(icmp)) => {
                    assert_eq!((ip.source, ip.destination), ([10, 0, 0, 9], [10, 0, 0, 1]));
                    assert_eq!(ip.header_checksum, ip.calc_header_checksum());
                    assert_eq!(icmp.checksum, icmp.icmp_type.calc_checksum(quoted));
                    assert_eq!(answer[20..22], ICMP_UNREACHABLE);
                }
                (NetHeaders::Ipv6(ip, _), TransportHeader::Icmpv6(icmp)) => {
                    assert_eq!((ip.source, ip.destination), ([2; 16], [1; 16]));
                    let checksum = icmp
                        .icmp_type
                        .calc_checksum(ip.source, ip.destination, quoted);
                    assert_eq!(icmp.checksum, checksum.unwrap());
                    assert_eq!(answer[40..42], ICMPV6_UNREACHABLE);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn errors_multicast_later_fragments_and_what_is_no_packet_get_none() {
        let silent = |packet: &[u8]| Refusals::default().answer(Instant::now(), packet).is_none();
        let now = Instant::now();
        for v6 in [false, true] {
            let answer = Refusals::default().answer(now, &datagram(v6, 10)).unwrap();
            assert!(silent(&answer), "an error about an error");
        }
        let mut multicast = datagram(false, 10);
        multicast[16] = 224;
        assert!(silent(&multicast));
        let mut multicast = datagram(true, 10);
        multicast[24] = 0xff;
        assert!(silent(&multicast));
        let mut fragment = datagram(false, 10);
        fragment[7] = 1;
        assert!(silent(&fragment));
        for packet in [&b""[..], &[0x45], &[0x4f; 20], &[0x60; 39], &[0; 60]] {
            assert!(silent(packet));
        }
        let ping = PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 9], 64).icmpv4_echo_request(1, 2);
        assert!(!silent(&built(|bytes| ping.write(bytes, b"ping").unwrap())));
    }

    #[test]
    fn a_second_has_so_many_answers() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        let packet = datagram(false, 10);
        let mut count = |now| {
            let answers = (0..3_000).filter_map(|_| refusals.answer(now, &packet));
            answers.count()
        };
        assert_eq!(count(start), 1_000);
        assert_eq!(count(start + SECOND / 2), 0);
        assert_eq!(count(start + SECOND), 1_000);
    }
}
