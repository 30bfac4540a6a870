//! Connections that carry one request after the other, on both sides.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde_json::json;
use tests::{
    http::{self, Message, Then, Upstream, Wire, reply},
    lab::{Lab, http as boot},
    runner::Test,
    tests,
    wait::eventually,
};

use crate::{NAME, serve};

pub(crate) const TESTS: &[Test] = tests![
    requests_of_many_clients_share_one_upstream_connection,
    a_client_that_closes_leaves_the_upstream_connection_to_others,
    requests_at_once_take_connections_of_their_own,
    an_upstream_connection_closed_at_rest_is_no_clients_error,
    a_request_that_must_not_be_repeated_is_not,
    pipelined_requests_are_answered_in_order,
    an_upstream_that_closes_is_not_asked_again_on_that_connection,
    resting_connections_end_on_both_sides_in_time,
    old_clients_are_served_as_they_are_used_to,
];

fn echo_target(request: &Message, wire: &mut Wire) -> Result<Then> {
    wire.send(reply("200 OK", "", request.target()))?;
    Ok(Then::Next)
}

fn requests_of_many_clients_share_one_upstream_connection(lab: &mut Lab) -> Result<()> {
    let (upstream, _gateway) = serve(lab, json!({}), echo_target)?;
    let mut staying = http::dial()?;
    for number in 0..25 {
        let path = format!("/{number}");
        let request = http::request("GET", NAME, &path, "");
        ensure!(staying.ask(&request)?.text() == path);
        ensure!(http::ask(request)?.text() == path, "another client");
    }
    ensure!(upstream.asked().len() == 50 && upstream.connections() == 1);
    Ok(())
}

fn a_client_that_closes_leaves_the_upstream_connection_to_others(lab: &mut Lab) -> Result<()> {
    let (upstream, _gateway) = serve(lab, json!({}), echo_target)?;
    for number in 0..5 {
        let mut client = http::dial()?;
        let path = format!("/{number}");
        let answer = client.ask(http::request("GET", NAME, &path, "Connection: close\r\n"))?;
        ensure!(answer.text() == path && answer.closes(), "{answer:?}");
        client.expect_end()?;
    }
    ensure!(upstream.connections() == 1, "{}", upstream.connections());
    for asked in upstream.asked() {
        ensure!(asked.request.field("connection").is_none(), "{asked:?}");
    }
    Ok(())
}

fn requests_at_once_take_connections_of_their_own(lab: &mut Lab) -> Result<()> {
    // Each answer waits for its own word, so that all requests are under way at the same time.
    let (upstream, _gateway) = serve(lab, json!({}), |request, wire| {
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")?;
        wire.send(&request.target()[1..5])?;
        Ok(Then::Next)
    })?;
    let mut clients = Vec::new();
    for number in 0..8 {
        let mut client = http::dial()?;
        let start =
            format!("POST /{number:04} HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 2\r\n\r\nx");
        client.send(start)?;
        clients.push(client);
    }
    let asked = upstream.wait_for(8)?;
    let connections: BTreeSet<usize> = asked.iter().map(|asked| asked.connection).collect();
    ensure!(connections.len() == 8, "{asked:?}");
    for (number, client) in clients.iter_mut().enumerate() {
        client.send("y")?;
        ensure!(client.answer("POST")?.text() == format!("{number:04}"));
    }
    // All of them rest now.
    for number in 0..20 {
        http::get(NAME, &format!("/{number:04}"))?.expect(200)?;
    }
    ensure!(upstream.connections() == 8);
    Ok(())
}

fn an_upstream_connection_closed_at_rest_is_no_clients_error(lab: &mut Lab) -> Result<()> {
    // It takes one request on each connection; the second finds it closed, in the worst moment: the
    // request was sent already.
    let (upstream, _gateway) = serve(lab, json!({}), once_each)?;
    let mut client = http::dial()?;
    for number in 0..20 {
        let method = ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"][number % 5];
        let answer = client.ask(http::request(method, NAME, &format!("/{number}"), ""))?;
        ensure!(answer.status()? == 200, "{method} {number}: {answer:?}");
    }
    ensure!(upstream.connections() == 20, "{}", upstream.connections());
    // Closed while nobody looks, by the thousand.
    for _ in 0..50 {
        upstream.hang_up();
        client
            .ask(http::request("GET", NAME, "/", ""))?
            .expect(200)?;
    }
    Ok(())
}

/// Answers the first request of a connection, and closes at the second.
fn once_each(request: &Message, wire: &mut Wire) -> Result<Then> {
    let body = if request.method() == "HEAD" {
        ""
    } else {
        "once"
    };
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n";
    wire.send(format!("{head}{body}"))?;
    // The next request is read, and never answered.
    Ok(match wire.head()? {
        Some(_) | None => Then::Close,
    })
}

fn a_request_that_must_not_be_repeated_is_not(lab: &mut Lab) -> Result<()> {
    let (upstream, _gateway) = serve(lab, json!({}), |request, wire| {
        if request.target() == "/first" {
            wire.send(reply("200 OK", "", "once"))?;
            return Ok(Then::Next);
        }
        Ok(Then::Close)
    })?;
    http::get(NAME, "/first")?.expect(200)?;
    let request = format!("POST /order HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 2\r\n\r\nok");
    let answer = http::ask(request)?;
    answer.expect(502)?;
    ensure!(answer.json()?["code"] == "BACKEND_DOWN", "{answer:?}");
    let orders = upstream.asked();
    let orders = orders
        .iter()
        .filter(|asked| asked.request.target() == "/order");
    ensure!(orders.count() == 1, "it was repeated");
    Ok(())
}

fn pipelined_requests_are_answered_in_order(lab: &mut Lab) -> Result<()> {
    let (upstream, _gateway) = serve(lab, json!({}), |request, wire| {
        let text = format!("{}:{}", request.target(), request.text());
        // Every other one in chunks.
        if request.target().ends_with('0') {
            let size = text.len();
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            wire.send(format!("{head}{size:x}\r\n{text}\r\n0\r\n\r\n"))?;
        } else {
            wire.send(reply("200 OK", "", text))?;
        }
        Ok(Then::Next)
    })?;
    let mut all = String::new();
    let mut expected = Vec::new();
    for number in 0..60 {
        let path = format!("/{number}/{}", number % 2);
        let (fields, body) = match number % 3 {
            0 => ("", ""),
            1 => ("Content-Length: 5\r\n", "GET /"),
            _ => (
                "Transfer-Encoding: chunked\r\n",
                "3\r\nGET\r\n2;ext=1\r\n /\r\n0\r\n\r\n",
            ),
        };
        let method = if number % 3 == 0 { "GET" } else { "POST" };
        all += &format!("{method} {path} HTTP/1.1\r\nHost: {NAME}\r\n{fields}\r\n{body}");
        expected.push(format!("{path}:{}", ["", "GET /", "GET /"][number % 3]));
    }
    let mut client = http::dial()?;
    client.send(&all)?;
    for text in &expected {
        let found = client.answer("GET")?;
        ensure!(found.text() == *text, "{found:?} instead of {text}");
    }
    // And cut where it hurts: byte by byte.
    let mut client = http::dial()?;
    let sending = client.socket().try_clone()?;
    let writer = std::thread::spawn(move || {
        let mut wire = Wire::new(sending);
        all.as_bytes()
            .chunks(7)
            .try_for_each(|piece| wire.send(piece))
    });
    for text in &expected {
        ensure!(client.answer("GET")?.text() == *text);
    }
    writer
        .join()
        .map_err(|_| anyhow::anyhow!("the writer panicked"))??;
    // A POST has a new one where the one before it took its time.
    let connections = upstream.connections();
    ensure!(connections <= 81, "{connections} connections");
    Ok(())
}

fn an_upstream_that_closes_is_not_asked_again_on_that_connection(lab: &mut Lab) -> Result<()> {
    let (upstream, _gateway) = serve(lab, json!({}), |request, wire| {
        match request.target() {
            "/close" => wire.send(reply("200 OK", "Connection: close\r\n", "bye"))?,
            "/old" => wire.send("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nbye")?,
            "/end" => {
                wire.send("HTTP/1.1 200 OK\r\n\r\nbye")?;
                return Ok(Then::Close);
            }
            // Whatever comes behind an answer is not the next one.
            _ => wire.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbyeHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")?,
        }
        Ok(Then::Next)
    })?;
    let mut client = http::dial()?;
    for (number, path) in ["/close", "/old", "/more", "/more", "/close"]
        .iter()
        .enumerate()
    {
        let answer = client.ask(http::request("GET", NAME, path, ""))?;
        ensure!(
            answer.text() == "bye" && !answer.closes(),
            "{path}: {answer:?}"
        );
        ensure!(upstream.connections() == number + 1, "{path} was reused");
    }
    // Only the end of the connection says where that one ends.
    let answer = client.ask(http::request("GET", NAME, "/end", ""))?;
    ensure!(answer.text() == "bye" && answer.closes(), "{answer:?}");
    Ok(())
}

fn resting_connections_end_on_both_sides_in_time(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let upstream = Upstream::start(tenant.listen(80)?, echo_target)?;
    let mut keys = boot(json!({ "keep_alive_timeout": "1s" }));
    keys["limits"] = json!({ "upstream_idle_timeout": "1s" });
    let state = tenant.state(json!({ format!("http://{NAME}"): ["10.0.0.2:80"] }));
    let gateway = lab.gateway(keys, state)?;
    let mut client = http::dial()?;
    client
        .ask(http::request("GET", NAME, "/", ""))?
        .expect(200)?;
    let began = Instant::now();
    client.expect_end()?;
    let took = began.elapsed();
    let bounds = Duration::from_millis(900)..Duration::from_secs(5);
    ensure!(bounds.contains(&took), "the client's end took {took:?}");
    upstream.next()?;
    ensure!(began.elapsed() < Duration::from_secs(6));
    gateway.wait_until_quiet()?;
    http::get(NAME, "/")?.expect(200)?;
    eventually("another connection", || {
        (upstream.connections() == 2).then_some(())
    })
}

fn old_clients_are_served_as_they_are_used_to(lab: &mut Lab) -> Result<()> {
    let (upstream, _gateway) = serve(lab, json!({}), |request, wire| {
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Sum\r\n\r\n")?;
        if request.method() != "HEAD" {
            wire.send("4\r\nchun\r\n3\r\nked\r\n0\r\nSum: 7\r\n\r\n")?;
        }
        Ok(Then::Next)
    })?;
    // HTTP/1.0 knows no chunks: the end of the connection is the end of the content.
    let mut client = http::dial()?;
    client.send(format!(
        "GET / HTTP/1.0\r\nHost: {NAME}\r\nConnection: keep-alive\r\n\r\n"
    ))?;
    let answer = client.answer("GET")?;
    ensure!(answer.text() == "chunked" && answer.field("transfer-encoding").is_none());
    ensure!(
        answer.field("trailer").is_none() && answer.closes(),
        "{answer:?}"
    );
    ensure!(upstream.last()?.line == "GET / HTTP/1.1");
    // Where there is nothing to wait for, it may ask again.
    client = http::dial()?;
    for _ in 0..3 {
        client.send(format!(
            "HEAD / HTTP/1.0\r\nHost: {NAME}\r\nConnection: keep-alive\r\n\r\n"
        ))?;
        let answer = client.answer("HEAD")?;
        ensure!(
            answer.field("connection") == Some("keep-alive"),
            "{answer:?}"
        );
    }
    client.send(format!("HEAD / HTTP/1.0\r\nHost: {NAME}\r\n\r\n"))?;
    ensure!(client.answer("HEAD")?.closes());
    client.expect_end()
}
