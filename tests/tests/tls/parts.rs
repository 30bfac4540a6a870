//! Clients that are none of ours, over TLS: a browser, and Python with OpenSSL.

use std::{collections::BTreeSet, ffi::OsStr, fs, net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use engine_sys::netns::Netns;
use serde_json::{Value, json};
use tests::{
    lab::{self, GATEWAY, Lab, MACHINE, Tenant},
    program::{Program, fixture},
    runner::Test,
    tests,
    tool::Tool,
    wait::{eventually, within},
};

use crate::{roots, start, to};

pub(crate) const TESTS: &[Test] = tests![
    a_browser_speaks_http_2_and_agrees_on_keys_that_last: 150,
    python_speaks_over_a_websocket_in_tls,
];

/// How long a browser may take: it starts slowly where cores are few.
const BROWSER: Duration = Duration::from_secs(60);

const PYTHON: &str = "/usr/bin/python3";

fn websockets(lab: &Lab, tenant: &Tenant) -> Result<Program> {
    let script = fixture("echo_websocket.py");
    let arguments = [script.as_os_str(), "serve".as_ref(), "8008".as_ref()];
    let at = SocketAddr::from((MACHINE, 8008));
    Program::serving(&tenant.machine, lab.directory(), PYTHON, &arguments, at)
}

fn node(lab: &Lab, tenant: &Tenant) -> Result<Program> {
    let (script, result) = (fixture("node.mjs"), lab.directory().join("result.json"));
    let arguments = [script.as_os_str(), "8007".as_ref(), result.as_os_str()];
    let at = SocketAddr::from((MACHINE, 8007));
    Program::serving(&tenant.machine, lab.directory(), "node", &arguments, at)
}

fn browser(lab: &Lab, page: &str) -> Result<Program> {
    let profile = lab.directory().join("profile");
    let profile = format!("--user-data-dir={}", profile.display());
    let arguments = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--ignore-certificate-errors",
        "--host-resolver-rules=MAP * 127.0.0.1",
        &profile,
        page,
    ];
    let arguments = arguments.map(OsStr::new);
    Program::start(&Netns::current()?, lab.directory(), "chromium", &arguments)
}

fn a_browser_speaks_http_2_and_agrees_on_keys_that_last(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let _programs = [node(lab, &tenant)?, websockets(lab, &tenant)?];
    let routes = json!([to("page.example", 8007), to("ws.example", 8008)]);
    let hosts = ["page.example", "ws.example"];
    let gateway = start(lab, lab::https(json!({})), &tenant, &hosts, routes)?;
    let page = format!("https://page.example:{}/page", GATEWAY.port());
    let browser = browser(lab, &page)?;
    let result = lab.directory().join("result.json");
    let result: Value = within(BROWSER, "the page tells its result", || {
        serde_json::from_slice(&fs::read(&result).ok()?).ok()
    })
    .with_context(|| {
        fs::read_to_string(lab.directory().join("chromium.log")).unwrap_or_default()
    })?;
    drop(browser);
    ensure!(
        result["loaded"] == true && result["upload"]["status"] == 200,
        "{result}"
    );
    let socket = json!({ "wasClean": true, "code": 1000 });
    ensure!(
        result["protocol"] == "h2" && result["socket"] == socket,
        "{result}"
    );
    // It offers the hybrid of X25519 and ML-KEM first, and every connection of it gets that.
    let groups = eventually("its handshakes are counted", || {
        let counted = gateway.api().ask("GET", "/metrics", None).ok()?.body;
        let groups = agreed_groups(&counted);
        (!groups.is_empty()).then_some(groups)
    })?;
    ensure!(
        groups == BTreeSet::from(["X25519MLKEM768".to_owned()]),
        "agreed on {groups:?}"
    );
    Ok(())
}

/// The groups of handshakes that were counted.
fn agreed_groups(metrics: &str) -> BTreeSet<String> {
    let handshakes = metrics
        .lines()
        .filter(|line| line.starts_with("ringway_listener_tls_handshakes_total{"));
    let counted = handshakes.filter(|line| !line.ends_with(" 0"));
    let group = |line: &str| Some(line.split("group=\"").nth(1)?.split('"').next()?.to_owned());
    counted.filter_map(group).collect()
}

fn python_speaks_over_a_websocket_in_tls(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let _server = websockets(lab, &tenant)?;
    let routes = json!([to("ws.example", 8008)]);
    start(lab, lab::https(json!({})), &tenant, &["ws.example"], routes)?;
    let roots = roots(lab)?;
    let client = Tool::new(PYTHON, "")
        .argument(fixture("echo_websocket.py"))
        .argument("ask")
        .argument(format!("wss://ws.example:{}/chat", GATEWAY.port()))
        .argument("127.0.0.1")
        .argument(GATEWAY.port().to_string())
        .argument(&roots);
    let said = client.run()?;
    ensure!(said.trim() == "fine", "{said}");
    Ok(())
}
