//! A TLS 1.3 ClientHello of 517 bytes, the size that OpenSSL and the browsers pad theirs to
//! (RFC 7685), with the extensions that a real client sends (RFC 8446 section 4.1.2).

/// Bytes of the whole record, header included.
pub(crate) const HELLO_BYTES: usize = 517;

/// Bytes in front of a record's fragment: type, version, length (RFC 8446 section 5.1).
pub(crate) const RECORD_HEADER_BYTES: usize = 5;

const PADDING: u16 = 21;

/// The hello of a client that looks for `name`.
pub(crate) fn client_hello(name: &str) -> Vec<u8> {
    let body = hello_body(name);
    let mut handshake = vec![1];
    handshake.extend(&u24(body.len()));
    handshake.extend(&body);
    let mut record = vec![22, 3, 1];
    record.extend(u16_of(handshake.len()));
    record.extend(&handshake);
    record
}

fn hello_body(name: &str) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend(filler(32, 0x1d));
    body.push(32);
    body.extend(filler(32, 0x5e));
    let suites: [u16; 9] = [
        0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8,
    ];
    body.extend(u16_of(suites.len() * 2));
    body.extend(suites.iter().flat_map(|suite| suite.to_be_bytes()));
    body.extend([1, 0]);

    let mut extensions = extensions(name);
    // The record header, the handshake header, this body, the list's length, one extension header.
    let used = RECORD_HEADER_BYTES + 4 + body.len() + 2 + extensions.len() + 4;
    let padding = vec![0; HELLO_BYTES.saturating_sub(used)];
    extensions.extend(extension(PADDING, &padding));
    body.extend(u16_of(extensions.len()));
    body.extend(extensions);
    body
}

fn extensions(name: &str) -> Vec<u8> {
    let mut server_name = vec![0];
    server_name.extend(u16_of(name.len()));
    server_name.extend(name.as_bytes());
    let mut key_share = vec![0, 29];
    key_share.extend(u16_of(32));
    key_share.extend(filler(32, 0x77));
    let signatures = [4, 3, 8, 4, 4, 1, 5, 3, 8, 5, 5, 1, 8, 6, 6, 1];
    [
        extension(0, &listed(&server_name)),
        extension(23, &[]),
        extension(0xff01, &[0]),
        extension(10, &listed(&[0, 29, 0, 23, 0, 24])),
        extension(11, &[1, 0]),
        extension(35, &[]),
        extension(16, &listed(b"\x02h2\x08http/1.1")),
        extension(5, &[1, 0, 0, 0, 0]),
        extension(13, &listed(&signatures)),
        extension(51, &listed(&key_share)),
        extension(45, &[1, 1]),
        extension(43, &[4, 3, 4, 3, 3]),
    ]
    .concat()
}

fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    let mut bytes = kind.to_be_bytes().to_vec();
    bytes.extend(listed(data));
    bytes
}

fn listed(data: &[u8]) -> Vec<u8> {
    let mut bytes = u16_of(data.len()).to_vec();
    bytes.extend(data);
    bytes
}

/// Bytes that stand for random ones: the same in every run.
fn filler(count: u8, seed: u8) -> impl Iterator<Item = u8> {
    (0..count).map(move |n| n.wrapping_mul(73).wrapping_add(seed))
}

fn u16_of(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes()
}

fn u24(length: usize) -> [u8; 3] {
    let [_, high, middle, low] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [high, middle, low]
}

/// The names that hellos ask for: `name` itself, or `n000000.name` and on when there are more.
pub(crate) fn nth_name(name: &str, names: u32, n: u32) -> String {
    if names <= 1 {
        name.to_owned()
    } else {
        format!("n{n:06}.{name}")
    }
}

#[cfg(test)]
mod tests {
    use tls_parser::{
        SNIType, TlsExtension, TlsMessage, TlsMessageHandshake, parse_tls_extensions,
        parse_tls_plaintext,
    };

    use super::*;

    #[test]
    fn a_tls_parser_finds_the_name_in_a_hello_of_517_bytes() {
        for name in ["a.test", "tenant-with-a-longer-name.bench.test"] {
            let bytes = client_hello(name);
            assert_eq!(bytes.len(), HELLO_BYTES);
            let (rest, record) = parse_tls_plaintext(&bytes).unwrap();
            assert!(rest.is_empty());
            let [TlsMessage::Handshake(TlsMessageHandshake::ClientHello(hello))] = &record.msg[..]
            else {
                panic!("not a hello: {:?}", record.msg);
            };
            let (rest, extensions) = parse_tls_extensions(hello.ext.unwrap()).unwrap();
            assert!(rest.is_empty());
            let Some(TlsExtension::SNI(names)) = extensions.first() else {
                panic!("no name: {extensions:?}");
            };
            assert_eq!(names[..], [(SNIType::HostName, name.as_bytes())]);
        }
    }

    #[test]
    fn many_names_are_all_different() {
        assert_eq!(nth_name("a.test", 1, 0), "a.test");
        assert_ne!(nth_name("a.test", 10, 1), nth_name("a.test", 10, 2));
    }
}
