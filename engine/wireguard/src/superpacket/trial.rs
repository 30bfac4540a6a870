//! Merging and splitting as tests and fuzz targets try them.

use std::net::IpAddr;

use super::{HEADER_BYTES, Kinds, Merge, PADDING_ROOM, Packets, Super, headers::word};

/// What a super-packet, headers and all, is cut into; `None` when it is refused. On the way each
/// packet is padded, and must be the same afterwards.
pub(crate) fn split(header: &[u8; HEADER_BYTES], bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut room = [bytes, &[0xa5; PADDING_ROOM]].concat();
    let mut packets = Packets::read(header, &mut room, bytes.len())?;
    let destination: IpAddr = packets.destination();
    let mut all = Vec::new();
    while packets.advance() {
        let packet = packets.packet().to_vec();
        let padded = packets.padded(packet.len() + all.len() % (PADDING_ROOM + 1));
        assert_eq!(padded[..packet.len()], packet);
        assert!(padded[packet.len()..].iter().all(|byte| *byte == 0));
        assert_eq!(crate::packet::destination(&packet), Some(destination));
        all.push(packet);
    }
    Some(all)
}

/// What arrives of packets that are merged and split again, and in how many pieces it was put out.
pub(crate) fn round_trip(packets: &[Vec<u8>], kinds: Kinds) -> (Vec<Vec<u8>>, usize) {
    let arena = packets.concat();
    let (mut merge, mut start) = (Merge::default(), 0);
    let (mut arrived, mut pieces) = (Vec::new(), 0);
    let mut put = |packets: &Super<'_>| {
        let head = packets.head();
        let (header, headers) = head
            .split_first_chunk()
            .unwrap_or((&[0; HEADER_BYTES], &[]));
        let mut bytes = headers.to_vec();
        packets
            .pieces()
            .for_each(|piece| bytes.extend_from_slice(piece));
        assert!(bytes.len() <= usize::from(u16::MAX));
        pieces += 1;
        match split(header, &bytes) {
            Some(split) => arrived.extend(split),
            // What is no IP packet goes through as it is.
            None => arrived.extend(packets.packets().map(<[u8]>::to_vec)),
        }
    };
    for packet in packets {
        let range = start..start + packet.len();
        start = range.end;
        merge.add(kinds, &arena, range, &mut put);
    }
    merge.close(&arena, &mut put);
    assert!(merge.is_empty());
    (arrived, pieces)
}

/// A packet without what may differ: the identification of an IPv4 packet that is not to be
/// fragmented, and with it the checksum of its header.
pub(crate) fn comparable(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let atomic = word(&packet, 6).is_some_and(|word| word & 0xbfff == 0 && word & 0x4000 != 0);
    if packet.len() >= 20 && packet[0] == 0x45 && atomic {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    packet
}

/// Whether everything arrived, in order within each flow. What cannot be told to be of a flow keeps
/// its place among everything.
pub(crate) fn assert_same(sent: &[Vec<u8>], arrived: &[Vec<u8>]) {
    let flow = |packet: &Vec<u8>| {
        super::headers::Layout::read(packet).map(|layout| {
            let (addresses, ports) = layout.flow(packet);
            (layout.protocol, addresses.to_vec(), ports.to_vec())
        })
    };
    let sorted = |packets: &[Vec<u8>]| {
        let mut all: Vec<_> = packets
            .iter()
            .map(|it| (flow(it), comparable(it)))
            .collect();
        all.sort_by(|one, other| one.0.cmp(&other.0));
        all
    };
    assert!(
        sorted(sent) == sorted(arrived),
        "{sent:02x?} became {arrived:02x?}"
    );
}
