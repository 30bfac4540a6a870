//! What requests mean.

use super::*;
use crate::{host::Kind, method::Scheme};

fn request(head: &str) -> Request<'_> {
    refusal(head.as_bytes()).unwrap_or_else(|refusal| panic!("{head:?}: {refusal}"))
}

#[test]
fn a_request_of_a_browser_is_read_whole() {
    let head = "GET /a/b?c=[d|e] HTTP/1.1\r\nHost: A.example:8080\r\nUser-Agent: x/1 (y; z)\r\n\
                Accept: */*\r\nX-Empty:\r\nX-Utf: \u{fc}\r\nX-Tab:\ta\tb \t\r\n\r\n";
    let bytes = format!("{head}GET /next");
    let request = request(&bytes);
    assert_eq!(request.head_len, head.len());
    assert_eq!(request.method, Method::Get);
    assert_eq!(
        (request.target.path, request.target.query),
        ("/a/b", Some("c=[d|e]"))
    );
    let host = request.host.unwrap();
    assert_eq!(
        (&*host.folded().unwrap(), host.port()),
        ("a.example", Some(8080))
    );
    assert_eq!(request.framing, Framing::None);
    assert!(request.keep_alive && !request.expects_continue && request.upgrade.is_none());
    let fields: Vec<(&str, &[u8])> = request
        .fields
        .into_iter()
        .map(|field| (std::str::from_utf8(field.name).unwrap(), field.value))
        .collect();
    assert_eq!(fields.len(), 6);
    assert_eq!(fields[3], ("X-Empty", b"".as_slice()));
    assert_eq!(fields[4], ("X-Utf", "\u{fc}".as_bytes()));
    assert_eq!(fields[5], ("X-Tab", b"a\tb".as_slice()));
}

#[test]
fn framing_is_what_the_fields_say() {
    for (lines, framing) in [
        ("", Framing::None),
        ("Content-Length: 0\r\n", Framing::Length(0)),
        ("content-length:007 \r\n", Framing::Length(7)),
        (
            "Content-Length: 18446744073709551615\r\n",
            Framing::Length(u64::MAX),
        ),
        ("Transfer-Encoding: CHUNKED\r\n", Framing::Chunked),
        // A field that only CGI takes for another one says nothing, and is not passed on.
        (
            "Transfer_Encoding: chunked\r\nContent_Length: 3\r\n",
            Framing::None,
        ),
    ] {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        assert_eq!(request(&head).framing, framing, "{lines}");
    }
}

#[test]
fn persistence_depends_on_version_and_connection() {
    for (version, connection, keep_alive) in [
        ("1.1", "", true),
        ("1.1", "close", false),
        ("1.1", "x, Close", false),
        ("1.1", "keep-alive, close", false),
        ("1.0", "", false),
        ("1.0", "Keep-Alive", true),
        ("1.0", "keep-alive, close", false),
    ] {
        let head = format!("GET / HTTP/{version}\r\nHost: a\r\nConnection: {connection}\r\n\r\n");
        assert_eq!(request(&head).keep_alive, keep_alive, "{head}");
    }
}

#[test]
fn upgrades_are_passed_on_unless_they_lead_around_the_rules() {
    for (lines, expected) in [
        (
            "Connection: Upgrade\r\nUpgrade: websocket\r\n",
            Some("websocket"),
        ),
        (
            "Connection: keep-alive, upgrade\r\nUpgrade: x/2\r\n",
            Some("x/2"),
        ),
        ("Upgrade: websocket\r\n", None),
        ("Connection: upgrade\r\n", None),
        ("Connection: upgrade\r\nUpgrade: websocket, x\r\n", None),
        (
            "Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: x\r\n",
            None,
        ),
        ("Connection: upgrade\r\nUpgrade: h2c\r\n", None),
        ("Connection: upgrade\r\nUpgrade: H2C\r\n", None),
        ("Connection: upgrade\r\nUpgrade: HTTP/2.0\r\n", None),
        ("Connection: upgrade\r\nUpgrade: TLS/1.0\r\n", None),
        (
            "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n",
            None,
        ),
    ] {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let upgrade = request(&head).upgrade.map(|upgrade| upgrade.protocol);
        assert_eq!(upgrade, expected, "{lines}");
    }
    let old = "GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(request(old).upgrade, None);
}

#[test]
fn targets_come_in_three_forms() {
    let absolute = request("GET HTTP://A.example?q HTTP/1.1\r\nHost: a.example:80\r\n\r\n");
    assert_eq!(
        (absolute.target.path, absolute.target.query),
        ("/", Some("q"))
    );
    assert!(matches!(
        absolute.target.form,
        Form::Absolute { scheme: Scheme::Http, host } if host.text() == "A.example"
    ));
    let server = request("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(
        (server.target.path, server.target.form),
        ("*", Form::Asterisk)
    );
    let server = request("OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(server.target.path, "*");
    let old = request("GET http://[::1]:81/x HTTP/1.0\r\n\r\n");
    let host = old.host.unwrap();
    assert_eq!(
        (host.kind(), host.port()),
        (Kind::Ip("::1".parse().unwrap()), Some(81))
    );
    assert_eq!(
        request("GET //a/x HTTP/1.1\r\nHost: a\r\n\r\n").target.path,
        "//a/x"
    );
}

#[test]
fn expectations_and_trailers_are_noticed() {
    let head = "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 9\r\n\
                TE: gzip, Trailers\r\n\r\n";
    assert!(request(head).expects_continue && request(head).takes_trailers);
    // RFC 9110 section 10.1.1: to be ignored in HTTP/1.0.
    let old = "PUT / HTTP/1.0\r\nExpect: 100-continue\r\nExpect: x\r\n\r\n";
    assert!(!request(old).expects_continue);
}

#[test]
fn a_later_minor_version_is_what_http_1_1_makes_of_it() {
    for minor in 2..=9 {
        let head =
            format!("POST /a?b HTTP/1.{minor}\r\nHost: a.test:\r\nContent-Length: 3\r\n\r\n");
        let request = request(&head);
        assert_eq!(request.version, Version::Http11);
        assert_eq!(request.method, Method::Post);
        assert_eq!(
            (request.target.path, request.target.query),
            ("/a", Some("b"))
        );
        assert_eq!(request.host.unwrap().as_str(), "a.test");
        assert_eq!(request.framing, Framing::Length(3));
        assert_eq!(request.head_len, head.len());
        assert!(request.keep_alive);
    }
    for (head, expected) in [
        ("GET / HTTP/1.2\r\n\r\n", Refusal::NoHost),
        (
            "GET / HTTP/1.2\r\nHost : a\r\n\r\n",
            Refusal::SpaceBeforeColon,
        ),
        ("GET / HTTP/1.2\r\nHost: a\r\n b\r\n\r\n", Refusal::ObsFold),
        (
            "GET / HTTP/1.2\r\nHost: a\r\nX: \0\r\n\r\n",
            Refusal::Control,
        ),
        ("GET  / HTTP/1.2\r\nHost: a\r\n\r\n", Refusal::RequestLine),
        ("GET / HTTP/1.10\r\nHost: a\r\n\r\n", Refusal::RequestLine),
        ("CONNECT a:1 HTTP/1.2\r\nHost: a\r\n\r\n", Refusal::Connect),
    ] {
        assert_eq!(refusal(head.as_bytes()).err(), Some(expected), "{head:?}");
    }
}
