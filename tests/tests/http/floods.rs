//! HTTP/2 as it is abused: each abuse ends its own connection, holds little memory, and nobody else
//! notices.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tests::{
    gateway::Gateway,
    h2::{ACK, Connection, END_HEADERS, END_STREAM, Frame, get, head, kind},
    http::{self, Message, Then, Wire, reply},
    lab::{GATEWAY, Lab},
    leak,
    runner::Test,
    tests,
};

use crate::{NAME, serve};

pub(crate) const TESTS: &[Test] = tests![
    streams_that_are_reset_at_once_end_the_connection,
    heads_without_end_end_the_connection,
    questions_without_end_are_not_all_answered,
    a_small_head_that_unfolds_is_refused,
    answers_that_nobody_takes_are_not_kept,
    malformed_requests_reach_nobody,
    frames_out_of_order_end_the_connection,
];

/// Memory that the first connections may take: the allocator fills each kind of page that is used for
/// the first time in huge pages of 2 MiB.
const SLACK: u64 = 64 << 20;

/// RFC 9113 section 7: the other side behaves so as to cost much.
const ENHANCE_YOUR_CALM: u32 = 11;

fn ok(_: &Message, wire: &mut Wire) -> Result<Then> {
    wire.send(reply("200 OK", "", "ok"))?;
    Ok(Then::Next)
}

/// Does something to the gateway while somebody else is served; answers how much memory it took.
fn beside(gateway: &Gateway, abuse: impl FnOnce() -> Result<()>) -> Result<()> {
    let before = leak::memory(gateway.process())?;
    let mut other = http::dial()?;
    let mut ask = || {
        other
            .ask(http::request("GET", NAME, "/other", ""))?
            .expect(200)
            .map(drop)
    };
    ask()?;
    abuse()?;
    let began = Instant::now();
    ask().context("somebody else")?;
    ensure!(
        began.elapsed() < Duration::from_secs(2),
        "somebody else waits"
    );
    let grown = leak::memory(gateway.process())?.saturating_sub(before);
    ensure!(grown < SLACK, "{grown} bytes more");
    Ok(())
}

/// Sends frames until the connection ends or `most` were sent; answers the last word of the gateway,
/// if there was one, and how many frames it took.
fn pour(
    connection: &mut Connection,
    most: usize,
    mut frames: impl FnMut(usize) -> Vec<u8>,
) -> Result<(Option<Frame>, usize)> {
    let mut sent = 0;
    while sent < most && connection.send_bytes(&frames(sent)).is_ok() {
        sent += 1;
    }
    let last = connection.wait_for(|frame| frame.kind == kind::GOAWAY)?;
    Ok((last, sent))
}

fn streams_that_are_reset_at_once_end_the_connection(lab: &mut Lab) -> Result<()> {
    let (upstream, gateway) = serve(lab, json!({}), ok)?;
    beside(&gateway, || {
        let mut connection = Connection::open(GATEWAY, &[])?;
        let block = head(&get(NAME, "/reset"));
        let (last, _) = pour(&mut connection, 20_000, |number| {
            let stream = u32::try_from(number * 2 + 1).unwrap_or(u32::MAX);
            let open = Frame::new(kind::HEADERS, END_HEADERS | END_STREAM, stream, &*block);
            let reset = Frame::new(kind::RST_STREAM, 0, stream, 8_u32.to_be_bytes());
            [open.bytes(), reset.bytes()].concat()
        })?;
        if let Some(last) = last {
            ensure!(last.code() == Some(ENHANCE_YOUR_CALM), "{last:?}");
        }
        Ok(())
    })?;
    // CVE-2023-44487: what matters is what it costs behind the gateway.
    let count = upstream.asked().len();
    ensure!(count < 2_000, "{count} requests reached the upstream");
    Ok(())
}

fn heads_without_end_end_the_connection(lab: &mut Lab) -> Result<()> {
    let (upstream, gateway) = serve(lab, json!({}), ok)?;
    for piece in [
        vec![],
        head(&[("x", "y")]),
        head(&[("x", &"y".repeat(10_000))]),
    ] {
        beside(&gateway, || {
            let mut connection = Connection::open(GATEWAY, &[])?;
            let open = Frame::new(kind::HEADERS, END_STREAM, 1, head(&get(NAME, "/endless")));
            connection.send(&open)?;
            let go_on = Frame::new(kind::CONTINUATION, 0, 1, &*piece).bytes();
            let (last, sent) = pour(&mut connection, 200_000, |_| go_on.clone())?;
            ensure!(sent < 200_000 || last.is_some(), "it goes on for ever");
            Ok(())
        })
        .with_context(|| format!("pieces of {} bytes", piece.len()))?;
    }
    ensure!(
        upstream
            .asked()
            .iter()
            .all(|asked| asked.request.target() == "/other")
    );
    Ok(())
}

fn questions_without_end_are_not_all_answered(lab: &mut Lab) -> Result<()> {
    let (_upstream, gateway) = serve(lab, json!({}), ok)?;
    for question in [
        Frame::new(kind::PING, 0, 0, [0; 8]),
        Frame::new(kind::SETTINGS, 0, 0, [0, 3, 0, 0, 0, 100]),
        Frame::new(kind::SETTINGS, 0, 0, []),
    ] {
        beside(&gateway, || {
            let mut connection = Connection::open(GATEWAY, &[])?;
            // Nothing that comes back is read: the answers must not pile up.
            connection
                .socket()
                .set_write_timeout(Some(Duration::from_millis(700)))?;
            let many = question.bytes().repeat(100);
            let mut sent = 0;
            while sent < 20_000 && connection.send_bytes(&many).is_ok() {
                sent += 1;
            }
            ensure!(sent < 20_000, "two million questions were taken");
            Ok(())
        })
        .with_context(|| format!("{question:?}"))?;
    }
    Ok(())
}

fn a_small_head_that_unfolds_is_refused(lab: &mut Lab) -> Result<()> {
    let (upstream, gateway) = serve(lab, json!({}), ok)?;
    beside(&gateway, || {
        let mut connection = Connection::open(GATEWAY, &[])?;
        let mut block = head(&get(NAME, "/bomb"));
        // A literal with indexing (RFC 7541 section 6.2.1), then its index over and over.
        let value = "y".repeat(3000);
        let mut literal = head(&[("x", &value)]);
        literal[0] = 0x40;
        block.extend(literal);
        block.extend([0x80 | 62].repeat(10_000));
        connection.send(&Frame::new(
            kind::HEADERS,
            END_HEADERS | END_STREAM,
            1,
            block,
        ))?;
        let answer = connection.wait_for(|frame| {
            matches!(frame.kind, kind::HEADERS | kind::RST_STREAM | kind::GOAWAY)
        })?;
        ensure!(answer.is_some() || connection.receive()?.is_none());
        Ok(())
    })?;
    ensure!(
        upstream
            .asked()
            .iter()
            .all(|asked| asked.request.target() == "/other")
    );
    Ok(())
}

fn answers_that_nobody_takes_are_not_kept(lab: &mut Lab) -> Result<()> {
    let (_upstream, gateway) = serve(lab, json!({}), |request: &Message, wire: &mut Wire| {
        if request.target() == "/big" {
            let sent = wire.send(reply("200 OK", "", vec![b'x'; 64 << 20]));
            return Ok(if sent.is_ok() {
                Then::Next
            } else {
                Then::Close
            });
        }
        ok(request, wire)
    })?;
    beside(&gateway, || {
        // Windows of no bytes at all (SETTINGS_INITIAL_WINDOW_SIZE is 4).
        let mut connection = Connection::open(GATEWAY, &[(4, 0)])?;
        for stream in (1..100).step_by(2) {
            let block = head(&get(NAME, "/big"));
            connection.send(&Frame::new(
                kind::HEADERS,
                END_HEADERS | END_STREAM,
                stream,
                block,
            ))?;
        }
        connection
            .wait_for(|frame| frame.kind == kind::HEADERS)?
            .context("no answer")?;
        // Then windows that open by one byte at a time.
        for _ in 0..1000 {
            connection.send(&Frame::new(kind::WINDOW_UPDATE, 0, 1, 1_u32.to_be_bytes()))?;
        }
        connection
            .wait_for(|frame| frame.kind == kind::DATA)?
            .context("no content")?;
        Ok(())
    })
}

fn malformed_requests_reach_nobody(lab: &mut Lab) -> Result<()> {
    let (upstream, _gateway) = serve(lab, json!({}), ok)?;
    let with = |field: (&'static str, &'static str)| [get(NAME, "/bad"), vec![field]].concat();
    let without = |name: &str| {
        let mut fields = get(NAME, "/bad");
        fields.retain(|(other, _)| *other != name);
        fields
    };
    for fields in [
        without(":method"),
        without(":scheme"),
        without(":path"),
        without(":authority"),
        with((":path", "/again")),
        with((":status", "200")),
        with((":unknown", "x")),
        with(("X-Upper", "x")),
        with(("x y", "x")),
        with(("x", "a\r\nevil: b")),
        with(("x", "a\0b")),
        with(("x", " padded")),
        with(("connection", "close")),
        with(("transfer-encoding", "chunked")),
        with(("upgrade", "h2c")),
        with(("keep-alive", "1")),
        with(("te", "gzip")),
        with(("host", "green.example")),
        with(("content-length", "5")),
        with(("content-length", "x")),
        [with(("x", "y")), vec![(":scheme", "http")]].concat(),
        [without(":path"), vec![(":path", "")]].concat(),
        [without(":path"), vec![(":path", "/a b")]].concat(),
        [without(":path"), vec![(":path", "/a\r\nX: y")]].concat(),
        [without(":authority"), vec![(":authority", "a b")]].concat(),
        [
            without(":authority"),
            vec![(":authority", "user@blue.example")],
        ]
        .concat(),
        [without(":method"), vec![(":method", "G T")]].concat(),
    ] {
        let mut connection = Connection::open(GATEWAY, &[])?;
        let flags = END_HEADERS | END_STREAM;
        connection.send(&Frame::new(kind::HEADERS, flags, 1, head(&fields)))?;
        // A reset, a refusal, or the end: RFC 9113 section 8.1.1 permits them all.
        connection
            .wait_for(|frame| matches!(frame.kind, kind::HEADERS | kind::RST_STREAM | kind::GOAWAY))
            .with_context(|| format!("{fields:?}"))?;
    }
    ensure!(upstream.asked().is_empty(), "{:?}", upstream.asked());
    // The same, with nothing wrong about it.
    let mut connection = Connection::open(GATEWAY, &[])?;
    let flags = END_HEADERS | END_STREAM;
    let fine = head(&get(NAME, "/fine"));
    connection.send(&Frame::new(kind::HEADERS, flags, 1, fine))?;
    connection
        .wait_for(|frame| frame.kind == kind::HEADERS)?
        .context("what is in order is not answered")?;
    ensure!(upstream.last()?.target() == "/fine");
    Ok(())
}

fn frames_out_of_order_end_the_connection(lab: &mut Lab) -> Result<()> {
    let (upstream, _gateway) = serve(lab, json!({}), ok)?;
    for frame in [
        Frame::new(kind::DATA, 0, 1, "x"),
        Frame::new(kind::DATA, 0, 0, "x"),
        Frame::new(kind::HEADERS, END_HEADERS, 2, head(&get(NAME, "/even"))),
        Frame::new(kind::SETTINGS, ACK, 0, "x"),
        Frame::new(kind::SETTINGS, 0, 0, "xxxxx"),
        Frame::new(kind::PING, 0, 0, "x"),
        Frame::new(kind::WINDOW_UPDATE, 0, 0, [0; 4]),
        Frame::new(kind::WINDOW_UPDATE, 0, 0, [0x7f, 0xff, 0xff, 0xff]),
        Frame::new(
            kind::CONTINUATION,
            END_HEADERS,
            1,
            head(&get(NAME, "/late")),
        ),
        Frame::new(kind::RST_STREAM, 0, 7, [0; 4]),
        Frame::new(kind::HEADERS, END_HEADERS | END_STREAM, 1, [0xff; 40]),
        Frame::new(kind::DATA, 0, 1, vec![0; 20_000]),
    ] {
        let mut connection = Connection::open(GATEWAY, &[])?;
        connection.send(&frame)?;
        let last = connection.wait_for(|frame| frame.kind == kind::GOAWAY);
        let last = last.with_context(|| format!("{frame:?}"))?;
        ensure!(
            last.is_none_or(|last| last.code() != Some(0)),
            "{frame:?} is no error"
        );
    }
    ensure!(upstream.asked().is_empty(), "{:?}", upstream.asked());
    Ok(())
}
