//! Requests that two servers read in two ways: refused, and nothing of them reaches an upstream.
//!
//! Each one is followed by another request, as a smuggler would: had the gateway taken the first for
//! something else, it would show up there.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tests::{
    http::{self, Content, Message, Then, Upstream, Wire, reply},
    lab::Lab,
    runner::Test,
    stream, tests,
};

use crate::{NAME, serve};

pub(crate) const TESTS: &[Test] = tests![
    heads_with_two_readings_are_refused_and_go_nowhere,
    content_with_two_readings_never_looks_whole_to_an_upstream,
    paths_arrive_in_their_strict_reading_or_not_at_all,
    refusals_are_the_same_however_the_bytes_are_cut,
];

fn ok(_: &Message, wire: &mut Wire) -> Result<Then> {
    wire.send(reply("200 OK", "", "ok"))?;
    Ok(Then::Next)
}

/// What would be smuggled.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: blue.example\r\n\r\n";

/// Field lines behind Host of a POST, and the status.
const FIELDS: &[(&str, u16)] = &[
    // Two framings (RFC 9112 section 6.3).
    ("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", 400),
    ("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", 400),
    ("Transfer-Encoding: chunked\r\ncontent-length: 0\r\n", 400),
    ("Content-Length: 4\r\nContent-Length: 5\r\n", 400),
    ("Content-Length: 4\r\nContent-Length: 4\r\n", 400),
    ("Content-Length: 4, 4\r\n", 400),
    ("Content-Length: 4 5\r\n", 400),
    ("Content-Length: +4\r\n", 400),
    ("Content-Length: -1\r\n", 400),
    ("Content-Length: 0x4\r\n", 400),
    ("Content-Length: 4.0\r\n", 400),
    ("Content-Length:\r\n", 400),
    ("Content-Length: 18446744073709551620\r\n", 400),
    (
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        400,
    ),
    (
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        400,
    ),
    ("Transfer-Encoding: chunked, identity\r\n", 501),
    ("Transfer-Encoding: identity, chunked\r\n", 501),
    ("Transfer-Encoding: gzip, chunked\r\n", 501),
    ("Transfer-Encoding: identity\r\n", 501),
    ("Transfer-Encoding: xchunked\r\n", 501),
    ("Transfer-Encoding: chunked;q=1\r\n", 501),
    ("Transfer-Encoding: \"chunked\"\r\n", 501),
    ("Transfer-Encoding: ,chunked\r\n", 501),
    ("Transfer-Encoding: \u{b}chunked\r\n", 400),
    ("Transfer-Encoding:\u{a0}chunked\r\n", 501),
    // Names, colons, folds (RFC 9112 sections 5.1 and 5.2).
    ("Transfer-Encoding : chunked\r\n", 400),
    ("Content-Length\t: 4\r\n", 400),
    ("Content-Length\u{0}: 4\r\n", 400),
    (" Content-Length: 4\r\n", 400),
    ("X: y\r\n Transfer-Encoding: chunked\r\n", 400),
    ("X: y\r\n\tz\r\n", 400),
    ("Transfer-Encoding:\r\n chunked\r\n", 400),
    (": y\r\n", 400),
    ("X\r\n", 400),
    ("X[]: y\r\n", 400),
    ("X y: z\r\n", 400),
    ("\u{e4}: y\r\n", 400),
    // Lines and octets (RFC 9112 section 2.2, RFC 9110 section 5.5).
    ("X: y\nContent-Length: 4\r\n", 400),
    ("X: y\rContent-Length: 4\r\n", 400),
    ("X: y\r\r\n", 400),
    ("X: \u{0}\r\n", 400),
    ("X: y\u{7f}\r\n", 400),
    ("X: y\u{1b}[2J\r\n", 400),
    ("X: y\n\r\nGET /smuggled HTTP/1.1\r\nX: y\r\n", 400),
    // Hosts (RFC 9112 section 3.2).
    ("Host: green.example\r\n", 400),
    ("hOST: blue.example\r\n", 400),
    ("Host : green.example\r\n", 400),
    ("Expect: 200-ok\r\n", 417),
];

/// Request lines with fields behind them, and the status.
const LINES: &[(&str, u16)] = &[
    (
        "GET http://green.example/ HTTP/1.1\r\nHost: blue.example\r\n",
        400,
    ),
    (
        "GET http://blue.example:81/ HTTP/1.1\r\nHost: blue.example\r\n",
        400,
    ),
    (
        "GET http://blue.example@green.example/ HTTP/1.1\r\nHost: blue.example\r\n",
        400,
    ),
    (
        "GET ftp://blue.example/ HTTP/1.1\r\nHost: blue.example\r\n",
        400,
    ),
    ("GET blue.example HTTP/1.1\r\nHost: blue.example\r\n", 400),
    ("GET / HTTP/1.1\r\n", 400),
    ("GET / HTTP/1.1\r\nHost:\r\n", 400),
    (
        "GET / HTTP/1.1\r\nHost: blue.example, green.example\r\n",
        400,
    ),
    ("GET / HTTP/1.1\r\nHost: blue.example/x\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: user@blue.example\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: blue.example:http\r\n", 400),
    (
        "GET / HTTP/1.1\r\nHost: blue.example green.example\r\n",
        400,
    ),
    ("GET  / HTTP/1.1\r\nHost: blue.example\r\n", 400),
    ("GET / HTTP/1.1 \r\nHost: blue.example\r\n", 400),
    ("GET\t/\tHTTP/1.1\r\nHost: blue.example\r\n", 400),
    ("GET /a b HTTP/1.1\r\nHost: blue.example\r\n", 400),
    ("GET /\u{e4} HTTP/1.1\r\nHost: blue.example\r\n", 400),
    ("GET /\u{0} HTTP/1.1\r\nHost: blue.example\r\n", 400),
    ("GET /a#b HTTP/1.1\r\nHost: blue.example\r\n", 400),
    ("GET / http/1.1\r\nHost: blue.example\r\n", 400),
    ("GET / HTTP/1.10\r\nHost: blue.example\r\n", 400),
    ("GET /\r\nHost: blue.example\r\n", 400),
    ("GET / HTTP/2.0\r\nHost: blue.example\r\n", 505),
    ("GET / HTTP/0.9\r\nHost: blue.example\r\n", 505),
    (
        "POST / HTTP/1.0\r\nHost: blue.example\r\nTransfer-Encoding: chunked\r\n",
        400,
    ),
    (
        "TRACE / HTTP/1.1\r\nHost: blue.example\r\nContent-Length: 1\r\n",
        400,
    ),
    (
        "CONNECT blue.example:80 HTTP/1.1\r\nHost: blue.example\r\n",
        501,
    ),
    ("G(T / HTTP/1.1\r\nHost: blue.example\r\n", 400),
    (" GET / HTTP/1.1\r\nHost: blue.example\r\n", 400),
    ("\r\n\r\nGET / HTTP/1.1\r\nHost: blue.example\r\n", 400),
    ("\nGET / HTTP/1.1\r\nHost: blue.example\r\n", 400),
];

fn heads() -> impl Iterator<Item = (String, u16)> {
    let fields = FIELDS.iter().map(|(lines, status)| {
        (
            format!("POST / HTTP/1.1\r\nHost: {NAME}\r\n{lines}\r\n"),
            *status,
        )
    });
    fields.chain(
        LINES
            .iter()
            .map(|(lines, status)| (format!("{lines}\r\n"), *status)),
    )
}

/// Sends bytes after a request that is in order, so that the connection and its upstream's are in
/// use; answers how it went on: one answer, and the end.
fn refused(before: &str, bytes: &[u8]) -> Result<Message> {
    let mut client = http::dial()?;
    client.ask(before)?.expect(200)?;
    client.send(bytes)?;
    let answer = client.answer("GET")?;
    ensure!(answer.closes(), "the connection goes on: {answer:?}");
    let (mut stream, ahead) = client.into_parts();
    ensure!(
        ahead.is_empty(),
        "another answer: {}",
        String::from_utf8_lossy(&ahead)
    );
    stream::half_close(&stream)?;
    ensure!(stream::read_to_any_end(&mut stream)? == 0, "another answer");
    Ok(answer)
}

/// Nothing but the requests that are in order.
fn only_controls(upstream: &Upstream) -> Result<()> {
    for asked in upstream.asked() {
        let request = &asked.request;
        ensure!(
            request.target() == "/control" && request.method() == "GET" && asked.is_whole,
            "{asked:?}"
        );
    }
    Ok(())
}

fn heads_with_two_readings_are_refused_and_go_nowhere(lab: &mut Lab) -> Result<()> {
    let (upstream, _gateway) = serve(lab, json!({}), ok)?;
    let control = http::request("GET", NAME, "/control", "");
    let mut count = 0;
    for (head, status) in heads() {
        for content in ["", "0\r\n\r\n", "1234"] {
            let bytes = format!("{head}{content}{SMUGGLED}");
            let answer =
                refused(&control, bytes.as_bytes()).with_context(|| format!("{bytes:?}"))?;
            ensure!(answer.status()? == status, "{}: {bytes:?}", answer.line);
            count += 1;
        }
    }
    only_controls(&upstream)?;
    ensure!(
        upstream.asked().len() == count,
        "{} of {count}",
        upstream.asked().len()
    );
    ensure!(
        upstream.connections() == 1,
        "a refused request used a connection up"
    );
    Ok(())
}

/// Chunked content that breaks a rule of RFC 9112 section 7.1.
const CHUNKS: &[&str] = &[
    "zz\r\nabc\r\n0\r\n\r\n",
    "\r\nabc\r\n0\r\n\r\n",
    " 3\r\nabc\r\n0\r\n\r\n",
    "3 \r\nabc\r\n0\r\n\r\n",
    "+3\r\nabc\r\n0\r\n\r\n",
    "-3\r\nabc\r\n0\r\n\r\n",
    "0x3\r\nabc\r\n0\r\n\r\n",
    "3\nabc\r\n0\r\n\r\n",
    "3\rabc\r\n0\r\n\r\n",
    "3\r\nabc\n0\r\n\r\n",
    "3\r\nabcd\r\n0\r\n\r\n",
    "3\r\nab\r\n0\r\n\r\n",
    "3\r\nabc0\r\n\r\n",
    "00000000000000003\r\nabc\r\n0\r\n\r\n",
    "10000000000000003\r\nabc\r\n0\r\n\r\n",
    "3;a\nb\r\nabc\r\n0\r\n\r\n",
    "3;\u{0}\r\nabc\r\n0\r\n\r\n",
    "3\r\nabc\r\n0\r\nX y: z\r\n\r\n",
    "3\r\nabc\r\n0\r\nX : z\r\n\r\n",
    "3\r\nabc\r\n0\r\nX: y\r\n z\r\n\r\n",
    "3\r\nabc\r\n0\r\nX: y\n\r\n",
    "3\r\nabc\r\n0\r\nX\r\n\r\n",
    "3\r\nabc\r\n0\n\r\n",
    "3\r\nabc\r\n0\r\n\n",
];

fn content_with_two_readings_never_looks_whole_to_an_upstream(lab: &mut Lab) -> Result<()> {
    let (upstream, _gateway) = serve(lab, json!({}), ok)?;
    for chunks in CHUNKS {
        let head = http::request("POST", NAME, "/chunks", "Transfer-Encoding: chunked\r\n");
        let mut client = http::dial()?;
        client.send(format!("{head}{chunks}{SMUGGLED}"))?;
        // Its head may be on its way to the upstream already; an answer is one, and the last.
        let answer = client
            .answer("POST")
            .with_context(|| format!("{chunks:?}"))?;
        answer.expect(400).with_context(|| format!("{chunks:?}"))?;
        ensure!(answer.closes(), "{chunks:?}: {answer:?}");
        client.expect_end().with_context(|| format!("{chunks:?}"))?;
    }
    let extension = format!("3;{}\r\nabc\r\n0\r\n\r\n", "x".repeat(300));
    let trailers = format!("0\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    for (content, status) in [(extension, 400), (trailers, 431)] {
        let head = http::request("POST", NAME, "/chunks", "Transfer-Encoding: chunked\r\n");
        http::ask(format!("{head}{content}"))?.expect(status)?;
    }
    http::get(NAME, "/control")?.expect(200)?;
    for asked in upstream.asked() {
        let is_control = asked.request.target() == "/control";
        ensure!(asked.is_whole == is_control, "{asked:?}");
        ensure!(asked.request.target() != "/smuggled", "{asked:?}");
        if !is_control {
            ensure!(Content::of_request(&asked.request)? == Content::Chunked);
        }
    }
    Ok(())
}

fn paths_arrive_in_their_strict_reading_or_not_at_all(lab: &mut Lab) -> Result<()> {
    let (upstream, _gateway) = serve(lab, json!({}), ok)?;
    for (path, arrives) in [
        ("/a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/%2e%2E/b", "/b"),
        ("/%61%7e%2D", "/a~-"),
        ("/a%2fb", "/a%2Fb"),
        ("/a//b", "/a//b"),
        ("/a;x=1/b", "/a;x=1/b"),
        ("/%e2%82%ac", "/%E2%82%AC"),
        ("/a?b=%zz/../c", "/a?b=%zz/../c"),
        ("http://blue.example/a/../b?c", "/b?c"),
        ("http://blue.example", "/"),
    ] {
        http::ask(http::request("GET", NAME, path, ""))?.expect(200)?;
        let asked = upstream.last()?;
        ensure!(asked.target() == arrives, "{path}: {}", asked.target());
    }
    // Where the request ends is known, so the connection may go on.
    let mut client = http::dial()?;
    let count = upstream.asked().len();
    for path in [
        "/%00",
        "/%zz",
        "/%",
        "/../x",
        "/a/../../x",
        "/%2e%2e/x",
        "/\\x",
    ] {
        let refused = client.ask(http::request("GET", NAME, path, ""))?;
        refused.expect(400)?;
        ensure!(!refused.closes(), "{path}: {refused:?}");
    }
    ensure!(
        upstream.asked().len() == count,
        "a path without meaning arrived"
    );
    Ok(())
}

fn refusals_are_the_same_however_the_bytes_are_cut(lab: &mut Lab) -> Result<()> {
    let (upstream, _gateway) = serve(lab, json!({}), ok)?;
    for (head, status) in heads() {
        // In two pieces, the cut in front of the last line: whatever is ambiguous comes later.
        let cut = head.len() - 2 - head.len() % 9;
        let (first, last) = head.as_bytes().split_at(cut);
        let mut client = http::dial()?;
        client.send(first)?;
        // It may be refused already.
        let _ = client.send(last);
        let answer = client.answer("GET").with_context(|| format!("{head:?}"))?;
        ensure!(answer.status()? == status, "{}: {head:?}", answer.line);
    }
    ensure!(upstream.asked().is_empty(), "{:?}", upstream.asked());
    Ok(())
}
