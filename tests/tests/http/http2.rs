//! HTTP/2 in clear, for clients that know beforehand: curl and h2load.

use std::fs;

use anyhow::{Result, ensure};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tests::{
    http::{Message, Then, Wire, reply},
    lab::{GATEWAY, Lab},
    random::Random,
    runner::Test,
    tests,
    tool::Tool,
};

use crate::{NAME, serve};

pub(crate) const TESTS: &[Test] = tests![
    curl_speaks_http_2_and_the_upstream_http_1,
    content_passes_whole_both_ways_over_http_2,
    every_request_of_many_streams_is_answered,
];

fn curl(arguments: &str, path: &str) -> Tool {
    let port = GATEWAY.port();
    let tool = Tool::new(
        "curl",
        "--silent --show-error --max-time 30 --http2-prior-knowledge",
    );
    let tool = tool
        .argument("--resolve")
        .argument(format!("{NAME}:{port}:127.0.0.1"));
    let tool = arguments.split_whitespace().fold(tool, Tool::argument);
    tool.argument(format!("http://{NAME}:{port}{path}"))
}

/// What came goes back.
fn echo(request: &Message, wire: &mut Wire) -> Result<Then> {
    let fields = "Connection: X-Hop\r\nX-Hop: 1\r\nX-End: 2\r\nKeep-Alive: timeout=5\r\n";
    wire.send(reply("200 OK", fields, &request.body))?;
    Ok(Then::Next)
}

fn curl_speaks_http_2_and_the_upstream_http_1(lab: &mut Lab) -> Result<()> {
    let (upstream, _gateway) = serve(lab, json!({}), echo)?;
    let asked = curl(
        "--write-out %{http_version} --dump-header - --data x=y",
        "/a?b",
    );
    let said = asked
        .argument("--cookie")
        .argument("a=b; c=d")
        .argument("--header")
        .argument("X-Forwarded-For: 198.51.100.7")
        .run()?;
    ensure!(
        said.starts_with("HTTP/2 200") && said.ends_with("x=y2"),
        "{said}"
    );
    // Fields of one hop do not exist in HTTP/2 (RFC 9113 section 8.2.2).
    ensure!(
        said.contains("x-end: 2") && !said.contains("x-hop"),
        "{said}"
    );
    ensure!(
        !said.contains("keep-alive") && !said.contains("connection:"),
        "{said}"
    );
    let asked = upstream.last()?;
    ensure!(asked.line == "POST /a?b HTTP/1.1", "{asked:?}");
    for (name, value) in [
        ("host", format!("{NAME}:{}", GATEWAY.port())),
        ("cookie", "a=b; c=d".to_owned()),
        ("x-forwarded-for", "127.0.0.1".to_owned()),
        ("x-forwarded-proto", "http".to_owned()),
    ] {
        ensure!(asked.field(name) == Some(&value), "{name}: {asked:?}");
    }
    Ok(())
}

fn content_passes_whole_both_ways_over_http_2(lab: &mut Lab) -> Result<()> {
    let (_upstream, _gateway) = serve(lab, json!({}), echo)?;
    let bytes = Random::seeded(41).bytes(16 << 20);
    let (sent, got) = (lab.directory().join("sent"), lab.directory().join("got"));
    fs::write(&sent, &bytes)?;
    let arguments = format!(
        "--data-binary @{} --output {}",
        sent.display(),
        got.display()
    );
    curl(&arguments, "/").run()?;
    let same = Sha256::digest(fs::read(&got)?) == Sha256::digest(&bytes);
    ensure!(same, "other bytes came back");
    Ok(())
}

fn every_request_of_many_streams_is_answered(lab: &mut Lab) -> Result<()> {
    let (upstream, _gateway) = serve(lab, json!({}), echo)?;
    let load = Tool::new(
        "h2load",
        "--requests 2000 --clients 4 --max-concurrent-streams 25",
    );
    let said = load
        .argument("--header")
        .argument(format!(":authority: {NAME}"))
        .argument(format!("http://{GATEWAY}/"))
        .run()?;
    ensure!(
        said.contains("2000 succeeded, 0 failed, 0 errored"),
        "{said}"
    );
    ensure!(upstream.asked().len() == 2000);
    // Streams use what other streams left.
    let count = upstream.connections();
    ensure!(count <= 4 * 25, "{count} upstream connections");
    Ok(())
}
