//! What a client may not do, and how it is told.

use std::{
    io::Write as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tests::{
    http::{self, Message, Then, Upstream, Wire, reply},
    lab::{self, Lab},
    leak,
    runner::Test,
    stream, tests,
};

use crate::{NAME, serve};

pub(crate) const TESTS: &[Test] = tests![
    heads_beyond_a_limit_are_refused_to_the_byte,
    a_head_that_does_not_come_in_time_ends,
    content_that_stands_still_ends,
    a_silent_upstream_is_given_up,
    errors_come_in_the_form_that_the_client_likes,
    many_connections_that_say_little_cost_little,
];

fn ok(_: &Message, wire: &mut Wire) -> Result<Then> {
    wire.send(reply("200 OK", "", "ok"))?;
    Ok(Then::Next)
}

fn heads_beyond_a_limit_are_refused_to_the_byte(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let upstream = Upstream::start(tenant.listen(80)?, ok)?;
    let mut boot = lab::http(json!({}));
    boot["limits"] = json!({
        "http_head_bytes_max": "4KiB", "http_target_bytes_max": 256, "http_fields_max": 20,
    });
    let state = tenant.state(json!({ format!("http://{NAME}"): ["10.0.0.2:80"] }));
    lab.gateway(boot, state)?;
    let target =
        |length: usize| http::request("GET", NAME, &format!("/{}", "x".repeat(length - 1)), "");
    let fields = |count: usize| http::request("GET", NAME, "/", &"A: b\r\n".repeat(count - 1));
    let head = |length: usize| {
        let empty = http::request("GET", NAME, "/", "A: \r\n").len();
        http::request(
            "GET",
            NAME,
            "/",
            &format!("A: {}\r\n", "x".repeat(length - empty)),
        )
    };
    for (within, beyond, status, code) in [
        (target(256), target(257), 414, "URI_TOO_LONG"),
        (fields(20), fields(21), 431, "HEADERS_TOO_LARGE"),
        (head(4096), head(4097), 431, "HEADERS_TOO_LARGE"),
    ] {
        http::ask(&within)?.expect(200).context(code)?;
        let count = upstream.asked().len();
        let mut client = http::dial()?;
        let refused = client.ask(&beyond)?;
        refused.expect(status)?;
        ensure!(
            refused.json()?["code"] == code && refused.closes(),
            "{refused:?}"
        );
        ensure!(
            upstream.asked().len() == count,
            "{code} reached the upstream"
        );
    }
    // Told without a line's end in sight, and never more than the limit is kept.
    for (endless, status) in [("GET /", 414), ("GET / HTTP/1.1\r\nHost: a\r\nA: ", 431)] {
        let mut client = http::dial()?;
        client.send(endless)?;
        let sending = client.socket().try_clone()?;
        let writer = std::thread::spawn(move || {
            let mut sending = sending;
            while sending.write_all(&[b'x'; 4096]).is_ok() {}
        });
        client.answer("GET")?.expect(status)?;
        drop(client);
        writer
            .join()
            .map_err(|_| anyhow::anyhow!("the writer panicked"))?;
    }
    Ok(())
}

fn a_head_that_does_not_come_in_time_ends(lab: &mut Lab) -> Result<()> {
    let (upstream, gateway) = serve(lab, json!({ "hello_timeout": "1s" }), ok)?;
    let request = http::request("GET", NAME, "/", &"A: b\r\n".repeat(100));
    // Never silent for long, and never done.
    let mut client = http::dial()?;
    let began = Instant::now();
    client
        .socket()
        .set_read_timeout(Some(Duration::from_millis(50)))?;
    let mut pieces = request.as_bytes().chunks(1);
    let answer = loop {
        if let Some(piece) = pieces.next() {
            // It may be refused by now.
            let _ = client.send(piece);
        }
        match client.answer("GET") {
            Ok(answer) => break answer,
            Err(error) => ensure!(began.elapsed() < Duration::from_secs(10), "{error:#}"),
        }
    };
    answer.expect(408)?;
    ensure!(answer.json()?["code"] == "REQUEST_TIMEOUT", "{answer:?}");
    let took = began.elapsed();
    let bounds = Duration::from_millis(900)..Duration::from_secs(4);
    ensure!(bounds.contains(&took), "took {took:?}");
    // The second request of a connection has the same time, counted from its first byte.
    let mut client = http::dial()?;
    client
        .ask(http::request("GET", NAME, "/", ""))?
        .expect(200)?;
    client.send("GET / HT")?;
    client.answer("GET")?.expect(408)?;
    // Silence from the start is just ended.
    let mut silent = stream::connect(lab::GATEWAY)?;
    stream::read_to_any_end(&mut silent)?;
    ensure!(upstream.asked().len() == 1);
    gateway.wait_for_records(3)?;
    Ok(())
}

fn content_that_stands_still_ends(lab: &mut Lab) -> Result<()> {
    let (_upstream, gateway) = serve(lab, json!({ "idle_timeout": "1s" }), ok)?;
    for (fields, part) in [
        ("Content-Length: 100\r\n", "part"),
        ("Transfer-Encoding: chunked\r\n", "4\r\npart\r\n"),
    ] {
        let mut client = stream::connect(lab::GATEWAY)?;
        client.write_all(http::request("POST", NAME, "/", fields).as_bytes())?;
        client.write_all(part.as_bytes())?;
        let began = Instant::now();
        stream::read_to_any_end(&mut client)?;
        let took = began.elapsed();
        ensure!(took < Duration::from_secs(5), "{fields}: took {took:?}");
    }
    gateway.wait_for_records(2)?;
    Ok(())
}

fn a_silent_upstream_is_given_up(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let silent = tests::server::Server::start(tenant.listen(80)?, |mut stream, _| {
        stream::read_to_any_end(&mut stream)
    })?;
    let state = tenant.state(json!({
        format!("http://{NAME}"): ["10.0.0.2:80"],
        "http://refused.example": ["10.0.0.2:9"],
        "http://nowhere.example": ["192.0.2.1:80"],
        "http://nobody.example": ["10.0.0.99:80"],
    }));
    lab.gateway(
        lab::http(json!({ "answer_timeout": "1s", "connect_timeout": "300ms" })),
        state,
    )?;
    for (host, status, code) in [
        (NAME, 504, "BACKEND_TIMEOUT"),
        ("refused.example", 502, "BACKEND_DOWN"),
        ("nowhere.example", 502, "BACKEND_DOWN"),
        ("nobody.example", 504, "BACKEND_TIMEOUT"),
        ("unknown.example", 404, "NO_ROUTE"),
    ] {
        let began = Instant::now();
        let answer = http::get(host, "/")?;
        answer.expect(status).context(host)?;
        let json = answer.json()?;
        ensure!(
            json["code"] == code && json["error"].is_string(),
            "{host}: {json}"
        );
        ensure!(json["request_id"] == *answer.field("x-request-id").unwrap_or_default());
        ensure!(
            answer.field("cache-control") == Some("no-store"),
            "{answer:?}"
        );
        ensure!(began.elapsed() < Duration::from_secs(4), "{host}");
    }
    silent.next()?;
    Ok(())
}

fn errors_come_in_the_form_that_the_client_likes(lab: &mut Lab) -> Result<()> {
    let (_upstream, _gateway) = serve(lab, json!({}), ok)?;
    let browser = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n";
    for (accept, kind) in [
        ("", "application/json"),
        ("Accept: */*\r\n", "application/json"),
        ("Accept: application/json\r\n", "application/json"),
        (browser, "text/html; charset=utf-8"),
        (
            "Accept: text/html;q=0.1, application/json\r\n",
            "application/json",
        ),
        ("Accept: image/png\r\n", "application/json"),
    ] {
        let answer = http::ask(http::request("GET", "unknown.example", "/", accept))?;
        answer.expect(404)?;
        ensure!(
            answer.field("content-type") == Some(kind),
            "{accept}: {answer:?}"
        );
        let text = answer.text();
        let is_page = text.starts_with("<!doctype html>") && text.contains("NO_ROUTE");
        ensure!(is_page || answer.json()?["code"] == "NO_ROUTE", "{text}");
    }
    // To HEAD the same, without its content; and the connection goes on.
    let mut client = http::dial()?;
    let whole = client.ask(http::request("GET", "unknown.example", "/", ""))?;
    let head = client.ask(http::request("HEAD", "unknown.example", "/", ""))?;
    head.expect(404)?;
    ensure!(
        head.field("content-length") == whole.field("content-length"),
        "{head:?}"
    );
    client
        .ask(http::request("GET", NAME, "/", ""))?
        .expect(200)?;
    // Nothing that a client sent is found in a page.
    let script = "/<script>alert(1)</script>";
    let answer = http::ask(http::request("GET", "unknown.example", script, browser))?;
    ensure!(!answer.text().contains("alert"), "{}", answer.text());
    Ok(())
}

fn many_connections_that_say_little_cost_little(lab: &mut Lab) -> Result<()> {
    let (_upstream, gateway) = serve(lab, json!({}), ok)?;
    let before = leak::memory(gateway.process())?;
    let mut clients = Vec::new();
    for number in 0..1000 {
        let mut client = http::dial()?;
        // Some rest after a request, some are in the middle of a head, some have said nothing.
        match number % 3 {
            0 => drop(client.ask(http::request("GET", NAME, "/", ""))?),
            1 => client.send("GET / HTTP/1.1\r\nHost: ")?,
            _ => {}
        }
        clients.push(client);
    }
    let grown = leak::memory(gateway.process())?.saturating_sub(before) / 1000;
    // The pieces of a head, what a connection is without optimization, and the allocator's huge pages:
    // less than the longest head, which would be kept where nobody looked.
    ensure!(grown < 32 << 10, "{grown} bytes a connection");
    Ok(())
}
