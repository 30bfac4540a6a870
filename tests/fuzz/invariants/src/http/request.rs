use engine_http::{
    edit::{FieldEdits, Rewrite},
    facts::Framing,
    limits::Limits,
    reading::Reading,
    refusal::Refusal,
    request::{Request, read as read_on},
    scan::Scan,
};

use super::{ID, pass, plain::Plain, read};
use crate::{Input, assert_same_in_segments};

/// Fields that are of one connection, or that only the gateway writes, with `-` and `_` alike.
const NEVER_PASSED: [&str; 9] = [
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "http2-settings",
    "x-forwarded-port",
    "x-forwarded-server",
    "trailers",
    "x-forwarded",
];

/// Reads `input` as the beginning of a request, and passes it on.
///
/// # Panics
/// Where the verdict depends on how the bytes are cut, or on what follows the head; where what is
/// passed on is not exactly one request that means the same.
pub fn request(input: &[u8]) {
    let input = Input::parse(input);
    let whole = read(input.bytes);
    let shown = |reading: &Reading<Request<'_>>| format!("{reading:?}");
    let mut scan = Scan::default();
    let need_more = shown(&Reading::NeedMore);
    assert_same_in_segments(&input, &need_more, &shown(&whole), |seen| {
        shown(&read_on(seen, &Limits::default(), &mut scan))
    });
    let Reading::Head(request) = whole else {
        return;
    };
    // What follows does not matter, nor does what lacks the last byte.
    let alone = &input.bytes[..request.head_len];
    assert_eq!(shown(&read(alone)), shown(&whole));
    assert_eq!(shown(&read(&alone[..alone.len() - 1])), need_more);
    assert_limits_hold(alone, &input);

    let trusted = input.lens().next().is_some_and(|len| len % 2 == 1);
    if let Some(out) = pass(
        &request,
        trusted,
        &FieldEdits::default(),
        &Rewrite::default(),
    ) {
        assert_same_meaning(&request, &out);
        assert_clean(&request, &out, trusted);
    }
}

fn assert_limits_hold(head: &[u8], input: &Input<'_>) {
    let head_bytes_max = input.lens().next().unwrap_or(1).min(head.len());
    let limits = Limits {
        head_bytes_max,
        ..Limits::default()
    };
    let reading = read_on(head, &limits, &mut Scan::default());
    let refused = matches!(reading, Reading::Refused(Refusal::HeadTooLong));
    assert!(refused || head_bytes_max == head.len(), "{reading:?}");
}

/// What left is one whole head, to us and to who just splits it, and says what the request said.
fn assert_same_meaning(request: &Request<'_>, out: &[u8]) {
    let Reading::Head(again) = read(out) else {
        panic!(
            "what was written is refused: {:?}",
            String::from_utf8_lossy(out)
        );
    };
    assert_eq!(again.head_len, out.len(), "something follows the head");
    assert_eq!(again.method, request.method);
    assert_eq!(again.framing, request.framing);
    assert_eq!(again.target.query, request.target.query);
    assert_eq!(again.upgrade, request.upgrade);
    assert_eq!(again.expects_continue, request.expects_continue);
    assert!(again.keep_alive, "the upstream is told to close");
    if let (Some(sent), Some(asked)) = (again.host, request.host) {
        assert_eq!(sent.as_str(), asked.as_str());
    }
    let plain = Plain::split(out);
    let words: Vec<&str> = plain.line.split(' ').collect();
    let query = request.target.query.map(|query| format!("?{query}"));
    let [method, target, "HTTP/1.1"] = *words else {
        panic!("{:?}", plain.line);
    };
    assert_eq!(method, request.method.as_str());
    assert!(target.ends_with(&query.unwrap_or_default()));
    assert_eq!(
        plain.framing(),
        match request.framing {
            Framing::None => None,
            Framing::Length(length) => Some(Some(length)),
            Framing::Chunked => Some(None),
        }
    );
}

/// Every field that left is the client's own, or one that the gateway writes, once.
fn assert_clean(request: &Request<'_>, out: &[u8], trusted: bool) {
    let plain = Plain::split(out);
    for name in ["host", "x-forwarded-for", "x-real-ip", "forwarded"] {
        plain.one(name);
    }
    assert_eq!(plain.one("x-request-id"), ID.as_bytes());
    if !trusted {
        assert_eq!(plain.one("x-forwarded-for"), b"192.0.2.7");
        assert_eq!(plain.one("x-forwarded-proto"), b"http");
    }
    for (name, value) in &plain.fields {
        let dashed = name.replace('_', "-");
        let is_trusted = trusted && dashed.starts_with("x-forwarded");
        assert!(
            is_trusted || !NEVER_PASSED.contains(&&*dashed),
            "{name} is passed on"
        );
        if dashed != *name {
            let is_ours = dashed.starts_with("x-forwarded") || dashed == "content-length";
            assert!(!is_ours, "{name} looks like {dashed}");
        }
        let is_named = request.fields.all("connection").any(|options| {
            let mut options = options.split(|byte| *byte == b',');
            options.any(|it| it.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
        });
        let is_written = matches!(
            name.as_str(),
            "host"
                | "x-forwarded-for"
                | "x-forwarded-proto"
                | "x-forwarded-host"
                | "x-real-ip"
                | "forwarded"
                | "x-request-id"
                | "content-length"
                | "transfer-encoding"
                | "expect"
                | "upgrade"
                | "te"
                | "connection"
        );
        assert!(is_written || !is_named, "{name} ends at this hop");
        let of_client = request
            .fields
            .all(name)
            .any(|own| own.trim_ascii() == *value);
        assert!(is_written || of_client, "{name} came from nowhere");
    }
}
