//! One rule each.

use super::*;

const SOURCE: &str = "192.0.2.1:56324";
const DESTINATION: &str = "198.51.100.7:443";
const SOURCE_6: &str = "[2001:db8::1]:56324";
const DESTINATION_6: &str = "[2001:db8:ffff::7]:443";

fn endpoints(source: &str, destination: &str) -> Option<(SocketAddr, SocketAddr)> {
    Some((source.parse().unwrap(), destination.parse().unwrap()))
}

fn outgoing<'a>(source: &str, destination: &str) -> Outgoing<'a> {
    Outgoing {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        authority: None,
        alpn: None,
        unique_id: None,
        crc32c: false,
    }
}

fn written(version: Version, header: &Outgoing<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    write(version, header, &mut out);
    out
}

fn header(len: usize, endpoints: Option<(SocketAddr, SocketAddr)>) -> Reading {
    Reading::Header(Header {
        len,
        endpoints,
        authority: None,
        unique_id: None,
    })
}

#[test]
fn text_headers_are_read_up_to_their_line_end() {
    for (line, expected) in [
        (
            "PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n",
            endpoints(SOURCE, DESTINATION),
        ),
        (
            "PROXY TCP6 2001:db8::1 2001:db8:ffff::7 56324 443\r\n",
            endpoints(SOURCE_6, DESTINATION_6),
        ),
        ("PROXY UNKNOWN\r\n", None),
        ("PROXY UNKNOWN ffff:f...f:ffff 65535 anything\r\n", None),
        (
            "PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n",
            endpoints("0.0.0.0:0", "255.255.255.255:65535"),
        ),
    ] {
        let followed = [line.as_bytes(), b"\x16\x03\x01"].concat();
        assert_eq!(read(&followed), header(line.len(), expected), "{line}");
        assert_eq!(read_bytewise(&followed), read(&followed), "{line}");
    }
}

#[test]
fn malformed_text_headers_are_refused() {
    for (line, bad) in [
        ("TCP5 192.0.2.1 198.51.100.7 1 2", BadHeader::Protocol),
        ("tcp4 192.0.2.1 198.51.100.7 1 2", BadHeader::Protocol),
        ("UNKNOWNS", BadHeader::Protocol),
        ("", BadHeader::Protocol),
        ("TCP4", BadHeader::Fields),
        ("TCP4 192.0.2.1 198.51.100.7 1", BadHeader::Fields),
        ("TCP4 192.0.2.1 198.51.100.7 1 2 3", BadHeader::Fields),
        ("TCP4 192.0.2.1 198.51.100.7 1 2 ", BadHeader::Fields),
        ("TCP4  192.0.2.1 198.51.100.7 1", BadHeader::Address),
        ("TCP4 192.0.2.01 198.51.100.7 1 2", BadHeader::Address),
        ("TCP4 2001:db8::1 198.51.100.7 1 2", BadHeader::Address),
        ("TCP6 192.0.2.1 2001:db8::1 1 2", BadHeader::Address),
        ("TCP6 fe80::1%eth0 2001:db8::1 1 2", BadHeader::Address),
        ("TCP4 192.0.2.1 198.51.100.7 +1 2", BadHeader::Port),
        ("TCP4 192.0.2.1 198.51.100.7 01 2", BadHeader::Port),
        ("TCP4 192.0.2.1 198.51.100.7 1 65536", BadHeader::Port),
        ("TCP4 192.0.2.1 198.51.100.7 1 \u{661}", BadHeader::Port),
    ] {
        let line = format!("PROXY {line}\r\n");
        assert_eq!(
            read_bytewise(line.as_bytes()),
            Reading::Bad(bad),
            "{line:?}"
        );
    }
}

#[test]
fn a_text_header_ends_in_nothing_but_cr_lf() {
    for line in [
        "PROXY TCP4 192.0.2.1 198.51.100.7 1 2\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 1 2\r2\r\n",
        "PROXY UNKNOWN\n",
    ] {
        let reading = read_bytewise(line.as_bytes());
        assert_eq!(reading, Reading::Bad(BadHeader::LineEnd), "{line:?}");
    }
}

#[test]
fn a_text_header_has_at_most_107_bytes() {
    let fill = |len: usize| {
        let line = format!("PROXY UNKNOWN {}", "x".repeat(len - 16));
        [line.as_bytes(), b"\r\n"].concat()
    };
    assert_eq!(read(&fill(107)), header(107, None));
    assert_eq!(read(&fill(107)[..106]), Reading::NeedMore);
    for len in [108, 109, 500] {
        assert_eq!(read(&fill(len)), Reading::Bad(BadHeader::TooLong));
        assert_eq!(read(&fill(len)[..107]), Reading::Bad(BadHeader::TooLong));
    }
}

#[test]
fn other_protocols_are_told_at_their_first_wrong_byte() {
    for (bytes, at) in [
        (b"\x16\x03\x01".as_slice(), 1),
        (b"POST / HTTP/1.1\r\n", 2),
        (b"PROXYING", 6),
        (b"\r\n\r\n\0\r\nQUIT\r", 12),
        (b"\r\nGET", 3),
    ] {
        assert_eq!(read(&bytes[..at - 1]), Reading::NeedMore, "{bytes:?}");
        assert_eq!(read(&bytes[..at]), Reading::NotProxy, "{bytes:?}");
        assert_eq!(read_bytewise(bytes), Reading::NotProxy, "{bytes:?}");
    }
}

#[test]
fn binary_headers_are_what_the_specification_shows() {
    let bytes = written(Version::V2, &outgoing(SOURCE, DESTINATION));
    let expected = [
        b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a".as_slice(),
        b"\x21\x11\x00\x0c",
        &[192, 0, 2, 1, 198, 51, 100, 7],
        &[0xdc, 0x04, 0x01, 0xbb],
    ];
    assert_eq!(bytes, expected.concat());
    assert_eq!(
        read_bytewise(&bytes),
        header(28, endpoints(SOURCE, DESTINATION))
    );
    let bytes = written(Version::V2, &outgoing(SOURCE_6, DESTINATION_6));
    assert_eq!(
        read_bytewise(&bytes),
        header(52, endpoints(SOURCE_6, DESTINATION_6))
    );
}

#[test]
fn headers_that_name_no_client_leave_the_socket_addresses() {
    let unix = [1; 216];
    for bytes in [
        v2(0x20, 0x00, b""),
        v2(0x20, 0xff, b"ignored, whatever it is"),
        v2(0x20, 0x11, &[1; 12]),
        v2(0x21, 0x00, b""),
        v2(0x21, 0x12, &[1; 12]),
        v2(0x21, 0x22, &[1; 36]),
        v2(0x21, 0x31, &unix),
    ] {
        assert_eq!(
            read_bytewise(&bytes),
            header(bytes.len(), None),
            "{bytes:?}"
        );
    }
}

#[test]
fn malformed_binary_headers_are_refused_at_their_first_wrong_byte() {
    let announced = |len: u16| [v2::SIGNATURE, &[0x21, 0x11], &len.to_be_bytes()].concat();
    for (bytes, at, bad) in [
        (v2(0x11, 0x11, &[1; 12]), 13, BadHeader::Version),
        (v2(0x31, 0x11, &[1; 12]), 13, BadHeader::Version),
        (v2(0x22, 0x11, &[1; 12]), 13, BadHeader::Command),
        (v2(0x21, 0x13, &[1; 12]), 14, BadHeader::Protocol),
        (v2(0x21, 0x41, &[1; 12]), 14, BadHeader::Protocol),
        (v2(0x21, 0x11, &[1; 11]), 16, BadHeader::TooShort),
        (v2(0x21, 0x21, &[1; 35]), 16, BadHeader::TooShort),
        (v2(0x21, 0x31, &[1; 215]), 16, BadHeader::TooShort),
        (announced(4081), 16, BadHeader::TooLong),
        (announced(u16::MAX), 16, BadHeader::TooLong),
    ] {
        assert_eq!(read(&bytes[..at - 1]), Reading::NeedMore, "{bytes:?}");
        assert_eq!(read(&bytes[..at]), Reading::Bad(bad), "{bytes:?}");
        assert_eq!(read_bytewise(&bytes), Reading::Bad(bad), "{bytes:?}");
    }
    assert_eq!(read(&announced(4080)), Reading::NeedMore);
}

#[test]
fn malformed_tlvs_are_refused() {
    let crc_twice = [3, 0, 4, 0, 0, 0, 0, 3, 0, 4, 0, 0, 0, 0];
    let unique_id_too_long = [&[5, 0, 129], [7; 129].as_slice()].concat();
    for (tlvs, bad) in [
        (&[4][..], BadHeader::Tlv),
        (&[4, 0], BadHeader::Tlv),
        (&[4, 0, 1], BadHeader::Tlv),
        (&[4, 0, 0, 4, 0xff, 0xff, 1], BadHeader::Tlv),
        (&[2, 0, 1, 0xff], BadHeader::Tlv),
        (&[3, 0, 3, 0, 0, 0], BadHeader::Tlv),
        (&[3, 0, 4, 0, 0, 0, 0], BadHeader::Checksum),
        (&crc_twice, BadHeader::Checksum),
        (&unique_id_too_long, BadHeader::Tlv),
    ] {
        let bytes = v2(0x21, 0x00, tlvs);
        assert_eq!(read_bytewise(&bytes), Reading::Bad(bad), "{tlvs:?}");
    }
    let unknown = v2(0x21, 0x00, &[0xe0, 0, 1, 9, 4, 0, 0]);
    assert_eq!(read(&unknown), header(unknown.len(), None));
}

#[test]
fn every_byte_of_a_header_is_covered_by_its_checksum() {
    let good = written(
        Version::V2,
        &Outgoing {
            authority: Some("a.example"),
            crc32c: true,
            ..outgoing(SOURCE, DESTINATION)
        },
    );
    assert!(matches!(read(&good), Reading::Header(_)));
    for at in 16..28 {
        let mut damaged = good.clone();
        damaged[at] ^= 0x10;
        assert_eq!(
            read(&damaged),
            Reading::Bad(BadHeader::Checksum),
            "byte {at}"
        );
    }
}

#[test]
fn a_checksum_covers_what_follows_it() {
    let mut bytes = v2(0x21, 0x00, &[3, 0, 4, 0, 0, 0, 0, 0xe0, 0, 2, 8, 9]);
    let sum = crc32c::Crc32c::new().update(&bytes).finish();
    bytes[19..23].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(read(&bytes), header(bytes.len(), None));
    for at in [23, 26, 27] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        let reading = read(&damaged);
        assert_eq!(reading, Reading::Bad(BadHeader::Checksum), "byte {at}");
    }
}

#[test]
fn mixed_families_are_written_as_ipv6_and_mapped_ones_as_ipv4() {
    let mixed = outgoing(SOURCE, DESTINATION_6);
    let line = b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8:ffff::7 56324 443\r\n";
    assert_eq!(written(Version::V1, &mixed), line);
    let read_mixed = read(&written(Version::V2, &mixed));
    let expected = endpoints("[::ffff:192.0.2.1]:56324", DESTINATION_6);
    assert_eq!(read_mixed, header(52, expected));

    let mapped = outgoing("[::ffff:192.0.2.1]:56324", DESTINATION);
    for version in [Version::V1, Version::V2] {
        let plain = written(version, &outgoing(SOURCE, DESTINATION));
        assert_eq!(written(version, &mapped), plain);
    }
}

#[test]
fn a_value_that_is_too_long_is_left_out_whole() {
    let long = "a".repeat(VALUE_BYTES_MAX + 1);
    let plain = written(Version::V2, &outgoing(SOURCE, DESTINATION));
    let with_long = Outgoing {
        authority: Some(&long),
        alpn: Some(long.as_bytes()),
        ..outgoing(SOURCE, DESTINATION)
    };
    assert_eq!(written(Version::V2, &with_long), plain);
    let longest = Outgoing {
        authority: Some(&long[1..]),
        alpn: Some(&long.as_bytes()[1..]),
        unique_id: Some([7; 16]),
        crc32c: true,
        ..outgoing(SOURCE_6, DESTINATION_6)
    };
    let bytes = written(Version::V2, &longest);
    assert_eq!(bytes.len(), 594);
    assert!(matches!(read(&bytes), Reading::Header(_)));
}
