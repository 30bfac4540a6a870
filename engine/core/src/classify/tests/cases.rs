//! One rule each.

use std::iter;

use super::{
    synthetic::{Parts, alpn, message, prefixed_u16, server_names},
    *,
};

const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const ECH: u16 = 0xfe0d;

fn read_extensions(extensions: impl Into<Vec<(u16, Vec<u8>)>>) -> Verdict {
    let records = records_of(&Parts::with(extensions).message(), []);
    assert_eq!(read_bytewise(&records), read_whole(&records));
    read_whole(&records)
}

fn hello_of(extensions: impl Into<Vec<(u16, Vec<u8>)>>) -> ClientHello {
    let verdict = read_extensions(extensions);
    let Verdict::ClientHello(hello) = verdict else {
        panic!("no hello: {verdict:?}");
    };
    hello
}

fn name_of(raw: &[u8]) -> ServerName {
    hello_of([(SERVER_NAME, server_names(&[(0, raw)]))]).name
}

fn host(name: &str) -> ServerName {
    ServerName::Host(Hostname::parse(name.as_bytes()).unwrap())
}

#[test]
fn names_come_in_the_form_that_routes_are_looked_up_by() {
    assert_eq!(name_of(b"WWW.Example.COM."), host("www.example.com"));
    assert_eq!(
        name_of(b"xn--bcher-kva.example"),
        host("xn--bcher-kva.example")
    );
    for address in ["192.0.2.7", "192.0.2.7.", "2001:db8::1", "::"] {
        assert_eq!(
            name_of(address.as_bytes()),
            ServerName::IpLiteral,
            "{address}"
        );
    }
    for (raw, error) in [
        ("bücher.example".as_bytes(), HostnameError::Character),
        (b"a..b", HostnameError::EmptyLabel),
        (b".", HostnameError::Empty),
        (&[b'a'; 64], HostnameError::LabelTooLong),
        (b"a\0b", HostnameError::Character),
        (b"\xff\xfe", HostnameError::Character),
    ] {
        assert_eq!(name_of(raw), ServerName::Invalid(error));
    }
}

#[test]
fn names_of_unknown_types_are_skipped() {
    let both = server_names(&[(9, b"?"), (0, b"a.example"), (9, b"")]);
    assert_eq!(hello_of([(SERVER_NAME, both)]).name, host("a.example"));
    let unknown = server_names(&[(9, b"?")]);
    assert_eq!(hello_of([(SERVER_NAME, unknown)]).name, ServerName::Absent);
}

#[test]
fn malformed_server_names_are_refused() {
    let good = server_names(&[(0, b"a.example")]);
    let short = good[..good.len() - 1].to_vec();
    let long = [good.as_slice(), &[0]].concat();
    let entry_too_long = prefixed_u16(&[0, 0, 9, b'a']);
    for content in [
        vec![],
        vec![0, 0],
        server_names(&[(0, b"")]),
        prefixed_u16(&[0]),
        prefixed_u16(&[0, 0]),
        entry_too_long,
        short,
        long,
    ] {
        let verdict = read_extensions([(SERVER_NAME, content.clone())]);
        assert_eq!(verdict, Verdict::Bad(BadHello::ServerName), "{content:?}");
    }
    let two = server_names(&[(0, b"a.example"), (0, b"b.example")]);
    let verdict = read_extensions([(SERVER_NAME, two)]);
    assert_eq!(verdict, Verdict::Bad(BadHello::SeveralHosts));
}

#[test]
fn the_first_protocol_that_is_not_grease_is_told() {
    let first = |protocols: &[&[u8]]| hello_of([(ALPN, alpn(protocols))]).alpn;
    assert_eq!(
        first(&[b"h2", b"http/1.1"]).as_deref(),
        Some(b"h2".as_slice())
    );
    assert_eq!(
        first(&[b"\x3a\x3a", b"h2"]).as_deref(),
        Some(b"h2".as_slice())
    );
    assert_eq!(
        first(&[b"\x3a\x4a"]).as_deref(),
        Some(b"\x3a\x4a".as_slice())
    );
    assert_eq!(first(&[b"\xfa\xfa"]), None);
}

#[test]
fn malformed_protocol_lists_are_refused() {
    let good = alpn(&[b"h2"]);
    let long = [good.as_slice(), &[0]].concat();
    for content in [
        vec![],
        vec![0, 0],
        alpn(&[b"h2", b""]),
        prefixed_u16(&[3, b'h']),
        good[..good.len() - 1].to_vec(),
        long,
    ] {
        let verdict = read_extensions([(ALPN, content.clone())]);
        assert_eq!(verdict, Verdict::Bad(BadHello::Alpn), "{content:?}");
    }
}

#[test]
fn the_outer_name_counts_and_ech_is_told() {
    let outer = server_names(&[(0, b"public.example")]);
    let hello = hello_of([(ECH, vec![0, 1, 2, 3]), (SERVER_NAME, outer)]);
    assert_eq!((hello.name, hello.ech), (host("public.example"), true));
    assert!(!hello_of([(ECH, vec![1])]).ech);
    assert!(!hello_of([(ECH, vec![])]).ech);
}

#[test]
fn extensions_that_matter_may_come_only_once() {
    let name = (SERVER_NAME, server_names(&[(0, b"a.example")]));
    let protocols = (ALPN, alpn(&[b"h2"]));
    let refused = Verdict::Bad(BadHello::DuplicateExtension);
    for twice in [name.clone(), protocols, (ECH, vec![0])] {
        assert_eq!(
            read_extensions([twice.clone(), (7, vec![]), twice]),
            refused
        );
    }
    let others = [(7, vec![]), name, (7, vec![])];
    assert_eq!(hello_of(others).name, host("a.example"));
}

#[test]
fn a_hello_without_extensions_names_no_host() {
    let parts = Parts {
        extensions: None,
        ..Parts::with([])
    };
    let nothing = ClientHello {
        name: ServerName::Absent,
        alpn: None,
        ech: false,
    };
    let verdict = read_whole(&records_of(&parts.message(), []));
    assert_eq!(verdict, Verdict::ClientHello(nothing.clone()));
    assert_eq!(hello_of([]), nothing);
}

#[test]
fn fields_before_the_extensions_must_add_up() {
    let good = Parts::with([]);
    let bad = [
        Parts {
            session_id: vec![0; 33],
            ..good.clone()
        },
        Parts {
            ciphers: vec![],
            ..good.clone()
        },
        Parts {
            ciphers: vec![0; 3],
            ..good.clone()
        },
        Parts {
            compressions: vec![],
            ..good
        },
    ];
    for parts in bad {
        let verdict = read_whole(&records_of(&parts.message(), []));
        assert_eq!(verdict, Verdict::Bad(BadHello::Fields), "{parts:?}");
    }
    assert_eq!(
        read_whole(&records_of(&message(1, b""), [])),
        Verdict::Bad(BadHello::Fields)
    );
}

#[test]
fn extension_lengths_must_add_up() {
    let extensions = Parts::with([(7, vec![1, 2, 3])]).message();
    let body = &extensions[MESSAGE_HEADER_BYTES..];
    let beyond = [body, &[0]].concat();
    let mut block_short = body.to_vec();
    let block_at = block_short.len() - 9;
    block_short[block_at + 1] -= 1;
    let mut content_long = body.to_vec();
    content_long[block_at + 5] += 1;
    for body in [
        beyond,
        block_short,
        content_long,
        body[..body.len() - 1].to_vec(),
    ] {
        let verdict = read_whole(&records_of(&message(1, &body), []));
        assert_eq!(verdict, Verdict::Bad(BadHello::Extensions));
    }
}

#[test]
fn other_protocols_are_told_at_their_first_wrong_byte() {
    for (bytes, at) in [
        (b"GET / HTTP/1.1\r\n".as_slice(), 1),
        (b"SSH-2.0-OpenSSH_9.9\r\n", 1),
        (b"PROXY TCP4 ", 1),
        (b"\r\n\r\n\0\r\nQUIT\n", 1),
        (b"\0", 1),
        // An SSL 2.0 hello, an alert, application data.
        (b"\x80\x2e\x01\x03\x01", 1),
        (b"\x15\x03\x03\x00\x02", 1),
        (b"\x17\x03\x03\x00\x02", 1),
        (b"\x16\x02", 2),
        (b"\x16\xfe\xfd", 2),
    ] {
        let read = |end| HelloReader::new(BYTES_MAX).read(&bytes[..end]);
        assert_eq!(read(at - 1), Verdict::NeedMore, "{bytes:?}");
        assert_eq!(read(at), Verdict::NotTls, "{bytes:?}");
        assert_eq!(read_bytewise(bytes), Verdict::NotTls, "{bytes:?}");
    }
}

#[test]
fn record_rules_are_kept() {
    let mut trailing = Parts::with([]).message();
    let first = records_of(&trailing[..20], []);
    let after_first = |rest: &[u8]| [first.as_slice(), rest].concat();
    trailing.push(0);
    for (bytes, bad) in [
        (vec![22, 3, 1, 0, 0], BadHello::EmptyRecord),
        (vec![22, 3, 1, 0x40, 1], BadHello::RecordTooLong),
        (vec![22, 3, 1, 0, 4, 2], BadHello::NotClientHello),
        (after_first(&[22, 3, 3, 0, 0]), BadHello::EmptyRecord),
        (
            after_first(&[22, 3, 3, 0xff, 0xff]),
            BadHello::RecordTooLong,
        ),
        (after_first(&[21]), BadHello::RecordType),
        (after_first(&[20, 3, 3, 0, 1, 1]), BadHello::RecordType),
        (after_first(b"GET /"), BadHello::RecordType),
        (after_first(&[22, 2]), BadHello::RecordVersion),
        (records_of(&trailing, []), BadHello::Trailing),
        (records_of(&trailing, [20]), BadHello::Trailing),
        (records_of(&trailing, [2]), BadHello::Trailing),
    ] {
        assert_eq!(read_whole(&bytes), Verdict::Bad(bad), "{bytes:?}");
        assert_eq!(read_bytewise(&bytes), Verdict::Bad(bad), "{bytes:?}");
    }
}

#[test]
fn what_follows_the_hello_is_not_looked_at() {
    let records = records_of(&Parts::with([]).message(), [9]);
    let followed = [records.as_slice(), b"early data or anything else"].concat();
    assert_eq!(read_whole(&followed), read_whole(&records));
}

#[test]
fn the_limit_counts_every_byte_of_the_hello_and_none_behind_it() {
    let whole = records_of(&Parts::with([(21, vec![0; 600])]).message(), [100, 100]);
    let followed = [whole.as_slice(), &[22; 100]].concat();
    let read = |bytes_max, bytes| HelloReader::new(bytes_max).read(bytes);
    assert!(matches!(read(whole.len(), &whole), Verdict::ClientHello(_)));
    assert!(matches!(
        read(whole.len(), &followed),
        Verdict::ClientHello(_)
    ));
    assert_eq!(read(whole.len() - 1, &whole), Verdict::TooLong);
    assert_eq!(read(whole.len() - 1, &followed), Verdict::TooLong);
    assert_eq!(read(0, b""), Verdict::TooLong);
}

#[test]
fn a_message_that_claims_too_much_is_refused_before_it_comes() {
    let claim = [22, 3, 1, 0x10, 0, 1, 0, 0x40, 0];
    assert_eq!(
        HelloReader::new(16 << 10).read(&claim[..8]),
        Verdict::NeedMore
    );
    assert_eq!(HelloReader::new(16 << 10).read(&claim), Verdict::TooLong);
}

#[test]
fn a_hello_in_one_record_is_not_copied() {
    let records = records_of(&Parts::with([(21, vec![0; 1700])]).message(), []);
    let mut reader = HelloReader::new(BYTES_MAX);
    for end in 0..=records.len() {
        reader.read(&records[..end]);
    }
    assert_eq!(reader.joined.capacity(), 0);
}

#[test]
fn a_record_that_was_walked_over_is_not_walked_over_again() {
    let message = Parts::with([(21, vec![0; 1700])]).message();
    let records = records_of(&message, iter::repeat(1));
    let mut reader = HelloReader::new(BYTES_MAX);
    for end in 0..records.len() {
        assert_eq!(reader.read(&records[..end]), Verdict::NeedMore);
        assert_eq!(reader.record_at, end - end % 6);
    }
    assert!(matches!(reader.read(&records), Verdict::ClientHello(_)));
    assert!(reader.joined.capacity() < 2 * message.len());
}

#[test]
fn alerts_are_fatal_and_only_for_those_who_speak_tls() {
    assert_eq!(UNRECOGNIZED_NAME, [21, 3, 3, 0, 2, 2, 112]);
    let code = |verdict: Verdict| alert_for(&verdict).map(|alert| alert[6]);
    assert_eq!(code(Verdict::NotTls), None);
    assert_eq!(code(Verdict::NeedMore), None);
    assert_eq!(code(read_extensions([])), None);
    assert_eq!(code(Verdict::TooLong), Some(47));
    assert_eq!(code(Verdict::Bad(BadHello::RecordTooLong)), Some(22));
    assert_eq!(code(Verdict::Bad(BadHello::RecordType)), Some(10));
    assert_eq!(code(Verdict::Bad(BadHello::ServerName)), Some(50));
    assert_eq!(code(Verdict::Bad(BadHello::SeveralHosts)), Some(47));
}
