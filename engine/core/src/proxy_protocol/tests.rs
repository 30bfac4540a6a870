mod cases;
mod properties;

use super::*;

/// Reads every beginning of `bytes`, asserting that the reading does not change once final.
fn read_bytewise(bytes: &[u8]) -> Reading {
    let mut reading = Reading::NeedMore;
    for end in 0..=bytes.len() {
        let next = read(&bytes[..end]);
        if reading != Reading::NeedMore {
            assert_eq!(next, reading, "changed its mind at byte {end}");
        }
        reading = next;
    }
    reading
}

/// A binary header with this command, family and rest.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [v2::SIGNATURE, &[command, family], &len, rest].concat()
}

#[test]
fn a_connection_of_the_senders_own_names_nobody() {
    for (version, bytes) in [
        (Version::V1, b"PROXY UNKNOWN\r\n".to_vec()),
        (Version::V2, v2(0x20, 0, &[])),
    ] {
        let mut written = Vec::new();
        write_local(version, &mut written);
        assert_eq!(written, bytes);
        let Reading::Header(header) = read_bytewise(&written) else {
            panic!("{version:?} is no header");
        };
        assert_eq!((header.endpoints, header.len), (None, bytes.len()));
    }
}
