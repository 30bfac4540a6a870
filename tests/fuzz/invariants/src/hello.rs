use std::mem;

use engine_core::classify::{ClientHello, HelloReader, ServerName, Verdict, alert_for};
use tls_parser::{
    TlsExtension, parse_tls_client_hello_extensions, parse_tls_handshake_client_hello,
};

use crate::{Input, assert_same_in_segments};

/// The limit of most inputs.
const BYTES_MAX: usize = 16 << 10;

/// Enough for any hello within the limit, cut into records of one byte.
const BYTES_MAX_IN_RECORDS: usize = 6 * BYTES_MAX;

const RECORD_HEADER_BYTES: usize = 5;
const MESSAGE_HEADER_BYTES: usize = 4;

/// Reads `input` as the beginning of a connection.
///
/// # Panics
/// Where the verdict depends on how the bytes are cut, or on what follows the hello; where it
/// differs from that of tls-parser; where an alert goes to whom it must not.
pub fn hello(input: &[u8]) {
    let input = Input::parse(input);
    let whole = HelloReader::new(BYTES_MAX).read(input.bytes);
    let mut reader = HelloReader::new(BYTES_MAX);
    assert_same_in_segments(&input, &Verdict::NeedMore, &whole, |seen| reader.read(seen));

    // A small limit must hold whatever the bytes are.
    let limit = input.lens().next().unwrap_or(1);
    let limited = HelloReader::new(limit).read(input.bytes);
    assert!(
        limited == whole || limited == Verdict::TooLong,
        "{limited:?}"
    );

    let refused = matches!(whole, Verdict::Bad(_) | Verdict::TooLong);
    assert_eq!(alert_for(&whole).is_some(), refused);
    if let Verdict::ClientHello(hello) = &whole {
        assert_same_in_records(&input, hello);
    }
}

fn assert_same_in_records(input: &Input<'_>, hello: &ClientHello) {
    let (message, len) = message_of(input.bytes);
    let before = HelloReader::new(BYTES_MAX).read(&input.bytes[..len - 1]);
    assert_eq!(before, Verdict::NeedMore, "final before its last byte");

    let expected = Verdict::ClientHello(hello.clone());
    let records = records_of(&message, input.lens());
    let verdict = HelloReader::new(BYTES_MAX_IN_RECORDS).read(&records);
    assert_eq!(verdict, expected, "in other records");
    assert_name_is_theirs(&message[MESSAGE_HEADER_BYTES..], &hello.name);
}

/// The message of a whole hello, and the length of its records.
fn message_of(bytes: &[u8]) -> (Vec<u8>, usize) {
    let mut message = Vec::new();
    let mut rest = bytes;
    while let [_, _, _, high, low, behind @ ..] = rest {
        let (payload, behind) = behind.split_at(u16::from_be_bytes([*high, *low]).into());
        message.extend_from_slice(payload);
        rest = behind;
        if let [_, a, b, c, body @ ..] = message.as_slice()
            && u32::from_be_bytes([0, *a, *b, *c]) as usize == body.len()
        {
            break;
        }
    }
    (message, bytes.len() - rest.len())
}

fn records_of(mut message: &[u8], mut lens: impl Iterator<Item = usize>) -> Vec<u8> {
    let mut records = Vec::with_capacity(message.len() + RECORD_HEADER_BYTES);
    while !message.is_empty() {
        let len = lens.next().unwrap_or(1).min(message.len());
        let (payload, rest) = mem::take(&mut message).split_at(len);
        records.extend_from_slice(&[22, 3, 3]);
        records.extend_from_slice(&u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes());
        records.extend_from_slice(payload);
        message = rest;
    }
    records
}

/// Where tls-parser's walk over the extensions comes to a server name (it stops at any extension
/// that it cannot decode), that is the name.
fn assert_name_is_theirs(body: &[u8], ours: &ServerName) {
    let Ok((_, fields)) = parse_tls_handshake_client_hello(body) else {
        panic!("tls-parser refuses the hello");
    };
    let block = fields.ext.unwrap_or_default();
    let Ok((_, extensions)) = parse_tls_client_hello_extensions(block) else {
        return;
    };
    let theirs = extensions.iter().find_map(|extension| {
        let TlsExtension::SNI(names) = extension else {
            return None;
        };
        let host = names.iter().find(|(kind, _)| kind.0 == 0)?;
        Some(host.1)
    });
    let Some(theirs) = theirs else { return };
    match ours {
        ServerName::Host(ours) => {
            let theirs = theirs.strip_suffix(b".").unwrap_or(theirs);
            assert!(theirs.eq_ignore_ascii_case(ours.as_str().as_bytes()));
        }
        ServerName::Absent => panic!("tls-parser finds the name {theirs:?}"),
        ServerName::IpLiteral | ServerName::Invalid(_) => {}
    }
}
