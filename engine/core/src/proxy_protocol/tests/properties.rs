//! What holds for all headers and all bytes, with the proxy-header crate as a second opinion.

use std::net::IpAddr;

use proptest::{collection::vec, option, prelude::*};
use proxy_header::{Error, ParseConfig, ProxyHeader};

use super::*;

fn their_reading(bytes: &[u8]) -> Result<(ProxyHeader<'_>, usize), Error> {
    ProxyHeader::parse(bytes, ParseConfig::default())
}

fn their_endpoints(header: &ProxyHeader<'_>) -> Option<(SocketAddr, SocketAddr)> {
    header
        .proxied_address()
        .map(|it| (it.source, it.destination))
}

/// As a header can carry them: both canonical, or both mapped to IPv6.
fn as_written(source: SocketAddr, destination: SocketAddr) -> (SocketAddr, SocketAddr) {
    let ips = (source.ip().to_canonical(), destination.ip().to_canonical());
    let mixed = ips.0.is_ipv4() != ips.1.is_ipv4();
    let fit = |ip: IpAddr| match ip {
        IpAddr::V4(ip) if mixed => ip.to_ipv6_mapped().into(),
        IpAddr::V4(_) | IpAddr::V6(_) => ip,
    };
    (
        SocketAddr::new(fit(ips.0), source.port()),
        SocketAddr::new(fit(ips.1), destination.port()),
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read_and_others_read_the_same(
        (source, destination) in any::<((IpAddr, u16), (IpAddr, u16))>(),
        authority in option::of("[a-z0-9.-]{1,253}"),
        alpn in option::of("[a-z0-9/]{1,255}"),
        unique_id in any::<Option<[u8; 16]>>(),
        crc32c in any::<bool>(),
        before in vec(any::<u8>(), 0..8),
        behind in vec(any::<u8>(), 0..8),
    ) {
        let (source, destination): (SocketAddr, SocketAddr) = (source.into(), destination.into());
        let header = Outgoing {
            source,
            destination,
            authority: authority.as_deref(),
            alpn: alpn.as_deref().map(str::as_bytes),
            unique_id,
            crc32c,
        };
        let endpoints = Some(as_written(source, destination));
        for version in [Version::V1, Version::V2] {
            let mut out = before.clone();
            write(version, &header, &mut out);
            let len = out.len() - before.len();
            out.extend_from_slice(&behind);
            let bytes = &out[before.len()..];

            let has_tlvs = version == Version::V2;
            let expected = Reading::Header(Header {
                len,
                endpoints,
                authority: authority.as_deref().filter(|_| has_tlvs).map(Into::into),
                unique_id: unique_id.filter(|_| has_tlvs).map(|id| id.as_slice().into()),
            });
            prop_assert_eq!(read_bytewise(bytes), expected);
            for end in 0..len {
                prop_assert_eq!(read(&bytes[..end]), Reading::NeedMore);
            }

            let (theirs, their_len) = their_reading(bytes).unwrap();
            prop_assert_eq!(their_len, len);
            prop_assert_eq!(their_endpoints(&theirs), endpoints);
            if has_tlvs {
                prop_assert_eq!(theirs.authority(), header.authority);
                prop_assert_eq!(theirs.alpn(), header.alpn);
                prop_assert_eq!(theirs.unique_id(), unique_id.as_ref().map(<[u8; 16]>::as_slice));
                prop_assert_eq!(theirs.crc32c().is_some(), crc32c);
            }
        }
    }

    #[test]
    fn any_bytes_give_one_reading_and_what_is_accepted_others_accept(
        kind in 0..4,
        family in prop::sample::select(vec![0x00_u8, 0x11, 0x12, 0x21, 0x22, 0x31, 0x45]),
        command in 0x1e_u8..0x24,
        body in vec(any::<u8>(), 0..300),
        line in "(TCP4|TCP6|UNKNOWN|TCP)( [0-9a-f.:]{0,12}){0,5}\r?\n?",
    ) {
        let bytes = match kind {
            0 => body,
            1 => [b"PROXY ".as_slice(), line.as_bytes()].concat(),
            2 => v2(command, family, &body),
            _ => [v2::SIGNATURE, &body].concat(),
        };
        let reading = read(&bytes);
        prop_assert_eq!(&read_bytewise(&bytes), &reading);
        let Reading::Header(header) = reading else { return Ok(()) };
        prop_assert!(header.len <= bytes.len());
        // It refuses LOCAL headers of an unknown family, which are to be accepted.
        if let Ok((theirs, their_len)) = their_reading(&bytes) {
            prop_assert_eq!(their_len, header.len);
            let stream = !matches!(bytes.get(13), Some(0x12 | 0x22));
            if bytes.starts_with(b"PROXY") || stream {
                prop_assert_eq!(their_endpoints(&theirs), header.endpoints);
            }
        } else {
            prop_assert_eq!(header.endpoints, None);
        }
    }
}
