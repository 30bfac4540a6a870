//! What smugglers send: each line is read in two ways by some two servers, or was.

use super::*;

/// Requests that consist of a request line, Host, and one or two lines that are wrong.
const FIELDS: &[(&str, Refusal)] = &[
    // Two framings (RFC 9112 section 6.3).
    (
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        Refusal::LengthAndCoding,
    ),
    (
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        Refusal::LengthAndCoding,
    ),
    (
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
        Refusal::LengthAndCoding,
    ),
    (
        "Transfer-Encoding: identity\r\nContent-Length: 3\r\n",
        Refusal::LengthAndCoding,
    ),
    (
        "Transfer-Encoding:\r\nContent-Length: 3\r\n",
        Refusal::LengthAndCoding,
    ),
    // Lengths (RFC 9110 section 8.6).
    (
        "Content-Length: 3\r\nContent-Length: 4\r\n",
        Refusal::SeveralLengths,
    ),
    (
        "Content-Length: 3\r\nContent-Length: 3\r\n",
        Refusal::SeveralLengths,
    ),
    (
        "Content-Length: 3\r\ncontent-length: 3\r\n",
        Refusal::SeveralLengths,
    ),
    ("Content-Length: 3, 3\r\n", Refusal::Length),
    ("Content-Length: 3,\r\n", Refusal::Length),
    ("Content-Length: \r\n", Refusal::Length),
    ("Content-Length: +3\r\n", Refusal::Length),
    ("Content-Length: -3\r\n", Refusal::Length),
    ("Content-Length: -0\r\n", Refusal::Length),
    ("Content-Length: 0x3\r\n", Refusal::Length),
    ("Content-Length: 3a\r\n", Refusal::Length),
    ("Content-Length: 3 4\r\n", Refusal::Length),
    ("Content-Length: 3.0\r\n", Refusal::Length),
    ("Content-Length: 3;x\r\n", Refusal::Length),
    ("Content-Length: \"3\"\r\n", Refusal::Length),
    ("Content-Length: 1_000\r\n", Refusal::Length),
    ("Content-Length: 18446744073709551616\r\n", Refusal::Length),
    (
        "Content-Length: 99999999999999999999999\r\n",
        Refusal::Length,
    ),
    // Transfer codings (RFC 9112 sections 6.1 and 7).
    (
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        Refusal::SeveralCodings,
    ),
    (
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
        Refusal::SeveralCodings,
    ),
    ("Transfer-Encoding: chunked, chunked\r\n", Refusal::Coding),
    ("Transfer-Encoding: gzip, chunked\r\n", Refusal::Coding),
    ("Transfer-Encoding: chunked, identity\r\n", Refusal::Coding),
    ("Transfer-Encoding: chunked, gzip\r\n", Refusal::Coding),
    ("Transfer-Encoding: identity\r\n", Refusal::Coding),
    ("Transfer-Encoding: xchunked\r\n", Refusal::Coding),
    ("Transfer-Encoding: chunkedx\r\n", Refusal::Coding),
    ("Transfer-Encoding: ,chunked\r\n", Refusal::Coding),
    ("Transfer-Encoding: chunked,\r\n", Refusal::Coding),
    ("Transfer-Encoding: \"chunked\"\r\n", Refusal::Coding),
    ("Transfer-Encoding: chunked;q=1\r\n", Refusal::Coding),
    ("Transfer-Encoding: chunk\u{212a}ed\r\n", Refusal::Coding),
    ("Transfer-Encoding:\r\n", Refusal::Coding),
    ("Transfer-Encoding: \x0bchunked\r\n", Refusal::Control),
    ("Transfer-Encoding: chunked\x00\r\n", Refusal::Control),
    // Names and the colon (RFC 9112 section 5.1).
    ("Transfer-Encoding : chunked\r\n", Refusal::SpaceBeforeColon),
    ("Content-Length\t: 3\r\n", Refusal::SpaceBeforeColon),
    ("Content Length: 3\r\n", Refusal::Name),
    ("Content-Length\x00: 3\r\n", Refusal::Name),
    ("X\x01: y\r\n", Refusal::Name),
    ("X\u{e4}: y\r\n", Refusal::Name),
    ("X(y): z\r\n", Refusal::Name),
    ("X,Y: z\r\n", Refusal::Name),
    (": y\r\n", Refusal::EmptyName),
    ("X\r\n", Refusal::NoColon),
    ("GET / HTTP/1.1\r\n", Refusal::NoColon),
    // Lines (RFC 9112 sections 2.2 and 5.2).
    ("X: y\r\n z\r\n", Refusal::ObsFold),
    ("X: y\r\n\tTransfer-Encoding: chunked\r\n", Refusal::ObsFold),
    ("X: y\r\n \r\n", Refusal::ObsFold),
    ("X: y\n", Refusal::BareLf),
    ("X: y\nTransfer-Encoding: chunked\r\n", Refusal::BareLf),
    ("X: y\n\nGET / HTTP/1.1\r\n", Refusal::BareLf),
    ("X: y\rTransfer-Encoding: chunked\r\n", Refusal::BareCr),
    ("X: y\r\r\n", Refusal::BareCr),
    ("X\r: y\r\n", Refusal::BareCr),
    ("X: y\x00z\r\n", Refusal::Control),
    ("X: y\x7f\r\n", Refusal::Control),
    ("X: y\x1b[0m\r\n", Refusal::Control),
    ("X: y\x0c\r\n", Refusal::Control),
    // Hosts (RFC 9112 section 3.2).
    ("Host: a.example\r\n", Refusal::SeveralHosts),
    ("host: b.example\r\n", Refusal::SeveralHosts),
    // Expectations (RFC 9110 section 10.1.1).
    ("Expect: 200-ok\r\n", Refusal::Expectation),
    ("Expect: 100-continue, x\r\n", Refusal::Expectation),
];

#[test]
fn fields_that_can_be_read_in_two_ways_are_refused() {
    for (lines, expected) in FIELDS {
        for head in [
            format!("POST / HTTP/1.1\r\nHost: a.example\r\n{lines}\r\n"),
            format!("POST / HTTP/1.1\r\nHost: a.example\r\nA: b\r\n{lines}C: d\r\n\r\n"),
        ] {
            assert_eq!(refusal(head.as_bytes()).err(), Some(*expected), "{head:?}");
        }
    }
    let first = b"POST / HTTP/1.1\r\n Host: a.example\r\nX: y\r\n\r\n";
    assert_eq!(refusal(first).err(), Some(Refusal::ObsFold));
}

/// Request lines, with a Host behind them.
const LINES: &[(&str, Refusal)] = &[
    ("GET  / HTTP/1.1", Refusal::RequestLine),
    ("GET /  HTTP/1.1", Refusal::RequestLine),
    ("GET / HTTP/1.1 ", Refusal::RequestLine),
    (" GET / HTTP/1.1", Refusal::RequestLine),
    ("GET\t/ HTTP/1.1", Refusal::RequestLine),
    ("GET /\tHTTP/1.1", Refusal::RequestLine),
    ("GET /a b HTTP/1.1", Refusal::RequestLine),
    ("GET /", Refusal::RequestLine),
    ("GET", Refusal::RequestLine),
    ("G(T / HTTP/1.1", Refusal::RequestLine),
    ("GET / http/1.1", Refusal::RequestLine),
    ("GET / HTTP/1.1x", Refusal::RequestLine),
    ("GET / HTTP/11", Refusal::RequestLine),
    ("GET / HTTP/1.", Refusal::RequestLine),
    ("GET / HTTP/01.1", Refusal::RequestLine),
    ("GET / XTTP/1.1", Refusal::RequestLine),
    ("GET / HTTP/0.9", Refusal::Version),
    ("GET / HTTP/2.0", Refusal::Version),
    ("PRI * HTTP/2.0", Refusal::Version),
    ("GET / HTTP/1.1\r", Refusal::BareCr),
    ("GET /\r/ HTTP/1.1", Refusal::BareCr),
    ("GET /a\x00 HTTP/1.1", Refusal::Target),
    ("GET /a\x7f HTTP/1.1", Refusal::Target),
    ("GET /\u{fc} HTTP/1.1", Refusal::Target),
    ("GET /a#b HTTP/1.1", Refusal::Target),
    ("GET a HTTP/1.1", Refusal::Target),
    ("GET ?a HTTP/1.1", Refusal::Target),
    ("GET * HTTP/1.1", Refusal::Target),
    ("GET a.example:80 HTTP/1.1", Refusal::Target),
    ("GET ftp://a.example/ HTTP/1.1", Refusal::Target),
    ("GET http:///x HTTP/1.1", Refusal::Target),
    ("GET http://u@a.example/ HTTP/1.1", Refusal::Target),
    ("GET http://a.example:x/ HTTP/1.1", Refusal::Target),
    (
        "GET http://a.example\\@b.example/ HTTP/1.1",
        Refusal::Target,
    ),
    ("GET http://b.example/ HTTP/1.1", Refusal::HostMismatch),
    ("GET http://a.example:81/ HTTP/1.1", Refusal::HostMismatch),
    ("GET https://a.example:80/ HTTP/1.1", Refusal::HostMismatch),
    ("CONNECT a.example:443 HTTP/1.1", Refusal::Connect),
    (
        "UPDATEREDIRECTREFUPDATEREDIRECTREF / HTTP/1.1",
        Refusal::MethodTooLong,
    ),
];

#[test]
fn request_lines_with_another_reading_are_refused() {
    for (line, expected) in LINES {
        let head = format!("{line}\r\nHost: a.example\r\n\r\n");
        assert_eq!(refusal(head.as_bytes()).err(), Some(*expected), "{line:?}");
    }
}

#[test]
fn what_comes_before_a_request_is_one_empty_line_at_most() {
    let head = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
    for (before, expected) in [
        ("\r\n\r\n", Refusal::EmptyLine),
        ("\n", Refusal::BareLf),
        ("\r\n\n", Refusal::BareLf),
        (" ", Refusal::RequestLine),
        ("\x16\x03\x01", Refusal::RequestLine),
        ("\r\n\x16", Refusal::RequestLine),
    ] {
        let bytes = format!("{before}{head}");
        assert_eq!(
            refusal(bytes.as_bytes()).err(),
            Some(expected),
            "{before:?}"
        );
    }
    let bytes = format!("\r\n{head}rest");
    assert_eq!(refusal(bytes.as_bytes()).unwrap().head_len, head.len() + 2);
}

#[test]
fn hosts_are_what_the_version_asks_for() {
    for (head, expected) in [
        ("GET / HTTP/1.1\r\nX: y\r\n\r\n", Some(Refusal::NoHost)),
        ("GET / HTTP/1.1\r\n\r\n", Some(Refusal::NoHost)),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", Some(Refusal::Host)),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Some(Refusal::Host)),
        ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", Some(Refusal::Host)),
        ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", Some(Refusal::Host)),
        ("GET / HTTP/1.1\r\nHost: a/x\r\n\r\n", Some(Refusal::Host)),
        (
            "GET http://a/ HTTP/1.1\r\nX: y\r\n\r\n",
            Some(Refusal::NoHost),
        ),
        ("GET / HTTP/1.0\r\n\r\n", None),
        (
            "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n",
            Some(Refusal::SeveralHosts),
        ),
        (
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            Some(Refusal::CodingVersion),
        ),
        (
            "TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n",
            Some(Refusal::TraceContent),
        ),
    ] {
        assert_eq!(refusal(head.as_bytes()).err(), expected, "{head:?}");
    }
}

#[test]
fn limits_hold_to_the_byte() {
    let limits = Limits {
        head_bytes_max: 100,
        target_bytes_max: 10,
        fields_max: 3,
    };
    let read = |head: &str| match read_with(head.as_bytes(), &limits) {
        Reading::Head(_) => None,
        Reading::Refused(refusal) => Some(refusal),
        Reading::NeedMore => panic!("{head:?} is not whole"),
    };
    let target = |len: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(len - 1));
    assert_eq!(read(&target(10)), None);
    assert_eq!(read(&target(11)), Some(Refusal::TargetTooLong));
    let fields = |count: usize| {
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
            "a:b\r\n".repeat(count - 1)
        )
    };
    assert_eq!(read(&fields(3)), None);
    assert_eq!(read(&fields(4)), Some(Refusal::TooManyFields));
    let long = |len: usize| {
        let empty = "GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n".len();
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
            "x".repeat(len - empty)
        )
    };
    assert_eq!(read(&long(100)), None);
    assert_eq!(read(&long(101)), Some(Refusal::HeadTooLong));
    // Told before the line ends.
    assert_eq!(read(&"x".repeat(100)), Some(Refusal::TargetTooLong));
}

#[test]
fn connection_has_a_bound_of_options_over_all_its_fields() {
    let head = |options: usize| {
        let lines = (0..options).map(|at| format!("Connection: x-{at}, ,\r\n"));
        let lines: String = lines.collect();
        format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
    };
    let (most, more) = (head(32), head(33));
    assert_eq!(refusal(most.as_bytes()).err(), None);
    assert_eq!(
        refusal(more.as_bytes()).err(),
        Some(Refusal::TooManyOptions)
    );
}
