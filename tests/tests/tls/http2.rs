//! HTTP/2: over TLS, in clear for who knows, and towards upstreams. curl, h2load and gRPC are on the
//! other side.

use std::{collections::BTreeSet, ffi::OsStr, fs, net::SocketAddr, path::PathBuf};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tests::{
    http::{Message, Then, Upstream, Wire, reply},
    lab::{self, GATEWAY, Lab, MACHINE, Tenant},
    program::{Program, fixture},
    random::Random,
    runner::Test,
    tests,
    tool::Tool,
};

use crate::{NAME, roots, start, to};

pub(crate) const TESTS: &[Test] = tests![
    curl_speaks_http_2_over_tls_and_in_clear,
    uploads_and_downloads_pass_whole: 120,
    h2load_has_every_request_answered: 120,
    grpc_passes_with_its_trailers: 120,
    requests_say_the_same_in_both_versions,
    a_request_for_another_name_is_misdirected,
];

/// A request of curl's over HTTP/2.
fn curl(roots: Option<&PathBuf>, arguments: &str, path: &str) -> Tool {
    let tool = Tool::new("curl", "--silent --show-error --max-time 60");
    let tool = match roots {
        Some(roots) => tool
            .argument("--http2")
            .argument("--cacert")
            .argument(roots),
        None => tool.argument("--http2-prior-knowledge"),
    };
    let port = if roots.is_some() {
        GATEWAY.port()
    } else {
        CLEAR
    };
    let scheme = if roots.is_some() { "https" } else { "http" };
    let tool = tool
        .argument("--resolve")
        .argument(format!("{NAME}:{port}:127.0.0.1"));
    let tool = arguments.split_whitespace().fold(tool, Tool::argument);
    tool.argument(format!("{scheme}://{NAME}:{port}{path}"))
}

/// Where requests come without TLS.
const CLEAR: u16 = 8081;

/// A gateway with a TLS port and one without.
fn serve(lab: &mut Lab, tenant: &Tenant, routes: Value) -> Result<PathBuf> {
    let mut boot = lab::https(json!({}));
    if let Some(listeners) = boot["listeners"].as_array_mut() {
        let bind = format!("127.0.0.1:{CLEAR}");
        listeners.push(json!({ "name": "http", "bind": bind, "protocol": "http" }));
    }
    start(lab, boot, tenant, &[NAME], routes)?;
    roots(lab)
}

fn curl_speaks_http_2_over_tls_and_in_clear(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let upstream = Upstream::start(tenant.listen(80)?, |request: &Message, wire: &mut Wire| {
        let fields = "Connection: X-Hop\r\nX-Hop: 1\r\nX-End: 2\r\nKeep-Alive: timeout=5\r\n";
        wire.send(reply("200 OK", fields, request.target()))?;
        Ok(Then::Next)
    })?;
    let roots = serve(lab, &tenant, json!([to(NAME, 80)]))?;
    for (roots, scheme) in [(Some(&roots), "https"), (None, "http")] {
        let version = "--write-out %{http_version}";
        let said = curl(roots, version, "/a?b")
            .argument("--cookie")
            .argument("a=b; c=d")
            .run()?;
        ensure!(said == "/a?b2", "{said}");
        let asked = upstream.last()?;
        ensure!(asked.line == "GET /a?b HTTP/1.1" && asked.field("cookie") == Some("a=b; c=d"));
        ensure!(
            asked.field("x-forwarded-proto") == Some(scheme),
            "{asked:?}"
        );
        ensure!(
            asked.all("host").len() == 1 && asked.all("upgrade").is_empty(),
            "{asked:?}"
        );
        let head = curl(roots, "--head", "/").run()?;
        ensure!(
            head.contains("x-end: 2") && !head.contains("x-hop"),
            "{head}"
        );
        ensure!(
            !head.contains("keep-alive") && !head.contains("connection"),
            "{head}"
        );
    }
    Ok(())
}

fn uploads_and_downloads_pass_whole(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let _upstream = Upstream::start(tenant.listen(80)?, |request: &Message, wire: &mut Wire| {
        // What came goes back: in chunks, or with its length.
        let body = &request.body;
        if request.target() == "/chunks" {
            wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            for piece in body.chunks(100_000) {
                let size = piece.len();
                wire.send([format!("{size:x}\r\n").as_bytes(), piece, b"\r\n"].concat())?;
            }
            wire.send("0\r\n\r\n")?;
        } else {
            wire.send(reply("200 OK", "", body))?;
        }
        Ok(Then::Next)
    })?;
    let roots = serve(lab, &tenant, json!([to(NAME, 80)]))?;
    let bytes = Random::seeded(41).bytes(16 << 20);
    let (sent, got) = (lab.directory().join("sent"), lab.directory().join("got"));
    fs::write(&sent, &bytes)?;
    for roots in [Some(&roots), None] {
        for path in ["/length", "/chunks"] {
            let arguments = format!(
                "--data-binary @{} --output {}",
                sent.display(),
                got.display()
            );
            curl(roots, &arguments, path).run()?;
            let same = Sha256::digest(fs::read(&got)?) == Sha256::digest(&bytes);
            ensure!(same, "{path}: other bytes came back");
        }
    }
    Ok(())
}

fn h2load_has_every_request_answered(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let upstream = Upstream::saying(tenant.listen(80)?, &"x".repeat(1000))?;
    serve(lab, &tenant, json!([to(NAME, 80)]))?;
    for (scheme, port) in [("https", GATEWAY.port()), ("http", CLEAR)] {
        let url = format!("{scheme}://{NAME}:{port}/");
        let load = Tool::new(
            "h2load",
            "--requests 4000 --clients 8 --max-concurrent-streams 50",
        );
        let load = load.argument(format!("--connect-to=127.0.0.1:{port}"));
        let load = load.argument(&url);
        let said = load.run()?;
        ensure!(
            said.contains("4000 succeeded, 0 failed, 0 errored, 0 timeout"),
            "{url}: {said}"
        );
    }
    ensure!(upstream.asked().len() == 8000);
    // Streams share what each worker keeps.
    let count = upstream.connections();
    ensure!(count <= 2 * 8 * 50, "{count} upstream connections");
    Ok(())
}

fn grpc_passes_with_its_trailers(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let script = fixture("grpc_echo.py");
    let arguments = [script.as_os_str(), OsStr::new("serve"), OsStr::new("50051")];
    let address = SocketAddr::from((MACHINE, 50_051));
    let python = "/usr/bin/python3";
    let _server = Program::serving(
        &tenant.machine,
        lab.directory(),
        python,
        &arguments,
        address,
    )?;
    let routes = json!([{ "host": NAME, "to": ["h2c://10.0.0.2:50051"] }]);
    let roots = serve(lab, &tenant, routes)?;
    let ask = |address: String| {
        Tool::new(python, "")
            .argument(&script)
            .argument("ask")
            .argument(address)
            .argument(NAME)
    };
    let said = ask(GATEWAY.to_string()).argument(&roots).run()?;
    ensure!(said.trim() == "fine", "{said}");
    let said = ask(format!("127.0.0.1:{CLEAR}")).run()?;
    ensure!(said.trim() == "fine", "{said}");
    Ok(())
}

fn requests_say_the_same_in_both_versions(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let upstream = Upstream::start(tenant.listen(80)?, |_: &Message, wire: &mut Wire| {
        wire.send(reply("200 OK", "", ""))?;
        Ok(Then::Next)
    })?;
    let roots = serve(lab, &tenant, json!([to(NAME, 80)]))?;
    let fields = |asked: &Message| {
        let own = ["x-request-id", "content-length", "transfer-encoding"];
        let fields = asked
            .fields
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()));
        fields
            .filter(|(name, _)| !own.contains(&&**name))
            .collect::<BTreeSet<_>>()
    };
    let mut count = 0;
    for arguments in [
        "",
        "--request DELETE",
        "--data a=b",
        "--header X-Forwarded-For:1.2.3.4 --header X_Forwarded_For:1.2.3.4",
        "--header TE:trailers",
        "--user a:b --user-agent me --compressed --range 1-2",
        "--header Proxy-Authorization:x --header X-Empty;",
    ] {
        curl(Some(&roots), arguments, "/x").run()?;
        let second = upstream.last()?;
        curl(Some(&roots), &format!("--http1.1 {arguments}"), "/x").run()?;
        let first = upstream.last()?;
        ensure!(
            first.line == second.line && first.body == second.body,
            "{arguments}"
        );
        let (first, second) = (fields(&first), fields(&second));
        ensure!(first == second, "{arguments}: {first:?} and {second:?}");
        count += 2;
        ensure!(
            upstream.asked().len() == count,
            "{arguments}: not passed on"
        );
    }
    Ok(())
}

fn a_request_for_another_name_is_misdirected(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let upstream = Upstream::saying(tenant.listen(80)?, "ok")?;
    let roots = serve(lab, &tenant, json!([to(NAME, 80), to("green.example", 80)]))?;
    let status = "--write-out %{http_code} --output /dev/null --header Host:green.example";
    let said = curl(Some(&roots), status, "/").run()?;
    ensure!(said == "421", "{said}");
    ensure!(upstream.asked().is_empty());
    // In clear, a connection is for all names.
    ensure!(curl(None, status, "/").run()? == "200");
    Ok(())
}
