//! What holds for all bytes.

use proptest::{collection::vec, option, prelude::*};
use tls_parser::{TlsExtension, parse_tls_client_hello_extensions};

use super::{
    synthetic::{Parts, alpn, server_names},
    *,
};

/// A hello as random as the format allows, and what must be read from it.
fn any_hello() -> impl Strategy<Value = (Vec<u8>, ClientHello)> {
    let others = vec((30_u16..0xfe00, vec(any::<u8>(), 0..300)), 0..12);
    let name = option::of("[a-z0-9]{1,20}(\\.[a-z0-9]{1,20}){0,5}\\.[a-z]{2,10}");
    // Neither `jj` nor `zz`, which are GREASE (RFC 8701) and passed over.
    let protocols = vec("[a-ik-y][a-z0-9/.]{0,20}", 0..4);
    let fields = (vec(any::<u8>(), 0..=32), 1..60_usize);
    (fields, others, name, protocols, any::<bool>(), any::<u64>()).prop_map(
        |((session_id, ciphers), mut extensions, name, protocols, ech, seed)| {
            let mut place = |extension| {
                let at = usize::try_from(seed).unwrap() % (extensions.len() + 1);
                extensions.insert(at, extension);
            };
            if let Some(name) = &name {
                place((0, server_names(&[(0, name.as_bytes())])));
            }
            if !protocols.is_empty() {
                let protocols: Vec<_> = protocols.iter().map(|it| it.as_bytes()).collect();
                place((16, alpn(&protocols)));
            }
            if ech {
                place((0xfe0d, vec![0, 0, 1, 0, 1]));
            }
            let parts = Parts {
                session_id,
                ciphers: vec![0x13; 2 * ciphers],
                ..Parts::with(extensions)
            };
            let hello = ClientHello {
                name: name.map_or(ServerName::Absent, |name| {
                    ServerName::Host(Hostname::parse(name.as_bytes()).unwrap())
                }),
                alpn: protocols.first().map(|first| first.as_bytes().into()),
                ech,
            };
            (parts.message(), hello)
        },
    )
}

/// Some places to cut at.
fn cuts(bytes: &[u8], seeds: &[usize]) -> Vec<usize> {
    let mut cuts: Vec<_> = seeds.iter().map(|seed| seed % (bytes.len() + 1)).collect();
    cuts.sort_unstable();
    cuts
}

proptest! {
    #[test]
    fn any_hello_in_any_records_and_segments_says_the_same(
        (message, hello) in any_hello(),
        lens in vec(1..700_usize, 0..40),
        seeds in vec(any::<usize>(), 0..40),
        behind in vec(any::<u8>(), 0..20),
    ) {
        let mut bytes = records_of(&message, lens);
        bytes.extend_from_slice(&behind);
        let expected = Verdict::ClientHello(hello);
        prop_assert_eq!(&read_whole(&bytes), &expected);
        prop_assert_eq!(&read_in_segments(&bytes, cuts(&bytes, &seeds)), &expected);
        prop_assert_eq!(&read_bytewise(&bytes), &expected);
    }

    #[test]
    fn a_damaged_hello_gives_one_verdict_however_it_is_cut(
        (message, _) in any_hello(),
        lens in vec(1..700_usize, 0..10),
        damage in vec((any::<usize>(), any::<u8>()), 1..4),
        seeds in vec(any::<usize>(), 0..40),
    ) {
        let mut bytes = records_of(&message, lens);
        for (at, value) in damage {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        let whole = read_whole(&bytes);
        prop_assert_eq!(&read_in_segments(&bytes, cuts(&bytes, &seeds)), &whole);
        prop_assert_eq!(&read_bytewise(&bytes), &whole);
    }

    #[test]
    fn a_damaged_message_gives_one_verdict_in_any_records(
        (message, _) in any_hello(),
        damage in vec((MESSAGE_HEADER_BYTES..usize::MAX, any::<u8>()), 1..4),
        lens in vec(1..700_usize, 0..10),
    ) {
        let mut message = message;
        for (at, value) in damage {
            let body_len = message.len() - MESSAGE_HEADER_BYTES;
            message[MESSAGE_HEADER_BYTES + at % body_len] = value;
        }
        let in_one = read_whole(&records_of(&message, []));
        prop_assert_eq!(read_whole(&records_of(&message, lens)), in_one);
    }

    #[test]
    fn any_bytes_give_one_verdict_and_keep_no_more_than_the_limit(
        body in vec(any::<u8>(), 0..600),
        plausible in any::<bool>(),
        bytes_max in 0..700_usize,
        seeds in vec(any::<usize>(), 0..20),
    ) {
        let start: &[u8] = if plausible { &[22, 3, 1, 0, 90, 1, 0] } else { &[] };
        let bytes = [start, &body].concat();
        let whole = HelloReader::new(bytes_max).read(&bytes);
        let mut reader = HelloReader::new(bytes_max);
        for end in cuts(&bytes, &seeds) {
            let verdict = reader.read(&bytes[..end]);
            prop_assert!(verdict == Verdict::NeedMore || verdict == whole);
        }
        prop_assert_eq!(reader.read(&bytes), whole);
        prop_assert!(reader.joined.len() <= bytes_max);
    }

    /// tls-parser's own walk over the extensions, as a second opinion on what both accept.
    #[test]
    fn the_name_is_the_one_that_another_parser_reads((message, hello) in any_hello()) {
        let body = &message[MESSAGE_HEADER_BYTES..];
        let (_, fields) = tls_parser::parse_tls_handshake_client_hello(body).unwrap();
        let block = fields.ext.unwrap_or_default();
        let (_, extensions) = parse_tls_client_hello_extensions(block).unwrap();
        let theirs = extensions.iter().find_map(|extension| {
            let TlsExtension::SNI(names) = extension else { return None };
            names.first().map(|(_, name)| *name)
        });
        let ServerName::Host(name) = &hello.name else {
            prop_assert_eq!(theirs, None);
            return Ok(());
        };
        // Its walk stops at the first extension that it cannot decode, known to it or not.
        if let Some(theirs) = theirs {
            prop_assert_eq!(theirs, name.as_str().as_bytes());
        }
    }
}
