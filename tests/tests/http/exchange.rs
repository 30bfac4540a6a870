//! What a request and its answer may be made of, beside content of a known length.

use std::{
    sync::mpsc,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tests::{
    http::{self, Content, Message, Then, Wire, reply},
    lab::Lab,
    runner::Test,
    tests,
};

use crate::{NAME, serve};

pub(crate) const TESTS: &[Test] = tests![
    an_answer_to_head_has_a_length_and_no_content,
    answers_that_have_no_content_end_with_their_head,
    a_range_is_passed_on_and_answered,
    content_is_asked_for_before_it_is_sent,
    an_answer_that_wants_no_content_comes_before_it,
    early_hints_come_before_the_answer,
    trailers_pass_both_ways,
    events_are_not_held_back,
    every_method_passes_but_connect,
    an_answer_while_content_still_comes_reaches_the_client,
];

fn an_answer_to_head_has_a_length_and_no_content(lab: &mut Lab) -> Result<()> {
    let (upstream, _gateway) = serve(lab, json!({}), |request, wire| {
        let framing = match request.target() {
            "/chunked" => "Transfer-Encoding: chunked",
            "/none" => "X-None: 1",
            _ => "Content-Length: 20000000000",
        };
        wire.send(format!(
            "HTTP/1.1 200 OK\r\n{framing}\r\nETag: \"a\"\r\n\r\n"
        ))?;
        Ok(Then::Next)
    })?;
    let mut client = http::dial()?;
    for path in ["/length", "/chunked", "/none", "/length"] {
        let answer = client.ask(http::request("HEAD", NAME, path, ""))?;
        ensure!(answer.field("etag") == Some("\"a\""));
        let length = (path == "/length").then_some("20000000000");
        ensure!(
            answer.field("content-length") == length,
            "{path}: {answer:?}"
        );
        ensure!(!answer.closes(), "{path}: {answer:?}");
    }
    ensure!(upstream.connections() == 1, "{}", upstream.connections());
    Ok(())
}

fn answers_that_have_no_content_end_with_their_head(lab: &mut Lab) -> Result<()> {
    let (upstream, _gateway) = serve(lab, json!({}), |request, wire| {
        let status = request.target().trim_start_matches('/');
        let length = if status == "304" {
            "Content-Length: 99\r\n"
        } else {
            ""
        };
        wire.send(format!("HTTP/1.1 {status} Whatever\r\n{length}\r\n"))?;
        Ok(Then::Next)
    })?;
    let mut client = http::dial()?;
    for status in [204, 304, 204] {
        let answer = client.ask(http::request("GET", NAME, &format!("/{status}"), ""))?;
        answer.expect(status)?;
        let length = (status == 304).then_some("99");
        ensure!(answer.field("content-length") == length, "{answer:?}");
    }
    ensure!(upstream.connections() == 1);
    Ok(())
}

fn a_range_is_passed_on_and_answered(lab: &mut Lab) -> Result<()> {
    let (upstream, _gateway) = serve(lab, json!({}), |_, wire| {
        let fields = "Content-Range: bytes 2-5/10\r\nAccept-Ranges: bytes\r\n";
        wire.send(reply("206 Partial Content", fields, "2345"))?;
        Ok(Then::Next)
    })?;
    let fields = "Range: bytes=2-5\r\nIf-Range: \"v1\"\r\n";
    let answer = http::ask(http::request("GET", NAME, "/file", fields))?;
    answer.expect(206)?;
    ensure!(answer.text() == "2345" && answer.field("content-range") == Some("bytes 2-5/10"));
    let asked = upstream.last()?;
    ensure!(asked.field("range") == Some("bytes=2-5") && asked.field("if-range") == Some("\"v1\""));
    Ok(())
}

fn content_is_asked_for_before_it_is_sent(lab: &mut Lab) -> Result<()> {
    let (upstream, _gateway) = serve(lab, json!({}), |request, wire| {
        wire.send(reply("200 OK", "", request.text()))?;
        Ok(Then::Next)
    })?;
    let mut client = http::dial()?;
    for (framing, content) in [
        ("Content-Length: 5", "hello"),
        ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"),
    ] {
        let fields = format!("Expect: 100-continue\r\n{framing}\r\n");
        client.send(http::request("PUT", NAME, "/", &fields))?;
        // Nothing of the content is sent until it is asked for.
        let interim = client.head()?.context("no interim answer")?;
        interim.expect(100)?;
        client.send(content)?;
        let answer = client.answer("PUT")?;
        ensure!(answer.text() == "hello", "{answer:?}");
    }
    // What has content may not be repeated, and goes over a connection that was in use just now, or a new one.
    ensure!(upstream.connections() <= 2);
    // HTTP/1.0 knows no interim answers.
    let old = "PUT / HTTP/1.0\r\nHost: blue.example\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello";
    client = http::dial()?;
    client.send(old)?;
    let answer = client.head()?.context("no answer")?;
    answer.expect(200)?;
    Ok(())
}

fn an_answer_that_wants_no_content_comes_before_it(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let server = tests::server::Server::start(tenant.listen(80)?, |stream, _| {
        let mut wire = Wire::new(stream);
        let head = wire.head()?.context("no request")?;
        ensure!(head.field("expect") == Some("100-continue"));
        wire.send(reply(
            "417 Expectation Failed",
            "Connection: close\r\n",
            "no",
        ))?;
        wire.expect_end()
    })?;
    let state = tenant.state(json!({ format!("http://{NAME}"): ["10.0.0.2:80"] }));
    lab.gateway(tests::lab::http(json!({})), state)?;
    let fields = "Expect: 100-continue\r\nContent-Length: 5\r\n";
    let mut client = http::dial()?;
    client.send(http::request("PUT", NAME, "/", fields))?;
    let answer = client.answer("PUT")?;
    answer.expect(417)?;
    ensure!(answer.text() == "no");
    // The content may come or not: nobody can tell what the next byte is.
    client
        .send("GET /evil HTTP/1.1\r\nHost: blue.example\r\n\r\n")
        .ok();
    drop(client);
    server.next()
}

fn early_hints_come_before_the_answer(lab: &mut Lab) -> Result<()> {
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = Arc::new(Mutex::new(wait));
    let (_upstream, _gateway) = serve(lab, json!({}), move |_, wire| {
        let hint =
            "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: close\r\n\r\n";
        wire.send("HTTP/1.1 102 Processing\r\n\r\n")?;
        wire.send(hint)?;
        // The answer only comes once the hint was seen.
        wait.lock()
            .map_err(|_| anyhow::anyhow!("poisoned"))?
            .recv_timeout(Duration::from_secs(10))?;
        wire.send(reply("200 OK", "", "page"))?;
        Ok(Then::Next)
    })?;
    let mut client = http::dial()?;
    client.send(http::request("GET", NAME, "/", ""))?;
    client.head()?.context("no 102")?.expect(102)?;
    let hint = client.head()?.context("no 103")?;
    hint.expect(103)?;
    ensure!(
        hint.field("link") == Some("</a.css>; rel=preload"),
        "{hint:?}"
    );
    ensure!(hint.field("connection").is_none(), "{hint:?}");
    go_on.send(())?;
    ensure!(client.answer("GET")?.text() == "page");
    // HTTP/1.0 gets the answer alone.
    let mut old = http::dial()?;
    old.send(format!("GET / HTTP/1.0\r\nHost: {NAME}\r\n\r\n"))?;
    go_on.send(())?;
    old.head()?.context("no answer")?.expect(200)?;
    Ok(())
}

fn trailers_pass_both_ways(lab: &mut Lab) -> Result<()> {
    let (upstream, _gateway) = serve(lab, json!({}), |request, wire| {
        let sum = request.trailers.first().map(|(_, value)| value.clone());
        let sum = sum.unwrap_or_default();
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Sum\r\n\r\n";
        let trailers = format!(
            "Sum: {sum}\r\nContent-Length: 3\r\nSet-Cookie: a=b\r\nTransfer-Encoding: x\r\n"
        );
        wire.send(format!("{head}2\r\nok\r\n0\r\n{trailers}\r\n"))?;
        Ok(Then::Next)
    })?;
    let fields = "Transfer-Encoding: chunked\r\nTrailer: Sum\r\nTE: trailers\r\n";
    let head = http::request("POST", NAME, "/", fields);
    let trailers =
        "Sum: 7\r\nHost: evil.example\r\nAuthorization: x\r\nX-Forwarded-For: 1.2.3.4\r\n";
    let answer = http::ask(format!("{head}4;a=b\r\nbody\r\n0\r\n{trailers}\r\n"))?;
    let sum = ("Sum".to_owned(), "7".to_owned());
    let asked = upstream.last()?;
    ensure!(
        asked.body == b"body" && asked.trailers == std::slice::from_ref(&sum),
        "{asked:?}"
    );
    ensure!(asked.field("trailer") == Some("Sum") && asked.field("te") == Some("trailers"));
    ensure!(answer.trailers == [sum], "{answer:?}");
    ensure!(answer.field("trailer") == Some("Sum"), "{answer:?}");
    Ok(())
}

fn events_are_not_held_back(lab: &mut Lab) -> Result<()> {
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = Arc::new(Mutex::new(wait));
    let (_upstream, _gateway) = serve(lab, json!({}), move |request, wire| {
        let is_chunked = request.target() == "/chunked";
        let framing = if is_chunked {
            "Transfer-Encoding: chunked\r\n"
        } else {
            ""
        };
        wire.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{framing}\r\n"
        ))?;
        for number in 0..20 {
            let event = format!("data: {number}\n\n");
            let size = event.len();
            wire.send(if is_chunked {
                format!("{size:x}\r\n{event}\r\n")
            } else {
                event
            })?;
            // The next one only comes once this one was seen.
            let wait = wait.lock().map_err(|_| anyhow::anyhow!("poisoned"))?;
            wait.recv_timeout(Duration::from_secs(10))?;
        }
        wire.send(if is_chunked { "0\r\n\r\n" } else { "" })?;
        Ok(if is_chunked { Then::Next } else { Then::Close })
    })?;
    for path in ["/chunked", "/until-the-end"] {
        let mut client = http::dial()?;
        client.send(http::request(
            "GET",
            NAME,
            path,
            "Accept: text/event-stream\r\n",
        ))?;
        let answer = client.head()?.context("no answer")?;
        let content = Content::of_answer(&answer, "GET")?;
        let mut seen = String::new();
        let mut count = 0;
        let see = |bytes: &[u8]| {
            seen += std::str::from_utf8(bytes)?;
            while let Some(rest) = seen.strip_prefix(&format!("data: {count}\n\n")) {
                seen = rest.to_owned();
                count += 1;
                go_on.send(())?;
            }
            Ok(())
        };
        client.content(content, see, &mut Vec::new())?;
        ensure!(
            count == 20 && seen.is_empty(),
            "{count} events, {seen:?} left"
        );
    }
    Ok(())
}

fn every_method_passes_but_connect(lab: &mut Lab) -> Result<()> {
    let (upstream, _gateway) = serve(lab, json!({}), |request: &Message, wire| {
        wire.send(reply("200 OK", "", request.method()))?;
        Ok(Then::Next)
    })?;
    for method in [
        "GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "M-SEARCH", "get",
    ] {
        let answer = http::ask(http::request(method, NAME, "/", ""))?;
        ensure!(answer.text() == method, "{method}: {answer:?}");
    }
    let count = upstream.asked().len();
    let star = http::ask(http::request("OPTIONS", NAME, "*", ""))?;
    star.expect(200)?;
    ensure!(upstream.last()?.target() == "*");
    let connect = format!("CONNECT {NAME}:80 HTTP/1.1\r\nHost: {NAME}:80\r\n\r\n");
    http::ask(connect)?.expect(501)?;
    ensure!(
        upstream.asked().len() == count + 1,
        "CONNECT reached the upstream"
    );
    Ok(())
}

fn an_answer_while_content_still_comes_reaches_the_client(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let server = tests::server::Server::start(tenant.listen(80)?, |stream, _| {
        let mut wire = Wire::new(stream);
        wire.head()?.context("no request")?;
        wire.send(reply(
            "413 Content Too Large",
            "Connection: close\r\n",
            "enough",
        ))?;
        // As servers do: they close with content unread, which resets the connection.
        let (stream, _) = wire.into_parts();
        tests::stream::half_close(&stream)
    })?;
    let state = tenant.state(json!({ format!("http://{NAME}"): ["10.0.0.2:80"] }));
    lab.gateway(tests::lab::http(json!({})), state)?;
    for framing in ["Content-Length: 1000000000", "Transfer-Encoding: chunked"] {
        let mut client = http::dial()?;
        client.send(http::request("POST", NAME, "/", &format!("{framing}\r\n")))?;
        let mut sending = Wire::new(client.socket().try_clone()?);
        let writer = std::thread::spawn(move || {
            let piece = format!("10000\r\n{}\r\n", "x".repeat(65_536));
            // Until nobody takes it any more.
            while sending.send(&piece).is_ok() {}
        });
        let answer = client.answer("POST")?;
        answer.expect(413)?;
        ensure!(answer.text() == "enough" && answer.closes(), "{answer:?}");
        drop(client);
        writer
            .join()
            .map_err(|_| anyhow::anyhow!("the writer panicked"))?;
        server.next()?;
    }
    Ok(())
}
