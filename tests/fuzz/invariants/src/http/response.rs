use std::time::Duration;

use engine_http::{
    date::HttpDate,
    edit::FieldEdits,
    forward::{ResponseForwarding, write_interim, write_response},
    limits::Limits,
    method::Version,
    reading::Reading,
    response::{Asked, Framing, Response, read},
    scan::Scan,
};

use super::{ID, plain::Plain};
use crate::{Input, assert_same_in_segments};

/// Reads `input` as the beginning of an answer, and passes it on. The first length says what was
/// asked: 1 for HEAD, 2 for an upgrade.
///
/// # Panics
/// Where the verdict depends on how the bytes are cut, or on what follows the head; where what is
/// passed on is not exactly one answer that means the same.
pub fn response(input: &[u8]) {
    let input = Input::parse(input);
    let first = input.lens().next().unwrap_or(0);
    let asked = Asked {
        head: first & 1 == 1,
        upgrade: first & 2 == 2,
    };
    let at_once = |bytes| read(bytes, asked, &Limits::default(), &mut Scan::default());
    let shown = |reading: &Reading<Response<'_>>| format!("{reading:?}");
    let whole = at_once(input.bytes);
    let need_more = shown(&Reading::NeedMore);
    let mut scan = Scan::default();
    assert_same_in_segments(&input, &need_more, &shown(&whole), |seen| {
        shown(&read(seen, asked, &Limits::default(), &mut scan))
    });
    let Reading::Head(response) = whole else {
        return;
    };
    let alone = &input.bytes[..response.head_len];
    assert_eq!(shown(&at_once(alone)), shown(&whole));
    assert_eq!(shown(&at_once(&alone[..alone.len() - 1])), need_more);

    let mut out = Vec::new();
    if response.is_interim() {
        assert_eq!(response.framing, Framing::None);
        write_interim(&response, &mut out);
        let plain = Plain::split(&out);
        assert_eq!(plain.framing(), None, "an interim answer has no content");
        assert!(plain.all("connection").is_empty());
    } else {
        let edits = FieldEdits::default();
        let forwarding = ResponseForwarding {
            version: Version::Http11,
            keep_alive: response.framing != Framing::UntilClose,
            framing: response.framing,
            request_id: ID,
            edits: &edits,
            hsts: None,
            set_cookie: None,
            date: HttpDate::of(Duration::ZERO),
        };
        write_response(&response, &forwarding, &mut out);
    }
    let Reading::Head(again) = at_once(&out) else {
        panic!(
            "what was written is refused: {:?}",
            String::from_utf8_lossy(&out)
        );
    };
    assert_same_meaning(&response, &again, &out);
}

fn assert_same_meaning(response: &Response<'_>, again: &Response<'_>, out: &[u8]) {
    assert_eq!(again.head_len, out.len(), "something follows the head");
    assert_eq!(again.status, response.status);
    assert_eq!(again.framing, response.framing);
    assert_eq!(again.is_upgrade(), response.is_upgrade());
    let plain = Plain::split(out);
    assert!(
        plain
            .line
            .starts_with(&format!("HTTP/1.1 {} ", response.status))
    );
    if !response.is_interim() {
        assert_eq!(plain.one("x-request-id"), ID.as_bytes());
    }
    match (plain.framing(), response.framing) {
        (Some(Some(length)), Framing::Length(same)) => assert_eq!(length, same),
        // What the content would be, for HEAD and 304.
        (Some(Some(length)), Framing::None) => assert_eq!(Some(length), response.length),
        (Some(None), Framing::Chunked) | (None, Framing::None | Framing::UntilClose) => {}
        (written, meant) => panic!("{written:?} for {meant:?}"),
    }
    let cookies = |fields: &mut dyn Iterator<Item = &[u8]>| fields.count();
    let before = cookies(&mut response.fields.all("set-cookie"));
    if !response.connection.names {
        assert_eq!(plain.all("set-cookie").len(), before, "a cookie is lost");
    }
}
