//! The hellos of real clients: see tests/fixtures/hellos/README.md.

use std::{
    fs,
    iter::repeat,
    path::{Path, PathBuf},
};

use super::*;

/// File, name, first ALPN protocol, ECH.
const EXPECTED: &[(&str, Name, Option<&str>, bool)] = &[
    ("chromium", Host("chromium.example.com"), Some("h2"), true),
    ("curl", Host("curl.example.com"), Some("h2"), false),
    (
        "curl-http1",
        Host("curl.example.com"),
        Some("http/1.1"),
        false,
    ),
    ("curl-idn", Host("xn--bcher-kva.example"), Some("h2"), false),
    ("curl-ip", Absent, Some("h2"), false),
    ("firefox", Host("firefox.example.com"), Some("h2"), true),
    ("gnutls", Host("gnutls.example.com"), Some("h2"), false),
    ("gnutls-no-sni", Absent, None, false),
    ("gnutls-tls12", Host("gnutls.example.com"), None, false),
    ("go", Host("go.example.com"), Some("h2"), false),
    ("openssl", Host("openssl.example.com"), None, false),
    (
        "openssl-alpn",
        Host("openssl.example.com"),
        Some("h2"),
        false,
    ),
    ("openssl-ip", IpLiteral, None, false),
    ("openssl-no-sni", Absent, None, false),
    (
        "openssl-records",
        Host("openssl.example.com"),
        Some("h2"),
        false,
    ),
    ("openssl-tls12", Host("openssl.example.com"), None, false),
    (
        "openssl-upper-case-dot",
        Host("openssl.example.com"),
        None,
        false,
    ),
    ("python", Host("python.example.com"), None, false),
    (
        "rustls-aws-lc-mlkem",
        Host("rustls.example.com"),
        Some("h2"),
        false,
    ),
    ("rustls-ring", Host("rustls.example.com"), Some("h2"), false),
    ("rustls-ring-ip", Absent, None, false),
    ("rustls-ring-tls12", Host("rustls.example.com"), None, false),
];

#[derive(Clone, Copy)]
enum Name {
    Host(&'static str),
    Absent,
    IpLiteral,
}
use Name::{Absent, Host, IpLiteral};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/hellos")
}

fn all() -> impl Iterator<Item = (&'static str, Vec<u8>, Verdict)> {
    EXPECTED.iter().map(|&(file, name, alpn, ech)| {
        let name = match name {
            Host(name) => ServerName::Host(Hostname::parse(name.as_bytes()).unwrap()),
            Absent => ServerName::Absent,
            IpLiteral => ServerName::IpLiteral,
        };
        let alpn = alpn.map(|alpn| alpn.as_bytes().into());
        let bytes = fs::read(folder().join(file).with_extension("bin")).unwrap();
        (
            file,
            bytes,
            Verdict::ClientHello(ClientHello { name, alpn, ech }),
        )
    })
}

#[test]
fn every_client_is_understood() {
    for (file, bytes, expected) in all() {
        assert_eq!(read_whole(&bytes), expected, "{file}");
    }
}

#[test]
fn every_fixture_is_expected_to_say_something() {
    let mut files: Vec<_> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "bin"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    files.sort();
    let expected: Vec<_> = EXPECTED.iter().map(|(file, ..)| *file).collect();
    assert_eq!(files, expected);
}

#[test]
fn the_fixtures_hold_the_hard_cases() {
    let fixtures: Vec<_> = all().collect();
    let is_in_records = |bytes: &[u8]| message_of(bytes).len() + RECORD_HEADER_BYTES < bytes.len();
    assert!(fixtures.iter().any(|(_, bytes, _)| bytes.len() > 1500));
    assert!(fixtures.iter().any(|(_, bytes, _)| is_in_records(bytes)));
}

#[test]
fn a_hello_is_whole_at_its_last_byte_and_not_before() {
    for (file, bytes, expected) in all() {
        let mut reader = HelloReader::new(BYTES_MAX);
        for end in 0..bytes.len() {
            assert_eq!(
                reader.read(&bytes[..end]),
                Verdict::NeedMore,
                "{file} at {end}"
            );
            let whole = HelloReader::new(BYTES_MAX).read(&bytes[..end]);
            assert_eq!(whole, Verdict::NeedMore, "{file} cut at {end}");
        }
        assert_eq!(reader.read(&bytes), expected, "{file}");
    }
}

#[test]
fn records_of_any_one_length_say_the_same() {
    for (file, bytes, expected) in all() {
        let message = message_of(&bytes);
        for len in (1..40).chain([100, 255, 256, 512, 1000]) {
            let records = records_of(&message, repeat(len));
            assert_eq!(read_whole(&records), expected, "{file} in {len}s");
            assert_eq!(
                read_bytewise(&records),
                expected,
                "{file} in {len}s, bytewise"
            );
        }
    }
}

#[test]
fn a_message_cut_short_and_made_consistent_again_is_refused() {
    for (file, bytes, _) in all() {
        let message = message_of(&bytes);
        for end in MESSAGE_HEADER_BYTES..message.len() {
            let mut short = message[..end].to_vec();
            let body_len = u32::try_from(end - MESSAGE_HEADER_BYTES).unwrap();
            short[1..4].copy_from_slice(&body_len.to_be_bytes()[1..]);
            let verdict = read_whole(&records_of(&short, []));
            // The one cut that leaves a hello of before TLS 1.3: right before the extensions.
            let without_extensions = matches!(
                &verdict,
                Verdict::ClientHello(hello) if hello.name == ServerName::Absent && hello.alpn.is_none()
            );
            let refused = matches!(
                verdict,
                Verdict::Bad(BadHello::Fields | BadHello::Extensions)
            );
            assert!(
                refused || without_extensions,
                "{file} cut at {end}: {verdict:?}"
            );
        }
    }
}
