//! What upstreams are told of clients, and what neither side hears of the other.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde_json::json;
use tests::{
    http::{self, Message, Then, Upstream, Wire, reply},
    lab::{GATEWAY, Lab},
    runner::Test,
    stream, tests,
};

use crate::{NAME, serve};

pub(crate) const TESTS: &[Test] = tests![
    what_a_client_claims_about_itself_is_dropped,
    a_trusted_proxy_is_believed_and_added_to,
    fields_of_one_hop_stay_there,
    everything_else_passes_as_it_is,
    requests_have_ids_that_both_sides_see,
];

fn ok(_: &Message, wire: &mut Wire) -> Result<Then> {
    wire.send(reply("200 OK", "", "ok"))?;
    Ok(Then::Next)
}

const CLAIMS: &str = "X-Forwarded-For: 198.51.100.7\r\n\
    X-Forwarded-Proto: https\r\n\
    X-Forwarded-Host: bank.example\r\n\
    X-Forwarded-Port: 443\r\n\
    X-Real-IP: 198.51.100.7\r\n\
    Forwarded: for=198.51.100.7;proto=https\r\n\
    X-Request-Id: mine\r\n\
    X_Forwarded_For: 198.51.100.8\r\n\
    x-forwarded-for: 198.51.100.9\r\n";

/// Asks from an address of this machine.
fn ask_from(source: [u8; 4], request: &str) -> Result<Message> {
    Wire::new(stream::connect_from(source.into(), GATEWAY)?).ask(request)
}

fn told(upstream: &Upstream, expected: &[(&str, Option<&str>)]) -> Result<()> {
    let asked = upstream.last()?;
    for (name, value) in expected {
        ensure!(asked.field(name) == *value, "{name}: {:?}", asked.fields);
    }
    Ok(())
}

fn what_a_client_claims_about_itself_is_dropped(lab: &mut Lab) -> Result<()> {
    let keys = json!({ "trusted_proxies": ["127.0.0.2/32"] });
    let (upstream, _gateway) = serve(lab, keys, ok)?;
    ask_from([127, 0, 0, 3], &http::request("GET", NAME, "/", CLAIMS))?.expect(200)?;
    told(
        &upstream,
        &[
            ("host", Some(NAME)),
            ("x-forwarded-for", Some("127.0.0.3")),
            ("x-forwarded-proto", Some("http")),
            ("x-forwarded-host", Some(NAME)),
            ("x-forwarded-port", None),
            ("x-real-ip", Some("127.0.0.3")),
            (
                "forwarded",
                Some("for=127.0.0.3;host=blue.example;proto=http"),
            ),
            ("x_forwarded_for", None),
            ("via", None),
        ],
    )?;
    let asked = upstream.last()?;
    let leaked = asked
        .fields
        .iter()
        .any(|(_, value)| value.contains("198.51.100"));
    ensure!(
        !leaked && asked.field("x-request-id") != Some("mine"),
        "{asked:?}"
    );
    // The host is the one asked for, with its port.
    let request = http::request("GET", "BLUE.example:8443", "/", "");
    ask_from([127, 0, 0, 3], &request)?.expect(200)?;
    told(
        &upstream,
        &[
            ("host", Some("BLUE.example:8443")),
            (
                "forwarded",
                Some("for=127.0.0.3;host=\"BLUE.example:8443\";proto=http"),
            ),
        ],
    )
}

fn a_trusted_proxy_is_believed_and_added_to(lab: &mut Lab) -> Result<()> {
    let keys = json!({ "trusted_proxies": ["127.0.0.2/32"] });
    let (upstream, _gateway) = serve(lab, keys, ok)?;
    let answer = ask_from([127, 0, 0, 2], &http::request("GET", NAME, "/", CLAIMS))?;
    answer.expect(200)?;
    told(
        &upstream,
        &[
            (
                "x-forwarded-for",
                Some("198.51.100.7, 198.51.100.9, 127.0.0.2"),
            ),
            ("x-forwarded-proto", Some("https")),
            ("x-forwarded-host", Some("bank.example")),
            ("x-forwarded-port", Some("443")),
            ("x-real-ip", Some("198.51.100.7")),
            ("x-request-id", Some("mine")),
            ("x_forwarded_for", None),
        ],
    )?;
    ensure!(answer.field("x-request-id") == Some("mine"), "{answer:?}");
    let forwarded = upstream.last()?;
    let forwarded = forwarded.field("forwarded").unwrap_or_default();
    ensure!(
        forwarded == "for=198.51.100.7;proto=https, for=127.0.0.2;host=blue.example;proto=http",
        "{forwarded}"
    );
    Ok(())
}

fn fields_of_one_hop_stay_there(lab: &mut Lab) -> Result<()> {
    let (upstream, _gateway) = serve(lab, json!({}), |_, wire| {
        let fields = "Connection: X-Secret, keep-alive\r\nX-Secret: 1\r\nKeep-Alive: timeout=5\r\n\
            Proxy-Connection: keep-alive\r\nTE: x\r\nUpgrade: h2c\r\nX-Public: 2\r\n\
            Proxy-Authenticate: Basic\r\n";
        wire.send(reply("200 OK", fields, "ok"))?;
        Ok(Then::Next)
    })?;
    let fields = "Connection: X-Hop, Keep-Alive\r\nX-Hop: 1\r\nKeep-Alive: 300\r\n\
        Proxy-Connection: keep-alive\r\nTE: gzip\r\nX-End: 2\r\nUpgrade: h2c, websocket\r\n\
        HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\nProxy-Authorization: Basic eDp5\r\n";
    let answer = http::ask(http::request("GET", NAME, "/", fields))?;
    let asked = upstream.last()?;
    for name in [
        "connection",
        "x-hop",
        "keep-alive",
        "proxy-connection",
        "te",
        "upgrade",
        "http2-settings",
        "proxy-authorization",
    ] {
        ensure!(
            asked.all(name).is_empty(),
            "{name} reached the upstream: {asked:?}"
        );
    }
    ensure!(asked.field("x-end") == Some("2"));
    for name in [
        "connection",
        "x-secret",
        "keep-alive",
        "proxy-connection",
        "te",
        "upgrade",
    ] {
        ensure!(
            answer.all(name).is_empty(),
            "{name} reached the client: {answer:?}"
        );
    }
    ensure!(answer.field("x-public") == Some("2"));
    // Nobody can have the gateway's own words, or the host, taken out.
    let fields = "Connection: Host, X-Forwarded-For, X-Request-Id, Content-Length, close\r\n";
    let request = http::request("POST", NAME, "/", &format!("{fields}Content-Length: 2\r\n"));
    http::ask(format!("{request}ok"))?.expect(200)?;
    let asked = upstream.last()?;
    for name in ["host", "x-forwarded-for", "x-request-id", "content-length"] {
        ensure!(asked.field(name).is_some(), "{name} is missing: {asked:?}");
    }
    ensure!(asked.body == b"ok");
    Ok(())
}

fn everything_else_passes_as_it_is(lab: &mut Lab) -> Result<()> {
    let (upstream, _gateway) = serve(lab, json!({}), |_, wire| {
        let fields = "Set-Cookie: a=1; Path=/\r\nSet-Cookie: b=2\r\nServer: mine\r\nX-Empty:\r\n\
            X-Bytes: caf\u{e9} \u{2603}\r\nDate: Sat, 21 Nov 2026 15:00:00 GMT\r\n";
        wire.send(reply("299 Quite All Right", fields, "ok"))?;
        Ok(Then::Next)
    })?;
    let fields = "Cookie: a=1; b=2\r\naccept-ENCODING: gzip, br\r\nAccept-Encoding: zstd\r\n\
        User-Agent: me\r\nAuthorization: Bearer x\r\nX-Empty:\r\nX-Bytes: \u{e9}\u{2603}\r\n\
        X-Tab:\ta\tb\t\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
    let target = "/a/%E9%2F;p=1/../b//c?q=%20&x=[1]&y={2}|\\";
    let answer = http::ask(http::request("GET", NAME, target, fields))?;
    ensure!(
        answer.line == "HTTP/1.1 299 Quite All Right",
        "{}",
        answer.line
    );
    ensure!(
        answer.all("set-cookie") == ["a=1; Path=/", "b=2"],
        "{answer:?}"
    );
    ensure!(answer.field("server") == Some("mine") && answer.field("x-empty") == Some(""));
    ensure!(
        answer.field("x-bytes") == Some("caf\u{e9} \u{2603}"),
        "{answer:?}"
    );
    ensure!(answer.all("date").len() == 1);
    let asked = upstream.last()?;
    ensure!(asked.all("accept-encoding") == ["gzip, br", "zstd"]);
    ensure!(
        asked
            .fields
            .iter()
            .any(|(name, _)| name == "accept-ENCODING"),
        "{asked:?}"
    );
    for (name, value) in [
        ("cookie", "a=1; b=2"),
        ("user-agent", "me"),
        ("authorization", "Bearer x"),
        ("x-empty", ""),
        ("x-bytes", "\u{e9}\u{2603}"),
        ("x-tab", "a\tb"),
        (
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
    ] {
        ensure!(asked.field(name) == Some(value), "{name}: {asked:?}");
    }
    // The path in its strict reading, the query as it is.
    ensure!(
        asked.target() == "/a/b//c?q=%20&x=[1]&y={2}|\\",
        "{}",
        asked.target()
    );
    Ok(())
}

fn requests_have_ids_that_both_sides_see(lab: &mut Lab) -> Result<()> {
    let (upstream, _gateway) = serve(lab, json!({}), ok)?;
    let mut ids = BTreeSet::new();
    for _ in 0..10 {
        let answer = http::get(NAME, "/")?;
        let id = answer.field("x-request-id").unwrap_or_default().to_owned();
        ensure!(
            upstream.last()?.field("x-request-id") == Some(&id),
            "{answer:?}"
        );
        ensure!(id.len() >= 16, "{id:?}");
        ids.insert(id);
    }
    let refused = http::get("nobody.example", "/")?;
    let id = refused.field("x-request-id").unwrap_or_default().to_owned();
    ensure!(refused.json()?["request_id"] == id.as_str(), "{refused:?}");
    ids.insert(id);
    ensure!(ids.len() == 11, "ids come twice: {ids:?}");
    Ok(())
}
