use proptest::prelude::*;

use super::*;

const PLAIN: Asked = Asked {
    head: false,
    upgrade: false,
};
const HEAD: Asked = Asked {
    head: true,
    upgrade: false,
};
const UPGRADE: Asked = Asked {
    head: false,
    upgrade: true,
};

fn response(bytes: &str, asked: Asked) -> Result<Response<'_>, Refusal> {
    match read(
        bytes.as_bytes(),
        asked,
        &Limits::default(),
        &mut Scan::default(),
    ) {
        Reading::Head(response) => Ok(response),
        Reading::Refused(refusal) => Err(refusal),
        Reading::NeedMore => panic!("{bytes:?} is not whole"),
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\n";

/// A status line, fields, what was asked, and what follows from them.
const ENDS: &[(&str, &str, Asked, Framing, bool)] = &[
    (OK, "Content-Length: 3\r\n", PLAIN, Framing::Length(3), true),
    (OK, "Content-Length: 0\r\n", PLAIN, Framing::Length(0), true),
    (
        OK,
        "Transfer-Encoding: chunked\r\n",
        PLAIN,
        Framing::Chunked,
        true,
    ),
    (OK, "", PLAIN, Framing::UntilClose, false),
    (
        OK,
        "Connection: keep-alive\r\n",
        PLAIN,
        Framing::UntilClose,
        false,
    ),
    (
        OK,
        "Content-Length: 3\r\nConnection: close\r\n",
        PLAIN,
        Framing::Length(3),
        false,
    ),
    (OK, "Content-Length: 3\r\n", HEAD, Framing::None, true),
    (
        OK,
        "Transfer-Encoding: chunked\r\n",
        HEAD,
        Framing::None,
        true,
    ),
    (OK, "", HEAD, Framing::None, true),
    (
        "HTTP/1.1 204 No Content\r\n",
        "",
        PLAIN,
        Framing::None,
        true,
    ),
    (
        "HTTP/1.1 204 No Content\r\n",
        "Content-Length: 0\r\n",
        PLAIN,
        Framing::None,
        true,
    ),
    (
        "HTTP/1.1 204 No Content\r\n",
        "Content-Length: 3\r\n",
        PLAIN,
        Framing::None,
        false,
    ),
    (
        "HTTP/1.1 204 x\r\n",
        "Transfer-Encoding: chunked\r\n",
        PLAIN,
        Framing::None,
        false,
    ),
    (
        "HTTP/1.1 304 Not Modified\r\n",
        "Content-Length: 9\r\n",
        PLAIN,
        Framing::None,
        true,
    ),
    ("HTTP/1.1 100 Continue\r\n", "", PLAIN, Framing::None, true),
    (
        "HTTP/1.1 101 Switching\r\n",
        "Upgrade: x\r\n",
        UPGRADE,
        Framing::None,
        true,
    ),
    (
        "HTTP/1.0 200 OK\r\n",
        "Content-Length: 3\r\n",
        PLAIN,
        Framing::Length(3),
        false,
    ),
    (
        "HTTP/1.0 200 OK\r\n",
        "Content-Length: 3\r\nConnection: keep-alive\r\n",
        PLAIN,
        Framing::Length(3),
        true,
    ),
];

#[test]
fn content_ends_where_status_method_and_fields_say() {
    for (start, lines, asked, framing, keep_alive) in ENDS {
        let head = format!("{start}{lines}\r\n");
        let response = response(&head, *asked).unwrap();
        assert_eq!(
            (response.framing, response.keep_alive),
            (*framing, *keep_alive),
            "{head}"
        );
        assert_eq!(response.head_len, head.len());
    }
}

#[test]
fn interim_and_switching_responses_are_told_apart() {
    let interim = response("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", PLAIN).unwrap();
    assert!(interim.is_interim() && !interim.is_upgrade());
    let switching = response("HTTP/1.1 101 x\r\nUpgrade: y\r\n\r\n", UPGRADE).unwrap();
    assert!(switching.is_upgrade() && !switching.is_interim());
    let bare = response("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", PLAIN).unwrap();
    assert_eq!((bare.status, bare.reason), (200, ""));
}

/// Heads, and why each is refused.
const REFUSED: &[(&str, Refusal)] = &[
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        Refusal::LengthAndCoding,
    ),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
        Refusal::SeveralLengths,
    ),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 03\r\n\r\n",
        Refusal::SeveralLengths,
    ),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 3, 4\r\n\r\n",
        Refusal::SeveralLengths,
    ),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 3,\r\n\r\n",
        Refusal::SeveralLengths,
    ),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\
             Transfer-Encoding: chunked\r\n\r\n",
        Refusal::LengthAndCoding,
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        Refusal::Coding,
    ),
    (
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        Refusal::CodingVersion,
    ),
    (
        "HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
        Refusal::SpaceBeforeColon,
    ),
    ("HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n", Refusal::ObsFold),
    ("HTTP/1.1 200 OK\r\n X: y\r\n\r\n", Refusal::ObsFold),
    ("HTTP/1.1 200 OK\r\nX: y\nZ: a\r\n\r\n", Refusal::BareLf),
    ("HTTP/1.1 200 OK\nX: y\n\r\n", Refusal::BareLf),
    ("HTTP/1.1 200 OK\n\n", Refusal::BareLf),
    ("HTTP/1.1 200 O\rK\nX: y\r\n\r\n", Refusal::StatusLine),
    ("HTTP/1.1 200 OK\r\nX: y\rZ: a\r\n\r\n", Refusal::BareCr),
    ("HTTP/1.1 200 OK\r\nX\0: y\r\n\r\n", Refusal::Name),
    ("HTTP/1.1 200 OK\r\nX: \0\r\n\r\n", Refusal::Control),
    ("\r\nHTTP/1.1 200 OK\r\n\r\n", Refusal::EmptyLine),
    ("HTTP/1.1 099 x\r\n\r\n", Refusal::StatusLine),
    ("HTTP/1.1 20 x\r\n\r\n", Refusal::StatusLine),
    ("HTTP/1.1 2000 x\r\n\r\n", Refusal::StatusLine),
    ("HTTP/1.1  200 x\r\n\r\n", Refusal::StatusLine),
    ("HTTP/1.1 200\tx\r\n\r\n", Refusal::StatusLine),
    ("HTTP/1.1 200 x\0\r\n\r\n", Refusal::StatusLine),
    ("HTTP/2.0 200 OK\r\n\r\n", Refusal::StatusLine),
    ("HTTP/1.10 200 OK\r\n\r\n", Refusal::StatusLine),
    ("HTTP/1.2  200 OK\r\n\r\n", Refusal::StatusLine),
    ("HTTP/1.2 099 Odd\r\n\r\n", Refusal::StatusLine),
    (
        "HTTP/1.2 200 OK\r\nA : b\r\n\r\n",
        Refusal::SpaceBeforeColon,
    ),
    (
        "HTTP/1.2 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        Refusal::SeveralLengths,
    ),
    ("ICY 200 OK\r\n\r\n", Refusal::StatusLine),
    (
        "HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n",
        Refusal::UnaskedUpgrade,
    ),
];

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    for (head, expected) in REFUSED {
        assert_eq!(response(head, PLAIN).err(), Some(*expected), "{head:?}");
    }
}

#[test]
fn what_has_one_meaning_is_taken_though_it_is_badly_written() {
    for (head, status, framing) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
            200,
            Framing::Length(3),
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 3, 3 ,3\r\nContent-Length: 3, 3 ,3\r\n\r\n",
            200,
            Framing::Length(3),
        ),
        (
            "HTTP/1.1 200 OK\nContent-Length: 3\r\n\r\n",
            200,
            Framing::Length(3),
        ),
        (
            "HTTP/1.2 200 OK\r\nContent-Length: 3\r\n\r\n",
            200,
            Framing::Length(3),
        ),
        (
            "HTTP/1.9 404\nContent-Length: 3\r\n\r\n",
            404,
            Framing::Length(3),
        ),
        (
            "HTTP/1.1 200\nContent-Length: 3\r\n\r\n",
            200,
            Framing::Length(3),
        ),
        (
            "HTTP/1.1 600 x\r\nContent-Length: 3\r\n\r\n",
            600,
            Framing::Length(3),
        ),
        ("HTTP/1.1 999 x\r\n\r\n", 999, Framing::UntilClose),
    ] {
        let response = response(head, PLAIN).unwrap();
        assert_eq!(
            (response.status, response.framing),
            (status, framing),
            "{head:?}"
        );
        assert_eq!(response.head_len, head.len());
        let named = |name: &str| response.fields.into_iter().any(|field| field.is(name));
        assert_eq!(
            named("content-length"),
            framing != Framing::UntilClose,
            "{head:?}"
        );
    }
}

#[test]
fn an_upstream_says_how_long_it_keeps_a_connection() {
    for (value, seconds) in [
        ("timeout=5", Some(5)),
        ("max=100, Timeout=30", Some(30)),
        ("timeout=0", Some(0)),
        ("timeout=", None),
        ("timeout=-1", None),
        ("timeout=99999999999", None),
        ("max=100", None),
        ("", None),
    ] {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nKeep-Alive: {value}\r\n\r\n");
        assert_eq!(
            response(&head, PLAIN).unwrap().rests_for,
            seconds,
            "{value}"
        );
    }
}

proptest! {
    #[test]
    fn a_verdict_depends_on_the_bytes_and_not_on_how_they_were_cut(
        noise in proptest::collection::vec(any::<u8>(), 0..40),
        cut in 0_usize..90,
    ) {
        let head = [b"HTTP/1.1 200 OK\r\nX: y\r\n", noise.as_slice(), b"\r\nContent-Length: 3\r\n\r\nabc"];
        let bytes = head.concat();
        let limits = Limits::default();
        let at_once = format!("{:?}", read(&bytes, PLAIN, &limits, &mut Scan::default()));
        let mut scan = Scan::default();
        let first = read(&bytes[..cut.min(bytes.len())], PLAIN, &limits, &mut scan);
        let first = format!("{first:?}");
        prop_assert!(first == "NeedMore" || first == at_once);
        prop_assert_eq!(format!("{:?}", read(&bytes, PLAIN, &limits, &mut scan)), at_once);
    }
}
