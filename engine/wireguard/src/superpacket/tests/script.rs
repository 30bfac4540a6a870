//! Packets of several flows, some of them odd.
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "each oddity matters in one place"
)]

use etherparse::PacketBuilder;
use proptest::prelude::*;

/// One packet of a script.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) flow: usize,
    pub(super) len: usize,
    pub(super) oddity: Oddity,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Oddity {
    None,
    Push,
    Fin,
    Reset,
    Urgent,
    Reduced,
    Gap,
    Again,
    Acknowledgement,
    Window,
    Ttl,
    Congestion,
    Fragment,
    WrongChecksum,
    WrongIpChecksum,
    Trailing,
    Identification,
}

/// Where a flow is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    pub(super) sequence: u32,
    pub(super) identification: u16,
}

/// Flows 0 to 2 are TCP over IPv4 (one of which may be fragmented), 3 and 4 TCP over IPv6, 5 UDP over
/// IPv4, 6 UDP over IPv6, 7 is ICMP.
pub(super) fn packet(step: Step, place: &mut Place) -> Vec<u8> {
    let payload: Vec<u8> = (0..step.len).map(|at| at.to_le_bytes()[0] ^ 0x5a).collect();
    let ttl = if step.oddity == Oddity::Ttl { 63 } else { 64 };
    let port = 1_000 + u16::try_from(step.flow).unwrap();
    let v4 = || PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], ttl);
    let v6 = || PacketBuilder::ipv6([1; 16], [2; 16], ttl);
    let mut bytes = Vec::new();
    match step.flow {
        0..=4 => {
            let ip = if step.flow < 3 { v4() } else { v6() };
            let window = if step.oddity == Oddity::Window {
                9
            } else {
                512
            };
            let acked = if step.oddity == Oddity::Acknowledgement {
                6
            } else {
                5
            };
            let mut tcp = ip.tcp(port, 443, place.sequence, window).ack(acked);
            tcp = match step.oddity {
                Oddity::Push => tcp.psh(),
                Oddity::Fin => tcp.fin(),
                Oddity::Reset => tcp.rst(),
                Oddity::Urgent => tcp.urg(3),
                Oddity::Reduced => tcp.cwr(),
                Oddity::Congestion => tcp.ece(),
                _ => tcp,
            };
            let stamps = [etherparse::TcpOptionElement::Timestamp(7, 8)];
            tcp.options(&stamps)
                .unwrap()
                .write(&mut bytes, &payload)
                .unwrap();
        }
        5 | 6 => {
            let ip = if step.flow == 5 { v4() } else { v6() };
            ip.udp(port, 443).write(&mut bytes, &payload).unwrap();
        }
        _ => v4()
            .icmpv4_echo_request(1, 2)
            .write(&mut bytes, &payload)
            .unwrap(),
    }
    if bytes[0] >> 4 == 4 {
        finish_v4(&mut bytes, step, place);
    }
    match step.oddity {
        Oddity::WrongChecksum => *bytes.last_mut().unwrap() ^= 1,
        Oddity::WrongIpChecksum => bytes[8] ^= 1,
        Oddity::Trailing => bytes.push(0),
        _ => {}
    }
    if step.oddity != Oddity::Again {
        place.sequence = place
            .sequence
            .wrapping_add(u32::try_from(step.len).unwrap());
    }
    place.identification = place.identification.wrapping_add(1);
    bytes
}

fn finish_v4(bytes: &mut [u8], step: Step, place: &mut Place) {
    if step.oddity == Oddity::Identification {
        place.identification ^= 0x1111;
    }
    bytes[4..6].copy_from_slice(&place.identification.to_be_bytes());
    if step.oddity == Oddity::Congestion {
        bytes[1] |= 3;
    }
    bytes[6] = match step.oddity {
        Oddity::Fragment => 0x20,
        _ if step.flow == 2 => 0,
        _ => 0x40,
    };
    bytes[10..12].fill(0);
    let checksum = crate::checksum::Sum::default().bytes(&bytes[..20]).finish();
    bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    use Oddity as O;
    let odd = prop::sample::select(vec![
        O::Push,
        O::Fin,
        O::Reset,
        O::Urgent,
        O::Reduced,
        O::Gap,
        O::Again,
        O::Acknowledgement,
        O::Window,
        O::Ttl,
        O::Congestion,
        O::Fragment,
        O::WrongChecksum,
        O::WrongIpChecksum,
        O::Trailing,
        O::Identification,
    ]);
    let oddity = prop_oneof![9 => Just(O::None), 2 => odd];
    let len = prop_oneof![
        Just(0_usize),
        Just(1),
        Just(99),
        Just(100),
        Just(1_368),
        Just(1_368),
        Just(1_368),
        Just(9_000)
    ];
    (0..8_usize, len, oddity).prop_map(|(flow, len, oddity)| Step { flow, len, oddity })
}

pub(super) fn script(steps: &[Step]) -> Vec<Vec<u8>> {
    let mut places = [Place::default(); 8];
    places[1].sequence = u32::MAX - 5_000;
    places[2].identification = u16::MAX - 2;
    let packets = steps.iter().map(|step| {
        let place = &mut places[step.flow];
        if step.oddity == Oddity::Gap {
            place.sequence = place.sequence.wrapping_add(7);
        }
        packet(*step, place)
    });
    packets.collect()
}
