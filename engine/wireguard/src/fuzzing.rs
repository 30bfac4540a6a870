//! What fuzz targets call: any bytes, and panics where a promise is broken. Only with the feature
//! `fuzzing`.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant, UNIX_EPOCH},
};

use crate::{
    change::{Change, PeerChange},
    core::{
        Core, Now,
        outbox::{MESSAGE_BYTES_MAX, Outbox},
        path::Path,
    },
    key::Key,
    superpacket::{
        HEADER_BYTES, Kinds, PADDING_ROOM, Packets,
        trial::{assert_same, round_trip},
    },
};

/// Splits a super-packet: a virtio-net header of 10 bytes, and the packet.
pub fn split(data: &[u8]) {
    if let Some((header, bytes)) = data.split_first_chunk() {
        let bytes = &bytes[..bytes.len().min(usize::from(u16::MAX))];
        let packets = crate::superpacket::trial::split(header, bytes);
        let total: usize = packets.iter().flatten().map(Vec::len).sum();
        // Headers are 256 bytes at most, and each packet has a byte of payload at least.
        assert!(total <= bytes.len() * 257);
    }
}

/// Merges packets and splits them again. The first byte says which kinds are merged; each packet
/// follows its length in 14 bits of two bytes, the lower first.
pub fn merge(data: &[u8]) {
    let Some((kinds, data)) = data.split_first() else {
        return;
    };
    let packets: Vec<Vec<u8>> = pieces(data).map(<[u8]>::to_vec).collect();
    let kinds = Kinds {
        tcp: kinds & 1 != 0,
        udp: kinds & 2 != 0,
    };
    let (arrived, _) = round_trip(&packets, kinds);
    assert_same(&packets, &arrived);
}

/// Two devices with a session, the second of which is told anything. Each piece follows its length in
/// 14 bits of two bytes, the lower first. The highest bit says whether it is a datagram as it is, or
/// is sealed by the first device, whatever it is; then the next bit says that the message arrives
/// with a bit changed before it arrives as it was.
pub fn receive(data: &[u8]) {
    let [mut left, right] = devices();
    let mut listener = Listener {
        device: right,
        outbox: Outbox::default(),
        plain: vec![0; MESSAGE_BYTES_MAX],
    };
    let mut outbox = Outbox::default();
    exchange(
        &mut left,
        &mut listener.device,
        &mut outbox,
        &mut listener.plain,
    );
    for piece in pieces_with_flags(data) {
        if !piece.sealed {
            listener.is_unmoved_by(piece.bytes);
            continue;
        }
        let message = seal(&mut left, piece.bytes, &mut outbox);
        if piece.spoiled {
            listener.is_unmoved_by(&spoil(&message, piece.bytes));
        }
        listener.hear(&message);
        // Once is enough.
        listener.is_unmoved_by(&message);
    }
}

/// The second device, and what it answers.
struct Listener {
    device: Core,
    outbox: Outbox,
    plain: Vec<u8>,
}

impl Listener {
    /// What it makes of a datagram: the length of the packet, if there is one.
    fn hear(&mut self, datagram: &[u8]) -> Option<usize> {
        let before = self.device.state(0).peers[0].rx_bytes;
        let Self {
            device,
            outbox,
            plain,
        } = self;
        outbox.clear();
        let heard = device.receive(now(), away(1), 3, datagram, plain, outbox);
        let heard = heard.map(<[u8]>::len);
        assert!(heard.is_none_or(|len| len + 32 <= datagram.len()));
        let after = self.device.state(0).peers[0].rx_bytes;
        assert!(after - before <= datagram.len() as u64);
        heard
    }

    /// Something that nobody authenticated is not answered, and leaves no trace.
    fn is_unmoved_by(&mut self, datagram: &[u8]) {
        let before = self.device.state(0);
        assert_eq!(self.hear(datagram), None, "it was believed");
        assert_eq!(self.device.state(0), before, "it left a trace");
        assert_eq!(self.outbox.runs().count(), 0, "it was answered");
    }
}

/// A message with one bit changed; the first bytes of `seed` say which.
fn spoil(message: &[u8], seed: &[u8]) -> Vec<u8> {
    let mut spoiled = message.to_vec();
    let at = seed
        .iter()
        .take(3)
        .fold(0, |at, byte| at * 256 + usize::from(*byte));
    let bits = spoiled.len() * 8;
    if let Some(byte) = spoiled.get_mut(at % bits.max(1) / 8) {
        *byte ^= 1 << (at % 8);
    }
    spoiled
}

/// A piece of a fuzzer's input.
struct Piece<'a> {
    bytes: &'a [u8],
    sealed: bool,
    spoiled: bool,
}

fn pieces(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    pieces_with_flags(data).map(|piece| piece.bytes)
}

fn pieces_with_flags(mut data: &[u8]) -> impl Iterator<Item = Piece<'_>> {
    std::iter::from_fn(move || {
        let ([low, high], rest) = data.split_first_chunk()?;
        let len = usize::from(u16::from_le_bytes([*low, high & 0x3f]));
        let (bytes, rest) = rest.split_at_checked(len).unwrap_or((rest, &[]));
        data = rest;
        Some(Piece {
            bytes,
            sealed: high & 0x80 != 0,
            spoiled: high & 0x40 != 0,
        })
    })
}

fn now() -> Now {
    Now {
        instant: Instant::now(),
        wall: UNIX_EPOCH + Duration::from_secs(1_800_000_000),
    }
}

fn away(number: u8) -> Path {
    Path::to(SocketAddr::from(([192, 0, 2, number], 51_820)))
}

fn devices() -> [Core; 2] {
    let keys = [1, 2].map(|number| Key::new([number; 32]).clamped());
    let mut devices = [0, 1].map(|at: usize| {
        let mut drawn = 0x100;
        let draw = move || {
            drawn += 0x100;
            drawn
        };
        Core::new(keys[at].clone(), 1_420, Box::new(draw))
    });
    for (device, (key, number)) in devices.iter_mut().zip([(&keys[1], 2), (&keys[0], 1)]) {
        let mut peer = PeerChange::new(key.public());
        peer.endpoint = Some(away(number).remote);
        peer.allowed_ips = ["0.0.0.0/0", "::/0"]
            .iter()
            .filter_map(|it| it.parse().ok())
            .collect();
        let peers = vec![peer];
        device.configure(
            Instant::now(),
            Change {
                peers,
                ..Change::default()
            },
        );
    }
    devices
}

/// A handshake, which a packet of the left begins.
fn exchange(left: &mut Core, right: &mut Core, outbox: &mut Outbox, plain: &mut [u8]) {
    let mut message = seal(left, &[], outbox);
    for step in 0..3 {
        let (to, from) = if step % 2 == 0 {
            (&mut *right, 1)
        } else {
            (&mut *left, 2)
        };
        to.receive(now(), away(from), 0, &message, plain, outbox);
        message = outbox
            .runs()
            .next()
            .map_or(Vec::new(), |(_, bytes)| bytes.to_vec());
        outbox.clear();
    }
}

/// What a device makes of a packet, which is given an IPv4 header if it has none.
fn seal(device: &mut Core, packet: &[u8], outbox: &mut Outbox) -> Vec<u8> {
    let mut bytes = packet.to_vec();
    if !matches!(bytes.first(), Some(0x40..=0x4f | 0x60..=0x6f)) || bytes.len() < 40 {
        let to = IpAddr::from([10, 0, 0, 2]);
        let IpAddr::V4(to) = to else {
            return Vec::new();
        };
        let mut header = [0; 20];
        header[0] = 0x45;
        header[16..].copy_from_slice(&to.octets());
        bytes.splice(..0, header);
    }
    let len = bytes.len();
    bytes.resize(len + PADDING_ROOM, 0);
    if let Some(mut packets) = Packets::read(&[0; HEADER_BYTES], &mut bytes, len) {
        // Too much waits when there is no session, which is as good a case as any.
        let _ = device.send(now(), &mut packets, outbox);
    }
    let message = outbox
        .runs()
        .next()
        .map_or(Vec::new(), |(_, bytes)| bytes.to_vec());
    outbox.clear();
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_bytes_arrive_and_others_do_not() {
        let [mut left, mut right] = devices();
        let (mut outbox, mut plain) = (Outbox::default(), vec![0; MESSAGE_BYTES_MAX]);
        exchange(&mut left, &mut right, &mut outbox, &mut plain);
        let mut packet = [0x45; 60];
        packet[2..4].copy_from_slice(&[0, 60]);
        let message = seal(&mut left, &packet, &mut outbox);
        let heard = right.receive(now(), away(1), 0, &message, &mut plain, &mut outbox);
        assert_eq!(heard, Some(&packet[..]));
        for data in [
            &b""[..],
            b"\x3c\x80abc",
            b"\x03\x00abc\x03\x80abc",
            b"\x03\xc0abc\x03\xc0\x00\x00\x07\x00\xc0",
            &[0xff; 500],
        ] {
            receive(data);
            split(data);
            merge(data);
        }
    }
}
