//! Responses as a client gets them.

use super::*;
use crate::{
    date::HttpDate,
    method::Version,
    response::{self, Asked, Framing, Response},
};

fn response(head: &str) -> Response<'_> {
    let asked = Asked {
        head: false,
        upgrade: true,
    };
    match response::read(
        head.as_bytes(),
        asked,
        &Limits::default(),
        &mut Scan::default(),
    ) {
        Reading::Head(response) => response,
        other @ (Reading::NeedMore | Reading::Refused(_)) => panic!("{head:?}: {other:?}"),
    }
}

fn forwarding(edits: &FieldEdits) -> ResponseForwarding<'_> {
    ResponseForwarding {
        version: Version::Http11,
        keep_alive: true,
        framing: Framing::Length(3),
        request_id: "id-1",
        edits,
        hsts: None,
        set_cookie: None,
        date: HttpDate::of(std::time::Duration::from_secs(784_111_777)),
    }
}

fn write(head: &str, forwarding: &ResponseForwarding<'_>) -> String {
    let mut out = Vec::new();
    write_response(&response(head), forwarding, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_response_is_written_anew_without_what_ends_at_this_hop() {
    let edits = FieldEdits::default();
    let head = "HTTP/1.0 200 Fine\r\nServer: x\r\nConnection: close, X-Hop\r\nX-Hop: y\r\n\
                Keep-Alive: 3\r\nProxy-Authenticate: x\r\nContent-Length: 3\r\n\
                X-Request-Id: theirs\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\nTrailer: x\r\n\r\n";
    assert_eq!(
        write(head, &forwarding(&edits)),
        "HTTP/1.1 200 Fine\r\nServer: x\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\n\
         Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nX-Request-Id: id-1\r\nContent-Length: 3\r\n\r\n"
    );
}

#[test]
fn rules_hsts_and_cookie_are_added() {
    let edits = FieldEdits::new(&[("Server", "ringway")], &[], &["X-Powered-By"]).unwrap();
    let with = ResponseForwarding {
        hsts: Some("max-age=1"),
        set_cookie: Some(b"at=1; Path=/"),
        keep_alive: false,
        framing: Framing::Chunked,
        ..forwarding(&edits)
    };
    let head = "HTTP/1.1 404 Not Found\r\nserver: x\r\nX-Powered-By: y\r\n\
                Strict-Transport-Security: max-age=0\r\nContent-Length: 3\r\n\r\n";
    assert_eq!(
        write(head, &with),
        "HTTP/1.1 404 Not Found\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
         X-Request-Id: id-1\r\nStrict-Transport-Security: max-age=1\r\n\
         Set-Cookie: at=1; Path=/\r\nServer: ringway\r\nTransfer-Encoding: chunked\r\n\
         Connection: close\r\n\r\n"
    );
}

#[test]
fn the_end_of_content_and_connection_is_said_in_the_clients_version() {
    let edits = FieldEdits::default();
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let old = |keep_alive, framing| ResponseForwarding {
        version: Version::Http10,
        keep_alive,
        framing,
        ..forwarding(&edits)
    };
    let text = write(head, &old(true, Framing::Length(3)));
    assert!(
        text.ends_with("Content-Length: 3\r\nConnection: keep-alive\r\n\r\n"),
        "{text}"
    );
    let text = write(head, &old(false, Framing::UntilClose));
    assert!(
        text.ends_with("X-Request-Id: id-1\r\nConnection: close\r\n\r\n"),
        "{text}"
    );
}

#[test]
fn a_length_without_content_is_kept_where_it_means_something() {
    let edits = FieldEdits::default();
    let none = ResponseForwarding {
        framing: Framing::None,
        ..forwarding(&edits)
    };
    let text = write(
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
        &none,
    );
    assert!(text.contains("\r\nContent-Length: 9\r\n"), "{text}");
    let text = write(
        "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        &none,
    );
    assert!(!text.contains("Content-Length"), "{text}");
}

#[test]
fn a_switch_of_protocols_names_the_protocol() {
    let edits = FieldEdits::default();
    let none = ResponseForwarding {
        framing: Framing::None,
        ..forwarding(&edits)
    };
    let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Accept: x\r\n\r\n";
    let text = write(head, &none);
    assert!(text.contains("\r\nSec-WebSocket-Accept: x\r\n"), "{text}");
    assert!(
        text.ends_with("\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"),
        "{text}"
    );
}

#[test]
fn an_interim_response_passes_with_its_fields() {
    let mut out = Vec::new();
    let head = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x\r\nX: y\r\n\r\n";
    write_interim(&response(head), &mut out);
    assert_eq!(out, b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
}

#[test]
fn a_date_is_written_where_there_is_none_unless_a_rule_sees_to_it() {
    let own = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    let bare = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
    let dated =
        "HTTP/1.1 200 OK\r\ndate: Mon, 30 Nov 2026 23:59:59 GMT\r\nContent-Length: 3\r\n\r\n";
    let untouched = FieldEdits::default();
    assert!(write(bare, &forwarding(&untouched)).contains(own));
    let kept = write(dated, &forwarding(&untouched));
    assert!(
        kept.contains("date: Mon, 30 Nov 2026") && !kept.contains(own),
        "{kept}"
    );
    let removed = FieldEdits::new(&[], &[], &["Date"]).unwrap();
    let set = FieldEdits::new(&[("Date", "x")], &[], &[]).unwrap();
    for edits in [&removed, &set] {
        for head in [bare, dated] {
            let text = write(head, &forwarding(edits));
            assert!(!text.contains("GMT"), "{text}");
        }
    }
}
