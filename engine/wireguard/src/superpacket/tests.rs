//! Goal: nothing is lost, altered or overtaken between the kernel and the core, whatever crosses.
//! Method: packets and super-packets that `etherparse` builds and checks, in random order and with
//! every kind of irregularity.
use etherparse::{NetHeaders, PacketBuilder, PacketHeaders, TransportHeader};
use proptest::prelude::*;

use self::script::{Oddity, Place, Step, packet, script, step};
use super::{
    Kinds, PACKETS_MAX,
    trial::{assert_same, round_trip, split},
    virtio::{Checksum, Header, Kind},
};

const BOTH: Kinds = Kinds {
    tcp: true,
    udp: true,
};

mod script;

#[test]
fn packets_of_more_than_half_a_super_packet_go_one_by_one() {
    for flow in 0..7 {
        let mut place = Place::default();
        let step = Step {
            flow,
            len: 39_000,
            oddity: Oddity::None,
        };
        let packets: Vec<Vec<u8>> = (0..3).map(|_| packet(step, &mut place)).collect();
        let (arrived, pieces) = round_trip(&packets, BOTH);
        assert_same(&packets, &arrived);
        assert_eq!(pieces, 3, "flow {flow}");
    }
}

proptest! {
    #[test]
    fn what_is_merged_and_split_again_is_what_it_was(
        steps in prop::collection::vec(step(), 1..150),
        tcp: bool,
        udp: bool,
    ) {
        let packets = script(&steps);
        let (arrived, _) = round_trip(&packets, Kinds { tcp, udp });
        assert_same(&packets, &arrived);
    }

    #[test]
    fn bytes_that_are_no_packets_pass_unchanged(
        packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
    ) {
        let (arrived, _) = round_trip(&packets, BOTH);
        assert_same(&packets, &arrived);
    }

    #[test]
    fn no_header_and_no_bytes_make_splitting_panic(
        header: [u8; 10],
        kind in prop::sample::select(vec![0_u8, 1, 4, 5, 0x81]),
        start in prop::sample::select(vec![0_u16, 20, 24, 40, 60]),
        offset in prop::sample::select(vec![0_u16, 6, 16]),
        likely: bool,
        first in prop::sample::select(vec![0x45_u8, 0x46, 0x4f, 0x60, 0x00]),
        mut bytes in prop::collection::vec(any::<u8>(), 0..3_000),
    ) {
        let mut header = header;
        if likely {
            header[0] = 1;
            header[1] = kind;
            header[6..8].copy_from_slice(&start.to_ne_bytes());
            header[8..10].copy_from_slice(&offset.to_ne_bytes());
        }
        if let Some(byte) = bytes.first_mut() {
            *byte = first;
        }
        split(&header, &bytes);
    }

    #[test]
    fn every_packet_of_a_super_packet_is_right_by_an_independent_check(
        flow in 0..7_usize,
        len in 1..60_000_usize,
        segment in 1_u16..9_000,
        push: bool,
    ) {
        let oddity = if push { Oddity::Push } else { Oddity::None };
        let step = Step { flow, len, oddity };
        let whole = packet(step, &mut Place { sequence: u32::MAX - 3_000, identification: 65_530 });
        let packets = split(&partial(flow, segment).write(), &with_partial_checksum(&whole, flow)).unwrap();
        prop_assert_eq!(packets.len(), len.div_ceil(usize::from(segment)));
        let (mut payloads, mut sequence) = (Vec::new(), u32::MAX - 3_000);
        let mut identification = 65_530_u16;
        for (number, packet) in packets.iter().enumerate() {
            let headers = PacketHeaders::from_ip_slice(packet).unwrap();
            assert_right(&headers);
            if let Some(NetHeaders::Ipv4(ip, _)) = &headers.net {
                prop_assert_eq!(ip.identification, identification);
            }
            if let Some(TransportHeader::Tcp(tcp)) = &headers.transport {
                prop_assert_eq!(tcp.sequence_number, sequence);
                prop_assert_eq!(tcp.psh, push && number + 1 == packets.len());
            }
            let payload = headers.payload.slice();
            sequence = sequence.wrapping_add(u32::try_from(payload.len()).unwrap());
            identification = identification.wrapping_add(1);
            payloads.extend_from_slice(payload);
        }
        let expected = PacketHeaders::from_ip_slice(&whole).unwrap().payload.slice().to_vec();
        prop_assert!(payloads == expected);
    }

    #[test]
    fn a_checksum_that_is_not_finished_is_finished(flow in 0..7_usize, len in 0..9_000_usize) {
        let step = Step { flow, len, oddity: Oddity::None };
        let whole = packet(step, &mut Place::default());
        let header = Header { kind: Kind::Packet, segment: 0, ..partial(flow, 1) };
        let packets = split(&header.write(), &with_partial_checksum(&whole, flow)).unwrap();
        prop_assert_eq!(packets, [whole]);
    }
}

/// The header that a kernel writes before a super-packet of a flow.
fn partial(flow: usize, segment: u16) -> Header {
    let (kind, start, offset) = match flow {
        0..=2 => (Kind::TcpV4, 20, 16),
        3 | 4 => (Kind::TcpV6, 40, 16),
        5 => (Kind::Udp, 20, 6),
        _ => (Kind::Udp, 40, 6),
    };
    Header {
        checksum: Checksum::Partial { start, offset },
        kind,
        headers: start + if offset == 16 { 32 } else { 8 },
        segment,
    }
}

/// With nothing but the sum of the pseudo-header where the checksum belongs.
fn with_partial_checksum(packet: &[u8], flow: usize) -> Vec<u8> {
    let Checksum::Partial { start, offset } = partial(flow, 1).checksum else {
        unreachable!("it is partial");
    };
    let (start, offset) = (usize::from(start), usize::from(offset));
    let addresses = if start == 20 { 12..20 } else { 8..40 };
    let mut words = packet[addresses].to_vec();
    words.extend([0, if offset == 16 { 6 } else { 17 }]);
    words.extend(u16::try_from(packet.len() - start).unwrap().to_be_bytes());
    let mut sum = 0_u32;
    for pair in words.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let mut packet = packet.to_vec();
    let sum = u16::try_from(sum).unwrap();
    packet[start + offset..][..2].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// Whether all lengths and checksums are what etherparse says they should be.
fn assert_right(headers: &PacketHeaders<'_>) {
    let payload = headers.payload.slice();
    match (
        headers.net.as_ref().unwrap(),
        headers.transport.as_ref().unwrap(),
    ) {
        (NetHeaders::Ipv4(ip, _), TransportHeader::Tcp(tcp)) => {
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            assert_eq!(tcp.checksum, tcp.calc_checksum_ipv4(ip, payload).unwrap());
        }
        (NetHeaders::Ipv6(ip, _), TransportHeader::Tcp(tcp)) => {
            assert_eq!(tcp.checksum, tcp.calc_checksum_ipv6(ip, payload).unwrap());
        }
        (NetHeaders::Ipv4(ip, _), TransportHeader::Udp(udp)) => {
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            assert_eq!(usize::from(udp.length), 8 + payload.len());
            assert_eq!(udp.checksum, udp.calc_checksum_ipv4(ip, payload).unwrap());
        }
        (NetHeaders::Ipv6(ip, _), TransportHeader::Udp(udp)) => {
            assert_eq!(usize::from(udp.length), 8 + payload.len());
            assert_eq!(udp.checksum, udp.calc_checksum_ipv6(ip, payload).unwrap());
        }
        other => panic!("{other:?}"),
    }
}

fn steady(flow: usize, count: usize, len: usize) -> Vec<Step> {
    let oddity = Oddity::None;
    vec![Step { flow, len, oddity }; count]
}

/// In how many pieces a script is put out.
fn pieces(steps: &[Step]) -> usize {
    round_trip(&script(steps), BOTH).1
}

#[test]
fn packets_that_continue_each_other_become_as_few_super_packets_as_64_kib_allow() {
    for flow in 0..7 {
        assert_eq!(pieces(&steady(flow, 45, 1_368)), 1, "{flow}");
        assert_eq!(pieces(&steady(flow, 94, 1_368)), 2, "{flow}");
        assert_eq!(pieces(&steady(flow, PACKETS_MAX + 1, 10)), 2, "{flow}");
    }
    assert_eq!(pieces(&steady(7, 10, 100)), 10, "ICMP goes alone");
}

#[test]
fn flows_that_interleave_are_each_put_together() {
    let steps: Vec<Step> = (0..20)
        .flat_map(|_| 0..7)
        .flat_map(|flow| steady(flow, 1, 500))
        .collect();
    assert_eq!(pieces(&steps), 7);
}

#[test]
fn what_breaks_a_flow_breaks_a_super_packet() {
    use Oddity as O;
    // How many pieces eleven packets are of which the sixth is odd.
    let cases = [
        (O::None, 1),
        (O::Push, 2),
        (O::Fin, 3),
        (O::Reset, 3),
        (O::Urgent, 3),
        (O::Reduced, 3),
        (O::Gap, 2),
        (O::Again, 2),
        (O::Acknowledgement, 3),
        (O::Window, 3),
        (O::Ttl, 3),
        (O::Congestion, 3),
        (O::Fragment, 3),
        (O::WrongChecksum, 3),
        (O::WrongIpChecksum, 3),
        (O::Trailing, 3),
        (O::Identification, 1),
    ];
    for (oddity, expected) in cases {
        let mut steps = steady(0, 11, 1_368);
        steps[5].oddity = oddity;
        assert_eq!(pieces(&steps), expected, "{oddity:?}");
    }
    let mut steps = steady(2, 11, 1_368);
    steps[5].oddity = O::Identification;
    assert_eq!(pieces(&steps), 2, "where fragments need it, it counts");
    let mut steps = steady(0, 11, 1_368);
    steps[5].len = 100;
    assert_eq!(pieces(&steps), 2, "a shorter one is the last");
    steps[5].len = 0;
    assert_eq!(pieces(&steps), 3, "an acknowledgement alone");
}

#[test]
fn more_flows_than_fit_close_the_oldest_and_lose_nothing() {
    let mut packets = Vec::new();
    for round in 0..3_u32 {
        for port in 0..40_u16 {
            let mut bytes = Vec::new();
            PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
                .tcp(port, 443, round * 100, 512)
                .ack(5)
                .write(&mut bytes, &[7; 100])
                .unwrap();
            packets.push(bytes);
        }
    }
    let (arrived, _) = round_trip(&packets, BOTH);
    assert_same(&packets, &arrived);
}
