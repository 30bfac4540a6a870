//! Connections that go on with another protocol.

use std::{io::Write as _, thread};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::json;
use tests::{
    http::{self, Then, Wire, reply},
    lab::{self, Lab},
    random::Random,
    runner::Test,
    server::Server,
    stream::{self, Pattern},
    tests,
};

use crate::{NAME, serve};

pub(crate) const TESTS: &[Test] = tests![
    any_protocol_is_switched_to_and_carried,
    bytes_that_come_with_the_switch_are_not_lost,
    an_upgrade_that_is_declined_is_an_answer_like_others,
    protocols_that_would_hide_requests_are_not_offered,
];

/// A WebSocket's handshake (RFC 6455 section 1.3).
const WEBSOCKET: &str = "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

fn any_protocol_is_switched_to_and_carried(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let server = Server::start(tenant.listen(80)?, |stream, _| {
        let mut wire = Wire::new(stream);
        let request = wire.head()?.context("no request")?;
        let protocol = request.field("upgrade").context("no upgrade")?;
        ensure!(
            request.field("connection") == Some("Upgrade"),
            "{request:?}"
        );
        let fields = format!("Connection: upgrade\r\nUpgrade: {protocol}\r\nX-Accept: yes\r\n");
        wire.send(format!("HTTP/1.1 101 Switching Protocols\r\n{fields}\r\n"))?;
        let (mut stream, ahead) = wire.into_parts();
        ensure!(ahead.is_empty());
        let count = std::io::copy(&mut stream.try_clone()?, &mut stream)?;
        stream::half_close(&stream)?;
        Ok(count)
    })?;
    let state = tenant.state(json!({ format!("http://{NAME}"): ["10.0.0.2:80"] }));
    lab.gateway(lab::http(json!({})), state)?;
    let pattern = Pattern::new(&mut Random::seeded(5));
    let length = 32 << 20;
    for fields in [WEBSOCKET, "Connection: Upgrade\r\nUpgrade: TACACS/2.0\r\n"] {
        let mut client = http::dial()?;
        client.send(http::request("GET", NAME, "/chat", fields))?;
        let answer = client.head()?.context("no answer")?;
        answer.expect(101)?;
        let protocol = fields
            .split("Upgrade: ")
            .nth(1)
            .and_then(|it| it.lines().next());
        ensure!(answer.field("upgrade") == protocol, "{answer:?}");
        ensure!(answer.field("connection") == Some("Upgrade"), "{answer:?}");
        ensure!(answer.field("x-accept") == Some("yes"), "{answer:?}");
        let (mut stream, ahead) = client.into_parts();
        ensure!(ahead.is_empty());
        let sending = thread::spawn({
            let (pattern, mut stream) = (pattern.clone(), stream.try_clone()?);
            move || {
                pattern.send(&mut stream, length, 100_000)?;
                stream::half_close(&stream)
            }
        });
        ensure!(pattern.receive(&mut stream, |_| ())? == length);
        sending
            .join()
            .map_err(|_| anyhow!("the sender panicked"))??;
        ensure!(server.next()? == length);
    }
    Ok(())
}

fn bytes_that_come_with_the_switch_are_not_lost(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let server = Server::start(tenant.listen(80)?, |stream, _| {
        let mut wire = Wire::new(stream);
        wire.head()?.context("no request")?;
        let switch =
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
        // The first words of the new protocol come in the same packet.
        wire.send(format!("{switch}welcome"))?;
        wire.expect(b"eager")?;
        let (mut stream, _) = wire.into_parts();
        stream.write_all(b"!")?;
        stream::half_close(&stream)?;
        stream::read_to_end(&mut stream)
    })?;
    let state = tenant.state(json!({ format!("http://{NAME}"): ["10.0.0.2:80"] }));
    lab.gateway(lab::http(json!({})), state)?;
    let mut client = http::dial()?;
    let fields = "Connection: Upgrade\r\nUpgrade: echo\r\n";
    client.send(http::request("GET", NAME, "/", fields) + "eager")?;
    client.head()?.context("no answer")?.expect(101)?;
    client.expect(b"welcome!")?;
    client.expect_end()?;
    stream::half_close(client.socket())?;
    ensure!(server.next()?.is_empty());
    Ok(())
}

fn an_upgrade_that_is_declined_is_an_answer_like_others(lab: &mut Lab) -> Result<()> {
    let (upstream, _gateway) = serve(lab, json!({}), |request, wire| {
        wire.send(reply("426 Upgrade Required", "", request.target()))?;
        Ok(Then::Next)
    })?;
    let mut client = http::dial()?;
    for path in ["/one", "/two"] {
        let answer = client.ask(http::request("GET", NAME, path, WEBSOCKET))?;
        answer.expect(426)?;
        ensure!(answer.text() == path && !answer.closes());
    }
    ensure!(upstream.connections() == 1);
    Ok(())
}

fn protocols_that_would_hide_requests_are_not_offered(lab: &mut Lab) -> Result<()> {
    let (upstream, _gateway) = serve(lab, json!({}), |_, wire| {
        wire.send(reply("200 OK", "", "plain"))?;
        Ok(Then::Next)
    })?;
    for fields in [
        "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n",
        "Upgrade: websocket, h2c\r\nConnection: Upgrade\r\n",
        "Upgrade: TLS/1.0\r\nConnection: Upgrade\r\n",
        "Upgrade: HTTP/2.0\r\nConnection: Upgrade\r\n",
        "Upgrade: websocket\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n",
        // Without the word in Connection it is no upgrade (RFC 9110 section 7.8).
        "Upgrade: websocket\r\n",
    ] {
        let answer = http::ask(http::request("GET", NAME, "/", fields))?;
        ensure!(answer.text() == "plain", "{fields}: {answer:?}");
        let asked = upstream.last()?;
        for name in ["upgrade", "connection", "http2-settings"] {
            ensure!(asked.all(name).is_empty(), "{fields}: {asked:?}");
        }
    }
    Ok(())
}
