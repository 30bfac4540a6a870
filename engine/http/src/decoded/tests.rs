use super::*;

fn read(head: RequestHead<'_>, fields: &[(&str, &str)]) -> Result<String, Refusal> {
    let limits = Limits::default();
    let mut lines = FieldLines::default();
    for (name, value) in fields {
        lines.push(name.as_bytes(), value.as_bytes(), &limits)?;
    }
    let head = RequestHead {
        fields: lines.fields(),
        ..head
    };
    request(&head, &limits).map(|request| {
        format!(
            "{} {} {:?} {:?}",
            request.method,
            request.target.path,
            request.framing,
            request.upgrade.map(|upgrade| upgrade.protocol)
        )
    })
}

const HEAD: RequestHead<'_> = RequestHead {
    method: "GET",
    authority: Some("a.example"),
    path: "/x?y",
    protocol: None,
    fields: Fields::NONE,
    is_end: true,
};

#[test]
fn a_decoded_head_means_what_it_says() {
    let post = RequestHead {
        method: "POST",
        is_end: false,
        ..HEAD
    };
    let websocket = RequestHead {
        method: "CONNECT",
        protocol: Some("websocket"),
        is_end: false,
        ..HEAD
    };
    for (head, fields, expected) in [
        (HEAD, vec![], "GET /x None None"),
        (HEAD, vec![("te", "trailers")], "GET /x None None"),
        (HEAD, vec![("host", "A.example")], "GET /x None None"),
        (post, vec![], "POST /x Chunked None"),
        (
            post,
            vec![("content-length", "3")],
            "POST /x Length(3) None",
        ),
        (websocket, vec![], "GET /x None Some(\"websocket\")"),
    ] {
        assert_eq!(read(head, &fields).as_deref(), Ok(expected), "{fields:?}");
    }
}

/// A head with one more field, and why it is refused.
const FORBIDDEN: &[(RequestHead<'_>, &str, &str, Refusal)] = &[
    (HEAD, "Upper", "x", Refusal::Name),
    (HEAD, "a b", "x", Refusal::Name),
    (HEAD, ":path", "x", Refusal::Name),
    (HEAD, "x", "a\r\nb: c", Refusal::Control),
    (HEAD, "x", "a\0", Refusal::Control),
    (HEAD, "x", " a", Refusal::Control),
    (HEAD, "connection", "close", Refusal::ConnectionField),
    (HEAD, "keep-alive", "1", Refusal::ConnectionField),
    (HEAD, "proxy-connection", "x", Refusal::ConnectionField),
    (
        HEAD,
        "transfer-encoding",
        "chunked",
        Refusal::ConnectionField,
    ),
    (HEAD, "upgrade", "x", Refusal::ConnectionField),
    (HEAD, "te", "gzip", Refusal::ConnectionField),
    (HEAD, "content-length", "3", Refusal::Length),
    (HEAD, "content-length", "+0", Refusal::Length),
    (HEAD, "host", "b.example", Refusal::HostMismatch),
    (HEAD, "expect", "x", Refusal::Expectation),
    (HEAD_OF_NOBODY, "x", "y", Refusal::NoHost),
    (HEAD_OF_USER, "x", "y", Refusal::Host),
    (with_path(""), "x", "y", Refusal::Target),
    (with_path("http://a/"), "x", "y", Refusal::Target),
    (with_path("/a b"), "x", "y", Refusal::Target),
    (with_path("/a\rb"), "x", "y", Refusal::Target),
    (with_method("CONNECT"), "x", "y", Refusal::Connect),
    (with_method("G T"), "x", "y", Refusal::RequestLine),
];

const HEAD_OF_NOBODY: RequestHead<'_> = RequestHead {
    authority: None,
    ..HEAD
};
const HEAD_OF_USER: RequestHead<'_> = RequestHead {
    authority: Some("u@a"),
    ..HEAD
};

const fn with_path(path: &str) -> RequestHead<'_> {
    RequestHead { path, ..HEAD }
}

const fn with_method(method: &str) -> RequestHead<'_> {
    RequestHead { method, ..HEAD }
}

#[test]
fn what_http_2_forbids_is_refused() {
    for (head, name, value, refusal) in FORBIDDEN {
        assert_eq!(
            read(*head, &[(*name, *value)]),
            Err(*refusal),
            "{name}: {value}"
        );
    }
}

#[test]
fn what_is_said_to_a_proxy_has_its_place_in_http_2() {
    assert!(read(HEAD, &[("proxy-authorization", "Basic eA==")]).is_ok());
}

#[test]
fn a_decoded_response_ends_where_its_stream_does() {
    use response::Framing::{Chunked, Length, None};
    let asked = |head| Asked {
        head,
        upgrade: false,
    };
    let limits = Limits::default();
    for (status, head, length, is_end, expected) in [
        (200, false, "", false, Ok(Chunked)),
        (200, false, "3", false, Ok(Length(3))),
        (200, false, "", true, Ok(Length(0))),
        (404, false, "0", true, Ok(Length(0))),
        (205, false, "", true, Ok(Length(0))),
        (204, false, "", true, Ok(None)),
        (304, false, "", true, Ok(None)),
        (200, true, "", true, Ok(None)),
        (200, false, "3", true, Err(Refusal::Length)),
        (200, true, "3", true, Ok(None)),
        (304, false, "3", true, Ok(None)),
        (101, false, "", false, Err(Refusal::UnaskedUpgrade)),
        (600, false, "", true, Ok(Length(0))),
        (1000, false, "", true, Err(Refusal::StatusLine)),
    ] {
        let mut lines = FieldLines::default();
        if !length.is_empty() {
            lines
                .push(b"content-length", length.as_bytes(), &limits)
                .unwrap();
        }
        let read = response(status, lines.fields(), asked(head), is_end);
        assert_eq!(read.map(|response| response.framing), expected, "{status}");
    }
}
