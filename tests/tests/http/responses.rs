//! Answers that two clients read in two ways: 502, and their connection is not used again.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tests::{
    http::{self, Content, Then, Wire, reply},
    lab::Lab,
    runner::Test,
    tests,
};

use crate::{NAME, serve};

pub(crate) const TESTS: &[Test] = tests![
    answers_with_two_readings_are_the_upstreams_failure,
    answers_with_one_reading_are_written_anew,
    chunks_with_two_readings_end_the_answer_early,
    an_answer_that_nobody_asked_for_is_nobodys,
    an_endless_head_is_given_up,
];

/// Heads, with content where they have some, and what is behind them.
const ANSWERS: &[&str] = &[
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
    "HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nok!",
    "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nX: y\r\n z\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: \u{0}\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nSet-Cookie: a\rb\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 099 Odd\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "ICY 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
    "SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "\u{16}\u{3}\u{1}\u{0}\u{5}hello\r\n\r\n",
    "",
];

fn answers_with_two_readings_are_the_upstreams_failure(lab: &mut Lab) -> Result<()> {
    let (upstream, gateway) = serve(lab, json!({}), |request, wire| {
        let number: Option<usize> = request.target()[1..].parse().ok();
        let answer = number.and_then(|number| ANSWERS.get(number));
        match answer {
            Some(answer) => wire.send(answer)?,
            None => wire.send(reply("200 OK", "", "ok"))?,
        }
        Ok(match answer {
            Some(_) => Then::Close,
            None => Then::Next,
        })
    })?;
    for (number, sent) in ANSWERS.iter().enumerate() {
        // Over a connection that was fine before.
        http::get(NAME, "/control")?.expect(200)?;
        let mut client = http::dial()?;
        let answer = client.ask(http::request("POST", NAME, &format!("/{number}"), ""))?;
        answer.expect(502).with_context(|| format!("{sent:?}"))?;
        ensure!(
            answer.json()?["code"] == "BACKEND_DOWN",
            "{sent:?}: {answer:?}"
        );
    }
    let connections = upstream.connections();
    // A POST may have a new one, where the control came too early for it.
    ensure!(connections >= ANSWERS.len(), "{connections} connections");
    gateway.wait_for_records(2 * ANSWERS.len())?;
    Ok(())
}

/// Answers that are badly written and have one meaning, which is this one.
fn answers_with_one_reading_are_written_anew(lab: &mut Lab) -> Result<()> {
    const ANSWERS: &[(&str, u16)] = &[
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
            200,
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", 200),
        ("HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok", 200),
        ("HTTP/1.1 999 Odd\r\nContent-Length: 2\r\n\r\nok", 999),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2  \r\nok\r\n0 \r\n\r\n",
            200,
        ),
    ];
    let (upstream, _gateway) = serve(lab, json!({}), |request, wire| {
        let number: usize = request.target()[1..].parse()?;
        wire.send(ANSWERS[number].0)?;
        Ok(Then::Next)
    })?;
    let mut client = http::dial()?;
    for (number, (sent, status)) in ANSWERS.iter().enumerate() {
        let answer = client.ask(http::request("GET", NAME, &format!("/{number}"), ""))?;
        answer
            .expect(*status)
            .with_context(|| format!("{sent:?}"))?;
        ensure!(answer.text() == "ok", "{sent:?}: {answer:?}");
        let lengths = answer
            .fields
            .iter()
            .filter(|(name, _)| name == "content-length");
        ensure!(lengths.count() <= 1, "{sent:?}: {answer:?}");
    }
    ensure!(upstream.connections() == 1, "they can be kept");
    Ok(())
}

fn chunks_with_two_readings_end_the_answer_early(lab: &mut Lab) -> Result<()> {
    const CHUNKS: &[&str] = &[
        "zz\r\nabc\r\n0\r\n\r\n",
        "3 4\r\nabc\r\n0\r\n\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "-3\r\nabc\r\n0\r\n\r\n",
        "ffffffffffffffff1\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0\r\nX y: z\r\n\r\n",
        "3\r\nabc\r\n0\r\n\n",
    ];
    let (upstream, _gateway) = serve(lab, json!({}), |request, wire| {
        let number: usize = request.target()[1..].parse()?;
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nfew\r\n";
        wire.send(format!("{head}{}", CHUNKS[number]))?;
        Ok(Then::Next)
    })?;
    for (number, chunks) in CHUNKS.iter().enumerate() {
        let mut client = http::dial()?;
        client.send(http::request("GET", NAME, &format!("/{number}"), ""))?;
        // Where the head was sent already, the end comes without the last chunk.
        let received = client.head().and_then(|answer| {
            let answer = answer.context("no answer")?;
            if answer.status()? == 502 {
                return Ok(false);
            }
            client.content(Content::Chunked, |_| Ok(()), &mut Vec::new())?;
            Ok(true)
        });
        ensure!(!received.unwrap_or(false), "{chunks:?} looks whole");
        ensure!(
            upstream.connections() == number + 1,
            "{chunks:?}: the connection was kept"
        );
    }
    Ok(())
}

fn an_answer_that_nobody_asked_for_is_nobodys(lab: &mut Lab) -> Result<()> {
    let (upstream, _gateway) = serve(lab, json!({}), |request, wire| {
        let path = request.target().to_owned();
        let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
        match path.as_str() {
            // Behind the answer at once, and behind an answer that has no content.
            "/behind" => wire.send([reply("200 OK", "", "good"), evil.into()].concat())?,
            "/head" => wire.send(reply("200 OK", "", evil))?,
            "/none" => wire.send(format!("HTTP/1.1 204 No Content\r\n\r\n{evil}"))?,
            "/same" => wire.send(format!(
                "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n{evil}"
            ))?,
            _ => wire.send(reply("200 OK", "", "good"))?,
        }
        Ok(Then::Next)
    })?;
    for (method, path) in [
        ("GET", "/behind"),
        ("HEAD", "/head"),
        ("GET", "/none"),
        ("GET", "/same"),
    ] {
        let mut client = http::dial()?;
        client.ask(http::request(method, NAME, path, ""))?;
        for _ in 0..2 {
            let answer = client.ask(http::request("GET", NAME, "/next", ""))?;
            ensure!(answer.text() == "good", "after {path}: {answer:?}");
        }
    }
    // Unasked, while the connection rests.
    let count = upstream.connections();
    ensure!(count >= 4, "{count}");
    Ok(())
}

fn an_endless_head_is_given_up(lab: &mut Lab) -> Result<()> {
    let (_upstream, _gateway) = serve(lab, json!({}), |_, wire: &mut Wire| {
        wire.send("HTTP/1.1 200 OK\r\n")?;
        // Until nobody takes it any more.
        while wire
            .send("X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n")
            .is_ok()
        {}
        Ok(Then::Close)
    })?;
    let answer = http::get(NAME, "/")?;
    answer.expect(502)?;
    Ok(())
}
