//! Names that nobody declared: asked about first, and never twice in a short while.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tests::{
    lab::{GATEWAY, Lab},
    runner::Test,
    server::Server,
    tests, tls,
    wait::eventually,
};

use crate::pebble::{HTTP, Options, Pebble, await_certificate, boot, fetch, is_ok};

pub(crate) const TESTS: &[Test] = tests![
    a_stranger_gets_a_certificate_only_where_that_is_agreed_to: 180,
    a_stranger_is_served_beside_what_passes_through: 180,
];

/// Agrees to one name, and answers what it was asked.
fn answer(mut stream: TcpStream, _: SocketAddr) -> Result<String> {
    let mut line = String::new();
    let mut reader = BufReader::new(stream.try_clone()?);
    reader.read_line(&mut line)?;
    let mut header = line.clone();
    while header.trim() != "" {
        header.clear();
        reader.read_line(&mut header)?;
    }
    let target = line.split(' ').nth(1).context("no target")?.to_owned();
    let status = if target == "/ask?domain=good.example" {
        "200 OK"
    } else {
        "403 Forbidden"
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )?;
    Ok(target)
}

fn a_stranger_gets_a_certificate_only_where_that_is_agreed_to(lab: &mut Lab) -> Result<()> {
    let pebble = Pebble::start(lab, Options::default())?;
    let tenant = lab.tenant(51_820)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let asked = Server::start(listener, answer)?;
    let gateway = lab.gateway(
        boot(json!({
            "directories": [pebble.declared()],
            "on_demand": {
                "ask": format!("http://{}/ask", asked.address()?),
                "source_names_per_hour": 2,
            },
        })),
        tenant.state(json!({})),
    )?;
    let roots = pebble.root(lab)?;
    for _ in 0..3 {
        ensure!(fetch(&roots, "bad.example").is_err(), "it is served");
    }
    ensure!(asked.next()? == "/ask?domain=bad.example");
    ensure!(
        fetch(&roots, "good.example").is_err(),
        "it was there before"
    );
    ensure!(asked.next()? == "/ask?domain=good.example");
    // A third name is one too many for this hour.
    ensure!(fetch(&roots, "more.example").is_err(), "it is served");
    await_certificate(&gateway, "good.example", is_ok)?;
    let served = eventually("it is served", || fetch(&roots, "good.example").ok())?;
    ensure!(served.starts_with("404 "), "{served}");
    ensure!(fetch(&roots, "bad.example").is_err(), "it is served");
    let shown = gateway.api().get("/api/v1/certificates")?;
    ensure!(shown["total"] == 1, "{shown}");
    // It is there after a restart, too.
    gateway.stop()?;
    let more = asked.ended();
    ensure!(more.is_empty(), "it asked for more: {more:?}");
    let gateway = lab.restart(&gateway)?;
    await_certificate(&gateway, "good.example", is_ok)?;
    ensure!(fetch(&roots, "good.example")?.starts_with("404 "));
    // A network may declare the name and give it up: it is served on demand as before.
    let mut state = tenant.state(json!({}));
    state["51820"]["tls"] = json!({ "acme": { "hosts": ["good.example"] } });
    gateway.api().apply(&state)?;
    await_certificate(&gateway, "good.example", |it| it["network"] == 51_820)?;
    gateway.api().apply(&tenant.state(json!({})))?;
    await_certificate(&gateway, "good.example", |it| it["network"].is_null())?;
    ensure!(fetch(&roots, "good.example")?.starts_with("404 "));
    Ok(())
}

fn a_stranger_is_served_beside_what_passes_through(lab: &mut Lab) -> Result<()> {
    let pebble = Pebble::start(lab, Options::default())?;
    let tenant = lab.tenant(51_820)?;
    let site = tls::site(lab.authority().server("through.example")?, "the tenant's");
    let _site = Server::start(tenant.listen(443)?, site)?;
    let asked = Server::start(TcpListener::bind("127.0.0.1:0")?, answer)?;
    let boot = json!({
        "listeners": [
            { "name": "http", "bind": HTTP, "protocol": "http" },
            { "name": "tls", "bind": GATEWAY, "protocol": "tls" },
        ],
        "acme": {
            "directories": [pebble.declared()],
            "on_demand": { "ask": format!("http://{}/ask", asked.address()?) },
        },
    });
    let passes = json!({ "https://through.example": ["10.0.0.2:443"] });
    let gateway = lab.gateway(boot, tenant.state(passes))?;
    let roots = pebble.root(lab)?;
    ensure!(fetch(&roots, "bad.example").is_err(), "it is served");
    ensure!(asked.next()? == "/ask?domain=bad.example");
    ensure!(
        fetch(&roots, "good.example").is_err(),
        "it was there before"
    );
    ensure!(asked.next()? == "/ask?domain=good.example");
    await_certificate(&gateway, "good.example", is_ok)?;
    let served = eventually("it is served", || fetch(&roots, "good.example").ok())?;
    ensure!(served.starts_with("404 "), "{served}");
    // What a route passes through is its tenant's, and nobody is asked about it.
    let client = lab.authority().client()?;
    let said = tls::get(&client, "through.example", TcpStream::connect(GATEWAY)?)?;
    ensure!(said == "the tenant's", "{said}");
    let more = asked.ended();
    ensure!(more.is_empty(), "it asked for more: {more:?}");
    Ok(())
}
