use std::net::SocketAddr;

use ::proxy_header::{ParseConfig, ProxyHeader};
use engine_core::proxy_protocol::{
    Header, Outgoing, Reading, V1_BYTES_MAX, V2_BYTES_MAX, Version, read, write,
};

use crate::{Input, assert_same_in_segments};

/// Reads `input` as the beginning of a connection.
///
/// # Panics
/// Where the reading depends on how the bytes are cut, or on what follows the header; where it
/// differs from that of proxy-header; where a header that is written again is read as another.
pub fn proxy_header(input: &[u8]) {
    let input = Input::parse(input);
    let whole = read(input.bytes);
    assert_same_in_segments(&input, &Reading::NeedMore, &whole, read);
    let Reading::Header(header) = whole else {
        return;
    };
    let version = if input.bytes.starts_with(b"PROXY ") {
        Version::V1
    } else {
        Version::V2
    };
    assert!(match version {
        Version::V1 => header.len <= V1_BYTES_MAX,
        Version::V2 => header.len <= V2_BYTES_MAX,
    });
    let alone = &input.bytes[..header.len];
    assert_eq!(read(&alone[..header.len - 1]), Reading::NeedMore);
    assert_eq!(read(alone), Reading::Header(header.clone()));
    assert_endpoints_are_theirs(alone, &header);
    assert_written_is_read(version, &header);
}

/// proxy-header refuses some headers that are to be accepted (LOCAL ones of an unknown family), and
/// gives the addresses of datagrams, which say nothing about a TCP connection.
fn assert_endpoints_are_theirs(bytes: &[u8], header: &Header) {
    match ProxyHeader::parse(bytes, ParseConfig::default()) {
        Ok((theirs, len)) => {
            assert_eq!(len, header.len);
            let theirs = theirs
                .proxied_address()
                .map(|it| (it.source, it.destination));
            if header.endpoints.is_some() || bytes.starts_with(b"PROXY") {
                assert_eq!(theirs, header.endpoints);
            }
        }
        Err(_) => assert_eq!(header.endpoints, None, "proxy-header refuses it"),
    }
}

fn assert_written_is_read(version: Version, header: &Header) {
    let Some((source, destination)) = header.endpoints else {
        return;
    };
    let unique_id = header
        .unique_id
        .as_deref()
        .and_then(|id| id.try_into().ok());
    let outgoing = Outgoing {
        source,
        destination,
        authority: header.authority.as_deref(),
        alpn: None,
        unique_id,
        crc32c: true,
    };
    let mut bytes = Vec::new();
    write(version, &outgoing, &mut bytes);
    let Reading::Header(again) = read(&bytes) else {
        panic!("what was written is no header");
    };
    assert_eq!(again.len, bytes.len());
    let canonical = |it: SocketAddr| SocketAddr::new(it.ip().to_canonical(), it.port());
    let same = again.endpoints.map(|(source, destination)| {
        canonical(source) == canonical(outgoing.source)
            && canonical(destination) == canonical(outgoing.destination)
    });
    assert_eq!(same, Some(true), "other addresses");
}
